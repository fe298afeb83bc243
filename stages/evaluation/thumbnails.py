"""Small pictures of judged crops, for a page that holds them: the crop, and where the model looks.

Keras takes seconds to import, and `attention` does: it is, where the page is drawn.
"""

import base64
import io
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stages.evaluation.classifier import BATCH, Classifier
from stages.images.opening import load_image
from stages.workers.cores import ahead
from stages.workers.progress import progress

# Of a crop's picture, pixels a side and WebP's quality: of a few, and of many, so that a page of
# 1,000 has less than 12 MB.
FEW, OF_FEW, OF_MANY = 400, (224, 75), (160, 60)
# Pixels a side of the map of where the model looks, which is coarse by nature.
HEAT = 28
LEVELS = 32


def thumbnails(files: Sequence[Path], classifier: Classifier) -> Iterator[tuple[str, str]]:
    """Yield of each crop, as URLs that hold all of it, the square that the model takes, and where
    the model looks.
    """
    from stages.evaluation.attention import Attention

    attention = Attention(classifier.model)
    squares = ahead(
        lambda file: classifier.made.square(load_image(file)),
        ((file,) for file in files),
        BATCH,
    )
    with progress(total=len(files), desc="drawing the page", unit="crop") as bar:
        while batch := list(islice(squares, BATCH)):
            for square, heat in zip(batch, attention(np.stack(batch))):
                yield _picture(square, *(OF_FEW if len(files) <= FEW else OF_MANY)), _heat(heat)
                bar.update()


def _picture(square: np.ndarray, side: int, quality: int) -> str:
    picture = Image.fromarray(square)
    if len(square) > side:
        picture = picture.resize((side, side), Image.Resampling.LANCZOS)
    return _embedded(picture, "webp", quality=quality)


def _heat(heat: np.ndarray) -> str:
    """Return a map, float32 (size, size) of 0 to 1, as a small picture to lay over the crop: the
    hotter, the redder.
    """
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
