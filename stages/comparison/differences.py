"""Settings in pairs on the same glomeruli: their measures and differences, with intervals from a
bootstrap over slides.
"""

from collections.abc import Sequence
from typing import NamedTuple

from stages.comparison.settings import Setting
from stages.measures.pooled import differences, measure_draws
from stages.measures.resampling import WITH_INTERVALS, interval
from stages.measures.scores import Outcome, outcome, title

Interval = dict[str, float] | None


class Difference(NamedTuple):
    """One setting against another: the measure of both, the difference and its interval at `level`,
    the verdict in a word.
    """

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
            f"{title(self.measure)} {self.value:.3f} and {self.reference:.3f}, difference {difference:+.3f} "
            f"({100 * self.level:.3g} % interval {self.low:+.3f} to {self.high:+.3f})"
        )
        if self.verdict == "not distinguishable":
            return f"`{self.setting}` and `{self.against}` are not distinguishable on this data: {measured}."
        return f"`{self.setting}` is {self.verdict} than `{self.against}`: {measured}."


def bootstrap(
    settings: Sequence[Setting], reference: Setting, metric: str, replicates: int, seed: int
) -> tuple[list[dict[str, Interval]], list[Difference]]:
    """Return for each setting its pooled measures with 95 % intervals, and each setting's
    difference from `reference`.

    See `stages.measures.pooled.measure_draws`. The level of the differences' intervals is 1 - 0.05
    / k for k differences (Bonferroni): the chance that any of them misses is 5 %.
    """
    names = tuple(dict.fromkeys((*WITH_INTERVALS, metric)))
    whole, drawn = measure_draws([setting.pooled for setting in settings], names, replicates, seed)
    measured: list[dict[str, Interval]] = []
    for measures, draws in zip(whole, drawn):
        spans = {
            name: interval([of_it for one in draws if (of_it := one[name]) is not None], replicates)
            for name in names
        }
        measured.append({name: _with_value(measures[name], spans[name]) for name in names})

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
        found.append(
            Difference(
                setting.name, reference.name, metric, value, against, low, high, level, verdict
            )
        )
    return measured, found


def _with_value(value: float | None, span: Interval) -> Interval:
    return None if value is None or span is None else {"value": value, **span}
