"""Texts to the indices of their words."""

from __future__ import annotations

import math
import string
from typing import Annotated, Any

import numpy as np

from minikeras.autodiff.symbolic import KerasTensor
from minikeras.autodiff.tensor import Tensor
from minikeras.declared import Kept, Whole
from minikeras.layers.categories import OnlyDense, mode
from minikeras.layers.common import sizes_argument
from minikeras.layers.fields import declared, field
from minikeras.layers.host import encoded
from minikeras.layers.lookup import Lookup, Size, StringLookup
from minikeras.utils.checks import one_of

# of letters beyond ASCII Keras has no small ones either
_LOWER = bytes.maketrans(string.ascii_uppercase.encode(), string.ascii_lowercase.encode())
_SIGNS = string.punctuation.encode()
_STANDARDS = {"lower": (_LOWER, b""), "strip_punctuation": (None, _SIGNS)}
_STANDARDS["lower_and_strip_punctuation"] = _LOWER, _SIGNS


def _function_or(*words: Any) -> Any:
    owner = "TextVectorization"
    return lambda layer, name, value: value if callable(value) else one_of(name, value, words, owner=owner)


@declared
class TextVectorization(Lookup):
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
    standardize: Annotated[Any, _function_or(*_STANDARDS, None)] = "lower_and_strip_punctuation"
    split: Annotated[Any, _function_or("whitespace", "character", None)] = "whitespace"
    ngrams: Annotated[Any, Kept(lambda layer, name, value: value is None or sizes_argument(layer, name, value))] = None
    output_mode: Annotated[str, mode("int", "multi_hot", "count", "tf_idf")] = "int"
    output_sequence_length: Annotated[Any, Whole(1, optional=True)] = None
    pad_to_max_tokens: bool = False
    vocabulary: Any = field(default=None, stored=False)
    idf_weights: Any = field(default=None, stored=False)
    sparse: OnlyDense = False
    ragged: OnlyDense = False
    encoding: str = "utf-8"

    compute_dtype = "string"  # type: ignore[assignment]

    def __post_init__(self, vocabulary: Any, idf_weights: Any) -> None:  # type: ignore[override]
        if self.output_mode != "int" and self.output_sequence_length is not None:
            self._refuse(f"takes output_sequence_length for output_mode='int', got it for {self.output_mode!r}")
        names = ("max_tokens", "output_mode", "pad_to_max_tokens", "encoding", "name")
        given = {"vocabulary": vocabulary, "idf_weights": idf_weights, **{name: getattr(self, name) for name in names}}
        self._lookup_layer = StringLookup(mask_token="", **given)

    @property
    def _lookup(self) -> StringLookup:
        return self._lookup_layer

    def adapt(  # type: ignore[override]
        self, data: Any, batch_size: int | None = None, steps: int | None = None
    ) -> None:
        """Learn the vocabulary from texts, in place of what was learned before: the most frequent tokens first.

        Args:
            data: an array, a list, or an iterable of batches of texts.
            batch_size: accepted for familiarity.
            steps: number of batches to take, default all.

        Raises:
            ValueError: where the layer was given its vocabulary, and where there is no data.
        """
        self._lookup_layer._learn(map(self._documents, self._arrays(data, steps)))

    # ------------------------------------------------------------ calls

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape = tuple(input_shape)
        tokens = shape[-1] if shape and self.split is None and self.ngrams is None else None
        return self._lookup_layer.compute_output_shape((*self._axes(shape), self.output_sequence_length or tokens))

    def compute_output_spec(self, inputs: Any) -> KerasTensor:
        dtype = self._lookup_layer.compute_output_spec(inputs).dtype
        return KerasTensor(self.compute_output_shape(inputs.shape), dtype)

    def call(self, inputs: Any) -> Tensor:
        texts = self._array(inputs)
        documents = [document[: self.output_sequence_length] for document in self._documents(texts)]
        lengths = np.fromiter(map(len, documents), np.int64, len(documents))
        length = self.output_sequence_length or int(lengths.max(initial=0))
        indices = np.full((len(documents), length), 0 if self.output_mode == "int" else -1)
        tokens = [token for document in documents for token in document]
        indices[np.arange(length) < lengths[:, None]] = self._lookup_layer._find(tokens)
        return self._lookup_layer._given_out(indices.reshape(*self._axes(texts.shape), length))

    def _axes(self, shape: Any) -> tuple[Any, ...]:
        """The axes that texts lie along."""
        return shape if len(shape) == 1 and self.split is not None else shape[:-1]

    def _documents(self, texts: np.ndarray) -> list[Any]:
        """The tokens of each text."""
        if texts.dtype != object:
            self._refuse(f"takes strings, got numbers of type {texts.dtype}")
        if callable(self.standardize):
            texts = self._array(
                self.standardize(self._as_text(encoded(texts.flat, self.encoding)).reshape(texts.shape))
            )
        flat = encoded(texts.flat, self.encoding)
        if self.standardize in _STANDARDS:
            flat = [text.translate(*_STANDARDS[self.standardize]) for text in flat]
        if self.split is not None and texts.ndim > 1 and texts.shape[-1] != 1:
            self._refuse(f"splits texts, of shape (batch,) or (batch, 1), got {texts.shape}; tokens need split=None")
        documents: list[Any]
        if self.split is None:
            length = texts.shape[-1] if texts.ndim else 1
            documents = [flat[row * length : (row + 1) * length] for row in range(math.prod(texts.shape[:-1]))]
        elif self.split == "whitespace":
            documents = [text.split() for text in flat]
        elif self.split == "character":
            documents = [encoded(text.decode(self.encoding, "replace"), self.encoding) for text in flat]
        else:
            documents = [encoded(np.ravel(one).tolist(), self.encoding) for one in self.split(self._as_text(flat))]
            if len(documents) != len(flat):
                self._refuse(f"needs the tokens of each of {len(flat)} texts from split, got {len(documents)} lists")
        if self.ngrams is None:
            return documents
        widths = range(1, self.ngrams + 1) if isinstance(self.ngrams, int) else self.ngrams
        return [
            [b" ".join(one[at : at + width]) for width in widths for at in range(len(one) - width + 1)]
            for one in documents
        ]

    def _as_text(self, texts: list[bytes]) -> np.ndarray:
        """What functions of texts take: an array of NumPy's own strings."""
        return np.array(self._lookup_layer._shown(texts), str)
