"""Programs on the workers of a cluster: what they refuse, and when they end."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from distributed import LocalCluster

from stages.base.errors import UserError
from stages.workers.growing import Target, growing_array, row_keys
from stages.workers.programs import WRITTEN, Program, compute_on_cluster, forget_ended, start
from tests.conftest import PROJECT

DOUBLING = """
from stages.base.errors import run_program
from stages.workers.programs import serve
import numpy as np

def compute(rows):
    print("a note", end="")
    for row in rows:
        yield np.array([row]), np.array([[2 * row]])

run_program(lambda: serve({"views": [8], "device": "CPU"}, compute), "")
"""


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """A worker of a cluster, in a thread of this process."""
    (tmp_path / "doubling.py").write_text(DOUBLING)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    of = {"threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with LocalCluster(n_workers=1, **of) as some:
        yield some.workers[0]


def double(scheduler, device="CPU", module="doubling"):
    """Compute seven rows in blocks of two."""
    made_with = {"views": (8,), "device": device}
    with growing_array(Path("doubled/all.npy"), row_keys("", "abcdefg"), (1,), np.int64) as rows:
        blocks = np.split(rows.missing, [2, 4, 6])
        for block in compute_on_cluster(rows, blocks, module, made_with, scheduler):
            rows.write(block, None)
    return np.load("doubled/all.npy")[:, 0].tolist()


def test_one_program_computes_all_blocks_of_a_run_and_ends_with_it(worker):
    of_runs = []
    for _ in range(2):
        assert double(worker.scheduler.address) == [0, 2, 4, 6, 8, 10, 12]
        *_, (program,) = worker.glomeruli_programs.values()
        of_runs.append(program)
    assert [program.wait() for program in of_runs] == [0, 0] and of_runs[0] is not of_runs[1]
    forget_ended(worker.glomeruli_programs)
    assert not worker.glomeruli_programs and all(one.stdin.closed for one in of_runs)


def test_a_program_ends_with_its_worker(worker):
    keys = row_keys("", "a")
    with growing_array(Path("one/all.npy"), keys, (1,), np.int64) as rows, rows.shared() as target:
        given = Program("doubling", Path.cwd(), {}, target, '{"views": [8], "device": "CPU"}')
        program = start(given)
        program.stdin.write("[0]\n")
        program.stdin.flush()
        assert [program.stdout.readline() for _ in range(2)] == ["a note\n", WRITTEN]
        # As happens when the process ends that holds the other end.
        program.stdin.close()
        assert program.wait() == 1
        rows.write(np.array([0]), None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "GPU"}, "it would compute other bytes: device CPU, on the client GPU"),
        ({"module": "absent"}, "absent ended with exit code 1: .*No module named absent"),
    ],
)
def test_what_a_program_refuses_is_one_line(worker, options, said):
    address = worker.scheduler.address
    with pytest.raises(UserError, match=f"^the cluster at {address} failed: .*: {said}$") as error:
        double(address, **options)
    assert "\n" not in str(error.value)
    assert not Path("doubled").exists() and not [*Path().glob("*.token.part")]


def test_refuses_a_worker_without_the_shared_folder(worker, monkeypatch):
    monkeypatch.setattr(Target, "is_seen", lambda target: False)
    said = "cannot write to (.*)/doubled.part; workers need the folder (.*) on shared storage"
    with pytest.raises(UserError, match=said) as error:
        double(worker.scheduler.address)
    assert {*re.search(said, str(error.value)).groups()} == {str(Path.cwd())}


def test_a_program_that_no_worker_started_is_one_line(worker):
    done = subprocess.run(
        [sys.executable, "doubling.py"], input="x", capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (
        1,
        "error: --worker is for the workers of a Dask cluster, which start it\n",
    )
