"""The label of each image: from its folder or from a table, and as corrected."""

import csv
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from stages.base.errors import UserError, refuse
from stages.base.parameters import quoted
from stages.dataset.card import Dataset
from stages.intake.tables import composed, open_columns


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
    by_name = defaultdict(list)
    for path in images:
        by_name[composed(path)].append(path)
        if "/" in path:
            by_name[composed(PurePosixPath(path).name)].append(path)
    labels: dict[str, int] = {}
    groups: dict[str, tuple[str | None, str | None]] = {}
    problems = []
    without_row = set(images)
    for line, name, label, slide, site in _read_labels(dataset, table):
        # Names are looked up in the listing and never joined to a path: no row reaches outside the folder.
        found = by_name.get(composed(name), [])
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
        text = table.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise dataset.error("labels", f"there is no file {table}") from None
    except UnicodeDecodeError:
        raise UserError(f"{table} is not UTF-8 text; save it as CSV UTF-8") from None
    rows, problems = [], []
    try:
        lines, header = open_columns(text, (columns.name, columns.label))
        for key in ("name", "label", "slide", "site"):
            if getattr(columns, key) and getattr(columns, key) not in header:
                there = ", ".join(map(quoted, header))
                raise dataset.error(f"columns.{key}", f"{table} has no such column; it has {there}")
        for row in lines:
            if not any(field.strip() for field in row):
                continue
            if len(row) != len(header):
                problems.append(f"{table}, line {lines.line_num}: {len(row)} fields where the header has {len(header)}")
                continue
            field = dict(zip(header, row))
            slide = field[columns.slide].strip() if columns.slide else None
            site = field[columns.site].strip() if columns.site else None
            if slide == "" or site == "":
                problems.append(f"{table}, line {lines.line_num}: no {'slide' if slide == '' else 'site'}")
            rows.append((lines.line_num, field[columns.name].strip(), field[columns.label].strip(), slide, site))
    except csv.Error as error:
        raise UserError(f"{table} is not a table that can be read: {error}") from None
    refuse(problems)
    return rows


def read_corrections(dataset: Dataset, labels: dict[str, int]) -> dict[str, int]:
    """Return the labels that the card's table of corrections gives, by path."""
    if dataset.card.corrections is None:
        return {}
    table = dataset.folder / dataset.card.corrections
    try:
        lines, header = open_columns(table.read_text(encoding="utf-8-sig"), ("path", "label"))
        refuse([f"{table} has no column {name}; it has {', '.join(header)}" for name in ("path", "label") if name not in header])
        rows = [(lines.line_num, dict(zip(header, (field.strip() for field in row)))) for row in lines if any(row)]
    except FileNotFoundError:
        raise dataset.error("corrections", f"there is no file {table}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table} is not a table that can be read: {error}") from None
    corrections: dict[str, int] = {}
    problems = []
    for line, row in rows:
        path, label = row.get("path", ""), row.get("label", "")
        if path not in labels:
            problems.append(f"{table}, line {line}: {quoted(path)} is not the path of an image in {dataset.folder}")
        elif label not in ("0", "1"):
            problems.append(f"{table}, line {line}: the label of {path} is {quoted(label)}; it must be 0 or 1")
        elif path in corrections:
            problems.append(f"{table}, line {line}: {path} stands there twice")
        else:
            corrections[path] = int(label)
    refuse(problems)
    return corrections
