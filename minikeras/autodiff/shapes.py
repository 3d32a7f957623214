"""Shape rules: the symbolic results of operations, computed from shapes; None is an open size.

A rule is called as its operation is, `rule(*inputs, **settings)` with all settings by name, and has a `Spec` in the
place of each input, or None where an optional one is missing.  It returns the shape of the result, a `Spec`, or a list
or tuple of these.  The type of what is given by its shape alone is found by computing with arrays of one element, which
checks the settings too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minikeras import journal, limits, tree
from minikeras import kernels as k
from minikeras.autodiff.symbolic import KerasTensor
from minikeras.autodiff.tape import recording
from minikeras.autodiff.tensor import Tensor

Shape = tuple[int | None, ...]


class Spec:
    """The shape and type of an array; the type of what carries none (Python's numbers, lists of them) is None."""

    __slots__ = ("dtype", "ndim", "shape")

    def __init__(self, shape: Shape, dtype: Any = None):
        self.shape, self.ndim, self.dtype = shape, len(shape), dtype


def spec_of(value: Any) -> Any:
    """What a rule sees of an argument: of None itself, of a list that holds tensors a list."""
    if value is None or isinstance(value, Spec):
        return value
    if hasattr(value, "shape"):
        return Spec(tuple(value.shape), np.dtype(value.dtype))
    if isinstance(value, (list, tuple)) and any(hasattr(leaf, "shape") for leaf in tree.flatten(value)):
        return [spec_of(part) for part in value]
    return Spec(np.shape(value))


def symbols(found: Any, function: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The symbolic tensors that a rule has found for a call of an operation.

    Args:
        found: what the rule returned.
        function: the operation, asked for the types that the rule leaves open.
        args, kwargs: what it is called with.
    """
    leaves = tree.flatten(found)
    if leaves and all(isinstance(leaf, Spec) for leaf in leaves):
        return tree.map_structure(lambda one: KerasTensor(one.shape, one.dtype), found)
    several = not isinstance(found, Spec) and not _is_shape(found)
    results = list(found) if several else [found]
    if not all(isinstance(one, Spec) for one in results):
        with journal.dry_run(), recording(False), np.errstate(all="ignore"):
            values = function(*tree.map_structure(_smallest, args), **tree.map_structure(_smallest, kwargs))
        types = [value.data.dtype for value in (values if several else [values])]
        results = [
            one if isinstance(one, Spec) else Spec(one, dtype) for one, dtype in zip(results, types, strict=True)
        ]
    made = [KerasTensor(one.shape, one.dtype) for one in results]
    return (tuple(made) if isinstance(found, tuple) else made) if several else made[0]


def lend(rule: Callable, inputs: Sequence[Any], settings: dict[str, Any]) -> None:
    """Count what a call with arrays of one element takes, where settings from outside make much of little."""
    numbers = [abs(leaf) for leaf in tree.flatten(settings) if isinstance(leaf, (int, float)) and abs(leaf) > 1]
    if math.prod(numbers) < _FEW:
        return
    small = tree.map_structure(lambda one: one and Spec((1,) * one.ndim, one.dtype), list(inputs))
    try:
        found = rule(*small, **settings)
    except ValueError:  # of the sizes: nothing will be made of them either
        return
    results = tree.flatten(found)
    if not all(isinstance(one, Spec) for one in results):
        results = [found] if _is_shape(found) else list(found)
    for one in results:
        sizes = getattr(one, "shape", one)
        nbytes = 8 * math.prod(size for size in sizes if size is not None)
        limits.lend(nbytes, f"a tensor of shape {limits.shown_sizes(sizes)}")


_FEW = 1 << 16  # elements


def _is_shape(found: Any) -> bool:
    return type(found) is tuple and not any(isinstance(one, (tuple, Spec)) for one in found)


def _smallest(leaf: Any) -> Any:
    """Zeros of the type and with the axes of an array, one element in all; anything else is itself."""
    if isinstance(leaf, (KerasTensor, Tensor)):
        return Tensor(k.xp.zeros((1,) * leaf.ndim, leaf.dtype))
    for module in (k.xp, np):
        if isinstance(leaf, module.ndarray):
            return module.zeros((1,) * leaf.ndim, leaf.dtype)
    return leaf


# ---------------------------------------------------------------- sizes and axes


def size_of(shape: Sequence[int | None]) -> int | None:
    """The number of elements, None where a size is open."""
    return None if None in shape else math.prod(shape)  # type: ignore[arg-type]


def place_of(axis: Any, ndim: int) -> int:
    """An axis counted from the first.

    Raises:
        ValueError: where there is none of that number among `ndim` axes.
    """
    if isinstance(axis, (int, np.integer)) and not isinstance(axis, bool) and -ndim <= axis < ndim:
        return int(axis) % ndim
    raise ValueError(f"There is no axis {axis!r} among {ndim} axes; count from 0, or backwards from -1.")


def axes_of(axis: Any, ndim: int) -> list[int]:
    """One axis, several or (None) all, counted from the first."""
    if axis is None:
        return list(range(ndim))
    return [place_of(one, ndim) for one in (axis if isinstance(axis, (list, tuple)) else [axis])]


def broadcast_shapes(*shapes: Sequence[int | None]) -> Shape:
    """The shape of arrays that broadcast; an open size beside another one is taken for that, beside 1 stays open.

    Raises:
        ValueError: where two sizes differ and none of them is 1.
    """
    result = []
    for sizes in itertools.zip_longest(*[reversed(shape) for shape in shapes], fillvalue=1):
        known = {size for size in sizes if size not in (1, None)}
        if len(known) > 1:
            given = " and ".join(str(tuple(shape)) for shape in shapes)
            raise ValueError(f"Arrays of the shapes {given} cannot be broadcast together; make their sizes equal or 1.")
        result.append(known.pop() if known else None if None in sizes else 1)
    return tuple(reversed(result))


def agree(one: Shape, other: Shape) -> bool:
    """Whether two arrays may be of one shape."""
    return len(one) == len(other) and all(m == n or None in (m, n) for m, n in zip(one, other, strict=True))


def _shape(value: Any) -> Shape:
    """The shape of an input or of a setting; of a list of inputs, of them stacked."""
    if isinstance(value, list):
        value = stack(value)
    return value.shape if hasattr(value, "shape") else np.shape(value)


# ---------------------------------------------------------------- the same sizes


def same(x: Any, *others: Any, **settings: Any) -> Shape:
    """The shape of the first input."""
    return _shape(x)


def like(x: Any, *others: Any, **settings: Any) -> Spec:
    """The shape and the type of the first input."""
    return x


def broadcast(*inputs: Any, **settings: Any) -> Shape:
    """The inputs broadcast together."""
    return broadcast_shapes(*[_shape(x) for x in inputs if x is not None])


# ---------------------------------------------------------------- over axes


def reduced(shape: Shape, axis: Any, keepdims: bool = False) -> Shape:
    """A shape without one axis, several or (None) all of them, or with 1 for them."""
    gone = set(axes_of(axis, len(shape)))
    if keepdims:
        return tuple(1 if i in gone else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in gone)


def reduction(x: Any, *, axis: Any = None, keepdims: bool = False, **settings: Any) -> Shape:
    """One value over the axes."""
    return reduced(_shape(x), axis, keepdims)


def running(x: Any, *, axis: Any = -1, **settings: Any) -> Shape:
    """As many values along the axis; (None) of the flattened array."""
    if axis is None:
        return (size_of(x.shape),)
    place_of(axis, x.ndim)
    return x.shape


# ---------------------------------------------------------------- rearranging


def _fail_reshape(shape: Shape, newshape: Any) -> ValueError:
    return ValueError(
        f"An array of shape {shape} cannot take the shape {tuple(newshape)}; the numbers of values differ."
    )


def sizes_of(value: Any) -> tuple[int, ...]:
    """Sizes given as a number, as a row of them, or as an array or a tensor of them; None is -1."""
    row = value if isinstance(value, (list, tuple)) else np.atleast_1d(k.to_host(value)).tolist()
    return tuple(-1 if n is None else int(n) for n in row)


def reshape(x: Any, *, newshape: Any) -> Spec:
    """The new sizes, of which one may follow from the others."""
    sizes = sizes_of(newshape)
    if sizes.count(-1) > 1:
        raise ValueError(f"Only one size of a new shape may be open, got {sizes}; write the others out.")
    given, known = size_of(x.shape), math.prod(n for n in sizes if n != -1)
    rest: int | None = None
    if given is not None and -1 in sizes:
        if known == 0 or given % known:
            raise _fail_reshape(x.shape, sizes)
        rest = given // known
    elif given is not None and given != known:
        raise _fail_reshape(x.shape, sizes)
    return Spec(tuple(rest if n == -1 else n for n in sizes), x.dtype)


def ravel(x: Any) -> Spec:
    return Spec((size_of(x.shape),), x.dtype)


def transpose(x: Any, *, axes: Any = None) -> Spec:
    """The sizes in the order of `axes`, by default the reverse."""
    order = list(range(x.ndim))[::-1] if axes is None else axes_of(tuple(axes), x.ndim)
    if sorted(order) != list(range(x.ndim)):
        raise ValueError(f"Axes {tuple(axes)} do not name each axis of shape {x.shape} once; name all of them.")
    return Spec(tuple(x.shape[i] for i in order), x.dtype)


def swapaxes(x: Any, *, axis1: int, axis2: int) -> Spec:
    order = list(range(x.ndim))
    one, other = place_of(axis1, x.ndim), place_of(axis2, x.ndim)
    order[one], order[other] = other, one
    return transpose(x, axes=order)


def moveaxis(x: Any, *, source: Any, destination: Any) -> Spec:
    sources, places = axes_of(source, x.ndim), axes_of(destination, x.ndim)
    order = [i for i in range(x.ndim) if i not in sources]
    for place, axis in sorted(zip(places, sources, strict=True)):
        order.insert(place, axis)
    return transpose(x, axes=order)


def expand_dims(x: Any, *, axis: Any) -> Spec:
    ndim = x.ndim + (len(axis) if isinstance(axis, (list, tuple)) else 1)
    new, sizes = set(axes_of(axis, ndim)), iter(x.shape)
    return Spec(tuple(1 if i in new else next(sizes) for i in range(ndim)), x.dtype)


def squeeze(x: Any, *, axis: Any = None) -> Spec:
    """Without axes of size 1; an open size counts as 1 where its axis is named."""
    gone = [i for i, n in enumerate(x.shape) if n == 1] if axis is None else axes_of(axis, x.ndim)
    if any(x.shape[i] not in (1, None) for i in gone):
        raise ValueError(f"Only axes of size 1 can be left out, got axis={axis!r} of an array of shape {x.shape}.")
    return Spec(reduced(x.shape, tuple(gone)), x.dtype)


def broadcast_to(x: Any, *, shape: Any) -> Spec:
    wanted = tuple(int(n) for n in shape)
    pairs = zip(reversed(x.shape), reversed(wanted), strict=False)
    if x.ndim > len(wanted) or any(n not in (1, None, m) for n, m in pairs):
        raise ValueError(f"An array of shape {x.shape} cannot be broadcast to the shape {wanted}.")
    return Spec(wanted, x.dtype)


# ---------------------------------------------------------------- joining and splitting


def _one_rank(xs: Sequence[Any]) -> list[Shape]:
    shapes = [_shape(x) for x in xs]
    if len({len(shape) for shape in shapes}) > 1:
        given = " and ".join(map(str, shapes))
        raise ValueError(f"Arrays to join have the same number of axes, got the shapes {given}.")
    return shapes


def _joined(sizes: Sequence[int | None], shapes: Sequence[Shape]) -> int | None:
    """The size that all arrays have in an axis."""
    known = {size for size in sizes if size is not None}
    if len(known) > 1:
        raise ValueError(
            f"Arrays to join agree in all sizes but that of the axis, got the shapes {' and '.join(map(str, shapes))}."
        )
    return sizes[0]  # open where that of the first array is, as in Keras


def concatenate(xs: Sequence[Any], *, axis: int = 0) -> Shape:
    shapes = _one_rank(xs)
    axis = place_of(axis, len(shapes[0]))
    columns = enumerate(zip(*shapes, strict=True))
    return tuple(
        (None if None in sizes else sum(sizes)) if i == axis else _joined(sizes, shapes)  # type: ignore[arg-type]
        for i, sizes in columns
    )


def stack(x: Sequence[Any], *, axis: int = 0) -> Any:
    shapes = _one_rank(x)
    sizes = [_joined(column, shapes) for column in zip(*shapes, strict=True)]
    sizes.insert(place_of(axis, len(sizes) + 1), len(shapes))
    return tuple(sizes)


def hstack(xs: Sequence[Any]) -> Shape:
    return concatenate(xs, axis=0 if len(_shape(xs[0])) == 1 else 1)


def vstack(xs: Sequence[Any]) -> Shape:
    return stack(xs) if len(_shape(xs[0])) == 1 else concatenate(xs)


def split(x: Any, *, indices_or_sections: Any, axis: int = 0) -> list[Spec]:
    """So many parts; with indices the ends may lie beyond an open size."""
    axis = place_of(axis, x.ndim)
    size, sections = x.shape[axis], indices_or_sections
    if isinstance(sections, int):
        if size is not None and size % sections:
            raise ValueError(
                f"An axis of size {size} cannot be split into {sections} equal parts; give the indices to cut at."
            )
        count_parts(sections)
        sizes = [None if size is None else size // sections] * sections
    else:
        bounds = [0, *(int(n) for n in k.to_host(sections)), size]
        sizes = [None if size is None else len(range(size)[start:end]) for start, end in itertools.pairwise(bounds)]
    return [Spec((*x.shape[:axis], n, *x.shape[axis + 1 :]), x.dtype) for n in sizes]


def unstack(x: Any, *, num: int | None = None, axis: int = 0) -> list[Spec]:
    axis = place_of(axis, x.ndim)
    count = x.shape[axis]
    if count is None and num is None:
        raise ValueError(f"unstack needs to know how many slices shape {x.shape} has along axis {axis}; pass num.")
    if None not in (num, count) and num != count:
        raise ValueError(f"unstack was told num={num}, but the axis has size {count}; leave num at None.")
    parts: Any = num if count is None else count
    count_parts(parts)
    return [Spec(reduced(x.shape, axis), x.dtype)] * parts


def count_parts(number: int) -> None:
    """Count the results of an operation that has so many."""
    limits.spend(number * limits.OBJECT, f"{number} parts of a tensor")


# ---------------------------------------------------------------- repeating


def repeat(x: Any, *, repeats: Any, axis: int | None = None) -> Spec:
    shape = (size_of(x.shape),) if axis is None else x.shape
    axis = 0 if axis is None else place_of(axis, x.ndim)
    size: int | None = shape[axis]
    counts = np.ravel(k.to_host(repeats)) if not isinstance(repeats, int) else np.array([repeats])
    if counts.size != 1:
        if size not in (None, counts.size):
            raise ValueError(f"repeat needs a number for each of {size} elements, got {counts.size} of them.")
        size = int(counts.sum())
    elif size is not None:
        size *= int(counts[0])
    return Spec((*shape[:axis], size, *shape[axis + 1 :]), x.dtype)


def tile(x: Any, *, repeats: Any) -> Spec:
    counts = sizes_of(repeats)
    ndim = max(x.ndim, len(counts))
    sizes, counts = (1,) * (ndim - x.ndim) + x.shape, (1,) * (ndim - len(counts)) + counts
    return Spec(tuple(None if n is None else n * m for n, m in zip(sizes, counts, strict=True)), x.dtype)


def pad(x: Any, *, pad_width: Any, **settings: Any) -> Spec:
    widths = np.broadcast_to(k.to_host(pad_width), (x.ndim, 2)).sum(axis=1).tolist()
    return Spec(tuple(None if n is None else n + m for n, m in zip(x.shape, widths, strict=True)), x.dtype)


# ---------------------------------------------------------------- picking elements


def take(x: Any, indices: Any, *, axis: int | None = None) -> Spec:
    axis = None if axis is None else place_of(axis, x.ndim)
    picked = _shape(indices)
    return Spec(picked if axis is None else (*x.shape[:axis], *picked, *x.shape[axis + 1 :]), x.dtype)


def take_along_axis(x: Any, indices: Any, *, axis: int | None = None) -> Spec:
    if axis is None:
        return Spec((size_of(_shape(indices)),), x.dtype)
    axis = place_of(axis, x.ndim)
    others = broadcast_shapes(reduced(x.shape, axis), reduced(indices.shape, axis))
    return Spec((*others[:axis], indices.shape[axis], *others[axis:]), x.dtype)


def get_item(x: Any, *, key: Any) -> Spec:
    """NumPy's rules: an index takes its axis away, arrays of indices put theirs in the place, masks an open one."""
    parts = list(key) if isinstance(key, tuple) else [key]
    used = sum(_axes_used(part) for part in parts)
    if used > x.ndim:
        raise ValueError(f"An array of shape {x.shape} has too few axes for {used} indices; leave some out.")
    missing = [slice(None)] * (x.ndim - used)
    where = next((i for i, part in enumerate(parts) if part is Ellipsis), None)
    if where is None:
        parts += missing
    else:
        parts[where : where + 1] = missing
        if any(part is Ellipsis for part in parts):
            raise ValueError(f"An index has one ellipsis at most, got {key!r}; write the other one as slices.")
    advanced = any(_is_array(part) for part in parts)
    sizes = iter(x.shape)
    result: list[Any] = []
    places: list[tuple[int, Shape]] = []
    for part in parts:
        if part is None:
            result.append(1)
        elif isinstance(part, slice):
            result.append(_sliced(next(sizes), part))
        elif not _is_array(part) and not advanced:
            _check_index(int(part), next(sizes), x.shape)
        else:
            for _ in range(_axes_used(part)):
                next(sizes)
            places.append((len(result), _picked(part)))
            result.append(...)
    if places:
        first, last = places[0][0], places[-1][0]
        together = last - first == len(places) - 1  # else NumPy puts their axes first
        picked = broadcast_shapes(*[shape for _, shape in places])
        rest = [n for n in result if n is not ...]
        at = first if together else 0
        result = [*rest[:at], *picked, *rest[at:]]
    return Spec(tuple(result), x.dtype)


def _is_array(part: Any) -> bool:
    return isinstance(part, list) or (hasattr(part, "shape") and not isinstance(part, np.generic))


def _is_mask(part: Any) -> bool:
    if isinstance(part, list):
        return bool(part) and all(isinstance(leaf, bool) for leaf in tree.flatten(part))
    return hasattr(part, "dtype") and str(part.dtype) == "bool"


def _axes_used(part: Any) -> int:
    if part is None or part is Ellipsis:
        return 0
    return len(_shape(part)) if _is_mask(part) else 1


def _picked(part: Any) -> Shape:
    """The axes that an index among arrays of indices puts in the place of its own."""
    return (None,) if _is_mask(part) else np.shape(part) if isinstance(part, list) else _shape(part)


def _check_index(index: int, size: int | None, shape: Shape) -> None:
    if size is not None and not -size <= index < size:
        raise ValueError(f"Index {index} lies outside of an axis of size {size} of an array of shape {shape}.")


def _sliced(size: int | None, part: slice) -> int | None:
    bounds = [None if bound is None else int(bound) for bound in (part.start, part.stop, part.step)]
    if size is None:
        return None
    return len(range(size)[slice(*bounds)])


# ---------------------------------------------------------------- diagonals


def diag(x: Any, *, k: int = 0) -> Spec:
    if x.ndim == 2:
        return diagonal(x, offset=k)
    size = None if x.shape[0] is None else x.shape[0] + abs(k)
    return Spec((size, size), x.dtype)


def diagonal(x: Any, *, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Spec:
    rows, columns = (x.shape[place_of(axis, x.ndim)] for axis in (axis1, axis2))
    size: int | None = None
    if rows is not None and columns is not None:
        size = max(min(rows + min(offset, 0), columns - max(offset, 0)), 0)
    return Spec((*reduced(x.shape, (axis1, axis2)), size), x.dtype)


# ---------------------------------------------------------------- products


def _contracted(one: int | None, other: int | None, left: Shape, right: Shape) -> None:
    if None not in (one, other) and one != other:
        raise ValueError(
            f"A product sums over axes of equal size, got {one} and {other} of the shapes {left} and {right}; "
            "transpose or reshape one of them."
        )


def matmul(x1: Any, x2: Any) -> Shape:
    left, right = _shape(x1), _shape(x2)
    if not left or not right:
        raise ValueError(f"matmul takes arrays with axes, got the shapes {left} and {right}; use multiply.")
    a = (1, *left) if len(left) == 1 else left
    b = (*right, 1) if len(right) == 1 else right
    _contracted(a[-1], b[-2], left, right)
    rows, columns = a[-2:-1] if len(left) > 1 else (), b[-1:] if len(right) > 1 else ()
    return (*broadcast_shapes(a[:-2], b[:-2]), *rows, *columns)


def tensordot(x1: Any, x2: Any, *, axes: Any = 2) -> Shape:
    left, right = _shape(x1), _shape(x2)
    if isinstance(axes, int):
        if axes > min(len(left), len(right)):
            raise ValueError(f"A product over {axes} axes needs as many, got the shapes {left} and {right}.")
        summed1, summed2 = list(range(len(left) - axes, len(left))), list(range(axes))
    else:
        summed1, summed2 = axes_of(axes[0], len(left)), axes_of(axes[1], len(right))
    for i, j in zip(summed1, summed2, strict=True):
        _contracted(left[i], right[j], left, right)
    return reduced(left, tuple(summed1)) + reduced(right, tuple(summed2))


def dot(x1: Any, x2: Any) -> Shape:
    left, right = _shape(x1), _shape(x2)
    if not left or not right:
        return left or right
    return tensordot(x1, x2, axes=[-1, -1 if len(right) == 1 else -2])


def inner(x1: Any, x2: Any) -> Shape:
    left, right = _shape(x1), _shape(x2)
    return tensordot(x1, x2, axes=[-1, -1]) if left and right else left or right


def outer(x1: Any, x2: Any) -> Shape:
    return size_of(_shape(x1)), size_of(_shape(x2))


def scalar(*inputs: Any, **settings: Any) -> Shape:
    """One value."""
    return ()
