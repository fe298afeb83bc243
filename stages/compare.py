"""Compare experiments over folds and seeds: which setting is better on the next patient, and is that sure?

    python -m stages.compare                                   all experiments that start from HEAD
    python -m stages.compare --where data=aidpath --by model.step
    python -m stages.compare --by pad.mode,pad.size --against white,64 --metric average_precision

Experiments with the same values of the parameters in --by are one setting; split.fold, split.seed, split.validation and
train.seed are its repetitions. The test predictions of the folds are pooled: each glomerulus is judged once, by a model
that has not seen its slide. Settings are compared in pairs on the same glomeruli, each against one, with an interval of
the difference.
Writes comparison.md, settings.csv, differences.csv and comparison.png into the folder --output.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.base.errors import UserError, refuse, run_stage
from stages.base.files import replacing, write_table
from stages.base.progress import progress
from stages.charts import BLUE, GREY, save_chart
from stages.dataset.predictions import Predictions
from stages.experiments import Experiment, Value, flatten, params_with, read_experiments, shown
from stages.measures.pooled import Pooled, differences, measure_draws, pool
from stages.measures.resampling import WITH_INTERVALS, interval
from stages.measures.scores import LOWER_IS_BETTER, OF_PROBABILITIES, rates, title

FOLD, SEEDS = "split.fold", ("split.seed", "split.validation", "train.seed")
# What gives other results neither by being better nor by being worse.
IRRELEVANT = ("train.resume", "manifest.unreadable", "evaluate.bootstrap", "evaluate.seed", "climb.", "external")
SAME_GLOMERULI = ("data", "split.by", "split.folds")
MEASURES = (*OF_PROBABILITIES, *rates(1, 1, 1, 1))
TEST = "metrics/predictions.csv"


Key = tuple[Value, ...]
Interval = dict[str, float] | None


class Setting(NamedTuple):
    """All experiments with the same values of the grouping parameters.

    `runs` has one for each (fold, *seeds), `pooled` has for each combination of the seeds the predictions of all folds.
    """

    values: Key
    runs: dict[Key, Experiment]
    pooled: list[Pooled]

    @property
    def name(self) -> str:
        return ", ".join(map(shown, self.values)) or "all"


class Difference(NamedTuple):
    """One setting against another: the measure of both, the difference and its interval at `level`, the verdict in a word."""

    setting: str
    against: str
    measure: str
    value: float
    reference: float
    low: float
    high: float
    level: float
    verdict: str

    def sentence(self) -> str:
        difference = self.value - self.reference
        measured = (
            f"{title(self.measure)} {self.value:.3f} and {self.reference:.3f}, difference {difference:+.3f} "
            f"({100 * self.level:.3g} % interval {self.low:+.3f} to {self.high:+.3f})"
        )
        if self.verdict == "not distinguishable":
            return f"`{self.setting}` and `{self.against}` are not distinguishable on this data: {measured}."
        return f"`{self.setting}` is {self.verdict} than `{self.against}`: {measured}."


def main() -> None:
    arguments = parse_arguments()
    experiments = choose(read_experiments(arguments.rev, arguments.num), arguments.experiments, arguments.where)
    by = arguments.by if arguments.by is not None else varying(experiments)
    settings = group(experiments, by)
    reference = find_reference(settings, by, arguments.against)
    measured, found = bootstrap(settings, reference, arguments.metric, arguments.replicates, arguments.seed)
    text = report(settings, by, arguments.metric, measured, found)
    print(text)
    output = Path(arguments.output)
    with replacing(output / "comparison.md") as file:
        file.write(text)
    write_settings(output / "settings.csv", settings, by, measured)
    write_table(output / "differences.csv", Difference._fields, found)
    draw(output / "comparison.png", settings, arguments.metric, measured)
    print(f"written to {output}/", file=sys.stderr)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiments", nargs="*", help="names of experiments (default: all that start from --rev)")
    parser.add_argument("--by", type=_names, help="grouping parameters (default: all that vary, but for folds and seeds)")
    parser.add_argument("--where", action="append", default=[], metavar="NAME=VALUE", help="only experiments with this value")
    parser.add_argument("--against", metavar="VALUE[,VALUE]", help="the setting to compare with (default: that of params.yaml)")
    parser.add_argument("--metric", choices=MEASURES, default="roc_auc", help="the measure to decide by (default: roc_auc)")
    parser.add_argument("--rev", action="append", default=[], help="the commit, branch or tag that the experiments start from")
    parser.add_argument("--num", type=int, default=1, help="how many commits to go back from there (default: 1)")
    parser.add_argument("--replicates", type=_replicates, default=2000, help="draws of slides for the intervals (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="of these draws (default: 0)")
    parser.add_argument("--output", default="comparison", help="the folder to write to (default: comparison)")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _replicates(text: str) -> int:
    if not (text.isdecimal() and 100 <= int(text) <= 1_000_000):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 100 to 1000000")
    return int(text)


def choose(experiments: Sequence[Experiment], names: Sequence[str], where: Sequence[str]) -> list[Experiment]:
    """Return the experiments with these names (all without any) and with these parameters, each `name=value`.

    Raises:
        UserError: a name or a parameter does not exist, or nothing is left.
    """
    known = {experiment.name for experiment in experiments}
    refuse([f"there is no finished experiment {name}; `dvc exp list` names them" for name in names if name not in known])
    chosen = [experiment for experiment in experiments if not names or experiment.name in names]
    for condition in where:
        name, _, value = condition.partition("=")
        _known(chosen, [name], "--where")
        chosen = [experiment for experiment in chosen if shown(experiment.params[name]) == value]
    if not chosen:
        raise UserError(
            "there is no finished experiment to compare; `dvc exp run` makes some, and --rev says where they start from"
        )
    return chosen


def _known(experiments: Sequence[Experiment], names: Sequence[str], option: str) -> None:
    for experiment in experiments[:1]:
        refuse([f"{option}: {name} is not a parameter of params.yaml" for name in names if name not in experiment.params])


def varying(experiments: Sequence[Experiment]) -> list[str]:
    """Return the parameters in which the experiments differ, but for folds, seeds and what does not matter."""
    names = [name for name in experiments[0].params if name not in (FOLD, *SEEDS) and not name.startswith(IRRELEVANT)]
    return [name for name in names if len({experiment.params[name] for experiment in experiments}) > 1]


def group(experiments: Sequence[Experiment], by: Sequence[str]) -> list[Setting]:
    """Return the settings, in the order of their values.

    Raises:
        UserError: they cannot be compared: another dataset, other folds or glomeruli, a fold that one lacks, other differences
            than those in `by`, two experiments with the same parameters and other predictions, or one that ran only in part.
    """
    _known(experiments, by, "--by")
    for name in SAME_GLOMERULI:
        found = sorted({shown(experiment.params[name]) for experiment in experiments})
        if len(found) > 1:
            raise UserError(
                f"experiments with another {name} judge other glomeruli and cannot be compared: {', '.join(found)}; "
                f"choose one with --where {name}={found[0]}"
            )
    refuse(
        [
            f"the experiments also differ in {name} ({', '.join(sorted({shown(e.params[name]) for e in experiments}))}): "
            f"add it to --by, or choose with --where {name}=..."
            for name in varying(experiments)
            if name not in by
        ]
    )
    runs: dict[Key, dict[Key, Experiment]] = {}
    predictions: dict[str, Predictions] = {}
    for experiment in progress(experiments, desc="reading", unit="experiment"):
        experiment.refuse_if_partial()
        predictions[experiment.name] = experiment.predictions(TEST)
        setting = runs.setdefault(tuple(experiment.params[name] for name in by), {})
        key = tuple(experiment.params.get(name) for name in (FOLD, *SEEDS))
        twin = setting.setdefault(key, experiment)
        if not all(np.array_equal(a, b) for a, b in zip(predictions[twin.name], predictions[experiment.name])):
            raise UserError(
                f"{twin.name} and {experiment.name} have the same parameters and other predictions: they are of different code; "
                "name the experiments to compare, or remove one with `dvc exp remove`"
            )
    _refuse_other_glomeruli(runs, predictions, by)
    if len({tuple(sorted(experiment.inputs.items())) for experiment in experiments}) > 1:
        changed = sorted(f for f in experiments[0].inputs if len({e.inputs.get(f) for e in experiments}) > 1)
        print(f"warning: the experiments are of different code ({', '.join(changed)})", file=sys.stderr)
    return [Setting(values, runs[values], _pool(runs[values], predictions)) for values in sorted(runs, key=_order)]


def _refuse_other_glomeruli(runs: dict, predictions: dict[str, Predictions], by: Sequence[str]) -> None:
    first = next(iter(runs))
    everywhere = sorted({key for setting in runs.values() for key in setting}, key=_order)
    missing = [
        f"there is no experiment with {', '.join(f'{n}={shown(v)}' for n, v in zip((*by, FOLD, *SEEDS), (*values, *key)))}, "
        "which others have; run it, or leave out the others with --where"
        for values, setting in runs.items()
        for key in everywhere
        if key not in setting
    ]
    refuse(missing)
    for setting in runs.values():
        for key, experiment in setting.items():
            ours, theirs = predictions[experiment.name], predictions[runs[first][key].name]
            if not (np.array_equal(ours.paths, theirs.paths) and np.array_equal(ours.y_true, theirs.y_true)):
                raise UserError(
                    f"{experiment.name} and {runs[first][key].name} were tested on other glomeruli or labels, though their "
                    "parameters are the same: the dataset or the split has changed between them"
                )


def _pool(runs: dict[Key, Experiment], predictions: dict[str, Predictions]) -> list[Pooled]:
    pooled = []
    for seeds in sorted({key[1:] for key in runs}, key=_order):
        folds = [runs[key] for key in sorted(runs, key=_order) if key[1:] == seeds]
        thresholds = [experiment.measures()["threshold"] for experiment in folds]
        pooled.append(pool([predictions[experiment.name] for experiment in folds], thresholds))
    return pooled


def _order(values: Key) -> list[tuple[str, Value]]:
    # Numbers by size, then texts; values of an older commit may be missing.
    return [(type(value).__name__, "" if value is None else value) for value in values]


def find_reference(settings: Sequence[Setting], by: Sequence[str], against: str | None) -> Setting:
    """Return the setting that the others are compared with: `against`, or that of params.yaml, or else the first."""
    current = flatten(params_with())
    wanted = _names(against) if against is not None else [shown(current[name]) for name in by]
    for setting in settings:
        if [shown(value) for value in setting.values] == wanted:
            return setting
    if against is None:
        return settings[0]
    names = "; ".join(",".join(map(shown, setting.values)) for setting in settings)
    raise UserError(f"--against {against}: there is no such setting of {', '.join(by)}; there are {names}")


def bootstrap(
    settings: Sequence[Setting], reference: Setting, metric: str, replicates: int, seed: int
) -> tuple[list[dict[str, Interval]], list[Difference]]:
    """Return for each setting its pooled measures with 95 % intervals, and each setting's difference from `reference`.

    See `stages.pooled.measure_draws`. The level of the differences' intervals is 1 - 0.05 / k for k differences (Bonferroni):
    the chance that any of them misses is 5 %.
    """
    names = tuple(dict.fromkeys((*WITH_INTERVALS, metric)))
    whole, drawn = measure_draws([setting.pooled for setting in settings], names, replicates, seed)
    measured: list[dict[str, Interval]] = []
    for measures, draws in zip(whole, drawn):
        spans = {name: interval([one[name] for one in draws if one[name] is not None], replicates) for name in names}
        measured.append({name: {"value": measures[name], **spans[name]} if spans[name] else None for name in names})

    found = []
    level = 1 - 0.05 / max(1, len(settings) - 1)
    base = settings.index(reference)
    for number, setting in enumerate(settings):
        span = interval(differences(drawn[number], drawn[base], metric), replicates, level)
        if number == base or span is None:
            continue
        low, high = span["low"], span["high"]
        better, worse = (high < 0, low > 0) if metric in LOWER_IS_BETTER else (low > 0, high < 0)
        verdict = "better" if better else "worse" if worse else "not distinguishable"
        value, against = whole[number][metric], whole[base][metric]
        found.append(Difference(setting.name, reference.name, metric, value, against, low, high, level, verdict))
    return measured, found


def report(
    settings: Sequence[Setting], by: Sequence[str], metric: str, measured: Sequence[dict], found: Sequence[Difference]
) -> str:
    """Return the comparison as Markdown: pooled measures, mean and spread over the repetitions, and a sentence for each pair."""
    first = settings[0]
    params = next(iter(first.runs.values())).params
    predictions = first.pooled[0].predictions
    folds = sorted({int(key[0]) for key in first.runs})
    repetitions = len(first.pooled)
    lines = [
        "# Comparison",
        "",
        f"Dataset `{shown(params['data'])}`: {len(predictions.y_true)} glomeruli ({int(predictions.y_true.sum())} globally "
        f"sclerotic) of {len(np.unique(predictions.slides))} slides, kept apart by {shown(params['split.by'])}; "
        f"fold{'s' if len(folds) > 1 else ''} {', '.join(map(str, folds))} of {shown(params['split.folds'])}; "
        f"{repetitions} training{'s' if repetitions > 1 else ''} of each; {sum(len(s.runs) for s in settings)} experiments.",
        "",
        "Test predictions of the folds pooled, with 95 % intervals from a bootstrap over slides:",
        "",
    ]
    names = tuple(dict.fromkeys((metric, *WITH_INTERVALS)))
    header = by or ["experiments"]
    lines += _markdown(
        [*header, *map(title, names)],
        [
            [*(map(shown, setting.values) if by else ["all"]), *(_with_interval(measures[name]) for name in names)]
            for setting, measures in zip(settings, measured)
        ],
    )
    lines += ["", "Mean ± standard deviation over the folds and seeds:", ""]
    lines += _markdown(
        [*header, *map(title, MEASURES)],
        [
            [*(map(shown, setting.values) if by else ["all"]), *(_with_spread(_of_runs(setting, name)) for name in MEASURES)]
            for setting in settings
        ],
    )
    if found:
        lines += ["", f"Each against `{found[0].against}`, on the same glomeruli, by {title(metric)}:", ""]
        lines += [f"- {difference.sentence()}" for difference in found]
        if len(found) > 1:
            lines += ["", f"The intervals of these {len(found)} differences are wide enough to hold all at once with 95 %."]
    if repetitions == 1:
        lines += [
            "",
            "One training each: the intervals are of other patients, not of another training. "
            "`-S 'train.seed=range(0,3)'` adds trainings.",
        ]
    return "\n".join(lines) + "\n"


def _of_runs(setting: Setting, measure: str) -> list[float]:
    values = (experiment.measures().get(measure) for experiment in setting.runs.values())
    return [value for value in values if value is not None]


def _with_interval(measured: Interval) -> str:
    return f"{measured['value']:.3f} ({measured['low']:.3f}-{measured['high']:.3f})" if measured else "not defined"


def _with_spread(values: Sequence[float]) -> str:
    if not values:
        return "not defined"
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]


def write_settings(path: Path, settings: Sequence[Setting], by: Sequence[str], measured: Sequence[dict]) -> None:
    """Write one row for each setting and measure: its spread over the runs, and the pooled value with its interval."""
    rows = []
    for setting, measures in zip(settings, measured):
        recorded = sorted(set.intersection(*(set(experiment.measures()) for experiment in setting.runs.values())))
        for name in (*MEASURES, *(name for name in recorded if name not in MEASURES)):
            values = _of_runs(setting, name)
            spread = (
                [np.mean(values), np.std(values, ddof=1) if len(values) > 1 else "", min(values), max(values)]
                if values
                else [""] * 4
            )
            whole = measures.get(name) or {}
            interval_cells = [whole.get(key, "") for key in ("value", "low", "high")]
            rows.append([*map(shown, setting.values), name, len(values), *spread, *interval_cells])
    columns = (*by, "measure", "experiments", "mean", "standard_deviation", "least", "most", "pooled", "low", "high")
    write_table(path, columns, rows)


def draw(path: Path, settings: Sequence[Setting], metric: str, measured: Sequence[dict]) -> None:
    """Draw each setting's pooled measure with its interval, and its single folds and seeds as ticks."""
    order = [setting.name for setting in settings]
    wholes = [{"setting": name, **measures[metric]} for name, measures in zip(order, measured) if measures[metric]]
    runs = [{"setting": setting.name, "value": value} for setting in settings for value in _of_runs(setting, metric)]
    y = {"field": "setting", "type": "nominal", "sort": order, "title": None, "axis": {"labelFontSize": 13, "labelLimit": 300}}
    scale = {"zero": False, "nice": True}

    def x(field: str) -> dict:
        return {"field": field, "type": "quantitative", "scale": scale, "title": title(metric), "axis": {"tickCount": 8}}

    chart = {
        "title": {
            "text": f"{title(metric)} on the test glomeruli",
            "subtitle": "point and line: folds pooled, with its 95 % interval over slides; ticks: single folds and seeds",
            "anchor": "start",
        },
        "width": 520,
        "height": {"step": 34},
        "layer": [
            {
                "data": {"values": runs},
                "mark": {"type": "tick", "color": GREY, "thickness": 2, "size": 14},
                "encoding": {"y": y, "x": x("value")},
            },
            {
                "data": {"values": wholes},
                "mark": {"type": "rule", "color": BLUE, "strokeWidth": 3},
                "encoding": {"y": y, "x": x("low"), "x2": {"field": "high"}},
            },
            {
                "data": {"values": wholes},
                "mark": {"type": "point", "color": BLUE, "filled": True, "size": 110, "opacity": 1},
                "encoding": {"y": y, "x": x("value")},
            },
        ],
    }
    save_chart(path, chart)


if __name__ == "__main__":
    run_stage(main)
