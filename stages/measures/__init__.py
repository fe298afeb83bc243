"""Measures, thresholds, calibration and novelty of a classifier, with intervals over slides."""
