"""Read DVC experiments through DVC's API: their parameters, measures and predictions."""

import io
import re
import sys
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import dvc.api
import yaml
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import SCMError

from stages.base.errors import UserError, one_line, refuse
from stages.base.files import parse_table
from stages.base.parameters import read_yaml
from stages.base.strict_json import parse_json
from stages.dataset.cohort import MANIFEST
from stages.dataset.predictions import Predictions, parse_predictions
from stages.experiments.commands import file_at, find_repository, from_top, output_of
from stages.experiments.inputs import LABELS, digest, input_kind
from stages.experiments.settings import (
    Value,
    as_yaml,
    flatten,
    join_list,
    params_with,
    parse_stages,
)

LOCK = "dvc.lock"
PREDICTIONS, MEASURES_FILE = "metrics/predictions.csv", "metrics/measures.json"
MADE_WITH = "metrics/plots/made_with.json"


class Experiment(NamedTuple):
    """A finished experiment."""

    name: str
    commit: str
    params: dict[str, Value]  # by their dotted names
    # The MD5 digests in dvc.lock of its code, packages, dataset and weights, by path.
    inputs: dict[str, str]

    @property
    def has_no_test(self) -> bool:
        """Whether it was trained on all slides, so that it has only out-of-fold predictions."""
        return self.params.get("split.test") == "none"

    def read(self, path: str | Path) -> str:
        """Return the text of a file, from git or DVC's cache. Raises `UserError` without it."""
        try:
            return _read(str(path), self.commit, Path.cwd())
        except (DvcException, OSError) as error:
            raise UserError(
                f"{path} of experiment {self.name} cannot be read ({error}); "
                "`dvc exp pull` may bring it"
            ) from None

    def refuse_if_partial(self) -> None:
        """Raise `UserError` if only a part of the pipeline has run."""
        for name, path in partly_run(without_external(_stages_as_text(self.read(LOCK)))):
            raise UserError(
                f"experiment {self.name}: stage {name} has not run after {path} changed; run all "
                "stages with `dvc exp run`, without the name of a stage, or leave it out"
            )

    def data(self) -> dict[str, str]:
        """Return the digests of its dataset, the dataset's card and the tables in git, by path."""
        dataset = f"data/{self.params.get('data')}"
        paths = dataset, f"{dataset}.yaml", LABELS
        return {path: found for path, found in self.inputs.items() if path in paths}

    def manifest(self, column: str) -> dict[str, str]:
        """Return a column of its manifest, by path."""
        where = f"{MANIFEST} of experiment {self.name}"
        return parse_manifest(self.read(MANIFEST), column, where)

    def made_with(self) -> dict[str, str]:
        """Return the runtime environment of its training, which can change the bytes of results."""
        return {row["what"]: str(row["found"]) for row in parse_json(self.read(MADE_WITH))}

    def measures(self) -> dict[str, float]:
        """Return its defined measures on the test set by dotted names (`interval_95.f1.low`)."""
        return _measures(self.read(MEASURES_FILE))

    def predictions(self, path: str | Path) -> Predictions:
        """Return its predictions in `PREDICTIONS` (test) or `VALIDATION`."""
        lines = io.StringIO(self.read(path), newline="")
        return parse_predictions(lines, f"{path} of experiment {self.name}")


def stages_in(lock: str) -> dict[str, dict]:
    """Return the stages in the text of a dvc.lock on which test predictions depend.

    `external` is left out: DVC keeps the entry of a dataset that is no longer measured.
    """
    return without_external(parse_stages(lock))


def without_external(stages: dict[str, dict]) -> dict[str, dict]:
    return {name: stage for name, stage in stages.items() if not name.startswith("external@")}


def outputs_of(stages: dict[str, dict]) -> dict[str, str]:
    """Return the digest of each output of some stages, by path."""
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}


def inputs_of(stages: dict[str, dict]) -> dict[str, str]:
    """Return the digest of each dependency of some stages that none of them makes, by path."""
    made = outputs_of(stages)
    dependencies = (one for stage in stages.values() for one in stage.get("deps", []))
    return {one["path"]: one["md5"] for one in dependencies if one["path"] not in made}


def partly_run(stages: dict[str, dict]) -> list[tuple[str, str]]:
    """Return (stage, dependency) for each dependency that was made again after the stage ran.

    Its digest in dvc.lock then differs from that of the output.
    """
    made = outputs_of(stages)
    return [
        (name, dependency["path"])
        for name, stage in stages.items()
        for dependency in stage.get("deps", [])
        if made.get(dependency["path"], dependency["md5"]) != dependency["md5"]
    ]


def parse_manifest(manifest: str, column: str, where: str) -> dict[str, str]:
    """Return a column of the text of a manifest, by path."""
    return dict(zip(*parse_table(io.StringIO(manifest, newline=""), ("path", column), where)))


def manifest_at(revision: str | None, column: str) -> dict[str, str]:
    """Return a column of the manifest at a revision, by path; see `read_at`."""
    where = f"{MANIFEST} of {revision or 'the workspace'}"
    return parse_manifest(read_at(MANIFEST, revision), column, where)


@cache
def _read(path: str, commit: str, folder: Path) -> str:
    """Return the text of a file of a commit.

    DVC takes half a second to open a commit. So a file in git, or of which dvc.lock says the digest
    and the cache holds the content, is read without it.

    Args:
        folder: the current one, so that two repositories are not confused.
    """
    outputs = {} if path == LOCK else _outputs(commit, folder)
    if digest := outputs.get(Path(path).as_posix()):
        cached = Path(_cache(folder).oid_to_path(digest))
        if cached.is_file():
            return cached.read_text(encoding="utf-8")
    if (content := file_at(commit, path)) is not None:
        return content.decode()
    top = Path(from_top(path)).as_posix()
    return str(_files(commit, folder).read_text(top, encoding="utf-8"))


@cache
def _stages_as_text(lock: str) -> dict[str, dict]:
    """Return the stages in the text of a dvc.lock, with text for each value.

    Paths and digests are text, and this takes a third of the time of `parse_stages`. No type is
    guessed, so that YAML 1.1, which PyYAML reads, and YAML 1.2 do not differ.
    """
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    stages: dict[str, dict] = yaml.load(lock, loader)["stages"]
    return stages


@cache
def _measures(text: str) -> dict[str, float]:
    found = flatten(parse_json(text))
    return {name: value for name, value in found.items() if isinstance(value, (int, float))}


@cache
def _outputs(commit: str, folder: Path) -> dict[str, str]:
    """Return the digest of each output in the dvc.lock of a commit, by path; {} without one."""
    try:
        return outputs_of(_stages_as_text(_read(LOCK, commit, folder)))
    except Exception:  # A damaged one, which DVC explains.
        return {}


@cache
def _cache(folder: Path) -> Any:
    return Repo(str(folder)).cache.local


@cache
def _files(commit: str, folder: Path) -> dvc.api.DVCFileSystem:
    """Return the files of a commit in git and DVC, which take longer to open than to read.

    Args:
        folder: the current one, so that two repositories are not confused.
    """
    return dvc.api.DVCFileSystem(rev=commit, subrepos=True)


def read_at(path: str | Path, revision: str | None) -> str:
    """Return the text of a file at a revision, from git or DVC's cache; None is the workspace.

    Raises:
        UserError: the file is in neither.
    """
    try:
        if revision is None:
            return Path(path).read_text(encoding="utf-8")
        # A branch moves, a hash does not.
        commit = revision
        if not re.fullmatch("[0-9a-f]{40}", revision):
            commit = output_of(["git", "rev-parse", "--verify", f"{revision}^{{commit}}"]).strip()
        return _read(str(path), commit, Path.cwd())
    # A remote without keys or network raises errors of its library.
    except Exception as error:
        raise UserError(
            f"{path} of {revision or 'the workspace'} is neither in git nor in DVC's cache "
            f"({one_line(error)}); `dvc push` where it was made and `dvc fetch` here "
            "bring it, with the keys of the remote, which the run of a fork does not have"
        ) from None


def read_experiments(revisions: Sequence[str] = (), commits: int = 1) -> list[Experiment]:
    """Return the finished experiments that start from HEAD, or from `revisions`, sorted by name.

    A line on the screen counts those that wait, run or have failed.

    Args:
        revisions: commits, branches or tags.
        commits: how many commits to go back from each, as in `dvc exp show --num`.

    Raises:
        UserError: this is not a repository, or there is no such revision.
    """
    find_repository()
    names = list(flatten(params_with()))
    try:
        rows = dvc.api.exp_show(revs=list(revisions) or None, num=commits)
    except (DvcException, SCMError) as error:
        raise UserError(f"the experiments cannot be read: {error}") from None
    rows = [row for row in rows if row.get("typ", "").startswith("branch")]
    succeeded = [row for row in rows if row.get("State") in (None, "Success")]
    finished = [row for row in succeeded if not row.get("Error")]
    if unfinished := len(rows) - len(finished):
        print(f"{unfinished} experiments wait, run or have failed: left out", file=sys.stderr)
    return sorted((_experiment(row, names) for row in finished), key=lambda one: one.name)


def _experiment(row: dict, names: Sequence[str]) -> Experiment:
    return Experiment(
        name=row["Experiment"] or row["rev"],
        commit=row["rev"],
        params={name: join_list(row.get(name)) for name in names},
        inputs={
            key: value
            for key, value in row.items()
            if value and input_kind(key, row.get("data"), row.get("model.weights"))
        },
    )


def named(experiments: Sequence[Experiment], names: Sequence[str]) -> list[Experiment]:
    """Return the experiments with these names.

    Raises:
        UserError: no experiment has one of the names, or several have.
    """
    counts, problems = Counter(experiment.name for experiment in experiments), []
    for name in dict.fromkeys(names):
        if not counts[name]:
            problems.append(f"there is no finished experiment {name}; `dvc exp list` names them")
        elif counts[name] > 1:
            problems.append(
                f"several experiments are named {name}; --rev selects by the commit they start from"
            )
    refuse(problems)
    return [experiment for experiment in experiments if experiment.name in names]


def made_here(experiment: Experiment) -> bool:
    """Return whether an experiment's code and data are those of this folder."""
    return all(
        found == _recorded_digest(path)
        for path, found in experiment.inputs.items()
        if path != "data/demo"
    )


def has_run(
    experiments: Sequence[Experiment], wanted: dict[str, Value], ignored: tuple[str, ...] = ()
) -> Experiment | None:
    """Return an experiment with these parameters and with the code and data of this folder.

    Args:
        wanted: all parameters by their dotted names.
        ignored: parameters that do not matter, or whole sections, such as `climb.`.
    """
    sections = tuple(one for one in ignored if one.endswith("."))
    texts = {
        name: as_yaml(value)
        for name, value in wanted.items()
        if name not in ignored and not name.startswith(sections)
    }
    for experiment in experiments:
        same = all(as_yaml(experiment.params.get(name)) == texts[name] for name in texts)
        if same and made_here(experiment):
            return experiment
    return None


def _recorded_digest(path: str) -> str | None:
    """Return the digest of a path here; if it is not checked out, the digest in its .dvc file."""
    note = Path(f"{path}.dvc")
    return digest(path) or (read_yaml(note)["outs"][0]["md5"] if note.is_file() else None)
