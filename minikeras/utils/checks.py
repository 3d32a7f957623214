"""Checks of arguments: each returns the value in Python's own type or raises one sentence that names it."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from numbers import Real
from typing import Any

_LONGEST = 80  # characters of a value in a message


def whole(
    name: str,
    value: Any,
    at_least: int | None = None,
    *,
    at_most: int | None = None,
    owner: str = "",
    optional: bool = False,
    floats: bool = False,
) -> Any:
    """`value` as an int; integers of NumPy and arrays of one integer without axes are taken, booleans are not.

    Args:
        name: what the value is called, e.g. `"batch_size"`.
        value: the value.
        at_least, at_most: the bounds, both allowed; None where there is none.
        owner: whose argument it is, e.g. `"Dense"`.
        optional: whether None is allowed, which is then returned.
        floats: whether a float without a fraction, such as 3.0, is taken too.

    Raises:
        ValueError: for anything else.
    """
    if value is None and optional:
        return None
    found = _integer(value, floats)
    if found is not None and (at_least is None or found >= at_least) and (at_most is None or found <= at_most):
        return found
    raise _refusal(owner, name, _whole_in_words(at_least, at_most), optional, value)


def number(
    name: str,
    value: Any,
    low: float | None = None,
    high: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
    owner: str = "",
    optional: bool = False,
    functions: bool = False,
    infinite: bool = False,
) -> Any:
    """`value` as a float; NaN and booleans are refused, numbers of NumPy and arrays of one number without axes are not.

    Args:
        name, value, owner, optional: as for `whole`.
        low, high: bounds that are allowed themselves.
        above, below: bounds that are not.
        functions: whether a callable, such as a schedule, is allowed, which is then returned as it is.
        infinite: whether infinity is allowed.

    Raises:
        ValueError: for anything else.
    """
    if (value is None and optional) or (functions and callable(value)):
        return value
    found = _real(value)
    if (
        found is not None
        and (math.isfinite(found) or (infinite and math.isinf(found)))
        and (low is None or found >= low)
        and (high is None or found <= high)
        and (above is None or found > above)
        and (below is None or found < below)
    ):
        return found
    wanted = _number_in_words(low, high, above, below) + (" or a function" if functions else "")
    raise _refusal(owner, name, wanted, optional, value)


def one_of(name: str, value: Any, choices: Iterable[Any], *, owner: str = "") -> Any:
    """The one of `choices` (strings, numbers, booleans, None) that `value` is; True is not 1 here.

    Raises:
        ValueError: where it is none of them.
    """
    known = list(choices)
    for choice in known:
        if _is(choice, value):
            return choice
    listed = [repr(choice) for choice in known]
    words = listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} or {listed[-1]}"
    raise _refusal(owner, name, words, False, value)


def flag(name: str, value: Any, *, owner: str = "") -> bool:
    """`value` as True or False; 0 and 1, those of NumPy and None (which is False) are taken.

    Raises:
        ValueError: for anything else, such as the string "False", which Python counts as true.
    """
    if value is None or isinstance(value, bool):
        return bool(value)
    if getattr(getattr(value, "dtype", None), "kind", "") == "b" and not getattr(value, "ndim", 0):
        return bool(value)
    if _integer(value, False) in (0, 1):
        return bool(value)
    raise _refusal(owner, name, "True or False", False, value)


MODEL_ENDINGS = (".keras", ".h5", ".hdf5")
WEIGHTS_ENDINGS = (".weights.h5", ".weights.json", ".npz", ".h5", ".hdf5")


def ending(owner: str, path: str, endings: tuple[str, ...]) -> str:
    """The one of the endings above that a path has, which says what is written there.

    Args:
        owner: what writes it, e.g. `"save_weights"`.
        path: where.
        endings: those that are possible.

    Raises:
        ValueError: for a path with another ending, or none.
    """
    found = next((one for one in endings if path.endswith(one)), None)
    if found is None:
        wanted = f"{', '.join(endings[:-1])} or {endings[-1]}"
        raise ValueError(f"{owner} writes files ending in {wanted}, which says in what format, got {path!r}.")
    return found


def shown(value: Any) -> str:
    """A value for a message: on one line, and not much longer than it need be."""
    if getattr(value, "ndim", 0) and hasattr(value, "dtype"):
        return f"an array of shape {tuple(value.shape)}"
    if hasattr(value, "dtype") and hasattr(value, "item"):  # of NumPy, whose repr names its type too
        value = value.item()
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _refusal(owner: str, name: str, wanted: str, optional: bool, value: Any) -> ValueError:
    label = f"{owner}'s {name}" if owner else name
    return ValueError(f"{label} must be {wanted}{' or None' if optional else ''}, got {shown(value)}.")


def _integer(value: Any, floats: bool) -> int | None:
    if isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", "") == "b":
        return None  # NumPy's True is an index before NumPy 2.3
    try:
        return operator.index(value)
    except TypeError:
        found = _real(value) if floats else None
        return None if found is None or not found.is_integer() else int(found)


def _real(value: Any) -> float | None:
    """A number as a float, None for what is no number."""
    if isinstance(value, bool):
        return None
    if not isinstance(value, Real) and not (
        getattr(value, "ndim", None) == 0 and str(getattr(value, "dtype", "")).startswith(("float", "int", "uint"))
    ):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _is(choice: Any, value: Any) -> bool:
    if choice is None or isinstance(choice, bool) or isinstance(value, bool):
        return choice is value
    return isinstance(value, (str, int, Real)) and choice == value  # int is found at once, Real asks a registry


def _whole_in_words(at_least: int | None, at_most: int | None) -> str:
    if at_least == 1 and at_most is None:
        return "a positive whole number"
    if at_least is None:
        return "a whole number" if at_most is None else f"a whole number of at most {at_most}"
    if at_most is None:
        return f"a whole number of at least {at_least}"
    return f"a whole number from {at_least} to {at_most}"


def _number_in_words(low: float | None, high: float | None, above: float | None, below: float | None) -> str:
    if (low, high, above, below) == (None, None, 0, None):
        return "a positive number"
    lower = f"at least {low:g}" if low is not None else f"above {above:g}" if above is not None else ""
    upper = f"at most {high:g}" if high is not None else f"below {below:g}" if below is not None else ""
    if low is not None and high is not None:
        return f"a number from {low:g} to {high:g}"
    joined = " and ".join(part for part in (lower, upper) if part)
    return f"a number {joined}" if joined else "a number"
