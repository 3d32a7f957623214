"""`.weights.h5`: layout, round trips, and files that must not be trusted."""

import warnings

import h5py
import numpy as np
import pytest

import minikeras
from minikeras import layers


def network(units=4):
    model = minikeras.Sequential(
        [minikeras.Input((3,)), layers.Dense(units), layers.BatchNormalization(), layers.Dense(2)]
    )
    model.compile("adam", "mse")
    model.train_on_batch(np.ones((5, 3), "f4"), np.ones((5, 2), "f4"))
    return model


def values(model):
    return [*model.get_weights(), *model.optimizer.get_weights()]


def assert_same(ours, others):
    assert all(np.array_equal(a, b) for a, b in zip(ours, others, strict=True))


@pytest.fixture
def saved(tmp_path):
    model = network()
    path = tmp_path / "m.weights.h5"
    model.save_weights(path)
    return model, path


def refused(model, path, match):
    before = values(model)
    with pytest.raises(ValueError, match=match) as error:
        model.load_weights(path)
    assert path.name in str(error.value)
    assert_same(values(model), before)


class Nested(minikeras.Model):
    def __init__(self):
        super().__init__()
        self.bunch = {"b": layers.Dense(2), "a": [layers.Dense(2), layers.LSTM(2)]}
        self._last = layers.Dense(2)
        self.first = minikeras.Sequential([layers.Dense(2)])
        self.alias = self.first
        self.scale = self.add_weight((1,), name="scale")

    @property
    def head(self):
        return self._last

    @property
    def broken(self):
        raise RuntimeError("not now")

    def call(self, x):
        x = self.first(x) * self.scale
        x = self.bunch["a"][0](self.bunch["b"](x))
        return self.bunch["a"][1](minikeras.ops.expand_dims(x, 1)) + self.head(x)


def test_layout_follows_attributes(tmp_path):
    model = Nested()
    model(np.ones((1, 3), "f4"))
    model.save_weights(tmp_path / "n.weights.h5")
    with h5py.File(tmp_path / "n.weights.h5") as file:
        groups = []
        file.visit(lambda name: groups.append(name) if name.endswith("vars") else None)
        assert len(file["vars"]) == 1
    assert sorted(groups) == [
        "alias/layers/dense/vars",
        "alias/vars",
        "bunch/container/dense/vars",
        "bunch/container/lstm/cell/vars",
        "bunch/container/lstm/vars",
        "bunch/dense/vars",
        "head/vars",
        "vars",
    ]
    other = Nested()
    other(np.ones((1, 3), "f4"))
    other.load_weights(tmp_path / "n.weights.h5")
    assert_same(other.get_weights(), model.get_weights())


def test_round_trip_with_optimizer(saved):
    model, path = saved
    other = network()
    other.load_weights(path)
    assert_same(values(other), values(model))


def test_uncompiled_model_leaves_the_optimizer(saved):
    model, path = saved
    other = minikeras.Sequential.from_config(model.get_config())
    other.load_weights(path)
    assert_same(other.get_weights(), model.get_weights())


@pytest.mark.parametrize("as_text", [False, True])
def test_home_folder(tmp_path, monkeypatch, as_text):
    monkeypatch.setenv("HOME", str(tmp_path))
    network().save_weights("~/m.weights.h5")
    assert (tmp_path / "m.weights.h5").is_file()
    network().load_weights(str(tmp_path / "m.weights.h5") if as_text else tmp_path / "m.weights.h5")


def test_wrong_endings_and_places(tmp_path):
    model = network()
    for name in ("m.keras", "m.json", "m", "m.keras.txt"):
        with pytest.raises(ValueError, match=r"ending in \.weights\.h5, .* which says in what format"):
            model.save_weights(tmp_path / name)
        with pytest.raises(FileNotFoundError, match="no file"):
            model.load_weights(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no file"):
        model.load_weights(tmp_path / "none.weights.h5")
    with pytest.raises(FileNotFoundError, match="folder"):
        model.save_weights(tmp_path / "none" / "m.weights.h5")
    with pytest.raises(TypeError, match="path"):
        model.save_weights(3)
    assert not list(tmp_path.iterdir())


def test_unbuilt_models(saved):
    _, path = saved
    model = minikeras.Sequential([layers.Dense(2)])
    with pytest.raises(ValueError, match="before it is built"):
        model.load_weights(path)
    with pytest.raises(ValueError, match="before it is built"):
        model.save_weights(path)


def test_existing_file(saved):
    model, path = saved
    with pytest.raises(FileExistsError, match="exists"):
        model.save_weights(path, overwrite=False)
    model.save_weights(path)


def test_failed_writing_keeps_the_old_file(saved, monkeypatch):
    model, path = saved
    before = path.read_bytes()
    monkeypatch.setattr(type(model.optimizer), "save_own_variables", lambda self, store: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.save_weights(path)
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == [path.name]
    with pytest.raises(ZeroDivisionError):
        model.save_weights(path.with_name("new.weights.h5"))
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_link_stays_a_link(saved):
    model, path = saved
    link = path.with_name("link.weights.h5")
    link.symlink_to(path)
    model.save_weights(link)
    assert link.is_symlink()


# ---------------------------------------------------------------- files that do not fit


def test_other_model_changes_nothing(saved):
    _, path = saved
    refused(network(units=5), path, "has shape")


def test_missing_weights_change_nothing(saved):
    model, path = saved
    with h5py.File(path, "a") as file:
        del file["layers/dense_1/vars/1"]
    refused(model, path, "has 2 weights, the file has 1")


def test_skip_mismatch(saved):
    model, path = saved
    other = network(units=5)
    before = values(other)
    with pytest.warns(UserWarning, match="left alone"):
        other.load_weights(path, skip_mismatch=True)
    assert_same(values(other), before)
    changed = network()
    with h5py.File(path, "a") as file:
        del file["layers/dense_1/vars/1"]
    last = changed.layers[-1].get_weights()
    with pytest.warns(UserWarning, match="left alone"):
        changed.load_weights(path, skip_mismatch=True)
    assert_same(changed.layers[0].get_weights(), model.layers[0].get_weights())
    assert_same(changed.layers[-1].get_weights(), last)


def test_other_optimizer_is_left_alone_with_a_warning(saved):
    model, path = saved
    other = network()
    other.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="not loaded"):
        other.load_weights(path)
    assert_same(other.get_weights(), model.get_weights())


def test_failure_while_reading_changes_nothing(saved, monkeypatch):
    """Whatever fails after the checks, a user's own load_own_variables say, what was read before is taken back."""
    _, path = saved
    model = network()
    before = values(model)
    monkeypatch.setattr(type(model.optimizer), "load_own_variables", lambda self, store: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.load_weights(path)
    assert_same(values(model), before)


def test_unknown_arguments(saved):
    model, path = saved
    with pytest.raises(ValueError, match="by_name"):
        model.load_weights(path, by_name=True)


# ---------------------------------------------------------------- damaged and malicious files


@pytest.mark.parametrize("keep", [0, 7, 100, 3000])
def test_truncated_file(saved, keep):
    model, path = saved
    path.write_bytes(path.read_bytes()[:keep])
    refused(model, path, "damaged" if keep else "is empty")


def test_foreign_file(saved):
    model, path = saved
    path.write_text("not weights at all" * 100)
    refused(model, path, "damaged")


def replace(path, place, make):
    with h5py.File(path, "a") as file:
        shape = file[place].shape if isinstance(file[place], h5py.Dataset) else None
        del file[place]
        make(file, place, shape)


def test_soft_link(saved):
    model, path = saved
    replace(path, "layers/dense/vars/0", lambda f, p, s: f.__setitem__(p, h5py.SoftLink("/layers/dense_1/vars/0")))
    refused(model, path, "link")


def test_soft_link_to_a_group(saved):
    model, path = saved
    replace(path, "layers/dense/vars", lambda f, p, s: f.__setitem__(p, h5py.SoftLink("/layers/dense_1/vars")))
    refused(model, path, "link")


def test_external_link(saved, tmp_path):
    model, path = saved
    network().save_weights(tmp_path / "other.weights.h5")
    link = h5py.ExternalLink(str(tmp_path / "other.weights.h5"), "/layers/dense")
    replace(path, "layers/dense", lambda f, p, s: f.__setitem__(p, link))
    refused(model, path, "link")


def test_external_storage(saved, tmp_path):
    model, path = saved
    (tmp_path / "secret").write_bytes(bytes(range(48)))
    external = [(str(tmp_path / "secret"), 0, 48)]
    replace(path, "layers/dense/vars/0", lambda f, p, s: f.create_dataset(p, s, "f4", external=external))
    refused(model, path, "another file")


def test_virtual_dataset(saved, tmp_path):
    model, path = saved
    network().save_weights(tmp_path / "other.weights.h5")

    def make(file, place, shape):
        layout = h5py.VirtualLayout(shape, "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.weights.h5"), "layers/dense/vars/0", shape=shape)
        file.create_virtual_dataset(place, layout)

    replace(path, "layers/dense/vars/0", make)
    refused(model, path, "another file")


def test_shape_bomb(saved):
    model, path = saved
    replace(
        path, "layers/dense/vars/0", lambda f, p, s: f.create_dataset(p, (1 << 20, 1 << 20), "f4", chunks=(1024, 1024))
    )
    refused(model, path, "far more than the file holds")


def test_shape_bomb_for_the_optimizer(saved):
    model, path = saved
    bomb = dict(shape=(1 << 20, 1 << 20), dtype="f4", chunks=(64, 64), compression="gzip")
    replace(path, "optimizer/vars/2", lambda f, p, s: f.create_dataset(p, **bomb))
    refused(model, path, "far more than the file holds")


@pytest.mark.parametrize("kind", ["S8", h5py.string_dtype(), "c8"])
def test_arrays_of_other_than_numbers(saved, kind):
    model, path = saved
    replace(path, "layers/dense/vars/0", lambda f, p, s: f.create_dataset(p, s, kind))
    refused(model, path, "should hold numbers")


def test_group_in_the_place_of_an_array(saved):
    model, path = saved
    replace(path, "layers/dense/vars/0", lambda f, p, s: f.create_group(p))
    refused(model, path, "should have a Dataset")


def test_array_in_the_place_of_a_group(saved):
    model, path = saved
    replace(path, "layers/dense", lambda f, p, s: f.create_dataset(p, data=[1.0]))
    refused(model, path, "should have a Group")


def test_names_that_are_no_numbers(saved):
    model, path = saved
    with h5py.File(path, "a") as file:
        file.move("layers/dense/vars/0", "layers/dense/vars/kernel")
    refused(model, path, "not numbered")


def test_what_the_model_does_not_know_is_ignored(saved):
    model, path = saved
    with h5py.File(path, "a") as file:
        file["somewhere/else"] = np.ones(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.load_weights(path)


def test_skip_mismatch_where_the_model_has_more_layers(tmp_path):
    """Layers that the file has are read by their paths, as in Keras; the others are left alone."""
    saved = minikeras.Sequential([minikeras.Input((5,)), layers.Dense(4), layers.Dense(3)])
    saved.save_weights(tmp_path / "w.weights.h5")
    model = minikeras.Sequential([minikeras.Input((5,)), layers.Dense(4), layers.Dense(4), layers.Dense(3)])
    before = model.get_weights()
    with pytest.raises(ValueError, match="2 layers of the kind 'dense', the model 3"):
        model.load_weights(tmp_path / "w.weights.h5")
    with pytest.warns(UserWarning, match="It was left alone") as warned:
        model.load_weights(tmp_path / "w.weights.h5", skip_mismatch=True)
    assert len(warned) == 2
    wanted = [*saved.get_weights()[:2], *before[2:]]
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), wanted, strict=True))
