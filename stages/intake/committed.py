"""Whether a dataset's folder and tables are as git knows them: others get what git knows."""

import re
import subprocess
from typing import Literal

from stages.base.errors import warn
from stages.dataset.card import Dataset
from stages.intake.listing import find_table


def warn_if_uncommitted(dataset: Dataset) -> None:
    """Warn if the number or size of files differs from that in the .dvc file of the last commit.

    `dvc repro` renews the .dvc file in the workspace, so only that in git tells what is kept.
    """
    file = f"{dataset.folder.as_posix()}.dvc"
    shown = subprocess.run(["git", "show", f"HEAD:./{file}"], capture_output=True, text=True)
    known = [re.search(rf"^ *-? ?{key}: (\d+)$", shown.stdout, re.M) for key in ("nfiles", "size")]
    if not all(known):  # DVC does not track the folder, or nothing is committed.
        return
    number, size = (int(found[1]) for found in known if found)
    sizes = [path.stat().st_size for path in dataset.folder.rglob("*") if path.is_file()]
    if (len(sizes), sum(sizes)) != (number, size):
        warn(
            f"{dataset.folder} has {len(sizes)} files of {sum(sizes):,} bytes, and {file} in git "
            f"{number} of {size:,}: `git checkout` and `dvc checkout` would go back to these; "
            f"`dvc add {dataset.folder.as_posix()}` and commit {file}"
        )


def warn_if_tables_uncommitted(dataset: Dataset) -> None:
    """Warn if a table of the card in data/labels/ is not as in the last commit."""
    keys: tuple[Literal["labels", "corrections"], ...] = ("labels", "corrections")
    for key in keys:
        if getattr(dataset.card, key) is None:
            continue
        table = find_table(dataset, key)
        if not table.is_relative_to(dataset.tables):
            continue
        status = ["git", "status", "--porcelain", "--ignored", "--", str(table)]
        state = subprocess.run(status, capture_output=True, text=True).stdout[:2]
        if state == "!!":
            warn(f"{table}: git ignores it; save it as .csv or .tsv, or see .gitignore")
        elif state:
            warn(
                f"{table} is not as in the last commit, which clones of the repository get, such "
                "as those of sweep; commit it"
            )
