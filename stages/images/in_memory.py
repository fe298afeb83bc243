"""Taking pictures that another program holds, as Pillow's images or NumPy's arrays.

They are converted and checked like files (opening.py).
"""

import threading

import numpy as np
from PIL import Image, ImageFile, ImageOps

from stages.base.errors import UserError
from stages.images.colors import SIXTEEN_BIT_MODES, as_8_bit
from stages.images.opening import check_size, decode, finish
from stages.images.tiff import Decoded

# The same image may be given twice, and Pillow reads its file in one place at a time.
_reading = threading.Lock()


def take_image(source: Image.Image | np.ndarray, name: str) -> Image.Image:
    """Return a picture as `load_image` returns one of a file.

    An image that Pillow has opened but not loaded yet is read like its file. In a loaded one,
    damage to the file and 16-bit channels that Pillow has reduced to 8 can no longer be seen.

    Args:
        source: an image of Pillow in any mode, or an array of uint8, 0 to 255: (height, width, 3)
            for RGB, (height, width, 4) for RGBA, (height, width) for gray.
        name: of the picture, for errors.

    Raises:
        UserError: like `load_image`; or an array has another type, shape or range.
    """
    if isinstance(source, Image.Image):
        return finish(lambda: _decode(source, name), name)
    image = _image_of(source, name)
    return finish(lambda: _convert(image, name), name)


def _image_of(array: np.ndarray, name: str) -> Image.Image:
    if isinstance(array, np.ma.MaskedArray):
        raise UserError(f"{name} is a masked array; fill what is masked")
    if array.dtype != np.uint8:
        raise UserError(f"{name} is an array of {array.dtype}; give uint8, 0 to 255")
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise UserError(
            f"{name} is an array of shape {array.shape}; give (height, width, 3) for RGB, "
            "(height, width, 4) for RGBA, or (height, width) for gray"
        )
    colors = array if array.ndim == 2 else array[..., :3]
    if (brightest := colors.max()) <= 1:
        raise UserError(f"{name} is an array whose brightest value is {brightest}; give 0 to 255")
    return Image.fromarray(np.ascontiguousarray(array))


def _decode(image: Image.Image, name: str) -> Decoded:
    if 0 in image.size:
        raise UserError(f"{name} has {image.width} x {image.height} pixels; it is empty")
    if isinstance(image, ImageFile.ImageFile) and image.tile and not image.fp:
        raise UserError(f"{name} was closed before its pixels were read; load it before")
    with _reading:
        if (data := _unread_file(image)) is None:
            image.load()
    return _convert(image, name) if data is None else decode(data, name)


def _unread_file(image: Image.Image) -> bytes | None:
    """Return the file of an image whose first picture Pillow has not decoded yet."""
    if not isinstance(image, ImageFile.ImageFile) or image.tell() != 0:
        return None
    # Tiles are what remains to be decoded.
    if not image.tile or not image.fp:
        return None
    place = image.fp.tell()
    image.fp.seek(0)
    data = image.fp.read()
    image.fp.seek(place)
    return data


def _convert(image: Image.Image, name: str) -> Decoded:
    check_size(*image.size, name)
    doubts: list[str] = []
    bits = 16 if image.mode in SIXTEEN_BIT_MODES else 8
    upright = ImageOps.exif_transpose(image)
    return Decoded(as_8_bit(upright, stretched=False, doubts=doubts), bits, doubts)
