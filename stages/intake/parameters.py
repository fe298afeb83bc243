"""`manifest` and `split` in params.yaml."""

from typing import Literal

from pydantic import Field, model_validator

from stages.base.parameters import Parameters


class ManifestParameters(Parameters):
    """`manifest` in params.yaml: what to do with an image that does not open."""

    unreadable: Literal["refuse", "skip"]


# A site left out of three leaves two; their slides make this many folds to validate on.
LEAST_OTHERS = 4


class SplitParameters(Parameters):
    """`split` in params.yaml. Fold `fold` of `folds` is the test set, the fold `validation_offset`
    after it the validation set.

    With `test: none` there is no test set: all folds are for training and, in turn, for validation.
    """

    test: Literal["fold", "none"]
    by: Literal["slide", "site", "image"]
    validation_by: Literal["same", "slide"]
    # Each slide is tried in each fold: of thousands of slides a hundred folds take a minute, a
    # thousand hours.
    folds: int = Field(ge=3, le=100)
    fold: int = Field(ge=0)
    validation_offset: int = Field(ge=1)
    seed: int = Field(ge=0, lt=2**32)

    @model_validator(mode="after")
    def _fold_exists(self) -> "SplitParameters":
        if self.fold >= self.folds:
            raise ValueError(
                f"fold is {self.fold}; with {self.folds} folds it must be from 0 to {self.folds - 1}"
            )
        if self.validation_offset > self.others:
            raise ValueError(
                f"validation_offset is {self.validation_offset}; it must be from 1 to {self.others}"
            )
        if self.test == "none" and self.validation_by == "slide":
            raise ValueError(
                "test is 'none', which leaves no site out: validation_by must be 'same'"
            )
        if self.validation_by == "slide" and self.by == "image":
            raise ValueError("validation_by is 'slide', but by is 'image'; it must be 'same'")
        return self

    @property
    def others(self) -> int:
        """The number of folds beside the test set."""
        if self.test == "none":
            return self.folds
        return self.folds - 1 if self.validation_by == "same" else max(self.folds - 1, LEAST_OTHERS)
