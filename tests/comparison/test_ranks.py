"""Ranks over folds and seeds: tests by numbers that can be counted by hand, and letters."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy.stats import friedmanchisquare

from stages.comparison.ranks import compact_letters, rank, rank_section
from stages.comparison.settings import Setting


class Run:
    """An experiment that has only measures."""

    def __init__(self, value):
        self.value = value

    def measures(self):
        return {"roc_auc": self.value, "brier": self.value}


def settings(*columns):
    return [
        Setting(
            (float(number),),
            {(float(fold), 0.0, 1.0, 0.0): Run(value) for fold, value in enumerate(values)},
            [],
        )
        for number, values in enumerate(columns)
    ]


def test_one_that_is_always_better_by_numbers_counted_by_hand():
    """Of six folds all go one way: two of the 64 ways that signs can fall. Holm: times three, times
    two, times one.
    """
    low, high = [0.80, 0.81, 0.82, 0.83, 0.84, 0.85], [0.90, 0.92, 0.94, 0.96, 0.98, 0.99]
    between = [0.80 + 0.01 * (-1) ** fold * (fold + 1) for fold in range(6)]
    found = rank(settings(low, high, between), "roc_auc")
    by_name = {(pair.setting, pair.against): pair for pair in found.pairs}
    assert by_name["0", "1"].p == by_name["1", "2"].p == pytest.approx(2 / 64)
    assert by_name["0", "1"].p_holm == by_name["1", "2"].p_holm == pytest.approx(6 / 64)
    assert by_name["0", "1"].median_difference == pytest.approx(np.median(np.subtract(low, high)))
    assert found.friedman == pytest.approx(friedmanchisquare(low, high, between).pvalue)
    assert found.letters == ["a", "a", "a"]  # After Holm's correction 0.094 is not enough.


def test_eight_folds_tell_two_settings_apart_and_the_better_has_the_first_letter():
    low, high = np.linspace(0.8, 0.85, 8), np.linspace(0.9, 0.99, 8)
    assert rank(settings(low, high), "roc_auc").letters == ["b", "a"]
    assert rank(settings(low, high), "brier").letters == ["a", "b"]
    assert rank(settings(low, high), "roc_auc").friedman is None


def test_the_same_everywhere_is_not_apart():
    found = rank(settings([0.9] * 8, [0.9] * 8, [0.9] * 8), "roc_auc")
    assert (
        found.friedman == 1
        and {pair.p for pair in found.pairs} == {1.0}
        and found.letters == ["a"] * 3
    )


def test_a_fold_without_the_measure_is_left_out_and_one_fold_tells_nothing():
    found = rank(settings([0.9, None, 0.8], [0.7, 0.7, 0.6]), "roc_auc")
    assert len(found.keys) == 2 and found.pairs[0].runs == 2
    single = rank(settings([0.9], [0.7]), "roc_auc")
    assert (
        not single.pairs and rank_section(single, "roc_auc") == [] and single.letters == ["a", "a"]
    )
    nothing = rank(settings([None], [0.7]), "roc_auc")
    assert not nothing.pairs and rank_section(nothing, "roc_auc") == []


def test_the_page_says_what_five_folds_cannot_tell():
    text = "\n".join(
        rank_section(
            rank(settings(np.linspace(0.8, 0.85, 5), np.linspace(0.9, 0.99, 5)), "roc_auc"),
            "roc_auc",
        )
    )
    assert (
        "the least p (Holm) is 0.062, so that no pair can be distinguished at 0.05: more seeds are "
        "needed" in text
    )
    assert "| 0, 0, 1, 0" in text and "0.800" in text


def test_letters_worked_by_hand():
    """Piepho's example in small: neighbors cannot be told apart, all others can."""
    assert compact_letters(
        [0, 1, 2, 3], {frozenset(pair) for pair in [(0, 2), (0, 3), (1, 3)]}
    ) == ["a", "ab", "bc", "c"]


@given(
    some.integers(1, 7).flatmap(
        lambda n: some.tuples(some.permutations(range(n)), some.sets(some.sampled_from(pairs(n))))
    )
)
def test_letters_say_of_each_pair_what_is_so(given_):
    order, apart = given_
    letters = compact_letters(order, set(map(frozenset, apart)) - {frozenset()})
    for one, other in combinations(range(len(order)), 2):
        assert bool(set(letters[one]) & set(letters[other])) == ((one, other) not in apart)


def pairs(n):
    return list(combinations(range(n), 2)) or [()]
