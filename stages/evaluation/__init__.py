"""A trained model at work on crops, and how it did."""
