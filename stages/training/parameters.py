"""`train` in params.yaml."""

from typing import Literal, assert_never

from pydantic import Field

from stages.base.parameters import Parameters
from stages.model.parameters import AugmentParameters


class TrainParameters(Parameters):
    """`train` in params.yaml."""

    epochs: int = Field(ge=1, le=100_000)
    batch_size: int = Field(ge=1, le=65_536)
    learning_rate: float = Field(gt=0, le=10)
    weight_decay: float = Field(ge=0, le=1)
    dropout: float = Field(ge=0, lt=1)
    augment: AugmentParameters
    class_weight: Literal["none", "balanced"]
    head_penalty: float = Field(gt=0, le=1e9)
    backbone_learning_rate_factor: float = Field(gt=0, le=1)
    patience: int = Field(ge=1)
    ensemble: bool
    test_time_augmentation: bool
    resume: bool
    seed: int = Field(ge=0, lt=2**32)

    @property
    def is_balanced(self) -> bool:
        """Whether both classes get the same total weight."""
        match self.class_weight:
            case "none":
                return False
            case "balanced":
                return True
            case _:
                assert_never(self.class_weight)
