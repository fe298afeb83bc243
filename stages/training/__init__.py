"""Fitting networks and heads, and going on with a fit that was killed."""
