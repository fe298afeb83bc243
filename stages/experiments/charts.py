"""Draw Vega-Lite charts, the format of DVC's plots, as pictures, without browser or network."""

from pathlib import Path
from typing import Any

import vl_convert

from stages.base.files import replacing

GREEN, BLUE, GRAY = "#1b7f5c", "#2f5fa8", "#8a8f98"
STYLE: dict[str, Any] = {
    "background": "white",
    "padding": 12,
    "config": {"view": {"stroke": None}, "font": "Liberation Sans"},
}


def layer(values: list[dict], mark: dict, **encoding: dict) -> dict:
    """Return a layer of a chart: one mark for each of some values."""
    return {"data": {"values": values}, "mark": mark, "encoding": encoding}


def measure(field: str, title: str, **more: Any) -> dict:
    """Return the axis of a measure, which need not begin at 0."""
    scale = {"zero": False, "nice": True}
    return {"field": field, "type": "quantitative", "scale": scale, "title": title, **more}


def save_chart(path: str | Path, chart: dict) -> None:
    """Write a Vega-Lite specification as PNG, at twice the pixels of its size."""
    with replacing(path, binary=True) as file:
        file.write(vl_convert.vegalite_to_png({**STYLE, **chart}, scale=2))


def chart_svg(chart: dict) -> str:
    """Return a Vega-Lite specification as SVG."""
    svg: str = vl_convert.vegalite_to_svg({**STYLE, **chart})
    return svg
