"""Strings as inputs, and the layers that look up, hash, count and sort into bins."""

import copy
import itertools
import json
import pickle
import zipfile

import numpy as np
import pandas as pd
import pytest

import minikeras
from minikeras import Input, Model, Sequential, layers, ops
from minikeras.data import Dataset
from minikeras.layers.hashing import buckets
from minikeras.saving import load_model, register_keras_serializable

TEXTS = ["the cat sat", "The dog, sat!", "a cat", "dog dog dog"]
FORMS = {
    "list": lambda: TEXTS,
    "column": lambda: [[one] for one in TEXTS],
    "NumPy's strings": lambda: np.array(TEXTS),
    "bytes": lambda: np.array(TEXTS).astype("S"),
    "objects": lambda: np.array(TEXTS, dtype=object)[:, None],
    "tensor": lambda: ops.convert_to_tensor(TEXTS),
    "column of a table": lambda: pd.DataFrame({"text": TEXTS})["text"],
}


def classifier(**config):
    layer = layers.TextVectorization(output_sequence_length=4, **config)
    layer.adapt(TEXTS)
    head = [layers.Embedding(layer.vocabulary_size(), 4), layers.GlobalAveragePooling1D(), layers.Dense(1)]
    return Sequential([Input((1,), dtype="string"), layer, *head])


# ---------------------------------------------------------------- strings


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_strings(form):
    x = FORMS[form]()
    layer = layers.TextVectorization()
    layer.adapt(x)
    assert layer.get_vocabulary() == ["", "[UNK]", "dog", "the", "sat", "cat", "a"]
    assert layer(x).tolist() == [[3, 5, 4], [3, 2, 4], [6, 5, 0], [2, 2, 2]]
    model = classifier()
    np.testing.assert_array_equal(model.predict(x, verbose=0), model.predict(TEXTS, verbose=0))
    assert model.predict(x, batch_size=3, verbose=0).shape == (4, 1) == model.predict_on_batch(x).shape


def test_a_tensor_of_strings():
    tensor = ops.convert_to_tensor(["a", "b"], dtype="string")
    assert tensor.shape == (2,) and tensor.numpy().tolist() == ["a", "b"]
    symbolic = Input((3,), dtype="string")
    assert symbolic.dtype == "string" and symbolic.shape == (None, 3)
    assert layers.Identity()(symbolic).shape == (None, 3)


@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (lambda: layers.Dense(2)(np.array([["a"]])), "takes numbers, got strings or other objects; make"),
        (lambda: layers.Dense(2)(Input((1,), dtype="string")), "takes numbers, got strings"),
        (lambda: Sequential([Input((1,)), layers.Dense(2)]).predict(["1", "2"]), "x must hold numbers at the input"),
        (lambda: classifier().predict(np.ones((2, 1)), verbose=0), "x must hold strings at the input"),
        (lambda: classifier()(Input((1,))), "x must hold strings at the input"),
        (lambda: Sequential([Input((1,)), layers.Dense(2)])(Input((1,), dtype="string")), "x must hold numbers"),
        (lambda: ops.cast(ops.convert_to_tensor([1.0]), "string"), "a number type such as 'float32', got 'string'"),
    ],
)
def test_strings_where_numbers_belong(misuse, message):
    with pytest.raises(ValueError, match=message):
        misuse()


def test_training_on_strings():
    for build in (classifier, lambda: Sequential(classifier().layers)):  # with an Input, and without one
        model = build()
        model.compile("adam", "mse")
        before = model.evaluate(np.array(TEXTS), np.arange(4.0), verbose=0)
        model.fit(np.array(TEXTS), np.arange(4.0), batch_size=2, epochs=3, verbose=0)
        dataset = Dataset.from_arrays((np.array(TEXTS), np.arange(4.0))).shuffle(4, seed=1).batch(2)
        history = model.fit(dataset, epochs=20, validation_data=(TEXTS, np.arange(4.0)), verbose=0)
        assert history.history["val_loss"][-1] < before


def test_functional_models_with_strings_and_numbers():
    texts, number = Input((), dtype="string", name="texts"), Input((1,), name="number")
    vector = layers.TextVectorization(vocabulary=["cat", "dog"], output_mode="multi_hot")(texts)
    assert vector.shape == (None, 3) and vector.dtype == "float32"
    kind = layers.StringLookup(vocabulary=["the"], output_mode="one_hot")(Input((1,), dtype="string", name="kind"))
    joined = layers.Concatenate()([vector, number, kind])
    model = Model([texts, number, kind._keras_history[0].input], layers.Dense(2)(joined))
    x = {"texts": np.array(TEXTS), "number": np.ones((4, 1)), "kind": np.array(["the", "The", "a", "dog"])}
    y = model.predict(x, verbose=0)
    np.testing.assert_allclose(y, model.predict([x["texts"], x["number"], x["kind"]], verbose=0))
    inverse = layers.StringLookup(vocabulary=["cat", "dog"], invert=True)
    places = Input((2,), dtype="int64")
    assert inverse(places).dtype == "string"
    model = Model(places, inverse(places))
    assert model.predict(np.array([[1, 2], [0, 7]]), verbose=0).tolist() == [["cat", "dog"], ["[UNK]", "[UNK]"]]


class Own(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.vectorize = layers.TextVectorization(vocabulary=["cat", "dog"], output_mode="count")

    def call(self, inputs):
        return self.vectorize(inputs) * 2.0


def test_layers_of_one_s_own_that_take_strings():
    inputs = Input((1,), dtype="string")
    model = Model(inputs, Own()(inputs))
    assert model.output_shape == (None, 3)
    assert model.predict(TEXTS, verbose=0).tolist() == [[4, 2, 0], [4, 0, 2], [2, 2, 0], [0, 0, 6]]


def test_in_a_dataset(tmp_path):
    layer = layers.TextVectorization(output_sequence_length=3)
    layer.adapt(Dataset.from_arrays(np.array(TEXTS)).batch(3))
    wanted = layer(TEXTS).numpy()
    for parallel in (None, 2):
        batches = (
            Dataset.from_arrays((np.array(TEXTS), np.arange(4)))
            .batch(2)
            .map(lambda x, y: (layer(x), y), num_parallel_calls=parallel)
        )
        np.testing.assert_array_equal(np.concatenate([np.asarray(x) for x, _ in batches]), wanted)
    single = Dataset.from_arrays(np.array(TEXTS)).map(layer).batch(4)
    np.testing.assert_array_equal(np.asarray(next(iter(single))), wanted)
    for number, one in enumerate(TEXTS):
        (tmp_path / "texts").mkdir(exist_ok=True)
        (tmp_path / "texts" / f"{number}.txt").write_text(one)
    folder = minikeras.utils.text_dataset_from_directory(
        tmp_path, labels=None, batch_size=2, shuffle=False, verbose=False
    )
    other = layers.TextVectorization(output_sequence_length=3)
    other.adapt(folder)
    assert other.get_vocabulary() == layer.get_vocabulary()
    other.adapt(folder, steps=1)
    assert other.vocabulary_size() < layer.vocabulary_size()
    other.adapt((batch, 0) for batch in folder)  # the first part of each batch
    assert other.get_vocabulary() == layer.get_vocabulary()


# ---------------------------------------------------------------- text


def test_functions_of_texts():
    def cut(texts):
        assert texts.dtype.kind == "U" and texts.ndim == 1
        return [one.split("a") for one in texts]

    layer = layers.TextVectorization(standardize=lambda texts: np.char.upper(texts), vocabulary=["CAT"])
    assert layer([["a cat"]]).tolist() == [[1, 2]]
    layer = layers.TextVectorization(standardize=None, split=cut, vocabulary=["the c", "t"], output_mode="count")
    assert layer(["the cat", "t"]).tolist() == [[0, 1, 1], [0, 0, 1]]
    with pytest.raises(ValueError, match="needs the tokens of each of 2 texts from split, got 1 lists"):
        layers.TextVectorization(split=lambda texts: [["a"]], vocabulary=["a"])(["a", "b"])


def test_shapes_of_texts():
    layer = layers.TextVectorization(vocabulary=["cat", "sat"])
    assert layer("cat sat").tolist() == [2, 3]
    assert layer(np.empty((0, 1), object)).shape == (0, 0)
    assert layer([""]).tolist() == [[]]
    assert layer(["cat " * 3, "", "dog"]).tolist() == [[2, 2, 2], [0, 0, 0], [1, 0, 0]]
    with pytest.raises(ValueError, match=r"of shape \(batch,\) or \(batch, 1\), got \(1, 2\); tokens need split=None"):
        layer([["cat", "sat"]])
    tokens = layers.TextVectorization(split=None, vocabulary=["cat", "sat"], output_sequence_length=3)
    assert tokens([["cat", "sat"], ["", "dog"]]).tolist() == [[2, 3, 0], [0, 1, 0]]
    counts = layers.TextVectorization(vocabulary=["cat", "sat"], output_mode="count", split=None)
    assert counts([["cat", "cat", ""], ["x", "y", "sat"]]).tolist() == [[0, 2, 0], [2, 0, 1]]
    assert counts(Input((3,), dtype="string")).shape == (None, 3)


def test_text_in_another_encoding():
    layer = layers.TextVectorization(encoding="latin-1")
    layer.adapt([b"\xe4rger caf\xe9", "café"])
    assert layer.get_vocabulary() == ["", "[UNK]", "café", "ärger"]
    assert layer([b"caf\xe9", "café", "ärger"]).tolist() == [[2], [2], [3]]


# ---------------------------------------------------------------- lookups


def test_the_order_of_a_vocabulary():
    layer = layers.StringLookup(max_tokens=4)
    layer.adapt(["b", "a", "c", "b", "c", "a", "d", "[UNK]"])
    assert layer.get_vocabulary() == ["[UNK]", "c", "b", "a"]
    layer = layers.IntegerLookup()
    layer.adapt(iter([np.array([[12, 1138, 42]]), np.array([[42, 1000, 36]])]))
    assert layer.get_vocabulary() == [-1, 42, 1138, 1000, 36, 12]


def test_weights_by_inverse_frequency():
    layer = layers.StringLookup(output_mode="tf_idf")
    layer.adapt([["a", "b"], ["a", "a"]])
    weights = np.log(1 + 2 / (1 + np.array([2, 1])))
    unknown = weights.mean()
    np.testing.assert_allclose(layer([["a", "a", "b", "z"]]), [[unknown, 2 * weights[0], weights[1]]], rtol=1e-6)


def test_a_vocabulary_from_a_file(tmp_path):
    path = tmp_path / "terms.txt"
    path.write_text("fig\npear\n", "utf-8")
    for given in (path, str(path)):
        layer = layers.StringLookup(vocabulary=given)
        assert layer(["pear", "fig", "x"]).tolist() == [2, 1, 0]
        assert layer.get_config()["vocabulary"] is None
        with pytest.raises(ValueError, match="was given its vocabulary"):
            layer.adapt(["x"])
    path.write_text("7\n-3\n")
    assert layers.IntegerLookup(vocabulary=str(path))([-3, 7, 1]).tolist() == [2, 1, 0]
    with pytest.raises(ValueError, match=r"names the vocabulary file '.*terms.txt', which is not read"):
        layers.StringLookup.from_config({"vocabulary": str(path)})


def test_integers_keep_their_digits():
    large = 2**53 + 1
    layer = layers.IntegerLookup(vocabulary=[large, large + 1], num_oov_indices=2, oov_method="farmhash")
    assert layer(np.array([large, large + 1])).tolist() == [2, 3]
    assert layers.IntegerLookup(vocabulary=[5])(np.array([5.0, 6.0])).tolist() == [1, 0]
    assert layers.IntegerLookup(vocabulary=[1])(np.array([True, False])).tolist() == [1, 0]


def test_lookups_of_any_rank():
    terms = ["a", "b"]
    x = np.array([[["a", "b"], ["b", "b"], ["z", "a"]]], dtype=object)
    for mode, shape in {"int": (1, 3, 2), "one_hot": (1, 3, 2, 3), "multi_hot": (1, 3, 3), "count": (1, 3, 3)}.items():
        layer = layers.StringLookup(vocabulary=terms, output_mode=mode)
        assert layer(x).shape == shape == layer.compute_output_shape(x.shape)
    # Keras adds up along axis 1; its documentation and its shapes say the last one
    assert layer(x).tolist() == [[[0, 1, 1], [0, 0, 2], [1, 1, 0]]]
    assert layer("b").tolist() == [0, 0, 1]


REFUSED = {
    "one token": (lambda: layers.StringLookup(max_tokens=1), "must be a whole number of at least 2 or None, got 1"),
    "pad to nothing": (
        lambda: layers.StringLookup(pad_to_max_tokens=True),
        "needs max_tokens of at least 1 for what is",
    ),
    "no room": (lambda: layers.StringLookup(max_tokens=2, num_oov_indices=3), "of at least 3 for what is.*, got 2"),
    "inverse vectors": (lambda: layers.StringLookup(invert=True, output_mode="count"), "needs output_mode='int'"),
    "sparse": (lambda: layers.StringLookup(output_mode="count", sparse=True), "has dense outputs, got sparse=True"),
    "ragged": (lambda: layers.TextVectorization(ragged=True), "has dense outputs, got ragged=True"),
    "twice": (lambda: layers.StringLookup(vocabulary=["a", "b", "a"]), r"each term of a vocabulary once, got \['a'\]"),
    "none": (lambda: layers.StringLookup(vocabulary=[]), "a vocabulary of at least one term, got \\[\\]"),
    "too many": (lambda: layers.StringLookup(max_tokens=2, vocabulary=["a", "b"]), "max_tokens=2, got a vocab.* of 3"),
    "mask": (lambda: layers.StringLookup(vocabulary=["a", "m"], mask_token="m"), r"has \['m', '\[UNK\]'\] for what"),
    "no file": (lambda: layers.StringLookup(vocabulary="/no/such/file"), "a file that is there.*got '/no/such/file'"),
    "no weights": (lambda: layers.StringLookup(vocabulary=["a"], output_mode="tf_idf"), "takes idf_weights for out"),
    "weights": (lambda: layers.StringLookup(vocabulary=["a"], idf_weights=[1.0]), "and for no other, got 'int'"),
    "few weights": (
        lambda: layers.StringLookup(vocabulary=["a", "b"], idf_weights=[1.0], output_mode="tf_idf"),
        r"a weight for each of 2 terms, got idf_weights of shape \(1,\)",
    ),
    "unknown": (lambda: layers.StringLookup(vocabulary=["a"], num_oov_indices=0)(["z"]), r"got unknown terms, \['z'\]"),
    "numbers": (lambda: layers.StringLookup(vocabulary=["a"])([1]), "takes strings, got numbers of type int64"),
    "mixed": (lambda: layers.StringLookup(vocabulary=["a"])(["a", 1]), "takes an array of strings or of numbers"),
    "strings": (lambda: layers.IntegerLookup(vocabulary=[1])(["a"]), "takes whole numbers, got 'a' among them"),
    "fractions": (lambda: layers.IntegerLookup(vocabulary=[1])([1.5]), "takes whole numbers, got 1.5"),
    "salt": (lambda: layers.IntegerLookup(salt=1), "takes a salt for oov_method='farmhash', got 'floormod'"),
    "given": (lambda: layers.StringLookup(vocabulary=["a"]).adapt(["b"]), "was given its vocabulary"),
    "empty": (lambda: layers.StringLookup().adapt(iter([])), "learns from at least one term, got none"),
    "length": (
        lambda: layers.TextVectorization(output_mode="count", output_sequence_length=3),
        "takes output_sequence_length for output_mode='int', got it for 'count'",
    ),
    "ngrams": (lambda: layers.TextVectorization(ngrams=0), "ngrams must be a positive whole number, got 0"),
    "standard": (lambda: layers.TextVectorization(standardize="upper"), "standardize must be .*got 'upper'"),
    "numbers as text": (lambda: layers.TextVectorization(vocabulary=["a"])([1.0]), "takes strings, got numbers"),
    "bins": (lambda: layers.Hashing(0), "num_bins must be a positive whole number, got 0"),
    "bin type": (lambda: layers.Hashing(3, dtype="float32"), "has the dtype 'int32' or 'int64' for bins"),
    "long salt": (lambda: layers.Hashing(3, salt=[1, 2, 3]), "an integer of at least .*or 2 of them"),
    "hashed fractions": (lambda: layers.Hashing(3)([0.5]), "takes whole numbers, got 0.5"),
    "one feature": (lambda: layers.HashedCrossing(3)([np.arange(3)]), "takes two or more features of one shape"),
    "features": (lambda: layers.HashedCrossing(3)((np.arange(3), np.arange(4))), r"got \[\(3,\), \(4,\)\]"),
    "no list": (lambda: layers.HashedCrossing(3)(np.arange(3)), "takes a list of features"),
    "tokens": (lambda: layers.CategoryEncoding(), "num_tokens must be a positive whole number, got None"),
    "range": (lambda: layers.CategoryEncoding(3)([0, 3]), "takes whole numbers from 0 to 2, got 3"),
    "below": (lambda: layers.CategoryEncoding(3)([0, -1]), "takes whole numbers from 0 to 2, got -1"),
    "counts": (lambda: layers.CategoryEncoding(3)([0], count_weights=[1.0]), "takes count_weights for 'count'"),
    "boundaries": (lambda: layers.Discretization(), "takes bin_boundaries or num_bins, got bin_boundaries=None"),
    "order": (lambda: layers.Discretization([1.0, 0.0]), "must be finite numbers, ascending, got"),
    "learned": (lambda: layers.Discretization([0.0]).adapt([1.0]), "has bin_boundaries; adapt"),
    "unlearned": (lambda: layers.Discretization(num_bins=3)([1.0]), "has no boundaries yet"),
    "nothing": (lambda: layers.Discretization(num_bins=3).adapt(iter([])), "learns from at least one value, got none"),
    "NaN": (lambda: layers.Discretization(num_bins=3).adapt([np.nan]), "learns from finite numbers, got NaN"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case):
    misuse, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        misuse()


def test_no_vocabulary_yet():
    for layer in (layers.StringLookup(), layers.StringLookup(invert=True), layers.TextVectorization()):
        with pytest.raises(RuntimeError, match=r"has no vocabulary yet; call adapt\(data\)"):
            layer([0] if getattr(layer, "invert", False) else ["a"])


# ---------------------------------------------------------------- numbers


def test_counts_with_weights_have_gradients():
    layer = layers.CategoryEncoding(3, output_mode="count")
    weights = minikeras.Variable(np.array([[0.5, 1.0], [2.0, 4.0]], "float32"))
    with minikeras.GradientTape() as tape:
        loss = ops.sum(layer(np.array([[0, 2], [1, 1]]), count_weights=weights) * np.array([1.0, 10.0, 100.0], "f4"))
    assert tape.gradient(loss, weights).tolist() == [[1.0, 100.0], [10.0, 10.0]]
    indices, shares = Input((2,), dtype="int32"), Input((2,))
    model = Model([indices, shares], layer(indices, count_weights=shares))
    assert model.predict([np.array([[0, 0]]), np.array([[0.25, 0.5]])], verbose=0).tolist() == [[0.75, 0, 0]]


def test_quantiles_of_many_batches():
    data = np.random.default_rng(0).normal(size=20_000).astype("float32")
    layer = layers.Discretization(num_bins=4)
    layer.adapt(data[i : i + 500] for i in range(0, 20_000, 500))
    np.testing.assert_allclose(layer.bin_boundaries, np.quantile(data, [0.25, 0.5, 0.75]), atol=0.1)
    shares = np.bincount(np.asarray(layer(data))) / 20_000
    np.testing.assert_allclose(shares, 0.25, atol=0.04)


def test_hashes_spread_and_stay():
    values = [f"user {i}" for i in range(4000)]
    for salt in (None, [1, 2]):
        assert np.bincount(buckets(values, 4, salt)).min() > 900
    assert buckets([b"", "a", 12, "12"], 1000).tolist() == buckets(["", b"a", "12", 12], 1000).tolist()
    # FarmHash's fingerprints do not change: these are what TensorFlow says
    assert buckets(["", "a", "minikeras", "x" * 30, "y" * 60, "z" * 200], 2**62).tolist() == FINGERPRINTS


FINGERPRINTS = [
    *(1936946117179621455, 3694432073954588131, 3180067779582752375),
    *(1463595594257686509, 438870764492559519, 4117204190001636188),
]


# ---------------------------------------------------------------- files and copies

SAVED = {
    "text": lambda: layers.TextVectorization(max_tokens=20, output_sequence_length=5),
    "counts": lambda: layers.TextVectorization(output_mode="tf_idf"),
    "padded": lambda: layers.TextVectorization(output_mode="tf_idf", max_tokens=30, pad_to_max_tokens=True),
    "lines": lambda: layers.TextVectorization(split=None, standardize=None, output_mode="count"),
    "simple": lambda: layers.TextVectorization(split="character"),
    "lookup": lambda: layers.StringLookup(mask_token="a cat", num_oov_indices=2),
}
LINED = [*TEXTS, "two\nlines", "\u2028", ""]


@pytest.mark.parametrize("case", SAVED)
def test_files(tmp_path, case):
    layer = SAVED[case]()
    layer.adapt(TEXTS if case == "simple" else LINED)
    model = Sequential([Input((1,), dtype="string"), layer])
    wanted = model.predict(LINED, verbose=0)
    model.save(tmp_path / "model.keras")
    for other in (load_model(tmp_path / "model.keras"), pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert other.layers[0].get_vocabulary() == layer.get_vocabulary()
        np.testing.assert_array_equal(other.predict(LINED, verbose=0), wanted)
    again = type(layer).from_config(json.loads(json.dumps(layer.get_config())))
    if again.vocabulary_size() == layer.vocabulary_size():  # lines could not hold all terms
        np.testing.assert_array_equal(again(np.array(LINED)[:, None]), wanted)
    else:
        assert case == "simple"
        again.adapt(TEXTS)
        assert again.get_vocabulary() == layer.get_vocabulary()


def test_descriptions_of_older_versions():
    config = {"name": "words", "dtype": "string", "vocabulary": ["a"], "has_input_vocabulary": True, "oov_token": "?"}
    layer = layers.deserialize({"module": "keras.layers", "class_name": "StringLookup", "config": config})
    assert layer.get_vocabulary() == ["?", "a"] and layer(["a", "b"]).tolist() == [1, 0]


def test_saved_numbers(tmp_path):
    inputs = Input((2,))
    binned = layers.Discretization(num_bins=3)
    binned.adapt(np.arange(9.0))
    outputs = layers.CategoryEncoding(3, output_mode="count")(binned(inputs))
    hashed = layers.Hashing(5, salt=3)(layers.Discretization([2.0, 5.0])(inputs))
    crossed = layers.HashedCrossing(7)([hashed[:, 0], hashed[:, 1]])
    model = Model(inputs, [outputs, hashed, crossed])
    model.save(tmp_path / "model.keras")
    x = np.arange(8.0).reshape(4, 2)
    loaded = load_model(tmp_path / "model.keras")
    for one, other in zip(model.predict(x, verbose=0), loaded.predict(x, verbose=0), strict=True):
        np.testing.assert_array_equal(one, other)


def rewritten(path, change):
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    change(contents)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


ASSET = "assets/layers/string_lookup/vocabulary.txt"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update({ASSET: b"[UNK]\nonly"}), "has a vocabulary of 5 that begins with"),
        (lambda c: c.update({ASSET: c[ASSET].replace(b"[UNK]", b"other")}), "begins with"),
        (lambda c: c.update({ASSET: c[ASSET] + b"\nmore"}), "got a file of 6 lines"),
        (lambda c: c.update({ASSET: b"\xff" + c[ASSET]}), "begins with"),
        (lambda c: c.update({ASSET: b"[UNK]\na\na\na\na"}), "each term of a vocabulary once"),
        (lambda c: c.update({"config.json": c["config.json"].replace(b'"vocabulary": null', b'"vocabulary": "/x"')}),
         "names the vocabulary file '/x', which is not read"),
    ],
)  # fmt: skip
def test_files_that_must_not_be_trusted(tmp_path, change, message):
    layer = layers.StringLookup()
    layer.adapt(TEXTS)
    path = tmp_path / "model.keras"
    Sequential([Input((1,), dtype="string"), layer]).save(path)
    rewritten(path, change)
    with pytest.raises(ValueError, match=message):
        load_model(path)


@register_keras_serializable("tests")
class WithFiles(layers.Layer):
    note = ""

    def call(self, inputs):
        return inputs

    def save_assets(self, dir_path):
        with open(f"{dir_path}/note.txt", "w") as file:
            file.write(self.note)

    def load_assets(self, dir_path):
        with open(f"{dir_path}/note.txt") as file:
            self.note = file.read()


def test_a_layer_of_one_s_own_with_files(tmp_path):
    layer = WithFiles()
    layer.note = "kept"
    path = tmp_path / "model.keras"
    Sequential([Input((1,)), layer]).save(path)
    assert load_model(path).layers[0].note == "kept"
    rewritten(path, lambda c: c.update({"assets/layers/with_files/../../../outside.txt": b"x"}))
    assert load_model(path).layers[0].note == "kept"
    assert not list(itertools.chain(tmp_path.parent.glob("outside*"), tmp_path.glob("outside*")))
