"""Gradients of gradients: an operation's own function run once more, on arrays that record what is done with them.

An operation is `function(*arrays) -> (y, vjp)` in array code, so its first derivative is written once, and no second
one.  Where a gradient is to be differentiated again the function runs on `TracedArray`s: to array code these are arrays
(operators, indices, NumPy's functions, changes in place), and each thing done with one is a differentiable operation on
a tensor.  So the vjp that comes out makes tensors that are linked, and gradients of any order follow from the formulas
of the first.  The kernels that array code finds under `kernels` are then those of a table of its own, `"tape"`: the
reference on such arrays, and below overrides, by operations, of those that are no plain array code or would be slow.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from types import CellType, FunctionType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from minikeras import kernels, tree
from minikeras import kernels as k
from minikeras.autodiff.op import Op, differentiable
from minikeras.autodiff.tape import Node
from minikeras.autodiff.tensor import Tensor
from minikeras.ops import activation, core, elementwise, linalg, numpy_protocol, reduction, shaping

# ---- arrays ----------------------------------------------------------------------------------------------------------


class TracedArray:
    """A tensor that array code takes for an array.

    A change in place gives it another tensor.  A view asks what it is a view of for its values, and changes that.

    Args:
        tensor: its values; None for a view.
        base: the array that it is a view of.
        read: the view's tensor, from the base's.
        write: the base's tensor, from the base's and a new one of the view; None where the view cannot be written to.
        fixed: whether it may not be changed in place: it was given to the function.
    """

    __slots__ = ("_base", "_fixed", "_known", "_read", "_tensor", "_write")
    __array_priority__ = 1000.0  # of arrays and these, these have the say
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        tensor: Any,
        base: TracedArray | None = None,
        read: Callable | None = None,
        write: Callable | None = None,
        fixed: bool = False,
    ):
        self._tensor, self._base, self._read, self._write, self._fixed = tensor, base, read, write, fixed
        self._known: Any = None  # the base's tensor that the view's was read from

    @property
    def tensor(self) -> Tensor:
        """Its present values."""
        if self._base is not None and self._known is not self._base.tensor:
            self._known = self._base.tensor
            self._tensor = self._read(self._known)  # type: ignore[misc]
        return self._tensor

    def become(self, value: Any) -> TracedArray:
        """Take the values of an array, a tensor or a number, which broadcast."""
        own = self.tensor
        new = core.cast(shaping.broadcast_to(_tensor(value), own.shape), own.data.dtype)
        if self._base is not None and self._write is not None:
            self._base.become(self._write(self._base.tensor, new))
        elif self._base is not None or self._fixed:
            raise ValueError("it changes in place an array that it was given, or what may be a view of one")
        else:
            self._tensor = new
        return self

    def view(self, read: Callable, write: Callable | None = None) -> TracedArray:
        return TracedArray(None, self, read, write)

    def __getattr__(self, name: str) -> Any:
        if name in _DESCRIPTIONS:
            return getattr(self.tensor.data, name)
        if name in _METHODS:
            return functools.partial(getattr(array_module, name), self)
        raise AttributeError(f"it uses {name!r} of an array, which no operation does")

    def __len__(self) -> int:
        return len(self.tensor.data)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("it takes the values of an array as constants")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        found = getattr(array_module, ufunc.__name__)
        return (found if method == "__call__" else getattr(found, method))(*inputs, **kwargs)

    def __array_function__(self, function: Callable, types: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        path = (*function.__module__.split(".")[1:], function.__name__)
        return functools.reduce(getattr, path, array_module)(*args, **kwargs)

    def __getitem__(self, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        if not shaping._is_basic(parts):
            return _wrapped(shaping.get_item(self.tensor, key))
        return self.view(
            lambda base: shaping.get_item(base, key),
            lambda base, new: core._updated(base, new, key=key, add=False),
        )

    def __setitem__(self, key: Any, value: Any) -> None:
        if key is Ellipsis:
            self.become(value)
        else:
            self.become(_scattered(self, key, value, add=False))

    def reshape(self, *shape: Any) -> TracedArray:
        sizes = shape[0] if len(shape) == 1 else shape
        # of the values in another order NumPy makes a copy, to which this writes as little as to a view of it
        in_order = self._base is None or self._write is _reshaped
        return self.view(lambda base: shaping.reshape(base, sizes), _reshaped if in_order else None)

    def transpose(self, *axes: Any) -> TracedArray:
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None
        inverse = None if order is None else np.argsort([axis % self.ndim for axis in order]).tolist()
        return self.view(
            lambda base: shaping.transpose(base, order), lambda base, new: shaping.transpose(new, inverse)
        )

    @property
    def T(self) -> TracedArray:
        return self.transpose()

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        if not copy and self.dtype == dtype:
            return self
        return _wrapped(core.cast(self.tensor, dtype))

    def copy(self) -> TracedArray:
        return TracedArray(self.tensor)

    def fill(self, value: float) -> None:
        self.become(value)


def _reshaped(base: Tensor, new: Tensor) -> Any:
    return shaping.reshape(new, base.shape)


_DESCRIPTIONS = frozenset(("dtype", "flags", "itemsize", "nbytes", "ndim", "shape", "size", "strides"))
_METHODS = frozenset(
    "all any argmax argmin argsort clip conj cumprod cumsum diagonal dot max mean min prod ravel repeat round squeeze std "
    "sum swapaxes take var".split()
)
_OPERATORS = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "floordiv": "floor_divide",
    "mod": "mod",
    "pow": "power",
    "matmul": "matmul",
}
_COMPARISONS = {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "neg": "negative",
    "abs": "absolute",
}


def _install() -> None:
    def plain(name: str) -> Callable:
        return lambda *values: getattr(array_module, name)(*values)

    def reflected(name: str) -> Callable:
        return lambda x1, x2: getattr(array_module, name)(x2, x1)

    def in_place(name: str) -> Callable:
        return lambda x1, x2: x1.become(getattr(array_module, name)(x1, x2))

    for operator, name in (_OPERATORS | _COMPARISONS).items():
        setattr(TracedArray, f"__{operator}__", plain(name))
    for operator, name in _OPERATORS.items():
        setattr(TracedArray, f"__r{operator}__", reflected(name))
        setattr(TracedArray, f"__i{operator}__", in_place(name))


_install()


def _tensor(value: Any) -> Any:
    """What an operation is called with in the place of an array: a tensor; a number is itself."""
    if isinstance(value, TracedArray):
        return value.tensor
    return Tensor(value) if isinstance(value, k.xp.ndarray) else value


def _wrapped(result: Any) -> Any:
    """The result of an operation or of the array module, as array code has it: floats traced, all else raw."""
    if isinstance(result, (tuple, list)):
        return type(result)(map(_wrapped, result))
    if isinstance(result, Tensor):
        return TracedArray(result) if result.data.dtype.kind in "fc" else result.data
    if isinstance(result, k.xp.ndarray) and result.dtype.kind in "fc":
        return TracedArray(Tensor(result))
    return result


def _scattered(target: TracedArray, key: Any, values: Any, add: bool) -> Any:
    shape = target.tensor.data[key].shape
    values = core.cast(shaping.broadcast_to(_tensor(values), shape), target.dtype)
    return core._updated(target.tensor, values, key=key, add=add)


def _by(op: Callable, *args: Any, **settings: Any) -> Any:
    """Apply an operation to what array code has."""
    return _wrapped(op(*map(_tensor, args), **settings))


# ---- the array module ------------------------------------------------------------------------------------------------

# results that are views; array code writes to none of these
_VIEWS = frozenset(
    ("ascontiguousarray", "asarray", "broadcast_to", "diagonal", "expand_dims", "moveaxis", "ravel", "squeeze", "swapaxes")
)


class _Function:
    """A function of the array module: an operation, where one of its arguments is traced."""

    def __init__(self, name: str, real: Callable, space: Any):
        self._name, self._real, self._space = name, real, space

    def __call__(self, *args: Any, out: Any = None, dtype: Any = None, **settings: Any) -> Any:
        if not any(isinstance(leaf, TracedArray) for leaf in tree.flatten([list(args), settings])):
            if dtype is not None:
                settings["dtype"] = dtype
            result = _wrapped(self._real(*args, **settings))
        elif self._name in _VIEWS:
            result = args[0].view(lambda base: self._operation(base, *args[1:], **settings))
        else:
            result = _wrapped(self._operation(*tree.map_structure(_tensor, list(args)), **settings))
        if dtype is not None and result.dtype != dtype:
            result = result.astype(dtype)
        if out is None:
            return result
        (out,) = out if isinstance(out, tuple) else (out,)
        out[...] = result
        return out

    def _operation(self, *args: Any, **settings: Any) -> Any:
        if self._name in ("array", "asarray", "ascontiguousarray"):
            return args[0]
        if self._space is not np:
            return getattr(linalg, self._name)(*args, **settings)
        function = getattr(np, self._name)
        if isinstance(function, np.ufunc):
            return numpy_protocol._array_ufunc(None, function, "__call__", *args, **settings)
        return numpy_protocol._array_function(None, function, (), args, settings)

    def reduce(self, x: Any, **settings: Any) -> Any:
        return _wrapped(numpy_protocol._array_ufunc(None, getattr(np, self._name), "reduce", _tensor(x), **settings))

    def at(self, target: Any, places: Any, values: Any) -> None:
        """Add values at places of an array, or let the largest of them stay there."""
        if not isinstance(target, TracedArray):
            self._real.at(target, places, values)  # type: ignore[attr-defined]
        elif self._name == "add":
            target.become(_scattered(target, places, values, add=True))
        elif self._name == "maximum":
            largest = core.segment_max(_tensor(values), places, len(target))
            target.become(elementwise.maximum(target.tensor, largest))
        else:
            raise TypeError(f"it uses {self._name}.at, which no operation does")


class _ArrayModule:
    """What array code has for NumPy or CuPy where arrays are traced."""

    def __init__(self, name: str = ""):
        self._name = name

    def __getattr__(self, name: str) -> Any:
        space = getattr(np, self._name) if self._name else np
        if isinstance(getattr(space, name, None), ModuleType):
            return _ArrayModule(name)
        real = getattr(getattr(k.xp, self._name) if self._name else k.xp, name)
        if name == "ndarray":
            return TracedArray, real
        return _Function(name, real, space) if callable(real) and not isinstance(real, type) else real


array_module = _ArrayModule()

# ---- the kernels -----------------------------------------------------------------------------------------------------


def _empty(shape: Any, dtype: Any) -> Any:
    return _wrapped(k.xp.zeros(shape, dtype))


table = kernels.Kernels(array_module, "tape")
table.empty = _empty
names = SimpleNamespace(**vars(kernels))  # what array code finds under `kernels`
table.mirror(vars(names))


def _into(out: Any, result: Any) -> Any:
    """A kernel's result, in the place that was given for it."""
    if out is None:
        return result
    out[...] = result
    return out


@kernels.override("total", "tape")
def total(k: Any, x: Any, axis: Any = None, keepdims: bool = False, out: Any = None) -> Any:
    return _into(out, _by(reduction.sum, x, axis=axis, keepdims=keepdims))


@kernels.override("average", "tape")
def average(k: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return _by(reduction.mean, x, axis=axis, keepdims=keepdims)


@kernels.override("activate", "tape")
def activate(k: Any, x: Any, activation: str | None, out: Any = None) -> Any:
    return x if activation is None else _into(out, _by(_activated, x, name=activation))


_activated = differentiable(activation._activated, inputs=1)


@kernels.override("softmax", "tape")
def softmax(k: Any, x: Any, axis: int = -1, out: Any = None) -> Any:
    return _into(out, _by(activation.softmax, x, axis=axis))


@kernels.override("log_softmax", "tape")
def log_softmax(k: Any, x: Any, axis: int = -1) -> Any:
    return _by(activation.log_softmax, x, axis=axis)


@kernels.override("erf", "tape")
def erf(k: Any, x: Any) -> Any:
    return _by(elementwise.erf, x)


@kernels.override("cross_entropy_grad", "tape")
def cross_entropy_grad(k: Any, g: Any, logits: Any, target: Any, probabilities: Any = None) -> Any:
    """The probabilities, where they are given, are constants, which they are not here."""
    return kernels.reference.loss.cross_entropy_grad(k, g, logits, target)


@kernels.override("sparse_cross_entropy_grad", "tape")
def sparse_cross_entropy_grad(k: Any, g: Any, logits: Any, labels: Any, probabilities: Any = None) -> Any:
    """The probabilities, where they are given, are constants, which they are not here."""
    return kernels.reference.loss.sparse_cross_entropy_grad(k, g, logits, labels)


def _convolution(prefix: str) -> None:
    """Let a convolution and its two gradients, each of which is linear in both of its arrays, be each other's."""

    def named(ending: str) -> str:
        return f"{prefix}conv{ending}"

    def forward(x: Any, kernel: Any, **settings: Any) -> Any:
        return getattr(k, named(""))(x, kernel, None, **settings)

    def at_input(g: Any, kernel: Any, shape: Any, **settings: Any) -> Any:
        return getattr(k, named("_input_grad"))(g, kernel, shape, **settings)

    def at_kernel(x: Any, g: Any, shape: Any, **settings: Any) -> Any:
        return getattr(k, named("_kernel_grad"))(x, g, shape, **settings)

    @differentiable
    def convolved(x: Any, kernel: Any, **settings: Any) -> Any:
        return forward(x, kernel, **settings), lambda g, needs: (
            at_input(g, kernel, x.shape, **settings) if needs[0] else None,
            at_kernel(x, g, kernel.shape, **settings) if needs[1] else None,
        )

    @differentiable
    def input_gradient(g: Any, kernel: Any, *, shape: Any, **settings: Any) -> Any:
        return at_input(g, kernel, shape, **settings), lambda h, needs: (
            forward(h, kernel, **settings) if needs[0] else None,
            at_kernel(h, g, kernel.shape, **settings) if needs[1] else None,
        )

    @differentiable
    def kernel_gradient(x: Any, g: Any, *, shape: Any, **settings: Any) -> Any:
        return at_kernel(x, g, shape, **settings), lambda h, needs: (
            at_input(g, h, x.shape, **settings) if needs[0] else None,
            forward(x, h, **settings) if needs[1] else None,
        )

    @kernels.override(named(""), "tape")
    def conv(
        k: Any, x: Any, kernel: Any, bias: Any = None, *, activation: Any = None, out: Any = None, **settings: Any
    ) -> Any:
        y = _by(convolved, x, kernel, **settings)
        return _into(out, kernels.reference.conv.epilogue(k, y, bias, activation))

    @kernels.override(named("_input_grad"), "tape")
    def conv_input_grad(k: Any, g: Any, kernel: Any, x_shape: Any, *, out: Any = None, **settings: Any) -> Any:
        return _into(out, _by(input_gradient, g, kernel, shape=x_shape, **settings))

    @kernels.override(named("_kernel_grad"), "tape")
    def conv_kernel_grad(k: Any, x: Any, g: Any, kernel_shape: Any, *, out: Any = None, **settings: Any) -> Any:
        return _into(out, _by(kernel_gradient, x, g, shape=kernel_shape, **settings))


_convolution("")
_convolution("depthwise_")


# ---- running a function again ----------------------------------------------------------------------------------------


class _Names(dict):
    """The global names of a function as they are at present, `kernels` excepted."""

    def __init__(self, real: dict[str, Any], seen: dict[int, Any]):
        super().__init__()
        self._real, self._seen = real, seen

    def __missing__(self, name: str) -> Any:
        return _retold(self._real[name], self._seen)


def _retold(value: Any, seen: dict[int, Any]) -> Any:
    """A function, and what it calls by name, with the kernels for traced arrays; anything else is itself."""
    if value is kernels:
        return names
    if type(value) is not FunctionType:
        return value
    if id(value) not in seen:
        cells = tuple(CellType() for _ in value.__closure__ or ())
        made = FunctionType(
            value.__code__, _Names(value.__globals__, seen), value.__name__, value.__defaults__, cells or None
        )
        made.__kwdefaults__ = value.__kwdefaults__
        seen[id(value)] = made
        for cell, own in zip(cells, value.__closure__ or (), strict=True):
            cell.cell_contents = _retold(own.cell_contents, seen)
    return seen[id(value)]


def vjp(node: Node, g: Any, needs: Any) -> list[Any]:
    """The vector-Jacobian product of a node on tensors, made of operations that the open tapes record.

    Raises:
        NotImplementedError: where the operation's function does what no operation does.
    """
    op: Op = node.op
    tensors = [_linked(source, array) for source, array in zip(node.inputs, node.arrays, strict=False)]
    settings = node.settings
    try:
        if op.gradient is not None:
            gradients = op.gradient(*tensors, *node.arrays[len(tensors) :], **settings)(g, needs)
        else:
            arrays = [_given(tensor) for tensor in tensors]
            others = node.args[1:] if op.sequence else node.arrays[len(arrays) :]
            function = _retold(op.function, {})
            pullback = function(arrays, *others, **settings)[1] if op.sequence else function(*arrays, *others, **settings)[1]
            gradients = pullback(tuple(map(_given, g)) if type(g) is tuple else _given(g), needs)
    except Exception as error:
        raise NotImplementedError(
            f"The gradient of {op.__name__} cannot be differentiated again: {error}; compose it of minikeras.ops, give "
            "the operation a `gradient`, or, where its gradient serves as a constant, ask for it within `with "
            "tape.stop_recording():`."
        ) from error
    return [_tensor(gradient) for gradient in gradients]


def _linked(source: Any, array: Any) -> Any:
    """The tensor that an operation was called with, as it was then; what is no array is itself."""
    if source is not None and source.data is not array:  # a variable that was assigned another array
        alias = Tensor(array, tracked=True)
        alias.node = Node(core.copy, lambda g, needs: (g,), [source], (source,), {}, [array])
        return alias
    return _tensor(array) if source is None else source


def _given(value: Any) -> Any:
    """A tensor as array code is given it."""
    if isinstance(value, Tensor):
        return TracedArray(value, fixed=True) if value.data.dtype.kind in "fc" else value.data
    return value


def stack(rows: Sequence[Tensor], axis: int) -> Any:
    """Tensors of gradients as one."""
    return shaping.stack(list(rows), axis)
