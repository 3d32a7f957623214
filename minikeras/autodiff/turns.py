"""Whole sets of values change at once for whoever computes with them in other threads.

`set_weights` takes many assignments.  A prediction that another thread makes in the meantime would see some of the new
values and some of the old ones, so each waits for the other: a change begins when no prediction is under way, and a
prediction when no change is.  Predictions never wait for each other, and what one of them pays is that a set gets and
loses an entry.

Training takes part where it calls the model, but its gradients and updates do not wait: whoever replaces weights while
another thread trains them gets a mixture.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident

PATIENCE = 60.0  # seconds that a change waits for predictions
POLITENESS = 1.0  # seconds that a prediction lets a waiting change go first: it may be part of what that waits for

computing: set[int] = set()  # the threads in an outermost call of a layer or in a recorded prediction


class _Turn:
    """Whose turn it is to change values: `owner`, from when it waits, and whether it is `changing` them already."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.owner: int | None = None
        self.changing = False


turn = _Turn()


def wait(me: int) -> None:
    """Let a change go first; for a thread in `computing` that finds an owner of the turn."""
    if turn.owner == me:
        return
    computing.discard(me)
    if turn.lock.acquire(timeout=POLITENESS):
        turn.lock.release()
    computing.add(me)
    while turn.changing:
        computing.discard(me)
        with turn.lock:
            pass
        computing.add(me)


@contextmanager
def at_once() -> Iterator[None]:
    """Within this block values change while nobody computes with them in another thread.

    Inside a call of a layer, where weights are built and states carried on, it is a block like any other.

    Raises:
        TimeoutError: where predictions do not end for a minute; nothing is changed.

    >>> from minikeras import Variable
    >>> from minikeras.autodiff.turns import at_once
    >>> a, b = Variable([1.0]), Variable([2.0])
    >>> with at_once():
    ...     _ = a.assign([3.0]), b.assign([4.0])
    """
    me = get_ident()
    if turn.owner == me or me in computing:
        yield
        return
    with turn.lock:
        turn.owner, limit = me, time.monotonic() + PATIENCE
        try:
            while not turn.changing:
                turn.changing = not computing
                if computing:  # one that was impatient may have come in between
                    turn.changing = False
                    if time.monotonic() > limit:
                        raise TimeoutError(
                            f"Weights were to be replaced while another thread predicts with them, which has not ended "
                            f"for {PATIENCE:g} seconds; nothing was changed. End the prediction, or use a copy."
                        )
                    time.sleep(0.0001)
            yield
        finally:
            turn.changing, turn.owner = False, None


def _start_alone() -> None:
    """A forked process has none of the other threads."""
    computing.clear()
    turn.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_alone)
