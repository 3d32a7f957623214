"""Depthwise convolution over one, two or three spatial axes: each channel has filters of its own (see conv.py)."""

from __future__ import annotations

from typing import Any

from minikeras.kernels.reference.conv import Ints, Padding, epilogue, output_shape, taps
from minikeras.kernels.table import Kernels, kernel


@kernel
def depthwise_conv(
    k: Kernels,
    x: Any,
    kernel: Any,
    bias: Any = None,
    *,
    strides: Ints,
    padding: Padding,
    dilation: Ints,
    activation: str | None = None,
    out: Any = None,
) -> Any:
    """Each channel convolved with its own m filters: `x` (n, *spatial, c), `kernel` (*size, c, m), `bias` (c * m,).

    Returns (n, *outputs, c * m): channel i's j-th filter gives output channel i * m + j.
    """
    size, (channels, multiplier) = kernel.shape[:-2], kernel.shape[-2:]
    if out is None:
        lengths = output_shape(x.shape, size, strides, padding, dilation)
        out = k.empty((x.shape[0], *lengths, channels * multiplier), x.dtype)
    out.fill(0)
    by_channel = out.reshape(*out.shape[:-1], channels, multiplier)
    for tap, outputs, inputs in taps(x.shape, size, strides, padding, dilation):
        part = by_channel[outputs]
        k.xp.add(part, x[inputs][..., None] * kernel[tap], out=part)
    return epilogue(k, out, bias, activation)


@kernel
def depthwise_conv_input_grad(
    k: Kernels, g: Any, kernel: Any, x_shape: Ints, *, strides: Ints, padding: Padding, dilation: Ints, out: Any = None
) -> Any:
    """The gradient at a depthwise convolution's input, from the gradient `g` before the bias."""
    out = k.empty(x_shape, g.dtype) if out is None else out
    out.fill(0)
    by_channel = g.reshape(*g.shape[:-1], *kernel.shape[-2:])
    for tap, outputs, inputs in taps(x_shape, kernel.shape[:-2], strides, padding, dilation):
        part = out[inputs]
        k.xp.add(part, (by_channel[outputs] * kernel[tap]).sum(axis=-1), out=part)
    return out


@kernel
def depthwise_conv_kernel_grad(
    k: Kernels, x: Any, g: Any, kernel_shape: Ints, *, strides: Ints, padding: Padding, dilation: Ints, out: Any = None
) -> Any:
    """The gradient of a depthwise convolution's kernel, from its input `x` and the gradient `g` before the bias."""
    out = k.empty(kernel_shape, g.dtype) if out is None else out
    by_channel = g.reshape(*g.shape[:-1], *kernel_shape[-2:])
    positions = tuple(range(x.ndim - 1))
    for tap, outputs, inputs in taps(x.shape, kernel_shape[:-2], strides, padding, dilation):
        k.xp.sum(x[inputs][..., None] * by_channel[outputs], axis=positions, out=out[tap])
    return out
