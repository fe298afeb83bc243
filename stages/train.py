"""Train the chosen model step on the training slides, watching the validation slides: -> models/, metrics/train/."""

import math
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
from dvclive import Live
from pydantic import Field

from stages.backbone import build_backbone, set_trainable
from stages.backend import keras, make_deterministic
from stages.batches import AugmentParameters, Batches, predict
from stages.card import read_dataset
from stages.checkpoint import Checkpoint, fingerprint
from stages.cohort import CLASS_NAMES, FEATURES, IMAGES, MANIFEST, SPLIT, open_features, open_squares, read_cohort
from stages.errors import UserError, run_stage
from stages.files import sha256, write_json
from stages.model import build_head, build_model, join
from stages.model_file import MODEL, save_model
from stages.params import Parameters, read_dataset_name, read_params
from stages.predictions import VALIDATION, write_predictions
from stages.squares import PadParameters
from stages.steps import ModelParameters, is_backbone

CARD = Path("models/model.json")
CHECKPOINT = Path("models/checkpoint.npz")
LOG = Path("metrics/train")


class TrainParameters(Parameters):
    """`train` in params.yaml."""

    epochs: int = Field(ge=1, le=100_000)
    batch_size: int = Field(ge=1, le=65_536)
    learning_rate: float = Field(gt=0, le=10)
    weight_decay: float = Field(ge=0, le=1)
    dropout: float = Field(ge=0, lt=1)
    augment: AugmentParameters
    class_weight: Literal["none", "balanced"]
    patience: int = Field(ge=1)
    resume: bool
    seed: int = Field(ge=0, lt=2**32)


def main() -> None:
    params = read_params("train", TrainParameters)
    model_params = read_params("model", ModelParameters)
    padding = read_params("pad", PadParameters)
    dataset = read_dataset(read_dataset_name())
    make_deterministic(params.seed)

    cohort, images = read_cohort(), open_squares()
    train, val = cohort.rows("train"), cohort.rows("val")
    model, learner, inputs = build(model_params, images, train, params.dropout, params.seed)
    print(f"{model_params.step}: {model.count_params():,} weights; {len(train)} crops to train on, {len(val)} to validate on")

    key = resume_key(params, model_params) if params.resume else None
    start = time.perf_counter()
    best = fit(learner, inputs, cohort.labels, train, val, params, key)
    print(f"trained for {time.perf_counter() - start:.0f} s; the weights kept are those of epoch {best['epoch']}")

    write_predictions(VALIDATION, cohort, val, predict(model, images, val))
    save_model(model, MODEL)
    card = {
        "step": model_params.step,
        "weights": model.count_params(),
        "padding": padding.mode,
        "size": padding.size,
        "classes": CLASS_NAMES,
        "validation": best,
        "dataset": {
            "name": dataset.name,
            "card": dataset.card.model_dump(exclude_none=True),
            "images": len(cohort.paths),
            "manifest_sha256": sha256(MANIFEST),
            "split_sha256": sha256(SPLIT),
        },
        "parameters": {"model": model_params.model_dump(), "train": params.model_dump(exclude={"resume"})},
        "code_sha256": {path.name: sha256(path) for path in code_files()},
        "versions": {name: version(name) for name in ("keras", keras.backend.backend(), "numpy", "pillow")},
    }
    write_json(CARD, card)
    CHECKPOINT.unlink(missing_ok=True)


def build(
    params: ModelParameters, images: np.ndarray, train: np.ndarray, dropout: float, seed: int
) -> tuple[keras.Model, keras.Model, np.ndarray]:
    """Return the model from pixels to probability, that part of it that is to be trained, and what the part takes.

    This is the model itself, which takes the squares; or, where a backbone is frozen, its head, which takes the features.
    """
    size = images.shape[1]
    if not is_backbone(params.step):
        model = build_model(params, size, *channel_statistics(images, train), dropout)
        return model, model, images
    # Drawn as in the stage `features`, whatever train.seed is, where the weights are random.
    keras.utils.set_random_seed(0)
    backbone = build_backbone(params.step, params.weights, size)
    keras.utils.set_random_seed(seed)
    set_trainable(backbone, not params.frozen)
    if params.frozen:
        features = open_features()
        head = build_head(features[train].reshape(-1, features.shape[-1]), dropout)
        return join(backbone, head, params.step), head, features
    features = backbone.predict(Batches(images, train, np.zeros(len(images)), batch_size=32), verbose=0)
    model = join(backbone, build_head(features, dropout), params.step)
    return model, model, images


def fit(
    model: keras.Model,
    images: np.ndarray,
    y: np.ndarray,
    train: np.ndarray,
    val: np.ndarray,
    params: TrainParameters,
    resume_key: str | None = None,
) -> dict[str, float]:
    """Train `model` in place and leave it with the weights of the epoch of lowest validation loss.

    Adam with decoupled weight decay (Loshchilov and Hutter 2019; none on offsets and batch normalisation) and binary
    cross-entropy. The learning rate is halved when half the patience has passed without a lower validation loss, and
    training ends when all of it has. Every epoch is logged under metrics/train.

    Args:
        images: squares, uint8 (N, size, size, 3), or features, float32 (N, 8, D): what `model` takes.
        y: int (N,) of labels 0 and 1.
        train, val: int arrays of rows.
        resume_key: the fingerprint of this training. With it the state is saved after each epoch, and a state that a killed
            run of the same fingerprint left is taken up; the result has the same bytes.

    Returns:
        `epoch`, the number of the epoch that was kept, from 1, and its validation `loss`, `accuracy` and `auc`.

    Raises:
        UserError: the loss is no longer a number.
    """
    optimizer = keras.optimizers.AdamW(params.learning_rate, weight_decay=params.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(optimizer, "binary_crossentropy", metrics=["accuracy", keras.metrics.AUC(name="auc")])
    with Live(str(LOG), save_dvc_exp=False, dvcyaml=None) as live:
        log = LogEpochs(live, params.learning_rate)
        reduction = keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=max(1, params.patience // 2))
        early_stopping = keras.callbacks.EarlyStopping(patience=params.patience, restore_best_weights=True)
        callbacks, done = [reduction, log, early_stopping], 0
        if resume_key:
            checkpoint = Checkpoint(CHECKPOINT, resume_key, early_stopping, others=[reduction, log])
            callbacks.append(checkpoint)
            done = params.epochs if checkpoint.has_ended() else checkpoint.first_epoch
        model.fit(
            Batches(images, train, y, params.batch_size, params.augment, params.seed, epoch=done),
            validation_data=Batches(images, val, y, params.batch_size),
            # Batches shuffles the images; Keras would shuffle the batches too, by a state that a resumed run does not have.
            shuffle=False,
            initial_epoch=done,
            epochs=params.epochs,
            class_weight=balanced_class_weight(y[train]) if params.class_weight == "balanced" else None,
            callbacks=callbacks,
            verbose=1 if sys.stdout.isatty() else 2,
        )
    return log.best


class LogEpochs(keras.callbacks.Callback):
    """Log every epoch with DVCLive, and stop where the loss is no longer a number.

    DVCLive's own callback for Keras imports TensorFlow, which training on another backend does not have.
    """

    def __init__(self, live: Live, learning_rate: float):
        super().__init__()
        self.live, self.learning_rate = live, learning_rate
        self.best: dict[str, float] = {"epoch": 0, "loss": math.inf}

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        if not (math.isfinite(logs["loss"]) and math.isfinite(logs["val_loss"])):
            problem = f"the loss is {logs['loss']} in epoch {epoch + 1}"
            raise UserError(f"{problem}; params.yaml: train.learning_rate is {self.learning_rate}, try a lower one")
        for name, value in logs.items():
            split, metric = ("val", name[4:]) if name.startswith("val_") else ("train", name)
            self.live.log_metric(f"{split}/{metric}" if metric != "learning_rate" else metric, float(value))
        if logs["val_loss"] < self.best["loss"]:
            validation = {name[4:]: float(value) for name, value in logs.items() if name.startswith("val_")}
            self.best = self.live.summary["best"] = {"epoch": epoch + 1, **validation}
        self.live.next_step()


def code_files() -> list[Path]:
    """Return the files of this project that run here: the stage's dependencies in dvc.yaml, no more and no fewer.

    Their digests, unlike the commit that will hold them, are known while training runs.
    """
    modules = {name: module.__file__ for name, module in sys.modules.items() if name.startswith("stages.")}
    return sorted({Path(__file__), *(Path(file) for file in modules.values() if file)})


def resume_key(params: TrainParameters, model_params: ModelParameters) -> str:
    """Return the fingerprint of all that a training depends on: parameters, data, split and code."""
    parameters = {"train": params.model_dump(), "model": model_params.model_dump()}
    return fingerprint(parameters, [MANIFEST, SPLIT, FEATURES if model_params.frozen else IMAGES, *code_files()])


def channel_statistics(images: np.ndarray, rows: np.ndarray, chunk: int = 256) -> tuple[list[float], list[float]]:
    """Return mean and variance of red, green and blue over some rows of `images`, in units of 0 to 255.

    Exact (integer sums of the pixels and of their squares) and in constant memory.
    """
    total, squares = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)
    for start in range(0, len(rows), chunk):
        pixels = images[rows[start : start + chunk]].reshape(-1, 3)
        for channel in range(3):
            counts = np.bincount(pixels[:, channel], minlength=256)
            total[channel] += counts @ np.arange(256)
            squares[channel] += counts @ np.arange(256) ** 2
    n = len(rows) * images.shape[1] * images.shape[2]
    mean = total / n
    return mean.tolist(), np.maximum(squares / n - mean**2, 0).tolist()


def balanced_class_weight(y: np.ndarray) -> dict[int, float]:
    """Return weights that give both classes the same total: N / (2 x images of the class), as scikit-learn's `balanced`."""
    counts = np.bincount(y, minlength=2)
    return {label: len(y) / (2 * int(count)) for label, count in enumerate(counts)}


if __name__ == "__main__":
    run_stage(main)
