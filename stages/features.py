"""Compute a frozen backbone's features once, of views of every square: data/padded ->
data/features.

The views are its eight orientations, and as many jittered ones as model.jittered_views says:
changed as in training, by train.augment. The features depend on no split, seed or head: another of
these trains in seconds. Where nothing is frozen, there is nothing to compute.
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
# What a run that was killed leaves.
PART = Path("data/features.part")


def main() -> None:
    params, changes = (
        read_params("model", ModelParameters),
        read_params("train.augment", AugmentParameters),
    )
    squares = open_squares()
    if not params.frozen:
        with replacing(FEATURES, binary=True) as npy:
            np.save(npy, np.empty((0, 8, 0), dtype=np.float32))
        write_features_card({})
        print(f"nothing to do: model.step {params.step} has no frozen backbone")
        return
    # Keras takes seconds to import, which a step without a backbone need not wait for.
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
                # Drawn from the row and the view alone, as in training from the row and the epoch.
                random = [
                    np.random.default_rng([start + place, view]) for place in range(len(batch))
                ]
                jittered = np.stack(
                    [augment(square, changes, one) for square, one in zip(batch, random)]
                )
                features.append(np.asarray(backbone.predict_on_batch(jittered))[:, None])
            rows.append(np.concatenate(features, axis=1))
            bar.update(len(batch))
    write_features_card(params.of_features(changes))
    print(f"{len(squares)} crops, {views} views, {length} features of {params.step}: {FEATURES}")


if __name__ == "__main__":
    run_program(main, __doc__)
