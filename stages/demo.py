"""Draw the embedded dataset, data/demo: synthetic PAS-like glomeruli, none of a patient.

Each picture consists of two densities, of the PAS reaction (magenta: basement membranes, mesangial
matrix, scars) and of hematoxylin (blue: nuclei). The stain of its slide and the scanner of its site
color it by the Beer-Lambert law (Ruifrok and Johnston, Anal Quant Cytol Histol 23:291, 2001). A
tuft with hardly any open capillary loop is globally sclerotic.
"""

import shutil
from pathlib import Path

import joblib
import numpy as np

from stages.base.errors import run_program
from stages.base.parameters import read_params
from stages.synthetic.parameters import SITES, DemoParameters
from stages.synthetic.stains import make_slide
from stages.synthetic.tissue import draw_glomerulus, make_tuft
from stages.workers.progress import progress

FOLDER = Path("data/demo")
CLASSES = ("non_globally_sclerotic", "globally_sclerotic")  # as in data/demo.yaml


def main() -> None:
    params = read_params("demo", DemoParameters)
    shutil.rmtree(FOLDER, ignore_errors=True)
    for name in CLASSES:
        (FOLDER / name).mkdir(parents=True)
    slides = [
        (site, number, count)
        for site in range(params.sites)
        for number, count in enumerate(_counts(params, site), start=1)
    ]
    folder = FOLDER.resolve()
    jobs = [
        (folder, params.seed, site, number, index)
        for site, number, count in slides
        for index in range(1, count + 1)
    ]
    # In processes, because Python does most of the work.
    parallel = joblib.Parallel(n_jobs=joblib.cpu_count(), return_as="generator_unordered")
    drawn = parallel(joblib.delayed(_draw_one)(*job) for job in jobs)
    for _ in progress(drawn, total=len(jobs), desc="drawing synthetic glomeruli", unit="image"):
        pass


def _counts(params: DemoParameters, site: int) -> list[int]:
    random = np.random.default_rng([params.seed, site])
    low, high = max(2, params.glomeruli // 2), params.glomeruli * 3 // 2
    return random.integers(low, high, size=params.slides, endpoint=True).tolist()


def _draw_one(folder: Path, seed: int, site: int, number: int, index: int) -> None:
    # Each slide and glomerulus has separate random numbers: neither order nor workers matter.
    slide = make_slide(
        np.random.default_rng([seed, site, number]),
        np.random.default_rng([seed, site]),
        f"{SITES[site]}{number}",
    )
    random = np.random.default_rng([seed, site, number, index])
    tuft, label = make_tuft(random)
    image = draw_glomerulus(random, slide, tuft)
    image.save(folder / CLASSES[label] / f"synthetic-{slide.name}_{index:03d}.png")


if __name__ == "__main__":
    run_program(main, __doc__)
