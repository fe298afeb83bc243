"""Recalibration: against numerical integration, by hand, and at a simulated site."""

import numpy as np
import pytest
from scipy.integrate import dblquad
from scipy.special import expit
from scipy.stats import binomtest

from benchmarks.unseen_site import recalibration_curve
from stages.measures.calibration import Calibration, Map
from stages.measures.recalibration import (
    Shift,
    cross_fitted,
    evenly_spaced,
    fit_shift,
    more_labels,
    rate,
)


def by_integration(y_true, log_odds):
    """Return the posterior means of log slope and of -offset / slope, by quadrature."""

    def normal(x, scale):
        return np.exp(-0.5 * (x / scale) ** 2) / (scale * np.sqrt(2 * np.pi))

    def density(offset, log_slope):
        likely = np.prod(
            expit(np.where(y_true == 1, 1, -1) * (np.exp(log_slope) * log_odds + offset))
        )
        return (
            likely
            * (0.85 * normal(offset, 0.5) + 0.15 * normal(offset, 5))
            * normal(log_slope, 0.2)
        )

    def mean(value):
        return dblquad(
            lambda o, s: value(o, s) * density(o, s), -1, 1, -20, 20, epsabs=1e-10, epsrel=1e-6
        )[0]

    total = mean(lambda o, s: 1)
    return mean(lambda o, s: s) / total, mean(lambda o, s: -o / np.exp(s)) / total


@pytest.mark.parametrize(
    ("y_true", "log_odds"),
    [
        ([0, 0, 1, 1], [-3.0, -1.0, 0.5, 2.0]),
        ([0, 0, 0, 1, 1, 1], [-9.0, -8.0, -7.0, -3.0, -2.0, 1.0]),
        ([0, 1, 0, 1], [2.0, 1.0, 4.0, 5.0]),
    ],
)
def test_posterior_mean_agrees_with_numerical_integration(y_true, log_odds):
    y_true, log_odds = np.array(y_true), np.array(log_odds)
    found = fit_shift(y_true, log_odds)
    log_slope, even = by_integration(y_true, log_odds)
    assert np.log(found.slope) == pytest.approx(log_slope, abs=0.005)
    assert -found.offset / found.slope == pytest.approx(even, abs=0.02)


def test_agreeing_labels_change_little_and_a_shifted_site_is_found():
    y_true = np.repeat([0, 1], 6)
    usual = np.concatenate([np.linspace(-9, -5, 6), np.linspace(2, 6, 6)])
    unchanged = fit_shift(y_true, usual)
    # The gap between the classes lies a little to the left of 0, and so does what is likely.
    assert (
        unchanged.slope == pytest.approx(1, abs=0.1)
        and -1 < -unchanged.offset / unchanged.slope < 0.5
    )
    shifted = fit_shift(y_true, usual - 6)
    assert -shifted.offset / shifted.slope < -3
    assert np.all((shifted.slope * (usual - 6) + shifted.offset >= 0) == (y_true == 1))
    with pytest.raises(ValueError, match="both classes"):
        fit_shift(np.ones(5, dtype=int), usual[:5])


def test_calibration_applies_the_local_map():
    plain = Calibration(method="sigmoid", members=[Map(slope=2.0, offset=1.0)])
    local = plain.model_copy(update={"local": Shift(slope=0.5, offset=-1.0)})
    score = np.array([[0.2], [0.5], [0.9]])
    expected = expit(0.5 * (2 * np.log(score / (1 - score)) + 1) - 1)[:, 0]
    assert local(score) == pytest.approx(expected, abs=1e-6)
    assert Calibration.model_validate(local.model_dump(exclude_defaults=True))(
        score
    ) == pytest.approx(expected, abs=1e-6)


def test_evenly_spaced_crops():
    odds = np.array([5.0, -9.0, -8.9, -8.8, 4.0, 0.2, -4.1])
    assert evenly_spaced(odds, 4) == [1, 6, 5, 0]
    assert sorted(evenly_spaced(odds, 99)) == list(range(7))
    assert evenly_spaced(np.zeros(5), 4) == [0, 1, 2, 3]


def test_rates_and_number_of_further_labels():
    found = rate(np.array([True] * 6 + [False]), 1)
    wilson = binomtest(6, 7).proportion_ci(method="wilson")
    assert (found.right, found.n, found.low, found.high) == (6, 7, wilson.low, wilson.high)
    assert rate(np.array([True, False, False]), 0).right == 2
    # All right: n / (n + 3.84) reaches 0.95 at 73.
    assert more_labels(rate(np.ones(7, dtype=bool), 1)) == 66
    assert more_labels(rate(np.ones(73, dtype=bool), 1)) == 0
    assert more_labels(found) > 100


def test_cross_fitting_uses_the_labels_of_the_other_slides():
    y_true = np.array([0, 1, 0, 1])
    odds, slides = np.array([-8.0, -3.0, -7.0, -2.0]), np.array(["a", "a", "b", "b"])
    of_b, of_a = fit_shift(y_true[2:], odds[2:]), fit_shift(y_true[:2], odds[:2])
    expected = np.concatenate(
        [of_b.slope * odds[:2] + of_b.offset, of_a.slope * odds[2:] + of_a.offset]
    )
    assert cross_fitted(y_true, odds, slides) == pytest.approx(expected)
    # If the others lack a class, the log-odds are unchanged.
    assert cross_fitted(np.array([0, 0, 1]), odds[:3], np.array(["a", "a", "b"])) == pytest.approx(
        odds[:3]
    )


def test_the_curve_of_a_shifted_laboratory_rises_and_does_not_depend_on_the_order_of_the_crops():
    random = np.random.default_rng(0)
    y_true = np.tile([0, 0, 0, 1], 40)
    odds = np.where(y_true == 1, random.normal(-1, 1, 160), random.normal(-9, 1, 160))
    slides = np.repeat([f"s{number}" for number in range(8)], 20)
    points = recalibration_curve(y_true, odds, 0.0, slides, 0)
    medians = {(point.labeled, point.measure): point.median for point in points}
    assert {point.labeled for point in points} == {0, 4, 6, 8, 12, 16, 24, 32, 48, 64}
    assert (
        medians[0, "sensitivity"] < 0.3
        and medians[12, "sensitivity"] > 0.9
        and medians[12, "specificity"] > 0.98
    )
    assert all(point.low <= point.median <= point.high for point in points)
    assert points == recalibration_curve(y_true, odds, 0.0, slides, 0)
    # Too few slides to keep apart: other crops; too few crops: nothing.
    assert recalibration_curve(y_true[:24], odds[:24], 0.0, slides[:24], 0)
    assert recalibration_curve(y_true[:6], odds[:6], 0.0, slides[:6], 0) == []
