"""Penalties on weights and on the outputs of layers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any

import numpy as np

from minikeras import kernels as k
from minikeras import registry
from minikeras.autodiff.op import differentiable
from minikeras.autodiff.tape import recording
from minikeras.declared import Check, OneOf, Value, declared, is_declared
from minikeras.lazy import offer_names
from minikeras.tracebacks import user_facing
from minikeras.utils.checks import number


class Regularizer(Value):
    """Base class: a function from a tensor to the scalar tensor that is added to the loss.

    >>> import minikeras as keras
    >>> from minikeras import ops
    >>> class Cube(keras.Regularizer):
    ...     def __call__(self, x):
    ...         return ops.sum(ops.abs(x) ** 3)
    ...
    >>> Cube()(ops.ones((2,)))
    <Tensor shape=() dtype=float32>
    array(2., dtype=float32)
    """

    def __call__(self, x: Any) -> Any:
        """The penalty of `x`; the base class has none."""
        return 0.0

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        if not is_declared(type(self)):
            raise NotImplementedError(f"{type(self).__name__} has no get_config(); return the constructor's arguments.")
        return super().get_config()


def _factor(default: float) -> Check:
    """The check of a factor, for which None is the default."""
    return lambda thing, name, value: number(f"A regularizer's {name}", default if value is None else value, 0)


@declared
class L1L2(Regularizer):
    """`l1 * sum(|x|) + l2 * sum(x**2)`.

    Args:
        l1, l2: factors, not negative.

    >>> import numpy as np
    >>> from minikeras import regularizers
    >>> regularizers.L1L2(l1=0.1, l2=0.1)(np.array([1.0, -2.0]))
    <Tensor shape=() dtype=float64>
    array(0.8)
    """

    l1: Annotated[float | None, _factor(0.0)] = 0.0
    l2: Annotated[float | None, _factor(0.0)] = 0.0

    def __call__(self, x: Any) -> Any:
        return _penalty(x, l1=self.l1, l2=self.l2)


@declared
class L1(Regularizer):
    """`l1 * sum(|x|)`.

    Args:
        l1: factor, not negative.

    >>> import numpy as np
    >>> from minikeras import regularizers
    >>> regularizers.L1(0.1)(np.array([1.0, -2.0]))
    <Tensor shape=() dtype=float64>
    array(0.3)
    """

    l1: Annotated[float | None, _factor(0.01)] = 0.01

    def __call__(self, x: Any) -> Any:
        return _penalty(x, l1=self.l1)


@declared
class L2(Regularizer):
    """`l2 * sum(x**2)`, without a factor 1/2.

    Args:
        l2: factor, not negative.

    >>> import numpy as np
    >>> from minikeras import regularizers
    >>> regularizers.L2(0.1)(np.array([1.0, -2.0]))
    <Tensor shape=() dtype=float64>
    array(0.5)
    """

    l2: Annotated[float | None, _factor(0.01)] = 0.01

    def __call__(self, x: Any) -> Any:
        return _penalty(x, l2=self.l2)


@declared
class OrthogonalRegularizer(Regularizer):
    """`factor` times the mean of |cosine| over the pairs of rows (or columns) of a matrix.

    Args:
        factor: not negative.
        mode: `"rows"` or `"columns"`: what should become orthogonal.

    >>> from minikeras import ops, regularizers
    >>> float(regularizers.OrthogonalRegularizer(0.01)(ops.eye(2)))
    0.0
    """

    factor: Annotated[float, _factor(0.01)] = 0.01
    mode: Annotated[str, OneOf("rows", "columns")] = "rows"

    def __call__(self, inputs: Any) -> Any:
        if len(inputs.shape) != 2:
            raise ValueError(f"OrthogonalRegularizer needs a matrix, got shape {tuple(inputs.shape)}.")
        return _cosines(inputs, factor=self.factor, rows=self.mode == "rows")


@differentiable
def _penalty(x: Any, *, l1: float = 0.0, l2: float = 0.0) -> Any:
    return k.penalty(x, l1, l2), lambda g, needs: (k.penalty_grad(g, x, l1, l2, needs.out[0]),)


@lru_cache(maxsize=64)
def _off_diagonal(count: int, dtype: Any) -> np.ndarray:
    """A matrix of ones with a diagonal of zeros, which nothing changes."""
    matrix = 1 - np.eye(count, dtype=dtype)
    matrix.flags.writeable = False
    return matrix


@differentiable
def _cosines(x: Any, *, factor: float, rows: bool) -> Any:
    vectors = x if rows else x.T
    scale = 1 / k.xp.maximum(k.xp.sqrt((vectors * vectors).sum(axis=1, keepdims=True)), 1e-7)
    unit = vectors * scale
    count = len(vectors)
    pairs = max(count * (count - 1) / 2, 1)
    others = _off_diagonal(count, x.dtype) if k.xp is np else 1 - k.xp.eye(count, dtype=x.dtype)
    cosines = (unit @ unit.T) * others

    def vjp(g: Any, needs: Any) -> Any:
        gradient = (k.xp.sign(cosines) @ unit) * (g * (factor / pairs))
        gradient = (gradient - unit * (gradient * unit).sum(axis=1, keepdims=True)) * scale
        return (gradient if rows else gradient.T,)

    return k.xp.abs(cosines).sum() * (0.5 * factor / pairs), vjp


def not_one_number(regularizer: Any, penalty: Any) -> ValueError:
    """The error for a regularizer whose penalty is no scalar."""
    found = f"one of shape {tuple(penalty.shape)}" if hasattr(penalty, "shape") else repr(penalty)
    name = getattr(regularizer, "__name__", type(regularizer).__name__)
    return ValueError(f"The regularizer {name} must return one number, got {found}; take the sum of it.")


def check(regularizer: Any, weight: Any) -> None:
    """Whether the penalty of a weight, made by anything but the built-in factors, is one number.

    Raises:
        ValueError: where it is not; also what the regularizer itself refuses.
    """
    if regularizer is None or type(regularizer) in (L1, L2, L1L2):
        return
    with recording(False):
        penalty = regularizer(weight)
    if not isinstance(penalty, (int, float)) and getattr(penalty, "size", 0) != 1:
        raise not_one_number(regularizer, penalty)


l1, l2, l1_l2, orthogonal_regularizer = L1, L2, L1L2, OrthogonalRegularizer

# every name that a user or a file may use
ALL: dict[str, type[Regularizer]] = {
    "l1": L1,
    "l2": L2,
    "l1_l2": L1L2,
    "l1l2": L1L2,
    "orthogonal_regularizer": OrthogonalRegularizer,
    **{cls.__name__: cls for cls in (L1, L2, L1L2, OrthogonalRegularizer)},
}
registry.builtin("keras.regularizers", L1, L2, L1L2, OrthogonalRegularizer)


@user_facing
def get(identifier: Any) -> Any:
    """A regularizer from its name, class, description or any callable; None stays None.

    Args:
        identifier: a name, a configuration, an object, or None.

    Raises:
        ValueError: for an unknown name, with the nearest known one.

    >>> from minikeras import regularizers
    >>> regularizers.get("l2")
    L2()
    """
    return registry.get("regularizer", identifier, ALL)


def serialize(regularizer: Any) -> Any:
    """The description of a regularizer.

    >>> from minikeras import regularizers
    >>> regularizers.serialize(regularizers.L1(0.5))["config"]
    {'l1': 0.5}
    """
    return registry.serialize_keras_object(regularizer)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The regularizer that a name or description describes; `custom_objects` maps further names to classes.

    >>> from minikeras import regularizers
    >>> regularizers.deserialize({"class_name": "L2", "config": {"l2": 0.5}})
    L2(l2=0.5)
    """
    with registry.custom_object_scope(custom_objects):
        return get(config)


offer_names(__name__, hidden="check not_one_number")
