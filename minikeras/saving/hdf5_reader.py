"""HDF5 files read as data: no link is followed, no array stored elsewhere is read, none larger than its bytes allow."""

from __future__ import annotations

import itertools
import math
import mmap
import reprlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minikeras.config import standardize_dtype
from minikeras.saving.hdf5_arrays import SUM, checksum
from minikeras.utils.bounded import Allowance, size_of

_DEEPEST = 200  # groups within groups; the deepest of honest models have some dozens
_GZIP, _SHUFFLE, _FLETCHER32, _LZF = 1, 2, 3, 32000  # the filters of chunks that are known here
_LZF_LENGTH = 2  # where LZF is told how many bytes come out
_TRAILER = 4  # bytes that a checksum adds to a chunk


class WeightsReader:
    """An HDF5 file that is read without following links out of it, and without taking more than its size allows.

    Args:
        file: its path, or an open file.
        label: what messages call it.
        limit: bytes that its arrays may take together; by default a hundred times its size and 16 MiB.

    Raises:
        ValueError: for a file that is damaged or of another kind.
    """

    def __init__(self, file: Any, label: str, limit: int | None = None):
        import h5py

        self._h5py, self.label, self._file = h5py, label, file
        self._size = size_of(file)
        self._allowance = Allowance(self._size, limit)
        self._paid: set[str] = set()  # paths of the arrays that have been counted
        self.root = self.ask(h5py.File, file, "r")

    def __enter__(self) -> WeightsReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.root.close()

    def ask(self, function: Callable, *args: Any, **kwargs: Any) -> Any:
        """What a function of h5py answers, which at damage raises whatever the damage leads it to.

        Raises:
            ValueError: where it raises; it names the file.
        """
        try:
            return function(*args, **kwargs)
        except (FileNotFoundError, PermissionError, BlockingIOError, MemoryError):  # not of its content
            raise
        except Exception as error:
            raise self._damaged(" ".join(f"{error}".split())[:200] or type(error).__name__) from error

    def _damaged(self, why: str) -> ValueError:
        return ValueError(f"{self.label!r} is damaged: {why}.")

    def store(self, path: str) -> Store:
        """The variables at a path; none where the file has nothing there."""
        return Store(self, self.group(self.root, f"{path}/vars" if path else "vars"))

    def group(self, group: Any, path: str) -> Any:
        """The group at a path below a group, None where there is none; each step is looked at before it is taken."""
        for part in path.split("/"):
            group = None if group is None else self.member(group, part, self._h5py.Group)
        return group

    def names(self, group: Any) -> list[str]:
        """The names of a group's members."""
        return [one if isinstance(one, str) else one.decode("latin1") for one in self.ask(list, group)]

    def array(self, group: Any, path: str) -> StoredArray:
        """The array at a path below a group, not yet read.

        Raises:
            ValueError: where there is none.
        """
        folder, _, name = path.rpartition("/")
        group = self.group(group, folder) if folder else group
        found = None if group is None else self.dataset(group, name)
        if found is None:
            raise ValueError(f"{self.label!r} names an array {path!r} that it lacks.")
        return found

    def words(self, group: Any, name: str) -> list[str]:
        """The strings in an attribute, which may be cut into `name0`, `name1`, ...; none where there is none."""
        whole = self.attribute(group, name)
        cut = (self.attribute(group, f"{name}{i}") for i in itertools.count())
        parts = [whole] if whole is not None else itertools.takewhile(lambda part: part is not None, cut)
        words = [
            one.decode("utf-8", "replace") if isinstance(one, bytes) else one
            for part in parts
            for one in np.ravel(part)
        ]
        if not all(isinstance(word, str) for word in words):
            raise ValueError(
                f"{self.label!r} should have words as {name!r} of {group.name!r}, got {reprlib.repr(words)}."
            )
        return words

    def attribute(self, holder: Any, name: str) -> Any:
        """The string, the number, or the array of these in an attribute of a group or array; None where there is none.

        Raises:
            ValueError: for another kind, or one that is larger than the file allows.
        """
        if not self.ask(holder.attrs.__contains__, name):
            return None
        found = self.ask(holder.attrs.get_id, name)
        kind, shape = self.ask(found.get_type), self.ask(getattr, found, "shape")
        place = f"the attribute {name!r} of {holder.name!r}"
        h5t = self._h5py.h5t
        if shape is None or kind.get_class() not in (h5t.STRING, h5t.INTEGER, h5t.FLOAT, h5t.ENUM):
            raise ValueError(f"{self.label!r} should have words or numbers in {place}, got another kind.")
        count, of_any_length = math.prod(shape), kind.get_class() == h5t.STRING and kind.is_variable_str()
        self._spend(count * (self._longest_text(count) if of_any_length else kind.get_size()), place, place)
        return self.ask(holder.attrs.__getitem__, name)

    def _longest_text(self, count: int) -> int:
        """Bytes that one of the texts may have that lie outside of their attribute: all may be the same one."""
        if count <= 1:
            return self._size
        if hasattr(self._file, "getbuffer"):
            return self._largest_heap(self._file.getvalue())
        with open(self._file, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return self._largest_heap(content)

    def _largest_heap(self, content: Any) -> int:
        """The size of the largest collection of texts in a file, which says it after its signature."""
        largest, at = 0, content.find(b"GCOL")
        while at >= 0:
            largest = max(largest, int.from_bytes(content[at + 8 : at + 16], "little"))
            at = content.find(b"GCOL", at + 4)
        return min(largest, self._size)

    def member(self, group: Any, name: str, kind: type) -> Any:
        """A member of a group, None where there is none.

        Raises:
            ValueError: where it is a link to another place or file, or not of that kind.
        """
        if name in ("", ".") or not self.ask(group.id.links.exists, name.encode("utf-8", "surrogateescape")):
            return None
        path = _path(group, name)
        if not isinstance(self.ask(group.get, name, getlink=True), self._h5py.HardLink):
            raise ValueError(f"{self.label!r} holds a link at {path!r}, which is not followed.")
        found = self.ask(group.__getitem__, name)
        if not isinstance(found, kind):
            got = type(found).__name__
            raise ValueError(f"{self.label!r} should have a {kind.__name__} at {path!r}, got a {got}.")
        return found

    def dataset(self, group: Any, name: str) -> StoredArray | None:
        """An array of a group, not yet read; None where there is none.

        Raises:
            ValueError: where it is stored elsewhere, holds no numbers, or claims far more than its bytes in the file.
        """
        found = self.member(group, name, self._h5py.Dataset)
        if found is None:
            return None
        path = _path(group, name)
        place = f"The array {path!r} of {self.label!r}"
        properties = self.ask(found.id.get_create_plist)
        h5d, h5t = self._h5py.h5d, self._h5py.h5t
        if self.ask(properties.get_external_count) or self.ask(properties.get_layout) == h5d.VIRTUAL:
            raise ValueError(f"{place} is stored in another file, which is not read.")
        kind, shape = self.ask(found.id.get_type), self.ask(getattr, found, "shape")
        of_numbers = kind.get_class() in (h5t.INTEGER, h5t.FLOAT, h5t.ENUM)
        is_bfloat16 = kind.get_class() == h5t.OPAQUE and kind.get_size() == 2
        is_bfloat16 = is_bfloat16 and self.attribute(found, "dtype") == "bfloat16"
        dtype = self.ask(getattr, kind, "dtype") if of_numbers or is_bfloat16 else None
        if shape is None or dtype is None or not (is_bfloat16 or dtype.kind in "biuf"):
            raise ValueError(f"{place} should hold numbers, got another kind.")
        size, chunk = math.prod(shape) * dtype.itemsize, 0
        chunks = self.ask(getattr, found, "chunks")
        filters = self._filters(properties, place)
        if chunks is not None:
            chunk = math.prod(chunks) * dtype.itemsize
        self._spend(size + chunk, path, f"the array {path!r}")
        count = math.prod(-(-whole // part) for whole, part in zip(shape, chunks or shape, strict=True) if part)
        if filters.get(_LZF, [0] * 3)[_LZF_LENGTH] > chunk or count > self._size:
            raise ValueError(f"{place} claims {count} chunks of {chunk} bytes, far more than the file holds.")
        return StoredArray(self, found, path, shape, dtype, chunk if _GZIP in filters else None)

    def _filters(self, properties: Any, place: str) -> dict[int, tuple[int, ...]]:
        """The filters of an array's chunks by their codes, with their settings."""
        found = [self.ask(properties.get_filter, index) for index in range(self.ask(properties.get_nfilters))]
        filters = {code: settings for code, _, settings, _ in found}
        if len(filters) < len(found) or not filters.keys() <= {_GZIP, _SHUFFLE, _FLETCHER32, _LZF}:
            raise ValueError(f"{place} is compressed in an unusual way (filters {[*filters]}), which is not read.")
        return filters

    def _spend(self, nbytes: int, path: str, what: str) -> None:
        """Count the bytes of an array or attribute once."""
        if path not in self._paid:
            self._paid.add(path)
            try:
                self._allowance.spend(nbytes, what)
            except ValueError as error:
                raise ValueError(f"{self.label!r} is refused: {error}; pass a larger limit= if you trust it.") from None

    def read(self, stored: StoredArray) -> np.ndarray:
        """The values of an array, held against its sum where it has one."""
        if stored.chunk is not None:
            self.ask(_check_inflation, stored)
        values = np.asarray(self.ask(stored.found.__getitem__, ()))
        wanted = self.attribute(stored.found, SUM)
        if wanted is not None and wanted != checksum(stored.path, stored.dtype, values):
            why = f"the values of {stored.path!r} are not those that were written, by their sum"
            raise self._damaged(f"{why} (if they were changed on purpose, delete its attribute {SUM!r})")
        return values.view(standardize_dtype("bfloat16")) if stored.dtype.kind == "V" else values

    def arrays(self) -> Iterator[StoredArray]:
        """All arrays of the file, each once, not yet read."""
        waiting, seen = [(self.root, 0)], set()
        while waiting:
            group, depth = waiting.pop()
            if depth > _DEEPEST:
                raise ValueError(f"{self.label!r} has groups within groups, {_DEEPEST} of them are the most.")
            for name in self.names(group):
                if not isinstance(self.ask(group.get, name, getlink=True), self._h5py.HardLink):
                    continue
                found = self.ask(group.__getitem__, name)
                place = self.ask(self._h5py.h5o.get_info, found.id).addr
                if place in seen:
                    continue
                seen.add(place)
                if isinstance(found, self._h5py.Group):
                    waiting.append((found, depth + 1))
                elif isinstance(found, self._h5py.Dataset):
                    yield self.array(group, name)

    def count_entries(self) -> int:
        """The number of entries of all arrays together."""
        return sum(math.prod(stored.shape) for stored in self.arrays())


def _check_inflation(stored: StoredArray) -> None:
    """Raise ValueError if a chunk inflates to more than a chunk: HDF5 would take whatever comes."""
    places: list[tuple[int, ...]] = []
    stored.found.id.chunk_iter(lambda info: places.append(info.chunk_offset))
    most = (stored.chunk or 0) + _TRAILER
    for place in places:
        _, content = stored.found.id.read_direct_chunk(place)
        if len(zlib.decompressobj().decompress(content, most + 1)) > most:
            raise ValueError(f"a chunk of {stored.path!r} inflates to more than {most} bytes")


def _path(group: Any, name: str) -> str:
    return f"{group.name.rstrip('/')}/{name}"


class StoredArray:
    """An array of a file, not yet read: `array.shape`, `array.dtype`, and its values by `array[()]`."""

    __slots__ = ("_reader", "chunk", "dtype", "found", "path", "shape")

    def __init__(
        self, reader: WeightsReader, found: Any, path: str, shape: tuple[int, ...], dtype: np.dtype, chunk: int | None
    ):
        self._reader, self.found, self.path, self.shape, self.dtype = reader, found, path, shape, dtype
        self.chunk = chunk  # bytes of a chunk that gzip compressed, None where none is

    def __getitem__(self, everything: tuple[()]) -> np.ndarray:
        return self._reader.read(self)


class Store:
    """What `load_own_variables` reads from: one object's arrays by name."""

    def __init__(self, reader: Any, group: Any):
        self._reader, self._group = reader, group

    def keys(self) -> list[str]:
        return [] if self._group is None else self._reader.names(self._group)

    def __len__(self) -> int:
        return len(self.keys())

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, name: str) -> bool:
        return name in self.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an array, which is not read for it."""
        return self._reader.array(self._group, name).shape

    def __getitem__(self, name: str) -> np.ndarray:
        found = None if self._group is None else self._reader.dataset(self._group, name)
        if found is None:
            raise KeyError(name)
        return found[()]
