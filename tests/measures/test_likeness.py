"""How unlike crops are: by hand where the features are independent, and for a laboratory that is
shifted.
"""

import numpy as np
import pytest

from stages.base.errors import UserError
from stages.evaluation.judged import Judged, warn_of_another_laboratory
from stages.measures.likeness import Likeness, fit_likeness, nothing_known, read_likeness


def test_the_distance_is_mahalanobiss():
    likeness = Likeness(
        np.array([1.0, 2.0]), np.array([2.0, 0.5]), np.eye(2), np.array([1.0, 4.0, 9.0, 16.0])
    )
    assert likeness.distance(np.array([[1, 2], [3, 2], [1, 3]])) == pytest.approx([0, 1, 4])
    # Of four training crops none is nearer than 0, one than 2.25, all than 100.
    assert likeness.unlike(np.array([[1, 2], [4, 2], [21, 2]])) == pytest.approx([0, 0.25, 1])


def test_unseen_crops_of_the_same_kind_are_spread_evenly_and_shifted_ones_are_not(tmp_path):
    random = np.random.default_rng(0)
    mixing = random.normal(size=(12, 12))

    def crops(n, shift=0.0):
        return (random.normal(shift, 1, (n, 12)) @ mixing).astype(np.float32)

    features, folds = crops(600), np.arange(600) % 5
    likeness = fit_likeness(features, folds)
    same, shifted = likeness.unlike(crops(500)), likeness.unlike(crops(500, 1.5))
    assert 0.45 < np.median(same) < 0.55 and np.mean(same > 0.95) < 0.09
    assert np.median(shifted) > 0.95
    likeness.save(tmp_path / "likeness.npz")
    again = read_likeness(tmp_path / "likeness.npz")
    assert np.array_equal(again.unlike(features), likeness.unlike(features))
    # The folds decide, not their numbers; the bytes are the same each time.
    before = (tmp_path / "likeness.npz").read_bytes()
    fit_likeness(features, folds + 7).save(tmp_path / "likeness.npz")
    assert (tmp_path / "likeness.npz").read_bytes() == before
    (tmp_path / "likeness.npz").write_bytes(before[:500])
    with pytest.raises(UserError, match=r"likeness.npz is damaged"):
        read_likeness(tmp_path / "likeness.npz")


def test_a_feature_that_is_the_same_in_all_crops_says_nothing():
    features = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    features[:, 1] = 7
    likeness = fit_likeness(features, np.arange(50) % 2)
    other = features.copy()
    other[:, 1] = 1000
    assert likeness.distance(other) == pytest.approx(likeness.distance(features))


def test_a_model_of_which_nothing_is_known(tmp_path):
    assert not nothing_known()
    with pytest.raises(
        UserError, match=r"none.npz does not exist; the folder of a model holds model.keras"
    ):
        read_likeness(tmp_path / "none.npz")
    nothing_known().save(tmp_path / "likeness.npz")
    assert not read_likeness(tmp_path / "likeness.npz")


@pytest.mark.parametrize(
    ("unlike", "warned"), [(0.97, True), (0.5, False), (0.95, False), (None, False)]
)
def test_a_folder_of_another_laboratory_is_said(capsys, unlike, warned):
    warn_of_another_laboratory([Judged("a.png", 1, np.float32(0.9), 0, "s", unlike, None)] * 3)
    assert (
        "label a dozen, and see `python -m stages.recalibrate --help`" in capsys.readouterr().err
    ) == warned
