"""What a description from outside may cost: bytes that are allowed in a thread, and spent before anything is allocated.

    with limits.for_file(size):
        model = ...        # weights, states and objects are paid for; what is too dear is refused

Without such a block nothing is counted: a program may ask for whatever it likes.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

from minikeras.utils.checks import whole

_SPARE = 1 << 25  # bytes that a model may take beyond those of its file
_PER_BYTE = 6  # what a file's arrays may take: its optimizer's state, up to five times the model, need not be there
_MOMENT = 1 << 28  # bytes that finding a shape on zeros may take, given back at once
_MOMENTS = 16  # how many such moments there may be
_MOST_AXES = 64  # that an array of NumPy has
_LARGEST_TENSOR = 1 << 31  # bytes that an example in a described graph may have
OBJECT = 1 << 10  # bytes that a described object takes, about


class _Account(threading.local):
    left: int | None = None  # None: nothing is counted
    moment = moments = largest = 0


account = _Account()


@contextmanager
def allowing(nbytes: int) -> Iterator[None]:
    """Within this block what a description makes may take so many bytes; where a limit holds already, that holds.

    Args:
        nbytes: bytes of weights, states and objects.
    """
    outermost = account.left is None
    if outermost:
        account.left, account.moment = nbytes, _MOMENT + nbytes
        account.moments, account.largest = _MOMENTS * account.moment, max(_LARGEST_TENSOR, nbytes)
    try:
        yield
    finally:
        if outermost:
            account.left = None


def for_file(size: int, limit: int | None = None) -> Any:
    """A block within which a file is read: six times its size and 32 MiB are allowed, or what the caller says.

    Args:
        size: bytes of the file, or of the arrays that it holds, whichever are more.
        limit: bytes that the model may take, default None.

    Raises:
        ValueError: for a limit that is no number of bytes.

    >>> from minikeras import limits
    >>> with limits.for_file(1000):
    ...     limits.spend(1 << 20, "a weight")
    """
    return allowing(_SPARE + _PER_BYTE * size if limit is None else whole("limit", limit, 0))


def for_text(limit: int | None = None) -> Any:
    """A block within which a description without weights is read: the machine's memory is allowed.

    Args:
        limit: bytes that the model may take, default None.
    """
    return allowing(memory() if limit is None else whole("limit", limit, 0))


@functools.cache
def memory() -> int:
    """Bytes of memory that the machine has; 64 GiB where it does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 36


def spend(nbytes: int, what: str) -> None:
    """Count bytes that will be kept, if there is a limit.

    Raises:
        ValueError: where no more are allowed.
    """
    if account.left is not None:
        if nbytes > account.left:
            raise _refusal(nbytes, what, account.left)
        account.left -= nbytes


def spend_array(shape: Sequence[int], itemsize: int, what: str) -> None:
    """Count the bytes of an array that will be kept; raises as `spend` does."""
    if account.left is not None:
        spend(prod(shape) * itemsize, f"{what} of shape {shown_sizes(shape)}")


def lend(nbytes: int, what: str) -> None:
    """Count bytes that are given back at once, if there is a limit; raises as `spend` does."""
    if account.left is not None:
        if nbytes > (allowed := min(account.moment, account.moments)):
            raise _refusal(nbytes, what, allowed)
        account.moments -= nbytes


def check_tensor(shape: Sequence[int | None], itemsize: int) -> None:
    """Refuse a described tensor of which no machine computes one, if there is a limit."""
    if account.left is not None:
        known = [size for size in shape if size is not None]
        if len(shape) > _MOST_AXES:
            raise ValueError(f"The description has a tensor with {len(shape)} axes; {_MOST_AXES} are the most.")
        if min(known, default=0) < 0:
            raise ValueError(f"The description has a tensor of shape {shown_sizes(shape)}; sizes are 0 or more.")
        if prod(known) * itemsize > account.largest:
            raise _refusal(prod(known) * itemsize, f"a tensor of shape {shown_sizes(shape)}", account.largest)


def _refusal(nbytes: int, what: str, allowed: int) -> ValueError:
    return ValueError(
        f"The description asks for {_amount(nbytes)} for {what}, and {_amount(allowed)} are allowed; pass a larger "
        "limit= if you trust it."
    )


def _amount(nbytes: int) -> str:
    return f"{nbytes:,} bytes" if nbytes < 1 << 60 else "more than 2**60 bytes"


def shown_sizes(shape: Sequence[int | None]) -> str:
    """A shape for a message, of any length."""
    text = str(tuple(shape))
    return text if len(text) <= 80 else f"{text[:77]}..."
