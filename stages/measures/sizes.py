"""Whether a test set is too small to tell much."""

from collections.abc import Mapping

from stages.measures.scores import title

# A test set of fewer slides, or with a wider interval, tells little.
FEW_SLIDES, WIDE = 10, 0.2


def too_small(slides: int, slides_with_positives: int, widths: Mapping[str, float | None]) -> str:
    """Return a sentence on a test set that is too small to tell much, or nothing.

    Args:
        widths: of the 95 % intervals of measures, or of their differences, by the measures' names;
            None where there is no interval.
    """
    known = {name: width for name, width in widths.items() if width}
    widest = max(known, key=lambda name: known[name], default="")
    none = [title(name) for name in widths if name not in known]
    if slides_with_positives >= FEW_SLIDES and not none and known.get(widest, 0) <= WIDE:
        return ""
    parts = [f"{slides} slide{'s' * (slides != 1)}, {slides_with_positives} with positives"]
    if none:
        parts.append(f"no interval of {' and '.join(none)}")
    if widest and known[widest] > WIDE:
        parts.append(f"the interval of {title(widest)} is {known[widest]:.2f} wide")
    return f"This is too small to tell much: {'; '.join(parts)}."
