"""Sums of products along lists of places, which the team shares: what depthwise convolutions are made of.

Row r of the result is

    max(floor, start + sum over k of A[a_places[k]] * B[b_places[k]])

where k runs over the row's stretch of the two lists, a place is that of the first of `channels` numbers, and products
are taken number by number.  The sums stay in vector registers, so the inner loop is written as LLVM code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.jit import instruction, lazy_part
from minikeras.kernels.cpu.machine import floats, function, numbers
from minikeras.kernels.cpu.parts import _run, parts_of
from minikeras.kernels.cpu.tile import _BITS, _INT32, _INT64, _VECTOR, LANES, _number, _spread

VECTORS = 4
_WIDTH = VECTORS * LANES  # channels whose sums are in registers
_NONE = np.zeros(_WIDTH, np.float32)
_SHARES = 16  # of the rows of a folded result, about; fixed, so that sums do not depend on the number of threads


@instruction("void(int64, int64, int64, int64, int64, int64, int64, float32, int64)")
def _sum_of_products(builder, a_places, b_places, count, a, b, start, out, floor, columns):  # type: ignore[no-untyped-def]
    """A row: the first `columns` of its channels, `_WIDTH` at most.  Places, A, B, start and out are addresses."""
    at = _VECTOR.as_pointer()
    fma = function(builder, f"llvm.fma.v{LANES}f32", _VECTOR, [_VECTOR] * 3)
    read = function(builder, f"llvm.masked.load.v{LANES}f32.p0", _VECTOR, [at, _INT32, _BITS, _VECTOR])
    write = function(builder, f"llvm.masked.store.v{LANES}f32.p0", ir.VoidType(), [_VECTOR, at, _INT32, _BITS])
    alignment, zero = ir.Constant(_INT32, 4), ir.Constant(_VECTOR, [0.0] * LANES)
    lanes = ir.VectorType(_INT32, LANES)
    last = _spread(builder, builder.trunc(columns, _INT32), lanes)
    wanted = [
        builder.icmp_signed("<", ir.Constant(lanes, list(range(v * LANES, (v + 1) * LANES))), last)
        for v in range(VECTORS)
    ]

    def places_of(address: Any) -> list[Any]:
        return [builder.inttoptr(builder.add(address, _number(v * LANES * 4)), at) for v in range(VECTORS)]

    def vectors_at(address: Any) -> list[Any]:
        pairs = zip(places_of(address), wanted, strict=True)
        return [builder.call(read, [place, alignment, bits, zero]) for place, bits in pairs]

    def place_in(list_address: Any, k: Any, array: Any) -> Any:
        place = builder.load(builder.gep(builder.inttoptr(list_address, _INT64.as_pointer()), [k]), align=8)
        return builder.add(array, builder.mul(place, _number(4)))

    begin = vectors_at(start)
    entry = builder.block
    loop, done = builder.append_basic_block("loop"), builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed(">", count, _number(0)), loop, done)

    builder.position_at_end(loop)
    k = builder.phi(_INT64)
    k.add_incoming(_number(0), entry)
    sums = [builder.phi(_VECTOR) for _ in range(VECTORS)]
    pairs = zip(vectors_at(place_in(a_places, k, a)), vectors_at(place_in(b_places, k, b)), strict=True)
    new = [builder.call(fma, [*pair, before]) for pair, before in zip(pairs, sums, strict=True)]
    after = builder.add(k, _number(1))
    k.add_incoming(after, loop)
    for v in range(VECTORS):
        sums[v].add_incoming(begin[v], entry)
        sums[v].add_incoming(new[v], loop)
    builder.cbranch(builder.icmp_signed("<", after, count), loop, done)

    builder.position_at_end(done)
    totals = [builder.phi(_VECTOR) for _ in range(VECTORS)]
    for v, total in enumerate(totals):
        total.add_incoming(begin[v], entry)
        total.add_incoming(new[v], loop)
    least = _spread(builder, floor, _VECTOR)
    for total, place, bits in zip(totals, places_of(out), wanted, strict=True):
        value = builder.select(builder.fcmp_ordered("<", total, least), least, total)  # NaN stays
        builder.call(write, [value, place, alignment, bits])


@lazy_part
def _rows_part(arguments, part, worker):  # type: ignore[no-untyped-def]
    """0 rows of all pictures; 2 to 4: lists (where each row's stretch begins, places in A, in B), 5 rows of a picture.

    6 A, 7 B, 8 and 9: numbers in a picture of each (0: the same for all); 10 result, 11 start, 12 numbers between the
    starts of channels (0: one vector of zeros for all), 13 channels, 14 whether relu; 15 rows of a folded result: row r
    is added to row r % 15, each part has a result of its own (0: not folded).
    """
    n = numbers(arguments)
    starts, channels, fold = numbers(n[2]), n[13], n[15]
    floor = np.float32(0) if n[14] else np.float32(-np.inf)
    out = n[10] + part * fold * channels * 4
    if fold:
        zeros = floats(out)
        for j in range(fold * channels):
            zeros[j] = np.float32(0)
    first = n[0] * part // n[1]
    picture, r, to = first // n[5], first % n[5], first % fold if fold else first
    for _ in range(n[0] * (part + 1) // n[1] - first):
        begin, count = starts[r] * 8, starts[r + 1] - starts[r]
        a, b, target = n[6] + picture * n[8] * 4, n[7] + picture * n[9] * 4, out + to * channels * 4
        for column in range(0, channels, _WIDTH):
            here = target + column * 4
            start = here if fold else n[11] + column * n[12] * 4
            _sum_of_products(
                n[3] + begin,
                n[4] + begin,
                count,
                a + column * 4,
                b + column * 4,
                start,
                here,
                floor,
                channels - column,
            )
        r, to = r + 1, to + 1
        if r == n[5]:
            r, picture = 0, picture + 1
        if to == fold:
            to = 0


def rows(lists: Any, a: Any, b: Any, steps: tuple[int, int], pictures: int, out: Any, bias: Any, relu: bool) -> None:
    """A row of the result for each row of the lists and each picture; `bias` (None: zeros) is where sums start.

    Args:
        lists: (where each row's stretch of the lists begins, with the end of the last; places in `a`, in `b`), of a
            picture.
        a, b: contiguous.
        steps: how many numbers a picture has in `a` and in `b`; 0 where all pictures read the same.
        pictures: how many.
        out: (pictures * rows, channels).
    """
    count = pictures * (len(lists[0]) - 1)
    start = _NONE if bias is None else bias
    settings = (start, int(bias is not None), out.shape[-1], int(relu), 0)
    _run(_rows_part, min(parts_of(out.size), count), count, *lists, len(lists[0]) - 1, a, b, *steps, out, *settings)


def folded_rows(lists: Any, a: Any, b: Any, steps: tuple[int, int], pictures: int, out: Any) -> None:
    """As `rows`, but row r of the lists is added to row `r % len(out)`, of all pictures."""
    count = pictures * (len(lists[0]) - 1)
    shares = min(_SHARES, count)
    sums = empty((shares, *out.shape), out.dtype)
    settings = (None, 0, out.shape[-1], 0, len(out))
    _run(_rows_part, shares, count, *lists, len(lists[0]) - 1, a, b, *steps, sums, *settings)
    np.sum(sums, axis=0, out=out)
