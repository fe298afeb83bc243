"""The committed JSON schemas, and Renovate's list of the packages that compute."""

import json

import pytest

from stages.base.packages import pinned_versions
from tests.repositories import PROJECT
from tools.schemas import PLACE, SCHEMAS, schema


@pytest.mark.parametrize("name", SCHEMAS)
def test_committed_schemas_are_current(name):
    """If this fails: python -m tools.schemas."""
    assert json.loads((PLACE / f"{name}.schema.json").read_text()) == schema(name)


def test_renovate_keeps_together_what_computes():
    rules = json.loads((PROJECT / ".github/renovate.json").read_text())["packageRules"]
    (computing,) = [one for one in rules if one["groupName"] == "what computes"]
    assert computing["matchPackageNames"] == sorted(pinned_versions())
