"""Reading DVC experiments: their parameters, their measures and their predictions, through DVC's own API."""

import hashlib
import io
import json
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import dvc.api
from dvc.exceptions import DvcException
from dvc.scm import SCMError
from ruamel.yaml import YAML

from stages.base.errors import UserError
from stages.base.parameters import read_yaml
from stages.dataset.predictions import Predictions, parse_predictions
from stages.experiments.settings import Value, as_yaml, flatten, params_with, plain

MEASURES = "metrics/measures.json"


class Experiment(NamedTuple):
    """One run: its name, its commit, its parameters by their dotted names.

    `inputs` has the MD5 digests, as in dvc.lock, of the code and the dataset that it was made of, by their paths.
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
            raise UserError(f"{path} of experiment {self.name} cannot be read ({error}); `dvc exp pull` may bring it") from None

    def refuse_if_partial(self) -> None:
        """Raise `UserError` if only a part of the pipeline has run: the results of the other stages are of other inputs.

        In dvc.lock a stage's dependency then has another digest than the output that it is.
        """
        stages = YAML(typ="safe", pure=True).load(self.read("dvc.lock"))["stages"]
        made = {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}
        for name, stage in stages.items():
            # No test prediction comes from another dataset; of one that is no longer measured DVC keeps the old entry.
            if name.startswith("external@"):
                continue
            for dependency in stage.get("deps", []):
                if made.get(dependency["path"], dependency["md5"]) != dependency["md5"]:
                    raise UserError(
                        f"of experiment {self.name} stage {name} has not run after {dependency['path']} changed; run it whole, "
                        "with `dvc exp run` and without the name of a stage, or leave it out"
                    )

    def measures(self) -> dict[str, float]:
        """Return its measures on the test set by their dotted names, such as `interval_95.roc_auc.low`; only those defined."""
        found = flatten(json.loads(self.read(MEASURES)))
        return {name: value for name, value in found.items() if isinstance(value, (int, float))}

    def predictions(self, path: str | Path) -> Predictions:
        """Return what it predicted, from metrics/predictions.csv (test) or models/validation.csv."""
        return parse_predictions(io.StringIO(self.read(path), newline=""), f"{path} of experiment {self.name}")


@cache
def _read(path: str, commit: str) -> str:
    return dvc.api.read(path, rev=commit)


def read_at(path: str, revision: str | None) -> str:
    """Return the text of a file at a revision, from git or from DVC's cache; None: of the workspace.

    Raises:
        UserError: the file is in neither.
    """
    try:
        return Path(path).read_text(encoding="utf-8") if revision is None else _read(path, revision)
    except (DvcException, SCMError, OSError):
        raise UserError(f"{path} of {revision or 'the workspace'} is not there, and not in DVC's cache") from None


def read_experiments(revisions: Sequence[str] = (), commits: int = 1) -> list[Experiment]:
    """Return the finished experiments that start from HEAD, or from `revisions`, sorted by name.

    Those that wait, run or have failed are left out, and counted on the screen.

    Args:
        revisions: commits, branches or tags.
        commits: how many commits to go back from each, as in `dvc exp show --num`.

    Raises:
        UserError: this is no repository, or there is no such revision.
    """
    names = list(flatten(params_with()))
    try:
        rows = dvc.api.exp_show(revs=list(revisions) or None, num=commits)
    except (DvcException, SCMError) as error:
        raise UserError(f"the experiments cannot be read: {error}") from None
    rows = [row for row in rows if row.get("typ", "").startswith("branch")]
    finished = [row for row in rows if row.get("State") in (None, "Success") and not row.get("Error")]
    if len(finished) < len(rows):
        print(f"{len(rows) - len(finished)} experiments wait, run or have failed: left out", file=sys.stderr)
    return sorted((_experiment(row, names) for row in finished), key=lambda experiment: experiment.name)


def _experiment(row: dict, names: Sequence[str]) -> Experiment:
    return Experiment(
        name=row["Experiment"] or row["rev"],
        commit=row["rev"],
        params={name: plain(row.get(name)) for name in names},
        inputs={key: value for key, value in row.items() if value and is_input(key, row)},
    )


def is_input(path: str, params: dict) -> bool:
    """Return whether a dependency in dvc.lock is code, the dataset, its card or a file of weights."""
    dataset, weights = f"data/{params.get('data')}", f"data/weights/{params.get('model.weights')}"
    return path.startswith("stages/") or path in (dataset, f"{dataset}.yaml", weights)


def made_here(experiment: Experiment) -> bool:
    """Return whether an experiment's code and dataset are those that stand in this folder now."""
    return all(digest == _digest(Path(path)) for path, digest in experiment.inputs.items() if path != "data/demo")


def has_run(experiments: Sequence[Experiment], wanted: dict[str, Value], but_for: tuple[str, ...] = ()) -> Experiment | None:
    """Return one of the `experiments` that has run with these parameters on the code and dataset of this folder.

    Args:
        wanted: all parameters by their dotted names.
        but_for: how the names begin of those that do not matter.
    """
    texts = {name: as_yaml(value) for name, value in wanted.items() if not name.startswith(but_for)}
    for experiment in experiments:
        if all(as_yaml(experiment.params.get(name)) == text for name, text in texts.items()) and made_here(experiment):
            return experiment
    return None


def _digest(path: Path) -> str | None:
    if path.is_file():
        return _md5(path.read_bytes())
    tracked = path.with_name(path.name + ".dvc")
    if tracked.is_file():
        return read_yaml(tracked)["outs"][0]["md5"]
    # As DVC hashes a folder: the list of its files, of which .dvcignore lets the modules through.
    files = sorted((file.relative_to(path).as_posix(), _md5(file.read_bytes())) for file in path.rglob("*.py"))
    listing = json.dumps([{"md5": md5, "relpath": name} for name, md5 in files], sort_keys=True)
    return f"{_md5(listing.encode())}.dir" if files else None


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
