"""NumPy's functions on tensors: each leads to the operation of its name, or raises a sentence.

`np.tanh(tensor)` is `ops.tanh(tensor)`, `np.sum(tensor, axis=0)` is `ops.sum(tensor, axis=0)`: the gradient stays.
What no operation can do is done with the values, as NumPy does it, unless a gradient is being recorded for them, which
would be lost, or a symbolic tensor has no values.  Importing this module installs both protocols (NumPy enhancement
proposals 13 and 18) on `Tensor` and `KerasTensor`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from minikeras import tree
from minikeras.autodiff.symbolic import KerasTensor
from minikeras.autodiff.tape import is_recording
from minikeras.autodiff.tensor import Tensor
from minikeras.lazy import LazyModule
from minikeras.ops import core
from minikeras.ops import numpy as ops

linalg = LazyModule("minikeras.ops.linalg")
# NumPy's name: ours, where they differ
_NAMES = {
    "around": "round",
    "concat": "concatenate",
    "degrees": "rad2deg",
    "invert": "bitwise_not",
    "permute_dims": "transpose",
    "radians": "deg2rad",
    "remainder": "mod",
    "rint": "round",
    "unique": "",  # NumPy's takes NaN for one value, Keras's for several
}
_MORE: dict[str, Callable] = {"copy": core.copy, "positive": core.convert_to_tensor, "shape": core.shape}
_REDUCTIONS = {
    "add": ops.sum,
    "logical_and": ops.all,
    "logical_or": ops.any,
    "maximum": ops.max,
    "minimum": ops.min,
    "multiply": ops.prod,
}
_ACCUMULATIONS = {"add": ops.cumsum, "multiply": ops.cumprod}
# what these say of a tensor has no gradient that could be lost
# fmt: off
_WITHOUT_GRADIENT = frozenset({
    "argwhere", "array2string", "array_equiv", "array_repr", "array_str", "can_cast", "common_type", "flatnonzero",
    "iscomplex", "iscomplexobj", "isrealobj", "may_share_memory", "min_scalar_type", "result_type", "save", "savetxt",
    "savez", "savez_compressed", "shares_memory",
})
# fmt: on
# the parameters of NumPy's functions that are written in C, which do not tell them before NumPy 2.4
_IN_C: dict[str, Callable] = {
    "bincount": lambda x, weights=None, minlength=0: None,
    "concatenate": lambda arrays, axis=0, out=None, dtype=None, casting="same_kind": None,
    "dot": lambda a, b, out=None: None,
    "empty_like": lambda prototype, dtype=None, order="K", subok=True, shape=None, device=None: None,
    "inner": lambda a, b: None,
    "unravel_index": lambda indices, shape, order="C": None,
    "vdot": lambda a, b: None,
    "where": lambda condition, x=None, y=None: None,
}
# arguments that change nothing about the values
_UFUNC_DEFAULTS = {"casting": "same_kind", "dtype": None, "order": "K", "out": None, "subok": True, "where": True}
_LAYOUT = {"device", "kind", "optimize", "stable", "subok"}


def _operation(name: str) -> Callable | None:
    """The operation that NumPy's function of this name leads to."""
    return _MORE.get(name) or getattr(ops, _NAMES.get(name, name), None)


def _array_ufunc(self: Any, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """NumPy's elementwise functions, and `reduce` and `accumulate` of some of them."""
    name = ufunc.__name__
    settings = {
        key: value for key, value in kwargs.items() if key not in _UFUNC_DEFAULTS or value is not _UFUNC_DEFAULTS[key]
    }
    op, operands, known = _operation(name), inputs, set()
    if method != "__call__":
        op = {"reduce": _REDUCTIONS, "accumulate": _ACCUMULATIONS}.get(method, {}).get(name)
        known = {"axis", "keepdims"} if method == "reduce" else {"axis"}
        operands, further = inputs[:1], dict(zip(("axis", "dtype", "out", "keepdims"), inputs[1:], strict=False))
        settings = {"axis": 0} | {key: value for key, value in further.items() if value is not None} | settings
    if op is not None and settings.keys() <= known:
        return op(*operands, **settings)
    label = f"np.{name}" if method == "__call__" else f"np.{name}.{method}"
    label += _described({key: value for key, value in settings.items() if key not in known})
    return _by_values(label, getattr(ufunc, method), inputs, kwargs)


def _array_function(self: Any, function: Callable, types: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """NumPy's other functions."""
    name = function.__name__
    is_numpys = getattr(np, name, None) is function
    op = _operation(name) if is_numpys else None
    if getattr(np.linalg, name, None) is function:
        op = getattr(linalg, name, None)
    settings: dict[str, Any] = {}
    if op is not None:
        arguments = _translated(function, op, args, kwargs)
        if isinstance(arguments, tuple):
            return op(*arguments[0], **arguments[1])
        settings = arguments
    if name in _WITHOUT_GRADIENT and not _symbolic(args, kwargs):
        return function(*_values(args), **_values(kwargs))
    return _by_values(f"np.{name}{_described(settings)}", function, args, kwargs)


@functools.cache
def _signatures(function: Callable, op: Callable) -> tuple[inspect.Signature, dict[str, str], dict[str, Any]]:
    """NumPy's signature, its parameters' names as the operation has them, and the operation's own defaults."""
    theirs = inspect.signature(_IN_C.get(function.__name__, function))
    ours = list(inspect.signature(op).parameters.values())
    names = {parameter.name: parameter.name for parameter in ours if parameter.name in theirs.parameters}
    for parameter, own in zip(theirs.parameters.values(), ours, strict=False):
        if parameter.name not in names and own.name not in theirs.parameters:
            names[parameter.name] = own.name
    if function is np.clip:
        names |= {"min": "x_min", "max": "x_max"}
    if function is np.reshape:  # NumPy 2.1 to 2.3 know the operation's name for the shape too, as an old one
        names |= {"shape": "newshape"}
    return theirs, names, {"x_min": None, "x_max": None} if function is np.clip else {}


def _translated(function: Callable, op: Callable, args: tuple, kwargs: dict[str, Any]) -> tuple | dict[str, Any]:
    """The arguments for an operation, positional and by name; where it cannot take them, those that it cannot."""
    theirs, names, translated = _signatures(function, op)
    parameters, bound = theirs.parameters, theirs.bind(*args, **kwargs)
    translated, several = dict(translated), ()
    strange: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        parameter = parameters[name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            several = value
        elif parameter.kind is parameter.VAR_KEYWORD:
            known = inspect.signature(op).parameters.keys()
            translated |= {key: given for key, given in value.items() if key in known}
            strange |= {key: given for key, given in value.items() if key not in known}
        elif name in names:
            translated[names[name]] = value
        elif value is not parameter.default and name not in _LAYOUT and not (name == "order" and value == "C"):
            strange[name] = value
    if strange:
        return strange
    return several, translated


def _described(settings: dict[str, Any]) -> str:
    return f" with {', '.join(sorted(settings))}" if settings else ""


def _symbolic(*structure: Any) -> bool:
    return any(isinstance(leaf, KerasTensor) for leaf in tree.flatten(list(structure)))


def _values(structure: Any) -> Any:
    return tree.map_structure(lambda leaf: leaf.numpy() if isinstance(leaf, Tensor) else leaf, structure)


def _by_values(label: str, function: Callable, args: Any, kwargs: dict[str, Any]) -> Any:
    """NumPy's own result from the tensors' values.

    Raises:
        TypeError: where a tensor has no values, or a gradient would be lost.
    """
    leaves = tree.flatten([list(args), kwargs])
    if any(isinstance(leaf, KerasTensor) for leaf in leaves):
        raise TypeError(
            f"{label} was called on a symbolic tensor, which has no values, and no operation does the same; use "
            "minikeras.ops, or put the computation into a layer."
        )
    if is_recording() and any(isinstance(leaf, Tensor) and leaf.tracked for leaf in leaves):
        raise TypeError(
            f"{label} was called on a tensor whose gradient is being recorded, which would lose the gradient; use "
            "minikeras.ops, or tensor.numpy() for its values as constants."
        )
    return function(*_values(args), **_values(kwargs))


def _install() -> None:
    for owner in (Tensor, KerasTensor):
        setattr(owner, "__array_ufunc__", _array_ufunc)  # noqa: B010
        setattr(owner, "__array_function__", _array_function)  # noqa: B010


_install()
