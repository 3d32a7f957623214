"""Reuters: 11,228 newswires of 46 topics, as numbers of words."""

from __future__ import annotations

from typing import Any

import numpy as np

from minikeras.datasets import files, words
from minikeras.lazy import offer_names
from minikeras.tracebacks import user_facing
from minikeras.utils.checks import number

URL = files.STORE + "reuters.npz"
SHA256 = "d6586e694ee56d7a4e65172e12b3e987c03096cb01eab99753921ef915959916"
INDEX_URL = files.STORE + "reuters_word_index.json"
INDEX_MD5 = "4d44cc38712099c9e383dc6e5f11a921"
_LABELS = (
    "cocoa grain veg-oil earn acq wheat copper housing money-supply coffee sugar trade reserves ship cotton carcass "
    "crude nat-gas cpi money-fx interest gnp meal-feed alum oilseed gold tin strategic-metal livestock retail ipi "
    "iron-steel rubber heat jobs lei bop zinc orange pet-chem dlr gas silver wpi hog lead"
)


@user_facing
def load_data(
    path: str = "reuters.npz",
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    test_split: float = 0.2,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int = 3,
) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Load the Reuters newswires as `(x_train, y_train), (x_test, y_test)`.

    A word's number in the data is its rank by frequency (1 for the most frequent), plus `index_from`.

    Args:
        path: the name of the file in one of `config.dataset_folders()`, or an absolute path, then the only place; a
            missing one is downloaded and checked by its SHA-256 sum.
        num_words: words of this number and above count as out of the vocabulary; by default (None) the largest there
            is, so that one word does.
        skip_top: words below this number count as out of the vocabulary, too.
        maxlen: newswires of this length and longer are left out; by default (None) none are.
        test_split: the share of the newswires that is kept for testing.
        seed: decides how the newswires are shuffled before.
        start_char: begins each newswire; None for nothing.
        oov_char: stands for words out of the vocabulary; None leaves them out.
        index_from: added to the rank of a word.

    Returns:
        Newswires, object arrays of lists of numbers; labels, int64, 0 to 45 (see `get_label_names`).

    Raises:
        ValueError: if the file found is damaged or has another form, or for a `test_split` outside of [0, 1].
        FileNotFoundError: if there is no file and it cannot be downloaded.

    >>> import minikeras as keras
    >>> (x_train, y_train), (x_test, y_test) = keras.datasets.reuters.load_data()  # doctest: +SKIP
    """
    number("test_split", test_split, 0, 1)
    words.check_arguments(num_words, skip_top, maxlen, seed, start_char, oov_char, index_from)
    texts = words.read(files.fetch("Reuters", path, URL, SHA256), ("x", "y"), np.random.RandomState(seed))
    texts.mark(start_char, index_from)
    if maxlen:
        texts.drop_long(maxlen)
    texts.limit(skip_top, num_words or words.largest(texts), oov_char)
    at = int(len(texts) * (1 - test_split))
    train, test = slice(at), slice(at, None)
    return (texts.lists(train), texts.labels[train]), (texts.lists(test), texts.labels[test])


def get_word_index(path: str = "reuters_word_index.json") -> dict[str, int]:
    """The rank of each word by frequency; in the data it is larger by `index_from`.

    Args:
        path: the name of the file, as for `load_data`; a download is checked by the MD5 sum that Keras has.

    >>> import minikeras as keras
    >>> index = keras.datasets.reuters.get_word_index()  # doctest: +SKIP
    """
    return words.word_index("The word index of Reuters", path, INDEX_URL, INDEX_MD5)


def get_label_names() -> tuple[str, ...]:
    """The topics, by their labels.

    >>> import minikeras as keras
    >>> keras.datasets.reuters.get_label_names()[:3]
    ('cocoa', 'grain', 'veg-oil')
    """
    return tuple(_LABELS.split())


offer_names(__name__)
