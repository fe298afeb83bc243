import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from stages.images.similarity import patterns, similar_pairs

TURNS = Image.Transpose


def picture(seed, size=(96, 80)):
    """Blobs of many sizes, as tissue has, so that a thumbnail still shows a pattern."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", size, (235, 220, 230))
    draw = ImageDraw.Draw(image)
    for _ in range(120):
        x, y, radius = random.uniform(0, size[0]), random.uniform(0, size[1]), random.uniform(2, 10)
        draw.ellipse(
            (x - radius, y - radius, x + radius, y + radius),
            fill=tuple(map(int, random.integers(60, 230, 3))),
        )
    return image


def as_jpeg(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


COPIES = {
    "recompressed": lambda image: as_jpeg(image, 20),
    "reduced": lambda image: image.resize(
        [side // 2 for side in image.size], Image.Resampling.LANCZOS
    ),
    "enlarged": lambda image: image.resize([side * 3 for side in image.size]),
    "stretched to a square": lambda image: image.resize((96, 96)),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.3),
    "gray": lambda image: image.convert("L").convert("RGB"),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "turned and all of it": lambda image: as_jpeg(
        ImageEnhance.Brightness(image.transpose(TURNS.ROTATE_270).resize((70, 80))).enhance(0.9), 60
    ),
    **{
        f"transposed by {turn.name}": lambda image, turn=turn: image.transpose(turn)
        for turn in TURNS
    },
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_found_among_unrelated_crops(kind):
    originals = [picture(seed) for seed in range(40)]
    crops = [*originals, COPIES[kind](originals[7])]
    found = similar_pairs(patterns(np.asarray(crop) for crop in crops))
    assert [pair[:2] for pair in found] == [(7, 40)]
    assert 0.95 <= found[0][2] <= 1


def test_what_all_crops_share_is_no_similarity():
    """A mask, as annotation programs cut crops, would otherwise make all crops alike."""
    masked = []
    for seed in range(40):
        disk = Image.new("L", (96, 80))
        ImageDraw.Draw(disk).ellipse((4, 4, 92, 76), fill=255)
        masked.append(Image.composite(picture(seed), Image.new("RGB", (96, 80), "white"), disk))
    assert similar_pairs(patterns(np.asarray(crop) for crop in masked)) == []


def test_crops_without_a_pattern_are_compared_with_none():
    plain = [np.full((20, 30, 3), level, dtype=np.uint8) for level in (0, 200, 200, 255)]
    assert not patterns(plain).any()
    assert similar_pairs(patterns(plain)) == []
    assert similar_pairs(patterns(plain[:1])) == []


def test_each_pair_of_several_copies_is_listed_once_the_most_similar_first():
    originals = [picture(seed) for seed in range(20)]
    crops = [originals[3], *originals, as_jpeg(originals[3], 10)]
    found = similar_pairs(patterns(np.asarray(crop) for crop in crops))
    assert [pair[:2] for pair in found] == [(0, 4), (0, 21), (4, 21)]
    assert found[0][2] == 1 > found[1][2]


def test_real_crops_have_no_near_duplicates_but_altered_copies(real_data):
    files = sorted((real_data / "aidpath").glob("*/*.png"))
    originals = [Image.open(file).convert("RGB") for file in files]
    chosen = range(0, len(files), 60)
    crops = [*originals, *(COPIES["turned and all of it"](originals[row]) for row in chosen)]
    found = similar_pairs(patterns(np.asarray(crop) for crop in crops))
    assert sorted(pair[:2] for pair in found) == [
        (row, len(files) + place) for place, row in enumerate(chosen)
    ]
