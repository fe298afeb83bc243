"""Train the model step on the training slides, watching the validation slides: -> models/."""

import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from stages.base.arithmetic import THREADS, is_portable
from stages.base.errors import run_program
from stages.base.files import sha256, write_json
from stages.base.fingerprint import STAGES, code_files, fingerprint
from stages.base.parameters import read_params
from stages.dataset.cohort import (
    CLASS_NAMES,
    FEATURES,
    SPLIT,
    open_features,
    open_squares,
    read_cohort,
    read_squares_card,
)
from stages.dataset.predictions import VALIDATION, write_predictions
from stages.dataset.seen import LEARNED_FROM, write_crops
from stages.dataset.used_card import read_used_card
from stages.model.backbone_card import backbone_card
from stages.model.backend import keras, make_deterministic, runtime_environment
from stages.model.device import describe_device
from stages.model.file import MODEL, save_model
from stages.model.folder import CARD, FOLDER, FORMAT_VERSION, digests
from stages.model.steps import ModelParameters
from stages.training.members import (
    assemble,
    forget_states,
    memberships,
    predict_member,
    train_member,
)
from stages.training.parameters import TrainParameters

MADE_WITH = Path("metrics/plots/made_with.json")


def main() -> None:
    params = read_params("train", TrainParameters)
    model_params = read_params("model", ModelParameters)
    dataset = read_used_card()
    make_deterministic(params.seed)
    print(describe_device(), flush=True)
    here = runtime_environment()
    if not is_portable(here) or str(here["threads"]) != THREADS[1]:
        found = ", ".join(f"{name} {value}" for name, value in here.items())
        print(
            "note: results on this machine are not byte-identical to the published ones "
            f"({found}); they are with {THREADS[1]} threads on any x86-64 processor with AVX2"
        )

    cohort, squares, padding = read_cohort(), open_squares(), read_squares_card()
    members, best = [], []
    validated = np.zeros(len(cohort.paths), dtype=bool)
    probability = np.zeros(len(cohort.paths), dtype=np.float32)
    validated_by = np.zeros(len(cohort.paths), dtype=np.int64)
    start = time.perf_counter()
    for number, (train, val) in enumerate(memberships(cohort, params.ensemble), start=1):
        print(f"{model_params.step}: {len(train)} crops to train on, {len(val)} to validate on")
        # The members of an ensemble differ only in their slides.
        keras.utils.set_random_seed(params.seed)
        member = train_member(model_params, params, cohort.labels, squares, train, val, number)
        best.append(member.best)
        probability[val] = predict_member(member, model_params, squares, val, params)
        validated[val], validated_by[val] = True, number
        # Each member has its own copy of an encoder's frozen blocks, which can be gigabytes.
        members.append(member.kept)
    model = assemble(members, model_params, params.test_time_augmentation)
    save_model(model, MODEL)
    print(f"trained for {time.perf_counter() - start:.0f} s{_epochs(best)}")

    write_predictions(
        VALIDATION,
        cohort,
        np.flatnonzero(validated),
        probability[validated],
        member=validated_by[validated],
    )
    seen = cohort.seen_by(params.ensemble)
    write_crops(cohort.pixels_sha256, seen)
    packages = ("keras", keras.backend.backend(), "numpy", "pillow")
    card = {
        "format_version": FORMAT_VERSION,
        "step": model_params.step,
        "weights": model.count_params(),
        **pretrained(model_params, params, padding.size),
        "padding": padding.mode,
        "size": padding.size,
        "classes": CLASS_NAMES,
        "validation": best,
        "dataset": {
            **dataset.of_model(),
            "images": len(cohort.paths),
            "corrected_labels": int(np.sum(cohort.labels != cohort.published)),
            "split_sha256": sha256(SPLIT),
            "features_sha256": sha256(FEATURES) if model_params.frozen else None,
            "trained_slides": len(np.unique(cohort.slides[np.isin(seen, LEARNED_FROM)])),
            "test_slides": len(np.unique(cohort.slides[cohort.rows("test")])),
        },
        "files_sha256": digests(FOLDER),
        "parameters": {
            "model": model_params.model_dump(),
            "train": params.model_dump(exclude={"resume"}),
        },
        "code_sha256": {path.relative_to(STAGES).as_posix(): sha256(path) for path in code_files()},
        "arithmetic": here,
        "versions": {name: version(name) for name in packages},
    }
    write_json(FOLDER / CARD, card)
    write_json(MADE_WITH, [{"what": name, "found": found} for name, found in here.items()])
    forget_states(len(members))


def pretrained(model: ModelParameters, params: TrainParameters, size: int) -> dict[str, Any]:
    """Return what model.json says of a frozen part, of the features that another tool computed, or
    of the file that training began with.
    """
    if model.is_embeddings:
        files = model.own_weights
        digest = sha256(files[0]) if len(files) == 1 else fingerprint("embeddings", files)
        length = open_features().shape[-1]
        return {"embeddings": {"weights": model.weights, "length": length, "sha256": digest}}
    if model.has_frozen_part:
        views = model.views if params.test_time_augmentation else 1
        card = backbone_card(model, size, views)
        return {"backbone": card.model_dump()}
    return {"pretrained_sha256": sha256(model.weights_file)} if model.own_weights else {}


def _epochs(best: list[dict[str, float]]) -> str:
    """Return whose weights are kept, if the members were trained epoch by epoch."""
    epochs = [f"{one['epoch']:.0f}" for one in best if "epoch" in one]
    if not epochs:
        return ""
    return f"; the weights kept are those of epoch{'s' * (len(epochs) > 1)} {', '.join(epochs)}"


if __name__ == "__main__":
    run_program(main, __doc__)
