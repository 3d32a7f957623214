"""Metrics: numbers to watch during training, summed on the device and read when somebody asks for the result.

Metrics never differentiate: `update_state` works on raw arrays, changes its variables in place and reads nothing back.
"""

from __future__ import annotations

import functools
import math
import numbers
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from minikeras import config as settings
from minikeras import initializers, journal, limits, losses, ops, registry, tree
from minikeras import kernels as k
from minikeras.autodiff.operands import raw
from minikeras.autodiff.symbolic import snake_case, unique_name
from minikeras.autodiff.tensor import Tensor, Variable, substituted
from minikeras.declared import Check, Configured, Converted, OneOf, Whole, declared, field, fields, in_order
from minikeras.kernels.arena import explain
from minikeras.lazy import offer_names
from minikeras.losses import (
    Axis,
    ClassNumber,
    Option,
    Share,
    Switch,
    binary_crossentropy,
    categorical_crossentropy,
    categorical_hinge,
    check_shapes,
    combine_weights,
    described,
    hinge,
    is_number,
    is_whole,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    misfit,
    number_type,
    paired,
    poisson,
    same_rank,
    sparse_categorical_crossentropy,
    squared_hinge,
)
from minikeras.ops.common import as_type
from minikeras.ops.nn import whole_labels
from minikeras.tracebacks import user_facing
from minikeras.utils.checks import one_of

# ---------------------------------------------------------------- base class


class Metric(Configured):
    """Base class: subclasses make variables with `add_variable`, and write `update_state` and `result`.

    Args:
        dtype: number type of the result, default `floatx()`; built-in metrics add up in float64.
        name: default the class name in snake case.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> class Count(keras.Metric):
    ...     def __init__(self, name="count"):
    ...         super().__init__(name=name)
    ...         self.count = self.add_weight(name="count", initializer="zeros")
    ...     def update_state(self, y_true, y_pred, sample_weight=None):
    ...         self.count.assign_add(len(y_true))
    ...     def result(self):
    ...         return self.count
    ...
    >>> Count()(np.zeros(3), np.zeros(3))
    <Variable path=count/count shape=() dtype=float32>
    """

    _direction: str | None = None  # "up" or "down": which way is better, where that is known

    def __init__(self, dtype: Any = None, name: str | None = None):
        self.name: Any = name or unique_name(snake_case(type(self).__name__))
        self._dtype = str(number_type(dtype))
        self._own_variables: list[Variable] = []

    @property
    def dtype(self) -> str:
        return self._dtype

    @property
    def variables(self) -> list[Variable]:
        """The state of this metric and of metrics that it has as attributes, alone or in lists and dicts.

        A variable that was made without `add_variable` is of the state too, unless it is a weight of a layer.
        """
        leaves = tree.flatten([value for name, value in vars(self).items() if name != "_own_variables"])
        found = self._own_variables + [leaf for leaf in leaves if type(leaf) is Variable and "/" not in leaf.path]
        for metric in leaves:
            if isinstance(metric, Metric):
                found.extend(metric.variables)
        return list({id(variable): variable for variable in found}.values())

    def add_variable(
        self, shape: Any, initializer: Any, dtype: Any = None, aggregation: str = "sum", name: str | None = None
    ) -> Variable:
        """Make a variable of the state."""
        variable = Variable(
            initializers.get(initializer), shape=tuple(shape), dtype=dtype or settings.floatx(), trainable=False,
            aggregation=aggregation, name=name,
        )  # fmt: skip
        variable.path = f"{self.name}/{variable.name}"
        if journal.active:  # sums are added to without a word
            journal.note(variable)
        self._own_variables.append(variable)
        return variable

    def add_weight(
        self, shape: Any = (), initializer: Any = "zeros", dtype: Any = None, name: str | None = None
    ) -> Variable:
        """Make a variable of the state."""
        if isinstance(shape, str):  # Keras 2: add_weight(name, shape, ...)
            name, shape = shape, ()
        return self.add_variable(shape, initializer, dtype, name=name)

    def _add_zeros(self, name: str, shape: Any = ()) -> Variable:
        """A sum or a count: in float64, because float32 stops counting at 2^24."""
        return self.add_variable(shape, "zeros", "float64", name=name)

    @property
    def _compute_dtype(self) -> str:
        """The type that batches are computed in: the result's, or float32 for those that could hold no sum."""
        return "float64" if self._dtype == "float64" else "float32"

    def _as_result(self, value: Any) -> Tensor:
        """What was computed from the state in the metric's own type, as a copy."""
        value = k.xp.asanyarray(value)
        return Tensor(value.copy() if value.dtype == self._dtype else k.cast(value, self._dtype))

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Take a batch into account."""
        raise NotImplementedError(f"{type(self).__name__} does not define update_state(); add a batch there.")

    def result(self) -> Any:
        """The value so far, a tensor."""
        raise NotImplementedError(f"{type(self).__name__} does not define result(); return the value there.")

    def reset_state(self) -> None:
        """Begin anew: all variables become 0."""
        for variable in self.variables:
            variable.data[...] = 0

    def reset_states(self) -> None:
        """`reset_state` under its Keras 2 name."""
        self.reset_state()

    def stateless_update_state(self, metric_variables: Sequence[Any], *args: Any, **kwargs: Any) -> list[Any]:
        """The state after a batch, begun from values of `variables`; the metric itself stays as it is.

        >>> from minikeras import metrics
        >>> metric = metrics.Mean()
        >>> state = metric.stateless_update_state([4.0, 1.0], [2.0])
        >>> float(metric.stateless_result(state)), float(metric.result())
        (3.0, 0.0)
        """
        with substituted("stateless_update_state", self.variables, metric_variables):
            self.update_state(*args, **kwargs)
            return [variable.value for variable in self.variables]

    def stateless_result(self, metric_variables: Sequence[Any]) -> Any:
        """The result for a state, values of `variables`."""
        with substituted("stateless_result", self.variables, metric_variables):
            return tree.map_structure(lambda one: one.value if isinstance(one, Variable) else one, self.result())

    def stateless_reset_state(self) -> list[Any]:
        """The state of a metric that has seen nothing; the metric itself stays as it is."""
        variables = self.variables
        with substituted("stateless_reset_state", variables, [variable.value for variable in variables]):
            self.reset_state()
            return [variable.value for variable in variables]

    @user_facing
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Take a batch into account and return the value so far."""
        self.update_state(*args, **kwargs)
        return self.result()

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype, **super().get_config()}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


def _untracked(value: Any) -> Any:
    """A tensor of the same values that leads to no gradient; of float16 and bfloat16 in float32."""
    if isinstance(value, Tensor):
        if value.data.dtype.char in "eE":
            return Tensor(k.cast(value.data, "float32"))
        return Tensor(value.data) if value.tracked else value
    return ops.convert_to_tensor(value)


# ---------------------------------------------------------------- sums and means


def _add_weighted(total: Any, count: Any, values: Any, sample_weight: Any, mean: bool, dtype: str) -> None:
    """Add values, each times its weight, to arrays without axes; all arguments as in Keras.

    Args:
        count: what the weights are added to, or None.
        mean: whether what a sample has (the axes after the first) is averaged instead of added up.
    """
    weights = combine_weights(sample_weight, getattr(values, "_keras_mask", None), dtype, "sum")
    values = as_type(raw(values), np.dtype(dtype))
    if values.ndim == 0 < weights.ndim:  # one value for the whole batch counts as much as its samples on average
        values, weights = values.reshape(1), (weights.sum() / max(weights.size, 1)).reshape(1)
    if weights.ndim == 0:  # one weight counts for the mean (or sum) of all values
        values, weights = values.reshape(1, -1), weights.reshape(1)
    elif weights.ndim == values.ndim + 1 and weights.shape[-1] == 1:
        weights = weights[..., 0]
    elif values.ndim == weights.ndim + 1 and values.shape[-1] == 1:
        values = values[..., 0]
    leading = values.shape[: weights.ndim]
    if weights.shape != leading:
        check_shapes(weights.shape, leading)
        weights = k.xp.broadcast_to(weights, leading)
    if values.ndim > weights.ndim:
        weights = weights.reshape(leading + (1,) * (values.ndim - weights.ndim))
    k.add_to_mean(total, count, values, weights, values.shape[0] / max(values.size, 1) if mean else 1.0)


class Sum(Metric):
    """The weighted sum of all values.

    Args:
        name, dtype: as for `Metric`.

    >>> from minikeras import metrics
    >>> total = metrics.Sum()
    >>> total.update_state([1.0, 3.0])
    >>> float(total.result())
    4.0
    """

    def __init__(self, name: str | None = "sum", dtype: Any = None):
        super().__init__(dtype, name)
        self.total = self._add_zeros("total")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Add values, each times its weight."""
        total, data = self.total.data, raw(values)
        if sample_weight is not None:
            _add_weighted(total, None, values, sample_weight, False, self._compute_dtype)
        elif isinstance(data, (int, float)):
            total += data
        else:
            k.add_to_mean(total, None, data)

    def result(self) -> Any:
        return self._as_result(self.total.data)


class Mean(Metric):
    """The weighted mean of all values; 0 before the first.

    Args:
        name, dtype: as for `Metric`.

    >>> from minikeras import metrics
    >>> mean = metrics.Mean()
    >>> mean.update_state([1.0, 3.0])
    >>> float(mean.result())
    2.0
    """

    def __init__(self, name: str | None = "mean", dtype: Any = None):
        super().__init__(dtype, name)
        self.total = self._add_zeros("total")
        self.count = self._add_zeros("count")

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        """Count a scalar, or an array (n, ...) as n samples.

        Args:
            sample_weight: a weight for each sample, or for each value.
        """
        data, total, count = raw(values), self.total.data, self.count.data
        if not getattr(data, "ndim", 0) and (sample_weight is None or isinstance(sample_weight, (int, float))):
            times = 1.0 if sample_weight is None else sample_weight  # the samples of a batch, whose loss it is, say
            if isinstance(data, (int, float)):
                total += data * times
                count += times
            else:
                k.add_to_mean(total, count, data, None, times, times)
        elif sample_weight is not None:
            _add_weighted(total, count, values, sample_weight, True, self._compute_dtype)
        elif data.size:
            samples = data.shape[0]
            k.add_to_mean(total, count, data, None, samples / data.size, samples)

    def result(self) -> Any:
        return self._as_result(k.ratio(self.total.data, self.count.data))


class MeanMetricWrapper(Mean):
    """The mean of a function of `(y_true, y_pred)`.

    Args:
        fn: returns one value per sample.
        name, dtype: as for `Metric`.
        kwargs: passed on to `fn`.

    >>> from minikeras import losses, metrics
    >>> metric = metrics.MeanMetricWrapper(losses.mean_squared_error, name="mse")
    >>> float(metric([[0.0, 1.0]], [[2.0, 1.0]]))
    2.0
    """

    _takes_arrays = True  # whether the function may return NumPy's arrays

    def __init__(self, fn: Callable, name: str | None = None, dtype: Any = None, **kwargs: Any):
        super().__init__(name, dtype)
        self._fn = fn
        self._fn_kwargs = kwargs
        if fn in _DOWN or isinstance(fn, losses.Loss):
            self._direction = "down"

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        """Take a batch into account.

        Args:
            y_true, y_pred: targets and predictions; a mask on the predictions leaves elements out.
            sample_weight: a weight for each sample, or for each value of the function.
        """
        mask = getattr(y_pred, "_keras_mask", None)
        values = self._fn(_untracked(y_true), _untracked(y_pred), **self._fn_kwargs)
        if type(values) is not Tensor:
            self._check_values(values)
        super().update_state(values, combine_weights(sample_weight, mask, self.dtype, "sum"))

    def _check_values(self, values: Any) -> None:
        """Refuse what the function returned where it is nothing, or NumPy's in a model that is not run eagerly.

        Raises:
            ValueError: naming this metric.
        """
        if values is None:
            raise ValueError(f"The metric {self.name!r} must return one value per sample, got None; return a tensor.")
        if not self._takes_arrays and isinstance(values, (np.ndarray, np.generic)):
            raise ValueError(
                f"The metric {self.name!r} must return a tensor made by operations of minikeras.ops, got NumPy's "
                f"{type(values).__name__}; write it with minikeras.ops, or compile with run_eagerly=True."
            )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "fn": described(self._fn), **registry.serialize_keras_object(self._fn_kwargs)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Metric:
        return cls(**{**config, "fn": get(config["fn"])} if "fn" in config else config)


class _BuiltInMetric(MeanMetricWrapper):
    """A wrapper of one function, whose options are fields."""

    function: Callable
    hidden: tuple[tuple[str, Any], ...] = ()  # options that Keras does not write, unless they have another value

    def __init__(self, name: str | None = "", dtype: Any = None):
        super().__init__(type(self).function, type(self).function.__name__ if name == "" else name, dtype)

    def __post_init__(self) -> None:
        self._fn_kwargs = {name: getattr(self, name) for name in fields(self) if name not in ("name", "dtype")}

    def get_config(self) -> dict[str, Any]:
        return {key: value for key, value in Metric.get_config(self).items() if (key, value) not in self.hidden}


# ---------------------------------------------------------------- accuracies


def _as_floats(matches: Any) -> Tensor:
    return Tensor(k.cast(matches, settings.floatx()))


def _labels(y_true: Any) -> Any:
    """Class numbers as a raw array; on the host those that are no whole numbers are refused."""
    labels = raw(y_true)
    if labels.dtype.kind == "f" and k.xp is np:
        explain(k.class_numbers(labels, _MANY, -_MANY)[1], functools.partial(whole_labels, labels.view(np.ndarray)))
    return labels


_MANY = 1 << 62  # more than there can be


def accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """1 where prediction and target are equal, else 0."""
    y_true, y_pred = same_rank(_untracked(y_true), _untracked(y_pred))
    return _as_floats(k.equal_matches(raw(y_true), raw(y_pred)))


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Tensor:
    """1 where `y_pred > threshold` is what the target (0 or 1) says, else 0.

    Args:
        y_true: the right values.

    >>> from minikeras import metrics
    >>> metrics.binary_accuracy([[1.0, 0.0]], [[0.9, 0.7]])
    <Tensor shape=(1, 2) dtype=float32>
    array([[1., 0.]], dtype=float32)
    """
    y_true, y_pred = same_rank(_untracked(y_true), _untracked(y_pred))
    return _as_floats(k.threshold_matches(raw(y_true), raw(y_pred), threshold))


def categorical_accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """1 where the largest prediction is at the place of the largest target, else 0: (n, ...) from (n, ..., classes).

    Args:
        y_true: the right values.
        y_pred: the predictions, in the same shape.

    >>> from minikeras import metrics
    >>> metrics.categorical_accuracy([[0, 1], [1, 0]], [[0.2, 0.8], [0.4, 0.6]])
    <Tensor shape=(2,) dtype=float32>
    array([1., 0.], dtype=float32)
    """
    return _as_floats(k.largest_matches(raw(y_true), raw(y_pred)))


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """1 where the largest prediction is at the place that the label names, else 0: (n, ...) from (n, ..., classes).

    Args:
        y_true: the right values.
        y_pred: the predictions, in the same shape.

    >>> from minikeras import metrics
    >>> metrics.sparse_categorical_accuracy([1, 0], [[0.2, 0.8], [0.4, 0.6]])
    <Tensor shape=(2,) dtype=float32>
    array([1., 0.], dtype=float32)
    """
    labels, y_pred = _labels(y_true), raw(y_pred)
    squeezed = labels.ndim == y_pred.ndim and labels.shape[-1] == 1
    matches = k.label_matches(labels[..., 0] if squeezed else labels, y_pred)
    if not squeezed and matches.ndim > 1 and matches.shape[-1] == 1:
        matches = matches[..., 0]
    return _as_floats(matches)


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Tensor:
    """1 where the class of the largest target is among the `k` largest predictions, else 0.

    Args:
        y_true: the right values.
        y_pred: the predictions, in the same shape.

    >>> from minikeras import metrics
    >>> metrics.top_k_categorical_accuracy([[0, 0, 1]], [[0.1, 0.6, 0.3]], k=2)
    <Tensor shape=(1,) dtype=float32>
    array([1.], dtype=float32)
    """
    return sparse_top_k_categorical_accuracy(_places_of_largest(raw(y_true)), y_pred, k)


def _places_of_largest(x: Any) -> Any:
    return k.places_of_largest(x)


def sparse_top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5, from_sorted_ids: bool = False) -> Tensor:
    """1 where the label is among the classes of the `k` largest predictions, else 0.

    With `from_sorted_ids`, `y_pred` holds class numbers, the likeliest first, instead of scores.

    Args:
        y_true: the right values.

    >>> from minikeras import metrics
    >>> metrics.sparse_top_k_categorical_accuracy([2, 0], [[0.1, 0.6, 0.3], [0.1, 0.6, 0.3]], k=2)
    <Tensor shape=(2,) dtype=float32>
    array([1., 0.], dtype=float32)
    """
    labels, y_pred = _labels(y_true), raw(y_pred)
    shape, labels, y_pred = labels.shape, labels.reshape(-1), y_pred.reshape(-1, y_pred.shape[-1])
    if from_sorted_ids:
        return _as_floats((labels[:, None] == y_pred[:, :k]).any(axis=1).reshape(shape))
    return _as_floats(_rank_matches(labels, y_pred, k).reshape(shape))


def _rank_matches(labels: Any, y_pred: Any, count: int) -> Any:
    return k.rank_matches(labels, y_pred, min(count, y_pred.shape[-1]))


Threshold = Annotated[float, Option(lambda value: is_number(value) and math.isfinite(value), "a finite number")]
Count = Annotated[int, Option(lambda value: is_whole(value) and value >= 1, "a whole number of at least 1")]


class Accuracy(_BuiltInMetric):
    """How often predictions equal targets.

    >>> from minikeras import metrics
    >>> float(metrics.Accuracy()([1, 2, 3], [1, 2, 0]))
    0.6666666865348816
    """

    function = staticmethod(accuracy)
    _direction = "up"


@declared
class BinaryAccuracy(_BuiltInMetric):
    """How often `y_pred > threshold` is what the target (0 or 1) says.

    Args:
        name, dtype: as for `Metric`.
        threshold: predictions above it mean 1.

    >>> from minikeras import metrics
    >>> float(metrics.BinaryAccuracy()([[1], [0]], [[0.9], [0.7]]))
    0.5
    """

    function = staticmethod(binary_accuracy)
    _direction = "up"

    name: str | None = "binary_accuracy"
    dtype: Any = None
    threshold: Threshold = 0.5


class CategoricalAccuracy(_BuiltInMetric):
    """How often the largest prediction is at the place of the 1 of a one-hot target.

    >>> from minikeras import metrics
    >>> float(metrics.CategoricalAccuracy()([[0, 1], [1, 0]], [[0.2, 0.8], [0.4, 0.6]]))
    0.5
    """

    function = staticmethod(categorical_accuracy)
    _direction = "up"


class SparseCategoricalAccuracy(_BuiltInMetric):
    """How often the largest prediction is at the place that an integer label names.

    >>> from minikeras import metrics
    >>> float(metrics.SparseCategoricalAccuracy()([1, 0], [[0.2, 0.8], [0.4, 0.6]]))
    0.5
    """

    function = staticmethod(sparse_categorical_accuracy)
    _direction = "up"


@declared
class TopKCategoricalAccuracy(_BuiltInMetric):
    """How often the class of a one-hot target is among the `k` largest predictions.

    Args:
        k: how many predictions count.
        name, dtype: as for `Metric`.

    >>> from minikeras import metrics
    >>> float(metrics.TopKCategoricalAccuracy(k=2)([[0, 0, 1]], [[0.1, 0.6, 0.3]]))
    1.0
    """

    function = staticmethod(top_k_categorical_accuracy)
    _direction = "up"

    k: Count = 5
    name: str | None = "top_k_categorical_accuracy"
    dtype: Any = None


@declared
class SparseTopKCategoricalAccuracy(_BuiltInMetric):
    """How often an integer label is among the `k` largest predictions.

    Args:
        k: how many predictions count.
        name, dtype: as for `Metric`.
        from_sorted_ids: whether predictions are class numbers, the likeliest first.

    >>> from minikeras import metrics
    >>> float(metrics.SparseTopKCategoricalAccuracy(k=2)([2, 0], [[0.1, 0.6, 0.3], [0.1, 0.6, 0.3]]))
    0.5
    """

    function = staticmethod(sparse_top_k_categorical_accuracy)
    _direction = "up"
    hidden = (("from_sorted_ids", False),)

    k: Count = 5
    name: str | None = "sparse_top_k_categorical_accuracy"
    dtype: Any = None
    from_sorted_ids: Switch = False


# ---------------------------------------------------------------- losses as metrics


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Any:
    """The cosine of the angle between the vectors along `axis`: 1 for the same direction, unlike the loss."""
    return -losses.cosine_similarity(y_true, y_pred, axis)


def _deviations(y_true: Any, y_pred: Any, axis: Any) -> tuple[Any, Any, Any]:
    """Targets and predictions less their means along `axis`, and the difference of the means."""
    y_true, y_pred = paired(y_true, y_pred)
    means = [ops.mean(y, axis=axis, keepdims=True) for y in (y_true, y_pred)]
    return y_true - means[0], y_pred - means[1], means[0] - means[1]


@user_facing
def pearson_correlation(y_true: Any, y_pred: Any, axis: Any = -1) -> Any:
    """Pearson's correlation along `axis`: 1 where predictions rise on a line with the targets, -1 where they fall.

    Args:
        y_true, y_pred: targets and predictions of one shape.
        axis: the axis, or a list of axes, of the values that are correlated.

    Returns:
        The covariance divided by both standard deviations; NaN where either is 0.

    >>> from minikeras import metrics
    >>> metrics.pearson_correlation([[1.0, 2.0, 3.0]], [[2.0, 4.0, 6.0]]).numpy().round(4).tolist()
    [1.0]
    """
    true, pred, _ = _deviations(y_true, y_pred, axis)
    spread = ops.sqrt(ops.mean(true * true, axis=axis)) * ops.sqrt(ops.mean(pred * pred, axis=axis))
    return ops.mean(true * pred, axis=axis) / ops.where(spread == 0, math.nan, spread)


@user_facing
def concordance_correlation(y_true: Any, y_pred: Any, axis: Any = -1) -> Any:
    """The concordance of targets and predictions along `axis`: 1 where they are equal (Lin 1989).

    Args:
        y_true, y_pred: targets and predictions of one shape.
        axis: the axis, or a list of axes, of the values that are compared.

    Returns:
        Twice the covariance divided by the sum of both variances and of the squared difference of the means.

    >>> from minikeras import metrics
    >>> round(float(metrics.concordance_correlation([1.0, 2.0, 3.0], [2.0, 3.0, 4.0])), 4)
    0.5714
    """
    true, pred, shift = _deviations(y_true, y_pred, axis)
    spread = ops.mean(true * true + pred * pred + shift * shift, axis=axis)
    return 2 * ops.mean(true * pred, axis=axis) / (spread + settings.epsilon())


class MeanSquaredError(_BuiltInMetric):
    """The mean of `mean_squared_error`.

    >>> from minikeras import metrics
    >>> float(metrics.MeanSquaredError()([[0.0, 1.0]], [[2.0, 1.0]]))
    2.0
    """

    function = staticmethod(mean_squared_error)


class RootMeanSquaredError(Mean):
    """The root of the mean squared error.

    Args:
        name, dtype: as for `Metric`.

    >>> from minikeras import metrics
    >>> float(metrics.RootMeanSquaredError()([[0.0, 0.0]], [[3.0, 4.0]]))
    3.535533905029297
    """

    _direction = "down"

    def __init__(self, name: str | None = "root_mean_squared_error", dtype: Any = None):
        super().__init__(name, dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:  # type: ignore[override]
        """Take a batch into account; `sample_weight` has one weight per sample or per element."""
        y_true, y_pred = same_rank(_untracked(y_true), _untracked(y_pred))
        check_shapes(y_true.shape, y_pred.shape)
        pred, true = (as_type(value.data, np.dtype(self._compute_dtype)) for value in (y_pred, y_true))
        super().update_state(Tensor(k.mean_error(true[..., None], pred[..., None], "squared")), sample_weight)

    def result(self) -> Any:
        return self._as_result(k.xp.sqrt(k.ratio(self.total.data, self.count.data)))


class MeanAbsoluteError(_BuiltInMetric):
    """The mean of `mean_absolute_error`.

    >>> from minikeras import metrics
    >>> float(metrics.MeanAbsoluteError()([[0.0, 1.0]], [[2.0, 1.0]]))
    1.0
    """

    function = staticmethod(mean_absolute_error)


class MeanAbsolutePercentageError(_BuiltInMetric):
    """The mean of `mean_absolute_percentage_error`.

    >>> from minikeras import metrics
    >>> float(metrics.MeanAbsolutePercentageError()([[1.0, 2.0]], [[1.5, 2.0]]))
    25.0
    """

    function = staticmethod(mean_absolute_percentage_error)


class MeanSquaredLogarithmicError(_BuiltInMetric):
    """The mean of `mean_squared_logarithmic_error`.

    >>> from minikeras import metrics
    >>> float(metrics.MeanSquaredLogarithmicError()([[0.0, 1.0]], [[2.0, 1.0]]))
    0.6034743785858154
    """

    function = staticmethod(mean_squared_logarithmic_error)


@declared
class LogCoshError(_BuiltInMetric):
    """The mean of `log_cosh`.

    >>> from minikeras import metrics
    >>> float(metrics.LogCoshError()([[0.0, 1.0]], [[1.0, 1.0]]))
    0.2168903946876526
    """

    function = staticmethod(log_cosh)

    name: str | None = "logcosh"
    dtype: Any = None


@declared
class CosineSimilarity(_BuiltInMetric):
    """The mean cosine of the angle between targets and predictions.

    Args:
        name, dtype: as for `Metric`.
        axis: the axis of the vectors.

    >>> from minikeras import metrics
    >>> float(metrics.CosineSimilarity()([[0.0, 1.0]], [[1.0, 1.0]]))
    0.7071067690849304
    """

    function = staticmethod(cosine_similarity)
    _direction = "up"
    hidden = (("axis", -1),)

    name: str | None = "cosine_similarity"
    dtype: Any = None
    axis: Axis = -1


@declared
class PearsonCorrelation(_BuiltInMetric):
    """The mean of `pearson_correlation`.

    Args:
        name, dtype: as for `Metric`.
        axis: the axis, or a list of axes, of the values that are correlated.

    >>> from minikeras import metrics
    >>> correlation = metrics.PearsonCorrelation()
    >>> float(correlation([[1.0, 2.0, 3.0]], [[3.0, 2.0, 1.0]]))
    -1.0
    """

    function = staticmethod(pearson_correlation)
    _direction = "up"

    name: str | None = "pearson_correlation"
    dtype: Any = None
    axis: Axis = -1


@declared
class ConcordanceCorrelation(_BuiltInMetric):
    """The mean of `concordance_correlation`.

    Args:
        name, dtype: as for `Metric`.
        axis: the axis, or a list of axes, of the values that are compared.

    >>> from minikeras import metrics
    >>> round(float(metrics.ConcordanceCorrelation()([[0.0, 2.0]], [[1.0, 3.0]])), 4)
    0.6667
    """

    function = staticmethod(concordance_correlation)
    _direction = "up"

    name: str | None = "concordance_correlation"
    dtype: Any = None
    axis: Axis = -1


class Hinge(_BuiltInMetric):
    """The mean of `hinge`.

    >>> from minikeras import metrics
    >>> float(metrics.Hinge()([[1.0, -1.0]], [[0.6, 0.4]]))
    0.8999999761581421
    """

    function = staticmethod(hinge)


class SquaredHinge(_BuiltInMetric):
    """The mean of `squared_hinge`.

    >>> from minikeras import metrics
    >>> float(metrics.SquaredHinge()([[1.0, -1.0]], [[0.6, 0.4]]))
    1.059999942779541
    """

    function = staticmethod(squared_hinge)


class CategoricalHinge(_BuiltInMetric):
    """The mean of `categorical_hinge`.

    >>> from minikeras import metrics
    >>> float(metrics.CategoricalHinge()([[0.0, 1.0]], [[0.2, 0.8]]))
    0.3999999761581421
    """

    function = staticmethod(categorical_hinge)


class KLDivergence(_BuiltInMetric):
    """The mean of `kl_divergence`.

    >>> from minikeras import metrics
    >>> float(metrics.KLDivergence()([[0.5, 0.5]], [[0.25, 0.75]]))
    0.14384105801582336
    """

    function = staticmethod(kl_divergence)


class Poisson(_BuiltInMetric):
    """The mean of `poisson`.

    >>> from minikeras import metrics
    >>> float(metrics.Poisson()([[0.0, 1.0]], [[1.0, 2.0]]))
    1.1534264087677002
    """

    function = staticmethod(poisson)


@declared
class BinaryCrossentropy(_BuiltInMetric):
    """The mean of `binary_crossentropy`.

    Args:
        name, dtype: as for `Metric`.
        from_logits, label_smoothing: as for the function.

    >>> from minikeras import metrics
    >>> float(metrics.BinaryCrossentropy()([[0.0], [1.0]], [[0.1], [0.8]]))
    0.16425204277038574
    """

    function = staticmethod(binary_crossentropy)

    name: str | None = "binary_crossentropy"
    dtype: Any = None
    from_logits: Switch = False
    label_smoothing: Share = 0


@declared
class CategoricalCrossentropy(_BuiltInMetric):
    """The mean of `categorical_crossentropy`.

    Args:
        name, dtype: as for `Metric`.
        from_logits, label_smoothing, axis: as for the function.

    >>> from minikeras import metrics
    >>> float(metrics.CategoricalCrossentropy()([[0.0, 1.0]], [[0.2, 0.8]]))
    0.2231435328722
    """

    function = staticmethod(categorical_crossentropy)

    name: str | None = "categorical_crossentropy"
    dtype: Any = None
    from_logits: Switch = False
    label_smoothing: Share = 0
    axis: Axis = -1


@declared
class SparseCategoricalCrossentropy(_BuiltInMetric):
    """The mean of `sparse_categorical_crossentropy`.

    Args:
        name, dtype: as for `Metric`.
        from_logits, ignore_class, axis: as for the function.

    >>> from minikeras import metrics
    >>> float(metrics.SparseCategoricalCrossentropy()([1], [[0.2, 0.8]]))
    0.2231435328722
    """

    function = staticmethod(sparse_categorical_crossentropy)

    name: str | None = "sparse_categorical_crossentropy"
    dtype: Any = None
    from_logits: Switch = False
    ignore_class: ClassNumber = None
    axis: Axis = -1


_DOWN = frozenset(losses.FUNCTIONS.values())


# ---------------------------------------------------------------- true and false positives and negatives


_LOWEST = -1e10  # below every prediction: the threshold and the filler where only the top k count


def _thresholds(thresholds: Any, default: float) -> list[float]:
    values = default if thresholds is None else thresholds
    values = list(values) if isinstance(values, (list, tuple, np.ndarray)) else [values]
    if thresholds is not None:
        wrong = [value for value in values if not (isinstance(value, numbers.Real) and 0 <= float(value) <= 1)]
        if wrong or not values:
            raise ValueError(f"Thresholds must be numbers between 0 and 1, got {thresholds!r}.")
    return values


def _at_least(least: int) -> Check:
    """The check of a whole number of at least `least`, or None."""
    words = f"a whole number of at least {least}"
    return Option(lambda value: value is None or (is_whole(value) and value >= least), words)


@functools.lru_cache(maxsize=256)
def _constants(values: tuple[float, ...], dtype: Any, array_module: Any) -> Any:
    """Numbers as an array of a device, moved there once; nothing changes it."""
    array = array_module.asarray(values, dtype=dtype)
    if array_module is np:
        array.flags.writeable = False
    return array


class _Confusion(Metric):
    """Base of what is computed from true positives (0), false positives (1), true negatives (2) and false negatives (3)
    at each of its `thresholds`."""

    thresholds: Any
    _counts: dict[int, Variable]  # those that are of use, by their number

    def _add_counts(self, shape: Any, names: Mapping[int, str]) -> None:
        """Begin to count, in variables that are attributes too."""
        self._counts = {which: self._add_zeros(name, shape) for which, name in names.items()}
        vars(self).update({name: self._counts[which] for which, name in names.items()})

    def _count(
        self, y_true: Any, y_pred: Any, sample_weight: Any, *, top_k: int | None = None, class_id: int | None = None,
        label_weights: Any = None, by_label: bool = False,
    ) -> None:  # fmt: skip
        """Add the weights of a batch's true and false positives and negatives, of each label if `by_label`."""
        dtype = self._compute_dtype
        y_true, y_pred = same_rank(_untracked(y_true), _untracked(y_pred))
        truth, scores = raw(y_true), as_type(raw(y_pred), np.dtype(dtype))
        if truth.shape != scores.shape:
            raise misfit("Targets and predictions need one shape here", truth, scores)
        if top_k is not None:
            rank = k.xp.argsort(k.xp.argsort(-scores, axis=-1, kind="stable"), axis=-1)
            scores = k.xp.where(rank < top_k, scores, k.xp.full_like(scores, _LOWEST))
        if class_id is not None and (scores.ndim == 1 or class_id >= scores.shape[-1]):
            raise ValueError(f"class_id={class_id} names no class of predictions of shape {tuple(scores.shape)}.")
        weights = None
        if sample_weight is not None:
            given = as_type(raw(sample_weight), np.dtype(dtype))
            weights = given.reshape(given.shape + (1,) * (scores.ndim - given.ndim))
            check_shapes(weights.shape, scores.shape if class_id is None else (*scores.shape[:-1], 1))
        of_labels = None if label_weights is None else _constants(tuple(label_weights), dtype, k.xp)
        counts = tuple([self._counts[which].data if which in self._counts else None for which in range(4)])
        k.add_confusion(counts, truth, scores, weights, of_labels, tuple(self.thresholds), class_id, by_label)


_ALL_FOUR = dict(enumerate(("true_positives", "false_positives", "true_negatives", "false_negatives")))


class _ConfusionCount(_Confusion):
    """One of the four counts, at one or several thresholds.

    Args:
        thresholds: one or several in 0 ... 1, default 0.5; predictions above it are positive.
        name, dtype: as for `Metric`.
    """

    index = 0  # which of the four

    def __init__(self, thresholds: Any = None, name: str | None = None, dtype: Any = None):
        super().__init__(dtype, name)
        self.init_thresholds = thresholds
        self.thresholds = _thresholds(thresholds, 0.5)
        self._add_counts((len(self.thresholds),), {self.index: "accumulator"})

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch."""
        self._count(y_true, y_pred, sample_weight)

    def result(self) -> Any:
        data = self._counts[self.index].data
        return self._as_result(data[0] if len(self.thresholds) == 1 else data)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "thresholds": self.init_thresholds}


class TruePositives(_ConfusionCount):
    """How many positives were predicted positive.

    >>> from minikeras import metrics
    >>> float(metrics.TruePositives()([1, 1, 0], [0.2, 0.9, 0.8]))
    1.0
    """


class FalsePositives(_ConfusionCount):
    """How many negatives were predicted positive.

    >>> from minikeras import metrics
    >>> float(metrics.FalsePositives()([1, 1, 0], [0.2, 0.9, 0.8]))
    1.0
    """

    index = 1


class TrueNegatives(_ConfusionCount):
    """How many negatives were predicted negative.

    >>> from minikeras import metrics
    >>> float(metrics.TrueNegatives()([1, 0, 0], [0.2, 0.3, 0.8]))
    1.0
    """

    index = 2


class FalseNegatives(_ConfusionCount):
    """How many positives were predicted negative.

    >>> from minikeras import metrics
    >>> float(metrics.FalseNegatives()([1, 1, 0], [0.2, 0.9, 0.8]))
    1.0
    """

    index = 3


@declared
class _Share(_Confusion):
    """True positives as a share of themselves and one kind of error.

    Args:
        thresholds: one or several in 0 ... 1, default 0.5; predictions above it are positive.
        top_k: only the k largest predictions of a sample can be positive.
        class_id: only this class counts.
        name, dtype: as for `Metric`.
    """

    _direction = "up"
    error = 0  # which of the four

    thresholds: Any = field(default=None, stored=False)
    top_k: Annotated[int | None, _at_least(1)] = None
    class_id: Annotated[int | None, _at_least(0)] = None
    name: str | None = None
    dtype: Any = None

    def __post_init__(self, thresholds: Any) -> None:  # type: ignore[override]
        self.init_thresholds = thresholds
        self.thresholds = _thresholds(thresholds, 0.5 if self.top_k is None else _LOWEST)
        self._add_counts((len(self.thresholds),), {which: _ALL_FOUR[which] for which in (0, self.error)})

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch."""
        self._count(y_true, y_pred, sample_weight, top_k=self.top_k, class_id=self.class_id)

    def result(self) -> Any:
        right, wrong = (variable.data for variable in self._counts.values())
        share = k.ratio(right, right + wrong)
        return self._as_result(share[0] if len(self.thresholds) == 1 else share)

    def get_config(self) -> dict[str, Any]:
        return in_order({**super().get_config(), "thresholds": self.init_thresholds}, "name", "dtype", "thresholds")


class Precision(_Share):
    """How many of the predicted positives are positive.

    >>> from minikeras import metrics
    >>> float(metrics.Precision()([1, 1, 0], [0.2, 0.9, 0.8]))
    0.5
    """

    error = 1


class Recall(_Share):
    """How many of the positives were predicted positive.

    >>> from minikeras import metrics
    >>> float(metrics.Recall()([1, 1, 0], [0.2, 0.9, 0.8]))
    0.5
    """

    error = 3


def _count_thresholds(number: int) -> None:
    limits.spend(40 * number, f"{number} thresholds")  # a number of Python, and the place of one in a list


class _BestAt(_Confusion):
    """The best of one rate among the thresholds at which another reaches a value.

    Attributes:
        bound, best: the rates, of `_RATES`; the argument that the bound is given by is called `bound`.
    """

    _direction = "up"
    bound, best = "", ""
    num_thresholds = 200
    class_id: int | None = None

    def __post_init__(self) -> None:
        _count_thresholds(self.num_thresholds)
        last = self.num_thresholds - 1
        self.thresholds = [i / last for i in range(last + 1)] if last else [0.5]
        self._add_counts((len(self.thresholds),), _ALL_FOUR)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch."""
        self._count(y_true, y_pred, sample_weight, class_id=self.class_id)

    def _rate(self, name: str) -> Any:
        hits, misses = (self._counts[which].data for which in _RATES[name])
        return k.ratio(hits, hits + misses)

    def result(self) -> Any:
        reached = self._rate(self.bound) >= getattr(self, self.bound)
        return self._as_result((self._rate(self.best) * reached).max())

    def get_config(self) -> dict[str, Any]:
        return in_order(super().get_config(), "name", "dtype", "class_id", "num_thresholds")


# name: (which of the four counts, which counts against it)
_RATES = {"recall": (0, 3), "sensitivity": (0, 3), "specificity": (2, 1), "precision": (0, 1)}


@declared
class SensitivityAtSpecificity(_BestAt):
    """The best sensitivity (recall of the positives) where the specificity (that of the negatives) reaches a value.

    Args:
        specificity: the value, from 0 to 1.
        num_thresholds: how many thresholds from 0 to 1 are tried.
        class_id: only this class counts.
        name, dtype: as for `Metric`.

    >>> from minikeras import metrics
    >>> float(metrics.SensitivityAtSpecificity(0.5)([0, 0, 0, 1, 1], [0.0, 0.3, 0.8, 0.3, 0.8]))
    0.5
    """

    bound, best = "specificity", "sensitivity"

    specificity: Share
    num_thresholds: Count = 200
    class_id: Annotated[int | None, _at_least(0)] = None
    name: str | None = None
    dtype: Any = None


@declared
class SpecificityAtSensitivity(_BestAt):
    """The best specificity (recall of the negatives) where the sensitivity (that of the positives) reaches a value.

    Args:
        sensitivity: the value, from 0 to 1.
        num_thresholds, class_id, name, dtype: as for `SensitivityAtSpecificity`.

    >>> from minikeras import metrics
    >>> round(float(metrics.SpecificityAtSensitivity(0.5)([0, 0, 0, 1, 1], [0.0, 0.3, 0.8, 0.3, 0.8])), 4)
    0.6667
    """

    bound, best = "sensitivity", "specificity"

    sensitivity: Share
    num_thresholds: Count = 200
    class_id: Annotated[int | None, _at_least(0)] = None
    name: str | None = None
    dtype: Any = None


@declared
class PrecisionAtRecall(_BestAt):
    """The best precision where the recall reaches a value.

    Args:
        recall: the value, from 0 to 1.
        num_thresholds, class_id, name, dtype: as for `SensitivityAtSpecificity`.

    >>> from minikeras import metrics
    >>> float(metrics.PrecisionAtRecall(0.5)([0, 0, 0, 1, 1], [0.0, 0.3, 0.8, 0.3, 0.8]))
    0.5
    """

    bound, best = "recall", "precision"

    recall: Share
    num_thresholds: Count = 200
    class_id: Annotated[int | None, _at_least(0)] = None
    name: str | None = None
    dtype: Any = None


@declared
class RecallAtPrecision(_BestAt):
    """The best recall where the precision reaches a value.

    Args:
        precision: the value, from 0 to 1.
        num_thresholds, class_id, name, dtype: as for `SensitivityAtSpecificity`.

    >>> from minikeras import metrics
    >>> float(metrics.RecallAtPrecision(0.8)([0, 0, 1, 1], [0.0, 0.5, 0.3, 0.9]))
    0.5
    """

    bound, best = "precision", "recall"

    precision: Share
    num_thresholds: Count = 200
    class_id: Annotated[int | None, _at_least(0)] = None
    name: str | None = None
    dtype: Any = None


_SEVERAL = Option(lambda value: is_whole(value) and value >= 2, "a whole number of at least 2")
_SUMMATION = OneOf("interpolation", "minoring", "majoring")


@declared
class AUC(_Confusion):
    """The area under a curve through all thresholds.

    Args:
        num_thresholds: how many thresholds approximate the curve.
        curve: `"ROC"` (true over false positive rate), `"PR"` (precision over recall) or `"PRGAIN"`.
        summation_method: `"interpolation"`, `"minoring"` or `"majoring"`: mean, smaller or larger end of a strip.
        name, dtype: as for `Metric`.
        thresholds: the inner thresholds, instead of `num_thresholds`.
        multi_label: whether each label has its own curve, and the result is the mean of their areas.
        num_labels: how many labels there are; default from the first batch.
        label_weights: weights of the labels.
        from_logits: whether predictions are logits.

    >>> from minikeras import metrics
    >>> float(metrics.AUC()([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]))
    0.75
    """

    _direction = "up"

    num_thresholds: int | None = 200
    curve: Annotated[str, Converted(str.upper), OneOf("ROC", "PR", "PRGAIN")] = "ROC"
    summation_method: Annotated[str, Converted(str.lower), _SUMMATION] = "interpolation"
    name: str | None = None
    dtype: Any = None
    thresholds: Any = field(default=None, stored=False)
    multi_label: bool = False
    num_labels: Annotated[int | None, _at_least(1)] = None
    label_weights: Any = None
    from_logits: bool = False

    def __post_init__(self, thresholds: Any) -> None:  # type: ignore[override]
        labels, weights = self.num_labels, self.label_weights
        if labels and not self.multi_label:
            raise ValueError(f"AUC takes num_labels only with multi_label=True, got num_labels={labels}.")
        if weights is not None:
            given = np.ravel(weights).tolist()
            if not all(isinstance(weight, numbers.Real) and 0 <= float(weight) < math.inf for weight in given):
                raise ValueError(f"AUC's label_weights must be numbers of at least 0, got {weights!r}.")
            if labels and len(given) != labels:
                raise ValueError(f"AUC needs {labels} label_weights, one for each label, got {weights!r}.")
        self._inner = None if thresholds is None else sorted(_thresholds(thresholds, 0.5))
        if thresholds is None:
            _SEVERAL(self, "num_thresholds", self.num_thresholds)
        number = self.num_thresholds or 2
        _count_thresholds(number)
        inner = self._inner or [i / (number - 1) for i in range(1, number - 1)]
        self.thresholds = [-settings.epsilon(), *inner, 1 + settings.epsilon()]
        self.num_thresholds = len(self.thresholds)
        self._counts = {}
        if labels or not self.multi_label:
            self._add_counts((self.num_thresholds, labels) if labels else (self.num_thresholds,), _ALL_FOUR)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch."""
        if not self._counts:
            if len(y_pred.shape) != 2:
                raise ValueError(f"AUC with multi_label=True needs predictions (n, labels), got shape {y_pred.shape}.")
            self._add_counts((self.num_thresholds, y_pred.shape[1]), _ALL_FOUR)
        if self.from_logits:
            y_pred = ops.sigmoid(_untracked(y_pred))
        label_weights = None if self.multi_label else self.label_weights
        self._count(y_true, y_pred, sample_weight, label_weights=label_weights, by_label=self.multi_label)

    def result(self) -> Any:
        if not self._counts:
            return Tensor(k.xp.zeros((), self.dtype))
        tp, fp, tn, fn = (variable.data for variable in self._counts.values())
        if self.curve == "PR" and self.summation_method == "interpolation":
            return self._as_result(self._over_labels(_interpolated_precision(tp, fp, fn)))
        if self.curve == "ROC":
            x, y = k.ratio(fp, fp + tn), k.ratio(tp, tp + fn)
        elif self.curve == "PR":
            x, y = k.ratio(tp, tp + fn), k.ratio(tp, tp + fp)
        else:  # Flach and Kull 2015
            odds = k.ratio(tp + fn, tn + fp)
            x = k.xp.maximum((1 - odds * k.ratio(fn, tp)) * (tp != 0), 0)
            y = 1 - odds * k.ratio(fp, tp)
        left, right = y[:-1], y[1:]
        heights = {
            "interpolation": lambda: (left + right) / 2,
            "minoring": lambda: k.xp.minimum(left, right),
            "majoring": lambda: k.xp.maximum(left, right),
        }[self.summation_method]()
        return self._as_result(self._over_labels((x[:-1] - x[1:]) * heights))

    def _over_labels(self, strips: Any) -> Any:
        areas = strips.sum(axis=0)
        if not self.multi_label:
            return areas
        if self.label_weights is None:
            return areas.mean()
        weights = _constants(tuple(self.label_weights), "float64", k.xp)
        return k.ratio((areas * weights).sum(), weights.sum())

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **({} if self._inner is None else {"thresholds": self._inner})}


def _interpolated_precision(tp: Any, fp: Any, fn: Any) -> Any:
    """Strips under the precision-recall curve with true positives linear in all positives (Davis and Goadrich 2006)."""
    positives = tp + fp
    steps = tp[:-1] - tp[1:]
    slope = k.ratio(steps, k.xp.maximum(positives[:-1] - positives[1:], 0))
    intercept = tp[1:] - slope * positives[1:]
    both = (positives[:-1] > 0) & (positives[1:] > 0)
    growth = k.xp.where(both, k.ratio(positives[:-1], positives[1:]), k.xp.ones_like(steps))
    return k.ratio(slope * (steps + intercept * k.xp.log(growth)), tp[1:] + fn[1:])


# ---------------------------------------------------------------- scores of many classes


_BETA = Option(lambda value: is_number(value) and 0 < value < math.inf, "above 0")
_PART = Option(lambda value: value is None or (is_number(value) and 0 < value <= 1), "above 0 and at most 1")


@declared
class FBetaScore(Metric):
    """`(1 + beta**2) * precision * recall / (beta**2 * precision + recall)` for each class.

    Args:
        average: None gives one score per class, `"macro"` their mean, `"weighted"` their mean with the numbers of
            targets as weights, `"micro"` one score over all classes together.
        beta: how many times recall counts more than precision.
        threshold: predictions above it are positive; None takes the largest of each sample.
        name, dtype: as for `Metric`.

    >>> from minikeras import metrics
    >>> metrics.FBetaScore(beta=2.0, threshold=0.5)([[1, 0], [0, 1]], [[0.9, 0.6], [0.2, 0.7]])
    <Tensor shape=(2,) dtype=float32>
    array([0.9999999 , 0.83333325], dtype=float32)
    """

    _direction = "up"

    average: Annotated[str | None, OneOf(None, "micro", "macro", "weighted")] = None
    beta: Annotated[float, _BETA] = 1.0
    threshold: Annotated[float | None, _PART] = None
    name: str | None = "fbeta_score"
    dtype: Any = None

    def __post_init__(self) -> None:
        self._counts: list[Variable] = []

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch of targets and predictions (n, classes)."""
        truth, scores = (as_type(raw(value), np.dtype(self._compute_dtype)) for value in (y_true, y_pred))
        if truth.ndim != 2 or truth.shape != scores.shape:
            raise misfit(f"{type(self).__name__} needs targets and predictions (n, classes)", truth, scores)
        if not self._counts:
            shape = () if self.average == "micro" else (scores.shape[1],)
            names = ("true_positives", "false_positives", "false_negatives", "intermediate_weights")
            self._counts = [self._add_zeros(name, shape) for name in names]
        if self.threshold is None:
            chosen = (scores >= scores.max(axis=-1, keepdims=True)) & (k.xp.abs(scores) > 1e-9)
        else:
            chosen = scores > self.threshold
        weights: Any = 1
        if sample_weight is not None:
            weights = as_type(raw(sample_weight), np.dtype(self._compute_dtype)).reshape(-1, 1)
        axis = None if self.average == "micro" else 0
        parts = (chosen * truth, chosen * (1 - truth), ~chosen * truth, truth)
        for variable, part in zip(self._counts, parts, strict=True):
            variable.data += (part * weights).sum(axis=axis, dtype="float64")

    def result(self) -> Any:
        if not self._counts:
            return Tensor(k.xp.zeros((), self.dtype))
        tp, fp, fn, support = (variable.data for variable in self._counts)
        small, square = settings.epsilon(), self.beta**2
        precision, recall = tp / (tp + fp + small), tp / (tp + fn + small)
        score = (1 + square) * (precision * recall / (square * precision + recall + small))
        if self.average == "weighted":
            score = (score * (support / (support.sum() + small))).sum()
        elif self.average is not None:
            score = score.mean()
        return self._as_result(score)


class F1Score(FBetaScore):
    """`2 * precision * recall / (precision + recall)` for each class.

    Args:
        average, threshold: as for `FBetaScore`.
        name, dtype: as for `Metric`.

    >>> from minikeras import metrics
    >>> metrics.F1Score(threshold=0.5)([[1, 0], [0, 1]], [[0.9, 0.6], [0.2, 0.7]])
    <Tensor shape=(2,) dtype=float32>
    array([0.9999998 , 0.66666657], dtype=float32)
    """

    def __init__(
        self, average: str | None = None, threshold: float | None = None, name: str | None = "f1_score",
        dtype: Any = None,
    ):  # fmt: skip
        super().__init__(average, 1.0, threshold, name, dtype)

    def get_config(self) -> dict[str, Any]:
        return {key: value for key, value in super().get_config().items() if key != "beta"}


@declared
class R2Score(Metric):
    """The coefficient of determination, 1 minus the squared error as a share of the variance.

    Args:
        class_aggregation: `"uniform_average"` over the outputs, `"variance_weighted_average"`, or None: one score each.
        num_regressors: how many variables explain the targets; above 0 the score is adjusted for them.
        name, dtype: as for `Metric`.

    >>> from minikeras import metrics
    >>> float(metrics.R2Score()([[1.0], [2.0], [4.0]], [[1.0], [2.0], [3.0]]))
    0.7857142686843872
    """

    _direction = "up"

    class_aggregation: Annotated[Any, OneOf("uniform_average", "variance_weighted_average", None)] = "uniform_average"
    num_regressors: Annotated[int, _at_least(0)] = 0
    name: str | None = "r2_score"
    dtype: Any = None

    def __post_init__(self) -> None:
        self.num_samples = self._add_zeros("num_samples")
        self._sums: list[Variable] = []

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch of targets and predictions (n, outputs)."""
        y_true, y_pred = same_rank(_untracked(y_true), _untracked(y_pred))
        # the variance is a difference of large sums, so their parts too need all digits
        truth, predicted = (as_type(raw(value), np.dtype("float64")) for value in (y_true, y_pred))
        if truth.ndim != 2 or truth.shape != predicted.shape:
            raise misfit("R2Score needs targets and predictions (n, outputs)", truth, predicted)
        if not self._sums:
            names = ("squared_sum", "sum", "residual", "count")
            self._sums = [self._add_zeros(name, truth.shape[1:]) for name in names]
        error = truth - predicted
        sums = [truth * truth, truth, error * error]
        if sample_weight is None:
            self._sums[3].data += len(truth)
        else:
            weights = as_type(raw(sample_weight), np.dtype("float64"))
            weights = k.xp.broadcast_to(weights[:, None] if weights.ndim == 1 else weights, truth.shape)
            sums = [*[part * weights for part in sums], weights]
        for variable, part in zip(self._sums, sums, strict=False):
            variable.data += part.sum(axis=0)
        self.num_samples.data += truth.size

    def result(self) -> Any:
        if not self._sums:
            return Tensor(k.xp.zeros((), self.dtype))
        squares, total, residual, count = (variable.data for variable in self._sums)
        variance = squares - total * k.ratio(total, count)
        scores = 1 - k.ratio(residual, variance)
        scores = k.xp.where((variance == 0) & (residual != 0), k.xp.zeros_like(scores), scores)
        if self.class_aggregation == "uniform_average":
            scores = scores.mean()
        elif self.class_aggregation is not None:
            spread = variance.sum()  # targets that never change: 1 where each was predicted exactly, else 0
            scores = k.xp.where(spread == 0, scores.min(), k.ratio((variance * scores).sum(), spread))
        if self.num_regressors:
            freedom = float(self.num_samples.data) - self.num_regressors - 1
            if freedom > 0:
                return self._as_result(1 - (1 - scores) * ((float(self.num_samples.data) - 1) / freedom))
            warnings.warn(
                f"R2Score cannot be adjusted for {self.num_regressors} regressors with only "
                f"{int(self.num_samples.data)} values; the plain score is returned.",
                stacklevel=2,
            )
        return self._as_result(scores)


# ---------------------------------------------------------------- overlap of classes


def _targets_of(metric: Any, name: str, value: Any) -> list[int]:
    """The check of a list of class numbers."""
    if not (isinstance(value, (list, tuple, range, np.ndarray)) and len(value) and all(map(is_whole, value))):
        raise ValueError(f"{type(metric).__name__}'s {name} must be a list of class numbers, got {value!r}.")
    return [int(one) for one in value]


class _Overlap(Metric):
    """Base of the mean intersection over union: of each class the elements that targets and predictions share, as a
    part of those that either has.

    A class that neither has is left out of the mean.  Elements whose target or prediction is no class number below
    `num_classes`, or whose target is `ignore_class`, are not counted.
    """

    _direction = "up"
    num_classes = 2
    target_class_ids: Any = None  # None: all of them
    ignore_class: int | None = None
    sparse_y_true = sparse_y_pred = True
    axis = -1

    def __init__(self, name: str | None = None, dtype: Any = None):
        super().__init__("int32" if dtype is None else dtype, name)

    def __post_init__(self) -> None:
        strange = [one for one in self.target_class_ids or [] if not 0 <= one < self.num_classes]
        if strange:
            raise ValueError(
                f"{type(self).__name__}'s target_class_ids must lie between 0 and {self.num_classes - 1} for "
                f"{self.num_classes} classes, got {strange[0]}."
            )
        self.total_cm = self._add_zeros("total_confusion_matrix", (self.num_classes, self.num_classes))

    def _classes(self, values: Any, sparse: bool) -> Any:
        """Class numbers as a raw array, from these or from scores along `axis`; on the host others are refused."""
        values = raw(_untracked(values))
        if not sparse:
            return values.argmax(self.axis)
        numbers = values.astype("int64")
        if k.xp is np and (numbers != values).any():
            raise ValueError(
                f"{type(self).__name__} counts class numbers, got {values[numbers != values][0]}; scores along an axis "
                "of classes go with sparse_y_true=False or sparse_y_pred=False."
            )
        return numbers

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch; `sample_weight` has one weight for each sample or for each element."""
        truth, found = self._classes(y_true, self.sparse_y_true), self._classes(y_pred, self.sparse_y_pred)
        if truth.size != found.size:
            raise misfit(f"{type(self).__name__} needs as many targets as predictions", truth, found)
        weights = k.xp.ones((1,) * truth.ndim)
        if sample_weight is not None:
            given = as_type(raw(sample_weight), "float64")
            weights = given.reshape(given.shape + (1,) * (truth.ndim - given.ndim))
            check_shapes(weights.shape, truth.shape)
        weights = k.xp.broadcast_to(weights, truth.shape).reshape(-1)
        truth, found, size = truth.reshape(-1), found.reshape(-1), self.num_classes
        counted = (truth >= 0) & (truth < size) & (found >= 0) & (found < size)
        if self.ignore_class is not None:
            counted &= truth != self.ignore_class
        places = k.xp.where(counted, size * truth + found, 0)
        k.xp.add.at(self.total_cm.data.reshape(-1), places, (weights * counted).astype(self.total_cm.data.dtype))

    def result(self) -> Any:
        matrix = self.total_cm.data
        both = matrix.diagonal()
        either = matrix.sum(axis=0) + matrix.sum(axis=1) - both
        if self.target_class_ids is not None:
            chosen = _constants(tuple(self.target_class_ids), "int64", k.xp)
            both, either = both[chosen], either[chosen]
        mean = k.ratio(both, either).sum() / k.xp.maximum((either > 0).sum(), 1)
        return Tensor(k.xp.array(mean, dtype="float64" if self._dtype == "float64" else "float32"))

    def get_config(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in fields(self)}


@declared
class IoU(_Overlap):
    """The mean intersection over union of some classes.

    `true positives / (true positives + false positives + false negatives)`, the mean over the classes that occur.

    Args:
        num_classes: how many classes there are.
        target_class_ids: the numbers of the classes whose mean is taken.
        name, dtype: as for `Metric`.
        ignore_class: a target that counts for nothing, such as 255 for unlabelled pixels.
        sparse_y_true, sparse_y_pred: whether these are class numbers; else scores, the largest of which counts.
        axis: of the scores.

    >>> from minikeras import metrics
    >>> round(float(metrics.IoU(2, [0])([0, 0, 1, 1], [0, 1, 0, 1])), 4)
    0.3333
    """

    num_classes: Count
    target_class_ids: Annotated[Any, _targets_of]
    name: str | None = None
    dtype: Any = None
    ignore_class: ClassNumber = None
    sparse_y_true: Switch = True
    sparse_y_pred: Switch = True
    axis: Annotated[int, Whole()] = -1

    def get_config(self) -> dict[str, Any]:
        return in_order(super().get_config(), "name", "dtype")


@declared
class BinaryIoU(_Overlap):
    """The mean intersection over union of two classes, 1 being where a prediction reaches a threshold.

    Args:
        target_class_ids: the classes, of 0 and 1, whose mean is taken.
        threshold: predictions of at least this mean 1.
        name, dtype: as for `Metric`.

    >>> from minikeras import metrics
    >>> round(float(metrics.BinaryIoU(threshold=0.3)([0, 1, 0, 1], [0.1, 0.2, 0.4, 0.7])), 4)
    0.3333
    """

    target_class_ids: Annotated[Any, _targets_of] = (0, 1)
    threshold: Threshold = 0.5
    name: str | None = None
    dtype: Any = None

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch; `sample_weight` has one weight for each sample or for each element."""
        super().update_state(y_true, Tensor(raw(_untracked(y_pred)) >= self.threshold), sample_weight)


@declared
class MeanIoU(_Overlap):
    """The mean intersection over union of all classes.

    Args:
        num_classes, name, dtype, ignore_class, sparse_y_true, sparse_y_pred, axis: as for `IoU`.

    >>> from minikeras import metrics
    >>> round(float(metrics.MeanIoU(2)([0, 0, 1, 1], [0, 1, 0, 1])), 4)
    0.3333
    """

    num_classes: Count
    name: str | None = None
    dtype: Any = None
    ignore_class: ClassNumber = None
    sparse_y_true: Switch = True
    sparse_y_pred: Switch = True
    axis: Annotated[int, Whole()] = -1


@declared
class OneHotIoU(_Overlap):
    """The mean intersection over union of some classes, of one-hot targets.

    Args:
        num_classes, target_class_ids, name, dtype, ignore_class, sparse_y_pred, axis: as for `IoU`.

    >>> from minikeras import metrics
    >>> float(metrics.OneHotIoU(2, [1])([[1, 0], [0, 1]], [[0.7, 0.3], [0.6, 0.4]]))
    0.0
    """

    sparse_y_true = False

    num_classes: Count
    target_class_ids: Annotated[Any, _targets_of]
    name: str | None = None
    dtype: Any = None
    ignore_class: ClassNumber = None
    sparse_y_pred: Switch = False
    axis: Annotated[int, Whole()] = -1


@declared
class OneHotMeanIoU(_Overlap):
    """The mean intersection over union of all classes, of one-hot targets.

    Args:
        num_classes, name, dtype, ignore_class, sparse_y_pred, axis: as for `IoU`.

    >>> from minikeras import metrics
    >>> float(metrics.OneHotMeanIoU(2)([[1, 0], [0, 1]], [[0.7, 0.3], [0.6, 0.4]]))
    0.25
    """

    sparse_y_true = False

    num_classes: Count
    name: str | None = None
    dtype: Any = None
    ignore_class: ClassNumber = None
    sparse_y_pred: Switch = False
    axis: Annotated[int, Whole()] = -1


# ---------------------------------------------------------------- names

CLASSES = [
    one
    for name, one in globals().items()
    if isinstance(one, type) and issubclass(one, Metric) and one is not Metric and name[0] != "_"
]
mse = MSE = mean_squared_error
mae = MAE = mean_absolute_error
mape = MAPE = mean_absolute_percentage_error
msle = MSLE = mean_squared_logarithmic_error
kld = KLD = kullback_leibler_divergence = kl_divergence
logcosh = log_cosh
huber = losses.huber
binary_focal_crossentropy = losses.binary_focal_crossentropy
categorical_focal_crossentropy = losses.categorical_focal_crossentropy

_ALIASES = {
    "acc": Accuracy,
    "bce": BinaryCrossentropy,
    "mse": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "mape": MeanAbsolutePercentageError,
    "msle": MeanSquaredLogarithmicError,
    "kld": KLDivergence,
}

# every name that a user or a file may use; a loss that is no metric of its own is averaged as it is
ALL: dict[str, Any] = {
    **losses.FUNCTIONS,
    **{snake_case(cls.__name__): cls for cls in CLASSES},
    **{cls.__name__: cls for cls in CLASSES},
    **_ALIASES,
    **{name.upper(): cls for name, cls in _ALIASES.items()},
    **{"logcosh": LogCoshError, "kullback_leibler_divergence": KLDivergence},  # Keras 2 had these
    **{"cosine": losses.cosine_similarity, "cosine_proximity": losses.cosine_similarity},
}
registry.builtin("keras.metrics", *CLASSES)
registry.builtin_functions({name: one for name, one in globals().items() if name.endswith(("accuracy", "correlation"))})


def resolve_accuracy(y_true_shape: Sequence[Any], y_pred_shape: Sequence[Any], kind: str = "accuracy") -> Any:
    """What `"accuracy"` (a metric class) or `"crossentropy"` (a loss function) means for these shapes, batch included.

    One output is binary; targets with fewer axes, or a last axis of size 1, are integer labels; others are one-hot.
    """
    choices = {
        "accuracy": (BinaryAccuracy, SparseCategoricalAccuracy, CategoricalAccuracy),
        "crossentropy": (binary_crossentropy, sparse_categorical_crossentropy, categorical_crossentropy),
    }[one_of("The kind", kind, ("accuracy", "crossentropy"))]
    if len(y_pred_shape) < 2 or y_pred_shape[-1] == 1:
        return choices[0]
    return choices[1 if len(y_true_shape) < len(y_pred_shape) or y_true_shape[-1] == 1 else 2]


@user_facing
def get(identifier: Any) -> Any:
    """A metric from its name, class, description or any callable (a function is returned as it is); None stays None.

    Args:
        identifier: a name, a configuration, an object, or None.

    Raises:
        ValueError: for an unknown name, with the nearest known one.

    >>> from minikeras import metrics
    >>> metrics.get("mae").name
    'mean_absolute_error'
    """
    if isinstance(identifier, dict):  # a bare class name is a metric's, not the loss's of the same name
        identifier = {"module": "keras.metrics", **identifier}
    return registry.get("metric", identifier, ALL)


def serialize(metric: Any) -> Any:
    """The description of a metric; a function's is its name.

    >>> from minikeras import metrics
    >>> metrics.serialize(metrics.AUC())["class_name"]
    'AUC'
    """
    return registry.serialize_keras_object(metric)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The metric that a name or description describes; `custom_objects` maps further names to classes and functions.

    >>> from minikeras import metrics
    >>> metrics.deserialize({"class_name": "AUC", "config": {"curve": "PR"}}).curve
    'PR'
    """
    with registry.custom_object_scope(custom_objects):
        return get(config)


_OWNERS = "minikeras.metrics", "minikeras.losses"
offer_names(__name__, owners=_OWNERS, hidden=f"{losses.FOR_METRICS} resolve_accuracy")
