"""Give all crops the stain of the training crops, where that is asked for: data/padded ->
data/stained, models/stain.json.

Where it is not, there is nothing to compute, and no other split computes anything anew.
"""

import numpy as np

from stages.base.errors import run_program
from stages.base.files import replacing, write_json
from stages.base.parameters import read_params
from stages.dataset.cohort import STAINED, open_padded, read_cohort
from stages.images.parameters import StainParameters
from stages.images.stains import STAIN, StainNormalizer, fit_normalization
from stages.workers.cores import on_all_cores

# Enough for a mean and two stain colors; spread evenly over the training crops, which are sorted
# by slide.
MOST_CROPS = 200


def main() -> None:
    params = read_params("stain", StainParameters)
    squares, train = open_padded(), read_cohort().rows("train")
    chosen = train[np.linspace(0, len(train) - 1, min(MOST_CROPS, len(train))).astype(np.int64)]
    normalizer = fit_normalization(params.normalization, squares[chosen])
    with replacing(STAINED, binary=True) as npy:
        if params.normalization == "none":
            np.save(npy, squares[:0])
        else:
            np.lib.format.write_array_header_1_0(
                npy, {"descr": "|u1", "fortran_order": False, "shape": squares.shape}
            )
            jobs = [(normalizer, squares, row) for row in range(len(squares))]
            for changed in on_all_cores(
                _normalized, jobs, params.normalization, prefer="processes"
            ):
                npy.write(changed.tobytes())
    write_json(STAIN, normalizer.model_dump())
    if params.normalization == "none":
        print(
            "nothing to do: stain.normalization is none; what follows takes the squares as they are"
        )
    else:
        print(f"{len(squares)} crops, {params.normalization}: {STAINED}")


def _normalized(normalizer: StainNormalizer, squares: np.ndarray, row: int) -> np.ndarray:
    return np.ascontiguousarray(normalizer(np.array(squares[row])))


if __name__ == "__main__":
    run_program(main, __doc__)
