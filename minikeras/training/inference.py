"""Predictions: through the layers the first time, replayed for further batches of the same shapes (see replay.py)."""

from __future__ import annotations

from operator import attrgetter, is_
from typing import Any

from minikeras import kernels as k
from minikeras import layers
from minikeras.autodiff.replay import Program, Recorder
from minikeras.autodiff.symbolic import FunctionNode
from minikeras.autodiff.tensor import Tensor
from minikeras.layers.context import context, entrance
from minikeras.layers.layer import Layer

# Layers whose inference depends on nothing but their configuration, the values of their inputs and their weights, and
# looks at no value.
# fmt: off
_REPLAYABLE = frozenset({
    layers.Activation, layers.Add, layers.AlphaDropout, layers.Average, layers.AveragePooling1D,
    layers.AveragePooling2D, layers.AveragePooling3D, layers.BatchNormalization, layers.Concatenate, layers.Conv1D,
    layers.Conv1DTranspose, layers.Conv2D, layers.Conv2DTranspose, layers.Conv3D, layers.Conv3DTranspose,
    layers.Cropping1D, layers.Cropping2D, layers.Cropping3D, layers.Dense, layers.DepthwiseConv1D,
    layers.DepthwiseConv2D, layers.Dot, layers.Dropout, layers.ELU, layers.EinsumDense, layers.Flatten,
    layers.GaussianDropout, layers.GaussianNoise, layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D, layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D,
    layers.GroupNormalization, layers.Identity, layers.InputLayer, layers.LayerNormalization, layers.LeakyReLU,
    layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D, layers.Maximum, layers.Minimum, layers.Multiply,
    layers.Normalization, layers.PReLU, layers.Permute, layers.ReLU, layers.RepeatVector, layers.Rescaling,
    layers.Reshape, layers.SeparableConv1D, layers.SeparableConv2D, layers.Softmax, layers.SpatialDropout1D,
    layers.SpatialDropout2D, layers.SpatialDropout3D, layers.Subtract, layers.UnitNormalization, layers.UpSampling1D,
    layers.UpSampling2D, layers.UpSampling3D, layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D,
})
# fmt: on
_settings_of = attrgetter("_settings")
_MOST = 16  # programs of one model; for ever-changing shapes recording would not pay


def _is_own(function: Any) -> bool:
    return getattr(function, "__module__", "").startswith("minikeras.")


def _is_replayable(operation: Any) -> bool:
    """Whether an element of a model's graph can be replayed; of a model, all that it contains."""
    if isinstance(operation, FunctionNode):
        return _is_own(operation.function)
    if {"call", "__call__"} & vars(operation).keys() or operation.activity_regularizer is not None:
        return False
    graph = getattr(operation, "_graph", None)
    if graph is None:
        activation = getattr(operation, "activation", None)
        return type(operation) in _REPLAYABLE and (activation is None or _is_own(activation))
    if not _is_own(type(operation).call) or type(operation).__call__ is not Layer.__call__:
        return False
    return all(_is_replayable(part) for part in {node.operation: None for node in graph.output_nodes})


class Inference:
    """A model's predictions.

    Args:
        model: a model of any kind; those of which nothing is known but their `call` always go through their layers.
    """

    def __init__(self, model: Any):
        self._model = model
        self._programs: dict[tuple, Program | None] = {}
        self._layers: list[Any] = []  # whose settings were these
        self._settings: list[Any] = []

    def __getstate__(self) -> dict[str, Any]:
        return {"_model": self._model, "_programs": {}, "_layers": [], "_settings": []}

    def __call__(self, x: Any) -> Any:
        """The outputs, as a tensor or a structure of them, for a batch of raw arrays."""
        if type(x) is not k.xp.ndarray:
            return self._run(x)
        if not (self._settings and all(map(is_, map(_settings_of, self._layers), self._settings))):
            self._programs.clear()  # a layer was built, switched or changed
            self._layers = self._model._contents().layers
            self._settings = list(map(_settings_of, self._layers))
        key = x.shape, x.dtype
        program = self._programs.get(key)
        if program is not None:
            if entrance.before is not None:
                entrance.before(self._model)
            return Tensor(program((x,))[0])
        if key in self._programs or len(self._programs) >= _MOST:
            return self._run(x)
        return self._record(key, x)

    def _run(self, x: Any) -> Any:
        """The outputs by way of the layers, without losses that were added to the model."""
        outer, context.predicting = context.predicting, True
        try:
            return self._model(x, training=False)
        finally:
            context.predicting = outer

    def _record(self, key: tuple, x: Any) -> Any:
        """The outputs; where it can be replayed, how they were computed is kept."""
        if not self._model.built or not _is_replayable(self._model):
            outputs = self._run(x)
            if self._model.built:
                self._programs[key] = None
            return outputs
        tensor = Tensor(x)
        with Recorder([tensor]) as recorder:
            outputs = self._run(tensor)
        single = isinstance(outputs, Tensor)
        program = recorder.program([outputs]) if single else None
        if all(map(is_, map(_settings_of, self._layers), self._settings)):
            self._programs[key] = program
        return outputs
