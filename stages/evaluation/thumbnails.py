"""Small pictures for the page of predictions: each crop, and where the model looks.

Functions import `attention`, because it imports Keras, which takes seconds.
"""

import base64
import io
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stages.base.files import replacing
from stages.evaluation.classifier import BATCH, Classifier
from stages.images.opening import load_image
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
# Pixels per side and colors of an attention map, which is coarse anyway.
HEAT, LEVELS = 28, 32


def thumbnails(
    files: Sequence[Path], natives: Sequence[Path], classifier: Classifier
) -> Iterator[tuple[str, str]]:
    """Yield for each crop data URLs of its square and of its attention map.

    Args:
        natives: where to write each crop with all of its pixels.
    """
    from stages.evaluation.attention import Attention

    attention = Attention(classifier.model)
    squares = ahead(
        lambda file, native: _square(file, native, classifier), zip(files, natives), BATCH
    )
    with progress(total=len(files), desc="drawing the page", unit="crop") as bar:
        while batch := list(islice(squares, BATCH)):
            for square, heat in zip(batch, attention(np.stack(batch))):
                yield _picture(square, *(OF_FEW if len(files) <= FEW else OF_MANY)), _heat(heat)
                bar.update()


def _square(file: Path, native: Path, classifier: Classifier) -> np.ndarray:
    """Return a crop's square; write its pixels, as far as an attention map covers them."""
    image, made = load_image(file), classifier.made
    # A stretched crop has its own shape again; another has its margins.
    whole = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    if made.padding != "stretch":
        whole = Image.fromarray(make_square(image, made.padding, max(image.size)))
    whole.thumbnail((LARGEST, LARGEST))
    with replacing(native, binary=True) as out:
        whole.convert("RGB").save(out, format="webp", quality=NATIVE)
    return made.square(image)


def _picture(square: np.ndarray, side: int, quality: int) -> str:
    picture = Image.fromarray(square)
    if len(square) > side:
        picture = picture.resize((side, side), Image.Resampling.LANCZOS)
    return _embedded(picture, "webp", quality=quality)


def _heat(heat: np.ndarray) -> str:
    """Return a map, float32 (size, size) of 0 to 1, as a transparent red overlay."""
    from stages.evaluation.attention import MOST_HEAT

    small = np.asarray(Image.fromarray(heat).resize((HEAT, HEAT), Image.Resampling.BOX))
    picture = Image.fromarray(np.rint(np.clip(small, 0, 1) * (LEVELS - 1)).astype(np.uint8), "P")
    share = np.arange(LEVELS) / (LEVELS - 1)
    palette = np.stack([np.ones(LEVELS), 1 - share, np.zeros(LEVELS)], axis=1) * 255
    picture.putpalette(palette.astype(np.uint8).tobytes())
    return _embedded(
        picture,
        "png",
        optimize=True,
        transparency=np.rint(255 * MOST_HEAT * np.sqrt(share)).astype(np.uint8).tobytes(),
    )


def _embedded(picture: Image.Image, kind: str, **options: Any) -> str:
    file_like = io.BytesIO()
    picture.save(file_like, format=kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file_like.getvalue()).decode('ascii')}"
