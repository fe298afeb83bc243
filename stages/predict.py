"""Judge a laboratory's own crops with a trained model: a table with a row for each.

    python -m stages.predict FOLDER                                    all images below a folder -> evaluation.csv
    python -m stages.predict crops.csv --per-slide slides.csv          the images that a table names; a summary of each slide
    python -m stages.predict FOLDER --labels public.csv                and, where the labels are known, the measures
    python -m stages.predict FOLDER --html evaluation.html             a page to look through, in any browser, without a network

Crops are padded, resized and normalized as the model's training crops were, and called by the threshold that was chosen on its
validation slides. `uncertain` is 1 where the probability is too near to that threshold: a pathologist should look. --model is
the folder models/ of this repository, or one that `dvc get <repository> models` brought.
"""

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from stages.base.errors import UserError, refuse, run_stage
from stages.base.files import write_json, write_table
from stages.classifier import judge, read_classifier
from stages.gallery import write_gallery
from stages.intake.tables import list_crops, read_labels
from stages.metrics import is_certain, score


class Judged(NamedTuple):
    """What is said of one crop: probability is that of global sclerosis; label is None where it is not known."""

    name: str
    predicted: int
    probability: np.float32
    uncertain: int
    slide: str
    label: int | None


def main() -> None:
    arguments = parse_arguments()
    folder, names = list_crops(arguments.source)
    labels = read_labels(arguments.labels, arguments.name_column, arguments.label_column, names) if arguments.labels else {}
    classifier = read_classifier(arguments.model)
    slide = _compile(arguments.slide or classifier.made.dataset.card.group or "")
    y_score, problems = judge(classifier, [folder / name for name in names])
    if problems and (arguments.unreadable == "refuse" or len(problems) == len(names)):
        refuse([problems[row] for row in sorted(problems)])
    for row in sorted(problems):
        print(f"warning: skipped: {problems[row]}", file=sys.stderr)
    decision = classifier.decision
    certain = is_certain(y_score, decision.uncertain.low, decision.uncertain.high)
    called = y_score >= decision.threshold
    judged = [
        Judged(name, int(called[row]), np.float32(y_score[row]), int(not certain[row]), _slide_of(slide, name), labels.get(name))
        for row, name in enumerate(names)
        if row not in problems
    ]

    write_judged(arguments.output, judged, with_labels=bool(labels))
    if problems:
        skipped = arguments.output.with_suffix(".unreadable.csv")
        write_table(skipped, ("name", "reason"), [(names[row], problems[row]) for row in sorted(problems)])
    if arguments.per_slide:
        write_slides(arguments.per_slide, judged)
    if labels:
        say_measures(judged, arguments.output.with_suffix(".metrics.json"))
    if arguments.html:
        write_gallery(arguments.html, folder, judged, classifier)
    positives, unsure = sum(one.predicted for one in judged), sum(one.uncertain for one in judged)
    print(f"{len(judged)} crops: {positives} globally sclerotic, {unsure} uncertain; {len(problems)} skipped: {arguments.output}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="a folder of crops, or a CSV file with a column `name` beside them")
    parser.add_argument("--model", type=Path, default=Path("models"), help="the folder of the model (default: models)")
    parser.add_argument("--output", type=Path, default=Path("evaluation.csv"), help="(default: evaluation.csv)")
    parser.add_argument("--per-slide", type=Path, metavar="CSV", help="write the percentage of sclerotic glomeruli of each slide")
    parser.add_argument("--html", type=Path, metavar="PAGE", help="write a page with all crops, the likeliest sclerotic first")
    parser.add_argument("--slide", metavar="REGEX", help="with (?P<slide>...), for file names (default: the model's)")
    parser.add_argument("--labels", type=Path, metavar="CSV", help="a table with the true labels, 0 and 1")
    parser.add_argument("--name-column", default="name", help="its column of file names (default: name)")
    parser.add_argument("--label-column", default="ground truth", help="its column of labels (default: ground truth)")
    parser.add_argument(
        "--unreadable", choices=("refuse", "skip"), default="refuse", help="images that do not open (default: refuse)"
    )
    return parser.parse_args()


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(f"{pattern!r} is not a regular expression: {error}") from None


def _slide_of(pattern: re.Pattern[str], name: str) -> str:
    match = pattern.match(PurePosixPath(name).name)
    return (match.groupdict().get("slide") or "") if match else ""


def write_judged(path: Path, judged: Sequence[Judged], with_labels: bool) -> None:
    """Write the table of all crops; with the column `label` where the labels are known."""
    columns = Judged._fields if with_labels else Judged._fields[:-1]
    write_table(path, columns, ([str(value) for value in one[: len(columns)]] for one in judged))


def write_slides(path: Path, judged: Sequence[Judged]) -> None:
    """Write the percentage of globally sclerotic glomeruli of each slide, with its 95 % interval (Wilson's, of SciPy).

    The interval is of the sampling of glomeruli; it knows nothing of the model's errors.
    """
    slides = defaultdict(list)
    for one in judged:
        slides[one.slide].append(one)
    rows = []
    for slide, crops in sorted(slides.items()):
        sclerotic = sum(one.predicted for one in crops)
        share = binomtest(sclerotic, len(crops)).proportion_ci(method="wilson")
        percents = [f"{100 * value:.1f}" for value in (sclerotic / len(crops), share.low, share.high)]
        rows.append((slide, len(crops), sclerotic, sum(one.uncertain for one in crops), *percents))
    write_table(path, ("slide", "glomeruli", "predicted_sclerotic", "uncertain", "percent", "low", "high"), rows)


def say_measures(judged: Sequence[Judged], path: Path) -> None:
    """Write and print the measures against the known labels, as in metrics/measures.json."""
    y_true = np.array([one.label for one in judged], dtype=np.int64)
    y_score = np.array([one.probability for one in judged]).astype(np.float64)
    measures = score(y_true, y_score, np.array([one.predicted for one in judged]))
    write_json(path, measures)
    for name in ("roc_auc", "sensitivity", "specificity", "accuracy"):
        print(f"{name}: {measures[name]:.3f}" if measures[name] is not None else f"{name}: not defined")


if __name__ == "__main__":
    run_stage(main)
