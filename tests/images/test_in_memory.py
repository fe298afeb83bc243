"""Pictures that a program holds give the pixels of their files, or are refused in one line."""

import io

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageCms

from stages.base.errors import UserError
from stages.images.in_memory import take_image
from stages.images.opening import DOUBTS, load_image
from tests.images.pictures import smooth

PIXELS = smooth(3)


def same(one, other):
    return one.mode == other.mode and np.array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "CMYK", "1", "I;16"])
@pytest.mark.parametrize("kind", ["png", "tif"])
def test_images_of_pillow_are_taken_like_their_files(tmp_path, mode, kind):
    if kind == "png" and mode == "CMYK":
        kind = "jpg"
    image = Image.fromarray(PIXELS)
    image.putalpha(Image.fromarray(PIXELS[..., 0]))
    if mode == "I;16":
        image = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
    else:
        image = image.convert("RGB").convert(mode) if mode in "P 1 CMYK" else image.convert(mode)
    image.save(file := tmp_path / f"a.{kind}")
    expected = load_image(file)
    opened = Image.open(file)
    assert same(take_image(opened, "crop 0"), expected)
    opened.load()
    before = opened.copy()
    assert same(take_image(opened, "crop 0"), expected)
    assert same(opened, before) and DOUBTS not in opened.info


def test_an_image_that_is_not_loaded_is_read_like_its_file_and_stays_usable(tmp_path):
    deep = (PIXELS.astype(np.uint16) << 4) + 7
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(deep))
    opened = Image.open(tmp_path / "a.png")
    with pytest.raises(UserError, match="^crop 0 has 16 bits per channel, but uses only the lower"):
        take_image(opened, "crop 0")
    Image.fromarray(PIXELS).save(tmp_path / "b.jpg")
    whole = (tmp_path / "b.jpg").read_bytes()
    opened = Image.open(io.BytesIO(whole))
    assert same(take_image(opened, "crop 0"), load_image(tmp_path / "b.jpg"))
    assert same(opened, Image.open(tmp_path / "b.jpg"))
    damaged = bytearray(whole)
    damaged[-100:-60] = bytes(40)
    with pytest.raises(UserError, match="^crop 0 does not open as an image: it is damaged"):
        take_image(Image.open(io.BytesIO(damaged)), "crop 0")


def test_another_frame_is_not_replaced_by_the_first(tmp_path):
    frames = [Image.fromarray(smooth(seed)) for seed in (1, 2)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    opened = Image.open(tmp_path / "a.tif")
    opened.seek(1)
    assert same(take_image(opened, "crop 0"), frames[1])


def test_orientation_and_color_profile_are_applied():
    image = Image.fromarray(PIXELS)
    exif = image.getexif()
    exif[274] = 6
    turned = Image.open(io.BytesIO(_bytes(image, exif=exif)))
    turned.load()
    assert same(take_image(turned, "crop 0"), image.transpose(Image.Transpose.ROTATE_270))
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    image.info["icc_profile"] = lab
    assert "it is for Lab pixels" in take_image(image, "crop 0").info[DOUBTS][0]


def _bytes(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "png", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("shape", ["gray", "RGB", "RGBA"])
def test_arrays_are_taken_like_files_with_their_pixels(tmp_path, shape):
    alpha = np.dstack([PIXELS, PIXELS[..., 0]])
    array = {"gray": PIXELS[..., 1], "RGB": PIXELS[:, ::-1], "RGBA": alpha}[shape]
    Image.fromarray(np.ascontiguousarray(array)).save(tmp_path / "a.png")
    assert same(take_image(array, "crop 0"), load_image(tmp_path / "a.png"))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (PIXELS / 255, "is an array of float64; give uint8, 0 to 255"),
        (PIXELS.astype(np.uint16), "is an array of uint16; give uint8, 0 to 255"),
        (PIXELS > 99, "is an array of bool; give uint8, 0 to 255"),
        (np.ma.masked_array(PIXELS, PIXELS > 99), "is a masked array; fill what is masked"),
        ((PIXELS > 99).astype(np.uint8), "is an array whose brightest value is 1; give 0 to 255"),
        (PIXELS.transpose(2, 0, 1), r"is an array of shape \(3, 17, 24\); give \(height, width, 3"),
        (PIXELS[None], r"is an array of shape \(1, 17, 24, 3\); give \(height, width, 3\)"),
        (PIXELS[..., :2], r"is an array of shape \(17, 24, 2\); give \(height, width, 3\)"),
        (PIXELS[:0], r"is an array of shape \(0, 24, 3\); give \(height, width, 3\)"),
        (np.dstack([PIXELS, 0 * PIXELS[..., 0]]), "is fully transparent; save it without"),
    ],
)
def test_other_arrays_are_refused(array, said):
    with pytest.raises(UserError, match=f"^crop 0 {said}"):
        take_image(array, "crop 0")


def test_empty_and_closed_images_are_refused(tmp_path):
    image = Image.fromarray(PIXELS)
    with pytest.raises(UserError, match="^crop 0 has 0 x 9 pixels; it is empty$"):
        take_image(image.crop((5, 0, 5, 9)), "crop 0")
    for kind in ("png", "jpg"):
        image.save(file := tmp_path / f"a.{kind}")
        with Image.open(file) as opened:
            pass
        with pytest.raises(UserError, match="^crop 0 was closed before its pixels were read"):
            take_image(opened, "crop 0")


@pytest.mark.parametrize("mode", ["F", "I"])
def test_32_bit_images_are_refused(mode):
    with pytest.raises(UserError, match=f"it has 32-bit pixels \\({mode}\\)"):
        take_image(Image.fromarray(PIXELS[..., 0]).convert(mode), "crop 0")
