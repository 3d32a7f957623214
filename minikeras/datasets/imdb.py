"""IMDB: 25,000 and 25,000 film reviews, negative or positive, as numbers of words (Maas et al., 2011)."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from minikeras.datasets import files, words
from minikeras.lazy import offer_names
from minikeras.tracebacks import user_facing

URL = files.STORE + "imdb.npz"
SHA256 = "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"
INDEX_URL = files.STORE + "imdb_word_index.json"
INDEX_MD5 = "bfafd718b763782e994055a2d397834f"


@user_facing
def load_data(
    path: str = "imdb.npz",
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int = 3,
    **kwargs: Any,
) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Load IMDB's reviews as `(x_train, y_train), (x_test, y_test)`.

    A word's number in the data is its rank by frequency (1 for the most frequent), plus `index_from`.

    Args:
        path: the name of the file in one of `config.dataset_folders()`, or an absolute path, then the only place; a
            missing one is downloaded and checked by its SHA-256 sum.
        num_words: words of this number and above count as out of the vocabulary; by default (None) the largest there
            is, so that one word does.
        skip_top: words below this number count as out of the vocabulary, too.
        maxlen: reviews of this length and longer are left out; by default (None) none are.
        seed: decides how the reviews are shuffled.
        start_char: begins each review; None for nothing.
        oov_char: stands for words out of the vocabulary; None leaves them out.
        index_from: added to the rank of a word.

    Returns:
        Reviews, object arrays of lists of numbers; labels, int64, 0 for negative and 1 for positive.

    Raises:
        ValueError: if the file found is damaged or has another form, or `maxlen` leaves nothing.
        FileNotFoundError: if there is no file and it cannot be downloaded.

    >>> import minikeras as keras
    >>> (x_train, y_train), (x_test, y_test) = keras.datasets.imdb.load_data(num_words=10000)  # doctest: +SKIP
    """
    if "nb_words" in kwargs:
        warnings.warn("The argument nb_words of imdb.load_data is now called num_words.", stacklevel=2)
        num_words = kwargs.pop("nb_words")
    if kwargs:
        raise TypeError(f"imdb.load_data has no argument {', '.join(map(repr, kwargs))}.")
    words.check_arguments(num_words, skip_top, maxlen, seed, start_char, oov_char, index_from)
    place = files.fetch("IMDB", path, URL, SHA256)
    rng = np.random.RandomState(seed)
    train, test = (words.read(place, (f"x_{part}", f"y_{part}"), rng) for part in ("train", "test"))
    for part in (train, test):
        part.mark(start_char, index_from)
        if maxlen:
            part.drop_long(maxlen)
            if not len(part):
                raise ValueError(f"No review is shorter than maxlen={maxlen}; raise it.")
    num_words = num_words or words.largest(train, test)
    for part in (train, test):
        part.limit(skip_top, num_words, oov_char)
    return (train.lists(), train.labels), (test.lists(), test.labels)


def get_word_index(path: str = "imdb_word_index.json") -> dict[str, int]:
    """The rank of each word by frequency; in the data it is larger by `index_from`.

    Args:
        path: the name of the file, as for `load_data`; a download is checked by the MD5 sum that Keras has.

    >>> import minikeras as keras
    >>> index = keras.datasets.imdb.get_word_index()  # doctest: +SKIP
    """
    return words.word_index("The word index of IMDB", path, INDEX_URL, INDEX_MD5)


offer_names(__name__)
