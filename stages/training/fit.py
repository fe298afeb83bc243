"""Fitting a network, epoch by epoch."""

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
    """Where a training is logged, and where its state is saved, under a fingerprint of all that it
    depends on.
    """

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
    """Train `model` in place and leave it with the weights of the epoch of lowest validation loss.

    Adam with decoupled weight decay (Loshchilov and Hutter 2019; none on offsets and batch
    normalization) and binary cross-entropy. The learning rate is halved when half the patience has
    passed without a lower validation loss, and training ends when all of it has. Every epoch is
    logged.

    Args:
        images: squares, uint8 (N, size, size, 3).
        y: int (N,) of labels 0 and 1.
        train, val: int arrays of rows.
        record: where it is logged. With a fingerprint of this training the state is saved after
            each epoch, and a state that a killed run of the same fingerprint left is taken up; the
            result has the same bytes.

    Returns:
        `epoch`, the number of the epoch that was kept, from 1, and its validation `loss`,
        `accuracy` and `auc`.

    Raises:
        UserError: the loss is no longer a number.
    """
    optimizer = keras.optimizers.AdamW(params.learning_rate, weight_decay=params.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    accuracy = keras.metrics.BinaryAccuracy(threshold=0.0, name="accuracy")
    learner = to_log_odds(model)
    learner.compile(
        optimizer,
        cross_entropy,
        metrics=[accuracy, keras.metrics.AUC(from_logits=True, name="auc")],
    )
    with (
        Live(str(record.log), save_dvc_exp=False, dvcyaml=None)
        if record.log
        else nullcontext() as live
    ):
        log = LogEpochs(live, params.learning_rate)
        reduction = keras.callbacks.ReduceLROnPlateau(
            factor=0.5, patience=max(1, params.patience // 2)
        )
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
            Batches(
                images,
                train,
                y,
                params.batch_size,
                params.augment,
                params.seed,
                done,
            ),
            validation_data=Batches(images, val, y, params.batch_size),
            # Batches shuffles the images; Keras would shuffle the batches too, by a state that a
            # resumed run does not have.
            shuffle=False,
            initial_epoch=done,
            epochs=params.epochs,
            class_weight=balanced_class_weight(y[train])
            if params.class_weight == "balanced"
            else None,
            callbacks=callbacks,
            verbose=1 if sys.stdout.isatty() else 2,
        )
    return log.best


def cross_entropy(y_true: Any, log_odds: Any) -> Any:
    """Return the binary cross-entropy of each image, float32 (n,), from labels and log-odds (n, 1).

    Keras's own from log-odds uses log1p, whose gradient is a reciprocal; see
    stages/model/operations.py.
    """
    return keras.ops.mean(keras.ops.softplus((1 - 2 * y_true) * log_odds), axis=-1)


class LogEpochs(keras.callbacks.Callback):
    """Log every epoch with DVCLive, and stop where the loss is no longer a number.

    DVCLive's own callback for Keras imports TensorFlow, which training on another backend does not
    have.
    """

    def __init__(self, live: Live | None, learning_rate: float):
        super().__init__()
        self.live, self.learning_rate = live, learning_rate
        self.best: dict[str, float] = {"epoch": 0, "loss": math.inf}

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        if not (math.isfinite(logs["loss"]) and math.isfinite(logs["val_loss"])):
            problem = f"the loss is {logs['loss']} in epoch {epoch + 1}"
            raise UserError(
                f"{problem}; params.yaml: train.learning_rate is {self.learning_rate}, try a lower one"
            )
        if logs["val_loss"] < self.best["loss"]:
            validation = {
                name[4:]: float(value) for name, value in logs.items() if name.startswith("val_")
            }
            self.best = {"epoch": epoch + 1, **validation}
        if self.live is None:
            return
        for name, value in logs.items():
            split, metric = ("val", name[4:]) if name.startswith("val_") else ("train", name)
            self.live.log_metric(
                f"{split}/{metric}" if metric != "learning_rate" else metric, float(value)
            )
        self.live.summary["best"] = self.best
        self.live.next_step()


def channel_statistics(
    images: np.ndarray, rows: np.ndarray, chunk: int = 256
) -> tuple[list[float], list[float]]:
    """Return mean and variance of red, green and blue over some rows of `images`, in units of 0 to
    255.

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
    """Return weights that give both classes the same total: N / (2 x images of the class), as
    scikit-learn's `balanced`.
    """
    counts = np.bincount(y, minlength=2)
    return {label: len(y) / (2 * int(count)) for label, count in enumerate(counts)}
