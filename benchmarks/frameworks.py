"""The frameworks by name: each has `version`, `modules`, `seed()`, `program(row)` and `data(row, setting)`."""

from __future__ import annotations

from typing import Any

NAMES = ("minikeras", "keras", "keras+jit", "torch", "torch+compile", "sklearn")


def load(name: str) -> Any:
    """Import a framework of `NAMES`: the module, after a plus the way it is asked to compile."""
    if name not in NAMES:
        raise ValueError(f"There is no framework {name!r} here; known are {', '.join(NAMES)}.")
    module, _, option = name.partition("+")
    if module == "torch":
        from benchmarks import torch_models

        return torch_models.Framework(compiled=option == "compile")
    if module == "sklearn":
        from benchmarks import sklearn_models

        return sklearn_models.Framework()
    from benchmarks import keras_models

    return keras_models.Framework(module, **({"jit_compile": True} if option == "jit" else {}))
