"""A Dask cluster (https://distributed.dask.org): an existing one, or processes on this machine.

By Dask's design, anyone who reaches the scheduler's port can run code on its workers: keep the port
internal, or use Dask's TLS.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from stages.base.errors import UserError, one_line, refuse, warn
from stages.base.packages import pinned_versions

if TYPE_CHECKING:
    from distributed import Client


# Ctrl-C reaches all processes of a terminal, also the workers here and the programs that they run.
# With this code a worker only notes it: it cleans up after its program and starts nothing more.
STOPPED = "GLOMERULI_STOPPED"
LET_BE = (
    f"import os, signal; signal.signal(signal.SIGINT, lambda *_: os.environ.update({STOPPED}='1'))"
)
# While no item is completed: how often to look for workers that came later, in seconds.
LOOK_AGAIN = 30
# Dask's own environment variable.
SCHEDULER = "DASK_SCHEDULER_ADDRESS"


def scheduler_address() -> str | None:
    """Return the scheduler that the environment names, such as tcp://10.0.0.1:8786."""
    return os.environ.get(SCHEDULER)


@contextmanager
def connect(address: str | None, workers: int = 2) -> Iterator["Client"]:
    """Connect to a scheduler; without an `address`, start `workers` single-threaded processes here.

    Workers receive the code of stages/ that they run themselves; they need only the packages of
    requirements.txt.

    Raises:
        UserError: Dask is not installed, or no scheduler answers.
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
            # After Ctrl-C workers would log the items that they refuse, with tracebacks.
            silence_logs=logging.CRITICAL,
            preload=[LET_BE],
        )
        with of_this_machine as cluster, Client(cluster) as client:
            yield client
        return
    try:
        client = Client(address, timeout=30)
    except (OSError, ValueError, TimeoutError) as error:
        raise UserError(f"no Dask scheduler answers at {address}: {one_line(error)}") from None
    with client:
        yield client


def refuse_other_versions(found: Any) -> None:
    """Raise `UserError` with a line for each worker on which results could differ from here.

    Args:
        found: the versions of packages, as `distributed.Client.get_versions` returns them.
    """
    ours = found["client"]["packages"]
    problems = []
    for address, worker in sorted(found["workers"].items()):
        theirs = (worker or {}).get("packages", {})
        # Code that is sent runs in any patch release of a minor version of Python.
        minor = [".".join(str(one.get("python")).split(".")[:2]) for one in (theirs, ours)]
        pairs = [("Python", *minor)]
        pairs += [(name, theirs.get(name), ours.get(name)) for name in pinned_versions()]
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
    # Work that waits at a worker would otherwise outlive the program that submitted it.
    if STOPPED in os.environ:
        raise InterruptedError("stopped by Ctrl-C")
    return function(*arguments)


class ByValue:
    """A function with its arguments and code, which unpickles where the code is not installed."""

    def __init__(self, function: Callable, *arguments: Any):
        import cloudpickle

        import stages

        cloudpickle.register_pickle_by_value(stages)
        self.pickled = cloudpickle.dumps(partial(_unless_stopped, function, *arguments))

    def __reduce__(self) -> tuple:
        import cloudpickle

        return cloudpickle.loads, (self.pickled,)

    def __call__(self) -> Any:
        raise TypeError("a ByValue can be called only after it was unpickled")


def in_any_order(
    client: "Client", function: Callable, items: Iterable[tuple], resource: str = ""
) -> Iterator[tuple[tuple, Any]]:
    """Yield `(item, function(*item))` for each of `items` as completed, or its exception.

    Only a few more items are submitted at a time than the cluster has threads, so that memory does
    not grow with their number. Workers that come later get items, too; those of a worker that dies
    run again on another one.

    Args:
        resource: each item takes one, so that only workers that declare it get any, such as
            `dask worker --resources GPU=1`.

    Raises:
        UserError: a worker has another version of Python or of a package than this process, or the
            scheduler has ended.
    """
    from distributed import wait

    lacking = "the cluster has no worker" + f" with --resources {resource}=1" * bool(resource)
    taken = {resource: 1} if resource else None

    waiting = iter(items)
    some = [*islice(waiting, 1)]
    waiting, more = chain(some, waiting), bool(some)
    asked: dict[Any, tuple] = {}
    checked: set[str] = set()
    try:
        while asked or more:
            # `client.scheduler_info()` can be empty for a moment.
            workers = client.sync(client.scheduler.identity, n_workers=-1)["workers"]
            if workers.keys() - checked:
                refuse_other_versions(client.get_versions(packages=[*pinned_versions()]))
                checked.update(workers)
            fit = [
                worker["nthreads"]
                for worker in workers.values()
                if not resource or resource in worker["resources"]
            ]
            if fit:
                threads = sum(fit)
                room = max(0, 2 * threads + 2 - len(asked))
                some = [*islice(waiting, room)]
                more = more and len(some) == room
                for item in some:
                    sent = ByValue(function, *item)
                    asked[client.submit(sent, pure=False, resources=taken)] = item
            else:
                warn(f"{lacking}; waiting for one")
            with suppress(TimeoutError):
                if asked:
                    wait([*asked], timeout=LOOK_AGAIN, return_when="FIRST_COMPLETED")
                elif not fit:
                    client.wait_for_workers(len(workers) + 1, timeout=LOOK_AGAIN)
            for future in [one for one in asked if one.done()]:
                item = asked.pop(future)
                yield item, future.exception() if future.status == "error" else future.result()
    except (CancelledError, OSError) as error:
        raise UserError(f"the Dask scheduler no longer answers: {one_line(error)}") from None
    finally:
        # After Ctrl-C, items that have not begun.
        client.cancel([*asked])
