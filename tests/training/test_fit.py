"""fit, evaluate, predict: every form of data, and what must hold whatever the data."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest

import minikeras as keras
from minikeras import layers, ops
from minikeras.training.data import ArrayStream


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


def classifier(**compile_arguments):
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(16, activation="relu"), layers.Dense(3, activation="softmax")]
    )
    model.compile(
        **{"optimizer": "adam", "loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"], **compile_arguments}
    )
    return model


def blobs(n=120):
    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, n)
    return (rng.normal(size=(n, 4)) * 0.3 + np.eye(3, 4)[y] * 2).astype("f4"), y


def test_it_learns_and_reports():
    x, y = blobs()
    model = classifier()
    history = model.fit(x, y, epochs=30, batch_size=16, validation_split=0.2, verbose=0)
    assert set(history.history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert len(history.history["loss"]) == 30
    assert history.epoch == list(range(30))
    assert history.history["loss"][-1] < history.history["loss"][0] / 3
    assert history.history["val_accuracy"][-1] > 0.9
    loss, accuracy = model.evaluate(x, y, verbose=0)
    values = model.evaluate(x, y, verbose=0, return_dict=True)
    assert values == {"loss": loss, "accuracy": accuracy}
    p = model.predict(x, verbose=0)
    assert accuracy == pytest.approx((p.argmax(-1) == y).mean(), abs=1e-6)


def _generator(x, y, size):
    while True:
        for i in range(0, len(x), size):
            yield x[i : i + size], y[i : i + size]


class _Dataset(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y, self.ended = x, y, 0

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return self.x[i * 30 : i * 30 + 30], self.y[i * 30 : i * 30 + 30]

    def on_epoch_end(self):
        self.ended += 1


class _Foreign:
    """An array of somebody else's, such as a tensor of another framework."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return self._array if dtype is None else self._array.astype(dtype)


def test_every_form_of_data_gives_the_same_weights():
    import pandas

    x, y = blobs()
    frame = pandas.DataFrame(x, columns=list("abcd"))

    def trained(*data, **arguments):
        keras.utils.set_random_seed(3)
        model = classifier()
        model.fit(*data, epochs=2, shuffle=False, verbose=0, **arguments)
        return np.concatenate([w.ravel() for w in model.get_weights()])

    expected = trained(x, y, batch_size=30)
    for name, data, arguments in [
        ("float64", (x.astype("f8"), y.astype("f8")), {"batch_size": 30}),
        ("lists", (x.tolist(), y.tolist()), {"batch_size": 30}),
        ("pandas", (frame, pandas.Series(y)), {"batch_size": 30}),
        ("foreign", (_Foreign(x), _Foreign(y)), {"batch_size": 30}),
        ("generator", (_generator(x, y, 30),), {"steps_per_epoch": 4}),
        ("dataset", (_Dataset(x, y),), {}),
        ("iterable", (_Batches(x, y),), {}),
    ]:
        np.testing.assert_array_equal(trained(*data, **arguments), expected, err_msg=name)


def _generator_once(x, y, size):
    for i in range(0, len(x), size):
        yield x[i : i + size], y[i : i + size]


class _Batches:
    """An iterable of batches without a length, such as a data loader."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __iter__(self):
        return _generator_once(self.x, self.y, 30)


def test_datasets_are_told_of_the_end_of_each_epoch():
    data = _Dataset(*blobs())
    classifier().fit(data, epochs=3, verbose=0)
    assert data.ended == 3


def test_several_outputs_losses_and_metrics():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    h = layers.Concatenate()([a, b])
    model = keras.Model([a, b], [layers.Dense(1, name="p")(h), layers.Dense(2, activation="softmax", name="q")(h)])
    model.compile(
        "sgd",
        loss={"p": "mse", "q": "categorical_crossentropy"},
        loss_weights={"p": 0.5, "q": 2.0},
        metrics={"q": ["accuracy"], "p": "mae"},
    )
    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=(20, 3)), "b": rng.normal(size=(20, 2))}
    y = {"p": rng.normal(size=(20, 1)), "q": np.eye(2)[rng.integers(0, 2, 20)]}
    values = model.evaluate(x, y, verbose=0, return_dict=True)
    assert set(values) == {"loss", "p_loss", "q_loss", "p_mae", "q_accuracy"}
    assert values["loss"] == pytest.approx(0.5 * values["p_loss"] + 2 * values["q_loss"], rel=1e-5)
    p, _ = model.predict(x, verbose=0)
    assert values["p_loss"] == pytest.approx(((p - y["p"]) ** 2).mean(), rel=1e-4)
    model.fit(x, y, verbose=0)
    model.fit([x["a"], x["b"]], [y["p"], y["q"]], epochs=2, verbose=0)
    with pytest.raises(ValueError, match=r"outputs \['r'\]"):
        model.fit(x, {"p": y["p"], "r": y["q"]}, verbose=0)


def test_sample_and_class_weights():
    x, y = blobs(9)
    model = classifier(weighted_metrics=["accuracy"], metrics=None)
    weights = np.linspace(0, 2, 9)
    p = model.predict(x, verbose=0)
    each = -np.log(p[np.arange(9), y])
    assert model.evaluate(x, y, sample_weight=weights, batch_size=9, verbose=0)[0] == pytest.approx(
        (each * weights).sum() / 9, rel=1e-5
    )
    by_class = {0: 1.0, 1: 3.0}
    model.reset_metrics()
    expected = model.train_on_batch(x, y, sample_weight=np.array([by_class.get(c, 1.0) for c in y]), return_dict=True)
    keras.utils.set_random_seed(0)
    assert classifier(weighted_metrics=["accuracy"], metrics=None).train_on_batch(
        x, y, class_weight=by_class, return_dict=True
    ) == pytest.approx(expected)
    with pytest.raises(ValueError, match="combined"):
        model.fit(x, y, sample_weight=weights, class_weight=by_class, verbose=0)


def test_initial_epoch_steps_and_validation_frequency():
    x, y = blobs()
    model = classifier()
    history = model.fit(
        x, y, initial_epoch=2, epochs=6, steps_per_epoch=2, validation_data=(x, y), validation_freq=2, verbose=0
    )
    assert history.epoch == [2, 3, 4, 5]
    assert len(history.history["val_loss"]) == 2
    assert int(model.optimizer.iterations) == 8


def test_all_hooks_in_order():
    seen = []

    class Recorder(keras.callbacks.Callback):
        pass

    hooks = ["on_train_begin", "on_epoch_begin", "on_train_batch_begin", "on_train_batch_end", "on_test_begin"]
    hooks += ["on_test_batch_begin", "on_test_batch_end", "on_test_end", "on_epoch_end", "on_train_end"]
    hooks += ["on_predict_begin", "on_predict_batch_begin", "on_predict_batch_end", "on_predict_end"]
    for hook in hooks:
        setattr(Recorder, hook, lambda self, *args, hook=hook, **kw: seen.append(hook))
    x, y = blobs(32)
    model = classifier()
    recorder = Recorder()
    model.fit(x, y, validation_data=(x, y), callbacks=[recorder], verbose=0)
    assert seen == hooks[:10]
    assert recorder.model is model
    assert recorder.params["epochs"] == 1
    seen.clear()
    model.predict(x, callbacks=[recorder], verbose=0)
    assert seen == hooks[10:]


def test_logs_of_each_batch_are_running_means():
    x, y = blobs(64)
    got = []
    model = classifier()
    model.fit(
        x,
        y,
        callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=lambda b, logs: got.append(dict(logs)))],
        verbose=0,
    )
    assert len(got) == 2
    assert all(isinstance(v, float) for logs in got for v in logs.values())
    assert got[-1]["loss"] == pytest.approx(model.history.history["loss"][-1])


def test_custom_train_step_with_a_tape():
    class Custom(keras.Model):
        def train_step(self, data):
            x, y = data[:2]
            with keras.GradientTape() as tape:
                y_pred = self(x, training=True)
                loss = self.compute_loss(y=y, y_pred=y_pred)
            variables = self.trainable_variables
            self.optimizer.apply(tape.gradient(loss, variables), variables)
            for metric in self.metrics:
                if metric.name == "loss":
                    metric.update_state(loss)
                else:
                    metric.update_state(y, y_pred)
            return {m.name: m.result() for m in self.metrics if m.name == "loss"} | {"fixed": 1.5}

    x, y = blobs()
    inputs = keras.Input((4,))
    model = Custom(inputs, layers.Dense(3, activation="softmax")(inputs))
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x, y, epochs=5, verbose=0)
    assert history.history["fixed"] == [1.5] * 5
    assert history.history["loss"][-1] < history.history["loss"][0]


def test_overridden_compute_loss():
    class Doubled(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return ops.mean(ops.square(y - y_pred)) * 2.0

    inputs = keras.Input((4,))
    model = Doubled(inputs, layers.Dense(1)(inputs))
    model.compile("sgd")
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("f4")
    loss = model.train_on_batch(x, np.ones((8, 1)))
    assert np.isfinite(loss)


def test_predictions_outlive_the_step():
    model = classifier()
    x, _ = blobs(40)
    first = model.predict_on_batch(x[:8])
    kept = first.copy()
    model.predict_on_batch(x[8:16])
    np.testing.assert_array_equal(first, kept)
    inside = []

    class Keep(keras.Model):
        def train_step(self, data):
            inside.append(self(data[0], training=True))
            return {"loss": 0.0}

    inputs = keras.Input((4,))
    keeper = Keep(inputs, layers.Dense(2)(inputs))
    keeper.compile("sgd", "mse")
    keeper.fit(x, np.zeros((40, 2)), batch_size=8, shuffle=False, verbose=0)
    for i, value in enumerate(inside):
        np.testing.assert_allclose(value, keeper(x[i * 8 : i * 8 + 8]), rtol=1e-6)


def test_partial_last_batch_and_multi_shape_outputs():
    model = classifier()
    x, _ = blobs(35)
    whole = model.predict(x, batch_size=8, verbose=0)
    assert whole.shape == (35, 3)
    np.testing.assert_allclose(whole, np.asarray(model(x)), rtol=1e-5)


def test_interrupted_training_leaves_a_usable_model():
    x, y = blobs()
    model = classifier()

    def interrupt(batch, logs):
        if batch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=interrupt)], verbose=0)
    assert np.isfinite(model.predict(x, verbose=0)).all()
    history = model.fit(x, y, epochs=2, verbose=0)
    assert len(history.history["loss"]) == 2
    assert (model(x) * 1.0).node is None


def test_stop_training_and_generators_go_on_over_epochs():
    x, y = blobs(100)
    served = []

    def batches():
        i = 0
        while True:
            served.append(i)
            yield x[i % 100 : i % 100 + 10], y[i % 100 : i % 100 + 10]
            i += 10

    classifier().fit(batches(), steps_per_epoch=3, epochs=3, verbose=0)
    assert served[:9] == list(range(0, 90, 10))


def test_progress_in_plain_lines(capsys):
    x, y = blobs()
    classifier().fit(x, y, epochs=2, batch_size=60, verbose=2, validation_data=(x, y))
    out = capsys.readouterr().out
    assert "Epoch 1/2" in out
    assert "2/2 - " in out
    assert "val_accuracy" in out
    assert "\r" not in out and "\b" not in out


def test_two_models_share_a_layer_and_train_in_turn():
    x, y = blobs()
    shared = layers.Dense(8, activation="tanh", name="shared")
    i = keras.Input((4,))
    first = keras.Model(i, layers.Dense(1)(shared(i)))
    second = keras.Model(i, layers.Dense(3, activation="softmax")(shared(i)))
    first.compile("adam", "mse")
    second.compile("adam", "sparse_categorical_crossentropy")
    for _ in range(3):
        first.train_on_batch(x, np.ones(len(x)))
        second.train_on_batch(x, y)
        np.testing.assert_array_equal(first.get_weights()[0], second.get_weights()[0])
    a = first.predict(x, verbose=0)
    second.train_on_batch(x, y)
    assert not np.array_equal(a, first.predict(x, verbose=0))


def test_adversarial_pair():
    generator = keras.Sequential([keras.Input((2,)), layers.Dense(4)])
    critic = keras.Sequential([keras.Input((4,)), layers.Dense(1, activation="sigmoid")])
    critic.compile("adam", "binary_crossentropy")
    critic.trainable = False
    noise = keras.Input((2,))
    both = keras.Model(noise, critic(generator(noise)))
    both.compile("adam", "binary_crossentropy")
    z = np.random.default_rng(0).normal(size=(16, 2))
    before = critic.get_weights()[0]
    both.train_on_batch(z, np.ones((16, 1)))
    np.testing.assert_array_equal(critic.get_weights()[0], before)
    critic.trainable = True
    critic.train_on_batch(generator.predict(z, verbose=0), np.zeros((16, 1)))
    assert not np.array_equal(critic.get_weights()[0], before)
    np.testing.assert_allclose(
        both.predict(z, verbose=0), critic.predict(generator.predict(z, verbose=0), verbose=0), rtol=1e-5
    )


def test_legacy_names():
    x, y = blobs()
    model = classifier(
        optimizer=keras.optimizers.SGD(lr=0.01, momentum=0.9, decay=0.0, nesterov=False), metrics=["acc"]
    )
    history = model.fit_generator(_generator(x, y, 30), steps_per_epoch=4, epochs=2, verbose=0)
    assert "acc" in history.history
    assert len(model.evaluate_generator(_generator(x, y, 30), steps=4, verbose=0)) == 2
    assert model.predict_generator(_generator(x, y, 30), steps=4, verbose=0).shape == (120, 3)


def test_labels_out_of_range_are_refused_for_a_loss_given_alone_in_a_list() -> None:
    model = keras.Sequential([layers.Input((2,)), layers.Dense(3, activation="softmax")])
    model.compile("sgd", [["sparse_categorical_crossentropy"]])
    before = model.get_weights()
    with pytest.raises(ValueError, match="A label must lie between 0 and 2 for 3 classes"):
        model.fit(np.zeros((4, 2), "float32"), np.array([0, 1, 2, 3]), verbose=0)
    for weight, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, kept)


def test_the_batches_of_a_long_dataset_are_cut_as_they_come() -> None:
    stream = ArrayStream(np.zeros((1000, 1), "float32"), None, None, 1, shuffle=True)
    with patch.object(stream, "_batch", wraps=stream._batch) as made:
        batches = stream.epoch()
        next(iter(batches))
    assert made.call_count == 2  # this one, and the next, which is begun while it is in use


@pytest.mark.parametrize("logs", [None, 3.0, ["loss"], "loss"], ids=repr)
@pytest.mark.parametrize("step", ["train_step", "test_step"])
def test_steps_that_return_no_dict_get_a_sentence(step, logs):
    def broken(self, data):
        getattr(keras.Model, step)(self, data)
        return logs

    class Broken(keras.Sequential):
        pass

    setattr(Broken, step, broken)
    model = Broken([keras.Input((4,)), layers.Dense(3, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = blobs(20)
    on_batch = model.train_on_batch if step == "train_step" else model.test_on_batch
    whole = model.fit if step == "train_step" else model.evaluate
    for call in (lambda: whole(x, y, verbose=0), lambda: on_batch(x, y)):
        with pytest.raises(ValueError, match=rf"^{step}\(\) must return a dict of values by name, got .*\.$"):
            call()


def test_the_guides_training_step():
    class Guide(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3, activation="softmax")

        def call(self, x):
            return self.dense(x)

        def train_step(self, data):
            x, y = data
            with keras.GradientTape() as tape:
                y_pred = self(x, training=True)
                loss = self.compute_loss(y=y, y_pred=y_pred)
            variables = self.trainable_variables
            self.optimizer.apply(tape.gradient(loss, variables), variables)
            for metric in self.metrics:
                if metric.name == "loss":
                    metric.update_state(loss)
                else:
                    metric.update_state(y, y_pred)
            return {m.name: m.result() for m in self.metrics}

    x, y = blobs(40)
    keras.utils.set_random_seed(0)
    guide = Guide()
    guide.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    got = guide.fit(x, y, epochs=3, batch_size=10, shuffle=False, validation_data=(x, y), verbose=0).history
    keras.utils.set_random_seed(0)
    plain = keras.Sequential([layers.Dense(3, activation="softmax")])
    plain.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    expected = plain.fit(x, y, epochs=3, batch_size=10, shuffle=False, validation_data=(x, y), verbose=0).history
    assert sorted(got) == sorted(expected) == ["accuracy", "loss", "val_accuracy", "val_loss"]
    for name, values in expected.items():
        np.testing.assert_allclose(got[name], values, rtol=1e-6)
    assert set(guide.train_on_batch(x, y, return_dict=True)) == {"accuracy", "loss"}


def test_compute_loss_of_an_older_program_knows_no_training_flag():
    class Doubled(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1, kernel_initializer="ones")

        def call(self, x):
            return self.dense(x)

        def compute_loss(self, x, y, y_pred, sample_weight=None):
            return 2 * ops.mean(ops.square(y - y_pred))

    class Further(Doubled):
        def compute_loss(self, x, y, y_pred, sample_weight=None):
            return 2 * super().compute_loss(x, y, y_pred, sample_weight)

    for cls, loss in ((Doubled, 8.0), (Further, 16.0)):
        model = cls()
        model.compile("sgd")
        data = np.ones((2, 2), "float32"), np.zeros((2, 1), "float32")
        assert model.evaluate(*data, verbose=0) == loss
        assert model.fit(*data, verbose=0).history["loss"] == [loss]
