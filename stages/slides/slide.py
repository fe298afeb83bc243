"""A whole-slide image, read by OpenSlide, or by tiffslide for an OME-TIFF.

OpenSlide does not read the resolution of an OME-TIFF.
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
from tifffile import PHOTOMETRIC, SAMPLEFORMAT

from stages.base.errors import UserError, one_line

# µm per pixel of a microscope's camera. A file saved as a picture says 72 or 96 pixels per inch.
LEAST, MOST = 0.03, 20.0
# µm per unit of OME's XML; the micro sign is written in two ways.
UNITS = {"µm": 1.0, "\u03bcm": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}
# Compressions of TIFF that turn YCbCr into RGB themselves.
JPEG_COMPRESSIONS = (6, 7, 33007, 34892)
# Extra samples of TIFF: transparency, multiplied into the colors or not.
ASSOCIATED, UNASSOCIATED = (1,), (2,)
# Names of channels that together are a color picture, not three fluorescent stains.
COLOR_CHANNELS = (("red", "green", "blue"), ("r", "g", "b"))


class Box(NamedTuple):
    """A rectangle of a slide, in pixels of its full resolution."""

    x: int
    y: int
    width: int
    height: int


class Region(NamedTuple):
    """A rectangle read from a slide."""

    picture: Image.Image  # RGB, at the requested resolution; white where nothing was scanned
    level: int  # the level of the slide that it was read from
    # bool (height, width), in pixels of that level: whether nothing was scanned.
    missing: np.ndarray
    # bool (height, width): whether the pixel is pure white or black, as programs fill what was not
    # scanned.
    blank: np.ndarray


class Slide:
    """A whole-slide image.

    Attributes:
        size: width and height in pixels of the full resolution.
        resolution: µm per pixel along x and y.
        bounds: the scanned rectangle, if the format states one (MIRAX, Leica), or else all.
    """

    def __init__(self, path: Path, resolution: float | None = None):
        """Open a slide.

        Args:
            resolution: µm per pixel, instead of what the file says.

        Raises:
            UserError: it does not open, is not 8-bit RGB, or does not state its resolution.
        """
        self.path = path
        try:
            self.file: Any = _open_slide(path)
            _check_pixels(path, self.file)
            self.size: tuple[int, int] = self.file.dimensions
        except UserError:
            raise
        except Exception as error:  # Both libraries raise many kinds on damaged files.
            reason = one_line(error)
            if isinstance(error, openslide.OpenSlideUnsupportedFormatError):
                reason = "OpenSlide does not read its format"
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
        hint = "state the µm per pixel with --slide-resolution"
        try:
            stated = [self._property(f"mpp-{axis}") for axis in "xy"]
            x, y = map(float, _ome_resolution(self.path) if _is_ome(self.path) else stated)
        except (TypeError, ValueError, ElementTree.ParseError):
            raise UserError(f"{self.path} does not state its resolution; {hint}") from None
        if not all(LEAST <= value <= MOST for value in (x, y)):
            raise UserError(
                f"{self.path} says {x:g} x {y:g} µm per pixel, which no microscope has; {hint}"
            )
        return x, y

    def read(self, box: Box, resolution: float) -> Region:
        """Return a rectangle at `resolution`, in µm per pixel.

        Only the rectangle is read, at the coarsest level that is not coarser than requested.

        Raises:
            UserError: the slide is damaged there.
        """
        wanted = [resolution / own for own in self.resolution]
        width, height = max(1, round(box.width / wanted[0])), max(1, round(box.height / wanted[1]))
        # Rounding may make the right level seem slightly too coarse.
        level = self.file.get_best_level_for_downsample(min(wanted) * 1.001)
        downsample = self.file.level_downsamples[level]
        across, down = box.width / downsample, box.height / downsample
        try:
            size = math.ceil(across), math.ceil(down)
            region = self.file.read_region((box.x, box.y), level, size).convert("RGBA")
            if isinstance(self.file, tiffslide.TiffSlide):
                left, top = int(box.x / downsample), int(box.y / downsample)
                _clear_missing_tiles(region, self.file, level, left, top)
        except Exception as error:  # Of many kinds: a damaged tile, or an unknown compression.
            where = f"{box.width} x {box.height} pixels at {box.x}, {box.y}"
            reason = one_line(error)
            raise UserError(f"{self.path}: {where} cannot be read: {reason}") from None
        # The last row and column may lie beyond the slide by a fraction of a pixel.
        pixels = np.asarray(region)[: max(1, int(down)), : max(1, int(across))]
        missing, colors = pixels[..., 3] < 128, pixels[..., :3]
        blank = ~missing & ((colors == 0).all(axis=2) | (colors == 255).all(axis=2))
        white = Image.new("RGBA", region.size, "white")
        picture = Image.alpha_composite(white, region).convert("RGB")
        read = (0, 0, across, down)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS, box=read)
        return Region(picture, level, missing, blank)


def _open_slide(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError("there is no such file")
    if not _is_ome(path):
        return openslide.OpenSlide(path)
    # Other files that an OME-TIFF names are never opened.
    return tiffslide.TiffSlide(path, tifffile_options={"_multifile": False})


def _check_pixels(path: Path, slide: Any) -> None:
    """Raise `UserError` for a TIFF that is not 8-bit RGB, which its readers would misread.

    They take a second channel for transparency, and clip other depths.
    """
    problem = ""
    if isinstance(slide, tiffslide.TiffSlide):
        problem = _series_problem(slide.ts_tifffile)
    elif slide.properties.get(openslide.PROPERTY_NAME_VENDOR) in ("aperio", "generic-tiff"):
        with tifffile.TiffFile(path, is_ome=False, _multifile=False) as file:
            problem = _page_problem(file.pages[0])
            second = file.pages[1] if len(file.pages) > 1 else None
            if not problem and second is not None and second.shape == file.pages[0].shape:
                problem = "several pictures of one size, such as focal planes or channels"
    if problem:
        raise UserError(f"{path}: {problem}; a slide must be one picture, 8-bit RGB")


def _page_problem(page: Any) -> str:
    """Return what a page of a TIFF holds if it is not 8-bit RGB, or else the empty text."""
    bits, samples = np.max(page.bitspersample), page.samplesperpixel
    kinds = {SAMPLEFORMAT.IEEEFP: "float", SAMPLEFORMAT.INT: "signed"}
    kind = kinds.get(page.sampleformat, "unsigned")
    photometric, extra = page.photometric, tuple(map(int, page.extrasamples or ()))
    colors = {PHOTOMETRIC.RGB: 3, PHOTOMETRIC.PALETTE: 1, PHOTOMETRIC.YCBCR: 3}.get(photometric)
    if photometric == PHOTOMETRIC.YCBCR and samples != 3:
        colors = None
    if bits == 8 and kind == "unsigned" and samples - len(extra) == colors:
        if extra in ((), ASSOCIATED, UNASSOCIATED):
            return ""
        return "a channel besides red, green and blue that is not marked as transparency"
    name = getattr(photometric, "name", photometric)
    return f"{samples} channel{'s' * (samples != 1)} of {bits} bits ({kind}, {name})"


def _series_problem(file: tifffile.TiffFile) -> str:
    """Return what the first picture of an OME-TIFF holds if it is not 8-bit RGB, or else ''."""
    series = file.series[0]
    page: Any = series.keyframe
    shape = " x ".join(map(str, series.shape))
    what = f"{shape} values (axes {series.axes}, {series.dtype}, {page.photometric.name})"
    if any(one.size > series.size for one in file.series):
        return "a first picture that is smaller than a later one"
    if any(one is None for one in series.pages):
        return f"{what}, some of them in other files"
    is_bytes = series.dtype == np.uint8
    if series.axes == "CYX" and is_bytes and _channel_names(file.ome_metadata) in COLOR_CHANNELS:
        return ""
    converts = page.photometric != PHOTOMETRIC.YCBCR or page.compression in JPEG_COMPRESSIONS
    if series.axes != "YXS" or not converts or page.photometric == PHOTOMETRIC.PALETTE:
        return what
    extra = tuple(map(int, page.extrasamples or ()))
    return _page_problem(page) or (what if extra not in ((), UNASSOCIATED) else "")


def _channel_names(xml: str | None) -> tuple[str, ...]:
    channels = ElementTree.fromstring(xml or "<OME/>").find(".//{*}Pixels")
    channels = () if channels is None else channels.iterfind("{*}Channel")
    return tuple((one.get("Name") or "").casefold() for one in channels)


def _clear_missing_tiles(
    region: Image.Image, slide: tiffslide.TiffSlide, level: int, x: int, y: int
) -> None:
    """Make tiles and strips without bytes transparent, as OpenSlide does; tifffile reads black.

    Args:
        region: RGBA, whose corner is (x, y) in pixels of the level.
    """
    pages: Any = slide.ts_tifffile.series[0].levels[level].pages
    for page in pages:
        frame = page.keyframe
        width, height = frame.imagewidth, frame.rowsperstrip
        if frame.is_tiled:
            width, height = frame.tilewidth, frame.tilelength
        across = -(-frame.imagewidth // width)
        for row in range(y // height, (y + region.height - 1) // height + 1):
            for column in range(x // width, min(across, (x + region.width - 1) // width + 1)):
                number = row * across + column
                if number < len(page.databytecounts) and page.databytecounts[number] == 0:
                    left, top = column * width - x, row * height - y
                    region.paste((0, 0, 0, 0), (left, top, left + width, top + height))
    # Beyond the picture nothing was scanned.
    right, bottom = (size - corner for size, corner in zip(slide.level_dimensions[level], (x, y)))
    region.paste((0, 0, 0, 0), (right, 0, region.width, region.height))
    region.paste((0, 0, 0, 0), (0, bottom, region.width, region.height))


def _is_ome(path: Path) -> bool:
    return path.name.lower().endswith((".ome.tif", ".ome.tiff", ".ome.btf"))


def _ome_resolution(path: Path) -> list[Any]:
    """Return the µm per pixel along x and y of an OME-TIFF's first image; None if not stated.

    Source: PhysicalSizeX and PhysicalSizeXUnit of the OME model; the default unit is µm.
    """
    with tifffile.TiffFile(path) as file:
        root = ElementTree.fromstring(file.ome_metadata or "<OME/>")
    pixels = root.find(".//{*}Pixels")
    attributes = {} if pixels is None else pixels.attrib
    found: list[Any] = []
    for axis in "XY":
        size = attributes.get(f"PhysicalSize{axis}")
        unit = attributes.get(f"PhysicalSize{axis}Unit", "µm")
        found.append(float(size) * UNITS[unit] if size and unit in UNITS else None)
    return found
