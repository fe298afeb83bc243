"""data/card.json: the part of the dataset's card that later stages use.

They depend on it instead of the card, so that an edit of the license or source reruns only
`manifest`, which writes it.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from stages.base.errors import UserError
from stages.base.files import Sha256, read_record, sha256, write_json
from stages.base.parameters import DatasetName
from stages.dataset.cohort import MANIFEST

USED_CARD = Path("data/card.json")


class UsedCard(BaseModel):
    """A dataset's name and what later stages use of its card, for one state of the manifest."""

    model_config = ConfigDict(strict=True, extra="forbid")

    class Card(BaseModel):
        """See `stages.dataset.card.CardFields`."""

        title: str
        classes: list[str] | None = None
        group: str | None = None
        locked_test: list[str] | None = None
        drawn: bool = False

    name: DatasetName
    card: Card
    manifest_sha256: Sha256

    def as_written(self) -> dict:
        """Return what JSON files hold of it: no field that says nothing."""
        return self.model_dump(exclude_defaults=True)

    def of_model(self) -> dict:
        """Return what models/model.json repeats: not the names of locked slides."""
        return self.model_dump(exclude_defaults=True, exclude={"card": {"locked_test"}})

    @property
    def folder(self) -> Path:
        """The folder of the crops."""
        return Path("data", self.name)


def write_used_card(name: str, card: UsedCard.Card) -> None:
    """Write data/card.json for the manifest that exists."""
    used = UsedCard(name=name, card=card, manifest_sha256=sha256(MANIFEST))
    write_json(USED_CARD, used.as_written())


def read_used_card() -> UsedCard:
    """Return data/card.json. Raises `UserError` if it is damaged or of another manifest."""
    used = read_record(USED_CARD, UsedCard)
    if used.manifest_sha256 != sha256(MANIFEST):
        raise UserError(f"{USED_CARD}: it was written with another {MANIFEST}; run `dvc repro`")
    return used
