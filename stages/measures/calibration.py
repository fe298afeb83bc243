"""Calibration of a model's probabilities: of crops with 0.3, three in ten are sclerotic.

Functions import scikit-learn, because its import takes longer than the fit.
"""

from itertools import pairwise
from typing import Annotated, assert_never

import numpy as np
import scipy
from pydantic import Field, model_validator

from stages.base.errors import UserError
from stages.base.parameters import Parameters
from stages.measures.parameters import Method
from stages.measures.recalibration import Shift

Share = Annotated[float, Field(ge=0, le=1)]
# Probabilities are clipped by this; closer to 0 or 1, the log-odds of float32 would be infinite.
LIMIT = float(np.finfo(np.float32).eps)
LEAST = 1e-30
# The strength of the penalty on Platt's map: it matters only for classes that are fully separated.
WEAK = 1e3
# By how much the log-odds of members are expected to differ: the standard deviation of offsets.
MEMBER_SPREAD = 2.0


def log_odds(probability: np.ndarray | float) -> np.ndarray:
    """Return the log-odds of probabilities, float64, clipped to about -16 and 16."""
    return scipy.special.logit(np.clip(np.asarray(probability, dtype=np.float64), LIMIT, 1 - LIMIT))


def unclipped_log_odds(probability: np.ndarray | float) -> np.ndarray:
    """Return the log-odds of probabilities, float64, as far as float32 tells them apart: from about
    -69 to 17. A map that moves them must not find many alike.
    """
    values = np.asarray(probability, dtype=np.float64)
    return scipy.special.logit(np.clip(values, LEAST, 1 - LIMIT / 2))


class Map(Parameters):
    """The calibration of one model."""

    # slope, offset: `temperature` and `sigmoid` map log-odds to slope x log-odds + offset.
    slope: float = Field(default=1.0, ge=0)
    offset: float = 0.0
    # Not strict, because JSON has lists but no tuples.
    # `isotonic` interpolates these pairs (model's, calibrated), in ascending order.
    points: list[Annotated[tuple[Share, Share], Field(strict=False)]] = Field(default=[])

    def is_by(self, method: Method) -> bool:
        """Return whether this can be a calibration by `method`; `isotonic` must rise."""
        line = (self.slope, self.offset) != (1.0, 0.0)
        match method:
            case "none":
                return not line and not self.points
            case "temperature":
                return self.slope > 0 and self.offset == 0 and not self.points
            case "sigmoid":
                return not self.points
            case "isotonic":
                rises = all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(self.points))
                return bool(self.points) and not line and rises
            case _:
                assert_never(method)

    def __call__(self, y_score: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities, float64 (n,)."""
        y_score = np.asarray(y_score, dtype=np.float64)
        if self.points:
            original, calibrated = zip(*self.points)
            return np.interp(y_score, original, calibrated)
        if (self.slope, self.offset) == (1.0, 0.0):
            return y_score
        return scipy.special.expit(self.slope * log_odds(y_score) + self.offset)


class Calibration(Parameters):
    """A fitted calibration, as models/calibration.json contains it.

    Each member of an ensemble has its own map, fitted to crops that it has not seen; the mean is
    taken of the calibrated probabilities, as in scikit-learn's CalibratedClassifierCV.
    """

    method: Method
    members: list[Map] = Field(min_length=1)  # one for a single model
    local: Shift | None = None  # the further map of another site (`stages.recalibrate`)

    @model_validator(mode="after")
    def _fit_together(self) -> "Calibration":
        if not all(member.is_by(self.method) for member in self.members):
            raise ValueError(
                f"slope, offset and points are not those of a calibration by {self.method}, or do "
                "not rise"
            )
        return self

    def __call__(self, y_score: np.ndarray) -> np.ndarray:
        """Return the calibrated probabilities, float64 (n,), rounded to float32 like the tables.

        Args:
            y_score: the probabilities of the members, float (n, members).

        Raises:
            UserError: this is the calibration of another number of members.
        """
        if y_score.shape[1] != len(self.members):
            raise UserError(
                f"calibration.json: it calibrates {len(self.members)} members, and the model has "
                f"{y_score.shape[1]}; run dvc repro, or copy the model's folder as a whole"
            )
        columns = [member(y_score[:, place]) for place, member in enumerate(self.members)]
        return self._finish(np.mean(columns, axis=0))

    def of_members(self, y_score: np.ndarray, member: np.ndarray) -> np.ndarray:
        """Return the calibrated probabilities of crops that one member each has predicted.

        Args:
            y_score: float (n,).
            member: int (n,), from 0.
        """
        found = np.zeros(len(y_score))
        for number, one in enumerate(self.members):
            found[member == number] = one(y_score[member == number])
        return self._finish(found)

    def _finish(self, y_score: np.ndarray) -> np.ndarray:
        if self.local is not None:
            odds = self.local.slope * unclipped_log_odds(y_score) + self.local.offset
            y_score = scipy.special.expit(odds)
        return y_score.astype(np.float32).astype(np.float64)


def fit_calibration(
    y_true: np.ndarray, y_score: np.ndarray, method: Method, member: np.ndarray | None = None
) -> Calibration:
    """Return a calibration fitted on (validation) images.

    - `temperature` scales the log-odds (Guo et al., ICML 2017); 0.5 stays 0.5.
    - `sigmoid` also shifts them (Platt 1999), which undoes the effect of class weights.
    - `isotonic` is any rising function (Zadrozny and Elkan, KDD 2002). It needs a thousand images
      or more per member, and its steps give many images the same probability.

    The members of an ensemble share the slope of `temperature` and `sigmoid`, because each is
    measured on few images; their offsets differ.

    Args:
        y_true: int (n,).
        y_score: float (n,).
        member: int (n,), from 0, which member of an ensemble predicted each image that it had not
            seen; None for a single model.

    Raises:
        ValueError: a class is missing, except with `none`.
    """
    if method != "none" and len(np.unique(y_true)) < 2:
        raise ValueError(f"the calibration {method} needs images of both classes")
    member = np.zeros(len(y_true), dtype=np.int64) if member is None else member
    number = int(member.max()) + 1
    x = log_odds(y_score)
    match method:
        case "temperature":
            from sklearn.metrics import log_loss

            found = scipy.optimize.minimize_scalar(
                lambda log_slope: log_loss(y_true, scipy.special.expit(np.exp(log_slope) * x)),
                bounds=(-5, 5),
            )
            maps = [Map(slope=float(np.exp(found.x)))] * number
        case "sigmoid":
            maps = _platt(y_true, x, member, number)
        case "isotonic":
            from sklearn.isotonic import IsotonicRegression

            maps = []
            for one in range(number):
                rows = member == one
                fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
                fitted.fit(y_score[rows], y_true[rows])
                points = zip(fitted.X_thresholds_.tolist(), fitted.y_thresholds_.tolist())
                maps.append(Map(points=list(points)))
        case "none":
            maps = [Map()] * number
        case _:
            assert_never(method)
    return Calibration(method=method, members=maps)


def _platt(y_true: np.ndarray, x: np.ndarray, member: np.ndarray, number: int) -> list[Map]:
    """Return a map for each member: a common slope and offset, and its own further offset, which
    is normal with the standard deviation `MEMBER_SPREAD`.
    """
    from sklearn.linear_model import LogisticRegression

    # scikit-learn's penalty is a normal prior of variance C: the columns of the members are scaled.
    size = MEMBER_SPREAD / np.sqrt(WEAK)
    of_members = size * np.eye(number)[member] if number > 1 else np.zeros((len(x), 1))
    columns = np.column_stack([x, of_members])
    model = LogisticRegression(C=WEAK, max_iter=1000).fit(columns, y_true)
    (slope, *further), offset = model.coef_[0].tolist(), float(model.intercept_[0])
    if slope < 0:
        # Never reversed, even if the model is worse than guessing: all have the prevalence.
        return [Map(slope=0.0, offset=float(log_odds(np.mean(y_true))))] * number
    return [Map(slope=slope, offset=offset + size * own) for own in further]
