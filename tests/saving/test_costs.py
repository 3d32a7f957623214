"""Small descriptions that ask for much: they are refused in a sentence or harmless, and what they take is measured."""

from __future__ import annotations

import copy
import io
import json
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import minikeras as keras
from minikeras import layers, limits, ops
from minikeras.models import model_from_json
from minikeras.saving import load_model

MEGABYTE = 1 << 20
MOST = 64 * MEGABYTE  # bytes that are taken by what is refused


def tensor(layer: str) -> dict[str, Any]:
    return {"class_name": "__keras_tensor__", "config": {"shape": [None], "keras_history": [layer, 0, 0]}}


def entrance(name: str, *shape: int | None, batch: int | None = None, dtype: str = "float32") -> dict[str, Any]:
    config = {"batch_shape": [batch, *shape], "dtype": dtype, "name": name}
    described = {"module": "keras.layers", "class_name": "InputLayer", "config": config, "registered_name": None}
    return {**described, "name": name, "inbound_nodes": []}


def layer(class_name: str, module: str = "keras.layers", **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": class_name, "config": config}


def functional(*inputs: dict[str, Any], last: dict[str, Any], args: Any = None) -> dict[str, Any]:
    """A model whose only layer is called with the inputs."""
    args = [tensor(one["name"]) for one in inputs] if args is None else args
    node = {"args": args, "kwargs": {}}
    config = {
        "name": "net",
        "layers": [*inputs, {**last, "name": "last", "inbound_nodes": [node]}],
        "input_layers": [[one["name"], 0, 0] for one in inputs],
        "output_layers": [["last", 0, 0]],
    }
    return {"module": "keras.src.models.functional", "class_name": "Functional", "config": config}


def stack(*described: dict[str, Any], **config: Any) -> dict[str, Any]:
    config = {"name": "net", "layers": list(described), **config}
    return {"module": "keras", "class_name": "Sequential", "config": config}


def op(class_name: str, *shape: int | None, room: str = "numpy", dtype: str = "float32", **config: Any) -> Any:
    return functional(entrance("x", *shape, dtype=dtype), last=layer(class_name, f"keras.src.ops.{room}", **config))


def only(class_name: str, *shape: int | None, dtype: str = "float32", **config: Any) -> Any:
    return stack(entrance("x", *shape, dtype=dtype), layer(class_name, **config))


def compiled(**config: Any) -> dict[str, Any]:
    described = stack(entrance("x", 3), layer("Dense", units=2))
    return {**described, "compile_config": {"optimizer": "sgd", "loss": "mse", **config}}


def metric(class_name: str, **config: Any) -> dict[str, Any]:
    return compiled(metrics=[layer(class_name, "keras.metrics", **config)])


def initialized(class_name: str, **config: Any) -> dict[str, Any]:
    initializer = layer(class_name, "keras.initializers", **config)
    return stack(entrance("x", 3), layer("Dense", units=2, kernel_initializer=initializer))


def trained_by(class_name: str, **config: Any) -> dict[str, Any]:
    return compiled(optimizer=layer(class_name, "keras.optimizers", **config))


def nested(depth: int, described: dict[str, Any], around: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    for _ in range(depth):
        described = around(described)
    return described


def numbers(value: Any, dtype: str = "float32") -> dict[str, Any]:
    return {"class_name": "__numpy__", "config": {"value": value, "dtype": dtype}}


HUGE, VAST = 10**8, 10**30
# name: (description, what the refusal says; None where the model is harmless, for nothing of that size is made)
CRAFTED: dict[str, tuple[Any, str | None]] = {
    # shapes that follow from shapes
    "one-hot vectors": (op("OneHot", 4, room="nn", dtype="int32", num_classes=HUGE), "asks for"),
    "longer one-hot vectors": (op("OneHot", 4, room="nn", dtype="int32", num_classes=VAST), "asks for"),
    "multi-hot vectors": (op("MultiHot", 4, room="nn", dtype="int32", num_classes=HUGE), "asks for"),
    "tiles": (op("Tile", 4, repeats=[1, 10**9]), "asks for"),
    "repetitions": (op("Repeat", 4, repeats=10**9, axis=1), "asks for"),
    "repetitions of each": (op("Repeat", 2, repeats=[10**9, 10**9], axis=1), "asks for"),
    "padding": (op("Pad", 4, pad_width=[[0, 0], [HUGE, 10**9]]), "asks for"),
    "padding to a side": (op("Pad", 4, pad_width=[[0, 0], [0, HUGE]]), "asks for"),
    "a broadcast": (op("BroadcastTo", 4, shape=[10**5, 10**5, 4]), "asks for"),
    "a line": (op("Linspace", 4, num=10**9), "without a default|needs|does not|argument"),
    "a line between tensors": (
        functional(entrance("x", 4), entrance("y", 4), last=layer("Linspace", "keras.src.ops.numpy", num=10**9)),
        "asks for",
    ),
    "logarithms of a line": (
        functional(entrance("x", 4), entrance("y", 4), last=layer("Logspace", "keras.src.ops.numpy", num=10**9)),
        "asks for",
    ),
    "counts": (op("Bincount", 4, dtype="int32", minlength=10**9), None),
    "negative counts": (op("Bincount", 4, dtype="int32", minlength=-1), "minlength must be"),
    "powers": (functional(entrance("x", batch=4), last=layer("Vander", "keras.src.ops.numpy", N=10**9)), "asks for"),
    "a diagonal": (functional(entrance("x", batch=4), last=layer("Diag", "keras.src.ops.numpy", k=10**6)), "asks for"),
    "a flat diagonal": (op("Diagflat", 9, k=10**6), "asks for"),
    "equal parts": (op("Split", None, indices_or_sections=10**7, axis=1), "parts of a tensor"),
    "nearly equal parts": (op("ArraySplit", 4, indices_or_sections=10**9, axis=1), "parts of a tensor"),
    "unstacked": (op("Unstack", 10**8, room="core", axis=1, num=None), "parts of a tensor"),
    "unstacked by number": (op("Unstack", None, room="core", num=10**9, axis=1), "parts of a tensor"),
    "segments": (
        functional(entrance("x", 4, batch=2), entrance("y", batch=2, dtype="int32"),
                   last=layer("SegmentSum", "keras.src.ops.math", num_segments=10**9)),
        "asks for",
    ),
    "products over many axes": (
        functional(entrance("x", 4), entrance("y", 4), last=layer("Tensordot", "keras.src.ops.numpy", axes=10**9)),
        "over 1000000000 axes",
    ),
    "a grid": (
        functional(*[entrance(f"x{i}", batch=100) for i in range(8)],
                   last=layer("Meshgrid", "keras.src.ops.numpy", indexing="xy")),
        "asks for",
    ),
    "many axes": (op("ExpandDims", 4, axis=list(range(1, 80))), "axes"),
    "a spectrum": (op("RFFT", 4, room="math", fft_length=10**10), "asks for"),
    "pictures": (op("Resize", 8, 8, 3, room="image", size=[10**5, 10**5]), "asks for"),
    "padded pictures": (
        op("PadImages", 8, 8, 3, room="image", top_padding=10**6, left_padding=10**6, bottom_padding=1,
           right_padding=1),
        "asks for",
    ),
    "patches": (op("ExtractPatches", 8, 8, 3, room="image", size=[10**6, 10**6], padding="same"), "asks for"),
    "pictures of patches": (
        op("ReconstructPatches", 1, 1, 10**8, room="image", size=[10**4, 10**4]), None,
    ),
    "averages": (op("AdaptiveAveragePool", 8, 8, 3, room="nn", output_size=10**6), "asks for"),
    "an operation of numbers alone": (
        functional(entrance("x", 4), last=layer("Tile", "keras.src.ops.numpy", repeats=10**9), args=[[1.0]]),
        "without a tensor",
    ),
    # inputs and masks
    "a large input": (only("Flatten", 20_000, 20_000), None),
    "a larger input": (only("Flatten", 10**6, 10**6), "a tensor of shape"),
    "a mask of a large input": (only("Masking", 20_000, 20_000), "zeros of shape"),
    "an input of negative size": (only("Flatten", -5), "batch_shape"),
    "an input of a fraction": (only("Flatten", 1.5), "batch_shape"),  # type: ignore[arg-type]
    "an input of NaN": (only("Flatten", float("nan")), "batch_shape"),  # type: ignore[arg-type]
    "an input with many axes": (only("Flatten", *[1] * 100), "axes"),
    # layers
    "larger pictures": (only("UpSampling2D", 8, 8, 3, size=[10**5, 10**5]), "asks for"),
    "zeros around pictures": (only("ZeroPadding2D", 8, 8, 3, padding=10**6), "asks for"),
    "a repeated vector": (only("RepeatVector", 8, n=10**9), "asks for"),
    "resized pictures": (only("Resizing", 8, 8, 3, height=10**6, width=10**6), "asks for"),
    "a pipeline": (
        only("Pipeline", 8, 8, 3, layers=[layer("UpSampling2D", size=10**4), layer("UpSampling2D", size=10**3)]),
        "asks for",
    ),
    "categories": (only("CategoryEncoding", 8, num_tokens=10**10), "asks for"),
    "hashes": (only("Hashing", 8, dtype="int32", num_bins=10**10, output_mode="multi_hot"), "asks for"),
    "unknown terms": (only("IntegerLookup", 8, dtype="int32", num_oov_indices=10**9), "indices of unknown terms"),
    "bins": (only("Discretization", 8, num_bins=10**10, output_mode="one_hot"), "asks for|adapt|num_bins|known"),
    "vectors of many terms": (
        only("IntegerLookup", 8, dtype="int32", vocabulary=[1], max_tokens=10**10, pad_to_max_tokens=True,
             output_mode="multi_hot"),
        "asks for",
    ),
    "an embedding": (only("Embedding", 8, dtype="int32", input_dim=HUGE, output_dim=HUGE), "a weight of shape"),
    "a dense layer": (only("Dense", 8, units=HUGE), "a weight of shape"),
    "a dense layer of negative size": (only("Dense", 8, units=-1), "units must be"),
    "a dense layer of a fraction": (only("Dense", 8, units=2.5), "units must be"),
    "a dense layer of text": (only("Dense", 8, units="2"), "units must be"),
    "a convolution": (only("Conv2D", 8, 8, 3, filters=10**5, kernel_size=[8, 8]), "a weight of shape"),
    "an orthogonal matrix": (only("LSTM", 8, 8, units=10**5), "a weight of shape"),
    "a rate of NaN": (only("Dropout", 8, rate=float("nan")), "rate must be"),
    "a negative rate": (only("Dropout", 8, rate=-0.5), "rate must be"),
    "a normalization of many": (
        stack(layer("Normalization", mean=0.0, variance=1.0), build_input_shape=[None, HUGE]), "a mean or a variance",
    ),
    "described as built": (
        stack({**layer("Dense", units=HUGE), "build_config": {"input_shape": [None, HUGE]}}), "a weight of shape",
    ),
    # initializers and arrays
    "a constant of long strings": (initialized("Constant", value=numbers([1.0], "S2000000000")), "dtype"),
    "a constant of objects": (initialized("Constant", value=numbers([1.0], "O")), "dtype"),
    "a constant of ragged rows": (initialized("Constant", value=numbers([[1.0], [1.0, 2.0]])), "."),
    "a constant of words": (initialized("Constant", value=numbers(["a"])), "."),
    "a constant of nothing": (initialized("Constant", value={"config": {}}), "."),
    "a gain of NaN": (initialized("Orthogonal", gain=float("nan")), "gain must be"),
    "a seed of a fraction": (initialized("GlorotUniform", seed=1.5), "seed"),
    # compiled
    "thresholds": (metric("AUC", num_thresholds=10**9), "thresholds"),
    "thresholds of precision": (metric("PrecisionAtRecall", recall=0.5, num_thresholds=10**9), "thresholds"),
    "labels": (metric("AUC", num_labels=10**9, multi_label=True), "a weight of shape"),
    "classes": (metric("MeanIoU", num_classes=10**6), "a weight of shape"),
    "the best of many": (metric("TopKCategoricalAccuracy", k=10**9), None),
    "the best of a fraction": (metric("TopKCategoricalAccuracy", k=0.5), "must be"),
    "an axis of text": (metric("MeanIoU", num_classes=3, axis="x"), "axis must be"),
    "a learning rate of NaN": (trained_by("Adam", learning_rate=float("nan")), "learning_rate"),
    "a learning rate that float32 does not hold": (trained_by("Adam", learning_rate=1e300), "learning_rate"),
    "a negative learning rate": (trained_by("SGD", learning_rate=-1), "learning_rate"),
    "a schedule of NaN": (
        trained_by("SGD", learning_rate=layer("ExponentialDecay", "keras.optimizers.schedules", decay_steps=1,
                                              decay_rate=1, initial_learning_rate=float("nan"))),
        "initial_learning_rate",
    ),
    # structure
    "a misspelt entry": (stack(entrance("x", 3), trainabel=True), "did you mean 'trainable'"),
    "an unknown entry": (stack(entrance("x", 3), build_shape=[None, 3]), "Unknown entry"),
    "a name twice": (stack(entrance("x", 3), *[layer("Dense", units=2, name="a")] * 2), "'a' twice"),
    "deep stacks": (nested(200, layer("Dense", units=2), stack), "levels deep"),
    "deep wrappers": (
        stack(nested(150, layer("Dense", units=2), lambda inner: layer("TimeDistributed", layer=inner))), "levels deep",
    ),
    "deep lists": (stack(entrance("x", 3), layer("Permute", dims=json.loads("[" * 250 + "]" * 250))), "levels deep"),
    "a layer in itself": (
        stack(entrance("x", 3, 4), {
            **layer("TimeDistributed", layer={**layer("Dense", units=2), "shared_object_id": 1}), "shared_object_id": 1,
        }),
        None,
    ),
    "many objects": (
        stack(entrance("x", 3), layer("Dense", units=2, kernel_initializer=[layer("Zeros", "keras")] * 100_000)),
        "object number",
    ),
    "a long message": (stack(entrance("x", 3), layer("Dense", units=["unit"] * 10_000)), "units must be"),
}  # fmt: skip


def taken(make: Callable[[], Any]) -> tuple[Any, int]:
    """What a function returns, or the ValueError that it raises, and how many bytes it held at most."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        try:
            found = make()
        except ValueError as error:
            found = error
        return found, tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def assert_one_sentence(error: ValueError) -> None:
    text = str(error)
    assert text and "\n" not in text and len(text) < 1200


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """Modules that are loaded at first need are not what a description takes."""
    model_from_json(json.dumps(op("Tile", 3, repeats=[1, 1])))
    model_from_json(json.dumps(metric("AUC")))
    model_from_json(json.dumps(only("Resizing", 8, 8, 3, height=4, width=4)))
    model_from_json(json.dumps(only("IntegerLookup", 8, dtype="int32", vocabulary=[1])))


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_descriptions(name: str) -> None:
    description, words = CRAFTED[name]
    text = json.dumps(description)

    def make() -> Any:
        with limits.for_file(len(text)):
            return model_from_json(text)

    found, peak = taken(make)
    assert peak < MOST + 20 * len(text)
    if words is None:
        assert isinstance(found, keras.Model)
    else:
        assert isinstance(found, ValueError)
        assert_one_sentence(found)
        with pytest.raises(ValueError, match=words):
            raise found


def test_there_are_many() -> None:
    assert len(CRAFTED) >= 80


def archive(path: Any, description: Any, model: keras.Model) -> None:
    model.save(path)
    with zipfile.ZipFile(path) as members:
        contents = {name: members.read(name) for name in members.namelist()}
    with zipfile.ZipFile(path, "w") as members:
        for name, content in contents.items():
            members.writestr(name, json.dumps(description) if name == "config.json" else content)


@pytest.mark.parametrize("name", ["one-hot vectors", "a mask of a large input", "a dense layer", "thresholds"])
def test_the_refusal_names_the_file(tmp_path: Any, name: str) -> None:
    path = tmp_path / "small.keras"
    archive(path, CRAFTED[name][0], keras.Sequential([keras.Input((3,)), layers.Dense(2)]))
    found, peak = taken(lambda: load_model(path))
    assert peak < MOST and path.stat().st_size < 30_000
    assert isinstance(found, ValueError) and "small.keras" in str(found)
    assert_one_sentence(found)


def test_the_caller_may_allow_more_or_less() -> None:
    text = json.dumps(stack(entrance("x", 100), layer("Dense", units=1000)))
    with pytest.raises(ValueError, match="400,000 bytes for a weight"):
        model_from_json(text, limit=100_000)
    assert model_from_json(text, limit=1_000_000).count_params() == 101_000
    with limits.for_file(len(text)):
        assert model_from_json(text, limit=1).count_params() == 101_000  # the outermost limit holds


@pytest.mark.parametrize("value", [-5, np.nan, 2.5])
def test_step_counts_in_files(tmp_path: Any, value: float) -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    model.compile("adam", "mse")
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    path = tmp_path / "trained.keras"
    model.save(path)
    with zipfile.ZipFile(path) as members:
        contents = {name: members.read(name) for name in members.namelist()}
    weights = io.BytesIO(contents["model.weights.h5"])
    with h5py.File(weights, "a") as file:
        del file["optimizer/vars/0"]
        file["optimizer/vars/0"] = np.asarray(value)
    contents["model.weights.h5"] = weights.getvalue()
    with zipfile.ZipFile(path, "w") as members:
        for name, content in contents.items():
            members.writestr(name, content)
    with pytest.raises(ValueError, match="iteration must be a whole number of at least 0"):
        load_model(path)
    with pytest.raises(ValueError, match="iteration must be"):
        model.optimizer.iterations.assign(value)
    assert int(model.optimizer.iterations) == 1


# ---------------------------------------------------------------- what grows with the number of layers


def calls(work: Callable[[], Any]) -> int:
    """How many functions of Python are called."""
    count = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def chain(n: int) -> keras.Sequential:
    return keras.Sequential([keras.Input((2,)), *[layers.Dense(2, kernel_initializer="zeros") for _ in range(n)]])


def graph(n: int) -> keras.Model:
    x = y = keras.Input((2,))
    for _ in range(n):
        y = layers.Add()([y, layers.Dense(2, kernel_initializer="zeros")(y)])
    return keras.Model(x, y)


@pytest.mark.parametrize("make", [chain, graph])
def test_work_grows_with_the_number_of_layers(make: Callable[[int], Any], tmp_path: Any) -> None:
    def jobs(n: int) -> Iterator[tuple[str, Callable[[], Any]]]:
        yield "make", lambda: make(n)
        model = make(n)
        text, config = model.to_json(), model.get_config()
        yield "describe", model.to_json
        yield "restore", lambda: model_from_json(text)
        yield "from_config", lambda: type(model).from_config(config)
        yield "count", model.count_params
        yield "summary", lambda: model.summary(print_fn=lambda text: None)
        yield "layers", lambda: model.layers
        yield "clone", lambda: keras.models.clone_model(model)
        yield "save", lambda: model.save(tmp_path / f"{n}.keras")
        yield "load", lambda: load_model(tmp_path / f"{n}.keras")
        yield "predict", lambda: model.predict_on_batch(np.ones((1, 2)))
        model.compile("sgd", "mse")
        yield "train", lambda: model.train_on_batch(np.ones((1, 2)), np.ones((1, 2)))

    few = {name: calls(work) for name, work in jobs(16)}
    many = {name: calls(work) for name, work in jobs(64)}
    assert {name: many[name] for name in many if many[name] > 4.4 * few[name] + 200} == {}


def test_taking_layers_off_a_stack_and_putting_others_on() -> None:
    model = chain(5)
    names = [one.name for one in model.layers]
    assert [model.pop().name for _ in range(2)] == names[:-3:-1]
    assert model.output_shape == (None, 2) and len(model.layers) == 3
    top = model.pop()
    model.add(top)
    with pytest.raises(ValueError, match="twice"):
        model.add(top)
    top.name = "another_name"
    with pytest.raises(ValueError, match="twice"):
        model.add(top)
    model.add(layers.Dense(7))
    model.add(layers.Dense(1))
    assert model(np.ones((4, 2))).shape == (4, 1) and model.outputs[0].shape == (None, 1)
    copy_of = keras.Model(model.inputs, model.outputs)
    assert np.array_equal(copy_of(np.ones((4, 2))), model(np.ones((4, 2))))
    while model.layers:
        model.pop()
    assert model.output_shape == (None, 2) and not model.built
    model.add(layers.Dense(3))
    assert model(np.ones((4, 2))).shape == (4, 3)


# ---------------------------------------------------------------- models in models


def doubled(depth: int) -> keras.Model:
    """Models that each call the one inside twice."""
    x = keras.Input((None, 4))
    model = keras.Model(x, layers.Dense(4)(x))
    for _ in range(depth):
        x = keras.Input((None, 4))
        model = keras.Model(x, layers.Add()([model(x), model(x)]))
    return model


def test_models_that_call_the_one_inside_twice() -> None:
    def jobs(depth: int) -> Iterator[tuple[str, Callable[[], Any]]]:
        yield "make", lambda: doubled(depth)
        model = doubled(depth)
        text = model.to_json()
        yield "restore", lambda: model_from_json(text)
        yield "call at another shape", lambda: model(keras.Input((7, 4)))
        yield "output shape", lambda: model.compute_output_shape((2, 5, 4))
        yield "around", lambda: layers.TimeDistributed(model)(keras.Input((2, 3, 4)))
        yield "count", model.count_params
        yield "summary", lambda: model.summary(print_fn=lambda text: None, expand_nested=True)
        yield "describe", model.to_json

    few = {name: calls(work) for name, work in jobs(6)}
    many = {name: calls(work) for name, work in jobs(24)}
    assert {name: many[name] for name in many if many[name] > 16 * few[name] + 500} == {}
    assert doubled(3)(keras.Input((7, 4))).shape == (None, 7, 4)


def test_pipelines_that_have_the_one_inside_twice() -> None:
    def pipeline(depth: int) -> dict[str, Any]:
        described = {**layer("Rescaling", scale=1.0), "shared_object_id": 0}
        for number in range(1, depth + 1):
            again = {**layer("Rescaling"), "shared_object_id": number - 1}
            described = {**layer("Pipeline", layers=[described, again]), "shared_object_id": number}
        return stack(entrance("x", 8, 8, 3), described)

    few, many = json.dumps(pipeline(6)), json.dumps(pipeline(24))
    assert calls(lambda: model_from_json(many)) < 16 * calls(lambda: model_from_json(few))


def test_a_pipeline_of_nothing_is_a_layer_of_its_own() -> None:
    x = keras.Input((8, 8, 3))
    y = layers.Pipeline([])(x)
    assert y is not x and keras.Model(x, y)(np.ones((1, 8, 8, 3))).shape == (1, 8, 8, 3)


def test_the_outputs_of_an_inner_model_are_those_for_the_shape_at_hand() -> None:
    x = keras.Input((None, 4))
    inner = keras.Model(x, layers.Dense(3)(x))
    one, other = keras.Input((None, 4)), keras.Input((None, 4))
    model = keras.Model([one, other], [inner(one), inner(other), ops.concatenate([inner(one), inner(one)], axis=1)])
    shapes = model.compute_output_shape([(2, 5, 4), (2, 6, 4)])
    assert [tuple(shape) for shape in shapes] == [(2, 5, 3), (2, 6, 3), (2, 10, 3)]


# ---------------------------------------------------------------- mutations of real models


def pictures() -> keras.Model:
    x = keras.Input((12, 12, 3))
    y = layers.Conv2D(4, 3, activation="relu", kernel_regularizer="l2")(layers.RandomFlip()(layers.Rescaling(0.5)(x)))
    y = layers.Concatenate()([layers.MaxPooling2D()(y), layers.AveragePooling2D()(y)])
    y = ops.pad(layers.UpSampling2D()(y), [[0, 0], [1, 1], [1, 1], [0, 0]])
    model = keras.Model(x, layers.Dense(3, activation="softmax")(layers.Flatten()(y)))
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([10, 20], [0.1, 0.01, 0.001])
    metrics = ["accuracy", keras.metrics.AUC()]
    model.compile(keras.optimizers.Adam(schedule), "categorical_crossentropy", metrics=metrics)
    return model


def words() -> keras.Model:
    x = keras.Input((8,), dtype="int32")
    y = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(layers.Embedding(20, 4, mask_zero=True)(x))
    y = layers.TimeDistributed(layers.Dense(3))(layers.LayerNormalization()(y))
    inner = keras.Sequential([keras.Input((8, 3)), layers.Conv1D(4, 3), layers.GlobalMaxPooling1D()])
    return keras.Model(x, layers.Dropout(0.5)(layers.Dense(1)(inner(y))))


BASES = [json.loads(model.to_json()) for model in (pictures(), words())]
STRANGE = st.sampled_from(
    [-1, 0, 1.5, 10**9, 10**30, 1e300, np.nan, np.inf, "3", "", None, True, [], {}, [10**9] * 3, [[1], [1, 2]]]
)


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    if path:
        yield path
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*path, key))


def at(value: Any, path: tuple) -> Any:
    for key in path:
        value = value[key]
    return value


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    base = copy.deepcopy(draw(st.sampled_from(BASES)))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(base))))
        around, key = at(base, path[:-1]), path[-1]
        change = draw(st.sampled_from(["strange", "strange", "delete", "swap", "repeat"]))
        if change == "strange":
            around[key] = copy.deepcopy(draw(STRANGE))
        elif change == "delete":
            del around[key]
        elif change == "swap":
            around[key] = copy.deepcopy(at(base, draw(st.sampled_from(list(places(base))))))
        elif isinstance(around[key], list):
            around[key] = around[key] * draw(st.sampled_from([2, 50]))
        if not list(places(base)):
            break
    return base


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(mutated())
def test_mutations_of_real_models(description: Any) -> None:
    text = json.dumps(description)

    def make() -> Any:
        with limits.for_file(len(text)):
            return model_from_json(text)

    found, peak = taken(make)
    if isinstance(found, ValueError):
        assert_one_sentence(found)
    else:
        assert isinstance(found, keras.Model)
    assert peak < MOST + 40 * len(text)
