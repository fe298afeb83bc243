"""Compute a frozen backbone's features once, of every square in its eight orientations: data/padded -> data/features.

They depend on no split, seed or head: another of these trains in seconds. Where nothing is frozen, there is nothing to compute.
"""

import numpy as np
from tqdm import tqdm

from stages.cohort import FEATURES, open_squares
from stages.errors import run_stage
from stages.files import replacing
from stages.params import read_params
from stages.steps import ModelParameters

BATCH = 8


def main() -> None:
    params = read_params("model", ModelParameters)
    squares = open_squares()
    with replacing(FEATURES, binary=True) as npy:
        if not params.frozen:
            np.save(npy, np.empty((0, 8, 0), dtype=np.float32))
            return
        # Keras takes seconds to import, which a step without a backbone need not wait for.
        from stages.backbone import build_backbone, extract_features
        from stages.backend import make_deterministic

        make_deterministic(0)
        backbone = build_backbone(params.step, params.weights, squares.shape[1])
        length = backbone.output_shape[1]
        np.lib.format.write_array_header_1_0(npy, {"descr": "<f4", "fortran_order": False, "shape": (len(squares), 8, length)})
        with tqdm(total=len(squares), desc=params.step, unit="crop") as bar:
            for start in range(0, len(squares), BATCH):
                rows = np.arange(start, min(start + BATCH, len(squares)))
                features = extract_features(backbone, squares, rows)
                npy.write(np.ascontiguousarray(features.swapaxes(0, 1), dtype="<f4").tobytes())
                bar.update(len(rows))
    print(f"{len(squares)} crops, eight orientations, {length} features of {params.step}: {FEATURES}")


if __name__ == "__main__":
    run_stage(main)
