"""Thresholds against those found by trying all, by hand, and in simulations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from benchmarks.coverage import World
from stages.measures.scores import confusion, rates
from stages.measures.threshold import choose_threshold, threshold_interval
from tests.measures.test_scores import S, Y, labels_and_scores


def chosen(y_true, y_score, rule, target):
    return choose_threshold(y_true, y_score, rule, target, np.arange(len(y_true)))


def test_the_fixed_threshold():
    assert chosen(Y, S, "fixed", 0.95) == 0.5


@pytest.mark.parametrize(
    ("target", "expected"),
    [(0.25, 0.9), (0.5, 0.8), (0.51, 0.6), (0.75, 0.6), (0.76, 0.3), (1.0, 0.3)],
)
def test_the_highest_threshold_that_reaches_the_sensitivity(target, expected):
    assert chosen(Y, S, "sensitivity", target) == expected


def test_youden():
    # At 0.6: 3/4 + 5/6 - 1 = 0.583. At 0.8: 2/4 + 1 - 1 = 0.5. At 0.3: 1 + 3/6 - 1 = 0.5.
    assert chosen(Y, S, "youden", 0.95) == 0.6


def test_balanced():
    y_true, y_score = (
        np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0]),
        np.array([0.9, 0.8, 0.4, 0.3, 0.5, 0.35, 0.1, 0.1, 0.1, 0.1]),
    )
    # At 0.4: 3/4 and 5/6. At 0.3: 4/4 and 4/6, where the sum is larger but the lower one lower.
    assert chosen(y_true, y_score, "balanced", 0.95) == 0.4
    assert chosen(y_true, y_score, "youden", 0.95) == 0.3


@given(labels_and_scores, st.sampled_from([0.5, 0.55, 0.9, 0.95, 1.0]))
def test_thresholds_by_trying_all(arrays, target):
    y_true, y_score = arrays
    if y_true.min() == y_true.max():
        return
    found = {t: rates(*confusion(y_true, (y_score >= t).astype(int))) for t in sorted(set(y_score))}
    assert chosen(y_true, y_score, "sensitivity", target) == max(
        t for t, r in found.items() if r["sensitivity"] >= target
    )
    best_of = found[chosen(y_true, y_score, "youden", target)]
    best = max(r["balanced_accuracy"] for r in found.values())
    assert best_of["balanced_accuracy"] == pytest.approx(best)
    lower = {t: min(r["sensitivity"], r["specificity"]) for t, r in found.items()}
    assert lower[chosen(y_true, y_score, "balanced", target)] == pytest.approx(max(lower.values()))


@pytest.mark.parametrize(
    ("rule", "y"),
    [("youden", 1), ("youden", 0), ("balanced", 1), ("balanced", 0), ("sensitivity", 0)],
)
def test_a_rule_needs_its_classes(rule, y):
    with pytest.raises(ValueError, match="needs images of both classes"):
        chosen(np.full(3, y), np.array([0.1, 0.2, 0.3]), rule, 0.9)


def test_the_assured_sensitivity_is_a_lower_bound():
    # 100 positives, each of a separate slide. With k missed, the one-sided 95 % lower bound of
    # Clopper and Pearson is the 5 % quantile of a beta distribution.
    y_true, y_score = np.ones(100, dtype=np.int64), np.linspace(0.01, 1, 100)
    bounds = [beta.ppf(0.05, 100 - k, k + 1) for k in range(20)]
    missed = next(k for k, bound in enumerate(bounds) if bound < 0.9) - 1
    assert 2 < missed < 8
    found = chosen(y_true, y_score, "assured_sensitivity", 0.9)
    # With the wider quantiles of Student's t, at most as many are missed.
    assert 0.01 <= found <= y_score[missed] < chosen(y_true, y_score, "sensitivity", 0.9)


def test_the_assured_sensitivity_refuses_too_few_positives():
    with pytest.raises(ValueError, match=r"more positives than 20 of 20 slides: .* above 0\.\d+;"):
        chosen(np.ones(20, dtype=np.int64), np.linspace(0, 1, 20), "assured_sensitivity", 0.95)
    with pytest.raises(ValueError, match=r"20 of 1 slide: .* has no bound"):
        choose_threshold(
            np.ones(20, dtype=np.int64),
            np.linspace(0, 1, 20),
            "assured_sensitivity",
            0.95,
            np.zeros(20),
        )


def test_the_assured_sensitivity_and_intervals_hold_in_simulations():
    world = World(12, 0.2, crops=15, prevalence=0.4)
    (everything,) = world._replace(slides=800).draw(np.random.default_rng(1))
    true = {
        rule: choose_threshold(everything.y_true, everything.y_score, rule, 0.8, everything.slides)
        for rule in ("sensitivity", "youden", "balanced")
    }
    random, reached, held = np.random.default_rng(0), [], {rule: [] for rule in true}
    for _ in range(20):
        (one,) = world.draw(random)
        of_one = one.y_true, one.y_score
        assured = choose_threshold(*of_one, "assured_sensitivity", 0.8, one.slides)
        reached.append(np.mean(everything.y_score[everything.y_true == 1] >= assured) >= 0.8)
        for rule in true if len(held["youden"]) < 6 else ("sensitivity",):
            threshold = choose_threshold(*of_one, rule, 0.8, one.slides)
            low, high = threshold_interval(*of_one, threshold, rule, one.slides)
            assert low <= threshold <= high
            held[rule].append(low <= true[rule] <= high)
    assert np.mean(reached) >= 0.9
    assert all(np.mean(found) >= 0.8 for found in held.values()), held


def test_a_fixed_threshold_and_a_single_slide_have_no_interval():
    assert threshold_interval(Y, S, 0.5, "fixed", np.arange(10)) is None
    for rule in ("sensitivity", "balanced"):
        assert threshold_interval(Y, S, 0.5, rule, np.zeros(10)) is None
