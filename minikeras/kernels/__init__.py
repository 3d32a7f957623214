"""Kernels: raw arrays in, raw arrays out; no gradients, no layers.

`reference/` writes every kernel once in plain array code that runs on NumPy and on CuPy.  `cpu/` (and `cuda/`, once
there is one) overrides a kernel where a benchmark shows that it pays.  `use(device)` binds the names of this module,
so callers write `from minikeras import kernels as k` and `k.dense(...)` and get the best kernel of the active device.
"""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy
import numpy as xp

from minikeras import config
from minikeras.kernels import arena
from minikeras.kernels.arena import Arena, empty
from minikeras.kernels.reference import *  # noqa: F403
from minikeras.kernels.reference import MODULES, REFERENCE, recurrent

__all__ = ["Arena", "active_device", "empty", "to_device", "to_host", "use", "xp", *REFERENCE]

_active_device = "cpu"


def use(name: str) -> None:
    """Bind the kernels of a device: `"cpu"`, `"gpu"`, or `"auto"` (a GPU where there is one)."""
    global xp, _active_device
    if name == "auto":
        name = "gpu" if _gpu_is_there() else "cpu"
    if name == "gpu":
        array_module: ModuleType = _cupy()
        overrides: dict[str, Any] = {}
    else:
        array_module = numpy
        overrides = importlib.import_module("minikeras.kernels.cpu").OVERRIDES
    bind(array_module, overrides)
    _active_device = name


def bind(array_module: Any, overrides: dict[str, Any]) -> None:
    """Point every reference kernel at `array_module` and bind this module's names, overrides first."""
    global xp
    xp = array_module
    for module in (*MODULES, arena):
        module.xp = array_module  # type: ignore[attr-defined]
    globals().update(REFERENCE)
    globals().update(overrides)
    for name in ("dense", "gemm"):  # what other reference kernels are made of: they too get the device's best
        setattr(recurrent, name, globals()[name])


def active_device() -> str:
    """`"cpu"` or `"gpu"`: where the kernels run now."""
    return _active_device


def to_device(array: Any) -> Any:
    """Move a NumPy array to the active device (itself on the CPU)."""
    return array if xp is numpy else xp.asarray(array)


def to_host(array: Any) -> numpy.ndarray:
    """A NumPy array of the same values (itself on the CPU)."""
    return array.get() if hasattr(array, "get") else numpy.asarray(array)


def _gpu_is_there() -> bool:
    if importlib.util.find_spec("cupy") is None:
        return False
    try:
        import cupy

        return cupy.cuda.runtime.getDeviceCount() > 0
    except Exception:  # a broken driver raises several types; "auto" then means the CPU
        return False


def _cupy() -> ModuleType:
    if importlib.util.find_spec("cupy") is None:
        raise RuntimeError(
            "The device 'gpu' was asked for, but CuPy is not installed; run pip install 'minikeras[gpu]' "
            "or choose the device 'cpu'."
        )
    if not _gpu_is_there():
        raise RuntimeError(
            "The device 'gpu' was asked for, but no CUDA device was found; check the driver or choose the device 'cpu'."
        )
    import cupy

    return cupy


use(config.device())
config.on_device_change(use)

if TYPE_CHECKING:  # the kernels are bound by name

    def __getattr__(name: str) -> Any: ...
