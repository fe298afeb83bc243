"""Parameters of experiments by dotted names: as text, with changes, and as a grid."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.base.errors import UserError, one_line
from stages.base.parameters import read_yaml, refuse_wrong

Value = str | float | None
# Parameters that do not make a model better or worse.
IRRELEVANT = (
    "train.resume",
    "manifest.unreadable",
    "evaluate.prevalence",
    "evaluate.pseudonyms",
    "climb.",
    "external",
)


def parse_yaml(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


@cache
def parse_stages(text: str) -> dict[str, dict]:
    """Return the stages in the text of a dvc.lock or dvc.yaml.

    The parser is the one in C by which DVC reads both, several times as fast.
    """
    stages: dict[str, dict] = YAML(typ="safe").load(text)["stages"]
    return stages


def params_with(overrides: Sequence[str] = ()) -> dict:
    """Return params.yaml with some parameters changed, each `block.key=value`.

    Raises:
        UserError: there is no such parameter, or one is wrong.
    """
    params = read_yaml("params.yaml")
    for override in overrides:
        name, _, value = override.partition("=")
        *blocks, key = name.split(".")
        block: Any = params
        for part in blocks:
            block = block.get(part) if isinstance(block, dict) else None
        if not isinstance(block, dict) or key not in block:
            raise UserError(f"{override}: {name} is not a parameter of params.yaml")
        block[key] = parse_yaml(value)
    where = f"params.yaml with {' '.join(overrides)}" if overrides else "params.yaml"
    refuse_wrong(params, where, note="")
    return params


def flatten(params: dict, prefix: str = "") -> dict[str, Value]:
    """Return nested parameters by dotted names: {"split": {"fold": 0}} as {"split.fold": 0}."""
    flat: dict[str, Value] = {}
    for key, value in params.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = join_list(value)
    return flat


def join_list(value: Any) -> Value:
    return str([*value]) if isinstance(value, list) else value


def as_yaml(value: Value) -> str:
    """Return a parameter as in params.yaml; DVC returns numbers as floats and booleans as text."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        # All digits: seeds 1234567 and 1234568 differ.
        return str(int(value)) if float(value).is_integer() else repr(float(value))
    return {"True": "true", "False": "false"}.get(str(value), str(value))


def read_values(text: str, option: str) -> list[str]:
    """Return the values in a list such as `white,64` or `['a','b'],0.5`, each by `as_yaml`.

    Raises:
        UserError: it is not a list in YAML.
    """
    try:
        values = parse_yaml(f"[{text}]")
    except YAMLError as error:
        raise UserError(f"{option} {text} is not a list of values: {one_line(error)}") from None
    return [as_yaml(join_list(value)) for value in values]


def grid(overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """Return all combinations of parameters, each a tuple of `name=value`.

    They are in the order of `dvc exp run --queue`.

    Raises:
        UserError: there is no such parameter, or its values are invalid.
    """
    from dvc.utils.hydra import get_hydra_sweeps

    try:
        sweeps = get_hydra_sweeps({"params.yaml": list(overrides)})
        combinations = [tuple(one["params.yaml"]) for one in sweeps]
    except Exception as error:  # Hydra and its parser raise many kinds.
        raise UserError(f"-S {' '.join(overrides)}: {one_line(error)}") from None
    for one in combinations:
        params_with(one)
    return combinations
