"""`datasets.digits`: the same pictures everywhere, balanced, and neither trivial nor impossible."""

import hashlib

import numpy as np
import pytest

from minikeras import datasets
from minikeras.datasets import digits


def digest(data):
    return hashlib.sha256(b"".join(array.tobytes() for part in data for array in part)).hexdigest()


def test_form():
    (x_train, y_train), (x_test, y_test) = digits.load_data(30, 7)
    assert x_train.shape == (30, 28, 28) and y_train.shape == (30,)
    assert x_test.shape == (7, 28, 28) and y_test.shape == (7,)
    assert {array.dtype for array in (x_train, y_train, x_test, y_test)} == {np.dtype(np.uint8)}
    (x_train, y_train), _ = digits.load_data(0, 1)
    assert x_train.shape == (0, 28, 28) and y_train.shape == (0,)


def test_the_same_on_every_machine():
    assert digest(digits.load_data(1500, 300, seed=7)) == (
        "c3524d4f86da5452d485bfd104ef11c3a54692252b949f9c97586c086d2e2422"
    )


def test_seed_and_split_change_the_pictures():
    (x, y), (x_test, y_test) = digits.load_data(200, 200)
    assert not np.array_equal(x, x_test) and not np.array_equal(y, y_test)
    assert digest(digits.load_data(200, 200)) == digest(((x, y), (x_test, y_test)))
    assert digest(digits.load_data(200, 200, seed=1)) != digest(((x, y), (x_test, y_test)))
    assert len(np.unique(x.reshape(200, -1), axis=0)) == 200


def test_labels_are_balanced_and_shuffled():
    (_, y), _ = digits.load_data(1000, 0)
    assert np.bincount(y).tolist() == [100] * 10
    assert np.bincount(y[:500], minlength=10).min() > 25
    assert 50 < (y[1:] == y[:-1]).sum() < 150  # 100 expected


def test_pictures_are_ink_on_paper_within_the_frame():
    (x, _), _ = digits.load_data(2000, 0)
    ink = (x > 127).mean(axis=(1, 2))
    assert ink.min() > 0.02 and ink.max() < 0.4 and 0.1 < ink.mean() < 0.2
    assert (x == 0).mean() > 0.7 and x.max(axis=(1, 2)).min() > 150
    frame = np.concatenate([x[:, 0], x[:, -1], x[:, :, 0], x[:, :, -1]], axis=1)
    assert (frame > 127).mean() < 0.01


def test_a_linear_model_is_good_but_clearly_behind():
    (x, y), (x_test, y_test) = digits.load_data(12000, 3000)
    x, x_test = (np.float64(part.reshape(len(part), -1)) / 255 for part in (x, x_test))
    x, x_test = (np.c_[part, np.ones(len(part))] for part in (x, x_test))
    weights = np.linalg.solve(x.T @ x + 10 * np.eye(785), x.T @ np.eye(10)[y])  # ridge regression on one-hot labels
    linear = ((x_test @ weights).argmax(1) == y_test).mean()
    centroids = np.stack([x[y == digit].mean(0) for digit in range(10)])
    nearest = (np.square(x_test[:, None] - centroids).sum(2).argmin(1) == y_test).mean()
    assert 0.7 < linear < 0.9
    assert 0.5 < nearest < linear


@pytest.mark.parametrize("arguments", [{"train": -1}, {"test": -2}, {"seed": -3}])
def test_negative_numbers_are_refused(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"load_data's {name} must be a whole number of at least 0, got {value}"):
        digits.load_data(**arguments)


def test_the_package_names_its_datasets():
    assert datasets.digits is digits and {"digits", "mnist", "cifar10"} < set(dir(datasets))
    assert all(callable(getattr(datasets, name).load_data) for name in dir(datasets) if name[0] != "_")
    with pytest.raises(AttributeError, match=r"has no attribute 'cifar11'; it has boston_housing, .*, digits, "):
        _ = datasets.cifar11
