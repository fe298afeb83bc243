"""Measures of settings and their paired differences, with intervals over slides or over sites."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, assert_never

import numpy as np

from stages.comparison.settings import Setting
from stages.measures.influence import Sample
from stages.measures.intervals import Difference, Estimate, difference, estimate, of_enough_sites
from stages.measures.scores import WITHIN_FOLDS, Outcome, outcome, sign, title

# Measured for each setting, next to the measure that decides.
OTHERS = ("roc_auc", "sensitivity", "specificity", "f1")
LEVEL = 0.95
NonInferiority = Literal["non-inferior", "inferior", "not settled"]


class SettingDifference(NamedTuple):
    """A setting against another: the measure of both, and the interval of the difference.

    What is undefined is None, and `reason` says why. `margin` and `within_margin` are of --margin.
    """

    setting: str
    against: str
    measure: str
    value: float | None
    reference: float | None
    difference: float | None
    low: float | None
    high: float | None
    level: float
    verdict: Outcome
    margin: float | None
    within_margin: NonInferiority | None
    reason: str

    def sentence(self) -> str:
        ours, theirs, name = f"`{self.setting}`", f"`{self.against}`", title(self.measure)
        if self.value is None or self.reference is None or self.difference is None:
            return f"{ours} and {theirs} are not compared: {name} {self.reason}."
        if self.low is None:
            return (
                f"{ours} and {theirs} are not compared: {name} {self.value:.3f} and "
                f"{self.reference:.3f}, difference {self.difference:+.3f}, without an interval "
                f"({self.reason})."
            )
        if self.low == self.high == 0:
            return f"{ours} and {theirs} have the same {name}, {self.value:.3f}, on all slides."
        found = (
            f"{name} {self.value:.3f} and {self.reference:.3f}, difference {self.difference:+.3f} "
            f"({100 * self.level:.3g} % interval {self.low:+.3f} to {self.high:+.3f})"
        )
        if self.verdict == "not settled":
            text = f"Which of {ours} and {theirs} is better is not settled: {found}."
        else:
            text = f"{ours} is {self.verdict} than {theirs}: {found}."
        return f"{text}{self._about_margin()}"

    def _about_margin(self) -> str:
        match self.within_margin:
            case None:
                return ""
            case "non-inferior":
                return f" It is non-inferior: worse by less than {self.margin:g}, if at all."
            case "inferior":
                return f" It is inferior: worse by more than {self.margin:g}."
            case "not settled":
                return f" Whether it is worse by less than {self.margin:g} is not settled."
            case _:
                assert_never(self.within_margin)


def deciding(metric: str, settings: Sequence[Setting]) -> str:
    """Return the measure that decides: for ROC AUC of several folds that of the pairs of one fold.

    The ROC AUC of pooled folds mixes ranking with how alike their models are calibrated (Airola et
    al., Comput Stat Data Anal 55:1828, 2011; Forman and Scholz, SIGKDD Explor 12:49, 2010).
    """
    folds = settings[0].pooled[0].folds
    has_several = folds is not None and len(np.unique(folds)) > 1
    return WITHIN_FOLDS if metric == "roc_auc" and has_several else metric


def compare(
    settings: Sequence[Setting], reference: Setting, metric: str, margin: float | None = None
) -> tuple[list[dict[str, Estimate]], list[SettingDifference]]:
    """Return the measures of each setting, and the differences from `reference`.

    Measures have 95 % intervals. Those of k differences are at 1 - 0.05 / k (Bonferroni), so that
    with 95 % all hold at once. A setting is non-inferior if its interval, in the direction of the
    measure, is above -`margin`.
    """
    decides = deciding(metric, settings)
    names = tuple(dict.fromkeys((decides, deciding("roc_auc", settings), *OTHERS)))
    measured = [{name: _estimate(setting, name) for name in names} for setting in settings]
    level = 1 - (1 - LEVEL) / max(1, len(settings) - 1)
    base = measured[settings.index(reference)][decides].value
    found = []
    for setting, measures in zip(settings, measured):
        if setting is reference:
            continue
        one = paired(decides, setting.samples, reference.samples, level, setting.by_site)
        found.append(
            SettingDifference(
                setting.name,
                reference.name,
                decides,
                measures[decides].value,
                base,
                one.value,
                one.low,
                one.high,
                level,
                outcome(sign(decides), one.low, one.high),
                margin,
                None if margin is None else _within(decides, one.low, one.high, margin),
                one.reason,
            )
        )
    return measured, found


def paired(
    name: str, ours: Sequence[Sample], theirs: Sequence[Sample], level: float, by_site: bool
) -> Difference:
    """Return `difference`, without an interval if `slides` are sites, and too few of them."""
    found = difference(name, ours, theirs, level)
    return of_enough_sites(found) if by_site else found


def _estimate(setting: Setting, name: str) -> Estimate:
    found = estimate(name, setting.samples)
    return of_enough_sites(found) if setting.by_site else found


def _within(name: str, low: float | None, high: float | None, margin: float) -> NonInferiority:
    if low is None or high is None:
        return "not settled"
    low, high = sorted((sign(name) * low, sign(name) * high))
    return "non-inferior" if low > -margin else "inferior" if high < -margin else "not settled"
