"""Losses added to models: they count in the step that computes the outputs, in files and copies, or are refused."""

import copy
import pickle

import numpy as np
import pytest

import minikeras as keras
from minikeras import backend as K
from minikeras import layers, losses, ops

X = np.random.default_rng(0).random((20, 6)).astype("float32")


def divergence(mean, log_variance):
    return -0.5 * K.mean(K.sum(1 + log_variance - K.square(mean) - K.exp(log_variance), axis=-1))


class Divergence(layers.Layer):
    """Passes the mean on and adds its loss in `call`, which needs nothing of the model."""

    def call(self, inputs):
        self.add_loss(divergence(*inputs), inputs=inputs)
        return inputs[0]


class Sampling(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seeds = keras.random.SeedGenerator(3)

    def call(self, inputs):
        mean, log_variance = inputs
        return mean + K.exp(0.5 * log_variance) * keras.random.normal(ops.shape(mean), seed=self.seeds)


def autoencoder(way):
    """The same variational autoencoder, its loss given in several ways; compiled, and whether it takes targets."""
    keras.utils.set_random_seed(0)
    x = keras.Input((6,))
    h = layers.Dropout(0.2, seed=1)(layers.Dense(5, "relu")(x))
    mean, log_variance = layers.Dense(2)(h), layers.Dense(2)(h)
    seen = Divergence()([mean, log_variance]) if way == "layer" else mean
    decoded = layers.Dense(6, "sigmoid")(layers.Dense(5, "relu")(Sampling()([seen, log_variance])))

    def reconstruction(y_true, y_pred):
        return 6 * losses.binary_crossentropy(y_true, y_pred)

    def whole(y_true, y_pred):
        return K.mean(reconstruction(y_true, y_pred)) + divergence(mean, log_variance)

    class Whole(losses.Loss):
        def call(self, y_true, y_pred):
            return reconstruction(y_true, y_pred) + divergence(mean, log_variance)

    class Stepping(keras.Model):
        def train_step(self, data):
            x, y = data
            with keras.GradientTape() as tape:
                decoded, mean, log_variance = self(x, training=True)
                loss = K.mean(reconstruction(y, decoded)) + divergence(mean, log_variance)
            self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
            return {"loss": loss}

        def test_step(self, data):
            x, y = data
            decoded, mean, log_variance = self(x, training=False)
            return {"loss": K.mean(reconstruction(y, decoded)) + divergence(mean, log_variance)}

    if way == "train_step":
        model = Stepping(x, [decoded, mean, log_variance])
        model.compile("adam")
        return model, True
    model = keras.Model(x, decoded)
    if way in ("layer", "added term"):
        if way == "added term":
            model.add_loss(divergence(mean, log_variance))
        model.compile("adam", reconstruction)
    elif way in ("function", "object"):
        model.compile("adam", whole if way == "function" else Whole())
    elif way == "two terms":
        model.add_loss([K.mean(reconstruction(x, decoded)), divergence(mean, log_variance)])
        model.compile("adam")
    else:
        model.add_loss(divergence(mean, log_variance) + K.mean(reconstruction(x, decoded)), inputs=x)
        model.compile("adam")
    return model, way in ("layer", "added term", "function", "object")


def trained(way):
    model, targets = autoencoder(way)
    data = (X, X) if targets else (X,)
    validation = (X[:7], X[:7]) if targets else X[:7]
    before = model.evaluate(*data, verbose=0)
    if way == "train_step":
        history = {"loss": [], "val_loss": []}
        for _ in range(3):
            history["loss"].append(model.train_on_batch(*data))
            history["val_loss"].append(model.test_on_batch(X[:7], X[:7]))
    else:
        options = {"batch_size": 20, "epochs": 3, "shuffle": False, "verbose": 0}
        history = model.fit(*data, validation_data=validation, **options).history
    return before, history["loss"], history["val_loss"], model.get_weights()


@pytest.mark.parametrize("way", ["added term", "function", "object", "one term", "two terms", "train_step"])
def test_every_way_trains_alike(way):
    """Dropout and noise are drawn once, whichever part of the step asks for them first."""
    expected, got = trained("layer"), trained(way)
    for theirs, ours in zip(expected[:3], got[:3], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    by_sum = sorted(expected[3], key=lambda w: (w.shape, float(w.sum())))
    for theirs, ours in zip(by_sum, sorted(got[3], key=lambda w: (w.shape, float(w.sum()))), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def small(*terms):
    """A linear model of X whose outputs are compared with zeros."""
    x = keras.Input((6,))
    y = layers.Dense(2, name="head")(x)
    model = keras.Model(x, y)
    for term in terms:
        model.add_loss(term(x, y))
    model.compile(keras.optimizers.SGD(0.1))
    return model


def test_values():
    model = small(lambda x, y: ops.mean(ops.square(y)), lambda x, y: 3 * ops.mean(x))
    assert all(isinstance(loss, keras.KerasTensor) for loss in model.losses)
    outputs = model.predict(X, verbose=0)
    expected = np.mean(outputs**2) + 3 * np.mean(X)
    np.testing.assert_allclose(model.evaluate(X, verbose=0), expected, rtol=1e-5)
    np.testing.assert_allclose(model.test_on_batch(X), expected, rtol=1e-5)
    np.testing.assert_allclose(model.train_on_batch(X), expected, rtol=1e-5)
    model(X)
    np.testing.assert_allclose([float(loss) for loss in model.losses][1], 3 * np.mean(X), rtol=1e-5)


def test_other_shapes_and_types_are_summed():
    model = small(lambda x, y: ops.square(y), lambda x, y: ops.cast(ops.sum(x, axis=-1) > 3, "int32"))
    outputs = model.predict(X, verbose=0)
    expected = np.sum(outputs**2) + np.sum(X.sum(-1) > 3)
    np.testing.assert_allclose(model.evaluate(X, batch_size=20, verbose=0), expected, rtol=1e-5)


def test_inputs_that_only_the_loss_needs():
    x, target = keras.Input((6,), name="x"), keras.Input((2,), name="target")
    y = layers.Dense(2)(x)
    model = keras.Model([x, target], y)
    model.add_loss(losses.MeanSquaredError()(target, y))
    model.compile("sgd")
    targets = np.ones((20, 2), "float32")
    got = model.evaluate([X, targets], verbose=0)
    np.testing.assert_allclose(got, np.mean((model.predict([X, targets], verbose=0) - 1) ** 2), rtol=1e-5)


def test_layers_that_only_the_loss_needs(tmp_path):
    x = keras.Input((6,))
    side = layers.Dense(3, name="side")
    y = layers.Dense(2, name="head")(x)
    model = keras.Model(x, y)
    model.add_loss(ops.mean(ops.square(y - 1)) + ops.mean(ops.square(side(x) - 1)))
    assert [layer.name for layer in model.layers][-1] == "side"
    assert side.kernel is model.weights[2]
    model.compile(keras.optimizers.SGD(0.1))
    before = model.get_weights()
    first = model.evaluate(X, verbose=0)
    model.fit(X, verbose=0, epochs=5)
    assert model.evaluate(X, verbose=0) < first
    assert all(np.any(now != then) for now, then in zip(model.get_weights(), before, strict=True))
    model.save_weights(tmp_path / "a.weights.h5")
    after = model.evaluate(X, verbose=0)
    model.set_weights(before)
    model.load_weights(tmp_path / "a.weights.h5")
    assert model.evaluate(X, verbose=0) == after
    lines = []
    model.summary(print_fn=lines.append)
    assert "side (Dense)" in lines[0] and "Trainable params: 35" in lines[0]


def test_predict_does_not_compute_the_loss():
    calls = []

    class Counting(layers.Layer):
        def call(self, inputs):
            calls.append(1)
            return inputs

    x = keras.Input((6,))
    model = keras.Model(x, layers.Dense(2)(x))
    model.add_loss(ops.sum(Counting()(x)))
    model.compile("sgd")
    calls.clear()
    model.predict(X, batch_size=7, verbose=0)
    model.predict_on_batch(X)
    assert not calls
    assert all(entry.reason is None for entry in model._programs._entries.values())  # as without the loss
    model.evaluate(X, verbose=0)
    assert len(calls) == 1


def test_counts_once_for_each_use_of_a_submodel():
    inner_in = keras.Input((6,))
    inner = keras.Model(inner_in, layers.Dense(6)(inner_in), name="inner")
    x = keras.Input((6,))
    model = keras.Model(x, inner(inner(x)))
    inner.add_loss(ops.mean(ops.square(inner.output)))
    model.compile("sgd")
    once = inner.predict(X, verbose=0)
    twice = inner.predict(once, verbose=0)
    np.testing.assert_allclose(model.evaluate(X, verbose=0), np.mean(once**2) + np.mean(twice**2), rtol=1e-5)


def test_an_encoder_that_is_a_model_and_the_source_of_the_loss():
    """As in Keras 2's own example: the decoder is applied to the encoder, the loss to the encoder's tensors."""
    x = keras.Input((6,))
    h = layers.Dense(5, "relu")(x)
    mean, log_variance = layers.Dense(2, name="mean")(h), layers.Dense(2, name="log_variance")(h)
    encoder = keras.Model(x, [mean, log_variance], name="encoder")
    z = keras.Input((2,))
    decoder = keras.Model(z, layers.Dense(6, "sigmoid")(z), name="decoder")
    outputs = decoder(encoder(x)[0])
    model = keras.Model(x, outputs)
    model.add_loss(K.mean(losses.mse(x, outputs) * 6 + divergence(mean, log_variance)))
    model.compile("adam")
    assert len(model.weights) == 8
    m, v = encoder.predict(X, verbose=0)
    kl = -0.5 * np.mean(np.sum(1 + v - m**2 - np.exp(v), -1))
    expected = 6 * np.mean((decoder.predict(m, verbose=0) - X) ** 2) + kl
    np.testing.assert_allclose(model.evaluate(X, verbose=0), expected, rtol=1e-5)


def test_a_model_cut_out_of_another():
    x = keras.Input((6,))
    h = layers.Dense(4)(x)
    y = layers.Dense(2)(h)
    cut = keras.Model(h, y)
    cut.add_loss(ops.mean(ops.square(y)))  # of the tensors that it was cut out of
    cut.add_loss(ops.mean(ops.abs(cut.output)))  # and of its own
    cut.compile("sgd")
    data = X[:, :4]
    outputs = cut.predict(data, verbose=0)
    expected = np.mean(outputs**2) + np.mean(np.abs(outputs))
    np.testing.assert_allclose(cut.evaluate(data, verbose=0), expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"depends on the Input .* not among the model's inputs"):
        cut.add_loss(ops.mean(x))


def test_functions_are_computed_in_every_step():
    model = small(lambda x, y: ops.mean(ops.square(y)))
    head = model.get_layer("head")
    without = model.evaluate(X, verbose=0)
    model.add_loss(lambda: 0.5 * ops.sum(ops.square(head.kernel)))
    head.add_loss(lambda: ops.sum(ops.abs(head.bias - 1)))
    for _ in range(2):
        kernel, bias = head.get_weights()
        added = 0.5 * np.sum(kernel**2) + np.sum(np.abs(bias - 1))
        loss = float(ops.mean(ops.square(model(X))))
        np.testing.assert_allclose(model.evaluate(X, verbose=0), loss + added, rtol=1e-5)
        np.testing.assert_allclose(float(sum(model.losses)), loss + added, rtol=1e-5)
        model.train_on_batch(X)
    assert without != model.evaluate(X, verbose=0)


def test_functions_added_in_build():
    class Penalized(layers.Layer):
        def build(self, input_shape):
            self.w = self.add_weight((input_shape[-1],), "ones")
            self.add_loss(lambda: ops.sum(self.w))

        def call(self, inputs):
            return inputs * self.w

    model = keras.Sequential([keras.Input((6,)), Penalized()])
    clone = keras.models.clone_model(model, clone_function=lambda layer: Penalized())  # whose layer adds its own
    for one in (model, clone, keras.models.clone_model(model)):
        one.compile("sgd")
        assert one.evaluate(X, verbose=0) == 6


def test_own_steps():
    x = keras.Input((6,))
    encoder = keras.Model(x, layers.Dense(2)(x))
    encoder.add_loss(ops.mean(ops.square(encoder.output)))

    class Whole(keras.Model):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = encoder, layers.Dense(6)

        def call(self, inputs):
            return self.decoder(self.encoder(inputs))

        def parts(self, x):
            return self.decoder(self.encoder(x)) if self.together is None else self(x)

        def test_step(self, data):
            decoded = self.parts(data[0])
            loss = self.compute_loss(data[0], data[1], decoded)
            return {"loss": loss, "sum": sum(self.losses)}

    model = Whole()
    model.compile("sgd", "mse")
    model(X)
    code = encoder.predict(X, verbose=0)
    expected = np.mean(code**2), np.mean((np.asarray(model(X)) - X) ** 2)
    for together in (None, True):  # the parts one after the other, and the model
        model.together = together
        got = model.evaluate(X, X, verbose=0, return_dict=True)
        np.testing.assert_allclose(got["sum"], expected[0], rtol=1e-5)
        np.testing.assert_allclose(got["loss"], sum(expected), rtol=1e-5)


def test_a_step_that_does_not_call_the_model():
    class Apart(keras.Model):
        def test_step(self, data):
            return {"loss": self.compute_loss(data[0], data[1], self.layers[-1](data[0]))}

    x = keras.Input((6,))
    y = layers.Dense(6)(x)
    model = Apart(x, y)
    model.add_loss(ops.mean(y))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="computed where it is called"):
        model.evaluate(X, X, verbose=0)


# ---------------------------------------------------------------- files and copies

ERRORS = [
    ("mean_squared_error", {}),
    ("mean_absolute_error", {}),
    ("mean_absolute_percentage_error", {}),
    ("mean_squared_logarithmic_error", {}),
    ("binary_crossentropy", {}),
    ("binary_crossentropy", {"from_logits": True}),
    ("huber", {"delta": 0.1}),
    ("log_cosh", {}),
    ("hinge", {}),
    ("squared_hinge", {}),
    ("poisson", {}),
    ("kl_divergence", {}),
]


@pytest.mark.parametrize(("name", "options"), ERRORS)
def test_files_and_copies_have_the_losses(name, options, tmp_path):
    x = keras.Input((6,))
    y = layers.Dense(6, "softmax")(layers.Dense(4)(x))
    side = layers.Dense(6, "softmax")(x)
    model = keras.Model(x, y)
    model.add_loss(ops.mean(getattr(losses, name)(x, y, **options)))
    model.add_loss(ops.mean(ops.square(side)))
    model.compile("sgd")
    expected = model.evaluate(X, verbose=0)
    assert model.to_json() == model.to_json()
    model.save(tmp_path / "a.keras")
    reloaded = keras.models.load_model(tmp_path / "a.keras")
    clone = keras.models.clone_model(model)
    changed = keras.models.clone_model(model, clone_function=lambda layer: type(layer).from_config(layer.get_config()))
    for copied in (reloaded, clone, changed, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        copied.set_weights(model.get_weights())
        copied.compile("sgd")
        assert len(copied.losses) == 2
        np.testing.assert_allclose(copied.evaluate(X, verbose=0), expected, rtol=1e-6)


def test_outputs_that_are_losses_are_described_as_what_they_are(tmp_path):
    x, t = keras.Input((6,)), keras.Input((6,))
    model = keras.Model([x, t], losses.binary_crossentropy(t, x))
    model.save(tmp_path / "a.keras")
    again = keras.models.load_model(tmp_path / "a.keras")
    np.testing.assert_allclose(again.predict([X, X], verbose=0), model.predict([X, X], verbose=0), rtol=1e-5)


def test_a_shared_encoder_stays_shared(tmp_path):
    x = keras.Input((6,))
    code = layers.Dense(2, name="code")(x)
    encoder = keras.Model(x, code, name="encoder")
    model = keras.Model(x, layers.Dense(6)(encoder(x)))
    model.add_loss(ops.mean(ops.square(code)))
    model.compile("sgd", "mse")
    model.save(tmp_path / "a.keras")
    again = keras.models.load_model(tmp_path / "a.keras")
    assert len(again.weights) == 4
    assert again.evaluate(X, X, verbose=0) == model.evaluate(X, X, verbose=0)


def test_a_constructor_that_adds_its_loss_adds_it_once(tmp_path):
    @keras.saving.register_keras_serializable("added_losses")
    class Made(keras.Model):
        def __init__(self, inputs, outputs, **kwargs):
            super().__init__(inputs, outputs, **kwargs)
            self.add_loss(ops.mean(ops.square(outputs)))

    x = keras.Input((6,))
    model = Made(x, layers.Dense(2)(x))
    model.add_loss(ops.mean(x))
    model.compile("sgd")
    model.save(tmp_path / "a.keras")
    again = keras.models.load_model(tmp_path / "a.keras")
    assert len(again.losses) == 2
    assert again.evaluate(X, verbose=0) == model.evaluate(X, verbose=0)


def test_functions_are_not_lost_in_silence(tmp_path):
    model = small(lambda x, y: ops.mean(ops.square(y)))
    head = model.get_layer("head")
    model.add_loss(lambda: ops.sum(head.kernel))
    with pytest.warns(UserWarning, match="cannot be described; call add_loss"):
        model.save(tmp_path / "a.keras")
    with pytest.warns(UserWarning, match="cannot be described"):
        model.to_json()
    with pytest.raises(ValueError, match="cannot be cloned"):
        keras.models.clone_model(model)
    for copying in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            copying(model)


def test_a_loss_of_the_graph_is_not_copied_in_silence():
    model, _ = autoencoder("function")
    with pytest.raises(TypeError, match="refers to symbolic tensors of this model"):
        copy.deepcopy(model)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (0.5, "takes tensors, got 0.5"),
        (np.float32(1), "takes tensors, got"),
        (None, "takes tensors, got None"),
        (keras.ops.ones(()), r"tensor of shape \(\) outside of call\(\)"),
    ],
)
def test_what_has_no_gradient_is_refused(bad, sentence):
    model = small(lambda x, y: ops.mean(y))
    graph = model._graph
    with pytest.raises(ValueError, match=sentence):
        model.add_loss(bad)
    assert model._graph is graph and not model._loss_functions


def test_tensors_of_another_model_are_refused_at_once():
    model = small(lambda x, y: ops.mean(y))
    other = keras.Input((3,), name="other")
    with pytest.raises(ValueError, match="depends on the Input 'other', which is not among the model's inputs"):
        model.add_loss(ops.mean(other))
    assert len(model.losses) == 1


def test_models_without_a_graph_of_their_own():
    x = keras.Input((6,))
    y = ops.mean(x)

    class Computing(keras.Model):
        def call(self, inputs):
            return inputs

    for model in (keras.Sequential([x, layers.Dense(2)]), Computing(), Computing(x, layers.Dense(2)(x))):
        with pytest.raises(ValueError, match=r"add them to that|add tensors inside call|call\(\) of its own"):
            model.add_loss(y)
    with pytest.raises(ValueError, match="add it to the functional model"):
        layers.Dense(2).add_loss(y)


def test_functions_that_return_no_tensor():
    model = small(lambda x, y: ops.mean(y))
    model.add_loss(lambda: 3.0)
    with pytest.raises(ValueError, match=r"returns a tensor, got 3\.0"):
        model.fit(X, verbose=0)


def test_functions_inside_call():
    class Odd(layers.Layer):
        def call(self, inputs):
            self.add_loss(lambda: ops.sum(inputs))
            return inputs

    with pytest.raises(ValueError, match="inside call"):
        Odd()(X)


def test_a_compiled_loss_without_targets():
    model = small(lambda x, y: ops.mean(y))
    model.compile("sgd", "mse")
    before = model.get_weights()
    with pytest.raises(ValueError, match="is compiled with loss='mse', but got no targets"):
        model.fit(X, verbose=0)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_symbolic_tensors_where_they_have_no_value():
    x = keras.Input((6,))
    h = layers.Dense(6)(x)
    with pytest.raises(ValueError, match="refers to a symbolic tensor that it is not called with"):
        layers.Lambda(lambda t: t * ops.mean(h))(x)
    with pytest.raises(ValueError, match="pass the tensor as an input"):
        layers.Lambda(lambda t: t + h)(x)
    model = keras.Model(x, layers.Lambda(lambda t: t * ops.mean(h), output_shape=(6,))(x))
    model.compile("sgd", lambda y, p: ops.square(y - p))
    with pytest.raises(ValueError, match="symbolic tensor"):
        model.evaluate(X, X, verbose=0)
    model = keras.Model(x, layers.Dense(2, activity_regularizer=lambda t: ops.sum(t) + ops.sum(h))(x))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="symbolic tensor"):
        model.fit(X, X[:, :2], verbose=0)
    model = keras.Model(x, h)
    model.compile("sgd", "mse", metrics=[lambda y, p: ops.mean(h)])
    with pytest.raises(ValueError, match="symbolic tensor"):
        model.fit(X, X, verbose=0)


def test_hidden_references_are_found_in_the_first_step():
    x = keras.Input((6,))
    h = layers.Dense(6)(x)

    class Hidden:
        def __call__(self, y_true, y_pred):
            return ops.mean(ops.square(y_true - y_pred)) + ops.mean(h)

    model = keras.Model(x, h)
    model.compile("sgd", Hidden())
    for run in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match="refers to a symbolic tensor, which has no value here"):
            run(X, X, verbose=0)


def test_weights_beside_symbolic_tensors_in_a_compiled_loss():
    x = keras.Input((6,))
    dense = layers.Dense(6)
    h = dense(x)
    model = keras.Model(x, h)
    model.compile("sgd", lambda y, p: ops.mean(ops.square(y - p)) + ops.mean(h) + ops.sum(dense.kernel))
    with pytest.raises(ValueError, match="whose values would stay what they are now"):
        model.evaluate(X, X, verbose=0)


# ---------------------------------------------------------------- arguments of Keras 2 that would change numbers


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"target_tensors": [X]}, "takes no target_tensors"),
        ({"sample_weight_mode": "daily"}, "None or 'temporal', got 'daily'"),
    ],
)
def test_arguments_of_compile_that_are_refused(options, sentence):
    model = small(lambda x, y: ops.mean(y))
    optimizer = model.optimizer
    with pytest.raises(ValueError, match=sentence):
        model.compile("sgd", "mse", **options)
    assert model.optimizer is optimizer
    model.compile("sgd", "mse", target_tensors=None, sample_weight_mode="temporal")
