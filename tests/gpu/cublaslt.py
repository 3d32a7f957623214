"""A stand-in for cuBLASLt's library, which reads the arguments of our binding and computes with NumPy in their memory.

It refuses what the library refuses, and what would be wrong on a device: heuristics and handles within a capture, an
algorithm that was chosen for something else, a result that is less aligned than was told, layouts that overlap.
"""

from __future__ import annotations

import ctypes
from typing import Any

import ml_dtypes
import numpy as np
from gpu import streams

_TYPES = {0: np.dtype("float32"), 1: np.dtype("float64"), 2: np.dtype("float16"), 14: np.dtype(ml_dtypes.bfloat16)}
_INVALID, _NOT_SUPPORTED = 7, 15  # cublasStatus_t
# what may be multiplied: (compute type, scale type, types of a, b and the result)
_SUPPORTED = {(68, 0), (77, 0), (70, 1)}


def _number(given: Any) -> int:
    return given.value or 0


class FakeCublasLt:
    """The functions that the binding calls, with ctypes' arguments."""

    def __init__(self) -> None:
        self._objects: list[dict[str, Any]] = [{}]
        self._algorithms: dict[int, tuple] = {}
        self.products = 0

    def _new(self, out: Any, **content: Any) -> int:
        self._objects.append(content)
        out._obj.value = len(self._objects) - 1
        return 0

    def _of(self, handle: Any) -> dict[str, Any]:
        return self._objects[_number(handle)]

    def cublasLtCreate(self, handle: Any) -> int:
        streams.forbid("cublasLtCreate")
        return self._new(handle, handle=True)

    def cublasLtMatmulDescCreate(self, out: Any, compute: Any, scale: Any) -> int:
        if (compute.value, scale.value) not in _SUPPORTED:
            return _INVALID
        return self._new(out, compute=compute.value, scale=scale.value, attributes={})

    def cublasLtMatmulDescSetAttribute(self, description: Any, attribute: Any, value: Any, size: Any) -> int:
        if size.value != ctypes.sizeof(value._obj):
            return _INVALID
        self._of(description)["attributes"][attribute.value] = value._obj.value
        return 0

    def cublasLtMatrixLayoutCreate(self, out: Any, kind: Any, rows: Any, columns: Any, step: Any) -> int:
        if step.value < rows.value:
            return _INVALID
        layout = {"type": kind.value, "rows": rows.value, "columns": columns.value, "step": step.value}
        return self._new(out, **layout, attributes={})

    cublasLtMatrixLayoutSetAttribute = cublasLtMatmulDescSetAttribute

    def cublasLtMatmulPreferenceCreate(self, out: Any) -> int:
        return self._new(out, attributes={})

    cublasLtMatmulPreferenceSetAttribute = cublasLtMatmulDescSetAttribute

    def cublasLtMatmulPreferenceDestroy(self, preference: Any) -> int:
        return 0

    def cublasLtMatmulAlgoGetHeuristic(
        self, handle: Any, description: Any, a: Any, b: Any, c: Any, d: Any, preference: Any, asked: Any, choice: Any,
        found: Any,
    ) -> int:  # fmt: skip
        streams.forbid("cublasLtMatmulAlgoGetHeuristic")
        if not self._of(handle).get("handle"):
            return _INVALID
        self._objects.append({})
        number = len(self._objects) - 1
        choice._obj.algorithm[0] = number
        limits = self._of(preference)["attributes"]
        self._algorithms[number] = self._stamp(description, a, b, c, d), limits
        found._obj.value = 1
        return 0

    def _stamp(self, description: Any, *layouts: Any) -> tuple:
        """What an algorithm was chosen for."""
        told = {name: value for name, value in self._of(description)["attributes"].items() if name != 8}
        return repr(told), *(repr(self._of(layout)) for layout in layouts)

    def cublasLtMatmul(
        self, handle: Any, description: Any, alpha: Any, a: Any, of_a: Any, b: Any, of_b: Any, beta: Any, c: Any,
        of_c: Any, d: Any, of_d: Any, algorithm: Any, workspace: Any, size: Any, stream: Any,
    ) -> int:  # fmt: skip
        stamp, limits = self._algorithms[algorithm._obj[0]]
        if stamp != self._stamp(description, of_a, of_b, of_c, of_d) or size.value < limits[1] or not workspace.value:
            return _NOT_SUPPORTED
        pointers = [_number(one) for one in (a, b, c, d)]
        if any(pointer % limits[place] for pointer, place in zip(pointers, (5, 6, 7, 8), strict=True)):
            return _INVALID
        if (stream.value or 0) != streams.get_current_stream().ptr or beta._obj.value:
            return _INVALID
        told = dict(self._of(description)["attributes"])
        first, second = (self._matrices(pointer, layout) for pointer, layout in ((a, of_a), (b, of_b)))
        first = first.swapaxes(-1, -2) if told.get(3) else first
        second = second.swapaxes(-1, -2) if told.get(4) else second
        out = self._matrices(d, of_d)
        if first.shape[:-1] + second.shape[-1:] != out.shape or first.shape[-1] != second.shape[-2]:
            return _INVALID
        bias = None
        if told[7] == 4:
            bias = _memory(told[8], out.shape[-2], out.dtype)
        elif told[7] != 1:
            return _NOT_SUPPORTED

        def run() -> None:
            wide = "float64" if out.dtype == "float64" else "float32"
            made = first.astype(wide) @ second.astype(wide)
            out[...] = made if bias is None else made + bias.astype(wide)[:, None]
            self.products += 1

        capture = streams.capturing()
        if capture is None:
            streams.catch_up()
            run()
        else:
            capture.nodes.append(run)
        return 0

    def _matrices(self, pointer: Any, layout: Any) -> np.ndarray:
        """A stack of matrices in columns."""
        told = self._of(layout)
        dtype, rows, columns, step = _TYPES[told["type"]], told["rows"], told["columns"], told["step"]
        batch, gap = told["attributes"].get(5, 1), told["attributes"].get(6, 0)
        size = (batch - 1) * gap + (columns - 1) * step + rows
        memory = _memory(_number(pointer), size, dtype)
        strides = [dtype.itemsize * one for one in (gap, 1, step)]
        return np.lib.stride_tricks.as_strided(memory, (batch, rows, columns), strides)


def _memory(pointer: int, size: int, dtype: Any) -> np.ndarray:
    memory = (ctypes.c_char * (size * dtype.itemsize)).from_address(pointer)
    return np.frombuffer(memory, dtype, size)
