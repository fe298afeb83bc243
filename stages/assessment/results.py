"""The results of all folds of one setting together."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stages.base.files import parse_table
from stages.comparison.revisions import read_test
from stages.comparison.settings import Setting, group
from stages.dataset.cohort import SINGLE, are_single
from stages.evaluation.curves import SLIDES
from stages.evaluation.pictures import worst_mistakes
from stages.evaluation.results import SiteRow, Tested, by_site
from stages.experiments.label_issues import LabelIssue, find_label_issues, out_of_fold
from stages.experiments.reading import Experiment
from stages.experiments.settings import as_yaml
from stages.experiments.sides import read_state
from stages.measures.intervals import Estimate
from stages.measures.percentages import Agreement, agreement
from stages.measures.scores import MEASURES, WITHIN_FOLDS

SLIDES_FILE = "metrics/slides.csv"


class Assessment(NamedTuple):
    """What the test folds say together; each crop is predicted by a model that has not seen it.

    Attributes:
        decided: bool (n,), which crops are not in the uncertain band of their fold's model.
        mistakes: rows of the most confident missed sclerotic crops, and of false alarms.
        slides: rows of metrics/slides.csv, as text, each with its fold.
        agreement: of the percentages of slides, counted and predicted.
    """

    setting: Setting
    tested: Tested
    estimates: dict[str, Estimate]
    decided: np.ndarray
    mistakes: tuple[list[int], list[int]]
    slides: list[dict[str, str]]
    agreement: Agreement
    sites: list[SiteRow]
    issues: list[LabelIssue]

    @property
    def crops(self) -> np.ndarray:
        """The paths of the crops, text (n,)."""
        assert self.tested.sample.crops is not None
        return self.tested.sample.crops

    @property
    def cautions(self) -> list[str]:
        """Return warnings about the results, besides that of too few slides."""
        return [f"Caution: {SINGLE}."] if are_single(self.tested.sample.slides) else []


def assess(folds: Sequence[Experiment]) -> Assessment:
    """Return the results of the folds of one setting.

    Raises:
        UserError: the experiments are not of one setting, or their files are missing.
    """
    (setting,) = group(folds, [])
    sample = setting.pooled[0]
    assert sample.crops is not None
    sample = sample.at(np.argsort(sample.crops))
    assert sample.crops is not None
    site_of = folds[0].manifest("site")
    sites = np.array([site_of[path] for path in sample.crops])
    # As in `evaluate`: a crop without a site leaves no table of sites.
    known = sites if all(sites) else None
    tested = Tested(sample, known, "sites" if setting.by_site else "slides")
    slides = [row for fold in folds for row in _slides(fold)]
    counted, predicted = (
        [float(row[name]) for row in slides] for name in ("percent", "predicted_percent")
    )
    return Assessment(
        setting,
        tested,
        {name: tested.estimate(name) for name in (WITHIN_FOLDS, *MEASURES)},
        read_test([read_state(fold.commit) for fold in folds]).decided,
        worst_mistakes(sample.y_true, sample.y_score, sample.y_pred),
        sorted(slides, key=lambda row: row["slide"]),
        agreement(counted, predicted),
        by_site(tested),
        find_label_issues(*out_of_fold(folds)),
    )


def _slides(fold: Experiment) -> list[dict[str, str]]:
    where = f"{SLIDES_FILE} of experiment {fold.name}"
    columns = parse_table(io.StringIO(fold.read(SLIDES_FILE), newline=""), SLIDES, where)
    number = as_yaml(fold.params["split.fold"])
    return [dict(zip(SLIDES, row)) | {"fold": number} for row in zip(*columns)]
