"""What SLURM says of the jobs of a sweep; `sacct` is a script here."""

import os

from stages.base.files import write_json
from stages.experiments.slurm import JOBS, states


def test_jobs_that_have_not_ended_are_not_waited_for(tmp_path, monkeypatch):
    said = ["PENDING", "SUSPENDED", "RUNNING", "PREEMPTED"]
    lines = ["JobID|State|NodeList", *(f"7_{at}|{state}|" for at, state in enumerate(said))]
    sacct = tmp_path / "bin/sacct"
    sacct.parent.mkdir()
    sacct.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    sacct.chmod(0o755)
    monkeypatch.setenv("PATH", f"{sacct.parent}{os.pathsep}{os.environ['PATH']}")
    jobs = {f"sweep-{at}": f"7_{at}" for at in range(len(said))}
    folder = tmp_path / "sweep"
    write_json(folder / JOBS, {"cluster": "slurm", "jobs": jobs})
    *going, preempted = states(folder).values()
    assert going == ["waiting", "waiting", "running"]
    assert preempted.startswith("SLURM says PREEMPTED; its log is ")
