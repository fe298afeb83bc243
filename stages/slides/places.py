"""Where crops lie in their slides, and predictions written back there for QuPath."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from stages.base.errors import UserError, refuse
from stages.base.files import is_number
from stages.intake.source import CropTable, read_columns
from stages.slides.geojson import feature, rectangle, write_features

BOX = ("x", "y", "width", "height")
# Suffixes of slide files; anything else after a dot, as in the accession number S21.1234, is part
# of the name.
SLIDE_SUFFIX = re.compile(
    r"((\.ome)?\.(tiff?|btf|tf8)|\.(svs|svslide|ndpi|mrxs|scn|bif|vms|vmu|dcm|czi|isyntax|qptiff"
    r"|vsi|zarr|jpe?g|png))\Z",
    re.IGNORECASE,
)


class Place(NamedTuple):
    """Where a crop lies."""

    image: str  # the slide's file, or its name
    geometry: dict[str, Any]  # the outline, or the crop's rectangle, as GeoJSON
    identifier: str  # QuPath's identifier, or empty


class CropPrediction(NamedTuple):
    """What is predicted for a crop: its class, the class's label, and numbers by name.

    The class `UNCERTAIN` has no label.
    """

    name: str
    classification: str
    label: int | None
    measurements: dict[str, float]


def outlines_of(folder: Path) -> Path:
    """Return the file with the outlines of a folder of crops, next to it, as extract writes it."""
    folder = folder.resolve()
    return folder.with_name(f"{folder.name}.geojson")


def place_files(folder: Path) -> list[Path]:
    """Return the files that may say where the crops of a folder lie: outlines and labels.csv."""
    return [outlines_of(folder), folder / "labels.csv"]


def find_places(folder: Path, names: Sequence[str], columns: CropTable | None) -> dict[str, Place]:
    """Return where each of some crops lies, by the outlines of extract or by a table.

    Args:
        columns: the table that names the crops; None: labels.csv in their folder, if it exists.

    Raises:
        UserError: nothing says where a crop lies.
    """
    outlines, table = place_files(folder)
    found = places_by_outlines(outlines, names) if outlines.is_file() else {}
    rest = [name for name in names if name not in found]
    if rest and columns is None and table.is_file():
        columns = read_columns(table, rest)
    if rest and columns is not None:
        found |= places_by_table(columns, rest)
    if lacking := [name for name in names if name not in found]:
        raise UserError(
            f"--geojson: the place of {lacking[0]} in its slide is unknown ({len(lacking)} crops); "
            f"provide {outlines} (by stages.extract), or a table with x, y, width, height and image"
        )
    return found


Finite = Annotated[float, Field(allow_inf_nan=False)]
Ring = Annotated[list[Annotated[list[Finite], Field(min_length=2)]], Field(min_length=4)]
Rings = Annotated[list[Ring], Field(min_length=1)]


class _Polygon(BaseModel):
    type: Literal["Polygon"]
    coordinates: Rings


class _MultiPolygon(BaseModel):
    type: Literal["MultiPolygon"]
    coordinates: Annotated[list[Rings], Field(min_length=1)]


class _Metadata(BaseModel):
    crop: str
    image: Annotated[str, Field(min_length=1)]


class _Properties(BaseModel):
    metadata: _Metadata


class _Outline(BaseModel):
    """An outline written by extract; an identifier changed by another program is replaced."""

    id: Any = None
    geometry: Annotated[_Polygon | _MultiPolygon, Field(discriminator="type")]
    properties: _Properties


class _Outlines(BaseModel):
    features: list[_Outline]


def slide_name(image: str) -> str:
    """Return a slide's name: its file without folders and suffix.

    >>> slide_name("a/S21.1234.svs"), slide_name("S21.1234"), slide_name("S2.ome.tif")
    ('S21.1234', 'S21.1234', 'S2')
    """
    name = re.split(r"[/\\]", image)[-1]
    found = SLIDE_SUFFIX.search(name)
    return name[: found.start()] if found and found.start() else name


def places_by_outlines(file: Path, names: Sequence[str]) -> dict[str, Place]:
    """Return where crops lie by the outlines that extract wrote next to their folder.

    Raises:
        UserError: the file is damaged, or another program changed what is needed of it.
    """

    def changed(reason: str) -> UserError:
        return UserError(f"{file}: not as stages.extract wrote it ({reason}); extract again")

    try:
        found = _Outlines.model_validate(json.loads(file.read_text(encoding="utf-8-sig"))).features
    except ValidationError as error:
        first = error.errors()[0]
        raise changed(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise changed(f"{type(error).__name__} {error}") from None
    drawn: dict[str, _Outline] = {}
    for one in found:
        name = one.properties.metadata.crop
        if drawn.setdefault(name, one) is not one:
            raise changed(f"it has two outlines of {name}")
    return {
        name: Place(
            outline.properties.metadata.image,
            outline.geometry.model_dump(),
            outline.id if isinstance(outline.id, str) else "",
        )
        for name in names
        if (outline := drawn.get(name))
    }


def places_by_table(columns: CropTable, names: Sequence[str]) -> dict[str, Place]:
    """Return where some crops lie by a table with columns for the slide and the crop's rectangle.

    The slide is in the column `image` or `slide`; the rectangle in `x`, `y`, `width` and `height`,
    in pixels of the slide.

    Raises:
        UserError: a column is missing, or a value is missing or not a valid number.
    """
    found = {name: columns.of(name) for name in BOX}
    images = columns.of("image") or columns.of("slide")
    lacking = [name for name, values in found.items() if values is None]
    if lacking or images is None:
        lacking += ["image"] * (images is None)
        raise UserError(
            f"--geojson: {columns.table} has no column {', '.join(lacking)}; "
            "it must say where each crop lies in its slide"
        )
    places, problems = {}, []
    for name in names:
        if name not in columns.rows:
            continue
        texts = {column: values[name] for column, values in found.items() if values}
        if not (image := images[name].strip()):
            problems.append(f"{columns.table}: no slide of {name}; fill in the column image")
        elif box := _box(list(texts.values())):
            places[name] = Place(image, rectangle(*box), "")
        else:
            values = ", ".join(f"{column} {text!r}" for column, text in texts.items())
            problems.append(f"{columns.table}: {values} of {name} is not a rectangle of a slide")
    refuse(problems)
    return places


def _box(texts: Sequence[str]) -> tuple[float, float, float, float] | None:
    if not all(is_number(text.strip()) for text in texts):
        return None
    x, y, width, height = map(float, texts)
    is_plausible = all(abs(value) < 1e9 for value in (x, y, width, height))
    return (x, y, width, height) if is_plausible and width > 0 and height > 0 else None


def files_of(path: Path, places: Mapping[str, Place]) -> dict[str, Path]:
    """Return the file for each slide's predictions: `path`, or one per slide named after it."""
    images = sorted({place.image for place in places.values()})
    if not images:
        return {}
    if len(images) == 1:
        return {images[0]: path}
    files = {
        image: path.with_name(f"{path.stem}-{slide_name(image)}{path.suffix}") for image in images
    }
    if len({file.name.casefold() for file in files.values()}) < len(files):
        raise UserError(
            "--geojson: slides whose names differ only in suffix, folder or case: "
            f"{', '.join(images)}; rename one"
        )
    return files


def write_slide_geojson(
    path: Path, places: Mapping[str, Place], predictions: Sequence[CropPrediction]
) -> dict[str, Path]:
    """Write predictions for QuPath, one file per slide; return the files (see `files_of`)."""
    of_image = defaultdict(list)
    for one in predictions:
        place, numbers = places[one.name], one.measurements
        made = feature(
            one.name,
            place.geometry,
            place.identifier,
            one.classification,
            one.label,
            measurements=numbers,
        )
        of_image[place.image].append(made)
    files = files_of(path, places)
    for image, features in sorted(of_image.items()):
        write_features(files[image], features)
    return files
