"""Dataset: each step, sizes, passes, resuming, and training on it."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minikeras as keras
from minikeras import layers
from minikeras.data import INFINITE_CARDINALITY, UNKNOWN_CARDINALITY, Dataset


def numbers(n):
    return Dataset.from_arrays(np.arange(n))


def values(dataset):
    return [element.tolist() for element in dataset]


def test_sources():
    x, y = np.arange(6).reshape(3, 2), ["a", "b", "c"]
    elements = list(Dataset.from_arrays(x, y))
    assert [label for _, label in elements] == y
    np.testing.assert_array_equal(elements[1][0], [2, 3])
    (element,) = Dataset.from_tensor_slices({"x": x, "y": (x, x)}).skip(2)
    np.testing.assert_array_equal(element["y"][1], [4, 5])
    assert values(Dataset.from_arrays([5, 6])) == [5, 6]
    assert list(Dataset.from_generator(lambda: iter("abc"))) == ["a", "b", "c"]
    assert len(Dataset.from_generator(lambda: range(4), length=4)) == 4
    with pytest.raises(ValueError, match=r"same number of rows, got \[2, 3\]"):
        Dataset.from_arrays(x, [1, 2])
    with pytest.raises(ValueError, match="arrays with rows, got a int without an axis"):
        Dataset.from_arrays(3)


def test_batches_of_a_pydataset():
    class Batches(keras.utils.PyDataset):
        told = ()

        def __len__(self):
            return 3

        def __getitem__(self, index):
            return np.full(2, index), np.zeros(2)

        def on_epoch_begin(self):
            self.told += ("begin",)

        def on_epoch_end(self):
            self.told += ("end",)

    batches = Batches()
    dataset = Dataset.from_dataset(batches)
    assert len(dataset) == 3
    assert [x[0] for x, _ in dataset] == [0, 1, 2] and batches.told == ("begin", "end")


def test_steps():
    assert values(numbers(4).map(lambda x: x * 10)) == [0, 10, 20, 30]
    assert values(Dataset.from_arrays(np.arange(3), np.arange(3)).map(lambda x, y: x + y)) == [0, 2, 4]
    assert values(numbers(7).batch(3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert values(numbers(7).batch(3, drop_remainder=True)) == [[0, 1, 2], [3, 4, 5]]
    assert values(numbers(5).batch(2).unbatch()) == [0, 1, 2, 3, 4]
    assert values(numbers(5).batch(2).map(lambda x: x + 1).unbatch()) == [1, 2, 3, 4, 5]
    assert values(numbers(9).filter(lambda x: x % 3 == 0)) == [0, 3, 6]
    assert values(numbers(9).take(2)) == [0, 1] and values(numbers(3).take(-1)) == [0, 1, 2]
    assert values(numbers(4).skip(2)) == [2, 3] and values(numbers(4).skip(-1)) == []
    assert values(numbers(2).repeat(3)) == [0, 1] * 3 and values(numbers(2).repeat().take(5)) == [0, 1, 0, 1, 0]
    assert values(numbers(2).concatenate(numbers(3))) == [0, 1, 0, 1, 2]
    assert [(i, x) for i, x in numbers(2).enumerate(5)] == [(5, 0), (6, 1)]
    assert values(numbers(5).prefetch(2)) == [0, 1, 2, 3, 4]
    texts = next(iter(Dataset.from_arrays(["a", "bcd"]).map(lambda text: text * 2).batch(2)))
    assert texts.dtype == object and texts.tolist() == ["aa", "bcdbcd"]


def test_sizes():
    endless, unknown = numbers(5).repeat(), Dataset.from_generator(lambda: range(5))
    assert numbers(5).cardinality() == 5
    assert [len(numbers(7).batch(3)), len(numbers(7).batch(3, drop_remainder=True))] == [3, 2]
    assert [len(numbers(7).batch(3).unbatch()), len(numbers(7).batch(3, True).unbatch())] == [7, 6]
    assert [len(numbers(7).take(9)), len(numbers(7).skip(9)), len(numbers(7).repeat(2))] == [7, 0, 14]
    assert len(endless.take(3)) == 3 and len(numbers(2).concatenate(numbers(3))) == 5
    for dataset in (endless, endless.batch(2), endless.skip(3), endless.concatenate(unknown)):
        assert dataset.cardinality() == INFINITE_CARDINALITY
    for dataset in (
        unknown,
        unknown.take(2),
        unknown.batch(2),
        numbers(5).filter(bool),
        numbers(2).concatenate(unknown),
    ):
        assert dataset.cardinality() == UNKNOWN_CARDINALITY
    with pytest.raises(TypeError, match=r"no end, so it has no length; take\(n\)"):
        len(endless)
    assert endless and unknown  # a dataset is not false for having no length
    for wrong in (lambda: numbers(3).batch(0), lambda: numbers(3).take(-2), lambda: numbers(3).shuffle(1.5)):
        with pytest.raises(ValueError, match=r"must be a (positive )?whole number"):
            wrong()


def test_shuffles():
    dataset = numbers(50).shuffle(50, seed=3)
    first, second = values(dataset), values(dataset)
    assert sorted(first) == sorted(second) == list(range(50)) and first != second
    again = numbers(50).shuffle(50, seed=3)
    assert [values(again), values(again)] == [first, second]
    fixed = numbers(50).shuffle(50, seed=3, reshuffle_each_iteration=False)
    assert values(fixed) == values(fixed)
    near = values(numbers(100).shuffle(5, seed=1))
    assert sorted(near) == list(range(100)) and all(value <= place + 4 for place, value in enumerate(near))
    assert values(numbers(50).shuffle(1)) == list(range(50))
    assert values(numbers(50).shuffle(20, seed=4)) == values(numbers(50).map(lambda x: x).shuffle(20, seed=4))
    twice = values(numbers(10).shuffle(10, seed=1).repeat(2))
    assert sorted(twice[:10]) == sorted(twice[10:]) and twice[:10] != twice[10:]
    places = np.zeros((4, 4), int)
    every = numbers(4).shuffle(4, seed=0)
    for _ in range(400):
        places[np.arange(4), values(every)] += 1
    assert places.min() > 60  # of 100 expected


def test_a_cache_computes_once():
    calls = []
    dataset = numbers(3).map(lambda x: calls.append(int(x)) or x).cache()
    assert values(dataset.take(2)) == [0, 1]
    assert values(dataset) == values(dataset) == [0, 1, 2]
    assert calls.count(2) == 1


def test_iterating_gives_arrays_with_a_numpy_method():
    images, labels = next(iter(Dataset.from_arrays(np.ones((4, 2)), np.arange(4)).batch(2)))
    assert isinstance(images, np.ndarray) and type(images.numpy()) is np.ndarray
    assert type(images[0].numpy()) is np.ndarray and int(labels[1]) == 1
    for element in numbers(3).batch(2).as_numpy_iterator():
        assert type(element) is np.ndarray


def _datasets():
    """Ways to make a dataset of numbers, each from its seed."""
    return {
        "rows": lambda: numbers(11).shuffle(4, seed=1).batch(2),
        "mapped": lambda: numbers(11).map(lambda x: x + 1).shuffle(11, seed=1).batch(3),
        "filtered": lambda: numbers(11).filter(lambda x: x != 3).repeat(2).batch(2),
        "repeated": lambda: numbers(5).shuffle(5, seed=2).repeat(3),
        "unknown": lambda: Dataset.from_generator(lambda: np.arange(5)).repeat(3),
        "endless": lambda: numbers(5).shuffle(3, seed=2).repeat().skip(2).batch(4).take(6),
        "unbatched": lambda: numbers(11).batch(3).unbatch().map(lambda x: -x, num_parallel_calls=2),
        "other batches": lambda: numbers(11).batch(3).shuffle(3, seed=1).unbatch(),
        "cached": lambda: numbers(7).cache().shuffle(7, seed=5).prefetch(2),
        "chained": lambda: numbers(4).shuffle(4, seed=5).concatenate(numbers(3).shuffle(3, seed=6)).enumerate(),
        "unknown chained": lambda: numbers(4).filter(lambda x: x > 1).concatenate(numbers(3)),
    }


@pytest.mark.parametrize("name", _datasets())
def test_the_rest_after_resuming_is_the_same(name):
    make = _datasets()[name]
    whole = make()
    passes = [[np.asarray(e).tolist() for e in whole] for _ in range(2)]
    assert len(passes[0]) == len(make()) if make().cardinality() >= 0 else True
    for taken in range(len(passes[1]) + 1):
        dataset = make()
        list(dataset)
        iterator = iter(dataset)
        for _ in range(taken):
            next(iterator)
        state = json.loads(json.dumps(dataset.get_state()))
        assert state == iterator.get_state()
        other = make()
        other.set_state(state)
        assert other.get_state() == state
        assert [np.asarray(e).tolist() for e in other] == passes[1][taken:]
        third = iter(make())
        third.set_state(state)
        assert [np.asarray(e).tolist() for e in third] == passes[1][taken:]


def test_seeds_are_part_of_the_state():
    dataset = numbers(20).shuffle(20)
    iterator = iter(dataset)
    next(iterator)
    other = numbers(20).shuffle(20)
    other.set_state(iterator.get_state())
    assert values(other) == [element.tolist() for element in iterator]
    with pytest.raises(ValueError, match="of the same steps, with 0 shuffles"):
        numbers(20).set_state(dataset.get_state())


@given(st.integers(0, 30), st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**64 - 1), st.booleans())
def test_batches_of_shuffles_lose_nothing(count, buffer, size, seed, parallel):
    dataset = numbers(count).shuffle(buffer, seed).map(lambda x: x * 2, num_parallel_calls=2 if parallel else None)
    batches = values(dataset.batch(size))
    assert [len(batch) for batch in batches] == [min(size, count - at) for at in range(0, count, size)]
    assert sorted(value for batch in batches for value in batch) == list(range(0, 2 * count, 2))


def test_no_thread_is_left_where_somebody_stops_reading():
    def threads():
        return [thread for thread in threading.enumerate() if thread.name.startswith("minikeras-batches")]

    for _ in numbers(100).map(lambda x: x, num_parallel_calls=2).prefetch(3):
        break
    next(iter(numbers(100).prefetch(3)))
    with pytest.raises(ZeroDivisionError):
        list(numbers(3).map(lambda x: 1 // int(x), num_parallel_calls=2).prefetch())
    assert not threads()


def test_training_on_a_dataset():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 4)), rng.integers(0, 3, 60)

    def trained(data, *targets, **arguments):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy")
        history = model.fit(data, *targets, epochs=2, verbose=0, shuffle=False, **arguments)
        return model, history.history["loss"]

    model, expected = trained(x, y, batch_size=16)
    dataset = Dataset.from_arrays(x, y).batch(16).prefetch(1)
    assert trained(dataset, validation_data=dataset)[1] == expected
    assert trained(Dataset.from_arrays(x, y).batch(16).repeat(), steps_per_epoch=4)[1] == expected
    assert model.evaluate(dataset, verbose=0) == model.evaluate(x, y, batch_size=16, verbose=0)
    np.testing.assert_array_equal(
        model.predict(dataset.map(lambda x, y: x), verbose=0), model.predict(x, batch_size=16, verbose=0)
    )
    with pytest.raises(ValueError, match="brings its own batches"):
        model.fit(dataset, y, verbose=0)
    shuffled = Dataset.from_arrays(x, y).shuffle(60, seed=1).batch(16)
    assert trained(shuffled)[1] == trained(Dataset.from_arrays(x, y).shuffle(60, seed=1).batch(16))[1]


def test_a_dataset_says_what_it_is() -> None:
    rows = Dataset.from_tensor_slices(np.zeros((5, 3)))
    assert repr(rows.shuffle(5).batch(2)) == "<Dataset of 3: rows > shuffled > batched>"
    assert repr(rows.repeat()) == "<Dataset without an end: rows > repeated>"


def test_fit_tells_a_py_dataset_behind_a_dataset_of_the_end_of_passes():
    class Ones(keras.utils.PyDataset):
        told = 0

        def __len__(self):
            return 3

        def __getitem__(self, index):
            return np.ones((2, 1), "float32"), np.ones(2)

        def on_epoch_end(self):
            self.told += 1

    source = Ones()
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(Dataset.from_dataset(source), epochs=4, verbose=0)
    assert source.told == 3  # before each pass but the first
    assert len(list(Dataset.from_dataset(source))) == 3 and source.told == 4
