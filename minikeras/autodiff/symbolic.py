"""Symbolic tensors: a shape and a type without values, and the operation that will compute them.

The layer graph of a functional model is made of these; it is static and knows nothing of gradients.
"""

from __future__ import annotations

import itertools
import math
import re
import weakref
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from minikeras import journal, limits, tree
from minikeras import kernels as k
from minikeras.autodiff.strings import type_name
from minikeras.autodiff.tape import recording
from minikeras.autodiff.tensor import Tensor

_name_counts: defaultdict[str, int] = defaultdict(int)


def unique_name(prefix: str) -> str:
    """`prefix`, `prefix_1`, `prefix_2`, ...: a new name at every call."""
    count = next_number(prefix) - 1
    return prefix if count == 0 else f"{prefix}_{count}"


def next_number(prefix: str = "") -> int:
    """1, 2, 3, ...: how many names with this prefix were given since `clear_session`, this one included.

    >>> import minikeras as keras
    >>> keras.backend.get_uid("example")
    1
    """
    _name_counts[prefix] += 1
    return _name_counts[prefix]


def reset_names() -> None:
    """Start automatic names anew (`clear_session`)."""
    _name_counts.clear()


def snake_case(name: str) -> str:
    """`MaxPooling2D` to `max_pooling2d`, as automatic names and file paths are written."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


class KerasTensor:
    """What a layer or an operation will compute: a shape (None for an open dimension), a type, and its origin.

    Args:
        shape: for example `(None, 784)`.
        dtype: in any of the forms that `config.standardize_dtype` takes, or `"string"`; default `floatx()`.
        name: default automatic.

    >>> import minikeras as keras
    >>> keras.KerasTensor((None, 3)).shape
    (None, 3)
    """

    def __init__(self, shape: Any, dtype: Any = None, name: str | None = None, **unused: Any):
        self.shape = tuple(None if size is None else int(size) for size in shape)
        self.dtype = type_name(dtype)
        if limits.account.left is not None:
            limits.check_tensor(self.shape, _itemsize(self.dtype))
        self.name = name or unique_name("keras_tensor")
        self.sparse = self.ragged = False
        self._keras_history: Any = None  # (operation, node index, output index)
        self._keras_mask: Any = None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        raise TypeError(f"A symbolic tensor has no length, got {self!r}; use its shape.")

    def __iter__(self) -> Any:
        raise TypeError(f"A symbolic tensor cannot be iterated over, got {self!r}.")

    def __bool__(self) -> bool:
        raise TypeError(
            f"A symbolic tensor has no truth value, got {self!r}; put Python conditions in a layer's call()."
        )

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise ValueError(
            f"A symbolic tensor has no values, got {self!r}; wrap NumPy calls in a layer or use minikeras.ops."
        )

    def __repr__(self) -> str:
        return f"<KerasTensor shape={self.shape}, dtype={self.dtype}, name={self.name}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self._keras_history is not None:
            raise TypeError(
                f"{self!r} belongs to a graph of layers and cannot be copied or pickled without it; make a model of "
                "the graph, Model(inputs, outputs), and copy that."
            )
        return super().__reduce_ex__(protocol)

    __hash__ = object.__hash__


def _itemsize(dtype: str) -> int:
    return 8 if dtype == "string" else np.dtype(dtype).itemsize


class SymbolicNode:
    """One use of an operation in a graph: the arguments it was called with and the tensors it will return."""

    def __init__(self, operation: Any, args: tuple, kwargs: dict[str, Any], outputs: Any):
        self.operation = operation
        self.args = args
        self.kwargs = kwargs
        self.outputs = outputs
        self.index = len(operation._inbound_nodes)
        self.input_tensors: list[KerasTensor] = [
            leaf for leaf in tree.flatten((list(args), kwargs)) if isinstance(leaf, KerasTensor)
        ]
        self.output_tensors: list[KerasTensor] = tree.flatten(outputs)
        operation._inbound_nodes.append(self)
        for tensor in self.input_tensors:
            if tensor._keras_history is not None:  # weakly: what uses an operation is not kept by it
                vars(tensor._keras_history[0]).setdefault("_outbound", []).append(weakref.ref(self))
        for position, tensor in enumerate(self.output_tensors):
            tensor._keras_history = (operation, self.index, position)

    @property
    def is_input(self) -> bool:
        """Whether this is an entrance of a graph."""
        return not self.input_tensors

    @property
    def parent_nodes(self) -> list[SymbolicNode]:
        """The uses of operations that made the inputs."""
        histories = [tensor._keras_history for tensor in self.input_tensors]
        return [history[0]._inbound_nodes[history[1]] for history in histories if history is not None]

    @property
    def outbound_layer(self) -> Any:
        """The operation, as Keras 2 calls it."""
        return self.operation

    @property
    def inbound_layers(self) -> Any:
        """The operations that made the inputs, or the only one, as Keras 2 calls them."""
        found = [node.operation for node in self.parent_nodes]
        return found[0] if len(found) == 1 else found


class FunctionNode:
    """An operation function (such as `ops.add`) used on symbolic tensors, as an element of the layer graph."""

    def __init__(self, function: Callable, name: str):
        self.function = function
        self.name = name
        self._inbound_nodes: list[SymbolicNode] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Symbolic outputs for symbolic inputs, as those of a layer are asked for."""
        return self.function.infer(args, kwargs)  # type: ignore[attr-defined]


class TooSmall(ValueError):
    """Inputs are smaller than a window that slides over them."""


def infer_output(function: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The symbolic outputs of a function of tensors, found by running it on zeros: once where all sizes are known.

    Open dimensions get one size in a first run and another in a second; a dimension of the result that differs between
    the runs is open.  The sizes differ by so much that strides do not hide it.  Where a window does not fit into those
    sizes, larger ones are tried, where an index is out of range, smaller ones.  Variables, metrics and random streams
    are afterwards what they were before.
    """
    is_open = any(None in leaf.shape for leaf in tree.flatten((args, kwargs)) if isinstance(leaf, KerasTensor))

    def sizes(value: KerasTensor, extra: int, usual: int) -> tuple[int, ...]:
        open_sizes = itertools.chain((2 + extra,), itertools.repeat(usual + extra))
        return tuple(next(open_sizes) if size is None else size for size in value.shape)

    def lend(extra: int, usual: int) -> None:
        for leaf in tree.flatten((args, kwargs)):
            if isinstance(leaf, KerasTensor):
                shape = sizes(leaf, extra, usual)
                limits.lend(math.prod(shape) * _itemsize(leaf.dtype), f"zeros of shape {limits.shown_sizes(shape)}")

    def run(extra: int, usual: int) -> Any:
        def zeros(value: Any) -> Any:
            if not isinstance(value, KerasTensor):
                return value
            shape = sizes(value, extra, usual)
            if value.dtype == "string":
                return Tensor(np.full(shape, "", object))
            return Tensor(k.xp.zeros(shape, value.dtype))

        with journal.dry_run(), recording(False), np.errstate(all="ignore"):
            return function(*tree.map_structure(zeros, args), **tree.map_structure(zeros, kwargs))

    def both(size: int, other: int) -> tuple[Any, Any]:
        if limits.account.left is not None:
            lend(1, other)  # of the larger run, before any
        first = run(0, size)
        return first, run(1, other) if is_open else first

    try:
        first, second = both(16, 34)
    except TooSmall:
        if not is_open:
            raise
        first, second = both(128, 274)
    except IndexError:  # more positions than a table has
        if not is_open:
            raise
        first, second = both(3, 8)

    def describe(pair: tuple) -> KerasTensor | None:
        a, b = pair
        if a is None:
            return None
        if isinstance(a, KerasTensor):
            raise ValueError(f"it uses the symbolic tensor {a!r} beside its arguments; pass that as an argument")
        shape = tuple(m if m == n else None for m, n in zip(a.shape, b.shape, strict=True))
        return KerasTensor(shape, a.dtype)

    flat = [describe(pair) for pair in zip(tree.flatten(first), tree.flatten(second), strict=True)]
    return tree.pack_sequence_as(first, flat)


def is_symbolic(structure: Any) -> bool:
    """Whether any leaf of a structure is a `KerasTensor`."""
    return any(isinstance(leaf, KerasTensor) for leaf in tree.flatten(structure))
