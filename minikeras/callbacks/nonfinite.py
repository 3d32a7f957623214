"""Why a loss is not finite: the data, the weights, or the layer and operation of a step where it begins.

`explain` looks when it is too late, after an epoch: at the data, the weights and the last batch.  A `Tracer` keeps what
a step begins with, so that the very step in which a number stops being finite can be made again and watched: every
operation notes which of its inputs were not finite already, so the chain that ends in the loss leads back to where it
begins; an infinity that is masked away again is on no such chain.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from minikeras import kernels as k
from minikeras import tree
from minikeras.autodiff.op import Op
from minikeras.autodiff.tensor import FLOATS, Tensor, Variable, _state
from minikeras.callbacks.base import is_finite
from minikeras.seeds import SeedGenerator, global_generator
from minikeras.tracebacks import warn

_CHUNK = 1 << 20  # elements that are looked at in one go
_MOST = 5  # names or columns that a sentence lists


@dataclass(frozen=True)
class Location:
    """Where numbers stop being finite; `str(location)` is a sentence about it.

    Attributes:
        phase: "data", "weights" (before the step), "forward", "backward" or "update" (by the optimizer).
        layer, operation: their names, None where there is none.
        epoch, batch: counted from 0, as callbacks count them; None where nobody counts.
        text: the sentence.
    """

    phase: str
    layer: str | None
    operation: str | None
    epoch: int | None
    batch: int | None
    text: str

    def __str__(self) -> str:
        return self.text


def _has_bad(array: Any) -> bool:
    dtype = getattr(array, "dtype", None)
    return dtype is not None and dtype.char in FLOATS and not bool(k.xp.isfinite(array).all())


# ---------------------------------------------------------------- data and weights


def data_problem(parts: Sequence[Any], within: str = "") -> str | None:
    """What is not finite in `(x, y, sample_weight)`, structures of arrays, in words; None where all is.

    Of a table every column that has such a value is found, of other arrays the first value.

    Args:
        within: what the samples are counted in, such as " of the batch".
    """
    for role, part in zip(("x", "y", "sample_weight"), parts, strict=False):
        for name, leaf in _named_leaves(role, part):
            found = _bad_places(leaf.data if isinstance(leaf, Tensor) else leaf)
            if found is not None:
                columns, (sample, *rest), value = found
                several = len(columns) > 1
                subject = f"{'the columns' if several else 'column'} {_listed(columns)} of {name}" if columns else name
                inside = f" at {rest}" if rest and not columns else ""
                verb = "are" if several else "is"
                return f"{subject} {verb} not finite, first in sample {sample}{within}{inside} ({value})"
    return None


def _named_leaves(name: str, part: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(part, dict):
        for key, item in part.items():
            yield from _named_leaves(f"{name}[{key!r}]", item)
    elif isinstance(part, (list, tuple)):
        for i, item in enumerate(part):
            yield from _named_leaves(f"{name}[{i}]" if len(part) > 1 else name, item)
    elif part is not None:
        yield name, part


def _bad_places(array: Any) -> tuple[list[int], tuple[int, ...], float] | None:
    """The columns with values that are not finite, the place of the first such value, and that value."""
    if getattr(array, "ndim", 0) == 0 or array.dtype.char not in FLOATS:
        return None
    xp = k.xp if isinstance(array, k.xp.ndarray) else np
    rows = max(_CHUNK * len(array) // max(array.size, 1), 1)
    columns: set[int] = set()
    first = None
    for start in range(0, len(array), rows):
        good = xp.isfinite(array[start : start + rows])
        if bool(good.all()):
            continue
        bad = ~k.to_host(good)
        if first is None:
            row, *rest = (int(i) for i in np.argwhere(bad)[0])
            first = (start + row, *rest), float(k.to_host(array[(start + row, *rest)]))
        if array.ndim != 2 or array.shape[1] == 1:
            break
        columns.update(int(i) for i in np.flatnonzero(bad.any(axis=0)))
    return None if first is None else (sorted(columns), *first)


def weights_problem(model: Any) -> str | None:
    """Which layers have weights that are not finite, in words; None where none has."""
    layers = model._contents().layers
    names = [repr(layer.name) for layer in layers if any(_has_bad(weight.data) for weight in layer._contents().own)]
    return f"the weights of {_listed(names)} are not finite" if names else None


def _listed(items: Sequence[Any]) -> str:
    shown = [str(item) for item in items[:_MOST]]
    if len(items) > _MOST:
        return f"{', '.join(shown)} and {len(items) - _MOST} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


# ---------------------------------------------------------------- what a step begins with


class _Kept:
    """Copies of variables and of the states of random streams."""

    def __init__(self, variables: Sequence[Variable], streams: Sequence[SeedGenerator]):
        self.values = {id(variable): (variable, Tensor(variable.data.copy())) for variable in variables}
        self._streams = [(stream, stream.state) for stream in streams]

    def add(self, variables: Sequence[Variable]) -> None:
        """Keep those too that are not known yet."""
        for variable in variables:
            if id(variable) not in self.values:
                self.values[id(variable)] = variable, Tensor(variable.data.copy())

    def restore(self) -> None:
        for variable, value in self.values.values():
            variable.assign(value)
        for stream, state in self._streams:
            stream.state = state


def optimizers_of(model: Any) -> list[Any]:
    """The optimizers that a model has as attributes."""
    return [value for value in vars(model).values() if hasattr(value, "apply_flat")]


def variables_of(model: Any, lasting: bool = False) -> list[Variable]:
    """Weights and the states of optimizers; unless only `lasting` ones are asked for, also what the first step of a
    training makes: the states of metrics, and those that layers carry from batch to batch."""
    found = [*model.weights]
    for one in optimizers_of(model):
        rates = [getattr(some, "_learning_rate", None) for some in (one, *getattr(one, "optimizers", ()))]
        found += [*one.variables, *rates]  # which with `decay` is none of the former
    if not lasting:
        found += [variable for metric in model.metrics for variable in getattr(metric, "variables", ())]
        found += tree.flatten([getattr(layer, "states", None) for layer in model._contents().layers])
    return list({id(one): one for one in found if isinstance(one, Variable)}.values())


def _streams(model: Any) -> list[SeedGenerator]:
    return [global_generator(), *model._contents().streams]


# ---------------------------------------------------------------- watching a step


class _Found(BaseException):
    """Ends a step that is made again, once it has been found where numbers stop being finite.

    It is no `Exception`, so that a user's `except Exception` does not keep it.
    """


@dataclass
class _Operation:
    """What one operation did: its name, its layer, and which of its inputs were not finite already."""

    name: str
    layer: Any
    bad: bool
    bad_inputs: list[Any]
    span: tuple[float, float] | None


class _Watch:
    """Within its block the operations of this thread are looked at.

    It raises `_Found` where a backward pass begins with what is not finite, or where one makes it.
    """

    def __init__(self, model: Any):
        self._model = model
        self._thread = threading.get_ident()
        self._layers: list[Any] = []
        self._operations: list[_Operation] = []
        self._made_by: dict[int, int] = {}  # which operation made a tensor, by its id
        self._kept: list[Any] = []  # the tensors, so that no two have the same id
        self._last_order = -1
        self.origin: tuple[str, _Operation] | None = None

    def __enter__(self) -> _Watch:
        self._previous, _state.recorder = _state.recorder, self
        self._instrumented = [layer for layer in self._model._contents().layers if "call" not in vars(layer)]
        for layer in self._instrumented:
            vars(layer)["call"] = self._call(layer, layer.call)
        return self

    def __exit__(self, *error: object) -> None:
        _state.recorder = self._previous
        for layer in self._instrumented:
            vars(layer).pop("call", None)

    def _call(self, layer: Any, call: Callable) -> Callable:
        def calling(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != self._thread:
                return call(*args, **kwargs)
            self._layers.append(layer)
            try:
                return call(*args, **kwargs)
            finally:
                self._layers.pop()

        return calling

    def note(self, op: Op, function: Callable, args: Any, arrays: Any, settings: dict[str, Any], result: Any) -> None:
        """Look at what an operation gave, and be there when its gradient is computed."""
        results = result if isinstance(result, tuple) else (result,)
        bad = any(_has_bad(part.data) for part in results)
        bad_inputs = [arg for arg, array in zip(args, arrays, strict=True) if _has_bad(array)] if bad else []
        span = _span(arrays) if bad and not bad_inputs else None
        layer = self._layers[-1] if self._layers else None
        operation = _Operation(op.__name__.strip("_"), layer, bad, bad_inputs, span)
        number = len(self._operations)
        self._operations.append(operation)
        for part in results:
            self._made_by[id(part)] = number
        self._kept.append((args, result))
        node = results[0].node
        if node is not None:
            node.vjp = self._vjp(node, operation, number)

    def _vjp(self, node: Any, operation: _Operation, number: int) -> Callable:
        vjp = node.vjp
        order = node.order

        def watched(g: Any, needs: Any) -> Any:
            if order > self._last_order and operation.bad:  # a backward pass begins, with a loss that is not finite
                self._find(number)
            self._last_order = order
            gradients = vjp(g, needs)
            wanted = [gradient for gradient, need in zip(gradients, needs, strict=False) if need]
            if any(_has_bad(gradient) for gradient in wanted):
                incoming = g if isinstance(g, tuple) else (g,)
                if not any(_has_bad(one) for one in incoming):
                    self.origin = "backward", operation
                    raise _Found
            return gradients

        return watched

    def _find(self, number: int) -> None:
        """Follow what is not finite from an operation back to where it begins."""
        while True:
            operation = self._operations[number]
            earlier = [self._made_by[id(arg)] for arg in operation.bad_inputs if id(arg) in self._made_by]
            if not earlier:
                self.origin = "forward", operation
                raise _Found
            number = min(earlier)

    def find_last(self) -> None:
        """Follow the last result that is not finite, if there is one."""
        for number in range(len(self._operations) - 1, -1, -1):
            if self._operations[number].bad:
                self._find(number)


def _span(arrays: Sequence[Any]) -> tuple[float, float] | None:
    """The smallest and the largest number among the inputs of an operation."""
    floats = [array for array in arrays if getattr(array, "size", 0) and array.dtype.char in FLOATS]
    if not floats:
        return None
    return min(float(array.min()) for array in floats), max(float(array.max()) for array in floats)


def _where(operation: _Operation) -> str:
    place = f"operation {operation.name!r}"
    if operation.layer is None:
        return f"{place} of the loss"
    return f"layer {operation.layer.name!r} ({type(operation.layer).__name__}), {place}"


def _told(origin: tuple[str, _Operation]) -> tuple[str, str]:
    """(where it begins and what happened there, what to do)."""
    phase, operation = origin
    if phase == "backward":
        return (
            f"in the gradient of {_where(operation)}, which is not finite at its inputs",
            "keep these away from such points, for example by adding epsilon()",
        )
    if operation.span is None:
        return f"in {_where(operation)}", "keep what it takes within its domain"
    low, high = operation.span
    huge = max(abs(low), abs(high)) > 1e6
    return (
        f"in {_where(operation)}, whose inputs lie between {low:.4g} and {high:.4g}",
        "lower the learning rate or clip gradients" if huge else "keep them within its domain",
    )


@contextmanager
def _as_it_is(model: Any) -> Iterator[None]:
    """Within this block the model may compute; afterwards its variables and random streams are as they were."""
    kept = _Kept(variables_of(model), _streams(model))
    try:
        yield
    finally:
        kept.restore()


class Tracer:
    """Keeps what each training step of a model begins with, and finds where a step's numbers stop being finite.

    It needs the memory of a copy of the weights and of the optimizer's state, and the time to make it at each step.

    Args:
        model: the model; `observe` is to be called with the data of each step before it is made.
    """

    def __init__(self, model: Any):
        self._model = model
        self._kept: _Kept | None = None
        self._data: Any = None

    def observe(self, data: Any) -> None:
        """Keep what the step on `data` begins with; of weights that it makes, what they are before an update."""
        model = self._model
        self._data = data
        self._kept = kept = _Kept(variables_of(model), _streams(model))
        if not model._trainable_now():
            for optimizer in optimizers_of(model):
                self._before_update(optimizer, kept)

    def _before_update(self, optimizer: Any, kept: _Kept) -> None:
        apply = optimizer.apply_flat

        def keeping(gradients: Any) -> None:
            del vars(optimizer)["apply_flat"]
            kept.add(self._model.weights)
            apply(gradients)

        vars(optimizer)["apply_flat"] = keeping

    def is_finite(self) -> bool:
        """Whether all weights are finite now."""
        flags = [k.xp.isfinite(v.data).all() for v in self._model.weights if v.data.dtype.char in FLOATS]
        return not flags or bool(k.xp.stack(flags).all())

    def locate(self, loss: Any, epoch: int, batch: int) -> Location:
        """Where the last step's numbers stopped being finite; the model stays as it is now."""
        assert self._kept is not None
        at = f"at batch {batch} of epoch {epoch} (counted from 0)"
        parts = self._data if isinstance(self._data, tuple) else (self._data,)
        layer = operation = None
        problem = data_problem(parts, " of the batch")
        if problem is not None:
            phase, where, remedy = "data", f"in the data: {problem}", "clean it"
        else:
            with _as_it_is(self._model):
                self._kept.restore()
                problem = weights_problem(self._model)
                found = None if problem is not None else self._repeat()
            if problem is not None:
                phase, where, remedy = "weights", f"before the step: {problem}", "begin with finite weights"
            elif isinstance(found, str):
                phase, where, remedy = "update", found, "lower the learning rate or clip gradients"
            elif found is not None:
                phase, (where, remedy), operation = found[0], _told(found), found[1].name
                layer = None if found[1].layer is None else found[1].layer.name
            else:
                phase, where = "forward", "in what no operation of minikeras computes"
                remedy = "look at the arithmetic of train_step and of the loss"
        subject = "The weights stop being finite" if is_finite(loss) else f"The loss is {loss}, which begins"
        return Location(phase, layer, operation, epoch, batch, f"{subject} {at} {where}; {remedy}.")

    def _repeat(self) -> tuple[str, _Operation] | str | None:
        """Make the step again and watch: what was found, or which optimizer's update it was."""
        model = self._model
        updates: list[str] = []
        optimizers = optimizers_of(model)
        builtin = model._has_builtin_train_step()
        for optimizer in optimizers:
            vars(optimizer)["apply_flat"] = self._watched_update(optimizer, updates, builtin)
        watch = _Watch(model)
        try:
            with suppress(_Found), watch, np.errstate(all="ignore"):
                model.train_step(self._data)
                watch.find_last()
        finally:
            for optimizer in optimizers:
                vars(optimizer).pop("apply_flat", None)
        return watch.origin if watch.origin is not None else updates[0] if updates else None

    def _watched_update(self, optimizer: Any, updates: list[str], last: bool) -> Callable:
        apply = optimizer.apply_flat

        def updating(gradients: Any) -> None:
            apply(gradients)
            bad = next((v.path for v in self._model.weights if _has_bad(v.data)), None)
            if bad is not None:
                rate = float(optimizer.learning_rate)
                updates.append(f"in the update of {bad!r} by {type(optimizer).__name__} with learning rate {rate:.4g}")
            if bad is not None or last:  # nothing but metrics follows in the built-in step
                raise _Found

        return updating


def explain(model: Any, loss: Any, name: str, whole: Sequence[Any] | None, batch: Any) -> None:
    """Warn that a loss is not finite, with the reason as far as it can be seen afterwards.

    Args:
        model: the model, built.
        loss, name: the loss and what the sentence calls it.
        whole: `(x, y, sample_weight)`, all of the data; None where only the last batch is at hand.
        batch: the last batch, as the steps take it.
    """
    search = "TerminateOnNaN(locate=True) among the callbacks of fit finds where it begins"
    last = batch if isinstance(batch, tuple) else (batch,)
    if problem := data_problem(last, " of the last batch") if whole is None else data_problem(whole):
        reason = f": {problem}; clean the data"
    elif problem := weights_problem(model):
        reason = f" and {problem}; lower the learning rate or clip gradients; {search}"
    elif origin := _on_batch(model, batch):
        where, remedy = _told(origin)
        reason = f": on the last batch that begins {where}; {remedy}"
    else:
        reason = f" in a batch before the last; {search}"
    warn(f"{name} became {loss}{reason}.")


def _on_batch(model: Any, batch: Any) -> tuple[str, _Operation] | None:
    """What is not finite first when the model and its loss are evaluated on a batch as the built-in step does it."""
    if not model._has_builtin_test_step():
        return None
    watch = _Watch(model)
    with suppress(_Found), _as_it_is(model), watch, np.errstate(all="ignore"):
        model._builtin_test_step(batch)
        watch.find_last()
    return watch.origin
