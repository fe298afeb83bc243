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


class Verdict(NamedTuple):
    """A rung, its measure on validation with a 95 % interval, and whether it improves on the best
    rung before it.

    `better` is the share of the draws of slides in which it is the better one; None for the first
    rung.
    """

    rung: Rung
    value: float
    low: float
    high: float
    better: float | None
    improves: bool


def decide(rung: Rung, before: Sequence[Verdict], params: ClimbParameters) -> Verdict:
    """Measure a rung on validation, and compare it with the best one before it on the same draws of
    slides.
    """
    rungs = [rung, best_of(before).rung] if before else [rung]
    whole, drawn = measure_draws(
        [one.pooled for one in rungs], (params.measure,), params.bootstrap, seed=0
    )
    value = whole[0][params.measure]
    span = interval(
        [of_it for draw in drawn[0] if (of_it := draw[params.measure]) is not None],
        params.bootstrap,
    )
    if value is None or span is None:
        raise UserError(
            f"params.yaml: climb.measure {params.measure} is not defined on these validation slides; brier always is"
        )
    if not before:
        return Verdict(rung, value, span["low"], span["high"], None, True)
    sign = MEASURES[params.measure].sign
    better = float(np.mean(sign * np.array(differences(drawn[0], drawn[1], params.measure)) > 0))
    return Verdict(rung, value, span["low"], span["high"], better, better >= params.confidence)


def best_of(decisions: Sequence[Verdict]) -> Verdict:
    """Return the last rung that improved: of those that cannot be told apart, the first."""
    return [decision for decision in decisions if decision.improves][-1]
