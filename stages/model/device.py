"""What Keras computes on: its name, its precision, and functions compiled for it."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from stages.base import arithmetic
from stages.model.backend import has_accelerator, keras
from stages.model.steps import Precision

# The first NVIDIA GPU, on Linux.
NVIDIA = Path("/dev/nvidia0")


def set_precision(precision: Precision) -> None:
    """Set how products of float32 are computed on a GPU from now on: exactly, or as TF32.

    JAX and, for convolutions, PyTorch and TensorFlow take TF32 by default, which keeps ten bits of
    the factors. A hosted process keeps its own setting. On a CPU nothing changes.
    """
    if arithmetic.hosted:
        return
    exact = precision == "float32"
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow

            tensorflow.config.experimental.enable_tensor_float_32_execution(not exact)
        case "jax":
            import jax

            # Products of bfloat16 need no more than the default.
            names = {"float32": "float32", "tf32": "tensorfloat32", "bfloat16": None}
            jax.config.update("jax_default_matmul_precision", names[precision])
        case "torch":
            import torch

            torch.backends.cuda.matmul.allow_tf32 = not exact
            torch.backends.cudnn.allow_tf32 = not exact


def device_name() -> str:
    """Return the name of the device that Keras computes on."""
    if not has_accelerator():
        return f"{joblib.cpu_count()} CPU cores"
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow

            gpu = tensorflow.config.list_physical_devices("GPU")[0]
            details = tensorflow.config.experimental.get_device_details(gpu)
            return details.get("device_name", "a GPU")
        case "jax":
            import jax

            return jax.devices()[0].device_kind
        case _:
            import torch

            return torch.cuda.get_device_name()


def describe_device() -> str:
    """Return a line that says what Keras computes on; warn of a GPU that it does not use."""
    backend = keras.backend.backend()
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if not has_accelerator() and not hidden and NVIDIA.exists():
        print(
            f"warning: this machine has an NVIDIA GPU, but {backend} does not use it: "
            "pip install -r requirements-gpu.txt and set KERAS_BACKEND=jax (docs/encoders.md)",
            file=sys.stderr,
        )
    return f"computing on {device_name()}, with {backend}"


def compiled(
    model: keras.Model, prepare: Callable[[Any], Any]
) -> Callable[[np.ndarray], list[Any]]:
    """Return one compiled function, from pixels to the outputs of `model(prepare(pixels))`.

    PyTorch is not compiled. The outputs are on the device, and the function may return before they
    are computed.

    Args:
        prepare: from a tensor of pixels to the input of the model.
    """

    def outputs(pixels: Any) -> list[Any]:
        return keras.tree.flatten(model(prepare(pixels), training=False))

    match keras.backend.backend():
        case "tensorflow":
            import tensorflow

            return tensorflow.function(outputs, autograph=False, jit_compile=model.jit_compile)
        case "jax":
            import jax

            variables = [
                [variable.value for variable in some]
                for some in (model.trainable_variables, model.non_trainable_variables)
            ]

            def stateless(trainable: Any, others: Any, pixels: Any) -> list[Any]:
                found, _ = model.stateless_call(trainable, others, prepare(pixels), training=False)
                return keras.tree.flatten(found)

            function = jax.jit(stateless)
            return lambda pixels: function(*variables, pixels)
        case _:
            import torch

            def on_device(pixels: np.ndarray) -> list[Any]:
                tensor = torch.from_numpy(pixels)
                if torch.cuda.is_available():
                    tensor = tensor.pin_memory().to("cuda", non_blocking=True)
                with torch.inference_mode():
                    return outputs(tensor)

            return on_device
