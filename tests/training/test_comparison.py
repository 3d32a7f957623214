"""Comparisons: a list of optimizers or losses trains a replica for each, exactly as it would be trained alone."""

from __future__ import annotations

import copy
import csv
import pickle

import numpy as np
import pytest

import minikeras as keras
from minikeras import callbacks, layers, losses, ops, optimizers
from minikeras.training.trainer import Trainer

RNG = np.random.default_rng(3)
LABELS = RNG.integers(0, 3, 90)
X = (RNG.normal(size=(90, 5)) * 0.4 + np.eye(3, 5)[LABELS] * 2).astype("f4")
Y = np.eye(3, dtype="f4")[LABELS]
DATA = {"x": X[:60], "y": Y[:60], "validation_data": (X[60:], Y[60:]), "batch_size": 16, "verbose": 0}


def network(shape=(5,), seed=4):
    """With everything that a replica has of its own: weights, moving averages, dropout masks."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            *([] if shape is None else [keras.Input(shape)]),
            layers.Dense(8, activation="relu", kernel_regularizer="l2"),
            layers.BatchNormalization(),
            layers.Dropout(0.4),
            layers.Dense(3, activation="softmax"),
        ]
    )


def compared(optimizer=("sgd", "rmsprop"), loss="categorical_crossentropy", shape=(5,), **arguments):
    model = network(shape)
    optimizer = list(optimizer) if isinstance(optimizer, tuple) else optimizer
    model.compile(optimizer=optimizer, loss=loss, **{"metrics": ["accuracy"], **arguments})
    return model


def alone(optimizer, loss="categorical_crossentropy", shape=(5,), epochs=3, data=DATA, **arguments):
    model = network(shape)
    model.compile(optimizer=optimizer, loss=loss, **{"metrics": ["accuracy"], **arguments})
    return model, model.fit(**data, epochs=epochs).history


def assert_same_weights(first, second):
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def weights_of(model):
    return [weight.copy() for weight in model.get_weights()]


# ---------------------------------------------------------------- each replica is trained as if it were alone


@pytest.mark.parametrize("shape", [(5,), None], ids=["built", "not built"])
def test_replicas_train_bit_for_bit_as_models_of_their_own(shape):
    model = compared(("sgd", "adam", "rmsprop"), shape=shape)
    history = model.fit(**DATA, epochs=3)
    assert history.replicas == ["sgd", "adam", "rmsprop"]
    singles = {name: alone(name, shape=shape) for name in history.replicas}
    for name, (_, values) in singles.items():
        assert {key.removeprefix("val_") for key in values} == {"loss", "accuracy"}
        for key, series in values.items():
            assert history.history[f"{name}/{key}"] == series, (name, key)
    best = min(singles, key=lambda name: singles[name][1]["val_loss"][-1])
    assert history.best == best
    assert_same_weights(model, singles[best][0])
    for key, series in singles[best][1].items():
        assert history.history[key] == series
    assert len(history.history) == 4 * 4 and history.epoch == [0, 1, 2]


def test_the_model_ends_as_the_winner_and_goes_on_as_an_ordinary_one(tmp_path):
    slow, fast = optimizers.SGD(1e-6), optimizers.Adam(0.01)
    model = compared([slow, fast])
    kernel = model.layers[0].kernel
    memory = kernel.data
    history = model.fit(**DATA, epochs=2)
    assert history.best == "adam" and model.optimizer is fast and model.layers[0].kernel is kernel
    assert int(fast.iterations.numpy()) == int(slow.iterations.numpy()) == 8
    loss, accuracy = model.evaluate(*DATA["validation_data"], batch_size=16, verbose=0)
    assert loss == pytest.approx(history.history["val_loss"][-1], rel=1e-6)
    assert accuracy == pytest.approx(history.history["val_accuracy"][-1])
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.get_compile_config() == model.get_compile_config()
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    single, _ = alone(optimizers.Adam(0.01), epochs=2)
    states = [layer.seed_generator for layer in (model.layers[2], single.layers[2], loaded.layers[2])]
    states[2].state = states[0].state
    assert states[0].state == states[1].state
    further = {}
    for name, one in (("model", model), ("single", single), ("loaded", loaded)):
        keras.utils.set_random_seed(9)
        further[name] = one.fit(**DATA, epochs=4, initial_epoch=2).history
    assert further["model"] == further["single"] == further["loaded"]
    assert set(further["model"]) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert_same_weights(model, single)
    assert memory.shape == kernel.shape and model.history.best is None and model.history.replicas == []


def test_the_weight_of_a_loss_scales_training_and_not_the_report():
    def without_penalty():
        keras.utils.set_random_seed(1)
        return keras.Sequential([keras.Input((5,)), layers.Dense(3, activation="softmax")])

    model = without_penalty()
    sgd = [optimizers.SGD(0.1), optimizers.SGD(0.1)]
    model.compile(sgd, "categorical_crossentropy", loss_weights=[1.0, 0.25])
    history = model.fit(**DATA, epochs=3).history
    for name, weight in (("sgd", 1.0), ("sgd_1", 0.25)):
        single = without_penalty()
        single.compile(optimizers.SGD(0.1), "categorical_crossentropy", loss_weights=[weight])
        expected = single.fit(**DATA, epochs=3).history
        np.testing.assert_allclose(np.array(history[f"{name}/loss"]) * weight, expected["loss"], rtol=1e-6)
        np.testing.assert_allclose(np.array(history[f"{name}/val_loss"]) * weight, expected["val_loss"], rtol=1e-6)
    assert history["sgd/loss"][0] < history["sgd_1/loss"][0]


@pytest.mark.parametrize("weights", [{"class_weight": {0: 3.0}}, {"sample_weight": np.linspace(0, 2, 60, dtype="f4")}])
def test_weights_of_classes_and_samples_reach_every_replica(weights):
    data = DATA | weights
    history = compared().fit(**data, epochs=2).history
    for name in ("sgd", "rmsprop"):
        _, single = alone(name, epochs=2, data=data)
        assert history[f"{name}/loss"] == single["loss"] and history[f"{name}/val_loss"] == single["val_loss"]


def test_generators_are_drawn_from_once_per_batch():
    drawn = {"train": 0, "validate": 0}

    def endless(role):
        while True:
            i = drawn[role] * 7 % 50
            drawn[role] += 1
            yield X[i : i + 10], Y[i : i + 10]

    def run(optimizer):
        drawn.update(train=0, validate=0)
        model = compared(optimizer)
        steps = {"steps_per_epoch": 3, "validation_steps": 2, "epochs": 2, "verbose": 0}
        return model.fit(endless("train"), validation_data=endless("validate"), **steps).history

    history = run(("sgd", "rmsprop"))
    assert drawn == {"train": 6, "validate": 4}
    for name in ("sgd", "rmsprop"):
        single = run(name)
        assert all(history[f"{name}/{key}"] == single[key] for key in single)


@pytest.mark.parametrize("entrance", [{"batch_shape": (10, 4, 2)}, {"shape": (4, 2)}], ids=["sized", "open"])
def test_stateful_layers_keep_a_state_for_each_replica(entrance):
    def run(optimizer):
        keras.utils.set_random_seed(2)
        inner = layers.Bidirectional(layers.GRU(2, stateful=True, return_sequences=True))
        model = keras.Sequential([keras.Input(**entrance), inner, layers.LSTM(3, stateful=True), layers.Dense(1)])
        model.compile(optimizer, "mse")
        x = np.linspace(-1, 1, 240, dtype="f4").reshape(30, 4, 2)
        history = model.fit(x, x[:, 0, :1], batch_size=10, epochs=2, shuffle=False, verbose=0)
        return model, history

    model, history = run(["adam", "sgd"])
    singles = {name: run(name) for name in history.replicas}
    for name, (_, single) in singles.items():
        assert history.history[f"{name}/loss"] == single.history["loss"]
    winner = singles[history.best][0]
    for mine, other in zip(model.layers[1].states, winner.layers[1].states, strict=True):
        np.testing.assert_array_equal(mine.numpy(), other.numpy())


def test_random_numbers_without_a_seed_are_the_same_for_all():
    class Shaken(layers.Layer):
        def call(self, x, training=False):
            return x + keras.random.normal(x.shape) if training else x

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5,)), Shaken(), layers.Dense(3, activation="softmax")])
    model.compile([optimizers.SGD(0.1), optimizers.SGD(0.1)], "categorical_crossentropy")
    history = model.fit(**DATA, epochs=2).history
    assert history["sgd/loss"] == history["sgd_1/loss"] and history["sgd/loss"][0] != history["sgd/loss"][1]


# ---------------------------------------------------------------- losses, names, outputs


def test_losses_are_compared_for_a_model_with_one_output():
    model = compared("sgd", ["categorical_crossentropy", "mse", losses.Huber(delta=0.5), losses.mean_absolute_error])
    history = model.fit(**DATA, epochs=2)
    assert history.replicas == ["categorical_crossentropy", "mse", "huber_loss", "mean_absolute_error"]
    for name, loss in (("mse", "mse"), ("huber_loss", losses.Huber(delta=0.5))):
        _, single = alone("sgd", loss, epochs=2)
        assert history.history[f"{name}/val_loss"] == single["val_loss"]
    final = {name: history.history[f"{name}/val_loss"][-1] for name in history.replicas}
    assert history.best == min(final, key=final.get)
    assert model.evaluate(*DATA["validation_data"], verbose=0, batch_size=16)[0] == pytest.approx(min(final.values()))


def test_a_used_optimizer_is_copied_with_its_state():
    adam = optimizers.Adam(0.01)
    model = compared(adam)
    model.fit(**DATA, epochs=1)
    model.compile(adam, ["categorical_crossentropy", "mse"])
    history = model.fit(**DATA, epochs=1)
    assert int(model.optimizer.iterations.numpy()) == 8
    assert (model.optimizer is adam) == (history.best == "categorical_crossentropy")


def test_a_list_of_losses_for_several_outputs_is_one_for_each():
    x = keras.Input((5,))
    model = keras.Model(x, [layers.Dense(3, activation="softmax", name="a")(x), layers.Dense(1, name="b")(x)])
    model.compile("sgd", ["categorical_crossentropy", "mse"], loss_weights=[1.0, 0.5])
    targets = [Y, X[:, :1]]
    assert set(model.fit(X, targets, verbose=0).history) == {"loss", "a_loss", "b_loss"}
    model.compile(["sgd", "adam"], ["categorical_crossentropy", "mse"], loss_weights={"a": 2.0, "b": 0.5})
    history = model.fit(X, targets, verbose=0).history
    assert {f"{name}/{key}" for name in ("sgd", "adam") for key in ("loss", "a_loss", "b_loss")} < set(history)
    assert history["sgd/loss"][0] == pytest.approx(2 * history["sgd/a_loss"][0] + 0.5 * history["sgd/b_loss"][0])
    model.compile(["sgd", "adam"], ["categorical_crossentropy", "mse"], loss_weights=[[1, 0.5], 0.5])
    history = model.fit(X, targets, verbose=0).history
    assert history["sgd/loss"][0] == pytest.approx(history["sgd/a_loss"][0] + 0.5 * history["sgd/b_loss"][0])
    assert history["adam/loss"][0] == pytest.approx(history["adam/a_loss"][0] + history["adam/b_loss"][0])


def test_a_list_of_one_loss_is_that_loss_and_a_list_of_one_optimizer_a_comparison_of_one():
    assert set(compared("sgd", ["mse"]).fit(**DATA).history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    history = compared(["sgd"], ["mse"]).fit(**DATA)
    assert history.best == "sgd" and history.history["sgd/loss"] == history.history["loss"]


@pytest.mark.parametrize(
    ("optimizer", "loss", "names"),
    [
        (["adam", "adam", optimizers.Adam(1e-4), "sgd"], "mse", ["adam", "adam_1", "adam_2", "sgd"]),
        ([optimizers.RMSprop(), optimizers.AdamW()], "mse", ["rmsprop", "adamw"]),
        ([optimizers.SGD(name="slow"), optimizers.SGD(name="a/b")], "mse", ["slow", "a_b"]),
        (("sgd", optimizers.Nadam), ["mse", "mae"], ["sgd+mse", "nadam+mae"]),
        ("adam", ["mse", "mse", losses.MeanSquaredError], ["mse", "mse_1", "mean_squared_error"]),
        ("adam", [["mse"], losses.Huber(name="h")], ["mse", "h"]),
    ],
)
def test_names_of_replicas(optimizer, loss, names):
    model = network()
    model.compile(copy.deepcopy(optimizer), loss)
    assert model.fit(**DATA).replicas == names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimizer": []}, "empty list"),
        ({"optimizer": ["sgd", None]}, "None in place 1"),
        ({"optimizer": ["sgd", "adm"]}, "did you mean 'adam'"),
        ({"optimizer": ["sgd", 3]}, "optimizer is given by name"),
        ({"optimizer": [optimizers.SGD()] * 2}, "of its own, got 'sgd"),
        ({"optimizer": ["sgd", "adam"], "loss_weights": [1.0]}, "one number for each, got \\[1.0\\]"),
        ({"optimizer": ["sgd", "adam"], "loss_weights": 0.5}, "one number for each, got 0.5"),
        ({"optimizer": ["sgd", "adam"], "loss_weights": [1, "2"]}, "finite number, got '2' for 'adam'"),
        ({"optimizer": ["sgd", "adam"], "loss_weights": [1, np.nan]}, "finite number, got nan"),
        ({"optimizer": ["sgd", "adam"], "loss": ["mse", "mae", "mse"]}, "2 optimizers and 3 losses"),
        ({"loss": ["mse", None]}, "a loss for each replica, got None"),
        ({"loss": ["mse", "mea"]}, "did you mean"),
        ({"loss": ["mse", ["mae", "mse"]]}, "a loss for each replica"),
        ({"optimizer": ["sgd", "adam"], "metrics": ["accurcy"]}, "did you mean"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_changes(arguments, message):
    model = compared("sgd")
    before = dict(vars(model))
    with pytest.raises(ValueError, match=message):
        model.compile(**{"optimizer": "sgd", "loss": "mse", **arguments})
    after = vars(model)
    assert all(after[name] is value for name, value in before.items()) and len(after) == len(before)


def test_a_replica_that_cannot_work_is_found_before_any_is_trained():
    model = compared("sgd", ["categorical_crossentropy", "sparse_categorical_crossentropy"])
    before = weights_of(model)
    with pytest.raises(ValueError, match="shape"):
        model.fit(**DATA)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert int(model.optimizer.iterations.numpy()) == 0
    used = optimizers.Adam()
    alone(used, epochs=1)
    model = compared(["sgd", used])
    before = weights_of(model)
    with pytest.raises(ValueError, match="other variables"):
        model.fit(**DATA)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


# ---------------------------------------------------------------- callbacks


def test_early_stopping_acts_on_each_replica_and_restores_its_best_weights(capsys):
    stopping = callbacks.EarlyStopping(patience=1, restore_best_weights=True, verbose=1)
    wild, calm = optimizers.SGD(3.0, name="wild"), optimizers.SGD(0.05, name="calm")
    model = compared([wild, calm])
    history = model.fit(**DATA, epochs=8, callbacks=[stopping])
    assert "\nwild: The model has the weights of the best epoch" in capsys.readouterr().out
    assert stopping.replica is None and stopping.model is model
    kept = callbacks.EarlyStopping(patience=1, restore_best_weights=True)
    data = DATA | {"callbacks": [kept]}
    single, values = alone(optimizers.SGD(3.0), epochs=8, data=data)
    assert history.history["wild/val_loss"] == values["val_loss"] and len(values["val_loss"]) < 8
    stopped_at = kept.stopped_epoch
    single, values = alone(optimizers.SGD(0.05), epochs=8, data=data)
    assert history.history["calm/val_loss"] == values["val_loss"]
    assert len(history.epoch) == max(stopped_at + 1, len(values["loss"]))
    assert history.best == "calm" and stopping.best == min(values["val_loss"])
    assert_same_weights(model, single)


def test_the_winner_is_judged_by_the_weights_it_ends_with():
    """A replica whose best weights are restored counts as it then is, not as in its last epoch."""
    model = compared((optimizers.SGD(0.5, name="a"), optimizers.SGD(0.02, name="b")))
    script = iter([(0.3, 0.9), (0.8, 0.8), (0.9, 0.7)])

    def validation(values):
        a, b = next(script)
        values.update({"a/loss": a, "b/loss": b})
        return {name.replace("/", "/val_"): value for name, value in values.items() if "/" in name}

    model._comparison._as_validation = validation
    stopping = callbacks.EarlyStopping(patience=5, restore_best_weights=True)
    assert model.fit(**DATA, epochs=3, callbacks=[stopping]).best == "a"
    assert stopping.best_epoch == stopping.restored_epoch == 0


def test_learning_rates_are_scheduled_and_reduced_for_each_replica():
    rates = callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    model = compared((optimizers.SGD(0.1), optimizers.Adam(0.01)))
    history = model.fit(**DATA, epochs=2, callbacks=[rates]).history
    np.testing.assert_allclose(history["sgd/learning_rate"], [0.05, 0.025], rtol=1e-6)
    np.testing.assert_allclose(history["adam/learning_rate"], [0.005, 0.0025], rtol=1e-6)
    assert history["learning_rate"] in (history["sgd/learning_rate"], history["adam/learning_rate"])
    reducing = callbacks.ReduceLROnPlateau(patience=1, factor=0.5)
    model = compared((optimizers.SGD(5.0, name="wild"), optimizers.SGD(0.05, name="calm")))
    history = model.fit(**DATA, epochs=5, callbacks=[reducing]).history
    _, single = alone(
        optimizers.SGD(5.0), epochs=5, data=DATA | {"callbacks": [callbacks.ReduceLROnPlateau(patience=1, factor=0.5)]}
    )
    assert history["wild/learning_rate"] == single["learning_rate"] and min(single["learning_rate"]) < 5
    assert history["wild/val_loss"] == single["val_loss"]


def test_a_replica_that_diverges_rests_while_the_others_train_on():
    model = compared((optimizers.SGD(1e30, name="wild"), "adam"))
    with np.errstate(all="ignore"):
        history = model.fit(**DATA, epochs=3, callbacks=[callbacks.TerminateOnNaN()])
    assert history.best == "adam" and len(history.history["adam/loss"]) == 3 == len(history.history["loss"])
    assert len(history.history["wild/loss"]) == 1
    _, single = alone("adam")
    assert history.history["adam/val_loss"] == single["val_loss"]
    model = compared((optimizers.SGD(1e30), optimizers.SGD(1e30)))
    with np.errstate(all="ignore"):
        history = model.fit(**DATA, epochs=3, callbacks=[callbacks.TerminateOnNaN()])
    assert history.epoch == [0] and model.stop_training


def test_other_callbacks_are_called_once_with_all_values_and_the_leader(tmp_path):
    seen = []

    class Watching(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            leader = min(("sgd", "adam"), key=lambda name: logs[f"{name}/val_loss"])
            assert logs["val_loss"] == logs[f"{leader}/val_loss"] and logs["loss"] == logs[f"{leader}/loss"]
            assert type(self.model.optimizer).__name__.lower() == leader
            value = self.model.evaluate(*DATA["validation_data"], batch_size=16, verbose=0)[0]
            assert value == pytest.approx(logs["val_loss"], rel=1e-6)
            logs["extra"] = epoch

        def on_train_batch_end(self, batch, logs=None):
            seen.append(set(logs))

        def on_train_end(self, logs=None):
            seen.append(self.model.history.best)

    path = str(tmp_path / "best.keras")
    saving = callbacks.ModelCheckpoint(path, save_best_only=True)
    log = callbacks.CSVLogger(tmp_path / "log.csv")
    model = compared((optimizers.SGD(0.01), optimizers.Adam(0.05)))
    history = model.fit(**DATA, epochs=3, callbacks=[Watching(), saving, log])
    names = {f"{prefix}{name}" for prefix in ("", "sgd/", "adam/") for name in ("loss", "accuracy")}
    assert seen[:-1] == [names] * 12 and seen[-1] == history.best
    assert history.history["extra"] == [0, 1, 2]
    best = min(min(history.history[f"{name}/val_loss"]) for name in ("sgd", "adam"))
    assert saving.best == best
    loaded = keras.saving.load_model(path)
    assert loaded._comparison is None and int(loaded.optimizer.iterations.numpy()) > 0
    assert loaded.evaluate(*DATA["validation_data"], batch_size=16, verbose=0)[0] == pytest.approx(best, rel=1e-6)
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["adam/val_loss"]) for row in rows] == history.history["adam/val_loss"]


def test_a_callback_that_stops_the_model_stops_all():
    def stop(epoch, logs):
        model.stop_training = epoch == 1

    model = compared()
    history = model.fit(**DATA, epochs=5, callbacks=[callbacks.LambdaCallback(on_epoch_end=stop)])
    assert [len(history.history[f"{name}/loss"]) for name in ("sgd", "rmsprop")] == [2, 2]


def test_the_progress_bar_shows_the_losses_of_the_replicas(capsys):
    compared().fit(**DATA | {"verbose": 2}, epochs=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[2] == "Epoch 2/2"
    names = [part.split(":")[0] for part in lines[3].split(" - ")[3:]]
    assert names == ["sgd/loss", "sgd/val_loss", "rmsprop/loss", "rmsprop/val_loss"]


def test_validation_now_and_then_and_never():
    model = compared((optimizers.SGD(1e-5), optimizers.Adam(0.02)))
    history = model.fit(**DATA, epochs=5, validation_freq=2)
    assert [len(history.history[f"adam/{name}"]) for name in ("loss", "val_loss")] == [5, 2]
    assert history.best == "adam"
    model = compared((optimizers.SGD(1e-5), optimizers.Adam(0.02)))
    history = model.fit(X, Y, epochs=2, verbose=0)
    assert history.best == "adam" and "adam/val_loss" not in history.history


# ---------------------------------------------------------------- beside fit


def test_evaluate_and_predict_before_fit_see_the_common_model():
    model = compared()
    plain = network()
    plain.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    assert model.evaluate(X, Y, verbose=0) == plain.evaluate(X, Y, verbose=0)
    np.testing.assert_array_equal(model.predict(X, verbose=0), plain.predict(X, verbose=0))
    assert model.test_on_batch(X, Y) == plain.test_on_batch(X, Y)
    assert model.fit(**DATA, epochs=0).history == {} and model._comparison is not None


def test_single_batches_train_all_replicas_and_fit_goes_on_with_them():
    names = ("sgd", "adam")
    model = compared(names)
    batches = [slice(0, 20), slice(20, 40)]
    logs = [model.train_on_batch(X[part], Y[part], return_dict=True) for part in batches]
    for name in names:
        single = network()
        single.compile(name, "categorical_crossentropy", metrics=["accuracy"])
        for part, values in zip(batches, logs, strict=True):
            expected = single.train_on_batch(X[part], Y[part], return_dict=True)
            assert {key: values[f"{name}/{key}"] for key in expected} == expected
    leader = min(names, key=lambda name: logs[-1][f"{name}/loss"])
    assert type(model.optimizer).__name__.lower() == leader and logs[-1]["loss"] == logs[-1][f"{leader}/loss"]
    assert len(model.train_on_batch(X[:20], Y[:20])) == 2
    model.fit(**DATA, epochs=1)
    assert int(model.optimizer.iterations.numpy()) == 7


@pytest.mark.parametrize(
    "arguments",
    [
        {"optimizer": (optimizers.SGD(0.1), "adam"), "loss_weights": [1.0, 0.5]},
        {"optimizer": optimizers.SGD(0.1), "loss": ["mse", losses.Huber(name="adam")]},
    ],
    ids=["optimizers", "losses"],
)
def test_a_model_saved_before_training_is_a_comparison_when_loaded(tmp_path, arguments):
    model = compared(**arguments)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    histories = []
    for one in (model, loaded):
        keras.utils.set_random_seed(7)
        one.layers[2].seed_generator.state = (5, 0)
        histories.append(one.fit(**DATA, epochs=2).history)
    assert histories[0] == histories[1] and "adam/val_loss" in histories[0]


@pytest.mark.parametrize("how", ["pickle", "deepcopy"])
def test_a_copy_in_the_middle_of_a_comparison_goes_on_alike(how):
    model = compared()
    model.train_on_batch(X[:20], Y[:20])
    other = pickle.loads(pickle.dumps(model)) if how == "pickle" else copy.deepcopy(model)
    histories = []
    for one in (model, other):
        keras.utils.set_random_seed(7)
        histories.append(one.fit(**DATA, epochs=2).history)
    assert histories[0] == histories[1]
    assert_same_weights(model, other)


class Doubling(keras.Model):
    """A model with a training step of its own."""

    def __init__(self):
        super().__init__()
        self.head = layers.Dense(3, activation="softmax")

    def call(self, x):
        return self.head(x)

    def train_step(self, data):
        Trainer.train_step(self, data)
        return Trainer.train_step(self, data)


def test_a_training_step_of_the_users():
    keras.utils.set_random_seed(0)
    model = Doubling()
    with pytest.raises(ValueError, match="Doubling overrides"):
        model.compile(["sgd", "adam"], "categorical_crossentropy", loss_weights=[1, 2])
    model.compile(["sgd", "adam"], "categorical_crossentropy")
    with pytest.raises(ValueError, match="build it first"):
        model.fit(**DATA)
    model = Doubling()
    model(ops.zeros((1, 5)))
    model.compile(["sgd", "adam"], "categorical_crossentropy")
    history = model.fit(**DATA)
    assert int(model.optimizer.iterations.numpy()) == 8 and "adam/val_loss" in history.history


def test_a_training_step_has_to_tell_the_loss():
    class Silent(keras.Sequential):
        def train_step(self, data):
            return {"cost": super().train_step(data)["loss"]}

    model = Silent([keras.Input((5,)), layers.Dense(3, activation="softmax")])
    model.compile(["sgd", "adam"], "categorical_crossentropy")
    with pytest.raises(ValueError, match="got \\['cost'\\]; let train_step"):
        model.fit(X, Y, verbose=0)


def test_a_test_step_of_the_users_is_for_validation_alone():
    class Other(keras.Sequential):
        def test_step(self, data):
            x, y, _ = data  # as only the validation data are
            return super().test_step((x, y))

    keras.utils.set_random_seed(0)
    model = Other([layers.Dense(3, activation="softmax")])
    model.compile(["sgd", "adam"], "categorical_crossentropy")
    data = DATA | {"validation_data": (X[60:], Y[60:], np.ones(30, "f4"))}
    assert "adam/val_loss" in model.fit(**data).history


def test_metrics_that_are_objects_count_for_each_replica():
    metric = keras.metrics.AUC(name="area")
    model = compared((optimizers.SGD(1e-6), optimizers.Adam(0.05)), metrics=[metric])
    history = model.fit(**DATA, epochs=2).history
    for name, optimizer in (("sgd", optimizers.SGD(1e-6)), ("adam", optimizers.Adam(0.05))):
        _, single = alone(optimizer, epochs=2, metrics=[keras.metrics.AUC(name="area")])
        assert history[f"{name}/val_area"] == single["val_area"]


def test_averaged_weights_of_each_replica_are_put_in_their_place():
    model = compared((optimizers.SGD(0.1, use_ema=True), optimizers.SGD(1e-6)))
    model.fit(**DATA, epochs=2)
    single, _ = alone(optimizers.SGD(0.1, use_ema=True), epochs=2)
    assert_same_weights(model, single)


def test_an_interrupted_comparison_goes_on():
    class Interrupting(callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 2:
                raise KeyboardInterrupt

    model = compared(("sgd", "adam"))
    with pytest.raises(KeyboardInterrupt):
        model.fit(**DATA, callbacks=[Interrupting()])
    history = model.fit(**DATA, epochs=2)
    assert history.best in ("sgd", "adam") and int(model.optimizer.iterations.numpy()) == 2 + 8


# ---------------------------------------------------------------- replicas are models of the same layers


def test_what_refers_to_the_layers_means_them_in_every_replica():
    """Functions hold the layers themselves; each replica has its values in them when it is its turn."""

    def run(optimizer, where):
        model = network()
        kernel = model.layers[0].kernel
        loss = "categorical_crossentropy"
        if where == "added":
            model.add_loss(lambda: 0.1 * ops.sum(ops.square(kernel)))
        else:
            loss = lambda y, p: losses.categorical_crossentropy(y, p) + 0.1 * ops.sum(ops.square(kernel))
        model.compile(optimizer, loss)
        return model, model.fit(**DATA, epochs=2)

    for where in ("added", "compiled"):
        model, history = run(["sgd", "adam"], where)
        singles = {name: run(name, where) for name in history.replicas}
        for name, (_, single) in singles.items():
            assert history.history[f"{name}/val_loss"] == single.history["val_loss"]
        assert_same_weights(model, singles[history.best][0])


def test_a_loss_of_tensors_of_the_graph():
    def run(optimizer):
        keras.utils.set_random_seed(1)
        entrance = keras.Input((5,))
        code = layers.Dense(4)(entrance)
        model = keras.Model(entrance, layers.Dense(3, activation="softmax")(code))
        loss = lambda y, p: losses.categorical_crossentropy(y, p) + ops.sum(ops.square(code), axis=-1)
        model.compile(optimizer, loss)
        return model, model.fit(**DATA, epochs=2)

    model, history = run(["sgd", "adam"])
    for name in history.replicas:
        single, alone_ = run(name)
        assert history.history[f"{name}/loss"] == alone_.history["loss"]
        if name == history.best:
            assert_same_weights(model, single)
            for part in (slice(0, 60), slice(0, 7)):  # the value of the tensor is that of this very call
                assert model.evaluate(X[part], Y[part], verbose=0) == single.evaluate(X[part], Y[part], verbose=0)


def test_attributes_of_the_model_are_common_to_the_replicas():
    class Annealed(keras.Model):
        def __init__(self):
            super().__init__()
            self.head, self.strength, self.steps = layers.Dense(3, activation="softmax"), 0.0, 0

        def call(self, x, training=False):
            self.steps += bool(training)
            outputs = self.head(x)
            self.add_loss(self.strength * ops.mean(ops.square(self.head.kernel)))
            return outputs

    def run(optimizer):
        keras.utils.set_random_seed(1)
        model = Annealed()
        model(ops.zeros((1, 5)))
        model.gone = 1
        model.compile(optimizer, "categorical_crossentropy")
        del model.gone

        def strengthen(epoch, logs):
            model.strength = float(epoch + 1)

        anneal = callbacks.LambdaCallback(on_epoch_begin=strengthen)
        return model, model.fit(**DATA, epochs=3, callbacks=[anneal]).history

    model, history = run(["sgd", "adam"])
    for name in ("sgd", "adam"):
        assert history[f"{name}/loss"] == run(name)[1]["loss"]
    assert (model.steps, model.strength) == (2 * 12, 3.0) and not hasattr(model, "gone")


def test_a_callback_of_a_replica_has_a_model_of_its_own():
    seen = {}

    class Own(callbacks.Callback):
        per_replica = True

        def on_train_batch_end(self, batch, logs=None):
            kind = type(self.model.optimizer).__name__.lower()
            assert kind == self.replica and self.model is not model and type(self.model) is type(model)
            seen.setdefault(self.replica, self.model)
            assert seen[self.replica] is self.model
            assert self.model.layers[0] is model.layers[0]
            if kind == "sgd" and batch == 1:
                self.model.stop_training = True

    model = compared(("sgd", "adam"))
    history = model.fit(**DATA, epochs=2, callbacks=[Own()]).history
    assert set(seen) == {"sgd", "adam"} and seen["sgd"].stop_training and not model.stop_training
    assert len(history["sgd/loss"]) == 1 and len(history["adam/loss"]) == 2


def test_bad_data_after_a_single_batch_leaves_every_replica_as_it_was():
    def run(interrupted):
        model = compared(("sgd", "adam"))
        model.train_on_batch(X[:20], Y[:20])
        keras.utils.set_random_seed(3)
        if interrupted:
            for bad in ({"x": X[:, :3], "y": Y}, {"x": X, "y": Y, "validation_data": (X[:, :2], Y)}):
                with pytest.raises(ValueError):
                    model.fit(**bad, verbose=0)
            keras.utils.set_random_seed(3)
        return model, model.fit(**DATA, epochs=2).history

    (first, before), (second, after) = run(False), run(True)
    assert before == after
    assert_same_weights(first, second)
