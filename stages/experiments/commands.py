"""Running git and dvc, as the stages' own Python would."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.base.errors import UserError

DVC = (sys.executable, "-m", "dvc")
# Where git's hooks say that the repository is: commands for a clone would work on the repository of the hook.
OF_A_HOOK = ("GIT_COMMON_DIR", "GIT_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_WORK_TREE")


def environment() -> dict[str, str]:
    """Return the environment with this Python first on the path, as in an activated virtual environment, and of no git hook."""
    kept = {name: value for name, value in os.environ.items() if name not in OF_A_HOOK}
    return {**kept, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}


def refuse_beyond_ascii(*folders: str | Path) -> None:
    """Raise `UserError` if DVC cannot run experiments in a folder: it writes paths into its configuration, as ASCII alone
    (iterative/dvc#1512), and ends in an error that names no folder.
    """
    for folder in folders:
        path = str(Path(folder).resolve())
        if not path.isascii():
            raise UserError(f"{path} has letters beyond ASCII, with which DVC cannot run experiments; use a folder without")


def run_dvc(arguments: Sequence[str], folder: str | Path = ".", variables: Mapping[str, str] | None = None) -> bool:
    """Run dvc with its output on the screen, and with further environment variables; return whether it succeeded."""
    return subprocess.run([*DVC, *arguments], cwd=folder, env=environment() | dict(variables or {})).returncode == 0


def start_dvc(arguments: Sequence[str]) -> subprocess.Popen[str]:
    """Start dvc; what it prints, errors included, is there to read, line by line."""
    return subprocess.Popen(
        [*DVC, *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )


def output_of(command: Sequence[str], last_lines: int | None = None) -> str:
    """Return what a command prints.

    Raises:
        UserError: it fails. The text has its error output in one line, or the `last_lines` of all its output.
    """
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", env=environment())
    if done.returncode and last_lines:
        raise UserError("\n".join((done.stdout + done.stderr).strip().splitlines()[-last_lines:]))
    if done.returncode:
        raise UserError(f"`{' '.join(command)}` failed: {' '.join(done.stderr.split())}")
    return done.stdout


def clone_at(repository: str, commit: str, folder: Path) -> None:
    """Clone a repository (a folder or an address) into `folder`, at a commit. Raises `UserError` if that fails."""
    output_of(["git", "clone", "--quiet", "--no-checkout", repository, str(folder)])
    output_of(["git", "-C", str(folder), "checkout", "--quiet", "--detach", commit])
