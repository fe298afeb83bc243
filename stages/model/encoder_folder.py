"""Read the folder of a published pathology encoder, config.json and model.safetensors.

PyTorch is not needed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import ml_dtypes  # noqa: F401  Teaches NumPy bfloat16, in which some weights are published.
import numpy as np
from pydantic import BaseModel, ValidationError

from stages.base.errors import UserError
from stages.base.strict_json import parse_json
from stages.model.steps import Tokens

CONFIG, WEIGHTS, PREPROCESSOR = "config.json", "model.safetensors", "preprocessor_config.json"
NEEDED = "an encoder needs more packages: pip install -r requirements-encoders.txt"
ORIGINAL = "it must be the one that came with the weights"
PICKLES = (".bin", ".pth", ".pt", ".ckpt")
Tensor = Callable[[], np.ndarray]
Schema = TypeVar("Schema", bound=BaseModel)


class EncoderFolder(NamedTuple):
    """The description of an encoder, in the terms of transformers.

    Args:
        config: includes all that keras-hub's converter reads.
        size: pixels per side of the encoder's input.
        mean, std: of red, green and blue, in units of 0 to 1, for normalization.
        interpolation: nearest, bilinear, bicubic or lanczos.
        tokens: those that are the features according to the encoder's model card.
        tensors: by their names in transformers; each is read when called, float32.
        sources: the names in the file that each tensor is made of.
        in_file: all names in the file.
        unused: names in the file that are no part of the features.
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
    """Return the content of an encoder's config.json; raise `UserError` if it is unreadable."""
    if not folder.is_dir():
        raise UserError(
            f"{folder} does not exist; it must be a folder with an encoder's {CONFIG} and {WEIGHTS}"
        )
    try:
        found = parse_json((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / CONFIG} cannot be read ({error}); {ORIGINAL}") from None
    if not isinstance(found, dict):
        raise UserError(f"{folder / CONFIG} holds {found!r}; {ORIGINAL}")
    return found


def read_as(path: Path, schema: type[Schema]) -> Schema:
    """Return an encoder's JSON file as `schema`; raise `UserError` if it does not match."""
    try:
        return schema.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); {ORIGINAL}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its text"
        raise UserError(f"{path}: {where} is {first['input']!r:.80}: {first['msg']}") from None


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of model.safetensors by name; each is read when called.

    Raises:
        UserError: the file is missing (a pickle is not read instead) or damaged.
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
                f"{folder} has no {WEIGHTS} but {pickles[0]}, a pickle, which can run code when "
                "read; convert it on a machine with PyTorch: safetensors.torch.save_file("
                f"torch.load({pickles[0]!r}, weights_only=True), {WEIGHTS!r})"
            )
        raise UserError(
            f"{folder} has no {WEIGHTS}, which holds all weights in one file; "
            f"it has {', '.join(names)}"
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
        reason = " ".join(str(error).split())
        raise UserError(f"{weights} is damaged, or no safetensors file: {reason}") from None
