"""A trained model with all that stands beside it in its folder, and its judgement of crops in
files.

Keras takes seconds to import: it is, where it is needed, so that crops are opened meanwhile.
"""

import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from stages.base.errors import UserError, refuse, warn
from stages.base.files import is_number, read_json_as, sha256
from stages.base.memory import keep_freed_memory
from stages.base.packages import warn_of_other_versions
from stages.dataset.seen import CROPS, Seen, read_crops
from stages.images.opening import doubts_of, load_image, pixel_digest
from stages.images.parameters import Mode
from stages.images.squares import make_square
from stages.measures.decision import CALIBRATION, Decision, read_decision
from stages.measures.novelty import NOVELTY, NoveltyReference, read_novelty
from stages.model.encoder_card import EncoderCard, join_encoder
from stages.model.file import MODEL, load_model
from stages.model.folder import CARD, WHOLE, Trained
from stages.workers.cores import ahead
from stages.workers.progress import progress

if TYPE_CHECKING:
    from stages.model.backend import keras

BATCH = 32
# Bytes of squares that are ready before the model takes them: a few seconds' work, which is done
# while Keras is imported.
READY = 2**26


class ModelCard(Trained):
    """What prediction needs of models/model.json: how crops became squares, and which part of a
    name is the slide.
    """

    class Dataset(Trained.Dataset):
        class Card(BaseModel):
            model_config = ConfigDict(strict=True)

            title: str
            classes: list[str] | None = None
            group: str | None = None

        card: Card

    step: str
    padding: Mode
    size: int = Field(ge=8, le=4096)
    classes: list[str] = Field(min_length=2, max_length=2)
    dataset: Dataset
    encoder: EncoderCard | None = None
    recalibrated: dict | None = None

    @property
    def class_names(self) -> list[str]:
        """What labels 0 and 1 are called: as the folders of the dataset's card, if these are two
        words, else as everywhere.

        Folders that are called 0 and 1, perhaps the other way round, would pass for the labels.
        """
        folders = [PurePosixPath(folder).name for folder in self.dataset.card.classes or []]
        words = (
            len(set(folders)) == 2
            and "*" not in "".join(folders)
            and not any(map(is_number, folders))
        )
        names = folders if words else self.classes
        return [name.replace("_", " ") for name in names]

    def square(self, image: Image.Image) -> np.ndarray:
        """Return a crop as the model takes it, uint8 (size, size, 3)."""
        return make_square(image, self.padding, self.size)


def read_card(folder: Path) -> ModelCard:
    """Return the model.json in the folder of a model. Raises `UserError` if it is missing or
    damaged.
    """
    return read_json_as(folder / CARD, ModelCard)


def of_another_model(folder: Path, decision: Decision) -> list[str]:
    """Return a line if the threshold in the folder of a model was not chosen for the model.json
    there.
    """
    if decision.model_sha256 != sha256(folder / CARD):
        return [
            f"{folder / CALIBRATION.name}: it was made for another model than {folder / CARD}; {WHOLE}"
        ]
    return []


class Classifier(NamedTuple):
    """From a file with a crop to a decision: the model's card, the model, its threshold, and what
    it knows of crops.
    """

    made: ModelCard
    model: "keras.Model"
    decision: Decision
    reference: NoveltyReference
    seen: Seen


def read_classifier(folder: Path, weights: Path | None = None) -> Classifier:
    """Return the classifier in a folder: models/ of this repository, or one that `dvc get` brought.

    Args:
        weights: the folder of the encoder that the model was made for, where it was made for one;
            None: in data/weights/.

    Raises:
        UserError: a file is missing, damaged, or does not belong to the others.
    """
    made, decision = read_card(folder), read_decision(folder / CALIBRATION.name)
    reference, seen = read_novelty(folder / NOVELTY.name), read_crops(folder / CROPS.name)
    problems = [*made.of_another(folder), *of_another_model(folder, decision)]
    if reference.made_from != made.dataset.made_from:
        problems.append(
            f"{folder / NOVELTY.name}: it was made for another model than {folder / MODEL.name}; {WHOLE}"
        )
    refuse(problems)
    from stages.model.backend import make_deterministic

    warn_of_other_versions()
    make_deterministic(0)
    model = read_network(folder, made, weights)
    if model.input_shape[1:] != (made.size, made.size, 3):
        raise UserError(
            f"{folder}/model.keras takes {model.input_shape[1:]}; model.json says size {made.size}"
        )
    return Classifier(made, model, decision, reference, seen)


def read_network(folder: Path, made: ModelCard, weights: Path | None = None) -> "keras.Model":
    """Return the model in a folder, from pixels to the probability; behind its encoder, if it was
    made for one.

    Raises:
        UserError: a file is missing or damaged, or the encoder is another one.
    """
    if made.encoder is None:
        if weights:
            raise UserError(
                f"--weights: the model in {folder} has its weights with it; leave --weights out"
            )
        return load_model(folder / MODEL.name)
    return join_encoder(made.encoder, load_model(folder / MODEL.name), made.size, weights)


class Judgement(NamedTuple):
    """What is said of n files: the calibrated probability of global sclerosis, float64 (n,); by row
    what is wrong with those that do not open; the novelty of each, float64 (n,),
    or None where nothing is known of them; and the rows of crops that the model was trained on.
    """

    probability: np.ndarray
    problems: dict[int, str]
    novelty: np.ndarray | None
    trained_on: set[int]


class Crops:
    """Squares of crops in files, which threads open from now on, a few ahead of who takes them.

    What does not open is black in its place and noted in `problems`, by row; what is doubtful in
    `doubts`. `digests` are of the pixels, by row.
    """

    def __init__(self, files: Sequence[Path], made: ModelCard):
        self.files, self.made = files, made
        self.problems: dict[int, str] = {}
        self.doubts: dict[int, list[str]] = {}
        self.digests: dict[int, str] = {}
        waiting = max(BATCH, READY // (3 * made.size**2))
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
            self.digests[row] = pixel_digest(image)
            return self.made.square(image)
        except (UserError, OSError) as error:
            self.problems[row] = str(error)
            return np.zeros((self.made.size, self.made.size, 3), dtype=np.uint8)


def judge(classifier: Classifier, crops: Crops) -> Judgement:
    """Return what the model says of crops; warn of those that are doubtful, or that it was trained
    on.
    """
    from stages.model.networks import with_features

    model = with_features(classifier.model) if classifier.reference else classifier.model
    probability, features = [], []
    with progress(total=len(crops.files), desc="judging", unit="crop") as bar:
        for squares in crops.batches():
            keep_freed_memory()
            # Always as many: of another number the model would be traced anew, which takes longer
            # than the batch.
            found = model.predict_on_batch(
                np.pad(squares, ((0, BATCH - len(squares)), (0, 0), (0, 0), (0, 0)))
            )
            said = found if classifier.reference else [found]
            probability.append(said[0][: len(squares), 0])
            features += [one[: len(squares)] for one in said[1:]]
            bar.update(len(squares))
    warn(
        "read, with a doubt", [doubt for row in sorted(crops.doubts) for doubt in crops.doubts[row]]
    )
    novelty = classifier.reference.novelty(np.concatenate(features)) if features else None
    trained_on = {
        row for row, digest in crops.digests.items() if classifier.seen.trained_on(digest)
    }
    if trained_on:
        print(
            f"warning: the model was trained on {len(trained_on)} of these {len(crops.files)} crops",
            file=sys.stderr,
        )
    return Judgement(
        classifier.decision.calibration(np.concatenate(probability)),
        crops.problems,
        novelty,
        trained_on,
    )
