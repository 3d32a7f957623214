"""How an older model was compiled, as the arguments that `compile` takes today."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from minikeras import losses, metrics, registry
from minikeras.declared import fields

_ARGUMENTS = ("loss", "loss_weights", "metrics", "weighted_metrics")
_SWITCHES = {"run_eagerly": False, "steps_per_execution": 1, "jit_compile": "auto"}
# the classes that a metric of these functions has today
_METRICS = {
    "binary_accuracy": "BinaryAccuracy",
    "categorical_accuracy": "CategoricalAccuracy",
    "sparse_categorical_accuracy": "SparseCategoricalAccuracy",
}
_LOSSES = {"cosine_proximity": "cosine_similarity", "logcosh": "log_cosh"}
_SCHEDULES = "keras.optimizers.schedules"
_OPTIMIZERS = {"keras.optimizers", "keras.optimizers.legacy", "keras.optimizers.experimental", "", None}
_MULTIPLE_BACKENDS = re.compile(r"1|2\.[0-3](?!.*-tf)")  # the versions of Keras outside of TensorFlow


def modern_compile_config(
    training_config: Any, version: str | None = None, report: list[str] | None = None
) -> dict[str, Any]:
    """The arguments of `compile`, as descriptions, from the `training_config` of an older file or from a `compile_config`.

    Args:
        training_config: from JSON.
        version: the Keras that wrote it.
        report: sentences about what was translated are appended to it.

    Raises:
        ValueError: for what is no dict.

    >>> from minikeras.models.older_config import modern_compile_config
    >>> adam = {"class_name": "Adam", "config": {"lr": 0.5, "decay": 0.0}}
    >>> modern_compile_config({"optimizer_config": adam, "loss": "mse", "metrics": None}, "2.2.4")["optimizer"]["config"]
    {'learning_rate': 0.5, 'decay': 0.0}
    """
    if not isinstance(training_config, dict):
        raise ValueError(f"How a model was compiled is described by a dict, got {training_config!r:.80}.")
    notes: list[str] = [] if report is None else report
    team = bool(_MULTIPLE_BACKENDS.match(version or ""))
    found: dict[str, Any] = {}
    for name in ("optimizer", "optimizer_config"):
        if training_config.get(name) is not None:
            found["optimizer"] = _optimizer(training_config[name], team, notes)
    for name in _ARGUMENTS:
        if training_config.get(name) is not None:
            kind = _metric if name.endswith("metrics") else _loss
            found[name] = training_config[name] if name == "loss_weights" else _each(training_config[name], kind)
    for name in ("metrics", "weighted_metrics"):
        value = found.get(name)
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
            found[name] = value[0]  # of a single output
    for name, default in _SWITCHES.items():
        value = training_config.get(name)
        found[name] = default if value is None else value
    if training_config.get("sample_weight_mode"):
        found["sample_weight_mode"] = training_config["sample_weight_mode"]
    return found


def _each(value: Any, translate: Callable[[Any], Any]) -> Any:
    """A structure of names and descriptions, with each of them translated."""
    if isinstance(value, (list, tuple)):
        return [_each(one, translate) for one in value]
    if isinstance(value, dict) and "class_name" not in value:
        return {name: _each(one, translate) for name, one in value.items()}
    return translate(value)


def _known(module: str, described: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """An object of Keras in the form of today; a user's as it is."""
    package, _, name = str(described["class_name"]).rpartition(">")
    registered = described.get("registered_name") or (described["class_name"] if package else None)
    cls = registry.builtin_class(module, name)
    if registry.find_custom(name, registered) is not None or cls is None:
        home = described.get("module")
        return {"module": home, "class_name": name, "config": described["config"], "registered_name": registered}
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


def _function(value: Any, names: dict[str, str]) -> Any:
    """The name of a function; None for what is none."""
    if registry.is_description(value) and value["class_name"] == "function":
        value = value["config"]
    return names.get(value, value) if isinstance(value, str) else None


def _loss(value: Any) -> Any:
    name = _function(value, _LOSSES)
    if name is not None or not registry.is_description(value) or not isinstance(value["config"], dict):
        return value if name is None else name
    config = dict(value["config"])
    if value["class_name"] == "LossFunctionWrapper":
        return _loss(config.get("fn"))
    cls = getattr(losses, str(value["class_name"]), None)
    if config.get("reduction") in ("auto", "sum_over_batch_size"):
        config["reduction"] = "sum_over_batch_size"
    if isinstance(cls, type):
        config = {name: one for name, one in config.items() if name in fields(cls) and name != "fn"}
    return _known("keras.losses", value, config)


def _metric(value: Any) -> Any:
    name = _function(value, _LOSSES)
    if name is not None or not registry.is_description(value) or not isinstance(value["config"], dict):
        return value if name is None else name
    config = dict(value["config"])
    if value["class_name"] in ("MeanMetricWrapper", "SumOverBatchSizeMetricWrapper"):
        function = _function(config.get("fn"), _LOSSES)
        if function in _METRICS:
            named = {name: config[name] for name in ("name", "dtype") if name in config}
            return _known("keras.metrics", {**value, "class_name": _METRICS[function]}, named)
        if function is not None and config.get("name") in (function, None):
            return function
        wrapped = {**config, "fn": function or config.get("fn")}
        return _known("keras.metrics", {**value, "class_name": "MeanMetricWrapper"}, wrapped)
    cls = getattr(metrics, str(value["class_name"]), None)
    if isinstance(cls, type) and fields(cls):
        config = {name: one for name, one in config.items() if name in fields(cls) and name != "fn"}
    return _known("keras.metrics", value, config)


def _optimizer(value: Any, team: bool, notes: list[str]) -> Any:
    if not registry.is_description(value) or not isinstance(value["config"], dict):
        return value
    config, class_name = dict(value["config"]), str(value["class_name"]).rpartition(">")[2]
    if value.get("module") in _OPTIMIZERS or str(value.get("module")).startswith("keras."):
        value = {**value, "module": None, "class_name": class_name, "registered_name": None}
    if class_name == "LossScaleOptimizer":
        inner = config.get("inner_optimizer") or config.get("optimizer")
        kept = {name: config[name] for name in ("initial_scale", "dynamic_growth_steps") if config.get(name)}
        return _known("keras.optimizers", value, {"inner_optimizer": _optimizer(inner, team, notes), **kept})
    if "lr" in config:
        config = {"learning_rate": config.pop("lr"), **config}
    rate = config.get("learning_rate")
    if registry.is_description(rate):
        config["learning_rate"] = _known(_SCHEDULES, rate, rate["config"])
    if team and config.get("clipnorm") is not None:
        config["global_clipnorm"] = config.pop("clipnorm")  # it was that of all gradients together
        notes.append("The optimizer's clipnorm is that of all gradients together, as in Keras 2: global_clipnorm.")
    if team and class_name == "Adagrad":
        config.setdefault("initial_accumulator_value", 0.0)
    if team and class_name in ("RMSprop", "Adagrad"):
        notes.append(f"{class_name} divides by sqrt(a + epsilon) today, by sqrt(a) + epsilon in Keras 2.")
    if "schedule_decay" in config:
        config.pop("schedule_decay")
        notes.append("Nadam's momentum follows 0.96^t today, 0.96^(schedule_decay t) in Keras 2.")
    cls = registry.builtin_class("keras.optimizers", class_name)
    if cls is not None:
        config = {name: one for name, one in config.items() if name in fields(cls) and one is not None}
        weightless = not config.get("weight_decay")
        config = {name: one for name, one in config.items() if name != "weight_decay" or not weightless}
    return _known("keras.optimizers", value, config)
