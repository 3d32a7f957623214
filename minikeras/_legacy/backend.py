"""The functions that Keras 2 programs call `K`."""

from minikeras.backend import *  # noqa: F403
