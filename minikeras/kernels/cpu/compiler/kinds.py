"""The kinds of values in compiled functions, and how a function's annotations name them.

A kind is `int64`, `float32`, `float64`, `uint8`, `uint32`, `bool`, `void`, or one of these after a `*`: a pointer to
such numbers.  Parameters without an annotation are int64, which an address is too; a function without one returns
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

ENTRY = "entry"  # the name of the function in a piece of machine code that is called from outside


class Pointer:
    """An annotation: the numbers at an address, read and written as `x[i]`."""

    kind: str

    def __getitem__(self, index: Any) -> Any: ...

    def __setitem__(self, index: Any, value: Any) -> None: ...


class Numbers(Pointer):
    kind = "*int64"


class Floats(Pointer):
    kind = "*float32"


class Doubles(Pointer):
    kind = "*float64"


class Octets(Pointer):
    kind = "*uint8"


class Words(Pointer):
    kind = "*uint32"


_KINDS = {int: "int64", float: "float64", bool: "bool", np.float32: "float32", np.uint8: "uint8", None: "void"}


class Signature(NamedTuple):
    """Kinds of a function's result and parameters."""

    result: str
    names: tuple[str, ...]
    parameters: tuple[str, ...]

    @property
    def in_numba(self) -> str:
        """As Numba writes it: `CPointer(float32)(int64)` for example."""
        result, *parameters = (
            f"CPointer({kind[1:]})" if kind.startswith("*") else kind for kind in (self.result, *self.parameters)
        )
        return f"{result}({', '.join(parameters)})"


def signature_of(function: Callable, without: int = 0) -> Signature:
    """What a function's annotations say, without its first parameters."""

    def kind_of(name: str, usual: Any) -> str:
        annotation = function.__annotations__.get(name, usual)
        if isinstance(annotation, str):
            annotation = eval(annotation, function.__globals__)
        return getattr(annotation, "kind", None) or _KINDS[annotation]

    names = function.__code__.co_varnames[without : function.__code__.co_argcount]
    return Signature(kind_of("return", None), names, tuple(kind_of(name, int) for name in names))


class Lazy:
    """What compiled functions may use besides numbers; nothing of it is compiled or loaded before it is needed."""

    known: Any  # what Numba takes for it

    def translated(self, module: Any, builder: Any, values: Any, convert: Callable, flags: Any) -> tuple[Any, Any]:
        """Emit a call: (code, kind of the result or of its parts).

        Args:
            module: the `translate.Module` that the call is in.
            values: the arguments, with their kinds; `convert(value, kind)` gives one in another kind.
            flags: fast-math flags of the calling function.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define translated(); emit the call there.")
