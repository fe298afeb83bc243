"""The inputs of experiments, and whether git and DVC have recorded them as they are here.

An experiment in another folder starts from what is recorded: unrecorded changes would silently be
left out.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc_data.hashfile.build import build

from stages.base.errors import UserError, one_line, refuse
from stages.experiments.commands import output_of

if TYPE_CHECKING:
    from dvc.output import Output

InputKind = Literal["data", "card", "labels", "folds", "weights", "code", "packages"]
LABELS = "data/labels"
# Files of file managers; git need not know them, nor names that begin with a dot.
LITTER = ("thumbs.db", "desktop.ini")


def input_paths(params: Mapping[str, Any]) -> list[str]:
    """Return the paths of the datasets, cards, folds, weights and the key that parameters name, and
    of the tables of labels.
    """
    external = params.get("external")
    names = [params.get("data"), *(external if isinstance(external, list) else [])]
    datasets = [path for name in names for path in (f"data/{name}", f"data/{name}.yaml")]
    key = params.get("evaluate", {}).get("pseudonyms", "none")
    keys = [f"data/keys/{key}"] if key != "none" else []
    folds = params.get("split", {}).get("kept_folds", "none")
    tables = [f"data/{folds}"] if folds != "none" else []
    weights = f"data/weights/{params['model']['weights']}"
    return [*dict.fromkeys(datasets), LABELS, weights, *tables, *keys]


def input_kind(path: str, data: object, weights: object) -> InputKind | None:
    """Return the kind of a dependency in dvc.lock; None if a stage made it.

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
        case ["data", "labels"]:
            return "labels"
        case ["data", name] if name == f"{data}.yaml":
            return "card"
        case ["data", name] if name.endswith(".folds.csv"):
            return "folds"
        case ["data", "weights", name] if name == weights:
            return "weights"
    return None


def digest(path: str) -> str | None:
    """Return the MD5 digest of a file or folder as in dvc.lock; None if it does not exist."""
    return digests([path])[path]


def digests(paths: Iterable[str]) -> dict[str, str | None]:
    """Return the digest of each path, faster than `digest` one by one."""
    with Repo() as repo:
        return {path: _digest(repo, os.path.abspath(path)) for path in paths}


def _digest(repo: Repo, path: str) -> str | None:
    if not os.path.exists(path):
        return None
    _, _, found = build(repo.cache.local, path, repo.fs, "md5", ignore=repo.dvcignore, dry_run=True)
    return str(found.hash_info.value) if found.hash_info else None


def refuse_unrecorded(paths: Iterable[str], from_cache: bool = True) -> None:
    """Raise `UserError` if an experiment in another folder would get other content of these paths.

    Args:
        from_cache: the other folder gets them from this repository's DVC cache.
    """
    problems: list[str] = []
    try:
        with Repo() as repo:
            outs = list(repo.index.outs)
            for path in dict.fromkeys(paths):
                place = os.path.abspath(path)
                here = [o for o in outs if _within(o.fs_path, place) or _within(place, o.fs_path)]
                added = [out for out in here if out.stage.is_data_source]
                for out in added:
                    problems += _changed(out, from_cache)
                files = [path, *(os.path.relpath(out.stage.path) for out in added)]
                of_dvc = [os.path.relpath(out.fs_path) for out in here]
                problems += _not_in_git(path, files, of_dvc, bool(added))
    except DvcException as error:
        raise UserError(f"DVC cannot say whether the data has changed: {one_line(error)}") from None
    refuse(problems)


def _within(path: str, folder: str) -> bool:
    return f"{path}{os.sep}".startswith(f"{folder}{os.sep}")


def _changed(out: "Output", from_cache: bool) -> list[str]:
    """Return what is wrong with an output of `dvc add` or `dvc import`: at most one line."""
    note, path = os.path.relpath(out.stage.path), os.path.relpath(out.fs_path)
    cached = not out.changed_cache()
    match out.workspace_status().get(str(out)):
        case None if cached or not from_cache:
            return []
        case None:
            return [f"{path}: DVC's cache does not hold all of it; `dvc add {path}` puts it there"]
        case "deleted" if cached or not from_cache:
            # It comes from the cache or the remote.
            return []
        case "deleted":
            return [f"{path}: it is neither here nor in DVC's cache; `dvc pull {note}` brings it"]
        case _:
            return [
                f"{path}: it has changed since {note} was written; `dvc add {path}` and commit "
                f"{note}, or `dvc checkout {note}` to undo the change"
            ]


def _not_in_git(path: str, files: list[str], of_dvc: list[str], added: bool) -> list[str]:
    """Return what is wrong with files that neither git nor DVC tracks: at most one line."""
    listed = output_of(["git", "ls-files", "--others", "-z", "--", *files]).split("\0")
    unknown = [
        file
        for file in filter(None, listed)
        if not Path(file).name.startswith(".") and Path(file).name.lower() not in LITTER
        if not any(_within(file, out) for out in of_dvc)
        # Only modules are code (.dvcignore).
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
            return [f"{path}: DVC ignores {path}.dvc; remove its line in .dvcignore"]
        return [f"{path}: neither DVC nor git tracks it; `dvc add {path}` and commit {path}.dvc"]
    more = f", and {len(unknown) - 1} more" if len(unknown) > 1 else ""
    advice = "`git add` it (if it is a crop, `dvc add` its folder) and commit"
    return [f"{unknown[0]}{more}: git does not track it; {advice}"]
