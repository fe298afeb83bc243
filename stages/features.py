"""Compute a frozen backbone's features of every square once: data/padded -> data/features.

The views are the eight orientations and model.jittered_views more, changed by train.augment as in
training. The features depend on no split, seed or head, so that another one trains in seconds.
Without a frozen backbone there is nothing to compute.
"""

from pathlib import Path

import numpy as np

from stages.base.errors import run_program
from stages.base.files import replacing
from stages.base.fingerprint import code_files, fingerprint
from stages.base.memory import keep_freed_memory
from stages.base.parameters import read_params
from stages.dataset.cohort import FEATURES, IMAGES, open_squares, write_features_card
from stages.model.augment import augment
from stages.model.parameters import AugmentParameters
from stages.model.steps import ModelParameters
from stages.workers.growing import growing_array
from stages.workers.progress import progress

BATCH = 8
PART = Path("data/features.part")  # Left by a run that was killed.


def main() -> None:
    params = read_params("model", ModelParameters)
    changes = read_params("train.augment", AugmentParameters)
    squares = open_squares()
    if not params.frozen:
        with replacing(FEATURES, binary=True) as npy:
            np.save(npy, np.empty((0, 8, 0), dtype=np.float32))
        write_features_card({})
        print(f"nothing to do: model.step {params.step} has no frozen backbone")
        return
    # Keras takes seconds to import; a step without a backbone does not wait for it.
    from stages.model.backbone import backbone_parts, extract_features
    from stages.model.backend import keras, make_deterministic, runtime_environment

    make_deterministic(0)
    backbone, _ = backbone_parts(params, squares.shape[1])
    views, length = 8 + params.jittered_views, backbone.output_shape[1]
    key = fingerprint(
        [params.of_features(changes), runtime_environment() | {"keras": keras.__version__}],
        [IMAGES, *params.own_weights, *code_files()],
    )
    with (
        growing_array(FEATURES, PART, (len(squares), views, length), BATCH, key) as rows,
        progress(total=len(squares), initial=rows.done, desc=params.step, unit="crop") as bar,
    ):
        for start in range(rows.done, len(squares), BATCH):
            keep_freed_memory()
            batch = squares[start : start + BATCH]
            features = [extract_features(backbone, batch)]
            for view in range(params.jittered_views):
                # Depends only on row and view, as it depends on row and epoch in training.
                jittered = [
                    augment(square, changes, np.random.default_rng([row, view]))
                    for row, square in enumerate(batch, start)
                ]
                found = backbone.predict_on_batch(np.stack(jittered))
                features.append(np.asarray(found)[:, None])
            rows.append(np.concatenate(features, axis=1))
            bar.update(len(batch))
    write_features_card(params.of_features(changes))
    print(f"{len(squares)} crops, {views} views, {length} features of {params.step}: {FEATURES}")


if __name__ == "__main__":
    run_program(main, __doc__)
