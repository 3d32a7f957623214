"""Recurrent layers: the loops over time that the reference leaves to a device, in two ways that the shapes choose from.

Where the recurrent kernel is small, one kernel takes all steps: a block has a few samples, a thread one unit of one of
them with all its gates, and what enters the recurrent product lies in shared memory, as the weights do where they fit
(else they are read through the cache).  Otherwise a step is a product and a fused cell: it adds the product, activates,
updates the states, skips masked steps, keeps what the backward pass needs, shows the output and drops what enters the
next product.  Both write the same arithmetic, that of `Simple`, `Lstm`, `Gru` and `ResetFirst`.

States are rounded to the type in memory after each step, so a sequence in two halves is the sequence.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from minikeras.kernels.cuda.activation import ACTIVATIONS, known_activation
from minikeras.kernels.cuda.launch import FLOATS, THREADS, Source, contiguous_numbers, each, launch
from minikeras.kernels.reference import recurrent as reference
from minikeras.kernels.reference.conv import output_shape
from minikeras.kernels.table import Condition, Kernels, one_of, override

# ---- rows and factors ------------------------------------------------------------------------------------------------

_ROWS = Source(
    """
__global__ void rows_copied(const T* source, whole source_row, T* target, whole target_row, whole columns, whole n) {
  EACH(i, n) {
    whole row = i / columns, j = i % columns;
    target[row * target_row + j] = source ? source[row * source_row + j] : T(0);
  }
}
__global__ void rows_added(const T* source, whole source_row, T* target, whole target_row, whole columns, whole n) {
  EACH(i, n) {
    whole row = i / columns, j = i % columns;
    target[row * target_row + j] = A(target[row * target_row + j]) + A(source[row * source_row + j]);
  }
}
__global__ void steps_dropped(const T* x, const T* factors, T* out, whole time, whole size, whole n) {
  EACH(i, n) out[i] = A(x[i]) * A(factors[i / (time * size) * size + i % size]);
}
// Where each gate drops others: (n, time, size) to (gates, n, time, size); and back, where gradients are added up.
__global__ void gates_dropped(const T* x, const T* factors, T* out, whole time, whole size, whole each, whole n) {
  EACH(i, n) {
    whole gate = i / each, e = i % each, state = each / time;
    out[i] = A(x[e]) * A(factors[gate * state + e / (time * size) * size + e % size]);
  }
}
__global__ void gates_added(const T* x, const T* factors, T* out, whole time, whole size, whole gates, whole each) {
  EACH(e, each) {
    A sum = 0;
    for (whole gate = 0; gate < gates; ++gate)
      sum += A(x[gate * each + e]) * A(factors[gate * (each / time) + e / (time * size) * size + e % size]);
    out[e] = sum;
  }
}
// (gates, rows, units) to columns of a matrix, with a bias where there is one
__global__ void gates_joined(
    const T* x, const T* bias, T* out, whole out_row, whole rows, whole units, whole gates, whole n) {
  EACH(i, n) {
    whole unit = i % units, gate = i / units % gates, row = i / units / gates;
    A added = bias ? A(bias[gate * units + unit]) : A(0);
    out[row * out_row + gate * units + unit] = A(x[(gate * rows + row) * units + unit]) + added;
  }
}
__global__ void factors_of_dropout(const unsigned char* mask, double factor, T* out, whole n) {
  EACH(i, n) out[i] = A(mask[i]) * A(T(A(factor)));
}
"""
)


def _of_rows(source: Any, target: Any) -> bool:
    """Whether both are matrices of one shape and type with contiguous rows; the source may be absent, or repeat one."""
    if target.ndim != 2 or target.size == 0 or target.dtype.char not in FLOATS:
        return False
    given = (target,) if source is None else (target, source)
    if any(one.shape != target.shape or one.dtype != target.dtype for one in given):
        return False
    return target.shape[1] == 1 or all(one.strides[1] == one.itemsize for one in given)


def _move(k: Kernels, name: str, source: Any, target: Any) -> None:
    item = target.itemsize
    rows = 0 if source is None else source.strides[0] // item, target, target.strides[0] // item
    arguments = (source, *rows, target.shape[1], target.size)
    launch(k, _ROWS, name, target.dtype, each(target.size), THREADS, arguments)


@override(reference.copy_rows, "gpu", when=_of_rows)
def copy_rows(k: Kernels, source: Any, target: Any) -> None:
    _move(k, "rows_copied", source, target)


@override(reference.add_rows, "gpu", when=lambda source, target: source is not None and _of_rows(source, target))
def add_rows(k: Kernels, source: Any, target: Any) -> None:
    _move(k, "rows_added", source, target)


@override(reference.drop_steps, "gpu", when=(contiguous_numbers("x", "factors"), Condition("x.ndim == 3")))
def drop_steps(k: Kernels, x: Any, factors: Any) -> Any:
    out = k.empty(x.shape, x.dtype)
    launch(k, _ROWS, "steps_dropped", x.dtype, each(x.size), THREADS, (x, factors, out, *x.shape[1:], x.size))
    return out


def _of_bytes(mask: Any, dtype: Any) -> bool:
    return dtype.char in FLOATS and mask.dtype.char in "?B" and mask.size > 0 and mask.flags.c_contiguous


@override(reference.dropout_factors, "gpu", when=_of_bytes)
def dropout_factors(k: Kernels, mask: Any, factor: float, dtype: Any) -> Any:
    out = k.empty(mask.shape, dtype)
    launch(k, _ROWS, "factors_of_dropout", dtype, each(mask.size), THREADS, (mask, float(factor), out, mask.size))
    return out


def _dropped_by_gate(k: Kernels, x: Any, factors: Any) -> Any:
    """What is left of (n, time, size) for each gate, (gates, n * time, size)."""
    (n, time, size), gates = x.shape, len(factors)
    out = k.empty((gates, n * time, size), x.dtype)
    arguments = (x, factors, out, time, size, x.size, out.size)
    launch(k, _ROWS, "gates_dropped", x.dtype, each(out.size), THREADS, arguments)
    return out


def _added_by_gate(k: Kernels, x: Any, factors: Any, shape: tuple[int, ...]) -> Any:
    """The gradient of `_dropped_by_gate` at (n, time, size)."""
    out = k.empty(shape, x.dtype)
    arguments = (x, factors, out, *shape[1:], len(factors), out.size)
    launch(k, _ROWS, "gates_added", x.dtype, each(out.size), THREADS, arguments)
    return out


def _joined(k: Kernels, x: Any, bias: Any, out: Any) -> None:
    """Let columns of a matrix, whose rows have no gaps, be those of each gate, plus a bias or None."""
    gates, rows, units = x.shape
    arguments = (x, bias, out, out.strides[0] // out.itemsize, rows, units, gates, x.size)
    launch(k, _ROWS, "gates_joined", x.dtype, each(x.size), THREADS, arguments)


# ---- the arithmetic of one unit --------------------------------------------------------------------------------------

_ARITHMETIC = """
// One unit of each cell.  Forward: `z` holds the input product of each gate and gets the gates, `p` the recurrent one;
// `kept` is what else the backward pass reads.  Backward: `h` and `c` are the states before the step; `g` gets the
// gradients of the input products, `p` those of the recurrent ones, `straight` what passes to the state before.
struct By { int activation, recurrent; };
struct Simple {
  enum { GATES = 1 };
  __device__ __forceinline__ static void forward(A* z, const A* p, A& h, A& c, A& kept, By by) {
    h = z[0] = activated(z[0] + p[0], by.activation);
  }
  __device__ __forceinline__ static void backward(
      const A* z, A h, A c, A kept, A g_h, A& g_c, A* g, A* p, A& straight, By by) {
    p[0] = g[0] = activated_grad(g_h, z[0], by.activation);
    straight = 0;
  }
};
struct Lstm {
  enum { GATES = 4 };
  __device__ __forceinline__ static void forward(A* z, const A* p, A& h, A& c, A& kept, By by) {
#pragma unroll
    for (int gate = 0; gate < 4; ++gate)
      z[gate] = activated(z[gate] + p[gate], gate == 2 ? by.activation : by.recurrent);
    c = A(T(z[1] * c + z[0] * z[2]));
    kept = activated(c, by.activation);
    h = z[3] * kept;
  }
  __device__ __forceinline__ static void backward(
      const A* z, A h, A c, A kept, A g_h, A& g_c, A* g, A* p, A& straight, By by) {
    A at_c = g_c + activated_grad(g_h * z[3], kept, by.activation);
    p[0] = g[0] = activated_grad(at_c * z[2], z[0], by.recurrent);
    p[1] = g[1] = activated_grad(at_c * c, z[1], by.recurrent);
    p[2] = g[2] = activated_grad(at_c * z[0], z[2], by.activation);
    p[3] = g[3] = activated_grad(g_h * kept, z[3], by.recurrent);
    g_c = at_c * z[1];
    straight = 0;
  }
};
struct Gru {
  enum { GATES = 3 };
  __device__ __forceinline__ static void forward(A* z, const A* p, A& h, A& c, A& kept, By by) {
    z[0] = activated(z[0] + p[0], by.recurrent);
    z[1] = activated(z[1] + p[1], by.recurrent);
    kept = p[2];
    z[2] = activated(z[2] + z[1] * kept, by.activation);
    h = (h - z[2]) * z[0] + z[2];
  }
  __device__ __forceinline__ static void backward(
      const A* z, A h, A c, A kept, A g_h, A& g_c, A* g, A* p, A& straight, By by) {
    p[0] = g[0] = activated_grad(g_h * (h - z[2]), z[0], by.recurrent);
    g[2] = activated_grad(g_h * (1 - z[0]), z[2], by.activation);
    p[1] = g[1] = activated_grad(g[2] * kept, z[1], by.recurrent);
    p[2] = g[2] * z[1];
    straight = g_h * z[0];
  }
};
// a GRU whose reset gate comes before the product: what is done before it, and after
struct ResetFirst {
  enum { GATES = 3 };
  __device__ __forceinline__ static void gates(A* z, const A* p, By by) {
    z[0] = activated(z[0] + p[0], by.recurrent);
    z[1] = activated(z[1] + p[1], by.recurrent);
  }
  __device__ __forceinline__ static void forward(A* z, A product, A& h, By by) {
    z[2] = activated(z[2] + product, by.activation);
    h = (h - z[2]) * z[0] + z[2];
  }
  __device__ __forceinline__ static void candidate(const A* z, A h, A g_h, A* g, A& straight, By by) {
    g[0] = activated_grad(g_h * (h - z[2]), z[0], by.recurrent);
    g[2] = activated_grad(g_h * (1 - z[0]), z[2], by.activation);
    straight = g_h * z[0];
  }
  __device__ __forceinline__ static A backward(const A* z, A state, A g_reset, By by) {
    return activated_grad(g_reset * state, z[1], by.recurrent);
  }
};
"""

# ---- a step ----------------------------------------------------------------------------------------------------------

_CELLS = Source(
    _ARITHMETIC
    + """
// A state is (samples, places, units), what is kept of it (samples, time, places, units); gates have an axis before the
// units.  The gates of a recurrent product lie `product_gate` apart, its rows `product_row`.  `before` and `later` are
// the neighbouring steps in the order in which they are taken, or -1.
struct Place {
  unsigned unit, row, sample;
  whole at;  // the row among those of all steps
  __device__ Place(unsigned e, unsigned units, unsigned places, whole time, whole step) {
    row = e / units;
    unit = e - row * units;
    sample = row / places;
    at = (sample * time + step) * places + (row - sample * places);
  }
};
#define STEP \\
  whole samples, whole places, whole units, whole time, whole step, whole before, const T* product, \\
  whole product_row, whole product_gate, const T* bias, T* gates, T* h, T* c, T* kept, T* history, T* cells, \\
  const bool* mask, T* outputs, whole only, whole zeros, T* dropped, const T* factors, whole drops, T* reset, \\
  const T* last, whole activation, whole recurrent

// what is to be seen of a step, and what enters the next recurrent product
#define SHOW(counts) \\
  if (outputs) { \\
    whole size = units * places, inside = e % size; \\
    T* row = outputs + (only ? e : (place.sample * time + step) * size + inside); \\
    const T* old = outputs + (only ? e : (place.sample * time + before) * size + inside); \\
    *row = (counts) ? h[e] : zeros || before < 0 ? T(0) : *old; \\
  } \\
  for (int i = 0; i < drops; ++i) dropped[i * total + e] = A(h[e]) * A(factors[i * total + e]);

__global__ void begin(const T* h0, const T* c0, T* h, T* c, T* dropped, const T* factors, whole drops, whole total) {
  EACH(e, total) {
    h[e] = h0 ? h0[e] : T(0);
    if (c) c[e] = c0 ? c0[e] : T(0);
    for (int i = 0; i < drops; ++i) dropped[i * total + e] = A(h[e]) * A(factors[i * total + e]);
  }
}
#define CELL(Kind) \\
  By by = {(int)activation, (int)recurrent}; \\
  whole total = samples * places * units; \\
  EACH(e, total) { \\
    Place place(e, units, places, time, step); \\
    A z[Kind::GATES], p[Kind::GATES], old_h = h[e], old_c = c ? A(c[e]) : A(0), extra = 0; \\
    T* gate = gates + place.at * Kind::GATES * units + place.unit; \\
    const T* given = product + place.row * product_row + place.unit; \\
    for (int i = 0; i < Kind::GATES; ++i) { \\
      z[i] = gate[i * units]; \\
      p[i] = A(given[i * product_gate]) + (bias ? A(bias[i * units + place.unit]) : A(0)); \\
    } \\
    A new_h = old_h, new_c = old_c; \\
    Kind::forward(z, p, new_h, new_c, extra, by); \\
    if (history) { \\
      whole at = place.at * units + place.unit; \\
      for (int i = 0; i < Kind::GATES; ++i) gate[i * units] = z[i]; \\
      history[at] = old_h; \\
      if (c) cells[at] = old_c; \\
      if (kept) kept[at] = extra; \\
    } \\
    bool counts = !mask || mask[place.sample * time + step]; \\
    if (counts) { \\
      h[e] = new_h; \\
      if (c) c[e] = new_c; \\
    } \\
    SHOW(counts) \\
  }
__global__ void simple_rnn_cell(STEP) { CELL(Simple) }
__global__ void lstm_cell(STEP) { CELL(Lstm) }
__global__ void gru_cell(STEP) { CELL(Gru) }
__global__ void reset_first_gates(STEP) {
  By by = {(int)activation, (int)recurrent};
  whole total = samples * places * units;
  EACH(e, total) {
    Place place(e, units, places, time, step);
    T* gate = gates + place.at * 3 * units + place.unit;
    const T* given = product + place.row * product_row + place.unit;
    A z[2] = {gate[0], gate[units]}, p[2] = {given[0], given[product_gate]};
    ResetFirst::gates(z, p, by);
    gate[0] = z[0];
    gate[units] = z[1];
    reset[e] = z[1] * (A(h[e]) * (last ? A(last[e]) : A(1)));
    if (history) kept[place.at * units + place.unit] = reset[e];
  }
}
__global__ void reset_first_cell(STEP) {
  By by = {(int)activation, (int)recurrent};
  whole total = samples * places * units;
  EACH(e, total) {
    Place place(e, units, places, time, step);
    T* gate = gates + place.at * 3 * units + place.unit;
    A z[3] = {gate[0], gate[units], gate[2 * units]}, new_h = h[e];
    ResetFirst::forward(z, A(product[e]), new_h, by);
    if (history) {
      gate[2 * units] = z[2];
      history[place.at * units + place.unit] = h[e];
    }
    bool counts = !mask || mask[place.sample * time + step];
    if (counts) h[e] = new_h;
    SHOW(counts)
  }
}

// Backward.  The gradient at the state after a step is `came`, what passed straight from the state after the later step
// (at the last step: what is given), and where that one counts `through`, what came through its product.  `waiting` is
// that of outputs that repeat an earlier one, on its way there.
#define STEP_GRAD \\
  whole samples, whole places, whole units, whole time, whole step, whole later, const T* gates, const T* kept, \\
  const T* history, const T* cells, const bool* mask, const T* g_outputs, whole only, whole zeros, T* waiting, \\
  const T* came, T* straight, const T* through, const T* factors, whole drops, T* g_c, T* g_gates, T* g_products, \\
  T* product, whole product_row, whole product_gate, const T* g_reset, const T* last, whole activation, whole recurrent

__device__ __forceinline__ A at_state(
    const T* came, const T* through, const T* factors, whole drops, whole total, whole e, bool passes) {
  A g = came ? A(came[e]) : A(0);
  if (through && passes) {
    if (drops == 0) g += A(through[e]);
    for (int i = 0; i < drops; ++i) g += A(through[i * total + e]) * A(factors[i * total + e]);
  }
  return g;
}
#define ENTER \\
  bool passes = later < 0 || !mask || mask[place.sample * time + later]; \\
  bool counts = !mask || mask[place.sample * time + step]; \\
  A g_h = at_state(came, through, factors, drops, total, e, passes), shown = 0; \\
  if (g_outputs && (later < 0 || !only)) { \\
    whole size = units * places; \\
    shown = g_outputs[only ? e : (place.sample * time + step) * size + e % size]; \\
  } \\
  if (waiting) { \\
    if (later >= 0) shown += A(waiting[e]); \\
    waiting[e] = counts || zeros ? A(0) : shown; \\
  } \\
  if (counts) g_h += shown;

#define CELL_GRAD(Kind) \\
  By by = {(int)activation, (int)recurrent}; \\
  whole total = samples * places * units; \\
  EACH(e, total) { \\
    Place place(e, units, places, time, step); \\
    ENTER \\
    A z[Kind::GATES], g[Kind::GATES] = {}, p[Kind::GATES] = {}, passing = g_h; \\
    whole first = place.at * Kind::GATES * units + place.unit, at = place.at * units + place.unit; \\
    if (counts) { \\
      for (int i = 0; i < Kind::GATES; ++i) z[i] = gates[first + i * units]; \\
      A at_c = g_c ? A(g_c[e]) : A(0), c = g_c ? A(cells[at]) : A(0), extra = kept ? A(kept[at]) : A(0); \\
      Kind::backward(z, A(history[at]), c, extra, g_h, at_c, g, p, passing, by); \\
      if (g_c) g_c[e] = at_c; \\
    } \\
    for (int i = 0; i < Kind::GATES; ++i) { \\
      g_gates[first + i * units] = g[i]; \\
      if (g_products) g_products[first + i * units] = p[i]; \\
      product[place.row * product_row + i * product_gate + place.unit] = p[i]; \\
    } \\
    if (straight) straight[e] = passing; \\
  }
__global__ void simple_rnn_cell_grad(STEP_GRAD) { CELL_GRAD(Simple) }
__global__ void lstm_cell_grad(STEP_GRAD) { CELL_GRAD(Lstm) }
__global__ void gru_cell_grad(STEP_GRAD) { CELL_GRAD(Gru) }
__global__ void reset_first_candidate_grad(STEP_GRAD) {
  By by = {(int)activation, (int)recurrent};
  whole total = samples * places * units;
  EACH(e, total) {
    Place place(e, units, places, time, step);
    ENTER
    whole first = place.at * 3 * units + place.unit;
    A z[3], g[3] = {}, passing = g_h;
    if (counts) {
      for (int i = 0; i < 3; ++i) z[i] = gates[first + i * units];
      ResetFirst::candidate(z, A(history[place.at * units + place.unit]), g_h, g, passing, by);
    }
    g_gates[first] = g[0];
    g_gates[first + 2 * units] = g[2];
    product[e] = g[2];
    straight[e] = passing;
  }
}
__global__ void reset_first_gates_grad(STEP_GRAD) {
  By by = {(int)activation, (int)recurrent};
  whole total = samples * places * units;
  EACH(e, total) {
    Place place(e, units, places, time, step);
    whole first = place.at * 3 * units + place.unit;
    T* to = product + place.row * product_row + place.unit;
    A g = 0;
    if (!mask || mask[place.sample * time + step]) {
      A z[2] = {gates[first], gates[first + units]}, factor = last ? A(last[e]) : A(1), at_reset = g_reset[e];
      g = ResetFirst::backward(z, A(history[place.at * units + place.unit]) * factor, at_reset, by);
      straight[e] = A(straight[e]) + at_reset * z[1] * factor;
    }
    g_gates[first + units] = g;
    to[0] = g_gates[first];
    to[product_gate] = g;
  }
}
__global__ void end_grad(
    const T* came, const T* through, const T* factors, whole drops, const bool* mask, whole time, whole later,
    whole size, T* g_h0, whole total) {
  EACH(e, total) {
    bool passes = !mask || mask[e / size * time + later];
    g_h0[e] = at_state(came, through, factors, drops, total, e, passes);
  }
}
""",
    parts=("activations.cu",),
)

# ---- all steps -------------------------------------------------------------------------------------------------------

_LOOPS = Source(
    _ARITHMETIC
    + """
// A block has `blockDim.y` samples; thread (x, y) has unit x of one, whose states stay in its registers.  In shared
// memory lie what enters the product of the step (twice, so that one barrier a step is enough) and, where `held`, the
// weights; backward the weights are turned round, so that neighbouring threads read neighbouring numbers.
#define LOOP \\
  whole samples, whole units, whole time, whole backwards, const T* weights, whole held, const T* bias, const T* h0, \\
  const T* c0, T* h, T* c, T* gates, T* kept, T* history, T* cells, const bool* mask, T* outputs, whole only, \\
  whole zeros, const T* factors, whole drops, const T* last, whole activation, whole recurrent
#define LOOP_GRAD \\
  whole samples, whole units, whole time, whole backwards, const T* weights, whole held, const T* gates, \\
  const T* kept, const T* history, const T* cells, const bool* mask, const T* g_outputs, whole only, whole zeros, \\
  const T* g_h, const T* g_c, T* g_h0, T* g_c0, T* g_gates, T* g_products, const T* factors, whole drops, \\
  const T* last, whole activation, whole recurrent

// Does something with the weights `w`, in two versions: the compiler knows in which memory they lie.
#define WITH_WEIGHTS(...) \\
  if (held) { \\
    const T* w = own; \\
    __VA_ARGS__; \\
  } else { \\
    const T* w = weights; \\
    __VA_ARGS__; \\
  }
// the product of a row and a column of the weights, whose rows have so many columns
__device__ __forceinline__ A row_product(const A* row, const T* weights, int count, int columns) {
  A sum = 0;
#pragma unroll 4
  for (int i = 0; i < count; ++i) sum += row[i] * A(weights[i * columns]);
  return sum;
}
// those of all gates, which lie beside each other; where other numbers enter each, these lie so far apart
template <int GATES>
__device__ __forceinline__ void gate_products(A* p, const A* row, int apart, const T* weights, int count) {
  if (apart == 0) {
#pragma unroll 4
    for (int m = 0; m < count; ++m)
      for (int i = 0; i < GATES; ++i) p[i] += row[m] * A(weights[m * GATES * count + i * count]);
  } else {
#pragma unroll 2
    for (int m = 0; m < count; ++m)
      for (int i = 0; i < GATES; ++i) p[i] += row[i * apart + m] * A(weights[m * GATES * count + i * count]);
  }
}
#define BEGIN_LOOP(Kind, rows_of_memory) \\
  extern __shared__ double memory[]; \\
  int unit = threadIdx.x, u = units, rows = blockDim.y, columns = Kind::GATES * u; \\
  whole sample = blockIdx.x * (whole)rows + threadIdx.y, e = sample * units + unit, total = samples * units; \\
  bool here = sample < samples; \\
  By by = {(int)activation, (int)recurrent}; \\
  A* rooms = (A*)memory; \\
  T* own = (T*)(rooms + (rows_of_memory) * rows * u); \\
  if (held) \\
    for (int i = threadIdx.y * u + unit; i < columns * u; i += rows * u) own[i] = weights[i];

// keeps and shows what a step has made; `new_h` and `new_c` are the states if it counts
#define END_STEP(Kind) \\
  if (history) { \\
    for (int i = 0; i < Kind::GATES; ++i) gates[(at * Kind::GATES + i) * units + unit] = z[i]; \\
    history[at * units + unit] = state; \\
    if (c) cells[at * units + unit] = cell; \\
    if (kept) kept[at * units + unit] = extra; \\
  } \\
  if (counts) { \\
    state = A(T(new_h)); \\
    cell = new_c; \\
    shown = state; \\
  } else if (zeros) shown = 0; \\
  if (outputs && !only) outputs[at * units + unit] = shown;

#define END_LOOP \\
  if (here) { \\
    h[e] = state; \\
    if (c) c[e] = cell; \\
    if (outputs && only) outputs[e] = shown; \\
  }

template <class Kind> __device__ __forceinline__ void loop(LOOP) {
  int copies = drops > 1 ? drops : 1;
  BEGIN_LOOP(Kind, 2 * copies)
  A state = here && h0 ? A(h0[e]) : A(0), cell = here && c0 ? A(c0[e]) : A(0), shown = 0;
  A added[Kind::GATES], factor[Kind::GATES];
  for (int i = 0; i < Kind::GATES; ++i) {
    added[i] = bias ? A(bias[i * units + unit]) : A(0);
    factor[i] = here && i < drops ? A(factors[i * total + e]) : A(1);
  }
  A *entering = rooms, *next = rooms + copies * rows * u;
  for (whole turn = 0; turn < time; ++turn) {
    whole at = sample * time + (backwards ? time - 1 - turn : turn);
    A z[Kind::GATES], p[Kind::GATES] = {}, extra = 0, new_h = state, new_c = cell;
    bool counts = here && (!mask || mask[at]);
    if (here)
      for (int i = 0; i < Kind::GATES; ++i) z[i] = gates[(at * Kind::GATES + i) * units + unit];
    for (int i = 0; i < Kind::GATES; ++i)
      if (i < copies) entering[(i * rows + threadIdx.y) * u + unit] = state * factor[i];
    __syncthreads();
    if (here) {
      const A* row = entering + threadIdx.y * u;
      WITH_WEIGHTS(gate_products<Kind::GATES>(p, row, copies == 1 ? 0 : rows * u, w + unit, u))
      for (int i = 0; i < Kind::GATES; ++i) p[i] += added[i];
      Kind::forward(z, p, new_h, new_c, extra, by);
      END_STEP(Kind)
    }
    A* other = entering;
    entering = next;
    next = other;
  }
  END_LOOP
}
#define GIVEN \\
  samples, units, time, backwards, weights, held, bias, h0, c0, h, c, gates, kept, history, cells, mask, outputs, \\
  only, zeros, factors, drops, last, activation, recurrent
__global__ void simple_rnn_loop(LOOP) { loop<Simple>(GIVEN); }
__global__ void lstm_loop(LOOP) { loop<Lstm>(GIVEN); }
__global__ void gru_loop(LOOP) { loop<Gru>(GIVEN); }
__global__ void reset_first_loop(LOOP) {
  int copies = drops > 1 ? 2 : 1;
  BEGIN_LOOP(ResetFirst, copies + 1)
  A state = here && h0 ? A(h0[e]) : A(0), cell = 0, shown = 0, factor[2];
  for (int i = 0; i < 2; ++i) factor[i] = here && i < drops ? A(factors[i * total + e]) : A(1);
  A last_factor = here && last ? A(last[e]) : A(1), *resets = rooms + (copies * rows + threadIdx.y) * u;
  for (whole turn = 0; turn < time; ++turn) {
    whole at = sample * time + (backwards ? time - 1 - turn : turn);
    A z[3] = {}, p[2] = {}, extra = 0, new_h = state, new_c = 0;
    bool counts = here && (!mask || mask[at]);
    if (here)
      for (int i = 0; i < 3; ++i) z[i] = gates[(at * 3 + i) * units + unit];
    for (int i = 0; i < 2; ++i)
      if (i < copies) rooms[(i * rows + threadIdx.y) * u + unit] = state * factor[i];
    __syncthreads();
    if (here) {
      const A* row = rooms + threadIdx.y * u;
      WITH_WEIGHTS(for (int i = 0; i < 2; ++i) p[i] = row_product(
                       row + (copies > 1 ? i * rows * u : 0), w + i * u + unit, u, columns))
      ResetFirst::gates(z, p, by);
      extra = A(T(z[1] * (state * last_factor)));
      resets[unit] = extra;
    }
    __syncthreads();
    if (here) {
      A product = 0;
      WITH_WEIGHTS(product = row_product(resets, w + 2 * u + unit, u, columns))
      ResetFirst::forward(z, product, new_h, by);
      END_STEP(ResetFirst)
    }
  }
  END_LOOP
}

// What a step reads, which is asked for before the product of the step before, so that it is there in time.
#define READ_STEP(Kind) \\
  counts = here && (!mask || mask[at]); \\
  if (here) { \\
    for (int i = 0; i < Kind::GATES; ++i) z[i] = gates[(at * Kind::GATES + i) * units + unit]; \\
    before = history[at * units + unit]; \\
    if (g_c0) c = cells[at * units + unit]; \\
    if (kept) extra = kept[at * units + unit]; \\
    shown = !g_outputs ? A(0) : !only ? A(g_outputs[at * units + unit]) : turn < 0 ? A(g_outputs[e]) : A(0); \\
  }
#define BEGIN_LOOP_GRAD(Kind) \\
  A at_h = here && g_h ? A(g_h[e]) : A(0), at_c = here && g_c ? A(g_c[e]) : A(0), waiting = 0; \\
  A z[Kind::GATES] = {}, before = 0, c = 0, extra = 0, shown = 0; \\
  bool counts; \\
  whole at = sample * time + (backwards ? 0 : time - 1), turn = -1; \\
  READ_STEP(Kind)
// the gradient at the state after a step, with that of what it shows
#define ENTER_STEP \\
  bool counted = counts; \\
  waiting += shown; \\
  if (counted) at_h += waiting; \\
  if (counted || zeros) waiting = 0;
#define NEXT_STEP(Kind) \\
  at += backwards ? 1 : -1; \\
  if (turn + 1 < time) { READ_STEP(Kind) }
#define END_LOOP_GRAD \\
  if (here) { \\
    g_h0[e] = at_h; \\
    if (g_c0) g_c0[e] = at_c; \\
  }

template <class Kind> __device__ __forceinline__ void loop_grad(LOOP_GRAD) {
  BEGIN_LOOP(Kind, 2 * Kind::GATES)
  BEGIN_LOOP_GRAD(Kind)
  A factor[Kind::GATES], *products = rooms + threadIdx.y * columns, *next = products + rows * columns;
  for (int i = 0; i < Kind::GATES; ++i)
    factor[i] = here && drops ? A(factors[(i < drops ? i : 0) * total + e]) : A(1);
  for (turn = 0; turn < time; ++turn) {
    ENTER_STEP
    A g[Kind::GATES] = {}, p[Kind::GATES] = {}, straight = at_h;
    if (counted) Kind::backward(z, before, c, extra, at_h, at_c, g, p, straight, by);
    for (int i = 0; i < Kind::GATES; ++i) {
      products[i * u + unit] = p[i];
      if (here) g_gates[(at * Kind::GATES + i) * units + unit] = g[i];
      if (here && g_products) g_products[(at * Kind::GATES + i) * units + unit] = p[i];
    }
    NEXT_STEP(Kind)
    __syncthreads();
    if (counted) {
      at_h = straight;
      WITH_WEIGHTS(for (int i = 0; i < Kind::GATES; ++i) at_h +=
                   row_product(products + i * u, w + i * u * u + unit, u, u) * factor[i])
    }
    A* other = products;
    products = next;
    next = other;
  }
  END_LOOP_GRAD
}
#define GIVEN_GRAD \\
  samples, units, time, backwards, weights, held, gates, kept, history, cells, mask, g_outputs, only, zeros, g_h, \\
  g_c, g_h0, g_c0, g_gates, g_products, factors, drops, last, activation, recurrent
__global__ void simple_rnn_loop_grad(LOOP_GRAD) { loop_grad<Simple>(GIVEN_GRAD); }
__global__ void lstm_loop_grad(LOOP_GRAD) { loop_grad<Lstm>(GIVEN_GRAD); }
__global__ void gru_loop_grad(LOOP_GRAD) { loop_grad<Gru>(GIVEN_GRAD); }
__global__ void reset_first_loop_grad(LOOP_GRAD) {
  BEGIN_LOOP(ResetFirst, 3)
  BEGIN_LOOP_GRAD(ResetFirst)
  A factor[2], last_factor = here && last ? A(last[e]) : A(1), *products = rooms + threadIdx.y * columns;
  for (int i = 0; i < 2; ++i) factor[i] = here && drops ? A(factors[(i < drops ? i : 0) * total + e]) : A(1);
  for (turn = 0; turn < time; ++turn) {
    ENTER_STEP
    A g[3] = {}, straight = at_h;
    if (counted) ResetFirst::candidate(z, before, at_h, g, straight, by);
    products[2 * u + unit] = g[2];
    __syncthreads();
    if (counted) {
      A at_reset = 0;
      WITH_WEIGHTS(at_reset = row_product(products + 2 * u, w + 2 * u * u + unit, u, u))
      g[1] = ResetFirst::backward(z, before * last_factor, at_reset, by);
      straight += at_reset * z[1] * last_factor;
    }
    for (int i = 0; i < 2; ++i) products[i * u + unit] = g[i];
    if (here)
      for (int i = 0; i < 3; ++i) g_gates[(at * 3 + i) * units + unit] = g[i];
    NEXT_STEP(ResetFirst)
    __syncthreads();
    if (counted) {
      at_h = straight;
      WITH_WEIGHTS(for (int i = 0; i < 2; ++i) at_h +=
                   row_product(products + i * u, w + i * u * u + unit, u, u) * factor[i])
    }
  }
  END_LOOP_GRAD
}
""",
    parts=("activations.cu",),
)

_HELD = 48 << 10  # bytes of shared memory of a block
_CACHED = 128 << 10  # of weights that are read at every step
_TOGETHER = 64  # threads of a block, where a sample has fewer units
_OF_ONE_KERNEL = 1 << 24  # multiplications of a step, beyond which products of their own are faster


def _takes_all_steps(samples: int, units: int, gates: int, itemsize: int) -> bool:
    """Whether one kernel takes all steps."""
    weights = gates * units * units
    return weights * itemsize <= _CACHED and units <= THREADS and samples * weights <= _OF_ONE_KERNEL


# ---- both ways of them -----------------------------------------------------------------------------------------------

_GATES = {"simple_rnn": 1, "lstm": 4, "gru": 3, "reset_first": 3}


def _packed(k: Kernels, array: Any, dtype: Any) -> Any:
    """An array without gaps and of a type, a copy if it must be; None stays None."""
    if array is None or (array.flags.c_contiguous and array.dtype == dtype):
        return array
    copy = k.empty(array.shape, dtype)
    copy[...] = array
    return copy


class _Steps:
    """What all steps of a loop have in common."""

    def __init__(
        self, k: Kernels, kind: str, numbers: tuple[int, int], gates: Any, mask: Any, recurrent_mask: Any, order: Any
    ):
        self.k, self.kind, self.numbers, self.gates, self.order = k, kind, numbers, gates, order
        self.samples, self.time, self.units, self.dtype = gates.shape[0], gates.shape[1], gates.shape[-1], gates.dtype
        self.places = gates.shape[2] if gates.ndim == 5 else 1
        self.count, self.total = _GATES[kind], self.samples * self.places * self.units
        self.mask = None if mask is None else _packed(k, mask, mask.dtype)
        # what multiplies the state on its way to each gate, or to all of them; the reset state goes to the last one
        self.factors = self.packed(recurrent_mask)
        self.by_gate = recurrent_mask is not None and recurrent_mask.ndim == 3
        self.last = self.factors[-1] if self.by_gate else self.factors
        self.drops = 0 if recurrent_mask is None else 1
        if self.by_gate:
            self.drops = 2 if kind == "reset_first" else self.count
        columns = (2 if kind == "reset_first" else self.count) * self.units
        self.product_shape = (self.drops, self.total) if self.by_gate else (self.samples * self.places, columns)
        self.apart = (self.units, self.total) if self.by_gate else (columns, self.units)  # rows and gates of a product

    def empty(self, *shape: int) -> Any:
        return self.k.empty(shape, self.dtype)

    def packed(self, array: Any) -> Any:
        return _packed(self.k, array, self.dtype)

    def launch(self, name: str, *arguments: Any) -> None:
        """One step of all places."""
        launch(self.k, _CELLS, f"{self.kind}_{name}", self.dtype, each(self.total), THREADS, arguments)

    def launch_loop(self, name: str, weights: Any, rooms: int, *arguments: Any) -> None:
        """All steps; `rooms` are the rows of units that a sample has in shared memory."""
        rows = max(1, min(self.samples, _TOGETHER // self.units))
        shared = rooms * rows * self.units * (8 if self.dtype.char == "d" else 4)
        held = shared + weights.nbytes <= _HELD
        sizes = self.samples, self.units, self.time, self.order.backwards, weights, held
        launch(
            self.k, _LOOPS, f"{self.kind}_{name}", self.dtype, -(-self.samples // rows), (self.units, rows),
            (*sizes, *arguments, self.factors, self.drops, self.last, *self.numbers),
            shared=shared + (weights.nbytes if held else 0),
        )  # fmt: skip


def _by_gate(matrix: Any, gates: int) -> Any:
    """The columns of each gate as a matrix of their own."""
    rows, columns = matrix.shape
    return matrix.reshape(rows, gates, columns // gates).swapaxes(0, 1)


def _forward(
    kind: str, numbers: tuple[int, int], k: Kernels, x: Any, kernel: Any, bias: Any, *, recurrent_kernel: Any, h0: Any,
    mask: Any, order: Any, h: Any, histories: Any, gates: Any, recurrent_mask: Any, input_mask: Any = None,
    c0: Any = None, c: Any = None, squashed: Any = None, inner: Any = None, reset_after: bool = True,
) -> Any:  # fmt: skip
    """The reference's loop forward: see `Loop` there."""
    n, t, d = x.shape
    recurrent_bias = None
    if kind == "gru" and bias is not None:
        bias, recurrent_bias = bias[0], bias[1]
    products = gates.reshape(n * t, kernel.shape[1])
    if input_mask is None:
        k.dense(x.reshape(n * t, d), kernel, bias, out=products)
    else:
        dropped = _dropped_by_gate(k, x, input_mask)
        _joined(k, _packed(k, k.matmul(dropped, _by_gate(kernel, len(dropped))), x.dtype), bias, products)
    steps = _Steps(k, kind, numbers, gates, mask, recurrent_mask, order)
    kept = squashed if inner is None else inner
    outputs = _room_for_outputs(steps)
    if _takes_all_steps(n, steps.units, steps.count, steps.dtype.itemsize):
        copies = max(steps.drops, 1)
        rooms = copies + 1 if kind == "reset_first" else 2 * copies
        history, cells = (*histories, None, None)[:2]
        steps.launch_loop(
            "loop", recurrent_kernel, rooms, recurrent_bias, h0, c0, h, c, gates, kept, history, cells, steps.mask,
            outputs, not order.sequences, order.zeros,
        )  # fmt: skip
    else:
        _walk(steps, h0, c0, h, c, kept, histories, recurrent_bias, outputs, *_products(steps, recurrent_kernel))
    return h if outputs is None else outputs


def _room_for_outputs(steps: _Steps) -> Any:
    """For what is shown; None where that is the last state."""
    if steps.order.sequences:
        return steps.empty(steps.samples, steps.time, steps.places * steps.units)
    return None if steps.mask is None else steps.empty(steps.samples, steps.places * steps.units)


def _products(steps: _Steps, kernel: Any) -> tuple[Callable, Callable | None]:
    """Functions of what enters the recurrent product, and of the state that was reset, for those of `reset_first`."""
    k, n, u, product = steps.k, steps.samples, steps.units, steps.empty(*steps.product_shape)
    to_candidate = None
    if steps.kind == "reset_first":
        candidate_kernel, candidate = kernel[:, 2 * u :], steps.empty(n, u)
        to_candidate = lambda reset: k.gemm(reset, candidate_kernel, out=candidate)
    if steps.by_gate:
        parts = _by_gate(kernel, steps.count)[: steps.drops]
        return (lambda dropped: steps.packed(k.matmul(dropped.reshape(steps.drops, n, u), parts))), to_candidate
    if steps.kind == "reset_first":
        kernel = kernel[:, : 2 * u]
    return (lambda entering: k.gemm(entering.reshape(n, u), kernel, out=product)), to_candidate


def _walk(
    steps: _Steps, h0: Any, c0: Any, h: Any, c: Any, kept: Any, histories: Any, bias: Any, outputs: Any,
    multiply: Callable, to_candidate: Callable | None = None,
) -> None:  # fmt: skip
    """Step by step forward."""
    k, order, total = steps.k, steps.order, steps.total
    history, cells = (*histories, None, None)[:2]
    dropped = steps.empty(steps.drops, total) if steps.drops else None
    reset = None if to_candidate is None else steps.empty(steps.samples, steps.units)
    begin = (h0, c0, h, c, dropped, steps.factors, steps.drops, total)
    launch(k, _CELLS, "begin", steps.dtype, each(total), THREADS, begin)
    before = -1
    sizes = steps.samples, steps.places, steps.units, steps.time
    common = (
        *(bias, steps.gates, h, c, kept, history, cells, steps.mask, outputs, not order.sequences, order.zeros),
        *(dropped, steps.factors, steps.drops, reset, steps.last, *steps.numbers),
    )
    for s in order.steps(steps.time):
        product = multiply(h if dropped is None else dropped)
        if to_candidate is not None:
            steps.launch("gates", *sizes, s, before, product, *steps.apart, *common)
            product = to_candidate(reset)
        steps.launch("cell", *sizes, s, before, product, *steps.apart, *common)
        before = s


def _backward(
    kind: str, numbers: tuple[int, int], k: Kernels, r: Any, g_outputs: Any, given: Any, g_states: Any, products: Any
) -> None:
    """All steps backward: from the gradients of the results to those of the products and of the first states."""
    gates, kept = r.saved[-2:] if len(r.saved) > 2 else (r.saved[1], None)
    steps = _Steps(k, kind, numbers, gates, r.mask, r.recurrent_mask, r.order)
    history, cells = r.saved[0], r.saved[1] if kind == "lstm" else None
    if _takes_all_steps(steps.samples, steps.units, steps.count, steps.dtype.itemsize):
        g_h, g_c = (*[steps.packed(one) for one in given], None)[:2]
        g_h0, g_c0 = (*g_states, None)[:2]
        rooms = 3 if kind == "reset_first" else 2 * steps.count
        steps.launch_loop(
            "loop_grad", steps.packed(r.recurrent_kernel.T), rooms, gates, kept, history, cells, steps.mask,
            steps.packed(g_outputs), not r.order.sequences, r.order.zeros, g_h, g_c, g_h0, g_c0,
            *(*products, None)[:2],
        )  # fmt: skip
    else:
        through = _products_grad(steps, r.recurrent_kernel)
        _walk_back(steps, (history, cells, kept), g_outputs, given, g_states, products, *through)


def _products_grad(steps: _Steps, kernel: Any) -> tuple[Any, Callable, Callable | None]:
    """Room for a product's gradient, functions of it, and of the candidate's."""
    k, n, u, product, through = steps.k, steps.samples, steps.units, steps.empty(*steps.product_shape), None
    from_candidate = None
    if steps.kind == "reset_first":
        candidate_kernel, at_reset = kernel[:, 2 * u :], steps.empty(n, u)
        from_candidate = lambda g: k.gemm(g, candidate_kernel, tb=True, out=at_reset)
    if steps.by_gate:
        parts = _by_gate(kernel, steps.count)[: steps.drops].swapaxes(1, 2)
        return product, (lambda g: steps.packed(k.matmul(g.reshape(steps.drops, n, u), parts))), from_candidate
    if steps.kind == "reset_first":
        kernel = kernel[:, : 2 * u]
    through = steps.empty(n, u)
    return product, (lambda g: k.gemm(g, kernel, tb=True, out=through)), from_candidate


def _walk_back(
    steps: _Steps, saved: Any, g_outputs: Any, given: Any, g_states: Any, products: Any, product: Any,
    multiply: Callable, from_candidate: Callable | None = None,
) -> None:  # fmt: skip
    """Step by step backward."""
    k, order, total, mask = steps.k, steps.order, steps.total, steps.mask
    history, cells, kept = saved
    g_outputs = steps.packed(g_outputs)
    g_c = None
    if steps.kind == "lstm":
        g_c = g_states[1]
        k.copy_rows(given[1], g_c)
    # through a GRU's update gate, and past a step that is skipped
    straight = steps.empty(total) if steps.count == 3 or mask is not None else None
    waiting = None if mask is None else steps.empty(total)
    came, through, later = steps.packed(given[0]), None, -1
    g_candidate = None if from_candidate is None else steps.empty(steps.samples, steps.units)
    sizes = steps.samples, steps.places, steps.units, steps.time
    common = (steps.gates, kept, history, cells, mask, g_outputs, not order.sequences, order.zeros, waiting)
    g_products = products[1] if len(products) > 1 else None
    for s in reversed(order.steps(steps.time)):
        entering = (came, straight, through, steps.factors, steps.drops, g_c, products[0], g_products)
        ending = (steps.last, *steps.numbers)
        if from_candidate is None:
            steps.launch("cell_grad", *sizes, s, later, *common, *entering, product, *steps.apart, None, *ending)
        else:
            to_candidate = (g_candidate, *steps.apart, None)
            steps.launch("candidate_grad", *sizes, s, later, *common, *entering, *to_candidate, *ending)
            to_gates = (product, *steps.apart, from_candidate(g_candidate))
            steps.launch("gates_grad", *sizes, s, later, *common, *entering, *to_gates, *ending)
        came, through, later = straight, multiply(product), s
    size = steps.places * steps.units
    end = (came, through, steps.factors, steps.drops, mask, steps.time, later, size, g_states[0], total)
    launch(k, _CELLS, "end_grad", steps.dtype, each(total), THREADS, end)


# ---- overrides -------------------------------------------------------------------------------------------------------


def _are_taken(x: Any, arrays: Any, mask: Any, *others: Any) -> bool:
    """Whether arrays are of one type of floats, weights without gaps, and none is empty."""
    if x.dtype.char not in FLOATS or 0 in x.shape or any(one is not None for one in others):
        return False
    if mask is not None and (mask.dtype.char != "?" or mask.shape != x.shape[:2]):
        return False
    given = [one for one in arrays if one is not None]
    return all(one.dtype == x.dtype and one.size > 0 and one.flags.c_contiguous for one in given)


def _weights_are_taken(x: Any, kernel: Any, recurrent_kernel: Any, bias: Any, mask: Any, cell: Any, loop: Any) -> bool:
    return _are_taken(x, (kernel, recurrent_kernel, bias), mask, cell, loop)


_known_recurrent = one_of("recurrent_activation", *ACTIVATIONS)


def _taken(k: Kernels, kind: str, x: Any, states: tuple, options: dict[str, Any]) -> tuple[Any, ...]:
    """Inputs and first states without gaps; the options get the loop, and masks of dropout of the inputs' type."""
    names = options.get("activation", "tanh"), options.get("recurrent_activation", "sigmoid")
    options["loop"] = partial(_forward, kind, (ACTIVATIONS[names[0]], ACTIVATIONS[names[1]])), None
    for name in ("input_mask", "recurrent_mask"):
        if name in options:
            options[name] = _packed(k, options[name], x.dtype)
    return tuple(_packed(k, one, x.dtype) for one in (x, *states))


def _results(made: tuple[Any, ...]) -> tuple[Any, ...]:
    """Results whose residual any backward pass can read: the reference's, or ours."""
    *results, r = made
    return (*results, None if r is None else r._replace(loop=None))


@override(reference.simple_rnn, "gpu", when=(_weights_are_taken, known_activation))
def simple_rnn(
    k: Kernels, x: Any, h0: Any, kernel: Any, recurrent_kernel: Any, bias: Any, **options: Any
) -> tuple[Any, ...]:
    x, h0 = _taken(k, "simple_rnn", x, (h0,), options)
    return _results(reference.simple_rnn(k, x, h0, kernel, recurrent_kernel, bias, **options))


@override(reference.lstm, "gpu", when=(_weights_are_taken, known_activation, _known_recurrent))
def lstm(
    k: Kernels, x: Any, h0: Any, c0: Any, kernel: Any, recurrent_kernel: Any, bias: Any, **options: Any
) -> tuple[Any, ...]:
    x, h0, c0 = _taken(k, "lstm", x, (h0, c0), options)
    return _results(reference.lstm(k, x, h0, c0, kernel, recurrent_kernel, bias, **options))


@override(reference.gru, "gpu", when=(_weights_are_taken, known_activation, _known_recurrent))
def gru(k: Kernels, x: Any, h0: Any, kernel: Any, recurrent_kernel: Any, bias: Any, **options: Any) -> tuple[Any, ...]:
    x, h0 = _taken(k, "gru" if options.get("reset_after", True) else "reset_first", x, (h0,), options)
    return _results(reference.gru(k, x, h0, kernel, recurrent_kernel, bias, **options))


_KINDS = {
    reference._simple_cell: "simple_rnn", reference._lstm_cell: "lstm", reference._gru_cell: "gru",
    reference._reset_first_cell: "reset_first",
}  # fmt: skip


def _cell_of(r: Any) -> tuple[str, tuple[int, int]] | None:
    """The kind of a residual's cell and its activations by their numbers; None where one is a user's own."""
    cell = r.cell[0]
    kind = _KINDS.get(cell.func) if isinstance(cell, partial) else None
    if kind is None:
        return None
    activation, recurrent = (cell.args[1], None) if kind == "simple_rnn" else cell.args[0][1:]
    known = activation in ACTIVATIONS and recurrent in ACTIVATIONS
    return (kind, (ACTIVATIONS[activation], ACTIVATIONS[recurrent])) if known else None


def _is_taken_back(residual: Any) -> bool:
    """Whether steps may be taken back here."""
    r = residual
    arrays = (r.kernel, r.recurrent_kernel, r.bias, r.input_mask, r.recurrent_mask, *r.saved)
    return _cell_of(r) is not None and _are_taken(r.x, arrays, r.mask, r.loop)


def _gradients(
    k: Kernels, g_outputs: Any, given: tuple, r: Any, needs_x: bool, outs: tuple[Any, Any, Any]
) -> tuple[Any, ...]:
    """Gradients of (x or None, first states, kernel, recurrent kernel, bias or None)."""
    cell = _cell_of(r)
    assert cell is not None
    kind, gates = cell[0], r.saved[2 if cell[0] == "lstm" else 1]
    n, t, u = gates.shape[0], gates.shape[1], gates.shape[-1]
    products = [k.empty(gates.shape, gates.dtype) for _ in range(1 + (kind == "gru"))]
    g_states = [k.empty((n, u), gates.dtype) for _ in given]
    _backward(*cell, k, r, g_outputs, given, g_states, products)
    g_rows, g_products = (one.reshape(n * t, _GATES[kind] * u) for one in (products[0], products[-1]))
    g_bias = None
    if r.bias is not None:
        g_bias = k.empty(r.bias.shape, gates.dtype) if outs[2] is None else outs[2]
        k.total(g_rows, 0, out=g_bias[0] if kind == "gru" else g_bias)
        if kind == "gru":
            k.total(g_products, 0, out=g_bias[1])
    g_x = None
    if needs_x and r.input_mask is None:
        g_x = k.gemm(g_rows, r.kernel, tb=True).reshape(r.x.shape)
    elif needs_x:
        through = _by_gate(g_rows, _GATES[kind]), _by_gate(r.kernel, _GATES[kind]).swapaxes(1, 2)
        g_x = _added_by_gate(k, _packed(k, k.matmul(*through), r.x.dtype), r.input_mask, r.x.shape)
    g_kernel = _kernel_grad(k, _packed(k, r.x, r.x.dtype), g_rows, r.input_mask, outs[0])
    if kind != "reset_first":
        return g_x, *g_states, g_kernel, _kernel_grad(k, r.saved[0], g_products, r.recurrent_mask, outs[1]), g_bias
    g_recurrent = k.empty(r.recurrent_kernel.shape, gates.dtype) if outs[1] is None else outs[1]
    masks = r.recurrent_mask if r.recurrent_mask is None or r.recurrent_mask.ndim == 2 else r.recurrent_mask[:2]
    _kernel_grad(k, r.saved[0], g_rows[:, : 2 * u], masks, g_recurrent[:, : 2 * u])
    k.gemm(r.saved[2].reshape(n * t, u), g_rows[:, 2 * u :], ta=True, out=g_recurrent[:, 2 * u :])
    return g_x, *g_states, g_kernel, g_recurrent, g_bias


def _kernel_grad(k: Kernels, x: Any, g_rows: Any, factors: Any, out: Any) -> Any:
    """The gradient at the kernel of a product of (n, time, size), maybe dropped on its way, into `out` or a new one."""
    if factors is None or factors.ndim == 2:
        entered = x if factors is None else k.drop_steps(x, factors)
        return k.gemm(entered.reshape(len(g_rows), x.shape[2]), g_rows, ta=True, out=out)
    out = k.empty((x.shape[2], g_rows.shape[1]), g_rows.dtype) if out is None else out
    dropped = _dropped_by_gate(k, x, factors).swapaxes(1, 2)
    _joined(k, _packed(k, k.matmul(dropped, _by_gate(g_rows, len(factors))), x.dtype), None, out)
    return out


@override(reference.simple_rnn_grad, "gpu", when=_is_taken_back)
def simple_rnn_grad(
    k: Kernels, g_outputs: Any, g_h: Any, residual: Any, needs_x: bool = True, outs: tuple = (None, None, None)
) -> tuple[Any, ...]:
    return _gradients(k, g_outputs, (g_h,), residual, needs_x, outs)


@override(reference.lstm_grad, "gpu", when=_is_taken_back)
def lstm_grad(
    k: Kernels,
    g_outputs: Any,
    g_h: Any,
    g_c: Any,
    residual: Any,
    needs_x: bool = True,
    outs: tuple = (None, None, None),
) -> tuple[Any, ...]:
    return _gradients(k, g_outputs, (g_h, g_c), residual, needs_x, outs)


@override(reference.gru_grad, "gpu", when=_is_taken_back)
def gru_grad(
    k: Kernels, g_outputs: Any, g_h: Any, residual: Any, needs_x: bool = True, outs: tuple = (None, None, None)
) -> tuple[Any, ...]:
    return _gradients(k, g_outputs, (g_h,), residual, needs_x, outs)


# ---- LSTM whose products are convolutions ----------------------------------------------------------------------------


@override(
    reference.conv_lstm,
    "gpu",
    when=(
        lambda x, kernel, recurrent_kernel, bias, mask, cell: _are_taken(
            x, (kernel, recurrent_kernel, bias), mask, cell
        ),
        known_activation,
        _known_recurrent,
    ),
)
def conv_lstm(
    k: Kernels,
    x: Any,
    h0: Any,
    c0: Any,
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any,
    *,
    strides: Any,
    padding: Any,
    dilation: Any,
    mask: Any = None,
    activation: str | None = "tanh",
    recurrent_activation: str | None = "sigmoid",
    backwards: bool = False,
    return_sequences: bool = True,
    zero_output_for_mask: bool = False,
    with_residual: bool = True,
    cell: Any = None,
) -> tuple[Any, Any, Any, Any]:
    order = reference.Order(backwards, return_sequences, zero_output_for_mask)
    window = reference._Window(strides, padding, dilation)
    inside = reference._recurrent_window(recurrent_kernel.shape[:-2])
    x, h0, c0 = (_packed(k, one, x.dtype) for one in (x, h0, c0))
    n, t, *image = x.shape
    z = k.conv(x.reshape(n * t, *image), kernel, bias, **window._asdict())
    lengths, f = z.shape[1:-1], z.shape[-1] // 4
    places = math.prod(lengths)
    gates = z.reshape(n, t, places, 4, f)
    h, c = (k.empty((n, places * f), z.dtype) for _ in range(2))
    histories = [k.empty((n, t, places * f), z.dtype) for _ in range(2)] if with_residual else []
    squashed = k.empty((n, t, places, f), z.dtype) if with_residual else None
    product, image_of_h = k.empty((n, *lengths, 4 * f), z.dtype), h.reshape(n, *lengths, f)
    numbers = ACTIVATIONS[activation], ACTIVATIONS[recurrent_activation]
    steps = _Steps(k, "lstm", numbers, gates, mask, None, order)
    outputs = _room_for_outputs(steps)
    multiply = lambda entering: k.conv(image_of_h, recurrent_kernel, out=product, **inside)
    _walk(steps, h0, c0, h, c, squashed, histories, None, outputs, multiply)
    shown = h if outputs is None else outputs
    results = (one.reshape(*one.shape[:-1], *lengths, f) for one in (shown, h, c))
    if not with_residual:
        return (*results, None)
    saved = (*histories, gates, squashed)
    cell = reference._made_cell(reference._lstm_cell, reference._lstm_cell_grad, k, activation, recurrent_activation)
    residual = reference._Residual(*(x, kernel, recurrent_kernel, bias, mask, None, None, cell, None, order, saved))
    return (*results, (residual, window))


@override(reference.conv_lstm_grad, "gpu", when=lambda residual: _is_taken_back(residual[0]))
def conv_lstm_grad(
    k: Kernels,
    g_outputs: Any,
    g_h: Any,
    g_c: Any,
    residual: Any,
    needs_x: bool = True,
    outs: tuple = (None, None, None),
) -> tuple[Any, ...]:
    r, window = residual
    history, cells, gates, squashed = r.saved
    n, t, places, _, f = gates.shape
    lengths = output_shape((n * t, *r.x.shape[2:]), r.kernel.shape[:-2], *window)
    size = r.recurrent_kernel.shape[:-2]
    inside = reference._recurrent_window(size)
    # with strides of 1 the gradient of an input is a convolution too, with the kernel turned round
    turned = k.empty((*size, 4 * f, f), gates.dtype)
    turned[...] = k.xp.flip(r.recurrent_kernel, tuple(range(len(size)))).swapaxes(-1, -2)
    reverse = {**inside, "padding": tuple((after, before) for before, after in inside["padding"])}
    cell = _cell_of(r)
    assert cell is not None
    steps = _Steps(k, *cell, gates, r.mask, None, r.order)
    g_gates, g_product = k.empty(gates.shape, gates.dtype), k.empty((n, *lengths, 4 * f), gates.dtype)
    g_h0, g_c0, through = (k.empty((n, places * f), gates.dtype) for _ in range(3))
    g_image = through.reshape(n, *lengths, f)

    def multiply(product: Any) -> Any:
        k.conv(product, turned, out=g_image, **reverse)
        return through

    def rows(gradient: Any) -> Any:
        return None if gradient is None else gradient.reshape(*gradient.shape[: -len(lengths) - 1], places * f)

    saved = history, cells, squashed
    given, first = (rows(g_h), rows(g_c)), (g_h0, g_c0)
    _walk_back(steps, saved, rows(g_outputs), given, first, (g_gates,), g_product, multiply)
    g = g_gates.reshape(n * t, *lengths, 4 * f)
    g_bias = None
    if r.bias is not None:
        g_bias = k.empty(r.bias.shape, g.dtype) if outs[2] is None else outs[2]
        k.total(g.reshape(n * t * places, 4 * f), 0, out=g_bias)
    images = r.x.reshape(n * t, *r.x.shape[2:])
    g_x = None
    if needs_x:
        g_x = k.conv_input_grad(g, r.kernel, images.shape, **window._asdict()).reshape(r.x.shape)
    g_kernel = k.conv_kernel_grad(images, g, r.kernel.shape, out=outs[0], **window._asdict())
    past = history.reshape(n * t, *lengths, f)
    g_recurrent = k.conv_kernel_grad(past, g, r.recurrent_kernel.shape, out=outs[1], **inside)
    return g_x, *(one.reshape(n, *lengths, f) for one in first), g_kernel, g_recurrent, g_bias
