"""The versions of the packages that compute, and that results therefore depend on.

pins/ repeats their lines of requirements.txt, in files of packages that are used together. These
files are dependencies in dvc.yaml, so that a new version reruns the stages that use it.
"""

import sys
from functools import cache
from pathlib import Path
from types import TracebackType

PROJECT = Path(__file__).resolve().parents[2]
PINS = PROJECT / "pins"


def pinned_versions(kind: str = "*") -> dict[str, str]:
    """Return the pinned version of each package that results depend on, by name.

    Args:
        kind: of one file of pins/, such as `images`.
    """
    files = sorted(PINS.glob(f"{kind}.txt"))
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return dict(line.split("==") for line in lines)


def installed_versions(*kinds: str) -> dict[str, str | None]:
    """Return the installed version of each package in these files of pins/; None without it."""
    # Slower to import than everything else that --help needs.
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {}
    for name in (name for kind in kinds for name in pinned_versions(kind)):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # The import fails where the package is needed.
            found[name] = None
    return found


def other_versions() -> list[str]:
    """Return the packages of other versions than pinned, such as `numpy 2.5.5 (pinned: 2.4.6)`."""
    installed = installed_versions("*")
    return [
        f"{name} {installed[name]} (pinned: {pinned})"
        for name, pinned in pinned_versions().items()
        if installed[name] not in (None, pinned)
    ]


@cache
def warn_of_other_versions() -> None:
    """Print a warning, once per process, if other versions than the pinned ones are installed."""
    if others := other_versions():
        print(
            f"warning: installed are {', '.join(others)}; results may have other bytes "
            "(pip install -r requirements.txt)",
            file=sys.stderr,
        )


def explain_missing(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print an error that ends Python: one line for a package that is missing, as `sys.excepthook`.

    Without the environment of the project, not even the modules that report errors are importable.
    """
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    if not name or name.split(".")[0] == "stages":
        sys.__excepthook__(kind, error, trace)
        return
    activate = PROJECT / ".venv/bin/activate"
    remedy = (
        f"`. {activate}` activates the environment"
        if activate.is_file() and sys.prefix == sys.base_prefix
        else "`pip install -r requirements.txt` in the folder of the project installs it"
    )
    print(f"error: {sys.executable} has no package {name}; {remedy}", file=sys.stderr)
