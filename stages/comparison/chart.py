"""The comparison as a picture."""

from collections.abc import Sequence
from pathlib import Path

from stages.comparison.page import values_of_runs
from stages.comparison.ranks import Ranks
from stages.comparison.settings import Setting
from stages.experiments.charts import BLUE, GRAY, save_chart
from stages.measures.scores import title


def draw_comparison(
    path: Path, settings: Sequence[Setting], metric: str, measured: Sequence[dict], ranks: Ranks
) -> None:
    """Draw each setting's pooled measure with interval, its folds and seeds as ticks, its letters."""
    order = [setting.name for setting in settings]
    wholes = [
        {"setting": name, **measures[metric]}
        for name, measures in zip(order, measured)
        if measures[metric]
    ]
    runs = [
        {"setting": setting.name, "value": value}
        for setting in settings
        for value in values_of_runs(setting, metric)
    ]
    letters = (
        [{"setting": name, "letters": some} for name, some in zip(ranks.names, ranks.letters)]
        if ranks.pairs
        else []
    )
    y = {
        "field": "setting",
        "type": "nominal",
        "sort": order,
        "title": None,
        "axis": {"labelFontSize": 13, "labelLimit": 300},
    }
    scale = {"zero": False, "nice": True}

    def x(field: str) -> dict:
        return {
            "field": field,
            "type": "quantitative",
            "scale": scale,
            "title": title(metric),
            "axis": {"tickCount": 8},
        }

    chart = {
        "title": {
            "text": f"{title(metric)} on the test glomeruli",
            "subtitle": [
                "point and line: folds pooled, 95 % interval over slides; ticks: folds and seeds",
                *(
                    ["letters: settings with one in common are not distinguishable by their ranks"]
                    * bool(ranks.pairs)
                ),
            ],
            "anchor": "start",
        },
        "width": 520,
        "height": {"step": 34},
        "layer": [
            {
                "data": {"values": runs},
                "mark": {"type": "tick", "color": GRAY, "thickness": 2, "size": 14},
                "encoding": {"y": y, "x": x("value")},
            },
            {
                "data": {"values": wholes},
                "mark": {"type": "rule", "color": BLUE, "strokeWidth": 3},
                "encoding": {"y": y, "x": x("low"), "x2": {"field": "high"}},
            },
            {
                "data": {"values": wholes},
                "mark": {"type": "point", "color": BLUE, "filled": True, "size": 110, "opacity": 1},
                "encoding": {"y": y, "x": x("value")},
            },
            {
                "data": {"values": letters},
                "mark": {
                    "type": "text",
                    "align": "left",
                    "x": {"expr": "width + 8"},
                    "fontSize": 13,
                    "fontWeight": "bold",
                },
                "encoding": {"y": y, "text": {"field": "letters"}},
            },
        ],
    }
    save_chart(path, chart)
