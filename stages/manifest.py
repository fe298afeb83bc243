"""Check a dataset and list it: data/<name>/ and its card -> data/manifest.csv, one row per image.

Every image is opened here once, so that all faults of a folder are reported in the first minute, in
one go. The rows are sorted by path. `split` is another stage, so that another fold, seed or
`split.by` reads no image again; data/card.json holds what the other stages use of the card.
"""

from pathlib import Path

from stages.base.errors import run_program
from stages.base.files import write_table
from stages.base.parameters import read_dataset_name, read_params
from stages.dataset.card import read_dataset
from stages.dataset.cohort import MANIFEST
from stages.dataset.used_card import write_used_card
from stages.intake.crops import ManifestRow, Unreadable, make_manifest
from stages.intake.parameters import ManifestParameters

UNREADABLE = Path("metrics/unreadable.csv")
CROP_SIZES = Path("metrics/plots/crop_sizes.csv")
DRAWN_SIZES = 2000  # points of the scatter plot, at most


def main() -> None:
    params = read_params("manifest", ManifestParameters)
    dataset = read_dataset(read_dataset_name())
    card = dataset.card
    rows, unreadable = make_manifest(dataset, UNREADABLE, params.skips_unreadable)
    write_table(MANIFEST, ManifestRow._fields, rows)
    write_used_card(dataset.name, card.title, card.classes, card.group)
    write_table(UNREADABLE, Unreadable._fields, unreadable)
    drawn = rows[:: -(-len(rows) // DRAWN_SIZES)]
    sizes = ((row.width, row.height, row.label) for row in drawn)
    write_table(CROP_SIZES, ("width", "height", "label"), sizes)
    positives = sum(row.label for row in rows)
    slides = len({row.slide for row in rows})
    corrected = sum(row.label != row.published for row in rows)
    labels = f"; {corrected} labels corrected by {card.corrections}" if corrected else ""
    counts = f"{len(rows)} glomeruli, {positives} of them globally sclerotic, {slides} slides"
    print(f"{card.title}: {counts}{labels}")


if __name__ == "__main__":
    run_program(main, __doc__)
