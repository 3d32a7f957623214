"""Learning rates that depend on the step: the formulas of Keras 3."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from minikeras import config as settings
from minikeras import kernels as k
from minikeras import registry
from minikeras.autodiff.tensor import Tensor
from minikeras.declared import Kept, Number, Value, declared, is_declared
from minikeras.lazy import offer_names
from minikeras.utils.checks import number


def as_rate(value: Any, name: str = "learning_rate") -> float:
    """A learning rate as a float, from a number or from a tensor of one.

    Raises:
        ValueError: for what is no finite number of at least 0; `name` says what it is called.
    """
    if isinstance(value, Tensor) and value.size == 1:
        value = value.numpy().reshape(())
    return number(name, value, 0)


class LearningRateSchedule(Value):
    """Base class: a function of the number of completed updates.

    A subclass defines `__call__(step)`, which returns the learning rate as a number or tensor, and `get_config`.

    >>> from minikeras import optimizers
    >>> class Linear(optimizers.schedules.LearningRateSchedule):
    ...     def __call__(self, step):
    ...         return 0.1 / (step + 1)
    ...
    >>> float(optimizers.SGD(Linear()).learning_rate)
    0.10000000149011612
    """

    def __call__(self, step: Any) -> Any:
        raise NotImplementedError(f"The schedule {type(self).__name__} must define __call__(self, step).")

    def rate_at(self, step: Any) -> float:
        """The learning rate as a number.

        Raises:
            ValueError: where it is no finite number of at least 0.
        """
        return as_rate(self(step), f"{type(self).__name__}'s learning rate at step {int(step)}")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        if not is_declared(type(self)):
            raise NotImplementedError(f"{type(self).__name__} must define get_config() to be saved.")
        return super().get_config()


class _Formula(LearningRateSchedule):
    """A schedule computed in the host's memory.

    `_rates(step)` is its formula for a float64 number or array of steps, so that a whole curve can be had at once.
    """

    def _rates(self, step: Any) -> Any:
        raise NotImplementedError

    def __call__(self, step: Any) -> Tensor:
        steps = np.asarray(step, dtype="float64")
        return Tensor(k.to_device(np.asarray(self._rates(steps), dtype=settings.floatx())))

    def rate_at(self, step: Any) -> float:
        return float(self._rates(np.float64(float(step))))


AtLeast0 = Annotated[float, Kept(Number(0))]
Above0 = Annotated[float, Kept(Number(above=0))]


@declared
class ExponentialDecay(_Formula):
    """`initial_learning_rate * decay_rate ** (step / decay_steps)`.

    Args:
        staircase: whether the exponent is rounded down.

    >>> from minikeras import optimizers
    >>> schedule = optimizers.schedules.ExponentialDecay(0.1, decay_steps=10, decay_rate=0.5)
    >>> [round(float(schedule(step)), 4) for step in (0, 10, 20)]
    [0.1, 0.05, 0.025]
    """

    initial_learning_rate: AtLeast0
    decay_steps: Above0
    decay_rate: AtLeast0
    staircase: bool = False
    name: str = "ExponentialDecay"

    def _rates(self, step: Any) -> Any:
        periods = step / self.decay_steps
        return self.initial_learning_rate * self.decay_rate ** (np.floor(periods) if self.staircase else periods)


@declared
class InverseTimeDecay(_Formula):
    """`initial_learning_rate / (1 + decay_rate * step / decay_steps)`.

    Args:
        staircase: whether `step / decay_steps` is rounded down.

    >>> from minikeras import optimizers
    >>> schedule = optimizers.schedules.InverseTimeDecay(0.1, decay_steps=1, decay_rate=0.5)
    >>> [round(float(schedule(step)), 4) for step in (0, 2)]
    [0.1, 0.05]
    """

    initial_learning_rate: AtLeast0
    decay_steps: Above0
    decay_rate: AtLeast0
    staircase: bool = False
    name: str = "InverseTimeDecay"

    def _rates(self, step: Any) -> Any:
        periods = step / self.decay_steps
        return self.initial_learning_rate / (1 + self.decay_rate * (np.floor(periods) if self.staircase else periods))


@declared
class PiecewiseConstantDecay(_Formula):
    """`values[i]` while the step is at most `boundaries[i]`, and the last value after the last boundary.

    Args:
        boundaries: increasing steps.
        values: learning rates, one more than boundaries.

    Raises:
        ValueError: for other numbers of them, boundaries that do not increase, and what is no learning rate.

    >>> from minikeras import optimizers
    >>> schedule = optimizers.schedules.PiecewiseConstantDecay([10, 20], [0.1, 0.01, 0.001])
    >>> [round(float(schedule(step)), 4) for step in (5, 15, 25)]
    [0.1, 0.01, 0.001]
    """

    boundaries: Sequence[float]
    values: Sequence[float]
    name: str = "PiecewiseConstant"

    def __post_init__(self) -> None:
        boundaries, values = self.boundaries, self.values
        for argument, given, least in (("boundaries", boundaries, None), ("values", values, 0)):
            if not isinstance(given, (list, tuple, np.ndarray)):
                raise ValueError(f"PiecewiseConstantDecay needs a list of numbers for {argument}, got {given!r}.")
            for one in given:
                number(f"each of PiecewiseConstantDecay's {argument}", one, least)
        if len(boundaries) != len(values) - 1:
            counts = f"{len(values)} values and {len(boundaries)} boundaries"
            raise ValueError(f"PiecewiseConstantDecay needs one value more than boundaries, got {counts}.")
        if any(after <= before for before, after in itertools.pairwise(boundaries)):
            raise ValueError(f"PiecewiseConstantDecay needs boundaries that increase, got {boundaries!r}; sort them.")

    def _rates(self, step: Any) -> Any:
        return np.asarray(self.values)[np.searchsorted(self.boundaries, step, side="left")]


@declared
class PolynomialDecay(_Formula):
    """From the initial rate to the end rate as `(1 - step / decay_steps) ** power`.

    Args:
        initial_learning_rate, end_learning_rate: the rates at step 0 and at the end.
        cycle: whether, past `decay_steps`, the rate rises again and falls over a multiple of `decay_steps`; without it
            the end rate stays.

    >>> from minikeras import optimizers
    >>> schedule = optimizers.schedules.PolynomialDecay(0.1, decay_steps=100, end_learning_rate=0.0)
    >>> [round(float(schedule(step)), 4) for step in (0, 50, 100)]
    [0.1, 0.05, 0.0]
    """

    initial_learning_rate: AtLeast0
    decay_steps: Above0
    end_learning_rate: AtLeast0 = 0.0001
    power: AtLeast0 = 1.0
    cycle: bool = False
    name: str = "PolynomialDecay"

    def _rates(self, step: Any) -> Any:
        if self.cycle:
            part = step / (self.decay_steps * np.maximum(np.ceil(step / self.decay_steps), 1))
        else:
            part = np.minimum(step / self.decay_steps, 1)
        fall = self.initial_learning_rate - self.end_learning_rate
        return fall * (1 - part) ** self.power + self.end_learning_rate


@declared
class CosineDecay(_Formula):
    """Half a cosine from the initial rate to `alpha` times it, after a linear warm-up (Loshchilov and Hutter 2016).

    Args:
        initial_learning_rate: the rate at step 0.
        decay_steps: length of the decay, counted from the end of the warm-up.
        alpha: fraction of the rate that is left at the end.
        warmup_target: the rate at the end of the warm-up, which the decay starts from; None means no warm-up.
        warmup_steps: its length.

    >>> from minikeras import optimizers
    >>> schedule = optimizers.schedules.CosineDecay(0.1, decay_steps=100)
    >>> [round(float(schedule(step)), 4) for step in (0, 50, 100)]
    [0.1, 0.05, 0.0]
    """

    initial_learning_rate: AtLeast0
    decay_steps: Above0
    alpha: AtLeast0 = 0.0
    name: str = "CosineDecay"
    warmup_target: Annotated[float | None, Kept(Number(0, optional=True))] = None
    warmup_steps: Annotated[int, Kept(Number(0))] = 0

    def _rates(self, step: Any) -> Any:
        if self.warmup_target is None:
            return self.initial_learning_rate * _half_cosine(step / self.decay_steps, self.alpha)
        decayed = self.warmup_target * _half_cosine((step - self.warmup_steps) / self.decay_steps, self.alpha)
        rise = (self.warmup_target - self.initial_learning_rate) / max(self.warmup_steps, 1)
        return np.where(step < self.warmup_steps, self.initial_learning_rate + rise * step, decayed)


@declared
class CosineDecayRestarts(_Formula):
    """Cosine decay that starts again and again (SGDR, Loshchilov and Hutter 2016).

    Args:
        initial_learning_rate: the rate at step 0.
        first_decay_steps: length of the first period.
        t_mul: how much longer each period is than the one before.
        m_mul: factor on the rate at each restart.
        alpha: fraction of the initial rate that is left at the end of a period.

    >>> from minikeras import optimizers
    >>> schedule = optimizers.schedules.CosineDecayRestarts(0.1, first_decay_steps=100)
    >>> [round(float(schedule(step)), 4) for step in (0, 50, 100)]
    [0.1, 0.05, 0.1]
    """

    initial_learning_rate: AtLeast0
    first_decay_steps: Above0
    t_mul: Above0 = 2.0
    m_mul: AtLeast0 = 1.0
    alpha: AtLeast0 = 0.0
    name: str = "SGDRDecay"

    def _rates(self, step: Any) -> Any:
        periods = step / self.first_decay_steps
        if self.t_mul == 1:
            restarts = np.floor(periods)
            part = periods - restarts
        else:
            grown = np.log(1 - periods * (1 - self.t_mul)) / math.log(self.t_mul)
            restarts = np.floor(grown + 1e-9)  # at a restart rounding may leave the logarithm just below the integer
            length = self.t_mul**restarts
            part = (periods - (1 - length) / (1 - self.t_mul)) / length
        return self.initial_learning_rate * _half_cosine(part, self.alpha, self.m_mul**restarts)


def _half_cosine(part: Any, alpha: float, height: Any = 1.0) -> Any:
    """`height` at part 0, falling to `alpha` at part 1 and beyond."""
    return (1 - alpha) * 0.5 * height * (1 + np.cos(math.pi * np.minimum(part, 1))) + alpha


_FORMULAS = (
    ExponentialDecay,
    InverseTimeDecay,
    PolynomialDecay,
    PiecewiseConstantDecay,
    CosineDecay,
    CosineDecayRestarts,
)
registry.builtin("keras.optimizers.schedules", *_FORMULAS)


def is_formula(rate: Any) -> bool:
    """Whether a learning rate is one of these schedules, and not a user's."""
    return type(rate) in _FORMULAS


def serialize(learning_rate_schedule: LearningRateSchedule) -> Any:
    """The description of a schedule.

    Args:
        learning_rate_schedule: the schedule.

    >>> from minikeras import optimizers
    >>> optimizers.schedules.serialize(optimizers.schedules.CosineDecay(0.1, 10))["class_name"]
    'CosineDecay'
    """
    return registry.serialize_keras_object(learning_rate_schedule)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The schedule that a description describes; `custom_objects` maps further names to classes.

    >>> from minikeras import optimizers
    >>> config = {"initial_learning_rate": 0.1, "decay_steps": 10}
    >>> optimizers.schedules.deserialize({"class_name": "CosineDecay", "config": config}).decay_steps
    10
    """
    return registry.deserialize_keras_object(config, custom_objects=custom_objects)


offer_names(__name__, hidden="as_rate is_formula")
