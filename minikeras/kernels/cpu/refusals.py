"""What machine code refuses on its way: values that no Python code looks at, such as an index that is out of range.

A part that meets one takes a value that is allowed in its place and counts it in one number of memory.  Whoever has run
the part looks at the number, and explains (`arena.explain`); a program stops after the call in which it has changed.
Beside it lies a number after whose change a program ends with the step that it is at.
"""

from __future__ import annotations

import numpy as np

from minikeras.kernels.cpu.compiler import add_in_one_step, inner

_count = np.zeros(2, np.int64)
ADDRESS = _count.ctypes.data
ENDS = ADDRESS + 8


@inner
def refuse(refusals):
    """Count a value, where the part was given the address."""
    add_in_one_step(refusals, 1)


def count() -> int:
    """How many values have been refused in this process."""
    return _count.item(0)
