"""Overrides that are wrong in one way or another, in the place of the package's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from minikeras.kernels import table
from minikeras.kernels.cuda import launch

_SOURCE = launch.Source(
    """
__global__ void spoilt(const T* x, T* y, whole n) {
  EACH(i, n) y[i] = i == 7 ? T(1.5f) : x[i];
}
"""
)
launch.sources.remove(_SOURCE)  # it is nobody's


def wrong_numbers(k: Any, x: Any, activation: Any, out: Any) -> Any:
    """From a kernel of the device."""
    out = k.empty(x.shape, x.dtype) if out is None else out
    launch.launch(k, _SOURCE, "spoilt", x.dtype, launch.each(x.size), launch.THREADS, (x, out, x.size))
    return out


def refused(k: Any, x: Any, activation: Any, out: Any) -> Any:
    """As by a driver that is too old."""
    raise RuntimeError("the driver has no such instruction\nand says much more")


@contextmanager
def activate(does: Callable[..., Any]) -> Iterator[None]:
    """Within this block it is what the package has for `activate`."""

    def activate(k: Any, x: Any, activation: Any, out: Any = None) -> Any:
        return does(k, x, activation, out)

    activate.__module__ = "minikeras.kernels.cuda.activation"
    table.override("activate", "gpu", when=launch.contiguous_numbers("x"))(activate)
    try:
        yield
    finally:
        table.turn_off("activate", "gpu", None)
        table.withdraw("activate", "gpu")
