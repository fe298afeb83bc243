"""How a synthetic slide is stained and lit."""

from typing import NamedTuple

import numpy as np
import scipy
from PIL import Image

# Optical densities of red, green and blue at full strength, read off PAS-stained sections.
PAS, HEMATOXYLIN = np.array((0.17, 0.78, 0.36)), np.array((0.62, 0.66, 0.34))


class Slide(NamedTuple):
    """How a slide looks; `pas` and `hematoxylin` are densities of red, green and blue."""

    name: str
    pas: np.ndarray
    hematoxylin: np.ndarray
    light: np.ndarray
    blur: float
    scale: float


def make_slide(random: np.random.Generator, site_random: np.random.Generator, name: str) -> Slide:
    """Return a slide: the stain, scanner and scale of its site, with random deviations."""
    strengths = site_random.uniform(0.8, 1.25), site_random.uniform(0.75, 1.25)
    pas = PAS * (1 + site_random.normal(0, 0.12, 3)) * strengths[0]
    hematoxylin = HEMATOXYLIN * (1 + site_random.normal(0, 0.1, 3)) * strengths[1]
    light = site_random.uniform(232, 252, 3)
    blur, scale = site_random.uniform(0.5, 1.1), site_random.uniform(0.8, 1.2)
    return Slide(
        name,
        pas * random.uniform(0.6, 1.5) * (1 + random.normal(0, 0.04, 3)),
        hematoxylin * random.uniform(0.7, 1.35) * (1 + random.normal(0, 0.04, 3)),
        np.clip(light * random.uniform(0.94, 1.02), 0, 255),
        blur * random.uniform(0.9, 1.3),
        scale,
    )


def color(
    random: np.random.Generator, slide: Slide, pas: np.ndarray, hematoxylin: np.ndarray
) -> Image.Image:
    """Return the picture of two densities in a slide's light (Beer-Lambert), blurred and noisy."""
    pas, hematoxylin = np.clip(pas, 0, None), np.clip(hematoxylin, 0, None)
    densities = pas[..., None] * slide.pas + hematoxylin[..., None] * slide.hematoxylin
    light = slide.light * 10.0**-densities
    light = scipy.ndimage.gaussian_filter(light, (slide.blur, slide.blur, 0))
    light += random.normal(0, 2.0, light.shape)
    return Image.fromarray(np.clip(np.rint(light), 0, 255).astype(np.uint8))
