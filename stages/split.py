"""Draw train, validation and test so that no slide (or site) straddles them: -> data/split.csv.

The table also has the number of each image's fold: 0 is the test set, and the others are counted
from it. Without a test set (split.test: none) there is no fold 0. With split.test locked it has the
slides that the dataset's card locks, which are otherwise in no fold.

data/folds.csv has the fold of each slide as drawn. A copy of it in git, named by split.kept_folds,
keeps these folds when slides are added.
"""

from pathlib import Path
from typing import assert_never

import numpy as np

from stages.base.errors import UserError, refuse, run_program
from stages.base.files import read_table, write_json, write_table
from stages.base.parameters import read_params
from stages.dataset.cohort import (
    CLASS_NAMES,
    FOLDS,
    LOCKED,
    MANIFEST,
    SINGLE,
    SPLIT,
    SPLITS,
    are_single,
)
from stages.dataset.used_card import read_used_card
from stages.intake.folds import (
    folds_without_a_class,
    joined_by_copies,
    merge_groups,
    most_folds,
    number_folds,
    seeds_that_work,
    summarize,
)
from stages.intake.kept_folds import draw_folds, locked_slides
from stages.intake.parameters import SplitParameters

METRICS = Path("metrics/split.json")
CLASS_BALANCE = Path("metrics/plots/class_balance.csv")


def main() -> None:
    params = read_params("split", SplitParameters)
    columns = ("path", "label", "slide", "site", "pixels_sha256")
    paths, labels, slides, sites, pixels = read_table(MANIFEST, columns)
    y = np.array(labels, dtype=np.int64)
    match params.by:
        case "slide":
            keys = slides
        case "site":
            if not all(sites):
                raise UserError(
                    "params.yaml: split.by is 'site', but the dataset's card names no site; "
                    "it must be slide or image"
                )
            keys = sites
        case "image":
            keys = paths
        case _:
            assert_never(params.by)
    # Files with the same pixels stay together, whatever their slides.
    groups = merge_groups(keys, pixels)
    joined = joined_by_copies(paths, keys, pixels)
    locked = find_locked(params, slides, groups, joined)
    numbers = np.where(locked, 0 if params.test == "locked" else -1, 0)
    free = ~locked
    free_keys = np.array(keys)[free].tolist()
    drawn = draw_folds(params, y[free], groups[free], free_keys, joined)
    first = not params.tests_a_fold
    numbers[free] = (drawn - params.fold) % params.folds + first
    if params.has_inner_slides:
        rest = numbers > 0
        inner = merge_groups(np.array(slides)[rest], np.array(pixels)[rest])
        why = "split.validation_by is 'slide', for which the number of folds"
        unit = "slides outside of the test set"
        of_rest = number_folds(y[rest], inner, params.others, params.seed, unit, why, joined)
        numbers[rest] = 1 + of_rest
    if not params.tests_a_fold:
        refuse_folds_without_a_class(params, y[free], groups[free], numbers[free])
    names = [LOCKED, "test", *["train"] * params.others]
    names[1 + params.validation_offset] = "val"
    splits = np.array(names)[1 + numbers]
    refuse_splits_without_a_class(params, y, splits)

    # Labels and slides too, so that readers can refuse a split that was drawn for others.
    columns = ("path", "label", "slide", "split", "fold")
    write_table(SPLIT, columns, zip(paths, labels, slides, splits, numbers))
    fold_of = dict(zip(free_keys, drawn.tolist()))
    write_table(FOLDS, (params.by, "fold"), sorted(fold_of.items()))
    is_single = are_single(np.array(slides))
    summary = summarize(y, np.array(slides), splits)
    summary["identical_images"] = len(pixels) - len(set(pixels))
    if is_single:
        summary["note"] = SINGLE
    write_json(METRICS, summary)
    counts = summary["images"].items()
    balance = [(f"{name}, {kind}", kind, n) for name, one in counts for kind, n in one.items()]
    write_table(CLASS_BALANCE, ("split", "class", "images"), balance)
    said_of_split = [
        f"by {params.by}: " + ", ".join(f"{sum(one.values())} {name}" for name, one in counts)
    ]
    if not params.has_test:
        said_of_split.append("no test set: a model of all slides")
    if summary["leakage"] is not None:
        said_of_split.append(f"leakage {summary['leakage']:.3f}")
    if is_single:
        said_of_split.append(SINGLE)
    print("; ".join(said_of_split))


def find_locked(
    params: SplitParameters, slides: list[str], groups: np.ndarray, joined: list[str]
) -> np.ndarray:
    """Return which images are of slides that the card locks, bool (N,).

    Args:
        slides, groups: of each image its slide, and what is kept together, int (N,).
        joined: lines of `joined_by_copies`.

    Raises:
        UserError: the card locks no slide and split.test is `locked`, a pattern matches none, or a
            locked image is kept together with another one.
    """
    used = read_used_card()
    where = used.folder.with_suffix(".yaml")
    if not used.card.locked_test:
        if params.test == "locked":
            raise UserError(
                f"params.yaml: split.test is 'locked', but {where} has no `locked_test:`, a list "
                "of slides; it must be fold or none"
            )
        return np.zeros(len(slides), dtype=bool)
    locked = np.isin(slides, sorted(locked_slides(used.card.locked_test, slides, where)))
    both = sorted({*groups[locked].tolist()} & {*groups[~locked].tolist()})
    if both:
        slide = slides[int(np.flatnonzero(locked & (groups == both[0]))[0])]
        refuse(
            [
                f"{where}: locked_test has slide {slide!r}, which split.by {params.by} keeps "
                "together with slides that are not locked",
                *joined,
            ]
        )
    return locked


def refuse_folds_without_a_class(
    params: SplitParameters, y: np.ndarray, groups: np.ndarray, numbers: np.ndarray
) -> None:
    """Raise `UserError` if a fold, on which a member validates, has only one class.

    Args:
        y, groups, numbers: int (N,), of each image its label, its group and its fold.
    """
    if not (lacking := folds_without_a_class(y, numbers)):
        return
    if seeds := seeds_that_work(y, groups, params.folds):
        advice = f"seeds {', '.join(map(str, seeds))} give each fold both"
    else:
        advice = f"at most {most_folds(y, groups)} folds can have both"
    drawn = f"with split.seed {params.seed} and split.folds {params.folds}"
    refuse(
        f"params.yaml: {drawn} fold {fold} has no {_words(label)} glomerulus to validate on; "
        f"{advice}"
        for fold, label in lacking
    )


def refuse_splits_without_a_class(
    params: SplitParameters, y: np.ndarray, splits: np.ndarray
) -> None:
    """Raise `UserError` if train, validation or test has only one class.

    Args:
        y, splits: int and text (N,), of each image its label and its split.
    """
    drawn = f"split.fold {params.fold}, split.seed {params.seed} and split.folds {params.folds}"
    refuse(
        f"params.yaml: with {drawn} {name} has no {_words(label)} glomerulus; "
        "try another seed or fewer folds"
        for name in SPLITS
        if name != "test" or params.has_test
        for label in (0, 1)
        if not np.any((splits == name) & (y == label))
    )


def _words(label: int) -> str:
    return CLASS_NAMES[label].replace("_", " ")


if __name__ == "__main__":
    run_program(main, __doc__)
