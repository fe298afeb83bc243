"""Training one model, or the members of an ensemble, and putting them together."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import stages
from stages.dataset.cohort import FEATURES, IMAGES, MANIFEST, SPLIT, STAINED, Cohort, open_features
from stages.model.backbone import build_backbone, set_trainable
from stages.model.backend import keras
from stages.model.batches import outputs, predict
from stages.model.networks import build_model, join, join_to_train, mean_of, mean_of_orientations
from stages.model.steps import ModelParameters, is_backbone
from stages.training.checkpoint import fingerprint
from stages.training.fit import Record, channel_statistics, fit
from stages.training.head import fit_head, log_once
from stages.training.parameters import TrainParameters

CHECKPOINT = Path("models/checkpoint.npz")
LOG = Path("metrics/train")
STAGES = Path(stages.__file__).resolve().parent


def memberships(cohort: Cohort, ensemble: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the rows to train and to validate each member on: one member, or one for each fold but the test set.

    In an ensemble each fold is validated on once, by the member that has not seen it: the operating threshold and the
    calibration then rest on all slides but those of the test set.
    """
    if not ensemble:
        return [(cohort.rows("train"), cohort.rows("val"))]
    numbers = [number for number in np.unique(cohort.folds) if number > 0]
    return [
        (np.flatnonzero((cohort.folds > 0) & (cohort.folds != number)), np.flatnonzero(cohort.folds == number))
        for number in numbers
    ]


class Member(NamedTuple):
    """A trained model: all of it (`backbone` is None), or a head on a frozen backbone; and what its best epoch was."""

    backbone: keras.Model | None
    learner: keras.Model
    best: dict[str, float]


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

    A backbone that is not frozen begins with a head that is fitted to the features it has: beside random weights its own would
    be spoilt by the first steps.
    """
    key = resume_key(params, model_params, number) if params.resume else None
    log = LOG if number == 1 else LOG / f"member{number}"
    record = Record(log, _numbered(CHECKPOINT, number), key)
    if not is_backbone(model_params.step):
        model = build_model(model_params, squares.shape[1], *channel_statistics(squares, train), params.dropout)
        return Member(None, model, fit(model, squares, y, train, val, params, record))
    # Drawn as in the stage `features`, whatever train.seed is, where the weights are random.
    keras.utils.set_random_seed(0)
    size, layers = squares.shape[1], model_params.feature_layers
    backbone = build_backbone(model_params.step, model_params.weights, size, layers, model_params.centre)
    keras.utils.set_random_seed(params.seed)
    set_trainable(backbone, model_params.trainable)
    if model_params.frozen:
        head, best = fit_head(open_features(), y, train, val, params)
        log_once(best, log)
        return Member(backbone, head, best["val"] | {"epoch": 1})
    features = np.zeros((len(squares), 1, backbone.output_shape[1]), dtype=np.float32)
    rows = np.concatenate([train, val])
    features[rows, 0] = outputs(backbone, squares, rows, devices=params.devices)
    head, _ = fit_head(features, y, train, val, params)
    model = join_to_train(backbone, head, model_params.step)
    tuned = params.model_copy(update={"learning_rate": params.learning_rate * params.fine_tuning})
    return Member(None, model, fit(model, squares, y, train, val, tuned, record))


def _numbered(path: Path, number: int) -> Path:
    """Return the name of the file of the first member, or that with the number of a further one."""
    return path if number == 1 else path.with_stem(f"{path.stem}{number}")


def forget_states(members: int) -> None:
    """Remove the states of trainings that are complete and written down."""
    for number in range(1, members + 1):
        _numbered(CHECKPOINT, number).unlink(missing_ok=True)


def predict_member(member: Member, squares: np.ndarray, rows: np.ndarray, params: TrainParameters) -> np.ndarray:
    """Return the probabilities of some rows, float32 (n,); of a frozen backbone from its features, which are there already."""
    if member.backbone is None:
        model = mean_of_orientations(member.learner) if params.average_orientations else member.learner
        return predict(model, squares, rows, devices=params.devices)
    features, views = open_features(), 8 if params.average_orientations else 1
    probability = np.zeros((len(rows), views), dtype=np.float32)
    for start in range(0, len(rows), 512):
        batch = features[rows[start : start + 512], :views]
        found = member.learner(batch.reshape(-1, batch.shape[-1]))
        probability[start : start + 512] = np.asarray(found).reshape(-1, views)
    return probability.mean(axis=1)


def assemble(members: Sequence[Member], step: str, average_orientations: bool) -> keras.Model:
    """Return the one model that is saved, from pixels to the probability: the mean of the members and of the orientations."""
    model = mean_of([member.learner for member in members], step if members[0].backbone is None else "head")
    if members[0].backbone is not None:
        model = join(members[0].backbone, model, step)
    return mean_of_orientations(model) if average_orientations else model


def code_files() -> list[Path]:
    """Return the files of this project that run here: the stage's dependencies in dvc.yaml, no more and no fewer.

    Their digests, unlike the commit that will hold them, are known while training runs.
    """
    ours = [module for name, module in sys.modules.items() if name.partition(".")[0] in ("stages", "__main__")]
    files = {Path(file).resolve() for module in ours if (file := getattr(module, "__file__", None))}
    return sorted(file for file in files if STAGES in file.parents)


def resume_key(params: TrainParameters, model_params: ModelParameters, number: int) -> str:
    """Return the fingerprint of all that the training of a member depends on: parameters, data, split and code."""
    parameters = {"train": params.model_dump(), "model": model_params.model_dump(), "member": number}
    learned_from = [FEATURES] if model_params.frozen else [IMAGES, STAINED]
    weights = [model_params.weights_file] if model_params.has_weights_file else []
    return fingerprint(parameters, [MANIFEST, SPLIT, *learned_from, *weights, *code_files()])
