"""Pictures of a test set: the worst mistakes, and where the model looks.

Functions import `attention`, because it imports Keras, which takes seconds.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from stages.images.archives import locate
from stages.images.opening import load_image
from stages.images.sheets import contact_sheet

if TYPE_CHECKING:
    from stages.model.backend import keras

SHOWN_OF_A_KIND = 8
CLASSES = ("not globally sclerotic", "globally sclerotic")
# Names of both kinds of mistakes, and the true class.
KINDS = (("missed", CLASSES[1]), ("false alarm", CLASSES[0]))


def worst_mistakes(
    y_true: np.ndarray, y_score: np.ndarray, y_pred: np.ndarray
) -> tuple[list[int], list[int]]:
    """Return the rows of (missed sclerotic glomeruli, false alarms), the most confident first."""
    ascending, descending = np.argsort(y_score, kind="stable"), np.argsort(-y_score, kind="stable")
    missed = [int(row) for row in ascending if y_true[row] and not y_pred[row]]
    alarms = [int(row) for row in descending if y_pred[row] and not y_true[row]]
    return missed[:SHOWN_OF_A_KIND], alarms[:SHOWN_OF_A_KIND]


def mistakes_picture(
    folder: Path,
    paths: np.ndarray,
    slides: np.ndarray,
    y_score: np.ndarray,
    mistakes: tuple[Sequence[int], Sequence[int]],
    threshold: float,
) -> Image.Image:
    """Return a sheet of the original crops of `mistakes`, (missed, false alarms)."""
    crops, captions = [], []
    for (kind, truth), rows in zip(KINDS, mistakes):
        for row in rows:
            crops.append(load_image(locate(folder, paths[row])).convert("RGB"))
            said = f"{kind}, p = {y_score[row]:.3f}\ntruly {truth}"
            captions.append(f"{said}\nslide {slides[row]}\n{Path(paths[row]).name}")
    heading = (
        "The most confident mistakes; p: probability of global sclerosis, predicted from "
        f"{threshold:.3f} on"
    )
    if not crops:
        return no_picture("no mistakes")
    return contact_sheet(crops, captions, columns=min(SHOWN_OF_A_KIND, len(crops)), heading=heading)


def no_picture(note: str) -> Image.Image:
    """Return a sheet that only says why there is no picture."""
    return contact_sheet([Image.new("RGB", (1, 1), "white")], [note], columns=1)


def attention_picture(
    model: "keras.Model",
    squares: np.ndarray,
    rows: np.ndarray,
    paths: np.ndarray,
    y_true: np.ndarray,
    y_score: np.ndarray,
    mistakes: tuple[Sequence[int], Sequence[int]],
) -> Image.Image:
    """Return a sheet that shows where the model looks, each crop next to its attention map.

    It shows the worst mistakes, then other crops of both classes, from the least to the most
    probable.

    Args:
        squares: uint8 (N, size, size, 3).
        rows: of the test crops in `squares`.
    """
    from stages.evaluation.attention import Attention, overlay

    shown = [
        (kind, row)
        for (kind, _), some in zip(KINDS, mistakes)
        for row in some[: SHOWN_OF_A_KIND // 2]
    ]
    taken = {row for _, row in shown}
    for label, kind in enumerate(CLASSES):
        of_class = [
            int(row)
            for row in np.argsort(y_score, kind="stable")
            if y_true[row] == label and row not in taken
        ]
        number = min(SHOWN_OF_A_KIND // 2, len(of_class))
        places = np.linspace(0, len(of_class) - 1, number).astype(int)
        shown += [(kind, of_class[place]) for place in places]
    crops = squares[rows[[row for _, row in shown]]]
    pictures, captions = [], []
    for (kind, row), square, heat in zip(shown, crops, Attention(model)(crops)):
        pictures += [Image.fromarray(square), overlay(square, heat)]
        captions += [f"{kind}, p = {y_score[row]:.3f}\n{Path(paths[row]).name}", "where it looks"]
    heading = (
        "From gray, which says nothing, to red, which speaks most for global sclerosis in this "
        "crop; p: its probability"
    )
    return contact_sheet(
        pictures,
        captions,
        columns=min(SHOWN_OF_A_KIND, len(pictures)),
        heading=heading,
        key=_color_key(),
    )


def _color_key() -> Image.Image:
    """Return the color scale of attention maps on middle gray."""
    from stages.evaluation.attention import in_red

    width, height = 120, 14
    heat = np.linspace(0, 1, width)[None, :].repeat(height, axis=0)
    return in_red(np.full((height, width, 3), 128, dtype=np.uint8), heat)
