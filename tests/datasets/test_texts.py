"""`datasets.imdb` and `datasets.reuters`, on small files of their formats (see also the comparison with Keras)."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zipfile

import numpy as np
import pytest

from minikeras.datasets import files, imdb, reuters
from minikeras.utils import bounded


def lists(*sequences):
    array = np.empty(len(sequences), object)
    array[:] = sequences
    return array


def write_imdb(path, **changes):
    content = {
        "x_train": lists([1, 2, 3], [4], [5, 1]),
        "y_train": np.array([0, 1, 1]),
        "x_test": lists([9, 1], [2]),
        "y_test": np.array([1, 0]),
    }
    np.savez(path, **(content | changes))


def write_reuters(path, **changes):
    np.savez(path, **({"x": lists([1, 2], [3], [4, 5, 6], [7], [8]), "y": np.arange(5)} | changes))


def test_imdb(own):
    write_imdb(own / "imdb.npz")
    (x_train, y_train), (x_test, y_test) = imdb.load_data()
    assert x_train.dtype == object and all(type(one) is list for one in x_train)
    assert sorted(x_train.tolist()) == [[1, 4, 5, 6], [1, 7], [1, 8, 4]]
    assert sorted(x_test.tolist()) == [[1, 2, 4], [1, 5]]  # 12, the largest, is out of the vocabulary
    assert sorted(y_train) == [0, 1, 1] and y_train.dtype == np.int64
    assert dict(zip(map(len, x_test), y_test, strict=True)) == {3: 1, 2: 0}
    with pytest.warns(UserWarning, match="num_words"):
        (x_train, _), _ = imdb.load_data(nb_words=6)
    assert sorted(x_train.tolist()) == [[1, 2], [1, 2, 4], [1, 4, 5, 2]]
    with pytest.raises(TypeError, match="'words'"):
        imdb.load_data(words=6)
    with pytest.raises(ValueError, match=r"No review is shorter than maxlen=2; raise it\."):
        imdb.load_data(maxlen=2)


def test_reuters(own):
    write_reuters(own / "mine.npz")
    (x_train, y_train), (x_test, y_test) = reuters.load_data(str(own / "mine.npz"), num_words=100)
    assert (len(x_train), len(x_test)) == (4, 1)
    texts = dict(zip([*y_train, *y_test], x_train.tolist() + x_test.tolist(), strict=True))
    assert texts == {0: [1, 4, 5], 1: [1, 6], 2: [1, 7, 8, 9], 3: [1, 10], 4: [1, 11]}
    (x_train, _), (x_test, _) = reuters.load_data(str(own / "mine.npz"), test_split=1, oov_char=None, num_words=6)
    assert len(x_train) == 0 and sorted(map(len, x_test)) == [1, 1, 1, 1, 3]
    with pytest.raises(ValueError, match="test_split must be a number from 0 to 1, got 2"):
        reuters.load_data(test_split=2)
    assert len(reuters.get_label_names()) == 46 and reuters.get_label_names()[3] == "earn"


def test_texts_of_equal_length_are_a_matrix(own):
    for x in (np.array([[1, 2], [3, 4]], object), np.array([[1, 2], [3, 4]])):
        write_imdb(own / "imdb.npz", x_train=x, y_train=np.array([0, 1]))
        (x_train, y_train), _ = imdb.load_data(num_words=100)
        assert x_train[y_train.argmax()].tolist() == [1, 6, 7] and x_train.shape == (2, 3)


@pytest.mark.parametrize("dataset", [imdb, reuters])
def test_word_indices(own, dataset):
    name = f"{dataset.__name__.rpartition('.')[2]}_word_index.json"
    (own / name).write_text(json.dumps({"the": 1, "é": 2}))
    assert dataset.get_word_index() == {"the": 1, "é": 2}
    for damaged in ("[1, 2]", '{"the": "1"}', '{"the', "[" * 100000):
        (own / name).write_text(damaged)
        with pytest.raises(ValueError, match=f"{name} is .*replace or remove it"):
            dataset.get_word_index()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": np.array([1, 2, 3])}, "x_train must hold lists of words"),
        (
            {"x_train": lists([1], [2])},
            r"x_train must be sequences .* in y_train, they are object of shape \(2,\) and int64 of shape \(3,\)",
        ),
        ({"y_train": np.array([0.5, 1, 1])}, "one label each"),
        ({"x_train": np.ones((3, 2))}, r"they are float64 of shape \(3, 2\)"),
        ({"x_train": lists(["a"], [2], [3])}, "a list of other than whole numbers as element 0"),
        ({"x_train": lists([1], {}, [3])}, r"is damaged .*its pickle has a dict as element 1"),
        ({"x_train": lists([1], [[2]], [3])}, "a list of other than whole numbers as element 1"),
        ({"y_train": np.array([0, None, 1])}, "its pickle has a NoneType"),
    ],
)
def test_what_is_not_imdb_is_refused(own, changes, message):
    write_imdb(own / "imdb.npz", **changes)
    with pytest.raises(ValueError, match=message) as caught:
        imdb.load_data()
    assert str(own / "imdb.npz") in str(caught.value) and "\n" not in str(caught.value)


def test_a_malicious_file_runs_nothing(own, trap):
    write_imdb(own / "imdb.npz", x_train=lists([1], [2], trap))
    with pytest.raises(ValueError, match=r"its pickle names posix\.mkdir|its pickle names nt\.mkdir"):
        imdb.load_data()
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    for protocol in range(6):
        with zipfile.ZipFile(own / "reuters.npz", "w") as archive:
            archive.writestr("x.npy", array.getvalue() + pickle.dumps(trap, protocol))
            archive.writestr("y.npy", array.getvalue() + pickle.dumps(trap, protocol))
        with pytest.raises(ValueError, match="is damaged"):
            reuters.load_data()
    assert not (own.parent / "sprung").exists()
    np.load(own / "imdb.npz", allow_pickle=True)["x_train"]
    assert (own.parent / "sprung").exists()  # the trap works


def test_damaged_files_are_refused(own, monkeypatch):
    good = io.BytesIO()
    write_imdb(good)
    for content in (b"", b"<html>", good.getvalue()[:300], good.getvalue()[:-30]):
        (own / "imdb.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"imdb\.npz is damaged or is not the right \.npz file"):
            imdb.load_data()
    write_imdb(own / "imdb.npz", y_test=np.zeros(0, int), x_test=lists())
    with pytest.raises(ValueError, match=r"lacks x\.npy"):
        files.read_object_npz(own / "imdb.npz", ("x",))
    write_imdb(own / "imdb.npz")
    monkeypatch.setattr(bounded, "FREE", 100 - bounded.RATIO * (own / "imdb.npz").stat().st_size)
    with pytest.raises(ValueError, match=r"x_train\.npy claims \d+ bytes, far more than the file holds"):
        imdb.load_data()


def test_downloads_are_checked(own, kept, monkeypatch):
    write_imdb(own.parent / "server.npz")
    monkeypatch.setattr(imdb, "URL", (own.parent / "server.npz").as_uri())
    with pytest.raises(FileNotFoundError, match=r"IMDB is in none of .* SHA-256 sum of the download"):
        imdb.load_data()
    monkeypatch.setattr(imdb, "SHA256", hashlib.sha256((own.parent / "server.npz").read_bytes()).hexdigest())
    imdb.load_data()
    assert [path.name for path in kept.iterdir()] == ["imdb.npz"]
    (own.parent / "server.json").write_text('{"a": 1}')
    monkeypatch.setattr(imdb, "INDEX_URL", (own.parent / "server.json").as_uri())
    with pytest.raises(FileNotFoundError, match="MD5 sum of the download"):
        imdb.get_word_index()
    monkeypatch.setattr(imdb, "INDEX_MD5", hashlib.md5((own.parent / "server.json").read_bytes()).hexdigest())
    assert imdb.get_word_index() == {"a": 1}


@pytest.mark.parametrize("dataset", [imdb, reuters])
def test_arguments_that_make_no_sense_are_refused_before_anything_is_read(dataset, monkeypatch):
    monkeypatch.setattr(files, "fetch", None)
    for name in ("num_words", "skip_top", "maxlen", "seed", "start_char", "oov_char", "index_from"):
        for wrong in (-1, 2.5, "x", True):
            with pytest.raises(ValueError, match=rf"^{name} must be a whole number .*, got .+\.$"):
                dataset.load_data(**{name: wrong})
