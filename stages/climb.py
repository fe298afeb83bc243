"""Climb the ladder of model steps: add Dense layers until it overfits, replace the largest by a
convolution, go on.

    python -m stages.climb
    python -m stages.climb -S data=aidpath -S climb.validations=2

Method: Wen, Thibeau-Sutre et al., Medical Image Analysis 63:101694, 2020, simplified. It begins
with `logistic`, adds a Dense layer, and another, until the model overfits or has four. Then a
round: the largest Dense layer is replaced by a convolutional block, and layers are added again. The
climb ends with a whole round that brings no improvement. When a rung overfits, and when it improves
on the best so far, is said by `climb` in params.yaml.

Each rung is a DVC experiment for each validation fold and seed, named after its step. What has run
is not run again: a climb that was interrupted goes on where it was. It decides by validation slides
and does not look at the test fold. Writes climb.md, climb.csv and climb.png into the folder
--output.
"""

import sys
from pathlib import Path

from stages.base.arguments import argument_parser, output_folder
from stages.base.errors import run_program
from stages.base.files import refuse_outputs, replacing
from stages.base.parameters import check
from stages.experiments.commands import find_repository, refuse_unfit_paths
from stages.experiments.settings import flatten, params_with
from stages.ladder.chart import draw
from stages.ladder.decisions import Verdict, best_of
from stages.ladder.page import say, table, write_decisions
from stages.ladder.parameters import ClimbParameters
from stages.ladder.rungs import Trainings
from stages.ladder.walk import climb, most_blocks, why_it_ended

WRITTEN = ("climb.md", "climb.csv", "climb.png")


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument(
        "-S",
        "--set-param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="as in `dvc exp run`",
    )
    parser.add_argument(
        "--output",
        type=output_folder,
        default=Path("climb"),
        help="the folder to write to (default: climb)",
    )
    arguments = parser.parse_args()
    output = arguments.output
    refuse_outputs({str(output / name): output / name for name in WRITTEN})
    refuse_unfit_paths(".")
    find_repository(whole=True)
    wanted = params_with(arguments.set_param)
    params = check(wanted["climb"], ClimbParameters, "params.yaml", "climb")
    trainings = Trainings(arguments.set_param, flatten(wanted), params)
    decisions: list[Verdict] = []
    for decision in climb(trainings.rung, params, most_blocks(wanted)):
        decisions.append(decision)
        say(decision, params)
    print(f"-> {why_it_ended(decisions)}: the climb ends", flush=True)
    adopt = best_of(decisions).rung.experiments[0]
    text = f"{table(decisions, params)}\nThe best rung is {best_of(decisions).rung.step}: `dvc exp apply {adopt}` adopts it.\n"
    print(f"\n{text}")
    with replacing(output / "climb.md") as file:
        file.write(text)
    write_decisions(output / "climb.csv", decisions)
    draw(output / "climb.png", decisions, params)
    print(f"written to {output}/", file=sys.stderr)


if __name__ == "__main__":
    run_program(main)
