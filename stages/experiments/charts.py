"""Draw Vega-Lite charts, the format of DVC's plots, as pictures, without browser or network."""

from pathlib import Path

import vl_convert

from stages.base.files import replacing

GREEN, BLUE, GRAY = "#1b7f5c", "#2f5fa8", "#8a8f98"


def save_chart(path: str | Path, chart: dict) -> None:
    """Write a Vega-Lite specification as PNG, at twice the pixels of its size."""
    style = {
        "background": "white",
        "padding": 12,
        "config": {"view": {"stroke": None}, "font": "Liberation Sans"},
    }
    with replacing(path, binary=True) as file:
        file.write(vl_convert.vegalite_to_png({**style, **chart}, scale=2))
