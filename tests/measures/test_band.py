"""The uncertain band bounds the errors of each class."""

import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from benchmarks.coverage import World
from stages.measures.band import fit_band
from stages.measures.classes import describe_class, effective_crops
from stages.measures.decision import Band, measure_rates
from stages.measures.intervals import proportion
from tests.measures.test_scores import labels_and_scores


def test_rare_positives_that_are_missed_are_not_decided():
    """Of 1,000 crops 2 % are wrong, which are half of the positives."""
    y_true = np.repeat([0, 1], [960, 40])
    odds = np.concatenate(
        [np.linspace(-8, -3, 960), np.linspace(-6, -3, 20), np.linspace(1, 5, 20)]
    )
    slides = np.arange(1000) % 50
    band, sides = fit_band(y_true, expit(odds), slides, 0.5, 0.02)
    missed = (y_true == 1) & (odds < 0) & ~band.contains(expit(odds))
    assert not missed.any() and sides["positive"].extrapolated


def test_the_limit_is_the_last_whose_bound_is_allowed():
    odds = np.arange(400.0) / 100
    y_true, slides = np.repeat([0, 1], 200), np.arange(400)
    band, sides = fit_band(y_true, expit(odds), slides, float(expit(3.0)), 0.05)
    # The positives are 2.00 to 3.99, each of a separate slide.
    bounds = [proportion(np.arange(200) < k, slides[:200], 0.9).high for k in range(12)]
    allowed = next(k for k, bound in enumerate(bounds) if bound > 0.05) - 1
    assert sides["positive"].limit == pytest.approx(2 + allowed / 100) and allowed > 2
    assert sides["positive"].bound == bounds[allowed] and not sides["positive"].extrapolated
    # All negatives are below the threshold: no band on that side.
    assert band.low == pytest.approx(expit(2 + allowed / 100))
    assert band.high == np.nextafter(expit(3.0), 0)


def test_no_band_where_neither_class_needs_one():
    y_true, slides = np.repeat([0, 1], 200), np.arange(400)
    y_score = expit(np.where(y_true == 1, 5.0, -5.0) + np.linspace(-1, 1, 400))
    assert fit_band(y_true, y_score, slides, 0.5, 0.05)[0] == Band(low=None, high=None)


def test_few_crops_are_extrapolated_by_the_tolerance_limit_of_a_normal_distribution():
    odds = np.array([3.0, 4.0, 5.0, 6.0, 2.0, 4.0])
    y_true = np.array([1] * 6 + [0] * 6)
    y_score, slides = expit(np.concatenate([odds, odds - 10])), np.arange(12)
    band, sides = fit_band(y_true, y_score, slides, float(expit(2.0)), 0.05)
    # Of six slides; the crops are independent.
    assert effective_crops(odds, np.arange(6)) == 6
    factor = scipy.stats.nct.ppf(0.95, 5, 1.6448536 * np.sqrt(6)) / np.sqrt(6)
    assert factor == pytest.approx(3.708, abs=0.001)  # As in the tables of Owen (1968).
    assert sides["positive"].limit == pytest.approx(4 - factor * odds.std(ddof=1), abs=1e-4)
    assert sides["positive"].extrapolated and sides["positive"].bound > 0.3
    assert band.low == pytest.approx(expit(sides["positive"].limit))
    assert not band.contains(np.array([expit(2.0)]))[0]


def test_a_single_slide_has_no_bound_and_nothing_of_it_is_decided():
    y_true = np.array([0, 0, 1, 1])
    y_score, slides = np.array([0.1, 0.2, 0.8, 0.9]), np.zeros(4)
    band, sides = fit_band(y_true, y_score, slides, 0.5, 0.05)
    assert sides["positive"].bound is None and band == Band(low=0, high=1)


@given(labels_and_scores, st.floats(0.05, 0.95), st.floats(0, 0.5), st.integers(1, 6))
@settings(max_examples=20)
def test_the_band_contains_the_threshold_and_errors_are_as_few_as_allowed(
    arrays, threshold, allowed, slides
):
    y_true, y_score = arrays
    if y_true.min() == y_true.max():
        return
    band, _ = fit_band(y_true, y_score, np.arange(len(y_true)) % slides, threshold, allowed)
    assert band.low is None or band.low <= threshold <= np.nextafter(band.high, 1)
    found = measure_rates(y_true, y_score, threshold, band)
    decided = ~band.contains(y_score)
    wrong = decided & ((y_true == 1) != (y_score >= threshold))
    for label in (0, 1):
        assert np.mean(wrong[y_true == label]) <= allowed
    assert found.coverage == decided.mean()
    if (rows := decided & (y_true == 1)).any():
        assert found.decided_sensitivity == pytest.approx(1 - wrong[rows].mean())


@pytest.mark.parametrize(("slides", "prevalence"), [(5, 0.3), (15, 0.1)])
def test_errors_of_new_crops_are_rare_in_simulations(slides, prevalence):
    world = World(slides, 0.2, prevalence=prevalence, separation=3)
    (everything,) = world._replace(slides=500).draw(np.random.default_rng(1))
    random, held = np.random.default_rng(0), {0: [], 1: []}
    for _ in range(25):
        (one,) = world.draw(random)
        band, _ = fit_band(one.y_true, one.y_score, one.slides, 0.3, 0.05)
        wrong = (everything.y_true == 1) != (everything.y_score >= 0.3)
        wrong &= ~band.contains(everything.y_score)
        for label, found in held.items():
            found.append(wrong[everything.y_true == label].mean() <= 0.05)
    assert all(np.mean(found) >= 0.88 for found in held.values()), held


def test_the_summary_of_a_class():
    random = np.random.default_rng(0)
    slides = np.repeat(np.arange(200), 10)
    alike, apart = random.normal(3, 2, 2000), 3 + 2 * random.normal(size=200)[slides]
    found = describe_class(alike, slides)
    assert (found.crops, found.slides) == (2000, 200)
    assert found.median == pytest.approx(3, abs=0.1) and found.spread == pytest.approx(2, abs=0.1)
    # Crops of a slide that are all alike tell as much as one.
    assert found.effective > 1500 and effective_crops(apart, slides) == pytest.approx(200, rel=0.05)
