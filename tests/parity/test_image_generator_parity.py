"""ImageDataGenerator against Keras's own: the same random draws, pictures, batches and statistics.

Keras shifts rows by `width_shift_range` and columns by `height_shift_range`, and takes each as a part of the wrong
side's length; and it turns pictures that are not square about a point that is not their middle.  Its documentation, and
what a middle is, are heeded here, so these comparisons give Keras the two ranges exchanged and its own middle mended.
"""

from __future__ import annotations

import itertools
import os
import warnings

import numpy as np
import pytest
from keras.src.legacy.preprocessing import image as theirs
from keras.src.utils import image_utils as their_files

import minikeras
from minikeras.preprocessing import image as ours

pandas = pytest.importorskip("pandas")
pillow = pytest.importorskip("PIL.Image")

RNG = np.random.default_rng(0)
LEVEL = 1.0  # of 255

ARTICLE = {
    "rotation_range": 10,
    "width_shift_range": 0.1,
    "height_shift_range": 0.1,
    "shear_range": 0.1,
    "zoom_range": 0.1,
}
EVERYTHING = {
    **ARTICLE,
    "horizontal_flip": True,
    "vertical_flip": True,
    "channel_shift_range": 40.0,
    "brightness_range": (0.5, 1.5),
    "rescale": 1 / 255,
}
CASES = {
    "nothing": {},
    "article": ARTICLE,
    "everything": EVERYTHING,
    "whole pixels": {"width_shift_range": 3, "height_shift_range": [-2, 1, 4], "horizontal_flip": True},
    "parts from a list": {"width_shift_range": [-0.2, 0.3], "height_shift_range": 0.3, "zoom_range": [0.5, 0.9]},
    "pixels as floats": {"width_shift_range": 2.5, "height_shift_range": 1.0, "fill_mode": "reflect"},
    "constant": {**ARTICLE, "rotation_range": 90, "fill_mode": "constant", "cval": 17.0},
    "wrap": {**ARTICLE, "rotation_range": 180, "fill_mode": "wrap"},
    "nearest pixel": {"zoom_range": (0.4, 1.9), "interpolation_order": 0},
    "cubic": {"shear_range": 30.0, "zoom_range": 0.3, "interpolation_order": 3, "fill_mode": "reflect"},
    "channels first": {**EVERYTHING, "brightness_range": None, "data_format": "channels_first"},
    "samplewise": {**ARTICLE, "samplewise_std_normalization": True, "samplewise_center": True},
    "double": {**ARTICLE, "dtype": "float64"},
    "function": {**ARTICLE, "preprocessing_function": lambda x: x + np.random.normal(size=x.shape), "rescale": 0.5},
    "split": {"validation_split": 0.3, "vertical_flip": True},
}


def pictures(n=7, height=10, width=10, channels=3):
    return RNG.integers(0, 256, (n, height, width, channels)).astype("float32")


def laid_out(x, arguments):
    return np.moveaxis(x, -1, 1).copy() if arguments.get("data_format") == "channels_first" else x


@pytest.fixture(autouse=True)
def the_middle_of_pictures_that_are_not_square(monkeypatch):
    """Keras's map is about (height, width) / 2 on coordinates (column, row)."""
    about = theirs.transform_matrix_offset_center
    monkeypatch.setattr(theirs, "transform_matrix_offset_center", lambda matrix, x, y: about(matrix, y, x))


def generator_of(module, arguments, height, width):
    """The generator for pictures of this size; Keras's with the two ranges of shifts exchanged, in its parts."""
    if module is ours:
        return ours.ImageDataGenerator(**arguments)
    sideways, upright = (arguments.get(f"{side}_shift_range", 0.0) for side in ("width", "height"))
    exchanged = {
        "height_shift_range": _as_part_of(sideways, width / height),
        "width_shift_range": _as_part_of(upright, height / width),
    }
    return theirs.ImageDataGenerator(**arguments | exchanged)


def _as_part_of(limit, ratio):
    if np.max(limit) >= 1:
        return limit
    return [one * ratio for one in limit] if np.ndim(limit) else limit * ratio


def both(function):
    """What `function` gives with ours and with theirs, each from the same global random state."""
    results = []
    for module in (ours, theirs):
        np.random.seed(3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results.append((function(module), np.random.random()))
    (first, state), (second, their_state) = results
    assert state == their_state, "another amount was drawn"
    return first, second


def assert_same(first, second, atol=1e-3):
    if isinstance(second, (list, tuple)):
        assert type(first) is type(second) and len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other, atol)
        return
    assert first.shape == second.shape and first.dtype == second.dtype
    if first.dtype.kind in "fiu":
        np.testing.assert_allclose(first, second, atol=atol, rtol=1e-5)
    else:
        assert first.tolist() == second.tolist()


def tolerance(arguments):
    """Brightness cuts to whole grey levels: where rounding decides, a level lies between."""
    return LEVEL * arguments.get("rescale", 1) * 1.001 if "brightness_range" in arguments else 1e-3


@pytest.mark.parametrize("case", CASES)
def test_the_same_draws(case):
    shape = (3, 8, 11) if CASES[case].get("data_format") == "channels_first" else (8, 11, 3)

    def draws(module):
        generator = generator_of(module, CASES[case], 8, 11)
        return [generator.get_random_transform(shape, seed=seed) for seed in (None, None, 5)]

    for first, second in zip(*both(draws), strict=True):
        assert list(first) == list(second)
        values = [[np.nan if value is None else value for value in drawn.values()] for drawn in (first, second)]
        np.testing.assert_allclose(*values, rtol=1e-12)


@pytest.mark.parametrize(("case", "seed"), [*itertools.product(CASES, (None, 12))])
def test_the_same_batches(case, seed):
    arguments = CASES[case]
    x, y = laid_out(pictures(height=10, width=13), arguments), np.arange(7)

    def batches(module):
        batches = generator_of(module, arguments, 10, 13).flow(x, y, batch_size=3, seed=seed)
        assert len(batches) == 3
        found = [next(batches) for _ in range(5)]
        batches.reset()
        return [*found, next(batches)]

    first, second = both(batches)
    assert_same(first, second, tolerance(arguments))


@pytest.mark.parametrize("case", ["article", "everything", "whole pixels", "function"])
def test_the_same_batches_by_index(case):
    x, arguments = pictures(), CASES[case]

    def batches(module):
        batches = generator_of(module, arguments, 10, 10).flow(x, np.arange(7), batch_size=3, seed=1)
        found = []
        for _ in range(2):
            found += [batches[index] for index in range(3)]
            batches.on_epoch_end()
        return found

    assert_same(*both(batches), tolerance(arguments))

    def mixed(module):
        batches = generator_of(module, arguments, 10, 10).flow(x, np.arange(7), batch_size=3, seed=1)
        found = [next(batches), next(batches), *(batches[index] for index in (0, 1, 2, 0, 1, 2))]
        batches.on_epoch_end()
        found += [batches[0], batches[1], next(batches), next(batches), next(batches)]
        batches.on_epoch_end()
        return [*found, next(batches), batches[0]]

    assert_same(*both(mixed), tolerance(arguments))


def test_the_same_parts_of_the_data():
    # without weights: those of a subset are Keras's first ones, whichever pictures it has
    x, y, more = pictures(), np.array([0, 1, 0, 1, 0, 1, 0]), np.arange(7.0)

    def batches(module):
        generator = module.ImageDataGenerator(validation_split=0.3)
        found = []
        for subset in ("training", "validation"):
            flow = generator.flow((x, [y, more]), y, 4, subset=subset, shuffle=False)
            found += [np.array(flow.n), next(flow), flow[len(flow) - 1]]
        return found

    assert_same(*both(batches))


@pytest.mark.parametrize(
    "arguments",
    [
        {"featurewise_center": True},
        {"featurewise_std_normalization": True, "rescale": 1 / 255},
        {"zca_whitening": True, "zca_epsilon": 0.01, "rescale": 1 / 255},
        {"featurewise_std_normalization": True, "data_format": "channels_first"},
        {"samplewise_std_normalization": True, "featurewise_std_normalization": True, "rescale": 0.1},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
@pytest.mark.parametrize("fit", [{}, {"augment": True, "rounds": 2, "seed": 4}], ids=["plain", "augmented"])
def test_the_same_statistics(arguments, fit):
    x = laid_out(pictures(90, 5, 5), arguments)

    def fitted(module):
        generator = module.ImageDataGenerator(rotation_range=20, horizontal_flip=True, **arguments)
        generator.fit(x, **fit)
        found = [generator.mean, generator.std, generator.zca_whitening_matrix]
        found = [part for part in found if part is not None]
        found.append(generator.standardize(x[0].copy()))
        found.append(next(generator.flow(x, batch_size=8, seed=1)))
        return found

    assert_same(*both(fitted), atol=2e-3)


def test_the_same_functions_on_one_picture():
    x = pictures()[0]
    axes = {"row_axis": 0, "col_axis": 1, "channel_axis": 2}
    calls = {
        "random_rotation": [(x, 40), axes],
        "random_shear": [(x, 30), {**axes, "fill_mode": "wrap"}],
        "random_zoom": [(x, (0.5, 2.0)), {**axes, "interpolation_order": 0}],
        "random_channel_shift": [(x, 60.0), {"channel_axis": 2}],
        "random_brightness": [(x, (0.2, 1.8)), {}],
        "apply_brightness_shift": [(x - 40, 1.4, False), {}],
        "apply_affine_transform": [(x, 90, 2, 1, 10, 0.8, 1.2), {"row_axis": 1, "col_axis": 0, "channel_axis": 2}],
        "apply_channel_shift": [(x.astype("uint8"), -30.5), {"channel_axis": 0}],
        "flip_axis": [(x, 1), {}],
    }
    for name, (arguments, options) in calls.items():
        first, second = both(lambda module, name=name, a=arguments, o=options: getattr(module, name)(*a, **o))
        np.testing.assert_allclose(first, second, atol=1e-3, err_msg=name)
        assert first.dtype == second.dtype, name
    matrix = np.diag([2.0, 3.0, 1.0])
    mended = theirs.transform_matrix_offset_center(matrix, 7, 5)
    np.testing.assert_array_equal(ours.transform_matrix_offset_center(matrix, 5, 7), mended)
    options = {**axes, "fill_mode": "constant", "cval": 3.0}
    first, second = both(lambda m: m.random_shift(x, *((0.3, 0.2) if m is ours else (0.2, 0.3)), **options))
    np.testing.assert_allclose(first, second, atol=1e-3)
    channels_first = np.moveaxis(x, -1, 0)
    first, second = both(lambda module: module.random_rotation(channels_first, 30))
    np.testing.assert_allclose(first, second, atol=1e-3)
    whole = x.astype("uint8")
    first, second = both(lambda module: module.apply_affine_transform(whole, 20, 1, 0, channel_axis=0))
    assert first.dtype == second.dtype and (abs(first.astype(int) - second) <= 1).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("scale", [False, True])
def test_the_same_brightness(channels, scale):
    for low, high in ((0, 255), (-90, 300), (0.2, 0.9), (7, 7)):
        x = RNG.uniform(low, high, (6, 5, channels)).astype("float32")
        for factor in (0.0, 0.37, 1.0, 1.9):
            first, second = (module.apply_brightness_shift(x, factor, scale) for module in (ours, theirs))
            np.testing.assert_allclose(first, second, atol=1e-3, err_msg=f"{low} to {high}, {factor}")
            assert first.dtype == second.dtype


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    modes = ("RGB", "L", "RGBA", "CMYK", "P", "I;16")
    for label, name in enumerate(("dogs", "cats", "empty class")):
        (root / name / "below").mkdir(parents=True)
        for number in range(0 if label == 2 else 6):
            mode = modes[number]
            size = 20 + number, 17
            values = RNG.integers(0, 256, (*size[::-1], {"RGB": 3, "RGBA": 4, "CMYK": 4}.get(mode, 1))).squeeze()
            image = pillow.fromarray((values * 257).astype("uint16") if mode == "I;16" else values.astype("uint8"))
            image = pillow.frombytes("CMYK", image.size, image.tobytes()) if mode == "CMYK" else image
            image = image.convert("P") if mode == "P" else image
            ending = {"CMYK": "tif", "L": "JPG", "RGB": "bmp"}.get(mode, "png")
            image.save(root / name / ("below" if number % 2 else "") / f"{number}.{ending}")
        (root / name / "notes.txt").write_text("no picture")
    (root / "a file").write_text("no class")
    return root


@pytest.mark.parametrize("color_mode", ["rgb", "rgba", "grayscale"])
@pytest.mark.parametrize("class_mode", ["categorical", "binary", "sparse", "input", None])
def test_the_same_batches_of_a_folder(folder, color_mode, class_mode):
    def batches(module):
        generator = module.ImageDataGenerator(rotation_range=30, vertical_flip=True, validation_split=0.4)
        found = []
        for options in (
            {"interpolation": "bilinear"},
            {"subset": "training", "keep_aspect_ratio": True, "seed": 5},
            {"subset": "validation", "classes": ["dogs", "cats"], "shuffle": False},
        ):
            flow = generator.flow_from_directory(
                folder, (12, 9), color_mode, class_mode=class_mode, batch_size=5, **options
            )
            batch = [next(flow), next(flow)]
            found += [*batch, np.array(flow.filenames), flow.classes, np.array(list(flow.class_indices.items()))]
        return found

    assert_same(*both(batches), atol=0.05 if color_mode == "grayscale" else 1e-3)


def test_the_same_batches_of_a_table(folder):
    names = [f"dogs/{n}" for n in sorted(os.listdir(folder / "dogs")) if n[0].isdigit()]
    names += [f"cats/{n}" for n in sorted(os.listdir(folder / "cats")) if n[0].isdigit()]
    frame = pandas.DataFrame(
        {
            "filename": [*names, "cats/missing.png"],
            "class": [*("dog" if "dogs" in name else "cat" for name in names), "cat"],
            "many": [["a", "b"] if index % 2 else ["a"] for index in range(len(names))] + ["b"],
            "number": np.arange(len(names) + 1) * 1.5,
            "weight": np.arange(len(names) + 1),
        }
    )

    def batches(module):
        generator = module.ImageDataGenerator(horizontal_flip=True, validation_split=0.4)
        found = []
        for mode, column, options in (
            ("categorical", "class", {"weight_col": "weight"}),
            ("categorical", "many", {"classes": ["b"]}),
            ("sparse", "class", {"subset": "training"}),
            ("binary", "class", {"subset": "validation", "shuffle": False}),
            ("raw", "number", {"seed": 2}),
            ("raw", ["number", "weight"], {}),
            ("multi_output", ["number", "class"], {}),
            ("input", "class", {"weight_col": "weight"}),
            (None, "class", {}),
        ):
            flow = generator.flow_from_dataframe(
                frame, folder, y_col=column, class_mode=mode, target_size=(8, 8), batch_size=4, **options
            )
            found += [next(flow), flow[0], np.array(flow.filenames)]
        return found

    assert_same(*both(batches))


def test_the_same_files(folder, tmp_path):
    for path in sorted(folder.glob("*/**/*.*")):
        if path.suffix == ".txt":
            continue
        for mode, size in itertools.product(("rgb", "rgba", "grayscale"), (None, (9, 30))):
            for interpolation, keep in (("nearest", True), ("lanczos", False), ("box", True)):
                first, second = (
                    load(path, mode, size, interpolation, keep) for load in (ours.load_img, their_files.load_img)
                )
                assert first.mode == second.mode
                for layout in ("channels_last", "channels_first"):
                    assert np.array_equal(ours.img_to_array(first, layout), their_files.img_to_array(second, layout))
    for channels, scale in itertools.product((1, 3, 4), (True, False)):
        x = RNG.uniform(0, 255, (6, 5, channels))
        first, second = (module.array_to_img(x, scale=scale) for module in (ours, their_files))
        assert first.mode == second.mode and np.array_equal(np.asarray(first), np.asarray(second))
        for name in ("a.png", "b.jpg"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ours.save_img(tmp_path / name, x, scale=scale)
                their_files.save_img(tmp_path / f"their {name}", x, scale=scale)
            assert (tmp_path / name).read_bytes() == (tmp_path / f"their {name}").read_bytes()
    large = RNG.uniform(0, 1000, (6, 5, 1))
    assert np.array_equal(*(np.asarray(module.array_to_img(large, scale=False)) for module in (ours, their_files)))


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest", "bicubic", "lanczos3", "lanczos5"])
@pytest.mark.parametrize(("size", "layout"), [((7, 7), "channels_last"), ((3, 40), "channels_first")])
def test_the_same_smart_resize(interpolation, size, layout):
    x = RNG.uniform(0, 255, (2, 11, 16, 3)).astype("float32")
    x = x if layout == "channels_last" else np.moveaxis(x, -1, 1)[0]
    first = ours.smart_resize(x, size, interpolation, layout)
    second = their_files.smart_resize(x, size, interpolation, layout)
    np.testing.assert_allclose(first, second, atol=2e-3)
    assert first.dtype == second.dtype


def test_fit_takes_it():
    x, y = pictures(20, 6, 6), RNG.integers(0, 2, 20)
    model = minikeras.Sequential(
        [minikeras.layers.Flatten(input_shape=(6, 6, 3)), minikeras.layers.Dense(2, activation="softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    history = model.fit(ours.ImageDataGenerator(**EVERYTHING).flow(x, y, 8, seed=1), epochs=2, verbose=0)
    assert len(history.history["loss"]) == 2
