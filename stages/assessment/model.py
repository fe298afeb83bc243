"""The model to use, copied out of its experiment."""

import os
import shutil
from pathlib import Path

from stages.base.errors import UserError
from stages.base.files import MODEL_FILES
from stages.experiments.commands import DVC, find_repository, from_top, output_of
from stages.experiments.reading import Experiment

MODELS, CARD = "models", "README.md"
KNOWN = (*MODEL_FILES, CARD, "validation.csv", ".gitignore")


def refuse_other_files(folder: Path) -> None:
    """Raise `UserError` if a folder that a model will replace holds anything but a model."""
    if os.path.lexists(folder) and not (folder.is_dir() and not folder.is_symlink()):
        raise UserError(f"{folder}: it is not a folder; the model is written there")
    others = sorted({one.name for one in folder.glob("*")} - {*KNOWN})
    if others:
        raise UserError(
            f"{folder}: it holds {others[0]!r}, which is not of a model; choose another --output"
        )


def keep_model(experiment: Experiment, folder: Path) -> None:
    """Replace the kept model by the model of an experiment."""
    part = folder.with_name(f"{folder.name}.part")
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(part, ignore_errors=True)
    top, revision = str(find_repository().top), experiment.commit
    output_of([*DVC, "get", top, from_top(MODELS), "--rev", revision, "--out", str(part)])
    (part / ".gitignore").unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)
    part.rename(folder)
