"""Train the chosen model step on the training slides, watching the validation slides: -> models/, metrics/train/."""

import math
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from dvclive import Live
from pydantic import Field, model_validator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from threadpoolctl import threadpool_limits

import stages
from stages.augment import AugmentParameters
from stages.backbone import build_backbone, set_trainable
from stages.backend import circumstances, keras, make_deterministic, on_devices
from stages.base.arithmetic import is_portable
from stages.base.errors import UserError, run_stage
from stages.base.files import sha256, write_json
from stages.base.parameters import Parameters, read_dataset_name, read_params
from stages.batches import Batches, outputs, predict
from stages.checkpoint import Checkpoint, fingerprint
from stages.dataset.card import read_dataset
from stages.dataset.cohort import (
    CLASS_NAMES,
    FEATURES,
    IMAGES,
    MANIFEST,
    SPLIT,
    STAINED,
    Cohort,
    open_features,
    open_squares,
    read_cohort,
)
from stages.dataset.predictions import VALIDATION, write_predictions
from stages.images.squares import PadParameters
from stages.model import build_head, build_model, join, join_to_train, mean_of, mean_of_orientations, to_log_odds
from stages.model_file import MODEL, save_model
from stages.steps import ModelParameters, is_backbone

CARD = Path("models/model.json")
CHECKPOINT = Path("models/checkpoint.npz")
LOG = Path("metrics/train")
STAGES = Path(stages.__file__).resolve().parent
ARITHMETIC = LOG / "arithmetic.json"


class TrainParameters(Parameters):
    """`train` in params.yaml."""

    epochs: int = Field(ge=1, le=100_000)
    batch_size: int = Field(ge=1, le=65_536)
    learning_rate: float = Field(gt=0, le=10)
    weight_decay: float = Field(ge=0, le=1)
    dropout: float = Field(ge=0, lt=1)
    augment: AugmentParameters
    class_weight: Literal["none", "balanced"]
    head_penalty: float = Field(gt=0, le=1e9)
    fine_tuning: float = Field(gt=0, le=1)
    patience: int = Field(ge=1)
    ensemble: bool
    average_orientations: bool
    devices: int = Field(ge=1, le=1024)
    resume: bool
    seed: int = Field(ge=0, lt=2**32)

    @model_validator(mode="after")
    def _shared_evenly(self) -> "TrainParameters":
        if self.batch_size % self.devices:
            raise ValueError(f"batch_size is {self.batch_size}; with {self.devices} devices it must be a multiple of that")
        return self


class Record(NamedTuple):
    """Where a training is logged, and where its state is saved, under a fingerprint of all that it depends on."""

    log: Path | None
    state: Path | None = None
    fingerprint: str | None = None


def main() -> None:
    params = read_params("train", TrainParameters)
    model_params = read_params("model", ModelParameters)
    padding = read_params("pad", PadParameters)
    dataset = read_dataset(read_dataset_name())
    make_deterministic(params.seed)
    here = circumstances()
    if not is_portable(here):
        found = ", ".join(f"{name} {value}" for name, value in here.items())
        print(
            f"note: results here have bytes of their own ({found}); those of x86-64 processors with AVX2 are the same everywhere"
        )

    cohort, squares = read_cohort(), open_squares()
    members, best = [], []
    validated = np.zeros(len(cohort.paths), dtype=bool)
    probability = np.zeros(len(cohort.paths), dtype=np.float32)
    start = time.perf_counter()
    with on_devices(params.devices):
        for number, (train, val) in enumerate(memberships(cohort, params.ensemble), start=1):
            print(f"{model_params.step}: {len(train)} crops to train on, {len(val)} to validate on")
            # A member of an ensemble differs by its slides alone.
            keras.utils.set_random_seed(params.seed)
            member = train_member(model_params, params, cohort.labels, squares, train, val, number)
            best.append(member.best)
            probability[val], validated[val] = predict_member(member, squares, val, params), True
            members.append(member)
        model = assemble(members, model_params.step, params.average_orientations)
        save_model(model, MODEL)
    print(
        f"trained for {time.perf_counter() - start:.0f} s; "
        f"the weights kept are those of epoch {', '.join(str(one['epoch']) for one in best)}"
    )

    write_predictions(VALIDATION, cohort, np.flatnonzero(validated), probability[validated])
    card = {
        "step": model_params.step,
        "weights": model.count_params(),
        "padding": padding.mode,
        "size": padding.size,
        "classes": CLASS_NAMES,
        "validation": best,
        "dataset": {
            "name": dataset.name,
            "card": dataset.card.model_dump(exclude_none=True),
            "images": len(cohort.paths),
            "corrected_labels": int(np.sum(cohort.labels != cohort.published)),
            "manifest_sha256": sha256(MANIFEST),
            "split_sha256": sha256(SPLIT),
        },
        "parameters": {"model": model_params.model_dump(), "train": params.model_dump(exclude={"resume"})},
        "code_sha256": {path.relative_to(STAGES).as_posix(): sha256(path) for path in code_files()},
        "arithmetic": here,
        "versions": {name: version(name) for name in ("keras", keras.backend.backend(), "numpy", "pillow")},
    }
    write_json(CARD, card)
    write_json(ARITHMETIC, here)
    forget_states(len(members))


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


def fit_head(
    features: np.ndarray, y: np.ndarray, train: np.ndarray, val: np.ndarray, params: TrainParameters
) -> tuple[keras.Model, dict[str, dict[str, float]]]:
    """Return the head of a backbone, fitted to features by logistic regression with an L2 penalty (scikit-learn's).

    All views of a crop are learned from, or the first alone without `augment.orientations`; a crop counts once, however many
    views it has. The fit is convex: no seed, no epochs, and the one best result.

    Args:
        features: float32 (N, views, D).

    Returns:
        the head, and the `loss`, `accuracy` and `auc` of its first view on `train` and on `val`.
    """
    views = features.shape[1] if params.augment.orientations else 1
    learned = features[train, :views].reshape(-1, features.shape[-1])
    head = build_head(learned)
    normalize = head.get_layer("normalization")
    weight = None if params.class_weight == "none" else "balanced"
    regression = LogisticRegression(C=1 / (params.head_penalty * views), class_weight=weight, max_iter=1000)
    # The sums of several threads would round differently from machine to machine.
    with threadpool_limits(limits=1):
        regression.fit(np.asarray(normalize(learned)), np.repeat(y[train], views))
    head.get_layer("log_odds").set_weights([regression.coef_.T, regression.intercept_])
    measures = {}
    for name, rows in (("train", train), ("val", val)):
        chunks = np.array_split(rows, -(-len(rows) // 4096))
        said = np.concatenate([np.asarray(head(features[chunk, 0]))[:, 0] for chunk in chunks])
        measures[name] = {
            "loss": float(log_loss(y[rows], said.astype(np.float64), labels=[0, 1])),
            "accuracy": float(np.mean((said >= 0.5) == y[rows])),
            "auc": float(roc_auc_score(y[rows], said)),
        }
    return head, measures


def log_once(measures: dict[str, dict[str, float]], folder: Path) -> None:
    """Log a fit without epochs as `fit` logs each epoch: one point on every curve."""
    with Live(str(folder), save_dvc_exp=False, dvcyaml=None) as live:
        for split, values in measures.items():
            for name, value in values.items():
                live.log_metric(f"{split}/{name}", value)
        live.summary["best"] = {"epoch": 1, **measures["val"]}
        live.next_step()


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


def fit(
    model: keras.Model,
    images: np.ndarray,
    y: np.ndarray,
    train: np.ndarray,
    val: np.ndarray,
    params: TrainParameters,
    record: Record,
) -> dict[str, float]:
    """Train `model` in place and leave it with the weights of the epoch of lowest validation loss.

    Adam with decoupled weight decay (Loshchilov and Hutter 2019; none on offsets and batch normalisation) and binary
    cross-entropy. The learning rate is halved when half the patience has passed without a lower validation loss, and
    training ends when all of it has. Every epoch is logged.

    Args:
        images: squares, uint8 (N, size, size, 3).
        y: int (N,) of labels 0 and 1.
        train, val: int arrays of rows.
        record: where it is logged. With a fingerprint of this training the state is saved after each epoch, and a state that
            a killed run of the same fingerprint left is taken up; the result has the same bytes.

    Returns:
        `epoch`, the number of the epoch that was kept, from 1, and its validation `loss`, `accuracy` and `auc`.

    Raises:
        UserError: the loss is no longer a number.
    """
    optimizer = keras.optimizers.AdamW(params.learning_rate, weight_decay=params.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    accuracy = keras.metrics.BinaryAccuracy(threshold=0.0, name="accuracy")
    learner = to_log_odds(model)
    learner.compile(optimizer, cross_entropy, metrics=[accuracy, keras.metrics.AUC(from_logits=True, name="auc")])
    with Live(str(record.log), save_dvc_exp=False, dvcyaml=None) if record.log else nullcontext() as live:
        log = LogEpochs(live, params.learning_rate)
        reduction = keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=max(1, params.patience // 2))
        early_stopping = keras.callbacks.EarlyStopping(patience=params.patience, restore_best_weights=True)
        callbacks, done = [reduction, log, early_stopping], 0
        if record.state and record.fingerprint:
            checkpoint = Checkpoint(record.state, record.fingerprint, early_stopping, others=[reduction, log])
            callbacks.append(checkpoint)
            done = params.epochs if checkpoint.has_ended() else checkpoint.first_epoch
        learner.fit(
            Batches(images, train, y, params.batch_size, params.augment, params.seed, done, params.devices),
            validation_data=Batches(images, val, y, params.batch_size, devices=params.devices),
            # Batches shuffles the images; Keras would shuffle the batches too, by a state that a resumed run does not have.
            shuffle=False,
            initial_epoch=done,
            epochs=params.epochs,
            class_weight=balanced_class_weight(y[train]) if params.class_weight == "balanced" else None,
            callbacks=callbacks,
            verbose=1 if sys.stdout.isatty() else 2,
        )
    return log.best


def cross_entropy(y_true: Any, log_odds: Any) -> Any:
    """Return the binary cross-entropy of each image, float32 (n,), from labels and log-odds (n, 1).

    Keras's own from log-odds uses log1p, whose gradient is a reciprocal; see stages/operations.py.
    """
    return keras.ops.mean(keras.ops.softplus((1 - 2 * y_true) * log_odds), axis=-1)


class LogEpochs(keras.callbacks.Callback):
    """Log every epoch with DVCLive, and stop where the loss is no longer a number.

    DVCLive's own callback for Keras imports TensorFlow, which training on another backend does not have.
    """

    def __init__(self, live: Live | None, learning_rate: float):
        super().__init__()
        self.live, self.learning_rate = live, learning_rate
        self.best: dict[str, float] = {"epoch": 0, "loss": math.inf}

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        if not (math.isfinite(logs["loss"]) and math.isfinite(logs["val_loss"])):
            problem = f"the loss is {logs['loss']} in epoch {epoch + 1}"
            raise UserError(f"{problem}; params.yaml: train.learning_rate is {self.learning_rate}, try a lower one")
        if logs["val_loss"] < self.best["loss"]:
            validation = {name[4:]: float(value) for name, value in logs.items() if name.startswith("val_")}
            self.best = {"epoch": epoch + 1, **validation}
        if self.live is None:
            return
        for name, value in logs.items():
            split, metric = ("val", name[4:]) if name.startswith("val_") else ("train", name)
            self.live.log_metric(f"{split}/{metric}" if metric != "learning_rate" else metric, float(value))
        self.live.summary["best"] = self.best
        self.live.next_step()


def code_files() -> list[Path]:
    """Return the files of this project that run here: the stage's dependencies in dvc.yaml, no more and no fewer.

    Their digests, unlike the commit that will hold them, are known while training runs.
    """
    ours = [module for name, module in sys.modules.items() if name.partition(".")[0] in ("stages", "__main__")]
    files = {Path(module.__file__).resolve() for module in ours if getattr(module, "__file__", None)}
    return sorted(file for file in files if STAGES in file.parents)


def resume_key(params: TrainParameters, model_params: ModelParameters, number: int) -> str:
    """Return the fingerprint of all that the training of a member depends on: parameters, data, split and code."""
    parameters = {"train": params.model_dump(), "model": model_params.model_dump(), "member": number}
    return fingerprint(parameters, [MANIFEST, SPLIT, *([FEATURES] if model_params.frozen else [IMAGES, STAINED]), *code_files()])


def channel_statistics(images: np.ndarray, rows: np.ndarray, chunk: int = 256) -> tuple[list[float], list[float]]:
    """Return mean and variance of red, green and blue over some rows of `images`, in units of 0 to 255.

    Exact (integer sums of the pixels and of their squares) and in constant memory.
    """
    total, squares = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)
    for start in range(0, len(rows), chunk):
        pixels = images[rows[start : start + chunk]].reshape(-1, 3)
        for channel in range(3):
            counts = np.bincount(pixels[:, channel], minlength=256)
            total[channel] += counts @ np.arange(256)
            squares[channel] += counts @ np.arange(256) ** 2
    n = len(rows) * images.shape[1] * images.shape[2]
    mean = total / n
    return mean.tolist(), np.maximum(squares / n - mean**2, 0).tolist()


def balanced_class_weight(y: np.ndarray) -> dict[int, float]:
    """Return weights that give both classes the same total: N / (2 x images of the class), as scikit-learn's `balanced`."""
    counts = np.bincount(y, minlength=2)
    return {label: len(y) / (2 * int(count)) for label, count in enumerate(counts)}


if __name__ == "__main__":
    run_stage(main, __doc__)
