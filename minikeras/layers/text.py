"""Texts to the indices of their words."""

from __future__ import annotations

import math
import string
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import numpy as np

from minikeras.autodiff.symbolic import KerasTensor
from minikeras.autodiff.tensor import Tensor
from minikeras.declared import Whole
from minikeras.layers.categories import Dense, mode
from minikeras.layers.fields import declared, field
from minikeras.layers.host import batches, encoded, host_array
from minikeras.layers.lookup import Size, StringLookup, WithVocabulary
from minikeras.utils.checks import one_of, shown, whole

_LETTERS = string.ascii_uppercase.encode(), string.ascii_lowercase.encode()
_LOWER = bytes.maketrans(*_LETTERS)  # of letters beyond ASCII Keras has no small ones either
_PUNCTUATION = string.punctuation.encode()
_STANDARDS = {
    "lower_and_strip_punctuation": (_LOWER, _PUNCTUATION),
    "lower": (_LOWER, b""),
    "strip_punctuation": (None, _PUNCTUATION),
}


def _ngrams(layer: Any, name: str, value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple([whole(name, one, 1, owner="TextVectorization") for one in value])
    return whole(name, value, 1, owner="TextVectorization", optional=True)


def _one_of_or_function(*choices: Any) -> Any:
    return lambda layer, name, value: (
        value if callable(value) else one_of(name, value, choices, owner="TextVectorization")
    )


@declared
class TextVectorization(WithVocabulary):
    """Texts to rows of numbers: the indices of their words in a vocabulary, or one vector for each text.

    Args:
        max_tokens: the most indices that `adapt` gives, default no limit.
        standardize: what is done to a text first: `"lower_and_strip_punctuation"`, `"lower"`, `"strip_punctuation"`,
            None, or a function of an array of strings that returns one of the same shape.  Only letters and signs of
            ASCII change, as in Keras.
        split: how it is cut into tokens: `"whitespace"`, `"character"`, None (each string is a token), or a function of
            an array of strings (texts,) that returns a list of tokens for each.
        ngrams: tokens that follow each other are tokens together: an integer for all lengths up to it, or the lengths.
        output_mode: `"int"`: indices, int64, 0 after the end of a text; `"multi_hot"`, `"count"`, `"tf_idf"`: one
            vector for each text, see `StringLookup`.
        output_sequence_length: for `"int"`: so many indices for each text; default as many as the longest has.
        pad_to_max_tokens, vocabulary, idf_weights, sparse, encoding: as for `StringLookup`.
        ragged: only False.

    Raises:
        ValueError: for arguments that do not fit each other.

    Example:
        >>> from minikeras import layers
        >>> layer = layers.TextVectorization(output_sequence_length=4)
        >>> layer.adapt(["foo bar", "Bar, baz!"])
        >>> layer.get_vocabulary(), layer(["foo qux bar"]).tolist()
        (['', '[UNK]', 'bar', 'foo', 'baz'], [[3, 1, 2, 0]])
    """

    max_tokens: Size = None
    standardize: Annotated[Any, _one_of_or_function(*_STANDARDS, None)] = "lower_and_strip_punctuation"
    split: Annotated[Any, _one_of_or_function("whitespace", "character", None)] = "whitespace"
    ngrams: Annotated[Any, _ngrams] = None
    output_mode: Annotated[str, mode("int", "multi_hot", "count", "tf_idf")] = "int"
    output_sequence_length: Annotated[Any, Whole(1, optional=True)] = None
    pad_to_max_tokens: bool = False
    vocabulary: Any = field(default=None, stored=False)
    idf_weights: Any = field(default=None, stored=False)
    sparse: Dense = False
    ragged: Dense = False
    encoding: str = "utf-8"

    compute_dtype = "string"  # type: ignore[assignment]

    def __post_init__(self, vocabulary: Any, idf_weights: Any) -> None:
        if self.output_mode != "int" and self.output_sequence_length is not None:
            raise ValueError(
                f"TextVectorization takes output_sequence_length for output_mode='int', got it for "
                f"{self.output_mode!r}."
            )
        self._lookup_layer = StringLookup(
            max_tokens=self.max_tokens,
            mask_token="",
            vocabulary=vocabulary,
            idf_weights=idf_weights,
            output_mode=self.output_mode,
            pad_to_max_tokens=self.pad_to_max_tokens,
            encoding=self.encoding,
        )

    @property
    def _lookup(self) -> StringLookup:  # type: ignore[override]
        return self._lookup_layer

    # ------------------------------------------------------------ the vocabulary

    def adapt(self, data: Any, batch_size: int | None = None, steps: int | None = None) -> None:
        """Learn the vocabulary from texts, in place of what was learned before: the most frequent tokens first.

        Args:
            data: an array, a list, or an iterable of batches of texts.
            batch_size: accepted for familiarity.
            steps: number of batches to take, default all.

        Raises:
            ValueError: where the layer was given its vocabulary, and where there is no data.
        """
        arrays = (host_array(self, batch) for batch in batches(self, data, steps, lists=True))
        self._lookup_layer.learn(self._documents(array)[0] for array in arrays)

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[str]:
        """The tokens in the order of their indices; special ones are `""` for what is absent and `"[UNK]"`."""
        return self._lookup_layer.get_vocabulary(include_special_tokens)

    def set_vocabulary(self, vocabulary: Any, idf_weights: Any = None) -> None:
        """Replace the vocabulary, as `StringLookup.set_vocabulary` does."""
        self._lookup_layer.set_vocabulary(vocabulary, idf_weights)

    def vocabulary_size(self) -> int:
        """The number of indices, those of what is absent and of unknown tokens among them."""
        return self._lookup_layer.vocabulary_size()

    # ------------------------------------------------------------ calls

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape = tuple(input_shape)
        if self.split is not None:
            shape = (*(shape[:-1] if len(shape) > 1 else shape), None)
        elif self.ngrams is not None and shape:
            shape = (*shape[:-1], None)
        if self.output_mode == "int" and self.output_sequence_length is not None:
            return (*shape[:-1], self.output_sequence_length)
        return self._lookup_layer.compute_output_shape(shape)

    def compute_output_spec(self, inputs: Any) -> KerasTensor:
        dtype = self._lookup_layer.compute_output_spec(inputs).dtype
        return KerasTensor(self.compute_output_shape(inputs.shape), dtype)

    def call(self, inputs: Any) -> Tensor:
        documents, shape = self._documents(host_array(self, inputs))
        lookup = self._lookup_layer
        lengths = list(map(len, documents))
        found = lookup.find([token for document in documents for token in document])
        length = self.output_sequence_length or max(lengths, default=0)
        indices = np.full((len(documents), length), 0 if self.output_mode == "int" else -1, np.int64)
        start = 0
        for row, count in enumerate(lengths):
            kept = min(count, length)
            indices[row, :kept] = found[start : start + kept]
            start += count
        return lookup.given_out(indices.reshape(*shape, length))

    def _documents(self, texts: np.ndarray) -> tuple[list[Sequence[bytes]], tuple[int, ...]]:
        """The tokens of each text, and the axes that the texts lie along."""
        if texts.dtype != object:
            raise ValueError(f"TextVectorization {self.name!r} takes strings, got numbers of type {texts.dtype}.")
        if callable(self.standardize):
            texts = host_array(self, self.standardize(self._as_text(texts)))
        flat = encoded(texts.flat, self.encoding)
        if self.standardize in _STANDARDS:
            flat = [text.translate(*_STANDARDS[self.standardize]) for text in flat]
        shape: tuple[int, ...] = texts.shape
        if self.split is None:
            length, shape = (shape or (1,))[-1], shape[:-1]
            documents: list[Any] = [flat[row * length : (row + 1) * length] for row in range(math.prod(shape))]
        else:
            if len(shape) > 1 and shape[-1] != 1:
                raise ValueError(
                    f"TextVectorization {self.name!r} splits texts that have no axis after the batch, or one of size "
                    f"1, got shape {shape}; pass split=None for tokens."
                )
            shape = shape[:-1] if len(shape) > 1 else shape
            documents = self._split(flat)
        if self.ngrams is not None:
            documents = [list(self._ngrams_of(document)) for document in documents]
        return documents, shape

    def _split(self, texts: list[bytes]) -> list[Any]:
        if self.split == "whitespace":
            return [text.split() for text in texts]
        if self.split == "character":
            return [encoded(text.decode(self.encoding, "replace"), self.encoding) for text in texts]
        strings = np.empty(len(texts), object)
        strings[:] = texts
        documents = list(self.split(self._as_text(strings)))
        if len(documents) != len(texts):
            raise ValueError(
                f"The split function of TextVectorization {self.name!r} returns a list of tokens for each of "
                f"{len(texts)} texts, got {shown(documents)}."
            )
        return [encoded(np.ravel(tokens).tolist(), self.encoding) for tokens in documents]

    def _as_text(self, texts: np.ndarray) -> np.ndarray:
        """An array of NumPy's own strings."""
        decode = [one.decode(self.encoding) if isinstance(one, bytes) else one for one in texts.flat]
        return np.array(decode, str).reshape(texts.shape)

    def _ngrams_of(self, tokens: Sequence[bytes]) -> Iterator[bytes]:
        for width in range(1, self.ngrams + 1) if isinstance(self.ngrams, int) else self.ngrams:
            for start in range(len(tokens) - width + 1):
                yield b" ".join(tokens[start : start + width])

    # ------------------------------------------------------------ files

    def get_config(self) -> dict[str, Any]:
        known = self._lookup_layer.get_config()
        names = ("vocabulary", "idf_weights", "vocabulary_size")
        return {**super().get_config(), **{name: known[name] for name in names}}

