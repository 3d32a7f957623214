"""The types of results, for all pairs of types and of kinds of operands, as in real Keras."""

from __future__ import annotations

import itertools
import operator
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")
jax = pytest.importorskip("jax")

import minikeras  # noqa: E402
from minikeras import backend, ops  # noqa: E402

NARROW = ["bool", "uint8", "uint16", "uint32", "int8", "int16", "int32", "float16", "float32"]
NAMES = [*NARROW, "bfloat16", "int64", "float64"]
NUMBERS = {"bool": True, "int": 2, "float": 2.5}


@pytest.mark.parametrize("first", [*NAMES, int, float], ids=str)
def test_result_type(first: Any) -> None:
    """Of each pair and triple of names and of Python's numbers."""
    for others in itertools.chain(
        [()], itertools.product([*NAMES, int, float], repeat=1), itertools.product([*NAMES, int, float], repeat=2)
    ):
        if first in (int, float) and all(one in (int, float) for one in others):
            continue
        ours, theirs = backend.result_type(first, *others), keras.backend.result_type(first, *others)
        assert _cut(ours) == theirs, (first, others)


def test_standardize_dtype() -> None:
    for dtype in (None, *NAMES, "complex64", int, float, bool, np.float16, np.int64, np.dtype("uint8"), np.bool_):
        assert backend.standardize_dtype(dtype) == keras.backend.standardize_dtype(dtype), dtype


def _cut(name: str) -> str:
    """A type with 64 bits as JAX has it; here it stays."""
    return {"int64": "int32", "uint64": "uint32", "float64": "float32"}.get(name, name)


def _tensor(framework: Any, dtype: str) -> Any:
    return framework.ops.convert_to_tensor(np.ones((2, 2), dtype))


KINDS: dict[str, Callable[[Any, str], Any]] = {
    "tensor": _tensor,
    "array": lambda framework, dtype: np.ones((2, 2), dtype),
    "scalar array": lambda framework, dtype: np.asarray(1, dtype),
    "scalar": lambda framework, dtype: np.dtype(dtype).type(1),
}

OPS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "add": lambda o, x, y: o.add(x, y),
    "subtract": lambda o, x, y: o.subtract(x, y),
    "multiply": lambda o, x, y: o.multiply(x, y),
    "divide": lambda o, x, y: o.divide(x, y),
    "floor_divide": lambda o, x, y: o.floor_divide(x, y),
    "mod": lambda o, x, y: o.mod(x, y),
    "power": lambda o, x, y: o.power(x, y),
    "maximum": lambda o, x, y: o.maximum(x, y),
    "minimum": lambda o, x, y: o.minimum(x, y),
    "arctan2": lambda o, x, y: o.arctan2(x, y),
    "greater": lambda o, x, y: o.greater(x, y),
    "equal": lambda o, x, y: o.equal(x, y),
    "logical_and": lambda o, x, y: o.logical_and(x, y),
    "where": lambda o, x, y: o.where(np.array([[True, False], [False, True]]), x, y),
}
MATRICES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "matmul": lambda o, x, y: o.matmul(x, y),
    "dot": lambda o, x, y: o.dot(x, y),
    "tensordot": lambda o, x, y: o.tensordot(x, y, axes=1),
    "einsum": lambda o, x, y: o.einsum("ij,jk->ik", x, y),
    "concatenate": lambda o, x, y: o.concatenate([x, y]),
    "stack": lambda o, x, y: o.stack([x, y]),
}


def _outcome(call: Callable[[], Any]) -> Any:
    """The type of a result; an error is one, whatever it says."""
    try:
        return _cut(str(backend.standardize_dtype(call().dtype)))
    except (TypeError, ValueError):
        return "refused"


def _compare(function: Callable, makers: tuple[Callable[[Any], Any], Callable[[Any], Any]], label: Any) -> str | None:
    first, second = makers
    ours = _outcome(lambda: function(ops, first(minikeras), second(minikeras)))
    theirs = _outcome(lambda: jax.eval_shape(lambda: function(keras.ops, first(keras), second(keras))))
    return None if ours == theirs else f"{label}: {ours}, Keras {theirs}"


# not products of scalars, and JAX's power has other types where an operand is a scalar
COMBINATIONS = [
    (name, kinds)
    for name in [*OPS, *MATRICES]
    for kinds in itertools.product(KINDS, repeat=2)
    if not (name in MATRICES or name == "power") or "scalar" not in " ".join(kinds)
]


@pytest.mark.parametrize(
    ("name", "kinds"), COMBINATIONS, ids=lambda part: part if isinstance(part, str) else " ".join(part)
)
def test_arrays_and_tensors(name: str, kinds: tuple[str, str]) -> None:
    function = (OPS | MATRICES)[name]
    different = []
    for types in itertools.product(NARROW, repeat=2):
        makers = tuple(
            lambda framework, kind=kind, dtype=dtype: KINDS[kind](framework, dtype)
            for kind, dtype in zip(kinds, types, strict=True)
        )
        different.append(_compare(function, makers, types))
    assert [one for one in different if one] == []


@pytest.mark.parametrize("name", list(OPS))
def test_python_numbers(name: str) -> None:
    """But for arctan2, where Keras takes a number's type for a tensor's: float16 and 2.5 are float32 there."""
    different = []
    for dtype, (number, value) in itertools.product(NARROW, NUMBERS.items()):
        for swapped in (False, True):
            if name == "arctan2" and (dtype, number) == ("float16", "float"):
                continue
            makers = (lambda framework, dtype=dtype: _tensor(framework, dtype), lambda framework, v=value: v)
            different.append(_compare(OPS[name], makers[::-1] if swapped else makers, (dtype, number, swapped)))
    assert [one for one in different if one] == []


@pytest.mark.parametrize("name", list(OPS))
@pytest.mark.parametrize("kind", ["array", "scalar array", "scalar"])
def test_numpys_float64(name: str, kind: str) -> None:
    """NumPy makes float64 of everything: beside a tensor it gives way, as it does where JAX has no float64.

    A scalar is one of Python's floats as well and gives way to float16 too; in Keras it makes float32 of it.
    """
    different = []
    for dtype in NARROW[: -2 if kind == "scalar" else None]:
        for swapped in (False, True):
            makers = (
                lambda framework, dtype=dtype: _tensor(framework, dtype),
                lambda framework: KINDS[kind](framework, "float64"),
            )
            different.append(_compare(OPS[name], makers[::-1] if swapped else makers, (dtype, swapped)))
    assert [one for one in different if one] == []


@pytest.mark.parametrize("name", ["add", "truediv"])
@pytest.mark.parametrize("kind", ["array", "scalar", *NUMBERS])
def test_operators(name: str, kind: str) -> None:
    """A tensor on the left of an operator sign."""
    sign = getattr(operator, name)
    different = []
    for dtype, other in itertools.product(NARROW, NARROW if kind in KINDS else [""]):
        makers = (
            lambda framework, dtype=dtype: _tensor(framework, dtype),
            lambda framework, other=other: KINDS[kind](framework, other) if kind in KINDS else NUMBERS[kind],
        )
        different.append(_compare(lambda _, x, y: sign(x, y), makers, (dtype, other)))
    assert [one for one in different if one] == []


# not of matrices, which are floats
ONE = "angle cbrt conjugate deg2rad diagflat diff erfc erfinv exp2 fabs fliplr i0 imag isneginf isreal median nanargmax"
ONE += " nancumprod nancumsum nanmax nanmean nanmin nanprod nanstd nansum nanvar ptp rad2deg real signbit sinc"
ONE += " trapezoid squareplus sparse_plus unique"
OF_ONE: dict[str, Callable[[Any, Any], Any]] = {
    **{
        name: lambda o, x, name=name: getattr(o, name)(x)
        for name in [*ONE.split(), "squareplus", "sparse_plus", "unique"]
    },
    "quantile": lambda o, x: o.quantile(x, 0.5),
    "ldexp": lambda o, x: o.ldexp(x, 2),
    "left_shift": lambda o, x: o.left_shift(x, 1),
    "vander": lambda o, x: o.vander(x[0]),
    "argpartition": lambda o, x: o.argpartition(x, 1),
    "histogram": lambda o, x: o.histogram(x[0]),
    "logspace": lambda o, x: o.logspace(x, 2),
    "searchsorted": lambda o, x: o.searchsorted(x[0], x),
    "select": lambda o, x: o.select([x > 0], [x], 2),
    "nan_to_num": lambda o, x: o.nan_to_num(x),
}
TWO = "fmax fmin fmod heaviside gcd lcm ldexp logaddexp logaddexp2 nextafter divide_no_nan bitwise_left_shift"
TWO += " bitwise_right_shift bitwise_and append cross isin allclose correlate cdist"


@pytest.mark.parametrize("name", OF_ONE)
def test_of_one_array(name: str) -> None:
    """But for booleans where JAX refuses them."""
    different = []
    for dtype in NARROW:
        ours, theirs = (
            _outcome(lambda K=framework, dtype=dtype: _first(OF_ONE[name](K.ops, _tensor(K, dtype))))
            for framework in (minikeras, keras)
        )
        if ours != theirs and (dtype, theirs) != ("bool", "refused"):
            different.append(f"{dtype}: {ours}, Keras {theirs}")
    assert different == []


def _first(result: Any) -> Any:
    return result[0] if isinstance(result, (tuple, list)) else result


@pytest.mark.parametrize("name", TWO.split())
def test_of_two_arrays(name: str) -> None:
    different = []
    for types in itertools.product(NARROW, repeat=2):
        makers = tuple(lambda framework, dtype=dtype: _row(framework, name, dtype) for dtype in types)
        different.append(_compare(lambda o, x, y: getattr(o, name)(x, y), makers, types))
    assert [one for one in different if one] == []


def _row(framework: Any, name: str, dtype: str) -> Any:
    x = _tensor(framework, dtype)
    return x[0] if name == "correlate" else x
