"""Running the pipeline again in a clone, and comparing its outputs."""

import os
import shutil
from pathlib import Path
from typing import Any

import dvc.api
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import SCMError, resolve_rev

from stages.base.arithmetic import THREADS, is_portable
from stages.base.errors import UserError, refuse
from stages.base.files import read_json
from stages.base.parameters import read_yaml
from stages.experiments.agreement import EXACT_STAGES, compare_contents
from stages.experiments.commands import DVC, clone_at, find_repository, from_top, output_of, run_dvc
from stages.experiments.inputs import digest, input_paths

LOCKS = ("dvc.lock", "data/dvc.lock")
MADE_WITH = "metrics/plots/made_with.json"
# Of commits until November 2026.
ARITHMETIC = "metrics/train/arithmetic.json"
COMPARED = (".csv", ".json")
Outputs = dict[tuple[str, str], str]


def find_commit(revision: str) -> str:
    """Return the commit that a commit, branch, tag or experiment is. Raises `UserError` if there is
    none.
    """
    try:
        with Repo() as repo:
            commit = str(resolve_rev(repo.scm, revision))
        return output_of(["git", "rev-parse", "--verify", f"{commit}^{{commit}}"]).strip()
    except (DvcException, SCMError):
        raise UserError(
            f"{revision}: there is no commit, branch, tag or experiment of this name, or several"
        ) from None


def make_clone(commit: str, folder: Path) -> Path:
    """Clone the repository of the current folder at a commit, with the datasets and weights that it
    was run on.

    They are taken from here where they are still the same, or else from DVC's cache.

    Returns:
        The project in the clone: `folder`, or a folder of it as the current one is of its
            repository.

    Raises:
        UserError: one of them is neither here nor in the cache as it was.
    """
    repository = find_repository()
    clone_at(str(repository.top), commit, folder)
    clone = folder / repository.inside
    locked = dependencies(clone)
    problems = []
    for path in input_paths(read_yaml(clone / "params.yaml")):
        # What git has is in the clone, and what a stage draws will be.
        if path not in locked or path in drawn(clone) or _is_of_git(path, clone):
            continue
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        if digest(path) == locked[path]:
            if os.path.isdir(path):
                shutil.copytree(path, clone / path, dirs_exist_ok=True)
            else:
                shutil.copy(path, clone / path)
            continue
        try:
            output_of(
                [
                    *DVC,
                    "get",
                    str(repository.top),
                    from_top(path),
                    "--rev",
                    commit,
                    "--out",
                    str(clone / path),
                    "--force",
                ]
            )
        except UserError:
            problems.append(
                f"{path}: it is not here as {commit[:7]} was run on it, and not in DVC's cache; `dvc pull` may bring it"
            )
    refuse(problems)
    return clone


def dependencies(folder: Path) -> dict[str, str]:
    """Return the hash of each dependency in the lock files of a folder, by path."""
    return {
        dependency["path"]: dependency["md5"]
        for stage in _stages(folder).values()
        for dependency in stage.get("deps", [])
    }


def drawn(folder: Path) -> set[str]:
    return {path for _, path in outputs(folder)}


def _is_of_git(path: str, clone: Path) -> bool:
    """Return whether git has all of a path: it has something, and DVC has noted no part of it."""
    has = output_of(["git", "-C", str(clone), "ls-files", "--", path]).splitlines()
    return (
        bool(has)
        and not any(name.endswith(".dvc") for name in has)
        and not (clone / f"{path}.dvc").exists()
    )


def made_under(clone: Path) -> dict[str, Any]:
    """Return `stages.model.backend.runtime_environment` of the training in a clone; nothing where that is
    not said.
    """
    if (clone / MADE_WITH).is_file():
        return {row["what"]: row["found"] for row in read_json(clone / MADE_WITH)}
    return read_json(clone / ARITHMETIC) if (clone / ARITHMETIC).is_file() else {}


def must_be_equal(made: dict[str, Any], here: dict[str, Any]) -> bool:
    """Return whether two trainings must have come to the same bytes."""
    return not made or (is_portable(made) and made == here)


def described(made: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in made.items())


def committed_contents(commit: str, clone: Path, committed: Outputs) -> dict[str, bytes]:
    """Return the committed tables and measures that can be had, by path: from git, or from DVC's
    cache of this repository.
    """
    contents = {}
    for _, path in committed:
        if not path.endswith(COMPARED):
            continue
        if (clone / path).is_file():
            contents[path] = (clone / path).read_bytes()
            continue
        try:
            contents[path] = dvc.api.read(from_top(path), rev=commit, mode="rb")
        except Exception:  # DVC raises many kinds where a file is neither in the cache nor in a remote that answers.
            continue
    return contents


def reproduce(clone: Path, made: dict[str, Any]) -> None:
    """Run the pipeline in `clone` with nothing taken from a cache, by the arithmetic and the
    threads that were chosen when the results were made; its output goes to the screen.
    """
    chosen = (
        {"GLOMERULI_ARITHMETIC": made["arithmetic"], THREADS[0]: str(made["threads"])}
        if made
        else {}
    )
    if not run_dvc(["repro", "--force", "--no-run-cache"], clone, chosen):
        raise UserError("`dvc repro` failed in the clone; what it printed above says why")


def outputs(folder: Path) -> Outputs:
    """Return the hash of each output in the lock files of a folder, by (stage, path)."""
    return {
        (name, out["path"]): out["md5"]
        for name, stage in _stages(folder).items()
        for out in stage.get("outs", [])
    }


def _stages(folder: Path) -> dict[str, Any]:
    if not (folder / LOCKS[0]).is_file():
        raise UserError(
            "there is no dvc.lock in this revision: nothing was committed that could be verified"
        )
    locks = [folder / lock for lock in LOCKS if (folder / lock).is_file()]
    return {name: stage for lock in locks for name, stage in read_yaml(lock)["stages"].items()}


def report(committed: Outputs, found: Outputs) -> int:
    """Print `same` or `different` for each output, and return how many differ or are missing."""
    different = 0
    for (stage, path), was in committed.items():
        same = found.get((stage, path)) == was
        different += not same
        print(f"{'same' if same else 'DIFFERENT':>9}  {stage}: {path}")
    return different


def report_by_value(
    committed: Outputs, found: Outputs, contents: dict[str, bytes], clone: Path
) -> int:
    """Print for each output whether it is the same, agrees, differs or is not compared; return how
    many differ or are missing.
    """
    different = 0
    for (stage, path), was in committed.items():
        here = found.get((stage, path))
        if here == was:
            word, why = "same", ""
        elif here is None:
            word, why = "DIFFERENT", " (it was not made)"
        elif stage in EXACT_STAGES:
            word, why = "DIFFERENT", " (it must be the same on every processor)"
        elif path in contents and (
            agreement := compare_contents(path, contents[path], (clone / path).read_bytes())
        ):
            word, why = "agrees" if agreement.agree else "DIFFERENT", f" ({agreement.found})"
        elif path not in contents and path.endswith(("predictions.csv", "validation.csv")):
            word, why = (
                "unknown",
                " (it is not in DVC's cache here to be compared; `dvc pull` may bring it)",
            )
        else:
            word, why = "follows", " (from the weights; not compared by value)"
        different += word == "DIFFERENT"
        print(f"{word:>9}  {stage}: {path}{why}")
    return different
