"""What layers keep in files of their own within a `.keras` archive, such as a vocabulary.

A layer with `save_assets(folder)` and `load_assets(folder)` writes and reads the files of a folder, which lies at
`assets/<the path of its weights>/` in the archive.
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import Any

from minikeras.saving.archive import read_assets
from minikeras.saving.weights_file import stored_objects


def save_assets(model: Any, archive: zipfile.ZipFile) -> None:
    """Write the files of all layers that have some."""
    for path, layer in stored_objects(model):
        if hasattr(layer, "save_assets"):
            with tempfile.TemporaryDirectory() as folder:
                layer.save_assets(folder)
                for file in sorted(Path(folder).iterdir()):
                    archive.writestr(f"assets/{path}/{file.name}", file.read_bytes())


def load_assets(model: Any, filepath: Any) -> None:
    """Let the layers of a model that have files read them.

    Raises:
        ValueError: for files that do not fit.
    """
    for path, layer in stored_objects(model):
        if hasattr(layer, "load_assets"):
            with tempfile.TemporaryDirectory() as folder:
                for name, content in read_assets(filepath, f"assets/{path}/").items():
                    Path(folder, name).write_bytes(content)
                try:
                    layer.load_assets(folder)
                except ValueError as error:
                    raise ValueError(f"{str(filepath)!r} does not fit the model: {error}") from error
