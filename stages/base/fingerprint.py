"""A digest of all that a computation depends on: an interrupted run resumes only if it is equal."""

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
    """Return the imported files of this project: exactly the code that dvc.yaml lists as deps."""
    ours = [
        module
        for name, module in sys.modules.items()
        if name.partition(".")[0] in ("stages", "__main__")
    ]
    files = {Path(file).resolve() for module in ours if (file := getattr(module, "__file__", None))}
    return sorted(file for file in files if STAGES in file.parents)


def fingerprint(parameters: Any, files: Iterable[Path]) -> str:
    """Return a SHA-256 digest of `parameters`, as JSON, and of the names and bytes of `files`."""
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    for path in sorted(files):
        digest.update(f"{path.name} {sha256(path)} ".encode())
    return digest.hexdigest()
