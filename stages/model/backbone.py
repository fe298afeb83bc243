"""Pretrained backbones: efficientnet_lite0 from a package, and those of keras.applications."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import assert_never

from stages.base.errors import UserError, refuse
from stages.model.backend import fresh_names, keras, keras_home
from stages.model.device import set_precision
from stages.model.efficientnet_lite0 import efficientnet_lite0
from stages.model.encoder import build_encoder
from stages.model.steps import PACKAGED, WEIGHTS, BackboneParameters, Trainable

# Outputs of efficientnet_lite0 at a 16th and a 32nd of the size: more discriminative on glomeruli
# than the last layer, and they transferred better to an unseen hospital (docs/backbones.md).
INNER_LAYERS = ("block10_add", "block14_add", "block15_project_batch_norm")
# The block in the names of the layers of keras.applications: block5_, conv5_block3_,
# stage_3_block_2_, expanded_conv_10_, block6h_, block_16_.
BLOCK = re.compile(r"(conv\d+_|stage_\d+_)?(expanded_conv_|block_?)\d+[a-z]?(?![a-z0-9])")


@fresh_names()
def build_backbone(
    name: str, weights: str, size: int, feature_layers: Sequence[str] = (), center: float = 1.0
) -> keras.Model:
    """Return a backbone with its preprocessing, from pixels to features averaged over the picture.

    Args:
        weights: `imagenet`; `none` for random ones; or a file in data/weights/ that the backbone's
            `save_weights` wrote (.weights.h5), or an absolute path of one.
        size: pixels per side.
        feature_layers: the layers whose averaged outputs are the features, concatenated. Inner
            layers describe structure and texture, the last one the kinds of things in photographs.
            Without any: `own_layers`.
        center: the share of the height and width, about the center, that is averaged. The
            glomerulus is there, so that it matters less how loosely it was cropped.

    Returns:
        a model from uint8 (batch, size, size, 3) to float32 (batch, D).

    Raises:
        UserError: the weights cannot be found, downloaded or loaded; the backbone does not take
            this size; or it has no such layer.
    """
    inputs = keras.Input((size, size, 3), dtype="uint8", name="pixels")
    # A scale of one: to floating point, in a named layer.
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
    except Exception as error:  # Keras raises many kinds: no network, a wrong file, too small.
        raise UserError(f"{name} with weights {weights}: {_explain(error)}") from None
    network = _up_to(network, feature_layers or own_layers(name), name)
    maps = network(x)
    averages = []
    for number, one in enumerate(maps if isinstance(maps, list) else [maps], start=1):
        if margin := round((1 - center) / 2 * one.shape[1]):
            one = keras.layers.Cropping2D(margin, name=f"center{number}")(one)
        averages.append(keras.layers.GlobalAveragePooling2D(name=f"average{number}")(one))
    features = averages[0]
    if len(averages) > 1:
        features = keras.layers.Concatenate(name="averages")(averages)
    return keras.Model(inputs, features, name="features")


def own_layers(name: str) -> Sequence[str]:
    """Return the layers that are a backbone's features by default; none: its last layer."""
    return INNER_LAYERS if name == PACKAGED else ()


def backbone_parts(
    params: BackboneParameters, size: int, weights: Path | None = None
) -> tuple[keras.Model, keras.Model | None]:
    """Return a backbone and None, or the frozen and the trained part (if any) of an encoder.

    `model.trainable` decides what is trained. For errors see `build_backbone` and `build_encoder`.

    Args:
        size: pixels per side of the squares.
        weights: the file or folder of weights; None for the one in data/weights/.
    """
    set_precision(params.precision)
    if params.is_encoder:
        frozen, trained = build_encoder(
            weights or params.weights_file, size, params.tokens, params.precision, params.trainable
        )
        frozen.trainable = False
        return frozen, trained
    if params.weights == "none":
        # Random weights are the same in all stages, whatever train.seed is.
        keras.utils.set_random_seed(0)
    backbone = build_backbone(
        params.step,
        str(weights.resolve()) if weights else params.weights,
        size,
        params.feature_layers,
        params.center_fraction,
    )
    set_trainable(backbone, params.trainable)
    return backbone, None


def _up_to(network: keras.Model, layers: Sequence[str], name: str) -> keras.Model:
    """Return the network with the outputs of some layers as its own."""
    if not layers:
        return network
    known = {
        layer.name: layer.output
        for layer in network.layers
        if len(getattr(layer.output, "shape", ())) == 4
    }
    last = ", ".join(list(known)[-8:])
    refuse(
        f"params.yaml: model.feature_layers holds {layer!r}, which {name} does not have; "
        f"its last are {last}"
        for layer in layers
        if layer not in known
    )
    return keras.Model(network.inputs, [known[layer] for layer in layers], name=network.name)


def set_trainable(backbone: keras.Model, trainable: Trainable) -> None:
    """Set which weights of a backbone are trained; batch normalization always keeps its statistics.

    Statistics of a few batches from one laboratory would be worse than those of ImageNet (Keras's
    guide to fine-tuning).

    Args:
        trainable: `frozen`, `all`, or the number of last blocks to train, with all layers after
            them.

    Raises:
        UserError: the backbone has fewer blocks, or its layers are not named after blocks.
    """
    network = next(layer for layer in backbone.layers if isinstance(layer, keras.Model))
    layers = network.layers
    backbone.trainable = True
    match trainable:
        case "frozen":
            backbone.trainable = False
        case "all":
            pass
        case int():
            blocks = [found[0] if (found := BLOCK.search(layer.name)) else None for layer in layers]
            names = list(dict.fromkeys(filter(None, blocks)))
            if trainable > len(names):
                have = f"{len(names)} blocks" if names else "no layers that are named after blocks"
                raise UserError(
                    f"params.yaml: model.trainable is {trainable}, but {network.name} has {have}; "
                    "try frozen or all"
                )
            for layer in layers[: blocks.index(names[-trainable])]:
                layer.trainable = False
        case _:
            assert_never(trainable)
    for layer in layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def _explain(error: Exception) -> str:
    text = " ".join(str(error).split())
    if found := re.search(r"URL fetch failure on (\S+?):? ", text):
        file, folder = found[1].rsplit("/", 1)[1], keras_home() / "models"
        bring = f"bring the file {file} (from {found[1]}) to {folder}/"
        return f"the weights, which training and predicting need, cannot be downloaded; {bring}"
    return text[:300]
