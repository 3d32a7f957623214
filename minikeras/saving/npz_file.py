"""Weights in `.npz` files: NumPy's archives, with the paths that arrays have in `.weights.h5` files as their names."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from minikeras.saving.hdf5_reader import Store, StoredArray
from minikeras.saving.state import State
from minikeras.utils.bounded import DAMAGE, Zip, array_header


class NpzReader(AbstractContextManager):
    """An `.npz` file, of which each array is read when it is asked for; nothing is unpickled.

    Attributes:
        listed: the arrays in order where `numpy.savez("w.npz", *model.get_weights())` wrote them; else empty.

    Raises:
        ValueError: for a file that is damaged, or holds anything but numbers.
    """

    def __init__(self, file: Any, label: str, limit: int | None = None):
        self.label = label
        try:
            self._archive = Zip(file, limit)
            found = [self._member(info) for info in self._archive.infolist()]
        except (*DAMAGE, OSError) as error:
            raise ValueError(f"{label!r} cannot be read: {error}.") from error
        self._members = {one.path: one for one in found}
        names = [f"arr_{i}" for i in range(len(found))]
        self.listed = [self._members[name] for name in names] if self._members.keys() == set(names) else []
        self._groups: dict[str, dict[str, StoredArray]] = {}
        for one in found:
            place, _, name = one.path.rpartition("/")
            self._groups.setdefault(place, {})[name] = one

    def _member(self, info: zipfile.ZipInfo) -> StoredArray:
        name = info.filename.removesuffix(".npy")
        self._archive.check(info)
        with self._archive.open(info) as file:
            shape, dtype = array_header(file, info.file_size, name)
        if dtype.kind not in "biuf":
            raise ValueError(f"{name!r} holds {dtype} and no numbers; nothing is unpickled, use .weights.h5 instead")
        return StoredArray(self, name, shape, dtype)

    def __exit__(self, *error: object) -> None:
        self._archive.close()

    def arrays(self) -> Iterator[StoredArray]:
        """All arrays, not yet read."""
        yield from self._members.values()

    def store(self, path: str) -> Store:
        """The variables at a path; none where the file has nothing there."""
        found = self._groups.get(f"{path}/vars" if path else "vars", {})
        return Store(found, found.__getitem__)

    def read(self, found: StoredArray) -> np.ndarray:
        """The numbers of an array."""
        try:
            content = io.BytesIO(self._archive.contents(f"{found.path}.npy"))
            return np.lib.format.read_array(content, allow_pickle=False)
        except (*DAMAGE, OSError) as error:
            raise ValueError(f"{self.label!r} is damaged at {found.path!r}: {error}.") from error


def write_npz(file: Any, state: State) -> None:
    """Write arrays by their paths; bfloat16, which NumPy cannot name in a file, as the same numbers in float32."""
    arrays = {f"{place}/{name}": np.asarray(value) for place, group in state for name, value in group.items()}
    narrow = {name: value.astype("float32") for name, value in arrays.items() if value.dtype.name == "bfloat16"}
    with open(file, "wb") as stream:
        np.savez(stream, **{**arrays, **narrow})  # type: ignore[arg-type]
