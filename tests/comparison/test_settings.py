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
from stages.comparison.differences import bootstrap
from stages.comparison.page import comparison_page
from stages.comparison.ranks import mean_ranks, rank
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
from stages.measures.pooled import differences, measure_draws, pool
from stages.measures.resampling import slide_bootstrap
from stages.measures.scores import (
    MEASURES,
    NO_NEGATIVE,
    NO_POSITIVE,
    Measure,
    of_scikit_learn,
    score,
)
from tests.fork_server import python
from tests.repositories import ENVIRONMENT, dvc, git, run_program

PARAMS = {
    "data": "demo", "split.by": "slide", "split.folds": 3.0, "split.fold": 0.0,
    "split.validation_offset": 1.0, "split.seed": 0.0,
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

    def pixels(self):
        return self.crops[self.commit]

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
    assert len(settings[0].pooled[0].predictions.paths) == 36


def test_pooled_measures_and_interval_are_those_of_the_folds_together(make):
    experiments = [
        make(f"e{fold}", split_fold=float(fold), threshold=0.2 + 0.2 * fold) for fold in range(3)
    ]
    settings = group(experiments, [])
    measured, found = bootstrap(settings, settings[0], "roc_auc", 300, 5)
    parts = [experiment.predictions("") for experiment in experiments]
    y_true = np.concatenate([part.y_true for part in parts])
    y_score = np.concatenate([part.y_score for part in parts])
    slides = np.concatenate([part.slides for part in parts])
    called = np.concatenate([part.y_score >= 0.2 + 0.2 * fold for fold, part in enumerate(parts)])
    assert found == []
    assert measured[0]["roc_auc"]["value"] == pytest.approx(
        sklearn.metrics.roc_auc_score(y_true, y_score)
    )
    # Each image is called at its own fold's threshold.
    assert measured[0]["sensitivity"]["value"] == pytest.approx(
        sklearn.metrics.recall_score(y_true, called)
    )
    expected = slide_bootstrap(y_true, y_score, called, slides, 300, 5)
    for name, interval in expected.items():
        assert {key: measured[0][name][key] for key in ("low", "high")} == interval, name


def test_pairs_are_on_the_same_draws():
    """A model against itself differs by nothing in any draw, and against a shifted copy too: ROC
    AUC goes by ranks.
    """
    one = predictions(0, np.random.default_rng(1).random(12))
    models = [[pool([one], [0.5])], [pool([one._replace(y_score=one.y_score / 2)], [0.25])]]
    whole, drawn = measure_draws(models, ("roc_auc", "sensitivity"), 200, 0)
    assert whole[0] == whole[1]
    assert set(differences(drawn[0], drawn[1], "roc_auc")) == {0.0}
    assert set(differences(drawn[0], drawn[1], "sensitivity")) == {0.0}


@pytest.mark.parametrize(
    ("zero", "metric", "verdict"),
    [
        (PERFECT, "roc_auc", "better"),
        (1 - PERFECT, "roc_auc", "worse"),
        (PERFECT, "brier", "better"),
        (1 - PERFECT, "brier", "worse"),
        (None, "roc_auc", "not distinguishable"),
    ],
)
def test_a_sentence_for_each_pair(make, zero, metric, verdict):
    white = np.random.default_rng(3).random(12)
    zero = white if zero is None else zero
    settings = group(
        [make("w", y_score=white, pad_mode="white"), make("z", y_score=zero, pad_mode="zero")],
        ["pad.mode"],
    )
    measured, (difference,) = bootstrap(settings, settings[0], metric, 400, 0)
    assert difference.verdict == verdict
    assert (difference.setting, difference.against, difference.level) == ("zero", "white", 0.95)
    assert verdict in difference.sentence() and "`zero`" in difference.sentence()
    assert difference.sentence() in comparison_page(
        settings, ["pad.mode"], metric, measured, [difference], rank(settings, metric)
    )


LOG_LOSS = Measure(
    "scores", of_scikit_learn("log_loss"), "lower", "log loss", (NO_POSITIVE, NO_NEGATIVE)
)


@pytest.mark.parametrize("metric", [*MEASURES, "log_loss"])
def test_every_measure_prefers_the_better_setting(make, monkeypatch, metric):
    """A measure that is only in the table, like log_loss here, is compared in its direction."""
    monkeypatch.setitem(MEASURES, "log_loss", LOG_LOSS)
    good, bad = PERFECT, np.where(np.arange(12) == 0, 0.4, 0.6 - 0.2 * PERFECT)
    settings = group(
        [make("w", y_score=bad, pad_mode="white"), make("z", y_score=good, pad_mode="zero")],
        ["pad.mode"],
    )
    for setting in settings:
        (pooled,), (run,) = setting.pooled, setting.runs.values()
        _, _, y_true, y_score = pooled.predictions
        Made.measured[run.name] |= score(y_true, y_score, pooled.y_pred)
    measured, (difference,) = bootstrap(settings, settings[0], metric, 200, 0)
    ranks = rank(settings, metric)
    text = comparison_page(settings, ["pad.mode"], metric, measured, [difference], ranks)
    assert (
        difference.verdict == "better"
        and f"is better than `white`: {MEASURES[metric].title}" in text
    )
    assert ranks.letters == ["a", "a"] and mean_ranks(ranks, metric) == [2, 1]
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
    _, found = bootstrap(settings, settings[2], "roc_auc", 100, 0)
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
    assert [list(setting.pooled[0].predictions.y_score) for setting in settings][1] == list(PERFECT)
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


def compare(*arguments):
    return run_program("compare", *arguments)


def test_on_real_experiments(repository):
    code, _, error = compare()
    assert (
        code == 1
        and "error: there is no finished experiment to compare; `dvc exp run` makes some" in error
    )
    # Settings that differ only in the threshold need no training.
    dvc("exp", "run", "--queue", "-S", "calibrate.threshold_rule=fixed,sensitivity")
    code, _, error = compare()
    assert code == 1 and "2 experiments wait, run or have failed: left out" in error
    dvc("exp", "run", "--run-all")

    code, text, error = compare("--replicates", "200")
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

    again = compare("--replicates", "200", "--where", "split.folds=3")
    assert again[1] == text

    dvc("exp", "run", "--temp", "-n", "half", "-S", "pad.mode=edge", "pad")
    code, _, error = compare("half")
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
