"""Note what the training crops are like, so that `predict` knows which are unlike them:
data/features -> models/likeness.npz.

Where the model has no frozen backbone there are no features, and nothing is noted.
"""

import numpy as np

from stages.base.errors import run_program
from stages.base.files import sha256
from stages.dataset.cohort import FEATURES, MANIFEST, SPLIT, open_features, read_cohort
from stages.measures.likeness import LIKENESS, fit_likeness, nothing_known


def main() -> None:
    features, cohort = open_features(), read_cohort()
    rows = np.flatnonzero(cohort.folds > 0)
    is_known = features.shape[-1] > 0
    likeness = (
        fit_likeness(np.stack([features[row, 0] for row in rows]), cohort.folds[rows])
        if is_known
        else nothing_known()
    )
    likeness.made_from = (sha256(MANIFEST), sha256(SPLIT), sha256(FEATURES) if is_known else "")
    likeness.save()
    if is_known:
        print(f"{len(rows)} crops, {features.shape[-1]} features: {LIKENESS}")
    else:
        print("nothing to do: the model has no features that are computed once")


if __name__ == "__main__":
    run_program(main, __doc__)
