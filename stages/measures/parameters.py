"""`evaluate` in params.yaml."""

from typing import Literal

from pydantic import Field

from stages.base.parameters import Parameters

Method = Literal["none", "temperature", "sigmoid", "isotonic"]


Rule = Literal["fixed", "youden", "balanced", "sensitivity"]


class EvaluateParameters(Parameters):
    """`evaluate` in params.yaml."""

    calibration: Method
    threshold: Rule
    target: float = Field(gt=0, le=1)
    uncertain: float = Field(ge=0, lt=1)
    bootstrap: int = Field(ge=0, le=1_000_000)
    trained_on: Literal["leave_out", "refuse"]
    # No dot: of data/keys/a.dvc, DVC's note of the key a, git shows the content.
    pseudonyms: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    seed: int = Field(ge=0, lt=2**32)
