"""Calibration intercept and slope: against statsmodels, and in simulations."""

import numpy as np
import pytest
import scipy
import statsmodels.api as sm

from benchmarks.coverage import World
from stages.measures.calibration import log_odds
from stages.measures.calibration_line import calibration_line


def drawn(seed=0, slides=20):
    return World(slides, 0.1).draw(np.random.default_rng(seed))[0]


def test_intercept_and_slope_are_those_of_logistic_regressions():
    sample = drawn()
    odds = log_odds(sample.y_score)
    found = calibration_line(sample.y_true, sample.y_score, sample.slides)
    family, ones = sm.families.Binomial(), np.ones(len(odds))
    intercept = sm.GLM(sample.y_true, ones, family, offset=odds).fit()
    slope = sm.GLM(sample.y_true, sm.add_constant(odds), family).fit()
    assert found.intercept.value == pytest.approx(intercept.params[0], abs=1e-4)
    assert found.slope.value == pytest.approx(slope.params[1], abs=1e-4)


def test_overconfident_probabilities_have_a_slope_below_1():
    sample = drawn(slides=60)
    too_sure = scipy.special.expit(2 * log_odds(sample.y_score))
    found, as_it_is = (
        calibration_line(sample.y_true, score, sample.slides)
        for score in (too_sure, sample.y_score)
    )
    assert found.slope.high < 1 < as_it_is.slope.high
    assert found.slope.value == pytest.approx(as_it_is.slope.value / 2, abs=1e-3)


def test_no_slope_where_the_scores_separate_the_classes():
    y_true = np.arange(12) % 2
    found = calibration_line(y_true, 0.1 + 0.8 * y_true, np.arange(12) // 3)
    assert (found.slope.value, found.slope.reason) == (None, "the scores separate the classes")
    assert found.intercept.value == pytest.approx(0, abs=1e-6)
    nothing = calibration_line(np.zeros(4, dtype=int), np.full(4, 0.3), np.arange(4))
    assert nothing.intercept.reason == "a class is missing"


def test_its_intervals_hold():
    """In at least 85 % of 100 draws, of which 95 % are expected."""
    for slides in (6, 20):
        held = np.zeros(2)
        for seed in range(100):
            sample = drawn(seed, slides)
            found = calibration_line(sample.y_true, sample.y_score, sample.slides)
            for place, (one, truth) in enumerate(zip(found, (0, 1))):
                held[place] += one.low is None or one.low <= truth <= one.high
        assert held.min() >= 85
