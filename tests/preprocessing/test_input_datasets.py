"""Pictures, texts and time series as datasets, and datasets cut in two."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

import minikeras as keras
from minikeras import layers
from minikeras.data import Dataset
from minikeras.utils import (
    image_dataset_from_directory,
    split_dataset,
    text_dataset_from_directory,
    timeseries_dataset_from_array,
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """12 pictures of 2 classes, each of one grey level that tells it."""
    root = tmp_path_factory.mktemp("pictures")
    for number in range(12):
        folder = root / ("cats" if number % 3 else "dogs")
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (6, 8), (20 * number, 20 * number, 20 * number)).save(folder / f"{number:02}.png")
    return root


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    root = tmp_path_factory.mktemp("texts")
    for number in range(10):
        folder = root / f"class{number % 3}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.txt").write_text(f"text number {number} é ende\n", encoding="utf-8")
    return root


def _levels(dataset, batched=True):
    return [int(level) for x, *_ in dataset for level in np.ravel(x[..., 0, 0, 0] if batched else x[0, 0, 0])]


def test_pictures_come_with_labels(pictures, capsys):
    dataset = image_dataset_from_directory(str(pictures), image_size=(4, 5), batch_size=5, shuffle=False)
    assert capsys.readouterr().out == "Found 12 files belonging to 2 classes.\n"
    assert dataset.class_names == ["cats", "dogs"] and len(dataset) == 3
    assert [os.path.relpath(path, pictures) for path in dataset.file_paths[:2]] == ["cats/01.png", "cats/02.png"]
    batches = list(dataset)
    assert [x.shape for x, _ in batches] == [(5, 4, 5, 3), (5, 4, 5, 3), (2, 4, 5, 3)]
    assert batches[0][0].dtype == np.float32 and batches[0][1].dtype == np.int32
    assert np.concatenate([y for _, y in batches]).tolist() == [0] * 8 + [1] * 4
    assert _levels(dataset) == [20 * n for n in (1, 2, 4, 5, 7, 8, 10, 11, 0, 3, 6, 9)]
    assert batches[0][0][0].numpy().astype("uint8").max() == 20


def test_label_modes(pictures):
    def labels(**arguments):
        return np.concatenate(
            [y for _, y in image_dataset_from_directory(pictures, image_size=4, **settings, **arguments)]
        )

    settings = {"shuffle": False, "verbose": False, "batch_size": 7}
    binary, one_hot = labels(label_mode="binary"), labels(label_mode="categorical")
    assert binary.dtype == one_hot.dtype == np.float32
    np.testing.assert_array_equal(binary, np.repeat([[0], [1]], [8, 4], axis=0))
    np.testing.assert_array_equal(one_hot, np.repeat(np.eye(2), [8, 4], axis=0))
    assert labels(class_names=["dogs", "cats"]).tolist() == [0] * 4 + [1] * 8
    assert labels(labels=list(range(12))).tolist() == list(range(12))
    for arguments in ({"labels": None}, {"label_mode": None}):
        dataset = image_dataset_from_directory(pictures, image_size=4, **settings, **arguments)
        assert dataset.class_names is None and next(iter(dataset)).shape == (7, 4, 4, 3)
    single = next(iter(image_dataset_from_directory(pictures, image_size=4, shuffle=False, batch_size=None)))
    assert single[0].shape == (4, 4, 3) and single[1] == 0


def test_order_and_split_follow_the_seed(pictures):
    arguments = {"seed": 3, "image_size": (2, 2), "verbose": False, "batch_size": 4}
    dataset = image_dataset_from_directory(pictures, **arguments)
    passes = [_levels(dataset) for _ in range(2)]
    assert passes[0] != passes[1] and sorted(passes[0]) == sorted(passes[1]) == [20 * n for n in range(12)]
    assert [_levels(image_dataset_from_directory(pictures, **arguments))] == passes[:1]
    for x, y in dataset:
        np.testing.assert_array_equal(x[:, 0, 0, 0] % 60 == 0, y == 1)  # every third one is a dog
    both = image_dataset_from_directory(pictures, validation_split=0.25, subset="both", **arguments)
    assert [len(part.file_paths) for part in both] == [9, 3]
    assert both[0].file_paths + both[1].file_paths == dataset.file_paths
    for part, subset in zip(both, ("training", "validation"), strict=True):
        alone = image_dataset_from_directory(pictures, validation_split=0.25, subset=subset, **arguments)
        assert alone.file_paths == part.file_paths and alone.class_names == part.class_names
    assert _levels(both[1]) == _levels(both[1])  # the validation part is not mixed anew


def test_shapes_of_pictures(tmp_path):
    (tmp_path / "a").mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (8, 12, 4), "uint8")).save(tmp_path / "a" / "x.png")

    def read(**arguments):
        arguments = {"image_size": (4, 4), "labels": None, "batch_size": None, "verbose": False, **arguments}
        return next(iter(image_dataset_from_directory(tmp_path, **arguments)))

    assert [read(color_mode=mode).shape[2] for mode in ("grayscale", "rgb", "rgba")] == [1, 3, 4]
    first = read(data_format="channels_first")
    np.testing.assert_array_equal(first.transpose(1, 2, 0), read())
    for format in ("tf", "grain"):
        padded = read(pad_to_aspect_ratio=True, image_size=(12, 12), format=format)
        assert not padded[:2].any() and not padded[-2:].any()
        np.testing.assert_array_equal(padded[2:-2], read(image_size=(8, 12)))
    assert read(pad_to_aspect_ratio=True, image_size=(2, 9))[:, [2, 3, 5, 6]].any(axis=(0, 2)).tolist() == [0, 1, 1, 0]
    cropped = read(crop_to_aspect_ratio=True, image_size=(8, 8))
    np.testing.assert_array_equal(cropped, read(image_size=(8, 12))[:, 2:10])
    means = [read(interpolation=kind).mean() for kind in ("area", "gaussian", "mitchellcubic", "lanczos5")]
    np.testing.assert_allclose(means, read().mean(), rtol=0.15)
    grey = np.kron(rng.integers(0, 255, (4, 4)), np.ones((2, 3))).astype("uint8")
    Image.fromarray(grey).save(tmp_path / "a" / "x.png")
    np.testing.assert_allclose(read(interpolation="area", color_mode="grayscale")[:, :, 0], grey[::2, ::3], rtol=1e-5)


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"labels": "nothing"}, "labels must be 'inferred', None, or a list"),
        ({"labels": [1, 2]}, "got 2 labels for 12 files"),
        ({"labels": ["x"] * 12}, "labels must be whole numbers, got 'x'"),
        ({"labels": [0] * 12, "class_names": ["cats"]}, "class_names goes with labels='inferred' only"),
        ({"label_mode": "float"}, "label_mode must be 'int'"),
        ({"label_mode": "binary", "class_names": ["cats"]}, r"exactly 2 classes, got \['cats'\]"),
        ({"class_names": ["cats", "mice"]}, "got class 'mice' without one"),
        ({"color_mode": "cmyk"}, "color_mode must be"),
        ({"image_size": (1, 2, 3)}, r"image_size must be \(height, width\)"),
        ({"interpolation": "cubic"}, "interpolation must be "),
        ({"format": "torch"}, "format must be"),
        ({"validation_split": 2.0, "subset": "training", "seed": 1}, "must lie between 0 and 1, got 2.0"),
        ({"validation_split": 0.2}, "validation_split and subset go together"),
        ({"subset": "training"}, "validation_split and subset go together"),
        ({"validation_split": 0.2, "subset": "test", "seed": 1}, "subset must be"),
        ({"validation_split": 0.2, "subset": "training"}, "needs a seed"),
        ({"validation_split": 0.01, "subset": "validation", "seed": 1}, "There are no validation pictures in"),
        ({"crop_to_aspect_ratio": True, "pad_to_aspect_ratio": True}, "Only one of"),
    ],
)
def test_wrong_arguments_are_sentences(pictures, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        image_dataset_from_directory(pictures, **arguments)


def test_a_damaged_picture_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"broken\.png cannot be read as a picture"):
        list(image_dataset_from_directory(tmp_path, verbose=False))
    (tmp_path / "a" / "broken.png").unlink()
    with pytest.raises(ValueError, match=r"There are no pictures in .*; it needs files that end in \.bmp"):
        image_dataset_from_directory(tmp_path, verbose=False)
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        image_dataset_from_directory(tmp_path / "b", verbose=False)


def test_training_on_pictures(pictures):
    train, test = image_dataset_from_directory(
        pictures, image_size=(6, 6), batch_size=3, seed=1, validation_split=0.25, subset="both", verbose=False
    )
    scaled = train.map(lambda x, y: (x / 255, y)).cache().prefetch(1)
    model = keras.Sequential([keras.Input((6, 6, 3)), layers.Flatten(), layers.Dense(2)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(scaled, validation_data=test, epochs=2, verbose=0)
    assert len(history.history["val_loss"]) == 2
    assert model.predict(test, verbose=0).shape == (3, 2)


def test_texts(texts, capsys):
    dataset = text_dataset_from_directory(texts, batch_size=4, shuffle=False)
    assert capsys.readouterr().out == "Found 10 files belonging to 3 classes.\n"
    words, labels = next(iter(dataset))
    assert words.shape == (4,) and words.dtype == object and labels.tolist() == [0, 0, 0, 0]
    assert words[1] == "text number 3 é ende\n" == words[1].decode("utf-8")
    short = text_dataset_from_directory(texts, max_length=13, label_mode=None, batch_size=None, shuffle=False)
    assert list(short)[3] == "text number 9"
    both = text_dataset_from_directory(texts, validation_split=0.3, subset="both", seed=0, verbose=False)
    assert [len(part.file_paths) for part in both] == [7, 3] and both[0].class_names == ["class0", "class1", "class2"]
    (texts / "class0" / "latin.txt").write_bytes("für".encode("latin-1"))
    assert "f\ufffdr" in list(text_dataset_from_directory(texts, label_mode=None, batch_size=None, verbose=False))
    with pytest.raises(ValueError, match="format must be"):
        text_dataset_from_directory(texts, format="pandas")


def test_windows_over_a_series():
    series, goals = np.arange(100.0).reshape(50, 2), np.arange(50)
    dataset = timeseries_dataset_from_array(
        series, goals, sequence_length=4, sequence_stride=3, sampling_rate=2, batch_size=5, start_index=10, end_index=40
    )
    begins = np.arange(0, 30 - 6, 3) + 10
    x, y = (np.concatenate(part) for part in zip(*dataset, strict=True))
    np.testing.assert_array_equal(y, begins)
    np.testing.assert_array_equal(x, series[begins[:, None] + [0, 2, 4, 6]])
    assert len(dataset) == 2 and x.dtype == series.dtype
    mixed = timeseries_dataset_from_array(series, goals, 4, batch_size=8, shuffle=True, seed=1)
    passes = [np.concatenate([y for x, y in mixed]).tolist() for _ in range(2)]
    assert passes[0] != passes[1] and sorted(passes[0]) == sorted(passes[1]) == list(range(47))
    for x, y in mixed:
        np.testing.assert_array_equal(x[:, :, 0], 2 * (y[:, None] + np.arange(4)))
    (only,) = timeseries_dataset_from_array(np.arange(5), None, 5, batch_size=None)
    assert only.tolist() == [0, 1, 2, 3, 4]
    assert len(timeseries_dataset_from_array(np.arange(5), np.arange(3), 1, batch_size=None)) == 3
    for arguments, sentence in [
        ({"sampling_rate": 0}, "sampling_rate must lie between 1 and 9"),
        ({"sequence_stride": 10}, "sequence_stride must lie between 1 and 9"),
        ({"start_index": -1}, "start_index must lie between 0 and 9"),
        ({"end_index": 10}, "end_index must lie between 0 and 9"),
        ({"start_index": 5, "end_index": 4}, "end_index must be above start_index"),
        ({"format": "x"}, "format must be"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            timeseries_dataset_from_array(np.arange(10), None, 3, **arguments)


def test_datasets_cut_in_two():
    x, y = np.arange(20).reshape(10, 2), np.arange(10)

    def rows(dataset):
        return [np.asarray(element).tolist() for element in dataset]

    left, right = split_dataset(x, left_size=0.8)
    assert (rows(left), rows(right), len(left), len(right)) == (x[:8].tolist(), x[8:].tolist(), 8, 2)
    left, right = split_dataset((x, y), right_size=3)
    assert [int(label) for _, label in left] == list(range(7)) and len(right) == 3
    left, right = split_dataset(x, left_size=0.3, right_size=0.4)
    assert rows(left) == x[:3].tolist() and rows(right) == x[6:].tolist()
    orders = [rows(split_dataset(y, 7, shuffle=True, seed=seed)[0]) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    left, right = split_dataset(Dataset.from_arrays(x, y).batch(4).prefetch(1), left_size=6)
    assert [batch.tolist() for _, batch in left] == [[0, 1, 2, 3], [4, 5]]
    assert [batch.tolist() for _, batch in right] == [[6, 7, 8, 9]]
    with pytest.raises(TypeError, match="or another iterable, got int"):
        split_dataset(3, 0.5)
    with pytest.raises(TypeError, match="left_size must be a number of samples"):
        split_dataset(y, "half")
    for arguments, sentence in [
        ({}, "needs left_size or right_size"),
        ({"left_size": 10}, "between 1 and 9 or a fraction between 0 and 1, got 10"),
        ({"right_size": -0.5}, "got -0.5"),
        ({"left_size": 6, "right_size": 6}, "may have 10 samples together, got 6 and 6"),
        ({"left_size": 0.01}, "Neither part may be empty, got 0 and 10"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            split_dataset(y, **arguments)
    with pytest.raises(ValueError, match="of equal length"):
        split_dataset([x, y[:3]], 0.5)
    with pytest.raises(ValueError, match="is empty, got 0 samples"):
        split_dataset(x[:0], 0.5)


def test_the_names_of_keras():
    from minikeras import preprocessing

    assert preprocessing.image_dataset_from_directory is image_dataset_from_directory
    assert preprocessing.text_dataset_from_directory is text_dataset_from_directory
    assert preprocessing.timeseries_dataset_from_array is timeseries_dataset_from_array
