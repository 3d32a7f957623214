"""Calls of every kernel, to be run on a device and compared; what a device overrides has to be among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minikeras.kernels.comparison import Bench
from minikeras.kernels.reference.activation import _CURVES, FUSED_ACTIVATIONS
from minikeras.kernels.reference.conv import conv_output_length, same_padding
from minikeras.kernels.reference.loss import ERRORS
from minikeras.kernels.reference.random import blocks_for, random_blocks
from minikeras.kernels.reference.resample import resizing


def _activations(b: Bench) -> list[Any]:
    x, g = b.array(4, 5, low=-3, high=3), b.array(4, 5)
    found = [b.erf(x), b.log_softmax(x), b.masked_scale(x, b.mask(4, 5), 2.0)]
    for axis in (-1, 0):
        y = b.softmax(x, axis)
        found += [y, b.softmax_grad(g, y, axis)]
    for name in (*sorted(FUSED_ACTIVATIONS), None):
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
        found += [b.concatenate([x, y, positive], axis), b.stack([x, y], axis), *b.split(x, (1, 3), axis)]
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
    found: list[Any] = [same_padding(5, 3, 2), conv_output_length(7, 3, 2, 1, 1, 1)]
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
    labels_and_others = b.to_device(np.array([0.0, 3.0, 1.5, -1.0, np.nan, 4.0]).astype(b.dtype))
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
        total, count = b.xp.zeros((), "float32"), b.xp.zeros((), "float32")
        b.add_to_mean(total, count, output[:, 0], weights, 0.5, 6.0)
        found += [total, count]
    truth = b.mask(6, 4).astype(b.dtype)
    for thresholds, by_label in (((0.3,), False), ((0.2, 0.5, 0.8), True)):
        counts = [b.xp.zeros((len(thresholds), 4) if by_label else len(thresholds), "float32") for _ in range(3)]
        b.add_confusion((*counts, None), truth, output, None, b.array(4, low=0), thresholds, by_label=by_label)
        found += counts
    return found


def _embeddings(b: Bench) -> list[Any]:
    indices = b.integers(7, 4, 3)
    added = b.add_along(b.array(*indices.shape), indices, 7, 1)
    taken = [b.take(b.array(2, 7, 3), indices, 1), b.take_along(b.array(*indices.shape), b.integers(3, 4, 5), 1)]
    return [b.embedding(b.array(7, 2), indices), b.embedding_grad(b.array(4, 3, 2), indices, (7, 2)), added, *taken]


def _batches(b: Bench) -> list[Any]:
    rows, finish = b.gather(np.arange(12.0).reshape(6, 2), np.array([4, 0, 4]))  # in host memory on every device
    assert finish is None
    return [b.to_device(rows)]


def _pictures(b: Bench) -> list[Any]:
    images, turned = b.array(3, 5, 4, 2), np.array([[0.8, 0.6, -3.0], [-0.6, 0.8, 2.0]])
    on_host = np.arange(120, dtype="uint8").reshape(3, 5, 4, 2)
    rows, matrices = np.array([2, 0, 0, 1]), np.stack([turned, np.eye(2, 3), 0.5 * turned, 2.0 * turned])
    found = [b.affine_images(images, rows, None), b.affine_images(on_host, None, matrices[:3])]
    for order, fill_mode in enumerate(("constant", "nearest", "reflect", "wrap", "nearest")):
        found.append(b.affine_images(images, rows, matrices, order=order, fill_mode=fill_mode, cval=0.5))
    changes = {"channel_shifts": np.array([0.3, np.nan, -0.2, 0.1]), "flips": np.eye(4, 2, dtype=bool), "scale": 0.5}
    found.append(b.affine_images(images, rows, matrices, out=b.empty((4, 5, 4, 2), images.dtype), **changes))
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
    b.add_up(m, p)
    b.take_mean(m, 3, g)
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
    found: list[Any] = [random_blocks(9), blocks_for("normal", 9, b.dtype)]
    found += [b.random_bits(3, 2**64 - 3, 21), b.uniform(3, 5, (3, 5), b.dtype), b.normal(4, 5, (3, 5), b.dtype)]
    return [*found, b.dropout_mask(5, 6, (4, 7), 0.4), b.dropout_mask(5, 6, (4, 7), 1.0)]


def _recurrences(b: Bench) -> list[Any]:
    n, t, d, u = 3, 4, 5, 2
    found: list[Any] = []
    results: list[Any]
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
    x, state = b.array(n, t, d, 2), b.array(n, d, u)
    kernels = b.array(2, 2, 4 * u), b.array(2, u, 4 * u)
    for mask, bias in ((None, b.array(4 * u)), (b.mask(n, t), None)):
        *results, residual = b.conv_lstm(x, state, None, *kernels, bias, mask=mask, **window)
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


def _other_ways(b: Bench) -> list[Any]:
    """What a device does in another way where arguments are longer, or have other shapes."""
    x, n = b.array(6, 5), 9001  # more than one block adds up
    found = [b.binary_cross_entropy_grad(b.array(6, 5), x, b.array(6, 5, low=0))]
    found += [b.extreme(x, 1, largest=False), b.add_along(b.array(3, 70), b.integers(7, 3, 70), 7, 1)]
    for values, weights in ((b.array(6), None), (b.array(n), b.array(n, low=0))):
        total, count = b.xp.zeros((), "float32"), b.xp.zeros((), "float32")
        b.add_to_mean(total, count, values, weights, 0.5, 6.0)
        found += [total, count, *b.weighted_total(values, weights, 0.3)]
    inputs = b.array(1, 2, 1, 3), b.array(1, 3100, 1, 3), b.array(1, 3100, 1, 2)  # longer than a block can hold
    y, weights = b.attention(*inputs, 0.5, None, False, None, 1.0, False)
    found += [y, *b.attention_grad(b.array(*y.shape), *inputs, weights, 0.5, None, False, None, 1.0, weights)]
    counts = [b.xp.zeros(2, "float32") for _ in range(3)]
    b.add_confusion((*counts, None), b.mask(n, 1).astype(b.dtype), b.array(n, 1), None, None, (0.3, 0.6))
    return [*found, *counts]


def _wide_recurrences(b: Bench) -> list[Any]:
    """More units than a block has threads: a product for each step."""
    n, t, d, u = 2, 2, 3, 260
    x, h, g = b.array(n, t, d), b.array(n, u), b.array(n, t, u)
    small = lambda *shape: b.array(*shape, low=-0.1, high=0.1)
    *found, residual = b.simple_rnn(x, h, small(d, u), small(u, u), small(u))
    found += b.simple_rnn_grad(g, None, residual)
    *results, residual = b.lstm(x, h, h, small(d, 4 * u), small(u, 4 * u), small(4 * u))
    found += [*results, *b.lstm_grad(g, h, None, residual)]
    for reset_after, bias in ((True, small(2, 3 * u)), (False, small(3 * u))):
        *results, residual = b.gru(x, h, small(d, 3 * u), small(u, 3 * u), bias, reset_after=reset_after)
        found += [*results, *b.gru_grad(g, h, residual)]
    return found


KERNELS: list[Callable[[Bench], list[Any]]] = [
    _sums, _activations, _curves, _arithmetic, _row_losses, _matches, _products,
    _convolutions, _pools, _normalisations, _losses, _embeddings, _batches, _pictures,
    _resamplings,
    _steps, _random, _recurrences, _attentions, answers, _other_ways, _wide_recurrences,
]  # fmt: skip


# ---------------------------------------------------------------- usual sizes: many blocks, long rows, several tiles


def _many(b: Bench) -> list[Any]:
    n = 1_000_003 if b.large else 2051
    x, y, g = b.array(n, low=-3, high=3), b.array(n), b.array(n)
    found = [b.activate(x, name) for name in sorted(FUSED_ACTIVATIONS)]
    found += [b.activate_grad(g, b.activate(x, name), name) for name in ("relu", "tanh", "sigmoid")]
    found += [b.combine(x, y, "multiply"), b.scaled_sum(x, y, 0.5, 2.0), b.transform(x, "square"), b.erf(x)]
    found += [b.masked_scale(x, b.dropout_mask(3, 4, (n,), 0.3), 1.5), b.sum_of_squares(x), b.total(x), b.average(x)]
    found += [b.random_bits(5, 6, n), b.uniform(5, 7, (n,), b.dtype), b.normal(5, 8, (n,), b.dtype)]
    m, v, averages, rate = b.array(n, low=0.1), b.array(n, low=0.1), b.array(n), np.array([0.01])
    b.adam(x, g, m, v, rate, 0.9, 0.99, 1e-7)
    b.sgd_momentum(x, g, m, rate, 0.9)
    b.rmsprop(x, g, v, rate, 0.9, 1e-7)
    b.ema(averages, x, 0.9)
    b.clip_by_norm([g, m], 0.5, True)
    return [*found, x, m, v, averages, g]


def _rows(b: Bench) -> list[Any]:
    found: list[Any] = []
    for n, width in ((37, 5001), (5001, 10), (515, 257)) if b.large else ((3, 1100), (70, 10)):
        x, g, gamma, beta = b.array(n, width, low=-3, high=3), b.array(n, width), b.array(width), b.array(width)
        labels, of_rows = b.integers(width, n), b.array(n)
        found += [y := b.softmax(x), b.softmax_grad(g, y), b.log_softmax(x), b.total(x, 0), b.total(x, 1), b.average(x)]
        found += [b.sparse_cross_entropy(x, labels), b.sparse_cross_entropy_grad(of_rows, x, labels)]
        found += [b.cross_entropy(g, y), b.cross_entropy_grad(of_rows, g, y), b.largest_matches(y, x)]
        found += [b.label_matches(labels, x), b.places_of_largest(x), b.mean_error(y, x, "squared", 0.3)]
        y, residual = b.layer_norm(x, gamma, beta, 1e-3)
        found += [y, *b.layer_norm_grad(g, residual)]
        *results, residual = b.batch_norm(x, gamma, beta, 1e-3)
        found += [*results, *b.batch_norm_grad(g, residual)]
        y, residual = b.rms_norm(x, gamma, 1e-3)
        found += [y, *b.rms_norm_grad(g, residual)]
    return found


def _usual_products(b: Bench) -> list[Any]:
    found: list[Any] = []
    for n, m, p in ((512, 700, 300), (128, 784, 128), (1, 300, 10)) if b.large else ((65, 70, 33),):
        x, w, g = b.array(n, m), b.array(m, p), b.array(n, p)
        y = b.dense(x, w, b.array(p), "relu")
        found += [y, *b.epilogue_grad(g, y, "relu", True), b.gemm(g, w, tb=True), b.gemm(x, g, ta=True)]
        found.append(b.gemm(x, w, out=b.empty((n, p), x.dtype)))
    heads = (8, 64, 32) if b.large else (2, 20, 9)
    return [*found, b.matmul(b.array(*heads), b.array(heads[0], heads[2], heads[1]))]


def _usual_convolutions(b: Bench) -> list[Any]:
    found: list[Any] = []
    n, size, inner, outer = (8, 28, 32, 64) if b.large else (2, 9, 5, 7)
    for width, stride, padding in ((3, 1, 1), (3, 2, 0), (1, 1, 0), (5, 1, 2)):
        x, kernel = b.array(n, size, size, inner), b.array(width, width, inner, outer)
        geometry: dict[str, Any] = {"strides": (stride,) * 2, "padding": ((padding,) * 2,) * 2, "dilation": (1, 1)}
        y = b.conv(x, kernel, b.array(outer), groups=1, activation="relu", **geometry)
        g = b.array(*y.shape)
        found += [y, b.conv_input_grad(g, kernel, x.shape, groups=1, **geometry)]
        found.append(b.conv_kernel_grad(x, g, kernel.shape, groups=1, **geometry))
        if stride == 1 and width == 3:
            if b.large:  # so much that columns and a library's product may pay
                deep, of_deep = b.array(16, 28, 28, 128), b.array(3, 3, 128, 128)
                y = b.conv(deep, of_deep, groups=1, **geometry)
                g = b.array(*y.shape)
                found += [y, b.conv_input_grad(g, of_deep, deep.shape, groups=1, **geometry)]
                found.append(b.conv_kernel_grad(deep, g, of_deep.shape, groups=1, **geometry))
            kernel = b.array(3, 3, inner, 1)
            y = b.depthwise_conv(x, kernel, b.array(inner), activation="relu6", **geometry)
            g = b.array(*y.shape)
            found += [y, b.depthwise_conv_input_grad(g, kernel, x.shape, **geometry)]
            found.append(b.depthwise_conv_kernel_grad(x, g, kernel.shape, **geometry))
    window: dict[str, Any] = {"size": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0))}
    y, index = b.max_pool(x, with_index=True, **window)
    g = b.array(*y.shape)
    found += [y, b.max_pool_grad(g, index, x.shape, **window), b.average_pool(x, **window)]
    return [*found, b.average_pool_grad(g, x.shape, **window)]


def _usual_sequences(b: Bench) -> list[Any]:
    n, t, d, u = (32, 20, 64, 128) if b.large else (5, 3, 7, 9)
    x, h, c, g = b.array(n, t, d), b.array(n, u), b.array(n, u), b.array(n, t, u)
    small = lambda *shape: b.array(*shape, low=-0.1, high=0.1)
    *found, residual = b.lstm(x, h, c, small(d, 4 * u), small(u, 4 * u), small(4 * u))
    found += b.lstm_grad(g, h, None, residual)
    *results, residual = b.gru(x, h, small(d, 3 * u), small(u, 3 * u), small(2, 3 * u), reset_after=True)
    found += [*results, *b.gru_grad(g, h, residual)]
    *results, residual = b.simple_rnn(x, h, small(d, u), small(u, u), small(u))
    found += [*results, *b.simple_rnn_grad(g, None, residual)]
    n, t, heads, width = (4, 128, 4, 32) if b.large else (2, 35, 2, 5)
    query, key, value = (b.array(n, t, heads, width) for _ in range(3))
    y, weights = b.attention(query, key, value, 0.2, None, True, None, 1.0, False)
    g = b.array(*y.shape)
    found += [y, *b.attention_grad(g, query, key, value, weights, 0.2, None, True, None, 1.0, weights)]
    entries, width = (20_000, 128) if b.large else (50, 5)
    indices = b.integers(entries, 32, 80) if b.large else b.integers(entries, 3, 40)
    found.append(b.embedding(b.array(entries, width), indices))
    return [*found, b.embedding_grad(b.array(*indices.shape, width), indices, (entries, width))]


LARGE: list[Callable[[Bench], list[Any]]] = [_many, _rows, _usual_products, _usual_convolutions, _usual_sequences]
