"""Optimizer kernels: the reference against plain formulas in float64, the overrides bit for bit against it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikeras.kernels import reference_table, table_of
from minikeras.kernels.cpu.optimizer import _BLOCK

reference, cpu = reference_table(), table_of("cpu")

SIZES = (0, 1, 7, 1001, _BLOCK, _BLOCK + 1, 2 * _BLOCK + 13)

# name of a case: (kernel, slots beside p and g, other arguments)
CASES = {
    "sgd": ("sgd", [], {"lr": 0.1}),
    "momentum": ("sgd_momentum", ["v"], {"lr": 0.1, "momentum": 0.9}),
    "nesterov": ("sgd_momentum", ["v"], {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "rmsprop": ("rmsprop", ["v"], {"lr": 0.01, "rho": 0.9, "epsilon": 1e-7}),
    "rmsprop momentum": (
        "rmsprop",
        ["v", "momentum_buffer"],
        {"lr": 0.01, "rho": 0.9, "epsilon": 1e-7, "momentum": 0.8},
    ),
    "rmsprop centered": ("rmsprop", ["v", "average_gradient"], {"lr": 0.01, "rho": 0.9, "epsilon": 1e-7}),
    "rmsprop both": (
        "rmsprop",
        ["v", "momentum_buffer", "average_gradient"],
        {"lr": 0.01, "rho": 0.9, "epsilon": 1e-7, "momentum": 0.8},
    ),
    "adam": ("adam", ["m", "v"], {"alpha": 0.01, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}),
    "amsgrad": ("adam", ["m", "v", "vhat"], {"alpha": 0.01, "beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-7}),
}


def state_for(names, size, dtype, seed=0):
    """The buffers `p`, `g` and the slots; averages of squares are above what their averages allow."""
    generator = np.random.default_rng(seed)
    state = {name: generator.normal(size=size).astype(dtype) for name in ("p", "g", *names)}
    for name in {"v", "vhat"} & set(names):
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
    if kernel == "adam":
        m = s["m"] + (g - s["m"]) * (1 - o["beta_1"])
        v = s["v"] + (g**2 - s["v"]) * (1 - o["beta_2"])
        new = {"m": m, "v": v}
        if "vhat" in s:
            new["vhat"] = v = np.maximum(s["vhat"], v)
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
    tolerance = 2e-6 if dtype == "float32" else 1e-14
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


@pytest.mark.parametrize("size", SIZES)
def test_decay_and_ema(size):
    state = state_for(["average"], size, "float32")
    p, average = state["p"], state["average"]
    decayed, averaged = p.copy(), average.copy()
    cpu.decay(decayed, 4e-6)
    cpu.ema(averaged, p, 0.99)
    assert np.array_equal(decayed, p - p * 4e-6)
    assert np.array_equal(averaged, average * 0.99 + p * (1 - 0.99))
    reference.decay(p, 4e-6)
    assert np.array_equal(decayed, p)


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
