"""Measures and tables in Markdown, as GitHub and GitLab show them."""

from collections.abc import Iterable, Sequence

from stages.measures.scores import title

BY_SITE = ("site", "measure", "value", "low", "high", "glomeruli", "slides")


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


def site_table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the measures of each site as a table.

    Args:
        rows: the columns `BY_SITE` of metrics/sites.csv.
    """
    columns = ("site", "measure", "value", "95 % interval over its slides", "crops", "slides")
    cells = []
    for site, measure, value, low, high, crops, slides in rows:
        shown = f"{float(value):.3f}" if value else "not defined"
        limits = f"{float(low):.3f} to {float(high):.3f}" if low else "none"
        cells.append([site, title(measure), shown, limits, crops, slides])
    return markdown_table(columns, cells)
