"""Every public layer class once: what it is made with and what it is called on.

A row is `row(name, arguments, *shapes, options)`.  Arguments that hold other layers are functions of the module
`layers`, ours or Keras's, so that the same table serves the comparison with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

FEATURES, STEPS, PICTURE, VOLUME = (4,), (5, 3), (6, 5, 2), (4, 4, 3, 2)
VALID = {1: (7, 2), 2: (7, 6, 2), 3: (4, 5, 4, 2)}  # inputs with so many spatial axes


@dataclass
class Row:
    """A layer and its inputs.

    Attributes:
        name: of the class.
        arguments: of the constructor, or a function that makes them of the module `layers`.
        shapes: of the inputs, without the batch axis; one is given alone, several as a list.
        spread: several inputs are several arguments.
        integers: inputs are integers below this.
        fixed: how many of the last axes must have a known size; the layer takes any sizes of the others.
        states: the second argument is the rest of the inputs, in a list.
        keras: its name in Keras 3, default the same; None where that has none.
        tolerance: of outputs of about 1 in bfloat16, against those in float32.
    """

    name: str
    arguments: Any
    shapes: tuple[tuple[int, ...], ...]
    spread: bool = False
    integers: int = 0
    fixed: int = 1
    states: bool = False
    keras: str | None = ""
    tolerance: float = 0.03

    def make(self, layers: Any, **more: Any) -> Any:
        """The layer, of ours or of Keras's module."""
        arguments = self.arguments(layers) if callable(self.arguments) else self.arguments
        name = self.name if hasattr(layers, self.name) else self.keras
        return getattr(layers, name)(**arguments, **more)

    def inputs(self, batch: int = 3, dtype: str = "float32") -> list[np.ndarray]:
        rng = np.random.default_rng(7)
        if self.integers:
            return [rng.integers(0, self.integers, (batch, *shape)).astype("int32") for shape in self.shapes]
        return [rng.normal(size=(batch, *shape)).astype(dtype) for shape in self.shapes]

    def together(self, inputs: Any) -> tuple[Any, ...]:
        """One value for each input as the arguments of a call."""
        first, *rest = inputs
        if self.states:
            return first, rest
        return (first, *rest) if self.spread or not rest else ([first, *rest],)


def row(name: str, arguments: dict[str, Any] | Callable, *shapes: tuple[int, ...], **options: Any) -> Row:
    return Row(name, arguments, shapes, **options)


def _by_rank(name: str, arguments: dict[str, Any], ranks: Any = (1, 2, 3), **options: Any) -> list[Row]:
    return [row(f"{name}{rank}D", arguments, VALID[rank], **options) for rank in ranks]


_SEQUENCE = {"return_sequences": True}
_PAIR = (5, 4), (6, 4)
_GROUPED = {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2}
ROWS = [
    # core
    row("Activation", {"activation": "tanh"}, FEATURES, fixed=0),
    row("ActivityRegularization", {"l2": 0.1}, FEATURES, fixed=0),
    row("Dense", {"units": 3, "activation": "relu"}, STEPS),
    row("EinsumDense", {"equation": "abc,cd->abd", "output_shape": (5, 4), "bias_axes": "d"}, STEPS, fixed=2),
    row("Embedding", {"input_dim": 5, "output_dim": 3}, (4,), integers=5, fixed=0),
    row("Flatten", {}, PICTURE),
    row("Identity", {}, FEATURES, fixed=0),
    row("Lambda", {"function": abs}, FEATURES, fixed=0, keras=None),
    row("Masking", {"mask_value": 0.0}, STEPS, fixed=0),
    row("Permute", {"dims": (2, 1)}, STEPS, fixed=0),
    row("RepeatVector", {"n": 3}, FEATURES, fixed=0),
    row("Reshape", {"target_shape": (-1, 2)}, FEATURES, fixed=1),
    # activations
    row("ELU", {"alpha": 0.5}, FEATURES, fixed=0),
    row("LeakyReLU", {"negative_slope": 0.2}, FEATURES, fixed=0),
    row("PReLU", {"shared_axes": [1]}, STEPS),
    row("ReLU", {"max_value": 1.0}, FEATURES, fixed=0),
    row("Softmax", {}, FEATURES, fixed=0),
    row("ThresholdedReLU", {"theta": 0.5}, FEATURES, fixed=0, keras=None),
    # attention
    row("AdditiveAttention", {}, *_PAIR),
    row("Attention", {"use_scale": True}, *_PAIR),
    row("GroupedQueryAttention", _GROUPED, *_PAIR, spread=True, keras="GroupQueryAttention"),
    row("MultiHeadAttention", {"num_heads": 2, "key_dim": 3}, *_PAIR, spread=True),
    # convolutions
    *_by_rank("Conv", {"filters": 3, "kernel_size": 3, "activation": "relu"}),
    *[row(f"Conv{n}DTranspose", {"filters": 3, "kernel_size": 3, "strides": 2}, VALID[n]) for n in (1, 2, 3)],
    *_by_rank("DepthwiseConv", {"kernel_size": 3, "depth_multiplier": 2}, (1, 2)),
    *_by_rank("SeparableConv", {"filters": 3, "kernel_size": 3}, (1, 2)),
    row("LocallyConnected1D", {"filters": 3, "kernel_size": 3}, VALID[1], keras=None, fixed=2),
    row("LocallyConnected2D", {"filters": 3, "kernel_size": 3}, VALID[2], keras=None, fixed=3),
    # merging
    *[
        row(name, {}, FEATURES, FEATURES, fixed=0)
        for name in ("Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract")
    ],
    row("Concatenate", {}, STEPS, (5, 2), fixed=0),
    row("Dot", {"axes": 1}, FEATURES, FEATURES, fixed=0),
    # normalisation
    row("BatchNormalization", {"renorm": True}, PICTURE),
    row("GroupNormalization", {"groups": 2}, (5, 4)),
    row("LayerNormalization", {}, STEPS),
    row("RMSNormalization", {}, STEPS),
    row("SpectralNormalization", lambda layers: {"layer": layers.Dense(3)}, FEATURES),
    row("UnitNormalization", {}, FEATURES, fixed=0),
    row("Normalization", {"mean": 0.5, "variance": 2.0}, FEATURES),
    row("Rescaling", {"scale": 0.5, "offset": 1.0}, FEATURES, fixed=0),
    # pools
    *_by_rank("AveragePooling", {"pool_size": 2}),
    *_by_rank("MaxPooling", {"pool_size": 2}),
    *_by_rank("GlobalAveragePooling", {}),
    *_by_rank("GlobalMaxPooling", {}),
    *_by_rank("AdaptiveAveragePooling", {"output_size": 2}),
    *_by_rank("AdaptiveMaxPooling", {"output_size": 2}),
    # recurrence
    row("SimpleRNN", {"units": 3}, STEPS),
    row("LSTM", {"units": 3, **_SEQUENCE}, STEPS),
    row("GRU", {"units": 3, **_SEQUENCE}, STEPS),
    row("RNN", lambda layers: {"cell": layers.LSTMCell(3)}, STEPS),
    row("SimpleRNNCell", {"units": 3}, FEATURES, (3,), states=True),
    row("GRUCell", {"units": 3}, FEATURES, (3,), states=True),
    row("LSTMCell", {"units": 3}, FEATURES, (3,), (3,), states=True),
    row("StackedRNNCells", lambda layers: {"cells": [layers.GRUCell(3)]}, FEATURES, (3,), states=True),
    row("Bidirectional", lambda layers: {"layer": layers.GRU(3)}, STEPS),
    row("TimeDistributed", lambda layers: {"layer": layers.Dense(3)}, STEPS),
    *[row(f"ConvLSTM{n}D", {"filters": 2, "kernel_size": 2}, (3, *VALID[n]), fixed=n + 1) for n in (1, 2, 3)],
    # noise, which is none in inference
    row("AlphaDropout", {"rate": 0.3}, FEATURES, fixed=0),
    row("Dropout", {"rate": 0.3}, FEATURES, fixed=0),
    row("GaussianDropout", {"rate": 0.3}, FEATURES, fixed=0),
    row("GaussianNoise", {"stddev": 0.3}, FEATURES, fixed=0),
    *_by_rank("SpatialDropout", {"rate": 0.3}),
    # rearranging
    *_by_rank("Cropping", {"cropping": 1}),
    *_by_rank("UpSampling", {"size": 2}),
    *_by_rank("ZeroPadding", {"padding": 1}),
    # pictures
    *[row(name, {"height": 4, "width": 3}, PICTURE, fixed=3) for name in ("CenterCrop", "Resizing")],
]  # fmt: skip
