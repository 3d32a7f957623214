"""Layers that turn strings, integers and numbers into categories, against real Keras with TensorFlow inside it."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minikeras
from minikeras import layers

WORDS = np.array(["apple", "pear", "fig", "Fig", "", "ärger", "日本", "[UNK]", "plum", "kiwi"], dtype=object)
SENTENCES = [
    "The quick brown fox, jumps over the lazy dog!",
    "  a\ttabbed\nline\x0b and \x1cfields\xa0here ",
    "",
    "É été ÄÖÜ straße don't well-known a_b [UNK]",
    "日本 語 the the THE dog.dog",
    "x" * 70 + " fox",
]
text = st.text(max_size=40)
texts = st.lists(st.one_of(text, st.text("abAB .,-é", max_size=90)), min_size=1, max_size=12)


def both(name, *args, **kwargs):
    return getattr(layers, name)(*args, **kwargs), getattr(keras.layers, name)(*args, **kwargs)


def same(ours, theirs, rtol=1e-6):
    theirs = np.asarray(theirs)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=rtol)


def plain(vocabulary):
    return [term if isinstance(term, str) else int(term) for term in vocabulary]


def same_config(ours, theirs):
    """Both describe themselves alike, and each is restored from what the other says."""
    mine, wanted = json.loads(json.dumps(ours.get_config())), json.loads(json.dumps(theirs.get_config()))
    assert mine.keys() >= wanted.keys()
    assert all(mine[name] == wanted[name] for name in wanted.keys() - {"name", "dtype"})
    assert mine["dtype"] in (wanted["dtype"], keras.saving.serialize_keras_object(keras.DTypePolicy(ours.dtype)))
    copies = (
        minikeras.layers.deserialize({**keras.layers.serialize(theirs), "config": wanted}),
        (keras.layers.deserialize({**minikeras.layers.serialize(ours), "config": mine})),
    )
    assert [type(copy) for copy in copies] == [type(ours), type(theirs)]
    return copies


# ---------------------------------------------------------------- hashes


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(text, st.text(min_size=50, max_size=200)), min_size=1, max_size=20), st.data())
def test_hashing_of_strings(values, data):
    bins = data.draw(st.integers(1, 2**31 - 1))  # JAX has no more bits
    salt = data.draw(st.sampled_from([None, 133, [-7, 2**40]]))
    mask = data.draw(st.sampled_from([None, values[0]]))
    ours, theirs = both("Hashing", bins, mask_value=mask, salt=salt)
    values = np.array([value.replace("\0", "") for value in values], dtype=object)
    same(ours(values), theirs(values))


@pytest.mark.parametrize("mode", ["int", "one_hot", "multi_hot", "count"])
def test_hashing_of_integers(mode):
    rng = np.random.default_rng(3)
    values = rng.integers(-(2**31), 2**31, (6, 3))
    for config in ({}, {"salt": (1, 2)}, {"mask_value": int(values[0, 0])}):
        ours, theirs = both("Hashing", 7, output_mode=mode, **config)
        same(ours(values), theirs(values))
        for copy in same_config(ours, theirs):
            same(ours(values), copy(values))
        same(ours(values[:, :1]), theirs(values[:, :1]))
        assert ours.dtype == theirs.dtype and ours.compute_output_shape((6, 1)) == theirs.compute_output_shape((6, 1))


@pytest.mark.parametrize("mode", ["int", "one_hot"])
def test_hashed_crossing(mode):
    rng = np.random.default_rng(3)
    cities, days = rng.choice(WORDS, 40), rng.integers(-(2**40), 2**40, 40)
    hours = rng.integers(0, 24, 40).astype("int32")
    ours, theirs = both("HashedCrossing", 1009, output_mode=mode)
    for features in ((cities, days), (days, hours), (cities, days, hours), (cities, cities)):
        same(ours(features), theirs(features))
        columns = [feature[:, None] for feature in features]
        same(ours(columns), theirs(columns))
    for copy in same_config(ours, theirs):
        same(ours((cities, days)), copy((cities, days)))


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize("mode", ["multi_hot", "count", "one_hot"])
def test_category_encoding(mode):
    rng = np.random.default_rng(3)
    ours, theirs = both("CategoryEncoding", num_tokens=5, output_mode=mode)
    for shape in ((4,), (4, 1), (4, 3)):
        values = rng.integers(0, 5, shape)
        same(ours(values), theirs(values))
        assert ours.compute_output_shape(shape) == theirs.compute_output_shape(shape)
    for copy in same_config(ours, theirs):
        same(ours(values), copy(values))
    if mode == "count":
        weights = rng.random((4, 3)).astype("float32")
        same(ours(values, count_weights=weights), theirs(values, count_weights=weights))


@pytest.mark.parametrize("mode", ["int", "one_hot", "multi_hot", "count"])
def test_discretization(mode):
    rng = np.random.default_rng(3)
    boundaries = [-1.5, 0.1, 0.7, 3.0]
    ours, theirs = both("Discretization", boundaries, output_mode=mode)
    for shape in ((4,), (5, 1), (4, 3)):
        values = np.append(rng.normal(0, 2, shape).ravel()[2:], [0.1, 0.7]).astype("float32").reshape(shape)
        same(ours(values), theirs(values))
    assert ours.compute_output_shape((4, 3)) == theirs.compute_output_shape((4, 3))
    for copy in same_config(ours, theirs):
        same(ours(values), copy(values))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.sampled_from([0.01, 0.03, 0.1]), st.lists(st.integers(1, 700), min_size=1, max_size=4))
def test_adapted_boundaries(bins, epsilon, sizes):
    rng = np.random.default_rng(sum(sizes))
    data = [rng.normal(0, 3, size).round(2).astype("float32") for size in sizes]
    ours, theirs = both("Discretization", num_bins=bins, epsilon=epsilon)
    for one in (data[0], iter(data)):
        one = list(one) if not isinstance(one, np.ndarray) else one
        ours.adapt(one if isinstance(one, np.ndarray) else iter(one))
        theirs.adapt(one if isinstance(one, np.ndarray) else iter(one))
        assert ours.bin_boundaries == theirs.bin_boundaries
    for copy in same_config(ours, theirs):
        assert copy.bin_boundaries == ours.bin_boundaries


# ---------------------------------------------------------------- lookups

MODES = ["int", "one_hot", "multi_hot", "count", "tf_idf"]
LOOKUPS = [
    {},
    {"num_oov_indices": 3},
    {"mask_token": "fig", "max_tokens": 6},
    {"mask_token": "", "num_oov_indices": 2, "max_tokens": 30, "pad_to_max_tokens": True, "salt": 5},
]


@pytest.mark.parametrize("config", LOOKUPS, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_string_lookup(mode, config):
    rng = np.random.default_rng(3)
    if config.get("pad_to_max_tokens") and mode == "int":
        config = {**config, "pad_to_max_tokens": False}
    data, new = rng.choice(WORDS, (30, 4)), rng.choice([*WORDS, "new", "ones"], (5, 4))
    for learned in (data, data.ravel(), data.tolist(), [data[:9], data[9]]):
        ours, theirs = both("StringLookup", output_mode=mode, **config)  # Keras learns no other number of terms
        batched = isinstance(learned, list) and isinstance(learned[0], np.ndarray)
        ours.adapt(iter(learned) if batched else learned), theirs.adapt(iter(learned) if batched else learned)
        assert ours.get_vocabulary() == plain(theirs.get_vocabulary())
        same(ours(new), theirs(new))
    assert ours.get_vocabulary(False) == plain(theirs.get_vocabulary(False))
    assert ours.vocabulary_size() == theirs.vocabulary_size()
    for one in (new, new[:, :1], new[0]):
        same(ours(one), theirs(one))
        assert ours.compute_output_shape(one.shape) == theirs.compute_output_shape(one.shape)
    if ours.get_config()["vocabulary"] is None:  # the last term is not ""
        same_config(ours, theirs)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("config", [{}, {"num_oov_indices": 2}, {"num_oov_indices": 0}], ids=str)
def test_string_lookup_with_a_vocabulary(mode, config):
    rng = np.random.default_rng(3)
    terms, weights = ["fig", "pear", "日本"], [0.25, 0.5, 0.75] if mode == "tf_idf" else None
    ours, theirs = both("StringLookup", vocabulary=terms, idf_weights=weights, output_mode=mode, **config)
    new = rng.choice(terms if config.get("num_oov_indices") == 0 else WORDS, (5, 4))
    same(ours(new), theirs(new))
    for copy in same_config(ours, theirs):
        same(ours(new), copy(new))
    whole = ours.get_vocabulary()
    weights = None if weights is None else np.arange(len(whole), dtype="float32").tolist()
    ours.set_vocabulary(whole, weights), theirs.set_vocabulary(whole, weights)
    same(ours(new), theirs(new))


INTEGERS = [
    {},
    {"mask_token": 0, "num_oov_indices": 4},
    {"num_oov_indices": 3, "oov_method": "farmhash"},
    {"num_oov_indices": 3, "oov_method": "farmhash", "salt": [3, 4], "max_tokens": 7},
]


@pytest.mark.parametrize("config", INTEGERS, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_integer_lookup(mode, config):
    rng = np.random.default_rng(3)
    ours, theirs = both("IntegerLookup", output_mode=mode, **config)
    data, new = rng.integers(-3, 9, (20, 3)), rng.integers(-(2**30), 2**30, (6, 3))
    new[:, 0] = data[:6, 0]
    ours.adapt(data), theirs.adapt(data)
    assert ours.get_vocabulary() == plain(theirs.get_vocabulary())
    same(ours(new), theirs(new))
    same_config(ours, theirs)
    back, wanted = both("IntegerLookup", vocabulary=[5, 7, -2], invert=True, mask_token=config.get("mask_token"))
    places = np.arange(-1, 7)
    same(back(places), wanted(places))
    for copy in same_config(back, wanted):
        same(back(places), copy(places))


# ---------------------------------------------------------------- text


def twice(strings):
    return np.char.replace(strings, "a", "aa")


TEXTS = [
    {},
    {"standardize": "lower", "ngrams": 2},
    {"standardize": "strip_punctuation", "split": "character"},
    {"standardize": None, "split": None},
    {"ngrams": (3, 1), "max_tokens": 9},
    {"standardize": twice},
]
OUTPUTS = [
    *({"output_mode": "int"}, {"output_mode": "int", "output_sequence_length": 5}, {"output_mode": "multi_hot"}),
    *({"output_mode": "count"}, {"output_mode": "tf_idf"}),
    {"output_mode": "tf_idf", "pad_to_max_tokens": True, "max_tokens": 40},
]


@pytest.mark.parametrize(
    "config", TEXTS, ids=lambda config: "-".join(getattr(one, "__name__", str(one)) for one in config.values())
)
@pytest.mark.parametrize("output", OUTPUTS, ids=str)
def test_text_vectorization(config, output):
    shaped = np.array(SENTENCES)[:, None]
    new = np.array([*SENTENCES[::-1], "new words the fox"])
    for data in (SENTENCES, shaped):
        ours, theirs = both("TextVectorization", **{**config, **output})
        ours.adapt(data), theirs.adapt(data)
        assert ours.get_vocabulary() == plain(theirs.get_vocabulary())
        for one in (new, new[:, None]):
            same(ours(one), theirs(one))
    assert ours.vocabulary_size() == theirs.vocabulary_size()
    mine, wanted = ours.get_config(), theirs.get_config()
    described = wanted.keys() - {"name", "standardize", "vocabulary", "idf_weights"}
    assert all(mine[name] == wanted[name] for name in described)
    assert mine.keys() == wanted.keys()


@settings(max_examples=40, deadline=None)
@given(texts, st.sampled_from(TEXTS[:-1]), st.sampled_from(["int", "tf_idf"]))
def test_text_vectorization_of_any_text(data, config, mode):
    data = [one.replace("\0", "") for one in data]
    ours, theirs = both("TextVectorization", **{**config, "output_mode": mode})
    if not any(any(words) for words in ours._documents(np.array(data, dtype=object))):
        return  # there is nothing to learn, and Keras's table refuses to be empty
    ours.adapt(data), theirs.adapt(data)
    assert ours.get_vocabulary() == plain(theirs.get_vocabulary())
    values = np.array(data, dtype=object)[:, None]
    same(ours(values), theirs(values))


# ---------------------------------------------------------------- files


def network(k, layer, depth=None):
    head = [k.layers.Embedding(30, 3), k.layers.Flatten()] if depth is None else []
    return k.Sequential([k.Input((1,), dtype="string"), layer, *head, k.layers.Dense(2, name="head")])


def outputs_of(model, values):
    """By its layers: Keras cannot predict from strings with JAX."""
    for layer in model.layers:
        values = layer(values)
        if type(model).__module__.startswith("keras") and values.dtype == "int32" and layer is model.layers[0]:
            values = values if "Embedding" in str(model.layers) else keras.ops.cast(values, "float32")
    return np.asarray(values)


@pytest.mark.parametrize("mode", ["int", "multi_hot", "tf_idf"])
@pytest.mark.parametrize("name", ["TextVectorization", "StringLookup"])
@pytest.mark.parametrize("given", [False, True])
def test_files_both_ways(tmp_path, name, mode, given):
    terms = ["fox", "dog", "the", "É"]
    config = {"vocabulary": terms, "idf_weights": [1.0, 2.0, 3.0, 4.0] if mode == "tf_idf" else None} if given else {}
    if name == "TextVectorization" and mode == "int":
        config["output_sequence_length"] = 4
    values = np.array([["the fox"], ["dog"], ["É"], ["none"]], dtype=object)
    for k, other in ((minikeras, keras), (keras, minikeras)):
        layer = getattr(k.layers, name)(output_mode=mode, **config)
        if not given:
            layer.adapt(np.array([["the dog"], ["the fox"], ["dog"], ["dog"], ["É fox"]], dtype=object))
        model = network(k, layer, None if mode == "int" else layer.vocabulary_size())
        path = str(tmp_path / f"{k.__name__}.keras")
        model.save(path)
        opened = other.saving.load_model(path)
        assert plain(opened.layers[0].get_vocabulary()) == plain(layer.get_vocabulary())
        np.testing.assert_allclose(outputs_of(opened, values), outputs_of(model, values), rtol=1e-5, atol=1e-6)
        again = str(tmp_path / f"{k.__name__}-again.keras")
        opened.save(again)
        np.testing.assert_allclose(
            outputs_of(k.saving.load_model(again), values), outputs_of(model, values), rtol=1e-5, atol=1e-6
        )
