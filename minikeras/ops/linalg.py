"""Linear algebra over the last two axes, as in `keras.ops.linalg`."""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.autodiff import shapes
from minikeras.autodiff.op import composite
from minikeras.lazy import offer_names
from minikeras.ops.common import float_type
from minikeras.ops.core import convert_to_tensor
from minikeras.ops.creation import eye
from minikeras.ops.decompositions import (  # noqa: F401
    _solve_shape,
    check_matrix,
    cholesky,
    det,
    eig,
    eigh,
    inv,
    lu_factor,
    matrix_rank,
    pinv,
    qr,
    slogdet,
    solve,
    svd,
)
from minikeras.ops.product import matmul
from minikeras.ops.reduction import norm  # noqa: F401
from minikeras.ops.shaping import broadcast_to, swapaxes, tril, triu

KERAS_MODULE = "keras.src.ops.linalg"


def _square(x: Any, *, n: int = -1, upper: bool = False) -> Any:
    """The shape of square matrices, and their type, a float one where they are inverted."""
    check_matrix(x.shape)
    return shapes.Spec(x.shape, float_type(x) if n < 0 else x.dtype)


@composite(shape=lambda x: det.shape(x), keras="keras.src.ops.math.Logdet")  # type: ignore[misc]
def logdet(x: Any) -> Any:
    """The logarithms of the magnitudes of determinants, exact where these overflow.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.logdet([[1.0, 0.0], [0.0, 1.0]]).numpy().tolist()
    0.0
    """
    return slogdet(x)[1]


@composite(inputs=2, shape=lambda a, b, lower: _solve_shape(a, b))
def solve_triangular(a: Any, b: Any, lower: bool = False) -> Any:
    """`solve` of the upper triangles of `a`, or of the lower ones.

    Args:
        b: the right sides, (n,) or (..., n, m).

    >>> from minikeras import ops
    >>> ops.solve_triangular([[2.0, 0.0], [9.0, 4.0]], [2.0, 2.0]).numpy().tolist()
    [1.0, 0.5]
    """
    return solve((tril if lower else triu)(convert_to_tensor(a)), b)


@composite(inputs=1, shape=_square)
def cholesky_inverse(x: Any, upper: bool = False) -> Any:
    """The inverses of symmetric positive definite matrices whose factors `cholesky` found.

    Args:
        x: the factors: lower triangles, or with `upper` the upper ones.

    >>> from minikeras import ops
    >>> ops.cholesky_inverse([[2.0, 0.0], [0.0, 1.0]]).numpy().tolist()
    [[0.25, 0.0], [0.0, 1.0]]
    """
    x = convert_to_tensor(x)
    check_matrix(x.shape, True, "cholesky_inverse")
    back = inv((triu if upper else tril)(x))
    turned = swapaxes(back, -1, -2)
    return matmul(back, turned) if upper else matmul(turned, back)


def _lstsq_shape(a: Any, b: Any, *, rcond: float | None = None) -> Any:
    if a.ndim != 2 or b.ndim not in (1, 2) or (None not in (a.shape[0], b.shape[0]) and a.shape[0] != b.shape[0]):
        raise ValueError(f"lstsq takes a (m, n) and b (m,) or (m, k), got the shapes {a.shape} and {b.shape}.")
    return shapes.Spec((a.shape[1], *b.shape[1:]), a.dtype)


@composite(inputs=2, shape=_lstsq_shape)
def lstsq(a: Any, b: Any, rcond: float | None = None) -> Any:
    """The x for which `a @ x` is nearest to `b`, of several the one nearest to 0.

    Args:
        rcond: singular values of `a` below this share of the largest count as 0, default the larger number of rows or
            columns times the smallest number that changes 1.

    >>> from minikeras import ops
    >>> ops.lstsq([[1.0], [1.0]], [1.0, 3.0]).numpy().round(4).tolist()
    [2.0]
    """
    a, b = convert_to_tensor(a), convert_to_tensor(b)
    _lstsq_shape(a, b)
    eps = float(np.finfo(a.data.dtype if a.data.dtype.kind == "f" else np.float32).eps)
    return matmul(pinv(a, max(a.shape) * eps if rcond is None else rcond), b)


@composite(inputs=1, shape=_square, keras="")
def matrix_power(x: Any, n: int) -> Any:
    """The product of `n` times the same square matrix; of a negative `n` that of its inverse.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.matrix_power([[1, 1], [0, 1]], 3).numpy().tolist()
    [[1, 3], [0, 1]]
    """
    x = convert_to_tensor(x)
    check_matrix(x.shape, True, "matrix_power")
    if not isinstance(n, int):
        raise TypeError(f"matrix_power takes a whole number as its second argument, got {n!r}.")
    base, count = (x, n) if n >= 0 else (inv(x), -n)
    y = broadcast_to(eye(x.shape[-1], dtype=base.data.dtype), x.shape) if not count else None
    while count:
        if count % 2:
            y = base if y is None else matmul(y, base)
        count //= 2
        base = matmul(base, base) if count else base
    return y


_HIDDEN = "broadcast_to check_matrix convert_to_tensor eye float_type logdet matmul slogdet swapaxes tril triu"
offer_names(__name__, owners=(__package__,), hidden=_HIDDEN)
