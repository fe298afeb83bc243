"""The percentage of sclerotic glomeruli of a slide, with what the model's errors add to it."""

from itertools import product

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import binomtest

from stages.measures.percentages import (
    MANY,
    SlideShift,
    _counts,
    agreement,
    fit_slide_shift,
    percentage,
)


def of(odds, deviation):
    return percentage(odds, SlideShift(mean=0.0, deviation=float(deviation)))


@pytest.mark.parametrize("sclerotic", (0, 1, 7, 19, 20))
def test_of_a_model_that_is_sure_is_the_interval_of_clopper_and_pearson(sclerotic):
    odds = np.where(np.arange(20) < sclerotic, 40.0, -40.0)
    found = of(odds, 0)
    expected = binomtest(sclerotic, 20).proportion_ci(method="exact")
    limits = 100 * expected.low, 100 * expected.high
    assert found == pytest.approx((5 * sclerotic, *limits, float(sclerotic >= 4)))


def test_the_value_is_the_median_number_of_sclerotic_crops_by_enumeration():
    probabilities = np.array([0.9, 0.6, 0.5, 0.2])
    chance = np.zeros(5)
    for labels in product((0, 1), repeat=4):
        chance[sum(labels)] += np.prod(np.where(labels, probabilities, 1 - probabilities))
    median = np.flatnonzero(np.cumsum(chance) >= 0.5)[0]
    assert of(logit(probabilities), 0).value == 100 * median / 4
    assert _counts(probabilities[None])[0] == pytest.approx(chance)
    # One of four is 25 %.
    assert of(logit(probabilities), 0).reaches_20 == pytest.approx(1 - chance[0])


def test_the_more_slides_differ_the_wider_and_it_contains_the_value():
    random = np.random.default_rng(0)
    odds = random.normal(-1, 2, 30)
    found = [of(odds, deviation) for deviation in (0, 0.5, 1, 2, 4)]
    widths = [one.high - one.low for one in found]
    assert widths == sorted(widths)
    assert all(0 <= one.low <= one.value <= one.high <= 100 for one in found)


def test_of_many_crops_is_nearly_the_exact_one():
    odds = np.random.default_rng(0).normal(-2, 2, MANY + 1)
    many, exact = of(odds, 0.5), of(odds[1:], 0.5)
    assert many == pytest.approx(exact, abs=0.2)


def draw(random, slides, deviation):
    """Return labels, log-odds and slides of crops, whose log-odds are shifted slide by slide."""
    sizes = random.integers(8, 50, slides)
    slide = np.repeat(np.arange(slides), sizes)
    odds = random.normal(random.normal(-1.5, 1, slides)[slide], 2.5)
    y_true = random.binomial(1, expit(odds + random.normal(0, deviation, slides)[slide]))
    return y_true, odds, slide


@pytest.mark.parametrize("deviation", (0.0, 1.0, 2.0))
def test_finds_how_much_slides_differ(deviation):
    y_true, odds, slides = draw(np.random.default_rng(0), 150, deviation)
    found = fit_slide_shift(y_true, odds, slides)
    assert found.deviation == pytest.approx(deviation, abs=0.3)


@pytest.mark.parametrize("deviation", (0.5, 1.5))
def test_contains_what_a_pathologist_counts_and_the_percentage_of_the_tissue(deviation):
    random = np.random.default_rng(1)
    contains = []
    for _ in range(2):
        y_true, odds, slides = draw(random, 25, deviation)
        shift = fit_slide_shift(y_true, odds, slides)
        y_true, odds, slides = draw(random, 25, deviation)
        for slide in range(25):
            rows = slides == slide
            found = percentage(odds[rows], shift)
            contains.append(found.low - 1e-6 <= 100 * y_true[rows].mean() <= found.high + 1e-6)
    assert np.mean(contains) >= 0.95


def test_probabilities_of_balanced_classes_do_not_inflate_the_percentage():
    """As those of training with class weights are, without a calibration."""
    random = np.random.default_rng(2)
    y_true, odds, slides = draw(random, 60, 0.8)
    shift = fit_slide_shift(y_true, odds + 1.4, slides)
    assert shift.mean == pytest.approx(-1.4, abs=0.3)
    y_true, odds, slides = draw(random, 60, 0.8)
    errors = [
        percentage(odds[slides == slide] + 1.4, shift).value - 100 * y_true[slides == slide].mean()
        for slide in range(60)
    ]
    assert abs(np.mean(errors)) < 3


def test_a_validation_set_of_one_class_shifts_nothing():
    assert fit_slide_shift(np.zeros(6, dtype=int), np.full(6, -1.4), np.arange(6) // 2).mean == 0


def test_agreement_by_hand():
    counted, ours = (0, 10, 30, 60), (2, 8, 36, 62)
    found = agreement(counted, ours)
    # Differences 2, -2, 6, 2: mean 2 and standard deviation sqrt(32 / 3).
    reach = 1.96 * (32 / 3) ** 0.5
    assert found == pytest.approx((4, 2, 2 - reach, 2 + reach, 0.75))
    assert agreement([10], [10]) == (1, 0, None, None, 1)
