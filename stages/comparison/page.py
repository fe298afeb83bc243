"""The comparison as a page and as tables."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.base.files import write_table
from stages.comparison.differences import Difference, Interval
from stages.comparison.ranks import Ranks, tell
from stages.comparison.settings import Setting
from stages.experiments.markdown import markdown_table
from stages.experiments.settings import as_yaml
from stages.measures.resampling import WITH_INTERVALS, too_small
from stages.measures.scores import MEASURES, title


def report(
    settings: Sequence[Setting],
    by: Sequence[str],
    metric: str,
    measured: Sequence[dict],
    found: Sequence[Difference],
    ranks: Ranks,
) -> str:
    """Return the comparison as Markdown: pooled measures, mean and spread over the repetitions, and
    a sentence for each pair.
    """
    first = settings[0]
    params = next(iter(first.runs.values())).params
    predictions = first.pooled[0].predictions
    folds = sorted({int(key[0]) for key in first.runs if key[0] is not None})
    repetitions = len(first.pooled)
    lines = [
        "# Comparison",
        "",
        f"Dataset `{as_yaml(params['data'])}`: {len(predictions.y_true)} glomeruli ({int(predictions.y_true.sum())} globally "
        f"sclerotic) of {len(np.unique(predictions.slides))} slides, kept apart by {as_yaml(params['split.by'])}; "
        f"fold{'s' if len(folds) > 1 else ''} {', '.join(map(str, folds))} of {as_yaml(params['split.folds'])}; "
        f"{repetitions} training{'s' if repetitions > 1 else ''} of each; {sum(len(s.runs) for s in settings)} experiments.",
        "",
        "Test predictions of the folds pooled, with 95 % intervals from a bootstrap over slides:",
        "",
    ]
    names = tuple(dict.fromkeys((metric, *WITH_INTERVALS)))
    header = by or ["experiments"]
    lines += markdown_table(
        [*header, *map(title, names)],
        [
            [
                *(map(as_yaml, setting.values) if by else ["all"]),
                *(_with_interval(measures[name]) for name in names),
            ]
            for setting, measures in zip(settings, measured)
        ],
    )
    widths = {
        name: span["high"] - span["low"]
        for measures in measured
        for name in names
        if (span := measures[name])
    }
    if small := too_small(len(np.unique(predictions.slides)), widths):
        lines += ["", small]
    lines += ["", "Mean ± standard deviation over the folds and seeds:", ""]
    lines += markdown_table(
        [*header, *map(title, MEASURES)],
        [
            [
                *(map(as_yaml, setting.values) if by else ["all"]),
                *(_with_spread(of_runs(setting, name)) for name in MEASURES),
            ]
            for setting in settings
        ],
    )
    if found:
        lines += [
            "",
            f"Each against `{found[0].against}`, on the same glomeruli, by {title(metric)}:",
            "",
        ]
        lines += [f"- {difference.sentence()}" for difference in found]
        if len(found) > 1:
            lines += [
                "",
                f"The intervals of these {len(found)} differences are wide enough to hold all at once with 95 %.",
            ]
    lines += tell(ranks, metric)
    if repetitions == 1:
        lines += [
            "",
            "One training each: the intervals are of other patients, not of another training. "
            "`-S 'train.seed=range(0,3)'` adds trainings.",
        ]
    return "\n".join(lines) + "\n"


def of_runs(setting: Setting, measure: str) -> list[float]:
    values = (experiment.measures().get(measure) for experiment in setting.runs.values())
    return [value for value in values if value is not None]


def _with_interval(measured: Interval) -> str:
    return (
        f"{measured['value']:.3f} ({measured['low']:.3f}-{measured['high']:.3f})"
        if measured
        else "not defined"
    )


def _with_spread(values: Sequence[float]) -> str:
    if not values:
        return "not defined"
    return f"{np.mean(values):.3f}" + (
        f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    )


def write_settings(
    path: Path, settings: Sequence[Setting], by: Sequence[str], measured: Sequence[dict]
) -> None:
    """Write one row for each setting and measure: its spread over the runs, and the pooled value
    with its interval.
    """
    rows = []
    for setting, measures in zip(settings, measured):
        recorded = sorted(
            set.intersection(*(set(experiment.measures()) for experiment in setting.runs.values()))
        )
        for name in (*MEASURES, *(name for name in recorded if name not in MEASURES)):
            values = of_runs(setting, name)
            spread = (
                [
                    np.mean(values),
                    np.std(values, ddof=1) if len(values) > 1 else "",
                    min(values),
                    max(values),
                ]
                if values
                else [""] * 4
            )
            whole = measures.get(name) or {}
            interval_cells = [whole.get(key, "") for key in ("value", "low", "high")]
            rows.append(
                [*map(as_yaml, setting.values), name, len(values), *spread, *interval_cells]
            )
    columns = (
        *by,
        "measure",
        "experiments",
        "mean",
        "standard_deviation",
        "least",
        "most",
        "pooled",
        "low",
        "high",
    )
    write_table(path, columns, rows)
