"""Run a grid of experiments on a Dask cluster, or in a few processes of this machine.

    python -m stages.sweep --name padding -S pad.mode=white,zero -S split.fold='range(0,5)'
    python -m stages.sweep --name padding --scheduler tcp://10.0.0.1:8786 -S pad.mode=white,zero
    python -m stages.sweep --name padding --submit slurm --job timeout_min=90 -S pad.mode=white,zero
    python -m stages.sweep --name padding --collect

-S takes a list or a range as `dvc exp run --queue -S` does; all combinations are run, named
<name>-1, <name>-2 and so on. Each worker runs `dvc exp run --temp` in a clone of the last commit,
with the DVC cache of this repository (--cache) or a DVC remote (--remote), and pushes the
experiment back: `dvc exp show` lists it here. Experiments that have run are not run again. If a
worker dies, another one takes over. A failed experiment is reported at the end and does not stop
the others.

With --submit slurm they run as an array of SLURM jobs, and this program ends at once. --job passes
a setting to submitit, in YAML, such as timeout_min, mem_gb, cpus_per_task or slurm_partition;
slurm_python is the command that runs Python in the jobs, by default that of this program. Later
--collect says how many experiments have run, are running, are waiting or have failed.
"""

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from stages.base.arguments import argument_parser
from stages.base.errors import UserError, run_program
from stages.experiments.commands import find_repository, refuse_unfit_paths
from stages.experiments.inputs import input_paths, refuse_unrecorded
from stages.experiments.reading import has_run, read_experiments
from stages.experiments.running import home, run_all
from stages.experiments.settings import flatten, grid, params_with
from stages.experiments.slurm import JOBS, Cluster, states, submit
from stages.workers.cluster import scheduler_address

# The jobs of each sweep with --submit, in a folder with its --name.
SUBMITTED = Path("sweep-jobs")


def main() -> None:
    arguments = parse_arguments()
    if Path(arguments.name).name != arguments.name:
        raise UserError(f"--name {arguments.name}: it must be a name, not a path")
    jobs = SUBMITTED / arguments.name
    if arguments.collect:
        report(states(jobs))
        return
    if (jobs / JOBS).is_file() and not {"waiting", "running"}.isdisjoint(states(jobs).values()):
        raise UserError(
            f"the jobs of --name {arguments.name} have not ended; --collect says which run, "
            "another --name submits more"
        )
    refuse_unfit_paths(".")
    find_repository(whole=True)
    combinations = grid(arguments.set_param)
    inputs = {
        path: None for overrides in combinations for path in input_paths(params_with(overrides))
    }
    refuse_unrecorded(
        [*inputs, "stages", "pins"], from_cache=not (arguments.cache or arguments.remote)
    )
    known = read_experiments()
    orders = []
    for number, overrides in enumerate(combinations, start=1):
        if twin := has_run(known, flatten(params_with(overrides))):
            print(f"{twin.name}: has run already ({' '.join(overrides)})")
        else:
            orders.append((f"{arguments.name}-{number}", overrides))
    taken = sorted({name for name, _ in orders} & {one.name for one in known})
    if taken:
        raise UserError(
            f"there are other experiments named {', '.join(taken)}; choose another --name"
        )
    there = home(arguments)
    if arguments.submit and orders:
        settings = dict(one.split("=", 1) for one in arguments.job)
        submit(orders, there, jobs, arguments.submit, settings)
        print(f"{len(orders)} jobs are submitted; --collect says when they are done")
        return
    failed = run_all(orders, there, arguments.scheduler, arguments.workers)
    for name, reason in sorted(failed.items()):
        print(f"{name} failed:\n{reason}", file=sys.stderr)
    place, command = "here", "dvc exp show"
    if arguments.repository:
        place, command = (
            f"in {there.repository}",
            f"dvc exp pull {there.repository} --rev {there.commit[:7]}",
        )
    print(
        f"{len(combinations) - len(failed)} of {len(combinations)} experiments are {place}, "
        f"{len(failed)} failed: `{command}`"
    )
    if failed:
        sys.exit(1)


def report(found: Mapping[str, str | None]) -> None:
    """Print what has become of submitted experiments; exit with 1 if any has failed."""
    ended = [name for name, state in found.items() if state is None]
    counts = {one: [*found.values()].count(one) for one in ("waiting", "running")}
    failed = {name: why for name, why in found.items() if why and why not in counts}
    for name, reason in failed.items():
        print(f"{name} failed:\n{reason}", file=sys.stderr)
    print(
        f"{len(ended)} of {len(found)} experiments have run, {counts['running']} are running, "
        f"{counts['waiting']} waiting, {len(failed)} failed"
    )
    if failed:
        sys.exit(1)


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    add, how = parser.add_argument, "as in `dvc exp run --queue`"
    add("-S", "--set-param", action="append", default=[], metavar="NAME=VALUES", help=how)
    add("--name", default="sweep", help="the experiments' name, before a number (default: sweep)")
    add(
        "--scheduler",
        default=scheduler_address(),
        metavar="ADDRESS",
        help="the Dask cluster, such as tcp://10.0.0.1:8786 (default: $DASK_SCHEDULER_ADDRESS, or "
        "processes of this machine)",
    )
    add("--workers", type=int, default=2, help="how many processes of this machine (default: 2)")
    add("--submit", choices=get_args(Cluster), help="submit jobs, and do not wait for them")
    add("--job", action="append", default=[], type=_setting, metavar="NAME=VALUE", help="of jobs")
    add("--collect", action="store_true", help="say what has become of the jobs of --name")
    add("--repository", help="where workers clone from and push to (default: this folder)")
    store = parser.add_mutually_exclusive_group()
    store.add_argument(
        "--cache", help="a DVC cache that workers can reach (default: that of this repository)"
    )
    store.add_argument(
        "--remote", help="the DVC remote to pull from and push to, if there is no shared cache"
    )
    return parser.parse_args()


def _setting(text: str) -> str:
    if not re.fullmatch(r"[a-z_]+=.+", text):
        raise argparse.ArgumentTypeError("it must be NAME=VALUE, such as timeout_min=90")
    return text


if __name__ == "__main__":
    run_program(main)
