"""What the programs share: data, fixed weights, and a table of them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

PROGRAMS: dict[str, Callable[[Any], Any]] = {}


def program(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Enter a program into the table."""
    PROGRAMS[function.__name__] = function
    return function


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal float32 values, the same in every run."""
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def classes(n: int, count: int, seed: int = 1) -> np.ndarray:
    """Class numbers, the same in every run."""
    return np.random.default_rng(seed).integers(0, count, n)


def fill(model: Any, seed: int = 2, scale: float = 0.3) -> Any:
    """The model, with weights that follow from the seed; moving variances stay positive."""
    rng = np.random.default_rng(seed)
    model.set_weights([np.abs(rng.normal(size=w.shape) * scale + 0.1).astype(w.dtype) for w in model.get_weights()])
    return model


def raised(function: Callable, *args: Any, **kwargs: Any) -> str:
    """The name of the exception that a call raises."""
    try:
        function(*args, **kwargs)
    except Exception as error:
        return type(error).__name__
    return "nothing"
