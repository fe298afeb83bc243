"""Check a dataset and list it: data/<name>/ and its card -> data/manifest.csv, one row an image,
sorted by path.

Every image is opened once here, so that a folder's faults are found in the first minute and all in
one go. The stage is apart from `split` so that another fold, seed or `split.by` reads no image
again.
"""

from pathlib import Path

from stages.base.errors import run_program
from stages.base.files import write_table
from stages.base.parameters import read_dataset_name, read_params
from stages.dataset.card import read_dataset
from stages.dataset.cohort import MANIFEST
from stages.intake.crops import Glomerulus, Unreadable, make_manifest
from stages.intake.parameters import ManifestParameters

UNREADABLE = Path("metrics/unreadable.csv")
CROP_SIZES = Path("metrics/plots/crop_sizes.csv")
DRAWN_SIZES = 2000


def main() -> None:
    params = read_params("manifest", ManifestParameters)
    dataset = read_dataset(read_dataset_name())
    rows, unreadable = make_manifest(
        dataset, UNREADABLE, skip_unreadable=params.unreadable == "skip"
    )
    write_table(MANIFEST, Glomerulus._fields, rows)
    write_table(UNREADABLE, Unreadable._fields, unreadable)
    # A scatter of a million points is no picture: every n-th row, so that at most 2,000 are drawn.
    drawn = rows[:: -(-len(rows) // DRAWN_SIZES)]
    write_table(
        CROP_SIZES,
        ("width", "height", "label"),
        ((row.width, row.height, row.label) for row in drawn),
    )
    positives = sum(row.label for row in rows)
    slides = len({row.slide for row in rows})
    corrected = sum(row.label != row.published for row in rows)
    labels = f"; {corrected} labels corrected by {dataset.card.corrections}" if corrected else ""
    print(
        f"{dataset.card.title}: {len(rows)} glomeruli, {positives} of them globally sclerotic, {slides} slides{labels}"
    )


if __name__ == "__main__":
    run_program(main, __doc__)
