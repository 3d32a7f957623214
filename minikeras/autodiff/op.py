"""Operations as objects: one function of raw arrays with its gradient, its shape rule and its name in files.

`@differentiable`, `@operation` and `@composite` make an `Op`, which is called with tensors, arrays, numbers and
symbolic tensors.  While a tape is open the result is linked to its inputs by a `Node`; `producer` tells which operation
made a tensor, and from what.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minikeras import kernels as k
from minikeras import limits, tree
from minikeras.autodiff import shapes
from minikeras.autodiff.narrow import in_single
from minikeras.autodiff.operands import PLAIN_TYPES, is_wide, operands, raw, settle, settled
from minikeras.autodiff.symbolic import FunctionNode, KerasTensor, SymbolicNode, infer_output, snake_case, unique_name
from minikeras.autodiff.tape import Node
from minikeras.autodiff.tensor import FLOATS, Tensor, _state
from minikeras.kernels.arena import current
from minikeras.tracebacks import end_at_users_line


class Op:
    """An operation; a function to whoever calls, pickles or documents it, and a method in the body of a class.

    Args:
        function: what it is made of.  Of a differentiable one: `function(*arrays, **settings) -> (y, vjp)`.
        differentiable: whether gradients flow through it.
        inputs: how many of the first positional parameters are inputs, default all; the others are settings.
        sequence: whether the first parameter is a list of inputs and all others are settings.
        shape: its shape rule, see `shapes`; without one, symbolic results are found by computing with zeros.
        keras: the class that Keras has for it in files, with its module; default its own name in CamelCase, in the
            module that `KERAS_MODULE` names in the file where it is defined; empty where Keras has none.
        takes: the arguments of a call of Keras's class where they are not the inputs: how many, or their names.
        hidden: settings that the function takes among its `**kwargs`, with their defaults.
        replayable: whether the result depends on nothing but the arguments, so that a recorded prediction may run it
            again without the Python code around it; default whether it is one of minikeras's own.
        rounds: whether it is computed in float32 and rounded where its inputs are float16 or bfloat16, see `narrow`:
            not where the result has a type of its own, or the bits matter.
        gradient: `gradient(*tensors, **settings)` returns a vjp that works on tensors, made of operations.  It serves
            for gradients of gradients; without one `function` is run again on arrays that record (see
            `ops/second_order.py`), which must then be array code.
    """

    # `__call__` is a slot that each operation fills with a function made for it: a call passes no `self`
    __slots__ = (
        *("__call__", "__dict__", "__weakref__", "count", "differentiable", "function", "gradient", "hidden", "keras"),
        *("made", "parameters", "replayable", "rounds", "sequence", "shape", "takes"),
    )

    __call__: Callable[..., Any]
    made: tuple[Callable, Callable, dict[str, Any]]  # decorator, function and options
    __name__: str = "operation"  # of what has no name of its own, such as a `functools.partial`
    __qualname__: str

    def __init__(
        self,
        function: Callable,
        differentiable: bool,
        inputs: int | None = None,
        sequence: bool = False,
        shape: Callable | None = None,
        keras: str | None = None,
        takes: int | Sequence[str] | None = None,
        hidden: dict[str, Any] | None = None,
        replayable: bool | None = None,
        rounds: bool = True,
        gradient: Callable | None = None,
    ):
        functools.update_wrapper(self, function)
        self.function = function
        self.differentiable = differentiable
        self.parameters, self.count = _inputs_of(function, inputs)
        self.sequence = sequence
        self.shape = shape
        self.keras = keras
        self.takes = 1 if sequence else self.count if takes is None else takes
        self.hidden = hidden or {}
        self.gradient = gradient
        own = (getattr(function, "__module__", None) or "").startswith("minikeras.")
        self.replayable = own if replayable is None else replayable
        self.rounds = rounds

    @property
    def graph_name(self) -> str:
        """What elements of a graph that apply it are called, as Keras calls them."""
        return snake_case(self.keras.rpartition(".")[2]) if self.keras else self.__name__.strip("_")

    @property
    def keras_class(self) -> tuple[str, str]:
        """The module and the class that Keras has for it."""
        if self.keras is not None:
            module, _, name = self.keras.rpartition(".")
            return module, name
        return getattr(sys.modules[self.__module__], "KERAS_MODULE", ""), camel_case(self.__name__)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __reduce__(self) -> Any:  # pickles and copies, as a function's, are a name
        apart = self.__module__ == "__main__" or "<locals>" in self.__qualname__
        if apart and sys._getframe(1).f_globals.get("__name__", "").startswith("cloudpickle."):
            return _made_anew, self.made  # what other processes do not find under its name
        return self.__qualname__

    def __repr__(self) -> str:
        return f"<Op {self.__module__}.{self.__name__}>"

    def infer(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        """The symbolic outputs of a call: by the shape rule, or found on zeros where there is none.

        Raises:
            ValueError: where the shapes do not go together.
        """
        if self.shape is None:
            return infer_output(self, args, kwargs)
        if any(is_wide(leaf) and not isinstance(leaf, Tensor) for leaf in tree.flatten((args, kwargs))):
            args, kwargs = settled((args, kwargs))
        bound = inspect.signature(self).bind(*args, **kwargs)
        bound.apply_defaults()
        given = dict(bound.arguments)
        inputs: list[Any] = []
        for name, _ in self.parameters[:1] if self.sequence else self.parameters:
            inputs.append(shapes.spec_of(given.pop(name)))
        for parameter in bound.signature.parameters.values():
            if parameter.kind is parameter.VAR_POSITIONAL:
                inputs += map(shapes.spec_of, given.pop(parameter.name))
            elif parameter.kind is parameter.VAR_KEYWORD:
                given |= given.pop(parameter.name)
        if limits.account.left is not None:
            shapes.lend(self.shape, inputs, given)
        return shapes.symbols(self.shape(*inputs, **given), self, args, kwargs)


def camel_case(name: str) -> str:
    """`expand_dims` to `ExpandDims`, as Keras names the classes of operations."""
    return "".join(part.capitalize() for part in name.split("_"))


_MISSING = inspect.Parameter.empty


def _inputs_of(function: Callable, inputs: int | None) -> tuple[list[tuple[str, Any]], int]:
    """Names and defaults of the parameters that are inputs, and how many positional arguments may be."""
    plain = function
    while hasattr(plain, "__wrapped__"):
        plain = plain.__wrapped__
    if type(plain) is types.FunctionType:  # a tenth of the time that a signature takes, for every operation at import
        code, defaults = plain.__code__, plain.__defaults__ or ()
        values = [_MISSING] * (code.co_argcount - len(defaults)) + list(defaults)
        named = list(zip(code.co_varnames, values, strict=False))
        several = bool(code.co_flags & inspect.CO_VARARGS)
    else:
        parameters = inspect.signature(function).parameters.values()
        named = [(one.name, one.default) for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
        several = any(one.kind is one.VAR_POSITIONAL for one in parameters)
    named = named[:inputs]
    return named, sys.maxsize if several else len(named)


def _with_keywords(args: tuple, settings: dict[str, Any], parameters: list[tuple[str, Any]]) -> tuple:
    """`args` with the inputs that were given by keyword, which leave `settings`; Keras allows both."""
    rest = parameters[len(args) :]
    while rest and rest[-1][0] not in settings:
        rest.pop()
    if any(default is _MISSING and name not in settings for name, default in rest):
        return args  # Python's own error about the missing argument follows
    return args + tuple([settings.pop(name, default) for name, default in rest])


def _decorator(decorate: Callable) -> Callable:
    """A decorator that is also called with its options first."""

    @functools.wraps(decorate)
    def decorator(function: Callable | None = None, **options: Any) -> Any:
        if function is None:
            return functools.partial(decorator, **options)
        op = decorate(function, **options)
        op.made = decorator, function, options
        return op

    return decorator


def _made_anew(decorator: Callable, function: Callable, options: dict[str, Any]) -> Op:
    return decorator(function, **options)


@_decorator
def differentiable(function: Callable, *, sequence: bool = False, traced: bool = False, **options: Any) -> Op:
    """Make an operation of `function(*arrays, **settings) -> (y, vjp)`.

    The positional parameters are the inputs: tensors, arrays, numbers or None.  Keyword-only parameters are settings.
    `y` is an array or a tuple of arrays.  `vjp(g, needs)` takes the gradient at `y` (for a tuple: a tuple, None where
    an output was not used) and returns one gradient for each input, None where `needs` says that none is wanted.

    Args:
        sequence: the first parameter is a list of inputs and all others are settings.
        traced: `producer` knows its results although nothing is recorded, which keeps its inputs alive.
        options: `inputs`, `shape`, `keras`, `takes`, `hidden`, `replayable`, `rounds` and `gradient`, as `Op` has them.
    """
    op = Op(function, True, sequence=sequence, **options)
    op.__call__ = _of_list(op) if sequence else _of_inputs(op, traced)
    return op


def _of_inputs(op: Op, traced: bool) -> Callable:
    """What a differentiable operation does when it is called."""
    function, count, parameters = op.function, op.count, op.parameters
    names = frozenset(name for name, _ in parameters)
    defaults = tuple(default for _, default in parameters)
    ndarray = np.ndarray

    def call(*args: Any, **settings: Any) -> Any:
        try:
            if settings and not names.isdisjoint(settings):
                args = _with_keywords(args, settings, parameters)
            if len(args) < len(defaults) and defaults[len(args)] is not _MISSING:
                args += defaults[len(args) :]  # a vjp may ask for any input's `needs`
            values = args if len(args) <= count else args[:count]
            arrays = []
            sources: list[Any] = []  # for the node: the tensors that a gradient flows to
            tracked = wide = False
            narrow = _state.casts is not None
            for value in values:
                if isinstance(value, Tensor):
                    array = value.data
                    arrays.append(array)
                    if array.itemsize == 2:
                        narrow = True
                    if value.tracked:
                        tracked = True
                        sources.append(value)
                        continue
                elif type(value) in PLAIN_TYPES:
                    arrays.append(value)
                elif isinstance(value, KerasTensor):
                    return symbolic_call(op, args, settings)
                elif isinstance(value, (list, tuple)) and _has_tensors(value):
                    return op(*[stacked(value) for value in values], *args[count:], **settings)
                else:
                    array = raw(value)
                    arrays.append(array)
                    wide = wide or is_wide(array)
                    narrow = narrow or getattr(array, "itemsize", 0) == 2
                sources.append(None)
            if wide:
                settle(values, arrays)
            compute = in_single(op, function, values, arrays) if narrow else function
            if len(args) > count:
                arrays.extend(args[count:])
            y, vjp = compute(*arrays, **settings)
            recorded = tracked and _state.recording > 0
            if type(y) is ndarray:
                result = Tensor(y, recorded)
                if recorded:
                    result.node = Node(op, vjp, sources, args, settings, arrays)
                elif traced:
                    result.node = Node(op, None, (), args, settings)
            else:
                result = _linked(op, y, vjp, sources, args, settings, arrays, recorded, traced)
            if _state.recorder is not None:
                _state.recorder.note(op, compute, args, arrays, settings, result)
            return result
        except BaseException as error:
            end_at_users_line(error)
            raise

    return call


def _of_list(op: Op) -> Callable:
    """What a differentiable operation of a list does when it is called."""
    function, parameters = op.function, op.parameters

    def call(*args: Any, **settings: Any) -> Any:
        try:
            if settings:
                args = _with_keywords(args, settings, parameters)
            if not args:
                raise TypeError(f"{op.__name__}() missing 1 required positional argument: {parameters[0][0]!r}")
            values, others = list(args[0]), args[1:]
            for value in values:
                if isinstance(value, KerasTensor):
                    return symbolic_call(op, (values, *others), settings)
            arrays = operands(values)
            compute = in_single(op, _on_list(function, others), values, arrays)
            if current.recording is not None and current.recording.are_fixed(arrays):
                return Tensor(current.recording.computed(lambda *arrays: compute(*arrays, **settings)[0], arrays))
            y, vjp = compute(*arrays, **settings)
            sources = [value if isinstance(value, Tensor) and value.tracked else None for value in values]
            recorded = _state.recording > 0 and any(source is not None for source in sources)
            result = _linked(op, y, vjp, sources, args, settings, arrays, recorded)
            if _state.recorder is not None:
                _state.recorder.note(op, compute, values, arrays, settings, result)
            return result
        except BaseException as error:
            end_at_users_line(error)
            raise

    return call


def _on_list(function: Callable, others: Sequence[Any]) -> Callable:
    """A function of a list of arrays as one of the arrays themselves."""
    return lambda *arrays, **settings: function(list(arrays), *others, **settings)


@_decorator
def operation(function: Callable, **options: Any) -> Op:
    """Make an operation without a gradient (comparisons, integers) of a function of raw arrays.

    Its parameters and the options are as in `differentiable`.
    """
    op = Op(function, False, **options)
    parameters, count = op.parameters, op.count

    @functools.wraps(function)
    def computed(*arrays: Any, **settings: Any) -> Any:
        return function(*arrays, **settings), None

    def call(*args: Any, **settings: Any) -> Any:
        try:
            if settings:
                args = _with_keywords(args, settings, parameters)
            for value in args[:count]:
                if isinstance(value, KerasTensor):
                    return symbolic_call(op, args, settings)
            arrays = operands(args[:count])
            narrow = in_single(op, computed, args, arrays)
            if len(args) > count:
                arrays.extend(args[count:])
            y = function(*arrays, **settings) if narrow is computed else narrow(*arrays, **settings)[0]
            result = tuple([Tensor(_array(part)) for part in y]) if type(y) is tuple else Tensor(_array(y))
            if _state.recorder is not None:
                _state.recorder.note(op, narrow, args, arrays, settings, result)
            return result
        except BaseException as error:
            end_at_users_line(error)
            raise

    op.__call__ = call
    return op


@_decorator
def composite(function: Callable, **options: Any) -> Op:
    """Make an operation of a function that calls others; on symbolic tensors it is one element of the layer graph.

    NumPy's float64 arrays among its arguments are taken as `operands` does, for the function may use them alone first.
    The options are as in `differentiable`.
    """
    op = Op(function, True, **options)

    def call(*args: Any, **settings: Any) -> Any:
        try:
            wide = False
            for value in (*args, *settings.values()):
                if isinstance(value, Tensor) or type(value) in PLAIN_TYPES or type(value) is str:
                    continue  # nearly always all that there is
                for leaf in tree.flatten(value):
                    if isinstance(leaf, KerasTensor):
                        return symbolic_call(op, args, settings)
                    if isinstance(leaf, (np.ndarray, k.xp.ndarray)):
                        wide = wide or is_wide(leaf)
            if wide:
                args, settings = settled((args, settings))
            return function(*args, **settings)
        except BaseException as error:
            end_at_users_line(error)
            raise

    op.__call__ = call
    return op


def producer(tensor: Any) -> Node | None:
    """The node of the operation that made a tensor: its `op`, and the `args` and `settings` that this was called with.

    None for what no operation made, and where nothing was recorded, unless the operation is `traced`.
    """
    return tensor.node if isinstance(tensor, Tensor) else None


def symbolic_call(op: Op, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Apply an operation to symbolic tensors: a new element of the layer graph."""
    element = FunctionNode(op, unique_name(op.graph_name))
    try:
        outputs = op.infer(args, kwargs)
    except ValueError as error:
        leaves = tree.flatten((list(args), kwargs))
        sizes = [tuple(leaf.shape) for leaf in leaves if hasattr(leaf, "shape") and not isinstance(leaf, KerasTensor)]
        if not sizes:
            raise
        symbolic = next(leaf for leaf in leaves if isinstance(leaf, KerasTensor))
        raise ValueError(
            f"{element.name} of values of shape {sizes[0]} and the symbolic tensor {symbolic!r} failed: {error}; "
            "where a layer or loss refers to a symbolic tensor, pass it as an input, or add it with model.add_loss()."
        ) from error
    SymbolicNode(element, args, kwargs, outputs)
    return outputs


def _has_tensors(value: Any) -> bool:
    return any(isinstance(leaf, (Tensor, KerasTensor)) for leaf in tree.flatten(value))


def stacked(value: Any) -> Any:
    """A list of tensors (also nested) as one tensor, whose gradient reaches each; anything else is itself."""
    if not isinstance(value, (list, tuple)) or not _has_tensors(value):
        return value
    return _stack([stacked(part) for part in value])


@functools.partial(differentiable, sequence=True, shape=shapes.stack)
def _stack(arrays: list[Any]) -> Any:
    types = [array.dtype for array in arrays if hasattr(array, "dtype")]
    dtype = np.result_type(*([one for one in types if one.char in FLOATS] or types))
    return k.stack([_typed(array, dtype) for array in arrays], 0), lambda g, needs: list(g)


def _typed(array: Any, dtype: Any) -> Any:
    return k.cast(array, dtype) if hasattr(array, "dtype") else k.xp.asarray(array, dtype)


def _array(y: Any) -> Any:
    """NumPy returns a scalar where CuPy returns an array without axes; a tensor always holds an array."""
    return np.asarray(y) if isinstance(y, np.generic) else y


def _linked(
    op: Op,
    y: Any,
    vjp: Any,
    sources: Any,
    args: tuple,
    settings: dict[str, Any],
    arrays: list[Any],
    recorded: bool,
    traced: bool = False,
) -> Any:
    """The result of an operation as tensors, linked by a node to the sources of its gradient where `recorded`."""
    node = None
    if recorded or traced:
        node = Node(op, vjp, sources, args, settings, arrays) if recorded else Node(op, None, (), args, settings)
    if type(y) is not tuple:
        result = Tensor(_array(y), recorded)
        result.node = node
        return result
    results = tuple([Tensor(_array(part), recorded and part is not None and part.dtype.char in FLOATS) for part in y])
    if node is not None:
        node.grads = [None] * len(results)
        for index, result in enumerate(results):
            result.node, result.index = node, index
    return results
