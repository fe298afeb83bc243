"""Fit the head of a backbone to features that are already computed."""

from pathlib import Path

import numpy as np
from dvclive.live import Live
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from threadpoolctl import threadpool_limits

from stages.base.errors import UserError
from stages.model.backend import keras
from stages.model.networks import NEIGHBORS, build_head, build_neighbors_head
from stages.training.parameters import TrainParameters


def fit_head(
    features: np.ndarray,
    y: np.ndarray,
    train: np.ndarray,
    val: np.ndarray,
    params: TrainParameters,
    orientations: int,
) -> tuple[keras.Model, dict[str, dict[str, float]]]:
    """Fit the head of a backbone by scikit-learn's logistic regression with an L2 penalty.

    It is fitted to all views of a crop, without `augment.orientations` to the upright and the
    jittered ones; a crop counts once, however many views it has. The fit is convex, so that it has
    no seed and no epochs.

    Args:
        features: float32 (N, views, D).
        orientations: how many of the views, the first ones, are orientations of the square.

    Returns:
        the head, and the `loss`, `accuracy` and `auc` of the first views of `train` and `val`.
    """
    views = np.arange(features.shape[1])
    if not params.augment.orientations:
        views = np.delete(views, slice(1, orientations))  # of these, the upright one stays
    learned = features[np.ix_(train, views)].reshape(-1, features.shape[-1])
    head = build_head(learned)
    normalize = head.get_layer("normalization")
    weight = "balanced" if params.is_balanced else None
    penalty = params.head_penalty * len(views)
    regression = LogisticRegression(C=1 / penalty, class_weight=weight, max_iter=1000)
    # Sums over several threads would round differently from machine to machine.
    with threadpool_limits(limits=1):
        regression.fit(np.asarray(normalize(learned)), np.repeat(y[train], len(views)))
    head.get_layer("log_odds").set_weights([regression.coef_.T, regression.intercept_])
    return head, _measures(head, features, y, train, val)


def fit_neighbors(
    features: np.ndarray, y: np.ndarray, train: np.ndarray, val: np.ndarray
) -> tuple[keras.Model, dict[str, dict[str, float]]]:
    """Return the head that votes over the nearest training crops, by their first views.

    It has no penalty to choose, so that it shows what the features are worth by themselves.
    Arguments and result are those of `fit_head`.

    Raises:
        UserError: there are fewer training crops than neighbors.
    """
    if len(train) < NEIGHBORS:
        raise UserError(
            f"params.yaml: model.head is knn, which needs {NEIGHBORS} training crops; "
            f"there are {len(train)}"
        )
    head = build_neighbors_head(np.array(features[train, 0]), y[train])
    return head, _measures(head, features, y, train, val)


def _measures(
    head: keras.Model, features: np.ndarray, y: np.ndarray, train: np.ndarray, val: np.ndarray
) -> dict[str, dict[str, float]]:
    measures = {}
    for name, rows in (("train", train), ("val", val)):
        chunks = np.array_split(rows, -(-len(rows) // 4096))
        scores = [np.asarray(head(features[chunk, 0]))[:, 0] for chunk in chunks]
        y_score = np.concatenate(scores)
        measures[name] = {
            "loss": float(log_loss(y[rows], y_score.astype(np.float64), labels=[0, 1])),
            "accuracy": float(np.mean((y_score >= 0.5) == y[rows])),
            "auc": float(roc_auc_score(y[rows], y_score)),
        }
    return measures


def log_once(measures: dict[str, dict[str, float]], folder: Path) -> None:
    """Log a fit without epochs like one epoch of `fit`: one point on every curve."""
    with Live(str(folder), save_dvc_exp=False, dvcyaml=None) as live:
        live.step = 1
        for split, values in measures.items():
            for name, value in values.items():
                live.log_metric(f"{split}/{name}", value)
        live.summary["best"] = measures["val"]
        live.next_step()
