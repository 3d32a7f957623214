"""Random words from NumPy's own Philox, which is the generator that the reference spells out; masks by the team."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.compiler import instruction, octets, part, parts_for, share, stack_scratch
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
