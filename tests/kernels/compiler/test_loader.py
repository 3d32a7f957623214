"""Loading machine code without LLVM: the same results, calls between kernels, data, and one sentence for the rest."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikeras.kernels.cpu.compiler import compiled, llvm, loader, numbers

pytestmark = pytest.mark.skipif(not loader.OWN, reason="LLVM loads machine code here")


@compiled
def _sum_to(address, count) -> int:
    n, total = numbers(address), 0
    for i in range(count):
        total += n[i] * n[i] % 7
    return total


@compiled
def _twice(address, count) -> int:
    return 2 * _sum_to(address, count)


def _called(address: int) -> Any:
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(address)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(-1000, 1000), max_size=70))
def test_it_is_what_llvm_loads(values: list[int]) -> None:
    array = np.array([*values, 0], np.int64)
    code = _sum_to.code()
    for load in (loader.load, llvm.load):
        found = _called(load(code))(array.ctypes.data, len(values))
        assert found == sum(value * value % 7 for value in values)


def test_kernels_call_each_other() -> None:
    array = np.arange(9, dtype=np.int64)
    assert _called(_twice.address)(array.ctypes.data, 9) == 2 * sum(i * i % 7 for i in range(9))
    code = _twice.code()
    llvm.offer(_sum_to.symbol, _sum_to.address)
    assert _called(llvm.load(code))(array.ctypes.data, 9) == 2 * sum(i * i % 7 for i in range(9))


DATA = """
target triple = "x86_64-unknown-linux-gnu"
@counter = internal global i64 40
@zeros = internal global [100 x i64] zeroinitializer
@shared = common global i64 0
@table = internal constant [4 x i64] [i64 5, i64 6, i64 7, i64 8], align 64
@place = internal constant ptr getelementptr ([4 x i64], ptr @table, i64 0, i64 2)
define i64 @entry(i64 %a, i64 %b) {
  %old = load i64, ptr @counter
  %new = add i64 %old, %a
  store i64 %new, ptr @counter
  %zero = getelementptr [100 x i64], ptr @zeros, i64 0, i64 %b
  %before = load i64, ptr %zero
  store i64 1, ptr %zero
  store i64 %before, ptr @shared
  %from = load ptr, ptr @place
  %seven = load i64, ptr %from
  %more = add i64 %new, %seven
  %common = load volatile i64, ptr @shared
  %thousands = mul i64 %common, 1000
  %all = add i64 %more, %thousands
  ret i64 %all
}
"""


@pytest.mark.skipif(llvm.binding.llvm_version_info < (17,), reason="the code is written in younger LLVM's language")
def test_data_that_is_written_and_data_that_is_not() -> None:
    call = _called(loader.load(llvm.machine_code(DATA, optimised=False)))
    assert [call(2, 99), call(3, 99), call(0, 0)] == [49, 1052, 52]


def test_what_is_not_there_is_named() -> None:
    code = llvm.machine_code(
        "declare i64 @no_such_function(i64)\n"
        "define i64 @entry(i64 %a, i64 %b) {\n %c = call i64 @no_such_function(i64 %a)\n ret i64 %c\n}",
        optimised=False,
    )
    with pytest.raises(RuntimeError, match=r"calls 'no_such_function', which this process does not have; report it\.$"):
        loader.load(code)
    other = llvm.machine_code("define i64 @another(i64 %a, i64 %b) {\n ret i64 %b\n}", optimised=False)
    with pytest.raises(RuntimeError, match=r"has no function 'entry'; report it\.$"):
        loader.load(other)


def test_code_is_not_writable() -> None:
    address = _sum_to.address
    (line,) = [line for line in Path("/proc/self/maps").read_text().splitlines() if _holds(line, address)]
    assert line.split()[1] == "r-xp"


def _holds(line: str, address: int) -> bool:
    first, end = (int(number, 16) for number in line.split()[0].split("-"))
    return first <= address < end


def test_threads_that_still_run_when_the_interpreter_ends() -> None:
    """Code stays where it is: helpers watch for work in it until the process is gone."""
    script = (
        "import numpy as np; from minikeras import kernels as k; from minikeras.kernels.cpu.compiler import team\n"
        "x = np.ones((2000, 500), 'f4'); k.softmax(x); k.gemm(x, x, tb=True); assert len(team.team._helpers) == 3"
    )
    environment = {
        "MINIKERAS_NUM_THREADS": "4",
        "MINIKERAS_DEVICE": "cpu",
        "PYTHONPATH": ":".join(filter(None, sys.path)),
    }
    for _ in range(3):
        run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
        assert (run.returncode, run.stderr) == (0, "")
