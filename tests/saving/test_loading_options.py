"""What `load_model` and `load_weights` can be told: missing classes, functions of Lambdas, reports, limits, objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import minikeras
from minikeras import layers, models
from minikeras.saving import load_model

X = np.linspace(-1, 1, 24, dtype="f4").reshape(8, 3)


class Scaled(layers.Layer):
    def build(self, input_shape: Any) -> None:
        self.factor = self.add_weight((input_shape[-1],), name="factor")

    def call(self, x: Any) -> Any:
        return x * self.factor


class Moved(Scaled):
    def call(self, x: Any) -> Any:
        return x + self.factor


def own_loss(y: Any, p: Any) -> Any:
    return minikeras.ops.mean(minikeras.ops.square(y - p), -1)


def twice(x: Any) -> Any:
    return 2 * x


OWN = {"Scaled": Scaled, "Moved": Moved, "own_loss": own_loss, "twice": twice}


def network() -> Any:
    inputs = minikeras.Input((3,))
    hidden = Moved(name="moved")(Scaled(name="scaled")(inputs))
    hidden = layers.Lambda(twice, name="doubled")(hidden)
    model = minikeras.Model(inputs, layers.Dense(3, activation=twice)(hidden))
    model.compile("sgd", own_loss)
    model.fit(X, X, verbose=0)
    return model


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Any, Path]:
    model = network()
    model.save(tmp_path / "m.keras")
    return model, tmp_path / "m.keras"


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


# ---------------------------------------------------------------- what is missing


def test_all_that_is_missing_is_named_at_once(saved: Any) -> None:
    model, path = saved
    with pytest.raises(ValueError, match="neither built in nor registered") as error:
        load_model(path)
    text = str(error.value)
    for part in ("class 'Scaled' of module", "class 'Moved' of module", "function 'own_loss'", "function 'twice'"):
        assert part in text
    assert "the function of the Lambda layer 'doubled'" in text and "skip_unknown='weights'" in text
    assert "'Scaled': ..." in text and "'own_loss': ..." in text and "pass them" in text
    with pytest.raises(ValueError, match=r"class 'Moved' of module.*; pass it as") as error:
        load_model(path, custom_objects={name: thing for name, thing in OWN.items() if name != "Moved"})
    assert "Scaled" not in str(error.value)
    copy = load_model(path, custom_objects=OWN)
    assert same(copy, model) and np.array_equal(copy.predict(X, verbose=0), model.predict(X, verbose=0))


def test_names_that_are_strings(tmp_path: Path) -> None:
    """As Keras 2 wrote functions of the user's, and lists of metrics."""
    model = minikeras.Sequential([minikeras.Input((3,)), layers.Dense(3)])
    model.compile("sgd", "mse", metrics=["mae", "acc", "crossentropy"])
    model.save(tmp_path / "m.h5")
    model.save(tmp_path / "m", zipped=False)
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config["config"]["layers"][1]["config"]["activation"] = "bent"
    config["compile_config"] |= {"loss": ["lost"], "metrics": ["gained", ["mae"]]}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"'bent'.*'lost'.*'gained'.*neither built in nor registered.*pass them"):
        load_model(tmp_path / "m")
    known = {"gained": own_loss, "lost": own_loss, "bent": twice}
    assert np.array_equal(load_model(tmp_path / "m", custom_objects=known)(X), 2 * model(X))
    with h5py.File(tmp_path / "m.h5", "a") as file:
        training = json.loads(file.attrs["training_config"])
        file.attrs["training_config"] = json.dumps(training | {"loss": "lost", "metrics": ["gained"]})
    config["config"]["layers"][1]["config"]["activation"] = "linear"
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    for path in (tmp_path / "m", tmp_path / "m.h5"):  # what is known of the model is all there
        with pytest.warns(
            UserWarning, match=r"not compiled.*'lost'.*'gained'.*neither built in nor registered.*pass them"
        ):
            opened = load_model(path)
        assert same(opened, model) and not opened.compiled
        assert same(load_model(path, compile=False), model)
        assert load_model(path, custom_objects=known).compiled


def test_json_names_all_that_is_missing() -> None:
    with pytest.raises(ValueError, match=r"'Scaled' .*'Moved' .*'twice'"):
        models.model_from_json(network().to_json())


def test_without_compiling_a_loss_is_not_needed(saved: Any) -> None:
    model, path = saved
    known = {name: thing for name, thing in OWN.items() if name != "own_loss"}
    with pytest.raises(ValueError, match="the function 'own_loss'"):
        load_model(path, custom_objects=known)
    assert same(load_model(path, custom_objects=known, compile=False), model)


def test_many_missing_classes_make_no_endless_sentence(saved: Any) -> None:
    described = [{"module": "x", "class_name": f"C{i}", "config": {}} for i in range(1000)]
    config = {"module": "keras", "class_name": "Sequential", "config": {"layers": described}}
    with pytest.raises(ValueError, match="and 950 more") as error:
        models.model_from_config(config)
    assert len(str(error.value)) < 5000


def test_weights_without_a_model(saved: Any) -> None:
    model, path = saved
    weights = load_model(path, skip_unknown="weights")
    assert np.array_equal(weights["layers/scaled/vars/0"], model.get_layer("scaled").get_weights()[0])
    assert np.array_equal(weights["layers/dense/vars/1"], model.layers[-1].get_weights()[1])
    assert isinstance(load_model(path, custom_objects=OWN, skip_unknown="weights"), models.Model)
    model.save_weights(path.with_name("w.weights.h5"))
    alone = load_model(path.with_name("w.weights.h5"), skip_unknown="weights")
    assert alone.keys() == weights.keys()
    with pytest.raises(ValueError, match="skip_unknown"):
        load_model(path, skip_unknown="layers")
    with pytest.raises(ValueError, match="skip_unknown"):
        load_model(path, skip_unknown=True)


# ---------------------------------------------------------------- functions of Lambda layers


def lambda_model(function: Any, tmp_path: Path) -> Path:
    model = minikeras.Sequential([minikeras.Input((3,)), layers.Lambda(function, name="step", arguments={})])
    model.save(tmp_path / "m.keras")
    return tmp_path / "m.keras"


@pytest.mark.parametrize("safe_mode", [True, False])
@pytest.mark.parametrize("name", ["twice", "step", "step>function"])
def test_the_users_function_is_taken_by_any_of_its_names(tmp_path: Path, name: str, safe_mode: bool) -> None:
    path = lambda_model(twice, tmp_path)
    with pytest.raises(ValueError, match=r"Lambda layer 'step'.*never taken.*'twice': \.\.\..*whatever safe_mode is"):
        load_model(path, safe_mode=safe_mode)
    model = load_model(path, custom_objects={name: lambda x: x + 7}, safe_mode=safe_mode)
    assert np.array_equal(model(X), X + 7)


def test_a_function_without_a_name(tmp_path: Path) -> None:
    path = lambda_model(lambda x: x, tmp_path)
    assert np.array_equal(load_model(path, custom_objects={"step": twice})(X), 2 * X)


def test_a_class_of_the_layers_name_is_no_function(tmp_path: Path) -> None:
    path = lambda_model(twice, tmp_path)
    with pytest.raises(ValueError, match="never taken from a description"):
        load_model(path, custom_objects={"step": Scaled})


# ---------------------------------------------------------------- report and limit


def test_report(saved: Any, capsys: pytest.CaptureFixture) -> None:
    model, path = saved
    sentences: list[str] = []
    load_model(path, custom_objects=OWN, report=sentences)
    model.load_weights(path, report=sentences)
    assert sentences == []
    capsys.readouterr()
    load_model(path, custom_objects=OWN, report=True)
    assert capsys.readouterr().out == "Nothing had to be translated.\n"
    with pytest.raises(ValueError, match="report must be True, False or a list"):
        load_model(path, report="yes")


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "w.npz", "w.weights.json", "w.h5"])
def test_limit(tmp_path: Path, name: str) -> None:
    model = minikeras.Sequential([minikeras.Input((100,)), layers.Dense(100)])
    (model.save if name[0] == "m" else model.save_weights)(tmp_path / name)
    with pytest.raises(ValueError, match="arrays of 40,400 bytes, more than limit=40,399"):
        model.load_weights(tmp_path / name, limit=40_399)
    model.load_weights(tmp_path / name, limit=40_400)
    if name[0] == "m":
        with pytest.raises(ValueError, match="more than limit=10"):
            load_model(tmp_path / name, limit=10)
        assert same(load_model(tmp_path / name, limit=100_000), model)
    with pytest.raises(ValueError, match="limit"):
        model.load_weights(tmp_path / name, limit=-1)


# ---------------------------------------------------------------- objects that are left out


def plain() -> Any:
    model = minikeras.Sequential([minikeras.Input((3,)), layers.Dense(4, name="a"), layers.Dense(2, name="b")])
    model.compile("adam", "mse")
    model.fit(X, X[:, :2], verbose=0)
    return model


@pytest.mark.parametrize("ending", [".weights.h5", ".weights.json", ".npz"])
def test_objects_to_skip(tmp_path: Path, ending: str) -> None:
    model, path = plain(), tmp_path / f"w{ending}"
    model.save_weights(path)
    other = plain()
    other.fit(X, X[:, :2], verbose=0)
    state = [variable.numpy() for variable in other.optimizer.variables]
    before = other.layers[0].get_weights()
    other.load_weights(path, objects_to_skip=[other.layers[0], other.optimizer])
    assert same(other.layers[1], model.layers[1]) and not same(other.layers[0], model.layers[0])
    assert all(np.array_equal(a, b) for a, b in zip(before, other.layers[0].get_weights(), strict=True))
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(state, other.optimizer.variables, strict=True))
    model.save_weights(path, objects_to_skip=[model.layers[0], model.optimizer])
    third = plain()
    with pytest.raises(ValueError, match=r"has 2 weights, the file has 0|open which is which"):
        third.load_weights(path, objects_to_skip=[third.optimizer])
    third.load_weights(path, objects_to_skip=[third.layers[0], third.optimizer])
    assert same(third.layers[1], model.layers[1])


def test_options_that_do_not_go_with_a_layout(tmp_path: Path) -> None:
    model = plain()
    model.save_weights(tmp_path / "w.h5")
    model.save_weights(tmp_path / "w.weights.h5")
    with pytest.raises(ValueError, match="objects_to_skip does not go with"):
        model.load_weights(tmp_path / "w.h5", objects_to_skip=[model.layers[0]])
    with pytest.raises(ValueError, match="by_name does not go with"):
        model.load_weights(tmp_path / "w.weights.h5", by_name=True)
    with pytest.raises(ValueError, match="objects_to_skip goes with"):
        model.save_weights(tmp_path / "w.h5", objects_to_skip=[model.layers[0]])
    model.load_weights(tmp_path / "w.h5", by_name=True)
    model.load_weights(tmp_path / "w.weights.h5", by_name=False)


def test_save_format_of_keras_2(tmp_path: Path) -> None:
    model = plain()
    model.save_weights(tmp_path / "weights", save_format="h5", options=None)
    model.save(tmp_path / "whole", save_format="h5")
    other = plain()
    other.load_weights(tmp_path / "weights")
    assert same(other, model) and same(load_model(tmp_path / "whole"), model)
    for save in (model.save, model.save_weights):
        with pytest.raises(ValueError, match="TensorFlow's own formats are not written; leave it out and end"):
            save(tmp_path / "x.tf", save_format="tf")
    with pytest.raises(ValueError, match="contradict"):
        model.save_weights(tmp_path / "w.npz", save_format="h5")
    with pytest.raises(ValueError, match=r"unknown arguments \['format'\]"):
        model.save_weights(tmp_path / "w.npz", format="h5")
    with pytest.raises(ValueError, match=r"\.weights\.h5, .*which says in what format, got '.*checkpoint'"):
        model.save_weights(tmp_path / "checkpoint")


@pytest.mark.parametrize("ending", [".h5", ".weights.h5"])
def test_warnings_point_at_the_users_line(ending, tmp_path):
    saved, other = (minikeras.Sequential([minikeras.Input((3,)), layers.Dense(n)]) for n in (2, 4))
    saved.save_weights(path := tmp_path / f"w{ending}")
    with pytest.warns(UserWarning, match="It was left alone") as told:
        other.load_weights(path, skip_mismatch=True)
    assert [one.filename for one in told] == [__file__]


# ---------------------------------------------------------------- arguments that make no sense


@pytest.mark.parametrize("objects", [5, "Scaled", ["Scaled"], [("Scaled", Scaled)], {1: Scaled}])
def test_custom_objects_that_are_no_dict_by_names(saved: Any, objects: Any) -> None:
    _, path = saved
    with pytest.raises(ValueError, match="custom_objects must be a dict of classes and functions by their names"):
        load_model(path, custom_objects=objects)
    with pytest.raises(ValueError, match="custom_objects must be"), minikeras.saving.CustomObjectScope(objects):
        pass


@pytest.mark.parametrize(
    "argument",
    [{"skip_mismatch": "no"}, {"by_name": "no"}, {"objects_to_skip": "x"}, {"objects_to_skip": [1]}]
    + [{"objects_to_skip": 5}, {"objects_to_skip": ["doubled"]}],
)
def test_arguments_of_load_weights(saved: Any, argument: Any) -> None:
    model, path = saved
    with pytest.raises(ValueError, match=f"{next(iter(argument))} must be"):
        model.load_weights(path, **argument)


def test_arguments_of_load_model(saved: Any) -> None:
    with pytest.raises(ValueError, match="compile must be"):
        load_model(saved[1], custom_objects=OWN, compile="no")
