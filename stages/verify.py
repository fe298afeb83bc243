"""Show that the committed results are what the committed code produces: run it again elsewhere and compare, byte by byte.

    python -m stages.verify [REVISION]

clones the revision (HEAD by default) into a temporary folder, runs `dvc repro` there with an empty cache, and says of each
output whether its hash is the one in the committed dvc.lock. The exit code is 0 if all are the same, 1 otherwise.
It is also the way to check a result that someone else has published. A dataset that the pipeline does not draw itself
is taken from data/ of this folder, and counts as the same only if its hash is.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from stages.commands import clone_at, output_of, run_dvc
from stages.errors import UserError, run_stage
from stages.params import read_dataset_name, read_yaml

DRAWN = "demo"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.verify", description=__doc__.split("\n\n")[0])
    parser.add_argument("revision", nargs="?", default="HEAD", help="a commit, branch or tag of this repository (default: HEAD)")
    revision = parser.parse_args().revision
    with tempfile.TemporaryDirectory(prefix="glomeruli-verify-") as folder:
        clone = Path(folder) / "clone"
        make_clone(revision, clone)
        committed = outputs(clone / "dvc.lock")
        reproduce(clone)
        different = report(committed, outputs(clone / "dvc.lock"))
    if different:
        raise UserError(f"{different} of {len(committed)} outputs are not what the committed code produces here")
    print(f"all {len(committed)} outputs are the same, byte by byte")


def make_clone(revision: str, clone: Path) -> None:
    """Clone the repository of the current folder at `revision`; copy its dataset, unless the pipeline draws that."""
    commit = output_of(["git", "rev-parse", "--verify", f"{revision}^{{commit}}"]).strip()
    clone_at(".", commit, clone)
    name = read_dataset_name(clone / "params.yaml")
    if name != DRAWN:
        source = Path("data") / name
        if not source.is_dir():
            raise UserError(f"{source} is not here; bring the dataset (dvc pull, or copy it) to verify results on it")
        shutil.copytree(source, clone / "data" / name)


def reproduce(clone: Path) -> None:
    """Run the pipeline in `clone` with nothing taken from a cache; its output goes to the screen."""
    if not run_dvc(["repro", "--force", "--no-run-cache"], clone):
        raise UserError("`dvc repro` failed in the clone; what it printed above says why")


def outputs(lock: Path) -> dict[tuple[str, str], str]:
    """Return the hash of each output in a dvc.lock, by (stage, path)."""
    if not lock.is_file():
        raise UserError("there is no dvc.lock in this revision: nothing was committed that could be verified")
    stages = read_yaml(lock)["stages"]
    return {(name, out["path"]): out["md5"] for name, stage in stages.items() for out in stage.get("outs", [])}


def report(committed: dict[tuple[str, str], str], found: dict[tuple[str, str], str]) -> int:
    """Print `same` or `different` for each output, and return how many differ or are missing."""
    different = 0
    for (stage, path), digest in committed.items():
        same = found.get((stage, path)) == digest
        different += not same
        print(f"{'same' if same else 'DIFFERENT':>9}  {stage}: {path}")
    return different


if __name__ == "__main__":
    run_stage(main)
