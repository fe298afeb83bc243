"""`calibrate` and `evaluate` in params.yaml."""

from typing import Literal

from pydantic import Field

from stages.base.parameters import Parameters

Method = Literal["none", "temperature", "sigmoid", "isotonic"]
Rule = Literal["fixed", "youden", "balanced", "sensitivity", "assured_sensitivity"]


class CalibrateParameters(Parameters):
    """`calibrate` in params.yaml."""

    method: Method
    threshold_rule: Rule
    target_sensitivity: float = Field(gt=0, le=1)
    max_error_rate: float = Field(ge=0, lt=1)


class EvaluateParameters(Parameters):
    """`evaluate` in params.yaml."""

    prevalence: float = Field(ge=0, lt=1)
    trained_on: Literal["leave_out", "refuse"]
    # Without a dot: git does not ignore data/keys/a.dvc, so it would publish a key of that name.
    pseudonyms: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
