"""Every form of data becomes one stream of batches `(x, y, sample_weight)`."""

from __future__ import annotations

import copy
import itertools
import random
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from minikeras import config, tree
from minikeras import kernels as k
from minikeras.autodiff.strings import strings_in
from minikeras.autodiff.tensor import FLOATS, Tensor
from minikeras.lazy import LazyModule
from minikeras.seeds import next_seed
from minikeras.tracebacks import warn
from minikeras.training.ahead import Iterated, ReadAhead
from minikeras.training.foreign import as_array, is_array_like
from minikeras.training.worker import Pickled, Worker, pickled
from minikeras.utils.checks import number, shown, whole

states = LazyModule("minikeras.training.states")


class _Setting:
    """An attribute of a dataset; where that has not been told it has the default, with a warning.

    Args:
        default: the value.
        at_least: for a whole number the least that is allowed.
    """

    def __init__(self, default: Any, at_least: int | None = None):
        self._default, self._at_least = default, at_least

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, dataset: Any, owner: type) -> Any:
        if dataset is not None and self._name not in vars(dataset):
            warn(
                f"{owner.__name__}.__init__ does not call super().__init__(**kwargs), so it is used with "
                f"{self._name}={self._default}; call it there."
            )
            vars(dataset)[self._name] = self._default
        return self if dataset is None else vars(dataset)[self._name]

    def __set__(self, dataset: Any, value: Any) -> None:
        vars(dataset)[self._name] = value if self._at_least is None else whole(self._name, value, self._at_least)


class PyDataset:
    """A dataset of batches: subclass it with `__len__` (batches) and `__getitem__(index)` giving `(x, y)` or so.

    Training prepares its batches ahead of their use, in the order of their indices.

    Args:
        workers: how many batches are prepared at a time; 0 prepares each when it is needed, in the main thread.
        use_multiprocessing: prepare them in processes, each with a copy of the dataset, instead of threads; the dataset
            must be picklable, and the program guarded by `if __name__ == "__main__":` where its class is defined there.
        max_queue_size: how many batches are prepared beyond the one in use.

    >>> import numpy as np
    >>> import minikeras as keras
    >>> from minikeras import layers
    >>> class Ones(keras.utils.PyDataset):
    ...     def __len__(self):
    ...         return 3
    ...     def __getitem__(self, index):
    ...         return np.ones((4, 2)), np.ones((4, 1))
    ...
    >>> model = keras.Sequential([layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(Ones(), verbose=0)
    >>> len(history.epoch)
    1
    """

    workers, use_multiprocessing, max_queue_size = _Setting(1, 0), _Setting(False), _Setting(10, 0)

    def __init__(self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10):
        self.workers, self.use_multiprocessing, self.max_queue_size = workers, use_multiprocessing, max_queue_size

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define __getitem__; return the batch of that index.")

    def __iter__(self) -> Iterator[Any]:
        try:
            batches = self.num_batches
        except NotImplementedError:
            batches = None
        for index in itertools.count() if batches is None else range(batches):
            yield self[index]

    @property
    def num_batches(self) -> int | None:
        """How many batches there are; None for a dataset without an end.

        Raises:
            NotImplementedError: where a subclass defines neither `__len__` nor this.
        """
        if hasattr(self, "__len__"):
            return len(self)
        problem = f"{type(self).__name__} does not say how many batches it has"
        raise NotImplementedError(f"{problem}; define __len__, or the property num_batches.")

    def on_epoch_begin(self) -> None:
        """Called before each epoch."""

    def on_epoch_end(self) -> None:
        """Called after each epoch."""


def unpack_x_y_sample_weight(data: Any) -> tuple[Any, Any, Any]:
    """The parts of a batch: `x`, `(x,)`, `(x, y)` or `(x, y, sample_weight)`; what is absent is None.

    Args:
        data: a batch: x, (x,), (x, y) or (x, y, sample_weight).

    >>> import minikeras as keras
    >>> keras.utils.unpack_x_y_sample_weight((1, 2))
    (1, 2, None)
    """
    if isinstance(data, list):
        data = tuple(data)
    if not isinstance(data, tuple):
        return data, None, None
    if not 1 <= len(data) <= 3:
        raise ValueError(f"A batch is x, (x, y) or (x, y, sample_weight), got a tuple of {len(data)}.")
    return (*data, None, None)[:3]  # type: ignore[return-value]


def pack_x_y_sample_weight(x: Any, y: Any = None, sample_weight: Any = None) -> Any:
    """The shortest of `x`, `(x, y)` and `(x, y, sample_weight)` that holds them.

    >>> import minikeras as keras
    >>> keras.utils.pack_x_y_sample_weight(1, 2)
    (1, 2)
    """
    if sample_weight is not None:
        return x, y, sample_weight
    return (x, y) if y is not None else (x if not isinstance(x, (list, tuple)) else (x,))


_USUAL_BATCH = 32


def _is_array(value: Any) -> bool:
    return is_array_like(value) and not isinstance(value, (int, float, bool, np.generic))


def _is_structure(data: Any) -> bool:
    """Whether this is a list or tuple of several arrays, some of which may be absent or structures themselves."""
    if not isinstance(data, (list, tuple)):
        return False
    parts = [item for item in data if item is not None]
    return bool(parts) and all(isinstance(one, Mapping) or _is_array(one) or _is_structure(one) for one in parts)


def to_arrays(data: Any, role: str) -> Any:
    """A structure of arrays from arrays, lists and dicts of them, and arrays and tables of other libraries.

    Floats become `floatx()`; a list of numbers or of lists of numbers is one array.  Inputs may be strings too.

    Raises:
        ValueError: for what is neither.
    """
    if data is None:
        return None
    if isinstance(data, Mapping):
        return {key: to_arrays(value, role) for key, value in data.items()}
    array = data.data if isinstance(data, Tensor) else data
    if role == "x" and (type(array) not in (np.ndarray, k.xp.ndarray) or array.dtype.kind in "OSTU"):
        text = strings_in(array)
        if text is not None and text.ndim:
            return text
    if isinstance(data, (list, tuple)) and _is_structure(data):
        arrays = [to_arrays(item, role) for item in data]
        return type(data)(*arrays) if hasattr(data, "_fields") else type(data)(arrays)
    if not isinstance(array, (np.ndarray, k.xp.ndarray)):
        if isinstance(array, (list, tuple)) or not is_array_like(array):
            try:
                array = np.asarray(array)
            except ValueError as error:
                raise ValueError(f"{role} is no array of numbers: a {type(data).__name__} of unequal parts.") from error
        else:
            array = as_array(array, role)
    elif isinstance(array, np.ndarray) and type(array) is not np.ndarray:
        array = array.view(np.ndarray)  # of a kind that would also change what is computed from it
    if array.dtype.kind not in "fiub" and array.dtype.char not in FLOATS:
        raise ValueError(f"{role} must hold numbers, got an array of type {array.dtype}; encode it first.")
    if array.ndim == 0:
        raise ValueError(f"{role} must have a batch axis, got a single number.")
    if array.dtype.char in FLOATS and array.dtype != config.floatx():
        array = array.astype(config.floatx())
    return array


def only_batch(x: Any, batch_size: Any) -> Any:
    """The array as `to_arrays` has it, where it is one of NumPy and all of it one batch; None where a stream is needed.

    Args:
        batch_size: what the user gave, unchecked.
    """
    if type(x) is not np.ndarray or x.ndim == 0 or not (batch_size is None or type(batch_size) is int):
        return None
    if not 0 < len(x) <= (_USUAL_BATCH if batch_size is None else batch_size):
        return None
    return x if x.dtype == config.floatx() else to_arrays(x, "x")


def batch_length(data: Any) -> int:
    """The number of samples in a batch's first array."""
    if type(data) is np.ndarray:
        return len(data)
    return next(int(leaf.shape[0]) for leaf in tree.flatten(data) if leaf is not None)


def checked_class_weight(class_weight: Any, classes: Collection[int] | None = None) -> dict[int, float]:
    """A weight for each class by its number, in Python's types.

    Args:
        class_weight: what `fit` was given.
        classes: the classes there are, where these are known.

    Raises:
        ValueError: for what is no dict, a class that does not exist, or a weight that is no finite number.
    """
    if not isinstance(class_weight, Mapping):
        raise ValueError(f"class_weight must be a dict of weights by class numbers, got {shown(class_weight)}.")
    found = {}
    for one, weight in class_weight.items():
        label = whole("A class in class_weight", one, floats=True)
        found[label] = number(f"class_weight[{label}]", weight)
    if classes is not None:
        _refuse_classes([one for one in found if one not in classes], classes)
    return found


def _refuse_classes(unknown: list[int], classes: Collection[int] | None) -> None:
    if unknown:
        there = "which the labels do not have" if classes is None else f"which are {min(classes)} to {max(classes)}"
        raise ValueError(f"class_weight must name classes, {there}, got {sorted(unknown)}; leave these out.")


def class_weights_of(
    y: Any, class_weight: Any, classes: Collection[int] | None = None, whole_data: bool = True
) -> np.ndarray:
    """One weight per sample from its class (integer labels, or one-hot rows); a class without weight counts 1.

    Args:
        y: the labels.
        class_weight: weight of each class, by its number.
        classes: the classes there are, where these are known otherwise than by `y`.
        whole_data: whether `y` has all labels, so that a class that it does not have is none.

    Raises:
        ValueError: for several outputs, and as `checked_class_weight` does.
    """
    class_weight = checked_class_weight(class_weight)
    if len(tree.flatten(y)) != 1:
        raise ValueError("class_weight works with a single output; pass sample_weight for several outputs.")
    labels = k.to_host(tree.flatten(y)[0])
    if labels.ndim > 1 and labels.shape[-1] > 1:
        classes = range(labels.shape[-1])
        labels = labels.argmax(axis=-1)
    labels = np.round(labels.reshape(len(labels), -1)[:, 0]).astype(np.int64)
    present, places = np.unique(labels, return_inverse=True)
    if whole_data or classes is not None:
        known = {*present.tolist(), *(classes or ())}
        _refuse_classes([one for one in class_weight if one not in known], classes)
    weights = np.array([class_weight.get(int(one), 1.0) for one in present], dtype=config.floatx())
    return weights[places]


def check_sample_weight(sample_weight: Any) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        ValueError: with the first place of one.
    """
    for leaf in [] if sample_weight is None else tree.flatten(sample_weight):
        if leaf is not None and leaf.dtype.kind == "f":
            weights = k.to_host(leaf)
            if not np.isfinite(weights).all():
                where = tuple(int(i) for i in np.argwhere(~np.isfinite(weights))[0])
                problem = f"sample_weight must be finite, got {weights[where]} for sample {where[0]}"
                raise ValueError(f"{problem}; replace it.")


def as_batch(
    x: Any, y: Any, sample_weight: Any, class_weight: Any = None, classes: Any = None, whole_data: bool = False
) -> tuple[Any, Any, Any]:
    """`x`, `y` and the weights of the samples as arrays, the weights by the classes where `class_weight` is given.

    Args:
        classes, whole_data: as for `class_weights_of`.

    Raises:
        ValueError: for what are no numbers, weights that are not finite, and weights of classes without labels or
            beside those of samples.
    """
    x, y, sample_weight = to_arrays(x, "x"), to_arrays(y, "y"), to_arrays(sample_weight, "sample_weight")
    if class_weight is not None:
        if sample_weight is not None:
            raise ValueError("class_weight and sample_weight cannot be combined, got both; multiply them yourself.")
        if y is None:
            raise ValueError("class_weight needs labels, got y=None.")
        if whole_data:
            check_lengths(x, y, None)
        sample_weight = class_weights_of(y, class_weight, classes, whole_data)
    check_sample_weight(sample_weight)
    return x, y, sample_weight


class ArrayStream:
    """Batches of arrays in memory, shuffled by a new permutation in each pass.

    Args:
        x, y, sample_weight: the arrays.
        batch_size: default 32, or with `steps` what makes that many batches of the data.
        shuffle: whether they are shuffled; `"batch"` does it within each batch.
        steps: batches in an epoch, default all.

    Attributes:
        arrays: all of x, y and the sample weights.
    """

    ended = False

    def __init__(
        self, x: Any, y: Any, sample_weight: Any, batch_size: int | None, shuffle: Any, steps: int | None = None
    ):
        self.arrays = (x, y, sample_weight)
        self.samples = check_lengths(x, y, sample_weight)
        self.batch_size = whole("batch_size", batch_size, 1, optional=True)
        if self.batch_size is None:
            self.batch_size = _USUAL_BATCH if steps is None else -(-self.samples // steps)
        self._batches = -(-self.samples // self.batch_size)
        self.steps = self._batches if steps is None else steps
        self._shuffle = shuffle
        # buffers for the batches; one that somebody keeps is not written again
        self._arena = k.Arena()
        self._rng: np.random.Generator | None = None
        self._ongoing: Pass | None = None  # a pass that the epochs to come go on with
        self._first = 0  # the batch of the pass that the epoch began with
        self._before: Any = None  # the random state that the order of the pass was drawn from
        self._done = 0  # batches of the epoch that a training that was broken off has had

    def epoch(self) -> Pass:
        """The first `steps` batches, as far as there are that many."""
        return self._pass().up_to(min(self.steps, self._batches))

    def training_epoch(self) -> Pass:
        """The next `steps` batches; an epoch ends with the data, and the one after it begins the data anew."""
        if self._ongoing is None or self._ongoing.at >= self._batches:
            self._ongoing = self._pass()
        done, self._done = self._done, 0
        self._first = self._ongoing.at - done
        return self._ongoing.up_to(min(self._ongoing.at + self.steps - done, self._batches))

    def get_state(self, done: int) -> dict[str, Any]:
        """Where the data is after `done` batches of the epoch, before it for 0, as plain data."""
        begun = self._ongoing is not None and self._ongoing.at < self._batches
        place = self._first + done if done else self._ongoing.at if begun else 0  # type: ignore[union-attr]
        return {"place": place, "random": self._before if done or begun else self._random()}

    def set_state(self, state: dict[str, Any], done: int) -> None:
        """Let the next `training_epoch` go on where `get_state` was called."""
        self.close()
        if state["random"] is not None:
            self._rng = np.random.Generator(np.random.Philox(0))
            self._rng.bit_generator.state = state["random"]
        self._done = done
        if done or state["place"]:
            self._ongoing = self._pass(state["place"])

    def random_states(self) -> dict[str, Any]:
        """See `BatchStream`; nothing of these is prepared ahead with the process's generators."""
        return {}

    def _random(self) -> Any:
        return None if self._rng is None else self._rng.bit_generator.state

    def first_batch(self) -> tuple[Any, Any, Any]:
        """The first batch in the order of the data, whatever the order of the epochs is."""
        return self._batch(slice(0, self.batch_size), [])

    def last_batch(self) -> tuple[Any, Any, Any]:
        """As many of the last samples."""
        return self._batch(slice(max(self.samples - self.batch_size, 0), self.samples), [])

    def _pass(self, first: int = 0) -> Pass:
        """The batches from number `first` on, in a new order where they are shuffled."""
        if self._shuffle and self._rng is None:
            self._rng = np.random.Generator(np.random.Philox(key=next_seed()))
        self._before = self._random()
        return Pass(self, self._order(), first)

    def _batch(self, pick: Any, unfinished: list[Callable[[], None]]) -> Any:
        """The rows `pick` of all arrays; what must be called before they are read is added to `unfinished`."""

        def take(leaf: Any) -> Any:
            return None if leaf is None else self._take(leaf, pick, unfinished)

        plain = (np.ndarray, type(None))
        return tuple([take(one) if isinstance(one, plain) else tree.map_structure(take, one) for one in self.arrays])

    def _order(self) -> np.ndarray | None:
        if self._rng is None:
            return None
        if self._shuffle == "batch":
            order = np.arange(self.samples)
            for start in range(0, self.samples, self.batch_size):
                self._rng.shuffle(order[start : start + self.batch_size])
            return order
        return self._rng.permutation(self.samples)

    def _take(self, array: Any, pick: Any, unfinished: list[Callable[[], None]]) -> Any:
        if isinstance(pick, slice) or array.dtype.kind == "O":
            return array[pick]
        if not isinstance(array, np.ndarray):
            return array[k.to_device(pick)]
        out = self._arena.take(np, (len(pick), *array.shape[1:]), array.dtype) if k.xp is np else None
        rows, finish = k.gather(array, pick, out)
        if finish is not None:
            unfinished.append(finish)
        return rows

    def on_epoch_end(self) -> None:
        """Nothing to do: arrays do not change."""

    def close(self) -> None:
        """Let go of the batch that was begun for an epoch to come."""
        if self._ongoing is not None:
            self._ongoing.close()
            self._ongoing = None


class Pass:
    """A pass over the batches of arrays, each of which is begun while the one before is in use.

    Args:
        stream: whose batches.
        order: the numbers of the rows in their order, None where that of the data is kept.
        at: the number of the first batch.

    Attributes:
        at: the number of the next batch.
    """

    def __init__(self, stream: ArrayStream, order: np.ndarray | None, at: int):
        self._stream, self._order, self.at = stream, order, at
        self.size = stream.batch_size
        self.end = at
        self._begun: Any = None  # the batch that is next
        self._unfinished: list[Callable[[], None]] = []  # what must be called before it is read

    def up_to(self, end: int) -> Pass:
        """Itself, to end before a batch."""
        self.end = end
        return self

    def __iter__(self) -> Pass:
        return self

    def __next__(self) -> tuple[Any, Any, Any]:
        if self.at >= self.end:
            raise StopIteration
        if self._begun is None:
            self._begin()
        batch, self._begun = self._begun, None
        self._finish()
        self.at += 1
        if self.at < self._stream._batches:
            self._begin()
        return batch

    def _begin(self) -> None:
        first = self.at * self._stream.batch_size
        cut = slice(first, min(first + self._stream.batch_size, self._stream.samples))
        try:
            self._begun = self._stream._batch(cut if self._order is None else self._order[cut], self._unfinished)
        except BaseException:
            self._finish()
            raise

    def _finish(self) -> None:
        while self._unfinished:
            self._unfinished.pop()()

    def whole(self) -> int:
        """How many batches of the full size come next."""
        return max(min(self.end, self._stream.samples // self._stream.batch_size) - self.at, 0)

    def take(self, count: int) -> np.ndarray:
        """The numbers of the rows of the next so many batches, one after the other, which are not handed out then."""
        first, end = (number * self._stream.batch_size for number in (self.at, self.at + count))
        self.close()
        self.at += count
        return np.arange(first, end) if self._order is None else self._order[first:end]

    def give_back(self, count: int) -> None:
        """Have the last so many batches that were taken come once more."""
        self.at -= count

    def close(self) -> None:
        """Let go of what was begun: whoever reads no further must not leave a buffer that is still written to."""
        self._finish()
        self._begun = None

    __del__ = close


def check_lengths(x: Any, y: Any, sample_weight: Any) -> int:
    """The common number of samples.

    Raises:
        ValueError: where the arrays differ in length or are empty.
    """
    if type(x) is type(y) is np.ndarray and sample_weight is None and len(x) == len(y) > 0:
        return len(x)
    lengths: dict[str, list[int]] = {}
    for role, part in (("x", x), ("y", y), ("sample_weight", sample_weight)):
        for leaf in tree.flatten(part):
            if leaf is not None:
                lengths.setdefault(role, []).append(int(leaf.shape[0]))
    counts = {count for found in lengths.values() for count in found}
    if len(counts) > 1:
        text = ", ".join(f"{role} {'/'.join(map(str, found))}" for role, found in lengths.items())
        raise ValueError(f"All data must have the same number of samples, got {text}.")
    if not counts or counts == {0}:
        raise ValueError("The data is empty, got 0 samples; pass at least one.")
    return counts.pop()


class BatchStream:
    """Batches that somebody else makes: a `PyDataset`, a generator, or any iterable of batches.

    They are prepared ahead of their use, by `workers` threads or processes for a dataset with indices and by one thread
    for anything else, and never beyond the epoch that they belong to.

    Args:
        source: what makes them.
        steps: batches in an epoch, default all.
        class_weight: weight of each class.
        classes: the classes there are, where these are known.
        shuffle: a new order of the indices in each pass.
        workers, use_multiprocessing, max_queue_size: as for `PyDataset`, whose attributes are the defaults.
        wraps: whether an epoch with more batches than the dataset begins it again.
    """

    arrays = samples = None

    def __init__(
        self,
        source: Any,
        steps: int | None,
        class_weight: Any = None,
        shuffle: bool = False,
        workers: int | None = None,
        use_multiprocessing: bool | None = None,
        max_queue_size: int | None = None,
        wraps: bool = False,
        classes: Collection[int] | None = None,
    ):
        self._source = source
        self._name = type(source).__name__
        self._class_weight = None if class_weight is None else checked_class_weight(class_weight, classes)
        once = hasattr(source, "__next__")
        indexed = hasattr(source, "__getitem__") and hasattr(source, "__len__") and not once
        self._indexed = isinstance(source, PyDataset) or indexed
        self._renews = self._indexed or not once  # whether it can be begun anew
        self._shuffle = shuffle and self._indexed
        self._wraps = wraps
        self._length = self._count()
        self._given_steps = steps
        queue_size = _first(max_queue_size, getattr(source, "max_queue_size", None), 10)
        self._workers = whole("workers", _first(workers, getattr(source, "workers", None), 1), 0)
        self._processes = bool(_first(use_multiprocessing, getattr(source, "use_multiprocessing", None), False))
        self._queue_size = whole("max_queue_size", queue_size, 0)
        self._position: Iterator[Any] | None = None  # the indices or batches of a pass that epochs share
        self._ahead: ReadAhead | None = None
        self._read: Iterator[Any] | None = None  # the iterator that its thread reads
        self._pickled = Pickled()
        self._held: list[Any] = []  # the first batch of the epoch to come, where it has been looked at
        self.ended = False  # an iterator that has given all it had
        # for a training that can be broken off: see `remember`
        # of each batch that is prepared and not taken, and of the last that was: states of the process's random
        # generators and of the source, as they were when it had been prepared
        self._marks: deque[tuple[dict[str, Any], Any]] | None = None
        self._mark: tuple[dict[str, Any], Any] | None = None
        self._drawn: list[str] | None = None  # which of the process's generators the thread draws from
        self._tasks: list[int] | None = None  # the indices of the epoch's batches
        self._done = 0  # batches of the epoch that were taken before the training was broken off
        self._attributes: Any = None
        self._functions: Any = None  # what a `Dataset` is told to call, until a warning is given
        self._source_state: Any = None  # what the source was when the epoch began

    def _count(self) -> int | None:
        """How many batches the source has, as far as it says."""
        if isinstance(self._source, PyDataset):
            length = self._source.num_batches
        else:
            try:
                length = len(self._source)
            except TypeError:  # it has no length, or no end
                length = None
        if length == 0:
            raise ValueError(f"The data is empty, got a {self._name} of 0 batches.")
        return length

    @property
    def steps(self) -> int | None:
        """Batches in an epoch, as far as that is known."""
        return self._length if self._given_steps is None else self._given_steps

    @steps.setter
    def steps(self, value: int) -> None:
        self._given_steps = value

    def epoch(self) -> Iterator[tuple[Any, Any, Any]]:
        """The first `steps` batches, for evaluation; what cannot be begun anew goes on."""
        if self._held:
            held, self._held = self._held, []
            return itertools.chain(held, self._batches(len(held)))
        if self._renews:
            self._position = None
        return self.training_epoch()

    def first_batch(self) -> tuple[Any, Any, Any] | None:
        """The first batch of the next `epoch`, which is not lost by it; None where there is none."""
        if not self._held:
            if self._renews:
                self._position = None
            self._begin()
            steps, self._given_steps = self._given_steps, 1
            try:
                self._held = list(self._batches())
            finally:
                self._given_steps = steps
        return self._held[0] if self._held else None

    def training_epoch(self) -> Iterator[tuple[Any, Any, Any]]:
        """The next `steps` batches: where an epoch is only a part of the data, the next one takes the next part."""
        if self._done:
            done, self._done = self._done, 0
            return self._batches(done)
        self._begin()
        if self._marks is not None and self._indexed and not hasattr(self._source, "state_after"):
            self._source_state = copy.deepcopy(self._state_of_source())
        return self._batches()

    def _begin(self) -> None:
        getattr(self._source, "on_epoch_begin", _nothing)()
        self._length = self._count()
        if self._given_steps is None and self._renews:
            self._position = None

    def _batches(self, taken: int = 0) -> Iterator[tuple[Any, Any, Any]]:
        """The batches of an epoch, but for the first `taken`, which somebody has."""
        return self._indexed_epoch(taken) if self._indexed else self._iterated_epoch(taken)

    def _indexed_epoch(self, taken: int) -> Iterator[Any]:
        if taken and self._tasks is not None:
            return self._prepared(self._tasks[taken:])
        fresh = self._position is None
        if self._position is None:
            self._position = self._indices()
        steps = None if self.steps is None else self.steps - taken
        tasks = list(itertools.islice(self._position, steps)) if steps is not None else self._position
        if isinstance(tasks, list) and steps is not None:
            while (not tasks and steps and not fresh) or (self._wraps and len(tasks) < steps):
                fresh, self._position = True, self._indices()
                tasks += itertools.islice(self._position, steps - len(tasks))
            if len(tasks) < steps:
                self._position = None
            self._tasks = tasks if self._marks is not None else None
        return self._prepared(tasks)

    def _indices(self) -> Iterator[int]:
        if self._length is None:
            return iter(range(sys.maxsize))
        order = list(range(self._length))
        if self._shuffle:
            random.shuffle(order)
        return iter(order)

    def _iterated_epoch(self, taken: int) -> Iterator[Any]:
        while True:
            fresh = self._position is None
            if self._position is None:
                self._position = iter(self._source)
            tasks: Iterable[int] = itertools.count() if self.steps is None else range(self.steps - taken)
            count = taken
            for batch in self._prepared(tasks, self._position):
                count += 1
                yield batch
            if count == self.steps:
                return
            self.ended = not self._renews
            self._position = self._source if self.ended else None
            if fresh or count or self.ended:
                return

    def _prepared(self, tasks: Iterable[int], iterator: Iterator[Any] | None = None) -> Iterator[Any]:
        """The batches of these indices, or the next ones of an iterator."""
        if self._workers < 1:
            self._mark = None  # nothing is prepared ahead of its use
            return map(self._take if iterator is None else Iterated(iterator, self._standardize), tasks)
        if self._processes and iterator is None:
            self._send()  # or find out that there can be no processes
        return (self._marked if self._has_marks(iterator) else self._read_ahead)(tasks, iterator)

    def _read_ahead(self, tasks: Iterable[int], iterator: Iterator[Any] | None) -> Iterator[Any]:
        if iterator is not None and self._read is not iterator:  # an iterator is only ever read by one thread
            self.close()
            self._ahead = ReadAhead([self._making(iterator)], self._queue_size, self._name)
            self._read = iterator
        if self._ahead is None:
            makers: list[Callable[[int], Any]] = [self._making(None)] * self._workers
            if self._processes:
                makers = [Worker(lambda: self._pickled, self._name, self._standardize) for _ in makers]
            self._ahead = ReadAhead(makers, self._queue_size, self._name)
        return self._ahead.run(tasks)

    def _making(self, iterator: Iterator[Any] | None) -> Callable[[int], Any]:
        """What makes a batch in a thread: of an index, or the next one of an iterator."""
        make = self._take if iterator is None else Iterated(iterator, self._standardize)
        if not self._has_marks(iterator):
            return make
        holder: Any = iterator if hasattr(iterator, "get_state") else self._source
        tell: Any = getattr(holder, "get_state", getattr(self._attributes, "passing", None))
        tell = None if hasattr(holder, "state_after") else tell

        def make_and_mark(task: int) -> Any:
            before = states.random_states() if self._drawn is None else {}
            batch = make(task)
            if self._drawn is None:  # the first of the epoch, which the main thread waits for without drawing anything
                self._drawn = states.changed(before, states.random_states())
            state = None if tell is None else copy.deepcopy(tell())
            self._marks.append((states.random_states(self._drawn), state))  # type: ignore[union-attr]
            return batch

        return make_and_mark

    def _has_marks(self, iterator: Iterator[Any] | None) -> bool:
        """Whether batches get marks: those that one thread prepares."""
        return self._marks is not None and (iterator is not None or (self._workers == 1 and not self._processes))

    def _marked(self, tasks: Iterable[int], iterator: Iterator[Any] | None) -> Iterator[Any]:
        """The batches that one thread prepares; with each that is taken its mark."""
        assert self._marks is not None
        self._marks.clear()
        self._drawn = None
        for batch in self._read_ahead(tasks, iterator):
            self._mark = self._marks.popleft()
            yield batch

    def _take(self, index: int) -> Any:
        return self._standardize(self._source[index])

    def _send(self) -> None:
        """Have the worker processes get the dataset as it is now."""
        data = pickled(self._source)
        if isinstance(data, Exception):
            warn(
                f"{self._name} cannot be sent to worker processes ({data}), so its batches are prepared in threads; "
                "let it be picklable."
            )
            self._processes = False
        elif not data.same(self._pickled):
            self._pickled = data

    def _standardize(self, batch: Any) -> tuple[Any, Any, Any]:
        x, y, sample_weight = unpack_x_y_sample_weight(batch)
        if x is None:
            problem = f"A batch is x, (x, y) or (x, y, sample_weight), got {shown(batch)} from the {self._name}"
            raise ValueError(f"{problem}; let it yield arrays.")
        return as_batch(x, y, sample_weight, self._class_weight)

    # ------------------------------------------------------------ for a training that can be broken off

    def refuse(self, validates: bool) -> None:
        """Refuse a source that cannot be read again from where a training was broken off.

        Args:
            validates: whether it is only read for validation, from its beginning each time.

        Raises:
            ValueError: with the remedy.
        """
        once = not self._renews or not (self._indexed or validates)
        if once and not (hasattr(self._source, "get_state") and hasattr(self._source, "set_state")):
            raise ValueError(
                f"A training that is to be resumed cannot read a {self._name} again from where it was; pass arrays, a "
                "PyDataset, Dataset.from_generator(function), or an iterator with get_state() and set_state(state)."
            )
        unordered = self._processes or self._workers > 1
        if unordered and hasattr(self._source, "state_after") and self._source.seed is None:
            raise ValueError(
                f"A training that is to be resumed needs a {self._name} whose batches are the same in any order, got "
                "seed=None with several workers; pass a seed, or workers=1."
            )

    def remember(self, within: bool, apart: Mapping[int, Any]) -> None:
        """Keep, from now on, what `get_state` needs, also `within` an epoch; for `apart` see `Attributes`."""
        self._marks = deque() if within else None
        if self._indexed and not hasattr(self._source, "get_state"):
            self._attributes = states.Attributes(self._source, lambda name: True, apart=apart)
        elif hasattr(type(self._source), "draws_again"):
            self._functions = states.Attributes(SimpleNamespace(functions=self._source.functions()), apart=apart)

    def _tell_of_functions(self) -> None:
        """Warn, once, where the functions of a `Dataset` do not do again what they have done."""
        if self._functions is not None and (
            self._functions.has_changed() or (self._drawn and self._source.draws_again())
        ):
            self._functions = None
            warn(
                "What a Dataset calls draws random numbers or keeps a state that a resumed training does not find "
                "again, so it will not go on bit for bit; draw from NumPy's or Python's global generator in a map that "
                "no prefetch, cache, filter or unbatch comes after and any shuffle comes before, or pass a "
                "PyDataset itself."
            )

    def sample(self) -> Any:
        """A batch to try things on, None where there is none; `set_state` then says where the data is."""
        before = None if self._attributes is None else self._attributes.passing()
        found = self._source[0] if self._indexed else next(iter(self._source), None)
        if before is not None:
            self._attributes.put_back(before)  # type: ignore[union-attr]
        return None if found is None else self._standardize(found)

    def random_states(self) -> dict[str, Any]:
        """The states, after the last batch that was taken, of the generators that batches are prepared ahead with."""
        return {} if self._mark is None else self._mark[0]

    def get_state(self, done: int) -> dict[str, Any]:
        """Where the data is after `done` batches of the epoch, before it for 0, as plain data."""
        self._tell_of_functions()
        rest: Any = None
        if self._indexed and self._position is not None:
            coming = copy.copy(self._position)
            known = not done or self._tasks is not None
            rest = [*coming] if self._length is not None else next(coming, 0) if known else done
        state = {"tasks": self._tasks if done else None, "rest": rest, "source": self._state_of_source(done)}
        return {**state, "held": bool(self._held), "begun": self._position is not None}

    def _state_of_source(self, done: int = 0) -> Any:
        """What the source is after so many batches of the epoch."""
        source: Any = self._source
        if not self._indexed and hasattr(self._position, "get_state"):
            source = self._position
        if done and self._tasks is not None and hasattr(source, "state_after"):
            return source.state_after(self._tasks[:done])
        if done and self._mark is not None:
            return self._mark[1] if self._attributes is None else states.joined(self._source_state, self._mark[1])
        if done and self._workers > 0 and self._indexed:
            return self._source_state
        if self._attributes is not None:
            return self._attributes.state(tells=True)
        tell = (self._position is None and getattr(source, "_start", None)) or getattr(source, "get_state", None)
        return None if tell is None else tell()

    def set_state(self, state: dict[str, Any], done: int) -> None:
        """Let the next epoch go on where `get_state` was called."""
        if done:
            getattr(self._source, "on_epoch_begin", _nothing)()
        self._done, self._source_state = done, state["source"]
        if self._attributes is not None:
            self._attributes.put_back(state["source"])
        if state["held"]:
            return  # the first batch of the data has been looked at, here too
        self._held = []
        if hasattr(self._source, "set_state"):
            self._source.set_state(state["source"])
        self._tasks, self._position = state["tasks"], None
        if state["begun"]:
            endless = isinstance(state["rest"], int)
            rest = range(state["rest"], sys.maxsize) if endless else state["rest"]
            self._position = iter(rest if self._indexed else self._source)

    def on_epoch_end(self) -> None:
        getattr(self._source, "on_epoch_end", _nothing)()

    def close(self) -> None:
        """End the threads and processes that prepare batches."""
        if self._ahead is not None:
            ahead, self._ahead, self._read = self._ahead, None, None
            ahead.close()


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def _nothing() -> None:
    """There is nothing to tell."""


def is_batch_source(x: Any) -> bool:
    """Whether `x` brings its own batches: a dataset, generator or other iterable that is not array data."""
    if isinstance(x, PyDataset) or hasattr(x, "__next__"):
        return True
    if x is None or isinstance(x, (list, tuple, Mapping, np.ndarray, Tensor, str)) or is_array_like(x):
        return False
    return hasattr(x, "__iter__") or (hasattr(x, "__getitem__") and hasattr(x, "__len__"))


def make_stream(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    batch_size: int | None = None,
    steps: int | None = None,
    shuffle: Any = False,
    class_weight: Any = None,
    classes: Collection[int] | None = None,
    **preparation: Any,
) -> ArrayStream | BatchStream:
    """The stream for whatever was passed to `fit`, `evaluate` or `predict`.

    Args:
        classes: the classes there are, where these are known.
        preparation: further arguments of `BatchStream`, without meaning for arrays.

    Raises:
        ValueError: for data that is empty, of unequal lengths, not numbers, or given twice.
    """
    if is_batch_source(x):
        for name, value in (("y", y), ("sample_weight", sample_weight)):
            if value is not None:
                raise ValueError(f"x brings its own batches ({type(x).__name__}), got {name} too; let x yield it.")
        return _limited(BatchStream(x, steps, class_weight, shuffle=bool(shuffle), classes=classes, **preparation))
    if x is None:
        raise ValueError("x is missing, got None; pass arrays, a dataset or a generator.")
    arrays = as_batch(x, y, sample_weight, class_weight, classes, whole_data=True)
    return _limited(ArrayStream(*arrays, batch_size, shuffle, steps))


def _limited(stream: Any) -> Any:
    """A stream with no more batches in an epoch than `config.max_steps_per_epoch` allows."""
    limit = config.max_steps_per_epoch()
    if limit is not None and (stream.steps is None or stream.steps > limit):
        warn(f"An epoch is limited to {limit} batches; config.set_max_steps_per_epoch(None) removes the limit.")
        stream.steps = limit
    return stream


def split_validation(arrays: tuple[Any, Any, Any], fraction: float) -> tuple[tuple, tuple]:
    """The last `fraction` of the samples, before any shuffling, for validation: (training part, validation part)."""
    fraction = number("validation_split", fraction, above=0, below=1)
    samples = check_lengths(*arrays)
    at = int(samples * (1 - fraction))
    if at in (0, samples):
        raise ValueError(f"validation_split={fraction} of {samples} samples leaves one part empty; pass more data.")

    def part(pick: slice) -> tuple:
        return tuple(tree.map_structure(lambda leaf: None if leaf is None else leaf[pick], one) for one in arrays)

    return part(slice(None, at)), part(slice(at, None))
