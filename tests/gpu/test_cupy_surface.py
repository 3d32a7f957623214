"""Kernels, operations and whole training runs on a stand-in for CuPy: what they use, CuPy has (see `recorder`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpu.recorder import DeviceArray, recording_device
from minikeras import kernels as k
from minikeras import ops, tree
from minikeras.autodiff import Tensor, recording
from minikeras.autodiff.tape import backward
from ops.op_cases import CASES, Case


def _values_and_gradients(case: Case, dtype: str) -> list[Any]:
    """The results of a case and, where it has them, the gradients at its inputs."""
    inputs = [Tensor(k.to_device(value), tracked=True) for value in case.inputs(dtype=dtype)]
    with recording():
        results = tree.flatten(case.call(getattr(ops, case.name), *inputs))
    arrays = [result.data for result in results]
    if case.differentiable:
        for result in results:
            if result.tracked:
                arrays += backward(result, inputs)
    return arrays


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_operations(case: Case, dtype: str) -> None:
    expected = _values_and_gradients(case, dtype)
    with recording_device():
        found = _values_and_gradients(case, dtype)
        assert all(isinstance(array, DeviceArray) for array in found if array is not None)
        hosted = [None if array is None else k.to_host(array) for array in found]
    assert len(hosted) == len(expected)
    for one, other in zip(hosted, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
