"""Machine code for arm64, made on any machine; `.ci/arm64.py` runs the kernels' tests there."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
from llvmlite import binding

from minikeras.kernels import cpu
from minikeras.kernels.cpu.compiler import CFunction, host, llvm, translate
from minikeras.kernels.cpu.tile import register

NUMBER_OF_ARM64 = 183  # ELF's
host.LANES  # noqa: B018  # found before it is replaced


def functions() -> list[CFunction]:
    """All that become machine code."""
    modules = [importlib.import_module(found.name) for found in pkgutil.walk_packages(cpu.__path__, f"{cpu.__name__}.")]
    found = {id(value): value for module in modules for value in vars(module).values() if isinstance(value, CFunction)}
    return list(found.values())


@contextmanager
def made_for(processor: str) -> Iterator[Any]:
    """Code is made for an arm64 processor; gives LLVM's target."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    arm64 = binding.Target.from_triple("aarch64-unknown-linux-gnu")
    target = arm64.create_target_machine(cpu=processor, opt=3, codemodel="jitdefault", jit=True)
    with patch.multiple(host, **host.described("aarch64", {})), patch.object(llvm, "target", lambda: target):
        yield target


@pytest.mark.parametrize(
    ("processor", "which"),
    [("generic", slice(None)), ("neoverse-n1", slice(0, None, 2)), ("apple-m1", slice(1, None, 2))],
)
def test_all_kernels_become_machine_code(processor: str, which: slice) -> None:
    made = 0
    with made_for(processor):
        for function in functions()[which]:
            try:
                code = function.translate()
            except translate.Untranslatable:  # Numba compiles it, for this machine only
                continue
            assert code[:4] == b"\x7fELF" and int.from_bytes(code[18:20], "little") == NUMBER_OF_ARM64, function.place
            made += 1
    assert made > 25


@pytest.mark.parametrize("function", [register.tile, register.products], ids=["tile", "products"])
def test_sums_stay_in_registers(function: CFunction) -> None:
    made = []
    with made_for("generic") as target:

        def assembly(module: Any, optimised: bool) -> bytes:
            made.append(target.emit_assembly(binding.parse_assembly(str(module))))
            return b""

        with patch.object(llvm, "machine_code", assembly):
            function.translate()
        blocks = re.split(r"\n(?=\.L)", made[0])
        loop = max(blocks, key=lambda block: block.count("fmla\t")).partition("\tb.lt")[0]
        assert loop.count("fmla\t") == host.ROWS * host.WIDTH // 4
        assert not re.search(r"\tq\d+.*\[sp|\tmov\tv", loop)
