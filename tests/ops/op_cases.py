"""Calls of the operations, one a line: what the tests of values, gradients, symbolic shapes and parity go through.

A new operation needs one line here.  `X(2, 3)` stands for an input of shape (2, 3) whose gradient is checked; all other
arguments are passed as they are written.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minikeras import tree


class X:
    """The place of a float input of this shape; `diagonal` is added to that of a matrix."""

    def __init__(self, *shape: int, diagonal: float = 0.0):
        self.shape, self.diagonal = shape, diagonal


@dataclass
class Case:
    """One call: `ops.<name>(*args, **kwargs)`.

    `low` and `high` bound the inputs; `reference` is the same in NumPy (default: NumPy's function of that name, where
    there is one; False: none).  With `differentiable=False` only values are compared.
    """

    name: str
    args: tuple
    kwargs: dict[str, Any]
    low: float = -2.0
    high: float = 2.0
    reference: Any = None
    differentiable: bool = True

    def __str__(self) -> str:
        def show(value: Any) -> str:
            if isinstance(value, X):
                return "x".join(str(n) for n in value.shape) or "scalar"
            return "array" if isinstance(value, np.ndarray) else str(value)

        parts = [show(leaf) for leaf in tree.flatten(list(self.args))]
        parts += [f"{key}={show(value)}" for key, value in self.kwargs.items()]
        return f"{self.name}({','.join(parts)})".replace(" ", "")

    def inputs(self, seed: int = 0, dtype: str = "float64") -> list[np.ndarray]:
        """Values for the places: no two of one input close to each other, so that no extreme is ambiguous."""
        rng = np.random.default_rng(seed)
        leaves = [leaf for leaf in tree.flatten([list(self.args), self.kwargs]) if isinstance(leaf, X)]
        made = []
        for leaf in leaves:
            value = spaced(rng, leaf.shape, self.low, self.high)
            made.append((value + leaf.diagonal * np.eye(*leaf.shape[-2:]) if leaf.diagonal else value).astype(dtype))
        return made

    def call(self, function: Callable, *inputs: Any) -> Any:
        """The result of a function with the inputs in their places."""
        values = iter(inputs)
        args, kwargs = tree.map_structure(
            lambda leaf: next(values) if isinstance(leaf, X) else leaf, [list(self.args), self.kwargs]
        )
        return function(*args, **kwargs)

    def numpy(self) -> Callable | None:
        """The reference function, None where there is none."""
        if self.reference is not None:
            return self.reference or None
        return getattr(np, self.name, getattr(np.linalg, self.name, None))


def spaced(rng: np.random.Generator, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
    """Random numbers between `low` and `high`, evenly distributed and apart from each other."""
    size = math.prod(shape)
    steps = rng.permutation(size) + rng.uniform(0.1, 0.9, size)
    return (low + steps * ((high - low) / max(size, 1))).reshape(shape)


def case(name: str, /, *args: Any, low: float = -2.0, high: float = 2.0, reference: Any = None, **kwargs: Any) -> Case:
    return Case(name, args, kwargs, low, high, reference)


def values(
    name: str, /, *args: Any, low: float = -2.0, high: float = 2.0, reference: Any = None, **kwargs: Any
) -> Case:
    return Case(name, args, kwargs, low, high, reference, differentiable=False)


def _inverse_of_erf(x: np.ndarray) -> np.ndarray:
    """By halving the interval."""
    low, high = np.full_like(x, -6), np.full_like(x, 6)
    for _ in range(60):
        middle = (low + high) / 2
        below = np.vectorize(math.erf)(middle) < x
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return low


# Elementwise functions of one array: the interval of their inputs, and the reference where NumPy has no such name.
UNARY: dict[str, tuple] = {
    "absolute": (-2, 2),
    "arccos": (-0.9, 0.9),
    "arccosh": (1.1, 3),
    "arcsin": (-0.9, 0.9),
    "arcsinh": (-2, 2),
    "arctan": (-2, 2),
    "arctanh": (-0.9, 0.9),
    "cbrt": (0.2, 3),
    "conjugate": (-2, 2),
    "copy": (-2, 2),
    "cos": (-4, 4),
    "cosh": (-2, 2),
    "deg2rad": (-200, 200),
    "erf": (-3, 3, np.vectorize(math.erf, otypes=[float])),
    "erfc": (-3, 3, np.vectorize(math.erfc, otypes=[float])),
    "erfinv": (-0.9, 0.9, _inverse_of_erf),
    "exp": (-3, 3),
    "exp2": (-3, 3),
    "expm1": (-2, 2),
    "fabs": (-2, 2),
    "i0": (-3, 3),
    "log": (0.1, 4),
    "log10": (0.1, 4),
    "log1p": (-0.8, 4),
    "log2": (0.1, 4),
    "nan_to_num": (-2, 2),
    "negative": (-2, 2),
    "rad2deg": (-4, 4),
    "ravel": (-2, 2),
    "real": (-2, 2),
    "reciprocal": (0.3, 3),
    "rsqrt": (0.2, 3, lambda x: x**-0.5),
    "sin": (-4, 4),
    "sinc": (-3, 3),
    "sinh": (-2, 2),
    "sqrt": (0.1, 4),
    "square": (-2, 2),
    "tan": (-1, 1),
    "tanh": (-3, 3),
    "transpose": (-2, 2),
}

# Elementwise functions of two arrays that broadcast: the interval of their inputs.
BINARY: dict[str, tuple] = {
    "add": (-2, 2),
    "arctan2": (-2, 2),
    "divide": (0.3, 3),
    "divide_no_nan": (0.3, 3, np.divide),
    "fmax": (-2, 2),
    "fmin": (-2, 2),
    "fmod": (0.3, 3),
    "hypot": (0.1, 2),
    "logaddexp": (-3, 3),
    "logaddexp2": (-3, 3),
    "maximum": (-2, 2),
    "minimum": (-2, 2),
    "mod": (0.3, 3),
    "multiply": (-2, 2),
    "power": (0.2, 3),
    "subtract": (-2, 2),
}

# Reductions with `axis` and `keepdims`.
REDUCTIONS: dict[str, Any] = {
    "logsumexp": lambda x, axis=None, keepdims=False: np.log(np.exp(x).sum(axis=axis, keepdims=keepdims)),
    "max": None,
    "mean": None,
    "median": None,
    "min": None,
    "nanmax": None,
    "nanmean": None,
    "nanmedian": None,
    "nanmin": None,
    "nanprod": None,
    "nanstd": None,
    "nansum": None,
    "nanvar": None,
    "norm": lambda x, axis=None, keepdims=False: np.sqrt((x * x).sum(axis=axis, keepdims=keepdims)),
    "prod": None,
    "std": None,
    "sum": None,
    "var": None,
}

_ROWS = np.array([[2, 0], [1, 1]])
_MASK = np.array([[True, False, True], [False, False, True]])


def _updated(x: np.ndarray, key: Any, updates: np.ndarray) -> np.ndarray:
    y = x.copy()
    y[key] = updates
    return y


CASES: list[Case] = [
    *[
        case(name, X(2, 3), low=low, high=high, reference=(other or [None])[0])
        for name, (low, high, *other) in UNARY.items()
    ],
    *[
        case(name, X(2, 1, 3), X(4, 1), low=low, high=high, reference=(other or [None])[0])
        for name, (low, high, *other) in BINARY.items()
    ],
    *[case(name, X(2, 3, 2), axis=1, reference=reference) for name, reference in REDUCTIONS.items()],
    *[case(name, X(2, 3, 2), keepdims=True, reference=reference) for name, reference in REDUCTIONS.items()],
    # with numbers and types
    case("add", X(3), 2),
    case("add", 1.5, X(2, 2)),
    case("multiply", X(3), np.array([1, 2, 3], "int32")),
    case("divide", 1.0, X(3), low=0.5),
    case("subtract", 1, X(3)),
    case("power", X(3, 2), 2),
    case("power", X(3, 2), -1.5, low=0.3),
    case("power", X(3), np.array([0.0, 1.0, 2.0])),
    case("power", 2.0, X(3)),
    case("maximum", X(4), 0.25),
    case("clip", X(3, 4), -0.55, 1.05),
    case("clip", X(3, 4), None, 0.55),
    case("clip", X(3, 4), X(3, 1), X(4), reference=lambda x, a, b: np.minimum(np.maximum(x, a), b)),
    case("where", _MASK, X(2, 3), X(3)),
    case("where", _MASK, X(2, 1), 0.0),
    case("cast", X(3), "float64", reference=lambda x, dtype: x.astype(dtype)),
    case("saturate_cast", X(3), "float64", reference=lambda x, dtype: x.astype(dtype)),
    # reductions
    case("amax", X(2, 3), (0, 1)),
    case("amin", X(2, 3), -1, keepdims=True),
    case("sum", X(2, 3, 2), axis=(0, -1)),
    case("mean", X(2, 3, 2), axis=[0, 2], reference=lambda x, axis: x.mean(axis=tuple(axis))),
    case("mean", X(2, 3, 2, 3), axis=(1, 2)),
    case("mean", X(2, 3, 2), axis=[1], keepdims=True, reference=lambda x, **axes: x.mean(1, keepdims=True)),
    case("prod", X(2, 3, 2), axis=(2, 0)),
    case("max", X(2, 3), 1, initial=0.3),
    case("norm", X(5), ord=1, reference=np.linalg.norm),
    case("norm", X(2, 5), ord=3, axis=1, low=0.2, reference=np.linalg.norm),
    case("norm", X(2, 5), ord=math.inf, axis=1, reference=np.linalg.norm),
    case("norm", X(2, 3), ord="fro", reference=np.linalg.norm),
    case("norm", X(2, 3, 4), ord=1, axis=(1, 2), reference=np.linalg.norm),
    case("norm", X(2, 3, 4), ord=-math.inf, axis=(2, 0), keepdims=True, reference=np.linalg.norm),
    case("average", X(2, 3), axis=1),
    case("average", X(2, 3), 0, X(2), low=0.2),
    case("average", X(2, 3), weights=X(2, 3), low=0.2),
    case("cumsum", X(2, 3), axis=1),
    case("cumsum", X(2, 3)),
    case("cumprod", X(2, 4), axis=-1),
    case("cumprod", X(2, 2)),
    case("sort", X(3, 4)),
    case("sort", X(3, 4), axis=0),
    case("top_k", X(3, 5), 2, reference=lambda x, k: (np.sort(x)[:, ::-1][:, :k], np.argsort(-x)[:, :k])),
    case("segment_sum", X(4, 2), np.array([0, 2, 0, 1]), 4, reference=False),
    case("segment_max", X(4, 2), np.array([0, 2, 0, 1]), 3, reference=False),
    values("cast", X(3), "int32", reference=lambda x, dtype: x.astype(dtype)),
    values(
        "saturate_cast",
        X(3, 3),
        "uint8",
        low=-100,
        high=400,
        reference=lambda x, dtype: np.clip(x, 0, 255).astype(dtype),
    ),
    values("argmax", X(3, 4), axis=1),
    values("argmin", X(3, 4), axis=0, keepdims=True),
    values("argsort", X(3, 4), axis=0),
    values("any", _MASK, axis=0),
    values("all", _MASK, axis=1, keepdims=True),
    values("count_nonzero", _MASK, axis=1),
    values("digitize", X(5), np.array([-1.0, 0.0, 1.5])),
    values("bincount", np.array([1, 4, 1, 0]), minlength=7),
    values("bincount", np.array([[1, 2, 1], [0, 3, 3]]), minlength=4, reference=False),
    values("bincount", np.array([1, 0, 1]), weights=np.array([0.5, 1.0, 2.0], "float32")),
    values("in_top_k", np.array([1, 0]), X(2, 4), 2, reference=False),
    # elementwise without a gradient
    *[
        values(name, X(2, 3))
        for name in ("sign", "floor", "ceil", "trunc", "isnan", "isinf", "isfinite", "logical_not")
    ],
    *[values(name, X(2, 3), X(3)) for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")],
    *[values(f"logical_{name}", _MASK, np.array([True, False, False])) for name in ("and", "or", "xor")],
    *[values(f"bitwise_{name}", np.array([5, 6]), np.array([3, 12])) for name in ("and", "or", "xor")],
    values("bitwise_not", np.array([5, -6])),
    values("round", X(4), 1),
    values("floor_divide", X(4), 0.7),
    values("isclose", X(2), X(2)),
    values("nonzero", _MASK),
    values("where", _MASK),
    values("array_equal", X(2), X(2), reference=np.array_equal),
    # products
    case("matmul", X(2, 3), X(3, 4)),
    case("matmul", X(5, 2, 3), X(3, 4)),
    case("matmul", X(5, 1, 2, 3), X(4, 3, 2)),
    case("matmul", X(3), X(3)),
    case("matmul", X(3), X(2, 3, 4)),
    case("matmul", X(2, 4, 3), X(3)),
    case("matmul", X(2, 2), np.eye(2, dtype="int32")),
    case("dot", X(2, 3), X(4, 3, 2)),
    case("dot", X(2, 3), X(3)),
    case("dot", X(2, 3), 2.0),
    case("inner", X(2, 3), X(4, 3)),
    case("outer", X(2, 2), X(3)),
    case("vdot", X(2, 3), X(2, 3)),
    case("tensordot", X(2, 3, 4), X(3, 4, 2)),
    case("tensordot", X(2, 3, 4), X(4, 2), axes=[[0, -1], [1, 0]]),
    case("tensordot", X(2, 3), X(4), axes=0),
    case("einsum", "ij,jk->ik", X(2, 3), X(3, 4)),
    case("einsum", "bij,jk", X(2, 3, 4), X(4, 2)),
    case("einsum", "...ij,kj->...ik", X(2, 3, 4), X(5, 4)),
    case("einsum", "b...,...->b...", X(2, 3, 4), X(4)),
    case("einsum", "ij->j", X(2, 3)),
    case("einsum", "ii->i", X(3, 3)),
    case("einsum", "iji,jk->k", X(2, 3, 2), X(3, 2)),
    case("einsum", "ij,jk,kl->il", X(2, 3), X(3, 4), X(4, 2)),
    case("einsum", "ab,cd->", X(2, 3), X(2, 2)),
    # shapes
    case("reshape", X(2, 6), (3, -1)),
    case("reshape", X(4), (None, 2), reference=lambda x, newshape: x.reshape(-1, 2)),
    case("transpose", X(2, 3, 4), (2, 0, -2)),
    case("swapaxes", X(2, 3, 4), 0, -1),
    case("moveaxis", X(2, 3, 4), 0, 2),
    case("moveaxis", X(2, 3, 4), [0, 1], [-1, 0]),
    case("expand_dims", X(2, 3), 1),
    case("expand_dims", X(2, 3), (0, -1)),
    case("squeeze", X(1, 3, 1)),
    case("squeeze", X(1, 3, 1), axis=0),
    case("broadcast_to", X(3, 1), (2, 3, 4)),
    case("concatenate", [X(2, 3), X(2, 1)], axis=-1),
    case("concatenate", [X(1, 2), X(0, 2), X(3, 2)]),
    case("stack", [X(2, 3), X(2, 3)], axis=-1),
    case("hstack", [X(2), X(3)]),
    case("hstack", [X(2, 1), X(2, 2)]),
    case("vstack", [X(3), X(3)]),
    case("vstack", [X(2, 3), X(1, 3)]),
    case("split", X(4, 6), 3, axis=-1),
    case("split", X(5, 2), [1, 3]),
    case("unstack", X(2, 3), axis=1, reference=False),
    case("flip", X(2, 3)),
    case("flip", X(2, 3), axis=-1),
    case("roll", X(2, 3), 2),
    case("roll", X(2, 3), -1, axis=1),
    case("repeat", X(2, 3), 2),
    case("repeat", X(2, 3), 2, axis=-1),
    case("repeat", X(2, 3), np.array([1, 0, 2]), axis=1),
    case("tile", X(2, 3), 2),
    case("tile", X(2, 3), (2, 1, 2)),
    case("tile", X(2, 3, 1), (3,)),
    case("pad", X(2, 3), ((1, 2), (0, 1))),
    case("pad", X(2, 3), 1, constant_values=0.5),
    case("pad", X(3, 4), ((2, 1), (0, 3)), mode="reflect"),
    case("pad", X(3, 2), ((2, 1), (0, 1)), mode="symmetric"),
    case("pad", X(3), ((2, 3),), mode="edge"),
    case("full_like", X(2, 3), X(3)),
    case("linspace", X(3), X(2, 1), 4),
    case("linspace", X(3), 1.0, 5, axis=-1),
    case("linspace", X(2), X(2), 3, endpoint=False, retstep=True),
    case("meshgrid", X(2), X(3)),
    case("meshgrid", X(2), X(3), X(2), indexing="ij"),
    # picking
    case("take", X(5), np.array([[0, -1], [3, 0]])),
    case("take", X(3, 4), _ROWS, axis=0),
    case("take", X(2, 3, 2), _ROWS, axis=1),
    case("take", X(2, 3), 1, axis=-1),
    case("take_along_axis", X(2, 3), _ROWS, axis=1),
    case("take_along_axis", X(6), np.array([5, 5, 0]), axis=None),
    case("take_along_axis", X(3, 4), np.array([[2], [0], [0]]), axis=-1),
    case("get_item", X(4, 3), 1, reference=lambda x, key: x[key]),
    case("get_item", X(4, 3), (slice(None, None, -2), None, -1), reference=lambda x, key: x[key]),
    case("get_item", X(2, 3, 4), (Ellipsis, slice(1, 3)), reference=lambda x, key: x[key]),
    case("get_item", X(4, 3), np.array([0, 2, 0]), reference=lambda x, key: x[key]),
    case("get_item", X(4, 3), (slice(1, 4), np.array([[0, 2], [2, 2]])), reference=lambda x, key: x[key]),
    case("get_item", X(2, 3), _MASK, reference=lambda x, key: x[key]),
    case("slice", X(4, 5), (1, 2), (2, 3), reference=lambda x, start, shape: x[1:3, 2:5]),
    case("slice_update", X(3, 4), (1, 0), X(2, 3), reference=lambda x, start, u: _updated(x, np.s_[1:, :3], u)),
    case("scatter", np.array([[0, 1], [2, 0]]), X(2), (3, 2), reference=False),
    case("scatter_update", X(4, 2), np.array([[1], [3]]), X(2, 2), reference=lambda x, i, u: _updated(x, [1, 3], u)),
    case("scatter_update", X(4), np.array([[1], [3], [1]]), X(3), reference=lambda x, i, u: _updated(x, [1, 3, 1], u)),
    case("scatter_update", X(4), np.array([[1], [3], [1]]), X(3), reduction="add", reference=False),
    case("scatter_update", X(4, 2), np.array([[1, 0], [3, -1], [1, 0]]), X(3), reduction="max", reference=False),
    case("scatter_update", X(4, 2), np.array([[1], [3], [1]]), X(3, 2), reduction="min", reference=False),
    case("scatter_update", X(4, 2), np.array([[1], [3], [1]]), X(3, 2), reduction="mul", reference=False),
    case("diag", X(3)),
    case("diag", X(2), k=-1),
    case("diag", X(3, 4), 1),
    case("diagonal", X(2, 3, 4), 1, 1, 2),
    case("trace", X(3, 4)),
    case("trace", X(2, 3, 3), axis1=1, axis2=2),
    case("tril", X(2, 3, 3)),
    case("triu", X(3, 4), k=1),
    # creation
    values("zeros", (2, 3)),
    values("ones", (2, 3), "int32"),
    values("full", (2,), 7),
    values("eye", 3, 4, 1),
    values("identity", 3),
    values("arange", 5),
    values("arange", 1, 7, 2),
    values("arange", 0.5, 2.0, 0.5),
    values("linspace", 0, 1, 5),
    values("linspace", 0.0, 2.0, 4, endpoint=False),
    values("zeros_like", X(2, 3)),
    values("ones_like", X(2, 3), "int32"),
    values("full_like", X(2), 3.0),
]

# ---------------------------------------------------------------- what programs seldom use

_GAPS = np.array([[1.0, np.nan, -2.0, 0.5], [np.nan, 3.0, 1.5, np.nan]])
_WHOLE = np.array([12, 18, -7], "int32")


def _of_symmetric(function: Callable) -> Callable:
    return lambda x, **settings: function((x + np.swapaxes(x, -1, -2)) / 2, **settings)


def _complex(function: Callable) -> Callable:
    """NumPy's transform of pairs of real and imaginary parts."""

    def transform(x: Any, **settings: Any) -> Any:
        y = function(x[0] + 1j * x[1] if isinstance(x, (list, tuple)) else x, **settings)
        return (y.real, y.imag) if np.iscomplexobj(y) else y

    return transform


def _frames(x: np.ndarray, length: int, stride: int) -> np.ndarray:
    return np.stack([x[..., i : i + length] for i in range(0, x.shape[-1] - length + 1, stride)], axis=-2)


def _unfold(x: np.ndarray, kernel: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> np.ndarray:
    """Window by window."""
    (kh, kw), (dh, dw), (ph, pw), (sh, sw) = [
        (one, one) if isinstance(one, int) else one for one in (kernel, dilation, padding, stride)
    ]
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    columns = []
    for top in range(0, x.shape[2] - dh * (kh - 1), sh):
        for left in range(0, x.shape[3] - dw * (kw - 1), sw):
            window = x[:, :, top : top + dh * (kh - 1) + 1 : dh, left : left + dw * (kw - 1) + 1 : dw]
            columns.append(window.reshape(len(x), -1))
    return np.stack(columns, axis=-1)


CASES += [
    # elementwise
    case("angle", X(3)),
    case("imag", X(3)),
    case("heaviside", X(2, 3), X(3)),
    case("ldexp", X(3), np.array([1, 0, -2], "int32")),
    case("nan_to_num", X(2), 1.0, reference=lambda x, nan: x),
    case("gammainc", np.array([0.3, 1.0, 4.0]), X(3), low=0.2, high=6, reference=False),
    case("logspace", X(2), X(2), 3, low=0.1),
    case("geomspace", X(2), X(2), 3, low=0.5),
    case("vander", X(3), reference=np.vander),
    case("vander", X(3), 2, increasing=True),
    values("signbit", X(4)),
    values("isreal", X(2)),
    values("isneginf", np.array([-np.inf, 1.0])),
    values("isposinf", np.array([-np.inf, np.inf])),
    values("nextafter", X(2), X(2)),
    values("gcd", _WHOLE, np.array([8, 27, 14], "int32")),
    values("lcm", _WHOLE, np.array([8, 27, 14], "int32")),
    values("bitwise_left_shift", _WHOLE, np.array([1, 2, 3], "int32")),
    values("bitwise_right_shift", _WHOLE, np.array([1, 2, 3], "int32")),
    values("allclose", X(3), X(3)),
    values("isin", _WHOLE, np.array([18, 5], "int32")),
    values("isin", _WHOLE, np.array([18, 5], "int32"), invert=True),
    values("view", X(2, 4), "int32", reference=lambda x, dtype: x.view(dtype)),
    # statistics
    case("ptp", X(2, 3, 2), axis=1),
    case("ptp", X(2, 3), (0, 1), keepdims=True),
    case("quantile", X(3, 4), 0.3),
    case("quantile", X(3, 4), np.array([0.1, 0.8]), axis=1),
    case("quantile", X(2, 3, 2), X(2), axis=(0, 2), low=0.1, high=0.9, keepdims=True),
    *[
        case("quantile", X(5, 2), np.array([0.3, 0.5]), axis=0, method=method)
        for method in ("lower", "higher", "midpoint", "nearest")
    ],
    case("percentile", X(3, 4), 30.0, axis=0),
    case("nanquantile", X(3, 4), 0.3, axis=1),
    case("nanpercentile", X(3, 4), 30.0, axis=-1, keepdims=True),
    case("nancumsum", X(2, 3), axis=1),
    case("nancumprod", X(2, 3), axis=0),
    *[
        values(f"nan{name}", _GAPS, axis=1)
        for name in ("argmax", "argmin", "cumprod", "cumsum", "max", "mean", "median")
    ],
    *[values(f"nan{name}", _GAPS, axis=0) for name in ("min", "prod", "std", "sum", "var")],
    values("nanquantile", _GAPS, 0.25, axis=1),
    case("corrcoef", X(3, 5)),
    case("corrcoef", X(5)),
    *[case("correlate", X(5), X(2), mode=mode) for mode in ("valid", "same", "full")],
    *[case("correlate", X(2), X(5), mode=mode) for mode in ("valid", "same", "full")],
    values("histogram", X(20), 5, reference=lambda x, bins: [one.astype(float) for one in np.histogram(x, bins)]),
    values(
        "histogram", X(20), 4, (-1, 1), reference=lambda x, *how: [one.astype(float) for one in np.histogram(x, *how)]
    ),
    values("searchsorted", np.array([-1.0, 0.0, 1.0]), X(2, 2)),
    values("searchsorted", np.array([1, 2, 2]), np.array([2, 3]), side="right"),
    values("unique", np.array([[3, 1], [3, 2]], "int32")),
    values("unique", np.array([3, 1, 3], "int32"), return_index=True, return_inverse=True, return_counts=True),
    values("unique", np.array([[3, 1], [3, 1], [0, 1]], "int32"), axis=0),
    values("unique", np.array([3, 1, 3], "int32"), size=3, reference=lambda x, size: np.array([1, 3, 1])),
    values(
        "unique", np.array([3, 1, 3], "int32"), size=3, fill_value=9, reference=lambda x, **more: np.array([1, 3, 9])
    ),
    values("argpartition", X(5), 2, reference=False),
    # arranging
    case("append", X(2, 2), X(3)),
    case("append", X(2, 2), X(1, 2), axis=0),
    case("array_split", X(5, 2), 3),
    case("array_split", X(2, 5), [1, 3], axis=1),
    case("column_stack", [X(2), X(2, 2)]),
    case("dstack", [X(2), X(2)]),
    case("dstack", [X(2, 1), X(2, 1)]),
    case("hsplit", X(2, 4), 2),
    case("hsplit", X(4), [1]),
    case("vsplit", X(4, 1), 2),
    case("dsplit", X(1, 2, 4), 2),
    case("fliplr", X(2, 3)),
    case("flipud", X(2, 3)),
    *[case("rot90", X(2, 3), turns) for turns in range(4)],
    case("rot90", X(2, 3, 2), -1, axes=(1, 2)),
    case("diagflat", X(2, 2), k=1),
    case("diff", X(2, 4)),
    case("diff", X(4, 2), n=2, axis=0),
    case("trapezoid", X(2, 4), reference=getattr(np, "trapezoid", None) or False),
    case("trapezoid", X(4, 2), np.array([0.0, 1.0, 3.0, 3.5]), axis=0),
    case("cross", X(2, 3), X(2, 3)),
    case("cross", X(3, 2), X(3, 2), axis=0),
    case("cross", X(4, 2), X(4, 3), reference=False),
    case("cross", X(4, 2), X(2), reference=False),
    case("kron", X(2, 3), X(2, 2)),
    case("kron", X(3), X(2, 2)),
    case("select", [_MASK, ~_MASK[:, :1]], [X(2, 3), X(2, 3)], 1.5),
    values("empty_like", X(2), reference=lambda x: np.zeros(2)),
    values("tri", 3, 4, 1),
    *[
        values(name, 5, *more, reference=lambda *args, name=name: getattr(np, name)(*args).astype("float32"))
        for name, *more in (("bartlett",), ("blackman",), ("hamming",), ("hanning",), ("kaiser", 3.0))
    ],
    values("unravel_index", np.array([5, 2]), (2, 3)),
    # segments
    case("segment_min", X(4, 2), np.array([0, 2, 0, 1]), 3, reference=False),
    case("segment_prod", X(5, 2), np.array([0, 2, 0, 0, 1]), 4, reference=False),
    case("segment_sum", X(4), np.array([-1, 2, 0, -7]), 4, reference=False),
    case("segment_min", X(4), np.array([-1, 1, 0, -7]), 2, reference=False),
    case("segment_prod", X(4), np.array([-1, 2, 0, -7]), 4, reference=False),
    # matrices
    case("cholesky", X(2, 3, 3, diagonal=5), reference=_of_symmetric(np.linalg.cholesky)),
    case(
        *("cholesky", X(3, 3, diagonal=5)),
        upper=True,
        reference=lambda x, upper: np.linalg.cholesky((x + x.T) / 2).T,
    ),
    case("cholesky_inverse", X(3, 3, diagonal=3), reference=lambda x: np.linalg.inv(np.tril(x) @ np.tril(x).T)),
    case(
        *("cholesky_inverse", X(3, 3, diagonal=3)),
        upper=True,
        reference=lambda x, upper: np.linalg.inv(np.triu(x).T @ np.triu(x)),
    ),
    case("det", X(2, 3, 3, diagonal=1)),
    case("slogdet", X(2, 3, 3, diagonal=3)),
    case("logdet", X(3, 3, diagonal=3), reference=lambda x: np.linalg.slogdet(x)[1]),
    case("eigh", X(2, 3, 3, diagonal=1), reference=False),
    case("inv", X(2, 3, 3, diagonal=3)),
    case("lstsq", X(5, 3), X(5), reference=lambda a, b: np.linalg.lstsq(a, b, rcond=None)[0]),
    case("lstsq", X(2, 4), X(2, 3), reference=lambda a, b: np.linalg.lstsq(a, b, rcond=None)[0]),
    case("lu_factor", X(2, 4, 4, diagonal=1), reference=False),
    case("matrix_power", X(2, 3, 3), 5),
    case("matrix_power", X(3, 3, diagonal=3), -2),
    values("matrix_rank", X(2, 3, 4)),
    case("pinv", X(2, 4, 3)),
    case("pinv", X(3, 4)),
    case("qr", X(2, 4, 3)),
    case("qr", X(3, 3), "complete"),
    case("solve", X(2, 3, 3, diagonal=3), X(2, 3, 2)),
    case("solve", X(3, 3, diagonal=3), X(3)),
    case("solve", X(2, 3, 3, diagonal=3), X(2, 3), reference=lambda a, b: np.linalg.solve(a, b[..., None])[..., 0]),
    case("solve_triangular", X(3, 3, diagonal=4), X(3, 2), reference=lambda a, b: np.linalg.solve(np.triu(a), b)),
    case(
        *("solve_triangular", X(3, 3, diagonal=4), X(3)),
        lower=True,
        reference=lambda a, b, lower: np.linalg.solve(np.tril(a), b),
    ),
    case("svd", X(2, 4, 3), full_matrices=False),
    case("svd", X(3, 3)),
    case("svd", X(3, 4), full_matrices=False),
    case("svd", X(4, 3), compute_uv=False),
    # transforms and windows
    case("fft", (X(2, 5), X(2, 5)), reference=_complex(np.fft.fft)),
    case("fft2", (X(2, 3, 4), X(2, 3, 4)), reference=_complex(np.fft.fft2)),
    case("ifft2", (X(3, 4), X(3, 4)), reference=_complex(np.fft.ifft2)),
    case("rfft", X(2, 5), reference=_complex(np.fft.rfft)),
    case("rfft", X(4), fft_length=7, reference=lambda x, fft_length: _complex(np.fft.rfft)(x, n=fft_length)),
    case("rfft", X(2, 6), 4, reference=lambda x, n: _complex(np.fft.rfft)(x, n=n)),
    case("irfft", (X(2, 4), X(2, 4)), reference=_complex(np.fft.irfft)),
    case("irfft", (X(4), X(4)), fft_length=7, reference=lambda x, fft_length: _complex(np.fft.irfft)(x, n=fft_length)),
    case("irfft", (X(3), X(3)), 8, reference=lambda x, n: _complex(np.fft.irfft)(x, n=n)),
    case("extract_sequences", X(2, 7), 3, 2, reference=_frames),
    case("unfold", X(2, 3, 4, 5), 2, reference=_unfold),
    case("unfold", X(1, 2, 5, 6), (2, 3), dilation=2, padding=(1, 0), stride=(1, 2), reference=_unfold),
    case("fold", X(2, 12, 12), (4, 5), 2, reference=False),
    case("fold", X(1, 12, 5), (5, 6), (2, 3), dilation=2, padding=(1, 0), stride=(1, 2), reference=False),
    case("depth_to_space", X(1, 2, 3, 8), 2, reference=False),
    case("depth_to_space", X(1, 8, 2, 3), 2, data_format="channels_first", reference=False),
    case("space_to_depth", X(1, 4, 2, 3), 2, reference=False),
    case("space_to_depth", X(1, 3, 4, 2), 2, data_format="channels_first", reference=False),
    # distances
    case(
        "cdist",
        X(2, 3, 4),
        X(5, 4),
        reference=lambda x, y: np.linalg.norm(x[..., None, :] - y[..., None, :, :], axis=-1),
    ),
    case("psnr", X(2, 3), X(2, 3), 2.0, reference=lambda x, y, top: 10 * np.log10(top**2 / np.mean((x - y) ** 2))),
    case("normalize", X(2, 3), reference=lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)),
    case("normalize", X(2, 3), axis=0, order=3, reference=lambda x, axis, order: x / np.linalg.norm(x, 3, 0, True)),
    case("norm", X(2, 3, 4), ord="nuc", axis=(1, 2), reference=np.linalg.norm),
    case("norm", X(3, 4), ord=2, reference=np.linalg.norm),
    case("norm", X(3, 4), ord=-2, reference=np.linalg.norm),
]
