"""Predict whether glomeruli in crops are globally sclerotic, with a trained model.

>>> import glomeruli
>>> model = glomeruli.load("published/aidpath")
>>> model.classes
('nonGS', 'GS')
>>> for one in model.predict(["a.png", "b.png"]):
...     print(one.predicted, f"{one.probability:.2f}", one.uncertain)
0 0.02 False
1 0.98 False

Neither the import nor a prediction changes the environment, the seeds, or the settings of Keras,
Pillow or NumPy of this process. `use_portable_arithmetic` does, for the same bytes as
`python -m stages.predict` writes. Keras is imported by the first `load`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from stages.base import arithmetic
from stages.base.errors import UserError as Error
from stages.base.errors import refuse

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from stages.evaluation.classifier import Classifier

    Crop: TypeAlias = str | os.PathLike[str] | Image.Image | np.ndarray

__all__ = ["Error", "Model", "Prediction", "load", "use_portable_arithmetic"]

# They read the environment when they are imported.
ARITHMETIC = ("numpy", "scipy", "tensorflow", "jax", "torch")


class Prediction(NamedTuple):
    """The prediction of one crop.

    Attributes:
        probability: of global sclerosis, calibrated, 0 to 1; a float32 number.
        predicted: 1 for globally sclerotic, 0 otherwise: whether the probability is at or above
            the model's threshold.
        uncertain: whether the probability is too close to the threshold to decide.
        novelty: the share of training crops that look more usual, 0 to 1; None if the model has no
            frozen backbone.
        trained_on: whether the model was trained on these pixels, so that its prediction does not
            show how good it is.
        doubts: what is doubtful about the picture, such as a color profile that is not applied.
    """

    probability: float
    predicted: int
    uncertain: bool
    novelty: float | None
    trained_on: bool
    doubts: tuple[str, ...]


class Model:
    """A trained model, by `load`. Several threads may use it, or several models: they take turns.

    Attributes:
        classes: the names of classes 0 and 1.
        threshold: the probability from which on a crop is predicted to be of class 1.
    """

    def __init__(self, classifier: Classifier):
        from stages.evaluation.scoring import scoring_model

        self._classifier, self._scoring = classifier, scoring_model(classifier)
        first, second = classifier.made.class_names
        self.classes: tuple[str, str] = first, second
        self.threshold: float = classifier.decision.threshold

    def predict(self, crops: Iterable[Crop]) -> list[Prediction]:
        """Return the predictions of crops, in their order.

        Each crop is made square as the model's training crops were; give it uncut and not resized.

        Args:
            crops: paths of files, images of Pillow, or arrays of uint8, 0 to 255: (height, width,
                3) for RGB (OpenCV reads BGR), (height, width, 4) for RGBA, (height, width) for
                gray. Files are the safest: they are checked for damage.

        Raises:
            Error: a crop does not open as an image, or is an array of another type, shape or range;
                one line for each. No crop is then predicted.
        """
        from stages.evaluation.classifier import Crops
        from stages.evaluation.scoring import score
        from stages.model.backend import plain_settings

        given = _list_of(crops)
        if not given:
            return []
        names = [_name(crop, place) for place, crop in enumerate(given)]
        made, decision = self._classifier.made, self._classifier.decision
        with plain_settings():
            opened = Crops(names, made, lambda row: _picture(given[row], names[row]))
            scores = score(self._classifier, self._scoring, opened)
        refuse(scores.problems[row] for row in sorted(scores.problems))
        predicted = decision.is_positive(scores.probability)
        uncertain = decision.is_uncertain(scores.probability)
        novelty = scores.novelty
        return [
            Prediction(
                float(scores.probability[row]),
                int(predicted[row]),
                bool(uncertain[row]),
                None if novelty is None else round(float(novelty[row]), 3),
                row in scores.trained_on,
                tuple(opened.doubts.get(row, ())),
            )
            for row in range(len(given))
        ]


def load(
    folder: str | os.PathLike[str],
    weights: str | os.PathLike[str] | None = None,
    *,
    allow_drawn: bool = False,
) -> Model:
    """Return the model in a folder, such as `models/` after `dvc repro`.

    Args:
        weights: the encoder's folder, or the backbone's file of weights, if the model needs one.
        allow_drawn: whether the model may have been trained on drawn glomeruli, as of data/demo;
            its predictions of patients' crops mean nothing.

    Raises:
        Error: a file is missing or damaged, or belongs to another model; or the model was trained
            on drawn glomeruli.
    """
    from stages.evaluation.classifier import read_classifier

    try:
        from stages.model.backend import plain_settings
    except SystemExit as error:  # KERAS_BACKEND names no backend, with portable arithmetic.
        raise Error(str(error).removeprefix("error: ")) from None

    with plain_settings():
        own = None if weights is None else Path(weights)
        return Model(read_classifier(Path(folder), own, allow_drawn=allow_drawn))


def use_portable_arithmetic() -> None:
    """Have this process compute like `python -m stages.predict`, byte for byte.

    It sets variables of the environment, seeds, the defaults of Keras and deterministic operations
    (docs/reproducibility.md), for the whole process. Call it before NumPy is imported.

    Raises:
        Error: a library that it concerns is already imported, or GLOMERULI_ARITHMETIC is native.
    """
    was_hosted = arithmetic.hosted
    late = [name for name in ARITHMETIC if name in sys.modules]
    if was_hosted and late:
        raise Error(
            f"already imported: {', '.join(late)}; call glomeruli.use_portable_arithmetic() before"
        )
    arithmetic.hosted = False
    try:
        if arithmetic.choice() == "native":
            raise Error("GLOMERULI_ARITHMETIC is native; it must be portable or unset")
        if was_hosted:
            arithmetic.fix()
    except (Error, SystemExit) as error:
        arithmetic.hosted = was_hosted
        raise Error(str(error).removeprefix("error: ")) from None


def _list_of(crops: Iterable[Crop]) -> list[Crop]:
    # An array of one crop would be taken for its rows, and a path for its letters.
    is_one = isinstance(crops, str) or getattr(crops, "ndim", 1) in (0, 2, 3)
    if is_one or not isinstance(crops, Iterable):
        raise Error("crops is one crop; give a list of crops")
    return list(crops)


def _name(crop: Crop, place: int) -> str:
    return os.fspath(crop) if isinstance(crop, str | os.PathLike) else f"crop {place}"


def _picture(crop: Crop, name: str) -> Image.Image:
    import numpy as np
    from PIL import Image

    from stages.images.in_memory import take_image
    from stages.images.opening import load_image

    if isinstance(crop, str | os.PathLike):
        return load_image(name)
    if isinstance(crop, Image.Image | np.ndarray):
        return take_image(crop, name)
    raise Error(
        f"{name} has the type {type(crop).__name__}; give a path, an image of Pillow or an array"
    )
