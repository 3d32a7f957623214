"""Optimizer steps on the GPU's kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gpu.cuda.check import DTYPES, NARROW, Case, case, gpu, numbers, results, same
from hypothesis import given
from hypothesis import strategies as st
from optimizer_kernel_cases import CASES as ON_EVERY_DEVICE
from optimizer_kernel_cases import NOT_BELOW_0

from minikeras.kernels import Kernels
from minikeras.kernels.arena import current
from minikeras.kernels.cuda import optimizer as override
from minikeras.kernels.cuda.launch import Address

# those of every device, and what a GPU has in the same source
CASES = {
    **ON_EVERY_DEVICE,
    "ftrl at rest": (
        "ftrl",
        ["total", "linear"],
        {"lr": 0.0, "power": 0.5, "l1": 0.3, "l2": 0.1, "shrinkage": 0.2, "beta": 0.5},
    ),
    "decay": ("decay", [], {"amount": 4e-6}),
    "ema": ("ema", ["average"], {"momentum": 0.99}),
    "clip": ("clip_by_value", [], {"limit": 0.5}),
    "scale": ("scale", [], {"factor": 0.3}),
    "sum": ("add_up", [], {}),
    "mean": ("take_mean", [], {"count": 3}),
}
IN_MEMORY = {"lr", "alpha", "amount", "of_mean", "of_gradient", "correction", "momentum", "factor"}
CONSTANT = {("momentum", name) for name in ("momentum", "nesterov", "rmsprop momentum", "rmsprop both")}
ARGUMENTS = {
    "decay": ["p"],
    "ema": ["average", "p"],
    "clip_by_value": ["g"],
    "scale": ["g"],
    "add_up": ["total", "g"],
    "take_mean": ["total", "out"],
}
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30]


def state_for(names: list[str], size: int, dtype: str) -> dict[str, Any]:
    """Arrays; averages of squares are above what their averages allow."""
    state = {name: numbers(place, size, dtype=dtype) for place, name in enumerate(names)}
    for name in NOT_BELOW_0 & {*names}:
        state[name] = np.abs(state[name]) + state[name].dtype.type(2)
    if "average_gradient" in state:
        state["average_gradient"] /= state["average_gradient"].dtype.type(2)
    return state


def step(name: str, size: int, dtype: str, in_memory: bool = False, special: tuple[float, ...] = ()) -> Case:
    """Two steps of a case."""
    kernel, slots, options = CASES[name]
    state = state_for(ARGUMENTS.get(kernel, ["p", "g"]) + (slots if kernel != "ema" else []), size, dtype)
    for array, value in zip(state.values(), special, strict=False):
        array[size // 2] = value
    changing = IN_MEMORY if kernel == "ema" else IN_MEMORY - {"momentum"}

    def run(k: Kernels) -> list[Any]:
        arrays = {key: k.to_device(array.copy()) for key, array in state.items()}
        given = {key: np.array([value]) if in_memory and key in changing else value for key, value in options.items()}
        with np.errstate(all="ignore"):
            for _ in range(2):
                getattr(k, kernel)(**arrays, **given)
        return [*arrays.values()]

    return run


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
@given(st.integers(1, 2500), st.booleans(), st.lists(st.sampled_from(SPECIAL), max_size=4).map(tuple))
def test_steps(name: str, dtype: str, size: int, in_memory: bool, special: tuple[float, ...]) -> None:
    """In float32 and float64 the bits are the reference's, but of powers."""
    if dtype in NARROW:
        special = ()  # of the largest of these float16 has none, and slots are rounded between the steps
    tolerance = 0 if dtype not in NARROW and name != "ftrl cubic" else None
    same(step(name, size, dtype, in_memory, special), {CASES[name][0]}, tolerance, tolerance)


def test_whole_numbers_are_taken_as_numbers() -> None:
    for name, (kernel, slots, options) in CASES.items():
        whole = {key: value if key == "nesterov" else int(2 * value) for key, value in options.items()}
        CASES["whole"] = kernel, slots, whole
        same(step("whole", 20, "float32"), {kernel}, *((0, 0) if "power" not in options else ()))
        assert CASES.pop("whole") and name


# ---- norms

_SIZES = st.sampled_from([1, 31, 700, 4097, 9001])


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.lists(st.sampled_from([0, 1, 31, 700, 9001]), max_size=3), st.booleans(), st.data())
def test_clipping_by_norms(dtype: str, sizes: list[int], together: bool, data: Any) -> None:
    limit, bad = data.draw(st.sampled_from([0.1, 1, 1e4])), data.draw(st.sampled_from([None, np.nan, np.inf]))
    arrays = [numbers(place, size, dtype=dtype) for place, size in enumerate(sizes)]
    if bad is not None and sizes and sizes[0]:
        arrays[0][sizes[0] // 2] = bad

    def run(k: Kernels) -> list[Any]:
        given = [k.to_device(array.copy()) for array in arrays]
        with np.errstate(all="ignore"):
            if given:
                k.clip_by_norm(given, limit, together)
        return given

    same(run, {"sum_squares", "scale_to_norm"} if any(sizes) else None)


@pytest.mark.parametrize("dtype", DTYPES)
@given(_SIZES)
def test_sums_of_squares(dtype: str, size: int) -> None:
    same(lambda k: [k.sum_of_squares(k.to_device(numbers(0, size, dtype=dtype)))], {"sum_squares", "sum_of_sums"})


def test_a_sum_of_squares_of_float16_does_not_overflow() -> None:
    assert float(gpu.sum_of_squares(gpu.to_device(np.full(9, 200, "float16")))) == 360_000


def lamb(dtype: str, size: int, zero: str = "", in_memory: bool = True) -> Case:
    """A step of a weight that is `zero`, or whose gradient is."""
    state = state_for(["p", "g", "m", "v"], size, dtype)
    if zero:
        state[zero][...] = 0
        state["m"][...] = 0
    changing = {"lr": 0.1, "correction_1": 0.2, "correction_2": 0.05}

    def run(k: Kernels) -> list[Any]:
        arrays = {name: k.to_device(array.copy()) for name, array in state.items()}
        given = {name: np.array([value]) if in_memory else value for name, value in changing.items()}
        k.lamb(**arrays, **given, beta_1=0.9, beta_2=0.99, epsilon=1e-7)
        return [*arrays.values()]

    return run


@pytest.mark.parametrize("dtype", DTYPES)
@given(_SIZES, st.sampled_from(["", "p", "g"]), st.booleans())
def test_lamb(dtype: str, size: int, zero: str, in_memory: bool) -> None:
    same(lamb(dtype, size, zero, in_memory), {"lamb_averages", "lamb"})


SHAPES = [(1,), (7,), (9001,), (1, 1), (3, 5), (65, 33), (5, 300), (300, 40), (2, 3, 4), (2, 2, 3, 5), (2, 270, 3)]


def adafactor(dtype: str, shape: tuple[int, ...], in_memory: bool = True) -> Case:
    """Two steps."""
    lines = [shape[:-1], (*shape[:-2], shape[-1])] if len(shape) > 1 else [(1,), (1,)]  # not used of a vector
    p, g = (numbers(seed, *shape, dtype=dtype) for seed in (0, 1))
    means = [numbers(2 + place, *line, low=0.5, dtype=dtype) for place, line in enumerate((*lines, shape))]

    def run(k: Kernels) -> list[Any]:
        arrays = [k.to_device(array.copy()) for array in (p, g, *means)]
        lr, new = (np.array([value]) if in_memory else value for value in (0.1, 0.3))
        for _ in range(2):
            k.adafactor(*arrays, lr, new, 1e-30, 1e-3, 1)
        return arrays

    return run


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.sampled_from(SHAPES), st.booleans())
def test_adafactor(dtype: str, shape: tuple[int, ...], in_memory: bool) -> None:
    used = {"adafactor_squares", "adafactor", *({"factor_rows"} if len(shape) > 1 else ())}
    same(adafactor(dtype, shape, in_memory), used)


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    st.lists(st.sampled_from([1, 2, 3, 40]), min_size=1, max_size=4).map(tuple) | st.sampled_from([(300, 35), (70, 3)]),
    st.sets(st.integers(-4, 3)),
    st.sampled_from([(0.0, 1.0, 1.0), (0.5, 2.0, 0.3), (0.0, np.inf, 1.0), (1, 1, 0)]),
    st.booleans(),
    st.booleans(),
)
def test_limits_of_norms(
    dtype: str, shape: tuple[int, ...], axes: set[int], limits: tuple, unit: bool, in_place: bool
) -> None:
    count = len(shape)
    axis = [one for one in axes if -count <= one < count and not (one < 0 and one + count in axes)] or None
    w = numbers(0, *shape, dtype=dtype)
    w[..., 0] = 0

    def run(k: Kernels) -> list[Any]:
        given = k.to_device(w.copy())
        return [k.limit_norms(given, axis, *limits, 1e-7, unit, given if in_place else None), given]

    same(run)


def test_axes_that_are_not_there_are_refused() -> None:
    w = gpu.to_device(np.ones((2, 2), "float32"))
    for axis in (2, -3, [0, 0]):
        with pytest.raises(ValueError, match="axis"):
            gpu.limit_norms(w, axis, 0.0, 1.0, 1.0, 1e-7)


# ---- numbers of the device


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_scaling_by_a_number_of_the_device(dtype: str, kind: str) -> None:
    g, factor = numbers(0, 300, dtype=dtype), numbers(1, 1, dtype=kind).reshape(())

    def run(k: Kernels) -> list[Any]:
        given = k.to_device(g.copy())
        k.scale(given, k.to_device(factor))
        return [given]

    same(run, {"scale_by"})


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_negative(dtype: str) -> None:
    w = numbers(0, 300, dtype=dtype)
    w[:3] = np.nan, -np.inf, np.inf

    def run(k: Kernels) -> list[Any]:
        given = k.to_device(w.copy())
        return [k.without_negative(given), k.without_negative(given, given)]

    same(run, {"without_negative"}, 0, 0)


class _Recording:
    """A step that is recorded, as far as numbers concern it."""

    def __init__(self) -> None:
        self.numbers: dict[int, Any] = {}
        self.launches: list[str] = []
        self._kept: list[Any] = []

    def launched(self, name: str, *arguments: Any) -> int:
        self.launches.append(name)
        return 0

    def moved(self, array: Any) -> Any:
        return gpu.xp.asarray(array)

    def flag_at(self, value: Any) -> Any:
        self._kept.append(value)
        return self.numbers.setdefault(id(value), gpu.to_device(value))

    def number_at(self, value: Any) -> Address:
        return Address(self.flag_at(value).data.ptr)


STEPS = {name: step(name, 40, "float32", True) for name in CASES}
STEPS |= {"lamb": lamb("float32", 40), "adafactor": adafactor("float32", (3, 5)), "vector": adafactor("float32", (7,))}


@pytest.mark.parametrize("name", STEPS)
def test_programs_read_numbers_of_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, recording = results(gpu, STEPS[name]), _Recording()
    with monkeypatch.context() as patched:
        patched.setattr(current, "recording", recording)
        found = STEPS[name](gpu)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(gpu.to_host(one), other)
    known = {float(value[0]) for value in recording.numbers.values()}
    options = CASES[name][2] if name in CASES else {"lr": 0.1}
    assert {options[key] for key in IN_MEMORY & {*options} if (key, name) not in CONSTANT} <= known


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.lists(st.sampled_from([0, 1, 40, 700]), max_size=4), st.sampled_from([None, np.nan, np.inf, -np.inf]))
def test_whether_all_numbers_are_finite(dtype: str, sizes: list[int], bad: float | None) -> None:
    arrays = [numbers(place, size, dtype=dtype) for place, size in enumerate(sizes)]
    filled = [array for array in arrays if array.size]
    if bad is not None and filled:
        filled[-1][-1] = bad

    def run(k: Kernels) -> list[Any]:
        out = np.full(1, 7.0)
        assert k.all_finite([k.to_device(array) for array in arrays], out) is bool(out)
        return [out]

    same(run, {"begin_finite"}, 0, 0)


def test_a_recorded_step_learns_of_it_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neighbours in a buffer are looked at together, and nothing is read."""
    buffer = gpu.to_device(np.ones(60, "float32"))
    arrays = [buffer[:10].reshape(2, 5), buffer[10:30], buffer[40:].reshape(4, 5), gpu.to_device(np.ones(3))]
    out, recording = np.ones(1), _Recording()
    assert gpu.all_finite(arrays, out)  # else a recorded step would wait for its kernels
    monkeypatch.setattr(current, "recording", recording)
    for place, expected in ((35, 1), (12, 0), (35, 0), (59, 0)):
        buffer[place] = np.inf
        assert gpu.all_finite(arrays, out)
        assert float(recording.numbers[id(out)][0]) == expected
        buffer[12] = 1 if place == 35 else np.inf
    assert out[0] == 1 and recording.launches[:5] == ["begin_finite", *["is_finite"] * 3, "begin_finite"]


# ---- what barriers are for


@case(override._UPDATES, override._SCALES, override._FINITE)
def updates(k: Kernels) -> list[Any]:
    results = [one for name in CASES for one in step(name, 40, "float32", True)(k)]
    w, out = k.to_device(numbers(0, 50)), np.ones(1)
    k.scale(w, k.to_device(np.array(0.5)))
    k.all_finite([w], out)
    return [*results, k.without_negative(w, w), out]


@case(override._NORMS)
def norms(k: Kernels) -> list[Any]:
    arrays = [k.to_device(numbers(place, size)) for place, size in enumerate((9000, 300))]
    k.clip_by_norm(arrays, 0.5)
    state = [k.to_device(one) for one in state_for(["p", "g", "m", "v"], 9000, "float32").values()]
    k.lamb(*state, 0.1, 0.2, 0.05, 0.9, 0.99, 1e-7)
    return [*arrays, *state, k.sum_of_squares(arrays[0])]


@case(override._VECTORS)
def vectors(k: Kernels) -> list[Any]:
    results = [k.limit_norms(k.to_device(numbers(0, 300, 70)), axis, 0.0, 1.0, 1.0, 1e-7) for axis in (0, 1)]
    shapes = (300, 70), (300, 70), (300,), (70,), (300, 70)
    state = [k.to_device(numbers(seed, *shape, low=0.5)) for seed, shape in enumerate(shapes)]
    k.adafactor(*state, 0.1, 0.3, 1e-30, 1e-3, 1)
    return [*results, *state]


@pytest.mark.parametrize("name", [name for name in CASES if name != "ftrl at rest"])  # which looks at nothing
def test_arrays_that_do_not_fit_are_refused(name: str) -> None:
    """A kernel would read past the end of the shorter one."""
    kernel, slots, options = CASES[name]
    names = ARGUMENTS.get(kernel, ["p", "g"]) + (slots if kernel != "ema" else [])
    state = {key: gpu.to_device(value) for key, value in state_for(names, 40, "float32").items()}
    for short in names[1:]:
        with pytest.raises(ValueError, match=r"broadcast|shape|operands"):
            getattr(gpu, kernel)(**{**state, short: state[short][:7]}, **options)
