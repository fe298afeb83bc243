"""Measure what fixed arithmetic costs or gains, in one run on one machine.

    python -m benchmarks.arithmetic [ROUNDS]

The kinds take turns, each in a separate process, for three rounds. Each trains `conv3-dense1` at
128 pixels on crops of noise, predicts them, and computes features of the packaged backbone:

- portable: as the pipeline does;
- native: with the kernels that TensorFlow chooses for this processor;
- native, Eigen: with those that it chooses for a processor without AVX512-VNNI;
- free: portable, with operations that need not be deterministic.

The program prints the medians and the speed relative to native.
"""

import json
import os
import subprocess
import sys
import time

KINDS = {
    "portable": {},
    "native": {"GLOMERULI_ARITHMETIC": "native"},
    "native, Eigen": {"GLOMERULI_ARITHMETIC": "native", "TF_ENABLE_ONEDNN_OPTS": "0"},
    "free": {},
}
CROPS, EPOCHS, VIEWS = 384, 5, 64


def main(rounds: int) -> None:
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind, environment in KINDS.items():
            command = [sys.executable, "-m", "benchmarks.arithmetic", kind]
            output = subprocess.run(
                command, env=os.environ | environment, check=True, capture_output=True, text=True
            ).stdout
            found[kind].append(json.loads(output.splitlines()[-1]))
    for what in found["native"][0]:
        medians = {
            kind: sorted(one[what] for one in runs)[rounds // 2] for kind, runs in found.items()
        }
        print(what)
        for kind, median in medians.items():
            speeds = ", ".join(f"{one[what]:.0f}" for one in found[kind])
            relative = median / medians["native"]
            print(f"    {kind:15} {speeds} per second; speed relative to native {relative:.3f}")


def measure(deterministic: bool) -> dict[str, float]:
    """Return crops per second in training (median epoch after the first), prediction, features."""
    import numpy as np

    from stages.model.augment import AugmentParameters
    from stages.model.backbone import build_backbone
    from stages.model.backend import keras, make_deterministic
    from stages.model.batches import Batches, predict
    from stages.model.forward import Forward
    from stages.model.networks import build_model, to_log_odds
    from stages.training.fit import cross_entropy
    from tests.drawn import model_parameters

    if deterministic:
        make_deterministic(0)
    model = build_model(
        model_parameters(), size=128, mean=[128] * 3, variance=[5000] * 3, dropout=0.2
    )
    learner = to_log_odds(model)
    learner.compile(keras.optimizers.AdamW(0.001), cross_entropy, jit_compile=False)
    crops = np.random.default_rng(0).integers(0, 256, (CROPS, 128, 128, 3), dtype=np.uint8)
    augment = AugmentParameters(
        orientations=True, rotation=45, shift=0.05, scale=0, aspect=0, brightness=0.1, stain=0
    )
    batches = Batches(crops, np.arange(CROPS), np.arange(CROPS) % 2, 32, augment)
    moments = [time.perf_counter()]
    clock = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: moments.append(time.perf_counter())
    )
    learner.fit(batches, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[clock])
    predict(model, crops, np.arange(64))
    start = time.perf_counter()
    for _ in range(3):
        predict(model, crops, np.arange(CROPS))
    predicted = 3 * CROPS / (time.perf_counter() - start)
    backbone = build_backbone("efficientnet_lite0", "none", 224)
    squares = np.random.default_rng(0).integers(0, 256, (VIEWS // 8, 224, 224, 3), dtype=np.uint8)
    forward = Forward(backbone, 8, 4)
    forward.start(squares[:4])()
    start = time.perf_counter()
    for place in range(0, len(squares), 4):
        forward.start(squares[place : place + 4])()
    return {
        "crops trained on": CROPS / float(np.median(np.diff(moments)[1:])),
        "crops predicted": predicted,
        "views of a backbone": VIEWS / (time.perf_counter() - start),
    }


if __name__ == "__main__":
    if len(sys.argv) == 1 or sys.argv[1].isdecimal():
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
    else:
        print(json.dumps(measure(deterministic=sys.argv[1] != "free")))
