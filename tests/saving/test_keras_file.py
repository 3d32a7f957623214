"""`.keras` files: round trips, what makes them fail, and files that must not be trusted."""

import io
import json
import sys
import zipfile

import h5py
import numpy as np
import pytest

import minikeras
from minikeras import layers, ops
from minikeras.registry import custom_object_scope, register_keras_serializable
from minikeras.saving import load_model, save_model

X = np.linspace(-1, 1, 24, dtype="f4").reshape(8, 3)
Y = X[:, :2]


def network():
    inputs = minikeras.Input((3,), name="entrance")
    hidden = layers.Dense(4, activation="relu", kernel_regularizer="l2", name="hidden")(inputs)
    model = minikeras.Model(
        inputs, layers.Dense(2, name="head")(layers.Dropout(0.2)(hidden) * 2.0 + hidden), name="net"
    )
    model.compile(minikeras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    model.fit(X, Y, batch_size=4, epochs=2, verbose=0)
    return model


def assert_same_model(ours, other):
    assert np.array_equal(ours.predict(X, verbose=0), other.predict(X, verbose=0))
    assert all(np.array_equal(a, b) for a, b in zip(ours.get_weights(), other.get_weights(), strict=True))


@pytest.fixture
def saved(tmp_path):
    model = network()
    path = tmp_path / "net.keras"
    model.save(path)
    return model, path


def rewrite(path, **members):
    """Replace members of an archive: a function of the old content, or the new content; None leaves one out."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    for name, change in members.items():
        name = {"config": "config.json", "weights": "model.weights.h5"}[name]
        contents[name] = change(contents[name]) if callable(change) else change
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            if content is not None:
                archive.writestr(name, content)


def rewrite_config(path, change):
    def edit(content):
        config = json.loads(content)
        change(config)
        return json.dumps(config)

    rewrite(path, config=edit)


def refused(path, match, **kwargs):
    with pytest.raises(ValueError, match=match) as error:
        load_model(path, **kwargs)
    assert path.name in str(error.value) and "\n" not in str(error.value)


# ---------------------------------------------------------------- round trips


def test_functional_model(saved):
    model, path = saved
    copy = load_model(path)
    assert_same_model(model, copy)
    assert copy.name == "net" and [layer.name for layer in copy.layers] == [layer.name for layer in model.layers]
    assert copy.loss == "mse" and copy.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)


def test_training_goes_on_as_if_nothing_had_happened(tmp_path):
    model = minikeras.Sequential([minikeras.Input((3,)), layers.Dense(5), layers.BatchNormalization(), layers.Dense(2)])
    model.compile(minikeras.optimizers.SGD(0.01, momentum=0.9), "mse")
    model.fit(X, Y, epochs=2, verbose=0)
    save_model(model, tmp_path / "m.keras")
    copy = load_model(tmp_path / "m.keras")
    for network_ in (model, copy):
        network_.fit(X, Y, epochs=2, verbose=0, shuffle=False)
    assert_same_model(model, copy)


def test_without_compiling(saved):
    model, path = saved
    copy = load_model(path, compile=False)
    assert not copy.compiled
    assert_same_model(model, copy)


def test_uncompiled_and_unbuilt_models(tmp_path):
    model = minikeras.Sequential([layers.Dense(3), layers.Dense(2)])
    model.save(tmp_path / "m.keras")
    copy = load_model(tmp_path / "m.keras")
    assert not copy.built and [layer.units for layer in copy.layers] == [3, 2]


def test_frozen_layers_stay_frozen(tmp_path):
    model = network()
    model.get_layer("hidden").trainable = False
    model.compile("adam", "mse")
    model.save(tmp_path / "m.keras")
    copy = load_model(tmp_path / "m.keras")
    assert [w.path for w in copy.trainable_weights] == [w.path for w in copy.get_layer("head").weights]


def test_weights_of_a_model_file(saved):
    model, path = saved
    other = network()
    other.load_weights(path)
    assert_same_model(model, other)


def test_names_are_kept_with_odd_characters(tmp_path):
    inputs = minikeras.Input((3,))
    model = minikeras.Model(inputs, layers.Dense(2, name="größe 1/2")(inputs))
    model.save(tmp_path / "ä ö.keras")
    assert load_model(tmp_path / "ä ö.keras").layers[-1].name == "größe 1/2"


def test_saving_imports_h5py_only_when_needed():
    import subprocess

    code = "import minikeras.saving, sys; assert 'h5py' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


class Scaled(layers.Layer):
    def __init__(self, factor=2.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, input_shape):
        self.shift = self.add_weight((input_shape[-1],), name="shift")

    def call(self, x):
        return x * self.factor + self.shift


class Net(minikeras.Model):
    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.stem, self.head = layers.Dense(units, activation="relu"), layers.Dense(2)

    def call(self, x):
        return self.head(ops.tanh(self.stem(x)))


@register_keras_serializable("files")
def own_loss(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred), axis=-1)


def test_users_classes_that_are_passed(tmp_path):
    model = minikeras.Sequential([minikeras.Input((3,)), Scaled(3.0), Net(units=5), layers.Dense(2)])
    model.compile("adam", own_loss)
    model.fit(X, Y, verbose=0)
    path = tmp_path / "m.keras"
    model.save(path)
    refused(path, "neither built in nor registered")
    copy = load_model(path, custom_objects={"Scaled": Scaled, "Net": Net})
    assert_same_model(model, copy)
    assert copy.layers[0].factor == 3.0 and copy.loss is own_loss
    with custom_object_scope({"Scaled": Scaled, "Net": Net}):
        assert_same_model(model, load_model(path))


def test_subclassed_model_with_registration(tmp_path):
    @register_keras_serializable("files")
    class Registered(Net):
        pass

    model = Registered(units=4)
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "m.keras")
    copy = load_model(tmp_path / "m.keras")
    assert type(copy) is Registered and copy.units == 4
    assert_same_model(model, copy)
    model.fit(X, Y, verbose=0, shuffle=False)
    copy.fit(X, Y, verbose=0, shuffle=False)
    assert_same_model(model, copy)


def test_subclass_made_from_inputs_and_outputs(tmp_path):
    @register_keras_serializable("files")
    class Own(minikeras.Model):
        def train_step(self, data):
            return super().train_step(data)

    inputs = minikeras.Input((3,))
    model = Own(inputs, layers.Dense(2)(inputs))
    model.compile("sgd", "mse")
    model.save(tmp_path / "m.keras")
    copy = load_model(tmp_path / "m.keras")
    assert type(copy) is Own
    assert_same_model(model, copy)


# ---------------------------------------------------------------- writing


def test_endings(tmp_path):
    model = network()
    for name in ("m", "m.zip", "m.npz"):
        with pytest.raises(ValueError, match=r"ending in \.keras, \.h5 or \.hdf5"):
            model.save(tmp_path / name)
        with pytest.raises(FileNotFoundError, match="no file"):
            load_model(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no file"):
        load_model(tmp_path / "none.keras")
    (tmp_path / "folder.keras").mkdir()
    with pytest.raises(ValueError, match="folder without config"):
        load_model(tmp_path / "folder.keras")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.keras"]


def test_overwrite(saved):
    model, path = saved
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="exists"):
        model.save(path, overwrite=False)
    assert path.read_bytes() == before
    model.save(path)


def test_failed_writing_keeps_the_old_file(saved, monkeypatch):
    model, path = saved
    before = path.read_bytes()

    def fail(*args):
        raise OSError("no space left on device")

    for target in ("zipfile.ZipFile.writestr", "os.fsync", "os.replace"):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
            patch.setattr(target, fail)
            model.save(path)
        assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == [path.name]


def test_what_cannot_be_described_leaves_no_file(tmp_path):
    model = minikeras.Sequential([minikeras.Input((3,)), layers.Dense(2, activation=lambda x: x)])
    with pytest.raises(ValueError, match="without a name"):
        model.save(tmp_path / "m.keras")
    compiled = network()
    compiled.compile("sgd", lambda y, p: ops.mean(y - p))
    with pytest.raises(ValueError, match="without a name"):
        compiled.save(tmp_path / "m.keras")
    assert not list(tmp_path.iterdir())


def test_unknown_arguments(tmp_path):
    for name, options, match in (
        ("m.keras", {"save_format": "h5"}, "contradict"),
        ("m.h5", {"save_format": "keras"}, "contradict"),
        ("m", {"save_format": "keras"}, "contradict"),
        ("m", {"save_format": "tf"}, "TensorFlow's own formats are not written"),
        ("m.keras", {"signatures": 1}, "unknown arguments"),
        ("m.keras", {"zipped": False}, "writes a folder"),
        ("m", {"zipped": False, "save_format": "h5"}, "writes a folder"),
        ("m.keras", {"zipped": "yes"}, "zipped"),
        ("m.keras", {"overwrite": "yes"}, "overwrite"),
        ("m.keras", {"other": 1}, "unknown arguments"),
    ):
        with pytest.raises(ValueError, match=match):
            network().save(tmp_path / name, **options)
    assert not list(tmp_path.iterdir())
    network().save(tmp_path / "m.keras", save_format="keras", options=None)


# ---------------------------------------------------------------- damaged and malicious files


@pytest.mark.parametrize("keep", [0, 10, 2000, -30])
def test_truncated(saved, keep):
    _, path = saved
    path.write_bytes(path.read_bytes()[:keep])
    refused(path, "damaged" if keep else "is empty")


def test_flipped_bytes(saved):
    _, path = saved
    content = bytearray(path.read_bytes())
    start = content.index(b'"units"')
    content[start + 1] ^= 1
    path.write_bytes(content)
    refused(path, "damaged")


def test_foreign_files(saved):
    _, path = saved
    path.write_text("not a model")
    refused(path, "damaged")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(path, "not a model file")


def test_missing_members(saved):
    _, path = saved
    rewrite(path, weights=None)
    refused(path, "not a model file")


def test_damaged_members(saved):
    _, path = saved
    for weights, match in ((b"not hdf5", "damaged"), (lambda content: b"", "damaged")):
        rewrite(path, weights=weights)
        refused(path, match)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"3", b'{"class_name": 1}', b"\xff\xfe", b"[" * 100_000, b"null"])
def test_description_that_is_none(saved, text):
    _, path = saved
    rewrite(path, config=text)
    refused(path, "cannot be loaded")


def test_description_of_no_model(saved):
    _, path = saved
    rewrite(path, config=json.dumps({"module": "keras.layers", "class_name": "Dense", "config": {"units": 2}}))
    refused(path, "no model")


def test_deep_description(saved):
    _, path = saved

    def nest(config):
        value = []
        for _ in range(500):
            value = [value]
        config["config"]["layers"][1]["config"]["units"] = value

    rewrite_config(path, nest)
    refused(path, "levels deep")


def dense(config):
    return config["config"]["layers"][1]


ATTACKS = {
    "lambda": (
        lambda c: dense(c)["config"].update(activation={"class_name": "__lambda__", "config": {"value": ""}}),
        "never",
    ),
    "lambda layer": (lambda c: dense(c).update(class_name="Lambda"), "never taken from a description"),
    "lambda layer of a built-in function": (
        lambda c: dense(c).update(
            class_name="Lambda",
            config={"function": {"module": "builtins", "class_name": "function", "config": "relu"}},
        ),
        "never taken from a description",
    ),
    "lambda layer of bytecode": (
        lambda c: dense(c).update(
            class_name="Lambda", config={"function": {"class_name": "__lambda__", "config": {"code": "4wE="}}}
        ),
        "never taken from a description",
    ),
    "foreign module": (lambda c: dense(c).update(module="os", class_name="system"), "neither built in nor registered"),
    "foreign function": (
        lambda c: dense(c)["config"].update(
            activation={"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}
        ),
        "function 'system'.*neither built in nor registered",
    ),
    "keras function as a node": (
        lambda c: dense(c).update(module="keras.utils", class_name="get_file"),
        "neither built in nor registered",
    ),
    "safe mode off": (lambda c: dense(c)["config"].update(safe_mode=False), "unknown arguments"),
    "unknown argument": (lambda c: dense(c)["config"].update(evil=1), "unknown arguments"),
    "unknown entry": (lambda c: dense(c).update(evil=1), "unknown entries"),
    "more weights than the file has": (lambda c: dense(c)["config"].update(units=10**7), "bytes for a weight of shape"),
    "astronomically many weights": (lambda c: dense(c)["config"].update(units=10**30), r"more than 2\*\*60 bytes"),
    "other number of weights": (lambda c: dense(c)["config"].update(units=5), "expects inputs with 4"),
    "unconnected layer": (
        lambda c: c["config"]["layers"].append({**dense(c), "name": "spare", "inbound_nodes": []}),
        "no output needs",
    ),
    "compile with a foreign loss": (
        lambda c: c["compile_config"].update(loss={"module": "os", "class_name": "function", "config": "remove"}),
        "function 'remove'.*neither built in nor registered",
    ),
    "compile with unknown arguments": (lambda c: c["compile_config"].update(callbacks=[]), "unknown arguments"),
    "compile with a foreign optimizer": (
        lambda c: c["compile_config"].update(optimizer={"module": "os", "class_name": "Popen", "config": {}}),
        "neither built in",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(saved, name):
    _, path = saved
    change, match = ATTACKS[name]
    rewrite_config(path, change)
    for safe_mode in (True, False):
        refused(path, match, safe_mode=safe_mode)


def test_zip_bomb(saved):
    _, path = saved
    with zipfile.ZipFile(path) as archive:
        config = archive.read("config.json")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", bytes(50 << 20))
    refused(path, "far more than the file holds")


def test_compressed_archive_of_honest_size(saved):
    model, path = saved
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    assert_same_model(model, load_model(path))


def test_members_elsewhere_are_ignored(saved):
    model, path = saved
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../outside.txt", "x")
        archive.writestr("assets/evil.py", "raise SystemExit")
    assert_same_model(model, load_model(path))
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_shape_bomb_inside(saved):
    _, path = saved

    def edit(content):
        stream = io.BytesIO(content)
        with h5py.File(stream, "a") as file:
            del file["layers/dense/vars/0"]
            file.create_dataset("layers/dense/vars/0", (1 << 20, 1 << 20), "f4", chunks=(64, 64), compression="gzip")
        return stream.getvalue()

    rewrite(path, weights=edit)
    refused(path, "far more than the file holds")


def test_weights_that_do_not_belong(saved, tmp_path):
    _, path = saved
    other = minikeras.Sequential([minikeras.Input((7,)), layers.Dense(3), layers.Dense(2)])
    other.save(tmp_path / "other.keras")
    with zipfile.ZipFile(tmp_path / "other.keras") as archive:
        weights = archive.read("model.weights.h5")
    rewrite(path, weights=weights)
    refused(path, "does not fit")


@register_keras_serializable("tests")
class SaysThatItIsBuilt(layers.Layer):
    """Sets `built` in `build`, as many do."""

    def __init__(self, units=2, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = layers.Dense(units)

    def build(self, input_shape):
        super().build(input_shape)
        self.dense.build(input_shape)
        self.built = True

    def call(self, x):
        return self.dense(x)


@register_keras_serializable("tests")
class SeveralInputs(minikeras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.parts = {name: SaysThatItIsBuilt(3) for name in "ab"}

    def build(self, shapes):
        for name, shape in shapes.items():
            self.parts[name].build(shape)
        self.built = True

    def call(self, inputs):
        return {"sum": sum(self.parts[name](inputs[name]) for name in "ab")}


@pytest.mark.parametrize("by_call", [True, False])
@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_a_build_that_says_it_is_done(tmp_path, by_call, name):
    model, inputs = SeveralInputs(), {"a": X, "b": X[:, :2]}
    if not by_call:
        model.build({"a": (None, 3), "b": (None, 2)})
    wanted = model(inputs)["sum"]
    assert model.get_build_config()["input_shape"].keys() == {"a", "b"}
    model.save(tmp_path / name)
    assert np.array_equal(load_model(tmp_path / name)(inputs)["sum"], wanted)
    layer = SaysThatItIsBuilt()
    layer.build((None, 3))
    assert layer.get_build_config() == {"input_shape": (None, 3)}
