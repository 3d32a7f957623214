"""Sequences made ready for training: padded, cut into windows, paired."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from minikeras.lazy import offer_names
from minikeras.tracebacks import user_facing
from minikeras.training.data import PyDataset
from minikeras.utils.checks import number, one_of, whole


@user_facing
def pad_sequences(
    sequences: Any,
    maxlen: int | None = None,
    dtype: Any = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: Any = 0.0,
) -> np.ndarray:
    """Put sequences of different lengths into one array.

    Args:
        sequences: sequences of numbers, or of arrays of one common shape.
        maxlen: the length of all; by default (None) that of the longest.
        dtype: the type of the array, `object` for strings of any length.
        padding: whether shorter sequences are filled up at the front (`"pre"`) or at the end (`"post"`).
        truncating: whether longer sequences lose their front (`"pre"`) or their end (`"post"`).
        value: what they are filled up with.

    Returns:
        An array of shape `(len(sequences), maxlen)`, then the shape of the elements.

    Raises:
        ValueError: for what are not sequences, elements of different shapes, or an unknown `padding` or `truncating`.

    >>> import minikeras as keras
    >>> keras.utils.pad_sequences([[1], [2, 3, 4]], maxlen=3)
    array([[0, 0, 1],
           [2, 3, 4]], dtype=int32)
    """
    if not hasattr(sequences, "__len__") or isinstance(sequences, (str, bytes, dict)):
        raise ValueError(f"pad_sequences expects a list of sequences, got {type(sequences).__name__}.")
    maxlen = whole("maxlen", maxlen, 0, optional=True)
    try:
        np.dtype(dtype)
    except TypeError:
        raise ValueError(f"dtype must be a type of NumPy such as 'int32', got {dtype!r}.") from None
    for name, place in (("padding", padding), ("truncating", truncating)):
        one_of(name, place, ("pre", "post"))
    for item in sequences:
        if not hasattr(item, "__len__"):
            raise ValueError(f"pad_sequences expects a list of sequences, got {item!r} in it.")
    if isinstance(value, str) and not np.issubdtype(dtype, np.character) and np.dtype(dtype) != object:
        raise ValueError(f"`dtype` {dtype} is not compatible with the value {value!r}; pass dtype=object.")
    if maxlen is None:
        if not len(sequences):
            raise ValueError("pad_sequences got no sequences; say how long they are to be (maxlen).")
        maxlen = max(map(len, sequences))
    shape = next((np.asarray(item).shape[1:] for item in sequences if len(item)), ())
    padded = np.full((len(sequences), maxlen, *shape), value, dtype=dtype)
    for index, item in enumerate(sequences):
        length = min(len(item), maxlen)
        if not len(item):
            continue
        kept = np.asarray(item[len(item) - length :] if truncating == "pre" else item[:length], dtype=dtype)
        if length and kept.shape[1:] != shape:
            raise ValueError(
                f"All elements must have one shape, got {kept.shape[1:]} in sequence {index} and {shape} before."
            )
        padded[index, slice(maxlen - length, None) if padding == "pre" else slice(length)] = kept
    return padded


class TimeseriesGenerator(PyDataset):
    """Batches of windows into a time series, each with the target of the step that follows it.

    Args:
        data: the series, time on the first axis: an array or a list.
        targets: one target for each step, as many as `data` has.
        length: steps that a window spans.
        sampling_rate: a window has every `sampling_rate`-th step.
        stride: steps between one window and the next.
        start_index: the first step that is used.
        end_index: the last step whose target is used; by default (None) the last there is.
        shuffle: draw windows at random, with NumPy's global generator, instead of taking them in order.
        reverse: whether the steps of a window run backwards.
        batch_size: windows in a batch; the last may have fewer.
        kwargs: `workers`, `use_multiprocessing` and `max_queue_size` of `PyDataset`.

    Raises:
        ValueError: if `data` and `targets` differ in length, or nothing is left to be a target.

    >>> import numpy as np
    >>> from minikeras.preprocessing.sequence import TimeseriesGenerator
    >>> windows, targets = TimeseriesGenerator(np.arange(6), np.arange(6), length=3, batch_size=2)[0]
    >>> windows
    array([[0, 1, 2],
           [1, 2, 3]])
    >>> targets
    array([3, 4])
    """

    def __init__(
        self,
        data: Any,
        targets: Any,
        length: int,
        sampling_rate: int = 1,
        stride: int = 1,
        start_index: int = 0,
        end_index: int | None = None,
        shuffle: bool = False,
        reverse: bool = False,
        batch_size: int = 128,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        for name, value in (("data", data), ("targets", targets)):
            if not hasattr(value, "__len__") or not hasattr(value, "__getitem__") or isinstance(value, (str, dict)):
                raise ValueError(f"{name} must be an array or a list, got {value!r}.")
        length, batch_size = whole("length", length, 1), whole("batch_size", batch_size, 1)
        sampling_rate, stride = whole("sampling_rate", sampling_rate, 1), whole("stride", stride, 1)
        start_index = whole("start_index", start_index, 0)
        end_index = whole("end_index", end_index, 0, at_most=max(len(data) - 1, 0), optional=True)
        if len(data) != len(targets):
            raise ValueError(f"data and targets must have the same length, got {len(data)} and {len(targets)}.")
        self.data, self.targets, self.length = data, targets, length
        self.sampling_rate, self.stride, self.batch_size = sampling_rate, stride, batch_size
        self.start_index = start_index + length
        self.end_index = len(data) - 1 if end_index is None else end_index
        self.shuffle, self.reverse = shuffle, reverse
        if self.start_index > self.end_index:
            raise ValueError(
                f"No step is left to be a target: the first would be start_index + length = {self.start_index}, "
                f"the last is end_index = {self.end_index}; pass more data or a smaller length."
            )

    def __len__(self) -> int:
        return -(-(self.end_index - self.start_index + 1) // (self.batch_size * self.stride))

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"Batch {index} was asked for, there are {len(self)}.")
        if self.shuffle:
            rows = np.random.randint(self.start_index, self.end_index + 1, size=self.batch_size)
        else:
            span = self.batch_size * self.stride
            first = self.start_index + span * (index % len(self))
            rows = np.arange(first, min(first + span, self.end_index + 1), self.stride)
        if isinstance(self.data, np.ndarray) and self.start_index >= self.length:
            samples = self.data[rows[:, None] + np.arange(-self.length, 0, self.sampling_rate)]
        else:
            samples = np.array([self.data[row - self.length : row : self.sampling_rate] for row in rows])
        if self.reverse:
            samples = samples[:, ::-1, ...]
        if isinstance(self.targets, np.ndarray):
            return samples, self.targets[rows]
        return samples, np.array([self.targets[row] for row in rows])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, `data` and `targets` as JSON.

        Raises:
            TypeError: if these are not numbers and lists of numbers.
        """
        names = ("length", "sampling_rate", "stride", "end_index", "shuffle", "reverse", "batch_size")
        data = {name: _as_json(name, getattr(self, name)) for name in ("data", "targets")}
        start = {"start_index": self.start_index - self.length}
        return {**data, **{name: getattr(self, name) for name in names}, **start}

    def to_json(self, **kwargs: Any) -> str:
        """This generator as JSON for `timeseries_generator_from_json`; `kwargs` go to `json.dumps`."""
        return json.dumps({"class_name": type(self).__name__, "config": self.get_config()}, **kwargs)


def _as_json(name: str, values: Any) -> str:
    try:
        return json.dumps(values.tolist() if isinstance(values, (np.ndarray, np.generic)) else values)
    except TypeError as error:
        raise TypeError(f"The {name} of a TimeseriesGenerator cannot be written as JSON ({error}).") from error


def timeseries_generator_from_json(json_string: str) -> TimeseriesGenerator:
    """The generator that `TimeseriesGenerator.to_json` described; its data are lists.

    Raises:
        ValueError: for what is not such a description.
    """
    try:
        config = dict(json.loads(json_string)["config"])
        config |= {name: json.loads(config[name]) for name in ("data", "targets")}
        return TimeseriesGenerator(**config)
    except (TypeError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(
            f"This is not the JSON of a TimeseriesGenerator ({error!r}); write it with TimeseriesGenerator.to_json()."
        ) from error


def make_sampling_table(size: int, sampling_factor: float = 1e-5) -> np.ndarray:
    """The probability with which `skipgrams` keeps a word, by its rank: `min(1, sqrt(sampling_factor / frequency))`.

    The frequencies are those of Zipf's law, `1 / (rank * (log(rank) + 0.577) + 1/2 - 1 / (12 * rank))`, the sampling
    that of word2vec (Mikolov et al., https://arxiv.org/abs/1310.4546).

    Args:
        size: how many ranks; rank 0 is no word and gets what rank 1 gets.
        sampling_factor: the frequency up to which words are always kept.

    Returns:
        A float64 array of shape `(size,)`.

    >>> from minikeras.preprocessing.sequence import make_sampling_table
    >>> make_sampling_table(3).round(4)
    array([0.0032, 0.0032, 0.0055])
    """
    sampling_factor = number("sampling_factor", sampling_factor, above=0)
    rank = np.arange(whole("size", size, 0))
    rank[:1] = 1
    kept = sampling_factor * (rank * (np.log(rank) + 0.577) + 0.5 - 1.0 / (12.0 * rank))
    return np.minimum(1.0, kept / np.sqrt(kept))


@user_facing
def skipgrams(
    sequence: Sequence[int],
    vocabulary_size: int,
    window_size: int = 4,
    negative_samples: float = 1.0,
    shuffle: bool = True,
    categorical: bool = False,
    sampling_table: Any = None,
    seed: int | None = None,
) -> tuple[list[list[int]], list[Any]]:
    """Pairs of words: with a neighbour (label 1), and with a word drawn from the vocabulary (label 0).

    Random numbers come from Python's `random`, which is seeded anew where the pairs are shuffled.

    Args:
        sequence: numbers of words; 0 is no word and is passed over.
        vocabulary_size: one more than the largest number of a word.
        window_size: the distance up to which words are neighbours.
        negative_samples: drawn pairs for each pair of neighbours.
        shuffle: whether to mix the pairs.
        categorical: whether labels are `[1, 0]` and `[0, 1]` instead of 0 and 1.
        sampling_table: the probability of keeping each word, as from `make_sampling_table`.
        seed: decides how the pairs are mixed.

    Returns:
        The pairs and their labels.

    >>> from minikeras.preprocessing.sequence import skipgrams
    >>> couples, labels = skipgrams([1, 2, 3], 4, window_size=1, negative_samples=0.0, shuffle=False)
    >>> couples
    [[1, 2], [2, 1], [2, 3], [3, 2]]
    """
    if isinstance(sequence, (str, dict)) or not hasattr(sequence, "__getitem__"):
        raise ValueError(f"sequence must be a list of numbers of words, got {sequence!r}.")
    window_size = whole("window_size", window_size, 0)
    negative_samples = number("negative_samples", negative_samples, 0)
    vocabulary_size = whole("vocabulary_size", vocabulary_size, 2 if negative_samples else 1)
    couples = []
    for place, word in enumerate(sequence):
        if not word or (sampling_table is not None and sampling_table[word] < random.random()):
            continue
        for other in range(max(0, place - window_size), min(len(sequence), place + window_size + 1)):
            if other != place and sequence[other]:
                couples.append([word, sequence[other]])
    labels: list[Any] = [[0, 1] if categorical else 1 for _ in couples]
    if negative_samples > 0:
        drawn = int(len(couples) * negative_samples)
        words = [word for word, _ in couples]
        random.shuffle(words)
        couples += [[words[i % len(words)], random.randint(1, vocabulary_size - 1)] for i in range(drawn)]
        labels += [[1, 0] if categorical else 0 for _ in range(drawn)]
    if shuffle:
        seed = random.randint(0, 10**7) if seed is None else seed
        for part in (couples, labels):
            random.seed(seed)
            random.shuffle(part)
    return couples, labels


def _remove_long_seq(maxlen: int, seq: Any, label: Any) -> tuple[list[Any], list[Any]]:
    """The sequences shorter than `maxlen`, and their labels."""
    kept = [(one, mark) for one, mark in zip(seq, label, strict=False) if len(one) < maxlen]
    return [one for one, _ in kept], [mark for _, mark in kept]


offer_names(__name__)
