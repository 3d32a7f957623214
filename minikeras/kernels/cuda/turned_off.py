"""What a check found wrong on this machine's GPU: the reference serves in its place.

`python -m minikeras doctor` checks everything; a small part of it runs by itself when a device is first used with a
driver.  What fails is kept in the user's cache folder, for the device, its driver and this version of minikeras, and
left out from then on: a kernel of our own by its name, `"cublaslt"` and `"graphs"` for what is no kernel.  Nobody reads
the file where no GPU is used.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

from minikeras.kernels import table
from minikeras.kernels.comparison import Bench, Compared, DeviceLost, Outcome, Watched, causes
from minikeras.kernels.cpu.compiler import store

OTHERS = ("cublaslt", "graphs")  # what is no kernel and can be turned off, the smaller loss first
_FILE = "gpu.json"
_SECONDS = 0.8  # after which the part that runs by itself begins with no other kernel
_PACKAGE = "minikeras.kernels.cuda"

_off: dict[str, str] = {}  # and why
_begun: set[int] = set()  # the numbers of devices that have been looked up in this process


def reason(name: str) -> str | None:
    """Why a kernel or one of `OTHERS` is turned off, or None where it is not."""
    return _off.get(name)


def all_off() -> dict[str, str]:
    """What is turned off, and why."""
    return dict(_off)


def device_of(xp: Any) -> str:
    """The device, its driver and this version, as in `NVIDIA H200, driver 12.8, minikeras 1.0`."""
    runtime = xp.cuda.runtime
    name = runtime.getDeviceProperties(runtime.getDevice())["name"]
    name = name.decode() if isinstance(name, bytes) else name
    return f"{name}, driver {version_text(runtime.driverGetVersion())}, minikeras {store.version()}"


def version_text(number: int) -> str:
    """A version of CUDA's, as in `12.8` for 12080."""
    return f"{number // 1000}.{number % 1000 // 10}"


def begin(xp: Any) -> None:
    """Leave out what is known to be wrong on the device of an array module; where nothing is known, check a little.

    A stand-in for CuPy, which is no module, is nobody's hardware.
    """
    if isinstance(xp, ModuleType):
        begin_on(xp)


def begin_on(xp: Any) -> None:
    """The same for any array module."""
    number = xp.cuda.runtime.getDevice()
    if number in _begun:
        return
    _begun.add(number)
    device = device_of(xp)
    known = _read().get(device)
    if known is not None:
        for name, why in known.items():
            _leave_out(name, why)
        return
    found = quick_check(xp)
    if not found:
        keep(xp)
    for name, why in found.items():
        turn_off(xp, name, why)
        warnings.warn(
            f"On {device} the check at the first use of a GPU found that {name!r} {why}, so the reference serves in "
            "its place from now on; run python -m minikeras doctor, and please report what it prints.",
            stacklevel=4,
        )


def known(xp: Any) -> dict[str, str]:
    """What is kept as turned off on this device, and why."""
    return dict(_read().get(device_of(xp), {}))


def turn_off(xp: Any, name: str, why: str) -> None:
    """Leave a kernel of our own, or one of `OTHERS`, out on this machine, in this process and in others to come."""
    _leave_out(name, why)
    keep(xp)


def turn_on(xp: Any, name: str) -> None:
    """Take that back."""
    _off.pop(name, None)
    table.turn_off(name, "gpu", None)
    keep(xp)


def keep(xp: Any) -> bool:
    """Write down that this device has been checked, and what is turned off; whether a file could be written."""
    return _write({**_read(), device_of(xp): dict(_off)})


def forget() -> bool:
    """Let every device be as if it had never been checked; whether there was anything to forget."""
    try:
        path().unlink()
    except FileNotFoundError:
        return False
    return True


def reset(xp: Any) -> None:
    """Use everything again on this device, as if it had never been checked, and leave the checks to the caller."""
    _begun.add(xp.cuda.runtime.getDevice())
    for name in list(_off):
        table.turn_off(name, "gpu", None)
    _off.clear()
    _write({device: known for device, known in _read().items() if device != device_of(xp)})


def _leave_out(name: str, why: str) -> None:
    _off[name] = why
    if name in table.names():
        table.turn_off(name, "gpu", _PACKAGE)


# ---- the file --------------------------------------------------------------------------------------------------------


def path() -> Path:
    """Where it is kept."""
    return store.folders()[-1] / _FILE


def _read() -> dict[str, dict[str, str]]:
    """What is kept of each device; a file that is damaged is none."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(path().read_text("utf-8"))
        if isinstance(content, dict):
            return {
                device: {name: str(why) for name, why in known.items()}
                for device, known in content.items()
                if isinstance(known, dict)
            }
    return {}


def _write(content: dict[str, dict[str, str]]) -> bool:
    """Whether it could be kept; where not, each process finds out for itself."""
    try:
        path().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path().parent) as temporary:
            new = Path(temporary) / _FILE
            new.write_text(json.dumps(content, indent=1), "utf-8")
            os.replace(new, path())
    except OSError:
        return False
    return True


# ---- the part that runs by itself ------------------------------------------------------------------------------------


def _elementwise(b: Bench) -> None:
    x = b.array(2051, low=-3, high=3)
    b.activate_grad(x, b.activate(x, "tanh"), "tanh")


def _product(b: Bench) -> None:
    b.gemm(b.array(70, 40), b.array(70, 33), ta=True)


def _rows(b: Bench) -> None:
    b.softmax(b.array(33, 70))


def _sum(b: Bench) -> None:
    b.total(b.array(5000))


def _step(b: Bench) -> None:
    b.adam(*(b.array(1031, low=0.1) for _ in range(4)), 0.01, 0.9, 0.99, 1e-7)


def quick_check(xp: Any) -> dict[str, str]:
    """What of a handful of kernels fails, and why: a second at most."""
    start, outcomes = time.perf_counter(), dict[str, Outcome]()
    for case in (_elementwise, _product, _rows, _sum, _step):
        if time.perf_counter() - start > _SECONDS:
            break
        try:
            case(Compared("float32", Watched(xp, "gpu"), outcomes))
        except DeviceLost as lost:
            return {lost.name: lost.reason}
    return {outcome.name: outcome.reason for outcome in causes(outcomes, table.overridden("gpu"))}
