"""Train a single model or the members of an ensemble, and combine them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, assert_never

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
from stages.model.networks import (
    build_model,
    join,
    join_to_train,
    mean_of_orientations,
    side_by_side,
)
from stages.model.steps import ModelParameters, is_backbone
from stages.training.fit import Record, channel_statistics, fit
from stages.training.head import fit_head, fit_neighbors, log_once
from stages.training.parameters import TrainParameters

CHECKPOINT = Path("models/checkpoint.npz")
LOG = Path("metrics/train")


def memberships(cohort: Cohort, ensemble: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the rows to train and to validate each member on.

    Without `ensemble` there is one member. With it there is one per fold except the test set, which
    validates on that fold: the operating threshold and the calibration then rest on all slides
    except those of the test set.

    Raises:
        UserError: a fold that a member validates on lacks a class, so that its ROC AUC would be
            undefined. (The split without `ensemble` has both.)
    """
    if not ensemble:
        return [(cohort.rows("train"), cohort.rows("val"))]
    members, problems = [], []
    for fold in np.unique(cohort.folds[cohort.folds > 0]):
        val = cohort.folds == fold
        for label, class_name in enumerate(CLASS_NAMES):
            name = class_name.replace("_", " ")
            if label not in cohort.labels[val]:
                slides = len(np.unique(cohort.slides[cohort.labels == label]))
                problems.append(
                    f"params.yaml: train.ensemble is true, but fold {fold} of {SPLIT} has no "
                    f"{name} glomerulus to validate on; {slides} slides have any: lower "
                    "split.folds, or try another split.seed"
                )
        members.append((np.flatnonzero((cohort.folds > 0) & ~val), np.flatnonzero(val)))
    refuse(problems)
    return members


class Member(NamedTuple):
    """A trained model, the measures of its best epoch, and the part of it to save.

    `kept` is the whole `learner` except for the frozen blocks of an encoder. With a frozen
    backbone, both are the head, from the features.
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
    """Build and train the model on the rows `train`, validating on the rows `val`.

    A backbone that is not frozen begins with a head fitted to its features: the first steps with a
    random head would damage its weights.
    """
    key = resume_key(params, model_params, number) if params.resume else None
    log = LOG if number == 1 else LOG / f"member{number}"
    record = Record(log, _numbered(CHECKPOINT, number), key)
    size = squares.shape[1]
    if not is_backbone(model_params.step):
        mean, variance = channel_statistics(squares, train)
        model = build_model(model_params, size, mean, variance, params.dropout)
        return Member(model, fit(model, squares, y, train, val, params, record), model)
    if model_params.frozen:
        features = open_features(model_params.of_features(params.augment))
        if not all(np.isfinite(features[row]).all() for row in (*train, *val)):
            raise damaged(FEATURES, "some features are not finite numbers")
        match model_params.head:
            case "logistic":
                head, best = fit_head(features, y, train, val, params, model_params.views)
            case "knn":
                head, best = fit_neighbors(features, y, train, val)
            case _:
                assert_never(model_params.head)
        log_once(best, log)
        return Member(head, best["val"], head)
    backbone, trained = backbone_parts(model_params, size)
    keras.utils.set_random_seed(params.seed)
    whole = join(backbone, trained, "features") if trained else backbone
    features = np.zeros((len(squares), 1, whole.output_shape[1]), dtype=np.float32)
    rows = np.concatenate([train, val])
    features[rows, 0] = outputs(whole, squares, rows)
    head, _ = fit_head(features, y, train, val, params, 1)
    kept = join_to_train(trained or backbone, head, model_params.step)
    model = join_to_train(backbone, kept, model_params.step) if trained else kept
    rate = params.learning_rate * params.backbone_learning_rate_factor
    tuned = params.model_copy(update={"learning_rate": rate})
    return Member(model, fit(model, squares, y, train, val, tuned, record), kept)


def _numbered(path: Path, number: int) -> Path:
    """Return the path for a member: the plain name for the first, with a number for others."""
    return path if number == 1 else path.with_stem(f"{path.stem}{number}")


def forget_states(members: int) -> None:
    """Remove the saved states of trainings that are complete."""
    for number in range(1, members + 1):
        _numbered(CHECKPOINT, number).unlink(missing_ok=True)


def predict_member(
    member: Member,
    model_params: ModelParameters,
    squares: np.ndarray,
    rows: np.ndarray,
    params: TrainParameters,
) -> np.ndarray:
    """Return a member's probabilities for some rows, float32 (n,).

    With a frozen backbone they follow from the features, which are already computed.
    """
    model, averaged = member.learner, params.test_time_augmentation
    if not model_params.frozen:
        return predict(mean_of_orientations(model) if averaged else model, squares, rows)
    features, views = open_features(), model_params.views if averaged else 1
    probability = np.zeros((len(rows), views), dtype=np.float32)
    for start in range(0, len(rows), 512):
        batch = features[rows[start : start + 512], :views]
        found = model(batch.reshape(-1, batch.shape[-1]))
        probability[start : start + 512] = np.asarray(found).reshape(-1, views)
    return probability.mean(axis=1)


def assemble(
    members: Sequence[keras.Model], params: ModelParameters, test_time_augmentation: bool
) -> keras.Model:
    """Return the model that is saved: a column per member, the mean over the orientations.

    After a frozen part it is only the members: `join_backbone` adds the rest.

    Args:
        members: the part of each that is kept.
    """
    model = side_by_side(members, "head" if params.frozen else params.step)
    if params.has_frozen_part:
        return model
    return mean_of_orientations(model) if test_time_augmentation else model


def resume_key(params: TrainParameters, model_params: ModelParameters, number: int) -> str:
    """Return the fingerprint of a member's parameters, data, split, code and environment."""
    parameters = {
        "train": params.model_dump(),
        "model": model_params.model_dump(),
        "member": number,
        "here": runtime_environment() | {"keras": keras.__version__},
    }
    inputs = FEATURES if model_params.frozen else IMAGES
    files = [MANIFEST, SPLIT, inputs, *model_params.own_weights, *code_files()]
    return fingerprint(parameters, files)
