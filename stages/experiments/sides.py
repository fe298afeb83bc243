"""The two sides that a report compares, each a commit or the workspace: whether their results
belong to them and together.
"""

from collections.abc import Iterable
from typing import Any

from ruamel.yaml import YAML

from stages.base.errors import UserError
from stages.experiments.inputs import digests
from stages.experiments.reading import (
    MANIFEST,
    MEASURES,
    PREDICTIONS,
    parse_pixels,
    partly_run,
    read_at,
    stages_in,
)


def refuse_stale(revision: str | None) -> None:
    """Raise `UserError` if results are not those of the parameters, code and data that they stand
    beside.

    So it is after a `dvc repro` that was interrupted, of one stage or of none, and after a merge.

    Args:
        revision: where they are committed; None: the workspace.
    """
    name = revision or "the workspace"
    # DVC keeps what it noted of stages that are no more.
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
                reasons.append(f"stage {stage} has not run with {key} of params.yaml as it is")
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
        used |= {path: made.get(path) for path in (PREDICTIONS, MEASURES)}
        # What is not here, such as data that are not checked out, has not changed.
        reasons += [
            f"{path} is not as it was"
            for path, found in digests(used).items()
            if found not in (used[path], None)
        ]
    if reasons:
        raise UserError(
            f"the results of {name} are not of its code, data and parameters: {reasons[0]}; `dvc repro` renews them"
        )


def changed_pixels(before: str, after: str | None, paths: Iterable[str]) -> list[str]:
    """Return those of the crops `paths`, which both sides have, that have other pixels on the one
    side than on the other.

    Raises:
        UserError: the sides have other crops, and a manifest is not to be had.
    """
    made = [stages_in(read_at("dvc.lock", side)).get("manifest") for side in (before, after)]
    if made[0] == made[1]:
        return []
    old, new = (
        parse_pixels(read_at(MANIFEST, side), f"{MANIFEST} of {side or 'the workspace'}")
        for side in (before, after)
    )
    return [path for path in paths if old.get(path) != new.get(path)]
