"""NumPy's functions on tensors: they lead to the operation of their name, keep the gradient, or raise a sentence."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.op_cases import BINARY, CASES, UNARY, Case, X, spaced

import minikeras as keras
from minikeras import ops, tree
from minikeras.autodiff import GradientTape, KerasTensor, Tensor, Variable
from minikeras.ops import numpy as numpy_ops

NO_TENSOR = {"arange", "empty", "eye", "full", "identity", "ones", "tri", "zeros"}  # made of numbers
NO_TENSOR |= {"array", "bartlett", "blackman", "hamming", "hanning", "kaiser", "vectorize"}
OTHERWISE = {"unique"}  # NumPy's takes NaN for one value
NO_CASE = {"abs", "array_equal", "identity", "ndim", "ones_like", "size", "true_divide", "zeros_like"}  # tested below
NO_CASE |= {"argpartition", "bitwise_invert", "conj", "empty_like", "histogram", "left_shift", "right_shift"}


def _function(name: str) -> Callable | None:
    return getattr(np, name, getattr(np.linalg, name, None))


def _call(case: Case, function: Callable | None, make: Callable, *inputs: np.ndarray) -> list[Any]:
    """The results of a function of tensors: `make(array)` of the inputs, or of the arrays where there are none."""
    assert function is not None
    if inputs:
        return tree.flatten(case.call(function, *map(make, inputs)))
    args = [make(value) if isinstance(value, np.ndarray) else value for value in case.args]
    return tree.flatten(function(*args, **case.kwargs))


def _is_for_numpy(case: Case) -> bool:
    """Whether NumPy has the function and takes these arguments."""
    leaves = tree.flatten([list(case.args), case.kwargs])
    takes_tensors = any(isinstance(leaf, (X, np.ndarray)) for leaf in leaves)
    if case.name in OTHERWISE or not takes_tensors:
        return False
    return _function(case.name) is not None and (case.reference is None or case.reference is np.linalg.norm)


NUMPY_CASES = [case for case in CASES if _is_for_numpy(case)]


def test_every_function_that_numpy_has_too_has_a_case() -> None:
    covered = {case.name for case in NUMPY_CASES} | NO_TENSOR | NO_CASE | OTHERWISE
    assert {name for name in dir(numpy_ops) if not name.startswith("_") and _function(name)} - covered == set()


@pytest.mark.parametrize("case", NUMPY_CASES, ids=str)
def test_values_and_gradients_are_those_of_the_operation(case: Case) -> None:
    variables = [Variable(value, dtype="float64") for value in case.inputs()]
    values = iter(variables * 2)

    def make(array: np.ndarray) -> Any:
        return next(values) if variables else ops.convert_to_tensor(array)

    with GradientTape() as tape:
        results = _call(case, _function(case.name), make, *case.inputs())
    with GradientTape() as expected_tape:
        expected = _call(case, getattr(ops, case.name), make, *case.inputs())
    for result, value in zip(results, expected, strict=True):
        assert isinstance(result, Tensor)
        np.testing.assert_array_equal(result.numpy(), value.numpy())
    if case.differentiable:
        pairs = zip(tape.gradient(results, variables), expected_tape.gradient(expected, variables), strict=True)
        for gradient, value in pairs:
            np.testing.assert_array_equal(gradient, value)


@pytest.mark.parametrize("case", [case for case in NUMPY_CASES if case.differentiable], ids=str)
def test_symbolic_tensors_lead_to_the_operation(case: Case) -> None:
    def make(array: np.ndarray) -> KerasTensor:
        return KerasTensor(array.shape)

    results = _call(case, _function(case.name), make, *case.inputs())
    expected = _call(case, getattr(ops, case.name), make, *case.inputs())
    for result, value in zip(results, expected, strict=True):
        assert isinstance(result, KerasTensor)
        assert (result.shape, result.dtype) == (value.shape, value.dtype)


@pytest.mark.parametrize("name", [name for name in [*UNARY, *BINARY] if _function(name)])
@given(shape=st.lists(st.integers(0, 3), max_size=3).map(tuple), seed=st.integers(0, 9))
@settings(max_examples=5, deadline=None)
def test_elementwise_of_any_shape(name: str, shape: tuple[int, ...], seed: int) -> None:
    function = _function(name)
    low, high, *_ = (UNARY | BINARY)[name]
    x = spaced(np.random.default_rng(seed), shape, low, high)
    operands = [x] if name in UNARY else [x, x[::-1] if shape else x]
    result = function(*[ops.convert_to_tensor(operand) for operand in operands])
    assert isinstance(result, Tensor)
    np.testing.assert_allclose(result.numpy(), function(*operands), rtol=1e-12)


T = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.5]], "float32")


CLIP_BY_NEW_NAMES: list[tuple[Callable, np.ndarray]] = []
if "min" in inspect.signature(np.clip).parameters:  # since NumPy 2.1
    CLIP_BY_NEW_NAMES += [
        (lambda t: np.clip(t, min=2), np.clip(T, 2, None)),
        (lambda t: np.clip(t, min=2, max=4), np.clip(T, 2, 4)),
    ]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda t: np.add.reduce(t), T.sum(0)),
        (lambda t: np.add.reduce(t, 1), T.sum(1)),
        (lambda t: np.multiply.reduce(t, axis=None), T.prod()),
        (lambda t: np.maximum.reduce(t, axis=1, keepdims=True), T.max(1, keepdims=True)),
        (lambda t: np.add.accumulate(t, axis=1), T.cumsum(1)),
        (lambda t: np.clip(t, 2, a_max=4), np.clip(T, 2, 4)),
        *CLIP_BY_NEW_NAMES,
        (lambda t: np.sum(t, axis=(0, 1), keepdims=True), T.sum(keepdims=True)),
        (lambda t: np.reshape(t, (3, 2), order="C"), T.reshape(3, 2)),
        (lambda t: np.around(t), T.round()),
        (lambda t: np.remainder(t, 2), T % 2),
        (lambda t: np.pad(t, 1, constant_values=7), np.pad(T, 1, constant_values=7)),
        (lambda t: np.concatenate((t, T), axis=1), np.concatenate((T, T), 1)),
        (lambda t: np.copy(t), T),
        (np.ones_like, np.ones_like(T)),
        (np.zeros_like, np.zeros_like(T)),
        (np.abs, T),
        (lambda t: np.true_divide(t, 2), T / 2),
        (lambda t: np.full_like(t, 3), np.full_like(T, 3)),
        (lambda t: np.empty_like(t), np.zeros_like(T)),
        (lambda t: np.conj(t), T),
        (lambda t: np.histogram(t, 2)[0], np.histogram(T, 2)[0]),
        (lambda t: np.histogram(t, bins=3, range=(0, 9))[1], np.histogram(T, 3, (0, 9))[1]),
        (lambda t: np.quantile(t, 0.25, axis=1), np.quantile(T, 0.25, axis=1)),
        (lambda t: np.linalg.det(t @ np.transpose(t)), np.linalg.det(T @ T.T)),
        (lambda t: np.degrees(t), np.degrees(T)),
        (lambda t: T + t, T + T),
        (lambda t: np.float64(2) * t, 2 * T),
        (lambda t: T @ np.transpose(t), T @ T.T),
    ],
)
def test_spellings_that_numpy_allows(call: Callable, expected: np.ndarray) -> None:
    for tensor in (ops.convert_to_tensor(T), Variable(T)):
        result = call(tensor)
        assert isinstance(result, Tensor)
        np.testing.assert_array_equal(result.numpy(), expected)
        assert result.data.dtype == np.float32


# what no operation does in the same way
STRANGE: list[Callable] = [
    np.unique,
    lambda x: np.std(x, ddof=1),
    lambda x: np.sum(x, where=T > 2),
    lambda x: np.exp(x, out=np.empty_like(T)),
    lambda x: np.add(x, 1, where=T > 2, out=np.zeros_like(T)),
    lambda x: np.subtract.outer(x, x),
    lambda x: np.add.reduceat(x, [0, 1]),
    lambda x: np.median(x, overwrite_input=True),
    lambda x: np.reshape(x, (3, 2), order="F"),
    lambda x: np.ravel(x, "F"),
    lambda x: np.copyto(np.empty_like(T), x),
    lambda x: np.linalg.cond(x),
    lambda x: np.fft.fft(x),
]


@pytest.mark.parametrize("function", STRANGE)
def test_what_no_operation_does(function: Callable) -> None:
    """It is done with the values where nothing is lost by that, and refused where a gradient or the values would be."""
    np.testing.assert_array_equal(function(ops.convert_to_tensor(T)), function(T))
    np.testing.assert_array_equal(function(Variable(T)), function(T))
    with GradientTape():
        np.testing.assert_array_equal(function(ops.convert_to_tensor(T)), function(T))
        with pytest.raises(TypeError, match=r"np\..* lose the gradient; use minikeras.ops"):
            function(Variable(T) * 1)
    with pytest.raises(TypeError, match="no values"):
        function(KerasTensor((2, 3)))


@pytest.mark.parametrize("function", [np.asarray, np.array, lambda x: np.array([x, x]), lambda x: np.zeros(3) + [x]])
def test_a_tensor_is_no_array_while_its_gradient_is_recorded(function: Callable) -> None:
    x = Variable(np.float32(3.0))
    assert isinstance(function(x), np.ndarray)
    with GradientTape() as tape:
        y = x * x
        with pytest.raises(TypeError, match="lose the gradient"):
            function(y)
        assert y.numpy() == 9  # as constants the values are there for the asking
    assert tape.gradient(y, x).numpy() == 6


def test_bits_and_places() -> None:
    x = ops.convert_to_tensor(np.array([5, 1, 3], "int32"))
    for result, expected in (
        (np.left_shift(x, 2), [20, 4, 12]),
        (np.right_shift(x, 1), [2, 0, 1]),
        (np.invert(x), [-6, -2, -4]),
        (np.bitwise_invert(x), [-6, -2, -4]),
        (np.sort(np.argpartition(x, 1)), [0, 1, 2]),
        (np.bitwise_not(x), [-6, -2, -4]),
    ):
        assert isinstance(result, Tensor)
        np.testing.assert_array_equal(result.numpy(), expected)


def test_what_has_no_gradient_is_said_of_the_values() -> None:
    x = Variable(T)
    with GradientTape():
        y = x * 1
        assert np.allclose(y, T)
        assert np.shape(y) == (2, 3)
        assert (np.ndim(y), np.size(y)) == (2, 6)
        assert np.array_equal(y, T)
        np.testing.assert_array_equal(np.argwhere(y), np.argwhere(T))
        assert np.array2string(y) == np.array2string(T)


def test_a_list_of_tensors_is_one_tensor_with_their_gradients() -> None:
    w = Variable(np.array([1.0, 2.0], "float32"))
    with GradientTape(persistent=True) as tape:
        a, b = w[0] * 3, w[1] * w[1]
        total = ops.sum([a, b * 2])
        table = ops.sum(ops.convert_to_tensor([[a, b], [b, 2.0]]) * np.array([[1, 10], [100, 1000]], "float32"))
        largest = ops.maximum([a, b], 3.5)
    assert (total.numpy(), table.numpy()) == (11.0, 3 + 110 * 4 + 2000)
    np.testing.assert_array_equal(tape.gradient(total, w), [3, 8])
    np.testing.assert_array_equal(tape.gradient(table, w), [3, 440])
    np.testing.assert_array_equal(tape.gradient(largest, w), [0, 4])
    assert total.data.dtype == np.float32


@pytest.mark.parametrize("name", ["elu", "celu", "leaky_relu"])
def test_a_tensor_as_a_setting_is_refused(name: str) -> None:
    slope = Variable(np.float32(0.3))
    with pytest.raises(TypeError, match=f"{name} takes a number"):
        getattr(ops, name)(T, slope)


def _numpy_loss(y_true: Any, y_pred: Any) -> Any:
    return np.mean(np.square(np.asarray(y_true) - np.asarray(y_pred)), axis=-1)


def _led_loss(y_true: Any, y_pred: Any) -> Any:
    return np.mean(np.square(y_true - y_pred), axis=-1)


def test_losses_written_with_numpy() -> None:
    """NumPy's functions of tensors train as `ops` do; what leaves the tensors is refused."""
    x, y = np.random.default_rng(0).standard_normal((2, 64, 3)).astype("float32")

    def trained(loss: Any) -> list[np.ndarray]:
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
        model.compile("sgd", loss)
        model.fit(x, y, epochs=2, verbose=0)
        return model.get_weights()

    for weight, expected in zip(trained(_led_loss), trained("mse"), strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-5)
    with pytest.raises(TypeError, match="lose the gradient"):
        trained(_numpy_loss)
