"""Measure what determinism costs in training speed, in one run on one machine: python -m tests.determinism_cost

Trains `conv3-dense1` at 128 pixels on crops of noise, in turns with deterministic operations, without them, and with them on
AVX2 instructions alone (which more generations of processors share), each in a process of its own, three rounds.
"""

import os
import subprocess
import sys
import time

KINDS = {"deterministic": {}, "free": {}, "deterministic, AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"}}
ROUNDS, CROPS, EPOCHS = 3, 384, 5


def main() -> None:
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(ROUNDS):
        for kind, environment in KINDS.items():
            command = [sys.executable, "-m", "tests.determinism_cost", kind]
            output = subprocess.run(command, env=os.environ | environment, check=True, capture_output=True, text=True).stdout
            times[kind].append(float(output.split()[-1]))
    reference = sorted(times["free"])[ROUNDS // 2]
    for kind, values in times.items():
        median = sorted(values)[ROUNDS // 2]
        speeds = ", ".join(f"{CROPS / value:.0f}" for value in values)
        print(f"{kind:20}  {speeds} crops a second; speed relative to free {reference / median:.3f}")


def measure(deterministic: bool) -> float:
    """Return the seconds of a whole epoch, the median of those after the first."""
    import numpy as np

    from stages.augment import AugmentParameters
    from stages.backend import keras, make_deterministic
    from stages.batches import Batches
    from stages.model import ModelParameters, build_model

    if deterministic:
        make_deterministic(0)
    model = build_model(
        ModelParameters(
            step="conv3-dense1",
            conv_filters=16,
            dense_units=64,
            batch_norm=True,
            pooling="max",
            initializer="he_normal",
            weights="imagenet",
            trainable="frozen",
        ),
        size=128,
        mean=[128] * 3,
        variance=[5000] * 3,
        dropout=0.2,
    )
    model.compile(keras.optimizers.AdamW(0.001), "binary_crossentropy")
    crops = np.random.default_rng(0).integers(0, 256, (CROPS, 128, 128, 3), dtype=np.uint8)
    augment = AugmentParameters(orientations=True, rotation=45, shift=0.05, scale=0, aspect=0, brightness=0.1, stain=0)
    batches = Batches(crops, np.arange(CROPS), np.arange(CROPS) % 2, 32, augment)
    moments = [time.perf_counter()]
    clock = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: moments.append(time.perf_counter()))
    model.fit(batches, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[clock])
    return float(np.median(np.diff(moments)[1:]))


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        print(measure(deterministic=sys.argv[1] != "free"))
