"""Random words from NumPy's own Philox, which is the generator that the reference spells out."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import numpy as np

from minikeras.kernels.reference import random as reference

_WORD = (1 << 64) - 1


class _Generator(threading.local):
    """One bit generator per thread: setting its state takes 1 µs, making one 7."""

    def __init__(self) -> None:
        self.philox = np.random.Philox(key=0)
        self.state = self.philox.state
        self.state["buffer_pos"] = 4  # no words left over from an earlier draw


_generator = _Generator()


def random_bits(key: int, counter: int, count: int, out: Any = None) -> Any:
    """See the reference."""
    words = _generator.state["state"]
    words["key"][:] = key & _WORD, key >> 64
    words["counter"][:] = [counter >> shift & _WORD for shift in (0, 64, 128, 192)]
    _generator.philox.state = _generator.state
    bits = _generator.philox.random_raw(count)
    if out is None:
        return bits
    out[...] = bits
    return out


OVERRIDES = {
    "random_bits": random_bits,
    "uniform": partial(reference.uniform, bits=random_bits),
    "normal": partial(reference.normal, bits=random_bits),
    "dropout_mask": partial(reference.dropout_mask, bits=random_bits),
}
