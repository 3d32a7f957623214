"""Options and reports of the whole test suite.

`pytest --device gpu` runs the same suite on a GPU, `pytest --device recorder` on a stand-in for CuPy that needs no GPU
but refuses what CuPy refuses (`gpu/recorder.py`).  Tests of real Keras and of CuPy's surface need extra packages
(`pip install '.[parity]'`, `'.[gpu-test]'`); where these are missing a line at the end says what did not run, and with
`MINIKERAS_REQUIRE_PARITY=1` or `MINIKERAS_REQUIRE_CUPY=1` (as in CI) missing packages are an error.

`pytest` alone runs in as many processes as there are cores, `pytest FILE` in one.  `MINIKERAS_SHARE=2/3` runs the
second third of the tests: CI takes another part of them on each further Python.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("KERAS_BACKEND", "jax")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads of several processes only wait for each other
sys.path.append(str(Path(__file__).parent.parent))  # for benchmarks/; last, so that an installed minikeras is tested

_NEEDS = {
    "parity": ("keras", "MINIKERAS_REQUIRE_PARITY", "'.[parity]'"),
    "gpu": ("cupy", "MINIKERAS_REQUIRE_CUPY", "'.[gpu-test]'"),
}
_left_out: dict[str, int] = {}

settings.register_profile("suite", deadline=None, max_examples=25, derandomize=True, print_blob=True)
settings.load_profile("suite")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """The processes that `-n auto` means: one for each core, and none where files are named."""
    named = any(not argument.startswith("-") for argument in config.invocation_params.args)
    return 0 if named else len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pytest_addoption(parser: pytest.Parser) -> None:
    devices = ("cpu", "gpu", "auto", "recorder")
    parser.addoption("--device", default=None, choices=devices, help="where minikeras computes")


def pytest_configure(config: pytest.Config) -> None:
    device = config.getoption("--device") or os.environ.get("MINIKERAS_DEVICE", "cpu")
    os.environ["MINIKERAS_DEVICE"] = "cpu"  # for processes that tests start
    from minikeras import config as settings_of_minikeras

    settings_of_minikeras.disable_traceback_filtering()  # whoever works on minikeras wants to see its lines
    config.option.device = device
    if device == "recorder":
        if importlib.util.find_spec("cupy") is None:
            raise pytest.UsageError("The stand-in asks CuPy for its signatures; run pip install '.[gpu-test]'.")
        from gpu.recorder import take_the_place_of_cupy

        take_the_place_of_cupy()
        device = "gpu"
    try:
        settings_of_minikeras.set_device(device)
    except RuntimeError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_ignore_collect(collection_path, config):  # type: ignore[no-untyped-def]
    folder = next((one for one in collection_path.relative_to(Path(__file__).parent).parts if one in _NEEDS), None)
    if folder is None or not collection_path.name.startswith("test_"):
        return None
    package, required, _ = _NEEDS[folder]
    if importlib.util.find_spec(package) is not None or os.environ.get(required):
        return None
    _left_out[folder] = _left_out.get(folder, 0) + 1
    return True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "MINIKERAS_SHARE" in os.environ:
        share, shares = map(int, os.environ["MINIKERAS_SHARE"].split("/"))
        items[:] = [item for item in items if zlib.crc32(item.nodeid.encode()) % shares == share - 1]
    from minikeras import kernels

    if kernels.active_device() == "gpu" and config.getoption("--device") != "recorder":
        return
    without = [item for item in items if item.get_closest_marker("gpu")]
    if without:
        config.hook.pytest_deselected(items=without)
        items[:] = [item for item in items if not item.get_closest_marker("gpu")]
        _left_out["device"] = len(without)


def pytest_terminal_summary(terminalreporter) -> None:  # type: ignore[no-untyped-def]
    for folder, (package, _, extra) in _NEEDS.items():
        if folder in _left_out:
            terminalreporter.write_line(
                f"{_left_out[folder]} test files in tests/{folder} did not run: {package} is not installed "
                f"(pip install {extra})."
            )
    if "device" in _left_out:
        terminalreporter.write_line(
            f"{_left_out['device']} GPU tests could not run: no CUDA device is in use (--device gpu)."
        )


@pytest.fixture(autouse=True)
def _fresh_names():
    """Automatic layer names start anew in each test, whatever ran before."""
    from minikeras.autodiff.symbolic import reset_names

    reset_names()
