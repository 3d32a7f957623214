"""Hashes of strings and integers as TensorFlow computes them, and the layers that put values into bins by them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

import numpy as np

from minikeras import kernels as k
from minikeras import tree
from minikeras.autodiff.strings import is_text
from minikeras.autodiff.symbolic import KerasTensor
from minikeras.autodiff.tensor import Tensor
from minikeras.layers.categories import OnlyDense, categorical, categorical_shape, mode
from minikeras.layers.common import int_tuple
from minikeras.layers.fields import Positive, declared
from minikeras.layers.host import OnHost, encoded
from minikeras.utils.checks import shown

# ---------------------------------------------------------------- the hashes: of many texts of one length at a time


def buckets(values: Iterable[Any], count: int, salt: Sequence[int] | None = None) -> np.ndarray:
    """The bin, 0 to `count - 1`, of each value: strings as bytes, integers by their decimal digits.

    Args:
        salt: two integers, the key of SipHash, which is used then instead of FarmHash's fingerprint.
    """
    texts = [value if isinstance(value, bytes) else str(value).encode() for value in values]
    hashes = _by_length(texts, fingerprint if salt is None else lambda data: _siphash(data, salt))
    return (hashes % np.uint64(count)).astype(np.int64)


def _by_length(texts: list[bytes], function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """`function` of arrays (texts, bytes), in which all texts are of one length."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    hashes = np.empty(len(texts), np.uint64)
    for length in np.unique(lengths):
        places = np.flatnonzero(lengths == length)
        data = np.frombuffer(b"".join([texts[place] for place in places]), np.uint8)
        hashes[places] = function(data.reshape(len(places), length))
    return hashes


def _u(value: int) -> np.uint64:
    """A number of 64 bits, which arithmetic with arrays of such numbers keeps to."""
    return np.uint64(value & 0xFFFFFFFFFFFFFFFF)


def _fetch(data: np.ndarray, at: int, size: int = 8) -> np.ndarray:
    """The `size` bytes from `at` on of each text, as a number."""
    return np.ascontiguousarray(data[:, at : at + size]).view(f"<u{size}")[:, 0].astype(np.uint64)


def _rotated(x: np.ndarray, bits: int) -> np.ndarray:
    return (x >> _u(bits)) | (x << _u(64 - bits))


def _mixed(x: np.ndarray) -> np.ndarray:
    return x ^ (x >> _u(47))


def _pair(u: np.ndarray, v: np.ndarray, factor: Any) -> np.ndarray:
    """128 bits to 64."""
    return _mixed((v ^ _mixed((u ^ v) * factor)) * factor) * factor


_K0, _K1, _K2 = map(_u, (0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F))


def fingerprint(data: np.ndarray) -> np.ndarray:
    """FarmHash's `Fingerprint64` of texts of one length, an array (texts, bytes) (Pike and Alakuijala 2014)."""
    count, size = data.shape
    factor = _u(int(_K2) + 2 * size)
    if size == 0:
        return np.full(count, _K2)
    if size < 4:
        first, middle, last = (data[:, place].astype(np.uint64) for place in (0, size // 2, size - 1))
        return _mixed((first + (middle << _u(8))) * _K2 ^ ((last << _u(2)) + _u(size)) * _K0) * _K2
    if size < 8:
        return _pair((_fetch(data, 0, 4) << _u(3)) + _u(size), _fetch(data, size - 4, 4), factor)
    if size <= 16:
        a, b = _fetch(data, 0) + _K2, _fetch(data, size - 8)
        return _pair(_rotated(b, 37) * factor + a, (_rotated(a, 25) + b) * factor, factor)
    if size > 64:
        return _long(data)
    a, b = _fetch(data, 0) * (_K1 if size <= 32 else _K2), _fetch(data, 8)
    c, d = _fetch(data, size - 8) * factor, _fetch(data, size - 16) * _K2
    y, z = _rotated(a + b, 43) + _rotated(c, 30) + d, a + _rotated(b + _K2, 18) + c
    if size <= 32:
        return _pair(y, z, factor)
    e, f = _fetch(data, 16) * factor, _fetch(data, 24)
    g = (y + _fetch(data, size - 32)) * factor
    h = (_pair(y, z, factor) + _fetch(data, size - 24)) * factor
    return _pair(_rotated(e + f, 43) + _rotated(g, 30) + h, e + _rotated(f + a, 18) + g, factor)


def _long(data: np.ndarray) -> np.ndarray:
    """The fingerprint of texts of more than 64 bytes: a state of 56 bytes that takes 64 more at a time."""
    (count, size), rest = data.shape, (data.shape[1] - 1) & 63
    x, y = _fetch(data, 0) + _u(81 * int(_K2)), np.full(count, _u(81 * int(_K1) + 113))
    z = _mixed(y * _K2 + _u(113)) * _K2
    v0, v1, w0, w1 = np.zeros((4, count), np.uint64)
    factor, weight = np.full(count, _K1), _u(1)
    for at in (*range(0, size - 1 - rest, 64), size - 64):
        if at == size - 64:  # the last ones, which may overlap those before
            factor, weight = _K1 + ((z & _u(255)) << _u(1)), _u(9)
            w0 = w0 + _u(rest)
            v0 = v0 + w0
            w0 = w0 + v0
        x = _rotated(x + y + v0 + _fetch(data, at + 8), 37) * factor ^ w1 * weight
        y = _rotated(y + v1 + _fetch(data, at + 48), 42) * factor + v0 * weight + _fetch(data, at + 40)
        z = _rotated(z + w0, 33) * factor
        v0, v1 = _taken(data, at, v1 * factor, x + w0)
        w0, w1 = _taken(data, at + 32, z + w1, y + _fetch(data, at + 16))
        x, z = z, x
    return _pair(_pair(v0, w0, factor) + _mixed(y) * _K0 + z, _pair(v1, w1, factor) + x, factor)


def _taken(data: np.ndarray, at: int, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two numbers with the 32 bytes from `at` on taken into them."""
    first, second, third, fourth = (_fetch(data, at + place) for place in (0, 8, 16, 24))
    start = a + first
    a = start + second + third
    return a + fourth, _rotated(b + start + fourth, 21) + _rotated(a, 44) + start


def _siphash(data: np.ndarray, salt: Sequence[int]) -> np.ndarray:
    """SipHash-2-4 of texts of one length, an array (texts, bytes) (Aumasson and Bernstein 2012)."""
    count, size = data.shape
    ended = np.zeros((count, size // 8 * 8 + 8), np.uint8)
    ended[:, :size], ended[:, -1] = data, size & 255
    start = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
    a, b, c, d = (np.full(count, _u(one) ^ _u(salt[place % 2])) for place, one in enumerate(start))
    for at in (*range(0, ended.shape[1], 8), None):
        word = _u(0) if at is None else _fetch(ended, at)
        c, d = (c ^ _u(255), d) if at is None else (c, d ^ word)
        for _ in range(4 if at is None else 2):
            a, c = a + b, c + d
            b, d = _rotated(b, 51) ^ a, _rotated(d, 48) ^ c
            a, c = _rotated(a, 32) + d, c + b
            b, c, d = _rotated(b, 47) ^ c, _rotated(c, 32), _rotated(d, 43) ^ a
        a = a ^ word
    return a ^ b ^ c ^ d


def _crossed(columns: list[np.ndarray]) -> np.ndarray:
    """One hash for each row of columns of hashes, as TensorFlow's `sparse.cross_hashed` makes it."""
    factor = _u(0xC6A4A7935BD1E995)
    state = np.full(len(columns[0]), _u(0xDECAFCAFFE))
    for column in columns:
        state = _mixed((state ^ factor ^ _mixed(column * factor) * factor) * factor)
        state = _mixed(state * factor)
    return state


# ---------------------------------------------------------------- the layers


def as_salt(layer: Any, name: str, value: Any) -> list[int] | None:
    """One integer for both, or two of them, as a list of two."""
    return None if value is None else list(int_tuple(layer, name, value, 2, -(1 << 63)))


class Hashed(OnHost):
    """A layer whose outputs are bins: of type int64 unless told otherwise, encoded ones of `floatx()`."""

    def _set_policy(self, dtype: Any) -> None:
        self._has_own_type = dtype is not None
        super()._set_policy(dtype)

    def __post_init__(self) -> None:  # type: ignore[override]
        if self.output_mode == "int" and not self._has_own_type:
            self._set_policy("int64")

    def compute_output_spec(self, inputs: Any) -> KerasTensor:
        return KerasTensor(self.compute_output_shape(tree.map_structure(lambda one: one.shape, inputs)), self.dtype)

    def _values(self, inputs: Any) -> tuple[list[Any], np.ndarray]:
        """Strings as bytes and integers as such, in a list, and the array that they come from."""
        array = self._array(inputs)
        if is_text(array):
            return encoded(array.flat), array
        if array.dtype.kind == "b":
            return [str(bool(one)).lower().encode() for one in array.flat], array
        array = self._integers(array)
        return array.ravel().tolist(), array

    def _given_out(self, bins: np.ndarray) -> Tensor:
        return Tensor(k.to_device(categorical(np, bins, self.output_mode, self.num_bins, self.dtype)))


@declared
class Hashing(Hashed):
    """Strings and integers to bins by a hash: no vocabulary is needed, but different values may share a bin.

    The bins are those of Keras.  Strings are hashed as UTF-8, integers by their decimal digits.

    Args:
        num_bins: number of bins, the mask's among them.
        mask_value: the value that alone goes to bin 0; default none has a bin of its own.
        salt: an integer or two; with it the hash is SipHash64, else FarmHash64.
        output_mode: `"int"`: the bins; `"one_hot"`, `"multi_hot"`, `"count"`: as for `CategoryEncoding`.
        sparse: only False.

    Raises:
        ValueError: for numbers with a fraction.

    Example:
        >>> from minikeras import layers
        >>> layers.Hashing(num_bins=3)([["A"], ["B"], ["C"], ["D"], ["E"]]).tolist()
        [[1], [0], [1], [1], [2]]
    """

    num_bins: Positive[int]
    mask_value: Any = None
    salt: Annotated[Any, as_salt] = None
    output_mode: Annotated[str, mode("int", "one_hot", "multi_hot", "count")] = "int"
    sparse: OnlyDense = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output_mode == "int" and self.dtype not in ("int32", "int64"):
            self._refuse(f"has the dtype 'int32' or 'int64' for bins as integers, got {self.dtype!r}")

    def compute_output_shape(self, input_shape: Any) -> Any:
        return categorical_shape(input_shape, self.output_mode, self.num_bins)

    def call(self, inputs: Any) -> Tensor:
        values, array = self._values(inputs)
        masked = self.mask_value is not None and self.num_bins > 1
        bins = buckets(values, self.num_bins - masked, self.salt)
        if masked:
            mask = encoded([self.mask_value])[0] if isinstance(self.mask_value, (str, bytes)) else self.mask_value
            bins = np.where(np.array([value == mask for value in values], bool), 0, bins + 1)
        return self._given_out(bins.reshape(array.shape))


@declared
class HashedCrossing(Hashed):
    """Combinations of several features to bins by a hash, those of Keras: `HashedCrossing(10)((city, weekday))`.

    Args:
        num_bins: number of bins.
        output_mode: `"int"`: the bins; `"one_hot"`: vectors with a 1 at the bin.
        sparse: only False.

    Call arguments:
        inputs: a list of at least two features of one shape, (), (batch,) or (batch, 1), strings or integers.

    Raises:
        ValueError: for other inputs.

    Example:
        >>> from minikeras import layers
        >>> layers.HashedCrossing(num_bins=5)((["A", "B", "A", "B", "A"], [101, 101, 101, 102, 102])).tolist()
        [1, 4, 1, 1, 3]
    """

    num_bins: Positive[int]
    output_mode: Annotated[str, mode("int", "one_hot")] = "int"
    sparse: OnlyDense = False

    def compute_output_shape(self, input_shape: Any) -> Any:
        shapes = [tuple(shape) for shape in input_shape]
        if len(shapes) < 2 or len(set(shapes)) > 1 or len(shapes[0]) > 2 or shapes[0][1:] not in ((), (1,)):
            self._refuse(f"takes two or more features of one shape, (), (batch,) or (batch, 1), got {shapes}")
        return categorical_shape(shapes[0], self.output_mode, self.num_bins)

    def call(self, inputs: Any) -> Tensor:
        if not isinstance(inputs, (list, tuple)):
            self._refuse(f"takes a list of features, got {shown(inputs)}")
        columns, arrays = [], []
        for values, array in map(self._values, inputs):
            arrays.append(array)
            columns.append(_by_length(values, fingerprint) if is_text(array) else array.reshape(-1).view(np.uint64))
        self.compute_output_shape([array.shape for array in arrays])
        bins = (_crossed(columns) % _u(self.num_bins)).astype(np.int64)
        return self._given_out(bins.reshape(arrays[0].shape))
