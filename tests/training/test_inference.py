"""Replayed predictions are those that the layers give, for other values, weights and settings; what is not replayed."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest

import minikeras as keras
from minikeras import kernels as k
from minikeras import layers, ops
from minikeras.autodiff import differentiable
from minikeras.autodiff.tape import recording

RNG = np.random.default_rng(3)

# class: (arguments, shape of a sample); what is missing takes none and a vector
CASES = {
    "Activation": (("tanh",), (6,)),
    "Conv1D": ((3, 2), (6, 2)),
    "AlphaDropout": ((0.5,), (6,)),
    "Conv1DTranspose": ((3, 2), (6, 2)),
    "Conv2D": ((3, 2), (6, 5, 2)),
    "Conv2DTranspose": ((3, 2, 2), (6, 5, 2)),
    "Conv3DTranspose": ((3, 2), (4, 5, 4, 2)),
    "GroupNormalization": ((2,), (6, 4)),
    "Rescaling": ((0.5, 1.0), (6,)),
    "SeparableConv1D": ((3, 2), (6, 2)),
    "SeparableConv2D": ((3, 2), (6, 5, 2)),
    "Conv3D": ((3, 2), (4, 5, 4, 2)),
    "Cropping1D": ((1,), (6, 2)),
    "Cropping2D": ((1,), (6, 5, 2)),
    "Cropping3D": ((1,), (4, 5, 4, 2)),
    "Dense": ((3,), (6,)),
    "DepthwiseConv1D": ((2,), (6, 2)),
    "DepthwiseConv2D": ((2,), (6, 5, 2)),
    "Dropout": ((0.5,), (6,)),
    "EinsumDense": (("abc,cd->abd", (None, 4)), (3, 2)),
    "GaussianDropout": ((0.5,), (6,)),
    "GaussianNoise": ((0.5,), (6,)),
    "Permute": (((2, 1),), (3, 4)),
    "RepeatVector": ((3,), (4,)),
    "Reshape": (((2, 3),), (6,)),
    "SpatialDropout1D": ((0.5,), (6, 2)),
    "SpatialDropout2D": ((0.5,), (6, 5, 2)),
    "SpatialDropout3D": ((0.5,), (4, 5, 4, 2)),
}
# fmt: off
PLAIN = [
    "AveragePooling1D", "AveragePooling2D", "AveragePooling3D", "BatchNormalization", "ELU", "Flatten",
    "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D", "GlobalMaxPooling1D",
    "GlobalMaxPooling2D", "GlobalMaxPooling3D", "Identity", "LayerNormalization", "LeakyReLU", "MaxPooling1D",
    "MaxPooling2D", "MaxPooling3D", "Normalization", "PReLU", "ReLU", "Softmax", "UnitNormalization", "UpSampling1D",
    "UpSampling2D", "UpSampling3D", "ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D", "ThresholdedReLU",
]
# fmt: on
PAIRED = ["Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract"]
RANKS = {"1D": (6, 2), "2D": (6, 5, 2), "3D": (4, 5, 4, 2)}


ON_A_GPU = k.active_device() == "gpu"  # where predictions go through the layers


def programs(model):
    return [entry.program for entry in model._programs._entries.values()]


def by_layers(model, x):
    """The outputs by way of the layers."""
    with recording():  # a tape may want the gradient
        return model(x, training=False).numpy()


def assert_replays(model, shape, count=6):
    """Predictions are those of the model's call, for several inputs, the last ones replayed."""
    for _ in range(count):
        x = RNG.normal(size=(4, *shape)).astype("f4")
        np.testing.assert_array_equal(model.predict_on_batch(x), by_layers(model, x))
    assert ON_A_GPU or (len(programs(model)) == 1 and programs(model)[0] is not None)


@pytest.mark.parametrize("name", [*CASES, *PAIRED, *PLAIN])
def test_each_layer(name):
    arguments, shape = CASES.get(name, ((), RANKS.get(name[-2:], (6,))))
    inputs = keras.Input(shape)
    if name in PAIRED:
        second = layers.Dense(shape[-1])(inputs)
        layer = layers.Dot(axes=1) if name == "Dot" else getattr(layers, name)()
        outputs = layer([inputs, second])
    else:
        outputs = getattr(layers, name)(*arguments)(inputs)
    model = keras.Model(inputs, outputs)
    assert_replays(model, shape)
    model.set_weights([RNG.uniform(0.5, 1.5, size=w.shape).astype(w.dtype) for w in model.get_weights()])
    assert_replays(model, shape)


def test_other_shapes_and_a_longer_last_batch_have_programs_of_their_own():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3, activation="softmax")])
    x = RNG.normal(size=(10, 6)).astype("f4")
    for _ in range(4):
        np.testing.assert_array_equal(model.predict(x, batch_size=4, verbose=0)[:4], model(x[:4]).numpy())
    assert ON_A_GPU or len(programs(model)) == 2


def test_training_between_predictions_is_seen():
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(5), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    x = RNG.normal(size=(8, 6)).astype("f4")
    before = model.predict_on_batch(x)
    model.predict_on_batch(x)
    model.fit(x, np.ones((8, 1)), epochs=2, verbose=0)
    after = model.predict_on_batch(x)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_array_equal(after, model(x, training=False).numpy())


def test_nested_models_and_operations_in_a_graph():
    inner = keras.Sequential([keras.Input((5,)), layers.Dense(5, activation="relu")])
    inputs = keras.Input((5,))
    outputs = layers.Dense(2)(ops.tanh(inner(inputs)) * 2.0 + inputs)
    assert_replays(keras.Model(inputs, outputs), (5,))


def test_a_changed_layer_is_seen():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="relu")])
    x = RNG.normal(size=(2, 4)).astype("f4")
    model.predict_on_batch(x), model.predict_on_batch(x)
    model.layers[0].activation = keras.activations.linear
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(model.predict_on_batch(x), x @ kernel + bias, rtol=1e-5, atol=1e-6)
    model.add(layers.Dense(1))
    assert model.predict_on_batch(x).shape == (2, 1)
    model.pop()
    assert model.predict_on_batch(x).shape == (2, 3)


class Counting(layers.Layer):
    """Its result depends on how often it was called."""

    calls = 0

    def call(self, inputs):
        self.calls += 1
        return inputs * float(self.calls)


def test_custom_layers_models_activations_and_calls_are_not_replayed():
    class Custom(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.calls = layers.Dense(2), 0

        def call(self, inputs):
            self.calls += 1
            return self.dense(inputs)

    def sign_of_first(x):
        return x * (1.0 if float(ops.sum(x)) > 0 else -1.0)

    x = RNG.normal(size=(2, 4)).astype("f4")
    counting = keras.Sequential([keras.Input((4,)), Counting()])
    counting.predict_on_batch(x)
    np.testing.assert_allclose(counting.predict_on_batch(x), (counting.layers[0].calls) * x, rtol=1e-6)
    custom = Custom()
    custom.predict_on_batch(x), custom.predict_on_batch(x), custom.predict_on_batch(x)
    assert custom.calls >= 3
    activated = keras.Sequential([keras.Input((4,)), layers.Activation(sign_of_first)])
    for sign in (1, -1):
        array = sign * np.ones((2, 4), "f4")
        np.testing.assert_array_equal(activated.predict_on_batch(array), np.ones((2, 4)))
    patched = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    patched.predict_on_batch(x)
    patched.layers[0].call = lambda inputs: inputs
    np.testing.assert_array_equal(patched.predict_on_batch(x), x)
    for model in (counting, custom, activated, patched):
        assert not any(programs(model))


class Halving(layers.Layer):
    """A layer that says of itself that its predictions may be recorded."""

    replayable = True
    calls = 0

    def call(self, inputs):
        Halving.calls += 1
        return ops.relu(inputs * 0.5)


class Quartering(Halving):
    def call(self, inputs):
        return super().call(inputs) * 0.5


@differentiable(replayable=True)
def bent(x):
    return x / (1 + k.xp.abs(x)), lambda g, needs: (g / (1 + k.xp.abs(x)) ** 2,)


@differentiable
def bent_by_whom(x):
    return x / (1 + k.xp.abs(x)), lambda g, needs: (g / (1 + k.xp.abs(x)) ** 2,)


def test_a_users_layer_model_and_operation_join_by_saying_so():
    class Whole(keras.Model):
        replayable = True

        def __init__(self):
            super().__init__()
            self.parts = [layers.Dense(3, activation=bent, kernel_initializer=lambda shape, dtype: np.ones(shape))]

        def call(self, inputs):
            return self.parts[0](bent(inputs)) + 1.0

    for model in (
        keras.Sequential([keras.Input((4,)), Halving(), layers.Dense(3, activation=bent), layers.Activation(bent)]),
        Whole(),
    ):
        model(np.ones((2, 4), "f4"))
        assert_replays(model, (4,))
    calls = Halving.calls
    keras.Sequential([keras.Input((4,)), Quartering()]).predict_on_batch(np.ones((2, 4), "f4"))
    assert Halving.calls == calls + 3  # built on zeros twice, and once more


@pytest.mark.parametrize(
    "make",
    [
        lambda: Quartering(),  # what a class declares is not said of those that override its call
        lambda: type("Sub", (layers.Dense,), {})(3),
        lambda: layers.Dense(3, activation=bent_by_whom),
        lambda: layers.Lambda(lambda x: x),
        lambda: layers.TimeDistributed(Counting()),
        lambda: layers.LSTM(2),
    ],
)
def test_what_does_not_say_so_is_not_replayed(make):
    model = keras.Sequential([keras.Input((2, 4)), make()])
    x = RNG.normal(size=(2, 2, 4)).astype("f4")
    first = model.predict_on_batch(x)
    assert first.shape == model.predict_on_batch(x).shape and not any(programs(model))


def test_values_that_are_looked_at_and_variables_that_change_are_noticed():
    class Looking(layers.Layer):
        replayable = True

        def __init__(self, look):
            super().__init__()
            self.__dict__["look"] = (look,)
            self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, inputs):
            self.look[0](self, ops.sum(inputs))
            return inputs * 2.0

    for look in (
        lambda layer, x: float(x),
        lambda layer, x: bool(x > 0),
        lambda layer, x: x.numpy(),
        lambda layer, x: np.asarray(x),
        lambda layer, x: x.item(),
        lambda layer, x: layer.count.assign_add(1.0),
        lambda layer, x: layer.count.numpy(),
    ):
        model = keras.Sequential([keras.Input((4,)), Looking(look)])
        model.predict_on_batch(np.ones((2, 4), "f4"))
        assert ON_A_GPU or programs(model) == [None]
    model = keras.Sequential([keras.Input((4,)), Looking(lambda layer, x: x.shape)])
    assert_replays(model, (4,))


def test_what_is_added_as_a_loss_or_kept_as_a_state_is_not_replayed():
    regular = keras.Sequential([keras.Input((4,)), layers.Dense(2, activity_regularizer="l2")])
    recurrent = keras.Sequential([keras.Input((3, 4), batch_size=2), layers.LSTM(2, stateful=True)])
    x = RNG.normal(size=(2, 4)).astype("f4")
    steps = RNG.normal(size=(2, 3, 4)).astype("f4")
    regular.predict_on_batch(x), regular.predict_on_batch(x)
    first, second = recurrent.predict_on_batch(steps), recurrent.predict_on_batch(steps)
    assert np.abs(first - second).max() > 1e-4
    assert not any(programs(regular)) and not any(programs(recurrent))


def test_threads_and_pickles():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8, activation="relu"), layers.Dense(2)])
    x = RNG.normal(size=(16, 6)).astype("f4")
    expected = model(x, training=False).numpy()
    results = []

    def work():
        for _ in range(50):
            results.append(model.predict_on_batch(x))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 400 and all(np.array_equal(result, expected) for result in results)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_on_batch(x), expected)
    again.set_weights([0 * w for w in again.get_weights()])
    assert not again.predict_on_batch(x).any() and np.array_equal(model.predict_on_batch(x), expected)


# ---------------------------------------------------------------- one batch that nobody is told of


class _Told(keras.callbacks.Callback):
    def on_predict_batch_end(self, batch, logs=None):
        self.last = batch


@pytest.mark.parametrize(
    "x",
    [
        RNG.normal(size=(5, 4)),
        RNG.normal(size=(5, 4)).astype("float16"),
        RNG.integers(0, 3, (1, 4)),
        np.ones((5, 4), bool),
    ],
    ids=lambda x: str(x.dtype),
)
def test_one_batch_gives_what_a_stream_of_batches_gives(x):
    inputs = keras.Input((4,))
    hidden = layers.Dense(3)(inputs)
    model = keras.Model(inputs, {"a": layers.Softmax()(hidden), "b": [hidden, layers.Identity()(inputs)]})
    told = _Told()
    short, long = model.predict(x, verbose=0), model.predict(x, verbose=0, callbacks=[told])
    assert told.last == 0
    for a, b in zip(keras.tree.flatten(short), keras.tree.flatten(long), strict=True):
        assert type(a) is np.ndarray and a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    kept = [part.copy() for part in keras.tree.flatten(short)]
    model.predict(x + 1, verbose=0)
    if x.dtype.kind == "f":
        x += 1
    for a, b in zip(keras.tree.flatten(short), kept, strict=True):  # they are copies
        np.testing.assert_array_equal(a, b)


def test_what_is_no_batch_is_refused_whoever_is_told():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    for arguments in ({"verbose": 0}, {"verbose": 0, "callbacks": [_Told()]}):
        for x, settings, words in (
            (np.ones((0, 4)), {}, "The data is empty"),
            (np.array("a"), {}, "must hold numbers"),
            (np.array(1.0), {}, "must have a batch axis"),
            (np.array([["a"] * 4]), {}, "must hold numbers"),
            (np.ones((2, 4)), {"batch_size": 0}, "batch_size must be a positive whole number"),
            (np.ones((2, 4)), {"batch_size": 2.5}, "batch_size must be a positive whole number"),
            (np.ones((2, 4)), {"batch_size": True}, "batch_size must be a positive whole number"),
            (np.ones((2, 3)), {}, "expects inputs with 4 entries"),
        ):
            with pytest.raises(ValueError, match=words):
                model.predict(x, **settings, **arguments)


def test_a_prediction_step_of_the_user_sees_the_only_batch_too():
    class Doubled(keras.Sequential):
        def predict_step(self, data):
            return 2 * super().predict_step(data)

    model = Doubled([keras.Input((4,)), layers.Identity()])
    np.testing.assert_array_equal(model.predict(np.ones((3, 4)), verbose=0), np.full((3, 4), 2.0))
    np.testing.assert_array_equal(model.predict(np.ones((3, 4)), batch_size=2, verbose=0), np.full((3, 4), 2.0))
