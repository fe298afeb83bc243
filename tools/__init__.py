"""Programs for those who work on the project; nothing of the pipeline needs them."""

import stages as stages  # Before NumPy: it fixes how numbers are rounded.
