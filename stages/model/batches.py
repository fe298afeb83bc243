"""Batches of crops for Keras, read from the memory-mapped squares and augmented in training."""

import math
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import joblib
import numpy as np

from stages.base.memory import keep_freed_memory
from stages.model.augment import NUMBERS, apply, as_drawn
from stages.model.augment_on_device import changes_as_arrays
from stages.model.backend import has_accelerator, keras
from stages.model.draws import draws
from stages.model.parameters import AugmentParameters

# More threads compete for Python's lock: at 224 pixels 1 augmented 1,249 crops/s, 4 of them 3,583,
# and 16 of them 2,670.
MOST_THREADS = 4
# For an accelerator: the batches that are prefetched, and the pixels of a batch that is only
# predicted.
PREFETCHED, PIXELS = 8, 2**23


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
        for_accelerator: prefetch batches for a GPU, which makes the changes itself: instead of
            pixels there is a dict of `pixels`, unchanged, and the arrays of `changes_as_arrays`.
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
        for_accelerator: bool = False,
    ):
        threads = min(joblib.cpu_count() + 1, MOST_THREADS)
        # With one worker, tf.data's own prefetching competes with training for the cores: epochs
        # took 1.9 x as long. Elsewhere Keras's workers would bring left-over batches of the epoch
        # before, and they cost a tenth of a second per epoch, in which a GPU trains on a thousand
        # crops.
        by_keras = keras.backend.backend() == "tensorflow" and not for_accelerator
        super().__init__(workers=threads if augment and by_keras else 1)
        self.images, self.rows, self.y = images, rows, y
        self.batch_size, self.augment, self.seed, self.epoch = batch_size, augment, seed, epoch
        self.for_accelerator, self.begun = for_accelerator, dict[int, Future]()
        prefetches = for_accelerator or (augment and not by_keras)
        self.pool = ThreadPoolExecutor(threads) if prefetches else None
        self._order()

    def __len__(self) -> int:
        return math.ceil(len(self.ordered) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[Any, np.ndarray]:
        if self.pool is None:
            return self._make(index)
        self._begin(index)
        return self.begun.pop(index).result()

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._order()
        if self.pool and self.augment:
            self._begin(0)  # While the epoch is measured.

    def _order(self) -> None:
        self.ordered = self.rows
        if self.augment:
            random = np.random.default_rng([self.seed, self.epoch])
            self.ordered = random.permutation(self.rows)
            self.drawn = draws(self.seed, self.epoch, self.ordered, NUMBERS)
        self.begun.clear()

    def _begin(self, index: int) -> None:
        """Begin to make a batch and the next ones."""
        assert self.pool is not None
        for later in range(index, min(index + PREFETCHED, len(self))):
            if later not in self.begun:
                self.begun[later] = self.pool.submit(self._make, later)

    def _make(self, index: int) -> tuple[Any, np.ndarray]:
        keep_freed_memory()
        place = slice(index * self.batch_size, (index + 1) * self.batch_size)
        rows = self.ordered[place]
        pixels, labels = self.images[rows], self.y[rows].astype(np.float32)[:, None]
        if not self.augment:
            return pixels, labels
        size = self.images.shape[1]
        drawn = zip(*(array[place] for array in self.drawn))
        changes = [as_drawn(self.augment, size, *one) for one in drawn]
        if self.for_accelerator:
            return {"pixels": pixels} | changes_as_arrays(changes, size), labels
        for number, change in enumerate(changes):
            pixels[number] = apply(change, pixels[number])
        return pixels, labels


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
    """Return all outputs of a model for some rows of the squares, float32 (n, D).

    Args:
        batch_size: on a CPU; on an accelerator the batches are larger.
    """
    accelerated = has_accelerator()
    if accelerated:
        batch_size = max(batch_size, PIXELS // images.shape[1] ** 2)
    labels = np.zeros(len(images), dtype=np.int64)
    batches = Batches(images, rows, labels, batch_size, for_accelerator=accelerated)
    return model.predict(batches, verbose=0)
