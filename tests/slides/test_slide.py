"""Slides: the pixels of a crop, what was not scanned, and what is not RGB of 8 bits."""

import struct
from pathlib import Path

import numpy as np
import pytest
import shapely
import tifffile
from PIL import Image

from stages.base.errors import UserError
from stages.slides.glomeruli import Glomerulus, box_of, shares
from stages.slides.slide import Box, Slide
from tests.slides import drawing
from tests.slides.test_bad_annotations import OTHER, collection, disk, feature, run_crops

RGB = drawing.pixels(700, 600, ((300, 300),))
PLANES = np.ascontiguousarray(RGB.transpose(2, 0, 1))
GRAY = RGB[..., 0]
NAMES = {"Channel": {"Name": ["Red", "Green", "Blue"]}}


def forget_tiles(path, columns, rows):
    """Make some tiles of the first picture sparse: without an offset and of no bytes."""
    with tifffile.TiffFile(path) as file:
        page, order = file.pages[0], file.byteorder
        across = -(-page.imagewidth // page.tilewidth)
        tags = [
            (page.tags[code].valueoffset, page.tags[code].dataformat[-1], page.tags[code].count)
            for code in (324, 325)
        ]
    with open(path, "r+b") as file:
        for offset, kind, count in tags:
            file.seek(offset)
            values = list(
                struct.unpack(
                    f"{order}{count}{kind}", file.read(struct.calcsize(f"={count}{kind}"))
                )
            )
            for row in rows:
                for column in columns:
                    values[row * across + column] = 0
            file.seek(offset)
            file.write(struct.pack(f"{order}{count}{kind}", *values))


LAYOUTS = {
    "S1.svs": drawing.write_svs,
    "S1.tif": drawing.write_tiff,
    "S1.ome.tif": drawing.write_ome,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_reports_the_share_that_was_not_scanned(name, tmp_path):
    path = tmp_path / name
    LAYOUTS[name](path, drawing.pixels(), mpp=0.5)
    forget_tiles(path, columns=(1, 2), rows=(0, 1))  # From 256, 0 to 768, 512.
    slide = Slide(path)
    for center, expected in (
        ((500, 250), 1.0),
        ((768, 250), 0.5),
        ((768, 512), 0.25),
        (OTHER, 0.0),
    ):
        glomerulus = Glomerulus(None, 1, disk(center, 100), 0)
        box = box_of(glomerulus, slide, 10)
        crop = slide.read(box, 0.5)
        found = shares(glomerulus, box, crop)
        assert found.missing == pytest.approx(expected, abs=0.01) and found.blank == 0
        assert found.around == pytest.approx(expected, abs=0.05)
        # What was not scanned is white; what was, is as it was.
        pixels = np.asarray(crop.picture)
        assert (pixels[crop.missing] == 255).all() and not (pixels[~crop.missing] == 255).all(
            axis=-1
        ).any()
    slide.close()


@pytest.mark.parametrize("name", LAYOUTS)
def test_refuses_a_glomerulus_that_was_not_scanned_and_names_it(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    LAYOUTS[name](Path(name), drawing.pixels(), mpp=0.5)
    forget_tiles(name, columns=(1, 2), rows=(0, 1))
    Path("a.geojson").write_bytes(collection(feature(disk((500, 250))), feature(disk(OTHER))))
    done = run_crops(monkeypatch, name, "--annotations", "a.geojson", "--output", "mine")
    assert (
        done.code == 1
        and f"{name}, annotation 1: 100% of the glomerulus was not scanned" in done.said
    )
    assert sorted(path.name for path in Path().iterdir()) == sorted(["a.geojson", name])
    # A share is a warning, and so is a margin: 768 + 100 pixels are scanned.
    Path("a.geojson").write_bytes(
        collection(feature(disk((768, 250))), feature(disk(OTHER)), feature(disk((910, 250))))
    )
    done = run_crops(
        monkeypatch, name, "--annotations", "a.geojson", "--output", "mine", "--margin", "20"
    )
    assert done.code == 0
    assert (
        f"not scanned: {name}, annotation 1: 5" in done.said
        and "% of the glomerulus was not scanned, and is white" in done.said
    )
    assert (
        f"{name}: the margin of 2 crops, such as annotation 1, was not scanned everywhere"
        in done.said
    )


@pytest.mark.parametrize("value", [0, 255])
def test_warns_of_a_glomerulus_that_is_pure_black_or_white(value, tmp_path, monkeypatch):
    """As converters fill what was not scanned."""
    monkeypatch.chdir(tmp_path)
    image = drawing.pixels()
    image[:512, 256:768] = value
    drawing.write_svs(Path("S1.svs"), image)
    Path("a.geojson").write_bytes(collection(feature(disk((500, 250)))))
    done = run_crops(monkeypatch, "S1.svs", "--annotations", "a.geojson", "--output", "mine")
    assert (
        done.code == 0
        and "annotation 1: 100% of the glomerulus is pure white or black; was it scanned?"
        in done.said
    )


def ome(path, values, channels=None, **options):
    about = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "axes": options.pop("axes")} | (
        channels or {}
    )
    with tifffile.TiffWriter(path, ome=True) as tif:
        tif.write(values, tile=(256, 256), metadata=about, **options)


def plain(path, values, **options):
    options.pop("axes")
    with tifffile.TiffWriter(path) as tif:
        tif.write(
            values,
            tile=(256, 256),
            resolution=(20000, 20000),
            resolutionunit="CENTIMETER",
            metadata=None,
            **options,
        )


DEEP, GRAYS = {"photometric": "rgb"}, {"photometric": "minisblack"}
ALPHA = np.concatenate([RGB, np.full_like(RGB[..., :1], 255)], axis=2)
# Kind: (values, how they are written, what of it is said as OME-TIFF, and as another TIFF; None: it
# is read right).
PIXELS = {
    "RGB": (RGB, DEEP | {"axes": "YXS"}, None, None),
    "RGB and transparency": (
        ALPHA,
        DEEP | {"axes": "YXS", "extrasamples": ["unassalpha"]},
        None,
        None,
    ),
    "RGB in planes": (PLANES, DEEP | {"axes": "SYX", "planarconfig": "separate"}, "axes SYX", None),
    "three channels": (
        PLANES,
        GRAYS | {"axes": "CYX"},
        "3 x 600 x 700 values (axes CYX",
        "1 channel of 8 bits",
    ),
    "three channels called red, green, blue": (
        PLANES,
        GRAYS | {"axes": "CYX", "channels": NAMES},
        None,
        "1 channel of 8 bits",
    ),
    "three stains that shine": (
        PLANES,
        GRAYS | {"axes": "CYX", "channels": {"Channel": {"Name": ["DAPI", "FITC", "TRITC"]}}},
        "axes CYX",
        "1 channel of 8 bits",
    ),
    "two channels": (
        PLANES[:2],
        GRAYS | {"axes": "CYX"},
        "2 x 600 x 700 values (axes CYX",
        "1 channel of 8 bits",
    ),
    "four channels": (
        np.concatenate([PLANES, PLANES[:1]]),
        GRAYS | {"axes": "CYX"},
        "4 x 600 x 700",
        "1 channel of 8 bits",
    ),
    "a fourth channel that is no transparency": (
        ALPHA,
        DEEP | {"axes": "YXS", "extrasamples": ["unspecified"]},
        "a channel besides red, green and blue",
        "a channel besides red, green and blue",
    ),
    "gray": (
        GRAY,
        GRAYS | {"axes": "YX"},
        "600 x 700 values (axes YX, uint8",
        "1 channel of 8 bits (unsigned, MINISBLACK)",
    ),
    "gray, white is 0": (
        GRAY,
        {"photometric": "miniswhite", "axes": "YX"},
        "MINISWHITE",
        "MINISWHITE",
    ),
    "gray of 16 bits": (
        GRAY.astype(np.uint16) * 257,
        GRAYS | {"axes": "YX"},
        "uint16",
        "1 channel of 16 bits",
    ),
    "RGB of 16 bits": (
        RGB.astype(np.uint16) * 257,
        DEEP | {"axes": "YXS"},
        "3 channels of 16 bits",
        "3 channels of 16 bits",
    ),
    "channels of 16 bits": (
        PLANES.astype(np.uint16),
        GRAYS | {"axes": "CYX"},
        "uint16",
        "1 channel of 16 bits",
    ),
    "floating point": (
        GRAY.astype(np.float32),
        GRAYS | {"axes": "YX"},
        "float32",
        "does not open|32 bits (float",
    ),
    "signed": (GRAY.astype(np.int8), GRAYS | {"axes": "YX"}, "int8", "1 channel of 8 bits (signed"),
    "one bit": (GRAY > 200, GRAYS | {"axes": "YX"}, "bool", "does not open"),
    "focal planes": (
        np.stack([RGB, RGB]),
        DEEP | {"axes": "ZYXS"},
        "axes ZYXS",
        "several pictures of one size",
    ),
    "gray focal planes": (PLANES, GRAYS | {"axes": "ZYX"}, "axes ZYX", "1 channel of 8 bits"),
    "times": (
        np.stack([RGB, RGB]),
        DEEP | {"axes": "TYXS"},
        "axes TYXS",
        "several pictures of one size",
    ),
    "all axes": (
        PLANES.reshape(1, 3, 1, 600, 700),
        GRAYS | {"axes": "TCZYX"},
        "values (axes",
        "1 channel of 8 bits",
    ),
}


@pytest.mark.parametrize("suffix", ["ome.tif", "tif"])
@pytest.mark.parametrize("kind", PIXELS)
def test_reads_8_bit_rgb_and_names_anything_else(kind, suffix, tmp_path):
    values, options, *said = PIXELS[kind]
    path, options, expected = tmp_path / f"S1.{suffix}", dict(options), said[suffix == "tif"]
    channels = options.pop("channels", None)
    ome(path, values, channels, **options) if suffix == "ome.tif" else plain(
        path, values, **options
    )
    if expected is None:
        slide = Slide(path)
        crop = slide.read(Box(180, 180, 240, 240), 0.5)
        assert (
            np.array_equal(np.asarray(crop.picture), RGB[180:420, 180:420])
            and not crop.missing.any()
        )
        slide.close()
        return
    with pytest.raises(UserError) as error:
        Slide(path)
    assert str(path) in str(error.value) and any(
        one in str(error.value) for one in expected.split("|")
    ), error.value
    assert len(str(error.value).splitlines()) == 1


def test_never_opens_other_files_of_an_ome_tiff(tmp_path):
    """Its XML may name other files, which lie anywhere."""
    other, path = tmp_path / "other.tif", tmp_path / "S1.ome.tif"
    tifffile.imwrite(other, RGB, photometric="rgb", tile=(256, 256))
    drawing.write_ome(path, RGB)
    with tifffile.TiffFile(path) as file:
        xml = file.ome_metadata
    named = xml.replace(
        "<TiffData",
        '<TiffData IFD="0"><UUID FileName="other.tif">urn:uuid:5</UUID></TiffData><TiffData',
        1,
    )
    with tifffile.TiffWriter(path) as tif:
        tif.write(
            RGB, tile=(256, 256), photometric="rgb", description=named.encode(), metadata=None
        )
    other.unlink()
    try:
        crop = Slide(path).read(Box(180, 180, 240, 240), 0.5)
    except UserError as error:
        assert str(path) in str(error)
    else:
        assert np.array_equal(np.asarray(crop.picture), RGB[180:420, 180:420])


def test_a_crop_at_the_edge_of_a_level_has_nothing_missing(tmp_path):
    """A level has a whole number of pixels, so that its last ones cover a part of a pixel of the
    slide beyond.
    """
    drawing.write_ome(tmp_path / "S1.ome.tif", drawing.pixels(1999, 1601))
    slide = Slide(tmp_path / "S1.ome.tif")
    crop = slide.read(Box(1699, 1301, 300, 300), 2.01)
    assert crop.level == 1 and crop.missing.mean() < 0.03 and isinstance(crop.picture, Image.Image)
    slide.close()


def test_shares_leave_out_the_holes_of_an_outline(tmp_path):
    drawing.write_svs(tmp_path / "S1.svs", drawing.pixels())
    forget_tiles(tmp_path / "S1.svs", columns=(1, 2), rows=(0, 1))
    slide = Slide(tmp_path / "S1.svs")
    ring = shapely.box(156, 156, 876, 620).difference(shapely.box(256, 100, 768, 512))
    assert isinstance(ring, shapely.Polygon)
    found = shares(
        Glomerulus(None, 1, ring, 0),
        Box(100, 100, 800, 600),
        slide.read(Box(100, 100, 800, 600), 0.5),
    )
    assert found.missing < 0.01 < found.around
    slide.close()
