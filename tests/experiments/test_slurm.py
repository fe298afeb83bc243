"""Jobs that submitit writes, and what SLURM says of them; SLURM's programs are scripts here."""

import os
import sys

import pytest

from stages.base.errors import UserError
from stages.base.files import write_json
from stages.experiments.running import Home
from stages.experiments.slurm import JOBS, states, submit

HOME = Home("repository", ".", "commit", "cache", None, ("t", "t@example.org"))


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Write a program of SLURM that prints lines."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")

    def write(name, *lines):
        program = tmp_path / "bin" / name
        program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
        program.chmod(0o755)

    return write


def test_jobs_that_have_not_ended_are_not_waited_for(tmp_path, slurm):
    said = ["PENDING", "SUSPENDED", "RUNNING", "PREEMPTED"]
    slurm("sacct", "JobID|State|NodeList", *(f"7_{at}|{state}|" for at, state in enumerate(said)))
    jobs = {f"sweep-{at}": f"7_{at}" for at in range(len(said))}
    folder = tmp_path / "sweep"
    write_json(folder / JOBS, {"cluster": "slurm", "jobs": jobs})
    *going, preempted = states(folder).values()
    assert going == ["waiting", "waiting", "running"]
    assert preempted.startswith("SLURM says PREEMPTED; its log is ")


def test_jobs_run_in_a_container(tmp_path, slurm):
    slurm("srun")
    slurm("sbatch", "Submitted batch job 7")
    settings = {
        "slurm_python": "apptainer exec cluster.sif python",
        "slurm_setup": "[module load apptainer]",
        "slurm_exclusive": "true",
        "slurm_account": "0123",
        "slurm_qos": "1e3",
        "slurm_constraint": "[rack1|rack2]",
        "mem_gb": "1.5",
    }
    submit([("a-1", ()), ("a-2", ())], HOME, tmp_path, "slurm", settings)
    script = next(tmp_path.glob("*_submission.sh")).read_text()
    assert " apptainer exec cluster.sif python -u -m submitit.core._submit " in script
    assert "\nmodule load apptainer\n" in script
    for line in (
        "account=0123",
        "array=0-1%2",
        "constraint='[rack1|rack2]'",
        "exclusive",
        "mem=1536MB",
        "qos=1e3",
    ):
        assert f"\n#SBATCH --{line}\n" in script
    # The container has its own Python, at another path.
    pickled = [file.read_bytes() for file in tmp_path.glob("*_submitted.pkl")]
    assert len(pickled) == 2 and not any(os.fsencode(sys.executable) in one for one in pickled)


@pytest.mark.parametrize("text", ["--mpi=none", "[--mpi=none"])
def test_a_text_is_not_taken_for_a_list(tmp_path, text):
    with pytest.raises(UserError, match="^--job slurm_srun_args="):
        submit([("a-1", ())], HOME, tmp_path, "slurm", {"slurm_srun_args": text})
