"""Batches of crops for Keras, read from the memory-mapped squares and augmented in training."""

import math

import joblib
import numpy as np

from stages.base.memory import keep_freed_memory
from stages.model.augment import augment
from stages.model.backend import keras
from stages.model.parameters import AugmentParameters


class Batches(keras.utils.PyDataset):
    """Batches (pixels uint8 (n, size, size, 3), labels float32 (n, 1)) of some rows of the squares.

    Without `augment` the rows come unchanged and in their order. With it they are shuffled in each
    epoch, and each image is changed by random numbers that depend only on (seed, epoch, row). So
    the result does not depend on the number of workers, and a training that is resumed at `epoch`
    sees the same batches.

    Args:
        images: squares, uint8 (N, size, size, 3).
        rows: int (n,), of `images` and of `y`.
        y: labels, int (N,).
    """

    def __init__(
        self,
        images: np.ndarray,
        rows: np.ndarray,
        y: np.ndarray,
        batch_size: int,
        augment: AugmentParameters | None = None,
        seed: int = 0,
        epoch: int = 0,
    ):
        # With one worker, tf.data's own prefetching competes with training for the cores: epochs
        # took 1.9 x as long.
        super().__init__(workers=joblib.cpu_count() + 1 if augment else 1)
        self.images, self.rows, self.y = images, rows, y
        self.batch_size, self.augment, self.seed, self.epoch = batch_size, augment, seed, epoch
        self._order()

    def __len__(self) -> int:
        return math.ceil(len(self.ordered) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        keep_freed_memory()
        rows = self.ordered[index * self.batch_size : (index + 1) * self.batch_size]
        pixels = self.images[rows]
        if self.augment:
            for place, row in enumerate(rows):
                random = np.random.default_rng([self.seed, self.epoch, int(row)])
                pixels[place] = augment(pixels[place], self.augment, random)
        return pixels, self.y[rows].astype(np.float32)[:, None]

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._order()

    def _order(self) -> None:
        random = np.random.default_rng([self.seed, self.epoch])
        self.ordered = random.permutation(self.rows) if self.augment else self.rows


def predict(
    model: keras.Model, images: np.ndarray, rows: np.ndarray, batch_size: int = 64
) -> np.ndarray:
    """Return the predicted probability of global sclerosis for some rows, float32 (n,).

    For an ensemble it is the mean over the members, without calibration.
    """
    return outputs(model, images, rows, batch_size).mean(axis=1)


def outputs(
    model: keras.Model, images: np.ndarray, rows: np.ndarray, batch_size: int = 64
) -> np.ndarray:
    """Return all outputs of a model for some rows of the squares, float32 (n, D)."""
    batches = Batches(images, rows, np.zeros(len(images), dtype=np.int64), batch_size)
    return model.predict(batches, verbose=0)
