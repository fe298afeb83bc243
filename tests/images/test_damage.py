"""Damaged files are refused, although decoders make a picture of them; whole ones of every encoder
are read.
"""

import io
import itertools
import struct

import cv2
import imagecodecs
import numpy as np
import pytest
import simplejpeg
import tifffile
from PIL import Image

from stages.base.errors import UserError
from stages.images.opening import doubts_of, load_image
from tests.images.pictures import bmp, tissue

PICTURE = tissue(0)


def written(tmp_path, content):
    file = tmp_path / "a.img"
    file.write_bytes(content)
    return file


def by_pillow(kind, mode="RGB", **options):
    content = io.BytesIO()
    Image.fromarray(PICTURE).convert(mode).save(content, format=kind, **options)
    return content.getvalue()


def by_opencv(sampling, restart):
    sampling = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{sampling}")
    options = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling, cv2.IMWRITE_JPEG_RST_INTERVAL, restart]
    return cv2.imencode(".jpg", PICTURE[..., ::-1], options)[1].tobytes()


def good_jpegs():
    for mode, quality, progressive, restart in itertools.product(
        ("RGB", "L", "CMYK"), (30, 92, 100), (False, True), (0, 2)
    ):
        yield by_pillow(
            "JPEG", mode, quality=quality, progressive=progressive, restart_marker_rows=restart
        )
    for subsampling, optimize in itertools.product((0, 1, 2), (False, True)):
        yield by_pillow(
            "JPEG",
            subsampling=subsampling,
            optimize=optimize,
            icc_profile=b"damaged",
            comment=b"x" * 9999,
        )
    for sampling, restart in itertools.product(("411", "420", "422", "440", "444"), (0, 7)):
        yield by_opencv(sampling, restart)
    for space in ("RGB", "YCBCR"):
        yield imagecodecs.jpeg8_encode(PICTURE, outcolorspace=space)
    yield imagecodecs.jpeg8_encode(PICTURE, lossless=True)
    yield imagecodecs.jpeg8_encode(
        255 - np.dstack([PICTURE, PICTURE[..., 0]]), colorspace="CMYK", outcolorspace="YCCK"
    )
    yield simplejpeg.encode_jpeg(PICTURE, colorsubsampling="440")
    yield by_pillow("JPEG") + b"behind the end" * 999
    yield by_pillow("MPO", save_all=True, append_images=[Image.fromarray(PICTURE)])
    ended = by_pillow("JPEG")
    yield ended[:-2] + b"\xff" * 99 + ended[-2:]


def test_complete_jpegs_have_the_pixels_of_pillow(tmp_path):
    for number, content in enumerate(good_jpegs()):
        with Image.open(io.BytesIO(content)) as image:
            expected = image.convert("RGB")
        found = load_image(written(tmp_path, content))
        assert np.array_equal(np.asarray(found), np.asarray(expected)), number
        assert not [doubt for doubt in doubts_of(found, "") if "damaged" in doubt], number


def test_a_rotated_jpeg_keeps_its_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert load_image(written(tmp_path, by_pillow("JPEG", exif=exif))).size == (300, 320)


@pytest.mark.parametrize("unread", [9, 40])
def test_surplus_bytes_of_a_jpeg_are_a_warning(tmp_path, unread):
    """A few are a camera's padding, for all that can be known; many are left over where others were
    lost.
    """
    content = by_pillow("JPEG")
    file = written(tmp_path, content[:-2] + b"\x55" * unread + content[-2:])
    if unread < 20:
        image = load_image(file)
        assert doubts_of(image, "x") == [
            "x: it may be damaged: Corrupt JPEG data: 2 extraneous bytes before marker 0xd9"
        ]
        assert np.array_equal(np.asarray(image), np.asarray(load_image(written(tmp_path, content))))
    else:
        with pytest.raises(
            UserError,
            match="it is damaged: Corrupt JPEG data: 33 extraneous bytes before marker 0xd9",
        ):
            load_image(file)


JPEGS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "with restart marks": {"restart_marker_rows": 1},
    "with optimal codes": {"optimize": True},
    "gray": {"mode": "L"},
    "CMYK": {"mode": "CMYK"},
}
SPOILED = {
    "half of it zeros": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    "cut short": lambda data: data[: len(data) // 2],
    "cut short, with an end mark": lambda data: data[: len(data) // 2] + b"\xff\xd9",
    "cut at nine tenths, with an end mark": lambda data: data[: 9 * len(data) // 10] + b"\xff\xd9",
    "a hole of zeros": lambda data: data[:9000] + bytes(4096) + data[13096:],
    "a sector of another file": lambda data: (
        data[:9000] + np.random.default_rng(1).bytes(4096) + data[13096:]
    ),
    "a sector lost": lambda data: data[:9000] + data[9512:],
    "without an end": lambda data: data[:-2],
}


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("damage", SPOILED)
def test_damaged_jpegs_are_refused(tmp_path, kind, damage):
    content = by_pillow("JPEG", **({"quality": 92} | JPEGS[kind]))
    with pytest.raises(UserError, match="does not open as an image"):
        load_image(written(tmp_path, SPOILED[damage](content)))


@pytest.mark.parametrize("damage", SPOILED)
def test_damaged_jpeg_in_tiff_is_refused(tmp_path, damage):
    file = tmp_path / "a.tif"
    tifffile.imwrite(file, PICTURE, photometric="rgb", compression="jpeg", rowsperstrip=400)
    content = file.read_bytes()
    assert doubts_of(load_image(file), "") == []
    with tifffile.TiffFile(file) as opened:
        start, count = opened.pages[0].dataoffsets[0], opened.pages[0].databytecounts[0]
    strip = SPOILED[damage](content[start : start + count]).ljust(count, b"\0")
    file.write_bytes(content[:start] + strip + content[start + count :])
    with pytest.raises(UserError, match="does not open as an image"):
        load_image(file)


WEBPS = [
    {"quality": 20},
    {"quality": 90},
    {"quality": 90, "method": 6},
    {"lossless": True},
    {"lossless": True, "method": 0},
    {"quality": 80, "exact": True},
]


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 3), (320, 300)])
def test_complete_webps_are_read(tmp_path, size):
    pictures = [
        Image.fromarray(PICTURE).resize(size),
        Image.new("RGB", size, "white"),
        Image.new("RGBA", size, (9, 99, 199, 128)),
    ]
    for picture, options in itertools.product(pictures, WEBPS):
        content = io.BytesIO()
        picture.save(content, format="WEBP", **options)
        assert load_image(written(tmp_path, content.getvalue())).size == size
    assert "first is read" in doubts_of(load_image(written(tmp_path, by_webp_frames())), "")[0]


def by_webp_frames():
    return by_pillow("WEBP", save_all=True, append_images=[Image.fromarray(PICTURE[::-1])])


@pytest.mark.parametrize(
    "damage", ["half of it zeros", "a hole of zeros", "a sector of another file"]
)
@pytest.mark.parametrize("options", [*WEBPS[1:4], "animated"], ids=str)
def test_damaged_webps_are_refused(tmp_path, damage, options):
    if damage == "half of it zeros" and options == "animated":
        pytest.skip("that is the second picture, which is not read")
    content = by_webp_frames() if options == "animated" else by_pillow("WEBP", **options)
    with pytest.raises(UserError, match="does not open as an image"):
        load_image(written(tmp_path, SPOILED[damage](content)))


def test_a_bmp_with_a_gap_before_its_pixels(tmp_path):
    tight, apart = (np.asarray(load_image(written(tmp_path, bmp(4, gap)))) for gap in (0, 4))
    assert np.array_equal(tight, apart) and tight[0, 3].tolist() == [14, 13, 12]


def test_a_bmp_whose_pixels_are_not_in_its_palette_is_refused(tmp_path):
    with pytest.raises(UserError, match="a pixel has color 3 of a palette of 3"):
        load_image(written(tmp_path, bmp(3)))


def test_a_gif_whose_first_frame_is_smaller_than_its_canvas_is_transparent_around_it(tmp_path):
    content = io.BytesIO()
    small = Image.fromarray(PICTURE[:32, :40]).quantize(64)
    small.save(content, format="GIF")
    data = bytearray(content.getvalue())
    data[6:10] = struct.pack("<HH", 80, 64)
    frame = data.index(b",\0\0\0\0" + struct.pack("<HH", 40, 32))
    data[frame + 1 : frame + 5] = struct.pack("<HH", 7, 9)
    image = load_image(written(tmp_path, bytes(data)))
    assert image.size == (80, 64)
    alpha = np.asarray(image)[..., 3]
    assert alpha[9:41, 7:47].min() == 255 and alpha.sum() == 255 * 40 * 32
    assert np.array_equal(np.asarray(image)[9:41, 7:47, :3], np.asarray(small.convert("RGB")))


BAD_PROFILE = b"\xff\xe2" + (26).to_bytes(2, "big") + b"ICC_PROFILE\0\x01\x02" + bytes(10)


@pytest.mark.parametrize("odd", ["profile", "byte"])
def test_an_oddity_before_the_scan_does_not_hide_damage_after_it(tmp_path, odd):
    """Of several warnings the decoder says the first only."""
    whole = by_pillow("JPEG", quality=90)
    place = 2 if odd == "profile" else whole.index(b"\xff\xc4")
    before = BAD_PROFILE if odd == "profile" else b"\0"
    half = len(whole) // 2
    file = written(tmp_path, whole[:place] + before + whole[place:])
    assert len(doubts_of(load_image(file), file)) == 1
    for damaged in (whole[:half] + bytes(len(whole) - half), whole[:half] + b"\xff\xd9"):
        with pytest.raises(UserError, match="it is damaged"):
            load_image(written(tmp_path, damaged[:place] + before + damaged[place:]))
