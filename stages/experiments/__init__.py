"""Experiments of git and DVC: run, read, repeated and compared."""
