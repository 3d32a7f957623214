"""Names of Keras that are no part of minikeras, and what to do instead: the lines of `elsewhere.txt`."""

from __future__ import annotations

import functools
from pathlib import Path

PAGE = "https://github.com/minikeras/minikeras/blob/main/docs/compatibility.md"  # what differs from Keras


@functools.cache
def remedies() -> dict[str, str]:
    """What to do instead, by the name without the leading `keras.`; that of a module is for all names in it too."""
    content: bytes = __loader__.get_data(str(Path(__file__).with_suffix(".txt")))  # type: ignore[name-defined]
    return dict(line.split(": ", 1) for line in content.decode("utf-8").splitlines())  # type: ignore[misc]


def remedy_for(name: str) -> str | None:
    """One sentence for a name of Keras that is not here, None for any other name.

    Args:
        name: with the leading `minikeras.`.

    >>> from minikeras.elsewhere import remedy_for
    >>> remedy_for("minikeras.utils.Config")
    'keras.utils.Config is not part of minikeras; use a dict (see https://github.com/...docs/compatibility.md).'
    """
    parts = name.split(".")[1:]
    for length in range(len(parts), 0, -1):
        remedy = remedies().get(".".join(parts[:length]))
        if remedy is not None:
            return f"keras.{'.'.join(parts)} is not part of minikeras; {remedy} (see {PAGE})."
    return None
