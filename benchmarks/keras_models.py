"""The rows' networks as Keras programs, written once: `keras` is minikeras or real Keras."""

from __future__ import annotations

import importlib
from statistics import fmean
from typing import Any

from benchmarks import limits
from benchmarks.workloads import AT_ONCE, RATES, START, STEPS, TOKENS, WIDTHS, WORDS, Missing, Row, Setting


def mlp(keras: Any) -> Any:
    """W1: 784-128-10."""
    return keras.Sequential(
        [
            keras.Input(shape=(784,)),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


def deep_mlp(keras: Any) -> Any:
    """W2: 784-512-512-10 with dropout."""
    return keras.Sequential(
        [
            keras.Input(shape=(784,)),
            keras.layers.Dense(512, activation="relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(512, activation="relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


def cnn(keras: Any) -> Any:
    """W3: two convolutions with pooling, dropout, softmax."""
    return keras.Sequential(
        [
            keras.Input(shape=(28, 28, 1)),
            keras.layers.Conv2D(32, (3, 3), activation="relu"),
            keras.layers.MaxPooling2D((2, 2)),
            keras.layers.Conv2D(64, (3, 3), activation="relu"),
            keras.layers.MaxPooling2D((2, 2)),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


def deep_cnn(keras: Any) -> Any:
    """W4: four normalised convolutions, as in VGG and its successors."""

    def pair(filters: int) -> list[Any]:
        layers: list[Any] = []
        for _ in range(2):
            layers += [
                keras.layers.Conv2D(filters, 3, padding="same"),
                keras.layers.BatchNormalization(),
                keras.layers.ReLU(),
            ]
        return layers

    return keras.Sequential(
        [
            keras.Input(shape=(32, 32, 3)),
            *pair(64),
            keras.layers.MaxPooling2D(),
            *pair(128),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


def lstm(keras: Any) -> Any:
    """W5: a sentiment classifier over 20,000 words."""
    return keras.Sequential(
        [
            keras.Input(shape=(80,), dtype="int32"),
            keras.layers.Embedding(20_000, 128),
            keras.layers.LSTM(128),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )


def gru(keras: Any) -> Any:
    """W6: a picture read line by line."""
    return keras.Sequential(
        [
            keras.Input(shape=(28, 28)),
            keras.layers.GRU(64, return_sequences=True),
            keras.layers.GRU(64),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


def tiny_mlp(keras: Any, units: int = 32) -> Any:
    """W9, W14: 20-32-1, so small that the framework's own overhead is what is measured."""
    return keras.Sequential(
        [
            keras.Input(shape=(20,)),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )


def transformer(keras: Any) -> Any:
    """W10: a block of an encoder (Vaswani et al. 2017), its steps averaged for a classifier."""
    layers = keras.layers
    inputs = x = keras.Input(shape=(64, 128))
    x = layers.LayerNormalization()(layers.Add()([x, layers.MultiHeadAttention(4, 32)(x, x)]))
    inner = layers.Dense(128)(layers.Dense(256, activation="relu")(x))
    x = layers.LayerNormalization()(layers.Add()([x, inner]))
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def mobile_block(keras: Any) -> Any:
    """W11: a depthwise separable convolution (Howard et al. 2017) and a classifier."""
    return keras.Sequential(
        [
            keras.Input(shape=(32, 32, 64)),
            keras.layers.DepthwiseConv2D(3, padding="same"),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(6.0),
            keras.layers.Conv2D(64, 1),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


def agent(keras: Any) -> Any:
    """W13: what each of two actions is worth in a state of four numbers."""
    return keras.Sequential(
        [
            keras.Input(shape=(4,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(2),
        ]
    )


def writer(keras: Any) -> Any:
    """W15: a small decoder that needs no embedding of positions (Kazemnejad et al. 2023): its mask tells them."""
    layers = keras.layers
    inputs = keras.Input(shape=(None,), dtype="int32")
    x = layers.Embedding(WORDS, 64)(inputs)
    for _ in range(2):
        normal = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(4, 16)(normal, normal, use_causal_mask=True)])
        inner = layers.Dense(256, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(64)(inner)])
    return keras.Model(inputs, layers.Dense(WORDS, activation="softmax")(layers.LayerNormalization()(x)))


def autoencoder(keras: Any) -> Any:
    """W16: 784-128-32-128-784."""
    hidden = [keras.layers.Dense(units, activation="relu") for units in (128, 32, 128)]
    return keras.Sequential([keras.Input(shape=(784,)), *hidden, keras.layers.Dense(784, activation="sigmoid")])


def tabular(keras: Any) -> Any:
    """W17: 100 columns, ten normalised layers of 256."""
    hidden: list[Any] = []
    for _ in range(10):
        hidden += [keras.layers.Dense(256), keras.layers.BatchNormalization(), keras.layers.ReLU()]
    return keras.Sequential([keras.Input(shape=(100,)), *hidden, keras.layers.Dense(1, activation="sigmoid")])


CLASSES = {"loss": "categorical_crossentropy", "metrics": ["accuracy"]}
SIGN = {"loss": "binary_crossentropy", "metrics": ["accuracy"]}


def adam(keras: Any, rate: float = 0.001) -> Any:
    return keras.optimizers.Adam(rate)


def rmsprop(keras: Any) -> Any:
    return keras.optimizers.RMSprop()


def sgd(keras: Any) -> Any:
    return keras.optimizers.SGD(learning_rate=0.01, momentum=0.9)


# Each network's function, its optimizer's, and what else it is compiled with.
MODELS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "mlp": (mlp, adam, CLASSES),
    "deep_mlp": (deep_mlp, rmsprop, CLASSES),
    "cnn": (cnn, adam, CLASSES),
    "deep_cnn": (deep_cnn, sgd, CLASSES),
    "lstm": (lstm, adam, SIGN),
    "gru": (gru, adam, CLASSES),
    "tiny_mlp": (tiny_mlp, adam, {"loss": "binary_crossentropy"}),
    "transformer": (transformer, adam, CLASSES),
    "mobile_block": (mobile_block, adam, CLASSES),
    "agent": (agent, adam, {"loss": "mean_squared_error"}),
    "writer": (writer, adam, {"loss": "sparse_categorical_crossentropy"}),
    "autoencoder": (autoencoder, adam, {"loss": "binary_crossentropy"}),
    "tabular": (tabular, adam, SIGN),
}


# Where ImageDataGenerator is; Keras 3 has kept it, out of its public names.
PICTURES = {"minikeras": "minikeras.preprocessing.image", "keras": "keras.src.legacy.preprocessing.image"}
# The changes of the tutorial that examples/article.py runs: degrees, parts of a side, degrees, part of the size.
CHANGES = {
    "rotation_range": 10, "width_shift_range": 0.1, "height_shift_range": 0.1, "shear_range": 0.1, "zoom_range": 0.1
}  # fmt: skip


# The ways besides the first, as options of `compile`.
WAYS: dict[str, dict[str, Any]] = {STEPS: {"steps_per_execution": 32}}


def compiled(keras: Any, name: str, variant: tuple[int, float] | None = None, **options: Any) -> Any:
    """The network of this name, compiled; `options` for `compile` besides the network's own.

    Args:
        keras: minikeras or real Keras.
        name: of `MODELS`.
        variant: another width and learning rate than the usual ones, for a network that has them.
        options: for `compile`.

    Raises:
        Missing: if this Keras lacks one of its layers.
    """
    build, optimizer, own = MODELS[name]
    try:
        model = build(keras, *(variant or ())[:1])
    except AttributeError as error:
        if error.obj is not keras.layers:
            raise
        raise Missing(f"{keras.__name__}.layers has no {error.name}") from error
    model.compile(optimizer=optimizer(keras, *(variant or ())[1:]), **own, **options)
    return model


class KerasProgram:
    """A compiled network of minikeras or real Keras (see `workloads.Program`).

    Args:
        keras: minikeras or real Keras.
        name: of the network.
        at_once: whether `ask` is `predict_on_batch`, not a call of the model.
        variant: as for `compiled`.
        options: for `compile`.
    """

    def __init__(
        self,
        keras: Any,
        name: str,
        at_once: bool = False,
        variant: tuple[int, float] | None = None,
        **options: Any,
    ) -> None:
        self.keras, self.name, self.options = keras, name, options
        self.model = compiled(keras, name, variant, **options)
        self.ask = self.predict_on_batch if at_once else self._call

    def another(self, units: int, rate: float) -> KerasProgram:
        return KerasProgram(self.keras, self.name, variant=(units, rate), **self.options)

    def fit(self, x: Any, y: Any, batch_size: int, epochs: int) -> float:
        history = self.model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=0)
        return float(history.history["loss"][-1])

    def fit_augmented(self, x: Any, y: Any, batch_size: int, epochs: int) -> float:
        module = importlib.import_module(PICTURES[self.keras.__name__])
        history = self.model.fit(module.ImageDataGenerator(**CHANGES).flow(x, y, batch_size), epochs=epochs, verbose=0)
        return float(history.history["loss"][-1])

    def evaluate(self, x: Any, y: Any) -> float:
        return float(self.model.evaluate(x, y, verbose=0, return_dict=True)["loss"])

    def predict(self, x: Any, batch_size: int) -> Any:
        return self.model.predict(x, batch_size=batch_size, verbose=0)

    def predict_on_batch(self, x: Any) -> Any:
        return self.model.predict_on_batch(x)

    def _call(self, x: Any) -> Any:
        return self.keras.ops.convert_to_numpy(self.model(x))

    def train_on_batch(self, x: Any, y: Any) -> float:
        return float(self.model.train_on_batch(x, y))


class Framework:
    """minikeras or real Keras.

    Args:
        name: the module.
        options: for every `compile`.
    """

    def __init__(self, name: str, **options: Any) -> None:
        self.keras = importlib.import_module(name)
        self.options = options
        self.version = self.keras.__version__
        self.modules = [name]  # whose packages, with all they require, are the framework
        if name == "keras":
            self.modules.append(self.keras.backend.backend())

    def seed(self) -> None:
        self.keras.utils.set_random_seed(0)

    def program(self, row: Row, way: str = "") -> KerasProgram:
        assert row.model is not None
        return KerasProgram(self.keras, row.model, way == AT_ONCE, **self.options, **WAYS.get(way, {}))

    def data(self, row: Row, setting: Setting) -> tuple[Any, Any]:
        """The row's data as this framework takes it: classes one-hot."""
        assert row.data is not None
        x, y = row.data(setting, row.count)
        return x, self.keras.utils.to_categorical(y, 10) if y.dtype == "int64" else y

    def device(self) -> str:
        """`"cpu"` or `"gpu"`: where it computes."""
        if self.modules[0] == "minikeras":
            return str(importlib.import_module("minikeras.kernels").active_device()).replace("numpy", "cpu")
        backend = importlib.import_module(self.modules[1])
        if self.modules[1] == "jax":
            return "gpu" if backend.default_backend() in ("gpu", "cuda") else "cpu"
        return "gpu" if self.modules[1] == "torch" and backend.cuda.is_available() else "cpu"

    def device_bytes(self) -> int:
        """The most of the GPU's memory that arrays have taken so far, as the library that allocates them counts it."""
        if self.modules[0] == "minikeras":
            return int(importlib.import_module("cupy").get_default_memory_pool().total_bytes())
        backend = importlib.import_module(self.modules[1])
        if self.modules[1] == "jax":
            stats = backend.local_devices()[0].memory_stats()
            return int(stats.get("peak_pool_bytes", stats["peak_bytes_in_use"]))
        return int(backend.cuda.max_memory_reserved())

    def operations(self, row: Row, program: KerasProgram) -> float:
        """Floating-point operations for each unit of the row."""
        model = program.model
        if row.work == "reinforce":
            return limits.operations(model, True) * row.batch_size + limits.operations(model, False)
        if row.work == "generate":
            return fmean(limits.operations(model, False, length) for length in range(START, START + TOKENS))
        if row.work == "sweep":
            models = (program.another(units, RATES[0]).model for units in WIDTHS)
            return fmean(limits.operations(one, True) for one in models) * row.samples_per_unit
        return limits.operations(model, row.trains) * row.samples_per_unit
