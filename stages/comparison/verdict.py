"""Whether a change made the model better: the sentence and the table at the top of a report."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from stages.base.errors import UserError
from stages.comparison.differences import LEVEL, paired
from stages.comparison.revisions import Outputs, read_external, read_test
from stages.dataset.cohort import SINGLE, are_single
from stages.experiments.commands import output_of
from stages.experiments.markdown import markdown_table
from stages.experiments.sides import (
    State,
    changed_pixels,
    other_folds,
    read_state,
    refuse_stale,
)
from stages.measures.influence import Sample
from stages.measures.intervals import estimate, too_small
from stages.measures.scores import WITHIN_FOLDS, Outcome, outcome, sign, title

# Discrimination, calibration and decisions at the threshold; then coverage, and the errors that
# buy it.
MEASURES = ("roc_auc", "brier", "sensitivity", "specificity")
COVERAGE, WRONG = "coverage", "decided and wrong"


class Group(NamedTuple):
    """Predictions of both sides for the same crops, by one model each or several.

    `where` is empty for the test set, and the name of a dataset in `external`. With `by_site`,
    `slides` of the samples are sites.
    """

    where: str
    old: Sequence[Outputs]
    new: Sequence[Outputs]
    by_site: bool = False


class Change(NamedTuple):
    """A measure before and after, and the interval of its difference; None if undefined."""

    name: str
    before: float | None
    after: float | None
    low: float | None
    high: float | None
    word: Outcome | Literal["the same"]
    reason: str
    # 1 if higher is better, -1 if lower is better.
    sign: int

    def worst(self) -> float:
        """Return by how much it may have become worse."""
        if self.low is None or self.high is None:
            return 0.0
        return max(0.0, -min(self.sign * self.low, self.sign * self.high))


def verdict(before: str, after: str | None) -> list[str]:
    """Return, as Markdown, whether a revision (None: the workspace) is better than another."""
    try:
        for side in (before, after):
            refuse_stale(side)
        states = [read_state(side) for side in (before, after)]
        names = [_named(before), _named(after)]
        if states[0].by != states[1].by:
            return [f"**Not comparable**: kept apart by {states[0].by} before, {states[1].by} now."]
        folds, notes = _common_folds(states, names)
        old, new = ([read_test(side)] for side in folds)
        group = Group("", old, new, by_site=states[0].by == "site")
        groups = [group]
        if not _other_crops(group) and (
            changed := changed_pixels(before, after, group.new[0].crops)
        ):
            return [
                f"**Not comparable**: {len(changed)} test glomeruli have other pixels now, such as "
                f"`{changed[0]}`."
            ]
        for name in states[0].external():
            found, problem = _external(name, folds)
            groups += found
            notes += [problem] if problem else []
        whole = int(states[1].params["split"]["folds"])
        tested = [state.fold for state in folds[1]]
        notes.insert(
            0, f"Test fold{'s' * (len(tested) > 1)} {', '.join(map(str, tested))} of {whole}."
        )
        return verdict_on_groups(groups, names[0], names[1], notes)
    except UserError as error:
        return [f"**Not comparable**: {error}."]


def _named(revision: str | None) -> str:
    commit = output_of(["git", "rev-parse", "--short", f"{revision or 'HEAD'}^{{commit}}"]).strip()
    return f"the workspace, from {commit}" if revision is None else f"{revision} ({commit})"


def _common_folds(
    states: Sequence[State], names: Sequence[str]
) -> tuple[list[list[State]], list[str]]:
    """Return the folds that both sides tested, and notes on others.

    If there is none, each side's own fold is returned: other test sets are then said.
    """
    found = [{state.fold: state for state in (side, *other_folds(side))} for side in states]
    common = sorted(found[0].keys() & found[1].keys())
    notes = [
        f"Fold{'s' * (len(alone) > 1)} {', '.join(map(str, alone))} ran for {name} only."
        for name, side in zip(names, found)
        if common and (alone := sorted(side.keys() - set(common)))
    ]
    if not common:
        return [[state] for state in states], []
    return [[side[fold] for fold in common] for side in found], notes


def _external(name: str, folds: Sequence[Sequence[State]]) -> tuple[list[Group], str]:
    """Return a dataset in `external` as measured by the models of both sides, or why not."""
    both = [pair for pair in zip(*folds) if all(name in state.external() for state in pair)]
    if not both:
        return [], f"External dataset `{name}` was not measured on both sides."
    used = [
        {one["path"]: one["md5"] for one in state.stages[f"external@{name}"]["deps"]}
        for pair in both
        for state in pair
    ]
    if len({(one.get(f"data/{name}"), one.get(f"data/{name}.yaml")) for one in used}) > 1:
        return [], f"External dataset `{name}` has changed: not compared."
    old, new = (read_external(name, side) for side in zip(*both))
    group = Group(name, old, new)
    if problem := _other_crops(group):
        return [], f"External dataset `{name}` is not compared: {problem}."
    return [group], ""


def verdict_on_groups(
    groups: Sequence[Group], before: str, after: str, notes: Sequence[str] = ()
) -> list[str]:
    """Return the verdict on predictions of two sides with the names `before` and `after`."""
    test = groups[0]
    if problem := _other_crops(test):
        return [f"**Not comparable**: {problem}."]
    sample = test.new[0].sample
    unit = "site" if test.by_site else "slide"
    counts = f"{len(sample.y_true)} test glomeruli of {_count(len(np.unique(sample.slides)), unit)}"
    counts += "".join(
        f", {len(group.new[0].sample.y_true)} of `{group.where}`" for group in groups[1:]
    )
    on = " ".join([f"`{after}` against `{before}`, on {counts}.", *notes])
    if all(_same(*pair) for group in groups for pair in zip(group.old, group.new)):
        return [
            f"**The same**: each of the {counts} has the same probability and predicted class as "
            "before.",
            "",
            on,
        ]
    changes = compare_groups(groups)
    single = [f"Caution: {SINGLE}.", ""] if are_single(sample.slides) and not test.by_site else []
    return [
        sentence(changes),
        "",
        on,
        "",
        *single,
        *_note(changes[: len(MEASURES)], sample, test.by_site),
        *change_table(changes, before, after),
    ]


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}{'s' * (number != 1)}"


def _same(old: Outputs, new: Outputs) -> bool:
    return all(
        np.array_equal(a, b)
        for a, b in (
            (old.sample.y_score, new.sample.y_score),
            (old.sample.y_pred, new.sample.y_pred),
            (old.decided, new.decided),
        )
    )


def _other_crops(group: Group) -> str:
    """Return why the two sides have other glomeruli; empty if they are the same."""
    old, new = group.old[0].sample, group.new[0].sample
    paths = [set(side[0].crops) for side in (group.old, group.new)]
    if paths[0] != paths[1]:
        return (
            f"the test sets differ, {len(paths[0])} glomeruli before and {len(paths[1])} now, "
            f"{len(paths[0] & paths[1])} of them in both"
        )
    if relabeled := np.sum(old.y_true != new.y_true):
        return f"{relabeled} test glomeruli have another label now"
    if not np.array_equal(old.slides, new.slides):
        return "test glomeruli belong to other slides now"
    return ""


def compare_groups(groups: Sequence[Group]) -> list[Change]:
    """Return the changes, with intervals at a level at which with 95 % all hold (Bonferroni)."""
    level = 1 - (1 - LEVEL) / (len(groups) * (len(MEASURES) + 2))
    return [change for group in groups for change in _changes(group, level)]


def _changes(group: Group, level: float) -> list[Change]:
    several = group.new[0].folds > 1
    samples = [[one.sample for one in side] for side in (group.new, group.old)]
    pairs: list[tuple[str, str, int, list[list[Sample]]]] = []
    for name in MEASURES:
        measure = WITHIN_FOLDS if name == "roc_auc" and several else name
        pairs.append((title(measure), measure, sign(measure), samples))
    for name, direction, share in ((COVERAGE, 1, _is_decided), (WRONG, -1, _is_wrong)):
        shares = [[share(one) for one in side] for side in (group.new, group.old)]
        pairs.append((name, "accuracy", direction, shares))
    found = []
    for name, measure, direction, (ours, theirs) in pairs:
        one = paired(measure, ours, theirs, level, group.by_site)
        before, after = (_value(measure, side) for side in (theirs, ours))
        word = "the same" if one.low == one.high == 0 else outcome(direction, one.low, one.high)
        where = f" on {group.where}" if group.where else ""
        found.append(
            Change(name + where, before, after, one.low, one.high, word, one.reason, direction)
        )
    return found


def _value(measure: str, samples: Sequence[Sample]) -> float | None:
    return estimate(measure, samples).value


def _is_decided(tested: Outputs) -> Sample:
    return _share(tested, tested.decided)


def _is_wrong(tested: Outputs) -> Sample:
    return _share(tested, tested.decided & (tested.sample.y_pred != tested.sample.y_true))


def _share(tested: Outputs, flags: np.ndarray) -> Sample:
    """Return a sample whose accuracy is the share of crops with a flag."""
    ones = np.ones(len(flags), dtype=np.int64)
    return tested.sample._replace(y_true=ones, y_pred=flags.astype(np.int64))


def sentence(changes: Sequence[Change]) -> str:
    """Return the verdict on all changes together."""
    known = [one for one in changes if one.low is not None]
    if not known:
        return f"**Not settled**: no difference has an interval ({changes[0].reason})."
    better, worse = (
        [_numbers(one) for one in known if one.word == word] for word in ("better", "worse")
    )
    if better and worse:
        return f"**Better and worse**: better in {_and(better)}; worse in {_and(worse)}."
    if better or worse:
        word, found = ("better", better) if better else ("worse", worse)
        return f"**{word.capitalize()}** in {_and(found)}; no other difference is beyond chance."
    open_ones = [f"{one.worst():.3f} in {one.name}" for one in known if one.worst()]
    return (
        f"**Not settled**: no difference is beyond chance. The intervals allow it to be worse by "
        f"{_and(open_ones)}."
    )


def _numbers(change: Change) -> str:
    return f"{change.name} ({change.before:.3f} to {change.after:.3f})"


def _and(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _note(changes: Sequence[Change], sample: Sample, by_site: bool) -> list[str]:
    widths = {
        name: None if one.low is None or one.high is None else one.high - one.low
        for name, one in zip(MEASURES, changes)
        if one.word != "the same"
    }
    slides, positives = (
        len(np.unique(one)) for one in (sample.slides, sample.slides[sample.y_true == 1])
    )
    text = "" if by_site else too_small(slides, positives, widths)
    return [text, ""] if text else []


def change_table(changes: Sequence[Change], before: str, after: str) -> list[str]:
    """Return the measures as a table, with arrows and what the intervals say."""
    level = 1 - (1 - LEVEL) / len(changes)
    rows = []
    for one in changes:
        values = [
            "not defined" if value is None else f"{value:.3f}" for value in (one.before, one.after)
        ]
        difference = None if one.before is None or one.after is None else one.after - one.before
        arrow = "▲ " if difference and difference > 0 else "▼ " if difference else ""
        text = "" if difference is None else f"{difference:+.3f}"
        span = f" ({one.reason})" if one.low is None else f" ({one.low:+.3f} to {one.high:+.3f})"
        rows.append([one.name, *values, text + span, arrow + one.word])
    heading = f"difference ({100 * level:.3g} % interval)"
    return [
        *markdown_table(["", before, after, heading, ""], rows),
        "",
        f"With 95 %, the intervals of these {len(changes)} differences all hold at once. "
        f'"{WRONG.capitalize()}" is a share of all glomeruli.',
    ]
