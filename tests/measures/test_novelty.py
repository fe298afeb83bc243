"""Novelty, worked by hand for independent features, and of shifted crops."""

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from stages.base.errors import UserError
from stages.evaluation.predictions import Prediction, warn_if_out_of_distribution
from stages.measures.novelty import NoveltyReference, empty_reference, fit_novelty, read_novelty


def test_distance_is_mahalanobis():
    factor = np.array([1, 0, 1], np.float16)  # of two independent features
    reference = NoveltyReference(
        np.array([1.0, 2.0]), np.array([2.0, 0.5]), factor, np.array([1.0, 4.0, 9.0, 16.0])
    )
    assert reference.distance(np.array([[1, 2], [3, 2], [1, 3]])) == pytest.approx([0, 1, 4])
    # Of the four training crops none is nearer than 0, one than 2.25, all than 100.
    assert reference.novelty(np.array([[1, 2], [4, 2], [21, 2]])) == pytest.approx([0, 0.25, 1])


def test_distance_is_that_of_scikit_learn():
    random = np.random.default_rng(0)
    mixing = random.normal(size=(30, 30)) * np.logspace(-3, 2, 30)
    features = (random.normal(size=(200, 30)) @ mixing).astype(np.float32)
    standardized = (features - features.mean(0)) / features.std(0)
    expected = LedoitWolf(assume_centered=True).fit(standardized).mahalanobis(standardized)
    found = fit_novelty(features, np.arange(200)).distance(features)
    assert found == pytest.approx(expected, rel=2e-3)


def test_novelty_is_uniform_for_unseen_crops_and_high_for_shifted_ones(tmp_path):
    random = np.random.default_rng(0)
    mixing = random.normal(size=(12, 12))

    def crops(n, shift=0.0):
        return (random.normal(shift, 1, (n, 12)) @ mixing).astype(np.float32)

    features, folds = crops(600), np.arange(600) % 5
    reference = fit_novelty(features, folds)
    same, shifted = reference.novelty(crops(500)), reference.novelty(crops(500, 1.5))
    assert 0.45 < np.median(same) < 0.55 and np.mean(same > 0.95) < 0.09
    assert np.median(shifted) > 0.95

    path = tmp_path / "novelty.npz"
    reference.save(path)
    assert np.array_equal(read_novelty(path).novelty(features), reference.novelty(features))
    # The slides matter, not their names; the bytes are reproducible.
    before = path.read_bytes()
    fit_novelty(features, folds + 7).save(path)
    assert path.read_bytes() == before
    path.write_bytes(before[:500])
    with pytest.raises(UserError, match=r"novelty.npz is damaged"):
        read_novelty(path)


def test_novelty_of_many_features_is_hardly_biased():
    """Distances by other groups of slides, which are smaller than folds."""
    random = np.random.default_rng(0)
    mixing = random.normal(size=(300, 300))
    features, unseen = (
        (random.normal(size=(n, 300)) @ mixing).astype(np.float32) for n in (700, 1000)
    )
    by_slide, by_fold = (
        fit_novelty(features, np.arange(700) % number).novelty(unseen) for number in (35, 5)
    )
    assert by_fold.mean() + 0.02 < by_slide.mean() < 0.53


def test_ignores_a_constant_feature():
    features = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    features[:, 1] = 7
    reference = fit_novelty(features, np.arange(50) % 2)
    other = features.copy()
    other[:, 1] = 1000
    assert reference.distance(other) == pytest.approx(reference.distance(features))


def test_empty_reference(tmp_path):
    assert not empty_reference()
    with pytest.raises(UserError, match=r"none.npz does not exist; the folder of a model holds"):
        read_novelty(tmp_path / "none.npz")
    empty_reference().save(tmp_path / "novelty.npz")
    assert not read_novelty(tmp_path / "novelty.npz")


@pytest.mark.parametrize(
    ("novelty", "warned"), [(0.97, True), (0.5, False), (0.95, False), (None, False)]
)
def test_warns_of_crops_that_are_out_of_distribution(capsys, novelty, warned):
    one = Prediction("a.png", 1, np.float32(0.9), 0, "s", novelty, None)
    warn_if_out_of_distribution([one] * 3)
    assert ("see `python -m stages.recalibrate --help`" in capsys.readouterr().err) == warned
