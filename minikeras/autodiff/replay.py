"""Replaying an inference step: its operations, recorded once, run again on raw arrays without Python's bookkeeping.

A step that depends on nothing but its inputs' values and the variables' is the same list of operations for inputs of
the same shapes.  Running that list takes two thirds of the time of going through layers and tensors for a small network
and a single picture.  Noticed, and then not recorded, are arrays that no recorded operation made, tensors whose values
are looked at, and variables that change; that foreign Python code does nothing else, whoever records has to know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minikeras.autodiff.op import Op
from minikeras.autodiff.tape import recording
from minikeras.autodiff.tensor import Tensor, Variable, _state


def _is_plain(value: Any) -> bool:
    """Whether an argument is the same in each run: numbers, names, types, slices of an array."""
    if type(value) in (tuple, list):
        return all(map(_is_plain, value))
    if type(value) is slice:
        return _is_plain((value.start, value.stop, value.step))
    return value is None or isinstance(value, (int, float, str, np.dtype))


class Recorder:
    """Within its block every operation of this thread is noted; see `program`.

    Args:
        inputs: the tensors that the step begins with.
    """

    def __init__(self, inputs: Sequence[Tensor]):
        self._tensors: list[Tensor] = []  # by place; kept, so that no two have the same id
        self._place: dict[int, int] = {}
        self._variables: list[tuple[int, Variable]] = []
        self._steps: list[tuple[Callable, tuple[int, ...], dict[str, Any], int]] = []
        self._constants: dict[int, Any] = {}
        self._inputs = len(inputs)
        self._complete = True
        for tensor in inputs:
            self._new_place(tensor)

    def __enter__(self) -> Recorder:
        self._previous, _state.recorder = _state.recorder, self
        self._recording = recording(False)
        self._recording.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._recording.__exit__(*error)
        _state.recorder = self._previous

    def _new_place(self, tensor: Any) -> int:
        place = len(self._tensors)
        self._tensors.append(tensor)
        self._place[id(tensor)] = place
        return place

    def _source(self, value: Any, array: Any) -> int | None:
        """The place of an operation's argument, or None where nobody knows where it comes from."""
        place = self._place.get(id(value))
        if place is None and isinstance(value, Variable):
            place = self._new_place(value)
            self._variables.append((place, value))
        elif place is None and _is_plain(value):
            place = len(self._tensors)
            self._tensors.append(value)
            self._constants[place] = array
        return place

    def note(
        self,
        op: Op,
        function: Callable,
        args: Sequence[Any],
        arrays: Sequence[Any],
        settings: dict[str, Any],
        result: Any,
    ) -> None:
        """Note that for an operation `function(*arrays, **settings)[0]`, the arrays being those of `args`, was made."""
        sources = [self._source(value, array) for value, array in zip(args, arrays, strict=True)]
        if (
            not op.replayable
            or None in sources
            or not all(map(_is_plain, settings.values()))
            or not isinstance(result, Tensor)
        ):
            self._complete = False
        else:
            self._steps.append((function, tuple(sources), settings, self._new_place(result)))  # type: ignore[arg-type]

    def spoil(self) -> None:
        """Say that something happened that cannot be run again: a value was looked at, or a variable changed."""
        self._complete = False

    def program(self, outputs: Sequence[Tensor]) -> Program | None:
        """What was recorded, ending with these tensors; None where it is not the whole of what was done."""
        places = [self._place.get(id(tensor)) for tensor in outputs]
        if not self._complete or None in places:
            return None
        last: dict[int, int] = {}
        for number, (_, sources, _, place) in enumerate(self._steps):
            last.update(dict.fromkeys((*sources, place), number))
        keeps = {*places, *self._constants, *(place for place, _ in self._variables)}
        ended: list[list[int]] = [[] for _ in self._steps]
        for place, number in last.items():
            if place not in keeps:
                ended[number].append(place)
        steps = [(*step, tuple(over)) for step, over in zip(self._steps, ended, strict=True)]
        values = [self._constants.get(place) for place in range(len(self._tensors))]
        return Program(steps, values, self._inputs, self._variables, places)  # type: ignore[arg-type]


class Program:
    """A recorded step; `program(arrays)` is the list of its outputs, raw arrays, for raw inputs of the same shapes."""

    __slots__ = ("_inputs", "_outputs", "_steps", "_values", "_variables")

    def __init__(
        self,
        steps: list[tuple[Callable, tuple[int, ...], dict[str, Any], int, tuple[int, ...]]],
        values: list[Any],
        inputs: int,
        variables: list[tuple[int, Variable]],
        outputs: list[int],
    ):
        self._steps, self._values, self._inputs = steps, values, inputs
        self._variables, self._outputs = variables, outputs

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        values = self._values.copy()
        values[: self._inputs] = arrays
        for place, variable in self._variables:
            values[place] = variable.data
        for function, sources, settings, place, ended in self._steps:
            values[place] = function(*[values[source] for source in sources], **settings)[0]
            for over in ended:  # the arena may hand its buffer out again
                values[over] = None
        return [values[place] for place in self._outputs]
