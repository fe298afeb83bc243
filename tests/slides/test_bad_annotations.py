"""What other programs' annotation files really hold, each through the real program.

Each kind ends in the right crops, or in one line that names the culprit, a non-zero exit and
nothing half-written.
"""

import contextlib
import gzip
import io
import json
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import shapely

import stages.base.errors
import stages.extract
from tests.slides import drawing

GS, OTHER, THIRD = (400, 300), (1200, 900), (1700, 1300)


class Done(NamedTuple):
    code: int
    said: str


def run_crops(monkeypatch, *arguments):
    """Run `stages.extract` as `python -m` does, but in this process."""
    screen = io.StringIO()
    monkeypatch.setattr(sys, "argv", ["extract", *map(str, arguments)])
    with contextlib.redirect_stderr(screen), contextlib.redirect_stdout(screen):
        try:
            stages.base.errors.run_program(stages.extract.main)
        except SystemExit as stopped:
            assert isinstance(stopped.code, str), screen.getvalue()
            return Done(1, f"{screen.getvalue()}{stopped.code}")
    return Done(0, screen.getvalue())


def disk(center=GS, radius=120):
    return shapely.Point(center).buffer(radius, quad_segs=8)


def feature(outline, kind="GS", **properties):
    geometry = (
        outline
        if outline is None or isinstance(outline, dict)
        else shapely.geometry.mapping(outline)
    )
    classification = {"name": kind} if isinstance(kind, str) else kind
    return {
        "type": "Feature",
        "geometry": geometry,
        "properties": {"classification": classification, **properties},
    }


def collection(*features):
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


def element(outline, **more):
    points = [[x, y, 0] for x, y in outline.exterior.coords]
    return {"type": "polyline", "closed": True, "points": points} | more


def layer(*elements, name="GS"):
    return {"_id": "5f", "annotation": {"name": name, "elements": elements, "attributes": {}}}


def archive(*layers):
    return json.dumps(layers).encode()


def region(outline=None, kind=0, text="", **more):
    outline = outline or disk()
    points = "".join(
        f'<Vertex X="{x}" Y="{y}" Z="0"/>'
        for x, y in (outline.coords if kind > 2 else outline.exterior.coords[:-1])
    )
    others = "".join(f' {name}="{value}"' for name, value in more.items())
    start = f'<Region Id="1" Type="{kind}" Text="{text}"{others}>'
    return f"{start}<Attributes/><Vertices>{points}</Vertices></Region>"


HEADERS = (
    '<RegionAttributeHeaders><AttributeHeader Id="9999" Name="Region" ColumnWidth="-1"/>'
    '<AttributeHeader Id="1" Name="Description" ColumnWidth="-1"/></RegionAttributeHeaders>'
)


def scope(*regions, name="GS", description="", attributes=""):
    """As ImageScope writes a layer: with the attribute `Description`, and headers of columns within
    its regions.
    """
    settings = 'ReadOnly="0" Type="4" LineColor="65280" Visible="1" MarkupImagePath=""'
    layer = f'<Annotation Id="1" Name="{name}" {settings}>'
    about = f'<Attribute Name="Description" Id="0" Value="{description}"/>{attributes}'
    about = f"<Attributes>{about}</Attributes>"
    return f"{layer}{about}<Regions>{HEADERS}{''.join(regions)}</Regions><Plots/></Annotation>"


def xml(*layers):
    return f'<Annotations MicronsPerPixel="0.5">{"".join(layers)}</Annotations>'.encode()


def zipped(**files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, data in files.items():
            file.writestr(f"{name}.geojson", data)
    return content.getvalue()


def tangle(corners):
    return shapely.Polygon(np.random.default_rng(1).random((corners, 2)) * 240 + (280, 180))


LINE, CLICKS = (
    shapely.LineString([(1, 1), (300, 300)]),
    shapely.MultiPoint([(400, 300), (500, 400)]),
)
TWO = shapely.MultiPolygon([disk(GS), disk(OTHER)])
SPECKED = shapely.MultiPolygon([disk(GS), disk((900, 300), 3), disk((900, 500), 22)])
BOMB = (
    b'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    b"<Annotations>&b;</Annotations>"
)
NOTES = ["--ignore", "notes"]
GOOD = collection(feature(disk()))

# Kind: (content, further arguments, the number of crops or None where it is refused, what is said).
ANNOTATIONS = {
    # QuPath
    "two merged glomeruli": (
        collection(feature(TWO), feature(disk(THIRD))),
        [],
        3,
        "annotation 1: 2 parts, each a separate glomerulus",
    ),
    "specks of the brush": (
        collection(feature(SPECKED)),
        [],
        1,
        "annotation 1: 2 of its parts left out, as specks",
    ),
    "a multipolygon of one part": (collection(feature(shapely.MultiPolygon([disk()]))), [], 1, ""),
    "parts that overlap": (
        collection(feature(shapely.MultiPolygon([disk(), disk((450, 300))]))),
        [],
        1,
        "annotation 1: Self-intersection",
    ),
    "an island in a hole": (
        collection(feature(shapely.MultiPolygon([disk().difference(disk(GS, 90)), disk(GS, 60)]))),
        [],
        1,
        "",
    ),
    "a hole": (collection(feature(disk().difference(disk(GS, 40)))), [], 1, ""),
    "a collection of an outline and a line": (
        collection(feature(shapely.GeometryCollection([disk(), LINE]))),
        [],
        1,
        "",
    ),
    "a collection of two outlines": (
        collection(feature(shapely.GeometryCollection([disk(), disk(OTHER)]))),
        [],
        2,
        "annotation 1: 2 parts",
    ),
    "a collection of lines": (
        collection(feature(shapely.GeometryCollection([LINE]))),
        [],
        None,
        "annotation 1 is a GeometryCollection without an area",
    ),
    "an outline that crosses itself once": (
        collection(feature(shapely.Polygon([(300, 200), (500, 400), (500, 200), (300, 400)]))),
        [],
        1,
        "Self-intersection",
    ),
    "a tangle of 1,000 corners": (
        collection(feature(tangle(1000))),
        [],
        None,
        "annotation 1 crosses itself more than 300 times",
    ),
    "a tangle of 20,000 corners": (
        collection(feature(tangle(20_000))),
        [],
        None,
        "annotation 1 crosses itself more than 300 times",
    ),
    "clicks of an ignored class": (
        collection(feature(disk()), feature(CLICKS, "notes")),
        NOTES,
        1,
        "",
    ),
    "a line of an ignored class": (
        collection(feature(disk()), feature(LINE, "notes")),
        NOTES,
        1,
        "",
    ),
    "no geometry, of an ignored class": (
        collection(feature(disk()), feature(None, "Notes")),
        NOTES,
        1,
        "",
    ),
    "invalid coordinates, of an ignored class": (
        collection(feature(disk()), feature({"type": "Polygon", "coordinates": [["a"]]}, "notes")),
        NOTES,
        1,
        "",
    ),
    "clicks": (
        collection(feature(CLICKS)),
        [],
        None,
        "annotation 1 is a MultiPoint without an area",
    ),
    "no geometry": (
        collection(feature(None)),
        [],
        None,
        "annotation 1: its outline cannot be read (it has no geometry)",
    ),
    "invalid coordinates": (
        collection(
            feature({"type": "Polygon", "coordinates": [[["a", "b"], ["c", "d"], ["e", "f"]]]})
        ),
        [],
        None,
        "annotation 1: its outline cannot be read",
    ),
    "two corners": (
        collection(feature({"type": "Polygon", "coordinates": [[[1, 1], [2, 2]]]})),
        [],
        None,
        "annotation 1: its outline cannot be read",
    ),
    "a geometry of an unknown type": (
        collection(feature({"type": "Ellipse", "coordinates": []})),
        [],
        None,
        "annotation 1: its outline cannot be read",
    ),
    "a geometry without coordinates": (
        collection(feature({"type": "Polygon"})),
        [],
        None,
        "annotation 1: its outline cannot be read ('coordinates' is missing)",
    ),
    "not a number": (
        collection(
            feature(
                {"type": "Polygon", "coordinates": [[[1, 1], [float("nan"), 2], [3, 1], [1, 1]]]}
            )
        ),
        [],
        None,
        "annotation 1: its outline cannot be read (it has no points, or some that are not numbers)",
    ),
    "infinity": (
        collection(feature(disk())).replace(b"[520.0, 300.0]", b"[1e999, 300.0]"),
        [],
        None,
        "annotation 1: its outline cannot be read",
    ),
    "a number of 400 digits": (
        collection(feature(disk())).replace(b"[520.0, 300.0]", b"[" + b"9" * 400 + b", 300]"),
        [],
        None,
        "annotation 1: its outline cannot be read",
    ),
    "a name without a class": (
        collection(feature(disk(), None, name="GS 1"), feature(disk(OTHER))),
        [],
        None,
        "'(no class)' (1); the name of an annotation, such as 'GS 1', is not a class",
    ),
    "a color without a class": (
        collection(feature(disk(), {"colorRGB": -65536})),
        [],
        None,
        "'(no class)' (1)",
    ),
    "no class, left out": (
        collection(feature(disk()), feature(disk(OTHER), None)),
        ["--ignore", "(no class)"],
        1,
        "",
    ),
    "names of a class": (
        collection(feature(disk(), {"names": ["Globally", "sclerotic"]})),
        [],
        None,
        "'Globally: sclerotic' (1)",
    ),
    "one name of a class": (
        collection(feature(disk(), {"names": ["GS"], "color": [1, 2, 3]})),
        [],
        1,
        "",
    ),
    "names that are numbers": (
        collection(feature(disk(), {"names": [1, 2]})),
        [],
        None,
        "'1: 2' (1)",
    ),
    "a class that is a text": (
        collection({**feature(disk()), "properties": {"classification": "GS"}}),
        [],
        1,
        "",
    ),
    "capitals and spaces": (collection(feature(disk(), " globally_SCLEROTIC ")), [], 1, ""),
    "properties that are null": (
        collection({**feature(disk()), "properties": None}),
        [],
        None,
        "'(no class)' (1)",
    ),
    "an identifier that is a number": (collection({**feature(disk()), "id": 5}), [], 1, ""),
    "cells and tiles": (
        collection(
            feature(disk()),
            feature(disk(OTHER, 4), None, objectType="cell", nucleusGeometry={}),
            feature(disk(OTHER), "GS", objectType="tile"),
            {**feature(disk(OTHER), "GS"), "id": "PathCellObject"},
        ),
        [],
        1,
        "left out, as nobody drew them as outlines: 2 x cell",
    ),
    "only TMA cores": (
        collection(feature(disk(), objectType="tma_core")),
        [],
        None,
        "holds no glomerulus",
    ),
    "detections": (collection(feature(disk(), objectType="detection")), [], 1, ""),
    "a bare list": (json.dumps([feature(disk())]).encode(), [], 1, ""),
    "one feature": (json.dumps(feature(disk())).encode(), [], 1, ""),
    "the mark of UTF-8": (b"\xef\xbb\xbf" + GOOD, [], 1, ""),
    "UTF-16": (b"\xff\xfe" + GOOD.decode().encode("utf-16-le"), [], 1, ""),
    "line ends of Windows": (
        json.dumps(json.loads(GOOD), indent=1).replace("\n", "\r\n").encode(),
        [],
        1,
        "",
    ),
    "gzip": (gzip.compress(GOOD), [], 1, ""),
    "zip": (zipped(S1=GOOD), [], 1, ""),
    "zip of two files": (
        zipped(S1=GOOD, S2=GOOD),
        [],
        None,
        "a zip archive of 2 annotation files",
    ),
    "gzip, cut short": (gzip.compress(GOOD)[:-20], [], None, "cannot be unpacked"),
    "zip, cut short": (zipped(S1=GOOD)[:-20], [], None, "cannot be unpacked"),
    "nothing": (b"", [], None, "not valid annotations"),
    "no features": (collection(), [], None, "holds no annotation"),
    "an empty list": (b"[]", [], None, "holds no annotation"),
    "features that are null": (
        b'{"type": "FeatureCollection", "features": null}',
        [],
        None,
        "not valid annotations",
    ),
    "a number": (b"5", [], None, "not valid annotations"),
    "a list of numbers": (b"[5]", [], None, "not valid annotations"),
    "Latin-1": (
        collection(feature(disk(), "x")).replace(b'"x"', b'"\xe4"'),
        [],
        None,
        "not valid annotations",
    ),
    "nested 100,000 deep": (b"[" * 100_000 + b"]" * 100_000, [], None, "not valid annotations"),
    # The Digital Slide Archive
    "a layer's name is the class": (
        archive(layer(element(disk())), layer(element(disk(OTHER)), name="nonGS")),
        [],
        2,
        "label 0, not globally sclerotic: 1 of the class 'nonGS'",
    ),
    "an ignored layer": (
        archive(layer(element(disk())), layer(element(disk(OTHER)), name="notes")),
        NOTES,
        1,
        "",
    ),
    "an ignored layer of numbered elements": (
        archive(
            layer(element(disk())), layer(element(disk(OTHER), label={"value": "12"}), name="notes")
        ),
        NOTES,
        1,
        "",
    ),
    "the default group": (archive(layer(element(disk(), group="default"))), [], 1, ""),
    "a group in a layer of another name": (
        archive(layer(element(disk(), group="GS"), name="Dr. X, May")),
        [],
        1,
        "",
    ),
    "a label in a layer of its opposite": (
        archive(layer(element(disk(), label={"value": "nonGS"}))),
        [],
        1,
        "annotation 1 is of the class 'nonGS', label 0, within 'GS', label 1",
    ),
    "a label that is not known, in a layer that is": (
        archive(layer(element(disk(), label={"value": "segmental"}))),
        [],
        None,
        "'segmental' (1)",
    ),
    "one layer, not in a list": (json.dumps(layer(element(disk()))).encode(), [], 1, ""),
    "a layer without elements": (
        archive(layer(element(disk())), {"annotation": {"name": "empty"}}),
        [],
        1,
        "",
    ),
    "a layer of no elements": (archive(layer()), [], None, "holds no annotation"),
    "an ignored arrow": (
        archive(
            layer(element(disk())),
            layer({"type": "arrow", "points": [[1, 1, 0], [9, 9, 0]]}, name="notes"),
        ),
        NOTES,
        1,
        "",
    ),
    "an arrow": (
        archive(layer({"type": "arrow", "points": [[1, 1, 0], [9, 9, 0]]})),
        [],
        None,
        "annotation 1: its outline cannot be read (it is of the type 'arrow')",
    ),
    "a heatmap": (
        archive(layer({"type": "heatmap", "points": []})),
        [],
        None,
        "it is of the type 'heatmap'",
    ),
    "an element without a type": (archive(layer({"points": []})), [], None, "'type' is missing"),
    "a circle without a center": (
        archive(layer({"type": "circle", "radius": 9})),
        [],
        None,
        "'center' is missing",
    ),
    "a center of one number": (
        archive(layer({"type": "circle", "center": [9], "radius": 9})),
        [],
        None,
        "cannot be read",
    ),
    "an element that is a text": (archive(layer("GS")), [], None, "not valid annotations"),
    # ImageScope
    "a layer as ImageScope writes it": (xml(scope(region())), [], 1, ""),
    "a layer without a name": (xml(scope(region(), name="")), [], None, "'(no class)' (1)"),
    "a description is no class": (
        xml(scope(region(), name="", description="GS")),
        [],
        None,
        "'(no class)' (1); the name of an annotation, such as 'GS', is not a class",
    ),
    "an attribute is the class": (
        xml(scope(region(), name="", attributes='<Attribute Name="GS" Id="1" Value=""/>')),
        [],
        1,
        "1 of the class 'GS'",
    ),
    "the text of a region": (
        xml(scope(region(text="nonGS"), name="")),
        [],
        1,
        "1 of the class 'nonGS'",
    ),
    "a negative region": (
        xml(scope(region(), region(disk(GS, 40), NegativeROA="1"))),
        [],
        1,
        "left out, as nobody drew them as outlines: 1 x negative region",
    ),
    "an ignored negative region": (
        xml(scope(region()), scope(region(disk(GS, 40), NegativeROA="1"), name="notes")),
        NOTES,
        1,
        "label 1, globally sclerotic: 1",
    ),
    "an ignored ruler": (xml(scope(region()), scope(region(LINE, 4), name="notes")), NOTES, 1, ""),
    "a ruler": (
        xml(scope(region(LINE, 4))),
        [],
        None,
        "annotation 1 is a LineString without an area",
    ),
    "a region without corners": (
        xml(scope('<Region Id="1" Type="0"/>')),
        [],
        None,
        "annotation 1: its outline cannot be read",
    ),
    "a corner that is no number": (
        xml(scope(region().replace('X="520.0"', 'X="52O"', 1))),
        [],
        None,
        "annotation 1: its outline cannot be read",
    ),
    "an ignored region without corners": (
        xml(scope(region()), scope('<Region Id="1" Type="2"/>', name="notes")),
        NOTES,
        1,
        "",
    ),
    "layers without regions": (xml(scope(), scope(name="nonGS")), [], None, "holds no annotation"),
    "entities that multiply": (BOMB, [], None, "not valid annotations"),
    "XML of another program": (b"<ASAP_Annotations/>", [], None, "the root is <ASAP_Annotations>"),
    "XML, cut short": (xml(scope(region()))[:-30], [], None, "not valid annotations"),
    # What the classes are said to be
    "classes that are swapped": (
        GOOD,
        ["--positive", "nonGS", "--negative", "GS"],
        None,
        "--positive nonGS: this class is not globally sclerotic, by its name",
    ),
    "a negated class": (
        GOOD,
        ["--positive", "Non-sclerosed"],
        None,
        "--positive Non-sclerosed: this class is not globally sclerotic, by its name",
    ),
    "the positive class as the negative": (
        GOOD,
        ["--positive", "a", "--negative", "Globally_sclerotic"],
        None,
        "is globally",
    ),
    "all ignored": (
        GOOD,
        ["--positive", "a", "--ignore", "GS"],
        None,
        "holds no glomerulus: all of its 1 annotations",
    ),
}


@pytest.fixture(scope="module")
def drawn_slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("slide") / "S1.svs"
    drawing.write_svs(path, drawing.pixels())
    return path


@pytest.mark.parametrize("kind", ANNOTATIONS)
def test_annotations_become_the_right_crops_or_a_clear_line(
    kind, drawn_slide, tmp_path, monkeypatch
):
    content, more, count, said = ANNOTATIONS[kind]
    monkeypatch.chdir(tmp_path)
    Path("drawn").write_bytes(content)
    done = run_crops(monkeypatch, drawn_slide, "--annotations", "drawn", "--output", "mine", *more)
    assert said in done.said, done.said
    if count is None:
        assert done.code == 1 and "Traceback" not in done.said
        assert [path.name for path in Path().iterdir()] == ["drawn"]
        assert all(len(line) < 400 for line in done.said.splitlines())
    else:
        assert done.code == 0, done.said
        assert len(Path("mine/labels.csv").read_text().splitlines()) == 1 + count
        assert len(list(Path("mine").glob("*.png"))) == count
