"""A whole-slide image, by OpenSlide; by tiffslide where it is an OME-TIFF, of which OpenSlide reads
no resolution.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openslide
import tifffile
import tiffslide
from defusedxml import ElementTree
from PIL import Image

from stages.base.errors import UserError

# Micrometers a pixel that a microscope's camera may have. A file that was saved as a picture says
# 72 or 96 pixels an inch.
LEAST, MOST = 0.03, 20.0
# Micrometers in the units of OME's XML; the micro sign is written in two ways.
UNITS = {"µm": 1.0, "\u03bcm": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}
# Photometric interpretations of TIFF; the compressions that turn YCbCr into RGB themselves; the
# further channel that is transparency, not multiplied into the colors.
RGB, PALETTE, YCBCR = 2, 3, 6
JPEG = (6, 7, 33007, 34892)
TRANSPARENCY = (2,)
# Names of channels that together are a picture in color, not three stains that shine.
COLORS = (("red", "green", "blue"), ("r", "g", "b"))


class Box(NamedTuple):
    """A rectangle of a slide, in pixels of its full resolution."""

    x: int
    y: int
    width: int
    height: int


class Crop(NamedTuple):
    """A rectangle of a slide.

    Attributes:
        picture: RGB, at the resolution that was asked for; white where nothing was scanned.
        level: of the slide that it was read from.
        missing: bool (height, width), in pixels of that level: whether nothing was scanned there.
        blank: bool (height, width): whether the pixel is pure white or pure black, as programs fill
            what was not scanned.
    """

    picture: Image.Image
    level: int
    missing: np.ndarray
    blank: np.ndarray


class Slide:
    """A whole-slide image.

    `size` (width, height) in pixels of the full resolution; `resolution` micrometers a pixel along
    x and y; `bounds`, the rectangle that has been scanned, where the format says one (MIRAX,
    Leica), else all.
    """

    def __init__(self, path: Path, resolution: float | None = None):
        """Open a slide.

        Args:
            resolution: micrometers a pixel, in place of what the file says.

        Raises:
            UserError: it does not open, is no RGB of 8 bits, or does not say its resolution.
        """
        self.path = path
        try:
            self.file: Any = _open(path)
            _check_pixels(path, self.file)
            self.size: tuple[int, int] = self.file.dimensions
        except UserError:
            raise
        # Both libraries raise many kinds on damaged files.
        except Exception as error:
            unknown = isinstance(error, openslide.OpenSlideUnsupportedFormatError)
            reason = (
                "it is of no format that OpenSlide reads"
                if unknown
                else " ".join(str(error).split())[:200]
            )
            raise UserError(f"{path} does not open as a slide: {reason}") from None
        self.resolution = (resolution, resolution) if resolution else self._resolution()
        values = [self._property(f"bounds-{name}") for name in ("x", "y", "width", "height")]
        whole = Box(0, 0, *self.size)
        self.bounds = whole if None in values else Box(*(int(float(value)) for value in values))

    def close(self) -> None:
        self.file.close()

    def _property(self, name: str) -> Any:
        found = self.file.properties
        return found.get(f"openslide.{name}", found.get(f"tiffslide.{name}"))

    def _resolution(self) -> tuple[float, float]:
        ask = "; say with --slide-resolution how many micrometers a pixel has"
        try:
            values = (
                _of_ome(self.path)
                if _is_ome(self.path)
                else [self._property(f"mpp-{axis}") for axis in "xy"]
            )
            x, y = map(float, values)
        except (TypeError, ValueError, ElementTree.ParseError):
            raise UserError(
                f"{self.path} does not say how many micrometers a pixel has{ask}"
            ) from None
        if not all(LEAST <= value <= MOST for value in (x, y)):
            raise UserError(
                f"{self.path} says {x:g} x {y:g} micrometers a pixel, which no microscope's slide has{ask}"
            )
        return x, y

    def crop(self, box: Box, resolution: float) -> Crop:
        """Return a rectangle at `resolution`, micrometers a pixel.

        No more of the slide is read than the rectangle, at the coarsest level that is still finer
        than asked for.

        Raises:
            UserError: the slide is damaged there.
        """
        wanted = [resolution / own for own in self.resolution]
        size = [
            max(1, round(side / factor)) for side, factor in zip((box.width, box.height), wanted)
        ]
        # A level that is a hair coarser by rounding is the one that is meant.
        level = self.file.get_best_level_for_downsample(min(wanted) * 1.001)
        downsample = self.file.level_downsamples[level]
        shape = [side / downsample for side in (box.width, box.height)]
        try:
            region = self.file.read_region(
                (box.x, box.y), level, tuple(math.ceil(side) for side in shape)
            ).convert("RGBA")
            if isinstance(self.file, tiffslide.TiffSlide):
                _clear_missing_tiles(
                    region, self.file, level, int(box.x / downsample), int(box.y / downsample)
                )
        except (
            Exception
        ) as error:  # Of many kinds: a tile is damaged, or of a compression that is not known.
            where = f"{box.width} x {box.height} pixels at {box.x}, {box.y}"
            raise UserError(
                f"{self.path}: {where} cannot be read: {' '.join(str(error).split())[:200]}"
            ) from None
        # The last row and column may lie beyond the slide by a part of a pixel.
        pixels = np.asarray(region)[: max(1, int(shape[1])), : max(1, int(shape[0]))]
        missing, colors = pixels[..., 3] < 128, pixels[..., :3]
        blank = ~missing & ((colors == 0).all(axis=2) | (colors == 255).all(axis=2))
        white = Image.new("RGBA", region.size, "white")
        picture = Image.alpha_composite(white, region).convert("RGB")
        picture = picture.resize(
            (size[0], size[1]), Image.Resampling.LANCZOS, box=(0, 0, shape[0], shape[1])
        )
        return Crop(picture, level, missing, blank)


def _open(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError("there is no such file")
    if not _is_ome(path):
        return openslide.OpenSlide(path)
    # Other files that an OME-TIFF names are never opened.
    return tiffslide.TiffSlide(path, tifffile_options={"_multifile": False})


def _check_pixels(path: Path, slide: Any) -> None:
    """Raise `UserError` for a TIFF that is no RGB of 8 bits: its readers take a second channel for
    transparency, and clip.
    """
    problem = ""
    if isinstance(slide, tiffslide.TiffSlide):
        problem = _of_series(slide.ts_tifffile)
    elif slide.properties.get(openslide.PROPERTY_NAME_VENDOR) in ("aperio", "generic-tiff"):
        with tifffile.TiffFile(path, is_ome=False, _multifile=False) as file:
            problem = _of_page(file.pages[0])
            second = file.pages[1] if len(file.pages) > 1 else None
            if not problem and second is not None and second.shape == file.pages[0].shape:
                problem = "several pictures of one size, such as focal planes or channels"
    if problem:
        raise UserError(
            f"{path} holds {problem}; a slide must be one picture, RGB of 8 bits a channel"
        )


def _of_page(page: Any) -> str:
    """Return what a page of a TIFF holds, if that is no RGB of 8 bits; otherwise the empty text."""
    bits, samples = np.max(page.bitspersample), page.samplesperpixel
    kind = "float" if page.sampleformat == 3 else "signed" if page.sampleformat == 2 else "unsigned"
    photometric = getattr(page.photometric, "name", page.photometric)
    colors = page.photometric in (RGB, PALETTE) or (page.photometric == YCBCR and samples == 3)
    extra = page.extrasamples or ()
    if (
        bits == 8
        and kind == "unsigned"
        and colors
        and samples - len(extra) == (1 if page.photometric == PALETTE else 3)
    ):
        if not extra or tuple(map(int, extra)) in (TRANSPARENCY, (1,)):
            return ""
        return "a further channel beside red, green and blue that is not said to be transparency"
    return f"{samples} channel{'s' * (samples != 1)} of {bits} bits ({kind}, {photometric})"


def _of_series(file: tifffile.TiffFile) -> str:
    """Return what the first picture of an OME-TIFF holds, if that is no RGB of 8 bits; otherwise
    the empty text.
    """
    series = file.series[0]
    page: Any = series.keyframe
    what = f"{' x '.join(map(str, series.shape))} values (axes {series.axes}, {series.dtype}, {page.photometric.name})"
    if any(one.size > series.size for one in file.series):
        return "a first picture that is smaller than a later one"
    if any(one is None for one in series.pages):
        return f"{what}, of which some are in other files"
    if (
        series.axes == "CYX"
        and series.dtype == np.uint8
        and _channel_names(file.ome_metadata) in COLORS
    ):
        return ""
    if (
        series.axes != "YXS"
        or (page.photometric == YCBCR and page.compression not in JPEG)
        or page.photometric == PALETTE
    ):
        return what
    extra = page.extrasamples or ()
    return _of_page(page) or (what if extra and tuple(map(int, extra)) != TRANSPARENCY else "")


def _channel_names(xml: str | None) -> tuple[str, ...]:
    pixels = ElementTree.fromstring(xml or "<OME/>").find(".//{*}Pixels")
    return (
        ()
        if pixels is None
        else tuple((one.get("Name") or "").casefold() for one in pixels.iterfind("{*}Channel"))
    )


def _clear_missing_tiles(
    region: Image.Image, slide: tiffslide.TiffSlide, level: int, x: int, y: int
) -> None:
    """Make what was not written transparent, as OpenSlide does; tifffile reads tiles or strips
    without bytes as black.

    Args:
        region: RGBA, of which (x, y) in pixels of the level is the corner.
    """
    pages: Any = slide.ts_tifffile.series[0].levels[level].pages
    for page in pages:
        frame = page.keyframe
        width, height = (
            (frame.tilewidth, frame.tilelength)
            if frame.is_tiled
            else (frame.imagewidth, frame.rowsperstrip)
        )
        across = -(-frame.imagewidth // width)
        for row in range(y // height, (y + region.height - 1) // height + 1):
            for column in range(x // width, (x + region.width - 1) // width + 1):
                number = row * across + column
                if (
                    column < across
                    and number < len(page.databytecounts)
                    and page.databytecounts[number] == 0
                ):
                    left, top = column * width - x, row * height - y
                    region.paste((0, 0, 0, 0), (left, top, left + width, top + height))
    # Beyond the picture there is nothing, either.
    right, bottom = (size - corner for size, corner in zip(slide.level_dimensions[level], (x, y)))
    region.paste((0, 0, 0, 0), (right, 0, region.width, region.height))
    region.paste((0, 0, 0, 0), (0, bottom, region.width, region.height))


def _is_ome(path: Path) -> bool:
    return path.name.lower().endswith((".ome.tif", ".ome.tiff", ".ome.btf"))


def _of_ome(path: Path) -> list[Any]:
    """Return the micrometers a pixel along x and y that an OME-TIFF's XML says of its first image;
    None where it says none.

    Source: the OME model's PhysicalSizeX and its unit, which is micrometers where none is given.
    """
    with tifffile.TiffFile(path) as file:
        root = ElementTree.fromstring(file.ome_metadata or "<OME/>")
    pixels = root.find(".//{*}Pixels")
    attributes = {} if pixels is None else pixels.attrib
    sizes = [
        (attributes.get(f"PhysicalSize{axis}"), attributes.get(f"PhysicalSize{axis}Unit", "µm"))
        for axis in "XY"
    ]
    return [float(size) * UNITS[unit] if size and unit in UNITS else None for size, unit in sizes]
