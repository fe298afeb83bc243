"""The comparison as a picture."""

from collections.abc import Sequence
from pathlib import Path

from stages.comparison.page import values_of_runs
from stages.comparison.settings import Setting
from stages.experiments.charts import BLUE, GRAY, layer, measure, save_chart
from stages.measures.intervals import Estimate
from stages.measures.scores import title


def draw_comparison(
    path: Path,
    settings: Sequence[Setting],
    metric: str,
    measured: Sequence[dict[str, Estimate]],
) -> None:
    """Draw each setting's measure with its interval, and its folds and seeds.

    Args:
        metric: one of `measured`.
    """
    order = [setting.name for setting in settings]
    wholes = [
        {"setting": name, "value": one.value, "low": one.low, "high": one.high}
        for name, measures in zip(order, measured)
        if (one := measures[metric]).value is not None
    ]
    spans = [one for one in wholes if one["low"] is not None]
    runs = [
        {"setting": setting.name, "value": value}
        for setting in settings
        for value in values_of_runs(setting, metric)
    ]
    axis = {"labelFontSize": 13, "labelLimit": 300}
    y = {"field": "setting", "type": "nominal", "sort": order, "title": None, "axis": axis}

    def x(field: str) -> dict:
        return measure(field, title(metric), axis={"tickCount": 8})

    tick = {"type": "tick", "color": GRAY, "thickness": 2, "size": 14}
    rule = {"type": "rule", "color": BLUE, "strokeWidth": 3}
    point = {"type": "point", "color": BLUE, "filled": True, "size": 110, "opacity": 1}
    unit = "sites" if settings[0].by_site else "slides"
    subtitle = f"point and line: folds together, 95 % interval over {unit}; ticks: folds and seeds"
    heading = {"text": f"{title(metric)} on the test glomeruli", "subtitle": subtitle}
    chart = {
        "title": {**heading, "anchor": "start"},
        "width": 520,
        "height": {"step": 34},
        "layer": [
            layer(runs, tick, y=y, x=x("value")),
            layer(spans, rule, y=y, x=x("low"), x2={"field": "high"}),
            layer(wholes, point, y=y, x=x("value")),
        ],
    }
    save_chart(path, chart)
