"""What a computation depends on, as one digest: a state that a killed run left is taken up only
where nothing has changed.
"""

import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import stages
from stages.base.files import sha256

STAGES = Path(stages.__file__).resolve().parent


def code_files() -> list[Path]:
    """Return the files of this project that run here: the stage's dependencies in dvc.yaml, no more
    and no fewer.

    Their digests, unlike the commit that will hold them, are known while the stage runs.
    """
    ours = [
        module
        for name, module in sys.modules.items()
        if name.partition(".")[0] in ("stages", "__main__")
    ]
    files = {Path(file).resolve() for module in ours if (file := getattr(module, "__file__", None))}
    return sorted(file for file in files if STAGES in file.parents)


def fingerprint(parameters: Any, files: Iterable[Path]) -> str:
    """Return a digest of parameters (what JSON can hold, with the versions in use) and of the bytes
    of files.
    """
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    for path in sorted(files):
        digest.update(f"{path.name} {sha256(path)} ".encode())
    return digest.hexdigest()
