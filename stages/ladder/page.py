"""The climb as text and as a table."""

from collections.abc import Sequence
from pathlib import Path

from stages.base.files import write_table
from stages.experiments.markdown import markdown_table
from stages.ladder.decisions import RungDecision, best_of
from stages.ladder.parameters import ClimbParameters
from stages.measures.scores import title

COLUMNS = (
    *("step", "reached_by", "validation", "low", "high", "better", "improves"),
    *("training_auc", "validation_auc", "upturn", "overfits"),
)


def describe(decision: RungDecision, params: ClimbParameters) -> str:
    """Return two lines on a decision with the numbers behind it."""
    rung = decision.rung
    gap = rung.training_auc - rung.validation_auc
    against = (
        ""
        if decision.better is None
        else f", better than the best before with a confidence of {decision.better:.1%}"
    )
    return (
        f"{rung.step} ({rung.reached_by}): {title(params.measure)} on validation "
        f"{decision.value:.3f} ({decision.low:.3f}-{decision.high:.3f}){against}: "
        f"{'improves' if decision.improves else 'does not improve'}\n"
        f"   last epochs: ROC AUC in training {rung.training_auc:.3f}, on validation "
        f"{rung.validation_auc:.3f} (gap {gap:+.3f}, limit {params.gap}); validation loss "
        f"{rung.upturn:.0%} above its lowest (limit {params.upturn:.0%}): "
        f"{'overfits' if rung.overfits else 'does not overfit'}"
    )


def climb_table(decisions: Sequence[RungDecision], params: ClimbParameters) -> str:
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


def write_decisions(path: Path, decisions: Sequence[RungDecision]) -> None:
    """Write the decisions as a table, one row per rung."""
    rows = []
    for rung, *decided in decisions:
        fitted = (rung.training_auc, rung.validation_auc, rung.upturn, rung.overfits)
        rows.append((rung.step, rung.reached_by, *decided, *fitted))
    write_table(path, COLUMNS, rows)
