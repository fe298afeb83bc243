"""The pipeline's own files on its data: cards, the manifest and its split, predictions."""
