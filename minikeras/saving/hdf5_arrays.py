"""Arrays in HDF5 files, with sums by which damage shows when they are read.

Large arrays are stored in chunks with HDF5's own checksum (fletcher32), which whoever reads them verifies.  It says
nothing about where an array lies, what its bytes mean, or small arrays; so each has a sum of ours in an attribute
besides, that covers its path, type, shape and values, and that Keras passes over.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

SUM = "crc32"  # the name of the attribute
_WORTH_CHUNKS = 1 << 16  # bytes from which an array is stored in chunks: their index takes some 3 KB
_CHUNK = 1 << 20  # bytes of a chunk, about


@contextmanager
def new_file(file: Path | io.BytesIO) -> Iterator[Any]:
    """A new HDF5 file, at a path where there is an empty one, or in memory.

    Raises:
        OSError: where the disk takes no more; HDF5 by itself would end the process over that.
    """
    import h5py

    if isinstance(file, io.BytesIO):
        with h5py.File(file, "w") as root:
            yield root
        return
    with open(file, "rb+", buffering=0) as disk:
        patient = _Patient(disk)
        try:
            with h5py.File(patient, "w") as root:
                yield root
        finally:
            if patient.error is not None:
                raise patient.error


class _Patient:
    """A file that remembers what the disk refused, and goes on as if nothing had happened."""

    def __init__(self, disk: Any):
        self._disk, self.error = disk, None

    def write(self, content: Any) -> int:
        rest = memoryview(content)
        while rest and self.error is None:
            rest = rest[self._try(self._disk.write, rest) or 0 :]
        return len(content)

    def truncate(self, size: int) -> None:
        self._try(self._disk.truncate, size)

    def _try(self, function: Callable, argument: Any) -> Any:
        try:
            return function(argument)
        except OSError as error:
            self.error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._disk, name)


def write_array(group: Any, name: str, values: Any) -> Any:
    """Write an array into a group; the HDF5 dataset.

    Args:
        group: the group, of a file that is being written.
        name: the array's name there, which may have folders.
        values: the array; bfloat16 is marked by an attribute `dtype`, as Keras does.
    """
    import h5py

    array = np.asarray(values)
    in_chunks = dict(chunks=_chunks(array.shape, array.dtype.itemsize), fletcher32=True)
    stored = group.create_dataset(name, data=array, **(in_chunks if array.nbytes >= _WORTH_CHUNKS else {}))
    if array.dtype.name == "bfloat16":  # for HDF5 two bytes that mean nothing
        stored.attrs["dtype"] = "bfloat16"
    attribute = h5py.h5a.create(stored.id, SUM.encode(), h5py.h5t.STD_U32LE, h5py.h5s.create(h5py.h5s.SCALAR))
    attribute.write(np.array(checksum(stored.name, stored.dtype, array), np.uint32))
    return stored


def checksum(path: str, dtype: np.dtype, array: np.ndarray) -> int:
    """The sum of an array that lies at that path of a file, with that type there."""
    content: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return zlib.crc32(content, zlib.crc32(f"{path} {dtype.str} {array.shape}".encode("utf-8", "surrogateescape")))


def _chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """A shape of chunks of about a megabyte, of whole rows, the last hardly smaller than the others."""
    row = itemsize * math.prod(shape)
    for axis, size in enumerate(shape):
        row //= size
        if row <= _CHUNK:
            pieces = max(1, round(row * size / _CHUNK))
            return (1,) * axis + (math.ceil(size / pieces),) + shape[axis + 1 :]
    return shape
