"""Decompositions of matrices and what is solved with them, over the last two axes.

The gradients are those that Giles (2008, "An extended collection of matrix derivative results"), Murray (2016,
"Differentiation of the Cholesky decomposition"), Walter and Lehmann (2018, "Algorithmic differentiation of linear
algebra functions") and Townsend (2016, "Differentiating the singular value decomposition") derive.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from minikeras import kernels as k
from minikeras.autodiff import shapes
from minikeras.autodiff.op import Op, differentiable, operation
from minikeras.kernels.arena import explain
from minikeras.ops.common import as_float, float_type, promote, unbroadcast

KERAS_MODULE = "keras.src.ops.linalg"


def check_matrix(shape: Any, square: bool = True, name: str = "This function") -> None:
    """Refuse what has fewer than two axes, or, where `square`, matrices that are not.

    Raises:
        ValueError: for these.
    """
    if len(shape) < 2 or (square and None not in shape[-2:] and shape[-2] != shape[-1]):
        raise ValueError(
            f"{name} takes {'square ' if square else ''}matrices in the last two axes, got the shape {tuple(shape)}."
        )


def matrices(parts: Callable | str, square: bool = True, keras: str | None = None) -> Callable[[Callable], Op]:
    """An operation of float matrices in the last two axes from `function(x, **settings) -> (y, vjp)`.

    Args:
        parts: the shapes of the results as words of letters, or a function of the settings that returns these: `m` and
            `n` are the rows and columns, `k` the smaller of both; several words make a tuple.
    """

    def rule(x: Any, **settings: Any) -> Any:
        check_matrix(x.shape, square)
        sizes = dict(zip("mn", x.shape[-2:], strict=True))
        sizes["k"] = None if None in sizes.values() else min(sizes.values())
        words = parts.split(" ") if isinstance(parts, str) else parts(**settings).split(" ")
        found = [shapes.Spec((*x.shape[:-2], *[sizes[n] for n in word]), float_type(x)) for word in words]
        return tuple(found) if len(found) > 1 else found[0]

    def decorate(function: Callable) -> Op:
        def attempt(x: Any, *args: Any, **settings: Any) -> Any:
            try:
                return function(as_float(x), *args, **settings)
            except np.linalg.LinAlgError as error:
                raise ValueError(
                    f"{function.__name__} of matrices of shape {x.shape} failed: {error}; check whether they are "
                    "finite, regular or positive definite, or add a little to their diagonals."
                ) from error

        @functools.wraps(function)
        def forward(x: Any, *args: Any, **settings: Any) -> Any:
            check_matrix(x.shape, square, function.__name__)
            found = attempt(x, *args, **settings)
            explain(False, lambda: attempt(x.view(np.ndarray), *args, **settings))
            return found

        return differentiable(forward, inputs=1, shape=rule, keras=keras)

    return decorate


def _t(x: Any) -> Any:
    return k.xp.swapaxes(x, -1, -2)


def _both(x: Any) -> Any:
    """The symmetric part, which is all that a decomposition of symmetric matrices sees."""
    return (x + _t(x)) / 2


def _columns(vectors: Any) -> Any:
    """Vectors (..., n) as diagonals that a matrix (..., m, n) is multiplied with from the right."""
    return vectors[..., None, :]


def _or_zeros(g: Any, like: Any) -> Any:
    return k.xp.zeros_like(like) if g is None else g


# ---------------------------------------------------------------- one matrix


@matrices("mn")
def inv(x: Any) -> Any:
    """The inverses of square matrices.

    Args:
        x: tensor, array or number.

    Raises:
        ValueError: for matrices that are not square, or singular.

    >>> from minikeras import ops
    >>> ops.inv([[2.0, 0.0], [0.0, 4.0]]).numpy().tolist()
    [[0.5, 0.0], [0.0, 0.25]]
    """
    y = k.xp.linalg.inv(x)
    return y, lambda g, needs: (-_t(y) @ g @ _t(y),)


@matrices("")
def det(x: Any) -> Any:
    """The determinants of square matrices; singular ones have a gradient too.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.det([[2.0, 1.0], [0.0, 4.0]]).numpy().tolist()
    8.0
    """

    def vjp(g: Any, needs: Any) -> Any:
        u, s, v = k.xp.linalg.svd(x)
        n = s.shape[-1]
        others = k.xp.where(k.xp.eye(n, dtype=bool), 1, s[..., None, :]).prod(axis=-1)  # all singular values but one
        sign = k.xp.linalg.det(u) * k.xp.linalg.det(v)
        return ((u * _columns(others)) @ v * (g * sign)[..., None, None],)

    return k.xp.linalg.det(x), vjp


@matrices(" ", keras="keras.src.ops.numpy.Slogdet")
def slogdet(x: Any) -> Any:
    """The signs of the determinants of square matrices, and the logarithms of their magnitudes.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> [part.numpy().round(4).tolist() for part in ops.slogdet([[-1.0, 0.0], [0.0, 1.0]])]
    [-1.0, 0.0]
    """
    sign, logarithm = k.xp.linalg.slogdet(x)

    def vjp(g: Any, needs: Any) -> Any:
        return (_t(k.xp.linalg.inv(x)) * _or_zeros(g[1], logarithm)[..., None, None],)

    return (sign, logarithm), vjp


@matrices("mn")
def cholesky(x: Any, upper: bool = False) -> Any:
    """The triangular factors of symmetric positive definite matrices, `x = L @ L.T`; with `upper` the `L.T`.

    Raises:
        ValueError: for matrices that are not positive definite.

    >>> from minikeras import ops
    >>> ops.cholesky([[4.0, 2.0], [2.0, 2.0]]).numpy().tolist()
    [[2.0, 0.0], [1.0, 1.0]]
    """
    y = k.xp.linalg.cholesky(_both(x))

    def vjp(g: Any, needs: Any) -> Any:
        inner = k.xp.tril(_t(y) @ (_t(g) if upper else g))
        inner = inner * (1 - k.xp.eye(y.shape[-1], dtype=y.dtype) / 2)
        back = k.xp.linalg.inv(y)
        return (_both(_t(back) @ inner @ back),)

    return _t(y) if upper else y, vjp


@matrices("m mn")
def eigh(x: Any) -> Any:
    """The eigenvalues of symmetric matrices in ascending order, and their eigenvectors as columns.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.eigh([[2.0, 1.0], [1.0, 2.0]])[0].numpy().round(4).tolist()
    [1.0, 3.0]
    """
    values, vectors = k.xp.linalg.eigh(_both(x))

    def vjp(g: Any, needs: Any) -> Any:
        turned = _t(vectors) @ _or_zeros(g[1], vectors) * _inverse_gaps(values)
        turned = turned + k.xp.eye(values.shape[-1], dtype=x.dtype) * _columns(_or_zeros(g[0], values))
        return (_both(vectors @ turned @ _t(vectors)),)

    return (values, vectors), vjp


def _inverse_gaps(values: Any) -> Any:
    """`1 / (values[j] - values[i])` for each pair, 0 where they are equal."""
    gaps = values[..., None, :] - values[..., :, None]
    return k.xp.where(gaps == 0, 0, 1 / k.xp.where(gaps == 0, 1, gaps)).astype(values.dtype)


@matrices(lambda mode: "mk kn" if mode == "reduced" else "mm mn", square=False)
def qr(x: Any, mode: str = "reduced") -> Any:
    """Matrices as `Q @ R`, Q with orthonormal columns and R upper triangular.

    Args:
        mode: `"reduced"`: Q has as many columns as there are rows or columns, whichever are fewer; `"complete"`: as
            many as rows.

    Raises:
        ValueError: for another mode; by the gradient, where R has more columns than rows or Q has columns that do not
            follow from `x`.

    >>> from minikeras import ops
    >>> q, r = ops.qr([[3.0], [4.0]])
    >>> abs(float(r[0, 0]))
    5.0
    """
    if mode not in ("reduced", "complete"):
        raise ValueError(f"qr's mode must be 'reduced' or 'complete', got {mode!r}.")
    q, r = k.xp.linalg.qr(x, mode)

    def vjp(g: Any, needs: Any) -> Any:
        if r.shape[-1] != r.shape[-2]:
            raise ValueError(f"qr with the mode {mode!r} of shape {x.shape} has no gradient; use 'reduced', m >= n.")
        gq, gr = _or_zeros(g[0], q), _or_zeros(g[1], r)
        inner = k.xp.tril(r @ _t(gr) - _t(gq) @ q)
        inner = inner + _t(k.xp.tril(inner, -1))
        return (_t(k.xp.linalg.solve(r, _t(gq + q @ inner))),)

    return (q, r), vjp


def _svd_parts(full_matrices: bool = True, compute_uv: bool = True) -> str:
    return ("mm k nn" if full_matrices else "mk k kn") if compute_uv else "k"


@matrices(_svd_parts, square=False, keras="keras.src.ops.linalg.SVD")
def svd(x: Any, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """Matrices as `U @ diag(s) @ V`, with orthonormal columns of U and rows of V and descending s >= 0.

    Args:
        full_matrices: U and V are square; their gradient is known only where `x` is square too.
        compute_uv: return (U, s, V), else s alone.

    Raises:
        ValueError: by the gradient, where U or V has columns or rows that do not follow from `x`.

    >>> from minikeras import ops
    >>> ops.svd([[3.0, 0.0], [0.0, 4.0]], compute_uv=False).numpy().tolist()
    [4.0, 3.0]
    """
    if not compute_uv:
        u, s, v = k.xp.linalg.svd(x, full_matrices=False)
        return s, lambda g, needs: (u * _columns(g) @ v,)
    u, s, v = k.xp.linalg.svd(x, full_matrices=full_matrices)

    def vjp(g: Any, needs: Any) -> Any:
        if u.shape[-1] != v.shape[-2]:
            raise ValueError(f"svd of shape {x.shape} has no gradient with full_matrices=True; set it to False.")
        gu, gs, gv = _or_zeros(g[0], u), _or_zeros(g[1], s), _t(_or_zeros(g[2], v))
        gaps, ends = _inverse_gaps(s * s), _columns(1 / k.xp.where(s == 0, 1, s))
        left, right = _t(u) @ gu, v @ gv
        inner = (gaps * (left - _t(left))) * _columns(s) + s[..., :, None] * (gaps * (right - _t(right)))
        inner = inner + k.xp.eye(s.shape[-1], dtype=s.dtype) * _columns(gs)
        outside = (gu - u @ left) * ends @ v + u @ _t((gv - _t(v) @ right) * ends)
        return (u @ inner @ v + outside,)

    return (u, s, v), vjp


@matrices("nm", square=False)
def pinv(x: Any, rcond: float | None = None) -> Any:
    """The Moore-Penrose inverses; the gradient is that of Golub and Pereyra (1973).

    Args:
        rcond: singular values below this share of the largest count as 0, default `10 * max(m, n)` times the smallest
            number that changes 1.
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.pinv([[2.0], [0.0]]).numpy().tolist()
    [[0.5, 0.0]]
    """
    y = k.xp.linalg.pinv(x, 10 * max(x.shape[-2:]) * float(np.finfo(x.dtype).eps) if rcond is None else rcond)

    def vjp(g: Any, needs: Any) -> Any:
        t = _t(y)
        first = _t(g) @ y @ t
        second = t @ y @ _t(g)
        return (first - x @ (y @ first) + second - second @ y @ x - t @ g @ t,)

    return y, vjp


def _solve_shape(a: Any, b: Any) -> Any:
    vector = _is_vector(a, b)
    inner = b.shape[-1:] if vector else b.shape[-2:]
    batch = shapes.broadcast_shapes(a.shape[:-2], b.shape[:-1] if vector else b.shape[:-2])
    return shapes.Spec((*batch, *inner), np.result_type(float_type(a), float_type(b)))


def _is_vector(a: Any, b: Any) -> bool:
    """Whether the right sides are vectors (..., n), not matrices (..., n, m)."""
    check_matrix(a.shape, True, "solve")
    vector = b.ndim == 1 or b.ndim == a.ndim - 1
    size = b.shape[-1 if vector else -2] if b.ndim else None
    if not b.ndim or (None not in (size, a.shape[-1]) and size != a.shape[-1]):
        raise ValueError(f"solve takes right sides (..., n) or (..., n, m), got {b.shape} for matrices {a.shape}.")
    return vector


@differentiable(shape=_solve_shape)
def solve(a: Any, b: Any) -> Any:
    """The x of `a @ x = b` for square matrices `a` (..., n, n).

    Args:
        b: (..., n, m), or vectors (..., n), which have one axis less than `a`.

    Raises:
        ValueError: for singular matrices, and for shapes that do not go together.

    >>> from minikeras import ops
    >>> ops.solve([[2.0, 0.0], [0.0, 4.0]], [2.0, 2.0]).numpy().tolist()
    [1.0, 0.5]
    """
    left, right = promote(as_float(a), as_float(b))
    vector = _is_vector(left, right)
    right = right[..., None] if vector else right
    try:
        x = k.xp.linalg.solve(left, right)
    except np.linalg.LinAlgError as error:
        raise ValueError(f"solve of matrices of shape {a.shape} failed: {error}; use lstsq or pinv.") from error

    def vjp(g: Any, needs: Any) -> Any:
        gb = k.xp.linalg.solve(_t(left), g[..., None] if vector else g)
        ga = unbroadcast(-gb @ _t(x), a) if needs[0] else None
        return ga, unbroadcast(gb[..., 0] if vector else gb, b) if needs[1] else None

    return x[..., 0] if vector else x, vjp


def _lu_shape(x: Any) -> Any:
    check_matrix(x.shape, False)
    smaller = None if None in x.shape[-2:] else min(x.shape[-2:])
    return shapes.Spec(x.shape, float_type(x)), shapes.Spec((*x.shape[:-2], smaller), "int32")


@differentiable(shape=_lu_shape)
def lu_factor(x: Any) -> Any:
    """Matrices whose rows change places as triangular factors: L below the diagonal, where it is 1, and U upon it.

    Args:
        x: tensor, array or number.

    Returns:
        Both in one matrix, and (int32) for each row of U with which row it changed places.

    Raises:
        ValueError: by the gradient, for matrices that are not square.

    >>> from minikeras import ops
    >>> [part.numpy().tolist() for part in ops.lu_factor([[1.0, 2.0], [2.0, 2.0]])]
    [[[2.0, 2.0], [0.5, 1.0]], [1, 1]]
    """
    check_matrix(x.shape, False, "lu_factor")
    m, n = x.shape[-2:]
    lu = as_float(x).reshape(-1, m, n).copy()
    each = k.xp.arange(len(lu))
    order = k.xp.broadcast_to(k.xp.arange(m), (len(lu), m)).copy()
    pivots = k.xp.zeros((len(lu), min(m, n)), "int32")
    for j in range(min(m, n)):
        pivots[:, j] = row = k.xp.abs(lu[:, j:, j]).argmax(axis=1) + j
        for array in (lu, order):
            upper, lower = array[:, j].copy(), array[each, row]
            array[:, j], array[each, row] = lower, upper
        pivot = lu[:, j : j + 1, j]
        lu[:, j + 1 :, j] /= k.xp.where(pivot == 0, 1, pivot)
        lu[:, j + 1 :, j + 1 :] -= lu[:, j + 1 :, j, None] * lu[:, j, None, j + 1 :]

    def vjp(g: Any, needs: Any) -> Any:
        if m != n:
            raise ValueError(f"lu_factor has a gradient for square matrices only, got the shape {x.shape}.")
        g = g[0].reshape(lu.shape)
        low, up = k.xp.tril(lu, -1) + k.xp.eye(n, dtype=lu.dtype), k.xp.triu(lu)
        inner = k.xp.tril(_t(low) @ k.xp.tril(g, -1), -1) + k.xp.triu(k.xp.triu(g) @ _t(up))
        moved = _t(k.xp.linalg.solve(up, _t(k.xp.linalg.solve(_t(low), inner))))
        gradient = k.xp.empty_like(moved)
        gradient[each[:, None], order] = moved
        return (gradient.reshape(x.shape),)

    return (lu.reshape(x.shape), pivots.reshape(*x.shape[:-2], min(m, n))), vjp


def _eig_shape(x: Any) -> Any:
    check_matrix(x.shape)
    dtype = np.result_type(float_type(x), "complex64")
    return shapes.Spec(x.shape[:-1], dtype), shapes.Spec(x.shape, dtype)


@operation(shape=_eig_shape)
def eig(x: Any) -> Any:
    """The eigenvalues of square matrices and their eigenvectors as columns, complex numbers; without gradients.

    Args:
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.eig([[0.0, 1.0], [-1.0, 0.0]])[0].numpy().tolist()
    [1j, -1j]
    """
    check_matrix(x.shape, True, "eig")
    x = as_float(x)
    return tuple([part.astype(np.result_type(x.dtype, "complex64")) for part in k.xp.linalg.eig(x)])


def _rank_shape(x: Any, *, tol: float | None = None) -> Any:
    check_matrix(x.shape, False)
    return shapes.Spec(x.shape[:-2], "int32")


@operation(inputs=1, shape=_rank_shape)
def matrix_rank(x: Any, tol: float | None = None) -> Any:
    """How many singular values exceed `tol`, int32.

    Args:
        tol: default the largest one times the number of rows or columns times the smallest number that changes 1.
        x: tensor, array or number.

    >>> from minikeras import ops
    >>> ops.matrix_rank([[1.0, 2.0], [2.0, 4.0]]).numpy().tolist()
    1
    """
    check_matrix(x.shape, False, "matrix_rank")
    s = k.xp.linalg.svd(as_float(x), compute_uv=False)
    limit = s.max(axis=-1, keepdims=True) * (max(x.shape[-2:]) * float(np.finfo(s.dtype).eps)) if tol is None else tol
    return (s > limit).sum(axis=-1).astype("int32")
