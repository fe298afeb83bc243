"""Judge a laboratory's own crops with a trained model: a table with a row for each.

    python -m stages.predict FOLDER                                    all images below a folder ->
    evaluation.csv python -m stages.predict crops.csv --per-slide slides.csv          the images
    that a table names; a summary of each slide python -m stages.predict FOLDER --labels public.csv
    and, where the labels are known, the measures python -m stages.predict FOLDER --html
    evaluation.html             a page to look through, in any browser, without a network python -m
    stages.predict FOLDER --geojson judged.geojson           and back to the slides of
    `stages.extract`, for QuPath

Crops are padded, resized and normalized as the model's training crops were, and called by the
threshold that was chosen on its validation slides. `uncertain` is 1 where the probability is too
near to that threshold: a pathologist should look. --model is the folder models/ of this repository,
or one that `dvc get <repository> models` brought.
"""

import argparse
import sys
from pathlib import Path

from stages.base.arguments import argument_parser
from stages.base.errors import refuse, run_program
from stages.base.files import refuse_outputs, write_table
from stages.evaluation.classifier import Crops, judge, read_card, read_classifier
from stages.evaluation.gallery import refuse_pages, write_gallery
from stages.evaluation.judged import (
    MEASURES,
    SKIPPED,
    call,
    find_slides,
    numbers_of,
    outputs_of,
    propose,
    say_measures,
    warn_of_another_laboratory,
    write_judged,
    write_slides,
)
from stages.intake.labels import LABEL_COLUMNS, NAME_COLUMNS, read_labels
from stages.intake.names import Names
from stages.intake.source import find_crops
from stages.measures.recalibration import LEAST_CROPS
from stages.slides.places import Verdict, files_of, find_places, place_files, write_verdicts


def main() -> None:
    arguments = parse_arguments()
    folder, names, columns = find_crops(arguments.source, arguments.labels)
    crops = [folder / name for name in names]
    places = find_places(folder, names, columns) if arguments.geojson else {}
    options = {
        "--output": arguments.output,
        "--per-slide": arguments.per_slide,
        "--html": arguments.html,
    }
    options |= {
        f"--geojson of {image}": file for image, file in files_of(arguments.geojson, places).items()
    }
    outputs = outputs_of(options, proposes=arguments.propose is not None)
    encoder = arguments.weights.glob("*") if arguments.weights else ()
    read = [
        arguments.source,
        arguments.labels or arguments.source,
        *arguments.model.glob("*"),
        *encoder,
        *crops,
    ]
    refuse_outputs(outputs, [path for path in (*read, *place_files(folder)) if path.is_file()])
    if arguments.html:
        refuse_pages(arguments.html, len(names))
    labels = (
        read_labels(
            arguments.labels,
            Names(names, folder, what="crops"),
            arguments.name_column,
            arguments.label_column,
            of_all=True,
        )
        if arguments.labels
        else {}
    )
    opened = Crops(crops, read_card(arguments.model))  # While Keras is imported and the model read.
    classifier = read_classifier(arguments.model, arguments.weights)
    of_table = columns.of("slide") if columns else None
    slides = find_slides(
        names,
        arguments.slide,
        classifier.made.dataset.card.group,
        arguments.per_slide is not None,
        of_table,
    )
    judgement = judge(classifier, opened)
    problems = judgement.problems
    if problems and (arguments.unreadable == "refuse" or len(problems) == len(names)):
        refuse([problems[row] for row in sorted(problems)])
    for row in sorted(problems):
        print(f"warning: skipped: {problems[row]}", file=sys.stderr)
    judged = call(names, judgement, classifier.decision, slides, labels)
    warn_of_another_laboratory(judged)

    write_judged(arguments.output, judged, *(columns[1:] if columns else ()))
    if problems:
        write_table(
            outputs[SKIPPED],
            ("name", "reason"),
            [(names[row], problems[row]) for row in sorted(problems)],
        )
    if arguments.per_slide:
        write_slides(arguments.per_slide, judged)
    if labels:
        say_measures(judged, outputs[MEASURES])
    if arguments.propose:
        header = (
            arguments.name_column or NAME_COLUMNS[0],
            arguments.label_column or LABEL_COLUMNS[1],
        )
        write_table(outputs["--propose"], header, propose(judged, arguments.propose))
        print(f"to be labeled, for `python -m stages.recalibrate`: {outputs['--propose']}")
    # Those of an earlier run would be taken for this one's.
    for name, written in ((SKIPPED, problems), (MEASURES, labels)):
        if not written and outputs[name].is_file():
            outputs[name].unlink()
    if arguments.html:
        write_gallery(arguments.html, folder, judged, classifier, arguments.model)
    if arguments.geojson:
        classes = classifier.made.class_names
        verdicts = [
            Verdict(one.name, classes[one.predicted], one.predicted, numbers_of(one, classes))
            for one in judged
        ]
        print(
            f"for QuPath: {', '.join(map(str, write_verdicts(arguments.geojson, places, verdicts).values()))}"
        )
    counts = f"{sum(one.predicted for one in judged)} globally sclerotic, {sum(one.uncertain for one in judged)} uncertain"
    print(f"{len(judged)} crops: {counts}; {len(problems)} skipped: {arguments.output}")


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument(
        "source",
        type=Path,
        help="a folder of crops, a table with a column `name` beside them, or a crop",
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
        help="write a page with all crops, the likeliest sclerotic first",
    )
    parser.add_argument(
        "--geojson",
        type=Path,
        metavar="FILE",
        help="write the verdicts for QuPath, a file for each slide",
    )
    parser.add_argument(
        "--slide",
        metavar="REGEX",
        help="with (?P<slide>...), for file names (default: the model's)",
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
    parser.add_argument("--name-column", help="its column of file names (default: name or path)")
    parser.add_argument(
        "--label-column", help="its column of labels (default: label or ground truth)"
    )
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
