"""Pack the crops of a folder into a few ZIP archives, which DVC handles faster than many files.

    python -m stages.pack data/mine packed/mine        # then packed/mine replaces data/mine
    python -m stages.pack new-crops data/mine --add    # the crops that data/mine lacks

Every program reads the archives as if they were unpacked, to the same results. Other files, such as
tables, are copied. --add writes more archives and leaves the old ones as they are, so that DVC
transfers only the new ones. Equal folders give equal bytes.
"""

import argparse
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from stages.base.arguments import argument_parser
from stages.base.errors import UserError, refuse, run_program, warn
from stages.base.files import sha256, write_archive
from stages.images.archives import file_sha256, is_portable, locate
from stages.intake.listing import list_crops, list_images
from stages.intake.names import refuse_twins
from stages.workers.cores import on_all_cores

MEGABYTE = 10**6


def main() -> None:
    arguments = parse_arguments()
    folder, output, adds = arguments.folder, arguments.output, arguments.add
    _refuse_folders(folder, output, adds)
    listing = list_crops(folder)
    names, number = listing.images, 0
    refuse(
        f"{folder / name} has a name that archives cannot hold; rename it"
        for name in names
        if not is_portable(name)
    )
    refuse_twins(names, folder)
    if adds:
        names, number = _new_crops(folder, output, names)
    others = [path for path in listing.others if (folder / path).is_file()]
    warn("left out, in an archive", [path for path in listing.others if path not in others])
    counts = split_by_size(folder, names, arguments.size * MEGABYTE)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pack-", dir=output.parent) as place:
        made = Path(place) / "packed"
        made.mkdir()
        files = on_all_cores(
            lambda name: (name, locate(folder, name).read_bytes()),
            [(name,) for name in names],
            "packing",
        )
        rest = iter(files)
        for count in counts:
            write_archive(made / f"crops-{number:04}.zip", islice(rest, count))
            number += 1
        next(rest, None)  # This ends the progress bar.
        _copy(folder, others, made, output)
        if adds:
            for file in sorted(one for one in made.rglob("*") if one.is_file()):
                place_in_output = output / file.relative_to(made)
                place_in_output.parent.mkdir(parents=True, exist_ok=True)
                os.replace(file, place_in_output)
        else:
            made.rename(output)
    print(f"{len(names)} crops in {len(counts)} archives: {output}")


def _refuse_folders(folder: Path, output: Path, adds: bool) -> None:
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder")
    if adds and not output.is_dir():
        raise UserError(f"{output} is not a folder; leave out --add to make it")
    if not adds and os.path.lexists(output):
        raise UserError(f"{output} already exists; choose another name, or --add to it")
    one, other = folder.resolve(), output.resolve()
    if one.is_relative_to(other) or other.is_relative_to(one):
        raise UserError(f"{folder} and {output}: one is in the other; choose another name")


def _new_crops(folder: Path, output: Path, names: Sequence[str]) -> tuple[list[str], int]:
    """Return the crops that are not in `output`, and the number of the next archive there.

    Raises:
        UserError: a crop is there with other content.
    """
    listing = list_images(output)
    listing.refuse_problems()
    there = set(listing.images)
    refuse_twins(sorted(there.union(names)), output)
    known = [name for name in names if name in there]
    same = on_all_cores(
        lambda name: file_sha256(locate(folder, name)) == file_sha256(locate(output, name)),
        [(name,) for name in known],
        "comparing",
    )
    refuse(
        f"{locate(folder, name)} has another content than {locate(output, name)}; rename it"
        for name, is_same in zip(known, same)
        if not is_same
    )
    numbers = [re.fullmatch(r"crops-(\d+)\.zip", path.name) for path in output.iterdir()]
    return [name for name in names if name not in there], max(
        (int(found[1]) + 1 for found in numbers if found), default=0
    )


def split_by_size(folder: Path, names: Sequence[str], size: int) -> list[int]:
    """Return how many of the files go into each archive of up to `size` bytes, in their order."""
    counts: list[int] = []
    room = 0
    for name in names:
        file = locate(folder, name)
        needed = file.stat().st_size if isinstance(file, Path) else file.size
        if not counts or needed > room:
            counts.append(0)
            room = size
        counts[-1] += 1
        room -= needed
    return counts


def _copy(folder: Path, paths: Sequence[str], made: Path, output: Path) -> None:
    """Copy the files that are not images; warn of those that `output` has with other content."""
    differ = []
    for path in paths:
        if (output / path).exists():
            if sha256(output / path) != sha256(folder / path):
                differ.append(path)
            continue
        (made / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / path, made / path)
    warn(f"not copied, as {output} has another one", differ)


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("folder", type=Path, help="the folder with the crops")
    parser.add_argument("output", type=Path, help="the folder to write")
    parser.add_argument("--add", action="store_true", help="add to the output")
    parser.add_argument(
        "--size", type=_size, default=256, metavar="MB", help="of an archive (default: 256)"
    )
    return parser.parse_args()


def _size(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,5}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of megabytes, 1 to 999999")
    return int(text)


if __name__ == "__main__":
    run_program(main)
