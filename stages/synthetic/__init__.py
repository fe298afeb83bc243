"""The drawn dataset: slides, glomeruli and what they are drawn with."""
