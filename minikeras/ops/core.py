"""Conversion, types and shapes, slices, scattering, and choosing the largest."""

from __future__ import annotations

import builtins
import importlib
import math
from typing import Any

import numpy as np

from minikeras import journal
from minikeras import kernels as k
from minikeras.autodiff import shapes
from minikeras.autodiff.op import composite, differentiable, operation, stacked
from minikeras.autodiff.operands import raw
from minikeras.autodiff.strings import is_text, strings_in
from minikeras.autodiff.symbolic import KerasTensor
from minikeras.autodiff.tensor import FLOATS, Tensor
from minikeras.ops import elementwise, shaping
from minikeras.ops.common import array_type, as_array, as_type, counted
from minikeras.tracebacks import end_at_users_line

KERAS_MODULE = "keras.src.ops.core"

# ---------------------------------------------------------------- conversion


def convert_to_tensor(x: Any, dtype: Any = None, sparse: bool | None = None, ragged: bool | None = None) -> Any:
    """A tensor of `x`: a number, nested lists, an array, or a tensor, which stays as it is unless its type changes.

    Python floats become `floatx()`, integers int32; arrays keep their type.  Strings become a tensor that stays on the
    host, for layers that take text.

    Raises:
        ValueError: where a sparse or ragged tensor is asked for.

    >>> from minikeras import ops
    >>> ops.convert_to_tensor([1.0, 2.0])
    <Tensor shape=(2,) dtype=float32>
    array([1., 2.], dtype=float32)
    """
    try:
        if sparse or ragged:
            raise ValueError(f"Tensors here are dense, got sparse={sparse!r}, ragged={ragged!r}; leave both at None.")
        if isinstance(x, (list, tuple)):
            x = stacked(x)
        if not isinstance(x, (Tensor, KerasTensor)):
            text = strings_in(x)
            x = Tensor(as_array(raw(x)) if text is None else text)
        return x if dtype is None or (dtype == "string" and is_text(x)) else cast(x, dtype)
    except BaseException as error:
        end_at_users_line(error)
        raise


def convert_to_numpy(x: Any) -> np.ndarray:
    """The values as a NumPy array.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.convert_to_numpy(ops.ones((2,)))
    array([1., 1.], dtype=float32)
    """
    return np.array(k.to_host(raw(x)))


def is_tensor(x: Any) -> bool:
    """Whether `x` is a tensor (a variable and a symbolic tensor are).

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.is_tensor(ops.ones((2,))), ops.is_tensor(np.ones((2,)))
    (True, False)
    """
    return isinstance(x, (Tensor, KerasTensor))


@composite(inputs=1, shape=shapes.same)
def cast(x: Any, dtype: Any) -> Any:
    """`x` in another type; between floats the gradient passes.

    >>> from minikeras import ops
    >>> ops.cast([1.7, 2.2], "int32")
    <Tensor shape=(2,) dtype=int32>
    array([1, 2], dtype=int32)
    """
    dtype = array_type(dtype)
    if isinstance(x, Tensor) and x.data.dtype == dtype:
        return x
    return (_cast_float if dtype.char in FLOATS else _cast_exact)(x, dtype)


@differentiable(inputs=1, shape=shapes.same, rounds=False)
def _cast_float(x: Any, dtype: Any) -> Any:
    x = as_array(x)
    y = x.astype(dtype) if x.dtype == dtype else k.cast(x, dtype)
    return y, lambda g, needs: (k.cast(g, x.dtype),)


@operation(inputs=1, shape=shapes.same, rounds=False)
def _cast_exact(x: Any, dtype: Any) -> Any:
    return as_array(x).astype(dtype)


@composite(inputs=1, shape=shapes.same)
def saturate_cast(x: Any, dtype: Any) -> Any:
    """`x` in another type; what that cannot hold becomes its largest or smallest number.

    >>> from minikeras import ops
    >>> ops.saturate_cast([-5.0, 300.0], "uint8")
    <Tensor shape=(2,) dtype=uint8>
    array([  0, 255], dtype=uint8)
    """
    to, x = array_type(dtype), convert_to_tensor(x)
    if to.kind == "b":
        return cast(elementwise.clip(x, 0, 1), to)
    limits: Any = np.iinfo(to) if to.kind in "iu" else _finfo(to)
    if x.data.dtype.kind == "b":
        return cast(x, to)
    if x.data.dtype.char in FLOATS:
        low, high = _inward(limits.min, x.data.dtype), _inward(limits.max, x.data.dtype)
    else:
        own = np.iinfo(x.data.dtype)
        low, high = builtins.max(int(limits.min), int(own.min)), builtins.min(int(limits.max), int(own.max))
    return cast(elementwise.clip(x, low, high), to)


def _finfo(dtype: Any) -> Any:
    return importlib.import_module("ml_dtypes").finfo(dtype) if dtype.char == "E" else np.finfo(dtype)


def _inward(limit: Any, dtype: Any) -> float:
    """A type's limit as a number of a float type that does not lie beyond it; an infinity where it is out of reach."""
    if builtins.abs(float(limit)) > float(_finfo(dtype).max):
        return float(np.copysign(np.inf, float(limit)))
    near = dtype.type(limit)
    return float(np.nextafter(near, dtype.type(0)) if builtins.abs(int(near)) > builtins.abs(int(limit)) else near)


@operation(shape=shapes.same)
def stop_gradient(variable: Any) -> Any:
    """The same values as a constant: no gradient passes.

    Args:
        variable: tensor, or a structure of them.

    >>> import minikeras as keras
    >>> from minikeras import ops
    >>> x = keras.Variable([2.0])
    >>> tape = keras.GradientTape()
    >>> with tape:
    ...     y = ops.sum(x * ops.stop_gradient(x))
    ...
    >>> tape.gradient(y, x)
    <Tensor shape=(1,) dtype=float32>
    array([2.], dtype=float32)
    """
    return as_array(variable)


@differentiable(shape=shapes.same, keras="keras.src.ops.numpy.Copy")
def copy(x: Any) -> Any:
    """The same values in memory of their own.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.copy([1, 2])
    <Tensor shape=(2,) dtype=int32>
    array([1, 2], dtype=int32)
    """
    return as_array(x).copy(), lambda g, needs: (g,)


# ---------------------------------------------------------------- type and shape


def dtype(x: Any) -> str:
    """The name of the type, such as `"float32"`.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.dtype(ops.ones((2,)))
    'float32'
    """
    return str(convert_to_tensor(x).dtype)


def shape(x: Any) -> tuple[int | None, ...]:
    """The shape; None for an open dimension of a symbolic tensor.

    Args:
        x: tensor, array or number.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.shape(np.ones((2, 3)))
    (2, 3)
    """
    return tuple(convert_to_tensor(x).shape)


def ndim(x: Any) -> int:
    """The number of axes.

    Args:
        x: tensor, array or number.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.ndim(np.ones((2, 3)))
    2
    """
    return len(shape(x))


def size(x: Any) -> int | None:
    """The number of elements; None for a symbolic tensor with an open dimension.

    Args:
        x: tensor, array or number.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.size(np.ones((2, 3)))
    6
    """
    sizes = shape(x)
    return None if None in sizes else math.prod(sizes)  # type: ignore[arg-type]


# ---------------------------------------------------------------- slices and scattering


def _slice_shape(inputs: Any, *, start_indices: Any, shape: Any) -> Any:
    symbolic = isinstance(start_indices, KerasTensor)
    starts = [None if symbolic or isinstance(one, KerasTensor) else int(one) for one in _starts(start_indices)]
    if None not in (*inputs.shape, *starts):
        _block(starts, shape, inputs.shape)  # refuses what lies outside
    ends = zip(starts, shape, inputs.shape, strict=True)
    sizes = [int(n) if n != -1 else None if None in (size, start) else size - start for start, n, size in ends]
    return shapes.Spec(tuple(sizes), inputs.dtype)


def _starts(indices: Any) -> Any:
    """Where a part begins on each axis; of symbolic indices as many entries as axes."""
    return range(indices.shape[0] or 0) if isinstance(indices, KerasTensor) else indices


@composite(inputs=1, shape=_slice_shape, takes=2)
def slice(inputs: Any, start_indices: Any, shape: Any) -> Any:
    """The part of `inputs` of this shape that begins at `start_indices`; a size of -1 reaches to the end.

    Raises:
        ValueError: where `inputs` does not hold all of it.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.slice(np.arange(6), [2], [3])
    <Tensor shape=(3,) dtype=int64>
    array([2, 3, 4])
    """
    inputs = convert_to_tensor(inputs)
    return shaping.get_item(inputs, _block(start_indices, shape, inputs.shape))


def _block(start_indices: Any, sizes: Any, shape: tuple[int, ...]) -> tuple[builtins.slice, ...]:
    starts, counts = [int(start) for start in start_indices], [int(n) for n in sizes]
    ends = [size if n == -1 else start + n for start, n, size in zip(starts, counts, shape, strict=False)]
    bounds = zip(starts, ends, shape, strict=False)
    fits = len(starts) == len(counts) == len(shape) and all(0 <= start <= end <= size for start, end, size in bounds)
    if not fits and not journal.active:  # zeros that only show a shape may have fewer rows than a batch
        raise ValueError(
            f"A part of shape {tuple(counts)} from {tuple(starts)} on does not lie within shape {tuple(shape)}; begin "
            "earlier, or take less."
        )
    return tuple([builtins.slice(start, end) for start, end in zip(starts, ends, strict=True)])


@differentiable(shape=shapes.like)
def _updated(x: Any, updates: Any, *, key: Any, add: bool) -> Any:
    """`x` with `x[key]` replaced by `updates`, or increased by them."""
    x, updates = as_array(x), as_array(updates)
    y = x.copy()
    if add:
        k.xp.add.at(y, key, as_type(updates, x.dtype))
    else:
        y[key] = updates

    def vjp(g: Any, needs: Any) -> Any:
        g1 = g
        if needs[0] and not add:
            g1 = g.copy()
            g1[key] = 0
        g2 = None
        if needs[1]:
            g2 = g[key]
            basic = shaping._is_basic(key if isinstance(key, tuple) else (key,))
            if not add and not basic:  # of several updates of one place only the last one counts
                places = counted(x.size).reshape(x.shape)[key]
                writers = counted(places.size).reshape(places.shape)
                last = k.xp.zeros(x.size, writers.dtype)
                last[places] = writers
                g2 = g2 * (last[places] == writers)
            g2 = g2.astype(updates.dtype)
        return g1, g2

    return y, vjp


@composite(inputs=1, shape=shapes.like, takes=3)
def slice_update(inputs: Any, start_indices: Any, updates: Any) -> Any:
    """`inputs` with the part that begins at `start_indices` replaced by `updates`.

    Raises:
        ValueError: where `inputs` does not hold all of it.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.slice_update(np.zeros(4), [1], [5.0, 6.0])
    <Tensor shape=(4,) dtype=float64>
    array([0., 5., 6., 0.])
    """
    inputs, updates = convert_to_tensor(inputs), convert_to_tensor(updates)
    return _updated(inputs, updates, key=_block(start_indices, updates.shape, inputs.shape), add=False)


@composite(inputs=1, shape=shapes.like, takes=3)
def scatter_update(inputs: Any, indices: Any, updates: Any, reduction: str | None = None) -> Any:
    """`inputs` with the places `indices` replaced by `updates`.

    Args:
        indices: whole numbers (n, d): the first d indices of each place.
        updates: (n, *inputs.shape[d:]).
        reduction: None replaces (the last of several updates of one place counts); `"add"`, `"mul"`, `"max"` and
            `"min"` make one number of what is there and of all updates.

    Raises:
        ValueError: for another `reduction`.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.scatter_update(np.zeros(4), [[1], [3]], [5.0, 6.0])
    <Tensor shape=(4,) dtype=float32>
    array([0., 5., 0., 6.], dtype=float32)
    """
    places = tuple(raw(indices).T)
    if reduction in (None, "add"):
        return _updated(inputs, updates, key=places, add=reduction == "add")
    if reduction not in ("mul", "max", "min"):
        raise ValueError(f"scatter_update's reduction must be None, 'add', 'mul', 'max' or 'min', got {reduction!r}.")
    inputs = convert_to_tensor(inputs)
    leading = inputs.shape[: len(places)]
    numbers = counted(math.prod(leading)).reshape(leading)  # a segment for each place
    segments, together = {
        "mul": (segment_prod, elementwise.multiply),
        "max": (segment_max, elementwise.maximum),
        "min": (segment_min, elementwise.minimum),
    }[reduction]
    updates = segments(convert_to_tensor(updates, inputs.dtype), numbers[places], numbers.size)
    return together(inputs, shaping.reshape(updates, inputs.shape))


@composite(inputs=2, shape=lambda indices, values, *, shape: shapes.Spec(tuple([int(n) for n in shape]), values.dtype))
def scatter(indices: Any, values: Any, shape: Any) -> Any:
    """Zeros of this shape with `values` added at the places `indices` (n, d), so that those of one place add up.

    >>> from minikeras import ops
    >>> ops.scatter([[1], [3]], [5.0, 6.0], (4,))
    <Tensor shape=(4,) dtype=float32>
    array([0., 5., 0., 6.], dtype=float32)
    """
    values = convert_to_tensor(values)
    zeros = Tensor(k.xp.zeros(tuple([int(n) for n in shape]), values.data.dtype))
    return scatter_update(zeros, indices, values, "add")


@composite(inputs=1, shape=shapes.unstack)
def unstack(x: Any, num: int | None = None, axis: int = 0) -> list[Any]:
    """The slices along an axis, as a list.

    Args:
        x: tensor, array or number.

    Raises:
        ValueError: where there are not `num` of them.

    >>> from minikeras import ops
    >>> ops.unstack([[1, 2], [3, 4]])
    [<Tensor shape=(2,) dtype=int32>
    array([1, 2], dtype=int32), <Tensor shape=(2,) dtype=int32>
    array([3, 4], dtype=int32)]
    """
    x = convert_to_tensor(x)
    count = x.shape[shapes.place_of(axis, len(x.shape))]
    if num not in (None, count):
        raise ValueError(f"unstack was told num={num}, but the axis has size {count}; leave num at None.")
    return [shaping.squeeze(part, axis) for part in shaping.split(x, count, axis)] if count else []


# ---------------------------------------------------------------- the largest, segments


def _top_k_shape(x: Any, *, k: int, sorted: bool = True) -> Any:
    if not x.shape or (x.shape[-1] is not None and k > x.shape[-1]):
        raise ValueError(f"top_k finds {k} values along the last axis, got the shape {x.shape}; ask for fewer.")
    shape = (*x.shape[:-1], k)
    return shapes.Spec(shape, x.dtype), shapes.Spec(shape, "int32")


@differentiable(inputs=1, shape=_top_k_shape, keras="keras.src.ops.math.TopK")
def top_k(x: Any, k: int, sorted: bool = True) -> Any:
    """The `k` largest values along the last axis in descending order and their indices (int32), of equals the first.

    Args:
        x: tensor, array or number.
        sorted: accepted; they always are.

    >>> from minikeras import ops
    >>> ops.top_k([1.0, 3.0, 2.0], k=2)
    (<Tensor shape=(2,) dtype=float32>
    array([3., 2.], dtype=float32), <Tensor shape=(2,) dtype=int32>
    array([1, 2], dtype=int32))
    """
    return _top_k(as_array(x), k)


def _top_k(x: Any, count: int) -> Any:
    order = k.xp.argsort(x[..., ::-1], axis=-1, kind="stable")[..., ::-1][..., :count]  # equal values keep their order
    index = x.shape[-1] - 1 - order
    values = k.take_along(x, index, x.ndim - 1)

    def vjp(g: Any, needs: Any) -> Any:
        gradient = k.filled((x.size // x.shape[-1], x.shape[-1]), x.dtype, 0)
        places = index.reshape(-1, index.shape[-1])
        gradient[counted(len(gradient)).reshape(-1, 1), places] = g[0].reshape(places.shape)
        return (gradient.reshape(x.shape),)

    return (values, index.astype("int32")), vjp


def _in_top_k_shape(targets: Any, predictions: Any, *, k: int) -> Any:
    return shapes.Spec(targets.shape, "bool")


@operation(inputs=2, shape=_in_top_k_shape, keras="keras.src.ops.math.InTopK")
def in_top_k(targets: Any, predictions: Any, k: int) -> Any:
    """Whether fewer than `k` of the `predictions` (n, classes) exceed the one for the target class (n,).

    Args:
        targets: the right classes, one for each row.

    >>> from minikeras import ops
    >>> ops.in_top_k([2], [[0.1, 0.6, 0.3]], k=2)
    <Tensor shape=(1,) dtype=bool>
    array([ True])
    """
    return _in_top_k(targets, predictions, k)


def _in_top_k(targets: Any, predictions: Any, count: int) -> Any:
    return k.rank_matches(targets, predictions, count).astype(bool)


def _segment_shape(data: Any, segment_ids: Any, *, num_segments: int | None = None, sorted: bool = False) -> Any:
    return shapes.Spec((num_segments, *data.shape[1:]), data.dtype)


def _segments(segment_ids: Any, num_segments: int | None) -> int:
    if num_segments is not None:
        return num_segments
    return int(segment_ids.max()) + 1 if segment_ids.size else 0


def _numbered(segment_ids: Any, count: int) -> Any:
    """The numbers of segments, -1 for those of none; a GPU, which would take others for them, has none of the rest."""
    known = segment_ids if k.active_device() != "gpu" else k.xp.where(segment_ids < count, segment_ids, -1)
    return k.xp.maximum(known, -1)


@differentiable(inputs=2, shape=_segment_shape, keras="keras.src.ops.math.SegmentSum")
def segment_sum(data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False) -> Any:
    """The sums of the slices along the first axis that have the same segment number: (num_segments, ...).

    A slice of a negative segment number counts nowhere, here and in the other reductions of segments; on a GPU, which
    would have to be waited for to refuse it, also one of a number that is not below `num_segments`.

    Args:
        data: tensor whose first axis is cut into segments.
        segment_ids: for each row the number of its segment.
        sorted: whether the numbers are in order; they need not be.

    >>> from minikeras import ops
    >>> ops.segment_sum([1.0, 2.0, 4.0], [0, -1, 0], num_segments=2).numpy().tolist()
    [5.0, 0.0]
    """
    count, width = _segments(segment_ids, num_segments), math.prod(data.shape[1:])
    places = k.xp.where(segment_ids < 0, count, segment_ids)
    if k.active_device() == "gpu":
        places = k.xp.minimum(places, count)
    y = k.embedding_grad(data.reshape(-1, width), places, (count + 1, width)).reshape(count + 1, *data.shape[1:])
    return y[:-1], lambda g, needs: (k.take(_with_none(g), places, 0), None)


def _with_none(g: Any) -> Any:
    """Gradients of segments and, last, where -1 points to, one of the slices that are in none: zeros."""
    return k.concatenate([g, k.filled((1, *g.shape[1:]), g.dtype, 0)], 0)


def _segment_extreme(data: Any, segment_ids: Any, count: int, sign: int, pick: Any) -> Any:
    """(y, vjp) of the extremes of segments, the infinity of this sign in an empty one; equal extremes share."""
    if data.dtype.kind == "f":
        fill: Any = sign * math.inf
    else:
        fill = np.iinfo(data.dtype).max if sign > 0 else np.iinfo(data.dtype).min
    places = _numbered(segment_ids, count)
    y = k.xp.full((count + 1, *data.shape[1:]), fill, data.dtype)
    pick.at(y, places, data)

    def vjp(g: Any, needs: Any) -> Any:
        chosen = (data == y[places]).astype(g.dtype)
        shares = k.filled(y.shape, g.dtype, 0)
        k.xp.add.at(shares, places, chosen)
        return chosen * (_with_none(g) / k.xp.maximum(shares, 1))[places], None

    return y[:-1], vjp


@differentiable(inputs=2, shape=_segment_shape, keras="keras.src.ops.math.SegmentMax")
def segment_max(data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False) -> Any:
    """The largest of the slices with the same segment number; of an empty segment the type's smallest number.

    Args:
        data: tensor whose first axis is cut into segments.
        segment_ids: for each row the number of its segment.
        num_segments: how many there are; by default one more than the largest number.
        sorted: whether the numbers are in order; they need not be.

    >>> from minikeras import ops
    >>> ops.segment_max([1.0, 5.0, 2.0], [0, 0, 1])
    <Tensor shape=(2,) dtype=float32>
    array([5., 2.], dtype=float32)
    """
    return _segment_extreme(data, segment_ids, _segments(segment_ids, num_segments), -1, k.xp.maximum)


@differentiable(inputs=2, shape=_segment_shape, keras="keras.src.ops.math.SegmentMin")
def segment_min(data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False) -> Any:
    """The smallest of the slices with the same segment number; of an empty segment the type's largest number.

    Args:
        data: tensor whose first axis is cut into segments.
        segment_ids: for each row the number of its segment.
        num_segments: how many there are; by default one more than the largest number.
        sorted: whether the numbers are in order; they need not be.

    >>> from minikeras import ops
    >>> ops.segment_min([3.0, 1.0, 2.0], [0, 0, 1]).numpy().tolist()
    [1.0, 2.0]
    """
    return _segment_extreme(data, segment_ids, _segments(segment_ids, num_segments), 1, k.xp.minimum)


def _products(data: Any, segment_ids: Any, count: int) -> Any:
    """The products of segments, pair by pair: array modules have no product that scatters."""
    y = k.xp.ones((count, *data.shape[1:]), data.dtype)
    order = k.xp.argsort(segment_ids, kind="stable")
    numbers, values = segment_ids[order], data[order]
    while True:
        odd = (counted(numbers.size) - k.xp.searchsorted(numbers, numbers)) % 2 == 1  # in its segment
        places = k.xp.nonzero(odd)[0]
        if not places.size:
            y[numbers] = values
            return y
        values[places - 1] *= values[places]
        numbers, values = numbers[~odd], values[~odd]


@differentiable(inputs=2, shape=_segment_shape, keras="keras.src.ops.math.SegmentProd")
def segment_prod(data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False) -> Any:
    """The products of the slices with the same segment number, of an empty segment 1.

    Args:
        data: tensor whose first axis is cut into segments.
        segment_ids: for each row the number of its segment.
        num_segments: how many there are; by default one more than the largest number.
        sorted: whether the numbers are in order; they need not be.

    >>> from minikeras import ops
    >>> ops.segment_prod([3.0, 2.0, 5.0], [0, 0, 1]).numpy().tolist()
    [6.0, 5.0]
    """
    count = _segments(segment_ids, num_segments) + 1
    places = _numbered(segment_ids, count - 1)
    y = _products(data, places, count)

    def vjp(g: Any, needs: Any) -> Any:
        zero = data == 0  # what the others make up needs no division by them
        rest = _products(k.xp.where(zero, k.xp.ones_like(data), data), places, count)
        zeros = k.xp.zeros(y.shape, "int32")
        k.xp.add.at(zeros, places, zero.astype("int32"))
        others = (zeros[places] - zero) == 0
        return (_with_none(g) * rest)[places] * others / k.xp.where(zero, k.xp.ones_like(data), data), None

    return y[:-1], vjp
