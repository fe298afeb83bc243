"""Measures of several hospitals as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from stages.experiments.charts import BLUE, GRAY, GREEN, layer, measure, save_chart


class Line(NamedTuple):
    """A line of a forest plot: a value with its 95 % interval."""

    name: str
    of: Literal["hospital", "mean", "predicted"]
    value: float
    low: float
    high: float


def draw_forest(path: Path, plots: Mapping[str, Sequence[Line]]) -> None:
    """Draw a forest plot for each measure, one below the other.

    Args:
        plots: by the title of the measure.
    """
    scale = {"domain": ["hospital", "mean", "predicted"], "range": [BLUE, GREEN, GRAY]}
    color = {"field": "of", "type": "nominal", "scale": scale, "legend": None}
    rule = {"type": "rule", "strokeWidth": 3}
    point = {"type": "point", "filled": True, "size": 90, "opacity": 1}
    charts = []
    for title, lines in plots.items():
        values = [line._asdict() for line in lines]
        names = [line.name for line in lines]
        axis = {"labelFontSize": 13, "labelLimit": 300}
        y = {"field": "name", "type": "nominal", "sort": names, "title": None, "axis": axis}
        spans = layer(values, rule, y=y, color=color, x=measure("low", title))
        spans["encoding"]["x2"] = {"field": "high"}
        charts.append(
            {
                "width": 520,
                "height": {"step": 26},
                "layer": [spans, layer(values, point, y=y, color=color, x=measure("value", ""))],
            }
        )
    heading = {
        "text": "Measures of several hospitals, each with its 95 % interval",
        "subtitle": "green: their mean; gray: where a further hospital is expected",
        "anchor": "start",
    }
    save_chart(path, {"title": heading, "vconcat": charts})
