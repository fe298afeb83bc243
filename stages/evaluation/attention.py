"""Where a model looks: Grad-CAM of convolutional maps or tokens, or the saliency of pixels."""

from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from stages.model.backend import gradient, keras
from stages.model.steps import TOKENS

# Opacity of the hottest place of an overlay.
MOST_HEAT = 0.55
# Pixels per side of a map as it is shown: networks see no finer, and gradients of pixels are noise.
SHOWN = 28


class Attention:
    """How much each place of a square speaks for sclerosis.

    Grad-CAM (Selvaraju et al., ICCV 2017) weights the maps that the classifier averages or flattens
    by the mean gradient of the log-odds, sums them and clips at zero. Several feature layers are
    added; for a linear head that is the exact share of each place in the log-odds. An encoder uses
    the patch tokens before its last frozen block, because those after it may carry no information.
    A model without convolutions uses the smoothed absolute gradient of the pixels (Simonyan et al.,
    ICLR workshop 2014). An ensemble has the mean of its members' maps; test-time augmentation uses
    the first orientation. A nearest-neighbors head has no gradient, so its maps are zero.
    """

    def __init__(self, model: keras.Model):
        self.parts = [_Part(part) for part in _parts(model)]

    def __call__(self, squares: np.ndarray) -> np.ndarray:
        """Return the maps of squares, uint8 (n, size, size, 3): float32 (n, size, size), each with
        a maximum of 1 (or all zero).
        """
        heat = np.mean([part(squares) for part in self.parts], axis=0)
        highest = heat.max(axis=(1, 2), keepdims=True)
        return (heat / np.where(highest > 0, highest, 1)).astype(np.float32)


def _parts(model: keras.Model) -> list[keras.Model]:
    """Return the models that `model` averages or has side by side, or `model` itself."""
    parts = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.Model)
        and layer.input_shape == model.input_shape
        # A backbone inside may have several outputs.
        and [len(one.shape) for one in layer.outputs] == [2]
    ]
    if not parts or sum(part.output_shape[-1] for part in parts) != model.output_shape[-1]:
        return [model]
    return [deeper for part in parts for deeper in _parts(part)]


class _Part:
    """A model cut at its last maps, once, because each cut is traced anew."""

    def __init__(self, model: keras.Model):
        self.model, maps = model, _last_maps(model)
        self.margins = _margins(model, maps)
        mean = keras.ops.mean(model.outputs[0], axis=-1, keepdims=True)
        self.before, self.after = keras.Model(model.inputs, maps), keras.Model(maps, mean)

    def total_probability(self, *arrays: Any) -> Any:
        return keras.ops.sum(self.after(list(arrays) if len(arrays) > 1 else arrays[0]))

    def __call__(self, squares: np.ndarray) -> np.ndarray:
        """Return the maps, float64 (n, size, size), not negative."""
        found = self.before.predict_on_batch(squares)
        found = found if isinstance(found, list) else [found]
        # The derivative of the log-odds with respect to the probability is 1 / (p (1 - p)).
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
            # Multiplied by the number of places, so that maps of all sizes count alike.
            cam = (
                (values * slope.mean(axis=(1, 2), keepdims=True)).sum(-1)
                * values.shape[1]
                * values.shape[2]
            )
            cam = np.pad(cam, ((0, 0), (margin, margin), (margin, margin)))
            total += np.stack([_enlarged(one, size) for one in cam])
        return np.maximum(total, 0)


def _last_maps(model: keras.Model) -> list:
    """Return the last tensors with height and width, or the tokens of an encoder."""
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
    """Return patch tokens, float32 (n, T, D), as maps (n, side, side, D); maps unchanged."""
    if not (tokens := _tokens(model)):
        return maps
    side = int(tokens.name.removeprefix(TOKENS))
    return [some[:, -side * side :].reshape(len(some), side, side, -1) for some in maps]


def _margins(model: keras.Model, maps: list) -> list[int]:
    """Return how many places are cropped from each side of the maps before averaging."""
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


def coarse(heat: np.ndarray) -> np.ndarray:
    """Return a map, float32 (size, size), as it is shown, float32 (SHOWN, SHOWN)."""
    small = Image.fromarray(heat).resize((SHOWN, SHOWN), Image.Resampling.BOX)
    return np.asarray(small)


def overlay(square: np.ndarray, heat: np.ndarray) -> Image.Image:
    """Return a square, uint8 (size, size, 3), in gray under its map, float32 (size, size)."""
    return in_red(square, np.clip(_enlarged(coarse(heat), len(square)), 0, 1))


def in_red(square: np.ndarray, heat: np.ndarray) -> Image.Image:
    """Return an image, uint8 (height, width, 3), in gray under a map, float (height, width)."""
    gray = square.mean(axis=-1, keepdims=True).repeat(3, axis=-1)
    warm = np.stack([np.ones_like(heat), 1 - heat, np.zeros_like(heat)], axis=-1) * 255
    share = MOST_HEAT * np.sqrt(heat)[..., None]
    return Image.fromarray(np.rint(gray * (1 - share) + warm * share).astype(np.uint8))
