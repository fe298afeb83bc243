"""Whatever a laboratory has opens as 8-bit RGB (or RGBA, where something is transparent), or is
refused by name.
"""

import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from stages.base.errors import UserError
from stages.images import opening as images
from stages.images.opening import doubts_of, load_image

RED = (200, 30, 60)


def saved(tmp_path, image, name, **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def color(image):
    return image.convert("RGB").getpixel((1, 1))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.webp", "a.ppm", "a.gif", "a.jp2"])
def test_color_formats(tmp_path, name):
    options = {"lossless": True} if name.endswith("webp") else {}
    image = load_image(saved(tmp_path, Image.new("RGB", (5, 4), RED), name, **options))
    assert (image.mode, image.size, color(image)) == ("RGB", (5, 4), RED)


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "L"])
def test_jpeg(tmp_path, mode):
    file = saved(tmp_path, Image.new("RGB", (16, 16), RED).convert(mode), "a.jpg", quality=100)
    expected = Image.new("RGB", (16, 16), RED).convert(mode).convert("RGB").getpixel((1, 1))
    assert np.allclose(color(load_image(file)), expected, atol=3)


def test_the_content_decides_the_format(tmp_path):
    file = saved(tmp_path, Image.new("RGB", (5, 4), RED), "a.png")
    file.rename(tmp_path / "b.jpg")
    assert color(load_image(tmp_path / "b.jpg")) == RED


@pytest.mark.parametrize("name", ["gray.png", "gray.tif"])
def test_sixteen_bits_keep_their_upper_eight(tmp_path, name):
    values = np.array([[0, 255, 256], [32768, 65280, 65535]], dtype=np.uint16)
    image = load_image(saved(tmp_path, Image.fromarray(values), name))
    assert np.asarray(image)[..., 0].tolist() == [[0, 0, 1], [128, 255, 255]]
    assert image.mode == "RGB"


def pnm(kind, numbers, largest):
    """PGM (P5) or PPM (P6) as Netpbm writes it; more than 255 take two bytes."""
    wide = numbers.astype(">u2" if largest > 255 else "u1")
    return f"{kind}\n{numbers.shape[1]} {numbers.shape[0]}\n{largest}\n".encode() + wide.tobytes()


DEEP = {
    "gray": np.random.default_rng(0).integers(0, 2**16, (9, 11), dtype=np.uint16),
    "color": np.random.default_rng(1).integers(0, 2**16, (9, 11, 3), dtype=np.uint16),
    "transparent": np.random.default_rng(2).integers(0, 2**16, (9, 11, 4), dtype=np.uint16),
}
ENCODERS = {
    "a.png": lambda numbers, bits: imagecodecs.png_encode(numbers),
    "a.jp2": lambda numbers, bits: imagecodecs.jpeg2k_encode(
        numbers, level=0, reversible=True, bitspersample=bits
    ),
    "a.j2k": lambda numbers, bits: imagecodecs.jpeg2k_encode(
        numbers, level=0, reversible=True, bitspersample=bits, codecformat="j2k"
    ),
    "a.pgm": lambda numbers, bits: pnm("P5" if numbers.ndim == 2 else "P6", numbers, 2**bits - 1),
}


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize("bits", [12, 16])
def test_more_than_eight_bits_keep_their_upper_eight_in_every_format(tmp_path, name, kind, bits):
    numbers = DEEP[kind] >> (16 - bits)
    if (name == "a.png" and bits == 12) or (name == "a.pgm" and kind == "transparent"):
        pytest.skip("there is no such file")
    (tmp_path / name).write_bytes(ENCODERS[name](numbers, bits))
    pixels = np.asarray(load_image(tmp_path / name)).astype(int)
    expected = (numbers >> (bits - 8)).astype(int)
    # Pillow stretches PNM and rounds; all else is cut.
    assert np.abs(pixels - (expected[..., None] if expected.ndim == 2 else expected)).max() <= (
        name == "a.pgm"
    )


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("kind", ["gray", "color"])
@pytest.mark.parametrize("used", [8, 10, 12, 14])
def test_refuses_sixteen_bits_of_which_few_are_used(tmp_path, name, kind, used):
    (tmp_path / name).write_bytes(ENCODERS[name](DEEP[kind] >> (16 - used), 16))
    with pytest.raises(
        UserError,
        match=r"has 16 bits per channel, but uses only the lower ones: its brightest value is \d+",
    ):
        load_image(tmp_path / name)


def test_reads_a_dark_picture_of_eight_bits(tmp_path):
    for name in ("a.png", "a.tif", "a.bmp", "a.webp", "a.ppm", "a.gif", "a.jp2"):
        assert load_image(saved(tmp_path, Image.new("RGB", (5, 4), (9, 9, 9)), name)).mode == "RGB"


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.webp", "a.tif"])
def test_warns_of_further_pictures(tmp_path, name):
    first, second = Image.new("RGB", (9, 9), RED), Image.new("RGB", (9, 9), "blue")
    options = {"lossless": True} if name == "a.webp" else {}
    image = load_image(
        saved(tmp_path, first, name, save_all=True, append_images=[second], **options)
    )
    assert color(image) == RED
    assert doubts_of(image, "x") == ["x: it holds 2 pictures; the first is read"]
    assert doubts_of(load_image(saved(tmp_path, first, name)), "x") == []


@pytest.mark.parametrize("alpha", [0, 1, 2])
def test_refuses_a_fully_transparent_picture(tmp_path, alpha):
    for name in ("a.png", "a.tif", "a.webp"):
        with pytest.raises(UserError, match="is fully transparent"):
            load_image(saved(tmp_path, Image.new("RGBA", (9, 9), (*RED, alpha)), name))
    spot = Image.new("RGBA", (9, 9), (*RED, alpha))
    spot.putpixel((4, 4), (*RED, 255))
    assert load_image(saved(tmp_path, spot, "a.png")).mode == "RGBA"


def test_one_bit_and_palette(tmp_path):
    black_and_white = Image.new("1", (3, 3), 1)
    assert color(load_image(saved(tmp_path, black_and_white, "a.png"))) == (255, 255, 255)
    palette = Image.new("RGB", (3, 3), RED).quantize(4)
    assert color(load_image(saved(tmp_path, palette, "b.png"))) == RED


def test_transparency_is_kept_and_an_opaque_channel_dropped(tmp_path):
    half = load_image(saved(tmp_path, Image.new("RGBA", (3, 3), (*RED, 128)), "a.png"))
    assert (half.mode, half.getpixel((0, 0))) == ("RGBA", (*RED, 128))
    assert (
        load_image(saved(tmp_path, Image.new("RGBA", (3, 3), (*RED, 255)), "b.png")).mode == "RGB"
    )
    assert load_image(saved(tmp_path, Image.new("LA", (3, 3), (90, 7)), "c.png")).getpixel(
        (0, 0)
    ) == (90, 90, 90, 7)


def test_a_transparent_palette_color(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, 0, 0, 255])
    image.putpixel((1, 0), 1)
    loaded = load_image(saved(tmp_path, image, "a.png", transparency=1))
    assert [loaded.getpixel((x, 0)) for x in (0, 1)] == [(*RED, 255), (0, 0, 255, 0)]


@pytest.mark.parametrize("colors", [1, 3])
def test_a_transparent_color_of_sixteen_bits(tmp_path, colors):
    """It is compared with all sixteen: of 8 bits, 0x0102 would be the same as 0x01ff."""
    numbers = np.full((2, 3, colors), 0xFFFF, dtype=np.uint16)
    numbers[0] = [[0x0102], [0x01FF], [0xFFFF]]
    data = imagecodecs.png_encode(numbers[..., 0] if colors == 1 else numbers)
    name = b"tRNS" + struct.pack(">H", 0x0102) * colors
    chunk = struct.pack(">I", 2 * colors) + name + struct.pack(">I", zlib.crc32(name))
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    image = np.asarray(load_image(tmp_path / "a.png"))
    assert image[0, :, 3].tolist() == [0, 255, 255] and image[0, :, 0].tolist() == [1, 1, 255]


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif", "a.jpg"])
def test_orientation_is_applied_in_every_format_that_has_one(tmp_path, name):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert load_image(saved(tmp_path, Image.new("RGB", (40, 20), RED), name, exif=exif)).size == (
        20,
        40,
    )


def test_exif_orientation_is_applied(tmp_path):
    image = Image.new("RGB", (4, 2))
    image.putpixel((0, 0), RED)
    exif = Image.Exif()
    exif[0x0112] = (
        6  # The camera was held so that the picture must be turned by 90 degrees clockwise.
    )
    loaded = load_image(saved(tmp_path, image, "a.png", exif=exif))
    assert loaded.size == (2, 4)
    assert loaded.getpixel((1, 0)) == RED


def test_exif_that_follows_the_pixels_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = saved(tmp_path, Image.new("RGB", (4, 2)), "a.png", exif=exif)
    content = file.read_bytes()
    start, pixels, end = (content.index(name) - 4 for name in (b"eXIf", b"IDAT", b"IEND"))
    file.write_bytes(content[:start] + content[pixels:end] + content[start:pixels] + content[end:])
    assert load_image(file).size == (2, 4)


@given(st.sampled_from(["RGB", "RGBA", "L", "LA", "P"]), st.data())
def test_png_files_whole_or_damaged_give_the_pixels_that_pillow_gives_or_are_refused(
    tmp_path_factory, mode, data
):
    """Pillow is the reference; its pixels come from libspng where that is faster."""
    file = tmp_path_factory.mktemp("png") / "a.png"
    shape = (data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9)), 4)
    pixels = data.draw(arrays(np.uint8, shape))
    Image.fromarray(pixels).convert("RGB" if mode == "P" else mode).convert(mode).save(file)
    content = bytearray(file.read_bytes())
    places = data.draw(st.lists(st.integers(8, len(content) - 1), max_size=2))
    for place in places:
        content[place] = data.draw(st.integers(0, 255))
    file.write_bytes(content)
    try:
        with Image.open(file) as image:
            expected = np.asarray(image.convert("RGBA"))
    except Exception:  # Whatever Pillow raises.
        expected = None
    try:
        found = np.asarray(load_image(file).convert("RGBA"))
    except UserError:
        # Pillow passes over some wrong check sums; what is whole is refused only where nothing is
        # opaque.
        assert places or expected[..., 3].mean() < 2.55
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp", "a.webp", "a.gif", "a.jp2"])
@pytest.mark.parametrize("kept", [0, 10, 0.6])
def test_refuses_a_file_that_is_cut_short(tmp_path, name, kept):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    file = saved(tmp_path, Image.fromarray(pixels), name)
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    with pytest.raises(UserError) as error:
        load_image(file)
    assert str(error.value).startswith(f"{file} does not open as an image: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", [b"name,label\n", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\0" * 500]
)
def test_refuses_a_file_that_is_not_an_image(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(
        UserError,
        match="does not open as an image: its content is in none of the formats PNG, JPEG",
    ):
        load_image(tmp_path / "a.png")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(
        UserError, match=r"a\.png does not open as an image: No such file or directory"
    ):
        load_image(tmp_path / "a.png")


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "PIXEL_LIMIT", 99)
    file = saved(tmp_path, Image.new("RGB", (10, 10)), "a.png")
    with pytest.raises(UserError, match="has 10 x 10 pixels; at most 99 are read"):
        load_image(file)


def test_32_bit_pixels_are_refused(tmp_path):
    file = saved(tmp_path, Image.fromarray(np.ones((3, 3), dtype=np.float32)), "a.tif")
    with pytest.raises(UserError, match="has 32-bit floating-point pixels"):
        load_image(file)
