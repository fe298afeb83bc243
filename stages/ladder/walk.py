"""The order of the rungs: add Dense layers until one overfits, replace the largest, go on."""

from collections.abc import Callable, Iterator, Sequence

from stages.ladder.decisions import RungDecision, decide
from stages.ladder.parameters import ClimbParameters
from stages.ladder.rungs import Rung
from stages.model.steps import MOST_BLOCKS, MOST_DENSE, parse_step, step_name


def climb(
    visit: Callable[[str, str], Rung], params: ClimbParameters, blocks_possible: int
) -> Iterator[RungDecision]:
    """Walk the ladder and yield the decision on each rung.

    Args:
        visit: trains a step or finds its trainings, from its name and how it was reached.
        blocks_possible: how many convolutional blocks fit the size of the squares.
    """
    decisions: list[RungDecision] = []

    def step(blocks: int, dense_layers: int, reached_by: str) -> RungDecision:
        decisions.append(
            decide(visit(step_name(blocks, dense_layers), reached_by), decisions, params)
        )
        return decisions[-1]

    blocks, dense_layers = 0, 0
    yield step(0, 0, "start")
    while True:
        # There must be a Dense layer for the next round to replace.
        while dense_layers == 0 or (dense_layers < MOST_DENSE and not decisions[-1].rung.overfits):
            dense_layers += 1
            yield step(blocks, dense_layers, "add a Dense layer")
        if blocks == blocks_possible or not improved_in_last_round(decisions):
            return
        blocks, dense_layers = blocks + 1, dense_layers - 1
        yield step(blocks, dense_layers, "replace a Dense layer by a convolution")


def improved_in_last_round(decisions: Sequence[RungDecision]) -> bool:
    """Return whether a rung with as many convolutional blocks as the last one improved."""
    blocks = [parse_step(decision.rung.step)[0] for decision in decisions]
    return any(one.improves for one, number in zip(decisions, blocks) if number == blocks[-1])


def why_it_ended(decisions: Sequence[RungDecision]) -> str:
    """Return why a climb ended with the last of `decisions`."""
    if not improved_in_last_round(decisions):
        return "a whole round without an improvement"
    return f"the ladder ends with {parse_step(decisions[-1].rung.step)[0]} convolutional blocks"


def most_blocks(params: dict) -> int:
    """Return how many convolutional blocks are possible; each halves the squares by its pooling."""
    if params["model"]["pooling"] == "none":
        return MOST_BLOCKS
    return min(MOST_BLOCKS, int(params["pad"]["size"]).bit_length() - 1)
