"""Folds of earlier slides, which stay when slides are added, and slides that no fold contains."""

import csv
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from stages.base.errors import UserError, one_line, refuse
from stages.base.files import from_cell
from stages.base.parameters import quoted
from stages.dataset.cohort import FOLDS, MANIFEST
from stages.dataset.slides import nfc
from stages.intake.folds import extend_folds, number_folds
from stages.intake.parameters import SplitParameters


def locked_slides(patterns: Sequence[str], slides: Sequence[str], where: object) -> set[str]:
    """Return the slides that a card locks.

    Args:
        patterns: `locked_test` of the card `where`.

    Raises:
        UserError: a pattern matches no slide, or together they match all.
    """
    names, found = set(slides), set()
    for pattern in patterns:
        matching = {name for name in names if fnmatchcase(name, nfc(pattern))}
        if not matching:
            known = ", ".join(sorted(names)[:5])
            raise UserError(
                f"{where}: locked_test has {quoted(pattern)}, which matches no slide; there are "
                f"{len(names)}, such as {known}"
            )
        found |= matching
    if found == names:
        raise UserError(f"{where}: locked_test locks all {len(names)} slides; some must train")
    return found


def read_kept_folds(path: Path, by: str, keys: Sequence[str], folds: int) -> np.ndarray:
    """Return the fold of each image by a table of kept folds, int (N,); -1 for new ones.

    Args:
        by: what is kept together, and the name of the table's first column: slide, site or image.
        keys: of each image its slide, site or path.

    Raises:
        UserError: the table does not exist, cannot be read, or is of other slides or another
            number of folds.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            key, number = header.index(by), header.index("fold")
            rows = [(reader.line_num, row[key], row[number].strip()) for row in reader if row]
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist; params.yaml: split.kept_folds must be none, or a table like "
            f"{FOLDS}, which each run of the stage split writes"
        ) from None
    except (ValueError, IndexError, csv.Error) as error:
        raise UserError(
            f"{path}: not CSV in UTF-8 with the columns {by} and fold, as {FOLDS} with split.by "
            f"{by} ({one_line(error)})"
        ) from None
    table = [(line, nfc(from_cell(name)), fold) for line, name, fold in rows]
    # Paths of images are as on the disk.
    keys = [nfc(key) for key in keys]
    counts, known = Counter(name for _, name, _ in table), set(keys)
    allowed, problems = {str(fold) for fold in range(folds)}, []
    for line_number, name, fold in table:
        line = f"{path}, line {line_number}: {by} {quoted(name)}"
        if fold not in allowed:
            problems.append(
                f"{line} has fold {quoted(fold)}; with split.folds {folds} it must be from 0 to "
                f"{folds - 1}"
            )
        if counts[name] > 1:
            problems.append(f"{line} is there {counts[name]} times")
        if name not in known:
            problems.append(
                f"{line} is not in the dataset, or locked; delete the line if that is intended"
            )
    refuse(problems)
    kept = {name: fold for _, name, fold in table}
    return np.array([int(kept.get(key, -1)) for key in keys], dtype=np.int64)


def draw_folds(
    params: SplitParameters,
    y: np.ndarray,
    groups: np.ndarray,
    keys: Sequence[str],
    joined: Sequence[str],
) -> np.ndarray:
    """Return the fold of each image, int (N,): as drawn, or as kept and extended for new slides.

    Args:
        y, groups, keys: of each image its label, what is kept together, and its slide, site or
            path.
    """
    if params.kept_folds == "none":
        unit = f"{params.by}s"
        return number_folds(y, groups, params.folds, params.seed, unit, joined=joined)
    table = MANIFEST.with_name(params.kept_folds)
    kept = read_kept_folds(table, params.by, keys, params.folds)
    first: dict[int, int] = {}
    apart = [
        f"{table}: {keys[row]!r} and {keys[other]!r} have different folds, but share a picture"
        for row in np.flatnonzero(kept >= 0).tolist()
        if kept[other := first.setdefault(int(groups[row]), row)] != kept[row]
    ]
    refuse(dict.fromkeys(apart))
    drawn = extend_folds(y, groups, kept, params.folds)
    refuse(
        f"{table}: fold {fold} has no {params.by}; split.folds is {params.folds}"
        for fold in range(params.folds)
        if fold not in drawn
    )
    if new := len({key for key, fold in zip(keys, kept) if fold < 0}):
        unit = f"{new} {params.by}{'s' * (new > 1)}"
        print(f"{table} lacks {unit}: `cp {FOLDS} {table}` keeps their folds, too")
    return drawn
