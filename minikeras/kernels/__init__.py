"""Kernels: raw arrays in, raw arrays out; no gradients, no layers.

`reference/` writes every kernel once in plain array code that runs on NumPy and on CuPy.  `cpu/` (and `cuda/`, once
there is one) overrides a kernel where a benchmark shows that it pays.  A `Kernels` table has those of one device;
`use(device)` puts its table in this module's place, so callers write `from minikeras import kernels as k` and
`k.dense(...)` and get the best kernel of the active device.  `kernel` and `override` register more of both.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
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
from minikeras.lazy import LazyModule

_archive = LazyModule("minikeras.kernels.cpu.compiler.archive")
_turned_off = LazyModule("minikeras.kernels.cuda.turned_off")

_active_device = "cpu"
_active: Kernels | None = None
_warned = False
_limited = False  # whether CuPy's pool has a limit of ours


def use(name: str) -> None:
    """Take the kernels of a device: `"cpu"`, `"gpu"`, `"numpy"`, or `"auto"` (a GPU where there is one, else the CPU).

    `"numpy"` takes the place of `"cpu"`, with a warning, where there is neither a compiler nor machine code.
    """
    global _active_device, _warned
    if name == "auto":
        name = "gpu" if _gpu_is_there() else "cpu"
    if name == "cpu" and not machine_code_is_there():
        name = "numpy"
        if not _warned:
            _warned = True
            warnings.warn(
                "llvmlite is missing, which compiles kernels, and there is no archive of machine code for this "
                "processor, so NumPy computes everything, more slowly; run pip install numba, name an archive in "
                "MINIKERAS_KERNELS, or set MINIKERAS_DEVICE=numpy to be content with it.",
                stacklevel=2,
            )
    bind(chosen := table_of(name))
    _active_device = name
    if name == "gpu":
        _limit_memory()
        _turned_off.begin(chosen.xp)


def machine_code_is_there() -> bool:
    """Whether the CPU's kernels can be had; an archive that was asked for must be usable."""
    asked = config.kernels() not in ("", "none")
    return (not asked and find_spec("llvmlite") is not None) or _archive.found() is not None


def turned_off(name: str) -> str | None:
    """Why a kernel, or `"graphs"`, is turned off on the GPU in use; None where it is not."""
    return _turned_off.reason(name) if _active_device == "gpu" else None


def _limit_memory() -> None:
    """Let CuPy's pool take no more than was asked for; where nothing was, what CuPy's own variable says stays."""
    global _limited
    limit = config.gpu_memory_limit()
    if _active is None or _active_device != "gpu" or (limit is None and not _limited):
        return
    _limited = limit is not None
    share = {"fraction": float(limit[:-1]) / 100} if isinstance(limit, str) else {"size": limit or 0}
    _active.xp.get_default_memory_pool().set_limit(**share)


def table_of(device: str) -> Kernels:
    """The kernels of a device: `"cpu"`, `"gpu"`, or `"numpy"`, which has those of the reference alone.

    Raises:
        RuntimeError: for `"gpu"` without CuPy or without a CUDA device.
    """
    return Kernels(_cupy() if device == "gpu" else numpy, None if device == "numpy" else device)


def bind(chosen: Kernels) -> None:
    """Let this module's names be those of a table."""
    global _active
    if _active is not None:
        _active.mirror(None)
    _active = chosen
    chosen.mirror(globals())


def active_table() -> Kernels:
    """The table whose names this module has now."""
    assert _active is not None
    return _active


def version() -> tuple[int, int]:
    """Another value when other kernels have come into use."""
    return id(_active), table.changes


def active_device() -> str:
    """`"cpu"`, `"gpu"` or `"numpy"`: whose kernels run now."""
    return _active_device


def _take_kernels() -> None:
    _archive.change()
    use(config.device())


use(config.device())
config.on_device_change(use)
config.on_kernels_change(_take_kernels)
config.on_gpu_memory_limit_change(_limit_memory)

if TYPE_CHECKING:  # what the active table has are names of this module
    xp: Any
    empty: Callable[..., Any]
    to_device: Callable[[Any], Any]
    to_host: Callable[[Any], numpy.ndarray]

    def __getattr__(name: str) -> Any: ...
