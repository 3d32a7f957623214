"""Random numbers: a thread draws a block of Philox and makes all values of it; bit for bit the reference's.

What a step has drawn before is a counter, read when the kernel runs: a step that is a program draws other numbers each
time.  Blocks are numbered in 64 bits here; the reference has what lies beyond.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minikeras.kernels.cuda.launch import THREADS, Source, each, launch
from minikeras.kernels.cuda.launch import counter as counted
from minikeras.kernels.reference import random as reference
from minikeras.kernels.table import Kernels, override

_WORD = (1 << 64) - 1
_FLOAT32, _UINT8, _UINT64 = np.dtype("float32"), np.dtype("uint8"), np.dtype("uint64")

_BITS = Source(
    """
typedef unsigned long long word;

// Philox4x64-10 of a block, of whose number one word is not 0
__device__ __forceinline__ void draw(word number, word k0, word k1, word* c) {
  c[0] = number;
  c[1] = c[2] = c[3] = 0;
  for (int i = 0; i < 10; ++i) {
    word high0 = __umul64hi(c[0], 0xd2e7470ee14c6c93ull), low0 = c[0] * 0xd2e7470ee14c6c93ull;
    word high1 = __umul64hi(c[2], 0xca5a826395121157ull), low1 = c[2] * 0xca5a826395121157ull;
    c[0] = high1 ^ c[1] ^ k0;
    c[1] = low1;
    c[2] = high0 ^ c[3] ^ k1;
    c[3] = low0;
    k0 += 0x9e3779b97f4a7c15ull;
    k1 += 0xbb67ae8584caa73bull;
  }
}
// 16 bytes, which are written at once
template <class V> struct __align__(16) Some { V values[16 / sizeof(V)]; };
template <class V> __device__ __forceinline__ void write(V* out, whole first, whole n, const V* values) {
  const int count = 16 / sizeof(V);
  if (first + count <= n && (word)(out + first) % 16 == 0) {
    *(Some<V>*)(out + first) = *(const Some<V>*)values;
  } else {
    for (int i = 0; i < count; ++i) {
      if (first + i < n) out[first + i] = values[i];
    }
  }
}
__global__ void random_bits(word* out, word k0, word k1, COUNTER(counter), whole n) {
  EACH(block, (n + 3) / 4) {
    __align__(16) word c[4];
    draw(COUNT(counter) + block + 1, k0, k1, c);  // NumPy increments before it draws
    for (int i = 0; i < 4; i += 2) write(out, 4 * block + i, n, c + i);
  }
}
// a lane of a word makes a value: all of its bits but the lowest `spare`, times a step
__global__ void uniform(T* out, word k0, word k1, COUNTER(counter), whole spare, double step, whole n) {
  const int bits = 8 * sizeof(T), lanes = 64 / bits, count = 4 * lanes, part = 16 / sizeof(T);
  EACH(block, (n + count - 1) / count) {
    word c[4];
    draw(COUNT(counter) + block + 1, k0, k1, c);
    for (int first = 0; first < count; first += part) {
      __align__(16) T values[part];
      for (int i = 0; i < part; ++i) {
        word lane = c[(first + i) / lanes] << (lanes - 1 - (first + i) % lanes) * bits >> (64 - bits + spare);
        values[i] = (bits < 64 ? A((unsigned)lane) : A((whole)lane)) * A(step);
      }
      write(out, block * count + first, n, values);
    }
  }
}
// Box and Muller; the first half of `drawn` makes radii, the other angles
__global__ void normal(const A* drawn, T* out, whole pairs, whole n) {
  EACH(i, pairs) {
    A radius = root(log_of(1 - drawn[i]) * -2), angle = drawn[pairs + i] * A(6.283185307179586);
    out[i] = radius * cos(angle);
    if (pairs + i < n) out[pairs + i] = radius * sin(angle);
  }
}
"""
)


def _counted_in_a_word(counter: int, size: int) -> bool:
    return counter + size < 1 << 64  # more than there are blocks


def _bits_here(counter: int, count: int, out: Any) -> bool:
    plain = out is None or (out.dtype == _UINT64 and out.shape == (count,) and out.flags.c_contiguous)
    return plain and _counted_in_a_word(counter, count)


def _keys(key: int) -> tuple[Any, Any]:
    return np.uint64(key & _WORD), np.uint64(key >> 64)


@override(reference.random_bits, "gpu", when=_bits_here)
def random_bits(k: Kernels, key: int, counter: int, count: int, out: Any = None) -> Any:
    out = k.empty((count,), _UINT64) if out is None else out
    arguments = (out, *_keys(key), *counted(counter), count)
    launch(k, _BITS, "random_bits", _FLOAT32, each(reference.random_blocks(count)), THREADS, arguments)
    return out


def _values_here(counter: int, shape: tuple[int, ...], dtype: Any, out: Any) -> bool:
    kind = np.dtype(dtype)
    plain = out is None or (out.dtype == kind and out.shape == tuple(shape) and out.flags.c_contiguous)
    return plain and kind.name in reference._LANES and _counted_in_a_word(counter, math.prod(shape))


@override(reference.uniform, "gpu", when=_values_here)
def uniform(k: Kernels, key: int, counter: int, shape: tuple[int, ...], dtype: Any = "float32", out: Any = None) -> Any:
    dtype = np.dtype(dtype)
    out = k.empty(shape, dtype) if out is None else out
    _, spare, step = reference._LANES[dtype.name]
    arguments = (out, *_keys(key), *counted(counter), spare, step, out.size)
    launch(k, _BITS, "uniform", dtype, each(reference.blocks_for("uniform", out.size, dtype)), THREADS, arguments)
    return out


@override(reference.normal, "gpu", when=_values_here)
def normal(k: Kernels, key: int, counter: int, shape: tuple[int, ...], dtype: Any = "float32", out: Any = None) -> Any:
    dtype = np.dtype(dtype)
    out = k.empty(shape, dtype) if out is None else out
    pairs = -(-out.size // 2)
    drawn = k.uniform(key, counter, (2, pairs), "float64" if dtype.itemsize == 8 else "float32")
    launch(k, _BITS, "normal", dtype, each(pairs), THREADS, (drawn, out, pairs, out.size))
    return out


# ---- masks -----------------------------------------------------------------------------------------------------------

_MASKS = Source(
    """
// Philox4x32-10: of a block's number the counter has the lower half, `purpose` is the other
__global__ void dropout_mask(unsigned char* out, unsigned long long key, unsigned long long purpose, COUNTER(counter),
                             whole threshold, whole n) {
  EACH(block, (n + 7) / 8) {
    unsigned long long number = COUNT(counter) + block, kept = 0;
    unsigned c[4] = {(unsigned)number, (unsigned)(number >> 32), (unsigned)purpose, (unsigned)(purpose >> 32)};
    unsigned k0 = (unsigned)key, k1 = (unsigned)(key >> 32);
    for (int i = 0; i < 10; ++i) {
      unsigned high0 = __umulhi(c[0], 0xd2511f53u), low0 = c[0] * 0xd2511f53u;
      unsigned high1 = __umulhi(c[2], 0xcd9e8d57u), low1 = c[2] * 0xcd9e8d57u;
      c[0] = high1 ^ c[1] ^ k0;
      c[1] = low1;
      c[2] = high0 ^ c[3] ^ k1;
      c[3] = low0;
      k0 += 0x9e3779b9u;
      k1 += 0xbb67ae85u;
    }
    for (int i = 0; i < 8; ++i) {  // a byte of `kept` for each 16 bits
      kept |= (unsigned long long)((c[i / 2] >> 16 * (i % 2) & 0xffff) >= threshold) << 8 * i;
    }
    if (8 * block + 8 <= n && (unsigned long long)out % 8 == 0) {
      *(unsigned long long*)(out + 8 * block) = kept;
    } else {
      for (int i = 0; i < 8 && 8 * block + i < n; ++i) out[8 * block + i] = kept >> 8 * i;
    }
  }
}
"""
)


def _is_mask(shape: tuple[int, ...], out: Any) -> bool:
    return out is None or (out.dtype == _UINT8 and out.shape == tuple(shape) and out.flags.c_contiguous)


@override(reference.dropout_mask, "gpu", when=_is_mask)
def dropout_mask(k: Kernels, key: int, counter: int, shape: tuple[int, ...], rate: float, out: Any = None) -> Any:
    out = k.empty(shape, _UINT8) if out is None else out
    blocks = each(reference.blocks_for("dropout_mask", out.size))
    arguments = (out, *_keys(key), *counted(counter), reference.mask_threshold(rate), out.size)
    launch(k, _MASKS, "dropout_mask", _FLOAT32, blocks, THREADS, arguments)
    return out
