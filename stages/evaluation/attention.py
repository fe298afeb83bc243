"""Where a model looks: Grad-CAM of its convolutional maps, or the saliency of the pixels where it
has none.
"""

from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from stages.model.backend import gradient, keras
from stages.model.steps import TOKENS

# The share of the hottest place of an overlay that is heat, not crop.
MOST_HEAT = 0.55


class Attention:
    """How much each place of a square speaks for sclerosis.

    Grad-CAM (Selvaraju et al., ICCV 2017): the maps that the classifier averages or flattens,
    weighted by the gradient of the log-odds with respect to them averaged over the map, summed and
    cut off at zero. Of a backbone with several feature layers the sum of theirs, which for a linear
    head is the exact share of each place in the log-odds. Of an encoder the tokens of the patches
    before its last frozen block, as those behind the last one may tell nothing. Of a model without
    convolutions the absolute gradient of the pixels (Simonyan et al., ICLR workshop 2014),
    smoothed. A model that is a mean of others has the mean of their maps; of orientations, the
    first is looked at. A head that asks the nearest crops has no slope: its maps are zero.
    """

    def __init__(self, model: keras.Model):
        self.parts = [_Part(part) for part in _parts(model)]

    def __call__(self, squares: np.ndarray) -> np.ndarray:
        """Return the maps of some squares, uint8 (n, size, size, 3): float32 (n, size, size), 0 to
        1 within each square.
        """
        heat = np.mean([part(squares) for part in self.parts], axis=0)
        highest = heat.max(axis=(1, 2), keepdims=True)
        return (heat / np.where(highest > 0, highest, 1)).astype(np.float32)


def _parts(model: keras.Model) -> list[keras.Model]:
    """Return the models from pixels that `model` is the mean of, or `model` itself."""
    parts = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.Model) and layer.output_shape == model.output_shape
    ]
    if not parts or parts[0].input_shape != model.input_shape:
        return [model]
    return [deeper for part in parts for deeper in _parts(part)]


class _Part:
    """One model from pixels, cut where its last maps are; cut once, as each cut is traced anew."""

    def __init__(self, model: keras.Model):
        self.model, maps = model, _last_maps(model)
        self.margins = _margins(model, maps)
        self.before, self.after = (
            keras.Model(model.inputs, maps),
            keras.Model(maps, model.outputs[0]),
        )

    def total_probability(self, *arrays: Any) -> Any:
        return keras.ops.sum(self.after(list(arrays) if len(arrays) > 1 else arrays[0]))

    def __call__(self, squares: np.ndarray) -> np.ndarray:
        """Return how hot each place is, float64 (n, size, size), zero or more."""
        found = self.before.predict_on_batch(squares)
        found = found if isinstance(found, list) else [found]
        # The log-odds rise by 1 / (p (1 - p)) of what the probability rises by.
        probability = np.clip(
            self.after.predict_on_batch(found if len(found) > 1 else found[0]), 1e-7, 1 - 1e-7
        )
        steepness = (1 / (probability * (1 - probability)))[:, :, None, None]
        slopes = [
            slope * steepness
            for slope in _on_a_grid(self.model, gradient(self.total_probability, found))
        ]
        found = _on_a_grid(self.model, found)
        size = squares.shape[1]
        if found[0].shape[1] == size and found[0].shape[-1] == 3:
            blurred = [gaussian_filter(np.abs(one).max(-1), size / 64) for one in slopes[0]]
            return np.stack(blurred)
        total = np.zeros(squares.shape[:3])
        for values, slope, margin in zip(found, slopes, self.margins):
            # A place of a small map stands for many pixels: times the places, so that maps of all
            # sizes count alike.
            cam = (
                (values * slope.mean(axis=(1, 2), keepdims=True)).sum(-1)
                * values.shape[1]
                * values.shape[2]
            )
            cam = np.pad(cam, ((0, 0), (margin, margin), (margin, margin)))
            total += np.stack([_enlarged(one, size) for one in cam])
        return np.maximum(total, 0)


def _last_maps(model: keras.Model) -> list:
    """Return the tensors with height and width that feed the first layers without; of an encoder
    the tokens, if it has any.
    """
    if tokens := _tokens(model):
        return [tokens.output]
    found: list[Any] = []
    for layer in model.layers:
        outputs, inputs = (
            list(some) if isinstance(some, list | tuple) else [some]
            for some in (layer.output, layer.input)
        )
        if isinstance(layer, keras.layers.InputLayer) or len(outputs[0].shape) == 4:
            continue
        found += [
            tensor
            for tensor in inputs
            if len(tensor.shape) == 4 and not any(tensor is one for one in found)
        ]
    return found


def _tokens(model: keras.Model) -> keras.layers.Layer | None:
    return next((layer for layer in model.layers if layer.name.startswith(TOKENS)), None)


def _on_a_grid(model: keras.Model, maps: list[np.ndarray]) -> list[np.ndarray]:
    """Return tokens of patches where the patches are: float32 (n, T, D) to (n, side, side, D); maps
    as they are.
    """
    if not (tokens := _tokens(model)):
        return maps
    side = int(tokens.name.removeprefix(TOKENS))
    return [some[:, -side * side :].reshape(len(some), side, side, -1) for some in maps]


def _margins(model: keras.Model, maps: list) -> list[int]:
    """Return how many places were cut off each side of the maps before they were averaged."""
    cut = [
        (layer.output, layer.cropping[0][0])
        for layer in model.layers
        if isinstance(layer, keras.layers.Cropping2D)
    ]
    return [next((margin for tensor, margin in cut if tensor is one), 0) for one in maps]


def _enlarged(cam: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(
        Image.fromarray(cam.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC)
    )


def overlay(square: np.ndarray, heat: np.ndarray) -> Image.Image:
    """Return a square, uint8 (size, size, 3), under its heat, float (size, size) of 0 to 1: gray
    where cold, red where hot.
    """
    gray = square.mean(axis=-1, keepdims=True).repeat(3, axis=-1)
    warm = np.stack([np.ones_like(heat), 1 - heat, np.zeros_like(heat)], axis=-1) * 255
    share = MOST_HEAT * np.sqrt(heat)[..., None]
    return Image.fromarray(np.rint(gray * (1 - share) + warm * share).astype(np.uint8))
