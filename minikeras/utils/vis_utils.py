"""Drawings of models, as Graphviz's DOT language (https://graphviz.org/doc/info/lang.html) describes graphs.

The description is written here; Graphviz makes pictures of it, and pydot an object that can be changed.
"""

from __future__ import annotations

import html
import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from minikeras.layers.layer import Layer
from minikeras.models.model import Model
from minikeras.models.sequential import Sequential
from minikeras.models.summary import kind_of, output_shape
from minikeras.tracebacks import user_facing
from minikeras.utils.console import announce


@user_facing
def model_to_dot(
    model: Any,
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = True,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 200,
    subgraph: bool = False,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
    splines: str = "ortho",
    **kwargs: Any,
) -> Any:
    """A model as a graph of pydot's; see `plot_model` for the arguments.

    Args:
        subgraph: whether to return a cluster that can be added to another graph.
        show_dtype: whether types are shown.
        show_layer_names: whether names are shown.
        rankdir: `"TB"` for top to bottom, `"LR"` for left to right.
        expand_nested: whether models inside are drawn open.
        dpi: dots per inch.
        show_layer_activations: whether activations are shown.
        show_trainable: whether what is trained is marked.
        splines: how lines run: `"ortho"`, `"curved"`, ...

    Raises:
        ImportError: without pydot.
        ValueError: for a model that is not built.

    >>> import minikeras as keras
    >>> graph = keras.utils.model_to_dot(model, show_shapes=True)  # doctest: +SKIP
    """
    options = dict(
        show_shapes=show_shapes, show_dtype=show_dtype, show_layer_names=show_layer_names,
        show_layer_activations=show_layer_activations, show_trainable=show_trainable,
    )  # fmt: skip
    source = _Drawing(model, expand_nested, options, kwargs).source(rankdir, dpi, splines, subgraph)
    try:
        import pydot
    except ImportError:
        raise ImportError("model_to_dot needs pydot; run pip install pydot.") from None
    graph = pydot.graph_from_dot_data(source)[0]
    return graph.get_subgraphs()[0] if subgraph else graph


@user_facing
def plot_model(
    model: Any,
    to_file: Any = "model.png",
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = False,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 200,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
    splines: str = "ortho",
    **kwargs: Any,
) -> Any:
    """Draw a model's layers and how they are connected.

    Args:
        model: a built model; one without a graph is a single box.
        to_file: the file to be written; its ending tells the format, one of Graphviz's (`png` where there is none),
            and `.dot` or `.gv` is the description itself, which needs no Graphviz.
        show_shapes, show_dtype: whether to show the shapes of inputs and outputs, and the type of outputs.
        show_layer_names: whether to show the layers' names besides their classes.
        rankdir: `"TB"` from top to bottom, `"LR"` from left to right.
        expand_nested: whether to draw the layers of models in the model.
        dpi: dots per inch.
        show_layer_activations: whether to show activations.
        show_trainable: whether to show which layers are trained.
        splines: how connections are drawn: `"ortho"`, `"curved"`, `"polyline"`, `"spline"` or `"line"`.

    Returns:
        The picture for a notebook where IPython is installed, else None.

    Raises:
        ImportError: where a picture is wanted and Graphviz is not installed (a notebook is told instead).
        ValueError: for a model that is not built, or if Graphviz refuses.

    >>> import minikeras as keras
    >>> keras.utils.plot_model(model, "model.png", show_shapes=True)  # doctest: +SKIP
    """
    options = dict(
        show_shapes=show_shapes, show_dtype=show_dtype, show_layer_names=show_layer_names,
        show_layer_activations=show_layer_activations, show_trainable=show_trainable,
    )  # fmt: skip
    source = _Drawing(model, expand_nested, options, kwargs).source(rankdir, dpi, splines)
    path = Path(to_file)
    format = path.suffix[1:] or "png"
    if format in ("dot", "gv"):
        path.write_text(source, encoding="utf-8")
        return None
    program = shutil.which("dot")
    if program is None:
        message = "plot_model needs Graphviz (https://graphviz.org/download); without it, pass to_file='model.dot'."
        if "IPython.core.magics.namespace" in sys.modules:  # a notebook goes on
            announce(message)
            return None
        raise ImportError(message)
    command = [program, f"-T{format}", "-o", str(path)]
    done = subprocess.run(command, input=source.encode(), capture_output=True)
    if done.returncode:
        raise ValueError(f"Graphviz could not write {path}: {done.stderr.decode(errors='replace').strip()[:300]}.")
    if format == "pdf":
        return None
    try:
        from IPython import display
    except ImportError:
        return None
    return display.Image(filename=str(path))


class _Drawing:
    """The boxes and connections of a model, collected as lines of the DOT language."""

    def __init__(self, model: Any, expand: bool, options: dict[str, bool], unknown: dict[str, Any]):
        if unknown:
            raise ValueError(f"A drawing of a model has no option {', '.join(map(repr, unknown))}.")
        if not model.built:
            raise ValueError(f"The model {model.name!r} is not built, so its layers are not known; call build() first.")
        self.model, self.expand, self.options = model, expand, options
        self._edges: dict[tuple[int, int], None] = {}

    def source(self, rankdir: str, dpi: int, splines: str, subgraph: bool = False) -> str:
        """The whole description; with `subgraph` everything is in a cluster."""
        lines = self._cluster(self.model) if subgraph else self._boxes(self.model)
        self._connect(self.model)
        lines += [f"{source} -> {target} [penwidth=2];" for source, target in self._edges]
        settings = f"rankdir={json.dumps(rankdir)}; concentrate=true; dpi={dpi}; splines={json.dumps(splines)};"
        body = "\n".join([settings, "node [shape=record];", *lines])
        return f"digraph {{\n{body}\n}}\n"

    def _cluster(self, model: Any) -> list[str]:
        name = json.dumps(model.name, ensure_ascii=False)
        head = f"subgraph cluster_{id(model)} {{\nstyle=dashed; labeljust=l; label={name};"
        return [head, *self._boxes(model), "}"]

    def _boxes(self, model: Any) -> list[str]:
        lines = []
        for layer in _operations(model):
            if self.expand and layer is not model and _is_open(layer):
                lines += self._cluster(layer)
            else:
                label = _label(layer, **self.options)
                lines.append(f"{id(layer)} [label=<{label}>, fontname=Helvetica, border=0, margin=0];")
        return lines

    def _connect(self, model: Any) -> None:
        operations = _operations(model)
        if isinstance(model, Sequential):
            for before, after in pairwise(operations):
                self._connect_two(before, 0, after, 0)
        elif model._graph is not None:
            for node in model._graph.nodes:
                for index, tensor in enumerate(() if model._graph._is_source(node) else node.input_tensors):
                    before, _, output = tensor._keras_history
                    self._connect_two(before, output, node.operation, index)
        for layer in operations:
            if self.expand and layer is not model and _is_open(layer):
                self._connect(layer)

    def _connect_two(self, before: Any, output: int, after: Any, index: int) -> None:
        while self.expand and _is_open(before):
            if isinstance(before, Sequential):
                before, output = before.layers[-1], 0
            else:
                before, _, output = before._graph.outputs[output]._keras_history
        while self.expand and _is_open(after):
            if isinstance(after, Sequential):
                after, index = after.layers[0], 0
            else:
                after = after._graph.inputs[index]._keras_history[0]
        self._edges[id(before), id(after)] = None


def _is_open(layer: Any) -> bool:
    """Whether this is a model whose layers can be drawn."""
    return isinstance(layer, Model) and (isinstance(layer, Sequential) or layer._graph is not None)


def _operations(model: Any) -> list[Any]:
    """What has a box; a model without a graph has one itself."""
    if isinstance(model, Sequential):
        return model.layers
    return [model] if model._graph is None else model._graph.operations


def _label(
    layer: Any,
    show_shapes: bool,
    show_dtype: bool,
    show_layer_names: bool,
    show_layer_activations: bool,
    show_trainable: bool,
) -> str:
    """A table in Graphviz's HTML."""
    kind = kind_of(layer)
    cells = []
    if show_shapes and kind != "InputLayer":
        cells.append(_cell(f"Input shape: <b>{html.escape(_input_shape(layer))}</b>"))
    if show_shapes:
        cells.append(_cell(f"Output shape: <b>{html.escape(output_shape(layer))}</b>"))
    if show_dtype:
        cells.append(_cell(f"Output dtype: <b>{html.escape(_output_type(layer))}</b>"))
    if show_trainable and isinstance(layer, Layer) and layer.weights:
        colour, text = ("forestgreen", "Trainable") if layer.trainable else ("firebrick", "Non-trainable")
        cells.append(_cell(f"<b>{text}</b>", colour, "white"))
    title = f"<b>{html.escape(layer.name)}</b> ({kind})" if show_layer_names else f"<b>{kind}</b>"
    span = max(len(cells), 1)
    rows = [_cell(title, "black", "white", 16, span)]
    activation = getattr(layer, "activation", None)
    if show_layer_activations and activation is not None:
        name = getattr(activation, "__name__", None) or getattr(activation, "name", None) or str(activation)
        rows.append(_cell(f"Activation: <b>{html.escape(name)}</b>", span=span))
    rows += ["".join(cells)] if cells else []
    table = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<table border="0" cellborder="1" bgcolor="black" cellpadding="10">{table}</table>'


def _cell(text: str, background: str = "white", colour: str = "black", size: int = 14, span: int = 1) -> str:
    font = f'<font point-size="{size}" color="{colour}">{text}</font>'
    return f'<td bgcolor="{background}" colspan="{span}">{font}</td>'


def _input_shape(layer: Any) -> str:
    if layer._inbound_nodes:
        shapes = [tensor.shape for tensor in layer._inbound_nodes[-1].input_tensors]
    else:
        shapes = list((getattr(layer, "_build_shapes", None) or {}).values())
    return ", ".join(map(str, shapes)) or "?"


def _output_type(layer: Any) -> str:
    if layer._inbound_nodes:
        return ", ".join(str(tensor.dtype) for tensor in layer._inbound_nodes[-1].output_tensors)
    return str(getattr(layer, "compute_dtype", "?"))
