"""Draw the synthetic dataset: slides and glomeruli."""
