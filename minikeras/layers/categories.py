"""Categories as vectors, and numbers as categories."""

from __future__ import annotations

import math
from functools import partial
from typing import Annotated, Any

import numpy as np

from minikeras import kernels as k
from minikeras import ops
from minikeras.autodiff.op import operation
from minikeras.autodiff.symbolic import KerasTensor
from minikeras.declared import Check, Number, Whole
from minikeras.kernels.arena import explain, fixed
from minikeras.layers.fields import declared
from minikeras.layers.host import batches, on_host
from minikeras.layers.layer import Layer
from minikeras.ops.common import as_array
from minikeras.utils.checks import one_of, shown

_OLDER_MODES = {"binary": "multi_hot", "tf-idf": "tf_idf"}


def mode(*modes: str) -> Check:
    """The check of an `output_mode`; older names of modes are taken too."""
    return lambda layer, name, value: one_of(name, _OLDER_MODES.get(value, value), modes, owner=type(layer).__name__)


def _dense(layer: Any, name: str, value: Any) -> bool:
    if value:
        raise ValueError(f"{type(layer).__name__} has dense outputs, got {name}={value!r}; leave it at False.")
    return False


OnlyDense = Annotated[bool, _dense]


def categorical_shape(shape: Any, output_mode: str, depth: int | None) -> tuple[Any, ...]:
    """The shape of `categorical` for indices of this one."""
    if output_mode == "one_hot":
        return (*(shape[:-1] if len(shape) > 1 and shape[-1] == 1 else shape), depth)
    return tuple(shape) if output_mode == "int" else (*shape[:-1], depth)


def categorical(xp: Any, indices: Any, output_mode: str, depth: int, dtype: Any) -> Any:
    """Indices in one of the forms that layers give them: `"int"`, `"one_hot"`, or the last axis together as one vector.

    Args:
        xp: the array module.
        indices: an array of integers; those outside of 0 to `depth - 1` are left out of vectors.
        output_mode: `"multi_hot"`: 1 where an index is there; `"count"`: how often it is.
        depth: entries of a vector.
        dtype: of the result.
    """
    shape = categorical_shape(indices.shape, output_mode, depth)
    if output_mode == "int":
        return indices.astype(dtype)
    if output_mode == "one_hot":
        return (indices.reshape(*shape[:-1], 1) == fixed(xp.arange(depth))).astype(dtype)
    rows = indices.reshape(math.prod(shape[:-1]), indices.shape[-1] if indices.ndim else 1)
    places = (xp.arange(len(rows))[:, None] * depth + rows)[(rows >= 0) & (rows < depth)]
    if output_mode == "count":
        return xp.bincount(places, minlength=len(rows) * depth).astype(dtype).reshape(shape)
    vectors = xp.zeros(len(rows) * depth, dtype)
    vectors[places] = 1
    return vectors.reshape(shape)


@operation(inputs=1)
def _categorical(values: Any, output_mode: str, depth: int, dtype: Any) -> Any:
    values = as_array(values)
    indices, wrong = k.class_numbers(values, depth)
    explain(wrong, partial(_check_numbers, values, depth))
    return categorical(k.xp, indices, output_mode, depth, dtype)


def _check_numbers(values: Any, depth: int) -> None:
    host = k.to_host(values).view(np.ndarray)
    wrong = host[~((host >= 0) & (host < depth) & (host == np.floor(host)))]
    if wrong.size:
        raise ValueError(
            f"CategoryEncoding takes whole numbers from 0 to {depth - 1}, got {wrong[0]}; let num_tokens be larger, or "
            "use an IntegerLookup."
        )


@declared
class CategoryEncoding(Layer):
    """Integers 0 to `num_tokens - 1` as vectors of that many entries.

    Args:
        num_tokens: how many categories there are.
        output_mode: `"multi_hot"` (default): the last axis together as a vector with a 1 for each that is there;
            `"count"`: how often it is; `"one_hot"`: each integer as a vector, in the place of a last axis of size 1.
        sparse: only False.

    Call arguments:
        inputs: integers.
        count_weights: for `"count"`, of the shape of the inputs: what each counts, default 1.

    Raises:
        ValueError: for integers out of range.

    Example:
        >>> from minikeras import layers
        >>> layers.CategoryEncoding(num_tokens=4, output_mode="multi_hot")([[0, 1], [0, 0], [1, 3]]).tolist()
        [[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.0]]
    """

    num_tokens: Annotated[Any, Whole(1)] = None
    output_mode: Annotated[str, mode("multi_hot", "count", "one_hot")] = "multi_hot"
    sparse: OnlyDense = False

    def compute_output_shape(self, input_shape: Any) -> Any:
        return categorical_shape(input_shape, self.output_mode, self.num_tokens)

    def call(self, inputs: Any, count_weights: Any = None) -> Any:
        if count_weights is None:
            return _categorical(inputs, self.output_mode, self.num_tokens, self.compute_dtype)
        if self.output_mode != "count":
            raise ValueError(f"CategoryEncoding takes count_weights for 'count', got them for {self.output_mode!r}.")
        vectors = _categorical(ops.expand_dims(inputs, -1), "one_hot", self.num_tokens, self.compute_dtype)
        return ops.sum(vectors * ops.expand_dims(ops.cast(count_weights, self.compute_dtype), -1), axis=-2)


@declared
class Discretization(Layer):
    """Numbers to the bins that they fall in: boundaries 0 and 1 make the bins below 0, from 0 to below 1, and the rest.

    Args:
        bin_boundaries: the boundaries, ascending.
        num_bins: instead of them, how many bins `adapt` is to make, with about as many values in each.
        epsilon: for `adapt`: how exact quantiles are, a share of the values; less takes more memory.
        output_mode: `"int"`: the bins, int32; `"one_hot"`, `"multi_hot"`, `"count"`: as for `CategoryEncoding`.
        sparse: only False.

    Raises:
        ValueError: where neither or both of `bin_boundaries` and `num_bins` are given.

    Example:
        >>> from minikeras import layers
        >>> layers.Discretization([0.0, 1.0, 2.0])([[-1.5, 1.0, 3.4, 0.5], [0.0, 3.0, 1.3, 0.0]]).tolist()
        [[0, 2, 3, 1], [1, 3, 2, 1]]
    """

    bin_boundaries: Annotated[Any, lambda layer, name, value: _boundaries(value)] = None
    num_bins: Annotated[Any, Whole(1, optional=True)] = None
    epsilon: Annotated[float, Number(above=0)] = 0.01
    output_mode: Annotated[str, mode("int", "one_hot", "multi_hot", "count")] = "int"
    sparse: OnlyDense = False

    def __post_init__(self) -> None:
        if (self.num_bins is None) == (self.bin_boundaries is None):
            given = f"bin_boundaries={shown(self.bin_boundaries)} and num_bins={self.num_bins}"
            raise ValueError(f"Discretization takes bin_boundaries or num_bins, got {given}.")

    def adapt(self, data: Any, steps: int | None = None) -> None:
        """Learn boundaries from data, which replace those learned before: the quantiles of its values.

        They are found in a summary of `1 / epsilon` values at most, which each batch is merged into, as in Keras.

        Args:
            data: an array, a list of numbers, or an iterable of batches.
            steps: number of batches to take, default all.

        Raises:
            ValueError: where the layer was given its boundaries, and where there is no data.
        """
        if self.num_bins is None:
            self._refuse("has bin_boundaries; adapt() needs num_bins instead")
        summary = np.zeros((2, 0), "float32")
        for batch in batches(self, data, steps, lists=True):
            values = np.sort(np.ravel(on_host(batch)).astype("float32"))
            if not np.isfinite(values).all():
                self._refuse("learns from finite numbers, got NaN or infinity")
            if values.size:
                step = max(values.size / (1 / self.epsilon), 1)
                some = values[int(step - 1) :: int(step)]  # of which each stands for so many
                both = np.concatenate([np.stack([some, np.full_like(some, step)]), summary], axis=1)
                summary = _compressed(both[:, np.argsort(both[0])], self.epsilon)
        if not summary.size:
            self._refuse("learns from at least one value, got none")
        self.bin_boundaries = _compressed(summary, 1 / self.num_bins)[0, :-1].tolist()

    def compute_output_spec(self, inputs: Any) -> KerasTensor:
        dtype = "int32" if self.output_mode == "int" else self.compute_dtype
        return KerasTensor(self.compute_output_shape(inputs.shape), dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        depth = self.num_bins if self.bin_boundaries is None else len(self.bin_boundaries) + 1
        return categorical_shape(input_shape, self.output_mode, depth)

    def call(self, inputs: Any) -> Any:
        if self.bin_boundaries is None:
            self._refuse("has no boundaries yet; call adapt(data) first")
        bins = ops.digitize(inputs, fixed(k.to_device(np.asarray(self.bin_boundaries, self._compute_type))))
        if self.output_mode == "int":
            return bins
        return _categorical(bins, self.output_mode, len(self.bin_boundaries) + 1, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "dtype": self.dtype}
        del config["trainable"]  # Keras does not take it
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        learned = config.get("num_bins") is not None
        layer = super().from_config({**config, "bin_boundaries": None} if learned else config)
        if learned:
            layer.bin_boundaries = _boundaries(config.get("bin_boundaries"))
        return layer


def _boundaries(value: Any) -> list[float] | None:
    found = np.asarray([] if value is None else on_host(value), "float64")
    if found.ndim != 1 or not np.isfinite(found).all() or (np.diff(found) < 0).any():
        raise ValueError(f"Discretization's bin_boundaries must be finite numbers, ascending, got {shown(value)}.")
    return None if value is None else found.tolist()


def _compressed(summary: np.ndarray, epsilon: float) -> np.ndarray:
    """Of sorted values and what each weighs: `1 / epsilon` values in between; a smaller summary stays as it is."""
    if summary.shape[1] * epsilon < 1:
        return summary
    shares = epsilon + np.arange(0.0, 1.0, epsilon)
    weights = summary[1].cumsum()
    values = np.interp(shares, weights / weights[-1], summary[0])
    weights = np.interp(shares, weights / weights[-1], weights)
    return np.stack([values, np.diff(weights, prepend=0)]).astype("float32")
