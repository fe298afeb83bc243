"""Fit a network, epoch by epoch."""

import math
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from dvclive.live import Live
from sklearn.metrics import roc_auc_score

from stages.base.errors import UserError
from stages.model.augment_on_device import augmented
from stages.model.backend import has_accelerator, keras
from stages.model.batches import Batches, outputs
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
    logged. Both losses weight the classes as `class_weight` says. The loss and accuracy in training
    are of augmented crops and of the weights during the epoch, those in validation of plain crops
    and of the weights at its end.

    Args:
        images: squares, uint8 (N, size, size, 3).
        y: labels 0 and 1, int (N,).
        train, val: rows, int.
        record: with a fingerprint, the state is saved after epochs, and a killed run of the
            same fingerprint is resumed; the result has the same bytes.

    Returns:
        `epoch`, the number of the best epoch, from 1, and its validation `loss`, `accuracy` and
        `auc`.

    Raises:
        UserError: the loss is no longer a number.
    """
    optimizer = keras.optimizers.AdamW(params.learning_rate, weight_decay=params.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    weight = balanced_class_weight(y[train]) if params.is_balanced else None
    predictor = learner = to_log_odds(model)
    # A GPU augments by itself; it would wait for the cores.
    if accelerated := has_accelerator():
        learner = augmented(predictor, params.augment)
    accuracy = keras.metrics.BinaryAccuracy(threshold=0.0, name="accuracy")
    learner.compile(optimizer, cross_entropy, metrics=[accuracy])
    # TensorFlow would otherwise trace twice, once to create the variables of the optimizer.
    optimizer.build(learner.trainable_variables)
    logger = Live(str(record.log), save_dvc_exp=False, dvcyaml=None) if record.log else None
    with logger or nullcontext() as live:
        measure = MeasureEpochs(predictor, images, y, train, val, weight, params)
        log = LogEpochs(live)
        halving = max(1, params.patience // 2)
        reduction = keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=halving)
        early_stopping = keras.callbacks.EarlyStopping(
            patience=params.patience, restore_best_weights=True
        )
        callbacks, done = [measure, reduction, log, early_stopping], 0
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
                epoch=done,
                for_accelerator=accelerated,
            ),
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


class MeasureEpochs(keras.callbacks.Callback):
    """Add validation loss, accuracy and ROC AUC, and ROC AUC in training, to each epoch's logs.

    Both ROC AUCs are exact, of unaugmented crops and of the weights at the end of the epoch, so
    that they differ by overfitting only. The one in training is of as many crops as are validated
    on, spread evenly over both classes.

    The validation loss chooses the epoch, so it weights the classes like the loss that is
    minimized.
    """

    def __init__(
        self,
        predictor: keras.Model,
        images: np.ndarray,
        y: np.ndarray,
        train: np.ndarray,
        val: np.ndarray,
        weight: dict[int, float] | None,
        params: TrainParameters,
    ):
        super().__init__()
        self.predictor, self.images, self.y, self.val = predictor, images, y, val
        self.batch_size, self.learning_rate = params.batch_size, params.learning_rate
        self.weight = [weight[label] if weight else 1.0 for label in y[val]]
        by_class = train[np.argsort(y[train], kind="stable")]
        places = np.linspace(0, len(train) - 1, min(len(train), len(val))).round().astype(int)
        self.train = by_class[places]

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        rows = np.concatenate([self.val, self.train])
        log_odds = outputs(self.predictor, self.images, rows, self.batch_size)
        validated, trained = np.split(log_odds, [len(self.val)])
        y_val = self.y[self.val]
        losses = np.asarray(cross_entropy(y_val[:, None].astype(np.float32), validated))
        logs["val_loss"] = float(np.mean(losses * self.weight))
        if not (math.isfinite(logs["loss"]) and math.isfinite(logs["val_loss"])):
            raise UserError(
                f"the loss is {logs['loss']} in epoch {epoch + 1}; params.yaml: "
                f"train.learning_rate is {self.learning_rate}, try a lower one"
            )
        logs["val_accuracy"] = float(np.mean((validated[:, 0] > 0) == y_val))
        logs["val_auc"] = float(roc_auc_score(y_val, validated))
        logs["auc"] = float(roc_auc_score(self.y[self.train], trained))


class LogEpochs(keras.callbacks.Callback):
    """Log every epoch with DVCLive.

    DVCLive's own callback for Keras imports TensorFlow, which may not be installed with another
    backend.
    """

    def __init__(self, live: Live | None):
        super().__init__()
        self.live = live
        self.best: dict[str, float] = {"epoch": 0, "loss": math.inf}

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        values = {name: float(value) for name, value in logs.items()}
        if values["val_loss"] < self.best["loss"]:
            validation = {name[4:]: values[name] for name in values if name.startswith("val_")}
            self.best = {"epoch": epoch + 1, **validation}
        if self.live is None:
            return
        # Epochs count from 1, as on the screen.
        self.live.step = epoch + 1
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
