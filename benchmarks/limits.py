"""How fast the machine could be: a network's floating-point operations, and the rate of NumPy's BLAS.

Counted are the products alone (Dense, convolutions as their definition has it, recurrent layers, attention), an
addition and a multiplication each.  Training is the forward products, then as many for the weights' gradients and as
many for the inputs', these last not for the layer that reads the network's input, which nobody asks for.
"""

from __future__ import annotations

from math import prod
from time import perf_counter
from typing import Any

import numpy as np


def layer_operations(layer: Any) -> tuple[float, float]:
    """A layer's operations for one sample, forward; and how many its inputs' gradient takes."""
    kind = type(layer).__name__
    if kind in ("Dense", "Conv1D", "Conv2D", "Conv3D", "DepthwiseConv1D", "DepthwiseConv2D"):
        positions = prod(layer.output.shape[1:-1])
        forward = 2.0 * prod(layer.kernel.shape) * positions
        return forward, forward
    if kind in ("SimpleRNN", "LSTM", "GRU"):
        steps = 2.0 * layer.input.shape[1]
        kernel, recurrent = (prod(weight.shape) for weight in (layer.cell.kernel, layer.cell.recurrent_kernel))
        return steps * (kernel + recurrent), steps * kernel
    if kind == "MultiHeadAttention":
        length, features = layer.output.shape[1:]  # attending to itself: one length, and as many features in as out
        width = layer.num_heads * layer.key_dim
        projections, pairs = 2.0 * length * 4 * features * width, 2.0 * 2 * length * length * width
        return projections + pairs, projections * 3 / 4
    return 0.0, 0.0


def operations(model: Any, training: bool) -> float:
    """Floating-point operations of a network for one sample; `model` is minikeras's or real Keras's."""
    counts = [layer_operations(layer) for layer in model.layers if layer.weights]
    forward = sum(count for count, _ in counts)
    return 3 * forward - counts[0][1] if training else forward


def sgemm_rate(size: int = 2048, turns: int = 8) -> float:
    """Operations per second of NumPy's product of two square float32 matrices, the best of some turns."""
    generator = np.random.default_rng(0)
    a, b = (generator.standard_normal((size, size), "float32") for _ in range(2))
    out = np.empty_like(a)
    best = float("inf")
    for _ in range(turns):
        start = perf_counter()
        np.matmul(a, b, out)
        best = min(best, perf_counter() - start)
    return 2.0 * size**3 / best


if __name__ == "__main__":
    print(sgemm_rate())
