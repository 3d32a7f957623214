"""The state of a random stream as a variable, in the form in which Keras shows it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from minikeras import journal
from minikeras import kernels as k
from minikeras.autodiff.tensor import Variable
from minikeras.seeds import SeedGenerator

_WORD = (1 << 64) - 1


class SeedState(Variable):
    """Seed and counter of a `SeedGenerator`, which reads and writes the stream itself.

    Args:
        generator: the stream.
        number: which of the streams of a model it is, for its path.

    >>> from minikeras.autodiff.seed_state import SeedState
    >>> from minikeras.seeds import SeedGenerator
    >>> generator = SeedGenerator(7)
    >>> state = SeedState(generator)
    >>> _ = generator.next(3)
    >>> state.numpy().tolist()
    [7, 3]
    """

    __slots__ = ("generator", "place")

    def __init__(self, generator: SeedGenerator, number: int = 0):
        self.generator, self.place = generator, number
        super().__init__(self.data, dtype="uint64", trainable=False, name=f"{generator.name}_state")
        self.path = f"{generator.name}_{number}/{self.name}" if number else f"{generator.name}/{self.name}"

    @property
    def data(self) -> Any:
        key, counter = self.generator.state
        return k.to_device(np.array([key & _WORD, counter], dtype="uint64"))

    @data.setter
    def data(self, value: Any) -> None:
        seed, counter = k.to_host(value).tolist()
        self.generator.state = (self.generator.key & ~_WORD) | seed, counter

    def assign(self, value: Any) -> Variable:
        """Resume the stream at this seed and counter."""
        if journal.active:
            journal.note(self.generator)
        self.data = self.fitting(value).astype("uint64")
        return self

    def __reduce__(self) -> Any:
        return type(self), (self.generator, self.place)

    def __deepcopy__(self, memo: dict) -> Variable:
        return type(self)(copy.deepcopy(self.generator, memo), self.place)
