"""`train.augment` and `features` in params.yaml."""

from pydantic import Field

from stages.base.parameters import Parameters


class AugmentParameters(Parameters):
    """`train.augment` in params.yaml: zero or false switches a change off."""

    orientations: bool
    rotation: float = Field(ge=0, le=180)
    shift: float = Field(ge=0, le=0.5)
    scale: float = Field(ge=0, le=1)
    aspect: float = Field(ge=0, le=1)
    brightness: float = Field(ge=0, lt=1)
    stain: float = Field(ge=0, lt=1)


class FeaturesParameters(Parameters):
    """`features` in params.yaml; 0 for as fits the device."""

    batch_size: int = Field(ge=0, le=65_536)
