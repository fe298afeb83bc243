"""A model folder that is recalibrated for another site, and the model's rates there."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import assert_never

import numpy as np
from scipy.special import expit

from stages.base.errors import UserError
from stages.base.files import MODEL_FILES, read_json, sha256, write_json
from stages.images.archives import file_sha256, locate
from stages.measures.calibration import unclipped_log_odds
from stages.measures.decision import Decision
from stages.measures.intervals import Estimate, proportion
from stages.measures.novelty import OUT_OF_DISTRIBUTION
from stages.measures.recalibration import (
    LEAST_CROPS,
    Home,
    Sampling,
    Site,
    cross_fitted,
    fit_site,
    fit_unlabeled,
)
from stages.measures.scores import score

METHOD = (
    "the log-odds of each class lie around their median at home, shifted by a common and an own "
    "amount (normal with standard deviations 3 and 1.5); the threshold moves with them, as far as "
    "the labels say that it has moved"
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


# Fewer unlabeled crops do not show two classes.
LEAST_UNLABELED = 12
# With more labels that contradict the predictions, something is amiss.
MOST_WRONG = 2 / 3
# The model does not rank crops with a lower ROC AUC.
LEAST_ROC_AUC = 0.7
# The mean of sensitivity and specificity, 0.5 by chance, at which a model is of no use.
LEAST_MEAN_RATE = 0.6


def home_of(decision: Decision) -> Home:
    """Return what recalibration needs of the model's validation."""
    sensitivity = decision.target_sensitivity or decision.validation.sensitivity or 1.0
    threshold = float(unclipped_log_odds(decision.threshold))
    return Home(decision.classes, threshold, decision.prevalence, sensitivity)


def is_novel(novelty: np.ndarray | None) -> bool:
    """Return whether the crops are out of distribution; False if their novelty is unknown."""
    return novelty is not None and bool(np.median(novelty) > OUT_OF_DISTRIBUTION)


def _roc_auc(y_true: np.ndarray, y_score: np.ndarray) -> float | None:
    return score(y_true, y_score, y_score > 0, names=["roc_auc"])["roc_auc"]


def refuse_unlike(y_true: np.ndarray, y_score: np.ndarray, decision: Decision, table: Path) -> None:
    """Raise `UserError` if the labels do not look like those of crops that the model can rank."""
    roc_auc = _roc_auc(y_true, y_score)
    wrong = int(np.sum(decision.is_positive(y_score) != (y_true == 1)))
    if wrong > MOST_WRONG * len(y_true):
        raise UserError(
            f"{table}: {wrong} of {len(y_true)} labels contradict the predictions; if they are the "
            "corrections of a page on which all other crops were reviewed, give --sampling "
            "corrections; otherwise check that 1 means globally sclerotic"
        )
    if roc_auc is not None and roc_auc < LEAST_ROC_AUC:
        raise UserError(
            f"{table}: the model does not tell these crops apart (ROC AUC {roc_auc:.2f}), so no "
            "threshold can help; train on crops of this site"
        )


class Recalibrated:
    """The threshold of a site, and each rate before and after it is used.

    The rates after it are cross-fitted: each slide by the threshold of the other slides' labels, as
    new crops will be predicted; each crop by that of the others if its slide is unknown.

    Args:
        y_true: int (n,).
        y_score: float (n,), by the model as it is.
        slides: empty where unknown.
        novelty: float (n,), or None.
    """

    def __init__(
        self,
        decision: Decision,
        y_true: np.ndarray,
        y_score: np.ndarray,
        slides: Sequence[str],
        novelty: np.ndarray | None,
        sampling: Sampling,
    ):
        self.home, self.sampling = home_of(decision), sampling
        odds, novel = unclipped_log_odds(y_score), is_novel(novelty)
        groups = np.array([slide or f"crop {number}" for number, slide in enumerate(slides)])
        self.site: Site = fit_site(y_true, odds, groups, self.home, novel)
        y_pred = {
            "before": decision.is_positive(y_score),
            "after": cross_fitted(y_true, odds, groups, self.home, novel),
        }
        self.rates: dict[str, dict[str, Estimate]] = {
            RATES[label]: {
                when: proportion(
                    predicted[y_true == label] == (label == 1), groups[y_true == label]
                )
                for when, predicted in y_pred.items()
            }
            for label in (1, 0)
        }
        moved = expit(odds + self.site.shift(self.home).offset).astype(np.float32)
        self.ranks = _roc_auc(y_true, moved) == _roc_auc(y_true, y_score)
        self.crops, self.slides = np.bincount(y_true, minlength=2), len(set(filter(None, slides)))

    def refuse_useless(self, table: Path) -> None:
        """Raise `UserError` if the labels say that the recalibrated model would not work here."""
        before, after = (
            sum(found[when].value or 0 for found in self.rates.values()) / 2
            for when in ("before", "after")
        )
        rates = " and ".join(
            f"{name} {_text(found['before'])} before, {_text(found['after'])} after"
            for name, found in self.rates.items()
        )
        if after < before:
            raise UserError(
                f"{table}: recalibrated, the model would predict these crops worse ({rates}); use "
                "it as it is, or label more crops"
            )
        if after < LEAST_MEAN_RATE:
            raise UserError(
                f"{table}: recalibrated with the labels of other slides, the model would predict "
                f"these crops hardly better than chance ({rates}); label more slides, or train on "
                "crops of this site"
            )
        if not self.ranks:
            raise UserError(
                f"{table}: these crops lie so far from those of the training that different "
                "probabilities would become equal; train on crops of this site"
            )

    def print_rates(self) -> None:
        """Print how the threshold moves, and the rates with their intervals."""
        of_slides = f" of {self.slides} slides" if self.slides else ""
        counts = f"{self.crops[1]} positive, {self.crops[0]} negative"
        print(f"{self.crops.sum()} labeled crops{of_slides}: {counts}")
        moved = self.site.threshold - self.home.threshold
        print(f"threshold: moved by {moved:+.2f} in log-odds ({self.site.shifted:.2f} sure of it)")
        for name, found in self.rates.items():
            print(f"{name}: {', '.join(f'{_text(one)} {when}' for when, one in found.items())}")
        print("95 % intervals over slides; after: each slide by the labels of the others")
        print(f"these are rates {_sampled(self.sampling)}")

    def record(self) -> dict:
        """Return the content of recalibration.json."""
        return {
            "crops": int(self.crops.sum()),
            "positive": int(self.crops[1]),
            "slides": self.slides,
            "sampling": self.sampling,
            "prevalence_at_home": self.home.prevalence,
            "site": self.site._asdict(),
            "shift": self.site.shift(self.home).model_dump(),
            "interval": "95 %, over slides",
            **{
                name: {when: one._asdict() for when, one in found.items()}
                for name, found in self.rates.items()
            },
        }


class Unlabeled:
    """The threshold of a site that is shifted, from crops without labels.

    Raises:
        UserError: the crops are too few, or not out of distribution.
    """

    def __init__(self, decision: Decision, y_score: np.ndarray, novelty: np.ndarray | None):
        if len(y_score) < LEAST_UNLABELED:
            raise UserError(
                f"--unlabeled: {len(y_score)} crops; at least {LEAST_UNLABELED} are needed"
            )
        if novelty is None:
            raise UserError(
                "--unlabeled: this model has no novelty, which says whether a site is shifted; "
                "give --labels"
            )
        if not is_novel(novelty):
            raise UserError(
                f"--unlabeled: the crops are not out of distribution (median novelty "
                f"{np.median(novelty):.2f}; above {OUT_OF_DISTRIBUTION} they would be): use the "
                "model as it is, or give --labels"
            )
        self.home, self.crops = home_of(decision), len(y_score)
        self.site: Site = fit_unlabeled(unclipped_log_odds(y_score), self.home)

    def print_rates(self) -> None:
        """Print how the threshold moves."""
        moved = self.site.threshold - self.home.threshold
        print(f"{self.crops} crops without labels")
        print(f"threshold: moved by {moved:+.2f} in log-odds, which no label has confirmed")

    def record(self) -> dict:
        """Return the content of recalibration.json."""
        return {
            "crops": self.crops,
            "positive": None,
            "sampling": "unlabeled",
            "prevalence_at_home": self.home.prevalence,
            "site": self.site._asdict(),
            "shift": self.site.shift(self.home).model_dump(),
        }


def _text(one: Estimate) -> str:
    if one.value is None:
        return "not defined"
    if one.low is None or one.high is None:
        return f"{one.value:.3f} (no interval: {one.reason})"
    return f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"


def _sampled(sampling: Sampling) -> str:
    match sampling:
        case "proposed":
            return "of crops chosen over all probabilities, harder than the folder as a whole"
        case "slides":
            return "of all crops of some slides"
        case "corrections":
            return "of all crops, where those without a correction count as predicted correctly"
        case _:
            assert_never(sampling)


def write_model(
    output: Path,
    model: Path,
    recalibrated: Recalibrated | Unlabeled,
    folder: Path,
    names: Sequence[str],
) -> None:
    """Write the recalibrated copy of the folder `model` to `output`, as a whole or not at all.

    Args:
        folder, names: of the crops that it was fitted to.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".recalibrate-", dir=output.parent) as place:
        made = Path(place) / "model"
        made.mkdir()
        for name in MODEL_FILES:
            shutil.copyfile(model / name, made / name)
        origin = {
            "from_sha256": {name: sha256(model / name) for name in MODEL_FILES},
            "crops_sha256": {name: file_sha256(locate(folder, name)) for name in names},
            "method": METHOD,
        }
        write_json(made / "model.json", read_json(model / "model.json") | {"recalibrated": origin})
        decision = read_json(model / "calibration.json")
        decision["model_sha256"] = sha256(made / "model.json")
        decision["calibration"] |= {
            "local": recalibrated.site.shift(recalibrated.home).model_dump()
        }
        write_json(made / "calibration.json", decision)
        write_json(made / "recalibration.json", recalibrated.record())
        made.rename(output)
