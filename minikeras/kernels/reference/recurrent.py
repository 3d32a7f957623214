"""Recurrent layers over a whole sequence: one kernel forward, one backward.

The input product of all time steps is one matrix product before the loop, each weight gradient is one after the
backward loop; a time step is left with the recurrent product and the elementwise arithmetic of its cell.  A device
may replace that arithmetic (`cell=`) or the whole loop over time (`loop=`) by a pair of functions (forward, backward);
the residual remembers it, so one backward kernel serves all.

Shapes: x (n, t, d); states (n, u), the first ones None for zeros; mask (n, t) of booleans, False where a step is to be
skipped: the states are then carried over and the output repeats the previous one (zeros before the first step that
counts), or is zero with `zero_output_for_mask`.  With `backwards` the steps are taken from the last one, and outputs
stay beside their inputs.  Without `return_sequences` the output of the step taken last is all that is returned, (n, u).

`recurrent_mask` multiplies the state on its way into the recurrent product (recurrent dropout), nowhere else: (n, u),
or (gates, n, u) for another mask on the way to each gate.  `input_mask` (gates, n, d) does so with the inputs, at every
time step alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from minikeras.kernels.reference.conv import Ints, Padding, output_shape, same_padding
from minikeras.kernels.table import Kernels, kernel

Cell = tuple[Callable, Callable]  # elementwise arithmetic of one step: forward, backward
# All time steps, the input product included.  Forward: it gets the table and the first states, fills what is saved and
# the last states and returns what is shown.  Backward: from the gradients of the results it fills those of the products
# (n, t, ...), of the first states and of the biases, the sums of the products' (None: not wanted), and returns that of
# x (None: left to the caller).
Loop = tuple[Callable, Callable]


class Order(NamedTuple):
    """In which order steps are taken, and which of them are shown."""

    backwards: bool = False
    sequences: bool = True
    zeros: bool = False  # shown for a step that is skipped

    def steps(self, time: int) -> range:
        return range(time - 1, -1, -1) if self.backwards else range(time)


class _Residual(NamedTuple):
    x: Any
    kernel: Any
    recurrent_kernel: Any
    bias: Any
    mask: Any
    input_mask: Any
    recurrent_mask: Any
    cell: Cell
    loop: Loop | None
    order: Order
    saved: tuple  # arrays (n, t, ...) that the backward steps read; the first holds h before each step
    reset_after: bool = True


class _Means(NamedTuple):
    """What the arithmetic of a cell is done with."""

    k: Kernels
    activation: str | None
    recurrent_activation: str | None


def _made_cell(forward: Callable, backward: Callable, *means: Any) -> Cell:
    return partial(forward, _Means(*means)), partial(backward, _Means(*means))


# ---- what the three kernels share ------------------------------------------------------------------------------------


def _project(k: Kernels, x: Any, kernel: Any, bias: Any, gates: int, loop: Loop | None, input_mask: Any = None) -> Any:
    """`x @ kernel + bias` of every time step, as (n, t, gates, u); with a `loop`, room for it."""
    n, t, d = x.shape
    width = kernel.shape[1]
    if loop is not None:
        return k.empty((n, t, gates, width // gates), kernel.dtype)
    if input_mask is None:
        return k.dense(x.reshape(n * t, d), kernel, bias).reshape(n, t, gates, width // gates)
    z = k.empty((n * t, width), kernel.dtype)
    project_by_gate(k, x, kernel, bias, input_mask, z)
    return z.reshape(n, t, gates, width // gates)


def project_by_gate(k: Kernels, x: Any, kernel: Any, bias: Any, input_mask: Any, z: Any) -> None:
    """The same into `z`, a row for each time step, where each gate drops other inputs."""
    for mask, gate in zip(input_mask, _gates(kernel.shape[1], len(input_mask)), strict=True):
        k.gemm(_rows(k.drop_steps(x, mask)), kernel[:, gate], out=z[:, gate])
    if bias is not None:
        k.add_rows(k.xp.broadcast_to(bias, z.shape), z)


@kernel
def drop_steps(k: Kernels, x: Any, factors: Any) -> Any:
    """`x` (n, t, d) times `factors` (n, d), at every time step alike."""
    return x * factors[:, None]


@kernel
def dropout_factors(k: Kernels, mask: Any, factor: float, dtype: Any) -> Any:
    """What a dropout multiplies by: `factor` where a mask of 0 and 1 is 1."""
    return mask * dtype.type(factor)


def _gates(width: int, gates: int) -> list[slice]:
    """The columns of each gate."""
    size = width // gates
    return [slice(i * size, (i + 1) * size) for i in range(gates)]


def _first(k: Kernels, given: Any, gates: Any, loop: Loop | None) -> Any:
    """A state (n, u) before the first step, given or zeros; with a `loop`, room for it."""
    n, _, _, u = gates.shape
    state = k.empty((n, u), gates.dtype)
    if loop is None:
        k.copy_rows(given, state)
    return state


@kernel
def copy_rows(k: Kernels, source: Any, target: Any) -> None:
    """Let the rows of a matrix be those of another one; None: zeros."""
    target[...] = 0 if source is None else source


@kernel
def add_rows(k: Kernels, source: Any, target: Any) -> None:
    """Add the rows of a matrix to those of another one."""
    target += source


def _per_gate(recurrent_mask: Any) -> bool:
    return recurrent_mask is not None and recurrent_mask.ndim == 3


def _drop(k: Kernels, h: Any, recurrent_mask: Any, out: Any) -> Any:
    """What enters the last gate's recurrent product."""
    if recurrent_mask is None:
        return h
    return k.xp.multiply(h, recurrent_mask[-1] if _per_gate(recurrent_mask) else recurrent_mask, out=out)


def _recur(k: Kernels, h: Any, kernel: Any, recurrent_mask: Any, dropped: Any, out: Any) -> None:
    """`h @ kernel` (some or all gates' columns) into `out`, h dropped on its way."""
    if not _per_gate(recurrent_mask):
        k.gemm(_drop(k, h, recurrent_mask, dropped), kernel, out=out)
        return
    for mask, gate in zip(recurrent_mask, _gates(kernel.shape[1], kernel.shape[1] // h.shape[1]), strict=False):
        k.gemm(k.xp.multiply(h, mask, out=dropped), kernel[:, gate], out=out[:, gate])


def _recur_grad(k: Kernels, g_product: Any, kernel: Any, recurrent_mask: Any, out: Any) -> Any:
    """The gradient at h of `_recur`, into `out`."""
    if not _per_gate(recurrent_mask):
        k.gemm(g_product, kernel, tb=True, out=out)
        return out if recurrent_mask is None else k.xp.multiply(out, recurrent_mask, out=out)
    out[...] = 0
    for mask, gate in zip(recurrent_mask, _gates(kernel.shape[1], kernel.shape[1] // out.shape[1]), strict=False):
        out += k.gemm(g_product[:, gate], kernel[:, gate], tb=True) * mask
    return out


def _scan(
    k: Kernels, step: Callable[[int], None], states: Sequence[Any], histories: Sequence[Any], x: Any, mask: Any,
    order: Order,
) -> Any:  # fmt: skip
    """Run `step(s)` over time; returns the outputs (n, t, u), or the last one (n, u).

    A step updates `states` (h first) in place; `histories` receive what each state was before the step.
    """
    n, t = x.shape[:2]
    h = states[0]
    outputs = k.empty((n, t, h.shape[1]), h.dtype) if order.sequences else None
    shown = h if mask is None else k.xp.zeros_like(h)
    for s in order.steps(t):
        for history, state in zip(histories, states, strict=False):
            k.copy_rows(state, history[:, s])
        before = [] if mask is None else [state.copy() for state in states]
        step(s)
        if mask is not None:
            counts = mask[:, s, None]
            for state, old in zip(states, before, strict=True):
                state[...] = k.xp.where(counts, state, old)
            shown = k.xp.where(counts, h, 0 if order.zeros else shown)
        if outputs is not None:
            k.copy_rows(shown, outputs[:, s])
    return shown if outputs is None else outputs


def _scan_grad(
    k: Kernels, step: Callable[[int], None], g_states: Sequence[Any], g_outputs: Any, products: Sequence[Any],
    r: _Residual, biases: Sequence[Any],
) -> None:  # fmt: skip
    """Run `step(s)` backward in time, and add up the gradients of the biases.

    A step turns `g_states` (h first), the gradients at the states after it, into those at the states before it, in
    place, and writes the gradients of its products into `products` (n, t, ...), which a skipped step leaves at zero.
    """
    xp, order = k.xp, r.order
    g_h = g_states[0]
    if r.mask is None and g_outputs is not None and not order.sequences:
        k.add_rows(g_outputs, g_h)
        g_outputs = None
    # of outputs that repeat an earlier one, on its way to that one
    waiting = g_h if r.mask is None else xp.zeros_like(g_h)
    for place, s in enumerate(reversed(order.steps(products[0].shape[1]))):
        if r.mask is None:
            if g_outputs is not None:
                k.add_rows(g_outputs[:, s], g_h)
            step(s)
            continue
        counts = r.mask[:, s, None]
        if g_outputs is not None:
            if order.sequences or place == 0:
                waiting += g_outputs[:, s] if order.sequences else g_outputs
            g_h += xp.where(counts, waiting, 0)
            waiting[...] = 0 if order.zeros else xp.where(counts, 0, waiting)
        after = [gradient.copy() for gradient in g_states]
        step(s)
        for gradient, old in zip(g_states, after, strict=True):
            gradient[...] = xp.where(counts, gradient, old)
        for product in products:
            product[:, s] = xp.where(counts[:, :, None], product[:, s], 0)
    for product, bias in zip(products, biases, strict=False):
        _sum_rows(k, product, bias)


def _backward(
    k: Kernels, step: Callable[[int], None], g_outputs: Any, given: Sequence[Any], g_states: Sequence[Any],
    products: Sequence[Any], r: _Residual, needs_x: bool, g_bias: Any,
) -> tuple[Any, Any]:  # fmt: skip
    """All steps backward, by `step(s)` or by the residual's loop: (gradient of x or None, of the bias or None).

    From what is `given`, the gradients of the last states, `g_states` becomes those of the first ones, and `products`
    are filled.  The gradient of x is left to the caller where it is None.
    """
    if r.bias is not None and g_bias is None:
        g_bias = k.empty(r.bias.shape, products[0].dtype)
    biases: Any = () if r.bias is None else g_bias if len(products) == 2 else (g_bias,)
    if r.loop is not None:
        return r.loop[1](r, g_outputs, given, g_states, products, needs_x, biases), g_bias
    for gradient, last in zip(g_states, given, strict=True):
        k.copy_rows(last, gradient)
    _scan_grad(k, step, g_states, g_outputs, products, r, biases)
    return None, g_bias


def _rows(array: Any) -> Any:
    """(n, t, ...) as a matrix of n * t rows."""
    n, t, *rest = array.shape
    return array.reshape(n * t, math.prod(rest))


def _input_grads(k: Kernels, r: _Residual, g_products: Any, needs_x: bool, g_x: Any, out: Any) -> tuple[Any, Any]:
    """(gradient of x or None, gradient of the kernel); `g_x` where the first is known already."""
    g_rows = _rows(g_products)
    if r.input_mask is None:
        g_kernel = k.gemm(_rows(r.x), g_rows, ta=True, out=out)
        if needs_x and g_x is None:
            g_x = k.gemm(g_rows, r.kernel, tb=True).reshape(r.x.shape)
        return g_x, g_kernel
    g_kernel = k.empty(r.kernel.shape, g_rows.dtype) if out is None else out
    for mask, gate in zip(r.input_mask, _gates(g_rows.shape[1], len(r.input_mask)), strict=True):
        k.gemm(_rows(k.drop_steps(r.x, mask)), g_rows[:, gate], ta=True, out=g_kernel[:, gate])
        if needs_x:
            through = k.drop_steps(k.gemm(g_rows[:, gate], r.kernel[:, gate], tb=True).reshape(r.x.shape), mask)
            if g_x is None:
                g_x = through
            else:
                k.add_rows(_rows(through), _rows(g_x))
    return g_x, g_kernel


def _recurrent_kernel_grad(k: Kernels, r: _Residual, g_rows: Any, out: Any) -> Any:
    """The gradient of the recurrent kernel (some or all gates' columns) into `out`, may be None."""
    history = r.saved[0]
    if not _per_gate(r.recurrent_mask):
        entered = history if r.recurrent_mask is None else k.drop_steps(history, r.recurrent_mask)
        return k.gemm(_rows(entered), g_rows, ta=True, out=out)
    width, u = g_rows.shape[1], history.shape[2]
    out = k.empty((u, width), g_rows.dtype) if out is None else out
    for mask, gate in zip(r.recurrent_mask, _gates(width, width // u), strict=False):
        k.gemm(_rows(k.drop_steps(history, mask)), g_rows[:, gate], ta=True, out=out[:, gate])
    return out


def _sum_rows(k: Kernels, array: Any, out: Any) -> None:
    k.total(_rows(array), 0, out=out)


def _histories(k: Kernels, with_residual: bool, x: Any, *states: Any) -> list[Any]:
    n, t = x.shape[:2]
    return [k.empty((n, t, state.shape[1]), state.dtype) for state in states] if with_residual else []


# ---- simple recurrent layer ------------------------------------------------------------------------------------------


@kernel
def simple_rnn(
    k: Kernels,
    x: Any,
    h0: Any,
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any,
    *,
    mask: Any = None,
    recurrent_mask: Any = None,
    activation: str | None = "tanh",
    backwards: bool = False,
    return_sequences: bool = True,
    zero_output_for_mask: bool = False,
    with_residual: bool = True,
    cell: Cell | None = None,
    loop: Loop | None = None,
) -> tuple[Any, Any, Any]:
    """`h_t = activation(x_t @ kernel + bias + h_{t-1} @ recurrent_kernel)`.

    Returns (outputs, last h (n, u), residual); the residual is None unless `with_residual`.
    """
    order = Order(backwards, return_sequences, zero_output_for_mask)
    cell = cell or (partial(_simple_cell, k, activation), partial(_simple_cell_grad, k, activation))
    z = _project(k, x, kernel, bias, 1, loop)
    h = _first(k, h0, z, loop)
    histories = _histories(k, with_residual, x, h)
    product, dropped = k.empty(h.shape, h.dtype), k.empty(h.shape, h.dtype)

    def step(s: int) -> None:
        _recur(k, h, recurrent_kernel, recurrent_mask, dropped, product)
        cell[0](s, z, product, h)

    if loop is None:
        outputs = _scan(k, step, (h,), histories, x, mask, order)
    else:
        filled = {"h": h, "histories": histories, "gates": z}
        given = {"recurrent_kernel": recurrent_kernel, "h0": h0, "mask": mask, "order": order}
        outputs = loop[0](k, x, kernel, bias, recurrent_mask=recurrent_mask, **given, **filled)
    if not with_residual:
        return outputs, h, None
    masks = mask, None, recurrent_mask
    return outputs, h, _Residual(x, kernel, recurrent_kernel, bias, *masks, cell, loop, order, (*histories, z))


@kernel
def simple_rnn_grad(
    k: Kernels, g_outputs: Any, g_h: Any, residual: Any, needs_x: bool = True, outs: tuple = (None, None, None)
) -> tuple[Any, ...]:
    """Backward of `simple_rnn`: gradients of (x or None, h0, kernel, recurrent_kernel, bias or None).

    `g_outputs`, `g_h`: gradients of the results, None where one was unused.  `outs`: destinations of the three weight
    gradients, each may be None.
    """
    r: _Residual = residual
    _, y = r.saved
    g_z = k.empty(y.shape, y.dtype)
    g_h0 = k.empty((y.shape[0], y.shape[3]), y.dtype)

    def step(s: int) -> None:
        r.cell[1](s, y, g_h0, g_z)
        _recur_grad(k, g_z[:, s, 0], r.recurrent_kernel, r.recurrent_mask, g_h0)

    g_x, g_bias = _backward(k, step, g_outputs, (g_h,), (g_h0,), (g_z,), r, needs_x, outs[2])
    g_x, g_kernel = _input_grads(k, r, g_z, needs_x, g_x, outs[0])
    g_recurrent = _recurrent_kernel_grad(k, r, _rows(g_z), outs[1])
    return g_x, g_h0, g_kernel, g_recurrent, g_bias


def _simple_cell(k: Kernels, activation: str | None, s: int, z: Any, product: Any, h: Any) -> None:
    y = z[:, s, 0]
    y += product
    h[...] = k.activate(y, activation, out=y)


def _simple_cell_grad(k: Kernels, activation: str | None, s: int, y: Any, g_h: Any, g_z: Any) -> None:
    g_z[:, s, 0] = k.activate_grad(g_h, y[:, s, 0], activation)


# ---- LSTM ------------------------------------------------------------------------------------------------------------


@kernel
def lstm(
    k: Kernels,
    x: Any,
    h0: Any,
    c0: Any,
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any,
    *,
    mask: Any = None,
    input_mask: Any = None,
    recurrent_mask: Any = None,
    activation: str | None = "tanh",
    recurrent_activation: str | None = "sigmoid",
    backwards: bool = False,
    return_sequences: bool = True,
    zero_output_for_mask: bool = False,
    with_residual: bool = True,
    cell: Cell | None = None,
    loop: Loop | None = None,
) -> tuple[Any, Any, Any, Any]:
    """Long short-term memory (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    Gates i, f, g, o along the 4u columns: `c_t = f * c_{t-1} + i * g`, `h_t = o * activation(c_t)`.
    Returns (outputs, last h, last c, residual); the residual is None unless `with_residual`.
    """
    order = Order(backwards, return_sequences, zero_output_for_mask)
    if cell is None:
        cell = _made_cell(_lstm_cell, _lstm_cell_grad, k, activation, recurrent_activation)
    gates = _project(k, x, kernel, bias, 4, loop, input_mask)
    n, t, _, u = gates.shape
    h, c = _first(k, h0, gates, loop), _first(k, c0, gates, loop)
    histories = _histories(k, with_residual, x, h, c)
    squashed = k.empty((n, t if with_residual else min(t, 1), u), gates.dtype)  # activation(c)
    product, dropped = k.empty((n, 4 * u), gates.dtype), k.empty((n, u), gates.dtype)

    def step(s: int) -> None:
        _recur(k, h, recurrent_kernel, recurrent_mask, dropped, product)
        cell[0](s, gates, product, c, h, squashed)

    if loop is None:
        outputs = _scan(k, step, (h, c), histories, x, mask, order)
    else:
        given = {"recurrent_kernel": recurrent_kernel, "h0": h0, "c0": c0, "mask": mask, "order": order}
        filled = {"h": h, "c": c, "histories": histories, "gates": gates, "squashed": squashed}
        dropout = {"input_mask": input_mask, "recurrent_mask": recurrent_mask}
        outputs = loop[0](k, x, kernel, bias, **dropout, **given, **filled)
    if not with_residual:
        return outputs, h, c, None
    masks, saved = (mask, input_mask, recurrent_mask), (*histories, gates, squashed)
    return outputs, h, c, _Residual(x, kernel, recurrent_kernel, bias, *masks, cell, loop, order, saved)


@kernel
def lstm_grad(
    k: Kernels,
    g_outputs: Any,
    g_h: Any,
    g_c: Any,
    residual: Any,
    needs_x: bool = True,
    outs: tuple = (None, None, None),
) -> tuple[Any, ...]:
    """Backward of `lstm`: gradients of (x or None, h0, c0, kernel, recurrent_kernel, bias or None).

    `g_outputs`, `g_h`, `g_c`: gradients of the results, None where one was unused.  `outs`: destinations of the three
    weight gradients, each may be None.
    """
    r: _Residual = residual
    _, cells, gates, squashed = r.saved
    n, _, _, u = gates.shape
    g_gates = k.empty(gates.shape, gates.dtype)
    g_h0, g_c0 = k.empty((n, u), gates.dtype), k.empty((n, u), gates.dtype)

    def step(s: int) -> None:
        r.cell[1](s, gates, cells, squashed, g_h0, g_c0, g_gates)
        _recur_grad(k, g_gates[:, s].reshape(n, 4 * u), r.recurrent_kernel, r.recurrent_mask, g_h0)

    g_x, g_bias = _backward(k, step, g_outputs, (g_h, g_c), (g_h0, g_c0), (g_gates,), r, needs_x, outs[2])
    g_x, g_kernel = _input_grads(k, r, g_gates, needs_x, g_x, outs[0])
    g_recurrent = _recurrent_kernel_grad(k, r, _rows(g_gates), outs[1])
    return g_x, g_h0, g_c0, g_kernel, g_recurrent, g_bias


def _lstm_cell(by: _Means, s: int, gates: Any, product: Any, c: Any, h: Any, squashed: Any) -> None:
    """Activate `gates[:, s] + product` in place; update c and h.  The gates lie along the axis before the last."""
    k, activation, recurrent_activation = by
    gate = gates[:, s]
    gate += product.reshape(gate.shape)
    i, f, g, o = (gate[..., k, :] for k in range(4))
    k.activate(gate[..., :2, :], recurrent_activation, out=gate[..., :2, :])
    k.activate(g, activation, out=g)
    k.activate(o, recurrent_activation, out=o)
    c, h = c.reshape(i.shape), h.reshape(i.shape)
    c *= f
    c += i * g
    y = squashed[:, s % squashed.shape[1]]
    y[...] = c
    k.activate(y, activation, out=y)
    k.xp.multiply(o, y, out=h)


def _lstm_cell_grad(
    by: _Means, s: int, gates: Any, cells: Any, squashed: Any, g_h: Any, g_c: Any, g_gates: Any
) -> None:
    """Write the gradients before the gates' activations; turn g_c from the c after the step to the c before it."""
    k, activation, recurrent_activation = by
    gate, g_gate, y = gates[:, s], g_gates[:, s], squashed[:, s]
    i, f, g, o = (gate[..., k, :] for k in range(4))
    g_h, g_c, c = (array.reshape(y.shape) for array in (g_h, g_c, cells[:, s]))
    g_c += k.activate_grad(g_h * o, y, activation)
    g_gate[..., 0, :] = k.activate_grad(g_c * g, i, recurrent_activation)
    g_gate[..., 1, :] = k.activate_grad(g_c * c, f, recurrent_activation)
    g_gate[..., 2, :] = k.activate_grad(g_c * i, g, activation)
    g_gate[..., 3, :] = k.activate_grad(g_h * y, o, recurrent_activation)
    g_c *= f


# ---- LSTM whose products are convolutions ----------------------------------------------------------------------------


class _Window(NamedTuple):
    strides: Ints
    padding: Padding
    dilation: Ints


def _recurrent_window(size: Ints) -> dict[str, Any]:
    """Of the convolution of a state, which keeps its sizes."""
    one = (1,) * len(size)
    return _Window(one, tuple(same_padding(1, length) for length in size), one)._asdict()


@kernel
def conv_lstm(
    k: Kernels,
    x: Any,
    h0: Any,
    c0: Any,
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any,
    *,
    strides: Ints,
    padding: Padding,
    dilation: Ints,
    mask: Any = None,
    activation: str | None = "tanh",
    recurrent_activation: str | None = "sigmoid",
    backwards: bool = False,
    return_sequences: bool = True,
    zero_output_for_mask: bool = False,
    with_residual: bool = True,
    cell: Cell | None = None,
) -> tuple[Any, Any, Any, Any]:
    """An LSTM whose products are convolutions (Shi et al. 2015, arXiv:1506.04214, without peepholes).

    x (n, t, *spatial, channels), kernel (*size, channels, 4f), recurrent kernel (*size, f, 4f), bias (4f,) or None;
    states (n, *lengths, f).  Strides, padding and dilation are those of the inputs' convolution, as for `conv`: one
    convolution of all time steps; that of the state keeps its sizes.  All else as for `lstm`.
    """
    order = Order(backwards, return_sequences, zero_output_for_mask)
    cell = cell or _made_cell(_lstm_cell, _lstm_cell_grad, k, activation, recurrent_activation)
    window, inside = _Window(strides, padding, dilation), _recurrent_window(recurrent_kernel.shape[:-2])
    n, t, *image = x.shape
    z = k.conv(x.reshape(n * t, *image), kernel, bias, **window._asdict())
    lengths, f = z.shape[1:-1], z.shape[-1] // 4
    places = math.prod(lengths)
    gates = z.reshape(n, t, places, 4, f)
    states = [k.empty((n, places * f), z.dtype) for _ in range(2)]
    for given, state in zip((h0, c0), states, strict=True):
        k.copy_rows(None if given is None else given.reshape(n, places * f), state)
    h, c = states
    histories = _histories(k, with_residual, x, h, c)
    squashed = k.empty((n, t if with_residual else min(t, 1), places, f), z.dtype)
    product, image_of_h = k.empty((n, *lengths, 4 * f), z.dtype), h.reshape(n, *lengths, f)

    def step(s: int) -> None:
        k.conv(image_of_h, recurrent_kernel, out=product, **inside)
        cell[0](s, gates, product, c, h, squashed)

    outputs = _scan(k, step, states, histories, x, mask, order)
    residual = _Residual(
        *(x, kernel, recurrent_kernel, bias, mask, None, None, cell, None, order, (*histories, gates, squashed))
    )
    shown = outputs.reshape(*outputs.shape[:-1], *lengths, f)
    last_h, last_c = (state.reshape(n, *lengths, f) for state in states)
    return shown, last_h, last_c, (residual, window) if with_residual else None


@kernel
def conv_lstm_grad(
    k: Kernels,
    g_outputs: Any,
    g_h: Any,
    g_c: Any,
    residual: Any,
    needs_x: bool = True,
    outs: tuple = (None, None, None),
) -> tuple[Any, ...]:
    """Backward of `conv_lstm`, as `lstm_grad` is of `lstm`."""
    r, window = residual
    history, cells, gates, squashed = r.saved
    n, t, places, _, f = gates.shape
    lengths = output_shape((n * t, *r.x.shape[2:]), r.kernel.shape[:-2], *window)
    g_gates = k.empty(gates.shape, gates.dtype)
    g_h0, g_c0 = k.empty((n, places * f), gates.dtype), k.empty((n, places * f), gates.dtype)
    g_product, g_image = k.empty((n, *lengths, 4 * f), gates.dtype), g_h0.reshape(n, *lengths, f)
    size = r.recurrent_kernel.shape[:-2]
    inside = _recurrent_window(size)
    # with strides of 1 the gradient of an input is a convolution too, with the kernel turned round
    turned = k.empty((*size, 4 * f, f), gates.dtype)
    turned[...] = k.xp.flip(r.recurrent_kernel, tuple(range(len(size)))).swapaxes(-1, -2)
    reverse = {**inside, "padding": tuple((after, before) for before, after in inside["padding"])}
    by_step, flat = g_gates.reshape(n, t, places * 4 * f), g_product.reshape(n, places * 4 * f)

    def step(s: int) -> None:
        r.cell[1](s, gates, cells, squashed, g_h0, g_c0, g_gates)
        k.copy_rows(by_step[:, s], flat)
        k.conv(g_product, turned, out=g_image, **reverse)

    def rows(gradient: Any) -> Any:
        return None if gradient is None else gradient.reshape(*gradient.shape[: -len(lengths) - 1], places * f)

    given = rows(g_h), rows(g_c)
    products = (g_gates.reshape(n, t, places * 4, f),)
    for gradient, last in zip((g_h0, g_c0), given, strict=True):
        k.copy_rows(last, gradient)
    _scan_grad(k, step, (g_h0, g_c0), rows(g_outputs), products, r, ())
    g = g_gates.reshape(n * t, *lengths, 4 * f)
    g_bias = outs[2]
    if r.bias is not None:
        g_bias = k.empty(r.bias.shape, g.dtype) if g_bias is None else g_bias
        k.total(g.reshape(n * t * places, 4 * f), 0, out=g_bias)
    images = r.x.reshape(n * t, *r.x.shape[2:])
    g_x = None
    if needs_x:
        g_x = k.conv_input_grad(g, r.kernel, images.shape, **window._asdict()).reshape(r.x.shape)
    g_kernel = k.conv_kernel_grad(images, g, r.kernel.shape, out=outs[0], **window._asdict())
    past = history.reshape(n * t, *lengths, f)
    g_recurrent = k.conv_kernel_grad(past, g, r.recurrent_kernel.shape, out=outs[1], **inside)
    g_first = (gradient.reshape(n, *lengths, f) for gradient in (g_h0, g_c0))
    return g_x, *g_first, g_kernel, g_recurrent, None if r.bias is None else g_bias


# ---- GRU -------------------------------------------------------------------------------------------------------------


@kernel
def gru(
    k: Kernels,
    x: Any,
    h0: Any,
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any,
    *,
    mask: Any = None,
    input_mask: Any = None,
    recurrent_mask: Any = None,
    activation: str | None = "tanh",
    recurrent_activation: str | None = "sigmoid",
    reset_after: bool = True,
    backwards: bool = False,
    return_sequences: bool = True,
    zero_output_for_mask: bool = False,
    with_residual: bool = True,
    cell: Cell | None = None,
    loop: Loop | None = None,
) -> tuple[Any, Any, Any]:
    """Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078): `h_t = z * h_{t-1} + (1 - z) * candidate`.

    Gates z, r, candidate along the 3u columns.  `reset_after` applies r to the recurrent product of the candidate
    (bias (2, 3u): input, recurrent), otherwise to the state that enters this product (bias (3u,)); bias may be None.
    Returns (outputs, last h, residual); the residual is None unless `with_residual`.
    """
    order = Order(backwards, return_sequences, zero_output_for_mask)
    if cell is None:
        forward, backward = (_gru_cell, _gru_cell_grad) if reset_after else (_reset_first_cell, _reset_first_cell_grad)
        cell = _made_cell(forward, backward, k, activation, recurrent_activation)
    n, t, _ = x.shape
    u = len(recurrent_kernel)
    input_bias, candidate_bias = bias, None
    if loop is None and reset_after and bias is None:
        candidate_bias = k.xp.zeros((u,), x.dtype)
    elif loop is None and reset_after:
        input_bias = bias[0].copy()
        input_bias[: 2 * u] += bias[1, : 2 * u]  # only the candidate's recurrent bias has to wait for the reset gate
        candidate_bias = bias[1, 2 * u :].copy()
    gates = _project(k, x, kernel, input_bias, 3, loop, input_mask)
    h, dropped = _first(k, h0, gates, loop), k.empty((n, u), gates.dtype)
    histories = _histories(k, with_residual, x, h)
    # the reset gate's other factor, or its result
    inner = k.empty((n, t if with_residual else min(t, 1), u), gates.dtype)
    product = k.empty((n, (3 if reset_after else 2) * u), gates.dtype)

    def step(s: int) -> None:
        if reset_after:
            _recur(k, h, recurrent_kernel, recurrent_mask, dropped, product)
            cell[0](s, gates, product, candidate_bias, h, inner)
        else:
            _recur(k, h, recurrent_kernel[:, : 2 * u], recurrent_mask, dropped, product)
            state = _drop(k, h, recurrent_mask, dropped)
            cell[0](s, gates, product, state, recurrent_kernel[:, 2 * u :], h, inner)

    if loop is None:
        outputs = _scan(k, step, (h,), histories, x, mask, order)
    else:
        given = {"recurrent_kernel": recurrent_kernel, "h0": h0, "mask": mask, "order": order}
        filled = {"h": h, "histories": histories, "gates": gates, "inner": inner}
        dropout = {"input_mask": input_mask, "recurrent_mask": recurrent_mask}
        outputs = loop[0](k, x, kernel, bias, reset_after=reset_after, **dropout, **given, **filled)
    if not with_residual:
        return outputs, h, None
    masks, saved = (mask, input_mask, recurrent_mask), (*histories, gates, inner)
    return outputs, h, _Residual(x, kernel, recurrent_kernel, bias, *masks, cell, loop, order, saved, reset_after)


@kernel
def gru_grad(
    k: Kernels, g_outputs: Any, g_h: Any, residual: Any, needs_x: bool = True, outs: tuple = (None, None, None)
) -> tuple[Any, ...]:
    """Backward of `gru`: gradients of (x or None, h0, kernel, recurrent_kernel, bias or None).

    `g_outputs`, `g_h`: gradients of the results, None where one was unused.  `outs`: destinations of the three weight
    gradients, each may be None.
    """
    r: _Residual = residual
    history, gates, inner = r.saved
    n, _, _, u = gates.shape
    g_gates = k.empty(gates.shape, gates.dtype)
    g_h0, g_state, dropped = (k.empty((n, u), gates.dtype) for _ in range(3))
    # the gradient of the recurrent product: differs from that of the input product where r came between them
    g_products = k.empty(gates.shape, gates.dtype) if r.reset_after else g_gates

    def step(s: int) -> None:
        if r.reset_after:
            r.cell[1](s, gates, inner, history, g_h0, g_gates, g_products)
            g_h0[...] += _recur_grad(
                k, g_products[:, s].reshape(n, 3 * u), r.recurrent_kernel, r.recurrent_mask, g_state
            )
        else:
            state = _drop(k, history[:, s], r.recurrent_mask, dropped)
            r.cell[1](s, gates, state, r.recurrent_kernel[:, 2 * u :], history, g_h0, g_gates, g_state)
            passed = _drop(k, g_state, r.recurrent_mask, g_state).copy()
            g_zr = g_gates[:, s, :2].reshape(n, 2 * u)
            g_h0[...] += _recur_grad(k, g_zr, r.recurrent_kernel[:, : 2 * u], r.recurrent_mask, g_state)
            g_h0[...] += passed

    products = (g_gates, g_products)[: 1 + r.reset_after]
    g_x, g_bias = _backward(k, step, g_outputs, (g_h,), (g_h0,), products, r, needs_x, outs[2])
    g_x, g_kernel = _input_grads(k, r, g_gates, needs_x, g_x, outs[0])
    g_rows = _rows(g_products)
    g_recurrent = k.empty(r.recurrent_kernel.shape, g_rows.dtype) if outs[1] is None else outs[1]
    if r.reset_after:
        _recurrent_kernel_grad(k, r, g_rows, g_recurrent)
    else:
        _recurrent_kernel_grad(k, r, g_rows[:, : 2 * u], g_recurrent[:, : 2 * u])
        k.gemm(_rows(inner), g_rows[:, 2 * u :], ta=True, out=g_recurrent[:, 2 * u :])
    return g_x, g_h0, g_kernel, g_recurrent, g_bias


def _mix(gate: Any, h: Any) -> None:
    h -= gate[:, 2]
    h *= gate[:, 0]
    h += gate[:, 2]


def _mix_grad(
    k: Kernels, activation: str | None, recurrent_activation: str | None, gate: Any, before: Any, g_h: Any, out: Any
) -> None:
    """Gradients before the activations of z and the candidate; g_h becomes the part that passes straight through."""
    z, candidate = gate[:, 0], gate[:, 2]
    out[:, 0] = k.activate_grad(g_h * (before - candidate), z, recurrent_activation)
    out[:, 2] = k.activate_grad(g_h * (1 - z), candidate, activation)
    g_h *= z


def _gru_cell(by: _Means, s: int, gates: Any, product: Any, candidate_bias: Any, h: Any, inner: Any) -> None:
    """Activate `gates[:, s]` in place, with `product` added; update h."""
    k, activation, recurrent_activation = by
    gate = gates[:, s]
    product = product.reshape(gate.shape)
    zr, candidate, unreset = gate[:, :2], gate[:, 2], inner[:, s % inner.shape[1]]
    zr += product[:, :2]
    k.activate(zr, recurrent_activation, out=zr)
    k.xp.add(product[:, 2], candidate_bias, out=unreset)
    candidate += gate[:, 1] * unreset
    k.activate(candidate, activation, out=candidate)
    _mix(gate, h)


def _gru_cell_grad(
    by: _Means, s: int, gates: Any, inner: Any, history: Any, g_h: Any, g_gates: Any, g_products: Any
) -> None:
    k, activation, recurrent_activation = by
    gate, g_gate = gates[:, s], g_gates[:, s]
    _mix_grad(k, activation, recurrent_activation, gate, history[:, s], g_h, g_gate)
    g_gate[:, 1] = k.activate_grad(g_gate[:, 2] * inner[:, s], gate[:, 1], recurrent_activation)
    g_products[:, s, :2] = g_gate[:, :2]
    k.xp.multiply(g_gate[:, 2], gate[:, 1], out=g_products[:, s, 2])


def _reset_first_cell(
    by: _Means, s: int, gates: Any, product: Any, state: Any, candidate_kernel: Any, h: Any, inner: Any
) -> None:
    k, activation, recurrent_activation = by
    gate = gates[:, s]
    zr, candidate, reset = gate[:, :2], gate[:, 2], inner[:, s % inner.shape[1]]
    zr += product.reshape(zr.shape)
    k.activate(zr, recurrent_activation, out=zr)
    k.xp.multiply(gate[:, 1], state, out=reset)
    candidate += k.gemm(reset, candidate_kernel)
    k.activate(candidate, activation, out=candidate)
    _mix(gate, h)


def _reset_first_cell_grad(
    by: _Means,
    s: int,
    gates: Any,
    state: Any,
    candidate_kernel: Any,
    history: Any,
    g_h: Any,
    g_gates: Any,
    g_state: Any,
) -> None:
    """As `_gru_cell_grad`; `g_state` becomes the gradient at the state that the reset gate multiplied."""
    k, activation, recurrent_activation = by
    gate, g_gate = gates[:, s], g_gates[:, s]
    _mix_grad(k, activation, recurrent_activation, gate, history[:, s], g_h, g_gate)
    g_reset = k.gemm(g_gate[:, 2], candidate_kernel, tb=True)
    g_gate[:, 1] = k.activate_grad(g_reset * state, gate[:, 1], recurrent_activation)
    k.xp.multiply(g_reset, gate[:, 1], out=g_state)
