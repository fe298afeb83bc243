"""Pictures of a test set: the worst mistakes, and where the model looks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from stages.dataset.card import Dataset
from stages.evaluation.attention import Attention, overlay
from stages.images.opening import load_image
from stages.images.sheets import contact_sheet
from stages.model.backend import keras

SHOWN_OF_A_KIND = 8


def worst_mistakes(y_true: np.ndarray, y_score: np.ndarray, y_pred: np.ndarray) -> tuple[list[int], list[int]]:
    """Return the missed sclerotic glomeruli and the false alarms, the surest mistake first, up to eight of each."""
    missed = [int(row) for row in np.argsort(y_score, kind="stable") if y_true[row] and not y_pred[row]]
    alarms = [int(row) for row in np.argsort(-y_score, kind="stable") if y_pred[row] and not y_true[row]]
    return missed[:SHOWN_OF_A_KIND], alarms[:SHOWN_OF_A_KIND]


def mistakes_picture(
    dataset: Dataset, paths: np.ndarray, y_score: np.ndarray, missed: Sequence[int], alarms: Sequence[int]
) -> Image.Image:
    """Return a sheet of the worst mistakes: the crops as they are in the dataset."""
    crops, captions = [], []
    for kind, mistakes in (("missed", missed), ("false alarm", alarms)):
        for row in mistakes:
            crops.append(load_image(dataset.folder / paths[row]).convert("RGB"))
            captions.append(f"{kind}, p = {y_score[row]:.3f}\n{Path(paths[row]).name}")
    if not crops:
        return contact_sheet([Image.new("RGB", (1, 1), "white")], ["no mistakes"], columns=1)
    return contact_sheet(crops, captions, columns=min(SHOWN_OF_A_KIND, len(crops)))


def attention_picture(
    model: keras.Model,
    squares: np.ndarray,
    rows: np.ndarray,
    paths: np.ndarray,
    y_true: np.ndarray,
    y_score: np.ndarray,
    mistakes: tuple[Sequence[int], Sequence[int]],
) -> Image.Image:
    """Return a sheet that shows where the model looks: the worst mistakes, then crops of both classes, evenly spread in
    probability; each beside itself under the heat of what speaks for sclerosis.
    """
    kinds = {"missed": mistakes[0], "false alarm": mistakes[1]}
    for label, kind in enumerate(("not sclerotic", "sclerotic")):
        of_class = np.flatnonzero(y_true == label)[np.argsort(y_score[y_true == label], kind="stable")]
        kinds[kind] = of_class[np.linspace(0, len(of_class) - 1, min(SHOWN_OF_A_KIND // 2, len(of_class))).astype(int)]
    shown = [(kind, row) for kind, some in kinds.items() for row in some[: SHOWN_OF_A_KIND // 2]]
    crops = squares[rows[[row for _, row in shown]]]
    pictures, captions = [], []
    for (kind, row), square, heat in zip(shown, crops, Attention(model)(crops)):
        pictures += [Image.fromarray(square), overlay(square, heat)]
        captions += [f"{kind}, p = {y_score[row]:.3f}\n{Path(paths[row]).name}", ""]
    return contact_sheet(pictures, captions, columns=min(SHOWN_OF_A_KIND, len(pictures)))
