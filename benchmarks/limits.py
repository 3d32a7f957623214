"""How fast the machine could be: a network's floating-point operations, the rates of NumPy's BLAS and of a copy.

Counted are the products alone (Dense, convolutions as their definition has it, recurrent layers, attention), an
addition and a multiplication each.  Training is the forward products, then as many for the weights' gradients and as
many for the inputs', these last not for the layer that reads the network's input, which nobody asks for.
"""

from __future__ import annotations

import importlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import prod
from time import perf_counter
from typing import Any

import numpy as np


def layer_operations(layer: Any, steps: int | None = None) -> tuple[float, float]:
    """A layer's operations for one sample, forward; and how many its inputs' gradient takes.

    Args:
        layer: minikeras's or real Keras's.
        steps: how many there are where the layer takes any number.
    """
    kind = type(layer).__name__
    if kind in ("Dense", "Conv1D", "Conv2D", "Conv3D", "DepthwiseConv1D", "DepthwiseConv2D"):
        positions = prod(size or steps for size in layer.output.shape[1:-1])
        forward = 2.0 * prod(layer.kernel.shape) * positions
        return forward, forward
    if kind in ("SimpleRNN", "LSTM", "GRU"):
        twice = 2.0 * (layer.input.shape[1] or steps)
        kernel, recurrent = (prod(weight.shape) for weight in (layer.cell.kernel, layer.cell.recurrent_kernel))
        return twice * (kernel + recurrent), twice * kernel
    if kind == "MultiHeadAttention":
        length, features = layer.output.shape[1:]  # attending to itself: one length, and as many features in as out
        length = length or steps
        width = layer.num_heads * layer.key_dim
        projections, pairs = 2.0 * length * 4 * features * width, 2.0 * 2 * length * length * width
        return projections + pairs, projections * 3 / 4
    return 0.0, 0.0


def operations(model: Any, training: bool, steps: int | None = None) -> float:
    """Floating-point operations of a network for one sample; `model` is minikeras's or real Keras's."""
    counts = [layer_operations(layer, steps) for layer in model.layers if layer.weights]
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


def copy_rate(size: int) -> float:
    """Bytes per second, read and written, of a copy that moves about so many, and 64 KiB at least."""
    return _copy_rate(max(1 << (size - 1).bit_length(), 1 << 16))


@cache
def _copy_rate(size: int, turns: int = 8) -> float:
    """The best of some turns, and of one thread or as many as there are cores, each with its share."""
    source = np.zeros(size // 2, np.uint8)
    target = np.ones_like(source)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    times = max(1, (1 << 21) // size)  # a clock does not see a short copy
    best = float("inf")
    with ThreadPoolExecutor(cores) as pool:
        for threads in {1, cores}:
            shares = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))

            def copied(share: Any) -> None:
                for _ in range(times):
                    np.copyto(*share)

            for _ in range(turns):
                start = perf_counter()
                list((map if threads == 1 else pool.map)(copied, shares))
                best = min(best, (perf_counter() - start) / times)
    return size / best


def sgemm_rate_on_gpu(size: int = 8192, turns: int = 8) -> float:
    """The same of CuPy's product, which is cuBLAS's, in float32 and not in its shorter TF32."""
    cupy = importlib.import_module("cupy")
    a, b = (cupy.random.default_rng(0).standard_normal((size, size), "float32") for _ in range(2))
    out = cupy.empty_like(a)
    best = float("inf")
    for _ in range(turns):
        cupy.cuda.runtime.deviceSynchronize()
        start = perf_counter()
        cupy.matmul(a, b, out)
        cupy.cuda.runtime.deviceSynchronize()
        best = min(best, perf_counter() - start)
    return 2.0 * size**3 / best


if __name__ == "__main__":
    print(sgemm_rate_on_gpu() if sys.argv[1:] == ["gpu"] else sgemm_rate())
