"""The table of a model's layers."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minikeras.autodiff.symbolic import FunctionNode
from minikeras.models.graph import Graph
from minikeras.utils.console import show

# Columns, where each ends in the line, and the longest line that is chosen automatically.
_CHAIN: tuple[tuple[str, ...], tuple[float, ...], int] = (
    ("Layer (type)", "Output Shape", "Param #"),
    (0.45, 0.8, 1.0),
    88,
)
_GRAPH: tuple[tuple[str, ...], tuple[float, ...], int] = ((*_CHAIN[0], "Connected to"), (0.3, 0.56, 0.74, 1.0), 108)


def print_summary(
    model: Any,
    line_length: int | None = None,
    print_fn: Callable | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    layer_range: Any = None,
) -> None:
    """Print a table of the layers with output shapes and numbers of parameters, and their sums below.

    Args:
        model: a model; what is not known before it is built is shown as `?`.
        line_length: width of the table, default what the terminal has, at most 88 (108 with connections).
        print_fn: called once with the whole text, instead of printing it.
        expand_nested: whether the layers of models in the model are listed.
        show_trainable: whether a column tells which layers are trained.
        layer_range: names, or patterns, of the first and the last layer to be listed.

    Raises:
        ValueError: for a `layer_range` that fits no layer.
    """
    layers = model._graph.operations if model.is_functional else model.layers
    connected = set(model._graph.nodes) if model.is_functional and not _is_chain(model._graph) else None
    names, ends, longest = _CHAIN if connected is None else _GRAPH
    if show_trainable:
        names, ends, longest = (*names, "Trainable"), (*(end * 0.9 for end in ends), 1.0), longest + 12
    width = line_length or min(longest, shutil.get_terminal_size().columns - 4)
    rows: list[list[str]] = []
    for layer in layers[_range(layers, layer_range)]:
        _add_rows(rows, layer, 0, expand_nested, connected, show_trainable)
    text = "\n".join((f'Model: "{model.name}"', *_table(names, rows, _column_widths(ends, width)), *_totals(model), ""))
    (print_fn or show)(text)


def _is_chain(graph: Graph) -> bool:
    """Whether each operation is used once, on the output of the one before."""
    inner = [node for node in graph.nodes if not graph._is_source(node)]
    origins = [tensor._keras_history[:2] for node in inner for tensor in node.input_tensors]
    return (
        len(graph.inputs) == 1
        and len(inner) == len(origins) == len(set(origins))
        and len(graph.nodes) == len(inner) + 1 == len(graph.operations)
    )


def _range(layers: list[Any], layer_range: Any) -> slice:
    if layer_range is None:
        return slice(None)
    if len(layer_range) != 2 or not all(isinstance(name, str) for name in layer_range):
        raise ValueError(f"layer_range takes the names of two layers, got {layer_range!r}.")
    found = [[i for i, layer in enumerate(layers) if re.match(name, layer.name)] for name in layer_range]
    if not all(found):
        raise ValueError(f"layer_range={layer_range!r} fits none of {[layer.name for layer in layers]}.")
    first, last = sorted((found[0][0], found[1][-1]))
    return slice(first, last + 1)


def _add_rows(
    rows: list[list[str]], layer: Any, level: int, expand_nested: bool, connected: set | None, show_trainable: bool
) -> None:
    function = layer.function if isinstance(layer, FunctionNode) else None
    row = [f"{'   ' * level}{'└ ' if level else ''}{layer.name} ({kind_of(layer)})", output_shape(layer)]
    row.append("0" if function is not None else f"{layer.count_params():,}" if layer.built else "0 (unbuilt)")
    if connected is not None:
        row.append(_connections(layer, connected))
    if show_trainable:
        row.append(("Y" if layer.trainable else "N") if function is None and layer.weights else "-")
    rows.append(row)
    if expand_nested and hasattr(layer, "is_functional"):
        for nested in layer.layers:
            _add_rows(rows, nested, level + 1, expand_nested, connected, show_trainable)


def kind_of(layer: Any) -> str:
    """What Keras calls the class of a layer: `Functional` for a model with a graph, `Add` for a use of `ops.add`."""
    if isinstance(layer, FunctionNode):
        return layer.function.__name__.strip("_").title().replace("_", "")
    return type(layer).__name__


def output_shape(layer: Any) -> str:
    """The shape of the layer's last use; else what follows from what it was built for."""
    if layer._inbound_nodes:
        shapes = [tensor.shape for tensor in layer._inbound_nodes[-1].output_tensors]
    elif layer._build_shapes:
        try:
            outputs = layer.compute_output_shape(*layer._build_shapes.values())
        except (NotImplementedError, TypeError, ValueError):  # the user's layer does not tell
            return "?"
        shapes = _shape_leaves(outputs)
    else:
        return "?"
    texts = [f"({', '.join(map(str, shape))})" for shape in shapes]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def _shape_leaves(shapes: Any) -> list[tuple]:
    if isinstance(shapes, dict):
        return [leaf for key in sorted(shapes) for leaf in _shape_leaves(shapes[key])]
    if any(isinstance(item, (list, tuple, dict)) for item in shapes):
        return [leaf for item in shapes for leaf in _shape_leaves(item)]
    return [tuple(shapes)]


def _connections(layer: Any, connected: set) -> str:
    nodes = [node for node in layer._inbound_nodes if node in connected]
    histories = [tensor._keras_history for node in nodes for tensor in node.input_tensors]
    return ", ".join(f"{operation.name}[{node}][{index}]" for operation, node, index in histories) or "-"


def _totals(model: Any) -> list[str]:
    groups = {"Trainable": model.trainable_weights, "Non-trainable": model.non_trainable_weights}
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and optimizer.built:
        groups["Optimizer"] = optimizer.variables
    groups = {"Total": [variable for group in groups.values() for variable in group], **groups}
    return [f" {name} params: {sum(int(v.size) for v in group):,} ({_memory(group)})" for name, group in groups.items()]


def _memory(variables: Iterable[Any]) -> str:
    size = float(sum(int(v.size) * np.dtype(v.dtype).itemsize for v in variables))
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1024:
            return f"{size:.2f} {unit}"
        size /= 1024
    return f"{size:.2f} TB"


# ---------------------------------------------------------------- drawing


def _column_widths(ends: tuple[float, ...], width: int) -> list[int]:
    """Characters of text in each column of a table of `width` characters.

    The borders and blanks around the texts are taken off the columns in equal parts.
    """
    borders = 3 * len(ends) + 1
    widths, left = [], 0
    for i, end in enumerate(ends):
        right, share = int(end * width), round(borders / (len(ends) - i))
        widths.append(max(right - left - share, 1))
        left, borders = right, borders - share
    return widths


def _table(names: tuple[str, ...], rows: list[list[str]], widths: list[int]) -> list[str]:
    def rule(left: str, line: str, cross: str, right: str) -> str:
        return left + cross.join(line * (width + 2) for width in widths) + right

    lines = [rule("┏", "━", "┳", "┓"), *_row(names, names, widths, "┃"), rule("┡", "━", "╇", "┩")]
    for i, row in enumerate(rows):
        if i:
            lines.append(rule("├", "─", "┼", "┤"))
        lines.extend(_row(names, row, widths, "│"))
    return [*lines, rule("└", "─", "┴", "┘")]


def _row(names: tuple[str, ...], texts: Iterable[str], widths: list[int], border: str) -> Iterable[str]:
    cells = [_wrap(text, width) for text, width in zip(texts, widths, strict=True)]
    for i in range(max(map(len, cells))):
        line = []
        for name, cell, width in zip(names, cells, widths, strict=True):
            part = cell[i] if i < len(cell) else ""
            align = {"Param #": str.rjust, "Trainable": str.center}.get(name, str.ljust)
            line.append(f" {align(part, width)} ")
        yield border + border.join(line) + border


def _wrap(text: str, width: int) -> list[str]:
    """Lines of words; a word that is too long for a line is cut."""
    lines = [""]
    for word in re.findall(r"\s*\S+", text):
        if lines[-1] and len(lines[-1] + word) > width:
            lines.append(word.lstrip())
        else:
            lines[-1] += word
    return [line if len(line) <= width else line[: width - 1] + "…" for line in lines]
