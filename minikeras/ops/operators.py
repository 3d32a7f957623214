"""Python's operators, indexing and the usual array methods on tensors, all of them differentiable operations.

Importing this module installs them on `Tensor` and `KerasTensor`.  `minikeras` has the public names of `autodiff` from
here, so that nobody has a variable without its operators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minikeras.autodiff import GradientTape, Variable, grad, value_and_grad  # noqa: F401
from minikeras.autodiff.op import Op
from minikeras.autodiff.symbolic import KerasTensor
from minikeras.autodiff.tensor import Tensor
from minikeras.ops import core
from minikeras.ops import numpy as ops
from minikeras.tracebacks import end_at_users_line, user_facing

BINARY: dict[str, Callable] = {
    "add": ops.add,
    "sub": ops.subtract,
    "mul": ops.multiply,
    "truediv": ops.divide,
    "floordiv": ops.floor_divide,
    "mod": ops.mod,
    "pow": ops.power,
    "matmul": ops.matmul,
    "and": ops.bitwise_and,
    "or": ops.bitwise_or,
    "xor": ops.bitwise_xor,
}
COMPARISONS: dict[str, Callable] = {
    "eq": ops.equal,
    "ne": ops.not_equal,
    "lt": ops.less,
    "le": ops.less_equal,
    "gt": ops.greater,
    "ge": ops.greater_equal,
}
_UNARY: dict[str, Callable] = {
    "neg": ops.negative,
    "abs": ops.absolute,
    "invert": ops.bitwise_not,
    "pos": lambda x: x,
    "getitem": ops.get_item,
}


def _method(function: Callable) -> Callable:
    """What of an operation is quickest to call as a method: the function behind it."""
    return function.__call__ if isinstance(function, Op) else function


def _reflected(function: Callable) -> Callable:
    def reflected(x1: Any, x2: Any) -> Any:
        try:
            return function(x2, x1)
        except BaseException as error:
            end_at_users_line(error)
            raise

    return reflected


def _comparison(function: Callable, name: str) -> Callable:
    """A comparison that leaves `tensor == None` and `tensor == "text"` to Python."""

    def compare(x1: Any, x2: Any) -> Any:
        try:
            return NotImplemented if x2 is None or isinstance(x2, str) else function(x1, x2)
        except BaseException as error:
            end_at_users_line(error)
            raise

    compare.__name__ = f"__{name}__"
    return compare


@user_facing
def _reshape(x: Any, *shape: Any) -> Any:
    return ops.reshape(x, shape[0] if len(shape) == 1 else shape)


@user_facing
def _transpose(x: Any, *axes: Any) -> Any:
    return ops.transpose(x, axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None)


_METHODS: dict[str, Callable] = {
    "reshape": _reshape,
    "transpose": _transpose,
    "flatten": ops.ravel,
    "astype": core.cast,
    "copy": core.copy,
    **{
        name: getattr(ops, name)
        for name in ("squeeze", "sum", "mean", "max", "min", "std", "var", "any", "all", "argmax", "argmin", "clip")
    },
}


def _install() -> None:
    for owner in (Tensor, KerasTensor):
        for name, function in BINARY.items():
            setattr(owner, f"__{name}__", _method(function))
            setattr(owner, f"__r{name}__", _reflected(function))
        for name, function in COMPARISONS.items():
            setattr(owner, f"__{name}__", _comparison(function, name))
        for name, function in _UNARY.items():
            setattr(owner, f"__{name}__", _method(function))
        owner.T = property(ops.transpose)  # type: ignore[union-attr]
    for name, function in _METHODS.items():
        setattr(Tensor, name, _method(function))


_install()
