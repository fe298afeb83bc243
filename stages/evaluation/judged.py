"""Crops that were judged: their table, the percentage of each slide, the measures against known
labels.
"""

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.base.errors import UserError, warn
from stages.base.files import write_json, write_table
from stages.dataset.slides import NO_GROUP, is_no_name, nfc, slide_pattern, written_alike
from stages.evaluation.classifier import Judgement
from stages.measures.calibration import log_odds
from stages.measures.decision import Decision
from stages.measures.novelty import OUT_OF_DISTRIBUTION
from stages.measures.recalibration import spread, wilson
from stages.measures.resampling import too_small
from stages.measures.scores import score

SKIPPED, MEASURES = "the list of what does not open", "the file of measures"


class Judged(NamedTuple):
    """What is said of one crop: probability is that of global sclerosis; `novelty`, the share of
    training crops that are nearer, and `label` are None where they are not known. `trained_on`, whether
    the model was trained on the crop, is in no table.
    """

    name: str
    predicted: int
    probability: np.float32
    uncertain: int
    slide: str
    novelty: float | None
    label: int | None
    trained_on: bool = False


# What the table of all crops holds.
TABLE = Judged._fields[:-1]


def outputs_of(options: Mapping[str, Path | None], proposes: bool) -> dict[str, Path]:
    """Return the files to write by what an error calls them: those of the `options`, and those
    beside the table, --output.

    Args:
        proposes: whether crops to label are proposed, in a file beside the table.
    """
    output = options["--output"]
    # Beside a device, such as /dev/stdout, nothing is written.
    table = (
        Path("evaluation.csv")
        if output is None or output.is_char_device() or not output.name
        else output
    )
    # What stands behind another dot, as in S21.1234, belongs to the name.
    name = table.stem if table.suffix.lower() in (".csv", ".tsv", ".txt") else table.name
    beside = {
        SKIPPED: table.with_name(f"{name}.unreadable.csv"),
        MEASURES: table.with_name(f"{name}.metrics.json"),
    }
    if proposes:
        beside["--propose"] = table.with_name(f"{name}.propose.csv")
    return {name: path for name, path in (dict(options) | beside).items() if path is not None}


def call(
    names: Sequence[str],
    judgement: Judgement,
    decision: Decision,
    slides: dict[str, str],
    labels: dict[str, int],
) -> list[Judged]:
    """Return what is said of each crop that opens, at the model's threshold."""
    probability, novelty = judgement.probability, judgement.novelty
    called, uncertain = decision.is_positive(probability), decision.is_uncertain(probability)
    return [
        Judged(
            name,
            int(called[row]),
            np.float32(probability[row]),
            int(uncertain[row]),
            slides[name],
            None if novelty is None else round(float(novelty[row]), 3),
            labels.get(name),
            row in judgement.trained_on,
        )
        for row, name in enumerate(names)
        if row not in judgement.problems
    ]


def find_slides(
    names: Sequence[str],
    given: str | None,
    of_model: str | None,
    needed: bool,
    of_table: dict[str, str] | None = None,
) -> dict[str, str]:
    """Return the slide of each crop, by its path; empty where it is not known.

    Args:
        given: the pattern that the user gives; it must fit some name.
        of_model: that of the dataset which the model was trained on, in place of none; elsewhere it
            may not fit.
        needed: whether slides are asked for, and crops of an unknown one would be counted as if
            they were of one patient.
        of_table: what the table that names the crops says, in place of the model's pattern.

    Raises:
        UserError: a pattern does not fit that must, is none, or is needed.
    """
    if of_table is not None and not given:
        found = {
            name: "" if is_no_name(slide := nfc(of_table.get(name, ""))) else slide
            for name in names
        }
        if empty := [name for name in names if not found[name]]:
            problem = f"the table says no slide of {empty[0]} ({len(empty)} of {len(names)} crops)"
            if needed:
                raise UserError(problem)
            print(f"warning: {problem}: their slide is not known", file=sys.stderr)
        warn("slides that are kept apart, and may be one", written_alike(set(found.values())))
        return found
    text = given or (None if of_model == NO_GROUP else of_model)
    what = f"--slide {given}" if given else f"the pattern of the model's own slides, {text},"
    if text is None:
        if needed:
            raise UserError(
                "the model knows no pattern of slides; say with --slide '(?P<slide>...)' which part of a name is the slide"
            )
        return dict.fromkeys(names, "")
    try:
        matched = slide_pattern(text).match_all(names)
    except (ValueError, UserError) as error:
        raise UserError(f"{what}: {error}") from None
    slides = {name: "" if is_no_name(slide) else slide for name, (slide, _) in matched.items()}
    if unmatched := [name for name, slide in slides.items() if not slide]:
        problem = (
            f"{what} does not match {unmatched[0]} ({len(unmatched)} of {len(names)} names do not)"
        )
        if needed or (given and len(unmatched) == len(names)):
            raise UserError(
                f"{problem}; say with --slide '(?P<slide>...)' which part of a name is the slide"
            )
        print(f"warning: {problem}: their slide is not known", file=sys.stderr)
    warn("slides that are kept apart, and may be one", written_alike(set(slides.values())))
    return slides


def write_judged(
    path: Path,
    judged: Sequence[Judged],
    further: Sequence[str] = (),
    rows: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Write the table of all crops; with the columns `novelty` and `label` where these are known.

    Args:
        further, rows: columns of the table that named the crops, and their values by crop. They are
            carried through, but for those that are called as ours.
    """
    columns = [name for name in TABLE if any(getattr(one, name) is not None for one in judged)]
    kept = [(place, name) for place, name in enumerate(further) if name not in columns]
    if replaced := [name for name in further if name in columns and name not in ("name", "slide")]:
        print(
            f"warning: {path}: columns of the source are replaced by what was judged now: {', '.join(replaced)}",
            file=sys.stderr,
        )
    lines = (
        [
            *(str(getattr(one, name)) for name in columns),
            *((rows or {})[one.name][place] for place, _ in kept),
        ]
        for one in judged
    )
    write_table(path, [*columns, *(name for _, name in kept)], lines)


def numbers_of(one: Judged, classes: Sequence[str]) -> dict[str, float]:
    """Return what a slide viewer shows of a crop beside its class."""
    numbers = {
        f"probability of {classes[1]}": round(float(one.probability), 6),
        "uncertain": float(one.uncertain),
    }
    return numbers | ({"novelty": one.novelty} if one.novelty is not None else {})


def warn_of_another_laboratory(judged: Sequence[Judged]) -> None:
    """Print a warning where the crops, as a whole, do not look like those that the model learnt
    from.
    """
    found = [one.novelty for one in judged if one.novelty is not None]
    if found and (middle := float(np.median(found))) > OUT_OF_DISTRIBUTION:
        print(
            f"warning: half of these crops are farther from the training crops than {100 * middle:.0f} % of those are: the "
            "threshold may not hold here; label a dozen, and see `python -m stages.recalibrate --help`",
            file=sys.stderr,
        )


def propose(judged: Sequence[Judged], number: int) -> list[tuple[str, str]]:
    """Return (name, no label) of some crops that are worth labeling, sorted by name, so that their
    order tells nothing.
    """
    odds = log_odds(np.array([one.probability for one in judged]))
    return sorted((judged[row].name, "") for row in spread(odds, number))


class SlideCount(NamedTuple):
    """What was called of the glomeruli of one slide; the percentage that is sclerotic, with its 95
    % interval (Wilson's).

    The interval is of the sampling of glomeruli; it knows nothing of the model's errors.
    """

    slide: str
    glomeruli: int
    sclerotic: int
    uncertain: int
    percent: float
    low: float
    high: float


def count_slides(judged: Sequence[Judged]) -> list[SlideCount]:
    """Return the counts of each slide, sorted by its name."""
    slides = defaultdict(list)
    for one in judged:
        slides[one.slide].append(one)
    counts = []
    for slide, crops in sorted(slides.items()):
        sclerotic = sum(one.predicted for one in crops)
        percents = (
            100 * value for value in (sclerotic / len(crops), *wilson(sclerotic, len(crops)))
        )
        counts.append(
            SlideCount(slide, len(crops), sclerotic, sum(one.uncertain for one in crops), *percents)
        )
    return counts


def write_slides(path: Path, judged: Sequence[Judged]) -> None:
    """Write the percentage of globally sclerotic glomeruli of each slide, with its interval."""
    rows = [(*one[:4], *(f"{value:.1f}" for value in one[4:])) for one in count_slides(judged)]
    write_table(
        path,
        ("slide", "glomeruli", "predicted_sclerotic", "uncertain", "percent", "low", "high"),
        rows,
    )


def say_measures(judged: Sequence[Judged], path: Path) -> None:
    """Write and print the measures against the known labels, as in metrics/measures.json, of the
    crops not trained on.
    """
    count = sum(one.trained_on for one in judged)
    judged = [one for one in judged if not one.trained_on]
    if not judged:
        write_json(path, {"trained_on": count})
        print(f"nothing is measured: the model was trained on all {count} crops")
        return
    y_true = np.array([one.label for one in judged], dtype=np.int64)
    y_score = np.array([one.probability for one in judged]).astype(np.float64)
    measures = score(y_true, y_score, np.array([one.predicted for one in judged]))
    write_json(path, measures | {"trained_on": count})
    for name in ("roc_auc", "sensitivity", "specificity", "accuracy"):
        print(
            f"{name}: {measures[name]:.3f}"
            if measures[name] is not None
            else f"{name}: not defined"
        )
    slides = len({one.slide for one in judged} - {""})
    if count:
        print(f"left out: {count} crops that the model was trained on")
    print(
        f"on {len(judged)} crops" + (f" of {slides} slide{'s' * (slides != 1)}" if slides else "")
    )
    if small := slides and too_small(slides, {}):
        print(small)
