"""Random words from NumPy's own Philox, which is the generator that the reference spells out; the rest by the team.

Masks and uniform values are the reference's to the last bit.  Normal ones are made with other functions than NumPy's,
each of which is exact to 1e-7.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.compiler import (
    Floats,
    fma,
    inner,
    instruction,
    log,
    octets,
    part,
    parts_for,
    share,
    share_of_lines,
    stack_scratch,
    words,
)
from minikeras.kernels.reference import random as reference
from minikeras.kernels.table import Kernels, override

_WORD = (1 << 64) - 1


class _Generator(threading.local):
    """One bit generator per thread: setting its state takes 1 µs, making one 7."""

    def __init__(self) -> None:
        self.philox = np.random.Philox(key=0)
        self.state = self.philox.state
        self.state["buffer_pos"] = 4  # no words left over from an earlier draw


_generator = _Generator()


@override(reference.random_bits, "cpu")
def random_bits(k: Kernels, key: int, counter: int, count: int, out: Any = None) -> Any:
    words = _generator.state["state"]
    words["key"][:] = key & _WORD, key >> 64
    words["counter"][:] = [counter >> shift & _WORD for shift in (0, 64, 128, 192)]
    _generator.philox.state = _generator.state
    bits = _generator.philox.random_raw(count)
    if out is None:
        return bits
    out[...] = bits
    return out


# ---- masks: Philox4x32-10 in vectors, the numbers that the reference spells out --------------------------------------

_BLOCKS = 8  # drawn at once, a 64-bit lane for each
_CHUNK = 8 * _BLOCKS  # values that they make


@instruction
def _draw(b, block, purpose, key, threshold, mask):
    """Write the bytes of a chunk: whether a 16-bit number is at least the threshold."""

    def constant(value: int) -> Any:
        return b.constant(value, "int64", _BLOCKS)

    def upper(value: Any) -> Any:
        return b.lshr(value, constant(32))

    def lower(value: Any) -> Any:
        return b.and_(value, constant(0xFFFFFFFF))

    # of what stands in the upper half of a lane, only the products' is ever looked at
    at = b.add(b.spread(block, _BLOCKS), b.constant(range(_BLOCKS), "int64", _BLOCKS))
    wide_purpose, wide_key = b.spread(purpose, _BLOCKS), b.spread(key, _BLOCKS)
    c0, c1, c2, c3 = at, upper(at), wide_purpose, upper(wide_purpose)
    k0, k1 = wide_key, upper(wide_key)
    for turn in range(reference.SHORT_ROUNDS):
        key0, key1 = (
            b.add(k, constant(step * turn & 0xFFFFFFFF))
            for k, step in zip((k0, k1), reference.SHORT_KEY_STEPS, strict=True)
        )
        p0, p1 = (
            b.mul(lower(c), constant(multiplier))
            for c, multiplier in zip((c0, c2), reference.SHORT_MULTIPLIERS, strict=True)
        )
        c0, c1, c2, c3 = (b.xor(b.xor(upper(p1), c1), key0), p1, b.xor(b.xor(upper(p0), c3), key1), p0)
    pairs = [b.or_(lower(low), b.shl(high, constant(32))) for low, high in ((c0, c1), (c2, c3))]
    least = b.spread(b.trunc(threshold, b.type("uint16")), 4 * _BLOCKS)
    for half in range(2):
        places = [lane // 2 + half * _BLOCKS // 2 + lane % 2 * _BLOCKS for lane in range(_BLOCKS)]
        words = b.picked(*pairs, places)
        values = b.bitcast(words, b.type("uint16", 4 * _BLOCKS))
        kept = b.zext(b.icmp_unsigned(">=", values, least), b.type("uint8", 4 * _BLOCKS))
        b.write(kept, b.at(mask, half, 4 * _BLOCKS))


@part
def _dropout_mask(part, parts, size, mask, counter, key, purpose, threshold):
    """The key's lower and upper half are `key` and `purpose`."""
    begin, end = share(part, parts, (size + _CHUNK - 1) // _CHUNK)
    for chunk in range(begin, end):
        block, first = counter + chunk * _BLOCKS, chunk * _CHUNK
        if first + _CHUNK <= size:
            _draw(block, purpose, key, threshold, mask + first)
        else:
            scratch = stack_scratch()
            _draw(block, purpose, key, threshold, scratch)
            for i in range(size - first):
                octets(mask + first)[i] = octets(scratch)[i]


def _signed(word: int) -> int:
    """The number whose 64 bits are a word's."""
    return word - (word >> 63 << 64)


_MOST = 65535.5 / 65536  # a rate from which on a mask keeps nothing
_FAR = 1 << 62  # blocks: beyond, a counter could pass the greatest int64


def _compiled(counter: int, rate: float, out: Any) -> bool:
    return rate < _MOST and counter < _FAR and (out is None or out.flags.c_contiguous)


@override(reference.dropout_mask, "cpu", when=_compiled)
def dropout_mask(k: Kernels, key: int, counter: int, shape: tuple[int, ...], rate: float, out: Any = None) -> Any:
    out = empty(shape, np.dtype(np.uint8)) if out is None else out
    _dropout_mask.run(
        parts_for(out.size), size=out.size, mask=out, counter=counter, key=_signed(key & _WORD),
        purpose=_signed(key >> 64), threshold=reference.mask_threshold(rate),
    )  # fmt: skip
    return out


# ---- values: Philox4x64-10, one block after the other ----------------------------------------------------------------

_STEP = np.float32(2.0**-24)
_VALUES = 8  # of a block


@instruction
def _block(b, block, key, other_key, target):
    """Write the four words of a block whose number fills one word."""
    wide = b.type("int128")

    def product(value: Any, multiplier: int) -> tuple[Any, Any]:
        whole = b.mul(b.zext(value, wide), b.constant(multiplier, "int128"))
        return b.trunc(b.lshr(whole, b.constant(64, "int128")), value.type), b.trunc(whole, value.type)

    zero = b.constant(0)
    c0, c1, c2, c3 = block, zero, zero, zero
    for turn in range(reference.ROUNDS):
        k0, k1 = (
            b.add(k, b.constant(step * turn & _WORD))
            for k, step in zip((key, other_key), reference.KEY_STEPS, strict=True)
        )
        (high0, low0), (high1, low1) = (
            product(c, multiplier) for c, multiplier in zip((c0, c2), reference.MULTIPLIERS, strict=True)
        )
        c0, c1, c2, c3 = b.xor(b.xor(high1, c1), k0), low1, b.xor(b.xor(high0, c3), k1), low0
    for place, word in enumerate((c0, c1, c2, c3)):
        b.write(word, b.at(target, place, 8))


@part
def _uniform(part, parts, size, out: Floats, counter, key, other_key):
    begin, end = share(part, parts, (size + _VALUES - 1) // _VALUES)
    scratch = stack_scratch()
    for block in range(begin, end):
        _block(counter + block + 1, key, other_key, scratch)  # NumPy increments before it draws
        first = block * _VALUES
        for i in range(min(_VALUES, size - first)):
            out[first + i] = np.float32(np.int64(words(scratch)[i]) >> 8) * _STEP


_ZERO, _HALF, _ONE, _MINUS_TWO = map(np.float32, (0, 0.5, 1, -2))
_TURN, _RIGHT_ANGLES = np.float32(2 * math.pi), np.float32(2 / math.pi)
_RIGHT = np.float32(math.pi / 2)
_RIGHT_REST = np.float32(math.pi / 2 - float(_RIGHT))
# (sin(r) / r - 1) / r**2 and (cos(r) - 1 + r**2 / 2) / r**4 in r**2 up to an eighth of a turn: Cephes (Moshier 1992)
_S0, _S1, _S2 = map(np.float32, (-1.6666654611e-1, 8.3321608736e-3, -1.9515295891e-4))
_C0, _C1, _C2 = map(np.float32, (4.166664568298827e-2, -1.388731625493765e-3, 2.443315711809948e-5))


@inner
def _cosine_and_sine(angle):
    """Of an angle between 0 and a turn."""
    quarters = np.int64(fma(angle, _RIGHT_ANGLES, _HALF))
    number = np.float32(quarters)
    r = fma(-number, _RIGHT_REST, fma(-number, _RIGHT, angle))
    square = r * r
    sine = fma(r * square, fma(fma(_S2, square, _S1), square, _S0), r)
    cosine = fma(square * square, fma(fma(_C2, square, _C1), square, _C0), fma(square, -_HALF, _ONE))
    first, second = sine if quarters & 1 else cosine, cosine if quarters & 1 else sine
    return -first if (quarters + 1) & 2 else first, -second if quarters & 2 else second


@part
def _box_muller(part, parts, pairs, size, uniform: Floats, out: Floats):
    """Of so many pairs; the last may make one value only."""
    begin, end = share_of_lines(part, parts, pairs)
    for i in range(begin, min(end, size - pairs)):
        radius = math.sqrt(_MINUS_TWO * log(_ONE - uniform[i]))
        cosine, sine = _cosine_and_sine(uniform[pairs + i] * _TURN)
        out[i] = radius * cosine
        out[pairs + i] = radius * sine
    for i in range(max(begin, size - pairs), end):
        cosine, sine = _cosine_and_sine(uniform[pairs + i] * _TURN)
        out[i] = math.sqrt(_MINUS_TWO * log(_ONE - uniform[i])) * cosine


_FLOAT32 = np.dtype(np.float32)


def _is_drawn(counter: int, shape: tuple[int, ...], dtype: Any, out: Any) -> bool:
    if np.dtype(dtype) != _FLOAT32 or counter >= _FAR or 0 in shape:
        return False
    return out is None or (out.dtype == _FLOAT32 and out.shape == tuple(shape) and out.flags.c_contiguous)


@override(reference.uniform, "cpu", when=_is_drawn)
def uniform(k: Kernels, key: int, counter: int, shape: tuple[int, ...], dtype: Any = "float32", out: Any = None) -> Any:
    out = empty(shape, _FLOAT32) if out is None else out
    keys = {"key": _signed(key & _WORD), "other_key": _signed(key >> 64)}
    _uniform.run(parts_for(out.size), size=out.size, out=out, counter=counter, **keys)
    return out


@override(reference.normal, "cpu", when=_is_drawn)
def normal(k: Kernels, key: int, counter: int, shape: tuple[int, ...], dtype: Any = "float32", out: Any = None) -> Any:
    out = empty(shape, _FLOAT32) if out is None else out
    pairs = -(-out.size // 2)
    drawn = k.uniform(key, counter, (2, pairs), _FLOAT32)
    _box_muller.run(parts_for(out.size), pairs=pairs, size=out.size, uniform=drawn, out=out)
    return out
