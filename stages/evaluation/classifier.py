"""A trained model with all that stands beside it in its folder, and its judgement of crops in files."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import joblib
import numpy as np
from PIL import Image
from pydantic import BaseModel
from tqdm import tqdm

from stages.base.errors import UserError, warn
from stages.base.files import is_number, read_json_as
from stages.images.opening import doubts_of, load_image
from stages.images.squares import Mode, make_square
from stages.images.stains import StainNormalizer, read_normalization
from stages.measures.decision import Decision, read_decision
from stages.measures.likeness import LIKENESS, Likeness, read_likeness
from stages.model.backend import keep_freed_memory, keras, make_deterministic
from stages.model.encoder_card import EncoderCard, behind_encoder
from stages.model.file import MODEL, load_model
from stages.model.networks import with_features
from stages.workers.progress import progress

BATCH = 32


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


class Classifier(NamedTuple):
    """From a file with a crop to a decision: how the crop becomes a square, the square's stain, the model, and the threshold."""

    made: ModelCard
    stain: StainNormalizer
    model: keras.Model
    decision: Decision
    likeness: Likeness

    def square(self, image: Image.Image) -> np.ndarray:
        """Return a crop as the model takes it, uint8 (size, size, 3)."""
        return self.stain(make_square(image, self.made.padding, self.made.size))


def read_classifier(folder: Path, weights: Path | None = None) -> Classifier:
    """Return the classifier in a folder: models/ of this repository, or one that `dvc get` brought.

    Args:
        weights: the folder of the encoder that the model was made for, where it was made for one; None: in data/weights/.

    Raises:
        UserError: a file is missing, damaged, or does not belong to the others.
    """
    made = read_json_as(folder / "model.json", ModelCard)
    decision, stain = read_decision(folder / "threshold.json"), read_normalization(folder / "stain.json")
    make_deterministic(0)
    model = read_network(folder, made, weights)
    if model.input_shape[1:] != (made.size, made.size, 3):
        raise UserError(f"{folder}/model.keras takes {model.input_shape[1:]}; model.json says size {made.size}")
    return Classifier(made, stain, model, decision, read_likeness(folder / LIKENESS.name))


def read_network(folder: Path, made: ModelCard, weights: Path | None = None) -> keras.Model:
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


class Crops(keras.utils.PyDataset):
    """Batches of squares, opened and padded in threads shortly before the model takes them: memory does not grow with N.

    What does not open is black in its place and noted in `problems`, by row; what is doubtful in `doubts`.
    """

    def __init__(self, files: Sequence[Path], classifier: Classifier):
        super().__init__(workers=joblib.cpu_count() + 1, use_multiprocessing=False, max_queue_size=16)
        self.files, self.classifier = files, classifier
        self.problems: dict[int, str] = {}
        self.doubts: dict[int, list[str]] = {}

    def __len__(self) -> int:
        return -(-len(self.files) // BATCH)

    def __getitem__(self, number: int) -> tuple[np.ndarray]:
        keep_freed_memory()
        rows = range(number * BATCH, min((number + 1) * BATCH, len(self.files)))
        return (np.stack([self._square(row) for row in rows]),)

    def _square(self, row: int) -> np.ndarray:
        try:
            image = load_image(self.files[row])
            if found := doubts_of(image, self.files[row]):
                self.doubts[row] = found
            return self.classifier.square(image)
        except (UserError, OSError) as error:
            self.problems[row] = str(error)
            return np.zeros(self.classifier.model.input_shape[1:], dtype=np.uint8)


class _Bar(keras.callbacks.Callback):
    def __init__(self, bar: tqdm):
        super().__init__()
        self.bar = bar

    def on_predict_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.bar.update(min(BATCH, int(self.bar.total or 0) - self.bar.n))


def judge(classifier: Classifier, files: Sequence[Path]) -> Judgement:
    """Return what the model says of crops in files; warn of those that are doubtful."""
    crops = Crops(files, classifier)
    model = with_features(classifier.model) if classifier.likeness else classifier.model
    with progress(total=len(files), desc="judging", unit="crop") as bar:
        found = model.predict(crops, verbose=0, callbacks=[_Bar(bar)])
    probability, features = found if classifier.likeness else (found, None)
    warn("read, with a doubt", [doubt for row in sorted(crops.doubts) for doubt in crops.doubts[row]])
    unlike = classifier.likeness.unlike(features) if features is not None else None
    return Judgement(classifier.decision.calibration(probability[:, 0]), crops.problems, unlike)
