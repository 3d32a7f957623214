"""Optimizer: what all optimizers share - learning rate, step count, clipping, weight decay, averages, saving.

A step works on a few long arrays (see `flat`) and reads nothing back from the device: the learning rate and the step
count live in the host's memory, and a norm that gradients are clipped by stays where it was computed.  Every number
that changes from step to step is written to one array, `_now`, which the kernels read: so the very same calls make
every step.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as slot
from struct import Struct
from typing import Annotated, Any, ClassVar

import numpy as np

from minikeras import config as settings
from minikeras import initializers, registry
from minikeras import kernels as k
from minikeras.autodiff.gradients import GradientTape
from minikeras.autodiff.operands import raw
from minikeras.autodiff.symbolic import snake_case, unique_name
from minikeras.autodiff.tensor import Tensor, Variable, assign_all, list_of_arrays, mark_changed, substituted
from minikeras.constraints import is_builtin
from minikeras.declared import Check, Number, Whole, declared, field, fields
from minikeras.kernels.arena import only_where
from minikeras.optimizers.flat import FlatVariables, adopt, same, stretches
from minikeras.optimizers.rate import HostVariable, Rated
from minikeras.optimizers.schedules import InverseTimeDecay
from minikeras.tracebacks import user_facing
from minikeras.utils.suggest import unknown


def _epsilon(thing: Any, name: str, value: Any) -> float:
    return settings.epsilon() if value is None else Number(0)(thing, name, value)


def _every(at_least: int) -> Check:
    """The check of every how many steps something happens; 0 is never, as None is."""
    check = Whole(at_least, optional=True)
    return lambda thing, name, value: 0 if value == 0 and not isinstance(value, bool) else check(thing, name, value)


AT_LEAST_0 = Number(0, optional=True)
Share = Annotated[float, Number(0, 1)]
PartialShare = Annotated[float, Number(0, below=1)]  # of a mean that is divided by the rest
Epsilon = Annotated[float | None, _epsilon]  # None means the global one

# places in `_now` of what all optimizers need: 1 where gradients become an update and are not only accumulated, weight
# decay times rate, share of an old average, 1 / loss scale
_UPDATES, DECAY, _KEPT, UNSCALE = -4, -3, -2, -1
_OURS = __name__.rpartition(".")[0] + "."


@dataclass(slots=True)
class Plan:
    """What a step works on, for one choice of the variables that have a gradient.

    Attributes:
        now: arrays of one number each, views of the optimizer's `_now`.
        variables, gradients: one by one.
        each: `(parameters, gradient, *slots)` of one variable after the other.
        segments: the same as long 1-D arrays, of which there is usually one tuple.
        flat_gradients, decayed: long arrays of the gradients, and of the parameters that weight decay reaches.
        is_decayed: whether weight decay reaches all parameters.
        accumulated: long arrays `(accumulator, gradients)`.
        averaged: long arrays `(average, parameters)` of all variables, with a gradient or not.
        overwritten: `(variable, gradient, accumulator or None)` of those that become their gradients; nothing above has
            any of them.
    """

    now: list[np.ndarray]
    variables: list[Variable]
    gradients: list[Any]
    each: list[tuple]
    segments: list[tuple]
    flat_gradients: list[Any]
    decayed: list[Any]
    is_decayed: bool
    accumulated: list[tuple]
    averaged: list[tuple]
    overwritten: list[tuple[Variable, Any, Any]]


@dataclass(slots=True)
class _Prepared:
    """The flat arrays, and the variables that gradients are given for at present."""

    flat: FlatVariables
    variables: list[Variable]
    positions: list[int]
    gradients: list[Any]
    plan: Plan
    pack: Callable[..., None]  # `(array, first byte, *numbers)`: put a step's numbers into float64 memory
    partial: dict[tuple[int, ...], Plan] = slot(default_factory=dict)

    def replaced(self, view: Callable[[Any], Any]) -> Callable[[], None]:
        """Let all arrays be seen through others of the same memory; what puts them back is returned."""
        flat, before = self.flat, ([*self.flat.gradients], self.gradients, self.plan, self.partial)
        seen = {id(one): view(one) for one in flat.gradients}

        def put(gradients: list[Any], own: list[Any], plan: Plan, partial: dict[tuple[int, ...], Plan]) -> None:
            flat.gradients[:] = gradients
            flat.destinations.update(zip(flat.index, gradients, strict=True))
            self.gradients, self.plan, self.partial = own, plan, partial

        def through(arrays: Any) -> Any:
            if isinstance(arrays, (list, tuple)):
                return type(arrays)(map(through, arrays))
            return arrays if arrays is None else seen[id(arrays)] if id(arrays) in seen else view(arrays)

        def viewed(plan: Plan) -> Plan:
            names = "now", "gradients", "each", "segments", "flat_gradients", "decayed", "accumulated", "averaged"
            return replace(plan, **{name: through(getattr(plan, name)) for name in names})

        partial = {present: viewed(plan) for present, plan in self.partial.items()}
        put([*seen.values()], through(self.gradients), viewed(self.plan), partial)
        return lambda: put(*before)


@declared(kw_only=True)
class Optimizer(Rated):
    """Base class of the optimizers.

    A user's subclass makes its variables in `build(variables)` and updates one weight in `update_step(gradient,
    variable, learning_rate)`, as in Keras.  The built-in ones name their state in `_slot_groups` and update long
    arrays in `_update`.

    Args:
        learning_rate: a number of at least 0, a `LearningRateSchedule`, or a function without arguments that returns
            such a number.
        weight_decay: decoupled weight decay: before each update the weights fall by `weight_decay * learning_rate` of
            themselves.
        clipnorm: the largest norm of each variable's gradient; 0 or None is no clipping, as for the next two, of which
            one alone may be given.
        clipvalue: the largest absolute value in a gradient.
        global_clipnorm: the largest norm of all gradients together.
        use_ema: whether exponential moving averages of the weights are kept, which replace the weights at the end of
            `fit`, and after every `ema_overwrite_frequency` updates where that is given.
        ema_momentum: share of the old average that each update keeps.
        loss_scale_factor: what `scale_loss` multiplies the loss by; gradients are divided by it.
        gradient_accumulation_steps: update once in so many steps, with the mean of their gradients.
        name: default the class name in snake case with a number.
        lr, decay: as in Keras 2: the learning rate, and `lr / (1 + decay * iterations)`.

    Raises:
        ValueError: for numbers that make no sense, such as a negative or infinite learning rate or weight decay.

    >>> import minikeras as keras
    >>> from minikeras import ops
    >>> class Plain(keras.optimizers.Optimizer):
    ...     def update_step(self, gradient, variable, learning_rate):
    ...         self.assign_sub(variable, gradient * learning_rate)
    ...
    >>> w = keras.Variable([1.0])
    >>> Plain(learning_rate=0.5).apply([ops.ones((1,))], [w])
    >>> w.numpy()
    array([0.5], dtype=float32)
    """

    _SLOTS: ClassVar[tuple[tuple[str, ...], ...]] = ()  # what `_slot_groups` gives, where that depends on nothing
    _DECAYS: ClassVar[bool] = False  # whether `_update` lets all weights decay, where all do

    learning_rate: Any = field(kw_only=False, stored=False)
    weight_decay: Annotated[float | None, AT_LEAST_0] = None
    clipnorm: Annotated[float | None, AT_LEAST_0] = None
    clipvalue: Annotated[float | None, AT_LEAST_0] = None
    global_clipnorm: Annotated[float | None, AT_LEAST_0] = None
    use_ema: bool = False
    ema_momentum: Share = 0.99
    ema_overwrite_frequency: Annotated[int | None, _every(1)] = None
    loss_scale_factor: Annotated[float | None, Number(above=0, optional=True)] = None
    gradient_accumulation_steps: Annotated[int | None, _every(2)] = None
    name: str | None = None
    decay: Annotated[float | None, AT_LEAST_0] = None

    def __post_init__(self, learning_rate: Any) -> None:  # type: ignore[override]
        self.decay = self.decay or 0.0
        clips = {name: getattr(self, name) for name in ("clipnorm", "clipvalue", "global_clipnorm")}
        if sum(value is not None for value in clips.values()) > 1:
            raise ValueError(f"Only one way of clipping may be chosen, got {clips}; leave the others None.")
        self.name = self.name or unique_name(snake_case(type(self).__name__))
        self._start(learning_rate)
        self.built = False
        self._state: list[Variable] = []  # what `variables` holds beyond iteration and learning rate
        self._trainable_variables: list[Variable] = []
        self._slots: list[list[Variable]] = []
        self._averages: list[Variable] = []
        self._accumulators: list[Variable] = []
        self._undecayed: list[Variable] = []
        self._undecayed_names: str | None = None
        self._prepared: _Prepared | None = None
        self._now: Any = None  # the numbers of the present step, of float64; made for the first one, and kept

    @classmethod
    def _other_arguments(cls, given: dict[str, Any]) -> dict[str, Any]:
        return {"learning_rate" if name == "lr" else name: value for name, value in given.items()}

    @classmethod
    def _refuse_arguments(cls, names: list[str], known: Iterable[str]) -> None:
        raise ValueError(unknown(f"argument of {cls.__name__}", names[0], known))

    def _slot_groups(self) -> list[tuple[str, ...]]:
        """Names of the state kept for each variable; those in one tuple are saved interleaved."""
        return [*self._SLOTS]

    def _initial_value(self, slot: str) -> float:
        """What the state of that name starts from."""
        return 0.0

    def build(self, variables: Iterable[Variable]) -> None:
        """Create the state for these trainable variables; does nothing once that is done."""
        if self.built:
            return
        variables = self._trainable_variables = list(variables)
        if self.use_ema:
            self._averages = self.add_optimizer_variables(variables, "average")
        if self.gradient_accumulation_steps:
            self._accumulators = [self.add_variable_from_reference(v, "gradient_accumulator") for v in variables]
        for names in self._slot_groups():
            starts = [initializers.Constant(self._initial_value(name)) for name in names]
            self._slots.extend(self.add_optimizer_variables(variables, names, starts))
        self.built = True

    def add_variable(
        self,
        shape: Sequence[int],
        initializer: Any = "zeros",
        dtype: Any = None,
        aggregation: str = "none",
        layout: Any = None,
        name: str | None = None,
    ) -> Variable:
        """Create a variable of the optimizer's state."""
        initializer, dtype = initializers.get(initializer), dtype or settings.floatx()
        variable = Variable(initializer, shape=tuple(shape), dtype=dtype, trainable=False, name=name)
        variable.path = f"{self.name}/{variable.name}"
        self._state.append(variable)
        return variable

    def add_variable_from_reference(
        self, reference_variable: Variable, name: str | None = None, initializer: Any = "zeros"
    ) -> Variable:
        """Create a variable of the shape and type of a weight, named after both."""
        name = f"{reference_variable.path.replace('/', '_')}_{name or 'var'}"
        return self.add_variable(reference_variable.shape, initializer, reference_variable.dtype, name=name)

    def add_optimizer_variables(
        self, trainable_variables: Iterable[Variable], name: Any, initializer: Any = "zeros"
    ) -> Any:
        """Create a variable for each weight: a list, or for several names a tuple of lists.

        There is None for a weight that is overwritten with its gradient.
        """
        names = [name] if isinstance(name, str) else list(name)
        starts = list(initializer) if isinstance(initializer, (list, tuple)) else [initializer] * len(names)
        if len(starts) != len(names):
            raise ValueError(f"{len(names)} names need as many initializers, got {len(starts)}.")
        made: list[list[Any]] = [[] for _ in names]
        for variable in trainable_variables:
            for one_name, start, group in zip(names, starts, made, strict=True):
                kept = not variable.overwrite_with_gradient
                group.append(self.add_variable_from_reference(variable, one_name, start) if kept else None)
        return made[0] if isinstance(name, str) else tuple(made)

    @property
    def variables(self) -> list[Variable]:
        """The state in the order that Keras saves it."""
        has_rate = isinstance(self._learning_rate, HostVariable) and not self.decay
        return [self._iterations, *([self._learning_rate] if has_rate else []), *self._state]

    def _get_variable_index(self, variable: Variable) -> int:
        """The position of a weight among those that the optimizer was built for."""
        if self._prepared is None:
            self.gradient_destinations(self._trainable_variables)
        return self._prepared.flat.index[id(variable)]  # type: ignore[union-attr]

    def exclude_from_weight_decay(
        self, var_list: Iterable[Variable] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """Spare variables from weight decay: those listed, and those in whose name one of `var_names` is found.

        Call it before the optimizer is built.
        """
        if self.built:
            raise ValueError(f"The optimizer {self.name!r} is built already; exclude variables before it is used.")
        self._undecayed = list(var_list or [])
        self._undecayed_names = "|".join(sorted(set(var_names or []))) or None

    def _is_decayed(self, variable: Variable) -> bool:
        if any(variable is other for other in self._undecayed):
            return False
        return self._undecayed_names is None or re.search(self._undecayed_names, variable.name) is None

    # ------------------------------------------------------------ a step

    def gradient_destinations(self, variables: Sequence[Variable]) -> dict[int, Any]:
        """Where `backward` should write the gradients of these variables: `id(variable) -> array`.

        The first call builds the optimizer for them.  Later calls may name fewer.

        Raises:
            ValueError: for a variable that the optimizer was not built for.
        """
        if not self._is_prepared(variables):
            self._prepared = self._prepare(variables)
        return self._prepared.flat.destinations  # type: ignore[union-attr]

    def _is_prepared(self, variables: Sequence[Variable]) -> bool:
        """Whether the arrays are there that steps on these variables work on."""
        now = self._prepared
        return now is not None and same(now.variables, variables) and now.flat.is_current()

    def _prepare(self, variables: Sequence[Variable]) -> _Prepared:
        if not self.built:
            self.build(variables)
        flat = self._prepared.flat if self._prepared is not None else None
        if flat is None or not flat.is_current():
            flat = FlatVariables(self._trainable_variables)
        for slots in (*self._slots, self._averages, self._accumulators):
            adopt([slot for slot in slots if slot is not None])
        strange = [variable.path for variable in variables if id(variable) not in flat.index]
        if strange:
            problem = f"The optimizer {self.name!r} was built for other variables and does not know {strange[0]!r}"
            raise ValueError(f"{problem}; use a new optimizer (for a model: compile it again with one).")
        positions = [flat.index[id(variable)] for variable in variables]
        gradients = [flat.gradients[position] for position in positions]
        if self._now is None:
            self._now = np.zeros(len(self._numbers(1.0, 1)))
        pack = Struct(f"{self._now.size}d").pack_into
        return _Prepared(flat, list(variables), positions, gradients, self._plan(flat, positions), pack)

    def _plan(self, flat: FlatVariables, positions: list[int]) -> Plan:
        slots = [[None if slot is None else slot.data for slot in group] for group in self._slots]
        averages = [None if average is None else average.data for average in self._averages]
        accumulators = [accumulator.data for accumulator in self._accumulators]
        overwritten = [position for position in positions if flat.variables[position].overwrite_with_gradient]
        positions = [position for position in positions if position not in overwritten]
        variables = [flat.variables[position] for position in positions]
        decayed = [position for position in positions if self._is_decayed(flat.variables[position])]
        return Plan(
            now=[self._now[i : i + 1] for i in range(self._now.size)],
            variables=variables,
            gradients=[flat.gradients[position] for position in positions],
            each=[(flat.arrays[i], flat.gradients[i], *[group[i] for group in slots]) for i in positions],
            segments=stretches([flat.arrays, flat.gradients, *slots], positions),
            flat_gradients=[g for (g,) in stretches([flat.gradients], positions)],
            decayed=[p for (p,) in stretches([flat.arrays], decayed)],
            is_decayed=decayed == positions,
            accumulated=stretches([accumulators, flat.gradients], positions if accumulators else []),
            averaged=stretches([averages, flat.arrays], [i for i, one in enumerate(averages) if one is not None]),
            overwritten=[
                (flat.variables[i], flat.gradients[i], accumulators[i] if accumulators else None) for i in overwritten
            ],
        )

    def apply_flat(self, gradients: Sequence[Any]) -> None:
        """Update the weights by raw gradients in the order of the variables that `gradient_destinations` was given.

        Args:
            gradients: what `backward` returned with those destinations.  A variable whose gradient is None stays as it
                is, and so does its state.

        Raises:
            ValueError: where all of them are None, or the learning rate has become none; nothing is changed.
        """
        now = self._prepared
        if now is None:
            raise RuntimeError("apply_flat was called before gradient_destinations; call that first, or use apply.")
        rate, count = self._current_rate(), int(self._iterations.host)
        plan = now.plan if same(now.gradients, gradients) else self._collected(now, gradients)
        now.pack(self._now, 0, *self._numbers(rate, self._updates() + 1, self._changes_next))
        for variable, gradient, total in plan.overwritten:
            self._overwrite(variable, gradient, total)
        if self.loss_scale_factor is not None:
            for g in plan.flat_gradients:
                k.scale(g, plan.now[UNSCALE])
        if self.gradient_accumulation_steps:
            self._accumulate(plan)
        else:
            self._change(plan)
        if self.use_ema:
            self._average(plan, count)
        for variable in [one for one in plan.variables if one.constraint is not None]:
            constraint, p = variable.constraint, variable.data
            if is_builtin(constraint):
                constraint.project(p, p)
                mark_changed([variable])
            else:
                variable.assign(constraint(variable))
        self._iterations.host[...] = count + 1

    def _change(self, plan: Plan) -> None:
        """Change the weights by the gradients."""
        self._clip(plan)
        if self.weight_decay and not (plan.is_decayed and self._DECAYS):
            for p in plan.decayed:
                k.decay(p, plan.now[DECAY])
        self._update(plan)
        mark_changed(plan.variables)

    def _step_numbers(self, rate: float, update: int) -> tuple[float, ...]:
        """The numbers of an update that `_update` reads from `Plan.now`: those that change from one to the next.

        Args:
            rate: the learning rate.
            update: which update it is, 1 for the first.
        """
        return (rate,)

    def _numbers(self, rate: float, update: int, changes: bool = True) -> tuple[float, ...]:
        """What `_now` holds in a step: those of `_step_numbers`, and after them what all optimizers need.

        Args:
            rate: the learning rate.
            update: which update it is, or belongs to, 1 for the first.
            changes: whether it changes the weights.
        """
        decay = self.weight_decay * rate if self.weight_decay else 0.0
        kept = self.ema_momentum if self.use_ema and update > 1 else 0.0
        unscale = 1.0 if self.loss_scale_factor is None else 1 / self.loss_scale_factor
        return (*self._step_numbers(rate, update), changes, decay, kept, unscale)

    def _carry(self, numbers: Any) -> None:
        """Keep what the numbers of the next update depend on, beside the step count."""

    def _numbers_ahead(self, steps: int) -> np.ndarray | None:
        """What `_now` will hold in the next steps, a row for each; it changes nothing.

        None where the learning rate cannot be known, and before the first `gradient_destinations`.
        """
        rates = self._rates_ahead(steps)
        if rates is None or self._prepared is None:
            return None
        rows, first, pack = np.empty((steps, self._now.size)), int(self._iterations.host), self._prepared.pack
        every, width = self.gradient_accumulation_steps or 1, rows.strides[0]
        for step, rate in enumerate(rates):
            changes = (first + step + 1) % every == 0
            numbers = self._numbers(rate, (first + step) // every + 1, changes)
            pack(rows, step * width, *numbers)
            if changes:
                self._carry(numbers)
        return rows

    def _advance(self, numbers: np.ndarray) -> None:
        """Note that steps were made by other means than `apply_flat`, with these rows of `_numbers_ahead`."""
        if len(numbers):
            self._now[...] = numbers[-1]
            last = next((row for row in reversed(numbers) if row[_UPDATES]), None)
            if last is not None:
                self._carry(last)
            self._iterations.host[...] = int(self._iterations.host) + len(numbers)

    @property
    def _obstacle(self) -> str | None:
        """Why updates are not the same kernels in every step, in a few words; None where they are."""
        variables = self._trainable_variables
        constraints = [variable.constraint for variable in variables if variable.constraint is not None]
        reasons = (
            (not type(self).__module__.startswith(_OURS), f"{type(self).__name__} is a user's optimizer"),
            ("apply_flat" in vars(self), "its apply_flat was replaced"),
            (self.use_ema and self.ema_overwrite_frequency, "averages replace the weights every few updates"),
            (any(one.dtype != "float32" for one in variables), "a weight is not of float32"),
            (any(one.overwrite_with_gradient for one in variables), "a weight is overwritten with its gradient"),
            (not all(map(is_builtin, constraints)), "a weight has a user's constraint"),
        )
        return next((reason for is_so, reason in reasons if is_so), None)

    @property
    def _settings(self) -> tuple:
        """What an update's kernels are told beside `_now`: with other settings they are other calls."""
        return tuple([getattr(self, name) for name in fields(self) if name != "learning_rate"])

    @property
    def _leaves(self) -> list[Optimizer]:
        """Those that update weights themselves, each with what it has `_prepared`: this one, or what it is made of."""
        return [self]

    @property
    def _is_repeatable(self) -> bool:
        """Whether every update is the same kernels, which read from `_now` what changes."""
        return self._obstacle is None

    def _collected(self, now: _Prepared, gradients: Sequence[Any]) -> Plan:
        """The plan for the gradients that are there, after those that lie elsewhere were copied to their place."""
        for g, variable in zip(gradients, now.variables, strict=True):
            if g is not None and g.shape != variable.shape:
                raise ValueError(
                    f"The gradient of {variable.path!r} must have its shape {variable.shape}, got {g.shape}."
                )
        present = tuple([position for position, g in zip(now.positions, gradients, strict=True) if g is not None])
        if not present:
            problem = f"None of the {len(now.variables)} trainable variables has a gradient"
            raise ValueError(f"{problem}; compute the loss from the model's outputs with differentiable operations.")
        for gradient, view in zip(gradients, now.gradients, strict=True):
            if gradient is not None and gradient is not view:
                view[...] = gradient
        if len(present) == len(now.positions):
            return now.plan
        plan = now.partial.get(present)
        if plan is None:
            missing = [variable.path for variable, g in zip(now.variables, gradients, strict=True) if g is None]
            warnings.warn(f"The loss does not depend on the variables {missing}, which stay as they are.", stacklevel=4)
            plan = now.partial[present] = self._plan(now.flat, list(present))
        return plan

    def _accumulate(self, plan: Plan) -> None:
        """Add to the gradients of earlier steps; every n-th step changes the weights by their mean."""
        for total, g in plan.accumulated:
            k.add_up(total, g)
        if self._changes_next:
            with only_where(plan.now[_UPDATES]):
                for total, g in plan.accumulated:
                    k.take_mean(total, self.gradient_accumulation_steps, g)
                self._change(plan)

    @property
    def _has_changed(self) -> bool:
        """Whether the last step has changed the weights: its gradients were finite, or nobody has looked."""
        return True

    @property
    def _memory(self) -> list[np.ndarray]:
        """Arrays of its own that its kernels read and write, beside those of variables."""
        return [self._now]

    @property
    def _changes_next(self) -> bool:
        """Whether the next step changes the weights: others only accumulate gradients."""
        return (int(self._iterations.host) + 1) % (self.gradient_accumulation_steps or 1) == 0

    def _overwrite(self, variable: Variable, gradient: Any, total: Any) -> None:
        """Put a gradient in the place of its variable: with gradient accumulation the largest of each element."""
        if total is not None:
            k.xp.maximum(gradient, total, out=gradient)
            if not self._changes_next:
                total[...] = gradient
                return
            total.fill(0)
        variable.assign(Tensor(gradient))

    def _clip(self, plan: Plan) -> None:
        if self.clipnorm:
            k.clip_by_norm(plan.gradients, self.clipnorm, together=False)
        elif self.global_clipnorm:
            k.clip_by_norm(plan.flat_gradients, self.global_clipnorm)
        elif self.clipvalue:
            for g in plan.flat_gradients:
                k.clip_by_value(g, self.clipvalue)

    def _update(self, plan: Plan) -> None:
        rate = plan.now[0].item()
        for gradient, variable in zip(plan.gradients, plan.variables, strict=True):
            self.update_step(Tensor(gradient), variable, rate)

    def update_step(self, gradient: Any, variable: Variable, learning_rate: float) -> None:
        """Update one variable by its gradient: what a user's optimizer defines."""
        raise NotImplementedError(f"{type(self).__name__} must define update_step(gradient, variable, learning_rate).")

    def _average(self, plan: Plan, count: int) -> None:
        for average, p in plan.averaged:
            k.ema(average, p, plan.now[_KEPT])
        every = self.ema_overwrite_frequency
        if every and (count // (self.gradient_accumulation_steps or 1) + 1) % every == 0:
            for average, p in plan.averaged:
                p[...] = average

    def finalize_variable_values(self, var_list: Iterable[Variable]) -> None:
        """Put the moving averages, where they are kept, in the place of these weights."""
        if self.use_ema and self.built:
            averages = [(variable, self._averages[self._get_variable_index(variable)]) for variable in var_list]
            kept = [(variable, average) for variable, average in averages if average is not None]
            assign_all([variable for variable, _ in kept], [average for _, average in kept])

    def scale_loss(self, loss: Any) -> Any:
        """The loss to differentiate: times `loss_scale_factor`."""
        return loss if self.loss_scale_factor is None else loss * self.loss_scale_factor

    @user_facing
    def apply(self, grads: Sequence[Any], trainable_variables: Iterable[Variable] | None = None) -> None:
        """Update variables by their gradients.

        Args:
            grads: tensors or arrays, None for a variable without a gradient.
            trainable_variables: default those that the optimizer was built for; the first call builds it for them.
        """
        grads = list(grads)
        if trainable_variables is None and not self.built:
            raise ValueError("apply was given no variables and the optimizer has none; pass trainable_variables.")
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        if len(grads) != len(variables):
            raise ValueError(f"{len(variables)} variables need as many gradients, got {len(grads)}.")
        if grads:
            self.gradient_destinations(variables)
            self.apply_flat([None if gradient is None else k.xp.asanyarray(raw(gradient)) for gradient in grads])

    def stateless_apply(
        self, optimizer_variables: Sequence[Any], grads: Sequence[Any], trainable_variables: Sequence[Any]
    ) -> tuple[list[Any], list[Any]]:
        """What an update makes of values of the trained variables and of `variables`, which stay as they are.

        Returns:
            The values of the trained variables and those of the optimizer's, after the update.

        Raises:
            ValueError: for an optimizer that is not built, and where the values are not as many as the variables.

        >>> from minikeras import Variable, optimizers
        >>> sgd = optimizers.SGD(0.5)
        >>> sgd.build([Variable([3.0])])
        >>> values, state = sgd.stateless_apply(sgd.variables, [[2.0]], [[4.0]])
        >>> float(values[0][0]), int(state[0])
        (3.0, 1)
        """
        if not self.built:
            raise ValueError(f"stateless_apply needs a {type(self).__name__} that is built; call build(variables).")
        trained, own = self._trainable_variables, self.variables
        values = [*trainable_variables, *optimizer_variables]
        with substituted("stateless_apply", [*trained, *own], values):
            self.apply(grads)
            return [variable.value for variable in trained], [variable.value for variable in own]

    @user_facing
    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> Variable:
        """Update variables by pairs `(gradient, variable)`; returns the step count."""
        pairs = list(grads_and_vars)
        self.apply([gradient for gradient, _ in pairs], [variable for _, variable in pairs])
        return self._iterations

    @user_facing
    def minimize(self, loss: Any, var_list: Any, grad_loss: Any = None, name: Any = None, tape: Any = None) -> Variable:
        """Update variables so that a loss falls, by its gradient; returns the step count.

        Args:
            loss: a function without arguments that computes it, or a tensor, with the `tape` that it was recorded on.
            var_list: the variables, or a function that returns them.
            grad_loss: the gradient at the loss, default ones.
            name: accepted for familiarity.
            tape: the tape that recorded the loss.

        Raises:
            ValueError: for a tensor without a tape, and where no variable has a gradient; nothing is changed.

        >>> from minikeras import Variable, optimizers
        >>> x = Variable([3.0])
        >>> steps = optimizers.SGD(0.25).minimize(lambda: x * x, [x])
        >>> x.numpy().tolist()
        [1.5]
        """
        if callable(loss) and not isinstance(loss, Tensor):
            with GradientTape() as tape:
                loss = loss()
        elif tape is None:
            raise ValueError("minimize of a tensor needs the tape that it was recorded on; pass tape, or a function.")
        variables = list(var_list() if callable(var_list) else var_list)
        gradients = tape.gradient(loss, variables, grad_loss)
        scaled = [None if g is None else self.scale_loss(g) for g in gradients]
        return self.apply_gradients(zip(scaled, variables, strict=True))

    def assign(self, variable: Variable, value: Any) -> None:
        """Replace the values of a variable."""
        variable.assign(value)

    def assign_add(self, variable: Variable, value: Any) -> None:
        """Add to a variable."""
        variable.assign_add(value)

    def assign_sub(self, variable: Variable, value: Any) -> None:
        """Subtract from a variable."""
        variable.assign_sub(value)

    # ------------------------------------------------------------ saving

    def get_weights(self) -> list[np.ndarray]:
        """The values of `variables`."""
        return [variable.numpy() for variable in self.variables]

    @user_facing
    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the values of `variables`; the optimizer must be built.

        Raises:
            ValueError, TypeError: where number, shapes or types do not fit; nothing is changed.
        """
        variables, weights = self.variables, list_of_arrays(f"The optimizer {self.name!r}", weights)
        if len(weights) != len(variables):
            problem = f"The optimizer {self.name!r} has {len(variables)} variables, got {len(weights)} arrays"
            raise ValueError(f"{problem}; build it for the same model first.")
        self._take(variables, weights)

    def _take(self, variables: list[Variable], values: Sequence[Any]) -> None:
        """Set variables, none of them where one of the values is not allowed."""
        for variable, value in zip(variables, values, strict=True):
            if isinstance(variable, HostVariable):
                variable.check(value)
        assign_all(variables, values)

    def save_own_variables(self, store: Any) -> None:
        """Write the state into a mapping, under "0", "1", ..."""
        for i, variable in enumerate(self.variables):
            store[str(i)] = variable.numpy()

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Read the state from a mapping; one with another number of entries is left alone, with a warning."""
        count, given = len(self.variables), len(store.keys())
        if given == count or (self._state and given == count - len(self._state) and not np.any(store["0"])):  # no step
            self._take(self.variables[:given], [np.asarray(store[str(i)]) for i in range(given)])
        else:
            text = f"The optimizer {self.name!r} has {count} variables and the file has {given}"
            warnings.warn(f"{text}; its state was not loaded.", stacklevel=2)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        rate = self._learning_rate
        if isinstance(rate, HostVariable):
            rate = InverseTimeDecay(float(rate), 1, self.decay) if self.decay else float(rate)
        config = {"name": self.name, "learning_rate": registry.serialize_keras_object(rate)}
        return {**config, **{name: getattr(self, name) for name in fields(self) if name not in (*config, "decay")}}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Optimizer:
        """An optimizer of this class, without state, from what `get_config` returned."""
        config = dict(config)
        if isinstance(config.get("learning_rate"), dict):
            config["learning_rate"] = registry.deserialize_keras_object(config["learning_rate"], custom_objects)
        return cls(**config)

    def __repr__(self) -> str:
        rate = self._learning_rate
        shown = f"{float(rate):g}" if isinstance(rate, HostVariable) else type(rate).__name__
        return f"<{type(self).__name__} learning_rate={shown} iterations={self._updates()}>"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_prepared": None}  # the flat arrays are made anew from the variables
