"""From a file to pixels: opening crops, making them square, their stains, sheets of them."""
