"""Descriptions that Keras 1.0 to 2.15 and tf.keras wrote, as those that Keras 3 writes: plain dicts to plain dicts.

What counts is the meaning that a setting had in the version that wrote it: `hard_sigmoid` stays the function that it
was, a GRU that does not say `reset_after` has it off.  A description that Keras 3 wrote comes back as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from minikeras import registry
from minikeras.declared import fields
from minikeras.layers.layer import _own_arguments
from minikeras.models.older import tables
from minikeras.models.older.compiling import modern_compile_config
from minikeras.models.older.wiring import Wiring

__all__ = ["is_older", "modern_compile_config", "modern_description"]

_FUNCTIONAL = {"module": "keras.src.models.functional", "class_name": "Functional", "registered_name": "Functional"}
_HARD_SIGMOID = "keras2_hard_sigmoid"


def modern_description(description: Any, version: str | None = None, report: list[str] | None = None) -> Any:
    """The description of a model or layer as Keras 3 would write it; the same object where it is of Keras 3 already.

    Args:
        description: `class_name`, `config` and what else is in the file, from JSON.
        version: the Keras that wrote it, such as `"2.2.4-tf"`; default what the description itself shows.
        report: sentences about what was translated are appended to it.

    Raises:
        ValueError: for a setting that cannot be kept, and for layers that there are no more.

    >>> from minikeras.models.older_config import modern_description
    >>> old = {"class_name": "Sequential", "config": [{"class_name": "Dense", "config": {"output_dim": 2, "init": "one"}}]}
    >>> modern_description(old)["config"]["layers"][0]["config"]
    {'units': 2, 'kernel_initializer': {'module': 'keras.initializers', 'class_name': 'Ones', 'config': {}, \
'registered_name': None}}
    """
    if not registry.is_description(description):
        return description
    version = version or description.get("keras_version")
    if not is_older(description, version):
        stray = [name for name in ("keras_version", "backend") if name in description]
        return {name: one for name, one in description.items() if name not in stray} if stray else description
    translation = Translation(version)
    modern = translation.layer(description)
    if report is not None:
        report += translation.sentences()
    return modern


def is_older(description: Any, version: str | None = None) -> bool:
    """Whether an older Keras than 3 wrote a description, as its version says or, without one, what is in it shows."""
    number = re.match(r"\d+", version) if isinstance(version, str) else None
    if number is not None:
        return int(number[0]) < 3
    config = description.get("config")
    if isinstance(config, list) or description.get("class_name") == "Model":
        return True
    layers = config.get("layers") if isinstance(config, dict) else None
    return any(map(_shows_age, [*(layers if isinstance(layers, list) else ()), {**description, "config": {}}])) or (
        layers is None and _shows_age(description)
    )


def _shows_age(entry: Any) -> bool:
    """Whether a layer's description has what only an older Keras writes."""
    if not registry.is_description(entry):
        return False
    config, nodes = entry["config"], entry.get("inbound_nodes")
    if not isinstance(config, dict):
        return isinstance(config, list)
    compiled = entry.get("compile_config")
    if isinstance(compiled, dict) and _is_older_optimizer(compiled.get("optimizer")):
        return True
    if "batch_input_shape" in config or (isinstance(nodes, list) and any(isinstance(one, list) for one in nodes)):
        return True
    if entry.get("module") is None and entry["class_name"] in tables.NEW_CLASSES:
        return True
    if "layers" in config:
        return is_older(entry)
    inner = [one for one in config.values() if isinstance(one, dict) and registry.is_description(one)]
    bare = any("module" not in one and one["class_name"] != "DTypePolicy" for one in inner)
    return "module" not in entry and (bare or bool(config.keys() & _ONLY_OLDER))


def _is_older_optimizer(described: Any) -> bool:
    config = described.get("config") if isinstance(described, dict) else None
    return isinstance(config, dict) and bool(config.keys() & {"is_legacy_optimizer", "jit_compile", "lr"})


_ONLY_OLDER = {"nb_filter", "border_mode", "inner_activation", "init", "consume_less", "implementation"}
_ONLY_OLDER |= {"dim_ordering", "W_regularizer", "time_major"}


class Translation:
    """One description on its way, with what is to be told of it.

    Args:
        version: the Keras that wrote it, None where that is not known.
    """

    def __init__(self, version: str | None):
        self._notes: dict[str, list[str]] = {}
        self._first = bool(version) and str(version).startswith(("0", "1"))

    def note(self, sentence: str, layer: str) -> None:
        """Have something told of a layer."""
        layers = self._notes.setdefault(sentence, [])
        if layer not in layers:
            layers.append(layer)

    def sentences(self) -> list[str]:
        """What is to be told, each with the layers that it holds for."""
        return [f"{sentence}: {', '.join(names)}." for sentence, names in self._notes.items()]

    # ------------------------------------------------------------ layers

    def layer(self, entry: Any) -> Any:
        """A layer or model; what describes none comes back as it is."""
        if not registry.is_description(entry):
            return entry
        class_name, config = str(entry["class_name"]), entry["config"]
        kept = {name: entry[name] for name in ("name", "shared_object_id") if name in entry}
        package, _, plain = class_name.rpartition(">")
        registered = entry.get("registered_name") or (class_name if package else None)
        if registry.find_custom(plain, registered) is not None:
            return {**self._others(entry, plain, registered), **kept}
        if isinstance(config, list) or class_name == "Sequential":
            return {**self._sequential(entry), **kept}
        if class_name in ("Model", "Functional", "Container") and isinstance(config, dict) and "layers" in config:
            return {**self._functional(entry), **kept}
        if class_name in tables.GONE:
            raise ValueError(
                f"The layer {_name(entry)!r} is a {class_name}, which {tables.GONE[class_name]}; pass a class of that "
                "name through custom_objects."
            )
        name = tables.NEW_CLASSES.get(plain, plain)
        if name == "Lambda" and isinstance(config, dict):
            self.note("Code in a file is not run; the function is passed in custom_objects by the layer's name", _name(entry))
            config = {**config, "dtype": _type_name(config.get("dtype"))}
            return {**_described("keras.layers", name, config), **kept}
        cls = registry.builtin_class("keras.layers", name)
        if cls is None or not isinstance(config, dict):
            return {**self._others(entry, plain, registered), **kept}
        if name != class_name:
            self.note(f"{class_name} is now called {name}", _name(entry))
        description = {"module": "keras.layers", "class_name": name, "registered_name": None}
        return {**description, "config": self._arguments(cls, name, dict(config), entry), **kept}

    def _others(self, entry: dict[str, Any], class_name: str, registered: Any) -> dict[str, Any]:
        """A user's class: its configuration is its own, apart from Keras's objects in it."""
        module = entry.get("module")
        module = None if module == "builtins" else module
        config = (
            {name: self._value(name, one) for name, one in entry["config"].items()}
            if isinstance(entry["config"], dict)
            else entry["config"]
        )
        known = {name: entry[name] for name in ("build_config",) if entry.get(name)}
        return {"module": module, "class_name": class_name, "config": config, "registered_name": registered, **known}

    def _arguments(self, cls: Any, class_name: str, config: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
        """The configuration of a built-in layer."""
        known = {"name", "trainable", "dtype", *fields(cls), *_own_arguments(cls)[0]}
        prepare = _PREPARE.get(entry["class_name"]) or _PREPARE.get(class_name)
        if prepare is not None:
            prepare(self, config, entry)
        found: dict[str, Any] = {}
        for name, value in config.items():
            new = name if name in known else next((n for n in tables.NEW_ARGUMENTS.get(name, ()) if n in known), name)
            value = self._value(new, value, _name(entry))
            if new in known and name != "batch_input_shape":
                found.setdefault(new, value)
            elif value not in tables.AT_REST.get(name, ()) and value and name not in tables.SAY_NOTHING:
                raise ValueError(
                    f"The {class_name} {_name(entry)!r} has {name}={value!r}, which layers here do not have; build the "
                    "model in code and load its weights into it."
                )
        return found

    # ------------------------------------------------------------ values in configurations

    def _value(self, name: str, value: Any, layer: str = "") -> Any:
        """The value of an argument, by the argument's name."""
        if name.endswith("activation") and value is not None:
            return self._activation(value, layer)
        for kind in ("initializer", "regularizer", "constraint"):
            if name.endswith(kind) and value is not None:
                return getattr(self, f"_{kind}")(value)
        if name == "dtype":
            return _type_name(value)
        if name == "data_format":
            return tables.DATA_FORMATS.get(value, value) if isinstance(value, str) else value
        if registry.is_description(value):
            if value["class_name"] in _VALUES:
                return _plain(value)
            return self._object(value)
        if isinstance(value, list) and any(map(registry.is_description, value)):
            return [self._value("", one, layer) for one in value]
        return _plain(value)

    def _object(self, value: dict[str, Any]) -> Any:
        """An object of which only the class says what it is."""
        for kind in ("initializer", "regularizer", "constraint"):
            if registry.builtin_class(f"keras.{kind}s", value["class_name"]) is not None:
                return getattr(self, f"_{kind}")(value)
        return self.layer(value)

    def _activation(self, value: Any, layer: str) -> Any:
        if registry.is_description(value):
            if value["class_name"] != "function":
                return self.layer(value)
            if value["config"] in ("hard_sigmoid", "linear"):
                value = value["config"]
        if value == "hard_sigmoid":
            self.note("hard_sigmoid keeps its older meaning, clip(0.2 x + 0.5, 0, 1)", layer)
            return _HARD_SIGMOID
        return value

    def _initializer(self, value: Any) -> Any:
        if isinstance(value, str):
            if not self._first or value not in tables.FIRST_INITIALIZERS:
                return value
            return _described("keras.initializers", *tables.FIRST_INITIALIZERS[value])
        if not registry.is_description(value):
            return value
        name = value["class_name"].removesuffix("V1").removesuffix("V2")
        config = value["config"]
        if value["class_name"] == "function" or not isinstance(config, dict):
            return value
        if registry.builtin_class("keras.initializers", name) is None:
            if name in tables.FIRST_INITIALIZERS or not name.islower():
                return self._others(value, name, value.get("registered_name"))
            return _described("keras.initializers", "".join(map(str.title, name.split("_"))), _without_type(config))
        config = _without_type(config)
        if config.get("distribution") == "normal":
            config["distribution"] = "truncated_normal"
        return _described("keras.initializers", name, config)

    def _regularizer(self, value: Any) -> Any:
        return self._small("keras.regularizers", value, {"WeightRegularizer": "L1L2", "ActivityRegularizer": "L1L2"})

    def _constraint(self, value: Any) -> Any:
        return self._small("keras.constraints", value, {})

    def _small(self, module: str, value: Any, names: Mapping[str, str]) -> Any:
        """A regularizer or constraint, in Keras 1 a dict of its name and arguments."""
        if not isinstance(value, dict):
            return value
        if not registry.is_description(value) and "name" in value:
            value = {"class_name": value["name"], "config": {n: one for n, one in value.items() if n != "name"}}
        if not registry.is_description(value) or not isinstance(value["config"], dict):
            return value
        name = names.get(value["class_name"], value["class_name"])
        if registry.builtin_class(module, name) is None:
            return self._others(value, name, value.get("registered_name"))
        renamed = {"m": "max_value"}
        return _described(module, name, {renamed.get(n, n): _plain(one) for n, one in value["config"].items()})

    # ------------------------------------------------------------ models

    def _sequential(self, entry: dict[str, Any]) -> dict[str, Any]:
        config = entry["config"]
        if isinstance(config, list):
            self.note("The configuration is a list of layers, as Keras wrote it up to 2.2.2", "Sequential")
            config = {"layers": config}
        if not isinstance(config.get("layers"), list):
            return entry
        layers = config["layers"]
        first = layers[0] if layers and registry.is_description(layers[0]) else None
        if first is not None and first["class_name"] == "Merge":
            return self._merging_sequential(entry, config)
        modern = [self.layer(one) for one in layers]
        if first is not None and first["class_name"] != "InputLayer" and isinstance(first["config"], dict):
            shape = first["config"].get("batch_input_shape")
            if shape is not None:
                modern.insert(0, _input_layer(first, shape))
        found = {name: config[name] for name in ("name", "trainable", "build_input_shape") if name in config}
        if isinstance(entry.get("name"), str):
            found["name"] = entry["name"]
        description = {"module": "keras", "class_name": "Sequential", "registered_name": None}
        description["config"] = {**found, "layers": modern}
        return {**description, **self._of_models(entry)}

    def _of_models(self, entry: dict[str, Any]) -> dict[str, Any]:
        """How a model is built and compiled."""
        found = {}
        if entry.get("build_config"):
            found["build_config"] = entry["build_config"]
        if entry.get("compile_config"):
            told: list[str] = []
            found["compile_config"] = modern_compile_config(entry["compile_config"], "2.15", told)
            for sentence in told:
                what, _, which = sentence.rstrip(".").rpartition(": ")
                self.note(what, which)
        return found

    def _merging_sequential(self, entry: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
        """Keras 1's Sequential that begins with the Merge of several models, as the functional model that it is."""
        merge, *rest = config["layers"]
        branches = merge["config"].get("layers") or []
        entries: list[dict[str, Any]] = []
        ends: list[Any] = []
        for i, branch in enumerate(branches):
            name = f"{_name(merge)}_{i}"
            shape = _first_shape(branch)
            if shape is None:
                raise ValueError(
                    f"The Merge {_name(merge)!r} joins models of which the description tells no input shape; build the "
                    "model in code and load its weights into it."
                )
            entrance = {"class_name": "InputLayer", "config": {"batch_input_shape": shape, "name": f"{name}_input"}}
            entries.append({**entrance, "name": f"{name}_input", "inbound_nodes": []})
            entries.append({**branch, "name": name, "inbound_nodes": [[[f"{name}_input", 0, 0, {}]]]})
            ends.append([name, 0, 0, {}])
        inputs = [[one["name"], 0, 0] for one in entries[::2]]
        for one in [merge, *rest]:
            own = {name: value for name, value in one["config"].items() if one is not merge or name != "layers"}
            entries.append({**one, "config": own, "name": _name(one), "inbound_nodes": [ends]})
            ends = [[_name(one), 0, 0, {}]]
        whole = {"layers": entries, "input_layers": inputs, "output_layers": [ends[0][:3]], "name": config.get("name")}
        return self._functional({**entry, "config": {n: v for n, v in whole.items() if v is not None}})

    def _functional(self, entry: dict[str, Any]) -> dict[str, Any]:
        config = entry["config"]
        description = {**_FUNCTIONAL, "config": {**config, **Wiring(config, self.layer, self.note).modern()}}
        if isinstance(entry.get("name"), str):
            description["config"]["name"] = entry["name"]
        return {**description, **self._of_models(entry)}


def _name(entry: Mapping[str, Any]) -> str:
    config = entry.get("config")
    return str(entry.get("name") or (config.get("name") if isinstance(config, dict) else "") or entry["class_name"])


def _described(module: str, name: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


def _without_type(config: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _plain(one) for name, one in config.items() if name not in ("dtype", "partition_info", "verify_shape")
    }


_VALUES = {"TensorShape", "__tuple__", "__ellipsis__", "TypeSpec", "CompositeTensor"}


def _plain(value: Any) -> Any:
    """A value without the wrappings that Keras 2 gave to arrays, tuples and shapes in JSON."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") == "ndarray":
        return _plain(value.get("value"))
    if value.get("class_name") in ("TensorShape", "__tuple__") and "items" in value:
        return _plain(value["items"])
    return value


def _type_name(value: Any) -> Any:
    """The name of a type or policy."""
    if registry.is_description(value) and isinstance(value["config"], dict):
        value = value["config"].get("name")
    return None if value in ("infer", "_infer") else value


def _input_layer(first: dict[str, Any], shape: Any) -> dict[str, Any]:
    config = first["config"]
    dtype = _type_name(config.get("input_dtype") or config.get("dtype"))
    dtype = dtype if isinstance(dtype, str) and not dtype.startswith("mixed") else None
    inner = {"batch_shape": _plain(shape), "dtype": dtype, "name": f"{_name(first)}_input"}
    return _described("keras.layers", "InputLayer", inner)


def _first_shape(entry: dict[str, Any]) -> Any:
    """The shape that the first layer of a stack is told."""
    config = entry["config"]
    layers = config if isinstance(config, list) else config.get("layers") if isinstance(config, dict) else None
    if layers:
        return _first_shape(layers[0])
    return config.get("batch_input_shape") if isinstance(config, dict) else None


# ---------------------------------------------------------------- what single classes need


def _one_axis(translation: Translation, config: dict[str, Any], entry: dict[str, Any]) -> None:
    """BatchNormalization's axis as a list of one."""
    axis = _plain(config.get("axis"))
    if isinstance(axis, list) and len(axis) == 1:
        config["axis"] = axis[0]


def _fusing(on: bool) -> Callable[[Translation, dict[str, Any], dict[str, Any]], None]:
    """A GRU that does not say where its reset gate applies; with CuDNN after the product, else before it."""

    def prepare(translation: Translation, config: dict[str, Any], entry: dict[str, Any]) -> None:
        if "reset_after" not in config:
            config["reset_after"] = on
            if not on:
                translation.note("A GRU that does not tell reset_after has it off, as in Keras 2", _name(entry))
        if on:
            config.setdefault("recurrent_activation", "sigmoid")

    return prepare


def _kernel(*names: str) -> Callable[[Translation, dict[str, Any], dict[str, Any]], None]:
    """The size of a kernel, which Keras 1 told by axis."""

    def prepare(translation: Translation, config: dict[str, Any], entry: dict[str, Any]) -> None:
        if all(name in config for name in names):
            config["kernel_size"] = [config.pop(name) for name in names]

    return prepare


def _transposed(translation: Translation, config: dict[str, Any], entry: dict[str, Any]) -> None:
    """Keras 1's Deconvolution2D, which is told its output's shape."""
    _kernel("nb_row", "nb_col")(translation, config, entry)
    shape, first = config.pop("output_shape", None), config.get("dim_ordering") == "th"
    if shape is None:
        return
    places = shape[2:4] if first else shape[1:3]
    for size, width, step in zip(places, config["kernel_size"], config.get("subsample", (1, 1)), strict=True):
        rest = max(width - step, 0) if config.get("border_mode") == "valid" else 0
        if size is not None and (size - rest) % step:
            raise ValueError(
                f"The Deconvolution2D {_name(entry)!r} gives outputs of shape {shape}, which Conv2DTranspose would not; "
                "build the model in code and load its weights into it."
            )


def _input(translation: Translation, config: dict[str, Any], entry: dict[str, Any]) -> None:
    shape = config.pop("batch_input_shape", None)
    if shape is not None:
        config["batch_shape"] = _plain(shape)
    config.pop("input_dtype", None)
    dtype = _type_name(config.get("dtype"))
    config["dtype"] = None if isinstance(dtype, str) and dtype.startswith("mixed") else dtype


def _padded(translation: Translation, config: dict[str, Any], entry: dict[str, Any]) -> None:
    """Four paddings in a row, as Keras 1 had them."""
    padding = config.get("padding")
    if isinstance(padding, list) and len(padding) == 4:
        config["padding"] = [padding[:2], padding[2:]]


def _modes(translation: Translation, config: dict[str, Any], entry: dict[str, Any]) -> None:
    """Older names of the ways to put out categories."""
    names = {"binary": "multi_hot", "tf-idf": "tf_idf"}
    mode = config.get("output_mode")
    config["output_mode"] = names.get(mode, mode) if isinstance(mode, str) else mode


def _word_dropout(translation: Translation, config: dict[str, Any], entry: dict[str, Any]) -> None:
    """Keras 1's Embedding could drop words in training."""
    if config.pop("dropout", 0):
        translation.note(
            "The dropout of words in an Embedding of Keras 1 is left out; predictions are the same", _name(entry)
        )


def _counts(translation: Translation, config: dict[str, Any], entry: dict[str, Any]) -> None:
    """The type of a Discretization is that of what it gives, not of what it takes."""
    config.pop("dtype", None)
    if "bins" in config:
        config["bin_boundaries" if isinstance(config["bins"], list) else "num_bins"] = config.pop("bins")


def _channels(translation: Translation, config: dict[str, Any], entry: dict[str, Any]) -> None:
    """Spatial dropout has one shape of noise."""
    config.pop("noise_shape", None)


_PREPARE: dict[str, Callable[[Translation, dict[str, Any], dict[str, Any]], None]] = {
    "InputLayer": _input,
    "BatchNormalization": _one_axis,
    **{"GRU": _fusing(False), "GRUCell": _fusing(False), "CuDNNGRU": _fusing(True), "UnifiedGRU": _fusing(True)},
    "CuDNNLSTM": lambda translation, config, entry: config.setdefault("recurrent_activation", "sigmoid"),
    **dict.fromkeys(("Convolution2D", "AtrousConvolution2D", "SeparableConvolution2D"), _kernel("nb_row", "nb_col")),
    **{"LocallyConnected2D": _kernel("nb_row", "nb_col"), "Deconvolution2D": _transposed},
    "Convolution3D": _kernel("kernel_dim1", "kernel_dim2", "kernel_dim3"),
    **{"ZeroPadding2D": _padded, "Cropping2D": _padded, "Embedding": _word_dropout, "Discretization": _counts},
    **{f"SpatialDropout{n}D": _channels for n in (1, 2, 3)},
    **dict.fromkeys(("CategoryEncoding", "TextVectorization", "StringLookup", "IntegerLookup"), _modes),
}
