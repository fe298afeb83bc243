"""Run one experiment, the missing ones of some, or a sweep of experiments on a cluster."""

import argparse
import itertools
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from stages.base.errors import UserError
from stages.experiments.commands import (
    DVC,
    clone_at,
    find_experiment,
    find_repository,
    output_of,
    refuse_unfit_paths,
    start_dvc,
)
from stages.experiments.inputs import digests, input_paths, refuse_unrecorded
from stages.experiments.reading import Experiment, has_run, read_experiments
from stages.experiments.settings import Value, as_yaml, flatten, params_with
from stages.workers.cluster import SCHEDULER, connect, in_any_order
from stages.workers.progress import progress

INTERRUPTED = "interrupted: the same command continues with the experiments that have not run"
CLEANING_UP = 10  # seconds
SHOWN_LINES = 5
PAUSES = (2, 20)  # seconds before a failed push is tried again


def run_experiment(name: str, overrides: Sequence[str]) -> str:
    """Run an experiment in a temporary folder, and return its commit.

    A progress bar counts its epochs; its output is shown only if it fails.

    Args:
        overrides: parameters `name=value`, as in `dvc exp run -S`.

    Raises:
        UserError: it failed.
    """
    settings = [argument for override in overrides for argument in ("-S", override)]
    printed = []
    with (
        start_dvc(["exp", "run", "--temp", "-n", name, *settings]) as run,
        progress(desc=name, unit="epoch") as bar,
    ):
        try:
            for line in run.stdout or ():
                printed.append(line)
                if epoch := re.match(r"Epoch (\d+)/(\d+)", line):
                    bar.total, bar.n = int(epoch[2]), int(epoch[1])
                    bar.refresh()
                elif stage := re.match(r"Running stage '(.+)':", line):
                    bar.set_postfix_str(stage[1], refresh=sys.stderr.isatty())
        except KeyboardInterrupt:
            bar.close()
            print(INTERRUPTED, file=sys.stderr)
            # Ctrl-C in a terminal also reaches DVC, which then cleans up.
            with suppress(subprocess.TimeoutExpired):
                run.wait(CLEANING_UP)
            run.terminate()
            raise
    if run.returncode:
        sys.stderr.writelines(printed)
        raise UserError(f"experiment {name} failed; what it printed above says why")
    return find_experiment(name)


class Runs:
    """Experiments of this folder with some parameters changed: found if they have run, or run."""

    def __init__(self, overrides: Sequence[str]):
        params = params_with(overrides)
        self.overrides, self.wanted = overrides, flatten(params)
        self.inputs = [*input_paths(params), "stages", "pins", "dvc.yaml", "params.yaml"]
        refuse_unrecorded(self.inputs)
        self.began = digests(self.inputs)
        self.found = read_experiments()
        self.names = {experiment.name for experiment in self.found}

    def run(
        self, name: str, changes: Mapping[str, Value], ignored: tuple[str, ...] = ()
    ) -> Experiment:
        """Return the experiment of this folder with `changes`; run it if it has not run.

        Args:
            name: of a new experiment; it gets a number if the name exists.
            ignored: parameters that do not matter, or whole sections, such as `climb.`.

        Raises:
            UserError: code, data or parameters have changed since the first experiment.
        """
        if found := has_run(self.found, {**self.wanted, **changes}, ignored):
            return found
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        name = next(one for one in names if one not in self.names)
        states = digests(self.inputs)
        if changed := sorted(path for path in states if states[path] != self.began[path]):
            raise UserError(
                f"{', '.join(changed)}: changed since this program began; start it again, and "
                "experiments that are still valid are kept"
            )
        commit = run_experiment(
            name, [*self.overrides, *(f"{key}={as_yaml(value)}" for key, value in changes.items())]
        )
        self.names.add(name)
        return Experiment(name, commit, {}, {})


class Home(NamedTuple):
    """Where workers get code and data from, and push experiments to."""

    repository: str  # a folder that workers can reach, or a URL for git
    inside: str  # the path from its top to the project
    commit: str
    # A DVC cache that workers can reach; None with `remote`, the name of a DVC remote.
    cache: str | None
    remote: str | None
    author: tuple[str, ...]  # name and address for git's commits


def home(arguments: argparse.Namespace) -> Home:
    """Return where workers get everything from. Raises `UserError` for uncommitted changes."""
    if changed := output_of(["git", "status", "--porcelain", "--untracked-files=no"]):
        raise UserError(
            f"{changed.splitlines()[0][3:]} is changed and not committed; experiments on other "
            "machines start from the last commit"
        )
    cache = None
    if not arguments.remote:
        cache = str(Path(arguments.cache or output_of([*DVC, "cache", "dir"]).strip()).absolute())
    # Workers clone into temporary folders.
    refuse_unfit_paths(tempfile.gettempdir(), *filter(None, [cache]))
    here = find_repository(whole=True)
    repository = arguments.repository or str(here.top)
    return Home(
        # Workers run in another folder.
        str(Path(repository).absolute()) if Path(repository).is_dir() else repository,
        here.inside,
        output_of(["git", "rev-parse", "HEAD"]).strip(),
        cache,
        arguments.remote,
        tuple(output_of(["git", "log", "-1", f"--format={one}"]).strip() for one in ("%an", "%ae")),
    )


def run_all(
    orders: Sequence[tuple[str, tuple[str, ...]]], home: Home, scheduler: str | None, workers: int
) -> dict[str, str]:
    """Run experiments, each a name and its parameters; return why some failed, by name."""
    if not orders:
        return {}
    failed = {}
    with (
        connect(scheduler, workers) as client,
        progress(total=len(orders), desc="sweep", unit="experiment") as bar,
    ):
        try:
            jobs = [(*order, home) for order in orders]
            for (name, *_), reason in in_any_order(client, run_order, jobs):
                if reason:
                    failed[name] = str(reason)
                bar.update()
                bar.set_postfix(failed=len(failed))
        except KeyboardInterrupt:
            bar.close()
            print(INTERRUPTED, file=sys.stderr)
            raise
    return failed


def run_order(name: str, overrides: Sequence[str], home: Home) -> str | None:
    """Run an experiment on a worker and push it home; return why it failed, or None."""
    # Its stages would otherwise wait for the workers, which are busy with experiments.
    os.environ.pop(SCHEDULER, None)
    try:
        with tempfile.TemporaryDirectory(prefix="glomeruli-sweep-") as folder:
            clone = Path(folder) / "clone"
            clone_at(home.repository, home.commit, clone)
            run_and_push(name, overrides, home, clone)
    except UserError as error:
        return str(error)
    return None


def run_and_push(name: str, overrides: Sequence[str], home: Home, clone: Path) -> None:
    """Run an experiment in a clone and push it home. Raises `UserError` with its last lines."""
    # The constant DVC is sent with this code, and names the Python that submitted it.
    dvc = (sys.executable, "-m", "dvc")
    for key, value in zip(("user.name", "user.email"), home.author):
        output_of(["git", "-C", str(clone), "config", key, value])
    settings = {"core.analytics": "false", "core.site_cache_dir": str(clone.parent / "site")}
    project = str(clone / home.inside)
    if home.cache:
        settings["cache.dir"] = home.cache
    for key, value in settings.items():
        output_of([*dvc, "--cd", project, "config", "--local", key, value])
    pull = ["--pull"] if home.remote else []
    changes = [argument for override in overrides for argument in ("-S", override)]
    share = ["--remote", home.remote] if home.remote else ["--no-cache"]
    exp = [*dvc, "--cd", project, "exp"]
    output_of([*exp, "run", "--temp", "--name", name, *pull, *changes], SHOWN_LINES)
    for seconds in PAUSES:
        # A network may fail for a moment, or another worker push at the same time.
        with suppress(UserError):
            output_of([*exp, "push", "--force", *share, "origin", name])
            return
        time.sleep(seconds)
    output_of([*exp, "push", "--force", *share, "origin", name], SHOWN_LINES)
