"""What a worker process needs of the program that started it, without running that program once more.

A dataset whose class stands in the main program is pickled by the name of its class.  The process gets this class, and
what it refers to, by running the statements of the program's text that define them, and only these: imports, classes,
functions.  Other global values that they refer to are sent as they are now; one that cannot be sent, such as a lock or
a function made by `lambda`, is made by the statements that made it.
"""

from __future__ import annotations
import __future__

import ast
import io
import pickle
import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class _NotingPickler(pickle.Pickler):
    """Notes which names of the main program a pickle refers to."""

    def __init__(self, file: Any):
        super().__init__(file, protocol=5)
        self.names: set[str] = set()

    def reducer_override(self, thing: Any) -> Any:
        if isinstance(thing, (type, FunctionType)) and thing.__module__ == "__main__":
            self.names.add(thing.__qualname__.partition(".")[0])
        return NotImplemented


def dumped(thing: Any) -> tuple[bytes, set[str]]:
    """A pickle, and the names of the main program that are needed to read it.

    Raises:
        Exception: whatever the object's own methods raise.
    """
    file = io.BytesIO()
    pickler = _NotingPickler(file)
    pickler.dump(thing)
    return file.getvalue(), pickler.names


def describe(names: set[str]) -> tuple[Any, ...]:
    """The arguments of `rebuild` that make these names of the main program; they can be pickled.

    Raises:
        TypeError: where the program is not in a file.
    """
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    if path is None:
        raise TypeError("its class was typed in, it lies in no file that another process could read")
    with open(path, "rb") as file:
        body = ast.parse(file.read(), path).body
    statements = list(_statements(body))
    postponed = any(isinstance(one, ast.ImportFrom) and one.module == "__future__" for one in body)
    binding: dict[str, list[int]] = {}
    for number, statement in enumerate(statements):
        for name in _bound(statement):
            binding.setdefault(name, []).append(number)
    run = set(binding.get("*", ()))
    sent: dict[str, bytes] = {}
    waiting, seen = set(names), set(names)
    while waiting:
        name = waiting.pop()
        value = vars(main).get(name)
        needed: set[str] = set()
        made_by_text = isinstance(value, ModuleType)
        made_by_text |= isinstance(value, (type, FunctionType)) and value.__module__ == "__main__"
        if not made_by_text and name in vars(main):
            try:
                sent[name], needed = dumped(value)
            except Exception:  # whatever an object's own methods raise: it is made anew there
                made_by_text = True
        if made_by_text:
            numbers = binding.get(name, [])
            run.update(numbers)
            needed = {one.id for i in numbers for one in ast.walk(statements[i]) if isinstance(one, ast.Name)}
        waiting |= needed - seen
        seen |= needed
    flags = __future__.annotations.compiler_flag if postponed else 0
    return path, getattr(main, "__package__", None), [statements[i] for i in sorted(run)], flags, sent


def rebuild(path: str, package: str | None, body: list[ast.stmt], flags: int, sent: dict[str, bytes]) -> None:
    """Make a main program that has the definitions and values that `describe` found."""
    main = ModuleType("__main__")
    main.__file__, main.__package__ = path, package
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main
    plain = {name: data for name, data in sent.items() if b"__main__" not in data}
    vars(main).update({name: pickle.loads(data) for name, data in plain.items()})
    exec(compile(ast.Module(body, []), path, "exec", flags, dont_inherit=True), vars(main))
    vars(main).update({name: pickle.loads(data) for name, data in sent.items() if name not in plain})


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that stand alone, those under `if` (such as `if __name__ == "__main__":`) and `with` included."""
    for statement in body:
        if isinstance(statement, (ast.If, ast.With)):
            yield from _statements(statement.body)
        elif not (isinstance(statement, ast.ImportFrom) and statement.module == "__future__"):
            yield statement


def _bound(statement: ast.stmt) -> Iterator[str]:
    """The global names that a statement gives a value."""
    if isinstance(statement, _DEFINITIONS):
        yield statement.name
    elif isinstance(statement, (ast.Import, ast.ImportFrom)):
        for one in statement.names:
            yield one.asname or one.name.partition(".")[0]
    elif isinstance(statement, ast.Try):
        for inner in (*statement.body, *(one for handler in statement.handlers for one in handler.body)):
            yield from _bound(inner)
    elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
