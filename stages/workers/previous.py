"""What a stage wrote in its last run, from DVC's cache: DVC removes it before the stage runs.

`persist: true` in dvc.yaml would leave it in place, but also keep the stage out of DVC's run cache.
"""

import hashlib
import json
import os
from pathlib import Path

from ruamel.yaml import YAML

from stages.base.errors import warn

LOCK = Path("dvc.lock")
ROOT = "DVC_ROOT"  # Set by DVC for each stage that it runs, also in a temporary folder.
# If this is set in the environment, nothing is reused.
COMPUTE_ALL = "GLOMERULI_COMPUTE_ALL"


def previous_output(path: Path) -> Path | None:
    """Return the file in DVC's cache that holds what dvc.lock says of an output.

    While a stage runs, dvc.lock still describes its last run. Nothing is fetched.

    Args:
        path: a file that is an output or lies in one, relative to the current folder.

    Returns:
        a read-only file whose content has the MD5 digest that DVC recorded; None if it is not in
        the cache or damaged, if the stage is not run by DVC, and if GLOMERULI_COMPUTE_ALL is set.
    """
    if ROOT not in os.environ or os.environ.get(COMPUTE_ALL) or not LOCK.is_file():
        return None
    try:
        stages = YAML(typ="safe").load(LOCK)["stages"].values()
        outs = {out["path"]: out["md5"] for stage in stages for out in stage.get("outs", ())}
        cache = _cache(Path(os.environ[ROOT]))
        digest = _digest(path, outs, cache)
        file = _object(cache, digest)
        with file.open("rb") as content:
            if hashlib.file_digest(content, "md5").hexdigest() == digest:
                return file
    except Exception:  # Nothing to reuse; DVC explains a damaged dvc.lock or configuration.
        return None
    warn(f"{file}: damaged in DVC's cache; {path} is computed from nothing")
    return None


def _cache(root: Path) -> Path:
    # Opening a whole repository of DVC takes half a second more.
    from dvc.config import Config

    folder = root / ".dvc"
    return Path(Config(str(folder))["cache"].get("dir") or folder / "cache") / "files/md5"


def _object(cache: Path, digest: str) -> Path:
    return cache / digest[:2] / digest[2:]


def _digest(path: Path, outs: dict[str, str], cache: Path) -> str:
    """Return the digest of a file that is an output or lies in one."""
    if found := outs.get(path.as_posix()):
        return found
    listed = json.loads(_object(cache, outs[path.parent.as_posix()]).read_bytes())
    return {one["relpath"]: one["md5"] for one in listed}[path.name]
