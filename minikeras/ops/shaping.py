"""Rearranging: shapes, joining and splitting, repeating, picking elements by index."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minikeras import kernels as k
from minikeras.autodiff import shapes
from minikeras.autodiff.op import composite, differentiable
from minikeras.autodiff.operands import operands, raw
from minikeras.autodiff.tensor import FLOATS, Tensor
from minikeras.kernels.arena import fixed
from minikeras.kernels.reference.shaping import known_places
from minikeras.ops.common import as_array, as_type, axes_of, counted, result_type, unbroadcast

KERAS_MODULE = "keras.src.ops.numpy"


@differentiable(inputs=1, shape=shapes.reshape)
def reshape(x: Any, newshape: Any) -> Any:
    """The same values in another shape; one size may be -1 (or None) and follows from the others.

    Args:
        x: tensor, array or number.
        newshape: the sizes, one of which may be -1.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.reshape(np.arange(6), (2, -1))
    <Tensor shape=(2, 3) dtype=int64>
    array([[0, 1, 2],
           [3, 4, 5]])
    """
    x = as_array(x)
    return x.reshape(shapes.sizes_of(newshape)), lambda g, needs: (g.reshape(x.shape),)


@differentiable(shape=shapes.ravel)
def ravel(x: Any) -> Any:
    """The values in one axis.

    Args:
        x: tensor, array or number.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.ravel(np.ones((2, 3))).shape
    (6,)
    """
    x = as_array(x)
    return x.reshape(-1), lambda g, needs: (g.reshape(x.shape),)


@differentiable(inputs=1, shape=shapes.transpose)
def transpose(x: Any, axes: Sequence[int] | None = None) -> Any:
    """The axes in another order, by default the reverse.

    Args:
        x: tensor, array or number.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.transpose(np.ones((2, 3))).shape
    (3, 2)
    """
    x = as_array(x)
    if axes is None:
        return x.transpose(), lambda g, needs: (g.transpose(),)
    inverse = np.argsort([axis % x.ndim for axis in axes]).tolist()
    return x.transpose(tuple(axes)), lambda g, needs: (g.transpose(inverse),)


@differentiable(inputs=1, shape=shapes.swapaxes)
def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """Two axes exchanged.

    Args:
        x: tensor, array or number.
        axis1: an axis.
        axis2: the one to exchange it with.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.swapaxes(np.ones((2, 3, 4)), 0, 2).shape
    (4, 3, 2)
    """
    return k.xp.swapaxes(x, axis1, axis2), lambda g, needs: (k.xp.swapaxes(g, axis1, axis2),)


@differentiable(inputs=1, shape=shapes.moveaxis)
def moveaxis(x: Any, source: Any, destination: Any) -> Any:
    """Axes moved from the places `source` to the places `destination`, the others in their order.

    Args:
        x: tensor, array or number.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.moveaxis(np.ones((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    source, destination = axes_of(source), axes_of(destination)
    return k.xp.moveaxis(x, source, destination), lambda g, needs: (k.xp.moveaxis(g, destination, source),)


@differentiable(inputs=1, shape=shapes.expand_dims)
def expand_dims(x: Any, axis: Any) -> Any:
    """New axes of size 1 at these places of the result.

    Args:
        x: tensor, array or number.
        axis: where the new axis stands, or several.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.expand_dims(np.ones((2, 3)), 1).shape
    (2, 1, 3)
    """
    x = as_array(x)
    return k.xp.expand_dims(x, axes_of(axis)), lambda g, needs: (g.reshape(x.shape),)


@differentiable(inputs=1, shape=shapes.squeeze)
def squeeze(x: Any, axis: Any = None) -> Any:
    """Without these axes of size 1, by default without all of them.

    Args:
        x: tensor, array or number.
        axis: the axes of size 1 to drop; default all.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.squeeze(np.ones((1, 3, 1))).shape
    (3,)
    """
    x = as_array(x)
    return x.squeeze(axes_of(axis)), lambda g, needs: (g.reshape(x.shape),)


@differentiable(inputs=1, shape=shapes.broadcast_to)
def broadcast_to(x: Any, shape: Any) -> Any:
    """Repeated to `shape` by the rules of broadcasting.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.broadcast_to([1, 2], (2, 2))
    <Tensor shape=(2, 2) dtype=int32>
    array([[1, 2],
           [1, 2]], dtype=int32)
    """
    x = as_array(x)
    return k.xp.broadcast_to(x, tuple(shape)), lambda g, needs: (unbroadcast(g, x),)


def _common(xs: list[Any]) -> list[Any]:
    """Arrays (or numbers) in their common type.

    Raises:
        ValueError: where there are none.
    """
    if not xs:
        raise ValueError("Arrays to join are missing, got an empty list; pass one or more.")
    xs = [as_array(x) for x in xs]
    dtype = result_type(*xs)
    return [as_type(x, dtype) for x in xs]


@differentiable(sequence=True, shape=shapes.concatenate)
def concatenate(xs: Any, axis: int = 0) -> Any:
    """Arrays joined along an axis that they have.

    Args:
        xs: list of tensors or arrays.

    >>> from minikeras import ops
    >>> ops.concatenate([[1, 2], [3]])
    <Tensor shape=(3,) dtype=int32>
    array([1, 2, 3], dtype=int32)
    """
    xs = _common(xs)
    axis = shapes.place_of(axis, xs[0].ndim)
    ends = np.cumsum([x.shape[axis] for x in xs]).tolist()

    def vjp(g: Any, needs: Any) -> Any:
        return k.split(g, ends[:-1], axis)

    return k.concatenate(xs, axis), vjp


@differentiable(sequence=True, shape=shapes.stack)
def stack(x: Any, axis: int = 0) -> Any:
    """Arrays of one shape joined along a new axis.

    Args:
        x: list of tensors or arrays of one shape.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.stack([np.ones(3), np.zeros(3)]).shape
    (2, 3)
    """
    xs = _common(x)
    count = len(xs)

    def vjp(g: Any, needs: Any) -> Any:
        g = k.xp.moveaxis(g, axis, 0)
        return [g[i] for i in range(count)]

    return k.stack(xs, shapes.place_of(axis, xs[0].ndim + 1)), vjp


@composite(inputs=1, shape=shapes.hstack)
def hstack(xs: Any) -> Any:
    """Arrays joined along their second axis, or along the only one.

    Args:
        xs: list of tensors or arrays.

    >>> from minikeras import ops
    >>> ops.hstack([[1, 2], [3]])
    <Tensor shape=(3,) dtype=int32>
    array([1, 2, 3], dtype=int32)
    """
    xs = _tensors(xs)
    return concatenate(xs, axis=0 if xs[0].ndim == 1 else 1)


@composite(inputs=1, shape=shapes.vstack)
def vstack(xs: Any) -> Any:
    """Arrays joined along their first axis; vectors are rows.

    Args:
        xs: list of tensors or arrays.

    >>> from minikeras import ops
    >>> ops.vstack([[1, 2], [3, 4]])
    <Tensor shape=(2, 2) dtype=int32>
    array([[1, 2],
           [3, 4]], dtype=int32)
    """
    xs = _tensors(xs)
    return stack(xs) if xs[0].ndim == 1 else concatenate(xs)


def _tensors(xs: Any) -> list[Tensor]:
    """Operands of one operation as tensors."""
    xs = list(xs)
    return [x if isinstance(x, Tensor) else Tensor(as_array(a)) for x, a in zip(xs, operands(xs), strict=True)]


@composite(inputs=1, shape=shapes.split)
def split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """A list of parts along an axis: so many equal ones, or cut before these indices.

    Args:
        x: tensor, array or number.
        indices_or_sections: into how many equal parts, or where the cuts are.

    Raises:
        ValueError: where the axis cannot be cut into so many equal parts.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> [part.shape for part in ops.split(np.ones((6, 2)), 3)]
    [(2, 2), (2, 2), (2, 2)]
    """
    is_number = isinstance(indices_or_sections, int)
    return list(_split(x, indices_or_sections if is_number else k.to_host(indices_or_sections).tolist(), axis))


@differentiable(inputs=1)
def _split(x: Any, sections: Any, axis: int) -> Any:
    axis = shapes.place_of(axis, x.ndim)
    size = x.shape[axis]
    if isinstance(sections, int):
        if size % sections:
            raise ValueError(
                f"An axis of size {size} cannot be split into {sections} equal parts; give the indices to cut at."
            )
        bounds = list(range(0, size + 1, size // sections)) if size else [0] * (sections + 1)
    else:
        bounds = [0, *sections, size]
    parts = tuple(x[_along(axis, slice(a, b), x.ndim)] for a, b in itertools.pairwise(bounds))

    def vjp(g: Any, needs: Any) -> Any:
        gradients = [k.xp.zeros_like(part) if one is None else one for one, part in zip(g, parts, strict=True)]
        return (k.concatenate(gradients, axis),)

    return parts, vjp


def _along(axis: int, key: Any, ndim: int) -> tuple:
    """The index that applies `key` to one axis."""
    return (slice(None),) * shapes.place_of(axis, ndim) + (key,)


@differentiable(inputs=1, shape=shapes.like)
def flip(x: Any, axis: Any = None) -> Any:
    """The order along an axis, several axes, or (None) all of them reversed.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.flip([1, 2, 3])
    <Tensor shape=(3,) dtype=int32>
    array([3, 2, 1], dtype=int32)
    """
    axis = axes_of(axis)
    return k.xp.flip(x, axis), lambda g, needs: (k.xp.flip(g, axis),)


@differentiable(inputs=1, shape=shapes.like)
def roll(x: Any, shift: Any, axis: Any = None) -> Any:
    """Shifted along axes (None: in the flattened array); what leaves at one end enters at the other.

    Args:
        x: tensor, array or number.
        shift: by how many places, for each axis.
        axis: the axis, or several; by default over all elements.

    >>> from minikeras import ops
    >>> ops.roll([1, 2, 3], 1)
    <Tensor shape=(3,) dtype=int32>
    array([3, 1, 2], dtype=int32)
    """
    shift, axis = axes_of(shift), axes_of(axis)
    back = tuple(-one for one in shift) if isinstance(shift, tuple) else -shift
    return k.xp.roll(x, shift, axis), lambda g, needs: (k.xp.roll(g, back, axis),)


@differentiable(inputs=1, shape=shapes.repeat)
def repeat(x: Any, repeats: Any, axis: int | None = None) -> Any:
    """Each element `repeats` times (one number, or one for each) along an axis, or (None) of the flattened array.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.repeat([1, 2], 2)
    <Tensor shape=(4,) dtype=int32>
    array([1, 1, 2, 2], dtype=int32)
    """
    rows = as_array(x)
    shape = rows.shape
    if axis is None:
        rows, axis = rows.reshape(-1), 0
    axis = shapes.place_of(axis, rows.ndim)
    size = rows.shape[axis]
    if isinstance(repeats, int):
        copies = (*rows.shape[:axis], size, repeats, *rows.shape[axis + 1 :])
        return k.xp.repeat(rows, repeats, axis), lambda g, needs: (k.total(g.reshape(copies), axis + 1).reshape(shape),)
    counts = np.broadcast_to(k.to_host(repeats), (size,))
    index = fixed(k.to_device(np.repeat(np.arange(size), counts)))
    return k.take(rows, index, axis), lambda g, needs: (_add_along(g, index, rows.shape, axis).reshape(shape),)


@differentiable(inputs=1, shape=shapes.tile)
def tile(x: Any, repeats: Any) -> Any:
    """The whole array repeated so many times along each axis.

    Args:
        x: tensor, array or number.
        repeats: how often, for each axis.

    >>> from minikeras import ops
    >>> ops.tile([1, 2], 2)
    <Tensor shape=(4,) dtype=int32>
    array([1, 2, 1, 2], dtype=int32)
    """
    x = as_array(x)
    repeats = shapes.sizes_of(repeats)
    ndim = max(x.ndim, len(repeats))
    counts = (1,) * (ndim - len(repeats)) + repeats
    sizes = (1,) * (ndim - x.ndim) + x.shape

    def vjp(g: Any, needs: Any) -> Any:
        pairs = [size for pair in zip(counts, sizes, strict=True) for size in pair]
        return (k.total(g.reshape(pairs), tuple(range(0, 2 * ndim, 2))).reshape(x.shape),)

    return k.xp.tile(x, counts), vjp


@differentiable(inputs=1, shape=shapes.pad, takes=("x", "constant_values"))
def pad(x: Any, pad_width: Any, mode: Any = "constant", constant_values: Any = None) -> Any:
    """Values added before and after each axis.

    Args:
        pad_width: a pair (before, after) for each axis, one pair for all, or one number.
        mode: `"constant"`, `"edge"`, `"reflect"` or `"symmetric"`.
        constant_values: the constant, default 0.
        x: tensor, array or number.

    Raises:
        ValueError: for a constant in another mode.

    >>> from minikeras import ops
    >>> ops.pad([1, 2], (1, 2))
    <Tensor shape=(5,) dtype=int32>
    array([0, 1, 2, 0, 0], dtype=int32)
    """
    x = as_array(x)
    widths = [(int(a), int(b)) for a, b in np.broadcast_to(k.to_host(pad_width), (x.ndim, 2))]
    if mode != "constant":
        if constant_values is not None:
            raise ValueError(
                f"pad takes constant_values only with mode='constant', got constant_values={constant_values!r} with "
                f"mode={mode!r}."
            )
        return _selection(x, lambda array: k.xp.pad(array, widths, mode=mode), unique=False)
    inside = tuple(slice(a, a + size) for (a, _), size in zip(widths, x.shape, strict=True))
    y = k.xp.pad(x, widths, mode="constant", constant_values=0 if constant_values is None else raw(constant_values))
    return y, lambda g, needs: (g[inside],)


# ---------------------------------------------------------------- picking elements


def _selection(x: Any, select: Any, unique: bool) -> Any:
    """(y, vjp) of `y = select(x)`, which only picks elements (each at most once where `unique`).

    The gradient goes where the same selection finds the numbers of the elements.
    """
    y = select(x)

    def vjp(g: Any, needs: Any) -> Any:
        places = select(counted(x.size).reshape(x.shape)).reshape(-1)
        gradient = k.filled((x.size,), g.dtype, 0)
        if unique:
            gradient[places] = g.reshape(-1)
        else:
            k.xp.add.at(gradient, places, g.reshape(-1))
        return (gradient.reshape(x.shape),)

    return y, vjp


def _add_along(g: Any, index: Any, shape: tuple[int, ...], axis: int) -> Any:
    """Add the slices of `g` along its axes `axis ... axis + index.ndim` to slices number `index` of zeros."""
    axis %= len(shape)
    before, after = shape[:axis], shape[axis + 1 :]
    rows = g.reshape(math.prod(before), index.size, math.prod(after)).swapaxes(0, 1).reshape(index.size, -1)
    size = shape[axis]
    index = index % size if k.xp is np else k.xp.where(index < 0, index + size, index)  # out of range: added nowhere
    gradient = k.embedding_grad(rows, index, (size, rows.shape[1]))
    return k.xp.moveaxis(gradient.reshape(shape[axis], *before, *after), 0, axis)


@differentiable(inputs=2, shape=shapes.take)
def take(x: Any, indices: Any, axis: int | None = None) -> Any:
    """The slices number `indices` (any shape) along an axis, or (None) elements of the flattened array.

    An index out of range is refused; on a GPU, which would have to be waited for, floats are NaN there.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.take([10, 20, 30], [2, 0])
    <Tensor shape=(2,) dtype=int32>
    array([30, 10], dtype=int32)
    """
    x, indices = as_array(x), as_array(indices)
    if indices.dtype.kind not in "iu":
        indices = indices.astype("int32")
    rows, along = (x.reshape(-1), 0) if axis is None else (x, shapes.place_of(axis, x.ndim))
    y = k.take(rows, indices, along)
    return y, lambda g, needs: (_add_along(g, indices, rows.shape, along).reshape(x.shape), None)


@differentiable(inputs=2, shape=shapes.take_along_axis)
def take_along_axis(x: Any, indices: Any, axis: int | None = None) -> Any:
    """For each line along an axis its own elements, `y[..., i, ...] = x[..., indices[..., i, ...], ...]`.

    An index out of range is refused; on a GPU, which would have to be waited for, floats are NaN there.

    >>> from minikeras import ops
    >>> ops.take_along_axis([[10, 20], [30, 40]], [[1], [0]], axis=1)
    <Tensor shape=(2, 1) dtype=int32>
    array([[20],
           [30]], dtype=int32)
    """
    indices = indices.astype("int64")
    rows = x.reshape(-1) if axis is None else x
    along = 0 if axis is None else axis % x.ndim
    y = k.take_along(rows, indices, along)

    def vjp(g: Any, needs: Any) -> Any:
        if indices.shape[:along] == rows.shape[:along] and indices.shape[along + 1 :] == rows.shape[along + 1 :]:
            return k.add_along(g, indices, rows.shape[along], along).reshape(x.shape), None
        if k.active_device() == "gpu":  # where what an index out of range picked has no gradient
            g = k.xp.where(known_places(indices, rows.shape[along]), g, g.dtype.type(0))
        gradient = k.filled(rows.shape, g.dtype, 0)
        lines = [counted(n).reshape((-1,) + (1,) * (rows.ndim - 1 - i)) for i, n in enumerate(indices.shape)]
        for i, n in enumerate(rows.shape):
            if indices.shape[i] == 1 != n and i != along:  # broadcast against x
                lines[i] = counted(n).reshape((-1,) + (1,) * (rows.ndim - 1 - i))
        lines[along] = indices
        k.xp.add.at(gradient, tuple(lines), g)
        return gradient.reshape(x.shape), None

    return y, vjp


def _is_basic(key: tuple) -> bool:
    return all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in key)


def _known(x: Any, key: tuple, ndim: int) -> Any:
    """Which of the values that arrays pick are there, in as many axes as the result has; None: all, or nobody knows.

    The CPU refuses indices that are out of range; a GPU, which would have to be waited for, takes others.
    """
    if k.active_device() != "gpu" or any(getattr(part, "dtype", x.dtype).kind == "b" for part in key):
        return None
    picking = [place for place, part in enumerate(key) if hasattr(part, "dtype") or isinstance(part, int)]
    axes = len([part for part in key if part is not None and part is not Ellipsis])
    known: Any = None
    axis = before = 0
    for place, part in enumerate(key):
        if hasattr(part, "dtype"):
            one = known_places(part, x.shape[axis])
            known = one if known is None else known & one
        size = x.ndim - axes if part is Ellipsis else 1
        axis += size if part is not None else 0
        before += size if place < picking[0] else 0
    lead = before if picking == list(range(picking[0], picking[-1] + 1)) else 0
    return known.reshape((*known.shape, *[1] * (ndim - lead - known.ndim)))


@differentiable(inputs=1, shape=shapes.get_item, takes=2)
def get_item(x: Any, key: Any) -> Any:
    """`x[key]` with integers, slices, `...`, None, index arrays and boolean masks.

    An index out of range is refused; in an array on a GPU, which would have to be waited for, floats are NaN there.

    >>> from minikeras import ops
    >>> ops.get_item([1, 2, 3], slice(1, None))
    <Tensor shape=(2,) dtype=int32>
    array([2, 3], dtype=int32)
    """
    parts = tuple(_raw_key(part) for part in key) if isinstance(key, tuple) else (_raw_key(key),)
    basic = _is_basic(parts)
    y = x[parts]
    known = None if basic or x.dtype.char not in FLOATS else _known(x, parts, y.ndim)
    if known is not None:
        y = k.xp.where(known, y, y.dtype.type(math.nan))

    def vjp(g: Any, needs: Any) -> Any:
        g = g if known is None else k.xp.where(known, g, g.dtype.type(0))
        gradient = k.filled(x.shape, g.dtype, 0)
        if basic or (len(parts) == 1 and parts[0].dtype.kind == "b"):
            gradient[parts] = g
        else:
            k.xp.add.at(gradient, parts, g)
        return (gradient,)

    return y, vjp


def _raw_key(part: Any) -> Any:
    if isinstance(part, slice):
        return slice(*[bound if bound is None else int(bound) for bound in (part.start, part.stop, part.step)])
    if part is None or part is Ellipsis or isinstance(part, int):
        return part
    if isinstance(part, np.integer):
        return int(part)
    if isinstance(part, list) and not part:
        return k.xp.zeros(0, "int32")
    return raw(part)


# ---------------------------------------------------------------- diagonals and triangles


@differentiable(inputs=1, shape=shapes.diag)
def diag(x: Any, k: int = 0) -> Any:
    """A matrix with the vector `x` on its diagonal number `k`, or that diagonal of the matrix `x`.

    >>> from minikeras import ops
    >>> ops.diag([1, 2])
    <Tensor shape=(2, 2) dtype=int32>
    array([[1, 0],
           [0, 2]], dtype=int32)
    """
    return _diag(as_array(x), k)


def _diag(x: Any, number: int) -> Any:
    if x.ndim == 1:
        return k.xp.diag(x, number), lambda g, needs: (k.xp.diag(g, number),)
    return _selection(x, lambda array: k.xp.diag(array, number), unique=True)


@differentiable(inputs=1, shape=shapes.diagonal)
def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The diagonal of the matrices in two axes, as a new last axis.

    Args:
        x: tensor, array or number.
        offset: which diagonal, above 0 to the right.
        axis1: the rows of the matrices.
        axis2: their columns.

    >>> from minikeras import ops
    >>> ops.diagonal([[1, 2], [3, 4]])
    <Tensor shape=(2,) dtype=int32>
    array([1, 4], dtype=int32)
    """
    return _selection(x, lambda array: k.xp.diagonal(array, offset, axis1, axis2), unique=True)


@differentiable(inputs=1, shape=shapes.like)
def tril(x: Any, k: int = 0) -> Any:
    """The matrices in the last two axes with zeros above diagonal number `k`.

    Args:
        x: tensor, array or number.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.tril(np.ones((2, 2)))
    <Tensor shape=(2, 2) dtype=float64>
    array([[1., 0.],
           [1., 1.]])
    """
    return _triangle("tril", x, k)


@differentiable(inputs=1, shape=shapes.like)
def triu(x: Any, k: int = 0) -> Any:
    """The matrices in the last two axes with zeros below diagonal number `k`.

    Args:
        x: tensor, array or number.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.triu(np.ones((2, 2)))
    <Tensor shape=(2, 2) dtype=float64>
    array([[1., 1.],
           [0., 1.]])
    """
    return _triangle("triu", x, k)


def _triangle(name: str, x: Any, number: int) -> Any:
    cut = getattr(k.xp, name)
    return cut(x, number), lambda g, needs: (cut(g, number),)
