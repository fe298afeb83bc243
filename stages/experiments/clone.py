"""Running the pipeline again in a clone, and comparing its outputs."""

import shutil
from pathlib import Path
from typing import Any

import dvc.api

from stages.base.arithmetic import THREADS, is_portable
from stages.base.errors import UserError
from stages.base.files import read_json
from stages.base.parameters import read_dataset_name, read_yaml
from stages.experiments.agreement import EXACT_STAGES, compare_contents
from stages.experiments.commands import clone_at, output_of, run_dvc

DRAWN = "demo"
LOCKS = ("dvc.lock", "data/dvc.lock")
MADE_WITH = "metrics/plots/made_with.json"
# Of commits until November 2026.
ARITHMETIC = "metrics/train/arithmetic.json"
COMPARED = (".csv", ".json")
Outputs = dict[tuple[str, str], str]


def make_clone(revision: str, clone: Path) -> str:
    """Clone the repository of the current folder at `revision`, with its datasets, unless the pipeline draws them; return the
    commit.
    """
    commit = output_of(["git", "rev-parse", "--verify", f"{revision}^{{commit}}"]).strip()
    clone_at(".", commit, clone)
    for name in [read_dataset_name(clone / "params.yaml"), *read_yaml(clone / "params.yaml").get("external", [])]:
        if name == DRAWN:
            continue
        source = Path("data") / name
        if not source.is_dir():
            raise UserError(f"{source} is not here; bring the dataset (dvc pull, or copy it) to verify results on it")
        shutil.copytree(source, clone / "data" / name, dirs_exist_ok=True)
    return commit


def made_under(clone: Path) -> dict[str, Any]:
    """Return `stages.model.backend.circumstances` of the training in a clone; nothing where that is not said."""
    if (clone / MADE_WITH).is_file():
        return {row["what"]: row["found"] for row in read_json(clone / MADE_WITH)}
    return read_json(clone / ARITHMETIC) if (clone / ARITHMETIC).is_file() else {}


def must_be_equal(made: dict[str, Any], here: dict[str, Any]) -> bool:
    """Return whether two trainings must have come to the same bytes."""
    return not made or (is_portable(made) and made == here)


def described(made: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in made.items())


def committed_contents(commit: str, clone: Path, committed: Outputs) -> dict[str, bytes]:
    """Return the committed tables and measures that can be had, by path: from git, or from DVC's cache of this repository."""
    contents = {}
    for _, path in committed:
        if not path.endswith(COMPARED):
            continue
        if (clone / path).is_file():
            contents[path] = (clone / path).read_bytes()
            continue
        try:
            contents[path] = dvc.api.read(path, rev=commit, mode="rb")
        except Exception:  # DVC raises many kinds where a file is neither in the cache nor in a remote that answers.
            continue
    return contents


def reproduce(clone: Path, made: dict[str, Any]) -> None:
    """Run the pipeline in `clone` with nothing taken from a cache, by the arithmetic and the threads that were chosen when the
    results were made; its output goes to the screen.
    """
    chosen = {"GLOMERULI_ARITHMETIC": made["arithmetic"], THREADS[0]: str(made["threads"])} if made else {}
    if not run_dvc(["repro", "--force", "--no-run-cache"], clone, chosen):
        raise UserError("`dvc repro` failed in the clone; what it printed above says why")


def outputs(folder: Path) -> Outputs:
    """Return the hash of each output in the lock files of a folder, by (stage, path)."""
    locks = [folder / lock for lock in LOCKS if (folder / lock).is_file()]
    if not (folder / LOCKS[0]).is_file():
        raise UserError("there is no dvc.lock in this revision: nothing was committed that could be verified")
    stages = {name: stage for lock in locks for name, stage in read_yaml(lock)["stages"].items()}
    return {(name, out["path"]): out["md5"] for name, stage in stages.items() for out in stage.get("outs", [])}


def report(committed: Outputs, found: Outputs) -> int:
    """Print `same` or `different` for each output, and return how many differ or are missing."""
    different = 0
    for (stage, path), digest in committed.items():
        same = found.get((stage, path)) == digest
        different += not same
        print(f"{'same' if same else 'DIFFERENT':>9}  {stage}: {path}")
    return different


def report_by_value(committed: Outputs, found: Outputs, contents: dict[str, bytes], clone: Path) -> int:
    """Print for each output whether it is the same, agrees, differs or is not compared; return how many differ or are missing."""
    different = 0
    for (stage, path), digest in committed.items():
        here = found.get((stage, path))
        if here == digest:
            word, why = "same", ""
        elif here is None:
            word, why = "DIFFERENT", " (it was not made)"
        elif stage in EXACT_STAGES:
            word, why = "DIFFERENT", " (it must be the same on every processor)"
        elif path in contents and (agreement := compare_contents(path, contents[path], (clone / path).read_bytes())):
            word, why = "agrees" if agreement.agree else "DIFFERENT", f" ({agreement.found})"
        elif path not in contents and path.endswith(("predictions.csv", "validation.csv")):
            word, why = "unknown", " (it is not in DVC's cache here to be compared; `dvc pull` may bring it)"
        else:
            word, why = "follows", " (from the weights; not compared by value)"
        different += word == "DIFFERENT"
        print(f"{word:>9}  {stage}: {path}{why}")
    return different
