"""Loading machine code: relocatable ELF objects under Linux on x86-64, by LLVM elsewhere.

The sections of an object are copied side by side, the addresses that it names are written in, and what is no data
becomes executable.  The code model of kernels is the large one: an address is 8 bytes wherever it is used.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
import sys
from functools import lru_cache
from typing import Any, NamedTuple

from minikeras.kernels.cpu.compiler.kinds import ENTRY
from minikeras.kernels.cpu.compiler.processor import SYSTEM
from minikeras.lazy import LazyModule

llvm = LazyModule("minikeras.kernels.cpu.compiler.llvm")

OWN = SYSTEM == "linux x86_64" and sys.maxsize > 1 << 32
_offered: dict[str, int] = {}


def offer(name: str, address: int) -> None:
    """Let code that is loaded from now on call the function at an address by a name."""
    if OWN:
        _offered[name] = address
    else:
        llvm.offer(name, address)


def load(code: bytes) -> int:
    """The address of the entry after its machine code has been loaded."""
    return _load(code) if OWN else int(llvm.load(code))


# ---- ELF objects (System V ABI, AMD64 Architecture Processor Supplement, chapter 4) ----------------------------------

_PROGBITS, _SYMBOLS, _RELOCATIONS, _NOBITS = 1, 2, 4, 8  # kinds of sections
_WRITE, _ALLOCATE = 1, 2  # flags of sections
_UNDEFINED, _ABSOLUTE, _COMMON = 0, 0xFFF1, 0xFFF2  # sections of symbols
# kinds of relocations: how the address is written, and whether it counts from where it is written
_KINDS = {1: ("<Q", False), 2: ("<i", True), 4: ("<i", True), 24: ("<q", True)}


class _Section(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry: int


def _table(code: bytes, section: _Section, form: str) -> list[tuple[Any, ...]]:
    return list(struct.iter_unpack(form, code[section.offset : section.offset + section.size]))


def _text(code: bytes, start: int) -> str:
    return code[start : code.index(b"\0", start)].decode()


def _load(code: bytes) -> int:
    *_, offset, _, _, _, _, _, count, names = struct.unpack_from("<16sHHIQQQIHHHHHH", code)
    sections = [_Section(*struct.unpack_from("<IIQQQQIIQQ", code, offset + 64 * i)) for i in range(count)]
    labels = [_text(code, sections[names].offset + section.name) for section in sections]
    (symbols,) = (section for section in sections if section.kind == _SYMBOLS)
    known = _table(code, symbols, "<IBBHQQ")

    # where the sections and the common symbols lie, what may be written from the beginning of a page on
    places: dict[int, int] = {}
    size = fixed = 0
    for written in (False, True):
        for i, section in enumerate(sections):
            wanted = section.flags & _ALLOCATE and section.kind in (_PROGBITS, _NOBITS)
            if wanted and bool(section.flags & _WRITE) is written and labels[i] != ".eh_frame":  # nothing is thrown
                places[i] = size = -(-size // max(section.alignment, 1)) * max(section.alignment, 1)
                size += section.size
        if not written:
            fixed = size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    common: dict[int, int] = {}
    for i, (_, _, _, place, alignment, length) in enumerate(known):
        if place == _COMMON:
            common[i] = size = -(-size // alignment) * alignment
            size += length

    image, base = bytearray(size), _memory(size)
    for i, place in places.items():
        if sections[i].kind == _PROGBITS:
            image[place : place + sections[i].size] = code[sections[i].offset :][: sections[i].size]

    strings = sections[symbols.link].offset
    addresses: dict[int, int] = {}

    def address_of(number: int) -> int:
        if number not in addresses:
            name, _, _, place, value, _ = known[number]
            if place == _UNDEFINED:
                addresses[number] = _address_of(_text(code, strings + name))
            elif place == _COMMON:
                addresses[number] = base + common[number]
            else:
                addresses[number] = value if place == _ABSOLUTE else base + places[place] + value
        return addresses[number]

    for section in sections:
        if section.kind != _RELOCATIONS or section.info not in places:
            continue
        for offset, info, addend in _table(code, section, "<QQq"):
            if info & 0xFFFFFFFF not in _KINDS:
                raise RuntimeError(f"Machine code has a relocation of the kind {info & 0xFFFFFFFF}; report it.")
            form, relative = _KINDS[info & 0xFFFFFFFF]
            place = places[section.info] + offset
            struct.pack_into(form, image, place, address_of(info >> 32) + addend - (base + place if relative else 0))
    ctypes.memmove(base, bytes(image), size)
    if _c().mprotect(ctypes.c_void_p(base), ctypes.c_size_t(fixed), mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "The system does not let memory be executed, which compiled kernels need")
    for number, (name, _, _, _, _, _) in enumerate(known):
        if name and _text(code, strings + name) == ENTRY:
            return address_of(number)
    raise RuntimeError(f"Machine code has no function {ENTRY!r}; report it.")


def _memory(size: int) -> int:
    """The address of new memory, which is never given back: threads run in it until the process ends."""
    map_memory = _c().mmap
    map_memory.restype = ctypes.c_void_p
    anonymous = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    found = map_memory(None, ctypes.c_size_t(size), mmap.PROT_READ | mmap.PROT_WRITE, anonymous, -1, ctypes.c_long(0))
    if found == ctypes.c_void_p(-1).value:
        raise MemoryError(f"The system has no {size} bytes for compiled kernels.")
    return int(found)


@lru_cache(maxsize=1)
def _c() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _address_of(name: str) -> int:
    """The address of a function of another kernel, of Python, of C, or of Numba where that is loaded."""
    if name in _offered:
        return _offered[name]
    for library in (_c(), _mathematics()):
        if hasattr(library, name):
            return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
    binding = sys.modules.get("llvmlite.binding")
    found = binding.address_of_symbol(name) if binding else None
    if found is None:
        raise RuntimeError(f"Machine code calls {name!r}, which this process does not have; report it.")
    return int(found)


@lru_cache(maxsize=1)
def _mathematics() -> Any:
    try:
        return ctypes.CDLL("libm.so.6")
    except OSError:  # where it is a part of the C library
        return _c()
