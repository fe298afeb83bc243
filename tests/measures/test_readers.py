"""Kappas of readers: as other libraries have them, with intervals that fit their range and hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters, cohens_kappa
from statsmodels.stats.inter_rater import fleiss_kappa as fleiss_of_statsmodels

from benchmarks.coverage import World, readers_coverage
from stages.measures.readers import cohen_kappa, fleiss_kappa


def drawn(errors=(0.05, 0.1, 0.2), crops=200):
    """The labels of readers who err at random, and the slides of the crops."""
    random = np.random.default_rng(0)
    truth = random.random(crops) < 0.3
    labels = [(truth ^ (random.random(crops) < error)).astype(int) for error in errors]
    return np.stack(labels, axis=1), np.repeat(np.arange(crops // 10), 10)


def test_cohen_by_hand():
    # Both 1: 20, only the first: 5, only the second: 10, none: 15; 0.70 seen, 0.50 by chance.
    one = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
    other = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
    assert cohen_kappa(one, other, np.arange(50) % 5).value == pytest.approx(0.4)


def test_fleiss_by_hand_where_some_have_not_read_all():
    labels = np.array([[1, 1, 1], [0, 0, -1], [1, 0, -1], [1, 0, 0], [-1, -1, 1]])
    # Pairs that agree: 1, 1, 0, 1/3; the share of label 1: 1, 0, 1/2, 1/3.
    agree, share = 7 / 12, 11 / 24
    chance = share**2 + (1 - share) ** 2
    found = fleiss_kappa(labels, np.arange(5))
    assert found.value == pytest.approx((agree - chance) / (1 - chance))


def test_values_and_variance_are_those_of_other_libraries():
    labels, slides = drawn()
    one, other = labels[:, 0], labels[:, 1]
    assert fleiss_kappa(labels, slides).value == pytest.approx(
        fleiss_of_statsmodels(aggregate_raters(labels)[0])
    )
    assert cohen_kappa(one, other, slides).value == pytest.approx(cohen_kappa_score(one, other))
    # Of crops that are each a separate slide the interval is nearly the one by Fleiss, Cohen and
    # Everitt (1969), wider by what few crops cannot tell.
    found = cohen_kappa(one, other, np.arange(len(one)))
    theirs = cohens_kappa(np.bincount(2 * one + other, minlength=4).reshape(2, 2))
    assert found.high - found.low == pytest.approx(theirs.kappa_upp - theirs.kappa_low, rel=0.15)


@given(
    st.lists(st.tuples(*[st.sampled_from((-1, 0, 1))] * 3), min_size=1), st.permutations([0, 1, 2])
)
def test_the_order_of_readers_does_not_matter(rows, order):
    labels = np.array(rows)
    slides = np.arange(len(labels)) % 4
    found, other = fleiss_kappa(labels, slides), fleiss_kappa(labels[:, order], slides)
    assert found[:1] + found[4:] == other[:1] + other[4:]
    assert [*found[1:4]] == pytest.approx([*other[1:4]])
    if found.low is not None:
        assert -1 <= found.low <= found.value <= found.high <= 1
    both = labels[(labels[:, :2] >= 0).all(axis=1)]
    of_both = np.arange(len(both)) % 4
    found = cohen_kappa(both[:, 0], both[:, 1], of_both)
    assert found == cohen_kappa(both[:, 1], both[:, 0], of_both)


def test_which_class_is_1_does_not_matter():
    labels, slides = drawn()
    ones = np.ones_like(labels[:, 0])
    for one, other in (labels[:, :2].T, (ones, labels[:, 2])):
        found, swapped = cohen_kappa(one, other, slides), cohen_kappa(1 - one, 1 - other, slides)
        assert found.low is not None and found[:4] == pytest.approx(swapped[:4])
    found, swapped = fleiss_kappa(labels[:, :2], slides), fleiss_kappa(1 - labels[:, :2], slides)
    assert found[:4] == pytest.approx(swapped[:4])


def test_readers_who_agree_on_all_crops_have_no_interval_of_zero_width():
    labels, slides = drawn()
    one = labels[:, 0]
    for found in (cohen_kappa(one, one, slides), fleiss_kappa(labels[:, [0, 0, 0]], slides)):
        assert found.value == found.high == 1 and found.low < 0.9


def test_where_there_is_no_kappa_the_reason_is_said():
    none, slides = np.zeros(4, dtype=int), np.arange(4)
    assert cohen_kappa(none, none, slides).reason == "all labels are the same"
    assert cohen_kappa(none[:0], none[:0], slides[:0]).reason == "there is no crop"
    assert (
        fleiss_kappa(np.array([[1, -1], [-1, 0]]), slides[:2]).reason == "no crop has two readers"
    )
    one_slide = cohen_kappa(np.array([0, 1, 1]), np.array([0, 1, 0]), np.zeros(3))
    assert one_slide.value == pytest.approx(0.4) and one_slide.low is None and one_slide.reason


@pytest.mark.parametrize(("slides", "icc"), [(6, 0.1), (20, 0.3)])
def test_intervals_hold(slides, icc):
    rates = readers_coverage(World(slides, icc), draws=60)
    assert min(rate.share for rate in rates.values()) > 0.85
