"""What users hook into training with."""

from minikeras.lazy import public_names

__getattr__, __dir__ = public_names(__name__)
