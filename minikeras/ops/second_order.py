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
from types import CellType, FunctionType, SimpleNamespace
from typing import Any

import numpy as np

from minikeras import kernels, tree
from minikeras import kernels as k
from minikeras.autodiff.op import differentiable
from minikeras.autodiff.tape import Node
from minikeras.autodiff.tensor import FLOATS, Tensor
from minikeras.kernels.reference import conv, loss
from minikeras.ops import common, core, elementwise, linalg, numpy_protocol, operators, reduction, shaping

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
    flags = SimpleNamespace(c_contiguous=False, f_contiguous=False)  # so that no machine code wants one

    def __init__(self, tensor: Any, base: Any = None, read: Any = None, write: Any = None, fixed: bool = False):
        self._tensor, self._base, self._read, self._write, self._fixed = tensor, base, read, write, fixed
        self._known: Any = None  # the base's tensor that the view's was read from

    @property
    def tensor(self) -> Tensor:
        """Its present values."""
        if self._base is not None and self._known is not self._base.tensor:
            self._known = self._base.tensor
            self._tensor = self._read(self._known)
        return self._tensor

    def become(self, value: Any) -> TracedArray:
        """Take the values of an array, a tensor or a number, which broadcast."""
        own = self.tensor
        new = core.cast(shaping.broadcast_to(_tensor(value), own.shape), own.data.dtype)
        if self._write is not None:
            self._base.become(self._write(self._base.tensor, new))
        elif self._base is not None or self._fixed:
            raise ValueError("it changes in place an array that it was given, or what may be a view of one")
        else:
            self._tensor = new
        return self

    def __getattr__(self, name: str) -> Any:
        if name in _DESCRIPTIONS:
            return getattr(self.tensor.data, name)
        if name in _IN_PLACE:
            raise AttributeError(f"it calls an array's {name}(), which no operation does")
        return functools.partial(getattr(array_module, name), self)

    def __len__(self) -> int:
        return len(self.tensor.data)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("it takes the values of an array as constants")

    __bool__ = __int__ = __float__ = __array__

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        function = getattr(array_module, ufunc.__name__)
        return (function if method == "__call__" else getattr(function, method))(*inputs, **kwargs)

    def __array_function__(self, function: Callable, types: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        space = array_module.linalg if function.__module__ == "numpy.linalg" else array_module
        return getattr(space, function.__name__)(*args, **kwargs)

    def __getitem__(self, key: Any) -> Any:
        if not shaping._is_basic(key if isinstance(key, tuple) else (key,)):
            return _by(shaping.get_item, self, key)
        read = functools.partial(shaping.get_item, key=key)
        return TracedArray(None, self, read, functools.partial(core._updated, key=key, add=False))

    def __setitem__(self, key: Any, value: Any) -> None:
        self.become(value if key is Ellipsis else _scattered(self, key, value, add=False))

    def reshape(self, *shape: Any) -> TracedArray:
        read = functools.partial(shaping.reshape, newshape=shape[0] if len(shape) == 1 else shape)
        # where the values lie in another order NumPy makes a copy, to which nothing may be written here
        in_order = self._base is None or self._write is _reshaped
        return TracedArray(None, self, read, _reshaped if in_order else None)

    def transpose(self, *axes: Any) -> TracedArray:
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None
        return TracedArray(None, self, functools.partial(shaping.transpose, axes=order))

    T = property(transpose)

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        return _by(core.cast, self, dtype) if copy or self.dtype != dtype else self

    def copy(self) -> TracedArray:
        return TracedArray(self.tensor)

    fill = become


def _reshaped(base: Tensor, new: Tensor) -> Any:
    return shaping.reshape(new, base.shape)


_DESCRIPTIONS = {"dtype", "itemsize", "nbytes", "ndim", "shape", "size", "strides"}
_IN_PLACE = {"partition", "put", "resize", "sort", "view"}


def _install() -> None:
    for name, op in operators.BINARY.items():
        setattr(TracedArray, f"__{name}__", lambda x1, x2, op=op: _by(op, x1, x2))
        setattr(TracedArray, f"__r{name}__", lambda x1, x2, op=op: _by(op, x2, x1))
        setattr(TracedArray, f"__i{name}__", lambda x1, x2, op=op: x1.become(_by(op, x1, x2)))
    for name, op in (operators.COMPARISONS | {"neg": elementwise.negative, "abs": elementwise.absolute}).items():
        setattr(TracedArray, f"__{name}__", lambda *values, op=op: _by(op, *values))


_install()


def _tensor(value: Any) -> Any:
    """What an operation is called with in the place of an array: a tensor; a number is itself."""
    if isinstance(value, TracedArray):
        return value.tensor
    return Tensor(value) if isinstance(value, k.xp.ndarray) else value


def _wrapped(result: Any, fixed: bool = False) -> Any:
    """What operations and the array module take and give, as array code has it: floats traced, all else raw."""
    if isinstance(result, (tuple, list)):
        return tree.map_structure(lambda one: _wrapped(one, fixed), result)
    array = result.data if isinstance(result, Tensor) else result
    if isinstance(array, k.xp.ndarray) and (array.dtype.char in FLOATS or array.dtype.kind == "c"):
        return TracedArray(_tensor(result), fixed=fixed)
    return array


def _by(op: Callable, *args: Any, **settings: Any) -> Any:
    """Apply an operation to what array code has."""
    return _wrapped(op(*map(_tensor, args), **settings))


def _scattered(target: TracedArray, key: Any, values: Any, add: bool) -> Any:
    values = shaping.broadcast_to(_tensor(values), target.tensor.data[key].shape)
    return core._updated(target.tensor, core.cast(values, target.dtype), key=key, add=add)


# ---- the array module ------------------------------------------------------------------------------------------------

_AS_THEY_ARE = {"array", "asarray", "ascontiguousarray"}
# fmt: off
_VIEWS = {
    "asarray", "ascontiguousarray", "broadcast_to", "diagonal", "expand_dims", "flip", "moveaxis", "ravel", "reshape",
    "squeeze", "swapaxes", "transpose",
}
# fmt: on


class _Function:
    """A function of the array module: an operation, where one of its arguments is traced."""

    def __init__(self, name: str, real: Callable, space: str):
        self._name, self._real, self._space = name, real, space

    def __call__(self, *args: Any, out: Any = None, dtype: Any = None, **settings: Any) -> Any:
        if not any(isinstance(leaf, TracedArray) for leaf in tree.flatten([list(args), settings])):
            result = _wrapped(self._real(*args, **({} if dtype is None else {"dtype": dtype}), **settings))
        elif self._name in _VIEWS:  # to which array code does not write
            result = TracedArray(None, args[0], lambda base: self._operation(base, *args[1:], **settings))
        else:
            found = self._operation(*tree.map_structure(_tensor, list(args)), **settings)
            result = _wrapped(found, fixed="split" in self._name)
        result = result if dtype is None else result.astype(dtype, copy=False)
        return result if out is None else _into(out[0] if isinstance(out, tuple) else out, result)

    def _operation(self, *args: Any, **settings: Any) -> Any:
        if self._name in _AS_THEY_ARE:
            return core.cast(*args) if len(args) > 1 else args[0]
        if self._space:
            return getattr(linalg, self._name)(*args, **settings)
        function = getattr(np, self._name)
        if isinstance(function, np.ufunc):
            return numpy_protocol._array_ufunc(None, function, "__call__", *args, **settings)
        return numpy_protocol._array_function(None, function, (), args, settings)

    def at(self, target: Any, places: Any, values: Any) -> None:
        """Add values at places of an array, or let the largest of them stay there."""
        if not isinstance(target, TracedArray):
            self._real.at(target, places, values)  # type: ignore[attr-defined]
        elif self._name in ("maximum", "minimum"):
            extreme = getattr(core, f"segment_{self._name[:3]}")(_tensor(values), places, len(target))
            target.become(getattr(elementwise, self._name)(target.tensor, extreme))
        elif self._name == "add":
            target.become(_scattered(target, places, values, add=True))
        else:
            raise TypeError(f"it calls {self._name}.at, which no operation does")


class _ArrayModule:
    """What array code has for NumPy or CuPy where arrays are traced."""

    def __init__(self, name: str = ""):
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name == "linalg":
            return _ArrayModule(name)
        real = getattr(getattr(k.xp, self._name) if self._name else k.xp, name)
        if name == "ndarray":
            return TracedArray, real
        return _Function(name, real, self._name) if callable(real) and not isinstance(real, type) else real


array_module: Any = _ArrayModule()

# ---- the kernels -----------------------------------------------------------------------------------------------------

table = kernels.Kernels(array_module, "tape")
table.empty = array_module.zeros
names = SimpleNamespace(**vars(kernels))  # what array code finds under `kernels`
table.mirror(vars(names))


def _into(out: Any, result: Any) -> Any:
    """A result, in the place that was given for it."""
    if out is None:
        return result
    out[...] = result
    return out


@kernels.override("total", "tape")
def _total(k: Any, x: Any, axis: Any = None, keepdims: bool = False, out: Any = None) -> Any:
    return _into(out, _by(reduction.sum, x, axis=axis, keepdims=keepdims))


_activated = differentiable(common.activated, inputs=1)


@kernels.override("activate", "tape")
def _activate(k: Any, x: Any, activation: str | None, out: Any = None) -> Any:
    return x if activation is None else _into(out, _by(_activated, x, name=activation))


@kernels.override("erf", "tape")
def _erf(k: Any, x: Any) -> Any:
    return _by(elementwise.erf, x)


# their operations know of indices out of range
@kernels.override("take", "tape")
def _take(k: Any, x: Any, indices: Any, axis: int) -> Any:
    return _by(shaping.take, x, indices, axis=axis)


@kernels.override("take_along", "tape")
def _take_along(k: Any, x: Any, indices: Any, axis: int) -> Any:
    return _by(shaping.take_along_axis, x, indices, axis=axis)


# the probabilities that these two are given are constants, which they are not here
@kernels.override("cross_entropy_grad", "tape")
def _cross_entropy_grad(k: Any, g: Any, logits: Any, target: Any, probabilities: Any = None) -> Any:
    return loss.cross_entropy_grad(k, g, logits, target)


@kernels.override("sparse_cross_entropy_grad", "tape")
def _sparse_cross_entropy_grad(k: Any, g: Any, logits: Any, labels: Any, probabilities: Any = None) -> Any:
    return loss.sparse_cross_entropy_grad(k, g, logits, labels)


def _convolutions(prefix: str) -> None:
    """Of a convolution's input, kernel and output each is made of the other two, so their gradients are each other."""

    def made(place: int, arrays: list[Any], shape: Any, settings: dict[str, Any]) -> Any:
        x, kernel, y = arrays
        if place == 0:
            return getattr(k, f"{prefix}conv_input_grad")(y, kernel, shape, **settings)
        if place == 1:
            return getattr(k, f"{prefix}conv_kernel_grad")(x, y, shape, **settings)
        return getattr(k, f"{prefix}conv")(x, kernel, None, **settings)

    @differentiable(inputs=2)
    def convolution(a: Any, b: Any, place: int, shape: Any, settings: dict[str, Any]) -> Any:
        first, second = others = [i for i in range(3) if i != place]

        def arrays(c: Any) -> list[Any]:
            return [{first: a, second: b, place: c}[i] for i in range(3)]

        def vjp(g: Any, needs: Any) -> Any:
            wanted = zip(others, (a, b), needs, strict=True)
            return [made(i, arrays(g), one.shape, settings) if need else None for i, one, need in wanted]

        return made(place, arrays(None), shape, settings), vjp

    @kernels.override(f"{prefix}conv", "tape")
    def forward(
        k: Any, x: Any, kernel: Any, bias: Any = None, *, activation: Any = None, out: Any = None, **settings: Any
    ) -> Any:
        return _into(out, conv.epilogue(k, _by(convolution, x, kernel, 2, None, settings), bias, activation))

    @kernels.override(f"{prefix}conv_input_grad", "tape")
    def input_grad(k: Any, g: Any, kernel: Any, x_shape: Any, **settings: Any) -> Any:
        return _by(convolution, kernel, g, 0, x_shape, settings)

    @kernels.override(f"{prefix}conv_kernel_grad", "tape")
    def kernel_grad(k: Any, x: Any, g: Any, kernel_shape: Any, *, out: Any = None, **settings: Any) -> Any:
        return _by(convolution, x, g, 1, kernel_shape, settings)


_convolutions("")
_convolutions("depthwise_")


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
        closure = value.__closure__ or ()
        cells = tuple(CellType() for _ in closure)
        space = _Names(value.__globals__, seen)
        made = seen[id(value)] = FunctionType(value.__code__, space, value.__name__, value.__defaults__, cells)
        made.__kwdefaults__ = value.__kwdefaults__
        for cell, own in zip(cells, closure, strict=True):
            cell.cell_contents = _retold(own.cell_contents, seen)
    return seen[id(value)]


def vjp(node: Node, g: Any, needs: Any) -> list[Any]:
    """The vector-Jacobian product of a node on tensors, made of operations that the open tapes record.

    Raises:
        NotImplementedError: where the operation's function does what no operation does.
    """
    op, settings = node.op, node.settings
    tensors = [_linked(source, array) for source, array in zip(node.inputs, node.arrays, strict=False)]
    others = node.args[1:] if op.sequence else node.arrays[len(tensors) :]
    try:
        if op.gradient is not None:
            return op.gradient(*tensors, *others, **settings)(g, needs)
        arrays = _wrapped(tensors, fixed=True)
        _, pullback = _retold(op.function, {})(*([arrays] if op.sequence else arrays), *others, **settings)
        gradients = pullback(_wrapped(g, fixed=True), needs)
        gradients = [_tensor(gradient) for gradient in gradients]
        if not op.replayable:
            _compare(node, g, needs, gradients)
        return gradients
    except Exception as error:
        raise NotImplementedError(
            f"The gradient of {op.__name__} cannot be differentiated again: {error}; compose it of minikeras.ops, give "
            "the operation a `gradient`, or, where its gradient serves as a constant, ask for it within `with "
            "tape.stop_recording():`."
        ) from error


def _linked(source: Any, array: Any) -> Any:
    """The tensor that an operation was called with, as it was then; what is no array is itself."""
    if source is None:
        return _tensor(array)
    if source.data is array:
        return source
    alias = Tensor(array, tracked=True)  # of a variable that was assigned another array
    alias.node = Node(core.copy, lambda g, needs: (g,), [source], (source,), {}, [array])
    return alias


def _compare(node: Node, g: Any, needs: Any, gradients: Sequence[Any]) -> None:
    """Refuse gradients that are others than those of the first run: of a function that draws random numbers, say.

    Raises:
        ValueError: where they differ by more than rounding.
    """
    raw = tree.map_structure(lambda part: None if part is None else part.data, g)
    for first, again in zip(node.vjp(raw, needs), gradients, strict=True):
        if first is not None and again is not None:
            first, again = k.to_host(first), k.to_host(again.data)
            tolerance = float(np.finfo(first.dtype).eps) ** 0.5
            scale = float(np.max(np.abs(np.nan_to_num(first)), initial=0))
            if not np.allclose(first, again, rtol=tolerance, atol=tolerance * scale, equal_nan=True):
                raise ValueError("run again its function gives another gradient, as where it draws random numbers")
