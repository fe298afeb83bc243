"""Record the encoder that a saved model needs, and join both into a whole model again.

An encoder's weights may not be shared: models/model.keras holds what follows its frozen blocks, and
models/model.json the digests of its files. Keras takes seconds to import, so it is imported only
where the two are joined.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from stages.base.errors import UserError, refuse
from stages.base.files import sha256
from stages.model.encoder_folder import CONFIG, PREPROCESSOR
from stages.model.encoder_folder import WEIGHTS as WEIGHTS_FILE
from stages.model.steps import ENCODER, WEIGHTS, ModelParameters, Precision, Tokens, Trainable

if TYPE_CHECKING:
    from stages.model.backend import keras


class EncoderCard(BaseModel):
    """`encoder` in models/model.json: the encoder that the saved model needs."""

    weights: str
    sha256: dict[str, str]
    tokens: Tokens
    precision: Precision
    trainable: Trainable
    test_time_augmentation: bool


def encoder_card(params: ModelParameters, test_time_augmentation: bool) -> EncoderCard:
    """Return the record of the encoder that a model is made with."""
    return EncoderCard(
        **params.model_dump(include={"weights", "tokens", "precision", "trainable"}),
        sha256=_digests(params.weights_file),
        test_time_augmentation=test_time_augmentation,
    )


def _digests(folder: Path) -> dict[str, str]:
    files = [folder / name for name in (CONFIG, PREPROCESSOR, WEIGHTS_FILE)]
    return {file.name: sha256(file) for file in files if file.is_file()}


def join_encoder(
    card: EncoderCard, saved: "keras.Model", size: int, folder: Path | None = None
) -> "keras.Model":
    """Return the whole model, from pixels to the probability: the encoder, then the saved model.

    Args:
        size: pixels per side of the squares.
        folder: the encoder's folder; None: the one in data/weights/ with the recorded name.

    Raises:
        UserError: the folder does not exist, or holds another encoder.
    """
    from stages.model.encoder import build_encoder
    from stages.model.networks import join, mean_of_orientations

    folder = folder or WEIGHTS / card.weights
    if not folder.is_dir():
        raise UserError(
            f"{folder} does not exist; the model needs the encoder {card.weights}: give its folder "
            "with --weights"
        )
    found = _digests(folder)
    refuse(
        f"{folder / name} is not the file that the model was made with: its SHA-256 is "
        f"{found.get(name, 'missing')}, not {digest}"
        for name, digest in card.sha256.items()
        if found.get(name) != digest
    )
    encoder = build_encoder(folder, size, card.tokens, card.precision, card.trainable)
    model = join(encoder.frozen, saved, ENCODER)
    return mean_of_orientations(model) if card.test_time_augmentation else model
