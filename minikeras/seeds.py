"""Seeds and random streams: who draws with which key and counter.

Every random number in minikeras is a function of a key and a counter (see the random kernels).  A `SeedGenerator` holds
both for one user, such as a dropout layer; whoever is given no seed takes one from the global stream, which `set_seed`
restarts, so a program that sets a seed and builds the same objects in the same order draws the same numbers.
"""

from __future__ import annotations

import operator
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from minikeras import journal
from minikeras.kernels.arena import current

_lock = threading.Lock()

_WORD = (1 << 64) - 1

# The upper word of a key separates what is drawn for different purposes from equal seeds.
_PURPOSES = {"seeds": 1, "stream": 2, "initializer": 3}


def make_key(seed: int, purpose: str) -> int:
    """The 128-bit key for a seed; `purpose` is `"seeds"`, `"stream"` or `"initializer"`."""
    return _PURPOSES[purpose] << 64 | seed & _WORD


def draw_seed(key: int, counter: int) -> int:
    """A seed from one block of a stream."""
    return int(np.random.Philox(key=key, counter=counter).random_raw())


def whole_number(seed: Any) -> int:
    """`seed` as a Python integer, or a ValueError that says what a seed is."""
    try:
        return operator.index(seed)
    except TypeError:
        raise ValueError(f"A seed is a whole number, a SeedGenerator or None, got {seed!r}.") from None


class SeedGenerator:
    """A random stream: a key, and a counter of the blocks used so far.

    Args:
        seed: whole number (taken modulo 2**64); None takes one from the global stream.
        name: name in the configuration.

    Setting `state`, the pair of key and counter, resumes a stream.

    >>> import minikeras as keras
    >>> seeds = keras.random.SeedGenerator(1337)
    >>> bool((keras.random.normal((2,), seed=seeds).numpy() == keras.random.normal((2,), seed=seeds).numpy()).any())
    False
    """

    def __init__(self, seed: int | None = None, name: str | None = None):
        self.name = name or "seed_generator"
        if isinstance(seed, SeedGenerator):
            raise ValueError(f"A SeedGenerator's seed is a whole number or None, got {seed!r}; pass its seed instead.")
        self._seed = None if seed is None else whole_number(seed)
        self.key = make_key(next_seed() if self._seed is None else self._seed, "stream")
        self.counter = 0

    def next(self, blocks: int = 1) -> tuple[int, int]:
        """Reserve `blocks` counter blocks and return (key, counter of the first)."""
        if journal.active:
            journal.note(self)
        with _lock:
            counter = self.counter
            self.counter += blocks
        if current.recording is not None:
            counter = current.recording.advancing(self, counter, blocks)
        return self.key, counter

    @property
    def state(self) -> tuple[int, int]:
        with _lock:
            return self.key, self.counter

    @state.setter
    def state(self, state: tuple[int, int]) -> None:
        key, counter = state
        with _lock:
            self.key, self.counter = int(key), int(counter)

    def restorer(self) -> Callable[[], None]:
        """A function that goes back to the present state (see `journal`)."""
        state = self.state
        return lambda: setattr(self, "state", state)

    def get_config(self) -> dict[str, Any]:
        """Seed and name; not where the stream is."""
        return {"seed": self._seed, "name": self.name}

    def __repr__(self) -> str:
        return f"<SeedGenerator name={self.name} seed={self._seed}>"

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SeedGenerator:
        return cls(**config)


def set_seed(seed: int) -> None:
    """Restart the global stream from `seed`: what is built afterwards without a seed of its own follows from it."""
    _global.state = make_key(whole_number(seed), "seeds"), 0


def next_seed(passing: bool = False) -> int:
    """The next seed, below 2**64, of the global stream; a program without `set_seed` gets new ones in each run.

    Args:
        passing: whether nothing that lasts is made of the seed, so that it may be given again after a dry run.
    """
    if journal.active and not passing:
        journal.settle(_global)
    return draw_seed(*_global.next())


def global_generator() -> SeedGenerator:
    """The global stream, for saving and restoring its `state`."""
    return _global


_global = SeedGenerator(0, name="global")
set_seed(int.from_bytes(os.urandom(8), "little"))
