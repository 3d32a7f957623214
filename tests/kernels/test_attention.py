"""Attention by heads against the reference, the exponential to its last digits, and columns that are not copied."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minikeras.kernels import reference_table, table_of
from minikeras.kernels.cpu import attention as override
from minikeras.kernels.cpu.compiler import host

reference, cpu = reference_table(), table_of("cpu")
pytestmark = pytest.mark.skipif(not host.HAS_VECTORS, reason="the host has no vector registers that the tile knows")

# batch, steps, sources, heads, groups, depth, size
SHAPES = [
    (2, 64, 64, 4, 4, 32, 32),
    (1, 1, 1, 1, 1, 1, 1),
    (3, 5, 7, 4, 2, 3, 6),
    (2, 67, 33, 3, 1, 17, 35),
    (1, 130, 150, 2, 2, 8, 40),
    (1, 200, 16, 6, 3, 33, 1),
    (2, 3, 100, 1, 1, 5, 64),
]
SETTINGS: list[dict[str, Any]] = [
    {},
    {"causal": True},
    {"mask": "batch"},
    {"mask": "head", "zero_empty": True},
    {"mask": "steps", "causal": True},
    {"mask": "column"},
    {"mask": "full", "causal": True, "zero_empty": True, "keep": True},
    {"keep": True},
    {"causal": True, "keep": True},
]


def problem(shape: tuple, settings: dict[str, Any], dtype: Any = "float32") -> tuple[list[Any], dict[str, Any]]:
    batch, steps, sources, heads, groups, depth, size = shape
    rng = np.random.default_rng(sum(shape))
    arrays = [
        rng.standard_normal(one).astype(dtype)
        for one in (
            (batch, steps, heads, depth),
            (batch, sources, groups, depth),
            (batch, sources, groups, size),
            (batch, steps, heads, size),
        )
    ]
    options = dict(settings)
    masks = {
        "batch": (batch, 1, 1, sources),
        "head": (1, heads, steps, sources),
        "steps": (steps, sources),
        "column": (batch, 1, steps, 1),
        "full": (batch, heads, steps, sources),
    }
    if "mask" in options:
        mask = rng.random(masks[options["mask"]]) < 0.7
        mask[..., -1:, :] = False
        options["mask"] = np.broadcast_to(mask, np.broadcast_shapes(mask.shape, (1, 1, 1, 1)))
    if "keep" in options:
        options["keep"] = (rng.random((batch, heads, steps, sources)) < 0.8).astype("uint8")
        options["keep_scale"] = 1.25
    return arrays, options


def both(module: Any, arrays: list[Any], options: dict[str, Any]) -> tuple:
    *inputs, g = arrays
    y, weights = module.attention(*inputs, 0.3, **options)
    later = {name: value for name, value in options.items() if name != "zero_empty"}
    return (y, weights, *module.attention_grad(g, *inputs, weights, 0.3, **later))


def compare(results: tuple, expected: tuple) -> None:
    for result, wanted in zip(results, expected, strict=True):
        assert result.shape == wanted.shape
        np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=3e-5)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_by_heads_is_the_reference(shape: tuple, settings: dict[str, Any]) -> None:
    arrays, options = problem(shape, settings)
    wide = [one.astype("float64") for one in arrays]
    compare(both(cpu, arrays, options), both(reference, wide, options))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_without_weights(shape: tuple) -> None:
    arrays, options = problem(shape, {"causal": True, "keep": True})
    y, weights = cpu.attention(*arrays[:3], 0.3, wants_weights=False, **options)
    assert weights is None
    np.testing.assert_allclose(y, reference.attention(*arrays[:3], 0.3, **options)[0], rtol=1e-4, atol=3e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_however_the_inputs_lie(shape: tuple) -> None:
    arrays, _ = problem(shape, {})
    expected = both(reference, arrays, {})
    turned = [np.ascontiguousarray(one.swapaxes(1, 2)).swapaxes(1, 2) for one in arrays]
    compare(both(cpu, turned, {}), expected)
    spread = [np.repeat(one, 2, axis=-1)[..., ::2] for one in arrays]
    compare(both(cpu, spread, {}), expected)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_other_types_are_the_references(dtype: str) -> None:
    arrays, options = problem(SHAPES[2], {"causal": True}, dtype)
    for result, wanted in zip(both(cpu, arrays, options), both(reference, arrays, options), strict=True):
        assert result.dtype == dtype
        assert np.array_equal(result, wanted)


@pytest.mark.parametrize("shape", [(0, 3, 4, 2, 2, 3, 3), (2, 0, 4, 2, 2, 3, 3), (2, 3, 0, 2, 2, 3, 3)])
def test_empty(shape: tuple) -> None:
    arrays, _ = problem(shape, {})
    y, _, *gradients = both(cpu, arrays, {})
    assert y.shape == arrays[3].shape
    assert not y.any()
    assert [one.shape for one in gradients] == [one.shape for one in arrays[:3]]


def test_gradient_at_the_weights() -> None:
    arrays, _ = problem(SHAPES[3], {})
    *inputs, g = arrays
    weights = reference.attention(*inputs, 0.3)[1]
    extra = np.random.default_rng(1).standard_normal(weights.shape).astype("float32")
    compare(
        cpu.attention_grad(g, *inputs, weights, 0.3, g_weights=extra),
        reference.attention_grad(g, *inputs, weights, 0.3, g_weights=extra),
    )


def test_weights_to_the_last_digits() -> None:
    """A row whose scores run from 0 down to where the exponential ends: sources that are numbers, one query."""
    scores = np.concatenate([np.linspace(-100, 0, 40_000), -np.geomspace(1e-30, 1, 1000)]).astype("float32")
    query, key = np.ones((1, 1, 1, 1), "float32"), scores.reshape(1, -1, 1, 1)
    _, weights = cpu.attention(query, key, key, 1.0)
    exact = np.exp(scores.astype("float64"))
    weights = weights.ravel()
    ratio = weights.astype("float64") / (exact / exact.sum())
    counted = scores > -80
    assert np.abs(ratio[counted] / np.median(ratio[counted]) - 1).max() < 3 * 2**-24
    assert abs(np.median(ratio[counted]) - 1) < 1e-6
    assert not weights[scores < -88].any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sources", [5, 16, 40])
def test_not_a_number_and_infinity(value: float, sources: int) -> None:
    rng = np.random.default_rng(0)
    query, key = (rng.standard_normal(shape).astype("float32") for shape in ((1, 3, 1, 2), (1, sources, 1, 2)))
    key[0, 3] = 1
    key[0, 3, 0, 1] = value
    query[0, 0, 0] = 1, 2
    query[0, 1, 0] = 1, 0.5
    query[0, 2, 0] = 0.5, 3
    with np.errstate(invalid="ignore"):
        wanted = reference.attention(query, key, key[..., :1].copy(), 1.0)
    for result, expected in zip(cpu.attention(query, key, key[..., :1].copy(), 1.0), wanted, strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_large_scores_do_not_overflow() -> None:
    arrays, _ = problem(SHAPES[0], {})
    arrays[0] *= 1e4
    y, weights = cpu.attention(*arrays[:3], 1.0)
    assert np.isfinite(y).all()
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)


def test_a_part_more_or_less_changes_nothing(monkeypatch: Any) -> None:
    """The slices of a forward pass depend on the shape alone, and each step's result not even on them."""
    arrays, _ = problem((1, 300, 70, 2, 1, 20, 24), {})
    first = cpu.attention(*arrays[:3], 0.3)
    monkeypatch.setattr(override, "_PARTS", 1)
    for a, b in zip(first, cpu.attention(*arrays[:3], 0.3), strict=True):
        assert np.array_equal(a, b)


def test_gradients_lie_side_by_side() -> None:
    arrays, _ = problem((2, 9, 9, 4, 4, 8, 8), {})
    gradients = both(cpu, arrays, {})[2:]
    matrices = [one.reshape(18, 32) for one in gradients]
    joined = cpu.side_by_side(matrices)
    assert np.shares_memory(joined, matrices[0])
    assert np.array_equal(joined, np.concatenate(matrices, 1))


def test_side_by_side_copies_what_does_not() -> None:
    base = np.arange(60.0, dtype="float32").reshape(5, 12)
    a, b, c = base[:, :4], base[:, 4:8], base[:, 8:]
    assert np.array_equal(cpu.side_by_side([a, b, c]), base)
    assert np.shares_memory(cpu.side_by_side([a, b]), base)
    for others in (
        [b, a],
        [a, c],
        [a, b.copy()],
        [a, a],
        [a[::-1], b],
        [base[:, :4:2], base[:, 4:8:2]],
        [a, b[:, ::2]],
    ):
        assert np.array_equal(cpu.side_by_side(others), np.concatenate(others, 1))
        assert not np.shares_memory(cpu.side_by_side(others), base)
    assert cpu.side_by_side([a]) is a
    assert np.array_equal(cpu.side_by_side([base[0, :4], base[0, 4:8]]), base[0, :8])
