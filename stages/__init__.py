"""The stages of the pipeline, one module each, in the order of dvc.yaml, and what they share."""
