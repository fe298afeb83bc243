"""What a person types: each program says what it does and takes nothing that it does not know."""

import subprocess
import sys

import pytest

from tests.repositories import PROJECT

PROGRAMS = sorted(path.stem for path in (PROJECT / "stages").glob("*.py") if '__name__ == "__main__"' in path.read_text())


def run(program, *arguments, folder=PROJECT):
    return subprocess.run(
        [sys.executable, "-m", f"stages.{program}", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=None if folder == PROJECT else {"PYTHONPATH": str(PROJECT), "PATH": ""},
    )


def test_there_are_programs():
    assert {"demo", "manifest", "split", "pad", "train", "evaluate", "predict", "compare", "verify"} <= set(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_and_what_is_not_known(program, tmp_path):
    """In a folder that holds nothing: neither touches a file."""
    done = run(program, "--help", folder=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith(f"usage: python -m stages.{program}"), done.stderr
    assert len(done.stdout.splitlines()) > 4 and done.stderr == ""
    done = run(program, "--nonsense", folder=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "error: " in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
