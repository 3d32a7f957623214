"""Kernels, operations and whole training runs on a stand-in for CuPy: what they use, CuPy has (see `recorder`)."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from gpu.recorder import Counts, DeviceArray, recording_device
from gpu.workouts import BATCH, LAYERS, WORKOUTS, Workout, bench, compare, reference_kernels, train
from loss_cases import CASES as LOSSES
from loss_cases import LossCase
from metric_cases import CASES as METRICS
from metric_cases import MetricCase
from ops.op_cases import CASES, Case

from minikeras import Input, Model, activations, config, layers, losses, metrics, ops, optimizers, tree, utils
from minikeras import kernels as k
from minikeras.autodiff import Tensor, Variable, recording
from minikeras.autodiff.tape import backward
from minikeras.callbacks import Callback
from minikeras.doctor.cases import KERNELS, answers
from minikeras.kernels.comparison import Bench
from minikeras.optimizers import Optimizer

# ---------------------------------------------------------------- kernels, operations, losses


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("kernels", KERNELS, ids=lambda kernels: kernels.__name__.strip("_"))
def test_kernels(kernels: Callable[[Bench], list[Any]], dtype: str) -> None:
    """Those of the reference, which compute on the stand-in as on NumPy."""
    with reference_kernels():
        expected = kernels(bench(dtype))
    with recording_device() as counts:
        k.bind(k.reference_table(k.xp))
        found = kernels(bench(dtype))
        assert len(counts.reads) == (2 if kernels is answers else 0)
        compare(found, expected)


@pytest.mark.parametrize(("dtype", "near"), [("float32", 2e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("kernels", KERNELS, ids=lambda kernels: kernels.__name__.strip("_"))
def test_kernels_of_our_own(kernels: Callable[[Bench], list[Any]], dtype: str, near: float) -> None:
    """As tests/gpu/cuda does, for each kernel, also with numbers of two bytes; here nothing may be read back."""
    with reference_kernels():
        expected = kernels(bench(dtype))
    with recording_device() as counts:
        found = kernels(bench(dtype))
        assert len(counts.reads) == (2 if kernels is answers else 0)
        compare(found, expected, near, near)


def test_no_kernel_is_left_out() -> None:
    asked = bench("float32")
    for kernels in KERNELS:
        kernels(asked)
    assert k.names() <= asked.asked


def _values_and_gradients(function: Callable, inputs: list[np.ndarray], differentiable: bool) -> list[Any]:
    """The results of a function and, where it has them, the gradients at its inputs."""
    tensors = [Tensor(k.to_device(value), tracked=value.dtype.kind == "f") for value in inputs]
    with recording():
        results = tree.flatten(function(*tensors))
    arrays = [result.data for result in results]
    for result in results:
        if differentiable and result.tracked:
            arrays += backward(result, tensors)
    return arrays


def _runs_the_same(function: Callable, inputs: list[np.ndarray], differentiable: bool) -> Counts:
    with reference_kernels():
        expected = _values_and_gradients(function, inputs, differentiable)
    with recording_device() as counts:
        found = _values_and_gradients(function, inputs, differentiable)
        assert all(isinstance(array, DeviceArray) for array in found if array is not None)
        reads = list(counts.reads)
        compare(found, expected)
    counts.reads = reads
    return counts


# what a result's shape depends on has to be read back
WAITING = ("bincount(", "nonzero(", "where(array)", "get_item(2x3,array)", "histogram(", "segment_prod(", "unique(")
WAITING += ("scatter_update(4x2,array,3x2,reduction=mul",)
WAITING += ("gammainc(",)  # whose series are as long as its arguments want


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_operations(case: Case, dtype: str) -> None:
    function = lambda *inputs: case.call(getattr(ops, case.name), *inputs)
    counts = _runs_the_same(function, case.inputs(dtype=dtype), case.differentiable)
    assert bool(counts.reads) == str(case).startswith(WAITING), counts.reads


@pytest.mark.parametrize("name", activations.ALL)
def test_activations(name: str) -> None:
    x = np.random.default_rng(3).normal(size=(4, 6)).astype("float32")
    options = {"threshold": 0.5, "default_value": 2.0} if name == "threshold" else {}
    counts = _runs_the_same(lambda x: activations.get(name)(x, **options), [x], True)
    assert not counts.reads
    assert len(counts.transfers) == 1, counts.transfers


@pytest.mark.parametrize("case", LOSSES, ids=str)
def test_losses(case: LossCase) -> None:
    counts = _runs_the_same(getattr(losses, case.cls)(**case.options), list(case.data((4, 3), "float32")), True)
    assert not counts.reads
    assert len(counts.transfers) == 2, counts.transfers


@pytest.mark.parametrize("activation", [None, ops.softmax])
def test_labels_out_of_range_have_no_loss_and_no_gradient(activation: Callable | None) -> None:
    with recording_device() as counts:
        x = Tensor(k.to_device(np.ones((3, 2), "float32")), tracked=True)
        labels = Tensor(k.to_device(np.array([1, 2, -1])))
        counts.clear()
        with recording():
            output = x if activation is None else activation(x)
            values = losses.sparse_categorical_crossentropy(labels, output, from_logits=activation is None)
        (gradient,) = backward(values, [x])
        assert not counts.reads and not counts.transfers
        np.testing.assert_allclose(values.numpy(), [np.log(2), np.nan, np.nan], rtol=1e-6)
        np.testing.assert_allclose(k.to_host(gradient), [[0.5, -0.5], [0, 0], [0, 0]])


def test_labels_out_of_range_are_refused_before_they_move() -> None:
    y = np.array([0, 1, 3, -1])
    with recording_device():
        inputs = Input((2,))
        outputs = [layers.Dense(3, name="a")(inputs), layers.Dense(4, name="b")(inputs)]
        model = Model(inputs, dict(zip("ab", outputs, strict=True)))
        first = losses.SparseCategoricalCrossentropy(from_logits=True)
        second = losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
        model.compile("sgd", {"a": first, "b": second})
        for a, b, message in ((y, y, "0 and 2 for 3"), (y * 0, y + 1, "0 and 3 for 4"), (y * 0, y, None)):
            with nullcontext() if message is None else pytest.raises(ValueError, match=message):
                model.fit(np.ones((4, 2)), {"a": a, "b": b}, verbose=0)
            assert bool(model.optimizer.iterations == 1) == (message is None)


@pytest.mark.parametrize("case", METRICS, ids=str)
def test_metrics(case: MetricCase) -> None:
    def run() -> list[Any]:
        metric = getattr(metrics, case.cls)(**case.options)
        for y_true, y_pred, weights in case.batches():
            metric.update_state(y_true, y_pred, None if case.weights is None else weights)
        return [metric.result().data, *[variable.data for variable in metric.variables]]

    with reference_kernels():
        expected = run()
    with recording_device() as counts:
        found = run()
        reads = set(counts.reads)
        compare(found, expected)
    assert not reads or case.options.get("num_regressors"), reads


def _layer_run(
    name: str, arguments: dict[str, Any], shape: Any, built: Callable = int, dtype: str = "float32"
) -> list[Any]:
    """Outputs in training and in inference, and all gradients of a layer with random weights.

    `built()` is called when the layer stands.
    """
    rng = np.random.default_rng(2)
    draw = lambda one: rng.uniform(0.1, 2.9, one).astype("float32").astype(dtype)
    utils.set_random_seed(1)
    layer = getattr(layers, name)(**arguments)
    layer = type(layer).from_config(layer.get_config())  # those within `arguments` were built on another device
    many = isinstance(shape, list) or isinstance(shape[0], tuple)
    values = [draw(one) for one in (shape if many else [shape])]
    if name == "Embedding":  # takes whole numbers
        values = [np.floor(value) for value in values]
    inputs = [Tensor(k.to_device(value), tracked=True) for value in values]
    arguments_of_call = [inputs] if isinstance(shape, list) else inputs
    layer(*arguments_of_call)
    layer.set_weights([draw(weight.shape).astype(weight.dtype) for weight in layer.weights])
    built()
    arrays = []
    for training in (True, False):
        options = {"training": training} if "training" in inspect.signature(layer.call).parameters else {}
        with recording():
            outputs = layer(*arguments_of_call, **options)
            total = sum(layer.losses, ops.sum(ops.square(outputs)))
        arrays += [outputs.data, *backward(total, [*inputs, *layer.trainable_variables])]
    return arrays


@pytest.mark.parametrize(("name", "arguments", "shape"), LAYERS, ids=lambda value: str(value).split(" at 0x")[0][:40])
def test_layers(name: str, arguments: dict[str, Any], shape: Any) -> None:
    with reference_kernels():
        expected = _layer_run(name, arguments, shape)
    with recording_device() as counts:
        found = _layer_run(name, arguments, shape, counts.clear)
        assert not counts.reads
        assert not counts.transfers
        found = [None if one is None else k.to_host(one) for one in found]
    with reference_kernels(), _floats("float64"):
        exact = _layer_run(name, arguments, shape, dtype="float64")
    # in float32 gradients that cancel, or come from saturated weights, have few digits, in whatever order they are
    # summed: ours are to be as near to the exact ones as NumPy's
    if not np.allclose(expected[0], exact[0], rtol=0.01, atol=0.01):  # float64 draws other random numbers
        exact = expected
    for ours, theirs, wanted in zip(found, expected, exact, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert ours.dtype == theirs.dtype
            off = np.max(np.abs(theirs - wanted), initial=0.0)
            np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-6 + 4 * off)


@contextmanager
def _floats(dtype: str) -> Iterator[None]:
    before = config.floatx()
    config.set_floatx(dtype)
    try:
        yield
    finally:
        config.set_floatx(before)


def test_no_layer_is_left_out() -> None:
    covered = {getattr(layers, name) for name, *_ in LAYERS} | {layers.InputLayer, layers.Layer, layers.InputSpec}
    parts = {layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell, layers.StackedRNNCells, layers.Wrapper}
    present = {getattr(layers, name) for name in dir(layers) if isinstance(getattr(layers, name), type)}
    # these take strings and integers, which they look at on the host; layers/test_text.py runs on the stand-in too
    looking = {layers.TextVectorization, layers.StringLookup, layers.IntegerLookup, layers.Hashing}
    looking |= {layers.HashedCrossing, layers.CategoryEncoding, layers.Discretization}
    # what these draw and do is made of operations, and layers/test_image.py runs on the stand-in too
    looking |= {one for one in present if one.__module__.startswith("minikeras.layers.image")}
    assert present == covered | parts | looking


OPTIMIZERS = {one for one in vars(optimizers).values() if isinstance(one, type) and issubclass(one, Optimizer)}


COMPOSED = {optimizers.LossScaleOptimizer, optimizers.MultiOptimizer}  # of others, whose options they do not take


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS - COMPOSED - {Optimizer}, key=lambda one: one.__name__))
def test_optimizers(optimizer: type[Optimizer]) -> None:
    def run(built: Callable = int) -> list[Variable]:
        rng = np.random.default_rng(1)
        variables = [Variable(rng.normal(size=shape)) for shape in ((3, 2), (4,))]
        one = optimizer(0.1, clipnorm=1.0, weight_decay=0.01)
        gradients = [[k.to_device(rng.normal(size=v.shape).astype("float32")) for v in variables] for _ in range(3)]
        for gradient in gradients:
            one.apply(gradient, variables)
            if gradient is gradients[0]:
                built()
        return variables + one.variables

    with reference_kernels():
        expected = [variable.data for variable in run()]
    with recording_device() as counts:
        variables = run(counts.clear)
        assert not counts.reads
        assert not counts.transfers
        compare([variable.data for variable in variables], expected)


# ---------------------------------------------------------------- training


BATCHES = 4


class Watch(Callback):
    """Notes what went to the device and what came back within each epoch."""

    def __init__(self, counts: Counts):
        super().__init__()
        self._counts = counts
        self.epochs: list[tuple[list, list]] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start = len(self._counts.transfers), len(self._counts.reads)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        transfers, reads = self._start
        self.epochs.append((self._counts.transfers[transfers:], self._counts.reads[reads:]))


@pytest.mark.parametrize("workout", WORKOUTS, ids=str)
def test_training_equals_that_of_the_reference_kernels(workout: Workout) -> None:
    x, y, *_ = workout.data(BATCH * BATCHES - 3, np.random.default_rng(5))

    def run() -> list[Any]:
        model, found = train(workout, BATCH * BATCHES - 3)
        outputs = tree.flatten(model.predict(x, BATCH, verbose=0)) + tree.flatten(model.predict_on_batch(x))
        scores = model.evaluate(x, y, BATCH, verbose=0), model.test_on_batch(x, y), model.train_on_batch(x, y)
        return [*found, *outputs, *[np.asarray(value) for value in tree.flatten(list(scores))]]

    with reference_kernels():
        expected = run()
    with recording_device():
        compare(run(), expected)


@pytest.fixture
def without_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minikeras.training.programs.obstacle", lambda *_: "this test looks at steps by the layers")


@pytest.mark.parametrize("workout", WORKOUTS, ids=str)
def test_steps_of_a_program_move_nothing_but_loads(workout: Workout) -> None:
    """The batches of many steps and their numbers in one go, and back comes what somebody asks for."""
    moved = []
    for batches in (12, 24):  # of which the first few of each epoch are whatever they were
        with recording_device() as counts:
            watch = Watch(counts)
            model, _ = train(workout, BATCH * batches, [watch])
            transfers, reads_of_epoch = watch.epochs[1]
            report = model.program()
            moved.append((len(transfers), len(reads_of_epoch)))
    if report.steps:
        assert moved[0] == moved[1], transfers
    else:
        assert report.reason is not None


@pytest.mark.usefixtures("without_programs")
@pytest.mark.parametrize("workout", WORKOUTS, ids=str)
def test_a_batch_moves_once_and_nothing_is_read_back(workout: Workout) -> None:
    reads = []
    for batches in (BATCHES, 2 * BATCHES):
        with recording_device() as counts:
            watch = Watch(counts)
            model, _ = train(workout, BATCH * batches, [watch])
            assert all(isinstance(variable.data, DeviceArray) for variable in model.variables)
            x, y, *_ = workout.data(BATCH * batches, np.random.default_rng(5))
            arrays = len(tree.flatten([x, y]))
            transfers, reads_of_epoch = watch.epochs[1]
            weighted = len(workout.data(1, np.random.default_rng(5))) == 3 or "class_weight" in workout.fit
            assert len(transfers) == batches * (arrays + weighted), sorted(set(transfers))

            counts.clear()
            model.evaluate(x, y, BATCH, verbose=0)
            assert len(counts.transfers) == batches * arrays, sorted(set(counts.transfers))
            reads.append((reads_of_epoch, list(counts.reads)))

            counts.clear()
            outputs = model.predict(x, BATCH, verbose=0)
            assert len(counts.transfers) == batches * len(tree.flatten(x))
            assert len(counts.reads) == batches * len(tree.flatten(outputs)), sorted(set(counts.reads))
    assert reads[0] == reads[1]


@pytest.mark.usefixtures("without_programs")
def test_data_on_the_device_stays_there() -> None:
    workout = next(one for one in WORKOUTS if one.name == "two_outputs")
    with recording_device() as counts:
        x, y = tree.map_structure(k.to_device, workout.data(BATCH * BATCHES, np.random.default_rng(5)))
        model = workout.make()
        watch = Watch(counts)
        model.fit(x, y, BATCH, epochs=2, verbose=0, shuffle=False, callbacks=[watch])
        transfers, _ = watch.epochs[1]
        assert not transfers
        model.fit(x, y, BATCH, verbose=0, callbacks=[watch])
        assert not [read for _, reads in watch.epochs for read in reads if "training/data.py" in read]


def test_pickled_arrays_come_back_to_the_device() -> None:
    with recording_device():
        for value in (ops.ones((2, 3)), Variable(np.ones((2, 3)))):
            for copy in (pickle.loads(pickle.dumps(value)), deepcopy(value)):
                assert isinstance(copy.data, DeviceArray)
                np.testing.assert_array_equal(copy.numpy(), 1)
