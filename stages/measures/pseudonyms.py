"""Pseudonyms of slides in files that git keeps: keyed hashes."""

import hmac
from collections.abc import Sequence
from pathlib import Path

from stages.base.errors import UserError

KEYS = Path("data/keys")
SHORTEST, DIGITS = 32, 12


def read_key(name: str) -> bytes | None:
    """Return the key in data/keys/<name>, stripped of white space; None if the name is `none`.

    Raises:
        UserError: the file does not exist, or the key is too short.
    """
    if name == "none":
        return None
    path = KEYS / name
    needed = f"evaluate.pseudonyms needs a key of {SHORTEST} characters or more there"
    if not path.is_file():
        raise UserError(
            f"{path} does not exist; {needed}, or `dvc pull {path}` for your colleagues' key"
        )
    key = path.read_bytes().strip()
    if len(key) < SHORTEST:
        raise UserError(f"{path} holds {len(key)} characters; {needed}")
    return key


def pseudonyms(slides: Sequence[str], key: bytes | None) -> list[str]:
    """Return a pseudonym for each of the distinct slides, or their own names without a key.

    Raises:
        UserError: two slides have the same pseudonym.
    """
    if key is None:
        return [*slides]
    # The prefix keeps spreadsheets from taking 012345678901 or 1e2345678901 for a number.
    names = [
        f"slide-{hmac.new(key, slide.encode(), 'sha256').hexdigest()[:DIGITS]}" for slide in slides
    ]
    if len(set(names)) < len(names):
        raise UserError("evaluate.pseudonyms: two slides have the same pseudonym; use another key")
    return names
