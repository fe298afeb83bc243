"""Take README's picture of the prediction page: -> docs/prediction-page.png.

    python -m tools.screenshot

The published model predicts twelve drawn crops; Chromium opens the page without a network.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from stages.synthetic.stains import make_slide
from stages.synthetic.tissue import draw_glomerulus, make_tuft

PROJECT = Path(__file__).resolve().parent.parent
PICTURE = PROJECT / "docs/prediction-page.png"
CROPS, SLIDES, WIDTH = 12, 4, 1200


def main() -> None:
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "crops")
        folder.mkdir()
        for number in range(CROPS):
            random, name = np.random.default_rng([3, number]), f"drawn-{number % SLIDES + 1}"
            slide = make_slide(np.random.default_rng([3, 0, number % SLIDES]), random, name)
            crop = draw_glomerulus(random, slide, make_tuft(random)[0])
            crop.save(folder / f"{name}_{number:02}.png")
        command = [sys.executable, "-m", "stages.predict", str(folder), "--html", f"{place}/a.html"]
        command += ["--model", "published/aidpath", "--output", f"{place}/a.csv"]
        command += ["--slide", r"(?P<slide>.+)_\d+\.png$"]
        subprocess.run(command, check=True, cwd=PROJECT)
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        with sync_playwright() as playwright:
            chrome = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = chrome.new_page(viewport={"width": WIDTH, "height": 800})
            page.set_default_timeout(600_000)
            page.goto(Path(place, "a.html").as_uri())
            page.screenshot(path=f"{place}/page.png", full_page=True)
            chrome.close()
        # A third of the bytes.
        Image.open(f"{place}/page.png").convert("RGB").quantize(256).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
