"""What everything stands on: errors, parameters, files, progress, and how numbers are rounded."""
