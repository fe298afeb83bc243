"""Make every crop square and resize it: the images of data/manifest.csv -> data/padded/images.npy.

Row i is row i of the manifest. If the environment variable DASK_SCHEDULER_ADDRESS names a Dask
cluster, its workers pad, with the same bytes.
"""

from pathlib import Path

from stages.base.errors import run_program
from stages.base.files import read_table
from stages.base.parameters import read_dataset_name, read_params
from stages.dataset.cohort import IMAGES, MANIFEST, open_squares, write_squares_card
from stages.images.padding import Crop, pad_all, padding_picture
from stages.images.parameters import PadParameters
from stages.images.sheets import save_png
from stages.workers.cluster import scheduler_address

PICTURE = Path("metrics/plots/padding.png")


def main() -> None:
    params = read_params("pad", PadParameters)
    mode, size = params.mode, params.size
    folder = Path("data") / read_dataset_name()
    columns = ("path", "label", "width", "height", "pixels_sha256")
    paths, labels, widths, heights, pixels = read_table(MANIFEST, columns)
    crops = [Crop(folder / path, digest) for path, digest in zip(paths, pixels)]
    pad_all(crops, mode, size, IMAGES, scheduler_address())
    write_squares_card(mode, size)
    shown = padding_picture(folder, paths, labels, widths, heights, open_squares(), mode)
    save_png(PICTURE, shown)
    print(f"{len(paths)} crops, {mode}, {size} x {size}: {IMAGES}")


if __name__ == "__main__":
    run_program(main, __doc__)
