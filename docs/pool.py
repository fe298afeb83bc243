"""Pool the test predictions of the folds of some experiments, as the tables in docs/results.md do.

    python docs/pool.py aidpath-conv3-dense1-slide aidpath-logistic-slide

reads the experiments NAME-0 to NAME-4 of this repository. Each image is judged once, by the model of the fold in which its
slide is a test slide, at the threshold that was chosen on that fold's validation slides.
"""

import csv
import io
import json
import sys

import dvc.api
import numpy as np

from stages.metrics import confusion, rates, score, slide_bootstrap

FOLDS = 5


def main(names: list[str]) -> None:
    print("| experiment | ROC AUC, pooled | ROC AUC of the folds | average precision | sensitivity | specificity | F1 |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        folds = [read(f"{name}-{fold}") for fold in range(FOLDS)]
        aucs = [json.loads(dvc.api.read("metrics/test.json", rev=f"{name}-{fold}"))["roc_auc"] for fold in range(FOLDS)]
        rows = [row for fold in folds for row in fold]
        y_true = np.array([int(row["label"]) for row in rows])
        y_score = np.array([float(row["probability"]) for row in rows])
        y_pred = np.array([int(row["predicted"]) for row in rows])
        slides = np.array([row["slide"] for row in rows])
        pooled = score(y_true, y_score, 0.5)
        interval = slide_bootstrap(y_true, y_score, 0.5, slides, 2000, 0)["roc_auc"]
        # The thresholds differ between folds: the decisions are pooled, not the probabilities.
        decided = rates(*confusion(y_true, y_pred))
        spread = slide_bootstrap(y_true, y_pred.astype(float), 0.5, slides, 2000, 0)
        cells = [
            name,
            f"{pooled['roc_auc']:.3f} ({interval['low']:.3f}-{interval['high']:.3f})",
            f"{min(aucs):.3f} to {max(aucs):.3f}",
            f"{pooled['average_precision']:.3f}",
        ]
        for key in ("sensitivity", "specificity", "f1"):
            cells.append(f"{decided[key]:.3f} ({spread[key]['low']:.2f}-{spread[key]['high']:.2f})")
        print(f"| {' | '.join(cells)} |")


def read(experiment: str) -> list[dict[str, str]]:
    """Return the rows of an experiment's metrics/predictions.csv."""
    return list(csv.DictReader(io.StringIO(dvc.api.read("metrics/predictions.csv", rev=experiment))))


if __name__ == "__main__":
    main(sys.argv[1:])
