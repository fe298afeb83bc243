"""Comparing experiments: groups, pooled measures, paired differences, what is refused; then the
real dvc.
"""

import csv
import json
import subprocess
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import sklearn.metrics
from dvc.api import read as dvc_read
from PIL import Image

from stages.base.errors import UserError
from stages.compare import parse_arguments
from stages.comparison.differences import compare, deciding
from stages.comparison.page import comparison_page
from stages.comparison.settings import (
    choose,
    find_reference,
    group,
    other_differences,
    varying,
)
from stages.dataset.predictions import Predictions
from stages.experiments.reading import Experiment
from stages.experiments.settings import as_yaml, flatten, params_with
from stages.measures.intervals import estimate
from stages.measures.scores import MEASURES, WITHIN_FOLDS, score
from tests.fork_server import python
from tests.repositories import ENVIRONMENT, dvc, git, run_program

PARAMS = {
    "data": "demo", "split.test": "fold", "split.by": "slide", "split.folds": 3.0,
    "split.fold": 0.0, "split.validation_offset": 1.0, "split.seed": 0.0,
    "train.seed": 0.0, "pad.mode": "white", "train.dropout": 0.2, "evaluate.prevalence": 0.0,
    "climb.seeds": 1.0,
}  # fmt: skip


class Made(Experiment):
    """An experiment with predictions in memory instead of in a repository."""

    made: ClassVar[dict[str, Predictions]] = {}
    crops: ClassVar[dict[str, dict[str, str]]] = {}
    measured: ClassVar[dict[str, dict[str, float]]] = {}

    def measures(self):
        return self.measured[self.name]

    def predictions(self, path):
        return self.made[self.commit]

    def manifest(self, column):
        if column == "pixels_sha256":
            return self.crops[self.commit]
        return {path: path.split("-")[0] for path in self.made[self.commit].paths}

    def made_with(self):
        return {}

    def refuse_if_partial(self):
        pass


def predictions(fold, y_score, slides=6):
    """Twelve images of `slides` slides that only this fold tests, every third one sclerotic."""
    number = np.arange(12)
    names = np.array([f"fold{fold}-{n}.png" for n in number])
    return Predictions(
        names,
        np.array([f"fold{fold}-{n % slides}" for n in number]),
        (number % 3 == 0).astype(int),
        y_score,
    )


@pytest.fixture
def make(workplace):
    def make_one(name, y_score=None, made=None, threshold=0.5, **params):
        params = {key.replace("_", ".", 1): value for key, value in params.items()}
        fold = params.get("split.fold", 0.0)
        y_score = (
            np.random.default_rng(int(fold)).random(12) if y_score is None else np.asarray(y_score)
        )
        Made.made[name] = made or predictions(fold, y_score)
        measured = float(
            sklearn.metrics.roc_auc_score(Made.made[name].y_true, Made.made[name].y_score)
        )
        Made.measured[name] = {"threshold": threshold, "roc_auc": measured}
        return Made(name, name, {**PARAMS, **params}, {"stages/train.py": "a"})

    return make_one


PERFECT = (np.arange(12) % 3 == 0) * 0.8 + 0.1


def test_what_varies_is_the_setting_and_folds_and_seeds_are_repetitions(make):
    experiments = [
        make(
            f"{mode}-{fold}-{seed}",
            pad_mode=mode,
            split_fold=fold,
            train_seed=seed,
            evaluate_prevalence=fold / 10,
            external=f"['{fold}']",
        )
        for mode in ("white", "zero")
        for fold in (0.0, 1.0, 2.0)
        for seed in (0.0, 1.0)
    ]
    assert varying(experiments) == ["pad.mode"]
    settings = group(experiments, ["pad.mode"])
    assert [setting.name for setting in settings] == ["white", "zero"]
    assert len(settings[0].runs) == 6
    assert len(settings[0].pooled) == 2  # seeds, each with the three folds pooled
    assert len(settings[0].pooled[0].crops) == 36


def test_a_locked_test_set_is_no_fold(make):
    """It is tested again by each experiment, as with another seed."""
    locked = predictions(0, PERFECT)
    experiments = [
        make(f"{number}", made=locked, split_test="locked", split_fold=float(number))
        for number in range(3)
    ]
    (setting,) = group(experiments, [])
    assert [len(one.y_true) for one in setting.pooled] == [12] * 3
    assert deciding("roc_auc", [setting]) == "roc_auc"


def test_folds_are_pooled_at_the_threshold_of_each_and_ranked_within_each(make):
    experiments = [
        make(f"e{fold}", split_fold=float(fold), threshold=0.2 + 0.2 * fold) for fold in range(3)
    ]
    settings = group(experiments, [])
    (measured,), found = compare(settings, settings[0], "roc_auc")
    parts = [experiment.predictions("") for experiment in experiments]
    y_true = np.concatenate([part.y_true for part in parts])
    y_score = np.concatenate([part.y_score for part in parts])
    y_pred = np.concatenate([part.y_score >= 0.2 + 0.2 * fold for fold, part in enumerate(parts)])
    assert found == []
    assert measured["roc_auc"].value == pytest.approx(
        sklearn.metrics.roc_auc_score(y_true, y_score)
    )
    # Each fold has as many pairs.
    of_folds = [sklearn.metrics.roc_auc_score(part.y_true, part.y_score) for part in parts]
    assert measured[WITHIN_FOLDS].value == pytest.approx(np.mean(of_folds))
    assert measured["sensitivity"].value == pytest.approx(
        sklearn.metrics.recall_score(y_true, y_pred)
    )
    for name, one in measured.items():
        assert one == estimate(name, settings[0].pooled)
        assert one.low < one.value < one.high


def test_a_setting_whose_folds_are_calibrated_differently_ranks_the_same(make):
    """In each fold both rank all crops right; the models of one setting agree on what 0.1 means."""

    def of(mode, shift):
        return [
            make(
                f"{mode}{fold}",
                y_score=PERFECT / 10 ** (shift * fold),
                pad_mode=mode,
                split_fold=float(fold),
            )
            for fold in range(3)
        ]

    settings = group([*of("white", 0), *of("zero", 1)], ["pad.mode"])
    measured, (found,) = compare(settings, settings[0], "roc_auc")
    assert measured[1]["roc_auc"].value < 0.9 < measured[0]["roc_auc"].value
    assert found.measure == WITHIN_FOLDS
    assert (found.difference, found.verdict) == (0, "not settled")
    assert found.sentence() == (
        "`zero` and `white` have the same ROC AUC within folds, 1.000, on all slides."
    )
    text = page(settings, ["pad.mode"], "roc_auc")
    assert "| pad.mode | ROC AUC within folds | ROC AUC, pooled | sensitivity |" in text
    assert "it mixes ranking with how alike the models of the folds are calibrated" in text


def page(settings, by, metric):
    measured, found = compare(settings, settings[0], metric)
    return comparison_page(settings, by, metric, measured, found)


def test_non_inferiority_is_in_the_direction_of_the_measure(make):
    """Probabilities that are all nearer to 1/2 rank the same, and have a higher Brier score."""
    flatter = 0.5 + (PERFECT - 0.5) / 2
    settings = group(
        [make("w", y_score=PERFECT, pad_mode="white"), make("z", y_score=flatter, pad_mode="zero")],
        ["pad.mode"],
    )

    def answer(metric, margin):
        _, (found,) = compare(settings, settings[0], metric, margin)
        assert found.margin == margin
        return found.verdict, found.within_margin

    assert answer("roc_auc", 0.02) == ("not settled", "non-inferior")
    # The Brier scores are 0.01 and 0.09.
    assert answer("brier", 0.2) == ("worse", "non-inferior")
    assert answer("brier", 0.01) == ("worse", "inferior")
    _, (found,) = compare(settings, settings[0], "brier", 0.2)
    assert found.sentence().endswith("It is non-inferior: worse by less than 0.2, if at all.")
    _, (better,) = compare(settings, settings[1], "brier", 0.01)
    assert (better.verdict, better.within_margin) == ("better", "non-inferior")
    _, (open_,) = compare(settings, settings[0], "sensitivity", 0.001)
    assert open_.within_margin == "not settled" and "0.001 is not settled" in open_.sentence()


@pytest.mark.parametrize("margin", ["0", "1", "-0.1", "nan", "much"])
def test_a_margin_is_between_0_and_1(monkeypatch, capsys, margin):
    monkeypatch.setattr("sys.argv", ["compare", f"--margin={margin}"])
    with pytest.raises(SystemExit):
        parse_arguments()
    assert "is not a number above 0 and below 1" in capsys.readouterr().err


def test_hospitals_left_out_have_no_interval_over_slides(make):
    settings = group(
        [
            make(f"{mode}{fold}", split_by="site", split_fold=float(fold), pad_mode=mode)
            for mode in ("white", "zero")
            for fold in range(3)
        ],
        ["pad.mode"],
    )
    measured, (found,) = compare(settings, settings[0], "brier")
    assert measured[0]["brier"].low is None and found.low is None
    assert "without an interval (3 sites; 5 are the least)" in found.sentence()
    text = page(settings, ["pad.mode"], "roc_auc")
    assert "| pad.mode | fold0.0 | fold1.0 | fold2.0 |" in text
    assert "ROC AUC of each site, by models that have not seen it" in text
    assert "pooled, without intervals (3 sites; 5 are the least):" in text


@pytest.mark.parametrize(
    ("zero", "metric", "verdict"),
    [
        (PERFECT, "roc_auc", "better"),
        (PERFECT, "brier", "better"),
        (1 - PERFECT, "brier", "worse"),
        (np.random.default_rng(4).random(12), "roc_auc", "not settled"),
    ],
)
def test_a_sentence_for_each_pair(make, zero, metric, verdict):
    white = np.random.default_rng(3).random(12)
    settings = group(
        [make("w", y_score=white, pad_mode="white"), make("z", y_score=zero, pad_mode="zero")],
        ["pad.mode"],
    )
    measured, (difference,) = compare(settings, settings[0], metric)
    assert difference.verdict == verdict
    assert (difference.setting, difference.against, difference.level) == ("zero", "white", 0.95)
    assert verdict in difference.sentence() and "`zero`" in difference.sentence()
    assert difference.sentence() in comparison_page(
        settings, ["pad.mode"], metric, measured, [difference]
    )


@pytest.mark.parametrize("metric", MEASURES)
def test_every_measure_prefers_the_better_setting(make, monkeypatch, metric):
    good, bad = PERFECT, np.where(np.arange(12) == 0, 0.4, 0.6 - 0.2 * PERFECT)
    settings = group(
        [make("w", y_score=bad, pad_mode="white"), make("z", y_score=good, pad_mode="zero")],
        ["pad.mode"],
    )
    for setting in settings:
        (sample,), (run,) = setting.pooled, setting.runs.values()
        Made.measured[run.name] |= score(sample.y_true, sample.y_score, sample.y_pred)
    measured, (difference,) = compare(settings, settings[0], metric)
    text = comparison_page(settings, ["pad.mode"], metric, measured, [difference])
    assert difference.difference * MEASURES[metric].sign > 0
    assert MEASURES[metric].title in difference.sentence() and difference.sentence() in text
    monkeypatch.setattr("sys.argv", ["compare", "--metric", metric])
    assert parse_arguments().metric == metric


def test_several_differences_share_the_five_percent(make):
    settings = group(
        [
            make(mode, pad_mode=mode)
            for mode in ("edge", "mean", "white", "zero", "reflect", "stretch")
        ],
        ["pad.mode"],
    )
    _, found = compare(settings, settings[2], "roc_auc")
    assert len(found) == 5 and found[0].level == found[4].level == pytest.approx(0.99)


def test_the_reference_is_named_or_that_of_params_yaml_or_the_first(make):
    settings = group([make(mode, pad_mode=mode) for mode in ("edge", "white")], ["pad.mode"])
    assert find_reference(settings, ["pad.mode"], None).name == "white"
    assert find_reference(settings, ["pad.mode"], "edge").name == "edge"
    assert find_reference(settings[:1], ["pad.mode"], None).name == "edge"
    with pytest.raises(
        UserError,
        match="--against mirror: there is no such setting of pad.mode; there are edge; white",
    ):
        find_reference(settings, ["pad.mode"], "mirror")


def test_a_list_can_be_named(make):
    lists = ("['a', 'b']", "[]", "['c']")
    made = [
        make(f"e{n}", model_feature_layers=layers, train_dropout=0.5)
        for n, layers in enumerate(lists)
    ]
    settings = group(made, ["model.feature_layers", "train.dropout"])
    by = ["model.feature_layers", "train.dropout"]
    for against in ("['a','b'],0.5", "[a, b], 0.50", '["a", "b"],5e-1'):
        assert find_reference(settings, by, against).values[0] == "['a', 'b']"
    assert find_reference(settings, by, "[],0.5").values[0] == "[]"
    with pytest.raises(UserError, match=r"--against \['a' is not a list of values"):
        find_reference(settings, by, "['a'")
    assert [e.name for e in choose(made, [], ["model.feature_layers=[a,b]"])] == ["e0"]


def test_what_is_not_comparable_is_refused_with_the_reason(make):
    def refused(match, *experiments, by=("pad.mode",)):
        with pytest.raises(UserError, match=match):
            group(experiments, by)

    white = make("white")
    refused(
        "another data have other test glomeruli and cannot be compared: aidpath, demo",
        white,
        make("real", data="aidpath"),
    )
    refused("another split.by have other test glomeruli", white, make("leak", split_by="image"))
    refused("another split.folds have other test glomeruli", white, make("ten", split_folds=10.0))
    refused(
        r"also differ in train.dropout \(0.2, 0.5\): add it to --by",
        white,
        make("drop", train_dropout=0.5),
    )
    refused(
        "no experiment with pad.mode=zero, split.fold=1",
        white, make("white1", split_fold=1.0), make("zero", pad_mode="zero"),
    )  # fmt: skip
    refused(
        "white and twin have the same parameters and other predictions",
        white,
        make("twin", y_score=PERFECT),
    )
    moved = predictions(0, PERFECT)._replace(paths=np.array([f"x{n}" for n in range(12)]))
    other = "not comparable: .* were tested on other glomeruli, slides or labels"
    refused(other, white, make("moved", made=moved, pad_mode="zero"))
    relabeled = predictions(0, PERFECT)._replace(y_true=1 - white.predictions("").y_true)
    refused(other, white, make("new", made=relabeled, pad_mode="zero"))
    one_slide = predictions(0, PERFECT)._replace(slides=np.array(["s"] * 12))
    refused(other, white, make("slides", made=one_slide, pad_mode="zero"))
    refused("--by: pad.color is not a parameter", white, by=("pad.color",))


def of_data(experiment, digest, pixels):
    """Return the experiment with another digest of its dataset and other digests of its pixels."""
    changed = experiment._replace(inputs={**experiment.inputs, "data/demo": digest})
    Made.crops[changed.commit] = dict(zip(changed.predictions("").paths, pixels))
    return changed


def test_other_pixels_in_the_test_set_are_refused_and_in_training_said(make, capsys):
    one, two = make("one"), make("two", pad_mode="zero")
    with pytest.raises(
        UserError,
        match=r"not comparable: 1 test glomeruli of two and one have other pixels, such as fold0",
    ):
        group([of_data(one, "a", "abcdefghijkl"), of_data(two, "b", "abXdefghijkl")], ["pad.mode"])
    capsys.readouterr()
    group([of_data(one, "a", "abcdefghijkl"), of_data(two, "b", "abcdefghijkl")], ["pad.mode"])
    assert (
        "warning: the experiments differ in more than parameters: other data (data/demo)"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("data/demo", "other data (data/demo)"),
        ("data/demo.yaml", "other card (data/demo.yaml)"),
        ("data/weights/w.h5", "other weights (data/weights/w.h5)"),
        ("stages/train.py", "other code (stages/train.py)"),
        ("pins/numbers.txt", "other packages (pins/numbers.txt)"),
    ],
)
def test_what_experiments_differ_in_is_named(make, path, said):
    one = make("one", model_weights="w.h5")
    one = one._replace(inputs={"stages/pad.py": "a"})
    assert other_differences([one, one]) == ""
    assert (
        other_differences([one._replace(inputs={path: "a"}), one._replace(inputs={path: "b"})])
        == said
    )
    assert other_differences([one, one._replace(inputs={**one.inputs, path: "b"})]) == said


def test_another_machine_is_named(make, monkeypatch):
    made = {
        "one": {"arithmetic": "portable", "threads": "2"},
        "two": {"arithmetic": "portable", "threads": "4"},
        "three": {"arithmetic": "portable", "threads": "2", "environment": "A=1"},
    }
    monkeypatch.setattr(Made, "made_with", lambda experiment: made[experiment.name])
    assert other_differences([make("one"), make("two")]) == "other threads (2 and 4)"
    assert other_differences([make("one"), make("three")]) == "other environment (A=1 and none)"


def test_experiments_of_several_commits_may_have_one_name(make):
    """Each has its predictions, and is selected by the commit that it starts from."""
    one, two = make("same"), make("other", y_score=PERFECT, pad_mode="zero")._replace(name="same")
    settings = group([one, two], ["pad.mode"])
    assert [list(setting.pooled[0].y_score) for setting in settings][1] == list(PERFECT)
    with pytest.raises(UserError, match="several experiments are named same; --rev selects"):
        choose([one, two], ["same"], [])


@pytest.mark.parametrize(("stage", "partial"), [("evaluate", True), ("external@other", False)])
def test_a_stage_that_did_not_run_after_another_is_refused_unless_it_is_of_another_dataset(
    stage, partial
):
    """DVC keeps in dvc.lock what was measured on a dataset that `external` no longer names."""

    class Locked(Experiment):
        def read(self, path):
            assert path == "dvc.lock"
            new, old = (f"[{{path: models/model.keras, md5: {one}}}]" for one in ("new", "old"))
            return f"stages:\n  train: {{outs: {new}}}\n  {stage}: {{deps: {old}}}\n"

    locked = Locked("one", "one", {}, {})
    if partial:
        with pytest.raises(
            UserError,
            match=f"experiment one: stage {stage} has not run after models/model.keras changed",
        ):
            locked.refuse_if_partial()
    else:
        locked.refuse_if_partial()


def test_choosing(make):
    experiments = [
        make("a", pad_mode="white"),
        make("b", pad_mode="zero"),
        make("c", pad_mode="zero", split_fold=1.0),
    ]
    assert [e.name for e in choose(experiments, [], ["pad.mode=zero"])] == ["b", "c"]
    assert [e.name for e in choose(experiments, ["a", "c"], ["split.fold=1"])] == ["c"]
    with pytest.raises(UserError, match="no finished experiment d; `dvc exp list`"):
        choose(experiments, ["d"], [])
    with pytest.raises(UserError, match="--where: pad.color is not a parameter"):
        choose(experiments, [], ["pad.color=red"])
    with pytest.raises(UserError, match="no finished experiment to compare"):
        choose(experiments, [], ["pad.mode=edge"])


def test_parameters_by_their_dotted_names(workplace):
    params = params_with(["pad.mode=zero", "train.augment.rotation=1e-1", "split.fold=3"])
    assert flatten(params)["train.augment.rotation"] == 0.1 and params["pad"]["mode"] == "zero"
    assert [as_yaml(value) for value in (3.0, 0.001, "True", True, "white")] == [
        "3",
        "0.001",
        "true",
        "true",
        "white",
    ]
    for wrong in ("pad.color=red", "padding.mode=zero", "pad.mode.x=1"):
        with pytest.raises(UserError, match="is not a parameter of params.yaml"):
            params_with([wrong])


def compare_here(*arguments):
    return run_program("compare", *arguments)


def test_on_real_experiments(repository):
    code, _, error = compare_here()
    assert (
        code == 1
        and "error: there is no finished experiment to compare; `dvc exp run` makes some" in error
    )
    # Settings that differ only in the threshold need no training.
    dvc("exp", "run", "--queue", "-S", "calibrate.threshold_rule=fixed,sensitivity")
    code, _, error = compare_here()
    assert code == 1 and "2 experiments wait, run or have failed: left out" in error
    dvc("exp", "run", "--run-all")

    code, text, error = compare_here()
    assert code == 0, error
    assert "| calibrate.threshold_rule | ROC AUC | sensitivity | specificity | F1 |" in text
    assert "fold 0 of 3; 1 training of each; 2 experiments" in text
    assert "`fixed`" in text and "`sensitivity`" in text and "Traceback" not in error
    assert Path("comparison/comparison.md").read_text() == text.removesuffix("\n")
    rows = list(csv.DictReader(Path("comparison/settings.csv").read_text().splitlines()))
    auc = {row["calibrate.threshold_rule"]: row for row in rows if row["measure"] == "roc_auc"}
    names = {row["Experiment"]: row["calibrate.threshold_rule"] for row in json.loads(dvc_show())}
    expected = [
        json.loads(dvc_read("metrics/measures.json", rev=git("rev-parse", ref).strip()))["roc_auc"]
        for ref in experiments("fixed", names)
    ]
    assert float(auc["fixed"]["mean"]) == pytest.approx(np.mean(expected))
    assert float(auc["fixed"]["least"]) == pytest.approx(min(expected))
    assert Image.open("comparison/comparison.png").size[0] > 500
    assert git("status", "--short") == ""

    again = compare_here("--where", "split.folds=3")
    assert again[1] == text

    dvc("exp", "run", "--temp", "-n", "half", "-S", "pad.mode=edge", "pad")
    code, _, error = compare_here("half")
    assert code == 1 and "error: experiment half: stage " in error
    assert "has not run after data/padded changed; run all stages" in error


def dvc_show():
    show = (
        "import dvc.api, json; "
        "print(json.dumps([r for r in dvc.api.exp_show() if r.get('Experiment')]))"
    )
    return subprocess.run(
        [python(), "-c", show], env=ENVIRONMENT, capture_output=True, text=True, check=True
    ).stdout


def experiments(rule, names):
    refs = git("for-each-ref", "refs/exps", "--format=%(refname)").split()
    return [ref for ref in refs if names.get(ref.rsplit("/", 1)[1]) == rule]
