"""Random words from NumPy's own Philox, which is the generator that the reference spells out; masks by the team."""

from __future__ import annotations

import importlib
import threading
from functools import partial
from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
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


_FAR = 1 << 62  # blocks: beyond, a counter could pass the greatest int64


def dropout_mask(key: int, counter: int, shape: tuple[int, ...], rate: float, out: Any = None) -> Any:
    """See the reference."""
    threshold = reference.mask_threshold(rate)
    if threshold > 65535 or counter >= _FAR or not (out is None or out.flags.c_contiguous):
        return reference.dropout_mask(key, counter, shape, rate, out)
    if out is None:
        out = empty(shape, np.dtype(np.uint8))
    importlib.import_module("minikeras.kernels.cpu.random_parts").dropout_mask(key, counter, out, threshold)
    return out


OVERRIDES = {
    "dropout_mask": dropout_mask,
    "random_bits": random_bits,
    "uniform": partial(reference.uniform, bits=random_bits),
    "normal": partial(reference.normal, bits=random_bits),
}
