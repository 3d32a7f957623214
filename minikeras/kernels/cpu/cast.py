"""Numbers of any type as float32 on the CPU, and labels as class numbers: read where they lie."""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.compiler import (
    Floats,
    doubles,
    floats,
    inner,
    numbers,
    octets,
    part,
    parts_for,
    share_of_lines,
    words,
)
from minikeras.kernels.reference import cast as reference
from minikeras.kernels.table import Kernels, override

_OCTET, _SIGNED_OCTET, _SHORT, _SIGNED_SHORT, _WORD, _SIGNED_WORD, _NUMBER, _FLOAT, _DOUBLE = range(9)
_TYPES = {
    **{"bool": _OCTET, "uint8": _OCTET, "int8": _SIGNED_OCTET, "uint16": _SHORT, "int16": _SIGNED_SHORT},
    **{"uint32": _WORD, "int32": _SIGNED_WORD, "int64": _NUMBER, "float32": _FLOAT, "float64": _DOUBLE},
}
SOURCES = {np.dtype(name): kind for name, kind in _TYPES.items()}  # what `number_at` reads, and its number for it


@inner
def signed(value, bits):
    """A number of so many bits, read without its sign, with it."""
    return value - ((value >> (bits - 1)) << bits)


@inner
def short_at(x, i):
    """Two bytes as a number without a sign."""
    return np.int64(octets(x)[2 * i]) + (np.int64(octets(x)[2 * i + 1]) << 8)


@inner
def number_at(x, source, i):
    """Element i of an array whose type has this number in `SOURCES`, in float64."""
    if source == _OCTET:
        return np.float64(octets(x)[i])
    if source == _SIGNED_OCTET:
        return np.float64(signed(np.int64(octets(x)[i]), 8))
    if source == _SHORT:
        return np.float64(short_at(x, i))
    if source == _SIGNED_SHORT:
        return np.float64(signed(short_at(x, i), 16))
    if source == _WORD:
        return np.float64(words(x)[i])
    if source == _SIGNED_WORD:
        return np.float64(signed(np.int64(words(x)[i]), 32))
    if source == _NUMBER:
        return np.float64(numbers(x)[i])
    if source == _FLOAT:
        return np.float64(floats(x)[i])
    return doubles(x)[i]


@inner
def class_at(x, source, i, least, classes):
    """The class that a label of such an array names, or `least - 1` where it is no whole number in [least, classes)."""
    value = number_at(x, source, i)
    inside = value >= np.float64(least) and value < np.float64(classes)
    label = int(value) if inside else least - 1
    return label if np.float64(label) == value else least - 1


@part
def _to_float32(part, parts, size, source, x, out: Floats):
    first, end = share_of_lines(part, parts, size)
    if source == _OCTET:
        for i in range(first, end):
            out[i] = np.float32(octets(x)[i])
    elif source == _SIGNED_OCTET:
        for i in range(first, end):
            out[i] = np.float32(signed(np.int64(octets(x)[i]), 8))
    elif source == _SHORT:
        for i in range(first, end):
            out[i] = np.float32(short_at(x, i))
    elif source == _SIGNED_SHORT:
        for i in range(first, end):
            out[i] = np.float32(signed(short_at(x, i), 16))
    elif source == _WORD:
        for i in range(first, end):
            out[i] = np.float32(words(x)[i])
    elif source == _SIGNED_WORD:
        for i in range(first, end):
            out[i] = np.float32(signed(np.int64(words(x)[i]), 32))
    elif source == _NUMBER:
        for i in range(first, end):
            out[i] = np.float32(numbers(x)[i])
    else:
        for i in range(first, end):
            out[i] = np.float32(doubles(x)[i])


_FLOAT32 = np.dtype(np.float32)


def source_of(x: Any) -> Any:
    """The number of an array's type in `SOURCES`; None where its numbers do not lie side by side in a type of these."""
    return SOURCES.get(x.dtype) if isinstance(x, np.ndarray) and x.flags.c_contiguous else None


def is_float32(x: Any) -> bool:
    """Whether it is a contiguous array of float32, of any size: not one of NumPy's scalars, which have no address."""
    return isinstance(x, np.ndarray) and x.dtype.char == "f" and x.flags.c_contiguous


def _is_widened(x: Any, dtype: Any) -> bool:
    return dtype == _FLOAT32 and x.size > 0 and x.dtype != _FLOAT32 and source_of(x) is not None


@override(reference.cast, "cpu", when=_is_widened)
def cast(k: Kernels, x: Any, dtype: Any) -> Any:
    out = empty(x.shape, _FLOAT32)
    _to_float32.run(parts_for(x.size), size=x.size, source=source_of(x), x=x, out=out)
    return out


@part
def _scaled_sum(part, parts, size, x: Floats, y, out: Floats, x_factor: np.float32, y_factor: np.float32):
    first, end = share_of_lines(part, parts, size)
    if y:
        for i in range(first, end):
            out[i] = x[i] * x_factor + floats(y)[i] * y_factor
    else:
        for i in range(first, end):
            out[i] = x[i] * x_factor + y_factor


def _are_floats(x: Any, y: Any) -> bool:
    return is_float32(x) and x.size > 0 and (y is None or (is_float32(y) and y.shape == x.shape))


@override(reference.scaled_sum, "cpu", when=_are_floats)
def scaled_sum(k: Kernels, x: Any, y: Any, x_factor: float = 1.0, y_factor: float = 1.0) -> Any:
    out = empty(x.shape, x.dtype)
    factors = {"x_factor": float(x_factor), "y_factor": float(y_factor)}
    _scaled_sum.run(parts_for(x.size), size=x.size, x=x, y=y, out=out, **factors)
    return out


@part
def _filled(part, parts, size, out: Floats, value: np.float32):
    first, end = share_of_lines(part, parts, size)
    for i in range(first, end):
        out[i] = value


def _is_float32(dtype: Any) -> bool:
    return dtype == _FLOAT32


@override(reference.filled, "cpu", when=_is_float32)
def filled(k: Kernels, shape: tuple[int, ...], dtype: Any, value: float) -> Any:
    out = empty(shape, _FLOAT32)
    _filled.run(parts_for(out.size), size=out.size, out=out, value=float(value))
    return out
