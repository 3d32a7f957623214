"""Layers of Keras 2 programs."""

from minikeras.layers import AlphaDropout, ThresholdedReLU
from minikeras.layers.image import RandomHeight, RandomWidth

__all__ = ["AlphaDropout", "RandomHeight", "RandomWidth", "ThresholdedReLU"]
