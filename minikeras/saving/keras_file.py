"""Whole models in files: `.keras` archives, the same as a folder, and HDF5."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from minikeras import limits
from minikeras.models.description import model_from_config
from minikeras.models.model import warn_of_unwritten
from minikeras.registry import NotKnown, describe_whole
from minikeras.saving import hdf5_file
from minikeras.saving.assets import load_assets, save_assets
from minikeras.saving.hdf5_arrays import new_file
from minikeras.saving.hdf5_layers import KERAS_VERSION
from minikeras.saving.kinds import ASSETS, CONFIG, METADATA, NPZ_WEIGHTS, WEIGHTS
from minikeras.saving.opening import Opened, opened, reporting
from minikeras.saving.paths import format_of, path_of, replacing, replacing_folder
from minikeras.saving.state import write_hdf5
from minikeras.saving.weights_file import read_state, state_of
from minikeras.tracebacks import user_facing
from minikeras.utils.checks import MODEL_ENDINGS, flag, one_of

_FOLDER = {CONFIG, METADATA, WEIGHTS, NPZ_WEIGHTS, ASSETS.rstrip("/")}  # names in a folder with a model


@user_facing
def save_model(
    model: Any,
    filepath: Any,
    overwrite: bool = True,
    zipped: bool | None = None,
    include_optimizer: bool = True,
    **kwargs: Any,
) -> None:
    """Write a model's description, weights and optimizer state to a file.

    A file or folder is complete, or what was there before stays as it was.  Losses given to `add_loss` of a functional
    model are in it, except functions: there is a warning.  Keras itself opens such a file as a model without them.

    Args:
        model: the model.
        filepath: where; the ending decides: `.keras`, or `.h5` and `.hdf5` for the format of Keras 2.
        overwrite: whether an existing file is replaced, or a folder that holds a model and nothing else.
        zipped: False writes the members of a `.keras` archive into a folder of that name.
        include_optimizer: whether the optimizer's state is in the file; the model is compiled on loading either way.
        kwargs: `save_format="h5"` or `"keras"`, as in Keras 2, where the path has no ending that says it.

    Raises:
        ValueError: for another ending, or a model that holds what cannot be described; nothing is written then.
        FileExistsError: where the file exists and `overwrite` is False, or a folder that is no model.

    >>> import minikeras as keras
    >>> from minikeras import layers
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "model.keras")
    >>> keras.models.save_model(keras.Sequential([keras.Input((3,)), layers.Dense(2)]), path)
    >>> os.path.exists(path)
    True
    """
    flag("overwrite", overwrite)
    flag("include_optimizer", include_optimizer)
    one_of("zipped", zipped, (None, True, False))
    path = path_of(filepath)
    warn_of_unwritten(model)
    if zipped is False:
        if kwargs or path.name.endswith(MODEL_ENDINGS):
            problem = f"zipped=False writes a folder, got {str(path)!r} {sorted(kwargs) or ''}".strip()
            raise ValueError(f"{problem}; pass the path of a folder and no further arguments.")
        with replacing_folder(path, overwrite, _FOLDER if _is_model_folder(path) else ()) as partial:
            for name, content in _members(model, include_optimizer):
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                (partial / name).write_bytes(content)
        return
    if format_of("save_model", path, MODEL_ENDINGS, kwargs) == ".keras":
        with replacing(path, overwrite) as partial, zipfile.ZipFile(partial, "w") as archive:
            for name, content in _members(model, include_optimizer):
                archive.writestr(name, content)
    else:
        with replacing(path, overwrite) as partial, new_file(partial) as root:
            hdf5_file.write_model(model, root, include_optimizer)


def _members(model: Any, include_optimizer: bool) -> Iterator[tuple[str, Any]]:
    """The members of an archive with their contents."""
    metadata = {"keras_version": KERAS_VERSION, "date_saved": datetime.now().strftime("%Y-%m-%d@%H:%M:%S")}
    yield METADATA, json.dumps(metadata).encode()
    yield CONFIG, json.dumps(describe_whole(model)).encode()
    weights = io.BytesIO()
    write_hdf5(weights, state_of(model, include_optimizer))
    yield WEIGHTS, weights.getbuffer()
    yield from save_assets(model)


def _is_model_folder(path: Path) -> bool:
    """Whether a folder holds what `save_model` writes and nothing else."""
    names = {one.name for one in path.iterdir()} if path.is_dir() else set()
    return {CONFIG, WEIGHTS} <= names <= _FOLDER


@user_facing
def load_model(
    filepath: Any,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
    report: bool | list[str] = False,
    skip_unknown: bool | str = False,
    limit: int | None = None,
) -> Any:
    """The model in a file or folder, with its weights and its optimizer's state.

    What is in the file decides, not its name: a `.keras` archive, the same as a folder, or HDF5 as Keras 2 and 3 write
    it.  Only built-in classes and those that were registered or are passed here are made; code in a file never runs.

    Args:
        filepath: the file or folder.
        custom_objects: classes and functions of your own by name; a `Lambda`'s function by its own name or the layer's.
        compile: whether the model is compiled as it was.
        safe_mode: accepted for familiarity; code in a file does not run with False either.
        report: a list that is filled with sentences on what was translated or left out, or True to have them printed.
        skip_unknown: `"weights"` to get the arrays in the file, as a dict by path, where the model cannot be made
            because classes or functions are missing, or no model is described.
        limit: bytes that the model may take, default what a file of its size can need.

    Returns:
        The model, or the dict.

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
    one_of("skip_unknown", skip_unknown, (False, "weights"))
    flag("compile", compile)
    with opened(filepath, limit) as file, reporting(report) as sentences:
        if file.reader is None:
            problem = f"{file.label!r} holds an architecture without weights"
            raise ValueError(
                f"{problem}; make the model with model_from_json() and give it weights with load_weights()."
            )
        if file.config is None and not skip_unknown:
            problem = f"{file.label!r} holds weights without an architecture"
            raise ValueError(f"{problem}; build the model and give it the weights with load_weights().")
        size = file.size(limit)
        try:
            if file.config is None:
                raise NotKnown("There is no description.")
            described = file.path / CONFIG if file.path.is_dir() else file.path
            with limits.for_file(max(size, described.stat().st_size), limit):
                model = _made(file, custom_objects, compile, sentences)
        except NotKnown as error:
            if skip_unknown:
                return file.weights()
            hint = "load_model(..., skip_unknown='weights') gives the weights alone."
            raise ValueError(f"{file.label!r} cannot be loaded: {error} {hint}") from error
        except ValueError as error:
            raise ValueError(f"{file.label!r} cannot be loaded: {error}") from error
        if file.layered:
            converted = hdf5_file.read_layers(model, file.reader, by_name=None, report=sentences)
            if model.compiled:
                hdf5_file.read_optimizer(model, file.reader, sentences, converted)
        else:
            read_state(model, file, sentences)
        load_assets(model, file.files)
        return model


def _made(file: Opened, custom_objects: Mapping[str, Any] | None, compile: bool, report: list[str]) -> Any:
    """The model that a file describes, with new weights."""
    if file.layered:
        return hdf5_file.make_model(
            file.config, file.training if compile else None, file.version, custom_objects, report
        )
    config = file.config if compile else {key: part for key, part in file.config.items() if key != "compile_config"}
    return model_from_config(config, custom_objects, file.version, report)
