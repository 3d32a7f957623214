"""Arguments of operations as raw arrays: what Python's numbers, nested lists and NumPy's float64 become."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minikeras import config, tree
from minikeras import kernels as k
from minikeras.autodiff.tensor import Tensor
from minikeras.kernels.arena import current, fixed


def raw(value: Any) -> Any:
    """The raw array behind an operation's argument; numbers and None stay as they are.

    Lists of Python numbers become `floatx()` or int32, as they carry no type of their own.
    """
    if isinstance(value, Tensor):
        return value.data
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return float(value)  # NumPy's float64 scalar is one too, and would turn everything into float64
    if not isinstance(value, k.xp.ndarray):
        array = np.asarray(tree.map_structure(_as_constant, value) if isinstance(value, (list, tuple)) else value)
        of_numbers = not any(hasattr(leaf, "dtype") for leaf in tree.flatten(value))
        if array.dtype in _PYTHON_TYPES and of_numbers:
            types: dict[str, Any] = {"f": config.floatx(), "c": np.result_type(config.floatx(), np.complex64)}
            array = array.astype(types.get(array.dtype.kind, np.int32))
        return fixed(k.to_device(array)) if of_numbers or not np.ndim(value) else k.to_device(array)
    return value if current.recording is None else current.recording.hold(value)


def _as_constant(leaf: Any) -> Any:
    return leaf.numpy() if isinstance(leaf, Tensor) else leaf


_PYTHON_TYPES = (
    np.dtype(np.float64),
    np.dtype(np.int64),
    np.dtype(np.complex128),
)  # what NumPy makes of Python's numbers
PLAIN_TYPES = frozenset((type(None), bool, int, float))  # of arguments that `raw` leaves as they are


def operands(values: Sequence[Any]) -> list[Any]:
    """The raw arrays behind the operands of one operation, as `raw` gives them.

    NumPy's float64 is what it makes of anything that is not told otherwise: beside a tensor, or an array of narrower
    floats, such an array counts as `floatx()` and takes the floats of the others where those are wider.  A float64
    tensor is meant to be one, and then nothing loses digits; float64 arrays alone keep their type.
    """
    arrays = [raw(value) for value in values]
    if any(is_wide(array) for array in arrays):
        settle(values, arrays)
    return arrays


def settle(values: Sequence[Any], arrays: list[Any]) -> None:
    """Give NumPy's float64 arrays among `arrays`, which are those of `values`, the type that `operands` says."""
    dtype = _float_beside([*values, *arrays])
    if dtype is not None:
        for i, array in enumerate(arrays):
            if is_wide(array) and not isinstance(values[i], Tensor):
                arrays[i] = array.astype(dtype, copy=False)


def is_wide(value: Any) -> bool:
    """Whether a value is an array of float64 (or wider)."""
    dtype = getattr(value, "dtype", None)
    return isinstance(dtype, np.dtype) and dtype.kind == "f" and dtype.itemsize >= 8


def _float_beside(values: Sequence[Any]) -> Any:
    """The type that NumPy's float64 takes beside these values; None where it stays."""
    types: list[Any] = []
    for value in values:
        dtype = value.data.dtype if isinstance(value, Tensor) else getattr(value, "dtype", None)
        if isinstance(dtype, str) and dtype != "string":  # of a symbolic tensor
            types.append(np.dtype(dtype))
        elif isinstance(value, Tensor) or (isinstance(dtype, np.dtype) and dtype.kind == "f" and dtype.itemsize < 8):
            types.append(dtype)
    floats = [one for one in types if one is not None and one.kind == "f"]
    return np.result_type(config.floatx(), *floats) if types else None


def settled(arguments: Any) -> Any:
    """A structure of arguments in which NumPy's float64 arrays have the type that `operands` says."""
    dtype = _float_beside(tree.flatten(arguments))
    if dtype is None:
        return arguments
    return tree.map_structure(
        lambda leaf: leaf.astype(dtype, copy=False) if is_wide(leaf) and not isinstance(leaf, Tensor) else leaf,
        arguments,
    )
