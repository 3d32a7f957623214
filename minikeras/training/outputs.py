"""What belongs to which output of a model: losses, weights, metrics and targets in any form that `compile` takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minikeras import tree
from minikeras.utils.checks import shown


class Outputs:
    """The outputs of a model: the structure they come in, and what they are called.

    Args:
        structure: of anything in the place of each output.
        names: the model's own names, in the order of `tree.flatten`; None where it has none.

    Attributes:
        count: how many there are.
        names: what dicts may call them: the model's names, the keys of a dict of outputs, or `output_0`, ...
        loss_names, metric_names: what logs call them; in a structure a loss is named by its path, such as `boxes/left`,
            a metric by the output's own name, if it has one.
    """

    def __init__(self, structure: Any, names: list[str] | None = None):
        self.structure = tree.map_structure(lambda _: None, structure)  # neither data nor a graph is kept
        paths = [path for path, _ in _walk(structure, ())]
        self.count = len(paths)
        flat = isinstance(structure, Mapping) and all(len(path) == 1 for path in paths)
        if names is not None and len(names) != self.count:
            names = None
        keys = [str(path[-1]) for path in paths] if flat else None
        own = keys or names
        self.metric_names: list[str | None] = [None] * self.count if own is None or self.count == 1 else list(own)
        self.names = own or (["output"] if self.count == 1 else [f"output_{i}" for i in range(self.count)])
        self.model_names = names or self.names
        self.loss_names = [_label(path, name) for path, name in zip(paths, self.names, strict=True)]

    def spread(self, spec: Any, role: str, lists: bool = False) -> list[Any]:
        """One entry for each output.

        Args:
            spec: one value for all, a list with one for each, a dict by names, or a structure as the outputs' own;
                lists and tuples are the same, and of a dict parts may be missing, which are None then.
            role: what it is, for messages; `"y"` is never one value for several outputs.
            lists: whether an entry may be a list.

        Raises:
            ValueError: for what does not fit.
        """
        fits = isinstance(spec, (list, tuple)) and len(spec) == self.count
        if fits and (lists or not any(map(tree.is_nested, spec))):
            return list(spec)
        if isinstance(spec, Mapping) and not _has_keys(self.structure, spec):
            for names in (self.names, self.model_names):
                if spec.keys() <= set(names):
                    return [spec.get(name) for name in names]
            if self.names == self.loss_names or not isinstance(self.structure, Mapping):
                unknown = sorted(str(key) for key in spec.keys() - set(self.names))
                raise ValueError(f"{role} names the outputs {unknown}, not the model's; its outputs are {self.names}.")
        return list(self._descend(self.structure, spec, role))

    def _descend(self, structure: Any, spec: Any, role: str) -> list[Any]:
        nested, inner = isinstance(spec, tree.NESTED), isinstance(structure, tree.NESTED)
        if not inner:
            if role in ("loss", "metrics") or not nested:
                return [spec]
            parts = tree.flatten(spec)
            if len(parts) != 1:
                raise ValueError(self._misfit(spec, role))
            return parts
        if not nested and (spec is None or role != "y" or self.count == 1):
            return [spec] * len(tree.flatten(structure))
        if isinstance(structure, Mapping):
            fits = isinstance(spec, Mapping) and _has_keys(structure, spec)
            pairs = [(structure[key], spec.get(key)) for key in _keys(structure)] if fits else []
        else:
            fits = isinstance(spec, (list, tuple)) and len(spec) == len(structure)
            pairs = list(zip(structure, spec, strict=True)) if fits else []
        if not fits:
            raise ValueError(self._misfit(spec, role))
        return [entry for one, part in pairs for entry in self._descend(one, part, role)]

    def _misfit(self, spec: Any, role: str) -> str:
        if any("/" in name for name in self.loss_names):
            form = tree.map_structure(lambda _: "...", self.structure)
            return f"{role} must have the form of the outputs, {form}, got {shown(spec)}."
        size = len(tree.flatten(spec))
        words = f"{size} {'part' if size == 1 else 'parts'}"
        return f"{role} has {words} for the {self.count} outputs {self.loss_names}; give one for each."

    def targets(self, y: Any, wanted: list[bool]) -> list[Any]:
        """The targets of each output, None where there is none.

        Args:
            y: as many as outputs, in a form that `spread` takes, or as many as are wanted, in order.
            wanted: which outputs have a loss.
        """
        if not isinstance(y, Mapping) and sum(wanted) < self.count:
            parts = tree.flatten(y)
            if len(parts) == sum(wanted):
                left = iter(parts)
                return [next(left) if one else None for one in wanted]
        return self.spread(y, "y")


def _has_keys(structure: Any, spec: Mapping) -> bool:
    return isinstance(structure, Mapping) and spec.keys() <= structure.keys()


def _keys(structure: Any) -> list[Any]:
    """The keys of a dict in the order in which `tree.flatten` takes its values."""
    return tree.flatten(type(structure)((key, key) for key in structure))


def _walk(structure: Any, path: tuple) -> list[tuple[tuple, Any]]:
    """Path and value of every leaf, in the order of `tree.flatten`."""
    if isinstance(structure, Mapping):
        parts = [(key, structure[key]) for key in _keys(structure)]
    elif isinstance(structure, (list, tuple)):
        parts = list(enumerate(structure))
    else:
        return [(path, structure)]
    return [leaf for key, part in parts for leaf in _walk(part, (*path, key))]


def _label(path: tuple, name: str) -> str:
    """A path in words, whose last part is the output's own name where it is only a number."""
    parts = path if path and not isinstance(path[-1], int) else (*path[:-1], name)
    return "/".join(map(str, parts))
