"""`datasets.mnist`: the search on disk, the checks of files, and the download, on small files of the same format."""

import gzip
import hashlib
import io
import zipfile

import numpy as np
import pytest

from minikeras.datasets import files, mnist

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty home folder, a dataset folder of the user's, and no network."""
    (tmp_path / "own").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("MINIKERAS_DATASETS", str(tmp_path / "own"))
    monkeypatch.setattr(mnist, "URL", (tmp_path / "offline.npz").as_uri())
    return tmp_path


def arrays(train=5, test=3, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "x_train": rng.integers(0, 256, (train, 28, 28), np.uint8),
        "y_train": rng.integers(0, 10, train, np.uint8),
        "x_test": rng.integers(0, 256, (test, 28, 28), np.uint8),
        "y_test": rng.integers(0, 10, test, np.uint8),
    }


def write_npz(path, **content):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **content)


def idx(values):
    return bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">u4").tobytes() + values.tobytes()


def write_idx(folder, content, compressed=()):
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in zip(IDX, content.values(), strict=True):
        if name in compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(values)))
        else:
            (folder / name).write_bytes(idx(values))


def assert_loads(expected, path="mnist.npz"):
    (x_train, y_train), (x_test, y_test) = mnist.load_data(path)
    for name, loaded in zip(expected, (x_train, y_train, x_test, y_test), strict=True):
        np.testing.assert_array_equal(loaded, expected[name])
        assert loaded.dtype == np.uint8 and loaded.flags.writeable and loaded.flags.c_contiguous


@pytest.mark.parametrize("folder", ["own", "own/mnist", ".minikeras/datasets", ".keras/datasets"])
@pytest.mark.parametrize("kind", ["npz", "idx", "gz", "mixed"])
def test_each_form_is_found_in_each_folder(home, folder, kind):
    expected = arrays()
    if kind == "npz":
        write_npz(home / folder / "mnist.npz", **expected)
    else:
        write_idx(home / folder, expected, {"idx": (), "gz": IDX, "mixed": IDX[1:3]}[kind])
    assert mnist.find() == home / folder / ("mnist.npz" if kind == "npz" else "")
    assert_loads(expected)


def test_folders_are_searched_in_order(home):
    order = [home / "own", home / "own/mnist", home / ".minikeras/datasets", home / ".keras/datasets"]
    for seed, folder in reversed(list(enumerate(order))):
        write_idx(folder, arrays(seed=seed))
        assert_loads(arrays(seed=seed))
    write_npz(order[0] / "mnist.npz", **arrays(seed=9))  # before the IDX files of the same folder
    assert_loads(arrays(seed=9))


def test_path_names_the_file(home):
    write_npz(home / "own" / "mine.npz", **arrays(seed=1))
    write_npz(home / "elsewhere" / "mine.npz", **arrays(seed=2))
    assert_loads(arrays(seed=1), "mine.npz")
    assert_loads(arrays(seed=2), str(home / "elsewhere" / "mine.npz"))
    assert_loads(arrays(seed=2), "~/elsewhere/mine.npz")
    assert mnist.find() is None and mnist.find(str(home / "nowhere.npz")) is None


def test_an_incomplete_set_of_idx_files_is_not_mnist(home):
    write_idx(home / "own", arrays())
    (home / "own" / IDX[3]).unlink()
    assert mnist.find() is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_train": None}, r"lacks x_train\.npy"),
        ({"x_train": np.zeros((5, 784), np.uint8)}, r"x_train must be uint8 of shape \(n, 28, 28\), .* \(5, 784\)"),
        ({"x_test": np.zeros((3, 28, 28), np.float32)}, r"x_test must be uint8 .* float32"),
        ({"x_train": np.zeros((0, 28, 28), np.uint8)}, r"x_train must be"),
        ({"y_train": np.zeros(4, np.uint8)}, r"y_train must be uint8 of shape \(5,\), it is uint8 of shape \(4,\)"),
        ({"y_test": np.zeros((3, 10), np.uint8)}, r"y_test must be"),
        ({"y_test": np.zeros(3, np.int64)}, r"y_test must be .* int64"),
        ({"y_test": np.array([1, 10, 2], np.uint8)}, r"labels from 0 to 9, it holds 10"),
        ({"y_train": np.array([{}] * 5, object)}, r"mnist\.npz is damaged .*allow_pickle"),
    ],
)
def test_a_file_that_is_not_mnist_is_refused(home, change, message):
    content = {name: value for name, value in (arrays() | change).items() if value is not None}
    write_npz(home / "own" / "mnist.npz", **content)
    with pytest.raises(ValueError, match=message) as caught:
        mnist.load_data()
    assert str(home / "own" / "mnist.npz") in str(caught.value) and str(caught.value).endswith("replace or remove it.")


def damaged():
    buffer = io.BytesIO()
    np.savez(buffer, **arrays())
    good = buffer.getvalue()
    flipped = bytearray(good)
    flipped[2000] ^= 1  # a picture of x_train: only the archive's CRC tells
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    junk = io.BytesIO()
    with zipfile.ZipFile(junk, "w") as archive:
        for name in arrays():
            archive.writestr(f"{name}.npy", b"not an array")
    huge = io.BytesIO()
    with zipfile.ZipFile(huge, "w") as archive:
        header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (60000, 28, 28000000000)}\n"
        for name in arrays():
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    return {
        "empty": b"", "text": b"<html>not found</html>", "truncated": good[: len(good) // 2], "flipped": bytes(flipped),
        "npy": array.getvalue(), "junk": junk.getvalue(), "huge": huge.getvalue(),
    }  # fmt: skip


@pytest.mark.parametrize("kind", damaged())
def test_a_damaged_npz_is_refused(home, kind):
    (home / "own" / "mnist.npz").write_bytes(damaged()[kind])
    with pytest.raises(ValueError, match=r"mnist\.npz is damaged or is not the right \.npz file") as caught:
        mnist.load_data()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0",
        b"\0\0\x08\x03\0\0\0\x02",  # ends within the header
        b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0",  # floats
        idx(np.zeros((2, 28, 28), np.uint8))[:-1],
        idx(np.zeros((2, 28, 28), np.uint8)) + b"\0",
        b"\0\0\x08\x03" + b"\xff" * 12,  # announces far more than it holds
        gzip.compress(idx(np.zeros((2, 28, 28), np.uint8)), mtime=0)[:-9],
        b"\x1f\x8bnot gzip",
    ],
)
def test_a_damaged_idx_file_is_refused(home, content):
    write_idx(home / "own", arrays())
    (home / "own" / IDX[0]).write_bytes(content)
    with pytest.raises(ValueError, match=f"{IDX[0]} is damaged or is not an IDX file"):
        mnist.load_data()


def test_idx_files_of_another_shape_are_refused(home):
    write_idx(home / "own", arrays() | {"x_train": np.zeros((5, 32, 32), np.uint8)})
    with pytest.raises(ValueError, match=r"is not MNIST: x_train must be .* \(5, 32, 32\)"):
        mnist.load_data()


def test_download_is_checked_and_kept(home, monkeypatch, capsys):
    write_npz(home / "server.npz", **arrays())
    monkeypatch.setattr(mnist, "URL", (home / "server.npz").as_uri())
    monkeypatch.setattr(mnist, "SHA256", hashlib.sha256((home / "server.npz").read_bytes()).hexdigest())
    assert mnist.find() is None
    assert_loads(arrays())
    assert "Downloading" in capsys.readouterr().err
    kept = home / ".minikeras" / "datasets"
    assert mnist.find() == kept / "mnist.npz"
    assert [path.name for path in kept.iterdir()] == ["mnist.npz"]
    (home / "server.npz").unlink()
    assert_loads(arrays())
    assert capsys.readouterr().err == ""


def test_an_altered_download_is_refused_and_leaves_nothing(home, monkeypatch):
    write_npz(home / "server.npz", **arrays())
    monkeypatch.setattr(mnist, "URL", (home / "server.npz").as_uri())
    with pytest.raises(FileNotFoundError, match=f"SHA-256 sum of the download is .* expected {mnist.SHA256}"):
        mnist.load_data()
    assert not list((home / ".minikeras" / "datasets").iterdir())


def test_offline_says_where_to_put_the_file(home):
    with pytest.raises(FileNotFoundError) as caught:
        mnist.load_data()
    message = str(caught.value)
    assert f"put mnist.npz at {home / '.minikeras' / 'datasets' / 'mnist.npz'}" in message
    assert "MINIKERAS_DATASETS" in message and str(home / "own") in message and mnist.URL in message
    assert "\n" not in message and not list((home / ".minikeras" / "datasets").iterdir())


def test_an_interrupted_download_leaves_nothing(home, monkeypatch):
    (home / "server.npz").write_bytes(b"0" * (files._BLOCK + 1))

    class Interrupted:
        def update(self, block):
            raise KeyboardInterrupt

    monkeypatch.setattr(files.hashlib, "sha256", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.download((home / "server.npz").as_uri(), home / "there" / "file", "")
    assert not list((home / "there").iterdir())
