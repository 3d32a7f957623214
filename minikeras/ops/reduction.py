"""Reductions over axes, cumulative sums and products, sorting and counting."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from minikeras import config
from minikeras import kernels as k
from minikeras.autodiff import shapes
from minikeras.autodiff.op import composite, differentiable, operation
from minikeras.autodiff.operands import raw
from minikeras.kernels.arena import contiguous
from minikeras.lazy import LazyModule
from minikeras.ops import elementwise
from minikeras.ops.common import array_type, as_array, as_float, axes_of, counted, promote, restore_axes
from minikeras.ops.core import cast, convert_to_tensor
from minikeras.ops.shaping import diagonal, expand_dims, moveaxis, reshape, squeeze
from minikeras.utils.checks import whole

KERAS_MODULE = "keras.src.ops.numpy"
decompositions = LazyModule("minikeras.ops.decompositions")


def _spread(g: Any, shape: tuple[int, ...], axis: Any, keepdims: bool, dtype: Any) -> Any:
    """A gradient at a reduction's result, repeated to the shape of the input."""
    return k.spread(restore_axes(g, len(shape), axis, keepdims), shape, dtype)


def _count(shape: tuple[int, ...], axis: Any) -> int:
    """How many values go into one of the results."""
    if axis is None:
        return math.prod(shape)
    return math.prod([shape[i] for i in (axis if isinstance(axis, tuple) else (axis,))])


def _sum_type(x: Any) -> Any:
    """Small integers are summed in 32 bits, as Keras does; None is the type of the array itself."""
    if x.dtype.kind in "bi":
        return "int32" if x.dtype.itemsize <= 4 else None
    return "uint32" if x.dtype.kind == "u" and x.dtype.itemsize <= 4 else None


@differentiable(inputs=1, shape=shapes.reduction)
def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The sum over an axis, several axes, or (None) all.

    Args:
        x: tensor, array or number.
        keepdims: whether the reduced axes stay, with size 1.

    >>> from minikeras import ops
    >>> ops.sum([[1.0, 3.0], [2.0, 0.0]], axis=1)
    <Tensor shape=(2,) dtype=float32>
    array([4., 2.], dtype=float32)
    """
    x, axis = as_array(x), axes_of(axis)
    if x.dtype.kind == "f":
        y = k.total(x, axis, keepdims)
    else:
        y = x.sum(axis=axis, keepdims=keepdims, dtype=_sum_type(x))
    return y, lambda g, needs: (_spread(g, x.shape, axis, keepdims, g.dtype),)


@differentiable(inputs=1, shape=shapes.reduction)
def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The mean over an axis, several axes, or (None) all.

    Args:
        x: tensor, array or number.
        keepdims: whether the reduced axes stay, with size 1.

    >>> from minikeras import ops
    >>> ops.mean([[1.0, 3.0], [2.0, 0.0]], axis=1)
    <Tensor shape=(2,) dtype=float32>
    array([2., 1.], dtype=float32)
    """
    x, axis = as_float(x), axes_of(axis)
    middle = tuple(range(1, x.ndim - 1))
    if middle and x.size and (axis if isinstance(axis, tuple) else (axis,)) == middle:  # global pooling
        ends = (x.shape[0], x.shape[-1])
        y = k.global_average_pool(x.reshape(ends[0], -1, ends[1]))

        def vjp(g: Any, needs: Any) -> Any:
            return (k.global_average_pool_grad(g.reshape(ends), math.prod(x.shape[1:-1])).reshape(x.shape),)

        return restore_axes(y, x.ndim, axis, False) if keepdims else y, vjp
    y = k.average(x, axis, keepdims)
    count = _count(x.shape, axis)
    return y, lambda g, needs: (_spread(k.combine(g, count, "divide"), x.shape, axis, keepdims, g.dtype),)


@differentiable(inputs=1, shape=shapes.reduction)
def var(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The mean squared distance from the mean.

    Args:
        x: tensor, array or number.
        axis: the axis, or several; by default all.
        keepdims: whether the reduced axes stay, with size 1.

    >>> from minikeras import ops
    >>> ops.var([1.0, 3.0])
    <Tensor shape=() dtype=float32>
    array(1., dtype=float32)
    """
    x, axis = as_float(x), axes_of(axis)
    centered = x - k.average(x, axis, True)
    y = k.average(k.xp.square(centered), axis, keepdims)

    def vjp(g: Any, needs: Any) -> Any:
        return (centered * restore_axes(g * (2 / _count(x.shape, axis)), x.ndim, axis, keepdims),)

    return y, vjp


@differentiable(inputs=1, shape=shapes.reduction)
def std(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The square root of the variance; the gradient is 0 where it is 0.

    Args:
        x: tensor, array or number.
        axis: the axis, or several; by default all.
        keepdims: whether the reduced axes stay, with size 1.

    >>> from minikeras import ops
    >>> ops.std([1.0, 3.0])
    <Tensor shape=() dtype=float32>
    array(1., dtype=float32)
    """
    x, axis = as_float(x), axes_of(axis)
    centered = x - k.average(x, axis, True)
    variance = k.average(k.xp.square(centered), axis, keepdims)

    def vjp(g: Any, needs: Any) -> Any:
        scale = g / (_root_or_1(variance) * _count(x.shape, axis))
        return (centered * restore_axes(scale, x.ndim, axis, keepdims),)

    return k.xp.sqrt(variance), vjp


def _root_or_1(x: Any) -> Any:
    """The square root, 1 in the place of 0, so that no gradient of a gradient meets the slope of the root there."""
    return k.xp.sqrt(k.xp.where(x == 0, k.xp.ones_like(x), x))


def _extreme(x: Any, y: Any, axis: Any, keepdims: bool, initial: Any, pick: Any) -> Any:
    """(y, vjp) of max and min; equal extremes share the gradient."""

    def vjp(g: Any, needs: Any) -> Any:
        axes = tuple(range(x.ndim)) if axis is None else tuple([i % x.ndim for i in np.atleast_1d(axis).tolist()])
        g_wide, bound = (restore_axes(one, x.ndim, axis, keepdims) for one in (g, y))
        return (k.extreme_grad(g_wide, x, bound, axes),)

    if initial is not None:
        y = pick(*promote(y, raw(initial)))
    return y, vjp


@differentiable(inputs=1, shape=shapes.reduction)
def max(x: Any, axis: Any = None, keepdims: bool = False, initial: float | None = None) -> Any:
    """The largest value over an axis, several axes, or (None) all; at least `initial` if that is given.

    Args:
        x: tensor, array or number.
        keepdims: whether the reduced axes stay, with size 1.

    >>> from minikeras import ops
    >>> ops.max([[1.0, 3.0], [2.0, 0.0]], axis=1)
    <Tensor shape=(2,) dtype=float32>
    array([3., 2.], dtype=float32)
    """
    x, axis = as_array(x), axes_of(axis)
    return _extreme(x, k.extreme(x, axis, keepdims), axis, keepdims, initial, k.xp.maximum)


@differentiable(inputs=1, shape=shapes.reduction)
def min(x: Any, axis: Any = None, keepdims: bool = False, initial: float | None = None) -> Any:
    """The smallest value over an axis, several axes, or (None) all; at most `initial` if that is given.

    Args:
        x: tensor, array or number.
        keepdims: whether the reduced axes stay, with size 1.

    >>> from minikeras import ops
    >>> ops.min([[1.0, 3.0], [2.0, 0.0]], axis=1)
    <Tensor shape=(2,) dtype=float32>
    array([1., 0.], dtype=float32)
    """
    x, axis = as_array(x), axes_of(axis)
    return _extreme(x, k.extreme(x, axis, keepdims, False), axis, keepdims, initial, k.xp.minimum)


@composite(inputs=1, shape=shapes.reduction)
def amax(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """`max` under NumPy's other name.

    Args:
        x: tensor, array or number.
        keepdims: whether the reduced axes stay, with size 1.

    >>> from minikeras import ops
    >>> ops.amax([[1.0, 3.0], [2.0, 0.0]], axis=0)
    <Tensor shape=(2,) dtype=float32>
    array([2., 3.], dtype=float32)
    """
    return max(x, axis, keepdims)


@composite(inputs=1, shape=shapes.reduction)
def amin(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """`min` under NumPy's other name.

    Args:
        x: tensor, array or number.
        keepdims: whether the reduced axes stay, with size 1.

    >>> from minikeras import ops
    >>> ops.amin([[1.0, 3.0], [2.0, 0.0]], axis=0)
    <Tensor shape=(2,) dtype=float32>
    array([1., 0.], dtype=float32)
    """
    return min(x, axis, keepdims)


@differentiable(inputs=1, shape=shapes.reduction)
def prod(x: Any, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> Any:
    """The product over an axis, several axes, or (None) all.

    Args:
        x: tensor, array or number.
        keepdims: whether the reduced axes stay, with size 1.

    >>> from minikeras import ops
    >>> ops.prod([2.0, 3.0, 4.0])
    <Tensor shape=() dtype=float32>
    array(24., dtype=float32)
    """
    x, axis = as_array(x), axes_of(axis)
    y = x.prod(axis=axis, keepdims=keepdims, dtype=_sum_type(x) if dtype is None else array_type(dtype))

    def vjp(g: Any, needs: Any) -> Any:
        # the product of all the others, without a division, so that zeros do no harm: what precedes times what follows
        axes = range(x.ndim) if axis is None else [i % x.ndim for i in (axis if isinstance(axis, tuple) else (axis,))]
        order = [i for i in range(x.ndim) if i not in axes] + list(axes)
        moved = x.transpose(order)
        rows = moved.reshape((*moved.shape[: x.ndim - len(axes)], _count(x.shape, axis)))
        others = (_preceding(rows) * _preceding(rows[..., ::-1])[..., ::-1]).reshape(moved.shape)
        return (others.transpose(np.argsort(order).tolist()) * restore_axes(g, x.ndim, axis, keepdims),)

    return y, vjp


def _preceding(x: Any) -> Any:
    """For each place of the last axis, the product of the values before it."""
    return k.concatenate([k.xp.ones_like(x[..., :1]), k.xp.cumprod(x, axis=-1)[..., :-1]], x.ndim - 1)


@differentiable(inputs=1, shape=shapes.reduction, keras="keras.src.ops.math.Logsumexp")
def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """`log(sum(exp(x)))`, without overflow.

    Args:
        axis: the axis, or several; by default all.
        keepdims: whether the reduced axes stay, with size 1.

    >>> from minikeras import ops
    >>> ops.logsumexp([0.0, 0.0])
    <Tensor shape=() dtype=float32>
    array(0.6931472, dtype=float32)
    """
    x, axis = as_float(x), axes_of(axis)
    largest = x.max(axis=axis, keepdims=True)
    largest = k.xp.where(k.xp.isfinite(largest), largest, k.xp.zeros_like(largest))
    total = k.xp.log(k.total(k.xp.exp(x - largest), axis, True)) + largest
    y = total if keepdims else k.xp.squeeze(total, axis=axis)
    return y, lambda g, needs: (k.xp.exp(x - total) * restore_axes(g, x.ndim, axis, keepdims),)


@differentiable(inputs=1, shape=shapes.reduction)
def _euclidean(x: Any, axis: Any, keepdims: bool) -> Any:
    x = as_float(x)
    squares = k.total(k.xp.square(x), axis, keepdims)

    def vjp(g: Any, needs: Any) -> Any:
        return (x * restore_axes(g / _root_or_1(squares), x.ndim, axis, keepdims),)

    return k.xp.sqrt(squares), vjp


@composite(inputs=1, shape=shapes.reduction, keras="keras.src.ops.linalg.Norm")
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """The norm of vectors (one axis) or matrices (two axes).

    Args:
        ord: None is the Euclidean norm over the axes (all, where `axis` is None).  For vectors also any number, `inf`
            and `-inf`; for matrices `"fro"`, `"nuc"`, 1, -1, 2, -2, `inf` and `-inf`.
        x: tensor, array or number.
        keepdims: whether the reduced axes stay, with size 1.

    Raises:
        ValueError: for another `ord`.

    >>> from minikeras import ops
    >>> ops.norm([3.0, 4.0])
    <Tensor shape=() dtype=float32>
    array(5., dtype=float32)
    """
    axis = axes_of(axis)
    if ord is None:
        return _euclidean(x, axis, keepdims)
    x = convert_to_tensor(x)
    if x.data.dtype.kind not in "fc":
        x = cast(x, config.floatx())
    if axis is None:
        axis = tuple(range(x.ndim))
    axes = axis if isinstance(axis, tuple) else (axis,)
    magnitude = elementwise.absolute(x)
    if len(axes) == 1:
        if ord == 2:
            return _euclidean(x, axes, keepdims)
        if ord == 0:
            return sum(cast(elementwise.not_equal(x, 0), x.data.dtype), axes, keepdims)
        if ord in (math.inf, -math.inf):
            return (max if ord > 0 else min)(magnitude, axes, keepdims)
        if isinstance(ord, (int, float)):
            return elementwise.power(sum(elementwise.power(magnitude, ord), axes, keepdims), 1 / ord)
    elif ord == "fro":
        return _euclidean(x, axes, keepdims)
    elif ord in (1, -1, math.inf, -math.inf):
        summed, compared = axes if ord in (1, -1) else axes[::-1]
        y = (max if ord > 0 else min)(sum(magnitude, summed, keepdims=True), compared, keepdims=True)
        if keepdims:
            return y
        return squeeze(y, axes)
    elif ord in (2, -2, "nuc") and len(axes) == 2:
        singular = decompositions.svd(moveaxis(x, axes, (-2, -1)), compute_uv=False)
        y = {2: max, -2: min, "nuc": sum}[ord](singular, -1)
        return expand_dims(y, sorted(shapes.axes_of(axes, x.ndim))) if keepdims else y
    raise ValueError(
        "norm knows ord=None, a number or an infinity for vectors, and 'fro', 'nuc', 1, -1, 2, -2 or an infinity for "
        f"matrices, got ord={ord!r} with axis={axis!r}."
    )


@composite(inputs=1, shape=lambda x, *, offset=0, axis1=0, axis2=1: shapes.reduced(x.shape, (axis1, axis2)))
def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The sum of the diagonal.

    Args:
        x: tensor, array or number.
        offset: which diagonal, above 0 to the right.
        axis1: the rows of the matrices.
        axis2: their columns.

    >>> from minikeras import ops
    >>> ops.trace([[1.0, 2.0], [3.0, 4.0]])
    <Tensor shape=() dtype=float32>
    array(5., dtype=float32)
    """
    return sum(diagonal(x, offset, axis1, axis2), -1)


@composite(inputs=1, shape=shapes.reduction, takes=("x", "weights"))
def average(x: Any, axis: Any = None, weights: Any = None) -> Any:
    """The mean weighted by `weights`, an array of the shape of `x` or of its one axis `axis`.

    >>> from minikeras import ops
    >>> ops.average([1.0, 4.0], weights=[2.0, 1.0])
    <Tensor shape=() dtype=float32>
    array(2., dtype=float32)
    """
    if weights is None:
        return mean(x, axis)
    x, weights = convert_to_tensor(x), convert_to_tensor(weights)
    if weights.ndim == 1 < x.ndim:
        shape = [1] * x.ndim
        shape[axis] = -1
        weights = reshape(weights, shape)
        return elementwise.divide(sum(elementwise.multiply(x, weights), axis), sum(weights))
    return elementwise.divide(sum(elementwise.multiply(x, weights), axis), sum(weights, axis))


@operation(inputs=1, shape=shapes.reduction)
def any(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Whether some value is true (not zero).

    Args:
        x: tensor, array or number.
        keepdims: whether the reduced axes stay, with size 1.

    >>> from minikeras import ops
    >>> ops.any([[True, False], [False, False]], axis=1)
    <Tensor shape=(2,) dtype=bool>
    array([ True, False])
    """
    return k.xp.any(as_array(x), axis=axes_of(axis), keepdims=keepdims)


@operation(inputs=1, shape=shapes.reduction)
def all(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Whether all values are true (not zero).

    Args:
        x: tensor, array or number.
        axis: the axis, or several; by default all.
        keepdims: whether the reduced axes stay, with size 1.

    >>> from minikeras import ops
    >>> ops.all([True, False])
    <Tensor shape=() dtype=bool>
    array(False)
    """
    return k.xp.all(as_array(x), axis=axes_of(axis), keepdims=keepdims)


@operation(inputs=1, shape=shapes.reduction)
def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """The index of the first largest value, int32; with `axis=None` into the flattened array.

    Args:
        x: tensor, array or number.
        keepdims: whether the axis stays, with size 1.

    >>> from minikeras import ops
    >>> ops.argmax([[1.0, 3.0], [2.0, 0.0]], axis=-1)
    <Tensor shape=(2,) dtype=int32>
    array([1, 0], dtype=int32)
    """
    return _place(as_array(x), axis, keepdims, k.xp.argmax)


@operation(inputs=1, shape=shapes.reduction)
def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """The index of the first smallest value, int32; with `axis=None` into the flattened array.

    Args:
        x: tensor, array or number.
        keepdims: whether the axis stays, with size 1.

    >>> from minikeras import ops
    >>> ops.argmin([[1.0, 3.0], [2.0, 0.0]], axis=-1)
    <Tensor shape=(2,) dtype=int32>
    array([0, 1], dtype=int32)
    """
    return _place(as_array(x), axis, keepdims, k.xp.argmin)


def _place(x: Any, axis: int | None, keepdims: bool, find: Any) -> Any:
    """The index of an extreme, by the kernel where that is along the last of several axes of floats."""
    if x.dtype.kind == "f" and x.size and x.ndim > 1 and axis in (-1, x.ndim - 1):
        x = contiguous(x)
        places = k.places_of_largest(x if find is k.xp.argmax else k.transform(x, "negative")).astype("int32")
        return places[..., None] if keepdims else places
    return find(x, axis=axis, keepdims=keepdims).astype("int32")


@operation(inputs=1, shape=shapes.reduction)
def count_nonzero(x: Any, axis: Any = None) -> Any:
    """How many values are not zero, int32.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.count_nonzero([[0, 3], [4, 5]], axis=1)
    <Tensor shape=(2,) dtype=int32>
    array([1, 2], dtype=int32)
    """
    return (as_array(x) != 0).sum(axis=axes_of(axis), dtype="int32")


def _running_type(x: Any) -> Any:
    """Running sums and products have the type of the array, of booleans int32."""
    return np.dtype("int32") if x.dtype.kind == "b" else x.dtype


@differentiable(inputs=1, shape=shapes.running)
def cumsum(x: Any, axis: int | None = None, dtype: Any = None) -> Any:
    """Running sums along an axis, or (None) over the flattened array.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.cumsum([1.0, 2.0, 3.0])
    <Tensor shape=(3,) dtype=float32>
    array([1., 3., 6.], dtype=float32)
    """
    x = as_array(x)
    y = k.xp.cumsum(x, axis=axis, dtype=_running_type(x) if dtype is None else array_type(dtype))

    def vjp(g: Any, needs: Any) -> Any:
        place = 0 if axis is None else axis
        return (k.xp.flip(k.xp.cumsum(k.xp.flip(g, place), axis=place), place).reshape(x.shape).astype(x.dtype),)

    return y, vjp


@differentiable(inputs=1, shape=shapes.running)
def cumprod(x: Any, axis: int | None = None, dtype: Any = None) -> Any:
    """Running products along an axis, or (None) over the flattened array.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.cumprod([1.0, 2.0, 3.0])
    <Tensor shape=(3,) dtype=float32>
    array([1., 2., 6.], dtype=float32)
    """
    x = as_array(x)
    y = k.xp.cumprod(x, axis=axis, dtype=_running_type(x) if dtype is None else array_type(dtype))

    def vjp(g: Any, needs: Any) -> Any:
        rows = x.reshape(-1) if axis is None else k.xp.moveaxis(x, axis, -1)
        gradient = g if axis is None else k.xp.moveaxis(g, axis, -1)
        # later[i] = g[i] + x[i + 1] * later[i + 1]: no division, so zeros do no harm
        later = k.xp.array(gradient, dtype=x.dtype)
        for i in range(later.shape[-1] - 2, -1, -1):
            later[..., i] += rows[..., i + 1] * later[..., i + 1]
        result = _preceding(rows) * later
        return (result.reshape(x.shape) if axis is None else k.xp.moveaxis(result, -1, axis),)

    return y, vjp


@differentiable(inputs=1, shape=shapes.running)
def sort(x: Any, axis: int | None = -1) -> Any:
    """The values in ascending order along an axis, or (None) of the flattened array.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.sort([3.0, 1.0, 2.0])
    <Tensor shape=(3,) dtype=float32>
    array([1., 2., 3.], dtype=float32)
    """
    x = as_array(x)
    rows = x.reshape(-1) if axis is None else x
    along = -1 if axis is None else axis
    order = k.xp.argsort(rows, axis=along, kind="stable")

    def vjp(g: Any, needs: Any) -> Any:
        return (k.xp.take_along_axis(g, k.xp.argsort(order, axis=along), axis=along).reshape(x.shape),)

    return k.xp.take_along_axis(rows, order, axis=along), vjp


@operation(inputs=1, shape=shapes.running)
def argsort(x: Any, axis: int | None = -1) -> Any:
    """The indices that sort along an axis, or (None) the flattened array; int32, equal values in their old order.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.argsort([3.0, 1.0, 2.0])
    <Tensor shape=(3,) dtype=int32>
    array([1, 2, 0], dtype=int32)
    """
    x = as_array(x)
    if axis is None:
        x, axis = x.reshape(-1), -1
    return k.xp.argsort(x, axis=axis, kind="stable").astype("int32")


@operation(inputs=2, shape=shapes.same)
def digitize(x: Any, bins: Any) -> Any:
    """For each value the index of its bin, int32: the number of limits in `bins` (ascending) not above it.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.digitize([0.5, 1.5, 9.0], [1.0, 2.0])
    <Tensor shape=(3,) dtype=int32>
    array([0, 1, 2], dtype=int32)
    """
    return k.xp.digitize(as_array(x), bins).astype("int32")


def _bincount_shape(x: Any, weights: Any = None, *, minlength: int, sparse: bool) -> Any:
    """As many counts as the largest number says, which values tell."""
    if sparse:
        raise ValueError("bincount has no sparse result, got sparse=True; leave sparse at False.")
    whole("minlength", minlength, 0, owner="bincount")
    dtype = "int32" if weights is None else weights.dtype
    if dtype is None:
        raise ValueError("bincount of a symbolic tensor takes weights of a known type, got a list; pass an array.")
    return shapes.Spec((*x.shape[:-1], None), dtype)


@operation(inputs=2, takes=1, shape=_bincount_shape)
def bincount(x: Any, weights: Any = None, minlength: int = 0, sparse: bool = False) -> Any:
    """How often each whole number 0, 1, ... occurs in `x` (n,), or for (batch, n) in each row.

    Args:
        weights: what each occurrence counts, default 1; its type is that of the result, which else is int32.
        minlength: at least that many counts are returned.

    Raises:
        ValueError: for `sparse=True`.

    >>> from minikeras import ops
    >>> ops.bincount([0, 2, 2], minlength=4)
    <Tensor shape=(4,) dtype=int32>
    array([1, 0, 2, 0], dtype=int32)
    """
    if sparse:
        raise ValueError("bincount has no sparse result, got sparse=True; leave sparse at False.")
    dtype = "int32" if weights is None else weights.dtype
    if x.ndim == 1:
        return k.xp.bincount(x, weights=weights, minlength=minlength).astype(dtype)
    length = builtins.max(int(x.max()) + 1 if x.size else 0, minlength)
    rows = counted(x.shape[0]).reshape(-1, 1) * length + x
    weights = None if weights is None else weights.reshape(-1)
    counts = k.xp.bincount(rows.reshape(-1), weights=weights, minlength=x.shape[0] * length)
    return counts.reshape(x.shape[0], length).astype(dtype)
