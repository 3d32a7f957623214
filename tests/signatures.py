"""How constructors are compared with Keras's, which takes some arguments in `**kwargs` that ours name."""

from __future__ import annotations

import inspect
from typing import Any


def by_position(cls: Any) -> dict[str, Any]:
    """The arguments of a constructor that may be given by position, with their defaults."""
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    return {one.name: one.default for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD}
