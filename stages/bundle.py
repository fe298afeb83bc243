"""Bundle everything that a machine without a network needs: repository, wheels and datasets.

    python -m stages.bundle /media/stick/glomeruli
    python -m stages.bundle glomeruli --dataset data/mine.dvc --platform manylinux_2_28_x86_64
    --python 3.12

On the other machine `python3 glomeruli/install.py FOLDER` checks all SHA-256 digests, installs
without an index, and runs the demo. The bundle has the last commit. Without --platform, its wheels
are for this platform and Python.
"""

import re
import sys
from pathlib import Path

from stages.base.arguments import argument_parser
from stages.base.errors import UserError, refuse, run_program, warn
from stages.experiments.commands import find_repository, output_of
from stages.experiments.inputs import LABELS, refuse_unrecorded
from stages.offline.packing import pack

DEFAULT = ("requirements.txt",)


def main() -> None:
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    parser = argument_parser(__doc__)
    add = parser.add_argument
    add("output", type=Path, help="the folder to write; it must not exist")
    add("--python", default=here, help=f"of the other machine (default: {here})")
    platform_help = "of the other machine, as pip names it; repeatable"
    add("--platform", action="append", default=[], help=platform_help)
    usual = f"(default: {' '.join(DEFAULT)})"
    add("--requirements", nargs="+", default=[*DEFAULT], metavar="FILE", help=usual)
    dataset_help = "such as data/mine.dvc; repeatable"
    add("--dataset", action="append", default=[], metavar="FILE", help=dataset_help)
    arguments = parser.parse_args()
    if arguments.output.exists() or not arguments.output.name:
        raise UserError(f"{arguments.output} already exists; choose another name, or remove it")
    if not re.fullmatch(r"3\.\d+", arguments.python):
        raise UserError(f"--python is {arguments.python!r}; it must be a version such as 3.11")
    if arguments.python != here and not arguments.platform:
        raise UserError(
            f"--python is {arguments.python} and this is Python {here}; add --platform, such as "
            "manylinux_2_28_x86_64"
        )
    needed = [*arguments.requirements, *arguments.dataset]
    refuse(
        [f"{name} is not a file of this repository" for name in needed if not Path(name).is_file()]
    )
    find_repository(whole=True)
    datasets = [note.removesuffix(".dvc") for note in arguments.dataset]
    cards = [card for dataset in datasets if Path(card := f"{dataset}.yaml").exists()]
    inputs = [*cards, *[LABELS] * bool(datasets)]
    refuse_unrecorded([*datasets, *inputs])
    if changed := output_of(
        ["git", "status", "--porcelain", "--", *arguments.dataset, *inputs]
    ).split("\n")[0]:
        raise UserError(
            f"{changed[3:]} is changed and not committed; a bundle has only the last commit"
        )
    if output_of(["git", "status", "--porcelain", "--untracked-files=no"]).strip():
        warn("uncommitted changes are not in the bundle")
    pack(
        arguments.output,
        arguments.requirements,
        arguments.python,
        arguments.platform,
        arguments.dataset,
    )
    files = [path for path in arguments.output.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    print(
        f"{len(files)} files, {size:,.0f} MB: on the other machine, "
        f"`python3 {arguments.output.name}/install.py FOLDER`"
    )


if __name__ == "__main__":
    run_program(main)
