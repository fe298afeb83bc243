"""Run git and dvc with the Python of this program."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from stages.base.errors import UserError, one_line

DVC = (sys.executable, "-m", "dvc")
# Set by git's hooks: with them, a command for a clone would work on the repository of the hook.
HOOK_VARIABLES = (
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_WORK_TREE",
)
# What DVC 3.67 does not take in the path of a folder, which it uses in an ASCII configuration file
# with interpolation, in URLs and in templates. With {} even `dvc repro` fails.
UNFIT = re.compile(r"[^\x00-\x7f]|[\t-\r#?{}]|%(?=\(|[0-9A-Fa-f]{2})")


def environment() -> dict[str, str]:
    """Return the environment with this Python first on the path, and without a git hook."""
    kept = {name: value for name, value in os.environ.items() if name not in HOOK_VARIABLES}
    here = str(Path(sys.executable).parent)
    return {**kept, "PATH": os.pathsep.join([here, os.environ.get("PATH", "")])}


def refuse_unfit_paths(*folders: str | Path) -> None:
    """Raise `UserError` if DVC cannot run experiments in a folder or would lose their results."""
    for folder in folders:
        path = str(Path(folder).resolve())
        if found := UNFIT.search(path):
            shown = path if path.isprintable() else repr(path)
            raise UserError(
                f"{shown}: the path of this folder has {found[0]!r}, with which DVC cannot run "
                "experiments; use a folder without"
            )


class Repository(NamedTuple):
    """The git repository of the current folder: its top, and the path from there to here."""

    top: Path
    inside: str


def find_repository(whole: bool = False) -> Repository:
    """Return the git repository of the current folder.

    Args:
        whole: refuse a shallow clone, in which DVC loses experiments of temporary folders.

    Raises:
        UserError: it does not exist, belongs to another user, or is shallow.
    """
    asked = ("--is-shallow-repository", "--show-prefix", "--show-toplevel")
    done = _run(["git", "rev-parse", *asked], LC_ALL="C")
    if owned := re.search(r"dubious ownership in repository at '(.*?)'\n", done.stderr, re.DOTALL):
        raise UserError(
            f"{owned[1]}: another user owns this repository; "
            f"`git config --global --add safe.directory {owned[1]}` allows its use"
        )
    if done.returncode:
        raise UserError(f"{Path.cwd()}: it is not in a git repository ({one_line(done.stderr)})")
    shallow, inside, top = done.stdout.split("\n", 2)
    if whole and shallow == "true":
        raise UserError(
            "this clone is shallow, without earlier commits; `git fetch --unshallow` brings them"
        )
    return Repository(Path(top.removesuffix("\n")), inside or ".")


def from_top(path: str) -> str:
    """Return a path relative to the top of the git repository, as `dvc.api.read` takes it."""
    return os.path.normpath(Path(find_repository().inside, path))


def find_experiment(name: str) -> str:
    """Return the commit of an experiment of HEAD, even if a branch has the same name.

    Raises:
        UserError: there is no such experiment.
    """
    head = output_of(["git", "rev-parse", "HEAD"]).strip()
    reference = f"refs/exps/{head[:2]}/{head[2:]}/{name}"
    try:
        return output_of(["git", "rev-parse", "--verify", reference]).strip()
    except UserError:
        raise UserError(f"experiment {name} ran, and DVC has not kept its results") from None


def run_dvc(
    arguments: Sequence[str], folder: str | Path = ".", variables: Mapping[str, str] | None = None
) -> bool:
    """Run dvc with its output on the screen; return whether it succeeded."""
    variables = environment() | dict(variables or {})
    return subprocess.run([*DVC, *arguments], cwd=folder, env=variables).returncode == 0


def start_dvc(arguments: Sequence[str]) -> subprocess.Popen[str]:
    """Start dvc; its output, errors included, can be read line by line."""
    return subprocess.Popen(
        [*DVC, *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )


def _run(command: Sequence[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env=environment() | variables,
    )


def output_of(command: Sequence[str], last_lines: int | None = None) -> str:
    """Return what a command prints.

    Raises:
        UserError: it fails. The text is its error output in one line, or the `last_lines` of all
            its output.
    """
    done = _run(command)
    if done.returncode and last_lines:
        raise UserError("\n".join((done.stdout + done.stderr).strip().splitlines()[-last_lines:]))
    if done.returncode:
        raise UserError(f"`{' '.join(command)}` failed: {one_line(done.stderr)}")
    return done.stdout


def file_at(commit: str, path: str) -> bytes | None:
    """Return a file of a commit that git keeps, by its path from here; None if git has none."""
    command = ["git", "cat-file", "blob", f"{commit}:./{path}"]
    done = subprocess.run(command, capture_output=True, env=environment())
    return None if done.returncode else done.stdout


def stages_to_run() -> list[str]:
    """Return the stages whose code, parameters or data have changed since they ran; runs nothing.

    Stages that depend on those returned are left out. Files that are only in a remote count as
    unchanged.

    Raises:
        UserError: DVC cannot tell, for example because dvc.yaml is invalid.
    """
    command = [*DVC, "repro", "--dry", "--allow-missing", "--keep-going"]
    done = _run(command)
    names = re.findall(r"^Running stage '(.+)':$", done.stdout, flags=re.MULTILINE)
    if done.returncode:
        # DVC cannot even try a stage whose data is missing.
        refused = r"^ERROR: failed to reproduce(?: stages:)? ('.+')$"
        failed = re.findall(refused, done.stderr, flags=re.MULTILINE)
        names += re.findall(r"'([^']+)'", " ".join(failed))
        if not names:
            raise UserError(f"`{' '.join(command)}` failed: {one_line(done.stderr)}")
    return sorted(set(names))


def clone_at(repository: str, commit: str, folder: Path) -> None:
    """Clone a repository (a folder or URL) at a commit. Raises `UserError` if that fails."""
    output_of(["git", "clone", "--quiet", "--no-checkout", repository, str(folder)])
    output_of(["git", "-C", str(folder), "checkout", "--quiet", "--detach", commit])
