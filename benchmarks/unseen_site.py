"""Measure a model on a hospital it has not seen: without labels, and recalibrated with a few.

    python -m benchmarks.unseen_site [REPOSITORY]

REPOSITORY has data/features and data/manifest.csv of `aidpath` with the recommended backbone. Each
hospital is left out in turn: the ensemble is trained on the features of the others (as in
stages.training.head) and predicts its crops. Prints the tables of docs/backbones.md.
"""

import csv
import os
import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler

from stages.measures.calibration import fit_calibration, log_odds
from stages.measures.classes import Classes, describe_class
from stages.measures.recalibration import LEAST_CROPS, Home, fit_site, fit_unlabeled
from stages.measures.scores import confusion, rates
from stages.measures.threshold import choose_threshold

FOLDS, PENALTY, VIEWS = 5, 30, 8
REPEATS = 50
LABELLED = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
MEASURES = ("sensitivity", "specificity", "balanced_accuracy")
LEAST_SLIDES = 4
TRIES = 20  # draws for each repeat, before it is given up that both classes are on both sides


def head(features: np.ndarray, y: np.ndarray):
    """The head of a member: from features (n, views, D) to the mean probability of the views."""
    flat = features.reshape(-1, features.shape[-1])
    scaler = StandardScaler().fit(flat)
    fitted = LogisticRegression(C=1 / (PENALTY * VIEWS), class_weight="balanced", max_iter=1000)
    fitted.fit(scaler.transform(flat), np.repeat(y, VIEWS))
    return lambda some: (
        expit(fitted.decision_function(scaler.transform(some.reshape(-1, some.shape[-1]))))
        .reshape(len(some), -1)
        .mean(axis=1)
    )


class Model:
    """The ensemble of some hospitals: calibrated log-odds of features, and the threshold."""

    def __init__(self, features: np.ndarray, y: np.ndarray, slides: np.ndarray):
        out_of_fold, member, self.members = np.zeros(len(y)), np.zeros(len(y), dtype=int), []
        for number, (train, val) in enumerate(
            StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(y, y, slides)
        ):
            self.members.append(head(features[train], y[train]))
            out_of_fold[val], member[val] = self.members[-1](features[val]), number
        self.calibration = fit_calibration(y, out_of_fold, "sigmoid", member)
        calibrated = self.calibration.of_members(out_of_fold, member)
        self.known, self.y, self.features = log_odds(calibrated), y, features
        threshold = choose_threshold(y, calibrated, "sensitivity", 0.95, slides)
        self.threshold = float(log_odds(threshold))
        classes = [describe_class(self.known[y == label], slides[y == label]) for label in (0, 1)]
        both = Classes(negative=classes[0], positive=classes[1])
        self.home = Home(both, self.threshold, float(y.mean()), 0.95)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        columns = [member(features) for member in self.members]
        return log_odds(self.calibration(np.stack(columns, axis=1)))


def prior_by_em(odds: np.ndarray, share: float) -> np.ndarray:
    """Log-odds under the share of positives that expectation maximization finds (Saerens, Neural
    Computation 14:21, 2002).
    """
    here = share
    for _ in range(500):
        here = float(np.mean(expit(odds - logit(share) + logit(here))))
    return odds - logit(share) + logit(here)


def valley(odds: np.ndarray) -> float:
    """Where two normal distributions, fitted to the log-odds, are equally likely."""
    mixture = GaussianMixture(2, random_state=0, n_init=3).fit(odds[:, None])
    between = np.linspace(*np.sort(mixture.means_[:, 0]), 400)
    return between[np.argmin(np.abs(mixture.predict_proba(between[:, None])[:, 0] - 0.5))]


def power(covariance: np.ndarray, exponent: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.maximum(values, 1e-9) ** exponent) @ vectors.T


def aligned(
    features: np.ndarray, source: np.ndarray, target: np.ndarray, covariance: bool
) -> np.ndarray:
    """Features with the mean and standard deviation, or covariance (CORAL: Sun, AAAI 2016), of
    those that were trained on.
    """
    if covariance:
        matrix = power(LedoitWolf().fit(target).covariance_, -0.5) @ power(
            LedoitWolf().fit(source).covariance_, 0.5
        )
    else:
        matrix = np.diag((source.std(axis=0) + 1e-6) / (target.std(axis=0) + 1e-6))
    return (features - target.mean(axis=0)) @ matrix + source.mean(axis=0)


def repairs(model: Model, features: np.ndarray) -> dict[str, tuple[np.ndarray, float]]:
    """Log-odds and threshold by each repair that needs no label."""
    odds, cut, known = model(features), model.threshold, model.known
    ranks = np.searchsorted(np.sort(odds), odds) / len(odds)
    views = [
        aligned(features[:, view], model.features[:, 0], features[:, 0], False)
        for view in range(VIEWS)
    ]
    whitened = [
        aligned(features[:, view], model.features[:, 0], features[:, 0], True)
        for view in range(VIEWS)
    ]
    return {
        "as it is": (odds, cut),
        "prior by EM": (prior_by_em(odds, float(model.y.mean())), cut),
        "mean and deviation of log-odds": (
            (odds - odds.mean()) / odds.std() * known.std() + known.mean(),
            cut,
        ),
        "quantiles of log-odds": (np.quantile(known, ranks), cut),
        "valley of log-odds": (odds, valley(odds)),
        "two classes near those at home": (odds, fit_unlabeled(odds, model.home).threshold),
        "mean and deviation of features": (model(np.stack(views, axis=1)), cut),
        "CORAL": (model(np.stack(whitened, axis=1)), cut),
    }


class Point(NamedTuple):
    """Of one measure on `labeled` crops: the median over repeats, and between which values nine of
    ten of them lie.
    """

    labeled: int
    measure: str
    median: float
    low: float
    high: float


def recalibration_curve(
    y_true: np.ndarray, log_odds: np.ndarray, home: Home, slides: np.ndarray, seed: int
) -> list[Point]:
    """Return the curve, from no label to half of the crops.

    In each repeat the labeled crops are drawn from some slides, and the crops of the other slides
    are measured; with fewer than four slides, the other crops. All numbers of labels use the same
    draws of slides, as far as these hold enough crops.

    Args:
        y_true: int array (n,).
        log_odds: float array (n,), calibrated at the model's site; positive from `threshold` on.
        slides: text array (n,).
    """
    points: list[Point] = []
    few = len(np.unique(slides)) < LEAST_SLIDES
    groups = np.arange(len(y_true)) if few else np.unique(slides, return_inverse=True)[1]
    numbers = [number for number in LABELLED if LEAST_CROPS <= number <= len(y_true) / 2]
    for labeled in numbers:
        found = [
            _measured(y_true, log_odds, home, slides, chosen, rest)
            for chosen, rest in _draws(y_true, groups, labeled, seed, few)
        ]
        if len(found) < REPEATS:
            continue
        before, after = (np.array([pair[place] for pair in found]) for place in (0, 1))
        if not points:
            points += _points(0, before)
        points += _points(labeled, after)
    return points


def _points(labeled: int, values: np.ndarray) -> list[Point]:
    low, median, high = np.percentile(values, (5, 50, 95), axis=0)
    return [
        Point(labeled, name, *(round(float(one[place]), 4) for one in (median, low, high)))
        for place, name in enumerate(MEASURES)
    ]


def _draws(
    y_true: np.ndarray, groups: np.ndarray, labeled: int, seed: int, few: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (labeled, measured) rows, both classes in each, for at most `REPEATS` repeats."""
    for repeat in range(REPEATS):
        random = np.random.default_rng([seed, repeat])
        for _ in range(TRIES):
            order = random.permutation(int(groups.max()) + 1)
            sizes = np.cumsum(np.bincount(groups)[order])
            # Of several slides, as a laboratory would: of three at least, and of as many as it
            # takes.
            first = labeled if few else max(3, int(np.searchsorted(sizes, labeled)) + 1)
            drawn = np.flatnonzero(np.isin(groups, order[:first]))
            rest = np.setdiff1d(np.arange(len(y_true)), drawn)
            if len(drawn) < labeled or len(np.unique(y_true[rest])) < 2:
                continue
            chosen = random.choice(drawn, labeled, replace=False)
            if len(np.unique(y_true[chosen])) == 2:
                yield chosen, rest
                break


def _measured(
    y_true: np.ndarray,
    log_odds: np.ndarray,
    home: Home,
    slides: np.ndarray,
    chosen: np.ndarray,
    rest: np.ndarray,
) -> tuple[list[float | None], list[float | None]]:
    """Return the measures of the rows `rest` before and after recalibrating on `chosen`."""
    site = fit_site(y_true[chosen], log_odds[chosen], slides[chosen], home, novel=False)
    before, after = (
        rates(*confusion(y_true[rest], log_odds[rest] >= threshold))
        for threshold in (home.threshold, site.threshold)
    )
    return [before[name] for name in MEASURES], [after[name] for name in MEASURES]


def main() -> None:
    os.chdir(sys.argv[1] if len(sys.argv) > 1 else ".")
    features = np.load("data/features/features.npy")[:, :VIEWS]
    with open("data/manifest.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    y = np.array([int(row["label"]) for row in rows])
    slides, sites = (np.array([row[name] for row in rows]) for name in ("slide", "site"))
    for site in np.unique(sites):
        here = sites == site
        model = Model(features[~here], y[~here], slides[~here])
        count = len(np.unique(slides[here]))
        print(f"{site}: {here.sum()} crops, {y[here].sum()} positive, {count} slides")
        for name, (odds, cut) in repairs(model, features[here]).items():
            positive = odds >= cut
            sensitivity, false = positive[y[here] == 1].mean(), positive[y[here] == 0].mean()
            print(f"  {name}: {sensitivity:.3f} {1 - false:.3f}")
        for point in recalibration_curve(
            y[here], model(features[here]), model.home, slides[here], 0
        ):
            interval = f"({point.low:.3f} to {point.high:.3f})"
            print(f"  {point.labeled} labels: {point.measure} {point.median:.3f} {interval}")


if __name__ == "__main__":
    main()
