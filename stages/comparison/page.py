"""The comparison as a page and as a table."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.base.files import write_table
from stages.comparison.differences import SettingDifference
from stages.comparison.settings import FOLD, SEEDS, Setting
from stages.experiments.markdown import markdown_table, three_digits
from stages.experiments.settings import as_yaml
from stages.measures.influence import Sample
from stages.measures.intervals import Estimate, estimate
from stages.measures.scores import MEASURES, WITHIN_FOLDS, title
from stages.measures.sizes import too_small

ABOUT_WITHIN_FOLDS = (
    f"{title(WITHIN_FOLDS)} ranks each crop against those of the same fold. A pooled measure of "
    "ranking also ranks crops of different folds against each other: it mixes ranking with how "
    "alike the models of the folds are calibrated."
)
COLUMNS = (
    *("measure", "experiments", "mean", "standard_deviation", "least", "most"),
    *("pooled", "low", "high"),
)


def comparison_page(
    settings: Sequence[Setting],
    by: Sequence[str],
    metric: str,
    measured: Sequence[dict[str, Estimate]],
    found: Sequence[SettingDifference],
) -> str:
    """Return the comparison as Markdown: pooled measures, their spread and differences."""
    first, names = settings[0], tuple(measured[0])
    unit = "site" if first.by_site else "slide"
    header = by or ["experiments"]
    values = [[*map(as_yaml, setting.values)] if by else ["all"] for setting in settings]
    lines = [
        "# Comparison",
        "",
        about_crops(settings),
        "",
        f"Test predictions of the folds pooled, {_about_intervals(unit, measured)}:",
        "",
        *markdown_table(
            [*header, *(_heading(name, names) for name in names)],
            [
                [*row, *(with_interval(measures[name]) for name in names)]
                for row, measures in zip(values, measured)
            ],
        ),
    ]
    if WITHIN_FOLDS in names:
        lines += [
            "",
            ABOUT_WITHIN_FOLDS,
        ]
    lines += _sites_section(settings, header, values, metric)
    if small := about_size(settings, measured):
        lines += ["", small]
    lines += [
        "",
        "Mean ± standard deviation over the folds and seeds:",
        "",
        *markdown_table(
            [*header, *map(title, MEASURES)],
            [
                [*row, *(with_deviation(values_of_runs(setting, name)) for name in MEASURES)]
                for row, setting in zip(values, settings)
            ],
        ),
    ]
    if found:
        lines += [
            "",
            f"Each against `{found[0].against}`, on the same glomeruli, by "
            f"{title(found[0].measure)}:",
            "",
            *(f"- {difference.sentence()}" for difference in found),
        ]
    if len(found) > 1:
        lines += [
            "",
            f"With 95 %, the intervals of these {len(found)} differences all hold at once.",
        ]
    lines += _runs_section(settings, metric)
    if len(first.pooled) == 1:
        lines += [
            "",
            f"One training each: the intervals are those of other {unit}s, not of other trainings. "
            "`-S 'train.seed=range(0,3)'` adds trainings.",
        ]
    return "\n".join(lines) + "\n"


def about_crops(settings: Sequence[Setting]) -> str:
    """Return a sentence on the crops, folds and trainings on which settings rest."""
    first = settings[0]
    params, sample = next(iter(first.runs.values())).params, first.pooled[0]
    slides, with_positives = _slides(sample)
    folds = sorted({int(key[0]) for key in first.runs if key[0] is not None})
    repetitions = len(first.pooled)
    return (
        f"Dataset `{as_yaml(params['data'])}`: {len(sample.y_true)} glomeruli "
        f"({int(sample.y_true.sum())} globally sclerotic) of {slides} slides, {with_positives} "
        f"with positives, kept apart by "
        f"{as_yaml(params['split.by'])}; fold{'s' if len(folds) > 1 else ''} "
        f"{', '.join(map(str, folds))} of {as_yaml(params['split.folds'])}; {repetitions} "
        f"training{'s' if repetitions > 1 else ''} of each; "
        f"{sum(len(setting.runs) for setting in settings)} experiments."
    )


def about_size(settings: Sequence[Setting], measured: Sequence[dict[str, Estimate]]) -> str:
    """Return a sentence on crops that are too few to tell much, or nothing."""
    first = settings[0]
    return "" if first.by_site else too_small(*_slides(first.pooled[0]), _widths(measured))


def _slides(sample: Sample) -> tuple[int, int]:
    """Return the number of slides, and of those with positives."""
    return len(np.unique(sample.slides)), len(np.unique(sample.slides[sample.y_true == 1]))


def _about_intervals(unit: str, measured: Sequence[dict[str, Estimate]]) -> str:
    """Return over what the intervals are, or why no setting has one."""
    found = [one for measures in measured for one in measures.values() if one.value is not None]
    if any(one.low is not None for one in found):
        return f"with 95 % intervals over {unit}s"
    return "without intervals" + (f" ({found[0].reason})" if found else "")


def _heading(name: str, names: Sequence[str]) -> str:
    pooled = WITHIN_FOLDS in names and name in ("roc_auc", "average_precision")
    return title(name) + ", pooled" * pooled


def _widths(measured: Sequence[dict[str, Estimate]]) -> dict[str, float | None]:
    """Return the widest interval of each measure; None if a setting has none."""
    widths: dict[str, float | None] = {}
    for name in measured[0]:
        found = [measures[name] for measures in measured]
        known = [
            one.high - one.low for one in found if one.low is not None and one.high is not None
        ]
        widths[name] = max(known) if len(known) == len(found) else None
    return widths


def _sites_section(
    settings: Sequence[Setting], header: Sequence[str], values: Sequence[list[str]], metric: str
) -> list[str]:
    """Return the measure of each site, which is what varies if each is left out in turn."""
    if not settings[0].by_site:
        return []
    sites = np.unique(settings[0].samples[0].slides)
    rows = []
    for row, setting in zip(values, settings):
        of_sites = [[one.at(one.slides == site) for one in setting.samples] for site in sites]
        rows.append([*row, *(three_digits(estimate(metric, one).value) for one in of_sites)])
    return [
        "",
        f"{title(metric)} of each site, by models that have not seen it:",
        "",
        *markdown_table([*header, *map(str, sites)], rows),
    ]


def _runs_section(settings: Sequence[Setting], metric: str) -> list[str]:
    """Return the measure of each setting in each fold and seed."""
    runs = settings[0].runs
    if len(settings) < 2 or len(runs) < 2:
        return []
    rows = []
    for key in sorted(runs, key=str):
        values = [setting.runs[key].measures().get(metric) for setting in settings]
        rows.append([", ".join(map(as_yaml, key)), *map(three_digits, values)])
    columns = [", ".join((FOLD, *SEEDS)), *(f"`{setting.name}`" for setting in settings)]
    return ["", f"{title(metric)} in each fold and seed:", "", *markdown_table(columns, rows)]


def values_of_runs(setting: Setting, measure: str) -> list[float]:
    """Return the measure in each fold and seed in which it is defined."""
    measure = "roc_auc" if measure == WITHIN_FOLDS else measure
    values = (experiment.measures().get(measure) for experiment in setting.runs.values())
    return [value for value in values if value is not None]


def with_interval(measured: Estimate) -> str:
    """Return a measure as a cell of a table."""
    interval = "" if measured.low is None else f" ({measured.low:.3f}-{measured.high:.3f})"
    return three_digits(measured.value) + interval


def with_deviation(values: Sequence[float]) -> str:
    """Return mean and standard deviation as a cell of a table."""
    if not values:
        return "not defined"
    deviation = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{deviation}"


def write_settings(
    path: Path,
    settings: Sequence[Setting],
    by: Sequence[str],
    measured: Sequence[dict[str, Estimate]],
) -> None:
    """Write one row per setting and measure: spread over the runs, pooled value and interval."""
    rows = []
    for setting, measures in zip(settings, measured):
        recorded = set.intersection(*(set(one.measures()) for one in setting.runs.values()))
        names = dict.fromkeys((*measures, *MEASURES, *sorted(recorded)))
        for name in names:
            values = values_of_runs(setting, name)
            spread: list = [""] * 4
            if values:
                deviation = np.std(values, ddof=1) if len(values) > 1 else ""
                spread = [np.mean(values), deviation, min(values), max(values)]
            whole = measures.get(name)
            pooled = ["", "", ""] if whole is None else [whole.value, whole.low, whole.high]
            rows.append([*map(as_yaml, setting.values), name, len(values), *spread, *pooled])
    write_table(path, (*by, *COLUMNS), rows)
