"""Compute a frozen backbone's features of every square once: data/padded -> data/features.

The views are model.views orientations and model.jittered_views more, changed by train.augment as in
training. The features depend on no split, seed or head, so that another one trains in seconds.
Crops whose squares are in the previous output are not computed again (`growing_array`). Without a
frozen backbone there is nothing to compute. The features that another tool computed
(data/embeddings.npy) are of one view, and only copied.

If the environment variable DASK_SCHEDULER_ADDRESS names a Dask cluster, its workers compute, with
the same bytes (docs/scale.md).
"""

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stages.base.arithmetic import is_portable
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
from stages.workers.cluster import scheduler_address
from stages.workers.growing import growing_array, row_keys, write_keys
from stages.workers.programs import OPTION, compute_on_cluster, serve
from stages.workers.progress import progress, warn_if_long

PROGRAM = "stages.features"
SETTINGS = Path("data/feature_settings.json")
# What a worker of a cluster computes at a time, in bytes of squares. For 216 of 224 x 224 pixels,
# efficientnet_lite0 takes 20 s on two cores, a ViT-L on a GPU one second.
BLOCK = 2**25


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
    scheduler = scheduler_address()
    found = prepare(params, changes, batch_size, squares)
    if scheduler and not (found.made_with["GPU"] or is_portable(found.made_with)):
        raise UserError(
            f"DASK_SCHEDULER_ADDRESS is {scheduler}, but without a GPU only the portable "
            "arithmetic gives the same features on other machines; unset it, or see "
            "docs/reproducibility.md"
        )
    print(f"computing on the workers of {scheduler}" if scheduler else found.device, flush=True)
    keys = row_keys(fingerprint(found.made_with, ()), map(digest, squares))
    with growing_array(FEATURES, keys, found.shape, np.float32) as rows:
        rows.check(found.batch, lambda chosen: next(found.compute(chosen))[1])
        missing = rows.missing
        done = len(squares) - len(missing)
        with progress(total=len(squares), initial=done, desc=params.step, unit="crop") as bar:
            if scheduler and len(missing):
                blocks = in_blocks(missing, found.batch, squares[0].nbytes)
                for block in compute_on_cluster(rows, blocks, PROGRAM, found.made_with, scheduler):
                    rows.write(block, None)
                    bar.update(len(block))
            else:
                for number, (some, features) in enumerate(found.compute(missing)):
                    rows.write(some, features)
                    bar.update(len(some))
                    warn_if_long(bar, number)
    write_features_card(params.of_features(changes))
    views, length = found.shape
    print(
        f"{len(squares)} crops ({len(missing)} new), {views} views, {length} features of "
        f"{params.step}: {FEATURES}"
    )


def work() -> None:
    """Compute the rows that a worker of a Dask cluster asks for."""
    params = read_params("model", ModelParameters)
    changes = read_params("train.augment", AugmentParameters)
    batch_size = read_params("features", FeaturesParameters).batch_size
    found = prepare(params, changes, batch_size, open_all_squares())
    serve(found.made_with, found.compute)


def digest(square: np.ndarray) -> str:
    """Return the SHA-256 digest of a square, in hexadecimal."""
    return hashlib.sha256(square.data).hexdigest()


def in_blocks(rows: np.ndarray, batch: int, size: int) -> Iterator[np.ndarray]:
    """Yield `rows` in whole batches, at most BLOCK bytes of squares of `size` bytes at a time."""
    several = max(1, BLOCK // (batch * size)) * batch
    return (rows[start : start + several] for start in range(0, len(rows), several))


class Prepared(NamedTuple):
    """A backbone that is ready to compute.

    Attributes:
        device: a line that says what computes.
        batch: squares per batch.
        shape: of the features of a square, (views, length).
        made_with: what the features of a square depend on besides, by name.
        compute: from row numbers to those of each batch and their features.
    """

    device: str
    batch: int
    shape: tuple[int, int]
    made_with: dict[str, Any]
    compute: Callable[[np.ndarray], Iterator[tuple[np.ndarray, np.ndarray]]]


def prepare(
    params: ModelParameters, changes: AugmentParameters, batch_size: int, squares: np.ndarray
) -> Prepared:
    """Load the backbone of the parameters; batches of 0 squares are as large as fits the device."""
    # Keras takes seconds to import; a step without a backbone does not wait for it.
    from stages.model.backbone import backbone_parts
    from stages.model.backend import has_accelerator, keras, make_deterministic, runtime_environment
    from stages.model.device import describe_device, device_name
    from stages.model.forward import Forward, in_flight

    make_deterministic(0)
    backbone, _ = backbone_parts(params, squares.shape[1])
    backend = keras.backend.backend()
    turned = Forward(backbone, params.views, batch_size or None)
    plain = Forward(backbone, 1, turned.batch) if params.jittered_views else turned

    def started(rows: np.ndarray) -> Iterator[Callable[[], tuple[np.ndarray, np.ndarray]]]:
        for start in range(0, len(rows), turned.batch):
            some = rows[start : start + turned.batch]
            batch = np.array(squares[some])
            of_views = [turned.start(batch)]
            for view in range(params.jittered_views):
                # Depends only on the pixels and the view, not on the place among the crops.
                jittered = [
                    augment(square, changes, np.random.default_rng([int(digest(square), 16), view]))
                    for square in batch
                ]
                of_views.append(plain.start(np.stack(jittered)))
            yield partial(joined, some, of_views)

    return Prepared(
        describe_device(),
        turned.batch,
        (params.views + params.jittered_views, backbone.output_shape[1]),
        {
            **params.of_features(changes),
            # It can change the last bits of features.
            "features.batch_size": turned.batch,
            "GPU": device_name() if has_accelerator() else None,
            "code and weights": fingerprint([], [*params.own_weights, *code_files()]),
            **runtime_environment(),
            **installed_versions("*"),
            backend: version(backend),
        },
        lambda rows: in_flight(started(rows)),
    )


def joined(
    rows: np.ndarray, of_views: Sequence[Callable[[], list[np.ndarray]]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and their features in all views, from what `Forward.start` returned for each."""
    return rows, np.concatenate([fetch()[0] for fetch in of_views], axis=1)


if __name__ == "__main__":
    run_program(*((work, "") if sys.argv[1:] == [OPTION] else (main, __doc__)))
