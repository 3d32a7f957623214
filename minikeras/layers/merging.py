"""Several inputs to one: sums, products, extremes, concatenation, dot products."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from minikeras import config, ops
from minikeras.layers.common import axis_of
from minikeras.layers.fields import Axis, declared
from minikeras.layers.layer import Layer
from minikeras.layers.normalization import normalize


class Merge(Layer):
    """Elementwise merging of a list of inputs, which broadcast with each other.

    Inputs of lower rank get axes of size 1 after the batch axis.  The output is masked where all inputs are; an input
    without a mask counts as not masked.
    """

    supports_masking = True

    def build(self, input_shape: Any) -> None:
        self.compute_output_shape(input_shape)

    def call(self, inputs: Any) -> Any:
        return self._merge(self._same_rank(inputs))

    def _merge(self, inputs: list[Any]) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define _merge(inputs); write its mathematics there.")

    def _same_rank(self, values: Sequence[Any]) -> list[Any]:
        rank = max(value.ndim for value in values)
        return [value if value.ndim == rank else ops.reshape(value, _with_ones(value.shape, rank)) for value in values]

    def compute_output_shape(self, input_shape: Any) -> Any:
        shapes = self._shapes(input_shape)
        rank = max(len(shape) for shape in shapes)
        batches, *columns = zip(*[_with_ones(shape, rank) for shape in shapes], strict=True)
        known = [{size for size in column if size not in (None, 1)} for column in columns]
        if len(set(batches) - {None}) > 1 or any(len(sizes) > 1 for sizes in known):
            raise self._mismatch(shapes, "of one batch size that are equal, or 1, along every other axis")
        merged = [None if None in column else max(column) for column in columns]
        return (max((size for size in batches if size is not None), default=None), *merged)

    def _shapes(self, input_shape: Any) -> list[tuple]:
        """The shapes of the inputs, or a sentence where there is no list of them."""
        if not input_shape or not isinstance(input_shape[0], (list, tuple)):
            self._refuse(f"takes a list of inputs, got shape {input_shape}")
        return [tuple(shape) for shape in input_shape]

    def _mismatch(self, shapes: list[tuple], wanted: str) -> ValueError:
        return ValueError(f"{type(self).__name__} {self.name!r} needs inputs of shapes {wanted}, got {shapes}.")

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        if mask is None or any(one is None for one in self._masks(inputs, mask)):
            return None
        return functools.reduce(ops.logical_or, mask)

    def _masks(self, inputs: Any, masks: Any) -> Any:
        """The masks, one for each input, or a sentence where they are not."""
        lists = isinstance(inputs, (list, tuple)) and isinstance(masks, (list, tuple))
        if not lists or len(inputs) != len(masks):
            raise ValueError(
                f"{type(self).__name__} {self.name!r} takes a list of inputs and a list of as many masks, got "
                f"{inputs!r:.80} and {masks!r:.80}."
            )
        return masks

    def _attach_symbolic_mask(self, inputs: Any, outputs: Any, previous_mask: Any) -> None:
        if previous_mask is not None:  # without masks there is none, which need not be found by running on zeros
            super()._attach_symbolic_mask(inputs, outputs, previous_mask)


class Add(Merge):
    """The sum of the inputs.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Add()([np.array([1.0, 2.0]), np.array([3.0, 4.0])])
    <Tensor shape=(2,) dtype=float32>
    array([4., 6.], dtype=float32)
    """

    def _merge(self, inputs: list[Any]) -> Any:
        return functools.reduce(ops.add, inputs)


class Subtract(Merge):
    """The first of two inputs minus the second.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Subtract()([np.array([1.0, 2.0]), np.array([3.0, 4.0])])
    <Tensor shape=(2,) dtype=float32>
    array([-2., -2.], dtype=float32)
    """

    def compute_output_shape(self, input_shape: Any) -> Any:
        if len(self._shapes(input_shape)) != 2:
            self._refuse(f"takes two inputs, got {len(input_shape)}")
        return super().compute_output_shape(input_shape)

    def _merge(self, inputs: list[Any]) -> Any:
        return ops.subtract(*inputs)


class Multiply(Merge):
    """The product of the inputs; a masked factor counts as 1, and where all are masked the product is 0.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Multiply()([np.array([1.0, 2.0]), np.array([3.0, 4.0])])
    <Tensor shape=(2,) dtype=float32>
    array([3., 8.], dtype=float32)
    """

    def call(self, inputs: Any, mask: Any = None) -> Any:
        if mask is None:
            return super().call(inputs)
        masks = [None if one is None else ops.expand_dims(one, -1) for one in mask]
        factors = [x if one is None else ops.where(one, x, 1) for x, one in zip(inputs, masks, strict=True)]
        product = super().call(factors)
        if None in masks:
            return product
        return ops.where(functools.reduce(ops.logical_or, self._same_rank(masks)), product, 0)

    def _merge(self, inputs: list[Any]) -> Any:
        return functools.reduce(ops.multiply, inputs)


class Average(Merge):
    """The mean of the inputs.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Average()([np.array([1.0, 2.0]), np.array([3.0, 4.0])])
    <Tensor shape=(2,) dtype=float32>
    array([2., 3.], dtype=float32)
    """

    def _merge(self, inputs: list[Any]) -> Any:
        return ops.divide(functools.reduce(ops.add, inputs), float(len(inputs)))


class Extreme(Merge):
    """What `Maximum` and `Minimum` share: where one of two inputs is masked, the other one counts."""

    _choose: Callable

    def call(self, inputs: Any, mask: Any = None) -> Any:
        if mask is None:
            return super().call(inputs)
        values = self._same_rank(inputs)
        masks = [None if one is None else ops.expand_dims(one, -1) for one in mask]
        best, known = values[0], masks[0]
        for value, valid in zip(values[1:], masks[1:], strict=True):
            value = value if valid is None else ops.where(valid, value, best)
            best = best if known is None else ops.where(known, best, value)
            known = None if known is None or valid is None else ops.logical_or(known, valid)
            best = self._choose(best, value)
        return best

    def _merge(self, inputs: list[Any]) -> Any:
        return functools.reduce(self._choose, inputs)


class Maximum(Extreme):
    """The largest of the inputs.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Maximum()([np.array([1.0, 5.0]), np.array([3.0, 4.0])])
    <Tensor shape=(2,) dtype=float32>
    array([3., 5.], dtype=float32)
    """

    _choose = staticmethod(ops.maximum)


class Minimum(Extreme):
    """The smallest of the inputs.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Minimum()([np.array([1.0, 5.0]), np.array([3.0, 4.0])])
    <Tensor shape=(2,) dtype=float32>
    array([1., 4.], dtype=float32)
    """

    _choose = staticmethod(ops.minimum)


@declared
class Concatenate(Merge):
    """The inputs one after the other along an axis.

    Args:
        axis: default the last.

    The output is masked where its input was; an input without a mask counts as not masked.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Concatenate()([np.ones((2, 3)), np.ones((2, 4))]).shape
    (2, 7)
    """

    axis: Axis = -1

    def call(self, inputs: Any) -> Any:
        return ops.concatenate(inputs, self.axis)

    def compute_output_shape(self, input_shape: Any) -> Any:
        shapes = self._shapes(input_shape)
        ranks = {len(shape) for shape in shapes}
        rank = ranks.pop()
        if ranks or not -rank <= self.axis < rank:
            raise self._mismatch(shapes, f"of one rank with an axis {self.axis}")
        along = self.axis % rank
        columns = list(zip(*shapes, strict=True))
        if any(len(set(column) - {None}) > 1 for axis, column in enumerate(columns) if axis != along):
            raise self._mismatch(shapes, f"that are equal along every axis but {along}")
        total = None if None in columns[along] else sum(columns[along])
        return (*shapes[0][:along], total, *shapes[0][along + 1 :])

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        if mask is None or all(one is None for one in self._masks(inputs, mask)):
            return None
        masks = []
        for x, one in zip(inputs, mask, strict=True):
            if one is None:
                one = ops.ones_like(x, dtype="bool")
            elif one.ndim < x.ndim:
                one = ops.broadcast_to(ops.expand_dims(one, -1), x.shape)
            masks.append(one)
        return ops.any(ops.concatenate(masks, self.axis), axis=-1)


def _axes_of_both(layer: Merge, name: str, value: Any) -> Any:
    pair = (value, value) if isinstance(value, int) else value
    if (
        not isinstance(pair, (list, tuple))
        or len(pair) != 2
        or not all(isinstance(axis, int) and not isinstance(axis, bool) for axis in pair)
    ):
        raise ValueError(f"Dot needs one integer or two for {name}, got {value!r}.")
    return value


@declared
class Dot(Merge):
    """The dot products of two inputs along one axis of each, for every sample.

    Args:
        axes: the axis, or one for each input; not the batch axis.
        normalize: whether the vectors are divided by their norms first, which gives their cosine.

    Inputs (n, *a) and (n, *b) give (n, *a without its axis, *b without its axis), or (n, 1) if nothing is left.

    >>> import numpy as np
    >>> from minikeras import layers
    >>> layers.Dot(axes=1)([np.ones((2, 3)), np.ones((2, 3))])
    <Tensor shape=(2, 1) dtype=float32>
    array([[3.],
           [3.]], dtype=float32)
    """

    axes: Annotated[Any, _axes_of_both]
    normalize: bool = False

    def _places(self, ranks: Sequence[int]) -> list[int]:
        """The summed axis of each input, counted from the front, or a sentence where an input has not got it."""
        axes = (self.axes, self.axes) if isinstance(self.axes, int) else self.axes
        return [axis_of(self, axis, rank, least=1) for axis, rank in zip(axes, ranks, strict=True)]

    def call(self, inputs: Any) -> Any:
        x1, x2 = inputs
        axis1, axis2 = self._places([x1.ndim, x2.ndim])
        if self.normalize:
            x1, x2 = normalize(x1, axis1, config.epsilon()), normalize(x2, axis2, config.epsilon())
        x1, x2 = ops.moveaxis(x1, axis1, -1), ops.moveaxis(x2, axis2, 1)
        (n, *rest1, size), rest2 = x1.shape, x2.shape[2:]
        x1, x2 = ops.reshape(x1, (n, math.prod(rest1), size)), ops.reshape(x2, (n, size, math.prod(rest2)))
        return ops.reshape(ops.matmul(x1, x2), (n, *rest1, *rest2) if rest1 or rest2 else (n, 1))

    def compute_output_shape(self, input_shape: Any) -> Any:
        shapes = self._shapes(input_shape)
        if len(shapes) != 2 or any(len(shape) < 2 for shape in shapes):
            raise self._mismatch(shapes, "(batch, ...), two of them")
        (batch1, *_), (batch2, *_) = shapes
        axis1, axis2 = self._places([len(shape) for shape in shapes])
        size1, size2 = shapes[0][axis1], shapes[1][axis2]
        if _differ(size1, size2) or _differ(batch1, batch2):
            raise self._mismatch(shapes, f"of one batch size and of one size along axes={self.axes} after the batch")
        rest = [size for axis, size in enumerate(shapes[0]) if axis not in (0, axis1)]
        rest += [size for axis, size in enumerate(shapes[1]) if axis not in (0, axis2)]
        return (batch1, *(rest or [1]))

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return None


def _with_ones(shape: tuple, rank: int) -> tuple:
    """The shape of an input of lower rank, raised to `rank` by axes of size 1 after the batch axis."""
    return (shape[0], *(1,) * (rank - len(shape)), *shape[1:])


def _differ(size1: int | None, size2: int | None) -> bool:
    return None not in (size1, size2) and size1 != size2


def add(inputs: Any, **kwargs: Any) -> Any:
    """`Add(**kwargs)(inputs)`.

    >>> import minikeras as keras
    >>> from minikeras import layers
    >>> layers.add([keras.Input((3,)), keras.Input((3,))]).shape
    (None, 3)
    """
    return Add(**kwargs)(inputs)


def subtract(inputs: Any, **kwargs: Any) -> Any:
    """`Subtract(**kwargs)(inputs)`.

    >>> import minikeras as keras
    >>> from minikeras import layers
    >>> layers.subtract([keras.Input((3,)), keras.Input((3,))]).shape
    (None, 3)
    """
    return Subtract(**kwargs)(inputs)


def multiply(inputs: Any, **kwargs: Any) -> Any:
    """`Multiply(**kwargs)(inputs)`.

    >>> import minikeras as keras
    >>> from minikeras import layers
    >>> layers.multiply([keras.Input((3,)), keras.Input((3,))]).shape
    (None, 3)
    """
    return Multiply(**kwargs)(inputs)


def average(inputs: Any, **kwargs: Any) -> Any:
    """`Average(**kwargs)(inputs)`.

    >>> import minikeras as keras
    >>> from minikeras import layers
    >>> layers.average([keras.Input((3,)), keras.Input((3,))]).shape
    (None, 3)
    """
    return Average(**kwargs)(inputs)


def maximum(inputs: Any, **kwargs: Any) -> Any:
    """`Maximum(**kwargs)(inputs)`.

    >>> import minikeras as keras
    >>> from minikeras import layers
    >>> layers.maximum([keras.Input((3,)), keras.Input((3,))]).shape
    (None, 3)
    """
    return Maximum(**kwargs)(inputs)


def minimum(inputs: Any, **kwargs: Any) -> Any:
    """`Minimum(**kwargs)(inputs)`.

    >>> import minikeras as keras
    >>> from minikeras import layers
    >>> layers.minimum([keras.Input((3,)), keras.Input((3,))]).shape
    (None, 3)
    """
    return Minimum(**kwargs)(inputs)


def concatenate(inputs: Any, axis: int = -1, **kwargs: Any) -> Any:
    """`Concatenate(axis, **kwargs)(inputs)`.

    >>> import minikeras as keras
    >>> from minikeras import layers
    >>> layers.concatenate([keras.Input((3,)), keras.Input((4,))]).shape
    (None, 7)
    """
    return Concatenate(axis, **kwargs)(inputs)


def dot(inputs: Any, axes: Any = -1, **kwargs: Any) -> Any:
    """`Dot(axes, **kwargs)(inputs)`.

    >>> import minikeras as keras
    >>> from minikeras import layers
    >>> layers.dot([keras.Input((3,)), keras.Input((3,))], axes=1).shape
    (None, 1)
    """
    return Dot(axes, **kwargs)(inputs)
