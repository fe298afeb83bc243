"""Damaged files of every format: refused in one line, or read as a second library reads them;
quickly and in little memory.
"""

import json
import subprocess
import sys

from tests.conftest import PROJECT

MEGABYTES = 1500


def test_two_thousand_damaged_files():
    # In another process, which ends if an image takes too much memory or time.
    done = subprocess.run(
        [sys.executable, "-m", "tools.fuzz_images", "0", "2000"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found.pop("megabytes") < MEGABYTES
    assert [(kind, said) for kind, of in found.items() for said, _ in of["wrong"]] == []
    assert sum(of["read"] + of["refused"] for of in found.values()) == 2000
    # Damage that is always found would try nothing.
    assert all(of["read"] >= 5 and of["refused"] > 50 for of in found.values()), found
