"""`.keras` files: a zip archive of a model's description and its weights, as Keras writes and reads it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from minikeras.models.description import model_from_config, parse_description
from minikeras.models.model import warn_of_unwritten
from minikeras.registry import describe_whole, weight_budget
from minikeras.saving.archive import CONFIG, WEIGHTS, read_members
from minikeras.saving.assets import load_assets, save_assets
from minikeras.saving.hdf5_reader import WeightsReader
from minikeras.saving.paths import as_path, existing, replacing
from minikeras.saving.weights_file import read_weights, write_weights
from minikeras.tracebacks import user_facing
from minikeras.utils.checks import one_of

_KERAS_VERSION = "3.15.1"  # the version whose layout this is
_SPARE_WEIGHTS = 1 << 20  # entries that a model may create beyond twice those in its file


@user_facing
def save_model(
    model: Any,
    filepath: Any,
    overwrite: bool = True,
    zipped: bool | None = None,
    include_optimizer: bool = True,
    **kwargs: Any,
) -> None:
    """Write a model's description, weights and optimizer state to a `.keras` file.

    Losses given to `add_loss` of a functional model are in it, except functions: there is a warning.  Keras itself
    opens such a file as a model without them.

    Args:
        model: the model.
        filepath: path ending in `.keras`.
        overwrite: whether an existing file is replaced.
        zipped: accepted for familiarity; the file is one archive.
        include_optimizer: whether the optimizer's state is in the file; the model is compiled on loading either way.

    Raises:
        ValueError: for another ending, or a model that holds what cannot be described; nothing is written then.
        FileExistsError: where the file exists and `overwrite` is False.

    >>> import minikeras as keras
    >>> from minikeras import layers
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "model.keras")
    >>> keras.models.save_model(keras.Sequential([keras.Input((3,)), layers.Dense(2)]), path)
    >>> os.path.exists(path)
    True
    """
    if kwargs or zipped is False:
        raise ValueError(f"save_model writes one .keras archive, got {sorted(kwargs) or ['zipped']}; leave them out.")
    one_of("overwrite", overwrite, (True, False))
    one_of("include_optimizer", include_optimizer, (True, False))
    path = as_path(filepath, (".keras",), "Models")
    warn_of_unwritten(model)
    description = describe_whole(model)
    metadata = {"keras_version": _KERAS_VERSION, "date_saved": datetime.now().strftime("%Y-%m-%d@%H:%M:%S")}
    with replacing(path, overwrite) as partial:
        weights = io.BytesIO()
        write_weights(model, weights, include_optimizer)
        with zipfile.ZipFile(partial, "w") as archive:
            archive.writestr("metadata.json", json.dumps(metadata))
            archive.writestr(CONFIG, json.dumps(description))
            archive.writestr(WEIGHTS, weights.getbuffer())  # type: ignore[arg-type]
            save_assets(model, archive)


@user_facing
def load_model(
    filepath: Any, custom_objects: Mapping[str, Any] | None = None, compile: bool = True, safe_mode: bool = True
) -> Any:
    """The model in a `.keras` file, with its weights and its optimizer's state.

    Only built-in classes and those that were registered or are passed here are made; code in a file never runs.

    Args:
        filepath: path ending in `.keras`.
        custom_objects: classes and functions of your own by name.
        compile: whether the model is compiled as it was.
        safe_mode: accepted for familiarity; there is no other mode.

    Raises:
        FileNotFoundError: where there is no file.
        ValueError: for a file that is damaged, of another kind, or that describes what is not known.

    >>> import minikeras as keras
    >>> from minikeras import layers
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "model.keras")
    >>> keras.Sequential([keras.Input((3,)), layers.Dense(2)]).save(path)
    >>> keras.models.load_model(path).output_shape
    (None, 2)
    """
    path = existing(as_path(filepath, (".keras",), "Models"))
    config, weights, files = read_members(path)
    with WeightsReader(weights, str(path)) as reader:
        entries = reader.count_entries()
    try:
        description = parse_description(config)
        if isinstance(description, dict) and not compile:
            description.pop("compile_config", None)
        with weight_budget(2 * entries + _SPARE_WEIGHTS):
            model = model_from_config(description, custom_objects)
    except ValueError as error:
        raise ValueError(f"{str(path)!r} cannot be loaded: {error}") from error
    read_weights(model, weights, str(path))
    load_assets(model, files)
    return model
