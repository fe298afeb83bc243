"""Damage files of every supported format and compare what is read with a second library.

    python -m tools.fuzz_images [SEED] [COUNT]

prints a JSON object: how many files were read, refused, and otherwise wrong, with the content of
the wrong ones in base64. Memory and the time per image are bounded; beyond them the program ends.

    python -m tools.fuzz_images silent [SEED] [COUNT]

damages COUNT files of each format as disks, copies and recovery programs do. For each damage it
prints how many files were read without a warning although more than a thousandth of their pixels
is off by more than 16 levels, and how many files there were.
"""

import base64
import io
import json
import re
import resource
import signal
import sys
import tempfile
import zlib
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from stages.base.errors import UserError
from stages.images.opening import doubts_of, load_image
from tests.images.pictures import smooth, tissue

MEMORY, SECONDS = 3 * 2**30, 20
# Levels of 255 by which two libraries may differ: in rounding the colors of JPEG, in widening 5
# bits to 8.
APART = {"JPEG": 3, "WEBP": 3, "TIFF": 3, "BMP": 8, "PPM": 1, "PNG": 0, "GIF": 0, "JPEG2000": 1}


def by_pillow(kind: str, mode: str = "RGB", **options: object):
    def write(seed: int) -> bytes:
        content = io.BytesIO()
        Image.fromarray(smooth(seed)).convert(mode).save(content, format=kind, **options)
        return content.getvalue()

    return write


def by_tifffile(**options: object):
    def write(seed: int) -> bytes:
        content = io.BytesIO()
        tifffile.imwrite(content, smooth(seed), photometric="rgb", **options)
        return content.getvalue()

    return write


def deep_png(seed: int) -> bytes:
    return imagecodecs.png_encode(smooth(seed).astype(np.uint16) * 257)


SEEDS = {
    "PNG": [by_pillow("PNG"), by_pillow("PNG", "L"), by_pillow("PNG", "P"), deep_png],
    "JPEG": [
        by_pillow("JPEG"),
        by_pillow("JPEG", "L"),
        by_pillow("JPEG", progressive=True),
        by_pillow("JPEG", subsampling=0),
    ],
    "TIFF": [
        by_tifffile(),
        by_tifffile(rowsperstrip=4, compression="lzw", predictor=True),
        by_tifffile(tile=(16, 16), compression="zlib"),
        by_tifffile(compression="packbits"),
        by_tifffile(tile=(16, 16), compression="jpeg"),
    ],
    "BMP": [by_pillow("BMP"), by_pillow("BMP", "L"), by_pillow("BMP", "P")],
    "WEBP": [by_pillow("WEBP", lossless=True), by_pillow("WEBP", quality=80)],
    "GIF": [by_pillow("GIF", "P"), by_pillow("GIF", "L")],
    "JPEG2000": [
        by_pillow("JPEG2000"),
        by_pillow("JPEG2000", irreversible=True),
        by_pillow("JPEG2000", "L"),
    ],
    "PPM": [by_pillow("PPM"), by_pillow("PPM", "L")],
}  # fmt: skip


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """Flip, cut out, repeat, insert or cut off bytes; once to four times."""
    data = bytearray(content)
    for _ in range(random.integers(1, 5)):
        place = int(random.integers(0, max(1, len(data))))
        # The first bytes say most.
        place = place % 64 if random.random() < 0.4 else place
        length = int(random.integers(1, 9))
        match random.integers(0, 7):
            case 0 | 1 | 2:
                data[place : place + 1] = bytes([random.integers(0, 256)])
            case 3:
                data[place : place + 4] = random.choice(
                    [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\x01"]
                )
            case 4:
                del data[place : place + length]
            case 5:
                data[place:place] = data[place : place + length]
            case 6:
                del data[place : None if random.random() < 0.5 else place + 1]
    return bytes(data)


def with_right_check_sums(data: bytes) -> bytes:
    """Return a damaged PNG with the check sum of each chunk put right, so that the damage goes
    further.
    """
    whole, place = bytearray(data), 8
    while place + 12 <= len(whole):
        end = place + 8 + int.from_bytes(whole[place : place + 4], "big")
        whole[end : end + 4] = zlib.crc32(whole[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    return bytes(whole)


SPACE = rb"(?:\s|#[^\r\n]*[\r\n])+"


def read_pnm(data: bytes) -> np.ndarray | None:
    """Return the pixels of binary PBM, PGM or PPM by the words of its definition: numbers, then
    rows, stretched to 255.
    """
    header = re.match(rb"P([456])" + SPACE + rb"\+?(\d+)" + SPACE + rb"\+?(\d+)", data)
    largest = (
        re.compile(SPACE + rb"(\d+)").match(data, header.end())
        if header and header[1] != b"4"
        else None
    )
    if header is None or (largest is None and header[1] != b"4"):
        return None
    width, height = int(header[2]), int(header[3])
    start = (largest or header).end() + 1
    if largest is None:
        rows = np.frombuffer(data, np.uint8)[start:][: height * -(-width // 8)]
        if len(rows) < height * -(-width // 8) or not len(rows):
            return None
        bits = np.unpackbits(rows.reshape(height, -1), axis=1)[:, :width]
        return np.broadcast_to(255 * (1 - bits)[..., None], (height, width, 3))
    channels, most = 3 if header[1] == b"6" else 1, int(largest[1])
    wide = np.dtype(">u2") if most > 255 else np.dtype("u1")
    needed = width * height * channels
    if not (0 < most < 65536 and needed) or len(data) - start < needed * wide.itemsize:
        return None
    numbers = (
        np.frombuffer(data, wide, needed, start).astype(np.float64).reshape(height, width, channels)
    )
    return np.broadcast_to(np.rint(np.minimum(numbers * (255 / most), 255)), (height, width, 3))


def second_opinion(kind: str, data: bytes) -> np.ndarray | None:
    """What another library reads, as uint8 (height, width, 3); None where it refuses the file."""
    try:
        if kind == "PPM":
            return read_pnm(data)
        if kind == "BMP":
            read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            return None if read is None else read[..., ::-1]
        decode = {
            "PNG": imagecodecs.png_decode,
            "JPEG": imagecodecs.jpeg8_decode,
            "TIFF": imagecodecs.tiff_decode,
            "WEBP": imagecodecs.webp_decode,
            "GIF": lambda data: imagecodecs.gif_decode(data, index=0),
            "JPEG2000": imagecodecs.jpeg2k_decode,
        }[kind]
        read = np.asarray(decode(data))
    except Exception:
        return None
    read = (read >> 8).astype(np.uint8) if read.dtype == np.uint16 else read
    return np.dstack([read] * 3) if read.ndim == 2 else read[..., :3]


def whole(kind: str, **options: object):
    def write(seed: int) -> bytes:
        content = io.BytesIO()
        if kind == "TIFF":
            tifffile.imwrite(content, tissue(seed), photometric="rgb", rowsperstrip=64, **options)
        else:
            Image.fromarray(tissue(seed)).save(content, format=kind, **options)
        return content.getvalue()

    return write


WHOLE = {
    "JPEG": whole("JPEG", quality=90),
    "JPEG, progressive": whole("JPEG", quality=90, progressive=True),
    "JPEG, restart marks": whole("JPEG", quality=90, restart_marker_rows=2),
    "WebP": whole("WEBP", quality=90),
    "WebP, lossless": whole("WEBP", lossless=True),
    "PNG": whole("PNG"),
    "GIF": whole("GIF"),
    "JPEG 2000": whole("JPEG2000", irreversible=True, quality_layers=[8]),
    "TIFF, JPEG": whole("TIFF", compression="jpeg"),
    "TIFF, LZW": whole("TIFF", compression="lzw"),
    "TIFF, Deflate": whole("TIFF", compression="zlib"),
    "TIFF, Zstandard": whole("TIFF", compression="zstd"),
    "TIFF, none": whole("TIFF"),
    "BMP": whole("BMP"),
}
DAMAGES = (
    "cut, with an end mark",
    "zero end",
    "hole of zeros",
    "hole of random bytes",
    "byte",
    "bit",
)


def spoiled(content: bytes, damage: str, random: np.random.Generator) -> bytes:
    """Damage a whole file as `damage` says, behind its first 700 bytes."""
    data, start = bytearray(content), int(random.integers(700, len(content) - 4200))
    match damage:
        case "cut, with an end mark":
            return bytes(data[:start]) + b"\xff\xd9"
        case "zero end":
            data[start:] = bytes(len(data) - start)
        case "hole of zeros":
            data[start : start + 4096] = bytes(4096)
        case "hole of random bytes":
            data[start : start + 4096] = random.bytes(4096)
        case "byte":
            data[start] ^= int(random.integers(1, 256))
        case "bit":
            data[start] ^= 1 << int(random.integers(0, 8))
    return bytes(data)


def silent(seed: int, count: int) -> dict[str, dict[str, list[int]]]:
    """Return, by format and damage, how many files are silently wrong, and of how many."""
    found: dict[str, dict[str, list[int]]] = {}
    file = Path(tempfile.mkdtemp()) / "a.img"
    for kind, write in WHOLE.items():
        random, found[kind] = np.random.default_rng(seed), {damage: [0, 0] for damage in DAMAGES}
        for number in range(count):
            if number % 20 == 0:
                content = write(seed + number)
                file.write_bytes(content)
                right = np.asarray(load_image(file)).astype(int)
            damage = DAMAGES[number % len(DAMAGES)]
            file.write_bytes(spoiled(content, damage, random))
            found[kind][damage][1] += 1
            try:
                image = load_image(file)
            except UserError:
                continue
            pixels = np.asarray(image)
            off = (
                pixels.shape != right.shape
                or (np.abs(pixels - right) > 16).any(axis=-1).mean() > 0.001
            )
            found[kind][damage][0] += bool(off and not doubts_of(image, file))
    return found


def main() -> None:
    asked = sys.argv[1:]
    if asked[:1] == ["silent"]:
        json.dump(
            silent(*(int(argument) for argument in (*asked[1:], "0", "2000")[:2])),
            sys.stdout,
            indent=1,
        )
        return
    seed, count = (int(argument) for argument in (*asked, "0", "2000")[:2])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    random = np.random.default_rng(seed)
    found: dict[str, dict] = {kind: {"read": 0, "refused": 0, "wrong": []} for kind in SEEDS}
    file = Path(tempfile.mkdtemp()) / "a.img"
    for number in range(count):
        kind = list(SEEDS)[number % len(SEEDS)]
        write = SEEDS[kind][int(random.integers(0, len(SEEDS[kind])))]
        data = damaged(write(number), random)
        if kind == "PNG" and random.random() < 0.8:
            data = with_right_check_sums(data)
        file.write_bytes(data)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            image = load_image(file)
        except UserError as error:
            ok, said = str(error).startswith(str(file)) and "\n" not in str(error), str(error)
            found[kind]["refused"] += ok
        else:
            ours, theirs = np.asarray(image)[..., :3], second_opinion(kind, data)
            ok = (
                theirs is not None
                and ours.shape == theirs.shape
                and bool(np.abs(ours.astype(int) - theirs).max() <= APART.get(kind, 0))
            )
            said = f"ours {ours.shape}, theirs {None if theirs is None else theirs.shape}"
            if theirs is not None and ours.shape == theirs.shape:
                said += f", {np.abs(ours.astype(int) - theirs).max()} apart"
            found[kind]["read"] += int(ok)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if not ok:
            found[kind]["wrong"].append([said, base64.b64encode(data).decode()])
    json.dump(
        found | {"megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024},
        sys.stdout,
    )


if __name__ == "__main__":
    main()
