"""A model trained on all slides, whose measures are out of fold."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from stages import calibrate, crops, evaluate, features, manifest, model_card, pad, split, train
from stages.base.errors import UserError
from stages.comparison.settings import choose
from stages.dataset.cohort import read_cohort
from stages.dataset.predictions import VALIDATION, read_predictions
from stages.experiments.reading import Experiment
from tests.conftest import list_crops, make_classes, set_params

SMALL = {
    "pad.size": 8,
    "split.folds": 3,
    "train.epochs": 1,
    "model.step": "logistic",
}


@pytest.mark.slow
def test_measures_out_of_fold(workplace, capsys):
    make_classes(slides=6)
    set_params({**SMALL, "split.test": "none"})
    with pytest.raises(UserError, match=r"split.test is 'none', so train.ensemble must be true"):
        list_crops()
    set_params({"train.ensemble": True})
    for stage in (crops, manifest, split, pad, features):
        stage.main()
    assert "no test set: a model of all slides" in capsys.readouterr().out
    assert json.loads(Path("metrics/split.json").read_text())["leakage"] is None
    cohort = read_cohort()
    assert sorted(set(cohort.folds)) == [1, 2, 3] and set(cohort.splits) == {"train", "val"}
    for stage in (train, calibrate, evaluate):
        stage.main()
    # Every crop is predicted once, by the member that has not seen its slide.
    found = read_predictions(VALIDATION)
    assert found.paths.tolist() == cohort.paths.tolist()
    (name, measures), *others = json.loads(Path("metrics/measures.json").read_text()).items()
    assert (
        name == "out_of_fold"
        and not others
        and measures["images"] == 24
        and measures["slides"] == 6
    )
    assert measures["roc_auc"] == pytest.approx(roc_auc_score(found.y_true, found.y_score))
    assert list(json.loads(Path("metrics/test.json").read_text())) == ["out_of_fold"]
    for table in ("predictions.csv", "slides.csv", "plots/roc.csv", "plots/coverage.csv"):
        assert Path("metrics", table).read_text().count("\n") == 1, table
    assert json.loads(Path("models/model.json").read_text())["dataset"]["test_slides"] == 0
    model_card.main()
    card = Path("models/README.md").read_text()
    # The members train on the validation slides, too.
    assert "| train | 24 | 6 (25 %) | 6 |" in card and "| val |" not in card
    assert "slightly optimistic" in card


def test_refuses_parameters_that_need_a_test_set(workplace):
    make_classes(slides=6)
    list_crops()
    for params, said in (
        (
            {
                "train.ensemble": True,
                "split.test": "none",
                "split.by": "site",
                "split.validation_by": "slide",
            },
            "validation_by must be 'same'",
        ),
        ({"split.test": "all"}, "split.test is 'all'"),
        (
            {"split.test": "none", "split.folds": 3, "split.validation_offset": 4},
            "validation_offset is 4; it must be from 1 to 3",
        ),
    ):
        set_params({"split.by": "slide", "split.validation_by": "same", **params})
        with pytest.raises(UserError, match=said):
            split.main()


def test_compare_leaves_it_out(capsys):
    tested, whole = (
        Experiment("tested", "", {"split.test": "fold"}, {}),
        Experiment("whole", "", {"split.test": "none"}, {}),
    )
    assert choose([tested, whole], [], []) == [tested]
    assert "left out, trained on all slides: whole" in capsys.readouterr().err
    with pytest.raises(
        UserError,
        match="whole was trained on all slides and has no test set; it cannot be compared",
    ):
        choose([tested, whole], ["whole"], [])
    # Those of commits that knew no such parameter have a test set.
    assert np.all([choose([Experiment("old", "", {}, {})], [], [])[0].name == "old"])
