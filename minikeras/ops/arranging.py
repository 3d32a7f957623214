"""More ways to join, split, turn and fill arrays, and arrays made of numbers: windows, spaced numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from minikeras import config, tree
from minikeras import kernels as k
from minikeras.autodiff import shapes
from minikeras.autodiff.op import composite, operation
from minikeras.autodiff.tensor import Tensor
from minikeras.ops import elementwise as ew
from minikeras.ops import reduction, shaping
from minikeras.ops.common import array_type, as_array, named
from minikeras.ops.core import cast, convert_to_tensor, copy, unstack
from minikeras.ops.creation import _linspace_shape, linspace, zeros_like
from minikeras.tracebacks import user_facing

KERAS_MODULE = "keras.src.ops.numpy"

# ---------------------------------------------------------------- joining and splitting


def _append_shape(x1: Any, x2: Any, *, axis: int | None = None) -> Any:
    if axis is None:
        x1, x2, axis = shapes.ravel(x1), shapes.ravel(x2), 0
    return shapes.concatenate([x1, x2], axis=axis)


@composite(inputs=2, shape=_append_shape)
def append(x1: Any, x2: Any, axis: int | None = None) -> Any:
    """The values of `x2` after those of `x1` along an axis, or (None) both flattened.

    >>> from minikeras import ops
    >>> ops.append([1, 2], [[3], [4]]).numpy().tolist()
    [1, 2, 3, 4]
    """
    return shaping.concatenate([x1, x2] if axis is not None else [shaping.ravel(x1), shaping.ravel(x2)], axis or 0)


def _columns(x: Any) -> Any:
    return shapes.Spec((*x.shape, 1), x.dtype) if x.ndim == 1 else x


@composite(inputs=1, shape=lambda xs: shapes.concatenate([_columns(x) for x in xs], axis=1), keras="")
def column_stack(xs: Sequence[Any]) -> Any:
    """Arrays joined along their second axis; vectors are columns.

    Args:
        xs: list of tensors or arrays.

    >>> from minikeras import ops
    >>> ops.column_stack([[1, 2], [3, 4]]).numpy().tolist()
    [[1, 3], [2, 4]]
    """
    xs = [convert_to_tensor(x) for x in xs]
    return shaping.concatenate([shaping.expand_dims(x, 1) if x.ndim == 1 else x for x in xs], 1)


def _deep(shape: Any) -> Any:
    """A shape with three axes at least: (n,) as (1, n, 1), (m, n) as (m, n, 1)."""
    return (1, *shape, 1) if len(shape) == 1 else (*shape, *(1,) * (3 - len(shape)))


@composite(inputs=1, shape=lambda xs: shapes.concatenate([shapes.Spec(_deep(x.shape)) for x in xs], axis=2))
def dstack(xs: Sequence[Any]) -> Any:
    """Arrays joined along their third axis; (n,) is (1, n, 1), (m, n) is (m, n, 1).

    Args:
        xs: list of tensors or arrays.

    >>> from minikeras import ops
    >>> ops.dstack([[1, 2], [3, 4]]).numpy().tolist()
    [[[1, 3], [2, 4]]]
    """
    xs = [convert_to_tensor(x) for x in xs]
    return shaping.concatenate([shaping.reshape(x, _deep(x.shape)) for x in xs], 2)


def _cuts(size: int | None, indices_or_sections: Any) -> Any:
    """Where to cut an axis into so many parts whose sizes differ by one at most."""
    if not isinstance(indices_or_sections, int) or size is None:
        return indices_or_sections
    parts, (least, more) = indices_or_sections, divmod(size, indices_or_sections)
    return [least * i + min(i, more) for i in range(1, parts)]


def _array_split_shape(x: Any, *, indices_or_sections: Any, axis: int = 0) -> Any:
    if isinstance(indices_or_sections, int):
        shapes.count_parts(indices_or_sections)
    cuts = _cuts(x.shape[shapes.place_of(axis, x.ndim)], indices_or_sections)
    return shapes.split(x, indices_or_sections=cuts, axis=axis)


@composite(inputs=1, shape=_array_split_shape)
def array_split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """A list of parts along an axis: cut before these indices, or so many whose sizes differ by one at most.

    Args:
        x: tensor, array or number.
        indices_or_sections: into how many equal parts, or where the cuts are.

    >>> from minikeras import ops
    >>> [part.numpy().tolist() for part in ops.array_split([1, 2, 3], 2)]
    [[1, 2], [3]]
    """
    x = convert_to_tensor(x)
    return shaping.split(x, _cuts(x.shape[shapes.place_of(axis, x.ndim)], indices_or_sections), axis)


def _split_along(name: str, least: int, place: Callable[[int], int], example: str) -> Any:
    """A split along an axis that the number of axes tells."""

    def split(x: Any, indices_or_sections: Any) -> list[Any]:
        x = convert_to_tensor(x)
        return shaping.split(x, indices_or_sections, _axis(x.ndim))

    def shape(x: Any, *, indices_or_sections: Any) -> Any:
        return shapes.split(x, indices_or_sections=indices_or_sections, axis=_axis(x.ndim))

    def _axis(ndim: int) -> int:
        if ndim < least:
            raise ValueError(f"{name} takes arrays of {least} axes at least, got {ndim}; use split.")
        return place(ndim)

    call = f"[part.numpy().tolist() for part in ops.{name}({example}, 2)]"
    named(split, name, f"`split` along the axis that {name[0]}stack joins.", call, "[[[[1]]], [[[2]]]]")
    return composite(split, inputs=1, shape=shape)


hsplit = _split_along("hsplit", 1, lambda ndim: min(ndim - 1, 1), "[[[1], [2]]]")
vsplit = _split_along("vsplit", 2, lambda ndim: 0, "[[[1]], [[2]]]")
dsplit = _split_along("dsplit", 3, lambda ndim: 2, "[[[1, 2]]]")


# ---------------------------------------------------------------- turning


@composite(shape=shapes.like)
def fliplr(x: Any) -> Any:
    """The order along the second axis reversed.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.fliplr([[1, 2], [3, 4]]).numpy().tolist()
    [[2, 1], [4, 3]]
    """
    return shaping.flip(x, 1)


@composite(shape=shapes.like)
def flipud(x: Any) -> Any:
    """The order along the first axis reversed.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.flipud([[1, 2], [3, 4]]).numpy().tolist()
    [[3, 4], [1, 2]]
    """
    return shaping.flip(x, 0)


def _rot90_shape(array: Any, *, k: int = 1, axes: Any = (0, 1)) -> Any:
    _check_plane(array, axes)
    return shapes.swapaxes(array, axis1=axes[0], axis2=axes[1]) if k % 2 else array


def _check_plane(array: Any, axes: Any) -> None:
    if array.ndim < 2 or len(axes) != 2 or axes[0] % array.ndim == axes[1] % array.ndim:
        raise ValueError(f"rot90 turns in the plane of two different axes, got axes={axes!r} and {array.ndim} axes.")


@composite(inputs=1, shape=_rot90_shape)
def rot90(array: Any, k: int = 1, axes: Any = (0, 1)) -> Any:
    """Turned `k` times by 90 degrees from the first of two axes towards the second.

    Args:
        array: tensor, array or numbers.

    Raises:
        ValueError: where there are no two different axes.

    >>> from minikeras import ops
    >>> ops.rot90([[1, 2], [3, 4]]).numpy().tolist()
    [[2, 4], [1, 3]]
    """
    array = convert_to_tensor(array)
    _check_plane(array, axes)
    if k % 2:
        array = shaping.swapaxes(array, *axes)
    gone = {0: (), 1: axes[:1], 2: axes, 3: axes[1:]}[k % 4]
    return shaping.flip(array, tuple(gone)) if gone else array


@composite(inputs=1, shape=lambda x, *, k=0: shapes.diag(shapes.ravel(x), k=k))
def diagflat(x: Any, k: int = 0) -> Any:
    """A matrix with all values of `x` on its diagonal number `k`.

    >>> from minikeras import ops
    >>> ops.diagflat([[1], [2]]).numpy().tolist()
    [[1, 0], [0, 2]]
    """
    return shaping.diag(shaping.ravel(x), k)


# ---------------------------------------------------------------- differences and products


def _diff_shape(a: Any, *, n: int = 1, axis: int = -1) -> Any:
    place = shapes.place_of(axis, a.ndim)
    size = a.shape[place]
    return shapes.Spec((*a.shape[:place], None if size is None else max(size - n, 0), *a.shape[place + 1 :]), a.dtype)


@composite(inputs=1, shape=_diff_shape)
def diff(a: Any, n: int = 1, axis: int = -1) -> Any:
    """The differences of neighbours along an axis, `n` times over.

    Args:
        a: tensor, array or numbers.

    >>> from minikeras import ops
    >>> ops.diff([1, 4, 9]).numpy().tolist()
    [3, 5]
    """
    a = convert_to_tensor(a)
    place = shapes.place_of(axis, a.ndim)
    subtract = ew.not_equal if a.data.dtype.kind == "b" else ew.subtract
    for _ in range(n):
        a = subtract(_cut(a, place, slice(1, None)), _cut(a, place, slice(None, -1)))
    return a


def _cut(x: Any, axis: int, part: slice) -> Any:
    return shaping.get_item(x, (slice(None),) * axis + (part,))


@composite(inputs=1, shape=lambda y, *, x=None, dx=1.0, axis=-1: shapes.reduced(y.shape, axis))
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    """The integral of a function along an axis by the trapezoidal rule.

    Args:
        y: its values.
        x: where they are: a vector, or an array of the shape of `y`; default `dx` apart.

    >>> from minikeras import ops
    >>> ops.trapezoid([1.0, 2.0, 3.0]).numpy().tolist()
    4.0
    """
    y = convert_to_tensor(y)
    place = shapes.place_of(axis, y.ndim)
    steps = dx
    if x is not None:
        x = convert_to_tensor(x)
        steps = diff(x, axis=0 if x.ndim == 1 else place)
        steps = shaping.reshape(steps, (-1, *(1,) * (y.ndim - 1 - place))) if x.ndim == 1 else steps
    means = ew.divide(ew.add(_cut(y, place, slice(1, None)), _cut(y, place, slice(None, -1))), 2)
    return reduction.sum(ew.multiply(means, steps), place)


def _cross_shape(x1: Any, x2: Any, *, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: Any = None) -> Any:
    if axis is not None:
        axisa = axisb = axisc = axis
    sizes = (x1.shape[axisa], x2.shape[axisb])
    if any(size not in (2, 3, None) for size in sizes):
        raise ValueError(f"cross takes vectors of 2 or 3 numbers, got {sizes[0]} and {sizes[1]} of them.")
    shape = shapes.broadcast_shapes(shapes.reduced(x1.shape, axisa), shapes.reduced(x2.shape, axisb))
    place = len(shape) + 1 + axisc if axisc < 0 else axisc
    dtype = config.result_type(*[str(x.dtype) for x in (x1, x2) if x.dtype is not None])
    return shapes.Spec(shape if 3 not in sizes else (*shape[:place], 3, *shape[place:]), dtype)


@composite(inputs=2, shape=_cross_shape)
def cross(x1: Any, x2: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Any:
    """The cross products of vectors of 3 numbers, or of 2 and a third that is 0; of 2 and 2 only the third number.

    Args:
        axisa, axisb, axisc: the axes of the vectors in `x1`, in `x2` and in the result.
        axis: one for all three.

    Raises:
        ValueError: for vectors of other sizes.

    >>> from minikeras import ops
    >>> ops.cross([1, 0, 0], [0, 1, 0]).numpy().tolist()
    [0, 0, 1]
    """
    x1, x2 = convert_to_tensor(x1), convert_to_tensor(x2)
    _cross_shape(x1, x2, axisa=axisa, axisb=axisb, axisc=axisc, axis=axis)
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = unstack(x1, axis=axisa), unstack(x2, axis=axisb)
    third = ew.subtract(ew.multiply(a[0], b[1]), ew.multiply(a[1], b[0]))
    if len(a) == len(b) == 2:
        return third
    a, b = [[*part, zeros_like(part[0])][:3] for part in (a, b)]
    pairs = ((1, 2), (2, 0))
    rest = [ew.subtract(ew.multiply(a[i], b[j]), ew.multiply(a[j], b[i])) for i, j in pairs]
    return shaping.stack([*rest, third], axis=axisc)


def _kron_shape(x1: Any, x2: Any) -> Any:
    return tuple(None if None in pair else math.prod(pair) for pair in zip(*_of_one_rank(x1, x2), strict=True))


def _of_one_rank(x1: Any, x2: Any) -> tuple[Any, Any]:
    ndim = max(x1.ndim, x2.ndim)
    return (1,) * (ndim - x1.ndim) + tuple(x1.shape), (1,) * (ndim - x2.ndim) + tuple(x2.shape)


@composite(shape=_kron_shape)
def kron(x1: Any, x2: Any) -> Any:
    """The Kronecker product: for each value of `x1` a block, that value times `x2`.

    >>> from minikeras import ops
    >>> ops.kron([1, 10], [1, 2]).numpy().tolist()
    [1, 2, 10, 20]
    """
    x1, x2 = convert_to_tensor(x1), convert_to_tensor(x2)
    blocks, inner = _of_one_rank(x1, x2)
    x1 = shaping.reshape(x1, [n for size in blocks for n in (size, 1)])
    x2 = shaping.reshape(x2, [n for size in inner for n in (1, size)])
    return shaping.reshape(ew.multiply(x1, x2), [m * n for m, n in zip(blocks, inner, strict=True)])


@composite(inputs=1, shape=lambda x, *, N=None, increasing=False: (*x.shape, x.shape[0] if N is None else N))
def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    """The powers of each value of a vector in a row, from the highest to 0, or from 0 where `increasing`.

    Args:
        N: how many powers, default as many as there are values.
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.vander([2, 3], 3).numpy().tolist()
    [[4, 2, 1], [9, 3, 1]]
    """
    x = convert_to_tensor(x)
    powers = k.xp.arange(x.shape[0] if N is None else N, dtype="int32")
    y = ew.power(shaping.expand_dims(x, -1), powers if increasing else powers[::-1])
    return cast(y, x.data.dtype)


# ---------------------------------------------------------------- choosing


@composite(inputs=3, shape=lambda condlist, choicelist, default=0: shapes.broadcast(*condlist, *choicelist, default))
def select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Any:
    """The value of the first choice whose condition holds, `default` where none does.

    Args:
        condlist: the conditions, of which the first true one decides.
        choicelist: what each of them takes.

    >>> from minikeras import ops
    >>> ops.select([[True, False], [True, True]], [[1, 2], [3, 4]]).numpy().tolist()
    [1, 4]
    """
    if len(condlist) != len(choicelist):
        raise ValueError(f"select takes a choice for each condition, got {len(condlist)} and {len(choicelist)}.")
    y = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        y = ew.where(condition, choice, y)
    return y


@operation(inputs=1, shape=lambda indices, shape: tuple([indices.shape] * len(shape)))
def unravel_index(indices: Any, shape: Any) -> Any:
    """The indices into an array of this shape of what is at these places of the flattened one: one array for each axis.

    >>> from minikeras import ops
    >>> [int(index) for index in ops.unravel_index(5, (2, 3))]
    [1, 2]
    """
    indices = as_array(indices)
    return tuple(index.astype(indices.dtype) for index in k.xp.unravel_index(indices, tuple(shape)))


# ---------------------------------------------------------------- new arrays


@user_facing
def array(x: Any, dtype: Any = None) -> Tensor:
    """A tensor of a number, nested lists or an array, in memory of its own.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.array([1, 2]).numpy().tolist()
    [1, 2]
    """
    return copy(convert_to_tensor(x, dtype))


empty_like = zeros_like  # to be filled; as `empty`, it holds zeros at first


@user_facing
def tri(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Tensor:
    """An (N, M) matrix with ones on and below diagonal number `k`; `M` is `N` by default.

    >>> from minikeras import ops
    >>> ops.tri(2).numpy().tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    return _tri(N, M, k, dtype)


def _tri(rows: int, columns: int | None, diagonal: int, dtype: Any) -> Tensor:
    return Tensor(k.xp.tri(rows, columns, diagonal, dtype=array_type(dtype)))


def _window(name: str, meaning: str, example: str) -> Callable[[Any], Tensor]:
    def window(x: Any) -> Tensor:
        return Tensor(getattr(k.xp, name)(int(x)).astype(config.floatx()))

    call = f"ops.{name}(3).numpy().round(2).tolist()"
    return user_facing(named(window, name, f"{meaning} window of so many values.", call, example))


bartlett = _window("bartlett", "Bartlett's triangular", "[0.0, 1.0, 0.0]")
blackman = _window("blackman", "Blackman's", "[-0.0, 1.0, -0.0]")
hamming = _window("hamming", "Hamming's", "[0.07999999821186066, 1.0, 0.07999999821186066]")
hanning = _window("hanning", "Hann's", "[0.0, 1.0, 0.0]")


@user_facing
def kaiser(x: Any, beta: float) -> Tensor:
    """Kaiser's window of so many values.

    Args:
        x: tensor, array or number.
        beta: the larger, the narrower the window.

    >>> from minikeras import ops
    >>> ops.kaiser(3, 0.0).numpy().tolist()
    [1.0, 1.0, 1.0]
    """
    return Tensor(k.xp.kaiser(int(x), float(beta)).astype(config.floatx()))


def _spaced_shape(start: Any, stop: Any, *, num: int, axis: int, **settings: Any) -> Any:
    return _linspace_shape(start, stop, num=num, axis=axis, retstep=False)


@composite(inputs=2, shape=_spaced_shape)
def logspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, base: Any = 10, dtype: Any = None, axis: int = 0
) -> Any:
    """`base` to the power of `linspace(start, stop)`.

    Args:
        num: how many values.
        endpoint: whether the last value is `stop`.
        axis: the axis, or several; by default all.

    >>> from minikeras import ops
    >>> ops.logspace(0, 2, 3).numpy().tolist()
    [1.0, 10.0, 100.0]
    """
    y = ew.power(base, linspace(start, stop, num, endpoint, axis=axis))
    return y if dtype is None else cast(y, dtype)


@composite(inputs=2, shape=_spaced_shape)
def geomspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0) -> Any:
    """Numbers from `start` to `stop` of which each is the one before it times a constant; both have one sign.

    Args:
        num: how many values.
        endpoint: whether the last value is `stop`.
        axis: the axis, or several; by default all.

    >>> from minikeras import ops
    >>> ops.geomspace(1.0, 100.0, 3).numpy().round(3).tolist()
    [1.0, 10.0, 100.0]
    """
    logarithms = [ew.log10(ew.absolute(one)) for one in (start, stop)]
    sign = ew.sign(linspace(start, stop, num, endpoint, axis=axis))
    y = ew.multiply(sign, logspace(*logarithms, num, endpoint, axis=axis))
    return y if dtype is None else cast(y, dtype)


@user_facing
def vectorize(pyfunc: Callable, *, excluded: Any = None, signature: str | None = None) -> Callable:
    """A function of arrays that calls `pyfunc` for each element of them, broadcast together, and stacks the results.

    Args:
        excluded: places and names of arguments that are passed on as they are.
        signature: which axes a call gets and returns, for example `"(m,n),(n)->(m)"`; default none.

    >>> from minikeras import ops
    >>> ops.vectorize(lambda a, b: ops.maximum(a, b))([1, 5], 3).numpy().tolist()
    [3, 5]
    """
    ranks = [len(re.findall(r"\w+", one)) for one in re.findall(r"\([^)]*\)", (signature or "").split("->")[0])]
    kept = set(excluded or ())

    def vectorized(*args: Any, **kwargs: Any) -> Any:
        given: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}
        taken: dict[Any, Any] = {key: convert_to_tensor(value) for key, value in given.items() if key not in kept}
        missing = [0] * (len(taken) - len(ranks))
        loops = [x.shape[: x.ndim - rank] for x, rank in zip(taken.values(), [*ranks, *missing], strict=True)]
        loop: Any = shapes.broadcast_shapes(*loops)
        rows = {}
        for (key, x), own in zip(taken.items(), loops, strict=True):
            core = x.shape[len(own) :]
            rows[key] = shaping.reshape(shaping.broadcast_to(x, (*loop, *core)), (math.prod(loop), *core))
        results = []
        for i in range(math.prod(loop)):
            one = {**given, **{key: row[i] for key, row in rows.items()}}
            results.append(pyfunc(*[one.pop(place) for place in range(len(args))], **one))
        return tree.map_structure(
            lambda *parts: shaping.reshape(shaping.stack(parts), (*loop, *parts[0].shape)), *results
        )

    return vectorized
