"""What the model of a revision predicted: its test folds, and the datasets in `external`."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel

from stages.base.errors import UserError
from stages.base.files import parse_record
from stages.dataset.predictions import Predictions, parse_predictions
from stages.experiments.reading import PREDICTIONS, manifest_at, read_at
from stages.experiments.sides import State
from stages.measures.calibration import Share
from stages.measures.decision import CALIBRATION, Band
from stages.measures.influence import Sample
from stages.measures.pooled import pool


class Cut(BaseModel):
    """What of models/calibration.json makes decisions of probabilities."""

    threshold: Share
    uncertain: Band


class Outputs(NamedTuple):
    """Predictions, and which of them are decided, bool (n,): not in the uncertain band."""

    sample: Sample
    decided: np.ndarray

    @property
    def crops(self) -> np.ndarray:
        assert self.sample.crops is not None
        return self.sample.crops

    @property
    def folds(self) -> int:
        assert self.sample.folds is not None
        return len(np.unique(self.sample.folds))

    def is_wrong(self) -> np.ndarray:
        """Return which crops are decided wrongly, bool (n,)."""
        return self.decided & (self.sample.y_pred != self.sample.y_true)

    def at(self, rows: np.ndarray) -> "Outputs":
        """Return those of some rows."""
        return Outputs(self.sample.at(rows), self.decided[rows])

    def sorted(self) -> "Outputs":
        """Return the same in the order of the crops."""
        return self.at(np.argsort(self.crops))


def has_results(state: State) -> bool:
    """Return whether git or DVC's cache has the test predictions of an experiment."""
    try:
        for path in (PREDICTIONS, CALIBRATION):
            read_at(path, state.revision)
    except UserError:
        return False
    return True


def read_test(folds: Sequence[State]) -> Outputs:
    """Return the test predictions of a side, each crop by the model of its fold.

    With `split.by` site, the unit that varies is the site, and stands as `slides`.

    Raises:
        UserError: a fold has none, they are neither in git nor in DVC's cache, or are damaged.
    """
    predictions = [_predictions(PREDICTIONS, state) for state in folds]
    cuts = [_cut(state) for state in folds]
    sample = pool(predictions, [cut.threshold for cut in cuts])
    if folds[0].by == "site":
        sites = [manifest_at(state.revision, "site") for state in folds]
        of_crops = [of[path] for of, one in zip(sites, predictions) for path in one.paths]
        sample = sample._replace(slides=np.array(of_crops))
    decided = [~cut.uncertain.contains(one.y_score) for cut, one in zip(cuts, predictions)]
    return Outputs(sample, np.concatenate(decided)).sorted()


def read_external(name: str, folds: Sequence[State]) -> list[Outputs]:
    """Return the predictions for a dataset in `external`, once by the model of each fold."""
    found = []
    for state in folds:
        predictions = _predictions(f"metrics/external/{name}.csv", state)
        cut = _cut(state)
        decided = ~cut.uncertain.contains(predictions.y_score)
        found.append(Outputs(pool([predictions], [cut.threshold]), decided).sorted())
    return found


def _predictions(path: str, state: State) -> Predictions:
    where = _where(path, state)
    found = parse_predictions(io.StringIO(read_at(path, state.revision), newline=""), where)
    if not len(found.paths):
        raise UserError(f"{where}: there is no test set; the model is trained on all slides")
    return found


def _cut(state: State) -> Cut:
    content = read_at(CALIBRATION, state.revision)
    return parse_record(content, Cut, _where(CALIBRATION, state))


def _where(path: object, state: State) -> str:
    return f"{path} of {state.revision or 'the workspace'}"
