"""The model steps: a ladder from one sigmoid neuron to convolutional networks, and backbones.

The ladder follows Wen, Thibeau-Sutre et al., Medical Image Analysis 63:101694, 2020, simplified:
begin with `logistic`, add Dense layers until the model overfits, replace the largest by a
convolutional block, and go on until nothing improves.
"""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from stages.base.parameters import Parameters

MOST_BLOCKS, MOST_DENSE = 5, 4
PACKAGED = "efficientnet_lite0"
ENCODER = "encoder"
# Features that another tool computed: the backbone is not run here.
EMBEDDINGS = "embeddings"
# Begins the name of the layer of an encoder before its last frozen block; the number of patches
# per side follows.
TOKENS = "tokens_of_patches_"
WEIGHTS, WEIGHTS_NAME = Path("data/weights"), r"[A-Za-z0-9][A-Za-z0-9._-]*"
STEPS = (
    f"logistic, or convC-denseD with C from 0 to {MOST_BLOCKS} and D from 0 to {MOST_DENSE}, such "
    f"as conv3-dense1, or a backbone: {PACKAGED}, one of keras.applications by its name there, "
    f"such as EfficientNetV2B0, or {ENCODER}, a pathology encoder in a folder of {WEIGHTS}/, or "
    f"{EMBEDDINGS}, features that another tool computed, in {WEIGHTS}/"
)

# A number counts the last blocks.
Trainable = Literal["frozen", "all"] | int
Tokens = Literal["card", "class", "mean", "class_and_mean"]
# On a GPU, tf32 multiplies with 10 bits of each float32; a CPU computes both alike.
Precision = Literal["float32", "tf32", "bfloat16"]
# How many orientations of a square, beginning with the square as it is.
Views = Literal[1, 2, 4, 8]


class BackboneParameters(Parameters):
    """The part of `model` in params.yaml that describes a backbone."""

    step: str
    weights: str
    trainable: Trainable = Field(union_mode="left_to_right")
    feature_layers: list[str]
    center_fraction: float = Field(gt=0, le=1)
    tokens: Tokens
    precision: Precision

    @field_validator("step")
    @classmethod
    def _known(cls, step: str) -> str:
        if not is_backbone(step):
            parse_step(step)
        return step

    @field_validator("weights")
    @classmethod
    def _named(cls, weights: str) -> str:
        # The file is a dependency of the stages, so that new weights under an old name count.
        if not re.fullmatch(WEIGHTS_NAME, weights):
            raise ValueError(
                "it must be imagenet, none, or the name of a file of weights (of an encoder: a "
                f"folder) in {WEIGHTS}/"
            )
        return weights

    @field_validator("trainable")
    @classmethod
    def _blocks(cls, trainable: str | int) -> str | int:
        if isinstance(trainable, int) and trainable < 1:
            raise ValueError(
                "a number of blocks to train must be at least 1; to train none, say frozen"
            )
        return trainable

    @property
    def is_encoder(self) -> bool:
        """Whether the step is a pathology encoder in a folder."""
        return self.step == ENCODER

    @property
    def is_embeddings(self) -> bool:
        """Whether the step is a head on features that another tool computed."""
        return self.step == EMBEDDINGS

    @property
    def frozen(self) -> bool:
        """Whether only a head is trained, on features that are computed once."""
        return is_backbone(self.step) and self.trainable == "frozen"

    @property
    def has_frozen_part(self) -> bool:
        """Whether models/model.keras leaves out a frozen part, which `join_backbone` adds."""
        return self.frozen or self.is_encoder

    @property
    def has_own_weights(self) -> bool:
        """Whether `weights` names a file or folder of the user's."""
        return self.weights not in ("imagenet", "none")

    @property
    def weights_file(self) -> Path:
        """The file or folder that `weights` names; `imagenet` and `none` have one as well."""
        return WEIGHTS / self.weights


class ModelParameters(BackboneParameters):
    """`model` in params.yaml."""

    conv_filters: int = Field(ge=1, le=1024)
    dense_units: int = Field(ge=1, le=8192)
    batch_norm: bool
    pooling: Literal["max", "average", "none"]
    initializer: Literal["he_normal", "he_uniform", "glorot_normal", "glorot_uniform"]
    views: Views
    jittered_views: int = Field(ge=0, le=1000)
    head: Literal["logistic", "knn"]

    @model_validator(mode="after")
    def _fit_together(self) -> "ModelParameters":
        if self.is_encoder and not self.has_own_weights:
            raise ValueError(
                f"with step {ENCODER}, weights must be the name of a folder in {WEIGHTS}/; "
                f"it is {self.weights!r}"
            )
        if self.is_embeddings and not self.has_own_weights:
            raise ValueError(
                f"with step {EMBEDDINGS}, weights must be the name of a file or folder of features "
                f"in {WEIGHTS}/; it is {self.weights!r}"
            )
        if self.is_embeddings and (self.trainable, self.feature_layers) != ("frozen", []):
            raise ValueError(
                f"with step {EMBEDDINGS}, trainable must be frozen and feature_layers []: another "
                "tool computed the features"
            )
        if self.is_embeddings and (self.jittered_views, self.precision) != (0, "float32"):
            raise ValueError(
                f"with step {EMBEDDINGS}, jittered_views must be 0 and precision float32: each "
                "crop has one view, which another tool computed"
            )
        if self.is_encoder and self.feature_layers:
            raise ValueError(
                f"with step {ENCODER}, feature_layers must be []; `tokens` chooses the features"
            )
        if self.precision == "bfloat16" and not (self.is_encoder and self.frozen):
            raise ValueError(
                "precision bfloat16 is for a frozen encoder; otherwise it must be float32 or tf32"
            )
        if self.head != "logistic" and not self.frozen:
            raise ValueError(
                f"head {self.head} is for a frozen backbone, whose features are computed once; "
                "otherwise leave it logistic"
            )
        if self.views != 8 and (self.is_embeddings or not self.frozen):
            raise ValueError(
                f"views {self.views} is for features computed here by a frozen backbone; otherwise "
                "leave it 8"
            )
        if self.precision != "float32" and not is_backbone(self.step):
            raise ValueError(f"precision is that of backbones; with {self.step} leave it float32")
        if not self.is_encoder and self.tokens != "card":
            raise ValueError(f"tokens are those of step {ENCODER}; with {self.step} leave it card")
        return self

    @property
    def own_weights(self) -> list[Path]:
        """The files in data/weights/ with a backbone's weights, or with embeddings; none for
        `imagenet` and `none`.
        """
        if not (is_backbone(self.step) and self.has_own_weights):
            return []
        if self.is_embeddings:
            return sorted(file for file in self.weights_file.rglob("*") if file.is_file()) or [
                self.weights_file
            ]
        folder = self.is_encoder and self.weights_file.is_dir()
        files = self.weights_file.iterdir() if folder else [self.weights_file]
        # Downloaded folders often hold other folders, such as .cache.
        return sorted(file for file in files if not file.is_dir())

    def of_features(self, augment: Parameters) -> dict[str, Any]:
        """Return the parameters that the features of a frozen backbone depend on.

        Args:
            augment: `train.augment`, which matters only to jittered views.
        """
        changes = augment.model_dump() if self.jittered_views else None
        names = {*BackboneParameters.model_fields, "views", "jittered_views"}
        return self.model_dump(include=names) | {"augment": changes}


def is_backbone(step: str) -> bool:
    """Return whether a head follows features: of a backbone, packaged, in a folder or of the
    installed Keras, or of another tool.
    """
    if step in (PACKAGED, ENCODER, EMBEDDINGS):
        return True
    return bool(re.fullmatch(r"[A-Z][A-Za-z0-9]+", step)) and step in backbone_names()


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
    """Return the names of all steps with a backbone: `encoder`, `embeddings` and single ones."""
    # Importing Keras takes seconds, so its list of names is read from its source.
    found = find_spec("keras")
    if found is None or found.origin is None:
        raise ImportError("keras is not installed")
    text = (Path(found.origin).parent / "applications/__init__.py").read_text(encoding="utf-8")
    return [PACKAGED, ENCODER, EMBEDDINGS, *sorted(set(re.findall(r"\b([A-Z]\w+) as \1\b", text)))]
