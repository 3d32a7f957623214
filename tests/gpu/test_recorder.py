"""The stand-in for CuPy: computes what NumPy does, refuses what CuPy refuses, counts what moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cupy
import numpy as np
import pytest
from gpu import streams
from gpu.recorder import DeviceArray, recording_device
from gpu.streams import StreamCaptureError
from table_cases import check_use, registered

from minikeras import kernels as k

HOST = np.arange(6.0).reshape(2, 3)

REFUSED: dict[str, tuple[type[Exception], Callable[[Any, Any], Any]]] = {
    "a name that CuPy has not": (AttributeError, lambda xp, x: xp.nditer(x)),
    "an attribute that CuPy's arrays have not": (AttributeError, lambda xp, x: x.ctypes),
    "conversion to a NumPy array": (TypeError, lambda xp, x: np.asarray(x)),
    "use as an index of the host": (TypeError, lambda xp, x: range(x[0, 0])),
    "an operator with a NumPy array": (TypeError, lambda xp, x: x + HOST),
    "an operator of a NumPy array": (TypeError, lambda xp, x: HOST + x),
    "a function with a NumPy array": (TypeError, lambda xp, x: xp.concatenate([x, HOST])),
    "a function of a NumPy array": (TypeError, lambda xp, x: xp.sum(HOST)),
    "a NumPy function with a NumPy array": (TypeError, lambda xp, x: np.add(x, HOST)),
    "an index by a NumPy array": (TypeError, lambda xp, x: x[np.array([0])]),
    "an index by a list": (TypeError, lambda xp, x: x[[0]]),
    "a NumPy array as a value": (TypeError, lambda xp, x: x.__setitem__(slice(None), HOST)),
    "where= of a ufunc": (TypeError, lambda xp, x: xp.add(x, 1, where=x > 0)),
    "initial= of a function": (TypeError, lambda xp, x: xp.max(x, initial=0)),
    "initial= of a method": (TypeError, lambda xp, x: x.max(initial=0)),
    "mode= of take": (TypeError, lambda xp, x: xp.take(x, 0, mode="clip")),
    "out= of einsum": (TypeError, lambda xp, x: xp.einsum("ij->j", x, out=x[0])),
    "a type without a loop": (TypeError, lambda xp, x: xp.add.at(x.astype("int8"), 0, 1)),
    "a ufunc of a type that only NumPy's has": (TypeError, lambda xp, x: xp.logical_not(x.astype("complex64"))),
    "a result over an argument": (ValueError, lambda xp, x: xp.matmul(x[:, :2], x[:, :2], out=x[:, 1:])),
    "a ufunc without reduce": (NotImplementedError, lambda xp, x: xp.maximum.reduce(x)),
    "a comparison with None": (TypeError, lambda xp, x: x == None),  # noqa: E711
    "a ufunc without at": (NotImplementedError, lambda xp, x: xp.multiply.at(x, 0, 2.0)),
    "another sort": (ValueError, lambda xp, x: xp.argsort(x, kind="quicksort")),
    "an array of repeats": (TypeError, lambda xp, x: xp.repeat(x, xp.asarray([1, 2]), 0)),
    "an array of objects": (TypeError, lambda xp, x: xp.asarray([None])),
}


@pytest.mark.parametrize(("error", "use"), REFUSED.values(), ids=REFUSED)
def test_refuses_what_cupy_refuses(error: type[Exception], use: Callable[[Any, Any], Any]) -> None:
    with recording_device():
        x = k.to_device(HOST)
        with pytest.raises(error):
            use(k.xp, x)


def test_computes_as_numpy_and_keeps_arrays() -> None:
    with recording_device() as counts:
        x = k.to_device(HOST)
        results = {
            "sum": (x.sum(), HOST.sum()),
            "element": (x[1, 2], HOST[1, 2]),
            "operators": (2 - x / np.float64(3) > x @ x.T[:, :1], HOST @ HOST.T[:, :1] < 2 - HOST / 3),
            "functions": (k.xp.where(x > 2, x, 0), np.where(HOST > 2, HOST, 0)),
            "ufuncs": (k.xp.add.reduce(k.xp.exp(x), axis=1), np.exp(HOST).sum(axis=1)),
            "NumPy's functions": (np.concatenate([np.negative(x), x]), np.concatenate([-HOST, HOST])),
            "submodules": (k.xp.linalg.norm(x), np.linalg.norm(HOST)),
        }
        assert len(counts.transfers) == 1
        assert not counts.reads
        for found, expected in results.values():
            assert isinstance(found, DeviceArray)
            np.testing.assert_allclose(found.get(), expected)


def test_views_share_memory_and_know_their_base() -> None:
    with recording_device():
        x = k.xp.zeros((2, 3))
        row, element = x[1], x[0, 0]
        element[...] = 5
        row += 1
        k.xp.add(row, 1, out=row)
        assert row.base is x and row[:2].base is x and x.base is None
        assert row.data.ptr - x.data.ptr == 3 * x.itemsize
        np.testing.assert_array_equal(x.get(), [[5, 0, 0], [2, 2, 2]])


def test_counts_what_moves_and_what_waits() -> None:
    previous = k.active_device()
    with recording_device() as counts:
        x = k.to_device(HOST)
        waits = [bool, float, int, repr, lambda one: one.item(), lambda one: one.get(), lambda one: f"{one:.2f}"]
        for wait in waits:
            wait(x.sum())
        k.xp.nonzero(x)
        x[x > 2]
        assert len(counts.reads) == len(waits) + 2
        assert len(counts.transfers) == 1
        x[k.to_device(np.array([0]))] = 0  # the index and the number
        assert len(counts.transfers) == 3
    assert k.active_device() == previous


@pytest.mark.parametrize("name", ["concatenate", "stack", "hstack"])
def test_arrays_are_not_joined_by_cupy_within_a_capture(name: str) -> None:
    with recording_device():
        x = k.to_device(HOST)
        k.stack([x, x], 1)  # which loads its module
        stream = k.xp.cuda.Stream(non_blocking=True)
        with stream, k.xp.cuda.using_allocator(k.xp.cuda.MemoryPool().malloc):
            stream.begin_capture()
            joined = k.stack([x, x], 1)
            with pytest.raises(StreamCaptureError, match="not permitted"):
                getattr(k.xp, name)([x, x])
            with pytest.raises(StreamCaptureError, match="Invalidated"):
                stream.end_capture()
            assert joined.shape == (2, 2, 3)


def test_cupy_has_what_the_stand_in_has_of_streams() -> None:
    for name in vars(streams.cuda):
        assert hasattr(cupy.cuda, name), name
    for name in vars(streams.cuda.runtime):
        assert hasattr(cupy.cuda.runtime, name), name
    pairs = [(streams.Stream, cupy.cuda.Stream), (streams.Event, cupy.cuda.Event), (streams.Graph, cupy.cuda.Graph)]
    for ours, theirs in [*pairs, (streams.MemoryPool, cupy.cuda.MemoryPool)]:
        asked = {name for name in vars(ours) if not name.startswith("_")}
        assert {name for name in asked - OF_THE_STAND_IN if not hasattr(theirs, name)} == set()


OF_THE_STAND_IN = {
    "put",
    "run_to",
    "reach",
    "stream",
    "place",
    "time",
    "limit",
    "launches",
}  # and nobody asks for


def test_kernels_from_outside_are_used_on_the_device() -> None:
    with recording_device(), registered("gpu") as calls:
        check_use(calls, k.to_device)
    assert not hasattr(k, "gated")
