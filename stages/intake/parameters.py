"""`manifest` and `split` in params.yaml."""

from typing import Any, Literal, assert_never

from pydantic import Field, field_validator, model_validator

from stages.base.parameters import Parameters
from stages.intake.readers import Consensus


class ManifestParameters(Parameters):
    """`manifest` in params.yaml.

    Attributes:
        unreadable: what to do with an image that does not open.
        consensus: how the labels of several readers become one, see `Consensus.parse`.
    """

    unreadable: Literal["refuse", "skip"]
    consensus: Literal["majority", "agreement"] | str

    @field_validator("consensus", mode="before")
    @classmethod
    def _is_a_rule(cls, rule: Any) -> Any:
        Consensus.parse(rule)
        return rule

    @property
    def rule(self) -> Consensus:
        """`consensus` as a rule."""
        return Consensus.parse(self.consensus)

    @property
    def skips_unreadable(self) -> bool:
        """Whether such an image is skipped and listed, instead of ending the stage."""
        match self.unreadable:
            case "refuse":
                return False
            case "skip":
                return True
            case _:
                assert_never(self.unreadable)


# One of three sites left out leaves two; their slides make this many folds to validate on.
LEAST_OTHERS = 4


class SplitParameters(Parameters):
    """`split` in params.yaml: fold `fold` of `folds` is the test set.

    The fold `validation_offset` after it is the validation set. With `test: none` there is no test
    set, and with `test: locked` it is what the dataset's card locks: all folds are then for
    training and, in turn, for validation.

    Attributes:
        kept_folds: a table in data/ of the folds of earlier slides, or `none`.
    """

    test: Literal["fold", "none", "locked"]
    by: Literal["slide", "site", "image"]
    validation_by: Literal["same", "slide"]
    # Each slide is tried in each fold: for thousands of slides a hundred folds take a minute, a
    # thousand take hours.
    folds: int = Field(ge=3, le=100)
    fold: int = Field(ge=0)
    validation_offset: int = Field(ge=1)
    seed: int = Field(ge=0, lt=2**32)
    kept_folds: str = Field(pattern=r"^(none|[A-Za-z0-9][A-Za-z0-9._-]*\.folds\.csv)$")

    @model_validator(mode="after")
    def _fold_exists(self) -> "SplitParameters":
        if self.fold >= self.folds:
            last = self.folds - 1
            raise ValueError(
                f"fold is {self.fold}; with {self.folds} folds it must be from 0 to {last}"
            )
        if self.validation_offset > self.others:
            given = f"validation_offset is {self.validation_offset}"
            raise ValueError(f"{given}; it must be from 1 to {self.others}")
        if not self.tests_a_fold and self.validation_by == "slide":
            raise ValueError(
                f"test is {self.test!r}, which leaves no site out: validation_by must be 'same'"
            )
        if self.validation_by == "slide" and self.by == "image":
            raise ValueError("validation_by is 'slide', but by is 'image'; it must be 'same'")
        return self

    @property
    def tests_a_fold(self) -> bool:
        """Whether a fold is the test set."""
        match self.test:
            case "fold":
                return True
            case "none" | "locked":
                return False
            case _:
                assert_never(self.test)

    @property
    def has_test(self) -> bool:
        """Whether there is a test set."""
        return self.test != "none"

    @property
    def others(self) -> int:
        """The number of folds besides the test set."""
        if not self.tests_a_fold:
            return self.folds
        match self.validation_by:
            case "same":
                return self.folds - 1
            case "slide":
                return max(self.folds - 1, LEAST_OTHERS)
            case _:
                assert_never(self.validation_by)

    @property
    def has_inner_slides(self) -> bool:
        """Whether train and validation are split by slide, but the test set by site."""
        return self.by == "site" and self.validation_by == "slide"
