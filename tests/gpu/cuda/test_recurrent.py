"""Recurrent layers on the GPU's kernels: step by step, and all steps in one kernel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
from gpu import host
from gpu.cuda.check import DTYPES, case, numbers, results, same
from gpu.cuda.check import gpu as table
from hypothesis import given
from hypothesis import strategies as st

from minikeras.kernels import Kernels
from minikeras.kernels.cuda import recurrent as override
from minikeras.kernels.reference import recurrent as written

GATES = override._GATES
ACTIVATIONS = st.sampled_from([("tanh", "sigmoid"), ("softsign", "hard_sigmoid"), (None, "sigmoid")])
# a chain of a few operations at each of several steps, each a sum of products
NEAR = {"float16": 2e-2, "bfloat16": 1e-1, "float32": 1e-4, "float64": 1e-11}
FLOAT = {"rtol": NEAR["float32"], "atol": NEAR["float32"]}


@contextmanager
def step_by_step(really: bool = True) -> Iterator[None]:
    """Within this block no kernel takes all steps."""
    before = override._CACHED
    override._CACHED = 0 if really else before
    try:
        yield
    finally:
        override._CACHED = before


def factors(seed: int, *shape: int, dtype: str) -> Any:
    """Of a dropout."""
    return (1.25 * (numbers(seed, *shape) > -1)).astype(numbers(0, 1, dtype=dtype).dtype)


def run(
    k: Kernels, kind: str, n: int, t: int, d: int, u: int, dtype: str = "float32", bias: bool = True,
    states: bool = True, masked: bool = False, dropped: str = "no", activations: Any = ("tanh", "sigmoid"),
    unused: int = 0, needs_x: bool = True, with_outs: bool = False, **order: Any,
) -> list[Any]:  # fmt: skip
    """All results of a kernel and of its backward."""
    seeds = iter(range(100))

    def array(*shape: int, scale: float = 0.7) -> Any:
        return k.to_device(numbers(next(seeds), *shape, low=-scale, high=scale, dtype=dtype))

    gates, count = GATES[kind], 2 if kind == "lstm" else 1
    x, first = array(n, t, d), [array(n, u) if states else None for _ in range(count)]
    weights = [array(d, gates * u), array(u, gates * u, scale=1 / u**0.5)]
    weights.append(array(*((2, 3 * u) if kind == "gru" else (gates * u,))) if bias else None)
    options: dict[str, Any] = {"activation": activations[0], **order}
    if kind != "simple_rnn":
        options["recurrent_activation"] = activations[1]
    if masked:
        mask = numbers(next(seeds), n, t) > -0.6
        mask[:1], mask[1:2, :1] = False, False
        options["mask"] = k.to_device(mask)
    if dropped != "no":
        shape = (gates, n, u) if dropped == "by gate" else (n, u)
        options["recurrent_mask"] = k.to_device(factors(next(seeds), *shape, dtype=dtype))
    if dropped == "by gate":
        options["input_mask"] = k.to_device(factors(next(seeds), gates, n, d, dtype=dtype))
    name = "gru" if kind == "reset_first" else kind
    if name == "gru":
        options["reset_after"] = kind == "gru"
    *made, residual = getattr(k, name)(x, *first, *weights, **options)
    made = [k.to_device(np.array(k.to_host(one))) for one in made]  # the states share memory with what is shown
    plain = getattr(k, name)(x, *first, *weights, with_residual=False, **options)[:-1]
    g = [array(*one.shape, scale=1) if place != unused - 1 else None for place, one in enumerate(made)]
    outs = tuple(None if one is None or not with_outs else k.empty(one.shape, one.dtype) for one in weights)
    return [*made, *plain, *getattr(k, f"{name}_grad")(*g, residual, needs_x, outs)]


SIZES = st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(1, 5), st.integers(1, 40))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", GATES)
@given(
    sizes=SIZES,
    stepwise=st.booleans(),
    bias=st.booleans(),
    states=st.booleans(),
    masked=st.booleans(),
    dropped=st.sampled_from(["no", "yes", "by gate"]),
    activations=ACTIVATIONS,
    unused=st.integers(0, 3),
    needs_x=st.booleans(),
    with_outs=st.booleans(),
    order=st.fixed_dictionaries(
        {name: st.booleans() for name in ("backwards", "return_sequences", "zero_output_for_mask")}
    ),
)
def test_sequences(dtype: str, kind: str, sizes: Any, stepwise: bool, order: dict[str, bool], **options: Any) -> None:
    if kind == "simple_rnn" and options["dropped"] == "by gate":
        options["dropped"] = "yes"
    used = {f"{kind}_loop", f"{kind}_loop_grad"}
    if stepwise:
        used = {"begin", "end_grad", f"{kind}_cell"}
        used |= {"reset_first_gates", "reset_first_gates_grad"} if kind == "reset_first" else {f"{kind}_cell_grad"}
    with step_by_step(stepwise):
        same(lambda k: run(k, kind, *sizes, dtype, **options, **order), used, rtol=NEAR[dtype], atol=NEAR[dtype])


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("dropped", ["no", "yes"])
def test_weights_that_are_read_through_the_cache(kind: str, dropped: str) -> None:
    """Too many for shared memory, of several samples in several blocks."""
    u = {"simple_rnn": 126, "lstm": 63, "gru": 73, "reset_first": 73}[kind]
    assert override._HELD < GATES[kind] * u * u * 4 < override._CACHED
    same(
        lambda k: run(k, kind, 3, 2, 2, u, masked=True, dropped=dropped), {f"{kind}_loop", f"{kind}_loop_grad"}, **FLOAT
    )


def test_what_the_shape_chooses() -> None:
    assert override._takes_all_steps(32, 90, 4, 4)
    assert not override._takes_all_steps(32, 91, 4, 4)
    assert override._takes_all_steps(32, 128, 4, 2)
    assert not override._takes_all_steps(2048, 64, 4, 4)
    assert not override._takes_all_steps(1, 300, 1, 0)


@pytest.mark.parametrize("stepwise", [False, True])
@pytest.mark.parametrize("kind", GATES)
def test_masked_steps_repeat_what_was_before(kind: str, stepwise: bool) -> None:
    with step_by_step(stepwise):
        outputs, *states = results(table, lambda k: run(k, kind, 5, 6, 3, 7, masked=True))[: 3 if kind == "lstm" else 2]
        seeds = 6 if kind == "lstm" else 5
        mask = numbers(seeds, 5, 6) > -0.6
        mask[:1], mask[1:2, :1] = False, False
        for s in range(6):
            before = outputs[:, s - 1] if s else 0 * outputs[:, 0]
            np.testing.assert_array_equal(outputs[~mask[:, s], s], before[~mask[:, s]])
        np.testing.assert_array_equal(states[0][0], numbers(1, 5, 7, low=-0.7, high=0.7)[0])
        assert not mask.all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stepwise", [False, True])
@pytest.mark.parametrize("kind", GATES)
def test_two_halves_are_the_whole(kind: str, stepwise: bool, dtype: str) -> None:
    name, columns, u = "gru" if kind == "reset_first" else kind, GATES[kind] * 7, 7
    options: dict[str, Any] = {"reset_after": kind == "gru"} if name == "gru" else {}
    weights = [numbers(1, 1, columns, dtype=dtype), numbers(2, u, columns, low=-0.4, high=0.4, dtype=dtype)]
    x, *weights = (table.to_device(one) for one in (numbers(0, 3, 6, 1, dtype=dtype), *weights))
    compute = partial(getattr(table, name), **options)
    with step_by_step(stepwise):
        whole, *last, _ = compute(x, *[None] * (1 + (kind == "lstm")), *weights, None)
        first, *states, _ = compute(x[:, :3], *[None] * (1 + (kind == "lstm")), *weights, None)
        second, *states, _ = compute(x[:, 3:], *states, *weights, None)
    halves = np.concatenate([first.get(), second.get()], axis=1)
    for one, other in zip((halves, *[one.get() for one in states]), (whole, *last), strict=True):
        assert one.tobytes() == other.get().tobytes()


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("stepwise", [False, True])
def test_a_step_that_is_not_a_number_stays_in_its_row_and_masked_ones_nowhere(kind: str, stepwise: bool) -> None:
    name, gates = "gru" if kind == "reset_first" else kind, GATES[kind]
    options: dict[str, Any] = {"reset_after": kind == "gru"} if name == "gru" else {}

    def compute(k: Kernels, wrong: Any) -> list[Any]:
        x = numbers(0, 5, 4, 3)
        x[wrong] = np.nan
        mask = np.ones((5, 4), bool)
        mask[1, 2] = False
        weights = [k.to_device(numbers(seed, *shape)) for seed, shape in ((1, (3, gates * 6)), (2, (6, gates * 6)))]
        states = [None] * (2 if kind == "lstm" else 1)
        *made, residual = getattr(k, name)(
            k.to_device(x), *states, *weights, None, mask=k.to_device(mask), return_sequences=False, **options
        )
        g = [k.to_device(numbers(3, 5, 6)) for _ in made]
        return [*made, *getattr(k, f"{name}_grad")(*g, residual)[1 : 2 + (kind == "lstm")]]

    with step_by_step(stepwise):
        expected = results(table, lambda k: compute(k, (4, 3)))
        found = results(table, lambda k: compute(k, ([3, 4], [2, 3])))
        masked = results(table, lambda k: compute(k, ([1, 4], [2, 3])))
    for one, other, wanted in zip(found, masked, expected, strict=True):
        assert np.isnan(one[3:]).all() and np.isnan(wanted[4]).all()
        np.testing.assert_array_equal(one[:3], wanted[:3])
        np.testing.assert_array_equal(other, wanted)


class Half:
    """A table whose forward kernels, or whose backward ones, are the reference's."""

    def __init__(self, backward: bool):
        self.backward, self.to_device, self.to_host, self.empty = backward, table.to_device, table.to_host, table.empty

    def __getattr__(self, name: str) -> Any:
        plain = name.endswith("_grad") == self.backward
        return partial(getattr(written, name), table) if plain else getattr(table, name)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_either_way_may_be_the_references(backward: bool, masked: bool) -> None:
    half: Any = Half(backward)
    order = {"backwards": True, "return_sequences": True, "zero_output_for_mask": False}
    sizes = (2, 3, (4,), 2, 3, "float32", masked, True, True, 1, 0, True, False, ("tanh", "sigmoid"))
    cases = [partial(run, kind=kind, n=3, t=4, d=2, u=5, masked=masked, dropped="yes") for kind in GATES]
    for compute in [*cases, lambda k: convolutional(k, *sizes, **order)]:
        host.launched.clear()
        found = results(half, compute)
        assert any(name.endswith(("cell", "loop")) for name in host.launched) == backward
        assert any(name.endswith(("cell_grad", "loop_grad")) for name in host.launched) != backward
        for one, wanted in zip(found, results(table, compute), strict=True):
            assert (one is wanted is None) or np.allclose(one, wanted, **FLOAT)


@pytest.mark.parametrize("kind", GATES)
def test_what_is_left_to_the_reference(kind: str) -> None:
    same(lambda k: run(k, kind, 0, 2, 3, 2, states=False), set(), **FLOAT)
    same(lambda k: run(k, kind, 2, 0, 3, 2), set(), **FLOAT)


def test_arrays_with_gaps() -> None:
    """And dropout of numbers of two bytes, as where those are computed with in float32."""

    def compute(k: Kernels) -> list[Any]:
        x = k.to_device(numbers(0, 4, 5, 6))[:, :, ::2]
        mask = k.to_device(numbers(1, 5, 4) > -1).T
        weights = [k.to_device(numbers(2, 3, 16)), k.to_device(numbers(3, 4, 16, low=-0.5, high=0.5)), None]
        first = [k.to_device(numbers(seed, 4, 8))[:, ::2] for seed in (6, 7)]
        dropout = {
            "recurrent_mask": k.to_device(np.repeat(factors(8, 4, 4, 4, dtype="float16"), 2, axis=2))[:, :, ::2],
            "input_mask": k.to_device(factors(9, 4, 4, 3, dtype="float16")),
        }
        h, *_, residual = k.lstm(x, *first, *weights, mask=mask, **dropout)
        g_h, g_outputs = k.to_device(numbers(4, 4, 8))[:, ::2], k.to_device(numbers(5, 5, 4, 4)).swapaxes(0, 1)
        return [h, *k.lstm_grad(g_outputs, g_h, None, residual)]

    for stepwise in (False, True):
        with step_by_step(stepwise):
            same(compute, {"lstm_cell" if stepwise else "lstm_loop"}, **FLOAT)


def convolutional(
    k: Kernels, n: int, t: int, lengths: tuple[int, ...], channels: int, f: int, dtype: str, masked: bool, bias: bool,
    states: bool, stride: int, unused: int, needs_x: bool, with_outs: bool, activations: Any, **order: Any,
) -> list[Any]:  # fmt: skip
    """All results of `conv_lstm` and of its backward."""
    seeds, axes = iter(range(100)), len(lengths)

    def array(*shape: int, scale: float = 0.5) -> Any:
        return k.to_device(numbers(next(seeds), *shape, low=-scale, high=scale, dtype=dtype))

    size, inner = (2, 3)[:axes], tuple((length - 1) // stride + 1 for length in lengths)
    weights = [array(*size, channels, 4 * f), array(*size, f, 4 * f), array(4 * f) if bias else None]
    first = [array(n, *inner, f) if states else None for _ in range(2)]
    padding = tuple(
        (max((-(-length // stride) - 1) * stride + width - length, 0), 0)
        for length, width in zip(lengths, size, strict=True)
    )
    window = {"strides": (stride,) * axes, "padding": padding, "dilation": (1,) * axes}
    named = dict(zip(("activation", "recurrent_activation"), activations, strict=True))
    mask = k.to_device(numbers(next(seeds), n, t) > -0.6) if masked else None
    options = {**window, **named, **order, "mask": mask}
    *made, residual = k.conv_lstm(array(n, t, *lengths, channels), *first, *weights, **options)
    plain = k.conv_lstm(array(n, t, *lengths, channels), *first, *weights, with_residual=False, **options)
    made = [k.to_device(np.array(k.to_host(one))) for one in made]
    g = [array(*one.shape, scale=1) if place != unused - 1 else None for place, one in enumerate(made)]
    outs = tuple(None if one is None or not with_outs else k.empty(one.shape, one.dtype) for one in weights)
    return [*made, *plain, *k.conv_lstm_grad(*g, residual, needs_x, outs)]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@given(
    sizes=st.tuples(
        st.integers(1, 3), st.integers(1, 3), st.lists(st.integers(1, 4), min_size=1, max_size=2).map(tuple),
        st.integers(1, 2), st.integers(1, 5),
    ),
    masked=st.booleans(),
    bias=st.booleans(),
    states=st.booleans(),
    stride=st.integers(1, 2),
    unused=st.integers(0, 3),
    needs_x=st.booleans(),
    with_outs=st.booleans(),
    activations=ACTIVATIONS,
    order=st.fixed_dictionaries(
        {name: st.booleans() for name in ("backwards", "return_sequences", "zero_output_for_mask")}
    ),
)  # fmt: skip
def test_convolutional(dtype: str, sizes: Any, order: dict[str, bool], **options: Any) -> None:
    same(
        lambda k: convolutional(k, *sizes, dtype, **options, **order),
        {"lstm_cell", "lstm_cell_grad"},
        rtol=NEAR[dtype],
        atol=NEAR[dtype],
    )


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 40), st.booleans())
def test_rows_and_factors(dtype: str, n: int, t: int, d: int, repeated: bool) -> None:
    def compute(k: Kernels) -> list[Any]:
        x, wide = (k.to_device(numbers(seed, n, t, d, dtype=dtype)) for seed in (0, 1))
        source = k.xp.broadcast_to(wide[0, 0], (n, d)) if repeated else wide[:, 0]
        k.copy_rows(source, x[:, t - 1])
        k.add_rows(source, x[:, 0])
        k.copy_rows(None, wide[:, t // 2])
        mask = k.to_device((numbers(2, n, d) > 0).astype("bool" if repeated else "uint8"))
        factors = k.dropout_factors(mask, 1 / 0.7, x.dtype)
        return [x, wide, factors, k.drop_steps(x, factors)]

    same(compute, {"rows_copied", "rows_added", "factors_of_dropout", "steps_dropped"})


def test_rows_that_the_kernels_do_not_take() -> None:
    def compute(k: Kernels) -> list[Any]:
        x, g = k.to_device(numbers(0, 4, 6)), k.to_device(numbers(1, 4, 6))
        k.copy_rows(x[:, ::2], g[:, ::2])
        k.add_rows(g[:, 0], x[:, 1])
        k.add_rows(g[:0], x[:0])
        return [x, g]

    same(compute)


@case(override._ROWS)
def rows(k: Kernels) -> list[Any]:
    x, y = k.to_device(numbers(0, 4, 3, 5)), k.to_device(numbers(1, 4, 5))
    k.copy_rows(y, x[:, 1])
    k.add_rows(y, x[:, 2])
    factors = k.dropout_factors(k.to_device(numbers(2, 4, 5) > 0), 1.25, x.dtype)
    return [x, factors, k.drop_steps(x, factors), *run(k, "gru", 3, 3, 2, 5, dropped="by gate")]


@case(override._CELLS)
def cells(k: Kernels) -> list[Any]:
    with step_by_step():
        return [one for kind in GATES for one in run(k, kind, 3, 3, 2, 5, masked=True, dropped="yes")]


@case(override._LOOPS)
def loops(k: Kernels) -> list[Any]:
    return [one for kind in GATES for one in run(k, kind, 3, 4, 2, 5, masked=True, dropped="yes")]
