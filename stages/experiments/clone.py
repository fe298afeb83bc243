"""Run the pipeline again in a clone, and compare its outputs with the committed ones."""

import hashlib
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
from stages.experiments.agreement import EXACT_FILES, EXACT_STAGES, TABLES, compare_contents
from stages.experiments.commands import DVC, clone_at, find_repository, from_top, output_of, run_dvc
from stages.experiments.inputs import digest, input_paths
from stages.experiments.reading import MADE_WITH, inputs_of
from stages.workers.previous import COMPUTE_ALL

LOCKS = ("dvc.lock", "data/dvc.lock")
FOLDER = "models"
COMPARED = (".csv", ".json")
Outputs = dict[tuple[str, str], str]


def find_commit(revision: str) -> str:
    """Return the hash of a commit, branch, tag or experiment. Raises `UserError` without one."""
    try:
        with Repo() as repo:
            commit = str(resolve_rev(repo.scm, revision))
        return output_of(["git", "rev-parse", "--verify", f"{commit}^{{commit}}"]).strip()
    except (DvcException, SCMError):
        raise UserError(
            f"{revision}: there is no commit, branch, tag or experiment of this name, or several"
        ) from None


def find_publication(model: Path) -> str:
    """Return the hash of the commit that published a model's folder.

    Raises:
        UserError: git has no such commit.
    """
    command = ["git", "log", "-1", "--format=%H", "--", str(model / LOCKS[0])]
    if not (commit := output_of(command).strip()):
        raise UserError(f"{model / LOCKS[0]}: git does not have it; commit the folder first")
    return commit


def make_clone(commit: str, folder: Path, model: Path | None = None) -> Path:
    """Clone this repository at a commit, with the datasets and weights of its results.

    They are copied from here if they have not changed, and otherwise come from DVC's cache.

    Args:
        model: the folder of a published model, whose params.yaml and dvc.lock replace those of the
            commit.

    Returns:
        The project in the clone: `folder`, or its subfolder if the project here is in one.

    Raises:
        UserError: a dataset or weights have changed here and are not in the cache.
    """
    repository = find_repository()
    clone_at(str(repository.top), commit, folder)
    clone = folder / repository.inside
    if model:
        (clone / LOCKS[1]).unlink(missing_ok=True)
        for name in ("params.yaml", LOCKS[0]):
            shutil.copyfile(model / name, clone / name)
    locked = inputs_of(_stages(clone))
    problems = []
    for path in input_paths(read_yaml(clone / "params.yaml")):
        if path not in locked or _is_in_git(path, clone):
            continue
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        if digest(path) == locked[path]:
            if os.path.isdir(path):
                shutil.copytree(path, clone / path, dirs_exist_ok=True)
            else:
                shutil.copy(path, clone / path)
            continue
        for part in _parts_of_dvc(path, clone):
            source = [str(repository.top), from_top(part), "--rev", commit]
            try:
                output_of([*DVC, "get", *source, "--out", str(clone / part), "--force"])
            except UserError:
                problems.append(
                    f"{part}: it is not here as {commit[:7]} was run on it, and not in DVC's "
                    "cache; `dvc pull` may bring it"
                )
    refuse(problems)
    return clone


def locked_outputs(folder: Path) -> Outputs:
    """Return the hash of each output in the lock files of a folder, by (stage, path)."""
    return {
        (name, out["path"]): out["md5"]
        for name, stage in _stages(folder).items()
        for out in stage.get("outs", [])
    }


def published_contents(model: Path, locked: Outputs) -> dict[str, bytes]:
    """Return the files of a published model, by the paths at which the pipeline writes them.

    Raises:
        UserError: a file is missing, or is not the one that the model's dvc.lock names.
    """
    contents, problems = {}, []
    for (_, path), md5 in locked.items():
        if not path.startswith(f"{FOLDER}/"):
            continue
        file = model / Path(path).name
        contents[path] = file.read_bytes() if file.is_file() else b""
        if hashlib.md5(contents[path], usedforsecurity=False).hexdigest() != md5:
            problems.append(f"{file}: it is not the file that {model / LOCKS[0]} names")
    refuse(problems)
    return contents


def _stages(folder: Path) -> dict[str, Any]:
    if not (folder / LOCKS[0]).is_file():
        raise UserError("dvc.lock: it is not in this revision, so there are no results to verify")
    locks = [folder / lock for lock in LOCKS if (folder / lock).is_file()]
    return {name: stage for lock in locks for name, stage in read_yaml(lock)["stages"].items()}


def _is_in_git(path: str, clone: Path) -> bool:
    """Return whether git has all of a path: some of it, and DVC tracks no part of it."""
    tracked = output_of(["git", "-C", str(clone), "ls-files", "--", path]).splitlines()
    return (
        bool(tracked)
        and not any(name.endswith(".dvc") for name in tracked)
        and not (clone / f"{path}.dvc").exists()
    )


def _parts_of_dvc(path: str, clone: Path) -> list[str]:
    """Return what DVC tracks of a path that git does not have: all of it, or its shards."""
    notes = sorted((clone / path).rglob("*.dvc"))
    return [note.relative_to(clone).with_suffix("").as_posix() for note in notes] or [path]


def made_under(clone: Path) -> dict[str, Any]:
    """Return `runtime_environment` of stages/model/backend.py in training; empty without one."""
    path = clone / MADE_WITH
    return {row["what"]: row["found"] for row in read_json(path)} if path.is_file() else {}


def must_be_equal(made: dict[str, Any], here: dict[str, Any]) -> bool:
    """Return whether two trainings must have given the same bytes."""
    return not made or (is_portable(made) and made == here)


def described(made: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in made.items())


def committed_contents(commit: str, clone: Path, committed: Outputs) -> dict[str, bytes]:
    """Return the committed tables and measures by path, as far as git or DVC's cache has them."""
    contents = {}
    for _, path in committed:
        if not path.endswith(COMPARED):
            continue
        if (clone / path).is_file():
            contents[path] = (clone / path).read_bytes()
            continue
        try:
            contents[path] = dvc.api.read(from_top(path), rev=commit, mode="rb")
        except Exception:  # DVC and its remotes raise many kinds for a file that they do not have.
            continue
    return contents


def reproduce(clone: Path, made: dict[str, Any]) -> None:
    """Compute everything in `clone`, whatever is in DVC's cache; its output goes to the screen.

    It computes with the arithmetic and the number of threads of the committed results.
    """
    chosen = (
        {"GLOMERULI_ARITHMETIC": made["arithmetic"], THREADS[0]: str(made["threads"])}
        if made
        else {}
    )
    chosen[COMPUTE_ALL] = "1"  # The clone can share a cache by the settings of this machine.
    if not run_dvc(["repro", "--force", "--no-run-cache"], clone, chosen):
        raise UserError("`dvc repro` failed in the clone; what it printed above says why")


def compare_hashes(committed: Outputs, found: Outputs) -> list[tuple[str, str]]:
    """Return for each output `same` or `DIFFERENT`, and a line about it."""
    return [
        ("same" if found.get(output) == was else "DIFFERENT", ": ".join(output))
        for output, was in committed.items()
    ]


def compare_values(
    committed: Outputs, found: Outputs, contents: dict[str, bytes], clone: Path
) -> list[tuple[str, str]]:
    """Return for each output a word and a line about it.

    The words are `same`, `agrees`, `DIFFERENT`, `unknown` for a table that is not in the cache, and
    `follows` for what is not compared.
    """
    lines = []
    for (stage, path), was in committed.items():
        here = found.get((stage, path))
        if here == was:
            word, why = "same", ""
        elif here is None:
            word, why = "DIFFERENT", "it was not made"
        elif stage in EXACT_STAGES or path in EXACT_FILES:
            word, why = "DIFFERENT", "it must be the same on every processor"
        elif path in contents and (
            agreement := compare_contents(path, contents[path], (clone / path).read_bytes())
        ):
            word, why = "agrees" if agreement.agree else "DIFFERENT", agreement.found
        elif path not in contents and path in TABLES:
            word, why = "unknown", "it is not in DVC's cache here; `dvc pull` may bring it"
        else:
            word, why = "follows", "from the weights; not compared by value"
        lines.append((word, f"{stage}: {path}" + (f" ({why})" if why else "")))
    return lines
