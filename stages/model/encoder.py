"""Build pathology encoders: vision transformers from a folder of weights that may not be shared.

Layers and the converter from transformers' names are those of keras-hub. An encoder has two parts;
the first, frozen one is never saved (stages/model/backbone_card.py).
"""

from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, assert_never

import numpy as np

from stages.base.errors import UserError
from stages.model.backend import has_accelerator, keras
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
from stages.model.steps import ENCODER, TOKENS, Precision, Tokens, Trainable


class Encoder(NamedTuple):
    """An encoder: `frozen` from pixels, uint8 (n, size, size, 3), `trained` to features (n, D).

    If nothing is trained, `frozen` returns the features, float32, and `trained` is None.
    """

    frozen: keras.Model
    trained: keras.Model | None


def read_folder(folder: Path) -> EncoderFolder:
    """Return the description of an encoder's folder, in timm's or transformers' form.

    Raises:
        UserError: a file is missing or damaged, or the kind of encoder is unknown.
    """
    config = read_config(folder)
    if "architecture" in config:
        return of_timm(folder, read_tensors(folder))
    if config.get("model_type") in KINDS:
        return of_transformers(folder, config, read_tensors(folder))
    raise UserError(
        f"{folder / CONFIG}: model_type is {config.get('model_type')!r}; known are "
        f"{', '.join(KINDS)} of transformers, and timm's by their `architecture`"
    )


def build_encoder(
    folder: Path, size: int, tokens: Tokens, precision: Precision, trainable: Trainable = "frozen"
) -> Encoder:
    """Return the encoder in a folder, with its weights, resizing and normalization.

    Args:
        size: pixels per side of the squares; they are resized to what the encoder takes.
        tokens: the features: the class token, the mean of the patch tokens, both concatenated, or
            `card` for what the encoder's model card prescribes.
        trainable: `frozen`, `all`, or the number of last blocks to train.

    Raises:
        UserError: a file is missing or damaged, the kind of encoder is unknown, its tensors do not
            match, or it has fewer blocks.
    """
    described = read_folder(folder)
    embed, blocks, norm = _layers(described, precision)
    layers = [embed, *blocks, norm]
    match trainable:
        case "frozen":
            first = len(layers)
        case "all":
            first = 0
        case int():
            if trainable > len(blocks):
                raise UserError(
                    f"params.yaml: model.trainable is {trainable}, but {folder} has {len(blocks)} "
                    "blocks; try frozen or all"
                )
            first = len(blocks) + 1 - trainable
        case _:
            assert_never(trainable)
    inputs = keras.Input((size, size, 3), dtype="uint8", name="pixels")
    x = _normalized(inputs, described)
    last = next((layer for layer in reversed(layers[:first]) if layer in blocks), None)
    for layer in layers[:first]:
        if layer is last:
            # `attention` reads here. The other layers were called before, by keras-hub, and so
            # have tensors of two models.
            side = described.size // described.config["patch_size"]
            x = keras.layers.Identity(name=f"{TOKENS}{side}")(x)
        x = layer(x)
    tokens = described.tokens if tokens == "card" else tokens
    registers = described.config.get("num_register_tokens", 0)
    if first == len(layers):
        frozen = keras.Model(inputs, _features(x, tokens, registers), name=ENCODER)
        if precision == "bfloat16" and not has_accelerator():
            _try(frozen, size)
        return Encoder(frozen, None)
    y = between = keras.Input(x.shape[1:], name="between")
    for layer in layers[first:]:
        y = layer(y)
    trained = keras.Model(between, _features(y, tokens, registers), name="trained_blocks")
    return Encoder(keras.Model(inputs, x, name="frozen_blocks"), trained)


def _try(model: keras.Model, size: int) -> None:
    """Raise `UserError` if the backend cannot compute in bfloat16 on this processor."""
    try:
        model.predict_on_batch(np.zeros((1, size, size, 3), dtype=np.uint8))
    except Exception:  # Each backend raises other kinds.
        raise UserError(
            f"params.yaml: model.precision is bfloat16, but {keras.backend.backend()} does not "
            "compute in bfloat16 here; use float32, or try GLOMERULI_ARITHMETIC=native"
        ) from None


def _layers(folder: EncoderFolder, precision: Precision) -> tuple[Any, list[Any], Any]:
    """Return the embedding, the blocks and the last normalization, with their weights."""
    try:
        from keras_hub.src.utils.transformers import convert_dinov2, convert_vit
    except ImportError:
        raise UserError(NEEDED) from None

    vit = folder.config["model_type"] == "vit"
    converter = convert_vit if vit else convert_dinov2
    settings = converter.convert_backbone_config(folder.config)
    if vit:  # The converter ignores it: mostly 1e-12 instead of 1e-6.
        settings["layer_norm_epsilon"] = folder.config["layer_norm_eps"]
    dtype = "bfloat16" if precision == "bfloat16" else "float32"
    try:
        network = converter.backbone_cls(**settings, dtype=dtype)
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder.path / CONFIG} describes no encoder: {reason}") from None
    loader = _Loader(folder)
    converter.convert_weights(network, loader, folder.config)
    # The converter derives the patch positions of the requested size from the others.
    derived = [one for one in network.weights if one.name == "interpolated_position_embeddings"]
    filled = {id(one) for one in (*loader.filled, *derived)}
    unset = [one.path for one in network.weights if id(one) not in filled]
    left = sorted(folder.in_file - loader.used - folder.unused)
    if unset or left:
        what = f"is not used: {', '.join(left)}" if left else f"is missing for {', '.join(unset)}"
        raise UserError(f"{folder.path / WEIGHTS}: {what:.300}; the encoder is not of a known kind")
    if vit:
        embed, encoder = network.layers[1], network.layers[2]
        return embed, encoder.encoder_layers, encoder.layer_norm
    return network.embeddings, network.encoder.layers, network.layernorm


class _Loader:
    """Gives tensors to keras-hub's converters; notes what is used and which weights are filled."""

    def __init__(self, folder: EncoderFolder):
        self.folder = folder
        self.used: set[str] = set()
        self.filled: list[Any] = []

    def port_weight(self, keras_variable: Any, hf_weight_key: str, hook_fn: Any = None) -> None:
        file = self.folder.path / WEIGHTS
        if hf_weight_key not in self.folder.tensors:
            raise UserError(f"{file} lacks {hf_weight_key}, or its equivalent in timm")
        tensor = self.folder.tensors[hf_weight_key]()
        if hook_fn:
            with suppress(ValueError):  # A reshape to another number of values.
                tensor = hook_fn(tensor, list(keras_variable.shape))
        expected = tuple(keras_variable.shape)
        if tensor.shape != expected:
            raise UserError(
                f"{file}: {hf_weight_key} has the shape {tensor.shape}, but {CONFIG} asks for "
                f"{expected}"
            )
        keras_variable.assign(tensor)
        self.used |= set(self.folder.sources[hf_weight_key])
        self.filled.append(keras_variable)


def _normalized(inputs: Any, folder: EncoderFolder) -> Any:
    x = keras.layers.Rescaling(1.0, name="colors")(inputs)
    side = folder.size
    if inputs.shape[1] != side:
        how = "lanczos3" if folder.interpolation == "lanczos" else folder.interpolation
        resize = keras.layers.Resizing
        x = resize(side, side, interpolation=how, antialias=True, name="resized")(x)
        # Whole values, like the images that the encoder was trained on.
        x = keras.ops.clip(keras.ops.round(x), 0, 255)
    mean, std = np.array(folder.mean), np.array(folder.std)
    scale, offset = (1 / (255 * std)).tolist(), (-mean / std).tolist()
    return keras.layers.Rescaling(scale, offset, name="normalized")(x)


def _features(x: Any, tokens: Tokens, registers: int) -> Any:
    """Return the features of the tokens, which are the class token, registers, then patches."""
    layers = keras.layers
    made = []
    match tokens:
        case "class":
            has_class, has_patches = True, False
        case "mean":
            has_class, has_patches = False, True
        case "class_and_mean":
            has_class, has_patches = True, True
        case "card":
            raise ValueError("`card` stands for one of the others")
        case _:
            assert_never(tokens)
    if has_class:
        first = layers.Cropping1D((0, x.shape[1] - 1), dtype="float32", name="class_token")(x)
        made.append(layers.Flatten(dtype="float32", name="class_features")(first))
    if has_patches:
        patches = layers.Cropping1D((1 + registers, 0), dtype="float32", name="patch_tokens")(x)
        average = layers.GlobalAveragePooling1D(dtype="float32", name="patch_features")
        made.append(average(patches))
    if len(made) == 1:
        return layers.Identity(dtype="float32", name="averages")(made[0])
    return layers.Concatenate(dtype="float32", name="averages")(made)
