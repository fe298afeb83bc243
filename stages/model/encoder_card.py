"""What a saved model says of the encoder that it stands behind, and the whole model that is made of
both again.

An encoder's weights may not be passed on: models/model.keras holds what comes behind its frozen
blocks, and models/model.json the digests of its files. Keras takes seconds to import: it is, where
the two are put together.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel

from stages.base.errors import UserError, refuse
from stages.base.files import sha256
from stages.model.encoder_folder import CONFIG, PREPROCESSOR
from stages.model.encoder_folder import WEIGHTS as WEIGHTS_FILE
from stages.model.steps import ENCODER, WEIGHTS, ModelParameters, Precision, Tokens

if TYPE_CHECKING:
    from stages.model.backend import keras


class EncoderCard(BaseModel):
    """`encoder` in models/model.json: what the saved model stands behind."""

    weights: str
    sha256: dict[str, str]
    tokens: Tokens
    precision: Precision
    trainable: Literal["frozen", "all"] | int
    test_time_augmentation: bool


def encoder_card(params: ModelParameters, test_time_augmentation: bool) -> EncoderCard:
    """Return what a model says of the encoder that it was made with."""
    return EncoderCard(
        weights=params.weights,
        sha256=_digests(params.weights_file),
        tokens=params.tokens,
        precision=params.precision,
        trainable=params.trainable,
        test_time_augmentation=test_time_augmentation,
    )


def _digests(folder: Path) -> dict[str, str]:
    return {
        name: sha256(folder / name)
        for name in (CONFIG, PREPROCESSOR, WEIGHTS_FILE)
        if (folder / name).is_file()
    }


def join_encoder(
    card: EncoderCard, behind: "keras.Model", size: int, folder: Path | None = None
) -> "keras.Model":
    """Return the whole model, from pixels to the probability: the encoder in `folder`, and what was
    saved behind it.

    Args:
        folder: where the encoder is; None: in data/weights/, under the name that it had.

    Raises:
        UserError: the folder is not there, or is that of another encoder.
    """
    from stages.model.encoder import build_encoder
    from stages.model.networks import join, mean_of_orientations

    where = folder or WEIGHTS / card.weights
    if not where.is_dir():
        raise UserError(
            f"{where} is not there: the model is made for the encoder {card.weights}; give its folder with --weights"
        )
    found = _digests(where)
    refuse(
        [
            f"{where / name} is not the file that the model was made with: its SHA-256 is {found.get(name, 'none')}, not {digest}"
            for name, digest in card.sha256.items()
            if found.get(name) != digest
        ]
    )
    encoder = build_encoder(where, size, card.tokens, card.precision, card.trainable)
    model = join(encoder.frozen, behind, ENCODER)
    return mean_of_orientations(model) if card.test_time_augmentation else model
