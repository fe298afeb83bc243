"""Drawing folds so that what belongs together stays together.

scikit-learn takes longer to import than all else here: it is, where it draws.
"""

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import scipy

from stages.base.errors import refuse
from stages.dataset.cohort import CLASS_NAMES, SPLITS, leakage


def merge_groups(*keys: Sequence[str] | np.ndarray) -> np.ndarray:
    """Number the groups that must stay together: images that share any of the keys, directly or
    through others.

    Args:
        keys: sequences of N texts, such as the slide of each image and the digest of its bytes.

    Returns:
        int array (N,), from 0, numbered in the order of the first image of each group.
    """
    n = len(keys[0])
    codes, offset = [], n
    for key in keys:
        # NumPy's own way would hold each text at the length of the longest, four bytes a letter,
        # and twice.
        numbers: dict[str, int] = {}
        codes.append(
            np.array(
                [numbers.setdefault(text, offset + len(numbers)) for text in key], dtype=np.int64
            )
        )
        offset += len(numbers)
    rows, columns = np.tile(np.arange(n), len(keys)), np.concatenate(codes)
    graph = scipy.sparse.coo_matrix(
        (np.ones(len(rows), dtype=bool), (rows, columns)), shape=(offset, offset)
    )
    found = scipy.sparse.csgraph.connected_components(graph, directed=False)[1][:n]
    _, first, inverse = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


class Folds(NamedTuple):
    """What an error says of folds that cannot be drawn: their parameter, what they keep apart, and
    which copies joined some.
    """

    parameter: str = "split.folds"
    kept_apart: str = "groups"
    joined: Sequence[str] = ()


FOLDS = Folds()


def joined_by_copies(
    paths: Sequence[str], groups: Sequence[str], pixels: Sequence[str]
) -> list[str]:
    """Return a line for each picture that stands in several groups (slides or sites) and so makes
    one of them.
    """
    first: dict[str, int] = {}
    joined: dict[str, str] = {}
    for row, picture in enumerate(pixels):
        other = first.setdefault(picture, row)
        if groups[other] != groups[row]:
            joined.setdefault(
                picture,
                f"{paths[other]} and {paths[row]} are the same image, of {groups[other]} and {groups[row]}",
            )
    return list(joined.values())


def number_folds(
    y: np.ndarray, groups: np.ndarray, folds: int, seed: int, said: Folds = FOLDS
) -> np.ndarray:
    """Return the fold of each image, int (N,), from 0 to folds - 1.

    Groups stay whole and classes as balanced as that allows (scikit-learn's StratifiedGroupKFold).
    Groups of one image each, as in a split by image, take StratifiedKFold, which is the same
    question and much faster.

    Args:
        y: int array (N,) of labels 0 and 1.
        groups: int array (N,); equal numbers stay together.
        said: for the error.

    Raises:
        UserError: a class has fewer images, or there are fewer groups, than there are folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    here = f"params.yaml: {said.parameter} is {folds}, but there are only"
    if (present := len(np.unique(groups))) < folds:
        refuse([f"{here} {present} {said.kept_apart} to keep apart", *said.joined])
    refuse(
        [
            f"{here} {count} {CLASS_NAMES[label].replace('_', ' ')} glomeruli"
            for label, count in enumerate(np.bincount(y, minlength=2))
            if count < folds
        ]
    )
    _, first, sizes = np.unique(groups, return_index=True, return_counts=True)
    if (
        sizes.max() <= 2
        and np.mean(sizes == 1) > 0.9
        and np.bincount(y[first], minlength=2).min() >= folds
    ):
        # Nearly every group is one image: split one image of each group, the copies follow.
        parts, followers = (
            StratifiedKFold(folds, shuffle=True, random_state=seed).split(first, y[first]),
            groups,
        )
    else:
        parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(y, y, groups)
        followers = np.arange(len(y))
    fold_of_part = np.empty(int(followers.max()) + 1, dtype=np.int64)
    for number, (_, test) in enumerate(parts):
        fold_of_part[test] = number
    return fold_of_part[followers]


def folds_without_a_class(y: np.ndarray, numbers: np.ndarray) -> list[tuple[int, int]]:
    """Return (fold, label) for each fold that has no image of a label: a member that validates on
    it has no ROC AUC.

    Args:
        y, numbers: int arrays (N,) of labels 0 and 1, and of folds.
    """
    return [
        (int(fold), label)
        for fold in np.unique(numbers)
        for label in (0, 1)
        if not np.any(y[numbers == fold] == label)
    ]


def most_folds(y: np.ndarray, groups: np.ndarray) -> int:
    """Return how many folds can have images of both classes: as many as there are groups with
    images of the rarer one.
    """
    return min(len(np.unique(groups[y == label])) for label in (0, 1))


def seeds_that_work(y: np.ndarray, groups: np.ndarray, folds: int) -> list[int]:
    """Return up to three of the seeds 0 to 19 that give each fold images of both classes; none if
    no seed can.
    """
    if most_folds(y, groups) < folds:
        return []
    found = (
        seed
        for seed in range(20)
        if not folds_without_a_class(y, number_folds(y, groups, folds, seed))
    )
    return list(islice(found, 3))


def summarize(y: np.ndarray, slides: np.ndarray, splits: np.ndarray) -> dict:
    """Count images by split and class and slides by split, and measure the leakage."""
    return {
        "images": {
            name: {
                kind: int(np.sum((splits == name) & (y == label)))
                for label, kind in enumerate(CLASS_NAMES)
            }
            for name in SPLITS
        },
        "slides": {name: len(np.unique(slides[splits == name])) for name in SPLITS},
        "leakage": leakage(slides, splits),
    }
