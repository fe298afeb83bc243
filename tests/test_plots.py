"""Each plot of `dvc plots` has a title, axes in words with units, and more than colors."""

import json

import pytest

from stages.base.parameters import read_yaml
from tests.repositories import PROJECT

PIPELINE = read_yaml(PROJECT / "dvc.yaml")
DECLARED = [
    PIPELINE["plots"],
    *(stage.get("do", stage).get("plots", []) for stage in PIPELINE["stages"].values()),
]
PLOTS = [plot for plots in DECLARED for plot in plots if isinstance(plot, dict)]
# Okabe and Ito's palette, and grays: what is told apart by those who see no red or no green.
PALETTE = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"}


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: next(iter(plot)))
def test_a_plot_has_title_axes_and_template(plot):
    (about,) = plot.values()
    assert about["title"] and about["x_label"] and about["y_label"]
    template = json.loads((PROJECT / f".dvc/plots/{about['template']}.json").read_text())
    text = json.dumps(template)
    for anchor in (
        "<DVC_METRIC_DATA>",
        "<DVC_METRIC_TITLE>",
        "<DVC_METRIC_X_LABEL>",
        "<DVC_METRIC_Y_LABEL>",
    ):
        assert anchor in text


def encodings(node):
    if isinstance(node, dict):
        if "encoding" in node:
            yield node["encoding"]
        for value in node.values():
            yield from encodings(value)
    elif isinstance(node, list):
        for value in node:
            yield from encodings(value)


@pytest.mark.parametrize(
    "template", sorted({plot["template"] for one in PLOTS for plot in one.values()})
)
def test_color_is_never_the_only_sign(template):
    content = json.loads((PROJECT / f".dvc/plots/{template}.json").read_text())
    colored = [one for one in encodings(content) if one.get("color", {}).get("type") == "nominal"]
    for one in colored:
        color = one["color"]
        assert set(color["scale"]["range"]) <= PALETTE
        # Dashes, shapes or places also tell the lines apart.
        assert {"strokeDash", "shape", "yOffset"} & (
            set(one) | set(content.get("spec", {}).get("encoding", {}))
        ), one
        # No legend is headed by a name such as `rev`.
        assert color["title"] is None
