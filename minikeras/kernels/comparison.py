"""Kernels of a device beside the reference on NumPy: each call is made on both, with the same arguments.

So a difference belongs to the kernel that is named, whatever was computed before it.  Whoever checks kernels writes
calls of them as functions of a `Bench`, which makes arrays and has the kernels of a table as attributes: with
`Compared` in its place each call is compared.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minikeras.kernels.table import Kernels, names, reference_table

# relative to the largest number of a result, for chains of several operations and for sums in another order
TOLERANCE = {"float16": 4e-3, "bfloat16": 3e-2, "float32": 5e-5, "float64": 1e-10}
NARROW = ("float16", "bfloat16")  # the reference computes these in float32: it would round each operation


class Bench:
    """A table's kernels as attributes, and arrays for them on its device; knows which kernels were asked for.

    Args:
        dtype: of the arrays.
        table: whose kernels these are, or anything that has them as attributes.
        large: whether functions that are given this should make arrays of usual sizes.
    """

    def __init__(self, dtype: str, table: Any, large: bool = False):
        self.dtype, self.table, self.large = dtype, table, large
        self.asked: set[str] = set()
        self._rng = np.random.default_rng(7)

    def __getattr__(self, name: str) -> Any:
        self.asked.add(name)
        return getattr(self.table, name)

    def array(self, *shape: int, low: float = -1.0, high: float = 1.0) -> Any:
        """Uniform random numbers."""
        return self.table.to_device(self._rng.uniform(low, high, shape).astype(self._type()))

    def integers(self, most: int, *shape: int) -> Any:
        """Random numbers of int32, below `most`."""
        return self.table.to_device(self._rng.integers(0, most, shape).astype("int32"))

    def mask(self, *shape: int) -> Any:
        """Random truths, seven of ten true."""
        return self.table.to_device(self._rng.random(shape) < 0.7)

    def _type(self) -> Any:
        return importlib.import_module("ml_dtypes").bfloat16 if self.dtype == "bfloat16" else np.dtype(self.dtype)


@dataclass
class Outcome:
    """What is known of a kernel.

    Attributes:
        difference: the largest there was, relative to the largest number of its result.
        share: the same as a share of what is tolerated.
        reason: the first failure, or empty.
        dtypes: of the arrays it was called with.
        seconds, reference_seconds: of the call that took the reference longest, among those that were timed.
        calls: how many there were.
        within: other kernels that it called.
        launched: programs of the device that it ran.
    """

    name: str
    difference: float = 0.0
    share: float = 0.0
    reason: str = ""
    dtypes: dict[str, None] = field(default_factory=dict)
    seconds: float = 0.0
    reference_seconds: float = 0.0
    calls: int = 0
    within: set[str] = field(default_factory=set)
    launched: set[str] = field(default_factory=set)

    @property
    def passed(self) -> bool:
        return not self.reason


class DeviceLost(RuntimeError):
    """A kernel has stopped the device; nothing more can be computed in this process."""

    def __init__(self, name: str, reason: str):
        super().__init__(reason)
        self.name, self.reason = name, reason


class Watched(Kernels):
    """A table that knows which of its kernels others call."""

    def __init__(self, xp: Any, device: str | None):
        self.under_way: list[str] = []
        self.within: dict[str, set[str]] = {}
        super().__init__(xp, device)

    def overrides(self, name: str) -> bool:
        """Whether its device has a kernel of its own."""
        return name in self._overrides

    def _bind(self, name: str) -> None:
        super()._bind(name)
        if name in self.__dict__:
            self.__dict__[name] = self._watching(name, self.__dict__[name])

    def _watching(self, name: str, function: Any) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            for outer in self.under_way:
                self.within.setdefault(outer, set()).add(name)
            self.under_way.append(name)
            try:
                return function(*arguments, **options)
            finally:
                self.under_way.pop()

        return watched


class Compared(Bench):
    """A bench on which each call of a kernel is compared with the reference.

    Args:
        dtype: of the arrays.
        table: the device's.
        outcomes: where what is found is added, by the kernels' names.
        launched: a set to which the device's programs add their names, if there is one.
        large: see `Bench`.
        timed: whether it is noted how long calls take; first ones may wait for a compiler.
    """

    def __init__(
        self,
        dtype: str,
        table: Watched,
        outcomes: dict[str, Outcome],
        launched: set[str] | None = None,
        large: bool = False,
        timed: bool = True,
    ):
        super().__init__(dtype, table, large)
        self._timed = timed
        self._largest = 0.0, 0.0  # difference and share, of the call that is looked at
        self.outcomes, self._launched = outcomes, set() if launched is None else launched
        self._reference = reference_table()
        self._twins: dict[int, tuple[Any, Any]] = {}  # what only a device's own kernels understand, and the reference's
        self._replaced: set[int] = set()  # of these, those of kernels that failed

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        if name not in names():
            return found
        return lambda *arguments, **options: self._call(name, found, arguments, options)

    def _call(self, name: str, function: Callable, arguments: tuple, options: dict[str, Any]) -> Any:
        known: dict[int, Any] = {}  # an argument that is given twice is one array there too
        there = [self._on_host(one, known) for one in arguments]
        there_by_name = {key: self._on_host(one, known) for key, one in options.items()}
        start = time.perf_counter()
        with np.errstate(all="ignore"):
            expected = getattr(self._reference, name)(*there, **there_by_name)
        reference_seconds = time.perf_counter() - start
        given = [*arguments, *options.values()]
        if any(id(one) in self._replaced for one in given):
            return self._replacement(expected)
        outcome = self.outcomes.setdefault(name, Outcome(name))
        self._launched.clear()
        try:
            start = time.perf_counter()
            with np.errstate(all="ignore"):
                found = function(*arguments, **options)
            self._wait()
            seconds = time.perf_counter() - start
        except Exception as error:
            self._note(outcome, f"{type(error).__name__}: {error}".split("\n")[0])
            self._look_for_the_device(name, outcome.reason)
            return self._replacement(expected)
        try:
            self._check(found, expected)
            for one, other in zip(given, [*there, *there_by_name.values()], strict=True):
                self._check(one, other)  # what it has written
            self._note(outcome)
        except _Wrong as wrong:
            self._note(outcome, str(wrong))
            if wrong.unusable:
                return self._replacement(expected)
        outcome.calls += 1
        if self._timed and reference_seconds >= outcome.reference_seconds:
            outcome.seconds, outcome.reference_seconds = seconds, reference_seconds
        self._keep_twins(found, expected)
        return found

    def _wait(self) -> None:
        """Until the device has done what it was told."""
        if self.table.xp is not np:
            self.table.xp.cuda.runtime.deviceSynchronize()

    def _look_for_the_device(self, name: str, reason: str) -> None:
        try:
            self.table.to_host(self.table.to_device(np.zeros(1)) + 1)
        except Exception:
            raise DeviceLost(name, reason) from None

    def _note(self, outcome: Outcome, reason: str = "") -> None:
        difference, share = self._largest
        self._largest = 0.0, 0.0
        outcome.within |= self.table.within.get(outcome.name, set())
        outcome.launched |= self._launched
        # in numbers of two bytes what is not a program of the device's own rounds after each operation
        if self.dtype not in NARROW or (self._launched and self.table.overrides(outcome.name)):
            outcome.dtypes[self.dtype] = None
            outcome.difference, outcome.share = max(outcome.difference, difference), max(outcome.share, share)
            if reason and not outcome.reason:
                outcome.reason = f"{reason} ({self.dtype})"

    def _on_host(self, value: Any, known: dict[int, Any]) -> Any:
        """An argument for the reference: its own kind of value, or a copy in the host's memory."""
        if id(value) in self._twins:
            return self._twins[id(value)][1]
        if isinstance(value, (np.ndarray, self.table.xp.ndarray)):
            if id(value) not in known:
                copy = np.array(self.table.to_host(value))
                known[id(value)] = copy.astype("float32") if copy.dtype.name in NARROW else copy
            return known[id(value)]
        if type(value) in (tuple, list):
            return type(value)(self._on_host(one, known) for one in value)
        return value

    def _keep_twins(self, found: Any, expected: Any) -> None:
        for one, other in zip(_parts(found), _parts(expected), strict=False):
            if self._is_opaque(one):
                self._twins[id(one)] = one, other

    def _replacement(self, expected: Any) -> Any:
        """The reference's result in the place of one that failed; kernels that are given it are passed over."""
        if isinstance(expected, np.ndarray):
            return self.table.to_device(expected)
        if type(expected) not in (tuple, list):
            return expected
        moved = [self._replacement(one) if isinstance(one, np.ndarray) else one for one in expected]
        for one in filter(self._is_opaque, moved):
            self._twins[id(one)] = one, one
            self._replaced.add(id(one))
        return type(expected)(moved)

    def _is_opaque(self, value: Any) -> bool:
        """Whether only the kernels of one table know what a result is."""
        return value is not None and not isinstance(value, (self.table.xp.ndarray, int, float, str))

    def _check(self, found: Any, expected: Any) -> None:
        """Compare a result, or an argument that may have been written to."""
        if len(_parts(found)) != len(_parts(expected)):
            raise _Wrong(f"gave {len(_parts(found))} results, not {len(_parts(expected))}")
        for one, other in zip(_parts(found), _parts(expected), strict=True):
            if isinstance(other, (np.ndarray, np.generic)) and id(one) not in self._twins:
                if one is None:
                    raise _Wrong("gave None")
                self._check_arrays(np.asarray(self.table.to_host(one)), np.asarray(other))

    def _check_arrays(self, found: np.ndarray, expected: np.ndarray) -> None:
        narrow = found.dtype.name in NARROW
        if found.shape != expected.shape:
            raise _Wrong(f"gave the shape {found.shape}, not {expected.shape}")
        if found.dtype != expected.dtype and not narrow:
            raise _Wrong(f"gave {found.dtype}, not {expected.dtype}")
        if not found.size:
            return
        if expected.dtype.kind not in "fcV" or found.dtype.kind not in "fcV":
            if not np.array_equal(found, expected):
                raise _Wrong(f"{np.count_nonzero(found != expected):,} of {found.size:,} numbers differ", False)
            return
        tolerance = max(TOLERANCE.get(found.dtype.name, 0.0), TOLERANCE[self.dtype])
        one, other = (part.astype("float64") if narrow else part for part in (found, expected))
        with np.errstate(all="ignore"):
            apart = ~((one == other) | (np.isnan(one) & np.isnan(other)))
            scale = np.abs(other[np.isfinite(other)]).max(initial=0.0) or 1.0
            errors = np.where(apart, np.abs(one - other), 0.0) / scale
        largest = float(np.nan_to_num(errors, nan=np.inf).max())
        self._largest = max(self._largest[0], largest), max(self._largest[1], largest / tolerance)
        if largest > tolerance:
            raise _Wrong(f"differs by {largest:.1e} of its largest number, {tolerance:.0e} at most", False)


class _Wrong(Exception):
    """What is wrong with a result.

    Args:
        unusable: whether others could not do with it what they do with the right one.
    """

    def __init__(self, what: str, unusable: bool = True):
        super().__init__(what)
        self.unusable = unusable


def _parts(result: Any) -> list[Any]:
    return list(result) if type(result) in (tuple, list) else [result]


def causes(outcomes: dict[str, Outcome], among: set[str]) -> Iterator[Outcome]:
    """Of some kernels those that failed and called no other that did: others may be wrong because of these."""
    failed = {name for name in among if name in outcomes and not outcomes[name].passed}
    for name in sorted(failed):
        if not outcomes[name].within & failed - {name}:
            yield outcomes[name]
