"""Reading DVC experiments: their parameters, their measures and their predictions, through DVC's
own API.
"""

import io
import sys
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import dvc.api
from dvc.exceptions import DvcException
from dvc.scm import SCMError
from ruamel.yaml import YAML

from stages.base.errors import UserError, refuse
from stages.base.files import parse_table
from stages.base.parameters import read_yaml
from stages.base.strict_json import parse_json
from stages.dataset.predictions import Predictions, parse_predictions
from stages.experiments.commands import find_repository, from_top
from stages.experiments.inputs import digest, kind_of
from stages.experiments.settings import Value, as_yaml, flatten, params_with, plain

MANIFEST, PREDICTIONS, MEASURES = (
    "data/manifest.csv",
    "metrics/predictions.csv",
    "metrics/measures.json",
)
MADE_WITH = "metrics/plots/made_with.json"


class Experiment(NamedTuple):
    """One run: its name, its commit, its parameters by their dotted names.

    `inputs` has the MD5 digests, as in dvc.lock, of the code and the dataset that it was made of,
    by their paths.
    """

    name: str
    commit: str
    params: dict[str, Value]
    inputs: dict[str, str]

    def read(self, path: str | Path) -> str:
        """Return the text of one of its files, from git or from DVC's cache.

        Raises:
            UserError: the file is in neither.
        """
        try:
            return _read(str(path), self.commit)
        except (DvcException, OSError) as error:
            raise UserError(
                f"{path} of experiment {self.name} cannot be read ({error}); `dvc exp pull` may bring it"
            ) from None

    def refuse_if_partial(self) -> None:
        """Raise `UserError` if only a part of the pipeline has run: the results of the other stages
        are of other inputs.

        In dvc.lock a stage's dependency then has another digest than the output that it is.
        """
        for name, path in partly_run(stages_in(self.read("dvc.lock"))):
            raise UserError(
                f"of experiment {self.name} stage {name} has not run after {path} changed; run it whole, "
                "with `dvc exp run` and without the name of a stage, or leave it out"
            )

    def data(self) -> dict[str, str]:
        """Return the digests of its dataset and the dataset's card, by path."""
        dataset = f"data/{self.params.get('data')}"
        return {
            path: found
            for path, found in self.inputs.items()
            if path in (dataset, f"{dataset}.yaml")
        }

    def pixels(self) -> dict[str, str]:
        """Return the digest of the pixels of each crop, by path."""
        return parse_pixels(self.read(MANIFEST), f"{MANIFEST} of experiment {self.name}")

    def made_with(self) -> dict[str, str]:
        """Return what the bytes of its training depend on beside code, data and parameters; nothing
        where that is not said.
        """
        try:
            return {row["what"]: str(row["found"]) for row in parse_json(self.read(MADE_WITH))}
        except UserError:
            return {}

    def measures(self) -> dict[str, float]:
        """Return its measures on the test set by their dotted names, such as
        `interval_95.roc_auc.low`; only those defined.
        """
        found = flatten(parse_json(self.read(MEASURES)))
        return {name: value for name, value in found.items() if isinstance(value, (int, float))}

    def predictions(self, path: str | Path) -> Predictions:
        """Return what it predicted, from metrics/predictions.csv (test) or models/validation.csv."""
        return parse_predictions(
            io.StringIO(self.read(path), newline=""), f"{path} of experiment {self.name}"
        )


def stages_in(lock: str) -> dict[str, dict]:
    """Return the stages in the text of a dvc.lock that decide over test predictions.

    No test prediction comes from another dataset; of one that is no longer measured DVC keeps the
    old entry.
    """
    stages = YAML(typ="safe", pure=True).load(lock)["stages"]
    return {name: stage for name, stage in stages.items() if not name.startswith("external@")}


def partly_run(stages: dict[str, dict]) -> list[tuple[str, str]]:
    """Return each stage in a dvc.lock that has not run after another one, and the output of that
    one.
    """
    made = {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}
    return [
        (name, dependency["path"])
        for name, stage in stages.items()
        for dependency in stage.get("deps", [])
        if made.get(dependency["path"], dependency["md5"]) != dependency["md5"]
    ]


def parse_pixels(manifest: str, where: str) -> dict[str, str]:
    """Return the digest of the pixels of each crop in the text of a manifest, by path."""
    return dict(
        zip(*parse_table(io.StringIO(manifest, newline=""), ("path", "pixels_sha256"), where))
    )


@cache
def _read(path: str, commit: str) -> str:
    return dvc.api.read(from_top(path), rev=commit)


def read_at(path: str, revision: str | None) -> str:
    """Return the text of a file at a revision, from git or from DVC's cache; None: of the
    workspace.

    Raises:
        UserError: the file is in neither.
    """
    try:
        return Path(path).read_text(encoding="utf-8") if revision is None else _read(path, revision)
    # A remote without keys or network fails in its own library's words.
    except Exception as error:
        raise UserError(
            f"{path} of {revision or 'the workspace'} is neither in git nor in DVC's cache ({' '.join(str(error).split())}); "
            "`dvc push` where it was made and `dvc fetch` here bring it, which takes the remote's keys: a fork's run has none"
        ) from None


def read_experiments(revisions: Sequence[str] = (), commits: int = 1) -> list[Experiment]:
    """Return the finished experiments that start from HEAD, or from `revisions`, sorted by name.

    Those that wait, run or have failed are left out, and counted on the screen.

    Args:
        revisions: commits, branches or tags.
        commits: how many commits to go back from each, as in `dvc exp show --num`.

    Raises:
        UserError: this is no repository, or there is no such revision.
    """
    find_repository()
    names = list(flatten(params_with()))
    try:
        rows = dvc.api.exp_show(revs=list(revisions) or None, num=commits)
    except (DvcException, SCMError) as error:
        raise UserError(f"the experiments cannot be read: {error}") from None
    rows = [row for row in rows if row.get("typ", "").startswith("branch")]
    finished = [
        row for row in rows if row.get("State") in (None, "Success") and not row.get("Error")
    ]
    if len(finished) < len(rows):
        print(
            f"{len(rows) - len(finished)} experiments wait, run or have failed: left out",
            file=sys.stderr,
        )
    return sorted(
        (_experiment(row, names) for row in finished), key=lambda experiment: experiment.name
    )


def refuse_ambiguous(experiments: Sequence[Experiment], names: Sequence[str]) -> None:
    """Raise `UserError` if several experiments have one of `names`: those of several commits may be
    called the same.
    """
    counts = Counter(experiment.name for experiment in experiments)
    several = [name for name in dict.fromkeys(names) if counts[name] > 1]
    refuse(
        [
            f"several experiments are named {name}; --rev says which commit it starts from"
            for name in several
        ]
    )


def _experiment(row: dict, names: Sequence[str]) -> Experiment:
    return Experiment(
        name=row["Experiment"] or row["rev"],
        commit=row["rev"],
        params={name: plain(row.get(name)) for name in names},
        inputs={key: value for key, value in row.items() if value and is_input(key, row)},
    )


def is_input(path: str, params: dict) -> bool:
    """Return whether a dependency in dvc.lock is code, the dataset, its card, a file of weights or
    the list of packages.
    """
    return kind_of(path, params.get("data"), params.get("model.weights")) is not None


def made_here(experiment: Experiment) -> bool:
    """Return whether an experiment's code and dataset are those that stand in this folder now."""
    return all(
        found == _digest(path) for path, found in experiment.inputs.items() if path != "data/demo"
    )


def has_run(
    experiments: Sequence[Experiment], wanted: dict[str, Value], but_for: tuple[str, ...] = ()
) -> Experiment | None:
    """Return one of the `experiments` that has run with these parameters on the code and dataset of
    this folder.

    Args:
        wanted: all parameters by their dotted names.
        but_for: how the names begin of those that do not matter.
    """
    texts = {name: as_yaml(value) for name, value in wanted.items() if not name.startswith(but_for)}
    for experiment in experiments:
        if all(
            as_yaml(experiment.params.get(name)) == text for name, text in texts.items()
        ) and made_here(experiment):
            return experiment
    return None


def _digest(path: str) -> str | None:
    """Return the digest of a path of this folder; of data that is on record and not checked out,
    that of the record.
    """
    note = Path(f"{path}.dvc")
    return digest(path) or (read_yaml(note)["outs"][0]["md5"] if note.is_file() else None)
