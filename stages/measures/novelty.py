"""Novelty: how far a crop is from the training crops in the features of a frozen backbone.

The distance is Mahalanobis's with a shrunk covariance (Ledoit and Wolf, J Multivariate Anal 88:365,
2004). docs/backbones.md compares it with five other distances.
"""

import io
from pathlib import Path

import numpy as np

from stages.base.errors import UserError
from stages.base.files import missing_of_model, write_archive

NOVELTY = Path("models/novelty.npz")
# Crops whose median novelty is above this are out of distribution.
OUT_OF_DISTRIBUTION = 0.95
CHUNK = 4096
# Of slides, whose crops are measured against those of the other groups.
GROUPS = 20
ARRAYS = ("mean", "scale", "precision", "distances")
MADE_FROM = "made_from"


class NoveltyReference:
    """The training crops, as far as novelty needs them.

    Attributes:
        mean, scale: of the features, float64 (D,).
        precision: of the standardized features, float64 (D, D).
        distances: float64 (n,), ascending; the training crops of each group of slides measured
            against the others, as if their slides were unseen. Empty if the model has no features.
        made_from: SHA-256 of the manifest, the split and the features ("" without features).
    """

    def __init__(
        self, mean: np.ndarray, scale: np.ndarray, precision: np.ndarray, distances: np.ndarray
    ):
        self.mean, self.scale, self.precision, self.distances = mean, scale, precision, distances
        self.made_from: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return len(self.distances) > 0

    def novelty(self, features: np.ndarray) -> np.ndarray:
        """Return the share of training crops that are nearer than each crop, float64 (n,).

        Args:
            features: of the upright crops, float32 (n, D).
        """
        return np.searchsorted(self.distances, self.distance(features)) / len(self.distances)

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Return the squared Mahalanobis distance of each crop, float64 (n,)."""
        chunks = np.array_split(features, max(1, -(-len(features) // CHUNK)))
        standardized = ((chunk.astype(np.float64) - self.mean) / self.scale for chunk in chunks)
        return np.concatenate(
            [np.einsum("ij,ij->i", one @ self.precision, one) for one in standardized]
        )

    def save(self, path: Path = NOVELTY) -> None:
        """Write an .npz archive; the same arrays give the same bytes."""
        arrays = {name: getattr(self, name) for name in ARRAYS} | {
            MADE_FROM: np.array(self.made_from)
        }
        write_archive(path, ((f"{name}.npy", _npy(array)) for name, array in arrays.items()))


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def empty_reference() -> NoveltyReference:
    """Return the reference of a model without a frozen backbone, which has no novelty."""
    return NoveltyReference(np.zeros(0), np.ones(0), np.zeros((0, 0)), np.zeros(0))


def fit_novelty(features: np.ndarray, slides: np.ndarray) -> NoveltyReference:
    """Return the novelty reference of some crops.

    Each crop's own distance is measured against the crops of other groups of slides. The groups are
    small, so that these other crops are nearly all, as for a new crop.

    Args:
        features: of the upright crops, float32 (n, D).
        slides: text or int (n,), at least two different ones.
    """
    groups = np.unique(slides, return_inverse=True)[1] % GROUPS
    distances = np.zeros(len(features))
    for group in np.unique(groups):
        out = groups == group
        distances[out] = _fit(features[~out], np.zeros(0)).distance(features[out])
    return _fit(features, np.sort(distances))


def _fit(features: np.ndarray, distances: np.ndarray) -> NoveltyReference:
    from sklearn.covariance import ledoit_wolf

    mean, scale = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    # A constant feature must not contribute to any distance.
    scale = np.where(scale > 1e-6, scale, np.inf)
    covariance, _ = ledoit_wolf((features.astype(np.float64) - mean) / scale, assume_centered=True)
    precision = np.linalg.pinv(covariance, hermitian=True)
    return NoveltyReference(mean, scale, precision, distances)


def read_novelty(path: Path) -> NoveltyReference:
    """Return the reference that `NoveltyReference.save` wrote.

    Raises:
        UserError: the file is missing or damaged, or its arrays do not fit together.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = NoveltyReference(*(archive[name] for name in ARRAYS))
            found.made_from = tuple(archive[MADE_FROM].tolist())
        _check(found)
    except FileNotFoundError:
        raise missing_of_model(path) from None
    except Exception as error:  # NumPy and zipfile raise many kinds.
        raise UserError(
            f"{path} is damaged: {' '.join(str(error).split())}; `dvc repro` writes it anew"
        ) from None
    return found


def _check(reference: NoveltyReference) -> None:
    """Raise ValueError if the arrays are invalid: NaN would give all crops the same novelty."""
    for name in ARRAYS:
        array = getattr(reference, name)
        if array.dtype != np.float64:
            raise ValueError(f"{name} must hold 64-bit numbers")
        # The scale of a constant feature is infinite.
        if not np.isfinite(array[np.isfinite(array) | (name != "scale")]).all():
            raise ValueError(f"{name} holds a number that is not finite")
    length = len(reference.mean)
    if (
        reference.precision.shape != (length, length)
        or reference.distances.ndim != 1
        or np.any(np.diff(reference.distances) < 0)
    ):
        raise ValueError("its arrays do not fit together")
