"""Change training crops on a GPU, inside the compiled training step: what stages/model/augment.py
draws, as tensor operations of Keras on any backend.

OpenCV changes a crop on one core in about a millisecond, which a GPU trains on in a tenth of that.
The arithmetic is that of OpenCV in single precision, except that a compiler may fuse a
multiplication with an addition. So a pixel may differ by a gray level or two, and by more with
strong changes of stain.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.model.augment import Change, turned
from stages.model.backend import keras
from stages.model.parameters import AugmentParameters

UPRIGHT = np.eye(2, 3)


def changes_as_arrays(changes: Sequence[Change], size: int) -> dict[str, np.ndarray]:
    """Return the changes of n squares of `size` pixels per side as arrays for `augmented`."""
    places = np.arange(size * size, dtype=np.int32).reshape(size, size)
    # Where in a square the first pixel of the turned one is, and the steps to its next row and to
    # its next column.
    walks = []
    for orientation in range(8):
        (first, right), (down, _) = turned(places, orientation)[:2, :2]
        walks.append((first, down - first, right - first))
    matrices = [UPRIGHT if change.matrix is None else change.matrix for change in changes]
    arrays = {
        "walk": np.array([walks[change.orientation] for change in changes], dtype=np.int32),
        "matrix": np.array(matrices, dtype=np.float32),
    }
    for name in ("stains", "light"):
        tables = [getattr(change, name) for change in changes]
        if tables[0] is not None:
            arrays[name] = np.stack(tables)
    return arrays


def augmented(model: keras.Model, params: AugmentParameters) -> keras.Model:
    """Return `model` after a change of its input; the weights are shared.

    Args:
        model: from pixels, uint8 (batch, size, size, 3).

    Returns:
        a model of `pixels` and the arrays of `changes_as_arrays`.
    """
    size = model.input_shape[1]
    shapes: dict[str, tuple[tuple[int, ...], str]] = {
        "pixels": ((size, size, 3), "uint8"),
        "walk": ((3,), "int32"),
        "matrix": ((2, 3), "float32"),
    }
    if params.stain:
        shapes["stains"] = (3, 256, 3), "float32"
    if params.brightness:
        shapes["light"] = (256,), "uint8"
    inputs = {
        name: keras.Input(shape, dtype=kind, name=name) for name, (shape, kind) in shapes.items()
    }
    return keras.Model(inputs, model(Augmentation(name="augmentation")(inputs)), name=model.name)


class Augmentation(keras.layers.Layer):
    """Apply changes as `stages.model.augment.apply` does, to uint8 (batch, size, size, 3)."""

    def call(self, inputs: dict[str, Any]) -> Any:
        ops = keras.ops
        moved = self.moved(inputs["pixels"], inputs["walk"], inputs["matrix"])
        shape = ops.shape(moved)
        changed = values = ops.cast(moved, "int32")
        if "stains" in inputs:
            red, green, blue = (
                ops.take_along_axis(
                    inputs["stains"][:, channel], values[..., channel, None], axis=1
                )
                for channel in range(3)
            )
            changed = ops.cast(ops.minimum(ops.round(red * green * blue), 255), "int32")
        if "light" in inputs:
            flat = ops.reshape(changed, (shape[0], -1))
            light = ops.take_along_axis(ops.cast(inputs["light"], "int32"), flat, axis=1)
            changed = ops.reshape(light, shape)
        black = ops.all(values == 0, axis=-1, keepdims=True)
        white = ops.all(values == 255, axis=-1, keepdims=True)
        changed = ops.where(ops.logical_or(black, white), values, changed)
        size = inputs["pixels"].shape[1]
        return ops.cast(ops.reshape(changed, (-1, size, size, 3)), "uint8")

    def moved(self, pixels: Any, walk: Any, matrix: Any) -> Any:
        """Return turned and moved squares, float32 (batch, size x size, 3) of whole numbers."""
        ops, size = keras.ops, pixels.shape[1]
        flat = ops.reshape(pixels, (-1, size * size, 3))
        rows, columns = np.divmod(np.arange(size * size), size)
        # (batch, size x size): the column and the row that each pixel of the result comes from.
        x, y = (
            matrix[:, axis, :1] * columns.astype(np.float32)
            + (matrix[:, axis, 1:2] * rows.astype(np.float32) + matrix[:, axis, 2:])
            for axis in range(2)
        )
        left, top = ops.floor(x), ops.floor(y)
        right, down = (x - left)[..., None], (y - top)[..., None]

        def at(row: Any, column: Any) -> Any:
            place = walk[:, :1] + walk[:, 1:2] * inside(row) + walk[:, 2:] * inside(column)
            return ops.cast(ops.take_along_axis(flat, place[..., None], axis=1), "float32")

        def inside(place: Any) -> Any:
            # Mirrored at the border as by OpenCV's BORDER_REFLECT_101: 2 1 0 1 2 ... 2 1 0 1 2.
            most = size - 1
            return most - ops.abs(most - ops.cast(place, "int32") % (2 * most))

        upper = at(top, left) + right * (at(top, left + 1) - at(top, left))
        lower = at(top + 1, left) + right * (at(top + 1, left + 1) - at(top + 1, left))
        return ops.round(upper + down * (lower - upper))
