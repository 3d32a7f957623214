"""Recurrent layers on the CPU: compiled loops over time that the team shares, or a compiled pass for each step.

For float32 with tanh and sigmoid, the usual activations.  Recurrent dropout and hosts without the tile have the pass;
other activations, and float64, whose exact tanh NumPy vectorises and Numba does not, are left to the reference.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.kernels.cpu.jit import lazy, tile
from minikeras.kernels.reference import recurrent as reference
from minikeras.kernels.table import Kernels, override


def _chosen(
    kind: str, x: Any, kernel: Any, recurrent_kernel: Any, bias: Any, options: dict[str, Any]
) -> dict[str, Any]:
    """The options, with what is compiled for them."""
    usual = options.get("activation", "tanh") == "tanh" and options.get("recurrent_activation", "sigmoid") == "sigmoid"
    arrays = (x, kernel, recurrent_kernel, *(() if bias is None else (bias,)))
    if not usual or any(array.dtype.char != "f" for array in arrays):
        return options
    module = tile()
    dropped = options.get("input_mask") is not None or options.get("recurrent_mask") is not None
    if module is not None and not dropped and x.size and module.is_matrix(recurrent_kernel):
        return {**options, "loop": lazy("recurrent_parts").LOOPS[kind]}
    if kind != "simple_rnn" and options.get("reset_after", True):
        return {**options, "cell": lazy("recurrent_parts").CELLS[kind]}
    return options


@override(reference.simple_rnn, "cpu")
def simple_rnn(
    k: Kernels, x: Any, h0: Any, kernel: Any, recurrent_kernel: Any, bias: Any, **options: Any
) -> tuple[Any, ...]:
    x = np.ascontiguousarray(x)
    options = _chosen("simple_rnn", x, kernel, recurrent_kernel, bias, options)
    return reference.simple_rnn(k, x, h0, kernel, recurrent_kernel, bias, **options)


@override(reference.lstm, "cpu")
def lstm(
    k: Kernels, x: Any, h0: Any, c0: Any, kernel: Any, recurrent_kernel: Any, bias: Any, **options: Any
) -> tuple[Any, ...]:
    x = np.ascontiguousarray(x)
    options = _chosen("lstm", x, kernel, recurrent_kernel, bias, options)
    return reference.lstm(k, x, h0, c0, kernel, recurrent_kernel, bias, **options)


@override(reference.gru, "cpu")
def gru(k: Kernels, x: Any, h0: Any, kernel: Any, recurrent_kernel: Any, bias: Any, **options: Any) -> tuple[Any, ...]:
    x = np.ascontiguousarray(x)
    options = _chosen("gru", x, kernel, recurrent_kernel, bias, options)
    return reference.gru(k, x, h0, kernel, recurrent_kernel, bias, **options)
