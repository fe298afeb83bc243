"""Compute a frozen backbone's features once, of views of every square: data/padded -> data/features.

The views are its eight orientations, and as many jittered ones as model.jittered_views says: changed as in training, by
train.augment. The features depend on no split, seed or head: another of these trains in seconds. Where nothing is frozen, there
is nothing to compute.
"""

import numpy as np

from stages.base.errors import run_program
from stages.base.files import replacing
from stages.base.parameters import read_params
from stages.dataset.cohort import FEATURES, open_squares
from stages.model.augment import AugmentParameters, augment
from stages.model.steps import ModelParameters
from stages.workers.progress import progress

BATCH = 8


def main() -> None:
    params, changes = read_params("model", ModelParameters), read_params("train.augment", AugmentParameters)
    squares = open_squares()
    with replacing(FEATURES, binary=True) as npy:
        if not params.frozen:
            np.save(npy, np.empty((0, 8, 0), dtype=np.float32))
            print(f"nothing to do: model.step {params.step} has no frozen backbone")
            return
        # Keras takes seconds to import, which a step without a backbone need not wait for.
        from stages.model.backbone import build_backbone, extract_features
        from stages.model.backend import make_deterministic

        make_deterministic(0)
        backbone = build_backbone(params.step, params.weights, squares.shape[1], params.feature_layers, params.centre)
        views, length = 8 + params.jittered_views, backbone.output_shape[1]
        np.lib.format.write_array_header_1_0(
            npy, {"descr": "<f4", "fortran_order": False, "shape": (len(squares), views, length)}
        )
        with progress(total=len(squares), desc=params.step, unit="crop") as bar:
            for start in range(0, len(squares), BATCH):
                batch = squares[start : start + BATCH]
                features = [extract_features(backbone, batch)]
                for view in range(params.jittered_views):
                    # Drawn from the row and the view alone, as in training from the row and the epoch.
                    random = [np.random.default_rng([start + place, view]) for place in range(len(batch))]
                    jittered = np.stack([augment(square, changes, one) for square, one in zip(batch, random)])
                    features.append(np.asarray(backbone.predict_on_batch(jittered))[:, None])
                npy.write(np.concatenate(features, axis=1, dtype="<f4").tobytes())
                bar.update(len(batch))
    print(f"{len(squares)} crops, {views} views, {length} features of {params.step}: {FEATURES}")


if __name__ == "__main__":
    run_program(main, __doc__)
