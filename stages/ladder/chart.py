"""The climb as a picture."""

from collections.abc import Sequence
from pathlib import Path

from stages.experiments.charts import BLUE, GRAY, GREEN, save_chart
from stages.ladder.decisions import RungDecision, best_of
from stages.ladder.parameters import ClimbParameters
from stages.measures.scores import title


def draw_climb(path: Path, decisions: Sequence[RungDecision], params: ClimbParameters) -> None:
    """Draw the measure on validation with its interval, and ROC AUC in training, by rung."""
    order = [decision.rung.step for decision in decisions]
    best = best_of(decisions).rung.step
    whole = [
        {"step": d.rung.step, "value": d.value, "low": d.low, "high": d.high} for d in decisions
    ]
    curves = [
        {"step": d.rung.step, "of": name, "value": value}
        for d in decisions
        for name, value in (
            ("training", d.rung.training_auc),
            ("validation", d.rung.validation_auc),
        )
    ]
    over = [
        {"step": d.rung.step, "value": d.rung.training_auc, "text": "overfits"}
        for d in decisions
        if d.rung.overfits
    ]
    x = {
        "field": "step",
        "type": "ordinal",
        "sort": order,
        "title": None,
        "axis": {"labelAngle": -35, "labelFontSize": 12},
    }
    scale = {"zero": False, "nice": True}

    def y(field: str, name: str) -> dict:
        return {"field": field, "type": "quantitative", "scale": scale, "title": name}

    color = {
        "field": "of",
        "type": "nominal",
        "scale": {"domain": ["training", "validation"], "range": [GRAY, BLUE]},
        "legend": {"title": None, "orient": "right"},
    }
    climbed = {
        "title": {
            "text": f"{title(params.measure)} on validation, with 95 % interval; green: best",
            "anchor": "start",
        },
        "width": {"step": 78},
        "height": 190,
        "data": {"values": whole},
        "encoding": {
            "x": x,
            "color": {
                "condition": {"test": f"datum.step === '{best}'", "value": GREEN},
                "value": BLUE,
            },
        },
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 3},
                "encoding": {"y": y("low", title(params.measure)), "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 130, "opacity": 1},
                "encoding": {"y": y("value", "")},
            },
        ],
    }
    fitted = {
        "title": {
            "text": "ROC AUC in the last epochs: where the lines part, the model overfits",
            "anchor": "start",
        },
        "width": {"step": 78},
        "height": 190,
        "encoding": {"x": x},
        "layer": [
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
    }
    save_chart(
        path, {"vconcat": [climbed, fitted], "resolve": {"legend": {"color": "independent"}}}
    )
