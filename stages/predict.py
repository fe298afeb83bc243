"""Classify a site's own crops with a trained model.

    python -m stages.predict FOLDER                          # all images below a folder
    python -m stages.predict crops.csv --per-slide slides.csv  # those in a table; counts per slide
    python -m stages.predict FOLDER --labels public.csv      # and the measures against labels
    python -m stages.predict FOLDER --html evaluation.html   # and a page for any browser, offline
    python -m stages.predict FOLDER --geojson out.geojson    # and objects for QuPath

The predictions are written to evaluation.csv. Crops are prepared like the training crops of the
model, and its own threshold decides. `uncertain` is 1 if the probability is too near the threshold:
a pathologist should look. --model is a folder like models/, as `dvc get <repository> models` gives.
"""

import argparse
import sys
from pathlib import Path

from stages.base.arguments import argument_parser
from stages.base.errors import refuse, run_program
from stages.base.files import refuse_outputs, write_table
from stages.evaluation.about_model import about_device, about_model
from stages.evaluation.arguments import (
    add_column_arguments,
    add_model_arguments,
    files_of_model,
)
from stages.evaluation.classifier import (
    Crops,
    read_card,
    read_classifier,
    refuse_drawn,
    refuse_other_input,
    warn_if_drawn,
)
from stages.evaluation.finished import KEPT, open_finished
from stages.evaluation.gallery import refuse_pages, write_gallery
from stages.evaluation.predictions import (
    MEASURES,
    SKIPPED,
    count_slides,
    decide,
    measurements,
    output_files,
    propose,
    report_measures,
    warn_if_out_of_distribution,
    write_predictions,
    write_slide_counts,
)
from stages.evaluation.scoring import score_crops
from stages.evaluation.slide_names import find_slides
from stages.images.archives import locate, on_disk
from stages.intake.embeddings import match_embeddings
from stages.intake.labels import read_labels
from stages.intake.names import Names
from stages.intake.source import find_crops
from stages.measures.recalibration import LEAST_CROPS
from stages.slides.geojson import UNCERTAIN
from stages.slides.places import (
    CropPrediction,
    files_of,
    find_places,
    place_files,
    write_slide_geojson,
)


def main() -> None:
    arguments = parse_arguments()
    folder, names, columns = find_crops(arguments.source, arguments.labels)
    crops = [locate(folder, name) for name in names]
    places = find_places(folder, names, columns) if arguments.geojson else {}
    options = {
        "--output": arguments.output,
        "--per-slide": arguments.per_slide,
        "--html": arguments.html,
    }
    options |= {
        f"--geojson of {image}": file for image, file in files_of(arguments.geojson, places).items()
    }
    outputs = output_files(options, proposes=arguments.propose is not None)
    read = [arguments.source, arguments.labels or arguments.source, *place_files(folder)]
    read += [*map(on_disk, crops), *files_of_model(arguments)]
    refuse_outputs(outputs, read := [path for path in read if path.is_file()])
    if arguments.html:
        refuse_pages(arguments.html, [*read, *outputs.values()])
    labels = {}
    if arguments.labels:
        crop_names = Names(names, folder, what="crops")
        label_columns = arguments.name_column, arguments.label_column
        labels = read_labels(arguments.labels, crop_names, *label_columns, of_all=True)
    made = read_card(arguments.model)
    if not arguments.allow_drawn:
        refuse_drawn(arguments.model, made)
    warn_if_drawn(made)
    refuse_other_input(arguments.model, made, given=arguments.embeddings is not None)
    features = None
    if made.embeddings:
        features = match_embeddings(arguments.embeddings, names, folder, made.embeddings.length)
    # Crops are prefetched while Keras is imported and the model is read.
    opened = Crops(crops, made, embeddings=features)
    classifier = read_classifier(
        arguments.model, arguments.weights, allow_drawn=True, embeddings=features is not None
    )
    print(f"model: {about_model(arguments.model, classifier)}", file=sys.stderr)
    print(about_device(), file=sys.stderr)
    of_table = columns.of("slide") if columns else None
    group, counts_slides = made.dataset.card.group, arguments.per_slide is not None
    slides = find_slides(names, arguments.slide, group, counts_slides, of_table)
    # With features that are given, nothing is worth continuing.
    finished = None if made.embeddings else open_finished(arguments.output, arguments.model)
    scores = score_crops(classifier, opened, finished)
    problems = scores.problems
    if problems and (arguments.unreadable == "refuse" or len(problems) == len(names)):
        if finished and len(problems) < len(names):
            print(KEPT.format(len(names) - len(problems)), file=sys.stderr)
        refuse([problems[row] for row in sorted(problems)])
    for row in sorted(problems):
        print(f"warning: skipped: {problems[row]}", file=sys.stderr)
    predictions = decide(names, scores, classifier.decision, slides, labels)
    warn_if_out_of_distribution(predictions)

    write_predictions(arguments.output, predictions, *(columns[1:] if columns else ()))
    if problems:
        skipped = [(names[row], problems[row]) for row in sorted(problems)]
        write_table(outputs[SKIPPED], ("name", "reason"), skipped)
    if arguments.per_slide:
        write_slide_counts(arguments.per_slide, count_slides(predictions, classifier.decision))
    if labels:
        report_measures(predictions, outputs[MEASURES], classifier.decision)
    if arguments.propose:
        header = (arguments.name_column or "name", arguments.label_column or "ground truth")
        write_table(outputs["--propose"], header, propose(predictions, arguments.propose))
        print(f"to be labeled, for `python -m stages.recalibrate`: {outputs['--propose']}")
    # Files of an earlier run could be mistaken for this run's.
    for name, written in ((SKIPPED, problems), (MEASURES, labels)):
        if not written and outputs[name].is_file():
            outputs[name].unlink()
    if arguments.html:
        write_gallery(arguments.html, folder, predictions, classifier, arguments.model)
    if arguments.geojson:
        classes = classifier.made.class_names
        drawn = []
        for one in predictions:
            predicted = None if one.uncertain else one.predicted
            name = UNCERTAIN if predicted is None else classes[predicted]
            drawn.append(CropPrediction(one.name, name, predicted, measurements(one, classes)))
        files = write_slide_geojson(arguments.geojson, places, drawn).values()
        print(f"for QuPath: {', '.join(map(str, files))}")
    if finished:
        finished.remove()
    sclerotic = sum(one.predicted for one in predictions)
    uncertain = sum(one.uncertain for one in predictions)
    counts = f"{sclerotic} globally sclerotic, {uncertain} uncertain; {len(problems)} skipped"
    print(f"{len(predictions)} crops: {counts}: {arguments.output}")


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument(
        "source",
        type=Path,
        help="a folder of crops, a table with a column `name` beside them, or a crop",
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--output", type=Path, default=Path("evaluation.csv"), help="(default: evaluation.csv)"
    )
    parser.add_argument(
        "--per-slide",
        type=Path,
        metavar="CSV",
        help="write the percentage of sclerotic glomeruli of each slide",
    )
    parser.add_argument(
        "--html",
        type=Path,
        metavar="PAGE",
        help="write a page with all crops, the most probably sclerotic first",
    )
    parser.add_argument(
        "--geojson",
        type=Path,
        metavar="FILE",
        help="write the predictions for QuPath, one file per slide",
    )
    parser.add_argument(
        "--labels", type=Path, metavar="CSV", help="a table with the true labels, 0 and 1"
    )
    parser.add_argument(
        "--propose",
        type=int,
        metavar="N",
        help="write a table of N crops that are worth labeling, for recalibrate",
    )
    add_column_arguments(parser)
    parser.add_argument(
        "--unreadable",
        choices=("refuse", "skip"),
        default="refuse",
        help="images that do not open (default: refuse)",
    )
    arguments = parser.parse_args()
    if arguments.propose is not None and arguments.propose < LEAST_CROPS:
        parser.error(f"--propose is {arguments.propose}; it must be {LEAST_CROPS} or more")
    return arguments


if __name__ == "__main__":
    run_program(main)
