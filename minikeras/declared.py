"""Declarations: a class says once what it is configured with, and its constructor and configuration follow.

    @declared
    class Scale(Layer):
        factor: Annotated[float, Number(low=0)] = 1.0
        offset: float = 0.0

        def __post_init__(self):       # optional: what is checked together, or made of the arguments
            ...

An annotated name in the body of a class decorated with `declared` is a *field*: an argument of the constructor, with
this default and these checks, and the attribute that keeps it.  Signature, `help()`, `repr`, `get_config` and
`from_config` follow; type checkers and editors know the constructor, as of a dataclass.  Fields of the bases come
first; one that is declared again stands where it is declared again, and is handed on to the base that has it too.

A class with an `__init__` of its own is configured by that, as in Keras, also where a base of it is declared.
"""

from __future__ import annotations

import copy
import functools
import inspect
import re
import sys
import typing
from collections.abc import Callable, Collection, Iterable
from types import MethodType
from typing import Annotated, Any, TypeVar

import numpy as np

from minikeras.tracebacks import UserFacing, end_at_users_line
from minikeras.utils.checks import flag, number, one_of, shown, whole
from minikeras.utils.suggest import unknown

_T = TypeVar("_T")
_MISSING: Any = inspect.Parameter.empty
Check = Callable[[Any, str, Any], Any]  # (the thing, name of the field, value given) -> value kept, or an exception


# ---------------------------------------------------------------- checks


def _owner(thing: Any) -> str:
    return type(thing).__name__


def Whole(*bounds: Any, **options: Any) -> Check:
    """The check of a whole number; the arguments are those of `checks.whole`."""
    return lambda thing, name, value: whole(name, value, *bounds, owner=_owner(thing), **options)


def Number(*bounds: Any, **options: Any) -> Check:
    """The check of a number; the arguments are those of `checks.number`."""
    return lambda thing, name, value: number(name, value, *bounds, owner=_owner(thing), **options)


def OneOf(*choices: Any) -> Check:
    """The check of a value that is one of a few."""
    return lambda thing, name, value: one_of(name, value, choices, owner=_owner(thing))


def Must(hold: Callable[[Any], bool], words: str) -> Check:
    """The check that something holds of a value, which is kept: `Must(callable, "a function")`."""

    def checked(thing: Any, name: str, value: Any) -> Any:
        if not hold(value):
            raise ValueError(f"{_owner(thing)}'s {name} must be {words}, got {shown(value)}.")
        return value

    return checked


def Converted(convert: Callable[[Any], Any]) -> Check:
    """The check of a value that `convert` takes, keeping what it returns."""
    return lambda thing, name, value: convert(value)


def Kept(check: Check) -> Check:
    """A check after which the value is kept as it was given, of an array that might change the number that it is."""

    def checked(thing: Any, name: str, value: Any) -> Any:
        check(thing, name, value)
        return value.item() if type(value).__module__ == "numpy" and value.ndim == 0 else value

    return checked


def _flag(thing: Any, name: str, value: Any) -> bool:
    return flag(name, value, owner=_owner(thing))


Positive = Annotated[_T, Whole(1)]


# ---------------------------------------------------------------- fields


class Field:
    """One argument: what it is called, its default, how it is checked.

    Attributes:
        annotation: as written: a type, or its source text.
        default: `inspect.Parameter.empty` where there is none.
        kw_only: whether it is given by name alone.
        stored: whether it is kept as the attribute of its name, which a property that cannot be set is not; else
            `__post_init__`, or where there is none the base's `__init__`, gets it by name.
    """

    __slots__ = ("_checks", "_scope", "annotation", "default", "kw_only", "name", "stored")

    def __init__(self, default: Any = _MISSING, kw_only: bool | None = None, stored: bool | None = None):
        self.default, self.kw_only = default, kw_only
        self.stored: Any = stored  # None: to be found out
        self.name = ""
        self.annotation: Any = None
        self._scope: Any = None  # the class that declares it
        self._checks: tuple[Check, ...] | None = None

    def _place(self, name: str, annotation: Any, scope: type, kw_only: bool, replaced: Field | None) -> None:
        """Say where it stands, and which field of a base it stands for."""
        self.name, self.annotation, self._scope = name, annotation, self._scope or scope
        self.kw_only = kw_only if self.kw_only is None else self.kw_only
        if self.stored is None:
            known = inspect.getattr_static(scope, name, None)
            self.stored = replaced.stored if replaced else not isinstance(known, property) or known.fset is not None

    def accept(self, thing: Any, value: Any) -> Any:
        """The value to keep, or an exception."""
        if self._checks is None:
            self._checks = self._read_checks()
        for check in self._checks:
            value = check(thing, self.name, value)
        return value

    def _read_checks(self) -> tuple[Check, ...]:
        annotation = self._resolved()
        if typing.get_origin(annotation) is Annotated:
            return tuple(check for check in annotation.__metadata__ if callable(check))
        return (_flag,) if annotation is bool else ()

    def _resolved(self) -> Any:
        """The annotation as a type."""
        if not isinstance(self.annotation, str):
            return self.annotation
        try:
            return eval(self.annotation, vars(sys.modules[self._scope.__module__]), vars(self._scope))
        except NameError as error:
            raise TypeError(
                f"The type {self.annotation!r} of {self._scope.__name__}'s field {self.name!r} is not known in its "
                f"module ({error}); import it there, or leave out `from __future__ import annotations`."
            ) from error

    def parameter(self) -> inspect.Parameter:
        """The field as a parameter of a signature."""
        kind = inspect.Parameter.KEYWORD_ONLY if self.kw_only else inspect.Parameter.POSITIONAL_OR_KEYWORD
        annotation = self._resolved()
        if typing.get_origin(annotation) is Annotated:
            annotation = annotation.__origin__
        return inspect.Parameter(self.name, kind, default=self.default, annotation=annotation)


def field(*, default: Any = _MISSING, kw_only: bool | None = None, stored: bool | None = None) -> Any:
    """A field with more to say than its type and default; the arguments are those of `Field`."""
    return Field(default, kw_only, stored)


class Constructor:
    """The `__init__` of a declared class: binds arguments, has the base set its own fields, checks and sets the rest.

    What it needs is found when it is first called: most programs import many more classes than they use.

    Args:
        cls: the class.
        annotations: of the names that it declares itself.
        defaults: of those that have one, which may be a `Field`.
        kw_only: whether they are given by name alone.
    """

    def __init__(self, cls: type, annotations: dict[str, Any], defaults: dict[str, Any], kw_only: bool):
        self._cls, self._annotations, self._defaults, self._kw_only = cls, annotations, defaults, kw_only
        self.__name__, self.__qualname__, self.__module__ = "__init__", f"{cls.__qualname__}.__init__", cls.__module__

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in vars(Constructor)}  # nothing found out

    @functools.cached_property
    def _above(self) -> tuple[Any, Any]:
        """The `__init__` of the nearest base that has one, and the `__post_init__` found on the way there, or None."""
        finish = None
        for one in map(vars, self._cls.__mro__):  # type: ignore[arg-type]
            is_own = one.get("__init__") is self
            if is_own or not isinstance(one.get("__init__"), Constructor):  # an __init__ in full leaves it to us
                finish = finish or one.get("__post_init__")
            if "__init__" in one and not is_own:
                return one["__init__"], finish
        raise AssertionError("object has an __init__")

    @functools.cached_property
    def fields(self) -> dict[str, Field]:
        """All fields, those of the bases first, by name."""
        base = self._above[0]
        found: dict[str, Field] = dict(base.fields) if isinstance(base, Constructor) else {}
        for name, one in self.own.items():
            found.pop(name, None)
            found[name] = one
        return found

    @functools.cached_property
    def own(self) -> dict[str, Field]:
        """The fields that the class declares itself, by name."""
        base = self._above[0]
        inherited: dict[str, Field] = base.fields if isinstance(base, Constructor) else {}
        found = {}
        for name, annotation in self._annotations.items():
            default = self._defaults.get(name, _MISSING)
            one = found[name] = default if isinstance(default, Field) else Field(default)
            one._place(name, annotation, self._cls, self._kw_only, inherited.get(name))
        return found

    @functools.cached_property
    def _positional(self) -> list[str]:
        return [name for name, one in self.fields.items() if not one.kw_only]

    @functools.cached_property
    def _base_arguments(self) -> tuple[Collection[str], bool]:
        """The names of the base's arguments, and whether it takes others too."""
        base = self._above[0]
        if isinstance(base, Constructor):
            return base.fields, base._base_arguments[1]
        if base is object.__init__:
            return (), False
        parameters = inspect.signature(base).parameters
        return parameters, any(one.kind is one.VAR_KEYWORD for one in parameters.values())

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<constructor {self.__qualname__}>"

    @property
    def __signature__(self) -> inspect.Signature:
        parameters = [one.parameter() for one in self.fields.values()]
        parameters.sort(key=lambda one: one.kind)
        more = [inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)] if self._base_arguments[1] else []
        this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return inspect.Signature([this, *parameters, *more])

    def __call__(self, thing: Any, /, *args: Any, **kwargs: Any) -> None:
        try:
            given, finish = self._bind(thing, args, kwargs), self._above[1]
            values, unstored = {}, {}
            for name, one in self.own.items():
                value = one.accept(thing, given.pop(name, one.default))
                if name in self._base_arguments[0] or not (one.stored or finish):
                    given[name] = value
                elif one.stored:
                    values[name] = value
                else:
                    unstored[name] = value
            super(self._cls, thing).__init__(**given)  # type: ignore[arg-type, misc]
            for name, value in values.items():
                setattr(thing, name, value)
            if finish is not None:
                finish(thing, **unstored)
        except BaseException as error:
            end_at_users_line(error)
            raise

    def _bind(self, thing: Any, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by name; those of a base that is no declared class among them."""
        owner, fields = type(thing), self.fields
        call = f"{owner.__name__}.__init__()"
        if len(args) > len(self._positional):
            raise TypeError(f"{call} takes {len(self._positional)} positional arguments but {len(args)} were given")
        given: dict[str, Any] = dict(zip(self._positional, args, strict=False))
        others: dict[str, Any] = {}
        for name, value in kwargs.items():
            if name in given:
                raise TypeError(f"{call} got multiple values for argument {name!r}")
            (given if name in fields else others)[name] = value
        if others:
            others = owner._other_arguments(others)
            known, takes_more = self._base_arguments
            strange = sorted(others.keys() - fields.keys() - set(known))
            if strange and not takes_more:
                owner._refuse_arguments(strange, fields)
            for name, value in others.items():
                if name in given:  # under two names, such as lr and learning_rate
                    raise TypeError(f"{call} got multiple values for argument {name!r}")
                given[name] = value
        missing = [repr(name) for name, one in fields.items() if one.default is _MISSING and name not in given]
        if missing:
            many = "s" if len(missing) > 1 else ""
            raise TypeError(f"{call} missing {len(missing)} required argument{many}: {', '.join(missing)}")
        return given


def is_declared(cls: type) -> bool:
    """Whether the constructor of a class is made of its fields."""
    return isinstance(cls.__init__, Constructor)  # type: ignore[misc]


def fields(thing: Any) -> dict[str, Field]:
    """The fields of a class, or of an object's, by name, in the order of its arguments.

    A class with an `__init__` of its own has those of the nearest base that is declared.
    """
    for base in (thing if isinstance(thing, type) else type(thing)).__mro__:
        constructor = vars(base).get("__init__")
        if isinstance(constructor, Constructor):
            return constructor.fields
    return {}


@typing.overload
def declared(cls: type[_T], /) -> type[_T]: ...
@typing.overload
def declared(*, kw_only: bool = False) -> Callable[[type[_T]], type[_T]]: ...
@typing.dataclass_transform(field_specifiers=(field,))
def declared(cls: Any = None, /, *, kw_only: bool = False) -> Any:
    """Class decorator: the annotated names in the body of the class are its fields (see the module).

    Args:
        kw_only: whether they are given by name alone, unless their `field(...)` says otherwise.

    Raises:
        TypeError: for a class that has an `__init__` of its own, or a list or dict as a default.
    """
    if cls is None:
        return lambda cls: declared(cls, kw_only=kw_only)  # type: ignore[call-overload]
    if "__init__" in vars(cls):
        raise TypeError(f"{cls.__name__} has an __init__ of its own; remove that, or @declared, which makes one.")
    above = [base for base in cls.__mro__[1:] if isinstance(vars(base).get("__init__"), Constructor)]
    known = {group for base in above for group in base.__mro__}  # these have their fields from there
    groups = [base for base in reversed(cls.__mro__[1:]) if "_group" in vars(base) and base not in known]
    shared = {name: copy.copy(one) for group in groups for name, one in vars(group)["_group"].items()}
    annotations, defaults = _taken(cls)
    annotations = {**{name: one.annotation for name, one in shared.items()}, **annotations}
    cls.__init__ = Constructor(cls, annotations, {**shared, **defaults}, kw_only)
    return cls


@typing.dataclass_transform(field_specifiers=(field,))
def group(cls: type[_T]) -> type[_T]:
    """Class decorator: the annotated names are fields of all declared classes that have this one as a base.

    A group is nothing else.  Its fields stand before the class's own; of several groups those of the last base come
    first, as with dataclasses.
    """
    annotations, defaults = _taken(cls)
    fields = cls._group = {}  # type: ignore[attr-defined]
    for name, annotation in annotations.items():
        default = defaults.get(name, _MISSING)
        one = fields[name] = default if isinstance(default, Field) else Field(default)
        one.annotation, one._scope = annotation, cls
    return cls


def _taken(cls: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The annotations of the fields in the body of a class, and their defaults, which it has no more afterwards."""
    annotations = {name: one for name, one in inspect.get_annotations(cls).items() if "ClassVar" not in str(one)}
    defaults = {name: vars(cls)[name] for name in annotations if name in vars(cls)}
    for name, default in defaults.items():
        delattr(cls, name)  # an inherited property of that name is to be found
        if isinstance(default, (list, dict, set)):
            raise TypeError(
                f"The field {name!r} of {cls.__name__} has the default {default!r}, which all objects would share; "
                "use a tuple or None."
            )
    return annotations, defaults


_ENTRY = re.compile(r"^    (?=\S)", re.MULTILINE)  # an argument in the section of a docstring that begins with "Args:"


class Documentation:
    """The docstring of a declared class: its own, and what its bases say of the arguments that it leaves to them."""

    def __init__(self, text: str | None):
        self.text = text or ""

    @functools.cached_property
    def paragraphs(self) -> list[str]:
        """Found at first need, so that importing a class does not read its docstring."""
        return inspect.cleandoc(self.text).split("\n\n")

    @property
    def entries(self) -> list[str]:
        """What it says of its arguments: for each, or for several at once, the lines of their own."""
        found = [one for one in self.paragraphs if one.startswith("Args:")]
        return ["    " + entry.rstrip() for entry in _ENTRY.split(found[0])[1:]] if found else []

    def __get__(self, thing: Any, owner: type) -> str:
        entries = self.entries
        for name in inspect.signature(owner.__init__).parameters:  # type: ignore[misc]
            word = re.compile(rf"^    ([\w, ]*, )?{name}\b[\w, ]*:|`{name}`")
            for base in owner.__mro__:
                documentation = vars(base).get("__doc__")
                if isinstance(documentation, str):
                    documentation = Documentation(documentation)
                told = documentation.entries if documentation is not None else []
                entry = next((one for one in told if word.search(one)), None)
                if entry is not None:
                    entries += [entry] if entry not in entries else []
                    break
        sections = (i for i, one in enumerate(self.paragraphs) if re.match("Args:|Returns:|Raises:|>>> ", one))
        place = next(sections, len(self.paragraphs))
        after = [one for one in self.paragraphs[place:] if not one.startswith("Args:")]
        arguments = ["\n".join(["Args:", *entries])] if entries else []
        return "\n\n".join(self.paragraphs[:place] + arguments + after)


class Fielded(UserFacing):
    """Base of what has fields, and says what becomes of arguments that are none."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__doc__ is not None:
            cls.__doc__ = Documentation(cls.__doc__)  # type: ignore[assignment]

    @classmethod
    def _other_arguments(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Arguments that are no fields as fields, such as those with a name of Keras 2; others as they are."""
        return given

    @classmethod
    def _refuse_arguments(cls, names: list[str], known: Iterable[str]) -> None:
        raise TypeError(unknown(f"argument of {cls.__name__}", names[0], known))


class Configured(Fielded):
    """Base of what is configured by its constructor and described by `get_config`."""

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, by name."""
        return {name: getattr(self, name) for name, one in fields(self).items() if one.stored}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """The object that `get_config` described."""
        return cls(**config)


def in_order(config: dict[str, Any], *first: str) -> dict[str, Any]:
    """A configuration that begins with those of these names that it has, for what Keras writes in another order."""
    return {**{name: config[name] for name in first if name in config}, **config}


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal, arrays in all of their elements."""
    return bool(np.array_equal(one, other)) if hasattr(one, "shape") or hasattr(other, "shape") else bool(one == other)


class Value(Configured):
    """What is nothing but its configuration: two of a class are equal if their configurations are.

    Objects of a user's class with an `__init__` of its own, which may hold more, are equal to themselves alone.
    """

    def _is_plain(self) -> bool:
        cls = type(self)
        return is_declared(cls) or cls.__module__.startswith("minikeras.")

    def __repr__(self) -> str:
        if not self._is_plain():
            return object.__repr__(self)
        defaults = {name: one.default for name, one in fields(self).items()}
        given = {name: value for name, value in self.get_config().items() if not _same(value, defaults.get(name))}
        shown = [f"{name}={value!r}" for name, value in given.items()]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        if self is other or type(self) is not type(other) or not self._is_plain():
            return self is other
        mine, others = self.get_config(), other.get_config()  # type: ignore[attr-defined]
        return mine.keys() == others.keys() and all(_same(mine[name], others[name]) for name in mine)

    def __hash__(self) -> int:
        return hash(type(self)) if self._is_plain() else object.__hash__(self)
