"""HDF5 files read as data: no link is followed, no array stored elsewhere is read, none larger than its bytes allow."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from minikeras.config import standardize_dtype

_LARGEST_EXPANSION = 1000  # how much larger than its bytes in the file an array may be; compression reaches about 1000
_FREE_BYTES = 1 << 20  # whatever is smaller may be so for all that


class WeightsReader:
    """An HDF5 file that is read without following links out of it.

    Raises:
        ValueError: for a file that is damaged or of another kind.
    """

    def __init__(self, file: Any, label: str):
        import h5py

        self._h5py, self._label = h5py, label
        self.label = label
        try:
            self.root = h5py.File(file, "r")
        except OSError as error:
            raise ValueError(f"{label!r} is damaged or holds no weights: {error}.") from error

    def __enter__(self) -> WeightsReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.root.close()

    def store(self, path: str) -> Store:
        """The variables at a path; none where the file has nothing there."""
        return Store(self, self.group(self.root, f"{path}/vars" if path else "vars"))

    def group(self, group: Any, path: str) -> Any:
        """The group at a path below a group, None where there is none; each step is looked at before it is taken."""
        for part in path.split("/"):
            group = None if group is None else self.member(group, part, self._h5py.Group)
        return group

    def array(self, group: Any, path: str) -> Any:
        """The array at a path below a group, not yet read.

        Raises:
            ValueError: where there is none.
        """
        folder, _, name = path.rpartition("/")
        group = self.group(group, folder) if folder else group
        if group is None or self.member(group, name, self._h5py.Dataset) is None:
            raise ValueError(f"{self._label!r} names an array {path!r} that it lacks.")
        return self.dataset(group, name)

    def words(self, group: Any, name: str) -> list[str]:
        """The strings in an attribute, which may be cut into `name0`, `name1`, ...; none where there is none."""
        cut = itertools.takewhile(group.attrs.__contains__, (f"{name}{i}" for i in itertools.count()))
        found = [one for part in ([name] if name in group.attrs else cut) for one in np.ravel(group.attrs[part])]
        words = [one.decode("utf-8", "replace") if isinstance(one, bytes) else one for one in found]
        if not all(isinstance(word, str) for word in words):
            raise ValueError(f"{self._label!r} should have words as {name!r} of {group.name}, got {words!r:.80}.")
        return words

    def member(self, group: Any, name: str, kind: type) -> Any:
        """A member of a group, None where there is none.

        Raises:
            ValueError: where it is a link to another place or file, or not of that kind.
        """
        link = group.get(name, getlink=True) if name != "." else None
        if link is None:
            return None
        if not isinstance(link, self._h5py.HardLink):
            raise ValueError(f"{self._label!r} holds a link at {group.name}/{name}, which is not followed.")
        found = group.get(name)
        if not isinstance(found, kind):
            raise ValueError(f"{self._label!r} should have a {kind.__name__} at {group.name}/{name}, got {found!r}.")
        return found

    def dataset(self, group: Any, name: str) -> Any:
        """An array of a group, not yet read.

        Raises:
            ValueError: where it is stored elsewhere, holds no numbers, or claims far more than its bytes in the file.
        """
        found = self.member(group, name, self._h5py.Dataset)
        if found is None:
            raise KeyError(name)
        place = f"The array {found.name} of {self._label!r}"
        if found.external or found.is_virtual:
            raise ValueError(f"{place} is stored in another file, which is not read.")
        is_number = found.dtype.kind in "biuf" or self.holds_bfloat16(found)
        if found.shape is None or not is_number:
            raise ValueError(f"{place} should hold numbers, got the type {found.dtype}.")
        size = math.prod(found.shape) * found.dtype.itemsize
        if size > _FREE_BYTES + _LARGEST_EXPANSION * found.id.get_storage_size():
            raise ValueError(f"{place} claims {size} bytes, far more than the file holds.")
        return found

    def holds_bfloat16(self, found: Any) -> bool:
        """Whether the pairs of bytes in an array are bfloat16, as an attribute says."""
        return found.dtype == np.dtype("V2") and found.attrs.get("dtype") == "bfloat16"

    def count_entries(self) -> int:
        """The number of entries of all arrays together."""
        total = 0

        def add(name: str, found: Any) -> None:
            nonlocal total
            if isinstance(found, self._h5py.Dataset):
                total += math.prod(self.dataset(found.parent, found.name.rsplit("/", 1)[1]).shape)

        self.root.visititems(add)
        return total


class Store:
    """What `load_own_variables` reads from: one object's arrays by name."""

    def __init__(self, reader: WeightsReader, group: Any):
        self._reader, self._group = reader, group

    def keys(self) -> list[str]:
        return [] if self._group is None else list(self._group.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, name: str) -> bool:
        return name in self.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an array, which is not read for it."""
        return self._reader.dataset(self._group, name).shape

    def __getitem__(self, name: str) -> np.ndarray:
        if self._group is None:
            raise KeyError(name)
        found = self._reader.dataset(self._group, name)
        values = np.asarray(found[()])
        return values.view(standardize_dtype("bfloat16")) if self._reader.holds_bfloat16(found) else values
