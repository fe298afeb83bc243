"""What all other folders use: errors, parameters, files, and how numbers are rounded."""
