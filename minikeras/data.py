"""`Dataset`: a stream of elements made of small steps, each of which can be resumed.

    batches = Dataset.from_arrays(x, y).shuffle(1000, seed=1).map(augment).batch(32).repeat()

Nothing is computed before somebody iterates, and every iteration is a new *pass*.  A pass is known by a *key*, numbers
from which everything random in it follows, so its element number n can be found again at any time: each step only says
how it gets there without computing what lies before.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from inspect import get_annotations
from typing import Any

import numpy as np

from minikeras.autodiff.tensor import Tensor
from minikeras.lazy import offer_names
from minikeras.seeds import next_seed, whole_number
from minikeras.tracebacks import end_at_users_line, user_facing
from minikeras.training.ahead import Iterated, ReadAhead
from minikeras.training.data import PyDataset
from minikeras.utils.checks import whole

AUTOTUNE = -1
INFINITE_CARDINALITY = -1
UNKNOWN_CARDINALITY = -2

_Key = tuple[int, ...]


class HostArray(np.ndarray):
    """A NumPy array that also has the method `numpy()`, as tensors have it."""

    def numpy(self) -> np.ndarray:
        """This as a plain array."""
        return self.view(np.ndarray)


class Dataset:
    """A stream of elements: arrays, or tuples and dicts of them.  `fit`, `evaluate` and `predict` take it as `x`.

    Make one with `from_arrays`, `from_generator` or `from_dataset`.  `iter(dataset)` begins a new pass; `len(dataset)`
    is the number of elements.  Every method gives a new dataset and leaves this one as it is.
    """

    class_names: list[str] | None
    file_paths: list[str]

    def __init__(self, source: Dataset | None = None):
        self._source = source
        self._passes = 0
        self._resume: dict[str, Any] | None = None
        self._latest: dict[str, Any] | None = None  # where the latest pass is; not the pass itself, so that it can end

    # ------------------------------------------------------------ making one

    @staticmethod
    @user_facing
    def from_arrays(*arrays: Any) -> Dataset:
        """One element for each row of the arrays (or lists, or dicts of arrays): the row, for several a tuple of rows.

        Raises:
            ValueError: where the arrays differ in length.
        """
        return _Rows(arrays[0] if len(arrays) == 1 else tuple(arrays))

    @staticmethod
    @user_facing
    def from_tensor_slices(tensors: Any) -> Dataset:
        """`from_arrays` with a structure of arrays as its one argument."""
        return _Rows(tensors)

    @staticmethod
    @user_facing
    def from_generator(function: Callable[[], Iterable[Any]], length: int | None = None) -> Dataset:
        """The items of `function()`, which is called for each pass.

        Args:
            length: how many there are, if that is known.
        """
        return _Generated(function, length)

    @staticmethod
    @user_facing
    def from_dataset(dataset: PyDataset) -> Dataset:
        """The batches of a `PyDataset`, which is told of the beginning and the end of each pass."""
        return _Indexed(dataset)

    # ------------------------------------------------------------ steps

    @user_facing
    def map(self, function: Callable[..., Any], num_parallel_calls: int | None = None, **ignored: Any) -> Dataset:
        """`function` of each element; a tuple's parts are its arguments.

        Args:
            num_parallel_calls: elements computed at a time, in threads; `AUTOTUNE` is one for each processor.
            ignored: `deterministic` and other arguments of `tf.data`; the order is always kept.
        """
        return _Mapped(self, _taking_elements("map", function), _threads(num_parallel_calls))

    @user_facing
    def filter(self, predicate: Callable[..., Any]) -> Dataset:
        """The elements for which `predicate` is true; a tuple's parts are its arguments."""
        return _Filtered(self, _taking_elements("filter", predicate))

    @user_facing
    def batch(self, batch_size: int, drop_remainder: bool = False, **ignored: Any) -> Dataset:
        """`batch_size` elements at a time, stacked along a new first axis; the last ones may be fewer.

        Args:
            drop_remainder: leave the last batch out if it is not full.
            ignored: further arguments of `tf.data`, without effect.
        """
        return _Batched(self, whole("batch_size", batch_size, 1), drop_remainder)

    def unbatch(self) -> Dataset:
        """The rows of each element, one after the other."""
        return _Unbatched(self)

    @user_facing
    def shuffle(self, buffer_size: int, seed: int | None = None, reshuffle_each_iteration: bool = True) -> Dataset:
        """The elements in a random order: each is drawn from the next `buffer_size` ones that were not drawn.

        Args:
            buffer_size: at least the number of elements for an order in which every one is as likely as any other.
            seed: determines the orders of all passes; None takes one from minikeras's global stream.
            reshuffle_each_iteration: whether every pass has another order.
        """
        return _Shuffled(self, whole("buffer_size", buffer_size, 1), seed, reshuffle_each_iteration)

    @user_facing
    def prefetch(self, buffer_size: int = AUTOTUNE) -> Dataset:
        """The same elements, `buffer_size` of them prepared ahead by a thread (`AUTOTUNE`: 2)."""
        return _Prefetched(self, 2 if buffer_size == AUTOTUNE else whole("buffer_size", buffer_size, 0))

    @user_facing
    def take(self, count: int) -> Dataset:
        """The first `count` elements; -1 for all."""
        return _Taken(self, whole("count", count, -1))

    @user_facing
    def skip(self, count: int) -> Dataset:
        """All but the first `count` elements; -1 for none at all."""
        return _Skipped(self, whole("count", count, -1))

    @user_facing
    def repeat(self, count: int | None = None) -> Dataset:
        """The elements `count` times over, each time in a new pass; None or -1 without an end."""
        return _Repeated(self, -1 if count is None else whole("count", count, -1))

    def cache(self) -> Dataset:
        """The same elements, kept in memory once a pass has reached its end, and not computed again."""
        return _Cached(self)

    def concatenate(self, dataset: Dataset) -> Dataset:
        """These elements, and then those of `dataset`."""
        return _Chained(self, dataset)

    def enumerate(self, start: int = 0) -> Dataset:
        """Pairs of a number, which begins with `start`, and the element."""
        return _Numbered(self, start)

    # ------------------------------------------------------------ reading it

    def __iter__(self) -> DatasetIterator:
        return DatasetIterator(self)

    def __len__(self) -> int:
        size = self.cardinality()
        if size < 0:
            extent = "no end" if size == INFINITE_CARDINALITY else "an unknown number of elements"
            raise TypeError(f"The dataset has {extent}, so it has no length; take(n) makes one that has.")
        return size

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        size = self.cardinality()
        known = {INFINITE_CARDINALITY: "without an end"}.get(size, f"of {size}" if size >= 0 else "of unknown length")
        steps = " > ".join(type(step).__name__.strip("_").lower() for step in self._steps())
        return f"<Dataset {known}: {steps}>"

    @user_facing
    def cardinality(self) -> int:
        """The number of elements, `INFINITE_CARDINALITY` (-1) or `UNKNOWN_CARDINALITY` (-2)."""
        return self._size()

    def batched_by(self) -> int | None:
        """The size of the batches that the elements are, None where they are no batches."""
        return None if self._source is None else self._source.batched_by()

    def as_numpy_iterator(self) -> Iterator[Any]:
        """A new pass whose elements hold plain NumPy arrays."""
        return (_map_leaves(_plain, element) for element in iter(self))

    def get_state(self) -> dict[str, Any]:
        """Where the latest pass is: a dict of numbers that JSON can hold.

        While `fit` reads batches ahead of their use this is up to `max_queue_size` elements further than training; pass
        `workers=0` to `fit` where a state is taken within an epoch.
        """
        return dict(self._resume or self._latest or self._start())

    @user_facing
    def set_state(self, state: Mapping[str, Any]) -> None:
        """Have the next pass go on where `state` was taken, on this dataset or on one that was made in the same way."""
        self._resume = _checked_state(self, state)

    # ------------------------------------------------------------ what each step says of itself

    def _start(self) -> dict[str, Any]:
        """The state of the next pass before its first element."""
        return {"pass": self._passes, "position": 0, "seeds": self._seeds()}

    def _size(self) -> int:
        assert self._source is not None
        return self._source._size()

    def _elements(self, key: _Key, start: int) -> Iterator[Any]:
        """The elements of the pass `key` from number `start` on."""
        raise NotImplementedError(f"{type(self).__name__}() has no elements; make one with Dataset.from_arrays(...).")

    def _rows(self) -> _Rows | None:
        """The arrays whose rows the elements are, where `_numbers` says which ones."""
        return None

    def _numbers(self, key: _Key, start: int) -> Iterator[int]:
        """The rows of `_rows()` that the elements of a pass are."""
        raise NotImplementedError(f"{type(self).__name__} has `_rows`, so it must define `_numbers` too.")

    def _steps(self) -> list[Dataset]:
        """This step and those before it."""
        return [self] if self._source is None else [*self._source._steps(), self]

    def functions(self) -> dict[str, Any]:
        """What of the steps is the user's, by the number of the step."""
        names = ("_function", "_predicate", "_batches")
        steps = enumerate(self._steps())
        return {f"{i}{name}": vars(step)[name] for i, step in steps for name in names if name in vars(step)}

    def draws_again(self) -> bool:
        """Whether functions that draw random numbers draw others when a pass goes on in the middle.

        That is where elements are computed ahead of their use, kept, or computed again to find those after them.
        """
        return any(step._computes_apart() for step in self._steps())

    def _computes_apart(self) -> bool:
        return isinstance(self, (_Generated, _Filtered, _Unbatched, _Prefetched, _Cached))

    def _seeds(self) -> list[int]:
        return [step._seed for step in self._steps() if isinstance(step, _Shuffled)]


class DatasetIterator:
    """One pass over a dataset."""

    def __init__(self, dataset: Dataset):
        self._dataset = dataset
        self._begin(dataset._resume or dataset._start())
        dataset._resume = None

    def _begin(self, state: Mapping[str, Any]) -> None:
        shuffles = [step for step in self._dataset._steps() if isinstance(step, _Shuffled)]
        for step, seed in zip(shuffles, state["seeds"], strict=True):
            step._seed = seed
        self._state = self._dataset._latest = dict(state)
        self._dataset._passes = max(self._dataset._passes, state["pass"] + 1)
        self._elements = self._dataset._elements((state["pass"],), state["position"])

    def __iter__(self) -> DatasetIterator:
        return self

    def __next__(self) -> Any:
        try:
            element = next(self._elements)
            self._state["position"] += 1
            return _map_leaves(_as_host_array, element)
        except BaseException as error:
            end_at_users_line(error)
            raise

    def __getstate__(self) -> dict[str, Any]:
        return {"dataset": self._dataset, "state": self.get_state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._dataset = state["dataset"]
        self._begin(state["state"])

    def get_state(self) -> dict[str, Any]:
        """Where this pass is: a dict of numbers that JSON can hold."""
        return dict(self._state)

    @user_facing
    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._begin(_checked_state(self._dataset, state))


def _checked_state(dataset: Dataset, state: Mapping[str, Any]) -> dict[str, Any]:
    seeds = dataset._seeds()
    if set(state) != {"pass", "position", "seeds"} or len(state["seeds"]) != len(seeds):
        raise ValueError(
            f"The state must come from get_state() of a dataset of the same steps, with {len(seeds)} shuffles, got "
            f"{dict(state)!r}."
        )
    return {
        "pass": whole("pass", state["pass"], 0),
        "position": whole("position", state["position"], 0),
        "seeds": [whole_number(seed) for seed in state["seeds"]],
    }


# ---------------------------------------------------------------- sources


class _Rows(Dataset):
    def __init__(self, arrays: Any):
        super().__init__()
        self._arrays = _map_leaves(_as_rows, arrays, is_leaf=lambda part: isinstance(part, list) and _is_flat(part))
        lengths = {len(leaf) for leaf in _leaves(self._arrays)}
        if len(lengths) != 1:
            raise ValueError(f"All arrays of a dataset must have the same number of rows, got {sorted(lengths)}.")
        (self._count,) = lengths

    def _size(self) -> int:
        return self._count

    def _elements(self, key: _Key, start: int) -> Iterator[Any]:
        return map(self.pick, range(start, self._count))

    def _rows(self) -> _Rows:
        return self

    def _numbers(self, key: _Key, start: int) -> Iterator[int]:
        return iter(range(start, self._count))

    def pick(self, rows: Any) -> Any:
        """One row of each array, or for a list of numbers several ones."""
        return _map_leaves(lambda array: array[rows], self._arrays)


class _Generated(Dataset):
    def __init__(self, function: Callable[[], Iterable[Any]], length: int | None):
        super().__init__()
        self._function, self._length = function, length

    def _size(self) -> int:
        return UNKNOWN_CARDINALITY if self._length is None else self._length

    def _elements(self, key: _Key, start: int) -> Iterator[Any]:
        return itertools.islice(iter(self._function()), start, None)


class _Indexed(Dataset):
    def __init__(self, dataset: PyDataset):
        super().__init__()
        self._batches = dataset
        self._whole = False  # whether all of a pass was read, of which the dataset was not told

    def _size(self) -> int:
        size = self._batches.num_batches
        return INFINITE_CARDINALITY if size is None else size

    def _elements(self, key: _Key, start: int) -> Iterator[Any]:
        self._end()  # whoever counts does not read on to the end
        self._batches.on_epoch_begin()
        size = self._size()
        for index in itertools.count(start) if size < 0 else range(start, size):
            self._whole = index == size - 1
            yield self._batches[index]
        self._whole = True
        self._end()

    def _end(self) -> None:
        if self._whole:
            self._whole = False
            self._batches.on_epoch_end()


# ---------------------------------------------------------------- steps


class _Step(Dataset):
    """A step after another one; the names that its class annotates are its settings, in that order."""

    _source: Dataset

    def __init__(self, source: Dataset, *settings: Any):
        super().__init__(source)
        vars(self).update(zip(get_annotations(type(self)), settings, strict=False))


class _Mapped(_Step):
    _function: Callable[[Any], Any]
    _threads: int

    def _elements(self, key: _Key, start: int) -> Iterator[Any]:
        elements = self._source._elements(key, start)
        if self._threads == 1:
            return map(self._function, elements)
        return _ahead([self._function] * self._threads, 2 * self._threads, elements)

    def _computes_apart(self) -> bool:
        return self._threads != 1


class _Filtered(_Step):
    _predicate: Callable[[Any], Any]

    def _size(self) -> int:
        return UNKNOWN_CARDINALITY

    def _elements(self, key: _Key, start: int) -> Iterator[Any]:
        return itertools.islice(filter(self._predicate, self._source._elements(key, 0)), start, None)


class _Batched(_Step):
    _batch_size: int
    _drop: bool

    def batched_by(self) -> int | None:
        return self._batch_size

    def _size(self) -> int:
        size = self._source._size()
        if size < 0:
            return size
        return size // self._batch_size if self._drop else -(-size // self._batch_size)

    def _elements(self, key: _Key, start: int) -> Iterator[Any]:
        rows = self._source._rows()
        if rows is not None:  # each batch is one indexing of the arrays
            items: Iterator[Any] = self._source._numbers(key, start * self._batch_size)
        else:
            items = self._source._elements(key, start * self._batch_size)
        while True:
            batch = list(itertools.islice(items, self._batch_size))
            if not batch or (self._drop and len(batch) < self._batch_size):
                return
            yield _stack(batch) if rows is None else rows.pick(batch)


class _Unbatched(_Step):
    def batched_by(self) -> int | None:
        return None

    def _size(self) -> int:
        size = self._source._size()
        if size >= 0 and isinstance(self._source, _Batched):
            rows = self._source._source._size()
            return rows - rows % self._source._batch_size if self._source._drop else rows
        return size if size == INFINITE_CARDINALITY else UNKNOWN_CARDINALITY

    def _elements(self, key: _Key, start: int) -> Iterator[Any]:
        if isinstance(self._source, _Batched):  # whose batches are all full but for the last
            first, start = divmod(start, self._source._batch_size)
        else:
            first = 0
        rows = itertools.chain.from_iterable(map(_unstacked, self._source._elements(key, first)))
        return itertools.islice(rows, start, None)


class _Shuffled(_Step):
    def __init__(self, source: Dataset, buffer_size: int, seed: int | None, reshuffles: bool):
        super().__init__(source)
        self._buffer_size, self._reshuffles = buffer_size, reshuffles
        self._seed = next_seed() if seed is None else whole_number(seed)

    def _rows(self) -> _Rows | None:
        return self._source._rows()

    def _computes_apart(self) -> bool:
        return self._rows() is None

    def _numbers(self, key: _Key, start: int) -> Iterator[int]:
        return self._drawn(self._source._numbers(key, 0), key, start)

    def _elements(self, key: _Key, start: int) -> Iterator[Any]:
        rows = self._rows()
        if rows is not None:
            return map(rows.pick, self._numbers(key, start))
        return self._drawn(self._source._elements(key, 0), key, start)

    def _drawn(self, items: Iterator[Any], key: _Key, start: int) -> Iterator[Any]:
        """The items in the order of the pass, without the first `start` ones."""
        entropy = [self._seed % (1 << 64), *(key if self._reshuffles else ())]
        draws = _uniform(np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy))))
        buffer = list(itertools.islice(items, self._buffer_size))
        for item in items:
            place = int(next(draws) * len(buffer))
            drawn, buffer[place] = buffer[place], item
            if start:
                start -= 1
            else:
                yield drawn
        while buffer:
            place = int(next(draws) * len(buffer))
            drawn, last = buffer[place], buffer.pop()
            if place < len(buffer):
                buffer[place] = last
            if start:
                start -= 1
            else:
                yield drawn


class _Prefetched(_Step):
    _count: int

    def _elements(self, key: _Key, start: int) -> Iterator[Any]:
        elements = self._source._elements(key, start)
        return elements if self._count == 0 else _ahead([Iterated(elements, _same)], self._count, itertools.count())


class _Taken(_Step):
    _count: int

    def _size(self) -> int:
        size = self._source._size()
        if self._count < 0 or size == UNKNOWN_CARDINALITY:
            return size
        return self._count if size == INFINITE_CARDINALITY else min(size, self._count)

    def _elements(self, key: _Key, start: int) -> Iterator[Any]:
        stop = None if self._count < 0 else max(self._count - start, 0)
        return itertools.islice(self._source._elements(key, start), stop)


class _Skipped(_Step):
    _count: int

    def _size(self) -> int:
        size = self._source._size()
        if self._count < 0:
            return 0
        return size if size < 0 else max(size - self._count, 0)

    def _elements(self, key: _Key, start: int) -> Iterator[Any]:
        return iter(()) if self._count < 0 else self._source._elements(key, start + self._count)


class _Repeated(_Step):
    _count: int

    def _size(self) -> int:
        size = self._source._size()
        if self._count == 0 or size == 0:
            return 0
        if self._count < 0:
            return INFINITE_CARDINALITY
        return size if size < 0 else size * self._count

    def _elements(self, key: _Key, start: int) -> Iterator[Any]:
        size = self._source._size()
        first, start = divmod(start, size) if size > 0 else (0, start)
        for number in itertools.count(first) if self._count < 0 else range(first, self._count):
            found = 0
            for element in self._source._elements((*key, number), start if size > 0 else 0):
                found += 1
                if size > 0 or found > start:
                    yield element
            start = 0 if size > 0 else max(start - found, 0)
            if not found and number > first:
                return  # without elements there is no end to wait for


class _Cached(_Step):
    _items: list[Any] | None = None

    def _elements(self, key: _Key, start: int) -> Iterator[Any]:
        if self._items is not None:
            yield from itertools.islice(self._items, start, None)
            return
        items = []
        for element in self._source._elements(key, 0):
            items.append(element)
            if len(items) > start:
                yield element
        self._items = items


class _Chained(_Step):
    _other: Dataset

    def _size(self) -> int:
        sizes = self._source._size(), self._other._size()
        if INFINITE_CARDINALITY in sizes:
            return INFINITE_CARDINALITY
        return UNKNOWN_CARDINALITY if UNKNOWN_CARDINALITY in sizes else sum(sizes)

    def _elements(self, key: _Key, start: int) -> Iterator[Any]:
        size = self._source._size()
        if 0 <= size <= start:
            return self._other._elements(key, start - size)
        if size >= 0:
            return itertools.chain(self._source._elements(key, start), self._other._elements(key, 0))
        both = itertools.chain(self._source._elements(key, 0), self._other._elements(key, 0))
        return itertools.islice(both, start, None)

    def _steps(self) -> list[Dataset]:
        return [*self._source._steps(), *self._other._steps(), self]


class _Numbered(_Step):
    _first: int

    def _elements(self, key: _Key, start: int) -> Iterator[Any]:
        return iter(zip(itertools.count(self._first + start), self._source._elements(key, start), strict=False))


# ---------------------------------------------------------------- helpers


def _ahead(makers: list[Callable[[Any], Any]], count: int, tasks: Iterable[Any]) -> Iterator[Any]:
    reader = ReadAhead(makers, count, "the dataset")
    try:
        yield from reader.run(tasks)
    finally:
        reader.close()


def _uniform(generator: np.random.Generator) -> Iterator[float]:
    """Numbers between 0 and 1, many drawn at a time."""
    while True:
        yield from generator.random(256).tolist()


def _taking_elements(step: str, function: Callable[..., Any]) -> Callable[[Any], Any]:
    if not callable(function):
        raise ValueError(f"{step} takes a function of an element, got {function!r}.")
    return lambda element: function(*element) if isinstance(element, tuple) else function(element)


def _threads(parallel: int | None) -> int:
    if parallel is None:
        return 1
    return max(os.cpu_count() or 1, 1) if parallel == AUTOTUNE else whole("num_parallel_calls", parallel, 1)


def _same(element: Any) -> Any:
    return element


def _map_leaves(function: Callable[..., Any], part: Any, *others: Any, is_leaf: Callable | None = None) -> Any:
    """`function` of the leaves of tuples, lists and dicts, for several structures of the leaves at the same place."""
    if is_leaf is None or not is_leaf(part):
        if isinstance(part, Mapping):
            return {
                name: _map_leaves(function, value, *(other[name] for other in others), is_leaf=is_leaf)
                for name, value in part.items()
            }
        if isinstance(part, (tuple, list)):
            mapped = [_map_leaves(function, *parts, is_leaf=is_leaf) for parts in zip(part, *others, strict=True)]
            return tuple(mapped) if isinstance(part, tuple) else mapped
    return function(part, *others)


def _leaves(part: Any) -> list[Any]:
    found: list[Any] = []
    _map_leaves(found.append, part)
    return found


def _is_flat(values: list) -> bool:
    """Whether a list stands for one array: it holds no arrays."""
    return not any(hasattr(value, "__array__") or isinstance(value, (Mapping, tuple)) for value in values)


def _as_rows(array: Any) -> np.ndarray:
    rows = _plain(array)
    if rows.dtype.kind in "US":
        rows = rows.astype(object)
    if rows.ndim == 0:
        raise ValueError(f"A dataset is made of arrays with rows, got a {type(array).__name__} without an axis.")
    return rows


def _plain(leaf: Any) -> Any:
    if isinstance(leaf, (Tensor, HostArray)):
        return leaf.numpy()
    return leaf if isinstance(leaf, (np.ndarray, np.generic, str, bytes)) else np.asarray(leaf)


def _as_host_array(leaf: Any) -> Any:
    return leaf.view(HostArray) if type(leaf) is np.ndarray else leaf


def _stack(elements: list[Any]) -> Any:
    return _map_leaves(_stack_leaves, *elements)


def _stack_leaves(*leaves: Any) -> np.ndarray:
    if isinstance(leaves[0], (str, bytes)):
        stacked = np.empty(len(leaves), object)
        stacked[:] = leaves
        return stacked
    return np.stack([_plain(leaf) for leaf in leaves])


def _unstacked(batch: Any) -> Iterator[Any]:
    """The rows of a batch."""
    arrays = _map_leaves(_plain, batch)
    for row in range(len(_leaves(arrays)[0])):
        yield _map_leaves(lambda array: array[row], arrays)  # noqa: B023


offer_names(__name__)
