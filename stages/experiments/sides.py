"""The two sides that a report compares: whether their results are current and comparable.

A side is a commit, or the workspace (None).
"""

from collections.abc import Iterable
from typing import Any

from ruamel.yaml import YAML

from stages.base.errors import UserError
from stages.dataset.cohort import MANIFEST
from stages.experiments.inputs import digests
from stages.experiments.reading import (
    MEASURES_FILE,
    PREDICTIONS,
    parse_pixels,
    partly_run,
    read_at,
    stages_in,
)


def refuse_stale(revision: str | None) -> None:
    """Raise `UserError` if the results of a side are not those of its parameters, code and data.

    It happens after a merge, or if `dvc repro` was interrupted, ran only one stage or did not run.
    """
    name = revision or "the workspace"
    # DVC keeps the entries of removed stages.
    known = YAML(typ="safe", pure=True).load(read_at("dvc.yaml", revision))["stages"]
    stages = {
        stage: about
        for stage, about in stages_in(read_at("dvc.lock", revision)).items()
        if stage in known
    }
    reasons = [
        f"stage {stage} has not run after {path} changed" for stage, path in partly_run(stages)
    ]
    params = YAML(typ="safe", pure=True).load(read_at("params.yaml", revision))
    for stage, about in stages.items():
        for key, value in about.get("params", {}).get("params.yaml", {}).items():
            found: Any = params
            for part in key.split("."):
                found = found.get(part) if isinstance(found, dict) else None
            if found != value:
                reasons.append(f"stage {stage} has not run with the current {key} of params.yaml")
    if revision is None:
        made = {
            out["path"]: out["md5"] for about in stages.values() for out in about.get("outs", [])
        }
        used = {
            one["path"]: one["md5"]
            for about in stages.values()
            for one in about.get("deps", [])
            if one["path"] not in made
        }
        used |= {path: made.get(path) for path in (PREDICTIONS, MEASURES_FILE)}
        # Data that are not checked out have not changed.
        reasons += [
            f"{path} has changed"
            for path, found in digests(used).items()
            if found not in (used[path], None)
        ]
    if reasons:
        raise UserError(
            f"the results of {name} are not of its code, data and parameters: {reasons[0]}; "
            "`dvc repro` renews them"
        )


def changed_pixels(before: str, after: str | None, paths: Iterable[str]) -> list[str]:
    """Return which of the crops `paths`, which both sides have, differ in their pixels.

    Raises:
        UserError: the manifests differ, and one is neither in git nor in DVC's cache.
    """
    made = [stages_in(read_at("dvc.lock", side)).get("manifest") for side in (before, after)]
    if made[0] == made[1]:
        return []
    old, new = (
        parse_pixels(read_at(MANIFEST, side), f"{MANIFEST} of {side or 'the workspace'}")
        for side in (before, after)
    )
    return [path for path in paths if old.get(path) != new.get(path)]
