"""Endless batches of changed pictures, from folders and tables of file names."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from minikeras.preprocessing.directories import files_of_class, first_outside
from minikeras.preprocessing.image import files
from minikeras.preprocessing.image.iterators import SUBSETS, PictureIterator
from minikeras.utils.checks import one_of
from minikeras.utils.console import announce

_READERS = min(4, os.cpu_count() or 1)  # threads that read the files of a batch


class FileIterator(PictureIterator):
    """What the iterators over files share.

    Attributes:
        skipped: pictures left out so far because they could not be read (`on_error="skip"`).
    """

    _most_hashes = 10_000_000
    allowed_class_modes: tuple[str | None, ...]
    classes: Any
    class_indices: dict[str, int]
    split: tuple[float, float] | None
    _filepaths: list[str]
    _sample_weight: Any = None

    def _set_up_files(
        self,
        target_size: Sequence[int],
        color_mode: str,
        class_mode: str | None,
        subset: str | None,
        interpolation: str,
        keep_aspect_ratio: bool,
        on_error: str,
    ) -> None:
        self.color_mode = one_of("color_mode", color_mode, files.COLOR_MODES)
        self.class_mode = one_of("class_mode", class_mode, self.allowed_class_modes)
        self.interpolation = one_of("interpolation", interpolation, files.INTERPOLATIONS)
        self.on_error = one_of("on_error", on_error, ("raise", "skip"))
        self.target_size = tuple(int(length) for length in target_size)
        if len(self.target_size) != 2:
            raise ValueError(f"target_size must be (height, width) in pixels, got {target_size!r}.")
        self.keep_aspect_ratio = keep_aspect_ratio
        channels = (files.COLOR_MODES[color_mode],)
        last = self.data_format == "channels_last"
        self.image_shape = self.target_size + channels if last else channels + self.target_size
        self.subset = one_of("subset", subset, SUBSETS)
        self.split = None
        if subset is not None:
            share = self.image_data_generator._validation_split
            self.split = (0, share) if subset == "validation" else (share, 1)
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
        return self._filepaths

    @property
    def labels(self) -> Any:
        """The labels of the pictures."""
        return self.classes

    @property
    def sample_weight(self) -> Any:
        """The weights of the pictures, or None."""
        return self._sample_weight

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
        with self.lock:
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

    >>> import numpy as np
    >>> import minikeras as keras
    >>> import os, tempfile
    >>> from minikeras.preprocessing.image import DirectoryIterator, ImageDataGenerator
    >>> folder = tempfile.mkdtemp()
    >>> os.mkdir(os.path.join(folder, "cats"))
    >>> keras.utils.save_img(os.path.join(folder, "cats", "1.png"), np.zeros((8, 8, 3)))
    >>> DirectoryIterator(folder, ImageDataGenerator(), target_size=(4, 4)).class_indices
    Found 1 images belonging to 1 classes.
    {'cats': 0}
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
        self._set_up(image_data_generator, data_format, dtype, save_to_dir, save_prefix, save_format)
        self._set_up_files(target_size, color_mode, class_mode, subset, interpolation, keep_aspect_ratio, on_error)
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
            found = self._in_split(files_of_class(directory, name, self.white_list_formats, follow_links))
            self.filenames += found
            numbers += [self.class_indices[name]] * len(found)
        self.classes = np.array(numbers, dtype=np.int32)
        self.samples = len(self.filenames)
        announce(f"Found {self.samples} images belonging to {self.num_classes} classes.")
        self._filepaths = [os.path.join(directory, name) for name in self.filenames]
        super().__init__(self.samples, batch_size, shuffle, seed)


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
        self._set_up(image_data_generator, data_format, dtype, save_to_dir, save_prefix, save_format)
        self._set_up_files(target_size, color_mode, class_mode, subset, interpolation, keep_aspect_ratio, on_error)
        self.directory = "" if directory is None else os.fspath(directory)
        named = class_mode in ("binary", "categorical", "sparse")
        _check_columns(dataframe, class_mode, x_col, y_col, weight_col, classes if named else None)
        if classes and not named:
            warnings.warn(f"classes are not used with class_mode={class_mode!r}.", stacklevel=3)
        names = dataframe[x_col].tolist()
        outside = first_outside(names, self.directory) if self.directory else None
        if outside is not None:
            raise ValueError(f"The file name {outside!r} leads out of directory={self.directory!r}; remove that row.")
        rows = list(range(len(names)))
        if validate_filenames:
            paths = (os.path.join(self.directory, name) for name in names)
            valid = [validate_filename(path, self.white_list_formats) for path in paths]
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
            labels = [cells[row] for row in rows]
            self.classes = [
                [numbers[one] for one in label] if isinstance(label, (list, tuple)) else numbers[label]
                for label in labels
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

    @property
    def labels(self) -> Any:
        return self._targets if self.class_mode in ("multi_output", "raw") else self.classes


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
