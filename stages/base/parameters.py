"""Read YAML (params.yaml and dataset cards) and check it against a schema.

ruamel.yaml is also what DVC reads params.yaml with, so both agree on YAML 1.2: `1e-3` is a number,
`no` is text, and a repeated key is an error.
"""

import math
import sys
from collections.abc import Iterable
from copy import deepcopy
from difflib import get_close_matches
from functools import cache, lru_cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML

from stages.base.errors import UserError, one_line, refuse

# Characters, values with all aliases expanded, and brackets: far more than any card or params.yaml
# has.
LONGEST, MOST_VALUES, MOST_BRACKETS = 200_000, 10_000, 1_000
OF_PROJECT = "; start the command in the folder of the project, which has it"
# `dvc exp run -S` writes into params.yaml, and leaves there what was refused.
STAYS = " (params.yaml keeps it until you change it)"
DatasetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
# The module with the schemas of all blocks. No stage depends on it; see `refuse_wrong`.
WHOLE = "stages.parameters.whole"


class Parameters(BaseModel):
    """A block of parameters: refuses unknown keys, other types and numbers that are not finite."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class _Data(Parameters):
    data: DatasetName


Schema = TypeVar("Schema", bound=Parameters)


def read_params(block: str, schema: type[Schema], path: str | Path = "params.yaml") -> Schema:
    """Return a block of params.yaml (`train.augment` is a block in a block) as a `schema`.

    Raises:
        UserError: the file cannot be read, or any parameter is unknown, missing, of another type
            or out of range. Other blocks are checked too: the stage that reads them would
            otherwise fail after hours of earlier stages.
    """
    params: Any = read_yaml(path)
    refuse_wrong(params, path)
    for name in block.split("."):
        params = params[name]
    return check(params, schema, str(path), block, STAYS)


def read_dataset_name(path: str | Path = "params.yaml") -> str:
    """Return `data` of params.yaml: the name of a folder in data/, never a path elsewhere."""
    params = read_yaml(path)
    refuse_wrong(params, path)
    return check({"data": params["data"]}, _Data, str(path), note=STAYS).data


def refuse_wrong(params: dict, path: str | Path, note: str = STAYS) -> None:
    """Raise `UserError` for everything that is wrong in the parameters of any block.

    The schemas are imported by name and forgotten. They only refuse, so they are not part of what
    a stage computes: an edit of one block's schema, or a new block, reruns no stage that reads
    another block, and no model card lists their code.
    """
    _schemas_of_all_blocks().refuse_wrong(params, str(path), note)


@cache
def _schemas_of_all_blocks() -> ModuleType:
    before = set(sys.modules)
    try:
        return import_module(WHOLE)
    finally:
        for name in set(sys.modules) - before:
            if name.startswith("stages."):
                del sys.modules[name]


def read_yaml(path: str | Path, round_trip: bool = False) -> dict:
    """Return the mapping in a YAML file.

    Args:
        round_trip: return a mapping that knows the line of each key (`.lc`).

    Raises:
        UserError: the file is missing, is not YAML, is larger than any that a person writes, or
            does not hold a mapping.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is not a file")  # Reading a pipe could block forever.
        text = path.read_text(encoding="utf-8")
        if len(text) > LONGEST:
            raise UserError(f"{path} has {len(text):,} characters; at most {LONGEST:,} are read")
        if (brackets := text.count("[") + text.count("{")) > MOST_BRACKETS:
            raise UserError(f"{path} has {brackets:,} brackets; at most {MOST_BRACKETS:,} are read")
        if "&" in text and "*" in text and _values(_yaml("safe").compose(text), {}) > MOST_VALUES:
            expanded = f"its aliases, such as *a, stand for more than {MOST_VALUES:,} values"
            raise UserError(f"{path}: {expanded}; write them out")
        content = _yaml("rt").load(text) if round_trip else deepcopy(_load(text))
    except FileNotFoundError:
        where = OF_PROJECT if path.name in ("params.yaml", "dvc.yaml") else ""
        raise UserError(f"{path} does not exist{where}") from None
    except (UserError, OSError):
        raise
    except RecursionError:
        raise UserError(f"{path} is not valid YAML: its brackets are nested too deeply") from None
    except Exception as error:  # A value that does not fit its tag (`!!int ''`) can raise anything.
        raise UserError(f"{path} is not valid YAML: {one_line(error)}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold `key: value` lines; it holds {quoted(content)}")
    return content


def _yaml(kind: str) -> YAML:
    # `pure`: the C reader, where it is installed, crashes the process on deeply nested brackets.
    return YAML(typ=kind, pure=True)


@lru_cache(maxsize=4)
def _load(text: str) -> Any:
    """Parse YAML once, although a stage reads params.yaml for each of its blocks."""
    return _yaml("safe").load(text)


def _values(node: Any, known: dict[int, float]) -> float:
    """Count the values of a YAML node, aliases expanded; infinity if it contains itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        parts = node.value if isinstance(getattr(node, "value", None), list) else []
        inner = [one for part in parts for one in (part if isinstance(part, tuple) else (part,))]
        known[id(node)] = 1 + sum(_values(one, known) for one in inner)
    return known[id(node)]


def check(
    content: Any, schema: type[Schema], where: str, block: str = "", note: str = ""
) -> Schema:
    """Return `content` as a `schema`.

    Args:
        where: the file, for error messages; `note` is appended to them.

    Raises:
        UserError: a line for each value that does not fit.
    """
    if not isinstance(content, dict):
        fields = ", ".join(schema.model_fields)
        found = quoted(content)
        raise UserError(f"{where}: {block} must be a block with {fields}; it is {found}")
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        problems = [_explain(dict(problem), block, note, schema) for problem in error.errors()]
        refuse([f"{where}: {problem}" for problem in problems])
        raise


def _explain(problem: dict, block: str, note: str, schema: type[BaseModel]) -> str:
    # Messages of this project's own validators come with pydantic's prefix "Value error, ".
    message = problem["msg"].removeprefix("Value error, ")
    name = ".".join(str(part) for part in (block, *problem["loc"]) if part != "")
    match problem["type"]:
        case "extra_forbidden":
            for part in problem["loc"][:-1]:
                schema = schema.model_fields[part].annotation  # type: ignore[assignment]
            return f"{name} is not a parameter here; {_nearest(problem['loc'][-1], schema)}"
        case "missing":
            return f"{name} is missing"
        case "value_error" if isinstance(problem["input"], dict):
            return (f"{name}: {message}" if name else message) + note
        case _:
            return f"{name} is {quoted(problem['input'])}; {message[0].lower()}{message[1:]}{note}"


def _nearest(name: object, schema: type[BaseModel]) -> str:
    known: Iterable[str] = schema.model_fields
    found = get_close_matches(str(name), list(known), n=1)
    return f"did you mean {found[0]}?" if found else f"there are {', '.join(known)}"


def quoted(value: Any) -> str:
    """Return `value` as a short, one-line text for an error message."""
    try:
        text = repr(value)
    except ValueError:
        text = "a number of thousands of digits"
    return text if len(text) <= 80 else text[:77] + "..."
