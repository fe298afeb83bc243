"""Running git and dvc, as the stages' own Python would."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from stages.base.errors import UserError

DVC = (sys.executable, "-m", "dvc")
# Where git's hooks say that the repository is: commands for a clone would work on the repository of
# the hook.
OF_A_HOOK = (
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_WORK_TREE",
)
# What the path of a folder may not hold (tried with DVC 3.67): it is written into a configuration
# as ASCII and with interpolation, is a URL at another place, and a template at a third. With {} not
# even `dvc repro` runs.
UNFIT = re.compile(r"[^\x00-\x7f]|[\t-\r#?{}]|%(?=\(|[0-9A-Fa-f]{2})")


def environment() -> dict[str, str]:
    """Return the environment with this Python first on the path, as in an activated virtual
    environment, and of no git hook.
    """
    kept = {name: value for name, value in os.environ.items() if name not in OF_A_HOOK}
    return {
        **kept,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }


def refuse_unfit_paths(*folders: str | Path) -> None:
    """Raise `UserError` if DVC cannot run experiments in a folder: it fails in its own words, or
    loses the results silently.
    """
    for folder in folders:
        path = str(Path(folder).resolve())
        if found := UNFIT.search(path):
            shown = path if path.isprintable() else repr(path)
            raise UserError(
                f"{shown}: the path of this folder has {found[0]!r}, with which DVC cannot run experiments; use a folder without"
            )


class Repository(NamedTuple):
    """The git repository of the current folder: its top folder, and the way from there to here, `.`
    at the top.
    """

    top: Path
    inside: str


def find_repository(whole: bool = False) -> Repository:
    """Return the git repository of the current folder.

    Args:
        whole: refuse a shallow clone, in which DVC loses the experiments of temporary folders.

    Raises:
        UserError: there is none, it belongs to somebody else, or it is shallow.
    """
    command = ["git", "rev-parse", "--is-shallow-repository", "--show-prefix", "--show-toplevel"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        env=environment() | {"LC_ALL": "C"},
    )
    if owned := re.search(r"dubious ownership in repository at '(.*?)'\n", done.stderr, re.DOTALL):
        raise UserError(
            f"{owned[1]}: another user owns this repository; `git config --global --add safe.directory {owned[1]}` allows its use"
        )
    if done.returncode:
        raise UserError(
            f"{Path.cwd()}: it is not in a git repository ({' '.join(done.stderr.split())})"
        )
    shallow, inside, top = done.stdout.split("\n", 2)
    if whole and shallow == "true":
        raise UserError(
            "this clone is shallow, without its earlier commits; `git fetch --unshallow` brings them"
        )
    return Repository(Path(top.removesuffix("\n")), inside or ".")


def from_top(path: str) -> str:
    """Return a path of the current folder as one from the top of the git repository, as
    `dvc.api.read` asks for it.
    """
    return os.path.normpath(Path(find_repository().inside, path))


def find_experiment(name: str) -> str:
    """Return the commit of the experiment of HEAD with this name, be there a branch of that name or
    not.

    Raises:
        UserError: there is none.
    """
    head = output_of(["git", "rev-parse", "HEAD"]).strip()
    try:
        return output_of(
            ["git", "rev-parse", "--verify", f"refs/exps/{head[:2]}/{head[2:]}/{name}"]
        ).strip()
    except UserError:
        raise UserError(f"experiment {name} ran, and DVC has not kept its results") from None


def run_dvc(
    arguments: Sequence[str], folder: str | Path = ".", variables: Mapping[str, str] | None = None
) -> bool:
    """Run dvc with its output on the screen, and with further environment variables; return whether
    it succeeded.
    """
    return (
        subprocess.run(
            [*DVC, *arguments], cwd=folder, env=environment() | dict(variables or {})
        ).returncode
        == 0
    )


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
        UserError: it fails. The text has its error output in one line, or the `last_lines` of all
            its output.
    """
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", env=environment()
    )
    if done.returncode and last_lines:
        raise UserError("\n".join((done.stdout + done.stderr).strip().splitlines()[-last_lines:]))
    if done.returncode:
        raise UserError(f"`{' '.join(command)}` failed: {' '.join(done.stderr.split())}")
    return done.stdout


def stages_to_run() -> list[str]:
    """Return the names of the stages whose results are not those of the workspace's code,
    parameters and data, as far as dvc.lock and the files that are here tell; files that are only in
    a remote are not missed. Nothing runs.

    Stages that depend on those returned are left out. Raises `UserError` if DVC cannot tell, as in
    a broken dvc.yaml.
    """
    command = [*DVC, "repro", "--dry", "--allow-missing", "--keep-going"]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", env=environment()
    )
    names = re.findall(r"^Running stage '(.+)':$", done.stdout, flags=re.MULTILINE)
    if done.returncode:
        # A stage whose data is not here cannot even be tried.
        failed = re.findall(
            r"^ERROR: failed to reproduce(?: stages:)? ('.+')$", done.stderr, flags=re.MULTILINE
        )
        names += re.findall(r"'([^']+)'", " ".join(failed))
        if not names:
            raise UserError(f"`{' '.join(command)}` failed: {' '.join(done.stderr.split())}")
    return sorted(set(names))


def clone_at(repository: str, commit: str, folder: Path) -> None:
    """Clone a repository (a folder or an address) into `folder`, at a commit. Raises `UserError` if
    that fails.
    """
    output_of(["git", "clone", "--quiet", "--no-checkout", repository, str(folder)])
    output_of(["git", "-C", str(folder), "checkout", "--quiet", "--detach", commit])
