"""Check that the files in a model's folder belong to the same training.

`train` writes model.json last, with the SHA-256 of the files that it wrote and that it learned
from. `calibrate` records in its own files what these were made from.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from stages.base.errors import UserError, refuse
from stages.base.files import Sha256, read_json_as, sha256

FOLDER = Path("models")
CARD = "model.json"
# Of all files in the folder. A change that other code would misread needs the next number.
FORMAT_VERSION = 3
# The files whose SHA-256 model.json holds.
TRAINED = ("model.keras", "validation.csv", "crops.csv")
WHOLE = "run dvc repro, or copy the model's folder as a whole"
STRICT = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class _Format(BaseModel):
    """The format of a model's folder, in its model.json."""

    model_config = STRICT

    format_version: int


class Trained(_Format):
    """The part of model.json with the SHA-256 of the training's inputs and outputs."""

    class Dataset(BaseModel):
        """The dataset that the model learned from."""

        model_config = STRICT

        name: str
        manifest_sha256: Sha256
        split_sha256: Sha256
        features_sha256: Sha256 | None

        @property
        def made_from(self) -> tuple[str, str, str]:
            """The inputs that a novelty reference of the same training records."""
            return self.manifest_sha256, self.split_sha256, self.features_sha256 or ""

    dataset: Dataset
    files_sha256: dict[str, Sha256]

    def of_another(self, folder: Path, names: Sequence[str] = TRAINED) -> list[str]:
        """Return a line for each file in a model's folder that differs from its model.json.

        Missing files are left to their readers: a recalibrated model has no validation predictions.
        """
        return [
            f"{folder / name}: it is not the file that {folder / CARD} was written with; {WHOLE}"
            for name in names
            if (folder / name).is_file() and self.files_sha256.get(name) != sha256(folder / name)
        ]

    def refuse_other_data(self, manifest: Path, split: Path) -> None:
        """Raise `UserError` if the model learned from other tables: its test crops may differ."""
        known = {manifest: self.dataset.manifest_sha256, split: self.dataset.split_sha256}
        refuse(
            f"{path}: it is not the file that {FOLDER / CARD} was trained with; run dvc repro"
            for path, digest in known.items()
            if sha256(path) != digest
        )


Card = TypeVar("Card", bound=Trained)


def read_model_json(folder: Path, schema: type[Card]) -> Card:
    """Return the model.json of a model's folder.

    Raises:
        UserError: it is missing, damaged, or of another format.
    """
    found = read_json_as(folder / CARD, _Format).format_version
    if found != FORMAT_VERSION:
        raise UserError(
            f"{folder / CARD}: format_version is {found}, but this code reads {FORMAT_VERSION}; "
            "use the code that the model was made with"
        )
    return read_json_as(folder / CARD, schema)


def digests(folder: Path, names: Sequence[str] = TRAINED) -> dict[str, str]:
    """Return the SHA-256 of files in a folder, by name."""
    return {name: sha256(folder / name) for name in names}
