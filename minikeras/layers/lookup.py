"""Strings and integers to their places in a vocabulary, and back."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from minikeras import config as settings
from minikeras import kernels as k
from minikeras.autodiff.symbolic import KerasTensor
from minikeras.autodiff.tensor import Tensor
from minikeras.declared import Converted, OneOf, Whole
from minikeras.layers.categories import Dense, categorical, categorical_shape, mode
from minikeras.layers.fields import declared, field
from minikeras.layers.hashing import as_salt, buckets
from minikeras.layers.host import OnHost, batches, encoded, host_array, whole_numbers
from minikeras.layers.layer import Layer
from minikeras.utils.checks import shown, whole

_LEFT_OUT, _UNKNOWN = -1, -2  # in the place of an index: a mask in a vector, what is not in the vocabulary
VOCABULARY_FILE = "vocabulary.txt"

Size = Annotated[Any, Whole(2, optional=True)]
OutputMode = Annotated[str, mode("int", "one_hot", "multi_hot", "count", "tf_idf")]


class WithVocabulary(OnHost):
    """A layer with a vocabulary: how it is described and read."""

    _lookup: Any  # the layer that has the vocabulary

    def _configured(self, name: str) -> Any:
        return None if name in ("vocabulary", "idf_weights") else super()._configured(name)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """The layer that `get_config` described; a description cannot have a file read.

        Raises:
            ValueError: for one whose vocabulary is a path.
        """
        if isinstance(config.get("vocabulary"), str):
            raise ValueError(
                f"The description of a {cls.__name__} names the vocabulary file {config['vocabulary']!r}, which is not "
                "read; pass the terms to set_vocabulary()."
            )
        size = whole("vocabulary_size", config.get("vocabulary_size"), 0, owner=cls.__name__, optional=True)
        layer = super().from_config({name: value for name, value in config.items() if name != "vocabulary_size"})
        if layer._lookup._terms is None:
            layer._lookup._size = size
        return layer

    def save_own_variables(self, store: Any) -> None:
        self._lookup.save_weights_to(store)

    def load_own_variables(self, store: Any) -> None:
        self._lookup.load_weights_from(store)

    def save_assets(self, dir_path: Any) -> None:
        """Write the vocabulary to `vocabulary.txt` in a folder, unless the configuration holds it."""
        self._lookup.save_terms_to(Path(dir_path, VOCABULARY_FILE))

    def load_assets(self, dir_path: Any) -> None:
        """Take the vocabulary from `vocabulary.txt` in a folder, unless the configuration held it.

        Raises:
            ValueError: for a file that does not fit the configuration; then nothing is changed.
        """
        self._lookup.load_terms_from(Path(dir_path, VOCABULARY_FILE))


class Lookup(WithVocabulary):
    """What `StringLookup` and `IntegerLookup` have in common: terms, their indices, and how these are given out.

    The indices begin with that of the mask, where it has one, and those of unknown terms.
    """

    _UNTRACKED = Layer._UNTRACKED | {"_terms", "_indices", "_given"}
    _key_dtype: str

    max_tokens: int | None
    num_oov_indices: int
    mask_token: Any
    oov_token: Any
    invert: bool
    output_mode: str
    pad_to_max_tokens: bool
    oov_method: str
    salt: list[int] | None

    def __post_init__(self, vocabulary: Any, idf_weights: Any) -> None:
        self._terms: list[Any] | None = None  # as keys, without the mask and the unknown ones
        self._indices: dict[Any, int] = {}
        self._idf: np.ndarray | None = None
        self._size: int | None = None  # of the vocabulary, or in a model that is being opened what it will be
        self._shape_used = False  # whether a model is made for outputs of that size
        self._given: tuple[Any, Any] | None = None  # what the constructor got: the layer learns no other vocabulary
        owner = type(self).__name__
        if self.pad_to_max_tokens and self.max_tokens is None:
            raise ValueError(f"{owner} pads its outputs to max_tokens, got pad_to_max_tokens=True without it; give it.")
        if self.invert and self.output_mode != "int":
            raise ValueError(f"{owner} with invert=True has output_mode='int', got {self.output_mode!r}.")
        if idf_weights is not None and self.output_mode != "tf_idf":
            raise ValueError(f"{owner} takes idf_weights for output_mode='tf_idf', got {self.output_mode!r}.")
        if self.invert and self.oov_token is None:
            raise ValueError(f"{owner} with invert=True needs an oov_token, got None.")
        if vocabulary is not None:
            self.set_vocabulary(vocabulary, idf_weights)
            terms = None
            if not isinstance(vocabulary, (str, Path)):
                terms = self._shown(self._keys(host_array(self, vocabulary)))
            self._given = terms, _as_list(idf_weights)

    # ------------------------------------------------------------ keys: bytes or int

    @property
    def _lookup(self) -> Lookup:  # type: ignore[override]
        return self

    def _keys(self, array: np.ndarray) -> list[Any]:
        raise NotImplementedError

    def _shown(self, keys: Iterable[Any]) -> list[Any]:
        """Keys as the user knows them."""
        return list(keys)

    def _key(self, token: Any) -> Any:
        return None if token is None else self._keys(host_array(self, token))[0]

    @property
    def _first_unknown(self) -> int:
        return 1 if self.mask_token is not None and self.output_mode == "int" else 0

    @property
    def _first_term(self) -> int:
        return self._first_unknown + self.num_oov_indices

    def _special_tokens(self) -> list[Any]:
        return [self.mask_token] * self._first_unknown + [self.oov_token] * self.num_oov_indices

    # ------------------------------------------------------------ the vocabulary

    def vocabulary_size(self) -> int:
        """The number of indices, those of the mask and of unknown terms among them."""
        return self._first_term + len(self._terms or ())

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[Any]:
        """The terms in the order of their indices.

        Args:
            include_special_tokens: whether the mask and the unknown terms, which come first, are there too.
        """
        terms = self._shown(self._terms or ())
        return self._special_tokens() + terms if include_special_tokens else terms

    def set_vocabulary(self, vocabulary: Any, idf_weights: Any = None) -> None:
        """Replace the vocabulary.

        Args:
            vocabulary: a list or an array of terms, with the mask and the unknown terms in front or without them; or
                the path of a text file with a term on each line, without them.
            idf_weights: for `output_mode="tf_idf"`: a number for each term.

        Raises:
            ValueError: for terms that occur twice, that are too many or none, or where weights and terms do not fit.
            RuntimeError: where another number of terms changes the shape of outputs that a model is made for.
        """
        owner = f"{type(self).__name__} {self.name!r}"
        if (idf_weights is None) == (self.output_mode == "tf_idf"):
            raise ValueError(
                f"{owner} takes idf_weights with a vocabulary for output_mode='tf_idf' and for no other, got "
                f"idf_weights={shown(idf_weights)} for {self.output_mode!r}."
            )
        special = list(map(self._key, self._special_tokens()))
        if isinstance(vocabulary, (str, Path)):
            if idf_weights is not None:
                raise ValueError(f"{owner} takes a list of terms for output_mode='tf_idf', got the file {vocabulary!r}.")
            keys = self._keys_in(Path(vocabulary).expanduser())
            if special and keys[: len(special)] == special:
                raise ValueError(
                    f"{str(vocabulary)!r} begins with the terms {self._special_tokens()} of the mask and of unknown "
                    "terms; a file holds the other ones alone."
                )
        else:
            keys = self._keys(host_array(self, vocabulary)) if len(vocabulary) else []
        if not keys:
            raise ValueError(f"{owner} needs a vocabulary of at least one term, got {shown(vocabulary)}.")
        complete = keys[: len(special)] == special
        terms = keys[len(special) :] if complete else keys
        self._check_terms(terms)
        weights = None
        if idf_weights is not None:
            weights = np.asarray(_as_list(idf_weights), settings.floatx())
            if weights.shape != (len(keys),):
                raise ValueError(
                    f"{owner} takes a weight for each of {len(keys)} terms, got idf_weights of shape {weights.shape}."
                )
            if not complete:  # of unknown terms there is no better guess
                weights = np.concatenate([np.full(len(special), weights.mean()), weights])
        self._set_terms(terms, weights)

    def _keys_in(self, path: Path) -> list[Any]:
        if not path.is_file():
            raise ValueError(f"There is no vocabulary file {str(path)!r}; check the path.")
        return self._parsed(path.read_text("utf-8", "surrogateescape").splitlines())

    def _parsed(self, lines: list[str]) -> list[Any]:
        """The keys on the lines of a file."""
        raise NotImplementedError

    def _check_terms(self, terms: list[Any]) -> None:
        owner = f"{type(self).__name__} {self.name!r}"
        repeated = [term for term, count in Counter(terms).items() if count > 1]
        if repeated:
            raise ValueError(f"{owner} takes each term of a vocabulary once, got {self._shown(repeated[:3])} again.")
        reserved = {"mask": self.mask_token, "unknown": self.oov_token if self.invert else None}
        for role, token in reserved.items():
            if token is not None and self._key(token) in terms:
                raise ValueError(
                    f"{owner} has {token!r} as its {role} token, which the vocabulary holds too; leave it out, or let "
                    f"the vocabulary begin with all of {self._special_tokens()}."
                )
        if self.max_tokens is not None and self._first_term + len(terms) > self.max_tokens:
            raise ValueError(
                f"{owner} has max_tokens={self.max_tokens}, got a vocabulary of {self._first_term + len(terms)}."
            )

    def _set_terms(self, terms: list[Any], weights: np.ndarray | None) -> None:
        """Take terms that have been checked, and for `"tf_idf"` the weights of all indices."""
        size = self._first_term + len(terms)
        if self._shape_used and self._size not in (None, size):
            raise RuntimeError(
                f"{type(self).__name__} {self.name!r} is part of a model for a vocabulary of {self._size}, got one of "
                f"{size}; let it keep its size, or give max_tokens and pad_to_max_tokens=True."
            )
        self._terms, self._size = terms, size
        self._indices = {} if self.invert else {term: place for place, term in enumerate(terms, self._first_term)}
        if self.mask_token is not None and not self.invert:
            self._indices[self._key(self.mask_token)] = 0 if self.output_mode == "int" else _LEFT_OUT
        if weights is not None:
            extra = self.max_tokens - len(weights) if self.pad_to_max_tokens and self.max_tokens else 0
            self._idf = np.concatenate([weights, np.zeros(extra)]).astype(settings.floatx())

    # ------------------------------------------------------------ learning it

    def adapt(self, data: Any, steps: int | None = None) -> None:
        """Learn the vocabulary from data, in place of what was learned before: the most frequent terms first.

        Of equally frequent ones the last in the order of the alphabet, or of the numbers, comes first.

        Args:
            data: an array, a list, or an iterable of batches.  A row is a sample, of whose terms `"tf_idf"` counts each
                once; a batch without rows is one sample.
            steps: number of batches to take, default all.

        Raises:
            ValueError: where the layer was given its vocabulary, and where there is no data.
        """
        at_once = hasattr(data, "__array__") or isinstance(data, (list, tuple, str, bytes))
        arrays = (host_array(self, batch) for batch in batches(self, data, steps, lists=True))
        self.learn(map(self._keys, _samples(array, at_once)) for array in arrays)

    def learn(self, batches: Iterable[Iterable[Sequence[Any]]]) -> None:
        """`adapt` from batches of samples of keys."""
        owner = f"{type(self).__name__} {self.name!r}"
        if self._given is not None:
            raise ValueError(f"{owner} was given its vocabulary; leave that out to learn one by adapt().")
        counts: Counter[Any] = Counter()
        holding: Counter[Any] = Counter()  # in how many samples a term occurs
        samples = 0
        for batch in batches:
            if self.output_mode != "tf_idf":
                counts.update(itertools.chain.from_iterable(batch))
                continue
            for sample in batch:
                counts.update(sample)
                holding.update(set(sample))
                samples += 1
        if not counts:
            raise ValueError(f"{owner} learns from at least one term, got none.")
        for token in (self.mask_token, self.oov_token):
            counts.pop(self._key(token), None)
        room = None if self.max_tokens is None else max(self.max_tokens - self._first_term, 0)
        terms = sorted(counts, key=lambda term: (counts[term], term), reverse=True)[:room]
        weights = None
        if self.output_mode == "tf_idf":
            found = np.array([holding[term] for term in terms])
            weights = np.log(1 + samples / (1 + found)).astype(settings.floatx())
            unknown = weights.mean() if len(weights) else 0
            weights = np.concatenate([np.full(self._first_term, unknown), weights])
        self._set_terms(terms, weights)

    # ------------------------------------------------------------ calls

    @property
    def compute_dtype(self) -> str:
        """The type of the inputs."""
        return "int64" if self.invert else self._key_dtype

    def compute_output_shape(self, input_shape: Any) -> Any:
        depth = self.max_tokens if self.pad_to_max_tokens else self._size
        return categorical_shape(input_shape, self.output_mode, depth)

    def compute_output_spec(self, inputs: Any) -> KerasTensor:
        self._shape_used |= self.output_mode != "int" and not self.pad_to_max_tokens
        dtype = self._key_dtype if self.invert else "int64" if self.output_mode == "int" else settings.floatx()
        return KerasTensor(self.compute_output_shape(inputs.shape), dtype)

    def call(self, inputs: Any) -> Tensor:
        array = host_array(self, inputs)
        if self.invert:
            self._check_vocabulary()
            return Tensor(k.to_device(self._terms_at(whole_numbers(self, array))))
        return self.given_out(self.find(self._keys(array)).reshape(array.shape))

    def _check_vocabulary(self) -> None:
        if self._terms is None:
            raise RuntimeError(
                f"{type(self).__name__} {self.name!r} has no vocabulary yet; call adapt(data) or set_vocabulary() first."
            )

    def find(self, keys: Sequence[Any]) -> np.ndarray:
        """The indices of keys, -1 for those that are left out of vectors.

        Raises:
            RuntimeError: where there is no vocabulary yet.
            ValueError: for unknown terms where there is no index for them.
        """
        self._check_vocabulary()
        get = self._indices.get
        found = np.fromiter([get(key, _UNKNOWN) for key in keys], np.int64, len(keys))
        unknown = np.flatnonzero(found == _UNKNOWN)
        if unknown.size and self.num_oov_indices == 0:
            terms = self._shown(keys[place] for place in unknown[:3])
            raise ValueError(
                f"{type(self).__name__} {self.name!r} has num_oov_indices=0, got {terms}, which the vocabulary does "
                "not hold; let num_oov_indices be 1."
            )
        found[unknown] = self._first_unknown
        if unknown.size and self.num_oov_indices > 1:
            found[unknown] += self._bins([keys[place] for place in unknown])
        return found

    def _bins(self, keys: list[Any]) -> np.ndarray:
        """Which of the indices of unknown terms each key gets."""
        if self._key_dtype == "int64" and self.oov_method == "floormod":
            return np.array(keys) % self.num_oov_indices
        return buckets(keys, self.num_oov_indices, self.salt)

    def given_out(self, indices: np.ndarray) -> Tensor:
        """Indices in the form that `output_mode` says."""
        if self.output_mode == "int":
            return Tensor(k.to_device(indices))
        depth = self.max_tokens if self.pad_to_max_tokens and self.max_tokens else self.vocabulary_size()
        form = "count" if self.output_mode == "tf_idf" else self.output_mode
        vectors = categorical(np, indices, form, depth, settings.floatx())
        if self.output_mode == "tf_idf":
            assert self._idf is not None
            vectors *= self._idf
        return Tensor(k.to_device(vectors))

    def _terms_at(self, indices: np.ndarray) -> np.ndarray:
        terms = self.get_vocabulary()
        table = np.array([*terms, self.oov_token], object if self._key_dtype == "string" else np.int64)
        return table[np.where((indices >= 0) & (indices < len(terms)), indices, len(terms))]

    # ------------------------------------------------------------ files

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments; a vocabulary that was learned is in a file of its own, if lines can hold it."""
        terms, weights = self._given or (None, None)
        if terms is None and not self._fits_lines():
            terms, weights = self.get_vocabulary(), None if self._idf is None else self._idf[: self._size].tolist()
        return {**super().get_config(), "vocabulary": terms, "idf_weights": weights, "vocabulary_size": self._size}

    def _fits_lines(self) -> bool:
        """Whether the terms are found again in a text of one line for each."""
        lines = list(map(str, self.get_vocabulary()))
        return not self._terms or "\n".join(lines).splitlines() == lines

    def save_weights_to(self, store: Any) -> None:
        if self._idf is not None:
            store["idf_weights"] = self._idf

    def load_weights_from(self, store: Any) -> None:
        if self.output_mode == "tf_idf" and "idf_weights" in store:
            weights = np.asarray(store["idf_weights"], settings.floatx())
            if weights.ndim != 1 or (self._terms is not None and len(weights) != len(self._idf)):  # type: ignore[arg-type]
                raise ValueError(f"The layer {self.name!r} has other terms than the file has weights, {weights.shape}.")
            self._idf = weights

    def save_terms_to(self, path: Path) -> None:
        if self.get_config()["vocabulary"] is None:
            text = "\n".join(map(str, self.get_vocabulary()))
            path.write_bytes(text.encode("utf-8", "surrogateescape"))

    def load_terms_from(self, path: Path) -> None:
        if (self._given is not None and self._given[0] is not None) or not path.is_file():
            return
        lines = path.read_text("utf-8", "surrogateescape").split("\n")
        while lines and not lines[-1] and len(lines) > (self._size or 0):
            lines.pop()
        special = list(map(str, self._special_tokens()))
        if lines[: len(special)] != special or self._size not in (None, len(lines)):
            raise ValueError(
                f"The vocabulary of the layer {self.name!r} should have {self._size} lines and begin with {special}, "
                f"got {len(lines)} that begin with {lines[: len(special)]}."
            )
        terms = self._parsed(lines[len(special) :])
        if not terms:
            return
        self._check_terms(terms)
        weights = self._idf
        if self.output_mode == "tf_idf":
            depth = self.max_tokens if self.pad_to_max_tokens else len(lines)
            if weights is None or len(weights) != depth:
                raise ValueError(f"The layer {self.name!r} has a vocabulary of {len(lines)} without weights for it.")
        self._set_terms(terms, None if weights is None else weights[: len(lines)])


def _samples(array: np.ndarray, at_once: bool) -> np.ndarray:
    """The samples in a batch, or in all of the data at once, each a row of terms."""
    if array.ndim < 2:
        return array.reshape(-1, 1) if at_once else array.reshape(1, -1)
    return array.reshape(len(array), -1)


def _as_list(weights: Any) -> list[float] | None:
    if weights is None:
        return None
    return (k.to_host(weights.data) if isinstance(weights, Tensor) else np.asarray(weights)).tolist()


@declared
class StringLookup(Lookup):
    """Strings to their indices in a vocabulary, or with `invert=True` indices to strings.

    Args:
        max_tokens: the most indices that `adapt` gives, default no limit.
        num_oov_indices: indices for unknown terms: with several a hash says which; with 0 unknown terms are refused.
        mask_token: a term that stands for nothing: index 0, and left out of vectors; default none.
        oov_token: what unknown indices become with `invert=True`.
        vocabulary: the terms, a list or an array; or the path of a text file, a term on each line.
        idf_weights: with a vocabulary for `"tf_idf"`: the weight of each term.
        invert: whether indices become strings.
        output_mode: `"int"`: indices, int64; `"one_hot"`, `"multi_hot"`, `"count"`: vectors, see `CategoryEncoding`;
            `"tf_idf"`: counts times `log(1 + samples / (1 + samples with the term))`.
        pad_to_max_tokens: whether vectors have `max_tokens` entries however many terms there are.
        sparse: only False.
        encoding: of strings that are bytes.
        oov_method: without effect on strings.
        salt: an integer or two; several indices for unknown terms are then given by SipHash64, else by FarmHash64.

    Raises:
        ValueError: for arguments that do not fit each other.

    Example:
        >>> from minikeras import layers
        >>> layer = layers.StringLookup()
        >>> layer.adapt(["red", "blue", "red"])
        >>> layer.get_vocabulary(), layer(["red", "green"]).tolist()
        (['[UNK]', 'red', 'blue'], [1, 0])
    """

    max_tokens: Size = None
    num_oov_indices: Annotated[int, Whole(0)] = 1
    mask_token: Any = None
    oov_token: Any = "[UNK]"
    vocabulary: Any = field(default=None, stored=False)
    idf_weights: Any = field(default=None, stored=False)
    invert: bool = False
    output_mode: OutputMode = "int"
    pad_to_max_tokens: bool = False
    sparse: Dense = False
    encoding: str = "utf-8"
    salt: Annotated[Any, as_salt] = field(default=None, kw_only=True)
    oov_method: Annotated[str, OneOf("floormod", "farmhash")] = field(default="floormod", kw_only=True)

    _key_dtype = "string"

    def _keys(self, array: np.ndarray) -> list[bytes]:
        if array.dtype != object:
            raise ValueError(f"StringLookup {self.name!r} takes strings, got numbers of type {array.dtype}.")
        return encoded(array.flat, self.encoding)

    def _shown(self, keys: Iterable[bytes]) -> list[str]:
        return [key.decode(self.encoding, "surrogateescape") for key in keys]

    def _parsed(self, lines: list[str]) -> list[bytes]:
        return encoded(lines, self.encoding)


@declared
class IntegerLookup(Lookup):
    """Integers to their indices in a vocabulary, or with `invert=True` back.

    Args:
        max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, idf_weights, invert, output_mode, sparse,
            pad_to_max_tokens: as for `StringLookup`, with integers as terms.
        vocabulary_dtype: only `"int64"`.
        oov_method: which of several indices unknown integers get: `"floormod"`: by their remainder, `"farmhash"`: by a
            hash.
        salt: an integer or two, for `"farmhash"`: the hash is then SipHash64.

    Raises:
        ValueError: for arguments that do not fit each other.

    Example:
        >>> from minikeras import layers
        >>> layer = layers.IntegerLookup(vocabulary=[12, 36, 1138, 42])
        >>> layer([[12, 1138, 42], [42, 1000, 36]]).tolist()
        [[1, 3, 4], [4, 0, 2]]
    """

    max_tokens: Size = None
    num_oov_indices: Annotated[int, Whole(0)] = 1
    mask_token: Annotated[Any, Whole(optional=True)] = None
    oov_token: Annotated[Any, Whole(optional=True)] = -1
    vocabulary: Any = field(default=None, stored=False)
    vocabulary_dtype: Annotated[str, OneOf("int64")] = "int64"
    idf_weights: Any = field(default=None, stored=False)
    invert: bool = False
    output_mode: OutputMode = "int"
    sparse: Dense = False
    pad_to_max_tokens: bool = False
    oov_method: Annotated[str, OneOf("floormod", "farmhash")] = "floormod"
    salt: Annotated[Any, as_salt] = None

    _key_dtype = "int64"

    def __post_init__(self, **given: Any) -> None:
        super().__post_init__(**given)
        if self.salt is not None and self.oov_method != "farmhash":
            raise ValueError(f"IntegerLookup takes a salt for oov_method='farmhash', got {self.oov_method!r}.")

    def _keys(self, array: np.ndarray) -> list[int]:
        return whole_numbers(self, array).ravel().tolist()

    def _parsed(self, lines: list[str]) -> list[int]:
        return list(map(int, lines))
