"""Measures and tables in Markdown, as GitHub and GitLab show them."""

from collections.abc import Sequence


def three_digits(value: float | None) -> str:
    """Return a measure as text."""
    return "not defined" if value is None else f"{value:.3f}"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(map(as_cell, cells))} |" for cells in lines]


def as_cell(text: str) -> str:
    """Return a text as it can be in a table: a vertical bar would begin the next cell."""
    return text.replace("|", r"\|")
