"""minikeras: a lightweight Keras, written from scratch."""

__version__ = "0.1.0"
