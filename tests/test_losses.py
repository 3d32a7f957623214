"""Losses: gradients, hand-computed values, weights, masks, reductions, shapes and names."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loss_cases import CASES, LossCase

from minikeras import kernels as k
from minikeras import losses, ops
from minikeras.autodiff import Tensor, backward, check_gradients, recording
from minikeras.registry import deserialize_keras_object, register_keras_serializable

SHAPES = st.sampled_from([(1, 2), (3, 4), (5, 2), (2, 3, 4), (7, 3)])


def value(tensor):
    return k.to_host(tensor.data)


@pytest.mark.parametrize("case", CASES, ids=str)
@given(shape=SHAPES, seed=st.integers(0, 99))
def test_gradients(case: LossCase, shape: tuple[int, ...], seed: int) -> None:
    y_true, y_pred = case.data(shape, seed=seed)
    function = getattr(losses, case.function)
    if case.target_gradient:
        check_gradients(function, y_true, y_pred, **case.options)
    else:
        check_gradients(lambda p: function(Tensor(k.to_device(y_true)), p, **case.options), y_pred)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_reduced_gradients_with_weights_and_mask(case: LossCase) -> None:
    y_true, y_pred = case.data((4, 3, 5))
    values = getattr(losses, case.function)(y_true, y_pred, **case.options)
    weights = np.random.default_rng(1).uniform(0, 2, values.shape)
    for reduction in ("sum_over_batch_size", "sum", "mean_with_sample_weight", "none"):
        loss = getattr(losses, case.cls)(**case.options, reduction=reduction, dtype="float64")
        check_gradients(lambda p, loss=loss: loss(y_true, p, weights), y_pred)


def test_values_of_the_definition() -> None:
    true, pred = np.float32([[1, 4]]), np.float32([[2, 2]])
    assert value(losses.mean_squared_error(true, pred)) == 2.5
    assert value(losses.mean_absolute_error(true, pred)) == 1.5
    assert value(losses.mean_absolute_percentage_error(true, pred)) == 75
    np.testing.assert_allclose(value(losses.huber(true, pred)), (0.5 + 1.5) / 2)
    np.testing.assert_allclose(value(losses.categorical_crossentropy([[0.0, 1.0]], [[0.25, 0.75]])), -np.log(0.75))
    np.testing.assert_allclose(value(losses.sparse_categorical_crossentropy([1], [[0.25, 0.75]])), -np.log(0.75))
    np.testing.assert_allclose(value(losses.cosine_similarity([[3.0, 4.0]], [[6.0, 8.0]])), -1, rtol=1e-6)


def test_predictions_are_divided_by_their_sum() -> None:
    np.testing.assert_allclose(value(losses.categorical_crossentropy([[0.0, 1.0]], [[1.0, 3.0]])), -np.log(0.75))


@pytest.mark.parametrize("scale", [1.0, 500.0])
def test_softmax_predictions_start_from_their_logits(scale: float) -> None:
    logits = Tensor(k.to_device(np.random.default_rng(0).normal(size=(6, 4)) * scale), tracked=True)
    targets = np.eye(4)[[0, 1, 2, 3, 0, 1]]
    exact = losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1, dtype="float64")
    with recording():
        recovered = losses.CategoricalCrossentropy(label_smoothing=0.1, dtype="float64")(targets, ops.softmax(logits))
        expected = exact(targets, logits)
        labels = losses.SparseCategoricalCrossentropy(dtype="float64")(targets.argmax(-1), ops.softmax(logits))
    np.testing.assert_allclose(value(recovered), value(expected))
    mine, reference = backward(recovered, [logits])[0], backward(expected, [logits])[0]
    np.testing.assert_allclose(k.to_host(mine), k.to_host(reference), atol=1e-12)
    assert np.isfinite(value(labels)) and recovered.node.inputs[0].node.inputs[0] is logits  # two nodes


def test_sigmoid_predictions_start_from_their_logits_after_a_squeeze() -> None:
    logits = Tensor(k.to_device(np.array([[[800.0]], [[-900.0]]])), tracked=True)
    with recording():
        loss = losses.BinaryCrossentropy(dtype="float64")(np.array([[0.0], [1.0]]), ops.sigmoid(logits))
    assert value(loss) == 850
    np.testing.assert_allclose(k.to_host(backward(loss, [logits])[0]).ravel(), [0.5, -0.5])


def test_mean_squared_error_is_two_nodes() -> None:
    pred = Tensor(k.to_device(np.ones((4, 3), "float32")), tracked=True)
    with recording():
        loss = losses.MeanSquaredError()(np.zeros((4, 3), "float32"), pred)
    assert loss.node.inputs[0].node.inputs[1] is pred and loss.dtype == np.float32


def test_reductions() -> None:
    true, pred = np.zeros((2, 1), "float32"), np.float32([[1], [2]])
    weights = np.float32([1, 0])
    reduced = {r: value(losses.MeanSquaredError(reduction=r)(true, pred, weights)) for r in losses.REDUCTIONS}
    assert reduced["sum_over_batch_size"] == reduced["mean"] == 0.5  # divided by the count, not by the weights
    assert reduced["sum"] == 1 and reduced["mean_with_sample_weight"] == 1
    np.testing.assert_array_equal(reduced["none"], [1, 0])
    np.testing.assert_array_equal(reduced[None], [1, 0])


def test_mask_divides_by_what_it_lets_through() -> None:
    pred = Tensor(k.to_device(np.float32([[[1], [2], [7]], [[3], [7], [7]]])))
    pred._keras_mask = Tensor(k.to_device(np.array([[True, True, False], [True, False, False]])))
    true = np.zeros((2, 3, 1), "float32")
    np.testing.assert_allclose(value(losses.MeanSquaredError()(true, pred)), (1 + 4 + 9) / 3)
    assert value(losses.MeanSquaredError(reduction="sum")(true, pred)) == 14
    weights = np.float32([2, 1])
    np.testing.assert_allclose(value(losses.MeanSquaredError()(true, pred, weights)), (2 * 1 + 2 * 4 + 9) / 3)
    pred._keras_mask = Tensor(k.to_device(np.zeros((2, 3), bool)))
    assert value(losses.MeanSquaredError()(true, pred)) == 0


@pytest.mark.parametrize("name", ["mean_squared_error", "hinge", "cosine_similarity", "categorical_hinge"])
def test_one_row_times_a_number(name: str) -> None:
    true, pred = np.float32([0, 1, 1]), Tensor(k.to_device(np.float32([1.5, 0.25, 0.5])), tracked=True)
    with recording():
        loss = getattr(losses, name)(true, pred)
        doubled = loss * 2.0
    one, two = (k.to_host(backward(value, [pred])[0]) for value in (loss, doubled))
    assert one.any()
    np.testing.assert_allclose(two, 2 * one, rtol=1e-6)


def test_ignored_class_is_a_mask() -> None:
    pred = np.float32([[0.25, 0.75], [0.5, 0.5]])
    loss = losses.SparseCategoricalCrossentropy(ignore_class=-1)
    np.testing.assert_allclose(value(loss(np.array([1, -1]), pred)), -np.log(0.75), rtol=1e-6)


def test_labels_and_a_single_output_go_together() -> None:
    true, pred = np.float32([1, 2, 3]), np.float32([[1], [2], [5]])
    np.testing.assert_allclose(value(losses.MeanSquaredError()(true, pred)), 4 / 3)
    np.testing.assert_allclose(value(losses.MeanSquaredError()(pred, true)), 4 / 3)
    assert losses.mean_squared_error(np.ones((2, 3)), np.ones((2, 3, 1))).shape == (2,)


def test_integer_targets_of_any_kind() -> None:
    pred = np.float32([[0.25, 0.75], [0.5, 0.5]])
    for dtype in ("uint8", "int64", "float32", "bool"):
        assert losses.MeanSquaredError()(np.array([[0, 1], [1, 0]], dtype), pred).dtype == np.float32
    for labels in (np.array([1, 0], "uint8"), np.array([[1.0], [0.0]])):
        expected = -(np.log(0.75) + np.log(0.5)) / 2
        np.testing.assert_allclose(value(losses.SparseCategoricalCrossentropy()(labels, pred)), expected, rtol=1e-6)


def test_empty_batch() -> None:
    assert value(losses.MeanSquaredError()(np.zeros((0, 2), "float32"), np.zeros((0, 2), "float32"))) == 0
    assert losses.categorical_crossentropy(np.zeros((0, 2), "float32"), np.zeros((0, 2), "float32")).shape == (0,)


@pytest.mark.parametrize(
    ("loss", "true", "pred", "words"),
    [
        ("MeanSquaredError", (3, 2), (3, 4), "shape (3, 2)"),
        ("BinaryCrossentropy", (3, 1), (3, 4), "one shape"),
        ("CategoricalCrossentropy", (3,), (3, 4), "sparse_categorical_crossentropy"),
        ("SparseCategoricalCrossentropy", (3, 4), (3, 4), "categorical_crossentropy"),
        ("CategoricalGeneralizedCrossEntropy", (3, 4), (3, 4), "argmax"),
    ],
)
def test_wrong_shapes_are_one_sentence(loss: str, true: tuple, pred: tuple, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        getattr(losses, loss)()(np.ones(true, "float32"), np.full(pred, 0.25, "float32"))
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="reduction must be"):
        losses.MeanSquaredError(reduction="average")
    with pytest.raises(ValueError, match="sample weights have shape"):
        losses.MeanSquaredError()(np.ones((4, 2), "float32"), np.ones((4, 2), "float32"), np.ones(3))
    with pytest.raises(ValueError, match="did you mean 'mean_squared_error'"):
        losses.get("mean_squared_eror")
    with pytest.raises(NotImplementedError, match="does not define call"):
        losses.Loss()(np.ones(2), np.ones(2))
    with pytest.warns(SyntaxWarning, match="two classes or more"):
        losses.categorical_crossentropy([[1.0]], [[1.0]])


def test_losses_add_up_with_their_factors() -> None:
    parts = [Tensor(k.to_device(np.array(value, "float32")), tracked=True) for value in (1, 2, 4)]
    with recording():
        total = losses.combined(parts, [None, 0.5, -3.0])
        once, scaled = losses.combined(parts[:1], [None]), losses.combined(parts[1:2], [0.25])
    assert value(total) == -10 and once is parts[0] and value(scaled) == 0.5
    np.testing.assert_array_equal([k.to_host(g) for g in backward(total, parts)], [1, 0.5, -3])
    assert value(losses.combined([parts[0], Tensor(k.to_device(np.array(2.0)))], [None, 0.5])) == 2
    check_gradients(lambda a, b: losses.combined([a, b], [2.0, None]), np.array(1.5), np.array(0.5))


def test_own_loss() -> None:
    class Largest(losses.Loss):
        def call(self, y_true, y_pred):
            return ops.max(ops.abs(y_true - y_pred), axis=-1)

    loss = Largest()
    assert loss.name.startswith("largest")
    assert value(loss(np.array([[1, 2]]), np.array([[4, 1]]))) == 3
    check_gradients(
        lambda p: Largest(dtype="float64")(np.zeros((3, 2)), p), np.random.default_rng(0).normal(size=(3, 2))
    )


def test_structured_predictions() -> None:
    class Both(losses.Loss):
        def call(self, y_true, y_pred):
            return ops.square(y_true["a"] - y_pred["a"]) + ops.square(y_true["b"] - y_pred["b"])

    data = {"a": np.ones(3), "b": np.zeros(3)}
    assert value(Both()(data, {"a": np.zeros(3), "b": np.zeros(3)})) == 1


@pytest.mark.parametrize("case", CASES, ids=str)
def test_configuration_and_pickle_bring_a_loss_back(case: LossCase) -> None:
    loss = getattr(losses, case.cls)(**case.options, reduction="sum", name="mine")
    data = case.data((4, 3), "float32")
    for again in (losses.deserialize(losses.serialize(loss)), pickle.loads(pickle.dumps(loss))):
        assert type(again) is type(loss) and again.get_config() == loss.get_config() and again.name == "mine"
        np.testing.assert_array_equal(value(again(*data)), value(loss(*data)))


def test_names() -> None:
    assert losses.get(None) is None
    for name in ("mse", "MSE", "mean_squared_error"):
        assert losses.get(name) is losses.mean_squared_error
    assert isinstance(losses.get("MeanSquaredError"), losses.MeanSquaredError)
    assert isinstance(losses.get(losses.Huber), losses.Huber)
    assert losses.get({"class_name": "CategoricalCrossentropy", "config": {"from_logits": True}}).from_logits
    assert losses.serialize(losses.mse) == "mean_squared_error"
    assert losses.deserialize("mean_squared_error") is losses.mse
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert losses.get("kld") is losses.get("kullback_leibler_divergence") is losses.kl_divergence


def test_wrapped_functions_are_described() -> None:
    wrapped = losses.LossFunctionWrapper(losses.huber, name="h", delta=2.0)
    again = deserialize_keras_object(losses.serialize(wrapped))
    assert again.fn is losses.huber and again.get_config() == wrapped.get_config()

    @register_keras_serializable(package="tests")
    def cubic(y_true, y_pred):
        return ops.mean(ops.abs(y_true - y_pred) ** 3, axis=-1)

    again = losses.deserialize(losses.serialize(losses.LossFunctionWrapper(cubic)))
    assert again.fn is cubic and value(again([[0.0]], [[2.0]])) == 8
    assert losses.deserialize("other", {"other": cubic}) is cubic


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none"])
def test_one_value_times_one_weight_whatever_the_reduction(reduction):
    loss = losses.Dice(reduction=reduction)
    y_true, y_pred = np.array([[0.0, 1.0]], "float32"), np.array([[0.2, 0.7]], "float32")
    expected = 0.5 * losses.dice(y_true, y_pred).numpy()
    np.testing.assert_allclose(loss(y_true, y_pred, np.float32(0.5)), expected, rtol=1e-6)
