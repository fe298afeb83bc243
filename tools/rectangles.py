"""Derive a dataset in which padding matters from `aidpath`, whose crops were published as squares.

    python -m tools.rectangles

shrinks each crop of data/aidpath/ in width or in height, chosen by a seeded draw, to 60 to 95 %,
and writes data/rectangles/ with its card: real glomeruli in crops that are not square. The draw
does not know the label, so the shape of a crop says nothing about it.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from stages.base.files import replacing
from stages.images.sheets import save_png

SOURCE, TARGET = Path("data/aidpath"), Path("data/rectangles")
LEAST, MOST = 0.60, 0.95


def main() -> None:
    random = np.random.default_rng(0)
    for path in tqdm(sorted(SOURCE.glob("*/*.png")), unit="image"):
        with Image.open(path) as crop:
            sides = np.array(crop.size)
            sides[random.integers(2)] *= random.uniform(LEAST, MOST)
            save_png(
                TARGET / path.relative_to(SOURCE),
                crop.convert("RGB").resize(tuple(sides.tolist()), Image.Resampling.LANCZOS),
            )
    title = "AIDPATH kidney glomeruli in crops that are not square, derived by tools/rectangles.py"
    rest = SOURCE.with_suffix(".yaml").read_text(encoding="utf-8").splitlines(keepends=True)[1:]
    with replacing(TARGET.with_suffix(".yaml")) as card:
        card.write(f"title: {title}\n" + "".join(rest))


if __name__ == "__main__":
    main()
