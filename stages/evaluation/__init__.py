"""Predictions of a trained model, and their evaluation."""
