"""Where crops lie: files that other programs wrote anew are refused before anything is predicted;
names of slides with dots.
"""

import json
from pathlib import Path

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stages.base.errors import UserError
from stages.evaluation.gallery import pages_folder
from stages.evaluation.predictions import output_files
from stages.slides.places import (
    CropPrediction,
    Place,
    files_of,
    find_places,
    slide_name,
    write_slide_geojson,
)

UUID = "49069bbb-a0ac-4343-96fe-15af45c30634"
SQUARE = {"type": "Polygon", "coordinates": [[[1, 1], [9, 1], [9, 9], [1, 1]]]}


def outline(crop="a.png", **changes):
    properties = {
        "objectType": "annotation",
        "name": crop,
        "metadata": {"crop": crop, "image": "S1.svs"},
    }
    return {"type": "Feature", "id": UUID, "geometry": SQUARE, "properties": properties} | changes


def of_image(image):
    return {"metadata": {"crop": "a.png", "image": image}}


def nested(depth):
    return "[" * depth + "]" * depth


# Kind: what another program made of the file, or its one outline.
OUTLINES = {
    "a number": "5",
    "null": "null",
    "a list of outlines": json.dumps([outline()]),
    "cut short": json.dumps({"features": [outline()]})[:-9],
    "empty": "",
    "nested 100,000 deep": nested(100_000),
    "features nested 100,000 deep": '{"features": ' + nested(100_000) + "}",
    "no features": "{}",
    "features that are null": '{"features": null}',
    "a feature that is null": '{"features": [null]}',
    "a feature that is a number": '{"features": [5]}',
    "one crop twice": json.dumps({"features": [outline(), outline()]}),
    "no properties": outline(properties=None),
    "no metadata": outline(properties={"name": "a.png"}),
    "metadata as a text, as QGIS writes it": outline(
        properties={"metadata": '{"crop": "a.png", "image": "S1.svs"}'}
    ),
    "metadata without the slide": outline(properties={"metadata": {"crop": "a.png"}}),
    "a slide without a name": outline(properties=of_image("")),
    "a slide that is a number": outline(properties=of_image(5)),
    "a slide that is null": outline(properties=of_image(None)),
    "no geometry": outline(geometry=None),
    "a point": outline(geometry={"type": "Point", "coordinates": [1, 2]}),
    "a line": outline(geometry={"type": "LineString", "coordinates": [[1, 2], [3, 4]]}),
    "a collection": outline(geometry={"type": "GeometryCollection", "geometries": [SQUARE]}),
    "coordinates that are null": outline(geometry={"type": "Polygon", "coordinates": None}),
    "no coordinates": outline(geometry={"type": "Polygon"}),
    "no rings": outline(geometry={"type": "Polygon", "coordinates": []}),
    "two corners": outline(geometry={"type": "Polygon", "coordinates": [[[1, 1], [2, 2]]]}),
    "not a number": outline(
        geometry={"type": "Polygon", "coordinates": [[[1, float("nan")], [9, 1], [9, 9], [1, 1]]]}
    ),
    "infinity": json.dumps({"features": [outline()]}).replace("[9, 9]", "[1e999, 9]"),
    "corners of one number": outline(
        geometry={"type": "Polygon", "coordinates": [[[1], [2], [3], [1]]]}
    ),
    "coordinates that are words": outline(
        geometry={"type": "Polygon", "coordinates": [[["a", "b"]] * 4]}
    ),
    "a ring where several belong": outline(
        geometry={"type": "MultiPolygon", "coordinates": SQUARE["coordinates"]}
    ),
}


@pytest.fixture
def crops(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(folder / name)
    return folder


@pytest.mark.parametrize("kind", OUTLINES)
def test_refuses_outlines_of_another_program_before_predicting(kind, crops):
    content = OUTLINES[kind]
    file = crops.with_name("mine.geojson")
    file.write_text(
        content
        if isinstance(content, str)
        else json.dumps({"type": "FeatureCollection", "features": [content]})
    )
    with pytest.raises(UserError) as error:
        find_places(crops, ["a.png"], None)
    assert str(file) in str(error.value) and len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("identifier", [5, None, "", "a", 1.5, [UUID], {}, True])
def test_replaces_an_identifier_changed_by_another_program(identifier, crops):
    crops.with_name("mine.geojson").write_text(
        "\ufeff" + json.dumps({"features": [outline(id=identifier)]})
    )
    places = find_places(crops, ["a.png"], None)
    write_slide_geojson(
        crops.parent / "predicted.geojson",
        places,
        [CropPrediction("a.png", "GS", 1, {"uncertain": 0.0})],
    )
    (one,) = json.loads((crops.parent / "predicted.geojson").read_text())["features"]
    assert len(one["id"]) == 36 and shapely.geometry.shape(one["geometry"]).equals(
        shapely.geometry.shape(SQUARE)
    )


TABLES = {
    "not a number": ("1,nan,9,9,S1", "'nan'"),
    "infinity": ("1,inf,9,9,S1", "'inf'"),
    "1e999": ("1e999,1,9,9,S1", "'1e999'"),
    "no number": (",1,9,9,S1", "x ''"),
    "underscores": ("1_0,1,9,9,S1", "'1_0'"),
    "no width": ("1,1,0,9,S1", "width '0'"),
    "a negative height": ("1,1,9,-9,S1", "height '-9'"),
    "no slide": ("1,1,9,9,", "no slide of a.png"),
    "a slide of spaces": ("1,1,9,9,  ", "no slide of a.png"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_refuses_invalid_rectangles_before_predicting(kind, crops):
    row, said = TABLES[kind]
    (crops / "labels.csv").write_text(
        f"name,x,y,width,height,slide\na.png,{row}\nb.png,1,1,9,9,S1\n"
    )
    with pytest.raises(UserError) as error:
        find_places(crops, ["a.png", "b.png"], None)
    assert said in str(error.value) and "labels.csv" in str(error.value)


def places(*images):
    return {f"{number}.png": Place(image, SQUARE, "") for number, image in enumerate(images)}


def test_slides_with_dots_in_their_names_have_a_file_each():
    files = files_of(
        Path("out/predicted.geojson"),
        places("S21.1234", "S21.1235", "a/S2.ome.tif", "C:\\slides\\S3.1.NDPI"),
    )
    assert [file.name for file in files.values()] == [
        "predicted-S3.1.geojson",
        "predicted-S21.1234.geojson",
        "predicted-S21.1235.geojson",
        "predicted-S2.geojson",
    ]
    assert {file.parent for file in files.values()} == {Path("out")}
    for one, other in (("S1.svs", "S1.ndpi"), ("a/S1.svs", "b/S1.svs"), ("S1", "s1")):
        with pytest.raises(
            UserError, match="slides whose names differ only in suffix, folder or case"
        ):
            files_of(Path("predicted.geojson"), places(one, other))


names = st.text(st.sampled_from("aS12.-_ é"), min_size=1).filter(lambda name: name.strip(". "))


@given(
    names,
    st.sampled_from(["", ".svs", ".SVS", ".ome.tif", ".OME.TIFF", ".tif", ".ndpi"]),
    st.sampled_from(["", "x/", "C:\\x\\", "../"]),
)
def test_a_slides_name_loses_only_its_folder_and_suffix(name, suffix, folder):
    assert slide_name(folder + name + suffix) == name


@given(st.lists(names, min_size=2, max_size=4, unique_by=str.casefold))
def test_outputs_of_two_slides_are_never_the_same_file(found):
    of_table = [
        set(output_files({"--output": Path(name)}, proposes=True).values()) for name in found
    ]
    pages = [pages_folder(Path(name)) for name in found]
    assert len(set().union(*of_table)) == 4 * len(found) and len(set(pages)) == len(found)


def test_output_files_keep_dots_in_their_names():
    found = output_files({"--output": Path("S21.1235")}, proposes=True)
    assert {path.name for path in found.values()} == {
        "S21.1235",
        "S21.1235.unreadable.csv",
        "S21.1235.metrics.json",
        "S21.1235.propose.csv",
    }
    assert (
        Path("a/evaluation.metrics.json")
        in output_files({"--output": Path("a/evaluation.csv")}, proposes=False).values()
    )
    assert (
        pages_folder(Path("S21.1234")).name == "S21.1234-slides"
        and pages_folder(Path("a.html")).name == "a-slides"
    )
