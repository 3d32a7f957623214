"""Values, gradients and configurations of every loss against real Keras on JAX."""

from __future__ import annotations

import os

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")
jax = pytest.importorskip("jax")

from loss_cases import CASES, LossCase  # noqa: E402

import minikeras  # noqa: E402
from minikeras import kernels as k  # noqa: E402
from minikeras import losses, ops  # noqa: E402
from minikeras.autodiff import Tensor, backward, recording  # noqa: E402

TOLERANCE = {"rtol": 3e-5, "atol": 2e-6}
BY_CLASS = list({case.cls: case for case in CASES}.values())


def value_and_gradient(loss, y_true, y_pred, weights, mask):
    tensor = Tensor(k.to_device(y_pred.copy()), tracked=True)
    if mask is not None:
        tensor._keras_mask = Tensor(k.to_device(mask))
    with recording():
        value = loss(y_true, tensor, weights)
        total = ops.sum(value)
    return k.to_host(value.data), k.to_host(backward(total, [tensor])[0])


def keras_value_and_gradient(loss, y_true, y_pred, weights, mask):
    def total(p):
        p = keras.ops.convert_to_tensor(p)
        if mask is not None:
            keras.src.backend.set_keras_mask(p, keras.ops.convert_to_tensor(mask))
        value = loss(y_true, p, weights)
        return value.sum(), value

    gradient, value = jax.grad(total, has_aux=True)(jax.numpy.asarray(y_pred))
    return np.asarray(value), np.asarray(gradient)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none", None])
@pytest.mark.parametrize("setting", ["plain", "weights", "mask", "both"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_losses(case: LossCase, setting: str, reduction: str | None) -> None:
    y_true, y_pred = case.data((4, 3, 5), "float32", seed=3)
    rng = np.random.default_rng(5)
    ours, theirs = (getattr(module, case.cls)(**case.options, reduction=reduction) for module in (losses, keras.losses))
    shape = np.shape(getattr(keras.losses, case.function)(y_true, y_pred, **case.options))
    weights = rng.uniform(0, 2, shape).astype("float32") if setting in ("weights", "both") else None
    mask = rng.uniform(size=shape) < 0.6 if setting in ("mask", "both") and shape else None
    mine = value_and_gradient(ours, y_true, y_pred, weights, mask)
    other = keras_value_and_gradient(theirs, y_true, y_pred, weights, mask)
    for a, b in zip(mine, other, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, **TOLERANCE)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_functions(case: LossCase) -> None:
    for shape in ((6, 4), (2, 3, 4)):
        y_true, y_pred = case.data(shape, "float32", seed=1)
        ours = getattr(losses, case.function)(y_true, y_pred, **case.options)
        theirs = getattr(keras.losses, case.function)(y_true, y_pred, **case.options)
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, np.asarray(theirs), **TOLERANCE)


@pytest.mark.parametrize("shapes", [((5,), (5, 1)), ((5, 1), (5,)), ((5, 3), (5, 3, 1)), ((5, 3, 1), (5, 3))])
@pytest.mark.parametrize("name", ["MeanSquaredError", "MeanAbsoluteError", "Huber", "BinaryCrossentropy", "Hinge"])
def test_ranks(name: str, shapes: tuple) -> None:
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, 2, shapes[0])
    y_pred = rng.uniform(0.1, 0.9, shapes[1]).astype("float32")
    for reduction in ("sum_over_batch_size", "none"):
        ours, theirs = (getattr(module, name)(reduction=reduction)(y_true, y_pred) for module in (losses, keras.losses))
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, np.asarray(theirs), rtol=1e-5)


@pytest.mark.parametrize("weights", [np.float32([1, 0, 2, 3]), np.float32([[1], [0], [2], [3]])])
def test_weights_of_either_rank(weights: np.ndarray) -> None:
    y_true, y_pred = np.eye(4, dtype="float32"), np.full((4, 4), 0.25, "float32")
    for reduction in ("sum_over_batch_size", "mean_with_sample_weight"):
        ours, theirs = (
            module.CategoricalCrossentropy(reduction=reduction)(y_true, y_pred, weights)
            for module in (losses, keras.losses)
        )
        np.testing.assert_allclose(ours, np.asarray(theirs), rtol=1e-6)


@pytest.mark.parametrize("scaled", [True, False])
def test_unnormalised_probabilities(scaled: bool) -> None:
    y_pred = np.random.default_rng(0).uniform(0.1, 1, (6, 4)).astype("float32") * (3 if scaled else 1)
    labels = np.array([0, 1, 2, 3, 1, 1])
    for name, target in (("categorical", np.eye(4)[labels]), ("sparse_categorical", labels)):
        ours, theirs = (getattr(module, f"{name}_crossentropy")(target, y_pred) for module in (losses, keras.losses))
        np.testing.assert_allclose(ours, np.asarray(theirs), rtol=1e-5)


@pytest.mark.parametrize("case", BY_CLASS, ids=str)
def test_configurations(case: LossCase) -> None:
    ours, theirs = getattr(losses, case.cls)(), getattr(keras.losses, case.cls)()
    assert list(ours.get_config().items()) == list(theirs.get_config().items())
    assert losses.serialize(ours) == keras.losses.serialize(theirs)
    config = losses.serialize(getattr(losses, case.cls)(**case.options))
    known = case.cls in keras.src.losses.ALL_OBJECTS_DICT  # one of its own classes Keras finds by its path alone
    again = keras.losses.deserialize(config) if known else keras.saving.deserialize_keras_object(config)
    assert type(again).__name__ == case.cls


def test_wrapped_function_is_read_by_keras() -> None:
    ours = losses.LossFunctionWrapper(losses.huber, name="h", delta=2.0)
    theirs = keras.src.losses.losses.LossFunctionWrapper(keras.losses.huber, name="h", delta=2.0)
    assert list(ours.get_config().items()) == list(theirs.get_config().items())
    assert losses.deserialize(keras.losses.serialize(theirs)).get_config() == ours.get_config()


def test_names_mean_the_same() -> None:
    for name, found in keras.src.losses.ALL_OBJECTS_DICT.items():
        if name in losses.ALL:
            mine = losses.ALL[name]
            assert (isinstance(mine, type), mine.__name__) == (isinstance(found, type), found.__name__)
    left_out = {name for name in keras.src.losses.ALL_OBJECTS_DICT if name not in losses.ALL}
    assert left_out <= {"Loss", "LossFunctionWrapper"}


def test_ctc() -> None:
    rng = np.random.default_rng(1)
    labels, logits = np.array([[1, 1, 0], [2, 3, 1], [0, 0, 0]]), rng.normal(size=(3, 6, 4)).astype("float32")
    mine = value_and_gradient(losses.CTC(reduction="sum"), labels, logits, None, None)
    other = keras_value_and_gradient(keras.losses.CTC(reduction="sum"), labels, logits, None, None)
    for a, b in zip(mine, other, strict=True):
        np.testing.assert_allclose(a, b, **TOLERANCE)
    lengths = [[2, 3, 0], [6, 5, 4]]
    ours, theirs = (module.ops.ctc_loss(labels, logits, *lengths) for module in (minikeras, keras))
    np.testing.assert_allclose(ours, np.asarray(theirs), **TOLERANCE)
    for options in (
        {},
        {"merge_repeated": False, "mask_index": None},
        {"strategy": "beam_search", "beam_width": 5, "top_paths": 3},
    ):
        results = [module.ops.ctc_decode(logits * 3, lengths[1], **options) for module in (minikeras, keras)]
        for a, b in zip(*results, strict=True):
            assert (a.shape, str(a.dtype)) == (b.shape, str(b.dtype))
            np.testing.assert_allclose(a, np.asarray(b), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"gamma": 8.0, "margin": 0.2, "remove_diagonal": False}])
def test_circle(options: dict) -> None:
    rng = np.random.default_rng(2)
    labels, embeddings = np.array([0, 1, 0, 1, 2, 2]), rng.normal(size=(6, 3)).astype("float32")
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    weights = rng.uniform(size=6).astype("float32")
    mine = value_and_gradient(losses.Circle(**options), labels, embeddings, weights, None)
    other = keras_value_and_gradient(keras.losses.Circle(**options), labels, embeddings, weights, None)
    for a, b in zip(mine, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5)
    references = {"ref_labels": np.array([0, 1]), "ref_embeddings": embeddings[3:5]}
    ours, theirs = (
        module.losses.circle(labels, embeddings, remove_diagonal=False, **references) for module in (minikeras, keras)
    )
    np.testing.assert_allclose(ours, np.asarray(theirs), rtol=1e-4)


@pytest.mark.parametrize("name", ["CTC", "Circle"])
def test_configurations_of_these(name: str) -> None:
    ours, theirs = getattr(losses, name)(), getattr(keras.losses, name)()
    assert list(ours.get_config().items()) == list(theirs.get_config().items())
    assert losses.serialize(ours) == keras.losses.serialize(theirs)
    assert type(keras.losses.deserialize(losses.serialize(ours))) is type(theirs)
    assert losses.deserialize(keras.losses.serialize(theirs)).get_config() == ours.get_config()


# ---------------------------------------------------------------- a user's own, two of them one number for the batch


def _dice(o):
    return lambda t, p: 1.0 - (2.0 * o.sum(t * p) + 1.0) / (o.sum(t) + o.sum(p) + 1.0)


def _root_mean_squared(o):
    return lambda t, p: o.sqrt(o.mean(o.square(t - p)))


def _quartic(o):
    return lambda t, p: o.mean(o.power(t - p, 4), axis=-1)


OWN = {"dice": _dice, "root mean squared": _root_mean_squared, "quartic": _quartic}


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean", "mean_with_sample_weight"])
@pytest.mark.parametrize("setting", ["plain", "weights", "mask", "both", "one weight"])
@pytest.mark.parametrize("name", OWN)
def test_losses_of_the_user(name: str, setting: str, reduction: str) -> None:
    rng = np.random.default_rng(9)
    y_true, y_pred = (rng.uniform(size=(6, 3)).astype("float32") for _ in range(2))
    weights = rng.uniform(0, 2, 6).astype("float32") if setting in ("weights", "both") else None
    weights = np.float32(0.3) if setting == "one weight" else weights
    mask = np.array([True, True, False, True, False, True]) if setting in ("mask", "both") else None
    ours = losses.LossFunctionWrapper(OWN[name](ops), reduction=reduction)
    theirs = keras.src.losses.losses.LossFunctionWrapper(OWN[name](keras.ops), reduction=reduction)
    mine = value_and_gradient(ours, y_true, y_pred, weights, mask)
    if (name, setting, reduction) == ("quartic", "one weight", "mean_with_sample_weight"):
        weights = np.full(6, weights)  # of one number Keras divides by the number and not by what it weighs
    for a, b in zip(mine, keras_value_and_gradient(theirs, y_true, y_pred, weights, mask), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, **TOLERANCE)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("arguments", ["plain", "sample_weight", "class_weight"])
@pytest.mark.parametrize("name", OWN)
def test_training_with_losses_of_the_user(name: str, arguments: str, masked: bool) -> None:
    rng = np.random.default_rng(9)
    x = rng.uniform(0.2, 1, (16, 5, 3)).astype("float32")
    x[rng.uniform(size=(16, 5)) < 0.3] = 0
    y = rng.integers(0, 2, (16, 1) if arguments == "class_weight" else (16, 5, 1)).astype("float32")
    extra = {
        "plain": {},
        "sample_weight": {"sample_weight": rng.uniform(0, 2, (16, 5)).astype("float32")},
        "class_weight": {"class_weight": {0: 0.5, 1: 2.0}},
    }[arguments]
    kernel = rng.normal(size=(3, 1)).astype("float32")
    results = []
    for module, own_ops in ((minikeras, ops), (keras, keras.ops)):
        stages = [module.Input((5, 3))] + [module.layers.Masking()] * masked
        stages.append(module.layers.Dense(1, activation="sigmoid"))
        if arguments == "class_weight":  # of one label for each sample
            stages.append(module.layers.GlobalAveragePooling1D())
        model = module.Sequential(stages)
        model.compile(module.optimizers.SGD(0.5), loss=OWN[name](own_ops))
        model.set_weights([kernel, np.zeros(1, "float32")])
        history = model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, **extra)
        results.append([np.array(history.history["loss"]), *model.get_weights()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6)
