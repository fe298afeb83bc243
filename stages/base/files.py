"""Reading and writing tables (CSV) and JSON, so that nothing half-written is ever left under its final name."""

import csv
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import BaseModel, ValidationError

from stages.base.errors import UserError

Record = TypeVar("Record", bound=BaseModel)


@contextmanager
def replacing(path: str | Path, binary: bool = False) -> Iterator[IO]:
    """Open a file for writing that takes the name `path` only when the block ends without an error.

    Missing folders are made. Text is UTF-8 with plain line feeds on every system, so that the bytes are the same.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") if binary else open(part, "w", encoding="utf-8", newline="") as file:
            yield file
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented JSON. Raises ValueError for NaN or infinity, which JSON does not have."""
    with replacing(path) as file:
        json.dump(content, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file that an earlier stage wrote. Raises `UserError` if it is damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise damaged(path, error) from None


def read_json_as(path: str | Path, schema: type[Record]) -> Record:
    """Read a JSON file that belongs to a model as a `schema`. Raises `UserError` if it is missing or damaged."""
    try:
        return schema.model_validate(read_json(path))
    except FileNotFoundError:
        names = "model.keras, model.json, stain.json and threshold.json"
        raise UserError(f"{path} does not exist; the folder of a model holds {names}") from None
    except ValidationError as error:
        raise damaged(path, error.errors()[0]["msg"]) from None


def write_table(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Write a CSV file: a header of `columns`, then `rows`, each as long as the header."""
    with replacing(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def read_table(path: str | Path, columns: Sequence[str]) -> list[list[str]]:
    """Read the named `columns` of a CSV file that an earlier stage wrote: a list of values for each, as text.

    Raises:
        UserError: the file is damaged.
    """
    with open(path, encoding="utf-8", newline="") as file:
        return parse_table(file, columns, path)


def parse_table(lines: Iterable[str], columns: Sequence[str], where: object) -> list[list[str]]:
    """Return the named `columns` of the `lines` of a CSV file as `read_table` does; `where` names it if it is damaged."""
    try:
        reader = csv.reader(lines)
        header = next(reader, [])
        places = [header.index(name) for name in columns]
        table: list[list[str]] = [[] for _ in columns]
        for row in reader:
            for values, place in zip(table, places):
                values.append(row[place])
        return table
    except (ValueError, IndexError, csv.Error) as error:
        raise damaged(where, error) from None


def damaged(path: object, reason: object) -> UserError:
    """Return the error for a file that is not as the stage that wrote it left it."""
    return UserError(f"{path} is not as its stage wrote it ({reason}); `dvc repro` writes it anew")


def sha256(path: str | Path) -> str:
    """Return the SHA-256 digest of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
