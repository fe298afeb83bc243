"""The packages that compute: their versions are a dependency of the stages that use them, and part
of where results are from.

pins/ repeats lines of requirements.txt, in files of packages that are used together. dvc.yaml names
these files, so that DVC runs a stage again after a new version.
"""

import sys
from functools import cache
from pathlib import Path

PINS = Path(__file__).resolve().parents[2] / "pins"


def other_versions() -> list[str]:
    """Return the installed packages whose version is not the pinned one, such as `numpy 2.5.5
    (pinned: 2.4.6)`.
    """
    # It takes longer to import than all else that --help needs.
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for file in sorted(PINS.glob("*.txt")):
        for line in file.read_text(encoding="utf-8").splitlines():
            name, _, pinned = line.partition("==")
            try:
                installed = version(name)
            except (
                PackageNotFoundError
            ):  # Such as of another model step; the import says so where it is needed.
                continue
            if installed != pinned:
                found.append(f"{name} {installed} (pinned: {pinned})")
    return found


@cache
def warn_of_other_versions() -> None:
    """Print a warning of one line, once in a process, if other versions are installed than the
    pinned ones.
    """
    if others := other_versions():
        print(
            f"warning: installed are {', '.join(others)}; results may have other bytes (pip install -r requirements.txt)",
            file=sys.stderr,
        )
