"""A whole-slide image, by OpenSlide; by tiffslide where it is an OME-TIFF, of which OpenSlide reads no resolution."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import openslide
import tifffile
import tiffslide
from defusedxml import ElementTree
from PIL import Image

from stages.base.errors import UserError

# Micrometres a pixel that a microscope's camera may have. A file that was saved as a picture says 72 or 96 pixels an inch.
LEAST, MOST = 0.03, 20.0
# Micrometres in the units of OME's XML; the micro sign is written in two ways.
UNITS = {"µm": 1.0, "\u03bcm": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}


class Box(NamedTuple):
    """A rectangle of a slide, in pixels of its full resolution."""

    x: int
    y: int
    width: int
    height: int


class Slide:
    """A whole-slide image.

    `size` (width, height) in pixels of the full resolution; `resolution` micrometres a pixel along x and y; `bounds`, the
    rectangle that has been scanned, where the format says one (MIRAX, Leica), else all.
    """

    def __init__(self, path: Path, resolution: float | None = None):
        """Open a slide.

        Args:
            resolution: micrometres a pixel, in place of what the file says.

        Raises:
            UserError: it does not open, or does not say its resolution.
        """
        self.path = path
        try:
            self.file: Any = _open(path)
        # Both libraries raise many kinds on damaged files.
        except Exception as error:
            unknown = isinstance(error, openslide.OpenSlideUnsupportedFormatError)
            reason = "it is of no format that OpenSlide reads" if unknown else " ".join(str(error).split())[:200]
            raise UserError(f"{path} does not open as a slide: {reason}") from None
        self.size: tuple[int, int] = self.file.dimensions
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
        ask = "; say with --slide-resolution how many micrometres a pixel has"
        try:
            values = _of_ome(self.path) if _is_ome(self.path) else [self._property(f"mpp-{axis}") for axis in "xy"]
            x, y = map(float, values)
        except (TypeError, ValueError, ElementTree.ParseError):
            raise UserError(f"{self.path} does not say how many micrometres a pixel has{ask}") from None
        if not all(LEAST <= value <= MOST for value in (x, y)):
            raise UserError(f"{self.path} says {x:g} x {y:g} micrometres a pixel, which no microscope's slide has{ask}")
        return x, y

    def crop(self, box: Box, resolution: float) -> tuple[Image.Image, int]:
        """Return a rectangle at `resolution`, micrometres a pixel, RGB, and the level of the slide that it was read from.

        No more of the slide is read than the rectangle, at the coarsest level that is still finer than asked for. What was not
        scanned is white.
        """
        wanted = [resolution / own for own in self.resolution]
        size = [max(1, round(side / factor)) for side, factor in zip((box.width, box.height), wanted)]
        # A level that is a hair coarser by rounding is the one that is meant.
        level = self.file.get_best_level_for_downsample(min(wanted) * 1.001)
        downsample = self.file.level_downsamples[level]
        shape = [side / downsample for side in (box.width, box.height)]
        try:
            region = self.file.read_region((box.x, box.y), level, tuple(math.ceil(side) for side in shape)).convert("RGBA")
        except Exception as error:  # Of many kinds: a tile is damaged, or of a compression that is not known.
            where = f"{box.width} x {box.height} pixels at {box.x}, {box.y}"
            raise UserError(f"{self.path}: {where} cannot be read: {' '.join(str(error).split())[:200]}") from None
        white = Image.new("RGBA", region.size, "white")
        picture = Image.alpha_composite(white, region).convert("RGB")
        return picture.resize((size[0], size[1]), Image.Resampling.LANCZOS, box=(0, 0, shape[0], shape[1])), level


def _open(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError("there is no such file")
    return tiffslide.TiffSlide(path) if _is_ome(path) else openslide.OpenSlide(path)


def _is_ome(path: Path) -> bool:
    return path.name.lower().endswith((".ome.tif", ".ome.tiff", ".ome.btf"))


def _of_ome(path: Path) -> list[Any]:
    """Return the micrometres a pixel along x and y that an OME-TIFF's XML says of its first image; None where it says none.

    Source: the OME model's PhysicalSizeX and its unit, which is micrometres where none is given.
    """
    with tifffile.TiffFile(path) as file:
        root = ElementTree.fromstring(file.ome_metadata or "<OME/>")
    pixels = root.find(".//{*}Pixels")
    attributes = {} if pixels is None else pixels.attrib
    sizes = [(attributes.get(f"PhysicalSize{axis}"), attributes.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "XY"]
    return [float(size) * UNITS[unit] if size and unit in UNITS else None for size, unit in sizes]
