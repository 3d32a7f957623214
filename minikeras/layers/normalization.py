"""Batch, layer, group and unit normalisation."""

from __future__ import annotations

import math
from typing import Any

from minikeras import config, constraints, initializers, journal, ops, regularizers
from minikeras import kernels as k
from minikeras.layers.common import Elementwise, axes_argument, check_axes, known_size, positive_int
from minikeras.layers.spec import InputSpec
from minikeras.ops import nn
from minikeras.utils.checks import number, whole


class ScaleShift(Elementwise):
    """What batch, layer and group normalisation share: `gamma` and `beta`, one each per normalised feature."""

    def __init__(
        self,
        epsilon: float,
        center: bool,
        scale: bool,
        beta_initializer: Any,
        gamma_initializer: Any,
        beta_regularizer: Any,
        gamma_regularizer: Any,
        beta_constraint: Any,
        gamma_constraint: Any,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.epsilon = number("epsilon", epsilon, 0, owner=type(self).__name__)
        self.center = center
        self.scale = scale
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)
        self.gamma: Any = None
        self.beta: Any = None

    def _add_gamma(self, shape: tuple[int, ...]) -> None:
        self.gamma = self.add_weight(
            shape,
            self.gamma_initializer,
            regularizer=self.gamma_regularizer,
            constraint=self.gamma_constraint,
            name="gamma",
        )

    def _add_beta(self, shape: tuple[int, ...]) -> None:
        self.beta = self.add_weight(
            shape,
            self.beta_initializer,
            regularizer=self.beta_regularizer,
            constraint=self.beta_constraint,
            name="beta",
        )


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
        renorm, renorm_clipping, renorm_momentum: batch renormalisation, which there is not: False.
        synchronized: accepted for familiarity; there is one replica.
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        renorm: bool = False,
        renorm_clipping: Any = None,
        renorm_momentum: float = 0.99,
        synchronized: bool = False,
        **kwargs: Any,
    ):
        super().__init__(
            epsilon,
            center,
            scale,
            beta_initializer,
            gamma_initializer,
            beta_regularizer,
            gamma_regularizer,
            beta_constraint,
            gamma_constraint,
            **kwargs,
        )
        if renorm:
            raise ValueError(f"BatchNormalization has no batch renormalisation, got renorm={renorm!r}; leave it out.")
        self.axis = whole("axis", axis, owner="BatchNormalization")
        self.momentum = number("momentum", momentum, 0, 1, owner="BatchNormalization")
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)
        self.renorm, self.renorm_clipping, self.renorm_momentum = False, renorm_clipping, renorm_momentum
        self.synchronized = synchronized

    def build(self, input_shape: Any) -> None:
        features = known_size(self, input_shape, self.axis)
        if self.scale:
            self._add_gamma((features,))
        if self.center:
            self._add_beta((features,))
        self.moving_mean = self.add_weight(
            (features,), self.moving_mean_initializer, trainable=False, name="moving_mean"
        )
        self.moving_variance = self.add_weight(
            (features,), self.moving_variance_initializer, trainable=False, name="moving_variance"
        )
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: features})

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        last = self.axis in (-1, inputs.ndim - 1)
        x = _at_least_float32(inputs if last else ops.moveaxis(inputs, self.axis, -1))
        gamma, beta = _at_least_float32(self.gamma), _at_least_float32(self.beta)
        if training and self._trainable:
            counted = None if mask is None else self._counted(inputs, mask)
            if counted is None or last:  # then all features of a row are counted alike
                counted = counted if counted is None else counted[..., 0]
                y, mean, variance = nn.batch_norm_training(x, gamma, beta, epsilon=self.epsilon, mask=counted)
            else:
                mean, variance = _weighted_moments(x, k.xp.moveaxis(counted, self.axis, -1))
                y = nn.batch_normalization(x, mean, variance, -1, offset=beta, scale=gamma, epsilon=self.epsilon)
            if inputs.size:
                self._move(self.moving_mean, mean)
                self._move(self.moving_variance, variance)
        else:
            mean, variance = _at_least_float32(self.moving_mean), _at_least_float32(self.moving_variance)
            y = nn.batch_normalization(x, mean, variance, -1, offset=beta, scale=gamma, epsilon=self.epsilon)
        y = y if last else ops.moveaxis(y, -1, self.axis)
        return y if inputs.dtype == y.dtype else ops.cast(y, inputs.dtype)

    def _move(self, average: Any, value: Any) -> None:
        """Move a moving statistic in place, without reading it back."""
        value = value.data if value.dtype == average.dtype else value.data.astype(average.dtype)
        if journal.active:
            journal.note(average)
        k.ema(average.data, value, self.momentum)

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


class LayerNormalization(ScaleShift):
    """Mean 0 and variance 1 for each sample over its features, then `gamma` and `beta` (Ba et al. 2016).

    Args:
        axis: the axis, or axes, of the features.
        epsilon: added to the variance.
        center, scale: whether there is a `beta`, a `gamma`.
        beta_initializer, gamma_initializer: default zeros and ones.
        beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint: default none.
    """

    def __init__(
        self,
        axis: Any = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ):
        if kwargs.pop("rms_scaling", False):
            raise ValueError("LayerNormalization has no rms_scaling, got True; leave it out.")
        super().__init__(
            epsilon,
            center,
            scale,
            beta_initializer,
            gamma_initializer,
            beta_regularizer,
            gamma_regularizer,
            beta_constraint,
            gamma_constraint,
            **kwargs,
        )
        self.axis = axes_argument(self, axis)

    def build(self, input_shape: Any) -> None:
        check_axes(self, self.axis, input_shape)
        self.axis = [self.axis] if isinstance(self.axis, int) else sorted(self.axis)
        shape = tuple(known_size(self, input_shape, axis) for axis in self.axis)
        if self.scale:
            self._add_gamma(shape)
        if self.center:
            self._add_beta(shape)

    def call(self, inputs: Any) -> Any:
        axes = [axis % inputs.ndim for axis in self.axis]
        last = list(range(inputs.ndim - len(axes), inputs.ndim))
        moved = axes != last
        x = _at_least_float32(ops.moveaxis(inputs, axes, last) if moved else inputs)
        gamma, beta = _at_least_float32(self.gamma), _at_least_float32(self.beta)
        y = nn.layer_norm(x, gamma, beta, epsilon=self.epsilon, axes=len(axes))
        y = ops.moveaxis(y, last, axes) if moved else y
        return y if inputs.dtype == y.dtype else ops.cast(y, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rms_scaling": False}


class GroupNormalization(ScaleShift):
    """Mean 0 and variance 1 for each sample and group of channels, then `gamma` and `beta` (Wu and He 2018).

    Args:
        groups: number of equal parts of the channels; -1: each channel by itself.
        axis: the axis of the channels.
        epsilon: added to the variance.
        center, scale: whether there is a `beta`, a `gamma`, one for each channel.
        beta_initializer, gamma_initializer: default zeros and ones.
        beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint: default none.
    """

    def __init__(
        self,
        groups: int = 32,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(
            epsilon,
            center,
            scale,
            beta_initializer,
            gamma_initializer,
            beta_regularizer,
            gamma_regularizer,
            beta_constraint,
            gamma_constraint,
            **kwargs,
        )
        self.groups = groups if groups == -1 else positive_int("GroupNormalization", "groups", groups)
        self.axis = whole("axis", axis, owner="GroupNormalization")

    def build(self, input_shape: Any) -> None:
        channels = known_size(self, input_shape, self.axis)
        if self.groups == -1:
            self.groups = channels
        if channels % self.groups:
            raise ValueError(
                f"GroupNormalization {self.name!r} needs channels that divide into {self.groups} groups, got inputs of "
                f"shape {tuple(input_shape)} with {channels} channels."
            )
        if self.scale:
            self._add_gamma((channels,))
        if self.center:
            self._add_beta((channels,))
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: channels})

    def call(self, inputs: Any) -> Any:
        last = self.axis in (-1, inputs.ndim - 1)
        x = _at_least_float32(inputs if last else ops.moveaxis(inputs, self.axis, -1))
        gamma, beta = _at_least_float32(self.gamma), _at_least_float32(self.beta)
        n, *positions, channels = x.shape
        parts = (n, math.prod(positions), self.groups, channels // self.groups)
        y = ops.reshape(x, parts)
        if self.groups == 1:
            y = nn.layer_norm(y, None, None, epsilon=self.epsilon, axes=3)
        else:  # a group's values have to stand side by side
            y = nn.layer_norm(ops.moveaxis(y, 2, 1), None, None, epsilon=self.epsilon, axes=2)
            y = ops.moveaxis(y, 1, 2)
        y = ops.reshape(y, x.shape)
        if gamma is not None and beta is not None:
            y = nn.scale_shift(y, gamma, beta)
        elif gamma is not None:
            y = ops.multiply(y, gamma)
        elif beta is not None:
            y = ops.add(y, beta)
        y = y if last else ops.moveaxis(y, -1, self.axis)
        return y if inputs.dtype == y.dtype else ops.cast(y, inputs.dtype)


class UnitNormalization(Elementwise):
    """Each sample divided by its Euclidean norm.

    Args:
        axis: the axis, or axes, that the norm is taken over.
    """

    def __init__(self, axis: Any = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = axes_argument(self, axis)

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
    inverse = ops.rsqrt(ops.maximum(ops.sum(ops.square(x), axis=axis, keepdims=True), epsilon * epsilon))
    return ops.multiply(x, inverse)


def _at_least_float32(x: Any) -> Any:
    """A float16 tensor as float32, whose sums do not overflow; any other as it is."""
    return ops.cast(x, "float32") if x is not None and x.dtype == "float16" else x
