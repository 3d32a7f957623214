"""What layers keep in files of their own within a `.keras` archive, such as a vocabulary.

A layer with `save_assets(folder)` and `load_assets(folder)` writes and reads the files of a folder, which lies at
`assets/<the path of its weights>/` in the archive.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from minikeras.saving.kinds import ASSETS
from minikeras.saving.weights_file import stored_objects

_PLAIN_NAME = re.compile(r"[\w-][\w. -]*")  # of a file right within a folder, on any system


def save_assets(model: Any) -> Iterator[tuple[str, bytes]]:
    """The files of all layers that have some, with their names in the archive."""
    for path, layer in stored_objects(model):
        if hasattr(layer, "save_assets"):
            with tempfile.TemporaryDirectory() as folder:
                layer.save_assets(folder)
                for file in sorted(Path(folder).iterdir()):
                    yield f"{ASSETS}{path}/{file.name}", file.read_bytes()


def load_assets(model: Any, files: Mapping[str, bytes | Path]) -> None:
    """Let the layers of a model read their files, given by their names in the archive: what is in them, or where it is.

    Raises:
        ValueError: for files that do not fit.
    """
    places: dict[str, dict[str, bytes | Path]] = {}
    for member, content in files.items():
        place, _, name = member.rpartition("/")
        if _PLAIN_NAME.fullmatch(name):
            places.setdefault(place, {})[name] = content
    for path, layer in stored_objects(model):
        if hasattr(layer, "load_assets"):
            with tempfile.TemporaryDirectory() as folder:
                for name, content in places.get(f"{ASSETS}{path}", {}).items():
                    if isinstance(content, Path):
                        shutil.copyfile(content, Path(folder, name))
                    else:
                        Path(folder, name).write_bytes(content)
                layer.load_assets(folder)
