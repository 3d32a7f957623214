"""Elementwise functions in one pass each: fused activations both ways."""

from __future__ import annotations

from typing import Any

from minikeras.kernels.cuda.launch import THREADS, Source, contiguous_numbers, each, launch
from minikeras.kernels.reference import activation as reference
from minikeras.kernels.table import Kernels, one_of, override, same_shape

# fused activations by their numbers in activations.cu; one of a user's has none
ACTIVATIONS = {
    None: 0, "relu": 1, "sigmoid": 2, "tanh": 3, "exponential": 4, "elu": 5, "selu": 6, "softplus": 7, "log_sigmoid": 8,
    "softsign": 9, "leaky_relu": 10, "hard_sigmoid": 11, "keras2_hard_sigmoid": 12, "relu6": 13,
}  # fmt: skip

known_activation = one_of("activation", *ACTIVATIONS)  # a condition of kernels that end with one
_named = one_of("activation", *list(ACTIVATIONS)[1:])

_SOURCE = Source(
    """
__global__ void activate(const T* x, T* y, whole activation, whole n) {
  EACH(i, n) y[i] = activated(x[i], activation);
}
__global__ void activate_grad(const T* g, const T* y, T* out, whole activation, whole n) {
  EACH(i, n) out[i] = activated_grad(g[i], y[i], activation);
}
""",
    parts=("activations.cu",),
)


@override(
    reference.activate, "gpu", when=(contiguous_numbers("x", "out"), one_of("activation", *list(ACTIVATIONS)[1:]))
)
def activate(k: Kernels, x: Any, activation: str | None, out: Any = None) -> Any:
    out = k.empty(x.shape, x.dtype) if out is None else out
    launch(k, _SOURCE, "activate", x.dtype, each(x.size), THREADS, (x, out, ACTIVATIONS[activation], x.size))
    return out


@override(
    reference.activate_grad,
    "gpu",
    when=(contiguous_numbers("g", "y"), same_shape("g", "y"), _named),
)
def activate_grad(k: Kernels, g: Any, y: Any, activation: str | None) -> Any:
    out = k.empty(g.shape, g.dtype)
    launch(k, _SOURCE, "activate_grad", g.dtype, each(g.size), THREADS, (g, y, out, ACTIVATIONS[activation], g.size))
    return out
