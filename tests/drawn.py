"""Drawn crops and the parameters of small trainings, for tests, tools and benchmarks."""

import numpy as np

from stages.base.parameters import read_params
from stages.images.squares import make_square
from stages.model.steps import ModelParameters
from stages.synthetic.stains import make_slide
from stages.synthetic.tissue import draw_glomerulus, make_tuft
from stages.training.parameters import TrainParameters


def drawn_crops(number: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw squares of glomeruli with both classes among them.

    Returns:
        uint8 (number, size, size, 3) and the labels, int (number,).
    """
    squares, labels = [], []
    for index in range(number):
        random = np.random.default_rng([7, index])
        slide = make_slide(
            np.random.default_rng([7, 0, index % 3]), np.random.default_rng([7, 0]), "A1"
        )
        tuft, label = make_tuft(random)
        squares.append(np.asarray(make_square(draw_glomerulus(random, slide, tuft), "white", size)))
        labels.append(label if index > 1 else index)
    return np.stack(squares), np.array(labels)


def train_parameters(**changes) -> TrainParameters:
    """Return `train` of params.yaml with one epoch of batches of 16, and with `changes`."""
    return read_params("train", TrainParameters).model_copy(
        update={"epochs": 1, "batch_size": 16, **changes}
    )


def model_parameters(**changes) -> ModelParameters:
    """Return `model` of params.yaml with `changes`."""
    return read_params("model", ModelParameters).model_copy(update=changes)
