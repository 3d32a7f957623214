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
from minikeras.models.older.compiling import arguments_of, modern_compile_config
from minikeras.models.older.wiring import Wiring
from minikeras.registry import description_of

__all__ = ["is_older", "modern_compile_config", "modern_config", "modern_description", "modern_layer"]

_MODELS = ("Sequential", "Functional", "Model", "Container")
_APPLICATIONS = (f"keras.src.applications.{family}" for family in ("convnext", "inception_resnet_v2"))
_HOMES = ("keras.layers", "keras._legacy.layers", *_APPLICATIONS)
_PARTS = ("initializer", "regularizer", "constraint")
# arguments that only older Keras writes
_ONLY_OLDER = {"nb_filter", "border_mode", "inner_activation", "init", "consume_less", "implementation", "time_major"}
_ONLY_OLDER |= {"dim_ordering", "W_regularizer"}
_KERNELS = (("nb_row", "nb_col"), ("kernel_dim1", "kernel_dim2", "kernel_dim3"))  # which Keras 1 told by axis
_OPTIMIZERS = {"is_legacy_optimizer", "jit_compile", "lr"}  # and in optimizers
_ELSEWHERE = "build the model in code and load its weights into it"


def modern_description(description: Any, version: str | None = None, report: list[str] | None = None) -> Any:
    """The description of a model or layer as Keras 3 would write it; the same object where it is of Keras 3 already.

    Args:
        description: `class_name`, `config` and what else is in the file, from JSON.
        version: the Keras that wrote it, such as `"2.2.4-tf"`; default what the description itself shows.
        report: sentences about what was translated are appended to it.

    Raises:
        ValueError: for a setting that cannot be kept, and for layers that there are no more.

    >>> from minikeras.models.older_config import modern_description
    >>> dense = {"class_name": "Dense", "config": {"output_dim": 2, "bias": True}}
    >>> old = {"class_name": "Sequential", "config": [dense]}
    >>> modern_description(old)["config"]["layers"][0]["config"]
    {'units': 2, 'use_bias': True}
    """
    if not registry.is_description(description):
        return description
    version = version or description.get("keras_version")
    if not is_older(description, version):
        stray = [name for name in ("keras_version", "backend") if name in description]
        return {name: one for name, one in description.items() if name not in stray} if stray else description
    translation = Translation()
    modern = translation.layer(description)
    if report is not None:
        report += translation.sentences()
    return modern


def modern_layer(description: dict[str, Any]) -> dict[str, Any]:
    """The description of a built-in layer or a model in the form of today; any other as it is."""
    name = str(description["class_name"])
    known = name in _MODELS or registry.builtin_class("keras.layers", tables.NEW_CLASSES.get(name, name)) is not None
    return modern_description(description) if known else description


def modern_config(class_name: str, config: Any) -> Any:
    """The configuration of a model, for its `from_config`, in the form of today."""
    described = {"module": "keras", "class_name": class_name, "config": config}
    return Translation().layer(described)["config"] if is_older(described) else config


def is_older(description: Any, version: str | None = None) -> bool:
    """Whether an older Keras than 3 wrote a description, as its version says or, without one, what is in it shows."""
    number = re.match(r"\d+", version) if isinstance(version, str) else None
    return (
        int(number[0]) < 3 if number is not None else registry.is_description(description) and _shows_age(description)
    )


def _shows_age(entry: dict[str, Any]) -> bool:
    """Whether a description has what only an older Keras writes."""
    config, nodes, name = entry["config"], entry.get("inbound_nodes"), entry["class_name"]
    if not isinstance(config, dict):
        return isinstance(config, list)
    inner = [one for one in config.values() if isinstance(one, dict) and "class_name" in one]
    bare = any("module" not in one and one["class_name"] != "DTypePolicy" for one in inner)
    optimizer = (entry.get("compile_config") or {}).get("optimizer")
    settings = optimizer.get("config") if isinstance(optimizer, dict) else None
    return (
        "batch_input_shape" in config
        or ("layers" in config and (name == "Model" or any(map(is_older, config["layers"] or ()))))
        or (isinstance(nodes, list) and any(isinstance(one, list) for one in nodes))
        or (isinstance(settings, dict) and bool(settings.keys() & _OPTIMIZERS))
        or (entry.get("module") is None and name in tables.NEW_CLASSES)
        or ("module" not in entry and (bare or bool(config.keys() & _ONLY_OLDER)))
    )


class Translation:
    """One description on its way, with what is to be told of it."""

    def __init__(self) -> None:
        self._notes: dict[str, list[str]] = {}
        self._told: list[str] = []

    def note(self, sentence: str, layer: str) -> None:
        """Have something told of a layer."""
        layers = self._notes.setdefault(sentence, [])
        if layer not in layers:
            layers.append(layer)

    def sentences(self) -> list[str]:
        """What is to be told, each with the layers that it holds for."""
        return [f"{sentence}: {', '.join(names)}." for sentence, names in self._notes.items()] + self._told

    # ------------------------------------------------------------ layers

    def layer(self, entry: Any) -> Any:
        """A layer or model; what describes none comes back as it is."""
        if not registry.is_description(entry):
            return entry
        kept = {name: entry[name] for name in ("name", "shared_object_id") if name in entry}
        return {**self._translated(entry, str(entry["class_name"]), entry["config"]), **kept}

    def _translated(self, entry: dict[str, Any], class_name: str, config: Any) -> dict[str, Any]:
        package, _, plain = class_name.rpartition(">")
        registered = entry.get("registered_name") or (class_name if package else None)
        if registry.find_custom(plain, registered) is not None:
            return self._others(entry, plain, registered)
        if isinstance(config, list) or (class_name == "Sequential" and "layers" in config):
            return self._sequential(entry)
        if class_name in _MODELS and "layers" in config:
            return self._model("keras.src.models.functional", "Functional", entry, self._wired(config))
        if class_name in tables.GONE:
            why = f"is a {class_name}, which {tables.GONE[class_name]}"
            raise ValueError(f"The layer {_name(entry)!r} {why}; pass a class of that name through custom_objects.")
        if class_name == "Merge":
            return self._merge(entry, config)
        name = tables.NEW_CLASSES.get(plain, plain)
        home = next((one for one in _HOMES if registry.builtin_class(one, name) is not None), "")
        cls = registry.builtin_class(home, name)
        if cls is None or not isinstance(config, dict):
            return self._others(entry, plain, registered)
        if name != class_name:
            self.note(f"{class_name} is now called {name}", _name(entry))
        if name == "Lambda":
            self.note(
                "Code in a file is not run; the function is passed in custom_objects by the layer's name", _name(entry)
            )
            return description_of("keras.layers", name, {**config, "dtype": _type_name(config.get("dtype"))})
        return description_of(home, name, self._arguments(cls, name, dict(config), entry))

    def _others(self, entry: dict[str, Any], class_name: str, registered: Any) -> dict[str, Any]:
        """A user's class: its configuration is its own, apart from Keras's objects in it."""
        config = entry["config"]
        if isinstance(config, dict) and config.keys() >= {"layers", "input_layers", "output_layers"}:
            config = self._wired(config)
        elif isinstance(config, dict):
            config = {name: self._value(name, one, class_name) for name, one in config.items()}
        module = None if entry.get("module") == "builtins" and class_name != "function" else entry.get("module")
        found = description_of(module, class_name, config, registered)
        return {**found, "build_config": entry["build_config"]} if entry.get("build_config") else found

    def _arguments(self, cls: Any, class_name: str, config: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
        """The configuration of a built-in layer."""
        known = {"name", "trainable", "dtype", *fields(cls), *_own_arguments(cls)[0]} - {"batch_input_shape"}
        for axes in _KERNELS:
            if all(axis in config for axis in axes):
                config["kernel_size"] = [config.pop(axis) for axis in axes]
        prepare = _PREPARE.get(entry["class_name"]) or _PREPARE.get(class_name)
        if prepare is not None:
            prepare(self, config, _name(entry))
        found: dict[str, Any] = {}
        for old, value in config.items():
            name = next((one for one in (old, *tables.NEW_ARGUMENTS.get(old, ())) if one in known), old)
            if old.endswith("init") and isinstance(value, str):
                value = tables.FIRST_INITIALIZERS.get(value, value)
            value = self._value(name, value, _name(entry))
            if name in known:
                found.setdefault(name, value)
            elif value and old not in tables.SAY_NOTHING and tables.AT_REST.get(old) != value:
                problem = f"The {class_name} {_name(entry)!r} has {old}={value!r:.200}, which layers here do not have"
                raise ValueError(f"{problem}; {_ELSEWHERE}.")
        return found

    # ------------------------------------------------------------ values in configurations

    def _value(self, name: str, value: Any, layer: str) -> Any:
        """The value of an argument, by the argument's name."""
        if name == "dtype":
            return _type_name(value)
        if name in tables.NEW_VALUES and isinstance(value, str):
            return tables.NEW_VALUES[name].get(value, value)
        if name in ("padding", "cropping") and isinstance(value, list) and len(value) == 4:
            return [value[:2], value[2:]]  # in Keras 1 all in a row
        if name.endswith("activation"):
            return self._activation(value, layer)
        kind = next((f"keras.{one}s" for one in _PARTS if name.endswith(one)), None)
        if kind is not None or not registry.is_description(value):
            many = isinstance(value, list) and any(map(registry.is_description, value))
            return self._part(kind, value) if kind else [self.layer(v) for v in value] if many else _plain(value)
        if "items" in value or value["class_name"].startswith("__"):
            return _plain(value)
        homes = (f"keras.{one}s" for one in _PARTS)
        kind = next((one for one in homes if registry.builtin_class(one, value["class_name"]) is not None), None)
        return self._part(kind, value) if kind else self.layer(value)

    def _activation(self, value: Any, layer: str) -> Any:
        if registry.is_description(value):
            if value["class_name"] != "function":
                return self.layer(value)
            value = value["config"] if value["config"] == "hard_sigmoid" else value
        if value != "hard_sigmoid":
            return value
        self.note("hard_sigmoid keeps its older meaning, clip(0.2 x + 0.5, 0, 1)", layer)
        return "keras2_hard_sigmoid"

    def _part(self, module: str, value: Any) -> Any:
        """An initializer, regularizer or constraint; in Keras 1 a dict of its name and arguments."""
        if isinstance(value, dict) and "name" in value and "config" not in value:
            value = {"class_name": value["name"], "config": {name: value[name] for name in value if name != "name"}}
        if not registry.is_description(value) or not isinstance(value["config"], dict):
            return value
        name = re.sub(r"V[12]$", "", value["class_name"])
        name = "".join(map(str.title, name.split("_"))) if name.islower() else tables.NEW_CLASSES.get(name, name)
        cls = registry.builtin_class(module, name)
        if cls is None:
            return self._others(value, value["class_name"], value.get("registered_name"))
        config = {old: self._value(old, one, "") for old, one in value["config"].items()}
        names = {
            old: next((n for n in (old, *tables.NEW_ARGUMENTS.get(old, ())) if n in arguments_of(cls)), None)
            for old in config
        }
        return description_of(module, name, {new: config[old] for old, new in names.items() if new})

    # ------------------------------------------------------------ models

    def _model(self, module: str, class_name: str, entry: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
        """A model, how it is built and how it was compiled."""
        if isinstance(entry.get("name"), str):
            config["name"] = entry["name"]
        found = description_of(module, class_name, config, class_name if class_name == "Functional" else None)
        if entry.get("build_config"):
            found["build_config"] = entry["build_config"]
        if entry.get("compile_config"):
            found["compile_config"] = modern_compile_config(entry["compile_config"], "2.15", self._told)
        return found

    def _wired(self, config: dict[str, Any]) -> dict[str, Any]:
        return {**config, **Wiring(config, self.layer, self.note).modern()}

    def _sequential(self, entry: dict[str, Any]) -> dict[str, Any]:
        config: Any = entry["config"]
        if isinstance(config, list):
            self.note("The configuration is a list of layers, as Keras wrote it up to 2.2.2", "Sequential")
            config = {"layers": config}
        layers = config["layers"] or []
        first: dict[str, Any] = {"class_name": "", "config": {}}
        first = layers[0] if layers and registry.is_description(layers[0]) else first
        if first["class_name"] == "Merge" and first["config"].get("layers"):
            return self._model("keras.src.models.functional", "Functional", entry, self._merged(config))
        modern = [self.layer(one) for one in layers]
        if first["class_name"] != "InputLayer" and isinstance(first["config"], dict):
            if first["config"].get("batch_input_shape") is not None:
                modern.insert(0, _entrance(first, f"{_name(first)}_input"))
            elif modern and "layers" not in modern[0]["config"]:  # known from the data that it was built with
                known = [one.get("build_config") for one in layers]
                modern = [{**one, "build_config": b} if b else one for one, b in zip(modern, known, strict=True)]
        found = {name: config[name] for name in ("name", "trainable", "build_input_shape") if name in config}
        return self._model("keras", "Sequential", entry, {**found, "layers": modern})

    # ------------------------------------------------------------ Keras 1's Merge

    def _merge(self, entry: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
        """A Merge as the layer that does what its mode says."""
        mode = config.get("mode")
        if mode not in tables.MERGES:
            raise ValueError(
                f"The Merge {_name(entry)!r} has the mode {mode!r:.80}, which is code or unknown; {_ELSEWHERE}."
            )
        name = tables.MERGES[mode]
        self.note(f"Merge of mode {mode!r} is now called {name}", _name(entry))
        settings = {"Concatenate": {"axis": config.get("concat_axis", -1)}}
        settings["Dot"] = {"axes": config.get("dot_axes", -1), "normalize": mode == "cos"}
        return description_of("keras.layers", name, {"name": _name(entry), **settings.get(name, {})})

    def _merged(self, config: dict[str, Any]) -> dict[str, Any]:
        """A Sequential that begins with the Merge of several models, as the functional model that it is."""
        merge, *rest = config["layers"]
        entries: list[dict[str, Any]] = []
        ends: list[Any] = []
        for i, branch in enumerate(merge["config"]["layers"]):
            name, first = f"{_name(merge)}_{i}", branch
            while isinstance(first["config"], list) or "layers" in first["config"]:
                first = (first["config"] if isinstance(first["config"], list) else first["config"]["layers"])[0]
            if "batch_input_shape" not in first["config"]:
                raise ValueError(f"A model in the Merge {_name(merge)!r} tells no input shape; {_ELSEWHERE}.")
            entries += [{**_entrance(first, f"{name}_input"), "name": f"{name}_input", "inbound_nodes": []}]
            entries += [{**branch, "name": name, "inbound_nodes": [[[f"{name}_input", 0, 0, {}]]]}]
            ends.append([name, 0, 0, {}])
        inputs = [[one["name"], 0, 0] for one in entries[::2]]
        for one in (merge, *rest):
            entries.append({**one, "name": _name(one), "inbound_nodes": [ends]})
            ends = [[_name(one), 0, 0, {}]]
        return self._wired({"layers": entries, "input_layers": inputs, "output_layers": [ends[0][:3]]})


def _name(entry: Mapping[str, Any]) -> str:
    config = entry["config"]
    return str(entry.get("name") or (config.get("name") if isinstance(config, dict) else "") or entry["class_name"])


def _plain(value: Any) -> Any:
    """A value without the wrappings that Keras 2 gave to arrays, tuples and shapes in JSON."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict) and (
        value.get("type") == "ndarray" or value.get("class_name") in ("TensorShape", "__tuple__")
    ):
        return _plain(value.get("value", value.get("items")))
    return value


def _type_name(value: Any) -> Any:
    """The name of a type or policy."""
    if registry.is_description(value) and isinstance(value["config"], dict):
        value = value["config"].get("name")
    return None if value in ("infer", "_infer") else value


def _entrance(first: dict[str, Any], name: str) -> dict[str, Any]:
    """The input that a first layer tells of."""
    config = {"batch_input_shape": first["config"]["batch_input_shape"], "dtype": first["config"].get("dtype")}
    _input(Translation(), config, name)
    return description_of("keras.layers", "InputLayer", {**config, "name": name})


# ---------------------------------------------------------------- what single classes need

_Prepare = Callable[[Translation, dict[str, Any], str], Any]


def _input(translation: Translation, config: dict[str, Any], name: str) -> None:
    if "batch_input_shape" in config:
        config["batch_shape"] = _plain(config.pop("batch_input_shape"))
    dtype = _type_name(config.get("dtype"))
    config["dtype"] = None if isinstance(dtype, str) and dtype.startswith("mixed") else dtype


def _one_axis(translation: Translation, config: dict[str, Any], name: str) -> None:
    axis = _plain(config.get("axis"))
    if isinstance(axis, list) and len(axis) == 1:
        config["axis"] = axis[0]


def _gru(translation: Translation, config: dict[str, Any], name: str) -> None:
    if "reset_after" not in config:
        config["reset_after"] = False
        translation.note("A GRU that does not tell reset_after has it off, as in Keras 2", name)


def _cudnn(**settings: Any) -> _Prepare:
    return lambda translation, config, name: config.update({"recurrent_activation": "sigmoid", **settings, **config})


def _transposed(translation: Translation, config: dict[str, Any], name: str) -> None:
    """Keras 1's Deconvolution2D, which is told its output's shape."""
    shape = config.pop("output_shape", None) or [None] * 4
    places = shape[2:4] if config.get("dim_ordering") == "th" else shape[1:3]
    for size, width, step in zip(places, config["kernel_size"], config.get("subsample", (1, 1)), strict=True):
        rest = max(width - step, 0) if config.get("border_mode") == "valid" else 0
        if size is not None and (size - rest) % step:
            problem = f"The Deconvolution2D {name!r} gives outputs of shape {shape}, which Conv2DTranspose does not"
            raise ValueError(f"{problem}; {_ELSEWHERE}.")


def _words(translation: Translation, config: dict[str, Any], name: str) -> None:
    if config.pop("dropout", 0):
        translation.note("The dropout of words in Keras 1's Embedding is left out; predictions are the same", name)


def _counts(translation: Translation, config: dict[str, Any], name: str) -> None:
    """The type of a Discretization is that of what it gives, not of what it takes."""
    config.pop("dtype", None)
    if "bins" in config:
        config["bin_boundaries" if isinstance(config["bins"], list) else "num_bins"] = config.pop("bins")


_PREPARE: dict[str, _Prepare] = {
    **{"InputLayer": _input, "BatchNormalization": _one_axis, "GRU": _gru, "GRUCell": _gru, "CuDNNLSTM": _cudnn()},
    **dict.fromkeys(("CuDNNGRU", "UnifiedGRU", "GRUV2"), _cudnn(reset_after=True)),
    **{"Deconvolution2D": _transposed, "Embedding": _words, "Discretization": _counts},
    **{f"SpatialDropout{n}D": lambda translation, config, name: config.pop("noise_shape", None) for n in (1, 2, 3)},
}
