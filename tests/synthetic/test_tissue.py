"""The embedded dataset: the same for the same seed, of the promised shape, and learnable but not by
brightness alone.
"""

from collections import Counter
from pathlib import Path

import joblib
import numpy as np
import pytest
from PIL import Image

from stages import demo
from stages.dataset.card import read_dataset
from stages.intake.crops import make_manifest
from stages.synthetic.stains import make_slide
from stages.synthetic.tissue import Tuft, draw_glomerulus, make_tuft
from tests.conftest import PROJECT, set_params


def draw(**changes):
    """Draw two or three glomeruli per slide; return the bytes of each file."""
    few = {"sites": 2, "slides": 1, "glomeruli": 2} | changes
    set_params({f"demo.{key}": value for key, value in few.items()})
    demo.main()
    return {
        path.relative_to("data/demo").as_posix(): path.read_bytes()
        for path in Path("data/demo").rglob("*.png")
    }


def test_the_same_seed_draws_the_same_whatever_the_workers(workplace, monkeypatch):
    first = draw()
    # What was drawn before is removed.
    Image.new("RGB", (9, 9)).save("data/demo/globally_sclerotic/old.png")
    monkeypatch.setattr(joblib, "cpu_count", lambda: 1)
    assert draw() == first
    assert draw(seed=1) != first


def test_its_own_card_fits(workplace):
    Path("data/demo.yaml").write_text((PROJECT / "data/demo.yaml").read_text())
    draw(slides=2)
    rows = make_manifest(read_dataset("demo"), Path("unreadable.csv"))[0]
    assert Counter((row.site, row.slide) for row in rows).keys() == {
        ("A", "synthetic-A1"),
        ("A", "synthetic-A2"),
        ("B", "synthetic-B1"),
        ("B", "synthetic-B2"),
    }
    assert all(100 <= side <= 400 for row in rows for side in (row.width, row.height))
    assert all("synthetic" in row.path for row in rows)


def test_one_in_five_is_sclerotic():
    labels = [make_tuft(np.random.default_rng(seed))[1] for seed in range(4000)]
    assert np.mean(labels) == pytest.approx(0.2, abs=0.02)


def test_a_sclerotic_tuft_is_denser_and_has_fewer_nuclei_than_an_open_one():
    slide = make_slide(np.random.default_rng(1), np.random.default_rng(2), "A1")
    nuclei, brightness = {}, {}
    for name, tuft in {
        "open": Tuft(1.0, 0.9, 1.0, 0.08, 0.8),
        "sclerotic": Tuft(0.0, 0.9, 0.1, 0.3, 0.8),
    }.items():
        image = draw_glomerulus(np.random.default_rng(3), slide, tuft)
        height, width = np.asarray(image).shape[:2]
        middle = np.asarray(image)[height // 4 : -height // 4, width // 4 : -width // 4].astype(
            float
        )
        brightness[name] = middle[..., 1].mean()
        nuclei[name] = np.mean(middle[..., 0] < 0.5 * np.median(middle[..., 0]))
    assert nuclei["sclerotic"] < 0.3 * nuclei["open"]
    assert brightness["sclerotic"] < brightness["open"]
