"""List crops of different slides, or with different labels, that look like copies of one picture.

The same picture in two slides leaks from training into the test set, and with two labels one of
them is wrong. Nothing is removed: metrics/near_duplicates.csv lists the pairs, and a sheet shows
them.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from stages.base.errors import run_program, warn
from stages.base.files import read_table, write_table
from stages.base.parameters import check
from stages.dataset.cohort import MANIFEST, SQUARES_CARD, open_squares, read_squares_card
from stages.images.parameters import PadParameters
from stages.images.sheets import contact_sheet, save_png
from stages.images.similarity import patterns, similar_pairs
from stages.images.squares import content_box
from stages.workers.progress import progress

PAIRS = Path("metrics/near_duplicates.csv")
SHEET = Path("metrics/plots/near_duplicates.png")
SHOWN = 24


class Pair(NamedTuple):
    """Two crops that look alike; the similarity is at most 1."""

    path: str
    label: str
    slide: str
    other_path: str
    other_label: str
    other_slide: str
    similarity: float

    def describe(self) -> str:
        """Return the pair in words."""
        return (
            f"{self.path} (label {self.label}, slide {self.slide}) and "
            f"{self.other_path} (label {self.other_label}, slide {self.other_slide})"
        )


def main() -> None:
    columns = ("path", "label", "slide", "width", "height")
    paths, labels, slides, widths, heights = read_table(MANIFEST, columns)
    squares, card = open_squares(), read_squares_card()
    padding = check({"mode": card.mode, "size": card.size}, PadParameters, str(SQUARES_CARD))

    def content(row: int) -> np.ndarray:
        crop = int(widths[row]), int(heights[row])
        left, top, width, height = content_box(crop, padding.mode, padding.size)
        return squares[row, top : top + height, left : left + width]

    rows = progress(range(len(paths)), desc="comparing", unit="crop")
    similar = similar_pairs(patterns(content(row) for row in rows))
    crossing = [
        (i, j, similarity)
        for i, j, similarity in similar
        if (labels[i], slides[i]) != (labels[j], slides[j])
    ]
    pairs = [
        Pair(paths[i], labels[i], slides[i], paths[j], labels[j], slides[j], similarity)
        for i, j, similarity in crossing
    ]
    write_table(PAIRS, Pair._fields, pairs)
    warn(f"two crops look alike, see {SHEET}", [pair.describe() for pair in pairs])

    shown = [row for i, j, _ in crossing[:SHOWN] for row in (i, j)]
    captions = [
        f"label {labels[row]}, slide {slides[row]}\n{Path(paths[row]).name}" for row in shown
    ]
    found = f"Pairs across slides or labels that look alike: {len(pairs)}"
    heading = f"{found}, of which {len(shown) // 2} are shown."
    pictures = [Image.fromarray(content(row)) for row in shown]
    save_png(SHEET, contact_sheet(pictures, captions, columns=min(8, len(shown)), heading=heading))
    print(f"{len(pairs)} near-duplicates across slides or labels among {len(paths)} crops: {PAIRS}")


if __name__ == "__main__":
    run_program(main, __doc__)
