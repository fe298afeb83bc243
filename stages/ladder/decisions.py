"""Whether a rung improves on the best before it."""

from collections.abc import Sequence
from typing import NamedTuple

from stages.base.errors import UserError
from stages.ladder.parameters import ClimbParameters
from stages.ladder.rungs import Rung
from stages.measures.intervals import difference, estimate
from stages.measures.scores import WITHIN_FOLDS, sign


class RungDecision(NamedTuple):
    """A rung's measure on validation, and whether it improves on the best rung before it."""

    rung: Rung
    value: float
    # low, high: the 95 % interval of `value`, over slides.
    low: float
    high: float
    better: float | None  # the confidence that it is better, from 0 to 1; None for the first rung
    improves: bool


def decide(rung: Rung, before: Sequence[RungDecision], params: ClimbParameters) -> RungDecision:
    """Measure a rung on validation, and compare it with the best before on the same slides.

    ROC AUC is that of the pairs of one validation fold, as each fold has its own model.
    """
    name = WITHIN_FOLDS if params.measure == "roc_auc" else params.measure
    found = estimate(name, rung.pooled)
    if found.value is None or found.low is None or found.high is None:
        raise UserError(
            f"params.yaml: climb.measure {params.measure} has no interval on these validation "
            f"slides ({found.reason}); more climb.validations or fewer split.folds give more slides"
        )
    if not before:
        return RungDecision(rung, found.value, found.low, found.high, None, True)
    higher = difference(name, rung.pooled, best_of(before).rung.pooled).higher
    assert higher is not None  # Each of the two has an interval.
    better = higher if sign(name) == 1 else 1 - higher
    improves = better >= params.confidence
    return RungDecision(rung, found.value, found.low, found.high, better, improves)


def best_of(decisions: Sequence[RungDecision]) -> RungDecision:
    """Return the last rung that improved."""
    return [decision for decision in decisions if decision.improves][-1]
