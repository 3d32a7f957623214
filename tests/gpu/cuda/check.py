"""The GPU's overrides on the CPU: each case runs there forwards and backwards, and on the reference kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gpu import host, recorder

from minikeras.kernels import Kernels
from minikeras.kernels.cuda.launch import Source

Case = Callable[[Kernels], list[Any]]
# in units of what is computed with: a chain of several operations each way
TOLERANCE = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 2e-5, "float64": 1e-12}
DTYPES = list(TOLERANCE)

NARROW = ("float16", "bfloat16")


class _Wide(Kernels):
    """The reference on NumPy, which gets numbers of two bytes in float32: it would round each operation."""

    def to_device(self, array: Any) -> Any:
        return array.astype("float32") if array.dtype.name in NARROW else array


reference = _Wide(np)
gpu = Kernels(recorder._module, "gpu")
plain_gpu = Kernels(recorder._module)  # the stand-in without overrides
cases: dict[tuple[Source, str], Case] = {}


def case(*sources: Source) -> Callable[[Case], Case]:
    """Decorator: a function of a table, which calls its kernels on arrays and returns all results.

    Args:
        sources: whose barriers it needs: taking one away changes a result of some case.
    """

    def note(function: Case) -> Case:
        name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"  # which pytest imports once more
        cases.update({(source, name): function for source in sources})
        return function

    return note


def results(k: Kernels, function: Case) -> list[np.ndarray | None]:
    """What a case gives, in the host's memory."""
    return [None if one is None else np.array(k.to_host(one)) for one in function(k)]


def same(function: Case, uses: set[str] | None = None, rtol: float | None = None, atol: float | None = None) -> None:
    """Compare a case with the reference, and with itself in another order of threads, which must not matter.

    Args:
        uses: CUDA kernels that it must have launched.
        rtol: relative tolerance, by default that of the results' types.
        atol: absolute tolerance, by default the same.
    """
    host.launched.clear()
    found = results(gpu, function)
    assert uses is None or uses <= set(host.launched), (uses, dict(host.launched))
    with host.backwards():
        again = results(gpu, function)
    expected = results(reference, function)
    assert len(found) == len(expected) == len(again)
    for one, other, wanted in zip(found, again, expected, strict=True):
        assert (one is None) == (wanted is None)
        if one is None or other is None or wanted is None:
            continue
        assert one.dtype == wanted.dtype or one.dtype.name in NARROW, (one.dtype, wanted.dtype)
        assert one.shape == wanted.shape, (one.shape, wanted.shape)
        assert one.tobytes() == other.tobytes(), "the order of threads decides"
        near = TOLERANCE.get(one.dtype.name, 0)
        np.testing.assert_allclose(
            *(x.astype("float64") if x.dtype.name in NARROW else x for x in (one, wanted)),
            rtol=near if rtol is None else rtol,
            atol=near if atol is None else atol,
        )


def numbers(seed: int, *shape: int, low: float = -2.0, high: float = 2.0, dtype: str = "float32") -> np.ndarray:
    """Uniform random numbers."""
    values = np.random.default_rng([seed, *shape]).uniform(low, high, shape)
    return values.astype(_bfloat16() if dtype == "bfloat16" else dtype)


def _bfloat16() -> Any:
    import ml_dtypes

    return ml_dtypes.bfloat16
