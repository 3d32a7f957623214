"""The measures of the house: how much there is to read, how far it is from `fit` to a kernel, and what a step costs.

    python -m benchmarks.house

Code lines are lines without blanks, comments and docstrings.  Calls are those of Python functions of minikeras, seen by
`sys.setprofile` in the steady state; they do not depend on the machine.
"""

from __future__ import annotations

import ast
import inspect
import io
import sys
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import minikeras
from minikeras import Input, Sequential, kernels, layers

SOURCE = Path(minikeras.__file__).parent
_SILENT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


# ---------------------------------------------------------------- what there is to read


def code_lines(source: str) -> int:
    """The number of lines with code on them."""
    documented: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
            first = body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                documented.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _SILENT:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - documented)


def class_lines(cls: type) -> int:
    """The code lines of one class, without its bases."""
    return code_lines(inspect.getsource(cls))


def with_bases(cls: type) -> int:
    """The code lines of a class and of those bases that say something about it: all but those of `Layer`."""
    own = [base for base in cls.__mro__ if base.__module__.startswith("minikeras.")]
    return sum(class_lines(base) for base in own if base not in layers.Layer.__mro__)


def imports_of(path: Path, modules: set[str], package: str = "minikeras.") -> set[str]:
    """The modules of the package that a file imports, also inside functions and by strings."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update(names if names <= modules else {node.module, *names})
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(package):
            found.add(node.value)
    return found & modules


def circles() -> list[tuple[str, str]]:
    """Pairs of files that import each other."""
    files = {}
    for path in sorted(SOURCE.rglob("*.py")):
        name = "minikeras." + path.relative_to(SOURCE).as_posix().removesuffix(".py").replace("/", ".")
        files[name.removesuffix(".__init__")] = path
    imported = {name: imports_of(path, set(files)) - {name} for name, path in files.items()}
    return [(one, other) for one in files for other in imported[one] if one < other and one in imported[other]]


# ---------------------------------------------------------------- how far it is


def own_frames() -> int:
    """How many frames of the package are on the stack here."""
    count, frame = 0, inspect.currentframe()
    while frame is not None:
        count += frame.f_code.co_filename.startswith(str(SOURCE))
        frame = frame.f_back
    return count


def calls_of(function: Callable[[], Any]) -> int:
    """Python functions of the package that a call runs."""
    count = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call" and frame.f_code.co_filename.startswith(str(SOURCE))

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def perceptron() -> Any:
    model = Sequential([Input((784,)), layers.Dense(128, activation="relu"), layers.Dense(10, activation="softmax")])
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


def frames_to_a_kernel() -> int:
    """Frames of the package between `fit` and the kernel of its first Dense layer, both included."""
    model, deepest = perceptron(), []
    original = kernels.dense
    x, y = np.zeros((32, 784), "float32"), np.eye(10, dtype="float32")[np.zeros(32, int)]
    model.fit(x, y, verbose=0)

    def dense(*args: Any, **settings: Any) -> Any:
        deepest.append(own_frames() + 1)
        return original(*args, **settings)

    kernels.dense = dense
    try:
        model.fit(x, y, verbose=0)
    finally:
        kernels.dense = original
    return max(deepest)


def calls_of_a_step() -> float:
    """Python calls of one more step of `fit`, metrics and batches included."""
    model = perceptron()
    x, y = np.zeros((64, 784), "float32"), np.eye(10, dtype="float32")[np.zeros(64, int)]
    model.fit(x, y, batch_size=1, verbose=0)
    few, many = (calls_of(lambda n=n: model.fit(x[:n], y[:n], batch_size=1, verbose=0)) for n in (32, 64))
    return (many - few) / 32


def rows() -> Iterator[tuple[str, Any, Any]]:
    """(measure, value, goal)."""
    for name, goal in (("Dense", 25), ("Conv2D", 70), ("LSTM", 150), ("Dropout", 15), ("BatchNormalization", 60)):
        cls = getattr(layers, name)
        yield f"code lines of {name}, its bases but Layer included", with_bases(cls), goal
    yield "code lines of class Layer", class_lines(layers.Layer), "200 a file"
    sizes = {
        path.relative_to(SOURCE).as_posix(): code_lines(path.read_text(encoding="utf-8"))
        for path in SOURCE.rglob("*.py")
    }
    yield "frames from fit to a Dense kernel", frames_to_a_kernel(), 10
    yield "Python calls in a step of W1's network", round(calls_of_a_step()), 60
    model, x = perceptron(), np.zeros((1, 784), "float32")
    for name in ("predict", "predict_on_batch"):
        method = getattr(model, name)
        arguments = {"verbose": 0} if name == "predict" else {}
        for _ in range(6):
            method(x, **arguments)
        yield f"Python calls in {name}(x[:1])", calls_of(lambda m=method, a=arguments: m(x, **a)), 40
    y = np.eye(10, dtype="float32")[:1]
    for name, arguments in (("train_on_batch", {}), ("test_on_batch", {}), ("evaluate", {"verbose": 0})):
        method = getattr(model, name)
        for _ in range(3):
            method(x, y, **arguments)
        yield f"Python calls in {name} of one sample", calls_of(lambda m=method, a=arguments: m(x, y, **a)), ""
    yield "pairs of files that import each other", len(circles()), 0
    yield "code lines of kernels/cpu", sum(n for name, n in sizes.items() if name.startswith("kernels/cpu/")), 4000
    yield "code lines of the package", sum(sizes.values()), "less than before"


def main() -> None:
    print("| measure | now | goal |\n|---|---:|---:|")
    for name, value, goal in rows():
        print(f"| {name} | {value:,} | {goal} |")
    for one, other in circles():
        print(f"circle: {one} and {other}")


if __name__ == "__main__":
    main()
