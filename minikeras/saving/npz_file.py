"""Weights in `.npz` files: NumPy's archives, with the paths that arrays have in `.weights.h5` files as their names."""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from minikeras.saving.archive import DAMAGE, read_member

_LARGEST_HEADER = 10_000  # bytes
_LISTED = re.compile(r"arr_(\d+)")  # what numpy.savez calls arrays without a name


@dataclass(frozen=True)
class Member:
    """An array in the archive that is not yet read."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype


class NpzReader:
    """An `.npz` file, of which each array is read when it is asked for; nothing is unpickled.

    Raises:
        ValueError: for a file that is damaged, or holds anything but numbers.
    """

    def __init__(self, file: Any, label: str):
        self._label = label
        self._members: dict[str, Member] = {}
        self._stores: dict[str, dict[str, tuple[Any, Member]]] = {}
        try:
            self._archive = zipfile.ZipFile(file)
            for info in self._archive.infolist():
                name = info.filename.removesuffix(".npy")
                self._members[name] = found = self._member(name, info)
                folder, _, last = name.rpartition("/")
                self._stores.setdefault(folder, {})[last] = self, found
        except (*DAMAGE, ValueError) as error:
            raise ValueError(f"{label!r} cannot be read: {error}.") from error

    def _member(self, name: str, info: zipfile.ZipInfo) -> Member:
        with self._archive.open(info) as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file, max_header_size=_LARGEST_HEADER)
            size = info.file_size - file.tell()
        if dtype.kind not in "biuf":
            known = "; Keras's own weights_format='npz' pickles them, use .weights.h5" if dtype.hasobject else ""
            raise ValueError(f"{name!r} holds no numbers but {dtype}, which is never unpickled{known}")
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size:
            raise ValueError(f"{name!r} claims the shape {shape} of {dtype}, and has {size} bytes")
        return Member(name, shape, dtype)

    def __enter__(self) -> NpzReader:
        return self

    def __exit__(self, *error: object) -> None:
        self._archive.close()

    @property
    def listed(self) -> list[Member]:
        """The arrays in order where `numpy.savez("w.npz", *model.get_weights())` wrote them; none otherwise."""
        numbers = [match and int(match[1]) for match in map(_LISTED.fullmatch, self._members)]
        if sorted(number for number in numbers if number is not None) != list(range(len(numbers))):
            return []
        return [self._members[f"arr_{i}"] for i in range(len(numbers))]

    def arrays(self) -> Iterator[tuple[str, Member]]:
        """All arrays with their paths, not yet read."""
        yield from self._members.items()

    def read(self, found: Member) -> np.ndarray:
        """The numbers of an array."""
        try:
            content = io.BytesIO(read_member(self._archive, f"{found.name}.npy"))
            return np.lib.format.read_array(content, allow_pickle=False, max_header_size=_LARGEST_HEADER)
        except (*DAMAGE, ValueError) as error:
            raise ValueError(f"{self._label!r} is damaged at {found.name!r}: {error}.") from error

    def store(self, path: str) -> ArrayStore:
        """The variables at a path; none where the file has nothing there."""
        return ArrayStore(self._stores.get(f"{path}/vars" if path else "vars", {}))


class ArrayStore(Mapping):
    """What `load_own_variables` reads from: one object's arrays by name, each with the reader that it belongs to."""

    def __init__(self, arrays: dict[str, tuple[Any, Any]]):
        self._arrays = arrays

    def keys(self) -> list[str]:  # type: ignore[override]
        return list(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an array, which is not read for it."""
        return self._arrays[name][1].shape

    def __getitem__(self, name: str) -> np.ndarray:
        reader, found = self._arrays[name]
        return reader.read(found)


def write_npz(file: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by their paths; bfloat16, which NumPy cannot name in a file, as the same numbers in float32."""
    plain = {
        name: value.astype("float32") if value.dtype.name == "bfloat16" else value for name, value in arrays.items()
    }
    with open(file, "wb") as stream:
        np.savez(stream, **plain)  # type: ignore[arg-type]
