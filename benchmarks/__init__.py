"""Benchmarks of minikeras against real Keras, side by side on one machine; see README.md."""
