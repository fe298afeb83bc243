"""Training one model, or the members of an ensemble, and putting them together."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.base.errors import refuse
from stages.base.files import damaged
from stages.base.fingerprint import code_files, fingerprint
from stages.dataset.cohort import (
    CLASS_NAMES,
    FEATURES,
    IMAGES,
    MANIFEST,
    SPLIT,
    Cohort,
    open_features,
)
from stages.model.backbone import backbone_parts
from stages.model.backend import keras, runtime_environment
from stages.model.batches import outputs, predict
from stages.model.networks import build_model, join, join_to_train, mean_of, mean_of_orientations
from stages.model.steps import ModelParameters, is_backbone
from stages.training.fit import Record, channel_statistics, fit
from stages.training.head import fit_head, fit_neighbors, log_once
from stages.training.parameters import TrainParameters

CHECKPOINT = Path("models/checkpoint.npz")
LOG = Path("metrics/train")


def memberships(cohort: Cohort, ensemble: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the rows to train and to validate each member on: one member, or one for each fold but
    the test set.

    In an ensemble each fold is validated on once, by the member that has not seen it: the operating
    threshold and the calibration then rest on all slides but those of the test set.

    Raises:
        UserError: a class is missing where a member is trained or validated: its ROC AUC would not
            be defined.
    """
    if not ensemble:
        refuse(
            [
                f"{SPLIT}: {part} has no {CLASS_NAMES[label].replace('_', ' ')} glomerulus; `dvc repro` draws it anew"
                for part in ("train", "val")
                for label in (0, 1)
                if not np.any(cohort.labels[cohort.rows(part)] == label)
            ]
        )
        return [(cohort.rows("train"), cohort.rows("val"))]
    numbers = [number for number in np.unique(cohort.folds) if number > 0]
    refuse(
        [
            f"params.yaml: train.ensemble is true, but fold {number} of {SPLIT} has no {CLASS_NAMES[label].replace('_', ' ')} "
            f"glomerulus to validate on; {len(np.unique(cohort.slides[cohort.labels == label]))} slides have any: lower "
            "split.folds, or try another split.seed"
            for number in numbers
            for label in (0, 1)
            if not np.any(cohort.labels[cohort.folds == number] == label)
        ]
    )
    return [
        (
            np.flatnonzero((cohort.folds > 0) & (cohort.folds != number)),
            np.flatnonzero(cohort.folds == number),
        )
        for number in numbers
    ]


class Member(NamedTuple):
    """A trained model, what its best epoch was, and the part of it to keep: all, but for an
    encoder's frozen blocks.

    With a frozen backbone it is a head, from the features.
    """

    learner: keras.Model
    best: dict[str, float]
    kept: keras.Model


def train_member(
    model_params: ModelParameters,
    params: TrainParameters,
    y: np.ndarray,
    squares: np.ndarray,
    train: np.ndarray,
    val: np.ndarray,
    number: int,
) -> Member:
    """Build and train the model on the rows `train`, watching the rows `val`.

    A backbone that is not frozen begins with a head that is fitted to the features it has: beside
    random weights its own would be spoilt by the first steps.
    """
    key = resume_key(params, model_params, number) if params.resume else None
    log = LOG if number == 1 else LOG / f"member{number}"
    record = Record(log, _numbered(CHECKPOINT, number), key)
    if not is_backbone(model_params.step):
        model = build_model(
            model_params, squares.shape[1], *channel_statistics(squares, train), params.dropout
        )
        return Member(model, fit(model, squares, y, train, val, params, record), model)
    if model_params.frozen:
        features = open_features(model_params.of_features(params.augment))
        if not all(np.isfinite(features[row]).all() for row in (*train, *val)):
            raise damaged(FEATURES, "some features are not finite numbers")
        neighbors = model_params.head == "knn"
        head, best = (
            fit_neighbors(features, y, train, val)
            if neighbors
            else fit_head(features, y, train, val, params)
        )
        log_once(best, log)
        return Member(head, best["val"] | {"epoch": 1}, head)
    backbone, trained = _backbone(model_params, squares.shape[1])
    keras.utils.set_random_seed(params.seed)
    whole = join(backbone, trained, "features") if trained else backbone
    features = np.zeros((len(squares), 1, whole.output_shape[1]), dtype=np.float32)
    rows = np.concatenate([train, val])
    features[rows, 0] = outputs(whole, squares, rows)
    head, _ = fit_head(features, y, train, val, params)
    kept = join_to_train(trained or backbone, head, model_params.step)
    model = join_to_train(backbone, kept, model_params.step) if trained else kept
    tuned = params.model_copy(
        update={"learning_rate": params.learning_rate * params.backbone_learning_rate_factor}
    )
    return Member(model, fit(model, squares, y, train, val, tuned, record), kept)


def _backbone(params: ModelParameters, size: int) -> tuple[keras.Model, keras.Model | None]:
    """Return `backbone_parts`; random weights are drawn as in the stage `features`, whatever
    train.seed is.
    """
    keras.utils.set_random_seed(0)
    return backbone_parts(params, size)


def _numbered(path: Path, number: int) -> Path:
    """Return the name of the file of the first member, or that with the number of a further one."""
    return path if number == 1 else path.with_stem(f"{path.stem}{number}")


def forget_states(members: int) -> None:
    """Remove the states of trainings that are complete and written down."""
    for number in range(1, members + 1):
        _numbered(CHECKPOINT, number).unlink(missing_ok=True)


def predict_member(
    member: Member,
    model_params: ModelParameters,
    squares: np.ndarray,
    rows: np.ndarray,
    params: TrainParameters,
) -> np.ndarray:
    """Return the probabilities of some rows, float32 (n,); of a frozen backbone from its features,
    which are there already.
    """
    if not model_params.frozen:
        model = (
            mean_of_orientations(member.learner)
            if params.test_time_augmentation
            else member.learner
        )
        return predict(model, squares, rows)
    features, views = open_features(), 8 if params.test_time_augmentation else 1
    probability = np.zeros((len(rows), views), dtype=np.float32)
    for start in range(0, len(rows), 512):
        batch = features[rows[start : start + 512], :views]
        found = member.learner(batch.reshape(-1, batch.shape[-1]))
        probability[start : start + 512] = np.asarray(found).reshape(-1, views)
    return probability.mean(axis=1)


def assemble(
    members: Sequence[keras.Model], params: ModelParameters, size: int, test_time_augmentation: bool
) -> keras.Model:
    """Return the one model that is saved, from pixels to the probability: the mean of the members
    and of the orientations.

    Behind an encoder it is the mean of the members alone; whoever reads it adds the encoder, and
    then turns the squares.

    Args:
        members: what is kept of each.
        size: pixels a side of the squares.
    """
    model = mean_of(members, "head" if params.frozen else params.step)
    if params.is_encoder:
        return model
    if params.frozen:
        backbone, _ = _backbone(params, size)
        model = join(backbone, model, params.step)
    return mean_of_orientations(model) if test_time_augmentation else model


def resume_key(params: TrainParameters, model_params: ModelParameters, number: int) -> str:
    """Return the fingerprint of all that the training of a member depends on: parameters, data,
    split and code.
    """
    here = runtime_environment() | {"keras": keras.__version__}
    parameters = {
        "train": params.model_dump(),
        "model": model_params.model_dump(),
        "member": number,
        "here": here,
    }
    learned_from = [FEATURES] if model_params.frozen else [IMAGES]
    return fingerprint(
        parameters, [MANIFEST, SPLIT, *learned_from, *model_params.own_weights, *code_files()]
    )
