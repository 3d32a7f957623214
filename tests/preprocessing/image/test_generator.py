"""ImageDataGenerator over arrays: what is true for all arguments, flat rows, statistics, order, threads, resuming."""

from __future__ import annotations

import copy
import json
import pickle
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minikeras as keras
from minikeras.preprocessing.image import (
    ImageDataGenerator,
    Iterator,
    NumpyArrayIterator,
    apply_affine_transform,
    apply_channel_shift,
    random_rotation,
    random_shift,
    random_zoom,
)

RNG = np.random.default_rng(0)
ARTICLE = {
    "rotation_range": 10,
    "width_shift_range": 0.1,
    "height_shift_range": 0.1,
    "shear_range": 0.1,
    "zoom_range": 0.1,
}
SHIFTS = st.sampled_from([0.0, 0.3, 1.0, 2.5, 3, [-1, 2], (0.1, -0.4)])

changes = st.fixed_dictionaries(
    {},
    optional={
        "rotation_range": st.sampled_from([0, 15, 180.0]),
        "width_shift_range": SHIFTS,
        "height_shift_range": SHIFTS,
        "shear_range": st.sampled_from([0.0, 40.0]),
        "zoom_range": st.sampled_from([0.0, 0.4, (0.5, 2.0), [1, 1]]),
        "channel_shift_range": st.sampled_from([0.0, 50.0]),
        "brightness_range": st.sampled_from([None, (0.3, 1.7)]),
        "horizontal_flip": st.booleans(),
        "vertical_flip": st.booleans(),
        "fill_mode": st.sampled_from(["nearest", "constant", "reflect", "wrap"]),
        "cval": st.sampled_from([0.0, 99.5]),
        "interpolation_order": st.sampled_from([0, 1]),
        "preprocessing_function": st.sampled_from([None, np.negative, lambda x: x * np.random.random()]),
        "rescale": st.sampled_from([None, 1 / 255]),
        "data_format": st.sampled_from(["channels_last", "channels_first"]),
        "dtype": st.sampled_from(["float32", "float64", None]),
    },
)
normalisations = st.fixed_dictionaries(
    {},
    optional={
        "featurewise_center": st.booleans(),
        "samplewise_center": st.booleans(),
        "featurewise_std_normalization": st.booleans(),
        "samplewise_std_normalization": st.booleans(),
        "zca_whitening": st.booleans(),
    },
)
shapes = st.tuples(st.integers(1, 7), st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 4]))


def pictures(shape, arguments=()):
    x = RNG.uniform(0, 255, shape).astype("float32")
    return np.moveaxis(x, -1, 1) if "channels_first" in dict(arguments).values() else x


def take(flow, count):
    return [next(flow) for _ in range(count)]


def assert_equal(first, second):
    for one, other in zip(first, second, strict=True):
        for part, their in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, their)


@given(changes, shapes, st.integers(1, 5))
def test_shape_type_range_and_seed(arguments, shape, batch_size):
    x, y = pictures(shape, arguments), np.arange(shape[0])
    generator = ImageDataGenerator(**arguments)
    flow = generator.flow(x, y, batch_size, seed=3)
    batches = take(flow, len(flow))
    factor = arguments.get("rescale") or 1
    for batch, labels in batches:
        assert batch.shape == (len(labels), *x.shape[1:]) and batch.dtype == (arguments.get("dtype") or "float32")
        sign = -1 if arguments.get("preprocessing_function") is np.negative else 1
        assert batch.size == 0 or (sign * batch.min() >= 0 and sign * batch.max() <= 255 * factor * (1 + 1e-6))
    assert sorted(np.concatenate([labels for _, labels in batches])) == list(range(shape[0]))
    assert_equal(batches, take(generator.flow(x, y, batch_size, seed=3), len(flow)))


@given(changes, normalisations, st.integers(0, 5), st.sampled_from([None, 7]), st.booleans())
def test_resuming_in_an_epoch_gives_the_identical_rest(arguments, normalisation, before, seed, shuffle):
    x, y = pictures((7, 4, 5, 3), arguments), np.arange(7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        generator = ImageDataGenerator(**arguments, **normalisation)
        generator.fit(x)
        flow = generator.flow(x, y, 3, seed=seed, shuffle=shuffle)
        take(flow, before)
        state = json.loads(json.dumps(flow.get_state()))
        rest = take(flow, 4)
        other = generator.flow(x, y, 3, seed=seed, shuffle=shuffle)
        take(other, 1)
        other.set_state(state)
        assert_equal(rest, take(other, 4))


@pytest.mark.parametrize("seed", [None, 5])
def test_resuming_by_index(seed):
    x, y = pictures((7, 4, 4, 1)), np.arange(7)

    def rest(flow):
        found = [flow[index] for index in (1, 2)]
        flow.on_epoch_end()
        return [*found, *(flow[index] for index in range(3))]

    flow = ImageDataGenerator(**ARTICLE).flow(x, y, 3, seed=seed)
    assert flow[0][0].shape == (3, 4, 4, 1)
    state = json.loads(json.dumps(flow.get_state()))
    found = rest(flow)
    other = ImageDataGenerator(**ARTICLE).flow(x, y, 3, seed=seed)
    other.set_state(state)
    assert_equal(found, rest(other))
    with pytest.raises(ValueError, match="This iterator has n=5, got a state of one with 7"):
        ImageDataGenerator().flow(x[:5], batch_size=3).set_state(state)


@pytest.mark.parametrize("function", [None, lambda x: x + np.random.normal(size=x.shape)])
def test_threads_get_what_one_reader_in_order_gets(function):
    x, y = pictures((60, 6, 6, 3)), np.arange(60)
    generator = ImageDataGenerator(**ARTICLE, horizontal_flip=True, preprocessing_function=function)

    def epochs(read):
        flow, found = generator.flow(x, y, 4, seed=1), []
        for _ in range(2):
            found += read(flow)
            flow.on_epoch_end()
        return found

    in_order = epochs(lambda flow: [flow[index] for index in range(15)])
    with ThreadPoolExecutor(4) as pool:
        assert_equal(in_order, epochs(lambda flow: list(pool.map(flow.__getitem__, range(15)))))
    flow = generator.flow(x, y, 4, seed=1)
    passes = [[flow[index] for index in range(15)] for _ in range(2)]
    with ThreadPoolExecutor(4) as pool:
        flow = generator.flow(x, y, 4, seed=1)
        for one in passes:  # the second without a new order
            assert_equal(one, list(pool.map(flow.__getitem__, range(15))))
    assert (passes[0][3][1] == passes[1][3][1]).all() and (passes[0][3][0] != passes[1][3][0]).any()
    backwards = epochs(lambda flow: [flow[index] for index in reversed(range(15))][::-1])
    assert_equal(in_order, backwards)
    flow = generator.flow(x, y, 4, seed=1)
    with ThreadPoolExecutor(4) as pool:  # each batch is that of its turn, whoever took it
        taken = list(pool.map(lambda _: next(flow), range(15)))
    single = take(generator.flow(x, y, 4, seed=1), 15)
    assert_equal(sorted(single, key=lambda batch: batch[1][0]), sorted(taken, key=lambda batch: batch[1][0]))


def test_an_iterator_goes_through_pickle():
    x = pictures((6, 4, 4, 1))
    for seed in (None, 3):
        flow = ImageDataGenerator(horizontal_flip=True).flow(x, np.arange(6), 2, seed=seed)
        copies = [pickle.loads(pickle.dumps(flow)) for _ in range(2)]
        orders = [np.concatenate([copy[index][1] for index in range(3)]) for copy in (flow, *copies)]
        assert sorted(orders[0]) == list(range(6)) and all((order == orders[0]).all() for order in orders)
    assert next(copies[0])[0].shape == (2, 4, 4, 1)


@pytest.mark.parametrize("function", [None, lambda x: x + np.random.normal(size=x.shape)])
def test_epochs_that_copies_have_read_pass_too(function):
    x, generator = pictures((7, 4, 4, 1)), ImageDataGenerator(**ARTICLE, preprocessing_function=function)

    def epochs(copies):
        flow, found = generator.flow(x, np.arange(7), 3, seed=4), []
        for _ in range(3):
            readers = [copy.copy(flow) if copies else flow for _ in range(3)]
            found += [reader[index] for index, reader in enumerate(readers)]
            flow.on_epoch_end()
        return found

    assert_equal(epochs(copies=False), epochs(copies=True))
    orders = [labels.tolist() for _, labels in epochs(copies=True)]
    assert orders[:3] != orders[3:6] != orders[6:]


def test_orders_differ_where_epochs_are_parts_of_the_data():
    flow = ImageDataGenerator(rotation_range=9).flow(pictures((40, 3, 3, 1)), np.arange(40), 4, seed=2)
    orders = []
    for epoch in range(12):
        for index in range(3):
            flow[(3 * epoch + index) % 10]
        flow.on_epoch_end()
        orders.append(tuple(flow.index_array))
    assert len(set(orders)) == 12


def test_length_index_and_reset():
    flow = ImageDataGenerator().flow(np.zeros((7, 2, 2, 1)), np.arange(7), 3, shuffle=False)
    assert len(flow) == 3 and flow.n == 7 and flow.num_batches == 3 and iter(flow) is flow
    assert [labels.tolist() for _, labels in take(flow, 4)] == [[0, 1, 2], [3, 4, 5], [6], [0, 1, 2]]
    flow.reset()
    assert flow.next()[1].tolist() == [0, 1, 2] and next(flow.index_generator).tolist() == [3, 4, 5]
    assert flow.total_batches_seen == 6 and flow.batch_index == 2
    for index in (3, -1):
        with pytest.raises(ValueError, match=f"There are 3 batches, numbered from 0, got index {index}"):
            flow[index]
    with pytest.raises(ValueError, match="batch_size must be a positive whole number, got 0"):
        ImageDataGenerator().flow(np.zeros((7, 2, 2, 1)), batch_size=0)
    empty = ImageDataGenerator(**ARTICLE).flow(np.zeros((0, 4, 4, 1)))
    assert len(empty) == 0 and next(empty).shape == (0, 4, 4, 1)


def test_what_belongs_to_the_pictures_comes_with_them():
    x, more = pictures((10, 3, 3, 1)), np.arange(10) * 10
    generator = ImageDataGenerator(validation_split=0.3)
    assert isinstance(next(generator.flow(x)), np.ndarray)
    (first, second, third), y, weights = next(generator.flow((x, [more, x]), more + 1, 10, sample_weight=more + 2))
    assert (y == second + 1).all() and (weights == second + 2).all() and (first == third).all()
    assert (first == x[second // 10]).all()
    (first, second), y, weights = next(
        generator.flow((x, more), more, shuffle=False, sample_weight=more, subset="training", ignore_class_split=True)
    )
    assert second.tolist() == y.tolist() == weights.tolist() == list(range(30, 100, 10)) and (first == x[3:]).all()
    validation = generator.flow(x, np.tile([0, 1], 5), subset="validation", shuffle=False)
    assert validation.n == 3 and (next(validation)[0] == x[:3]).all()
    with pytest.raises(ValueError, match="different classes after the split; shuffle the data first"):
        generator.flow(x, np.arange(10), subset="validation")
    with pytest.raises(ValueError, match="subset must be 'training', 'validation' or None, got 'test'"):
        generator.flow(x, subset="test")
    with pytest.raises(ValueError, match="x has 10 pictures and y has length 9"):
        generator.flow(x, np.arange(9))
    with pytest.raises(ValueError, match=r"x has 10 pictures and x\[1\]\[0\] has length 2"):
        generator.flow((x, [np.arange(2)]))
    with pytest.raises(ValueError, match=r"x must be an array or \(array, extra\), got list of 3; stack it"):
        generator.flow([x, x, x])


# Flat rows


def test_flat_rows_are_pictures():
    x = pictures((9, 4, 4, 1)) / 255
    flat = x.reshape(9, 16)
    for arguments, options in (
        (ARTICLE, {"seed": 2}),
        ({"rotation_range": 90, "samplewise_std_normalization": True}, {"seed": 2, "subset": None}),
        ({"zca_whitening": True, "zca_epsilon": 0.1}, {"seed": 1}),
        ({"preprocessing_function": np.flipud, "featurewise_std_normalization": True}, {"seed": 1}),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            generators = [ImageDataGenerator(**arguments, image_shape=shape) for shape in ((4, 4, 1), None)]
        generators[0].fit(flat)
        generators[1].fit(x)
        first = take(generators[0].flow(flat, np.arange(9), 4, **options), 3)
        second = take(generators[1].flow(x, np.arange(9), 4, **options), 3)
        assert first[0][0].shape == (4, 16)
        assert_equal(first, [(batch.reshape(-1, 16), labels) for batch, labels in second])
        one = generators[0].standardize(flat[0].copy())
        np.testing.assert_array_equal(one, generators[1].standardize(x[0].copy()).reshape(-1))
        both = generators[0].standardize(flat[:2].copy())
        assert both.shape == (2, 16) and (both[0] == one).all()
        changed = generators[0].random_transform(flat[0], seed=1)
        np.testing.assert_array_equal(changed, generators[1].random_transform(x[0], seed=1).reshape(-1))


def test_rows_of_square_width_are_pictures_with_one_warning():
    generator = ImageDataGenerator(featurewise_center=True)
    with pytest.warns(UserWarning, match="Flat rows of 49 values are taken for pictures of 7 x 7 pixels with one"):
        generator.fit(np.ones((3, 49)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert next(generator.flow(np.ones((3, 49)))).shape == (3, 49)
        assert next(ImageDataGenerator(image_shape=[4, 3, 4]).flow(np.ones((3, 48)))).shape == (3, 48)
        generator = ImageDataGenerator(image_shape=[1, 3, 4], data_format="channels_first", rotation_range=9)
        assert next(generator.flow(np.ones((3, 12)))).shape == (3, 12)
    with pytest.raises(ValueError, match="Flat rows of 48 values are no square pictures of one channel; pass image_"):
        ImageDataGenerator().flow(np.ones((3, 48)))
    with pytest.raises(ValueError, match=r"Flat rows of pictures \(4, 4, 1\) do not have 48 values"):
        ImageDataGenerator(image_shape=(4, 4, 1)).fit(np.ones((3, 48)))
    for x in (np.ones(9), np.ones((3, 5, 5))):
        with pytest.raises(ValueError, match=r"must have rank 4, or 2 as flat rows, got the shape \("):
            ImageDataGenerator().flow(x)
        with pytest.raises(ValueError, match=r"must have rank 4, or 2 as flat rows, got the shape \("):
            ImageDataGenerator().fit(x)


def test_the_block_of_the_article():
    y = np.arange(256) % 10
    x_train = (np.arange(784) // 50 == y[:, None]).astype("float32")  # a bar, at the height of the label
    y_train = keras.utils.to_categorical(y, num_classes=10)
    datagen = ImageDataGenerator(**ARTICLE)
    with pytest.warns(UserWarning, match="Flat rows of 784 values are taken for pictures of 28 x 28 pixels"):
        datagen.fit(x_train)
    model = keras.Sequential(
        [keras.layers.Dense(16, activation="relu", input_shape=x_train.shape[1:]), keras.layers.Dense(10, "softmax")]
    )
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    flow = datagen.flow(x_train, y_train, batch_size=64)
    history = model.fit_generator(flow, steps_per_epoch=len(x_train) // 64, epochs=3, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]


# What is done to a picture


def test_each_change_alone():
    x = pictures((40, 5, 6, 3))
    flow = ImageDataGenerator(horizontal_flip=True, vertical_flip=True).flow(x, shuffle=False, batch_size=40, seed=0)
    kinds = [
        [(change == other).all() for other in (one, one[:, ::-1], one[::-1], one[::-1, ::-1])].index(True)
        for one, change in zip(x, next(flow), strict=True)
    ]
    assert set(kinds) == {0, 1, 2, 3}
    scaled = next(ImageDataGenerator(rescale=0.5).flow(x, shuffle=False, batch_size=40))
    np.testing.assert_array_equal(scaled, x * np.float32(0.5))
    centred = next(ImageDataGenerator(samplewise_center=True).flow(x, shuffle=False))
    np.testing.assert_allclose(centred.mean(axis=(1, 2, 3)), 0, atol=1e-4)
    dark = next(ImageDataGenerator(brightness_range=(0.5, 0.5)).flow(x, shuffle=False, batch_size=40))
    np.testing.assert_array_equal(dark, np.floor(np.floor(x) / 2))
    shifted = apply_channel_shift(x[0], 30.0)
    np.testing.assert_array_equal(shifted, np.clip(x[0] + 30, x[0].min(), x[0].max()))
    turned = ImageDataGenerator().apply_transform(x[0][:, :5], {"theta": 90})
    np.testing.assert_allclose(turned, np.rot90(x[0][:, :5]), atol=1e-3)
    assert ImageDataGenerator().apply_transform(x[0], {}) is not None
    whole = ImageDataGenerator(dtype="uint8", width_shift_range=[2], fill_mode="wrap")
    assert next(whole.flow(x)).dtype == np.uint8


def bright_place(picture):
    """(row, column) of the middle of what is bright in a picture (rows, columns)."""
    picture = picture / picture.sum()
    return [float((np.arange(n) * picture.sum(axis=1 - axis)).sum()) for axis, n in enumerate(picture.shape)]


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("height", [12, 30])
@pytest.mark.parametrize(
    ("limit", "farthest"), [(0.2, 4.0), (4.0, 4.0), (5, 4.0), ([-3, 3], 3.0), ((0.15, -0.15), 3.0)], ids=str
)
def test_a_width_is_shifted_sideways_and_a_height_up_and_down(data_format, height, limit, farthest):
    width = 20
    axis = 1 if data_format == "channels_first" else -1
    column, row = np.zeros((2, height, width), "float32")
    column[:, 10] = row[height // 2] = 1.0
    for name, line, moves in (("width_shift_range", column, 1), ("height_shift_range", row, 0)):
        length = (height, width)[moves]
        most = farthest * length / width if np.max(limit) < 1 else farthest
        x = np.repeat(np.expand_dims(line, (0, axis)), 40, axis=0)
        generator = ImageDataGenerator(**{name: limit}, fill_mode="constant", data_format=data_format)
        moved = np.squeeze(next(generator.flow(x, batch_size=40, seed=0, shuffle=False)), axis)
        np.random.seed(4)
        drawn = [generator.get_random_transform(x.shape[1:]) for _ in range(3)]
        np.random.seed(4)
        singly = [np.squeeze(generator.random_transform(x[0]), axis if axis == -1 else 0) for _ in range(3)]
        ways = np.array([bright_place(picture)[moves] - bright_place(line)[moves] for picture in moved])
        assert abs(ways).max() <= most + 1e-4 and abs(ways).max() > 0.6 * most and ways.min() < 0 < ways.max()
        for picture in [*moved, *singly]:  # what is bright is still a whole line, at right angles to the movement
            np.testing.assert_allclose(picture.std(axis=1 - moves), 0, atol=1e-6)
        for one, picture in zip(drawn, singly, strict=True):
            shift = bright_place(line)[moves] - bright_place(picture)[moves]
            assert one[("ty", "tx")[moves]] == pytest.approx(shift, abs=1e-4) and one[("tx", "ty")[moves]] == 0


def test_shifts_of_one_picture():
    x = np.zeros((6, 9, 1), "float32")
    x[2, 5] = 1
    axes = {"row_axis": 0, "col_axis": 1, "channel_axis": 2}
    assert bright_place(apply_affine_transform(x, tx=2, **axes)[..., 0]) == [2, 3]
    assert bright_place(apply_affine_transform(x, ty=1, **axes)[..., 0]) == [1, 5]
    assert bright_place(ImageDataGenerator().apply_transform(x, {"tx": -3, "ty": 1})[..., 0]) == [1, 8]
    first = apply_affine_transform(np.moveaxis(x, -1, 0), tx=2)
    assert bright_place(first[0]) == [2, 3]
    lying = apply_affine_transform(np.swapaxes(x, 0, 1), tx=2, row_axis=1, col_axis=0, channel_axis=2)
    assert bright_place(lying[..., 0]) == [3, 2]
    for seed in range(5):
        np.random.seed(seed)
        rows, columns = bright_place(random_shift(x, 0.25, 0.0, **axes)[..., 0])
        np.random.seed(seed)
        assert (rows, columns) == (2, pytest.approx(5 - 9 * np.random.uniform(-0.25, 0.25), abs=1e-5))


def test_pictures_that_are_not_square_turn_and_zoom_about_their_own_middle():
    x = np.zeros((7, 15, 1), "float32")
    x[2:5, 6:9] = 1
    np.testing.assert_allclose(ImageDataGenerator().apply_transform(x, {"theta": 90}), x, atol=1e-5)
    wide = ImageDataGenerator(fill_mode="constant").apply_transform(x, {"zx": 1 / 3})[..., 0]
    assert bright_place(wide) == pytest.approx([3, 7], abs=1e-5) and wide[3].sum() > 2.5 * x[3].sum()
    high = ImageDataGenerator(fill_mode="constant").apply_transform(x, {"zy": 1 / 2})[..., 0]
    assert bright_place(high) == pytest.approx([3, 7], abs=1e-5) and high[:, 7].sum() > 1.5 * x[:, 7].sum()
    np.random.seed(0)
    turned = random_rotation(x, 40, row_axis=0, col_axis=1, channel_axis=2, fill_mode="constant")
    assert bright_place(turned[..., 0]) == pytest.approx([3, 7], abs=1e-4)
    flipped = ImageDataGenerator().apply_transform(x + np.arange(15).reshape(1, -1, 1), {"flip_horizontal": True})
    assert (np.diff(flipped[0, :, 0]) == -1).all()


def test_zoom_shear_and_axes_are_checked():
    x = pictures((5, 5, 3))
    with pytest.raises(ValueError, match="zoom_range must be two numbers"):
        random_zoom(x, (1, 2, 3))
    with pytest.raises(ValueError, match=r"The axes must be 0, 1 and 2, the channels first or last, got row_axis=0"):
        apply_affine_transform(x, 10, row_axis=0, col_axis=2, channel_axis=1)
    with pytest.raises(ValueError, match=r"one picture of rank 3, an array of numbers, got the shape \(5, 5\)"):
        apply_affine_transform(x[:, :, 0], 10)
    assert (apply_affine_transform(x) == x).all() and apply_affine_transform(x.astype(int), 20).dtype == int


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"data_format": "channels_middle"}, "data_format must be 'channels_last' or 'channels_first'"),
        ({"validation_split": 1.5}, "validation_split must be a number at least 0 and below 1, got 1.5"),
        ({"zoom_range": (1, 2, 3)}, "zoom_range must be two numbers, the least and the largest"),
        ({"zoom_range": (1, "2")}, "each number of zoom_range must be a number, got '2'"),
        ({"brightness_range": 0.3}, "brightness_range must be two numbers, the least and the largest factor, got 0.3"),
        ({"brightness_range": (1, 2, 3)}, "brightness_range must be two numbers, the least"),
        ({"fill_mode": "mirror"}, "fill_mode must be 'constant', 'nearest', 'reflect' or 'wrap', got 'mirror'"),
        ({"interpolation_order": 6}, "interpolation_order must be a whole number from 0 to 5, got 6"),
        ({"rotation_range": "a"}, "rotation_range must be a number, got 'a'"),
        ({"rotation_range": np.nan}, "rotation_range must be a number, got nan"),
        ({"shear_range": [1]}, "shear_range must be a number"),
        ({"channel_shift_range": np.inf}, "channel_shift_range must be a number, got inf"),
        ({"width_shift_range": "a"}, "width_shift_range must be a number, got 'a'"),
        ({"height_shift_range": [1, "a"]}, "each of the height_shift_range must be a number, got 'a'"),
        ({"zoom_range": "a"}, "zoom_range must be a number, got 'a'"),
        ({"zoom_range": 1.5}, r"zoom_range must not lead to zooms below 0, got 1.5: \[-0.5, 2.5\]"),
        ({"brightness_range": (1, np.nan)}, "each number of brightness_range must be a number, got nan"),
        ({"rescale": np.inf}, "rescale must be a number or None, got inf"),
        ({"cval": "x"}, "cval must be a number, got 'x'"),
        ({"zca_epsilon": -1}, "zca_epsilon must be a number at least 0, got -1"),
        ({"horizontal_flip": "False"}, "horizontal_flip must be True or False, got 'False'"),
        ({"featurewise_center": 0.5}, "featurewise_center must be True or False, got 0.5"),
        ({"preprocessing_function": 3}, "preprocessing_function must be a function or None, got 3"),
        ({"dtype": "pixels"}, "dtype must be a type of numbers such as 'float32', got 'pixels'"),
        ({"interpolation_order": True}, "interpolation_order must be a whole number from 0 to 5, got True"),
        ({"image_shape": (28, 0, 1)}, "image_shape must be a positive whole number, got 0"),
        ({"image_shape": (28, 28)}, "image_shape must be the shape of one picture, of rank 3"),
    ],
)
def test_wrong_arguments_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        ImageDataGenerator(**arguments)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"batch_size": 2.5}, "batch_size must be a positive whole number, got 2.5"),
        ({"batch_size": "32"}, "batch_size must be a positive whole number, got '32'"),
        ({"seed": -1}, "seed must be a whole number from 0 to 4294967295 or None, got -1"),
        ({"seed": "x"}, "seed must be a whole number from 0 to 4294967295 or None, got 'x'"),
        ({"shuffle": "no"}, "shuffle must be True or False, got 'no'"),
        ({"y": 3}, "y must be an array or a list with one entry for each picture, got 3"),
        ({"sample_weight": 0.5}, "sample_weight must be an array or a list with one entry for each picture, got 0.5"),
        ({"save_to_dir": 3}, "save_to_dir must be a folder or None, got 3"),
        ({"save_to_dir": "there/is/none"}, "save_to_dir must be a folder or None, got 'there/is/none'"),
        ({"x": np.array([["a"]])}, "Pictures are arrays of numbers, got values of type <U1"),
    ],
)
def test_wrong_arguments_of_flow_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        ImageDataGenerator().flow(**{"x": np.zeros((4, 3, 3, 1)), **arguments})


def test_wrong_arguments_of_changes_are_refused():
    x = pictures((5, 5, 3))
    axes = {"row_axis": 0, "col_axis": 1, "channel_axis": 2}
    for name in ("theta", "tx", "ty", "shear", "zx", "zy", "cval"):
        for wrong in ("a", np.nan, None, [1]):
            with pytest.raises(ValueError, match=f"^{name} must be a number, got"):
                apply_affine_transform(x, **axes, **{name: wrong})
    with pytest.raises(ValueError, match="fill_mode must be 'constant', 'nearest', 'reflect' or 'wrap', got 'mirror'"):
        apply_affine_transform(x, 5, **axes, fill_mode="mirror")
    with pytest.raises(ValueError, match="order must be a whole number from 0 to 5, got 6"):
        apply_affine_transform(x, 5, **axes, order=6)
    state = np.random.get_state()[1].copy()
    for wrong in ("a", np.nan, None):
        with pytest.raises(ValueError, match="wrg must be a number, got"):
            random_shift(x, wrong, 0.1, **axes)
        with pytest.raises(ValueError, match="rg must be a number, got"):
            random_rotation(x, wrong, **axes)
    with pytest.raises(ValueError, match=r"one picture of rank 3, an array of numbers, got the shape \(5, 3\)"):
        random_shift(x[0], 0.1, 0.1, **axes)
    assert (np.random.get_state()[1] == state).all()
    for rounds in (0, -1, 1.5, "x"):
        with pytest.raises(ValueError, match="rounds must be a positive whole number, got"):
            ImageDataGenerator().fit(x[None], augment=True, rounds=rounds)


# Statistics


def test_fit_learns_mean_deviation_and_whitening():
    x = pictures((50, 3, 4, 3))
    with pytest.warns(UserWarning, match="featurewise_std_normalization=True implies featurewise_center=True"):
        generator = ImageDataGenerator(featurewise_std_normalization=True, rescale=0.1)
    generator.fit(x)
    np.testing.assert_allclose(generator.mean, (x * 0.1).mean((0, 1, 2)).reshape(1, 1, 3), rtol=1e-5)
    np.testing.assert_allclose(generator.std, (x * 0.1).std((0, 1, 2)).reshape(1, 1, 3), rtol=1e-5)
    batch = next(generator.flow(x, batch_size=50))
    np.testing.assert_allclose(batch.mean((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(batch.std((0, 1, 2)), 1, rtol=1e-4)
    with pytest.warns(UserWarning, match="zca_whitening=True implies"):
        generator = ImageDataGenerator(zca_whitening=True, featurewise_std_normalization=True, dtype="float64")
    assert generator.featurewise_center and not generator.featurewise_std_normalization
    generator.fit(x)
    white = next(generator.flow(x, batch_size=50)).reshape(50, -1)
    np.testing.assert_allclose(white.T @ white / 50, np.eye(36), atol=1e-6)
    with pytest.warns(UserWarning, match="samplewise_std_normalization=True implies samplewise_center=True"):
        assert ImageDataGenerator(samplewise_std_normalization=True).samplewise_center


def test_many_values_of_float32_keep_their_mean():
    x = np.full((300, 64, 64, 3), 0.1, "float32") + np.arange(3, dtype="float32") * 1000
    generator = ImageDataGenerator(featurewise_center=True, featurewise_std_normalization=True)
    generator.fit(x)
    np.testing.assert_allclose(generator.mean.ravel(), [0.1, 1000.1, 2000.1], rtol=1e-6)
    assert (generator.std < 1e-3).all()


def test_fit_of_changed_pictures_and_what_was_not_fitted():
    x = pictures((4, 5, 5, 1))
    generator = ImageDataGenerator(featurewise_center=True, vertical_flip=True, rotation_range=90)
    with pytest.warns(UserWarning, match=r"featurewise_center has no effect before fit\(\) has seen data; call fit"):
        next(generator.flow(x))
    generator.fit(x, augment=True, rounds=3, seed=1)
    np.random.seed(1)
    changed = [generator.random_transform(one) for _ in range(3) for one in x]
    np.testing.assert_allclose(generator.mean.item(), np.mean(changed), rtol=1e-5)
    with pytest.warns(UserWarning, match="Pictures have 1, 3 or 4 channels, got 2 on axis 3"):
        ImageDataGenerator().fit(np.zeros((3, 4, 4, 2)))
    with pytest.warns(UserWarning, match="Pictures have 1, 3 or 4 channels, got 2 in the shape"):
        ImageDataGenerator().flow(np.zeros((3, 4, 4, 2)))
    untouched = x.copy()
    generator.fit(x)
    next(generator.flow(x))
    assert (x == untouched).all()


# Saving, and what others derive from


def test_saving_and_no_way_out_of_the_folder(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    x = pictures((3, 4, 5, 3))
    for arguments in ({}, {"preprocessing_function": np.negative}):
        flow = ImageDataGenerator(**arguments, rotation_range=30).flow(
            x, save_to_dir=tmp_path, save_prefix="a", save_format="jpeg", seed=1
        )
        next(flow)
        names = sorted(path.name for path in tmp_path.iterdir())
        assert [name.split("_")[:2] for name in names] == [["a", "0"], ["a", "1"], ["a", "2"]]
        with pillow.open(tmp_path / names[0]) as image:
            assert image.size == (5, 4)
        for path in tmp_path.iterdir():
            path.unlink()
    for options in ({"save_prefix": "../a"}, {"save_prefix": "/tmp/a"}, {"save_format": "/../../a.png"}):
        with pytest.raises(ValueError, match=r"lead out of save_to_dir=.*; use a prefix that stays inside"):
            ImageDataGenerator().flow(x, save_to_dir=tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_methods_of_a_subclass_are_used():
    class Doubling(ImageDataGenerator):
        def standardize(self, x):
            return super().standardize(x) * 2

        def get_random_transform(self, img_shape, seed=None):
            return {"flip_vertical": True}

    x = pictures((3, 4, 4, 1))
    np.testing.assert_array_equal(next(Doubling(rescale=0.5).flow(x, shuffle=False)), x[:, ::-1])

    class Negative(NumpyArrayIterator):
        def _get_batches_of_transformed_samples(self, index_array):
            x, y = super()._get_batches_of_transformed_samples(index_array)
            return -x, y

    flow = Negative(x, np.arange(3), ImageDataGenerator(horizontal_flip=True), seed=3)
    expected = next(NumpyArrayIterator(x, np.arange(3), ImageDataGenerator(horizontal_flip=True), seed=3))
    assert_equal([next(flow)], [(-expected[0], expected[1])])

    class Numbers(Iterator):
        def _get_batches_of_transformed_samples(self, index_array):
            return index_array * 10

    assert Numbers(5, 2, False, None)[2].tolist() == [40]
    with pytest.raises(NotImplementedError, match="Iterator does not define _get_batches_of_transformed_samples"):
        next(Iterator(3, 1, False, None))


def test_batches_leave_the_data_and_each_other_alone():
    x = pictures((4, 5, 5, 1))
    for arguments in ({}, {"rotation_range": 40}, {"samplewise_center": True}):
        flow = ImageDataGenerator(**arguments).flow(x, shuffle=False, seed=1)
        first = next(flow)
        kept = first.copy()
        first_again = next(flow)
        first_again += 1
        assert (first == kept).all() and not np.shares_memory(first, x)
    assert threading.active_count() < 50


def test_names_of_keras():
    image = keras.preprocessing.image
    assert image.ImageDataGenerator is ImageDataGenerator and "NumpyArrayIterator" in dir(image)
    for name in ("array_to_img", "img_to_array", "load_img", "save_img"):
        assert getattr(keras.utils, name) is getattr(image, name)
    assert issubclass(image.DirectoryIterator, image.Iterator) and issubclass(image.Iterator, keras.utils.Sequence)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        image.nothing  # noqa: B018
    for name in image.__all__:
        assert getattr(keras._legacy.preprocessing.image, name) is getattr(image, name) is not None
