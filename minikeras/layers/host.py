"""What layers share that turn strings and integers into numbers: they compute on the host and learn from data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from minikeras import kernels as k
from minikeras import tree
from minikeras.autodiff.strings import is_text, strings_in
from minikeras.autodiff.symbolic import KerasTensor
from minikeras.autodiff.tensor import Tensor
from minikeras.layers.layer import Layer
from minikeras.layers.spec import is_plain
from minikeras.utils.checks import shown


class OnHost(Layer):
    """A layer of the host: strings are nowhere else, and integers keep all their digits.  No gradient flows through."""

    takes_strings = True
    replayable = False

    if TYPE_CHECKING:  # the fields of those that are one

        def __getattr__(self, name: str) -> Any: ...

    def _convert(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)([self._convert(item) for item in value])
        if is_plain(value) or isinstance(value, (Tensor, KerasTensor, np.generic)) or not hasattr(value, "__array__"):
            return value
        return Tensor(on_host(value))

    def _array(self, value: Any) -> np.ndarray:
        """What the layer was given as a NumPy array: of objects for strings (str or bytes), else of numbers."""

        def held(item: Any) -> Any:
            return on_host(item) if hasattr(item, "__array__") and not isinstance(item, np.generic) else item

        value = tree.map_structure(held, value)
        array = strings_in(value)
        if array is None:
            array = np.asarray(value)
            if array.dtype.kind not in "biuf":
                self._refuse(f"takes an array of strings or of numbers, got {shown(value)}")
        return array

    def _integers(self, array: np.ndarray) -> np.ndarray:
        """An array of numbers as one of int64; those with a fraction are refused."""
        with np.errstate(invalid="ignore"):
            whole = array if is_text(array) else array.astype(np.int64)
        if is_text(array) or not (whole == array).all():
            self._refuse(f"takes whole numbers, got {shown(array.flat[0])} among them")
        return whole


def on_host(value: Any) -> np.ndarray:
    """A tensor, array, list or column of a table as a NumPy array."""
    value = value.data if isinstance(value, Tensor) else value
    return k.to_host(value) if isinstance(value, k.xp.ndarray) else np.asarray(value)


def encoded(texts: Iterable[Any], encoding: str = "utf-8") -> list[bytes]:
    """Strings as bytes; those that are bytes already stay as they are."""
    return [one if isinstance(one, bytes) else one.encode(encoding, "surrogateescape") for one in texts]


def batches(layer: Layer, data: Any, steps: int | None, lists: bool = False) -> Iterator[Any]:
    """The features in what `adapt` takes: all of an array, or of each batch the first part.

    Args:
        layer: who learns.
        data: an array, or an iterable of batches (arrays, or tuples that begin with one).
        steps: number of batches to take, default all.
        lists: whether a list, or a string, is an array too.

    Raises:
        TypeError: for data of another kind.
    """
    if hasattr(data, "__array__") or (lists and isinstance(data, (list, tuple, str, bytes))):
        yield data
        return
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, (list, tuple, dict, str)):
        data = map(data.__getitem__, range(len(data)))  # a PyDataset
    if not isinstance(data, Iterable) or isinstance(data, (dict, str, bytes)):
        raise TypeError(f"{type(layer).__name__} learns from an array or an iterable of batches, got {data!r:.80}.")
    for number, batch in enumerate(data):
        if steps is not None and number >= steps:
            return
        yield batch[0] if isinstance(batch, tuple) else batch
