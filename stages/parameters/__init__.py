"""All blocks of params.yaml together, checked before anything runs."""
