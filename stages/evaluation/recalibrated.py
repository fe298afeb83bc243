"""A model folder that is recalibrated for another site, and the model's rates there."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stages.base.errors import UserError
from stages.base.files import MODEL_FILES, read_json, sha256, write_json
from stages.evaluation.classifier import Classifier
from stages.measures.calibration import log_odds
from stages.measures.decision import is_positive
from stages.measures.recalibration import (
    LEAST_CROPS,
    Rate,
    Shift,
    cross_fitted,
    fit_shift,
    more_labels,
    rate,
)

METHOD = (
    "the posterior mean of a logistic map of the log-odds (Platt 1999), by a prior about no map: "
    "the offset normal with standard deviation 0.5, or 5 with probability 0.15, the logarithm of "
    "the slope normal with 0.2"
)
CLASSES = ("negative", "positive")
RATES = ("specificity", "sensitivity")


def refuse_few(labels: Mapping[str, int], table: Path) -> None:
    """Raise `UserError`, saying what is missing, if these labels are too few to recalibrate."""
    counts = np.bincount([*labels.values()], minlength=2)
    missing = [f"a {kind} crop" for kind, count in zip(CLASSES, counts) if count == 0]
    if (lacking := LEAST_CROPS - counts.sum()) > 0:
        missing.append(f"{LEAST_CROPS} in all" if missing else f"{lacking} more")
    if missing:
        labeled = f"{counts[1]} positive and {counts[0]} negative crops"
        raise UserError(f"{table} labels {labeled}; it lacks {' and '.join(missing)}")


class Recalibrated:
    """The map of a site, and each rate before and after it.

    The rates after it are cross-fitted: each slide by the map of the other slides' labels, as new
    crops will be predicted; each crop by the map of the others if its slide is unknown.
    """

    def __init__(
        self, classifier: Classifier, y_true: np.ndarray, y_score: np.ndarray, slides: Sequence[str]
    ):
        odds, threshold = log_odds(y_score), float(log_odds(classifier.decision.threshold))
        groups = np.array([slide or f"crop {number}" for number, slide in enumerate(slides)])
        self.shift: Shift = fit_shift(y_true, odds)
        y_pred = {
            "before": classifier.decision.is_positive(y_score),
            "after": is_positive(cross_fitted(y_true, odds, groups), threshold),
        }
        self.rates: dict[str, dict[str, Rate]] = {
            RATES[label]: {
                when: rate(predicted[y_true == label], label) for when, predicted in y_pred.items()
            }
            for label in (1, 0)
        }
        self.crops, self.slides = np.bincount(y_true, minlength=2), len(set(filter(None, slides)))

    def print_rates(self) -> None:
        """Print the rates with their intervals, and how many more labels would confirm them."""
        of_slides = f" of {self.slides} slides" if self.slides else ""
        counts = f"{self.crops[1]} positive, {self.crops[0]} negative"
        print(f"{self.crops.sum()} labeled crops{of_slides}: {counts}")
        for name, found in self.rates.items():
            texts = [
                f"{one.right / one.n:.3f} ({one.low:.3f} to {one.high:.3f}) {when}"
                for when, one in found.items()
            ]
            print(f"{name}: {', '.join(texts)}")
        print("95 % intervals by Wilson; after: each slide by the labels of the others")
        more = {CLASSES[label]: more_labels(self.rates[RATES[label]]["after"]) for label in (1, 0)}
        if wanted := [f"{count} more {kind}s" for kind, count in more.items() if count]:
            needed = " and ".join(wanted)
            print(f"label {needed}, all predicted correctly, to be sure of rates above 0.95")

    def record(self) -> dict:
        """Return the content of recalibration.json."""
        rates = {
            name: {when: one._asdict() | {"rate": one.right / one.n} for when, one in found.items()}
            for name, found in self.rates.items()
        }
        counts = {
            "crops": int(self.crops.sum()),
            "positive": int(self.crops[1]),
            "slides": self.slides,
        }
        return counts | {"shift": self.shift.model_dump(), "interval": "95 %, Wilson", **rates}


def write_model(
    output: Path, model: Path, recalibrated: Recalibrated, folder: Path, names: Sequence[str]
) -> None:
    """Write the recalibrated copy of the folder `model` to `output`, as a whole or not at all.

    Args:
        folder, names: of the labeled crops.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".recalibrate-", dir=output.parent) as place:
        made = Path(place) / "model"
        made.mkdir()
        for name in MODEL_FILES:
            shutil.copyfile(model / name, made / name)
        origin = {
            "from_sha256": {name: sha256(model / name) for name in MODEL_FILES},
            "crops_sha256": {name: sha256(folder / name) for name in names},
            "method": METHOD,
        }
        write_json(made / "model.json", read_json(model / "model.json") | {"recalibrated": origin})
        decision = read_json(model / "calibration.json")
        decision["model_sha256"] = sha256(made / "model.json")
        decision["calibration"] |= {"local": recalibrated.shift.model_dump()}
        write_json(made / "calibration.json", decision)
        write_json(made / "recalibration.json", recalibrated.record())
        made.rename(output)
