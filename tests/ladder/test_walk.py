"""The climb: the order of its rungs, what overfitting and improving are, and the real thing in a
small repository.
"""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.special import expit

from stages.base.errors import UserError
from stages.base.parameters import read_params
from stages.dataset.predictions import Predictions
from stages.experiments.reading import made_here, read_experiments
from stages.ladder.decisions import best_of, decide
from stages.ladder.page import climb_table
from stages.ladder.parameters import ClimbParameters
from stages.ladder.rungs import Rung, overfitting
from stages.ladder.walk import climb, most_blocks
from stages.measures.pooled import pool
from tests.repositories import dvc, git, run_program, set_params

PARAMS = ClimbParameters(
    validations=1,
    seeds=1,
    last_epochs=2,
    gap=0.05,
    upturn=0.1,
    measure="roc_auc",
    confidence=0.9,
)
PATHS = np.array([f"{n}.png" for n in range(48)])
SLIDES = np.array([f"s{n // 4}" for n in range(48)])
Y = np.arange(48) % 2


def rung(step, reached_by, noise, overfits):
    """A rung whose validation ROC AUC falls with `noise`; the noise is the same for all, so that
    less of it is better.
    """
    y_score = expit(2 * Y - 1 + 2 * noise * np.random.default_rng(0).normal(size=48))
    return Rung(
        step,
        reached_by,
        [step],
        [pool([Predictions(PATHS, SLIDES, Y, y_score)], [0.5])],
        0.9,
        0.8,
        0.2,
        overfits,
    )


def walk(noise, overfitting_steps=(), blocks=5):
    """Return the steps of a climb in which `noise` is how bad each step is (default: 1)."""

    def visit(step, how):
        return rung(step, how, noise.get(step, 1), step in overfitting_steps)

    decisions = list(climb(visit, PARAMS, blocks))
    return [decision.rung.step for decision in decisions], best_of(decisions).rung.step


def test_adds_until_it_overfits_then_replaces_and_ends_with_a_round_that_brings_nothing():
    steps, best = walk(
        {"logistic": 3, "conv0-dense1": 2, "conv0-dense2": 2},
        {"conv0-dense2", "conv1-dense2", "conv2-dense1"},
    )
    assert steps == [
        "logistic",
        "conv0-dense1",
        "conv0-dense2",
        "conv1-dense1",
        "conv1-dense2",
        "conv2-dense1",
    ]
    assert best == "conv1-dense1"  # What came after it is as good, but not better.


def test_without_overfitting_it_adds_all_there_are():
    steps, best = walk({})
    assert steps == [
        "logistic",
        *(f"conv0-dense{n}" for n in range(1, 5)),
        "conv1-dense3",
        "conv1-dense4",
    ]
    assert best == "logistic"


def test_there_is_always_a_dense_layer_to_replace():
    noise = {
        "logistic": 4,
        "conv0-dense1": 3.5,
        "conv1-dense0": 3,
        "conv1-dense1": 2.5,
        "conv2-dense0": 0.5,
    }
    everything = {"logistic", *(f"conv{c}-dense{d}" for c in range(6) for d in range(5))}
    steps, best = walk(noise, everything)
    assert steps == [
        "logistic",
        *(f"conv{c}-dense{d}" for c, d in ((0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1))),
    ]
    assert best == "conv2-dense0"


def test_the_ladder_has_an_end():
    better_and_better = {f"conv{c}-dense{d}": 3 - c / 2 for c in range(6) for d in range(5)} | {
        "logistic": 4
    }
    steps, best = walk(better_and_better, {f"conv{c}-dense1" for c in range(6)}, blocks=2)
    assert steps[-1] == "conv2-dense1" and best.startswith("conv2")


def test_an_improvement_is_beyond_the_noise_of_the_slides():
    first = decide(rung("logistic", "start", 2, False), [], PARAMS)
    assert first.improves and first.better is None
    same = decide(rung("conv0-dense1", "add", 2, False), [first], PARAMS)
    assert (same.better, same.improves) == (0.5, False)
    better = decide(rung("conv0-dense2", "add", 0.5, False), [first], PARAMS)
    assert better.better > 0.9 and better.improves
    assert (
        best_of(
            [
                first,
                better,
                decide(rung("conv0-dense3", "add", 0.5, False), [first, better], PARAMS),
            ]
        )
        is better
    )
    by_brier = PARAMS.model_copy(update={"measure": "brier"})
    worse = decide(rung("a", "start", 2, False), [], by_brier)
    assert decide(rung("b", "add", 0.5, False), [worse], by_brier).improves
    assert "**best**" in climb_table([first, better], PARAMS).splitlines()[-1]


def test_a_measure_that_is_not_defined_is_refused():
    one_class = pool([Predictions(PATHS, SLIDES, np.zeros(48, dtype=int), Y / 2)], [0.5])
    with pytest.raises(
        UserError, match="climb.measure roc_auc has no interval on these validation"
    ):
        decide(Rung("logistic", "start", [], [one_class], 0, 0, 0, False), [], PARAMS)


def test_overfitting_is_a_gap_and_a_loss_that_turned_up():
    log = {
        "train/auc": [0.5, 0.8, 0.9, 1.0],
        "val/auc": [0.5, 0.8, 0.8, 0.7],
        "val/loss": [0.9, 0.5, 0.6, 0.7],
    }
    training_auc, validation_auc, upturn = overfitting(log, last_epochs=2)
    assert (training_auc, validation_auc, upturn) == pytest.approx((0.95, 0.75, 0.65 / 0.5 - 1))


def test_blocks_that_fit_the_squares(workplace):
    assert most_blocks({"model": {"pooling": "max"}, "pad": {"size": 128}}) == 5
    assert most_blocks({"model": {"pooling": "max"}, "pad": {"size": 15}}) == 3
    assert most_blocks({"model": {"pooling": "none"}, "pad": {"size": 8}}) == 5
    assert read_params("climb", ClimbParameters).measure == "roc_auc"


def test_in_a_repository(repository):
    # Every rung overfits and hardly any improves, so that the climb is short.
    set_params(
        {
            "climb.gap": -1,
            "climb.upturn": 0,
            "climb.confidence": 1.0,
            "train.epochs": 2,
        }
    )
    git("commit", "-q", "-a", "-m", "A short climb")
    assert run_program("climb", "-S", "climb.gap=2")[2].startswith(
        "error: params.yaml with climb.gap=2: climb.gap is 2; "
    )
    code, text, error = run_program("climb")
    assert code == 0, error
    steps = [
        row["step"] for row in csv.DictReader(Path("climb/climb.csv").read_text().splitlines())
    ]
    assert steps[:4] == ["logistic", "conv0-dense1", "conv1-dense0", "conv1-dense1"]
    names = dvc("exp", "list", "--name-only").split()
    assert sorted(names) == sorted(f"demo-{step}" for step in steps)
    best = text.split("The best rung is ")[1].split(":")[0]
    assert f"`dvc exp apply demo-{best}` adopts it" in text
    assert Image.open("climb/climb.png").size[1] > 500
    assert git("status", "--short") == ""

    # What has run does not run again, and the test set is not looked at: its predictions are gone
    # from the cache.
    for name in names:
        outputs = git("show", f"{experiment(name)}:dvc.lock").split("- path: ")
        (test,) = (out for out in outputs if out.startswith("metrics/predictions.csv"))
        digest = test.split("md5: ")[1].split()[0]
        Path(f".dvc/cache/files/md5/{digest[:2]}/{digest[2:]}").unlink(missing_ok=True)
    code, again, error = run_program("climb")
    assert code == 0, error
    assert again == text
    assert sorted(dvc("exp", "list", "--name-only").split()) == sorted(names)

    # A rung of other code is another one.
    assert all(made_here(found) for found in read_experiments())
    with open("stages/images/squares.py", "a") as code:
        code.write("# another version\n")
    assert not any(made_here(found) for found in read_experiments())


def experiment(name):
    refs = git("for-each-ref", "refs/exps", "--format=%(refname)").split()
    return next(ref for ref in refs if ref.endswith(f"/{name}"))
