"""Compiled losses that refer to symbolic tensors of the model's graph, as Keras 2 programs write them.

```python
def vae_loss(y_true, y_pred):
    divergence = -0.5 * ops.sum(1 + z_log_var - ops.square(z_mean) - ops.exp(z_log_var), axis=-1)
    return losses.binary_crossentropy(y_true, y_pred) + divergence
```

The model keeps the values of `z_mean` and `z_log_var` in each step.  The function is called once, on symbolic targets
and predictions; the graph that it returns is run on the values of each batch.
"""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

from minikeras import tree
from minikeras.autodiff.symbolic import KerasTensor
from minikeras.autodiff.tape import recording
from minikeras.layers.core import InputLayer
from minikeras.layers.layer import Layer
from minikeras.losses import Loss, LossFunctionWrapper
from minikeras.models.graph import Graph

_LONGEST = 100  # longer lists and tables are data


def tensors_in(function: Any) -> list[KerasTensor]:
    """The symbolic tensors that a function (or a loss object) of the user's refers to, itself or by others it calls."""
    found: dict[int, KerasTensor] = {}
    seen: set[int] = set()
    left = [function]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, KerasTensor):
            found[id(one)] = one
        else:
            left.extend(_referred_to(one))
    return list(found.values())


def _referred_to(one: Any) -> Iterator[Any]:
    if isinstance(one, (list, tuple)):
        yield from one if len(one) <= _LONGEST else ()
    elif isinstance(one, dict):
        yield from one.values() if len(one) <= _LONGEST else ()
    elif isinstance(one, functools.partial):
        yield from (one.func, one.args, one.keywords)
    elif isinstance(one, types.MethodType):
        yield one.__func__
        if not isinstance(one.__self__, (Layer, type)):
            yield vars(one.__self__) if hasattr(one.__self__, "__dict__") else None
    elif isinstance(one, types.FunctionType) and not one.__module__.startswith("minikeras."):
        for cell in one.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # not assigned yet
                continue
        yield from (one.__globals__.get(name) for name in _names(one.__code__))
        yield from (one.__defaults__, one.__kwdefaults__)
    elif isinstance(one, LossFunctionWrapper):
        yield one.fn
    elif isinstance(one, Loss):
        yield one.call


def _names(code: types.CodeType) -> Iterator[str]:
    """The global names that a function looks up, those in functions within it included."""
    yield from (one.argval for one in dis.get_instructions(code) if one.opname == "LOAD_GLOBAL")
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


class LossOfGraph:
    """A loss function whose values follow from targets, predictions and tensors of a model's graph.

    Args:
        function: of symbolic targets and predictions.
        model: a functional model that keeps the values of the tensors.
    """

    def __init__(self, function: Callable, model: Any):
        self._function, self._model = function, model
        self._graphs: dict[tuple, Graph] = {}
        self.__name__ = getattr(function, "__name__", "loss")

    @classmethod
    def around(cls, spec: Any, model: Any) -> Any:
        """A loss for `compile` that refers to kept tensors of a model's graph as one that takes their values."""
        kept = {id(tensor) for tensor in model._graph.kept}
        if not any(id(tensor) in kept for tensor in tensors_in(spec)):
            return spec
        if isinstance(spec, LossFunctionWrapper):
            function: Callable = functools.partial(spec.fn, **spec._fn_kwargs)
        elif isinstance(spec, Loss):
            function = spec.call
        else:
            return cls(spec, model)
        return LossFunctionWrapper(cls(function, model), spec.reduction, spec.name, spec.dtype)

    def __call__(self, y_true: Any, y_pred: Any) -> Any:
        """One value per sample, or what else the function returns."""
        key = tuple((tuple(one.shape[1:]), str(one.dtype)) for one in (y_true, y_pred))
        graph = self._graphs.get(key)
        if graph is None:
            graph = self._graphs[key] = self._trace(y_true, y_pred)
        kept = self._model._kept_values
        return graph.run([y_true, y_pred, *(kept[id(tensor)] for tensor in graph.inputs[2:])])

    def _trace(self, y_true: Any, y_pred: Any) -> Graph:
        ends = [InputLayer(batch_shape=(None, *one.shape[1:]), dtype=str(one.dtype)).output for one in (y_true, y_pred)]
        with recording():
            result = self._function(*ends)
        if not isinstance(result, KerasTensor):
            raise ValueError(
                f"The loss {self.__name__!r} refers to symbolic tensors of the model's graph, so it has to return one, "
                f"got {result!r:.80}; write it with minikeras.ops."
            )
        graph = Graph([*ends, *self._model._graph.kept], result)
        leaves = tree.flatten([(list(node.args), node.kwargs) for node in graph.nodes])
        if any(getattr(leaf, "node", None) is not None for leaf in leaves):
            raise ValueError(
                f"The loss {self.__name__!r} refers to symbolic tensors of the model's graph and computes with "
                "weights, whose values would stay what they are now; add what depends on the weights alone with "
                "model.add_loss(lambda: ...)."
            )
        return graph

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(
            f"A model with the loss {self.__name__!r} cannot be copied or pickled, because the loss refers to symbolic "
            "tensors of this model; clone the model, or add the part that needs them with model.add_loss()."
        )
