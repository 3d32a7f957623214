"""What older Keras called things, from `older.txt`."""

from __future__ import annotations

import json
import re
from typing import Any

from minikeras.lazy import text_of


def _sections() -> list[dict[str, str]]:
    """The lines of each section by what stands before the colon."""
    text = text_of("minikeras", "older.txt")
    found = [re.findall(r"^(\w+): *(.*)$", section, re.MULTILINE) for section in text.split("\n[")[1:]]
    return [dict(lines) for lines in found]


_classes, GONE, _arguments, SAY_NOTHING, *_more = _sections()
_at_rest, _values, _first, MERGES, _operations, _defaults, _plain, _moving, _states = _more

NEW_CLASSES: dict[str, str] = {old: new for new, names in _classes.items() for old in names.split()}
NEW_ARGUMENTS: dict[str, list[str]] = {old: names.split() for old, names in _arguments.items()}
AT_REST: dict[str, Any] = {name: json.loads(value) for name, value in _at_rest.items()}
NEW_VALUES: dict[str, dict[Any, Any]] = {name: json.loads(value) for name, value in _values.items()}
FIRST_INITIALIZERS: dict[str, dict[str, Any]] = {name: json.loads(value) for name, value in _first.items()}

# by the name of a function or node of TensorFlow: our operation, and our parameters by the names of TensorFlow's
SYMBOLS: dict[str, tuple[str, dict[str, str]]] = {}
for _ours, _line in _operations.items():
    _names, _, _parameters = _line.partition(" | ")
    _pairs = [one.partition("=") for one in _parameters.split()]
    SYMBOLS |= dict.fromkeys(_names.split(), (_ours, {theirs: own or theirs for theirs, _, own in _pairs}))
DEFAULTS: dict[str, dict[str, Any]] = {name: json.loads(value) for name, value in _defaults.items()}
PLAIN_PARAMETERS: dict[str, list[Any]] = {name: json.loads(value) for name, value in _plain.items()}
STATES: dict[str, dict[str, str]] = {
    name: dict(pair.split("=") for pair in line.split()) for name, line in _states.items()
}
MOVES_AXES = set(_moving["moving"].split())
