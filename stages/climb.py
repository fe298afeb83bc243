"""Climb the ladder of model steps: add Dense layers until the model overfits, then convolutions.

    python -m stages.climb
    python -m stages.climb -S data=aidpath -S climb.validations=2

Method: Wen, Thibeau-Sutre et al., Medical Image Analysis 63:101694, 2020, simplified. It begins
with `logistic`, adds a Dense layer, and another, until the model overfits or has four. Then a
round: the largest Dense layer is replaced by a convolutional block, and layers are added again. The
climb ends with a whole round without an improvement. `climb` in params.yaml defines when a rung
overfits, and when it improves on the best before it.

Each rung is a DVC experiment for each validation fold and seed, named after its step. Experiments
that have run are not run again, so an interrupted climb continues. It decides by validation slides
and does not use the test fold. Writes climb.md, climb.csv and climb.png into the folder --output.
"""

import sys

from stages.base.arguments import add_output, argument_parser
from stages.base.errors import run_program
from stages.base.files import refuse_outputs, replacing
from stages.base.parameters import check
from stages.experiments.commands import find_repository, refuse_unfit_paths
from stages.experiments.settings import params_with
from stages.ladder.chart import draw_climb
from stages.ladder.decisions import RungDecision, best_of
from stages.ladder.page import climb_table, describe, write_decisions
from stages.ladder.parameters import ClimbParameters
from stages.ladder.rungs import Trainings
from stages.ladder.walk import climb, most_blocks, why_it_ended

WRITTEN = ("climb.md", "climb.csv", "climb.png")


def main() -> None:
    parser = argument_parser(__doc__)
    add, how = parser.add_argument, "as in `dvc exp run`"
    add("-S", "--set-param", action="append", default=[], metavar="NAME=VALUE", help=how)
    add_output(parser, "climb")
    arguments = parser.parse_args()
    output = arguments.output
    refuse_outputs({str(output / name): output / name for name in WRITTEN})
    refuse_unfit_paths(".")
    find_repository(whole=True)
    wanted = params_with(arguments.set_param)
    params = check(wanted["climb"], ClimbParameters, "params.yaml", "climb")
    trainings = Trainings(arguments.set_param, params)
    decisions: list[RungDecision] = []
    for decision in climb(trainings.rung, params, most_blocks(wanted)):
        decisions.append(decision)
        print(describe(decision, params), flush=True)
    print(f"-> {why_it_ended(decisions)}: the climb ends", flush=True)
    best = best_of(decisions).rung
    text = (
        f"{climb_table(decisions, params)}\nThe best rung is {best.step}: "
        f"`dvc exp apply {best.experiments[0]}` adopts it.\n"
    )
    print(f"\n{text}")
    with replacing(output / "climb.md") as file:
        file.write(text)
    write_decisions(output / "climb.csv", decisions)
    draw_climb(output / "climb.png", decisions, params)
    print(f"written to {output}/", file=sys.stderr)


if __name__ == "__main__":
    run_program(main)
