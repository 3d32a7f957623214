"""What pictures and texts in folders have in common on their way to a `Dataset`: labels, order, split, batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minikeras.data import AUTOTUNE, Dataset
from minikeras.preprocessing.directories import class_files, files_below
from minikeras.utils.checks import one_of

FORMATS = ("tf", "grain")
LABEL_MODES = ("int", "categorical", "binary", None)
SUBSETS = ("training", "validation", "both", None)


@dataclass
class Options:
    """The arguments that `image_dataset_from_directory` and `text_dataset_from_directory` share."""

    labels: Any
    label_mode: str | None
    class_names: Sequence[str] | None
    batch_size: int | None
    shuffle: bool
    seed: int | None
    validation_split: float | None
    subset: str | None
    follow_links: bool
    verbose: bool

    def check(self) -> None:
        """Refuse what makes no sense, before any file is looked at."""
        if self.labels not in ("inferred", None) and not isinstance(self.labels, (list, tuple)):
            raise ValueError(
                "labels must be 'inferred', None, or a list with a whole number for each file in sorted order, got "
                f"{self.labels!r}."
            )
        one_of("label_mode", self.label_mode, LABEL_MODES)
        if self.class_names and (self.labels != "inferred" or self.label_mode is None):
            raise ValueError(
                f"class_names goes with labels='inferred' only, got class_names={self.class_names!r} and labels="
                f"{self.labels!r}, label_mode={self.label_mode!r}."
            )
        one_of("subset", self.subset, SUBSETS)
        if self.validation_split and not 0 < self.validation_split < 1:
            raise ValueError(f"validation_split must lie between 0 and 1, got {self.validation_split!r}.")
        if bool(self.validation_split) != bool(self.subset):
            raise ValueError(
                f"validation_split and subset go together, got validation_split={self.validation_split!r} and "
                f"subset={self.subset!r}."
            )
        if self.validation_split and self.shuffle and self.seed is None:
            raise ValueError(
                "validation_split with shuffle=True needs a seed, so that training and validation share no file, got "
                "seed=None."
            )


def directory_datasets(
    directory: str | os.PathLike, options: Options, load: Callable[[str], Any], extensions: Sequence[str], noun: str
) -> Any:
    """The dataset of what `load` makes of each file, or for `subset="both"` a list of two.

    Raises:
        FileNotFoundError: where `directory` is no folder.
        ValueError: for arguments that do not fit each other or the files.
    """
    options.check()
    if options.label_mode is None or options.labels is None:
        options.label_mode = options.labels = None
    seed = np.random.randint(int(1e6)) if options.seed is None else options.seed
    paths, labels, class_names = labelled_files(directory, options, extensions, seed)
    if options.label_mode == "binary" and len(class_names or ()) != 2:
        raise ValueError(f"label_mode='binary' needs exactly 2 classes, got {class_names}.")
    parts = []
    for subset in ("training", "validation") if options.subset == "both" else (options.subset,):
        chosen, chosen_labels = _part(paths, labels, options, subset)
        if not chosen:
            kind = f"{subset} {noun}" if subset else noun
            raise ValueError(
                f"There are no {kind} in {os.fspath(directory)!r}; it needs files that end in {', '.join(extensions)}."
            )
        shuffles = options.shuffle and not (options.subset == "both" and subset == "validation")
        dataset = _dataset(chosen, chosen_labels, len(class_names or ()), options, load, seed if shuffles else None)
        dataset.class_names = class_names
        dataset.file_paths = chosen
        parts.append(dataset)
    return parts if options.subset == "both" else parts[0]


def labelled_files(
    directory: str | os.PathLike, options: Options, extensions: Sequence[str], seed: int
) -> tuple[list[str], list[int] | None, list[str] | None]:
    """Paths, labels (None for none) and the names of classes; shuffled by `seed` as Keras does."""
    labels: Any
    class_names: list[str] | None
    if options.labels == "inferred":
        paths, labels, class_names = class_files(directory, options.class_names, extensions, options.follow_links)
        labels = labels.tolist()
    else:
        paths = files_below(directory, extensions, options.follow_links)
        labels = None if options.labels is None else list(options.labels)
        class_names = None if labels is None else [str(label) for label in sorted(set(labels))]
        if labels is not None and len(labels) != len(paths):
            raise ValueError(
                f"labels must have an entry for each file, got {len(labels)} labels for {len(paths)} files in "
                f"{os.fspath(directory)!r}."
            )
    if options.verbose:
        ending = "." if class_names is None else f" belonging to {len(class_names)} classes."
        print(f"Found {len(paths)} files{ending}")
    if options.shuffle:
        np.random.RandomState(seed).shuffle(paths)
        if labels is not None:
            np.random.RandomState(seed).shuffle(labels)
    return paths, labels, class_names


def _part(
    paths: list[str], labels: list[int] | None, options: Options, subset: str | None
) -> tuple[list[str], list[int] | None]:
    """The files of a subset: validation has the last ones."""
    if subset is None:
        return paths, labels
    at = len(paths) - int((options.validation_split or 0) * len(paths))
    cut = slice(None, at) if subset == "training" else slice(at, None)
    if options.verbose:
        print(f"Using {len(paths[cut])} files for {subset}.")
    return paths[cut], None if labels is None else labels[cut]


def _dataset(
    paths: list[str],
    labels: list[int] | None,
    classes: int,
    options: Options,
    load: Callable[[str], Any],
    seed: int | None,
) -> Dataset:
    """Files to batches; with a seed in another order in each pass."""
    targets = [] if labels is None else [_encoded(labels, options.label_mode, classes)]
    dataset = Dataset.from_arrays(paths, *targets)
    if seed is not None:
        dataset = dataset.shuffle(8 * options.batch_size if options.batch_size else 1024, seed=seed)
    step = load if labels is None else lambda path, label: (load(path), label)
    dataset = dataset.map(step, num_parallel_calls=AUTOTUNE)
    if options.batch_size is not None:
        dataset = dataset.batch(options.batch_size)
    return dataset.prefetch(AUTOTUNE)


def _encoded(labels: list[int], label_mode: str | None, classes: int) -> np.ndarray:
    try:
        numbers = np.asarray(labels, dtype=np.int32)
    except (TypeError, ValueError):
        raise ValueError(f"labels must be whole numbers, got {labels[0]!r}; number the classes from 0.") from None
    if label_mode == "binary":
        return numbers.astype(np.float32)[:, None]
    if label_mode == "categorical":
        return (numbers[:, None] == np.arange(classes)).astype(np.float32)
    return numbers
