"""Endless batches of changed pictures, from arrays, folders and tables.

An iterator is also a `PyDataset`: batch i of an epoch can be asked for by its index, by several threads at once.  With
a seed, batch number n since the beginning is drawn from `seed + n`, whoever asks for it and when.
"""

from __future__ import annotations

import functools
import os
import threading
import warnings
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from minikeras import config
from minikeras.preprocessing.image import files
from minikeras.preprocessing.image.listing import inside, pictures_of_class
from minikeras.training.data import PyDataset
from minikeras.utils.console import announce

_READERS = min(4, os.cpu_count() or 1)  # threads that read the files of a batch

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
    """

    white_list_formats = ("png", "jpg", "jpeg", "bmp", "ppm", "tif", "tiff")

    def __init__(self, n: int, batch_size: int, shuffle: bool, seed: int | None, **kwargs: Any):
        super().__init__(**kwargs)
        if batch_size < 1:
            raise ValueError(f"batch_size must be a positive integer, got {batch_size!r}.")
        self.n = n
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.lock = threading.Lock()
        self.batch_index = 0
        self.total_batches_seen = 0
        self.index_array: np.ndarray | None = None
        self._first_of_epoch = 0  # its number; that of batch i is this + i
        self._after_order: Any = None  # the generator's state with which the first batch goes on after the order
        self._last: tuple[int, Any] = (-1, None)  # the highest number that was drawn, and the state after it

    def __len__(self) -> int:
        return -(-self.n // self.batch_size)

    def _set_index_array(self) -> None:
        self.index_array = np.random.permutation(self.n) if self.shuffle else np.arange(self.n)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise ValueError(f"There are {len(self)} batches, numbered from 0, got index {index}; ask for one of them.")
        with _drawing:
            number = self._first_of_epoch + index
            self._make_order()
            if self.seed is not None:
                if index == 0 and self._after_order is not None:
                    np.random.set_state(self._after_order)
                else:
                    np.random.seed(self.seed + number)
            self.total_batches_seen += 1
            assert self.index_array is not None
            finish = self._begin(self.index_array[self.batch_size * index : self.batch_size * (index + 1)])
            self._remember(number)
        return finish()

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
            if self._last[1] is not None:  # as if the batches had been drawn in order
                np.random.set_state(self._last[1])
            elif self.seed is not None:
                np.random.seed(self.seed + self.total_batches_seen)
            self._set_index_array()
            self._first_of_epoch, self._after_order = self.total_batches_seen, None

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
        self._first_of_epoch, self._after_order = self.total_batches_seen, None
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
                "n": self.n,
                "batch_size": self.batch_size,
                "seed": None if self.seed is None else int(self.seed),
                "batch_index": self.batch_index,
                "total_batches_seen": self.total_batches_seen,
                "first_of_epoch": self._first_of_epoch,
                "order": None if self.index_array is None else self.index_array.tolist(),
                "after_order": _as_json(self._after_order),
                "last": [number, _as_json(last)],
                "random": _as_json(np.random.get_state()) if self.seed is None else None,
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
            self._first_of_epoch = state["first_of_epoch"]
            self.index_array = None if state["order"] is None else np.array(state["order"], dtype=np.int64)
            self._after_order = _from_json(state["after_order"])
            self._last = state["last"][0], _from_json(state["last"][1])
            if state["random"] is not None:
                np.random.set_state(_from_json(state["random"]))

    def __getstate__(self) -> dict[str, Any]:
        with _drawing:
            self._make_order()  # else the copies would draw an order each
            return {name: value for name, value in self.__dict__.items() if name != "lock"}

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
        self, image_data_generator: Any, data_format: str, dtype: Any, save_to_dir: Any, prefix: str, save_format: str
    ) -> None:
        self.image_data_generator = image_data_generator
        self.data_format = data_format
        self.dtype = dtype
        self.save_to_dir, self.save_prefix, self.save_format = save_to_dir, prefix, save_format
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
            if part is not None and len(part) != len(x):
                raise ValueError(f"x has {len(x)} pictures and {name} has length {len(part)}; make them equal.")
        y = None if y is None else np.asarray(y)
        sample_weight = None if sample_weight is None else np.asarray(sample_weight)
        if subset is not None:
            if subset not in ("training", "validation"):
                raise ValueError(f"subset must be 'training', 'validation' or None, got {subset!r}.")
            at = int(len(x) * image_data_generator._validation_split)
            if y is not None and not ignore_class_split and not np.array_equal(np.unique(y[:at]), np.unique(y[at:])):
                raise ValueError(
                    "The training and the validation subset have different classes after the split; shuffle the data "
                    "first, or pass ignore_class_split=True."
                )
            part = slice(None, at) if subset == "validation" else slice(at, None)
            x, extra = x[part], [one[part] for one in extra]
            y = None if y is None else y[part]
            sample_weight = None if sample_weight is None else sample_weight[part]
        data_format = config.image_data_format() if data_format is None else data_format
        self._set_up(
            image_data_generator,
            data_format,
            config.floatx() if dtype is None else dtype,
            save_to_dir,
            save_prefix,
            save_format,
        )
        self.x = np.asarray(x, dtype=self.dtype)
        self._flat = self.x.ndim == 2
        if self._flat:
            self.x, _ = image_data_generator.as_pictures(self.x)
        if self.x.ndim != 4:
            raise ValueError(f"Pictures must have rank 4, or 2 as flat rows, got the shape {self.x.shape}.")
        channels = self.x.shape[3 if data_format == "channels_last" else 1]
        if channels not in (1, 3, 4):
            warnings.warn(
                f"Pictures have 1, 3 or 4 channels, got {channels} in the shape {self.x.shape}; check data_format.",
                stacklevel=3,
            )
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


class FileIterator(PictureIterator):
    """What the iterators over files share.

    Attributes:
        skipped: pictures left out so far because they could not be read (`on_error="skip"`).
    """

    _most_hashes = 10_000_000
    classes: Any
    class_indices: dict[str, int]
    class_mode: str | None
    split: tuple[float, float] | None

    def _set_up_files(
        self,
        target_size: Sequence[int],
        color_mode: str,
        subset: str | None,
        interpolation: str,
        keep_aspect_ratio: bool,
        on_error: str,
    ) -> None:
        if color_mode not in files.COLOR_MODES:
            raise ValueError(f"color_mode must be 'rgb', 'rgba' or 'grayscale', got {color_mode!r}.")
        if interpolation not in files.INTERPOLATIONS:
            raise ValueError(f"interpolation must be one of {', '.join(files.INTERPOLATIONS)}, got {interpolation!r}.")
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}.")
        self.target_size = tuple(int(length) for length in target_size)
        if len(self.target_size) != 2:
            raise ValueError(f"target_size must be (height, width) in pixels, got {target_size!r}.")
        self.color_mode, self.interpolation, self.keep_aspect_ratio = color_mode, interpolation, keep_aspect_ratio
        channels = (files.COLOR_MODES[color_mode],)
        last = self.data_format == "channels_last"
        self.image_shape = self.target_size + channels if last else channels + self.target_size
        if subset not in (None, "training", "validation"):
            raise ValueError(f"subset must be 'training', 'validation' or None, got {subset!r}.")
        self.subset = subset
        self.split = None
        if subset is not None:
            share = self.image_data_generator._validation_split
            self.split = (0, share) if subset == "validation" else (share, 1)
        self.on_error = on_error
        self.skipped = 0
        self._told: set[str] = set()

    def _in_split(self, things: Any) -> Any:
        """The part of a list that belongs to the subset."""
        if self.split is None:
            return things
        return things[int(self.split[0] * len(things)) : int(self.split[1] * len(things))]

    @property
    def filepaths(self) -> list[str]:
        """The paths of the pictures."""
        raise NotImplementedError

    @property
    def labels(self) -> Any:
        """The labels of the pictures."""
        raise NotImplementedError

    @property
    def sample_weight(self) -> Any:
        """The weights of the pictures, or None."""
        raise NotImplementedError

    def _images(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, list[int] | None]:
        batch = np.zeros((len(indices), *self.image_shape), dtype=self.dtype)
        paths = self.filepaths
        jobs = [(batch, place, paths[index]) for place, index in enumerate(indices)]
        if len(jobs) > 1 and _READERS > 1:
            with ThreadPoolExecutor(min(_READERS, len(jobs))) as pool:
                errors = list(pool.map(self._read, jobs))
        else:
            errors = [self._read(job) for job in jobs]
        if not any(errors):
            return batch, None, None
        kept = [place for place, error in enumerate(errors) if error is None]
        with _drawing:
            self.skipped += len(errors) - len(kept)
            news = [error for error in errors if error is not None and str(error) not in self._told]
            self._told.update(map(str, news))
        for error in news:
            warnings.warn(f"{error} It is left out.", stacklevel=2)
        return batch[kept], None, kept

    def _read(self, job: tuple[np.ndarray, int, str]) -> Exception | None:
        """Read a picture into its place of the batch; the error if it is to be left out."""
        batch, place, path = job
        try:
            image = files.load_img(path, self.color_mode, self.target_size, self.interpolation, self.keep_aspect_ratio)
        except OSError as error:
            if self.on_error == "raise":
                raise
            return error
        batch[place] = files.img_to_array(image, self.data_format)
        image.close()
        return None

    def _outputs(self, batch: np.ndarray, indices: np.ndarray) -> Any:
        labels = self._labels_of(batch, indices)
        if labels is None:
            return batch
        weights = self.sample_weight
        return (batch, labels) if weights is None else (batch, labels, weights[indices])

    def _labels_of(self, batch: np.ndarray, indices: np.ndarray) -> Any:
        if self.class_mode == "input":
            return batch.copy()
        if self.class_mode in ("binary", "sparse"):
            return np.array([self.classes[index] for index in indices], dtype=self.dtype)
        if self.class_mode == "categorical":
            labels = np.zeros((len(batch), len(self.class_indices)), dtype=self.dtype)
            for row, index in zip(labels, indices, strict=True):
                row[self.classes[index]] = 1
            return labels
        if self.class_mode == "multi_output":
            return [output[indices] for output in self.labels]
        return self.labels[indices] if self.class_mode == "raw" else None


class DirectoryIterator(FileIterator):
    """Batches of the pictures in a folder that has a subfolder for each class.

    Symbolic links to files and folders inside the folder are read (links to folders only with `follow_links`).  What a
    link out of it leads to is left out with a warning, and with `follow_links` refused.

    Args:
        directory: the folder.
        image_data_generator: the `ImageDataGenerator` that changes and normalises the pictures; None for neither.
        target_size: (height, width) to which they are resized.
        color_mode: `"rgb"`, `"rgba"` or `"grayscale"` (which keeps 16 and 32 bits).
        classes: names of the subfolders in the order of their labels; default all, sorted.
        class_mode: what the labels are: `"categorical"` (one-hot), `"binary"` or `"sparse"` (numbers), `"input"` (the
            pictures themselves), or None for none.
        batch_size, shuffle, seed: as in `Iterator`.
        data_format, dtype: of the batches, default `config.image_data_format()` and `config.floatx()`.
        save_to_dir, save_prefix, save_format: as in `NumpyArrayIterator`.
        follow_links: also read the folders that symbolic links lead to.
        subset: `"training"`, `"validation"` (of each class the first `validation_split`), or None for all.
        interpolation, keep_aspect_ratio: how pictures are resized, as in `load_img`.
        on_error: `"raise"` the error of a picture that cannot be read, or `"skip"` it: it is missing in its batch,
            which then has fewer, and `skipped` counts it.
    """

    allowed_class_modes = ("categorical", "binary", "sparse", "input", None)

    def __init__(
        self,
        directory: str | os.PathLike,
        image_data_generator: Any,
        target_size: Sequence[int] = (256, 256),
        color_mode: str = "rgb",
        classes: Sequence[str] | None = None,
        class_mode: str | None = "categorical",
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int | None = None,
        data_format: str | None = None,
        save_to_dir: str | os.PathLike | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        follow_links: bool = False,
        subset: str | None = None,
        interpolation: str = "nearest",
        keep_aspect_ratio: bool = False,
        dtype: Any = None,
        *,
        on_error: str = "raise",
    ):
        self._set_up(
            image_data_generator,
            config.image_data_format() if data_format is None else data_format,
            config.floatx() if dtype is None else dtype,
            save_to_dir,
            save_prefix,
            save_format,
        )
        self._set_up_files(target_size, color_mode, subset, interpolation, keep_aspect_ratio, on_error)
        if class_mode not in self.allowed_class_modes:
            raise ValueError(f"class_mode must be one of {self.allowed_class_modes}, got {class_mode!r}.")
        self.class_mode = class_mode
        self.directory = directory
        if not classes:
            classes = sorted(one for one in os.listdir(directory) if os.path.isdir(os.path.join(directory, one)))
        self.num_classes = len(classes)
        self.class_indices = {name: label for label, name in enumerate(classes)}
        self.filenames: list[str] = []
        numbers: list[int] = []
        for name in classes:
            if not os.path.isdir(os.path.join(directory, name)):
                warnings.warn(f"The class {name!r} has no folder in {str(directory)!r}.", stacklevel=3)
            found = self._in_split(pictures_of_class(directory, name, self.white_list_formats, follow_links))
            self.filenames += found
            numbers += [self.class_indices[name]] * len(found)
        self.classes = np.array(numbers, dtype=np.int32)
        self.samples = len(self.filenames)
        announce(f"Found {self.samples} images belonging to {self.num_classes} classes.")
        self._filepaths = [os.path.join(directory, name) for name in self.filenames]
        super().__init__(self.samples, batch_size, shuffle, seed)

    @property
    def filepaths(self) -> list[str]:
        return self._filepaths

    @property
    def labels(self) -> np.ndarray:
        return self.classes

    @property
    def sample_weight(self) -> None:
        return None


def validate_filename(filename: str, white_list_formats: Sequence[str]) -> bool:
    """Whether a path has one of these endings and is a file."""
    return filename.lower().endswith(tuple(white_list_formats)) and os.path.isfile(filename)


class DataFrameIterator(FileIterator):
    """Batches of the pictures that a pandas DataFrame names.

    Args:
        dataframe: a row for each picture.
        directory: the folder that the names are relative to; what leads out of it is refused.  None where they are
            paths themselves.
        image_data_generator: as in `DirectoryIterator`.
        x_col: column of the names.
        y_col: column of the labels, or a list of columns.
        weight_col: column of weights, or None.
        classes: labels that are used, in their order; rows of others are left out.  Default all, sorted.
        class_mode: as in `DirectoryIterator`, where for `"categorical"` a cell may also be a list of classes;
            further `"raw"` (the values of `y_col`) and `"multi_output"` (an array for each column of `y_col`).
        validate_filenames: leave rows out whose file is missing or has not the ending of a picture.  False saves time.
        target_size, color_mode, batch_size, shuffle, seed, data_format, save_to_dir, save_prefix, save_format,
            subset, interpolation, keep_aspect_ratio, dtype, on_error: as in `DirectoryIterator`; the subsets are cut
            from all rows.

    Raises:
        TypeError: for names or labels that are no strings, weights that are no numbers.
        ValueError: for an unknown mode, a path that leads out of `directory`, or not two classes for `"binary"`.
    """

    allowed_class_modes = ("binary", "categorical", "input", "multi_output", "raw", "sparse", None)

    def __init__(
        self,
        dataframe: Any,
        directory: str | os.PathLike | None = None,
        image_data_generator: Any = None,
        x_col: str = "filename",
        y_col: Any = "class",
        weight_col: str | None = None,
        target_size: Sequence[int] = (256, 256),
        color_mode: str = "rgb",
        classes: Sequence[str] | None = None,
        class_mode: str | None = "categorical",
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int | None = None,
        data_format: str | None = "channels_last",
        save_to_dir: str | os.PathLike | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        subset: str | None = None,
        interpolation: str = "nearest",
        keep_aspect_ratio: bool = False,
        dtype: Any = "float32",
        validate_filenames: bool = True,
        *,
        on_error: str = "raise",
    ):
        self._set_up(
            image_data_generator,
            config.image_data_format() if data_format is None else data_format,
            config.floatx() if dtype is None else dtype,
            save_to_dir,
            save_prefix,
            save_format,
        )
        self._set_up_files(target_size, color_mode, subset, interpolation, keep_aspect_ratio, on_error)
        if class_mode not in self.allowed_class_modes:
            raise ValueError(f"class_mode must be one of {self.allowed_class_modes}, got {class_mode!r}.")
        self.class_mode = class_mode
        self.directory = "" if directory is None else os.fspath(directory)
        named = class_mode in ("binary", "categorical", "sparse")
        _check_columns(dataframe, class_mode, x_col, y_col, weight_col, classes if named else None)
        if classes and not named:
            warnings.warn(f"classes are not used with class_mode={class_mode!r}.", stacklevel=3)
        names = dataframe[x_col].tolist()
        for name in names if self.directory else ():
            if not inside(os.path.join(self.directory, name), self.directory, links=True):
                raise ValueError(f"The file name {name!r} leads out of directory={self.directory!r}; remove that row.")
        rows = list(range(len(names)))
        if validate_filenames:
            valid = [self._is_valid(name) for name in names]
            rows = [row for row in rows if valid[row]]
            if len(rows) < len(names):
                warnings.warn(
                    f"{len(names) - len(rows)} file names of the column {x_col!r} are no pictures that exist, such as "
                    f"{names[valid.index(False)]!r}; these rows are left out.",
                    stacklevel=3,
                )
        if named:
            cells = dataframe[y_col].tolist()
            if classes:
                classes = list(dict.fromkeys(classes))
                cells = [_only(cell, classes) for cell in cells]
            else:
                used = [cells[row] for row in rows]
                flat = (label for cell in used for label in (cell if isinstance(cell, (list, tuple)) else [cell]))
                classes = sorted(set(flat))
            rows = [row for row in rows if cells[row] is not None]
            self.class_indices = {name: label for label, name in enumerate(classes)}
            numbers = self.class_indices
        rows = self._in_split(rows)
        if named:
            self.classes = [
                [numbers[label] for label in cells[row]]
                if isinstance(cells[row], (list, tuple))
                else numbers[cells[row]]
                for row in rows
            ]
        frame = dataframe.iloc[rows]
        self.filenames = [names[row] for row in rows]
        self._sample_weight = frame[weight_col].to_numpy() if weight_col else None
        if class_mode == "multi_output":
            self._targets: Any = [np.array(frame[column].tolist()) for column in y_col]
        elif class_mode == "raw":
            self._targets = frame[y_col].to_numpy()
        self.samples = len(self.filenames)
        belonging = f" belonging to {len(self.class_indices)} classes" if named else ""
        validated = "validated" if validate_filenames else "non-validated"
        announce(f"Found {self.samples} {validated} image filenames{belonging}.")
        self._filepaths = [os.path.join(self.directory, name) for name in self.filenames]
        super().__init__(self.samples, batch_size, shuffle, seed)

    def _is_valid(self, name: str) -> bool:
        return validate_filename(os.path.join(self.directory, name), self.white_list_formats)

    @property
    def filepaths(self) -> list[str]:
        return self._filepaths

    @property
    def labels(self) -> Any:
        return self._targets if self.class_mode in ("multi_output", "raw") else self.classes

    @property
    def sample_weight(self) -> Any:
        return self._sample_weight


def _only(cell: Any, classes: list[str]) -> Any:
    """A cell's labels that are among the classes; None where no one is."""
    if isinstance(cell, (list, tuple)):
        return [label for label in cell if label in classes] or None
    return cell if cell in classes else None


def _check_columns(
    frame: Any, class_mode: str | None, x_col: str, y_col: Any, weight_col: str | None, classes: Any
) -> None:
    """Whether the columns hold what the class mode needs."""
    if class_mode == "multi_output" and not isinstance(y_col, list):
        raise TypeError(f"class_mode='multi_output' needs a list of columns for y_col, got {y_col!r}.")
    for column in [x_col] + (y_col if isinstance(y_col, list) else [y_col]) * (class_mode not in ("input", None)):
        if column not in frame:
            raise KeyError(f"The table has no column {column!r}, only {', '.join(map(repr, frame.columns))}.")
    wrong = [name for name in frame[x_col].tolist() if not isinstance(name, str)]
    if wrong:
        raise TypeError(f"The column {x_col!r} must hold file names as strings, got {wrong[0]!r}.")
    if class_mode in ("binary", "sparse", "categorical"):
        types = (str, list, tuple) if class_mode == "categorical" else (str,)
        wrong = [label for label in frame[y_col].tolist() if not isinstance(label, types)]
        if wrong:
            allowed = "strings, or lists or tuples of them" if class_mode == "categorical" else "strings"
            raise TypeError(
                f"class_mode={class_mode!r} needs {allowed} in the column {y_col!r}, got {wrong[0]!r}; convert them."
            )
    if class_mode == "binary":
        found = set(classes) if classes else set(frame[y_col].tolist())
        if len(found) != 2:
            raise ValueError(f"class_mode='binary' needs two classes, got {len(found)}; use 'sparse' or 'categorical'.")
    if weight_col and not np.issubdtype(frame[weight_col].to_numpy().dtype, np.number):
        raise TypeError(f"The column {weight_col!r} must hold weights as numbers, got {frame[weight_col].dtype}.")
