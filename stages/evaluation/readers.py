"""How well several readers of a dataset agree, with each other and with the model."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from stages.base.files import read_table
from stages.dataset.cohort import MANIFEST
from stages.dataset.readings import NO_CONSENSUS, CropReadings, read_readings
from stages.evaluation.results import Tested, record, with_interval
from stages.measures.intervals import Estimate, of_enough_sites, proportion
from stages.measures.readers import cohen_kappa, fleiss_kappa

TITLES = {"cohen_kappa": "Cohen's kappa"}


class CropsRead(NamedTuple):
    """The labels of N crops by R readers, int (N, R), and the slides of the crops, text (N,)."""

    readers: list[str]
    labels: np.ndarray
    slides: np.ndarray

    def agreement(self) -> dict:
        """Return how well the readers agree, with intervals over slides."""
        pairs = []
        # By name, so that the order of the columns in the card does not matter.
        for one, other in combinations(np.argsort(self.readers, kind="stable").tolist(), 2):
            both = (self.labels[:, [one, other]] >= 0).all(axis=1)
            first, second = self.labels[both][:, [one, other]].T
            slides = self.slides[both]
            agree = proportion(first == second, slides) if both.any() else Estimate(0)
            pairs.append(
                {
                    "readers": [self.readers[one], self.readers[other]],
                    "crops": int(both.sum()),
                    "agreement": record(agree),
                    "cohen_kappa": record(cohen_kappa(first, second, slides)),
                }
            )
        several = (self.labels >= 0).sum(axis=1) > 1
        return {
            "crops": int(several.sum()),
            "slides": len(np.unique(self.slides[several])),
            "fleiss_kappa": record(fleiss_kappa(self.labels, self.slides)),
            "pairs": pairs,
        }

    def at(self, rows: np.ndarray) -> "CropsRead":
        """Return some crops: their numbers, int (m,), or which, bool (N,)."""
        return CropsRead(self.readers, self.labels[rows], self.slides[rows])

    def joined(self, other: "CropsRead") -> "CropsRead":
        """Return the crops of both, by the same readers."""
        labels, slides = (np.concatenate(both) for both in zip(self[1:], other[1:]))
        return CropsRead(self.readers, labels, slides)


def crops_read(
    readers: list[str], crops: Sequence[CropReadings], slides: Sequence[str]
) -> CropsRead:
    """Return the readings of some crops, perhaps none."""
    labels = np.array(crops, dtype=np.int64).reshape(-1, len(readers))
    return CropsRead(readers, labels, np.array(slides, dtype=str))


def readers_of_cohort(tested: Tested, rows: np.ndarray) -> dict:
    """Return `measure_readers` under `readers`, by the files of the stage `manifest`; nothing if
    its dataset has no readers.

    Args:
        rows: int (n,), where the tested crops are in the manifest.
    """
    if not (found := read_readings(MANIFEST)).readers:
        return {}
    labeled, left_out = (
        crops_read(found.readers, read_readings(path).of_crops, *read_table(path, ["slide"]))
        for path in (MANIFEST, NO_CONSENSUS)
    )
    read, everything = labeled.at(rows), labeled.joined(left_out)
    missed = int(np.isin(left_out.slides, read.slides).sum())
    return {"readers": measure_readers(tested, read, everything, len(left_out.slides), missed)}


def measure_readers(
    tested: Tested, read: CropsRead, everything: CropsRead, no_consensus: int, missed: int
) -> dict:
    """Return the agreement of the readers, and of the model with each, as in
    metrics/measures.json.

    Args:
        tested: the predictions of the n tested crops.
        read: the readings of these crops.
        everything: of all crops.
        no_consensus: how many of these have no label, because the readers have no consensus.
        missed: how many of these are of tested slides. They are not tested.
    """
    return {
        "of_all": everything.agreement() | {"no_consensus": no_consensus},
        "of_tested": read.agreement() | {"no_consensus": missed},
        "model": [
            _model_and_reader(tested, reader, labels)
            for reader, labels in zip(read.readers, read.labels.T)
        ],
    }


def _model_and_reader(tested: Tested, reader: str, labels: np.ndarray) -> dict:
    """Return the measures of the model on the crops that a reader has labeled, int (n,)."""
    rows = labels >= 0
    sample = tested.sample._replace(y_true=labels).at(rows)
    by_reader = tested._replace(
        sample=sample, sites=None if tested.sites is None else tested.sites[rows]
    )
    return {
        "reader": reader,
        "crops": int(rows.sum()),
        **{name: record(by_reader.estimate(name)) for name in ("sensitivity", "specificity")},
        "cohen_kappa": record(_kappa(by_reader)),
    }


def _kappa(tested: Tested) -> Estimate:
    sample = tested.sample
    if tested.over == "sites" and tested.sites is not None:
        return of_enough_sites(cohen_kappa(sample.y_true, sample.y_pred, tested.sites))
    return cohen_kappa(sample.y_true, sample.y_pred, sample.slides)


def print_readers(results: dict, what: str) -> None:
    """Print the kappas of the readers, and how the model compares with each, if there are any.

    Args:
        what: the tested crops, such as "test slides".
    """
    if not (found := results.get("readers")):
        return
    tested = found["of_tested"]
    print_agreement(found["of_all"])
    print(f"the model and each reader, {what}:")
    for one in found["model"]:
        print(f"  {one['reader']}: {_said(one, 'sensitivity', 'specificity', 'cohen_kappa')}")
    print(f"readers there, on {_crops(tested)}:")
    for pair in tested["pairs"]:
        print(f"  {' and '.join(pair['readers'])}: {_said(pair, 'cohen_kappa')}")
    if left_out := tested["no_consensus"]:
        print(
            f"  without the crops that have no consensus ({left_out}), which flatters all of these"
        )


def print_agreement(agreement: dict) -> None:
    """Print the kappas of readers, as `CropsRead.agreement` returns them."""
    print(f"readers, on {_crops(agreement)}:")
    print(f"  Fleiss' kappa {with_interval(agreement['fleiss_kappa'])}")
    for pair in agreement["pairs"]:
        print(f"  {' and '.join(pair['readers'])}: {_said(pair, 'agreement', 'cohen_kappa')}")


def _crops(agreement: dict) -> str:
    return f"{agreement['crops']} crops of {agreement['slides']} slides that two or more have read"


def _said(one: dict, *names: str) -> str:
    values = [f"{TITLES.get(name, name)} {with_interval(one[name])}" for name in names]
    return f"{one['crops']} crops; {', '.join(values)}"
