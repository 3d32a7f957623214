"""What a layer and a user's `Operation` have in common: their uses in graphs, under Keras 3's and Keras 2's names."""

from __future__ import annotations

import inspect
from abc import ABCMeta
from collections.abc import Callable
from typing import Any, ClassVar

from minikeras import tree
from minikeras.autodiff.symbolic import FunctionNode, SymbolicNode, infer_output, is_symbolic, snake_case, unique_name
from minikeras.registry import deserialize_keras_object, is_description, serialize_value
from minikeras.tracebacks import user_facing


class Told:
    """A property whose place an attribute of the same name takes: names that layers may use for their own."""

    def __init__(self, tell: Callable[[Any], Any]):
        self._tell = tell
        self.__doc__ = tell.__doc__

    def __get__(self, thing: Any, cls: Any = None) -> Any:
        return self if thing is None else self._tell(thing)


class Uses:
    """What tells of the uses of an operation in graphs."""

    name: Any
    _inbound_nodes: list[SymbolicNode]

    @property
    def input(self) -> Any:
        """The symbolic input of the first use in a graph."""
        return _input_of(self._use(0))

    @property
    def output(self) -> Any:
        """The symbolic output of the first use in a graph."""
        return self._use(0).outputs

    @Told
    def inbound_nodes(self) -> list[SymbolicNode]:
        """The uses in graphs, in order."""
        return self._inbound_nodes

    @Told
    def outbound_nodes(self) -> list[SymbolicNode]:
        """The uses of its outputs by other operations."""
        return [node for reference in self.__dict__.get("_outbound", ()) if (node := reference()) is not None]

    _outbound_nodes = outbound_nodes

    stateful = False  # whether states are carried from batch to batch
    updates: ClassVar[list[Any]] = []  # assignments happen where they stand
    state_updates = updates

    def get_input_at(self, node_index: int) -> Any:
        """The symbolic input of a use in a graph, by its number."""
        return _input_of(self._use(node_index))

    def get_output_at(self, node_index: int) -> Any:
        """The symbolic output of a use in a graph, by its number."""
        return self._use(node_index).outputs

    def get_input_shape_at(self, node_index: int) -> Any:
        """The shapes of a use's inputs."""
        return _shapes(self.get_input_at(node_index))

    def get_output_shape_at(self, node_index: int) -> Any:
        """The shapes of a use's outputs."""
        return _shapes(self.get_output_at(node_index))

    @Told
    def input_shape(self) -> Any:
        """The shape of the inputs, where that is the same in all uses.

        Raises:
            AttributeError: where it is not, or there is no use in a graph.
        """
        return self._only_shape("input", [_shapes(_input_of(node)) for node in self._inbound_nodes])

    @Told
    def output_shape(self) -> Any:
        """The shape of the outputs, where that is the same in all uses.

        Raises:
            AttributeError: where it is not, or there is no use in a graph.
        """
        return self._only_shape("output", [_shapes(node.outputs) for node in self._inbound_nodes])

    def _only_shape(self, end: str, shapes: list[Any]) -> Any:
        self._use(0)
        if any(shape != shapes[0] for shape in shapes):
            raise AttributeError(
                f"The layer {self.name!r} is used with several {end} shapes, {shapes}; ask get_{end}_shape_at() for "
                "that of one use."
            )
        return shapes[0]

    def _use(self, index: int) -> SymbolicNode:
        if not self._inbound_nodes:
            raise AttributeError(f"The layer {self.name!r} has not been used in a graph; call it on an Input first.")
        if not -len(self._inbound_nodes) <= index < len(self._inbound_nodes):
            raise ValueError(
                f"The layer {self.name!r} is used {len(self._inbound_nodes)} times in graphs, got the number {index}."
            )
        return self._inbound_nodes[index]


def _input_of(node: SymbolicNode) -> Any:
    if not node.input_tensors:
        return node.outputs  # of an Input
    return node.args[0] if len(node.args) == 1 else node.input_tensors


def _shapes(structure: Any) -> Any:
    return tree.map_structure(lambda tensor: tensor.shape, structure)


class Operation(Uses, metaclass=ABCMeta):
    """A computation of your own without weights, as an element of graphs.  Layers are operations too.

    A subclass computes in `call`, with `minikeras.ops`, and may say in `compute_output_spec` what the outputs look
    like; else `call` runs on zeros for that.  The arguments of its `__init__` are its configuration.

    Args:
        name: default the class name in snake case with a number.

    Raises:
        ValueError: for a name that is no text or has a `/` in it.

    >>> import minikeras
    >>> class Scale(minikeras.Operation):
    ...     def __init__(self, factor, name=None):
    ...         super().__init__(name=name)
    ...         self.factor = factor
    ...
    ...     def call(self, x):
    ...         return x * self.factor
    >>> x = minikeras.Input((2,))
    >>> model = minikeras.Model(x, Scale(3.0)(x))
    >>> model(minikeras.ops.ones((1, 2))).numpy().tolist()
    [[3.0, 3.0]]
    """

    _recorded: tuple[tuple, dict[str, Any]]  # the constructor's arguments
    replayable = False  # whether `call` depends on its arguments alone, see `training.inference`

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        instance = super().__new__(cls)
        instance._recorded = args, kwargs
        instance._inbound_nodes = []
        instance.name = unique_name(snake_case(cls.__name__))
        return instance

    def __init__(self, name: str | None = None):
        if name is not None and (not isinstance(name, str) or "/" in name):
            raise ValueError(f"{type(self).__name__} takes a name of type str without '/', got {name!r}.")
        self.name = name or self.name

    @user_facing
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if is_symbolic((args, kwargs)):
            return self.symbolic_call(*args, **kwargs)
        return self.call(*args, **kwargs)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """The mathematics of the operation."""
        raise NotImplementedError(f"{type(self).__name__} does not define call(); write its mathematics there.")

    def symbolic_call(self, *args: Any, **kwargs: Any) -> Any:
        """The symbolic outputs for symbolic inputs, linked to these in a graph."""
        return SymbolicNode(self, args, kwargs, self.compute_output_spec(*args, **kwargs)).outputs

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """`KerasTensor`s that look like the outputs, found by running `call` on zeros."""
        return infer_output(self.call, args, kwargs)

    def get_config(self) -> dict[str, Any]:
        """The arguments that it was made with; what a subclass with a `get_config` of its own adds to is the name."""
        if type(self).get_config is not Operation.get_config:
            return {"name": self.name}
        args, kwargs = self._recorded
        bound = inspect.signature(type(self).__init__).bind(self, *args, **kwargs)
        bound.apply_defaults()
        kinds = {one.kind: name for name, one in bound.signature.parameters.items()}
        if bound.arguments.pop(kinds.get(inspect.Parameter.VAR_POSITIONAL, ""), ()):
            raise NotImplementedError(f"{type(self).__name__} takes any number of arguments; give it a get_config().")
        named = dict(list(bound.arguments.items())[1:])
        named.update(named.pop(kinds.get(inspect.Parameter.VAR_KEYWORD, ""), {}))
        takes_name = "name" in named or inspect.Parameter.VAR_KEYWORD in kinds
        config = {name: serialize_value(value) for name, value in named.items()}
        return {**config, "name": self.name} if takes_name else config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """The operation that `get_config` described."""
        return cls(
            **{name: deserialize_keras_object(one) if is_description(one) else one for name, one in config.items()}
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_inbound_nodes": [], "_outbound": []}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


Operation.register(FunctionNode)
