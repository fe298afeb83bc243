"""Estimate the memory and the hours that the published encoders need.

    python -m benchmarks.encoders

The estimate comes from their sizes and from the speed of two of their blocks on this machine. The
blocks have random weights; no published weights are needed. Prints the table of docs/encoders.md.
"""

import time
from typing import NamedTuple

import numpy as np
from keras_hub.models import DINOV2Backbone

from stages.model.backend import keras, make_deterministic

CROPS, VIEWS, BATCH, REPEATS = 946, 8, 8, 3


class Size(NamedTuple):
    """A vision transformer for 224 pixels; `hidden` is the width of its MLP, behind the gate if it
    has one.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    patch: int
    registers: int
    gated: bool

    @property
    def tokens(self) -> int:
        return 1 + self.registers + (224 // self.patch) ** 2

    @property
    def weights(self) -> int:
        block = 4 * self.width**2 + (3 if self.gated else 2) * self.width * self.hidden
        return self.depth * block + self.width * (3 * self.patch**2 + self.tokens)

    @property
    def operations(self) -> float:
        """Multiplications and additions for a crop."""
        return 2 * self.tokens * self.weights + 4 * self.tokens**2 * self.width * self.depth


SIZES = {
    "Phikon": Size(768, 12, 12, 3072, 16, 0, False),
    "Phikon-v2, UNI": Size(1024, 24, 16, 4096, 16, 0, False),
    "Hibou-B": Size(768, 12, 12, 3072, 14, 4, False),
    "Hibou-L": Size(1024, 24, 16, 4096, 14, 4, False),
    "H0-mini": Size(768, 12, 12, 2048, 14, 4, True),
    "Virchow": Size(1280, 32, 16, 3416, 14, 0, True),
    "Virchow2": Size(1280, 32, 16, 3416, 14, 4, True),
    "UNI2-h": Size(1536, 24, 24, 4096, 14, 8, True),
    "Prov-GigaPath": Size(1536, 40, 24, 4096, 16, 0, True),
    "H-optimus-0, H-optimus-1": Size(1536, 40, 24, 4096, 14, 4, True),
    "Midnight-12k": Size(1536, 40, 24, 4096, 14, 0, True),
}


def seconds(size: Size, depth: int) -> float:
    """Return the time that so many blocks take for a crop, the fastest of some repeats."""
    keras.utils.clear_session()
    model = DINOV2Backbone(
        patch_size=size.patch,
        num_layers=depth,
        hidden_dim=size.width,
        num_heads=size.heads,
        intermediate_dim=size.hidden * 3 // 2 if size.gated else size.hidden,
        num_register_tokens=size.registers,
        use_swiglu_ffn=size.gated,
        image_shape=(224, 224, 3),
        position_embedding_shape=(224, 224),
    )
    pixels = {
        "images": np.random.default_rng(0).normal(size=(BATCH, 224, 224, 3)).astype(np.float32)
    }
    model.predict_on_batch(pixels)
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        model.predict_on_batch(pixels)
        taken.append((time.perf_counter() - start) / BATCH)
    return min(taken)


def main() -> None:
    make_deterministic(0)
    print(
        "| encoder | weights (million) | memory, float32 | bfloat16 | seconds per crop here "
        "| hours for 946 crops |"
    )
    print("|---|---|---|---|---|---|")
    for name, size in SIZES.items():
        one, three = seconds(size, 1), seconds(size, 3)
        crop = one + (three - one) / 2 * (size.depth - 1)
        memory = [f"{size.weights * n / 2**30:.1f} GiB" for n in (4, 2)]
        hours = crop * CROPS * VIEWS / 3600
        print(
            f"| {name} | {size.weights / 1e6:.0f} | {memory[0]} | {memory[1]} | {crop:.2f} "
            f"| {hours:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
