"""Text as numbers: words or characters counted, numbered, hashed, and set out in matrices."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from minikeras.lazy import offer_names
from minikeras.tracebacks import UserFacing
from minikeras.utils.checks import shown, whole

FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'
_MODES = ("binary", "count", "freq", "tfidf")


def text_to_word_sequence(input_text: str, filters: str = FILTERS, lower: bool = True, split: str = " ") -> list[str]:
    """Cut a text into words.

    Args:
        input_text: the text.
        filters: characters that separate words as `split` does; by default punctuation, tabs and line feeds, but not
            the apostrophe.
        lower: whether to put the text into lower case.
        split: what separates words, one or more characters.

    Returns:
        The words, in order.

    >>> from minikeras.preprocessing.text import text_to_word_sequence
    >>> text_to_word_sequence("The cat, again!")
    ['the', 'cat', 'again']
    """
    _check_cut(filters, split)
    if not isinstance(input_text, str):
        raise ValueError(f"A text is a string, got {shown(input_text)}.")
    if lower:
        input_text = input_text.lower()
    separators = {ord(character): split for character in filters}
    return [word for word in input_text.translate(separators).split(split) if word]


def one_hot(
    input_text: str,
    n: int,
    filters: str = FILTERS,
    lower: bool = True,
    split: str = " ",
    analyzer: Callable[[str], Iterable[str]] | None = None,
) -> list[int]:
    """Number the words of a text by Python's `hash`, from 1 to `n - 1`; see `hashing_trick`.

    Python salts its hashes: the numbers differ from one run to the next unless `PYTHONHASHSEED` is set.

    Args:
        input_text: the text.
        filters: characters that are dropped.
        lower: whether texts become lower case.
        split: what stands between words.
        analyzer: a function that makes words of a text.

    >>> from minikeras.preprocessing.text import one_hot
    >>> len(one_hot("the cat", 100))
    2
    """
    return hashing_trick(input_text, n, hash, filters, lower, split, analyzer)


def hashing_trick(
    text: str,
    n: int,
    hash_function: Callable[[str], int] | str | None = None,
    filters: str = FILTERS,
    lower: bool = True,
    split: str = " ",
    analyzer: Callable[[str], Iterable[str]] | None = None,
) -> list[int]:
    """Number the words of a text by a hash function; different words may get the same number.

    Args:
        text: the text.
        n: the size of the vocabulary; 0 is never given.
        hash_function: `"md5"`, which is the same in every run, a function from a string to a whole number, or None for
            Python's `hash`, which is not.
        filters, lower, split: as for `text_to_word_sequence`.
        analyzer: a function that cuts the text into words instead.

    Returns:
        A number from 1 to `n - 1` for each word.

    >>> from minikeras.preprocessing.text import hashing_trick
    >>> hashing_trick("the cat", 100, hash_function="md5")
    [51, 3]
    """
    n = whole("n", n, 2)
    if hash_function not in (None, "md5") and not callable(hash_function):
        raise ValueError(f"hash_function must be 'md5', a function or None, got {hash_function!r}.")
    function: Any = hash if hash_function is None else _md5 if hash_function == "md5" else hash_function
    words = text_to_word_sequence(text, filters, lower, split) if analyzer is None else analyzer(text)
    return [function(word) % (n - 1) + 1 for word in words]


def _check_cut(filters: Any, split: Any) -> None:
    if not isinstance(split, str) or not split:
        raise ValueError(f"split must be a string of at least one character, got {split!r}.")
    if not isinstance(filters, (str, list, tuple)) or not all(
        isinstance(one, str) and len(one) == 1 for one in filters
    ):
        raise ValueError(f"filters must be a string of characters, got {filters!r}.")


def _md5(word: str) -> int:
    return int.from_bytes(hashlib.md5(word.encode(), usedforsecurity=False).digest(), "big")


class Tokenizer(UserFacing):
    """Numbers words (or characters) by how often they occur, 1 for the most frequent, and turns texts into numbers.

    A text is a string, or a list of words that is taken as it is.

    Args:
        num_words: only the `num_words - 1` most frequent words are kept; by default (None) all.
        filters, lower, split: as for `text_to_word_sequence`.
        char_level: whether characters take the place of words.
        oov_token: stands for words that are not kept, and takes number 1; by default (None) these are left out.
        analyzer: a function that cuts a text into words instead.

    Attributes:
        word_counts: how often each word occurs, in the order of first occurrence.
        word_docs: in how many texts each word occurs.
        word_index, index_word: the number of each word (all of them, whatever `num_words`), and the reverse.
        index_docs: in how many texts the word of each number occurs.
        document_count: the number of texts seen.

    >>> from minikeras.preprocessing.text import Tokenizer
    >>> tokenizer = Tokenizer()
    >>> tokenizer.fit_on_texts(["the cat", "the dog"])
    >>> tokenizer.texts_to_sequences(["the dog"])
    [[1, 3]]
    """

    def __init__(
        self,
        num_words: int | None = None,
        filters: str = FILTERS,
        lower: bool = True,
        split: str = " ",
        char_level: bool = False,
        oov_token: str | None = None,
        analyzer: Callable[[str], Iterable[str]] | None = None,
        **kwargs: Any,
    ):
        if "nb_words" in kwargs:
            warnings.warn("Tokenizer's argument nb_words is now called num_words.", stacklevel=2)
            num_words = kwargs.pop("nb_words")
        self.document_count: int = kwargs.pop("document_count", 0)
        if kwargs:
            raise TypeError(f"Tokenizer has no argument {', '.join(map(repr, kwargs))}.")
        _check_cut(filters, split)
        if analyzer is not None and not callable(analyzer):
            raise ValueError(f"analyzer must be a function or None, got {analyzer!r}.")
        if oov_token is not None and not isinstance(oov_token, str):
            raise ValueError(f"oov_token must be a string or None, got {oov_token!r}.")
        self.num_words = whole("num_words", num_words, 0, optional=True)
        self.filters, self.lower, self.split = filters, lower, split
        self.char_level, self.oov_token, self.analyzer = char_level, oov_token, analyzer
        self.word_counts: OrderedDict[str, int] = OrderedDict()
        self.word_docs: defaultdict[str, int] = defaultdict(int)
        self.index_docs: defaultdict[int, int] = defaultdict(int)
        self.word_index: dict[str, int] = {}
        self.index_word: dict[int, str] = {}

    def _words(self, text: Any) -> Iterable[str]:
        """The words, or characters, of a text."""
        if not isinstance(text, (str, list)):
            raise ValueError(f"A text is a string or a list of words, got {shown(text)}.")
        if isinstance(text, list):
            return [word.lower() for word in text] if self.lower else text
        if self.char_level:
            return text.lower() if self.lower else text
        if self.analyzer is not None:
            return self.analyzer(text)
        return text_to_word_sequence(text, self.filters, self.lower, self.split)

    def fit_on_texts(self, texts: Iterable[Any]) -> None:
        """Count the words of `texts`, add them to what was counted before, and number all words anew."""
        for text in _texts(texts):
            self.document_count += 1
            for word, count in Counter(self._words(text)).items():
                self.word_counts[word] = self.word_counts.get(word, 0) + count
                self.word_docs[word] += 1
        ranked = sorted(self.word_counts, key=self.word_counts.__getitem__, reverse=True)
        if self.oov_token is not None:
            ranked.insert(0, self.oov_token)
        self.word_index = {word: index for index, word in enumerate(ranked, 1)}
        self.index_word = {index: word for word, index in self.word_index.items()}
        for word, count in self.word_docs.items():
            self.index_docs[self.word_index[word]] = count

    def fit_on_sequences(self, sequences: Sequence[Iterable[int]]) -> None:
        """Count in how many of these sequences of numbers each number occurs, as `"tfidf"` needs it."""
        self.document_count += len(sequences)
        for sequence in sequences:
            for index in set(sequence):
                self.index_docs[index] += 1

    def texts_to_sequences(self, texts: Iterable[Any]) -> list[list[int]]:
        """The numbers of the words of each text."""
        return list(self.texts_to_sequences_generator(texts))

    def texts_to_sequences_generator(self, texts: Iterable[Any]) -> Iterator[list[int]]:
        """As `texts_to_sequences`, one text after the other."""
        kept = self.num_words or float("inf")
        other = None if self.oov_token is None else self.word_index.get(self.oov_token)
        for text in _texts(texts):
            sequence = []
            for word in self._words(text):
                index = self.word_index.get(word, kept)
                if index < kept:
                    sequence.append(int(index))
                elif other is not None:
                    sequence.append(other)
            yield sequence

    def sequences_to_texts(self, sequences: Iterable[Iterable[int]]) -> list[str]:
        """The words of each sequence of numbers, joined by blanks."""
        return list(self.sequences_to_texts_generator(sequences))

    def sequences_to_texts_generator(self, sequences: Iterable[Iterable[int]]) -> Iterator[str]:
        """As `sequences_to_texts`, one sequence after the other."""
        kept = self.num_words or float("inf")
        other = self.oov_token if self.oov_token in self.word_index else None
        for sequence in sequences:
            words = (self.index_word.get(index, other) if index < kept else other for index in sequence)
            yield " ".join(word for word in words if word is not None)

    def texts_to_matrix(self, texts: Iterable[Any], mode: str = "binary") -> np.ndarray:
        """One row for each text; see `sequences_to_matrix`."""
        return self.sequences_to_matrix(self.texts_to_sequences(texts), mode)

    def sequences_to_matrix(self, sequences: Sequence[Sequence[int]], mode: str = "binary") -> np.ndarray:
        """One row for each sequence of numbers, one column for each number below the size of the vocabulary.

        Args:
            sequences: lists of numbers; those not kept are ignored.
            mode: `"binary"` 1 where the number occurs, `"count"` how often, `"freq"` its share of the sequence,
                `"tfidf"` `(1 + log(count)) * log(1 + texts / (1 + texts with it))` (weighting scheme 2 of
                https://en.wikipedia.org/wiki/Tf-idf).

        Returns:
            A float64 matrix of shape `(len(sequences), num_words)`.

        Raises:
            ValueError: for an unknown mode, or where it needs texts that were not yet seen.
        """
        if mode not in _MODES:
            raise ValueError(f"Unknown vectorization mode {mode!r}; choose one of {', '.join(map(repr, _MODES))}.")
        if not self.num_words and not self.word_index:
            raise ValueError("The tokenizer does not know how many columns to make; give num_words or fit it on texts.")
        if mode == "tfidf" and not self.document_count:
            raise ValueError("The tokenizer has seen no texts, which mode='tfidf' needs; fit it first.")
        columns = self.num_words or len(self.word_index) + 1
        matrix = np.zeros((len(sequences), columns))
        for row, sequence in zip(matrix, sequences, strict=True):
            for index, count in Counter(sequence).items():
                if index < columns:
                    row[index] = self._weight(mode, index, count, len(sequence))
        return matrix

    def _weight(self, mode: str, index: int, count: int, length: int) -> float:
        if mode == "tfidf":
            return (1 + np.log(count)) * np.log(1 + self.document_count / (1 + self.index_docs.get(index, 0)))
        return {"binary": 1, "count": count, "freq": count / length}[mode]

    def get_config(self) -> dict[str, Any]:
        """The settings and, as JSON, what was counted; `analyzer` is not among them."""
        names = ("num_words", "filters", "lower", "split", "char_level", "oov_token", "document_count")
        counted = ("word_counts", "word_docs", "index_docs", "index_word", "word_index")
        return {name: getattr(self, name) for name in names} | {
            name: json.dumps(getattr(self, name)) for name in counted
        }

    def to_json(self, **kwargs: Any) -> str:
        """This tokenizer as JSON for `tokenizer_from_json`; `kwargs` go to `json.dumps`."""
        return json.dumps({"class_name": type(self).__name__, "config": self.get_config()}, **kwargs)


def _texts(texts: Any) -> Iterable[Any]:
    """The texts, or a sentence: of a single string each character would be one."""
    if isinstance(texts, (str, bytes)) or not isinstance(texts, Iterable):
        raise ValueError(f"Texts come as a list of them, got {shown(texts)}; put a single one in a list.")
    return texts


def tokenizer_from_json(json_string: str) -> Tokenizer:
    """The tokenizer that `Tokenizer.to_json` described.

    Args:
        json_string: what `to_json` gave.

    Raises:
        ValueError: for what is not such a description.

    >>> from minikeras.preprocessing.text import Tokenizer, tokenizer_from_json
    >>> tokenizer_from_json(Tokenizer(num_words=10).to_json()).num_words
    10
    """
    try:
        config = dict(json.loads(json_string)["config"])
        counted = {
            name: json.loads(config.pop(name))
            for name in ("word_counts", "word_docs", "word_index", "index_docs", "index_word")
        }
        for name in ("index_docs", "index_word"):  # JSON's keys are strings
            counted[name] = {int(key): value for key, value in counted[name].items()}
        tokenizer = Tokenizer(**config)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(
            f"This is not the JSON of a Tokenizer ({error!r}); write it with Tokenizer.to_json()."
        ) from error
    tokenizer.word_counts = OrderedDict(counted["word_counts"])
    tokenizer.word_docs = defaultdict(int, counted["word_docs"])
    tokenizer.index_docs = defaultdict(int, counted["index_docs"])
    tokenizer.word_index, tokenizer.index_word = counted["word_index"], counted["index_word"]
    return tokenizer


offer_names(__name__)
