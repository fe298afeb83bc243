"""Drawing folds that keep groups of images together."""

from collections.abc import Sequence
from itertools import islice

import numpy as np
import scipy

from stages.base.errors import refuse
from stages.dataset.cohort import CLASS_NAMES, LOCKED, SPLITS, leakage


def merge_groups(*keys: Sequence[str] | np.ndarray) -> np.ndarray:
    """Number the groups of images that share a key, directly or through other images.

    Args:
        keys: sequences of N texts, such as the slide and the digest of each image.

    Returns:
        int array (N,), from 0, numbered in the order of the first image of each group.
    """
    n = len(keys[0])
    codes, offset = [], n
    for key in keys:
        # np.unique would hold each text twice, at the length of the longest, 4 bytes per letter.
        numbers: dict[str, int] = {}
        coded = [numbers.setdefault(text, offset + len(numbers)) for text in key]
        codes.append(np.array(coded, dtype=np.int64))
        offset += len(numbers)
    rows, columns = np.tile(np.arange(n), len(keys)), np.concatenate(codes)
    edges = np.ones(len(rows), dtype=bool)
    graph = scipy.sparse.coo_matrix((edges, (rows, columns)), shape=(offset, offset))
    found = scipy.sparse.csgraph.connected_components(graph, directed=False)[1][:n]
    _, first, inverse = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def joined_by_copies(
    paths: Sequence[str], groups: Sequence[str], pixels: Sequence[str]
) -> list[str]:
    """Return a line for each picture in several groups (slides or sites), which it joins to one."""
    first: dict[str, int] = {}
    joined: dict[str, str] = {}
    for row, picture in enumerate(pixels):
        other = first.setdefault(picture, row)
        if groups[other] != groups[row]:
            same = f"{paths[other]} and {paths[row]} are the same image"
            joined.setdefault(picture, f"{same}, of {groups[other]} and {groups[row]}")
    return list(joined.values())


def number_folds(
    y: np.ndarray,
    groups: np.ndarray,
    folds: int,
    seed: int,
    kept_apart: str = "groups",
    parameter: str = "split.folds",
    joined: Sequence[str] = (),
) -> np.ndarray:
    """Return the fold of each image, int (N,), from 0 to folds - 1.

    Groups stay whole and classes are as balanced as that allows (scikit-learn's
    StratifiedGroupKFold). If nearly all groups have one image, as in a split by image, the
    equivalent StratifiedKFold is used, which is much faster.

    Args:
        y: int array (N,) of labels 0 and 1.
        groups: int array (N,); equal numbers stay together.
        kept_apart, parameter, joined: for the error: what the groups are, which parameter gives
            the number of folds, and lines of `joined_by_copies`.

    Raises:
        UserError: a class has fewer images, or there are fewer groups, than folds.
    """
    # It takes longer to import than everything else here.
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    here = f"params.yaml: {parameter} is {folds}, but there are only"
    if (present := len(np.unique(groups))) < folds:
        refuse([f"{here} {present} {kept_apart} to keep apart", *joined])
    refuse(
        f"{here} {count} {CLASS_NAMES[label].replace('_', ' ')} glomeruli"
        for label, count in enumerate(np.bincount(y, minlength=2))
        if count < folds
    )
    _, first, sizes = np.unique(groups, return_index=True, return_counts=True)
    nearly_single = sizes.max() <= 2 and np.mean(sizes == 1) > 0.9
    if nearly_single and np.bincount(y[first], minlength=2).min() >= folds:
        # Split one image of each group; the others follow.
        single = StratifiedKFold(folds, shuffle=True, random_state=seed)
        parts, followers = single.split(first, y[first]), groups
    else:
        grouped = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        parts, followers = grouped.split(y, y, groups), np.arange(len(y))
    fold_of_part = np.empty(int(followers.max()) + 1, dtype=np.int64)
    for number, (_, test) in enumerate(parts):
        fold_of_part[test] = number
    return fold_of_part[followers]


def extend_folds(y: np.ndarray, groups: np.ndarray, kept: np.ndarray, folds: int) -> np.ndarray:
    """Return the fold of each image, int (N,): those that are kept, and others for new groups.

    A new group goes where it balances the classes best, by the rule of scikit-learn's
    StratifiedGroupKFold, the groups of the most uneven classes first.

    Args:
        y, groups: as for `number_folds`.
        kept: int (N,), of each image its fold, or -1 for a new one; a group with any keeps it.
    """
    names, member = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), 2), dtype=np.int64)
    np.add.at(counts, (member, y), 1)
    fold_of, of_folds = np.full(len(names), -1), np.zeros((folds, 2), dtype=np.int64)
    np.maximum.at(fold_of, member, kept)
    old, new = np.flatnonzero(fold_of >= 0), np.flatnonzero(fold_of < 0)
    np.add.at(of_folds, fold_of[old], counts[old])
    totals = np.maximum(counts.sum(axis=0), 1)
    for group in new[np.argsort(-counts[new].std(axis=1), kind="stable")]:
        tried = of_folds + np.eye(folds, dtype=np.int64)[:, :, None] * counts[group]
        imbalance = (tried / totals).std(axis=1).mean(axis=1)
        best = np.flatnonzero(np.isclose(imbalance, imbalance.min()))
        fold_of[group] = best[np.argmin(of_folds[best].sum(axis=1))]
        of_folds[fold_of[group]] += counts[group]
    return fold_of[member]


def folds_without_a_class(y: np.ndarray, numbers: np.ndarray) -> list[tuple[int, int]]:
    """Return (fold, label) for each fold without an image of a label, which has no ROC AUC.

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
    """Return how many folds can have images of both classes: the groups of the rarer class."""
    return min(len(np.unique(groups[y == label])) for label in (0, 1))


def seeds_that_work(y: np.ndarray, groups: np.ndarray, folds: int) -> list[int]:
    """Return up to three of the seeds 0 to 19 that give each fold images of both classes."""
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
    names = [*SPLITS, *([LOCKED] if LOCKED in splits else [])]
    return {
        "images": {
            name: {
                kind: int(np.sum((splits == name) & (y == label)))
                for label, kind in enumerate(CLASS_NAMES)
            }
            for name in names
        },
        "slides": {name: len(np.unique(slides[splits == name])) for name in names},
        "leakage": leakage(slides, splits),
    }
