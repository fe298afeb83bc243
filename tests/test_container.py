"""The recipe of the container images; building them needs a network."""

import re

from tests.repositories import PROJECT


def test_what_the_images_copy_exists_and_is_sent_to_the_builder():
    recipe = (PROJECT / "Dockerfile").read_text()
    copied = set(re.findall(r"^COPY ([\w.-]+) ", recipe, flags=re.MULTILINE))
    sent = re.findall("^!(.+)$", (PROJECT / ".dockerignore").read_text(), flags=re.MULTILINE)
    assert copied == set(sent)
    assert all((PROJECT / name).exists() for name in copied)
    # The last one is built by default.
    *_, default = recipe.split("\nFROM ")
    assert '"stages.predict"' in default and (PROJECT / "published/aidpath").is_dir()
