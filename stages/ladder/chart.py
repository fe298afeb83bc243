"""The climb as a picture."""

from collections.abc import Sequence
from pathlib import Path

from stages.experiments.charts import BLUE, GRAY, GREEN, save_chart
from stages.ladder.decisions import RungDecision, best_of
from stages.ladder.parameters import ClimbParameters
from stages.measures.scores import title


def draw_climb(path: Path, decisions: Sequence[RungDecision], params: ClimbParameters) -> None:
    """Draw the measure on validation with its interval, and ROC AUC in training, by rung."""
    rungs = [decision.rung for decision in decisions]
    best, name = best_of(decisions).rung.step, title(params.measure)
    whole = [
        {"step": one.rung.step, "value": one.value, "low": one.low, "high": one.high}
        for one in decisions
    ]
    curves = [
        {"step": rung.step, "of": of, "value": value}
        for rung in rungs
        for of, value in (("training", rung.training_auc), ("validation", rung.validation_auc))
    ]
    over = [
        {"step": rung.step, "value": rung.training_auc, "text": "overfits"}
        for rung in rungs
        if rung.overfits
    ]
    order, axis = [rung.step for rung in rungs], {"labelAngle": -35, "labelFontSize": 12}
    x = {"field": "step", "type": "ordinal", "sort": order, "title": None, "axis": axis}

    def y(field: str, name: str) -> dict:
        scale = {"zero": False, "nice": True}
        return {"field": field, "type": "quantitative", "scale": scale, "title": name}

    def part(heading: str, encoding: dict, layer: list[dict]) -> dict:
        size = {"width": {"step": 78}, "height": 190}
        head = {"text": heading, "anchor": "start"}
        return {"title": head, **size, "encoding": {"x": x, **encoding}, "layer": layer}

    is_best = {"test": f"datum.step === '{best}'", "value": GREEN}
    climbed = part(
        f"{name} on validation, with 95 % interval; green: best",
        {"color": {"condition": is_best, "value": BLUE}},
        [
            {
                "mark": {"type": "rule", "strokeWidth": 3},
                "encoding": {"y": y("low", name), "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 130, "opacity": 1},
                "encoding": {"y": y("value", "")},
            },
        ],
    )
    color = {
        "field": "of",
        "type": "nominal",
        "scale": {"domain": ["training", "validation"], "range": [GRAY, BLUE]},
        "legend": {"title": None, "orient": "right"},
    }
    fitted = part(
        "ROC AUC in the last epochs: where the lines diverge, the model overfits",
        {},
        [
            {
                "data": {"values": curves},
                "mark": {"type": "line", "point": True, "strokeWidth": 2.5},
                "encoding": {"y": y("value", "ROC AUC"), "color": color},
            },
            {
                "data": {"values": over},
                "mark": {"type": "text", "dy": -12, "fontSize": 11},
                "encoding": {"y": y("value", "ROC AUC"), "text": {"field": "text"}},
            },
        ],
    )
    parts = [{**climbed, "data": {"values": whole}}, fitted]
    save_chart(path, {"vconcat": parts, "resolve": {"legend": {"color": "independent"}}})
