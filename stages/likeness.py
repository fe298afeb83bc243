"""Note what the training crops are like, so that `predict` knows which are unlike them: data/features -> models/likeness.npz.

Where the model has no frozen backbone there are no features, and nothing is noted.
"""

import numpy as np

from stages.base.errors import run_program
from stages.dataset.cohort import open_features, read_cohort
from stages.measures.likeness import LIKENESS, fit_likeness, nothing_known


def main() -> None:
    features, cohort = open_features(), read_cohort()
    if features.shape[-1] == 0:
        nothing_known().save()
        print("nothing to do: the model has no features that are computed once")
        return
    rows = np.flatnonzero(cohort.folds > 0)
    upright = np.stack([features[row, 0] for row in rows])
    fit_likeness(upright, cohort.folds[rows]).save()
    print(f"{len(rows)} crops, {features.shape[-1]} features: {LIKENESS}")


if __name__ == "__main__":
    run_program(main, __doc__)
