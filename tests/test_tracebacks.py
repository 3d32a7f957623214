"""Errors end at the user's line: no frame of minikeras is in the traceback of what leaves it."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest

import minikeras as keras
from minikeras import GradientTape, callbacks, config, layers, losses, metrics, ops, optimizers
from minikeras.data import Dataset
from minikeras.tracebacks import HINT, UserFacing, end_at_users_line, user_facing

PACKAGE = str(Path(keras.__file__).parent) + os.sep
X = np.zeros((8, 4), "float32")
Y = np.zeros((8, 2), "float32")


@pytest.fixture(autouse=True)
def _filtering():
    config.enable_traceback_filtering()
    yield
    config.disable_traceback_filtering()  # as the suite has it


def error_of(function, *args):
    try:
        function(*args)
    except BaseException as error:
        return error
    raise AssertionError("There was no error.")


def frames_of(error):
    """(file, line of code) of each frame, from the outermost one; the stand-in for CuPy and what it calls are none."""
    found = [(frame.filename, frame.line) for frame in traceback.extract_tb(error.__traceback__)]
    stand_in = next((i for i, (filename, _) in enumerate(found) if filename.endswith("recorder.py")), len(found))
    return found[:stand_in]


def own(error):
    return [filename for filename, _ in frames_of(error) if filename.startswith(PACKAGE)]


def model(loss="mse", **arguments):
    made = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(2)])
    made.compile("sgd", loss, **arguments)
    return made


def trained(made, x=X, y=Y, **arguments):
    if not made.compiled:
        made.compile("sgd", "mse")
    made.fit(x, y, verbose=0, **arguments)


class Misfit(layers.Layer):
    def call(self, inputs):
        return ops.matmul(inputs, ops.ones((7, 7)))  # the line: matmul


class Faulty(layers.Layer):
    def call(self, inputs):
        return inputs.nothing  # the line: nothing


class Narrow(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(2), layers.Conv2D(2, 3)

    def call(self, inputs):
        return self.second(self.first(inputs))  # the line: second


class OwnStep(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)

    def train_step(self, data):
        return {"loss": self.compute_loss(y=data[1], y_pred=self(data[0])).nothing}  # the line: nothing


class FaultyMetric(metrics.Metric):
    def update_state(self, y_true, y_pred, sample_weight=None):
        raise ValueError("mine")  # the line: mine

    def result(self):
        return 0.0


class FaultyCallback(callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise RuntimeError("mine")  # the line: mine


class FaultyData(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise OSError("mine")  # the line: mine


def faulty_generator():
    yield X, Y
    raise KeyError("mine")  # the line: mine


def faulty_loss(y_true, y_pred):
    return ops.mean(y_true - y_pred) + undefined  # noqa: F821  # the line: undefined


def faulty_start(shape, dtype=None):
    raise ZeroDivisionError("mine")  # the line: mine


def gradient_of_text():
    with GradientTape() as tape:
        y = ops.ones((2,))
    tape.gradient(y, [y], output_gradients=[1, 2])  # the line: output_gradients


# name: (what fails, the type of the error, a part of the user's line where it ends)
CASES = {
    # what minikeras refuses: the user's line is the call itself
    "data that does not fit the model": (lambda: trained(model(), X[:, :2]), ValueError, "made.fit"),
    "arrays of unequal lengths": (lambda: trained(model(), X, Y[:3]), ValueError, "made.fit"),
    "a misspelt loss": (lambda: model("mea"), ValueError, "made.compile"),
    "evaluate": (lambda: model().evaluate(X[:, :2], Y, verbose=0), ValueError, "evaluate"),
    "predict": (lambda: model().predict(X[:, :2], verbose=0), ValueError, "predict"),
    "predict_on_batch": (lambda: model().predict_on_batch(X[:, :2]), ValueError, "predict_on_batch"),
    "train_on_batch": (lambda: model().train_on_batch(X[:, :2], Y), ValueError, "train_on_batch"),
    "a model that is not compiled": (lambda: keras.Sequential([layers.Dense(2)]).fit(X, Y), ValueError, ".fit"),
    "what is no callback": (lambda: trained(model(), callbacks=[3]), TypeError, "made.fit"),
    "a constructor's value": (lambda: layers.Dense("a"), ValueError, "Dense"),
    "a constructor's base": (lambda: layers.Conv2D(3, 3, padding="foo"), ValueError, "Conv2D"),
    "a constructor without arguments": (lambda: layers.Dense(), TypeError, "Dense"),
    "a misspelt activation": (lambda: layers.Dense(3, activation="rleu"), ValueError, "Dense"),
    "an optimizer's argument": (lambda: optimizers.Adam(foo=1), ValueError, "Adam"),
    "a metric's argument": (lambda: metrics.Precision(thresholds=[3]), ValueError, "Precision"),
    "a loss's argument": (lambda: losses.MeanSquaredError(reduction="foo"), ValueError, "MeanSquaredError"),
    "a callback's argument": (lambda: callbacks.EarlyStopping(patience=-1), ValueError, "EarlyStopping"),
    "a misspelt initializer": (lambda: keras.initializers.get("foo"), ValueError, "get"),
    "Sequential.add": (lambda: keras.Sequential().add(3), ValueError, "add"),
    "Sequential": (lambda: keras.Sequential([3]), ValueError, "Sequential"),
    "a layer that does not fit": (lambda: model().add(layers.Conv2D(2, 3)), ValueError, "add"),
    "Model": (lambda: keras.Model(keras.Input((3,)), 3), ValueError, "keras.Model"),
    "Input": (lambda: keras.Input("a"), ValueError, "keras.Input"),
    "set_weights": (lambda: model().set_weights([1]), ValueError, "set_weights"),
    "get_layer": (lambda: model().get_layer("none"), ValueError, "get_layer"),
    "load_model": (lambda: keras.models.load_model("nowhere.keras"), FileNotFoundError, "load_model"),
    "load_weights": (lambda: model().load_weights("nowhere.weights.h5"), FileNotFoundError, "load_weights"),
    "save": (lambda: model().save("nowhere/at/all.keras"), FileNotFoundError, "save"),
    "from_config": (lambda: layers.Dense.from_config({"foo": 1}), ValueError, "from_config"),
    "build": (lambda: keras.Sequential([layers.Conv2D(2, 3)]).build((None, 4)), ValueError, "build"),
    "a layer's build": (lambda: layers.Conv2D(2, 30).build("a"), (TypeError, ValueError), "build"),
    "optimizer.apply": (lambda: optimizers.SGD().apply([1, 2]), ValueError, "apply"),
    "GradientTape.gradient": (gradient_of_text, ValueError, "tape.gradient"),
    "GradientTape.watch": (lambda: GradientTape().watch("a"), TypeError, "watch"),
    "clone_model": (lambda: keras.models.clone_model(3), (TypeError, ValueError), "clone_model"),
    "a variable": (lambda: keras.Variable([1.0, 2.0], shape=(3,)), ValueError, "Variable"),
    "assign": (lambda: keras.Variable([1.0, 2.0]).assign([1.0]), ValueError, "assign"),
    "a dataset": (lambda: Dataset.from_arrays(X).batch(0), ValueError, "batch"),
    "a loss called": (lambda: losses.MeanSquaredError()(X, Y), ValueError, "MeanSquaredError"),
    "a loss function": (lambda: losses.mean_squared_error(X, Y), ValueError, "mean_squared_error"),
    "a crossentropy": (lambda: losses.categorical_crossentropy(X, Y), ValueError, "categorical_crossentropy"),
    "to_categorical": (lambda: keras.utils.to_categorical(["a"]), (TypeError, ValueError), "to_categorical"),
    "a data set's argument": (lambda: keras.datasets.boston_housing.load_data(test_split=3), ValueError, "load_data"),
    # operations
    "ops.matmul": (lambda: ops.matmul(ops.ones((2, 3)), ops.ones((2, 3))), ValueError, "matmul"),
    "ops.concatenate": (lambda: ops.concatenate([ops.ones((2, 3)), ops.ones((3, 2))], axis=0), ValueError, "concat"),
    "ops.mean": (lambda: ops.mean(ops.ones((2, 3)), axis=5), ValueError, "mean"),
    "ops.softmax": (lambda: ops.softmax(ops.ones((2, 3)), axis=5), ValueError, "softmax"),
    "ops.reshape": (lambda: ops.reshape(ops.ones((2, 3)), (4,)), ValueError, "reshape"),
    "an unknown argument": (lambda: ops.sum(ops.ones((2, 3)), axes=1), TypeError, "sum"),
    "an operator": (lambda: ops.ones((2, 3)) + ops.ones((4,)), ValueError, "+"),
    "a reflected operator": (lambda: [1.0, 2.0] * ops.ones((4,)), ValueError, "*"),
    "a tensor's method": (lambda: ops.ones((2, 3)).reshape(7), ValueError, "reshape"),
    "ops.map": (lambda: ops.map(lambda row: row.nothing, ops.ones((2, 3))), AttributeError, "nothing"),
    "keras.random": (lambda: keras.random.normal("a"), (TypeError, ValueError), "normal"),
    # what the user's own code does: their line stays, and it is the last one
    "a loss": (lambda: trained(model(faulty_loss)), NameError, "undefined"),
    "a layer in fit": (lambda: trained(keras.Sequential([Misfit()])), ValueError, "matmul"),
    "a layer in a graph": (lambda: Misfit()(keras.Input((4,))), ValueError, "matmul"),
    "a layer called": (lambda: Faulty()(X), AttributeError, "nothing"),
    "a model's call": (lambda: Narrow()(X), ValueError, "second"),
    "a training step": (lambda: trained(OwnStep()), AttributeError, "nothing"),
    "a metric": (lambda: trained(model(metrics=[FaultyMetric()])), ValueError, "mine"),
    "a callback": (lambda: trained(model(), callbacks=[FaultyCallback()]), RuntimeError, "mine"),
    "an initializer": (lambda: layers.Dense(3, kernel_initializer=faulty_start)(X), ZeroDivisionError, "mine"),
    "a generator": (lambda: model().fit(faulty_generator(), steps_per_epoch=3, verbose=0), KeyError, "mine"),
    "a PyDataset": (lambda: model().fit(FaultyData(), verbose=0), OSError, "mine"),
    "a PyDataset without threads": (lambda: model().fit(FaultyData(), verbose=0, workers=0), OSError, "mine"),
    "a mapped dataset": (lambda: list(Dataset.from_arrays(X).map(lambda row: row.nothing)), AttributeError, "nothing"),
    "value_and_grad": (lambda: keras.grad(lambda x: x.nothing)(1.0), AttributeError, "nothing"),
}


@pytest.mark.parametrize("case", CASES)
def test_an_error_ends_at_the_users_line(case):
    function, kinds, line = CASES[case]
    error = error_of(function)
    assert isinstance(error, kinds)
    assert {filename for filename, _ in frames_of(error)} == {__file__}
    assert line in frames_of(error)[-1][1]
    config.disable_traceback_filtering()
    whole = error_of(function)
    assert type(whole) is type(error)
    assert own(whole)


def test_the_users_frames_in_between_stay():
    error = error_of(trained, model(faulty_loss))
    assert [line.split("  #")[0] for _, line in frames_of(error)] == [
        "function(*args)",
        "made.fit(x, y, verbose=0, **arguments)",
        "return ops.mean(y_true - y_pred) + undefined",
    ]
    error = error_of(trained, OwnStep())
    lines = [line.split("(")[0] for _, line in frames_of(error)]
    assert lines[1:] == ["made.fit", 'return {"loss": self.compute_loss']


def test_lines_of_other_packages_stay_where_the_user_called_them():
    def loss(y_true, y_pred):
        return np.linalg.solve(np.zeros((2, 2)), np.zeros(3))

    error = error_of(trained, model(loss))
    files = [filename for filename, _ in frames_of(error)]
    assert not own(error)
    assert files[:3] == [__file__] * 3
    assert "numpy" in files[3]


def test_causes_are_kept_and_shortened():
    def loss(y_true, y_pred):
        try:
            return ops.reshape(y_pred, (7, 7))
        except ValueError as error:
            raise RuntimeError("mine") from error

    error = error_of(trained, model(loss))
    assert type(error) is RuntimeError
    assert str(error) == "mine"
    assert type(error.__cause__) is ValueError
    assert [line for _, line in frames_of(error.__cause__)] == ["return ops.reshape(y_pred, (7, 7))"]
    assert error.__context__ is error.__cause__


def test_an_interruption_is_shortened_too():
    def loss(y_true, y_pred):
        raise KeyboardInterrupt

    error = error_of(trained, model(loss))
    assert type(error) is KeyboardInterrupt
    assert not own(error)
    assert not hasattr(error, "__notes__")


def test_what_is_caught_within_minikeras_or_by_the_user_does_no_harm():
    class Careful(layers.Layer):
        def call(self, inputs):
            try:
                return ops.reshape(inputs, (-1, 7))
            except ValueError:
                return inputs

    assert Careful()(X).shape == X.shape


def test_what_minikeras_calls_of_other_packages_is_left_out(tmp_path):
    """h5py is written in Python and in Cython, whose lines have file names of their own kind."""
    path = tmp_path / "no.weights.h5"
    path.write_bytes(b"no HDF5")
    error = error_of(model().load_weights, path)
    while error is not None:
        assert {filename for filename, _ in frames_of(error)} <= {__file__}
        error = error.__context__


# ---------------------------------------------------------------- the hint


@pytest.mark.parametrize(
    "function",
    [
        lambda: layers.Dense("a"),  # our sentence
        lambda: layers.Dense(),  # Python's, about the user's call
        lambda: ops.sum(ops.ones((2,)), axes=1),
        lambda: trained(model(faulty_loss)),  # the user's own
        lambda: model("mea"),
    ],
)
def test_an_error_that_explains_itself_gets_no_hint(function):
    assert not hasattr(error_of(function), "__notes__")


def test_an_error_that_minikeras_did_not_foresee_gets_a_hint_once():
    def fail():
        return {}["key"]

    def check():
        assert 1 > 2

    for function in (fail, check):
        code = function.__code__.replace(co_filename=PACKAGE + "somewhere.py")
        inside = user_facing(type(function)(code, globals()))
        error = error_of(lambda inside=inside: trained(model(lambda t, p: inside())))
        assert error.__notes__ == [HINT]
        assert not own(error)
    config.disable_traceback_filtering()
    assert not hasattr(error_of(lambda: inside()), "__notes__")


# ---------------------------------------------------------------- what is guarded


def test_signatures_stay():
    assert list(inspect.signature(keras.Model.fit).parameters)[:4] == ["self", "x", "y", "batch_size"]
    assert list(inspect.signature(layers.Dense).parameters)[:2] == ["units", "activation"]
    assert keras.Model.fit.__doc__.startswith("Train for a number of epochs")


def test_a_users_class_is_left_as_it_is():
    class Own(layers.Dense):
        def __init__(self):
            super().__init__(3)

    assert not hasattr(Own.__init__, "__wrapped__")
    assert hasattr(layers.RNN.__init__, "__wrapped__")
    assert issubclass(Own, UserFacing)


@pytest.mark.parametrize(
    "function", [lambda: Faulty()(X), lambda: ops.ones((2, 3)) @ Faulty, lambda: model().predict_on_batch(X[:, :2])]
)
def test_what_every_step_calls_is_in_no_wrapper(function):
    config.disable_traceback_filtering()
    files = {Path(filename).name for filename, _ in frames_of(error_of(function))}
    assert files & {"calling.py", "op.py"}
    assert "tracebacks.py" not in files


def test_only_what_the_user_called_shortens():
    def inner():
        try:
            raise ValueError("inner")
        except BaseException as error:
            end_at_users_line(error)
            assert traceback.extract_tb(error.__traceback__)[-1].filename == PACKAGE + "inner.py"
            raise

    code = inner.__code__.replace(co_filename=PACKAGE + "inner.py")
    within = type(inner)(code, globals())
    assert not own(error_of(user_facing(within)))


# ---------------------------------------------------------------- what the screen shows

PROGRAM = """
import sys
import numpy as np
import minikeras as keras
from minikeras import layers, ops

class Data(keras.utils.PyDataset):
    def __len__(self):
        return 2
    def __getitem__(self, index):
        return self.read(index)
    def read(self, index):
        raise OSError("no such picture")

def loss(y_true, y_pred):
    return ops.mean(y_true - y_pred).nothing

def generator():
    yield np.zeros((8, 4)), np.zeros((8, 2))
    raise KeyError("generator")

if __name__ == "__main__":
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    model.compile("sgd", loss)
    which = sys.argv[1]
    if which == "loss":
        model.fit(np.zeros((8, 4)), np.zeros((8, 2)), verbose=0)
    elif which == "shape":
        model.predict(np.zeros((8, 5)), verbose=0)
    elif which == "thread":
        model.compile("sgd", "mse")
        model.fit(generator(), steps_per_epoch=3, verbose=0)
    elif which == "process":
        model.fit(Data(workers=1, use_multiprocessing=True), verbose=0)
"""


def screen(folder, which, **environment):
    path = folder / "program.py"
    path.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(path), which],
        capture_output=True, text=True, env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == 1
    lines = [line.strip() for line in done.stderr.splitlines()]
    return [line for line in lines if line.strip("~^ ")]  # without Python's markers


def places(lines):
    return [line.split(", ", 1)[1] for line in lines if line.startswith("File ")]


def number(text):
    return f"line {PROGRAM.splitlines().index(text) + 1}"


def test_a_program_shows_the_users_lines_alone(tmp_path):
    lines = screen(tmp_path, "loss")
    assert places(lines) == [
        number("        model.fit(np.zeros((8, 4)), np.zeros((8, 2)), verbose=0)") + ", in <module>",
        number("    return ops.mean(y_true - y_pred).nothing") + ", in loss",
    ]
    assert lines[-1] == "AttributeError: 'Tensor' object has no attribute 'nothing'"
    lines = screen(tmp_path, "shape")
    assert places(lines) == [number("        model.predict(np.zeros((8, 5)), verbose=0)") + ", in <module>"]
    assert lines[-1].startswith("ValueError: ")


def test_the_lines_of_a_thread_that_prepares_batches_are_shown(tmp_path):
    lines = screen(tmp_path, "thread")
    assert places(lines) == [
        number("        model.fit(generator(), steps_per_epoch=3, verbose=0)") + ", in <module>",
        number('    raise KeyError("generator")') + ", in generator",
    ]


def test_the_lines_of_a_process_that_prepares_batches_are_shown(tmp_path):
    lines = screen(tmp_path, "process")
    assert places(lines) == [
        number("        return self.read(index)") + ", in __getitem__",
        number('        raise OSError("no such picture")') + ", in read",
        number("        model.fit(Data(workers=1, use_multiprocessing=True), verbose=0)") + ", in <module>",
    ]
    assert lines[-1] == "OSError: no such picture"


def test_the_environment_shows_everything(tmp_path):
    lines = screen(tmp_path, "loss", MINIKERAS_TRACEBACK_FILTERING="0")
    assert len(places(lines)) > 5
    assert any("trainer.py" in line for line in lines)


def test_the_switch():
    assert config.is_traceback_filtering_enabled()
    config.disable_traceback_filtering()
    assert not config.is_traceback_filtering_enabled()
    assert not keras.config.is_traceback_filtering_enabled()
    keras.config.enable_traceback_filtering()
    assert config.is_traceback_filtering_enabled()
