"""Normalisations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minikeras import config
from minikeras import kernels as k
from minikeras.autodiff import shapes
from minikeras.autodiff.op import composite, differentiable
from minikeras.ops import core
from minikeras.ops import numpy as fine
from minikeras.ops.common import float_type, tensors_of

KERAS_MODULE = "keras.src.ops.nn"


@differentiable
def batch_norm_training(x: Any, gamma: Any, beta: Any, *, epsilon: float, mask: Any = None) -> Any:
    """Normalise over all axes but the last with the batch's own statistics: (y, mean, biased variance).

    Gradients flow through `y` only; mean and variance are for the moving averages.
    """
    rows = x.reshape(-1, x.shape[-1])
    weights = None if mask is None else mask.reshape(-1).astype(x.dtype)
    y, mean, variance, residual = k.batch_norm(rows, gamma, beta, epsilon, mask=weights)

    def vjp(g: Any, needs: Any) -> Any:
        gx, ggamma, gbeta = k.batch_norm_grad(g[0].reshape(rows.shape), residual, needs[0], needs.out[1:3])
        return (None if gx is None else gx.reshape(x.shape)), ggamma, gbeta

    return (y.reshape(x.shape), mean, variance), vjp


@differentiable(shape=shapes.same)
def layer_norm(x: Any, gamma: Any, beta: Any, *, epsilon: float, axes: int = 1) -> Any:
    """Normalise each sample over its last `axes` axes, then scale by `gamma` and shift by `beta`."""
    rows = x.reshape(-1, math.prod(x.shape[x.ndim - axes :]))
    flat = [None if p is None else p.reshape(-1) for p in (gamma, beta)]
    y, residual = k.layer_norm(rows, *flat, epsilon)

    def vjp(g: Any, needs: Any) -> Any:
        outs = tuple(None if out is None else out.reshape(-1) for out in needs.out[1:3])
        gx, ggamma, gbeta = k.layer_norm_grad(g.reshape(rows.shape), residual, needs[0], outs)
        shaped = [None if p is None else d.reshape(p.shape) for p, d in ((gamma, ggamma), (beta, gbeta))]
        return (None if gx is None else gx.reshape(x.shape)), *shaped

    return y.reshape(x.shape), vjp


@composite(inputs=3, shape=shapes.same, keras="keras.src.ops.nn.LayerNorm", hidden={"rms_scaling": False})
def layer_normalization(
    x: Any, gamma: Any = None, beta: Any = None, axis: Any = -1, epsilon: float | None = None, **kwargs: Any
) -> Any:
    """Layer normalisation over an axis or several (Ba et al. 2016); `gamma` and `beta` have the shape of these axes.

    With `rms_scaling=True` (out of use, but in files) the mean is not taken off and `beta` does not count.

    Args:
        x: tensor, array or number.

    Raises:
        TypeError: for any other keyword.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.layer_normalization(np.array([[1.0, 3.0]]), epsilon=1e-6).numpy().round(3).tolist()
    [[-1.0, 1.0]]
    """
    rms_scaling = kwargs.pop("rms_scaling", False)
    if kwargs:
        raise TypeError(f"layer_normalization got unknown arguments {sorted(kwargs)}; check their spelling.")
    epsilon = config.epsilon() if epsilon is None else epsilon
    x, gamma, beta = tensors_of(x, gamma, beta)
    ndim = len(x.shape)
    axes = sorted(shapes.place_of(i, ndim) for i in (axis if isinstance(axis, (list, tuple)) else [axis]))
    last = list(range(ndim - len(axes), ndim))
    if rms_scaling:
        x_hat = x * fine.rsqrt(fine.var(x, axis=tuple(axes), keepdims=True) + epsilon)
        if gamma is None:
            return x_hat
        return x_hat * fine.reshape(gamma, [x.shape[i] if i in axes else 1 for i in range(ndim)])
    if axes == last:
        return layer_norm(x, gamma, beta, epsilon=epsilon, axes=len(axes))
    return fine.moveaxis(
        layer_norm(fine.moveaxis(x, axes, last), gamma, beta, epsilon=epsilon, axes=len(axes)), last, axes
    )


@differentiable(shape=shapes.same)
def rms_norm(x: Any, scale: Any, *, epsilon: float, axes: int = 1) -> Any:
    """Divide each sample by the root mean square over its last `axes` axes, then multiply by `scale`."""
    rows = x.reshape(-1, math.prod(x.shape[x.ndim - axes :]))
    y, residual = k.rms_norm(rows, None if scale is None else scale.reshape(-1), epsilon)

    def vjp(g: Any, needs: Any) -> Any:
        outs = (None if needs.out[1] is None else needs.out[1].reshape(-1), None)
        gx, gscale = k.rms_norm_grad(g.reshape(rows.shape), residual, needs[0], outs)
        return (None if gx is None else gx.reshape(x.shape)), None if scale is None else gscale.reshape(scale.shape)

    return y.reshape(x.shape), vjp


@composite(inputs=2, shape=shapes.like, keras="keras.src.ops.nn.RMSNorm")
def rms_normalization(x: Any, scale: Any = None, axis: Any = -1, epsilon: float | None = None) -> Any:
    """`x / sqrt(mean(x²) + epsilon) * scale` over an axis or several (Zhang and Sennrich 2019), in the type of `x`.

    Args:
        x: floats of any shape.
        scale: of the shape of these axes, default 1.
        axis: the axis, or axes, that the mean is taken over.
        epsilon: default `config.epsilon()`.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> np.asarray(ops.rms_normalization(np.array([1.0, -7.0], "float32"))).round(3).tolist()
    [0.20000000298023224, -1.399999976158142]
    """
    x = core.convert_to_tensor(x)
    epsilon = config.epsilon() if epsilon is None else epsilon
    ndim = len(x.shape)
    axes = sorted(shapes.place_of(i, ndim) for i in (axis if isinstance(axis, (list, tuple)) else [axis]))
    last = list(range(ndim - len(axes), ndim))
    if axes == last:
        y = rms_norm(x, scale, epsilon=epsilon, axes=len(axes))
    else:
        moved = rms_norm(fine.moveaxis(x, axes, last), scale, epsilon=epsilon, axes=len(axes))
        y = fine.moveaxis(moved, last, axes)
    return y if y.dtype == x.dtype else core.cast(y, x.dtype)


@differentiable(shape=shapes.same)
def fixed_norm(x: Any, mean: Any, variance: Any, gamma: Any, beta: Any, *, epsilon: float) -> Any:
    """`(x - mean) / sqrt(variance + epsilon) * gamma + beta` along the last axis, with vectors for it."""
    rows = x.reshape(-1, x.shape[-1])
    y, residual = k.fixed_norm(rows, mean, variance, gamma, beta, epsilon)

    def vjp(g: Any, needs: Any) -> Any:
        wanted = needs[0], any(needs[1:5])
        g_x, along, total = k.fixed_norm_grad(g.reshape(rows.shape), residual, wanted, needs.out[3:5])
        g_mean = g_variance = None
        if needs[1] or needs[2]:
            inverse = residual[-1]
            scale = inverse if gamma is None else inverse * gamma
            g_mean, g_variance = -scale * total, along * (-0.5 * scale * inverse)
        others = (g_mean, g_variance, along if needs[3] else None, total if needs[4] else None)
        return None if g_x is None else g_x.reshape(x.shape), *others

    return y.reshape(x.shape), vjp


def _of_groups(x: Any, *others: Any, **settings: Any) -> Any:
    return shapes.Spec(x.shape, float_type(x))


@differentiable(shape=_of_groups)
def group_norm(x: Any, gamma: Any, beta: Any, *, groups: int, epsilon: float) -> Any:
    """Normalise each sample over groups of channels, the last axis, then scale by `gamma` and shift by `beta`."""
    pictures = x.reshape(x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1])
    y, residual = k.group_norm(pictures, gamma, beta, groups, epsilon)

    def vjp(g: Any, needs: Any) -> Any:
        g_x, *others = k.group_norm_grad(g.reshape(pictures.shape), residual, needs[0], needs.out[1:3])
        return None if g_x is None else g_x.reshape(x.shape), *others

    return y.reshape(x.shape), vjp


@differentiable(shape=shapes.same)
def unit_norm(x: Any, *, epsilon: float, axes: int = 1) -> Any:
    """Each sample divided by its Euclidean norm over its last `axes` axes, or by `epsilon` if that is more."""
    y, residual = k.unit_norm(x.reshape(-1, math.prod(x.shape[x.ndim - axes :])), epsilon)
    return y.reshape(x.shape), lambda g, needs: (k.unit_norm_grad(g.reshape(y.shape), residual).reshape(x.shape),)


@composite(
    inputs=3, shape=shapes.same, keras="keras.src.ops.nn.BatchNorm", takes=("x", "mean", "variance", "offset", "scale")
)
def batch_normalization(
    x: Any, mean: Any, variance: Any, axis: int, offset: Any = None, scale: Any = None, epsilon: float = 1e-3
) -> Any:
    """`(x - mean) / sqrt(variance + epsilon) * scale + offset` along `axis`, with the statistics given.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.batch_normalization(np.array([[1.0], [3.0]]), np.array([2.0]), np.array([1.0]), axis=-1, epsilon=0.0)
    <Tensor shape=(2, 1) dtype=float64>
    array([[-1.],
           [ 1.]])
    """
    x, mean, variance, offset, scale = tensors_of(x, mean, variance, offset, scale)
    moved, vectors = axis not in (-1, len(x.shape) - 1), (mean, variance, offset, scale)
    y = fine.moveaxis(x, axis, -1) if moved else x
    if all([one is None or (len(one.shape) == 1 and one.dtype == x.dtype) for one in vectors]):
        y = fixed_norm(y, mean, variance, scale, offset, epsilon=epsilon)
    else:
        factor = fine.rsqrt(variance + epsilon)
        factor = factor if scale is None else factor * scale
        y = y * factor + (-1.0 * (mean * factor) if offset is None else offset - mean * factor)
    return fine.moveaxis(y, -1, axis) if moved else y


def _moments_shape(x: Any, *, axes: Any, keepdims: bool, **settings: Any) -> Any:
    shape = shapes.reduced(x.shape, axes, keepdims)
    return shape, shape


@composite(inputs=1, shape=_moments_shape)
def moments(x: Any, axes: Any, keepdims: bool = False, synchronized: bool = False) -> tuple[Any, Any]:
    """Mean and biased variance over `axes`.

    Args:
        x: tensor, array or number.
        keepdims: whether the reduced axes stay, with size 1.
        synchronized: accepted for familiarity.

    A variance that float16 cannot hold is the largest number that it holds.

    >>> from minikeras import ops
    >>> ops.moments([1.0, 3.0], axes=[0])
    (<Tensor shape=() dtype=float32>
    array(2., dtype=float32), <Tensor shape=() dtype=float32>
    array(1., dtype=float32))
    """
    x = core.convert_to_tensor(x)
    if x.data.dtype.char != "e":
        return fine.mean(x, axis=axes, keepdims=keepdims), fine.var(x, axis=axes, keepdims=keepdims)
    largest, wide = float(np.finfo("float16").max), core.cast(x, "float32")
    found = [one(wide, axis=axes, keepdims=keepdims) for one in (fine.mean, fine.var)]
    return tuple([core.cast(fine.clip(one, -largest, largest), "float16") for one in found])  # type: ignore[return-value]
