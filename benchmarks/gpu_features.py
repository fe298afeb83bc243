"""Measure the features of an encoder on a GPU: views per second, and seconds to the first batch.

    KERAS_BACKEND=jax python -m benchmarks.gpu_features data/weights/uni --precision bfloat16

The squares are noise. Prints a line per batch size; `--save` writes the features of 16 squares.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from stages.model.backend import keras, make_deterministic
from stages.model.device import describe_device, set_precision
from stages.model.encoder import build_encoder
from stages.model.forward import Forward, in_flight
from stages.workers.growing import growing_array, row_keys


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="an encoder's folder")
    parser.add_argument("--precision", default="float32", choices=("float32", "tf32", "bfloat16"))
    parser.add_argument("--batch", type=int, nargs="*", help="crops (default: as features chooses)")
    parser.add_argument("--crops", type=int, default=1024)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--squares", type=Path, help="an .npy file of them instead of noise")
    parser.add_argument("--plain-attention", action="store_true", help="not by cuDNN")
    parser.add_argument("--save", type=Path)
    arguments = parser.parse_args()
    make_deterministic(0)
    print(describe_device(), flush=True)
    shape = (arguments.crops, arguments.size, arguments.size, 3)
    squares = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    if arguments.squares:
        given = np.load(arguments.squares)
        squares = given[np.arange(arguments.crops) % len(given)]
    if arguments.plain_attention:
        keras.config.disable_flash_attention()
    set_precision(arguments.precision)
    encoder = build_encoder(arguments.folder, arguments.size, "card", arguments.precision).frozen
    print(f"encoder built after {time.process_time():.0f} s of processor time", flush=True)
    for batch in arguments.batch or [None]:
        begin = time.perf_counter()
        forward = Forward(encoder, 8, batch)
        first = forward.start(squares[: forward.batch])()[0]
        ready = time.perf_counter() - begin
        with tempfile.TemporaryDirectory() as folder:
            file, keys = (
                Path(folder, "features/features.npy"),
                row_keys("", map(str, range(arguments.crops))),
            )
            with growing_array(file, keys, (8, first.shape[-1]), np.float32) as rows:
                begin = time.perf_counter()
                starts = range(0, len(squares), forward.batch)
                of_batches = in_flight(
                    forward.start(squares[start : start + forward.batch]) for start in starts
                )
                for start, (features,) in zip(starts, of_batches):
                    rows.write(np.arange(start, start + len(features)), features)
                seconds = time.perf_counter() - begin
            if arguments.save:
                np.save(arguments.save, np.load(file)[:16])
        print(
            f"features, {arguments.precision}, batches of {forward.batch} crops: "
            f"{8 * len(squares) / seconds:.0f} views/s; {ready:.0f} s to the first batch",
            flush=True,
        )


if __name__ == "__main__":
    main()
