"""Matrix products, tensor contractions and Einstein sums."""

from __future__ import annotations

import math
import string
from typing import Any

from minikeras import kernels as k
from minikeras.autodiff import shapes
from minikeras.autodiff.op import composite, differentiable
from minikeras.ops.common import as_array, as_type, counted, promote, result_type, unbroadcast
from minikeras.ops.elementwise import multiply
from minikeras.ops.reduction import sum as reduce_sum
from minikeras.ops.shaping import ravel, reshape

KERAS_MODULE = "keras.src.ops.numpy"


@differentiable(shape=shapes.matmul)
def matmul(x1: Any, x2: Any) -> Any:
    """The matrix product over the last two axes; leading axes broadcast, a vector is a row or (right) a column.

    Of two int8 it is an int32.

    Args:
        x1: tensor of (..., n, m), or of (m,).
        x2: tensor of (..., m, k), or of (m,).

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.matmul(np.ones((5, 2, 3)), np.ones((3, 4))).shape
    (5, 2, 4)
    """
    x1, x2 = as_array(x1), as_array(x2)
    a, b = promote(x1, x2)
    if x1.dtype == x2.dtype == "int8":
        a, b = a.astype("int32"), b.astype("int32")
    if a.ndim == b.ndim == 2:
        return k.gemm(a, b), lambda g, needs: (
            unbroadcast(k.gemm(g, b, tb=True), x1) if needs[0] else None,
            unbroadcast(k.gemm(a, g, ta=True), x2) if needs[1] else None,
        )
    rows = a.reshape(1, -1) if a.ndim == 1 else a
    columns = b.reshape(-1, 1) if b.ndim == 1 else b

    def vjp(g: Any, needs: Any) -> Any:
        if b.ndim == 1:
            g = g[..., None]
        if a.ndim == 1:
            g = g[..., None, :]
        g1 = g2 = None
        if needs[0]:
            g1 = unbroadcast(k.matmul(g, k.xp.swapaxes(columns, -1, -2)), rows).reshape(a.shape)
        if needs[1]:
            if columns.ndim == 2:  # one matrix for all: one product over all leading axes
                count = math.prod(rows.shape[:-1])
                flat, g = rows.reshape(count, rows.shape[-1]), g.reshape(count, g.shape[-1])
                g2 = k.gemm(flat, g, ta=True).reshape(b.shape)
            else:
                g2 = unbroadcast(k.matmul(k.xp.swapaxes(rows, -1, -2), g), columns).reshape(b.shape)
        return None if g1 is None else unbroadcast(g1, x1), None if g2 is None else unbroadcast(g2, x2)

    return k.matmul(a, b), vjp


@differentiable(inputs=2, shape=shapes.tensordot)
def tensordot(x1: Any, x2: Any, axes: Any = 2) -> Any:
    """The sum of products over axes of both.

    Args:
        axes: the last so many axes of `x1` with the first of `x2`, or a pair of axes (or lists of axes), one for each.

    Raises:
        ValueError: for axes that are not there, come twice or differ in size.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.tensordot(np.ones((2, 3, 4)), np.ones((3, 4, 5))).shape
    (2, 5)
    """
    a, b = promote(as_array(x1), as_array(x2))
    axes1: Any
    axes2: Any
    if isinstance(axes, int):
        axes1, axes2 = range(a.ndim - axes, a.ndim), range(axes)
    else:
        axes1, axes2 = ([one] if isinstance(one, int) else one for one in axes)
    summed1, summed2 = [shapes.place_of(i, a.ndim) for i in axes1], [shapes.place_of(i, b.ndim) for i in axes2]
    sizes1, sizes2 = [a.shape[i] for i in summed1], [b.shape[i] for i in summed2]
    if sizes1 != sizes2 or len(set(summed1)) < len(summed1) or len(set(summed2)) < len(summed2):
        raise ValueError(
            f"tensordot sums over pairs of axes of equal size, each axis once, got axes {summed1} of sizes {sizes1} "
            f"and axes {summed2} of sizes {sizes2}; choose others."
        )
    free1 = [i for i in range(a.ndim) if i not in summed1]
    free2 = [i for i in range(b.ndim) if i not in summed2]
    order1, order2 = free1 + summed1, summed2 + free2
    moved1, moved2 = a.transpose(order1), b.transpose(order2)
    inner_size = math.prod(a.shape[i] for i in summed1)
    rows = moved1.reshape(math.prod(a.shape[i] for i in free1), inner_size)
    columns = moved2.reshape(inner_size, math.prod(b.shape[i] for i in free2))
    y = k.gemm(rows, columns)

    def vjp(g: Any, needs: Any) -> Any:
        g = g.reshape(y.shape)
        g1 = g2 = None
        if needs[0]:
            g1 = k.gemm(g, columns, tb=True).reshape(moved1.shape).transpose(_inverse(order1))
        if needs[1]:
            g2 = k.gemm(rows, g, ta=True).reshape(moved2.shape).transpose(_inverse(order2))
        return None if g1 is None else unbroadcast(g1, x1), None if g2 is None else unbroadcast(g2, x2)

    return y.reshape([a.shape[i] for i in free1] + [b.shape[i] for i in free2]), vjp


def _inverse(order: list[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)


@composite(inputs=2, shape=shapes.dot)
def dot(x1: Any, x2: Any) -> Any:
    """The sum of products over the last axis of `x1` and the last but one (or only) of `x2`; numbers multiply.

    >>> from minikeras import ops
    >>> ops.dot([1.0, 2.0], [3.0, 4.0])
    <Tensor shape=() dtype=float32>
    array(11., dtype=float32)
    """
    if _ndim(x1) == 0 or _ndim(x2) == 0:
        return multiply(x1, x2)
    return tensordot(x1, x2, [-1, -1 if _ndim(x2) == 1 else -2])


@composite(inputs=2, shape=shapes.inner)
def inner(x1: Any, x2: Any) -> Any:
    """The sum of products over the last axes of both; with a number, the product.

    Args:
        x1: tensor.
        x2: tensor with the same last axis.

    >>> from minikeras import ops
    >>> ops.inner([1.0, 2.0], [3.0, 4.0])
    <Tensor shape=() dtype=float32>
    array(11., dtype=float32)
    """
    if _ndim(x1) == 0 or _ndim(x2) == 0:
        return multiply(x1, x2)
    return tensordot(x1, x2, [-1, -1])


@composite(inputs=2, shape=shapes.outer)
def outer(x1: Any, x2: Any) -> Any:
    """The products of all elements of `x1` (rows) and `x2` (columns).

    >>> from minikeras import ops
    >>> ops.outer([1, 2], [3, 4])
    <Tensor shape=(2, 2) dtype=int32>
    array([[3, 4],
           [6, 8]], dtype=int32)
    """
    return multiply(reshape(x1, (-1, 1)), ravel(x2))


@composite(inputs=2, shape=shapes.scalar)
def vdot(x1: Any, x2: Any) -> Any:
    """The sum of the products of the elements.

    Args:
        x1: tensor.
        x2: tensor with as many elements.

    >>> from minikeras import ops
    >>> ops.vdot([1.0, 2.0], [3.0, 4.0])
    <Tensor shape=() dtype=float32>
    array(11., dtype=float32)
    """
    return reduce_sum(multiply(ravel(x1), ravel(x2)))


def _ndim(x: Any) -> int:
    return len(x.shape) if hasattr(x, "shape") else k.xp.ndim(x)


def _einsum_shape(*operands: Any, subscripts: str, **kwargs: Any) -> Any:
    terms, result = _explicit(subscripts, [x.ndim for x in operands])
    sizes: dict[str, int | None] = {}
    for term, x in zip(terms, operands, strict=True):
        for letter, size in zip(term, x.shape, strict=True):
            (sizes[letter],) = shapes.broadcast_shapes((sizes.get(letter, 1),), (size,))
    return tuple([sizes[letter] for letter in result])


@composite(inputs=0, shape=_einsum_shape, takes=("operands",))
def einsum(subscripts: str, *operands: Any, **kwargs: Any) -> Any:
    """Einstein's summation, for example `einsum("bij,jk->bik", x, w)`; `...` stands for leading axes.

    Of int8 alone it is an int32.  `optimize` and `precision` are accepted for familiarity.

    Args:
        subscripts: such as `"ij,jk->ik"`.
        operands: the tensors, one for each term.

    >>> import numpy as np
    >>> from minikeras import ops
    >>> ops.einsum("ij,jk->ik", np.ones((2, 3)), np.ones((3, 4))).shape
    (2, 4)
    """
    if kwargs.keys() - {"optimize", "precision"}:
        raise TypeError(
            f"einsum takes no arguments {sorted(kwargs.keys() - {'optimize', 'precision'})}; leave them out."
        )
    return _einsum(*operands, subscripts=subscripts)


@differentiable(shape=_einsum_shape)
def _einsum(*operands: Any, subscripts: str) -> Any:
    arrays = [as_array(x) for x in operands]
    dtype = "int32" if all(x.dtype == "int8" for x in arrays) else result_type(*arrays)
    arrays = [as_type(x, dtype) for x in arrays]
    terms, result = _explicit(subscripts, [x.ndim for x in arrays])
    y = _contraction(terms, arrays, result)

    def gradient(position: int, g: Any) -> Any:
        """The product of `g` and the other operands, summed over what this operand has not."""
        x, term = arrays[position], terms[position]
        sizes = dict(zip(term, x.shape, strict=True))
        others = [(t, a) for i, (t, a) in enumerate(zip(terms, arrays, strict=True)) if i != position]
        known = set(result).union(*(t for t, _ in others))
        letters = "".join(dict.fromkeys(term))
        kept = "".join(letter for letter in letters if letter in known)
        pieces = [result, *(t for t, _ in others)]
        part = _contraction(pieces, [g, *(a for _, a in others)], kept)
        # letters that only this operand has were summed over: every element along them has the same gradient
        part = part.reshape([part.shape[kept.index(letter)] if letter in kept else 1 for letter in letters])
        full = [sizes[letter] if size == 1 else size for letter, size in zip(letters, part.shape, strict=True)]
        part = k.xp.broadcast_to(part, full)
        if len(letters) == len(term):
            return unbroadcast(part, operands[position])
        scattered = k.xp.zeros(x.shape, part.dtype)  # a letter stands twice: only the diagonal has a gradient
        places = {
            letter: counted(sizes[letter]).reshape((-1,) + (1,) * (len(letters) - 1 - i))
            for i, letter in enumerate(letters)
        }
        scattered[tuple(places[letter] for letter in term)] = part
        return unbroadcast(scattered, operands[position])

    return y, lambda g, needs: [gradient(i, g) if need else None for i, need in enumerate(needs)]


def _contraction(terms: list[str], arrays: list[Any], result: str) -> Any:
    """The Einstein sum: of two operands as a product of matrices, one for each combination of their common axes."""
    sizes = [dict(zip(term, x.shape, strict=True)) for term, x in zip(terms, arrays, strict=True)]
    simple = len(terms) == 2 and all(len(set(term)) == len(term) for term in terms) and arrays[0].dtype.kind == "f"
    if len(terms) == 1 and len(set(terms[0])) == len(terms[0]) and arrays[0].dtype.kind == "f":
        term, x = _sum_out(terms[0], arrays[0], result)
        return x.transpose([term.index(letter) for letter in result])
    if not simple or any(sizes[1].get(letter, size) != size for letter, size in sizes[0].items()):
        return k.xp.einsum(",".join(terms) + "->" + result, *arrays, optimize=len(arrays) > 1)
    (a_term, b_term), (a, b) = terms, arrays
    a_term, a = _sum_out(a_term, a, b_term + result)
    b_term, b = _sum_out(b_term, b, a_term + result)
    stacked = [letter for letter in a_term if letter in b_term and letter in result]
    summed = [letter for letter in a_term if letter in b_term and letter not in result]
    rows = [letter for letter in a_term if letter not in b_term]
    columns = [letter for letter in b_term if letter not in a_term]
    a = _as_matrices(a, a_term, stacked, rows, summed)
    b = _as_matrices(b, b_term, stacked, summed, columns)
    if stacked:
        y = k.matmul(a, b)
    else:
        turned = [one.strides[1] != one.itemsize and one.strides[0] == one.itemsize for one in (a, b)]
        y = k.gemm(a.T if turned[0] else a, b.T if turned[1] else b, *turned)
    made = stacked + rows + columns
    known = sizes[0] | sizes[1]
    return y.reshape([known[letter] for letter in made]).transpose([made.index(letter) for letter in result])


def _sum_out(term: str, x: Any, wanted: str) -> tuple[str, Any]:
    """An operand and its letters without those that nothing else has."""
    alone = tuple(i for i, letter in enumerate(term) if letter not in wanted)
    return ("".join(letter for letter in term if letter in wanted), k.total(x, alone)) if alone else (term, x)


def _as_matrices(x: Any, term: str, *groups: list[str]) -> Any:
    """An operand with one axis for each of the stacked letters, and one for each of the two other groups."""
    stacked, *pair = groups
    x = x.transpose([term.index(letter) for group in groups for letter in group])
    ends = len(stacked), len(stacked) + len(pair[0])
    shape = (*x.shape[: ends[0]], math.prod(x.shape[ends[0] : ends[1]]), math.prod(x.shape[ends[1] :]))
    return x.reshape(shape)


def _explicit(subscripts: str, ranks: list[int]) -> tuple[list[str], str]:
    """The operands' and the result's letters, with the implicit result and `...` written out."""
    inputs, arrow, result = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(ranks):
        raise ValueError(f"einsum {subscripts!r} describes {len(terms)} operands, got {len(ranks)}.")
    free = [letter for letter in string.ascii_letters if letter not in subscripts]
    pairs = zip(terms, ranks, strict=True)
    extra = [rank - len(term.replace("...", "")) if "..." in term else 0 for term, rank in pairs]
    leading = "".join(free[: max(extra)])
    terms = [term.replace("...", leading[len(leading) - n :]) for term, n in zip(terms, extra, strict=True)]
    if arrow:
        return terms, result.replace("...", leading)
    joined = "".join(terms)
    once = sorted(letter for letter in set(joined) if joined.count(letter) == 1 and letter not in leading)
    return terms, leading + "".join(once)
