"""Give a model the calibration of another laboratory, from a few of its own crops that it has
labeled: -> a model folder.

    python -m stages.recalibrate CROPS --labels table.csv --output models-ours
    python -m stages.predict MORE --model models-ours

The model ranks as well elsewhere as where it was trained, but its probabilities are shifted there,
and with them what is called. A dozen labels, of both classes and best of several slides, are the
case that this is made for; four are the least. The saved threshold with its rule and target is
kept, and so is the model: its log-odds get a map of their own (Platt), which the labels pull away
from none at all. Sensitivity and specificity before and after, with their intervals, are printed
and written, with the hashes of the model and of the crops, beside the model.
"""

import sys
from pathlib import Path

import numpy as np

from stages.base.arguments import argument_parser
from stages.base.errors import UserError, refuse, run_program
from stages.evaluation.classifier import Crops, judge, read_classifier
from stages.evaluation.judged import find_slides
from stages.evaluation.recalibrated import Recalibrated, refuse_few, write_model
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
    parser.add_argument("--name-column", help="its column of file names (default: name or path)")
    parser.add_argument(
        "--label-column", help="its column of labels (default: label or ground truth)"
    )
    parser.add_argument(
        "--model",
        type=Path,
        default=Path("models"),
        help="the folder of the model (default: models)",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FOLDER",
        help="of the encoder that the model was made for, if for one",
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="the folder to write; it must not be there yet"
    )
    parser.add_argument(
        "--slide",
        metavar="REGEX",
        help="with (?P<slide>...), for file names (default: the model's)",
    )
    arguments = parser.parse_args()
    if not arguments.output.name or arguments.output.exists() or arguments.output.is_symlink():
        raise UserError(
            f"--output: {arguments.output} is there already; choose another name, or remove it"
        )
    folder, crops, columns = find_crops(arguments.source, arguments.labels)
    named = Names(crops, "the folder of the crops", what="crops")
    labels = read_labels(arguments.labels, named, arguments.name_column, arguments.label_column)
    refuse_few(labels, arguments.labels)
    classifier = read_classifier(arguments.model, arguments.weights)
    if classifier.decision.calibration.local is not None:
        raise UserError(
            f"{arguments.model} was recalibrated before; take the model that it was made of"
        )
    names = sorted(labels)
    of_table = columns.of("slide") if columns else None
    slides = find_slides(
        names, arguments.slide, classifier.made.dataset.card.group, needed=False, of_table=of_table
    )
    judgement = judge(classifier, Crops([folder / name for name in names], classifier.made))
    refuse([judgement.problems[row] for row in sorted(judgement.problems)])
    y_score = judgement.probability
    if judgement.trained_on:
        print(f"left out: {len(judgement.trained_on)} crops that the model was trained on")
        rest = [row for row in range(len(names)) if row not in judgement.trained_on]
        names, y_score = [names[row] for row in rest], y_score[rest]
        refuse_few({name: labels[name] for name in names}, arguments.labels)

    y_true = np.array([labels[name] for name in names])
    recalibrated = Recalibrated(classifier, y_true, y_score, [slides[name] for name in names])
    write_model(arguments.output, arguments.model, recalibrated, folder, names)
    recalibrated.say()
    print(f"written to {arguments.output}/", file=sys.stderr)


if __name__ == "__main__":
    run_program(main)
