"""Reverse-mode differentiation: tensors, variables, the tape, and the public gradient check."""

from minikeras.lazy import public_names

__getattr__, __dir__ = public_names(__name__)
