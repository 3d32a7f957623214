"""Quantiles, reductions that leave NaN out, correlation, histograms, and what is found in sorted arrays."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minikeras import config
from minikeras import kernels as k
from minikeras.autodiff import shapes
from minikeras.autodiff.op import Op, composite, operation
from minikeras.autodiff.tensor import Tensor
from minikeras.ops import elementwise as ew
from minikeras.ops import reduction
from minikeras.ops.common import as_array, as_float, counted, named, promote, result_type
from minikeras.ops.core import cast, convert_to_tensor
from minikeras.ops.product import matmul
from minikeras.ops.shaping import diagonal, moveaxis, pad, reshape, take, take_along_axis, transpose

KERAS_MODULE = "keras.src.ops.numpy"

# ---------------------------------------------------------------- quantiles

# where between the two neighbours a place among the sorted values lies: 0 at the lower one, 1 at the higher
_METHODS: dict[str, Callable[[Any, Any], Any]] = {
    "linear": lambda place, low: place - low,
    "lower": lambda place, low: low * 0,
    "higher": lambda place, low: low * 0 + 1,
    "midpoint": lambda place, low: low * 0 + 0.5,
    "nearest": lambda place, low: ew.round(place) - low,  # halves to the even neighbour
}


def _quantile_shape(x: Any, q: Any, *, axis: Any = None, keepdims: bool = False, **settings: Any) -> Any:
    return (*q.shape, *shapes.reduced(x.shape, axis, keepdims))


@composite(inputs=2, shape=_quantile_shape, takes=2)
def quantile(x: Any, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False) -> Any:
    """The values below which a share of the values along axes lies.

    Args:
        q: shares from 0 to 1, of any shape, whose axes come first in the result.
        axis: an axis, several, or (None) all.
        method: what is taken between two values: `"linear"`, `"lower"`, `"higher"`, `"midpoint"` or `"nearest"`.
        x: tensor, array or number.
        keepdims: whether the reduced axes stay, with size 1.

    Raises:
        ValueError: for another method, and for other shares; those of a tensor give NaN.

    >>> from minikeras import ops
    >>> ops.quantile([1.0, 2.0, 4.0], [0.5, 0.75]).numpy().tolist()
    [2.0, 3.0]
    """
    return _quantile(x, q, axis, method, keepdims, skip=False)


@composite(inputs=2, shape=_quantile_shape, takes=2)
def nanquantile(x: Any, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False) -> Any:
    """`quantile` of the values that are not NaN.

    Args:
        x: tensor, array or number.
        q: shares, from 0 to 1 (to 100 in a percentile).
        axis: the axis, or several; by default all.
        method: what is taken between two values: `"linear"`, `"lower"`, `"higher"`, `"midpoint"` or `"nearest"`.
        keepdims: whether the reduced axes stay, with size 1.

    >>> from minikeras import ops
    >>> ops.nanquantile([1.0, float("nan"), 3.0], 0.5).numpy().tolist()
    2.0
    """
    return _quantile(x, q, axis, method, keepdims, skip=True)


@composite(inputs=2, shape=_quantile_shape, takes=2)
def percentile(x: Any, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False) -> Any:
    """`quantile` of shares in per cent.

    Args:
        x: tensor, array or number.
        q: shares, from 0 to 1 (to 100 in a percentile).
        axis: the axis, or several; by default all.
        method: what is taken between two values: `"linear"`, `"lower"`, `"higher"`, `"midpoint"` or `"nearest"`.
        keepdims: whether the reduced axes stay, with size 1.

    >>> from minikeras import ops
    >>> ops.percentile([1.0, 2.0, 4.0], 75).numpy().tolist()
    3.0
    """
    return _quantile(x, q, axis, method, keepdims, skip=False, whole=100)


@composite(inputs=2, shape=_quantile_shape, takes=2)
def nanpercentile(x: Any, q: Any, axis: Any = None, method: str = "linear", keepdims: bool = False) -> Any:
    """`percentile` of the values that are not NaN.

    Args:
        x: tensor, array or number.
        q: shares, from 0 to 1 (to 100 in a percentile).
        axis: the axis, or several; by default all.
        method: what is taken between two values: `"linear"`, `"lower"`, `"higher"`, `"midpoint"` or `"nearest"`.
        keepdims: whether the reduced axes stay, with size 1.

    >>> from minikeras import ops
    >>> ops.nanpercentile([1.0, float("nan"), 3.0], 50).numpy().tolist()
    2.0
    """
    return _quantile(x, q, axis, method, keepdims, skip=True, whole=100)


@composite(inputs=1, shape=shapes.reduction)
def median(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The middle value over an axis, several axes, or (None) all; of an even number the mean of the two in the middle.

    Args:
        x: tensor, array or number.
        keepdims: whether the reduced axes stay, with size 1.

    >>> from minikeras import ops
    >>> ops.median([3.0, 1.0, 2.0, 10.0]).numpy().tolist()
    2.5
    """
    return _quantile(x, 0.5, axis, "linear", keepdims, skip=False)


@composite(inputs=1, shape=shapes.reduction)
def nanmedian(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """`median` of the values that are not NaN.

    Args:
        x: tensor, array or number.
        axis: the axis, or several; by default all.
        keepdims: whether the reduced axes stay, with size 1.

    >>> from minikeras import ops
    >>> ops.nanmedian([3.0, 1.0, float("nan")]).numpy().tolist()
    2.0
    """
    return _quantile(x, 0.5, axis, "linear", keepdims, skip=True)


def _quantile(x: Any, q: Any, axis: Any, method: str, keepdims: bool, skip: bool, whole: int = 1) -> Any:
    """Quantiles of shares of `whole`; `skip`: without NaN, which else is the result where there is one."""
    if method not in _METHODS:
        raise ValueError(f"The method of a quantile must be one of {', '.join(_METHODS)}, got {method!r}.")
    if not isinstance(q, Tensor):
        q = np.asarray(np.asarray(q, "float64") / whole)
        if ((q < 0) | (q > 1)).any():
            raise ValueError(f"The shares of a quantile lie between 0 and {whole}, got {(q * whole).tolist()}.")
        q, whole = Tensor(k.to_device(q)), 1
    x = _floats(x)
    axes = shapes.axes_of(axis, x.ndim)
    kept = [i for i in range(x.ndim) if i not in axes]
    sizes = [x.shape[i] for i in kept]
    rows = reduction.sort(reshape(transpose(x, kept + axes), (*sizes, math.prod(x.shape[i] for i in axes))))
    if not rows.shape[-1]:
        rows = convert_to_tensor(k.xp.full((*sizes, 1), math.nan, x.data.dtype))
    missing = _is_nan(rows)  # they come last
    count = reduction.sum(cast(missing, "int32"), -1, keepdims=True)
    last = ew.maximum(rows.shape[-1] - 1 - (count if skip else count * 0), 0)
    shares = cast(reshape(q, (-1,)), "float64") / whole  # float32 counts no further than 16 million
    inside = ew.logical_and(shares >= 0, shares <= 1)
    place = ew.where(inside, shares, 0.0) * last
    low, high = ew.floor(place), ew.ceil(place)
    share = cast(_METHODS[method](place, low), np.result_type(x.data.dtype, "float32"))
    below, above = [take_along_axis(rows, cast(one, "int32"), -1) for one in (low, high)]
    y = ew.where(share == 1, 0.0, below) * (1 - share) + ew.where(share == 0, 0.0, above) * share  # infinities stay
    y = ew.where(inside, y, math.nan)
    if not skip:
        y = ew.where(count > 0, math.nan, y)
    return reshape(moveaxis(cast(y, x.data.dtype), -1, 0), (*q.shape, *shapes.reduced(x.shape, axis, keepdims)))


def _floats(x: Any) -> Any:
    x = convert_to_tensor(x)
    return x if x.data.dtype.kind == "f" else cast(x, config.floatx())


def _is_nan(x: Any) -> Any:
    return ew.not_equal(x, x)  # of integers too


# ---------------------------------------------------------------- without NaN


def _skipping(reduce: Any, name: str, fill: int, example: str) -> Op:
    """A reduction in which `fill` stands for NaN."""

    def skipping(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        x = convert_to_tensor(x)
        return reduce(ew.where(_is_nan(x), fill, x), axis, keepdims)

    return _named(skipping, name, reduce.__name__, example, shapes.reduction)


def _running(reduce: Any, name: str, fill: int, example: str) -> Op:
    """A running reduction in which `fill` stands for NaN."""

    def running(x: Any, axis: int | None = None, dtype: Any = None) -> Any:
        x = convert_to_tensor(x)
        return reduce(ew.where(_is_nan(x), fill, x), axis, dtype)

    return _named(running, name, reduce.__name__, example, shapes.running)


def _extreme(reduce: Any, name: str, fill: float, nothing: float, example: str) -> Op:
    """The largest or smallest value that is not NaN, or its index; `nothing` where there is none."""

    def extreme(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        x = convert_to_tensor(x)
        if x.data.dtype.kind != "f":
            return reduce(x, axis, keepdims)
        missing = _is_nan(x)
        y = reduce(ew.where(missing, fill, x), axis, keepdims)
        return ew.where(reduction.all(missing, axis, keepdims), nothing, y)

    return _named(extreme, name, reduce.__name__, example, shapes.reduction)


def _named(function: Callable, name: str, plain: str, example: str, shape: Callable) -> Op:
    call = f'ops.{name}([3.0, float("nan"), 2.0]).numpy().tolist()'
    named(function, name, f"`{plain}` of the values that are not NaN.", call, example)
    return composite(function, inputs=1, shape=shape)


nansum = _skipping(reduction.sum, "nansum", 0, "5.0")
nanprod = _skipping(reduction.prod, "nanprod", 1, "6.0")
nancumsum = _running(reduction.cumsum, "nancumsum", 0, "[3.0, 3.0, 5.0]")
nancumprod = _running(reduction.cumprod, "nancumprod", 1, "[3.0, 3.0, 6.0]")
nanmax = _extreme(reduction.max, "nanmax", -math.inf, math.nan, "3.0")
nanmin = _extreme(reduction.min, "nanmin", math.inf, math.nan, "2.0")
nanargmax = _extreme(reduction.argmax, "nanargmax", -math.inf, -1, "0")
nanargmin = _extreme(reduction.argmin, "nanargmin", math.inf, -1, "2")


@composite(inputs=1, shape=shapes.reduction)
def nanmean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """`mean` of the values that are not NaN.

    Args:
        x: tensor, array or number.
        axis: the axis, or several; by default all.
        keepdims: whether the reduced axes stay, with size 1.

    >>> from minikeras import ops
    >>> ops.nanmean([3.0, float("nan"), 2.0]).numpy().tolist()
    2.5
    """
    x = _floats(x)
    return nansum(x, axis, keepdims) / _known(x, axis, keepdims)


def _known(x: Any, axis: Any, keepdims: bool) -> Any:
    """How many values are not NaN."""
    return reduction.sum(cast(x == x, x.data.dtype), axis, keepdims)


@composite(inputs=1, shape=shapes.reduction)
def nanvar(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """`var` of the values that are not NaN.

    Args:
        x: tensor, array or number.
        axis: the axis, or several; by default all.
        keepdims: whether the reduced axes stay, with size 1.

    >>> from minikeras import ops
    >>> ops.nanvar([3.0, float("nan"), 2.0]).numpy().tolist()
    0.25
    """
    x = _floats(x)
    return reduction.sum(ew.square(_distances(x, axis)), axis, keepdims) / _known(x, axis, keepdims)


def _distances(x: Any, axis: Any) -> Any:
    """From the mean, 0 where the value is NaN."""
    return ew.where(_is_nan(x), 0.0, x) - ew.where(_is_nan(x), 0.0, nanmean(x, axis, True))


@composite(inputs=1, shape=shapes.reduction)
def nanstd(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """`std` of the values that are not NaN; the gradient is 0 where it is 0.

    Args:
        x: tensor, array or number.
        axis: the axis, or several; by default all.
        keepdims: whether the reduced axes stay, with size 1.

    >>> from minikeras import ops
    >>> ops.nanstd([3.0, float("nan"), 2.0]).numpy().tolist()
    0.5
    """
    x = _floats(x)
    return reduction.norm(_distances(x, axis), axis=axis, keepdims=keepdims) / ew.sqrt(_known(x, axis, keepdims))


@composite(inputs=1, shape=shapes.reduction)
def ptp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The largest value less the smallest, over an axis, several axes, or (None) all.

    Args:
        x: tensor, array or number.
        keepdims: whether the reduced axes stay, with size 1.

    >>> from minikeras import ops
    >>> ops.ptp([3.0, 1.0, 7.0]).numpy().tolist()
    6.0
    """
    return reduction.max(x, axis, keepdims) - reduction.min(x, axis, keepdims)


# ---------------------------------------------------------------- correlation


@composite(shape=lambda x: (x.shape[0], x.shape[0]) if x.ndim > 1 else ())
def corrcoef(x: Any) -> Any:
    """The correlations (n, n) of n variables, each a row of `x`; of one row alone 1.

    >>> from minikeras import ops
    >>> ops.corrcoef([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]).numpy().round(4).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    x = _floats(x)
    rows = reshape(x, (1, -1)) if x.ndim < 2 else x
    rows = rows - reduction.mean(rows, -1, keepdims=True)
    covariance = matmul(rows, transpose(rows))
    spread = ew.sqrt(diagonal(covariance))
    y = covariance / reshape(spread, (-1, 1)) / spread
    return reshape(y, ()) if x.ndim < 2 else y


def _correlated(shape1: Any, shape2: Any, mode: str) -> tuple[Any, Any]:
    """The first of all products of shifted vectors that a mode keeps, and how many it keeps."""
    if len(shape1) != 1 or len(shape2) != 1 or mode not in ("valid", "same", "full"):
        raise ValueError(
            f"correlate takes two vectors and the mode 'valid', 'same' or 'full', got the shapes {shape1} and "
            f"{shape2} and mode={mode!r}."
        )
    if None in (*shape1, *shape2):
        return None, None
    long, short = builtins.max(shape1[0], shape2[0]), builtins.min(shape1[0], shape2[0])
    before = (short - 1) // 2 if shape1[0] >= shape2[0] else short // 2
    return {"valid": (short - 1, long - short + 1), "same": (before, long), "full": (0, long + short - 1)}[mode]


@composite(inputs=2, shape=lambda x1, x2, *, mode="valid": _correlated(x1.shape, x2.shape, mode)[1:])
def correlate(x1: Any, x2: Any, mode: str = "valid") -> Any:
    """The products of a vector with another one that slides along it, `y[k] = sum(x1[n + k] * x2[n])`.

    Args:
        mode: `"valid"` where they overlap wholly, `"same"` as many as the longer one has values, `"full"` all.

    Raises:
        ValueError: for other arrays than vectors, and for another mode.

    >>> from minikeras import ops
    >>> ops.correlate([1.0, 2.0, 3.0], [0.0, 1.0]).numpy().tolist()
    [2.0, 3.0]
    """
    x1, x2 = convert_to_tensor(x1), convert_to_tensor(x2)
    dtype = result_type(x1.data, x2.data, 0.0)
    x1, x2 = cast(x1, dtype), cast(x2, dtype)
    start, size = _correlated(x1.shape, x2.shape, mode)
    length = x2.shape[0]
    padded = pad(x1, ((length - 1, length - 1),))
    windows = take(padded, counted(start, start + size).reshape(-1, 1) + counted(length))
    return matmul(windows, x2)


# ---------------------------------------------------------------- sorted arrays and counts


def _searched_shape(sorted_sequence: Any, values: Any, *, side: str = "left") -> Any:
    return shapes.Spec(values.shape, "int32")


@operation(inputs=2, shape=_searched_shape, keras="keras.src.ops.numpy.SearchSorted")
def searchsorted(sorted_sequence: Any, values: Any, side: str = "left") -> Any:
    """Where in an ascending vector values are to be put so that it stays ascending, int32.

    Args:
        side: `"left"` before equal values, `"right"` after them.
        sorted_sequence: a rising sequence.

    Raises:
        ValueError: where the sequence is no vector.

    >>> from minikeras import ops
    >>> ops.searchsorted([1.0, 2.0, 3.0], [2.0, 9.0]).numpy().tolist()
    [1, 3]
    """
    if sorted_sequence.ndim != 1:
        raise ValueError(
            f"searchsorted takes a vector as its first argument, got the shape {sorted_sequence.shape}; use "
            "ops.vectorized_map for several."
        )
    return k.xp.searchsorted(*promote(sorted_sequence, as_array(values)), side=side).astype("int32")


@operation(inputs=1, shape=lambda x, *, kth, axis=-1: shapes.Spec(shapes.running(x, axis=axis), "int32"))
def argpartition(x: Any, kth: int, axis: int | None = -1) -> Any:
    """Indices that put the value number `kth` into its place, smaller ones before it, int32; with None flattened.

    Args:
        x: tensor, array or number.
        axis: the axis, or several; by default all.

    Raises:
        ValueError: where `kth` is no integer.

    >>> from minikeras import ops
    >>> int(ops.argpartition([5.0, 1.0, 3.0], 1)[1])
    2
    """
    if not isinstance(kth, int):
        raise ValueError(f"argpartition takes a whole number as kth, got {kth!r}.")
    return k.xp.argpartition(as_array(x), kth, axis=axis).astype("int32")


@operation(inputs=1, shape=lambda x, *, bins=10, range=None: ((bins,), (bins + 1,)))
def histogram(x: Any, bins: int = 10, range: Any = None) -> Any:
    """How many values lie in each of so many bins of equal width, and the limits of the bins, both as floats.

    Args:
        range: a pair of the lowest and the highest limit, default those of the values.
        x: tensor, array or number.

    Raises:
        TypeError: where `bins` is no integer.
        ValueError: where it is negative, or the range is no ascending pair.

    >>> from minikeras import ops
    >>> counts, limits = ops.histogram([0.0, 1.0, 4.0], bins=2)
    >>> counts.numpy().tolist(), limits.numpy().tolist()
    ([2.0, 1.0], [0.0, 2.0, 4.0])
    """
    if not isinstance(bins, int):
        raise TypeError(f"histogram takes a whole number of bins, got {bins!r}.")
    if bins < 0 or (range and (len(range) != 2 or range[1] < range[0])):
        raise ValueError(f"histogram takes bins >= 0 and a range (low, high), got bins={bins!r} and range={range!r}.")
    x = as_float(x)
    counts, limits = k.xp.histogram(x, bins, range or None)
    return counts.astype(x.dtype), limits.astype(x.dtype)


def _unique_shape(x: Any, *, axis: int | None, size: int | None, **settings: Any) -> Any:
    place = None if axis is None else shapes.place_of(axis, x.ndim)
    values = (size,) if place is None else (*x.shape[:place], size, *x.shape[place + 1 :])
    places = [("return_index", (size,)), ("return_inverse", x.shape if place is None else x.shape[place : place + 1])]
    more = [shape for name, shape in [*places, ("return_counts", (size,))] if settings[name]]
    found = (shapes.Spec(values, x.dtype), *[shapes.Spec(shape, "int32") for shape in more])
    return found if more else found[0]


@operation(inputs=1, shape=_unique_shape)
def unique(
    x: Any,
    sorted: bool = True,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """The different values in ascending order; each NaN counts as one of its own.

    Args:
        sorted: accepted for familiarity; they always are.
        return_index, return_inverse, return_counts: return as well where each value is first, which of them each
            element of `x` is, and how often each comes, all int32.
        axis: the axis of which the different slices are returned, default the flattened array.
        size: return exactly so many values: the first, or further ones of `fill_value`.
        fill_value: default the smallest value.

    >>> from minikeras import ops
    >>> ops.unique([3, 1, 3]).numpy().tolist()
    [1, 3]
    """
    values, index, inverse, counts = k.xp.unique(as_array(x), True, True, True, axis=axis, equal_nan=False)
    inverse = inverse.reshape(x.shape if axis is None else -1)
    if size is not None:
        beyond = counted(size) >= index.size
        kept = k.xp.where(beyond, 0, counted(size))
        along = 0 if axis is None else axis
        values, index, counts = k.xp.take(values, kept, axis=along), index[kept], k.xp.where(beyond, 0, counts[kept])
        if fill_value is not None:
            k.xp.moveaxis(values, along, 0)[beyond] = fill_value
    found = ((index, return_index), (inverse, return_inverse), (counts, return_counts))
    more = [one.astype("int32") for one, wanted in found if wanted]
    return (values, *more) if more else values
