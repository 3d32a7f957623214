"""What machine code is made for in this process, and its vector registers; found when first asked for.

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
from collections.abc import Collection
from typing import Any

from minikeras.kernels.cpu.compiler import archive, processor
from minikeras.kernels.cpu.compiler.processor import Target

ARCHITECTURE: str
HAS_VECTORS: bool
HAS_MASKS: bool
LANES: int
VECTORS: int
ROWS: int
WIDTH: int
PANEL: int

_FAMILIES = {"x86_64": "x86", "amd64": "x86", "aarch64": "arm64", "arm64": "arm64"}


def described(machine: str, features: Collection[str]) -> dict[str, Any]:
    """The attributes for a processor that Python calls so, and that has features by LLVM's names."""
    family = _FAMILIES.get(machine.lower(), machine)
    wide = family == "x86" and "avx512f" in features
    lanes = 16 if wide else 8
    return {
        "ARCHITECTURE": family,
        "HAS_VECTORS": wide or family == "arm64" or ("avx2" in features and "fma" in features),
        "HAS_MASKS": family == "x86",
        "LANES": lanes,
        "VECTORS": 2,
        "ROWS": 8 if wide else 6,  # 6 x 16 sums, half of a row's numbers and one of the rest: 32 registers of NEON, too
        "WIDTH": 2 * lanes,
        "PANEL": 8 * lanes,
    }


_chosen: Target | None = None


def target() -> Target:
    """What machine code is made for: the family of the archive in use, without one this processor."""
    if _chosen is not None:
        return _chosen
    kept = archive.active()
    return native() if kept is None else kept.target


def native() -> Target:
    """This processor, with all it has."""
    return Target("native", processor.features())


def use(chosen: Target | None) -> None:
    """Make code for another target from now on, before anything is loaded; None: for what it usually is."""
    global _chosen
    _chosen = chosen
    for name in __annotations__:
        if name.isupper():
            globals().pop(name, None)


def machine() -> str:
    """The target in words."""
    name, features = target()
    return f"{processor.SYSTEM} {processor.model() if name == 'native' else name} {' '.join(sorted(features))}"


def __getattr__(name: str) -> Any:
    if name not in __annotations__ or not name.isupper():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = described(platform.machine(), target().features)
    globals()[name] = found[name]
    return found[name]
