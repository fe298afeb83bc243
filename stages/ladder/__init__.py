"""The climb over the model steps."""
