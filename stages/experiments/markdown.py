"""Measures and tables in Markdown, as GitHub and GitLab show them."""

from collections.abc import Sequence


def three_digits(value: float | None) -> str:
    """Return a measure as text."""
    return "not defined" if value is None else f"{value:.3f}"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]
