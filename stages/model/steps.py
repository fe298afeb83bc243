"""The names of the model steps: a ladder from one sigmoid neuron to convolutional networks, and pretrained backbones beyond.

Method of the ladder: Wen, Thibeau-Sutre et al., Medical Image Analysis 63:101694, 2020, simplified: begin with `logistic`,
add Dense layers until the model overfits, replace the largest by a convolutional block, and go on until nothing improves.
"""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from stages.base.parameters import Parameters

MOST_BLOCKS, MOST_DENSE = 5, 4
PACKAGED = "efficientnet_lite0"
WEIGHTS, WEIGHTS_NAME = Path("data/weights"), r"[A-Za-z0-9][A-Za-z0-9._-]*"
STEPS = (
    f"logistic, or convC-denseD with C from 0 to {MOST_BLOCKS} and D from 0 to {MOST_DENSE}, such as conv3-dense1, "
    f"or a backbone: {PACKAGED}, or one of keras.applications by its name there, such as EfficientNetV2B0"
)


class ModelParameters(Parameters):
    """`model` in params.yaml."""

    step: str
    conv_filters: int = Field(ge=1, le=1024)
    dense_units: int = Field(ge=1, le=8192)
    batch_norm: bool
    pooling: Literal["max", "average", "none"]
    initializer: Literal["he_normal", "he_uniform", "glorot_normal", "glorot_uniform"]
    weights: str
    trainable: Literal["frozen", "all"] | int = Field(union_mode="left_to_right")
    feature_layers: list[str]
    centre: float = Field(gt=0, le=1)
    jittered_views: int = Field(ge=0, le=1000)

    @field_validator("step")
    @classmethod
    def _known(cls, step: str) -> str:
        if not is_backbone(step):
            parse_step(step)
        return step

    @field_validator("weights")
    @classmethod
    def _named(cls, weights: str) -> str:
        # A dependency of the stages, so that other weights under the same name are other inputs.
        if not re.fullmatch(WEIGHTS_NAME, weights):
            raise ValueError(f"it must be imagenet, none, or the name of a file of weights in {WEIGHTS}/")
        return weights

    @field_validator("trainable")
    @classmethod
    def _blocks(cls, trainable: str | int) -> str | int:
        if isinstance(trainable, int) and trainable < 1:
            raise ValueError("a number of blocks to train must be at least 1; to train none, say frozen")
        return trainable

    @property
    def weights_file(self) -> Path:
        """The file that `weights` names; of `imagenet` and `none` one that says so."""
        return WEIGHTS / self.weights

    @property
    def has_weights_file(self) -> bool:
        """Whether a backbone begins with weights of a file, and not with those that come with it or random ones."""
        return is_backbone(self.step) and self.weights not in ("imagenet", "none")

    @property
    def frozen(self) -> bool:
        """Whether only a head is trained, on features that are computed once."""
        return is_backbone(self.step) and self.trainable == "frozen"


def is_backbone(step: str) -> bool:
    """Return whether a step is a backbone: the packaged one, or one that this version of Keras has."""
    if step == PACKAGED:
        return True
    if not re.fullmatch(r"[A-Z][A-Za-z0-9]+", step):
        return False
    return step in backbone_names()


def parse_step(step: str) -> tuple[int, int]:
    """Return (convolutional blocks, Dense layers) of a rung of the ladder.

    >>> parse_step("logistic"), parse_step("conv3-dense1")
    ((0, 0), (3, 1))

    Raises:
        ValueError: `step` is not a rung.
    """
    if step == "logistic":
        return 0, 0
    match = re.fullmatch(r"conv(\d)-dense(\d)", step)
    if match and int(match[1]) <= MOST_BLOCKS and int(match[2]) <= MOST_DENSE:
        return int(match[1]), int(match[2])
    raise ValueError(f"the steps are {STEPS}")


def step_name(blocks: int, dense_layers: int) -> str:
    """Return the name of a rung.

    >>> step_name(0, 0), step_name(3, 1)
    ('logistic', 'conv3-dense1')
    """
    return f"conv{blocks}-dense{dense_layers}" if blocks or dense_layers else "logistic"


def backbone_names() -> list[str]:
    """Return the names of the backbones that there are: what this version of Keras has, and the packaged one."""
    # Keras takes seconds to import, which the ladder need not wait for.
    from stages.model.backend import keras

    return [PACKAGED, *sorted(name for name in dir(keras.applications) if name[0].isupper())]
