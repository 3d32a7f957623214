"""New arrays: constants, ranges, grids."""

from __future__ import annotations

from typing import Any

from minikeras import kernels as k
from minikeras.autodiff import shapes
from minikeras.autodiff.op import composite, differentiable, operation
from minikeras.autodiff.operands import operands, raw
from minikeras.autodiff.symbolic import KerasTensor
from minikeras.autodiff.tensor import Tensor
from minikeras.kernels.arena import fixed
from minikeras.ops.common import NUMBERS, array_type, as_array, result_type, unbroadcast
from minikeras.ops.core import cast
from minikeras.ops.shaping import broadcast_to, reshape
from minikeras.tracebacks import user_facing

KERAS_MODULE = "keras.src.ops.numpy"


@user_facing
def zeros(shape: Any, dtype: Any = None) -> Tensor:
    """Zeros, by default of type `floatx()`.

    >>> from minikeras import ops
    >>> ops.zeros((2,), dtype="int32")
    <Tensor shape=(2,) dtype=int32>
    array([0, 0], dtype=int32)
    """
    return Tensor(fixed(k.xp.zeros(shape, array_type(dtype))))


@user_facing
def ones(shape: Any, dtype: Any = None) -> Tensor:
    """Ones, by default of type `floatx()`.

    >>> from minikeras import ops
    >>> ops.ones((2,))
    <Tensor shape=(2,) dtype=float32>
    array([1., 1.], dtype=float32)
    """
    return Tensor(fixed(k.xp.ones(shape, array_type(dtype))))


@user_facing
def empty(shape: Any, dtype: Any = None) -> Tensor:
    """An array that is to be filled; its values at first are zeros.

    >>> from minikeras import ops
    >>> ops.empty((2, 3)).shape
    (2, 3)
    """
    return zeros(shape, dtype)


@user_facing
def full(shape: Any, fill_value: Any, dtype: Any = None) -> Tensor:
    """Everywhere `fill_value`, by default of type `floatx()`.

    >>> from minikeras import ops
    >>> ops.full((2,), 7.0)
    <Tensor shape=(2,) dtype=float32>
    array([7., 7.], dtype=float32)
    """
    if isinstance(fill_value, (Tensor, KerasTensor)):  # its gradient stays
        return broadcast_to(cast(fill_value, array_type(dtype)), shape)
    array = k.xp.full(shape, raw(fill_value), array_type(dtype))
    return Tensor(fixed(array) if isinstance(fill_value, NUMBERS) else array)


@operation(inputs=1, shape=shapes.same)
def zeros_like(x: Any, dtype: Any = None) -> Any:
    """Zeros in the shape (and type) of `x`.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.zeros_like(np.array([1.0, 2.0], "float32"))
    <Tensor shape=(2,) dtype=float32>
    array([0., 0.], dtype=float32)
    """
    return k.xp.zeros_like(as_array(x), dtype=None if dtype is None else array_type(dtype))


@operation(inputs=1, shape=shapes.same)
def ones_like(x: Any, dtype: Any = None) -> Any:
    """Ones in the shape (and type) of `x`.

    >>> from minikeras import ops
    >>> ops.ones_like([1, 2])
    <Tensor shape=(2,) dtype=int32>
    array([1, 1], dtype=int32)
    """
    return k.xp.ones_like(as_array(x), dtype=None if dtype is None else array_type(dtype))


@composite(inputs=2, shape=shapes.same)
def full_like(x: Any, fill_value: Any, dtype: Any = None) -> Any:
    """`fill_value` in the shape (and type) of `x`.

    >>> from minikeras import ops
    >>> ops.full_like([1, 2], 7)
    <Tensor shape=(2,) dtype=int32>
    array([7, 7], dtype=int32)
    """
    like = as_array(raw(x))
    return full(like.shape, fill_value, dtype or like.dtype)


@user_facing
def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> Tensor:
    """An (N, M) matrix with ones on diagonal number `k`; `M` is `N` by default.

    >>> from minikeras import ops
    >>> ops.eye(2, 3)
    <Tensor shape=(2, 3) dtype=float32>
    array([[1., 0., 0.],
           [0., 1., 0.]], dtype=float32)
    """
    return _eye(N, M, k, dtype)


def _eye(rows: int, columns: int | None, diagonal: int, dtype: Any) -> Tensor:
    return Tensor(fixed(k.xp.eye(rows, columns, diagonal, dtype=array_type(dtype))))


@user_facing
def identity(n: int, dtype: Any = None) -> Tensor:
    """The (n, n) matrix with ones on its diagonal.

    >>> from minikeras import ops
    >>> ops.identity(2)
    <Tensor shape=(2, 2) dtype=float32>
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    return eye(n, dtype=dtype)


@user_facing
def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> Tensor:
    """The numbers from `start` (0 where only one number is given) to before `stop`, by steps of `step` (1).

    The type is that of the bounds together, for Python's numbers int32 or `floatx()`.

    >>> from minikeras import ops
    >>> ops.arange(2, 8, 3)
    <Tensor shape=(2,) dtype=int32>
    array([2, 5], dtype=int32)
    """
    given = [value for value in (start, stop, step) if value is not None]
    dtype = _common_type(given) if dtype is None else array_type(dtype)
    start, stop, step = [value.item() if hasattr(value, "item") else value for value in (start, stop, step)]
    if stop is None:
        start, stop = 0, start
    return Tensor(fixed(k.xp.arange(start, stop, 1 if step is None else step, dtype=dtype)))


def _common_type(values: list[Any], *others: Any) -> Any:
    """The common type of tensors, arrays and numbers of which a new array is made; NumPy's float64 is `floatx()`."""
    anchor = Tensor(k.xp.zeros((), bool))
    return result_type(*operands([anchor, *values])[1:], *others)


def _linspace_shape(start: Any, stop: Any, *, num: int, axis: int, retstep: bool, **settings: Any) -> Any:
    ends = shapes.broadcast(start, stop)
    place = shapes.place_of(axis, len(ends) + 1)
    values = (*ends[:place], num, *ends[place:])
    return (values, ends) if retstep else values


@composite(inputs=2, shape=_linspace_shape)
def linspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None, axis: int = 0
) -> Any:
    """`num` evenly spaced numbers from `start` to `stop` (to before `stop` without `endpoint`).

    With `retstep` a pair of the numbers and their distance.

    Args:
        axis: where the values run in the result.

    >>> from minikeras import ops
    >>> ops.linspace(0.0, 1.0, 3)
    <Tensor shape=(3,) dtype=float32>
    array([0. , 0.5, 1. ], dtype=float32)
    """
    values = _linspace(start, stop, num=num, endpoint=endpoint, dtype=dtype, axis=axis)
    return (values, cast((stop - start) / _intervals(num, endpoint), values.dtype)) if retstep else values


@differentiable
def _linspace(start: Any, stop: Any, *, num: int, endpoint: bool, dtype: Any, axis: int) -> Any:
    dtype = result_type(start, stop, 0.0) if dtype is None else array_type(dtype)
    values = k.xp.linspace(start, stop, num, endpoint=endpoint, dtype=dtype, axis=axis)
    if isinstance(start, NUMBERS) and isinstance(stop, NUMBERS):
        values = fixed(values)

    def vjp(g: Any, needs: Any) -> Any:
        place = k.xp.arange(num, dtype=g.dtype) / _intervals(num, endpoint)  # from 0 at start to 1 at stop
        g = k.xp.moveaxis(g, axis, -1)
        return (
            unbroadcast((g * (1 - place)).sum(axis=-1), start) if needs[0] else None,
            unbroadcast((g * place).sum(axis=-1), stop) if needs[1] else None,
        )

    return values, vjp


def _intervals(num: int, endpoint: bool) -> int:
    return max(num - 1 if endpoint else num, 1)


def _meshgrid_shape(*x: Any, indexing: str) -> Any:
    sizes = [shapes.size_of(one.shape) for one in x]
    if indexing == "xy":
        sizes[:2] = sizes[1::-1]
    return [tuple(sizes)] * len(x)


@composite(shape=_meshgrid_shape, takes=("x",))
def meshgrid(*x: Any, indexing: str = "xy") -> list[Any]:
    """Vectors as grids: a list of arrays that each vary along one axis of the grid.

    Args:
        indexing: `"ij"`: the first vector varies along the first axis; `"xy"`: along the second.
        x: tensors with one axis.

    Raises:
        ValueError: for another `indexing`.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> [grid.shape for grid in ops.meshgrid(np.arange(2), np.arange(3))]
    [(3, 2), (3, 2)]
    """
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid's indexing must be 'xy' or 'ij', got {indexing!r}.")
    order = list(range(len(x)))
    if indexing == "xy" and len(x) > 1:
        order[:2] = [1, 0]
    vectors = [reshape(one, -1) for one in x]
    shape = [0] * len(x)
    for vector, axis in zip(vectors, order, strict=True):
        shape[axis] = vector.size
    grids = []
    for vector, axis in zip(vectors, order, strict=True):
        grids.append(broadcast_to(reshape(vector, [-1 if i == axis else 1 for i in range(len(x))]), shape))
    return grids
