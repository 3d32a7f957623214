"""Arithmetic in one pass each, where plain array code makes several; what is one pass there too stays with it."""

from __future__ import annotations

from typing import Any

from minikeras.kernels.cuda.launch import FLOATS, THREADS, Source, contiguous_numbers, fours, launch
from minikeras.kernels.reference import elementwise as reference
from minikeras.kernels.table import Kernels, one_of, override, same_shape

_GRADIENTS = {"negative": 0, "absolute": 1, "square": 2, "sqrt": 3, "reciprocal": 4}  # by numbers in the source
_POWERS = {1: 1, 2: 2, 3: 3, 0.5: 4, -1: 5}  # exponents that need no logarithm, likewise
_NUMBERS = (bool, int, float)

_SOURCE = Source(
    """
// an operand is an array or, where that is missing, a number, which has been rounded to the type of arrays
#define OPERAND(x) x ? A(x[i]) : A(T(A(x##_number)))

__global__ void larger_grad(const T* g, const T* a, const T* b, double a_number, double b_number, T* out, whole n) {
  struct All { A g, a, b; };
  in_fours(n, [=](whole i) { return All{g[i], OPERAND(a), OPERAND(b)}; },
           [=](whole i, All at) { out[i] = at.g * (A(at.a > at.b) + A(0.5) * A(at.a == at.b)); });
}
__global__ void transform_grad(const T* g, const T* v, T* out, whole which, whole n) {
  struct Both { A g, v; };
  in_fours(n, [=](whole i) { return Both{g[i], v[i]}; }, [=](whole i, Both at) {
    switch (which) {
      case 0: out[i] = -at.g; break;
      case 1: out[i] = at.g * (at.v > 0 ? A(1) : at.v < 0 ? A(-1) : at.v); break;  // of NaN that
      case 2: out[i] = at.g * (at.v + at.v); break;
      case 3: out[i] = at.g * (A(0.5) / at.v); break;
      case 4: out[i] = -at.g * (at.v * at.v); break;
    }
  });
}
__global__ void power(const T* x, T* out, whole which, double exponent, whole n) {
  in_fours(n, [=](whole i) { return A(x[i]); }, [=](whole i, A v) {
    switch (which) {
      case 1: out[i] = v; break;
      case 2: out[i] = v * v; break;
      case 3: out[i] = v * v * v; break;
      case 4: out[i] = root(v); break;
      case 5: out[i] = 1 / v; break;
      default: out[i] = pow(v, A(exponent));
    }
  });
}
__global__ void choose(const bool* condition, const T* a, const T* b, double a_number, double b_number, T* out,
                       whole n) {
  struct All { A a, b; bool first; };
  in_fours(n, [=](whole i) { return All{OPERAND(a), OPERAND(b), condition[i]}; },
           [=](whole i, All at) { out[i] = at.first ? at.a : at.b; });
}
"""
)


def _operands(like: Any, x1: Any, x2: Any) -> bool:
    """Whether each is a number or an array that lies as another one does, and not both are numbers."""
    arrays = [one for one in (x1, x2) if type(one) not in _NUMBERS]
    kinds = {one.dtype for one in arrays}
    return (
        len(kinds) == 1
        and kinds.pop().char in FLOATS
        and all([one.shape == like.shape and one.flags.c_contiguous for one in arrays])
    )


def _both(x1: Any, x2: Any) -> tuple[Any, ...]:
    """Two operands as kernels have them."""
    numbers = [float(one) if type(one) in _NUMBERS else None for one in (x1, x2)]
    arrays = [one if number is None else None for one, number in zip((x1, x2), numbers, strict=True)]
    return *arrays, *[0.0 if number is None else number for number in numbers]


def _like_gradient(g: Any, x1: Any, x2: Any) -> bool:
    return _operands(g, x1, x2) and all([type(one) in _NUMBERS or one.dtype == g.dtype for one in (x1, x2)])


@override(reference.larger_grad, "gpu", when=(contiguous_numbers("g"), _like_gradient))
def larger_grad(k: Kernels, g: Any, x1: Any, x2: Any) -> Any:
    out = k.empty(g.shape, g.dtype)
    launch(k, _SOURCE, "larger_grad", g.dtype, fours(g.size), THREADS, (g, *_both(x1, x2), out, g.size))
    return out


@override(
    reference.transform_grad,
    "gpu",
    when=(contiguous_numbers("g", "v"), same_shape("g", "v"), one_of("name", *_GRADIENTS)),
)
def transform_grad(k: Kernels, g: Any, v: Any, name: str) -> Any:
    out = k.empty(g.shape, g.dtype)
    launch(k, _SOURCE, "transform_grad", g.dtype, fours(g.size), THREADS, (g, v, out, _GRADIENTS[name], g.size))
    return out


def _is_number(exponent: Any) -> bool:
    return type(exponent) in _NUMBERS


@override(reference.power, "gpu", when=(contiguous_numbers("x"), _is_number))
def power(k: Kernels, x: Any, exponent: float) -> Any:
    out = k.empty(x.shape, x.dtype)
    arguments = (x, out, _POWERS.get(exponent, 0), float(exponent), x.size)
    launch(k, _SOURCE, "power", x.dtype, fours(x.size), THREADS, arguments)
    return out


def _is_plain(condition: Any) -> bool:
    return condition.dtype.char == "?" and condition.size > 0 and condition.flags.c_contiguous


@override(reference.choose, "gpu", when=(_is_plain, lambda condition, x1, x2: _operands(condition, x1, x2)))
def choose(k: Kernels, condition: Any, x1: Any, x2: Any) -> Any:
    """Without the copy of the condition that CuPy makes."""
    dtype = (x2 if type(x1) in _NUMBERS else x1).dtype
    out = k.empty(condition.shape, dtype)
    arguments = (condition, *_both(x1, x2), out, out.size)
    launch(k, _SOURCE, "choose", dtype, fours(out.size), THREADS, arguments)
    return out
