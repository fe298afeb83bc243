"""The code is as the formatter and the linter want it."""

import subprocess
import sys

import pytest

from tests.conftest import PROJECT


@pytest.mark.parametrize("arguments", [["check"], ["format", "--check"]])
def test_ruff_has_nothing_to_say(arguments):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments, "--no-cache", "."], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
