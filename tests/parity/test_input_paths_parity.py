"""Files in folders, their order, split and pixels, and datasets cut in two, as real Keras has them."""

from __future__ import annotations

import random
import warnings
from copy import copy

import keras
import numpy as np
import pytest
from keras.src.utils import dataset_utils, image_dataset_utils
from PIL import Image

import minikeras
from minikeras.preprocessing.image_dataset import EXTENSIONS


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(23):
        folder = root / ("b", "a b", "ü")[number % 3] / ("", "x", "x/y", "x.y")[number % 4]
        folder.mkdir(parents=True, exist_ok=True)
        picture = rng.integers(0, 256, (7 + number, 31 - number, 3), "uint8")
        Image.fromarray(picture).save(folder / f"{number}.{('png', 'PNG', 'bmp')[number % 3]}")
    (root / "a b" / "linked.png").symlink_to(root / "b" / "0.png")
    (root / "ü" / "folder").symlink_to(root / "b")
    (root / "empty").mkdir()
    (root / ".hidden").mkdir()
    (root / ".hidden" / "1.png").write_bytes((root / "b" / "0.png").read_bytes())
    (root / "b" / ".hidden.png").write_bytes((root / "b" / "0.png").read_bytes())
    (root / "notes.txt").write_text("no picture")
    return root


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("follow_links", [False, True])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"labels": None},
        {"labels": [n % 4 for n in range(26)]},
        {"class_names": ["ü", "b"]},
        {"validation_split": 0.3, "subset": "training"},
        {"validation_split": 0.3, "subset": "validation"},
    ],
    ids=str,
)
def test_the_same_files_in_the_same_order(pictures, arguments, follow_links, shuffle):
    settings = {"labels": "inferred", "class_names": None, "validation_split": None, "subset": None, **arguments}
    count = len(dataset_utils.index_directory(str(pictures), None, EXTENSIONS, follow_links=follow_links)[0])
    if isinstance(settings["labels"], list):
        settings["labels"] = [n % 4 for n in range(count)]
    expected, labels, class_names = dataset_utils.index_directory(
        str(pictures),
        copy(settings["labels"]),  # Keras shuffles the caller's list
        EXTENSIONS,
        class_names=settings["class_names"],
        shuffle=shuffle,
        seed=7,
        follow_links=follow_links,
    )
    expected, labels = dataset_utils.get_training_or_validation_split(
        expected, labels, settings["validation_split"], settings["subset"]
    )
    got = minikeras.utils.image_dataset_from_directory(
        str(pictures), **settings, shuffle=shuffle, seed=7, follow_links=follow_links, image_size=(2, 2), verbose=False
    )
    assert got.file_paths == expected
    assert got.class_names == class_names
    if labels is not None:
        # a pass is mixed near by near, so look at the pairs without it
        pairs = got
        while not hasattr(pairs, "_arrays"):
            pairs = pairs._source
        assert [(path, int(label)) for path, label in pairs] == list(
            zip(expected, [int(n) for n in labels], strict=True)
        )


@pytest.mark.parametrize(
    "interpolation, aspect",
    [(name, None) for name in ("bilinear", "nearest", "bicubic", "lanczos3", "lanczos5")]
    + [("bilinear", "crop_to_aspect_ratio"), ("bicubic", "pad_to_aspect_ratio")],
)
def test_the_same_pixels(pictures, interpolation, aspect):
    channels = {"bilinear": 1, "nearest": 4}.get(interpolation, 3)
    layout = "channels_first" if interpolation == "bicubic" else "channels_last"
    size = (9, 14)
    dataset = minikeras.utils.image_dataset_from_directory(
        pictures,
        labels=None,
        color_mode={1: "grayscale", 3: "rgb", 4: "rgba"}[channels],
        image_size=size,
        batch_size=None,
        shuffle=False,
        interpolation=interpolation,
        data_format=layout,
        format="grain",
        verbose=False,
        **({aspect: True} if aspect else {}),
    )
    for path, picture in list(zip(dataset.file_paths, dataset, strict=True))[::12]:
        expected = image_dataset_utils._load_image_grain(
            path,
            size,
            channels,
            interpolation,
            layout,
            crop_to_aspect_ratio=aspect == "crop_to_aspect_ratio",
            pad_to_aspect_ratio=aspect == "pad_to_aspect_ratio",
        )
        assert picture.dtype == np.float32
        np.testing.assert_allclose(picture, np.asarray(expected), atol=2e-3)


def test_the_same_sizes_of_parts_in_the_same_order():
    for left, right in [(0.7, None), (None, 0.25), (7, None), (0.2, 0.31), (3, 4), (0.5, 6)]:
        expected = dataset_utils._rescale_dataset_split_sizes(left, right, 21)
        parts = minikeras.utils.split_dataset(np.arange(21), left, right, shuffle=True, seed=11)
        assert tuple(len(part) for part in parts) == expected
        order = list(range(21))
        random.seed(11)
        random.shuffle(order)
        assert [int(n) for n in parts[0]] == order[: expected[0]]
        assert [int(n) for n in parts[1]] == order[-expected[1] :]
    for left, right in [(0, None), (21, None), (1.0, None), (None, -1), (0.7, 0.7), (12, 12), (0.01, None)]:
        with pytest.raises(ValueError):
            dataset_utils._rescale_dataset_split_sizes(left, right, 21)
        with pytest.raises(ValueError):
            minikeras.utils.split_dataset(np.arange(21), left, right)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_datasets_of_batches_are_read_alike(workers):
    """Which batches each epoch has, with fewer and with more steps than there are batches."""

    def seen(keras, **arguments):
        class Batches(keras.utils.PyDataset):
            def __init__(self):
                super().__init__(workers=1 if keras is not minikeras else workers)
                self.ended = 0

            def __len__(self):
                return 5

            def __getitem__(self, index):
                x = np.full((2, 3), index, "float32")
                return x, x[:, :1]

            def on_epoch_end(self):
                self.ended += 1

        batches = Batches()
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_initializer="ones")])
        model.compile(keras.optimizers.SGD(0.0), "mse")
        losses = model.fit(batches, shuffle=False, verbose=0, **arguments).history["loss"]
        assert batches.ended >= arguments["epochs"]  # Keras may read a batch ahead, to build the model
        return losses, len(model.predict(batches, verbose=0))

    for arguments in ({"epochs": 3}, {"epochs": 4, "steps_per_epoch": 2}, {"epochs": 3, "steps_per_epoch": 7}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # both say that the input ran out of data
            ours, theirs = seen(minikeras, **arguments), seen(keras, **arguments)
        np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5)
        assert ours[1] == theirs[1]
