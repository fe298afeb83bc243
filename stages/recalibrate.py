"""Recalibrate a model for another site, from a few crops that the site has labeled.

    python -m stages.recalibrate CROPS --labels table.csv --output models-ours
    python -m stages.predict MORE --model models-ours

At another site the model usually ranks as well, but its probabilities are shifted. The network
stays the same; its log-odds are moved so that the threshold fits again. A dozen labels of both
classes, best from several slides, are enough; four are the minimum. Rates before and after, with
intervals over slides, are printed and written to the new folder, with the hashes of the model and
of the crops.

--sampling says how the labeled crops were chosen: `proposed` by `predict --propose` or at random,
`slides`: all crops of some slides, or `corrections`: the table has the corrections of the page of
`predict --html`, all crops of CROPS were reviewed, and those without a label are as predicted. The
default is `proposed`. It must be given for labels that the page saved if their reader labeled only
some of the crops and had seen the predictions.
With --unlabeled no labels are needed; it acts only if the crops are out of distribution.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from stages.base.arguments import argument_parser
from stages.base.errors import UserError, refuse, run_program
from stages.evaluation.arguments import add_column_arguments, add_model_arguments
from stages.evaluation.classifier import Crops, read_classifier, warn_if_drawn
from stages.evaluation.recalibrated import (
    Recalibrated,
    Unlabeled,
    refuse_few,
    refuse_unlike,
    write_model,
)
from stages.evaluation.scoring import score_crops
from stages.evaluation.slide_names import find_slides
from stages.images.archives import locate
from stages.intake.embeddings import match_embeddings
from stages.intake.labels import read_labels
from stages.intake.names import Names
from stages.intake.saved_labels import SavedLabel, find_saved_labels
from stages.intake.source import find_crops
from stages.measures.recalibration import Sampling


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument(
        "source", type=Path, help="a folder of crops, or a table with a column `name` beside them"
    )
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument(
        "--labels", type=Path, metavar="TABLE", help="labels of some of the crops, 0 and 1"
    )
    given.add_argument(
        "--unlabeled", action="store_true", help="from the probabilities of all crops, unlabeled"
    )
    parser.add_argument(
        "--sampling",
        choices=get_args(Sampling),
        help="how the labeled crops were chosen (default: proposed)",
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
    labels, saved = {}, []
    if arguments.labels:
        named = Names(crops, "the folder of the crops", what="crops")
        table_columns = arguments.name_column, arguments.label_column
        labels = read_labels(arguments.labels, named, *table_columns)
        saved = find_saved_labels(arguments.labels)
        if arguments.sampling is None:
            refuse_unclear(saved)
        if arguments.sampling != "corrections":
            refuse_few(labels, arguments.labels)
    classifier = read_classifier(
        arguments.model,
        arguments.weights,
        allow_drawn=arguments.allow_drawn,
        embeddings=arguments.embeddings is not None,
    )
    warn_if_drawn(classifier.made)
    decision = classifier.decision
    if decision.calibration.local is not None:
        raise UserError(
            f"{arguments.model} is already recalibrated; use the model that it was made from"
        )
    sampling: Sampling = arguments.sampling or "proposed"
    if sampling == "corrections":
        refuse_no_corrections(saved, decision.model_sha256)
    of_all = arguments.unlabeled or sampling == "corrections"
    names = sorted(crops if of_all else labels)
    slides = find_slides(
        names,
        arguments.slide,
        classifier.made.dataset.card.group,
        required=False,
        of_table=columns.of("slide") if columns else None,
    )
    features = None
    if expected := classifier.made.embeddings:
        features = match_embeddings(arguments.embeddings, names, folder, expected.length, crops)
    files = [locate(folder, name) for name in names]
    opened = Crops(files, classifier.made, embeddings=features)
    scores = score_crops(classifier, opened)
    refuse([scores.problems[row] for row in sorted(scores.problems)])
    rows_of, read = {name: row for row, name in enumerate(names)}, Names(names, "")
    refuse(
        f"{arguments.labels}: {one.path} had other pixels on the page than it has now"
        for one in saved
        for name in read.find(one.path)
        if opened.digests[rows_of[name]] != one.pixels_sha256
    )
    rows = [row for row in range(len(names)) if row not in scores.trained_on]
    if scores.trained_on:
        print(f"left out: {len(scores.trained_on)} crops that the model was trained on")
    names, y_score = [names[row] for row in rows], scores.probability[rows]
    novelty = None if scores.novelty is None else scores.novelty[rows]

    recalibrated: Recalibrated | Unlabeled
    if arguments.unlabeled:
        recalibrated = Unlabeled(decision, y_score, novelty)
    else:
        predicted = decision.is_positive(y_score)
        known = {name: labels.get(name, int(positive)) for name, positive in zip(names, predicted)}
        refuse_few(known, arguments.labels)
        y_true = np.array([known[name] for name in names])
        refuse_unlike(y_true, y_score, decision, arguments.labels)
        of_slide = [slides[name] for name in names]
        recalibrated = Recalibrated(decision, y_true, y_score, of_slide, novelty, sampling)
        recalibrated.refuse_useless(arguments.labels)
    write_model(arguments.output, arguments.model, recalibrated, folder, names)
    recalibrated.print_rates()
    print(f"written to {arguments.output}/", file=sys.stderr)


def refuse_unclear(saved: Sequence[SavedLabel]) -> None:
    """Refuse labels of some crops by a reader who may have chosen them by their predictions."""
    if some := next((one for one in saved if not (one.blind or one.all_marked)), None):
        raise UserError(
            f"{some.table}: {some.reader} has labeled {some.marked} crops and seen what is "
            "predicted; give --sampling corrections if all others were reviewed and are as "
            "predicted, or --sampling proposed if no crop was chosen by what is predicted"
        )


def refuse_no_corrections(saved: Sequence[SavedLabel], model_sha256: str) -> None:
    """Refuse labels beside which the crops without a label are not as this model predicts."""
    if blind := next((one for one in saved if one.blind and not one.all_marked), None):
        raise UserError(
            f"{blind.table}: {blind.reader} has labeled {blind.marked} crops blindly, and did not "
            "compare the others with their predictions; give --sampling proposed"
        )
    if other := next((one for one in saved if not model_sha256.startswith(one.model)), None):
        raise UserError(
            f"{other.table}: it corrects the predictions of the model {other.model}; this one is "
            f"{model_sha256[:8]}"
        )


if __name__ == "__main__":
    run_program(main)
