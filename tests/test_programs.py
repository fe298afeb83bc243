"""What a person types: each program says what it does and takes nothing that it does not know."""

import importlib
import os
import re
import signal
import subprocess
import sys

import pytest

from tests.repositories import ENVIRONMENT, PROJECT, run_program

PROGRAMS = sorted(
    path.stem
    for path in (PROJECT / "stages").glob("*.py")
    if '__name__ == "__main__"' in path.read_text()
)


def test_there_are_programs():
    assert {
        "demo",
        "manifest",
        "split",
        "pad",
        "train",
        "evaluate",
        "predict",
        "compare",
        "verify",
    } <= set(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_and_what_is_not_known(program, tmp_path, monkeypatch):
    """In a folder that holds nothing: neither touches a file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", str(PROJECT))
    code, text, error = run_program(program, "--help")
    assert code == 0 and text.startswith(f"usage: python -m stages.{program}"), error
    assert len(text.splitlines()) > 4 and error == ""
    code, _, error = run_program(program, "--nonsense")
    assert code == 2 and "error: " in error.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        f"{folder}.{file.stem}"
        for folder in ("tools", "benchmarks")
        for file in sorted((PROJECT / folder).glob("[a-z]*.py"))
    ],
)
def test_tools_and_benchmarks_are_imported_and_say_what_they_do(name, monkeypatch, capsys):
    module = importlib.import_module(name)
    assert module.__doc__
    if hasattr(module, "argparse"):
        monkeypatch.setattr(sys, "argv", [name, "--help"])
        with pytest.raises(SystemExit, match="0"):
            module.main()
        assert capsys.readouterr().out.startswith("usage: ")


@pytest.mark.parametrize("program", ["evaluate", "manifest"])
@pytest.mark.parametrize("module", ["stages", "pydantic", "numpy"])
def test_ctrl_c_prints_no_traceback_while_modules_are_imported_either(program, module, tmp_path):
    """`-X importtime` prints a line after each import: the moment in which to interrupt."""
    command = [sys.executable, "-X", "importtime", "-m", f"stages.{program}", "--help"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=-3, stderr=-1, text=True
    ) as running:
        assert any(line.split("|")[-1].strip() == module for line in running.stderr)
        running.send_signal(signal.SIGINT)
        lines = running.stderr.read().splitlines()
    assert running.returncode in (0, 130, -signal.SIGINT)
    assert [line for line in lines if not line.startswith("import time:")] == []


@pytest.mark.parametrize("program", ["predict", "split", "assess"])
def test_a_missing_environment_is_a_line(program):
    """`-S` leaves out all packages, as a Python outside of the environment does."""
    command = [sys.executable, "-S", "-m", f"stages.{program}"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    line = rf"error: {re.escape(sys.executable)} has no package \w+; .+ (activates|installs) .+\n"
    assert done.returncode == 1 and re.fullmatch(line, done.stderr), done.stderr


@pytest.mark.parametrize("program", ["split", "evaluate"])
def test_another_folder_than_the_projects_is_a_line(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", str(PROJECT))
    code, _, error = run_program(program)
    said = (
        "params.yaml does not exist; start the command in the folder of the project, which has it"
    )
    assert (code, error) == (1, f"error: {said}\n")


@pytest.mark.parametrize("program", ["report", "predict"])
def test_arguments_that_are_not_text(program, tmp_path):
    done = subprocess.run(
        [os.fsencode(sys.executable), b"-m", f"stages.{program}".encode(), b"x\xff"],
        env={"PYTHONPATH": str(PROJECT), "PATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (
        1,
        "error: 'x\\udcff' is not UTF-8 text; rename the file, or the folder that it is in\n",
    )


@pytest.mark.parametrize("argument", ["", "--output="])
@pytest.mark.parametrize("program", ["predict", "recalibrate", "compare", "bundle"])
def test_refuses_an_empty_argument(program, argument, tmp_path, monkeypatch):
    """A shell variable that is not set: an empty path would be the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", str(PROJECT))
    code, _, error = run_program(program, argument)
    expected = (
        f"error: the argument {argument!r} is empty, as of a shell variable that is not set; "
        "give a value\n"
    )
    assert (code, error) == (1, expected)


@pytest.mark.parametrize(
    "program", ["recalibrate", "predict", "manifest", "split", "pad", "calibrate"]
)
def test_tensorflow_is_imported_where_it_is_needed(program):
    """What is asked, and what is wrong with a folder, is answered before; and `predict` opens crops
    meanwhile.
    """
    late = ("keras", "tensorflow", "sklearn")
    code = f"import sys, stages.{program}; print([name for name in {late} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("program", ["climb", "sweep"])
def test_experiments_in_a_folder_with_other_letters(program, tmp_path, monkeypatch):
    folder = tmp_path / "Gr\u00f6\u00dfe"
    folder.mkdir()
    (folder / "params.yaml").write_text((PROJECT / "params.yaml").read_text())
    monkeypatch.chdir(folder)
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", str(PROJECT))
    code, _, error = run_program(program)
    assert code == 1
    assert error == (
        f"error: {folder}: the path of this folder has 'ö', with which DVC cannot run "
        "experiments; use a folder without\n"
    )
