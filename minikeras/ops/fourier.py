"""Fourier transforms, of pairs of real and imaginary parts as in Keras, and the frames of signals.

The gradient of each follows from its matrix, whose transpose is another transform.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minikeras import kernels as k
from minikeras.autodiff import shapes
from minikeras.autodiff.op import composite, differentiable
from minikeras.ops.common import as_float
from minikeras.ops.core import convert_to_tensor
from minikeras.ops.creation import zeros_like
from minikeras.ops.shaping import pad, take

KERAS_MODULE = "keras.src.ops.math"


def _complex(x: Any, name: str, ndim: int = 1) -> Any:
    """One complex array of a pair of real and imaginary parts."""
    _check_pair(x, name, ndim)
    if any(part.dtype.kind != "f" for part in x):
        raise ValueError(f"{name} takes floats, got the types {x[0].dtype} and {x[1].dtype}; cast them.")
    return x[0] + 1j * x[1]


def _check_pair(x: Any, name: str, ndim: int = 1) -> Any:
    given = [tuple(getattr(part, "shape", ())) for part in x]
    if len(given) != 2 or not shapes.agree(*given) or len(given[0]) < ndim:
        raise ValueError(
            f"{name} takes a pair (real, imaginary) of arrays of one shape with {ndim} axes at least, got {len(given)} "
            f"parts of the shapes {given[:4]}; the imaginary part of real numbers is zeros of their shape."
        )
    return x[0]


def _parts(y: Any, like: Any) -> tuple[Any, Any]:
    return y.real.astype(like.dtype), y.imag.astype(like.dtype)


def _joined(g: Any, like: Any) -> Any:
    """The gradient at a pair as one complex array."""
    real, imaginary = [k.xp.zeros_like(like) if one is None else one for one in g]
    return real + 1j * imaginary


def _transform(x: Any, name: str, axes: int, transpose: str) -> Any:
    """((real, imaginary), vjp) of the transform of this name, whose transpose is a multiple of another one."""
    y = _parts(getattr(k.xp.fft, name)(_complex(x, name, axes)), x[0])
    size = math.prod(x[0].shape[-axes:])
    scale = size if transpose.startswith("i") else 1 / size

    def vjp(g: Any, needs: Any) -> Any:
        return list(_parts(getattr(k.xp.fft, transpose)(_joined(g, y[0])) * scale, x[0]))

    return y, vjp


def _again(transform: str) -> Any:
    """The gradient, by operations, of a transform whose matrix is symmetric: its conjugate of conjugates."""

    def gradient(real: Any, imaginary: Any) -> Any:
        def vjp(g: Any, needs: Any) -> Any:
            parts = [zeros_like(real) if part is None else part for part in g]
            first, second = globals()[transform]((parts[0], -parts[1]))
            return [first, -second]

        return vjp

    return gradient


def _pair_shape(x: Any, name: str = "fft", ndim: int = 1) -> Any:
    return (_check_pair(x, name, ndim),) * 2


@differentiable(sequence=True, shape=_pair_shape, keras="keras.src.ops.math.FFT", gradient=_again("fft"))
def fft(x: Any) -> Any:
    """The Fourier transform along the last axis, of a pair (real part, imaginary part), as such a pair.

    Args:
        x: tensor, array or number.

    Raises:
        ValueError: for what is no pair of float arrays of one shape.

    >>> from minikeras import ops
    >>> [part.numpy().tolist() for part in ops.fft(([1.0, 0.0], [0.0, 0.0]))]
    [[1.0, 1.0], [0.0, 0.0]]
    """
    return _transform(x, "fft", 1, "ifft")


@differentiable(
    sequence=True, shape=lambda x: _pair_shape(x, "fft2", 2), keras="keras.src.ops.math.FFT2", gradient=_again("fft2")
)
def fft2(x: Any) -> Any:
    """The Fourier transform along the last two axes, of a pair (real part, imaginary part), as such a pair.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> [part.numpy().tolist() for part in ops.fft2(([[1.0, 0.0]], [[0.0, 0.0]]))]
    [[[1.0, 1.0]], [[0.0, 0.0]]]
    """
    return _transform(x, "fft2", 2, "ifft2")


@differentiable(
    sequence=True,
    shape=lambda x: _pair_shape(x, "ifft2", 2),
    keras="keras.src.ops.math.IFFT2",
    gradient=_again("ifft2"),
)
def ifft2(x: Any) -> Any:
    """The inverse of `fft2`.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> [part.numpy().tolist() for part in ops.ifft2(([[1.0, 1.0]], [[0.0, 0.0]]))]
    [[[1.0, 0.0]], [[0.0, 0.0]]]
    """
    return _transform(x, "ifft2", 2, "fft2")


def _rfft_shape(x: Any, *, fft_length: int | None = None) -> Any:
    if not x.ndim:
        raise ValueError("rfft takes arrays with one axis at least, got a number; use reshape.")
    size = x.shape[-1] if fft_length is None else fft_length
    shape = (*x.shape[:-1], None if size is None else size // 2 + 1)
    return shape, shape


def _rfft_gradient(x: Any, fft_length: int | None = None) -> Any:
    size = x.shape[-1] if fft_length is None else fft_length

    def vjp(g: Any, needs: Any) -> Any:
        parts = [zeros_like(other) if part is None else part for part, other in ((g[0], g[1]), (g[1], g[0]))]
        return (_sized_tensor(fft([_sized_tensor(part, size) for part in (parts[0], -parts[1])])[0], x.shape[-1]),)

    return vjp


def _sized_tensor(x: Any, size: int) -> Any:
    missing = size - x.shape[-1]
    return pad(x, [(0, 0)] * (len(x.shape) - 1) + [(0, missing)]) if missing > 0 else x[..., :size]


@differentiable(inputs=1, shape=_rfft_shape, keras="keras.src.ops.math.RFFT", gradient=_rfft_gradient)
def rfft(x: Any, fft_length: int | None = None) -> Any:
    """The Fourier transform of real numbers along the last axis: the first half, which tells the other one.

    Args:
        fft_length: so many values are taken, zeros after the last one, default as many as there are.
        x: tensor, array or number.

    Returns:
        The real and the imaginary parts, `fft_length // 2 + 1` of each.

    >>> from minikeras import ops
    >>> [part.numpy().tolist() for part in ops.rfft([1.0, 2.0])]
    [[3.0, -1.0], [0.0, 0.0]]
    """
    _rfft_shape(x)
    x = as_float(x)
    size = x.shape[-1] if fft_length is None else fft_length
    y = _parts(k.xp.fft.rfft(x, size), x)

    def vjp(g: Any, needs: Any) -> Any:
        # the real part of the whole transform of conjugates, of which the second half is zeros
        return (_sized(k.xp.fft.fft(k.xp.conj(_joined(g, y[0])), size).real.astype(x.dtype), x.shape[-1]),)

    return y, vjp


def _sized(x: Any, size: int) -> Any:
    """So many values along the last axis, zeros after the last one."""
    missing = size - x.shape[-1]
    return k.xp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)]) if missing > 0 else x[..., :size]


def _irfft_shape(x: Any, *, fft_length: int | None = None) -> Any:
    one = _check_pair(x, "irfft")
    size = one.shape[-1] if fft_length is None else None
    length = fft_length if size is None else 2 * (size - 1)
    return shapes.Spec((*one.shape[:-1], length), one.dtype)


def _irfft_gradient(real: Any, imaginary: Any, fft_length: int | None = None) -> Any:
    size = 2 * (real.shape[-1] - 1) if fft_length is None else fft_length

    def vjp(g: Any, needs: Any) -> Any:
        weights = np.full(size // 2 + 1, 1 / size)
        weights[1 : (size + 1) // 2] *= 2
        return [_sized_tensor(part * weights.astype(g.dtype), real.shape[-1]) for part in rfft(g)]

    return vjp


@differentiable(sequence=True, shape=_irfft_shape, keras="keras.src.ops.math.IRFFT", gradient=_irfft_gradient)
def irfft(x: Any, fft_length: int | None = None) -> Any:
    """The inverse of `rfft`: real numbers from a pair (real part, imaginary part).

    Args:
        fft_length: how many numbers, default an even number: twice the values but one.
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.irfft(([3.0, -1.0], [0.0, 0.0])).numpy().tolist()
    [1.0, 2.0]
    """
    whole = _complex(x, "irfft")
    size = 2 * (whole.shape[-1] - 1) if fft_length is None else fft_length

    def vjp(g: Any, needs: Any) -> Any:
        half = k.xp.fft.rfft(g) / size
        half[..., 1 : (size + 1) // 2] *= 2  # each but the first, and the last of an even number, stands for two
        return list(_parts(_sized(half, whole.shape[-1]), x[0]))

    return k.xp.fft.irfft(whole, size).astype(x[0].dtype), vjp


def _frames_shape(x: Any, *, sequence_length: int, sequence_stride: int) -> Any:
    if not x.ndim:
        raise ValueError("extract_sequences takes arrays with one axis at least, got a number; use reshape.")
    size = x.shape[-1]
    count = None if size is None else max(1 + (size - sequence_length) // sequence_stride, 0)
    return shapes.Spec((*x.shape[:-1], count, sequence_length), x.dtype)


@composite(inputs=1, shape=_frames_shape)
def extract_sequences(x: Any, sequence_length: int, sequence_stride: int) -> Any:
    """Parts of so many steps of the last axis, each beginning `sequence_stride` steps after the one before.

    Args:
        x: tensor, array or number.
        sequence_length: how many values a window has.

    >>> from minikeras import ops
    >>> ops.extract_sequences([1.0, 2.0, 3.0], 2, 1).numpy().tolist()
    [[1.0, 2.0], [2.0, 3.0]]
    """
    x = convert_to_tensor(x)
    count = _frames_shape(x, sequence_length=sequence_length, sequence_stride=sequence_stride).shape[-2]
    starts = k.xp.arange(count, dtype="int32").reshape(-1, 1) * sequence_stride
    return take(x, starts + k.xp.arange(sequence_length, dtype="int32"), axis=-1)
