"""Measures of settings and their differences, with intervals from a bootstrap over slides."""

from collections.abc import Sequence
from typing import NamedTuple

from stages.comparison.settings import Setting
from stages.measures.pooled import Measures, differences, measure_draws
from stages.measures.resampling import WITH_INTERVALS, interval
from stages.measures.scores import Outcome, outcome, title

Interval = dict[str, float] | None


class Difference(NamedTuple):
    """A setting against another: the measure of both, and the interval of the difference."""

    setting: str
    against: str
    measure: str
    value: float
    reference: float
    low: float
    high: float
    level: float
    verdict: Outcome

    def sentence(self) -> str:
        difference = self.value - self.reference
        measured = (
            f"{title(self.measure)} {self.value:.3f} and {self.reference:.3f}, difference "
            f"{difference:+.3f} "
            f"({100 * self.level:.3g} % interval {self.low:+.3f} to {self.high:+.3f})"
        )
        ours, theirs = f"`{self.setting}`", f"`{self.against}`"
        if self.verdict == "not distinguishable":
            return f"{ours} and {theirs} are not distinguishable on this data: {measured}."
        return f"{ours} is {self.verdict} than {theirs}: {measured}."


def bootstrap(
    settings: Sequence[Setting], reference: Setting, metric: str, replicates: int, seed: int
) -> tuple[list[dict[str, Interval]], list[Difference]]:
    """Return the pooled measures of each setting, and the differences from `reference`.

    Intervals of measures are at 95 %. Those of k differences are at 1 - 0.05 / k (Bonferroni), so
    that with 95 % all hold at once. See `stages.measures.pooled.measure_draws`.
    """
    names = tuple(dict.fromkeys((*WITH_INTERVALS, metric)))
    whole, drawn = measure_draws([setting.pooled for setting in settings], names, replicates, seed)
    measured = [
        {name: _with_interval(measures, draws, name, replicates) for name in names}
        for measures, draws in zip(whole, drawn)
    ]
    found = []
    level = 1 - 0.05 / max(1, len(settings) - 1)
    base = settings.index(reference)
    for number, setting in enumerate(settings):
        span = interval(differences(drawn[number], drawn[base], metric), replicates, level)
        value, against = whole[number][metric], whole[base][metric]
        if number == base or span is None or value is None or against is None:
            continue
        low, high = span["low"], span["high"]
        verdict = outcome(metric, low, high)
        pair = (setting.name, reference.name, metric, value, against, low, high, level, verdict)
        found.append(Difference(*pair))
    return measured, found


def _with_interval(
    measures: Measures, draws: Sequence[Measures], name: str, replicates: int
) -> Interval:
    value = measures[name]
    span = interval([one for draw in draws if (one := draw[name]) is not None], replicates)
    return None if value is None or span is None else {"value": value, **span}
