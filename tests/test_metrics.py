"""Metrics: batches add up to the whole, hand-computed values, weights, masks, state, configuration and names."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metric_cases import CASES, MetricCase

from minikeras import kernels as k
from minikeras import losses, metrics, ops
from minikeras.autodiff import Tensor, recording
from minikeras.registry import register_keras_serializable

BY_CLASS = list({case.cls: case for case in CASES}.values())


def made(case: MetricCase) -> metrics.Metric:
    return getattr(metrics, case.cls)(**case.options)


def result(metric: metrics.Metric) -> np.ndarray:
    return np.asarray(metric.result())


def updated(case: MetricCase, weighted: bool = True) -> metrics.Metric:
    metric = made(case)
    for y_true, y_pred, weights in case.batches():
        metric.update_state(y_true, y_pred, weights if weighted else None)
    return metric


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_batches_add_up_to_the_whole(case: MetricCase, weighted: bool) -> None:
    if case.cls in ("Hinge", "SquaredHinge"):
        batches = [case.batches(1)[0]] * 2  # whether targets are 0 and 1 is decided batch by batch
    else:
        batches = case.batches()
    parts, whole = made(case), made(case)
    for y_true, y_pred, weights in batches:
        parts.update_state(y_true, y_pred, weights if weighted else None)
    y_true, y_pred, weights = (np.concatenate(column) for column in zip(*batches, strict=True))
    whole.update_state(y_true, y_pred, weights if weighted else None)
    np.testing.assert_allclose(result(parts), result(whole), rtol=1e-4, atol=1e-6)
    assert result(parts).dtype == np.float32


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equal_weights_change_nothing_and_weight_zero_removes(case: MetricCase) -> None:
    (y_true, y_pred, weights), *_ = case.batches()
    plain, equal, part, kept = made(case), made(case), made(case), made(case)
    plain.update_state(y_true, y_pred)
    equal.update_state(y_true, y_pred, np.ones_like(weights))
    np.testing.assert_allclose(result(plain), result(equal), rtol=1e-5, atol=1e-6)
    if case.options.get("num_regressors"):
        return  # the adjustment counts samples, whatever their weights
    chosen = np.arange(len(weights)) % 2 == 0
    part.update_state(y_true, y_pred, weights * chosen.reshape(-1, *[1] * (weights.ndim - 1)))
    kept.update_state(y_true[chosen], y_pred[chosen], weights[chosen])
    np.testing.assert_allclose(result(part), result(kept), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_reset_pickle_and_copy(case: MetricCase) -> None:
    metric = updated(case)
    before = result(metric)
    for again in (pickle.loads(pickle.dumps(metric)), copy.deepcopy(metric)):
        np.testing.assert_array_equal(result(again), before)
        again.reset_state()
        assert all(not variable.numpy().any() for variable in again.variables)
        for y_true, y_pred, weights in case.batches():
            again.update_state(y_true, y_pred, weights)
        np.testing.assert_array_equal(result(again), before)
    np.testing.assert_array_equal(result(metric), before)  # the copies have variables of their own
    metric.reset_states()
    assert all(not variable.numpy().any() for variable in metric.variables)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_configuration_brings_a_metric_back(case: MetricCase) -> None:
    metric = made(case)
    again = metrics.deserialize(metrics.serialize(metric))
    assert type(again) is type(metric) and again.get_config() == metric.get_config()


@pytest.mark.parametrize("case", BY_CLASS, ids=str)
def test_nothing_is_recorded_or_changed(case: MetricCase) -> None:
    y_true, y_pred, _ = case.batches()[0]
    tensor, kept = Tensor(k.to_device(y_pred), tracked=True), y_pred.copy()
    metric = made(case)
    with recording():
        metric.update_state(y_true, tensor)
        value = metric.result()
    assert isinstance(value, Tensor) and value.node is None
    assert not any(variable.tracked for variable in metric.variables)
    np.testing.assert_array_equal(tensor.numpy(), kept)
    snapshot = result(metric).copy()
    metric.update_state(y_true, y_pred)
    np.testing.assert_array_equal(np.asarray(value), snapshot)  # a result is not changed by later batches


def test_mean_of_scalars_and_arrays() -> None:
    mean = metrics.Mean()
    assert result(mean) == 0 and mean.name == "mean"
    for value in (1, 3.0, Tensor(k.to_device(np.float32(5).reshape(()))), np.float32(7)):
        mean.update_state(value)
    assert result(mean) == 4
    mean.reset_state()
    mean.update_state([[1.0, 3.0], [5.0, 7.0]])
    assert result(mean) == 4 and float(mean.count) == 2
    mean.reset_state()
    mean.update_state([1.0, 3.0], sample_weight=[3, 1])
    assert result(mean) == 1.5
    mean.update_state(np.zeros((0, 2)))
    assert result(mean) == 1.5


def test_sum() -> None:
    total = metrics.Sum()
    total.update_state([1, 2])
    total.update_state(4.0)
    total.update_state([[1.0, 2.0]], sample_weight=[2])
    assert float(total.result()) == 13


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=20), seed=st.integers(0, 99))
def test_accuracies_agree(labels: list[int], seed: int) -> None:
    scores = np.random.default_rng(seed).uniform(size=(len(labels), 5)).astype("float32")
    expected = np.mean(scores.argmax(-1) == labels)
    results = [
        metrics.SparseCategoricalAccuracy()(np.array(labels), scores),
        metrics.SparseCategoricalAccuracy()(np.array(labels, "float32")[:, None], scores),
        metrics.CategoricalAccuracy()(np.eye(5)[labels], scores),
        metrics.SparseTopKCategoricalAccuracy(k=1)(np.array(labels), scores),
        metrics.TopKCategoricalAccuracy(k=1)(np.eye(5)[labels], scores),
    ]
    np.testing.assert_allclose(np.asarray(results, float), expected, rtol=1e-6)


def test_binary_accuracy_is_above_one_half() -> None:
    np.testing.assert_array_equal(metrics.binary_accuracy([0, 1, 1], np.float32([0.5, 0.5, 0.6])), [1, 0, 1])


@given(seed=st.integers(0, 99), count=st.integers(1, 30))
def test_area_is_the_share_of_ordered_pairs(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    truth = np.r_[0, 1, rng.integers(0, 2, count)]
    scores = rng.permutation(np.linspace(0.01, 0.99, len(truth))).astype("float32")
    positive, negative = scores[truth == 1], scores[truth == 0]
    expected = (positive[:, None] > negative).mean()
    np.testing.assert_allclose(result(_with(metrics.AUC(num_thresholds=400), truth, scores)), expected, atol=1e-5)


def _with(metric: metrics.Metric, *batch: np.ndarray) -> metrics.Metric:
    metric.update_state(*batch)
    return metric


@given(seed=st.integers(0, 99))
def test_confusion_counts_partition_the_weights(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, scores, weights = rng.integers(0, 2, 12), rng.uniform(size=12), rng.uniform(size=12)
    counts = [
        result(_with(getattr(metrics, name)(thresholds=[0.25, 0.75]), truth, scores, weights))
        for name in ("TruePositives", "FalsePositives", "TrueNegatives", "FalseNegatives")
    ]
    np.testing.assert_allclose(sum(counts), weights.sum(), rtol=1e-5)
    expected = [(weights * (truth == 1) * (scores > threshold)).sum() for threshold in (0.25, 0.75)]
    np.testing.assert_allclose(counts[0], expected, rtol=1e-5)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_empty_batch_changes_nothing(case: MetricCase) -> None:
    (y_true, y_pred, weights), *_ = case.batches()
    metric = made(case)
    metric.update_state(y_true, y_pred, weights)
    before = result(metric)
    metric.update_state(y_true[:0], y_pred[:0])
    np.testing.assert_array_equal(result(metric), before)


def test_masked_elements_do_not_count() -> None:
    pred = Tensor(k.to_device(np.float32([[0.9, 0.2], [0.8, 0.3]])))
    pred._keras_mask = Tensor(k.to_device(np.array([True, False])))
    metric = metrics.BinaryAccuracy()
    metric.update_state(np.array([[1, 0], [0, 1]]), pred)
    assert result(metric) == 1
    metric.update_state(np.array([[1, 1], [0, 1]]), pred, sample_weight=[2, 5])
    np.testing.assert_allclose(result(metric), 2 / 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("y_true", "y_pred", "index"),
    [
        ((None, 1), (None, 1), 0),
        ((None,), (None, 1), 0),
        ((None,), (None, 10), 1),
        ((None, 1), (None, 10), 1),
        ((None, 10), (None, 10), 2),
        ((None, 7), (None, 7, 10), 1),
        ((None, 7, 10), (None, 7, 10), 2),
        ((None,), (None,), 0),
    ],
)
def test_what_accuracy_means(y_true: tuple, y_pred: tuple, index: int) -> None:
    accuracies = [metrics.BinaryAccuracy, metrics.SparseCategoricalAccuracy, metrics.CategoricalAccuracy]
    entropies = [losses.binary_crossentropy, losses.sparse_categorical_crossentropy, losses.categorical_crossentropy]
    assert metrics.resolve_accuracy(y_true, y_pred) is accuracies[index]
    assert metrics.resolve_accuracy(y_true, y_pred, "crossentropy") is entropies[index]


def test_own_metric_with_inner_metric() -> None:
    @register_keras_serializable(package="tests")
    class Spread(metrics.Metric):
        def __init__(self, name="spread", **kwargs):
            super().__init__(name=name, **kwargs)
            self.largest = self.add_weight("largest", initializer="zeros")
            self.mean = metrics.Mean()

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.largest.assign(ops.maximum(self.largest, ops.max(y_pred)))
            self.mean.update_state(y_pred)

        def result(self):
            return self.largest - self.mean.result()

    metric = Spread()
    assert [variable.path for variable in metric.variables] == ["spread/largest", "mean/total", "mean/count"]
    assert float(metric(None, np.float32([1, 5]))) == 2
    metric.reset_state()
    assert float(metric.result()) == 0
    assert isinstance(metrics.deserialize(metrics.serialize(metric)), Spread)


def test_wrapped_functions() -> None:
    wrapped = metrics.MeanMetricWrapper(losses.huber, name="h", delta=2.0)
    again = metrics.deserialize(metrics.serialize(wrapped))
    assert again._fn is losses.huber and again.get_config() == wrapped.get_config()
    assert wrapped._direction == "down" and metrics.CategoricalAccuracy()._direction == "up"

    def errors(y_true, y_pred):
        return ops.abs(y_true - y_pred)

    assert float(metrics.MeanMetricWrapper(errors)(np.array([1, 2]), np.array([1, 4]))) == 1


def test_names() -> None:
    assert metrics.get(None) is None
    assert isinstance(metrics.get("mse"), metrics.MeanSquaredError)
    assert isinstance(metrics.get("categorical_crossentropy"), metrics.CategoricalCrossentropy)
    assert isinstance(metrics.get("acc"), metrics.Accuracy) and isinstance(metrics.get("AUC"), metrics.AUC)
    assert metrics.get(metrics.mae) is losses.mean_absolute_error
    described = {"class_name": "MeanSquaredError", "config": {"name": "m"}}
    assert isinstance(metrics.get(described), metrics.MeanSquaredError)
    with pytest.raises(ValueError, match="did you mean 'binary_accuracy'"):
        metrics.get("binary_acuracy")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: metrics.Precision(thresholds=[0.5, 2]), "between 0 and 1"),
        (lambda: metrics.AUC(curve="ROCK"), "curve must be 'ROC', 'PR' or 'PRGAIN'"),
        (lambda: metrics.AUC(num_thresholds=1), "at least 2"),
        (lambda: metrics.AUC(num_thresholds=None), "at least 2"),
        (lambda: metrics.AUC(num_labels=3), "multi_label=True"),
        (lambda: metrics.F1Score(average="all"), "average must be None, 'micro'"),
        (lambda: metrics.FBetaScore(beta=0), "above 0"),
        (lambda: metrics.R2Score(num_regressors=-1), "at least 0"),
        (lambda: metrics.F1Score()(np.ones(3), np.ones(3)), r"\(n, classes\)"),
        (lambda: metrics.Recall()(np.ones((3, 2)), np.ones((3, 4))), "one shape"),
        (lambda: metrics.MeanSquaredError()(np.ones((3, 2)), np.ones((3, 4))), "does not go with"),
        (lambda: metrics.Mean()(np.ones(3), np.ones(2)), "does not go with"),
    ],
)
def test_wrong_arguments_are_one_sentence(call, words: str) -> None:
    with pytest.raises(ValueError, match=words) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_base_class_says_what_is_missing() -> None:
    with pytest.raises(NotImplementedError, match="update_state"):
        metrics.Metric().update_state(1)
    with pytest.raises(NotImplementedError, match="result"):
        metrics.Metric().result()
    with pytest.warns(UserWarning, match="plain score"):
        metrics.R2Score(num_regressors=9)(np.array([[1.0], [2.0]]), np.array([[1.0], [3.0]]))


def test_stateless_methods_leave_the_metric_as_it_is() -> None:
    metric = metrics.Mean()
    metric.update_state([1.0])
    state = metric.stateless_update_state(metric.stateless_reset_state(), [2.0, 4.0])
    assert [float(value) for value in state] == [6.0, 2.0]
    assert float(metric.stateless_result(state)) == 3.0 and float(metric.result()) == 1.0
    with pytest.raises(ValueError, match="takes 2 values"):
        metric.stateless_result([1.0])
