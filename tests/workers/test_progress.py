"""Progress where nobody watches: lines below each other, now and then."""

import io
import sys

from stages.workers import progress as progress_module
from stages.workers.progress import ENOUGH, progress, warn_if_long


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
    with progress(total=3, desc="predicting", unit="crop") as bar:
        for _ in range(3):
            bar.update(1)
    lines = screen.getvalue().splitlines()
    assert (
        2 <= len(lines) <= 5
        and all(line.startswith("predicting: ") for line in lines)
        and "3/3" in lines[-1]
    )


def test_warns_of_hours(monkeypatch, capsys):
    with progress(total=100, initial=40) as bar:
        bar.update(20)
        # 40 crops are left, at 20 in this time.
        for seconds, said in ((1790, ""), (3600, "the rest will take about 2.0 hours")):
            monkeypatch.setattr(bar, "start_t", bar._time() - seconds)
            capsys.readouterr()
            warn_if_long(bar, ENOUGH)
            error = capsys.readouterr().err
            assert said in error and error.count("warning: ") == bool(said)
