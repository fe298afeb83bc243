"""Where in which slide crops lie, by what stands beside them; and verdicts on them, brought back there."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stages.base.errors import UserError, refuse
from stages.intake.source import Columns, read_columns
from stages.slides.geojson import feature, rectangle, write_features

BOX = ("x", "y", "width", "height")


class Place(NamedTuple):
    """Where a crop lies: the slide's file, or its name; the outline, or the crop's rectangle; and QuPath's own identifier."""

    image: str
    geometry: dict[str, Any]
    identifier: str


class Verdict(NamedTuple):
    """What is said of a crop: its class, the label of that, and numbers by their names."""

    name: str
    classification: str
    label: int
    measurements: dict[str, float]


def find_places(folder: Path, names: Sequence[str], columns: Columns | None) -> dict[str, Place]:
    """Return where each of some crops lies: by the outlines that `stages.crops` wrote beside their folder, or by a table.

    Args:
        columns: of the table that names the crops; None: of labels.csv in their folder, if it is there.

    Raises:
        UserError: of a crop nothing says it.
    """
    table = folder / "labels.csv"
    outlines = folder.resolve().with_name(f"{folder.resolve().name}.geojson")
    found = places_by_outlines(outlines, names) if outlines.is_file() else {}
    if columns is None and table.is_file() and len(found) < len(names):
        columns = read_columns(table, names)
    if columns is not None:
        rest = {name: row for name, row in columns.rows.items() if name not in found}
        found |= places_by_table(table, columns.names, rest) if rest else {}
    if lacking := [name for name in names if name not in found]:
        where = f"{outlines} (by stages.crops), or a table with x, y, width, height and image"
        raise UserError(f"--geojson: nothing says where in its slide {lacking[0]} lies ({len(lacking)} crops); it takes {where}")
    return found


def places_by_outlines(file: Path, names: Sequence[str]) -> dict[str, Place]:
    """Return where crops lie by the outlines that `stages.crops` wrote. Raises `UserError` if the file is damaged."""
    try:
        features = json.loads(file.read_text(encoding="utf-8"))["features"]
        drawn = {one["properties"]["metadata"]["crop"]: one for one in features}
        found = {
            name: Place(drawn[name]["properties"]["metadata"]["image"], drawn[name]["geometry"], drawn[name]["id"])
            for name in names
            if name in drawn
        }
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is not as stages.crops wrote it ({type(error).__name__} {error})") from None
    return found


def places_by_table(table: Path, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> dict[str, Place]:
    """Return where crops lie by a table: x, y, width and height in pixels of the slide, and which (image, or slide).

    Args:
        rows: of each crop the values of all `columns`.

    Raises:
        UserError: a column is missing, or holds no number.
    """
    where = next((name for name in ("image", "slide") if name in columns), None)
    lacking = [name for name in BOX if name not in columns] + ["image"] * (where is None)
    if lacking:
        raise UserError(f"--geojson: nothing says where in its slide a crop lies: {table} has no column {', '.join(lacking)}")
    found, problems = {}, []
    for name, row in rows.items():
        of_row = dict(zip(columns, row))
        try:
            x, y, width, height = (float(of_row[column]) for column in BOX)
            if not (width > 0 and height > 0 and max(map(abs, (x, y, width, height))) < 1e9):
                raise ValueError
            found[name] = Place(of_row[str(where)], rectangle(x, y, width, height), "")
        except ValueError:
            values = ", ".join(f"{column} {of_row[column]!r}" for column in BOX)
            problems.append(f"{table}: of {name} {values} is no rectangle of a slide")
    refuse(problems)
    return found


def files_of(path: Path, places: Mapping[str, Place]) -> dict[str, Path]:
    """Return the file for each slide's verdicts: `path`, or where there are several slides one for each, of the slide's name."""
    images = sorted({place.image for place in places.values()})
    if not images:
        return {}
    if len(images) == 1:
        return {images[0]: path}
    files = {image: path.with_name(f"{path.stem}-{Path(image).stem}{path.suffix}") for image in images}
    if len(set(files.values())) < len(files):
        raise UserError(f"--geojson: slides of one name but for the suffix: {', '.join(images)}")
    return files


def write_verdicts(path: Path, places: Mapping[str, Place], verdicts: Sequence[Verdict]) -> dict[str, Path]:
    """Write what is said of crops as GeoJSON for QuPath, a file for each slide (see `files_of`); return the files."""
    of_image = defaultdict(list)
    for one in verdicts:
        place = places[one.name]
        made = feature(one.name, place.geometry, place.identifier, one.classification, one.label, measurements=one.measurements)
        of_image[place.image].append(made)
    files = files_of(path, places)
    for image, features in sorted(of_image.items()):
        write_features(files[image], features)
    return files
