"""Recordings: what is noted, what is free, what spoils them, and that nothing of NumPy's escapes."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minikeras import kernels as k
from minikeras.kernels.arena import constant, explain
from minikeras.kernels.cpu import recording as module
from minikeras.kernels.cpu.compiler import Floats, part, share
from minikeras.kernels.cpu.program import Program
from minikeras.kernels.cpu.recording import NativeCall, Recorded, Recording

F4 = np.dtype("float32")
X = np.arange(12, dtype="f4").reshape(3, 4)


@part
def _doubled(part, parts, size, x: Floats, out: Floats):  # type: ignore[no-untyped-def]
    first, last = share(part, parts, size)
    for i in range(first, last):
        out[i] = x[i] + x[i]


def doubled(x: Any) -> Any:
    out = k.empty(x.shape, x.dtype)
    _doubled.run(1, size=x.size, x=x, out=out)
    return out


def recorded(function: Callable, *arrays: Any) -> tuple[Any, Recording]:
    """What a function gives for arrays that are known, and the recording."""
    arrays = tuple(np.array(array) for array in arrays or (X,))
    with Recording(arrays) as recording:
        result = function(*[array.view(Recorded) for array in arrays])
    return result, recording


def names(recording: Recording) -> list[str]:
    return ["native" if isinstance(call, NativeCall) else call.name for call in recording.calls]


def done_as(recording: Recording, calls: list[str]) -> bool:
    """Whether these are NumPy's functions that were asked for, each noted as such or as machine code in its place."""
    found = names(recording)
    return len(found) == len(calls) and all(one in ("native", wanted) for one, wanted in zip(found, calls, strict=True))


# ---- what is noted, and what is free


NOTED = {*module._NOTED, "real", "imag", "__getitem__", "__setitem__", "__iter__"}
READS = {*module._READ, "flat", "data"}
VIEWS = {"T", "mT", "base", "getfield", "squeeze", "swapaxes", "to_device", "transpose", "view"}
ABOUT = {
    *("ctypes", "device", "dtype", "flags", "itemsize", "nbytes", "ndim", "resize", "setflags", "shape", "size"),
    "strides",
}
OF_UFUNCS = {"all", "any", "max", "mean", "min", "prod", "std", "sum", "var"}  # made of reductions, in Python
ONE_OPERAND = {"abs", "invert", "neg", "pos", "eq", "ge", "gt", "le", "lt", "ne"}  # or they have no other side
TWO_OPERANDS = {
    *("add", "and", "divmod", "floordiv", "lshift", "matmul", "mod", "mul", "or", "pow", "rshift", "sub", "truediv"),
    "xor",
}
PROTOCOLS = {
    *("array", "array_finalize", "array_function", "array_interface", "array_namespace", "array_priority", "len"),
    *("array_struct", "array_ufunc", "array_wrap", "dlpack_device", "buffer", "release_buffer", "class_getitem"),
    "delitem",
}
REFUSED = {"itemset", "newbyteorder", "ptp"}  # by NumPy 2 before 2.1
SPECIAL = {f"__{one}__" for one in (*ONE_OPERAND, *PROTOCOLS)}
SPECIAL |= {f"__{side}{one}__" for side in ("", "r", "i") for one in TWO_OPERANDS}


def test_every_method_and_attribute_of_arrays_is_known() -> None:
    """A NumPy that has another one makes this fail: is it to be noted, does it read, or is it a view?"""
    known = {*NOTED, *READS, *VIEWS, *ABOUT, *OF_UFUNCS, *REFUSED, *SPECIAL, *dir(object)}
    assert set(dir(np.ndarray)) <= known, "a method or attribute of arrays that recordings do not know"
    for name in NOTED | READS:
        assert getattr(Recorded, name) is not getattr(np.ndarray, name), name


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[1:, ::2], lambda x: x[0], lambda x: x[0, 1], lambda x: x[None, ..., -1], lambda x: x.T,
        lambda x: x.reshape(4, 3), lambda x: x.ravel(), lambda x: x.view("i4"), lambda x: x.transpose(1, 0),
        lambda x: x.squeeze(), lambda x: np.swapaxes(x, 0, 1), lambda x: np.expand_dims(x, 0), lambda x: x.diagonal(),
        lambda x: np.broadcast_to(x, (2, 3, 4)), lambda x: x.astype("f4", copy=False), lambda x: x.real,
        lambda x: next(iter(x)), lambda x: np.split(x, 3)[1], lambda x: np.moveaxis(x, 0, 1),
    ],
)  # fmt: skip
def test_views_are_free(view: Callable) -> None:
    result, recording = recorded(view)
    assert isinstance(result, Recorded) and isinstance(result.base, np.ndarray)
    assert recording.spoiled is None and recording.calls == []
    np.testing.assert_array_equal(result.view(np.ndarray), view(X))


@pytest.mark.parametrize(
    ("function", "calls"),
    [
        (lambda x: x + 1, ["add"]),
        (lambda x: -(x**2), ["square", "negative"]),
        (lambda x: x.mean(), ["add.reduce", "divide"]),
        (lambda x: x[[2, 0]], ["index"]),
        (lambda x: x[:, x[0].argmax()], ["argmax", "index"]),
        (lambda x: np.concatenate([x, x]), ["concatenate", "concatenate"]),
        (lambda x: x.T.reshape(12), ["reshape"]),
        (lambda x: x.imag, ["imag"]),
        (lambda x: x.copy(), ["copy"]),
        (lambda x: np.linalg.qr(x)[1], ["qr"]),
        (lambda x: np.stack(divmod(x, 2)), ["divmod", "stack", "stack"]),
        (lambda x: np.where(x > 2, x, 0), ["greater", "where"]),
        (lambda x: np.zeros_like(x), ["zeros_like"]),
        (lambda x: doubled(doubled(x)), ["native", "native"]),
    ],
)
def test_what_computes_is_noted_and_gives_recorded_arrays(function: Callable, calls: list[str]) -> None:
    result, recording = recorded(function)
    assert isinstance(result, Recorded) and recording.spoiled is None and done_as(recording, calls)
    np.testing.assert_array_equal(result.view(np.ndarray), function(X))
    assert len(recording.signature()) == len(calls)


@pytest.mark.parametrize(
    ("change", "calls"),
    [
        (lambda x: x.__setitem__(0, 5), ["assignment"]),
        (lambda x: x.__iadd__(x[0]), ["add"]),
        (lambda x: x.fill(3), ["fill"]),
        (lambda x: x[1].sort(), ["sort"]),
        (lambda x: np.copyto(x, 7), ["copyto"]),
        (lambda x: np.add.at(x, [0, 0], 1), ["add.at"]),
        (lambda x: np.multiply(x, 2, out=x), ["multiply"]),
        (lambda x: setattr(x, "real", 5), ["real"]),
    ],
)
def test_changes_in_place_are_noted_and_done_again(change: Callable, calls: list[str]) -> None:
    array = X.copy()
    with Recording([array]) as recording:
        change(array.view(Recorded))
    assert recording.spoiled is None and done_as(recording, calls)
    wanted = array.copy()
    np.copyto(array, X)
    assert Program(recording, []).run()
    np.testing.assert_array_equal(array, wanted)


# ---- what spoils


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x: float(x[0, 0]), "Python reads a value"),
        (lambda x: bool(x.any()), "Python reads a value"),
        (lambda x: x.item(3), "Python reads a value"),
        (lambda x: x.tolist(), "Python reads a value"),
        (lambda x: 5 in x, "Python reads a value"),
        (lambda x: f"{x}", "Python reads a value"),
        (lambda x: range(3)[x.astype("i4")[0, 1]], "Python reads a value"),
        (lambda x: x.flat[3], "Python reads a value"),
        (lambda x: x.data[0, 1], "Python reads a value"),
        (lambda x: pickle.dumps(x), "Python reads a value"),
        (lambda x: np.allclose(x, x), "NumPy's allclose gives Python a value"),
        (lambda x: np.array_equal(x, x), "NumPy's array_equal gives Python a value"),
        (lambda x: x[x > 2], "the shape of what a boolean index gives depends on values"),
        (lambda x: x.nonzero(), "the shape of what NumPy's nonzero gives depends on values"),
        (lambda x: np.where(x), "the shape of what NumPy's where gives depends on values"),
        (lambda x: np.unique(x), "the shape of what NumPy's unique gives depends on values"),
        (lambda x: np.trim_zeros(x[0]), "the shape of what NumPy's trim_zeros gives depends on values"),
        (lambda x: np.nan_to_num(x, copy=False), "the shape of what NumPy's nan_to_num gives depends on values"),
        (
            lambda x: np.split(x[0], (x + 2).astype(int)[0, :1]),
            "which part of an array NumPy's split gives depends on values",
        ),
        (lambda x: x + np.ones(4, "f4"), r"an array of shape \(4,\) and type float32 comes from Python code"),
        (lambda x: np.add(x, 1, out=np.empty_like(X)), r"an array of shape \(3, 4\) and type float32 comes from"),
        (lambda x: doubled(np.ones(3, "f4")), r"an array of shape \(3,\) and type float32 comes from Python code"),
        (lambda x: doubled(np.asarray(x) + 1), r"an array of shape \(3, 4\) and type float32 comes from Python code"),
    ],
)
def test_what_spoils(function: Callable, why: str) -> None:
    result, recording = recorded(function)
    assert recording.spoiled is not None
    assert re.match(why, recording.spoiled)
    plain = function(X)  # and the step is what it would be
    for one, other in zip(*[x if isinstance(x, tuple) else (x,) for x in (result, plain)], strict=True):
        if isinstance(one, (np.ndarray, float, bool)) and "out=" not in why:
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_the_first_reason_counts() -> None:
    _, recording = recorded(lambda x: (x.nonzero(), float(x[0, 0])))
    assert recording.spoiled == "the shape of what NumPy's nonzero gives depends on values"


def test_arrays_of_python_code_may_be_constants() -> None:
    ones, table = constant(np.ones(4, "f4")), np.ones(4, "f4")
    for function in (lambda x: x + ones, lambda x: doubled(ones), lambda x: doubled(ones.reshape(2, 2))):
        assert recorded(function)[1].spoiled is None
    # the memory of a read-only view may still be written to
    for array in (np.broadcast_to(table, (3, 4)), constant(table.view())):
        assert recorded(lambda x, array=array: x + array)[1].spoiled is not None
        assert recorded(lambda x, array=array: doubled(array))[1].spoiled is not None


def test_recorded_arrays_of_another_recording_are_unknown() -> None:
    kept, _ = recorded(lambda x: x + 1)
    assert recorded(lambda x: doubled(kept))[1].spoiled is not None
    assert recorded(lambda x: x + kept)[1].spoiled is not None


def test_numbers_of_python_are_part_of_the_signature() -> None:
    signatures = [recorded(lambda x, number=number: x * number)[1].signature() for number in (2, 2, 3)]
    assert signatures[0] == signatures[1] != signatures[2]
    signatures = [recorded(lambda x: x / x.sum(), X + number)[1].signature() for number in (2, 3)]
    assert signatures[0] == signatures[1]  # what is computed is none of them
    signatures = [recorded(doubled, X[:rows].copy())[1].signature() for rows in (2, 2, 3)]
    assert signatures[0] == signatures[1] != signatures[2]


def test_outside_of_a_recording_recorded_arrays_are_like_others() -> None:
    array = X.copy().view(Recorded)
    assert type(array + 1) is not Recorded and float(array[0, 1]) == 1
    array[0] = 8
    assert array.tolist()[0] == [8] * 4 and bool((array[0] == 8).all())


# ---- memory


def test_buffers_serve_again_once_nothing_refers_to_them() -> None:
    with Recording() as recording:
        first = k.empty((64,), F4)
        place = first.ctypes.data
        del first
        again = k.empty((64,), F4)
        assert again.ctypes.data == place and isinstance(again, Recorded)
        view, plain = again[3:], np.asarray(again)
        del again
        others = [k.empty((64,), F4).ctypes.data]
        del view
        others.append(k.empty((64,), F4).ctypes.data)
        assert place not in others
        del plain
        assert k.empty((64,), F4).ctypes.data in (place, *others)
    assert recording.arena.nbytes == 2 * 256


def test_memory_that_numpy_reads_again_is_not_handed_out() -> None:
    def step(x: Any) -> Any:
        first = doubled(x)
        place = first.ctypes.data
        result = np.cos(first)
        del first
        assert k.empty(X.shape, F4).ctypes.data != place
        return result

    assert recorded(step)[1].spoiled is None


def test_a_recording_of_ever_new_shapes_keeps_its_buffers() -> None:
    with Recording() as recording:
        for size in range(1, 600):
            k.empty((size,), F4)
    assert len(recording.arena.arrays()) == 599


# ---- checks


def test_checks_are_kept_and_called_where_something_is_refused() -> None:
    def check() -> None:
        raise ValueError("it is none")

    explain(0, check)
    with pytest.raises(ValueError, match="it is none"):
        explain(2, check)
    with Recording([X]) as recording:
        explain(0, check)
        assert recording.checks == [check]
        with pytest.raises(ValueError, match="it is none"):
            explain(1, check)
        explain(X.view(Recorded)[0, 0] > 1, check)  # a number that nobody else has read
    assert recording.spoiled == "Python reads a value" and len(recording.checks) == 3


def test_recordings_nest_and_end_with_errors() -> None:
    with Recording() as outer:
        with pytest.raises(KeyError), Recording() as inner:
            doubled(k.empty((3,), F4))
            raise KeyError
        assert (len(inner.calls), len(outer.calls)) == (1, 0)
        doubled(k.empty((3,), F4))
    assert len(outer.calls) == 1 and type(k.empty((3,), F4)) is np.ndarray


def test_results_some_of_which_are_views() -> None:
    """Parts of a split are views, but one that is empty shares no memory: in another step it may be as long as any."""

    def step(x: Any, places: Any) -> Any:
        return np.split(x[0], places)

    result, recording = recorded(step, X, np.array([4]))
    assert recording.spoiled is None and names(recording) == ["split"] and [one.size for one in result] == [4, 0]
    assert [one.size for one in recording.results] == [0]
    array, places = X.copy(), np.array([4])
    with Recording([array, places]) as recording:
        step(array.view(Recorded), places.view(Recorded))
    assert recording.calls[0].run()  # type: ignore[union-attr]
    places[0] = 2
    assert not recording.calls[0].run()  # type: ignore[union-attr]
    np.testing.assert_array_equal(array, X)
