"""Arguments of wrong type, sign and size: one sentence, before anything has changed."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

import minikeras as keras
from minikeras import callbacks, layers
from minikeras.seeds import SeedGenerator, global_generator

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
    walked = list(model._walk_layers())
    optimizer = model.optimizer
    streams = [child for layer in walked for child in layer._children() if isinstance(child, SeedGenerator)]
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
        "resolved": (model._compiled_loss and model._compiled_loss.names, model._compiled_metrics.names),
        "compiled": (id(model.loss), id(model._compiled_loss), id(model._compiled_metrics), id(model._comparison)),
        "streams": [stream.state for stream in [global_generator(), *streams]],
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
