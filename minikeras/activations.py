"""Activation functions by name, and which of them a kernel can apply by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from minikeras import kernels as k
from minikeras import registry
from minikeras.autodiff import shapes
from minikeras.autodiff.op import differentiable
from minikeras.lazy import offer_names
from minikeras.ops import nn, tanh
from minikeras.ops.common import activated, curved
from minikeras.ops.nn import (
    celu,
    elu,
    glu,
    hard_shrink,
    hard_sigmoid,
    hard_silu,
    hard_swish,
    hard_tanh,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_shrink,
    softmax,
    softplus,
    softsign,
    sparse_plus,
    sparse_sigmoid,
    sparsemax,
    squareplus,
    swish,
    tanh_shrink,
    threshold,
)
from minikeras.tracebacks import user_facing

__all__ = [
    "celu",
    "deserialize",
    "elu",
    "epilogue",
    "exponential",
    "fused",
    "fused_name",
    "gelu",
    "get",
    "glu",
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "keras2_hard_sigmoid",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "log_softmax",
    "mish",
    "relu",
    "relu6",
    "selu",
    "serialize",
    "sigmoid",
    "silu",
    "soft_shrink",
    "softmax",
    "softplus",
    "softsign",
    "sparse_plus",
    "sparse_sigmoid",
    "sparsemax",
    "squareplus",
    "swish",
    "tanh",
    "tanh_shrink",
    "threshold",
]


def relu(x: Any, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> Any:
    """`max(x, 0)`; or `max_value` above it, `x` above the threshold, `negative_slope * (x - threshold)` below.

    >>> from minikeras import activations
    >>> activations.relu([-1.0, 9.0], max_value=6.0)
    <Tensor shape=(2,) dtype=float32>
    array([0., 6.], dtype=float32)
    """
    if not negative_slope and max_value is None and not threshold:
        return nn.relu(x)
    return nn.piecewise_relu(x, negative_slope=negative_slope, max_value=max_value, threshold=threshold)


def linear(x: Any) -> Any:
    """`x` itself.

    >>> from minikeras import activations
    >>> activations.linear([1.0])
    [1.0]
    """
    return x


@differentiable(shape=shapes.same)
def keras2_hard_sigmoid(x: Any) -> Any:
    """`clip(0.2 x + 1/2, 0, 1)`: what `"hard_sigmoid"` is in Keras 1 and 2, and in models that these wrote.

    Keras 3 does not know the name, so that it refuses such a model instead of reading it as its own `hard_sigmoid`.

    >>> from minikeras import activations
    >>> activations.keras2_hard_sigmoid([-3.0, 1.0])
    <Tensor shape=(2,) dtype=float32>
    array([0. , 0.7], dtype=float32)
    """
    return activated(x, "keras2_hard_sigmoid")


@differentiable(shape=shapes.same, keras="keras.src.ops.numpy.Exp")
def exponential(x: Any) -> Any:
    """`exp(x)`.

    >>> from minikeras import activations
    >>> activations.exponential([0.0, 1.0])
    <Tensor shape=(2,) dtype=float32>
    array([1.      , 2.718282], dtype=float32)
    """
    return activated(x, "exponential")


def gelu(x: Any, approximate: bool = False) -> Any:
    """`x` times the normal distribution function at `x` (Hendrycks and Gimpel 2016); its tanh form if `approximate`.

    >>> from minikeras import activations
    >>> activations.gelu([-1.0, 1.0])
    <Tensor shape=(2,) dtype=float32>
    array([-0.15865526,  0.8413447 ], dtype=float32)
    """
    return nn.gelu(x, approximate=approximate)


@differentiable(shape=shapes.same, keras="")
def mish(x: Any) -> Any:
    """`x * tanh(softplus(x))` (Misra 2019).

    >>> from minikeras import activations
    >>> activations.mish([-1.0, 1.0])
    <Tensor shape=(2,) dtype=float32>
    array([-0.3034014,  0.8650984], dtype=float32)
    """
    return curved(x, "mish")


# every name that a user or a file may use
ALL: dict[str, Callable[..., Any]] = {
    function.__name__.strip("_"): function
    for function in (
        *(relu, linear, sigmoid, tanh, softmax, elu, selu, softplus, softsign, exponential, gelu, silu, mish),
        *(leaky_relu, relu6, celu, glu, hard_sigmoid, hard_silu, hard_tanh, hard_shrink, soft_shrink, tanh_shrink),
        *(log_sigmoid, log_softmax, squareplus, threshold, sparse_plus, sparse_sigmoid, sparsemax, keras2_hard_sigmoid),
    )
}
ALL.update(swish=silu, hard_swish=hard_silu)
registry.builtin_functions(ALL)

_FUSED: dict[Any, str] = {ALL[name]: name for name in k.FUSED_ACTIVATIONS}


@user_facing
def fused(
    activation: Any, forward: Callable[[Any, Any, Any], None], gradient: Callable[[Any, Any, Any], Any]
) -> Callable[..., Any]:
    """Let dense layers, convolutions and recurrences apply an elementwise activation within their kernel.

    Args:
        activation: the operation or function that users name, called where no kernel applies it.
        forward: `forward(xp, x, out)` writes the activation of the array `x` into `out`, which may be `x` itself; `xp`
            is the array module.
        gradient: `gradient(xp, g, y)` is the gradient at the input, from the gradient `g` at the output `y`.

    Returns:
        The activation.
    """
    name = f"{activation.__module__}.{activation.__qualname__}"
    k.fused_activation(name, forward, gradient)
    _FUSED[activation] = name
    return activation


def fused_name(function: Any) -> str | None:
    """The name under which a kernel applies this activation by itself, or None."""
    return _FUSED.get(function)


def epilogue(function: Any) -> tuple[str | None, Callable[..., Any] | None]:
    """How a layer ends with an activation: the name under which its kernel applies it, or what is left to be called.

    Not the sigmoid's: a cross-entropy wants the logits that it was computed from.
    """
    name = None if function is sigmoid else _FUSED.get(function)
    return name, None if name or function is None or function is linear else function


@user_facing
def get(identifier: Any) -> Callable[..., Any]:
    """An activation from its name, description or any callable (a layer too); None is `linear`.

    Args:
        identifier: a name, a configuration, an object, or None.

    Raises:
        ValueError: for an unknown name, with the nearest known one.

    >>> from minikeras import activations
    >>> activations.get("tanh").__name__
    'tanh'
    """
    return linear if identifier is None else registry.get("activation", identifier, ALL)


def serialize(activation: Any) -> Any:
    """The description of an activation: its name where it is built in.

    >>> from minikeras import activations
    >>> activations.serialize(activations.relu)
    'relu'
    """
    return registry.serialize_keras_object(activation)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Callable[..., Any]:
    """The activation that a name or description describes; `custom_objects` maps further names to functions.

    Args:
        config: what `serialize` gave.

    >>> from minikeras import activations
    >>> activations.deserialize("relu").__name__
    'relu'
    """
    with registry.custom_object_scope(custom_objects):
        return get(config)


offer_names(__name__, hidden="epilogue fused fused_name keras2_hard_sigmoid")
