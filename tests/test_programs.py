"""What a person types: each program says what it does and takes nothing that it does not know."""

import io
import subprocess
import sys

import pytest

from stages.base import progress as progress_module
from stages.workers.progress import progress
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


def test_progress_is_lines_where_nobody_watches(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress_module, "BETWEEN_LINES", 1e9)
    assert list(progress(range(586), desc="drawing", unit="image")) == list(range(586))
    assert screen.getvalue().count("\r") == 0
    (line,) = screen.getvalue().splitlines()
    assert line.startswith("drawing: 100%") and "586/586" in line


def test_progress_now_and_then(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress_module, "BETWEEN_LINES", 0)
    with progress(total=3, desc="judging", unit="crop") as bar:
        for _ in range(3):
            bar.update(1)
    lines = screen.getvalue().splitlines()
    assert 2 <= len(lines) <= 5 and all(line.startswith("judging: ") for line in lines) and "3/3" in lines[-1]
