"""Whether a change made the model better: the sentence and the table at the top of a report."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stages.base.errors import UserError
from stages.base.files import damaged
from stages.base.strict_json import parse_json
from stages.dataset.cohort import SINGLE, are_single
from stages.dataset.predictions import parse_predictions
from stages.experiments.markdown import markdown_table
from stages.experiments.reading import MEASURES_FILE, PREDICTIONS, read_at
from stages.experiments.sides import changed_pixels, refuse_stale
from stages.measures.decision import is_positive
from stages.measures.pooled import Pooled, differences, measure_draws
from stages.measures.resampling import WITH_INTERVALS, interval, too_small
from stages.measures.scores import outcome, title

# The verdict is by this measure.
METRIC = "roc_auc"
REPLICATES, SEED = 2000, 0


class Change(NamedTuple):
    """A measure before and after, and the 95 % interval of its difference; None if undefined."""

    measure: str
    before: float | None
    after: float | None
    low: float | None
    high: float | None

    @property
    def word(self) -> str:
        if self.low is None or self.high is None:
            return "not known"
        return outcome(self.measure, self.low, self.high)


def verdict(before: str, after: str | None) -> list[str]:
    """Return, as Markdown, whether a revision (None: the workspace) is better than another."""
    try:
        for side in (before, after):
            refuse_stale(side)
        old, new = read_side(before), read_side(after)
        if not _difference(old, new) and (
            changed := changed_pixels(before, after, old.predictions.paths)
        ):
            return [
                f"**Not comparable**: {len(changed)} test glomeruli have other pixels now, such as "
                f"`{changed[0]}`."
            ]
        return verdict_on_sides(old, new, before, after or "workspace")
    except UserError as error:
        return [f"**Not comparable**: {error}."]


def verdict_on_sides(old: Pooled, new: Pooled, before: str, after: str) -> list[str]:
    """Return the verdict on two sides, each sorted by path, with the names `before` and `after`."""
    if problem := _difference(old, new):
        return [f"**Not comparable**: {problem}."]
    images, slides = len(new.predictions.y_true), len(np.unique(new.predictions.slides))
    counts = f"{images} test glomeruli of {slides} slide{'s' * (slides != 1)}"
    if np.array_equal(old.predictions.y_score, new.predictions.y_score) and np.array_equal(
        old.y_pred, new.y_pred
    ):
        return [
            f"**The same**: each of the {counts} has the same probability and predicted class as "
            "before."
        ]
    changes = compare_sides(old, new)
    single = [f"Caution: {SINGLE}.", ""] if are_single(new.predictions.slides) else []
    return [
        sentence(changes, counts),
        "",
        *single,
        *_note(changes, slides),
        *change_table(changes, before, after),
    ]


def read_side(revision: str | None) -> Pooled:
    """Return the test predictions of a revision and the predicted classes, sorted by path.

    Raises:
        UserError: it has none, they are neither in git nor in DVC's cache, or they are damaged.
    """
    name = revision or "the workspace"
    text = read_at(PREDICTIONS, revision)
    measures = read_at(MEASURES_FILE, revision)
    try:
        threshold = parse_json(measures).get("threshold")
    except (ValueError, AttributeError) as error:
        raise damaged(f"{MEASURES_FILE} of {name}", error) from None
    found = parse_predictions(io.StringIO(text, newline=""), f"{PREDICTIONS} of {name}")
    if threshold is None or not len(found.paths):
        raise UserError(f"{name} has no test set: it is trained on all slides")
    order = np.argsort(found.paths)
    return Pooled(
        type(found)(*(column[order] for column in found)),
        is_positive(found.y_score[order], threshold),
    )


def _difference(old: Pooled, new: Pooled) -> str:
    """Return why the two have other glomeruli; empty if they are the same."""
    paths = [set(side.predictions.paths) for side in (old, new)]
    if paths[0] != paths[1]:
        shared = len(paths[0] & paths[1])
        return (
            f"the test sets differ, {len(paths[0])} glomeruli before and {len(paths[1])} now, "
            f"{shared} of them in both"
        )
    if relabeled := np.sum(old.predictions.y_true != new.predictions.y_true):
        return f"{relabeled} test glomeruli have another label now"
    if not np.array_equal(old.predictions.slides, new.predictions.slides):
        return "test glomeruli belong to other slides now"
    return ""


def compare_sides(old: Pooled, new: Pooled, replicates: int = REPLICATES) -> list[Change]:
    """Return the change of each measure, with intervals from a paired bootstrap over slides."""
    (before, after), (old_draws, new_draws) = measure_draws(
        [[old], [new]], WITH_INTERVALS, replicates, SEED
    )
    changes = []
    for name in WITH_INTERVALS:
        span = interval(differences(new_draws, old_draws, name), replicates) or {}
        changes.append(Change(name, before[name], after[name], span.get("low"), span.get("high")))
    return changes


def sentence(changes: Sequence[Change], counts: str) -> str:
    """Return the verdict by `METRIC`."""
    change = next(one for one in changes if one.measure == METRIC)
    if change.before is None or change.after is None or change.low is None:
        return f"**Not comparable**: {title(METRIC)} is not defined on these {counts}."
    return (
        f"**{change.word.capitalize()}**: {title(METRIC)} {change.after:.3f} after "
        f"{change.before:.3f}, difference {change.after - change.before:+.3f} (95 % interval "
        f"{change.low:+.3f} to {change.high:+.3f}, by slide), on {counts}."
    )


def _note(changes: Sequence[Change], slides: int) -> list[str]:
    widths = {
        one.measure: one.high - one.low
        for one in changes
        if one.low is not None and one.high is not None
    }
    return [text, ""] if (text := too_small(slides, widths)) else []


def change_table(changes: Sequence[Change], before: str, after: str) -> list[str]:
    """Return the measures as a table, with arrows and what the intervals say."""
    rows = []
    for one in changes:
        values = [
            "not defined" if value is None else f"{value:.3f}" for value in (one.before, one.after)
        ]
        difference = None if one.before is None or one.after is None else one.after - one.before
        arrow = "▲ " if difference and difference > 0 else "▼ " if difference else ""
        text = "" if difference is None else f"{difference:+.3f}"
        span = "" if one.low is None else f" ({one.low:+.3f} to {one.high:+.3f})"
        rows.append([title(one.measure), *values, text + span, arrow + one.word])
    return markdown_table(["", before, after, "difference (95 % interval)", ""], rows)
