"""How an older model was compiled, as the arguments that `compile` takes today."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Collection
from typing import Any

from minikeras import registry
from minikeras.autodiff.op import camel_case
from minikeras.declared import fields

_SWITCHES = {"run_eagerly": False, "steps_per_execution": 1, "jit_compile": "auto"}
_NEW_NAMES = {"cosine_proximity": "cosine_similarity", "logcosh": "log_cosh"}
_WRAPPERS = ("LossFunctionWrapper", "MeanMetricWrapper", "SumOverBatchSizeMetricWrapper")
_ACCURACIES = ("binary_accuracy", "categorical_accuracy", "sparse_categorical_accuracy")
_MULTIPLE_BACKENDS = re.compile(r"1\.|2\.[0-3]\.(?!.*-tf)")  # the versions of Keras outside of TensorFlow


def modern_compile_config(
    training_config: Any, version: str | None = None, report: list[str] | None = None
) -> dict[str, Any]:
    """The arguments of `compile`, as descriptions, from the `training_config` of a file or an older `compile_config`.

    Args:
        training_config: from JSON.
        version: the Keras that wrote it.
        report: sentences about what was translated are appended to it.

    Raises:
        ValueError: for what is no dict.

    >>> from minikeras.models.older_config import modern_compile_config
    >>> old = {"optimizer_config": {"class_name": "Adam", "config": {"lr": 0.5}}, "loss": "mse", "metrics": None}
    >>> modern_compile_config(old, "2.2.4")["optimizer"]["config"]
    {'learning_rate': 0.5}
    """
    if not isinstance(training_config, dict):
        raise ValueError(f"How a model was compiled is described by a dict, got {training_config!r:.80}.")
    given = {name: value for name, value in training_config.items() if value is not None}
    found: dict[str, Any] = {}
    optimizer = given.get("optimizer_config", given.get("optimizer"))
    if optimizer is not None:
        team = bool(_MULTIPLE_BACKENDS.match(version or ""))
        found["optimizer"] = _optimizer(optimizer, team, [] if report is None else report)
    for name in ("loss", "metrics", "weighted_metrics"):
        if name in given:
            measure = functools.partial(_measure, "keras.losses" if name == "loss" else "keras.metrics")
            value = registry.map_described(measure, given[name])
            single = name != "loss" and isinstance(value, list) and len(value) == 1 and isinstance(value[0], list)
            found[name] = value[0] if single else value
    found |= {name: given[name] for name in ("loss_weights", "sample_weight_mode") if name in given}
    return {**found, **{name: given.get(name, default) for name, default in _SWITCHES.items()}}


def _known(module: str, described: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """An object of Keras in the form of today, without the settings that its class has no more; a user's as it is."""
    package, _, name = str(described["class_name"]).rpartition(">")
    registered = described.get("registered_name") or (described["class_name"] if package else None)
    cls = registry.builtin_class(module, name)
    if registry.find_custom(name, registered) is not None or cls is None:
        return registry.description_of(described.get("module"), name, described["config"], registered)
    config = {key: one for key, one in config.items() if key in arguments_of(cls)}
    return registry.description_of(module, name, config)


def arguments_of(cls: type) -> Collection[str]:
    """The names of a class's arguments."""
    return fields(cls) or inspect.signature(cls).parameters


def _measure(module: str, value: Any) -> Any:
    """A loss or metric."""
    if registry.is_description(value) and value["class_name"] == "function":
        value = value["config"]
    if not registry.is_description(value) or not isinstance(value["config"], dict):
        return _NEW_NAMES.get(value, value) if isinstance(value, str) else value
    config = dict(value["config"])
    if value["class_name"] not in _WRAPPERS:
        if config.get("reduction") == "auto":
            config["reduction"] = "sum_over_batch_size"
        return _known(module, value, config)
    function = _measure(module, config.get("fn"))
    if module == "keras.losses" or (isinstance(function, str) and config.get("name") in (function, None)):
        return function
    if function in _ACCURACIES:
        return _known(module, {**value, "class_name": camel_case(function)}, config)
    return registry.description_of(module, "MeanMetricWrapper", {**config, "fn": function})


def _optimizer(value: Any, team: bool, report: list[str]) -> Any:
    """An optimizer; `team`: whether Keras outside of TensorFlow wrote it."""
    if not registry.is_description(value) or not isinstance(value["config"], dict):
        return value
    config, name = {key: one for key, one in value["config"].items() if one is not None}, str(value["class_name"])
    plain = name.rpartition(">")[2]
    if name == f"Custom>{plain}" and registry.builtin_class("keras.optimizers", plain) is not None:
        value = {**value, "class_name": plain, "registered_name": None}  # so called by 2.11
    if plain in ("LossScaleOptimizer", "LossScaleOptimizerV3"):
        value = {**value, "class_name": "LossScaleOptimizer"}
        inner = _optimizer(config.get("inner_optimizer", config.get("optimizer")), team, report)
        kept = {key: config[key] for key in ("initial_scale", "dynamic_growth_steps") if key in config}
        return {**_known("keras.optimizers", value, {}), "config": {"inner_optimizer": inner, **kept}}
    if "lr" in config:
        config = {"learning_rate": config.pop("lr"), **config}
    rate: Any = config.get("learning_rate")
    if registry.is_description(rate):
        config["learning_rate"] = _known("keras.optimizers.schedules", rate, rate["config"])
    if not config.get("weight_decay"):
        config.pop("weight_decay", None)  # 0 or False
    if team and "clipnorm" in config:
        config["global_clipnorm"] = config.pop("clipnorm")
        report.append("The optimizer's clipnorm is that of all gradients together, as in Keras 2: global_clipnorm.")
    if team and plain == "Adagrad":
        config.setdefault("initial_accumulator_value", 0.0)
    if team and plain in ("RMSprop", "Adagrad"):
        report.append(f"{plain} divides by sqrt(a + epsilon) today, by sqrt(a) + epsilon in Keras 2.")
    if "schedule_decay" in config:
        report.append("Nadam's momentum follows 0.96^t today, 0.96^(schedule_decay t) in Keras 2.")
    return _known("keras.optimizers", value, config)
