"""`preprocessing.sequence`: padding, windows into time series, pairs of words."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minikeras
from minikeras.preprocessing.sequence import (
    TimeseriesGenerator,
    _remove_long_seq,
    make_sampling_table,
    pad_sequences,
    skipgrams,
    timeseries_generator_from_json,
)

PLACES = st.sampled_from(["pre", "post"])


@given(st.lists(st.lists(st.integers(1, 9), max_size=6), min_size=1, max_size=5), st.integers(0, 7), PLACES, PLACES)
def test_padding_and_truncating(sequences, maxlen, padding, truncating):
    padded = pad_sequences(sequences, maxlen, "int64", padding, truncating, value=-1)
    assert padded.shape == (len(sequences), maxlen) and padded.dtype == np.int64
    for row, sequence in zip(padded.tolist(), sequences, strict=True):
        kept = sequence[max(len(sequence) - maxlen, 0) :] if truncating == "pre" else sequence[:maxlen]
        filling = [-1] * (maxlen - len(kept))
        assert row == (filling + kept if padding == "pre" else kept + filling)


def test_defaults_of_padding():
    padded = pad_sequences([[1], [2, 3], [4, 5, 6], []])
    np.testing.assert_array_equal(padded, [[0, 0, 1], [0, 2, 3], [4, 5, 6], [0, 0, 0]])
    assert padded.dtype == np.int32 and minikeras.utils.pad_sequences is pad_sequences
    assert pad_sequences([], maxlen=3).shape == (0, 3)


def test_padding_of_vectors_strings_and_arrays():
    padded = pad_sequences([np.ones((2, 3)), np.zeros((0, 3)), np.full((4, 3), 2)], 3, "float32", "post")
    np.testing.assert_array_equal(padded[:, :, 0], [[1, 1, 0], [0, 0, 0], [2, 2, 2]])
    words = pad_sequences([["a", "longer"], ["word"]], dtype=object, padding="post", value="<pad>")
    assert words.tolist() == [["a", "longer"], ["word", "<pad>"]]
    assert pad_sequences([["ab"], []], dtype="<U2", value="-").tolist() == [["ab"], ["-"]]


@pytest.mark.parametrize(
    ("sequences", "arguments", "message"),
    [
        (5, {}, "a list of sequences, got int"),
        ([[1], 2], {}, "a list of sequences, got 2 in it"),
        ([], {}, "say how long"),
        ([[1]], {"padding": "before"}, "padding must be 'pre' or 'post', got 'before'"),
        ([[1]], {"truncating": "both"}, "truncating must be 'pre' or 'post', got 'both'"),
        ([["a"]], {"value": "pad"}, "`dtype` int32 is not compatible with the value 'pad'; pass"),
        ([[[1, 2]], [[1, 2, 3]]], {}, r"one shape, got \(3,\) in sequence 1 and \(2,\) before"),
    ],
)
def test_padding_refuses(sequences, arguments, message):
    with pytest.raises(ValueError, match=message):
        pad_sequences(sequences, **arguments)


@given(
    st.integers(2, 20), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3), st.integers(1, 4),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_windows(steps, length, rate, stride, start, batch_size, reverse, as_list):
    data = np.arange(steps * 2).reshape(steps, 2)
    arguments = dict(sampling_rate=rate, stride=stride, start_index=start, reverse=reverse, batch_size=batch_size)
    if start + length > steps - 1:
        with pytest.raises(ValueError, match="No step is left to be a target"):
            TimeseriesGenerator(data, data[:, 0], length, **arguments)
        return
    source = data.tolist() if as_list else data
    generator = TimeseriesGenerator(source, data[:, 0], length, **arguments)
    batches = [generator[i] for i in range(len(generator))]
    x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    rows = range(start + length, steps, stride)
    windows = np.stack([data[row - length : row : rate] for row in rows])
    np.testing.assert_array_equal(x, windows[:, ::-1] if reverse else windows)
    np.testing.assert_array_equal(y, data[rows, 0])
    assert all(len(part) == batch_size for part, _ in batches[:-1])
    again = timeseries_generator_from_json(generator.to_json())
    assert again.get_config() == generator.get_config()
    for (x, y), (x_again, y_again) in zip(batches, again, strict=True):
        np.testing.assert_array_equal(x, x_again)
        np.testing.assert_array_equal(y, y_again)


def test_windows_end_and_are_drawn():
    data = np.arange(30.0)
    generator = TimeseriesGenerator(data, data, 3, end_index=9, batch_size=4, workers=2)
    assert len(generator) == 2 and generator.workers == 2
    np.testing.assert_array_equal(generator[-1][1], [7, 8, 9])
    with pytest.raises(IndexError, match="Batch 2 was asked for, there are 2"):
        generator[2]
    drawn = TimeseriesGenerator(data, data, 3, shuffle=True, batch_size=50)
    np.random.seed(3)
    x, y = drawn[0]
    assert len(y) == 50 and y.min() >= 3 and len(set(y.tolist())) > 10
    np.testing.assert_array_equal(x[:, -1], y - 1)
    np.random.seed(3)
    np.testing.assert_array_equal(drawn[0][1], y)


def test_a_model_learns_from_windows():
    series = np.sin(np.arange(60) / 3).astype("float32")[:, None]
    model = minikeras.Sequential([minikeras.Input((4, 1)), minikeras.layers.Flatten(), minikeras.layers.Dense(1)])
    model.compile(minikeras.optimizers.Adam(0.05), "mse")
    losses = model.fit(TimeseriesGenerator(series, series, 4, batch_size=16), epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.2 * losses[0]


def test_windows_refuse():
    with pytest.raises(ValueError, match="same length, got 3 and 2"):
        TimeseriesGenerator([1, 2, 3], [1, 2], 1)
    with pytest.raises(TypeError, match="targets of a TimeseriesGenerator cannot be written as JSON"):
        TimeseriesGenerator([1, 2, 3], [1, {1}, 3], 1).to_json()
    for text in ("{}", "[", '{"config": {"data": "[1]", "targets": "[1]"}}'):
        with pytest.raises(ValueError, match="not the JSON of a TimeseriesGenerator"):
            timeseries_generator_from_json(text)


def test_sampling_table():
    table = make_sampling_table(100, 0.01)
    rank = np.arange(1, 100)
    frequency = 1 / (rank * (np.log(rank) + 0.577) + 0.5 - 1 / (12 * rank))
    np.testing.assert_allclose(table[1:], np.minimum(1, np.sqrt(0.01 / frequency)))
    assert table[0] == table[1] and table.shape == (100,)


def test_pairs_of_neighbours():
    couples, labels = skipgrams([1, 0, 2, 3], 10, window_size=2, negative_samples=0, shuffle=False)
    assert couples == [[1, 2], [2, 1], [2, 3], [3, 2]] and labels == [1] * 4
    _, labels = skipgrams([1, 2], 10, negative_samples=1, shuffle=False, categorical=True)
    assert labels == [[0, 1], [0, 1], [1, 0], [1, 0]]


def test_pairs_with_drawn_words():
    couples, labels = skipgrams(list(range(1, 6)), 6, window_size=1, negative_samples=2.0, seed=4)
    assert len(couples) == 8 + 16 and labels.count(0) == 16
    for (word, other), label in zip(couples, labels, strict=True):
        assert 1 <= other <= 5 and (abs(word - other) == 1 or not label)
    random.seed(1)
    kept, _ = skipgrams([1, 2, 3], 4, sampling_table=[0, 0, 1, 0], negative_samples=0)
    assert {word for word, _ in kept} == {2}
    assert skipgrams([0, 0], 4) == ([], [])


def test_long_sequences_are_removed():
    assert _remove_long_seq(3, [[1], [1, 2, 3], [4, 5]], ["a", "b", "c"]) == ([[1], [4, 5]], ["a", "c"])


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: pad_sequences("abc"), "pad_sequences expects a list of sequences, got str"),
        (lambda: pad_sequences([[1]], maxlen=-1), "maxlen must be a whole number of at least 0 or None, got -1"),
        (lambda: pad_sequences([[1]], maxlen=2.5), "maxlen must be a whole number of at least 0 or None, got 2.5"),
        (lambda: pad_sequences([[1]], dtype="numbers"), "dtype must be a type of NumPy such as 'int32', got 'numbers'"),
        (lambda: TimeseriesGenerator(range(9), range(9), -1), "length must be a positive whole number, got -1"),
        (lambda: TimeseriesGenerator(range(9), range(9), 2.5), "length must be a positive whole number, got 2.5"),
        (lambda: TimeseriesGenerator(range(9), range(9), 2, stride=0), "stride must be a positive whole number, got 0"),
        (
            lambda: TimeseriesGenerator(range(9), range(9), 2, sampling_rate=-1),
            "sampling_rate must be a positive whole",
        ),
        (lambda: TimeseriesGenerator(range(9), range(9), 2, batch_size="x"), "batch_size must be a positive whole num"),
        (
            lambda: TimeseriesGenerator(range(9), range(9), 2, end_index=9),
            "end_index must be a whole number from 0 to 8",
        ),
        (lambda: TimeseriesGenerator(3, range(9), 2), "data must be an array or a list, got 3"),
        (lambda: make_sampling_table(-1), "size must be a whole number of at least 0, got -1"),
        (lambda: make_sampling_table(3, 0), "sampling_factor must be a positive number, got 0"),
        (lambda: skipgrams([1, 2], 1), "vocabulary_size must be a whole number of at least 2, got 1"),
        (lambda: skipgrams([1, 2], 5, window_size=-1), "window_size must be a whole number of at least 0, got -1"),
        (lambda: skipgrams([1, 2], 5, negative_samples=-1), "negative_samples must be a number at least 0, got -1"),
        (lambda: skipgrams(3, 5), "sequence must be a list of numbers of words, got 3"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(call, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        call()
