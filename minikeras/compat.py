"""`python -m minikeras.compat`: write docs/compatibility.md, where each name of Keras is and how it was compared.

The page begins with what people wrote about differences; below a mark stands what is made here: for every public name
of Keras 3.15 and Keras 2 (`keras_names.txt`) whether minikeras has it, and which comparison with real Keras, or else
which test, uses it.  `--check` says whether the page is what would be written now.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from minikeras.lazy import text_of

MARK = "<!-- below: written by `python -m minikeras.compat` -->"
FAMILIES = ("activations", "initializers", "layers", "losses", "metrics", "nn", "ops", "optimizers", "random")
OWNERS = {  # what tests call a module otherwise
    "": ("keras", "minikeras"),
    "_legacy.backend": ("K", "backend"),
    "backend": ("backend", "keras", "K"),
    "ops.nn": ("ops", "nn"),
    "ops.numpy": ("ops", "numpy"),
}
ROOT = Path(__file__).parent.parent  # of a checkout: the page and the tests are not installed


def keras_names() -> list[str]:
    """Every public name of Keras, without the leading `keras.`.

    >>> from minikeras.compat import keras_names
    >>> "layers.Dense" in keras_names()
    True
    """
    return text_of("minikeras", "keras_names.txt").split()


def find(name: str) -> Any:
    """What minikeras has under a name of Keras.

    Raises:
        AttributeError: where there is no such name.

    >>> from minikeras.compat import find
    >>> find("layers.Dense").__name__
    'Dense'
    """
    found = importlib.import_module("minikeras")
    for part in name.split("."):
        found = getattr(found, part)
    return found


def words_of(source: str, family: str) -> set[str]:
    """The names that a test uses, each with its owner: `layers.Dense`, `K.mean`, `keras.Model`.

    Args:
        source: the test's program.
        family: its file's path, `parity/test_losses_parity.py`; strings in it that are words are names of this family.
    """
    words: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Attribute(attr=owner) | ast.Name(id=owner), attr=word):
                words.add(f"{owner}.{word}")
            case ast.ImportFrom(module=str(module)):
                words.update(f"{module.rpartition('.')[2]}.{one.name}" for one in node.names)
            case ast.Constant(value=str(text)) if text.isidentifier():
                words.update(f"{owner}.{text}" for owner in FAMILIES if owner[:4] in family)
    return words


def uses(folder: Path, patterns: Iterable[str]) -> dict[str, str]:
    """For each owned name the first file of tests that uses it, in the order of the patterns."""
    found: dict[str, str] = {}
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            for word in words_of(path.read_text(encoding="utf-8"), path.as_posix()):
                found.setdefault(word, path.relative_to(folder).as_posix())
    return found


def names_section(tests: Path) -> str:
    """The tables of names: a heading for each module of Keras, a row for each name."""
    parity = uses(tests, ["parity/**/test_*.py", "parity/**/*.py", "**/*_cases.py"])
    others = uses(tests, ["**/test_*.py", "**/*.py"])
    modules: dict[str, list[str]] = {}
    first: dict[int, str] = {}
    here = 0
    names = sorted(keras_names(), key=lambda name: (name.startswith("_"), "." not in name, name.count("."), name))
    for name in names:
        module, _, word = name.rpartition(".")
        rows = modules.setdefault(module, [])
        try:
            value = find(name)
        except AttributeError:
            rows.append(f"| `{word}` | no | |")
            continue
        here += 1
        same = first.setdefault(id(value), name)
        owners = OWNERS.get(module, (module.rpartition(".")[2] or "keras",))
        used = [f"{owner}.{word}" for owner in owners]
        if same != name and callable(value):
            how = f"the same as `keras.{same}`"
        else:
            how = next((table[one] for table in (parity, others) for one in used if one in table), "")
        rows.append(f"| `{word}` | yes | {how} |")
    lines = [f"{here} of {len(names)} public names of Keras are here. The last column says which test uses a name:"]
    lines += ["those in `tests/parity/` run the same program on installed real Keras and compare."]
    for module, rows in sorted(modules.items()):
        lines += [
            "",
            f"### keras{'.' * bool(module)}{module}",
            "",
            "| name | here | compared |",
            "|---|---|---|",
            *rows,
        ]
    return "\n".join(lines) + "\n"


def page(root: Path) -> str:
    """The whole page as it should be: what people wrote, the mark, and the names."""
    written, mark, _ = (root / "docs" / "compatibility.md").read_text(encoding="utf-8").partition(MARK)
    if not mark:
        raise ValueError(f"docs/compatibility.md has no line {MARK!r}, below which the names are written; add it.")
    return f"{written}{MARK}\n\n## Names\n\n{names_section(root / 'tests')}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; with `--check` only compare, 1 where it is stale."""
    parser = argparse.ArgumentParser(prog="python -m minikeras.compat", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args(arguments).check
    path = ROOT / "docs" / "compatibility.md"
    if not path.is_file():
        print(f"There is no {path}; run this in a checkout of minikeras.", file=sys.stderr)
        return 1
    text = page(ROOT)
    if check and path.read_text(encoding="utf-8") != text:
        print("docs/compatibility.md is stale; run `python -m minikeras.compat`.", file=sys.stderr)
        return 1
    if not check:
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
