"""What a machine is and has, in lines for people: versions, processor, threads, folders, GPU."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from minikeras import config
from minikeras.kernels.cpu import warmup
from minikeras.kernels.cpu.compiler import archive, processor, store
from minikeras.kernels.cpu.compiler.team import team
from minikeras.kernels.cuda.turned_off import version_text

PACKAGES = ("numpy", "numba", "llvmlite", "h5py", "ml_dtypes", "scipy", "pandas", "Pillow", "scikit-learn")
VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_CACHE_DIR", "CUDA_VISIBLE_DEVICES")
CUPY = ("cupy-cuda13x", "cupy-cuda12x", "cupy")


def versions() -> str:
    """Of minikeras, Python and the system."""
    return f"minikeras {store.version()}, Python {platform.python_version()}, {platform.platform()}"


def packages() -> str:
    """The versions of what is installed that minikeras uses."""
    found = [f"{name} {_version(name)}" for name in PACKAGES if _version(name)]
    blas = _told(lambda: np.show_config(mode="dicts")["Build Dependencies"]["blas"])  # type: ignore[index, call-overload]
    return ", ".join(found) + (f"; BLAS {blas['name']} {blas['version']}" if isinstance(blas, dict) else "")


def cpu() -> str:
    """The processor, what of its vectors is used, the cores and the team of threads."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    has = " ".join(sorted(processor.features())) or "nobody knows what it has"
    return f"{_told(processor.model)}, {cores} cores, {team.size} threads; {has}"


def machine_code() -> str:
    """Where that of the CPU's kernels comes from."""
    if importlib.util.find_spec("llvmlite") is None:
        made = archive.found()
        return f"from {made.path}" if made is not None else "none: llvmlite is missing and there is no archive of it"
    if archive.active() is not None:
        return f"from {archive.active().path}"  # type: ignore[union-attr]
    folder = warmup.folder_of_code()
    if folder is None:
        return "cannot be kept, each process compiles anew: no folder is writable, set NUMBA_CACHE_DIR to one that is"
    kept = [path.stat().st_size for path in folder.glob("*.code")]
    return f"{len(kept)} functions, {sum(kept) / 1e6:.1f} MB, in {folder}"


def settings() -> str:
    """Variables of the environment that change what is computed where."""
    names = [*sorted(name for name in os.environ if name.startswith("MINIKERAS_")), *VARIABLES]
    return ", ".join(f"{name}={os.environ[name]}" for name in names if name in os.environ) or "none"


def why_no_gpu() -> str:
    """Why no GPU is used, or nothing where one can be."""
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed (pip install 'minikeras[gpu]', or [gpu-cuda12])"
    if not config.driver_is_there():
        return f"CuPy {_cupy_version()} is installed, but there is no CUDA driver (libcuda)"
    if not config.gpu_is_there():
        why = _told(lambda: importlib.import_module("cupy").cuda.runtime.getDeviceCount())
        return f"CuPy {_cupy_version()} and a driver are installed, but no device is found: {why}"
    return ""


def gpu(xp: Any) -> list[str]:
    """The device, its memory, the driver, and the libraries that CuPy has loaded."""
    runtime = xp.cuda.runtime
    told = runtime.getDeviceProperties(runtime.getDevice())
    name = told["name"].decode() if isinstance(told["name"], bytes) else told["name"]
    free, total = runtime.memGetInfo()
    limit = config.gpu_memory_limit()
    return [
        f"{name}, compute capability {told['major']}.{told['minor']}, {told['multiProcessorCount']} multiprocessors, "
        f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free, limit {'none' if limit is None else limit}",
        f"driver for CUDA {version_text(runtime.driverGetVersion())}, runtime "
        f"{version_text(runtime.runtimeGetVersion())}, CuPy {_cupy_version()}, NVRTC "
        f"{_told(lambda: '.'.join(map(str, xp.cuda.nvrtc.getVersion())))}, cuBLAS {_told(lambda: _cublas(xp))}",
    ]


def _cublas(xp: Any) -> str:
    number = xp.cuda.cublas.getVersion(xp.cuda.device.get_cublas_handle())
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def _cupy_version() -> str:
    return next((found for name in CUPY if (found := _version(name))), "of an unknown version")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _told(ask: Callable[[], Any]) -> Any:
    """What a library says, or what it says instead."""
    try:
        return ask()
    except Exception as error:
        return f"unknown ({type(error).__name__}: {error})".split("\n")[0]
