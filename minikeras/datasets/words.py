"""What the datasets of texts share: sequences of numbers of words, all in one array while they are worked on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from minikeras.datasets import files
from minikeras.utils.checks import whole


class Texts:
    """Sequences of numbers of words with a label each.

    Attributes:
        words: the numbers of all sequences, one after the other.
        lengths: how many each sequence has.
        labels: one for each sequence.
    """

    def __init__(self, sequences: Any, labels: Any):
        self.lengths = np.array([len(one) for one in sequences], np.int64)
        self.words = np.concatenate([np.empty(0, np.int64), *(np.asarray(one, np.int64) for one in sequences)])
        self.labels = labels

    def __len__(self) -> int:
        return len(self.lengths)

    def mark(self, start_char: int | None, index_from: int) -> None:
        """Number the words from `index_from` on, and put `start_char` before each sequence."""
        self.words += index_from or 0
        if start_char is not None:
            self.words = np.insert(self.words, np.cumsum(self.lengths) - self.lengths, start_char)
            self.lengths += 1

    def drop_long(self, maxlen: int) -> None:
        """Leave out sequences that are not shorter than `maxlen`."""
        kept = self.lengths < maxlen
        self.words = self.words[np.repeat(kept, self.lengths)]
        self.lengths, self.labels = self.lengths[kept], self.labels[kept]

    def limit(self, skip_top: int, num_words: int, oov_char: int | None) -> None:
        """Put `oov_char` in place of words outside of `skip_top` to `num_words - 1`; None leaves them out."""
        kept = (self.words >= skip_top) & (self.words < num_words)
        if oov_char is not None:
            self.words = np.where(kept, self.words, oov_char)
            return
        before = np.concatenate([[0], np.cumsum(kept)])
        ends = np.cumsum(self.lengths)
        self.lengths = before[ends] - before[ends - self.lengths]
        self.words = self.words[kept]

    def lists(self, part: slice = slice(None)) -> Any:
        """The sequences of a part, as an array of lists (or, of equal lengths, a matrix of objects, as in Keras)."""
        ends = np.cumsum(self.lengths)
        bounds = zip((ends - self.lengths)[part].tolist(), ends[part].tolist(), strict=True)
        return np.array([self.words[start:end].tolist() for start, end in bounds], dtype="object")


def check_arguments(
    num_words: Any, skip_top: Any, maxlen: Any, seed: Any, start_char: Any, oov_char: Any, index_from: Any
) -> None:
    """Raise ValueError unless these arguments of `load_data` are whole numbers, or None where that means something."""
    given = {"num_words": num_words, "maxlen": maxlen, "start_char": start_char, "oov_char": oov_char}
    for name, value in (given | {"index_from": index_from, "skip_top": skip_top}).items():
        whole(name, value, 0, optional=name != "skip_top")
    whole("seed", seed, 0, at_most=2**32 - 1, optional=True)


def read(path: Path, names: tuple[str, str], rng: np.random.RandomState) -> Texts:
    """The sequences and labels of those names, shuffled by `rng`.

    Raises:
        ValueError: if the file is damaged, or these are not sequences with one whole number each.
    """
    sequences, labels = files.read_object_npz(path, names)
    right = sequences.ndim in (1, 2) and labels.shape == sequences.shape[:1]
    if not right or sequences.dtype.kind not in "iuO" or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{path} is not this dataset: {names[0]} must be sequences of whole numbers with one label each in "
            f"{names[1]}, they are {sequences.dtype} of shape {sequences.shape} and {labels.dtype} of shape "
            f"{labels.shape}; replace or remove it."
        )
    if not all(isinstance(one, (list, np.ndarray)) for one in sequences):
        raise ValueError(f"{path} is not this dataset: {names[0]} must hold lists of words; replace or remove it.")
    order = np.arange(len(sequences))
    rng.shuffle(order)
    return Texts(sequences[order], labels[order])


def largest(*parts: Texts) -> int:
    """The largest number of a word."""
    return max((int(part.words.max()) for part in parts if part.words.size), default=0)


def word_index(title: str, path: str, url: str, expected: str) -> dict[str, int]:
    """The number of each word, read from a JSON file.

    Raises:
        ValueError: if the file found is damaged or has another form.
        FileNotFoundError: if there is no file and it cannot be downloaded.
    """
    place = files.fetch(title, path, url, expected)
    index = files.read_json(place)
    if not isinstance(index, dict) or not set(map(type, index.values())) <= {int}:
        raise ValueError(f"{place} is no word index: it must hold a number for each word; replace or remove it.")
    return index
