"""How far crops are from those that a model learnt from: a laboratory that is far should not trust
the model's threshold.

The distance is Mahalanobis's, between the backbone's features of the upright crop and their mean,
with a covariance that is shrunk (Ledoit and Wolf, J Multivariate Anal 88:365, 2004); of six that
were tried it told the fourth laboratory from unseen slides of the known hospitals as well as the
best (docs/backbones.md). scikit-learn takes longer to import than the rest takes: it is, where it
is needed.
"""

import io
from pathlib import Path

import numpy as np

from stages.base.errors import UserError
from stages.base.files import missing_of_model, write_archive

LIKENESS = Path("models/likeness.npz")
# A folder of crops is another laboratory's where half of its crops are farther than so many of
# those that the model learnt from.
SHIFTED = 0.95
CHUNK = 4096
ARRAYS = ("mean", "scale", "precision", "distances")
MADE_FROM = "made_from"


class Likeness:
    """What the crops were like that a model learnt from.

    `mean` and `scale` (D,) of their features, `precision` (D, D) of the standardized ones,
    `distances` (n,), ascending: those of the training crops of each fold by the crops of the other
    folds, as unseen slides of the same laboratories are. `made_from` has the SHA-256 of the
    manifest, of the split and of the features, which is empty without features.
    """

    def __init__(
        self, mean: np.ndarray, scale: np.ndarray, precision: np.ndarray, distances: np.ndarray
    ):
        self.mean, self.scale, self.precision, self.distances = mean, scale, precision, distances
        self.made_from: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return len(self.distances) > 0

    def unlike(self, features: np.ndarray) -> np.ndarray:
        """Return which share of the training crops is nearer than each crop, float64 (n,): 0.5 is
        usual, 1 farther than all.

        Args:
            features: float32 (n, D), of the upright crops.
        """
        return np.searchsorted(self.distances, self.distance(features)) / len(self.distances)

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Return the squared Mahalanobis distance of each crop, float64 (n,)."""
        chunks = np.array_split(features, max(1, -(-len(features) // CHUNK)))
        standardized = ((chunk.astype(np.float64) - self.mean) / self.scale for chunk in chunks)
        return np.concatenate(
            [np.einsum("ij,ij->i", one @ self.precision, one) for one in standardized]
        )

    def save(self, path: Path = LIKENESS) -> None:
        """Write an .npz archive of plain arrays, the same bytes for the same numbers."""
        arrays = {name: getattr(self, name) for name in ARRAYS} | {
            MADE_FROM: np.array(self.made_from)
        }
        write_archive(path, ((f"{name}.npy", _npy(array)) for name, array in arrays.items()))


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def nothing_known() -> Likeness:
    """Return the likeness of a model without a backbone, of which nothing is said."""
    return Likeness(np.zeros(0), np.ones(0), np.zeros((0, 0)), np.zeros(0))


def fit_likeness(features: np.ndarray, folds: np.ndarray) -> Likeness:
    """Return the likeness of some crops.

    Args:
        features: float32 (n, D), of the upright crops.
        folds: int (n,), two at least; slides do not straddle them.
    """
    distances = np.zeros(len(features))
    for fold in np.unique(folds):
        out = folds == fold
        distances[out] = _fit(features[~out], np.zeros(0)).distance(features[out])
    return _fit(features, np.sort(distances))


def _fit(features: np.ndarray, distances: np.ndarray) -> Likeness:
    from sklearn.covariance import ledoit_wolf

    mean, scale = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    # What is the same in all crops says nothing of others.
    scale = np.where(scale > 1e-6, scale, np.inf)
    covariance, _ = ledoit_wolf((features.astype(np.float64) - mean) / scale, assume_centered=True)
    return Likeness(mean, scale, np.linalg.pinv(covariance, hermitian=True), distances)


def read_likeness(path: Path) -> Likeness:
    """Return what `save` wrote.

    Raises:
        UserError: the file is missing or damaged, or its arrays do not fit together.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            found = Likeness(*(held[name] for name in ARRAYS))
            found.made_from = tuple(held[MADE_FROM].tolist())
        _check(found)
    except FileNotFoundError:
        raise missing_of_model(path) from None
    except Exception as error:  # NumPy and zipfile raise many kinds.
        raise UserError(
            f"{path} is damaged: {' '.join(str(error).split())}; `dvc repro` writes it anew"
        ) from None
    return found


def _check(likeness: Likeness) -> None:
    """Raise ValueError if arrays are not as `save` writes them: NaN would make all crops equally
    unlike.
    """
    arrays = {name: getattr(likeness, name) for name in ARRAYS}
    if wrong := [name for name, array in arrays.items() if array.dtype != np.float64]:
        raise ValueError(f"{wrong[0]} must hold 64-bit numbers")
    # A feature that is the same in all crops has an infinite scale.
    if wrong := [
        name
        for name, array in arrays.items()
        if not np.isfinite(array[np.isfinite(array) | (name != "scale")]).all()
    ]:
        raise ValueError(f"{wrong[0]} holds what is not a finite number")
    length = len(likeness.mean)
    if (
        likeness.precision.shape != (length, length)
        or likeness.distances.ndim != 1
        or np.any(np.diff(likeness.distances) < 0)
    ):
        raise ValueError("its arrays do not fit together")
