"""A sweep as an array of SLURM jobs, so that no program has to wait for them.

submitit keeps each job's input, log and result in a folder that login and compute nodes share.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, assert_never

from ruamel.yaml.error import YAMLError

from stages.base.errors import UserError, one_line
from stages.base.files import read_json, write_json
from stages.experiments.running import Home, run_order
from stages.experiments.settings import parse_yaml

if TYPE_CHECKING:
    from submitit import Job

# `local` runs the same jobs as processes of this machine, all at once, to try a sweep.
Cluster = Literal["slurm", "local"]
JOBS = "jobs.json"
ENDED = ""
# submitit would take a text for a list of its letters.
LISTS = ("slurm_setup", "slurm_srun_args", "slurm_teardown")
# What SLURM calls a job that has not ended; at first it does not know of a job.
IN_WORDS = {
    "PENDING": "waiting",
    "REQUEUED": "waiting",
    "SUSPENDED": "waiting",
    "UNKNOWN": "waiting",
    "RUNNING": "running",
    "COMPLETING": "running",
}


def submit(
    orders: Sequence[tuple[str, tuple[str, ...]]],
    home: Home,
    folder: Path,
    cluster: Cluster,
    settings: Mapping[str, str],
) -> None:
    """Submit experiments, each a name and its parameters, and note their jobs in a folder.

    Args:
        settings: of submitit in YAML, such as `timeout_min` or `slurm_partition`.

    Raises:
        UserError: submitit is not installed, SLURM takes no jobs, or a setting is wrong.
    """
    import cloudpickle

    import stages

    # A job runs the code of now, even if the working folder changes while it waits.
    cloudpickle.register_pickle_by_value(stages)
    values = {name: _value(name, text) for name, text in settings.items()}
    # For example that of a container. submitit takes it only here.
    python = values.pop("slurm_python", None)
    try:
        executor = _submitit().AutoExecutor(folder, cluster=cluster, slurm_python=python)
        executor.update_parameters(name=folder.name, **values)
        names, overrides = zip(*orders)
        jobs = executor.map_array(run_order, names, overrides, [home] * len(names))
    except (AssertionError, NameError, RuntimeError, OSError, ValueError) as error:
        raise UserError(f"the jobs could not be submitted: {one_line(error)}") from None
    numbers = {name: job.job_id for name, job in zip(names, jobs)}
    write_json(folder / JOBS, {"cluster": cluster, "jobs": numbers})


def states(folder: Path) -> dict[str, str | None]:
    """Return the state of each submitted experiment by its name.

    A state is `waiting`, `running`, why the experiment failed, or None if it has run.

    Raises:
        UserError: no jobs are noted in the folder.
    """
    if not (folder / JOBS).is_file():
        raise UserError(f"{folder / JOBS}: no sweep of this --name was submitted")
    submitit, noted = _submitit(), read_json(folder / JOBS)
    cluster: Cluster = noted["cluster"]
    kind = {"slurm": submitit.SlurmJob, "local": submitit.LocalJob}[cluster]
    jobs = {name: kind(folder, number) for name, number in noted["jobs"].items()}
    return {name: IN_WORDS.get(_state(job, cluster)) or _result(job) for name, job in jobs.items()}


def _state(job: "Job", cluster: Cluster) -> str:
    if job.paths.result_pickle.exists():
        return ENDED
    match cluster:
        case "slurm":
            return str(job.state)
        case "local":
            return "RUNNING" if _is_alive(int(job.job_id)) else ENDED
        case _:
            assert_never(cluster)


def _result(job: "Job") -> str | None:
    # Such as PREEMPTED: submitit would wait until SLURM begins the job again.
    if not job.done():
        return f"SLURM says {job.state}; its log is {job.paths.stderr}"
    try:
        return job.result()
    # This includes what ended the job from outside, such as a time limit.
    except Exception as error:
        return f"{one_line(error)}; its log is {job.paths.stderr}"


def _is_alive(process: int) -> bool:
    import psutil  # Dask needs it.

    try:
        # One that nobody waits for stays in the list of processes.
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _value(name: str, text: str) -> Any:
    try:
        value = parse_yaml(text)
    except (YAMLError, ValueError) as error:
        raise UserError(f"--job {name}={text} is not YAML: {one_line(error)}") from None
    if name in LISTS and not isinstance(value, list):
        raise UserError(f"--job {name}={text}: it must be a list, such as {name}=['{text}']")
    # An account may be named 0123 or 1e3, and a constraint [rack1|rack2].
    is_text = isinstance(value, (float, list, date)) and name.startswith("slurm_")
    if name not in LISTS and (is_text or (type(value) is int and str(value) != text)):
        return text
    return value


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise UserError("this needs submitit: pip install -r requirements-cluster.txt") from None
    return submitit
