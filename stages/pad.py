"""Make every crop square and resize it: the images of data/manifest.csv -> data/padded/images.npy.

Row i is row i of the manifest. Crops with the pixels of one in the previous output are not padded
again (`growing_array`). If the environment variable DASK_SCHEDULER_ADDRESS names a Dask
cluster, its workers pad, with the same bytes.
"""

from pathlib import Path

import numpy as np

from stages.base.errors import run_program
from stages.base.files import read_table
from stages.base.fingerprint import code_files, fingerprint
from stages.base.packages import installed_versions
from stages.base.parameters import read_dataset_name, read_params
from stages.dataset.cohort import IMAGES, MANIFEST, open_squares, write_squares_card
from stages.images.padding import Crop, pad_all, padding_picture
from stages.images.parameters import PadParameters
from stages.images.sheets import save_png
from stages.workers.cluster import scheduler_address
from stages.workers.growing import growing_array, row_keys

PICTURE = Path("metrics/plots/padding.png")


def main() -> None:
    params = read_params("pad", PadParameters)
    mode, size = params.mode, params.size
    folder = Path("data") / read_dataset_name()
    columns = ("path", "label", "width", "height", "pixels_sha256")
    paths, labels, widths, heights, pixels = read_table(MANIFEST, columns)
    crops = [Crop(folder / path, digest) for path, digest in zip(paths, pixels)]
    made_with = [mode, size, installed_versions("images", "numbers")]
    keys = row_keys(fingerprint(made_with, code_files()), pixels)
    with growing_array(IMAGES, keys, (size, size, 3), np.uint8) as rows:
        new = len(rows.missing)
        pad_all(crops, mode, size, rows, scheduler_address())
    write_squares_card(mode, size)
    shown = padding_picture(folder, paths, labels, widths, heights, open_squares(), mode)
    save_png(PICTURE, shown)
    print(f"{len(paths)} crops ({new} new), {mode}, {size} x {size}: {IMAGES}")


if __name__ == "__main__":
    run_program(main, __doc__)
