"""A pathology encoder in a folder, as it was published: config.json beside model.safetensors, read
without PyTorch.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import ml_dtypes  # noqa: F401  NumPy learns from it what a bfloat16 is, in which some weights are published.
import numpy as np
from pydantic import BaseModel, ValidationError

from stages.base.errors import UserError
from stages.base.strict_json import parse_json
from stages.model.steps import Tokens

CONFIG, WEIGHTS, PREPROCESSOR = "config.json", "model.safetensors", "preprocessor_config.json"
NEEDED = "an encoder needs packages of its own: pip install -r requirements-encoders.txt"
PICKLES = (".bin", ".pth", ".pt", ".ckpt")
Tensor = Callable[[], np.ndarray]
Schema = TypeVar("Schema", bound=BaseModel)


class EncoderFolder(NamedTuple):
    """What a folder says of its encoder, in the words of transformers.

    Args:
        config: with what keras-hub's converter asks for.
        size: pixels a side of what the encoder takes.
        mean, std: of red, green and blue, in units of 0 to 1, that the pixels are normalized by.
        interpolation: nearest, bilinear, bicubic or lanczos.
        tokens: which of them are the features, as the encoder's model card prescribes.
        tensors: by their names in transformers, each to be read when it is called, float32.
        sources: of each of them the names in the file.
        in_file: all names in the file.
        unused: those of what is no part of the features.
    """

    path: Path
    config: dict[str, Any]
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    tokens: Tokens
    tensors: dict[str, Tensor]
    sources: dict[str, list[str]]
    in_file: set[str]
    unused: set[str]


def read_config(folder: Path) -> dict[str, Any]:
    """Return what config.json of an encoder's folder holds. Raises `UserError` where it cannot be
    read.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder} is not there; it must be a folder with an encoder's {CONFIG} and {WEIGHTS}"
        )
    try:
        found = parse_json((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder / CONFIG} cannot be read ({error}); it must be the one that came with the weights"
        ) from None
    if not isinstance(found, dict):
        raise UserError(
            f"{folder / CONFIG} holds {found!r}; it must be the one that came with the weights"
        )
    return found


def read_as(path: Path, schema: type[Schema]) -> Schema:
    """Return what a JSON file that came with an encoder says. Raises `UserError` where it is not as
    it should be.
    """
    try:
        return schema.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); it must be the one that came with the weights"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its text"
        raise UserError(f"{path}: {where} is {first['input']!r:.80}: {first['msg']}") from None


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of model.safetensors by their names, each to be read when it is called.

    Raises:
        UserError: the file is missing (a pickle in its place is not read) or damaged.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise UserError(NEEDED) from None

    weights = folder / WEIGHTS
    if not weights.is_file():
        names = sorted(file.name for file in folder.iterdir())
        if pickles := [name for name in names if name.endswith(PICKLES)]:
            raise UserError(
                f"{folder} has no {WEIGHTS} but {pickles[0]}, a pickle, which can run code when it is read; convert it where "
                f"PyTorch is: safetensors.torch.save_file(torch.load({pickles[0]!r}, weights_only=True), {WEIGHTS!r})"
            )
        raise UserError(
            f"{folder} has no {WEIGHTS}, which holds all weights in one file; it has {', '.join(names)}"
        )

    def reader(name: str) -> Tensor:
        def read() -> np.ndarray:
            with safe_open(weights, framework="np") as file:
                return np.asarray(file.get_tensor(name), dtype=np.float32)

        return read

    try:
        with safe_open(weights, framework="np") as file:
            return {name: reader(name) for name in sorted(file.keys())}
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{weights} is damaged, or no safetensors file: {' '.join(str(error).split())}"
        ) from None
