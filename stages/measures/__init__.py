"""How good a classifier is, where to cut and how sure to be, with intervals over slides."""
