"""What is swept: each built-in layer, activation, loss and optimizer in a small network, at three sizes.

Floats of the wanted shape come from a Dense layer without a bias that reads eight features: it costs little, and makes
the case's gradient for its inputs something that is asked for.  Layers for data (pictures of 0 to 255, integers) read
the data and have a mean and a Dense layer behind them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

SIZES = ("small", "medium", "large")
# Shapes with the batch, by kind and size; channels are the last.
SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {
    "vectors": ((32, 64), (256, 512), (1024, 2048)),
    "steps": ((8, 16, 16), (32, 64, 64), (64, 128, 128)),
    "pairs": ((4, 8, 8), (16, 32, 32), (32, 64, 64)),  # for what takes room for each step with each other
    "pictures": ((4, 8, 8, 8), (16, 32, 32, 32), (32, 64, 64, 32)),
    "volumes": ((2, 6, 6, 6, 4), (4, 12, 12, 12, 16), (8, 16, 16, 16, 32)),
    "lines": ((2, 4, 8, 4), (8, 8, 32, 16), (16, 16, 128, 32)),
    "films": ((2, 3, 6, 6, 4), (4, 5, 16, 16, 8), (8, 8, 32, 32, 16)),
    "rooms": ((2, 3, 4, 4, 4, 2), (2, 4, 8, 8, 8, 4), (4, 5, 12, 12, 12, 8)),
    "numbers": ((32, 16), (256, 64), (1024, 256)),  # floats that are data
    "words": ((8, 16), (32, 64), (64, 256)),  # integers
    "columns": ((32, 1), (1024, 1), (65_536, 1)),  # integers, one for each sample
    "images": ((4, 16, 16, 3), (16, 64, 64, 3), (32, 128, 128, 3)),  # of 0 to 255
    "weights": ((32, 32), (8, 512), (8, 2048)),  # a batch, and a layer of so many by so many
}
DATA = ("numbers", "words", "columns", "images")
FEATURES, TOKENS = 8, 64


@dataclass(frozen=True)
class Case:
    """What is timed.

    Args:
        kind: of `SHAPES`.
        make: `(keras, n)`, n channels, to a layer; for losses and optimizers to one of these.
        inputs: how many tensors the layer takes.
        before: the activation of what comes before: what a loss expects.
        wanted: the targets of a loss: "values", "signs", "both" (-1 and 1), "shares", "classes" or "words".
    """

    kind: str
    make: Callable[[Any, int], Any]
    inputs: int = 1
    before: str | None = None
    wanted: str = "values"


def _of(kind: str, name: str, *args: Any, inputs: int = 1, **settings: Any) -> Case:
    """A layer with constant arguments."""
    return Case(kind, lambda keras, n: getattr(keras.layers, name)(*args, **settings), inputs)


def _wide(kind: str, name: str, *args: Any, inputs: int = 1, **settings: Any) -> Case:
    """A layer whose first argument is the number of channels that come in."""
    return Case(kind, lambda keras, n: getattr(keras.layers, name)(n, *args, **settings), inputs)


_SPACES = {1: "steps", 2: "pictures", 3: "volumes"}
_KERNELS = {1: 5, 2: 3, 3: 3}


def _layers() -> dict[str, Case]:
    cases = {
        "Activation": _of("vectors", "Activation", "relu"),
        "ActivityRegularization": _of("vectors", "ActivityRegularization", 0.01, 0.01),
        "AdditiveAttention": _of("pairs", "AdditiveAttention", inputs=2),
        "Attention": _of("steps", "Attention", inputs=2),
        "BatchNormalization": _of("pictures", "BatchNormalization"),
        "Bidirectional": Case("steps", lambda k, n: k.layers.Bidirectional(k.layers.LSTM(n // 2))),
        "CategoryEncoding": _of("words", "CategoryEncoding", TOKENS, "multi_hot"),
        "Dense": Case("vectors", lambda k, n: k.layers.Dense(n // 2)),
        "Discretization": _of("numbers", "Discretization", [-1.0, 0.0, 1.0], output_mode="multi_hot"),
        "Dot": _of("vectors", "Dot", -1, inputs=2),
        "EinsumDense": Case("steps", lambda k, n: k.layers.EinsumDense("...c,cd->...d", n, bias_axes="d")),
        "Embedding": Case("words", lambda k, n: k.layers.Embedding(TOKENS * 100, 64)),
        "GroupNormalization": _of("pictures", "GroupNormalization", 4),
        "GroupQueryAttention": Case("steps", lambda k, n: k.layers.GroupQueryAttention(n // 4, 4, 2), 2),
        "HashedCrossing": _of("columns", "HashedCrossing", TOKENS, output_mode="one_hot", inputs=2),
        "Hashing": _of("words", "Hashing", TOKENS, output_mode="multi_hot"),
        "IntegerLookup": _of("words", "IntegerLookup", vocabulary=list(range(TOKENS)), output_mode="multi_hot"),
        "LayerNormalization": _of("steps", "LayerNormalization"),
        "Masking": Case("steps", lambda k, n: k.Sequential([k.layers.Masking(), k.layers.GRU(n)])),
        "MultiHeadAttention": Case("steps", lambda k, n: k.layers.MultiHeadAttention(4, n // 4), 2),
        "Normalization": _of("vectors", "Normalization", mean=0.5, variance=2.0),
        "PReLU": _of("vectors", "PReLU"),
        "Permute": _of("steps", "Permute", (2, 1)),
        "RMSNormalization": _of("steps", "RMSNormalization"),
        "RNN": Case("steps", lambda k, n: k.layers.RNN(k.layers.LSTMCell(n))),
        "RepeatVector": _of("vectors", "RepeatVector", 4),
        "Rescaling": _of("vectors", "Rescaling", 0.5, 1.0),
        "Reshape": Case("vectors", lambda k, n: k.layers.Reshape((n // 4, 4))),
        "SpectralNormalization": Case("vectors", lambda k, n: k.layers.SpectralNormalization(k.layers.Dense(n // 2))),
        "StackedRNNCells": Case("steps", lambda k, n: k.layers.RNN([k.layers.GRUCell(n), k.layers.LSTMCell(n)])),
        "TimeDistributed": Case("steps", lambda k, n: k.layers.TimeDistributed(k.layers.Dense(n))),
        "UnitNormalization": _of("vectors", "UnitNormalization"),
        "Softmax": _of("vectors", "Softmax"),
        "ReLU": _of("vectors", "ReLU", 6.0, 0.1, 0.0),
        "ThresholdedReLU": _of("vectors", "ThresholdedReLU", 0.5),
        "CenterCrop": Case("images", lambda k, n: k.layers.CenterCrop(8, 8)),
        "Resizing": Case("images", lambda k, n: k.layers.Resizing(48, 48)),
        "RandomCrop": Case("images", lambda k, n: k.layers.RandomCrop(8, 8)),
        "RandomColorJitter": _of("images", "RandomColorJitter", (0, 255), 0.1, 0.1, 0.1, 0.1),
        "SeparableConv1D": _wide("steps", "SeparableConv1D", 5, padding="same"),
        "SeparableConv2D": _wide("pictures", "SeparableConv2D", 3, padding="same"),
        "DepthwiseConv1D": _of("steps", "DepthwiseConv1D", 5, padding="same"),
        "DepthwiseConv2D": _of("pictures", "DepthwiseConv2D", 3, padding="same"),
    }
    cases |= {name: _of("vectors", name) for name in ("ELU", "Flatten", "Identity", "LeakyReLU")}
    cases |= {name: _of("vectors", name, 0.3) for name in ("Dropout", "AlphaDropout", "GaussianDropout")}
    cases["GaussianNoise"] = _of("vectors", "GaussianNoise", 0.3)
    merges = ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract")
    cases |= {name: _of("vectors", name, inputs=2) for name in merges}
    for name in ("SimpleRNN", "GRU", "LSTM"):
        cases[name] = _wide("steps", name)
        cases[f"{name}Cell"] = Case(
            "steps", lambda k, n, cell=f"{name}Cell": k.layers.RNN(getattr(k.layers, cell)(n), return_sequences=True)
        )
    for axes, kind in _SPACES.items():
        size, film = _KERNELS[axes], ("lines", "films", "rooms")[axes - 1]
        cases |= {
            f"Conv{axes}D": _wide(kind, f"Conv{axes}D", size, padding="same"),
            f"Conv{axes}DTranspose": _wide(kind, f"Conv{axes}DTranspose", size, padding="same"),
            f"ConvLSTM{axes}D": _wide(film, f"ConvLSTM{axes}D", 3, padding="same"),
            f"Cropping{axes}D": _of(kind, f"Cropping{axes}D", 1),
            f"SpatialDropout{axes}D": _of(kind, f"SpatialDropout{axes}D", 0.3),
            f"UpSampling{axes}D": _of(kind, f"UpSampling{axes}D", 2),
            f"ZeroPadding{axes}D": _of(kind, f"ZeroPadding{axes}D", 1),
        }
        for what in ("Average", "Max"):
            cases |= {
                f"{what}Pooling{axes}D": _of(kind, f"{what}Pooling{axes}D", 2),
                f"Global{what}Pooling{axes}D": _of(kind, f"Global{what}Pooling{axes}D"),
                f"Adaptive{what}Pooling{axes}D": _of(kind, f"Adaptive{what}Pooling{axes}D", 3),
            }
    by_factor = (
        "RandomBrightness", "RandomColorDegeneration", "RandomContrast", "RandomGrayscale", "RandomHue", "RandomInvert",
        "RandomRotation", "RandomSaturation", "RandomSharpness", "RandomShear", "RandomTranslation", "RandomZoom",
    )  # fmt: skip
    for name in by_factor:
        further = (0.1,) if name == "RandomTranslation" else ()
        more = {"value_range": (0, 255)} if name in ("RandomHue", "RandomSharpness", "RandomColorDegeneration") else {}
        cases[name] = _of("images", name, 0.1, *further, **more)
    cases["RandomPosterization"] = _of("images", "RandomPosterization", 4)
    cases["Solarization"] = _of("images", "Solarization", 0.5)
    plain = (
        "AutoContrast", "CutMix", "Equalization", "MixUp", "RandAugment", "RandomErasing", "RandomFlip",
        "RandomGaussianBlur",
    )  # fmt: skip
    return cases | {name: _of("images", name) for name in plain}


# Public layers without a case, and why.
WITHOUT = {
    "Input, InputLayer, InputSpec, Layer, Wrapper": "they compute nothing",
    "Lambda, Pipeline": "what they cost is what they are given",
    "StringLookup, TextVectorization": "strings do not go into a step",
    "LocallyConnected1D, LocallyConnected2D": "Keras 3 has them no more",
}

ACTIVATIONS = (
    "celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu",
    "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink",
    "softmax", "softplus", "softsign", "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus", "tanh",
    "tanh_shrink", "threshold",
)  # fmt: skip

_LOSSES: dict[str, tuple[str | None, str]] = {  # what comes before, the targets
    "BinaryCrossentropy": ("sigmoid", "signs"),
    "BinaryFocalCrossentropy": ("sigmoid", "signs"),
    "CTC": (None, "words"),
    "CategoricalCrossentropy": ("softmax", "shares"),
    "CategoricalFocalCrossentropy": ("softmax", "shares"),
    "CategoricalGeneralizedCrossEntropy": ("softmax", "classes"),
    "CategoricalHinge": (None, "shares"),
    "Circle": (None, "classes"),
    "CosineSimilarity": (None, "values"),
    "Dice": ("sigmoid", "signs"),
    "Hinge": (None, "both"),
    "Huber": (None, "values"),
    "KLDivergence": ("softmax", "shares"),
    "LogCosh": (None, "values"),
    "MeanAbsoluteError": (None, "values"),
    "MeanAbsolutePercentageError": (None, "values"),
    "MeanSquaredError": (None, "values"),
    "MeanSquaredLogarithmicError": ("sigmoid", "signs"),
    "Poisson": ("softplus", "signs"),
    "SparseCategoricalCrossentropy": ("softmax", "classes"),
    "SquaredHinge": (None, "both"),
    "Tversky": ("sigmoid", "signs"),
}

OPTIMIZERS = (
    "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Ftrl", "Lamb", "Lion", "Nadam", "RMSprop", "SGD",
)  # fmt: skip


def _activation(keras: Any, name: str) -> Any:
    """As an argument: by its name, or with the arguments that it needs."""
    if name == "threshold":
        return lambda x: keras.activations.threshold(x, 0.5, 0.0)
    return getattr(keras.activations, name)


CASES: dict[str, Case] = {
    **{f"layers.{name}": case for name, case in sorted(_layers().items())},
    **{
        f"activations.{name}": Case("vectors", lambda k, n, name=name: k.layers.Activation(_activation(k, name)))
        for name in ACTIVATIONS
    },
    **{
        f"losses.{name}": Case(
            "steps" if name == "CTC" else "vectors",
            lambda k, n, name=name: getattr(k.losses, name)(),
            before=before,
            wanted=wanted,
        )
        for name, (before, wanted) in _LOSSES.items()
    },
    **{
        f"optimizers.{name}": Case("weights", lambda k, n, name=name: getattr(k.optimizers, name)(1e-6))
        for name in OPTIMIZERS
    },
}


def network(keras: Any, name: str, size: str) -> tuple[Any, Any, Any]:
    """A case's compiled model in this Keras, and a batch for it: `(model, x, y)`."""
    case, group = CASES[name], name.partition(".")[0]
    batch, *rest = shape = SHAPES[case.kind][SIZES.index(size)]
    n, layers, generator = shape[-1], keras.layers, np.random.default_rng(0)
    optimizer, loss = keras.optimizers.SGD(1e-6), "mean_squared_error"
    if case.kind in DATA:
        x, inputs = _data(case.kind, shape, generator), keras.Input(shape=tuple(rest), batch_size=batch)
        if x.dtype == "int32":
            inputs = keras.Input(shape=tuple(rest), batch_size=batch, dtype="int32")
        given = [inputs] * case.inputs
        outputs = case.make(keras, n)(given if case.inputs > 1 else inputs)
        if len(outputs.shape) == 4:
            outputs = layers.GlobalAveragePooling2D()(outputs)
        outputs = layers.Dense(1)(outputs)
    else:
        features = n if group == "optimizers" else FEATURES
        inputs = keras.Input(shape=(*rest[:-1], features), batch_size=batch)
        x = generator.standard_normal((*shape[:-1], features), "float32")
        outputs, *others = (layers.Dense(n, case.before, use_bias=False)(inputs) for _ in range(case.inputs))
        if group == "losses":
            loss = case.make(keras, n)
        elif group == "optimizers":
            optimizer = case.make(keras, n)
        elif name.endswith("QueryAttention") or name.endswith("MultiHeadAttention"):
            outputs = case.make(keras, n)(outputs, *others)
        else:
            outputs = case.make(keras, n)([outputs, *others] if others else outputs)
    model = keras.Model(inputs, outputs)
    model.compile(optimizer=optimizer, loss=loss)
    shape = tuple(outputs.shape)
    if name == "activations.glu":  # its outputs are half as wide, which no Activation knows
        shape = (batch, n // 2)
    return model, x, _targets(case.wanted, shape, generator)


def _data(kind: str, shape: tuple[int, ...], generator: Any) -> Any:
    if kind in ("words", "columns"):
        return generator.integers(0, TOKENS, shape, "int32")
    x = generator.standard_normal(shape, "float32")
    return (127.5 + 40 * x).clip(0, 255) if kind == "images" else x


def _targets(wanted: str, shape: tuple[int, ...], generator: Any) -> Any:
    if wanted == "classes":
        return generator.integers(0, shape[-1], shape[:1], "int32")
    if wanted == "words":  # fewer than there are steps, and none is the blank
        return generator.integers(1, shape[-1], (shape[0], shape[1] // 4), "int32")
    if wanted == "shares":
        return np.eye(shape[-1], dtype="float32")[generator.integers(0, shape[-1], prod(shape[:-1]))].reshape(shape)
    y = generator.standard_normal(shape, "float32")
    return {"values": y, "signs": (y > 0).astype("float32"), "both": np.where(y > 0, 1, -1).astype("float32")}[wanted]
