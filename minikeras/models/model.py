"""Model: a layer that can be trained, saved and summarised; functional where it is given inputs and outputs."""

from __future__ import annotations

import html
import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any

from minikeras import tree
from minikeras.autodiff.strings import is_text, type_name
from minikeras.autodiff.symbolic import KerasTensor, is_symbolic
from minikeras.autodiff.tensor import Tensor
from minikeras.layers.added_losses import check_metric
from minikeras.layers.context import context, once
from minikeras.layers.layer import Layer
from minikeras.layers.spec import shapes_of, specs_of
from minikeras.lazy import LazyModule
from minikeras.models.graph import Filler, Graph
from minikeras.models.graph_loss import LossOfGraph, tensors_in
from minikeras.models.state import set_state_tree, state_tree
from minikeras.models.summary import print_summary
from minikeras.ops.core import cast
from minikeras.ops.numpy import expand_dims, squeeze
from minikeras.registry import custom_object_scope, describe_whole
from minikeras.tracebacks import user_facing, warn
from minikeras.training.comparison import ComparingTrainer
from minikeras.training.trainer import OF_ONE_OBJECT, Trainer
from minikeras.utils.checks import shown, whole

_older = LazyModule("minikeras.models.older_config")
functional_config = LazyModule("minikeras.models.functional_config")  # its tables take a while to make
saving = LazyModule("minikeras.saving")  # the room below, opened when a file is wanted


def warn_of_unwritten(model: Any) -> None:
    """Say which losses and metrics a description of the model does not hold."""
    layers = model._contents().layers
    for what, unwritten in (
        ("loss", [loss for layer in layers for loss in layer._unwritten_losses()]),
        ("metric", [name for layer in layers for name in getattr(layer, "_unwritten_metrics", ())]),
    ):
        if unwritten:
            plural = "losses" if what == "loss" else "metrics"
            problem = f"The {plural} {unwritten} given to add_{what}() of the model {model.name!r} cannot be described"
            warn(f"{problem}; call add_{what}() again after the model is loaded.")


def _is_functional(args: tuple, kwargs: dict[str, Any]) -> bool:
    return len(args) >= 2 or (len(args) == 1 and "outputs" in kwargs) or ("inputs" in kwargs and "outputs" in kwargs)


def _masked(inputs: list[Any], mask: Any) -> list[Any]:
    """The inputs with the masks that a model was called with."""
    if mask is not None:
        for value, one in zip(inputs, tree.flatten(mask), strict=True):
            if one is not None:
                value._keras_mask = one
    return inputs


def _entrance_of(tensor: KerasTensor) -> str:
    """What the user knows an input of a model by."""
    return tensor._keras_history[0].name if tensor._keras_history else tensor.name


def _has_symbolic(value: Any) -> bool:
    return isinstance(value, (KerasTensor, list, tuple, dict)) and is_symbolic(value)


def _is_optional(tensor: Any) -> bool:
    """Whether None may stand in the place of an input."""
    return isinstance(tensor, KerasTensor) and getattr(tensor._keras_history[0], "optional", False)


_WIRING = {"layers", "input_layers", "output_layers"}


def _takes_ends(cls: type) -> bool:
    """Whether a model class is made from inputs and outputs."""
    names = list(inspect.signature(cls.__init__).parameters)[1:]  # type: ignore[misc]
    return names[:2] == ["inputs", "outputs"] or names == ["args", "kwargs"]


class Model(ComparingTrainer, Layer):
    """A network that `fit`, `evaluate` and `predict` work on.

    Either functional, `Model(inputs, outputs)` of symbolic tensors, or a subclass with its layers made in `__init__`
    and the computation, with Python's `if` and `for`, in `call(inputs, training=False)`.

    `copy.deepcopy`, `pickle`, `cloudpickle` and joblib copy a model with all of its state, so that the copy trains on
    as the model does; layers, optimizers, losses and metrics too.  Reading a pickle runs what is in it: read none that
    you do not trust, and exchange `.keras` files instead.

    Args:
        inputs, outputs: symbolic tensors, or lists or dicts of them.
        name, trainable, dtype: as for a layer.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> from minikeras import layers
    >>> x = keras.Input((3,))
    >>> model = keras.Model(x, layers.Dense(1)(x))
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(np.ones((8, 3)), np.ones((8, 1)), epochs=2, verbose=0)
    >>> len(history.history["loss"])
    2
    """

    takes_strings = True  # its layers see for themselves

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls is Model and _is_functional(args, kwargs):
            cls = Functional
        return super().__new__(cls, *args, **kwargs)

    def __init__(self, *args: Any, **kwargs: Any):
        functional = _is_functional(args, kwargs)
        if functional:
            kwargs |= dict(zip(("inputs", "outputs", "name"), args, strict=False))
            graph = Graph(kwargs.pop("inputs", None), kwargs.pop("outputs", None))
        elif args:
            raise TypeError(f"Model takes inputs and outputs, or nothing for a subclass, got {args!r}.")
        Layer.__init__(self, **kwargs)
        Trainer.__init__(self)
        self._graph: Graph | None = None
        self._own_losses = 0  # how many of the graph's losses its class added
        self._kept_values: dict[int, Any] = {}  # of the last call, by the ids of the graph's tensors
        self._graph_metrics: dict[int, Any] = {}  # of some of these tensors
        self._unwritten_metrics: tuple[str, ...] = ()  # those of them that its class does not add again
        if functional:
            self._graph = graph.with_entrances()
            self._casts_inputs = False  # each is cast to the type of its own
            self.built = True
            self._build_shapes = {"input_shape": tree.map_structure(lambda t: t.shape, graph.input_structure)}

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        if self._graph is None:
            raise NotImplementedError(f"{type(self).__name__} does not define call(); write its computation there.")
        values = _masked(self._graph_inputs(inputs), mask)
        wanted = (self._graph.losses or self._graph.kept) and not context.predicting and not context.on_zeros
        outputs = self._graph.run(values, self._note_of_graph if wanted else None)
        return outputs[0] if isinstance(outputs, (list, tuple)) and len(outputs) == 1 else outputs

    @property
    def _tells_more(self) -> bool:  # type: ignore[override]
        return self._graph is not None and bool(self._graph.losses or self._graph.kept)

    def _graph_inputs(self, inputs: Any) -> list[Any]:
        """The values for the graph's inputs, in order: picked by name, checked, cast."""
        assert self._graph is not None
        wanted = self._graph.inputs
        if len(wanted) == 1 and type(inputs) is Tensor:
            return [self._fit_input(inputs, wanted[0])]
        structure = self._graph.input_structure
        if isinstance(inputs, dict):
            if not isinstance(structure, dict):
                structure = {tensor._keras_history[0].name: tensor for tensor in wanted}
            missing = sorted(name for name in structure if name not in inputs and not _is_optional(structure[name]))
            if missing:
                raise ValueError(f"The model {self.name!r} misses the inputs {missing}, got {sorted(inputs)}.")
            unused = sorted(str(name) for name in inputs.keys() - structure.keys())
            if unused and structure is self._graph.input_structure:
                warn(f"The model {self.name!r} has no inputs {unused} and leaves them out; its inputs are {structure}.")
            values = {name: inputs.get(name) for name in structure}
            tree.assert_same_structure(structure, values)
            tensors, leaves = tree.flatten(structure), tree.flatten(values)
            found = {id(tensor): leaf for tensor, leaf in zip(tensors, leaves, strict=True)}
            flat = [found[id(tensor)] for tensor in wanted]
        else:
            if isinstance(structure, dict) and list(structure) != tree.flatten({name: name for name in structure}):
                raise ValueError(
                    f"The model {self.name!r} has the inputs {list(structure)} by name, whose order in a list could be "
                    f"this one or that of the alphabet, got {shown(inputs)}; pass a dict."
                )
            flat = tree.flatten(inputs)
        if len(flat) != len(wanted):
            raise ValueError(f"The model {self.name!r} expects {len(wanted)} inputs, got {len(flat)}.")
        return [self._fit_input(value, tensor) for value, tensor in zip(flat, wanted, strict=True)]

    def _fit_input(self, value: Any, tensor: KerasTensor) -> Any:
        if value is None:
            if not _is_optional(tensor):
                raise ValueError(
                    f"The model {self.name!r} expects a tensor or an array at its input {_entrance_of(tensor)!r}, "
                    "which is not optional, got None; pass one, or make the input with Input(..., optional=True)."
                )
            return None
        if not isinstance(value, (Tensor, KerasTensor)):
            raise ValueError(f"The model {self.name!r} expects a tensor or an array as its input, got {value!r:.80}.")
        shape, expected = tuple(value.shape), tensor.shape
        if len(shape) != len(expected) or shape[1:] != expected[1:]:
            value = self._reshape_input(value, tensor)
        if isinstance(value, KerasTensor) or value.data.dtype != tensor.dtype:
            value = self._cast_input(value, tensor)
        return value

    def _cast_input(self, value: Any, tensor: KerasTensor) -> Any:
        """A value in the type of an input; symbolic ones and strings keep theirs, but strings are no numbers."""
        text = type_name(value.dtype) == "string"
        if text != (tensor.dtype == "string"):
            wanted = "numbers" if text else "strings"
            raise ValueError(f"x must hold {wanted} at the input {tensor.name!r} of {self.name!r}, got {value.dtype}.")
        if text or isinstance(value, KerasTensor):
            return value
        mask, value = value._keras_mask, cast(value, tensor.dtype)
        value._keras_mask = mask
        return value

    def _reshape_input(self, value: Any, tensor: KerasTensor) -> Any:
        """Add or drop a last axis of size 1 where that is all that is missing; refuse other shapes."""
        shape, expected = tuple(value.shape), tensor.shape
        longer = len(shape) == len(expected) - 1 and expected[-1] == 1
        shorter = len(shape) == len(expected) + 1 and shape[-1] == 1
        if (longer or shorter) and isinstance(value, Tensor) and is_text(value):  # of which only the host has arrays
            value = Tensor(value.data[..., None] if longer else value.data[..., 0])
        elif longer or shorter:
            value = (expand_dims if longer else squeeze)(value, -1)
        shape = tuple(value.shape)
        if not self._fits(shape, expected):
            raise ValueError(
                f"The model {self.name!r} expects inputs of shape {expected} at {_entrance_of(tensor)!r}, got shape "
                f"{shape}; reshape the data or change the model's input shape."
            )
        return value

    def _fits(self, shape: tuple, expected: tuple) -> bool:
        """Whether an input of this shape is what the model was made for."""
        if len(shape) != len(expected):
            return False
        return all(a is None or b is None or a == b for a, b in zip(shape[1:], expected[1:], strict=True))

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        if self._graph is None or type(self).call is not Model.call:
            return super().compute_output_spec(*args, **kwargs)
        return tree.map_structure(lambda t: KerasTensor(t.shape, t.dtype), self._symbolic_outputs(args[0]))

    def _symbolic_outputs(self, inputs: Any) -> Any:
        """Output specifications for symbolic inputs, which may be shaped other than the model's own."""
        assert self._graph is not None
        flat = self._graph_inputs(inputs)
        pairs = zip(flat, self._graph.inputs, strict=True)
        if all(value is not None and value.shape == tensor.shape for value, tensor in pairs):
            return self._graph.output_structure
        return once(self, flat, lambda: self._walk(flat))

    def _walk(self, flat: list[Any]) -> Any:
        """The outputs of the graph for other symbolic inputs, call by call."""
        assert self._graph is not None
        values = {id(tensor): value for tensor, value in zip(self._graph.inputs, flat, strict=True)}
        fill = Filler(values)
        for node in self._graph.output_nodes:
            if all(id(tensor) in values for tensor in node.output_tensors):
                continue
            args, kwargs = tree.map_structure(fill, node.args), tree.map_structure(fill, node.kwargs)
            specs = node.operation.compute_output_spec(*args, **kwargs)
            for tensor, spec in zip(node.output_tensors, tree.flatten(specs), strict=True):
                values[id(tensor)] = spec
        return tree.map_structure(fill, self._graph.output_structure)

    def _build_from_inputs(self, args: tuple, kwargs: dict[str, Any]) -> None:
        if self.built or type(self).build is not Model.build or is_symbolic((args, kwargs)):
            super()._build_from_inputs(args, kwargs)
            return
        # the layers of a subclass are built by the very call that follows
        self._build_shapes = {"input_shape": shapes_of(args[0] if args else next(iter(kwargs.values())))}
        self._after_build()

    # ------------------------------------------------------------ losses of its own

    def add_loss(self, loss: Any, inputs: Any = None) -> None:
        """Add to what training minimises; on a functional model also symbolic tensors.

        `model.add_loss(ops.mean(ops.square(inputs - outputs)))` counts in every step, evaluation included, beside the
        compiled loss or instead of one.  It is computed in the same pass as the outputs; layers that only it needs
        belong to the model.  `predict` does not compute it.  What is not a scalar is summed up.  In another model the
        loss counts once for each use of this one.

        Args:
            loss: symbolic tensors that follow from the model's inputs, or what `Layer.add_loss` takes.
            inputs: accepted for familiarity.

        Raises:
            ValueError: for a symbolic tensor that depends on an Input which is not the model's; nothing is added.
        """
        symbolic = [leaf for leaf in tree.flatten(loss) if isinstance(leaf, KerasTensor)]
        rest = [leaf for leaf in tree.flatten(loss) if not isinstance(leaf, KerasTensor)]
        if symbolic:
            self._add_symbolic_losses(symbolic)
        if rest or not symbolic:
            super().add_loss(rest)

    def _add_symbolic_losses(self, losses: list[KerasTensor]) -> None:
        if self._graph is None:
            raise ValueError(
                f"The {type(self).__name__} {self.name!r} has no graph that the symbolic tensor {losses[0]!r} could "
                "belong to; add tensors inside call(), or make the model of its inputs and outputs."
            )
        if type(self).call is not Model.call:
            raise ValueError(
                f"The {type(self).__name__} {self.name!r} has a call() of its own, which computes no symbolic tensors, "
                f"got {losses[0]!r}; add what call() computes, by self.add_loss() there."
            )
        self._graph = self._graph.with_losses(losses)
        if self._adds_itself() and self._own_losses + len(losses) == len(self._graph.losses):
            self._own_losses = len(self._graph.losses)

    def add_metric(self, value: Any, aggregation: str | None = "mean", name: str | None = None) -> None:
        """Keras 2: show the mean of a tensor among the metrics; on a functional model also of a symbolic one.

        `model.add_metric(ops.mean(z_log_var), name="log_variance")` is computed in the same pass as the outputs, in
        training and evaluation.  Descriptions and files do not hold it, and say so; copies and pickles do.

        Args:
            value: a symbolic tensor that follows from the model's inputs, or what `Layer.add_metric` takes.
            aggregation, name: as for `Layer.add_metric`.

        Raises:
            ValueError: for a symbolic tensor that does not belong to the model; nothing is added.

        >>> import numpy as np
        >>> from minikeras import Input, Model, layers
        >>> x = Input((2,))
        >>> model = Model(x, layers.Dense(1)(x))
        >>> model.add_metric(x * 2, name="doubled")
        >>> model.compile("sgd", "mse")
        >>> model.evaluate(np.ones((4, 2)), np.ones((4, 1)), verbose=0, return_dict=True)["doubled"]
        2.0
        """
        if not isinstance(value, KerasTensor):
            super().add_metric(value, aggregation, name)
            return
        check_metric(self, aggregation, name)
        if self._graph is None or type(self).call is not Model.call:
            problem = f"The {type(self).__name__} {self.name!r} computes no symbolic tensors of its own, got {value!r}"
            raise ValueError(f"{problem}; call self.add_metric() in call(), or make the model of inputs and outputs.")
        graph = self._graph.keeping([value])
        if not any(kept is value for kept in graph.kept):
            raise ValueError(f"add_metric of {self.name!r} got {value!r}, which does not follow from its inputs alone.")
        self._graph, self._graph_metrics[id(value)] = graph, self._added_metric(str(name))
        if not self._adds_itself():
            self._unwritten_metrics = (*self._unwritten_metrics, str(name))

    def _note_of_graph(self, losses: list[Any], kept: list[Any]) -> None:
        if losses:
            self._note_losses(losses)
        assert self._graph is not None
        self._kept_values.clear()  # in place: the replicas of a comparison have them in common
        self._kept_values.update({id(tensor): value for tensor, value in zip(self._graph.kept, kept, strict=True)})
        for tensor, metric in self._graph_metrics.items():
            metric.update_state(self._kept_values[tensor])

    def _added_losses(self) -> list[Any]:
        return self._losses if self._losses or self._graph is None else self._graph.losses

    def _refers_to_graph(self, loss: Any) -> Any:
        if self._graph is None or type(self).call is not Model.call:
            return loss
        functions = [spec for spec in tree.flatten(loss) if callable(spec)]
        found = [tensor for function in functions for tensor in tensors_in(function)]
        if not found:
            return loss
        self._graph = self._graph.keeping(found)
        return tree.map_structure(lambda spec: LossOfGraph.around(spec, self) if callable(spec) else spec, loss)

    def _unwritten_losses(self) -> list[Any]:
        own = super()._unwritten_losses()
        if self._graph is None or _takes_ends(type(self)):
            return own
        return own + self._graph.losses[self._own_losses :]

    # ------------------------------------------------------------ structure

    _UNTRACKED = Layer._UNTRACKED | {"_kept_values", "_graph_metrics", "_known", "_comparison", *vars(Trainer())}
    _STRUCTURAL = Layer._STRUCTURAL | {"_graph"}
    _keeps_contents = True

    def _own_layers(self) -> Sequence[Layer]:
        return () if self._graph is None else tuple(self._graph.layers)

    @property
    def is_functional(self) -> bool:
        """Whether the model consists of symbolic inputs and outputs and what lies between."""
        return self._graph is not None

    @property
    def layers(self) -> list[Layer]:
        """The model's layers, in order."""
        return list(self._contents().sublayers)

    @layers.setter
    def layers(self, value: Any) -> None:
        raise AttributeError("Model.layers is read-only; give your list of layers another name.")

    @user_facing
    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """A layer by name or by position.

        Raises:
            ValueError: where there is none.
        """
        layers = self.layers
        if index is not None and name is not None:
            raise ValueError(f"get_layer takes a name or an index, got both: {name!r} and {index!r}.")
        if index is not None:
            index = whole("index", index)
            if not -len(layers) <= index < len(layers):
                raise ValueError(f"The model {self.name!r} has {len(layers)} layers, got the index {index}.")
            return layers[index]
        if not isinstance(name, str):
            raise ValueError(f"get_layer takes the name of a layer or its index, got {name!r}; see model.summary().")
        for layer in layers:
            if layer.name == name:
                return layer
        names = [layer.name for layer in layers]
        raise ValueError(f"The model {self.name!r} has no layer {name!r}; its layers are {names}.")

    @property
    def operations(self) -> list[Any]:
        """The elements of a functional model's graph: layers and operations, in order."""
        return [] if self._graph is None else list(self._graph.operations)

    @property
    def inputs(self) -> Any:
        return None if self._graph is None else self._graph.inputs

    @property
    def outputs(self) -> Any:
        return None if self._graph is None else self._graph.outputs

    @property
    def input(self) -> Any:
        return super().input if self._graph is None else self._graph.input_structure

    @property
    def output(self) -> Any:
        return super().output if self._graph is None else self._graph.output_structure

    @property
    def input_shape(self) -> Any:
        return self._end_shapes(self.inputs, self.input)

    @property
    def output_shape(self) -> Any:
        return self._end_shapes(self.outputs, self.output)

    @staticmethod
    def _end_shapes(flat: Any, structure: Any) -> Any:
        """The only end's shape, or the shapes as a list; without a graph in the structure of the first use."""
        shapes = tree.map_structure(lambda tensor: tensor.shape, structure if flat is None else flat)
        return shapes[0] if isinstance(shapes, list) and len(shapes) == 1 else shapes

    @property
    def input_names(self) -> list[str]:
        return [tensor._keras_history[0].name for tensor in self.inputs]

    @property
    def output_names(self) -> list[str]:
        """The names of what computes the outputs, in the order of `outputs`."""
        if self._graph is None:
            raise AttributeError(f"The model {self.name!r} has no named outputs before it is built.")
        names: list[str] = []
        for tensor in self.outputs:
            name = tensor._keras_history[0].name
            while name in names:
                name = f"{name}_1"
            names.append(name)
        return names

    @user_facing
    def build(self, input_shape: Any = None) -> None:
        """Create the weights for inputs of this shape, by running the model on zeros."""
        if self._graph is not None or input_shape is None:
            self.built = True
            return
        if type(self).call is Model.call:
            return
        self.compute_output_spec(specs_of(input_shape, str(self.compute_dtype)))
        self.built = True

    @user_facing
    def get_state_tree(self, value_format: str = "backend_tensor") -> dict[str, Any]:
        """All variables by their paths: `{"trainable_variables": {"dense": {"kernel": ..., "bias": ...}}, ...}`.

        Args:
            value_format: `"backend_tensor"`, or `"numpy_array"` for copies as arrays.

        Returns:
            A nested dict with `trainable_variables`, `non_trainable_variables`, `optimizer_variables` and
            `metrics_variables`.

        Raises:
            ValueError: where two variables have the same path.

        >>> from minikeras import Input, Sequential, layers
        >>> model = Sequential([Input((3,)), layers.Dense(2, name="head")], name="net")
        >>> state = model.get_state_tree("numpy_array")
        >>> state["trainable_variables"]["net"]["head"]["kernel"].shape
        (3, 2)
        """
        return state_tree(self, value_format)

    @user_facing
    def set_state_tree(self, state_tree: Any) -> None:
        """Give variables the values of a tree from `get_state_tree`, or of a part of one.

        Raises:
            ValueError, TypeError: for a path that the model does not have or values that do not fit; nothing is
                changed.
        """
        set_state_tree(self, state_tree)

    @user_facing
    def summary(
        self,
        line_length: int | None = None,
        positions: Any = None,
        print_fn: Any = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Any = None,
    ) -> None:
        """Print a table of the layers, their output shapes and numbers of parameters."""
        print_summary(self, line_length, print_fn, expand_nested, show_trainable, layer_range)

    def _repr_html_(self) -> str:
        """The summary, which a notebook shows."""
        lines: list[str] = []
        self.summary(print_fn=lambda text, *_, **__: lines.append(str(text)))
        return f"<pre>{html.escape(chr(10).join(lines))}</pre>"

    # ------------------------------------------------------------ files

    @user_facing
    def save(self, filepath: Any, overwrite: bool = True, zipped: bool | None = None, **kwargs: Any) -> None:
        """Write architecture, weights and optimizer state to a `.keras` or `.h5` file, or a folder."""
        saving.save_model(self, filepath, overwrite=overwrite, zipped=zipped, **kwargs)

    @user_facing
    def save_weights(
        self, filepath: Any, overwrite: bool = True, max_shard_size: float | None = None, **kwargs: Any
    ) -> None:
        """Write the weights to a `.weights.h5`, `.weights.json`, `.npz` or `.h5` file: see `saving.save_weights`."""
        saving.save_weights(self, filepath, overwrite, max_shard_size, **kwargs)

    @user_facing
    def load_weights(self, filepath: Any, skip_mismatch: bool = False, **kwargs: Any) -> None:
        """Read weights from any of these files; one that does not fit changes nothing: see `saving.load_weights`."""
        saving.load_weights(self, filepath, skip_mismatch=skip_mismatch, **kwargs)

    @user_facing
    def export(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Refused: what other libraries serve is not written; `save` writes what real Keras opens and can export."""
        raise NotImplementedError(
            f"minikeras writes no models for other libraries, got export({filepath!r}); save() writes a .keras file "
            "that real Keras opens and can export."
        )

    @user_facing
    def quantize(self, mode: Any, *args: Any, **kwargs: Any) -> None:
        """Refused: weights are floats here."""
        raise NotImplementedError(
            f"Weights are floats here, got quantize({mode!r}); make the model with dtype='float16'."
        )

    @user_facing
    def to_json(self, **kwargs: Any) -> str:
        """The description of the model, without its weights, as JSON for `model_from_json`.

        Functions given to `add_loss` and metrics of `add_metric` have no description: there is a warning.

        Args:
            kwargs: for `json.dumps`.
        """
        warn_of_unwritten(self)
        return json.dumps(describe_whole(self), **kwargs)

    def get_config(self) -> dict[str, Any]:
        """A functional model's layers and wiring; the constructor's arguments of any other."""
        if self._graph is None or not _takes_ends(type(self)):
            return super().get_config()
        description = functional_config.describe_graph(self._graph, self._graph.losses[self._own_losses :])
        return {"name": self.name, "trainable": self.trainable, **description}

    @classmethod
    @user_facing
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """The model that `get_config` described, with new weights."""
        if not isinstance(config, Mapping):
            raise TypeError(f"{cls.__name__}.from_config takes the dict of get_config(), got {shown(config)}.")
        with custom_object_scope(custom_objects):
            if not (config.keys() >= _WIRING and _takes_ends(cls)):
                return super().from_config(config)
            config = _older.modern_config("Functional", config)
            inputs, outputs, losses = functional_config.restore_graph(config)
            model = cls(inputs, outputs, **{name: value for name, value in config.items() if name not in _WIRING})
            if losses:
                model.add_loss(losses)
            return model

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in super().__getstate__().items() if name not in OF_ONE_OBJECT}
        state["_kept_values"] = {}
        if is_symbolic(self._recorded):  # type: ignore[has-type]
            state["_recorded"] = (), {}
        if self._graph is not None:
            place, metrics = self._graph.placing(), self._graph_metrics
            kept = [tensor for tensor in self._graph.kept if id(tensor) in metrics]
            state["_graph_metrics"] = [(place(tensor), metrics[id(tensor)]) for tensor in kept]
            symbolic = [name for name, value in state.items() if _has_symbolic(value)]
            state["_placed"] = {name: place(state.pop(name)) for name in symbolic}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._start_alone()
        if self._graph is not None:
            vars(self).update(self._graph.found(vars(self).pop("_placed", {})))
            self._graph_metrics = {id(tensor): metric for tensor, metric in self._graph.found(self._graph_metrics)}


class Functional(Model):
    """A model of symbolic inputs and outputs; `Model(inputs, outputs)` makes one."""

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any):
        Model.__init__(self, inputs=inputs, outputs=outputs, name=name, **kwargs)
