"""Recalibrate a model for another site, from a few crops that the site has labeled.

    python -m stages.recalibrate CROPS --labels table.csv --output models-ours
    python -m stages.predict MORE --model models-ours

At another site the model usually ranks as well, but its probabilities are shifted. The network and
the threshold stay the same; the log-odds get a map (Platt) that is fitted to the labels. A dozen
labels of both classes, best from several slides, are enough; four are the minimum. Sensitivity and
specificity before and after, with intervals, are printed and written to the new folder, with the
hashes of the model and of the crops.
"""

import sys
from pathlib import Path

import numpy as np

from stages.base.arguments import argument_parser
from stages.base.errors import UserError, refuse, run_program
from stages.evaluation.arguments import add_column_arguments, add_model_arguments
from stages.evaluation.classifier import Crops, read_classifier, score_crops
from stages.evaluation.recalibrated import Recalibrated, refuse_few, write_model
from stages.evaluation.slide_names import find_slides
from stages.intake.labels import read_labels
from stages.intake.names import Names
from stages.intake.source import find_crops


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument(
        "source", type=Path, help="a folder of crops, or a table with a column `name` beside them"
    )
    parser.add_argument(
        "--labels",
        type=Path,
        required=True,
        metavar="TABLE",
        help="labels of some of the crops, 0 and 1",
    )
    add_column_arguments(parser)
    add_model_arguments(parser)
    parser.add_argument(
        "--output", type=Path, required=True, help="the folder to write; it must not exist"
    )
    arguments = parser.parse_args()
    if not arguments.output.name or arguments.output.exists() or arguments.output.is_symlink():
        raise UserError(
            f"--output: {arguments.output} already exists; choose another name, or remove it"
        )
    folder, crops, columns = find_crops(arguments.source, arguments.labels)
    named = Names(crops, "the folder of the crops", what="crops")
    labels = read_labels(arguments.labels, named, arguments.name_column, arguments.label_column)
    refuse_few(labels, arguments.labels)
    classifier = read_classifier(arguments.model, arguments.weights)
    if classifier.decision.calibration.local is not None:
        raise UserError(
            f"{arguments.model} is already recalibrated; use the model that it was made from"
        )
    names = sorted(labels)
    of_table = columns.of("slide") if columns else None
    slides = find_slides(
        names,
        arguments.slide,
        classifier.made.dataset.card.group,
        required=False,
        of_table=of_table,
    )
    scores = score_crops(classifier, Crops([folder / name for name in names], classifier.made))
    refuse([scores.problems[row] for row in sorted(scores.problems)])
    y_score = scores.probability
    if scores.trained_on:
        print(f"left out: {len(scores.trained_on)} crops that the model was trained on")
        rest = [row for row in range(len(names)) if row not in scores.trained_on]
        names, y_score = [names[row] for row in rest], y_score[rest]
        refuse_few({name: labels[name] for name in names}, arguments.labels)

    y_true = np.array([labels[name] for name in names])
    recalibrated = Recalibrated(classifier, y_true, y_score, [slides[name] for name in names])
    write_model(arguments.output, arguments.model, recalibrated, folder, names)
    recalibrated.print_rates()
    print(f"written to {arguments.output}/", file=sys.stderr)


if __name__ == "__main__":
    run_program(main)
