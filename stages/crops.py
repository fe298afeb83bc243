"""Open every image of a dataset once: data/<name>/ -> data/crops.csv, one row per image.

The rows are sorted by path, and know no labels: `manifest` adds these, and opens no image, so that
a corrected label costs seconds. `pad` and `features` work on all crops, for the same reason. Files
that opened in the last run are only read, not decoded. A row says why an image does not open;
`manifest` refuses it if it has a label.
"""

from stages.base.errors import run_program
from stages.base.fingerprint import code_files, fingerprint
from stages.base.packages import installed_versions
from stages.base.parameters import read_dataset_name
from stages.dataset.card import read_dataset
from stages.dataset.crops import CROPS, write_files
from stages.intake.committed import warn_if_uncommitted
from stages.intake.opened import open_files, opened_before
from stages.workers.growing import row_keys, write_keys


def main() -> None:
    # The card decides nothing here, but it is refused before all images are opened.
    dataset = read_dataset(read_dataset_name())
    for one in (dataset, *dataset.shards):
        warn_if_uncommitted(one)
    code = fingerprint(installed_versions("images", "numbers"), code_files())
    known = opened_before(code)
    files = open_files(dataset.folder, known)
    write_files(dataset.name, files)
    write_keys(CROPS, row_keys(code, (crop.sha256 for crop in files.crops)))
    unreadable = sum(bool(crop.problem) for crop in files.crops)
    not_open = f", {unreadable} of which do not open" if unreadable else ""
    new = sum(crop.sha256 not in known for crop in files.crops)
    print(f"{len(files.crops)} images ({new} new){not_open}: {CROPS}")


if __name__ == "__main__":
    run_program(main, __doc__)
