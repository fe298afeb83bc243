"""The climb as lines, as a page and as a table."""

from collections.abc import Sequence
from pathlib import Path

from stages.base.files import write_table
from stages.experiments.markdown import markdown_table
from stages.ladder.decisions import Verdict, best_of
from stages.ladder.parameters import ClimbParameters
from stages.measures.scores import title


def say(decision: Verdict, params: ClimbParameters) -> None:
    """Print a decision with the numbers behind it."""
    rung = decision.rung
    gap = rung.training_auc - rung.validation_auc
    against = (
        ""
        if decision.better is None
        else f", better than the best before in {decision.better:.1%} of the draws"
    )
    print(
        f"{rung.step} ({rung.reached_by}): {title(params.measure)} on validation {decision.value:.3f} "
        f"({decision.low:.3f}-{decision.high:.3f}){against}: {'improves' if decision.improves else 'does not improve'}\n"
        f"   last epochs: ROC AUC in training {rung.training_auc:.3f}, on validation {rung.validation_auc:.3f} "
        f"(gap {gap:+.3f}, limit {params.gap}); validation loss {rung.upturn:.0%} above its lowest "
        f"(limit {params.upturn:.0%}): {'overfits' if rung.overfits else 'does not overfit'}",
        flush=True,
    )


def table(decisions: Sequence[Verdict], params: ClimbParameters) -> str:
    """Return the climb as a Markdown table."""
    best = best_of(decisions)
    columns = (
        "step",
        "reached by",
        f"{title(params.measure)} on validation",
        "better than the best before",
        "gap",
        "upturn",
        "",
    )
    rows = []
    for decision in decisions:
        rung = decision.rung
        notes = (
            ["overfits"] * rung.overfits
            + ["improves"] * decision.improves
            + ["**best**"] * (decision is best)
        )
        row = (
            f"`{rung.step}`",
            rung.reached_by,
            f"{decision.value:.3f} ({decision.low:.3f}-{decision.high:.3f})",
            "" if decision.better is None else f"{decision.better:.1%}",
            f"{rung.training_auc - rung.validation_auc:+.3f}",
            f"{rung.upturn:.0%}",
            ", ".join(notes),
        )
        rows.append(row)
    return "\n".join(markdown_table(columns, rows)) + "\n"


def write_decisions(path: Path, decisions: Sequence[Verdict]) -> None:
    """Write the decisions as a table, a row for each rung."""
    rows = [
        {
            "step": one.rung.step,
            "reached_by": one.rung.reached_by,
            "validation": one.value,
            "low": one.low,
            "high": one.high,
            "better": one.better,
            "improves": one.improves,
            "training_auc": one.rung.training_auc,
            "validation_auc": one.rung.validation_auc,
            "upturn": one.rung.upturn,
            "overfits": one.rung.overfits,
        }
        for one in decisions
    ]
    write_table(path, list(rows[0]), [list(row.values()) for row in rows])
