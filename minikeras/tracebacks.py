"""Errors end at the user's line: minikeras's own frames are taken out of the traceback of what leaves it.

What a user calls catches every exception on its way out, hands it to `end_at_users_line` and raises it again:

    try:
        ...
    except BaseException as error:
        end_at_users_line(error)
        raise

A `try` costs nothing where nothing fails, and a bare `raise` adds no frame of its own, so no line of minikeras is left.
Only the call that the user made shortens a traceback; calls within minikeras leave that to it.
`config.disable_traceback_filtering()` shows everything.
"""

from __future__ import annotations

import functools
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from opcode import opmap
from types import FrameType, TracebackType
from typing import Any, TypeVar

from minikeras import config

_Function = TypeVar("_Function", bound=Callable[..., Any])

HINT = "minikeras's own lines are left out above; minikeras.config.disable_traceback_filtering() shows them."

_RAISE = opmap["RAISE_VARARGS"]
# Packages that minikeras calls: where one of them fails below our lines, its lines are no more the user's than ours.
_CALLED = frozenset({"numpy", "numba", "llvmlite", "h5py", "cupy", "cupy_backends", "PIL", "matplotlib", "pandas"})


def _folder(path: str) -> str:
    return os.path.join(os.path.dirname(path), "")


_STANDARD_LIBRARY = _folder(os.__file__)


def is_own(frame: FrameType) -> bool:
    """Whether a frame runs code of this package."""
    return frame.f_code.co_filename.startswith(_PACKAGE)


def _is_library(filename: str) -> bool:
    """Whether a file belongs to Python or to a package that minikeras calls."""
    if filename.startswith(("<frozen ", "<__array_function__")):
        return True
    _, installed, rest = filename.replace("\\", "/").rpartition("-packages/")
    if installed or filename.endswith((".pyx", ".pxi", ".pxd")):  # Cython's file names begin with the package
        return rest.partition("/")[0] in _CALLED
    return filename.startswith(_STANDARD_LIBRARY)


def end_at_users_line(error: BaseException) -> None:
    """Shorten the traceback of an exception that is about to leave the caller, if a user's line called that."""
    caller = sys._getframe(1).f_back
    if caller is None or not is_own(caller):
        _explain_memory(error)
        shorten(error)


def _explain_memory(error: BaseException) -> None:
    """Let an error of CuPy's say in one sentence what it may be helped with."""
    size, total, limit = (getattr(error, f"_{name}", None) for name in ("size", "total", "limit"))
    if not isinstance(error, MemoryError) or size is None or total is None:
        return
    bounds = f"of the {limit:,} that it may use at most" if limit else "already"
    more = " or a higher limit (config.set_gpu_memory_limit)" if limit else ", or end other processes that use the GPU"
    error.args = (
        f"The GPU has no memory for {size:,} more bytes, this process uses {total:,} {bounds}; use a smaller "
        f"batch_size{more}.",
    )


def shorten(error: BaseException) -> None:
    """Take our frames, and what they called of other packages, out of the tracebacks of an exception and its causes.

    The user's frames stay, also those that minikeras called: a loss, a layer's `call`, a generator.  An error that none
    of our sentences speaks of, which may be a fault of ours, gets a note that says how to see the whole traceback.
    Where filtering is disabled nothing changes.
    """
    if not config.is_traceback_filtering_enabled():
        return
    if isinstance(error, Exception) and _is_unexplained(error):
        error.add_note(HINT)
    for one in _chain(error):
        one.__traceback__ = _users_part(one.__traceback__)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception, and those that it came from, as Python shows them."""
    pending, seen = [error], set()
    while pending:
        one = pending.pop()
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            pending += [other for other in (one.__cause__, one.__context__) if other is not None]


def _users_part(traceback: TracebackType | None) -> TracebackType | None:
    kept = []
    below = False  # whether minikeras called this
    while traceback is not None:
        if is_own(traceback.tb_frame):
            below = True
        elif not (below and _is_library(traceback.tb_frame.f_code.co_filename)):
            below = False
            kept.append(traceback)
        traceback = traceback.tb_next
    result = None
    for entry in reversed(kept):
        result = TracebackType(result, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return result


def _is_unexplained(error: Exception) -> bool:
    """Whether an error arose within minikeras and not by a `raise`.

    What the outermost frame meets is left out: wrong arguments of the very function that was called.
    """
    traceback = error.__traceback__
    if traceback is None or traceback.tb_next is None:
        return False
    last = own = None
    while traceback is not None:
        filename = traceback.tb_frame.f_code.co_filename
        if is_own(traceback.tb_frame):
            last = own = traceback
        elif own is None or not _is_library(filename):
            last = own = None
        else:
            last = traceback
        traceback = traceback.tb_next
    if own is None or last is None:
        return False
    raised = last is own and own.tb_frame.f_code.co_code[own.tb_lasti] == _RAISE
    return not raised or isinstance(error, AssertionError)


def user_facing(function: _Function) -> _Function:
    """A function whose errors end at the line that calls it; for what is not called in every step."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            end_at_users_line(error)
            raise

    return guarded  # type: ignore[return-value]


def warn(message: str) -> None:
    """A warning that points at the user's line."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and is_own(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


class UserFacing:
    """A base of classes whose constructors are `user_facing`, as far as they are minikeras's own."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__.startswith("minikeras.") and "__init__" in cls.__dict__:
            cls.__init__ = user_facing(cls.__dict__["__init__"])  # type: ignore[misc, method-assign]


_PACKAGE = _folder(end_at_users_line.__code__.co_filename)
