"""A trained model with all that stands beside it in its folder, and its judgement of crops in files.

Keras takes seconds to import: it is, where it is needed, so that crops are opened meanwhile.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image
from pydantic import BaseModel

from stages.base.errors import UserError, warn
from stages.base.files import is_number, read_json_as
from stages.base.memory import keep_freed_memory
from stages.base.packages import warn_of_other_versions
from stages.images.opening import doubts_of, load_image
from stages.images.squares import Mode, make_square
from stages.images.stains import StainNormalizer, read_normalization
from stages.measures.decision import Decision, read_decision
from stages.measures.likeness import LIKENESS, Likeness, read_likeness
from stages.model.encoder_card import EncoderCard, behind_encoder
from stages.model.file import MODEL, load_model
from stages.workers.cores import ahead
from stages.workers.progress import progress

if TYPE_CHECKING:
    from stages.model.backend import keras

BATCH = 32
# Bytes of squares that are ready before the model takes them: a few seconds' work, which is done while Keras is imported.
READY = 2**26


class ModelCard(BaseModel):
    """What prediction needs of models/model.json: how crops became squares, and which part of a name is the slide."""

    class Dataset(BaseModel):
        class Card(BaseModel):
            title: str
            classes: list[str] | None = None
            group: str | None = None

        card: Card

    step: str
    padding: Mode
    size: int
    classes: list[str]
    dataset: Dataset
    encoder: EncoderCard | None = None
    localized: dict | None = None

    @property
    def class_names(self) -> list[str]:
        """What labels 0 and 1 are called: as the folders of the dataset's card, if these are two words, else as everywhere.

        Folders that are called 0 and 1, perhaps the other way round, would pass for the labels.
        """
        folders = [PurePosixPath(folder).name for folder in self.dataset.card.classes or []]
        words = len(set(folders)) == 2 and "*" not in "".join(folders) and not any(map(is_number, folders))
        names = folders if words else self.classes
        return [name.replace("_", " ") for name in names]


class Preparation(NamedTuple):
    """How a crop becomes what the model takes: its square, and the square's stain."""

    made: ModelCard
    stain: StainNormalizer

    def square(self, image: Image.Image) -> np.ndarray:
        """Return a crop as the model takes it, uint8 (size, size, 3)."""
        return self.stain(make_square(image, self.made.padding, self.made.size))


def read_preparation(folder: Path) -> Preparation:
    """Return how crops are prepared for the model in a folder, without the model.

    Raises:
        UserError: a file is missing or damaged.
    """
    return Preparation(read_json_as(folder / "model.json", ModelCard), read_normalization(folder / "stain.json"))


class Classifier(NamedTuple):
    """From a file with a crop to a decision: how the crop is prepared, the model, the threshold, and what the model knows."""

    preparation: Preparation
    model: "keras.Model"
    decision: Decision
    likeness: Likeness

    @property
    def made(self) -> ModelCard:
        return self.preparation.made


def read_classifier(folder: Path, weights: Path | None = None) -> Classifier:
    """Return the classifier in a folder: models/ of this repository, or one that `dvc get` brought.

    Args:
        weights: the folder of the encoder that the model was made for, where it was made for one; None: in data/weights/.

    Raises:
        UserError: a file is missing, damaged, or does not belong to the others.
    """
    preparation, decision = read_preparation(folder), read_decision(folder / "threshold.json")
    made = preparation.made
    from stages.model.backend import make_deterministic

    warn_of_other_versions()
    make_deterministic(0)
    model = read_network(folder, made, weights)
    if model.input_shape[1:] != (made.size, made.size, 3):
        raise UserError(f"{folder}/model.keras takes {model.input_shape[1:]}; model.json says size {made.size}")
    return Classifier(preparation, model, decision, read_likeness(folder / LIKENESS.name))


def read_network(folder: Path, made: ModelCard, weights: Path | None = None) -> "keras.Model":
    """Return the model in a folder, from pixels to the probability; behind its encoder, if it was made for one.

    Raises:
        UserError: a file is missing or damaged, or the encoder is another one.
    """
    if made.encoder is None:
        if weights:
            raise UserError(f"--weights: the model in {folder} has its weights with it; leave --weights out")
        return load_model(folder / MODEL.name)
    return behind_encoder(made.encoder, load_model(folder / MODEL.name), made.size, weights)


class Judgement(NamedTuple):
    """What is said of n files: the calibrated probability of global sclerosis, float64 (n,); by row what is wrong with those that
    do not open; and how unlike the training crops each is, float64 (n,), or None where nothing is known of them.
    """

    probability: np.ndarray
    problems: dict[int, str]
    unlike: np.ndarray | None


class Crops:
    """Squares of crops in files, which threads open from now on, a few ahead of who takes them.

    What does not open is black in its place and noted in `problems`, by row; what is doubtful in `doubts`.
    """

    def __init__(self, files: Sequence[Path], preparation: Preparation):
        self.files, self.preparation = files, preparation
        self.problems: dict[int, str] = {}
        self.doubts: dict[int, list[str]] = {}
        waiting = max(BATCH, READY // (3 * preparation.made.size**2))
        self._squares = ahead(self._square, ((row,) for row in range(len(files))), waiting)

    def batches(self) -> Iterator[np.ndarray]:
        """Yield the squares, once, uint8 (at most BATCH, size, size, 3)."""
        while batch := list(islice(self._squares, BATCH)):
            yield np.stack(batch)

    def _square(self, row: int) -> np.ndarray:
        try:
            image = load_image(self.files[row])
            if found := doubts_of(image, self.files[row]):
                self.doubts[row] = found
            return self.preparation.square(image)
        except (UserError, OSError) as error:
            self.problems[row] = str(error)
            return np.zeros((self.preparation.made.size, self.preparation.made.size, 3), dtype=np.uint8)


def judge(classifier: Classifier, crops: Crops) -> Judgement:
    """Return what the model says of crops; warn of those that are doubtful."""
    from stages.model.networks import with_features

    model = with_features(classifier.model) if classifier.likeness else classifier.model
    probability, features = [], []
    with progress(total=len(crops.files), desc="judging", unit="crop") as bar:
        for squares in crops.batches():
            keep_freed_memory()
            # Always as many: of another number the model would be traced anew, which takes longer than the batch.
            found = model.predict_on_batch(np.pad(squares, ((0, BATCH - len(squares)), (0, 0), (0, 0), (0, 0))))
            said = found if classifier.likeness else [found]
            probability.append(said[0][: len(squares), 0])
            features += [one[: len(squares)] for one in said[1:]]
            bar.update(len(squares))
    warn("read, with a doubt", [doubt for row in sorted(crops.doubts) for doubt in crops.doubts[row]])
    unlike = classifier.likeness.unlike(np.concatenate(features)) if features else None
    return Judgement(classifier.decision.calibration(np.concatenate(probability)), crops.problems, unlike)
