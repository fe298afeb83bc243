"""Small pictures for the page of predictions: each crop, and where the model looks.

Functions import `attention`, because it imports Keras, which takes seconds.
"""

import base64
import hashlib
import io
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from stages.base.files import replacing
from stages.evaluation.classifier import BATCH, Classifier
from stages.images.archives import File
from stages.images.opening import load_image, pixel_digest
from stages.images.squares import make_square
from stages.workers.cores import ahead
from stages.workers.progress import progress

# Pixels per side and WebP quality, for up to `FEW` crops and for more: a page of 1,000 crops has
# less than 12 MB.
FEW, OF_FEW, OF_MANY = 400, (224, 75), (160, 60)
# WebP quality of all pixels, which are in files beside the page.
NATIVE = 90
# The most pixels per side; WebP has at most 16,383.
LARGEST = 8192
# Colors of an attention map.
LEVELS = 32


class Thumbnail(NamedTuple):
    """What the page shows of a crop, as data URLs, its file of all pixels, and their digest."""

    picture: str
    heat: str
    native: str
    pixels_sha256: str


def thumbnails(files: Sequence[File], natives: Path, classifier: Classifier) -> Iterator[Thumbnail]:
    """Yield the thumbnail of each crop.

    Args:
        natives: the folder to write each crop to, with all of its pixels. The name of a file has
            the crop's place among the sorted `files`, which tells nothing about its prediction, and
            a digest of its content, so that no older page shows it as another crop.
    """
    from stages.evaluation.attention import Attention

    attention = Attention(classifier.model) if classifier.made.embeddings is None else no_heat
    places = {file: place for place, file in enumerate(sorted(files, key=str), start=1)}
    squares = ahead(
        lambda file: _square(file, natives, places[file], classifier),
        ((file,) for file in files),
        BATCH,
    )
    with progress(total=len(files), desc="drawing the page", unit="crop") as bar:
        while batch := list(islice(squares, BATCH)):
            heats = attention(np.stack([square for square, *_ in batch]))
            for (square, native, digest), heat in zip(batch, heats):
                picture = _picture(square, *(OF_FEW if len(files) <= FEW else OF_MANY))
                yield Thumbnail(picture, _heat(heat), native, digest)
                bar.update()


def no_heat(squares: np.ndarray) -> np.ndarray:
    """Return empty attention maps: a model that takes embeddings does not look at pixels."""
    return np.zeros(squares.shape[:3], dtype=np.float32)


def _square(
    file: File, natives: Path, place: int, classifier: Classifier
) -> tuple[np.ndarray, str, str]:
    """Return a crop's square; write its pixels, as far as an attention map covers them, to a file.

    Returns:
        The square, the file's name, and the digest of the crop's pixels.
    """
    image, made = load_image(file), classifier.made
    digest = pixel_digest(image)
    if made.padding == "stretch":  # The crop has its own shape again; others have their margins.
        white = Image.new("RGBA", image.size, "white")
        whole = Image.alpha_composite(white, image.convert("RGBA"))
    else:
        whole = Image.fromarray(make_square(image, made.padding, max(image.size)))
    whole.thumbnail((LARGEST, LARGEST))
    content = _encoded(whole.convert("RGB"), "webp", quality=NATIVE)
    native = f"{place:06}-{hashlib.sha256(content).hexdigest()[:16]}.webp"
    with replacing(natives / native, binary=True) as out:
        out.write(content)
    return made.square(image), native, digest


def _picture(square: np.ndarray, side: int, quality: int) -> str:
    picture = Image.fromarray(square)
    if len(square) > side:
        picture = picture.resize((side, side), Image.Resampling.LANCZOS)
    return embedded(picture, "webp", quality=quality)


def _heat(heat: np.ndarray) -> str:
    """Return a map, float32 (size, size) of 0 to 1, as a transparent red overlay."""
    from stages.evaluation.attention import MOST_HEAT, coarse

    picture = Image.fromarray(
        np.rint(np.clip(coarse(heat), 0, 1) * (LEVELS - 1)).astype(np.uint8), "P"
    )
    share = np.arange(LEVELS) / (LEVELS - 1)
    palette = np.stack([np.ones(LEVELS), 1 - share, np.zeros(LEVELS)], axis=1) * 255
    picture.putpalette(palette.astype(np.uint8).tobytes())
    return embedded(
        picture,
        "png",
        optimize=True,
        transparency=np.rint(255 * MOST_HEAT * np.sqrt(share)).astype(np.uint8).tobytes(),
    )


def embedded(picture: Image.Image, kind: str, **options: Any) -> str:
    """Return a data URL of a picture."""
    content = base64.b64encode(_encoded(picture, kind, **options)).decode("ascii")
    return f"data:image/{kind};base64,{content}"


def _encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file_like = io.BytesIO()
    picture.save(file_like, format=kind, **options)
    return file_like.getvalue()
