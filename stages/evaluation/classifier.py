"""A trained model with the other files of its folder, and its predictions of crops in files.

Keras takes seconds to import, so functions import it; crops are opened meanwhile.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from stages.base import arithmetic
from stages.base.errors import UserError, refuse, warn
from stages.base.files import Sha256, is_number, sha256
from stages.base.packages import warn_of_other_versions
from stages.dataset.seen import CROPS, Seen, read_crops
from stages.images.archives import File
from stages.images.opening import doubts_of, load_image, pixel_digest
from stages.images.parameters import Mode
from stages.images.squares import make_square
from stages.measures.decision import CALIBRATION, Decision, read_decision
from stages.measures.novelty import NOVELTY, NoveltyReference, read_novelty
from stages.model.backbone_card import BackboneCard, join_backbone
from stages.model.file import MODEL, load_model
from stages.model.folder import CARD, WHOLE, Trained, read_model_json
from stages.workers.cores import ahead

if TYPE_CHECKING:
    from stages.model.backend import keras

BATCH = 32
# Bytes of squares that are prefetched: a few seconds' work, done while Keras is imported.
READY = 2**26
DRAWN = "The model was trained on drawn glomeruli, none of a patient."


class ModelCard(Trained):
    """What prediction needs of models/model.json."""

    class Dataset(Trained.Dataset):
        class Card(BaseModel):
            model_config = ConfigDict(strict=True)

            title: str
            classes: list[str] | None = None
            group: str | None = None
            drawn: bool = False

        card: Card
        # None if model.json does not say it.
        trained_slides: int | None = None

    class Embeddings(BaseModel):
        """The features by another tool that the model takes instead of pixels.

        Attributes:
            weights: their file or folder in data/weights/.
            length: the number of features of a crop.
            sha256: of the file, or of all files in the folder.
        """

        model_config = ConfigDict(strict=True)

        weights: str
        length: int = Field(ge=1)
        sha256: Sha256

    step: str
    padding: Mode
    size: int = Field(ge=8, le=4096)
    classes: list[str] = Field(min_length=2, max_length=2)
    dataset: Dataset
    backbone: BackboneCard | None = None
    embeddings: Embeddings | None = None
    recalibrated: dict | None = None

    @property
    def class_names(self) -> list[str]:
        """Return the names of labels 0 and 1: the folders in the dataset's card, or the defaults.

        Folders named by numbers are not used, because they could be taken for the labels.
        """
        folders = [PurePosixPath(folder).name for folder in self.dataset.card.classes or []]
        are_words = "*" not in "".join(folders) and not any(map(is_number, folders))
        names = folders if are_words and len(set(folders)) == 2 else self.classes
        return [name.replace("_", " ") for name in names]

    def square(self, image: Image.Image) -> np.ndarray:
        """Return a crop as the model takes it, uint8 (size, size, 3)."""
        return make_square(image, self.padding, self.size)


def read_card(folder: Path) -> ModelCard:
    """Return the model.json of a model's folder; raise `UserError` as `read_model_json` does."""
    return read_model_json(folder, ModelCard)


def refuse_drawn(folder: Path, made: ModelCard) -> None:
    """Raise `UserError` if the model in a folder was trained on drawn crops."""
    if made.dataset.card.drawn:
        raise UserError(
            f"{folder}: this model was trained on drawn glomeruli (data/{made.dataset.name}.yaml: "
            "`drawn: true`), and its predictions of patients' crops mean nothing; give another "
            "model, such as published/aidpath; --allow-drawn uses this one nevertheless"
        )


def warn_if_drawn(made: ModelCard) -> None:
    """Print a warning if the model was trained on drawn crops."""
    if made.dataset.card.drawn:
        warn(f"{DRAWN} Its predictions of patients' crops mean nothing.")


def of_another_model(folder: Path, decision: Decision) -> list[str]:
    """Return an error line if the decision was not made for the model.json in the folder."""
    if decision.model_sha256 == sha256(folder / CARD):
        return []
    return [_not_made_for(folder / CALIBRATION.name, folder / CARD)]


def _not_made_for(file: Path, model: Path) -> str:
    return f"{file}: it was made for another model than {model}; {WHOLE}"


class Classifier(NamedTuple):
    """A model from pixels (or embeddings) to a probability, with the other files of its folder."""

    made: ModelCard
    model: "keras.Model"
    decision: Decision
    reference: NoveltyReference
    seen: Seen


def read_classifier(
    folder: Path,
    weights: Path | None = None,
    *,
    allow_drawn: bool = False,
    embeddings: bool = False,
) -> Classifier:
    """Return the classifier in a model's folder, such as models/.

    Args:
        weights: the file or folder of the backbone's weights, if it needs one; None for
            data/weights/.
        allow_drawn: whether the model may have been trained on drawn crops.
        embeddings: whether the model will get features that another tool computed.

    Raises:
        UserError: a file is missing or damaged, or belongs to another model; or the model was
            trained on drawn crops, or takes something else.
    """
    made, decision = read_card(folder), read_decision(folder / CALIBRATION.name)
    if not allow_drawn:
        refuse_drawn(folder, made)
    refuse_other_input(folder, made, embeddings)
    reference, seen = read_novelty(folder / NOVELTY.name), read_crops(folder / CROPS.name)
    problems = [*made.of_another(folder), *of_another_model(folder, decision)]
    if reference.made_from != made.dataset.made_from:
        problems.append(_not_made_for(folder / NOVELTY.name, folder / MODEL.name))
    refuse(problems)
    if not arithmetic.hosted:
        from stages.model.backend import make_deterministic

        warn_of_other_versions()
        make_deterministic(0)
    model = read_network(folder, made, weights)
    expected = (made.embeddings.length,) if made.embeddings else (made.size, made.size, 3)
    if model.input_shape[1:] != expected:
        raise UserError(f"{folder / MODEL.name} takes {model.input_shape[1:]}; {CARD}: {expected}")
    return Classifier(made, model, decision, reference, seen)


def refuse_other_input(folder: Path, made: ModelCard, given: bool) -> None:
    """Raise `UserError` if a model for pixels is given embeddings, or one for these is not."""
    if made.embeddings and not given:
        raise UserError(
            f"{folder}: this model takes {made.embeddings.length} features that another tool "
            "computed, not pixels; use `python -m stages.predict CROPS --embeddings FILE`"
        )
    if given and not made.embeddings:
        raise UserError(f"--embeddings: the model in {folder} takes pixels; omit --embeddings")


def read_network(folder: Path, made: ModelCard, weights: Path | None = None) -> "keras.Model":
    """Return the model in a folder, from pixels to the probability, joined to its backbone if any.

    Args:
        weights: those of the backbone, if the model needs a file or folder of them.

    Raises:
        UserError: a file is missing or damaged, or the backbone is another one.
    """
    if weights and not (made.backbone and made.backbone.has_own_weights):
        raise UserError(f"--weights: the model in {folder} needs no others; omit --weights")
    saved = load_model(folder / MODEL.name)
    if made.embeddings:
        from stages.model.backend import keras

        # A model that was saved and loaded returns a list.
        return keras.Model(saved.inputs, saved.outputs[0], name=made.step)
    return join_backbone(made.backbone, saved, made.size, weights) if made.backbone else saved


class Crops:
    """Squares of crops, prefetched by threads as soon as this is constructed.

    Args:
        files: the files, which errors name.
        load: given a row, returns its picture as `load_image` does; None opens the files.
        embeddings: float32 (n, D), which the model takes instead of squares, if it does.

    Attributes:
        problems: by row, why a file does not open; its square is black.
        doubts: by row, what is doubtful about a crop.
        digests: by row, of the pixels.
    """

    def __init__(
        self,
        files: Sequence[str | File],
        made: ModelCard,
        load: Callable[[int], Image.Image] | None = None,
        embeddings: np.ndarray | None = None,
    ):
        self.files, self.made, self.embeddings = files, made, embeddings
        self._load = load or (lambda row: load_image(files[row]))
        self.problems: dict[int, str] = {}
        self.doubts: dict[int, list[str]] = {}
        self.digests: dict[int, str] = {}
        waiting = max(BATCH, READY // (3 * made.size**2))
        self._squares = ahead(self._square, ((row,) for row in range(len(files))), waiting)

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """Yield all squares once, `size` at a time, uint8 (n, side, side, 3); or the embeddings."""
        while batch := list(islice(self._squares, size)):
            yield np.stack(batch)

    def _square(self, row: int) -> np.ndarray:
        try:
            image = self._load(row)
            if found := doubts_of(image, self.files[row]):
                self.doubts[row] = found
            self.digests[row] = pixel_digest(image)
            return self.made.square(image) if self.embeddings is None else self.embeddings[row]
        except (UserError, OSError) as error:
            self.problems[row] = str(error)
            if self.embeddings is not None:
                return self.embeddings[row]
            return np.zeros((self.made.size, self.made.size, 3), dtype=np.uint8)
