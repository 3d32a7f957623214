"""The same program with real Keras (on JAX) and with minikeras: the same structures, types and numbers."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")

from parity.programs import PROGRAMS  # noqa: E402

import minikeras  # noqa: E402


def plain(value: Any) -> Any:
    """What a program returned, with tensors and NumPy numbers as arrays."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return (tuple if isinstance(value, tuple) else list)(plain(item) for item in value)
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    return np.asarray(value)


def compare(ours: Any, theirs: Any, where: str) -> None:
    """Assert equal structures, types and, to a tolerance, numbers."""
    if isinstance(theirs, np.ndarray):
        assert isinstance(ours, np.ndarray), f"{where}: {ours!r}, expected {theirs!r}"
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), where
        if theirs.dtype.kind == "f":
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4, err_msg=where)
        else:
            np.testing.assert_array_equal(ours, theirs, err_msg=where)
        return
    assert type(ours) is type(theirs), f"{where}: {ours!r}, expected {theirs!r}"
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs) or set(ours) == set(theirs), f"{where}: {list(ours)}, expected {list(theirs)}"
        for key in theirs:
            compare(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs), f"{where}: {ours!r}, expected {theirs!r}"
        for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            compare(a, b, f"{where}/{index}")
    elif isinstance(theirs, float):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4, err_msg=where)
    else:
        assert ours == theirs, f"{where}: {ours!r}, expected {theirs!r}"


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name: str) -> None:
    results = []
    for module in (minikeras, keras):
        module.utils.clear_session()
        module.utils.set_random_seed(0)
        results.append(plain(PROGRAMS[name](module)))
    compare(*results, name)
