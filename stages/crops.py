"""Open every image of a dataset once: data/<name>/ -> data/crops.csv, one row per image.

The rows are sorted by path, and know no labels: `manifest` adds these, and opens no image, so that
a corrected label costs seconds. `pad` and `features` work on all crops, for the same reason. A row
says why an image does not open; `manifest` refuses it if it has a label.
"""

from stages.base.errors import run_program
from stages.base.parameters import read_dataset_name
from stages.dataset.card import read_dataset
from stages.dataset.crops import CROPS, write_files
from stages.intake.committed import warn_if_uncommitted
from stages.intake.opened import open_files


def main() -> None:
    # The card decides nothing here, but it is refused before all images are opened.
    dataset = read_dataset(read_dataset_name())
    warn_if_uncommitted(dataset)
    files = open_files(dataset.folder)
    write_files(dataset.name, files)
    unreadable = sum(bool(crop.problem) for crop in files.crops)
    not_open = f", {unreadable} of which do not open" if unreadable else ""
    print(f"{len(files.crops)} images{not_open}: {CROPS}")


if __name__ == "__main__":
    run_program(main, __doc__)
