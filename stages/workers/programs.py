"""Rows of an array, computed on a cluster's workers by programs that they start and keep.

Keras's models cannot be sent, and a worker has imported NumPy without this project's arithmetic. So
a worker runs `python -m stages.<name> --worker` in the folder of this run, which it shares. The
program imports and compiles once, reads blocks of rows from its standard input, and writes what it
computes to the file of the `GrowingArray`. It ends with its worker and with this run.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from signal import SIGTERM
from typing import IO, Any, NamedTuple

import numpy as np

from stages.base.arithmetic import CHANGE_NUMBERS
from stages.base.errors import UserError, one_line
from stages.workers.cluster import connect, in_any_order
from stages.workers.growing import GrowingArray, Target

OPTION = "--worker"
# A program's answer for each block that is on the disk, on a line of its own.
WRITTEN = "written\n"
LOOK_AGAIN = 1  # second
# Then a program ends, and leaves the GPU to others: its client may have been killed.
MOST_IDLE = 300  # seconds


class Program(NamedTuple):
    """What a worker needs to start a program.

    Attributes:
        module: such as `stages.features`.
        variables: of the environment, all of CHANGE_NUMBERS that are set.
        made_with: what the rows depend on, by name, as JSON.
    """

    module: str
    folder: Path
    variables: dict[str, str]
    target: Target
    made_with: str


def compute_on_cluster(
    rows: GrowingArray,
    blocks: Iterable[np.ndarray],
    module: str,
    made_with: dict[str, Any],
    scheduler: str,
) -> Iterator[np.ndarray]:
    """Yield each of the `blocks` of row numbers when a program has written its rows to the disk.

    Args:
        module: of the program, which calls `serve`.
        made_with: what the rows depend on, by name; the program refuses any difference. If `GPU`
            is not None, only workers that declare the resource GPU get blocks.
        scheduler: the address of a Dask cluster.

    Raises:
        UserError: a program refuses to compute, or a worker does not see the file of `rows`.
    """
    variables = {name: os.environ[name] for name in CHANGE_NUMBERS & {*os.environ}}
    with rows.shared() as target, connect(scheduler) as client:
        program = Program(module, Path.cwd(), variables, target, json.dumps(made_with))
        function, items = partial(compute_block, program), ((block,) for block in blocks)
        resource = "GPU" if made_with.get("GPU") else ""
        for (block,), problem in in_any_order(client, function, items, resource):
            if problem:
                raise UserError(f"the cluster at {scheduler} failed: {one_line(problem)}")
            yield block


def compute_block(program: Program, rows: np.ndarray) -> str | None:
    """Have a program on this worker write some rows to the disk; return why it failed, or None."""
    from distributed import Reschedule, get_worker

    worker = get_worker()
    where = f"worker {worker.address}"
    if not program.target.is_seen():
        return (
            f"{where} cannot write to {program.target.file}; workers need the folder "
            f"{program.folder} on shared storage, under the same path"
        )
    # A list of this run's programs that wait for rows; tasks on several threads each take one.
    of_runs = vars(worker).setdefault("glomeruli_programs", {})
    if program.target.token not in of_runs:
        forget_ended(of_runs)
    idle = of_runs.setdefault(program.target.token, [])
    process = idle.pop() if idle else None
    if process is None or process.poll() is not None:
        process = start(program)
    said = ""
    # If it has ended, what it printed says why.
    with suppress(BrokenPipeError):
        print(json.dumps(rows.tolist()), file=process.stdin, flush=True)
    for line in process.stdout or ():
        if line == WRITTEN:
            idle.append(process)
            return None
        said = line.strip() or said
    # A job that is ended signals all its processes, perhaps the program before the worker.
    if process.wait() == -SIGTERM:
        raise Reschedule()
    if said.startswith("error: "):
        return f"{where}: {said.removeprefix('error: ')}"
    return f"{where}: {program.module} ended with exit code {process.returncode}: {said}"


def forget_ended(of_runs: dict[str, list[subprocess.Popen[str]]]) -> None:
    """Close the pipes of programs of earlier runs that have ended, each a list by the run."""
    for token, idle in [*of_runs.items()]:
        for process in [one for one in idle if one.poll() is not None]:
            idle.remove(process)
            for pipe in (process.stdin, process.stdout):
                # What was written last may not have reached it.
                with suppress(BrokenPipeError):
                    pipe and pipe.close()
        if not idle:
            of_runs.pop(token, None)


def start(program: Program) -> subprocess.Popen[str]:
    """Start a program in the folder of its run."""
    kept = {name: value for name, value in os.environ.items() if name not in CHANGE_NUMBERS}
    process = subprocess.Popen(
        [sys.executable, "-m", program.module, OPTION],
        cwd=program.folder,
        env=kept | program.variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        # Ctrl-C in the worker's terminal ends it together with the worker.
        start_new_session=True,
    )
    # Without this, one that has ended would stay in the list of processes.
    threading.Thread(target=process.wait, daemon=True).start()
    with suppress(BrokenPipeError):
        target = program.target
        order = [str(target.file), target.start, target.token, json.loads(program.made_with)]
        print(json.dumps(order), file=process.stdin, flush=True)
    return process


def serve(
    made_with: dict[str, Any],
    compute: Callable[[np.ndarray], Iterable[tuple[np.ndarray, np.ndarray]]],
) -> None:
    """Compute and write the rows that a worker asks for, until the worker or its run ends.

    Args:
        made_with: what rows depend on here.
        compute: from row numbers to some of these rows at a time and their values.

    Raises:
        UserError: the run was started with something else, or not by a worker.
    """
    # Not `sys.stdin`, which Python closes at its end, while a thread waits for it.
    lines = os.fdopen(0, encoding="utf-8", closefd=False)
    try:
        file, start, token, theirs = json.loads(lines.readline())
    except (TypeError, ValueError):
        raise UserError(f"{OPTION} is for the workers of a Dask cluster, which start it") from None
    refuse_other(json.loads(json.dumps(made_with)), theirs)
    target = Target(Path(file), start, token)
    for rows in _asked(lines, target):
        for some, values in compute(rows):
            if not target.is_seen():
                return
            target.write(some, values)
        # A library may have printed something without the end of a line.
        sys.stdout.write(f"\n{WRITTEN}")
        sys.stdout.flush()


def refuse_other(here: dict[str, Any], there: dict[str, Any]) -> None:
    """Raise `UserError` if rows depend on something else `here` than on the client, `there`."""
    other = [
        f"{name} {here.get(name)}, on the client {there.get(name)}"
        for name in sorted({*here, *there})
        if here.get(name) != there.get(name)
    ]
    if other:
        raise UserError(one_line(f"it would compute other bytes: {'; '.join(other)}"))


def _asked(lines: IO[str], target: Target) -> Iterator[np.ndarray]:
    """Yield the rows that each of the `lines` lists, until the run ends or none comes."""
    waiting: SimpleQueue[str] = SimpleQueue()

    def read() -> None:
        for line in lines:
            waiting.put(line)
        # The worker has ended, and its successor needs the GPU that this process may hold.
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    idle = 0
    while target.is_seen() and idle < MOST_IDLE:
        try:
            line = waiting.get(timeout=LOOK_AGAIN)
        except Empty:
            idle += LOOK_AGAIN
            continue
        idle = 0
        yield np.array(json.loads(line), dtype=np.int64)
