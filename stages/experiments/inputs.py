"""What experiments are made of: whether this folder has it as git and DVC have it on record.

An experiment that runs in another folder starts from the record. What differs from it here would
silently be left out, or another state of the labels be taken for this one.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc_data.hashfile.build import build

from stages.base.errors import UserError, refuse
from stages.experiments.commands import output_of

if TYPE_CHECKING:
    from dvc.output import Output

# What file systems leave behind, and no experiment misses; so does everything that begins with a
# dot.
LEFT_BEHIND = ("thumbs.db", "desktop.ini")
KINDS = ("data", "card", "weights", "code", "packages")


def input_paths(params: Mapping[str, Any]) -> list[str]:
    """Return the datasets, their cards, the weights and the key that parameters name, as paths from
    here.
    """
    external = params.get("external")
    names = [params.get("data"), *(external if isinstance(external, list) else [])]
    datasets = [path for name in names for path in (f"data/{name}", f"data/{name}.yaml")]
    key = params.get("evaluate", {}).get("pseudonyms", "none")
    keys = [f"data/keys/{key}"] if key != "none" else []
    return [*dict.fromkeys(datasets), f"data/weights/{params['model']['weights']}", *keys]


def kind_of(path: str, data: object, weights: object) -> str | None:
    """Return which of `KINDS` a dependency in dvc.lock is; None if a stage made it.

    Args:
        data: the name of the dataset.
        weights: `model.weights`.
    """
    match path.split("/"):
        case ["stages", *_]:
            return "code"
        case ["pins", *_]:
            return "packages"
        case ["data", name] if name == data:
            return "data"
        case ["data", name] if name == f"{data}.yaml":
            return "card"
        case ["data", "weights", name] if name == weights:
            return "weights"
    return None


def digest(path: str) -> str | None:
    """Return the MD5 digest of a file or folder as `dvc.lock` notes it; None if it does not exist."""
    return digests([path])[path]


def digests(paths: Iterable[str]) -> dict[str, str | None]:
    """Return the digest of each path, as `digest` does, at a fraction of its cost."""
    with Repo() as repo:
        return {path: _digest(repo, os.path.abspath(path)) for path in paths}


def _digest(repo: Repo, path: str) -> str | None:
    if not os.path.exists(path):
        return None
    _, _, found = build(repo.cache.local, path, repo.fs, "md5", ignore=repo.dvcignore, dry_run=True)
    return str(found.hash_info.value) if found.hash_info else None


def refuse_unrecorded(paths: Iterable[str], from_cache: bool = True) -> None:
    """Raise `UserError` if an experiment in another folder would not have these paths as they are
    here.

    Args:
        paths: as of `input_paths`.
        from_cache: the other folder takes them from this repository's DVC cache.
    """
    problems: list[str] = []
    try:
        with Repo() as repo:
            outs = list(repo.index.outs)
            for path in dict.fromkeys(paths):
                place = os.path.abspath(path)
                here = [
                    out
                    for out in outs
                    if _within(out.fs_path, place) or _within(place, out.fs_path)
                ]
                added = [out for out in here if out.stage.is_data_source]
                for out in added:
                    problems += _changed(out, from_cache)
                files = [path, *(os.path.relpath(out.stage.path) for out in added)]
                problems += _not_in_git(
                    path, files, [os.path.relpath(out.fs_path) for out in here], bool(added)
                )
    except DvcException as error:
        raise UserError(
            f"DVC cannot say whether the data has changed: {' '.join(str(error).split())}"
        ) from None
    refuse(problems)


def _within(path: str, folder: str) -> bool:
    return f"{path}{os.sep}".startswith(f"{folder}{os.sep}")


def _changed(out: "Output", from_cache: bool) -> list[str]:
    """Return what is wrong with what `dvc add` or `dvc import` brought, in no or one line."""
    note, path = os.path.relpath(out.stage.path), os.path.relpath(out.fs_path)
    cached = not out.changed_cache()
    match out.workspace_status().get(str(out)):
        case None if cached or not from_cache:
            return []
        case None:
            return [f"{path}: DVC's cache does not hold all of it; `dvc add {path}` puts it there"]
        case "deleted" if cached or not from_cache:
            # The cache or the remote has what is on record.
            return []
        case "deleted":
            return [f"{path}: it is neither here nor in DVC's cache; `dvc pull {note}` brings it"]
        case _:
            return [
                f"{path}: it is not as {note} has it on record; `dvc add {path}` and commit {note}, "
                f"or `dvc checkout {note}` for the state on record"
            ]


def _not_in_git(path: str, files: list[str], of_dvc: list[str], added: bool) -> list[str]:
    """Return what is wrong with files that neither git nor DVC knows, in no or one line."""
    listed = output_of(["git", "ls-files", "--others", "-z", "--", *files]).split("\0")
    unknown = [
        file
        for file in filter(None, listed)
        if not Path(file).name.startswith(".") and Path(file).name.lower() not in LEFT_BEHIND
        if not any(_within(file, out) for out in of_dvc)
        # Of the code, the modules alone (.dvcignore).
        if path != "stages" or file.endswith(".py")
    ]
    if not unknown:
        if os.path.lexists(path) or of_dvc:
            return []
        ignored = (
            f"; {path}.dvc is in .dvcignore: remove its line there"
            if Path(f"{path}.dvc").exists()
            else ""
        )
        return [f"{path}: it does not exist{ignored}"]
    if os.path.isdir(path) and not added and not output_of(["git", "ls-files", "--", path]).strip():
        if Path(f"{path}.dvc").exists():
            return [f"{path}: DVC does not look at {path}.dvc; remove its line in .dvcignore"]
        return [f"{path}: neither DVC nor git knows it; `dvc add {path}` and commit {path}.dvc"]
    more = f", and {len(unknown) - 1} more" if len(unknown) > 1 else ""
    return [f"{unknown[0]}{more}: git does not know it; `git add` and commit it"]
