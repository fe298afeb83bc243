"""`pad` in params.yaml."""

from typing import Literal

from pydantic import Field

from stages.base.parameters import Parameters

Mode = Literal["white", "zero", "edge", "reflect", "mean", "stretch"]


class PadParameters(Parameters):
    """`pad` in params.yaml: how a crop becomes a square of `size` pixels per side."""

    mode: Mode
    size: int = Field(ge=8, le=4096)
