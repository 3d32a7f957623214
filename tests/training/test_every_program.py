"""Every built-in layer, activation, loss and optimizer as a program: the bits of the layers, and which are native."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import minikeras as keras
from benchmarks import sweep_cases
from minikeras import kernels as k

pytestmark = pytest.mark.skipif(k.active_device() == "numpy", reason="NumPy has no programs")
STEPS = 8  # two more than it takes until there is a program


def trained(name, jit_compile):
    """A case's network after some steps on batches that differ, and everything that they change."""
    keras.utils.set_random_seed(3)
    model, x, y = sweep_cases.network(keras, name, "small")
    model.jit_compile = jit_compile
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step in range(STEPS):
            batch = x if x.dtype.kind == "i" else (x * np.float32(1 - 0.01 * step)).astype(x.dtype)
            model.train_on_batch(batch, y)
    return model, [variable.numpy().tobytes() for variable in [*model.weights, *model.optimizer.variables]]


@pytest.mark.parametrize("name", sweep_cases.CASES)
def test_the_bits_of_the_layers(name):
    model, state = trained(name, "auto")
    assert state == trained(name, False)[1]
    program = model.program()
    assert program.reason is not None or program.kernels
