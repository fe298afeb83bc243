"""Compare settings by their ranks in each fold and seed, as papers on encoders do.

Folds share most of their training slides, so their results vary too little and the p values are
too small (Nadeau and Bengio, Machine Learning 52:239, 2003). The intervals over slides do not have
this problem: decide by them.
"""

from collections.abc import Sequence
from itertools import combinations
from string import ascii_letters
from typing import NamedTuple

import numpy as np

from stages.base.errors import UserError
from stages.comparison.settings import FOLD, SEEDS, Key, Setting
from stages.experiments.markdown import markdown_table
from stages.measures.scores import MEASURES, title

LEVEL = 0.05


class PairTest(NamedTuple):
    """Wilcoxon's test of two settings over `runs` folds and seeds; `p_holm` after correction."""

    setting: str
    against: str
    measure: str
    runs: int
    median_difference: float
    p: float
    p_holm: float


class Ranks(NamedTuple):
    """What the folds and seeds say of the settings `names`.

    Attributes:
        keys: the folds and seeds in which the measure is defined for all settings.
        values: float64 (runs, settings).
        friedman: p of Friedman's test; None for fewer than three settings or runs.
        letters: per setting; two settings with a letter in common are not distinguishable.
    """

    names: list[str]
    keys: list[Key]
    values: np.ndarray
    friedman: float | None
    pairs: list[PairTest]
    letters: list[str]


def rank(settings: Sequence[Setting], metric: str) -> Ranks:
    """Rank settings by a measure in each fold and seed.

    Friedman's test (scipy.stats.friedmanchisquare), Wilcoxon's signed-rank test of all pairs
    (scipy.stats.wilcoxon), Holm's correction for their number (statsmodels), and a compact letter
    display (Piepho, J Comput Graph Stat 13:456, 2004).
    """
    # Slow to import.
    from scipy.stats import friedmanchisquare
    from statsmodels.stats.multitest import multipletests

    names = [setting.name for setting in settings]
    found = {
        key: [setting.runs[key].measures().get(metric) for setting in settings]
        for key in settings[0].runs
    }
    keys = [key for key in sorted(found, key=str) if None not in found[key]]
    values = np.array([found[key] for key in keys], dtype=np.float64).reshape(len(keys), len(names))
    friedman = None
    if len(names) > 2 and len(keys) > 2:
        same = np.all(values == values[:, :1])
        friedman = 1.0 if same else float(friedmanchisquare(*values.T).pvalue)
    couples = list(combinations(range(len(names)), 2)) if len(keys) > 1 else []
    plain = [_wilcoxon(values[:, one] - values[:, other]) for one, other in couples]
    corrected = multipletests(plain, alpha=LEVEL, method="holm")[1] if plain else []
    pairs = [
        PairTest(
            names[one],
            names[other],
            metric,
            len(keys),
            float(np.median(values[:, one] - values[:, other])),
            p,
            float(holm),
        )
        for (one, other), p, holm in zip(couples, plain, corrected)
    ]
    apart = {frozenset(couple) for couple, pair in zip(couples, pairs) if pair.p_holm < LEVEL}
    better_first = np.argsort(_lower_is_better(values, metric).sum(axis=0), kind="stable")
    return Ranks(
        names, keys, values, friedman, pairs, compact_letters(better_first.tolist(), apart)
    )


def _wilcoxon(differences: np.ndarray) -> float:
    from scipy.stats import wilcoxon

    return float(wilcoxon(differences).pvalue) if np.any(differences) else 1.0


def compact_letters(best_first: Sequence[int], apart: set[frozenset[int]]) -> list[str]:
    """Return the letters of each item: two items have one in common unless they are `apart`.

    >>> compact_letters([2, 0, 1], {frozenset({1, 2})})
    ['ab', 'b', 'a']
    """
    groups = [set(best_first)]
    for pair in sorted(apart, key=sorted):
        groups = [
            part
            for group in groups
            for part in ([group - {one} for one in sorted(pair)] if pair <= group else [group])
        ]
        groups = [
            group
            for place, group in enumerate(groups)
            if not any(
                group < other or (group == other and earlier < place)
                for earlier, other in enumerate(groups)
            )
        ]
    if len(groups) > len(ascii_letters):
        raise UserError(
            f"{len(groups)} groups of settings are more than the {len(ascii_letters)} letters; "
            "choose fewer settings with --where"
        )
    order = list(best_first)
    groups.sort(key=lambda group: sorted(order.index(one) for one in group))
    return [
        "".join(letter for letter, group in zip(ascii_letters, groups) if item in group)
        for item in sorted(best_first)
    ]


def rank_section(ranks: Ranks, metric: str) -> list[str]:
    """Return the section of the page: each fold and seed, the tests, and their limits."""
    runs = len(ranks.keys)
    if len(ranks.names) < 2 or not ranks.pairs:
        return []
    lines = ["", f"{title(metric)} in each fold and seed:", ""]
    cells = [
        [_name(key), *(f"{value:.3f}" for value in row)]
        for key, row in zip(ranks.keys, ranks.values)
    ]
    lines += markdown_table(
        [", ".join((FOLD, *SEEDS)), *(f"`{name}`" for name in ranks.names)], cells
    )
    lines += [
        "",
        f"By ranks over these {runs} folds and seeds (settings with a letter in common are not "
        "distinguishable):",
        "",
    ]
    columns = zip(ranks.names, mean_ranks(ranks, metric), ranks.letters)
    cells = [[f"`{name}`", f"{mean:.2f}", letters] for name, mean, letters in columns]
    lines += markdown_table(["setting", "mean rank", "letters"], cells)
    friedman = ""
    if ranks.friedman is not None:
        friedman = f"Friedman's test of {len(ranks.names)} settings: p = {ranks.friedman:.3g}. "
    lines += ["", f"{friedman}Pairs by Wilcoxon's signed-rank test:", ""]
    lines += markdown_table(
        ["setting", "against", "median difference", "p", "p (Holm)"],
        [
            [
                f"`{pair.setting}`",
                f"`{pair.against}`",
                f"{pair.median_difference:+.3f}",
                f"{pair.p:.3g}",
                f"{pair.p_holm:.3g}",
            ]
            for pair in ranks.pairs
        ],
    )
    least = min(1.0, 2.0 ** (1 - runs) * len(ranks.pairs))
    cannot = (
        f"so that no pair can be distinguished at {LEVEL}: more seeds are needed"
        if least >= LEVEL
        else "at best"
    )
    count = f"{len(ranks.pairs)} pair{'s' if len(ranks.pairs) > 1 else ''}"
    lines += [
        "",
        f"With {runs} folds and seeds and {count} the least p (Holm) is {least:.2g}, {cannot}. "
        "Folds share training slides, so that these p are too small (Nadeau and Bengio 2003): "
        "decide by the intervals over slides.",
    ]
    return lines


def _name(key: Key) -> str:
    return ", ".join(
        "-" if value is None else f"{value:g}" if isinstance(value, int | float) else str(value)
        for value in key
    )


def mean_ranks(ranks: Ranks, metric: str) -> list[float]:
    """Return each setting's mean rank, 1 for the best in a fold."""
    from scipy.stats import rankdata

    return rankdata(_lower_is_better(ranks.values, metric), axis=1).mean(axis=0).tolist()


def _lower_is_better(values: np.ndarray, metric: str) -> np.ndarray:
    return -MEASURES[metric].sign * values
