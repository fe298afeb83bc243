"""Draw the embedded dataset, data/demo: synthetic PAS-like glomeruli, so that the pipeline runs with nothing else at hand.

No picture here is of a patient. Each is composed of two densities, of the PAS reaction (magenta: basement membranes,
mesangial matrix, scars) and of haematoxylin (blue: nuclei), and coloured by the Beer-Lambert law with the stain of its
slide and the scanner of its site, as light passes a stained section (Ruifrok and Johnston, Anal Quant Cytol Histol
23:291, 2001). Labels follow what is drawn: a tuft of which hardly any capillary loop is open is globally sclerotic.
"""

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy
from PIL import Image
from pydantic import Field

from stages.base.errors import run_stage
from stages.base.parameters import Parameters, read_params
from stages.workers.cores import on_all_cores

FOLDER = Path("data/demo")
CLASSES = ("non_globally_sclerotic", "globally_sclerotic")  # as in data/demo.yaml
SITES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

# Optical densities of red, green and blue at full strength, read off PAS-stained sections.
PAS, HAEMATOXYLIN = np.array((0.17, 0.78, 0.36)), np.array((0.62, 0.66, 0.34))


class DemoParameters(Parameters):
    """`demo` in params.yaml: how many sites, slides of each, and glomeruli of each slide (on average)."""

    sites: int = Field(ge=1, le=len(SITES))
    slides: int = Field(ge=1, le=1000)
    glomeruli: int = Field(ge=2, le=1000)
    seed: int = Field(ge=0, lt=2**32)


class Slide(NamedTuple):
    """How a slide looks: its stain (red, green, blue density of each dye), light, sharpness and scale."""

    name: str
    pas: np.ndarray
    haematoxylin: np.ndarray
    light: np.ndarray
    blur: float
    scale: float


class Tuft(NamedTuple):
    """What is drawn: `open_share` of the tuft has open loops (the rest is scar), between 0 and 1."""

    open_share: float
    filling: float  # of Bowman's capsule by the tuft, as a share of its radius
    cellularity: float  # nuclei, relative to a normal tuft
    loop_density: float  # of PAS within the loops; high where they are closed by cells
    scar_density: float


def main() -> None:
    params = read_params("demo", DemoParameters)
    shutil.rmtree(FOLDER, ignore_errors=True)
    for name in CLASSES:
        (FOLDER / name).mkdir(parents=True)
    slides = [
        (site, number, count) for site in range(params.sites) for number, count in enumerate(_counts(params, site), start=1)
    ]
    folder = FOLDER.resolve()
    jobs = [(folder, params.seed, site, number, index) for site, number, count in slides for index in range(1, count + 1)]
    for _ in on_all_cores(_draw_one, jobs, "drawing synthetic glomeruli", prefer="processes"):
        pass


def _counts(params: DemoParameters, site: int) -> list[int]:
    random = np.random.default_rng([params.seed, site])
    low, high = max(2, params.glomeruli // 2), params.glomeruli * 3 // 2
    return random.integers(low, high, size=params.slides, endpoint=True).tolist()


def _draw_one(folder: Path, seed: int, site: int, number: int, index: int) -> None:
    # Each slide and each glomerulus has random numbers of its own: neither the order nor the workers matter.
    slide = make_slide(np.random.default_rng([seed, site, number]), np.random.default_rng([seed, site]), f"{SITES[site]}{number}")
    random = np.random.default_rng([seed, site, number, index])
    tuft, label = make_tuft(random)
    image = draw_glomerulus(random, slide, tuft)
    image.save(folder / CLASSES[label] / f"synthetic-{slide.name}_{index:03d}.png")


def make_slide(random: np.random.Generator, site_random: np.random.Generator, name: str) -> Slide:
    """Return a slide: the site's own stain, scanner and scale, with the slide's deviation from them."""
    pas_strength, haematoxylin_strength = site_random.uniform(0.8, 1.25), site_random.uniform(0.75, 1.25)
    pas = PAS * (1 + site_random.normal(0, 0.12, 3))
    haematoxylin = HAEMATOXYLIN * (1 + site_random.normal(0, 0.1, 3))
    light = site_random.uniform(232, 252, 3)
    blur, scale = site_random.uniform(0.5, 1.1), site_random.uniform(0.8, 1.2)
    return Slide(
        name,
        pas * pas_strength * random.uniform(0.6, 1.5) * (1 + random.normal(0, 0.04, 3)),
        haematoxylin * haematoxylin_strength * random.uniform(0.7, 1.35) * (1 + random.normal(0, 0.04, 3)),
        np.clip(light * random.uniform(0.94, 1.02), 0, 255),
        blur * random.uniform(0.9, 1.3),
        scale,
    )


def make_tuft(random: np.random.Generator) -> tuple[Tuft, int]:
    """Return what to draw and its label: one in five is globally sclerotic, and some lie between the clear cases."""
    kind = random.choice(
        ["normal", "cellular", "collapsed", "segmental", "sclerotic", "between"],
        p=[0.45, 0.10, 0.09, 0.10, 0.14, 0.12],
    )
    uniform = random.uniform
    match kind:
        case "normal":
            return Tuft(1.0, uniform(0.8, 0.93), uniform(0.8, 1.3), uniform(0.03, 0.15), 0.8), 0
        case "cellular":  # Loops closed by cells and matrix: dark, but no scar.
            return Tuft(1.0, uniform(0.86, 0.97), uniform(1.2, 2.2), uniform(0.3, 0.62), 0.8), 0
        case "collapsed":  # Shrunken, as sclerotic ones are, with loops that are wrinkled and still open.
            return Tuft(uniform(0.85, 1.0), uniform(0.5, 0.7), uniform(0.6, 1.2), uniform(0.15, 0.4), 0.8), 0
        case "segmental":  # A part is scarred, not the whole.
            return Tuft(uniform(0.4, 0.8), uniform(0.72, 0.93), uniform(0.7, 1.2), uniform(0.05, 0.15), uniform(0.6, 0.95)), 0
        case "sclerotic":
            return Tuft(0.0, uniform(0.55, 0.95), uniform(0.05, 0.4), 0.3, uniform(0.45, 0.95)), 1
        case _:  # Nearly all is scar. Two pathologists would not draw the line at the same place, nor does the label.
            open_share = uniform(0.03, 0.4)
            label = int(open_share + random.normal(0, 0.05) < 0.21)
            return Tuft(open_share, uniform(0.55, 0.95), uniform(0.25, 0.7), uniform(0.1, 0.35), uniform(0.5, 0.95)), label


def draw_glomerulus(random: np.random.Generator, slide: Slide, tuft: Tuft) -> Image.Image:
    """Return a tight rectangular crop, RGB, 100 to 400 pixels a side, of one glomerulus."""
    longer = float(np.clip(random.uniform(150, 360) * slide.scale * (0.6 + 0.4 * tuft.filling), 115, 400))
    aspect = random.uniform(0.68, 0.97)
    width, height = int(longer), max(100, int(longer * aspect))
    if random.random() < 0.5:
        width, height = height, width
    y, x = np.mgrid[:height, :width].astype(np.float64)
    margin = random.uniform(0.03, 0.14)
    u = (x - width / 2) / (width / 2 * (1 - margin))
    v = (y - height / 2) / (height / 2 * (1 - margin))
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    unit = (width + height) / 4  # pixels of a radius
    capsule = _wavy(random, angle, 0.04)
    lobes = 1 + random.uniform(0.02, 0.06) * _noise(random, radius.shape, unit / random.uniform(5, 9))
    edge = np.minimum(tuft.filling * _wavy(random, angle, 0.07) * lobes, 0.985) * capsule

    pas, haematoxylin = _interstitium(random, x, y, unit, scarred=1 - tuft.open_share)
    # Bowman's space: clear, or filled with pale collagen where the tuft is scarred.
    inside = _step(capsule - radius, 0.02)
    collagen = (1 - tuft.open_share) * random.uniform(0.1, 0.4)
    pas = pas * (1 - inside) + inside * (0.03 + collagen * (1 + 0.3 * _noise(random, pas.shape, unit / 12)))
    haematoxylin = haematoxylin * (1 - inside)

    tuft_pas, walls = _tuft_pas(random, x, y, unit, tuft, radius / edge)
    within = _step(edge - radius, 0.015)
    pas = pas * (1 - within) + within * tuft_pas

    thickness = random.uniform(0.018, 0.035) * (1 + 1.5 * (1 - tuft.open_share) * random.random())
    wrinkles = 1 + 0.03 * _noise(random, pas.shape, unit / 8)
    pas += random.uniform(0.55, 0.85) * np.exp(-(((radius * wrinkles - capsule) / thickness) ** 2))

    count = int(random.uniform(75, 110) * tuft.cellularity * tuft.filling**2)
    chance = within * (radius < 0.95 * edge) * (0.15 + walls)
    haematoxylin += _nuclei(random, chance, count, unit * 0.045)
    pas *= 1 + 0.06 * _noise(random, pas.shape, 1.0)
    if random.random() < 0.15:  # The edge of the biopsy core: glass beyond it.
        direction = random.uniform(0, 2 * np.pi)
        tissue = _step(random.uniform(0.75, 1.05) - (u * np.cos(direction) + v * np.sin(direction)), 0.05)
        pas, haematoxylin = pas * tissue, haematoxylin * tissue
    return _colour(random, slide, pas, haematoxylin)


def _tuft_pas(
    random: np.random.Generator, x: np.ndarray, y: np.ndarray, unit: float, tuft: Tuft, depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the PAS density of the tuft and where its walls are (0 to 1): capillary loops, with scar in place of a part."""
    spacing = unit * random.uniform(0.13, 0.19) * tuft.filling
    near, next_near = _cells(random, x, y, spacing, warp=0.5)
    between = (next_near - near) / spacing
    walls = np.exp(-((between / random.uniform(0.2, 0.3)) ** 2))
    mesangium = _step(_noise(random, x.shape, unit / 7) - 0.7, 0.4)
    loops = tuft.loop_density + 0.75 * np.maximum(walls, 0.8 * mesangium)
    # Scar: solid, in folded layers (the contours of a smooth field), with a few clefts that look like loops.
    layers = np.sin(2 * np.pi * (1.6 * _noise(random, x.shape, unit / 5) + 0.25 * _noise(random, x.shape, unit / 30)))
    scar = tuft.scar_density * (0.9 + random.uniform(0.03, 0.13) * layers + 0.08 * _noise(random, x.shape, unit / 4))
    clefts = _step(0.07 - np.abs(_noise(random, x.shape, unit / 9)), 0.05) * _step(
        _noise(random, x.shape, unit / 6) - random.uniform(0.8, 2.5), 0.3
    )
    scar *= 1 - 0.85 * clefts
    if tuft.open_share >= 1:
        return loops, walls
    # Which part is open: where a smooth field is highest. Scars come together, they are not scattered.
    field = _noise(random, x.shape, unit / 3)
    inside = depth < 1
    limit = np.quantile(field[inside], 1 - tuft.open_share) if inside.any() else 0.0
    is_open = _step(field - limit, 0.15) if tuft.open_share > 0 else np.zeros_like(field)
    return is_open * loops + (1 - is_open) * scar, is_open * walls + (1 - is_open) * 0.15


def _interstitium(
    random: np.random.Generator, x: np.ndarray, y: np.ndarray, unit: float, scarred: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return PAS and haematoxylin densities of what surrounds a glomerulus: tubules, or scar with inflammatory cells."""
    spacing = unit * random.uniform(0.4, 0.55)
    near, next_near = _cells(random, x, y, spacing, warp=0.25)
    between = (next_near - near) / spacing
    membrane = np.exp(-((between / 0.13) ** 2))
    lumen = _step(0.22 - near / spacing, 0.06)
    tubules = 0.3 + 0.06 * _noise(random, x.shape, unit / 25) + 0.4 * membrane - 0.24 * lumen
    fibrosis = 0.35 + 0.1 * _noise(random, x.shape, (unit / 6, unit / 30))
    mixture = scarred * random.uniform(0.3, 1.0)
    pas = (1 - mixture) * tubules + mixture * fibrosis
    rows = np.exp(-(((between - 0.35) / 0.15) ** 2))  # Tubular cells keep their nuclei at the membrane's side.
    haematoxylin = _nuclei(random, rows * (1 - mixture) + mixture, int(random.uniform(40, 90) * (1 + mixture)), unit * 0.042)
    return np.clip(pas, 0.02, None), haematoxylin


def _cells(
    random: np.random.Generator, x: np.ndarray, y: np.ndarray, spacing: float, warp: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances, in pixels, to the nearest and next nearest of scattered centres: walls run where they are equal."""
    height, width = x.shape
    grid = np.mgrid[-2 : height / spacing + 2, -2 : width / spacing + 2].reshape(2, -1).T
    centres = (grid + random.uniform(-0.45, 0.45, grid.shape)) * spacing
    points = np.stack(
        [
            y + warp * spacing * _noise(random, x.shape, spacing / 2),
            x + warp * spacing * _noise(random, x.shape, spacing / 2),
        ],
        -1,
    )
    distances, _ = scipy.spatial.cKDTree(centres).query(points.reshape(-1, 2), k=2)
    near, next_near = distances.reshape(height, width, 2).transpose(2, 0, 1)
    return near, next_near


def _nuclei(random: np.random.Generator, chance: np.ndarray, count: int, size: float) -> np.ndarray:
    """Return the haematoxylin density of `count` elliptic nuclei of about `size` pixels radius, where `chance` is high."""
    density = np.zeros_like(chance)
    total = chance.sum()
    if count == 0 or total <= 0:
        return density
    height, width = chance.shape
    for place in random.choice(chance.size, size=count, p=chance.ravel() / total):
        row, column = divmod(int(place), width)
        long, short = size * random.uniform(0.8, 1.4), size * random.uniform(0.5, 0.9)
        turn, strength = random.uniform(0, np.pi), random.uniform(0.4, 0.95)
        reach = int(long * 1.5) + 2
        top, left = max(0, row - reach), max(0, column - reach)
        y, x = np.mgrid[top : min(height, row + reach), left : min(width, column + reach)].astype(np.float64)
        along = (x - column) * np.cos(turn) + (y - row) * np.sin(turn)
        across = (y - row) * np.cos(turn) - (x - column) * np.sin(turn)
        shape = _step(1 - np.hypot(along / long, across / short), 0.25) * strength
        patch = density[top : top + y.shape[0], left : left + y.shape[1]]
        np.maximum(patch, shape, out=patch)
    return density


def _colour(random: np.random.Generator, slide: Slide, pas: np.ndarray, haematoxylin: np.ndarray) -> Image.Image:
    """Return the picture of the two densities under the slide's light (Beer-Lambert), blurred and with sensor noise."""
    densities = np.clip(pas, 0, None)[..., None] * slide.pas + np.clip(haematoxylin, 0, None)[..., None] * slide.haematoxylin
    light = slide.light * 10.0**-densities
    light = scipy.ndimage.gaussian_filter(light, (slide.blur, slide.blur, 0)) + random.normal(0, 2.0, light.shape)
    return Image.fromarray(np.clip(np.rint(light), 0, 255).astype(np.uint8))


def _noise(random: np.random.Generator, shape: tuple[int, int], scale: float | tuple[float, float]) -> np.ndarray:
    """Return smooth noise of mean 0 and standard deviation 1 whose spots are about `scale` pixels wide (rows, columns)."""
    field = scipy.ndimage.gaussian_filter(random.standard_normal(shape), scale, mode="wrap")
    return (field - field.mean()) / (field.std() + 1e-12)


def _step(value: np.ndarray, width: float) -> np.ndarray:
    """Return 0 where `value` is below -width, 1 above width, and a smooth step between."""
    t = np.clip(value / (2 * width) + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def _wavy(random: np.random.Generator, angle: np.ndarray, size: float) -> np.ndarray:
    """Return a radius about 1 that waves with the angle, by about `size`."""
    waves = [size / k * random.normal() * np.cos(k * angle + random.uniform(0, 2 * np.pi)) for k in range(2, 8)]
    return 1 + np.sum(waves, axis=0)


if __name__ == "__main__":
    run_stage(main, __doc__)
