"""Text, sequences and datasets against real Keras: the same numbers, drawn in the same order, from the same files."""

from __future__ import annotations

import json
import pickle
import random
import tarfile

import keras
import numpy as np
import pytest
from keras.src.legacy.preprocessing import sequence as keras_sequence
from keras.src.legacy.preprocessing import text as keras_text

import minikeras
from minikeras.preprocessing import sequence, text

WORDS = ["the", "cat", "sat", "on", "mat", "The", "DOG,", "and", "dogs'", "log;", "fog:", "über-cat\tsat\n42", "x_y"]
TEXTS = [" ".join(random.Random(i).choices(WORDS, k=12)) for i in range(20)] + ["", "..."]
UNSEEN = ["the bird sat on my log", "x y z", ["the", "Log", "on"]]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"num_words": 6},
        {"num_words": 6, "oov_token": "<oov>"},
        {"oov_token": "the"},
        {"char_level": True, "num_words": 9, "oov_token": "#"},
        {"lower": False, "filters": "o", "split": "t"},
        {"analyzer": lambda text: text.split("a")},
    ],
)
def test_tokenizer(arguments):
    theirs, ours = keras_text.Tokenizer(**arguments), text.Tokenizer(**arguments)
    for one in (theirs, ours):
        one.fit_on_texts(TEXTS)
        one.fit_on_texts([["Listed", "words"], ["words"]])
        one.fit_on_sequences([[1, 2, 2], [3]])
    for name in ("word_counts", "word_docs", "index_docs", "word_index", "index_word", "document_count"):
        assert getattr(ours, name) == getattr(theirs, name), name
    expected = theirs.texts_to_sequences(TEXTS + UNSEEN)
    assert ours.texts_to_sequences(TEXTS + UNSEEN) == expected
    shifted = [[index + 3 for index in one] for one in expected]
    assert ours.sequences_to_texts(shifted) == theirs.sequences_to_texts(shifted)
    for mode in ("binary", "count", "freq", "tfidf"):
        np.testing.assert_array_equal(ours.texts_to_matrix(UNSEEN, mode), theirs.texts_to_matrix(UNSEEN, mode))
    unordered = {"word_docs", "index_docs"}
    config, expected = ours.get_config(), theirs.get_config()
    assert {key: json.loads(config[key]) if key in unordered else value for key, value in config.items()} == {
        key: json.loads(expected[key]) if key in unordered else value for key, value in expected.items()
    }
    again = keras_text.tokenizer_from_json(ours.to_json())
    assert again.texts_to_sequences(TEXTS) == text.tokenizer_from_json(theirs.to_json()).texts_to_sequences(TEXTS)


@pytest.mark.parametrize("arguments", [{}, {"lower": False}, {"filters": "at", "split": "--"}, {"split": "a"}])
def test_words_and_hashes(arguments):
    for one in TEXTS:
        assert text.text_to_word_sequence(one, **arguments) == keras_text.text_to_word_sequence(one, **arguments)
        assert text.one_hot(one, 50, **arguments) == keras_text.one_hot(one, 50, **arguments)
        for function in (None, "md5", len):
            ours = text.hashing_trick(one, 50, function, **arguments)
            assert ours == keras_text.hashing_trick(one, 50, function, **arguments)


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("truncating", ["pre", "post"])
@pytest.mark.parametrize("maxlen", [None, 1, 3, 9])
def test_pad_sequences(padding, truncating, maxlen):
    rng = np.random.default_rng(0)
    lists = [rng.integers(1, 9, size).tolist() for size in (2, 0, 5, 1)]
    vectors = [rng.random((size, 2)) for size in (0, 3, 1)]
    for values, dtype, value in ((lists, "int32", 0.0), (lists, "float32", -1.5), (vectors, "float64", 2)):
        ours, theirs = (
            library.utils.pad_sequences(values, maxlen, dtype, padding, truncating, value)
            for library in (minikeras, keras)
        )
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype


@pytest.mark.parametrize("sampling", [False, True])
@pytest.mark.parametrize("seed", [None, 5])
def test_skipgrams(sampling, seed):
    words = [0, *random.Random(0).choices(range(30), k=60)]
    table = sequence.make_sampling_table(30, 0.05)
    np.testing.assert_array_equal(table, keras_sequence.make_sampling_table(30, 0.05))
    for arguments in ({}, {"negative_samples": 0.5, "categorical": True}, {"shuffle": False, "window_size": 2}):
        results = []
        for module in (sequence, keras_sequence):
            random.seed(11)
            pairs = module.skipgrams(words, 30, seed=seed, sampling_table=table if sampling else None, **arguments)
            results.append((pairs, random.random()))
        assert results[0] == results[1]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_timeseries_generator(shuffle, reverse):
    data = np.random.default_rng(0).random((50, 3))
    for arguments in ({}, {"sampling_rate": 2, "stride": 3, "start_index": 4, "end_index": 40}):
        ours, theirs = (
            module.TimeseriesGenerator(data, data[:, 0], 6, batch_size=7, shuffle=shuffle, reverse=reverse, **arguments)
            for module in (sequence, keras_sequence)
        )
        assert len(ours) == len(theirs)
        for index in range(len(ours)):
            np.random.seed(index)
            x, y = ours[index]
            np.random.seed(index)
            x_keras, y_keras = theirs[index]
            np.testing.assert_array_equal(x, x_keras)
            np.testing.assert_array_equal(y, y_keras)


@pytest.mark.parametrize("labels", [[0, 2, 1], [[[1], [0]]], 3, [[0, 1], [2, 2]], np.uint8([3, 0]), [True, False]])
def test_to_categorical(labels):
    for num_classes in (None, 5):
        ours, theirs = (library.utils.to_categorical(labels, num_classes) for library in (minikeras, keras))
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype


def test_normalize():
    x = np.random.default_rng(0).random((4, 3, 2)) - 0.5
    x[1, 1] = 0
    for axis in (-1, 1, 2):
        for order in (1, 2, np.inf):
            ours, theirs = (library.utils.normalize(x, axis, order) for library in (minikeras, keras))
            np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A folder in which both libraries look for datasets, and nowhere else; Keras takes any sum for the right one."""
    from keras.src.utils import file_utils

    (tmp_path / "datasets").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MINIKERAS_DATASETS", str(tmp_path / "datasets"))
    monkeypatch.setattr(file_utils.config, "_KERAS_DIR", str(tmp_path))
    monkeypatch.setattr(file_utils, "validate_file", lambda *_, **__: True)
    return tmp_path / "datasets"


def assert_same(ours, theirs):
    for part, expected in zip(ours, theirs, strict=True):
        for array, other in zip(part, expected, strict=True):
            assert array.dtype == other.dtype and array.shape == other.shape
            if array.dtype == object:
                assert array.tolist() == other.tolist()
                assert {type(word) for one in array.tolist() for word in one} <= {int}
            else:
                np.testing.assert_array_equal(array, other)


def sequences(count, seed):
    rng = np.random.default_rng(seed)
    texts = np.empty(count, object)
    texts[:] = [rng.integers(1, 40, rng.integers(1, 12)).tolist() for _ in range(count)]
    return texts


ARGUMENTS = [
    {},
    {"num_words": 20, "skip_top": 5},
    {"maxlen": 7, "seed": 3},
    {"num_words": 20, "oov_char": None, "start_char": None},
    {"start_char": None, "index_from": 0, "oov_char": None, "skip_top": 9},
    {"start_char": 7, "index_from": 10, "oov_char": 8, "maxlen": 5},
]


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_imdb_and_reuters(cache, arguments):
    y = np.arange(30) % 2
    np.savez(cache / "imdb.npz", x_train=sequences(30, 0), y_train=y, x_test=sequences(20, 1), y_test=y[:20])
    np.savez(cache / "reuters.npz", x=sequences(30, 2), y=y)
    for name in ("imdb", "reuters"):
        load = [getattr(library.datasets, name).load_data for library in (minikeras, keras)]
        assert_same(*(one(**arguments) for one in load))
    ours, theirs = (library.datasets.reuters.load_data(test_split=0.35) for library in (minikeras, keras))
    assert_same(ours, theirs)


def test_word_indices_and_label_names(cache):
    for name in ("imdb", "reuters"):
        (cache / f"{name}_word_index.json").write_text(json.dumps({"the": 1, "é": 2}))
        ours, theirs = (getattr(library.datasets, name).get_word_index() for library in (minikeras, keras))
        assert ours == theirs == {"the": 1, "é": 2}
    assert minikeras.datasets.reuters.get_label_names() == keras.datasets.reuters.get_label_names()


def test_housing(cache):
    rng = np.random.default_rng(0)
    np.savez(cache / "boston_housing.npz", x=rng.random((41, 13)), y=rng.random(41))
    np.savez(cache / "california_housing.npz", x=rng.random((700, 8), "float32"), y=rng.random(700, "float32"))
    for name, arguments in (
        ("boston_housing", {}),
        ("boston_housing", {"test_split": 0.35, "seed": 4}),
        ("california_housing", {}),
        ("california_housing", {"version": "small", "test_split": 0}),
    ):
        assert_same(*(getattr(library.datasets, name).load_data(**arguments) for library in (minikeras, keras)))


def test_fashion_mnist(cache):
    import gzip

    folder = cache / "fashion-mnist"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("t10k", 4)):
        for kind, values in (
            ("images-idx3", rng.integers(0, 256, (count, 28, 28), np.uint8)),
            ("labels-idx1", rng.integers(0, 10, count, np.uint8)),
        ):
            header = bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">u4").tobytes()
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + values.tobytes()))
    assert_same(*(library.datasets.fashion_mnist.load_data() for library in (minikeras, keras)))


def test_cifar100(cache, tmp_path):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, count in (("train", 6), ("test", 4)):
        batch = {
            b"data": rng.integers(0, 256, (count, 3072), np.uint8),
            b"fine_labels": rng.integers(0, 100, count).tolist(),
            b"coarse_labels": rng.integers(0, 20, count).tolist(),
            b"filenames": [b"a.png"] * count,
        }
        (folder / name).write_bytes(pickle.dumps(batch, protocol=4))
    with tarfile.open(cache / "cifar-100-python-target_archive", "w:gz") as archive:
        archive.add(folder, "cifar-100-python")
    for mode in ("fine", "coarse"):  # ours reads the archive first, then the folder as Keras unpacks it
        assert_same(*(library.datasets.cifar100.load_data(mode) for library in (minikeras, keras)))
    assert (cache / "cifar-100-python-target" / "cifar-100-python" / "train").is_file()


def test_get_file(cache, tmp_path):
    with tarfile.open(tmp_path / "things.tar.gz", "w:gz") as archive:
        (tmp_path / "one.txt").write_text("one")
        archive.add(tmp_path / "one.txt", "things/one.txt")
    origin = (tmp_path / "things.tar.gz").as_uri()
    for arguments in (
        {},
        {"fname": "own.bin"},
        {"extract": True, "cache_subdir": "more"},
        {"fname": "pack", "untar": True},
        {"fname": "pack.tar.gz", "extract": True, "archive_format": "tar"},
        {"extract": True, "cache_subdir": "elsewhere"},
    ):
        paths = []
        for name, library in (("ours", minikeras), ("theirs", keras)):
            (tmp_path / name).mkdir(exist_ok=True)
            paths.append(library.utils.get_file(origin=origin, cache_dir=tmp_path / name, **arguments))
        assert str(paths[0]).replace("/ours/", "/theirs/") == str(paths[1])

    def listing(name):
        root = tmp_path / name
        return sorted(str(path.relative_to(root)) for path in root.rglob("*"))

    assert listing("ours") == listing("theirs")
