"""Kernels registered from outside the package, on any device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minikeras import kernels as k


@contextmanager
def registered(device: str) -> Iterator[list[str]]:
    """Within this block there are a kernel `gated` and two overrides, which write down when they are used."""
    calls: list[str] = []

    @k.kernel
    def gated(k: Any, x: Any, gate: Any) -> Any:
        """`x * sigmoid(gate)`."""
        return k.xp.multiply(x, k.activate(gate, "sigmoid"))

    @k.override("gemm", device)
    def gemm(k: Any, a: Any, b: Any, ta: bool = False, tb: bool = False, out: Any = None) -> Any:
        calls.append("gemm")
        y = k.xp.matmul(a.T if ta else a, b.T if tb else b)
        if out is None:
            return y
        out[...] = y
        return out

    @k.override("activate", device, when=lambda activation: activation in ("sigmoid", "tanh"))
    def activate(k: Any, x: Any, activation: str, out: Any = None) -> Any:
        calls.append("activate")
        y = k.xp.tanh(x) if activation == "tanh" else 1 / (1 + k.xp.exp(-x))
        if out is None:
            return y
        out[...] = y
        return out

    try:
        yield calls
    finally:
        k.withdraw("activate", device)
        k.withdraw("gemm", device)
        k.withdraw("gated")


def check_use(calls: list[str], to_device: Callable[[Any], Any]) -> None:
    """The active device uses what is registered for it, also inside the reference kernels that are made of it."""
    random = np.random.default_rng(0)

    def both(name: str, *arrays: Any, **options: Any) -> list[str]:
        calls.clear()
        found = getattr(k, name)(*map(to_device, arrays), **options)
        used = list(calls)
        wanted = getattr(k.reference_table(), name)(*arrays, **options)
        if isinstance(found, tuple):
            found, wanted = found[0], wanted[0]
        np.testing.assert_allclose(k.to_host(found), wanted, rtol=1e-12)
        assert calls == used  # the reference is the reference all the way down
        return used

    x, w = random.normal(size=(5, 3)), random.normal(size=(3, 4))
    b = random.normal(size=4).astype("float32")  # so that `dense` is that of the reference, made of others
    assert both("gated", x, x) == ["activate"]
    assert both("dense", x, w, b, activation="tanh") == ["gemm", "activate"]
    assert both("dense", x, w, b, activation="relu") == ["gemm"]
    steps, state = random.normal(size=(2, 6, 3)), np.zeros((2, 1))
    used = set(both("lstm", steps, state, state, w, random.normal(size=(1, 4)), b))
    assert used in ({"gemm", "activate"}, {"gemm"})  # a device's own steps activate by themselves
    geometry = {"strides": (1,), "padding": ((0, 0),), "dilation": (1,)}
    kernel = random.normal(size=(2, 3, 4))
    used = both("conv", steps, kernel, random.normal(size=4), activation="sigmoid", **geometry)
    assert used == ([] if k.active_device() == "gpu" else ["activate"])  # the GPU's has it in its own pass
