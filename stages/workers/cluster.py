"""A Dask cluster (https://distributed.dask.org): one that runs already, or processes of this
machine for the time being.

Whoever reaches a Dask scheduler's port can run code on its workers. That is Dask's design: keep the
port inside, or use its TLS.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

from stages.base.errors import UserError, refuse

if TYPE_CHECKING:
    from distributed import Client


# Run in each process of this machine: Ctrl-C reaches all that the terminal has started. It ends the
# programs that a process runs, and the process then clears up behind them instead of printing a
# traceback. It begins nothing more.
STOPPED = "GLOMERULI_STOPPED"
LET_BE = (
    f"import os, signal; signal.signal(signal.SIGINT, lambda *_: os.environ.update({STOPPED}='1'))"
)
# The packages that compute, with their versions.
PINS = Path(__file__).parents[2] / "pins"


def scheduler_address() -> str | None:
    """Return the address of a scheduler that the environment names, in Dask's own variable, such as
    tcp://10.0.0.1:8786.
    """
    return os.environ.get("DASK_SCHEDULER_ADDRESS")


@contextmanager
def connect(address: str | None, workers: int = 2) -> Iterator["Client"]:
    """Connect to the scheduler at `address`; without one, start `workers` processes here, of one
    thread each.

    Workers get the code of stages/ from here: they need the packages of requirements.txt, and no
    copy of this repository.

    Raises:
        UserError: Dask is not installed, no scheduler answers, or its workers have other versions
            of Python or of packages.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise UserError("this needs Dask: pip install -r requirements-cluster.txt") from None
    if address is None:
        of_this_machine = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",  # None: port 8787, and a warning if it is taken
            scheduler_kwargs={"dashboard": False},
            silence_logs=logging.ERROR,
            preload=[LET_BE],
        )
        with of_this_machine as cluster, Client(cluster) as client:
            yield client
        return
    try:
        client = Client(address, timeout=30)
    except (OSError, ValueError, TimeoutError) as error:
        raise UserError(
            f"no Dask scheduler answers at {address}: {' '.join(str(error).split())}"
        ) from None
    with client:
        refuse_other_versions(client.get_versions(packages=computing()))
        yield client


def computing() -> list[str]:
    """Return the names of the packages that results depend on."""
    lines = (
        line.split("#")[0].strip()
        for file in sorted(PINS.glob("*.txt"))
        for line in file.read_text("utf-8").splitlines()
    )
    return [Requirement(line).name for line in lines if line]


def refuse_other_versions(found: Any) -> None:
    """Raise `UserError` with a line for each worker that has other versions than this Python of
    what results depend on.

    Args:
        found: as of `distributed.Client.get_versions`.
    """
    ours = found["client"]["packages"]
    problems = []
    for address, worker in sorted(found["workers"].items()):
        theirs = (worker or {}).get("packages", {})
        # The two first numbers of Python's say which code it reads.
        pairs = [
            ("Python", *(".".join(str(one.get("python")).split(".")[:2]) for one in (theirs, ours)))
        ]
        pairs += [(name, theirs.get(name), ours.get(name)) for name in computing()]
        other = [
            f"{name} {there or 'not installed'}, here {here}"
            for name, there, here in pairs
            if here and there != here
        ]
        if other:
            problems.append(
                f"worker {address}: {'; '.join(other)}; install there what requirements.txt pins"
            )
    refuse(problems)


def _unless_stopped(function: Callable, *arguments: Any) -> Any:
    # What waited at a worker would otherwise outlive the program that asked for it.
    if STOPPED in os.environ:
        raise InterruptedError("stopped by Ctrl-C")
    return function(*arguments)


class ByValue:
    """A function and its arguments that unpickle with their code, wherever that is not installed."""

    def __init__(self, function: Callable, *arguments: Any):
        import cloudpickle

        import stages

        cloudpickle.register_pickle_by_value(stages)
        self.pickled = cloudpickle.dumps(partial(_unless_stopped, function, *arguments))

    def __reduce__(self) -> tuple:
        import cloudpickle

        return cloudpickle.loads, (self.pickled,)

    def __call__(self) -> Any:
        raise TypeError("a ByValue is called after it was unpickled")


def in_any_order(
    client: "Client", function: Callable, items: Iterable[tuple]
) -> Iterator[tuple[tuple, Any]]:
    """Yield `(item, function(*item))` for each of `items` as they are done; an exception takes the
    place of a result.

    A few more items than the cluster has threads are on their way at a time: memory does not grow
    with their number. What a worker that died had begun is done again on another one.
    """
    from distributed import as_completed

    waiting, asked = iter(items), {}

    def ask(count: int) -> list:
        new = {
            client.submit(ByValue(function, *item), pure=False): item
            for item in islice(waiting, count)
        }
        asked.update(new)
        return [*new]

    done = as_completed(ask(2 * sum(client.nthreads().values()) + 2))
    try:
        for future in done:
            item = asked.pop(future)
            yield item, future.exception() if future.status == "error" else future.result()
            for one in ask(1):
                done.add(one)
    finally:
        # After Ctrl-C, those that have not begun.
        client.cancel([*asked])
