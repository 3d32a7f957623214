"""Recurrent kernels: forward against a loop over samples and steps, backward against central differences."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from team_cases import team_of

from minikeras.kernels import reference_table, table_of
from minikeras.kernels.cpu import recurrent as module
from minikeras.kernels.cpu.compiler import compiled, floats, sigmoid, tanh

reference, cpu = reference_table(), table_of("cpu")

GATES = {"simple_rnn": 1, "lstm": 4, "gru": 3, "gru_reset_first": 3}
NAMES = list(GATES)
FUNCTIONS: dict[str | None, Callable[[Any], Any]] = {
    None: lambda v: v,
    "tanh": np.tanh,
    "relu": lambda v: np.maximum(v, 0),
    "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
    "hard_sigmoid": lambda v: np.clip(v / 6 + 0.5, 0, 1),
}


def problem(
    name: str, n: int, t: int, d: int, u: int, dtype: Any = np.float64, bias: bool = True, seed: int = 0
) -> list[Any]:
    """Arguments of one kernel: x, states, kernel, recurrent kernel, bias."""
    rng = np.random.default_rng(seed)
    k = GATES[name] * u
    shapes = [(n, t, d), (n, u), (d, k), (u, k), (2, k) if name == "gru" else (k,)]
    if name == "lstm":
        shapes.insert(1, (n, u))
    arrays: list[Any] = [(0.6 * rng.standard_normal(shape)).astype(dtype) for shape in shapes]
    if not bias:
        arrays[-1] = None
    return arrays


def masks(n: int, t: int, u: int, dtype: Any = np.float64, gates: int = 1, d: int = 0) -> dict[str, Any]:
    """A mask with skipped steps at the start, in the middle and at the end, and a sample that is skipped throughout.

    Beside it the masks of dropout: of the state, for all gates or for each of several, and of `d` inputs.
    """
    rng = np.random.default_rng(5)
    mask = rng.random((n, t)) < 0.6
    mask[:1] = False
    mask[1:2, :1] = False

    def keep(*shape: int) -> Any:
        return (rng.random(shape) < 0.7).astype(dtype) / dtype(0.7)

    options = {"mask": mask, "recurrent_mask": keep(gates, n, u) if gates > 1 else keep(n, u)}
    return options | ({"input_mask": keep(gates, n, d)} if d else {})


def kernel_pair(module: Any, name: str) -> tuple[Any, Any]:
    if name == "gru_reset_first":
        forward, backward = kernel_pair(module, "gru")
        return (lambda *a, **options: forward(*a, reset_after=False, **options)), backward
    return getattr(module, name), getattr(module, f"{name}_grad")


def _for_sample(mask: Any, gates: int, k: int, width: int) -> Any:
    """A dropout mask of one sample, for each gate."""
    if mask is None:
        return np.ones((gates, width))
    return mask[:, k] if mask.ndim == 3 else np.tile(mask[k], (gates, 1))


def _by_gate(rows: Any, kernel: Any) -> Any:
    """The product of a row for each gate with the columns of that gate."""
    return np.concatenate([row @ part for row, part in zip(rows, np.split(kernel, len(rows), axis=1), strict=True)])


def naive(name: str, arrays: list[Any], options: dict[str, Any]) -> tuple[Any, ...]:
    """The formulas, one sample and one step at a time: (outputs, *states)."""
    x, *states, kernel, recurrent_kernel, bias = arrays
    n, t, _ = x.shape
    u = recurrent_kernel.shape[0]
    f = FUNCTIONS[options.get("activation", "tanh")]
    f_gate = FUNCTIONS[options.get("recurrent_activation", "sigmoid")]
    outputs = np.zeros((n, t, u))
    finals = [np.zeros((n, u)) if state is None else np.array(state) for state in states]
    order = range(t)[::-1] if options.get("backwards") else range(t)
    for k in range(n):
        h = finals[0][k]
        c = finals[-1][k]
        last = np.zeros(u)
        gates = kernel.shape[1] // u
        drop = _for_sample(options.get("recurrent_mask"), gates, k, u)
        drop_x = _for_sample(options.get("input_mask"), gates, k, x.shape[2])
        for s in order:
            if options.get("mask") is None or options["mask"][k, s]:
                b = np.zeros(kernel.shape[1]) if bias is None else bias
                b, b_recurrent = b if b.ndim == 2 else (b, 0 * b)
                wx = _by_gate(x[k, s] * drop_x, kernel) + b
                uh = _by_gate(h * drop, recurrent_kernel) + b_recurrent
                if name == "simple_rnn":
                    h = f(wx + uh)
                elif name == "lstm":
                    i, forget, g, o = np.split(wx + uh, 4)
                    c = f_gate(forget) * c + f_gate(i) * f(g)
                    h = f_gate(o) * f(c)
                else:
                    z, r = f_gate(wx[: 2 * u] + uh[: 2 * u]).reshape(2, u)
                    if name == "gru":
                        candidate = f(wx[2 * u :] + r * uh[2 * u :])
                    else:
                        candidate = f(wx[2 * u :] + (r * h * drop[2]) @ recurrent_kernel[:, 2 * u :])
                    h = z * h + (1 - z) * candidate
                last = h
            elif options.get("zero_output_for_mask"):
                last = np.zeros(u)
            outputs[k, s] = last
        finals[0][k] = h
        if name == "lstm":
            finals[1][k] = c
    if not options.get("return_sequences", True):
        shown = finals[0] if options.get("mask") is None else np.zeros((n, u))
        outputs = outputs[:, order[-1]] if t else shown
    return outputs, *finals


ORDERS = st.fixed_dictionaries(
    {name: st.booleans() for name in ("backwards", "return_sequences", "zero_output_for_mask")}
)


def loss_gradients(outs: tuple[Any, ...], seed: int = 9) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(out.shape).astype(out.dtype) for out in outs]


def _by_gates(name: str, dropped: str, d: int) -> dict[str, int]:
    return {"gates": GATES[name], "d": d} if dropped == "by gate" and GATES[name] > 1 else {}


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(0, 3),
    t=st.integers(0, 4),
    d=st.integers(1, 3),
    u=st.integers(1, 5),
    masked=st.booleans(),
    dropped=st.sampled_from(["no", "yes", "by gate"]),
    bias=st.booleans(),
    activations=st.sampled_from([("tanh", "sigmoid"), ("relu", "hard_sigmoid"), (None, "sigmoid")]),
    order=ORDERS,
    zeros=st.booleans(),
)
def test_forward_is_the_formula(
    name: str, n: int, t: int, d: int, u: int, masked: bool, dropped: str, bias: bool, activations: Any, order: Any,
    zeros: bool,
) -> None:  # fmt: skip
    arrays = problem(name, n, t, d, u, bias=bias)
    if zeros:
        arrays[1:-3] = [None] * len(arrays[1:-3])
    options: dict[str, Any] = {"activation": activations[0], **order}
    if name != "simple_rnn":
        options["recurrent_activation"] = activations[1]
    both = masks(n, t, u, **_by_gates(name, dropped, d))
    options |= {key: value for key, value in both.items() if (masked if key == "mask" else dropped != "no")}
    inputs = [None if array is None else array.copy() for array in arrays]
    forward, _ = kernel_pair(reference, name)
    *results, _ = forward(*arrays, **options)
    for result, expected in zip(results, naive(name, arrays, options), strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)
    *without, residual = forward(*arrays, with_residual=False, **options)
    assert residual is None
    for result, expected in zip(without, results, strict=True):
        np.testing.assert_array_equal(result, expected)
    for array, untouched in zip(arrays, inputs, strict=True):
        if array is not None:
            np.testing.assert_array_equal(array, untouched)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("masked", ["no", "yes", "by gate"])
@pytest.mark.parametrize("activations", [("tanh", "sigmoid"), ("softsign", None)])
@pytest.mark.parametrize("order", [{}, {"backwards": True, "return_sequences": False}, {"zero_output_for_mask": True}])
def test_gradients_are_central_differences(name: str, masked: str, activations: Any, order: Any) -> None:
    n, t, d, u = 3, 4, 2, 3
    arrays = problem(name, n, t, d, u)
    options: dict[str, Any] = {"activation": activations[0], **order}
    if name != "simple_rnn":
        options["recurrent_activation"] = activations[1]
    if masked != "no":
        options |= masks(n, t, u, **_by_gates(name, masked, d))
    forward, backward = kernel_pair(reference, name)
    *results, residual = forward(*arrays, **options)
    g = loss_gradients(tuple(results))

    def loss() -> float:
        return sum(float((a * b).sum()) for a, b in zip(forward(*arrays, **options)[:-1], g, strict=True))

    gradients = backward(*g, residual)
    step = 1e-6
    for array, gradient in zip(arrays, gradients, strict=True):
        expected = np.zeros_like(array)
        for where in np.ndindex(array.shape):
            value = array[where]
            array[where] = value + step
            high = loss()
            array[where] = value - step
            low = loss()
            array[where] = value
            expected[where] = (high - low) / (2 * step)
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("masked", [False, True])
def test_unused_results_are_zero_gradients(name: str, masked: bool) -> None:
    arrays = problem(name, 2, 3, 2, 3)
    forward, backward = kernel_pair(reference, name)
    *results, residual = forward(*arrays, **(masks(2, 3, 3) if masked else {}))
    g = loss_gradients(tuple(results))
    for used in range(len(g)):
        given_one = [gradient if k == used else None for k, gradient in enumerate(g)]
        with_zeros = [gradient if k == used else np.zeros_like(gradient) for k, gradient in enumerate(g)]
        for a, b in zip(backward(*given_one, residual), backward(*with_zeros, residual), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dropped", ["no", "by gate"])
def test_weight_gradients_go_to_their_destinations(name: str, dropped: str) -> None:
    arrays = problem(name, 2, 3, 2, 3)
    forward, backward = kernel_pair(reference, name)
    *results, residual = forward(*arrays, **(masks(2, 3, 3, **_by_gates(name, dropped, 2)) if dropped != "no" else {}))
    g = loss_gradients(tuple(results))
    expected = backward(*g, residual)
    outs = tuple(np.full_like(array, 7) for array in arrays[-3:])
    gradients = backward(*g, residual, needs_x=False, outs=outs)
    assert gradients[0] is None
    assert all(gradient is out for gradient, out in zip(gradients[-3:], outs, strict=True))
    for gradient, wanted in zip(gradients[1:], expected[1:], strict=True):
        np.testing.assert_array_equal(gradient, wanted)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("n", "t"), [(0, 3), (2, 0)])
def test_nothing_to_learn_from_gives_zero_weight_gradients(name: str, n: int, t: int) -> None:
    arrays = problem(name, n, t, 2, 3, bias=name != "lstm")
    forward, backward = kernel_pair(reference, name)
    *results, residual = forward(*arrays)
    gradients = backward(*loss_gradients(tuple(results)), residual)
    assert gradients[0].shape == arrays[0].shape
    assert (gradients[-1] is None) == (name == "lstm")
    for gradient in gradients[-3:]:
        assert gradient is None or not gradient.any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("masked", ["no", "steps", "yes", "by gate"])
@pytest.mark.parametrize(
    ("n", "t", "d", "u"),
    [(1, 1, 1, 1), (0, 2, 3, 4), (2, 0, 3, 4), (3, 5, 7, 9), (5, 4, 2, 67), (2, 3, 16, 32), (19, 6, 5, 33)],
)
def test_override_equals_reference(name: str, dtype: Any, masked: str, n: int, t: int, d: int, u: int) -> None:
    arrays = problem(name, n, t, d, u, dtype)
    arrays[0] = 3 * np.repeat(arrays[0], 2, axis=1)[:, ::2]  # strided, and far enough out to saturate gates
    if name == "simple_rnn" or (name == "gru_reset_first" and masked in ("yes", "by gate")):
        # no gate tames it, or dropout enlarges what the gate leaves: each step would multiply the rounding of the last
        arrays[-2] /= dtype(np.sqrt(u))
    options = masks(n, t, u, dtype, **_by_gates(name, masked, d)) if masked != "no" else {}
    if masked == "steps":
        del options["recurrent_mask"]
    forward, backward = kernel_pair(reference, name)
    *expected, expected_residual = forward(*arrays, **options)
    override, _ = kernel_pair(cpu, name)
    inputs = [array.copy() for array in arrays]
    *results, residual = override(*arrays, **options)
    *without, _ = override(*arrays, with_residual=False, **options)
    rounding = (d + u + 4) * np.finfo(dtype).eps  # of a gate's sum of d + u products and of its activation
    for result, same, wanted in zip(results, without, expected, strict=True):
        assert result.dtype == dtype
        np.testing.assert_allclose(result, wanted, rtol=0, atol=rounding)
        np.testing.assert_array_equal(result, same)
    g = loss_gradients(tuple(expected))
    for unused in (None, *range(len(g))):
        given_some = [None if place == unused else gradient for place, gradient in enumerate(g)]
        found = backward(*given_some, residual)
        for gradient, wanted in zip(found, backward(*given_some, expected_residual), strict=True):
            assert gradient.dtype == dtype
            near = (1e-5 if dtype == np.float32 else 1e-13) * np.abs(wanted).max(initial=0)
            relative = 1e-4 if dtype == np.float32 else 1e-12
            np.testing.assert_allclose(gradient, wanted, rtol=relative, atol=min(near, 3e-5))
    for array, untouched in zip(arrays, inputs, strict=True):
        np.testing.assert_array_equal(array, untouched)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 19), st.integers(1, 5), st.integers(1, 9), st.integers(1, 40)),
    masked=st.booleans(),
    bias=st.booleans(),
    zeros=st.booleans(),
    dropped=st.sampled_from(["no", "yes", "by gate"]),
    order=ORDERS,
    used=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_orders_of_the_override(
    name: str, sizes: Any, masked: bool, bias: bool, zeros: bool, dropped: str, order: dict[str, bool], used: Any
) -> None:
    """Forwards and backwards, all outputs or the last, given states or zeros, any of the gradients, with few rows."""
    n, t, d, u = sizes
    arrays = problem(name, *sizes, np.float32, bias=bias)
    arrays[-2] /= np.float32(np.sqrt(u))
    if zeros:
        arrays[1:-3] = [None] * len(arrays[1:-3])
    every = masks(n, t, u, np.float32, **_by_gates(name, dropped, d))
    options = order | {key: value for key, value in every.items() if (masked if key == "mask" else dropped != "no")}
    (forward, backward), (override, same) = kernel_pair(reference, name), kernel_pair(cpu, name)
    *expected, expected_residual = forward(*arrays, **options)
    *results, residual = override(*arrays, **options)
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, wanted, rtol=0, atol=1e-5)
    g = [one if use else None for one, use in zip(loss_gradients(tuple(expected)), used, strict=False)]
    gradients = zip(same(*g, residual), backward(*g, expected_residual), strict=True)
    for gradient, wanted in gradients:
        if wanted is not None:
            near = min(3e-5 * np.abs(wanted).max(initial=0), 1e-4)
            np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=near)
        else:
            assert gradient is None


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 4), st.integers(0, 3), st.integers(0, 20), st.sampled_from([np.float32, np.float64]))
def test_factors_of_dropout(n: int, t: int, d: int, dtype: Any) -> None:
    rng = np.random.default_rng(n)
    x, mask = rng.standard_normal((n, t, d)).astype(dtype), (rng.random((n, d)) < 0.6).astype(np.uint8)
    factors = reference.dropout_factors(mask, 1 / 0.7, np.dtype(dtype))
    found = cpu.dropout_factors(mask, 1 / 0.7, np.dtype(dtype))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, factors)
    np.testing.assert_array_equal(cpu.drop_steps(x, factors), reference.drop_steps(x, factors))
    np.testing.assert_array_equal(cpu.masked_scale(x, factors[:, None], 1.0), x * factors[:, None])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5), st.integers(0, 40), st.sampled_from([np.float32, np.float64]), st.booleans(), st.booleans())
def test_rows_are_copied_and_added(n: int, columns: int, dtype: Any, strided: bool, zeros: bool) -> None:
    rng = np.random.default_rng(n)
    source = rng.standard_normal((n, 3, columns)).astype(dtype)[:, 1]
    wide = rng.standard_normal((n, 2, columns, 2)).astype(dtype)
    for name in ("copy_rows", "add_rows"):
        given_rows = None if zeros and name == "copy_rows" else source
        results = []
        for table in (reference, cpu):
            whole = wide.copy()
            target = whole[:, 1, :, 0] if strided else whole.reshape(n, 2, 2 * columns)[:, 1, :columns]
            getattr(table, name)(given_rows, target)
            results.append(whole)
        np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_loops_over_time_leave_alone(name: str) -> None:
    """Strided gradients and masks, weights that are columns of wider matrices; rows that no step counts for."""
    arrays = problem(name, 11, 5, 6, 20, np.float32)
    options = {"mask": np.random.default_rng(3).random((5, 11)).T < 0.5}
    options["mask"][4] = False
    override, backward = kernel_pair(cpu, name)
    *results, residual = override(*arrays, **options)
    g = loss_gradients(tuple(results))
    expected = backward(*g, residual)
    wide = [np.repeat(array, 2, axis=-1)[..., ::2] for array in arrays[:-3]] + arrays[-3:]
    wide[-2] = np.concatenate([arrays[-2], arrays[-2]], axis=1)[:, : arrays[-2].shape[1]]
    *same, residual = override(*wide, **options)
    for result, other in zip(results, same, strict=True):
        np.testing.assert_array_equal(result, other)
    strided = [np.repeat(gradient, 2, axis=-1)[..., ::2] for gradient in g]
    for gradient, other in zip(expected, backward(*strided, residual), strict=True):
        np.testing.assert_array_equal(gradient, other)
    states = arrays[1 : 1 + len(results) - 1]
    for state, last, at_first, at_last in zip(states, results[1:], expected[1:], g[1:], strict=False):
        np.testing.assert_array_equal(last[4], state[4])
        np.testing.assert_array_equal(at_first[4], at_last[4])


@pytest.mark.parametrize("name", NAMES)
def test_results_do_not_depend_on_the_number_of_threads(name: str) -> None:
    arrays = problem(name, 21, 7, 6, 40, np.float32)
    override, backward = kernel_pair(cpu, name)
    *expected, residual = override(*arrays)
    expected += backward(*loss_gradients(tuple(expected)), residual)
    for size in (1, 3):
        with team_of(size):
            *results, residual = override(*arrays)
            results += backward(*loss_gradients(tuple(results)), residual)
        for result, wanted in zip(results, expected, strict=True):
            np.testing.assert_array_equal(result, wanted)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("masked", [False, True])
def test_kernels_too_large_for_the_cache_of_a_core(name: str, masked: bool) -> None:
    """Parts have more rows then, and the input product of all time steps is one."""
    arrays = problem(name, 37, 5, 7, 21, np.float32)
    options = {"mask": masks(37, 5, 21)["mask"]} if masked else {}
    override, backward = kernel_pair(cpu, name)
    *expected, residual = override(*arrays, **options)
    g = loss_gradients(tuple(expected))
    expected += backward(*g, residual)
    with patch.object(module, "_NEAR", 20):
        *results, residual = override(*arrays, **options)
        results += backward(*g, residual)
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())


def test_a_step_that_is_not_a_number_stays_in_its_row() -> None:
    for name in NAMES:
        arrays = problem(name, 10, 4, 3, 5, np.float32)
        override, _ = kernel_pair(cpu, name)
        expected = override(*arrays)[0]
        arrays[0][3, 2, 1] = np.nan
        found = override(*arrays)[0]
        assert np.isnan(found[3, 2:]).all()
        found[3, 2:] = expected[3, 2:]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("activations", [("relu", "sigmoid"), ("tanh", "hard_sigmoid")])
def test_override_leaves_other_activations_to_the_reference(activations: Any) -> None:
    arrays = problem("lstm", 2, 3, 2, 3, np.float32)
    options = {"activation": activations[0], "recurrent_activation": activations[1]}
    of_reference = module.reference.lstm(cpu, *arrays, **options)  # with the same products
    for result, wanted in zip(cpu.lstm(*arrays, **options)[:-1], of_reference[:-1], strict=True):
        np.testing.assert_array_equal(result, wanted)


@compiled
def _functions(x, results, size):  # type: ignore[no-untyped-def]
    for i in range(size):
        floats(results)[i] = tanh(floats(x)[i])
        floats(results)[size + i] = sigmoid(floats(x)[i])


def test_the_compiled_tanh_and_sigmoid() -> None:
    inside = np.concatenate([np.linspace(-24, 24, 8001), np.logspace(-30, 1, 1001)])
    x = np.concatenate([inside, [0, np.nan, np.inf, -np.inf]]).astype(np.float32)
    y = np.empty((2, x.size), np.float32)
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(_functions.address)(x.ctypes.data, y.ctypes.data, x.size)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(y[0], np.tanh(exact), rtol=5e-7, atol=0)
    np.testing.assert_allclose(y[1], 1 / (1 + np.exp(-exact)), rtol=0, atol=2e-7)
    np.testing.assert_array_equal(y[:, -2:], [[1, -1], [1, 0]])
