"""Train the chosen model step on the training slides, watching the validation slides: -> models/, metrics/train/."""

import math
import sys
import time
from pathlib import Path
from typing import Literal

import numpy as np
from dvclive import Live
from pydantic import Field

from stages.backend import keras, make_deterministic
from stages.batches import AugmentParameters, Batches, predict
from stages.card import read_dataset
from stages.cohort import CLASS_NAMES, open_squares, read_cohort
from stages.errors import UserError, run_stage
from stages.files import write_json
from stages.model import ModelParameters, build_model
from stages.model_file import save_model
from stages.params import Parameters, read_dataset_name, read_params
from stages.predictions import write_predictions
from stages.squares import PadParameters

MODEL = Path("models/model.keras")
CARD = Path("models/model.json")
VALIDATION = Path("models/validation.csv")
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
    seed: int = Field(ge=0, lt=2**32)


def main() -> None:
    params = read_params("train", TrainParameters)
    model_params = read_params("model", ModelParameters)
    padding = read_params("pad", PadParameters)
    dataset = read_dataset(read_dataset_name())
    make_deterministic(params.seed)

    cohort, images = read_cohort(), open_squares()
    train, val = cohort.rows("train"), cohort.rows("val")
    mean, variance = channel_statistics(images, train)
    model = build_model(model_params, padding.size, mean, variance, params.dropout)
    print(f"{model_params.step}: {model.count_params():,} weights; {len(train)} crops to train on, {len(val)} to validate on")

    start = time.perf_counter()
    best_epoch = fit(model, images, cohort.labels, train, val, params)
    print(f"trained for {time.perf_counter() - start:.0f} s; the weights kept are those of epoch {best_epoch}")

    write_predictions(VALIDATION, cohort, val, predict(model, images, val))
    save_model(model, MODEL)
    write_json(
        CARD,
        {
            "step": model_params.step,
            "weights": model.count_params(),
            "padding": padding.mode,
            "size": padding.size,
            "classes": CLASS_NAMES,
            "dataset": {"name": dataset.name, "title": dataset.card.title},
            "best_epoch": best_epoch,
        },
    )


def fit(
    model: keras.Model, images: np.ndarray, y: np.ndarray, train: np.ndarray, val: np.ndarray, params: TrainParameters
) -> int:
    """Train `model` in place and leave it with the weights of the epoch of lowest validation loss.

    Adam with decoupled weight decay (Loshchilov and Hutter 2019; none on offsets and batch normalisation) and binary
    cross-entropy. The learning rate is halved when half the patience has passed without a lower validation loss, and
    training ends when all of it has. Every epoch is logged under metrics/train.

    Args:
        images: uint8 (N, size, size, 3).
        y: int (N,) of labels 0 and 1.
        train, val: int arrays of rows.

    Returns:
        the number of the epoch that was kept, from 1.

    Raises:
        UserError: the loss is no longer a number.
    """
    optimizer = keras.optimizers.AdamW(params.learning_rate, weight_decay=params.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(optimizer, "binary_crossentropy", metrics=["accuracy", keras.metrics.AUC(name="auc")])
    with Live(str(LOG), save_dvc_exp=False, dvcyaml=None) as live:
        log = LogEpochs(live, params.learning_rate)
        model.fit(
            Batches(images, train, y, params.batch_size, params.augment, params.seed),
            validation_data=Batches(images, val, y, params.batch_size),
            epochs=params.epochs,
            class_weight=balanced_class_weight(y[train]) if params.class_weight == "balanced" else None,
            callbacks=[
                log,
                keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=max(1, params.patience // 2)),
                keras.callbacks.EarlyStopping(patience=params.patience, restore_best_weights=True),
            ],
            verbose=1 if sys.stdout.isatty() else 2,
        )
    return log.best_epoch


class LogEpochs(keras.callbacks.Callback):
    """Log every epoch with DVCLive, and stop where the loss is no longer a number.

    DVCLive's own callback for Keras imports TensorFlow, which training on another backend does not have.
    """

    def __init__(self, live: Live, learning_rate: float):
        super().__init__()
        self.live, self.learning_rate = live, learning_rate
        self.best_epoch, self.best_loss = 0, math.inf

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        if not (math.isfinite(logs["loss"]) and math.isfinite(logs["val_loss"])):
            problem = f"the loss is {logs['loss']} in epoch {epoch + 1}"
            raise UserError(f"{problem}; params.yaml: train.learning_rate is {self.learning_rate}, try a lower one")
        for name, value in logs.items():
            split, metric = ("val", name[4:]) if name.startswith("val_") else ("train", name)
            self.live.log_metric(f"{split}/{metric}" if metric != "learning_rate" else metric, float(value))
        if logs["val_loss"] < self.best_loss:
            self.best_epoch, self.best_loss = epoch + 1, logs["val_loss"]
            self.live.summary["best"] = {
                "epoch": epoch + 1,
                **{name[4:]: float(v) for name, v in logs.items() if name.startswith("val_")},
            }
        self.live.next_step()


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
