"""Make every crop square and resize it: the images of data/manifest.csv -> data/padded/images.npy, row i = manifest row i."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from stages.cohort import IMAGES, MANIFEST, open_padded
from stages.errors import UserError, refuse, run_stage
from stages.files import read_table, replacing
from stages.images import load_image
from stages.parallel import on_all_cores
from stages.params import read_dataset_name, read_params
from stages.pictures import contact_sheet, save_png
from stages.squares import Mode, PadParameters, make_square

PICTURE = Path("metrics/plots/padding.png")


def main() -> None:
    params = read_params("pad", PadParameters)
    folder = Path("data") / read_dataset_name()
    paths, labels, widths, heights = read_table(MANIFEST, ("path", "label", "width", "height"))
    pad_all([folder / path for path in paths], params.mode, params.size, IMAGES)
    save_png(PICTURE, padding_picture(folder, paths, labels, widths, heights, open_padded()))
    print(f"{len(paths)} crops, {params.mode}, {params.size} x {params.size}: {IMAGES}")


def pad_all(files: Sequence[Path], mode: Mode, size: int, output: Path) -> None:
    """Write the squares of all `files` to the .npy file `output`, uint8 (N, size, size, 3), over all cores.

    Each worker writes its square to its row of the file: the memory used does not grow with N, and the bytes do not
    depend on the number of workers.

    Raises:
        UserError: with their names, files that cannot be read.
    """
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(files), size, size, 3)}
    with replacing(output, binary=True) as npy:
        np.lib.format.write_array_header_1_0(npy, header)
        start, turn = npy.tell(), threading.Lock()

        def pad_one(row: int) -> str | None:
            try:
                square = make_square(load_image(files[row]), mode, size)
            except UserError as error:
                return str(error)
            # Plain writes, not a memory map: on a full disk these raise, where a map would kill the process.
            with turn:
                npy.seek(start + row * square.nbytes)
                npy.write(square.tobytes())
            return None

        rows = [(row,) for row in range(len(files))]
        refuse([problem for problem in on_all_cores(pad_one, rows, "padding") if problem])


def padding_picture(
    folder: Path,
    paths: Sequence[str],
    labels: Sequence[str],
    widths: Sequence[str],
    heights: Sequence[str],
    images: np.ndarray,
    per_class: int = 4,
) -> Image.Image:
    """Return a sheet of a few crops as they are (above) and padded (below): of each class from the tallest to the widest.

    Which crops are shown depends on the manifest alone, so that two modes show the same ones.
    """
    aspect = np.array(widths, dtype=float) / np.array(heights, dtype=float)
    chosen: list[int] = []
    for label in ("1", "0"):
        rows = [row for row in np.argsort(aspect, kind="stable") if labels[row] == label]
        places = np.linspace(0, len(rows) - 1, min(per_class, len(rows))).round().astype(int)
        chosen += [rows[place] for place in places]
    originals = [load_image(folder / paths[row]).convert("RGB") for row in chosen]
    padded = [Image.fromarray(images[row]) for row in chosen]
    names = [f"{Path(paths[row]).name}\n{widths[row]} x {heights[row]} pixels" for row in chosen]
    kinds = ["globally sclerotic" if labels[row] == "1" else "not globally sclerotic" for row in chosen]
    return contact_sheet(originals + padded, names + kinds, columns=len(chosen))


if __name__ == "__main__":
    run_stage(main)
