"""float16 and bfloat16: what is computed in float32 and rounded, which weights are cast, what is trained and saved."""

import ml_dtypes
import numpy as np
import pytest

from minikeras import Sequential, Variable, config, layers, losses, metrics, models, ops, random
from minikeras import kernels as k
from minikeras.autodiff import GradientTape
from minikeras.autodiff.tensor import _state

RNG = np.random.default_rng(0)
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
MIXED = ("mixed_bfloat16", "mixed_float16")


@pytest.fixture(autouse=True)
def the_usual_policy():
    yield
    config.reset_dtype_policy()
    assert _state.casts is None


def narrow(values, dtype="bfloat16"):
    return ops.convert_to_tensor(np.asarray(values, "float32"), dtype=dtype)


# ---------------------------------------------------------------- operations


def test_arrays_of_bfloat16():
    x = narrow([1.0, 1.001, -3.14159])
    assert np.asarray(x).dtype == BFLOAT16 == ops.cast([1.0], "bfloat16").dtype
    assert np.asarray(x, "float32").tolist() == [1.0, 1.0, -3.140625]
    assert str(ops.zeros((2,), "bfloat16").dtype) == ops.dtype(x) == "bfloat16"
    beyond = ops.saturate_cast(np.array([1e39, -1e39]), "bfloat16")
    assert beyond.tolist() == [float(ml_dtypes.finfo("bfloat16").max), float(ml_dtypes.finfo("bfloat16").min)]
    variable = Variable([1.0, 2.0], dtype="bfloat16")
    assert (variable.dtype, variable.tracked) == ("bfloat16", True)
    assert variable.assign_add([0.001, 1.0]).numpy().tolist() == [1.0, 3.0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sums_are_of_float32(dtype):
    """Added one by one in such a type, 4096 ones are 256 or 2048, and the terms of a product are lost."""
    ones = narrow(np.ones(4096), dtype)
    for total in (ops.sum(ones), ops.matmul(ones, ones), ops.cumsum(ones)[-1], ops.mean(ones) * 4096):
        assert (float(total), str(total.dtype)) == (4096, dtype)
    small = ops.add(narrow([1.0], dtype), narrow([2**-12], dtype))
    assert float(small[0]) == 1  # but a result is of the type


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_result_types(dtype):
    x = narrow(np.ones((2, 3)), dtype)
    other = "bfloat16" if dtype == "float16" else "float16"
    for y, wanted in (
        (np.ones((2, 3), "float32"), "float32"),
        (np.ones((2, 3), "int32"), dtype),
        (ops.ones((2, 3), "float64"), "float64"),
        (narrow(np.ones((2, 3)), other), "float32"),
        (2, dtype),
        (0.5, dtype),
    ):
        assert {str(f(x, y).dtype) for f in (ops.add, ops.multiply, ops.maximum, ops.divide)} == {wanted}
        assert str((y - x).dtype) == wanted
    assert str(ops.concatenate([x, x]).dtype) == str(ops.reshape(x, (3, 2)).dtype) == str(x[0].dtype) == dtype
    assert str(ops.cumsum(x, 0, "float32").dtype) == str(ops.cast(x, "float32").dtype) == "float32"
    assert str(ops.zeros_like(x).dtype) == str(ops.where(x > 0, x, 0.0).dtype) == dtype
    assert str((x > 0).dtype) == "bool"
    assert str(ops.argmax(x).dtype) == "int32"


def test_gradients_have_the_types_of_their_inputs():
    x, w = narrow(RNG.normal(size=(5, 4))), Variable(RNG.normal(size=(4, 3)))
    with GradientTape() as tape:
        tape.watch(x)
        loss = ops.sum(ops.square(ops.matmul(x, ops.cast(w, "bfloat16"))))
    gx, gw = tape.gradient(loss, [x, w])
    assert (str(gx.dtype), str(gw.dtype)) == ("bfloat16", "float32")
    wanted = 2 * np.asarray(x, "float32").T @ (np.asarray(x, "float32") @ np.asarray(w))
    np.testing.assert_allclose(gw, wanted, rtol=0.03, atol=0.1)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_random_numbers(dtype):
    for draw in (random.normal, random.uniform, random.truncated_normal):
        values = draw((2000,), dtype=dtype, seed=1)
        assert str(values.dtype) == dtype
        wanted = np.asarray(draw((2000,), seed=1), "float64")
        assert abs(np.asarray(values, "float64").mean() - wanted.mean()) < 0.06
        assert abs(np.asarray(values, "float64").std() - wanted.std()) < 0.05
    assert float(ops.max(random.uniform((2000,), dtype=dtype, seed=1))) < 1
    layer = layers.Dense(3, dtype=dtype)
    layer.build((None, 4))
    assert layer.kernel.dtype == dtype


# ---------------------------------------------------------------- layers


class Scaled(layers.Layer):
    """Notes the types of what its `call` works with."""

    def build(self, input_shape):
        self.w = self.add_weight((input_shape[-1],), name="w")
        self.fixed = self.add_weight((input_shape[-1],), name="fixed", autocast=False)
        self.own = Variable(np.full(input_shape[-1], 1 + 2**-10, "float32"))
        self.inner = layers.Dense(2, dtype="float32")

    def call(self, x):
        inner = self.inner(x)
        self.types = [str(y.dtype) for y in (x, self.w + 0, self.fixed + 0, self.own * 1, inner, self.w[:1])]
        self.sum = float(ops.sum(self.own * 1))
        return x * self.w


def test_weights_are_cast_within_call_alone():
    layer = Scaled(dtype="mixed_bfloat16")
    y = layer(np.ones((2, 4)))
    assert str(y.dtype) == "bfloat16"
    assert layer.types == ["bfloat16", "bfloat16", "float32", "bfloat16", "float32", "bfloat16"]
    assert layer.sum == 4  # of the rounded numbers
    assert layer.w.dtype == layer.own.dtype == "float32"
    assert str((layer.w + 0).dtype) == "float32"
    assert layer(layers.Input((4,))).dtype == "bfloat16"
    assert Scaled()(narrow(np.ones((2, 4)))).dtype == "float32"


def test_without_autocast_nothing_is_cast():
    layer = Scaled(dtype="mixed_bfloat16", autocast=False)
    layer(np.ones((2, 4), "float32"))
    assert layer.types[:4] == ["float32"] * 4


def test_what_float16_cannot_hold_is_normalised():
    x = np.linspace(7e4, 9e4, 64, dtype="float32").reshape(2, 4, 8)
    y = layers.GroupNormalization(groups=2, dtype="mixed_float16")(x)
    assert y.dtype == "float16"
    np.testing.assert_allclose(y, layers.GroupNormalization(groups=2)(x), atol=2e-3)


@pytest.mark.parametrize("layer", ["RandomTranslation", "RandomZoom", "RandomRotation", "RandomShear"])
def test_moved_pictures_keep_the_type(layer):
    moved = getattr(layers, layer)(0.2, *([0.2] if layer != "RandomRotation" else []), dtype="mixed_float16")
    assert moved(np.ones((1, 6, 6, 3), "float32"), training=True).dtype == "float16"
    for convert in (ops.image.hsv_to_rgb, ops.image.rgb_to_hsv):
        assert convert(ops.ones((2, 2, 3), "bfloat16")).dtype == "bfloat16"


def test_the_type_ends_with_the_call_also_where_that_fails():
    class Failing(layers.Layer):
        def call(self, x):
            raise KeyError("no")

    with pytest.raises(KeyError):
        Failing(dtype="mixed_bfloat16")(np.ones((1, 2)))
    assert _state.casts is None


def test_a_gradient_at_a_weight_is_not_rounded():
    layer = layers.Dense(1, use_bias=False, kernel_initializer="ones", dtype="mixed_bfloat16")
    x = np.ones((3, 1), "float32")
    x[0] = 1 / 256  # 2 + 1/256 is no number of bfloat16
    with GradientTape() as tape:
        loss = ops.sum(layer(x))
    assert tape.gradient(loss, [layer.kernel])[0].item() == 2 + 1 / 256


def test_inputs_of_a_model_are_rounded_by_the_layers_that_want_it():
    config.set_dtype_policy("mixed_bfloat16")
    x = np.float32([[1 + 2**-12]])
    exact = layers.Dense(1, use_bias=False, kernel_initializer="ones", dtype="float32")
    entrance = layers.Input((1,))
    for model in (models.Model(entrance, exact(entrance)), Sequential([layers.Input((1,), dtype="float32"), exact])):
        assert float(model(x)[0, 0]) == 1 + 2**-12
        assert model.predict(x, verbose=0)[0, 0] == np.float32(1 + 2**-12)


@pytest.mark.parametrize("dtype", MIXED)
def test_dropout_within_a_step_keeps_the_type(dtype):
    x = RNG.normal(size=(3, 5, 4))
    for layer in (
        layers.LSTM(3, dropout=0.3, recurrent_dropout=0.2, dtype=dtype),
        layers.GRU(3, dropout=0.3, return_sequences=True, dtype=dtype),
        layers.SimpleRNN(3, recurrent_dropout=0.3, dtype=dtype),
        layers.ConvLSTM1D(2, 2, dropout=0.3, data_format="channels_first", dtype=dtype),
    ):
        inputs = x[:, :, None] if isinstance(layer, layers.ConvLSTM1D) else x
        assert str(layer(inputs, training=True).dtype) == dtype.removeprefix("mixed_")


def test_predictions_are_replayed():
    config.set_dtype_policy("mixed_bfloat16")
    model = Sequential(
        [layers.Input((6, 6, 1)), layers.Conv2D(3, 3, activation="relu"), layers.Flatten(), layers.Dense(2)]
    )
    x = RNG.normal(size=(4, 6, 6, 1)).astype("float32")
    first, *others = [model.predict(x, verbose=0) for _ in range(6)]
    assert first.dtype == BFLOAT16
    for other in (*others, model(x)):
        assert np.array_equal(first, other)
    assert k.active_device() == "gpu" or any(entry.program is not None for entry in model._programs._entries.values())


# ---------------------------------------------------------------- training


def labelled(shape, seed=1):
    x = np.random.default_rng(seed).normal(size=(256, *shape)).astype("float32")
    return x, (x.reshape(256, -1).sum(axis=1) > 0).astype("int32")


NETWORKS = {
    "mlp": ((8,), lambda: [layers.Dense(16, "relu"), layers.Dropout(0.1)]),
    "cnn": ((6, 6, 1), lambda: [layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization(), layers.Flatten()]),
    "lstm": ((6, 3), lambda: [layers.LSTM(8)]),
}


@pytest.mark.parametrize("policy", [*MIXED, "bfloat16"])
@pytest.mark.parametrize("network", NETWORKS)
def test_training_converges(network, policy):
    config.set_dtype_policy(policy)
    shape, hidden = NETWORKS[network]
    x, y = labelled(shape)
    model = Sequential([layers.Input(shape), *hidden(), layers.Dense(2, "softmax", dtype="float32")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], auto_scale_loss=False)
    model.optimizer.learning_rate = 0.02
    history = model.fit(x, y, epochs=6, verbose=0)
    assert history.history["accuracy"][-1] > 0.8
    assert {v.dtype for v in model.layers[0].trainable_variables} == {"bfloat16" if policy == "bfloat16" else "float32"}


@pytest.mark.parametrize("policy", MIXED)
def test_losses_and_metrics_are_of_float32(policy):
    config.set_dtype_policy(policy)
    model = Sequential([layers.Input((8,)), layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"], auto_scale_loss=False)
    x, y = labelled((8,))
    found = model.evaluate(x, y, batch_size=256, verbose=0)
    error = model.predict(x, verbose=0).astype("float64")[:, 0] - y
    np.testing.assert_allclose(found, [np.square(error).mean(), np.abs(error).mean()], rtol=1e-5)
    loss = losses.MeanSquaredError()(y[:, None], model(x))
    assert str(loss.dtype) == "float32"
    metric = metrics.MeanAbsoluteError()
    metric.update_state(y[:, None], model(x))
    assert str(metric.result().dtype) == "float32"


# ---------------------------------------------------------------- files


def test_weights_of_bfloat16_in_files(tmp_path):
    model = Sequential([layers.Input((3,)), layers.Dense(2, dtype="bfloat16"), layers.BatchNormalization()])
    model.save_weights(tmp_path / "model.weights.h5")
    model.save(tmp_path / "model.keras")
    other = models.load_model(tmp_path / "model.keras")
    assert [w.dtype for w in other.weights] == ["bfloat16"] * 2 + ["float32"] * 4
    other.set_weights([np.zeros(w.shape) for w in other.weights])
    other.load_weights(tmp_path / "model.weights.h5")
    for one, wanted in zip(other.get_weights(), model.get_weights(), strict=True):
        assert np.array_equal(one, wanted)
        assert one.dtype == wanted.dtype
    plain = Sequential([layers.Input((3,)), layers.Dense(2), layers.BatchNormalization()])
    plain.load_weights(tmp_path / "model.weights.h5")
    assert np.array_equal(plain.weights[0], model.weights[0])


def test_two_bytes_without_a_meaning_are_refused(tmp_path):
    import h5py

    model = Sequential([layers.Input((3,)), layers.Dense(2, dtype="bfloat16")])
    model.save_weights(tmp_path / "model.weights.h5")
    with h5py.File(tmp_path / "model.weights.h5", "a") as file:
        del file["layers/dense/vars/0"].attrs["dtype"]
    with pytest.raises(ValueError, match=r"should hold numbers, got the type \|V2"):
        model.load_weights(tmp_path / "model.weights.h5")
