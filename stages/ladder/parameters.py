"""`climb` in params.yaml."""

from typing import Literal

from pydantic import Field

from stages.base.parameters import Parameters


class ClimbParameters(Parameters):
    """`climb` in params.yaml."""

    validations: int = Field(ge=1)
    seeds: int = Field(ge=1, le=1000)
    last_epochs: int = Field(ge=1)
    gap: float = Field(ge=-1, le=1)
    upturn: float = Field(ge=0)
    measure: Literal["roc_auc", "average_precision", "brier"]
    confidence: float = Field(ge=0.5, le=1)
