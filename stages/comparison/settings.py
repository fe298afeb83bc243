"""Which experiments may be compared, and as what: settings with their repetitions over folds and
seeds.
"""

import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stages.base.errors import UserError, refuse
from stages.dataset.predictions import Predictions
from stages.experiments.inputs import kind_of
from stages.experiments.reading import Experiment, refuse_ambiguous
from stages.experiments.settings import (
    IRRELEVANT,
    Value,
    as_yaml,
    flatten,
    params_with,
    read_values,
)
from stages.measures.pooled import Pooled, pool
from stages.workers.progress import progress

FOLD, SEEDS = "split.fold", ("split.seed", "split.validation_offset", "train.seed")
SAME_GLOMERULI = ("data", "split.by", "split.folds")
TEST = "metrics/predictions.csv"
Key = tuple[Value, ...]


class Setting(NamedTuple):
    """All experiments with the same values of the grouping parameters.

    `runs` has one for each (fold, *seeds), `pooled` has for each combination of the seeds the
    predictions of all folds.
    """

    values: Key
    runs: dict[Key, Experiment]
    pooled: list[Pooled]

    @property
    def name(self) -> str:
        return ", ".join(map(as_yaml, self.values)) or "all"


def split_names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def choose(
    experiments: Sequence[Experiment], names: Sequence[str], where: Sequence[str]
) -> list[Experiment]:
    """Return the experiments with these names (all without any) and with these parameters, each
    `name=value`.

    Raises:
        UserError: a name or a parameter does not exist, or nothing is left.
    """
    # Out-of-fold measures, on which calibration and threshold rest, are no test measures.
    without_test = [
        experiment.name
        for experiment in experiments
        if experiment.params.get("split.test") == "none"
    ]
    refuse(
        [
            f"{name} was trained on all slides and has no test set; it cannot be compared"
            for name in names
            if name in without_test
        ]
    )
    if without_test:
        print(f"left out, trained on all slides: {', '.join(without_test)}", file=sys.stderr)
    experiments = [experiment for experiment in experiments if experiment.name not in without_test]
    known = {experiment.name for experiment in experiments}
    refuse(
        [
            f"there is no finished experiment {name}; `dvc exp list` names them"
            for name in names
            if name not in known
        ]
    )
    chosen = [experiment for experiment in experiments if not names or experiment.name in names]
    refuse_ambiguous(chosen, names)
    for condition in where:
        name, _, value = condition.partition("=")
        _known(chosen, [name], "--where")
        wanted = read_values(value, f"--where {name}=")
        chosen = [
            experiment for experiment in chosen if [as_yaml(experiment.params[name])] == wanted
        ]
    if not chosen:
        raise UserError(
            "there is no finished experiment to compare; `dvc exp run` makes some, and --rev says where they start from"
        )
    return chosen


def _known(experiments: Sequence[Experiment], names: Sequence[str], option: str) -> None:
    for experiment in experiments[:1]:
        refuse(
            [
                f"{option}: {name} is not a parameter of params.yaml"
                for name in names
                if name not in experiment.params
            ]
        )


def varying(experiments: Sequence[Experiment]) -> list[str]:
    """Return the parameters in which the experiments differ, but for folds, seeds and what does not
    matter.
    """
    names = [
        name
        for name in experiments[0].params
        if name not in (FOLD, *SEEDS) and not name.startswith(IRRELEVANT)
    ]
    return [
        name for name in names if len({experiment.params[name] for experiment in experiments}) > 1
    ]


def group(experiments: Sequence[Experiment], by: Sequence[str]) -> list[Setting]:
    """Return the settings, in the order of their values.

    Raises:
        UserError: they cannot be compared: another dataset, other folds or glomeruli, a fold that
            one lacks, other differences than those in `by`, two experiments with the same
            parameters and other predictions, or one that ran only in part.
    """
    _known(experiments, by, "--by")
    for name in SAME_GLOMERULI:
        found = sorted({as_yaml(experiment.params[name]) for experiment in experiments})
        if len(found) > 1:
            raise UserError(
                f"experiments with another {name} judge other glomeruli and cannot be compared: {', '.join(found)}; "
                f"choose one with --where {name}={found[0]}"
            )
    refuse(
        [
            f"the experiments also differ in {name} ({', '.join(sorted({as_yaml(e.params[name]) for e in experiments}))}): "
            f"add it to --by, or choose with --where {name}=..."
            for name in varying(experiments)
            if name not in by
        ]
    )
    runs: dict[Key, dict[Key, Experiment]] = {}
    predictions: dict[str, Predictions] = {}
    for experiment in progress(experiments, desc="reading", unit="experiment"):
        experiment.refuse_if_partial()
        predictions[experiment.commit] = experiment.predictions(TEST)
        setting = runs.setdefault(tuple(experiment.params[name] for name in by), {})
        key = tuple(experiment.params.get(name) for name in (FOLD, *SEEDS))
        twin = setting.setdefault(key, experiment)
        if not all(
            np.array_equal(a, b)
            for a, b in zip(predictions[twin.commit], predictions[experiment.commit])
        ):
            raise UserError(
                f"{twin.name} and {experiment.name} have the same parameters and other predictions: "
                f"{apart([twin, experiment]) or 'nothing on record explains it'}; "
                "name the experiments to compare, or remove one with `dvc exp remove`"
            )
    _refuse_other_glomeruli(runs, predictions, by)
    if differ := apart(experiments):
        print(f"warning: the experiments differ in more than parameters: {differ}", file=sys.stderr)
    return [
        Setting(values, runs[values], _pool(runs[values], predictions))
        for values in sorted(runs, key=_order)
    ]


def apart(experiments: Sequence[Experiment]) -> str:
    """Return in what else than parameters experiments differ, such as `other data (data/mine)`, or
    nothing.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted({path for experiment in experiments for path in experiment.inputs}):
        if len({experiment.inputs.get(path) for experiment in experiments}) > 1:
            about = experiments[0].params
            kind = kind_of(path, about.get("data"), about.get("model.weights"))
            # Other weights by name are another parameter.
            if kind:
                found[kind].append(path)
    made = [experiment.made_with() for experiment in experiments]
    for name in sorted({name for one in made for name in one}):
        if len(values := sorted({one.get(name, "not said") for one in made})) > 1:
            found[name].append(" and ".join(values))
    return "; ".join(f"other {kind} ({', '.join(paths)})" for kind, paths in found.items())


def _refuse_other_glomeruli(
    runs: dict, predictions: dict[str, Predictions], by: Sequence[str]
) -> None:
    first = next(iter(runs))
    everywhere = sorted({key for setting in runs.values() for key in setting}, key=_order)
    missing = [
        f"there is no experiment with {', '.join(f'{n}={as_yaml(v)}' for n, v in zip((*by, FOLD, *SEEDS), (*values, *key)))}, "
        "which others have; run it, or leave out the others with --where"
        for values, setting in runs.items()
        for key in everywhere
        if key not in setting
    ]
    refuse(missing)
    for setting in runs.values():
        for key, experiment in setting.items():
            other = runs[first][key]
            ours, theirs = predictions[experiment.commit], predictions[other.commit]
            if not all(np.array_equal(a, b) for a, b in zip(ours[:3], theirs[:3])):
                raise UserError(
                    f"not comparable: {experiment.name} and {other.name} were tested on other glomeruli, slides or labels, "
                    f"though by the same parameters: {apart([experiment, other]) or 'the split has changed between them'}"
                )
            if experiment.data() != other.data():
                pixels = [one.pixels() for one in (experiment, other)]
                if changed := [path for path in ours.paths if pixels[0][path] != pixels[1][path]]:
                    raise UserError(
                        f"not comparable: {len(changed)} test glomeruli of {experiment.name} have other pixels in {other.name}, "
                        f"such as {changed[0]}: the dataset has changed between them"
                    )


def _pool(runs: dict[Key, Experiment], predictions: dict[str, Predictions]) -> list[Pooled]:
    pooled = []
    for seeds in sorted({key[1:] for key in runs}, key=_order):
        folds = [runs[key] for key in sorted(runs, key=_order) if key[1:] == seeds]
        thresholds = [experiment.measures()["threshold"] for experiment in folds]
        pooled.append(pool([predictions[experiment.commit] for experiment in folds], thresholds))
    return pooled


def _order(values: Key) -> list[tuple[str, Value]]:
    # Numbers by size, then texts; values of an older commit may be missing.
    return [(type(value).__name__, "" if value is None else value) for value in values]


def find_reference(settings: Sequence[Setting], by: Sequence[str], against: str | None) -> Setting:
    """Return the setting that the others are compared with: `against`, or that of params.yaml, or
    else the first.
    """
    current = flatten(params_with())
    wanted = (
        read_values(against, "--against")
        if against is not None
        else [as_yaml(current[name]) for name in by]
    )
    for setting in settings:
        if [as_yaml(value) for value in setting.values] == wanted:
            return setting
    if against is None:
        return settings[0]
    names = "; ".join(",".join(map(as_yaml, setting.values)) for setting in settings)
    raise UserError(
        f"--against {against}: there is no such setting of {', '.join(by)}; there are {names}"
    )
