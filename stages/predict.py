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
import csv
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
from stages.images.opening import SUFFIXES
from stages.manifest import list_images, open_columns
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


def list_crops(source: Path) -> tuple[Path, list[str]]:
    """Return the folder of the crops and their paths in it, sorted: all images below `source`, or those that a table names.

    Raises:
        UserError: there is no such folder or table, no image in it, or a name in the table fits no file or several.
    """
    if source.is_dir():
        names, _ = list_images(source)
        if not names:
            raise UserError(f"{source} holds no image; formats that are read end in {', '.join(sorted(SUFFIXES))}")
        return source, names
    if not source.is_file():
        raise UserError(f"{source} is neither a folder nor a file")
    rows = _read_columns(source, ("name",))
    found = _find([row[0] for row in rows], list_images(source.parent)[0], source)
    return source.parent, sorted(set(found))


def read_labels(table: Path, name_column: str, label_column: str, names: Sequence[str]) -> dict[str, int]:
    """Return the labels of `names`, from a table that may hold more.

    Raises:
        UserError: the table or a column is missing, a label is neither 0 nor 1, or a name has no label or two.
    """
    labels: dict[str, int] = {}
    problems = []
    known = _by_name(names)
    for name, label in _read_columns(table, (name_column, label_column)):
        for path in known.get(name, []):
            if label not in ("0", "1"):
                problems.append(f"{table}: the label of {name} is {label!r}; it must be 0 or 1")
            elif labels.setdefault(path, int(label)) != int(label):
                problems.append(f"{table}: {name} has both labels")
    refuse(problems)
    refuse([f"{table} has no label of {name}" for name in names if name not in labels])
    return labels


def _read_columns(table: Path, columns: tuple[str, ...]) -> list[tuple[str, ...]]:
    try:
        lines, header = open_columns(table.read_text(encoding="utf-8-sig"), columns)
        missing = [name for name in columns if name not in header]
        refuse([f"{table} has no column {name}; it has {', '.join(header)}" for name in missing])
        places = [header.index(name) for name in columns]
        return [tuple(row[place].strip() for place in places) for row in lines if any(row)]
    except (FileNotFoundError, UnicodeDecodeError, csv.Error, IndexError) as error:
        raise UserError(f"{table} is not a table that can be read: {error}") from None


def _by_name(paths: Sequence[str]) -> dict[str, list[str]]:
    known = defaultdict(list)
    for path in paths:
        for name in {path, PurePosixPath(path).name}:
            known[name].append(path)
    return known


def _find(names: Sequence[str], paths: Sequence[str], table: Path) -> list[str]:
    # Names are looked up in the listing and never joined to a path: no row reaches outside the folder.
    known = _by_name(paths)
    refuse(
        [
            f"{table}: {name!r} " + (f"fits {len(known[name])} files" if name in known else f"is not in {table.parent}")
            for name in names
            if len(known.get(name, [])) != 1
        ]
    )
    return [known[name][0] for name in names]


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
