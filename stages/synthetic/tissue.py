"""Draw one glomerulus: choose its kind and label, then its densities of PAS and hematoxylin."""

from typing import NamedTuple

import numpy as np
from PIL import Image

from stages.synthetic.stains import Slide, color
from stages.synthetic.textures import cells, noise, nuclei, smooth_step, wavy


class Tuft(NamedTuple):
    """What to draw."""

    open_share: float  # the share of the tuft with open loops; the rest is scar
    filling: float  # of Bowman's capsule by the tuft, as a share of its radius
    cellularity: float  # nuclei, relative to a normal tuft
    loop_density: float  # of PAS in the loops; high if cells close them
    scar_density: float  # of PAS in scar


def make_tuft(random: np.random.Generator) -> tuple[Tuft, int]:
    """Return what to draw and its label: one in five is globally sclerotic, some are unclear."""
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
        case "collapsed":  # As small as sclerotic ones, with wrinkled loops that are still open.
            shares = uniform(0.85, 1.0), uniform(0.5, 0.7)
            return Tuft(*shares, uniform(0.6, 1.2), uniform(0.15, 0.4), 0.8), 0
        case "segmental":  # A part is scar.
            shares = uniform(0.4, 0.8), uniform(0.72, 0.93)
            densities = uniform(0.7, 1.2), uniform(0.05, 0.15), uniform(0.6, 0.95)
            return Tuft(*shares, *densities), 0
        case "sclerotic":
            return Tuft(0.0, uniform(0.55, 0.95), uniform(0.05, 0.4), 0.3, uniform(0.45, 0.95)), 1
        case _:  # Nearly all is scar. Pathologists would draw the line at different places.
            open_share = uniform(0.03, 0.4)
            label = int(open_share + random.normal(0, 0.05) < 0.21)
            shares = open_share, uniform(0.55, 0.95)
            densities = uniform(0.25, 0.7), uniform(0.1, 0.35), uniform(0.5, 0.95)
            return Tuft(*shares, *densities), label


def draw_glomerulus(random: np.random.Generator, slide: Slide, tuft: Tuft) -> Image.Image:
    """Return a tight rectangular crop of one glomerulus, RGB, 100 to 400 pixels per side."""
    longer = random.uniform(150, 360) * slide.scale * (0.6 + 0.4 * tuft.filling)
    longer = float(np.clip(longer, 115, 400))
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
    capsule = wavy(random, angle, 0.04)
    depth, spots = random.uniform(0.02, 0.06), unit / random.uniform(5, 9)
    lobes = 1 + depth * noise(random, radius.shape, spots)
    edge = np.minimum(tuft.filling * wavy(random, angle, 0.07) * lobes, 0.985) * capsule

    pas, hematoxylin = _interstitium(random, x, y, unit, scarred=1 - tuft.open_share)
    # Bowman's space: clear, or filled with pale collagen where the tuft is scarred.
    inside = smooth_step(capsule - radius, 0.02)
    collagen = (1 - tuft.open_share) * random.uniform(0.1, 0.4)
    space = 0.03 + collagen * (1 + 0.3 * noise(random, pas.shape, unit / 12))
    pas = pas * (1 - inside) + inside * space
    hematoxylin = hematoxylin * (1 - inside)

    tuft_pas, walls = _tuft_pas(random, x, y, unit, tuft, radius / edge)
    within = smooth_step(edge - radius, 0.015)
    pas = pas * (1 - within) + within * tuft_pas

    thickness = random.uniform(0.018, 0.035) * (1 + 1.5 * (1 - tuft.open_share) * random.random())
    wrinkles = 1 + 0.03 * noise(random, pas.shape, unit / 8)
    pas += random.uniform(0.55, 0.85) * np.exp(-(((radius * wrinkles - capsule) / thickness) ** 2))

    count = int(random.uniform(75, 110) * tuft.cellularity * tuft.filling**2)
    chance = within * (radius < 0.95 * edge) * (0.15 + walls)
    hematoxylin += nuclei(random, chance, count, unit * 0.045)
    pas *= 1 + 0.06 * noise(random, pas.shape, 1.0)
    if random.random() < 0.15:  # The edge of the biopsy core: glass beyond it.
        direction = random.uniform(0, 2 * np.pi)
        reach = random.uniform(0.75, 1.05)
        tissue = smooth_step(reach - (u * np.cos(direction) + v * np.sin(direction)), 0.05)
        pas, hematoxylin = pas * tissue, hematoxylin * tissue
    return color(random, slide, pas, hematoxylin)


def _tuft_pas(
    random: np.random.Generator,
    x: np.ndarray,
    y: np.ndarray,
    unit: float,
    tuft: Tuft,
    depth: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the PAS density of a tuft with loops and scar, and where its walls are (0 to 1)."""
    spacing = unit * random.uniform(0.13, 0.19) * tuft.filling
    near, next_near = cells(random, x, y, spacing, warp=0.5)
    between = (next_near - near) / spacing
    walls = np.exp(-((between / random.uniform(0.2, 0.3)) ** 2))
    mesangium = smooth_step(noise(random, x.shape, unit / 7) - 0.7, 0.4)
    loops = tuft.loop_density + 0.75 * np.maximum(walls, 0.8 * mesangium)
    # Scar is solid, in folded layers (the contours of a smooth field), with a few clefts that look
    # like loops.
    field = 1.6 * noise(random, x.shape, unit / 5) + 0.25 * noise(random, x.shape, unit / 30)
    layers = random.uniform(0.03, 0.13) * np.sin(2 * np.pi * field)
    scar = tuft.scar_density * (0.9 + layers + 0.08 * noise(random, x.shape, unit / 4))
    clefts = smooth_step(0.07 - np.abs(noise(random, x.shape, unit / 9)), 0.05)
    seldom = noise(random, x.shape, unit / 6) - random.uniform(0.8, 2.5)
    scar *= 1 - 0.85 * (clefts * smooth_step(seldom, 0.3))
    if tuft.open_share >= 1:
        return loops, walls
    # Open where a smooth field is highest: scars are connected, not scattered.
    field = noise(random, x.shape, unit / 3)
    inside = depth < 1
    limit = np.quantile(field[inside], 1 - tuft.open_share) if inside.any() else 0.0
    is_open = smooth_step(field - limit, 0.15) if tuft.open_share > 0 else np.zeros_like(field)
    return is_open * loops + (1 - is_open) * scar, is_open * walls + (1 - is_open) * 0.15


def _interstitium(
    random: np.random.Generator, x: np.ndarray, y: np.ndarray, unit: float, scarred: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return PAS and hematoxylin around a glomerulus: tubules, or scar with inflammatory cells."""
    spacing = unit * random.uniform(0.4, 0.55)
    near, next_near = cells(random, x, y, spacing, warp=0.25)
    between = (next_near - near) / spacing
    membrane = np.exp(-((between / 0.13) ** 2))
    lumen = smooth_step(0.22 - near / spacing, 0.06)
    tubules = 0.3 + 0.06 * noise(random, x.shape, unit / 25) + 0.4 * membrane - 0.24 * lumen
    fibrosis = 0.35 + 0.1 * noise(random, x.shape, (unit / 6, unit / 30))
    mixture = scarred * random.uniform(0.3, 1.0)
    pas = (1 - mixture) * tubules + mixture * fibrosis
    # Tubular cells have their nuclei near the membrane.
    rows = np.exp(-(((between - 0.35) / 0.15) ** 2))
    count = int(random.uniform(40, 90) * (1 + mixture))
    hematoxylin = nuclei(random, rows * (1 - mixture) + mixture, count, unit * 0.042)
    return np.clip(pas, 0.02, None), hematoxylin
