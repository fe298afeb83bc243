"""Where in which slide crops lie, by what stands beside them; and verdicts on them, brought back
there.
"""

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
# Of files of slides; what stands behind another dot, as in the accession number S21.1234, belongs
# to the name.
SUFFIX = re.compile(
    r"(\.ome)?\.(tiff?|btf|tf8)|\.(svs|svslide|ndpi|mrxs|scn|bif|vms|vmu|dcm|czi|isyntax|qptiff|vsi|zarr|jpe?g|png)",
    re.IGNORECASE,
)


class Place(NamedTuple):
    """Where a crop lies: the slide's file, or its name; the outline, or the crop's rectangle; and
    QuPath's own identifier.
    """

    image: str
    geometry: dict[str, Any]
    identifier: str


class Verdict(NamedTuple):
    """What is said of a crop: its class, the label of that, and numbers by their names."""

    name: str
    classification: str
    label: int
    measurements: dict[str, float]


def outlines_of(folder: Path) -> Path:
    """Return the file of the outlines of a folder of crops, beside it: what `stages.extract` writes."""
    folder = folder.resolve()
    return folder.with_name(f"{folder.name}.geojson")


def place_files(folder: Path) -> list[Path]:
    """Return the files that may say where the crops of a folder lie: their outlines, and the
    folder's own table.
    """
    return [outlines_of(folder), folder / "labels.csv"]


def find_places(folder: Path, names: Sequence[str], columns: CropTable | None) -> dict[str, Place]:
    """Return where each of some crops lies: by the outlines that `stages.extract` wrote beside their
    folder, or by a table.

    Args:
        columns: of the table that names the crops; None: of labels.csv in their folder, if it is
            there.

    Raises:
        UserError: of a crop nothing says it.
    """
    outlines, table = place_files(folder)
    found = places_by_outlines(outlines, names) if outlines.is_file() else {}
    rest = [name for name in names if name not in found]
    if rest and columns is None and table.is_file():
        columns = read_columns(table, rest)
    if rest and columns is not None:
        found |= places_by_table(columns, rest)
    if lacking := [name for name in names if name not in found]:
        where = f"{outlines} (by stages.extract), or a table with x, y, width, height and image"
        raise UserError(
            f"--geojson: nothing says where in its slide {lacking[0]} lies ({len(lacking)} crops); it takes {where}"
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
    """An outline as `stages.extract` wrote it; another program may have changed its identifier, which
    is then made anew.
    """

    id: Any = None
    geometry: Annotated[_Polygon | _MultiPolygon, Field(discriminator="type")]
    properties: _Properties


class _Outlines(BaseModel):
    features: list[_Outline]


def slide_name(image: str) -> str:
    """Return a slide's name by its file: without folders and the suffix.

    >>> slide_name("a/S21.1234.svs"), slide_name("S21.1234"), slide_name("S2.ome.tif")
    ('S21.1234', 'S21.1234', 'S2')
    """
    name = re.split(r"[/\\]", image)[-1]
    found = re.search(rf"({SUFFIX.pattern})\Z", name, re.IGNORECASE)
    return name[: found.start()] if found and found.start() else name


def places_by_outlines(file: Path, names: Sequence[str]) -> dict[str, Place]:
    """Return where crops lie by the outlines that `stages.extract` wrote beside them.

    Raises:
        UserError: the file is damaged, or another program changed what is needed of it.
    """
    try:
        found = _Outlines.model_validate(json.loads(file.read_text(encoding="utf-8-sig"))).features
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{file} is not as stages.extract wrote it ({where}: {first['msg']})"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{file} is not as stages.extract wrote it ({type(error).__name__} {error})"
        ) from None
    drawn: dict[str, _Outline] = {}
    for one in found:
        name = one.properties.metadata.crop
        if drawn.setdefault(name, one) is not one:
            raise UserError(
                f"{file} is not as stages.extract wrote it (it has two outlines of {name})"
            )
    return {
        name: Place(
            drawn[name].properties.metadata.image,
            drawn[name].geometry.model_dump(),
            drawn[name].id if isinstance(drawn[name].id, str) else "",
        )
        for name in names
        if name in drawn
    }


def places_by_table(columns: CropTable, names: Sequence[str]) -> dict[str, Place]:
    """Return where some crops lie by a table: x, y, width and height in pixels of the slide, and
    which (image, or slide).

    Raises:
        UserError: a column is missing, or holds no number.
    """
    found = {name: columns.of(name) for name in BOX}
    images = columns.of("image") or columns.of("slide")
    lacking = [name for name, values in found.items() if values is None] + ["image"] * (
        images is None
    )
    if lacking:
        raise UserError(
            f"--geojson: nothing says where in its slide a crop lies: {columns.table} has no column {', '.join(lacking)}"
        )
    places, problems = {}, []
    for name in names:
        if name not in columns.rows:
            continue
        texts = {column: values[name] for column, values in found.items() if values}
        image = images[name].strip() if images else ""
        if not image:
            problems.append(
                f"{columns.table}: it says no slide of {name}, in the column image or slide"
            )
            continue
        try:
            if not all(is_number(text.strip()) for text in texts.values()):
                raise ValueError
            x, y, width, height = map(float, texts.values())
            if not (
                width > 0
                and height > 0
                and all(abs(value) < 1e9 for value in (x, y, width, height))
            ):
                raise ValueError
            places[name] = Place(image, rectangle(x, y, width, height), "")
        except ValueError:
            values = ", ".join(f"{column} {text!r}" for column, text in texts.items())
            problems.append(f"{columns.table}: of {name} {values} is no rectangle of a slide")
    refuse(problems)
    return places


def files_of(path: Path, places: Mapping[str, Place]) -> dict[str, Path]:
    """Return the file for each slide's verdicts: `path`, or where there are several slides one for
    each, of the slide's name.
    """
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
            f"--geojson: slides of one name but for the suffix, the folder or capitals: {', '.join(images)}"
        )
    return files


def write_verdicts(
    path: Path, places: Mapping[str, Place], verdicts: Sequence[Verdict]
) -> dict[str, Path]:
    """Write what is said of crops as GeoJSON for QuPath, a file for each slide (see `files_of`);
    return the files.
    """
    of_image = defaultdict(list)
    for one in verdicts:
        place = places[one.name]
        made = feature(
            one.name,
            place.geometry,
            place.identifier,
            one.classification,
            one.label,
            measurements=one.measurements,
        )
        of_image[place.image].append(made)
    files = files_of(path, places)
    for image, features in sorted(of_image.items()):
        write_features(files[image], features)
    return files
