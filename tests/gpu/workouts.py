"""Calls of every kernel and small models with their data, to be run on any array module and compared."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minikeras import Input, Model, Sequential, layers, losses, metrics, optimizers, regularizers, saving, utils
from minikeras import kernels as k
from minikeras.kernels.reference.activation import _CURVES
from minikeras.kernels.reference.loss import ERRORS
from minikeras.kernels.reference.resample import resizing


@contextlib.contextmanager
def reference_kernels() -> Iterator[None]:
    """Within this block the reference kernels run on NumPy."""
    previous = k.active_device()
    k.use("cpu")
    k.bind(k.reference_table())
    try:
        yield
    finally:
        k.use(previous)


def compare(found: list[Any], expected: list[Any], rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """The same values and types, on whatever devices."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            one, other = k.to_host(one), k.to_host(other)
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


# ---------------------------------------------------------------- kernels


class Bench:
    """The active kernels as attributes, and arrays for them on the device; knows which kernels were asked for."""

    def __init__(self, dtype: str):
        self.dtype = dtype
        self.asked: set[str] = set()
        self._rng = np.random.default_rng(7)

    def __getattr__(self, name: str) -> Any:
        self.asked.add(name)
        return getattr(k, name)

    def array(self, *shape: int, low: float = -1.0, high: float = 1.0) -> Any:
        return k.to_device(self._rng.uniform(low, high, shape).astype(self.dtype))

    def integers(self, most: int, *shape: int) -> Any:
        return k.to_device(self._rng.integers(0, most, shape).astype("int32"))

    def mask(self, *shape: int) -> Any:
        return k.to_device(self._rng.random(shape) < 0.7)


def _activations(b: Bench) -> list[Any]:
    x, g = b.array(4, 5, low=-3, high=3), b.array(4, 5)
    found = [b.erf(x), b.log_softmax(x), b.masked_scale(x, b.mask(4, 5), 2.0)]
    for axis in (-1, 0):
        y = b.softmax(x, axis)
        found += [y, b.softmax_grad(g, y, axis)]
    for name in (*sorted(b.FUSED_ACTIVATIONS), None):
        y = b.activate(x, name)
        found += [y, b.activate_grad(g, y, name)]
    for settings in ((), (0.1, 1.0, 0.5)):
        found += [b.piecewise_relu(x, *settings), b.piecewise_relu_grad(g, x, *settings)]
    return found


def _curves(b: Bench) -> list[Any]:
    x, g = b.array(4, 6, low=-3, high=3), b.array(4, 6)
    settings: dict[str, tuple] = {
        "elu": (0.7,),
        "celu": (0.7,),
        "hard_tanh": (),
        "hard_shrink": (0.5,),
        "soft_shrink": (0.5,),
        "threshold": (0.4, -0.7),
        "squareplus": (4.0,),
    }
    found = []
    for name in _CURVES:
        at, numbers = b.array(4, 6, low=0.1) if name in ("log", "log1p") else x, settings.get(name, ())
        found += [b.curve(at, name, numbers), b.curve_grad(g, at, name, numbers)]
    for axis in (-1, 0):
        found += [y := b.glu(x, axis), b.glu_grad(y, x, axis), b.log_softmax_grad(g, b.log_softmax(x, axis), axis)]
    return found


def _arithmetic(b: Bench) -> list[Any]:
    x, y, positive = b.array(4, 5), b.array(4, 5), b.array(4, 5, low=0.1)
    found = [b.combine(x, y, name) for name in ("add", "subtract", "multiply", "divide", "maximum", "minimum")]
    found += [b.larger_grad(y, x, positive), b.scaled_sum(x, y, 0.5, 2.0), b.scaled_sum(x, None, 0.5, 2.0)]
    found += [b.power(x, 3.0), b.power(x * x, 2.5), b.power(x * x, -0.5)]
    found += [b.choose(x > 0, x, y), b.choose(x > 0, x, 0), b.choose(x > 0, 1.5, y), b.filled((3, 2), x.dtype, 1.5)]
    for name in ("negative", "absolute", "square", "sqrt", "reciprocal"):
        value = b.transform(positive, name)
        found += [value, b.transform_grad(y, value if name in ("sqrt", "reciprocal") else positive, name)]
    found += [b.penalty(x, 0.1, 0.2), b.penalty_grad(b.array(), x, 0.1, 0.2)]
    for axis in (0, 1):
        found += [b.concatenate([x, y, positive], axis), *b.split(x, (1, 3), axis)]
    found += [b.spread(x[:1], x.shape, x.dtype), b.spread(x[:, :1], x.shape, x.dtype, y)]
    return [*found, b.cast(x, "float32"), b.cast(x > 0, "float64")]


def _products(b: Bench) -> list[Any]:
    x, w, g = b.array(6, 5), b.array(5, 4), b.array(6, 4)
    y = b.dense(x, w, b.array(4), "tanh")
    return [y, b.gemm(x, w), b.gemm(g, w, tb=True), b.gemm(x, g, ta=True), *b.epilogue_grad(g, y, "tanh", True)]


def _attentions(b: Bench) -> list[Any]:
    inputs = b.array(2, 3, 4, 5), b.array(2, 6, 2, 5), b.array(2, 6, 2, 3)
    found: list[Any] = [b.side_by_side([b.array(3, 4), b.array(3, 2)]), b.matmul(b.array(4, 3, 2), b.array(2, 5))]
    found += [y := b.extreme(bounded := b.array(3, 4), 1, True), b.extreme_grad(y, bounded, y, (1,))]
    for mask, causal, keep, zero_empty in (
        (None, False, None, False),
        (b.mask(2, 1, 3, 6), True, None, True),
        (b.mask(3, 6), False, b.dropout_mask(1, 0, (2, 4, 3, 6), 0.3), False),
    ):
        y, weights = b.attention(*inputs, 0.5, mask, causal, keep, 1.5, zero_empty)
        g = b.array(*y.shape)
        found += [y, weights, *b.attention_grad(g, *inputs, weights, 0.5, mask, causal, keep, 1.5, weights)]
    return found


def _convolutions(b: Bench) -> list[Any]:
    found: list[Any] = [b.same_padding(5, 3, 2), b.conv_output_length(7, 3, 2, 1, 1, 1)]
    settings: list[tuple[Any, ...]] = [  # input, kernel, strides, padding, dilation, groups
        ((2, 6, 6, 4), (3, 3, 4, 6), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
        ((2, 7, 6, 4), (3, 2, 2, 6), (2, 1), ((0, 1), (0, 0)), (1, 2), 2),
        ((2, 5, 5, 4), (1, 1, 4, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
        ((2, 5, 5, 4), (1, 1, 2, 4), (1, 1), ((0, 0), (0, 0)), (1, 1), 2),
        ((2, 9, 3), (3, 3, 5), (1,), ((4, 0),), (2,), 1),
    ]
    for x_shape, kernel_shape, strides, padding, dilation, groups in settings:
        x, kernel = b.array(*x_shape), b.array(*kernel_shape)
        geometry = {"strides": strides, "padding": padding, "dilation": dilation}
        y = b.conv(x, kernel, b.array(kernel_shape[-1]), groups=groups, activation="relu", **geometry)
        g = b.array(*y.shape)
        found += [y, b.conv_input_grad(g, kernel, x_shape, groups=groups, **geometry)]
        found += [b.conv_kernel_grad(x, g, kernel_shape, groups=groups, **geometry)]
    x, kernel = b.array(2, 6, 5, 3), b.array(3, 3, 3, 2)
    geometry = {"strides": (2, 1), "padding": ((1, 1), (0, 1)), "dilation": (1, 1)}
    y = b.depthwise_conv(x, kernel, b.array(6), activation="tanh", **geometry)
    g = b.array(*y.shape)
    found += [y, b.depthwise_conv_input_grad(g, kernel, x.shape, **geometry)]
    return [*found, b.depthwise_conv_kernel_grad(x, g, kernel.shape, **geometry)]


def _pools(b: Bench) -> list[Any]:
    found = []
    for padding in (((0, 0), (0, 0)), ((1, 0), (1, 1))):
        x = b.array(2, 6, 5, 3)
        window = {"size": (3, 2), "strides": (2, 1), "padding": padding}
        y, index = b.max_pool(x, with_index=True, **window)
        mean = b.average_pool(x, **window)
        g = b.array(*y.shape)
        found += [y, index, b.max_pool_grad(g, index, x.shape, **window)]
        found += [mean, b.average_pool_grad(g, x.shape, **window), b.max_pool(x, **window)[0]]
    found += [b.global_average_pool(b.array(2, 6, 3)), b.global_average_pool_grad(b.array(2, 3), 6)]
    return found


def _normalisations(b: Bench) -> list[Any]:
    x, gamma, beta, g = b.array(8, 5), b.array(5), b.array(5), b.array(8, 5)
    found, pictures = [], b.array(2, 4, 6)
    for mask in (None, b.mask(8)):
        *results, residual = b.batch_norm(x, gamma, beta, 1e-3, mask=mask)
        found += [*results, *b.batch_norm_grad(g, residual)]
    y, residual = b.layer_norm(x, gamma, beta, 1e-3)
    found += [y, *b.layer_norm_grad(g, residual)]
    y, residual = b.fixed_norm(x, beta, b.array(5, low=0), gamma, beta, 1e-3)
    found += [y, *b.fixed_norm_grad(g, residual)]
    y, residual = b.group_norm(pictures, b.array(6), b.array(6), 2, 1e-3)
    found += [y, *b.group_norm_grad(pictures, residual)]
    y, residual = b.unit_norm(x, 1e-12)
    found += [y, b.unit_norm_grad(g, residual)]
    y, residual = b.rms_norm(x, gamma, 1e-3)
    return [*found, y, *b.rms_norm_grad(g, residual)]


def _losses(b: Bench) -> list[Any]:
    logits, target, labels, g = b.array(6, 4), b.array(6, 4, low=0), b.integers(4, 6), b.array(6)
    found = [b.cross_entropy(logits, target), b.cross_entropy_grad(g, logits, target)]
    found += [b.sparse_cross_entropy(logits, labels), b.sparse_cross_entropy_grad(g, logits, labels)]
    found += [b.sparse_cross_entropy_grad(g, logits, labels, b.softmax(logits))]
    found += [b.binary_cross_entropy(logits, target), b.binary_cross_entropy_grad(g[:, None], logits, target)]
    labels_and_others = k.to_device(np.array([0.0, 3.0, 1.5, -1.0, np.nan, 4.0]).astype(b.dtype))
    return [*found, *b.class_numbers(labels, 4), *b.class_numbers(labels_and_others, 4, -1)]


def _row_losses(b: Bench) -> list[Any]:
    x, y, labels, g = b.array(6, 4, low=0.1), b.array(6, 4, low=0.1), b.integers(4, 6), b.array(6)
    found = [b.signs(y), b.signs(b.mask(6, 4).astype(b.dtype))]
    for kind in sorted(ERRORS):
        found.append(b.mean_error(y, x, kind, 0.3))
        found += [b.mean_error_grad(g, y, x, kind, 0.3, of_target) for of_target in (False, True)]
    found += [b.share_cross_entropy(x, y, 1e-3), b.share_cross_entropy_grad(g, x, y, 1e-3)]
    found += [b.sparse_share_cross_entropy(x, labels, 1e-3), b.sparse_share_cross_entropy_grad(g, x, labels, 1e-3)]
    found += [b.cosine(x, y, 1e-3), b.cosine_grad(g, x, y, 1e-3), b.largest_margin(y, x)]
    found += [b.largest_margin_grad(g, y, x, of_target) for of_target in (False, True)]
    for mean in (False, True):
        found.append(b.weights_of_mask(b.mask(6), g, g.dtype, mean))
    for weights, given in ((None, 0.3), (b.array(6, low=0), 0.3), (b.array(6, low=0), None)):
        total, factor = b.weighted_total(g, weights, given)
        found += [total, b.weighted_total_grad(b.array(), g, weights, factor)]
    return found


def _matches(b: Bench) -> list[Any]:
    target, output, labels = b.array(6, 4), b.array(6, 4), b.integers(4, 6)
    found = [b.equal_matches(labels, labels), b.largest_matches(target, output), b.label_matches(labels, output)]
    found += [b.threshold_matches(b.mask(6, 4).astype(b.dtype), output, 0.2), b.rank_matches(labels, output, 2)]
    found += [b.places_of_largest(output), b.ratio(output, output * (output > 0))]
    for weights in (None, b.array(6, low=0)):
        total, count = k.xp.zeros((), "float32"), k.xp.zeros((), "float32")
        b.add_to_mean(total, count, output[:, 0], weights, 0.5, 6.0)
        found += [total, count]
    truth = b.mask(6, 4).astype(b.dtype)
    for thresholds, by_label in (((0.3,), False), ((0.2, 0.5, 0.8), True)):
        counts = [k.xp.zeros((len(thresholds), 4) if by_label else len(thresholds), "float32") for _ in range(3)]
        b.add_confusion((*counts, None), truth, output, None, b.array(4, low=0), thresholds, by_label=by_label)
        found += counts
    return found


def _embeddings(b: Bench) -> list[Any]:
    indices = b.integers(7, 4, 3)
    added = b.add_along(b.array(*indices.shape), indices, 7, 1)
    return [b.embedding(b.array(7, 2), indices), b.embedding_grad(b.array(4, 3, 2), indices, (7, 2)), added]


def _batches(b: Bench) -> list[Any]:
    rows, finish = b.gather(np.arange(12.0).reshape(6, 2), np.array([4, 0, 4]))  # in host memory on every device
    assert finish is None
    return [k.to_device(rows)]


def _pictures(b: Bench) -> list[Any]:
    images, turned = b.array(3, 5, 4, 2), np.array([[0.8, 0.6, -3.0], [-0.6, 0.8, 2.0]])
    on_host = np.arange(120, dtype="uint8").reshape(3, 5, 4, 2)
    rows, matrices = np.array([2, 0, 0, 1]), np.stack([turned, np.eye(2, 3), 0.5 * turned, 2.0 * turned])
    found = [b.affine_images(images, rows, None), b.affine_images(on_host, None, matrices[:3])]
    for order, fill_mode in enumerate(("constant", "nearest", "reflect", "wrap", "nearest")):
        found.append(b.affine_images(images, rows, matrices, order=order, fill_mode=fill_mode, cval=0.5))
    changes = {"channel_shifts": np.array([0.3, np.nan, -0.2, 0.1]), "flips": np.eye(4, 2, dtype=bool), "scale": 0.5}
    found.append(b.affine_images(images, rows, matrices, out=k.empty((4, 5, 4, 2), images.dtype), **changes))
    return found


def _resamplings(b: Bench) -> list[Any]:
    weights = [resizing(5, target, how, True) for target, how in ((3, "bilinear"), (9, "bicubic"), (2, "area"))]
    return [b.resample(b.array(2, 5, 3), one, 1) for one in weights]


def _steps(b: Bench) -> list[Any]:
    p, g, m, v, a, momentum = (b.array(11, low=0.1) for _ in range(6))
    found = [p, g, m, v, a, momentum, b.sum_of_squares(g)]
    b.sgd(p, g, 0.1)
    b.sgd_momentum(p, g, m, 0.1, 0.9)
    b.sgd_momentum(p, g, m, 0.1, 0.9, nesterov=True)
    b.rmsprop(p, g, v, 0.1, 0.9, 1e-7, 0.5, momentum, a)
    b.rmsprop(p, g, v, 0.1, 0.9, 1e-7)
    b.adam(p, g, m, v, 0.1, 0.9, 0.99, 1e-7)
    b.adam(p, g, m, v, 0.1, 0.9, 0.99, 1e-7, vhat=a)
    b.decay(p, 0.01)
    b.ema(a, p, 0.9)
    p, g, m, v, a = (b.array(11, low=0.1) for _ in range(5))
    found += [p, m, v, a]
    rate, other = np.array([0.1]), np.array([0.3])  # as they lie in the host's memory
    b.sgd(p, g, rate)
    b.adam(p, g, m, v, rate, 0.9, 0.99, 1e-7, amount=other)
    b.adagrad(p, g, v, rate, 1e-7)
    b.adadelta(p, g, v, a, rate, 0.9, 1e-7)
    b.adamax(p, g, m, a, rate, 0.9, 0.99, 1e-7)
    b.nadam(p, g, m, v, rate, other, other, other, 0.9, 0.99, 1e-7)
    b.lion(p, g, m, rate, 0.9, 0.99)
    b.ftrl(p, g, a, m, rate, 0.5, 0.1, 0.1, 0.1, 0.1)
    b.lamb(p, g, m, v, rate, other, other, 0.9, 0.99, 1e-7)
    b.decay(p, rate)
    b.ema(a, p, other)
    b.clip_by_value(g, 0.5)
    b.scale(g, 1 / b.sum_of_squares(g))
    b.scale(g, other)
    found.append(g)
    for together in (False, True):
        b.clip_by_norm([g, m], 0.5, together)
    p, g, rows, columns, v = (b.array(*shape, low=0.1) for shape in ((2, 3, 4), (2, 3, 4), (2, 3), (2, 4), (2, 3, 4)))
    b.adafactor(p, g, rows, columns, v, rate, other, 1e-30, 1e-3, 1.0)
    found += [p, rows, columns, v]
    for axis, unit in ((0, False), ([0, 1], True), (None, False)):
        found.append(b.limit_norms(p, axis, 0.2, 0.5, 0.7, 1e-7, unit))
    found.append(b.limit_norms(p, 0, 0.0, 0.5, 1.0, 1e-7, out=p))
    found.append(b.without_negative(p))
    return found


def _random(b: Bench) -> list[Any]:
    found: list[Any] = [b.random_blocks(9), b.blocks_for("normal", 9, b.dtype)]
    found += [b.random_bits(3, 2**64 - 3, 21), b.uniform(3, 5, (3, 5), b.dtype), b.normal(4, 5, (3, 5), b.dtype)]
    return [*found, b.dropout_mask(5, 6, (4, 7), 0.4), b.dropout_mask(5, 6, (4, 7), 1.0)]


def _recurrences(b: Bench) -> list[Any]:
    n, t, d, u = 3, 4, 5, 2
    found: list[Any] = []
    for mask, recurrent_mask in ((None, None), (b.mask(n, t), b.array(n, u))):
        x, h, c, g = b.array(n, t, d), b.array(n, u), b.array(n, u), b.array(n, t, u)
        options = {"mask": mask, "recurrent_mask": recurrent_mask}
        *results, residual = b.simple_rnn(x, h, b.array(d, u), b.array(u, u), b.array(u), **options)
        found += [*results, *b.simple_rnn_grad(g, None, residual)]
        *results, residual = b.lstm(x, h, c, b.array(d, 4 * u), b.array(u, 4 * u), b.array(4 * u), **options)
        found += [*results, *b.lstm_grad(g, h, None, residual)]
        if mask is not None:  # and dropout by gate
            options |= {"recurrent_mask": b.array(4, n, u), "input_mask": b.array(4, n, d)}
            *results, residual = b.lstm(x, h, c, b.array(d, 4 * u), b.array(u, 4 * u), b.array(4 * u), **options)
            found += [*results, *b.lstm_grad(g, h, None, residual)]
            options |= {"recurrent_mask": b.array(3, n, u), "input_mask": b.array(3, n, d)}
        for reset_after, bias in ((True, b.array(2, 3 * u)), (False, b.array(3 * u))):
            weights = b.array(d, 3 * u), b.array(u, 3 * u), bias
            *results, residual = b.gru(x, h, *weights, reset_after=reset_after, **options)
            found += [*results, *b.gru_grad(g, h, residual)]
    window = {"strides": (1,), "padding": ((0, 1),), "dilation": (1,), "backwards": True}
    x, state, weights = b.array(n, t, d, 2), b.array(n, d, u), (b.array(2, 2, 4 * u), b.array(2, u, 4 * u))
    for mask, bias in ((None, b.array(4 * u)), (b.mask(n, t), None)):
        *results, residual = b.conv_lstm(x, state, None, *weights, bias, mask=mask, **window)
        found += [*results, *b.conv_lstm_grad(b.array(n, t, d, u), None, state, residual)]
    rows = b.array(n, u)
    b.copy_rows(c, rows)
    b.add_rows(h, rows)
    found += [rows, b.drop_steps(g, h), b.dropout_factors(b.dropout_mask(5, 6, (n, u), 0.4), 2.0, rows.dtype)]
    return found


def _sums(bench: Bench) -> list[Any]:
    x = bench.array(40, 30)
    return [bench.total(x), bench.total(x, 0, True), bench.average(x), bench.average(x, axis=0)]


def answers(b: Bench) -> list[Any]:
    """Kernels that tell Python something, for which the host has to wait."""
    x = b.array(3, 4)
    finite = [b.all_finite(arrays, np.zeros(1)) for arrays in ([], [x, x], [x, b.filled((2,), x.dtype, np.inf)])]
    return [b.filled((1,), x.dtype, float(one)) for one in finite]


KERNELS: list[Callable[[Bench], list[Any]]] = [
    _sums, _activations, _curves, _arithmetic, _row_losses, _matches, _products,
    _convolutions, _pools, _normalisations, _losses, _embeddings, _batches, _pictures,
    _resamplings,
    _steps, _random, _recurrences, _attentions, answers,
]  # fmt: skip


# ---------------------------------------------------------------- models


@dataclass
class Workout:
    """A model to train: `make()` builds and compiles it, `data(samples, rng)` draws (x, y) or (x, y, weights)."""

    name: str
    make: Callable[[], Any]
    data: Callable[[int, np.random.Generator], tuple]
    fit: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def _mlp() -> Any:
    penalty = regularizers.L2(1e-3)
    model = Sequential([Input((6,)), layers.Dense(8, "relu", kernel_regularizer=penalty, kernel_constraint="max_norm")])
    model.add(layers.Dropout(0.3, seed=3))
    model.add(layers.Dense(3, "softmax"))
    top = metrics.SparseTopKCategoricalAccuracy(2)
    rate = optimizers.schedules.ExponentialDecay(0.1, 4, 0.9)
    optimizer = optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=1e-3)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy", top])
    return model


def _regression() -> Any:
    model = Sequential([Input((6,)), layers.Dense(8, "gelu"), layers.GaussianNoise(0.1, seed=4), layers.Dense(2)])
    optimizer = optimizers.RMSprop(0.01, momentum=0.5, centered=True, clipnorm=0.5)
    watched = ["mae", "mse", metrics.R2Score(), metrics.RootMeanSquaredError(), metrics.CosineSimilarity()]
    model.compile(optimizer, losses.Huber(0.7), metrics=watched, weighted_metrics=["mae"])
    return model


def _cnn() -> Any:
    x = inputs = Input((8, 8, 2))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    x = layers.BatchNormalization()(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.ZeroPadding2D(1)(layers.DepthwiseConv2D(3, activation="tanh")(x))
    x = layers.Conv2D(4, 3, strides=2, groups=2)(x)
    x = layers.SpatialDropout2D(0.2, seed=5)(layers.AveragePooling2D(1)(x))
    x = layers.Add()([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)])
    x = layers.Dropout(0.5, seed=6)(layers.Flatten()(x))
    model = Model(inputs, layers.Dense(3, "softmax")(x))
    watched = ["accuracy", metrics.TopKCategoricalAccuracy(2), metrics.F1Score(), metrics.CategoricalCrossentropy()]
    loss = losses.CategoricalCrossentropy(label_smoothing=0.1)
    model.compile(optimizers.Adam(0.01, global_clipnorm=0.5), loss, metrics=watched)
    return model


def _recurrent(layer: str, **options: Any) -> Callable[[], Any]:
    def make() -> Any:
        model = Sequential([Input((5,), dtype="int32"), layers.Embedding(9, 4, mask_zero=True)])
        recurrent = getattr(layers, layer)(3, dropout=0.2, seed=7, return_sequences=True, **options)
        model.add(layers.Bidirectional(recurrent) if layer == "LSTM" else recurrent)
        model.add(getattr(layers, layer)(3))
        model.add(layers.LayerNormalization())
        model.add(layers.Dense(1, "sigmoid"))
        optimizer = optimizers.AdamW(0.01, amsgrad=True, use_ema=True, ema_overwrite_frequency=3)
        watched = ["accuracy", metrics.AUC(num_thresholds=20), metrics.Precision(), metrics.Recall()]
        model.compile(optimizer, "binary_crossentropy", metrics=watched)
        return model

    return make


def _two_outputs() -> Any:
    first, second = Input((6,)), Input((6,))
    shared = layers.Dense(4, "elu")
    both = layers.Concatenate()([shared(first), layers.Multiply()([shared(second), shared(first)])])
    scores = layers.Dense(3, name="scores")(both)
    values = layers.Dense(1, "softplus", name="values")(layers.Activation("leaky_relu")(both))
    model = Model([first, second], [scores, values])
    scores_loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = optimizers.SGD(0.05, clipvalue=0.1, gradient_accumulation_steps=2)
    model.compile(optimizer, [scores_loss, "mae"], loss_weights=[1.0, 0.5], metrics=[["accuracy"], ["mse"]])
    return model


def _rows(samples: int, rng: np.random.Generator, width: int = 6) -> np.ndarray:
    return rng.normal(size=(samples, width)).astype("float32")


def _pictures(samples: int, rng: np.random.Generator) -> tuple:
    classes = np.eye(3, dtype="float32")[rng.integers(0, 3, samples)]
    return rng.normal(size=(samples, 8, 8, 2)).astype("float32"), classes


def _sequences(samples: int, rng: np.random.Generator) -> tuple:
    return rng.integers(0, 9, (samples, 5)), rng.integers(0, 2, (samples, 1))


def _weighted(samples: int, rng: np.random.Generator) -> tuple:
    return _rows(samples, rng), _rows(samples, rng, 2), rng.uniform(0.5, 2, samples).astype("float32")


def _pairs(samples: int, rng: np.random.Generator) -> tuple:
    return [_rows(samples, rng), _rows(samples, rng)], [rng.integers(0, 3, samples), _rows(samples, rng, 1)]


WORKOUTS = [
    Workout("mlp", _mlp, lambda n, rng: (_rows(n, rng), rng.integers(0, 3, n)), {"class_weight": {0: 2.0}}),
    Workout("regression", _regression, _weighted),
    Workout("cnn", _cnn, _pictures),
    Workout("simple_rnn", _recurrent("SimpleRNN"), _sequences),
    Workout("lstm", _recurrent("LSTM", recurrent_dropout=0.2), _sequences),
    Workout("gru", _recurrent("GRU"), _sequences),
    Workout("gru_reset_before", _recurrent("GRU", reset_after=False, go_backwards=True), _sequences),
    Workout("two_outputs", _two_outputs, _pairs),
]
BATCH = 8


def train(workout: Workout, samples: int, callbacks: Any = None) -> tuple[Any, list[Any]]:
    """A model after two epochs, and its logs, weights and optimizer state."""
    utils.set_random_seed(11)
    model = workout.make()
    x, y, *weights = workout.data(samples, np.random.default_rng(5))
    options = {"sample_weight": weights[0]} if weights else {}
    history = model.fit(x, y, BATCH, epochs=2, verbose=0, callbacks=callbacks, **options, **workout.fit)
    logs = [np.asarray(history.history[name]) for name in sorted(history.history)]
    return model, logs + model.get_weights() + model.optimizer.get_weights()


# ---------------------------------------------------------------- layers

_STEPS, _IMAGE, _VOLUME = (2, 6, 4), (2, 6, 5, 4), (2, 4, 5, 3, 2)


def _by_rank(name: str, arguments: dict[str, Any], ranks: tuple[int, ...] = (1, 2, 3), suffix: str = "") -> list[tuple]:
    return [(f"{name}{rank}D{suffix}", arguments, (_STEPS, _IMAGE, _VOLUME)[rank - 1]) for rank in ranks]


@saving.register_keras_serializable("workouts")
def twice(x: Any) -> Any:
    """A function for a Lambda layer."""
    return 2 * x


# (class, arguments, shape of the input, or list of shapes, or tuple of shapes of several arguments)
_OF_STEPS: list[tuple[str, dict[str, Any], Any]] = [
    ("LSTM1D", {"filters": 2, "kernel_size": 2, "dropout": 0.4, "recurrent_dropout": 0.3, "seed": 1}, (2, 3, 5, 2)),
    ("LSTM2D", {"filters": 2, "kernel_size": 2, "padding": "same", "return_sequences": True}, (2, 3, 4, 3, 2)),
    ("LSTM3D", {"filters": 2, "kernel_size": 2, "data_format": "channels_first"}, (1, 2, 1, 3, 2, 3)),
]

LAYERS: list[tuple[str, dict[str, Any], Any]] = [
    ("Dense", {"units": 3, "activation": "gelu", "activity_regularizer": "l1"}, _STEPS),
    ("Activation", {"activation": "softmax"}, _STEPS),
    ("ActivityRegularization", {"l1": 0.1, "l2": 0.2}, _STEPS),
    ("Masking", {}, _STEPS),
    ("Identity", {}, _STEPS),
    ("EinsumDense", {"equation": "abc,cd->abd", "output_shape": (None, 3), "bias_axes": "d"}, _STEPS),
    ("EinsumDense", {"equation": "abc,bcd->adb", "output_shape": (3, 6)}, _STEPS),
    ("Attention", {"use_scale": True, "dropout": 0.4, "seed": 1}, [_STEPS, (2, 5, 4)]),
    ("AdditiveAttention", {}, [_STEPS, (2, 5, 4)]),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3, "dropout": 0.4, "seed": 1}, (_STEPS, (2, 5, 4))),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3, "sliding_window": 2, "use_gate": True}, (_STEPS, _STEPS)),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 3, "attention_axes": 2}, (_IMAGE, _IMAGE)),
    ("GroupQueryAttention", {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2}, (_STEPS, (2, 5, 4))),
    *_by_rank("Conv", {"filters": 4, "kernel_size": 2, "padding": "same"}),
    ("Conv1D", {"filters": 4, "kernel_size": 2, "padding": "causal", "dilation_rate": 2}, _STEPS),
    ("Conv2D", {"filters": 4, "kernel_size": 2, "data_format": "channels_first", "activation": "softmax"}, _IMAGE),
    *_by_rank("DepthwiseConv", {"kernel_size": 2, "depth_multiplier": 2}, (1, 2)),
    *_by_rank("SeparableConv", {"filters": 3, "kernel_size": 2, "depth_multiplier": 2}, (1, 2)),
    *_by_rank("Conv", {"filters": 3, "kernel_size": 2, "strides": 2, "padding": "same"}, suffix="Transpose"),
    *_by_rank("MaxPooling", {"pool_size": 2, "padding": "same"}),
    *_by_rank("AveragePooling", {"pool_size": 2, "padding": "same"}),
    *_by_rank("GlobalMaxPooling", {}),
    *_by_rank("GlobalAveragePooling", {"keepdims": True}),
    *_by_rank("ZeroPadding", {}),
    *_by_rank("Cropping", {}),
    *_by_rank("UpSampling", {}),
    *_by_rank("SpatialDropout", {"rate": 0.5, "seed": 1}),
    ("Dropout", {"rate": 0.5, "seed": 1}, _STEPS),
    ("AlphaDropout", {"rate": 0.5, "seed": 1}, _STEPS),
    ("GaussianDropout", {"rate": 0.5, "seed": 1}, _STEPS),
    ("GaussianNoise", {"stddev": 0.5, "seed": 1}, _STEPS),
    ("BatchNormalization", {"axis": 1}, _IMAGE),
    ("LayerNormalization", {"axis": [1, 2]}, _IMAGE),
    ("GroupNormalization", {"groups": 2}, _STEPS),
    ("GroupNormalization", {"groups": 1, "axis": 1}, _IMAGE),
    ("UnitNormalization", {}, _STEPS),
    ("Normalization", {"axis": (1, 2)}, _STEPS),
    ("Normalization", {"mean": [1.0, 2, 3, 4], "variance": [4.0, 3, 2, 1], "invert": True}, _STEPS),
    ("Rescaling", {"scale": [1.0, 2, 3, 4], "offset": 0.5}, _STEPS),
    ("Flatten", {"data_format": "channels_first"}, _IMAGE),
    ("Reshape", {"target_shape": (-1, 2)}, _STEPS),
    ("Permute", {"dims": (2, 1)}, _STEPS),
    ("RepeatVector", {"n": 3}, (2, 4)),
    ("ReLU", {"max_value": 0.8, "negative_slope": 0.1, "threshold": 0.2}, _STEPS),
    ("LeakyReLU", {}, _STEPS),
    ("ThresholdedReLU", {}, _STEPS),
    ("Lambda", {"function": twice}, _STEPS),
    ("PReLU", {}, _STEPS),
    ("ELU", {"alpha": 0.7}, _STEPS),
    ("Softmax", {"axis": [1, 2]}, _STEPS),
    *[(name, {}, [_STEPS, _STEPS]) for name in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")],
    ("Concatenate", {}, [_STEPS, _STEPS]),
    ("Dot", {"axes": (2, 2), "normalize": True}, [_STEPS, _STEPS]),
    ("Embedding", {"input_dim": 3, "output_dim": 2, "mask_zero": True}, (2, 3)),
    *[(name, {"units": 3}, _STEPS) for name in ("SimpleRNN", "LSTM", "GRU")],
    *[(name, {"units": 3, "activation": "gelu", "stateful": True}, _STEPS) for name in ("SimpleRNN", "LSTM", "GRU")],
    *[(f"Conv{kind}", arguments, shape) for kind, arguments, shape in _OF_STEPS],
    *[
        (f"{name}{rank}D", {"output_size": 2}, (2, *(5, 4, 3)[:rank], 3))
        for name in ("AdaptiveAveragePooling", "AdaptiveMaxPooling")
        for rank in (1, 2, 3)
    ],
    ("LocallyConnected1D", {"filters": 3, "kernel_size": 2, "padding": "same"}, _STEPS),
    ("LocallyConnected2D", {"filters": 3, "kernel_size": 2, "data_format": "channels_first"}, (2, 3, 4, 5)),
    ("RMSNormalization", {}, _STEPS),
    ("BatchNormalization", {"renorm": True, "renorm_clipping": {"rmax": 1.5, "dmax": 0.5}}, _STEPS),
    ("RNN", {"cell": [layers.LSTMCell(3), layers.GRUCell(2), layers.SimpleRNNCell(2)]}, _STEPS),
    ("Bidirectional", {"layer": layers.LSTM(3, return_sequences=True), "merge_mode": "ave"}, _STEPS),
    ("TimeDistributed", {"layer": layers.Dense(3)}, _STEPS),
    ("SpectralNormalization", {"layer": layers.Dense(3), "power_iterations": 2}, _STEPS),
]
