"""Whether a dataset's folder is as git knows it: `dvc checkout` may go back to that."""

import re
import subprocess

from stages.base.errors import warn
from stages.dataset.card import Dataset


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
