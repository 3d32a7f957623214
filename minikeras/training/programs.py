"""When a step becomes a program: it is recorded, held against another recording and against the layers, and then run.

A step on a batch of new shapes goes through the layers.  The second one on such a batch is recorded on its way, and so
is the third, which must be the same calls with the same numbers.  The fourth is made twice, by the layers and by the
program, from the same state, and the program is only used if all bits agree.  From then on it is used as long as what
it was recorded from is what it was: the tree of layers, their public attributes, the arrays of the variables, the
settings of optimizer, losses, metrics and regularizers, the kernels, and the global settings.  Whoever changes one of
them gets a new recording.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import compress
from operator import attrgetter, is_, itemgetter
from threading import get_ident
from time import perf_counter
from typing import Any

import numpy as np

from minikeras import config, tree
from minikeras import kernels as k
from minikeras.autodiff.operands import raw
from minikeras.autodiff.tensor import Tensor, Variable, _state, mark_changed
from minikeras.autodiff.turns import at_once, computing, turn, wait
from minikeras.kernels.arena import current, memory_of
from minikeras.layers.context import context, entrance
from minikeras.lazy import LazyModule
from minikeras.optimizers.rate import HostVariable
from minikeras.training.repeatable import STEPS, has_own_steps, obstacle, things
from minikeras.training.step import MetricLogs, contiguous

# of a device, what records a step and what makes it again
_ROOMS = {
    device: (LazyModule(f"minikeras.kernels.{folder}.recording"), LazyModule(f"minikeras.kernels.{folder}.program"))
    for device, folder in (("cpu", "cpu"), ("gpu", "cuda"))
}

_MOST = 16  # kinds of batches that a model has programs for; for ever-changing shapes recording would not pay
_TRIES = 4  # recordings of a kind of batch that something has made useless, until it is left to the layers
_MOST_PUT_OFF = 32  # recordings that something kept from being made, which need not be so in the next step
_WORTH = 32  # steps that a program must have made to be worth another recording after a change
_LONG = 0.01  # seconds that a call of many steps takes, about
_LONG_BATCH = 1 << 15  # bytes of a batch that are worth a helper's work

_data, _settings_of = attrgetter("data"), attrgetter("_settings")


def _recording_room() -> Any:
    return _ROOMS[k.active_device()][0]


class State:
    """What a recorded step depends on besides its batch: it holds what it found, and says whether it is the same still.

    Attributes:
        variables: whose memory the step reads or writes.
    """

    def __init__(self, model: Any, kind: str):
        self._contents = model._contents()
        self._layers = self._contents.layers
        self._settings = list(map(_settings_of, self._layers))
        self._things = things(model, kind)
        self._found = [dict(_attributes(thing)) for thing in self._things]
        self.variables = _variables(model, kind)
        self.arrays = list(map(_data, self.variables))
        # of them those that a step changes: other threads may train the weights that one evaluates or predicts with
        own = {id(one) for metric in model.metrics for one in metric.variables} if kind == "test" else set()
        self.is_own = [kind == "train" or id(one) in own for one in self.variables]
        self._kind = kind
        self._around = _surroundings(model, kind)

    def is_same(self, model: Any) -> bool:
        """Whether all that it found is there and has not been replaced."""
        contents = model._contents()
        if contents is not self._contents and self._has_the_same(contents, things(model, self._kind)):
            self._contents = contents
        return (
            contents is self._contents
            and all(map(is_, map(_settings_of, self._layers), self._settings))
            and all(map(is_, map(_data, self.variables), self.arrays))
            and (not self._things or all(map(_holds, self._things, self._found)))
            and _surroundings(model, self._kind) == self._around
        )

    def forgive(self) -> None:
        """Take no notice any more of the attributes of layers that have been set since; those are the user's own."""
        kept = [pair for pair in zip(self._layers, self._settings, strict=True) if _settings_of(pair[0]) is pair[1]]
        self._layers, self._settings = [layer for layer, _ in kept], [mark for _, mark in kept]

    def _has_the_same(self, contents: Any, found: list[Any]) -> bool:
        """Whether another walk has found the same things."""
        pairs = zip((*_parts(contents), found), (*_parts(self._contents), self._things), strict=True)
        return all(_are_same(now, then) for now, then in pairs)


_parts = attrgetter("layers", "weights", "trainable", "penalized", "metrics", "streams", "loss_functions")


def _attributes(thing: Any) -> dict[str, Any]:
    """Those of an object; one with slots is a user's, which no program holds."""
    return getattr(thing, "__dict__", {})


def _holds(thing: Any, found: dict[str, Any]) -> bool:
    now = _attributes(thing)
    return now.keys() == found.keys() and all(map(is_, now.values(), found.values()))


def _surroundings(model: Any, kind: str) -> tuple:
    """What many things read, and what a model is compiled to."""
    steps = type(model).train_step, STEPS.isdisjoint(vars(model))
    general = k.version(), config.changes, model.jit_compile, model.run_eagerly, steps
    if kind == "predict":
        return general
    compiled = model.optimizer, model._compiled_loss, model._compiled_metrics, model._loss_tracker
    return (*general, model._loss_factor, *map(id, compiled))


def _variables(model: Any, kind: str) -> list[Variable]:
    """The variables whose memory a step reads or writes."""
    contents = model._contents()
    carried = [state for layer in contents.layers for state in tree.flatten(getattr(layer, "states", None))]
    found = [*contents.weights, *carried]
    if kind != "predict":
        found += [variable for metric in model.metrics for variable in metric.variables]
    if kind == "train":
        found += model.optimizer.variables
    ordinary = [one for one in found if isinstance(one, Variable) and not isinstance(one, HostVariable)]
    return list({id(one): one for one in ordinary if hasattr(type(one), "__slots__")}.values())


class Entry:
    """The way of one kind of step on batches of one shape from the layers to a program.

    Attributes:
        program: once it is there.
        reason: why there is none and will be none, or None.
    """

    def __init__(self) -> None:
        self.program: Any = None
        self.reason: str | None = None
        self.state: Any = None
        self.signature: Any = None  # of the last recording
        self.held: list[np.ndarray] = []  # arrays of Python code that it reads
        self.candidate: Any = None  # a program that is still to be held against the layers
        self.outputs: Any = None  # what a predicting program leaves
        self.losses: list[tuple[Any, list[np.ndarray]]] = []  # layers, and what they add to the loss in the program
        self.is_traced = False  # whether the outputs say what they were made of
        self.steps = 0
        self.tries = 0  # recordings that came to nothing
        self.put_off = 0  # recordings that were left for the next step
        self.uses = 0  # of the program
        self.seconds = _LONG  # of a step, at first too long

    def copied(self) -> Any:
        """What a predicting program has computed, in tensors of its own."""
        arrays = [Tensor(output.copy()) for output in self.program.outputs]
        return arrays[0] if type(self.outputs) is Tensor else tree.pack_sequence_as(self.outputs, arrays)

    def show_losses(self, model: Any) -> None:
        """Let layers have what they added to the loss in the program's last step, as after a call of the model."""
        if self.losses:
            _note(model, [(layer, [Tensor(array.copy()) for array in arrays]) for layer, arrays in self.losses])

    def start_anew(self) -> None:
        """Begin with a recording again, since something has been changed."""
        if self.uses >= _WORTH:
            self.tries = 0
        self.program = self.candidate = self.signature = self.outputs = None
        self.tries, self.uses, self.steps = self.tries + 1, 0, 0
        if self.tries >= _TRIES:
            self.reason = "what it depends on changes again and again"


def _put_back(state: State) -> None:
    """Let weights that layers assign have the arrays again that they had before a step, with their new values."""
    weights = {id(one) for one in state._contents.weights if not one.trainable}
    for variable, array in zip(state.variables, state.arrays, strict=True):
        if id(variable) in weights and variable.data is not array and variable.data.shape == array.shape:
            array[...] = variable.data
            variable.data = array


def _noted(model: Any) -> list[tuple[Any, list[Tensor]]]:
    """The layers that added to the loss in the last call of a model, and what they added."""
    return [(layer, [*layer._losses]) for layer in model._loss_owners]


def _note(model: Any, noted: list[tuple[Any, list[Tensor]]]) -> None:
    model._loss_owners[:] = [layer for layer, _ in noted]
    for layer, losses in noted:
        layer._losses[:] = losses


class Report:
    """What became of one kind of step: shown as a table.

    Attributes:
        kind: "train", "test" or "predict".
        shapes: of the arrays of a batch, with their types.
        reason: why there is no program, in words; None where there is one, or will be after some more steps.
        steps: how many steps the program has made; 0 without one.
        kernels: `(name, parts, seconds)` of each call of the program in order, the seconds measured just now; parts are
            what threads share.
    """

    def __init__(self, kind: str, shapes: list[Any], entry: Entry | None, kernels: list[tuple[str, int, float]]):
        self.kind, self.shapes, self.kernels = kind, shapes, kernels
        self.steps = 0 if entry is None else entry.uses
        self.reason = entry.reason if entry is not None else f"no {kind} step has been made on numbers"

    def __repr__(self) -> str:
        batch = ", ".join(f"{dtype} {shape}" for shape, dtype in self.shapes)
        title = f"{self.kind} step" + (f" on {batch}" if batch else "")
        if not self.kernels:
            return f"<{title}: made by the layers, {self.reason or 'a program follows after some more steps'}>"
        width = max(len(name) for name, _, _ in self.kernels)
        lines = [f"{name:<{width}}  {parts:3d}  {seconds * 1e6:9.1f} us" for name, parts, seconds in self.kernels]
        total = sum(seconds for _, _, seconds in self.kernels) * 1e6
        return "\n".join([f"{title}: a program of {len(lines)} calls, {total:.1f} us, used {self.steps} times", *lines])


class Programs:
    """The programs of a model.

    Args:
        model: the model.
        built_in: the class whose steps are known.
    """

    def __init__(self, model: Any, built_in: type):
        self._model, self._built_in = model, built_in
        self._entries: dict[tuple, Entry] = {}
        self._busy = threading.Lock()  # one thread at a time has the programs' memory

    def begin(self) -> None:
        """Forget why there are no programs where something has been changed since; called before many steps."""
        for key, entry in list(self._entries.items()):
            if entry.reason is not None and not entry.state.is_same(self._model):
                del self._entries[key]

    def end(self) -> None:
        """Let go of programs that hold much memory together, the largest first; called after many steps."""
        held = [(entry.program.nbytes, key) for key, entry in self._entries.items() if entry.program is not None]
        total = sum(size for size, _ in held)
        for size, key in sorted(held, key=itemgetter(0), reverse=True):
            if total > _recording_room().LARGE:
                total -= size
                del self._entries[key]

    def report(self, kind: str) -> Report:
        """On the kind of batch that was met most often; its program is run for it, and the model put back."""
        known = [(key, entry) for key, entry in self._entries.items() if key[0] == kind]
        if not known:
            return Report(kind, [], None, [])
        key, entry = max(known, key=lambda pair: (pair[1].program is not None, pair[1].uses))
        kernels = []
        if entry.program is not None and self._is_valid(entry, kind):
            with self._busy:
                before = self._snapshot(entry.state, kind)
                try:
                    kernels = entry.program.timed()
                finally:
                    self._restore(entry.state, before, kind)
        return Report(kind, [part for part in key if isinstance(part, tuple)], entry, kernels)

    # ------------------------------------------------------------ one step

    def train_step(self, data: Any) -> Any:
        """`model.train_step(data)`, by a program where there is one."""
        return self._step("train", data, self._model.train_step)

    def test_step(self, data: Any) -> Any:
        """`model.test_step(data)`, by a program where there is one."""
        return self._step("test", data, self._model.test_step)

    def predict(self, x: Any, call: Callable[[Any], Any] | None = None) -> Any:
        """The outputs for raw arrays, as a tensor or a structure of them.

        Args:
            call: gives them by way of the layers, for whoever may ask what they were made of: a loss asks for the
                logits behind a softmax.
        """
        if not _is_array(x) or not x.flags.c_contiguous:
            x = contiguous(x)
        if call is not None:
            entry = self._entries.get(_keyed("predict", x)[0])
            if entry is not None and entry.is_traced:
                return call(x)
        return self._step("predict", x, call or self._call)

    def answer(self, x: Any) -> Any:
        """The output for one array, if there is a program that gives one, as an array of its own; else None."""
        entry = self._entries.get(("predict", (x.shape, x.dtype))) if type(x) is np.ndarray else None
        if entry is None or entry.program is None or type(entry.outputs) is not Tensor or not x.flags.c_contiguous:
            return None
        if current.recording is not None or _state.recorder is not None or not self._busy.acquire(blocking=False):
            return None
        try:
            if not self._is_valid(entry, "predict"):
                return None
            program = entry.program
            program.write((x,))
            if entrance.before is not None:
                entrance.before(self._model)
            if not _in_turn(program.run):
                program.explain()
                return None
            entry.uses += 1
            entry.show_losses(self._model)
            return k.to_host(program.outputs[0].copy())
        finally:
            self._busy.release()

    def _call(self, x: Any) -> Any:
        """The outputs by way of the layers, without losses that were added to the model."""
        outer, context.predicting = context.predicting, True
        try:
            return self._model(x, training=False)
        finally:
            context.predicting = outer

    def _step(self, kind: str, data: Any, run: Callable[[Any], Any]) -> Any:
        if _state.recorder is not None or current.recording is not None:
            return run(data)
        key, leaves = _keyed(kind, data)
        entry = self._entries.get(key)
        if entry is None:
            entry = self._new_entry(kind, key, leaves)
        if entry.reason is not None or not self._busy.acquire(blocking=False):
            return run(data)
        try:
            if entry.program is not None:
                if kind == "train" and self._model._trial_needs_layers():
                    return run(data)
                if self._is_valid(entry, kind):
                    entry.program.write(leaves)
                    if not self._run(kind, entry.program):
                        entry.program.explain()
                        return run(data)
                    entry.uses += 1
                    entry.show_losses(self._model)
                    return MetricLogs(self._model) if entry.outputs is None else entry.copied()
                entry.start_anew()
            entry.steps += 1
            if entry.steps == 1 or entry.reason is not None:
                result = run(data)
                _put_back(entry.state)
                entry.is_traced = kind == "predict" and _is_traced(result)
                return result
            if entry.candidate is not None:
                return self._compare(entry, kind, data, leaves, run)
            return self._record(entry, kind, data, leaves, run)
        finally:
            self._busy.release()

    def _new_entry(self, kind: str, key: tuple, leaves: Sequence[Any]) -> Entry:
        """That of a kind of batch that is met for the first time."""
        entry = Entry()
        numeric = leaves and all(_is_array(leaf) and leaf.dtype.kind in "biuf" and leaf.size for leaf in leaves)
        model = self._model
        is_built = all(
            layer.built for layer in model._contents().layers if layer is not model or model._graph is not None
        )
        if not numeric or not is_built or len(self._entries) >= _MOST:
            entry.reason = "the batch holds more than numbers, or there are programs for enough other shapes"
            return entry
        self._entries[key] = entry
        entry.reason, entry.state = obstacle(self._model, kind, self._built_in), State(self._model, kind)
        return entry

    def _is_valid(self, entry: Entry, kind: str) -> bool:
        return entry.state.is_same(self._model) and (not entry.program.drawn or entry.program.fits())

    def _run(self, kind: str, program: Any) -> int:
        """Make a step on what lies in the program's inputs; 0 where it did not come to its end."""
        if entrance.before is not None and kind == "predict":
            entrance.before(self._model)
        numbers = self._numbers(kind, 1)
        if numbers is not None:
            self._model.optimizer._now[...] = numbers[0]
        elif kind == "train":
            return 0  # the layers refuse the learning rate
        try:
            return _in_turn(program.run)
        finally:
            if program.count_made():
                self._made(numbers)

    def _numbers(self, kind: str, steps: int) -> Any:
        """A row for each of the next steps, of what the optimizer reads from memory in it."""
        return self._model.optimizer._numbers_ahead(steps) if kind == "train" else None

    def _made(self, numbers: Any) -> None:
        """Note that steps of training were made with these numbers."""
        if numbers is not None:
            self._model.optimizer._advance(numbers)
            mark_changed(self._model._contents().weights)

    # ------------------------------------------------------------ from the layers to a program

    def _record(self, entry: Entry, kind: str, data: Any, leaves: Sequence[np.ndarray], run: Callable) -> Any:
        """Make a step through the layers, and note what it does."""
        entry.reason = obstacle(self._model, kind, self._built_in)  # losses and metrics have been found by now
        if entry.reason is not None or self._model._trial is not None or not self._is_prepared(kind):
            return run(data)
        if current.arena is not None and current.arena.nbytes > _recording_room().LARGE:
            entry.reason = (
                f"it takes {current.arena.nbytes >> 20} MB, and so long that Python's share is next to nothing"
            )
            return run(data)
        state = State(self._model, kind)
        tables = [self._model.optimizer._now] if kind == "train" else []
        recording = _recording_room().Recording(self._known(state, kind), tables, self._others(state, kind))
        before = self._snapshot(state, kind) if recording.defers else None
        buffers, result, outputs = [], None, []
        try:
            with recording, self._watched(state, recording, kind):
                buffers = [recording.input(leaf) for leaf in leaves]
                result = run(tree.pack_sequence_as(data, buffers))
                result = dict(result) if kind != "predict" and _is_users(result) else result
                if _is_users(result):
                    _set_apart(result, buffers)
                    outputs = recording.give([one.data for one in tree.flatten(result) if isinstance(one, Tensor)])
        except Exception as error:
            if before is None:
                raise
            recording.spoil(f"{error}".splitlines()[0] if f"{error}" else type(error).__name__)
        noted, shown = _noted(self._model), result
        if before is not None:  # nothing has been done yet, and nobody knows yet whether the program is right
            if recording.spoiled is not None:
                entry.put_off += 1
                if not recording.again or entry.put_off >= _MOST_PUT_OFF:
                    entry.reason = recording.spoiled
            self._restore(state, before, kind)
            self._model._clear_losses()
            shown = run(data)
            _put_back(state)
            if recording.spoiled is not None:
                return shown
        if self._model.jit_compile is True:
            state.forgive()
        entry.state = state
        plain = _recording_room().plain
        entry.losses = [(one, [plain(loss.data) for loss in added]) for one, added in noted]
        if before is None:
            entry.show_losses(self._model)
            shown = _unrecorded(result) if _is_users(result) else result
        if kind == "train" and not self._model.optimizer._has_changed:
            return shown  # another step will be recorded
        if recording.spoiled is not None:
            entry.reason = recording.spoiled
        elif not state.is_same(self._model):
            entry.start_anew()
        elif _is_users(result) and not _are_recorded(result):
            what = "outputs are" if kind == "predict" else "logs of the step are"
            entry.reason = f"the {what} no tensors that layers computed, or they carry a mask"
        elif entry.signature is not None and not _are_same(entry.held, recording.held):
            known = {id(one) for one in entry.held} & {id(one) for one in recording.held}
            other = next(one for one in (*recording.held, *entry.held) if id(one) not in known)
            entry.reason = f"an array of shape {other.shape} and type {other.dtype} comes from Python code"
        elif entry.signature is None or entry.signature != recording.signature():
            if entry.signature is not None:
                entry.tries += 1
                if entry.tries >= _TRIES:
                    entry.reason = "a number that kernels are given is another one in each step"
            entry.signature, entry.held = recording.signature(), recording.held
        else:
            if _is_users(result):
                entry.outputs = result
            entry.candidate = self._program(recording, buffers, tables, outputs)
        return shown

    def _program(self, recording: Any, buffers: list[Any], tables: list[np.ndarray], outputs: list[Any]) -> Any:
        inputs = list(map(_recording_room().plain, buffers))
        double = sum(buffer.nbytes for buffer in inputs) >= _LONG_BATCH
        return _ROOMS[k.active_device()][1].Program(recording, inputs, tables, outputs, double)

    def _is_prepared(self, kind: str) -> bool:
        """Whether the optimizer has its arrays, and will do in the next step all that it does in some steps."""
        if kind != "train":
            return True
        optimizer = self._model.optimizer
        return optimizer._is_prepared(self._model._contents().trainable) and optimizer._changes_next

    def _known(self, state: State, kind: str) -> list[np.ndarray]:
        """Arrays that are nobody's but the model's, and those that its graph was made with."""
        models: list[Any] = [layer for layer in self._model._contents().layers if isinstance(layer, self._built_in)]
        constants = [raw(one) for model in models if model._graph is not None for one in model._graph.constants()]
        own = [*state.arrays, *self._gradients(kind), *(self._model.optimizer._memory if kind == "train" else [])]
        return [*own, *constants]

    def _others(self, state: State, kind: str) -> list[np.ndarray]:
        """Of the arrays that a step changes those that no optimizer does."""
        own = self._model.optimizer.variables if kind == "train" else []
        optimized = {id(one) for one in (*own, *self._model._contents().trainable)}
        return [one.data for one in compress(state.variables, state.is_own) if id(one) not in optimized]

    def _gradients(self, kind: str) -> list[np.ndarray]:
        """Where the optimizer has gradients written to."""
        return [gradient for prepared in self._prepared(kind) for gradient in prepared.flat.gradients]

    def _prepared(self, kind: str) -> list[Any]:
        """What the optimizers that update the weights have prepared for their steps."""
        leaves = self._model.optimizer._leaves if kind == "train" else []
        return [leaf._prepared for leaf in leaves if leaf._prepared is not None]

    @contextmanager
    def _watched(self, state: State, recording: Any, kind: str) -> Iterator[None]:
        """Let the arrays of variables and gradients be recorded ones: what is written to others is not noticed.

        A variable that gets another array has it copied in the end.
        """
        prepared = self._prepared(kind)
        watch = recording.watched
        watched = list(map(watch, state.arrays))
        put_back = [one.replaced(watch) for one in prepared]

        def put(arrays: Sequence[np.ndarray]) -> None:
            for variable, array in zip(state.variables, arrays, strict=True):
                variable.data = array
            for one in prepared:
                one.flat.arrays[:] = map(_data, one.flat.variables)

        put(watched)
        try:
            yield
            for variable, array in zip(state.variables, watched, strict=True):
                if variable.data is not array:
                    recording.copy(array, variable.data)
        finally:
            for back in put_back:
                back()
            put(state.arrays)

    def _compare(self, entry: Entry, kind: str, data: Any, leaves: Sequence[np.ndarray], run: Callable) -> Any:
        """Make a step through the layers, and the same one by the program, which must leave the same bits.

        That is tried on a batch of zeros too, which leaves no trace: Python code that looks at values without being
        noticed would most likely go another way there.
        """
        state = entry.state
        if not self._is_prepared(kind):
            result = run(data)
            _put_back(state)
            return result
        if not (state.is_same(self._model) and entry.candidate.fits()):
            entry.start_anew()
            return run(data)
        with at_once():  # nobody replaces all weights meanwhile
            return self._compared(entry, state, kind, data, leaves, run)

    def _compared(
        self, entry: Entry, state: State, kind: str, data: Any, leaves: Sequence[np.ndarray], run: Callable
    ) -> Any:
        result, agrees, after = self._made_twice(entry, kind, data, leaves, run)
        noted = _noted(self._model)
        if agrees:
            own = type(data) is not tuple or has_own_steps(self._model, kind, self._built_in)
            given = len(leaves) if own else len(tree.flatten(data[0]))
            zeros = [*map(_zeros_like, leaves[:given]), *leaves[given:]]
            try:
                with np.errstate(all="ignore"):
                    agrees = self._made_twice(entry, kind, tree.pack_sequence_as(data, zeros), zeros, run)[1]
            except Exception:
                agrees = False  # what the layers refuse has no program
            finally:
                self._restore(state, after, kind)
                _note(self._model, noted)
        if agrees is None or not state.is_same(self._model):
            entry.start_anew()
        elif agrees:
            entry.program, entry.candidate, entry.signature = entry.candidate, None, None
            if current.arena is not None:
                current.arena.clear()  # the program has buffers of its own
        else:
            entry.reason = "the program and the layers do not give the same bits"
        return result

    def _made_twice(
        self, entry: Entry, kind: str, data: Any, leaves: Sequence[np.ndarray], run: Callable
    ) -> tuple[Any, bool | None, Any]:
        """A step by the layers and then, from the same state, by the program, which leaves no trace.

        Returns:
            The result; whether both agree, None where something has changed that such a step does not change; the state
            after the step by the layers.
        """
        before = self._snapshot(entry.state, kind)
        self._model._clear_losses()
        result = run(data)
        _put_back(entry.state)
        after, noted = self._snapshot(entry.state, kind), _noted(self._model)
        others = [not own for own in entry.state.is_own]
        if not _same_arrays([*compress(before[0], others)], [*compress(after[0], others)]):
            return result, None, after
        try:  # Ctrl-C may come at any time
            self._restore(entry.state, before, kind)
            entry.candidate.blank(self._gradients(kind))
            entry.candidate.write(leaves)
            made = self._run(kind, entry.candidate)
            agrees = made and (entry.outputs is None or _same_arrays(_data_of(result), entry.candidate.outputs))
            agrees = agrees and _same_losses(noted, entry.losses)
            return result, bool(agrees) and _same_bits(after, self._snapshot(entry.state, kind)), after
        finally:
            self._restore(entry.state, after, kind)

    def _snapshot(self, state: State, kind: str) -> tuple[list[np.ndarray], list[tuple[Any, Any]]]:
        streams = [(stream, stream.state) for stream in self._model._contents().streams]
        return [array.copy() for array in (*state.arrays, *self._hosts(kind))], streams

    def _hosts(self, kind: str) -> list[np.ndarray]:
        """The numbers that the optimizer has in the host's memory."""
        own = self._model.optimizer.variables if kind == "train" else []
        return [variable.host for variable in own if isinstance(variable, HostVariable)]

    def _restore(self, state: State, snapshot: tuple[list[np.ndarray], list[tuple[Any, Any]]], kind: str) -> None:
        copies, streams = snapshot
        hosts = self._hosts(kind)
        own = *state.is_own, *[True] * len(hosts)
        for array, copy, is_own in zip((*state.arrays, *hosts), copies, own, strict=True):
            if is_own:
                array[...] = copy
        for stream, place in streams:
            stream.state = place

    # ------------------------------------------------------------ many steps

    def many(self, kind: str, batches: Any, arrays: tuple, most: int | None = None) -> tuple[int, Any]:
        """Make as many steps as take about 10 ms, and not more than `most`, on the next batches of arrays.

        Returns:
            How many they were, 0 where it goes batch by batch; and the logs after them, or what was predicted.
        """
        count = batches.whole()
        if not count or not self._busy.acquire(blocking=False):
            return 0, None
        try:
            data = arrays[0] if kind == "predict" else _packed(arrays)
            key, leaves = _keyed(kind, data, batches.size)
            entry = self._entries.get(key)
            if entry is None or entry.program is None or not entry.program.is_native:
                return 0, None
            if not all(leaf.flags.c_contiguous for leaf in leaves):
                return 0, None
            if not all(output.ndim for output in entry.program.outputs):
                return 0, None
            if kind == "train" and self._model._trial_needs_layers():
                return 0, None
            if not self._is_valid(entry, kind):
                return 0, None  # the step that comes begins anew
            count = min(count, max(int(_LONG / entry.seconds), 1), most or count, entry.program.capacity)
            numbers = self._numbers(kind, count)
            if numbers is None and kind == "train":
                return 0, None  # a learning rate is refused, now or soon
            tables = [] if numbers is None else [numbers]
            results = [np.empty((count, *one.shape), one.dtype) for one in entry.program.outputs]
            rows = np.ascontiguousarray(batches.take(count), np.int64)
            began = perf_counter()
            try:
                made = _in_turn(entry.program.run_many, count, leaves, rows, tables, results)
            finally:
                self._made(None if numbers is None else numbers[: entry.program.count_made()])
            if made < count:  # if the reason is not a value of the batch, that goes by itself
                entry.program.explain()
                batches.give_back(count - made)
                results, count = [one[:made] for one in results], made
            entry.uses += count
            entry.show_losses(self._model)
            entry.seconds = (perf_counter() - began) / max(count, 1)
            if kind != "predict":
                last = (
                    None
                    if entry.outputs is None or not count
                    else [Tensor(k.to_device(one[-1].copy())) for one in results]
                )
                logs = MetricLogs(self._model) if last is None else tree.pack_sequence_as(entry.outputs, last)
                return count, logs
            joined = [one.reshape(math.prod(one.shape[:2]), *one.shape[2:]) for one in results]
            return count, joined[0] if type(entry.outputs) is Tensor else tree.pack_sequence_as(entry.outputs, joined)
        finally:
            self._busy.release()


def _are_same(some: Sequence[Any], others: Sequence[Any]) -> bool:
    return len(some) == len(others) and all(map(is_, some, others))


def _nothing() -> None:
    pass


def _in_turn(run: Callable[..., int], *given: Any) -> int:
    """Run a program as a call of the model: who replaces all weights waits for its end."""
    me = get_ident()
    if me in computing:
        return run(*given)
    try:
        computing.add(me)
        if turn.owner is not None:
            wait(me)
        return run(*given)
    finally:
        computing.discard(me)


def _is_array(leaf: Any) -> bool:
    """Whether a part of a batch is an array, of the host or of the device."""
    return type(leaf) is np.ndarray or isinstance(leaf, k.xp.ndarray)


def _zeros_like(array: Any) -> Any:
    zeros = np.zeros(array.shape, array.dtype)
    return zeros if type(array) is np.ndarray else k.to_device(zeros)


def _packed(arrays: tuple) -> Any:
    """x, y and weights as steps take them."""
    x, y, sample_weight = arrays
    return (x,) if y is None else (x, y) if sample_weight is None else (x, y, sample_weight)


def _keyed(kind: str, data: Any, size: int | None = None) -> tuple[tuple, Sequence[Any]]:
    """What a batch is known by, and its arrays; with a size that of a batch of so many of these samples."""
    if _is_array(data) and size is None and data.flags.c_contiguous:
        return (kind, (data.shape, data.dtype)), (data,)
    plain = type(data) is tuple and all(map(_is_array, data))
    leaves = data if plain else [data] if _is_array(data) else tree.flatten(data)
    shapes = [
        (leaf.shape if size is None else (size, *leaf.shape[1:]), leaf.dtype)
        for leaf in leaves
        if hasattr(leaf, "dtype")
    ]
    if len(shapes) < len(leaves) or (size is None and not all(leaf.flags.c_contiguous for leaf in leaves)):
        return (kind, "no arrays that lie like a program's"), []  # another layout may round in another way
    if plain or leaves[0] is data:
        return (kind, *(len(data),) * plain, *shapes), leaves
    return (kind, repr(tree.map_structure(lambda _: 0, data)), *shapes), leaves


def _is_traced(outputs: Any) -> bool:
    return any(isinstance(one, Tensor) and one.node is not None for one in tree.flatten(outputs))


def _is_users(result: Any) -> bool:
    """Whether a step gave outputs, or logs of the user's, and not just the metrics' results."""
    return type(result) is not MetricLogs or result._values is not None


def _are_recorded(outputs: Any) -> bool:
    leaves = tree.flatten(outputs)
    return all(
        isinstance(one, Tensor) and _recording_room().is_recorded(one.data) and one._keras_mask is None
        for one in leaves
    )


def _set_apart(outputs: Any, batch: list[np.ndarray]) -> None:
    """Copy outputs that have gaps, such as slices, and parts of the batch, which is elsewhere in every other step."""
    parts = [memory_of(one) for one in batch]
    for one in tree.flatten(outputs):
        if type(one) is Tensor:
            memory = memory_of(one.data)
            if not one.data.flags.c_contiguous or any(memory is part for part in parts):
                one.data = one.data.copy()


def _unrecorded(outputs: Any) -> Any:
    return tree.map_structure(_own, outputs)


def _own(one: Any) -> Any:
    """A tensor or array of a recorded step, and the mask that it carries, in memory of its own."""
    if not isinstance(one, Tensor):
        return one.copy() if _recording_room().is_recorded(one) else one
    own = Tensor(_recording_room().plain(one.data).copy())
    own._keras_mask = _own(one._keras_mask)
    return own


def _same_losses(noted: list[tuple[Any, list[Tensor]]], made: list[tuple[Any, list[np.ndarray]]]) -> bool:
    first, second = ([raw(loss) for _, losses in one for loss in losses] for one in (noted, made))
    return len(first) == len(second) and _same_arrays(first, second)


def _data_of(outputs: Any) -> list[np.ndarray]:
    return [one.data for one in tree.flatten(outputs)]


def _same_bits(first: Any, second: Any) -> bool:
    return first[1] == second[1] and _same_arrays(first[0], second[0])


def _same_arrays(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(one.shape == other.shape and np.array_equal(_bits(one), _bits(other)) for one, other in pairs)


def _bits(array: Any) -> np.ndarray:
    return np.ascontiguousarray(k.to_host(array)).reshape(-1).view(np.uint8)
