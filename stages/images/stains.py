"""Giving a crop the stain of the training crops, by torchstain's implementations of Reinhard's and
Macenko's methods.
"""

import warnings
from pathlib import Path

import numpy as np
from pydantic import BaseModel
from torchstain.numpy.normalizers import NumpyMacenkoNormalizer, NumpyReinhardNormalizer

from stages.base.errors import UserError
from stages.base.files import read_json_as
from stages.images.parameters import Normalization

STAIN = Path("models/stain.json")
# What each method learns of the crops that it is fitted on: attributes of torchstain's classes.
LEARNED = {"reinhard": ("target_means", "target_stds"), "macenko": ("HERef", "maxCRef")}
METHODS = {"reinhard": NumpyReinhardNormalizer, "macenko": NumpyMacenkoNormalizer}


class StainNormalizer(BaseModel):
    """A normalization with what it learned of the training crops: what models/stain.json holds.

    Reinhard et al., IEEE Comput Graph Appl 21(5):34, 2001, gives the colors of a crop (in CIELAB)
    the mean and spread of those of the training crops; Macenko et al., ISBI 2009, gives its two
    stains their colors and strength.
    """

    normalization: Normalization
    learned: dict[str, list]

    def __call__(self, square: np.ndarray) -> np.ndarray:
        """Return a square, uint8 (size, size, 3), with the stain of the training crops.

        One in which no stain can be found, such as empty glass, stays as it is.
        """
        if self.normalization == "none":
            return square
        method = METHODS[self.normalization]()
        for name, value in self.learned.items():
            setattr(method, name, np.array(value))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            try:
                found = method.normalize(square)
            except (np.linalg.LinAlgError, IndexError, ValueError):
                return square
        changed = found[0] if isinstance(found, tuple) else found
        # Without stain the spread is zero and the division by it gives one color for all.
        return changed if changed.std() > 0 else square


def fit_normalization(normalization: Normalization, squares: np.ndarray) -> StainNormalizer:
    """Return the normalization fitted on training squares, uint8 (n, size, size, 3), all their
    pixels together.

    Raises:
        UserError: no stain is found in them.
    """
    if normalization == "none":
        return StainNormalizer(normalization="none", learned={})
    method = METHODS[normalization]()
    try:
        method.fit(squares.reshape(-1, squares.shape[2], 3))
    except (np.linalg.LinAlgError, IndexError, ValueError) as error:
        raise UserError(
            f"params.yaml: stain.normalization is {normalization!r}, but the crops hold no stain: {error}"
        ) from None
    learned = {
        name: np.asarray(getattr(method, name), dtype=np.float64).tolist()
        for name in LEARNED[normalization]
    }
    return StainNormalizer(normalization=normalization, learned=learned)


def read_normalization(path: Path = STAIN) -> StainNormalizer:
    """Return what `path` holds. Raises `UserError` if it is missing or damaged."""
    return read_json_as(path, StainNormalizer)
