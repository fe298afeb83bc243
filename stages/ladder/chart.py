"""The climb as a picture."""

from collections.abc import Sequence
from pathlib import Path

from stages.experiments.charts import BLUE, GRAY, GREEN, layer, measure, save_chart
from stages.ladder.decisions import RungDecision, best_of
from stages.ladder.parameters import ClimbParameters
from stages.measures.scores import title


def draw_climb(path: Path, decisions: Sequence[RungDecision], params: ClimbParameters) -> None:
    """Draw the measure on validation with its interval, and ROC AUC in training, by rung."""
    rungs = [decision.rung for decision in decisions]
    order, axis = [rung.step for rung in rungs], {"labelAngle": -35, "labelFontSize": 12}
    x = {"field": "step", "type": "ordinal", "sort": order, "title": None, "axis": axis}

    def part(heading: str, *layers: dict) -> dict:
        head, width = {"text": heading, "anchor": "start"}, {"step": 78}
        return {"title": head, "width": width, "height": 190, "encoding": {"x": x}, "layer": layers}

    whole = [
        {"step": one.rung.step, "value": one.value, "low": one.low, "high": one.high}
        for one in decisions
    ]
    is_best = {"test": f"datum.step === '{best_of(decisions).rung.step}'", "value": GREEN}
    color = {"condition": is_best, "value": BLUE}
    name, high = title(params.measure), {"field": "high"}
    rule = {"type": "rule", "strokeWidth": 3}
    point = {"type": "point", "filled": True, "size": 130, "opacity": 1}
    climbed = part(
        f"{name} on validation, with 95 % interval; green: best",
        layer(whole, rule, y=measure("low", name), y2=high, color=color),
        layer(whole, point, y=measure("value", ""), color=color),
    )
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
    scale = {"domain": ["training", "validation"], "range": [GRAY, BLUE]}
    legend = {"title": None, "orient": "right"}
    of_split = {"field": "of", "type": "nominal", "scale": scale, "legend": legend}
    line = {"type": "line", "point": True, "strokeWidth": 2.5}
    text, y = {"type": "text", "dy": -12, "fontSize": 11}, measure("value", "ROC AUC")
    fitted = part(
        "ROC AUC in the last epochs: where the lines diverge, the model overfits",
        layer(curves, line, y=y, color=of_split),
        layer(over, text, y=y, text={"field": "text"}),
    )
    independent = {"legend": {"color": "independent"}}
    save_chart(path, {"vconcat": [climbed, fitted], "resolve": independent})
