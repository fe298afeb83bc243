"""Whether a change made the model better: the sentence and the table at the top of a report."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from stages.base.errors import UserError
from stages.comparison.differences import LEVEL, paired
from stages.comparison.revisions import Outputs, has_results, read_external, read_test
from stages.dataset.cohort import SINGLE, are_single
from stages.experiments.commands import output_of
from stages.experiments.markdown import markdown_table, three_digits
from stages.experiments.sides import (
    State,
    changed_pixels,
    moved_crops,
    other_folds,
    read_state,
    refuse_stale,
)
from stages.measures.influence import Sample
from stages.measures.intervals import Difference, estimate
from stages.measures.scores import WITHIN_FOLDS, Outcome, outcome, sign, title
from stages.measures.sizes import too_small

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
    """A measure before and after; `sign` is 1 if higher is better, -1 if lower is better."""

    name: str
    before: float | None
    after: float | None
    difference: Difference
    word: Outcome | Literal["the same"]
    sign: int


def verdict(before: str, after: str | None) -> list[str]:
    """Return, as Markdown, whether a revision (None: the workspace) is better than another."""
    try:
        for side in (before, after):
            refuse_stale(side)
        states = [read_state(side) for side in (before, after)]
        names = [_named(before), _named(after)]
        if states[0].by != states[1].by:
            raise UserError(f"kept apart by {states[0].by} before, {states[1].by} now")
        if states[0].is_locked != states[1].is_locked:
            raise UserError("the test set is a fold on one side, and locked on the other")
        folds, notes = _common_folds(states, names)
        for pair in zip(*folds):
            if moved := moved_crops(*pair):
                raise UserError(
                    f"{len(moved)} glomeruli, such as `{moved[0]}`, were tested in this fold on "
                    "one side only: the folds were drawn anew (split.kept_folds keeps them)"
                )
        old, new = (read_test(side) for side in folds)
        old, new, others = on_common_crops(old, new)
        notes += others
        groups = [Group("", [old], [new], by_site=states[0].by == "site")]
        refuse_other_crops(groups[0])
        if changed := changed_pixels(before, after, new.crops):
            example = f"such as `{changed[0]}`"
            raise UserError(f"{len(changed)} test glomeruli have other pixels now, {example}")
        for name in states[0].external():
            try:
                groups.append(_external(name, folds))
            except UserError as error:
                notes.append(f"External dataset `{name}` is not compared: {error}.")
        whole = int(states[1].params["split"]["folds"])
        tested = [state.fold for state in folds[1]]
        of_folds = f"Test {_folds(tested).lower()} of {whole}."
        notes.insert(0, "Locked test set." if states[0].is_locked else of_folds)
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

    Without a common fold, each side has only its own, and the verdict names the other test sets.
    """
    found, notes = [], []
    for side, name in zip(states, names):
        others = other_folds(side)
        with_results = [state for state in others if has_results(state)]
        if without := sorted({state.fold for state in others if state not in with_results}):
            notes.append(f"{_folds(without)} ran for {name}, but the results are not here.")
        found.append({state.fold: state for state in (side, *with_results)})
    common = sorted(found[0].keys() & found[1].keys())
    notes += [
        f"{_folds(own)} ran for {name} only."
        for name, side in zip(names, found)
        if common and (own := sorted(side.keys() - set(common)))
    ]
    if not common:
        return [[state] for state in states], []
    return [[side[fold] for fold in common] for side in found], notes


def _folds(numbers: Sequence[int]) -> str:
    return f"Fold{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _external(name: str, folds: Sequence[Sequence[State]]) -> Group:
    """Return a dataset in `external` as measured by the models of both sides.

    Raises:
        UserError: it was not measured on both sides, or on other crops.
    """
    both = [pair for pair in zip(*folds) if all(name in state.external() for state in pair)]
    if not both:
        raise UserError("it was not measured on both sides")
    used = [
        {one["path"]: one["md5"] for one in state.stages[f"external@{name}"]["deps"]}
        for pair in both
        for state in pair
    ]
    if len({(one.get(f"data/{name}"), one.get(f"data/{name}.yaml")) for one in used}) > 1:
        raise UserError("it has changed")
    old, new = (read_external(name, side) for side in zip(*both))
    refuse_other_crops(group := Group(name, old, new))
    return group


def verdict_on_groups(
    groups: Sequence[Group], before: str, after: str, notes: Sequence[str] = ()
) -> list[str]:
    """Return the verdict on predictions for the same crops of two sides, `before` and `after`."""
    test, sample = groups[0], groups[0].new[0].sample
    slides, positives = (
        len(np.unique(one)) for one in (sample.slides, sample.slides[sample.y_true == 1])
    )
    unit = ("site" if test.by_site else "slide") + "s" * (slides != 1)
    counts = f"{len(sample.y_true)} test glomeruli of {slides} {unit}"
    counts += "".join(
        f", {len(group.new[0].sample.y_true)} of `{group.where}`" for group in groups[1:]
    )
    on = " ".join([f"`{after}` against `{before}`, on {counts}.", *notes])
    pairs = [pair for group in groups for pair in zip(group.old, group.new)]
    if all(
        np.array_equal(old.sample.y_score, new.sample.y_score)
        and np.array_equal(old.sample.y_pred, new.sample.y_pred)
        and np.array_equal(old.decided, new.decided)
        for old, new in pairs
    ):
        same = "has the same probability and predicted class as before"
        return [f"**The same**: each of the {counts} {same}.", "", on]
    changes = compare_groups(groups)
    cautions = []
    if not test.by_site:
        cautions += [f"Caution: {SINGLE}."] * are_single(sample.slides)
        cautions.append(too_small(slides, positives, _widths(changes)))
    lines = [sentence(changes), "", on, ""]
    for caution in filter(None, cautions):
        lines += [caution, ""]
    return lines + change_table(changes, before, after)


def _widths(changes: Sequence[Change]) -> dict[str, float | None]:
    """Return the widths of the intervals of the test set's measures, except of equal ones."""
    found = {name: one for name, one in zip(MEASURES, changes) if one.word != "the same"}
    limits = {name: (one.difference.low, one.difference.high) for name, one in found.items()}
    return {
        name: None if low is None or high is None else high - low
        for name, (low, high) in limits.items()
    }


def on_common_crops(old: Outputs, new: Outputs) -> tuple[Outputs, Outputs, list[str]]:
    """Return what both sides tested, and a note on the rest, as after slides were added.

    Raises:
        UserError: they have no test glomerulus in common.
    """
    common, rows, now = np.intersect1d(old.crops, new.crops, return_indices=True)
    if not len(common):
        raise UserError("the test sets have no glomerulus in common")
    more = len(old.crops) - len(common), len(new.crops) - len(common)
    if not any(more):
        return old, new, []
    note = f"{more[0]} glomeruli were tested before only, {more[1]} now only."
    return old.at(rows), new.at(now), [note]


def refuse_other_crops(group: Group) -> None:
    """Raise `UserError` if the two sides have other glomeruli, labels or slides."""
    old, new = group.old[0].sample, group.new[0].sample
    paths = [set(side[0].crops) for side in (group.old, group.new)]
    if paths[0] != paths[1]:
        raise UserError(
            f"the test sets differ, {len(paths[0])} glomeruli before and {len(paths[1])} now, "
            f"{len(paths[0] & paths[1])} of them in both"
        )
    if relabeled := np.sum(old.y_true != new.y_true):
        raise UserError(f"{relabeled} test glomeruli have another label now")
    if not np.array_equal(old.slides, new.slides):
        raise UserError("test glomeruli belong to other slides now")


def compare_groups(groups: Sequence[Group]) -> list[Change]:
    """Return the changes, with intervals at a level at which with 95 % all hold (Bonferroni)."""
    level = 1 - (1 - LEVEL) / (len(groups) * (len(MEASURES) + 2))
    return [change for group in groups for change in _changes(group, level)]


def _changes(group: Group, level: float) -> list[Change]:
    where = f" on {group.where}" if group.where else ""

    def change(name: str, measure: str, direction: int, of: Callable[[Outputs], Sample]) -> Change:
        old, new = ([of(one) for one in side] for side in (group.old, group.new))
        found = paired(measure, new, old, level, group.by_site)
        before, after = (estimate(measure, side).value for side in (old, new))
        is_same = found.low == found.high == 0
        word = "the same" if is_same else outcome(direction, found.low, found.high)
        return Change(name + where, before, after, found, word, direction)

    ranking = WITHIN_FOLDS if group.new[0].folds > 1 else "roc_auc"
    return [
        *(
            change(title(name), name, sign(name), lambda tested: tested.sample)
            for name in (ranking, *MEASURES[1:])
        ),
        change(COVERAGE, "accuracy", 1, lambda tested: _share(tested, tested.decided)),
        change(WRONG, "accuracy", -1, lambda tested: _share(tested, tested.is_wrong())),
    ]


def _share(tested: Outputs, flags: np.ndarray) -> Sample:
    """Return a sample whose accuracy is the share of crops with a flag."""
    ones = np.ones(len(flags), dtype=np.int64)
    return tested.sample._replace(y_true=ones, y_pred=flags.astype(np.int64))


def sentence(changes: Sequence[Change]) -> str:
    """Return the verdict on all changes together."""
    # By how much each may have become worse.
    worst = {
        one.name: -min(one.sign * one.difference.low, one.sign * one.difference.high)
        for one in changes
        if one.difference.low is not None and one.difference.high is not None
    }
    if not worst:
        return f"**Not settled**: no difference has an interval ({changes[0].difference.reason})."
    better, worse = (
        [f"{one.name} ({one.before:.3f} to {one.after:.3f})" for one in changes if one.word == word]
        for word in ("better", "worse")
    )
    if better and worse:
        return f"**Better and worse**: better in {_and(better)}; worse in {_and(worse)}."
    if better or worse:
        word, found = ("better", better) if better else ("worse", worse)
        return f"**{word.capitalize()}** in {_and(found)}; no other difference is beyond chance."
    open_ones = [f"{most:.3f} in {name}" for name, most in worst.items() if most > 0]
    return (
        f"**Not settled**: no difference is beyond chance. The intervals allow it to be worse by "
        f"{_and(open_ones)}."
    )


def _and(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def change_table(changes: Sequence[Change], before: str, after: str) -> list[str]:
    """Return the measures as a table, with arrows and what the intervals say."""
    level = 1 - (1 - LEVEL) / len(changes)
    rows = []
    for one in changes:
        _, value, low, high, *_, reason = one.difference
        sides = three_digits(one.before), three_digits(one.after)
        arrow = "▲ " if value and value > 0 else "▼ " if value else ""
        text = "" if value is None else f"{value:+.3f}"
        span = f" ({reason})" if low is None else f" ({low:+.3f} to {high:+.3f})"
        rows.append([one.name, *sides, text + span, arrow + one.word])
    heading = f"difference ({100 * level:.3g} % interval)"
    return [
        *markdown_table(["", before, after, heading, ""], rows),
        "",
        f"With 95 %, the intervals of these {len(changes)} differences all hold at once. "
        f'"{WRONG.capitalize()}" is a share of all glomeruli.',
    ]
