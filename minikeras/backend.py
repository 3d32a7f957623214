"""Settings, questions about types, and a variable's value, under the names of `keras.backend`."""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras import config
from minikeras.autodiff.symbolic import KerasTensor
from minikeras.autodiff.tensor import Variable
from minikeras.config import (
    backend,
    epsilon,
    floatx,
    image_data_format,
    set_epsilon,
    set_floatx,
    set_image_data_format,
)
from minikeras.ops import common
from minikeras.ops.core import convert_to_numpy
from minikeras.utils.seeds import clear_session

__all__ = [
    "backend",
    "clear_session",
    "epsilon",
    "floatx",
    "get_value",
    "image_data_format",
    "is_float_dtype",
    "is_int_dtype",
    "is_keras_tensor",
    "result_type",
    "set_epsilon",
    "set_floatx",
    "set_image_data_format",
    "set_value",
    "standardize_dtype",
]


def standardize_dtype(dtype: Any) -> str:
    """The name of a number type, such as `"float32"`; None and `float` are `floatx()`, `int` is int32.

    Raises:
        ValueError: for what is no type of numbers.
    """
    if dtype is None or dtype is float:
        return config.floatx()
    if dtype is int:
        return "int32"
    try:
        found = np.dtype(getattr(dtype, "name", dtype))
    except TypeError:
        found = np.dtype(object)
    if found.kind not in "biufc" or (isinstance(dtype, str) and dtype != found.name):
        raise ValueError(f"A dtype is the name of a number type such as 'float32', got {dtype!r}.")
    return found.name


def is_float_dtype(dtype: Any) -> bool:
    """Whether the type is one of floats."""
    return np.dtype(standardize_dtype(dtype)).kind == "f"


def is_int_dtype(dtype: Any) -> bool:
    """Whether the type is one of integers."""
    return np.dtype(standardize_dtype(dtype)).kind in "iu"


def is_keras_tensor(x: Any) -> bool:
    """Whether `x` is a symbolic tensor."""
    return isinstance(x, KerasTensor)


def result_type(*dtypes: Any) -> str:
    """The type that an operation of arrays of these types (or Python's `int` and `float`) computes in."""
    examples = [dtype(0) if dtype in (bool, int, float) else np.empty((), standardize_dtype(dtype)) for dtype in dtypes]
    return common.result_type(*examples).name


# Keras 2 names


def get_value(x: Any) -> Any:
    """The value of a variable or tensor as a NumPy array, of a scalar as a NumPy number."""
    return convert_to_numpy(x)[()]


def set_value(x: Variable, value: Any) -> None:
    """`x.assign(value)`."""
    x.assign(value)
