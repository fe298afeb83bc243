"""Reading YAML (params.yaml and dataset cards) and checking each value against the schema of
whoever reads it.

ruamel.yaml reads, because it is what DVC itself reads params.yaml with: both then agree on YAML
1.2, where `1e-3` is a number, `no` is a word, and a key that stands twice is an error.
"""

import math
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML

from stages.base.errors import UserError, refuse

# Of characters, of values with all aliases written out, and of brackets, each of which looks at
# those around it: far more than any card or params.yaml has.
LONGEST, MOST_VALUES, MOST_BRACKETS = 200_000, 10_000, 1_000
BLOCKS = (
    "data",
    "demo",
    "manifest",
    "split",
    "pad",
    "model",
    "train",
    "evaluate",
    "external",
    "climb",
)
# `dvc exp run -S` writes into params.yaml, and leaves there what was refused.
STAYS = " (params.yaml keeps it until it is set anew)"
DatasetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
# The module with the schemas of all blocks.
WHOLE = "stages.parameters.whole"


class Parameters(BaseModel):
    """A block of parameters: unknown keys, other types and numbers that are not finite are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class _Data(Parameters):
    data: DatasetName


Schema = TypeVar("Schema", bound=Parameters)


def read_params(block: str, schema: type[Schema], path: str | Path = "params.yaml") -> Schema:
    """Return the block `block` of params.yaml (a dot leads to a block within a block), checked
    against `schema`.

    Raises:
        UserError: the file cannot be read, or a parameter is unknown, missing, of another type or
            out of range, be it one of another block: the stage that reads it would fail after those
            before it have run for hours.
    """
    params = _read_all(path)
    found: Any = params
    for name in block.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    checked = check(found, schema, str(path), block, STAYS)
    refuse_wrong(params, path)
    return checked


def read_dataset_name(path: str | Path = "params.yaml") -> str:
    """Return `data` of params.yaml: the name of a folder in data/, never a path that leads
    elsewhere.
    """
    params = _read_all(path)
    name = check({"data": params.get("data")}, _Data, str(path), note=STAYS).data
    refuse_wrong(params, path)
    return name


def _read_all(path: str | Path) -> dict:
    params = read_yaml(path)
    unknown = [name for name in params if name not in BLOCKS]
    refuse(
        [
            f"{path}: {name} is not a parameter; there are {', '.join(BLOCKS)}{_nearest(name, BLOCKS)}"
            for name in unknown
        ]
    )
    return params


def refuse_wrong(params: dict, path: str | Path, note: str = STAYS) -> None:
    """Raise `UserError` for all that is wrong anywhere in the parameters, also between the blocks.

    The schemas are imported by name, and forgotten. They only refuse, so that they are no part of
    what a stage computes: an edit of one block's schema makes no stage run again that reads another
    block, and no model's card names their code.
    """
    before = set(sys.modules)
    try:
        import_module(WHOLE).refuse_wrong(params, str(path), note)
    finally:
        for name in set(sys.modules) - before:
            if name.startswith("stages."):
                del sys.modules[name]


def _nearest(name: object, known: Iterable[str]) -> str:
    found = get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""


def read_yaml(path: str | Path, round_trip: bool = False) -> dict:
    """Return the mapping that a YAML file holds; with `round_trip`, one that knows the line of each
    key (`.lc`).

    Raises:
        UserError: the file is missing, is not YAML, is larger than any that a person writes, or
            does not hold a mapping.
    """
    # `pure`: its reader in C, where that is installed, kills the process over brackets that are
    # nested deep enough.
    yaml = YAML(typ="rt") if round_trip else YAML(typ="safe", pure=True)
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is not a file")  # A pipe would be waited for without an end.
        text = path.read_text(encoding="utf-8")
        if len(text) > LONGEST:
            raise UserError(f"{path} has {len(text):,} characters; at most {LONGEST:,} are read")
        if (brackets := text.count("[") + text.count("{")) > MOST_BRACKETS:
            raise UserError(f"{path} has {brackets:,} brackets; at most {MOST_BRACKETS:,} are read")
        if "&" in text and "*" in text and _values(yaml.compose(text), {}) > MOST_VALUES:
            raise UserError(
                f"{path}: its aliases, such as *a, stand for more than {MOST_VALUES:,} values; write these out"
            )
        content = yaml.load(text)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (UserError, OSError):
        raise
    except RecursionError:
        raise UserError(
            f"{path} is not valid YAML: its brackets or lists are nested too deeply"
        ) from None
    except (
        Exception
    ) as error:  # Values that do not fit a tag, as of `!!int ''`, raise nearly every kind.
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold `key: value` lines; it holds {quoted(content)}")
    return content


def _values(node: Any, known: dict[int, float]) -> float:
    """Return how many values a node of YAML stands for, its aliases written out; infinity if it is
    a part of itself.
    """
    if id(node) not in known:
        known[id(node)] = math.inf
        parts = node.value if isinstance(getattr(node, "value", None), list) else []
        inner = [one for part in parts for one in (part if isinstance(part, tuple) else (part,))]
        known[id(node)] = 1 + sum(_values(one, known) for one in inner)
    return known[id(node)]


def check(
    content: Any, schema: type[Schema], where: str, block: str = "", note: str = ""
) -> Schema:
    """Return `content` as a `schema`; raise `UserError` with a line for each value that does not
    fit, and `note` behind it.
    """
    if not isinstance(content, dict):
        raise UserError(
            f"{where}: {block} must be a block with {', '.join(schema.model_fields)}; it is {quoted(content)}"
        )
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        refuse(
            [
                f"{where}: {_explain(dict(problem), block, note, schema)}"
                for problem in error.errors()
            ]
        )
        raise


def _explain(problem: dict, block: str, note: str, schema: type[BaseModel]) -> str:
    # Messages of validators written in this project arrive behind pydantic's own "Value error, ".
    message = problem["msg"].removeprefix("Value error, ")
    name = ".".join(str(part) for part in (block, *problem["loc"]) if part != "")
    match problem["type"]:
        case "extra_forbidden":
            for part in problem["loc"][:-1]:
                schema = schema.model_fields[part].annotation  # type: ignore[assignment]
            return (
                f"{name} is not a parameter here{_nearest(problem['loc'][-1], schema.model_fields)}"
            )
        case "missing":
            return f"{name} is missing"
        case "value_error" if isinstance(problem["input"], dict):
            return (f"{name}: {message}" if name else message) + note
        case _:
            return f"{name} is {quoted(problem['input'])}; {message[0].lower()}{message[1:]}{note}"


def quoted(value: Any) -> str:
    """Return `value` as a short, one-line text for an error message."""
    try:
        text = repr(value)
    except ValueError:
        text = "a number of thousands of digits"
    return text if len(text) <= 80 else text[:77] + "..."
