"""The label of each image: from its folder or from a table, and as corrected."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from stages.base.errors import refuse
from stages.base.parameters import quoted
from stages.dataset.card import Dataset
from stages.intake.tables import by_name, composed, read_columns, read_rows


def labels_from_folders(dataset: Dataset, images: Iterable[str]) -> dict[str, int]:
    labels, stray = {}, []
    classes = dataset.card.classes or []
    for name in classes:
        if not (dataset.folder / name).is_dir():
            present = sorted(entry.name for entry in dataset.folder.iterdir() if entry.is_dir())
            raise dataset.error(
                "classes", f"there is no folder {dataset.folder / name}; there are {', '.join(present) or 'none'}"
            )
    for path in images:
        inside = [label for label, name in enumerate(classes) if PurePosixPath(path).is_relative_to(name)]
        if inside:
            labels[path] = inside[-1]
        else:
            stray.append(f"{dataset.folder / path} is in neither of the class folders {' and '.join(classes)}")
    by_name = defaultdict(list)
    for path in labels:
        by_name[PurePosixPath(path).name].append(path)
    twice = [paths for paths in by_name.values() if len({labels[path] for path in paths}) == 2]
    refuse(
        stray + [f"{dataset.folder / paths[0]} and {paths[-1]}: the same file name stands under both labels" for paths in twice]
    )
    return labels


def labels_from_table(dataset: Dataset, images: list[str]) -> tuple[dict[str, int], dict[str, tuple[str | None, str | None]]]:
    """Return the label of each image, and (slide, site) where the table has columns for them."""
    table = dataset.folder / str(dataset.card.labels)
    known = by_name(images)
    labels: dict[str, int] = {}
    groups: dict[str, tuple[str | None, str | None]] = {}
    problems = []
    without_row = set(images)
    for line, name, label, slide, site in _read_labels(dataset, table):
        # Names are looked up in the listing and never joined to a path: no row reaches outside the folder.
        found = known.get(composed(name), [])
        if len(found) != 1:
            many = f"fits {len(found)} files: {', '.join(found[:3])}" if found else "is not in the folder"
            problems.append(f"{table}, line {line}: {quoted(name)} {many}")
            continue
        without_row.discard(found[0])
        if label not in ("0", "1"):
            problems.append(f"{table}, line {line}: the label of {name} is {quoted(label)}; it must be 0 or 1")
        elif found[0] in labels:
            both = labels[found[0]] != int(label)
            problems.append(f"{table}, line {line}: {name} stands there twice{', under both labels' if both else ''}")
        else:
            labels[found[0]] = int(label)
            groups[found[0]] = (slide, site)
    refuse(problems + [f"{dataset.folder / path} has no row in {table}" for path in sorted(without_row)])
    return labels, groups


def _read_labels(dataset: Dataset, table: Path) -> list[tuple[int, str, str, str | None, str | None]]:
    """Return (line, name, label, slide, site) for each row; comma, semicolon or tab between the columns."""
    columns = dataset.card.columns
    assert columns is not None
    try:
        header, read = read_rows(table, (columns.name, columns.label))
    except FileNotFoundError:
        raise dataset.error("labels", f"there is no file {table}") from None
    for key in ("name", "label", "slide", "site"):
        if getattr(columns, key) and getattr(columns, key) not in header:
            there = ", ".join(map(quoted, header))
            raise dataset.error(f"columns.{key}", f"{table} has no such column; it has {there}")
    rows, problems = [], []
    for line, field in read:
        slide = field[columns.slide] if columns.slide else None
        site = field[columns.site] if columns.site else None
        if slide == "" or site == "":
            problems.append(f"{table}, line {line}: no {'slide' if slide == '' else 'site'}")
        rows.append((line, field[columns.name], field[columns.label], slide, site))
    refuse(problems)
    return rows


def read_corrections(dataset: Dataset, labels: dict[str, int]) -> dict[str, int]:
    """Return the labels that the card's table of corrections gives, by path."""
    if dataset.card.corrections is None:
        return {}
    table = dataset.folder / dataset.card.corrections
    if not table.is_file():
        raise dataset.error("corrections", f"there is no file {table}")
    known = {composed(path): path for path in labels}
    corrections: dict[str, int] = {}
    problems = []
    for line, row in read_columns(table, ("path", "label")):
        path, label = known.get(composed(row["path"])), row["label"]
        if path is None:
            problems.append(f"{table}, line {line}: {quoted(row['path'])} is not the path of an image in {dataset.folder}")
        elif label not in ("0", "1"):
            problems.append(f"{table}, line {line}: the label of {path} is {quoted(label)}; it must be 0 or 1")
        elif path in corrections:
            problems.append(f"{table}, line {line}: {path} stands there twice")
        else:
            corrections[path] = int(label)
    refuse(problems)
    return corrections
