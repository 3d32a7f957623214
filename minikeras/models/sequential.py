"""Sequential: a stack of layers, each taking what the one before it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from minikeras.autodiff.symbolic import KerasTensor
from minikeras.layers.context import naming, within
from minikeras.layers.core import InputLayer
from minikeras.layers.layer import Layer
from minikeras.layers.spec import is_shape
from minikeras.lazy import LazyModule
from minikeras.models.graph import Graph
from minikeras.models.model import Model
from minikeras.registry import deserialize_keras_object, serialize_keras_object
from minikeras.tracebacks import user_facing
from minikeras.utils.checks import shown
from minikeras.utils.suggest import unknown

_older = LazyModule("minikeras.models.older_config")


class Sequential(Model):
    """A plain stack of layers.

    The weights exist as soon as the input shape is known: from an `Input` in front, from `input_shape=` on the first
    layer, or from the first data.

    Args:
        layers: the layers, more can follow with `add`.
        trainable, name: as for a layer.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> from minikeras import layers
    >>> model = keras.Sequential([keras.Input((3,)), layers.Dense(4, activation="relu"), layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> history = model.fit(np.ones((8, 3)), np.ones((8, 1)), verbose=0)
    >>> model.predict(np.ones((2, 3)), verbose=0).shape
    (2, 1)
    """

    def __init__(self, layers: Any = None, trainable: bool = True, name: str | None = None, **kwargs: Any):
        super().__init__(trainable=trainable, name=name, **kwargs)
        self._casts_inputs = False  # the first layer does
        self._stack: list[Layer] = []
        self._entrance: InputLayer | None = None
        self._taken: set[Any] = set()  # layers, and their names
        if layers is not None:
            for layer in layers if isinstance(layers, (list, tuple)) else [layers]:
                self.add(layer)

    @user_facing
    def add(self, layer: Any, rebuild: bool = True) -> None:
        """Put a layer on top of the stack.

        Raises:
            ValueError: for what is not a layer, a name already taken, or a layer that does not fit; nothing is changed.
        """
        if isinstance(layer, KerasTensor) and layer._keras_history and isinstance(layer._keras_history[0], InputLayer):
            layer = layer._keras_history[0]
        if not isinstance(layer, Layer):
            raise ValueError(f"Sequential.add takes a layer, got {layer!r}; a function goes into a layer's call().")
        if isinstance(layer, InputLayer):
            if self._entrance is not None or self._stack:
                raise ValueError(f"The model {self.name!r} has its input already, got another one; put Input first.")
            self._enter(layer)
            return
        known = layer.name in self._taken or layer in self._taken  # or was, before it was renamed or taken off
        if known and any(layer is other or layer.name == other.name for other in self._stack):
            raise ValueError(f"Layer names in a model must be unique, got {layer.name!r} twice; pass another name.")
        if self._entrance is None and not self._stack:
            shape = layer._batch_input_shape
            if shape is None and isinstance(layer, Model) and layer._graph is not None and len(layer.inputs) == 1:
                shape = layer.inputs[0].shape
            if shape is not None:
                self._enter(InputLayer(batch_shape=shape, dtype=_input_dtype(layer)))
        if self._entrance is not None:
            self._extend(layer)
        self._stack.append(layer)
        self._taken |= {layer, layer.name}
        self._restructured()

    def _enter(self, entrance: InputLayer) -> None:
        self._entrance = entrance
        self._graph = Graph(entrance.output, entrance.output)

    def _extend(self, layer: Layer) -> None:
        assert self._graph is not None and self._entrance is not None
        with nullcontext() if naming.path else within(self.name):
            outputs = layer(self._graph.output_structure)
        node = layer._inbound_nodes[-1] if layer._inbound_nodes else None
        if node is not None and node.outputs is outputs:
            self._graph.grow(node)
        else:  # of a layer that is called in its own way
            self._graph = Graph(self._entrance.output, outputs)
        self.built = True
        self._build_shapes = {"input_shape": self._entrance.batch_shape}

    @user_facing
    def pop(self, rebuild: bool = True) -> Layer:
        """Take the top layer off the stack and return it."""
        if not self._stack:
            raise ValueError(f"The model {self.name!r} has no layer to take off.")
        layer = self._stack.pop()
        if self._entrance is not None:
            assert self._graph is not None
            if self._graph.operations[-1] is layer:
                self._graph.shrink()
            else:  # it is called in its own way
                output = self._stack[-1].output if self._stack else self._entrance.output
                self._graph = Graph(self._entrance.output, output)
            self.built = bool(self._stack)
        self._restructured()
        return layer

    @user_facing
    def build(self, input_shape: Any = None) -> None:
        """Create the weights for inputs of this shape, the batch axis included."""
        if input_shape is None:
            return
        if self._entrance is not None:
            known = self._entrance.batch_shape
            if is_shape(input_shape) and self._stack and not _agree(tuple(input_shape), known):
                problem = f"{self.name!r} is made for inputs of shape {known}, got {input_shape!r}"
                raise ValueError(f"{problem}; omit build().")
            return
        if not self._stack:
            raise ValueError(f"The model {self.name!r} has no layers to build; add some first.")
        parts = input_shape.values() if isinstance(input_shape, dict) else input_shape
        if not is_shape(input_shape) and isinstance(input_shape, (dict, list, tuple)) and all(map(is_shape, parts)):
            return  # several inputs for the first layer: a call builds the layers, one after the other
        if not is_shape(input_shape):
            raise ValueError(f"Sequential.build takes one shape such as (None, 784), got {input_shape!r}.")
        self._enter(InputLayer(batch_shape=tuple(input_shape), dtype=_input_dtype(self._stack[0])))
        try:
            for layer in self._stack:
                self._extend(layer)
        except Exception as error:
            self._entrance = self._graph = None
            self.built = False
            if not isinstance(error, NotImplementedError):  # of a layer that knows its outputs from values alone
                raise

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        if self._graph is not None:
            (x,) = self._graph_inputs(inputs)
        else:
            x = inputs
        if mask is not None:
            x._keras_mask = mask
        for layer in self._stack:
            x = layer(x)
        return x

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        if self._graph is not None:
            specs = self._symbolic_outputs(args[0])
            return KerasTensor(specs.shape, specs.dtype) if isinstance(specs, KerasTensor) else specs
        return super().compute_output_spec(*args, **kwargs)

    def _add_symbolic_losses(self, losses: list[KerasTensor]) -> None:
        raise ValueError(
            f"The Sequential {self.name!r} takes no symbolic tensors as losses, got {losses[0]!r}; make a functional "
            "model of it, Model(model.inputs, model.outputs), and add them to that."
        )

    def _own_layers(self) -> Sequence[Layer]:
        return tuple(self._stack)

    _UNTRACKED = Model._UNTRACKED | {"_stack", "_entrance", "_taken"}

    @property
    def is_functional(self) -> bool:
        return False

    @property  # type: ignore[misc]
    def layers(self) -> list[Layer]:
        """The layers, without the input."""
        return list(self._stack)

    @property
    def input_shape(self) -> Any:
        return self.input.shape

    @property
    def inputs(self) -> Any:
        return self._known_graph("inputs").inputs

    @property
    def outputs(self) -> Any:
        return self._known_graph("outputs").outputs

    def _output_count(self) -> int | None:
        return 1 if self._graph is None else super()._output_count()

    def _known_graph(self, name: str) -> Graph:
        if self._graph is None:
            raise AttributeError(f"The model {self.name!r} has no {name} before it is built; call it on data first.")
        return self._graph

    def _fits(self, shape: tuple, expected: tuple) -> bool:
        """Whether the rank is right; the layers refuse sizes that they cannot work with."""
        return len(shape) == len(expected)

    def get_config(self) -> dict[str, Any]:
        stack = ([self._entrance] if self._entrance is not None else []) + self._stack
        config: dict[str, Any] = {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": serialize_keras_object(self._dtype_policy),
            "layers": [serialize_keras_object(layer) for layer in stack],
        }
        if self._entrance is not None:
            config["build_input_shape"] = self._entrance.batch_shape
        return config

    @classmethod
    @user_facing
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        config = _older.modern_config("Sequential", config)
        if not isinstance(config, Mapping) or "layers" not in config:
            raise ValueError(f"{cls.__name__}.from_config takes the dict of get_config(), got {shown(config)}.")
        strange = [name for name in config if name not in _ENTRIES]
        if strange and cls.get_config is Sequential.get_config:  # a subclass may add what it likes
            raise ValueError(unknown("entry of a Sequential's configuration", strange[0], _ENTRIES))
        model = cls(name=config.get("name"), trainable=config.get("trainable", True), dtype=config.get("dtype"))
        for layer in config["layers"]:
            model.add(deserialize_keras_object(layer, custom_objects=custom_objects))
        shape = config.get("build_input_shape")
        if shape and model._entrance is None and is_shape(shape):
            model.build(tuple(shape))
        return model


_ENTRIES = ("name", "trainable", "dtype", "layers", "build_input_shape")


def _agree(shape: tuple, known: tuple) -> bool:
    """Whether two shapes are the same where both say something."""
    return len(shape) == len(known) and all(a == b or None in (a, b) for a, b in zip(shape, known, strict=True))


def _input_dtype(layer: Layer) -> str:
    """Integer indices enter an Embedding as integers; other layers take floats."""
    return str(layer.compute_dtype)
