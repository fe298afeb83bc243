"""A fork of the server starts, prints and ends like a program in a new Python."""

import io
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.fork_server import FORKS, dump_lock, load_lock, python
from tests.repositories import PROJECT

pytestmark = pytest.mark.skipif(not FORKS, reason="NO_FORKS is set, or this is not Linux")


def both(*arguments, **how):
    """Run a program in a new Python and as a fork; return exit code and output of each."""
    started = [
        subprocess.run([path, *arguments], capture_output=True, text=True, **how)
        for path in (sys.executable, python())
    ]
    return [(done.returncode, done.stdout, done.stderr) for done in started]


IS_FORK = "import sys; print('tensorflow' in sys.modules)"


@pytest.mark.parametrize(
    ("code", "status", "printed"),
    [
        (
            "import os, sys; print(os.getcwd(), sys.argv, os.environ['HERE'], sys.path[0] or "
            "os.getcwd())",
            0,
            None,
        ),
        ("import sys; sys.exit('no')", 1, ""),
        ("import sys; sys.exit(7)", 7, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, ""),
        ("import atexit; atexit.register(print, 'end'); print('begun')", 0, "begun\nend\n"),
        ("import sys; print(sys.stdin.read())", 0, "given\n"),
        ("import stages, numpy; print(numpy.exp(0.3))", 0, None),
    ],
)
def test_a_fork_behaves_like_a_new_python(code, status, printed, tmp_path):
    environment = os.environ | {"HERE": "x", "PYTHONPATH": os.getcwd()}
    own, fork = both("-c", code, "a b", cwd=tmp_path, env=environment, input="given")
    assert own == fork and own[0] == status and printed in (None, own[1])


def test_another_environment_gets_a_new_python():
    for variables, forked in (
        ({}, "True"),
        ({"PYTHONHASHSEED": "7"}, "False"),
        ({"KERAS_BACKEND": "jax"}, "False"),
    ):
        done = subprocess.run(
            [python(), "-c", IS_FORK], env=os.environ | variables, capture_output=True, text=True
        )
        assert done.stdout == f"{forked}\n", (variables, done.stderr)


def test_a_fork_ends_with_its_caller(tmp_path):
    code = (
        "import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid()));"
        "time.sleep(6000)"
    )
    running = subprocess.Popen([python(), "-c", code], cwd=tmp_path)
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.02)
    number = int((tmp_path / "pid").read_text())
    assert number != running.pid
    running.kill()
    running.wait()
    deadline = time.monotonic() + 600
    while os.path.exists(f"/proc/{number}"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("file", ["dvc.lock", "data/dvc.lock"])
def test_dvc_writes_the_same_lock_file(file):
    text = (PROJECT / file).read_text()
    written = io.StringIO()
    dump_lock(load_lock(text, file), written)
    assert written.getvalue() == text
