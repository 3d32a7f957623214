"""`datasets.boston_housing` and `datasets.california_housing`, on small files of their format."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from minikeras import config
from minikeras.datasets import boston_housing, california_housing

BOTH = pytest.mark.parametrize(("dataset", "features"), [(boston_housing, 13), (california_housing, 8)])


def write(path, features, samples=20, **changes):
    x = np.arange(samples * features, dtype=np.float64).reshape(samples, features)
    np.savez(path, **({"x": x, "y": x[:, 0]} | changes))


@BOTH
def test_samples_keep_their_targets(own, kept, monkeypatch, dataset, features):
    write(own.parent / "server.npz", features)
    monkeypatch.setattr(dataset, "URL", (own.parent / "server.npz").as_uri())
    monkeypatch.setattr(dataset, "SHA256", hashlib.sha256((own.parent / "server.npz").read_bytes()).hexdigest())
    (x_train, y_train), (x_test, y_test) = dataset.load_data(test_split=0.25)
    assert x_train.shape == (15, features) and x_test.shape == (5, features)
    np.testing.assert_array_equal(x_train[:, 0], y_train)
    np.testing.assert_array_equal(x_test[:, 0], y_test)
    assert sorted([*y_train, *y_test]) == list(np.arange(20) * features) and y_train[0] != 0
    assert len(list(kept.iterdir())) == 1
    (again, _), _ = dataset.load_data(test_split=0.25)
    (other, _), _ = dataset.load_data(test_split=0.25, seed=5)
    assert np.array_equal(again, x_train) and not np.array_equal(other, x_train)
    assert len(dataset.load_data(test_split=0)[1][0]) == 0


@BOTH
def test_what_is_something_else_is_refused(own, dataset, features):
    name = f"{dataset.__name__.rpartition('.')[2]}.npz"
    for changes in ({"x": np.zeros((20, 5))}, {"y": np.zeros(19)}, {"x": np.zeros((20, features), "S1")}):
        write(own / name, features, **changes)
        with pytest.raises(
            ValueError, match=rf"{name} is not this dataset: x must be numbers of shape \(n, {features}"
        ):
            dataset.load_data()
    write(own / name, features, x=np.array([{}], object))
    with pytest.raises(ValueError, match="allow_pickle"):
        dataset.load_data()
    with pytest.raises(ValueError, match="test_split must be a number at least 0 and below 1, got 1"):
        dataset.load_data(test_split=1)
    inner = own / "sub" / name
    inner.parent.mkdir()
    write(inner, features)
    assert len(dataset.load_data(path=f"sub/{name}")[0][0]) == 16


def test_versions_of_california(own):
    write(own / "california_housing.npz", 8, 700)
    (x_train, _), (x_test, _) = california_housing.load_data("small")
    assert (len(x_train), len(x_test)) == (480, 120) and max(x_train.max(), x_test.max()) == 600 * 8 - 1
    assert len(california_housing.load_data()[0][0]) == 560
    with pytest.raises(ValueError, match="version must be 'small' or 'large', got 'tiny'"):
        california_housing.load_data("tiny")


def test_keras_home_is_searched(own, monkeypatch, tmp_path):
    assert config.dataset_folders()[-1] == tmp_path / "home" / ".keras" / "datasets"
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "kept by keras"))
    (tmp_path / "kept by keras" / "datasets").mkdir(parents=True)
    write(tmp_path / "kept by keras" / "datasets" / "boston_housing.npz", 13)
    assert len(boston_housing.load_data()[0][0]) == 16
