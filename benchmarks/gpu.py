"""Measure training on a GPU against the training of one batch that stays there.

    KERAS_BACKEND=jax python -m benchmarks.gpu train [--crops 3456] [--size 224] [--batch 32 256]

Prints a line per figure, in crops per second.
"""

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from stages.base.parameters import read_params
from stages.model.augment_on_device import augmented
from stages.model.backend import has_accelerator, keras, make_deterministic
from stages.model.batches import Batches, outputs
from stages.model.device import describe_device
from stages.model.networks import build_model, to_log_odds
from stages.model.steps import ModelParameters
from stages.training.fit import Record, cross_entropy, fit
from stages.training.parameters import TrainParameters

STEPS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["train"])
    parser.add_argument("--crops", type=int, default=3456, help="to train on (default: 3456)")
    parser.add_argument("--size", type=int, default=224, help="pixels per side (default: 224)")
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--epochs", type=int, default=4)
    arguments = parser.parse_args()
    print(describe_device(), flush=True)
    for batch_size in arguments.batch:
        train(arguments.crops, arguments.size, batch_size, arguments.epochs)


def train(crops: int, size: int, batch_size: int, epochs: int) -> None:
    """Epochs of `stages.train` after the first, their parts, and the limit: one resident batch."""
    params = read_params("train", TrainParameters).model_copy(
        update={"epochs": epochs, "batch_size": batch_size}
    )
    model_params = read_params("model", ModelParameters)
    # As in the default split, there is one crop to validate on for three to train on.
    y = np.arange(crops * 4 // 3) % 2
    squares = np.random.default_rng(0).integers(0, 256, (len(y), size, size, 3), dtype=np.uint8)
    rows, val = np.arange(crops), np.arange(crops, len(y))

    def show(name: str, count: int, work: Callable[[], object]) -> None:
        start = time.perf_counter()
        work()
        seconds = time.perf_counter() - start
        print(f"batches of {batch_size}: {name}: {count / seconds:.0f} crops/s", flush=True)

    def compiled(accelerated: bool) -> tuple[keras.Model, keras.Model]:
        make_deterministic(0)
        model = build_model(model_params, size, [128] * 3, [2000] * 3, params.dropout)
        predictor = learner = to_log_odds(model)
        if accelerated:
            learner = augmented(learner, params.augment)
        learner.compile(keras.optimizers.AdamW(params.learning_rate), cross_entropy)
        return learner, predictor

    def limit() -> None:
        model, _ = compiled(accelerated=False)
        labels = y[:batch_size].astype(np.float32)[:, None]
        show_steps("limit, one batch", model, (squares[:batch_size], labels))

    def show_steps(name: str, model: keras.Model, batch: tuple) -> None:
        def steps(count: int) -> None:
            for _ in range(count):
                model.train_on_batch(*batch)

        steps(3)
        show(name, STEPS * batch_size, lambda: steps(STEPS))

    def parts() -> None:
        accelerated = has_accelerator()
        learner, predictor = compiled(accelerated)
        batches = Batches(squares, rows, y, batch_size, params.augment, 0, 0, accelerated)
        show("batches made", crops, lambda: [batches[number] for number in range(len(batches))])
        batch = on_device(batches[0])
        show_steps("steps on one augmented batch on the device", learner, batch)
        learner.fit(Same(batch, 3), verbose=0)
        same = Same(batch, STEPS)
        show("the same by fit", STEPS * batch_size, lambda: learner.fit(same, verbose=0))
        outputs(predictor, squares, val, batch_size)
        show("evaluation", len(val), lambda: outputs(predictor, squares, val, batch_size))

    limit()
    parts()
    make_deterministic(0)
    model = build_model(model_params, size, [128] * 3, [2000] * 3, params.dropout)
    times = Epochs()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(times):
        record = Record(None, Path(folder) / "state.npz", "benchmark")
        fit(model, squares, y, rows, val, params, record)
        times.begun.append(time.perf_counter())
    taken = np.diff(times.begun)
    print(
        f"batches of {batch_size}: epochs of {crops} crops: "
        + ", ".join(f"{seconds:.2f}" for seconds in taken)
        + " s",
        flush=True,
    )
    seconds = float(np.median(taken[1:]))
    print(f"batches of {batch_size}: stages.train: {crops / seconds:.0f} crops/s", flush=True)


def on_device(batch: tuple) -> tuple:
    """Return a batch as tensors of the backend."""
    return keras.tree.map_structure(keras.ops.convert_to_tensor, batch)


class Same(keras.utils.PyDataset):
    """The same batch again and again."""

    def __init__(self, batch: tuple, count: int):
        super().__init__()
        self.batch, self.count = batch, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple:
        return self.batch


class Epochs(io.TextIOBase):
    """Note when Keras prints that an epoch begins."""

    def __init__(self) -> None:
        self.begun: list[float] = []

    def write(self, text: str) -> int:
        if text.startswith("Epoch "):
            self.begun.append(time.perf_counter())
        return len(text)


if __name__ == "__main__":
    main()
