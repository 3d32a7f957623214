"""Tables of kernels: an array module, and functions by name that reach each other through the table they belong to.

A kernel is a function whose first argument is the table, `k`: `k.xp` is the array module, `k.empty` makes buffers,
`k.gemm(...)` is another kernel of the same table.  So a faster `gemm` of a device is used inside its `dense` and `lstm`
too, and a table without overrides is the reference all the way down.

    @kernel
    def gated(k, x, gate):
        "`x * sigmoid(gate)`."
        return x * k.activate(gate, "sigmoid")

    @override(gated, "cpu", when=contiguous_float32("x", "gate"))
    def gated_on_the_cpu(k, x, gate): ...
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cached_property
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

import numpy

from minikeras.kernels.arena import allocate, current

_Kernel = TypeVar("_Kernel", bound=Callable[..., Any])

_FOLDERS = {
    "cpu": "minikeras.kernels.cpu",
    "gpu": "minikeras.kernels.cuda",
}  # where a device's own overrides are; loaded before they are asked for
_loaded: set[str] = set()
_references: dict[str, FunctionType] = {}
# of each device and kernel, latest last; "tape" has those for arrays that record what is done with them
_overrides: dict[str, dict[str, list[_Override]]] = {"cpu": {}, "gpu": {}, "tape": {}}
_left_out: dict[tuple[str, str], list[_Override]] = {}  # see `turn_off`
_tables: WeakSet[Kernels] = WeakSet()
changes = 0  # how often kernels or overrides have been registered or withdrawn


class Kernels:
    """The kernels of one device, as attributes.

    Args:
        xp: the array module.
        device: whose overrides are used; None uses none.
    """

    def __init__(self, xp: Any, device: str | None = None):
        self.xp = xp
        self.empty: Callable[..., Any] = MethodType(allocate, xp)
        self._overrides: dict[str, list[_Override]] = {} if device is None else _of_device(device)
        self._mirror: dict[str, Any] = {}
        for name in _references:
            self._bind(name)
        _tables.add(self)

    def _bind(self, name: str) -> None:
        """Make an attribute of a kernel as it is registered now."""
        if name not in _references:
            self.__dict__.pop(name, None)
            self._mirror.pop(name, None)
            return
        chosen = self._overrides.get(name)
        function = chosen[-1].function if chosen else _references[name]
        self.__dict__[name] = self._mirror[name] = MethodType(function, self)

    def mirror(self, namespace: dict[str, Any] | None) -> None:
        """From now on keep the array module and the kernels in a namespace too; None: in none."""
        self._mirror = {} if namespace is None else namespace
        self._mirror.update({name: value for name, value in vars(self).items() if not name.startswith("_")})
        self._mirror.update(to_device=self.to_device, to_host=self.to_host)

    def to_device(self, array: Any) -> Any:
        """Move a NumPy array to the active device (itself on the CPU, and where it holds strings)."""
        on_host = self.xp is numpy or getattr(getattr(array, "dtype", None), "kind", "f") in "OSTU"
        if on_host or isinstance(array, self.xp.ndarray):
            return array
        return self.xp.asarray(array) if current.recording is None else current.recording.moved(numpy.asarray(array))

    def to_host(self, array: Any) -> numpy.ndarray:
        """A NumPy array of the same values (itself on the CPU)."""
        if not hasattr(array, "get"):
            return numpy.asarray(array)
        known = None if current.recording is None else current.recording.value_of(array)
        return array.get() if known is None else known

    if TYPE_CHECKING:  # the kernels are attributes

        def __getattr__(self, name: str) -> Any: ...


def reference_table(xp: Any = numpy) -> Kernels:
    """The reference kernels on an array module, without any override: what an override is compared with."""
    return Kernels(xp)


def names() -> set[str]:
    """The names of all kernels."""
    return set(_references)


# ---- registering -----------------------------------------------------------------------------------------------------


def kernel(function: _Kernel) -> _Kernel:
    """Decorator: register a function `(k, ...)` as the kernel of its name, in plain array code for every device.

    Raises:
        ValueError: another kernel has this name.
        TypeError: it takes `*args` or `**kwargs`.
    """
    name = function.__name__
    known = _references.get(name, function).__module__
    if known != function.__module__:
        raise ValueError(f"There is a kernel {name!r} already, in {known}; choose another name, or override it.")
    assert isinstance(function, FunctionType)
    if function.__code__.co_flags & (_ANY_POSITIONAL | _ANY_KEYWORDS):
        raise TypeError(f"The kernel {name!r} takes any arguments; name them, so that overrides know them.")
    _references[name] = function
    _changed(name)
    return function


def override(
    reference: Callable[..., Any] | str, device: str, when: Condition | Callable[..., Any] | tuple = ()
) -> Callable[[_Kernel], _Kernel]:
    """Decorator: on a device, a function does what a kernel does, with the same arguments (or `**options`).

    Args:
        reference: the kernel, or its name.
        device: `"cpu"` or `"gpu"`; or `"tape"`: where gradients of gradients are recorded (see `ops/second_order.py`).
        when: where it is used; elsewhere what was there before is, in the end the reference.  A function, which gets
            the arguments that its parameters name, or a condition such as `contiguous_float32("x", "out")`, or several
            of either, which must all hold.  Without it the function is used always.

    Raises:
        ValueError: there is no such kernel or device.
        TypeError: the function's parameters are not those of the kernel, or a condition asks for others.
    """
    name = reference if isinstance(reference, str) else reference.__name__
    if name not in _references:
        raise ValueError(f"There is no kernel {name!r} to override; register it with minikeras.kernels.kernel first.")
    if device not in _overrides:
        raise ValueError(f"Kernels are overridden for 'cpu' or 'gpu', got {device!r}.")
    conditions = when if isinstance(when, tuple) else (when,)
    known = _parameters(_references[name])
    for asked in [one for each in conditions if not isinstance(each, Condition) for one in _parameters(each)]:
        if asked not in known:
            raise TypeError(
                f"The kernel {name!r} has no argument {asked!r}, which a condition of its override asks for; it has "
                f"{', '.join(known)}."
            )

    def register(function: _Kernel) -> _Kernel:
        expected, found = (_parameters(one, function) for one in (_references[name], function))
        if expected != found:
            raise TypeError(
                f"The kernel {name!r} takes {', '.join(expected)}, its override {', '.join(found)}; use the same."
            )
        registered = _of_device(device).setdefault(name, [])
        registered.append(_Override(name, function, conditions, registered[-1] if registered else None))
        _changed(name)
        return function

    return register


def withdraw(name: str, device: str | None = None) -> None:
    """Take back the latest override of a kernel for a device, or without a device the kernel and all its overrides.

    `turn_off` leaves out those of the package, and can give them back.

    Raises:
        ValueError: nothing is registered there.
    """
    registered: dict[str, Any] = _references if device is None else _overrides.get(device, {})
    if name not in registered:
        raise ValueError(f"No kernel {name!r} is registered for {device or 'all devices'}; correct the name.")
    if device is not None:
        registered[name].pop()
    if device is None or not registered[name]:
        del registered[name]
    if device is None:
        for overrides in _overrides.values():
            overrides.pop(name, None)
    _changed(name)


def turn_off(name: str, device: str, package: str | None) -> None:
    """Leave out the overrides that modules of a package gave a kernel for a device; None: give back what was left out.

    A user's stay, and fall back on what is below those of the package.
    """
    registered = _overrides[device].pop(name, [])
    registered = [*(one for one in _left_out.pop((name, device), []) if one not in registered), *registered]
    left_out = [one for one in registered if package and f"{one.replacement.__module__}.".startswith(f"{package}.")]
    kept = [one for one in registered if one not in left_out]
    for one, before in zip(kept, [None, *kept], strict=False):
        one.before = before
        one.__dict__.pop("choice", None)
    if kept:
        _overrides[device][name] = kept
    if left_out:
        _left_out[name, device] = left_out
    _changed(name)


def overridden(device: str) -> set[str]:
    """The kernels that a device overrides."""
    return set(_of_device(device))


def _changed(name: str) -> None:
    global changes
    changes += 1
    for table in _tables:
        table._bind(name)


def _of_device(device: str) -> dict[str, list[_Override]]:
    """The overrides of a device, its own loaded first, so that a user's lie above them."""
    if device in _FOLDERS and device not in _loaded:
        _loaded.add(device)
        importlib.import_module(_FOLDERS[device])
    return _overrides[device]


_ANY_POSITIONAL, _ANY_KEYWORDS = 0x04, 0x08  # flags of code: *args and **kwargs


def _parameters(function: Any, beside: Any = None) -> tuple[str, ...]:
    """The names of a function's parameters; without keywords where the one `beside` it takes any.

    Of a function that wraps another they are the other's.
    """
    code, other = _unwrapped(function).__code__, _unwrapped(beside or function).__code__
    keywords = 0 if other.co_flags & _ANY_KEYWORDS else code.co_kwonlyargcount
    return code.co_varnames[: code.co_argcount + keywords]


def _unwrapped(function: Any) -> Any:
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function


# ---- choosing --------------------------------------------------------------------------------------------------------


class Condition(str):
    """What must be true of a kernel's arguments, as an expression of Python that needs no call of its own."""


def contiguous_float32(first: str, *others: str) -> Condition:
    """Whether arguments are contiguous arrays of float32, the first neither empty nor a scalar (None: passed over)."""
    return _contiguous(first, others, '{0}.dtype.char == "f"', '{0}.dtype.char == "f"')


def contiguous_floats(first: str, *others: str) -> Condition:
    """Whether arguments are contiguous arrays, all of float32 or all of float64 (None: passed over, but the first)."""
    return _contiguous(first, others, '{0}.dtype.char in "fd"', "{0}.dtype == {1}.dtype")


def of_float32(name: str) -> Condition:
    """Whether an argument is an array of float32."""
    return Condition(f'{name}.dtype.char == "f"')


def same_shape(first: str, *others: str) -> Condition:
    """Whether arguments are arrays of one shape (None: passed over, but the first)."""
    return Condition(" and ".join(f"({other} is None or {other}.shape == {first}.shape)" for other in others))


def absent(*names: str) -> Condition:
    """Whether arguments are None."""
    return Condition(" and ".join(f"{name} is None" for name in names))


def one_of(name: str, *values: Any) -> Condition:
    """Whether an argument is one of some strings or numbers."""
    return Condition(f"{name} in {values!r}")


def _contiguous(first: str, others: tuple[str, ...], kind: str, kind_of_others: str) -> Condition:
    parts = [f"{kind} and {{0}}.size > 0 < {{0}}.ndim and {{0}}.flags.c_contiguous".format(first)]
    for other in others:
        parts.append(f"({{0}} is None or {kind_of_others} and {{0}}.flags.c_contiguous)".format(other, first))
    return Condition(" and ".join(parts))


class _Override:
    """A function in a kernel's place, where a condition holds; elsewhere what was there before."""

    def __init__(self, name: str, replacement: Any, when: tuple, before: _Override | None):
        self.name, self.replacement, self.when, self.before = name, replacement, when, before

    @property
    def function(self) -> Any:
        """What a table binds: the choice, or until it is first called a function that makes it, which takes a while."""
        if not self.when or "choice" in self.__dict__:
            return self.choice

        def first(k: Kernels, *arguments: Any, **options: Any) -> Any:
            choice = self.choice
            if getattr(k.__dict__[self.name], "__func__", None) is first:
                k._bind(self.name)
            return choice(k, *arguments, **options)

        return self._named(first)

    @cached_property
    def choice(self) -> Any:
        """The replacement, or a function that chooses: one expression, made for the kernel's parameters.

        For any arguments it would take as long as the smallest kernels do.
        """
        reference, replacement = _references[self.name], self.replacement
        if not self.when:
            code, space = replacement.__code__, replacement.__globals__
            made = FunctionType(code, space, self.name, replacement.__defaults__, replacement.__closure__)
            made.__kwdefaults__ = replacement.__kwdefaults__
            return self._named(made)
        known: dict[str, Any] = {"_replacement": replacement}
        known["_before"] = reference if self.before is None else self.before.choice
        conditions: list[str] = []
        for place, condition in enumerate(self.when):
            if isinstance(condition, Condition):
                conditions.append(condition)
            else:
                known[f"_when_{place}"] = condition
                conditions.append(f"_when_{place}({', '.join(_parameters(condition))})")
        parameters, count = _parameters(reference), reference.__code__.co_argcount
        positional, keywords = parameters[:count], parameters[count:]
        declared = ", ".join((*positional, *(("*", *keywords) if keywords else ())))
        arguments = ", ".join((*positional, *(f"{keyword}={keyword}" for keyword in keywords)))
        choice = f"(_replacement if {' and '.join(conditions)} else _before)({arguments})"
        made = eval(compile(f"lambda {declared}: {choice}", __file__, "eval"), known)
        made.__defaults__, made.__kwdefaults__ = reference.__defaults__, reference.__kwdefaults__
        return self._named(made)

    def _named(self, made: Any) -> Any:
        """A function with the kernel's name, signature and docstring, and what the replacement's adds to that."""
        reference, replacement = _references[self.name], self.replacement
        made.__name__, made.__qualname__, made.__module__ = self.name, reference.__qualname__, replacement.__module__
        made.__annotations__, made.__wrapped__ = reference.__annotations__, reference
        added = replacement.__doc__ if replacement.__doc__ != reference.__doc__ else None
        made.__doc__ = "\n\n    ".join(text for text in (reference.__doc__, added) if text)
        return made
