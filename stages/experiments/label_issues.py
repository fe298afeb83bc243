"""Labels that predictions for unseen glomeruli make unlikely."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from cleanlab import filter as confident_learning
from cleanlab.rank import get_self_confidence_for_each_label

from stages.base.errors import UserError
from stages.dataset.predictions import VALIDATION
from stages.experiments.reading import PREDICTIONS, Experiment


class LabelIssue(NamedTuple):
    """An unlikely label, with the mean predicted probability of sclerosis and of the label."""

    path: str
    slide: str
    label: int
    probability: float
    confidence: float


def out_of_fold(
    experiments: Sequence[Experiment],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return path, slide, label and mean probability of the tested glomeruli, sorted by path.

    Raises:
        UserError: two experiments have different labels or slides of a glomerulus.
    """
    probabilities: dict[str, list[float]] = defaultdict(list)
    about: dict[str, tuple[str, int]] = {}
    for experiment in experiments:
        # In both tables, each crop is predicted by a model that was not trained on it.
        table = VALIDATION if experiment.has_no_test else PREDICTIONS
        for path, slide, label, probability in zip(*experiment.predictions(table)):
            if about.setdefault(str(path), (str(slide), int(label))) != (str(slide), int(label)):
                raise UserError(
                    f"the experiments have several labels or slides of {path}; choose experiments "
                    "with the same labels"
                )
            probabilities[str(path)].append(float(probability))
    paths = sorted(about)
    slides, labels = zip(*(about[path] for path in paths))
    return (
        np.array(paths),
        np.array(slides),
        np.array(labels),
        np.array([np.mean(probabilities[path]) for path in paths]),
    )


def find_label_issues(
    paths: np.ndarray, slides: np.ndarray, y_true: np.ndarray, y_score: np.ndarray
) -> list[LabelIssue]:
    """Return the labels that cleanlab finds unlikely, the most unlikely first.

    Raises:
        UserError: a class is missing.
    """
    if len(np.unique(y_true)) < 2:
        raise UserError("label issues need glomeruli of both classes")
    probabilities = np.stack([1 - y_score, y_score], axis=1)
    confidence = get_self_confidence_for_each_label(y_true, probabilities)
    unlikely = confident_learning.find_label_issues(y_true, probabilities, n_jobs=1)
    rows = [row for row in np.argsort(confidence, kind="stable") if unlikely[row]]
    return [
        LabelIssue(
            paths[row],
            slides[row],
            int(y_true[row]),
            round(float(y_score[row]), 6),
            round(float(confidence[row]), 6),
        )
        for row in rows
    ]
