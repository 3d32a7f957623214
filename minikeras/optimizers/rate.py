"""The learning rate and the step count of an optimizer: numbers in the host's memory, read without waiting."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minikeras import config as settings
from minikeras import kernels as k
from minikeras import ops  # noqa: F401  (gives rates and counts their operators)
from minikeras.autodiff.tensor import Tensor, Variable, spoil
from minikeras.declared import Configured
from minikeras.optimizers.schedules import LearningRateSchedule, as_rate, is_formula
from minikeras.utils.checks import whole


class HostVariable(Variable):
    """A variable whose value lives in the host's memory (`host`, a NumPy array); `data` is a copy on the device.

    Reading and writing it never waits for a GPU.
    """

    __slots__ = ("host",)

    def __init__(self, value: Any, dtype: Any, name: str, path: str):
        super().__init__(value, dtype=dtype, trainable=False, name=name)
        self.path = path

    @property
    def data(self) -> Any:
        return k.to_device(self.host)

    @data.setter
    def data(self, value: Any) -> None:
        self.host = k.to_host(value)

    def check(self, value: Any) -> Any:
        """The value, or an exception where it is none that the variable may have."""
        return value

    def assign(self, value: Any) -> Variable:
        """Set the value; raises as `check` does, and the variable is unchanged then."""
        spoil("Python sets a number of the optimizer's")
        self.host[...] = k.to_host(self.fitting(self.check(value)))
        return self

    def _read(self) -> np.ndarray:
        spoil("Python reads a value")
        return self.host

    def __reduce__(self) -> Any:
        return type(self), (self.numpy(), self.dtype, self.name, self.path)

    def __deepcopy__(self, memo: dict) -> HostVariable:
        return type(self)(*self.__reduce__()[1])


class LearningRate(HostVariable):
    """A learning rate that can be set: only to what a learning rate may be."""

    __slots__ = ()

    def check(self, value: Any) -> Any:
        """A finite number of at least 0."""
        return as_rate(value)


class StepCount(HostVariable):
    """A number of updates that can be set."""

    __slots__ = ()

    def check(self, value: Any) -> Any:
        """A whole number of at least 0."""
        value = k.to_host(value.data if isinstance(value, Tensor) else value)
        return whole(self.name, value, 0, owner=self.path.partition("/")[0], floats=True)


class Rated(Configured):
    """The part of an optimizer that knows how far it is: its learning rate, and how many updates it has made."""

    name: Any
    decay: float | None
    gradient_accumulation_steps: int | None
    _iterations: HostVariable
    _learning_rate: Any

    def _start(self, learning_rate: Any) -> None:
        """Begin at step 0 with this rate: a number, a schedule or a function."""
        if isinstance(learning_rate, Tensor) or not callable(learning_rate):
            learning_rate = as_rate(learning_rate)
        self._iterations = self._host_variable(0, "int32", "iteration", StepCount)
        self._learning_rate = self._as_rate(learning_rate)
        if self.decay and not isinstance(self._learning_rate, HostVariable):
            raise ValueError(f"decay needs a learning rate that is a number, got {learning_rate!r}; leave decay out.")

    def _host_variable(self, value: Any, dtype: str, name: str, kind: type[HostVariable] = HostVariable) -> Any:
        return kind(np.asarray(value, dtype), dtype, name, f"{self.name}/{name}")

    def _as_rate(self, value: Any) -> Any:
        if callable(value) and not isinstance(value, Tensor):
            return value
        with np.errstate(over="ignore"):
            rate = np.asarray(as_rate(value), settings.floatx())
        as_rate(rate)  # which a number of fewer bits may not be
        return LearningRate(rate, settings.floatx(), "learning_rate", f"{self.name}/learning_rate")

    @property
    def learning_rate(self) -> Any:
        """The learning rate: a variable (with `decay`: before the decay), or what a schedule gives for now."""
        if isinstance(self._learning_rate, LearningRateSchedule):
            return self._learning_rate(self._iterations)
        return self._learning_rate if isinstance(self._learning_rate, Variable) else self._learning_rate()

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        rate = self._as_rate(value)
        if not isinstance(rate, HostVariable):
            self._learning_rate = rate
        elif isinstance(self._learning_rate, HostVariable):
            self._learning_rate.assign(rate)
        else:
            raise TypeError(
                f"The learning rate of {self.name!r} follows {type(self._learning_rate).__name__} and cannot be set to "
                f"{value!r}; make the optimizer with a number as its learning rate."
            )

    lr = learning_rate

    @property
    def iterations(self) -> Any:
        """How many updates have been made."""
        if self.gradient_accumulation_steps:
            return Tensor(k.to_device(np.asarray(self._updates(), "int32")))
        return self._iterations

    def _updates(self) -> int:
        """How many updates have been made, as a number."""
        return int(self._iterations.host) // (self.gradient_accumulation_steps or 1)

    def _rates_ahead(self, steps: int) -> list[float] | None:
        """The learning rates of the next steps; None where a user's code gives them, or a step will refuse its own."""
        rate, first = self._learning_rate, int(self._iterations.host)
        if isinstance(rate, HostVariable):
            number = float(rate.host)
            return [number / (1 + self.decay * (first + i)) for i in range(steps)] if self.decay else [number] * steps
        if not is_formula(rate):
            return None
        with np.errstate(all="ignore"):
            rates = [rate.rate_at(first + i) for i in range(steps)]
        return rates if all(0 <= one < math.inf for one in rates) else None

    def _current_rate(self) -> float:
        rates = self._rates_ahead(1)
        if rates is not None:
            return rates[0]
        rate = self._learning_rate
        value = rate.rate_at(self._iterations) if isinstance(rate, LearningRateSchedule) else rate()
        if isinstance(value, float) and 0 <= value < math.inf:
            return value
        return as_rate(value, f"The learning rate of {self.name!r} after {self._updates()} updates")
