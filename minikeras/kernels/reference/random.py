"""Counter-based random numbers: Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

A draw is a function of a key and a counter, nothing else: the same numbers on every run and device, resumable at any
point, and a dropout mask can be drawn again in the backward pass instead of being stored.  `counter` is the number of
blocks that the stream has already used, so a caller that advances it by `blocks_for(...)` after each draw never uses a
block twice.

Philox4x64-10 makes the bits of all but dropout masks; a block is four 64-bit words.  A device may have its own way to
them (`random_bits`); what is made of the bits is the same everywhere.  Masks are made of Philox4x32-10, whose products
of 32-bit words processors have in vectors; a block is four of those.
"""

from __future__ import annotations

import math
from typing import Any

import numpy

from minikeras.kernels.table import Kernels, kernel

_WORD = (1 << 64) - 1
_HALF = numpy.uint64(0xFFFFFFFF)
_HALF_BITS = numpy.uint64(32)
ROUNDS = 10
MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
KEY_STEPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
SHORT_ROUNDS = 10
SHORT_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
SHORT_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)

# float type: (lane of a word that makes one value, lane bits beyond the mantissa, step between neighbouring values)
_LANES = {
    "float16": ("uint16", 5, 2.0**-11),
    "bfloat16": ("uint16", 8, 2.0**-8),
    "float32": ("uint32", 8, 2.0**-24),
    "float64": ("uint64", 11, 2.0**-53),
}


def random_blocks(count: int) -> int:
    """How many counter blocks `count` 64-bit words take."""
    return -(-count // 4)


def blocks_for(kind: str, size: int, dtype: Any = "float32") -> int:
    """How many counter blocks a draw of `size` values takes; `kind` is `"uniform"`, `"normal"` or `"dropout_mask"`."""
    if kind == "dropout_mask":
        return -(-size // 8)
    lane = numpy.dtype(dtype).itemsize
    if kind == "normal":
        lane, size = max(lane, 4), size + size % 2
    return random_blocks(-(-size * lane // 8))


@kernel
def random_bits(k: Kernels, key: int, counter: int, count: int, out: Any = None) -> Any:
    """`count` random 64-bit words: those of `numpy.random.Philox(key=key, counter=counter).random_raw(count)`.

    Args:
        key: the stream, below 2**128.
        counter: blocks used before, below 2**256.
        count: number of words; the draw takes `random_blocks(count)` blocks.
        out: uint64 array (count,) for the result.
    """
    blocks = random_blocks(count)
    c0, c1, c2, c3 = _counters(k, counter + 1, blocks)  # NumPy increments before it draws
    k0, k1 = key & _WORD, key >> 64
    for _ in range(ROUNDS):
        high0, low0 = _product(c0, MULTIPLIERS[0])
        high1, low1 = _product(c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = (high1 ^ c1 ^ numpy.uint64(k0), low1, high0 ^ c3 ^ numpy.uint64(k1), low0)
        k0, k1 = k0 + KEY_STEPS[0] & _WORD, k1 + KEY_STEPS[1] & _WORD
    words = k.stack((c0, c1, c2, c3), 1).reshape(-1)[:count]
    if out is None:
        return words
    out[...] = words
    return out


def _counters(k: Kernels, start: int, blocks: int) -> list[Any]:
    """The 256-bit numbers `start`, `start + 1`, ... as four arrays of words, lowest first."""
    xp = k.xp
    low = start & _WORD
    words = [xp.arange(blocks, dtype=xp.uint64) + numpy.uint64(low)]
    until_carry = _WORD + 1 - low
    for shift in (64, 128, 192):
        word = xp.full(blocks, numpy.uint64(start >> shift & _WORD), dtype=xp.uint64)
        if until_carry < blocks:
            word[until_carry:] = numpy.uint64(start + until_carry >> shift & _WORD)
        words.append(word)
    return words


def _product(x: Any, multiplier: int) -> tuple[Any, Any]:
    """High and low word of the 128-bit product, from products of 32-bit halves."""
    m_low, m_high = (numpy.uint64(multiplier & 0xFFFFFFFF), numpy.uint64(multiplier >> 32))
    x_low, x_high = x & _HALF, x >> _HALF_BITS
    cross = x_low * m_high
    middle = (x_low * m_low >> _HALF_BITS) + (cross & _HALF) + x_high * m_low
    high = x_high * m_high + (cross >> _HALF_BITS) + (middle >> _HALF_BITS)
    return high, x * numpy.uint64(multiplier)


def _lanes(k: Kernels, key: int, counter: int, size: int, lane: str) -> Any:
    """`size` unsigned integers of the type `lane`, several from each word."""
    per_word = 8 // numpy.dtype(lane).itemsize
    return k.random_bits(key, counter, -(-size // per_word)).view(lane)[:size]


@kernel
def uniform(k: Kernels, key: int, counter: int, shape: tuple[int, ...], dtype: Any = "float32", out: Any = None) -> Any:
    """Values in [0, 1), bit for bit the same on every device: 53 random bits each in float64, 24 in float32.

    Takes `blocks_for("uniform", size, dtype)` blocks: a word makes one float64, two float32 or four float16.
    """
    lane, spare_bits, step = _LANES[numpy.dtype(dtype).name]
    out = k.empty(shape, numpy.dtype(dtype)) if out is None else out
    lanes = _lanes(k, key, counter, math.prod(shape), lane) >> numpy.dtype(lane).type(spare_bits)
    out[...] = lanes.reshape(shape)  # exact: the mantissa holds the remaining bits
    return k.xp.multiply(out, step, out=out)


@kernel
def normal(k: Kernels, key: int, counter: int, shape: tuple[int, ...], dtype: Any = "float32", out: Any = None) -> Any:
    """Standard normal values (Box and Muller 1958); devices agree up to the rounding of their log, sin and cos.

    Takes `blocks_for("normal", size, dtype)` blocks: as `uniform` for the size rounded up to even; float16 values are
    drawn as float32.
    """
    xp = k.xp
    dtype = numpy.dtype(dtype)
    size = math.prod(shape)
    wide = "float64" if dtype.itemsize == 8 else "float32"
    pairs = k.uniform(key, counter, (2, -(-size // 2)), wide)
    radius = xp.sqrt(xp.log(1 - pairs[0]) * -2)
    angle = pairs[1] * (2 * math.pi)
    values = k.concatenate((radius * xp.cos(angle), radius * xp.sin(angle)), 0)[:size].reshape(shape)
    out = k.empty(shape, dtype) if out is None else out
    out[...] = values
    return out


def short_words(k: Kernels, key: int, counter: int, blocks: int) -> Any:
    """The 32-bit words of so many blocks of Philox4x32-10, uint32 (blocks, 4).

    Args:
        key: the stream, below 2**128: the lower half is the generator's key, the other the upper half of its counter.
        counter: blocks used before, modulo 2**64: the lower half of its counter.
    """
    xp = k.xp
    low, shift = _HALF, _HALF_BITS
    at = xp.arange(blocks, dtype=xp.uint64) + numpy.uint64(counter & _WORD)
    purpose = xp.full(blocks, numpy.uint64(key >> 64), dtype=xp.uint64)
    c0, c1, c2, c3 = at & low, at >> shift, purpose & low, purpose >> shift
    k0, k1 = key & 0xFFFFFFFF, key >> 32 & 0xFFFFFFFF
    m0, m1 = (numpy.uint64(multiplier) for multiplier in SHORT_MULTIPLIERS)
    for _ in range(SHORT_ROUNDS):
        p0, p1 = c0 * m0, c2 * m1
        c0, c1, c2, c3 = p1 >> shift ^ c1 ^ numpy.uint64(k0), p1 & low, p0 >> shift ^ c3 ^ numpy.uint64(k1), p0 & low
        k0, k1 = k0 + SHORT_KEY_STEPS[0] & 0xFFFFFFFF, k1 + SHORT_KEY_STEPS[1] & 0xFFFFFFFF
    return k.stack((c0, c1, c2, c3), 1).astype(xp.uint32)


def mask_threshold(rate: float) -> int:
    """Which 16-bit numbers a mask keeps: from this on."""
    return round(rate * 65536)


@kernel
def dropout_mask(k: Kernels, key: int, counter: int, shape: tuple[int, ...], rate: float, out: Any = None) -> Any:
    """A uint8 mask: 0 with probability `rate` (to within 1/131072), else 1.

    Takes `blocks_for("dropout_mask", size)` blocks of Philox4x32-10: a block makes eight values.
    """
    out = k.empty(shape, numpy.dtype("uint8")) if out is None else out
    threshold = mask_threshold(rate)
    if threshold > 65535:
        out[...] = 0
        return out
    size = math.prod(shape)
    lanes = short_words(k, key, counter, -(-size // 8)).view(k.xp.uint16).reshape(-1)[:size].reshape(shape)
    k.xp.greater_equal(lanes, numpy.uint16(threshold), out=out.view(bool))
    return out
