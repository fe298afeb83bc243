"""Pretrained backbones: efficientnet_lite0, which comes as a package, and all of keras.applications by its own names."""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.backend import keras
from stages.efficientnet_lite0 import efficientnet_lite0
from stages.errors import UserError
from stages.steps import PACKAGED


def backbone_names() -> list[str]:
    """Return the names of the backbones that there are: what this version of Keras has, and the packaged one."""
    return [PACKAGED, *sorted(name for name in dir(keras.applications) if name[0].isupper())]


def build_backbone(name: str, weights: str, size: int) -> keras.Model:
    """Return a backbone from pixels to features: uint8 (batch, size, size, 3) to float32 (batch, D), averaged over the picture.

    Its own preprocessing is a part of it.

    Args:
        weights: `imagenet`; `none`, random ones; or a file that the backbone's `save_weights` wrote (.weights.h5).

    Raises:
        UserError: the weights are not there and cannot be had, do not fit, or the backbone does not take this size.
    """
    inputs = keras.Input((size, size, 3), dtype="uint8", name="pixels")
    # A scale of one: to floating point, as a layer with a name.
    x = keras.layers.Rescaling(1.0, name="colours")(inputs)
    given = "imagenet" if weights == "imagenet" else None
    try:
        if name == PACKAGED:
            network = efficientnet_lite0(size, given)
        else:
            build = getattr(keras.applications, name)
            x = sys.modules[build.__module__].preprocess_input(x)
            network = build(include_top=False, weights=given, input_shape=(size, size, 3))
        if weights not in ("imagenet", "none"):
            network.load_weights(weights)
    except UserError:
        raise
    except Exception as error:  # Keras raises many kinds: no network, a file that does not fit, a size that is too small.
        raise UserError(f"params.yaml: model.step {name} with model.weights {weights}: {_explained(error)}") from None
    outputs = keras.layers.GlobalAveragePooling2D(name="average")(network(x))
    return keras.Model(inputs, outputs, name="features")


def set_trainable(backbone: keras.Model, trainable: bool) -> None:
    """Free or freeze a backbone's weights, but for batch normalisation, which keeps its statistics in any case.

    Those of a few batches of one laboratory's crops would be worse than those of ImageNet (Keras's guide to fine-tuning).
    """
    backbone.trainable = trainable
    waiting = list(backbone.layers)
    while waiting:
        layer = waiting.pop()
        waiting += getattr(layer, "layers", [])
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def _explained(error: Exception) -> str:
    text = " ".join(str(error).split())
    if found := re.search(r"URL fetch failure on (\S+?):? ", text):
        file = found[1].rsplit("/", 1)[1]
        folder = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models"
        return f"the weights cannot be downloaded; bring the file {file} (from {found[1]}) to {folder}/"
    return text[:300]


def orientations(pixels: np.ndarray) -> np.ndarray:
    """Return the eight orientations of some squares: uint8 (n, size, size, 3) to (8, n, size, size, 3), the first as they are."""
    turned = [np.rot90(pixels, turns, axes=(1, 2)) for turns in range(4)]
    return np.stack([*turned, *(square[:, :, ::-1] for square in turned)])


def extract_features(backbone: keras.Model, images: np.ndarray, rows: Sequence[int]) -> np.ndarray:
    """Return the features of all orientations of some rows of `images`: float32 (8, n, D)."""
    views = orientations(images[rows])
    features = backbone.predict_on_batch(views.reshape(-1, *views.shape[2:]))
    return np.asarray(features).reshape(8, len(rows), -1)
