"""Strings as data: NumPy arrays of objects (str or bytes), which stay on the host and which few layers take.

A tensor of strings holds such an array; the type of a symbolic one is `"string"`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras import config

_KINDS = "OSTU"  # of NumPy's types that may hold strings


def is_text(value: Any) -> bool:
    """Whether a raw array, or what holds one, is of a type for strings or objects; they are not looked at."""
    return getattr(getattr(value, "dtype", None), "kind", "f") in _KINDS


def strings_in(value: Any) -> np.ndarray | None:
    """A string, a list (also nested) or an array of them as an array of objects; None where there are others too."""
    if is_text(value):
        array = np.asarray(value)
        if array.dtype.kind != "O":
            return array.astype(object)
    else:
        leaf = value
        while isinstance(leaf, (list, tuple)) and leaf:
            leaf = leaf[0]
        if not isinstance(leaf, (str, bytes)):
            return None
        array = np.array(value, dtype=object)  # not NumPy's own strings, which are all as long as the longest
    return array if all(isinstance(one, (str, bytes)) for one in array.flat) else None


def type_name(dtype: Any) -> str:
    """What `config.standardize_dtype` says, or `"string"` for the type of strings."""
    text = dtype is str or (dtype == "string" if isinstance(dtype, str) else getattr(dtype, "kind", "f") in _KINDS)
    return "string" if text else config.standardize_dtype(dtype)
