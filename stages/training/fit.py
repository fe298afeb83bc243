"""Fit a network, epoch by epoch."""

import math
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from dvclive.live import Live

from stages.base.errors import UserError
from stages.model.backend import keras
from stages.model.batches import Batches
from stages.model.networks import to_log_odds
from stages.training.checkpoint import Checkpoint
from stages.training.parameters import TrainParameters


class Record(NamedTuple):
    """Where a training is logged, and where its state is saved under which fingerprint."""

    log: Path | None
    state: Path | None = None
    fingerprint: str | None = None


def fit(
    model: keras.Model,
    images: np.ndarray,
    y: np.ndarray,
    train: np.ndarray,
    val: np.ndarray,
    params: TrainParameters,
    record: Record,
) -> dict[str, float]:
    """Train `model` in place; leave it with the weights of the epoch of lowest validation loss.

    Adam with decoupled weight decay (Loshchilov and Hutter 2019; none on offsets and batch
    normalization) minimizes binary cross-entropy. The learning rate is halved after half the
    patience without a lower validation loss, and training ends after all of it. Every epoch is
    logged. Both losses weight the classes as `class_weight` says. The ROC AUC in training is that
    of augmented crops, predicted by the weights of each step.

    Args:
        images: squares, uint8 (N, size, size, 3).
        y: labels 0 and 1, int (N,).
        train, val: rows, int.
        record: with a fingerprint, the state is saved after each epoch, and a killed run of the
            same fingerprint is resumed; the result has the same bytes.

    Returns:
        `epoch`, the number of the best epoch, from 1, and its validation `loss`, `accuracy` and
        `auc`.

    Raises:
        UserError: the loss is no longer a number.
    """
    optimizer = keras.optimizers.AdamW(params.learning_rate, weight_decay=params.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    accuracy = keras.metrics.BinaryAccuracy(threshold=0.0, name="accuracy")
    weight = balanced_class_weight(y[train]) if params.is_balanced else None
    learner = to_log_odds(model)
    learner.compile(optimizer, cross_entropy, metrics=[accuracy, RocAuc(name="auc")])
    logger = Live(str(record.log), save_dvc_exp=False, dvcyaml=None) if record.log else None
    with logger or nullcontext() as live:
        log = LogEpochs(live, params.learning_rate)
        halving = max(1, params.patience // 2)
        reduction = keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=halving)
        early_stopping = keras.callbacks.EarlyStopping(
            patience=params.patience, restore_best_weights=True
        )
        callbacks, done = [reduction, log, early_stopping], 0
        if record.state and record.fingerprint:
            checkpoint = Checkpoint(
                record.state, record.fingerprint, early_stopping, others=[reduction, log]
            )
            callbacks.append(checkpoint)
            done = params.epochs if checkpoint.has_ended() else checkpoint.first_epoch
        learner.fit(
            Batches(images, train, y, params.batch_size, params.augment, params.seed, done),
            # The loss that chooses the epoch weights the classes like the one that is minimized.
            validation_data=Batches(images, val, y, params.batch_size, weight=weight),
            # Batches shuffles the images. Keras would also shuffle the batches, by a state that a
            # resumed run does not have.
            shuffle=False,
            initial_epoch=done,
            epochs=params.epochs,
            class_weight=weight,
            callbacks=callbacks,
            verbose=1 if sys.stdout.isatty() else 2,
        )
    return log.best


def cross_entropy(y_true: Any, log_odds: Any) -> Any:
    """Return the binary cross-entropy of each image, float32 (n,), from log-odds (n, 1).

    Keras's own version uses log1p, whose gradient is a reciprocal; see stages/model/operations.py.
    """
    return keras.ops.mean(keras.ops.softplus((1 - 2 * y_true) * log_odds), axis=-1)


class RocAuc(keras.metrics.AUC):
    """ROC AUC from log-odds, with 2,001 thresholds that are even in the log-odds, from -50 to 50.

    Keras's own thresholds are even in the probability, and most crops of a confident model lie
    between the last two of them.
    """

    def __init__(self, name: str):
        super().__init__(num_thresholds=2001, name=name)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        super().update_state(y_true, keras.ops.clip(y_pred / 100 + 0.5, 0, 1), sample_weight)


class LogEpochs(keras.callbacks.Callback):
    """Log every epoch with DVCLive; stop if the loss is no longer a number.

    DVCLive's own callback for Keras imports TensorFlow, which may not be installed with another
    backend.
    """

    def __init__(self, live: Live | None, learning_rate: float):
        super().__init__()
        self.live, self.learning_rate = live, learning_rate
        self.best: dict[str, float] = {"epoch": 0, "loss": math.inf}

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        if not (math.isfinite(logs["loss"]) and math.isfinite(logs["val_loss"])):
            raise UserError(
                f"the loss is {logs['loss']} in epoch {epoch + 1}; params.yaml: "
                f"train.learning_rate is {self.learning_rate}, try a lower one"
            )
        values = {name: float(value) for name, value in logs.items()}
        if values["val_loss"] < self.best["loss"]:
            validation = {name[4:]: values[name] for name in values if name.startswith("val_")}
            self.best = {"epoch": epoch + 1, **validation}
        if self.live is None:
            return
        for name, value in values.items():
            if name.startswith("val_"):
                name = f"val/{name[4:]}"
            elif name != "learning_rate":
                name = f"train/{name}"
            self.live.log_metric(name, value)
        self.live.summary["best"] = self.best
        self.live.next_step()


def channel_statistics(
    images: np.ndarray, rows: np.ndarray, chunk: int = 256
) -> tuple[list[float], list[float]]:
    """Return the mean and variance of red, green and blue over some images, in units of 0 to 255.

    The integer sums are exact, and the memory is constant.
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
    """Return scikit-learn's `balanced` weights, N / (2 x images of the class).

    Both classes then have the same total.
    """
    counts = np.bincount(y, minlength=2)
    return {label: len(y) / (2 * int(count)) for label, count in enumerate(counts)}
