"""One sentence for a name that is not in a list."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MOST_LISTED = 12


def unknown(kind: str, value: object, choices: Iterable[str]) -> str:
    """The error message for an unknown name, e.g. `Unknown optimizer 'adamm'; did you mean 'adam'?`

    Args:
        kind: what was looked up, in words.
        value: what was given.
        choices: the names there are; without a close one, the first of them are listed.
    """
    names = list(dict.fromkeys(choices))
    by_lower_case = {name.lower(): name for name in names}
    close = difflib.get_close_matches(str(value).lower(), by_lower_case, n=1)
    if close:
        return f"Unknown {kind} {value!r}; did you mean {by_lower_case[close[0]]!r}?"
    listed = ", ".join(repr(name) for name in names[:_MOST_LISTED])
    more = f" or {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return f"Unknown {kind} {value!r}; choose one of {listed}{more}."
