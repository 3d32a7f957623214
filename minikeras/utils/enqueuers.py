"""Batches prepared ahead of their use under Keras 2's names, for programs that ask for them without `fit`."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

from minikeras.training.ahead import Iterated, ReadAhead
from minikeras.training.worker import Pickled, Worker, pickled
from minikeras.utils.checks import whole


class SequenceEnqueuer:
    """The base of the enqueuers: `start`, then batches from `get`, then `stop`.

    Args:
        sequence: what makes the batches.
        use_multiprocessing: whether processes make them instead of threads.
    """

    def __init__(self, sequence: Any, use_multiprocessing: bool = False):
        self.sequence, self.use_multiprocessing = sequence, use_multiprocessing
        self._ahead: ReadAhead | None = None

    def start(self, workers: int = 1, max_queue_size: int = 10) -> None:
        """Begin to prepare batches.

        Args:
            workers: how many are made at a time.
            max_queue_size: how many are prepared beyond the one in use.
        """
        self.stop()
        makers = self._makers(whole("workers", workers, 1))
        self._ahead = ReadAhead(makers, whole("max_queue_size", max_queue_size, 1), type(self.sequence).__name__)

    def is_running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._ahead is not None

    def get(self) -> Iterator[Any]:
        """The batches, in order.

        Raises:
            RuntimeError: where it was not started.
            Exception: what the sequence raised.
        """
        if self._ahead is None:
            raise RuntimeError(f"{type(self).__name__}.get() needs start() before it.")
        for tasks in self._passes():
            yield from self._ahead.run(tasks)
            if self._ahead is None:
                return

    def stop(self, timeout: float | None = None) -> None:
        """End all threads and processes.

        Args:
            timeout: accepted for familiarity.
        """
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            ahead.close()

    join = stop

    def _makers(self, workers: int) -> list[Callable[[Any], Any]]:
        raise NotImplementedError("A SequenceEnqueuer is the base of others; use an OrderedEnqueuer.")

    def _passes(self) -> Iterator[Any]:
        """The tasks of each pass over the data."""
        yield itertools.count()


class OrderedEnqueuer(SequenceEnqueuer):
    """The batches of a `PyDataset` in the order of their indices, one epoch after the other without end.

    Args:
        sequence: the dataset; its `on_epoch_end` is called after each epoch.
        use_multiprocessing: whether processes make the batches, each with a copy of the dataset.
        shuffle: whether each epoch has a new order.

    >>> from minikeras import utils
    >>> class Squares(utils.Sequence):
    ...     def __len__(self):
    ...         return 3
    ...
    ...     def __getitem__(self, index):
    ...         return index**2
    >>> enqueuer = utils.OrderedEnqueuer(Squares())
    >>> enqueuer.start(workers=2)
    >>> batches = enqueuer.get()
    >>> [next(batches) for _ in range(5)]
    [0, 1, 4, 0, 1]
    >>> enqueuer.stop()
    """

    def __init__(self, sequence: Any, use_multiprocessing: bool = False, shuffle: bool = False):
        super().__init__(sequence, use_multiprocessing)
        self.shuffle = shuffle
        self._pickled = Pickled()

    def _makers(self, workers: int) -> list[Callable[[Any], Any]]:
        if not self.use_multiprocessing:
            return [self.sequence.__getitem__] * workers
        return [Worker(lambda: self._pickled, type(self.sequence).__name__, _as_it_is) for _ in range(workers)]

    def _passes(self) -> Iterator[Any]:
        while self._ahead is not None:
            if self.use_multiprocessing:
                self._send()
            order = list(range(len(self.sequence)))
            if self.shuffle:
                random.shuffle(order)
            yield order
            getattr(self.sequence, "on_epoch_end", _nothing)()

    def _send(self) -> None:
        """Have the worker processes get the dataset as it is now."""
        data = pickled(self.sequence)
        if isinstance(data, Exception):
            raise ValueError(
                f"{type(self.sequence).__name__} cannot be sent to worker processes ({data}); let it be picklable, or "
                "pass use_multiprocessing=False."
            ) from data
        if not data.same(self._pickled):
            self._pickled = data


class GeneratorEnqueuer(SequenceEnqueuer):
    """The batches of a generator, prepared ahead by one thread, as a generator has only one place.

    Args:
        generator: the generator or iterator.
        use_multiprocessing, random_seed, wait_time: accepted for familiarity.

    >>> from minikeras import utils
    >>> enqueuer = utils.GeneratorEnqueuer(iter([1, 2, 3]))
    >>> enqueuer.start()
    >>> list(enqueuer.get())
    [1, 2, 3]
    >>> enqueuer.stop()
    """

    def __init__(
        self, generator: Any, use_multiprocessing: bool = False, random_seed: Any = None, wait_time: float = 0.05
    ):
        super().__init__(generator, use_multiprocessing)

    def _makers(self, workers: int) -> list[Callable[[Any], Any]]:
        return [Iterated(iter(self.sequence), _as_it_is)]


def _as_it_is(batch: Any) -> Any:
    return batch


def _nothing() -> None:
    """There is nothing to tell."""
