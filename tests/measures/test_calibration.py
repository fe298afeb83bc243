"""Calibration undoes known distortions, and survives JSON."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from stages.measures.calibration import Calibration, fit_calibration
from stages.measures.scores import calibration_error

METHODS = ["none", "temperature", "sigmoid", "isotonic"]


def drawn(slope, offset, n=20_000):
    """Return labels, their true probabilities, and those of a model that distorts them."""
    random = np.random.default_rng(0)
    true = expit(random.normal(-1, 2, n))
    y_true = (random.uniform(size=n) < true).astype(int)
    return y_true, true, expit((logit(true) - offset) / slope)


def test_temperature():
    y_true, true, said = drawn(slope=0.4, offset=0)
    found = fit_calibration(y_true, said, "temperature")
    assert found.slope == pytest.approx(0.4, rel=0.05) and found.offset == 0
    assert np.abs(found(said) - true).max() < 0.02
    assert found(np.array([0.5])) == 0.5


def test_sigmoid():
    y_true, _, said = drawn(slope=0.7, offset=-1.2)
    found = fit_calibration(y_true, said, "sigmoid")
    assert (found.slope, found.offset) == (
        pytest.approx(0.7, rel=0.05),
        pytest.approx(-1.2, abs=0.06),
    )
    assert calibration_error(y_true, found(said)) < 0.015 < 0.1 < calibration_error(y_true, said)


def test_isotonic():
    y_true, true, _ = drawn(1, 0)
    found = fit_calibration(y_true, true**3, "isotonic")
    assert calibration_error(y_true, found(true**3)) < 0.01
    assert np.abs(found(true**3) - true).mean() < 0.03


@given(seed=st.integers(0, 1000), method=st.sampled_from(METHODS))
@settings(max_examples=60, deadline=None)
def test_is_monotonic_and_survives_json(seed, method):
    random = np.random.default_rng(seed)
    y_true = np.append(random.integers(0, 2, 20), [0, 1])
    said = np.append(random.choice([0.0, 0.001, 0.3, 0.6, 1.0], 20), [0.2, 0.7])
    found = fit_calibration(y_true, said, method)
    ascending = np.linspace(0, 1, 101)
    calibrated = found(ascending)
    assert (np.diff(calibrated) >= 0).all() and (calibrated >= 0).all() and (calibrated <= 1).all()
    again = Calibration.model_validate(
        json.loads(json.dumps(found.model_dump(exclude_defaults=True)))
    )
    assert np.array_equal(again(ascending), calibrated)
    assert np.array_equal(calibrated.astype(np.float32), calibrated)  # Tables hold 32 bits.


def test_refuses_a_single_class():
    for method in METHODS[1:]:
        with pytest.raises(
            ValueError, match=f"the calibration {method} needs images of both classes"
        ):
            fit_calibration(np.zeros(3, dtype=int), np.array([0.1, 0.2, 0.3]), method)
