"""From a file to pixels: opening crops, making them square, sheets of them."""
