"""The tape: which operations led to a tensor, and how a gradient flows back through them.

A differentiable operation is one function of raw arrays that returns `(y, vjp)`.  While a `GradientTape` is open (or
`recording()`), calling it links the result to its inputs by a `Node`; `backward` walks these links from a scalar back
to the sources.  The links live as long as the tensors do: one step.  First order only: a vjp works on raw arrays.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minikeras import config, tree
from minikeras import kernels as k
from minikeras.autodiff.symbolic import KerasTensor, symbolic_call
from minikeras.autodiff.tensor import Tensor, Variable, _state, clock, latest_change
from minikeras.tracebacks import end_at_users_line, user_facing


class Node:
    """One recorded operation: its vector-Jacobian product and the tensors it was computed from."""

    __slots__ = ("grads", "inputs", "needs", "order", "vjp")

    def __init__(self, vjp: Callable, inputs: list[Any]):
        self.vjp = vjp
        self.inputs = inputs
        self.order = next(clock)
        self.grads: Any = None
        self.needs: Any = None


class Needs(tuple):
    """For each positional input of an operation: whether its gradient is wanted.

    `out[i]` is the array that the gradient of input i should be written to (a slice of a flat gradient buffer), or
    None: a vjp that can write there directly saves a copy; one that does not know about it is right too.
    """

    out: Sequence[Any] = (None,) * 32


class recording:
    """Context manager: operations on tracked tensors are recorded (`False`: they are not)."""

    __slots__ = ("_on", "_previous")

    def __init__(self, on: bool = True):
        self._on = on

    def __enter__(self) -> None:
        self._previous = _state.recording
        _state.recording = self._previous + 1 if self._on else 0

    def __exit__(self, *error: object) -> None:
        _state.recording = self._previous


def is_recording() -> bool:
    """Whether operations on tracked tensors are recorded now: if not, an operation need not keep what its vjp reads."""
    return _state.recording > 0


def raw(value: Any) -> Any:
    """The raw array behind an operation's argument; numbers and None stay as they are.

    Lists of Python numbers become `floatx()` or int32, as they carry no type of their own.
    """
    if isinstance(value, Tensor):
        return value.data
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return float(value)  # NumPy's float64 scalar is one too, and would turn everything into float64
    if not isinstance(value, k.xp.ndarray):
        array = np.asarray(tree.map_structure(_as_constant, value) if isinstance(value, (list, tuple)) else value)
        if array.dtype in _PYTHON_TYPES and not any(hasattr(leaf, "dtype") for leaf in tree.flatten(value)):
            array = array.astype(config.floatx() if array.dtype.kind == "f" else np.int32)
        value = k.to_device(array)
    return value


def _as_constant(leaf: Any) -> Any:
    return leaf.numpy() if isinstance(leaf, Tensor) else leaf


_PYTHON_TYPES = (np.dtype(np.float64), np.dtype(np.int64))  # what NumPy makes of Python's numbers
_PLAIN_TYPES = frozenset((type(None), bool, int, float))  # of arguments that `raw` leaves as they are


def operands(values: Sequence[Any]) -> list[Any]:
    """The raw arrays behind the operands of one operation, as `raw` gives them.

    NumPy's float64 is what it makes of anything that is not told otherwise: beside a tensor, or an array of narrower
    floats, such an array counts as `floatx()` and takes the floats of the others where those are wider.  A float64
    tensor is meant to be one, and then nothing loses digits; float64 arrays alone keep their type.
    """
    arrays = [raw(value) for value in values]
    if any(_is_wide(array) for array in arrays):
        _settle(values, arrays)
    return arrays


def _settle(values: Sequence[Any], arrays: list[Any]) -> None:
    """Give NumPy's float64 arrays among `arrays`, which are those of `values`, the type that `operands` says."""
    dtype = _float_beside([*values, *arrays])
    if dtype is not None:
        for i, array in enumerate(arrays):
            if _is_wide(array) and not isinstance(values[i], Tensor):
                arrays[i] = array.astype(dtype, copy=False)


def _is_wide(value: Any) -> bool:
    """Whether a value is an array of float64 (or wider)."""
    dtype = getattr(value, "dtype", None)
    return isinstance(dtype, np.dtype) and dtype.kind == "f" and dtype.itemsize >= 8


def _float_beside(values: Sequence[Any]) -> Any:
    """The type that NumPy's float64 takes beside these values; None where it stays."""
    types = []
    for value in values:
        dtype = value.data.dtype if isinstance(value, Tensor) else getattr(value, "dtype", None)
        if isinstance(value, Tensor) or (isinstance(dtype, np.dtype) and dtype.kind == "f" and dtype.itemsize < 8):
            types.append(dtype)
    floats = [one for one in types if one is not None and one.kind == "f"]
    return np.result_type(config.floatx(), *floats) if types else None


def differentiable(function: Callable | None = None, *, inputs: int | None = None, sequence: bool = False) -> Callable:
    """Make an operation of `function(*arrays, **settings) -> (y, vjp)`.

    The positional parameters are the inputs: tensors, arrays, numbers or None.  Keyword-only parameters are settings.
    `y` is an array or a tuple of arrays.  `vjp(g, needs)` takes the gradient at `y` (for a tuple: a tuple, None where
    an output was not used) and returns one gradient for each input, None where `needs` says that none is wanted.

    Args:
        inputs: only that many of the first positional parameters are inputs, the others are settings too.
        sequence: the first parameter is a list of inputs and all others are settings.
    """
    if function is None:
        return functools.partial(differentiable, inputs=inputs, sequence=sequence)
    parameters, count = _inputs_of(function, inputs)
    names = frozenset(parameter.name for parameter in parameters)
    defaults = tuple(parameter.default for parameter in parameters)

    @functools.wraps(function)
    def operation(*args: Any, **settings: Any) -> Any:
        try:
            if settings and not names.isdisjoint(settings):
                args = _with_keywords(args, settings, parameters)
            if len(args) < len(defaults) and defaults[len(args)] is not inspect.Parameter.empty:
                args += defaults[len(args) :]  # a vjp may ask for any input's `needs`
            values = args if len(args) <= count else args[:count]
            arrays = []
            sources: list[Any] = []  # for the node: the tensors that a gradient flows to
            tracked = wide = False
            for value in values:
                if isinstance(value, Tensor):
                    arrays.append(value.data)
                    if value.tracked:
                        tracked = True
                        sources.append(value)
                        continue
                elif type(value) in _PLAIN_TYPES:
                    arrays.append(value)
                elif isinstance(value, KerasTensor):
                    return symbolic_call(operation, args, settings)
                elif isinstance(value, (list, tuple)) and _has_tensors(value):
                    return operation(*[stacked(value) for value in values], *args[count:], **settings)
                else:
                    array = raw(value)
                    arrays.append(array)
                    wide = wide or _is_wide(array)
                sources.append(None)
            if wide:
                _settle(values, arrays)
            if len(args) > count:
                arrays.extend(args[count:])
            y, vjp = function(*arrays, **settings)
            result = _linked(y, vjp, sources, tracked and _state.recording > 0)
            if _state.recorder is not None:
                _state.recorder.note(function, args, arrays, settings, result)
            return result
        except BaseException as error:
            end_at_users_line(error)
            raise

    @functools.wraps(function)
    def sequence_operation(*args: Any, **settings: Any) -> Any:
        try:
            values, *others = _with_keywords(args, settings, parameters)
            values = list(values)
            if any(isinstance(value, KerasTensor) for value in values):
                return symbolic_call(sequence_operation, (values, *others), settings)
            arrays = operands(values)
            y, vjp = function(arrays, *others, **settings)
            sources = [value if isinstance(value, Tensor) and value.tracked else None for value in values]
            tracked = any(source is not None for source in sources)
            result = _linked(y, vjp, sources, tracked and _state.recording > 0)
            if _state.recorder is not None:
                _state.recorder.note(_on_list(function, others), values, arrays, settings, result)
            return result
        except BaseException as error:
            end_at_users_line(error)
            raise

    made = sequence_operation if sequence else operation
    made.differentiable = True  # type: ignore[attr-defined]
    return made


def operation(function: Callable | None = None, *, inputs: int | None = None) -> Callable:
    """Make an operation without a gradient (comparisons, integers) of a function of raw arrays.

    Its parameters are as in `differentiable`.
    """
    if function is None:
        return functools.partial(operation, inputs=inputs)
    parameters, count = _inputs_of(function, inputs)

    @functools.wraps(function)
    def op(*args: Any, **settings: Any) -> Any:
        try:
            if settings:
                args = _with_keywords(args, settings, parameters)
            for value in args[:count]:
                if isinstance(value, KerasTensor):
                    return symbolic_call(op, args, settings)
            y = function(*operands(args[:count]), *args[count:], **settings)
            if _state.recorder is not None:
                _state.recorder.spoil()  # its result is not (y, vjp); what layers compute has gradients
            return tuple([Tensor(_array(part)) for part in y]) if type(y) is tuple else Tensor(_array(y))
        except BaseException as error:
            end_at_users_line(error)
            raise

    op.differentiable = False  # type: ignore[attr-defined]
    return op


def _has_tensors(value: Any) -> bool:
    return any(isinstance(leaf, (Tensor, KerasTensor)) for leaf in tree.flatten(value))


def stacked(value: Any) -> Any:
    """A list of tensors (also nested) as one tensor, whose gradient reaches each; anything else is itself."""
    if not isinstance(value, (list, tuple)) or not _has_tensors(value):
        return value
    return _stack([stacked(part) for part in value])


def composite(function: Callable) -> Callable:
    """Make an operation of a function that calls others; on symbolic tensors it is one element of the layer graph.

    NumPy's float64 arrays among its arguments are taken as `operands` does, for the function may use them alone first.
    """

    @functools.wraps(function)
    def op(*args: Any, **settings: Any) -> Any:
        try:
            wide = False
            for value in (*args, *settings.values()):
                if isinstance(value, Tensor) or type(value) in _PLAIN_TYPES or type(value) is str:
                    continue  # nearly always all that there is
                for leaf in tree.flatten(value):
                    if isinstance(leaf, KerasTensor):
                        return symbolic_call(op, args, settings)
                    if isinstance(leaf, (np.ndarray, k.xp.ndarray)):
                        wide = wide or _is_wide(leaf)
            if wide:
                args, settings = _settled((args, settings))
            return function(*args, **settings)
        except BaseException as error:
            end_at_users_line(error)
            raise

    op.differentiable = True  # type: ignore[attr-defined]
    return op


def _settled(arguments: Any) -> Any:
    """A structure of arguments in which NumPy's float64 arrays have the type that `operands` says."""
    dtype = _float_beside(tree.flatten(arguments))
    if dtype is None:
        return arguments
    return tree.map_structure(
        lambda leaf: leaf.astype(dtype, copy=False) if _is_wide(leaf) and not isinstance(leaf, Tensor) else leaf,
        arguments,
    )


def _on_list(function: Callable, others: Sequence[Any]) -> Callable:
    """A function of a list of arrays as one of the arrays themselves."""

    def listed(*arrays: Any, **settings: Any) -> Any:
        return function(list(arrays), *others, **settings)

    listed.__name__ = function.__name__
    return listed


def _inputs_of(function: Callable, inputs: int | None) -> tuple[list[inspect.Parameter], int]:
    """The parameters that are inputs, and how many positional arguments may be."""
    parameters = list(inspect.signature(function).parameters.values())
    named = [parameter for parameter in parameters if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    if any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
        return named, sys.maxsize
    named = named[:inputs]
    return named, len(named)


def _with_keywords(args: tuple, settings: dict[str, Any], parameters: list[inspect.Parameter]) -> tuple:
    """`args` with the inputs that were given by keyword, which leave `settings`; Keras allows both."""
    rest = parameters[len(args) :]
    while rest and rest[-1].name not in settings:
        rest.pop()
    if any(parameter.default is parameter.empty and parameter.name not in settings for parameter in rest):
        return args  # Python's own error about the missing argument follows
    return args + tuple([settings.pop(parameter.name, parameter.default) for parameter in rest])


@functools.partial(differentiable, sequence=True)
def _stack(arrays: list[Any]) -> Any:
    types = [array.dtype for array in arrays if hasattr(array, "dtype")]
    dtype = np.result_type(*([one for one in types if one.kind == "f"] or types))
    return k.xp.stack([k.xp.asarray(array, dtype) for array in arrays]), lambda g, needs: list(g)


def _array(y: Any) -> Any:
    """NumPy returns a scalar where CuPy returns an array without axes; a tensor always holds an array."""
    return np.asarray(y) if isinstance(y, np.generic) else y


def _linked(y: Any, vjp: Callable, sources: list[Any], recorded: bool) -> Any:
    """The result of an operation as tensors, linked by a node to the sources of its gradient where `recorded`."""
    if type(y) is not tuple:
        result = Tensor(_array(y), recorded)
        if recorded:
            result.node = Node(vjp, sources)
        return result
    results = tuple([Tensor(_array(part), recorded and part is not None and part.dtype.kind == "f") for part in y])
    if recorded:
        node = Node(vjp, sources)
        node.grads = [None] * len(results)
        for index, result in enumerate(results):
            result.node, result.index = node, index
    return results


def backward(
    target: Tensor,
    sources: Sequence[Tensor],
    seed: Any = None,
    destinations: dict[int, Any] | None = None,
) -> list[Any]:
    """Gradients of `sum(target * seed)` at the sources, as raw arrays; None where the target does not depend on one.

    Args:
        target: the tensor to differentiate, usually a scalar.
        sources: tensors or variables.
        seed: gradient at the target, default ones.
        destinations: `id(source) -> array` that the gradient of that source is written to (and then returned).
    """
    destinations = destinations or {}
    if seed is None:
        seed = k.xp.ones(target.shape, target.data.dtype)
    wanted = {id(source) for source in sources}
    found: dict[int, Any] = {}
    unwritten = dict(destinations)
    if id(target) in wanted:
        found[id(target)] = seed
    nodes = _relevant_nodes(target, wanted)
    if nodes and nodes[0].order < latest_change():
        _refuse_changed(nodes)
    if nodes:
        _accumulate_output(target.node, target.index, seed)
    for node in reversed(nodes):
        g = node.grads
        node.grads = None if type(g) is not list else [None] * len(g)
        if g is None or (type(g) is list and all(part is None for part in g)):
            continue
        needs = node.needs
        node.needs = None
        for position, tensor in enumerate(node.inputs):
            if tensor is not None and id(tensor) in unwritten:
                # the first contribution may be written to the destination; later ones are added to it
                if needs.out is Needs.out:
                    needs.out = [None] * len(needs)
                needs.out[position] = unwritten.pop(id(tensor))
        gradients = node.vjp(tuple(g) if type(g) is list else g, needs)
        for position, tensor in enumerate(node.inputs):
            if not needs[position]:
                continue
            gradient = gradients[position]
            if gradient is None:
                continue
            if tensor.node is not None:
                _accumulate_output(tensor.node, tensor.index, gradient)
            key = id(tensor)
            if key in wanted:
                _accumulate_source(found, key, gradient, destinations.get(key))
    return [found.get(id(source)) for source in sources]


def _relevant_nodes(target: Tensor, wanted: set[int]) -> list[Node]:
    """The nodes between sources and target in the order they were recorded, each with its `needs` filled in."""
    if target.node is None:
        return []
    reached = {target.node}
    stack = [target.node]
    while stack:
        for tensor in stack.pop().inputs:
            if tensor is not None and tensor.node is not None and tensor.node not in reached:
                reached.add(tensor.node)
                stack.append(tensor.node)
    nodes = []
    for node in sorted(reached, key=_by_order):
        flags = [
            tensor is not None and (id(tensor) in wanted or (tensor.node is not None and tensor.node.needs is not None))
            for tensor in node.inputs
        ]
        node.needs = Needs(flags) if True in flags else None
        if node.needs is not None:
            nodes.append(node)
    return nodes


def _refuse_changed(nodes: list[Node]) -> None:
    """Refuse gradients through operations on variables whose values, which the gradients are made of, are gone."""
    for node in nodes:
        for tensor in node.inputs:
            if isinstance(tensor, Variable) and tensor.changed > node.order:
                for other in nodes:
                    other.needs = None
                raise ValueError(
                    f"The variable {tensor.path!r} was changed after the loss was computed from it, so the gradient "
                    "asked for now would be wrong; ask for all gradients before the first update."
                )


def refuse_second_order(others: int, gradients: Sequence[Any]) -> None:
    """Refuse to make gradients while other blocks record: they would take them for constants."""
    if others > 0 and any(gradient is not None for gradient in gradients):
        raise NotImplementedError(
            "A gradient was asked for inside another open tape, which cannot differentiate it again: gradients of "
            "gradients are not supported; ask for it outside of the other tape, or, if it serves as a constant there, "
            "within `with tape.stop_recording():`."
        )


def _by_order(node: Node) -> int:
    return node.order


def _accumulate_output(node: Node, index: int, gradient: Any) -> None:
    if node.needs is None:
        return
    if type(node.grads) is list:
        present = node.grads[index]
        node.grads[index] = gradient if present is None else present + gradient
    else:
        node.grads = gradient if node.grads is None else node.grads + gradient


def _accumulate_source(found: dict[int, Any], key: int, gradient: Any, destination: Any) -> None:
    present = found.get(key)
    if destination is None:
        found[key] = gradient if present is None else present + gradient
    elif present is None:
        if gradient is not destination:
            destination[...] = gradient
        found[key] = destination
    else:
        destination += gradient


class GradientTape:
    """Record operations on trainable variables and watched tensors, then ask for gradients.

    ```python
    with GradientTape() as tape:
        loss = ops.mean(ops.square(model(x) - y))
    gradients = tape.gradient(loss, model.trainable_variables)
    ```

    Args:
        persistent: accepted for familiarity; every tape may be asked more than once.
        watch_accessed_variables: with False, only what `watch` names has a gradient.
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True):
        self.persistent = persistent
        self.watch_accessed_variables = watch_accessed_variables
        self._watched: list[Tensor] = []
        self._recorder = recording()
        self._is_open = False

    def __enter__(self) -> GradientTape:
        self._recorder.__enter__()
        self._is_open = True
        return self

    def __exit__(self, *error: object) -> None:
        self._is_open = False
        self._recorder.__exit__(*error)

    def stop_recording(self) -> recording:
        """A block, `with tape.stop_recording():`, whose operations no tape records."""
        return recording(False)

    @user_facing
    def watch(self, tensor: Any) -> None:
        """Track a tensor (or a structure of them) that is not a trainable variable.

        Raises:
            TypeError: for what is no tensor of a float type.
        """
        for leaf in tree.flatten(tensor):
            if not isinstance(leaf, Tensor):
                raise TypeError(
                    f"GradientTape.watch takes tensors, got {type(leaf).__name__}; make one with ops.convert_to_tensor."
                )
            _require_float(leaf.data)
            leaf.tracked = True
            self._watched.append(leaf)

    @user_facing
    def gradient(self, target: Any, sources: Any, output_gradients: Any = None) -> Any:
        """Gradients of the sum of `target` at `sources`, in the structure of `sources`; None where not connected.

        Args:
            target: a tensor or a structure of them, computed while the tape was open.
            sources: variables or watched tensors.
            output_gradients: the gradients at `target`, default ones.

        Raises:
            TypeError: for a target or source that is no tensor.
            ValueError: where a variable was changed since the target was computed from it.
            NotImplementedError: inside another open tape, which could not differentiate the result again.
        """
        flat = tree.flatten(sources)
        _require_tensors("target", tree.flatten(target))
        _require_tensors("sources", flat)
        if not self.watch_accessed_variables:
            watched = {id(tensor) for tensor in self._watched}
            flat = [source if id(source) in watched else Tensor(source.data) for source in flat]
        targets = tree.flatten(target)
        seeds = [None] * len(targets) if output_gradients is None else tree.flatten(output_gradients)
        total: list[Any] = [None] * len(flat)
        for one, seed in zip(targets, seeds, strict=True):
            for i, gradient in enumerate(backward(one, flat, raw(seed))):
                if gradient is not None:
                    total[i] = gradient if total[i] is None else total[i] + gradient
        refuse_second_order(_state.recording - self._is_open, total)
        return tree.pack_sequence_as(sources, [None if g is None else Tensor(g) for g in total])


def _require_tensors(role: str, values: Sequence[Any]) -> None:
    for value in values:
        if not isinstance(value, Tensor):
            raise TypeError(
                f"A gradient's {role} must be a tensor made by minikeras.ops or a variable, got "
                f"{'None' if value is None else type(value).__name__}; a NumPy array or a number has no gradient."
            )


def value_and_grad(function: Callable, argnums: int | Sequence[int] = 0) -> Callable:
    """A function that returns `(function(...), its gradient)` with respect to the arguments numbered `argnums`."""

    @user_facing
    @functools.wraps(function)
    def evaluate(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        positions = [argnums] if isinstance(argnums, int) else list(argnums)
        arguments = list(args)
        for position in positions:
            arguments[position] = tree.map_structure(_tracked, arguments[position])
        with recording():
            value = function(*arguments, **kwargs)
        _require_tensors("function's value", [value])
        if value.size != 1:
            raise ValueError(
                f"grad needs a scalar function, got a value of shape {value.shape}; reduce it with ops.sum."
            )
        chosen = [arguments[position] for position in positions]
        found = backward(value, tree.flatten(chosen))
        refuse_second_order(_state.recording, found)
        flat = [Tensor(g) if g is not None else None for g in found]
        gradients = tree.pack_sequence_as(chosen, flat)
        return value, gradients[0] if isinstance(argnums, int) else tuple(gradients)

    return evaluate


def grad(function: Callable, argnums: int | Sequence[int] = 0) -> Callable:
    """A function that returns the gradient of the scalar `function` with respect to the arguments numbered `argnums`.

    An argument may be a structure (list, dict) of arrays or variables; the gradient has the same structure.
    """
    evaluate = value_and_grad(function, argnums)

    @user_facing
    @functools.wraps(function)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        return evaluate(*args, **kwargs)[1]

    return gradient


def _tracked(value: Any) -> Tensor:
    if isinstance(value, Variable):
        return value
    array = raw(value) if not isinstance(value, (int, float)) else k.xp.asarray(float(value))
    _require_float(array)
    return Tensor(array, tracked=True)


def _require_float(array: Any) -> None:
    if array.dtype.kind != "f":
        raise TypeError(
            f"A gradient is taken at float tensors, got one of type {array.dtype}, in which it would be rounded; cast "
            "it to float32 first."
        )
