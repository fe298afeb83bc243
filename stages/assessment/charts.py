"""The plots of `dvc plots` for all folds together, drawn without a browser or a network."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dvc_render.vega import VegaRenderer

from stages.assessment.results import Assessment
from stages.base.parameters import read_yaml
from stages.evaluation.curves import curves
from stages.evaluation.results import SITES
from stages.experiments.charts import chart_svg
from stages.measures.scores import confusion

TEMPLATES = Path(".dvc/plots")
ALL = "all folds"


class Chart(NamedTuple):
    """A chart as a data URL, with its title."""

    title: str
    picture: str


def draw_charts(found: Assessment) -> dict[str, Chart]:
    """Return the charts that have any data, by the names of their tables, such as `roc`."""
    sample = found.tested.sample
    limits = {
        name: None if one.low is None else {"low": one.low, "high": one.high}
        for name, one in found.estimates.items()
    }
    counts = confusion(sample.y_true, sample.y_pred)._asdict()
    tables = {
        f"metrics/plots/{name}.csv": [dict(zip(columns, row)) | {"rev": ALL} for row in rows]
        for name, (columns, rows) in curves(
            found.tested, {"confusion": counts, "interval_95": limits}
        ).items()
    }
    tables["metrics/slides.csv"] = [row | {"rev": f"fold {row['fold']}"} for row in found.slides]
    tables[SITES.as_posix()] = [row._asdict() | {"rev": ALL} for row in found.sites]
    plots = read_yaml("dvc.yaml")["stages"]["evaluate"]["plots"]
    about = {path: one for plot in plots if isinstance(plot, dict) for path, one in plot.items()}
    return {Path(path).stem: _draw(rows, about[path]) for path, rows in tables.items() if rows}


def _draw(rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> Chart:
    # As in a CSV file, what is undefined is empty.
    points = [{key: "" if value is None else value for key, value in row.items()} for row in rows]
    names = ("x", "y", "x_label", "y_label")
    properties = {name: about[name] for name in names if name in about}
    template = str(TEMPLATES / f"{about['template']}.json")
    drawn = VegaRenderer(points, about["title"], template=template, title="", **properties)
    chart = drawn.get_filled_template()
    if len({row["rev"] for row in rows}) == 1:
        _remove_legends(chart)
    content = base64.b64encode(chart_svg(chart).encode()).decode("ascii")
    return Chart(about["title"], f"data:image/svg+xml;base64,{content}")


def _remove_legends(part: Any) -> None:
    """Remove from a chart the legends of a single line, in place."""
    parts = part.values() if isinstance(part, dict) else part if isinstance(part, list) else []
    for inner in parts:
        _remove_legends(inner)
    if isinstance(part, dict) and part.get("field") == "rev":
        part["legend"] = None
