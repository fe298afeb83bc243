"""From the slide and back: annotations of three programs, crops at a stated resolution, verdicts as
GeoJSON of QuPath.
"""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image

from stages.base.errors import UserError
from stages.dataset.card import read_dataset
from stages.intake.crops import make_manifest
from stages.slides.annotations import read_annotations
from stages.slides.places import CropPrediction, find_places, write_slide_geojson
from stages.slides.slide import Box, Slide
from tests.repositories import ENVIRONMENT, run_program
from tests.slides import drawing

CENTRES = ((400, 300), (1200, 900), (1700, 1300))
UUID = "49069bbb-a0ac-4343-96fe-15af45c30634"
CLASSES = ("globally sclerotic", "non_globally_sclerotic", "Globally Sclerotic")


def circle(x, y, radius=120):
    return shapely.Point(x, y).buffer(radius, quad_segs=8)


def features(outlines=None, classes=CLASSES):
    outlines = outlines or [circle(*center) for center in CENTRES]
    return [
        {
            "type": "Feature",
            "id": UUID[:-1] + str(number),
            "geometry": shapely.geometry.mapping(outline),
            "properties": {
                "objectType": "annotation",
                "classification": {"name": name, "color": [1, 2, 3]},
                "isLocked": True,
            },
        }
        for number, (outline, name) in enumerate(zip(outlines, classes))
    ]


def write_geojson(path, found):
    Path(path).write_text(json.dumps({"type": "FeatureCollection", "features": found}))
    return Path(path)


def crops(*arguments):
    return run_program("extract", *arguments)


def rows(path):
    return list(csv.DictReader(Path(path).read_text(encoding="utf-8").splitlines()))


@pytest.fixture
def slide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    image = drawing.pixels()
    drawing.write_svs(tmp_path / "S1.svs", image)
    return image


def test_the_crops_of_a_slide_are_a_dataset(slide):
    write_geojson("S1.geojson", features())
    code, printed, error = crops(
        "S1.svs", "--annotations", "S1.geojson", "--output", "data/mine", "--margin", 15
    )
    assert code == 0, error
    assert (
        "3 crops of 1 slide, 2 of them globally sclerotic, 0.5 µm per pixel, margin 15 µm: "
        "data/mine" in printed
    )
    table = rows("data/mine/labels.csv")
    assert list(table[0]) == [
        "name",
        "label",
        "slide",
        "x",
        "y",
        "width",
        "height",
        "level",
        "image",
    ]
    assert [row["label"] for row in table] == ["1", "0", "1"] and {
        row["slide"] for row in table
    } == {"S1"}
    # A circle of radius 120 about 400, 300 with 15 micrometers, 30 pixels, around it.
    assert [int(table[0][name]) for name in ("x", "y", "width", "height", "level")] == [
        250,
        150,
        300,
        300,
        0,
    ]
    with Image.open("data/mine/S1_0001.png") as picture:
        assert picture.mode == "RGB" and np.array_equal(
            np.asarray(picture), slide[150:450, 250:550]
        )
    # The card is one that the pipeline takes.
    dataset = read_dataset("mine")
    found, unreadable, _ = make_manifest(dataset, Path("unreadable.csv"), skip_unreadable=False)
    assert [(crop.path, crop.label, crop.slide) for crop in found] == [
        ("S1_0001.png", 1, "S1"),
        ("S1_0002.png", 0, "S1"),
        ("S1_0003.png", 1, "S1"),
    ]
    assert not unreadable


@pytest.mark.parametrize("resolution", [0.5, 0.7, 2.0, 3.0])
def test_crops_have_the_requested_resolution(slide, resolution):
    opened = Slide(Path("S1.svs"))
    picture, level, missing, blank = opened.read(Box(240, 140, 320, 320), resolution)
    assert not missing.any() and not blank.any()
    assert picture.size == (round(160 / resolution),) * 2 and level == int(resolution >= 2)
    # As the whole slide reduced at once, within what resampling in two steps makes of it.
    whole = Image.fromarray(slide[140:460, 240:560]).resize(picture.size, Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(picture).astype(int) - np.asarray(whole)).mean() < 2.5
    opened.close()


@pytest.mark.parametrize(
    ("name", "write"), [("a.tif", drawing.write_tiff), ("a.ome.tif", drawing.write_ome)]
)
def test_other_layouts_of_slides(slide, name, write):
    write(Path(name), slide, mpp=0.25)
    opened = Slide(Path(name))
    assert opened.size == (2000, 1600) and opened.resolution == pytest.approx((0.25, 0.25))
    picture, level = opened.read(Box(280, 180, 240, 240), 0.25)[:2]
    assert level == 0 and np.array_equal(np.asarray(picture), slide[180:420, 280:520])
    assert opened.read(Box(280, 180, 240, 240), 1.0).level == 1


XML = """<?xml version="1.0"?><Annotations MicronsPerPixel="0.5">
<Annotation Id="1" Name="globally sclerotic"><Regions>
<Region Id="1" Type="0" Text="">{circle}</Region>
<Region Id="2" Type="2" Text="nonGS"><Vertices>
<Vertex X="1080" Y="780"/><Vertex X="1320" Y="1020"/></Vertices></Region>
</Regions></Annotation>
<Annotation Id="2"><Attributes><Attribute Name="GS" Id="0"/></Attributes><Regions>
<Region Id="3" Type="1"><Vertices>
<Vertex X="1580" Y="1180"/><Vertex X="1820" Y="1180"/>
<Vertex X="1820" Y="1420"/><Vertex X="1580" Y="1420"/></Vertices></Region>
</Regions></Annotation></Annotations>"""


def test_annotations_of_three_programs_mean_the_same(slide, tmp_path):
    write_geojson("qupath.geojson", features())
    points = "".join(
        f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in circle(400, 300).exterior.coords
    )
    Path("scope.xml").write_text(XML.format(circle=f"<Vertices>{points}</Vertices>"))
    elements = [
        {
            "type": "polyline",
            "closed": True,
            "points": [[x, y, 0] for x, y in circle(400, 300).exterior.coords],
            "label": {"value": "GS"},
        },
        {"type": "circle", "center": [1200, 900, 0], "radius": 120, "group": "nonGS"},
        {
            "type": "ellipse",
            "center": [1700, 1300, 0],
            "width": 240,
            "height": 240,
            "rotation": 0.5,
            "group": "GS",
        },
    ]
    Path("archive.json").write_text(
        json.dumps([{"annotation": {"name": "glomeruli", "elements": elements}}])
    )
    for name in ("qupath.geojson", "scope.xml", "archive.json"):
        drawn = read_annotations(Path(name))
        assert len(drawn.annotations) == 3 and drawn.from_bounds == (name == "qupath.geojson")
        for one, center in zip(drawn.annotations, CENTRES):
            assert one.outline.centroid.coords[0] == pytest.approx(center, abs=0.5), name
            assert one.outline.bounds == pytest.approx(circle(*center).bounds, abs=1.5), name
        code, _, error = crops("S1.svs", "--annotations", name, "--output", f"data/{name[:4]}")
        assert code == 0, error
        assert [row["label"] for row in rows(f"data/{name[:4]}/labels.csv")] == ["1", "0", "1"]


def test_predictions_return_to_the_slide(slide):
    write_geojson("S1.geojson", features())
    assert crops("S1.svs", "--annotations", "S1.geojson", "--output", "mine", "--no-labels")[0] == 0
    assert not Path("mine.yaml").exists() and "label" not in rows("mine/labels.csv")[0]
    names = [f"S1_000{number}.png" for number in (1, 2, 3)]
    places = find_places(Path("mine"), names, None)
    numbers = [{"probability of GS": 0.25 * number} for number in range(3)]
    classes = [("nonGS", 0), ("GS", 1), ("uncertain", None)]
    verdicts = [
        CropPrediction(name, *one, here) for name, one, here in zip(names, classes, numbers)
    ]
    write_slide_geojson(Path("predicted.geojson"), places, verdicts)
    predicted = json.loads(Path("predicted.geojson").read_text())["features"]
    for number, (one, before) in enumerate(zip(predicted, features())):
        # The same object for QuPath, 0.4 or later, with the same outline; class and numbers are
        # those of the verdict.
        assert one["id"] == before["id"] and one["type"] == "Feature"
        assert shapely.geometry.shape(one["geometry"]).equals(
            shapely.geometry.shape(before["geometry"])
        )
        properties = one["properties"]
        assert properties["objectType"] == "annotation" and properties["name"] == names[number]
        assert properties["classification"]["name"] == classes[number][0]
        assert properties["measurements"] == {"probability of GS": 0.25 * number}
    colors = {tuple(one["properties"]["classification"]["color"]) for one in predicted}
    assert len(colors) == 3


def test_predictions_return_by_a_table_of_rectangles(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("crops").mkdir()
    Path("crops/labels.csv").write_text(
        "name,x,y,width,height,slide\na.png,10,20,30,40,S1\nb.png,1,2,3,4,S2\n"
    )
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(f"crops/{name}")
    places = find_places(Path("crops"), ["a.png", "b.png"], None)
    verdicts = [CropPrediction(name, "GS", 1, {"uncertain": 0.0}) for name in places]
    files = write_slide_geojson(Path("predicted.geojson"), places, verdicts)
    assert {image: file.name for image, file in files.items()} == {
        "S1": "predicted-S1.geojson",
        "S2": "predicted-S2.geojson",
    }
    (one,) = json.loads(files["S1"].read_text())["features"]
    assert one["geometry"]["coordinates"] == [[[10, 20], [40, 20], [40, 60], [10, 60], [10, 20]]]
    Path("crops/labels.csv").write_text(
        "name,x,y,width,height,slide\na.png,10,20,0,40,S1\nb.png,1,2,x,4,S2\n"
    )
    with pytest.raises(
        UserError,
        match=r"x '10', y '20', width '0', height '40' of a.png is not a rectangle of a slide",
    ):
        find_places(Path("crops"), ["a.png", "b.png"], None)
    Path("crops/labels.csv").write_text("name,label\na.png,1\nb.png,1\n")
    with pytest.raises(UserError, match="has no column x, y, width, height, image"):
        find_places(Path("crops"), ["a.png", "b.png"], None)


BOWTIE = shapely.Polygon([(300, 200), (500, 400), (500, 200), (300, 400)])


def test_repairs_invalid_outlines_with_a_warning(slide):
    write_geojson(
        "S1.geojson",
        features([BOWTIE, circle(1200, 900), circle(1210, 900)], ("GS", "nonGS", "nonGS")),
    )
    code, _, error = crops("S1.svs", "--annotations", "S1.geojson", "--output", "mine")
    assert code == 0 and "annotation 1: Self-intersection[400 300]" in error
    assert "annotations 2 and 3: one glomerulus, drawn twice" in error
    assert len(rows("mine/labels.csv")) == 3


@pytest.mark.parametrize(
    ("outlines", "classes", "more", "said"),
    {
        "a class": (
            [circle(400, 300)],
            ("Tissue",),
            [],
            "unknown classes: 'Tissue' (1)",
        ),
        "sclerotic in part, perhaps": (
            [circle(400, 300)],
            ("sclerotic",),
            [],
            "unknown classes: 'sclerotic' (1)",
        ),
        "both ways": (
            [circle(400, 300)],
            ("GS",),
            ["--negative=gs"],
            "--positive and --negative: the class 'gs' is in both",
        ),
        "ignored": (
            [circle(400, 300)],
            ("GS",),
            ["--ignore=GS"],
            "--positive and --ignore: the class 'gs' is in both",
        ),
        "no class": ([circle(400, 300)], ("",), [], "'(no class)' (1)"),
        "all ignored": (
            [circle(400, 300)],
            ("Tissue",),
            ["--ignore", "tissue"],
            "holds no glomerulus",
        ),
        "a point": (
            [shapely.Point(400, 300)],
            ("GS",),
            [],
            "annotation 1 is a Point without an area",
        ),
        "a line": (
            [shapely.LineString([(1, 1), (300, 300)])],
            ("GS",),
            [],
            "is a LineString without an area",
        ),
        "flat": ([shapely.Polygon([(1, 1), (300, 300), (1, 1)])], ("GS",), [], "without an area"),
        "too large": (
            [shapely.box(0, 0, 2000, 1600)],
            ("GS",),
            ["--slide-resolution", "0.7", "--resolution", "0.7"],
            "1400 x 1120",
        ),
        "too small": (
            [circle(400, 300, 5)],
            ("GS",),
            [],
            "has 5 x 5 µm, and glomeruli have 20 to 1000",
        ),
        "beyond": (
            [circle(1950, 300)],
            ("GS",),
            [],
            "lies partly beyond S1.svs, which has 2000 x 1600 pixels; --beyond cut",
        ),
        "outside": ([circle(5000, 300)], ("GS",), ["--beyond", "cut"], "lies wholly beyond"),
        "both labels": (
            [circle(400, 300), circle(420, 300)],
            ("GS", "nonGS"),
            [],
            "drawn twice, under both labels",
        ),
        "finer": (
            [circle(400, 300)],
            ("GS",),
            ["--resolution", "0.25"],
            "has 0.5 µm per pixel; --resolution 0.25 would invent",
        ),
    }.values(),
)
def test_refuses_ambiguous_annotations_and_writes_nothing(slide, outlines, classes, more, said):
    write_geojson("S1.geojson", features(outlines, classes))
    code, _, error = crops("S1.svs", "--annotations", "S1.geojson", "--output", "mine", *more)
    assert code == 1 and said in error, error
    assert sorted(path.name for path in Path().iterdir()) == ["S1.geojson", "S1.svs"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not valid annotations (JSONDecodeError"),
        (
            '{"type": "FeatureCollection", "features": [{"type": "Point"}]}',
            "a 'Point' instead of a Feature",
        ),
        ('{"type": "FeatureCollection", "features": []}', "holds no annotation"),
        (
            '{"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": null}]}',
            "annotation 1: its outline cannot",
        ),
        ("<Regions/>", "the root is <Regions>"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><Annotations>&b;</Annotations>', "not valid annotations"),
        (
            '{"elements": [{"type": "arrow", "center": [1, 1], "width": 1, "height": 1}]}',
            "it is of the type 'arrow'",
        ),
    ],
)
def test_refuses_files_that_are_not_annotations(slide, content, said):
    Path("S1.geojson").write_text(content)
    code, _, error = crops("S1.svs", "--annotations", "S1.geojson", "--output", "mine")
    assert code == 1 and said in error, error
    assert not Path("mine").exists()


def test_cuts_outlines_at_the_edge_if_requested(slide):
    write_geojson("S1.geojson", features([circle(1950, 300)], ("GS",)))
    code, _, error = crops(
        "S1.svs", "--annotations", "S1.geojson", "--output", "mine", "--beyond", "cut"
    )
    assert code == 0 and "annotation 1: cut off at the slide's edge" in error
    (row,) = rows("mine/labels.csv")
    assert int(row["x"]) + int(row["width"]) == 2000


def test_slides_without_a_resolution_need_the_option(slide):
    drawing.write_tiff(Path("S2.tif"), slide, unit="INCH")
    write_geojson("S2.geojson", features())
    code, _, error = crops("S2.tif", "--annotations", "S2.geojson", "--output", "mine")
    assert code == 1
    assert "S2.tif says 352.778 x 352.778 µm per pixel, which no microscope has" in error
    given = ["--slide-resolution", "0.5"]
    assert crops("S2.tif", "--annotations", "S2.geojson", "--output", "mine", *given)[0] == 0
    drawing.write_ome(Path("S4.ome.tif"), slide, mpp="of a picture")
    code, _, error = crops("S4.ome.tif", "--annotations", "S2.geojson", "--output", "more")
    assert code == 1 and "S4.ome.tif does not state its resolution" in error
    Path("S3.svs").write_bytes(b"II*\0 and nothing else")
    code, _, error = crops("S3.svs", "--annotations", "S2.geojson", "--output", "more")
    assert code == 1 and "S3.svs does not open as a slide" in error


def test_slides_of_one_patient_and_a_folder_of_annotations(slide):
    drawing.write_svs(Path("P1-2.svs"), slide)
    Path("S1.svs").rename("P1-1.svs")
    Path("drawn").mkdir()
    write_geojson("drawn/P1-1.geojson", features())
    code, _, error = crops("P1-1.svs", "P1-2.svs", "--annotations", "drawn", "--output", "mine")
    said = "drawn: the annotations of P1-2.svs are none; there must be one file, such as "
    assert code == 1 and f"{said}P1-2.geojson" in error
    write_geojson("drawn/P1-2.svs.geojson", features())
    pattern = r"(?P<slide>P\d+)-"
    code, _, error = crops(
        "P1-1.svs", "P1-2.svs", "--annotations", "drawn", "--output", "mine", "--slide", pattern
    )
    assert code == 0, error
    table = rows("mine/labels.csv")
    assert {row["slide"] for row in table} == {"P1"} and {row["image"] for row in table} == {
        "P1-1.svs",
        "P1-2.svs",
    }
    code, _, error = crops("P1-1.svs", "--annotations", "drawn", "--output", "mine")
    assert code == 1 and "--output: mine already exists" in error


def test_where_pixels_are_counted_from(slide, monkeypatch):
    """Scanned from pixel 100, 50 on: QuPath counts from there, the Digital Slide Archive from the
    slide's corner.
    """
    from stages.slides.cutting import Cut, open_source
    from stages.slides.glomeruli import Classes

    class Scanned(Slide):
        def __init__(self, path, resolution=None):
            super().__init__(path, resolution)
            self.bounds = Box(100, 50, 1500, 1400)

    monkeypatch.setattr("stages.slides.cutting.Slide", Scanned)
    write_geojson("S1.geojson", features([circle(300, 250)], ("GS",)))
    elements = [{"type": "circle", "center": [400, 300, 0], "radius": 120, "group": "GS"}]
    Path("S1.json").write_text(json.dumps({"elements": elements}))
    classes = Classes(["GS"], ["nonGS"], [], unlabeled=False)
    for name, origin in (
        ("S1.geojson", "auto"),
        ("S1.json", "auto"),
        ("S1.geojson", "bounds"),
        ("S1.json", "slide"),
    ):
        source = open_source(
            Path("S1.svs"), Path(name), classes, Cut(0.5, 10, None, False, origin), "S1"
        )
        assert source.glomeruli[0].outline.centroid.coords[0] == pytest.approx(
            (400, 300), abs=0.01
        ), (name, origin)


def test_predict_writes_geojson_and_keeps_the_columns(repository):
    image = drawing.pixels()
    drawing.write_svs(Path("S1.svs"), image)
    write_geojson("S1.geojson", features())
    code, _, error = crops(
        "S1.svs", "--annotations", "S1.geojson", "--output", "mine", "--no-labels"
    )
    assert code == 0, error
    code, _, error = run_program(
        "predict", "mine/labels.csv", "--geojson", "predicted.geojson", "--per-slide", "s.csv"
    )
    assert code == 0, error
    predicted = {
        one["properties"]["name"]: one
        for one in json.loads(Path("predicted.geojson").read_text())["features"]
    }
    for row in rows("evaluation.csv"):
        # The columns of the source follow those of the prediction.
        assert (
            list(row)[:5] == ["name", "predicted", "probability", "uncertain", "slide"]
            and row["image"] == "S1.svs"
        )
        assert row["slide"] == "S1" and row["level"] == "0"
        properties = predicted[row["name"]]["properties"]
        name = ("non globally sclerotic", "globally sclerotic")[int(row["predicted"])]
        assert properties["classification"]["name"] == (
            "uncertain" if row["uncertain"] == "1" else name
        )
        numbers = properties["measurements"]
        assert numbers["probability of globally sclerotic"] == pytest.approx(
            float(row["probability"]), abs=1e-6
        )
        assert numbers["uncertain"] == float(row["uncertain"])
    assert [row["slide"] for row in rows("s.csv")] == ["S1"]
    for read in ("mine.geojson", "mine/labels.csv"):
        code, _, error = run_program("predict", "mine", "--geojson", read)
        assert code == 1 and "would write over" in error and read in error
    outlines = {shapely.geometry.shape(one["geometry"]).wkt for one in predicted.values()}
    assert outlines == {shapely.geometry.shape(one["geometry"]).wkt for one in features()}
