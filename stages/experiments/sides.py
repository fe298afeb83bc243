"""The two sides that a report compares: whether their results are current and comparable, and the
experiments that tested the same model on other folds.

A side is a commit, or the workspace (None).
"""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from stages.base.errors import UserError
from stages.dataset.cohort import SPLIT
from stages.experiments.commands import from_top, output_of
from stages.experiments.inputs import digests
from stages.experiments.reading import (
    MEASURES_FILE,
    PREDICTIONS,
    inputs_of,
    manifest_at,
    outputs_of,
    parse_manifest,
    partly_run,
    read_at,
    stages_in,
    without_external,
)
from stages.experiments.settings import IRRELEVANT, as_yaml, flatten, parse_stages, parse_yaml

FOLD = "split.fold"


def refuse_stale(revision: str | None) -> None:
    """Raise `UserError` if the results of a side are not those of its parameters, code and data.

    It happens after a merge, or if `dvc repro` was interrupted, ran only one stage or did not run.
    """
    name = revision or "the workspace"
    # DVC keeps the entries of removed stages.
    known = parse_stages(read_at("dvc.yaml", revision))
    stages = {
        stage: about
        for stage, about in stages_in(read_at("dvc.lock", revision)).items()
        if stage in known
    }
    reasons = [
        f"stage {stage} has not run after {path} changed" for stage, path in partly_run(stages)
    ]
    params = parse_yaml(read_at("params.yaml", revision))
    for stage, about in stages.items():
        for key, value in about.get("params", {}).get("params.yaml", {}).items():
            found: Any = params
            for part in key.split("."):
                found = found.get(part) if isinstance(found, dict) else None
            if found != value:
                reasons.append(f"stage {stage} has not run with the current {key} of params.yaml")
    if revision is None:
        made = outputs_of(stages)
        used = inputs_of(stages) | {path: made.get(path) for path in (PREDICTIONS, MEASURES_FILE)}
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
    old, new = (manifest_at(side, "pixels_sha256") for side in (before, after))
    return [path for path in paths if old.get(path) != new.get(path)]


class State(NamedTuple):
    """What the results of a side are of: the content of its params.yaml, and the stages in its
    dvc.lock.
    """

    revision: str | None
    params: dict[str, Any]
    stages: dict[str, dict]

    @property
    def fold(self) -> int:
        return int(self.params["split"]["fold"])

    @property
    def by(self) -> str:
        """What is kept apart: slide, site or image."""
        return str(self.params["split"]["by"])

    @property
    def is_locked(self) -> bool:
        """Whether the test set is what the dataset's card locks, and no fold."""
        return bool(self.params["split"]["test"] == "locked")

    def external(self) -> list[str]:
        """Return the datasets of `external` on which its model was measured."""
        stale = {stage for stage, _ in partly_run(self.stages)}
        stages = {name: f"external@{name}" for name in self.params["external"]}
        return [name for name, stage in stages.items() if stage in self.stages.keys() - stale]

    def inputs(self) -> dict[str, str]:
        """Return the digests of the code, packages, data and weights of its test predictions."""
        return inputs_of(without_external(self.stages))


def moved_crops(before: State, after: State) -> list[str]:
    """Return which of the crops that both sides have are in the test set of only one.

    Raises:
        UserError: the splits differ, and one is neither in git nor in DVC's cache.
    """
    split = SPLIT.as_posix()
    if outputs_of(before.stages).get(split) == outputs_of(after.stages).get(split):
        return []
    parts = [
        parse_manifest(read_at(SPLIT, side.revision), "split", f"{SPLIT} of {side.revision}")
        for side in (before, after)
    ]
    common = sorted(parts[0].keys() & parts[1].keys())
    return [path for path in common if (parts[0][path] == "test") != (parts[1][path] == "test")]


def read_state(revision: str | None) -> State:
    """Return the state of a side. Raises `UserError` if it has no params.yaml or dvc.lock."""
    params, lock = (read_at(path, revision) for path in ("params.yaml", "dvc.lock"))
    return State(revision, parse_yaml(params), parse_stages(lock))


def other_folds(side: State) -> list[State]:
    """Return the experiments, of any commit, that tested the model of a side on other folds.

    They have the same parameters, code and data, and ran completely. There is one of each fold,
    the first by name. A locked test set is no fold.
    """
    found: dict[int, State] = {}
    if side.is_locked:
        return []
    wanted = _without_fold(side.params)
    refs = output_of(["git", "for-each-ref", "--format=%(refname)", "refs/exps"]).split()
    for ref in sorted(refs, key=lambda ref: (ref.rsplit("/", 1)[-1], ref)):
        if not re.match(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/", ref):
            continue
        params = parse_yaml(output_of(["git", "show", f"{ref}:{from_top('params.yaml')}"]))
        if _without_fold(params) != wanted or params["split"]["fold"] in {side.fold, *found}:
            continue
        lock = output_of(["git", "show", f"{ref}:{from_top('dvc.lock')}"])
        state = State(ref, params, parse_stages(lock))
        if state.inputs() == side.inputs() and not partly_run(stages_in(lock)):
            found[state.fold] = state
    return [found[fold] for fold in sorted(found)]


def _without_fold(params: dict[str, Any]) -> dict[str, str]:
    """Return the parameters that change test predictions, but for the fold."""
    return {
        name: as_yaml(value)
        for name, value in flatten(params).items()
        if name != FOLD and not name.startswith(IRRELEVANT)
    }
