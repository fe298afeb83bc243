"""Write a folder with everything that a machine without a network needs."""

import json
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement

from stages.base.errors import UserError
from stages.experiments.commands import DVC, output_of
from stages.offline.install import ABOUT, REMOTE, REPOSITORY, SUMS, WHEELS, listing

INSTALL = Path(__file__).with_name("install.py")
# Pure Python packages that are published only as source: a wheel built here works everywhere.
SOURCE_ONLY = ("antlr4-python3-runtime",)


def pack(
    output: Path,
    requirements: Sequence[str],
    python: str,
    platforms: Sequence[str],
    datasets: Sequence[str],
) -> None:
    """Write the folder `output`: the repository at HEAD, wheels, datasets, installer and digests.

    Args:
        requirements: files such as requirements.txt.
        python: a version such as 3.11.
        platforms: pip's names, such as manylinux_2_28_x86_64; empty: the platform of this machine.
        datasets: files by `dvc add`, such as data/mine.dvc.

    Raises:
        UserError: git, pip or DVC fails.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bundle-", dir=output.parent) as place:
        folder = Path(place) / "bundle"
        (folder / WHEELS).mkdir(parents=True)
        branch = output_of(["git", "rev-parse", "--abbrev-ref", "HEAD"]).strip()
        if branch == "HEAD":
            raise UserError("no branch is checked out, and the bundle needs one: `git switch main`")
        output_of(["git", "bundle", "create", "--quiet", str(folder / REPOSITORY), branch])
        collect_wheels(folder / WHEELS, requirements, python, platforms)
        for dataset in datasets:
            collect_dataset(folder / REMOTE, dataset)
        about = {
            "branch": branch,
            "python": python,
            "platforms": [*platforms],
            "requirements": [*requirements],
            "datasets": [*datasets],
        }
        (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        shutil.copyfile(INSTALL, folder / INSTALL.name)
        names = [
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        ]
        (folder / SUMS).write_text(listing(folder, names), encoding="utf-8", newline="\n")
        folder.rename(output)


def collect_wheels(
    wheels: Path, requirements: Sequence[str], python: str, platforms: Sequence[str]
) -> None:
    """Collect the wheels of all requirements and their dependencies in a folder."""
    pip = [sys.executable, "-m", "pip"]
    quiet = ["--quiet", "--disable-pip-version-check"]
    files = [word for name in requirements for word in ("-r", name)]
    if not platforms:
        _run([*pip, "wheel", *quiet, "--wheel-dir", str(wheels), *files])
        return
    sources = _pins_of(requirements, SOURCE_ONLY)
    if sources:
        _run([*pip, "wheel", *quiet, "--no-deps", "--wheel-dir", str(wheels), *sources])
    target = ["--only-binary", ":all:", "--implementation", "cp", "--python-version", python]
    tags = [word for name in platforms for word in ("--platform", name)]
    places = ["--find-links", str(wheels), "--dest", str(wheels)]
    _run([*pip, "download", *quiet, *target, *tags, *places, *files])


def collect_dataset(remote: Path, dataset: str) -> None:
    """Push a dataset that DVC tracks into a folder, as to a remote."""
    name = f"bundle-{uuid.uuid4().hex}"
    output_of([*DVC, "remote", "add", "--quiet", "--local", name, str(remote.resolve())])
    try:
        output_of([*DVC, "push", "--quiet", "--remote", name, dataset])
    finally:
        output_of([*DVC, "remote", "remove", "--quiet", "--local", name])


def _pins_of(requirements: Sequence[str], names: Sequence[str]) -> list[str]:
    lines = (
        line.split("#")[0].strip()
        for file in requirements
        for line in Path(file).read_text(encoding="utf-8").splitlines()
    )
    found = [Requirement(line) for line in lines if line and not line.startswith("-")]
    return [f"{one.name}{one.specifier}" for one in found if one.name in names]


def _run(command: Sequence[str]) -> None:
    if subprocess.run(command).returncode:
        raise UserError(f"`{' '.join(command[1:4])}` failed; what pip printed above says why")
