"""Optimizers made of others: one that looks for the scale of the loss, and one that hands variables out."""

from __future__ import annotations

import re
from collections import UserDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from minikeras import kernels as k
from minikeras import registry
from minikeras.autodiff.op import differentiable
from minikeras.autodiff.tensor import Tensor, Variable
from minikeras.kernels.arena import only_where
from minikeras.optimizers.base import UNSCALE, Optimizer
from minikeras.optimizers.flat import same
from minikeras.optimizers.rate import StepCount
from minikeras.utils.checks import number, whole


def _an_optimizer(name: str, value: Any, *refused: type) -> Optimizer:
    """`value`, which is to be an optimizer, and none of these kinds.

    Raises:
        TypeError: for anything else.
    """
    if not isinstance(value, Optimizer) or isinstance(value, refused):
        plain = " that is not made of others" if refused else ""
        raise TypeError(f"{name} must be an optimizer{plain}, got {value!r}; pass one such as Adam().")
    return value


@differentiable
def _times(x: Any, *, factor: Any) -> Any:
    """Times a number that lies in memory."""

    def product(array: Any) -> Any:
        out = k.empty(array.shape, array.dtype)
        out[...] = array
        k.scale(out.reshape(-1), factor)
        return out

    return product(x), lambda g, needs: (product(g),)


class _Composed(Optimizer):
    """Base of what is made of other optimizers.

    Attributes:
        optimizers: those that it is made of.
    """

    optimizers: list[Optimizer]

    @property
    def variables(self) -> list[Variable]:
        return super().variables + [variable for one in self.optimizers for variable in one.variables]

    @property
    def _leaves(self) -> list[Optimizer]:
        return [leaf for one in self.optimizers for leaf in one._leaves]

    @property
    def _changes_next(self) -> bool:
        return all(leaf._changes_next for leaf in self._leaves)

    @property
    def _settings(self) -> tuple:
        return (*super()._settings, *(leaf._settings for leaf in self._leaves))

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Optimizer:
        return cls(**registry.deserialize_keras_object(config, custom_objects))


class LossScaleOptimizer(_Composed):
    """Scales the loss so that gradients of float16 neither vanish nor overflow (Micikevicius et al. 2018).

    The loss is multiplied by a scale, the gradients are divided by it.  A step whose gradients are not all finite is
    left out and halves the scale; after `dynamic_growth_steps` good steps in a row it is doubled.  Whether they are
    finite is read back in every step, but not by programs, which leave the update out by themselves.

    Args:
        inner_optimizer: the optimizer that updates the weights, and has all further options.
        initial_scale: what the scale starts from.
        dynamic_growth_steps: after how many good steps it is doubled.
        name: default the class name in snake case with a number.

    Raises:
        TypeError, ValueError: for what is no optimizer, numbers that make no sense, and options of the inner one.

    >>> from minikeras import Variable, optimizers
    >>> w, scaling = Variable([1.0]), optimizers.LossScaleOptimizer(optimizers.SGD(0.5), initial_scale=8.0)
    >>> scaling.apply([[float("inf")]], [w])
    >>> float(scaling.dynamic_scale), w.numpy().tolist()
    (4.0, [1.0])
    >>> scaling.apply([[4.0]], [w])
    >>> w.numpy().tolist()
    [0.5]
    """

    def __init__(
        self,
        inner_optimizer: Optimizer,
        initial_scale: float = 2.0**15,
        dynamic_growth_steps: int = 2000,
        name: str | None = None,
        **kwargs: Any,
    ):
        defaults = {"use_ema": False, "ema_momentum": 0.99, "dynamic": True}  # which files of older versions give
        strange = [key for key, value in kwargs.items() if value != defaults.get(key)]
        if strange:
            raise ValueError(f"LossScaleOptimizer takes no {strange[0]}={kwargs[strange[0]]!r}; the inner one does.")
        super().__init__(0.0, name=name)
        self.inner_optimizer = _an_optimizer("LossScaleOptimizer's inner_optimizer", inner_optimizer)
        self.initial_scale = number("initial_scale", initial_scale, above=0, owner="LossScaleOptimizer")
        self.dynamic_growth_steps = whole("dynamic_growth_steps", dynamic_growth_steps, 1, owner="LossScaleOptimizer")
        self.optimizers = [self.inner_optimizer]
        self.inner_optimizer.loss_scale_factor = None  # else gradients would be divided twice
        self._finite = np.ones(1)  # whether the gradients of the last step were

    @property
    def _obstacle(self) -> str | None:
        several = "it scales the loss of several optimizers" if self._leaves != self.optimizers else None
        return several or self.inner_optimizer._obstacle

    @property
    def _has_changed(self) -> bool:
        return bool(self._finite[0])

    @property
    def _memory(self) -> list[np.ndarray]:
        return [self._now, self._finite]

    def build(self, variables: Iterable[Variable]) -> None:
        """See `Optimizer`."""
        if not self.built:
            self.step_counter = self._host_variable(0, "int32", "step_counter", StepCount)
            self.dynamic_scale = self._host_variable(self.initial_scale, "float32", "dynamic_scale")
            self._state = [self.step_counter, self.dynamic_scale]
            super().build(variables)
            self.inner_optimizer.build(self._trainable_variables)

    @property
    def learning_rate(self) -> Any:
        """That of the inner optimizer."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self.inner_optimizer.learning_rate = value

    lr = learning_rate

    @property
    def iterations(self) -> Any:
        """How many updates have been made; steps that were left out are none."""
        return self.inner_optimizer.iterations

    def scale_loss(self, loss: Any) -> Any:
        if self._now is None or not isinstance(loss, Tensor):
            return loss * (float(self.dynamic_scale) if self.built else self.initial_scale)
        self._now[0] = self.dynamic_scale.host
        return _times(loss, factor=self._now[:1])

    def gradient_destinations(self, variables: Sequence[Variable]) -> dict[int, Any]:
        self.build(variables)
        inner = self.inner_optimizer
        found = inner.gradient_destinations(variables)
        if inner._leaves != [inner]:
            self._now = np.zeros(1)
        elif self._now is None or inner._now.base is not self._now:
            self._now = np.append(0.0, inner._now)  # the scale, and after it the numbers of the inner one
            inner._now, inner._prepared = self._now[1:], None
            found = inner.gradient_destinations(variables)
        return found

    def _is_prepared(self, variables: Sequence[Variable]) -> bool:
        inner = self.inner_optimizer
        return self._now is not None and inner._now.base is self._now and inner._is_prepared(variables)

    def apply_flat(self, gradients: Sequence[Any]) -> None:
        finite = k.all_finite([g for g in gradients if g is not None], self._finite)
        if finite:
            with only_where(self._finite), self._unscaling(self.dynamic_scale.host.item()):
                self.inner_optimizer.apply_flat(gradients)
        self._rescale(finite)

    @contextmanager
    def _unscaling(self, scale: float) -> Iterator[None]:
        """Let the inner optimizer divide gradients by a scale."""
        self.inner_optimizer.loss_scale_factor = scale
        try:
            yield
        finally:
            self.inner_optimizer.loss_scale_factor = None

    def _rescale(self, finite: bool) -> None:
        """Note whether a step's gradients were finite."""
        scale, count = self.dynamic_scale.host, self.step_counter.host
        count[...] = (count + 1) % self.dynamic_growth_steps if finite else 0
        scale[...] = scale * 0.5 if not finite else scale * 2 if count == 0 else scale

    def _numbers_ahead(self, steps: int) -> np.ndarray | None:
        if self._now is None:
            return None
        with self._unscaling(1.0):
            ahead = self.inner_optimizer._numbers_ahead(steps)
        if ahead is None:
            return None
        start = self.dynamic_scale.numpy(), self.step_counter.numpy()
        scales = np.empty((steps, 1))
        for row in scales:
            row[...] = self.dynamic_scale.host
            self._rescale(True)
        self.dynamic_scale.host[...], self.step_counter.host[...] = start
        ahead[:, UNSCALE] = 1 / scales[:, 0]
        return np.hstack([scales, ahead])

    def _advance(self, numbers: np.ndarray) -> None:
        finite = bool(self._finite[0])  # in the last of these steps; in the others they were
        self.inner_optimizer._advance(numbers[: len(numbers) if finite else -1, 1:])
        for step in range(1, len(numbers) + 1):
            self._rescale(finite or step < len(numbers))

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_now": None}

    def __repr__(self) -> str:
        scale = float(self.dynamic_scale) if self.built else self.initial_scale
        return f"<LossScaleOptimizer scale={scale:g} inner_optimizer={self.inner_optimizer!r}>"

    def finalize_variable_values(self, var_list: Iterable[Variable]) -> None:
        self.inner_optimizer.finalize_variable_values(var_list)

    def get_config(self) -> dict[str, Any]:
        names = ("name", "inner_optimizer", "initial_scale", "dynamic_growth_steps")
        return {name: registry.serialize_keras_object(getattr(self, name)) for name in names}


class OptimizerMap(UserDict):
    """Which optimizer updates which variable, by patterns of their paths; a map is called with a variable.

    Args:
        default_optimizer: of the variables that no pattern names.
        optimizer_map: optimizers by regular expressions that match the whole path.

    Raises:
        TypeError: for what is no optimizer or no dict.
        ValueError: where two patterns match one path, and for a pattern that is there already.

    >>> from minikeras import optimizers
    >>> chosen = optimizers.OptimizerMap(optimizers.SGD())
    >>> chosen["encoder/.*"] = optimizers.Adam()
    >>> type(chosen["encoder/kernel"]).__name__, type(chosen["decoder/kernel"]).__name__
    ('Adam', 'SGD')
    """

    def __init__(self, default_optimizer: Optimizer, optimizer_map: dict[str, Optimizer] | None = None):
        self.default_optimizer = _an_optimizer("OptimizerMap's default_optimizer", default_optimizer)
        if not isinstance(optimizer_map, (dict, type(None))):
            raise TypeError(f"OptimizerMap's optimizer_map must be a dict of optimizers, got {optimizer_map!r}.")
        super().__init__(optimizer_map)

    def __getitem__(self, key: str) -> Optimizer:
        if key in self.data:
            return self.data[key]
        found = [pattern for pattern in self.data if re.fullmatch(pattern, key)]
        if len(found) > 1:
            raise ValueError(f"The patterns {found} of an OptimizerMap all match {key!r}; let only one match.")
        return self.data[found[0]] if found else self.default_optimizer

    def __setitem__(self, key: str, optimizer: Optimizer) -> None:
        if not isinstance(key, str) or key in self.data:
            raise ValueError(f"A pattern of an OptimizerMap must be a new string, got {key!r}; delete the old one.")
        self.data[key] = _an_optimizer("An entry of an OptimizerMap", optimizer, _Composed)

    def __call__(self, variable: Variable) -> Optimizer:
        return self[variable.path]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {"default_optimizer": self.default_optimizer, "optimizer_map": self.data}
        return registry.serialize_keras_object(config)

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None) -> OptimizerMap:
        """The map that `get_config` described."""
        return cls(**registry.deserialize_keras_object(config, custom_objects))


class MultiOptimizer(_Composed):
    """Updates each variable by an optimizer of its own choice.

    Args:
        optimizer_map: an `OptimizerMap`, or a function that returns the optimizer of a variable.
        loss_scale_factor: see `Optimizer`; the others have none of their own.
        name: default the class name in snake case with a number.

    Raises:
        TypeError: when it is built, where the map gives no optimizer, or one that is made of others.

    >>> from minikeras import Variable, optimizers
    >>> slow, fast = optimizers.SGD(0.25), optimizers.SGD(1.0)
    >>> both = optimizers.MultiOptimizer(lambda variable: slow if variable.name == "a" else fast)
    >>> weights = [Variable([1.0], name="a"), Variable([1.0], name="b")]
    >>> both.apply([[1.0], [1.0]], weights)
    >>> [weight.numpy().tolist() for weight in weights]
    [[0.75], [0.0]]
    """

    def __init__(
        self, optimizer_map: Callable[..., Optimizer], loss_scale_factor: float | None = None, name: str | None = None
    ):
        super().__init__(0.0, loss_scale_factor=loss_scale_factor, name=name)
        if not callable(optimizer_map):
            raise TypeError(f"MultiOptimizer takes an OptimizerMap or a function of a variable, got {optimizer_map!r}.")
        self._optimizer_map = optimizer_map
        self.optimizers: list[Optimizer] = []
        self._owners: list[int] = []  # the position of the optimizer of each variable
        self._given: list[Variable] = []
        self._members: list[Optimizer] = []  # those that have variables
        self._updated: list[Optimizer] = []  # those that the last step updated by
        if isinstance(optimizer_map, OptimizerMap):
            for one in (*optimizer_map.values(), optimizer_map.default_optimizer):
                self._join(one)

    def _join(self, one: Any) -> int:
        """The position of an optimizer, which is one of these from now on."""
        _an_optimizer("What MultiOptimizer's optimizer_map gives", one, _Composed)
        if one not in self.optimizers:
            self.optimizers.append(one)
        return self.optimizers.index(one)

    def build(self, variables: Iterable[Variable]) -> None:
        """See `Optimizer`."""
        if not self.built:
            variables = list(variables)
            self._owners = [self._join(self._optimizer_map(variable)) for variable in variables]
            super().build(variables)
            for one, places in self._parts(variables):
                one.build([variables[i] for i in places])

    def _parts(self, variables: Sequence[Variable]) -> list[tuple[Optimizer, list[int]]]:
        """Each optimizer that has some of these variables, and where they stand; the first refuses strange ones."""
        known = dict(zip(map(id, self._trainable_variables), self._owners, strict=True))
        owners = [known.get(id(variable), 0) for variable in variables]
        places = [[i for i, at in enumerate(owners) if at == position] for position in range(len(self.optimizers))]
        return [(one, found) for one, found in zip(self.optimizers, places, strict=True) if found]

    @property
    def learning_rate(self) -> Any:
        """There is none; each of `optimizers` has its own."""
        raise AttributeError("A MultiOptimizer has no learning_rate; ask one of its `optimizers` for theirs.")

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        raise AttributeError(f"A MultiOptimizer has no learning_rate to set to {value!r}; set that of `optimizers`.")

    lr = learning_rate

    def gradient_destinations(self, variables: Sequence[Variable]) -> dict[int, Any]:
        self.build(variables)
        if not same(self._given, variables):
            self._given, self._shares = list(variables), self._parts(variables)
            self._join_numbers()
        found: dict[int, Any] = {}
        for one, places in self._shares:
            found |= one.gradient_destinations([variables[i] for i in places])
        return found

    def _is_prepared(self, variables: Sequence[Variable]) -> bool:
        shares = self._shares if same(self._given, variables) else []
        return bool(shares) and all(one._is_prepared([variables[i] for i in places]) for one, places in shares)

    def apply_flat(self, gradients: Sequence[Any]) -> None:
        present = any(gradient is not None for gradient in gradients)
        updated = []
        for one, places in self._shares:
            own = [gradients[i] for i in places]
            if not present or any(gradient is not None for gradient in own):  # without any, each says so
                one.loss_scale_factor = self.loss_scale_factor
                one.apply_flat(own)
                updated.append(one)
        if not same(self._updated, updated):  # else nothing about this optimizer has changed
            self._updated = updated
        self._iterations.host += 1

    def _join_numbers(self) -> None:
        """Let the numbers of a step of all optimizers lie in one array, each one's in its own part of it."""
        self._members = [one for one in self.optimizers if one.built]
        if self._now is None or not all(map(self._has_numbers_of, self._members)):
            sizes = [len(one._numbers(1.0, 1)) for one in self._members]
            self._now = np.zeros(sum(sizes))
            for one, part in zip(self._members, np.split(self._now, np.cumsum(sizes)[:-1]), strict=True):
                one._now, one._prepared = part, None

    def _has_numbers_of(self, one: Optimizer) -> bool:
        return one._now is not None and one._now.base is self._now

    def _numbers_ahead(self, steps: int) -> np.ndarray | None:
        for one in self._members:
            one.loss_scale_factor = self.loss_scale_factor
        ahead = [one._numbers_ahead(steps) for one in self._members]
        return None if any(one is None for one in ahead) else np.concatenate(ahead, axis=1)  # type: ignore[arg-type]

    def _advance(self, numbers: np.ndarray) -> None:
        ends = np.cumsum([one._now.size for one in self._members])
        for one, part in zip(self._members, np.split(numbers, ends[:-1], axis=1), strict=True):
            one._advance(part)
        self._iterations.host += len(numbers)

    @property
    def _obstacle(self) -> str | None:
        if not same(self._updated, self._members):
            return "not all of its optimizers make every update"
        if not all(map(self._has_numbers_of, self._members)):
            return "one of its optimizers has become a part of another"
        return next(filter(None, [super()._obstacle, *(one._obstacle for one in self._members)]), None)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_given": [], "_now": None}

    def __repr__(self) -> str:
        return f"<MultiOptimizer optimizers={self.optimizers}>"

    def finalize_variable_values(self, var_list: Iterable[Variable]) -> None:
        variables = list(var_list)
        for one, places in self._parts(variables):
            one.finalize_variable_values([variables[i] for i in places])

    def get_config(self) -> dict[str, Any]:
        described = registry.serialize_keras_object(self._optimizer_map)
        return {"optimizer_map": described, "loss_scale_factor": self.loss_scale_factor, "name": self.name}
