"""The rungs of the ladder, each trained as experiments: its validation results and overfitting."""

import csv
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stages.base.errors import UserError
from stages.dataset.predictions import VALIDATION
from stages.experiments.inputs import digests, input_paths, refuse_unrecorded
from stages.experiments.reading import Experiment, has_run, read_experiments
from stages.experiments.running import run_experiment
from stages.experiments.settings import Value, params_with
from stages.ladder.parameters import ClimbParameters
from stages.measures.influence import Sample
from stages.measures.pooled import pool

# Parameters that do not change a model and its validation predictions.
AFTER_VALIDATION = ("train.resume", "evaluate.", "climb.", "external")
EPOCH_LOGS = "metrics/train/plots/metrics"


class Rung(NamedTuple):
    """A step and the results of its trainings."""

    step: str
    reached_by: str
    experiments: list[str]
    pooled: list[Sample]  # the validation predictions of each seed, over all validation folds
    # training_auc, validation_auc, upturn: means over the trainings; see `overfitting`.
    training_auc: float
    validation_auc: float
    upturn: float
    overfits: bool


class Trainings:
    """The trainings of the rungs: experiments that exist already, or are run now."""

    def __init__(self, overrides: Sequence[str], wanted: dict[str, Value], params: ClimbParameters):
        self.overrides, self.wanted, self.params = overrides, wanted, params
        self.inputs = [
            *input_paths(params_with(overrides)),
            "stages",
            "pins",
            "dvc.yaml",
            "params.yaml",
        ]
        refuse_unrecorded(self.inputs)
        self.began = digests(self.inputs)
        self.found = read_experiments()
        self.names = {experiment.name for experiment in self.found}

    def rung(self, step: str, reached_by: str) -> Rung:
        """Return the rung `step`, trained for each validation fold and seed of `params`."""
        seeds: list[Value] = [self.wanted["train.seed"]]
        validations: list[Value] = [self.wanted["split.validation_offset"]]
        if self.params.seeds > 1:
            seeds = list(range(self.params.seeds))
        if self.params.validations > 1:
            validations = list(range(1, self.params.validations + 1))
        experiments, pooled, logs = [], [], []
        for seed in seeds:
            of_seed = []
            for validation in validations:
                name = f"{self.wanted['data']}-{step}"
                name += f"-validation{validation}" * (len(validations) > 1)
                name += f"-seed{seed}" * (len(seeds) > 1)
                experiment = self.run(name, step, validation, seed)
                experiments.append(experiment.name)
                of_seed.append(experiment.predictions(VALIDATION))
                logs.append(overfitting(read_log(experiment), self.params.last_epochs))
            pooled.append(pool(of_seed, [0.5] * len(of_seed)))
        training_auc, validation_auc, upturn = map(float, np.mean(logs, axis=0))
        overfits = training_auc - validation_auc > self.params.gap and upturn > self.params.upturn
        return Rung(
            step, reached_by, experiments, pooled, training_auc, validation_auc, upturn, overfits
        )

    def run(self, name: str, step: str, validation: Value, seed: Value) -> Experiment:
        """Return the experiment of this folder with these parameters; run it if necessary."""
        changes = {"model.step": step, "split.validation_offset": validation, "train.seed": seed}
        if found := has_run(self.found, {**self.wanted, **changes}, AFTER_VALIDATION):
            return found
        number = next(one for one in itertools.count(1) if _numbered(name, one) not in self.names)
        name = _numbered(name, number)
        states = digests(self.inputs)
        if changed := sorted(path for path in states if states[path] != self.began[path]):
            raise UserError(
                f"{', '.join(changed)}: changed since the climb began; begin it again, and "
                "experiments that are still valid are kept"
            )
        commit = run_experiment(
            name, [*self.overrides, *(f"{key}={value}" for key, value in changes.items())]
        )
        self.names.add(name)
        return Experiment(name, commit, {}, {})


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"


def read_log(experiment: Experiment) -> dict[str, list[float]]:
    """Return the training log of an experiment: train/auc, val/auc and val/loss of each epoch."""
    log = {}
    for name in ("train/auc", "val/auc", "val/loss"):
        lines = experiment.read(f"{EPOCH_LOGS}/{name}.tsv").splitlines()
        log[name] = [
            float(row[name.split("/")[1]]) for row in csv.DictReader(lines, delimiter="\t")
        ]
    return log


def overfitting(log: dict[str, list[float]], last_epochs: int) -> tuple[float, float, float]:
    """Return mean ROC AUC in training and on validation, and the upturn, of the last epochs.

    The upturn is by which share their mean validation loss is above the lowest of any epoch.
    """
    training_auc, validation_auc, loss = (
        float(np.mean(log[name][-last_epochs:])) for name in ("train/auc", "val/auc", "val/loss")
    )
    return training_auc, validation_auc, loss / min(log["val/loss"]) - 1
