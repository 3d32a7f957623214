"""The vector registers of this host; found when first asked for, because it is LLVM that knows the processor.

Compiled functions read these numbers as constants: `host.LANES`.

Attributes:
    HAS_VECTORS: whether there are AVX-512, or AVX2 with fused multiplication, for which the tile is made.
    LANES: float32 numbers in a register.
    VECTORS, ROWS: of a block of sums that the registers hold beside what is added to them.
    WIDTH: columns of such a block.
    PANEL: bytes of its row.
"""

from __future__ import annotations

from typing import Any

HAS_VECTORS: bool
LANES: int
VECTORS: int
ROWS: int
WIDTH: int
PANEL: int


def __getattr__(name: str) -> Any:
    if name not in __annotations__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    wide = bool(features.get("avx512f"))
    lanes = 16 if wide else 8
    found = {"LANES": lanes, "VECTORS": 2, "ROWS": 8 if wide else 6, "WIDTH": 2 * lanes, "PANEL": 8 * lanes}
    found["HAS_VECTORS"] = wide or bool(features.get("avx2") and features.get("fma"))
    globals()[name] = found[name]
    return found[name]
