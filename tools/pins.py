"""Check that wheels exist for all of requirements.txt, for each supported Python and system.

    python -m tools.pins                                  all of them
    python -m tools.pins --python 3.13 --system windows   one of them
    python -m tools.pins --write                          first write pins/ from requirements.txt

All of them take a minute or two: pip asks the package index and installs nothing. Each line says
whether pip finds a wheel of every pinned version, and which it misses. The exit code is 1 if it
misses any, or if pins/ has other versions than requirements.txt.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement

from stages.offline.packing import SOURCE_ONLY

PROJECT = Path(__file__).resolve().parent.parent
# What pins the packages in pins/.
PINNED = ("requirements.txt", "requirements-encoders.txt")
PYTHONS = ("3.11", "3.12", "3.13")
# The tags of pip's --platform, and what a requirement's condition sees of the system.
SYSTEMS = {
    "linux-x86_64": (
        [
            "manylinux_2_28_x86_64",
            "manylinux_2_27_x86_64",
            "manylinux_2_17_x86_64",
            "manylinux2014_x86_64",
        ],
        {
            "sys_platform": "linux",
            "platform_system": "Linux",
            "platform_machine": "x86_64",
            "os_name": "posix",
        },
    ),
    "linux-aarch64": (
        [
            "manylinux_2_28_aarch64",
            "manylinux_2_27_aarch64",
            "manylinux_2_17_aarch64",
            "manylinux2014_aarch64",
        ],
        {
            "sys_platform": "linux",
            "platform_system": "Linux",
            "platform_machine": "aarch64",
            "os_name": "posix",
        },
    ),
    "macos-arm64": (
        [
            f"macosx_{version}_{kind}"
            for version in ("14_0", "13_0", "12_0", "11_0", "10_13")
            for kind in ("arm64", "universal2")
        ],
        {
            "sys_platform": "darwin",
            "platform_system": "Darwin",
            "platform_machine": "arm64",
            "os_name": "posix",
        },
    ),
    "windows": (
        ["win_amd64"],
        {
            "sys_platform": "win32",
            "platform_system": "Windows",
            "platform_machine": "AMD64",
            "os_name": "nt",
        },
    ),
}


def wanted(requirements: str, python: str, system: str) -> list[str]:
    """Return the requirements whose condition holds for a Python and a system, without the
    conditions.

    pip itself looks at the Python that it runs on, not at the one that it is asked about.
    """
    environment = {
        **SYSTEMS[system][1],
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }
    found = []
    for line in requirements.splitlines():
        line = line.split(" #")[0].split("#")[0].strip()
        if not line:
            continue
        requirement = Requirement(line)
        if requirement.name in SOURCE_ONLY:
            continue
        if requirement.marker is None or requirement.marker.evaluate(environment):
            requirement.marker = None
            found.append(str(requirement))
    return found


def missing(python: str, system: str, requirements: str) -> str:
    """Return what pip says of a pinned version that has no wheel; nothing where all have one."""
    tags, _ = SYSTEMS[system]
    # Which Python a package requires pip would compare with the one that it runs on: uv did that
    # when it made the file.
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder) / "pins.txt"
        pins.write_text("\n".join(wanted(requirements, python, system)) + "\n")
        done = subprocess.run(
            [
                *(
                    sys.executable,
                    "-m",
                    "pip",
                    "install",
                    "--dry-run",
                    "--no-deps",
                    "--ignore-installed",
                    "--quiet",
                ),
                *(
                    "--disable-pip-version-check",
                    "--ignore-requires-python",
                    "--only-binary",
                    ":all:",
                    "--target",
                    f"{folder}/target",
                ),
                *(
                    "--implementation",
                    "cp",
                    "--python-version",
                    python,
                    "--abi",
                    f"cp{python.replace('.', '')}",
                ),
                *("--abi", "abi3", "--abi", "none"),
                *(word for tag in tags for word in ("--platform", tag)),
                *("-r", str(pins)),
            ],
            capture_output=True,
            text=True,
        )
    if done.returncode == 0:
        return ""
    errors = re.findall(r"^ERROR: (.*)$", done.stderr, flags=re.MULTILINE)
    return errors[-1] if errors else done.stderr.strip()[-300:]


def computing(python: str, system: str) -> dict[Path, str]:
    """Return what each file of pins/ must hold: its packages, with the versions that a Python and a
    system get.

    Raises:
        SystemExit: a package of such a file is pinned nowhere.
    """
    text = "\n".join((PROJECT / name).read_text(encoding="utf-8") for name in PINNED)
    pinned = {Requirement(line).name: line for line in wanted(text, python, system)}
    files = {}
    for file in sorted((PROJECT / "pins").glob("*.txt")):
        names = [line.partition("==")[0] for line in file.read_text(encoding="utf-8").splitlines()]
        if gone := [name for name in names if name not in pinned]:
            sys.exit(f"error: {file} has {', '.join(gone)}, which {', '.join(PINNED)} do not pin")
        files[file] = "".join(f"{pinned[name]}\n" for name in names)
    return files


def differing() -> list[str]:
    """Return the files of pins/ that differ from requirements.txt for a Python on a system."""
    return [
        f"pins/{file.name} is not what Python {python} on {system} gets from requirements.txt"
        for python in PYTHONS
        for system in SYSTEMS
        for file, content in computing(python, system).items()
        if file.read_text(encoding="utf-8") != content
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.pins",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--python", choices=PYTHONS, nargs="+", default=PYTHONS)
    parser.add_argument("--system", choices=SYSTEMS, nargs="+", default=[*SYSTEMS])
    parser.add_argument(
        "--requirements",
        default="requirements.txt",
        help="the file of pins (default: requirements.txt)",
    )
    parser.add_argument(
        "--write", action="store_true", help="first write the versions of what computes into pins/"
    )
    arguments = parser.parse_args()
    if arguments.write:
        for file, content in computing(PYTHONS[0], next(iter(SYSTEMS))).items():
            file.write_text(content, encoding="utf-8")
    problems = differing()
    print("".join(f"{problem}\n" for problem in problems), end="")
    requirements, failed = Path(arguments.requirements).read_text(encoding="utf-8"), len(problems)
    for python in arguments.python:
        for system in arguments.system:
            problem = missing(python, system, requirements)
            failed += bool(problem)
            print(f"{python}  {system:14} {problem or 'every pin has a wheel'}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
