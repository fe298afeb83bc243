"""The crops that each member of an ensemble is trained and validated on."""

import numpy as np
import pytest

from stages.base.errors import UserError
from stages.dataset.cohort import Cohort
from stages.training.members import memberships


def a_cohort(labels, folds):
    """One crop per slide; fold 1 is the validation set."""
    names = np.array([f"s{number}" for number in range(len(labels))])
    splits = np.select([np.array(folds) == 0, np.array(folds) == 1], ["test", "val"], "train")
    y = np.array(labels)
    return Cohort(names, y, names, splits, np.array(folds), y, names, names)


def test_each_fold_except_the_test_set_is_validated_on_once():
    cohort = a_cohort([0, 1] * 4, [0, 0, 1, 1, 2, 2, 3, 3])
    ((train, val),) = memberships(cohort, ensemble=False)
    assert train.tolist() == [4, 5, 6, 7] and val.tolist() == [2, 3]
    assert [val.tolist() for _, val in memberships(cohort, ensemble=True)] == [
        [2, 3],
        [4, 5],
        [6, 7],
    ]


def test_refuses_a_fold_without_a_class():
    cohort = a_cohort([0, 1, 0, 1, 0, 0, 0, 1], [0, 0, 1, 1, 2, 2, 3, 3])
    assert len(memberships(cohort, ensemble=False)) == 1
    with pytest.raises(
        UserError,
        match=r"fold 2 of data/split.csv has no globally sclerotic glomerulus .*; 3 slides",
    ):
        memberships(cohort, ensemble=True)
