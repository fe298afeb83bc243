"""The climb as lines, as a page and as a table."""

from collections.abc import Sequence
from pathlib import Path

from stages.base.files import write_table
from stages.ladder.decisions import Decision, best_of
from stages.ladder.rungs import ClimbParameters
from stages.measures.scores import title


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
