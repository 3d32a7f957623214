"""`layer_test`: what must hold for every layer there is, whatever its mathematics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from layer_cases import ROWS, Row

from minikeras import Model, config, layers, models, ops, tree
from minikeras.autodiff import GradientTape
from minikeras.optimizers import SGD
from minikeras.utils import custom_object_scope

OTHERS = {"InputLayer", "Layer", "Wrapper"}  # bases, and what computes nothing
# these compute without gradients, or stretch small differences: test_text.py, test_image.py
OTHERS |= {"CategoryEncoding", "Discretization", "Hashing", "HashedCrossing", "IntegerLookup", "StringLookup"}
OTHERS |= {"AutoContrast", "Equalization", "Pipeline", "Solarization", "TextVectorization"}
# these change pictures at random unless they are told that nothing is trained: test_image.py
OTHERS |= {name for name in layers.__all__ if name.startswith("Rand")} | {"CutMix", "MixUp"}


def layer_test(row: Row, folder: Any) -> None:
    """Put a layer through shapes, configuration, a file, a training step, number types, a batch of one, open sizes."""
    layer, inputs = row.make(layers), row.inputs()
    outputs = call(row, layer, inputs)
    check_shapes(row, layer, inputs, outputs)
    check_configuration(row, layer, inputs, outputs)
    check_file(row, layer, inputs, outputs, folder / "model.keras")
    close(call(row, layer, [x[:1] for x in inputs]), [y[:1] for y in outputs], 1e-5)
    check_open_sizes(row, layer, inputs, outputs)
    check_number_types(row, layer, inputs, outputs)
    check_training_step(row, layer, inputs)


@contextmanager
def policy(name: str) -> Iterator[None]:
    """Layers made within this block, inner ones too, have these number types."""
    config.set_dtype_policy(name)
    try:
        yield
    finally:
        config.reset_dtype_policy()


def call(row: Row, layer: Any, inputs: Any, **settings: Any) -> list[Any]:
    """The outputs of a call, as a list."""
    return tree.flatten(layer(*row.together(inputs), **settings))


def symbols(row: Row, shapes: Any) -> list[Any]:
    return [layers.Input(shape, dtype="int32" if row.integers else None) for shape in shapes]


def listed(shapes: Any) -> list[tuple]:
    """A structure of shapes as a list of them."""
    if all(size is None or isinstance(size, int) for size in shapes):
        return [tuple(shapes)]
    return [shape for part in shapes for shape in listed(part)]


def close(ours: list[Any], wanted: list[Any], tolerance: float) -> None:
    for one, other in zip(ours, wanted, strict=True):
        one, other = np.asarray(one, "float64"), np.asarray(other, "float64")
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def check_shapes(row: Row, layer: Any, inputs: list[Any], outputs: list[Any]) -> None:
    """What is promised before a call, for a known batch and an open one, is what comes."""
    symbolic = call(row, layer, symbols(row, row.shapes))
    assert [y.shape for y in symbolic] == [(None, *y.shape[1:]) for y in outputs]
    assert [y.dtype for y in symbolic] == [str(y.dtype) for y in outputs]
    if not row.states:
        assert listed(layer.compute_output_shape(*row.together([x.shape for x in inputs]))) == [
            y.shape for y in outputs
        ]


def check_configuration(row: Row, layer: Any, inputs: list[Any], outputs: list[Any]) -> None:
    config = json.dumps(layer.get_config())
    copy = type(layer).from_config(json.loads(config))
    call(row, copy, inputs)
    assert json.dumps(copy.get_config()) == config
    copy.set_weights(layer.get_weights())
    close(call(row, copy, inputs), outputs, 0)


def check_file(row: Row, layer: Any, inputs: list[Any], outputs: list[Any], path: Any) -> None:
    entrances = symbols(row, row.shapes)
    model = Model(entrances, layer(*row.together(entrances)))
    model.save(path)
    close(tree.flatten(models.load_model(path)(inputs)), outputs, 0)


def gradients(row: Row, layer: Any, inputs: list[Any]) -> tuple[list[Any], list[Any]]:
    """Trainable variables and, where a gradient reaches them, inputs; the gradients of the outputs' squares at them."""
    tensors = [ops.convert_to_tensor(x) for x in inputs]
    sources = [*layer.trainable_variables, *([] if row.integers else tensors)]
    with GradientTape() as tape:
        tape.watch([] if row.integers else tensors)
        outputs = call(row, layer, tensors, training=True)
        loss = sum(ops.sum(ops.square(ops.cast(y, "float32"))) for y in outputs)
    return sources, tape.gradient(loss, sources)


def check_training_step(row: Row, layer: Any, inputs: list[Any]) -> None:
    """Every weight and input has a finite gradient of its own shape and type, and every weight moves along it."""
    sources, found = gradients(row, layer, inputs)
    for source, gradient in zip(sources, found, strict=True):
        assert (gradient.shape, gradient.dtype) == (source.shape, source.dtype)
        assert np.isfinite(np.asarray(gradient, "float64")).all()
    variables = layer.trainable_variables
    if variables:
        before = [np.array(variable) for variable in variables]
        SGD(0.5).apply(found[: len(variables)], variables)
        for variable, old, gradient in zip(variables, before, found, strict=False):
            close([variable], [old - 0.5 * np.asarray(gradient)], 1e-5)


def check_number_types(row: Row, layer: Any, inputs: list[Any], outputs: list[Any]) -> None:
    """float64 throughout; in mixed precision weights and their gradients in float32, outputs near those of float32."""
    with policy("float64"):
        wide = row.make(layers)
    exact = call(row, wide, row.inputs(dtype="float64"))
    assert {str(y.dtype) for y in exact} == {"float64"}
    for dtype in ("mixed_bfloat16", "mixed_float16"):
        with policy(dtype):
            mixed = row.make(layers)
        call(row, mixed, inputs)
        mixed.set_weights(layer.get_weights())
        rounded = call(row, mixed, inputs)
        assert {str(y.dtype) for y in rounded} == {dtype.removeprefix("mixed_")}
        assert [y.dtype for y in call(row, mixed, symbols(row, row.shapes))] == [str(y.dtype) for y in rounded]
        assert {str(variable.dtype) for variable in mixed.trainable_variables} <= {"float32"}
        close(rounded, outputs, row.tolerance if dtype == "mixed_bfloat16" else row.tolerance / 8)
        check_training_step(row, mixed, inputs)
        assert {str(y.dtype) for y in call(row, mixed, inputs, training=True)} == {dtype.removeprefix("mixed_")}


def check_open_sizes(row: Row, layer: Any, inputs: list[Any], outputs: list[Any]) -> None:
    """A graph on open sizes promises no size that may differ, and computes the same."""
    shapes = [(None,) * (len(shape) - row.fixed) + shape[len(shape) - row.fixed :] for shape in row.shapes]
    entrances = symbols(row, shapes)
    ends = layer(*row.together(entrances))
    for end, output in zip(tree.flatten(ends), outputs, strict=True):
        assert len(end.shape) == len(output.shape)
        assert all(size in (None, found) for size, found in zip(end.shape, output.shape, strict=True))
    close(tree.flatten(Model(entrances, ends)(inputs)), outputs, 1e-5)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_layer(row: Row, tmp_path: Any) -> None:
    with custom_object_scope({"abs": abs}):
        layer_test(row, tmp_path)


def test_no_layer_is_missing() -> None:
    classes = {one for one in (getattr(layers, name) for name in layers.__all__) if isinstance(one, type)}
    names = {cls.__name__ for cls in classes if issubclass(cls, layers.Layer)}
    assert names - {row.name for row in ROWS} == OTHERS, "a layer needs a row in layer_cases"
