"""Workers of a cluster that would come to other results: by what Dask says of their versions."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress

import pytest
from distributed import Client, LocalCluster, get_worker
from distributed.versions import get_versions

from stages.base.errors import UserError
from stages.base.packages import pinned_versions
from stages.workers import cluster
from stages.workers.cluster import refuse_other_versions
from tests.repositories import PROJECT


def found(**other):
    """What Dask's client says of two workers, of which the second has other versions."""
    here = get_versions(packages=[*pinned_versions()])
    there = {"packages": {**here["packages"], **other}}
    return {"client": here, "workers": {"tcp://10.0.0.2:1": here, "tcp://10.0.0.3:1": there}}


def test_takes_workers_with_the_same_versions():
    assert {"numpy", "tensorflow", "pillow"} <= set(pinned_versions())
    refuse_other_versions(found())
    # What only they have, or a later repair of Python, changes no result.
    refuse_other_versions(
        found(
            python=re.sub(
                r"\.\d+\.final\.0", ".99.final.0", found()["client"]["packages"]["python"]
            )
        )
    )
    refuse_other_versions({"client": found()["client"], "workers": {}})


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            {"python": "3.9.2.final.0"},
            r"worker tcp://10\.0\.0\.3:1: Python 3\.9, here 3\.\d+; install there what "
            r"requirements\.txt",
        ),
        ({"numpy": "1.26.4"}, r"numpy 1\.26\.4, here \d"),
        ({"keras": "2.0", "scipy": "1.0"}, r"keras 2\.0, here .*; scipy 1\.0, here "),
        ({"tensorflow": None}, "tensorflow not installed, here "),
    ],
)
def test_refuses_workers_with_other_versions(other, said):
    with pytest.raises(UserError, match=said) as error:
        refuse_other_versions(found(**other))
    assert len(str(error.value).splitlines()) == 1


ALL_AT_ONCE = threading.Barrier(6)


def one_of_six(number):
    ALL_AT_ONCE.wait(60)
    return number


@pytest.fixture
def in_this_process(monkeypatch):
    """A function from a number of workers to a cluster of threads and its client."""
    monkeypatch.setattr(cluster, "LOOK_AGAIN", 0.1)
    with ExitStack() as stack:

        def start(workers, **options):
            of = options | {"threads_per_worker": 1, "processes": False, "dashboard_address": None}
            found = stack.enter_context(LocalCluster(n_workers=workers, **of))
            return found, stack.enter_context(Client(found))

        yield start


def test_workers_that_come_late_get_work(in_this_process):
    some, client = in_this_process(1)

    def items():
        for number in range(6):
            if number == 3:
                some.scale(6)
            yield (number,)

    found = dict(cluster.in_any_order(client, one_of_six, items()))
    assert found == {(number,): number for number in range(6)}


@pytest.mark.parametrize(
    ("resource", "those_there", "lacking"), [("", 0, ""), ("GPU", 1, " with --resources GPU=1")]
)
def test_says_that_it_waits_for_a_worker(
    in_this_process, monkeypatch, resource, those_there, lacking
):
    some, client = in_this_process(those_there)
    said = []

    def say(line):
        said.append(line)
        some.new_spec["options"]["resources"] = {"GPU": 1}
        some.scale(those_there + 1)

    monkeypatch.setattr(cluster, "warn", say)
    found = cluster.in_any_order(client, abs, [(-1,), (-2,)], resource)
    assert dict(found) == {(-1,): 1, (-2,): 2}
    assert said[0] == f"the cluster has no worker{lacking}; waiting for one"


def test_items_go_to_the_workers_that_declare_a_resource(in_this_process):
    some, client = in_this_process(1, resources={"GPU": 1})
    of_all = [*client.scheduler_info()["workers"]]
    some.new_spec["options"].pop("resources")
    some.scale(3)
    client.wait_for_workers(3)
    for resource, expected in (("GPU", of_all), ("", [*client.scheduler_info()["workers"]])):
        found = cluster.in_any_order(client, where, [(number,) for number in range(9)], resource)
        assert {address for _, address in found} <= {*expected}


def test_a_scheduler_that_ends_is_one_line(in_this_process):
    some, client = in_this_process(1)
    with pytest.raises(UserError, match="^the Dask scheduler no longer answers: ") as error:
        for _ in cluster.in_any_order(client, where, [(number,) for number in range(99)]):
            some.sync(some.scheduler.close)
    assert "\n" not in str(error.value)


def where(number):
    return get_worker().address


ADDING = """
from stages.workers.cluster import connect

if __name__ == "__main__":
    with connect(None, 1) as client:
        print(client.submit(sum, [1, 2]).result())
"""


def test_several_runs_on_one_machine_do_not_disturb_each_other(tmp_path):
    """Dask's default port 8787 is taken, as it is beside another run."""
    (tmp_path / "adding.py").write_text(ADDING)
    with socket.socket() as taken:
        with suppress(OSError):  # another program has it: the same
            taken.bind(("", 8787))
            taken.listen()
        done = subprocess.run(
            [sys.executable, tmp_path / "adding.py"],
            env=os.environ | {"PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
        )
    # On a busy machine Dask may warn, of slow garbage collections for example.
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
    assert "8787" not in done.stderr and "Traceback" not in done.stderr


SLEEPING = """
import subprocess, sys, tempfile
from stages.workers.cluster import connect, in_any_order

def sleep(number):
    with tempfile.TemporaryDirectory(dir=sys.argv[1]) as folder:
        return subprocess.run("touch started; exec sleep 1000", shell=True, cwd=folder).returncode

if __name__ == "__main__":
    try:
        with connect(None, 1) as client:
            print(*in_any_order(client, sleep, [(number,) for number in range(8)]))
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.slow
def test_ctrl_c_ends_the_processes_of_this_machine_without_a_traceback_and_leaves_nothing(tmp_path):
    """From a terminal it reaches them all."""
    (tmp_path / "sleeping.py").write_text(SLEEPING)
    (tmp_path / "work").mkdir()
    command = [sys.executable, tmp_path / "sleeping.py", tmp_path / "work"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(
        command,
        env=environment,
        cwd=tmp_path,
        stdout=-1,
        stderr=-1,
        text=True,
        start_new_session=True,
    ) as running:
        while running.poll() is None and not [*tmp_path.glob("work/*/started")]:
            time.sleep(0.1)
        os.killpg(running.pid, signal.SIGINT)
        printed, errors = running.communicate()
    assert (running.returncode, printed) == (130, ""), errors
    assert "Traceback" not in errors
    assert not [*tmp_path.glob("work/*")]
