"""Datasets as NumPy arrays: `digits` is drawn by this package, the others are found on disk or downloaded."""

from minikeras.lazy import public_names

__getattr__, __dir__ = public_names(__name__)
