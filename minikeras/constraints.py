"""Projections that the optimizer applies to a weight after each update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np

from minikeras import config as settings
from minikeras import kernels as k
from minikeras import registry
from minikeras.autodiff.operands import raw
from minikeras.autodiff.tensor import Tensor
from minikeras.declared import Number, Value, declared
from minikeras.lazy import offer_names
from minikeras.tracebacks import user_facing


@declared
class Constraint(Value):
    """Base class: a function from a weight (tensor or array) to its permitted value, a tensor of the same shape.

    >>> import numpy as np
    >>> from minikeras import constraints, ops
    >>> class Positive(constraints.Constraint):
    ...     def __call__(self, w):
    ...         return ops.maximum(w, 0.0)
    ...
    >>> Positive()(np.array([-1.0, 2.0]))
    <Tensor shape=(2,) dtype=float64>
    array([0., 2.])
    """

    def __call__(self, w: Any) -> Any:
        """The weight itself; subclasses project it."""
        return w

    def check(self, shape: tuple[int, ...]) -> None:
        """Whether weights of this shape can be projected; called where a weight is made.

        Raises:
            ValueError: where they cannot.
        """


def _axis(thing: Any, name: str, value: Any) -> Any:
    axes = value if isinstance(value, (list, tuple)) else () if value is None else (value,)
    if not all(isinstance(one, (int, np.integer)) and not isinstance(one, bool) for one in axes):
        raise ValueError(f"{type(thing).__name__}'s axis must be a whole number or a list of them, got {value!r}.")
    return value


Axis = Annotated[Any, _axis]
Norm = Annotated[float, Number(0, infinite=True)]


class _Projection(Constraint):
    """Base of the built-in ones, which one kernel computes."""

    def project(self, w: Any, out: Any = None) -> Any:
        """The permitted value of an array; `out` may be the array itself."""
        raise NotImplementedError

    def __call__(self, w: Any) -> Tensor:
        return Tensor(self.project(raw(w)))


class NormConstraint(_Projection):
    """What constraints on the norms of vectors share: the axes that make up one vector."""

    axis: Any

    def check(self, shape: tuple[int, ...]) -> None:
        axes = self.axis if isinstance(self.axis, (list, tuple)) else () if self.axis is None else (self.axis,)
        places = [axis % len(shape) for axis in axes if -len(shape) <= axis < len(shape)]
        if len(set(places)) != len(axes):
            raise ValueError(
                f"{type(self).__name__} with axis={self.axis!r} takes weights that have these axes, each named once, "
                f"got one of shape {tuple(shape)}."
            )


@declared
class MaxNorm(NormConstraint):
    """Scale vectors longer than `max_value` down to it.

    Args:
        max_value: the largest Euclidean norm.
        axis: the axis or axes that make up one vector: 0 for a Dense kernel, `[0, 1, 2]` for a Conv2D kernel.

    >>> import numpy as np
    >>> from minikeras import constraints
    >>> constraints.MaxNorm(1.0)(np.array([[3.0], [4.0]]))
    <Tensor shape=(2, 1) dtype=float64>
    array([[0.59999999],
           [0.79999998]])
    """

    max_value: Norm = 2
    axis: Axis = 0

    def project(self, w: Any, out: Any = None) -> Any:
        return k.limit_norms(w, self.axis, 0.0, self.max_value, 1.0, settings.epsilon(), out=out)


class NonNeg(_Projection):
    """Negative weights become 0.

    >>> import numpy as np
    >>> from minikeras import constraints
    >>> constraints.NonNeg()(np.array([-1.0, 2.0]))
    <Tensor shape=(2,) dtype=float64>
    array([0., 2.])
    """

    def project(self, w: Any, out: Any = None) -> Any:
        return k.without_negative(w, out)


@declared
class UnitNorm(NormConstraint):
    """Scale vectors to Euclidean norm 1.

    Args:
        axis: the axis or axes that make up one vector.

    >>> import numpy as np
    >>> from minikeras import constraints
    >>> constraints.UnitNorm()(np.array([[3.0], [4.0]]))
    <Tensor shape=(2, 1) dtype=float64>
    array([[0.59999999],
           [0.79999998]])
    """

    axis: Axis = 0

    def project(self, w: Any, out: Any = None) -> Any:
        return k.limit_norms(w, self.axis, 0.0, 1.0, 1.0, settings.epsilon(), unit=True, out=out)


@declared
class MinMaxNorm(NormConstraint):
    """Move the norm of vectors into `min_value ... max_value`.

    Args:
        min_value, max_value: the permitted Euclidean norms.
        rate: how far to go at each update: 1 all the way, 0 not at all.
        axis: the axis or axes that make up one vector.

    Raises:
        ValueError: for negative norms, a `min_value` above `max_value` and a `rate` that is not from 0 to 1.

    >>> import numpy as np
    >>> from minikeras import constraints
    >>> constraints.MinMaxNorm(0.5, 1.0)(np.array([[3.0], [4.0]]))
    <Tensor shape=(2, 1) dtype=float64>
    array([[0.59999999],
           [0.79999998]])
    """

    min_value: Annotated[float, Number(0)] = 0.0
    max_value: Norm = 1.0
    rate: Annotated[float, Number(0, 1)] = 1.0
    axis: Axis = 0

    def __post_init__(self) -> None:
        if self.min_value > self.max_value:
            raise ValueError(
                f"MinMaxNorm's min_value must not exceed max_value, got {self.min_value:g} and "
                f"{self.max_value:g}; exchange them."
            )

    def project(self, w: Any, out: Any = None) -> Any:
        return k.limit_norms(w, self.axis, self.min_value, self.max_value, self.rate, settings.epsilon(), out=out)


max_norm, non_neg, unit_norm, min_max_norm = MaxNorm, NonNeg, UnitNorm, MinMaxNorm

# every name that a user or a file may use
ALL: dict[str, type[Constraint]] = {
    "max_norm": MaxNorm,
    "non_neg": NonNeg,
    "unit_norm": UnitNorm,
    "min_max_norm": MinMaxNorm,
    "maxnorm": MaxNorm,  # and further, as in Keras 2
    "nonneg": NonNeg,
    "unitnorm": UnitNorm,
    **{cls.__name__: cls for cls in (MaxNorm, NonNeg, UnitNorm, MinMaxNorm)},
}
registry.builtin("keras.constraints", MaxNorm, NonNeg, UnitNorm, MinMaxNorm)


def is_builtin(constraint: Any) -> bool:
    """Whether a constraint is one of these, and not a user's."""
    return type(constraint) in ALL.values()


@user_facing
def get(identifier: Any) -> Any:
    """A constraint from its name, class, description or any callable; None stays None.

    Args:
        identifier: a name, a configuration, an object, or None.

    Raises:
        ValueError: for an unknown name, with the nearest known one.

    >>> from minikeras import constraints
    >>> constraints.get("nonneg")
    NonNeg()
    """
    return registry.get("constraint", identifier, ALL)


def serialize(constraint: Any) -> Any:
    """The description of a constraint.

    >>> from minikeras import constraints
    >>> constraints.serialize(constraints.UnitNorm())["class_name"]
    'UnitNorm'
    """
    return registry.serialize_keras_object(constraint)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The constraint that a name or description describes; `custom_objects` maps further names to classes.

    >>> from minikeras import constraints
    >>> constraints.deserialize({"class_name": "MaxNorm", "config": {"max_value": 3}}).max_value
    3.0
    """
    with registry.custom_object_scope(custom_objects):
        return get(config)


offer_names(__name__, hidden="NormConstraint is_builtin")
