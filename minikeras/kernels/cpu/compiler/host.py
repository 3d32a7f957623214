"""What machine code is made for in this process, and its vector registers; found when first asked for.

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

from minikeras.kernels.cpu.compiler import archive, processor
from minikeras.kernels.cpu.compiler.processor import Target

HAS_VECTORS: bool
LANES: int
VECTORS: int
ROWS: int
WIDTH: int
PANEL: int


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
    if name not in __annotations__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    features = target().features
    wide = "avx512f" in features
    lanes = 16 if wide else 8
    found = {"LANES": lanes, "VECTORS": 2, "ROWS": 8 if wide else 6, "WIDTH": 2 * lanes, "PANEL": 8 * lanes}
    found["HAS_VECTORS"] = wide or {"avx2", "fma"} <= features
    globals()[name] = found[name]
    return found[name]
