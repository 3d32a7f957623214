"""Results, states and configurations of every metric against real Keras on JAX, batch after batch."""

from __future__ import annotations

import os

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")

from metric_cases import CASES, MetricCase  # noqa: E402

from minikeras import kernels as k  # noqa: E402
from minikeras import losses, metrics  # noqa: E402
from minikeras.autodiff import Tensor  # noqa: E402

BY_CLASS = list({case.cls: case for case in CASES}.values())
REQUIRED = {"num_classes", "target_class_ids", "specificity", "sensitivity", "recall", "precision"}
TOLERANCE = {"rtol": 3e-5, "atol": 2e-6}


def pair(case: MetricCase):
    return [getattr(module, case.cls)(**case.options) for module in (metrics, keras.metrics)]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_results_and_states(case: MetricCase, weighted: bool) -> None:
    ours, theirs = pair(case)
    for y_true, y_pred, weights in case.batches(2):
        for metric in (ours, theirs):
            metric.update_state(y_true, y_pred, sample_weight=weights if weighted else None)
        mine, other = ours.result(), theirs.result()
        assert mine.shape == other.shape and str(mine.dtype) == str(other.dtype)
        np.testing.assert_allclose(mine, np.asarray(other), **TOLERANCE)
        assert [v.name for v in ours.variables] == [v.name for v in theirs.variables]
        for variable, counterpart in zip(ours.variables, theirs.variables, strict=True):
            np.testing.assert_allclose(variable.numpy(), np.asarray(counterpart), **TOLERANCE)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "case",
    [case for case in CASES if issubclass(getattr(metrics, case.cls), metrics.MeanMetricWrapper)],
    ids=str,
)
def test_masks(case: MetricCase, weighted: bool) -> None:
    ours, theirs = pair(case)
    y_true, y_pred, weights = case.batches()[0]
    mask = np.random.default_rng(2).uniform(size=weights.shape) < 0.6
    ours_pred, theirs_pred = Tensor(k.to_device(y_pred)), keras.ops.convert_to_tensor(y_pred)
    ours_pred._keras_mask = Tensor(k.to_device(mask))
    keras.src.backend.set_keras_mask(theirs_pred, keras.ops.convert_to_tensor(mask))
    ours.update_state(y_true, ours_pred, sample_weight=weights if weighted else None)
    theirs.update_state(y_true, theirs_pred, sample_weight=weights if weighted else None)
    np.testing.assert_allclose(ours.result(), np.asarray(theirs.result()), **TOLERANCE)


@pytest.mark.parametrize("name", ["Mean", "Sum"])
@pytest.mark.parametrize(
    ("shape", "weights"),
    [
        ((), None),
        ((5,), None),
        ((5, 3), None),
        ((5,), (5,)),
        ((5, 3), (5,)),
        ((5, 3), (5, 3)),
        ((5, 1), (5,)),
        ((5,), (5, 1)),
    ],
)
def test_means_and_sums(name: str, shape: tuple, weights: tuple | None) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=shape).astype("float32")
    sample_weight = None if weights is None else rng.uniform(size=weights).astype("float32")
    ours, theirs = (getattr(module, name)() for module in (metrics, keras.metrics))
    for metric in (ours, theirs):
        metric.update_state(values, sample_weight)
        metric.update_state(2.5)
    for variable, counterpart in zip(ours.variables, theirs.variables, strict=True):
        np.testing.assert_allclose(variable.numpy(), np.asarray(counterpart), **TOLERANCE)


@pytest.mark.parametrize("case", BY_CLASS, ids=str)
def test_configurations(case: MetricCase) -> None:
    keras.utils.clear_session()
    required = {name: case.options[name] for name in REQUIRED & case.options.keys()}
    for options in ({**required, "name": "m"}, {**case.options, "name": "m"}):
        ours, theirs = (getattr(module, case.cls)(**options) for module in (metrics, keras.metrics))
        if options.keys() & {"axis", "label_weights"}:
            continue  # Keras leaves one out and writes the other as a tensor
        assert list(ours.get_config().items()) == list(theirs.get_config().items())
        assert metrics.serialize(ours) == keras.metrics.serialize(theirs)
        assert metrics.deserialize(keras.metrics.serialize(theirs)).get_config() == ours.get_config()


def test_default_names() -> None:
    keras.utils.clear_session()
    for case in BY_CLASS:
        options = {name: case.options[name] for name in REQUIRED & case.options.keys()}
        ours, theirs = (getattr(module, case.cls)(**options) for module in (metrics, keras.metrics))
        assert ours.name.startswith(theirs.name)


def test_wrapped_function_is_read_by_keras() -> None:
    ours = metrics.MeanMetricWrapper(losses.huber, name="h", delta=2.0)
    theirs = keras.metrics.MeanMetricWrapper(keras.losses.huber, name="h", delta=2.0)
    assert list(ours.get_config().items()) == list(theirs.get_config().items())
    assert metrics.serialize(ours) == keras.metrics.serialize(theirs)


@pytest.mark.parametrize(("y_true", "y_pred"), [((4, 1), (4, 1)), ((4,), (4, 1)), ((4, 1), (4, 3)), ((4, 3), (4, 3))])
def test_what_accuracy_means(y_true: tuple, y_pred: tuple) -> None:
    found = keras.src.trainers.compile_utils.get_metric("accuracy", np.zeros(y_true), np.zeros(y_pred))
    assert metrics.resolve_accuracy(y_true, y_pred).__name__ == type(found).__name__


def test_names_mean_the_same() -> None:
    missing = set()
    for name, found in keras.src.metrics.ALL_OBJECTS_DICT.items():
        if name in metrics.ALL:
            assert metrics.ALL[name].__name__ == found.__name__
        else:
            missing.add(found.__name__)
    assert missing == {"Metric"}


def test_overlap_counts_in_whole_numbers_unless_told_otherwise() -> None:
    """Weights that are fractions count as they are, as Keras's documentation has it; its int32 makes them 0."""
    ours, theirs = (module.IoU(2, [0, 1], name="m") for module in (metrics, keras.metrics))
    for metric in (ours, theirs):
        metric.update_state([0, 0, 1, 1], [0, 1, 0, 1], sample_weight=[3, 3, 3, 1])
    np.testing.assert_allclose(ours.result(), np.asarray(theirs.result()), rtol=1e-6)
    assert str(ours.result().dtype) == str(theirs.result().dtype)
    assert list(ours.get_config().items()) == list(theirs.get_config().items())
    ours.reset_state()
    ours.update_state([0, 0, 1, 1], [0, 1, 0, 1], sample_weight=[0.3, 0.3, 0.3, 0.1])
    np.testing.assert_allclose(ours.result(), (0.3 / 0.9 + 0.1 / 0.7) / 2, rtol=1e-6)
