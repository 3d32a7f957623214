"""Arguments of wrong type, sign and size: one sentence, before anything has changed."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import minikeras as keras
from minikeras import callbacks, layers
from minikeras.seeds import global_generator

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 4)).astype("f4")
Y = np.arange(24) % 3
NAN, INF = math.nan, math.inf


def stack(*first):
    return keras.Sequential(
        [
            *first,
            layers.Dense(6, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.2),
            layers.Dense(3, activation="softmax"),
        ]
    )


def compiled(model):
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def built():
    return compiled(stack(keras.Input((4,))))


def trained():
    model = built()
    model.fit(X, Y, verbose=0, validation_data=(X, Y))
    return model


def unbuilt():
    return compiled(stack())


MODELS = {"built": built, "trained": trained, "unbuilt": unbuilt}


def files_in(folder):
    return {path.relative_to(folder): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def state_of(model, folder):
    """Everything that a call may change, in a form that `==` compares."""
    contents = model._contents()
    walked = contents.layers
    optimizer = model.optimizer
    metrics = [variable for metric in model.metrics for variable in metric.variables]
    slots = [] if optimizer is None or not optimizer.built else optimizer.variables
    return {
        "weights": [(v.path, np.array(v.numpy()).tobytes()) for v in model.weights],
        "built": [layer.built for layer in walked],
        "optimizer": (id(optimizer), optimizer and optimizer.built, optimizer and int(optimizer.iterations)),
        "slots": [np.array(v.numpy()).tobytes() for v in slots],
        "rate": None if optimizer is None else float(optimizer.learning_rate),
        "metrics": [np.array(v.numpy()).tobytes() for v in metrics],
        "names": [metric.name for metric in model.metrics],
        "resolved": (model._compiled_loss and model._compiled_loss._outputs, model._compiled_metrics._outputs),
        "compiled": (id(model.loss), id(model._compiled_loss), id(model._compiled_metrics), id(model._comparison)),
        "streams": [stream.state for stream in [global_generator(), *contents.streams]],
        "numpy": [part.tobytes() if isinstance(part, np.ndarray) else part for part in np.random.get_state()],
        "python": random.getstate(),
        "history": (id(model.history), model.history and str(model.history.history), model.stop_training),
        "files": files_in(folder),
    }


def assert_refused(model, action, pattern, folder, error=(ValueError, TypeError)):
    (folder / "log.csv").write_text("kept\n")
    before = state_of(model, folder)
    with pytest.raises(error, match=pattern) as caught:
        action(model, folder)
    message = str(caught.value)
    assert message.endswith((".", "?")) and "\n" not in message, message
    after = state_of(model, folder)
    assert [name for name in before if before[name] != after[name]] == []


def yielding(*batches):
    return lambda: iter(batches)


def with_at(y, place, value):
    y = y.astype("f4").copy()
    y[place] = value
    return y


WRONG_STEPS = [0, -1, 2.5, "3", True, NAN, [3]]
FIT = {
    **{f"batch_size={v}": (dict(batch_size=v), "^batch_size must be") for v in (3.5, 2.0, "32", 0, -1, True, NAN, [4])},
    **{f"epochs={v}": (dict(epochs=v), "^epochs must be") for v in (-1, 1.5, "a", None, True, NAN)},
    **{f"initial_epoch={v}": (dict(initial_epoch=v), "^initial_epoch must be") for v in (-1, 1.5, "a", None, True)},
    **{f"steps_per_epoch={v}": (dict(steps_per_epoch=v), "^steps_per_epoch must be") for v in WRONG_STEPS},
    **{
        f"validation_steps={v}": (dict(validation_steps=v, validation_data=(X, Y)), "^validation_steps must be")
        for v in WRONG_STEPS
    },
    **{
        f"validation_batch_size={v}": (dict(validation_batch_size=v), "^validation_batch_size must be")
        for v in (0, -1, 2.5, "3")
    },
    **{
        f"validation_freq={v}": (dict(validation_freq=v, validation_data=(X, Y)), "validation_freq must be")
        for v in (0, -1, "a", 1.5, None, [0], [1, -2], [1, "a"], (1.5,), True)
    },
    **{
        f"validation_split={v}": (dict(validation_split=v), "^validation_split must be")
        for v in ("a", 1.0, 1.5, -0.5, NAN, True, [0.5])
    },
    **{f"verbose={v}": (dict(verbose=v), "^verbose must be") for v in ("x", 3, -1, None, 1.5, [1])},
    **{f"shuffle={v}": (dict(shuffle=v), "^shuffle must be") for v in ("abc", "Batch", 1.5, [True])},
    **{
        f"class_weight={v}": (dict(class_weight=v), "class_weight")
        for v in ([1, 2, 3], 5, "balanced", {3: 1.0}, {-1: 1.0}, {"a": 1.0}, {0: NAN}, {0: INF}, {0: "a"}, {0.5: 1.0})
    },
    "class_weight={0: None}": (dict(class_weight={0: None}), r"^class_weight\[0\] must be a number, got None"),
    "both weights": (dict(class_weight={0: 1.0}, sample_weight=np.ones(24)), "cannot be combined"),
    "weights' length": (dict(sample_weight=np.ones(3)), "sample_weight 3"),
    "weights' shape": (dict(sample_weight=np.ones((24, 7))), "weight"),
    "nan weight": (dict(sample_weight=with_at(np.ones(24), 5, NAN)), "got nan for sample 5"),
    "infinite weight": (dict(sample_weight=with_at(np.ones(24), 6, INF)), "got inf for sample 6"),
    "weights of text": (dict(sample_weight=["a"] * 24), "sample_weight must hold numbers"),
    "labels' length": (dict(y=Y[:23]), "same number of samples"),
    "labels out of range": (dict(y=with_at(Y, 20, 3).astype(int)), "between 0 and 2 for 3 classes"),
    "labels out of range, late": (dict(y=with_at(Y, 20, 3).astype(int), batch_size=4), "between 0 and 2 for 3 classes"),
    "negative label": (dict(y=with_at(Y, 20, -1).astype(int), batch_size=4), "^A label must .* -1"),
    "half a label": (dict(y=with_at(Y, 20, 0.5), batch_size=4), "whole number of its class, got 0.5"),
    "nan label": (dict(y=with_at(Y, 20, NAN), batch_size=4), "finite numbers, got nan in sample 20"),
    "labels of text": (dict(y=["a"] * 24), "y must hold numbers"),
    "labels' shape": (dict(y=np.eye(3)[Y]), "categorical_crossentropy"),
    "no labels": (dict(y=None), "got no targets"),
    "labels of other outputs": (dict(y={"other": Y}), "'other'"),
    "two labels for one output": (dict(y=[Y, Y]), "parts for the 1 outputs"),
    "x of text": (dict(x=[["a"] * 4] * 24), "x must hold numbers"),
    "x of objects": (dict(x=np.array([[None] * 4] * 24)), "x must hold numbers"),
    "ragged x": (dict(x=[[1, 2], [3]] * 12), "unequal parts"),
    "x without a batch": (dict(x=np.float32(3)), "batch axis"),
    "x a string": (dict(x="abc"), "x must hold numbers"),
    "x empty": (dict(x=X[:0], y=Y[:0]), "empty"),
    "x of other features": (dict(x=X[:, :3]), "axis -1"),
    "x missing": (dict(x=None), "x is missing"),
    "unknown argument": (dict(epoch=3), r"unknown arguments \['epoch'\]"),
    "workers": (dict(x=yielding((X, Y)), y=None, workers=-1), "^workers must be"),
    "workers, a part": (dict(x=yielding((X, Y)), y=None, workers=1.5), "^workers must be"),
    "queue": (dict(x=yielding((X, Y)), y=None, max_queue_size=-1), "^max_queue_size must be"),
    "queue, a part": (dict(x=yielding((X, Y)), y=None, max_queue_size=2.5), "^max_queue_size must be"),
    "y beside a generator": (dict(x=yielding((X, Y))), "brings its own batches"),
    "weights beside a generator": (dict(x=yielding((X, Y)), y=None, sample_weight=np.ones(24)), "brings its own"),
    "split of a generator": (dict(x=yielding((X, Y)), y=None, validation_split=0.5), "works on arrays"),
    "generator of nothing": (dict(x=yielding(), y=None), "ended before the first batch"),
    "generator of None": (dict(x=yielding(None), y=None), "got None from the"),
    "generator of text": (dict(x=yielding("abc"), y=None), "x must hold numbers"),
    "generator of four": (dict(x=yielding((X, Y, Y, Y)), y=None), "tuple of 4"),
    "generator of no labels": (dict(x=yielding((X,)), y=None), "got no targets"),
    "generator of bad labels": (dict(x=yielding((X, Y + 1)), y=None), "between 0 and 2 for 3 classes"),
    "generator of half labels": (dict(x=yielding((X, Y + 0.5)), y=None), "whole number of its class"),
    "generator of nan weights": (dict(x=yielding((X, Y, with_at(Y, 2, NAN))), y=None), "got nan for sample 2"),
    "generator with a class too many": (dict(x=yielding((X, np.eye(3)[Y])), y=None), "categorical_crossentropy"),
    "validation: x's features": (dict(validation_data=(X[:, :3], Y)), "axis -1"),
    "validation: x's rank": (dict(validation_data=(X[:, :, None, None], Y)), "shape"),
    "validation: lengths": (dict(validation_data=(X, Y[:3])), "same number of samples"),
    "validation: labels": (dict(validation_data=(X, Y + 1)), "between 0 and 2 for 3 classes"),
    "validation: half a label": (dict(validation_data=(X, Y + 0.5)), "whole number of its class"),
    "validation: labels' shape": (dict(validation_data=(X, np.eye(3)[Y])), "categorical_crossentropy"),
    "validation: nan label": (dict(validation_data=(X, with_at(Y, 1, NAN))), "finite numbers"),
    "validation: text": (dict(validation_data=(X, ["a"] * 24)), "must hold numbers"),
    "validation: weights": (dict(validation_data=(X, Y, with_at(Y, 1, NAN))), "got nan for sample 1"),
    "validation: weights' length": (dict(validation_data=(X, Y, np.ones(3))), "same number of samples"),
    "validation: no labels": (dict(validation_data=(X,)), "got no targets"),
    "validation: outputs": (dict(validation_data=(X, [Y, Y])), "parts for the 1 outputs"),
    "validation: empty": (dict(validation_data=(X[:0], Y[:0])), "empty"),
    "validation: four parts": (dict(validation_data=(X, Y, Y, Y)), "tuple of 4"),
    "validation: number": (dict(validation_data=5), "must have a batch axis"),
    "validation: generator of nothing": (dict(validation_data=yielding()), "ended before its first batch"),
    "validation: generator of None": (dict(validation_data=yielding(None)), "got None from the"),
    "validation: generator of bad labels": (dict(validation_data=yielding((X, Y + 1))), "between 0 and 2"),
    "validation: generator of other features": (dict(validation_data=yielding((X[:, :3], Y))), "axis -1"),
    "callbacks: a string": (dict(callbacks="early"), "Callback"),
    "callbacks: a class": (dict(callbacks=[callbacks.History]), "Callback"),
    "callbacks: a number": (dict(callbacks=[5]), "Callback"),
}


# a model that is not built yet takes any number of features
CASES = [(name, kind) for name in FIT for kind in MODELS if (name, kind) != ("x of other features", "unbuilt")]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_fit_refuses_and_changes_nothing(name, kind, tmp_path):
    arguments, pattern = FIT[name]
    called = {key: value() if callable(value) else value for key, value in arguments.items()}

    def action(model, folder):
        logger = callbacks.CSVLogger(folder / "log.csv")
        model.fit(**{"x": X, "y": Y, "verbose": 0, "callbacks": [logger], **called})

    model = MODELS[kind]()
    assert_refused(model, action, pattern, tmp_path)
    model.fit(X, Y, verbose=0)  # still usable, and it learned nothing of the shapes of what was refused
    assert set(model.evaluate(X, Y, verbose=0, return_dict=True)) == {"loss", "accuracy"}


WRONG_STEP_COUNTS = {f"steps={v}": (dict(steps=v), "^steps must be") for v in WRONG_STEPS}
TEST = {
    **WRONG_STEP_COUNTS,
    **{f"batch_size={v}": (dict(batch_size=v), "^batch_size must be") for v in (3.5, "32", 0, -1, True)},
    **{f"verbose={v}": (dict(verbose=v), "^verbose must be") for v in ("x", 3, -1)},
    "no x": (dict(x=None), "x is missing"),
    "empty": (dict(x=X[:0], y=Y[:0]), "empty"),
    "lengths": (dict(y=Y[:3]), "same number of samples"),
    "features": (dict(x=X[:, :3]), "axis -1"),
    "labels out of range": (dict(y=Y + 1), "between 0 and 2 for 3 classes"),
    "half a label": (dict(y=Y + 0.5), "whole number of its class"),
    "labels' shape": (dict(y=np.eye(3)[Y]), "categorical_crossentropy"),
    "no labels": (dict(y=None), "got no targets"),
    "labels of other outputs": (dict(y={"other": Y}), "'other'"),
    "nan weight": (dict(sample_weight=with_at(Y, 3, NAN)), "got nan for sample 3"),
    "weights' length": (dict(sample_weight=np.ones(3)), "same number of samples"),
    "unknown argument": (dict(step=3), "unknown arguments"),
    "callbacks": (dict(callbacks=5), "Callback"),
    "generator of nothing": (dict(x=yielding(), y=None), "ended before the first batch"),
    "generator of None": (dict(x=yielding(None), y=None), "got None from the"),
    "generator of bad labels": (dict(x=yielding((X, Y + 1)), y=None), "between 0 and 2 for 3 classes"),
}


@pytest.mark.parametrize("kind", ["built", "trained"])
@pytest.mark.parametrize("name", TEST)
def test_evaluate_refuses_and_changes_nothing(name, kind, tmp_path):
    arguments, pattern = TEST[name]
    called = {key: value() if callable(value) else value for key, value in arguments.items()}
    model = MODELS[kind]()
    assert_refused(model, lambda m, folder: m.evaluate(**{"x": X, "y": Y, "verbose": 0, **called}), pattern, tmp_path)


PREDICT = {
    **WRONG_STEP_COUNTS,
    **{f"batch_size={v}": (dict(batch_size=v), "^batch_size must be") for v in (3.5, "32", 0, -1, True)},
    "no x": (dict(x=None), "x is missing"),
    "empty": (dict(x=X[:0]), "empty"),
    "text": (dict(x="abc"), "x must hold numbers"),
    "features": (dict(x=X[:, :3]), "axis -1"),
    "unknown argument": (dict(step=3), "unknown arguments"),
    "generator of nothing": (dict(x=yielding()), "ended before the first batch"),
    "generator of None": (dict(x=yielding(None)), "got None from the"),
}


@pytest.mark.parametrize("kind", ["built", "trained"])
@pytest.mark.parametrize("name", PREDICT)
def test_predict_refuses_and_changes_nothing(name, kind, tmp_path):
    arguments, pattern = PREDICT[name]
    called = {key: value() if callable(value) else value for key, value in arguments.items()}
    model = MODELS[kind]()
    assert_refused(model, lambda m, folder: m.predict(**{"x": X, "verbose": 0, **called}), pattern, tmp_path)


BATCH = {
    "no x": (dict(x=None), "x is missing"),
    "empty": (dict(x=X[:0], y=Y[:0]), "empty"),
    "text": (dict(x="abc"), "x must hold numbers"),
    "lengths": (dict(y=Y[:3]), "same number of samples"),
    "features": (dict(x=X[:, :3]), "axis -1"),
    "labels out of range": (dict(y=Y + 1), "between 0 and 2 for 3 classes"),
    "half a label": (dict(y=Y + 0.5), "whole number of its class"),
    "labels' shape": (dict(y=np.eye(3)[Y]), "categorical_crossentropy"),
    "no labels": (dict(y=None), "got no targets"),
    "nan weight": (dict(sample_weight=with_at(Y, 3, NAN)), "got nan for sample 3"),
}
CLASS_WEIGHTS = {
    f"class_weight={v}": (dict(class_weight=v), "class_weight") for v in ([1, 2], {7: 1.0}, {"a": 1.0}, {0: NAN}, 5)
}


@pytest.mark.parametrize("kind", ["built", "trained"])
@pytest.mark.parametrize("method", ["train_on_batch", "test_on_batch"])
@pytest.mark.parametrize("name", [*BATCH, *CLASS_WEIGHTS])
def test_the_methods_on_a_batch_refuse_and_change_nothing(name, method, kind, tmp_path):
    arguments, pattern = {**BATCH, **CLASS_WEIGHTS}[name]
    model = MODELS[kind]()
    if name in CLASS_WEIGHTS:
        method = "train_on_batch"
    if kind == "trained":
        getattr(model, method)(X, Y)
    assert_refused(model, lambda m, folder: getattr(m, method)(**{"x": X, "y": Y, **arguments}), pattern, tmp_path)


COMPILE = {
    **{f"{name}={v}": ({name: v}, "by name") for name in ("loss", "optimizer", "metrics") for v in (5, NAN, True)},
    **{f"steps_per_execution={v}": (dict(steps_per_execution=v), "^steps_per_execution") for v in (0, -1, 1.5, "a")},
    **{f"run_eagerly={v}": (dict(run_eagerly=v), "^run_eagerly must be") for v in (5, "abc", [True])},
    **{f"jit_compile={v}": (dict(jit_compile=v), "^jit_compile must be") for v in (5, "abc", 1.5)},
    **{f"auto_scale_loss={v}": (dict(auto_scale_loss=v), "^auto_scale_loss must be") for v in (5, "abc")},
    **{f"loss_weights={v}": (dict(loss_weights=v), "loss_weights") for v in ("a", NAN, [1, 2], [NAN], {"other": 1.0})},
    "metric=": (dict(metric=["accuracy"]), r"unknown arguments \['metric'\]"),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("name", COMPILE)
def test_compile_refuses_and_changes_nothing(name, kind, tmp_path):
    arguments, pattern = COMPILE[name]
    model = MODELS[kind]()
    if kind == "unbuilt" and name in ("loss_weights=[1, 2]", "loss_weights={'other': 1.0}"):
        model.build((None, 4))  # outputs have no names before
    chosen = {"optimizer": "sgd", "loss": "sparse_categorical_crossentropy", **arguments}
    assert_refused(model, lambda m, folder: m.compile(**chosen), pattern, tmp_path)


PATHS = {
    "an unknown value": ("{val_losss}.keras", "Unknown value 'val_losss'; did you mean 'val_loss'"),
    "a place without a name": ("{}.keras", "cannot make a path"),
    "a bad format": ("{epoch:q}.keras", "cannot make a path"),
    "a float as a whole number": ("{val_loss:d}.keras", "cannot make a path"),
    "an open brace": ("{epoch.keras", "cannot make a path"),
    "a file on the way": ("log.csv/model.keras", "log.csv"),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("name", PATHS)
def test_paths_that_could_not_be_written_are_refused_before_the_first_update(name, kind, tmp_path):
    path, pattern = PATHS[name]

    def action(model, folder):
        saves = callbacks.ModelCheckpoint(folder / path)
        logs = callbacks.CSVLogger(folder / "log.csv")
        model.fit(X, Y, validation_data=(X, Y), verbose=0, callbacks=[logs, saves])

    assert_refused(MODELS[kind](), action, pattern, tmp_path, error=(ValueError, OSError))


@pytest.mark.parametrize("path", ["missing/log.csv", "."])
def test_a_log_that_could_not_be_written_is_refused_before_the_first_update(path, tmp_path):
    def action(model, folder):
        model.fit(X, Y, verbose=0, callbacks=[callbacks.CSVLogger(folder / path)])

    assert_refused(built(), action, "CSVLogger", tmp_path, error=OSError)


class Failing(keras.metrics.Metric):
    """Counts batches, and cannot compute a result."""

    def __init__(self):
        super().__init__(name="failing")
        self.batches = self.add_weight(name="batches", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.batches.assign_add(1.0)
        raise ValueError("This metric fails.")

    def result(self):
        return self.batches


@pytest.mark.parametrize("first", [(), (keras.Input((4,)),)], ids=["unbuilt", "built"])
def test_a_metric_that_fails_leaves_the_weights(first, tmp_path):
    model = stack(*first)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=[Failing()])
    for action in (lambda m, folder: m.fit(X, Y, verbose=0), lambda m, folder: m.train_on_batch(X, Y)):
        assert_refused(model, action, "This metric fails", tmp_path)


def test_a_model_of_several_outputs(tmp_path):
    i = keras.Input((4,))
    model = keras.Model(i, [layers.Dense(3, activation="softmax", name="kind")(i), layers.Dense(2, name="size")(i)])
    model.compile("adam", {"kind": "sparse_categorical_crossentropy", "size": "mse"}, metrics={"kind": ["accuracy"]})
    good = {"kind": Y, "size": X[:, :2]}
    for bad, pattern in [
        ({**good, "kind": Y + 1}, "between 0 and 2"),
        ({**good, "size": X[:, :3]}, "shape"),
        ({"kind": Y, "sise": X[:, :2]}, "sise"),
        ([Y], "1 part"),
    ]:
        assert_refused(model, lambda m, folder, y=bad: m.fit(X, y, verbose=0), pattern, tmp_path)
        fit = lambda m, folder, y=bad: m.fit(X, good, validation_data=(X, y), verbose=0)
        assert_refused(model, fit, pattern, tmp_path)
    with pytest.raises(ValueError, match="single output"):
        model.fit(X, good, class_weight={0: 1.0}, verbose=0)
    assert model.fit(X, good, validation_data=(X, good), verbose=0).history["val_kind_accuracy"]


def test_the_first_validation_batch_is_looked_at_and_not_lost():
    model = built()
    seen = []

    class Counts(keras.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            seen.append(batch)

    batches = iter([(X[i : i + 4], Y[i : i + 4]) for i in range(0, 24, 4)])
    expected = [model.evaluate(X[i : i + 12], Y[i : i + 12], verbose=0)[0] for i in (0, 12)]
    model.optimizer.learning_rate = 0.0
    got = model.fit(X, Y, epochs=2, verbose=0, validation_data=batches, validation_steps=3, callbacks=[Counts()])
    assert seen == [0, 1, 2] * 2
    momentum = model.layers[1]
    assert momentum.moving_mean.numpy().any()  # the only thing that has changed
    assert len(got.history["val_loss"]) == 2 and np.isfinite([*expected, *got.history["val_loss"]]).all()
    with pytest.raises(StopIteration):
        next(batches)


@pytest.mark.parametrize("frozen", ["first", "last"])
def test_layers_that_are_frozen_stay_in_the_way_of_gradients(frozen):
    part = keras.Sequential([keras.Input((4,)), layers.Dense(5, activation="tanh"), layers.BatchNormalization()])
    head = keras.Sequential([keras.Input((5,)), layers.Dense(3)])
    (part if frozen == "first" else head).trainable = False
    i = keras.Input((4,))
    model = keras.Model(i, head(part(i)))
    model.compile("sgd", "mse", metrics=["mae"])
    before = [weights.get_weights() for weights in (part, head)]
    target = X[:, :3]
    model.fit(X, target, validation_data=(X, target), verbose=0)
    model.train_on_batch(X, target)
    after = [weights.get_weights() for weights in (part, head)]
    changed = [any((a != b).any() for a, b in zip(*pair, strict=True)) for pair in zip(before, after, strict=True)]
    assert changed == [frozen != "first", frozen != "last"]


OTHERS = st.one_of(st.booleans(), st.text(max_size=3), st.lists(st.integers(), max_size=2), st.binary(max_size=3))
NUMBERS = st.one_of(st.floats(), st.integers(-3, 0), OTHERS)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["batch_size", "steps_per_epoch", "validation_steps", "validation_batch_size", "initial_epoch"]),
    NUMBERS,
)
def test_fit_takes_no_count_that_is_none(tmp_path, name, value):
    whole_float = isinstance(value, float) and value.is_integer() and value > 0 and "steps" in name
    if whole_float or (name == "initial_epoch" and type(value) is int and value == 0):
        value = -1
    assert_refused(
        built(), lambda m, folder: m.fit(X, Y, verbose=0, validation_data=(X, Y), **{name: value}), name, tmp_path
    )


@pytest.mark.parametrize("number", [np.int64(8), np.uint8(8), np.array(8)], ids=repr)
def test_counts_of_numpy_are_taken(number):
    model = built()
    counts = {"batch_size": number, "epochs": np.int32(1), "steps_per_epoch": np.int64(2)}
    model.fit(X, Y, **counts, shuffle=np.bool_(True), verbose=0)
    assert model.optimizer.iterations == 2
    assert model.predict(X, batch_size=number, steps=2.0, verbose=np.int64(0)).shape == (16, 3)


def test_class_weights_of_numpy_and_of_a_hinge_are_taken():
    model = built()
    model.fit(X, Y, class_weight={np.int64(0): np.float32(2), 1.0: 1}, verbose=0)
    binary = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    binary.compile("sgd", "hinge")
    signs = np.where(Y > 0, 1, -1)
    binary.fit(X, signs, class_weight={-1: 2.0, 1: 1.0}, verbose=0)
    binary.train_on_batch(X[:1], signs[:1], class_weight={-1: 2.0, 1: 1.0})


DESCRIPTIONS = {
    "get_layer()": (lambda m: m.get_layer(), "name of a layer or its index"),
    "get_layer(5)": (lambda m: m.get_layer(5), "name of a layer or its index"),
    "index of text": (lambda m: m.get_layer(index="a"), "^index must be a whole number"),
    "index of a half": (lambda m: m.get_layer(index=0.5), "^index must be a whole number"),
    "index too low": (lambda m: m.get_layer(index=-9), "has 4 layers"),
    "from_config": (lambda m: keras.Sequential.from_config(5), "takes the dict of get_config"),
    "from_config of nothing": (lambda m: keras.Sequential.from_config({}), "takes the dict of get_config"),
    "Model.from_config": (lambda m: keras.Model.from_config(None), "takes the dict of get_config"),
    "compile_from_config": (lambda m: m.compile_from_config(5), "takes the dict of get_compile_config"),
    "model_from_json of a dict": (lambda m: keras.models.model_from_json({"a": 1}), "to_json"),
    "model_from_json of text": (lambda m: keras.models.model_from_json("not json"), "JSON"),
    "load_model": (lambda m: keras.models.load_model(None), "by its path, got None"),
    "load_weights": (lambda m: m.load_weights(5), "by its path, got 5"),
    "save": (lambda m: m.save(None), "by its path, got None"),
    "overwrite": (lambda m: m.save("never.keras", overwrite="no"), "^overwrite must be True or False, got 'no'"),
    "format": (lambda m: m.save("never.keras", save_format="tf"), "save_format"),
    "signatures": (lambda m: m.save("never.keras", signatures=3), "signatures"),
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_descriptions_and_files_are_refused_in_one_sentence(name, tmp_path):
    action, pattern = DESCRIPTIONS[name]
    assert_refused(built(), lambda m, folder: action(m), pattern, tmp_path)
    assert not Path("never.keras").exists()
