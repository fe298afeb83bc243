"""Pretrained backbones: efficientnet_lite0, which comes as a package, and all of keras.applications
by its own names.
"""

import re
import sys
from collections.abc import Sequence

import numpy as np

from stages.base.errors import UserError, refuse
from stages.model.backend import keras, keras_home
from stages.model.efficientnet_lite0 import efficientnet_lite0
from stages.model.encoder import build_encoder
from stages.model.steps import PACKAGED, WEIGHTS, ModelParameters

# Of the packaged backbone, the outputs of the stages at a 16th and a 32nd of the size: on glomeruli
# they told more, and held better at another hospital, than the last layer (docs/backbones.md).
INNER_LAYERS = ("block10_add", "block14_add", "block15_project_batch_norm")
# What layers of one block have in common, in the names that keras.applications gives: block5_,
# conv5_block3_, stage_3_block_2_, expanded_conv_10_, block6h_, block_16_.
BLOCK = re.compile(r"(conv\d+_|stage_\d+_)?(expanded_conv_|block_?)\d+[a-z]?(?![a-z0-9])")


def build_backbone(
    name: str, weights: str, size: int, feature_layers: Sequence[str] = (), center: float = 1.0
) -> keras.Model:
    """Return a backbone from pixels to features: uint8 (batch, size, size, 3) to float32 (batch,
    D), averaged over the picture.

    Its own preprocessing is a part of it. The features of several layers stand one after the other.

    Args:
        weights: `imagenet`; `none`, random ones; or the name of a file in data/weights/ that the
            backbone's `save_weights` wrote (.weights.h5).
        feature_layers: the layers of the backbone whose outputs are the features. Inner layers tell
            structure and texture, the last one the kinds of things on photographs. None: the last;
            of the packaged backbone, `INNER_LAYERS`.

        center: the share of the height and of the width, about the center, that is averaged. There
            the glomerulus is, and how loosely it was cropped matters less.

    Raises:
        UserError: the weights are not there and cannot be had, do not fit, the backbone does not
            take this size, or it has no such layer.
    """
    # Keras numbers the layers that keras.applications does not name, and goes on counting from
    # model to model.
    keras.utils.clear_session(free_memory=False)
    inputs = keras.Input((size, size, 3), dtype="uint8", name="pixels")
    # A scale of one: to floating point, as a layer with a name.
    x = keras.layers.Rescaling(1.0, name="colors")(inputs)
    given = "imagenet" if weights == "imagenet" else None
    try:
        if name == PACKAGED:
            network = efficientnet_lite0(size, given)
        else:
            build = getattr(keras.applications, name)
            x = sys.modules[build.__module__].preprocess_input(x)
            network = build(include_top=False, weights=given, input_shape=(size, size, 3))
        if weights not in ("imagenet", "none"):
            network.load_weights(WEIGHTS / weights)
    except UserError:
        raise
    except Exception as error:  # Keras raises many kinds: no network, a file that does not fit, a size that is too small.
        raise UserError(
            f"params.yaml: model.step {name} with model.weights {weights}: {_explained(error)}"
        ) from None
    network = _up_to(network, feature_layers or (INNER_LAYERS if name == PACKAGED else ()), name)
    maps = network(x)
    averages = []
    for number, one in enumerate(maps if isinstance(maps, list) else [maps], start=1):
        if margin := round((1 - center) / 2 * one.shape[1]):
            one = keras.layers.Cropping2D(margin, name=f"center{number}")(one)
        averages.append(keras.layers.GlobalAveragePooling2D(name=f"average{number}")(one))
    outputs = (
        keras.layers.Concatenate(name="averages")(averages) if len(averages) > 1 else averages[0]
    )
    return keras.Model(inputs, outputs, name="features")


def backbone_parts(params: ModelParameters, size: int) -> tuple[keras.Model, keras.Model | None]:
    """Return a backbone as `build_backbone` does, trainable as far as `model.trainable` says.

    Of an encoder: its frozen part, and the part that is trained, if any. See `build_backbone` and
    `build_encoder` for what is raised.
    """
    if params.is_encoder:
        frozen, trained = build_encoder(
            params.weights_file, size, params.tokens, params.precision, params.trainable
        )
        frozen.trainable = False
        return frozen, trained
    backbone = build_backbone(
        params.step, params.weights, size, params.feature_layers, params.center_fraction
    )
    set_trainable(backbone, params.trainable)
    return backbone, None


def _up_to(network: keras.Model, layers: Sequence[str], name: str) -> keras.Model:
    if not layers:
        return network
    known = {
        layer.name: layer.output
        for layer in network.layers
        if len(getattr(layer.output, "shape", ())) == 4
    }
    last = ", ".join(list(known)[-8:])
    refuse(
        [
            f"params.yaml: model.feature_layers holds {layer!r}, which {name} does not have; its last are {last}"
            for layer in layers
            if layer not in known
        ]
    )
    return keras.Model(network.inputs, [known[layer] for layer in layers], name=network.name)


def set_trainable(backbone: keras.Model, trainable: str | int) -> None:
    """Free or freeze a backbone's weights, but for batch normalization, which keeps its statistics
    in any case.

    Those of a few batches of one laboratory's crops would be worse than those of ImageNet (Keras's
    guide to fine-tuning).

    Args:
        trainable: `frozen`, `all`, or the number of blocks to train, from the last; layers behind
            the last block go with it.

    Raises:
        UserError: the backbone has fewer blocks, or its layers' names tell of none.
    """
    network = next(layer for layer in backbone.layers if isinstance(layer, keras.Model))
    backbone.trainable = trainable != "frozen"
    layers = network.layers
    if isinstance(trainable, int):
        blocks = [found[0] if (found := BLOCK.search(layer.name)) else None for layer in layers]
        names = list(dict.fromkeys(filter(None, blocks)))
        if trainable > len(names):
            have = f"{len(names)} blocks" if names else "no layers that are named after blocks"
            raise UserError(
                f"params.yaml: model.trainable is {trainable}, but {network.name} has {have}; try frozen or all"
            )
        first = blocks.index(names[-trainable])
        for layer in layers[:first]:
            layer.trainable = False
    for layer in layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def _explained(error: Exception) -> str:
    text = " ".join(str(error).split())
    if found := re.search(r"URL fetch failure on (\S+?):? ", text):
        file = found[1].rsplit("/", 1)[1]
        return f"the weights cannot be downloaded; bring the file {file} (from {found[1]}) to {keras_home() / 'models'}/"
    return text[:300]


def orientations(pixels: np.ndarray) -> np.ndarray:
    """Return the eight orientations of some squares: uint8 (n, size, size, 3) to (8, n, size, size,
    3), the first as they are.
    """
    turned = [np.rot90(pixels, turns, axes=(1, 2)) for turns in range(4)]
    return np.stack([*turned, *(square[:, :, ::-1] for square in turned)])


def extract_features(backbone: keras.Model, squares: np.ndarray) -> np.ndarray:
    """Return the features of some squares in their eight orientations: uint8 (n, size, size, 3) to
    float32 (n, 8, D).
    """
    views = orientations(squares)
    features = backbone.predict_on_batch(views.reshape(-1, *views.shape[2:]))
    return np.asarray(features).reshape(8, len(squares), -1).swapaxes(0, 1)
