"""Matrix products of float32: whole ones of any size, in parts for the team, and those that a part makes on its way."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from minikeras.kernels.arena import constant, empty
from minikeras.kernels.cpu.compiler import (
    Floats,
    Numbers,
    Plan,
    compiled,
    floats,
    host,
    inner,
    numbers,
    own_scratch,
    part,
    parts_for,
    share_of_lines,
    stack_scratch,
    team,
    team_size,
)
from minikeras.kernels.cpu.tile.register import (
    MOST_WIDTH,
    NO_FLOOR,
    direct_product,
    dot_product,
    even_product,
    pack,
    panel_bytes,
    panels,
    panels_of,
    tile,
)
from minikeras.kernels.reference.conv import Ints

ADDRESSES = 256  # bytes of a worker's scratch that hold a tile's addresses: three for each row


@inner
def padded_image(image, lines, line, places: Numbers, padded, target):
    """Copy an image into zeros, line by line."""
    width, whole = line // 4, floats(target)
    for j in range(padded // 4):
        whole[j] = np.float32(0)
    for i in range(lines):
        source = floats(image + i * line)
        copy = floats(target + places[i])
        for j in range(width):
            copy[j] = source[j]


@part
def _pack(part, b, b_step, b_column, steps, columns, out):
    """Pack one panel of B."""
    first = part * host.WIDTH
    width = min(columns - first, host.WIDTH)
    pack(b + first * b_column, b_step, b_column, steps, width, out + part * steps * host.PANEL)


@part
def product(
    part, worker, a, b, c, start, scratch, each, a_image, positions, table: Numbers, segments, count, steps, step,
    b_packed, b_step, b_column, c_row, rows, columns, start_row, start_column, relu, block, groups, lines, line,
    line_table: Numbers, padded,
):  # fmt: skip
    """Some rows and some panels of a product: `block` rows, and one of the groups of panels.

    Row r of A is position r % positions, of which the table has the offset, in image r // positions; a padded image
    has the image's lines where their table says.  C0 of row r: at `start + r * start_row + column * start_column`.
    """
    own = own_scratch(scratch, each, worker)
    at, addresses = own, numbers(own)
    own += ADDRESSES
    depth = count * steps
    first = part // groups * block
    last = min(first + block, rows)
    a += first // positions * a_image
    if lines:
        for image in range((last - first) // positions):
            padded_image(a + image * a_image, lines, line, line_table, padded, own + image * padded)
        a, a_image = own, padded
        own += (last - first) // positions * padded
    floor = np.float32(0) if relu else NO_FLOOR
    group, all_panels = part % groups, panels(columns)
    for panel in range(group * all_panels // groups, (group + 1) * all_panels // groups):
        column = panel * host.WIDTH
        b_panel = b + panel * depth * host.PANEL
        if not b_packed:
            b_panel = own
            pack(b + column * b_column, b_step, b_column, depth, min(columns - column, host.WIDTH), b_panel)
        begin = start + column * start_column
        image, position = a, first % positions
        for row in range(first, last, host.ROWS):
            for r in range(host.ROWS):
                if row + r < last:
                    addresses[r] = image + table[position]
                    addresses[host.ROWS + r] = begin + (row + r) * start_row
                    addresses[2 * host.ROWS + r] = c + (row + r) * c_row + column * 4
                    position += 1
                    if position == positions:
                        position = 0
                        image += a_image
                else:  # the last row once more
                    addresses[r] = addresses[r - 1]
                    addresses[host.ROWS + r] = addresses[host.ROWS + r - 1]
                    addresses[2 * host.ROWS + r] = addresses[2 * host.ROWS + r - 1]
            starts, cs = at + 8 * host.ROWS, at + 16 * host.ROWS
            tile(at, starts, cs, segments, count, steps, step, b_panel, floor, columns - column)


NO_START = constant(np.zeros(2 * MOST_WIDTH, np.float32))  # C0 without a bias
ORIGIN = constant(np.zeros(1, np.int64))  # the table of one position, segment or line
ALONE = 500_000  # multiplications below which a second thread does not pay
WAKES = 8_000_000  # multiplications for which a helper is waked
_SLICE = 1 << 18  # numbers of A, 1 MiB: where A is transposed, each panel reads them anew from the cache of a core
_FEW, _SOME = 4, 16  # blocks of rows: a B that is read more often is laid out in panels, which takes as long as one
_LARGE = 1 << 17  # numbers of B, 512 KiB, that lie in the cache of a core: then it is read `_SOME` times as it lies


@part
def _product(
    part, worker, a, b, c, start, scratch, each, a_row, a_step, b_step, b_column, c_row, start_row, start_column, rows,
    steps, columns, block, groups, relu, way, swaps, zeros,
):  # fmt: skip
    """`block` rows and one of the groups of panels of `C = C0 + A @ B`, through relu where it is not 0.

    B is read in one of three ways, see `way_of`.  Where it `swaps`, `a` is B and `b` is A, and where that is 2, C0 is
    one number.  Without `start` C0 is 0.
    """
    if start == 0:
        start = zeros
    own = own_scratch(scratch, each, worker)
    first = part // groups * block
    size = min(block, rows - first)
    group, all_panels = part % groups, panels(columns)
    column = group * all_panels // groups * host.WIDTH
    end = min((group + 1) * all_panels // groups * host.WIDTH, columns)
    if swaps:
        other = a
        a = b
        b = other
    if swaps == 2:
        number = floats(start)[0]
        start = stack_scratch()
        for j in range(2 * MOST_WIDTH):
            floats(start)[j] = number
    floor = np.float32(0) if relu else NO_FLOOR
    a += first * a_row
    c += first * c_row
    start += first * start_row
    # a panel is read for all rows before the next one, so that it stays in the cache
    wide = host.WIDTH if way == PACKED or size > host.ROWS else end - column
    while column < end:
        width, begin, target = min(end - column, wide), start + column * start_column, c + 4 * column
        matrix = b + column * b_column
        if way == PACKED:
            pack(matrix, b_step, b_column, steps, width, own)
            even_product(a, a_row, a_step, own, begin, start_row, target, c_row, size, steps, width, floor)
        elif way == DIRECT:
            direct_product(
                a, a_row, a_step, matrix, b_step, begin, start_row, start_column, target, c_row, size, steps, width,
                floor,
            )  # fmt: skip
        else:
            dot_product(
                a, a_row, matrix, b_column, begin, start_row, start_column, target, c_row, size, steps, width, floor
            )
        column += wide


def is_matrix(array: Any) -> bool:
    """Whether `packed` takes it: a float32 matrix, not empty, whose rows are contiguous."""
    return array.dtype.char == "f" and array.ndim == 2 and array.size > 0 and array.strides[1] == 4


def check_gradient(x_shape: Ints, shape: Ints, kernel_shape: Ints, fitting: Ints) -> None:
    """Machine code does not look at shapes: a gradient that is too small would have it read beside it."""
    if shape != fitting or x_shape[-1] != kernel_shape[-2]:
        raise ValueError(
            f"Inputs of the shape {x_shape} and a gradient of {shape} do not belong to a kernel of {kernel_shape}."
        )


def check_shape(name: str, array: Any, shape: Ints) -> None:
    """The tile does not look at shapes: an array that is too small would have it write beside it."""
    if array is not None and array.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, got {array.shape}.")


def matrix_product(
    a: Any, b: Any, ta: bool = False, tb: bool = False, bias: Any = None, relu: bool = False, out: Any = None
) -> Any:
    """`a @ b + bias` of matrices, either one transposed on request, through relu on request.

    None, and nothing is done, where the tile does not take them: they are of float32, and nothing is empty; `a` may lie
    anyhow, but one axis of `b` and the rows of `out` have to be contiguous.
    """
    if not a.dtype.char == b.dtype.char == "f" or (bias is not None and bias.dtype.char != "f"):
        return None
    made = product_plan(
        a.shape, a.strides, b.shape, b.strides, ta, tb, relu, bias is None or bias.strides, out is None or out.strides
    )
    if made is None:
        return None
    shape, run, call = made
    if out is None:
        out = empty(shape, a.dtype)
    elif out.dtype.char != "f":
        return None
    elif out.shape != shape:
        check_shape("out", out, shape)
    if bias is not None and bias.shape != shape[1:]:
        check_shape("bias", bias, shape[1:])
    if call is None:
        run(a, b, out, bias)
    else:
        team.team.run(*call, (a, b, out, bias))
    return out


@lru_cache(maxsize=1024)
def product_plan(
    a_shape: Ints, a_strides: Ints, b_shape: Ints, b_strides: Ints, ta: bool, tb: bool, relu: bool,
    bias_strides: Ints | bool, out_strides: Ints | bool,
) -> tuple[Ints, Callable[[Any, Any, Any, Any], None], tuple[int, Any, int, bool] | None] | None:  # fmt: skip
    """What `matrix_product` does for these shapes: (the result's, what does it, the call of a plan without scratch).

    True stands for no bias, and for a new `out`.
    """
    if len(a_shape) != 2 or len(b_shape) != 2 or not host.HAS_VECTORS:
        return None
    (rows, steps), (a_row, a_step) = (a_shape[::-1], a_strides[::-1]) if ta else (a_shape, a_strides)
    (there, columns), (b_step, b_column) = (b_shape[::-1], b_strides[::-1]) if tb else (b_shape, b_strides)
    if steps != there:
        raise ValueError(f"Matrices of the shapes {a_shape} and {b_shape} cannot be multiplied (ta={ta}, tb={tb}).")
    c_row, c_column = (4 * columns, 4) if isinstance(out_strides, bool) else out_strides
    has_bias = bias_strides is not True
    shape = rows, columns
    if 0 in (rows, steps, columns) or (columns > 1 and (c_column != 4 or bias_strides not in (True, (4,)))):
        return None
    swaps = is_for_columns(rows, columns, c_row, a_row, a_step)
    if swaps:
        rows, columns = 1, rows
        (a_row, a_step), (b_step, b_column) = (b_column, b_step), (a_step, a_row)
    if (layout := layout_of_b(steps, columns, b_step, b_column)) is None:
        return None
    strides = a_row, a_step, *layout, c_row
    few = max(_SLICE // rows, 64)
    if swaps or has_bias or relu or not a_row == 4 == layout[1] or rows < host.ROWS or steps < 2 * few:
        plan = _plan(rows, steps, columns, strides, has_bias, relu, swaps * (1 + has_bias))
        return shape, plan.run, None if plan.has_scratch else plan.call
    plans = [
        (_plan(rows, min(few, steps - first), columns, strides, adds=first > 0), first)
        for first in range(0, steps, few)
    ]  # fmt: skip

    def in_stretches(a: Any, b: Any, out: Any, none: Any) -> None:
        a, b = a.T if ta else a, b.T if tb else b
        for plan, first in plans:
            plan.run(a[:, first:], b[first:], out, out if first else none)

    return shape, in_stretches, None


def is_for_columns(rows: int, columns: int, c_row: int, a_row: int, a_step: int) -> bool:
    """Whether a product's single column is made as a row of the transposed product, `B.T @ A.T`."""
    return columns == 1 and rows >= host.ROWS and c_row == 4 and 4 in (a_row, a_step)


def layout_of_b(steps: int, columns: int, b_step: int, b_column: int) -> Ints | None:
    """The strides of B's steps and columns, one of which is 4, as it is of an axis of one number; None: neither is."""
    if columns == 1:
        return b_step, 4
    if steps == 1 and b_column != 4:
        return 4, b_column
    return (b_step, b_column) if 4 in (b_step, b_column) else None


DIRECT, PACKED, DOTS = range(3)  # B is read row by row where it lies; in panels; column by column where it lies


def way_of(rows: int, steps: int, columns: int, a_step: int, b_column: int) -> int:
    """How B is read."""
    if b_column != 4:
        return DOTS if a_step == 4 and rows < host.ROWS else PACKED
    if (
        columns % host.LANES and not host.HAS_MASKS
    ):  # the last vector of each of B's rows would be read number by number
        return PACKED
    return PACKED if rows > host.ROWS * (_SOME if steps * columns <= _LARGE else _FEW) else DIRECT


def _plan(
    rows: int, steps: int, columns: int, strides: Ints, has_bias: bool = False, relu: bool = False,
    swaps: int = 0, adds: bool = False,
) -> Plan:  # fmt: skip
    """One product in parts; `strides` are those of A's rows and steps, B's steps and columns and C's rows.

    Args:
        swaps: 1: the part gets B for A and A for B; 2: and a bias that is one number.
        adds: to what is there.
    """
    a_row, a_step, b_step, b_column, c_row = strides
    blocks = groups = 1
    work = rows * steps * columns
    if work >= ALONE:
        groups = panels_of(columns)
        if groups < 2 * team_size():
            blocks = max(min(-(-4 * team_size() // groups), -(-rows // (4 * host.ROWS))), 1)
    block = -(-rows // blocks)
    way = way_of(rows, steps, columns, a_step, b_column)
    return Plan(
        _product, -(-rows // block) * groups, work >= WAKES,
        (way == PACKED) * steps * host.PANEL,
        a_row=a_row, a_step=a_step, b_step=b_step, b_column=b_column, c_row=c_row,
        start_row=c_row if adds else 0, start_column=4 if adds or (has_bias and not swaps) else 0,
        rows=rows, steps=steps, columns=columns, block=block, groups=groups, relu=relu, way=way, swaps=swaps,
        zeros=NO_START,
    )  # fmt: skip


@part
def _add_up(part, parts, shares, size, sums: Floats, out: Floats):
    """Some numbers of a result, each the sum of what all shares have of it, one after the other."""
    first, end = share_of_lines(part, parts, size)
    for i in range(first, end):
        out[i] = sums[i]
    for other in range(1, shares):
        at = other * size
        for i in range(first, end):
            out[i] += sums[at + i]


def add_up(sums: Any, out: Any) -> Any:
    """The sum over the first axis of a contiguous array of float32, in `out`."""
    _add_up.run(parts_for(sums.size), shares=len(sums), size=out.size, sums=sums, out=out)
    return out


# ---- products within a part ------------------------------------------------------------------------------------------


def packed(b: Any, tb: bool = False, out: Any = None) -> Any:
    """A matrix (`is_matrix`; transposed on request) in panels, as `rows_product` reads it."""
    steps, columns = b.shape[::-1] if tb else b.shape
    out = empty((panel_bytes(columns, steps) // 4,), b.dtype) if out is None else out
    b_step, b_column = (4, b.strides[0]) if tb else (b.strides[0], 4)
    _pack.run(panels_of(columns), False, b=b, b_step=b_step, b_column=b_column, steps=steps, columns=columns, out=out)
    return out


@compiled
def rows_product(a, a_row, start, start_row, c, c_row, rows, steps, columns, b):
    """`C = C0 + A @ B` of some rows, B as `packed` gives it.

    A, C0 and C are given by the addresses of their first row (`start` is C0's) and the bytes from row to row.
    """
    for column in range(0, columns, host.WIDTH):
        panel = b + column // host.WIDTH * steps * host.PANEL
        begin, target, left = start + 4 * column, c + 4 * column, min(columns - column, host.WIDTH)
        even_product(a, a_row, 4, panel, begin, start_row, target, c_row, rows, steps, left, NO_FLOOR)


BLOCK_BYTES = 4 * MOST_WIDTH  # of a worker's scratch that `block_product` needs: zeros, which its sums start from


@compiled
def block_product(own, a, a_row, a_step, rows, steps, b, b_panel, columns, c, c_row, more):
    """`C = A B`, or `C += A B` where `more`: A and C by address and bytes between rows (and steps), B in panels.

    The panels lie `b_panel` bytes apart; `own` is the worker's scratch, `BLOCK_BYTES`.
    """
    zeros = floats(own)
    for j in range(host.WIDTH):
        zeros[j] = np.float32(0)
    for column in range(0, columns, host.WIDTH):
        panel, target, left = b + column // host.WIDTH * b_panel, c + 4 * column, min(columns - column, host.WIDTH)
        start, start_row = target if more else own, c_row if more else 0
        even_product(a, a_row, a_step, panel, start, start_row, target, c_row, rows, steps, left, NO_FLOOR)
