"""The stage that lists copies of one picture across slides and labels."""

import csv
from pathlib import Path

from PIL import Image

from stages import crops, manifest, near_duplicates, pad
from tests.images.test_similarity import COPIES, picture
from tests.repositories import set_params


def dataset(copies):
    """Four slides of six crops, and further crops: (path, number of the crop that is copied, kind
    of copy).
    """
    for number in range(24):
        path = Path(f"data/small/{'GS' if number % 2 else 'nonGS'}/s{number // 6}-{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)
    for path, number, kind in copies:
        COPIES[kind](picture(number)).save(Path("data/small") / path)
    Path("data/small.yaml").write_text(
        "title: small\nclasses: [nonGS, GS]\ngroup: '(?P<slide>[^-]+)-'\n"
    )


def listed(mode, capsys):
    set_params({"data": "small", "pad.size": 64, "pad.mode": mode})
    for stage in (crops, manifest, pad, near_duplicates):
        stage.main()
    out, errors = capsys.readouterr()
    with open("metrics/near_duplicates.csv", newline="") as file:
        pairs = [(row["path"], row["other_path"]) for row in csv.DictReader(file)]
    assert f"{len(pairs)} near-duplicates across slides or labels among" in out
    return pairs, errors


def test_pairs_across_slides_and_across_labels_are_listed_in_every_padding_mode(workplace, capsys):
    dataset(
        [
            (
                "nonGS/s3-90.png",
                2,
                "recompressed",
            ),  # Crop 2 is of slide s0, and not sclerotic either.
            ("nonGS/s1-91.png", 7, "darker"),  # Crop 7 is of the same slide, with the other label.
            (
                "GS/s1-92.png",
                9,
                "reduced",
            ),  # Crop 9 is of the same slide, with the same label: no fault.
        ]
    )
    expected = [("GS/s1-7.png", "nonGS/s1-91.png"), ("nonGS/s0-2.png", "nonGS/s3-90.png")]
    for mode in ("white", "zero", "reflect", "stretch"):
        pairs, errors = listed(mode, capsys)
        assert sorted(pairs) == expected
        assert (
            "nonGS/s0-2.png (label 0, slide s0) and nonGS/s3-90.png (label 0, slide s3)" in errors
        )
    with Image.open("metrics/plots/near_duplicates.png") as sheet:
        assert sheet.width > 700


def test_nothing_is_said_where_there_are_none(workplace, capsys):
    dataset([])
    pairs, errors = listed("white", capsys)
    assert pairs == [] and "look alike" not in errors
    assert Path("metrics/plots/near_duplicates.png").is_file()
