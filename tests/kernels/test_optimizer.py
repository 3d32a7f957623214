"""Optimizer kernels: the reference against plain formulas in float64, the overrides bit for bit against it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizer_kernel_cases import CASES, NOT_BELOW_0

from minikeras.kernels import reference_table, table_of
from minikeras.kernels.cpu.optimizer import _BLOCK

reference, cpu = reference_table(), table_of("cpu")

SIZES = (0, 1, 7, 1001, _BLOCK, _BLOCK + 1, 2 * _BLOCK + 13)

IN_MEMORY = {"lr", "alpha", "amount", "of_mean", "of_gradient", "correction"}  # what may change from step to step


def state_for(names, size, dtype, seed=0):
    """The buffers `p`, `g` and the slots; averages of squares are above what their averages allow."""
    generator = np.random.default_rng(seed)
    state = {name: generator.normal(size=size).astype(dtype) for name in ("p", "g", *names)}
    for name in NOT_BELOW_0 & {*names}:
        state[name] = np.square(state[name]) + 2
    if "average_gradient" in names:
        state["average_gradient"] = np.clip(state["average_gradient"], -1, 1)
    return state


def expected_state(kernel, s, o):
    """The formulas of Keras 3, written for one step on values that are not changed."""
    p, g = s["p"], s["g"]
    if kernel == "sgd":
        return {"p": p - o["lr"] * g}
    if kernel == "sgd_momentum":
        v = o["momentum"] * s["v"] - o["lr"] * g
        return {"p": p + o["momentum"] * v - o["lr"] * g if o.get("nesterov") else p + v, "v": v}
    if kernel == "adagrad":
        total = s["total"] + g**2
        return {"p": p - o["lr"] * g / np.sqrt(total + o["epsilon"]), "total": total}
    if kernel == "adadelta":
        squares = o["rho"] * s["squares"] + (1 - o["rho"]) * g**2
        step = g * np.sqrt(s["steps"] + o["epsilon"]) / np.sqrt(squares + o["epsilon"])
        steps = o["rho"] * s["steps"] + (1 - o["rho"]) * step**2
        return {"p": p - o["lr"] * step, "squares": squares, "steps": steps}
    if kernel == "adamax":
        m = o["beta_1"] * s["m"] + (1 - o["beta_1"]) * g
        norm = np.maximum(o["beta_2"] * s["norm"], np.abs(g))
        return {"p": p - o["alpha"] * m / (norm + o["epsilon"]), "m": m, "norm": norm}
    if kernel == "nadam":
        m = o["beta_1"] * s["m"] + (1 - o["beta_1"]) * g
        v = o["beta_2"] * s["v"] + (1 - o["beta_2"]) * g**2
        mean = o["of_mean"] * m + o["of_gradient"] * g
        return {"p": p - o["lr"] * mean / (np.sqrt(v / o["correction"]) + o["epsilon"]), "m": m, "v": v}
    if kernel == "lion":
        sign = np.sign(o["beta_1"] * s["m"] + (1 - o["beta_1"]) * g)
        return {"p": p - o["lr"] * sign, "m": o["beta_2"] * s["m"] + (1 - o["beta_2"]) * g}
    if kernel == "ftrl":
        total = s["total"] + g**2
        after, before = (np.power(x, o["power"]) for x in (total, s["total"]))
        z = s["linear"] + g + 2 * o["shrinkage"] * p - (after - before) / o["lr"] * p
        beyond = np.where(np.abs(z) <= o["l1"], 0, z - np.sign(z) * o["l1"])
        return {"p": -beyond / ((after + o["beta"]) / o["lr"] + 2 * o["l2"]), "total": total, "linear": z}
    if kernel == "adam":
        m = s["m"] + (g - s["m"]) * (1 - o["beta_1"])
        v = s["v"] + (g**2 - s["v"]) * (1 - o["beta_2"])
        new = {"m": m, "v": v}
        if "vhat" in s:
            new["vhat"] = v = np.maximum(s["vhat"], v)
        p = p - o.get("amount", 0) * p
        return {"p": p - o["alpha"] * m / (np.sqrt(v) + o["epsilon"]), **new}
    v = o["rho"] * s["v"] + (1 - o["rho"]) * g**2
    new, denominator = {"v": v}, v + o["epsilon"]
    if "average_gradient" in s:
        average = new["average_gradient"] = o["rho"] * s["average_gradient"] + (1 - o["rho"]) * g
        denominator = denominator - average**2
    step = o["lr"] * g / np.sqrt(denominator)
    if "momentum_buffer" in s:
        step = new["momentum_buffer"] = o["momentum"] * s["momentum_buffer"] + step
    return {"p": p - step, **new}


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=15, deadline=None)
@given(size=st.integers(0, 40), seed=st.integers(0, 99), dtype=st.sampled_from(["float32", "float64"]))
def test_reference_formulas(case, size, seed, dtype):
    kernel, slots, options = CASES[case]
    state = state_for(slots, size, dtype, seed)
    before = {name: array.astype("float64") for name, array in state.items()}
    getattr(reference, kernel)(**state, **options)
    after = {**before, **expected_state(kernel, before, options)}
    tolerance = (2e-6 if dtype == "float32" else 1e-14) * (30 if kernel == "ftrl" else 1)  # of differences over lr
    for name, array in state.items():
        assert array.dtype == dtype
        np.testing.assert_allclose(array, after[name], rtol=tolerance, atol=tolerance)
    assert np.array_equal(state["g"], before["g"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_overrides_have_the_reference_bits(case, dtype):
    kernel, slots, options = CASES[case]
    for size in SIZES:
        expected, got = state_for(slots, size, dtype), state_for(slots, size, dtype)
        for _ in range(3):
            getattr(reference, kernel)(**expected, **options)
            getattr(cpu, kernel)(**got, **options)
        for name in expected:
            assert np.array_equal(got[name], expected[name]), (name, size)


def in_memory(options):
    """The same numbers, where a step's lie in memory."""
    return {name: np.array([value]) if name in IN_MEMORY else value for name, value in options.items()}


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=20, deadline=None)
@given(
    size=st.integers(1, 70),
    seed=st.integers(0, 99),
    special=st.lists(st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30]), max_size=12),
    dtype=st.sampled_from(["float32", "float32", "float64", "float16"]),
    gap=st.sampled_from([1, 1, 2]),
)
def test_numbers_in_memory_and_special_values(case, size, seed, special, dtype, gap):
    kernel, slots, options = CASES[case]
    with np.errstate(all="ignore"):
        expected = {name: np.repeat(array, gap)[::gap] for name, array in state_for(slots, size, dtype, seed).items()}
        for name, value in zip((*expected, *expected, *expected), special, strict=False):
            expected[name][seed % size] = abs(value) if name in NOT_BELOW_0 else value
        got = {name: np.repeat(array, gap)[::gap] for name, array in expected.items()}
        assert got["p"].flags.c_contiguous is (gap == 1 or size == 1)
        getattr(reference, kernel)(**expected, **options)
        getattr(cpu, kernel)(**got, **in_memory(options))
    for name in expected:
        np.testing.assert_array_equal(got[name], expected[name], err_msg=name)


def test_whole_numbers_are_taken_as_numbers():
    for kernel, slots, options in CASES.values():
        whole = {
            name: value if isinstance(value, bool) or name == "power" else int(2 * value)
            for name, value in options.items()
        }
        expected, got = state_for(slots, 20, "float32"), state_for(slots, 20, "float32")
        with np.errstate(all="ignore"):
            getattr(reference, kernel)(**expected, **{name: float(value) for name, value in whole.items()})
            getattr(cpu, kernel)(**got, **whole)
        for name in expected:
            np.testing.assert_array_equal(got[name], expected[name], err_msg=f"{kernel}: {name}")


def test_ftrl_without_a_learning_rate_changes_nothing():
    kernel, slots, options = CASES["ftrl"]
    for table in (reference, cpu):
        state = state_for(slots, 9, "float32")
        kept = {name: array.copy() for name, array in state.items()}
        getattr(table, kernel)(**state, **{**options, "lr": np.zeros(1)})
        assert all(np.array_equal(state[name], kept[name]) for name in state)


@pytest.mark.parametrize("size", SIZES)
def test_decay_ema_scale_and_clip(size):
    state = state_for(["average"], size, "float32")
    p, average = state["p"], state["average"]
    decayed, averaged, scaled, clipped = p.copy(), average.copy(), p.copy(), p.copy()
    cpu.decay(decayed, np.array([4e-6]))
    cpu.ema(averaged, p, np.array([0.99]))
    cpu.scale(scaled, np.array([0.3]))
    cpu.clip_by_value(clipped, 0.5)
    assert np.array_equal(decayed, p - p * 4e-6)
    assert np.array_equal(averaged, average * 0.99 + p * (1 - 0.99))
    assert np.array_equal(scaled, p * 0.3)
    assert np.array_equal(clipped, np.clip(p, -0.5, 0.5))
    for kernel, array, number in (("decay", decayed, 4e-6), ("scale", scaled, 0.3), ("clip_by_value", clipped, 0.5)):
        q = p.copy()
        getattr(reference, kernel)(q, number)
        assert np.array_equal(array, q)
    reference.ema(average, p, 0.99)
    assert np.array_equal(averaged, average)


def test_small_decay_keeps_its_size():
    p = np.random.default_rng(0).uniform(1, 2, 100_000).astype("float32")
    before = p.astype("float64").sum()
    reference.decay(p, 1e-6)
    assert abs((before - p.astype("float64").sum()) / (before * 1e-6) - 1) < 1e-2


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("size", [0, 1, 5000])
def test_clip_kernels(dtype, size):
    g = np.random.default_rng(0).normal(size=size).astype(dtype) * np.asarray(8, dtype)
    clipped, scaled = g.copy(), g.copy()
    reference.clip_by_value(clipped, 0.5)
    assert np.array_equal(clipped, np.clip(g, -0.5, 0.5))
    total = reference.sum_of_squares(g)
    assert total.shape == ()
    assert np.isclose(total, (g.astype("float64") ** 2).sum(), rtol=1e-4)
    reference.scale(scaled, np.asarray(0.25, dtype))
    assert scaled.dtype == dtype
    assert np.array_equal(scaled, g * np.asarray(0.25, dtype))


def test_centered_rmsprop_survives_rounding():
    """A constant gradient: the variance is 0, and rounding may put it below by more than epsilon."""
    p, g = np.zeros(64, "float32"), np.linspace(50, 60, 64, dtype="float32")
    v, average = np.zeros_like(p), np.zeros_like(p)
    for _ in range(300):
        reference.rmsprop(p, g, v, 1e-3, 0.9, 1e-7, average_gradient=average)
    assert np.isfinite(p).all()


def test_float16_and_zero_dimensional_numbers():
    state = state_for(["m", "v"], 9, "float16")
    cpu.adam(**state, alpha=0.01, beta_1=0.9, beta_2=0.999, epsilon=1e-7)
    assert all(array.dtype == "float16" for array in state.values())
    state, same = state_for([], 9, "float32"), state_for([], 9, "float32")
    cpu.sgd(**state, lr=np.asarray(0.1, "float32"))
    cpu.sgd(**same, lr=0.1)
    assert np.array_equal(state["p"], same["p"])


# ---------------------------------------------------------------- norms: sums of another order, so not the same bits


def assert_close(got, expected):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("together", [True, False])
@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 7, 900, 40_000]), min_size=1, max_size=4),
    limit=st.sampled_from([0.1, 1, 1e9]),
    bad=st.sampled_from([None, np.nan, np.inf]),
)
def test_clip_by_norm(together, sizes, limit, bad):
    generator = np.random.default_rng(0)
    arrays = [generator.normal(size=size).astype("float32") for size in sizes]
    if bad is not None and sizes[0]:
        arrays[0][sizes[0] // 2] = bad
    expected, got = [array.copy() for array in arrays], [array.copy() for array in arrays]
    with np.errstate(all="ignore"):
        reference.clip_by_norm(expected, limit, together)
        cpu.clip_by_norm(got, limit, together)
    assert_close(got, expected)
    if bad is None:
        norms = [np.linalg.norm(array) for array in got]
        assert max(np.linalg.norm(norms) if together else max(norms), 0) <= limit * (1 + 1e-5)
        if limit > 1e6:
            assert all(map(np.array_equal, got, arrays))
    elif sizes[0]:
        assert np.isnan(got[0][sizes[0] // 2])
        assert not together or all(np.isnan(array).all() for array in got)


def test_clip_by_norm_of_other_types():
    for dtype in ("float16", "float64"):
        arrays = [np.full(4, 3.0, dtype), np.full((3, 3), 4.0, dtype)]
        cpu.clip_by_norm(arrays, 1.0)
        assert [array.dtype for array in arrays] == [dtype] * 2
        np.testing.assert_allclose(np.sqrt(sum(float((a.astype(float) ** 2).sum()) for a in arrays)), 1, rtol=2e-3)


@settings(max_examples=25, deadline=None)
@given(
    size=st.sampled_from([1, 5, 33, 1000, 40_000, 70_001]), seed=st.integers(0, 9), zero=st.sampled_from(["", "p", "g"])
)
def test_lamb(size, seed, zero):
    numbers = {"lr": 0.1, "correction_1": 0.2, "correction_2": 0.05}
    state = state_for(["m", "v"], size, "float32", seed)
    if zero:
        state[zero][...] = 0
        state["m"][...] = 0
    expected, got = [{name: array.copy() for name, array in state.items()} for _ in range(2)]
    reference.lamb(**expected, **numbers, beta_1=0.9, beta_2=0.99, epsilon=1e-7)
    cpu.lamb(
        **got, **{name: np.array([value]) for name, value in numbers.items()}, beta_1=0.9, beta_2=0.99, epsilon=1e-7
    )
    assert np.array_equal(got["m"], expected["m"]) and np.array_equal(got["v"], expected["v"])
    assert_close([got["p"]], [expected["p"]])


@settings(max_examples=40, deadline=None)
@given(
    shape=st.sampled_from([(1,), (7,), (1, 1), (3, 5), (65, 33), (5, 300), (2, 3, 4), (2, 2, 3, 5)]),
    seed=st.integers(0, 9),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_adafactor(shape, seed, scale):
    generator = np.random.default_rng(seed)
    p, g = (generator.normal(size=shape).astype("float32") for _ in range(2))
    lines = [shape[:-1], (*shape[:-2], shape[-1])] if len(shape) > 1 else [(), ()]  # not used of a vector
    means = [(scale**2 * generator.uniform(0.5, 2, line)).astype("float32") for line in lines]
    state = [p, g * np.float32(scale), *means, (scale**2 * generator.uniform(0.5, 2, shape)).astype("float32")]
    expected, got = [[array.copy() for array in state] for _ in range(2)]
    constants = {"epsilon_1": 1e-30, "epsilon_2": 1e-3, "threshold": 1}
    for _ in range(2):
        reference.adafactor(*expected, 0.1, 0.3, **constants)
        cpu.adafactor(*got, np.array([0.1]), np.array([0.3]), **constants)
    assert_close(got[:2], expected[:2])
    assert_close([array / scale**2 for array in got[2:]], [array / scale**2 for array in expected[2:]])


@settings(max_examples=80, deadline=None)
@given(
    shape=st.lists(st.sampled_from([1, 2, 3, 40]), min_size=1, max_size=4).map(tuple),
    axes=st.sets(st.integers(-4, 3)),
    limits=st.sampled_from([(0.0, 1.0, 1.0), (0.5, 2.0, 0.3), (0.0, np.inf, 1.0), (1, 1, 0)]),
    unit=st.booleans(),
    dtype=st.sampled_from(["float32", "float32", "float64"]),
    in_place=st.booleans(),
)
def test_limit_norms(shape, axes, limits, unit, dtype, in_place):
    axis = [
        one for one in axes if -len(shape) <= one < len(shape) and not (one < 0 and one + len(shape) in axes)
    ] or None
    w = np.random.default_rng(0).normal(size=shape).astype(dtype)
    w[..., 0] = 0
    expected = reference.limit_norms(w, axis, *limits, 1e-7, unit)
    got = cpu.limit_norms(w, axis, *limits, 1e-7, unit, w if in_place else None)
    assert got.dtype == dtype and (got is w) is in_place
    assert_close([got], [expected])


def test_limit_norms_refuses_axes_that_are_not_there():
    for axis in (2, -3, [0, 0]):
        for table in (reference, cpu):
            with pytest.raises(ValueError, match="axis"):
                table.limit_norms(np.ones((2, 2), "float32"), axis, 0.0, 1.0, 1.0, 1e-7)


def test_without_negative():
    w = np.array([[-1, -0.0, 2, np.nan, -np.inf, np.inf]], "float32")
    for array in (w, np.repeat(w, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(cpu.without_negative(array), reference.without_negative(array))
        assert cpu.without_negative(array, array) is array and not (array < 0).any()


def test_parts_of_a_norm_do_not_depend_on_the_threads():
    """Two tables' arrays at other addresses, alone and among others: the same bits."""
    g = np.random.default_rng(0).normal(size=100_003).astype("float32")
    found = []
    for start in (0, 1, 5):
        memory = np.zeros(g.size + 8, "float32")
        view = memory[start : start + g.size]
        view[...] = g
        cpu.clip_by_norm([view], 0.5)
        found.append(view.copy())
    assert all(np.array_equal(one, found[0]) for one in found)
