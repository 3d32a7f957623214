"""Weights in `.h5` files of Keras 2's layout: in order or by name, and files that must not be trusted."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

import minikeras
from minikeras import layers


def network(features=3, first="first"):
    return minikeras.Sequential(
        [
            minikeras.Input((features,)),
            layers.Dense(4, name=first),
            layers.ReLU(),
            minikeras.Sequential([layers.BatchNormalization(name="bn"), layers.Dense(2, name="last")], name="rest"),
        ]
    )


def written(path, model, cut=False):
    """The file, as Keras 2 writes it: layers without weights too, a nested model's trained weights first."""
    with h5py.File(path, "w") as file:
        names = [layer.name.encode() for layer in model.layers]
        for i, part in enumerate([names[:1], names[1:]] if cut else [names]):
            file.attrs[f"layer_names{i}" if cut else "layer_names"] = part
        file.attrs["keras_version"], file.attrs["backend"] = b"2.2.4", b"tensorflow"
        for layer in model.layers:
            group = file.create_group(layer.name)
            weights = [*layer.trainable_weights, *layer.non_trainable_weights]
            group.attrs["weight_names"] = [f"part/w_{i}:0".encode() for i in range(len(weights))]
            for i, weight in enumerate(weights):
                group[f"part/w_{i}:0"] = weight.numpy()
    return path


@pytest.fixture
def saved(tmp_path):
    model = network()
    model.set_weights([np.random.default_rng(0).uniform(0.5, 1, w.shape) for w in model.get_weights()])
    return model, written(tmp_path / "m.h5", model)


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def refused(path, match, model=None, **arguments):
    model = model or network()
    before = model.get_weights()
    with pytest.raises(ValueError, match=match) as error:
        model.load_weights(path, **arguments)
    assert path.name in str(error.value)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True))


@pytest.mark.parametrize("cut", [False, True])
def test_in_order_whatever_the_names(saved, tmp_path, cut):
    model, _ = saved
    other = network(first="other")
    other.load_weights(written(tmp_path / "cut.hdf5", model, cut))
    assert same(other, model)


def test_by_name(saved):
    model, path = saved
    other = minikeras.Sequential([minikeras.Input((3,)), layers.Dense(4, name="first"), layers.Dense(5, name="new")])
    new = other.layers[1].get_weights()
    other.load_weights(path, by_name=True)
    assert np.array_equal(other.layers[0].get_weights()[0], model.layers[0].get_weights()[0])
    assert np.array_equal(other.layers[1].get_weights()[0], new[0])


def test_what_does_not_fit(saved, tmp_path):
    model, path = saved
    refused(path, "3 layers|2 layers with weights", minikeras.Sequential([minikeras.Input((3,)), layers.Dense(4)]))
    refused(path, r"'first' has weights of the shapes \[\(5, 4\), \(4,\)\], the file has \[\(3, 4\)", network(5))
    other = network(5)
    with pytest.warns(UserWarning, match="left alone"):
        other.load_weights(path, skip_mismatch=True)
    assert same(other.layers[-1], model.layers[-1])
    with pytest.raises(ValueError, match="by_name"):
        model.save_weights(tmp_path / "m.weights.h5") or model.load_weights(tmp_path / "m.weights.h5", by_name=True)
    with pytest.raises(ValueError, match="unknown arguments"):
        model.load_weights(path, other=1)


def test_files_of_other_kinds(tmp_path, saved):
    (tmp_path / "text.h5").write_text("weights")
    refused(tmp_path / "text.h5", "damaged")
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    refused(tmp_path / "empty.h5", "0 layers")


def attack(name):
    def decorate(function):
        ATTACKS[name] = function
        return function

    return decorate


ATTACKS = {}


@attack("soft link")
def _(group, path):
    group["part/w_0:0"] = h5py.SoftLink("/first/part/w_1:0")
    return "link"


@attack("link to another file")
def _(group, path):
    with h5py.File(path.with_name("secret.h5"), "w") as file:
        file["w"] = np.ones((3, 4))
    group["part/w_0:0"] = h5py.ExternalLink("secret.h5", "w")
    return "link"


@attack("stored in another file")
def _(group, path):
    path.with_name("secret").write_bytes(bytes(96))
    group.create_dataset("part/w_0:0", (3, 4), "f8", external=[(str(path.with_name("secret")), 0, 96)])
    return "another file"


@attack("virtual")
def _(group, path):
    layout = h5py.VirtualLayout((3, 4), "f4")
    layout[:] = h5py.VirtualSource(str(path.with_name("secret.h5")), "w", shape=(3, 4))
    group.create_virtual_dataset("part/w_0:0", layout)
    return "another file"


@attack("enormous")
def _(group, path):
    group.create_dataset("part/w_0:0", (1 << 20, 1 << 20), "f4", chunks=(1024, 1024))
    return "far more than the file holds"


@attack("words in place of numbers")
def _(group, path):
    group["part/w_0:0"] = [b"a", b"b"]
    return "should hold numbers"


@attack("missing")
def _(group, path):
    return "lacks"


@pytest.mark.parametrize("name", ATTACKS)
def test_files_that_reach_elsewhere(saved, name):
    with h5py.File(saved[1], "a") as file:
        del file["first/part/w_0:0"]
        match = ATTACKS[name](file["first"], saved[1])
    refused(saved[1], match)


@pytest.mark.parametrize("path", ["", ".", "..", "/first", "part//w_0:0", "part/./w_0:0", "part"])
def test_names_that_are_none(saved, path):
    with h5py.File(saved[1], "a") as file:
        names = list(file["first"].attrs["weight_names"])
        file["first"].attrs["weight_names"] = [path, names[1]]
    refused(saved[1], "lacks|should have")


@pytest.mark.parametrize("value", [3, [1.5, 2.5], h5py.Empty("f4")])
def test_attributes_without_words(saved, value):
    with h5py.File(saved[1], "a") as file:
        file.attrs["layer_names"] = value
    refused(saved[1], "should have words")
