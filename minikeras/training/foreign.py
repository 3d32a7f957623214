"""Arrays and tables of other libraries become arrays: told by what they offer, so that none of them is imported."""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras import config
from minikeras import kernels as k

_CPU = (1, 3)  # kLDCPU and kDLCUDAHost, DLPack's names for memory that the processor reads


def is_array_like(value: Any) -> bool:
    """Whether `value` is one array or table rather than a source of batches."""
    return hasattr(value, "__array__") or hasattr(value, "__dlpack__") or is_table(value) or hasattr(value, "toarray")


def is_table(value: Any) -> bool:
    """Whether `value` has named columns, as a pandas or polars DataFrame or a pyarrow Table has them."""
    return _column_names(value) is not None


def as_array(value: Any, role: str) -> Any:
    """The array behind anything that `is_array_like`, on the host or, where it lies on the active device, there.

    A table's columns become the columns of one array; a column of its own (a Series) becomes an array of one column.

    Raises:
        ValueError: for columns that do not hold numbers, or an array on a device that is not the active one.
    """
    if is_table(value):
        return _table(value, role)
    if hasattr(value, "toarray"):  # sparse
        value = value.toarray()
    if hasattr(value, "detach"):  # a tensor that may have a gradient
        value = value.detach()
    if _is_elsewhere(value):
        return _from_device(value, role)
    if not hasattr(value, "__array__"):
        return np.from_dlpack(value)
    try:
        array = np.asarray(value)
    except TypeError:
        if not hasattr(value, "float"):
            raise
        array = np.asarray(value.float())  # bfloat16, which NumPy does not know
    if hasattr(value, "iloc") and role != "sample_weight":
        return _numbers(array, value, role, None)[:, None]
    return _numbers(array, value, role, None) if array.dtype == object else array


def _is_elsewhere(value: Any) -> bool:
    """Whether the processor cannot read the array's memory."""
    if not hasattr(value, "__dlpack_device__"):
        return False
    try:
        return int(value.__dlpack_device__()[0]) not in _CPU
    except (TypeError, BufferError):  # not for DLPack: words, bits, gaps; older pyarrow says so when asked
        return False


def _from_device(value: Any, role: str) -> Any:
    if k.xp is not np:
        return k.xp.from_dlpack(value)
    if hasattr(value, "cpu"):
        return as_array(value.cpu(), role)
    problem = f"{role} lies on another device, got a {type(value).__name__} while minikeras computes on the CPU"
    raise ValueError(f"{problem}; copy it to the host.")


def _column_names(value: Any) -> list[Any] | None:
    if _is_arrow(value):
        return list(value.column_names)
    names = getattr(value, "columns", None) if hasattr(value, "dtypes") else None  # a Series has none
    return None if names is None or callable(names) else list(names)


def _is_arrow(value: Any) -> bool:
    return hasattr(value, "column_names") and hasattr(value, "schema") and hasattr(value, "column")


def _table(table: Any, role: str) -> np.ndarray:
    names = _column_names(table) or []
    if not names:
        raise ValueError(f"{role} has no columns, got an empty {type(table).__name__}.")
    columns = []
    for place, name in enumerate(names):
        if hasattr(table, "iloc"):  # pandas, where names may be equal
            column = table.iloc[:, place]
        else:
            column = table.column(place) if _is_arrow(table) else table[name]
        columns.append(_numbers(np.asarray(column), column, role, name))
    dtype = np.result_type(*columns)
    return np.stack([column.astype(dtype, copy=False) for column in columns], axis=1)


def _numbers(array: np.ndarray, column: Any, role: str, name: Any) -> np.ndarray:
    """The array, if it holds numbers or, among numbers, missing values (which become NaN)."""
    if array.dtype.kind in "fiub":
        return array
    kind = str(getattr(column, "dtype", getattr(column, "type", array.dtype)))
    if array.dtype == object and not any(isinstance(value, (str, bytes)) for value in array.ravel()):
        try:
            if hasattr(column, "iloc"):
                return column.to_numpy(dtype=config.floatx(), na_value=np.nan)
            return np.array([np.nan if value is None else value for value in array.tolist()], config.floatx())
        except (TypeError, ValueError):
            pass
    elif array.dtype == object:
        kind = "str"
    where = "" if name is None else f"column {name!r} "
    raise ValueError(f"{role} must hold numbers, got {where}an array of type {kind}; encode it first.")
