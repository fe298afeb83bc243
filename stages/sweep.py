"""Run a grid of experiments on a Dask cluster, or in a few processes of this machine.

    python -m stages.sweep --name padding -S pad.mode=white,zero -S split.fold='range(0,5)'
    python -m stages.sweep --name padding --scheduler tcp://10.0.0.1:8786 -S pad.mode=white,zero -S split.fold='range(0,5)'

-S takes a list or a range as `dvc exp run --queue -S` does; all combinations are run, named <name>-1, <name>-2 and so on.
Each worker runs `dvc exp run --temp` on a clone of its own of the last commit, against the DVC cache of this repository
(--cache) or a DVC remote (--remote), and pushes the experiment back: `dvc exp show` lists it here. What has run is not run
again. What a worker that died had begun, another one does. A failed experiment is reported at the end and does not stop
the rest.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from stages.base.errors import UserError, run_stage
from stages.base.progress import progress
from stages.commands import DVC, clone_at, output_of
from stages.experiments import flatten, params_with, read_experiments
from stages.workers.cluster import connect, in_any_order, scheduler_address

SHOWN_LINES = 5


class Home(NamedTuple):
    """Where a worker finds the code and the data, and where it brings the experiment.

    `repository` and `cache` are folders that workers reach, or `repository` is an address for git; `remote` is the name of a DVC
    remote, in place of `cache`. `author` is who git says has made the experiment.
    """

    repository: str
    commit: str
    cache: str | None
    remote: str | None
    author: tuple[str, str]


def main() -> None:
    arguments = parse_arguments()
    combinations = grid(arguments.set_param)
    known = {tuple(sorted(flatten_text(one.params))): one.name for one in read_experiments()}
    orders = []
    for number, overrides in enumerate(combinations, start=1):
        twin = known.get(tuple(sorted(flatten_text(flatten(params_with(overrides))))))
        if twin:
            print(f"{twin}: has run already ({' '.join(overrides)})")
        else:
            orders.append((f"{arguments.name}-{number}", overrides))
    taken = sorted({name for name, _ in orders} & set(known.values()))
    if taken:
        raise UserError(f"there are other experiments named {', '.join(taken)}; choose another --name")
    failed = run_all(orders, home(arguments), arguments.scheduler, arguments.workers)
    for name, reason in sorted(failed.items()):
        print(f"{name} failed:\n{reason}", file=sys.stderr)
    print(f"{len(combinations) - len(failed)} of {len(combinations)} experiments are here, {len(failed)} failed: `dvc exp show`")
    if failed:
        sys.exit(1)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.sweep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "-S", "--set-param", action="append", default=[], metavar="NAME=VALUES", help="as in `dvc exp run --queue`"
    )
    parser.add_argument("--name", default="sweep", help="of the experiments, before their number (default: sweep)")
    parser.add_argument(
        "--scheduler",
        default=scheduler_address(),
        metavar="ADDRESS",
        help="of a Dask cluster, such as tcp://10.0.0.1:8786 (default: $DASK_SCHEDULER_ADDRESS, or processes of this machine)",
    )
    parser.add_argument("--workers", type=int, default=2, help="how many processes of this machine (default: 2)")
    parser.add_argument("--repository", help="where workers clone from and push to (default: this folder)")
    store = parser.add_mutually_exclusive_group()
    store.add_argument("--cache", help="a DVC cache that workers reach (default: that of this repository)")
    store.add_argument("--remote", help="the DVC remote to pull from and push to, where there is no shared cache")
    return parser.parse_args()


def grid(overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """Return all combinations of parameters, each a tuple of `name=value`, in the order in which `dvc exp run --queue` has them.

    Raises:
        UserError: there is no such parameter, or its values cannot be read.
    """
    from dvc.utils.hydra import get_hydra_sweeps

    try:
        combinations = [tuple(one["params.yaml"]) for one in get_hydra_sweeps({"params.yaml": list(overrides)})]
    except Exception as error:  # Hydra's and its parser's, of many kinds.
        raise UserError(f"-S {' '.join(overrides)}: {' '.join(str(error).split())}") from None
    for one in combinations:
        params_with(one)
    return combinations


def flatten_text(params: dict) -> Iterator[tuple[str, str]]:
    """Yield parameters as texts that are equal where DVC's own and those of params.yaml mean the same."""
    for name, value in params.items():
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        yield name, f"{float(value):g}" if is_number else str(value)


def home(arguments: argparse.Namespace) -> Home:
    """Return where workers get everything from. Raises `UserError` if there is work that is not committed."""
    if changed := output_of(["git", "status", "--porcelain", "--untracked-files=no"]).split("\n")[0]:
        raise UserError(f"{changed[3:]} is changed and not committed; experiments on other machines start from the last commit")
    return Home(
        arguments.repository or str(Path.cwd()),
        output_of(["git", "rev-parse", "HEAD"]).strip(),
        None if arguments.remote else str(Path(arguments.cache or output_of([*DVC, "cache", "dir"]).strip()).absolute()),
        arguments.remote,
        (output_of(["git", "log", "-1", "--format=%an"]).strip(), output_of(["git", "log", "-1", "--format=%ae"]).strip()),
    )


def run_all(orders: Sequence[tuple[str, tuple[str, ...]]], home: Home, scheduler: str | None, workers: int) -> dict[str, str]:
    """Run experiments, each a name and its parameters, on a cluster; return why those failed that did, by name."""
    if not orders:
        return {}
    failed = {}
    with connect(scheduler, workers) as client, progress(total=len(orders), desc="sweep", unit="experiment") as bar:
        for (name, *_), reason in in_any_order(client, run_order, [(*order, home) for order in orders]):
            if reason:
                failed[name] = str(reason)
            bar.update()
            bar.set_postfix(failed=len(failed))
    return failed


def run_order(name: str, overrides: Sequence[str], home: Home) -> str | None:
    """Run an experiment on a worker and push it home; return why it failed, if it did."""
    try:
        # Deleted with all that a failed run leaves behind.
        with tempfile.TemporaryDirectory(prefix="glomeruli-sweep-") as folder:
            clone = Path(folder) / "clone"
            clone_at(home.repository, home.commit, clone)
            run_and_push(name, overrides, home, clone)
    except UserError as error:
        return str(error)
    return None


def run_and_push(name: str, overrides: Sequence[str], home: Home, clone: Path) -> None:
    """Run an experiment in a clone and push it home. Raises `UserError` with the end of what it printed if that fails."""
    for key, value in zip(("user.name", "user.email"), home.author):
        output_of(["git", "-C", str(clone), "config", key, value])
    settings = {"core.analytics": "false", "core.site_cache_dir": str(clone.parent / "site")}
    if home.cache:
        settings["cache.dir"] = home.cache
    for key, value in settings.items():
        output_of([*DVC, "--cd", str(clone), "config", "--local", key, value])
    pull = ["--pull"] if home.remote else []
    changes = [argument for override in overrides for argument in ("-S", override)]
    output_of([*DVC, "--cd", str(clone), "exp", "run", "--temp", "--name", name, *pull, *changes], last_lines=SHOWN_LINES)
    share = ["--remote", home.remote] if home.remote else ["--no-cache"]
    output_of([*DVC, "--cd", str(clone), "exp", "push", "--force", *share, "origin", name], last_lines=SHOWN_LINES)


if __name__ == "__main__":
    run_stage(main)
