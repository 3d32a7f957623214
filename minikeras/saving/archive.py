"""The members of a `.keras` archive."""

from __future__ import annotations

import io
from typing import Any

from minikeras.utils.bounded import DAMAGE, Zip, reason

CONFIG, WEIGHTS, ASSETS = "config.json", "model.weights.h5", "assets/"


def read_members(path: Any, limit: int | None = None) -> tuple[bytes, io.BytesIO, dict[str, bytes]]:
    """The description and the weights in a `.keras` archive, and the layers' own files in it by their names there.

    Args:
        path: the archive.
        limit: bytes that its members may take together; by default a hundred times its size and 16 MiB.

    Raises:
        ValueError: for a damaged archive, one without them, or one whose members take more than they may.
    """
    try:
        with Zip(path, limit) as archive:
            config, weights = archive.contents(CONFIG), io.BytesIO(archive.contents(WEIGHTS))
            names = [name for name in archive.namelist() if name.startswith(ASSETS) and not name.endswith("/")]
            return config, weights, {name: archive.contents(name) for name in names}
    except KeyError as error:
        raise ValueError(f"{str(path)!r} is not a model file: {error.args[0]}.") from error
    except DAMAGE as error:
        raise ValueError(f"{str(path)!r} is damaged or not a .keras file: {reason(error)}.") from error
