"""`python -m minikeras info FILE` and `convert A B`: what is in a file, and the same in another format."""

from __future__ import annotations

import itertools
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from minikeras.autodiff.symbolic import snake_case
from minikeras.models.description import missing_objects, model_from_config
from minikeras.registry import is_description
from minikeras.saving.hdf5_arrays import SUM
from minikeras.saving.hdf5_reader import LINK, SAME, WeightsReader
from minikeras.saving.keras_file import load_model
from minikeras.saving.opening import Opened, opened
from minikeras.saving.paths import path_of, replacing
from minikeras.saving.shards import ShardedReader
from minikeras.saving.state import Group, State
from minikeras.saving.weights_file import write_state
from minikeras.utils.checks import MODEL_ENDINGS, WEIGHTS_ENDINGS, ending
from minikeras.utils.console import announce

_STATES = ("optimizer/", "optimizer_weights/")  # where an optimizer's state lies
_OLDER = ("_layer_checkpoint_dependencies", "layers\\")  # how groups were called in 2.12 to 2.15


def add_commands(commands: Any) -> None:
    """Enter `info` and `convert` among the commands of a parser."""
    told: ArgumentParser = commands.add_parser("info", help="tell what a file of a model or of weights holds")
    told.add_argument("file", help="any file or folder that load_model() or load_weights() reads, or JSON")
    told.set_defaults(run=lambda given: announce(_printable("\n".join(info(given.file)))))
    made: ArgumentParser = commands.add_parser("convert", help="write a file anew, in the format that an ending says")
    made.add_argument("source", help="any file or folder that `info` tells of")
    made.add_argument("target", help=f"ending in {', '.join((*MODEL_ENDINGS[:2], *WEIGHTS_ENDINGS[:3]))} or .json")
    made.add_argument("--overwrite", action="store_true", help="replace the target where it exists")
    made.add_argument("--without-optimizer", action="store_true", help="leave out how the model is compiled")
    made.set_defaults(run=lambda given: announce(_printable("\n".join(convert(given)))))


def run(given: Namespace) -> int:
    """Run a command: 0, or 1 where it fails, with the reason on the standard error stream."""
    try:
        given.run(given)
    except Exception as error:
        text = str(error) if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {error}"
        print(_printable(f"minikeras: {text}"), file=sys.stderr)
        return 1
    return 0


def _printable(text: str) -> str:
    """Text from files without what would steer a terminal."""
    return "".join(one if one.isprintable() or one == "\n" else "?" for one in text)


# ---------------------------------------------------------------- info


def info(filepath: Any) -> list[str]:
    """What a file holds, line by line; no array is read and no model made.

    Args:
        filepath: the file or folder.

    Raises:
        FileNotFoundError: where there is nothing.
        ValueError: for what is damaged or of no known kind.

    >>> import os, tempfile
    >>> import minikeras as keras
    >>> from minikeras.saving.command_line import info
    >>> path = os.path.join(tempfile.mkdtemp(), "model.weights.h5")
    >>> keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(path)
    >>> info(path)[1]
    'format       weights by path (.weights.h5)'
    """
    with opened(filepath) as file:
        unusual: list[str] = []
        arrays = {} if file.reader is None else dict(_arrays(file.reader, unusual))
        state = {path: one for path, one in arrays.items() if path.startswith(_STATES)}
        weights = {path: one for path, one in arrays.items() if path not in state}
        wrote = [one for one in (file.version and f"Keras {file.version}", file.backend, file.saved) if one]
        lines = [file.label, f"format       {file.kind}", f"written by   {', '.join(wrote) or 'unknown'}"]
        shapes, older = _shapes(weights), any(path.startswith(_OLDER) for path in arrays)
        by_layer: list[str] = []
        if is_description(file.config):
            how, *by_layer = _of_model(file, {} if older else shapes, unusual)
            lines += [how, *by_layer[: len(by_layer) if len(by_layer) > 1 else 0]]
        if older or len(by_layer) < 2:  # a model of the user's own class says nothing of its layers
            groups = dict.fromkeys(path.rpartition("/")[0] or path for path in weights)
            lines += _table(
                [("Path", "Weights", "Param #"), *((one, *_weights(shapes.get(one, []))) for one in groups)]
            )
        unusual += ["groups are named as Keras 2.12 to 2.15 did"] * older
        lines += [f"weights      {_amount(weights)}"] * bool(weights)
        lines += [f"optimizer    {_amount(state)}"] * bool(state)
        return lines + [f"unusual      {one}" for one in dict.fromkeys(unusual)]


def _amount(arrays: Mapping[str, Any]) -> str:
    numbers = sum(prod(one.shape) for one in arrays.values())
    size = sum(prod(one.shape) * one.dtype.itemsize for one in arrays.values())
    return f"{len(arrays)} array{'s' * (len(arrays) != 1)} of {numbers:,} numbers, {size:,} bytes"


def _shapes(arrays: Mapping[str, Any]) -> dict[str, list[tuple[int, ...]]]:
    """The shapes of the arrays below each path."""
    found: dict[str, list[tuple[int, ...]]] = {}
    for path, one in arrays.items():
        for place in itertools.accumulate(path.split("/")[:-1] or [path], "{}/{}".format):
            found.setdefault(place, []).append(one.shape)
    return found


def _weights(shapes: list[tuple[int, ...]]) -> tuple[str, str]:
    text = " ".join("x".join(map(str, shape)) or "1" for shape in shapes[:6])
    return text + " ..." * (len(shapes) > 6), f"{sum(map(prod, shapes)):,}"


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [min(max(map(len, column)), 60) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{one[:60]:{width}}" for one, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _of_model(file: Opened, shapes: Mapping[str, Any], unusual: list[str]) -> list[str]:
    """What a description says: the table of layers, how the model was compiled, and what has to be passed."""
    missing, compiled = missing_objects([file.config, file.training])
    unusual += [f"needs {what}: pass it as custom_objects" for what in (*missing, *compiled)]
    compiled = file.training or file.config.get("compile_config")
    compiled = compiled if isinstance(compiled, dict) else {}
    optimizer = compiled.get("optimizer_config") or compiled.get("optimizer")
    optimizer = optimizer.get("class_name") if isinstance(optimizer, dict) else optimizer
    rows = [("Layer (type)", "Input Shape", "Weights", "Param #"), *_rows(file, file.config, shapes, "", 0)]
    how = f", compiled with {optimizer}" if optimizer else ", not compiled"
    return [f"model        {file.config['class_name']}{how}", *_table(rows)]


def _rows(file: Opened, model: Any, shapes: Mapping[str, Any], place: str, level: int) -> Iterator[tuple[str, ...]]:
    config = model["config"]
    layers = config.get("layers") if isinstance(config, dict) else config
    counts: dict[str, int] = {}
    for layer in filter(is_description, layers if isinstance(layers, list) else ()):
        kind, own = str(layer["class_name"]), layer["config"] if isinstance(layer["config"], dict) else {}
        name, key = str(own.get("name", layer.get("name"))), snake_case(kind)
        count = counts[key] = counts.get(key, -1) + 1
        inner = f"model_weights/{name}" if file.layered else f"{place}layers/{key}{f'_{count}' * bool(count)}"
        built = layer.get("build_config") if isinstance(layer.get("build_config"), dict) else {}
        shape = built.get("input_shape", own.get("batch_shape", own.get("batch_input_shape", "")))
        yield f"{'  ' * level}{name} ({kind})", str(shape), *(_weights(shapes.get(inner, [])) if shapes else ("", "?"))
        if "layers" in own or isinstance(layer["config"], list):
            yield from _rows(file, layer, shapes, f"{inner}/", level + 1)


def _arrays(reader: Any, unusual: list[str]) -> Iterator[tuple[str, Any]]:
    """The arrays of numbers in a file by path; what else there is, and how they are kept, goes among the unusual."""
    for one in reader.readers.values() if isinstance(reader, ShardedReader) else [reader]:
        if isinstance(one, WeightsReader):
            yield from _in_hdf5(one, unusual)
        else:
            yield from ((found.path, found) for found in one.arrays())


def _in_hdf5(reader: WeightsReader, unusual: list[str]) -> Iterator[tuple[str, Any]]:
    import h5py

    for place, found in reader.entries():
        path = place.lstrip("/")
        if found is LINK:
            unusual.append(f"{path!r} is a link to elsewhere, which is never followed")
        elif found is SAME:
            unusual.append(f"{path!r} is the same as another group or array")
        elif isinstance(found, h5py.Dataset):
            holds_numbers, more = reader.ask(_of_array, found)
            unusual += [f"{path!r} {one}" for one in more if not one.startswith("arrays")]
            unusual += [one for one in more if one.startswith("arrays")]
            if holds_numbers:
                yield path, found
        elif not isinstance(found, h5py.Group):
            unusual.append(f"{path!r} holds no numbers")


def _of_array(found: Any) -> tuple[bool, list[str]]:
    """Whether an array of an HDF5 file holds numbers there, and what is unusual about it."""
    if found.shape is None or found.dtype.kind not in "biufV":
        return False, ["holds no numbers"]
    if found.external or found.is_virtual:
        return False, ["is stored in another file, which is never read"]
    compressed = [f"arrays are compressed ({found.compression})"] if found.compression else []
    return True, compressed + ([] if found.fletcher32 or SUM in found.attrs else ["arrays have no checksums"])


# ---------------------------------------------------------------- convert


def convert(given: Namespace) -> list[str]:
    """Write what a file holds in the format that another path says; returns what was translated.

    Args:
        given: `source`, `target`, `overwrite`, `without_optimizer`.

    Raises:
        FileExistsError: where the target exists.
        ValueError: for what cannot be read, or needs what the source does not hold.
    """
    target, report = path_of(given.target), list[str]()
    if target.exists() and not given.overwrite:
        raise FileExistsError(f"{str(target)!r} exists; pass --overwrite or another path.")
    text = target.name.endswith(".json") and not target.name.endswith(".weights.json")
    folder = not target.suffix
    kind = ".json" if text else "" if folder else ending("convert", str(target), (*WEIGHTS_ENDINGS[:3], *MODEL_ENDINGS))
    with opened(given.source) as file:
        if file.config is None and kind in WEIGHTS_ENDINGS[:3] and not file.layered:
            write_state(target, _copied(file), given.overwrite)
            return [f"{target}: the arrays of {file.label!r} by their paths"]
        if file.config is None:
            problem = f"{file.label!r} is {file.kind}, without the model that {str(target)!r} needs"
            raise ValueError(f"{problem}; build it in Python, load_weights() and save it.")
        model = model_from_config(file.config) if file.reader is None and text else None
    if model is None:
        model = load_model(given.source, compile=not given.without_optimizer, report=report)
    if text:
        with replacing(target, given.overwrite) as partial:
            partial.write_text(model.to_json())
    elif kind in WEIGHTS_ENDINGS[:3]:
        model.save_weights(target, given.overwrite)
    else:
        model.save(target, given.overwrite, zipped=not folder)
    return [*report, f"{target}: the model {model.name!r} of {given.source!r}"]


def _copied(file: Opened) -> State:
    groups: dict[str, Group] = {}
    for path, values in file.weights().items():
        place, _, name = path.rpartition("/")
        groups.setdefault(place, Group())[name] = values
    return groups.items()
