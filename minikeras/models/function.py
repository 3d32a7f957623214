"""A graph of operations as a function."""

from __future__ import annotations

from typing import Any

from minikeras import tree
from minikeras.autodiff.symbolic import KerasTensor, unique_name
from minikeras.layers.core import InputLayer
from minikeras.models.model import Model
from minikeras.tracebacks import UserFacing


class Function(UserFacing):
    """What symbolic outputs stand for, as a function of the symbolic inputs that they follow from.

    Args:
        inputs, outputs: symbolic tensors or structures of them; inputs may be plain `KerasTensor`s.
        name: default automatic.

    Called with tensors or arrays in the structure of the inputs it returns tensors in that of the outputs, and with
    symbolic tensors symbolic ones.

    Raises:
        ValueError: where an output does not follow from the inputs, or there are none.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> x = keras.Input((2,))
    >>> double = keras.Function(x, x * 2)
    >>> double(np.ones((1, 2)))
    <Tensor shape=(1, 2) dtype=float32>
    array([[2., 2.]], dtype=float32)
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None):
        if not tree.flatten(inputs) or not tree.flatten(outputs):
            raise ValueError(f"A Function has inputs and outputs, got inputs={inputs!r} and outputs={outputs!r}.")
        for tensor in tree.flatten(inputs):
            if isinstance(tensor, KerasTensor) and tensor._keras_history is None:
                InputLayer(batch_shape=tensor.shape, dtype=tensor.dtype, input_tensor=tensor)
        self.name = name or unique_name("function")
        self._model: Any = Model(inputs, outputs, name=self.name)
        self._structure = outputs

    @property
    def inputs(self) -> list[KerasTensor]:
        """The inputs, as a flat list."""
        return self._model.inputs

    @property
    def outputs(self) -> list[KerasTensor]:
        """The outputs, as a flat list."""
        return self._model.outputs

    @property
    def operations(self) -> list[Any]:
        """The elements of the graph: layers and operations."""
        return list(self._model._graph.operations)

    def __call__(self, inputs: Any) -> Any:
        return tree.pack_sequence_as(self._structure, tree.flatten(self._model(inputs)))
