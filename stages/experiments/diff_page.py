"""The page on what a change does to parameters, metrics and plots, as Markdown."""

import itertools
import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.experiments.charts import save_chart
from stages.experiments.commands import DVC, output_of
from stages.experiments.markdown import markdown_table
from stages.workers.progress import progress

WORKSPACE = "workspace"


def section(heading: str, kind: str, revisions: Sequence[str]) -> list[str]:
    """Return the output of `dvc params diff` or `dvc metrics diff`, folded."""
    printed = output_of([*DVC, kind, "diff", "--md", *revisions]).strip().splitlines()
    head, rule, *rows = printed or ["No difference.", ""]
    # The order of DVC's rows changes from run to run.
    return ["", *folded(f"{heading}: {len(rows) or 'none'} changed", [head, rule, *sorted(rows)])]


def folded(summary: str, lines: Sequence[str]) -> list[str]:
    """Return lines of Markdown that unfold on a click."""
    return ["<details>", f"<summary>{summary}</summary>", "", *lines, "", "</details>"]


def plots(revisions: Sequence[str], output: Path, pictures: bool = True) -> list[str]:
    """Draw the plots of `dvc plots diff` into `output`, and return the Markdown that shows them.

    The page names plots whose files are not in DVC's cache. Without `pictures`, which show crops,
    only charts are drawn.
    """
    names = [*revisions, WORKSPACE][:2]
    lines: list[str] = []
    files: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="glomeruli-report-") as folder:
        command = [*DVC, "plots", "diff", *revisions, "--json", "--out", folder]
        found = json.loads(output_of(command))
        missing = {(error.get("name"), error.get("rev")) for error in found.get("errors", [])}
        items = sorted(found.get("data", {}).items())
        for name, drawings in progress(items, desc="drawing plots", unit="plot"):
            images = [drawing for drawing in drawings if drawing["type"] == "image"]
            if Path(name).suffix == ".png" and not pictures:
                lines.append(f"{name} shows crops: not shown.\n")
                continue
            charts = [drawing for drawing in drawings if drawing["type"] == "vega"]
            lines += [f"### {_title(name, charts)}", ""]
            for chart in charts:
                file = _unused(f"plots/{_file_name(name)}", files)
                save_chart(output / file, chart["content"])
                lines += [f"![{name}]({file})", ""]
            if images:
                lines += _side_by_side(name, images, names, output, files)
            drawn = {revision for drawing in drawings for revision in drawing["revisions"]}
            lines += [
                f"Not drawn for {revision}: it does not exist, or is not in DVC's cache "
                "(`dvc push` there and `dvc fetch` here bring it).\n"
                for revision in names
                if revision not in drawn or (name, revision) in missing
            ]
    return ["", *folded("Plots", lines)]


def _unused(stem: str, files: set[str], suffix: str = ".png") -> str:
    """Return an unused name of a file, and add it to `files`."""
    candidates = (f"{stem}{f'-{number}' if number else ''}{suffix}" for number in itertools.count())
    file = next(name for name in candidates if name not in files)
    files.add(file)
    return file


def remove_pictures(page: Path) -> None:
    """Remove the pictures that an earlier page shows, and no other file of its folder."""
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    for name in re.findall(r"\]\((plots/[A-Za-z0-9_-]+\.\w+)\)", text):
        (page.parent / name).unlink(missing_ok=True)


def _side_by_side(
    name: str,
    pictures: Sequence[dict[str, Any]],
    names: Sequence[str],
    output: Path,
    files: set[str],
) -> list[str]:
    cells = {}
    for picture in pictures:
        (revision,) = picture["revisions"]
        stem = f"plots/{_file_name(name)}-{names.index(revision)}"
        file = _unused(stem, files, Path(picture["url"]).suffix)
        (output / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture["url"], output / file)
        cells[revision] = f"![{name} of {revision}]({file})"
    shown = [revision for revision in names if revision in cells]
    return [*markdown_table(shown, [[cells[revision] for revision in shown]]), ""]


def _title(name: str, charts: Sequence[dict[str, Any]]) -> str:
    title = charts[0]["content"].get("title") if charts else None
    text = title.get("text") if isinstance(title, dict) else title
    has_text = isinstance(text, str) and text
    return str(text) if has_text else Path(name).stem.replace("_", " ").capitalize()


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]+", "_", Path(name).stem)
