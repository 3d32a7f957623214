"""`datasets.fashion_mnist`, `cifar10` and `cifar100`, on small files of their formats."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import tarfile

import numpy as np
import pytest

from minikeras import config
from minikeras.datasets import cifar10, cifar100, fashion_mnist, idx
from minikeras.utils import bounded

RNG = np.random.default_rng(0)


def write_idx(folder, seed=0, names=idx.NAMES, suffix=".gz"):
    """Four files of six and four pictures, and what they hold."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    arrays = []
    for count in (6, 4):
        arrays += [rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count, np.uint8)]
    for name, values in zip(idx.NAMES, arrays, strict=True):
        content = bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">u4").tobytes() + values.tobytes()
        if name in names:
            (folder / f"{name}{suffix}").write_bytes(gzip.compress(content) if suffix else content)
    return arrays


def assert_loads(loaded, arrays):
    for ours, expected in zip((*loaded[0], *loaded[1]), arrays, strict=True):
        np.testing.assert_array_equal(ours, expected)
        assert ours.dtype == expected.dtype


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_fashion_mnist_lies_in_its_own_folder(own, monkeypatch, suffix):
    monkeypatch.setattr(fashion_mnist, "URL", (own / "nowhere").as_uri() + "/")
    write_idx(own)  # these are MNIST's
    with pytest.raises(FileNotFoundError, match="Fashion-MNIST is in none of"):
        fashion_mnist.load_data()
    arrays = write_idx(own / "fashion-mnist", seed=1, suffix=suffix)
    assert_loads(fashion_mnist.load_data(), arrays)


def test_missing_files_of_fashion_mnist_are_downloaded(own, kept, monkeypatch):
    arrays = write_idx(own.parent / "server")
    write_idx(own / "fashion-mnist", names=idx.NAMES[:2])
    monkeypatch.setattr(fashion_mnist, "URL", (own.parent / "server").as_uri() + "/")
    with pytest.raises(FileNotFoundError, match=r"t10k-images-idx3-ubyte\.gz at .*fashion-mnist"):
        fashion_mnist.load_data()
    for path in (own.parent / "server").iterdir():
        monkeypatch.setitem(fashion_mnist.SHA256, path.stem, hashlib.sha256(path.read_bytes()).hexdigest())
    assert_loads(fashion_mnist.load_data(), arrays)
    assert sorted(path.name for path in (kept / "fashion-mnist").iterdir()) == [f"{name}.gz" for name in idx.NAMES[2:]]


def test_damaged_files_of_fashion_mnist_are_refused(own):
    write_idx(own / "fashion-mnist")
    path = own / "fashion-mnist" / f"{idx.NAMES[0]}.gz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=f"{idx.NAMES[0]}.gz is damaged or is not an IDX file"):
        fashion_mnist.load_data()
    path.write_bytes((own / "fashion-mnist" / f"{idx.NAMES[2]}.gz").read_bytes())
    with pytest.raises(ValueError, match=r"is not Fashion-MNIST: y_train must be uint8 of shape \(4,\)"):
        fashion_mnist.load_data()


CIFAR10 = {f"data_batch_{i}": 2 for i in range(1, 6)} | {"test_batch": 3}
CIFAR100 = {"train": 5, "test": 3}
FOLDERS = {cifar10: "cifar-10-batches-py", cifar100: "cifar-100-python"}
ARCHIVES = {cifar10: "cifar-10-python.tar.gz", cifar100: "cifar-100-python.tar.gz"}


def batches(dataset, protocol=2, **changes):
    """The pickled batches of a dataset; the picture of label n is filled with n in the red channel."""
    content = {}
    for name, count in (CIFAR10 if dataset is cifar10 else CIFAR100).items():
        labels = RNG.integers(0, 10, count).tolist()
        data = RNG.integers(0, 256, (count, 3, 32, 32), np.uint8)
        data[:, 0] = np.array(labels)[:, None, None]
        batch = {b"data": data.reshape(count, -1), b"batch_label": name.encode(), b"filenames": [b"a.png"] * count}
        batch |= {b"fine_labels": labels, b"coarse_labels": labels} if dataset is cifar100 else {b"labels": labels}
        content[name] = pickle.dumps(batch | {key.encode(): value for key, value in changes.items()}, protocol)
    return content


def write_folder(folder, content):
    folder.mkdir(parents=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)


def write_archive(path, folder, content):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in {"readme.html": b"hello", **content}.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize("dataset", FOLDERS, ids=["cifar10", "cifar100"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("place", ["keras 3", "keras 2", "archive", "archive of keras 3", "archive of keras 2"])
def test_each_layout_is_found(own, dataset, protocol, place):
    content, folder = batches(dataset, protocol), FOLDERS[dataset]
    if place == "keras 3":
        write_folder(own / f"{folder}-target" / folder, content)
    elif place == "keras 2":
        write_folder(own / folder, content)
    else:
        names = {"archive": ARCHIVES[dataset], "archive of keras 3": f"{folder}-target_archive"}
        write_archive(own / names.get(place, f"{folder}.tar.gz"), folder, content)
    (x_train, y_train), (x_test, y_test) = dataset.load_data()
    train, test = (10, 3) if dataset is cifar10 else (5, 3)
    assert x_train.shape == (train, 32, 32, 3) and x_test.shape == (test, 32, 32, 3)
    assert y_train.shape == (train, 1) and y_test.shape == (test, 1)
    assert y_train.dtype == (np.uint8 if dataset is cifar10 else np.int64)
    for x, y in ((x_train, y_train), (x_test, y_test)):
        assert x.dtype == np.uint8 and x.flags.writeable and (x[..., 0] == y[:, :, None]).all()
    first = pickle.loads(content["test_batch" if dataset is cifar10 else "test"])[b"data"]
    np.testing.assert_array_equal(x_test[0, 4, 5], first[0].reshape(3, 32, 32)[:, 4, 5])


def test_channels_first_and_coarse_labels(own, monkeypatch):
    write_folder(own / "cifar-100-python", batches(cifar100, coarse_labels=[19] * 5) | {
        "test": batches(cifar100, coarse_labels=[0] * 3)["test"]
    })  # fmt: skip
    config.set_image_data_format("channels_first")
    try:
        (x_train, y_train), (_, y_test) = cifar100.load_data("coarse")
    finally:
        config.set_image_data_format("channels_last")
    assert x_train.shape == (5, 3, 32, 32) and set(y_train.ravel()) == {19} and set(y_test.ravel()) == {0}
    with pytest.raises(ValueError, match="label_mode must be 'fine' or 'coarse', got 'rough'"):
        cifar100.load_data("rough")


@pytest.mark.parametrize("dataset", FOLDERS, ids=["cifar10", "cifar100"])
def test_a_malicious_batch_runs_nothing(own, dataset, trap):
    for protocol in (0, 2, 4):
        content = batches(dataset, protocol, filenames=[trap])
        write_archive(own / ARCHIVES[dataset], FOLDERS[dataset], content)
        with pytest.raises(ValueError, match=r"is damaged or is not a batch of CIFAR \(.*(pickle names|no pickle)"):
            dataset.load_data()
    write_folder(own / FOLDERS[dataset], content)
    with pytest.raises(ValueError, match="pickle names"):
        dataset.load_data()
    assert not (own.parent / "sprung").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": np.zeros((2, 3071), np.uint8)}, r"its data is not uint8 of shape \(n, 3072\)"),
        ({"data": np.zeros((2, 3072), np.int8)}, "its data is not uint8"),
        ({"data": [1, 2]}, "its data is not uint8"),
        ({"labels": [1]}, "must have 2 whole numbers as labels"),
        ({"labels": ["1", "2"]}, "must have 2 whole numbers as labels"),
        ({"labels": [1, 10]}, "labels from 0 to 9, it has 10"),
        ({"labels": [-1, 1]}, "labels from 0 to 9, it has -1"),
    ],
)
def test_what_is_no_batch_is_refused(own, changes, message):
    write_folder(own / "cifar-10-batches-py", batches(cifar10, **changes))
    with pytest.raises(ValueError, match=message):
        cifar10.load_data()
    write_folder(own / "cifar-100-python", {"train": pickle.dumps([1]), "test": b""})
    with pytest.raises(ValueError, match="it holds a list"):
        cifar100.load_data()


def test_damaged_archives_are_refused(own, monkeypatch):
    path = own / ARCHIVES[cifar100]
    write_archive(path, "cifar-100-python", {"train": batches(cifar100)["train"]})
    with pytest.raises(ValueError, match=r"not the right archive \(it lacks test"):
        cifar100.load_data()
    write_archive(path, "cifar-100-python", batches(cifar100))
    monkeypatch.setattr(bounded, "FREE", 1000 - bounded.RATIO * path.stat().st_size)
    with pytest.raises(ValueError, match=r"it holds more than 1000 bytes, far more than its size allows"):
        cifar100.load_data()
    monkeypatch.undo()
    monkeypatch.setenv("MINIKERAS_DATASETS", str(own))
    for content in (b"", b"<html>", path.read_bytes()[:3000], path.read_bytes()[:-200]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"cifar-100-python\.tar\.gz is damaged or is not the right archive"):
            cifar100.load_data()
    with tarfile.open(path, "w:gz") as archive:  # links in place of batches
        for name in CIFAR100:
            member = tarfile.TarInfo(f"cifar-100-python/{name}")
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(member)
    with pytest.raises(ValueError, match="it lacks test, train"):
        cifar100.load_data()


def test_archives_are_downloaded_and_checked(own, kept, monkeypatch):
    server = own.parent / "server.tar.gz"
    write_archive(server, "cifar-10-batches-py", batches(cifar10))
    monkeypatch.setattr(cifar10, "URL", server.as_uri())
    with pytest.raises(FileNotFoundError, match=r"CIFAR-10 is in none of .* SHA-256"):
        cifar10.load_data()
    monkeypatch.setattr(cifar10, "SHA256", hashlib.sha256(server.read_bytes()).hexdigest())
    assert cifar10.load_data()[0][0].shape == (10, 32, 32, 3)
    assert [path.name for path in kept.iterdir()] == ["cifar-10-python.tar.gz"]
