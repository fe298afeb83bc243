"""Pictures whose decoded pixels show damage, and parts of files."""

import struct
import zlib

import cv2
import numpy as np


def smooth(seed: int, channels: int = 3, size: tuple[int, int] = (24, 17)) -> np.ndarray:
    """A picture with a bright and a dark end, in which a shift of rows is visible."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (4, 4, channels)).astype(np.float32)
    grown = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC).reshape(
        size[1], size[0], channels
    )
    return np.clip(grown, 0, 255).astype(np.uint8)


def tissue(seed: int) -> np.ndarray:
    """A picture of 320 x 300 with the noise of a camera, large enough for a hole of 4,096 bytes."""
    noise = np.random.default_rng(seed).normal(0, 6, (300, 320, 3))
    return np.clip(smooth(seed, size=(320, 300)) + noise, 0, 255).astype(np.uint8)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """A part of a PNG, with its length and checksum."""
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def bmp(colors: int, gap: int = 0) -> bytes:
    """A BMP of two rows with a palette of `colors` and `gap` bytes behind it."""
    pixels, start = bytes([0, 1, 2, 3]) * 2, 54 + 4 * colors + gap
    header = struct.pack(
        "<2sIIIIiiHHIIiiII", b"BM", start + 8, 0, start, 40, 4, 2, 1, 8, 0, 8, 0, 0, colors, 0
    )
    return header + bytes(range(4 * colors)) + bytes(gap) + pixels
