"""Compiled functions: the translator agrees with Numba, files keep code, and nothing damaged is ever run."""

from __future__ import annotations

import ctypes
import math
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from team_cases import in_threads

from minikeras.kernels.cpu.compiler import (
    FAST,
    CFunction,
    compiled,
    doubles,
    floats,
    inner,
    loader,
    numbers,
    octets,
    store,
    words,
)
from minikeras.kernels.cpu.compiler.machine import load
from minikeras.kernels.cpu.compiler.translate import Module, Untranslatable
from minikeras.kernels.cpu.warmup import kernels

THREE = 3
HALF = np.float32(0.5)


def both(function: CFunction) -> list[Any]:
    """The function as the translator makes it and as Numba does."""
    kinds = [ctypes.c_int64] * len(function.signature.parameters)
    result = ctypes.c_int64 if function.signature.result == "int64" else None
    made = []
    for compiler in (function.translate, function.compile_with_numba):
        for called in function.calls():
            loader.offer(called.symbol, called.address)
        made.append(ctypes.CFUNCTYPE(result, *kinds)(loader.load(compiler())))
    return made


# ---- arithmetic


@compiled
def _divide(a, b) -> int:
    return a // b


@compiled
def _remainder(a, b) -> int:
    return a % b


@compiled
def _by_a_power(a, b) -> int:
    return (a // 8 + a % 8) * 2 - b


@compiled
def _bits(a, b) -> int:
    return ((a & b) | (a ^ 12345)) + (a >> 3) + ((b & 15) << 4) + min(a, b) * 2 - max(-a, 7)


@compiled
def _logic(a, b) -> int:
    count = 0
    if (0 <= a < 10 and not b > 3) or a > b:
        count += 1
    if a and (b != 5 or a >= 2):
        count += 10
    elif b <= THREE:
        count += 100
    else:
        count -= 7
    count += a == b
    return count if a != b else -count


@inner
def _pair(a, b):
    return a + b, a - b


@inner
def _early(a, b):
    if a > b:
        return a
    for i in range(5):
        if i == b:
            return 2 * i
    return b


@compiled
def _helped(a, b) -> int:
    total, difference = _pair(a, b)
    total, difference = difference, total
    return _divide(total * 5, max(b, 1)) + 3 * difference + _early(a, b)


@compiled
def _loops(a, b) -> int:
    total = 0
    for i in range(a % 20, -5, -3):
        if i == 4:
            continue
        for j in range(i):
            if j * i > 60:
                break
            total += i * j
    steps = b % 13
    while steps > 0:
        steps -= 2
        total = total * 3 + steps
    for i in range(0, 20, b % 5 + 1):
        total ^= i
    return total


INTEGER = {
    "//": _divide,
    "%": _remainder,
    "8": _by_a_power,
    "bits": _bits,
    "logic": _logic,
    "helped": _helped,
    "loops": _loops,
}


@pytest.mark.parametrize("name", INTEGER)
def test_integers_are_pythons(name: str) -> None:
    translated, numbas = both(INTEGER[name])
    python = {"//": lambda a, b: a // b, "%": lambda a, b: a % b, "8": lambda a, b: (a // 8 + a % 8) * 2 - b}.get(name)

    @settings(deadline=None)
    @given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6) | st.integers(-6, 6))
    def check(a: int, b: int) -> None:
        assert translated(a, b) == numbas(a, b)
        if python is not None and b:
            assert translated(a, b) == python(a, b)

    check()


@compiled
def _elements(x_at, bytes_at, words_at, size):
    x, mask, whole = floats(x_at), octets(bytes_at), words(words_at)
    for i in range(size):
        value = x[i] * HALF - np.float32(mask[i]) / np.float32(3)
        x[i] = math.sqrt(value) if value > np.float32(0) else -value
        mask[i] = np.uint8(i) if x[i] != x[i] or x[i] >= HALF else mask[i]
        whole[i] = whole[i]
    for i in range(0, size, 2):
        x[i] += abs(x[i])


@compiled(fastmath=FAST)
def _sums(x_at, bytes_at, words_at, size):
    x, total = floats(x_at), np.float32(0)
    for i in range(size):
        total += x[i] if octets(bytes_at)[i] == np.uint8(1) else np.float32(1)
    x[0] = total
    numbers(words_at)[0] = int(total) + load(words_at + 8)


@compiled
def _in_double(x_at, bytes_at, words_at, size):
    x, total, least = floats(x_at), 0.0, np.float64(-0.75)
    for i in range(size):
        value = np.float64(x[i]) * 1.1 - np.float64(i) / np.float64(words(words_at)[i] + 3)
        total += value if not value < least and value != 0.25 else -(value * value)
        x[i] = np.float32(math.sqrt(abs(total)) + np.float64(octets(bytes_at)[i]))
    whole = doubles(words_at)
    whole[0] = total
    whole[1] += math.log(abs(whole[0]) + 2.0) + np.floor(whole[0] * 7.5)
    numbers(bytes_at)[0] = int(total) + np.int64(whole[0] * 2.5) + math.floor(total)


@pytest.mark.parametrize("function", [_elements, _sums, _in_double], ids=["elements", "sums", "in float64"])
@pytest.mark.parametrize("size", [1, 7, 64, 1001])
def test_arrays(function: CFunction, size: int) -> None:
    random = np.random.default_rng(size)
    results = []
    x, mask = random.standard_normal(size).astype("f4"), random.integers(0, 3, size).astype("u1")
    x[size // 2] = np.nan if function is _elements else 3
    whole = np.arange(size + 4, dtype="u4")
    for made in both(function):
        arrays = x.copy(), mask.copy(), whole.copy()
        made(*[array.ctypes.data for array in arrays], size)
        results.append(arrays)
    for translated, numbas in zip(*results, strict=True):
        if function is _sums:  # both may add up in an order of their own
            np.testing.assert_allclose(translated, numbas, rtol=1e-5)
        else:
            np.testing.assert_array_equal(translated, numbas)


# ---- what only Numba knows


@compiled
def _only_numba(a, b) -> int:
    total = 0
    for i in (a, b):
        total += i
    return total


@compiled
def _mixed(a, b) -> int:
    return int(HALF * a)


@compiled
def _mixed_floats(a, b) -> int:
    return int(HALF * np.float64(a))


@pytest.mark.parametrize(
    "function",
    [_only_numba, _mixed, _mixed_floats],
    ids=["a tuple's loop", "float32 and int64", "float32 and float64"],
)
def test_numba_compiles_what_the_translator_does_not_know(function: CFunction) -> None:
    with pytest.raises(Untranslatable):
        function.translate()
    made = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(function.address)
    assert made(8, 5) == (13 if function is _only_numba else 4)


def test_a_draft_leaves_nothing() -> None:
    module = Module()
    module.function(_helped.function, "inside", ("int64", "int64"), ())
    assert len([name for name in module.module.globals if "draft" in name]) == 0


def test_kernels_are_translated() -> None:
    """What every training needs does not wait for Numba."""
    assert len(kernels()) > 30
    for kernel in kernels():
        kernel.translate()


@pytest.mark.parametrize("place", ["optimizer._adam", "norm._column_sums", "products.rows_product", "recurrent._lstm"])
def test_numba_compiles_kernels_too(place: str) -> None:
    """They are in its dialect: pointers, constants of the host and numbers of either width among their arguments."""
    (kernel,) = [kernel for kernel in kernels() if kernel.place == place]
    for called in kernel.calls():
        loader.offer(called.symbol, called.address)
    assert loader.load(kernel.compile_with_numba())


# ---- files

TRAINING = """
    import sys
    import numpy as np
    import minikeras as mk

    mk.utils.set_random_seed(1)
    model = mk.Sequential([
        mk.layers.Input((28, 28, 1)), mk.layers.Conv2D(8, 3, activation="relu"), mk.layers.MaxPooling2D(),
        mk.layers.Flatten(), mk.layers.Dropout(0.2), mk.layers.Dense(128, activation="relu"), mk.layers.Dense(10),
    ])
    model.compile("adam", mk.losses.SparseCategoricalCrossentropy(from_logits=True))
    random = np.random.default_rng(0)
    x, y = random.random((192, 28, 28, 1)).astype("float32"), random.integers(0, 10, 192)
    model.fit(x, y, batch_size=64, epochs=2, verbose=0)
    print(sum(float(np.abs(w).sum()) for w in model.get_weights()))
    print("numba" in sys.modules)
"""


def run(folder: Path, script: str = TRAINING) -> list[str]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.split()


def test_code_is_kept_and_damaged_code_is_made_anew(tmp_path: Path) -> None:
    first = run(tmp_path)
    assert first[1] == "False"
    kept = sorted(tmp_path.glob("*.code"))
    assert len(kept) > 8
    times = {file: file.stat().st_mtime_ns for file in kept}
    assert run(tmp_path) == first
    assert {file: file.stat().st_mtime_ns for file in kept} == times
    good = {file: file.read_bytes() for file in kept}
    for number, (file, content) in enumerate(good.items()):
        middle = len(content) // 2
        changed = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        file.write_bytes([b"", content[:100], content[:-1], changed, content + b"x"][number % 5])
    assert run(tmp_path) == first
    for file, content in good.items():
        assert file.read_bytes()[:64] == content[:64]
    assert not [file for file in tmp_path.iterdir() if file.suffix != ".code"]


def test_code_for_another_stamp_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "folders", lambda: [tmp_path])
    store.write("place", b"s" * 32, b"code")
    assert store.read("place", b"s" * 32) == b"code"
    assert store.read("place", b"t" * 32) is None
    assert store.read("another", b"s" * 32) is None


def test_without_a_folder_kernels_are_compiled_anew(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert run(blocked) == run(tmp_path)


def test_a_function_is_compiled_once_however_many_threads_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def slow(self: CFunction) -> int:
        time.sleep(0.02)
        made.append(self)
        return 17

    monkeypatch.setattr(CFunction, "_find", slow)
    part = compiled(lambda arguments, part, worker: None)
    assert set(in_threads(8, lambda number: part.address)) == {17}
    assert len(made) == 1
