"""Kernels: raw arrays in, raw arrays out; no gradients, no layers.

`reference/` writes every kernel once in plain array code that runs on NumPy and on CuPy.  `cpu/` (and `cuda/`, once
there is one) overrides a kernel where a benchmark shows that it pays.  A `Kernels` table has those of one device;
`use(device)` puts its table in this module's place, so callers write `from minikeras import kernels as k` and
`k.dense(...)` and get the best kernel of the active device.  `kernel` and `override` register more of both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy

from minikeras import config
from minikeras.config import cupy_and_device as _cupy
from minikeras.config import gpu_is_there as _gpu_is_there
from minikeras.kernels import reference, table  # noqa: F401  (which registers the kernels)
from minikeras.kernels.arena import Arena  # noqa: F401
from minikeras.kernels.reference.activation import FUSED_ACTIVATIONS, fused_activation  # noqa: F401
from minikeras.kernels.reference.conv import conv_output_length, same_padding  # noqa: F401
from minikeras.kernels.reference.random import blocks_for, random_blocks  # noqa: F401
from minikeras.kernels.table import Kernels, kernel, names, override, reference_table, withdraw  # noqa: F401

_active_device = "cpu"
_active: Kernels | None = None


def use(name: str) -> None:
    """Take the kernels of a device: `"cpu"`, `"gpu"`, or `"auto"` (a GPU where there is one)."""
    global _active_device
    if name == "auto":
        name = "gpu" if _gpu_is_there() else "cpu"
    bind(table_of(name))
    _active_device = name


def table_of(device: str) -> Kernels:
    """The kernels of a device, `"cpu"` or `"gpu"`.

    Raises:
        RuntimeError: for `"gpu"` without CuPy or without a CUDA device.
    """
    return Kernels(_cupy() if device == "gpu" else numpy, device)


def bind(chosen: Kernels) -> None:
    """Let this module's names be those of a table."""
    global _active
    if _active is not None:
        _active.mirror(None)
    _active = chosen
    chosen.mirror(globals())


def version() -> tuple[int, int]:
    """Another value when other kernels have come into use."""
    return id(_active), table.changes


def active_device() -> str:
    """`"cpu"` or `"gpu"`: where the kernels run now."""
    return _active_device


use(config.device())
config.on_device_change(use)

if TYPE_CHECKING:  # what the active table has are names of this module
    xp: Any
    empty: Callable[..., Any]
    to_device: Callable[[Any], Any]
    to_host: Callable[[Any], numpy.ndarray]

    def __getattr__(name: str) -> Any: ...
