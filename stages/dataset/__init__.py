"""The pipeline's own word on its data: cards, the images of the manifest with their split,
predictions.
"""
