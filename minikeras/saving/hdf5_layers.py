"""The weights of layers as Keras's HDF5 layout holds them: a group for each layer, attributes that name its arrays.

Files of Keras 1 and 2 are read by what their version and backend mean.  The arrays of a layer stand in the order of its
trainable weights, then the others; those of a model in a model are all together the arrays of one layer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minikeras import config
from minikeras.autodiff.tensor import assign_all
from minikeras.registry import is_builtin
from minikeras.saving.hdf5_arrays import write_array
from minikeras.saving.hdf5_reader import WeightsReader
from minikeras.tracebacks import warn

KERAS_VERSION = "3.15.1"  # the version whose layout this is
_LARGEST_ATTRIBUTE = 64512  # bytes; HDF5 keeps an attribute in an object's header
_OWN = "top_level_model_weights"  # the group of weights that belong to no layer of the model
_NUMBERED = re.compile(r"_\d+$")  # what makes the name of an array unique


# ---------------------------------------------------------------- writing


def write_layers(model: Any, root: Any) -> None:
    """Write the weights of a model's layers into an open HDF5 file or group.

    Args:
        model: a built model.
        root: an `h5py.File` or group open for writing.
    """
    layers = {layer.name: layer for layer in model.layers}
    if len(layers) < len(model.layers) or _OWN in layers:
        names = [layer.name for layer in model.layers]
        raise ValueError(f"In an HDF5 file layers have names of their own, not {_OWN!r}, got {names}; rename some.")
    root.attrs["keras_version"], root.attrs["backend"] = KERAS_VERSION.encode(), config.backend().encode()
    write_words(root, "layer_names", list(layers))
    for name, layer in layers.items():
        write_arrays(root.require_group(name), in_order(layer))
    write_arrays(root.create_group(_OWN), model._contents().own)


def in_order(layer: Any) -> list[Any]:
    """A layer's weights in the order of files: those that training changes, then the others."""
    return [*layer.trainable_weights, *layer.non_trainable_weights]


def write_arrays(group: Any, variables: Iterable[Any]) -> None:
    """Write variables below a group at their paths, and the paths into its attribute `weight_names`."""
    names: list[str] = []
    for variable in variables:
        name, value = variable.path, variable.numpy()
        while any(_collide(name, other) for other in names):
            name += "_1"
        names.append(name)
        # bfloat16 would be two bytes that mean nothing; float32 holds the same numbers
        write_array(group, name, value.astype("float32") if value.dtype.name == "bfloat16" else value)
    write_words(group, "weight_names", names)


def _collide(name: str, other: str) -> bool:
    """Whether two paths are the same, or one leads through the other."""
    return name == other or name.startswith(f"{other}/") or other.startswith(f"{name}/")


def write_words(group: Any, name: str, words: Sequence[str]) -> None:
    """Write strings as an attribute, cut into `name0`, `name1`, ... where they are too many for one."""
    coded = np.asarray([word.encode() for word in words])
    parts = max(1, math.ceil(len(coded) / max(1, _LARGEST_ATTRIBUTE // coded.itemsize)))
    for i, part in enumerate(np.array_split(coded, parts)):
        group.attrs[f"{name}{i}" if parts > 1 else name] = part


# ---------------------------------------------------------------- what a file is


@dataclass
class Origin:
    """What wrote a file, as far as it changes what arrays mean.

    Attributes:
        version: the first two numbers of Keras's version; files without one are from Keras 1.
        flipped: whether convolutions turned their kernels around, as Theano's do.
        notes: sentences about what was converted.
    """

    version: tuple[int, ...]
    flipped: bool
    notes: list[str] = field(default_factory=list)


def layers_group(reader: WeightsReader) -> Any:
    """The group that holds the layers: one of a whole model's file, or the file itself."""
    return reader.group(reader.root, "model_weights") or reader.root


def is_layered(reader: WeightsReader) -> bool:
    """Whether a file holds weights in this layout."""
    return any(reader.attribute(layers_group(reader), name) is not None for name in ("layer_names", "layer_names0"))


def origin_of(reader: WeightsReader) -> Origin:
    """What wrote the file, by its attributes."""
    places = (layers_group(reader), reader.root)
    version, backend = (
        next(filter(None, ("".join(reader.words(place, name)) for place in places)), "")
        for name in ("keras_version", "backend")
    )
    return Origin(tuple(map(int, re.findall(r"\d+", version)[:2])) or (1,), backend == "theano")


# ---------------------------------------------------------------- older arrays into those of today


def _gates(arrays: list[np.ndarray], order: tuple[int, ...]) -> list[np.ndarray]:
    """Kernel, recurrent kernel and bias from those of each gate, which files of Keras 1 hold one after the other."""
    return [np.concatenate([arrays[3 * gate + part] for gate in order], axis=-1) for part in range(3)]


def _from_cudnn(arrays: list[np.ndarray], gates: int, bias: np.ndarray) -> list[np.ndarray]:
    """Kernels as cuDNN keeps them, gate by gate in Fortran's order and transposed, as ours."""
    kernels = [part.T.reshape(part.shape, order="F") for part in np.split(arrays[0], gates, axis=1)]
    recurrent = [part.T for part in np.split(arrays[1], gates, axis=1)]
    return [np.concatenate(kernels, axis=1), np.concatenate(recurrent, axis=1), bias]


def _lstm(layer: Any, arrays: list[np.ndarray], origin: Origin) -> list[np.ndarray]:
    if len(arrays) != 3 or arrays[2].shape != (8 * layer.units,):
        return arrays
    _note(origin, f"The weights of a CuDNNLSTM became those of the LSTM {layer.name!r}.")
    return _from_cudnn(arrays, 4, arrays[2].reshape(2, -1).sum(axis=0))


def _gru(layer: Any, arrays: list[np.ndarray], origin: Origin) -> list[np.ndarray]:
    if len(arrays) != 3:
        return arrays
    units, bias = layer.units, arrays[2]
    made = {(3 * units,): False, (2, 3 * units): True, (6 * units,): True}.get(bias.shape)
    if made is not None and made != layer.reset_after:
        problem = f"the GRU {layer.name!r} has reset_after={layer.reset_after}, the file one with reset_after={made}"
        raise ValueError(f"{problem}, which computes otherwise; make it with reset_after={made}.")
    if bias.shape != (6 * units,):
        return arrays
    _note(origin, f"The weights of a CuDNNGRU became those of the GRU {layer.name!r}.")
    return _from_cudnn(arrays, 3, bias.reshape(2, -1))


def _convolution(layer: Any, arrays: list[np.ndarray], origin: Origin) -> list[np.ndarray]:
    kernels = 2 if type(layer).__name__.startswith("ConvLSTM") else 1
    made = [_kernel(layer, kernel, origin, layer.weights[i].shape) for i, kernel in enumerate(arrays[:kernels])]
    return [*made, *arrays[kernels:]]


def _kernel(layer: Any, kernel: np.ndarray, origin: Origin, wanted: tuple[int, ...]) -> np.ndarray:
    spatial, transposed = len(wanted) - 2, "Transpose" in type(layer).__name__
    if origin.version[0] == 1:
        if spatial == 1 and kernel.ndim == 4:  # (length, 1, channels, filters)
            if kernel.shape[1] != 1 or kernel.shape[0] != wanted[0] or kernel.shape[3] != wanted[2]:
                kernel = kernel.transpose(2, 3, 1, 0)  # in Keras 1.0 and 1.1 (filters, channels, length, 1)
            kernel = kernel[:, 0]
        elif kernel.ndim == len(wanted):
            first = [*range(2, kernel.ndim), *((0, 1) if transposed else (1, 0))]  # "th": (filters, channels, ...)
            last = [*range(spatial), *((spatial + 1, spatial) if transposed else (spatial, spatial + 1))]  # "tf"
            orders = [first, last] if layer.data_format == "channels_first" else [last, first]
            order = next((one for one in orders if kernel.transpose(one).shape == wanted), [*range(kernel.ndim)])
            kernel = kernel.transpose(order)
            if order != sorted(order):
                _note(origin, f"The kernel of {layer.name!r} got its axes in today's order.")
    if origin.flipped and kernel.ndim == len(wanted):
        _note(origin, f"The kernel of {layer.name!r}, written by Theano, was turned around.")
        kernel = np.flip(kernel, tuple(range(spatial)))
    return kernel


def _note(origin: Origin, sentence: str) -> None:
    if sentence not in origin.notes:
        origin.notes.append(sentence)


_Converter = Callable[[Any, list[np.ndarray], Origin], list[np.ndarray]]
_CONVERTERS: dict[str, _Converter] = {
    **{f"Conv{rank}D": _convolution for rank in (1, 2, 3)},
    **{f"Conv{rank}DTranspose": _convolution for rank in (1, 2, 3)},
    **{"ConvLSTM2D": _convolution, "LSTM": _lstm, "GRU": _gru},
}
_GATES_OF_KERAS_1 = {"LSTM": (0, 2, 1, 3), "ConvLSTM2D": (0, 2, 1, 3), "GRU": (0, 1, 2)}  # LSTM had i, c, f, o


def _leaves(layer: Any) -> Iterator[tuple[Any, str]]:
    """The layers here and below that have a converter or no layers of their own, with the class they are known by."""
    known = next((cls.__name__ for cls in type(layer).__mro__ if is_builtin(cls) and cls.__name__ in _CONVERTERS), "")
    inner = layer._contents().sublayers
    if known or not inner:
        yield layer, known
    else:
        found = (leaf for part in inner for leaf in _leaves(part))
        yield from {id(leaf): (leaf, name) for leaf, name in found}.values()


def _joined(layer: Any, arrays: list[np.ndarray], origin: Origin) -> list[np.ndarray]:
    """The arrays of Keras 1, where each gate of a recurrent layer has its own, with one for all gates."""
    made: list[np.ndarray] = []
    for leaf, known in _leaves(layer):
        gates = _GATES_OF_KERAS_1.get(known, ())
        taken = 3 * len(gates) or len(leaf.weights)
        part, arrays = arrays[:taken], arrays[taken:]
        if gates and len(part) == taken:
            _note(origin, f"The gates of {leaf.name!r}, which had arrays of their own, were joined.")
            part = _gates(part, gates)
        made += part
    return [*made, *arrays]


def _convert(layer: Any, variables: Sequence[Any], arrays: list[np.ndarray], origin: Origin) -> list[np.ndarray]:
    """Arrays in the order of `variables` as the layers of today have them."""
    place = {id(variable): i for i, variable in enumerate(variables)}
    made = list(arrays)
    for leaf, known in _leaves(layer):
        if known and all(id(variable) in place for variable in leaf.weights):
            spots = [place[id(variable)] for variable in leaf.weights]
            converted = _CONVERTERS[known](leaf, [arrays[spot] for spot in spots], origin)
            for spot, array in zip(spots, converted, strict=True):
                made[spot] = array
    return made


# ---------------------------------------------------------------- reading


def read_layers(
    model: Any,
    reader: WeightsReader,
    skip_mismatch: bool = False,
    by_name: bool | None = False,
    report: list[str] | None = None,
) -> list[str]:
    """Read the weights of a model's layers; everything is checked before the first weight changes.

    Layers that have weights are matched in order, or by their names.

    Args:
        model: a built model.
        reader: the file.
        skip_mismatch: whether layers that do not fit are left alone, with a warning, instead of refused.
        by_name: whether layers are matched by their names, others left alone; None is in order, but by their names
            where the file and the model have the same ones.
        report: a list that sentences about what was converted are appended to.

    Returns:
        Those sentences.

    Raises:
        ValueError: for a file that is damaged or does not fit the model.
    """
    group = layers_group(reader)
    origin = origin_of(reader)
    groups = {name: reader.group(group, name) for name in reader.words(group, "layer_names")}
    arrays = {name: reader.words(one, "weight_names") for name, one in groups.items() if one is not None}
    names, layers = [name for name in arrays if arrays[name]], [layer for layer in model.layers if layer.weights]
    known = {layer.name: layer for layer in layers}
    if by_name is None:
        by_name = sorted(known) == sorted(names)
    if not by_name and len(names) != len(layers):
        counts = f"it has {len(names)} layers with weights, the model {len(layers)}"
        raise ValueError(f"{reader.label!r} does not fit the model: {counts}.")
    named = [(known[name], name) for name in names if name in known]
    if by_name and layers and not named:
        warn(f"{reader.label!r} has no layer of a name that the model has; none was loaded.")
    ready: list[tuple[Any, np.ndarray]] = []
    for layer, name in named if by_name else zip(layers, names, strict=True):
        variables = in_file_order(layer, arrays[name])
        ready += _pairs(reader, layer, variables, arrays[name], groups[name], name, origin, skip_mismatch)
    extra, own = reader.group(group, _OWN), model._contents().own
    words = [] if extra is None else reader.words(extra, "weight_names")
    if words or (own and extra is not None):
        ready += _pairs(reader, model, own, words, extra, _OWN, origin, skip_mismatch)
    assign_all([variable for variable, _ in ready], [array for _, array in ready])
    if report is not None:
        report += origin.notes
    return origin.notes


def in_file_order(layer: Any, words: Sequence[str]) -> list[Any]:
    """A layer's weights in the order of a file's arrays, as their names tell it, else that of files written today."""
    by_name = {_key(variable.path): variable for variable in layer.weights}
    named = [by_name[_key(word)] for word in words if _key(word) in by_name]
    # in a model frozen or thawed since the file was written the weights stand in another order now
    orders = [in_order(layer), sorted(layer.weights, key=lambda one: not one.made_trainable), layer.weights]
    if len(named) == len(words) == len({*map(id, named)}) == len(layer.weights):
        return named
    parts = [_NUMBERED.sub("", _key(word)[-1]) for word in words]
    return next((one for one in orders if [_NUMBERED.sub("", _key(v.path)[-1]) for v in one] == parts), orders[0])


def _key(path: str) -> tuple[str, ...]:
    """The layer and the weight that a path ends with."""
    return tuple(re.sub(r":\d+$", "", path).split("/")[-2:])


def _pairs(
    reader: WeightsReader,
    layer: Any,
    variables: list[Any],
    words: list[str],
    group: Any,
    name: str,
    origin: Origin,
    skip_mismatch: bool,
) -> list[tuple[Any, np.ndarray]]:
    """A layer's variables and what the file has for them; none where they do not fit and that may be."""
    stored = [reader.array(group, word) for word in words]
    wanted, shapes = [tuple(one.shape) for one in variables], [one.shape for one in stored]
    problem = f"the layer {layer.name!r} has weights of the shapes {wanted}, the file has {shapes} for {name!r}"
    # no layout of older files has more than two numbers for one of today; what has more is not read
    if sum(map(math.prod, shapes)) <= 2 * sum(map(math.prod, wanted)):
        found = [one[()] for one in stored]
        if origin.version[0] == 1 and len(found) != len(variables):
            found = _joined(layer, found, origin)
        if len(found) == len(variables):
            try:
                found = _convert(layer, variables, found, origin)
            except ValueError as error:
                problem = str(error)
        if [one.shape for one in found] == wanted:
            return list(zip(variables, found, strict=True))
    problem = f"{reader.label!r} does not fit the model: {problem.rstrip('.')}."
    if not skip_mismatch:
        raise ValueError(problem)
    warn(f"{problem}  It was left alone.")
    return []
