"""Compute a frozen backbone's features of every square once: data/padded -> data/features.

The views are model.views orientations and model.jittered_views more, changed by train.augment as in
training. The features depend on no split, seed or head, so that another one trains in seconds.
Crops whose squares are in the previous output are not computed again (`growing_array`). Without a
frozen backbone there is nothing to compute. The features that another tool computed
(data/embeddings.npy) are of one view, and only copied.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from stages.base.errors import UserError, run_program
from stages.base.files import read_json, replacing
from stages.base.fingerprint import code_files, fingerprint
from stages.base.packages import installed_versions
from stages.base.parameters import read_params
from stages.dataset.cohort import (
    EMBEDDINGS,
    FEATURES,
    IMAGES,
    open_all_squares,
    read_squares_card,
    write_features_card,
)
from stages.model.augment import augment
from stages.model.parameters import AugmentParameters, FeaturesParameters
from stages.model.steps import ModelParameters
from stages.workers.growing import growing_array, row_keys, write_keys
from stages.workers.progress import progress, warn_if_long

SETTINGS = Path("data/feature_settings.json")


def main() -> None:
    params = read_params("model", ModelParameters)
    changes = read_params("train.augment", AugmentParameters)
    batch_size = read_params("features", FeaturesParameters).batch_size
    squares = open_all_squares()
    if not params.frozen:
        with replacing(FEATURES, binary=True) as npy:
            np.save(npy, np.empty((0, params.views, 0), dtype=np.float32))
        write_keys(FEATURES.parent, row_keys("", ()))
        write_features_card({})
        print(f"nothing to do: model.step {params.step} has no frozen backbone")
        return
    if params.is_embeddings:
        if read_json(SETTINGS).get("crops_sha256") != read_squares_card().crops_sha256:
            raise UserError(f"{EMBEDDINGS}: it is of other crops than {IMAGES}; run `dvc repro`")
        given = np.load(EMBEDDINGS, allow_pickle=False)[:, None]
        with replacing(FEATURES, binary=True) as npy:
            np.save(npy, given)
        write_keys(FEATURES.parent, row_keys("", ()))
        write_features_card(params.of_features(changes))
        print(f"{len(given)} crops, {given.shape[2]} features of {params.weights}: {FEATURES}")
        return
    # Keras takes seconds to import; a step without a backbone does not wait for it.
    from stages.model.backbone import backbone_parts
    from stages.model.backend import keras, make_deterministic, runtime_environment
    from stages.model.device import describe_device
    from stages.model.forward import Forward, in_flight

    make_deterministic(0)
    print(describe_device(), flush=True)
    backbone, _ = backbone_parts(params, squares.shape[1])
    views, length = params.views + params.jittered_views, backbone.output_shape[1]
    backend = keras.backend.backend()
    turned = Forward(backbone, params.views, batch_size or None)
    plain = Forward(backbone, 1, turned.batch) if params.jittered_views else turned
    digests = [hashlib.sha256(square).hexdigest() for square in squares]
    # The batch size can change the last bits of features, but not which crops share a batch.
    made_with = [params.of_features(changes), turned.batch, runtime_environment()]
    versions = installed_versions("*") | {backend: version(backend)}
    code = fingerprint([*made_with, versions], [*params.own_weights, *code_files()])

    def started(rows: np.ndarray) -> Iterator[Callable[[], tuple[np.ndarray, np.ndarray]]]:
        for start in range(0, len(rows), turned.batch):
            some = rows[start : start + turned.batch]
            batch = np.array(squares[some])
            of_views = [turned.start(batch)]
            for view in range(params.jittered_views):
                # Depends only on the pixels and the view, not on the place among the crops.
                jittered = [
                    augment(square, changes, np.random.default_rng([int(digests[row], 16), view]))
                    for row, square in zip(some, batch)
                ]
                of_views.append(plain.start(np.stack(jittered)))
            yield partial(joined, some, of_views)

    keys = row_keys(code, digests)
    with growing_array(FEATURES, keys, (views, length), np.float32) as rows:
        rows.check(turned.batch, lambda chosen: next(in_flight(started(chosen)))[1])
        missing = rows.missing
        done = len(squares) - len(missing)
        with progress(total=len(squares), initial=done, desc=params.step, unit="crop") as bar:
            for number, (some, features) in enumerate(in_flight(started(missing))):
                rows.write(some, features)
                bar.update(len(some))
                warn_if_long(bar, number)
    write_features_card(params.of_features(changes))
    print(
        f"{len(squares)} crops ({len(missing)} new), {views} views, {length} features of "
        f"{params.step}: {FEATURES}"
    )


def joined(
    rows: np.ndarray, of_views: Sequence[Callable[[], list[np.ndarray]]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and their features in all views, from what `Forward.start` returned for each."""
    return rows, np.concatenate([fetch()[0] for fetch in of_views], axis=1)


if __name__ == "__main__":
    run_program(main, __doc__)
