"""Convolutions with their gradients, of any array module and type."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from gpu.cuda.check import TOLERANCE, Case, numbers
from window_cases import problem

from minikeras.kernels import Kernels


def passes(
    operation: str,
    geometry: dict,
    width: int,
    groups: int,
    dtype: str,
    biased: bool = True,
    activation: str | None = None,
    outs: Collection[int] = (),
) -> tuple[Case, float]:
    """A case that is a convolution with both gradients, and the tolerance of its sums.

    Args:
        operation: `"conv"` or `"depthwise_conv"`.
        geometry: one of `window_cases.geometries`.
        width: filters of a group, or of a channel.
        outs: which results are written to arrays that are given.
    """
    *arrays, options = problem(geometry, operation, width, groups, "float32")
    x, kernel, bias, g = [array.astype(numbers(0, 1, dtype=dtype).dtype) for array in arrays]

    def run(k: Kernels) -> list[Any]:
        of_x, of_kernel, of_bias, of_g = (k.to_device(array) for array in (x, kernel, bias, g))
        places: list[Any] = [None, None, None]
        for i in outs:
            like = (of_g, of_x, of_kernel)[i]
            places[i] = k.empty(like.shape, like.dtype)
            places[i].fill(math.nan)
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
