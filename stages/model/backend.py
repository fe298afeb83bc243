"""Start Keras on the backend in KERAS_BACKEND (default TensorFlow): quiet, seeded, deterministic.

Only this module and stages/model/device.py know backends by name. Import it before keras. In a
hosted process (stages/base/arithmetic.py) Keras is imported with the settings of that process,
which are replaced only inside `plain_settings`.
"""

import importlib.util
import logging
import os
import random
import re
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from stages.base import arithmetic
from stages.base.packages import other_versions
from stages.model.operations import replace_operations

BACKENDS = ("tensorflow", "jax", "torch")
# What TensorFlow's C++ libraries print at every start on a machine without a GPU, whatever
# TF_CPP_MIN_LOG_LEVEL is.
START_UP_NOISE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\)"
    rb"|I0000 "
    rb"|\d{4}-\d\d-\d\d \S+: I "
    rb"|E0000 .*(cuInit|cuda_platform|register factory for plugin)"
    rb"|To enable the following instructions"
)


@contextmanager
def _without_start_up_noise() -> Iterator[None]:
    """Hold back what is written to file descriptor 2; at the end pass on all but known noise."""
    try:
        screen = os.dup(2)
    except OSError:  # The process has no standard error.
        yield
        return
    if sys.stderr:
        sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            if sys.stderr:
                sys.stderr.flush()
            os.dup2(screen, 2)
            os.close(screen)
            held.seek(0)
            lines = [line for line in held if not START_UP_NOISE.match(line)]
            with os.fdopen(os.dup(2), "wb") as stderr:
                stderr.writelines(lines)


@contextmanager
def _without_settings_of_the_machine() -> Iterator[None]:
    """Import Keras as if it had just been installed.

    Keras reads the channel axis, precision, epsilon and backend from `keras.json` in `~/.keras` or
    KERAS_HOME. Other projects and older versions of Keras leave such files, and a damaged one ends
    the import. So Keras reads an empty folder instead; pretrained weights stay in its own folder.

    Raises:
        SystemExit: KERAS_BACKEND names a backend that does not exist or is not installed.
    """
    chosen = os.environ.get("KERAS_BACKEND")
    backend = os.environ["KERAS_BACKEND"] = chosen or "tensorflow"
    if backend not in BACKENDS:
        sys.exit(f"error: KERAS_BACKEND is {backend!r}; it must be one of {', '.join(BACKENDS)}")
    if importlib.util.find_spec(backend) is None:
        sys.exit(
            f"error: KERAS_BACKEND is {backend}, which is not installed; "
            "install it or use tensorflow"
        )
    # The first two cut trainings short, the third changes how variables are stored.
    for name in ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH", "KERAS_NNX_ENABLED"):
        os.environ.pop(name, None)
    home = os.environ.get("KERAS_HOME")
    with tempfile.TemporaryDirectory() as empty:
        os.environ["KERAS_HOME"] = empty
        try:
            yield
        finally:
            # Restored for the programs that this one starts.
            for name, value in (("KERAS_HOME", home), ("KERAS_BACKEND", chosen)):
                del os.environ[name]
                if value is not None:
                    os.environ[name] = value


def keras_home() -> Path:
    """Return the folder in which Keras keeps pretrained weights, by Keras's own rule."""
    home = os.path.expanduser("~")
    default = Path(home if os.access(home, os.W_OK) else "/tmp", ".keras")
    return Path(os.environ.get("KERAS_HOME") or default)


def _set_defaults() -> None:
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)


if arithmetic.hosted:
    import keras as keras
else:
    # TensorFlow logs warnings and errors only.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    # Each member of an ensemble is traced once, which TensorFlow takes for a loop that traces.
    logging.getLogger("tensorflow").addFilter(
        lambda record: "triggered tf.function retracing" not in record.getMessage()
    )
    with _without_start_up_noise(), _without_settings_of_the_machine():
        import keras as keras
        from keras.src.backend import config as _config

        _set_defaults()  # The process may have imported Keras before.
        if keras.backend.backend() == "tensorflow" and arithmetic.choice() == "portable":
            replace_operations()
        # The first operation looks for a GPU and prints what it finds.
        keras.ops.convert_to_numpy(keras.ops.zeros(1))
    _config._KERAS_DIR = str(keras_home())


# Two threads that overlap would put back each other's settings.
_settings = threading.Lock()


@contextmanager
def plain_settings() -> Iterator[None]:
    """Give Keras its default settings, such as float32, and put back those of a hosted process.

    The random states of Python, of which Keras takes numbers for each layer, and of NumPy are put
    back as well. The settings are those of the process, so threads take turns.
    """
    with _settings:
        config, random_states = keras.config, (random.getstate(), np.random.get_state())
        policy, floatx, epsilon = config.dtype_policy(), config.floatx(), config.epsilon()
        layout = config.image_data_format()
        try:
            _set_defaults()
            config.set_dtype_policy("float32")
            yield
        finally:
            config.set_image_data_format(layout)
            config.set_floatx(floatx)
            config.set_epsilon(epsilon)
            config.set_dtype_policy(policy)
            random.setstate(random_states[0])
            np.random.set_state(random_states[1])


@contextmanager
def fresh_names() -> Iterator[None]:
    """Number unnamed layers from 1: Keras goes on counting, and names are bytes of saved models.

    A hosted process keeps its numbers; otherwise layers of its own could have the same name.
    """
    if not arithmetic.hosted:
        keras.utils.clear_session(free_memory=False)
        yield
        return
    from keras.src.backend.common.global_state import get_global_attribute, set_global_attribute

    numbers = get_global_attribute("object_name_uids")
    set_global_attribute("object_name_uids", defaultdict(int))
    try:
        yield
    finally:
        set_global_attribute("object_name_uids", numbers)


def make_deterministic(seed: int) -> None:
    """Seed Python, NumPy and the backend; let operations give the same bits in every run."""
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.experimental.enable_op_determinism()
    elif keras.backend.backend() == "torch":
        import torch

        torch.use_deterministic_algorithms(True, warn_only=True)


def device() -> str:
    """Return what Keras computes on: CPU, GPU or TPU."""
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow

            return "GPU" if tensorflow.config.list_logical_devices("GPU") else "CPU"
        case "jax":
            import jax

            return jax.default_backend().upper()
        case _:
            import torch

            return "GPU" if torch.cuda.is_available() else "CPU"


def has_accelerator() -> bool:
    """Return whether Keras computes on another device than the CPU."""
    return device() != "CPU"


def runtime_environment() -> dict[str, Any]:
    """Return what the bytes of a training depend on besides code, data and parameters."""
    here = {**arithmetic.description(), "backend": keras.backend.backend(), "device": device()}
    if others := other_versions():
        here["packages"] = ", ".join(others)
    # Environment variables do not matter where results are portable.
    if not arithmetic.is_portable(here) and (variables := arithmetic.variables()):
        here["environment"] = " ".join(f"{name}={value}" for name, value in variables.items())
    return here


def gradient(function: Callable[..., Any], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the gradient of a scalar function of backend tensors with respect to each array.

    It is zero where the function does not depend on an array or is flat, as a share of neighbors.
    """
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow

            tensors = [tensorflow.convert_to_tensor(array) for array in arrays]
            with tensorflow.GradientTape() as tape:
                tape.watch(tensors)
                result = function(*tensors)
            zero = tensorflow.UnconnectedGradients.ZERO
            found = tape.gradient(result, tensors, unconnected_gradients=zero)
        case "torch":
            tensors = [keras.ops.convert_to_tensor(array).requires_grad_() for array in arrays]
            result = function(*tensors)
            if result.requires_grad:
                result.backward()
            found = [
                keras.ops.zeros_like(tensor) if tensor.grad is None else tensor.grad
                for tensor in tensors
            ]
        case "jax":
            import jax

            found = jax.grad(function, argnums=tuple(range(len(arrays))))(*arrays)
    return [np.asarray(keras.ops.convert_to_numpy(one)) for one in found]
