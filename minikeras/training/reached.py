"""What an object's state lies in beyond its own attributes: random generators, variables, layers and users' objects.

They are found by following attributes, short lists, tuples and dicts, and of functions what they enclose, their
defaults, and those names of their module that they use.  The way to each is its name, so that the same program started
again finds it under the same.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from minikeras.autodiff.tensor import Tensor, Variable

_FEW = 64  # elements of a list, tuple or dict that is followed
_MOST = 2000  # objects that are looked at in all
_LIBRARIES = frozenset({"minikeras", "keras", "numpy", *sys.stdlib_module_names}) - {"__main__"}
_EMPTY = CellType()  # what a function encloses that has no value yet
_PASSED = (type(None), bool, int, float, complex, str, bytes, type, ModuleType, np.ndarray, np.generic)


@functools.cache
def is_users(module: str | None) -> bool:
    """Whether a module is part of the user's program, not of something that is installed."""
    file = getattr(sys.modules.get(module or ""), "__file__", None) or ""
    return module is not None and module.partition(".")[0] not in _LIBRARIES and "site-packages" not in file


def is_followed(value: Any) -> bool:
    """Whether the state in a value is looked for, so that it need not be plain data."""
    short = isinstance(value, (list, tuple, dict)) and len(value) <= _FEW
    return short or callable(value) or isinstance(value, Variable) or _has_attributes(value)


def reached(values: Mapping[Any, Any], leaves: tuple[type, ...], apart: Mapping[int, Any]) -> dict[str, Any]:
    """Generators, variables and users' objects that the values lead to, by the way there.

    Args:
        leaves: classes of random generators.
        apart: what is not followed, by `id`.
    """
    found: dict[str, Any] = {}
    seen = dict(apart)
    waiting = [(str(name), value) for name, value in values.items()]
    while waiting and len(seen) < _MOST + len(apart):
        way, value = waiting.pop(0)
        if isinstance(value, _PASSED) or id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, (*leaves, Variable)) or _has_attributes(value):
            found[way] = value
        if not isinstance(value, (*leaves, Tensor)):
            waiting += [(f"{way}.{name}", part) for name, part in _parts(value)]
    return found


def _has_attributes(value: Any) -> bool:
    return hasattr(value, "__dict__") and not isinstance(value, FunctionType) and is_users(type(value).__module__)


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    """What a value leads to, by names."""
    if isinstance(value, (list, tuple, dict)):
        if len(value) <= _FEW:
            yield from value.items() if isinstance(value, dict) else enumerate(value)
    elif isinstance(value, FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        yield from [(name, cell.cell_contents) for name, cell in cells if cell != _EMPTY]
        yield from [*enumerate(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).items()]
        if is_users(value.__module__):
            names = _names(value.__code__)
            yield from [(name, value.__globals__[name]) for name in names if name in value.__globals__]
    elif isinstance(value, MethodType):
        yield from (("self", value.__self__), ("function", value.__func__))
    elif isinstance(value, functools.partial):
        yield from (("function", value.func), ("arguments", value.args), ("named", value.keywords))
    else:
        if hasattr(type(value), "_contents"):  # a layer
            yield from enumerate([*value._contents().streams, *value.weights])
        if _has_attributes(value):
            yield from list(vars(value).items())
            kinds = [kind for kind in type(value).__mro__ if is_users(kind.__module__)]
            functions = [(name, one) for kind in kinds for name, one in vars(kind).items()]
            yield from [(name, one) for name, one in functions if isinstance(one, FunctionType)]


def _names(code: CodeType) -> list[str]:
    """The names that a function may use of its module, and those of the functions within it."""
    inner = [name for one in code.co_consts if isinstance(one, CodeType) for name in _names(one)]
    return [*code.co_names, *inner]
