"""Texts in folders as a `Dataset`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

from minikeras.preprocessing.directory_dataset import FORMATS, Options, directory_datasets
from minikeras.tracebacks import user_facing
from minikeras.utils.checks import one_of


class Text(str):
    """A string that can also be decoded, as the bytes that TensorFlow gives can."""

    __slots__ = ()

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """This string."""
        return str(self)


@user_facing
def text_dataset_from_directory(
    directory: str | os.PathLike,
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names: Sequence[str] | None = None,
    batch_size: int | None = 32,
    max_length: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    follow_links: bool = False,
    format: str = "tf",
    verbose: bool = True,
) -> Any:
    """A `Dataset` of the texts (`.txt`, UTF-8) in a folder, read while it is iterated.

    Args:
        max_length: characters of each text that are kept; default all.
        directory, labels, label_mode, class_names, batch_size, shuffle, seed, validation_split, subset, follow_links,
            format, verbose: as for `image_dataset_from_directory`.

    Returns:
        A `Dataset` of arrays of strings (type object), shape (batch,), or pairs of them and labels; for
        `subset="both"` a list of two.  Its `class_names` and `file_paths` are lists.  Bytes that are not UTF-8 become
        the character U+FFFD.

    Raises:
        FileNotFoundError: where `directory` is no folder.
        ValueError: for arguments that do not fit each other or the files.

    >>> import minikeras as keras
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> (folder / "good").mkdir()
    >>> _ = (folder / "good" / "1.txt").write_text("a fine text")
    >>> data = keras.utils.text_dataset_from_directory(folder, verbose=False)
    >>> data.class_names
    ['good']
    """
    one_of("format", format, FORMATS)
    options = Options(
        labels, label_mode, class_names, batch_size, shuffle, seed, validation_split, subset, follow_links, verbose
    )
    return directory_datasets(directory, options, partial(load_text, max_length=max_length), (".txt",), "texts")


def load_text(path: str, max_length: int | None) -> Text:
    """The first characters of a file."""
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        return Text(file.read(-1 if max_length is None else max_length))
