"""Measure how often intervals hold, and how often equal models are told apart, in simulations.

    python -m benchmarks.coverage                       the tables of docs/statistics.md
    python -m benchmarks.coverage --slides 3,8 --icc 0.2 --prevalence 0.1 --draws 2000

Slides hold unequal numbers of crops and shares of positives, some no positive at all. A crop's
score is normal around its class, and the intraclass correlation (ICC) is the share of its variance
that all crops of a slide, or all of one class of a slide, have in common. Two models are compared
that are equal by construction; 80 % of the variance of their scores is shared.

Coverage is the share of draws in which a 95 % interval holds the true measure; a false alarm is a
draw in which the interval of the difference excludes zero. Draws without an interval count for
neither, and their share is printed.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit

from stages.comparison.differences import compare
from stages.comparison.revisions import Outputs
from stages.comparison.settings import Setting
from stages.comparison.verdict import Group, compare_groups
from stages.measures.influence import Sample, influence
from stages.measures.intervals import Estimate, difference, estimate
from stages.measures.readers import cohen_kappa, fleiss_kappa
from stages.measures.scores import WITHIN_FOLDS

MEASURES = (
    "roc_auc",
    WITHIN_FOLDS,
    "average_precision",
    "brier",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "f1",
)
# Those that a verdict rests on, all at once.
VERDICT = (WITHIN_FOLDS, "balanced_accuracy", "sensitivity", "brier")
FOLDS, THRESHOLD = 2, 0.25


class World(NamedTuple):
    """What crops are drawn from.

    `crops` is the mean number per slide, and `separation` the distance of the classes in standard
    deviations (2.5 gives a ROC AUC of 0.96). With `shift`, the log-odds of the second model differ
    by that much between two folds, like those of differently calibrated models.
    """

    slides: int
    icc: float
    crops: float = 30
    prevalence: float = 0.22
    separation: float = 2.5
    shared: float = 0.8
    shift: float = 0.0

    def draw(self, random: np.random.Generator, models: int = 1) -> list[Sample]:
        """Return the predictions of some equally good models for the same crops."""
        sizes = 1 + random.poisson(random.gamma(2, (self.crops - 1) / 2, self.slides))
        slide = np.repeat(np.arange(self.slides), sizes)
        shape = 3.6 * self.prevalence, 3.6 * (1 - self.prevalence)
        y_true = random.binomial(1, random.beta(*shape, self.slides)[slide])

        def effects(*size: int) -> list[np.ndarray]:
            common = random.standard_normal(size)
            return [
                np.sqrt(self.shared) * common
                + np.sqrt(1 - self.shared) * random.standard_normal(size)
                for _ in range(models)
            ]

        samples = []
        of_all = (effects(self.slides), effects(self.slides, 2), effects(len(slide)))
        for model, (of_slide, of_class, of_crop) in enumerate(zip(*of_all)):
            together = (of_slide[slide] + of_class[slide, y_true]) / np.sqrt(2)
            place = self.separation * y_true
            place = place + np.sqrt(self.icc) * together + np.sqrt(1 - self.icc) * of_crop
            odds = self.separation * (place - self.separation / 2) + logit(self.prevalence)
            odds = odds + model * self.shift * (slide % FOLDS)
            y_score = expit(odds)
            y_pred = (y_score >= THRESHOLD).astype(np.int64)
            samples.append(Sample(y_true, y_score, y_pred, slide, slide % FOLDS))
        return samples


class Rate(NamedTuple):
    """In which share of draws something held, the mean width of the intervals, and the share of
    draws without an interval.
    """

    share: float
    width: float
    none: float


def coverage(
    world: World, measures: Sequence[str] = MEASURES, draws: int = 500, seed: int = 0
) -> dict[str, Rate]:
    """Return how often the intervals of measures hold the measures of 5,000 slides."""
    (everything,) = world._replace(slides=5_000).draw(np.random.default_rng([seed, 1]))
    truth = {name: influence(name, everything) for name in measures}
    random = np.random.default_rng([seed, 2])
    found: dict[str, list[tuple[bool, float]]] = {name: [] for name in measures}
    for _ in range(draws):
        samples = world.draw(random)
        for name in measures:
            one, true = estimate(name, samples), truth[name]
            if true is not None and one.low is not None and one.high is not None:
                found[name].append((one.low <= true.value <= one.high, one.high - one.low))
    return {name: _rate(values, draws) for name, values in found.items()}


def readers_coverage(world: World, draws: int = 500, seed: int = 0) -> dict[str, Rate]:
    """Return how often the intervals of the kappas of three readers hold those of 5,000 slides.

    A reader is a model that decides at `THRESHOLD`.
    """

    def kappas(world: World, random: np.random.Generator) -> dict[str, Estimate]:
        samples = world.draw(random, models=3)
        labels, slides = np.stack([one.y_pred for one in samples], axis=1), samples[0].slides
        two = cohen_kappa(labels[:, 0], labels[:, 1], slides)
        return {"Fleiss' kappa": fleiss_kappa(labels, slides), "Cohen's kappa": two}

    truth = kappas(world._replace(slides=5_000), np.random.default_rng([seed, 1]))
    random = np.random.default_rng([seed, 2])
    found: dict[str, list[tuple[bool, float]]] = {name: [] for name in truth}
    for _ in range(draws):
        for name, one in kappas(world, random).items():
            true = truth[name].value
            if true is not None and one.low is not None and one.high is not None:
                found[name].append((one.low <= true <= one.high, one.high - one.low))
    return {name: _rate(values, draws) for name, values in found.items()}


def false_alarms(
    world: World, measures: Sequence[str] = MEASURES, draws: int = 500, seed: int = 0
) -> dict[str, Rate]:
    """Return how often each measure tells equal models apart; under "any", how often one of
    `VERDICT` does at a level for all of them.
    """
    random = np.random.default_rng([seed, 3])
    found: dict[str, list[tuple[bool, float]]] = {name: [] for name in (*measures, "any")}
    for _ in range(draws):
        ours, theirs = world.draw(random, models=2)
        p_values = []
        for name in measures:
            one = difference(name, [ours], [theirs])
            if one.low is not None and one.high is not None and one.p is not None:
                found[name].append((one.low > 0 or one.high < 0, one.high - one.low))
                p_values += [one.p] * (name in VERDICT)
        found["any"].append((min(p_values, default=1) < 0.05 / len(VERDICT), np.nan))
    return {name: _rate(values, draws) for name, values in found.items()}


def verdicts(world: World, draws: int = 500, seed: int = 0) -> dict[str, float]:
    """Return how often programs tell equal models apart: `compare` any of 2 and of 5 settings from
    the first, and `report` a change from what was before, by any measure.
    """
    random = np.random.default_rng([seed, 4])
    told = {"compare, 2 settings": 0, "compare, 5 settings": 0, "report": 0}
    for _ in range(draws):
        samples = world.draw(random, models=5)
        settings = [Setting((float(number),), {}, [one]) for number, one in enumerate(samples)]
        for number in (2, 5):
            _, found = compare(settings[:number], settings[0], "roc_auc")
            told[f"compare, {number} settings"] += any(
                one.verdict != "not settled" for one in found
            )
        old, new = (Outputs(one, (one.y_score < 0.1) | (one.y_score > 0.5)) for one in samples[:2])
        changes = compare_groups([Group("", [old], [new])])
        told["report"] += any(one.word in ("better", "worse") for one in changes)
    return {name: count / draws for name, count in told.items()}


def _rate(values: Sequence[tuple[bool, float]], draws: int) -> Rate:
    share, width = np.mean(values, axis=0) if values else (np.nan, np.nan)
    return Rate(float(share), float(width), 1 - len(values) / draws)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slides", default="4,6,10,20,40", help="numbers of slides")
    parser.add_argument("--icc", default="0,0.1,0.3", help="intraclass correlations")
    parser.add_argument("--crops", type=float, default=30, help="mean number per slide")
    parser.add_argument("--prevalence", type=float, default=0.22)
    parser.add_argument("--separation", type=float, default=2.5)
    parser.add_argument("--shift", type=float, default=0, help="between folds, in log-odds")
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    worlds = [
        World(
            int(slides),
            float(icc),
            options.crops,
            options.prevalence,
            options.separation,
            shift=options.shift,
        )
        for icc in options.icc.split(",")
        for slides in options.slides.split(",")
    ]
    simulations: tuple[tuple[str, Callable[..., dict[str, Rate]]], ...] = (
        ("coverage", coverage),
        ("coverage", readers_coverage),
        ("false alarms", false_alarms),
    )
    for what, simulate in simulations:
        print(f"{what} (%) and mean width of the interval, {options.draws} draws")
        for world in worlds:
            for name, rate in simulate(world, draws=options.draws, seed=options.seed).items():
                none = f"  none in {100 * rate.none:.0f} %" if rate.none else ""
                print(
                    f"ICC {world.icc:<4} {world.slides:3} slides  {name:20} "
                    f"{100 * rate.share:5.1f}  {rate.width:.3f}{none}",
                    flush=True,
                )
    print(f"verdicts (%) on equal models, {options.draws} draws")
    for world in worlds:
        for name, share in verdicts(world, options.draws, options.seed).items():
            print(
                f"ICC {world.icc:<4} {world.slides:3} slides  {name:20} {100 * share:5.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
