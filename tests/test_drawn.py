"""A model of drawn crops predicts no patient's, unless it is told to."""

import sys
from pathlib import Path

import pytest

import glomeruli
import stages.export
import stages.predict
import stages.recalibrate
from stages.base.errors import UserError
from stages.dataset.used_card import read_used_card
from stages.model.file import save_model
from tests.conftest import list_crops, make_classes, save_crop
from tests.evaluation.classifiers import write_beside
from tests.model.test_networks import build

SAID = r"models: this model was trained on drawn glomeruli \(data/t.yaml: `drawn: true`\), and"


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """A folder with the crops crops/0.png to 5.png, and models/ with a model of drawn crops."""
    monkeypatch.chdir(tmp_path)
    for number in range(6):
        save_crop(Path(f"crops/{number}.png"), number)
    Path("models").mkdir()
    save_model(build("logistic", size=16), Path("models/model.keras"))
    write_beside(Path("models"), card={"drawn": True})
    Path("labels.csv").write_text("name,label\n0.png,1\n1.png,0\n2.png,1\n3.png,0\n")


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        (stages.predict, ["crops"]),
        (stages.recalibrate, ["crops", "--labels", "labels.csv", "--output", "ours"]),
        (stages.export, ["models", "exported", "--format", "savedmodel"]),
    ],
)
def test_programs_refuse_it(drawn, monkeypatch, program, arguments):
    monkeypatch.setattr(sys, "argv", ["program", *arguments])
    with pytest.raises(UserError, match=SAID):
        program.main()
    assert sorted(map(str, Path(".").iterdir())) == ["crops", "labels.csv", "models"]


def test_the_api_refuses_it(drawn):
    with pytest.raises(glomeruli.Error, match=SAID):
        glomeruli.load("models")
    assert len(glomeruli.load("models", allow_drawn=True).predict(["crops/0.png"])) == 1


def test_predict_says_so_if_it_is_allowed(drawn, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["predict", "crops", "--allow-drawn"])
    stages.predict.main()
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("warning: The model was trained on drawn glomeruli, none of a patient.")
    assert second.startswith("model: models (") and "logistic, trained on 0 crops of t" in second
    assert Path("evaluation.csv").is_file()


@pytest.mark.parametrize("is_drawn", [True, False])
def test_manifest_passes_on_what_the_card_says(workplace, is_drawn):
    make_classes()
    if is_drawn:
        with open("data/small.yaml", "a") as card:
            card.write("drawn: true\n")
    list_crops()
    assert read_used_card().card.drawn == is_drawn
    assert read_used_card().as_written()["card"].get("drawn", False) == is_drawn
