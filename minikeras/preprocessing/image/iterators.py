"""Endless batches of changed pictures in memory, and what all such iterators share.

An iterator is also a `PyDataset`: batch i of an epoch can be asked for by its index, by several threads at once.  With
a seed, batch number n since the beginning is drawn from `seed + n`, whoever asks for it and when; numbers count the
batches of an epoch in order, and those that are asked for again after them.
"""

from __future__ import annotations

import functools
import os
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np

from minikeras import config
from minikeras.preprocessing.directories import inside
from minikeras.preprocessing.image import files
from minikeras.preprocessing.image.transforms import numpy_seed
from minikeras.training.data import PyDataset
from minikeras.utils.checks import flag, one_of, whole

SUBSETS = ("training", "validation", None)

# NumPy's global generator belongs to all iterators: whoever seeds it draws before another one seeds it anew.
_drawing = threading.RLock()


class Iterator(PyDataset):
    """The order of the samples and the batches of it; what a batch is, subclasses say.

    They define `_get_batches_of_transformed_samples(index_array)`.

    Args:
        n: number of samples.
        batch_size: samples in a batch; the last one of an epoch may have fewer.
        shuffle: a new order in each epoch.
        seed: makes order and batches repeatable; None draws them from NumPy's global generator as it is.
        **kwargs: for `PyDataset`.

    Attributes:
        index_array: the order of the epoch, None before the first batch.
        batch_index: the place of the next batch that `next` gives.
        total_batches_seen: batches given so far.

    >>> from minikeras.preprocessing.image import Iterator
    >>> len(Iterator(10, 4, shuffle=False, seed=None))
    3
    """

    white_list_formats = ("png", "jpg", "jpeg", "bmp", "ppm", "tif", "tiff")

    def __init__(self, n: int, batch_size: int, shuffle: bool, seed: int | None, **kwargs: Any):
        super().__init__(**kwargs)
        self.n = n
        self.batch_size = whole("batch_size", batch_size, 1)
        self.shuffle = flag("shuffle", shuffle)
        self.seed = numpy_seed(seed)
        self.lock = threading.Lock()
        self.batch_index = 0
        self.total_batches_seen = 0
        self.index_array: np.ndarray | None = None
        self._first_of_epoch = 0  # the number of its batch 0; batch i is that + i, and len(self) more each time
        self._times: dict[int, int] = {}  # how often each batch of the epoch has been asked for
        self._after_order: Any = None  # the generator's state with which the first batch goes on after the order
        self._last: tuple[int, Any] = (-1, None)  # the highest number drawn in the epoch, and the state after it

    def __len__(self) -> int:
        return -(-self.n // self.batch_size)

    def _set_index_array(self) -> None:
        self.index_array = np.random.permutation(self.n) if self.shuffle else np.arange(self.n)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise ValueError(f"There are {len(self)} batches, numbered from 0, got index {index}; ask for one of them.")
        with _drawing:
            finish = self._draw(index)
            self.total_batches_seen += 1
        return finish()

    def _draw(self, index: int) -> Callable[[], Any]:
        """Draw what is random in a batch of the epoch; the result finishes it."""
        times = self._times.get(index, 0)
        self._times[index] = times + 1
        number = self._first_of_epoch + index + times * len(self)
        self._make_order()
        if self.seed is not None:
            if index == 0 and not times and self._after_order is not None:
                np.random.set_state(self._after_order)
            else:
                np.random.seed(self.seed + number)
        assert self.index_array is not None
        finish = self._begin(self.index_array[self.batch_size * index : self.batch_size * (index + 1)])
        self._remember(number)
        return finish

    def _make_order(self) -> None:
        """The order of the first epoch, if it is not there yet."""
        if self.index_array is None:
            if self.seed is not None:
                np.random.seed(self.seed + self._first_of_epoch)
            self._set_index_array()
            self._after_order = None if self.seed is None else np.random.get_state()

    def _remember(self, number: int) -> None:
        if self.seed is not None and number >= self._last[0]:
            self._last = number, np.random.get_state()

    def on_epoch_end(self) -> None:
        """A new order, for `__getitem__`."""
        with _drawing:
            if self.seed is not None:
                if self._last[1] is None and len(self):
                    self._pass_over_epoch()
                if self._last[1] is not None:
                    np.random.set_state(self._last[1])
            self._set_index_array()
            self._begin_counting()
            self._last = -1, None

    def _begin_counting(self) -> None:
        self._first_of_epoch, self._times, self._after_order = self.total_batches_seen, {}, None

    def _pass_over_epoch(self) -> None:
        """An epoch whose batches other processes had leaves the random state that it leaves in theirs."""
        self._times.clear()  # of those that were there before a training was resumed
        self._draw(len(self) - 1)
        self.total_batches_seen = self._first_of_epoch + len(self)

    def reset(self) -> None:
        """Let `next` begin a new epoch."""
        self.batch_index = 0

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> Any:
        with _drawing:
            finish = self._begin(self._next_indices())
            self._remember(self.total_batches_seen - 1)
        return finish()  # the pictures are changed without the lock, by several threads if they ask

    def next(self) -> Any:
        """The next batch, without end; a new order begins after `len(self)` of them."""
        return self.__next__()

    def _next_indices(self) -> np.ndarray:
        if self.seed is not None:
            np.random.seed(self.seed + self.total_batches_seen)
        if self.batch_index == 0 or self.index_array is None:
            self._set_index_array()
        assert self.index_array is not None
        start = (self.batch_index * self.batch_size) % self.n if self.n else 0
        self.batch_index = self.batch_index + 1 if self.n > start + self.batch_size else 0
        self.total_batches_seen += 1
        self._begin_counting()
        return self.index_array[start : start + self.batch_size]

    @property
    def index_generator(self) -> Generator[np.ndarray, None, None]:
        """The indices of one batch after the other, as `next` takes them."""
        while True:
            with _drawing:
                indices = self._next_indices()
            yield indices

    def _begin(self, indices: np.ndarray) -> Callable[[], Any]:
        """Draw what is random in the batch of these samples, and return what finishes it."""
        return functools.partial(self._get_batches_of_transformed_samples, indices)

    def _get_batches_of_transformed_samples(self, index_array: np.ndarray) -> Any:
        raise NotImplementedError(
            f"{type(self).__name__} does not define _get_batches_of_transformed_samples; return the batch of the "
            "samples at these indices."
        )

    def get_state(self) -> dict[str, Any]:
        """Position, order and random state, as what `json.dumps` takes; `set_state` continues from there.

        Without a seed the random state is that of NumPy's global generator.
        """
        with _drawing:
            number, last = self._last
            return {
                **{name: getattr(self, name) for name in ("n", "batch_size", "batch_index", "total_batches_seen")},
                "seed": None if self.seed is None else int(self.seed),
                "first_of_epoch": self._first_of_epoch,
                "times": [[*item] for item in self._times.items()],
                "order": None if self.index_array is None else self.index_array.tolist(),
                "after_order": _as_json(self._after_order),
                "last": [number, _as_json(last)],
                "random": _as_json(np.random.get_state()) if self.seed is None else None,
            }

    def state_after(self, indices: Sequence[int]) -> dict[str, Any]:
        """What `get_state` would give if of this epoch only these batches had been asked for, whoever was."""
        state = self.get_state()
        times = Counter(indices)
        highest = max((index + (times[index] - 1) * len(self) for index in times), default=-1)
        kept = state["last"][0] == state["first_of_epoch"] + highest
        return {
            **state,
            "times": [[*item] for item in times.items()],
            "total_batches_seen": state["first_of_epoch"] + len(indices),
            "last": state["last"] if kept else [-1, None],  # those that are asked for again come after it
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue where `get_state` was called, with the identical rest.

        Raises:
            ValueError: for the state of an iterator over other data or in other batches.
        """
        for name in ("n", "batch_size"):
            if state.get(name) != getattr(self, name):
                raise ValueError(
                    f"This iterator has {name}={getattr(self, name)}, got a state of one with {state.get(name)}; "
                    "make it from the same data and arguments."
                )
        with _drawing:
            self.seed = state["seed"]
            self.batch_index, self.total_batches_seen = state["batch_index"], state["total_batches_seen"]
            self._first_of_epoch, self._times = state["first_of_epoch"], dict(state["times"])
            self.index_array = None if state["order"] is None else np.array(state["order"], dtype=np.int64)
            self._after_order = _from_json(state["after_order"])
            self._last = state["last"][0], _from_json(state["last"][1])
            if state["random"] is not None:
                np.random.set_state(_from_json(state["random"]))

    def __getstate__(self) -> dict[str, Any]:
        with _drawing:
            self._make_order()  # else the copies would draw an order each
            state = {name: value for name, value in self.__dict__.items() if name != "lock"}
            return {**state, "_times": dict(self._times)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.lock = threading.Lock()


def _as_json(state: Any) -> Any:
    return None if state is None else [state[0], state[1].tolist(), *state[2:]]


def _from_json(state: Any) -> Any:
    return None if state is None else (state[0], np.array(state[1], dtype=np.uint32), *state[2:])


class PictureIterator(Iterator):
    """What the iterators over pictures share: drawing, changing, normalising, saving.

    Subclasses define `_images` and `_outputs`, and set `image_shape`, the shape of one picture.
    """

    image_shape: tuple[int, ...]
    _most_hashes = 10_000  # the number in the name of a saved picture is below

    def _set_up(
        self, generator: Any, data_format: str | None, dtype: Any, save_to_dir: Any, prefix: str, save_format: str
    ) -> None:
        self.image_data_generator = generator
        self.data_format = config.image_data_format() if data_format is None else data_format
        self.dtype = config.floatx() if dtype is None else dtype
        self.save_to_dir, self.save_prefix, self.save_format = save_to_dir, prefix, save_format
        if save_to_dir and not (isinstance(save_to_dir, (str, os.PathLike)) and os.path.isdir(save_to_dir)):
            raise ValueError(f"save_to_dir must be a folder or None, got {save_to_dir!r}; make it first.")
        if save_to_dir and not inside(self._saved_path(0, 0), save_to_dir, links=False):
            raise ValueError(
                f"save_prefix={prefix!r} and save_format={save_format!r} lead out of save_to_dir={str(save_to_dir)!r}; "
                "use a prefix that stays inside."
            )

    def _saved_path(self, index: int, number: int) -> str:
        return os.path.join(self.save_to_dir, f"{self.save_prefix}_{index}_{number}.{self.save_format}")

    def _begin(self, indices: np.ndarray) -> Callable[[], Any]:
        own = type(self)._get_batches_of_transformed_samples
        if own is not PictureIterator._get_batches_of_transformed_samples:
            return super()._begin(indices)
        return self._plan(indices)

    def _plan(self, indices: np.ndarray) -> Callable[[], Any]:
        generator = self.image_data_generator
        if generator is not None and getattr(generator, "one_by_one", True):
            finish = functools.partial(self._one_by_one, indices)
            if self.seed is None:
                return finish
            batch = finish()  # its random numbers too follow from the seed
            return lambda: batch
        draws = None if generator is None else generator.draw(self.image_shape, len(indices))
        return functools.partial(self._together, indices, draws, self._draw_hashes(len(indices)))

    def _get_batches_of_transformed_samples(self, index_array: np.ndarray) -> Any:
        with _drawing:
            finish = self._plan(index_array)
        return finish()

    def _draw_hashes(self, count: int) -> list[int]:
        return [int(np.random.randint(self._most_hashes)) for _ in range(count)] if self.save_to_dir else []

    def _together(self, indices: np.ndarray, draws: Any, hashes: list[int]) -> Any:
        images, rows, kept = self._images(indices)
        if kept is not None:
            indices, draws, hashes = indices[kept], draws and draws[kept], [hashes[i] for i in kept if hashes]
        batch = images
        if draws is not None:
            batch = self.image_data_generator.transformed(images, rows, draws, scaled=True)
            batch = self.image_data_generator.normalized(batch)
        return self._finish(batch, indices, hashes)

    def _one_by_one(self, indices: np.ndarray) -> Any:
        """The batch with a picture changed and normalised after the other, in Keras's order of random draws."""
        generator = self.image_data_generator
        images, rows, kept = self._images(indices)
        indices = indices if kept is None else indices[kept]
        batch = np.zeros((len(indices), *self.image_shape), dtype=self.dtype)
        for place in range(len(indices)):
            picture = images[place if rows is None else rows[place]].astype(self.dtype)  # a copy
            parameters = generator.get_random_transform(picture.shape)
            batch[place] = generator.standardize(generator.apply_transform(picture, parameters))
        return self._finish(batch, indices, self._draw_hashes(len(indices)))

    def _finish(self, batch: np.ndarray, indices: np.ndarray, hashes: list[int]) -> Any:
        batch = batch.astype(self.dtype, copy=False)
        for picture, index, number in zip(batch if hashes else (), indices, hashes, strict=bool(hashes)):
            files.array_to_img(picture, self.data_format, scale=True).save(self._saved_path(int(index), number))
        return self._outputs(batch, indices)

    def _images(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, list[int] | None]:
        """Pictures, the rows of them that make the batch (None: all), and the places of those that could be read
        (None: all)."""
        raise NotImplementedError

    def _outputs(self, batch: np.ndarray, indices: np.ndarray) -> Any:
        raise NotImplementedError


class NumpyArrayIterator(PictureIterator):
    """Batches of pictures in memory.

    Args:
        x: pictures of rank 4, or flat rows (n, width); or `(x, extra)`, where `extra` is an array or a list of arrays
            that belong to the pictures and are given as they are.
        y: labels, or None.
        image_data_generator: the `ImageDataGenerator` that changes and normalises them.
        batch_size, shuffle, seed: as in `Iterator`.
        sample_weight: a weight for each picture, or None.
        data_format: layout of the pictures, default `config.image_data_format()`.
        save_to_dir: folder where the changed pictures are saved, for a look at them; None for no saving.
        save_prefix, save_format: their names begin and end with these.
        subset: `"training"`, `"validation"` (the first `validation_split` of the data), or None for all.
        ignore_class_split: allow that the two subsets have not the same classes.
        dtype: type of the pictures, default `config.floatx()`.

    Gives x, `(x, y)` or `(x, y, sample_weight)`, with `[x, *extra]` for x where there is something extra.

    Raises:
        ValueError: for data of unequal lengths or another rank, an unknown subset, or subsets of different classes.

    >>> import numpy as np
    >>> from minikeras.preprocessing.image import ImageDataGenerator, NumpyArrayIterator
    >>> len(NumpyArrayIterator(np.ones((8, 6, 6, 3)), np.zeros(8), ImageDataGenerator(), batch_size=3))
    3
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        image_data_generator: Any,
        batch_size: int = 32,
        shuffle: bool = False,
        sample_weight: Any = None,
        seed: int | None = None,
        data_format: str | None = None,
        save_to_dir: str | os.PathLike | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        subset: str | None = None,
        ignore_class_split: bool = False,
        dtype: Any = None,
    ):
        extra: list[Any] = []
        if isinstance(x, (tuple, list)):
            if len(x) != 2:
                raise ValueError(f"x must be an array or (array, extra), got {type(x).__name__} of {len(x)}; stack it.")
            x, more = x
            extra = [np.asarray(one) for one in (more if isinstance(more, list) else [more])]
        parts = {"y": y, "sample_weight": sample_weight, **{f"x[1][{i}]": one for i, one in enumerate(extra)}}
        for name, part in parts.items():
            if part is not None and not np.ndim(part):
                raise ValueError(f"{name} must be an array or a list with one entry for each picture, got {part!r}.")
            if part is not None and len(part) != len(x):
                raise ValueError(f"x has {len(x)} pictures and {name} has length {len(part)}; make them equal.")
        y, sample_weight = (None if one is None else np.asarray(one) for one in (y, sample_weight))
        if one_of("subset", subset, SUBSETS) is not None:
            at = int(len(x) * image_data_generator._validation_split)
            if y is not None and not ignore_class_split and not np.array_equal(np.unique(y[:at]), np.unique(y[at:])):
                raise ValueError(
                    "The training and the validation subset have different classes after the split; shuffle the data "
                    "first, or pass ignore_class_split=True."
                )
            part = slice(None, at) if subset == "validation" else slice(at, None)
            x, extra = x[part], [one[part] for one in extra]
            y, sample_weight = (None if one is None else one[part] for one in (y, sample_weight))
        self._set_up(image_data_generator, data_format, dtype, save_to_dir, save_prefix, save_format)
        if np.asarray(x).dtype.kind not in "fiub":
            raise ValueError(f"Pictures are arrays of numbers, got values of type {np.asarray(x).dtype}.")
        self.x = np.asarray(x, dtype=self.dtype)
        self._flat = self.x.ndim == 2
        if self._flat:
            self.x, _ = image_data_generator.as_pictures(self.x)
        if self.x.ndim != 4:
            raise ValueError(f"Pictures must have rank 4, or 2 as flat rows, got the shape {self.x.shape}.")
        channels = self.x.shape[3 if self.data_format == "channels_last" else 1]
        if channels not in (1, 3, 4):
            message = (
                f"Pictures have 1, 3 or 4 channels, got {channels} in the shape {self.x.shape}; check data_format."
            )
            warnings.warn(message, stacklevel=3)
        self.image_shape = self.x.shape[1:]
        self.x_misc, self.y, self.sample_weight = extra, y, sample_weight
        super().__init__(len(self.x), batch_size, shuffle, seed)

    def _images(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, list[int] | None]:
        return self.x, indices, None

    def _outputs(self, batch: np.ndarray, indices: np.ndarray) -> Any:
        batch = batch.reshape(len(batch), -1) if self._flat else batch
        x = [batch, *(one[indices] for one in self.x_misc)] if self.x_misc else batch
        if self.y is None:
            return x
        labels = self.y[indices]
        return (x, labels) if self.sample_weight is None else (x, labels, self.sample_weight[indices])
