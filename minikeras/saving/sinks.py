"""Where variables are written to: arrays by the path of the group that they belong to."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np


class Hdf5Sink:
    """Writes arrays into a new HDF5 file.

    Args:
        stack: closes the file when it is closed.
        file: a path, or a stream.
    """

    def __init__(self, stack: ExitStack, file: Any):
        import h5py

        self.root = stack.enter_context(h5py.File(file, "w"))

    def group(self, place: str, name: str | None = None) -> Writer:
        """What the variables of an object are written to; `name` is what it is called.

        Args:
            place: the path of the group.
            name: kept in the group's attributes.
        """
        group = self.root.require_group(place)
        if name is not None:
            group.attrs["name"] = name
        return Writer(group)


class Writer:
    """What `save_own_variables` writes to: arrays by name."""

    def __init__(self, group: Any):
        self._group = group

    def __setitem__(self, name: str, value: Any) -> None:
        array = np.asarray(value)
        self._group[name] = array
        if array.dtype.name == "bfloat16":  # for HDF5 two bytes that mean nothing
            self._group[name].attrs["dtype"] = "bfloat16"


class NpzSink:
    """Collects arrays by their whole paths, to be written at once.

    Attributes:
        arrays: what was collected.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def group(self, place: str, name: str | None = None) -> _Collector:
        return _Collector(self.arrays, place)


class _Collector:
    def __init__(self, arrays: dict[str, np.ndarray], place: str):
        self._arrays, self._place = arrays, place

    def __setitem__(self, name: str, value: Any) -> None:
        self._arrays[f"{self._place}/{name}"] = np.asarray(value)
