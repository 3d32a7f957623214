"""The processor and its vector registers; found when first asked for, because it is LLVM that knows the processor.

Compiled functions read these numbers as constants: `host.LANES`.

Attributes:
    ARCHITECTURE: "x86", "arm64", or what Python calls another one.
    HAS_VECTORS: whether there are AVX-512, AVX2 with fused multiplication, or NEON, for which the tile is made.
    HAS_MASKS: whether an instruction reads or writes some of a vector's lanes.
    LANES: float32 numbers in a vector: those of a register, of two registers of NEON.
    VECTORS, ROWS: of a block of sums that the registers hold beside what is added to them.
    WIDTH: columns of such a block.
    PANEL: bytes of its row.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

ARCHITECTURE: str
HAS_VECTORS: bool
HAS_MASKS: bool
LANES: int
VECTORS: int
ROWS: int
WIDTH: int
PANEL: int

_FAMILIES = {"x86_64": "x86", "amd64": "x86", "aarch64": "arm64", "arm64": "arm64"}


def described(machine: str, features: Mapping[str, bool]) -> dict[str, Any]:
    """The attributes for a processor, of which Python and LLVM say this."""
    family = _FAMILIES.get(machine.lower(), machine)
    wide = family == "x86" and bool(features.get("avx512f"))
    lanes = 16 if wide else 8
    fused = family == "arm64" or bool(features.get("avx2") and features.get("fma"))
    return {
        "ARCHITECTURE": family,
        "HAS_VECTORS": wide or fused,
        "HAS_MASKS": family == "x86",
        "LANES": lanes,
        "VECTORS": 2,
        "ROWS": 8 if wide else 6,  # 6 x 16 sums, half of a row's numbers and one of the rest: 32 registers of NEON, too
        "WIDTH": 2 * lanes,
        "PANEL": 8 * lanes,
    }


def __getattr__(name: str) -> Any:
    if name not in __annotations__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from llvmlite import binding

    globals().update(described(platform.machine(), binding.get_host_cpu_features()))
    return globals()[name]
