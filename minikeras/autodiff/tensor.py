"""Tensor: a raw array and the tape node it came from.  Variable: a tensor with a name that training changes."""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from minikeras import config, journal, limits
from minikeras import kernels as k
from minikeras.autodiff.turns import at_once
from minikeras.kernels.arena import current, fixed
from minikeras.tracebacks import end_at_users_line, user_facing

_numbers = itertools.count()


class _Scope(threading.local):
    """The names that the paths of new variables begin with: those of the user's name scopes."""

    names: tuple[str, ...] = ()


scope = _Scope()
FLOATS = "efdgE"  # the letters of the types of floats: NumPy's, and bfloat16's, whose `kind` is that of raw bytes


class _State(threading.local):
    """What a thread's tapes and tensors know of each other."""

    recording = 0  # how many open blocks record, up to the last one that does not
    recorder: Any = None  # who is told of every operation; see `callbacks/nonfinite.py`
    casts: Any = None  # the type that operations take variables for; see narrow.py


_state = _State()
clock = itertools.count()  # orders what is recorded and what is changed
_latest_change = 0


def mark_changed(variables: Iterable[Variable]) -> None:
    """Note that the values of these variables were just changed in place.

    What a tape keeps for a gradient are the very arrays, so a gradient of anything computed before would be wrong, and
    `backward` refuses it.
    """
    global _latest_change
    _latest_change = next(clock)
    for variable in variables:
        variable.changed = _latest_change


def latest_change() -> int:
    """When any variable was last changed in place, by `clock`."""
    return _latest_change


def spoil(reason: str) -> None:
    """Say why the step that is recorded, if one is, cannot be repeated without Python."""
    if current.recording is not None:
        current.recording.spoil(reason)


class Tensor:
    """An array on the active device, as operations return it.

    `numpy()` and `np.asarray(tensor)` give its values as a NumPy array; Python's operators and indexing differentiate.
    """

    # data: the raw array; tracked: whether gradients flow to it; node, index: which output of which tape node it is
    __slots__ = ("__weakref__", "_keras_mask", "data", "index", "node", "tracked")

    def __init__(self, data: Any, tracked: bool = False):
        self.data = data
        self.tracked = tracked
        self.node: Any = None
        self.index = 0
        self._keras_mask: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array."""
        return k.to_host(self._read())

    def _read(self) -> Any:
        """The array, for Python to look at its values."""
        if current.recording is not None and not current.recording.are_fixed([self.data]):
            spoil("Python reads a value")
        return self.data

    def item(self) -> Any:
        """The only value, as a Python number."""
        return k.to_host(self._read()).item()

    def tolist(self) -> Any:
        return k.to_host(self._read()).tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.tracked and _state.recording:
            raise TypeError(
                f"A tensor of shape {self.shape} was converted to a NumPy array while its gradient is being recorded, "
                "which would lose the gradient; use minikeras.ops, or tensor.numpy() for its values as constants."
            )
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __float__(self) -> float:
        return float(self._read())

    def __int__(self) -> int:
        return int(self._read())

    def __index__(self) -> int:
        return self._read().__index__()

    def __bool__(self) -> bool:
        return bool(self._read())

    def __format__(self, spec: str) -> str:
        return format(self.item() if spec and self.data.ndim == 0 else str(self._read()), spec)

    def __repr__(self) -> str:
        return f"<Tensor shape={self.shape} dtype={self.dtype}>\n{self.numpy()!r}"

    def __reduce__(self) -> Any:
        return _restore_tensor, (np.array(self.numpy()),)

    def __deepcopy__(self, memo: dict) -> Tensor:
        return Tensor(self.data.copy())

    __hash__ = object.__hash__

    # Operators and the way from NumPy's functions to ours live in ops/operators.py and ops/numpy_protocol.py, which
    # install them here: they are differentiable operations.
    __getitem__: Callable
    __array_ufunc__: Callable
    __array_function__: Callable


class Variable(Tensor):
    """A named array that training changes in place.

    Args:
        initializer: the initial value (array or number), or a function of (shape, dtype) that makes it.
        shape: needed where `initializer` is a function.
        dtype: default `floatx()`, or the value's own where it is an integer or boolean array.
        trainable: whether gradients are computed for it.
        autocast: whether layers compute with it in their own type.
        aggregation: accepted for familiarity.
        name: last part of its `path`.

    >>> import minikeras as keras
    >>> v = keras.Variable([1.0, 2.0], name="v")
    >>> v.assign_add([1.0, 1.0]).numpy()
    array([2., 3.], dtype=float32)
    """

    # number: variables are counted as they are made, which is the order that a layer lists them in
    # changed: when the values were last changed in place, by `clock`
    # _structure: replaced when `trainable`, `regularizer` or `constraint` is set, for those who keep lists of variables
    __slots__ = (
        *("_constraint", "_overwritten", "_regularizer", "_structure", "_trainable", "aggregation", "autocast"),
        *("changed", "made_trainable", "name", "number", "path"),
    )

    @user_facing
    def __init__(
        self,
        initializer: Any,
        shape: tuple[int, ...] | None = None,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        aggregation: str = "none",
        name: str | None = None,
    ):
        if callable(initializer) and not isinstance(initializer, Tensor):
            if shape is None:
                raise ValueError("A Variable made by an initializer function needs its shape, got shape=None.")
            type_name = config.standardize_dtype(dtype)
            limits.spend_array(shape, np.dtype(type_name).itemsize, "a weight")
            value = initializer(tuple(shape), dtype=type_name)
        else:
            value = initializer
        value = np.array(value.numpy() if isinstance(value, Tensor) else k.to_host(value))
        if dtype is None:
            dtype = config.floatx() if value.dtype.char in FLOATS else value.dtype
        dtype = np.dtype(config.standardize_dtype(dtype))
        if shape is not None and value.shape != tuple(shape):
            raise ValueError(f"The Variable's value has shape {value.shape}, expected {tuple(shape)}.")
        data = np.ascontiguousarray(value, dtype=dtype).reshape(value.shape)
        super().__init__(k.to_device(data), tracked=bool(trainable) and data.dtype.char in FLOATS)
        self._trainable = self.made_trainable = bool(trainable)
        self.number = next(_numbers)
        self.changed = 0
        self._overwritten = False
        self.autocast = autocast
        self.aggregation = aggregation
        self.name = name or "variable"
        self.path = "/".join((*scope.names, self.name))
        self.constraint: Any = None
        self.regularizer: Any = None

    @property
    def dtype(self) -> str:
        return str(self.data.dtype)

    @property
    def trainable(self) -> bool:
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        self.tracked = self._trainable and self.data.dtype.char in FLOATS
        self._structure = object()

    @property
    def overwrite_with_gradient(self) -> bool:
        """Whether optimizers put the gradient in the place of the value; to be set before one is built.

        Raises:
            TypeError: when set to what is no boolean.
        """
        return self._overwritten

    @overwrite_with_gradient.setter
    def overwrite_with_gradient(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise TypeError(f"overwrite_with_gradient of {self.path!r} is True or False, got {value!r}.")
        self._overwritten = value

    @property
    def regularizer(self) -> Any:
        """A function of the variable whose value is added to the loss, or None."""
        return self._regularizer

    @regularizer.setter
    def regularizer(self, value: Any) -> None:
        self._regularizer = value
        self._structure = object()

    @property
    def constraint(self) -> Any:
        """A function of the variable whose value takes its place after each update, or None."""
        return self._constraint

    @constraint.setter
    def constraint(self, value: Any) -> None:
        self._constraint = value
        self._structure = object()

    @property
    def value(self) -> Tensor:
        """The present value, as a tensor that later changes do not reach."""
        return Tensor(self.data.copy())

    def numpy(self) -> np.ndarray:
        """A copy of the values."""
        return np.array(k.to_host(self._read()))

    def assign(self, value: Any) -> Variable:
        """Replace the values: in place, or, while a tape records, by a new array, as the tape may need the old one.

        Raises:
            ValueError: where the shapes differ, and for values that the variable's type cannot hold; the variable is
                unchanged.
            TypeError: for what is no array of numbers; the variable is unchanged.
        """
        try:
            value = k.to_device(self.fitting(value))
            if current.recording is not None:
                current.recording.check(self.data)
            if journal.active:
                journal.note(self)
            if _state.recording:
                fresh = k.xp.empty_like(self.data)
                fresh[...] = value
                self.data = fresh
            else:
                self.data[...] = value
                mark_changed([self])
            return self
        except BaseException as error:
            end_at_users_line(error)
            raise

    def assign_add(self, value: Any) -> Variable:
        """Add `value` in place; raises as `assign` does."""
        return self.assign(self.data + self._in_own_type(value))

    def assign_sub(self, value: Any) -> Variable:
        """Subtract `value` in place; raises as `assign` does."""
        return self.assign(self.data - self._in_own_type(value))

    def _in_own_type(self, value: Any) -> Any:
        return k.to_device(self._numbers_of(value)).astype(self.data.dtype, copy=False)

    def fitting(self, value: Any) -> Any:
        """`value` as an array, on the host or the device, that the variable can take; raises as `assign` does."""
        array = self._numbers_of(value)
        if array.shape != self.data.shape:
            raise ValueError(
                f"Variable {self.path!r} has shape {self.data.shape} and cannot take a value of shape {array.shape}."
            )
        return array

    def _numbers_of(self, value: Any) -> Any:
        """`value` as an array of numbers, on the host or the device, that the variable's type can hold."""
        array = value.data if isinstance(value, Tensor) else self._host_array(value)
        array = fixed(array) if isinstance(value, (int, float)) else array
        kind, own = array.dtype.kind, self.data.dtype
        if kind not in "biuf" and array.dtype.char not in FLOATS and not (kind == own.kind == "c"):
            raise TypeError(
                f"Variable {self.path!r} holds {own} and cannot take {_in_words(value)}; assign an array of numbers."
            )
        if own.kind in "biu" and not np.can_cast(array.dtype, own, "safe"):
            # rounded or cut off in silence these would be other numbers; integers rarely change, so it may be looked
            with np.errstate(invalid="ignore"):
                whole = array.astype(own)
            if not bool((whole == array).all()):
                raise ValueError(
                    f"Variable {self.path!r} holds {own} and cannot take {_in_words(value)}, which is changed by the "
                    "conversion; round it, or make the variable of another type."
                )
            array = whole
        return array

    def _host_array(self, value: Any) -> Any:
        if isinstance(value, k.xp.ndarray):
            return value
        try:
            return k.to_host(value)
        except (TypeError, ValueError):  # a symbolic tensor, rows of different lengths
            raise TypeError(
                f"Variable {self.path!r} holds {self.data.dtype} and cannot take {_in_words(value)}; assign an array "
                "of numbers."
            ) from None

    def restorer(self) -> Callable[[], None]:
        """A function that puts the present values back (see `journal`)."""
        kept = self.data.copy()

        def restore() -> None:
            self.data[...] = kept

        return restore

    def __repr__(self) -> str:
        return f"<Variable path={self.path} shape={self.shape} dtype={self.dtype}>"

    def __reduce__(self) -> Any:
        slots = {slot: getattr(self, slot) for slot in Variable.__slots__ if slot not in ("_structure", "changed")}
        return _restore_variable, (type(self), self.numpy()), {**slots, **getattr(self, "__dict__", {})}

    def __deepcopy__(self, memo: dict) -> Variable:
        restore, arguments, state = self.__reduce__()
        copied = memo[id(self)] = restore(*arguments)
        copied.__setstate__(copy.deepcopy(state, memo))
        return copied

    def __setstate__(self, state: dict[str, Any]) -> None:
        global _numbers
        latest = self.number
        for name, content in state.items():
            setattr(self, name, content)
        self.trainable = self._trainable
        if self.number > latest:  # of another process; a layer's later weights have later numbers
            _numbers = itertools.count(self.number + 1)


def assign_all(variables: Sequence[Variable], values: Sequence[Any]) -> None:
    """Replace the values of several variables; all are checked and converted before the first is changed.

    Predictions in other threads see all the old values or all the new ones.

    Raises:
        ValueError, TypeError: as `Variable.assign` does; then nothing is changed.
    """
    fitting = [variable.fitting(value) for variable, value in zip(variables, values, strict=True)]
    with at_once():
        for variable, value in zip(variables, fitting, strict=True):
            variable.assign(value)


@contextmanager
def substituted(holder: str, variables: Sequence[Variable], values: Iterable[Any]) -> Iterator[None]:
    """Within this block variables have other values; afterwards they have their own again.

    Raises:
        ValueError, TypeError: as `assign_all` does, and for another number of values; `holder` says whose they are.
    """
    values = list_of_arrays(holder, values)
    if len(values) != len(variables):
        raise ValueError(f"{holder} takes {len(variables)} values, one for each variable, got {len(values)}.")
    before = [variable.numpy() for variable in variables]
    assign_all(variables, values)
    try:
        yield
    finally:
        assign_all(variables, before)


def list_of_arrays(holder: str, values: Any) -> list[Any]:
    """The entries of a list of arrays, for `assign_all`; `holder` says in an error whose they are to become.

    Raises:
        TypeError: for what is no list, tuple or other row of arrays.
    """
    if values is None or isinstance(values, (str, bytes, dict, int, float)) or not hasattr(values, "__iter__"):
        raise TypeError(f"{holder} takes a list of arrays, as get_weights() gives it, got {_in_words(values)}.")
    return list(values)


def _in_words(value: Any) -> str:
    """A value as an error shows it: short, and with the type where that is what is wrong."""
    text = repr(value.numpy() if isinstance(value, Tensor) else value)
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _restore_tensor(value: np.ndarray) -> Tensor:
    return Tensor(k.to_device(value))


def _restore_variable(cls: type[Variable], value: np.ndarray) -> Variable:
    variable = cls.__new__(cls)
    Variable.__init__(variable, value, dtype=value.dtype)
    return variable
