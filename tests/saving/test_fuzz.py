"""Readers of files against generated structures and damage: what is read is right, or refused in one sentence."""

from __future__ import annotations

import gzip
import io
import random
import struct
import tempfile
import warnings
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from fuzz import readers
from hypothesis import given, settings
from hypothesis import strategies as st

import minikeras
from minikeras import layers

SMALL = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def good():
    return {name: make() for name, (_, make, _) in readers.READERS.items()}


def damaged(content, rng):
    """The bytes with some of them changed, as disks and people do."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not content:
            break
        at = rng.randrange(len(content))
        change = rng.randrange(6)
        if change < 2:
            content[at] ^= 1 << rng.randrange(8)
        elif change == 2:
            content[at] = rng.randrange(256)
        elif change == 3:
            number = rng.choice((0, 1, 2**63, 2**64 - 1, rng.randrange(len(content))))
            content[at : at + 8] = struct.pack("<Q", number)[: len(content) - at]
        elif change == 4:
            content[at : at + rng.randrange(1, 40)] = b""
        elif rng.random() < 0.3:
            content = content[: at + 1]
    return bytes(content)


@pytest.mark.parametrize("name", sorted(set(readers.READERS) - {"json"}))
def test_damaged_files(name, good, folder):
    rng = random.Random(name)
    for _ in range(40):
        readers.check(name, damaged(rng.choice(good[name]), rng), folder)


@pytest.mark.parametrize("name", ["keras", "npz", "texts", "zip"])
def test_damage_within_archives_whose_sums_are_right(name, good, folder):
    rng = random.Random(name)

    def change(member, content):
        return damaged(content, rng) if member != "config.json" and rng.random() < 0.7 else content

    for _ in range(20):
        readers.check(name, readers.rezipped(good[name][0], change), folder)


def network(seed=0):
    minikeras.utils.set_random_seed(seed)
    model = minikeras.Sequential([minikeras.Input((3,)), layers.Dense(4), layers.Dense(4), layers.Dense(2)])
    model.compile(minikeras.optimizers.SGD(0.1, momentum=0.9), "mse")
    model.train_on_batch(np.ones((5, 3), "f4"), np.ones((5, 2), "f4"))
    return model


def test_no_damage_changes_weights_in_silence(folder):
    """Of files that we write: what can be read holds what was written, or a warning says what it lacks."""
    model, other = network(), network(1)
    path = folder / "file.weights.h5"
    model.save_weights(path)
    written, rng = path.read_bytes(), random.Random(0)
    wanted = [*model.get_weights(), *model.optimizer.get_weights()]
    loaded = 0
    for _ in range(120):
        path.write_bytes(damaged(written, rng))
        before = [*other.get_weights(), *other.optimizer.get_weights()]
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                other.load_weights(path)
                expected = wanted
                loaded += 1
            except ValueError:
                expected = before
        found = [*other.get_weights(), *other.optimizer.get_weights()]
        assert said or all(np.array_equal(one, two) for one, two in zip(found, expected, strict=True))
    assert loaded > 10  # whatever lies in no used byte


KINDS = st.sampled_from(["f4", "f2", ">f8", "u8", "?", "V2", "S3", "c8", h5py.string_dtype(), h5py.vlen_dtype("i4"),
                         h5py.ref_dtype, np.dtype([("a", "f4")]), np.dtype(("f4", (2,)))])  # fmt: skip
SHAPES = st.one_of(st.sampled_from([(3, 4), (4,), (), (0, 4)]), st.lists(st.integers(0, 2**40), max_size=5).map(tuple))
PLACES = st.sampled_from(
    ["layers", "layers/dense", "layers/dense/vars/0", "layers/dense/vars/1", "layers/dense/vars/2", "optimizer/vars/0",
     "layers/batch_normalization/vars/3", "vars", "vars/0", "other"]
)  # fmt: skip
FILTERS = st.sampled_from([{}, {"compression": "gzip"}, {"compression": "lzf"}, {"fletcher32": True}])


@given(st.lists(st.tuples(PLACES, st.integers(0, 4), SHAPES, KINDS, FILTERS), min_size=1, max_size=5))
@settings(max_examples=20)
def test_trees_of_hdf5(changes):
    """Weights files with anything in the place of anything."""
    content = io.BytesIO(_weights())
    with h5py.File(content, "a") as file:
        for place, what, shape, kind, filters in changes:
            try:
                if place in file:
                    del file[place]
                if what == 0:
                    file.create_group(place).attrs["dtype"] = np.zeros(shape[:1] if np.prod(shape[:1]) < 99 else 3)
                elif what == 1:
                    file[place] = h5py.SoftLink(f"/{place}") if shape else h5py.ExternalLink("x.h5", "/")
                elif what == 2:
                    file[place] = file["/"]
                else:
                    file.create_dataset(place, shape, kind, **(filters if what == 3 else {})).attrs["dtype"] = (
                        "bfloat16"
                    )
            except (ValueError, TypeError, OSError, RuntimeError, KeyError, OverflowError):
                continue  # what h5py cannot write
    _check("weights", content.getvalue())
    _check("keras", readers.rezipped(_model_file(), lambda name, old: content.getvalue() if ".h5" in name else old))


MEMBERS = st.sampled_from(
    ["config.json", "model.weights.h5", "metadata.json", "assets/x", "assets/", "../x", "/x", ".", "x/", "x.npy"]
)


@given(st.lists(st.tuples(MEMBERS, st.binary(max_size=40), st.sampled_from([0, 8, 12, 14])), max_size=6), SMALL)
@settings(max_examples=25)
def test_zip_archives(members, seed):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, data, method in members:
            archive.writestr(name, data, method)
    for name in ("keras", "zip", "npz"):
        _check(name, content.getvalue())
        _check(name, damaged(content.getvalue(), random.Random(seed)))


NAMES = (b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"c_codecs\nencode\n",
         b"cnumpy._core.numeric\n_frombuffer\n")  # fmt: skip
INSTRUCTIONS = st.one_of(
    st.sampled_from([*NAMES, *(bytes([code]) for code in b"(N)]}aestub.R\x85\x86\x87\x88\x89\x94")]),
    st.tuples(st.sampled_from(b"Khq"), st.integers(0, 3)).map(bytes),
    st.binary(max_size=9).map(lambda text: b"U" + bytes([len(text)]) + text),
    st.sampled_from([b"U\x02u1", b"U\x01|", b"X\x06\0\0\0latin1", b"U\x04data", b"M\xff\xff", b"J\xff\xff\xff\xff"]),
    st.binary(min_size=1, max_size=3),
)


@given(st.lists(INSTRUCTIONS, max_size=30), st.integers(2, 5))
@settings(max_examples=200)
def test_pickles(instructions, protocol):
    _check("pickle", bytes([128, protocol]) + b"".join(instructions) + b".")


HEADERS = st.tuples(
    st.sampled_from(b"0123456LKxgSDX\0"), st.sampled_from([0, 5, 600, 2**33, -1]), st.binary(max_size=9)
)
PAX = st.sampled_from([b"", b"12 path=a/b\n", b"99 x=y\n", b"20 GNU.sparse.size=9\n"])


@given(st.lists(HEADERS, max_size=6), PAX, st.booleans())
@settings(max_examples=30)
def test_tar_archives(members, text, compressed):
    blocks = []
    for kind, size, name in [(ord("0"), 5, b"first"), *members]:
        block = bytearray(512)
        block[: len(name)], block[100:124] = name, b"0000644\0" + b"0000000\0" * 2
        block[124:136] = size.to_bytes(12, "big", signed=True) if size < 0 else b"\x80" + size.to_bytes(11, "big")
        block[136:148], block[156], block[257:265] = b"00000000000\0", kind, b"ustar\x0000"
        block[148:156] = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 8 * 32)
        blocks += [
            bytes(block),
            (text * 99)[: max(0, min(size, 600))].ljust(-(-min(max(size, 0), 600) // 512) * 512, b"\0"),
        ]
    content = b"".join(blocks) + bytes(1024)
    _check("tar", gzip.compress(content, 1) if compressed else content)


def _check(name, content):
    with tempfile.TemporaryDirectory() as place:
        readers.check(name, content, Path(place))


_kept = {}


def _weights():
    return _kept.setdefault("weights", readers.READERS["weights"][1]()[0])


def _model_file():
    return _kept.setdefault("keras", readers.READERS["keras"][1]()[0])
