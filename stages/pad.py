"""Make every crop square and resize it: the images of data/crops.csv -> data/padded/images.npy.

There is a row for each image that opens, whatever its label; data/padded/crops.csv names it. Crops
with the pixels of one in the previous output are not padded again (`growing_array`). If the
environment variable DASK_SCHEDULER_ADDRESS names a Dask cluster, its workers pad, with the same
bytes.
"""

from pathlib import Path

import numpy as np

from stages.base.errors import UserError, run_program
from stages.base.fingerprint import code_files, fingerprint
from stages.base.packages import installed_versions
from stages.base.parameters import read_dataset_name, read_params
from stages.dataset.cohort import IMAGES, open_all_squares, write_squares_card
from stages.dataset.crops import CROPS, read_crops
from stages.images.archives import locate
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
    crops = [crop for crop in read_crops() if not crop.problem]
    if not crops:
        raise UserError(f"{CROPS}: no image of {folder} opens; the table says why")
    files = [Crop(locate(folder, crop.path), crop.pixels_sha256) for crop in crops]
    made_with = [mode, size, installed_versions("images", "numbers")]
    of_all = fingerprint(made_with, code_files())
    keys = row_keys(of_all, (crop.pixels_sha256 for crop in crops))
    with growing_array(IMAGES, keys, (size, size, 3), np.uint8) as rows:
        new = len(rows.missing)
        pad_all(files, mode, size, rows, scheduler_address())
    write_squares_card(mode, size, crops)
    sizes = [(crop.width, crop.height) for crop in crops]
    shown = padding_picture([crop.file for crop in files], sizes, open_all_squares(), mode)
    save_png(PICTURE, shown)
    print(f"{len(crops)} crops ({new} new), {mode}, {size} x {size}: {IMAGES}")


if __name__ == "__main__":
    run_program(main, __doc__)
