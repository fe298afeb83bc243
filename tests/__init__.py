import stages  # noqa: F401  Before any test imports NumPy: it fixes the arithmetic.
