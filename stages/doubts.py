"""List the labels that a pathologist should look at again: those that models which had not seen the glomerulus find unlikely.

    python -m stages.doubts fold-0 fold-1 fold-2 fold-3 fold-4

takes the test predictions of experiments, together one of each glomerulus, and cleanlab's judgement of them (confident
learning: Northcutt, Jiang and Chuang, JAIR 70:1373, 2021). Writes doubts.csv, the most doubtful first, and doubts.png into
--output. Nothing is changed: a correction is a line `path,label` in the table that the dataset's card names as `corrections`.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_self_confidence_for_each_label

from stages.base.errors import UserError, refuse, run_stage
from stages.base.files import write_table
from stages.dataset.card import read_dataset
from stages.dataset.predictions import parse_predictions
from stages.experiments import Experiment, read_experiments
from stages.images.opening import load_image
from stages.images.sheets import contact_sheet, save_png

PREDICTIONS = "metrics/predictions.csv"
SHOWN, COLUMNS = 40, 8


class Doubt(NamedTuple):
    """A label that is doubted: `probability` is that of global sclerosis, `confidence` that of the label, by the models."""

    path: str
    slide: str
    label: int
    probability: float
    confidence: float


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.doubts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiments", nargs="+", help="names of experiments, such as one for each fold")
    parser.add_argument("--rev", action="append", default=[], help="the commit, branch or tag that the experiments start from")
    parser.add_argument("--output", type=Path, default=Path("doubts"), help="the folder to write to (default: doubts)")
    arguments = parser.parse_args()
    known = {experiment.name: experiment for experiment in read_experiments(arguments.rev, 1)}
    refuse(
        [f"there is no experiment {name}; there are {', '.join(known)}" for name in arguments.experiments if name not in known]
    )
    experiments = [known[name] for name in arguments.experiments]
    names = sorted({str(experiment.params["data"]) for experiment in experiments})
    if len(names) > 1:
        raise UserError(f"the experiments are of several datasets: {', '.join(names)}")
    dataset = read_dataset(names[0])
    paths, slides, y_true, y_score = out_of_fold(experiments)
    doubts = find_doubts(paths, slides, y_true, y_score)
    write_table(arguments.output / "doubts.csv", Doubt._fields, doubts)
    crops = [load_image(dataset.folder / doubt.path).convert("RGB") for doubt in doubts[:SHOWN]]
    captions = [f"label {doubt.label}, p = {doubt.probability:.3f}\n{Path(doubt.path).name}" for doubt in doubts[:SHOWN]]
    sheet = contact_sheet(crops, captions, columns=min(COLUMNS, max(1, len(crops))))
    save_png(arguments.output / "doubts.png", sheet)
    print(f"{len(doubts)} of {len(paths)} labels are doubted: {arguments.output}/doubts.csv and doubts.png", file=sys.stderr)


def out_of_fold(experiments: Sequence[Experiment]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return path, slide, label and mean probability of all glomeruli that the experiments tested, sorted by path.

    Raises:
        UserError: two experiments disagree about a label.
    """
    probabilities, about = defaultdict(list), {}
    for experiment in experiments:
        found = parse_predictions(experiment.read(PREDICTIONS).splitlines(), f"{PREDICTIONS} of {experiment.name}")
        for path, slide, label, probability in zip(*found):
            if about.setdefault(str(path), (str(slide), int(label))) != (str(slide), int(label)):
                raise UserError(f"the experiments have several labels or slides of {path}; take those of one state of the labels")
            probabilities[str(path)].append(float(probability))
    paths = sorted(about)
    slides, labels = zip(*(about[path] for path in paths))
    return np.array(paths), np.array(slides), np.array(labels), np.array([np.mean(probabilities[path]) for path in paths])


def find_doubts(paths: np.ndarray, slides: np.ndarray, y_true: np.ndarray, y_score: np.ndarray) -> list[Doubt]:
    """Return the labels that cleanlab doubts, those in which the models have the least confidence first.

    Raises:
        UserError: a class is missing.
    """
    if len(np.unique(y_true)) < 2:
        raise UserError("doubts need glomeruli of both classes")
    probabilities = np.stack([1 - y_score, y_score], axis=1)
    confidence = get_self_confidence_for_each_label(y_true, probabilities)
    doubted = find_label_issues(y_true, probabilities, n_jobs=1)
    rows = [row for row in np.argsort(confidence, kind="stable") if doubted[row]]
    return [
        Doubt(paths[row], slides[row], int(y_true[row]), round(float(y_score[row]), 6), round(float(confidence[row]), 6))
        for row in rows
    ]


if __name__ == "__main__":
    run_stage(main)
