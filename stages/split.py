"""Draw train, validation and test so that no slide (or site) straddles them: data/manifest.csv ->
data/split.csv.

Beside its part, each image has the number of its fold there: 0 is the test set, the others are
counted from it. Where split.test is none, there is no fold 0, and the model is trained on all
slides. scikit-learn takes longer to import than all else here: it is, where it draws.
"""

from pathlib import Path

import numpy as np

from stages.base.errors import UserError, refuse, run_program
from stages.base.files import read_table, write_json, write_table
from stages.base.parameters import read_params
from stages.dataset.cohort import CLASS_NAMES, MANIFEST, SINGLE, SPLIT, SPLITS, are_single
from stages.intake.folds import (
    Folds,
    folds_without_a_class,
    joined_by_copies,
    merge_groups,
    most_folds,
    number_folds,
    seeds_that_work,
    summarize,
)
from stages.intake.parameters import SplitParameters

METRICS = Path("metrics/split.json")
CLASS_BALANCE = Path("metrics/plots/class_balance.csv")


def main() -> None:
    params = read_params("split", SplitParameters)
    # Files with the same pixels stay together, whatever slides they are said to be of.
    paths, labels, slides, sites, pixels = read_table(
        MANIFEST, ("path", "label", "slide", "site", "pixels_sha256")
    )
    y = np.array(labels, dtype=np.int64)
    if params.by == "site" and not all(sites):
        raise UserError(
            "params.yaml: split.by is 'site', but the dataset's card names no site; it must be slide or image"
        )
    keys = {"slide": [slides], "site": [sites], "image": []}[params.by]
    groups = merge_groups(*keys, pixels)
    joined = joined_by_copies(paths, keys[0] if keys else paths, pixels)
    numbers = (
        number_folds(
            y, groups, params.folds, params.seed, Folds("split.folds", f"{params.by}s", joined)
        )
        - params.fold
    )
    numbers = numbers % params.folds + (params.test == "none")
    if params.validation_by == "slide" and params.by == "site":
        rest = numbers > 0
        inner = merge_groups(np.array(slides)[rest], np.array(pixels)[rest])
        said = Folds(
            "split.validation_by is 'slide', for which the number of folds",
            "slides outside of the test set",
            joined,
        )
        numbers[rest] = 1 + number_folds(y[rest], inner, params.others, params.seed, said)
    if params.test == "none" and (lacking := folds_without_a_class(y, numbers)):
        seeds = seeds_that_work(y, groups, params.folds)
        try_others = (
            f"seeds {', '.join(map(str, seeds))} give each fold both"
            if seeds
            else f"at most {most_folds(y, groups)} folds can have both"
        )
        refuse(
            [
                f"params.yaml: with split.seed {params.seed} and split.folds {params.folds} fold {fold} has no "
                f"{CLASS_NAMES[label].replace('_', ' ')} glomerulus to validate on; {try_others}"
                for fold, label in lacking
            ]
        )
    splits = np.where(
        numbers == 0, "test", np.where(numbers == params.validation_offset, "val", "train")
    )
    refuse(
        [
            f"params.yaml: with split.fold {params.fold}, split.seed {params.seed} and split.folds {params.folds} {name} has no "
            f"{CLASS_NAMES[label].replace('_', ' ')} glomerulus; try another seed or fewer folds"
            for name in SPLITS
            if name != "test" or params.test == "fold"
            for label in (0, 1)
            if not np.any((splits == name) & (y == label))
        ]
    )
    # Labels and slides as well: a split that was drawn for others is refused by whoever reads it.
    columns = ("path", "label", "slide", "split", "fold")
    write_table(SPLIT, columns, zip(paths, labels, slides, splits, numbers))
    summary = summarize(y, np.array(slides), splits)
    summary["identical_images"] = len(pixels) - len(set(pixels))
    if are_single(np.array(slides)):
        summary["note"] = SINGLE
    write_json(METRICS, summary)
    balance = [
        (name, kind, count)
        for name, counts in summary["images"].items()
        for kind, count in counts.items()
    ]
    write_table(
        CLASS_BALANCE,
        ("split", "class", "images"),
        [(f"{name}, {kind}", kind, n) for name, kind, n in balance],
    )
    print(
        f"by {params.by}: "
        + ", ".join(f"{np.sum(splits == name)} {name}" for name in SPLITS)
        + ("; no test set: a model of all slides" if params.test == "none" else "")
        + (f"; leakage {summary['leakage']:.3f}" if summary["leakage"] is not None else "")
        + (f"; {SINGLE}" if are_single(np.array(slides)) else "")
    )


if __name__ == "__main__":
    run_program(main, __doc__)
