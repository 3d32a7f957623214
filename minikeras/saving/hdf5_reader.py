"""HDF5 files read as data: no link is followed, no array stored elsewhere is read, none larger than its bytes allow."""

from __future__ import annotations

import itertools
import math
import mmap
import reprlib
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from minikeras.config import standardize_dtype
from minikeras.saving.hdf5_arrays import SUM, checksum
from minikeras.utils.bounded import Allowance, reason, size_of

DEEPEST = 200  # groups within groups; the deepest of honest models have some dozens
_GZIP, _SHUFFLE, _FLETCHER32, _LZF = 1, 2, 3, 32000  # the filters of chunks that are known here
_LZF_LENGTH = 2  # where LZF is told how many bytes come out
_HEAP = b"GCOL\1\0\0\0"
LINK, SAME = object(), object()  # stand for a link to another place or file, and for what has been met before
_TRAILER = 4  # bytes that a checksum adds to a chunk


class WeightsReader(AbstractContextManager):
    """An HDF5 file that is read without following links out of it, and without taking more than its size allows.

    Args:
        file: its path, or an open file.
        label: what messages call it.
        limit: bytes that its arrays may take together; see `Allowance`.

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
        if self.ask(self.root.id.get_create_plist).get_sizes() != (8, 8):
            raise ValueError(f"{label!r} has addresses of an unusual size, which is not read.")

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
            raise self._damaged(reason(error)) from error

    def _damaged(self, why: str) -> ValueError:
        return ValueError(f"{self.label!r} is damaged: {why}.")

    def store(self, path: str) -> Store:
        """The variables at a path; none where the file has nothing there."""
        return self.variables(self.group(self.root, f"{path}/vars" if path else "vars"))

    def variables(self, group: Any) -> Store:
        """The arrays of a group; none where there is no group."""
        return Store() if group is None else Store(self.names(group), lambda name: self.array(group, name))

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
        cut = iter(self.attribute(group, f"{name}{i}") for i in itertools.count())
        parts = [whole] if whole is not None else itertools.takewhile(lambda part: part is not None, cut)
        found = [one for part in parts for one in np.ravel(part)]
        words = [one.decode("utf-8", "replace") if isinstance(one, bytes) else one for one in found]
        if not all(isinstance(word, str) for word in words):
            wrong = f"{name!r} of {group.name!r}, got {reprlib.repr(words)}"
            raise ValueError(f"{self.label!r} should have words as {wrong}.")
        return words

    def attribute(self, holder: Any, name: str) -> Any:
        """The string, the number, or the array of these in an attribute of a group or array; None where there is none.

        Raises:
            ValueError: for another kind, or one that is larger than the file allows.
        """
        attributes = self.ask(getattr, holder, "attrs")  # of a file those of its first group, which is opened for it
        if not self.ask(attributes.__contains__, name):
            return None
        found = self.ask(attributes.get_id, name)
        kind, shape = self.ask(found.get_type), self.ask(getattr, found, "shape")
        place = f"the attribute {name!r} of {holder.name!r}"
        h5t = self._h5py.h5t
        if shape is None or kind.get_class() not in (h5t.STRING, h5t.INTEGER, h5t.FLOAT, h5t.ENUM):
            raise ValueError(f"{self.label!r} should have words or numbers in {place}, got another kind.")
        count, of_any_length = math.prod(shape), kind.get_class() == h5t.STRING and kind.is_variable_str()
        self._spend(count * (self._longest_text if of_any_length else kind.get_size()), place, place)
        return self.ask(attributes.__getitem__, name)

    @cached_property
    def _longest_text(self) -> int:
        """Bytes of the longest text that lies outside of its attribute: all texts of an attribute may be the same one.

        Such texts lie in heaps, one after the other.  HDF5 does not come back from one that does not go on.
        """
        if hasattr(self._file, "getvalue"):
            return self._check_heaps(self._file.getvalue())
        with open(self._file, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return self._check_heaps(content)

    def _check_heaps(self, content: Any) -> int:
        longest, at = 0, content.find(_HEAP)
        while at >= 0:
            end = at + int.from_bytes(content[at + 8 : at + 16], "little")
            text = at + 16
            while text + 16 <= min(end, self._size):
                number, length = struct.unpack("<H6xQ", content[text : text + 16])
                longest = max(longest, length if number else 0)
                step = 16 + -(-length // 8) * 8 if number else length  # what has no number is free to the end
                if not step:
                    raise self._damaged(f"its heap at byte {at} goes on nowhere")
                text += step
            at = content.find(_HEAP, at + 1)
        return min(longest, self._size)

    def member(self, group: Any, name: str, kind: type) -> Any:
        """A member of a group, None where there is none.

        Raises:
            ValueError: where it is a link to another place or file, or not of that kind.
        """
        found = None if name in ("", ".") else self.ask(self._open, group, name)
        if found is not None and not isinstance(found, kind):
            path, got = _path(group, name), type(found).__name__
            if found is LINK:
                raise ValueError(f"{self.label!r} holds a link at {path!r}, which is not followed.")
            raise ValueError(f"{self.label!r} should have a {kind.__name__} at {path!r}, got a {got}.")
        return found

    def _open(self, group: Any, name: str) -> Any:
        """A member of a group, `LINK` for a link to another place, None where there is none."""
        h5py, links, key = self._h5py, group.id.links, name.encode("utf-8", "surrogateescape")
        if not links.exists(key):
            return None
        if links.get_info(key).type != h5py.h5l.TYPE_HARD:
            return LINK
        found = h5py.h5o.open(group.id, key)
        kinds = {h5py.h5g.GroupID: h5py.Group, h5py.h5d.DatasetID: h5py.Dataset}
        return kinds.get(type(found), type)(found)

    def dataset(self, group: Any, name: str) -> StoredArray | None:
        """An array of a group, not yet read; None where there is none.

        Raises:
            ValueError: where it is stored elsewhere, holds no numbers, or claims far more than its bytes in the file.
        """
        found = self.member(group, name, self._h5py.Dataset)
        return None if found is None else self._stored(found, _path(group, name))

    def _stored(self, found: Any, path: str) -> StoredArray:
        place = f"The array {path!r} of {self.label!r}"
        is_elsewhere, dtype, shape, chunks, filters = self.ask(self._facts, found)
        if is_elsewhere:
            raise ValueError(f"{place} is stored in another file, which is not read.")
        is_bfloat16 = dtype == "V2" and self.attribute(found, "dtype") == "bfloat16"
        if shape is None or dtype is None or not (is_bfloat16 or dtype.kind in "biuf"):
            got = "another kind" if dtype is None or shape is None else f"the type {dtype}"
            raise ValueError(f"{place} should hold numbers, got {got}.")
        settings = {code: setting for code, _, setting, _ in filters}
        if len(settings) < len(filters) or not settings.keys() <= {_GZIP, _SHUFFLE, _FLETCHER32, _LZF}:
            raise ValueError(f"{place} is compressed in an unusual way (filters {[*settings]}), which is not read.")
        chunk = math.prod(chunks) * dtype.itemsize if chunks else 0
        self._spend(math.prod(shape) * dtype.itemsize + chunk, path, f"the array {path!r}")
        count = math.prod(-(-whole // part) for whole, part in zip(shape, chunks, strict=True)) if chunks else 0
        if settings.get(_LZF, [0] * 3)[_LZF_LENGTH] > chunk or count > self._size:
            raise ValueError(f"{place} claims {count} chunks of {chunk} bytes, far more than the file holds.")
        return StoredArray(self, path, shape, dtype, found, chunk if _GZIP in settings else None)

    def _facts(self, found: Any) -> tuple[bool, Any, Any, Any, list[tuple]]:
        """Whether an array is stored elsewhere, its type if it may be one of numbers, shape, chunks and filters."""
        h5d, h5t, h5s = self._h5py.h5d, self._h5py.h5t, self._h5py.h5s
        properties, kind = found.id.get_create_plist(), found.id.get_type()
        layout = properties.get_layout()
        may_be_numbers = kind.get_class() in (h5t.INTEGER, h5t.FLOAT, h5t.ENUM)
        may_be_numbers |= kind.get_class() == h5t.OPAQUE and kind.get_size() == 2
        return (
            layout == h5d.VIRTUAL or properties.get_external_count() > 0,
            kind.dtype if may_be_numbers else None,
            None if found.id.get_space().get_simple_extent_type() == h5s.NULL else found.id.shape,
            properties.get_chunk() if layout == h5d.CHUNKED else None,
            [properties.get_filter(index) for index in range(properties.get_nfilters())],
        )

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
        wanted = self.ask(self._sum, stored.found)
        if wanted is not None and wanted != checksum(stored.path, stored.dtype, values):
            why = f"the values of {stored.path!r} are not those that were written, by their sum"
            raise self._damaged(f"{why} (if they were changed on purpose, delete its attribute {SUM!r})")
        return values.view(standardize_dtype("bfloat16")) if stored.dtype.kind == "V" else values

    def _sum(self, found: Any) -> int | None:
        """The sum of an array that is written with it, None where there is none."""
        if not self._h5py.h5a.exists(found.id, SUM.encode()):
            return None
        attribute, number = self._h5py.h5a.open(found.id, SUM.encode()), np.zeros((), np.uint32)
        if attribute.shape == ():
            attribute.read(number)
        return int(number)

    def arrays(self) -> Iterator[StoredArray]:
        """All arrays of the file, each once, not yet read."""
        for path, found in self.entries():
            if isinstance(found, self._h5py.Dataset):
                yield self._stored(found, path)

    def entries(self) -> Iterator[tuple[str, Any]]:
        """The path of each entry of the file, and what it is for h5py.

        LINK is one that leads elsewhere, SAME what another path led to before.
        """
        seen = {self._address(self.root)}
        waiting = [(self.root, 0)]
        while waiting:
            group, depth = waiting.pop()
            if depth > DEEPEST:
                raise ValueError(f"{self.label!r} has groups within groups, {DEEPEST} of them are the most.")
            for name in self.names(group):
                found = self.ask(self._open, group, name)
                if isinstance(found, (self._h5py.Group, self._h5py.Dataset)):
                    place = self._address(found)
                    found = SAME if place in seen else found
                    seen.add(place)
                yield _path(group, name), found
                if isinstance(found, self._h5py.Group):
                    waiting.append((found, depth + 1))

    def _address(self, thing: Any) -> int:
        return self.ask(self._h5py.h5o.get_info, thing.id).addr


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


@dataclass(frozen=True, eq=False, slots=True)
class StoredArray:
    """An array of a file, not yet read: `array.shape`, `array.dtype`, and its values by `array[()]`.

    Attributes:
        found: the file's own object for it.
        chunk: bytes of a chunk that gzip compressed, None where none is.
    """

    reader: Any
    path: str
    shape: tuple[int, ...]
    dtype: np.dtype
    found: Any = None
    chunk: int | None = None

    def __getitem__(self, everything: tuple[()]) -> np.ndarray:
        return self.reader.read(self)


class Store(Mapping[str, np.ndarray]):
    """What `load_own_variables` reads from: one object's arrays by name.

    Args:
        names: of the arrays.
        find: the array of a name, not yet read.
    """

    def __init__(self, names: Iterable[str] = (), find: Callable[[str], StoredArray] | None = None):
        self._names, self._find = list(names), find

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __contains__(self, name: object) -> bool:  # that of mappings would read the array
        return name in self._names

    def stored(self, name: str) -> StoredArray:
        """An array, not yet read."""
        if name not in self._names or self._find is None:
            raise KeyError(name)
        return self._find(name)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.stored(name)[()]
