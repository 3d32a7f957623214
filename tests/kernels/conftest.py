"""Tests of the reference on NumPy and of the CPU's overrides, whatever the device; tests/gpu has the GPU's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from minikeras import kernels


@pytest.fixture(autouse=True, scope="module")
def on_the_cpu() -> Iterator[None]:
    device = kernels.active_device()
    kernels.use("cpu")
    yield
    kernels.use(device)
