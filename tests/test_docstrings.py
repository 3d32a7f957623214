"""Every public name explains itself: what it is, its arguments, and examples that print what they say."""

from __future__ import annotations

import doctest
import inspect
import re
import tempfile
from typing import Any

import numpy as np
import pytest

from minikeras.compat import find, keras_names

NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:e[-+]?\d+)?(?![\w])")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# arguments that every layer, loss, metric or optimizer has: their bases explain them
OF_BASES = {"args", "kwargs", "unused", "params", "name", "dtype", "trainable", "autocast", "activity_regularizer"}


def public() -> dict[str, Any]:
    """Each public class and function of minikeras once, under the first of Keras's names for it."""
    found: dict[int, tuple[str, Any]] = {}
    for name in sorted(keras_names(), key=lambda name: (name.startswith("_"), name.count("."), name)):
        try:
            value = find(name)
        except AttributeError:
            continue
        if callable(value) and not inspect.ismodule(value):
            found.setdefault(id(value), (name, value))
    return dict(found.values())


PUBLIC = public()


def own_docstring(value: Any) -> str:
    """The docstring of a function, or of a class; that of its bases does not count."""
    return inspect.cleandoc(value.__doc__ or "")


class Checker(doctest.OutputChecker):
    """Compares numbers as numbers: the last digits of a float depend on processor and NumPy."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        if super().check_output(want, got, optionflags):
            return True
        wanted, found = NUMBER.findall(want), NUMBER.findall(got)
        same_words = re.sub(r"\s", "", NUMBER.sub("#", want)) == re.sub(r"\s", "", NUMBER.sub("#", got))
        if not same_words or len(wanted) != len(found):
            return False
        return bool(np.allclose([float(n) for n in wanted], [float(n) for n in found], rtol=1e-4, atol=1e-6))


@pytest.mark.parametrize("name", PUBLIC)
def test_explains_itself(name: str, tmp_path, monkeypatch):
    text = own_docstring(PUBLIC[name])
    assert text, f"keras.{name} has no docstring"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    example = doctest.DocTestParser().get_doctest(text, {}, name, None, 0)
    assert example.examples, f"keras.{name} shows no example"
    report: list[str] = []
    doctest.DocTestRunner(Checker(), optionflags=FLAGS).run(example, out=report.append)
    assert not report, "".join(report)


def test_the_checker_can_fail():
    checker = Checker()
    assert checker.check_output("array([1.0, 2.50001])\n", "array([1., 2.5])\n", FLAGS)
    assert not checker.check_output("array([1.0, 2.6])\n", "array([1., 2.5])\n", FLAGS)
    assert not checker.check_output("array([1.0])\n", "array([1.0, 2.0])\n", FLAGS)
    assert not checker.check_output("(2, 3) float32\n", "(2, 3) float64\n", FLAGS)


def unexplained(value: Any) -> list[str]:
    """The arguments of a class or function that its docstring does not name."""
    try:
        parameters = inspect.signature(value).parameters
    except ValueError:
        return []
    words = set(re.findall(r"\w+", own_docstring(value)))
    return [name for name in parameters if name not in words | OF_BASES and not name.startswith("_")]


@pytest.mark.parametrize("name", PUBLIC)
def test_names_its_arguments(name: str):
    assert not unexplained(PUBLIC[name])
