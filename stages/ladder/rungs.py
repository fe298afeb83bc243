"""The rungs of the ladder, each trained as experiments: its validation results and overfitting."""

import csv
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stages.dataset.predictions import VALIDATION
from stages.experiments.reading import Experiment
from stages.experiments.running import Runs
from stages.experiments.settings import Value
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

    def __init__(self, overrides: Sequence[str], params: ClimbParameters):
        self.runs, self.params = Runs(overrides), params

    def rung(self, step: str, reached_by: str) -> Rung:
        """Return the rung `step`, trained for each validation fold and seed of `params`."""
        seeds: list[Value] = [self.runs.wanted["train.seed"]]
        validations: list[Value] = [self.runs.wanted["split.validation_offset"]]
        if self.params.seeds > 1:
            seeds = list(range(self.params.seeds))
        if self.params.validations > 1:
            validations = list(range(1, self.params.validations + 1))
        experiments, pooled, logs = [], [], []
        for seed in seeds:
            of_seed = []
            for validation in validations:
                name = f"{self.runs.wanted['data']}-{step}"
                name += f"-validation{validation}" * (len(validations) > 1)
                name += f"-seed{seed}" * (len(seeds) > 1)
                changes = {
                    "model.step": step,
                    "split.validation_offset": validation,
                    "train.seed": seed,
                }
                experiment = self.runs.run(name, changes, AFTER_VALIDATION)
                experiments.append(experiment.name)
                of_seed.append(experiment.predictions(VALIDATION))
                logs.append(overfitting(read_log(experiment), self.params.last_epochs))
            pooled.append(pool(of_seed, [0.5] * len(of_seed)))
        training_auc, validation_auc, upturn = map(float, np.mean(logs, axis=0))
        overfits = training_auc - validation_auc > self.params.gap and upturn > self.params.upturn
        return Rung(
            step, reached_by, experiments, pooled, training_auc, validation_auc, upturn, overfits
        )


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
