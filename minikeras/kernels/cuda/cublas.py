"""Products by cuBLASLt, called by ctypes in the library that CuPy has loaded.

CuPy's own products refuse to be captured in a CUDA graph (cupy issue 6290), and another algorithm may round in
another way: so a step that is to give the same bits as its program has products of this binding both times.  What a
product needs besides its arrays (handle, workspace, descriptors, and the algorithm that the library's heuristics
choose) is made once for each kind of product, and never while a step is captured: one in which a kind is met for the
first time is not recorded.

Numbers and names are those of the headers cublas_api.h and cublasLt.h of CUDA 12 and 13.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from ctypes import byref, c_double, c_float, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any, NamedTuple

from minikeras.kernels.arena import current
from minikeras.kernels.cuda import turned_off

_TYPES = {"f": 0, "d": 1, "e": 2, "E": 14}  # cudaDataType: CUDA_R_32F, _64F, _16F, _16BF
_SINGLE, _TF32, _DOUBLE = 68, 77, 70  # cublasComputeType: CUBLAS_COMPUTE_32F, _32F_FAST_TF32, _64F
_TRANSA, _TRANSB, _EPILOGUE, _BIAS = 3, 4, 7, 8  # cublasLtMatmulDescAttributes
_BATCH_COUNT, _BATCH_STRIDE = 5, 6  # cublasLtMatrixLayoutAttribute
_MOST_WORKSPACE, _ALIGNMENTS = 1, (5, 6, 7, 8)  # cublasLtMatmulPreferenceAttributes: of a, b, c and the result
ALONE, WITH_BIAS = 1, 4  # cublasLtEpilogue; its relu is no use, since it may make 0 of NaN
_WORKSPACE = 32 << 20  # bytes
_ALGORITHM = 64  # bytes of a cublasLtMatmulAlgo_t


class _Choice(ctypes.Structure):
    """A cublasLtMatmulHeuristicResult_t."""

    _fields_ = (
        ("algorithm", c_uint64 * (_ALGORITHM // 8)),
        ("workspace", c_size_t),
        ("state", c_int),
        ("waves", c_float),
        ("reserved", c_int * 4),
    )


class Kind(NamedTuple):
    """What decides how a product is made: `out = a @ b + bias` for matrices in rows, or stacks of such.

    Attributes:
        rows, columns, inner: of the result, and how many products each sum has.
        of_a, of_b, of_out: letters of the types.
        ta, tb: whether a and b lie transposed in memory.
        steps: of a, b and out, how many values lie between the beginnings of rows.
        batch: how many matrices; 0 for one that is not in a stack.
        gaps: of a, b and out, how many values lie between the beginnings of matrices.
        epilogue: `ALONE` or `WITH_BIAS`.
        tf32: whether float32 may be rounded to 10 bits before it is multiplied.
        alignments: of a, b and out, which power of two their addresses are a multiple of, up to 16.
    """

    rows: int
    columns: int
    inner: int
    of_a: str
    of_b: str
    of_out: str
    ta: bool
    tb: bool
    steps: tuple[int, int, int]
    batch: int = 0
    gaps: tuple[int, int, int] = (0, 0, 0)
    epilogue: int = ALONE
    tf32: bool = False
    alignments: tuple[int, int, int] = (16, 16, 16)


def find_library(xp: Any) -> Any:
    """The library, which CuPy loads with its cuBLAS.

    Raises:
        OSError: there is none.
    """
    xp.cuda.device.get_cublas_handle()
    name = "cublasLt64_{}.dll" if os.name == "nt" else "libcublasLt.so.{}"
    return ctypes.CDLL(name.format(xp.cuda.runtime.runtimeGetVersion() // 1000))


class CublasLt:
    """The library's products on one device."""

    def __init__(self, xp: Any, library: Any = None):
        self._xp = xp
        self._library = find_library(xp) if library is None else library
        self._handle = c_void_p()
        self._call("cublasLtCreate", byref(self._handle))
        self._workspace = xp.empty(_WORKSPACE, "uint8")
        self._prepared: dict[Kind, _Product] = {}

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise RuntimeError(f"cuBLASLt's {name} failed with status {status}; see cublasStatus_t in its manual.")

    def multiply(self, kind: Kind, a: Any, b: Any, out: Any, bias: Any = None) -> None:
        """Let the device make a product of arrays of which `kind` says how they lie."""
        product = self._prepared.get(kind)
        recording = current.recording
        if product is None:
            if recording is not None:
                recording.put_off(f"a product of {kind.rows} x {kind.inner} by {kind.columns}")
            product = self._prepared[kind] = self._prepare(kind)
        pointers = [None if one is None else c_void_p(one.data.ptr) for one in (a, b, out, bias)]
        if recording is not None:
            recording.multiplied(kind, (a, b, out, bias), lambda: self._multiply(product, pointers))
        self._multiply(product, pointers)

    def _multiply(self, product: _Product, pointers: Sequence[Any]) -> None:
        a, b, out, bias = pointers
        if bias is not None:
            self._call("cublasLtMatmulDescSetAttribute", product.description, c_int(_BIAS), byref(bias), c_size_t(8))
        # the library counts in columns: the transposed result is the product of the transposed matrices, turned around
        first, second, result = product.layouts
        self._call(
            "cublasLtMatmul", self._handle, product.description, byref(product.one), b, first, a, second,
            byref(product.zero), out, result, out, result, byref(product.algorithm),
            c_void_p(self._workspace.data.ptr), c_size_t(_WORKSPACE), c_void_p(self._xp.cuda.get_current_stream().ptr),
        )  # fmt: skip

    def _prepare(self, kind: Kind) -> _Product:
        single = kind.of_out != "d"
        description, preference = c_void_p(), c_void_p()
        compute = (_TF32 if kind.tf32 else _SINGLE) if single else _DOUBLE
        scale = _TYPES["f" if single else "d"]
        self._call("cublasLtMatmulDescCreate", byref(description), c_int(compute), c_int(scale))
        for attribute, value in ((_TRANSA, kind.tb), (_TRANSB, kind.ta), (_EPILOGUE, kind.epilogue)):
            told = c_int32(int(value))
            self._call("cublasLtMatmulDescSetAttribute", description, c_int(attribute), byref(told), c_size_t(4))
        shapes = ((kind.inner, kind.columns), (kind.rows, kind.inner), (kind.rows, kind.columns))
        turned = kind.tb, kind.ta, False
        places = 1, 0, 2  # b stands first
        layouts = [
            self._layout(letter, shape[::-1] if turn else shape, kind.steps[place], kind.batch, kind.gaps[place])
            for letter, shape, turn, place in zip(
                (kind.of_b, kind.of_a, kind.of_out), shapes, turned, places, strict=True
            )
        ]
        self._call("cublasLtMatmulPreferenceCreate", byref(preference))
        most = c_uint64(_WORKSPACE)
        self._call("cublasLtMatmulPreferenceSetAttribute", preference, c_int(_MOST_WORKSPACE), byref(most), c_size_t(8))
        of_a, of_b, of_out = kind.alignments
        for attribute, value in zip(_ALIGNMENTS, (of_b, of_a, of_out, of_out), strict=True):
            number = c_uint32(value)
            self._call("cublasLtMatmulPreferenceSetAttribute", preference, c_int(attribute), byref(number), c_size_t(4))
        choice, found = _Choice(), c_int()
        asked = self._handle, description, *layouts, layouts[2], preference, c_int(1), byref(choice), byref(found)
        self._call("cublasLtMatmulAlgoGetHeuristic", *asked)
        self._call("cublasLtMatmulPreferenceDestroy", preference)
        if not found.value:
            raise RuntimeError(f"cuBLASLt knows no way to make the product {kind}; report it, please.")
        factor = c_float if single else c_double
        return _Product(description, tuple(layouts), choice.algorithm, factor(1), factor(0))

    def _layout(self, letter: str, shape: Sequence[int], step: int, batch: int, gap: int) -> Any:
        """That of a matrix of so many rows and columns, which for the library are columns and rows."""
        layout = c_void_p()
        rows, columns = c_uint64(shape[1]), c_uint64(shape[0])
        self._call("cublasLtMatrixLayoutCreate", byref(layout), c_int(_TYPES[letter]), rows, columns, c_int64(step))
        if batch:
            count, distance = c_int32(batch), c_int64(gap)
            self._call("cublasLtMatrixLayoutSetAttribute", layout, c_int(_BATCH_COUNT), byref(count), c_size_t(4))
            self._call("cublasLtMatrixLayoutSetAttribute", layout, c_int(_BATCH_STRIDE), byref(distance), c_size_t(8))
        return layout


class _Product(NamedTuple):
    description: Any
    layouts: tuple[Any, ...]  # of b, a and the result
    algorithm: Any
    one: Any
    zero: Any


_bindings: dict[Any, CublasLt | None] = {}


def binding(xp: Any) -> CublasLt | None:
    """That of the device in use, or None where the library is missing or turned off: CuPy's products serve then."""
    if turned_off.reason("cublaslt"):
        return None
    device = xp, xp.cuda.runtime.getDevice()
    if device not in _bindings:
        try:
            _bindings[device] = CublasLt(xp)
        except OSError:
            _bindings[device] = None
    return _bindings[device]
