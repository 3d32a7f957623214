"""Strings and integers to their places in a vocabulary, and back."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from minikeras import config as settings
from minikeras import kernels as k
from minikeras import limits
from minikeras.autodiff.symbolic import KerasTensor
from minikeras.autodiff.tensor import Tensor
from minikeras.declared import OneOf, Whole
from minikeras.layers.categories import OnlyDense, categorical, categorical_shape, mode
from minikeras.layers.fields import declared, field
from minikeras.layers.hashing import as_salt, buckets
from minikeras.layers.host import OnHost, batches, encoded, on_host
from minikeras.layers.layer import Layer
from minikeras.registry import describes_without_files
from minikeras.utils.checks import shown, whole

_LEFT_OUT, _UNKNOWN = -1, -2  # in the place of an index: of the mask in vectors, of what is not in the vocabulary
_FILE = "vocabulary.txt"

Size = Annotated[Any, Whole(2, optional=True)]


class Lookup(OnHost):
    """A layer with a vocabulary: terms, their indices, how these are given out, and how it is described and read.

    The indices begin with that of the mask, where it has one, and those of unknown terms.  Inside, terms are *keys*:
    bytes or integers.
    """

    _UNTRACKED = Layer._UNTRACKED | {"_terms", "_indices", "_given"}
    _term_type: type = str

    @property
    def _lookup(self) -> Any:
        """The layer that has the vocabulary."""
        return self

    def __post_init__(self, vocabulary: Any, idf_weights: Any) -> None:  # type: ignore[override]
        self._terms: list[Any] | None = None  # as keys, without the mask and the unknown ones
        self._indices: dict[Any, int] = {}
        self._idf: np.ndarray | None = None  # weights of all indices
        self._size: int | None = None  # of the vocabulary, or in a model that is being opened what it will be
        self._given: tuple[Any, Any] | None = None  # what the constructor got: the layer learns no other vocabulary
        limits.spend(8 * self.num_oov_indices, f"{self.num_oov_indices} indices of unknown terms")
        least = len(self._special_tokens())
        if self.pad_to_max_tokens if self.max_tokens is None else self.max_tokens < least:
            self._refuse(f"needs max_tokens of at least {least} for what is absent or unknown, got {self.max_tokens}")
        if self.invert and (self.output_mode != "int" or self.oov_token is None):
            self._refuse(f"needs output_mode='int' and an oov_token for invert=True, got {self.output_mode!r}")
        if vocabulary is not None or idf_weights is not None:
            self.set_vocabulary(vocabulary, idf_weights)
            in_file = isinstance(vocabulary, (str, Path))
            terms = None if in_file else self._shown(self._keys(self._array(vocabulary)))
            self._given = terms, None if idf_weights is None else on_host(idf_weights).tolist()

    def _keys(self, array: np.ndarray) -> list[Any]:
        raise NotImplementedError

    def _shown(self, keys: Iterable[Any]) -> list[Any]:
        """Keys as the user knows them."""
        return list(keys)

    def _key(self, token: Any) -> Any:
        return None if token is None else self._keys(self._array(token))[0]

    @property
    def _first_unknown(self) -> int:
        return int(self.mask_token is not None and self.output_mode == "int")

    @property
    def _depth(self) -> Any:
        """The entries of a vector."""
        return self.max_tokens if self.pad_to_max_tokens else self._size

    def _special_tokens(self) -> list[Any]:
        return [self.mask_token] * self._first_unknown + [self.oov_token] * self.num_oov_indices

    # ------------------------------------------------------------ the vocabulary

    def vocabulary_size(self) -> int:
        """The number of indices, those of the mask and of unknown terms among them."""
        return len(self.get_vocabulary())

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[Any]:
        """The terms in the order of their indices.

        Args:
            include_special_tokens: whether the mask and the unknown terms, which come first, are there too.
        """
        own = self._lookup
        return (own._special_tokens() if include_special_tokens else []) + own._shown(own._terms or ())

    def set_vocabulary(self, vocabulary: Any, idf_weights: Any = None) -> None:
        """Replace the vocabulary.

        Args:
            vocabulary: a list or an array of terms, with the mask and the unknown terms in front or without them; or
                the path of a text file with a term on each line, without them.
            idf_weights: for `output_mode="tf_idf"`: a number for each term; unknown terms get their mean.

        Raises:
            ValueError: for terms that occur twice, that are too many or none, or where weights and terms do not fit.
        """
        own = self._lookup
        if (idf_weights is None) == (own.output_mode == "tf_idf"):
            own._refuse(f"takes idf_weights for output_mode='tf_idf', and for no other, got {own.output_mode!r}")
        special, in_file = own._special_tokens(), isinstance(vocabulary, (str, Path))
        if in_file:
            path = Path(vocabulary).expanduser()
            if not path.is_file() or idf_weights is not None:
                own._refuse(f"takes the path of a file that is there, and no idf_weights with it, got {str(path)!r}")
            vocabulary = list(map(own._term_type, path.read_text("utf-8").splitlines()))
        keys = own._keys(own._array(vocabulary)) if vocabulary is not None and len(vocabulary) else []
        complete = not in_file and keys[: len(special)] == list(map(own._key, special))
        terms = keys[len(special) :] if complete else keys
        if not keys:
            own._refuse(f"needs a vocabulary of at least one term, got {shown(vocabulary)}")
        repeated = [term for term, count in Counter(terms).items() if count > 1]
        if repeated:
            own._refuse(f"takes each term of a vocabulary once, got {own._shown(repeated[:3])} again")
        if {own._key(token) for token in (own.mask_token, own.oov_token if own.invert else None)} & set(terms):
            own._refuse(f"has {special} for what is absent or unknown, got a vocabulary with them; leave them out")
        if own.max_tokens is not None and len(special) + len(terms) > own.max_tokens:
            own._refuse(f"has max_tokens={own.max_tokens}, got a vocabulary of {len(special) + len(terms)}")
        weights = None if idf_weights is None else on_host(idf_weights).astype(settings.floatx())
        if weights is not None and weights.shape != (len(keys),):
            own._refuse(f"takes a weight for each of {len(keys)} terms, got idf_weights of shape {weights.shape}")
        own._set_terms(terms, weights)

    def _set_terms(self, terms: list[Any], weights: np.ndarray | None) -> None:
        """Take terms that have been checked, and for `"tf_idf"` their weights, those of special tokens or not."""
        first = len(self._special_tokens())
        self._terms, self._size = terms, first + len(terms)
        self._indices = {} if self.invert else {term: place for place, term in enumerate(terms, first)}
        if self.mask_token is not None:
            self._indices[self._key(self.mask_token)] = 0 if self.output_mode == "int" else _LEFT_OUT
        if weights is not None:
            unknown = self._size - len(weights)
            weights = np.concatenate([np.full(unknown, weights.mean() if len(weights) else 0), weights])
            self._idf = np.pad(weights.astype(settings.floatx()), (0, self._depth - self._size))

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
        weighted, arrays = self.output_mode == "tf_idf", self._arrays(data, steps)  # else samples do not matter
        self._learn(map(self._keys, a.reshape(len(a) if weighted and a.ndim > 1 else 1, -1)) for a in arrays)

    def _arrays(self, data: Any, steps: int | None) -> Iterator[np.ndarray]:
        """The batches of data; where it is all there at once, a single axis is that of the samples."""
        at_once = hasattr(data, "__array__") or isinstance(data, (list, tuple, str, bytes))
        for array in map(self._array, batches(self, data, steps, lists=True)):
            yield array.reshape(-1, 1) if at_once and array.ndim < 2 else array

    def _learn(self, batches: Iterable[Iterable[Sequence[Any]]]) -> None:
        """`adapt` to batches of samples of keys."""
        if self._given is not None:
            self._refuse("was given its vocabulary; leave that out to learn one by adapt()")
        counts: Counter[Any] = Counter()
        holding: Counter[Any] = Counter()  # in how many samples a term occurs
        samples = 0
        for sample in itertools.chain.from_iterable(batches):
            counts.update(sample)
            if self.output_mode == "tf_idf":
                holding.update(set(sample))
                samples += 1
        if not counts:
            self._refuse("learns from at least one term, got none")
        for token in (self.mask_token, self.oov_token):
            counts.pop(self._key(token), None)
        room = None if self.max_tokens is None else self.max_tokens - len(self._special_tokens())
        terms = sorted(counts, key=lambda term: (counts[term], term), reverse=True)[:room]
        weights = np.log(1 + samples / (1 + np.array([holding[term] for term in terms])))
        self._set_terms(terms, weights.astype(settings.floatx()) if self.output_mode == "tf_idf" else None)

    # ------------------------------------------------------------ calls

    @property
    def compute_dtype(self) -> str:
        """The type of the inputs."""
        return "string" if self._term_type is str and not self.invert else "int64"

    def compute_output_shape(self, input_shape: Any) -> Any:
        return categorical_shape(input_shape, self.output_mode, self._depth)

    def compute_output_spec(self, inputs: Any) -> KerasTensor:
        dtype = "string" if self.invert and self._term_type is str else "int64"
        dtype = dtype if self.output_mode == "int" else settings.floatx()
        return KerasTensor(self.compute_output_shape(inputs.shape), dtype)

    def call(self, inputs: Any) -> Tensor:
        array = self._array(inputs)
        if not self.invert:
            return self._given_out(self._find(self._keys(array)).reshape(array.shape))
        self._check_vocabulary()
        terms, indices = self.get_vocabulary(), self._integers(array)
        table = np.array([*terms, self.oov_token], object if self._term_type is str else np.int64)
        places = np.where((indices >= 0) & (indices < len(terms)), indices, len(terms))
        return Tensor(k.to_device(table[places]))

    def _check_vocabulary(self) -> None:
        if self._terms is None:
            self._refuse("has no vocabulary yet; call adapt(data) or set_vocabulary() first", RuntimeError)

    def _find(self, keys: Sequence[Any]) -> np.ndarray:
        """The indices of keys, -1 for those that are left out of vectors."""
        self._check_vocabulary()
        get = self._indices.get
        found = np.fromiter([get(key, _UNKNOWN) for key in keys], np.int64, len(keys))
        places = np.flatnonzero(found == _UNKNOWN)
        unknown = [keys[place] for place in places.tolist()]
        if unknown and self.num_oov_indices == 0:
            self._refuse(f"has num_oov_indices=0, got unknown terms, {self._shown(unknown[:3])}; let it be 1")
        found[places] = self._first_unknown
        if unknown and self.num_oov_indices > 1:
            hashed = self._term_type is str or self.oov_method == "farmhash"
            count = self.num_oov_indices
            found[places] += buckets(unknown, count, self.salt) if hashed else np.array(unknown) % count
        return found

    def _given_out(self, indices: np.ndarray) -> Tensor:
        """Indices in the form that `output_mode` says."""
        weighted = self.output_mode == "tf_idf"
        dtype = "int64" if self.output_mode == "int" else settings.floatx()
        values = categorical(np, indices, "count" if weighted else self.output_mode, self._depth, dtype)
        return Tensor(k.to_device(values * self._idf if weighted else values))

    # ------------------------------------------------------------ files

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments; a vocabulary that was learned is in a file of its own, if lines can hold it."""
        own = self._lookup
        terms, weights = own._given or (None, None)
        lines = list(map(str, own.get_vocabulary()))
        by_lines = "\n".join(lines).splitlines() == lines and not describes_without_files()
        if terms is None and own._terms and not by_lines:
            terms, weights = own.get_vocabulary(), None if own._idf is None else own._idf[: own._size].tolist()
        return {**super().get_config(), "vocabulary": terms, "idf_weights": weights, "vocabulary_size": own._size}

    def _configured(self, name: str) -> Any:
        return None if name in ("vocabulary", "idf_weights") else super()._configured(name)

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """The layer that `get_config` described; a description cannot have a file read.

        Raises:
            ValueError: for one whose vocabulary is a path.
        """
        if isinstance(config.get("vocabulary"), str):
            raise ValueError(
                f"The description of a {cls.__name__} names the vocabulary file {config['vocabulary']!r}, which is not "
                "read; pass the terms to set_vocabulary()."
            )
        others = ("dtype", "has_input_vocabulary", "vocabulary_size")  # types without effect: older files have "string"
        layer = super().from_config({name: value for name, value in config.items() if name not in others})
        if layer._lookup._terms is None:
            layer._lookup._size = whole("vocabulary_size", config.get("vocabulary_size"), 0, optional=True)
        return layer

    def save_own_variables(self, store: Any) -> None:
        if self._lookup._idf is not None:
            store["idf_weights"] = self._lookup._idf

    def load_own_variables(self, store: Any) -> None:
        own = self._lookup
        if own.output_mode == "tf_idf" and "idf_weights" in store:
            weights = np.asarray(store["idf_weights"], settings.floatx())
            if weights.shape != (own._depth,):
                own._refuse(f"has {own._depth} indices, the file weights of shape {weights.shape}")
            own._idf = weights

    def save_assets(self, dir_path: Any) -> None:
        """Write the vocabulary to `vocabulary.txt` in a folder, unless the configuration holds it."""
        if self.get_config()["vocabulary"] is None:
            text = "\n".join(map(str, self.get_vocabulary()))
            Path(dir_path, _FILE).write_bytes(text.encode("utf-8", "surrogateescape"))

    def load_assets(self, dir_path: Any) -> None:
        """Take the vocabulary from `vocabulary.txt` in a folder, unless the configuration held it.

        Raises:
            ValueError: for a file that does not fit the configuration; then nothing is changed.
        """
        own, path = self._lookup, Path(dir_path, _FILE)
        if (own._given or (None,))[0] is not None or not path.is_file():
            return
        lines, special = path.read_text("utf-8", "surrogateescape").split("\n"), list(map(str, own._special_tokens()))
        while len(lines) > max(own._size or 0, len(special)) and not lines[-1]:
            lines.pop()
        if lines[: len(special)] != special or own._size not in (None, len(lines)):
            own._refuse(f"has a vocabulary of {own._size} that begins with {special}, got a file of {len(lines)} lines")
        if len(lines) > len(special):
            terms = [*own._special_tokens(), *map(own._term_type, lines[len(special) :])]
            self.set_vocabulary(terms, None if own._idf is None else own._idf[: len(lines)])


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
        salt: an integer or two; several indices for unknown terms are then given by SipHash64, else by FarmHash64.
        oov_method: without effect on strings.

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
    output_mode: Annotated[str, mode("int", "one_hot", "multi_hot", "count", "tf_idf")] = "int"
    pad_to_max_tokens: bool = False
    sparse: OnlyDense = False
    encoding: str = "utf-8"
    salt: Annotated[Any, as_salt] = field(default=None, kw_only=True)
    oov_method: Annotated[str, OneOf("floormod", "farmhash")] = field(default="floormod", kw_only=True)

    def _keys(self, array: np.ndarray) -> list[bytes]:
        if array.dtype != object:
            self._refuse(f"takes strings, got numbers of type {array.dtype}")
        return encoded(array.flat, self.encoding)

    def _shown(self, keys: Iterable[bytes]) -> list[str]:
        return [key.decode(self.encoding, "surrogateescape") for key in keys]


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
    output_mode: Annotated[str, mode("int", "one_hot", "multi_hot", "count", "tf_idf")] = "int"
    sparse: OnlyDense = False
    pad_to_max_tokens: bool = False
    oov_method: Annotated[str, OneOf("floormod", "farmhash")] = "floormod"
    salt: Annotated[Any, as_salt] = None

    _term_type = int

    def __post_init__(self, vocabulary: Any, idf_weights: Any) -> None:  # type: ignore[override]
        super().__post_init__(vocabulary, idf_weights)
        if self.salt is not None and self.oov_method != "farmhash":
            self._refuse(f"takes a salt for oov_method='farmhash', got {self.oov_method!r}")

    def _keys(self, array: np.ndarray) -> list[int]:
        return self._integers(array).ravel().tolist()
