"""Declarations: constructors, checks, configurations, and what type checkers make of them."""

import ast
import importlib
import inspect
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pytest

import minikeras as keras
from minikeras import constraints, initializers, layers, losses, metrics, optimizers, regularizers
from minikeras.declared import (
    Configured,
    Constructor,
    Converted,
    Kept,
    Number,
    OneOf,
    Positive,
    Value,
    declared,
    field,
    fields,
    group,
    is_declared,
)
from minikeras.registry import _classes, _homes, builtin_class

BUILT_IN = sorted(
    {cls for cls in [builtin_class(*key) for key in {*_classes, *_homes}] if cls and is_declared(cls)},
    key=lambda cls: (cls.__module__, cls.__name__),
)


@declared
class Scaled(Value):
    factor: Annotated[float, Number(0)] = 1.0
    times: Positive[int] = 1
    twice: bool = False
    mode: Annotated[str, OneOf("a", "b")] = "a"
    shape: Annotated[Any, Converted(tuple)] = (1, 2)
    rate: Annotated[float, Kept(Number(0, 1))] = 0
    note: ClassVar[str] = "not an argument"


@declared
class Base(Configured):
    first: int
    second: int = 2
    kept: Any = field(default=None, kw_only=True, stored=False)

    def __post_init__(self, kept):
        self.seen = [("base", self.first, kept)]


@declared
class Derived(Base):
    third: int = 3
    second: int = 22

    def __post_init__(self):
        self.seen.append(("derived", self.second, self.third))


def test_arguments_become_attributes_of_their_kind():
    scaled = Scaled(2, np.int64(3), twice=1, shape=[4], rate=1)
    assert vars(scaled) == {"factor": 2.0, "times": 3, "twice": True, "mode": "a", "shape": (4,), "rate": 1}
    assert type(scaled.factor) is float and type(scaled.times) is int and type(scaled.rate) is int
    rate = np.array(0.5)
    kept = Scaled(rate=rate)
    rate[...] = 0.25
    assert kept.rate == 0.5 and type(kept.rate) is float
    assert scaled.note == "not an argument" and not hasattr(Scaled, "factor")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"factor": -1}, r"Scaled's factor must be a number at least 0, got -1\."),
        ({"times": 0}, r"Scaled's times must be a positive whole number, got 0\."),
        ({"twice": "False"}, r"Scaled's twice must be True or False, got 'False'\."),
        ({"mode": "c"}, r"Scaled's mode must be 'a' or 'b', got 'c'\."),
        ({"rate": 2}, r"Scaled's rate must be a number from 0 to 1, got 2\."),
    ],
)
def test_wrong_values_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        Scaled(**arguments)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Base(), r"Base\.__init__\(\) missing 1 required argument: 'first'"),
        (lambda: Base(1, 2, 3), r"takes 2 positional arguments but 3 were given"),
        (lambda: Base(1, first=1), r"got multiple values for argument 'first'"),
        (lambda: optimizers.SGD(learning_rate=0.1, lr=0.2), "got multiple values for argument 'learning_rate'"),
        (
            lambda: layers.Dense(1, input_shape=(3,), batch_input_shape=(2, 4)),
            "got multiple values for argument 'batch_input_shape'",
        ),
        (lambda: Base(1, secnd=1), r"Unknown argument of Base 'secnd'; did you mean 'second'\?"),
    ],
)
def test_calls_that_do_not_fit_are_refused(call, sentence):
    with pytest.raises(TypeError, match=sentence):
        call()


def test_a_base_sets_its_own_fields_first():
    assert Derived(1, kept="k").seen == [("base", 1, "k"), ("derived", 22, 3)]
    assert Derived(1, 5, 6).get_config() == {"first": 1, "third": 5, "second": 6}
    assert str(inspect.signature(Derived)) == "(first: int, third: int = 3, second: int = 22, *, kept: Any = None)"
    assert list(fields(Derived)) == ["first", "kept", "third", "second"]


@group
class Sized:
    size: Positive[int]
    label: str = "none"


@group
class Rated(Sized):
    rate: Annotated[float, Number(0, 1)] = field(default=0.5, kw_only=True)


def test_groups_stand_before_the_fields_of_a_class():
    @declared
    class One(Rated, Base):
        third: int = 3

    @declared
    class Two(One):
        fourth: int = 4

    assert list(fields(One)) == ["first", "second", "kept", "size", "label", "rate", "third"]
    assert list(fields(Two)) == [*fields(One), "fourth"]  # the groups of a base come from there
    assert Two(1, 2, 3, fourth=5).get_config() == {
        **{"first": 1, "second": 2, "size": 3, "label": "none", "rate": 0.5, "third": 3, "fourth": 5}
    }
    with pytest.raises(ValueError, match=r"One's size must be a positive whole number, got 0\."):
        One(1, size=0)

    @declared
    class Other(Rated, Configured):
        pass

    assert str(inspect.signature(Other)) == "(size: int, label: str = 'none', *, rate: float = 0.5)"


def test_configuration_equality_and_text():
    scaled = Scaled(3.0, shape=(5,))
    assert Scaled.from_config(scaled.get_config()) == scaled != Scaled(3.0)
    assert len({Scaled(2.0), Scaled(2.0), Scaled(3.0)}) == 2
    assert repr(scaled) == "Scaled(factor=3.0, shape=(5,))"
    assert pickle.loads(pickle.dumps(scaled)) == scaled
    assert regularizers.L2(0.1) == regularizers.L2(0.1) != regularizers.L1(0.1)
    assert initializers.GlorotUniform(seed=1) == initializers.GlorotUniform(seed=1) != initializers.GlorotUniform()
    assert repr(constraints.MaxNorm(3)) == "MaxNorm(max_value=3.0)"
    assert layers.Dense(1) != layers.Dense(1)  # a layer is more than its configuration
    assert Scaled(shape=np.arange(3)) == Scaled(shape=np.arange(3)) != Scaled(shape=np.arange(4))

    @declared
    class Table(Value):
        values: Any = None

        def get_config(self):
            return {**super().get_config(), "more": 1}

    assert Table(np.arange(3)) == Table(np.arange(3)) != Table(np.arange(4))
    assert repr(Table(np.arange(2))) == "Table(values=array([0, 1]), more=1)"


def test_what_cannot_be_declared_is_refused():
    with pytest.raises(TypeError, match="has an __init__ of its own"):

        @declared
        class Both(Configured):
            def __init__(self):
                pass

    with pytest.raises(TypeError, match=r"default \[\], which all objects would share"):

        @declared
        class Shared(Configured):
            values: list = []  # noqa: RUF012

    @declared
    class Unknown(Configured):
        value: "Nowhere" = 1  # noqa: F821

    with pytest.raises(TypeError, match="'Nowhere' of Unknown's field 'value' is not known in its module"):
        Unknown()


def test_a_class_with_an_init_of_its_own_keeps_it():
    class Own(Derived):
        def __init__(self, first, extra=1, **kwargs):
            super().__init__(first, **kwargs)
            self.extra = extra

    assert Own(1, third=9).seen[1] == ("derived", 22, 9)
    assert str(inspect.signature(Own)) == "(first, extra=1, **kwargs)" and not is_declared(Own)

    @declared
    class Below(Own):
        extra: int = 7
        more: int = 8

    below = Below(4, third=5, first=1)
    assert (below.first, below.extra, below.more, below.third) == (1, 4, 8, 5)


# ---------------------------------------------------------------- a user's layers, losses, regularizers


@keras.saving.register_keras_serializable("declared")
@declared
class Scale(layers.Layer):
    """A layer as a user declares it."""

    units: Positive[int]
    kernel_initializer: Annotated[Any, Converted(initializers.get)] = "ones"
    kernel_regularizer: Annotated[Any, Converted(regularizers.get)] = None
    kernel_constraint: Annotated[Any, Converted(constraints.get)] = None
    recurrent_initializer: Annotated[Any, Converted(initializers.get)] = "zeros"

    def build(self, input_shape):
        self.kernel = self.add_weight("kernel", (input_shape[-1], self.units))
        self.recurrent_kernel = self.add_weight("recurrent_kernel", (self.units,))

    def call(self, inputs):
        return inputs @ self.kernel + self.recurrent_kernel


@keras.saving.register_keras_serializable("declared")
@declared
class Power(losses.Loss):
    exponent: Annotated[float, Number(above=0)] = 2.0

    def call(self, y_true, y_pred):
        return keras.ops.mean(keras.ops.abs(y_true - y_pred) ** self.exponent, axis=-1)


@keras.saving.register_keras_serializable("declared")
@declared
class Cubes(regularizers.Regularizer):
    factor: float = 0.1

    def __call__(self, x):
        return self.factor * keras.ops.sum(keras.ops.abs(x) ** 3)


def test_weights_find_their_settings_by_name():
    layer = Scale(2, kernel_regularizer="l2", kernel_constraint="non_neg", name="scale", trainable=False)
    layer.build((None, 3))
    assert layer.kernel.regularizer == regularizers.L2() and layer.kernel.constraint == constraints.NonNeg()
    np.testing.assert_array_equal(layer.get_weights()[0], np.ones((3, 2)))
    np.testing.assert_array_equal(layer.get_weights()[1], np.zeros(2))
    assert layer.name == "scale" and not layer.trainable_weights

    class Own(layers.Layer):
        kernel_regularizer = regularizers.L1(1.0)

        def build(self, input_shape):
            self.kernel = self.add_weight("kernel", (2,))

    own = Own()
    own.build((None, 3))
    assert own.kernel.regularizer is None  # as in Keras: these are no fields


def test_declared_things_of_a_user_are_saved(tmp_path):
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    model = keras.Sequential([keras.Input((3,)), Scale(2, "he_normal", kernel_regularizer=Cubes(0.5))])
    model.compile("adam", Power(exponent=3.0, name="power"))
    model.fit(x, x[:, :2], verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    assert loaded.layers[0].get_config() == model.layers[0].get_config()
    assert loaded.layers[0].kernel_regularizer == Cubes(0.5)
    assert loaded.loss.get_config() == {"name": "power", "reduction": "sum_over_batch_size", "exponent": 3.0}


def test_what_a_users_constructor_hands_on_is_in_the_configuration():
    class Own(layers.Dense):
        def __init__(self, units, scale=2.0, **kwargs):
            super().__init__(units, **kwargs)
            self.scale = scale

    own = Own(3, 4.0, activation="relu", use_bias=False, name="own")
    config = own.get_config()
    assert (config["scale"], config["activation"], config["use_bias"]) == (4.0, "relu", False)
    again = Own.from_config(config)
    assert (again.name, again.scale, again.activation, again.use_bias) == ("own", 4.0, own.activation, False)

    class Through(layers.Dense):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)

    again = Through.from_config(Through(3, "relu", use_bias=False).get_config())
    assert (again.units, again.activation.__name__, again.use_bias) == (3, "relu", False)


# ---------------------------------------------------------------- the built-in classes


def test_nearly_everything_is_declared():
    assert len(BUILT_IN) > 130
    for cls in (layers.Dense, layers.LSTM, optimizers.Adam, losses.Huber, metrics.AUC, initializers.VarianceScaling):
        assert is_declared(cls)


@pytest.mark.parametrize("cls", BUILT_IN, ids=lambda cls: f"{cls.__module__}.{cls.__name__}".removeprefix("minikeras."))
def test_defaults_are_accepted_and_described(cls):
    signature = inspect.signature(cls)
    for parameter in signature.parameters.values():
        assert not isinstance(parameter.annotation, str), parameter
    required = {
        p.name: p for p in signature.parameters.values() if p.default is p.empty and p.kind is not p.VAR_KEYWORD
    }
    if not required and cls.__name__ not in ("CategoryEncoding", "Discretization"):  # which want one of two
        made = cls()
        assert type(made).from_config(made.get_config()).get_config() == made.get_config()


def test_type_checkers_see_the_same_order_of_arguments():
    """Dataclasses, and so type checkers, leave a field that is declared again where it first was."""
    for cls in BUILT_IN:
        constructor = inspect.getattr_static(cls, "__init__")
        order: dict[str, Any] = {}
        for base in reversed(cls.__mro__):
            own = vars(base).get("__init__")
            if isinstance(own, Constructor):
                groups = [one for one in base.__mro__ if "_group" in vars(one)]
                hidden = {name for one in (base, *groups) for name in _hidden_from_type_checkers(one)}
                order.update({name: one for name, one in own.own.items() if name not in hidden})
        if cls is layers.Conv3DTranspose:
            continue  # whose data_format and output_padding, of any type, have changed places
        positional = [name for name, one in order.items() if not one.kw_only]
        assert positional == [name for name in constructor._positional if name in positional], cls


def _hidden_from_type_checkers(cls):
    """The fields in the body of a class that are under `if not TYPE_CHECKING:`, or `if TYPE_CHECKING: ... else:`."""
    if "_group" not in vars(cls) and not isinstance(vars(cls).get("__init__"), Constructor):
        return set()
    found = set()
    for node in ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body:
        if isinstance(node, ast.If):
            hidden = node.body if ast.unparse(node.test) == "not TYPE_CHECKING" else node.orelse
            found |= {one.target.id for one in hidden if isinstance(one, ast.AnnAssign)}
    return found


PROGRAM = """
import minikeras as keras
from minikeras import layers
from minikeras.declared import Number, Positive, declared
from typing import Annotated, Any


@declared
class Block(layers.Layer):
    units: Positive[int]
    rate: Annotated[float, Number(0, 1)] = 0.5

    def build(self, input_shape: Any) -> None:
        self.dense = layers.Dense(self.units, activation="relu", kernel_regularizer="l2")
        self.dropout = layers.Dropout(self.rate, seed=1)

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.dropout(self.dense(inputs), training=training)


class Own(layers.Layer):
    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = size


inputs = keras.Input(shape=(28, 28, 1), name="pictures")
x = layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(inputs)
x = layers.MaxPooling2D(2)(x)
x = layers.Flatten()(x)
x = Block(16, rate=0.1, name="block")(x)
x = Own(3, name="own")(x)
outputs = layers.Dense(10, activation="softmax", dtype="float32", trainable=False)(x)
model = keras.Model(inputs, outputs)
model.compile(
    optimizer=keras.optimizers.AdamW(1e-3, 0.01, beta_1=0.8, clipnorm=1.0),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=False, name="loss"),
    metrics=[keras.metrics.SparseCategoricalAccuracy(), keras.metrics.AUC(num_thresholds=10, name="auc")],
)
keras.callbacks.EarlyStopping(patience=2)
keras.Sequential([layers.LSTM(4, return_sequences=True), layers.Dense(1, input_dim=4)])
"""

MISTAKES = {
    "layers.Dense(10, activaton='relu')": "Unexpected keyword argument",
    "layers.Dense('ten')": "incompatible type",
    "layers.Dense()": "Missing positional argument",
    "layers.Conv2D(8, 3, use_bias='no')": "incompatible type",
    "layers.Dropout('half')": "incompatible type",
    "layers.Dropout(0.5, nam='x')": "Unexpected keyword argument",
    "layers.LSTM(4, return_sequence=True)": "Unexpected keyword argument",
    "Block(16, rte=1)": "Unexpected keyword argument",
    "Block('x')": "incompatible type",
    "Own('x')": "incompatible type",
    "keras.optimizers.Adam(beta1=0.5)": "Unexpected keyword argument",
    "keras.optimizers.SGD(momentum='much')": "incompatible type",
    "keras.losses.Huber(delta='x')": "incompatible type",
    "keras.metrics.AUC(num_threshold=3)": "Unexpected keyword argument",
    "keras.regularizers.L2(l1=1)": "Unexpected keyword argument",
    "keras.initializers.RandomNormal(std=1)": "Unexpected keyword argument",
    "keras.optimizers.schedules.CosineDecay(0.1)": "Missing positional argument",
    "layers.Dens(3)": "has no attribute",
    "keras.optimisers": "has no attribute",
}


def public_names():
    """Every public name, as a user's program spells it."""
    names = [f"keras.{name}" for name in keras.__all__]
    for module in ("layers", "optimizers", "callbacks", "utils", "models", "datasets", "ops", "preprocessing.image"):
        room = importlib.import_module(f"minikeras.{module}")
        names += [f"keras.{module}.{name}" for name in room.__all__]
    for module in ("losses", "metrics", "initializers", "regularizers", "constraints", "activations"):
        public = {name for name, one in vars(getattr(keras, module)).items() if name[0] != "_" and callable(one)}
        names += [f"keras.{module}.{name}" for name in sorted(public)]
    return names


@pytest.fixture(scope="module")
def found_by_mypy(tmp_path_factory):
    """The errors that mypy finds in two programs of a user, by file and line."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "program.py").write_text("\n".join([*PROGRAM.strip().splitlines(), *MISTAKES]) + "\n")
    (folder / "names.py").write_text("\n".join(["import minikeras as keras", *public_names()]) + "\n")
    root = Path(keras.__file__).parent.parent
    options = ["--no-incremental", "--config-file=", "--follow-imports=silent"]
    environment = {name: value for name, value in os.environ.items() if name != "MYPYPATH"}
    if root.name != "site-packages":  # where mypy looks by itself
        environment["MYPYPATH"] = str(root)
    run = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "program.py", "names.py"],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
    )
    assert run.returncode == 1 and ": error:" in run.stdout, run.stdout + run.stderr
    errors = [line.split(":", 2) for line in run.stdout.splitlines() if ": error:" in line]
    return {(file, int(number)): text for file, number, text in errors}


def test_a_type_checker_finds_wrong_arguments_in_a_users_program(found_by_mypy):
    right = len(PROGRAM.strip().splitlines())
    errors = {number: text for (file, number), text in found_by_mypy.items() if file == "program.py"}
    assert not {number: text for number, text in errors.items() if number <= right}
    for number, (mistake, words) in enumerate(MISTAKES.items(), start=right + 1):
        assert words in errors.get(number, ""), f"{mistake}: {errors.get(number)}"


def test_type_checkers_know_every_public_name(found_by_mypy):
    assert len(public_names()) > 700
    assert not {number: text for (file, number), text in found_by_mypy.items() if file == "names.py"}


def test_help_shows_the_fields():
    script = textwrap.dedent(
        """
        from minikeras import layers
        help(layers.Dense)
        """
    )
    text = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    text = " ".join(text.replace("|", " ").split())  # Python 3.13 gives each argument a line
    assert "units: int, activation: Any = None, use_bias: bool = True, kernel_initializer" in text
    assert "__init__" in text
