"""The walk over the rungs: add Dense layers until it overfits, replace the largest by a
convolutional block, go on.
"""

from collections.abc import Callable, Iterator, Sequence

from stages.ladder.decisions import Verdict, decide
from stages.ladder.parameters import ClimbParameters
from stages.ladder.rungs import Rung
from stages.model.steps import MOST_BLOCKS, MOST_DENSE, parse_step, step_name


def climb(
    visit: Callable[[str, str], Rung], params: ClimbParameters, blocks_possible: int
) -> Iterator[Verdict]:
    """Walk the ladder and yield what was decided on each rung, in the order of the walk.

    Args:
        visit: trains a step or finds its trainings; called with the name of the step and how it was
            reached.
        blocks_possible: how many convolutional blocks fit the size of the squares.
    """
    decisions: list[Verdict] = []

    def step(blocks: int, dense_layers: int, reached_by: str) -> Verdict:
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


def improved_in_last_round(decisions: Sequence[Verdict]) -> bool:
    """Return whether a rung with as many convolutional blocks as the last one improved."""
    blocks = [parse_step(decision.rung.step)[0] for decision in decisions]
    return any(
        decision.improves for decision, of_it in zip(decisions, blocks) if of_it == blocks[-1]
    )


def why_it_ended(decisions: Sequence[Verdict]) -> str:
    """Say in words why a climb ended with the last of `decisions`."""
    if not improved_in_last_round(decisions):
        return "a whole round without an improvement"
    return f"the ladder ends with {parse_step(decisions[-1].rung.step)[0]} convolutional blocks"


def most_blocks(params: dict) -> int:
    """Return how many convolutional blocks there can be: each halves the picture, where there is
    pooling.
    """
    if params["model"]["pooling"] == "none":
        return MOST_BLOCKS
    return min(MOST_BLOCKS, int(params["pad"]["size"]).bit_length() - 1)
