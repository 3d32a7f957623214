"""Numbers of two bytes, float16 and bfloat16: operations compute with them in float32 and round the results.

Sums of many of them, and what is small beside one, then cost no digits, and no kernel needs to know the types.  Where
variables are to be used in such a type (`_state.casts`), the operation itself rounds them, so that their gradients stay
in float32.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minikeras import config
from minikeras.autodiff import shapes
from minikeras.autodiff.tape import Needs
from minikeras.autodiff.tensor import FLOATS, Variable, _state
from minikeras.kernels.arena import current

# rules of operations that only move values, which may stay as they are
MOVING = frozenset(
    (shapes.reshape, shapes.ravel, shapes.transpose, shapes.swapaxes, shapes.moveaxis, shapes.expand_dims)
    + (shapes.squeeze,)
)


def in_single(op: Any, function: Callable, values: Sequence[Any], arrays: Sequence[Any]) -> Callable:
    """What computes `function(*arrays, **settings) -> (y, vjp)` where numbers of two bytes may be among the arrays.

    Args:
        op: the operation.
        function: what it is made of.
        values: what it was called with.
        arrays: the raw arrays of these.

    Returns:
        A function of the same arrays; the function itself, where no array is of such numbers.
    """
    if not op.rounds:
        return function
    casts = _state.casts
    cast = False
    types: list[Any] = []  # of each array of floats the type that it has, or that a variable is to have
    for value, array in zip(values, arrays, strict=False):
        dtype = getattr(array, "dtype", None)
        if dtype is None or dtype.char not in FLOATS:
            dtype = None
        elif casts is not None and isinstance(value, Variable) and value.autocast:
            cast, dtype = True, casts
        types.append(dtype)
    if not any([dtype is not None and dtype.itemsize == 2 for dtype in types]) or (op.shape in MOVING and not cast):
        return function
    return functools.partial(_rounded, function, types)


def _rounded(function: Callable, types: list[Any], *arrays: Any, **settings: Any) -> tuple[Any, Callable]:
    """`function` in float32, with its result, and gradients, in the types that they are to have."""
    wide = list(arrays)
    for place, dtype in enumerate(types):
        if dtype is not None and dtype.itemsize == 2:
            wide[place] = arrays[place].astype(dtype, copy=False).astype(np.float32)
    y, vjp = _with_few_bits(function, *wide, **settings)
    narrow = np.dtype(config.result_type(*[dtype.name for dtype in types if dtype is not None]))
    if narrow.itemsize == 2 and not _asks_for_type(function, arrays, settings):
        y = tuple([_to(part, narrow) for part in y]) if type(y) is tuple else _to(y, narrow)

    def rounded(g: Any, needs: Any) -> list[Any]:
        g = tuple([_widened(part) for part in g]) if type(g) is tuple else _widened(g)
        inside = needs
        if needs.out is not Needs.out:
            inside = Needs(needs)
            inside.out = [None if out is None or out.itemsize == 2 else out for out in needs.out]
        gradients = list(_with_few_bits(vjp, g, inside))
        for place, dtype in enumerate(types):
            if dtype is not None and gradients[place] is not None:
                gradients[place] = _to(gradients[place], arrays[place].dtype)
        return gradients

    return y, rounded


def _with_few_bits(function: Callable, *args: Any, **settings: Any) -> Any:
    """Call a function on numbers that a GPU may multiply in TF32, which has no fewer bits than they."""
    outer, current.rounded = current.rounded, True
    try:
        return function(*args, **settings)
    finally:
        current.rounded = outer


def _asks_for_type(function: Callable, arrays: Sequence[Any], settings: dict[str, Any]) -> bool:
    """Whether a call says itself, by an argument `dtype`, of which type the result is to be."""
    code = inspect.unwrap(function).__code__
    names = code.co_varnames[: code.co_argcount]
    given = dict(zip(names, arrays, strict=False)) | settings
    return given.get("dtype") is not None


def _to(array: Any, dtype: Any) -> Any:
    """An array of floats in that type; anything else is itself."""
    if array is None or array.dtype.char not in FLOATS or array.dtype == dtype:
        return array
    with np.errstate(over="ignore"):  # beyond float16 is infinity, which whoever scales a loss looks for
        return array.astype(dtype)


def _widened(g: Any) -> Any:
    return g.astype(np.float32) if g is not None and g.itemsize == 2 else g
