"""A stand-in for CuPy that computes with NumPy: it has what CuPy has, refuses what CuPy refuses, and counts transfers.

`recording_device()`, or `pytest --device recorder`, makes it the array module of minikeras, so code that runs here uses
only names, signatures, types and array behaviour of CuPy, whose own functions are asked for them (that needs no GPU).
What CuPy does differently from NumPy, and this shows:

- an array has the attributes of `cupy.ndarray`; it is no `numpy.ndarray`, has no `__index__`, and `numpy.asarray` of it
  fails;
- a function does not take NumPy arrays; only `asarray` and `array` move one to the device;
- a reduction or an index gives an array without axes instead of a scalar;
- ufuncs have no `where=`, only some have `at`, and that for some types only, and only two can `reduce`;
- a function's `out` shares no memory with what it reads;
- an index in an array that is out of range counts around;
- functions whose result depends on values (boolean indices, `nonzero`, ...) wait for the device, as `float(x)` does.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cupy
import numpy as np
from cupy._core._scalar import CScalar
from gpu import streams
from gpu.cublaslt import FakeCublasLt
from gpu.host import HostModule

from minikeras import kernels
from minikeras.kernels.cuda import cublas

_SCALARS = (bool, int, float, complex, np.generic)
_TRANSFERS = ("array", "asanyarray", "asarray", "ascontiguousarray")
_WITHOUT_ARRAYS = ("isscalar", "ndim", "result_type", "shape", "size", "where")
_READS = ("dump", "dumps", "get", "item", "tobytes", "tofile", "tolist")  # methods that read values back
# functions that wait for the device, because their result's shape or a check of theirs depends on values
_WAITING = ("argwhere", "bincount", "compress", "extract", "flatnonzero", "histogram", "nonzero", "unique")
_BY_LIBRARIES = ("dot", "einsum", "inner", "kron", "matmul", "tensordot", "vdot")
_JOINING = ("append", "block", "column_stack", "concatenate", "dstack", "hstack", "stack", "vstack")
_KEYWORDS = {  # where the signature says **kwargs
    "einsum": {"dtype", "optimize"},
    "meshgrid": {"copy", "indexing", "sparse"},
    "pad": {"constant_values", "end_values", "mode", "reflect_type", "stat_length"},
}
# methods of ufuncs, and for which ufuncs CuPy has them
_METHODS = {"reduce": ("add", "multiply"), "accumulate": ("add", "multiply"), "reduceat": ("add",)}
_SCATTERED = {"add": "iIlLqQefd", "subtract": "iIlLqQefd", "maximum": "iILQfd", "minimum": "iILQfd"}


class Counts:
    """What has gone to the device and what waited for it, each with the line of minikeras that asked for it."""

    def __init__(self, keeps: bool = True) -> None:
        self._keeps = keeps
        self.transfers: list[str] = []
        self.reads: list[str] = []
        self.loads: list[tuple[int, ...]] = []  # shapes of what was moved in one go, in a stream

    def transfer(self, shape: tuple[int, ...], nbytes: int = 8) -> None:
        if streams.capturing() is not None:
            streams.alloc_pinned_memory(nbytes)
        streams.catch_up()
        if self._keeps:
            self.transfers.append(f"shape {shape} {_asking()}")

    def read(self, name: str) -> None:
        streams.forbid(f"{name}, which reads a value,")
        streams.catch_up()
        if self._keeps:
            self.reads.append(f"{name} {_asking()}")

    def clear(self) -> None:
        self.transfers.clear()
        self.reads.clear()
        self.loads.clear()


def _asking() -> str:
    for frame, line in traceback.walk_stack(None):
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_SOURCE) and path != _SOURCE / "kernels" / "table.py":
            return f"in {path.relative_to(_SOURCE)}:{line}"
    return "in the test"


_SOURCE = Path(kernels.__file__).parent.parent
_counts = Counts(keeps=False)
_roots: weakref.WeakValueDictionary[int, DeviceArray] = weakref.WeakValueDictionary()  # by id of the memory's owner


class DeviceArray:
    """An array with the attributes and the manners of `cupy.ndarray`, held in a NumPy array."""

    __slots__ = ("__weakref__", "_held", "base")
    __array_priority__ = cupy.ndarray.__array_priority__
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, held: np.ndarray):
        owner = held
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        root = _roots.get(id(owner))
        if root is None:
            _roots[id(owner)] = self
        self._held, self.base = held, root

    def __getattr__(self, name: str) -> Any:
        if not hasattr(cupy.ndarray, name):
            raise AttributeError(f"CuPy's arrays have no {name!r}.")
        if name == "data":
            return SimpleNamespace(ptr=self._held.__array_interface__["data"][0])
        if name in ("get", "set"):
            return self._get if name == "get" else self._set
        value = getattr(self._held, name)
        if name == "flags":
            known = [flag for flag in dir(cupy._core.flags.Flags) if not flag.startswith("_")]
            return SimpleNamespace(**{flag: getattr(value, flag) for flag in known})
        if not callable(value):
            return _wrapped(value)
        if name in _READS:
            _counts.read(name)
            return value
        return functools.partial(_method, name, self)

    def _get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> np.ndarray:
        _counts.read("get")
        if out is None:
            return self._held.copy()
        out[...] = self._held
        return out

    def _set(self, arr: np.ndarray, stream: Any = None) -> None:
        if arr.shape != self.shape or arr.dtype != self.dtype or not self._held.flags.c_contiguous:
            raise ValueError(
                f"An array of shape {arr.shape} and type {arr.dtype} does not fit {self.shape}, {self.dtype}."
            )
        _counts.loads.append(arr.shape)
        held = self._held
        if stream is None:
            streams.catch_up()
            held[...] = arr
        else:  # whatever lies there when the stream comes to it
            values = streams.later(arr)
            stream.put(lambda: np.copyto(held, values()))

    # ---- what waits for the device

    def __bool__(self) -> bool:
        return bool(self._read("bool"))

    def __int__(self) -> int:
        return int(self._read("int"))

    def __float__(self) -> float:
        return float(self._read("float"))

    def __complex__(self) -> complex:
        return complex(self._read("complex"))

    def __repr__(self) -> str:
        return repr(self._read("repr"))

    def __format__(self, spec: str) -> str:
        return format(self._read("format"), spec)

    def __reduce__(self) -> Any:
        return _wrapped, (self._read("reduce"),)

    def _read(self, name: str) -> np.ndarray:
        _counts.read(name)
        return self._held

    # ---- what NumPy does with foreign arrays

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("CuPy does not convert its arrays to NumPy arrays by itself; ask for `.get()`.")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__":
            return NotImplemented
        return getattr(_module, ufunc.__name__)(*inputs, **kwargs)

    def __array_function__(self, function: Callable, types: Any, args: tuple, kwargs: dict) -> Any:
        path = (*function.__module__.split(".")[1:], function.__name__)
        return functools.reduce(getattr, path, _module)(*args, **kwargs)

    # ---- sequences and indices

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[DeviceArray]:
        if not self._held.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> DeviceArray:
        plain, advanced = _index(key)
        if advanced:
            return _called(_picked, (self, key if isinstance(key, tuple) else (key,)), {})
        if Ellipsis not in plain:
            plain = (*plain, Ellipsis)  # NumPy then gives a view also of a single value
        return _wrapped(self._held[plain])

    def __setitem__(self, key: Any, value: Any) -> None:
        plain, advanced = _index(key)
        if not isinstance(value, (DeviceArray, *_SCALARS)):
            raise TypeError(f"CuPy sets values of arrays and numbers, got {type(value).__name__}.")
        if advanced and not isinstance(value, DeviceArray):
            _counts.transfer(())  # CuPy makes an array of the number
        held, given = self._held, value._held if isinstance(value, DeviceArray) else value
        parts = key if isinstance(key, tuple) else (key,)
        _do(lambda: held.__setitem__(_places(held, plain), given), (self, value, *parts))

    def __deepcopy__(self, memo: dict) -> DeviceArray:
        return _wrapped(self._held.copy())


def _index(key: Any) -> tuple[tuple, bool]:
    """An index with NumPy arrays in the place of device arrays, and whether there were any."""
    parts = key if isinstance(key, tuple) else (key,)
    plain = []
    for part in parts:
        if isinstance(part, DeviceArray):
            if part.dtype.kind == "b":
                _counts.read("boolean index")
            plain.append(part._held)
        elif part is None or part is Ellipsis or isinstance(part, (slice, int, np.integer)):
            plain.append(part)
        else:
            raise TypeError(f"An index by {type(part).__name__} moves it to the device each time; move it before.")
    return tuple(plain), any(isinstance(part, DeviceArray) for part in parts)


def _places(array: np.ndarray, key: Any) -> tuple:
    """An index, with those that are out of range in arrays counted around, as CuPy does."""
    parts, axis, found = key if isinstance(key, tuple) else (key,), 0, []
    taken = [part.ndim if isinstance(part, np.ndarray) and part.dtype.kind == "b" else 1 for part in parts]
    whole = sum(n for n, part in zip(taken, parts, strict=True) if part is not None and part is not Ellipsis)
    for n, part in zip(taken, parts, strict=True):
        is_array = isinstance(part, np.ndarray) and part.dtype.kind in "iu"
        found.append(_around(part, array.shape[axis]) if is_array else part)
        axis += array.ndim - whole if part is Ellipsis else 0 if part is None else n
    return tuple(found)


def _around(indices: np.ndarray, size: int) -> np.ndarray:
    return indices.astype("int64") % size if size else indices


def _picked(array: np.ndarray, key: tuple) -> Any:
    return array[_places(array, key)]


def _take(array: np.ndarray, indices: Any, axis: Any = None, out: Any = None) -> Any:
    size = array.size if axis is None else array.shape[axis]
    return np.take(array, _around(np.asarray(indices), size), axis, out)


def _take_along_axis(array: np.ndarray, indices: Any, axis: Any) -> Any:
    size = array.size if axis is None else array.shape[axis]
    return np.take_along_axis(array, _around(indices, size), axis)


_INSTEAD = {"take": _take, "take_along_axis": _take_along_axis}  # of NumPy's functions, which refuse such indices


def _wrapped(value: Any) -> Any:
    """A NumPy result as CuPy gives it: scalars are arrays without axes."""
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if isinstance(value, np.ndarray):
        return DeviceArray(value)
    if hasattr(value, "_fields"):
        return type(value)(*map(_wrapped, value))
    if isinstance(value, (list, tuple)) and any(isinstance(part, np.ndarray) for part in value):
        return type(value)(_wrapped(part) for part in value)
    return value


def _plain(value: Any) -> Any:
    """An argument with NumPy arrays in the place of device arrays; real NumPy arrays are refused."""
    if isinstance(value, DeviceArray):
        return value._held
    if isinstance(value, np.ndarray):
        raise TypeError(f"CuPy does not take NumPy arrays, got one of shape {value.shape}.")
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value] if isinstance(value, list) else tuple([_plain(part) for part in value])
    return value


def _called(function: Callable, args: Any, keywords: dict[str, Any]) -> Any:
    """The result of a NumPy function for a call of CuPy's; a result in `out` is that array itself."""
    out = keywords.get("out")
    plain_args, plain_keywords = _plain(tuple(args)), {name: _plain(value) for name, value in keywords.items()}
    capture = streams.capturing()
    if capture is not None:
        return _captured(capture, function, (args, keywords), plain_args, plain_keywords)
    streams.catch_up()
    result = function(*plain_args, **plain_keywords)
    if out is not None:
        return out
    return _wrapped(_with_own(result, plain_args, streams.placed) if streams.state.allocators else result)


def _do(work: Callable[[], Any], given: Any) -> None:
    """Do something with device arrays, now or, within a capture, whenever its graph is launched."""
    capture = streams.capturing()
    if capture is None:
        streams.catch_up()
        work()
        return
    for one in given:
        if isinstance(one, DeviceArray):
            capture.uses(one)
    capture.nodes.append(work)


def _captured(capture: Any, function: Callable, given: Any, args: Any, keywords: dict[str, Any]) -> Any:
    """Put a call into a graph; a result that is no view is memory that it writes to."""
    for one in _arrays(given):
        capture.uses(one)
    if keywords.get("out") is not None:
        capture.nodes.append(lambda: function(*args, **keywords))
        return given[1]["out"]
    copies = [_copied(one) for one in args]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = function(*copies, **{name: _copied(value) for name, value in keywords.items()})
    if result is None:  # it changes an argument
        capture.nodes.append(lambda: function(*args, **keywords))
        return None
    if any(_shares(one, copies) for one in _leaves(result)):  # a view, if not of a copy that lies in another way
        result = function(*args, **keywords)
        if all(_shares(one, args) for one in _leaves(result)):
            return _wrapped(result)
    result = _with_own(result, (), streams.placed)
    buffers = [one for one in _leaves(result) if isinstance(one, np.ndarray)]
    for buffer in buffers:
        buffer.fill(np.nan if buffer.dtype.kind in "fc" else 0)

    def again() -> None:
        found = [np.asarray(one) for one in _leaves(function(*args, **keywords))]
        for buffer, one in zip(buffers, found, strict=True):
            buffer[...] = one

    if function is not np.empty:
        capture.nodes.append(again)
    return _wrapped(result)


def _leaves(value: Any) -> list[Any]:
    return [leaf for one in value for leaf in _leaves(one)] if isinstance(value, (tuple, list)) else [value]


def _arrays(value: Any) -> list[DeviceArray]:
    if isinstance(value, dict):
        value = list(value.values())
    return [one for one in _leaves(value) if isinstance(one, DeviceArray)] + [
        one
        for part in (value if isinstance(value, (tuple, list)) else ())
        if isinstance(part, dict)
        for one in _arrays(part)
    ]


def _copied(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)([_copied(one) for one in value])
    return value.copy(order="K") if isinstance(value, np.ndarray) else value


def _shares(array: Any, others: Any) -> bool:
    return isinstance(array, np.ndarray) and any(
        isinstance(one, np.ndarray) and np.may_share_memory(array, one) for one in _leaves(list(others))
    )


def _with_own(result: Any, args: Any, place: Callable[[np.ndarray], np.ndarray]) -> Any:
    """A result whose new arrays are in memory of the device's allocator."""
    if isinstance(result, np.generic):
        result = np.asarray(result)
    if isinstance(result, np.ndarray):
        return result if _shares(result, args) else place(result)
    if hasattr(result, "_fields"):
        return type(result)(*(_with_own(one, args, place) for one in result))
    return (
        type(result)([_with_own(one, args, place) for one in result]) if isinstance(result, (tuple, list)) else result
    )


# where there is a device, CuPy must not be given arrays without memory
_CUPY_CAN_BE_ASKED = not kernels._gpu_is_there()
_asked: set[tuple] = set()


def _ask_cupy(function: Callable, name: str, args: Any, keywords: dict[str, Any]) -> None:
    """Let CuPy's own function look at a call, once for each kind; it gets as far as its first use of the device.

    What it refuses before, is refused here too.
    """
    kind = (name, _kind(args), _kind(tuple(keywords.items())))
    if _CUPY_CAN_BE_ASKED and kind not in _asked:
        with contextlib.suppress(cupy.cuda.runtime.CUDARuntimeError, ImportError):  # no device, no cuBLAS
            function(*_ghost(tuple(args)), **{name: _ghost(value) for name, value in keywords.items()})
        _asked.add(kind)


def _kind(value: Any) -> Any:
    """What of an argument may decide whether CuPy takes it."""
    if isinstance(value, DeviceArray):
        held = value._held
        return held.dtype.char, held.ndim, held.size == 0, held.flags.c_contiguous
    if isinstance(value, (list, tuple)):
        return type(value), *[_kind(part) for part in value]
    return value if value is None or isinstance(value, (str, bool, type, np.dtype)) else type(value)


def _ghost(value: Any) -> Any:
    """An argument with CuPy's arrays, which have no memory, in the place of device arrays."""
    if isinstance(value, DeviceArray):
        held = value._held
        memory = cupy.cuda.UnownedMemory(1 << 20, max(held.nbytes, 1), None, 0)
        return cupy.ndarray(held.shape, held.dtype, cupy.cuda.MemoryPointer(memory, 0), held.strides)
    if isinstance(value, (list, tuple)):
        return type(value)([_ghost(part) for part in value])
    return value


_signature = functools.cache(inspect.signature)


@functools.cache
def _signature_of_method(name: str) -> inspect.Signature | None:
    """The signature of a method of `cupy.ndarray`, which is only written in its documentation."""
    method = getattr(cupy.ndarray, name)
    described = re.match(rf"_ndarray_base\.{name}\((.*)\)( ->.*)?$", (method.__doc__ or "").split("\n")[0])
    if described is None:
        return _signature(method)
    parameters = re.sub(r"(^|, )(?:int|Py_ssize_t|_ndarray_base) (\w)", r"\1\2", described[1])
    return inspect.signature(eval(f"lambda {parameters}: None"))


def _method(name: str, array: DeviceArray, *args: Any, **keywords: Any) -> Any:
    signature = _signature_of_method(name)
    signature.bind(None, *args, **keywords)
    if name in _WAITING:
        _counts.read(name)
    _check_sort(name, keywords)
    _check_library(name)
    _ask_cupy(getattr(cupy.ndarray, name), f"ndarray.{name}", (array, *args), keywords)
    return _called(_INSTEAD.get(name, getattr(np.ndarray, name)), (array, *args), keywords)


def _check_library(name: str) -> None:
    """CuPy's products do not run within a capture, and arrays are joined by a table of their addresses, which moves."""
    if name in _BY_LIBRARIES and streams.capturing() is not None:
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
    if name in _JOINING and streams.capturing() is not None:
        streams.alloc_pinned_memory(8)


def _check_sort(name: str, keywords: dict[str, Any]) -> None:
    if name in ("sort", "argsort") and keywords.get("kind") not in (None, "stable"):
        raise ValueError(f"CuPy sorts stably, got kind={keywords['kind']!r}.")


def _check_out(name: str, args: tuple, out: Any) -> None:
    """Refuse a result in the memory of an argument: NumPy makes a copy first, CuPy does so only in ufuncs."""
    if not isinstance(out, DeviceArray) or name == "clip":  # which is a ufunc within
        return
    for one in args:
        if isinstance(one, DeviceArray) and np.may_share_memory(one._held, out._held):
            raise ValueError(f"cupy.{name} would overwrite what it still reads.")


def _type_of(value: Any) -> Any:
    """An operand's type, as promotion sees it: that of Python's numbers gives way."""
    return type(value) if type(value) in (int, float, complex) else np.asarray(_plain(value)).dtype


@functools.cache
def _refusal(theirs: Any, ours: np.ufunc, types: tuple) -> str | None:
    """Why CuPy does not compute a ufunc of these types as NumPy does, or None.

    CuPy's own search finds its loop.
    """
    operands = [CScalar(one()) if isinstance(one, type) else _ghost(DeviceArray(np.empty(1, one))) for one in types]
    try:
        loop = theirs._ops.guess_routine(theirs.name, {}, operands, None, theirs._out_ops)
    except TypeError:
        return f"cupy.{ours.__name__} has no loop for {types}."
    result = ours.resolve_dtypes((*types, *[None] * ours.nout))[ours.nin]
    if loop.out_types[0] != result:
        return f"cupy.{ours.__name__} of {types} gives {loop.out_types[0]}, NumPy's {result}."
    return None


@functools.cache
def _signature_of_ufunc_method(ufunc: Any, name: str) -> inspect.Signature:
    described = getattr(ufunc, name).__doc__.split("\n")[0]
    return inspect.signature(eval(f"lambda {described.split('(', 1)[1].removesuffix(')')}: None"))


class _Ufunc:
    """A ufunc of CuPy: takes only `out`, `dtype` and `casting`, and knows only certain types."""

    def __init__(self, theirs: Any, ours: np.ufunc):
        self._theirs, self._ours = theirs, ours

    def __call__(self, *args: Any, out: Any = None, dtype: Any = None, casting: str = "same_kind") -> Any:
        if len(args) > self._theirs.nin:
            out, args = args[self._theirs.nin], args[: self._theirs.nin]
        if isinstance(out, tuple):
            (out,) = out
        for value in args:
            if not isinstance(value, (DeviceArray, *_SCALARS)):
                raise TypeError(f"cupy.{self._ours.__name__} takes arrays and numbers, got {type(value).__name__}.")
        self._check_types(args, dtype)
        _check_library(self._ours.__name__)
        return _called(self._ours, args, {"out": out, "dtype": dtype, "casting": casting})

    def _check_types(self, args: tuple, dtype: Any) -> None:
        """Refuse types that CuPy has no loop for, and those whose result would be of another type than NumPy's."""
        if dtype is not None or not self._theirs.types:
            return
        refusal = _refusal(self._theirs, self._ours, tuple([_type_of(one) for one in args]))
        if refusal is not None:
            raise TypeError(refusal)

    def __getattr__(self, name: str) -> Callable:
        parameters = _signature_of_ufunc_method(self._theirs, name)

        def method(*args: Any, **keywords: Any) -> Any:
            parameters.bind(None, *args, **keywords)
            known = _SCATTERED if name == "at" else _METHODS[name]
            if self._ours.__name__ not in known:
                raise NotImplementedError(f"cupy.{self._ours.__name__}.{name} does not exist yet.")
            if name == "at" and args[0].dtype.char not in _SCATTERED[self._ours.__name__]:
                raise TypeError(f"cupy.{self._ours.__name__}.at does not work on {args[0].dtype}.")
            _ask_cupy(getattr(self._theirs, name), f"{self._ours.__name__}.{name}", args, keywords)
            if name == "at":
                return _called(
                    lambda a, key, *rest: getattr(self._ours, name)(a, _places(a, key), *rest), args, keywords
                )
            return _called(getattr(self._ours, name), args, keywords)

        return method


pool = streams.get_default_memory_pool()


class Recorder:
    """The array module, or one of its submodules."""

    ndarray = DeviceArray

    def __init__(self, theirs: ModuleType = cupy, ours: ModuleType = np):
        self._theirs, self._ours = theirs, ours

    def __getattr__(self, name: str) -> Any:
        if not hasattr(self._theirs, name):
            raise AttributeError(f"{self._theirs.__name__} has no {name!r}.")
        if self._theirs is cupy and name in _OWN:
            return _OWN[name]
        if self._theirs is cupy.linalg:
            _check_library("dot")
        theirs, ours = getattr(self._theirs, name), getattr(self._ours, name)
        found = theirs  # number types, constants
        if isinstance(theirs, ModuleType):
            found = Recorder(theirs, ours)
        elif isinstance(theirs, cupy.ufunc) and isinstance(ours, np.ufunc):
            found = _Ufunc(theirs, ours)
        elif isinstance(theirs, cupy.ufunc):  # a plain function of NumPy's, such as `sinc`
            found = lambda *args: _called(ours, args, {})
        elif callable(theirs) and not isinstance(theirs, type):
            call = _moved if name in _TRANSFERS else functools.partial(_function, name)
            found = functools.partial(call, theirs, ours)
        setattr(self, name, found)
        return found


def _moved(theirs: Callable, ours: Callable, value: Any, *args: Any, **keywords: Any) -> DeviceArray:
    """`asarray` and its like: the way to the device."""
    _signature(theirs).bind(value, *args, **keywords)
    if isinstance(value, DeviceArray):
        return value if ours is np.asarray and not (args or keywords) else _called(ours, (value, *args), keywords)
    array = ours(value, *args, **keywords)
    array = np.array(array)
    if array.dtype.kind not in "biufc" and array.dtype.char != "E":  # bfloat16, which CuPy 14 has
        raise TypeError(f"CuPy has no arrays of {array.dtype}.")
    _counts.transfer(array.shape, array.nbytes)
    return _wrapped(streams.placed(array) if streams.state.allocators else array)


def _function(name: str, theirs: Callable, ours: Callable, *args: Any, **keywords: Any) -> Any:
    signature = _signature(theirs)
    bound = signature.bind(*args, **keywords)
    extra = [parameter.name for parameter in signature.parameters.values() if parameter.kind is parameter.VAR_KEYWORD]
    unknown = set(bound.arguments.get(extra[0], {}) if extra else {}) - _KEYWORDS.get(name, set())
    if unknown:
        raise TypeError(f"cupy.{name} has no arguments {sorted(unknown)}.")
    first = next(iter(signature.parameters))
    if first in ("a", "x", "m", "v", "array", "arr", "ary", "condition") and name not in _WITHOUT_ARRAYS:
        value = bound.arguments[first]
        if not isinstance(value, DeviceArray):
            raise TypeError(f"cupy.{name} takes an array, got {type(value).__name__}.")
    if name in _WAITING or (name == "where" and len(bound.arguments) == 1):
        _counts.read(name)
    if name == "average" and bound.arguments.get("weights") is not None:
        _counts.read(name)  # it looks whether they sum to zero
    if name == "repeat" and not isinstance(bound.arguments["repeats"], int):
        raise TypeError("cupy.repeat does not take an array of repeats.")
    _check_sort(name, keywords)
    _check_library(name)
    _check_out(name, args, keywords.get("out"))
    _ask_cupy(theirs, name, args, keywords)
    return _called(_INSTEAD.get(name, ours), args, keywords)


def _install_operators() -> None:
    """Python's operators: ufuncs of arrays and numbers; what else there is, is left to the other operand."""
    binary = {
        "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "floordiv": "floor_divide",
        "mod": "remainder", "pow": "power", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
        "lshift": "left_shift", "rshift": "right_shift", "matmul": "matmul",
    }  # fmt: skip
    comparisons = {
        "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
    }  # fmt: skip
    unary = {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}

    def operator(name: str, reflected: bool) -> Callable:
        def operate(self: DeviceArray, other: Any) -> Any:
            if not isinstance(other, (DeviceArray, np.ndarray, *_SCALARS)) and name not in comparisons.values():
                return NotImplemented
            return getattr(_module, name)(*((other, self) if reflected else (self, other)))

        return operate

    def in_place(name: str) -> Callable:
        return lambda self, other: getattr(_module, name)(self, other, out=self)

    for short, name in binary.items():
        setattr(DeviceArray, f"__{short}__", operator(name, False))
        setattr(DeviceArray, f"__r{short}__", operator(name, True))
        if hasattr(cupy.ndarray, f"__i{short}__"):
            setattr(DeviceArray, f"__i{short}__", in_place(name))
    for short, name in comparisons.items():
        setattr(DeviceArray, f"__{short}__", operator(name, False))
    for short, name in unary.items():
        setattr(DeviceArray, f"__{short}__", lambda self, name=name: getattr(_module, name)(self))


_OWN = {
    "RawModule": HostModule,
    "cuda": streams.cuda,
    "get_default_memory_pool": streams.get_default_memory_pool,
    "get_default_pinned_memory_pool": streams.get_default_pinned_memory_pool,
}
_module = Recorder()
_find_library = cublas.find_library
cublas.find_library = lambda xp: FakeCublasLt() if xp is _module else _find_library(xp)
_install_operators()


def take_the_place_of_cupy() -> None:
    """From now on the stand-in is what minikeras finds when it asks for CuPy."""
    kernels._cupy = lambda: _module


@contextlib.contextmanager
def recording_device() -> Iterator[Counts]:
    """Within this block minikeras computes on the stand-in; yields the counts, which begin at nothing."""
    global _counts
    previous, cupy_of_before, counts_of_before = kernels.active_device(), kernels._cupy, _counts
    _counts = Counts()
    take_the_place_of_cupy()
    kernels.use("gpu")
    try:
        yield _counts
    finally:
        kernels._cupy, _counts = cupy_of_before, counts_of_before
        kernels.use(previous)
