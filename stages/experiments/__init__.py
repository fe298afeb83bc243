"""Experiments of git and DVC: run, read, repeated and put side by side."""
