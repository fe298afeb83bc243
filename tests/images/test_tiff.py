"""TIFF as scanners, ImageJ and Photoshop write it: the pixels that were written, or a refusal that
says why.

What is written is known; tifffile and imagecodecs, which write it here, read it back as well, and
so does the product.
"""

import itertools
import struct

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from stages.base.errors import UserError
from stages.images.opening import doubts_of, load_image
from stages.images.tiff import ome_channels

HEIGHT, WIDTH = 37, 53
LOSSLESS = ["none", "lzw", "zlib", "packbits", "zstd", "lzma", "jpeg2000", "webp"]
LAYOUTS = {"strips": {"rowsperstrip": 8}, "one strip": {}, "tiles": {"tile": (16, 32)}}


def values(channels: int, bits: int, seed: int = 0) -> np.ndarray:
    """Random numbers of so many bits over their whole range, (HEIGHT, WIDTH, channels)."""
    random = np.random.default_rng(seed).integers(0, 2**bits, (HEIGHT, WIDTH, channels))
    return random.astype(np.uint8 if bits <= 8 else np.uint16)


def upper_8(numbers: np.ndarray, bits: int) -> np.ndarray:
    """What is right: the upper 8 bits of more, or fewer stretched to 0 to 255."""
    return (
        numbers >> (bits - 8)
        if bits > 8
        else np.rint(numbers * (255 / (2**bits - 1))).astype(np.uint8)
    )


def combinations():
    for kind, bits, planes, compression, layout, order in itertools.product(
        ("minisblack", "miniswhite", "rgb"),
        (1, 4, 8, 10, 12, 16),
        ("contig", "separate"),
        LOSSLESS,
        LAYOUTS,
        "<>",
    ):
        if planes == "separate" and kind != "rgb":
            continue
        if bits not in (8, 16) and (compression != "none" or (kind == "rgb" and bits == 1)):
            continue
        if compression == "webp" and (bits != 8 or kind != "rgb" or planes == "separate"):
            continue
        if compression == "jpeg2000" and bits == 16 and order == ">":
            continue  # tifffile hands it swapped bytes.
        yield kind, bits, planes, compression, layout, order


COMBINATIONS = list(combinations())


def write(file, kind, bits, planes, compression, layout, order):
    """Write random numbers; return them, or None where tifffile does not write such a file."""
    numbers = values(3 if kind == "rgb" else 1, bits)
    written = numbers if kind == "rgb" else numbers[..., 0]
    options = {"photometric": kind, "byteorder": order, **LAYOUTS[layout]}
    if kind == "rgb":
        options["planarconfig"] = planes
        written = np.moveaxis(written, -1, 0) if planes == "separate" else written
    if compression != "none":
        options |= {
            "compression": compression,
            "compressionargs": {"lossless": True} if compression == "webp" else {},
        }
    if compression in ("lzw", "zlib", "zstd"):
        options["predictor"] = True
    if bits not in (8, 16):
        options["bitspersample"] = bits
    try:
        tifffile.imwrite(file, written.astype(bool) if bits == 1 else written, **options)
    except (ValueError, NotImplementedError, TypeError):
        return None
    if bits in (10, 12) and order == ">":
        # tifffile packs swapped bytes there; packed bits have no byte order, so those of the other
        # file are right.
        twin = file.with_name("twin.tif")
        write(twin, kind, bits, planes, compression, layout, "<")
        replace_segments(file, segments(twin))
    return numbers


def segments(file):
    content = file.read_bytes()
    with tifffile.TiffFile(file) as opened:
        page = opened.pages[0]
        return [
            content[start : start + count]
            for start, count in zip(page.dataoffsets, page.databytecounts)
        ]


def replace_segments(file, others):
    content = bytearray(file.read_bytes())
    with tifffile.TiffFile(file) as opened:
        starts = opened.pages[0].dataoffsets
    for start, other in zip(starts, others, strict=True):
        content[start : start + len(other)] = other
    file.write_bytes(content)


def replace_number(file, code, number):
    """Write another number into a tag of the first page."""
    with tifffile.TiffFile(file) as opened:
        tag = opened.pages[0].tags[code]
    content = bytearray(file.read_bytes())
    struct.pack_into("<I" if int(tag.dtype) == 4 else "<H", content, tag.valueoffset, number)
    file.write_bytes(content)


def test_reads_every_combination_that_can_be_written(tmp_path):
    file, read, kinds = tmp_path / "a.tif", 0, set()
    for combination in COMBINATIONS:
        numbers = write(file, *combination)
        if numbers is None:
            continue
        kind, bits, *_ = combination
        expected = upper_8(numbers, bits)
        expected = 255 - expected if kind == "miniswhite" else expected
        pixels = np.asarray(load_image(file))
        assert np.array_equal(pixels, np.broadcast_to(expected, (HEIGHT, WIDTH, 3))), combination
        read += 1
        kinds |= {combination[:4]}
    assert read > 250 and len(kinds) > 45, (read, len(kinds))
    for needed in (
        ("rgb", 16, "separate", "none"),
        ("rgb", 16, "contig", "lzw"),
        ("minisblack", 12, "contig", "none"),
    ):
        assert needed in kinds


@pytest.mark.parametrize("kind", ["minisblack", "rgb", "ycbcr"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_jpeg_in_tiff_as_slide_scanners_write_it(tmp_path, kind, layout):
    file = tmp_path / "a.tif"
    # As smooth as tissue: of noise JPEG leaves nothing to compare.
    ramp = np.stack(np.meshgrid(np.linspace(40, 220, 64), np.linspace(30, 200, 32)), axis=-1)
    picture = np.concatenate([ramp, 255 - ramp[..., :1]], axis=-1).astype(np.uint8)
    as_ycbcr = np.asarray(Image.fromarray(picture).convert("YCbCr"))
    written = {"minisblack": picture[..., 0], "rgb": picture, "ycbcr": as_ycbcr}[kind]
    options = {
        "photometric": "minisblack" if kind == "minisblack" else kind,
        "compressionargs": {"level": 95},
    }
    tifffile.imwrite(file, written, compression="jpeg", **options, **LAYOUTS[layout])
    pixels = np.asarray(load_image(file)).astype(int)
    assert np.abs(pixels - (picture[..., :1] if kind == "minisblack" else picture)).max() < 12
    with tifffile.TiffFile(file) as opened:
        again = opened.pages[0].asarray()
    assert np.array_equal(
        pixels, np.broadcast_to(again if again.ndim == 3 else again[..., None], pixels.shape)
    )


def test_alpha_premultiplied_or_not_and_channels_of_no_known_meaning(tmp_path):
    file = tmp_path / "a.tif"
    numbers = values(4, 8)
    tifffile.imwrite(file, numbers, photometric="rgb", extrasamples=["unassalpha"])
    assert np.array_equal(np.asarray(load_image(file)), numbers)
    numbers[..., :3] = np.minimum(numbers[..., :3], numbers[..., 3:])
    tifffile.imwrite(file, numbers, photometric="rgb", extrasamples=["assocalpha"])
    expected = Image.frombytes("RGBa", (WIDTH, HEIGHT), numbers.tobytes()).convert("RGBA")
    assert np.array_equal(np.asarray(load_image(file)), np.asarray(expected))
    tifffile.imwrite(file, numbers, photometric="rgb", extrasamples=["unspecified"])
    image = load_image(file)
    assert np.array_equal(np.asarray(image), numbers[..., :3])
    assert doubts_of(image, file) == [
        f"{file}: channel 4 is not marked as transparency, and is left out"
    ]


def test_palette_and_cmyk(tmp_path):
    file = tmp_path / "a.tif"
    numbers, table = (
        values(1, 8)[..., 0],
        np.random.default_rng(1).integers(0, 2**16, (3, 256), dtype=np.uint16),
    )
    tifffile.imwrite(file, numbers, photometric="palette", colormap=table)
    assert np.array_equal(np.asarray(load_image(file)), (table >> 8).T[numbers])
    # Some programs write a palette of 8 bits where TIFF wants 16.
    tifffile.imwrite(file, numbers, photometric="palette", colormap=table >> 8)
    assert np.array_equal(np.asarray(load_image(file)), (table >> 8).T[numbers])
    inks = values(4, 8)
    tifffile.imwrite(file, inks, photometric="separated")
    assert np.array_equal(
        np.asarray(load_image(file)), np.asarray(Image.fromarray(inks, mode="CMYK").convert("RGB"))
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_tag_is_applied(tmp_path, orientation):
    file = tmp_path / "a.tif"
    numbers = values(3, 16)
    tifffile.imwrite(file, numbers, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    upright = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: np.rot90,
    }  # fmt: skip
    assert np.array_equal(np.asarray(load_image(file)), upright[orientation](numbers >> 8))


def test_big_tiff_fill_order_and_ome(tmp_path):
    file = tmp_path / "a.tif"
    numbers = values(3, 16)
    tifffile.imwrite(file, numbers, photometric="rgb", bigtiff=True)
    assert np.array_equal(np.asarray(load_image(file)), numbers >> 8)
    tifffile.imwrite(tmp_path / "a.ome.tif", numbers, photometric="rgb", metadata={"axes": "YXS"})
    assert np.array_equal(np.asarray(load_image(tmp_path / "a.ome.tif")), numbers >> 8)
    gray = upper_8(numbers[..., 0], 16).astype(np.uint8)
    # tifffile does not write the tag 266, the lowest bit first; it takes the place of another.
    tifffile.imwrite(
        file, gray, photometric="minisblack", metadata=None, extratags=[(65100, 3, 1, 2, True)]
    )
    with tifffile.TiffFile(file) as opened:
        place = opened.pages[0].tags[65100].offset
    content = bytearray(file.read_bytes())
    struct.pack_into("<H", content, place, 266)
    file.write_bytes(content)
    replace_segments(file, [imagecodecs.bitorder_decode(gray.tobytes())])
    assert np.array_equal(np.asarray(load_image(file))[..., 0], gray)


@pytest.mark.parametrize(
    ("sizes", "channels", "found"),
    [
        ('SizeC="3"', '<Channel SamplesPerPixel="3"/>', [""]),
        ('SizeC="2"', '<Channel Name="DAPI"/><Channel/>', ["DAPI", ""]),
        ('SizeC="4"', "", [""] * 4),
        ("", "", [""]),
        ('SizeC="x"', "", None),
    ],
)
def test_the_channels_of_an_ome_tiff(sizes, channels, found):
    assert ome_channels(OME.format(sizes=sizes, channels=channels)) == found


@pytest.mark.parametrize(
    "description", [None, "", "Aperio", "<OME", "<OME/>", '<OME xmlns="x"><Image/></OME>']
)
def test_what_is_not_ome_has_no_channels(description):
    assert ome_channels(description) is None


@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_an_ome_tiff_in_rgb_is_read(tmp_path, planes):
    file, numbers = tmp_path / "a.ome.tif", values(3, 8)
    axes = {"axes": "YXS" if planes == "contig" else "SYX"}
    written = numbers if planes == "contig" else np.moveaxis(numbers, -1, 0)
    tifffile.imwrite(file, written, photometric="rgb", planarconfig=planes, metadata=axes)
    image = load_image(file)
    assert np.array_equal(np.asarray(image), numbers) and doubts_of(image, "") == []


def test_smaller_copies_and_masks_are_no_further_pictures(tmp_path):
    file = tmp_path / "a.tif"
    numbers = values(3, 8)
    with tifffile.TiffWriter(file) as writer:
        writer.write(numbers, photometric="rgb", subifds=1)
        writer.write(numbers[::2, ::2], photometric="rgb", subfiletype=1)
        writer.write(numbers[::4, ::4], photometric="rgb", subfiletype=1)
    image = load_image(file)
    assert np.array_equal(np.asarray(image), numbers) and doubts_of(image, file) == []


def test_warns_of_a_second_picture(tmp_path):
    file = tmp_path / "a.tif"
    tifffile.imwrite(file, np.stack([values(3, 8), values(3, 8, 1)]), photometric="rgb")
    image = load_image(file)
    assert np.array_equal(np.asarray(image), values(3, 8))
    assert doubts_of(image, file) == [f"{file}: it holds 2 pictures; the first is read"]


def first_thumbnail(file):
    with tifffile.TiffWriter(file) as writer:
        writer.write(values(3, 8)[::2, ::2], photometric="rgb", subfiletype=1)
        writer.write(values(3, 8), photometric="rgb")


def fewer_strips(file):
    """Says that it is higher than its strips reach."""
    tifffile.imwrite(file, values(3, 8), photometric="rgb", rowsperstrip=8, compression="zlib")
    replace_number(file, 257, 80)


def an_empty_strip(file):
    """As sparse files have it, whose missing strips are black; here by an accident."""
    tifffile.imwrite(file, values(3, 8), photometric="rgb", rowsperstrip=8, compression="zlib")
    replace_number(file, 279, 0)


def of(numbers, **options):
    return lambda file: tifffile.imwrite(file, numbers, **options)


GRAY, RGB, CONTIG = (
    {"photometric": "minisblack"},
    {"photometric": "rgb"},
    {"planarconfig": "contig"},
)
OME = (
    '<?xml version="1.0" encoding="UTF-8"?><OME '
    'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image>'
    '<Pixels {sizes} Type="uint8">{channels}</Pixels></Image></OME>'
)
CLEAR = np.dstack([values(3, 8), np.zeros((HEIGHT, WIDTH), np.uint8)])
REFUSED = {
    "planes of R, G and B": (
        of(np.moveaxis(values(3, 8), -1, 0), **GRAY),
        "it holds 3 pictures in gray of one size",
    ),
    "an ImageJ stack": (
        of(np.moveaxis(values(3, 16), -1, 0), imagej=True, metadata={"axes": "CYX"}),
        "it holds 3 pictures in gray of one size",
    ),
    "8 bits in 16": (of(values(3, 8).astype(np.uint16), **RGB), "its brightest value is 0 of 255"),
    "12 bits in 16": (of(values(3, 12), **RGB), "its brightest value is 15 of 255"),
    "12 bits in 16, planes": (
        of(np.moveaxis(values(3, 12), -1, 0), planarconfig="separate", **RGB),
        "brightest value is 15 of",
    ),
    "12 bits in 16, gray": (of(values(1, 12)[..., 0], **GRAY), "its brightest value is 15 of 255"),
    "14 bits in 16": (of(values(3, 14), **RGB), "its brightest value is 63 of 255"),
    "signed": (of(values(3, 12).astype(np.int16), **RGB), "its numbers are signed"),
    "signed, 8 bits": (of(values(3, 7).astype(np.int8), **RGB), "its numbers are signed"),
    "32 bits": (of(values(3, 16).astype(np.uint32), **RGB), "it has 32-bit pixels"),
    "half precision": (
        of(np.ones((9, 9), np.float16), **GRAY),
        "it has 16-bit floating-point pixels, whose white is",
    ),
    "floating point": (
        of(np.ones((9, 9), np.float32), **GRAY),
        "it has 32-bit floating-point pixels",
    ),
    "complex": (of(np.ones((9, 9), np.complex64), **GRAY), "it has 64-bit complex pixels"),
    "two channels, the second of no known meaning": (
        of(values(2, 8), **GRAY, **CONTIG),
        "it has 2 channels of gray, and does not state which are red, green",
    ),
    "inks that are not CMYK": (
        of(values(4, 8), photometric="separated", extratags=[(332, "H", 1, 2, True)]),
        "its inks are not cyan, magenta, yellow and black",
    ),
    "channels of fluorescence as pages": (
        of(
            np.moveaxis(values(3, 16), -1, 0),
            ome=True,
            metadata={"axes": "CYX", "Channel": {"Name": ["DAPI", "a", "b"]}},
            **GRAY,
        ),
        "it is an OME-TIFF of 3 channels (DAPI, a, b); save it as RGB",
    ),
    "channels of fluorescence, the second said to be transparency": (
        of(
            np.full((HEIGHT, WIDTH, 2), 99, np.uint8),
            description=OME.format(sizes='SizeC="2"', channels="<Channel/>" * 2),
            metadata=None,
            extrasamples=["unassalpha"],
            **GRAY,
            **CONTIG,
        ),
        "it is an OME-TIFF of 2 channels; save it as RGB",
    ),
    "planes of focus": (
        of(np.moveaxis(values(3, 8), -1, 0), ome=True, metadata={"axes": "ZYX"}, **GRAY),
        "3 pictures in gray",
    ),
    "three channels of gray": (
        of(values(3, 8), **GRAY, **CONTIG),
        "it has 3 channels of gray, and does not state which are red, green",
    ),
    "seven channels": (of(values(7, 8), **RGB, **CONTIG), "it has 7 channels of color"),
    "transparent all over": (
        of(CLEAR, extrasamples=["unassalpha"], **RGB),
        "is fully transparent",
    ),
    "a thumbnail first": (first_thumbnail, "its first picture is a reduced copy"),
    "fewer strips": (fewer_strips, "it is damaged: it has 5 of 10 strips or tiles"),
    "an empty strip": (an_empty_strip, "it is cut short"),
    "a volume": (
        of(np.zeros((16, 32, 32), np.uint8), volumetric=True, tile=(16, 16, 16), **GRAY),
        "it is not a flat picture",
    ),
    "the colors of a camera's sensor": (
        of(values(1, 8)[..., 0], photometric="cfa"),
        "its photometric interpretation is 32803",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refuses_ambiguous_or_damaged_files(tmp_path, kind):
    file = tmp_path / "a.tif"
    make, said = REFUSED[kind]
    make(file)
    with pytest.raises(UserError) as error:
        load_image(file)
    assert (
        str(error.value).startswith(str(file))
        and said in str(error.value)
        and "\n" not in str(error.value)
    )


def test_damaged_strips_are_refused(tmp_path):
    file = tmp_path / "a.tif"
    for layout, compression in itertools.product(LAYOUTS, ("none", "zlib", "lzw")):
        options = {"compression": compression} if compression != "none" else {}
        tifffile.imwrite(file, values(3, 8), photometric="rgb", **options, **LAYOUTS[layout])
        content = file.read_bytes()
        for share in (0.2, 0.5, 0.9, 0.99):
            file.write_bytes(content[: int(share * len(content))])
            with pytest.raises(UserError, match="does not open as an image"):
                load_image(file)
