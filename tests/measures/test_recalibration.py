"""Recalibration: by hand, by numerical integration, and at simulated sites."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit

from benchmarks.unseen_site import recalibration_curve
from stages.measures.calibration import Calibration, Map, unclipped_log_odds
from stages.measures.classes import Classes, ClassScores
from stages.measures.recalibration import (
    Home,
    Shift,
    Site,
    cross_fitted,
    evenly_spaced,
    fit_site,
    fit_unlabeled,
)

# Log-odds of a model whose classes are normal, 3.3 standard deviations apart: at a prevalence of
# 22 %, their means are these, and their standard deviation is 3.3.
APART, PREVALENCE = 3.3, 0.22
MEANS = APART**2 / 2 * np.array([-1, 1]) + logit(PREVALENCE)
HOME = Home(
    Classes(
        negative=ClassScores(crops=780, slides=30, effective=300, median=MEANS[0], spread=APART),
        positive=ClassScores(crops=220, slides=30, effective=100, median=MEANS[1], spread=APART),
    ),
    float(stats.norm.ppf(0.05, MEANS[1], APART)),
    PREVALENCE,
    0.95,
)


def crops(random, n, prevalence=PREVALENCE, shift=0.0):
    """Return labels and log-odds of a site."""
    y_true = (random.uniform(size=n) < prevalence).astype(int)
    return y_true, random.normal(MEANS[y_true] + shift, APART)


def rates_of(site, shift=0.0):
    """Return the sensitivity and the specificity of a site's threshold, exactly."""
    return stats.norm.sf(site.threshold, MEANS[1] + shift, APART), stats.norm.cdf(
        site.threshold, MEANS[0] + shift, APART
    )


def mean_rates(draw, shift=0.0, repeats=12, novel=False):
    random, found = np.random.default_rng(0), []
    for _ in range(repeats):
        y_true, odds = draw(random)
        site = fit_site(y_true, odds, np.arange(len(odds)), HOME, novel)
        found.append(rates_of(site, shift))
    return np.mean(found, axis=0)


@pytest.mark.parametrize("labels", [32, 128, 400])
def test_a_lower_prevalence_alone_changes_nothing(labels):
    sensitivity, specificity = mean_rates(lambda random: crops(random, labels, prevalence=0.06))
    assert sensitivity == pytest.approx(0.95, abs=0.015)
    assert specificity == pytest.approx(rates_of(Site(0, 0, 0, HOME.threshold))[1], abs=0.02)


def test_as_many_labels_of_either_class_change_nothing():
    def half(random):
        y_true = np.repeat([0, 1], 20)
        return y_true, random.normal(MEANS[y_true], APART)

    assert mean_rates(half) == pytest.approx(rates_of(Site(0, 0, 0, HOME.threshold)), abs=0.02)


@pytest.mark.parametrize(("shift", "labels"), [(-5.0, 128), (5.0, 128), (-8.0, 20)])
def test_a_shifted_stain_is_found(shift, labels):
    before = rates_of(Site(0, 0, 0, HOME.threshold), shift)
    sensitivity, specificity = mean_rates(
        lambda random: crops(random, labels, prevalence=0.3, shift=shift), shift
    )
    assert min(before) < 0.7 and min(sensitivity, specificity) > 0.85


def test_the_threshold_lies_between_classes_that_are_far_apart():
    """Twelve crops of a site that is out of distribution: the middle, not near the positives."""
    y_true = np.array([0] * 5 + [1] * 7)
    odds = np.array([-11.7, -11.4, -11.4, -10.3, -10.0, -1.5, -1.3, 1.6, 2.7, 2.8, 3.0, 3.6])
    apart = Home(
        Classes(
            negative=HOME.classes.negative.model_copy(update={"median": -8.8, "spread": 4.0}),
            positive=HOME.classes.positive.model_copy(update={"median": 7.2, "spread": 4.0}),
        ),
        0.0,
        0.22,
        0.95,
    )
    site = fit_site(y_true, odds, np.arange(12), apart, novel=True)
    assert -6 < site.threshold < -3 and site.shifted > 0.8
    assert -12 < site.negative < -10.5 and 2 < site.positive < 3.5
    # Without a label too: there is a gap.
    assert -6 < fit_unlabeled(odds, apart).threshold < -3


def test_the_centers_are_the_most_probable_ones():
    y_true, odds = np.array([0, 0, 1, 1]), np.array([-9.0, -7.0, 2.0, 6.0])
    site = fit_site(y_true, odds, np.arange(4), HOME, novel=False)
    prior = stats.multivariate_normal(MEANS, 9 + 2.25 * np.eye(2))

    def log_posterior(negative, positive):
        likely = sum(
            stats.t.logpdf(odds[y_true == label], 4, center, APART).sum()
            for label, center in ((0, negative), (1, positive))
        )
        return prior.logpdf([negative, positive]) + likely

    best = log_posterior(site.negative, site.positive)
    for step in ((0.1, 0), (-0.1, 0), (0, 0.1), (0, -0.1), (0.1, 0.1)):
        assert log_posterior(site.negative + step[0], site.positive + step[1]) < best


def test_the_threshold_is_raised_above_no_more_positives_than_allowed():
    y_true = np.repeat([0, 1], [30, 10])
    odds = np.concatenate([np.linspace(-2, 6, 30), [-1.0], np.linspace(9, 14, 9)])
    site = fit_site(y_true, odds, np.arange(40), HOME, novel=True)
    assert site.threshold <= max(HOME.threshold, -1.0) + 1e-9


def test_needs_both_classes():
    with pytest.raises(ValueError, match="both classes"):
        fit_site(np.ones(5, dtype=int), np.zeros(5), np.arange(5), HOME, novel=False)


def test_crops_of_one_slide_count_as_fewer():
    y_true, odds = crops(np.random.default_rng(3), 60, shift=-3)
    apart, together = (
        fit_site(y_true, odds, slides, HOME, novel=False).shifted
        for slides in (np.arange(60), np.arange(60) % 2)
    )
    assert together < apart


def test_calibration_applies_the_local_map():
    plain = Calibration(method="sigmoid", members=[Map(slope=2.0, offset=1.0)])
    local = plain.model_copy(update={"local": Shift(slope=0.5, offset=-1.0)})
    score = np.array([[0.2], [0.5], [0.9]])
    expected = expit(0.5 * (2 * np.log(score / (1 - score)) + 1) - 1)[:, 0]
    assert local(score) == pytest.approx(expected, abs=1e-6)
    assert Calibration.model_validate(local.model_dump(exclude_defaults=True))(
        score
    ) == pytest.approx(expected, abs=1e-6)


def test_moving_a_threshold_keeps_the_ranking():
    probability = np.array([[1e-25], [1e-12], [1e-9], [1e-8]])
    plain = Calibration(method="none", members=[Map()])
    local = plain.model_copy(update={"local": Shift(slope=1.0, offset=20.0)})
    assert np.all(np.diff(local(probability)) > 0)
    assert unclipped_log_odds(np.array([0.0, 1.0])) == pytest.approx([-69.08, 16.64], abs=0.01)
    site = Site(0.0, 0.0, 1.0, HOME.threshold - 2)
    assert site.shift(HOME) == Shift(slope=1.0, offset=2.0)


def test_evenly_spaced_crops():
    odds = np.array([5.0, -9.0, -8.9, -8.8, 4.0, 0.2, -4.1])
    assert evenly_spaced(odds, 4) == [1, 6, 5, 0]
    assert sorted(evenly_spaced(odds, 99)) == list(range(7))
    assert evenly_spaced(np.zeros(5), 4) == [0, 1, 2, 3]


def test_cross_fitting_uses_the_labels_of_the_other_slides():
    random = np.random.default_rng(0)
    y_true, odds = crops(random, 40, shift=-4)
    slides = np.repeat(["a", "b"], 20)
    expected = []
    for out, others in ((slice(0, 20), slice(20, 40)), (slice(20, 40), slice(0, 20))):
        site = fit_site(y_true[others], odds[others], slides[others], HOME, novel=True)
        expected += (odds[out] >= site.threshold).tolist()
    assert cross_fitted(y_true, odds, slides, HOME, novel=True).tolist() == expected
    # If the others lack a class, the threshold is that at home.
    few = np.array([0, 0, 1]), odds[:3], np.array(["a", "a", "b"])
    assert cross_fitted(*few, HOME, novel=True).tolist() == (odds[:3] >= HOME.threshold).tolist()


def test_the_curve_of_a_shifted_laboratory_rises_and_does_not_depend_on_the_order_of_the_crops():
    random = np.random.default_rng(0)
    y_true = np.tile([0, 0, 0, 1], 40)
    odds = np.where(y_true == 1, random.normal(-3, 1, 160), random.normal(-11, 1, 160))
    slides = np.repeat([f"s{number}" for number in range(8)], 20)
    points = recalibration_curve(y_true, odds, HOME, slides, 0)
    medians = {(point.labeled, point.measure): point.median for point in points}
    assert {point.labeled for point in points} == {0, 4, 6, 8, 12, 16, 24, 32, 48, 64}
    assert (
        medians[0, "sensitivity"] < 0.3
        and medians[12, "sensitivity"] > 0.9
        and medians[12, "specificity"] > 0.98
    )
    assert all(point.low <= point.median <= point.high for point in points)
    # Too few slides to keep apart: other crops; too few crops: nothing.
    few = y_true[:24], odds[:24], HOME, slides[:24], 0
    assert recalibration_curve(*few) == recalibration_curve(*few) != []
    assert recalibration_curve(y_true[:6], odds[:6], HOME, slides[:6], 0) == []
