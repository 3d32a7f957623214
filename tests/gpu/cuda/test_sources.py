"""All sources: that each kernel and each barrier in them is needed by a case, and that NVRTC compiles them."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu import host
from gpu.cuda import check
from gpu.cuda.nvrtc import compiled

from minikeras.kernels import cuda
from minikeras.kernels.cuda import launch

for _module in pkgutil.iter_modules(cuda.__path__):
    importlib.import_module(f"{cuda.__name__}.{_module.name}")
for _file in sorted(Path(__file__).parent.glob("test_*.py")):
    if _file.stem != "test_sources":
        importlib.import_module(f"gpu.cuda.{_file.stem}")

BARRIER = "__syncthreads();"
_FUNCTION = re.compile(r"__device__[^;{]*?(\w+)\(")


def named(source: launch.Source) -> str:
    return source.names[0]


def cases_of(source: launch.Source) -> list[check.Case]:
    return [function for (one, _), function in check.cases.items() if one is source]


def runs(source: launch.Source) -> list[Any]:
    return [check.results(check.gpu, function) for function in cases_of(source)]


@pytest.mark.parametrize("source", launch.sources, ids=named)
def test_every_kernel_is_in_a_case(source: launch.Source) -> None:
    host.launched.clear()
    runs(source)
    assert set(source.names) <= set(host.launched)


def barriers() -> list[Any]:
    return [
        pytest.param(source, place.start(), id=f"{named(source)}-{number}")
        for source in launch.sources
        for number, place in enumerate(re.finditer(re.escape(BARRIER), source.code))
        if _is_reached(source, place.start())
    ]


def _is_reached(source: launch.Source, place: int) -> bool:
    """Whether a barrier is in the source itself, or in what it uses of the prelude and of other parts.

    One that keeps the next call from writing too early is needed where a source itself calls its function again.
    """
    function, after = _FUNCTION.findall(source.code[:place])[-1], source.code[place:].split("\n", 1)[0]
    if place > len(source.code) - len(source.own) or re.search(rf"\b{function}\b", source.own):
        return True
    return "the next call" not in after and function in _used(source)


def _used(source: launch.Source) -> set[str]:
    """The functions before the source itself that are called in it, or by one of these."""
    before = source.code[: len(source.code) - len(source.own)]
    starts = [(found[1], found.start()) for found in _FUNCTION.finditer(before)]
    ends = [start for _, start in starts[1:]] + [len(before)]
    bodies: dict[str, str] = {}
    for (name, start), end in zip(starts, ends, strict=True):
        bodies[name] = bodies.get(name, "") + before[start:end]
    used, texts = set[str](), [source.own]
    while texts:
        text = texts.pop()
        new = {name for name in bodies if re.search(rf"\b{name}\b", text)} - used
        used |= new
        texts += [bodies[name] for name in new]
    return used


@pytest.mark.parametrize(("source", "place"), barriers())
def test_no_barrier_can_be_left_out(source: launch.Source, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = runs(source)
    code = source.code[:place] + source.code[place + len(BARRIER) :]
    monkeypatch.setattr(source, "code", code)
    monkeypatch.setattr(source, "_functions", {})
    with np.errstate(all="ignore"):
        found = [runs(source)]
        with host.backwards():
            found.append(runs(source))
    assert any(not _same_bits(one, expected) for one in found)


def _same_bits(first: Any, second: Any) -> bool:
    if isinstance(first, list):
        return all(map(_same_bits, first, second))
    return first is second is None or first.tobytes() == second.tobytes()


# ---- NVRTC -----------------------------------------------------------------------------------------------------------

BOUNDS = {"registers": 128, "spills": 0, "shared": 48 << 10}
ARCHITECTURES = ("sm_80", "sm_90", "sm_120")
OTHERS = [(dtype, "sm_90") for dtype in ("float16", "bfloat16", "float64")]


@pytest.mark.parametrize(("dtype", "architecture"), [*(("float32", one) for one in ARCHITECTURES), *OTHERS])
@pytest.mark.parametrize("source", launch.sources, ids=named)
def test_compiles(source: launch.Source, dtype: str, architecture: str) -> None:
    kind = np.dtype(check._bfloat16() if dtype == "bfloat16" else dtype)
    code = source.written(kind, **{name: np.dtype("int32") for name in source.types})
    for name, used in compiled(code, launch.OPTIONS, architecture).items():
        print(f"{architecture} {dtype} {name}: {used}")
        for what, most in BOUNDS.items():
            assert used[what] <= most, (name, what, used)
