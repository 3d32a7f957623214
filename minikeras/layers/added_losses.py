"""What layers add to the loss: in `call`, as functions of their weights, and as penalties of regularizers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from minikeras import kernels as k
from minikeras import tree
from minikeras.autodiff.symbolic import KerasTensor
from minikeras.autodiff.tape import is_recording
from minikeras.autodiff.tensor import Tensor, spoil
from minikeras.layers.context import context
from minikeras.layers.structure import Structure
from minikeras.lazy import LazyModule
from minikeras.tracebacks import user_facing

metrics = LazyModule("minikeras.metrics")  # the room below, for the metrics of add_metric


class AddedLosses(Structure):
    """What lets a layer add to the loss."""

    _losses: list[Any]
    _loss_owners: list[AddedLosses]
    _own_functions = 0  # how many functions its class added

    @user_facing
    def add_loss(self, loss: Any, inputs: Any = None) -> None:
        """Add to what training minimises.

        Args:
            loss: inside `call` a tensor, or a structure of tensors, which counts for this call.  In `__init__`, in
                `build` or outside of the layer a function without arguments that returns one, computed anew for every
                batch: `layer.add_loss(lambda: ops.sum(layer.kernel))`.  What is not a scalar is summed up.
            inputs: accepted for familiarity.

        Raises:
            ValueError: for a value that would count once at most: one computed outside of `call` or not by a tensor's
                operations, and for a symbolic tensor, which is added to the functional model that it belongs to.
        """
        values = [loss] if type(loss) is Tensor else self._losses_to_add(loss)
        if context.on_zeros or not values:
            return
        if context.building is self or (context.entry is None and not is_recording() and not k.arena.in_step()):
            raise ValueError(
                f"add_loss of {self.name!r} got a tensor of shape {values[0].shape} outside of call(), where it would "
                "be the same for all batches; pass a function that computes it, such as lambda: ops.sum(layer.kernel)."
            )
        self._note_losses(values)

    def _losses_to_add(self, loss: Any) -> list[Any]:
        """The tensors in what `add_loss` was given; functions are kept."""
        values, functions = [], []
        for value in tree.flatten(loss):
            if isinstance(value, KerasTensor):
                raise ValueError(
                    f"add_loss of {self.name!r} got the symbolic tensor {value!r}, which has no value in this layer; "
                    "add it to the functional model with model.add_loss(), or make it of what call() is given."
                )
            if callable(value):
                if context.entry is not None and self.built and context.building is not self:
                    raise ValueError(
                        f"add_loss of {self.name!r} got the function {value!r:.80} inside call(), which would add it "
                        "again at every call; pass the tensor that it returns."
                    )
                functions.append(value)
            elif isinstance(value, Tensor):
                values.append(value)
            else:
                raise ValueError(
                    f"add_loss of {self.name!r} takes tensors, got {value!r:.80}, through which no gradient flows; "
                    "compute the loss with minikeras.ops."
                )
        if functions:
            if self._adds_itself() and self._own_functions == len(self._loss_functions):
                self._own_functions += len(functions)
            self._loss_functions.extend(functions)
            self._restructured()
        return values

    def _adds_itself(self) -> bool:
        """Whether `add_loss` is called by the layer's own constructor or `build`, which a restored layer runs too."""
        frame: Any = sys._getframe(1)
        while frame is not None:
            code = frame.f_code
            if code.co_name in ("__init__", "build") and frame.f_locals.get(code.co_varnames[0]) is self:
                return True
            frame = frame.f_back
        return False

    def _note_losses(self, values: list[Any]) -> None:
        owners = (context.entry or self)._loss_owners
        if not any(owner is self for owner in owners):
            self._losses.clear()  # of a call from elsewhere
            owners.append(self)
        self._losses.extend(values)

    @property
    def losses(self) -> list[Any]:
        """Losses added by the last call here and below, those of functions, and the penalties of regularizers.

        A functional model whose losses were not computed has the symbolic tensors that were added to it instead.
        """
        contents = self._contents()
        collected = [loss for layer in contents.layers for loss in layer._added_losses()]
        collected += [value_of(function) for function in contents.loss_functions]
        return collected + [v.regularizer(v) for v in self.trainable_weights if v.regularizer is not None]

    def _added_losses(self) -> list[Any]:
        return self._losses

    # ------------------------------------------------------------ metrics, the same way

    _metric_tables: dict[str, Any] | None = None  # by name, those of add_metric

    @user_facing
    def add_metric(self, value: Any, aggregation: str | None = "mean", name: str | None = None) -> None:
        """Keras 2: show the mean of values that `call` computes among the metrics.

        Args:
            value: a tensor, inside `call`.
            aggregation: `"mean"`, the only one, or None for the same.
            name: what logs call it.

        Raises:
            ValueError: for another aggregation, without a name, and for what is no tensor of this layer's call.
        """
        check_metric(self, aggregation, name)
        if not isinstance(value, Tensor) or context.entry is None:
            raise ValueError(
                f"add_metric of {self.name!r} takes a tensor that call() computes, inside of call(), got {value!r:.80}."
            )
        metric = self._added_metric(str(name))
        spoil("a layer adds a metric where it is called")
        if not context.on_zeros and not context.predicting:
            metric.update_state(value)

    def _added_metric(self, name: str) -> Any:
        """The metric of a name, made when it is first asked for."""
        if self._metric_tables is None:
            self._metric_tables = {}
        if name not in self._metric_tables:
            self._metric_tables[name] = metrics.Mean(name=name)
        return self._metric_tables[name]

    def _unwritten_losses(self) -> list[Any]:
        """What was added to the loss that neither a description of this layer holds nor its class adds again."""
        return self._loss_functions[self._own_functions :]

    def _clear_losses(self) -> None:
        for owner in self._loss_owners:
            owner._losses.clear()
        self._loss_owners.clear()


def check_metric(layer: Any, aggregation: Any, name: Any) -> None:
    if aggregation not in ("mean", None):
        raise ValueError(f"add_metric of {layer.name!r} takes aggregation='mean', got {aggregation!r}.")
    if not isinstance(name, str):
        raise ValueError(f"add_metric of {layer.name!r} needs a name for the logs, got {name!r}.")


def value_of(function: Callable[[], Any]) -> Tensor:
    """What a function that was given to `add_loss` returns now."""
    value = function()
    if not isinstance(value, Tensor):
        raise ValueError(
            f"The function {function!r:.80} given to add_loss() returns a tensor, got {value!r:.80}; compute it of "
            "weights and other tensors with minikeras.ops."
        )
    return value
