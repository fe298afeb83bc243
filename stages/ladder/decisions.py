"""Whether a rung improves on the best before it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stages.base.errors import UserError
from stages.ladder.parameters import ClimbParameters
from stages.ladder.rungs import Rung
from stages.measures.pooled import differences, measure_draws
from stages.measures.resampling import interval
from stages.measures.scores import MEASURES


class RungDecision(NamedTuple):
    """A rung's measure on validation, and whether it improves on the best rung before it.

    Attributes:
        low, high: the 95 % interval of `value`.
        better: the share of the draws of slides in which it is better; None for the first rung.
    """

    rung: Rung
    value: float
    low: float
    high: float
    better: float | None
    improves: bool


def decide(rung: Rung, before: Sequence[RungDecision], params: ClimbParameters) -> RungDecision:
    """Measure a rung on validation, and compare it with the best before it on the same draws."""
    rungs = [rung, best_of(before).rung] if before else [rung]
    whole, drawn = measure_draws(
        [one.pooled for one in rungs], (params.measure,), params.bootstrap, seed=0
    )
    value = whole[0][params.measure]
    span = interval(
        [one for draw in drawn[0] if (one := draw[params.measure]) is not None],
        params.bootstrap,
    )
    if value is None or span is None:
        raise UserError(
            f"params.yaml: climb.measure {params.measure} is not defined on these validation "
            "slides; brier always is"
        )
    if not before:
        return RungDecision(rung, value, span["low"], span["high"], None, True)
    sign = MEASURES[params.measure].sign
    better = float(np.mean(sign * np.array(differences(drawn[0], drawn[1], params.measure)) > 0))
    return RungDecision(rung, value, span["low"], span["high"], better, better >= params.confidence)


def best_of(decisions: Sequence[RungDecision]) -> RungDecision:
    """Return the last rung that improved."""
    return [decision for decision in decisions if decision.improves][-1]
