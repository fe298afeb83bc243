"""Group experiments into settings with folds and seeds as repetitions, if they are comparable."""

import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stages.base.errors import UserError, refuse, warn
from stages.dataset.predictions import Predictions
from stages.experiments.inputs import input_kind
from stages.experiments.reading import PREDICTIONS, Experiment, named
from stages.experiments.settings import (
    IRRELEVANT,
    Value,
    as_yaml,
    flatten,
    params_with,
    read_values,
)
from stages.measures.influence import Sample
from stages.measures.pooled import pool
from stages.workers.progress import progress

FOLD, SEEDS = "split.fold", ("split.seed", "split.validation_offset", "train.seed")
SAME_GLOMERULI = ("data", "split.test", "split.by", "split.folds")
Key = tuple[Value, ...]


class Setting(NamedTuple):
    """The experiments with the same values of the grouping parameters."""

    values: Key
    runs: dict[Key, Experiment]  # the experiments by (fold, *seeds)
    pooled: list[Sample]  # for each combination of seeds, the predictions of all folds
    # With `split.by` site, the site of each crop of each of `pooled`, text (n,).
    sites: list[np.ndarray] | None = None

    @property
    def name(self) -> str:
        return ", ".join(map(as_yaml, self.values)) or "all"

    @property
    def by_site(self) -> bool:
        """Whether each site is predicted by a model that has not seen it."""
        return self.sites is not None

    @property
    def samples(self) -> list[Sample]:
        """`pooled`, with the unit that varies, slide or site, as `slides`."""
        if self.sites is None:
            return self.pooled
        return [one._replace(slides=sites) for one, sites in zip(self.pooled, self.sites)]


def split_names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def choose(
    experiments: Sequence[Experiment], names: Sequence[str], where: Sequence[str]
) -> list[Experiment]:
    """Return the experiments with these names (default: all) and parameters, each `name=value`.

    Raises:
        UserError: a name or a parameter does not exist, or no experiment is left.
    """
    # Out-of-fold measures are no test measures, as calibration and threshold are fitted to them.
    without_test = [experiment.name for experiment in experiments if experiment.has_no_test]
    refuse(
        f"{name} was trained on all slides and has no test set; it cannot be compared"
        for name in names
        if name in without_test
    )
    if without_test:
        print(f"left out, trained on all slides: {', '.join(without_test)}", file=sys.stderr)
    experiments = [experiment for experiment in experiments if not experiment.has_no_test]
    chosen = named(experiments, names) if names else experiments
    for condition in where:
        name, _, value = condition.partition("=")
        _refuse_unknown(chosen, [name], "--where")
        wanted = read_values(value, f"--where {name}=")
        chosen = [
            experiment for experiment in chosen if [as_yaml(experiment.params[name])] == wanted
        ]
    if not chosen:
        raise UserError(
            "there is no finished experiment to compare; `dvc exp run` makes some, and --rev "
            "selects the commit they start from"
        )
    return chosen


def _refuse_unknown(experiments: Sequence[Experiment], names: Sequence[str], option: str) -> None:
    for experiment in experiments[:1]:
        refuse(
            [
                f"{option}: {name} is not a parameter of params.yaml"
                for name in names
                if name not in experiment.params
            ]
        )


def varying(experiments: Sequence[Experiment]) -> list[str]:
    """Return the relevant parameters, other than folds and seeds, in which experiments differ."""
    return [
        name
        for name in experiments[0].params
        if name not in (FOLD, *SEEDS)
        and not name.startswith(IRRELEVANT)
        and len({experiment.params[name] for experiment in experiments}) > 1
    ]


def group(experiments: Sequence[Experiment], by: Sequence[str]) -> list[Setting]:
    """Return the settings, in the order of their values.

    Raises:
        UserError: the experiments differ in other parameters than `by`, in their test glomeruli or
            in their folds; two have the same parameters and other predictions; or one ran only
            in part.
    """
    _refuse_unknown(experiments, by, "--by")
    for name in SAME_GLOMERULI:
        found = sorted({as_yaml(experiment.params[name]) for experiment in experiments})
        if len(found) > 1:
            raise UserError(
                f"experiments with another {name} have other test glomeruli and cannot be "
                f"compared: {', '.join(found)}; choose one with --where {name}={found[0]}"
            )
    problems = []
    for name in varying(experiments):
        if name not in by:
            values = ", ".join(sorted({as_yaml(one.params[name]) for one in experiments}))
            problems.append(
                f"the experiments also differ in {name} ({values}): add it to --by, or choose with "
                f"--where {name}=..."
            )
    refuse(problems)
    runs: dict[Key, dict[Key, Experiment]] = {}
    predictions: dict[str, Predictions] = {}
    for experiment in progress(experiments, desc="reading", unit="experiment"):
        experiment.refuse_if_partial()
        predictions[experiment.commit] = experiment.predictions(PREDICTIONS)
        setting = runs.setdefault(tuple(experiment.params[name] for name in by), {})
        key = tuple(experiment.params.get(name) for name in (FOLD, *SEEDS))
        twin = setting.setdefault(key, experiment)
        if not _equal(predictions[twin.commit], predictions[experiment.commit]):
            raise UserError(
                f"{twin.name} and {experiment.name} have the same parameters and other "
                f"predictions: {other_differences([twin, experiment]) or 'for an unknown reason'}; "
                "name the experiments to compare, or remove one with `dvc exp remove`"
            )
    _refuse_missing(runs, by)
    _refuse_other_glomeruli(runs, predictions)
    if differ := other_differences(experiments):
        warn(f"the experiments differ in more than parameters: {differ}")
    return [
        Setting(values, runs[values], *_pool(runs[values], predictions))
        for values in sorted(runs, key=_order)
    ]


def other_differences(experiments: Sequence[Experiment]) -> str:
    """Return in what else than parameters experiments differ, such as `other data (data/mine)`."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted({path for experiment in experiments for path in experiment.inputs}):
        if len({experiment.inputs.get(path) for experiment in experiments}) > 1:
            params = experiments[0].params
            # None: weights with another name are another parameter.
            if kind := input_kind(path, params.get("data"), params.get("model.weights")):
                found[kind].append(path)
    made = [experiment.made_with() for experiment in experiments]
    for name in sorted({name for one in made for name in one}):
        if len(values := sorted({one.get(name, "none") for one in made})) > 1:
            found[name].append(" and ".join(values))
    return "; ".join(f"other {kind} ({', '.join(paths)})" for kind, paths in found.items())


def _refuse_missing(runs: dict[Key, dict[Key, Experiment]], by: Sequence[str]) -> None:
    keys = sorted({key for setting in runs.values() for key in setting}, key=_order)
    problems = []
    for values, setting in runs.items():
        for key in keys:
            if key not in setting:
                named = zip((*by, FOLD, *SEEDS), (*values, *key))
                problems.append(
                    "there is no experiment with "
                    f"{', '.join(f'{name}={as_yaml(value)}' for name, value in named)}, which "
                    "others have; run it, or leave out the others with --where"
                )
    refuse(problems)


def _refuse_other_glomeruli(
    runs: dict[Key, dict[Key, Experiment]], predictions: dict[str, Predictions]
) -> None:
    first = next(iter(runs.values()))
    for setting in runs.values():
        for key, experiment in setting.items():
            other = first[key]
            ours, theirs = predictions[experiment.commit], predictions[other.commit]
            names = f"{experiment.name} and {other.name}"
            if not _equal(ours[:3], theirs[:3]):
                reason = other_differences([experiment, other]) or "the split has changed"
                raise UserError(
                    f"not comparable: {names} were tested on other glomeruli, slides or labels, "
                    f"with the same parameters: {reason}"
                )
            if experiment.data() != other.data():
                pixels = [one.manifest("pixels_sha256") for one in (experiment, other)]
                if changed := [path for path in ours.paths if pixels[0][path] != pixels[1][path]]:
                    raise UserError(
                        f"not comparable: {len(changed)} test glomeruli of {names} have other "
                        f"pixels, such as {changed[0]}: the dataset has changed"
                    )


def _equal(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs))


def _pool(
    runs: dict[Key, Experiment], predictions: dict[str, Predictions]
) -> tuple[list[Sample], list[np.ndarray] | None]:
    pooled, sites = [], []
    keys = sorted(runs, key=_order)
    # A locked test set is the same for each fold: as with another seed, it is tested again.
    of_seeds = [key if runs[key].params["split.test"] == "locked" else key[1:] for key in keys]
    for seeds in sorted({*of_seeds}, key=_order):
        folds = [runs[key] for key, one in zip(keys, of_seeds) if one == seeds]
        thresholds = [experiment.measures()["threshold"] for experiment in folds]
        found = [predictions[experiment.commit] for experiment in folds]
        pooled.append(pool(found, thresholds))
        if folds[0].params["split.by"] == "site":
            listed = [experiment.manifest("site") for experiment in folds]
            of_crops = [names[path] for names, one in zip(listed, found) for path in one.paths]
            sites.append(np.array(of_crops))
    return pooled, sites or None


def _order(values: Key) -> list[tuple[str, Value]]:
    """Return a key that sorts numbers by size, then texts; None is a parameter without a value."""
    return [(type(value).__name__, "" if value is None else value) for value in values]


def find_reference(settings: Sequence[Setting], by: Sequence[str], against: str | None) -> Setting:
    """Return the setting to compare with: `against`, or that of params.yaml, or the first."""
    if against is not None:
        wanted = read_values(against, "--against")
    else:
        current = flatten(params_with())
        wanted = [as_yaml(current[name]) for name in by]
    for setting in settings:
        if [as_yaml(value) for value in setting.values] == wanted:
            return setting
    if against is None:
        return settings[0]
    names = "; ".join(",".join(map(as_yaml, setting.values)) for setting in settings)
    raise UserError(
        f"--against {against}: there is no such setting of {', '.join(by)}; there are {names}"
    )
