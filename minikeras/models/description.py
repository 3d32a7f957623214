"""Models from descriptions: JSON, dicts, and copies of an architecture."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from minikeras import activations, limits, losses, metrics, registry, tree
from minikeras.autodiff.symbolic import FunctionNode, KerasTensor
from minikeras.layers import Input, InputLayer, Layer
from minikeras.lazy import LazyModule
from minikeras.models.graph import Filler, is_users_operation
from minikeras.models.model import Functional, Model
from minikeras.models.sequential import Sequential
from minikeras.tracebacks import user_facing, warn

functional_config = LazyModule("minikeras.models.functional_config")  # its tables take a while to make
_older = LazyModule("minikeras.models.older_config")
function = LazyModule("minikeras.layers.function")
LARGEST_TEXT = 1 << 26  # bytes; a description has no weights in it
_NAMES: dict[str, Any] = dict.fromkeys(("activation", "recurrent_activation"), activations.ALL)  # what strings may be
_COMPILED = {key: {*losses.ALL, *metrics.ALL, "crossentropy", "ce"} for key in ("loss", "metrics", "weighted_metrics")}
_MOST_LISTED = 50  # missing classes in one sentence
_OF_DAMAGE = TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, AssertionError, MemoryError
_LONGEST_MESSAGE = 1000
_BRACKETS, _BYTES_PER_BRACKET = 1 << 18, 128  # of lists and dicts: 10,000 layers, and rows of numbers besides
_DEEPEST = 200  # nested models take about six levels each


@user_facing
def model_from_json(
    json_string: str | bytes, custom_objects: Mapping[str, Any] | None = None, limit: int | None = None
) -> Any:
    """The model that `to_json` described, with new weights.

    Args:
        json_string: the description.
        custom_objects: classes and functions of your own by name.
        limit: bytes of weights and states that the model may have, default what memory the machine has.

    Raises:
        ValueError: for text that is no description of a model, or one that asks for more.

    >>> import minikeras as keras
    >>> from minikeras import layers
    >>> model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    >>> keras.models.model_from_json(model.to_json()).output_shape
    (None, 2)
    """
    if not isinstance(json_string, (str, bytes)):
        problem = f"model_from_json takes the text that to_json() gives, got {json_string!r:.80}"
        raise TypeError(f"{problem}; for a dict use from_config of the model's class.")
    with limits.for_text(limit):
        return model_from_config(parse_description(json_string), custom_objects)


@user_facing
def model_from_config(
    config: dict[str, Any],
    custom_objects: Mapping[str, Any] | None = None,
    version: str | None = None,
    report: list[str] | None = None,
) -> Any:
    """The model that a description describes, with new weights.

    Args:
        config: the description, of any Keras from 1.0 on.
        custom_objects: classes and functions of your own by name.
        version: the Keras that wrote it, default what the description shows.
        report: sentences about what was translated from an older Keras are appended to it.

    Raises:
        ValueError: for what describes no model.
    """
    if not registry.is_description(config):
        raise ValueError(f"A model is described by class_name and config, got {config!r:.80}.")
    try:
        with limits.for_text(), registry.custom_object_scope(custom_objects), registry.object_sharing():
            _count_objects(config)
            modern = _older.modern_description(config, version, report)
            model = registry.deserialize_keras_object(_makeable(modern))
    except registry.NotKnown:
        raise
    except _OF_DAMAGE as error:
        raise ValueError(_short(f"The description does not make a model: {type(error).__name__}: {error}.")) from error
    except ValueError as error:
        if str(error) == _short(str(error)):
            raise
        raise ValueError(_short(str(error))) from error
    if not isinstance(model, Model):
        raise ValueError(f"The description describes a {type(model).__name__}, which is no model.")
    return model


def missing_objects(config: Any) -> tuple[dict[str, str], dict[str, str]]:
    """What a description needs that is neither built in, registered nor passed: what it is, in words, and its name.

    What stands in the configuration of a user's class is that class's own affair.

    Returns:
        What the model needs, and the losses and metrics of which nothing is known but a name, as Keras 2 writes them.
    """
    found: dict[str, str] = {}
    compiled: dict[str, str] = {}
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, (list, tuple)):
            waiting += reversed(value)
        elif isinstance(value, dict) and not registry.is_description(value):
            waiting += reversed(value.values())
            for table, lacking in ((_NAMES, found), (_COMPILED, compiled)):
                for key in filter(table.__contains__, value):
                    unknown = (name for name in _strings(value[key]) if name not in table[key])
                    lacking |= {f"the function {name!r}": name for name in unknown if not registry.find_custom(name)}
        elif not isinstance(value, dict):
            continue
        elif value["class_name"] == "Lambda" and isinstance(value["config"], dict):
            found |= {f"the {part} of {layer}": name for name, part, layer in function.Lambda.lacking(value["config"])}
        elif not functional_config.is_operation(value):
            problem = registry.lacking(value)
            if problem is not None:
                found[problem] = str(value["config" if value["class_name"] == "function" else "class_name"])
            elif _is_restored_inside(value):
                waiting += (value.get("compile_config"), value["config"])
    return found, compiled


def _strings(value: Any) -> Iterator[str]:
    """The strings in a structure, but for those of descriptions."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple, dict)) and not registry.is_description(value):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def _is_restored_inside(description: dict[str, Any]) -> bool:
    """Whether descriptions within one are restored as such, which a user's class may do in its own way."""
    cls = registry.find_class(description)
    return cls is None or registry.is_builtin(cls) or (issubclass(cls, Model) and "layers" in description["config"])


def _makeable(config: Any) -> Any:
    """A description without how models are compiled, and a warning, where only names of losses and metrics are missing.

    Raises:
        NotKnown: for one that needs more; the sentence names all of it.
    """
    missing, compiled = missing_objects(config)
    lacking = {**missing, **compiled}
    listed = ", ".join(f"{name!r:.80}: ..." for name in [*dict.fromkeys(lacking.values())][:_MOST_LISTED])
    more = f" and {len(lacking) - _MOST_LISTED} more" if len(lacking) > _MOST_LISTED else ""
    them, what = "it" if len(lacking) == 1 else "them", f"{', '.join([*lacking][:_MOST_LISTED])}{more}"
    if missing:
        raise registry.NotKnown(
            f"The description needs {what}: neither built in nor registered, and never taken from a description; pass "
            f"{them} as custom_objects={{{listed}}}, whatever safe_mode is."
        )
    if compiled:
        problem = f"The model is not compiled as it was, which needs {what}, neither built in nor registered"
        warn(f"{problem}; pass {them} as custom_objects={{{listed}}}, or call compile().")
        return _compilable(config)
    return config


def _compilable(value: Any) -> Any:
    """A description without what models are compiled with where that is not known."""
    if isinstance(value, (list, tuple)):
        return [_compilable(item) for item in value]
    if not isinstance(value, dict):
        return value
    parts = value.items()
    return {key: _compilable(one) for key, one in parts if key != "compile_config" or not any(missing_objects(one))}


def parse_description(text: str | bytes) -> Any:
    """A description from JSON, of reasonable size and depth.

    Raises:
        ValueError: for other text.
    """
    if len(text) > LARGEST_TEXT:
        raise ValueError(f"A model's description takes at most {LARGEST_TEXT} bytes, got {len(text)}.")
    brackets = (b"{", b"[") if isinstance(text, bytes) else ("{", "[")
    count, most = sum(map(text.count, brackets)), _BRACKETS + len(text) // _BYTES_PER_BRACKET  # type: ignore[arg-type]
    if count > most:
        raise ValueError(f"A model's description of {len(text):,} bytes has {most:,} brackets at most, got {count:,}.")
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"A model's description is JSON text, got {text[:40]!r}: {error}.") from error
    level: list[Any] = [[config]]
    for _ in range(_DEEPEST):
        items = (item for value in level for item in (value.values() if isinstance(value, dict) else value))
        level = [item for item in items if isinstance(item, (dict, list))]
        if not level:
            return config
    raise ValueError(f"A model's description nests at most {_DEEPEST} levels deep, got more.")


def _short(text: str) -> str:
    """A message on one line, without most of what it quotes of a long description."""
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[: _LONGEST_MESSAGE - 3]}..."


def _count_objects(config: Any) -> None:
    """Count what a description describes, before any of it is made."""
    count, waiting = 0, [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if value.get("class_name", "__keras_tensor__") != "__keras_tensor__":  # a name of what a layer gives
                count += 1
                limits.spend(limits.OBJECT, f"object number {count:,}")
            value = value.values()
        waiting.extend(item for item in value if isinstance(item, (dict, list, tuple)))


@user_facing
def clone_model(
    model: Model,
    input_tensors: Any = None,
    clone_function: Callable | None = None,
    call_function: Callable | None = None,
    recursive: bool = False,
    **kwargs: Any,
) -> Any:
    """A model of the same architecture with new layers and new weights.

    Args:
        model: a model; one that is a subclass only without the arguments below.
        input_tensors: symbolic tensors that a functional model's clone starts from, default new inputs.
        clone_function: called with each layer that is no input, returns the layer that takes its place.
        call_function: for a functional model, called as `call_function(layer, *args, **kwargs)` instead of the layer.
        recursive: whether `clone_function` is also called with the layers of models in the model.

    Raises:
        ValueError: for arguments that do not go with the kind of model, and for a model with losses that its clone
            would lack.

    >>> import minikeras as keras
    >>> from minikeras import layers
    >>> model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    >>> keras.models.clone_model(model).count_params()
    8
    """
    if not isinstance(model, Model):
        raise TypeError(f"clone_model takes a model, got {model!r:.80}.")
    unwritten = [loss for layer in model._contents().layers for loss in layer._unwritten_losses()]
    if unwritten:
        raise ValueError(
            f"The model {model.name!r} cannot be cloned, because the losses {unwritten} given to add_loss() may refer "
            "to its weights; build the model again and add them to that."
        )
    if input_tensors is not None or clone_function is not None or call_function is not None:
        clone = _changed_clone(model, input_tensors, clone_function or _same_layer, call_function or _call, recursive)
    else:
        clone = _plain_clone(model)
    if model.compiled and not (model._graph is not None and model._graph.kept):  # which a loss has tensors of
        clone._compile_like(model)
    return clone


def _plain_clone(model: Model) -> Any:
    description = registry.describe_whole(model)
    description.pop("compile_config", None)
    known: set[Any] = set()
    for layer in model._contents().layers:
        known.add(type(layer))
        graph = layer._graph if isinstance(layer, Model) else None
        functions = [one.function for one in graph.operations if isinstance(one, FunctionNode)] if graph else []
        known.update(filter(is_users_operation, functions))
    return model_from_config(description, {registry.get_registered_name(thing): thing for thing in known})


def _same_layer(layer: Layer) -> Layer:
    return type(layer).from_config(layer.get_config())


def _same_input(tensor: KerasTensor) -> KerasTensor:
    entrance = tensor._keras_history[0]
    optional = getattr(entrance, "optional", False)
    return Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=entrance.name, optional=optional)


def _call(layer: Layer, *args: Any, **kwargs: Any) -> Any:
    return layer(*args, **kwargs)


def _changed_clone(
    model: Model, input_tensors: Any, clone_function: Callable, call_function: Callable, recursive: bool
) -> Model:
    """A clone whose layers come from `clone_function`, put together anew."""
    clones: dict[Any, Any] = {}

    def clone(layer: Layer) -> Any:
        if layer not in clones:
            if recursive and isinstance(layer, Model):
                called = None if isinstance(layer, Sequential) or call_function is _call else call_function
                clones[layer] = clone_model(layer, None, clone_function, called, True)
            else:
                clones[layer] = clone_function(layer)
        return clones[layer]

    if isinstance(model, Sequential) and call_function is _call:
        entrance = [] if model._entrance is None else [_same_layer(model._entrance)]
        if input_tensors is not None:
            tensors = tree.flatten(input_tensors)
            if len(tensors) != 1:
                raise ValueError(f"A Sequential has one input, got input_tensors={input_tensors!r:.200}; pass one.")
            entrance = [InputLayer(input_tensor=tensors[0], name=entrance[0].name if entrance else None)]
        return Sequential([*entrance, *map(clone, model.layers)], name=model.name, trainable=model.trainable)
    graph = model._graph
    if graph is None or isinstance(model, Sequential):
        raise ValueError(f"The model {model.name!r} is not functional, so it cannot be cloned with changes.")
    if input_tensors is None:
        input_tensors = tree.map_structure(_same_input, graph.input_structure)
    wanted, given = (tree.map_structure(lambda _: None, one) for one in (graph.input_structure, input_tensors))
    several = len(graph.inputs) > 1 and not (isinstance(wanted, (list, tuple)) and isinstance(given, (list, tuple)))
    if (several and wanted != given) or len(tree.flatten(given)) != len(graph.inputs):
        raise ValueError(
            f"input_tensors must have the structure of the model's inputs, {graph.input_structure!r}, got "
            f"{input_tensors!r:.200}."
        )
    values = {id(old): new for old, new in zip(graph.inputs, tree.flatten(input_tensors), strict=True)}
    fill = Filler(values)
    for node in graph.nodes:
        if all(id(tensor) in values for tensor in node.output_tensors):
            continue
        args, kwargs = tree.map_structure(fill, node.args), tree.map_structure(fill, node.kwargs)
        if isinstance(node.operation, Layer):
            outputs = call_function(clone(node.operation), *args, **kwargs)
        else:
            outputs = node.operation(*args, **kwargs)
        values |= {id(old): new for old, new in zip(node.output_tensors, tree.flatten(outputs), strict=True)}
    inputs, outputs = tree.map_structure(fill, (graph.input_structure, graph.output_structure))
    made = Functional(inputs, outputs, name=model.name)
    if graph.losses:
        made.add_loss([fill(loss) for loss in graph.losses])
    return made
