"""Open image files, make crops square, and draw sheets of them."""
