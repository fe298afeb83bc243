"""Color profiles: sRGB and scanners' leave the pixels, others are applied as LittleCMS does,
damaged ones are a doubt.
"""

import io
import os
import struct

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from stages.images.opening import doubts_of, load_image
from stages.images.profiles import to_srgb
from tests.images.pictures import png_chunk, smooth, tissue

PICTURE = tissue(2)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ADOBE_RGB = imagecodecs.cms_profile("adobergb")
LINEAR_GRAY = imagecodecs.cms_profile("gray", gamma=1.0)
# Primaries of Display P3 by its definition (SMPTE EG 432-1), white D65.
P3 = imagecodecs.cms_profile(
    "rgb",
    whitepoint=[0.3127, 0.3290, 1],
    primaries=[0.68, 0.32, 1, 0.265, 0.69, 1, 0.15, 0.06, 1],
    gamma=2.2,
)
SCANNER = P3[:12] + b"scnr" + P3[16:]


def from_srgb(profile):
    """The picture in the colors of a profile, as Photoshop converts it."""
    target = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.profileToProfile(
        Image.fromarray(PICTURE), ImageCms.createProfile("sRGB"), target, outputMode="RGB"
    )


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
@pytest.mark.parametrize("profile", [P3, ADOBE_RGB], ids=["P3", "Adobe RGB"])
def test_a_picture_that_was_converted_to_other_colors_is_converted_back(tmp_path, name, profile):
    converted = from_srgb(profile)
    options = {"a.jpg": {"quality": 100, "subsampling": 0}, "a.webp": {"lossless": True}}.get(
        name, {}
    )
    converted.save(tmp_path / name, icc_profile=profile, **options)
    image = load_image(tmp_path / name)
    apart = np.abs(np.asarray(image).astype(int) - PICTURE).mean()
    assert apart < 1 < np.abs(np.asarray(converted).astype(int) - PICTURE).mean()
    assert doubts_of(image, "") == []


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_an_srgb_profile_changes_nothing(tmp_path, name):
    Image.fromarray(PICTURE).save(
        tmp_path / name, icc_profile=SRGB, **({"lossless": True} if name == "a.webp" else {})
    )
    image = load_image(tmp_path / name)
    assert np.array_equal(np.asarray(image), PICTURE) and doubts_of(image, "") == []


def test_warns_of_a_scanners_profile_and_does_not_apply_it(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "a.png", icc_profile=SCANNER)
    image = load_image(tmp_path / "a.png")
    assert np.array_equal(np.asarray(image), PICTURE)
    (doubt,) = doubts_of(image, "x")
    said = "x: its color profile 'RGB built-in' is not applied: it is a scanner's, up to "
    assert doubt.startswith(said) and doubt.endswith(" levels from sRGB")


def test_transparency_stays_and_sixteen_bits_are_converted(tmp_path):
    alpha = smooth(3, 1, (320, 300))[..., 0]
    pixels = np.dstack([np.asarray(from_srgb(P3)), alpha])
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=P3)
    image = load_image(tmp_path / "a.png")
    assert np.array_equal(np.asarray(image)[..., 3], alpha)
    assert np.abs(np.asarray(image)[..., :3].astype(int) - PICTURE).mean() < 1
    deep = np.asarray(from_srgb(P3)).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "a.tif", deep, photometric="rgb", iccprofile=P3)
    assert np.abs(np.asarray(load_image(tmp_path / "a.tif")).astype(int) - PICTURE).mean() < 1


@pytest.mark.parametrize("name", ["a.tif", "a.jpg"])
def test_warns_of_cmyk_without_a_profile(tmp_path, name):
    Image.fromarray(PICTURE).convert("CMYK").save(tmp_path / name)
    assert doubts_of(load_image(tmp_path / name), "x") == [
        "x: it is CMYK without a color profile; its colors are approximate"
    ]


def cmyk_profile(cyan, magenta, yellow):
    """A printer's profile by ICC.1:2001-04 (6.5.8, lut8Type): Lab of single inks, others black."""
    white, black = (255, 128, 128), (0, 128, 128)
    # The last ink changes fastest.
    corners = [black] * 16
    corners[0], corners[0b1000], corners[0b0100], corners[0b0010] = white, cyan, magenta, yellow
    straight = bytes(range(256))
    identity = struct.pack(
        ">9i", *(65536 * (row == column) for row in range(3) for column in range(3))
    )
    table = (
        b"mft1\0\0\0\0"
        + bytes([4, 3, 2, 0])
        + identity
        + straight * 4
        + np.array(corners, np.uint8).tobytes()
        + straight * 3
    )
    text = b"inks"
    name = b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + bytes(80)
    tags = {
        b"desc": name,
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061),
        b"A2B0": table,
    }
    body, index, place = b"", struct.pack(">I", len(tags)), 128 + 4 + 12 * len(tags)
    for tag, content in tags.items():
        content += bytes(-len(content) % 4)
        index += struct.pack(">4sII", tag, place + len(body), len(content))
        body += content
    header = struct.pack(
        ">I4sI4s4s4s", place + len(body), b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab "
    )
    header += (
        struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp")
        + bytes(28)
        + struct.pack(">3i", 63190, 65536, 54061)
    )
    return header.ljust(128, b"\0") + index + body


@pytest.mark.parametrize("name", ["a.tif", "a.jpg"])
def test_cmyk_is_converted_by_its_profile(tmp_path, name):
    # Inks that are all but red, green and blue in Lab: nothing that a formula would guess.
    profile = cmyk_profile((140, 200, 190), (220, 60, 200), (80, 200, 20))
    inks = np.zeros((32, 64, 4), np.uint8)
    for column in range(4):
        inks[:, 16 * column : 16 * column + 16, :column] = 0
        if column:
            inks[:, 16 * column : 16 * column + 16, column - 1] = 255
    picture = Image.fromarray(inks, "CMYK")
    picture.save(
        tmp_path / name,
        icc_profile=profile,
        **({"quality": 100, "subsampling": 0} if name == "a.jpg" else {}),
    )
    image = load_image(tmp_path / name)
    assert doubts_of(image, "") == []
    white, first, second, third = (
        np.asarray(image)[16, 16 * column + 8].astype(int) for column in range(4)
    )
    assert white.min() > 250
    assert (
        first[0] > first[1:].max()
        and second[1] > second[[0, 2]].max()
        and third[2] > third[:2].max()
    )


def test_gray_with_a_profile(tmp_path):
    gray = PICTURE[..., 0]
    Image.fromarray(gray).save(tmp_path / "a.png", icc_profile=LINEAR_GRAY)
    expected = (
        np.where(
            gray / 255 <= 0.0031308, 12.92 * gray / 255, 1.055 * (gray / 255) ** (1 / 2.4) - 0.055
        )
        * 255
    )
    pixels = np.asarray(load_image(tmp_path / "a.png")).astype(float)
    # LittleCMS interpolates where the curve is steepest.
    assert np.abs(pixels - expected[..., None]).mean() < 1


def test_warns_of_a_profile_for_other_pixels(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "a.png", icc_profile=LINEAR_GRAY)
    image = load_image(tmp_path / "a.png")
    assert np.array_equal(np.asarray(image), PICTURE)
    assert doubts_of(image, "x") == [
        "x: its color profile 'gray built-in' is not applied: it is for GRAY pixels, and these "
        "are RGB"
    ]


@pytest.mark.parametrize(
    "profile",
    [b"", b"x", P3[:100], P3[:300], bytes(3000), P3[:128] + b"\xff" * 400],
    # A profile holds the second in which it was made, which differs between workers.
    ids=["empty", "one byte", "100 bytes", "300 bytes", "zeros", "a header and noise"],
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "CMYK"])
def test_warns_of_a_damaged_profile(profile, mode):
    doubts = []
    image = to_srgb(Image.fromarray(PICTURE).convert(mode), profile, doubts)
    assert image.mode == ("RGBA" if mode.endswith("A") else "RGB")
    assert len(doubts) == (bool(profile) or mode == "CMYK")


def test_a_profile_of_several_megabytes_is_read(tmp_path):
    # Printers' profiles have unknown tags, like the one added here.
    Image.fromarray(PICTURE).save(tmp_path / "a.png", icc_profile=SRGB + os.urandom(3 * 2**20))
    assert load_image(tmp_path / "a.png").size == (320, 300)


HINTS = {
    "the gamma that most write": ([(b"gAMA", struct.pack(">I", 45455))], None),
    "a linear gamma": (
        [(b"gAMA", struct.pack(">I", 100000))],
        "its gamma (gAMA) is 1 and not sRGB's, and is not applied",
    ),
    "a linear gamma, but sRGB": ([(b"gAMA", struct.pack(">I", 100000)), (b"sRGB", b"\0")], None),
    "sRGB by its code": ([(b"cICP", b"\1\x0d\0\1")], None),
    "HDR by its code": (
        [(b"cICP", b"\x09\x10\0\1")],
        "its colors have the code [9, 16, 0, 1] (cICP), which is not applied",
    ),
}


@pytest.mark.parametrize("kind", HINTS)
def test_warns_of_colors_of_a_png_that_are_not_applied(tmp_path, kind):
    chunks, said = HINTS[kind]
    content = io.BytesIO()
    Image.fromarray(PICTURE).save(content, format="PNG")
    data = content.getvalue()
    (tmp_path / "a.png").write_bytes(
        data[:33] + b"".join(png_chunk(*c) for c in chunks) + data[33:]
    )
    image = load_image(tmp_path / "a.png")
    assert np.array_equal(np.asarray(image), PICTURE)
    found = doubts_of(image, "x")
    assert found == [] if said is None else said in found[0]
