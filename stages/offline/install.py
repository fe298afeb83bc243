"""Install the glomeruli pipeline from this folder, without a network, and run its demo.

    python3 install.py FOLDER

makes FOLDER, which must not exist, a repository with a virtual environment in .venv. It needs only
Python and git. It first checks the digests in SHA256SUMS.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SUMS, ABOUT, REPOSITORY, WHEELS, REMOTE = (
    "SHA256SUMS",
    "bundle.json",
    "repository.bundle",
    "wheels",
    "dvc-remote",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="the folder to install into; it must not exist")
    parser.add_argument("--no-demo", action="store_true", help="do not run the demo")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    if folder.exists():
        sys.exit(f"error: {folder} already exists; choose another name")
    check_digests(HERE)
    about = json.loads((HERE / ABOUT).read_text(encoding="utf-8"))
    if (here := f"{sys.version_info[0]}.{sys.version_info[1]}") != about["python"]:
        sys.exit(
            f"error: this is Python {here}; the folder has packages for Python {about['python']}"
        )
    try:
        python = install(folder, about)
    except BaseException:
        # A partial installation would block the next one.
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if not arguments.no_demo:
        path = os.pathsep.join([str(Path(python).parent), os.environ.get("PATH", "")])
        run(python, "-m", "dvc", "repro", cwd=folder, environment={"PATH": path})
    print(f"installed into {folder}; begin there with: . .venv/bin/activate")


def install(folder: Path, about: dict[str, Any]) -> str:
    """Install the repository with its environment and datasets; return the path of its Python."""
    run("git", "clone", "--quiet", "--branch", about["branch"], str(HERE / REPOSITORY), str(folder))
    # Do not fetch from or push to the bundle.
    run("git", "remote", "remove", "origin", cwd=folder)
    run(sys.executable, "-m", "venv", str(folder / ".venv"))
    python = str(folder / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    required = [word for name in about["requirements"] for word in ("-r", name)]
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--no-index", "--find-links", str(HERE / WHEELS), *required, cwd=folder)
    dvc = (python, "-m", "dvc")
    for dataset in about["datasets"]:
        add = ("remote", "add", "--quiet", "--local", "--force", "bundle", str(HERE / REMOTE))
        run(*dvc, *add, cwd=folder)
        run(*dvc, "pull", "--quiet", "--remote", "bundle", dataset, cwd=folder)
    return python


def check_digests(folder: Path) -> None:
    """Exit with an error if a file has changed, is missing, or is not listed."""
    lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    listed = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    files = [path for path in folder.rglob("*") if path.is_file() and path != folder / SUMS]
    there = {path.relative_to(folder).as_posix(): sha256(path) for path in files}
    problems = []
    for name in sorted(listed.keys() | there):
        if name not in there:
            problems.append(f"{name} is missing")
        elif name not in listed:
            problems.append(f"{name} is not listed")
        elif there[name] != listed[name]:
            problems.append(f"{name} has changed")
    if problems:
        sys.exit("\n".join(f"error: {folder}: {one}" for one in problems[:20]))


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run(*command: str, cwd: Path | None = None, environment: dict[str, str] | None = None) -> None:
    if subprocess.run(command, cwd=cwd, env=os.environ | (environment or {})).returncode:
        sys.exit(f"error: `{' '.join(command)}` failed")


def listing(folder: Path, names: Sequence[str]) -> str:
    """Return the files with their digests in the format of `sha256sum -c`."""
    return "".join(f"{sha256(folder / name)}  {name}\n" for name in sorted(names))


if __name__ == "__main__":
    main()
