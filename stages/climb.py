"""Climb the ladder of model steps: add Dense layers until it overfits, replace the largest by a convolution, go on.

    python -m stages.climb
    python -m stages.climb -S data=aidpath -S climb.validations=2

Method: Wen, Thibeau-Sutre et al., Medical Image Analysis 63:101694, 2020, simplified. It begins with `logistic`, adds a Dense
layer, and another, until the model overfits or has four. Then a round: the largest Dense layer is replaced by a convolutional
block, and layers are added again. The climb ends with a whole round that brings no improvement. When a rung overfits, and
when it improves on the best so far, is said by `climb` in params.yaml.

Each rung is a DVC experiment for each validation fold and seed, named after its step. What has run is not run again: a
climb that was interrupted goes on where it was. It decides by validation slides and does not look at the test fold.
Writes climb.md, climb.csv and climb.png into the folder --output.
"""

import argparse
import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field

from stages.base.errors import UserError, run_stage
from stages.base.files import replacing, write_table
from stages.base.parameters import Parameters, check
from stages.charts import BLUE, GREEN, GREY, save_chart
from stages.dataset.predictions import VALIDATION
from stages.experiments import Experiment, Value, flatten, made_here, params_with, read_experiments, run_experiment, shown
from stages.measures.pooled import Pooled, differences, measure_draws, pool
from stages.measures.resampling import interval
from stages.measures.scores import LOWER_IS_BETTER, title
from stages.model.steps import MOST_BLOCKS, MOST_DENSE, parse_step, step_name

IRRELEVANT = ("climb.", "evaluate.", "train.resume")  # to a model and its validation predictions
LOG = "metrics/train/plots/metrics"


class ClimbParameters(Parameters):
    """`climb` in params.yaml."""

    validations: int = Field(ge=1)
    seeds: int = Field(ge=1, le=1000)
    last_epochs: int = Field(ge=1)
    gap: float = Field(ge=-1, le=1)
    upturn: float = Field(ge=0)
    measure: Literal["roc_auc", "average_precision", "brier"]
    confidence: float = Field(ge=0.5, le=1)
    bootstrap: int = Field(ge=100, le=1_000_000)


class Rung(NamedTuple):
    """A step with what its trainings came to: `pooled` has the validation predictions of each seed, over all validation folds.

    `training_auc`, `validation_auc` and `upturn` are means over the trainings; see `overfitting`.
    """

    step: str
    reached_by: str
    experiments: list[str]
    pooled: list[Pooled]
    training_auc: float
    validation_auc: float
    upturn: float
    overfits: bool


class Decision(NamedTuple):
    """A rung, its measure on validation with a 95 % interval, and whether it improves on the best rung before it.

    `better` is the share of the draws of slides in which it is the better one; None for the first rung.
    """

    rung: Rung
    value: float
    low: float
    high: float
    better: float | None
    improves: bool


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.climb", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-S", "--set-param", action="append", default=[], metavar="NAME=VALUE", help="as in `dvc exp run`")
    parser.add_argument("--output", default="climb", help="the folder to write to (default: climb)")
    arguments = parser.parse_args()
    wanted = params_with(arguments.set_param)
    params = check(wanted["climb"], ClimbParameters, "params.yaml", "climb")
    trainings = Trainings(arguments.set_param, flatten(wanted), params)
    decisions: list[Decision] = []
    for decision in climb(trainings.rung, params, most_blocks(wanted)):
        decisions.append(decision)
        say(decision, params)
    print(f"-> {why_it_ended(decisions)}: the climb ends", flush=True)
    adopt = best_of(decisions).rung.experiments[0]
    text = f"{table(decisions, params)}\nThe best rung is {best_of(decisions).rung.step}: `dvc exp apply {adopt}` adopts it.\n"
    print(f"\n{text}")
    output = Path(arguments.output)
    with replacing(output / "climb.md") as file:
        file.write(text)
    write_decisions(output / "climb.csv", decisions)
    draw(output / "climb.png", decisions, params)
    print(f"written to {output}/", file=sys.stderr)


def climb(visit: Callable[[str, str], Rung], params: ClimbParameters, blocks_possible: int) -> Iterator[Decision]:
    """Walk the ladder and yield what was decided on each rung, in the order of the walk.

    Args:
        visit: trains a step or finds its trainings; called with the name of the step and how it was reached.
        blocks_possible: how many convolutional blocks fit the size of the squares.
    """
    decisions: list[Decision] = []

    def step(blocks: int, dense_layers: int, reached_by: str) -> Decision:
        decisions.append(decide(visit(step_name(blocks, dense_layers), reached_by), decisions, params))
        return decisions[-1]

    blocks, dense_layers = 0, 0
    yield step(0, 0, "start")
    while True:
        # There must be a Dense layer for the next round to replace.
        while dense_layers == 0 or (dense_layers < MOST_DENSE and not decisions[-1].rung.overfits):
            dense_layers += 1
            yield step(blocks, dense_layers, "add a Dense layer")
        if blocks == blocks_possible or not improved_in_last_round(decisions):
            return
        blocks, dense_layers = blocks + 1, dense_layers - 1
        yield step(blocks, dense_layers, "replace a Dense layer by a convolution")


def improved_in_last_round(decisions: Sequence[Decision]) -> bool:
    """Return whether a rung with as many convolutional blocks as the last one improved."""
    blocks = [parse_step(decision.rung.step)[0] for decision in decisions]
    return any(decision.improves for decision, of_it in zip(decisions, blocks) if of_it == blocks[-1])


def why_it_ended(decisions: Sequence[Decision]) -> str:
    """Say in words why a climb ended with the last of `decisions`."""
    if not improved_in_last_round(decisions):
        return "a whole round without an improvement"
    return f"the ladder ends with {parse_step(decisions[-1].rung.step)[0]} convolutional blocks"


def most_blocks(params: dict) -> int:
    """Return how many convolutional blocks there can be: each halves the picture, where there is pooling."""
    if params["model"]["pooling"] == "none":
        return MOST_BLOCKS
    return min(MOST_BLOCKS, int(params["pad"]["size"]).bit_length() - 1)


class Trainings:
    """The trainings of the rungs: experiments that are there already, or that are run now."""

    def __init__(self, overrides: Sequence[str], wanted: dict[str, Value], params: ClimbParameters):
        self.overrides, self.wanted, self.params = overrides, wanted, params
        self.found = read_experiments()
        self.names = {experiment.name for experiment in self.found}

    def rung(self, step: str, reached_by: str) -> Rung:
        """Return the rung `step`, trained for each validation fold and seed of `climb` in params.yaml."""
        seeds: list[Value] = [self.wanted["train.seed"]]
        validations: list[Value] = [self.wanted["split.validation"]]
        if self.params.seeds > 1:
            seeds = list(range(self.params.seeds))
        if self.params.validations > 1:
            validations = list(range(1, self.params.validations + 1))
        experiments, pooled, logs = [], [], []
        for seed in seeds:
            of_seed = []
            for validation in validations:
                experiment = self.run(step, validation, seed, len(validations) > 1, len(seeds) > 1)
                experiments.append(experiment.name)
                of_seed.append(experiment.predictions(VALIDATION))
                logs.append(overfitting(read_log(experiment), self.params.last_epochs))
            pooled.append(pool(of_seed, [0.5] * len(of_seed)))
        training_auc, validation_auc, upturn = map(float, np.mean(logs, axis=0))
        overfits = training_auc - validation_auc > self.params.gap and upturn > self.params.upturn
        return Rung(step, reached_by, experiments, pooled, training_auc, validation_auc, upturn, overfits)

    def run(self, step: str, validation: Value, seed: Value, name_validation: bool, name_seed: bool) -> Experiment:
        """Return the experiment with these parameters and the code and dataset of this folder; run it if there is none."""
        changes = {"model.step": step, "split.validation": validation, "train.seed": seed}
        wanted = {name: shown(value) for name, value in {**self.wanted, **changes}.items() if not name.startswith(IRRELEVANT)}
        for experiment in self.found:
            if all(shown(experiment.params[name]) == value for name, value in wanted.items()) and made_here(experiment):
                return experiment
        name = f"{self.wanted['data']}-{step}" + f"-validation{validation}" * name_validation + f"-seed{seed}" * name_seed
        taken, number = name, 2
        while name in self.names:
            name, number = f"{taken}-{number}", number + 1
        run_experiment(name, [*self.overrides, *(f"{key}={value}" for key, value in changes.items())])
        self.names.add(name)
        return Experiment(name, name, {}, {})


def read_log(experiment: Experiment) -> dict[str, list[float]]:
    """Return the training log of an experiment: `train/auc`, `val/auc` and `val/loss` of each epoch."""
    log = {}
    for name in ("train/auc", "val/auc", "val/loss"):
        lines = experiment.read(f"{LOG}/{name}.tsv").splitlines()
        log[name] = [float(row[name.split("/")[1]]) for row in csv.DictReader(lines, delimiter="\t")]
    return log


def overfitting(log: dict[str, list[float]], last_epochs: int) -> tuple[float, float, float]:
    """Return what says whether a training overfitted: of the last epochs, the mean ROC AUC in training and on validation, and by
    which share the mean validation loss is above the lowest one of any epoch.
    """
    training_auc, validation_auc, loss = (
        float(np.mean(log[name][-last_epochs:])) for name in ("train/auc", "val/auc", "val/loss")
    )
    return training_auc, validation_auc, loss / min(log["val/loss"]) - 1


def decide(rung: Rung, before: Sequence[Decision], params: ClimbParameters) -> Decision:
    """Measure a rung on validation, and compare it with the best one before it on the same draws of slides."""
    rungs = [rung, best_of(before).rung] if before else [rung]
    whole, drawn = measure_draws([one.pooled for one in rungs], (params.measure,), params.bootstrap, seed=0)
    value = whole[0][params.measure]
    span = interval([draw[params.measure] for draw in drawn[0] if draw[params.measure] is not None], params.bootstrap)
    if value is None or span is None:
        raise UserError(f"params.yaml: climb.measure {params.measure} is not defined on these validation slides; brier always is")
    if not before:
        return Decision(rung, value, span["low"], span["high"], None, True)
    sign = -1 if params.measure in LOWER_IS_BETTER else 1
    better = float(np.mean(sign * np.array(differences(drawn[0], drawn[1], params.measure)) > 0))
    return Decision(rung, value, span["low"], span["high"], better, better >= params.confidence)


def best_of(decisions: Sequence[Decision]) -> Decision:
    """Return the last rung that improved: of those that cannot be told apart, the first."""
    return [decision for decision in decisions if decision.improves][-1]


def say(decision: Decision, params: ClimbParameters) -> None:
    """Print a decision with the numbers behind it."""
    rung = decision.rung
    gap = rung.training_auc - rung.validation_auc
    against = "" if decision.better is None else f", better than the best before in {decision.better:.1%} of the draws"
    print(
        f"{rung.step} ({rung.reached_by}): {title(params.measure)} on validation {decision.value:.3f} "
        f"({decision.low:.3f}-{decision.high:.3f}){against}: {'improves' if decision.improves else 'does not improve'}\n"
        f"   last epochs: ROC AUC in training {rung.training_auc:.3f}, on validation {rung.validation_auc:.3f} "
        f"(gap {gap:+.3f}, limit {params.gap}); validation loss {rung.upturn:.0%} above its lowest "
        f"(limit {params.upturn:.0%}): {'overfits' if rung.overfits else 'does not overfit'}",
        flush=True,
    )


def table(decisions: Sequence[Decision], params: ClimbParameters) -> str:
    """Return the climb as a Markdown table."""
    best = best_of(decisions)
    columns = ("step", "reached by", f"{title(params.measure)} on validation", "better than the best before", "gap", "upturn", "")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for decision in decisions:
        rung = decision.rung
        notes = ["overfits"] * rung.overfits + ["improves"] * decision.improves + ["**best**"] * (decision is best)
        cells = (
            f"`{rung.step}`",
            rung.reached_by,
            f"{decision.value:.3f} ({decision.low:.3f}-{decision.high:.3f})",
            "" if decision.better is None else f"{decision.better:.1%}",
            f"{rung.training_auc - rung.validation_auc:+.3f}",
            f"{rung.upturn:.0%}",
            ", ".join(notes),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write_decisions(path: Path, decisions: Sequence[Decision]) -> None:
    """Write the decisions as a table, a row for each rung."""
    columns = (
        "step",
        "reached_by",
        "validation",
        "low",
        "high",
        "better",
        "improves",
        "training_auc",
        "validation_auc",
        "upturn",
    )
    rows = [
        (
            r.step,
            r.reached_by,
            d.value,
            d.low,
            d.high,
            d.better,
            d.improves,
            r.training_auc,
            r.validation_auc,
            r.upturn,
            r.overfits,
        )
        for d in decisions
        for r in [d.rung]
    ]
    write_table(path, (*columns, "overfits"), rows)


def draw(path: Path, decisions: Sequence[Decision], params: ClimbParameters) -> None:
    """Draw the climb: the measure on validation with its interval, and ROC AUC in training and on validation, by rung."""
    order = [decision.rung.step for decision in decisions]
    best = best_of(decisions).rung.step
    whole = [{"step": d.rung.step, "value": d.value, "low": d.low, "high": d.high} for d in decisions]
    curves = [
        {"step": d.rung.step, "of": name, "value": value}
        for d in decisions
        for name, value in (("training", d.rung.training_auc), ("validation", d.rung.validation_auc))
    ]
    over = [{"step": d.rung.step, "value": d.rung.training_auc, "text": "overfits"} for d in decisions if d.rung.overfits]
    x = {"field": "step", "type": "ordinal", "sort": order, "title": None, "axis": {"labelAngle": -35, "labelFontSize": 12}}
    scale = {"zero": False, "nice": True}

    def y(field: str, name: str) -> dict:
        return {"field": field, "type": "quantitative", "scale": scale, "title": name}

    color = {
        "field": "of",
        "type": "nominal",
        "scale": {"domain": ["training", "validation"], "range": [GREY, BLUE]},
        "legend": {"title": None, "orient": "right"},
    }
    climbed = {
        "title": {"text": f"{title(params.measure)} on validation, with 95 % interval; green: best", "anchor": "start"},
        "width": {"step": 78},
        "height": 190,
        "data": {"values": whole},
        "encoding": {"x": x, "color": {"condition": {"test": f"datum.step === '{best}'", "value": GREEN}, "value": BLUE}},
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 3},
                "encoding": {"y": y("low", title(params.measure)), "y2": {"field": "high"}},
            },
            {"mark": {"type": "point", "filled": True, "size": 130, "opacity": 1}, "encoding": {"y": y("value", "")}},
        ],
    }
    fitted = {
        "title": {"text": "ROC AUC in the last epochs: where the lines part, the model overfits", "anchor": "start"},
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
    save_chart(path, {"vconcat": [climbed, fitted], "resolve": {"legend": {"color": "independent"}}})


if __name__ == "__main__":
    run_stage(main)
