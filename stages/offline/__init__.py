"""To a machine without a network: everything into a folder, and out of it again."""
