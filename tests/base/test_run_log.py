"""A line of JSON for each run of a program, however it ends."""

import json
import sys

import pytest

from stages.base.errors import UserError, run_program
from stages.base.packages import pinned_versions
from stages.base.run_log import VARIABLE


def fail():
    raise UserError("crops.csv: it is empty")


def crash():
    raise ZeroDivisionError


def test_each_run_is_a_line(tmp_path, monkeypatch):
    log = tmp_path / "runs.jsonl"
    monkeypatch.setenv(VARIABLE, str(log))
    monkeypatch.setattr(sys, "argv", ["predict", "müller", "--html", "a.html"])
    run_program(lambda: None)
    for program, raised in (
        (fail, SystemExit),
        (crash, ZeroDivisionError),
        (lambda: sys.exit(3), SystemExit),
    ):
        with pytest.raises(raised):
            run_program(program)
    runs = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [(run["exit"], run["error"]) for run in runs] == [
        (0, ""),
        (1, "error: crops.csv: it is empty"),
        (1, "a fault"),
        (3, ""),
    ]
    assert all(run["arguments"] == ["müller", "--html", "a.html"] for run in runs)
    assert runs[0]["versions"].keys() <= {"python", *pinned_versions()}
    assert runs[0]["seconds"] >= 0 and runs[0]["peak_memory_bytes"] > 10_000_000


def test_without_the_variable_nothing_is_written_and_a_bad_one_is_a_warning(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["predict"])
    monkeypatch.delenv(VARIABLE, raising=False)
    run_program(lambda: None)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "no/folder/runs.jsonl"))
    run_program(lambda: None)
    assert capsys.readouterr().err.startswith(f"warning: {VARIABLE}: ")
    assert not any(tmp_path.iterdir())
