"""A grid of experiments on a Dask cluster: all come home, with the bytes of a run at home, whatever
happens to a worker.
"""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from stages.base.errors import UserError
from stages.experiments.settings import grid
from stages.workers.cluster import connect
from tests.fork_server import python
from tests.repositories import ENVIRONMENT, dvc, git, run_program

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The address of a scheduler, with two workers that know nothing of this repository; the
    workers' processes; and the folder of their temporary files, which a killed worker leaves.
    """
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    file = elsewhere / "scheduler.json"
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "PYTHONPATH"} | {
        "TMPDIR": str(elsewhere)
    }

    def start(*arguments):
        with open(elsewhere / "log.txt", "a") as log:
            return subprocess.Popen(
                [python(), "-m", "dask", *arguments],
                cwd=elsewhere,
                env=environment,
                stdout=log,
                stderr=log,
            )

    here = ("--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file))
    processes = [start("scheduler", "--port", "0", *here)]
    processes += [start("worker", "--nthreads", "1", "--no-nanny", *here) for _ in range(2)]
    while not (file.is_file() and file.read_text()):
        assert all(one.poll() is None for one in processes), (elsewhere / "log.txt").read_text()
        time.sleep(0.05)
    yield json.loads(file.read_text())["address"], processes[1:], elsewhere
    for process in processes:
        process.kill()
        process.wait()


def start_sweep(*arguments):
    environment = ENVIRONMENT | {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org"}
    command = [python(), "-m", "stages.sweep", *arguments]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(sweep):
    printed, errors = sweep.communicate()
    return sweep.returncode, printed, errors


def experiments():
    rows = json.loads(dvc("exp", "show", "--json"))[1]["experiments"] or []
    return {one["name"]: one["revs"][0]["data"] for one in rows}


def test_a_grid_is_that_of_dvc(repository):
    assert grid(["split.fold=range(0,2)", "pad.mode=white,zero"]) == [
        ("split.fold=0", "pad.mode=white"),
        ("split.fold=0", "pad.mode=zero"),
        ("split.fold=1", "pad.mode=white"),
        ("split.fold=1", "pad.mode=zero"),
    ]
    with pytest.raises(UserError, match=r"pad\.color is not a parameter"):
        grid(["pad.color=white"])
    with pytest.raises(UserError, match="-S split.fold=range"):
        grid(["split.fold=range("])


def test_a_worker_is_killed_and_another_fails_and_the_rest_come_home(repository, cluster):
    address, workers, elsewhere = cluster
    # One seed that has run, and one that is trained.
    sweep = start_sweep(
        "--name", "grid", "--scheduler", address, "-S", "train.seed=0,1", "-S", "split.folds=3,50"
    )
    while not [*elsewhere.glob("glomeruli-sweep-*/clone/stages")]:
        assert sweep.poll() is None, sweep.communicate()
        time.sleep(0.05)
    os.kill(workers[0].pid, signal.SIGKILL)
    status, printed, errors = finish(sweep)
    assert status == 1, errors
    assert "2 of 4 experiments are here, 2 failed" in printed
    assert "grid-2 failed:" in errors and "split.folds is 50" in errors
    assert "Traceback" not in errors
    found = experiments()
    assert set(found) == {"grid-1", "grid-3"}

    dvc("exp", "run", "-S", "train.seed=1", "-S", "split.folds=3")
    here = {path: out["hash"] for path, out in found["grid-3"]["outs"].items()}
    lock = json.loads(dvc("exp", "show", "--json"))[0]["data"]["outs"]
    assert here == {path: out["hash"] for path, out in lock.items()}
    assert Path("models/model.keras").is_file()


def test_what_has_run_is_not_run_again_and_changes_are_refused(repository, tmp_path):
    """Through a remote, without a shared cache."""
    dvc("remote", "add", "-d", "store", str(tmp_path / "store"))
    git("commit", "-aqm", "A store")
    dvc("push", "dvc.yaml")
    sweep = ("--remote", "store", "--workers", "1", "-S", "calibrate.target_sensitivity=0.9")
    status, _, errors = finish(start_sweep(*sweep))
    assert status == 0, errors
    assert set(experiments()) == {"sweep-1"}
    status, printed, errors = finish(start_sweep(*sweep))
    assert status == 0, errors
    assert "sweep-1: has run already" in printed
    dvc("fetch")
    status, _, errors = finish(start_sweep("-S", "calibrate.target_sensitivity=0.8"))
    assert status == 1 and "choose another --name" in errors
    with open("README.md", "a") as readme:
        readme.write("changed")
    status, _, errors = finish(
        start_sweep("--name", "other", "-S", "calibrate.target_sensitivity=0.8")
    )
    assert status == 1 and errors.strip().startswith(
        "error: README.md is changed and not committed"
    )


def test_jobs_run_without_the_program_that_submitted_them(repository):
    of_grid = ("-S", "split.folds=3,50", "-S", "evaluate.prevalence=0.2")
    arguments = ("--name", "jobs", "--submit", "local", *of_grid)
    assert run_program("sweep", "--name", "jobs", "--collect")[0] == 1
    status, _, errors = run_program("sweep", *arguments, "--job", "color=red")
    assert status == 1 and "color" in errors
    status, printed, errors = run_program("sweep", *arguments, "--job", "timeout_min=90")
    assert status == 0 and "jobs are submitted" in printed, errors
    while len([*Path("sweep-jobs/jobs").glob("*_result.pkl")]) < 2:
        time.sleep(0.05)
    status, printed, errors = run_program("sweep", "--name", "jobs", "--collect")
    assert status == 1 and "1 of 2 experiments have run" in printed
    assert "jobs-2 failed:" in errors and "split.folds is 50" in errors
    assert "jobs-1" in experiments()

    # A job that is still running, as this process is.
    noted = json.dumps({"cluster": "local", "jobs": {"jobs-1": str(os.getpid())}})
    Path("sweep-jobs/jobs/jobs.json").write_text(noted)
    status, _, errors = run_program("sweep", *arguments)
    assert status == 1 and "have not ended; --collect says" in errors


def test_no_scheduler_is_one_line():
    with pytest.raises(UserError, match="no Dask scheduler answers at nowhere"), connect("nowhere"):
        pass
