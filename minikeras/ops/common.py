"""What the operations share: number types as Keras has them, and the way back from broadcasting and from reductions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minikeras import config
from minikeras import kernels as k
from minikeras.autodiff import shapes
from minikeras.autodiff.op import Op, differentiable, stacked
from minikeras.autodiff.operands import raw
from minikeras.autodiff.tensor import FLOATS, Tensor
from minikeras.kernels.arena import contiguous, fixed

NUMBERS = (bool, int, float)


def as_array(x: Any) -> Any:
    """A raw array; a Python number becomes one of bool, int32 or `floatx()`."""
    if isinstance(x, NUMBERS):
        return fixed(k.xp.full((), x, {bool: "bool", int: "int32"}.get(type(x), config.floatx())))
    return x


def as_float(x: Any) -> Any:
    """A raw array of a float type; numbers, integers and booleans become `floatx()`."""
    if isinstance(x, NUMBERS):
        return fixed(k.xp.full((), x, config.floatx()))
    return x if x.dtype.kind in "fc" or x.dtype.char in FLOATS else x.astype(config.floatx())


def counted(*limits: Any, **options: Any) -> Any:
    """NumPy's `arange`, which a step that is recorded knows to be the same in each."""
    return fixed(k.xp.arange(*limits, **options))


def float_type(x: Any) -> Any:
    """The type in which `as_float` returns an array, or what has its type alone."""
    return x.dtype if x.dtype.kind in "fc" else np.dtype(config.floatx())


def result_type(*values: Any) -> Any:
    """The common type of arrays and Python numbers, by the rules of `config.result_type`."""
    return _result_type(config.floatx(), *[_type_of(value) for value in values])


def _type_of(value: Any) -> Any:
    if isinstance(value, NUMBERS):
        return float if isinstance(value, float) else bool if isinstance(value, bool) else int
    return value.dtype


@functools.lru_cache(maxsize=1024)
def _result_type(floatx: str, *types: Any) -> Any:
    return np.dtype(config.result_type(*types))


def array_type(dtype: Any) -> Any:
    """NumPy's type for an argument `dtype`, in any of the forms that `config.standardize_dtype` takes.

    Raises:
        ValueError: for what is no type of numbers.
    """
    return np.dtype(config.standardize_dtype(dtype))


def promote(x1: Any, x2: Any) -> tuple[Any, Any]:
    """Two operands such that array code computes in Keras's result type; of two arrays of one type, themselves."""
    type1, type2 = getattr(x1, "dtype", None), getattr(x2, "dtype", None)
    if type1 is type2 and type1 is not None:
        return x1, x2
    if type1 is None and type2 is not None and type2.char in FLOATS:
        return x1, x2
    if type2 is None and type1 is not None and type1.char in FLOATS:
        return x1, x2
    dtype = result_type(x1, x2)
    return as_type(x1, dtype), as_type(x2, dtype)


def promote_exact(x1: Any, x2: Any) -> tuple[Any, Any]:
    """Two operands as `promote` has them, but booleans as int32: for what of them alone Keras computes there."""
    a, b = promote(x1, x2)
    if isinstance(a, NUMBERS) or a.dtype.kind != "b":
        return a, b
    return a.astype("int32"), as_type(b, "int32")


def as_type(x: Any, dtype: Any) -> Any:
    """A raw array of this type; a number becomes one, an array of the type is itself."""
    if isinstance(x, NUMBERS):
        return fixed(k.xp.full((), x, dtype))  # on a GPU asarray would copy the number from the host's memory
    return k.cast(x, dtype)


def unbroadcast(g: Any, x: Any) -> Any:
    """The gradient at operand `x`, from the gradient `g` at a result that `x` was broadcast (and cast) to."""
    shape = x.shape
    if g.shape != shape:
        extra = g.ndim - len(shape)
        axes = tuple(i for i in range(g.ndim) if i < extra or (shape[i - extra] == 1 and g.shape[i] != 1))
        g = k.total(g, axes).reshape(shape)
    return g if g.dtype == x.dtype else g.astype(x.dtype)


def restore_axes(reduced: Any, ndim: int, axis: Any, keepdims: bool) -> Any:
    """A reduction's result (or its gradient) with the reduced axes as size 1, so that it broadcasts to the input."""
    if keepdims or ndim == 0:
        return reduced
    return reduced.reshape((1,) * ndim) if axis is None else k.xp.expand_dims(reduced, axis)


def axes_of(axis: Any) -> Any:
    """An `axis` argument as array code wants it: None, an integer or a tuple."""
    return tuple(axis) if isinstance(axis, (list, tuple)) else axis


def elementwise(function: Callable | None = None, *, integers: bool = False, **options: Any) -> Callable:
    """An operation of one float array from `function(x) -> (y, gradient)`, where `gradient(g)` is the gradient at x.

    With `integers`, integer arrays are not converted to floats.  `options` are those of `differentiable`.
    """
    if function is None:
        return functools.partial(elementwise, integers=integers, **options)
    convert = as_array if integers else as_float

    @functools.wraps(function)
    def forward(x: Any) -> Any:
        y, gradient = function(convert(x))
        return y, lambda g, needs: (gradient(g),)

    return differentiable(forward, shape=shapes.same, **options)


def elementary(
    name: str, meaning: str, at_x: Any = None, at_y: Any = None, example: Sequence[str] = (), **options: Any
) -> Op:
    """The array module's function of that name as an operation of one array, made of its derivative.

    Args:
        meaning: what it is, for its docstring.
        at_x, at_y: `at_x(g, x)` or `at_y(g, y)` is the gradient at the input x, from the gradient g at the result y.
        example: for the docstring: what it is called with, and what it returns.
        options: those of `elementwise` and `differentiable`.
    """
    convert, slope = as_array if options.pop("integers", False) else as_float, at_x or at_y

    def forward(x: Any) -> Any:
        x = convert(x)
        y = getattr(k.xp, name)(x)
        kept = x if at_x else y
        return y, lambda g, needs: (slope(g, kept),)

    call = f"ops.{name}({example[0]}).numpy().tolist()" if example else ""
    forward.__module__ = slope.__module__
    return differentiable(named(forward, name, meaning, call, *example[1:]), shape=shapes.same, **options)


def curved(x: Any, name: str, *settings: float) -> Any:
    """(y, vjp) of one of the kernels' curves."""
    x, settings = contiguous(as_float(x)), tuple(map(float, settings))
    return k.curve(x, name, settings), lambda g, needs: (k.curve_grad(contiguous(g), x, name, settings),)


def activated(x: Any, name: str) -> Any:
    """(y, vjp) of an elementwise activation of `kernels.FUSED_ACTIVATIONS`."""
    y = k.activate(contiguous(as_float(x)), name)
    return y, lambda g, needs: (k.activate_grad(contiguous(g), y, name),)


def transformed(x: Any, name: str, of_output: bool = False) -> Any:
    """(y, vjp) of what the kernels' `transform` does."""
    y = k.transform(x, name)
    kept = y if of_output else x
    return y, lambda g, needs: (k.transform_grad(g, kept, name),)


def tensors_of(*values: Any) -> list[Any]:
    """Lists and numbers as tensors; what has a shape, and None, as it is."""
    stacks = [value if value is None or hasattr(value, "shape") else stacked(value) for value in values]
    return [value if value is None or hasattr(value, "shape") else Tensor(as_array(raw(value))) for value in stacks]


def named(function: Callable, name: str, meaning: str, call: str = "", result: str = "") -> Callable:
    """A function of a family under its own name, with a docstring: what it does, and what a call returns."""
    function.__name__ = function.__qualname__ = name
    inputs = function.__code__.co_varnames[: function.__code__.co_argcount]
    call, result = (call, result) if call else (f"ops.{name}({', '.join(['[1.0]'] * len(inputs))}).shape", "(1,)")
    kinds = "tensors, arrays or numbers, which broadcast together." if inputs[1:] else "tensor, array or number."
    arguments = f"    {', '.join(inputs)}: {kinds}"
    example = f">>> from minikeras import ops\n    >>> {call}\n    {result}\n    "
    function.__doc__ = "\n\n    ".join([meaning, f"Args:\n    {arguments}", example])
    return function


def broadcasting(function: Callable | None = None, *, floats: bool = False, common: Callable = promote) -> Callable:
    """An operation of two arrays from `function(x1, x2) -> (y, gradient1, gradient2)`.

    `gradient1(g)` is the gradient at x1 before broadcasting is undone.  With `floats`, integers become floats; `common`
    gives the operands a common type.
    """
    if function is None:
        return functools.partial(broadcasting, floats=floats, common=common)

    @functools.wraps(function)
    def forward(x1: Any, x2: Any) -> Any:
        a = as_float(x1) if floats and (isinstance(x2, NUMBERS) or (_is_exact(x1) and _is_exact(x2))) else x1
        a, b = common(a, x2)
        y, gradient1, gradient2 = function(a, b)

        def vjp(g: Any, needs: Any) -> Any:
            return (
                unbroadcast(gradient1(g), x1) if needs[0] else None,
                unbroadcast(gradient2(g), x2) if needs[1] else None,
            )

        return y, vjp

    return differentiable(forward, shape=shapes.broadcast)


def _is_exact(x: Any) -> bool:
    return not isinstance(x, float) and (isinstance(x, NUMBERS) or x.dtype.kind in "biu")
