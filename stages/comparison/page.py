"""The comparison as a page and as a table."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.base.files import write_table
from stages.comparison.differences import Difference, Interval
from stages.comparison.ranks import Ranks, rank_section
from stages.comparison.settings import Setting
from stages.experiments.markdown import markdown_table
from stages.experiments.settings import as_yaml
from stages.measures.resampling import WITH_INTERVALS, too_small
from stages.measures.scores import MEASURES, title

COLUMNS = (
    *("measure", "experiments", "mean", "standard_deviation", "least", "most"),
    *("pooled", "low", "high"),
)


def comparison_page(
    settings: Sequence[Setting],
    by: Sequence[str],
    metric: str,
    measured: Sequence[dict],
    found: Sequence[Difference],
    ranks: Ranks,
) -> str:
    """Return the comparison as Markdown: pooled measures, their spread, differences and ranks."""
    first = settings[0]
    params = next(iter(first.runs.values())).params
    predictions = first.pooled[0].predictions
    slides = len(np.unique(predictions.slides))
    folds = sorted({int(key[0]) for key in first.runs if key[0] is not None})
    repetitions = len(first.pooled)
    names = tuple(dict.fromkeys((metric, *WITH_INTERVALS)))
    header = by or ["experiments"]
    values = [[*map(as_yaml, setting.values)] if by else ["all"] for setting in settings]
    lines = [
        "# Comparison",
        "",
        f"Dataset `{as_yaml(params['data'])}`: {len(predictions.y_true)} glomeruli "
        f"({int(predictions.y_true.sum())} globally sclerotic) of {slides} slides, kept apart by "
        f"{as_yaml(params['split.by'])}; fold{'s' if len(folds) > 1 else ''} "
        f"{', '.join(map(str, folds))} of {as_yaml(params['split.folds'])}; {repetitions} "
        f"training{'s' if repetitions > 1 else ''} of each; "
        f"{sum(len(setting.runs) for setting in settings)} experiments.",
        "",
        "Test predictions of the folds pooled, with 95 % intervals from a bootstrap over slides:",
        "",
        *markdown_table(
            [*header, *map(title, names)],
            [
                [*row, *(_with_interval(measures[name]) for name in names)]
                for row, measures in zip(values, measured)
            ],
        ),
    ]
    widths = {
        name: span["high"] - span["low"]
        for measures in measured
        for name in names
        if (span := measures[name])
    }
    if small := too_small(slides, widths):
        lines += ["", small]
    lines += [
        "",
        "Mean ± standard deviation over the folds and seeds:",
        "",
        *markdown_table(
            [*header, *map(title, MEASURES)],
            [
                [*row, *(_with_deviation(values_of_runs(setting, name)) for name in MEASURES)]
                for row, setting in zip(values, settings)
            ],
        ),
    ]
    if found:
        lines += [
            "",
            f"Each against `{found[0].against}`, on the same glomeruli, by {title(metric)}:",
            "",
            *(f"- {difference.sentence()}" for difference in found),
        ]
    if len(found) > 1:
        lines += [
            "",
            f"With 95 %, the intervals of these {len(found)} differences all hold at once.",
        ]
    lines += rank_section(ranks, metric)
    if repetitions == 1:
        lines += [
            "",
            "One training each: the intervals are those of other patients, not of other trainings. "
            "`-S 'train.seed=range(0,3)'` adds trainings.",
        ]
    return "\n".join(lines) + "\n"


def values_of_runs(setting: Setting, measure: str) -> list[float]:
    values = (experiment.measures().get(measure) for experiment in setting.runs.values())
    return [value for value in values if value is not None]


def _with_interval(measured: Interval) -> str:
    if not measured:
        return "not defined"
    return f"{measured['value']:.3f} ({measured['low']:.3f}-{measured['high']:.3f})"


def _with_deviation(values: Sequence[float]) -> str:
    if not values:
        return "not defined"
    deviation = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{deviation}"


def write_settings(
    path: Path, settings: Sequence[Setting], by: Sequence[str], measured: Sequence[dict]
) -> None:
    """Write one row per setting and measure: spread over the runs, pooled value and interval."""
    rows = []
    for setting, measures in zip(settings, measured):
        recorded = set.intersection(*(set(one.measures()) for one in setting.runs.values()))
        for name in (*MEASURES, *sorted(recorded - set(MEASURES))):
            values = values_of_runs(setting, name)
            spread: list = [""] * 4
            if values:
                deviation = np.std(values, ddof=1) if len(values) > 1 else ""
                spread = [np.mean(values), deviation, min(values), max(values)]
            whole = measures.get(name) or {}
            pooled = [whole.get(key, "") for key in ("value", "low", "high")]
            rows.append([*map(as_yaml, setting.values), name, len(values), *spread, *pooled])
    write_table(path, (*by, *COLUMNS), rows)
