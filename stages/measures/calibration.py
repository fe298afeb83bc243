"""Calibration of a model's probabilities: of crops with 0.3, three in ten are sclerotic.

Functions import scikit-learn, because its import takes longer than the fit.
"""

from itertools import pairwise
from typing import Annotated, assert_never

import numpy as np
import scipy
from pydantic import Field, model_validator

from stages.base.parameters import Parameters
from stages.measures.parameters import Method
from stages.measures.recalibration import Shift

Share = Annotated[float, Field(ge=0, le=1)]
# Probabilities are clipped by this; closer to 0 or 1, the log-odds of float32 would be infinite.
LIMIT = float(np.finfo(np.float32).eps)


def log_odds(probability: np.ndarray | float) -> np.ndarray:
    """Return the log-odds of probabilities, float64, clipped to about -16 and 16."""
    return scipy.special.logit(np.clip(np.asarray(probability, dtype=np.float64), LIMIT, 1 - LIMIT))


class Calibration(Parameters):
    """A fitted calibration, as models/calibration.json contains it.

    Attributes:
        slope, offset: `temperature` and `sigmoid` map log-odds to slope x log-odds + offset.
        points: `isotonic` interpolates these pairs (model's, calibrated), in ascending order.
        local: the further map of another site (`stages.recalibrate`).
    """

    method: Method
    slope: float = Field(default=1.0, ge=0)
    offset: float = 0.0
    # Not strict, because JSON has lists but no tuples.
    points: list[Annotated[tuple[Share, Share], Field(strict=False)]] = Field(default=[])
    local: Shift | None = None

    @model_validator(mode="after")
    def _fit_together(self) -> "Calibration":
        line = (self.slope, self.offset) != (1.0, 0.0)
        match self.method:
            case "none":
                fits = not line and not self.points
            case "temperature":
                fits = self.slope > 0 and self.offset == 0 and not self.points
            case "sigmoid":
                fits = not self.points
            case "isotonic":
                steps = list(pairwise(self.points))
                fits = (
                    bool(self.points)
                    and not line
                    and all(a[0] < b[0] and a[1] <= b[1] for a, b in steps)
                )
            case _:
                assert_never(self.method)
        if not fits:
            raise ValueError(
                f"slope, offset and points are not those of a calibration by {self.method}, or do "
                "not rise"
            )
        return self

    def __call__(self, y_score: np.ndarray) -> np.ndarray:
        """Return the calibrated probabilities, float64 (n,), rounded to float32 like the tables."""
        y_score = np.asarray(y_score, dtype=np.float64)
        if self.method == "isotonic":
            original, calibrated = zip(*self.points)
            y_score = np.interp(y_score, original, calibrated)
        elif self.method != "none":
            y_score = scipy.special.expit(self.slope * log_odds(y_score) + self.offset)
        if self.local is not None:
            y_score = scipy.special.expit(self.local.slope * log_odds(y_score) + self.local.offset)
        return y_score.astype(np.float32).astype(np.float64)


def fit_calibration(y_true: np.ndarray, y_score: np.ndarray, method: Method) -> Calibration:
    """Return a calibration fitted on (validation) images.

    - `temperature` scales the log-odds (Guo et al., ICML 2017); 0.5 stays 0.5.
    - `sigmoid` also shifts them (Platt 1999), which undoes the effect of class weights.
    - `isotonic` is any rising function (Zadrozny and Elkan, KDD 2002). It needs a thousand images
      or more, and its steps give many images the same probability.

    Raises:
        ValueError: a class is missing, except with `none`.
    """
    if method != "none" and len(np.unique(y_true)) < 2:
        raise ValueError(f"the calibration {method} needs images of both classes")
    x = log_odds(y_score)
    match method:
        case "temperature":
            from sklearn.metrics import log_loss

            found = scipy.optimize.minimize_scalar(
                lambda log_slope: log_loss(y_true, scipy.special.expit(np.exp(log_slope) * x)),
                bounds=(-5, 5),
            )
            return Calibration(method=method, slope=float(np.exp(found.x)))
        case "sigmoid":
            from sklearn.linear_model import LogisticRegression

            # Regularized so little that it matters only for classes that are fully separated.
            model = LogisticRegression(C=1e3, max_iter=1000).fit(x[:, None], y_true)
            # Never reversed, even if the model is worse than guessing.
            return Calibration(
                method=method,
                slope=max(0.0, float(model.coef_[0, 0])),
                offset=float(model.intercept_[0]),
            )
        case "isotonic":
            from sklearn.isotonic import IsotonicRegression

            fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(y_score, y_true)
            points = list(zip(fitted.X_thresholds_.tolist(), fitted.y_thresholds_.tolist()))
            return Calibration(method=method, points=points)
        case "none":
            return Calibration(method="none")
        case _:
            assert_never(method)
