"""Reading the pickles that datasets are kept in, without ever running what a pickle asks for.

Such a pickle holds dicts, lists, strings, whole numbers and NumPy arrays.  First its bytes are held against the grammar
of the few instructions that make these, so anything else is refused before a single instruction is obeyed.  Then
Python's unpickler runs, but the few functions that a pickle may name are stand-ins of ours that only keep what they
are given; arrays are made from that afterwards, when shape, type and length are known to agree.  NumPy's own functions
for this are not called: they trust what they are given.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import reprlib
from functools import partial
from typing import Any

import numpy as np

from minikeras.utils.bounded import Allowance

_TYPES = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"}  # of arrays of numbers

# Instructions of a fixed length: marks, None and truth values, growing containers, tuples, states of what was called,
# whole numbers (of at most 8 bytes), frames.
_PLAIN = re.compile(
    rb"(?:[(Naestub.\x85-\x89]|K.|M..|J.{4}|\x95.{8}|"
    + b"|".join(rb"\x8a\x%02x.{%d}" % (size, size) for size in range(9))
    + rb")++",
    re.DOTALL,
)
_MADE = b")]}R"  # empty containers, and calls of what was named
# Memory, of at most 2**20 places: what is on top goes to a place of that number, or to the next; and comes back.
_PUT = re.compile(rb"q(.)|r(..[\x00-\x0f]\x00)|\x94", re.DOTALL)
_GET = re.compile(rb"h(.)|j(..[\x00-\x0f]\x00)", re.DOTALL)
# Instructions followed by a text or bytes, and how many bytes its length has.
_TEXTS = {b"U": 1, b"T": 4, b"X": 4, b"\x8c": 1, b"\x8d": 8, b"C": 1, b"B": 4, b"\x8e": 8, b"\x96": 8}
# What Python raises at instructions that make no sense together; our own sentences are plain ValueErrors.
_DAMAGE = (
    pickle.UnpicklingError, EOFError, TypeError, AttributeError, LookupError, RecursionError, UnicodeError,
    OverflowError, MemoryError,
)  # fmt: skip
_POINTER = 8  # bytes that an element of a list takes
_NAMED = re.compile(rb"c([\w.]+)\n(\w+)\n")


def loads(data: bytes) -> Any:
    """What a pickle of dicts, lists, strings, whole numbers and NumPy arrays holds.

    Returns:
        The object; strings of Python 2 are bytes, and arrays of objects are arrays of lists of whole numbers.

    Raises:
        ValueError: if the pickle holds anything else, or is damaged.
    """
    _check_grammar(data)
    allowance = Allowance(len(data))
    try:
        content = _Unpickler(data, allowance).load()
        if isinstance(content, dict):
            return {_value(key, allowance): _value(item, allowance) for key, item in content.items()}
        return _value(content, allowance)
    except _DAMAGE as error:
        raise ValueError(f"its pickle is damaged or holds more than numbers ({error})") from error


def _check_grammar(data: bytes) -> None:
    """Raise ValueError unless the pickle has but allowed instructions.

    What comes back from memory was made by a single instruction, which no tuple is: tuples of the same tuple twice, of
    the same again, would take Python longer to look at than there is time.
    """
    if data[:1] != b"\x80" or data[1:2] not in (b"\2", b"\3", b"\4", b"\5"):
        raise ValueError("it holds no pickle of protocol 2 to 5")
    at, is_made = 2, False
    shared: dict[int, bool] = {}  # for each place in memory, whether it may be asked for
    while at < len(data):
        if found := _PLAIN.match(data, at):
            at, is_made = found.end(), False
            continue
        code = data[at : at + 1]
        if found := _PUT.match(data, at):
            place = int.from_bytes(found[1] or found[2], "little") if found.lastindex else len(shared)
            shared[place], at = is_made, found.end()
            continue
        if found := _GET.match(data, at):
            place, at = int.from_bytes(found[1] or found[2], "little"), found.end()
            if not shared.get(place):
                raise ValueError(f"its pickle asks at byte {at} for a tuple again, or for what is not there")
            is_made = True
            continue
        is_made = True
        if code in _MADE:
            at += 1
        elif code in _TEXTS:
            start = at + 1 + _TEXTS[code]
            at = start + int.from_bytes(data[at + 1 : start], "little")
        elif named := _NAMED.match(data, at):
            _stand_in(named[1].decode(), named[2].decode())
            at = named.end()
        elif code == b"\x93":  # a name from the stack: found out when it is asked for
            at += 1
        else:
            raise ValueError(f"its pickle has the instruction {code!r} at byte {at}, which no dataset needs")
    if at != len(data) or data[-1:] != b".":
        raise ValueError("its pickle ends too early")


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, allowance: Allowance):
        super().__init__(io.BytesIO(data), encoding="bytes")
        self._encode = _Named(partial(_encode, allowance))

    def find_class(self, module: str, name: str) -> Any:
        found = _stand_in(module, name)
        return self._encode if found is _ENCODE else found


class _Type:
    """Stands for `numpy.dtype`: the code of a type, such as `"u1"`."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, align: Any = False, copy: Any = False):
        self.code, self.order = _word(code), "="

    def __setstate__(self, state: Any) -> None:
        self.order = _word(state[1])

    def value(self) -> np.dtype:
        if self.code not in _TYPES or self.order not in ("<", ">", "|", "="):
            raise ValueError(f"its pickle has an array of the type {self.order}{self.code}")
        return np.dtype(self.order + self.code)


class _Array:
    """Stands for an array: what `numpy.core.multiarray._reconstruct` begins and its state completes."""

    __slots__ = ("content", "fortran", "shape", "type")

    def __init__(self, kind: Any, shape: Any, code: Any):
        if kind is not _NDARRAY:
            raise ValueError("its pickle has an array of an unknown kind")
        self.content: Any = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("its pickle has an array in an unknown state")
        _, self.shape, self.type, self.fortran, self.content = state

    def value(self, allowance: Allowance) -> np.ndarray:
        shape = self.shape
        if not isinstance(shape, tuple) or not all(type(size) is int and 0 <= size < 1 << 48 for size in shape):
            raise ValueError(f"its pickle has an array of shape {reprlib.repr(shape)}")
        size, content = math.prod(shape), self.content
        if not isinstance(self.type, _Type):
            raise ValueError("its pickle has an array without a type")
        if self.type.code in ("O", "O8", "O4"):
            return _objects(shape, size, content, allowance)
        dtype = self.type.value()
        if not isinstance(content, (bytes, bytearray)) or len(content) != size * dtype.itemsize:
            raise ValueError(
                f"its pickle has an array of shape {reprlib.repr(shape)} whose bytes are of another number"
            )
        allowance.spend(len(content), "an array")
        array = np.frombuffer(content, dtype).reshape(shape, order="F" if self.fortran else "C")
        return array.astype(np.dtype(self.type.code))  # a copy can be written to


class _Buffer(_Array):
    """Stands for `numpy._core.numeric._frombuffer`, as protocol 5 has it: a whole array at once."""

    __slots__ = ()

    def __init__(self, content: Any, type: Any, shape: Any, order: Any):
        self.content, self.type, self.shape, self.fortran = content, type, shape, order == "F"


def _encode(allowance: Allowance, text: Any, encoding: Any) -> bytes:
    """Stands for `_codecs.encode`, by which Python 3 writes bytes in protocol 2."""
    if not isinstance(text, str) or _word(encoding) != "latin1":
        raise ValueError("its pickle has bytes of an unknown encoding")
    allowance.spend(len(text), "a text")
    return text.encode("latin1")


class _Named:
    """What a pickle gets for a name: it can be called, and nothing about it can be changed."""

    __slots__ = ("stand_in",)

    def __init__(self, stand_in: Any):
        self.stand_in = stand_in

    def __call__(self, *args: Any) -> Any:
        return self.stand_in(*args)

    def __setstate__(self, state: Any) -> None:
        raise ValueError("its pickle changes what it names")


def _no_class(*args: Any) -> Any:
    raise ValueError("its pickle makes an array of nothing")


_NDARRAY = _Named(_no_class)
_RECONSTRUCT, _FROM_BUFFER = _Named(_Array), _Named(_Buffer)
_ENCODE = _Named(_no_class)  # each unpickler has its own, which counts
_STAND_INS = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Named(_Type),
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy.core.numeric", "_frombuffer"): _FROM_BUFFER,
    ("numpy._core.numeric", "_frombuffer"): _FROM_BUFFER,
    ("_codecs", "encode"): _ENCODE,
}


def _stand_in(module: str, name: str) -> _Named:
    if (module, name) not in _STAND_INS:
        raise ValueError(f"its pickle names {module}.{name}, which is refused")
    return _STAND_INS[module, name]


def _word(value: Any) -> str:
    """A short text, such as a type's code; "?" for anything else."""
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    return text if isinstance(text, str) and len(text) < 16 else "?"


def _objects(shape: tuple[int, ...], size: int, content: Any, allowance: Allowance) -> np.ndarray:
    if not isinstance(content, list) or len(content) != size:
        raise ValueError(f"its pickle has an array of shape {reprlib.repr(shape)} whose elements are of another number")
    array = np.empty(size, object)
    for index, item in enumerate(content):
        item = item.value(allowance) if isinstance(item, _Array) else item
        allowance.spend(_POINTER * (1 + len(item) if isinstance(item, list) else 1), "an array of lists")
        if isinstance(item, list) and not set(map(type, item)) <= {int}:
            raise ValueError(f"its pickle has a list of other than whole numbers as element {index}")
        if not isinstance(item, (list, int)) and not (isinstance(item, np.ndarray) and item.dtype.kind in "iu"):
            raise ValueError(f"its pickle has a {type(item).__name__} as element {index}")
        array[index] = item
    return array.reshape(shape)


def _value(content: Any, allowance: Allowance) -> Any:
    """The content with arrays in place of what stood for them; anything but plain data is refused."""
    if isinstance(content, _Array):
        return content.value(allowance)
    if isinstance(content, (list, str, bytes)):
        allowance.spend(len(content) * (_POINTER if isinstance(content, list) else 1), "a list or text")
    if isinstance(content, list) and set(map(type, content)) <= {int, str, bytes}:
        return content
    if content is None or isinstance(content, (int, str, bytes)):
        return content
    raise ValueError(f"its pickle has a {type(content).__name__} where a dataset has none")
