"""Pathology encoders: vision transformers whose weights lie in a folder and may not be passed on.

The layers are those of keras-hub, and so is the converter from the names of transformers. An
encoder is made in two parts, of which the first, frozen one is never saved
(stages/model/encoder_card.py).
"""

from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stages.base.errors import UserError
from stages.model.backend import keras
from stages.model.encoder_folder import (
    CONFIG,
    NEEDED,
    WEIGHTS,
    EncoderFolder,
    read_config,
    read_tensors,
)
from stages.model.encoder_of_timm import of_timm
from stages.model.encoder_of_transformers import KINDS, of_transformers
from stages.model.steps import ENCODER, TOKENS, Precision, Tokens


class Encoder(NamedTuple):
    """An encoder in two parts: `frozen`, from pixels, uint8 (n, size, size, 3); and `trained`, to
    features, float32 (n, D).

    Where nothing is trained `frozen` leads to the features, and there is no second part.
    """

    frozen: keras.Model
    trained: keras.Model | None


def read_folder(folder: Path) -> EncoderFolder:
    """Return what an encoder's folder says, in either form.

    Raises:
        UserError: a file is missing or damaged, or the encoder is of a kind that is not known.
    """
    config = read_config(folder)
    if "architecture" in config:
        return of_timm(folder, read_tensors(folder))
    if config.get("model_type") in KINDS:
        return of_transformers(folder, config, read_tensors(folder))
    what = f"model_type is {config.get('model_type')!r}"
    raise UserError(
        f"{folder / CONFIG}: {what}; known are {', '.join(KINDS)} of transformers, and timm's by their `architecture`"
    )


def build_encoder(
    folder: Path, size: int, tokens: Tokens, precision: Precision, trainable: str | int = "frozen"
) -> Encoder:
    """Return the encoder in a folder, with its weights.

    Squares of another size than it takes are resized, and all are normalized, as the folder says.

    Args:
        size: pixels a side of the squares.
        tokens: which are the features: the class token, the mean of the patch tokens, or both one
            after the other; `card`: what the encoder's model card prescribes.
        trainable: `frozen`, `all`, or the number of blocks to train, from the last.

    Raises:
        UserError: a file is missing or damaged, the encoder is of a kind that is not known, its
            tensors are not those that it should have, or it has fewer blocks.
    """
    said = read_folder(folder)
    embed, blocks, norm = _layers(said, precision)
    if isinstance(trainable, int) and trainable > len(blocks):
        raise UserError(
            f"params.yaml: model.trainable is {trainable}, but {folder} has {len(blocks)} blocks; try frozen or all"
        )
    layers = [embed, *blocks, norm]
    trained = (
        {"frozen": 0, "all": len(layers)}[trainable]
        if isinstance(trainable, str)
        else trainable + 1
    )
    inputs = keras.Input((size, size, 3), dtype="uint8", name="pixels")
    x = _normalized(inputs, said)
    kept = layers[: len(layers) - trained]
    last = next((layer for layer in reversed(kept) if layer in blocks), None)
    for layer in kept:
        if layer is last:
            # Where `attention` looks. The other layers were called before, by keras-hub, and have
            # tensors of two models.
            x = keras.layers.Identity(name=f"{TOKENS}{said.size // said.config['patch_size']}")(x)
        x = layer(x)
    tokens, registers = (
        said.tokens if tokens == "card" else tokens,
        said.config.get("num_register_tokens", 0),
    )
    if not trained:
        frozen = keras.Model(inputs, _features(x, tokens, registers), name=ENCODER)
        _try(frozen, precision, size)
        return Encoder(frozen, None)
    y = between = keras.Input(x.shape[1:], name="between")
    for layer in layers[-trained:]:
        y = layer(y)
    behind = keras.Model(between, _features(y, tokens, registers), name="trained_blocks")
    return Encoder(keras.Model(inputs, x, name="frozen_blocks"), behind)


def _try(model: keras.Model, precision: Precision, size: int) -> None:
    """Raise `UserError` where the backend cannot compute in this precision: some have no such
    convolution on some processors.
    """
    if precision == "float32":
        return
    try:
        model.predict_on_batch(np.zeros((1, size, size, 3), dtype=np.uint8))
    except Exception:  # The backends raise kinds of their own.
        where = f"{keras.backend.backend()} does not compute in {precision} here"
        raise UserError(
            f"params.yaml: model.precision is {precision}, but {where}; use float32"
        ) from None


def _layers(said: EncoderFolder, precision: Precision) -> tuple[Any, list[Any], Any]:
    """Return the layers of an encoder, with the weights of its folder: the embedding, the blocks,
    and the last normalization.
    """
    try:
        from keras_hub.src.utils.transformers import convert_dinov2, convert_vit
    except ImportError:
        raise UserError(NEEDED) from None

    vit = said.config["model_type"] == "vit"
    converter = convert_vit if vit else convert_dinov2
    settings = converter.convert_backbone_config(said.config)
    if vit:  # The converter passes over it: 1e-12 in place of 1e-6 in most.
        settings["layer_norm_epsilon"] = said.config["layer_norm_eps"]
    try:
        network = converter.backbone_cls(**settings, dtype=precision)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{said.path / CONFIG} describes no encoder: {' '.join(str(error).split())[:200]}"
        ) from None
    loader = _Loader(said)
    converter.convert_weights(network, loader, said.config)
    # The positions of the patches for the size that is asked for, which the converter makes of the
    # others.
    made = [
        weight for weight in network.weights if weight.name == "interpolated_position_embeddings"
    ]
    unset = [
        weight.path
        for weight in network.weights
        if not any(weight is one for one in (*loader.set, *made))
    ]
    left = sorted(said.in_file - loader.used - said.unused)
    if unset or left:
        what = f"is not used: {', '.join(left)}" if left else f"is missing for {', '.join(unset)}"
        raise UserError(
            f"{said.path / WEIGHTS}: {what:.300}; the encoder is not of a kind that is known"
        )
    if vit:
        embed, encoder = network.layers[1], network.layers[2]
        return embed, encoder.encoder_layers, encoder.layer_norm
    return network.embeddings, network.encoder.layers, network.layernorm


class _Loader:
    """What keras-hub's converters take tensors from; it notes which were used, and which weights
    were set.
    """

    def __init__(self, said: EncoderFolder):
        self.said = said
        self.used: set[str] = set()
        self.set: list[Any] = []

    def port_weight(self, keras_variable: Any, hf_weight_key: str, hook_fn: Any = None) -> None:
        if hf_weight_key not in self.said.tensors:
            raise UserError(
                f"{self.said.path / WEIGHTS} lacks {hf_weight_key}, or what timm calls so"
            )
        tensor = self.said.tensors[hf_weight_key]()
        if hook_fn:
            with suppress(ValueError):  # A reshape into other sizes.
                tensor = hook_fn(tensor, list(keras_variable.shape))
        if tensor.shape != tuple(keras_variable.shape):
            expected = f"{tensor.shape}, but {CONFIG} asks for {tuple(keras_variable.shape)}"
            raise UserError(f"{self.said.path / WEIGHTS}: {hf_weight_key} has the shape {expected}")
        keras_variable.assign(tensor)
        self.used |= set(self.said.sources[hf_weight_key])
        self.set.append(keras_variable)


def _normalized(inputs: Any, said: EncoderFolder) -> Any:
    x = keras.layers.Rescaling(1.0, name="colors")(inputs)
    if inputs.shape[1] != said.size:
        how = {"lanczos": "lanczos3"}.get(said.interpolation, said.interpolation)
        x = keras.layers.Resizing(
            said.size, said.size, interpolation=how, antialias=True, name="resized"
        )(x)
        # As the pixels of an image, which the encoder learnt from.
        x = keras.ops.clip(keras.ops.round(x), 0, 255)
    mean, std = np.array(said.mean), np.array(said.std)
    return keras.layers.Rescaling(
        (1 / (255 * std)).tolist(), (-mean / std).tolist(), name="normalized"
    )(x)


def _features(x: Any, tokens: Tokens, registers: int) -> Any:
    """Return the features that are made of the tokens: the class token first, then the registers,
    then the patches.
    """
    made = []
    if tokens != "mean":
        first = keras.layers.Cropping1D((0, x.shape[1] - 1), dtype="float32", name="class_token")(x)
        made.append(keras.layers.Flatten(dtype="float32", name="class_features")(first))
    if tokens != "class":
        patches = keras.layers.Cropping1D((1 + registers, 0), dtype="float32", name="patch_tokens")(
            x
        )
        made.append(
            keras.layers.GlobalAveragePooling1D(dtype="float32", name="patch_features")(patches)
        )
    if len(made) == 1:
        return keras.layers.Identity(dtype="float32", name="averages")(made[0])
    return keras.layers.Concatenate(dtype="float32", name="averages")(made)
