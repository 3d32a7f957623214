"""Layers of Keras 2 programs."""

from minikeras.layers import AlphaDropout, ThresholdedReLU

__all__ = ["AlphaDropout", "ThresholdedReLU"]
