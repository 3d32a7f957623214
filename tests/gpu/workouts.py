"""Small models with their data, and layers, to be run on any array module and compared.

Calls of every kernel are in `minikeras.doctor.cases`, where the doctor needs them too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minikeras import Input, Model, Sequential, layers, losses, metrics, optimizers, regularizers, saving, utils
from minikeras import kernels as k
from minikeras.kernels.comparison import Bench


@contextlib.contextmanager
def reference_kernels() -> Iterator[None]:
    """Within this block the reference kernels run on NumPy."""
    previous = k.active_device()
    k.use("cpu")
    k.bind(k.reference_table())
    try:
        yield
    finally:
        k.use(previous)


def compare(found: list[Any], expected: list[Any], rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """The same values and types, on whatever devices."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            one, other = k.to_host(one), k.to_host(other)
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


# ---------------------------------------------------------------- kernels


def bench(dtype: str) -> Bench:
    """A bench with the active kernels."""
    return Bench(dtype, k)


# ---------------------------------------------------------------- models


@dataclass
class Workout:
    """A model to train: `make()` builds and compiles it, `data(samples, rng)` draws (x, y) or (x, y, weights)."""

    name: str
    make: Callable[[], Any]
    data: Callable[[int, np.random.Generator], tuple]
    fit: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def _mlp() -> Any:
    penalty = regularizers.L2(1e-3)
    model = Sequential([Input((6,)), layers.Dense(8, "relu", kernel_regularizer=penalty, kernel_constraint="max_norm")])
    model.add(layers.Dropout(0.3, seed=3))
    model.add(layers.Dense(3, "softmax"))
    top = metrics.SparseTopKCategoricalAccuracy(2)
    rate = optimizers.schedules.ExponentialDecay(0.1, 4, 0.9)
    optimizer = optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=1e-3)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy", top])
    return model


def _regression() -> Any:
    model = Sequential([Input((6,)), layers.Dense(8, "gelu"), layers.GaussianNoise(0.1, seed=4), layers.Dense(2)])
    optimizer = optimizers.RMSprop(0.01, momentum=0.5, centered=True, clipnorm=0.5)
    watched = ["mae", "mse", metrics.R2Score(), metrics.RootMeanSquaredError(), metrics.CosineSimilarity()]
    model.compile(optimizer, losses.Huber(0.7), metrics=watched, weighted_metrics=["mae"])
    return model


def _cnn() -> Any:
    x = inputs = Input((8, 8, 2))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    x = layers.BatchNormalization()(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.ZeroPadding2D(1)(layers.DepthwiseConv2D(3, activation="tanh")(x))
    x = layers.Conv2D(4, 3, strides=2, groups=2)(x)
    x = layers.SpatialDropout2D(0.2, seed=5)(layers.AveragePooling2D(1)(x))
    x = layers.Add()([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)])
    x = layers.Dropout(0.5, seed=6)(layers.Flatten()(x))
    model = Model(inputs, layers.Dense(3, "softmax")(x))
    watched = ["accuracy", metrics.TopKCategoricalAccuracy(2), metrics.F1Score(), metrics.CategoricalCrossentropy()]
    loss = losses.CategoricalCrossentropy(label_smoothing=0.1)
    model.compile(optimizers.Adam(0.01, global_clipnorm=0.5), loss, metrics=watched)
    return model


def _recurrent(layer: str, **options: Any) -> Callable[[], Any]:
    def make() -> Any:
        model = Sequential([Input((5,), dtype="int32"), layers.Embedding(9, 4, mask_zero=True)])
        recurrent = getattr(layers, layer)(3, dropout=0.2, seed=7, return_sequences=True, **options)
        model.add(layers.Bidirectional(recurrent) if layer == "LSTM" else recurrent)
        model.add(getattr(layers, layer)(3))
        model.add(layers.LayerNormalization())
        model.add(layers.Dense(1, "sigmoid"))
        optimizer = optimizers.AdamW(0.01, amsgrad=True, use_ema=True, ema_overwrite_frequency=3)
        watched = ["accuracy", metrics.AUC(num_thresholds=20), metrics.Precision(), metrics.Recall()]
        model.compile(optimizer, "binary_crossentropy", metrics=watched)
        return model

    return make


def _two_outputs() -> Any:
    first, second = Input((6,)), Input((6,))
    shared = layers.Dense(4, "elu")
    both = layers.Concatenate()([shared(first), layers.Multiply()([shared(second), shared(first)])])
    scores = layers.Dense(3, name="scores")(both)
    values = layers.Dense(1, "softplus", name="values")(layers.Activation("leaky_relu")(both))
    model = Model([first, second], [scores, values])
    scores_loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = optimizers.SGD(0.05, clipvalue=0.1, gradient_accumulation_steps=2)
    model.compile(optimizer, [scores_loss, "mae"], loss_weights=[1.0, 0.5], metrics=[["accuracy"], ["mse"]])
    return model


def _rows(samples: int, rng: np.random.Generator, width: int = 6) -> np.ndarray:
    return rng.normal(size=(samples, width)).astype("float32")


def _pictures(samples: int, rng: np.random.Generator) -> tuple:
    classes = np.eye(3, dtype="float32")[rng.integers(0, 3, samples)]
    return rng.normal(size=(samples, 8, 8, 2)).astype("float32"), classes


def _sequences(samples: int, rng: np.random.Generator) -> tuple:
    return rng.integers(0, 9, (samples, 5)), rng.integers(0, 2, (samples, 1))


def _weighted(samples: int, rng: np.random.Generator) -> tuple:
    return _rows(samples, rng), _rows(samples, rng, 2), rng.uniform(0.5, 2, samples).astype("float32")


def _pairs(samples: int, rng: np.random.Generator) -> tuple:
    return [_rows(samples, rng), _rows(samples, rng)], [rng.integers(0, 3, samples), _rows(samples, rng, 1)]


WORKOUTS = [
    Workout("mlp", _mlp, lambda n, rng: (_rows(n, rng), rng.integers(0, 3, n)), {"class_weight": {0: 2.0}}),
    Workout("regression", _regression, _weighted),
    Workout("cnn", _cnn, _pictures),
    Workout("simple_rnn", _recurrent("SimpleRNN"), _sequences),
    Workout("lstm", _recurrent("LSTM", recurrent_dropout=0.2), _sequences),
    Workout("gru", _recurrent("GRU"), _sequences),
    Workout("gru_reset_before", _recurrent("GRU", reset_after=False, go_backwards=True), _sequences),
    Workout("two_outputs", _two_outputs, _pairs),
]
BATCH = 8


def train(workout: Workout, samples: int, callbacks: Any = None) -> tuple[Any, list[Any]]:
    """A model after two epochs, and its logs, weights and optimizer state."""
    utils.set_random_seed(11)
    model = workout.make()
    x, y, *weights = workout.data(samples, np.random.default_rng(5))
    options = {"sample_weight": weights[0]} if weights else {}
    history = model.fit(x, y, BATCH, epochs=2, verbose=0, callbacks=callbacks, **options, **workout.fit)
    logs = [np.asarray(history.history[name]) for name in sorted(history.history)]
    return model, logs + model.get_weights() + model.optimizer.get_weights()


# ---------------------------------------------------------------- layers

_STEPS, _IMAGE, _VOLUME = (2, 6, 4), (2, 6, 5, 4), (2, 4, 5, 3, 2)


def _by_rank(name: str, arguments: dict[str, Any], ranks: tuple[int, ...] = (1, 2, 3), suffix: str = "") -> list[tuple]:
    return [(f"{name}{rank}D{suffix}", arguments, (_STEPS, _IMAGE, _VOLUME)[rank - 1]) for rank in ranks]


@saving.register_keras_serializable("workouts")
def twice(x: Any) -> Any:
    """A function for a Lambda layer."""
    return 2 * x


# (class, arguments, shape of the input, or list of shapes, or tuple of shapes of several arguments)
_OF_STEPS: list[tuple[str, dict[str, Any], Any]] = [
    ("LSTM1D", {"filters": 2, "kernel_size": 2, "dropout": 0.4, "recurrent_dropout": 0.3, "seed": 1}, (2, 3, 5, 2)),
    ("LSTM2D", {"filters": 2, "kernel_size": 2, "padding": "same", "return_sequences": True}, (2, 3, 4, 3, 2)),
    ("LSTM3D", {"filters": 2, "kernel_size": 2, "data_format": "channels_first"}, (1, 2, 1, 3, 2, 3)),
]

LAYERS: list[tuple[str, dict[str, Any], Any]] = [
    ("Dense", {"units": 3, "activation": "gelu", "activity_regularizer": "l1"}, _STEPS),
    ("Activation", {"activation": "softmax"}, _STEPS),
    ("ActivityRegularization", {"l1": 0.1, "l2": 0.2}, _STEPS),
    ("Masking", {}, _STEPS),
    ("Identity", {}, _STEPS),
    ("EinsumDense", {"equation": "abc,cd->abd", "output_shape": (None, 3), "bias_axes": "d"}, _STEPS),
    ("EinsumDense", {"equation": "abc,bcd->adb", "output_shape": (3, 6)}, _STEPS),
    ("Attention", {"use_scale": True, "dropout": 0.4, "seed": 1}, [_STEPS, (2, 5, 4)]),
    ("AdditiveAttention", {}, [_STEPS, (2, 5, 4)]),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3, "dropout": 0.4, "seed": 1}, (_STEPS, (2, 5, 4))),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3, "sliding_window": 2, "use_gate": True}, (_STEPS, _STEPS)),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3, "attention_axes": 2}, (_IMAGE, _IMAGE)),
    ("GroupQueryAttention", {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2}, (_STEPS, (2, 5, 4))),
    *_by_rank("Conv", {"filters": 4, "kernel_size": 2, "padding": "same"}),
    ("Conv1D", {"filters": 4, "kernel_size": 2, "padding": "causal", "dilation_rate": 2}, _STEPS),
    ("Conv2D", {"filters": 4, "kernel_size": 2, "data_format": "channels_first", "activation": "softmax"}, _IMAGE),
    *_by_rank("DepthwiseConv", {"kernel_size": 2, "depth_multiplier": 2}, (1, 2)),
    *_by_rank("SeparableConv", {"filters": 3, "kernel_size": 2, "depth_multiplier": 2}, (1, 2)),
    *_by_rank("Conv", {"filters": 3, "kernel_size": 2, "strides": 2, "padding": "same"}, suffix="Transpose"),
    *_by_rank("MaxPooling", {"pool_size": 2, "padding": "same"}),
    *_by_rank("AveragePooling", {"pool_size": 2, "padding": "same"}),
    *_by_rank("GlobalMaxPooling", {}),
    *_by_rank("GlobalAveragePooling", {"keepdims": True}),
    *_by_rank("ZeroPadding", {}),
    *_by_rank("Cropping", {}),
    *_by_rank("UpSampling", {}),
    *_by_rank("SpatialDropout", {"rate": 0.5, "seed": 1}),
    ("Dropout", {"rate": 0.5, "seed": 1}, _STEPS),
    ("AlphaDropout", {"rate": 0.5, "seed": 1}, _STEPS),
    ("GaussianDropout", {"rate": 0.5, "seed": 1}, _STEPS),
    ("GaussianNoise", {"stddev": 0.5, "seed": 1}, _STEPS),
    ("BatchNormalization", {"axis": 1}, _IMAGE),
    ("LayerNormalization", {"axis": [1, 2]}, _IMAGE),
    ("GroupNormalization", {"groups": 2}, _STEPS),
    ("GroupNormalization", {"groups": 1, "axis": 1}, _IMAGE),
    ("UnitNormalization", {}, _STEPS),
    ("Normalization", {"axis": (1, 2)}, _STEPS),
    ("Normalization", {"mean": [1.0, 2, 3, 4], "variance": [4.0, 3, 2, 1], "invert": True}, _STEPS),
    ("Rescaling", {"scale": [1.0, 2, 3, 4], "offset": 0.5}, _STEPS),
    ("Flatten", {"data_format": "channels_first"}, _IMAGE),
    ("Reshape", {"target_shape": (-1, 2)}, _STEPS),
    ("Permute", {"dims": (2, 1)}, _STEPS),
    ("RepeatVector", {"n": 3}, (2, 4)),
    ("ReLU", {"max_value": 0.8, "negative_slope": 0.1, "threshold": 0.2}, _STEPS),
    ("LeakyReLU", {}, _STEPS),
    ("ThresholdedReLU", {}, _STEPS),
    ("Lambda", {"function": twice}, _STEPS),
    ("PReLU", {}, _STEPS),
    ("ELU", {"alpha": 0.7}, _STEPS),
    ("Softmax", {"axis": [1, 2]}, _STEPS),
    *[(name, {}, [_STEPS, _STEPS]) for name in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")],
    ("Concatenate", {}, [_STEPS, _STEPS]),
    ("Dot", {"axes": (2, 2), "normalize": True}, [_STEPS, _STEPS]),
    ("Embedding", {"input_dim": 3, "output_dim": 2, "mask_zero": True}, (2, 3)),
    *[(name, {"units": 3}, _STEPS) for name in ("SimpleRNN", "LSTM", "GRU")],
    *[(name, {"units": 3, "activation": "gelu", "stateful": True}, _STEPS) for name in ("SimpleRNN", "LSTM", "GRU")],
    *[(f"Conv{kind}", arguments, shape) for kind, arguments, shape in _OF_STEPS],
    *[
        (f"{name}{rank}D", {"output_size": 2}, (2, *(5, 4, 3)[:rank], 3))
        for name in ("AdaptiveAveragePooling", "AdaptiveMaxPooling")
        for rank in (1, 2, 3)
    ],
    ("LocallyConnected1D", {"filters": 3, "kernel_size": 2, "padding": "same"}, _STEPS),
    ("LocallyConnected2D", {"filters": 3, "kernel_size": 2, "data_format": "channels_first"}, (2, 3, 4, 5)),
    ("RMSNormalization", {}, _STEPS),
    ("BatchNormalization", {"renorm": True, "renorm_clipping": {"rmax": 1.5, "dmax": 0.5}}, _STEPS),
    ("RNN", {"cell": [layers.LSTMCell(3), layers.GRUCell(2), layers.SimpleRNNCell(2)]}, _STEPS),
    ("Bidirectional", {"layer": layers.LSTM(3, return_sequences=True), "merge_mode": "ave"}, _STEPS),
    ("TimeDistributed", {"layer": layers.Dense(3)}, _STEPS),
    ("SpectralNormalization", {"layer": layers.Dense(3), "power_iterations": 2}, _STEPS),
]
