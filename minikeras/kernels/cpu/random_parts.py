"""Dropout masks as parts: Philox4x32-10 in vectors, the numbers that the reference spells out."""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir

from minikeras.kernels.cpu.jit import instruction, lazy_part
from minikeras.kernels.cpu.machine import INT64, numbers, octets, stack_room
from minikeras.kernels.cpu.parts import parts_of
from minikeras.kernels.cpu.team import team
from minikeras.kernels.reference import random as reference

_BLOCKS = 8  # drawn at once, a 64-bit lane for each
_CHUNK = 8 * _BLOCKS  # values that they make
_SHORT, _BYTE = ir.IntType(16), ir.IntType(8)


def _spread(builder: Any, value: Any, count: int) -> Any:
    """A number in every lane of a vector."""
    kind = ir.VectorType(value.type, count)
    undefined, index = ir.Constant(kind, ir.Undefined), ir.IntType(32)
    single = builder.insert_element(undefined, value, ir.Constant(index, 0))
    return builder.shuffle_vector(single, undefined, ir.Constant(ir.VectorType(index, count), [0] * count))


@instruction("void(int64, int64, int64, int64, int64)")
def _draw(builder, block, purpose, key, threshold, mask):  # type: ignore[no-untyped-def]
    """Write the bytes of a chunk: whether a 16-bit number is at least the threshold."""
    kind = ir.VectorType(INT64, _BLOCKS)

    def constant(value: int) -> Any:
        return ir.Constant(kind, [value] * _BLOCKS)

    def upper(value: Any) -> Any:
        return builder.lshr(value, constant(32))

    def lower(value: Any) -> Any:
        return builder.and_(value, constant(0xFFFFFFFF))

    # of what stands in the upper half of a lane, only the products' is ever looked at
    at = builder.add(_spread(builder, block, _BLOCKS), ir.Constant(kind, list(range(_BLOCKS))))
    wide_purpose, wide_key = _spread(builder, purpose, _BLOCKS), _spread(builder, key, _BLOCKS)
    c0, c1, c2, c3 = at, upper(at), wide_purpose, upper(wide_purpose)
    k0, k1 = wide_key, upper(wide_key)
    for turn in range(reference.SHORT_ROUNDS):
        key0, key1 = (
            builder.add(k, constant(step * turn & 0xFFFFFFFF))
            for k, step in zip((k0, k1), reference.SHORT_KEY_STEPS, strict=True)
        )
        p0, p1 = (
            builder.mul(lower(c), constant(multiplier))
            for c, multiplier in zip((c0, c2), reference.SHORT_MULTIPLIERS, strict=True)
        )
        c0, c1, c2, c3 = (
            builder.xor(builder.xor(upper(p1), c1), key0),
            p1,
            builder.xor(builder.xor(upper(p0), c3), key1),
            p0,
        )
    pairs = [builder.or_(lower(low), builder.shl(high, constant(32))) for low, high in ((c0, c1), (c2, c3))]
    least = _spread(builder, builder.trunc(threshold, _SHORT), 4 * _BLOCKS)
    for half in range(2):
        places = [lane // 2 + half * _BLOCKS // 2 + lane % 2 * _BLOCKS for lane in range(_BLOCKS)]
        words = builder.shuffle_vector(*pairs, ir.Constant(ir.VectorType(ir.IntType(32), _BLOCKS), places))
        values = builder.bitcast(words, ir.VectorType(_SHORT, 4 * _BLOCKS))
        kept = builder.zext(builder.icmp_unsigned(">=", values, least), ir.VectorType(_BYTE, 4 * _BLOCKS))
        address = builder.add(mask, ir.Constant(INT64, half * 4 * _BLOCKS))
        builder.store(kept, builder.inttoptr(address, kept.type.as_pointer()), align=1)


@lazy_part
def _dropout_mask_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """0 elements, 1 parts, 2 the mask; 3 the first block, 4 and 5 the halves of the key, 6 the threshold."""
    n = numbers(arguments)
    chunks = (n[0] + _CHUNK - 1) // _CHUNK
    for chunk in range(chunks * part // n[1], chunks * (part + 1) // n[1]):
        block, first = n[3] + chunk * _BLOCKS, chunk * _CHUNK
        if first + _CHUNK <= n[0]:
            _draw(block, n[5], n[4], n[6], n[2] + first)
        else:
            room = stack_room()
            _draw(block, n[5], n[4], n[6], room)
            for i in range(n[0] - first):
                octets(n[2] + first)[i] = octets(room)[i]


def _signed(word: int) -> int:
    """The number whose 64 bits are a word's."""
    return word - (word >> 63 << 64)


def dropout_mask(key: int, counter: int, mask: Any, threshold: int) -> None:
    """As the kernel, into a contiguous mask, for counters below 2**62."""
    elements = math.prod(mask.shape)
    parts = parts_of(elements)
    halves = _signed(key & (1 << 64) - 1), _signed(key >> 64)
    team.run(_dropout_mask_part.address, None, parts, True, (elements, parts, mask, counter, *halves, threshold))
