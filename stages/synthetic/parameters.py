"""`demo` in params.yaml."""

from pydantic import Field

from stages.base.parameters import Parameters

SITES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class DemoParameters(Parameters):
    """`demo` in params.yaml: sites, slides per site, and glomeruli per slide (on average)."""

    sites: int = Field(ge=1, le=len(SITES))
    slides: int = Field(ge=1, le=1000)
    glomeruli: int = Field(ge=2, le=1000)
    seed: int = Field(ge=0, lt=2**32)
