"""Batch, layer, group and unit normalisation."""

from __future__ import annotations

from typing import Annotated, Any

from minikeras import config, journal, ops
from minikeras import kernels as k
from minikeras.autodiff import shapes
from minikeras.layers.common import Elementwise, check_axes, known_size, positive_int
from minikeras.layers.fields import (
    Axes,
    Axis,
    Constraint,
    Initializer,
    NonNegative,
    Regularizer,
    Share,
    declared,
    field,
)
from minikeras.layers.older_paths import find_all_layers
from minikeras.layers.spec import InputSpec
from minikeras.ops import nn


class ScaleShift(Elementwise):
    """What batch, layer and group normalisation share: `gamma` and `beta`, one each per normalised feature."""

    center: bool
    scale: bool
    epsilon: float
    gamma: Any = None
    beta: Any = None

    def _add_scale_and_shift(self, shape: tuple[int, ...]) -> None:
        if self.scale:
            self.gamma = self.add_weight("gamma", shape, autocast=False)
        if self.center:
            self.beta = self.add_weight("beta", shape, autocast=False)


class AlongAxes(Elementwise):
    """What normalisation of each sample along some of its axes shares."""

    axis: Any

    def _sizes_of_axes(self, input_shape: Any) -> tuple[int, ...]:
        """The shape of the weights; puts the axes in order."""
        check_axes(self, self.axis, input_shape)
        self.axis = [self.axis] if isinstance(self.axis, int) else sorted(self.axis)
        return tuple(known_size(self, input_shape, axis) for axis in self.axis)


@declared
class BatchNormalization(ScaleShift):
    """Mean 0 and variance 1 for each feature over the batch, then `gamma` and `beta` (Ioffe and Szegedy 2015).

    In training with the batch's own mean and biased variance, which also move the moving statistics; in inference, and
    always while `trainable` is False, with the moving statistics.  Masked steps are normalised too, but not counted.

    Args:
        axis: the axis of the features.
        momentum: what the moving statistics keep of themselves at each batch.
        epsilon: added to the variance.
        center, scale: whether there is a `beta`, a `gamma`.
        beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer: default zeros for
            `beta` and the mean, ones for `gamma` and the variance.
        beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint: default none.
        renorm: batch renormalisation (Ioffe 2017): in training the normalised values are corrected by `* r + d` to what
            moving statistics of their own would make of them; r and d pass no gradient.
        renorm_clipping: limits of r and d, a dict with some of the keys `"rmin"`, `"rmax"` and `"dmax"`.
        renorm_momentum: what those moving statistics keep of themselves at each batch.
        synchronized: accepted for familiarity; there is one replica.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layer = layers.BatchNormalization()
    >>> y = layer(np.array([[1.0], [3.0]]), training=True)
    >>> y.numpy().round(2).tolist()
    [[-1.0], [1.0]]
    """

    axis: Axis = -1
    momentum: Share = 0.99
    epsilon: NonNegative = 1e-3
    center: bool = True
    scale: bool = True
    beta_initializer: Initializer = "zeros"
    gamma_initializer: Initializer = "ones"
    moving_mean_initializer: Initializer = "zeros"
    moving_variance_initializer: Initializer = "ones"
    beta_regularizer: Regularizer = None
    gamma_regularizer: Regularizer = None
    beta_constraint: Constraint = None
    gamma_constraint: Constraint = None
    renorm: bool = False
    renorm_clipping: Any = None
    renorm_momentum: Share = 0.99
    synchronized: bool = False

    def __post_init__(self) -> None:
        if not self.renorm:
            return
        limits = self.renorm_clipping = dict(self.renorm_clipping or {})
        if not limits.keys() <= {"rmin", "rmax", "dmax"}:
            raise ValueError(f"renorm_clipping has the keys 'rmin', 'rmax' and 'dmax', got {limits!r}.")
        rmin, rmax, dmax = map(limits.get, ("rmin", "rmax", "dmax"))
        if rmin is not None and rmax is not None and rmax < rmin:
            raise ValueError(f"The rmax of renorm_clipping is at least its rmin, got {limits!r}.")
        if dmax is not None and dmax < 0:
            raise ValueError(f"The dmax of renorm_clipping is at least 0, got {limits!r}.")

    def build(self, input_shape: Any) -> None:
        features = known_size(self, input_shape, self.axis)
        self._add_scale_and_shift((features,))
        self.moving_mean = self.add_weight("moving_mean", (features,), trainable=False, autocast=False)
        self.moving_variance = self.add_weight("moving_variance", (features,), trainable=False, autocast=False)
        if self.renorm:
            mean, variance = self.moving_mean_initializer, self.moving_variance_initializer
            fixed: Any = {"trainable": False, "autocast": False}

            def deviation(shape: Any, dtype: Any = None) -> Any:
                return ops.sqrt(variance(shape, dtype=dtype))

            self.moving_stddev = self.add_weight((features,), deviation, name="moving_stddev", **fixed)
            self.renorm_mean = self.add_weight((features,), mean, name="renorm_mean", **fixed)
            self.renorm_stddev = self.add_weight((features,), deviation, name="renorm_stddev", **fixed)
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: features})

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        last = self.axis in (-1, inputs.ndim - 1)
        x = _at_least_float32(inputs if last else ops.moveaxis(inputs, self.axis, -1))
        gamma, beta = _at_least_float32(self.gamma), _at_least_float32(self.beta)
        if training and self._trainable:
            scale, shift = (None, None) if self.renorm else (gamma, beta)
            counted = None if mask is None else self._counted(inputs, mask)
            if counted is None or last:  # then all features of a row are counted alike
                counted = counted if counted is None else counted[..., 0]
                y, mean, variance = nn.batch_norm_training(x, scale, shift, epsilon=self.epsilon, mask=counted)
            else:
                mean, variance = _weighted_moments(x, k.xp.moveaxis(counted, self.axis, -1))
                y = nn.batch_normalization(x, mean, variance, -1, offset=shift, scale=scale, epsilon=self.epsilon)
            if self.renorm:
                y = self._renormalized(y, mean.data, variance.data, gamma, beta)
            elif inputs.size:
                self._move(self.moving_mean, mean.data, self.momentum)
                self._move(self.moving_variance, variance.data, self.momentum)
        else:
            mean, variance = _at_least_float32(self.moving_mean), _at_least_float32(self.moving_variance)
            y = nn.batch_normalization(x, mean, variance, -1, offset=beta, scale=gamma, epsilon=self.epsilon)
        y = y if last else ops.moveaxis(y, -1, self.axis)
        return y if inputs.dtype == y.dtype else ops.cast(y, inputs.dtype)

    def _renormalized(self, y: Any, mean: Any, variance: Any, gamma: Any, beta: Any) -> Any:
        """`(y * r + d) * gamma + beta` for normalised values, and the batch's share in all moving statistics."""
        rmin, rmax, dmax = map(self.renorm_clipping.get, ("rmin", "rmax", "dmax"))
        deviation = k.xp.sqrt(variance + self.epsilon)
        usual = k.xp.maximum(self.renorm_stddev.data, self.epsilon**0.5).astype(mean.dtype)
        r, d = deviation / usual, (mean - self.renorm_mean.data) / usual
        r = r if rmin is None else k.xp.maximum(r, rmin)
        r = r if rmax is None else k.xp.minimum(r, rmax)
        d = d if dmax is None else k.xp.clip(d, -dmax, dmax)
        y = ops.add(ops.multiply(y, r.astype(mean.dtype)), d.astype(mean.dtype))
        y = y if gamma is None else ops.multiply(y, gamma)
        if y.size:
            self._move(self.renorm_mean, mean, self.renorm_momentum)
            self._move(self.renorm_stddev, deviation, self.renorm_momentum)
            self._move(self.moving_mean, mean, self.momentum)
            self._move(self.moving_stddev, deviation, self.momentum)
            moved = k.xp.maximum(k.xp.square(self.moving_stddev.data) - self.epsilon, 0)
            self._move(self.moving_variance, moved, 0.0)
        return y if beta is None else ops.add(y, beta)

    def _move(self, average: Any, value: Any, momentum: float) -> None:
        """Move a moving statistic in place, without reading it back."""
        if journal.active:
            journal.note(average)
        k.ema(average.data, value.astype(average.data.dtype, copy=False), momentum)

    def _counted(self, inputs: Any, mask: Any) -> Any:
        """Which entries of the inputs the statistics count: the mask, repeated along the last axis."""
        mask = ops.convert_to_tensor(mask).data.astype(bool, copy=False)
        try:
            return k.xp.broadcast_to(mask[..., None], inputs.shape)
        except ValueError:
            raise ValueError(
                f"BatchNormalization {self.name!r} takes a mask that fits the inputs' shape without the last axis, got "
                f"a mask of shape {tuple(mask.shape)} and inputs of shape {tuple(inputs.shape)}."
            ) from None


def _weighted_moments(x: Any, counted: Any) -> tuple[Any, Any]:
    """Mean and biased variance of each feature (last axis) over the entries that are counted."""
    axes = tuple(range(x.ndim - 1))
    number = counted.sum(axis=axes).astype(x.dtype) + config.epsilon()
    mean = ops.sum(ops.where(counted, x, 0.0), axis=axes) / number
    deviation = ops.where(counted, x - mean, 0.0)
    return mean, ops.sum(ops.square(deviation), axis=axes) / number


@declared
class LayerNormalization(ScaleShift, AlongAxes):
    """Mean 0 and variance 1 for each sample over its features, then `gamma` and `beta` (Ba et al. 2016).

    Args:
        axis: the axis, or axes, of the features.
        epsilon: added to the variance.
        center, scale: whether there is a `beta`, a `gamma`.
        beta_initializer, gamma_initializer: default zeros and ones.
        beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint: default none.
        rms_scaling: out of use, but in files: divide by the standard deviation alone, without taking the mean off, and
            scale by `gamma`; for the root mean square see `RMSNormalization`.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.LayerNormalization(epsilon=1e-6)(np.array([[1.0, 3.0]])).numpy().round(3).tolist()
    [[-1.0, 1.0]]
    """

    axis: Axes = -1
    epsilon: NonNegative = 1e-3
    center: bool = True
    scale: bool = True
    beta_initializer: Initializer = "zeros"
    gamma_initializer: Initializer = "ones"
    beta_regularizer: Regularizer = None
    gamma_regularizer: Regularizer = None
    beta_constraint: Constraint = None
    gamma_constraint: Constraint = None
    rms_scaling: bool = field(default=False, kw_only=True)

    def build(self, input_shape: Any) -> None:
        shape = self._sizes_of_axes(input_shape)
        if self.rms_scaling:
            self.gamma = self.add_weight("gamma", shape, autocast=False)
        else:
            self._add_scale_and_shift(shape)

    def call(self, inputs: Any) -> Any:
        if self.rms_scaling:
            x, gamma = _at_least_float32(inputs), _at_least_float32(self.gamma)
            y = nn.layer_normalization(x, gamma, None, self.axis, self.epsilon, rms_scaling=True)
            return ops.cast(y, inputs.dtype)
        axes = [axis % inputs.ndim for axis in self.axis]
        last = list(range(inputs.ndim - len(axes), inputs.ndim))
        moved = axes != last
        x = _at_least_float32(ops.moveaxis(inputs, axes, last) if moved else inputs)
        gamma, beta = _at_least_float32(self.gamma), _at_least_float32(self.beta)
        y = nn.layer_norm(x, gamma, beta, epsilon=self.epsilon, axes=len(axes))
        y = ops.moveaxis(y, last, axes) if moved else y
        return y if inputs.dtype == y.dtype else ops.cast(y, inputs.dtype)


@declared
class RMSNormalization(AlongAxes):
    """Each sample divided by the root mean square over its features, times `scale` (Zhang and Sennrich 2019).

    Args:
        axis: the axis, or axes, of the features.
        epsilon: added to the mean square.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> np.asarray(layers.RMSNormalization(epsilon=0.0)(np.array([[3.0, 4.0, 0.0, 0.0]]))).round(2).tolist()
    [[1.2000000476837158, 1.600000023841858, 0.0, 0.0]]
    """

    supports_masking = False

    axis: Axes = -1
    epsilon: NonNegative = 1e-6

    def build(self, input_shape: Any) -> None:
        self.scale = self.add_weight(self._sizes_of_axes(input_shape), "ones", name="scale")

    def call(self, inputs: Any) -> Any:
        return nn.rms_normalization(inputs, self.scale, self.axis, self.epsilon)


def _groups(layer: ScaleShift, name: str, value: Any) -> int:
    return value if value == -1 else positive_int(type(layer).__name__, name, value)


@declared
class GroupNormalization(ScaleShift):
    """Mean 0 and variance 1 for each sample and group of channels, then `gamma` and `beta` (Wu and He 2018).

    Args:
        groups: number of equal parts of the channels; -1: each channel by itself.
        axis: the axis of the channels.
        epsilon: added to the variance.
        center, scale: whether there is a `beta`, a `gamma`, one for each channel.
        beta_initializer, gamma_initializer: default zeros and ones.
        beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint: default none.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.GroupNormalization(groups=2)(np.ones((1, 4, 4, 6))).shape
    (1, 4, 4, 6)
    """

    autocast: bool = field(default=False, kw_only=True)  # what float16 cannot hold may still have a mean
    groups: Annotated[int, _groups] = 32
    axis: Axis = -1
    epsilon: NonNegative = 1e-3
    center: bool = True
    scale: bool = True
    beta_initializer: Initializer = "zeros"
    gamma_initializer: Initializer = "ones"
    beta_regularizer: Regularizer = None
    gamma_regularizer: Regularizer = None
    beta_constraint: Constraint = None
    gamma_constraint: Constraint = None

    def build(self, input_shape: Any) -> None:
        channels = known_size(self, input_shape, self.axis)
        if self.groups == -1:
            self.groups = channels
        if channels % self.groups:
            self._refuse(
                f"needs channels that divide into {self.groups} groups, got inputs of shape {tuple(input_shape)} with "
                f"{channels} channels"
            )
        self._add_scale_and_shift((channels,))
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: channels})

    def call(self, inputs: Any) -> Any:
        last = self.axis in (-1, inputs.ndim - 1)
        x = _at_least_float32(inputs if last else ops.moveaxis(inputs, self.axis, -1))
        gamma, beta = _at_least_float32(self.gamma), _at_least_float32(self.beta)
        y = nn.group_norm(x, gamma, beta, groups=self.groups, epsilon=self.epsilon)
        y = y if last else ops.moveaxis(y, -1, self.axis)
        return y if self.compute_dtype == y.dtype else ops.cast(y, self.compute_dtype)


@declared
class UnitNormalization(Elementwise):
    """Each sample divided by its Euclidean norm.

    Args:
        axis: the axis, or axes, that the norm is taken over.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.UnitNormalization()(np.array([[3.0, 4.0]]))
    <Tensor shape=(1, 2) dtype=float32>
    array([[0.6, 0.8]], dtype=float32)
    """

    axis: Axes = -1

    def compute_output_shape(self, input_shape: Any) -> Any:
        check_axes(self, self.axis, input_shape)
        return input_shape

    def call(self, inputs: Any) -> Any:
        try:
            return normalize(inputs, self.axis, 1e-12)
        except (ValueError, IndexError):
            self.compute_output_shape(inputs.shape)
            raise


def normalize(x: Any, axis: Any, epsilon: float) -> Any:
    """`x / max(|x|, epsilon)` with the Euclidean norm along `axis`."""
    x = ops.convert_to_tensor(x)
    axes = sorted(shapes.place_of(one, x.ndim) for one in (axis if isinstance(axis, (list, tuple)) else [axis]))
    last = list(range(x.ndim - len(axes), x.ndim))
    if axes == last:
        return nn.unit_norm(x, epsilon=epsilon, axes=len(axes))
    return ops.moveaxis(nn.unit_norm(ops.moveaxis(x, axes, last), epsilon=epsilon, axes=len(axes)), last, axes)


def _at_least_float32(x: Any) -> Any:
    """A float16 or bfloat16 tensor as float32, whose sums do not overflow; any other as it is."""
    return ops.cast(x, "float32") if x is not None and x.data.itemsize == 2 else x


find_all_layers(__name__)
