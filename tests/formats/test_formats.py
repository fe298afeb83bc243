"""Model folders of each format, as the code wrote them then: predicted as then, or refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import glomeruli
from stages.model.folder import FORMAT_VERSION
from tests.formats.make import KINDS

CURRENT = Path(__file__).parent / str(FORMAT_VERSION)
EARLIER = sorted({*CURRENT.parent.glob("[0-9]*/*/")} - {*CURRENT.glob("*/")})


def test_the_current_format_has_its_folders():
    """If this fails: python -m tests.formats.make."""
    assert {folder.name for folder in CURRENT.glob("*/")} == {*KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_predicts_what_it_did_when_it_was_written(kind):
    """A change of what a file means must raise FORMAT_VERSION, so that old folders are refused."""
    crops = np.load(CURRENT / "crops.npz")["crops"]
    then = json.loads((CURRENT / f"{kind}.json").read_text())
    found = [one._asdict() for one in glomeruli.load(CURRENT / kind).predict(list(crops))]
    for one, before in zip(found, then, strict=True):
        assert one.pop("probability") == pytest.approx(before.pop("probability"), abs=1e-4)
        assert one.pop("novelty") == pytest.approx(before.pop("novelty"), abs=0.03)
        assert one | {"doubts": []} == before


def test_another_format_is_refused(tmp_path):
    later = shutil.copytree(CURRENT / "conv", tmp_path / "later")
    card = json.loads((later / "model.json").read_text())
    (later / "model.json").write_text(json.dumps(card | {"format_version": FORMAT_VERSION + 1}))
    for folder in (later, *EARLIER):
        with pytest.raises(glomeruli.Error, match="format_version is .*, but this code reads"):
            glomeruli.load(folder)
