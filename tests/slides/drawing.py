"""Small pyramidal slides in the layouts that scanners write, as no real slide is available."""

import numpy as np
import tifffile

APERIO = (
    "Aperio Image Library v12.0.15\r\n{w}x{h} [0,0 {w}x{h}] (256x256) JPEG/RGB Q=70"
    "|AppMag = 20|MPP = {mpp}|Filename = A1"
)


def pixels(width=2000, height=1600, glomeruli=((400, 300), (1200, 900), (1700, 1300))):
    """A pale slide, uint8 (height, width, 3), with disks of different hues, 240 pixels across."""
    y, x = np.mgrid[:height, :width]
    image = np.empty((height, width, 3), dtype=np.uint8)
    image[:] = (236, 220, 232)
    image[..., 1] = 200 + (x // 16 + y // 16) % 2 * 20
    for number, (left, top) in enumerate(glomeruli):
        image[(x - left) ** 2 + (y - top) ** 2 <= 120**2] = (150 + 30 * number, 40, 110)
    return image


def levels(image, downsamples=(1, 4)):
    """The image and its reductions, each the mean of squares of pixels."""
    made = []
    for factor in downsamples:
        height, width = image.shape[0] // factor * factor, image.shape[1] // factor * factor
        blocks = image[:height, :width].reshape(
            height // factor, factor, width // factor, factor, 3
        )
        made.append(np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8))
    return made


def write_svs(path, image, mpp=0.5):
    """As Aperio: tiles, a thumbnail behind the first level, further levels, a label; all in one row
    of directories.
    """
    full, *smaller = levels(image)
    height, width = image.shape[:2]
    description = APERIO.format(w=width, h=height, mpp=mpp)
    with tifffile.TiffWriter(path) as tif:
        tif.write(full, tile=(256, 256), photometric="rgb", description=description, metadata=None)
        tif.write(
            levels(image, (10,))[0], photometric="rgb", description=description, metadata=None
        )
        for level in smaller:
            tif.write(
                level, tile=(256, 256), photometric="rgb", description=description, metadata=None
            )
        label = np.zeros((60, 90, 3), dtype=np.uint8)
        tif.write(
            label,
            photometric="rgb",
            description="Aperio Image Library v12.0.15\r\nlabel 90x60",
            subfiletype=1,
            metadata=None,
        )


def write_tiff(path, image, mpp=0.5, unit="CENTIMETER"):
    """A pyramidal TIFF as vips or other programs write it, with tags of the resolution."""
    with tifffile.TiffWriter(path) as tif:
        for number, level in enumerate(levels(image)):
            dots = 1e4 / mpp / (1, 4)[number]
            resolution = (dots, dots) if unit == "CENTIMETER" else (72, 72)
            tif.write(
                level,
                tile=(256, 256),
                photometric="rgb",
                resolution=resolution,
                resolutionunit=unit,
                subfiletype=int(number > 0),
                metadata=None,
            )


def write_ome(path, image, mpp=0.5):
    """An OME-TIFF: its resolution in XML, its levels below the first directory."""
    full, *smaller = levels(image)
    about = {
        "axes": "YXS",
        "PhysicalSizeX": mpp,
        "PhysicalSizeY": mpp,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeYUnit": "µm",
    }
    with tifffile.TiffWriter(path, ome=True) as tif:
        tif.write(full, tile=(256, 256), photometric="rgb", subifds=len(smaller), metadata=about)
        for level in smaller:
            tif.write(level, tile=(256, 256), photometric="rgb", subfiletype=1, metadata=None)
