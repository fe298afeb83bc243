"""All of params.yaml, checked before anything runs."""
