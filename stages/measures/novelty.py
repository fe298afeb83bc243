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
ARRAYS = {
    "mean": np.float64,
    "scale": np.float64,
    "factor": np.float16,
    "distances": np.float64,
}
# Far from the largest and the smallest number that 16 bits hold.
LARGEST = 2.0**14
MADE_FROM = "made_from"


class NoveltyReference:
    """The training crops, as far as novelty needs them.

    Attributes:
        mean, scale: of the features, float64 (D,).
        factor: the upper triangle of R, row by row, float16 (D (D + 1) / 2,), where R'R is the
            inverse of the covariance of (features - mean) / scale. With 16 bits instead of 64, the
            novelty of aidpath's own crops changes by 0.0011 at most.
        distances: float64 (n,), ascending; the training crops of each group of slides measured
            against the others, as if their slides were unseen. Empty if the model has no features.
        made_from: SHA-256 of the manifest, the split and the features ("" without features).
    """

    def __init__(
        self, mean: np.ndarray, scale: np.ndarray, factor: np.ndarray, distances: np.ndarray
    ):
        self.mean, self.scale, self.factor, self.distances = mean, scale, factor, distances
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
        root = np.zeros((len(self.mean), len(self.mean)))
        root[np.triu_indices(len(root))] = self.factor
        chunks = np.array_split(features, max(1, -(-len(features) // CHUNK)))
        standardized = ((chunk.astype(np.float64) - self.mean) / self.scale for chunk in chunks)
        return np.concatenate([np.square(one @ root.T).sum(axis=1) for one in standardized])

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
    return NoveltyReference(np.zeros(0), np.ones(0), np.zeros(0, np.float16), np.zeros(0))


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
    variances, directions = np.linalg.eigh(covariance)
    # Nothing varies along a direction of no variance, which gets no weight.
    weights = np.where(variances > 1e-12 * variances[-1], variances, np.inf) ** -0.5
    root = np.asarray(np.linalg.qr((directions * weights).T, mode="r"))
    unit = np.abs(root).max() / LARGEST or 1.0
    factor = (root / unit)[np.triu_indices(len(root))].astype(np.float16)
    return NoveltyReference(mean, scale / unit, factor, distances)


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
    for name, dtype in ARRAYS.items():
        array = getattr(reference, name)
        if array.dtype != dtype:
            raise ValueError(f"{name} must hold {8 * np.dtype(dtype).itemsize}-bit numbers")
        # The scale of a constant feature is infinite.
        if not np.isfinite(array[np.isfinite(array) | (name != "scale")]).all():
            raise ValueError(f"{name} holds a number that is not finite")
    length = len(reference.mean)
    if (
        reference.factor.shape != (length * (length + 1) // 2,)
        or reference.scale.shape != (length,)
        or reference.distances.ndim != 1
        or np.any(np.diff(reference.distances) < 0)
    ):
        raise ValueError("its arrays do not fit together")
