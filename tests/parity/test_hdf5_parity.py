"""HDF5 files both ways: written here and opened by real Keras, and the reverse; equal predictions, then equal training.

Keras 3.15.1 cannot go on training a model that it opened from an HDF5 file with an optimizer's state, whoever wrote it:
it builds the optimizer for no variables.  `opened` does with its own functions what it means to do.
"""

from __future__ import annotations

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

import minikeras
from minikeras.saving import hdf5_file
from tests.layer_cases import ROWS
from tests.parity.test_files_parity import OPTIMIZERS

TRAINED = 3e-5
RNG = np.random.default_rng(3)


def save(K, model, path):
    if K is keras:
        model.save(path)
    else:
        with h5py.File(path, "w") as root:
            hdf5_file.write_model(model, root)


def opened(K, path, **options):
    if K is minikeras:
        return minikeras.models.load_model(path, **options)
    model = keras.models.load_model(path, **options)
    if getattr(model, "optimizer", None) is not None:
        model.optimizer = type(model.optimizer).from_config(model.optimizer.get_config())
        model.optimizer.build(model.trainable_variables)
        with h5py.File(path) as root:
            values = legacy_h5_format.load_optimizer_weights_from_hdf5_group(root)
            for variable, value in zip(model.optimizer.variables, values, strict=True):
                variable.assign(value)
    return model


def close(ours, theirs, tolerance=1e-5):
    ours, theirs = ([np.asarray(x) for x in keras.tree.flatten(values)] for values in (ours, theirs))
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def perturbed(model):
    """The model with weights that are all different."""
    for weight in model.weights:
        value = np.asarray(weight)
        if value.dtype.kind == "f":
            weight.assign(value + RNG.uniform(0.1, 0.5, value.shape).astype(value.dtype))
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it computes with copies of its weights
    return model


def train_on(ours, theirs, x, y):
    """Three steps from the same state give the same, up to rounding."""
    for _ in range(3):
        logs = [model.train_on_batch(x, y, return_dict=True) for model in (ours, theirs)]
        assert sorted(logs[0]) == sorted(logs[1])
        close(*([np.float32(one[name]) for name in sorted(one)] for one in logs), TRAINED)
    close(ours.get_weights(), theirs.get_weights(), TRAINED)
    close(*([np.asarray(v) for v in model.optimizer.variables] for model in (ours, theirs)), TRAINED)


BOTH_WAYS = [pytest.param(minikeras, keras, id="here-there"), pytest.param(keras, minikeras, id="there-here")]


@pytest.mark.parametrize(("source", "target"), BOTH_WAYS)
@pytest.mark.parametrize("row", [row for row in ROWS if row.keras is not None], ids=lambda row: row.name)
def test_layer(row, source, target, tmp_path):
    dtype = "int32" if row.integers else "float32"
    inputs = [source.Input(shape, dtype=dtype) for shape in row.shapes]
    model = perturbed(source.Model(inputs, row.make(source.layers)(*row.together(inputs))))
    save(source, model, tmp_path / "m.h5")
    x = row.inputs()
    close(opened(target, tmp_path / "m.h5")(x), model(x))


@pytest.mark.parametrize(("source", "target"), BOTH_WAYS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer(name, source, target, tmp_path):
    if source is keras and name == "Adafactor":
        pytest.skip("Keras gives two of its arrays one name, which HDF5 refuses")
    model = source.Sequential([source.Input((5,)), source.layers.Dense(4, "tanh"), source.layers.Dense(3)])
    model.compile(OPTIMIZERS[name](source), "mean_squared_error", auto_scale_loss=False)
    x, y = RNG.normal(size=(6, 5)).astype("f4"), RNG.normal(size=(6, 3)).astype("f4")
    model.train_on_batch(x, y)
    save(source, model, tmp_path / "m.h5")
    train_on(*ours_first(source, model, opened(target, tmp_path / "m.h5")), x, y)


def ours_first(source, model, other):
    return (model, other) if source is minikeras else (other, model)


# ---------------------------------------------------------------- models


def branches(K):
    """Several inputs and outputs, shared layers, models in models with weights that are not trained."""
    a, b = K.Input((4,), name="a"), K.Input((4,), name="b")
    shared = K.layers.Dense(3, name="shared")
    x = K.Input((3,))
    left, right = K.layers.Dense(3, "tanh")(x), K.layers.Dense(3, "relu")(x)
    norm = K.layers.BatchNormalization()(K.layers.Add()([left, right]))
    inner = K.Model(x, [K.layers.Dense(2)(norm), K.layers.BatchNormalization()(left)], name="inner")
    frozen = K.Sequential(
        [K.Input((3,)), K.layers.BatchNormalization(), K.layers.Dense(3), K.layers.LayerNormalization()]
    )
    frozen.trainable = False
    c, d = inner(shared(a))
    e, f = inner(shared(b))
    first = K.layers.Dense(1, name="first")(K.layers.Concatenate()([c, e]))
    return K.Model([a, b], [first, K.layers.Dense(2, name="second")(frozen(d + f * 2.0))])


COMPILED = {
    "strings": lambda K: {"loss": ["mse", "mae"], "metrics": [["mae", "acc"], ["MSE"]]},
    "dicts": lambda K: {
        "loss": {"first": "log_cosh", "second": K.losses.Huber(delta=0.5)},
        "loss_weights": {"first": 2.0, "second": 0.5},
        "metrics": {"first": [K.metrics.MeanSquaredError(name="error")], "second": "msle"},
        "weighted_metrics": {"second": "mse"},
    },
    "objects": lambda K: {
        "loss": [K.losses.MeanSquaredError(), K.losses.mean_squared_error],
        "metrics": [[K.metrics.RootMeanSquaredError()], [K.metrics.CosineSimilarity(name="cosine")]],
    },
}


@pytest.mark.parametrize(("source", "target"), BOTH_WAYS)
@pytest.mark.parametrize("name", COMPILED)
def test_model(name, source, target, tmp_path):
    model = perturbed(branches(source))
    model.compile(source.optimizers.SGD(0.01, momentum=0.9), **COMPILED[name](source))
    x = [RNG.normal(size=(6, 4)).astype("f4") for _ in range(2)]
    y = [RNG.normal(size=(6, 1)).astype("f4"), RNG.normal(size=(6, 2)).astype("f4")]
    model.train_on_batch(x, y)
    save(source, model, tmp_path / "m.h5")
    if source is keras and name != "objects":
        pytest.skip("which Keras itself cannot load; see the test of what it writes")
    other = opened(target, tmp_path / "m.h5")
    close(other(x), model(x))
    train_on(*ours_first(source, model, other), x, y)


def test_strings_that_keras_itself_cannot_load(tmp_path):
    """It writes `"mse"` as it is and then finds no function of that name."""
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    model.compile("sgd", loss="mse", metrics=["mae"])
    x, y = RNG.normal(size=(6, 5)).astype("f4"), RNG.normal(size=(6, 3)).astype("f4")
    model.train_on_batch(x, y)
    model.save(tmp_path / "m.h5")
    with pytest.raises(ValueError, match="mse"):
        keras.models.load_model(tmp_path / "m.h5")
    train_on(opened(minikeras, tmp_path / "m.h5"), model, x, y)


def test_operations_that_keras_itself_cannot_load(tmp_path):
    """It takes them for the layers of the same names."""
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.ops.relu(inputs * 2.0 + 1.0))
    model.save(tmp_path / "m.h5")
    x = RNG.normal(size=(6, 4)).astype("f4")
    close(opened(minikeras, tmp_path / "m.h5")(x), model(x))


def custom(K):
    @K.saving.register_keras_serializable("hdf5_parity", name="Scaled")
    class Scaled(K.layers.Layer):
        def __init__(self, inner, **kwargs):
            super().__init__(**kwargs)
            self.inner = inner

        def build(self, shape):
            self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")
            self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")
            if not self.inner.built:
                self.inner.build(shape)

        def call(self, inputs):
            return self.inner(inputs * self.scale) + self.count

        def compute_output_shape(self, shape):
            return self.inner.compute_output_shape(shape)

        def get_config(self):
            return {**super().get_config(), "inner": K.saving.serialize_keras_object(self.inner)}

        @classmethod
        def from_config(cls, config):
            return cls(**{**config, "inner": K.saving.deserialize_keras_object(config["inner"])})

    @K.saving.register_keras_serializable("hdf5_parity", name="error")
    def error(y, p):
        return K.ops.mean(K.ops.square(y - p), axis=-1) * 3.0

    return Scaled, error


@pytest.mark.parametrize(("source", "target"), BOTH_WAYS)
def test_custom_objects(source, target, tmp_path):
    (layer, error), _ = custom(source), custom(target)
    model = source.Sequential([source.Input((5,)), layer(source.layers.Dense(4)), source.layers.Dense(3, name="last")])
    perturbed(model).compile(source.optimizers.SGD(0.05, momentum=0.9), loss=error)
    x, y = RNG.normal(size=(6, 5)).astype("f4"), RNG.normal(size=(6, 3)).astype("f4")
    model.train_on_batch(x, y)
    save(source, model, tmp_path / "m.h5")
    train_on(*ours_first(source, model, opened(target, tmp_path / "m.h5")), x, y)


# ---------------------------------------------------------------- weights alone


def stack(K, units=4, last="last"):
    hidden = K.layers.Dense(units, name="hidden")
    return K.Sequential([K.Input((5,)), hidden, K.layers.BatchNormalization(), K.layers.Dense(3, name=last)])


def save_weights(K, model, path):
    with h5py.File(path, "w") as root:
        if K is keras:
            legacy_h5_format.save_weights_to_hdf5_group(root, model)
        else:
            hdf5_file.write_layers(model, root)


@pytest.mark.parametrize(("source", "target"), BOTH_WAYS)
def test_weights(source, target, tmp_path):
    path, x = tmp_path / "w.h5", RNG.normal(size=(6, 5)).astype("f4")
    model = perturbed(stack(source))
    save_weights(source, model, path)
    other = stack(target, last="renamed")
    other.load_weights(path)
    close(other(x), model(x))
    other = stack(target, last="renamed")
    kept = [np.array(value) for value in other.layers[-1].get_weights()]
    other.load_weights(path, by_name=True)
    close(other.layers[0].get_weights(), model.layers[0].get_weights())
    close(other.layers[-1].get_weights(), kept)
    other = stack(target, units=6)
    other.load_weights(path, skip_mismatch=True)
    close(other.layers[-1].get_weights()[1], model.layers[-1].get_weights()[1] if target is keras else 0)


# ---------------------------------------------------------------- files of tf.keras

SINCE_2_11 = {
    **{
        n: lambda K, n=n: getattr(K, n)(0.01)
        for n in ("RMSprop", "Adam", "AdamW", "Adagrad", "Adadelta", "Adamax", "Ftrl")
    },
    "SGD": lambda K: K.SGD(0.01, momentum=0.9, nesterov=True),
    "RMSprop_centered": lambda K: K.RMSprop(0.01, momentum=0.9, centered=True),
    "Adam_amsgrad": lambda K: K.Adam(0.01, amsgrad=True),
    "Adam_ema": lambda K: K.Adam(0.01, use_ema=True),
    "Adam_schedule": lambda K: K.Adam(K.schedules.ExponentialDecay(0.01, 2, 0.5)),
    "Nadam": lambda K: K.Nadam(0.01),
    "Lion": lambda K: K.Lion(0.01),
}
# without RMSprop and Adagrad, whose roots had their epsilon outside, and Nadam, whose momentum rose more slowly
UP_TO_2_10 = {
    **{n: lambda K, n=n: getattr(K.legacy, n)(0.01) for n in ("SGD", "Adam", "Adadelta", "Adamax", "Ftrl")},
    "SGD_momentum": lambda K: K.legacy.SGD(0.01, momentum=0.9),
    "RMSprop_centered": lambda K: K.legacy.RMSprop(0.01, momentum=0.9, centered=True),
    "Adam_amsgrad": lambda K: K.legacy.Adam(0.01, amsgrad=True),
    "Adam_decay": lambda K: K.legacy.Adam(0.01, decay=0.1),
}


@pytest.fixture(scope="module")
def tf_keras():
    return pytest.importorskip("tf_keras")


def test_layers_of_tf_keras(tf_keras, tmp_path):
    """Each layer that it has, with weights that are all different."""
    left_out = ("Lambda", "SpectralNormalization")  # code; and Keras 2's own cannot be part of a functional model
    rows = [row for row in ROWS if hasattr(tf_keras.layers, row.name) and row.name not in left_out]
    assert len(rows) > 70
    for row in rows:
        arguments = row.arguments(tf_keras.layers) if callable(row.arguments) else dict(row.arguments)
        arguments = {key: value for key, value in arguments.items() if key not in ("renorm", "negative_slope")}
        inputs = [tf_keras.Input(shape, dtype="int32" if row.integers else "float32") for shape in row.shapes]
        layer = getattr(tf_keras.layers, row.name)(**arguments)
        model = perturbed(tf_keras.Model(inputs, layer(*row.together(inputs))))
        model.save(tmp_path / f"{row.name}.h5")
        x = row.inputs() if len(inputs) > 1 else row.inputs()[0]
        ours = minikeras.tree.flatten(opened(minikeras, tmp_path / f"{row.name}.h5")(x))
        close(ours, [np.asarray(one) for one in keras.tree.flatten(model(x))])


@pytest.mark.parametrize("name", [*SINCE_2_11, *(f"legacy_{name}" for name in UP_TO_2_10)])
def test_optimizers_of_tf_keras(name, tf_keras, tmp_path):
    """The training goes on as that of the model that was saved does."""
    legacy = name.startswith("legacy_")
    make = UP_TO_2_10[name.removeprefix("legacy_")] if legacy else SINCE_2_11[name]
    layers = [tf_keras.layers.Dense(4, "tanh"), tf_keras.Sequential([tf_keras.layers.Dense(3)])]
    model = tf_keras.Sequential([tf_keras.Input((5,)), *layers])
    model.compile(
        make(tf_keras.optimizers), "mse", metrics=["mae"], run_eagerly=name == "Nadam"
    )  # as a graph it is wrong
    x, y = RNG.normal(size=(6, 5)).astype("f4"), RNG.normal(size=(6, 3)).astype("f4")
    model.train_on_batch(x, y)
    model.save(tmp_path / "m.h5")
    other = opened(minikeras, tmp_path / "m.h5")
    for _ in range(3):
        close(other.train_on_batch(x, y), model.train_on_batch(x, y), TRAINED)
    close(other.get_weights(), model.get_weights(), TRAINED)


def test_models_of_tf_keras(tf_keras, tmp_path):
    """Branches, shared layers, models in models; the weights alone go into a model that was built here."""
    model = perturbed(branches(tf_keras))
    model.compile(tf_keras.optimizers.legacy.SGD(0.01, momentum=0.9), ["mse", "mae"], metrics=[["mae"], ["mse"]])
    x = [RNG.normal(size=(6, 4)).astype("f4") for _ in range(2)]
    y = [RNG.normal(size=(6, 1)).astype("f4"), RNG.normal(size=(6, 2)).astype("f4")]
    model.train_on_batch(x, y)
    model.save(tmp_path / "m.h5")
    model.save_weights(tmp_path / "w.h5")
    other, third = opened(minikeras, tmp_path / "m.h5"), branches(minikeras)
    third.load_weights(tmp_path / "w.h5")
    for ours in (other, third):
        close(ours(x), model(x))
    for _ in range(3):
        close(other.train_on_batch(x, y), model.train_on_batch(x, y), TRAINED)
    close(other.get_weights(), model.get_weights(), TRAINED)


def arrays_of(*shapes):
    return [RNG.uniform(0.1, 0.9, shape).astype("f4") for shape in shapes]


GATES = {
    "LSTM": [(3, 4), (4, 4), (4,)] * 4,
    "GRU": [(3, 4), (4, 4), (4,)] * 3,
    "ConvLSTM2D": [(2, 2, 3, 4), (2, 2, 4, 4), (4,)] * 4,
}
CUDNN = {"LSTM": [(3, 16), (4, 16), (32,)], "GRU": [(3, 12), (4, 12), (24,)]}
FIRST, LAST = {"data_format": "channels_first"}, {"data_format": "channels_last"}
# a layer, its input, the arrays in a file, and the version that they are of
OLDER = {
    "lstm": (lambda K: K.layers.LSTM(4), (5, 3), GATES["LSTM"], "1"),
    "gru": (lambda K: K.layers.GRU(4, reset_after=False), (5, 3), GATES["GRU"], "1"),
    "both": (lambda K: K.layers.Bidirectional(K.layers.LSTM(4)), (5, 3), GATES["LSTM"] * 2, "1"),
    "conv_lstm": (lambda K: K.layers.ConvLSTM2D(4, 2), (2, 6, 6, 3), GATES["ConvLSTM2D"], "1"),
    "conv1d": (lambda K: K.layers.Conv1D(4, 3), (6, 2), [(3, 1, 2, 4), (4,)], "1"),
    "conv1d_first": (lambda K: K.layers.Conv1D(4, 3), (6, 2), [(4, 2, 3, 1), (4,)], "1"),
    "conv2d": (lambda K: K.layers.Conv2D(4, (3, 2), **LAST), (6, 6, 2), [(3, 2, 2, 4), (4,)], "1"),
    "conv2d_first": (lambda K: K.layers.Conv2D(4, (3, 2), **FIRST), (2, 6, 6), [(4, 2, 3, 2), (4,)], "1"),
    "conv3d_first": (lambda K: K.layers.Conv3D(4, (3, 2, 1), **FIRST), (2, 6, 6, 6), [(4, 2, 3, 2, 1), (4,)], "1"),
    "transposed": (lambda K: K.layers.Conv2DTranspose(4, (3, 2), **LAST), (6, 6, 2), [(3, 2, 2, 4), (4,)], "1"),
    "transposed_first": (lambda K: K.layers.Conv2DTranspose(4, (3, 2), **FIRST), (2, 6, 6), [(4, 2, 3, 2), (4,)], "1"),
    "cudnn_lstm": (lambda K: K.layers.LSTM(4), (5, 3), CUDNN["LSTM"], "2.2.4"),
    "cudnn_gru": (lambda K: K.layers.GRU(4, reset_after=True), (5, 3), CUDNN["GRU"], "2.2.4"),
    "cudnn_both": (lambda K: K.layers.Bidirectional(K.layers.GRU(4)), (5, 3), CUDNN["GRU"] * 2, "2.2.4"),
    "cudnn_inside": (lambda K: K.Sequential([K.Input((5, 3)), K.layers.LSTM(4)]), (5, 3), CUDNN["LSTM"], "2.2.4"),
}


@pytest.mark.parametrize("name", OLDER)
def test_older_arrays_mean_what_keras_2_takes_them_for(name, tf_keras, tmp_path):
    from tf_keras.src.saving.legacy.hdf5_format import preprocess_weights_for_loading

    make, shape, shapes, version = OLDER[name]
    arrays = arrays_of(*shapes)
    theirs = make(tf_keras)
    theirs.build((None, *shape))
    wanted = preprocess_weights_for_loading(theirs, [np.array(one) for one in arrays], version, "tensorflow")
    ours = minikeras.Sequential([minikeras.Input(shape), make(minikeras)])
    with h5py.File(tmp_path / "w.h5", "w") as root:
        root.attrs["layer_names"], root.attrs["keras_version"] = [b"layer"], version.encode()
        group = root.create_group("layer")
        group.attrs["weight_names"] = [f"w_{i}".encode() for i in range(len(arrays))]
        for i, array in enumerate(arrays):
            group[f"w_{i}"] = array
    ours.load_weights(tmp_path / "w.h5")
    close(ours.get_weights(), wanted)
