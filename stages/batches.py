"""Batches of crops for Keras, read from the memory-mapped squares and, in training, augmented."""

import math

import joblib
import numpy as np
from PIL import Image
from pydantic import Field

from stages.backend import keras
from stages.params import Parameters


class AugmentParameters(Parameters):
    """`train.augment` in params.yaml. Zero or false switches a part off; a glomerulus has no up, so turns are free."""

    orientations: bool
    rotation: float = Field(ge=0, le=180)
    shift: float = Field(ge=0, le=0.5)
    brightness: float = Field(ge=0, lt=1)


class Batches(keras.utils.PyDataset):
    """Batches (pixels uint8 (n, size, size, 3), labels float32 (n, 1)) of some rows of the squares.

    Of a frozen backbone's features (float32 (N, 8, D)) they are (features (n, D), labels), and the augmentation is the choice
    of one of the eight orientations.

    Without `augment` the rows come as they are and in their order. With it they are shuffled anew for each epoch, and
    each image is changed by random numbers drawn from (seed, epoch, row) alone: the result does not depend on the number
    of workers, and training that begins at a later `epoch` sees what it would have seen.
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
        """Take `rows` (int (n,)) of `images` (squares or features) and of `y` (int (N,))."""
        # With one worker tf.data's own prefetching competes with training for the cores: epochs took 1.9 x as long.
        super().__init__(workers=joblib.cpu_count() + 1 if augment else 1)
        self.images, self.rows, self.y = images, rows, y
        self.batch_size, self.augment, self.seed, self.epoch = batch_size, augment, seed, epoch
        self._order()

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.ordered[index * self.batch_size : (index + 1) * self.batch_size]
        pixels = self.images[rows]
        if pixels.ndim == 3:
            chosen = [self._random(row).integers(8) for row in rows] if self.augment and self.augment.orientations else 0
            pixels = pixels[np.arange(len(rows)), chosen]
        elif self.augment:
            for place, row in enumerate(rows):
                pixels[place] = augment(pixels[place], self.augment, self._random(row))
        return pixels, self.y[rows].astype(np.float32)[:, None]

    def _random(self, row: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.epoch, int(row)])

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._order()

    def _order(self) -> None:
        self.ordered = self.rows
        if self.augment:
            self.ordered = np.random.default_rng([self.seed, self.epoch]).permutation(self.rows)


def augment(pixels: np.ndarray, params: AugmentParameters, random: np.random.Generator) -> np.ndarray:
    """Return a changed copy of a square, uint8 (size, size, 3).

    One of its eight orientations (flips and quarter turns); turned freely by up to `rotation` degrees either way and
    shifted by up to `shift` of the side in each direction (bilinear; what comes into view beyond the border is the square
    mirrored there, so that no artificial corner appears); brightness multiplied by 1 - `brightness` to 1 + `brightness`.
    """
    # All numbers are drawn whether used or not: switching one change off leaves the others as they were.
    orientation = int(random.integers(8))
    angle, right, down, light = random.uniform(-1, 1, 4)
    if params.orientations:
        pixels = np.rot90(pixels, orientation % 4)
        pixels = pixels[:, ::-1] if orientation >= 4 else pixels
    if params.rotation or params.shift:
        side = pixels.shape[0]
        pixels = _move(pixels, math.radians(angle * params.rotation), right * params.shift * side, down * params.shift * side)
    if params.brightness:
        table = np.clip(np.rint(np.arange(256) * (1 + light * params.brightness)), 0, 255).astype(np.uint8)
        pixels = table[pixels]
    return pixels


def _move(pixels: np.ndarray, angle: float, right: float, down: float) -> np.ndarray:
    side = pixels.shape[0]
    cosine, sine = math.cos(angle), math.sin(angle)
    reach = side / 2 * (abs(cosine) + abs(sine) - 1) + max(abs(right), abs(down)) * (abs(cosine) + abs(sine))
    margin = min(math.ceil(reach) + 1, side - 1)
    wide = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    # Pillow asks, for each pixel of the result, where it comes from: the turn about the centre, backwards.
    centre = side / 2
    x = margin + centre - cosine * (centre + right) - sine * (centre + down)
    y = margin + centre + sine * (centre + right) - cosine * (centre + down)
    moved = Image.fromarray(wide).transform(
        (side, side), Image.Transform.AFFINE, (cosine, sine, x, -sine, cosine, y), Image.Resampling.BILINEAR
    )
    return np.asarray(moved)


def predict(model: keras.Model, images: np.ndarray, rows: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """Return the model's probability of global sclerosis for some rows of the squares, float32 (n,)."""
    batches = Batches(images, rows, np.zeros(len(images), dtype=np.int64), batch_size)
    return model.predict(batches, verbose=0)[:, 0]
