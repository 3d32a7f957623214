"""Convolutions with their gradients, of any array module and type."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np
from gpu.cuda.check import TOLERANCE, Case, numbers
from window_cases import problem

from minikeras.kernels import Kernels


def placed(k: Kernels, array: np.ndarray, aligned: bool = True) -> Any:
    """An array on the device, which begins where buffers do or one number further on."""
    if aligned:
        return k.to_device(array)
    return k.to_device(np.concatenate([np.zeros(1, array.dtype), array.ravel()]))[1:].reshape(array.shape)


def passes(
    operation: str,
    geometry: dict,
    width: int,
    groups: int,
    dtype: str,
    biased: bool = True,
    activation: str | None = None,
    outs: Collection[int] = (),
    aligned: bool = True,
) -> tuple[Case, float]:
    """A case that is a convolution with both gradients, and the tolerance of its sums.

    Args:
        operation: `"conv"` or `"depthwise_conv"`.
        geometry: one of `window_cases.geometries`.
        width: filters of a group, or of a channel.
        outs: which results are written to arrays that are given.
        aligned: whether all arrays begin where four numbers may be read at once.
    """
    *arrays, options = problem(geometry, operation, width, groups, "float32")
    x, kernel, bias, g = [array.astype(numbers(0, 1, dtype=dtype).dtype) for array in arrays]

    def run(k: Kernels) -> list[Any]:
        of_x, of_kernel, of_bias, of_g = (placed(k, array, aligned) for array in (x, kernel, bias, g))
        places: list[Any] = [None, None, None]
        for i in outs:
            like = (of_g, of_x, of_kernel)[i]
            places[i] = placed(k, np.full(like.shape, math.nan, like.dtype), aligned)
        forward, input_grad, kernel_grad = (getattr(k, operation + end) for end in ("", "_input_grad", "_kernel_grad"))
        given = of_bias if biased else None
        return [
            forward(of_x, of_kernel, given, activation=activation, out=places[0], **options),
            input_grad(of_g, of_kernel, x.shape, out=places[1], **options),
            kernel_grad(of_x, of_g, kernel.shape, out=places[2], **options),
        ]

    # a sum of n products rounds like a walk of n steps
    of_taps, filters = math.prod(kernel.shape[:-2]), kernel.shape[-1]
    terms = max(of_taps * kernel.shape[-2], of_taps * filters, math.prod(g.shape[:-1]))
    return run, TOLERANCE[dtype] * math.sqrt(terms + 1)
