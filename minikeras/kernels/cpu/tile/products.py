"""Matrix products of float32, made of tiles: long ones that the team shares, and those that a part makes on its way."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.compiler import (
    Numbers,
    Plan,
    compiled,
    floats,
    host,
    inner,
    instruction,
    numbers,
    own_scratch,
    part,
    stack_scratch,
    team_size,
)
from minikeras.kernels.cpu.tile.register import (
    MOST_ROWS,
    MOST_WIDTH,
    NO_FLOOR,
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


NO_START = np.zeros(MOST_WIDTH, np.float32)  # C0 without a bias
ORIGIN = np.zeros(1, np.int64)  # the table of one position, segment or line
ALONE = 500_000  # multiplications below which a second thread does not pay
WAKES = 8_000_000  # multiplications for which a helper is waked
_SLICE = 1 << 18  # numbers of A, 1 MiB: where A is transposed, each panel reads them anew from the cache of a core


def is_matrix(array: Any) -> bool:
    """Whether `matrix_product` takes it: a float32 matrix, not empty, whose rows are contiguous."""
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
    """`a @ b + bias`, either matrix transposed on request, through relu on request; of matrices as `is_matrix` says."""
    rows, steps = a.shape[::-1] if ta else a.shape
    there, columns = b.shape[::-1] if tb else b.shape
    if steps != there:
        raise ValueError(f"Matrices of the shapes {a.shape} and {b.shape} cannot be multiplied (ta={ta}, tb={tb}).")
    if out is None:
        out = empty((rows, columns), a.dtype)
    check_shape("out", out, (rows, columns))
    check_shape("bias", bias, (columns,))
    strides = a.strides[0], b.strides[0], out.strides[0]
    few = max(_SLICE // rows, 64)
    if ta and not tb and steps >= 2 * few and bias is None and not relu:
        for first in range(0, steps, few):
            plan = product_plan(rows, min(few, steps - first), columns, strides, ta, tb, adds=first > 0)
            plan.run(a[first:], b[first:], out, out if first else NO_START)
        return out
    plan = product_plan(rows, steps, columns, strides, ta, tb, bias is not None, relu)
    plan.run(a, b, out, NO_START if bias is None else bias)
    return out


@lru_cache(maxsize=1024)
def product_plan(
    rows: int, steps: int, columns: int, strides: Ints, ta: bool, tb: bool, has_bias: bool = False, relu: bool = False,
    adds: bool = False,
) -> Plan:  # fmt: skip
    """What `matrix_product` does for these shapes; `adds`: to what is there."""
    blocks = groups = 1
    work = rows * steps * columns
    if work >= ALONE:
        groups = panels_of(columns)
        if groups < 2 * team_size():
            blocks = min(-(-4 * team_size() // groups), -(-rows // (4 * host.ROWS)))
    block = -(-rows // blocks)
    return Plan(
        product, -(-rows // block) * groups, work >= WAKES, steps * host.PANEL + ADDRESSES,
        positions=1, table=ORIGIN, a_image=4 if ta else strides[0],  # a row is an image of one position
        segments=ORIGIN, count=1, steps=steps, step=strides[0] if ta else 4,
        b_packed=0, b_step=4 if tb else strides[1], b_column=strides[1] if tb else 4,
        c_row=strides[2], rows=rows, columns=columns, block=block, groups=groups, relu=relu,
        start_row=strides[2] if adds else 0, start_column=4 if has_bias or adds else 0,
        lines=0, line=0, line_table=ORIGIN, padded=0,
    )  # fmt: skip


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
    at = stack_scratch()
    addresses = numbers(at)
    addresses[3 * host.ROWS] = 0  # the only segment
    for column in range(0, columns, host.WIDTH):
        panel = b + column // host.WIDTH * steps * host.PANEL
        for first in range(0, rows, host.ROWS):
            for r in range(host.ROWS):
                row = min(first + r, rows - 1)  # the last row once more
                addresses[r] = a + row * a_row
                addresses[host.ROWS + r] = start + row * start_row + 4 * column
                addresses[2 * host.ROWS + r] = c + row * c_row + 4 * column
            starts, cs, segments = at + 8 * host.ROWS, at + 16 * host.ROWS, at + 24 * host.ROWS
            tile(at, starts, cs, segments, 1, steps, 4, panel, NO_FLOOR, columns - column)


_ZEROS = 24 * MOST_ROWS  # where in a worker's scratch the tile finds zeros: an offset, and what a sum starts from
BLOCK_BYTES = _ZEROS + 4 * MOST_WIDTH  # of a worker's scratch that `block_product` needs
_tile_here = instruction(tile.function)  # sums are short: a call would cost a tenth of them


@compiled
def block_product(own, a, a_row, a_step, rows, steps, b, b_panel, columns, c, c_row, more):
    """`C = A B`, or `C += A B` where `more`: A and C by address and bytes between rows (and steps), B in panels.

    The panels lie `b_panel` bytes apart; `own` is the worker's scratch, `BLOCK_BYTES`.
    """
    addresses, zeros = numbers(own), floats(own + _ZEROS)
    for j in range(host.WIDTH):
        zeros[j] = np.float32(0)
    for column in range(0, columns, host.WIDTH):
        panel = b + column // host.WIDTH * b_panel
        for row in range(0, rows, host.ROWS):
            for r in range(host.ROWS):
                i = min(row + r, rows - 1)  # the last row once more
                target = c + i * c_row + column * 4
                addresses[r] = a + i * a_row
                addresses[host.ROWS + r] = target if more else own + _ZEROS
                addresses[2 * host.ROWS + r] = target
            starts, cs, zero = own + 8 * host.ROWS, own + 16 * host.ROWS, own + _ZEROS
            _tile_here(own, starts, cs, zero, 1, steps, a_step, panel, NO_FLOOR, columns - column)
