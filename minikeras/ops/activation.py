"""Activations: elementwise, and softmax."""

from __future__ import annotations

from typing import Any

from minikeras import kernels as k
from minikeras.autodiff import shapes
from minikeras.autodiff.op import Op, differentiable
from minikeras.autodiff.symbolic import KerasTensor
from minikeras.autodiff.tensor import Tensor
from minikeras.ops.common import activated, as_float, axes_of, counted, curved, float_type, named

KERAS_MODULE = "keras.src.ops.nn"


def _fused(name: str, meaning: str, **options: Any) -> Op:
    """The operation of the activation of that name that kernels know."""
    return differentiable(named(lambda x: activated(x, name), name, meaning), shape=shapes.same, **options)


relu = _fused("relu", "`max(x, 0)`.")
relu6 = _fused("relu6", "`min(max(x, 0), 6)`.")
sigmoid = _fused("sigmoid", "`1 / (1 + exp(-x))`.", traced=True)
softplus = _fused("softplus", "`log(1 + exp(x))`.")
log_sigmoid = _fused("log_sigmoid", "`log(sigmoid(x))`, without overflow.")
softsign = _fused("softsign", "`x / (1 + |x|)`.")
selu = _fused("selu", "Scaled exponential linear unit (Klambauer et al. 2017).")
hard_sigmoid = _fused("hard_sigmoid", "`clip(x / 6 + 1/2, 0, 1)`.")


def _require_number(function: str, **setting: Any) -> None:
    """Refuse a tensor as a setting: its gradient would be lost."""
    for name, value in setting.items():
        if isinstance(value, (Tensor, KerasTensor)):
            raise TypeError(
                f"{function} takes a number as {name}, got a tensor of shape {tuple(value.shape)}, whose gradient "
                "would be lost; for a slope that is learned use layers.PReLU or compose it of minikeras.ops."
            )


@differentiable(inputs=1, shape=shapes.same)
def leaky_relu(x: Any, negative_slope: float = 0.2) -> Any:
    """`x` where positive, else `negative_slope * x`.

    >>> from minikeras import activations
    >>> activations.leaky_relu([-1.0, 1.0])
    <Tensor shape=(2,) dtype=float32>
    array([-0.2,  1. ], dtype=float32)
    """
    _require_number("leaky_relu", negative_slope=negative_slope)
    if negative_slope == 0.2:
        return activated(x, "leaky_relu")
    return _piecewise_relu(x, negative_slope, None, 0.0)


@differentiable(inputs=1, shape=shapes.same)
def elu(x: Any, alpha: float = 1.0) -> Any:
    """`x` where positive, else `alpha * (exp(x) - 1)`.

    >>> from minikeras import activations
    >>> activations.elu([-1.0, 1.0])
    <Tensor shape=(2,) dtype=float32>
    array([-0.63212055,  1.        ], dtype=float32)
    """
    _require_number("elu", alpha=alpha)
    if alpha == 1.0:
        return activated(x, "elu")
    return curved(x, "elu", alpha)


@differentiable(inputs=1, shape=shapes.same)
def celu(x: Any, alpha: float = 1.0) -> Any:
    """`x` where positive, else `alpha * (exp(x / alpha) - 1)`.

    >>> from minikeras import activations
    >>> activations.celu([-1.0, 1.0])
    <Tensor shape=(2,) dtype=float32>
    array([-0.63212055,  1.        ], dtype=float32)
    """
    _require_number("celu", alpha=alpha)
    return curved(x, "celu", alpha)


@differentiable(shape=shapes.same, keras="keras.src.activations.activations.ReLU")
def piecewise_relu(
    x: Any, *, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> Any:
    """`max_value` above it, `x` above the threshold, `negative_slope * (x - threshold)` below."""
    return _piecewise_relu(x, negative_slope, max_value, threshold)


def _piecewise_relu(x: Any, slope: float, limit: float | None, threshold: float) -> Any:
    x = as_float(x)
    y = k.piecewise_relu(x, slope, limit, threshold)
    return y, lambda g, needs: (k.piecewise_relu_grad(g, x, slope, limit, threshold),)


@differentiable(shape=shapes.same)
def silu(x: Any) -> Any:
    """`x * sigmoid(x)`.

    >>> from minikeras import activations
    >>> activations.silu([0.0, 2.0])
    <Tensor shape=(2,) dtype=float32>
    array([0.       , 1.7615942], dtype=float32)
    """
    return curved(x, "silu")


swish = silu


@differentiable(inputs=1, shape=shapes.same)
def gelu(x: Any, approximate: bool = True) -> Any:
    """Gaussian error linear unit (Hendrycks and Gimpel 2016); the tanh form where `approximate`.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.gelu([-1.0, 1.0])
    <Tensor shape=(2,) dtype=float32>
    array([-0.158808,  0.841192], dtype=float32)
    """
    return curved(x, "gelu_tanh" if approximate else "gelu")


@differentiable(shape=shapes.same)
def hard_silu(x: Any) -> Any:
    """`x * hard_sigmoid(x)`.

    >>> from minikeras import activations
    >>> activations.hard_silu([-4.0, 0.0, 4.0])
    <Tensor shape=(3,) dtype=float32>
    array([-0.,  0.,  4.], dtype=float32)
    """
    return curved(x, "hard_silu")


hard_swish = hard_silu


@differentiable(inputs=1, shape=shapes.same, traced=True)
def softmax(x: Any, axis: Any = -1) -> Any:
    """`exp(x) / sum(exp(x))` along `axis` (an axis or several).

    >>> from minikeras import activations
    >>> activations.softmax([[0.0, 0.0, 1.0]])
    <Tensor shape=(1, 3) dtype=float32>
    array([[0.21194156, 0.21194156, 0.57611686]], dtype=float32)
    """
    axis = axis if type(axis) is int else axes_of(axis)
    y = k.softmax(as_float(x), axis=axis)
    return y, lambda g, needs: (k.softmax_grad(g, y, axis=axis),)


@differentiable(inputs=1, shape=shapes.same)
def log_softmax(x: Any, axis: Any = -1) -> Any:
    """`log(softmax(x))` along `axis` (an axis or several), without overflow.

    >>> from minikeras import activations
    >>> activations.log_softmax([[0.0, 0.0]])
    <Tensor shape=(1, 2) dtype=float32>
    array([[-0.6931472, -0.6931472]], dtype=float32)
    """
    axis = axes_of(axis)
    y = k.log_softmax(as_float(x), axis=axis)
    return y, lambda g, needs: (k.log_softmax_grad(g, y, axis),)


@differentiable(inputs=1, shape=shapes.same)
def sparsemax(x: Any, axis: int = -1) -> Any:
    """The distribution along an axis that is nearest to `x`, mostly zeros (Martins and Astudillo 2016).

    >>> from minikeras import ops
    >>> ops.sparsemax([1.0, 0.5, -1.0]).numpy().tolist()
    [0.75, 0.25, 0.0]
    """
    x = as_float(x)
    rows = k.xp.moveaxis(x, axis, -1)
    descending = -k.xp.sort(-rows, axis=-1)
    sums = k.xp.cumsum(descending, axis=-1) - 1
    count = (descending * counted(1, rows.shape[-1] + 1, dtype=x.dtype) > sums).sum(axis=-1, keepdims=True)
    threshold = k.xp.take_along_axis(sums, count - 1, axis=-1) / count.astype(x.dtype)
    y = k.xp.moveaxis(k.xp.maximum(rows - threshold, 0), -1, axis)

    def vjp(g: Any, needs: Any) -> Any:
        chosen = (y > 0).astype(g.dtype)
        return (chosen * (g - (g * chosen).sum(axis=axis, keepdims=True) / chosen.sum(axis=axis, keepdims=True)),)

    return y, vjp


def _glu_shape(x: Any, *, axis: int = -1) -> Any:
    return shapes.Spec(shapes.split(x, indices_or_sections=2, axis=axis)[0].shape, float_type(x))


@differentiable(inputs=1, shape=_glu_shape)
def glu(x: Any, axis: int = -1) -> Any:
    """One half of `x` along `axis` times the sigmoid of the other (Dauphin et al. 2016).

    >>> from minikeras import ops
    >>> ops.glu([3.0, 0.0]).numpy().tolist()
    [1.5]
    """
    x = as_float(x)
    return k.glu(x, axis), lambda g, needs: (k.glu_grad(g, x, axis),)


@differentiable(shape=shapes.same)
def hard_tanh(x: Any) -> Any:
    """`x` limited to -1 ... 1.

    >>> from minikeras import ops
    >>> ops.hard_tanh([-3.0, 0.5]).numpy().tolist()
    [-1.0, 0.5]
    """
    return curved(x, "hard_tanh")


@differentiable(inputs=1, shape=shapes.same)
def hard_shrink(x: Any, threshold: float = 0.5) -> Any:
    """`x` where `|x| > threshold`, else 0.

    >>> from minikeras import ops
    >>> ops.hard_shrink([-3.0, 0.25]).numpy().tolist()
    [-3.0, 0.0]
    """
    _require_number("hard_shrink", threshold=threshold)
    return curved(x, "hard_shrink", threshold)


@differentiable(inputs=1, shape=shapes.same)
def soft_shrink(x: Any, threshold: float = 0.5) -> Any:
    """`x` moved towards 0 by `threshold`, 0 within it.

    >>> from minikeras import ops
    >>> ops.soft_shrink([-3.0, 0.25]).numpy().tolist()
    [-2.5, 0.0]
    """
    _require_number("soft_shrink", threshold=threshold)
    return curved(x, "soft_shrink", threshold)


@differentiable(shape=shapes.same)
def tanh_shrink(x: Any) -> Any:
    """`x - tanh(x)`.

    >>> from minikeras import ops
    >>> ops.tanh_shrink(0.0).numpy().tolist()
    0.0
    """
    return curved(x, "tanh_shrink")


@differentiable(inputs=1, shape=shapes.same)
def squareplus(x: Any, b: float = 4) -> Any:
    """`(x + sqrt(x**2 + b)) / 2` (Barron 2021).

    >>> from minikeras import ops
    >>> ops.squareplus(0.0).numpy().tolist()
    1.0
    """
    _require_number("squareplus", b=b)
    return curved(x, "squareplus", b)


@differentiable(inputs=1, shape=shapes.same)
def threshold(x: Any, threshold: float, default_value: float) -> Any:
    """`x` where it is above `threshold`, else `default_value`.

    >>> from minikeras import ops
    >>> ops.threshold([0.5, 2.0], 1.0, 0.0).numpy().tolist()
    [0.0, 2.0]
    """
    _require_number("threshold", threshold=threshold, default_value=default_value)
    return curved(x, "threshold", threshold, default_value)


@differentiable(shape=shapes.same)
def sparse_plus(x: Any) -> Any:
    """0 below -1, `x` above 1, `(x + 1)**2 / 4` between.

    >>> from minikeras import ops
    >>> ops.sparse_plus([-2.0, 0.0, 3.0]).numpy().tolist()
    [0.0, 0.25, 3.0]
    """
    return curved(x, "sparse_plus")


@differentiable(shape=shapes.same)
def sparse_sigmoid(x: Any) -> Any:
    """0 below -1, 1 above 1, `(x + 1) / 2` between.

    >>> from minikeras import ops
    >>> ops.sparse_sigmoid([-2.0, 0.0, 3.0]).numpy().tolist()
    [0.0, 0.5, 1.0]
    """
    return curved(x, "sparse_sigmoid")
