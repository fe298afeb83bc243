"""Calibration undoes known distortions, and survives JSON."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from stages.base.errors import UserError
from stages.measures.calibration import Calibration, fit_calibration, log_odds
from stages.measures.scores import calibration_error

METHODS = ["none", "temperature", "sigmoid", "isotonic"]


def drawn(slope, offset, n=20_000):
    """Return labels, their true probabilities, and those of a model that distorts them."""
    random = np.random.default_rng(0)
    true = expit(random.normal(-1, 2, n))
    y_true = (random.uniform(size=n) < true).astype(int)
    return y_true, true, expit((logit(true) - offset) / slope)


def of_one(calibration, y_score):
    """Return the calibrated probabilities of a single model."""
    return calibration(y_score[:, None])


def test_temperature():
    y_true, true, said = drawn(slope=0.4, offset=0)
    found = fit_calibration(y_true, said, "temperature")
    assert found.members[0].slope == pytest.approx(0.4, rel=0.05) and found.members[0].offset == 0
    assert np.abs(of_one(found, said) - true).max() < 0.02
    assert of_one(found, np.array([0.5])) == 0.5


def test_sigmoid():
    y_true, _, said = drawn(slope=0.7, offset=-1.2)
    found = fit_calibration(y_true, said, "sigmoid")
    assert (found.members[0].slope, found.members[0].offset) == (
        pytest.approx(0.7, rel=0.05),
        pytest.approx(-1.2, abs=0.06),
    )
    assert (
        calibration_error(y_true, of_one(found, said))
        < 0.015
        < 0.1
        < calibration_error(y_true, said)
    )


def test_isotonic():
    y_true, true, _ = drawn(1, 0)
    found = fit_calibration(y_true, true**3, "isotonic")
    assert calibration_error(y_true, of_one(found, true**3)) < 0.01
    assert np.abs(of_one(found, true**3) - true).mean() < 0.03


@given(seed=st.integers(0, 1000), method=st.sampled_from(METHODS))
@settings(max_examples=60, deadline=None)
def test_is_monotonic_and_survives_json(seed, method):
    random = np.random.default_rng(seed)
    y_true = np.append(random.integers(0, 2, 20), [0, 1])
    said = np.append(random.choice([0.0, 0.001, 0.3, 0.6, 1.0], 20), [0.2, 0.7])
    found = fit_calibration(y_true, said, method)
    ascending = np.linspace(0, 1, 101)
    calibrated = of_one(found, ascending)
    assert (np.diff(calibrated) >= 0).all() and (calibrated >= 0).all() and (calibrated <= 1).all()
    again = Calibration.model_validate(
        json.loads(json.dumps(found.model_dump(exclude_defaults=True)))
    )
    assert np.array_equal(of_one(again, ascending), calibrated)
    assert np.array_equal(calibrated.astype(np.float32), calibrated)  # Tables hold 32 bits.


def test_refuses_a_single_class():
    for method in METHODS[1:]:
        with pytest.raises(
            ValueError, match=f"the calibration {method} needs images of both classes"
        ):
            fit_calibration(np.zeros(3, dtype=int), np.array([0.1, 0.2, 0.3]), method)


def an_ensemble(offsets, random, n=2000):
    """Return labels and the probabilities of members whose log-odds differ by `offsets`."""
    y_true = (random.uniform(size=n) < 0.25).astype(int)
    common = np.where(y_true == 1, 2.0, -2.0) + random.normal(0, 1.2, n)
    return y_true, expit(common[:, None] + random.normal(0, 0.8, (n, len(offsets))) + offsets)


def test_members_that_differ_are_calibrated_each_on_the_fold_that_it_has_not_seen():
    random, offsets = np.random.default_rng(0), np.array([0, 0, 0, -3, -3])
    y_true, of_all = an_ensemble(offsets, random)
    member = np.arange(len(y_true)) % 5
    y_score = of_all[np.arange(len(y_true)), member]
    new_y, new = an_ensemble(offsets, random, n=20_000)
    found = {}
    for method in ("none", "sigmoid"):
        calibration = fit_calibration(y_true, y_score, method, member)
        said = calibration.of_members(y_score, member)
        threshold = np.quantile(said[y_true == 1], 0.05)
        handed_over = calibration(new)
        found[method] = (
            np.mean(said[y_true == 0] < threshold),
            np.mean(handed_over[new_y == 0] < threshold),
            np.mean(handed_over[new_y == 1] >= threshold),
        )
    # Without calibration the mean of the members is not what the threshold was chosen on.
    specificity, handed_over, _ = found["none"]
    assert specificity < 0.65 and handed_over < specificity - 0.1
    specificity, handed_over, sensitivity = found["sigmoid"]
    assert specificity > 0.85 and handed_over == pytest.approx(specificity, abs=0.03)
    assert sensitivity > 0.95


def test_the_offsets_of_members_undo_their_differences():
    y_true, of_all = an_ensemble(np.arange(4.0) - 1.5, np.random.default_rng(1), n=8000)
    member = np.arange(len(y_true)) % 4
    y_score = of_all[np.arange(len(y_true)), member]
    found = fit_calibration(y_true, y_score, "sigmoid", member)
    slopes = {one.slope for one in found.members}
    even = [-one.offset / one.slope for one in found.members]
    assert len(slopes) == 1 and np.diff(even) == pytest.approx([1, 1, 1], abs=0.25)
    # Each is applied to its own column, and then the mean is taken.
    by_hand = [
        expit(one.slope * log_odds(of_all[:, place]) + one.offset)
        for place, one in enumerate(found.members)
    ]
    assert found(of_all) == pytest.approx(np.mean(by_hand, axis=0), abs=1e-6)
    with pytest.raises(UserError, match="calibrates 4 members, and the model has 2"):
        found(of_all[:, :2])


def test_a_model_worse_than_guessing_is_not_reversed_but_gets_the_prevalence():
    y_true = np.repeat([0, 0, 0, 1], 50)
    y_score = expit(np.where(y_true == 1, -2.0, 2.0) + np.random.default_rng(0).normal(0, 2, 200))
    found = fit_calibration(y_true, y_score, "sigmoid")
    assert found.members[0].slope == 0
    assert of_one(found, y_score) == pytest.approx(np.full(200, 0.25), abs=1e-6)
