"""Weights in `.h5` files of Keras 2's layout: in order or by name, and files that must not be trusted."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

import minikeras
from minikeras import layers
from minikeras.saving.hdf5_layers import write_layers
from tests.saving.hdf5_cases import numbers, read_weights, write_file


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
    refused(tmp_path / "empty.h5", "without a model or weights")


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


# ---------------------------------------------------------------- what older arrays mean

CONVOLUTIONS = {
    "Conv1D": (lambda L, **o: L.Conv1D(4, 3, **o), (6, 2)),
    "Conv2D": (lambda L, **o: L.Conv2D(4, (3, 2), **o), (6, 5, 2)),
    "Conv3D": (lambda L, **o: L.Conv3D(4, (3, 2, 1), **o), (4, 4, 4, 2)),
    "Conv2DTranspose": (lambda L, **o: L.Conv2DTranspose(4, (3, 2), **o), (6, 5, 2)),
    "ConvLSTM2D": (lambda L, **o: L.ConvLSTM2D(4, (3, 2), **o), (2, 6, 5, 2)),
}


def filled(*stack, shape):
    """A model with weights that are all different."""
    model = minikeras.Sequential([minikeras.Input(shape), *stack])
    model.set_weights(numbers(*[w.shape for w in model.weights], seed=5))
    return model


def emptied(model):
    """The same model with other weights."""
    other = minikeras.models.clone_model(model)
    other.set_weights([0 * value for value in model.get_weights()])
    return other


def read_back(tmp_path, model, arrays, version, **options):
    """The model after reading a file whose first layer has these arrays, and the sentences about it."""
    report: list[str] = []
    names = {f"part/w_{i}:0": array for i, array in enumerate(arrays)}
    path = write_file(tmp_path / "m.h5", {"layer": names}, version, **options)
    other = emptied(model)
    read_weights(other, path, report=report)
    return other, report


def flipped(kernel):
    return np.flip(kernel, range(kernel.ndim - 2))


@pytest.mark.parametrize("inside", ["alone", "TimeDistributed", "model"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_theanos_kernels_are_turned_around(name, inside, tmp_path):
    make, shape = CONVOLUTIONS[name]
    layer = make(layers)
    if inside == "TimeDistributed":
        layer, shape = layers.TimeDistributed(layer), (2, *shape)
    if inside == "model":
        layer = minikeras.Sequential([minikeras.Input(shape), layer])
    model = filled(layer, shape=shape)
    arrays = [flipped(array) if array.ndim > 2 else array for array in model.get_weights()]
    other, report = read_back(tmp_path, model, arrays, "2.0.6", backend="theano")
    assert same(other, model)
    assert len(report) == 1
    assert "Theano" in report[0]
    assert not same(read_back(tmp_path, model, arrays, "2.0.6")[0], model)


@pytest.mark.parametrize("backend", ["tensorflow", "theano"])
@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("name", ["Conv2D", "Conv3D", "Conv2DTranspose"])
def test_kernels_of_keras_1(name, data_format, backend, tmp_path):
    make, shape = CONVOLUTIONS[name]
    first = data_format == "channels_first"
    model = filled(make(layers, data_format=data_format), shape=(2, *shape[:-1]) if first else shape)
    kernel, bias = model.get_weights()
    kernel = flipped(kernel) if backend == "theano" else kernel
    if name == "Conv2DTranspose":
        kernel = np.swapaxes(kernel, -1, -2)  # (..., channels, filters)
    if first:
        kernel = np.moveaxis(kernel, (-1, -2), (0, 1))  # (filters, channels, ...)
    other, report = read_back(tmp_path, model, [kernel, bias], "1.2.2", backend=backend)
    assert same(other, model)
    assert len(report) == (first or name == "Conv2DTranspose") + (backend == "theano")


@pytest.mark.parametrize("age", ["1.0", "1.2"])
def test_conv1d_of_keras_1(age, tmp_path):
    model = filled(layers.Conv1D(4, 3), shape=(6, 2))
    kernel, bias = model.get_weights()
    kernel = kernel[:, None]
    kernel = kernel.transpose(3, 2, 0, 1) if age == "1.0" else kernel
    assert same(read_back(tmp_path, model, [kernel, bias], None)[0], model)


GATES = {"LSTM": "icfo", "GRU": "zrh", "ConvLSTM2D": "icfo"}
OURS = {"LSTM": "ifco", "GRU": "zrh", "ConvLSTM2D": "ifco"}


@pytest.mark.parametrize("inside", ["alone", "Bidirectional", "model"])
@pytest.mark.parametrize("name", GATES)
def test_gates_of_keras_1_had_arrays_of_their_own(name, inside, tmp_path):
    make = {"LSTM": lambda: layers.LSTM(4), "GRU": lambda: layers.GRU(4, reset_after=False)}.get(name)
    layer, shape = (make(), (5, 3)) if make else (layers.ConvLSTM2D(4, 2), (2, 4, 4, 3))
    if inside == "Bidirectional" and name != "ConvLSTM2D":
        layer = layers.Bidirectional(layer)
    if inside == "model":
        layer = minikeras.Sequential([minikeras.Input(shape), layer, layers.Dense(2)])
    model = filled(layer, shape=shape)
    values, arrays = model.get_weights(), []
    while len(values) >= 3:
        parts = [np.split(one, len(OURS[name]), axis=-1) for one in values[:3]]
        arrays += [part[OURS[name].index(gate)] for gate in GATES[name] for part in parts]
        values = values[3:]
    other, report = read_back(tmp_path, model, arrays + values, "1.2.2")
    assert same(other, model)
    assert "were joined" in report[0]


def from_ours(kernel, recurrent, bias, gates):
    """Weights as cuDNN keeps them: for each gate the transposed kernel, row after row, in the shape of ours."""
    kernels = [part.T.reshape(part.shape) for part in np.split(kernel, gates, axis=1)]
    recurrents = [part.T for part in np.split(recurrent, gates, axis=1)]
    return [np.concatenate(kernels, axis=1), np.concatenate(recurrents, axis=1), bias]


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_weights_of_cudnn(name, both, tmp_path):
    layer = layers.LSTM(4) if name == "LSTM" else layers.GRU(4)
    model = filled(layers.Bidirectional(layer) if both else layer, shape=(5, 3))
    values, arrays = model.get_weights(), []
    while values:
        kernel, recurrent, bias = values[:3]
        bias = np.concatenate([bias * 0.25, bias * 0.75]) if name == "LSTM" else bias.reshape(-1)
        arrays += from_ours(kernel, recurrent, bias, 4 if name == "LSTM" else 3)
        values = values[3:]
    other, report = read_back(tmp_path, model, arrays, "2.2.4")
    for a, b in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert f"CuDNN{name}" in report[0]


@pytest.mark.parametrize("made", [True, False])
def test_a_gru_that_computes_otherwise(made, tmp_path):
    source = filled(layers.GRU(4, reset_after=made), shape=(5, 3))
    model = filled(layers.GRU(4, reset_after=not made), shape=(5, 3))
    match = rf"reset_after={not made}, the file one with reset_after={made}.*make it with reset_after={made}\."
    with pytest.raises(ValueError, match=match):
        read_back(tmp_path, model, source.get_weights(), "2.2.4")


# ---------------------------------------------------------------- orders and names


def with_norms():
    inner = [
        layers.BatchNormalization(name="one"),
        layers.Dense(3, name="dense"),
        layers.BatchNormalization(name="two"),
    ]
    return filled(minikeras.Sequential([minikeras.Input((3,)), *inner], name="inner"), shape=(3,))


@pytest.mark.parametrize("frozen", ["when saved", "when read"])
def test_layers_that_were_trained_or_not_when_they_were_saved(frozen, tmp_path):
    """All arrays have one shape; which is which only their names tell."""
    model, other = with_norms(), with_norms()
    other.set_weights([0 * value for value in other.get_weights()])
    (model if frozen == "when saved" else other).layers[0].trainable = False
    with h5py.File(tmp_path / "w.h5", "w") as root:
        write_layers(model, root)
    other.load_weights(tmp_path / "w.h5")
    assert same(other, model)


def test_layers_of_a_model_inside_in_another_order(tmp_path):
    x = minikeras.Input((3,))
    inner = minikeras.Model(x, [layers.Dense(3, name=name)(x) for name in ("a", "b")], name="inner")
    inputs = minikeras.Input((3,))
    model = minikeras.Model(inputs, inner(inputs))
    model.set_weights(numbers((3, 3), (3,), (3, 3), (3,), seed=5))
    ordered = dict(zip(("a/kernel:0", "a/bias:0", "b/kernel:0", "b/bias:0"), model.get_weights(), strict=True))
    arrays = {"inner": {name: ordered[name] for name in sorted(ordered, reverse=True)}}
    other = emptied(model)
    read_weights(other, write_file(tmp_path / "w.h5", arrays, "2.2.4"))
    assert same(other, model)


def test_names_with_slashes_and_without_numbers(tmp_path):
    model = filled(layers.Dense(2, name="a/b"), layers.Dense(2, name="a"), shape=(3,))
    (kernel, bias), second = (layer.get_weights() for layer in model.layers)
    arrays = {"a/b": {"kernel": kernel, "bias": bias}, "a": dict(zip(("kernel", "bias"), second, strict=True))}
    other = emptied(model)
    read_weights(other, write_file(tmp_path / "w.h5", arrays, "2.2.4"))
    assert same(other, model)
    with h5py.File(tmp_path / "own.h5", "w") as root:
        write_layers(model, root)
    other = emptied(model)
    other.load_weights(tmp_path / "own.h5", by_name=True)
    assert same(other, model)


def test_more_names_than_one_attribute_holds(tmp_path):
    names = [f"{'long' * 150}_{i}" for i in range(120)]
    model = minikeras.Sequential(
        [minikeras.Input((1,)), *[layers.Dense(1, use_bias=False, name=name) for name in names]]
    )
    model.set_weights([np.full((1, 1), i) for i in range(120)])
    with h5py.File(tmp_path / "w.h5", "w") as root:
        write_layers(model, root)
        assert "layer_names" not in root.attrs
        assert "layer_names1" in root.attrs
    other = emptied(model)
    other.load_weights(tmp_path / "w.h5")
    assert same(other, model)


def test_a_file_without_any_layer_of_the_models_names(tmp_path, saved):
    other = minikeras.Sequential([minikeras.Input((3,)), layers.Dense(4, name="unlike")])
    with pytest.warns(UserWarning, match="no layer of a name"):
        other.load_weights(saved[1], by_name=True)


def test_bfloat16_is_written_as_numbers(tmp_path):
    model = filled(layers.Dense(2, dtype="bfloat16"), shape=(3,))
    with h5py.File(tmp_path / "w.h5", "w") as root:
        write_layers(model, root)
    other = emptied(model)
    other.load_weights(tmp_path / "w.h5")
    assert all(np.array_equal(a, b) for a, b in zip(other.get_weights(), model.get_weights(), strict=True))


def test_arrays_far_larger_than_the_models_are_not_read(tmp_path):
    model = filled(layers.Dense(2), shape=(3,))
    path = write_file(tmp_path / "w.h5", {"d": {"kernel:0": np.zeros((3000, 2)), "bias:0": np.zeros(2)}}, "2.2.4")
    refused(path, r"the file has \[\(3000, 2\), \(2,\)\]", model)
