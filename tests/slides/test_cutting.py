"""Names: of files of annotations beside slides, and of datasets that are cut."""

from pathlib import Path

import pytest

from stages.base.errors import UserError
from stages.slides.cutting import annotations_of
from tests.slides import drawing
from tests.slides.test_bad_annotations import GOOD, run_crops


@pytest.mark.parametrize(
    ("slide", "name"),
    [
        ("S1.svs", "S1.geojson"),
        ("S1.svs", "S1.svs.json"),
        ("S1.svs", "S1.GEOJSON"),
        ("S2.ome.tif", "S2.geojson"),
        ("S2.ome.tif", "S2.ome.geojson.gz"),
        ("S21.1234.svs", "S21.1234.XML"),
        ("Mu\u0308ller.svs", "M\u00fcller.geojson"),
    ],
)
def test_finds_annotations_by_the_slides_name(slide, name, tmp_path):
    (tmp_path / name).write_bytes(GOOD)
    (tmp_path / "S21.geojson").write_bytes(GOOD)
    assert annotations_of([Path(slide)], tmp_path) == [tmp_path / name]
    (tmp_path / f"{slide}.json.gz").write_bytes(GOOD)
    with pytest.raises(UserError, match=r"the annotations of .* are .*, .*; there must be one"):
        annotations_of([Path(slide)], tmp_path)


@pytest.mark.parametrize("name", ["my crops", "Größe", "_mine", "a+b"])
def test_refuses_a_dataset_that_params_yaml_cannot_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drawing.write_svs(Path("S1.svs"), drawing.pixels())
    Path("S1.geojson").write_bytes(GOOD)
    done = run_crops(
        monkeypatch, "S1.svs", "--annotations", "S1.geojson", "--output", f"data/{name}"
    )
    assert done.code == 1 and f"params.yaml cannot name the dataset data/{name};" in done.said
    assert not Path("data").exists()
    # Elsewhere, and without a card, it is nobody's name.
    for more in (["--output", name], ["--output", f"data/{name}", "--no-labels"]):
        assert run_crops(monkeypatch, "S1.svs", "--annotations", "S1.geojson", *more).code == 0
