"""Random words from NumPy's own Philox, which is the generator that the reference spells out; masks by the team."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from minikeras.kernels.arena import empty
from minikeras.kernels.cpu.jit import lazy
from minikeras.kernels.reference import random as reference
from minikeras.kernels.table import Kernels, override

_WORD = (1 << 64) - 1


class _Generator(threading.local):
    """One bit generator per thread: setting its state takes 1 µs, making one 7."""

    def __init__(self) -> None:
        self.philox = np.random.Philox(key=0)
        self.state = self.philox.state
        self.state["buffer_pos"] = 4  # no words left over from an earlier draw


_generator = _Generator()


@override(reference.random_bits, "cpu")
def random_bits(k: Kernels, key: int, counter: int, count: int, out: Any = None) -> Any:
    words = _generator.state["state"]
    words["key"][:] = key & _WORD, key >> 64
    words["counter"][:] = [counter >> shift & _WORD for shift in (0, 64, 128, 192)]
    _generator.philox.state = _generator.state
    bits = _generator.philox.random_raw(count)
    if out is None:
        return bits
    out[...] = bits
    return out


_MOST = 65535.5 / 65536  # a rate from which on a mask keeps nothing
_FAR = 1 << 62  # blocks: beyond, a counter could pass the greatest int64


def _compiled(counter: int, rate: float, out: Any) -> bool:
    return rate < _MOST and counter < _FAR and (out is None or out.flags.c_contiguous)


@override(reference.dropout_mask, "cpu", when=_compiled)
def dropout_mask(k: Kernels, key: int, counter: int, shape: tuple[int, ...], rate: float, out: Any = None) -> Any:
    out = empty(shape, np.dtype(np.uint8)) if out is None else out
    lazy("random_parts").dropout_mask(key, counter, out, reference.mask_threshold(rate))
    return out
