"""How many independent crops those of slides are worth: their number over the design effect."""

# The intraclass correlation expected before any crop is seen, the number of slides that this
# counts as much as, and the least correlation, whatever the crops show.
EXPECTED_ICC, EXPECTED_SLIDES, LEAST_ICC = 0.1, 4, 0.03


def design(crops_per_slide: float, icc: float = EXPECTED_ICC) -> float:
    """Return the design effect of an intraclass correlation (Kish, Survey Sampling, 1965)."""
    return 1 + max(crops_per_slide - 1, 0) * icc


def design_effect(seen: float, slides: int, crops_per_slide: float) -> float:
    """Return the design effect `seen` on some slides, averaged with the one that is expected, and
    not below the least.
    """
    expected = EXPECTED_SLIDES * design(crops_per_slide)
    effect = ((slides - 1) * seen + expected) / (slides - 1 + EXPECTED_SLIDES)
    return max(effect, design(crops_per_slide, LEAST_ICC))
