"""Predictions of a user's crops: their table, the counts of each slide, the measures."""

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.base.errors import UserError
from stages.base.files import write_json, write_table
from stages.evaluation.results import as_tested, measure, print_results
from stages.evaluation.scoring import CropScores
from stages.evaluation.slide_names import GIVE_PATTERN
from stages.measures.calibration import log_odds
from stages.measures.decision import Decision
from stages.measures.novelty import OUT_OF_DISTRIBUTION
from stages.measures.percentages import ADEQUATE, percentage
from stages.measures.recalibration import evenly_spaced

# Suffixes of files that a spreadsheet would not open with CSV in them.
OTHER_TABLES = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".numbers", ".parquet", ".json")
SKIPPED, MEASURES = "the list of what does not open", "the file of measures"


class Prediction(NamedTuple):
    """The prediction of one crop.

    Attributes:
        predicted: 1 for globally sclerotic, 0 otherwise.
        probability: of global sclerosis.
        uncertain: 1 if the probability is in the uncertain band.
        slide: empty if unknown.
        novelty, label: None if unknown.
        trained_on: whether the model was trained on the crop; in no table.
    """

    name: str
    predicted: int
    probability: np.float32
    uncertain: int
    slide: str
    novelty: float | None
    label: int | None
    trained_on: bool = False


COLUMNS = Prediction._fields[:-1]


def output_files(options: Mapping[str, Path | None], proposes: bool) -> dict[str, Path]:
    """Return the `options` that are given and the files next to --output, by their names in errors.

    Args:
        proposes: whether crops to label are proposed, in a file next to the table.

    Raises:
        UserError: a table would be CSV in a file that is named as a workbook.
    """
    for option in ("--output", "--per-slide"):
        if (table := options.get(option)) and table.suffix.lower() in OTHER_TABLES:
            raise UserError(
                f"{option} is {table}: tables are written as CSV, which every spreadsheet opens; "
                f"name it {table.with_suffix('.csv').name}"
            )
    output = options["--output"]
    # Nothing is written next to a device, such as /dev/stdout.
    is_file = output is not None and output.name and not output.is_char_device()
    table = output if output is not None and is_file else Path("evaluation.csv")
    # Other suffixes belong to the name, as in S21.1234.
    name = table.stem if table.suffix.lower() in (".csv", ".tsv", ".txt") else table.name
    beside = {
        SKIPPED: table.with_name(f"{name}.unreadable.csv"),
        MEASURES: table.with_name(f"{name}.metrics.json"),
    }
    if proposes:
        beside["--propose"] = table.with_name(f"{name}.propose.csv")
    return {name: path for name, path in (dict(options) | beside).items() if path is not None}


def decide(
    names: Sequence[str],
    scores: CropScores,
    decision: Decision,
    slides: Mapping[str, str],
    labels: Mapping[str, int],
) -> list[Prediction]:
    """Return the predictions of all crops that open."""
    predicted = decision.is_positive(scores.probability)
    uncertain = decision.is_uncertain(scores.probability)
    return [
        Prediction(
            name,
            int(predicted[row]),
            np.float32(scores.probability[row]),
            int(uncertain[row]),
            slides[name],
            None if scores.novelty is None else round(float(scores.novelty[row]), 3),
            labels.get(name),
            row in scores.trained_on,
        )
        for row, name in enumerate(names)
        if row not in scores.problems
    ]


def write_predictions(
    path: Path,
    predictions: Sequence[Prediction],
    further: Sequence[str] = (),
    rows: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Write the table of predictions, without the columns `novelty` and `label` if unknown.

    Args:
        further, rows: other columns of the source table and their values by crop, which are
            copied unless a column of ours has the same name.
    """
    columns = [
        name for name in COLUMNS if any(getattr(one, name) is not None for one in predictions)
    ]
    kept = [(place, name) for place, name in enumerate(further) if name not in columns]
    if replaced := [name for name in further if name in columns and name not in ("name", "slide")]:
        names = ", ".join(replaced)
        print(f"warning: {path}: columns of the source are replaced: {names}", file=sys.stderr)
    lines = (
        [
            *(str(getattr(one, name)) for name in columns),
            *((rows or {})[one.name][place] for place, _ in kept),
        ]
        for one in predictions
    )
    write_table(path, [*columns, *(name for _, name in kept)], lines)


def measurements(one: Prediction, classes: Sequence[str]) -> dict[str, float]:
    """Return the numbers that a slide viewer shows of a crop."""
    probability = {f"probability of {classes[1]}": round(float(one.probability), 6)}
    novelty = {} if one.novelty is None else {"novelty": one.novelty}
    return probability | {"uncertain": float(one.uncertain)} | novelty


def warn_if_out_of_distribution(predictions: Sequence[Prediction]) -> None:
    """Print a warning if the median novelty of the crops is high."""
    found = [one.novelty for one in predictions if one.novelty is not None]
    if found and (median := float(np.median(found))) > OUT_OF_DISTRIBUTION:
        print(
            f"warning: half of these crops are farther from the training crops than "
            f"{100 * median:.0f} % of those are: the threshold may not hold here; label a dozen, "
            "and see `python -m stages.recalibrate --help`",
            file=sys.stderr,
        )


def propose(predictions: Sequence[Prediction], number: int) -> list[tuple[str, str]]:
    """Return (name, empty label) of crops worth labeling, sorted by name to reveal no order."""
    odds = log_odds(np.array([one.probability for one in predictions]))
    return sorted((predictions[row].name, "") for row in evenly_spaced(odds, number))


class SlideCount(NamedTuple):
    """The predicted counts of one slide, and the percentage that a pathologist would count.

    `low` and `high` are the limits of its 95 % interval, and `reaches_20` is the probability that
    it is 20 % or more. `adequate` is 1 if the slide has as many glomeruli as the Banff criteria ask
    for.
    """

    slide: str
    glomeruli: int
    predicted_sclerotic: int
    uncertain: int
    percent: float
    low: float
    high: float
    reaches_20: float
    adequate: int


def count_slides(predictions: Sequence[Prediction], decision: Decision) -> list[SlideCount]:
    """Return the counts of each slide, sorted by its name."""
    slides = defaultdict(list)
    for one in predictions:
        slides[one.slide].append(one)
    return [
        SlideCount(
            slide,
            len(crops),
            sum(one.predicted for one in crops),
            sum(one.uncertain for one in crops),
            *percentage(
                log_odds(np.array([one.probability for one in crops])), decision.slide_shift
            ),
            int(len(crops) >= ADEQUATE),
        )
        for slide, crops in sorted(slides.items())
    ]


def write_slide_counts(path: Path, counts: Sequence[SlideCount]) -> None:
    """Write the percentage of globally sclerotic glomeruli of each slide, with its interval."""
    rows = [
        (*one[:4], *(f"{value:.1f}" for value in one[4:7]), f"{one.reaches_20:.3f}", one.adequate)
        for one in counts
    ]
    write_table(path, SlideCount._fields, rows)


def report_measures(predictions: Sequence[Prediction], path: Path, decision: Decision) -> None:
    """Write and print the measures against the labels, without crops that were trained on."""
    count = sum(one.trained_on for one in predictions)
    unseen = [one for one in predictions if not one.trained_on]
    if not unseen:
        write_json(path, {"trained_on": count})
        print(f"nothing is measured: the model was trained on all {count} crops")
        return
    y_true = np.array([one.label for one in unseen], dtype=np.int64)
    y_score = np.array([one.probability for one in unseen]).astype(np.float64)
    slides = np.array([one.slide for one in unseen])
    results = measure(as_tested(decision, y_true, y_score, slides), decision)
    write_json(path, results | {"trained_on": count})
    print_results(results)
    if not all(slides):
        print(f"for intervals, {GIVE_PATTERN}")
    if count:
        print(f"left out: {count} crops that the model was trained on")
