"""Every neural-network operation: values against NumPy, gradients against difference quotients, symbolic shapes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ops import nn_cases
from ops.nn_cases import ACTIVATIONS, CASES
from ops.op_cases import Case, spaced

from minikeras import activations, ops, tree
from minikeras import kernels as k
from minikeras.autodiff import KerasTensor, Op, Tensor, backward, check_gradients, recording
from minikeras.lazy import homes
from minikeras.ops import nn

DIFFERENTIABLE = [case for case in CASES if case.differentiable]
seeds = st.integers(0, 99)


def on_device(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings as a layer has them: masks are raw arrays of the device."""
    return {name: k.to_device(value) if isinstance(value, np.ndarray) else value for name, value in settings.items()}


def call(case: Case, *inputs: Any) -> list[Any]:
    function = getattr(nn, case.name)
    return tree.flatten(case.call(lambda *values, **settings: function(*values, **on_device(settings)), *inputs))


def differentiable(case: Case, *inputs: Any) -> list[Any]:
    """The outputs through which gradients flow."""
    return call(case, *inputs)[: 1 if case.name == "batch_norm_training" else None]


@pytest.mark.parametrize("case", [case for case in CASES if case.numpy()], ids=str)
def test_values(case: Case) -> None:
    inputs = case.inputs()
    results = call(case, *[Tensor(k.to_device(value)) for value in inputs])  # float64 that is meant
    reference = case.numpy()
    assert reference is not None
    expected = tree.flatten(case.call(reference, *inputs))
    for result, value in zip(results, expected, strict=True):
        assert isinstance(result, Tensor)
        np.testing.assert_allclose(result, value, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_gradients(case: Case) -> None:
    check_gradients(lambda *inputs: differentiable(case, *inputs), *case.inputs())


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_gradients_go_to_their_destinations_and_alone(case: Case) -> None:
    """Whether one gradient is wanted or all, wherever it is written and however the inputs lie in memory."""
    values = case.inputs(dtype="float32")
    tensors = [Tensor(k.to_device(value), tracked=True) for value in values]
    with recording():
        outputs = differentiable(case, *tensors)
    weights = [spaced(np.random.default_rng(1), out.shape, -1, 1).astype("float32") for out in outputs]

    def gradients(sources: list[Tensor], **options: Any) -> list[Any]:
        with recording():
            total = sum(
                ops.sum(out * weight) for out, weight in zip(differentiable(case, *tensors), weights, strict=True)
            )
        return backward(total, sources, **options)

    together = gradients(tensors)
    ends = np.cumsum([value.size for value in values]).tolist()
    buffer = k.xp.full(ends[-1], np.nan, "float32")
    parts = [buffer[end - value.size : end].reshape(value.shape) for end, value in zip(ends, values, strict=True)]
    written = gradients(tensors, destinations={id(x): part for x, part in zip(tensors, parts, strict=True)})
    alone = [gradients([tensor])[0] for tensor in tensors]
    kept = [tensor.data for tensor in tensors]
    for tensor in tensors:
        tensor.data = k.xp.asfortranarray(tensor.data)
    transposed = gradients(tensors)
    for i, gradient in enumerate(together):
        assert (gradient.shape, gradient.dtype) == (values[i].shape, np.dtype("float32"))
        assert written[i] is parts[i]
        for other in (parts[i], alone[i], transposed[i]):
            np.testing.assert_allclose(k.to_host(other), k.to_host(gradient), rtol=2e-4, atol=1e-5)
    for tensor, before, value in zip(tensors, kept, values, strict=True):
        np.testing.assert_array_equal(k.to_host(before), value)
        np.testing.assert_array_equal(tensor.numpy(), value)


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_symbolic_call_infers_shape_and_type(case: Case) -> None:
    inputs = case.inputs(dtype="float32")
    results = call(case, *[KerasTensor(value.shape) for value in inputs])
    for result, value in zip(results, call(case, *inputs), strict=True):
        assert isinstance(result, KerasTensor)
        assert (result.shape, result.dtype) == (value.shape, "float32")


FAMILIES = ("activation", "convolution", "crossentropy", "dense", "normalization", "pooling", "recurrence")


def test_every_operation_has_a_case() -> None:
    covered, public = {case.name for case in CASES}, homes("minikeras.ops").items()
    # of the public cross-entropies
    behind = {"_cross_entropy", "_sparse_cross_entropy", "_binary_cross_entropy", "as_single"}
    behind |= {"_share_cross_entropy", "_sparse_share_cross_entropy"}
    for family in FAMILIES:
        room = importlib.import_module(f"minikeras.ops.{family}")
        assert {name for name, home in public if home.startswith(f"{room.__name__}:")} <= covered
        for name, function in vars(room).items():
            if isinstance(function, Op) and function.differentiable and name not in behind:
                assert name in covered or name.removeprefix("_") in covered, f"{name} needs a line in nn_cases"


# ---------------------------------------------------------------- any shape


def layouts(function: Callable) -> st.SearchStrategy[Callable]:
    """`function` itself, or with inputs that are views: backward, or of transposed memory."""

    def backwards(*inputs: Any, **settings: Any) -> Any:
        return function(*[ops.flip(x, 0) if isinstance(x, Tensor) else x for x in inputs], **settings)

    def transposed(*inputs: Any, **settings: Any) -> Any:
        turned = [ops.transpose(ops.copy(ops.transpose(x))) if isinstance(x, Tensor) else x for x in inputs]
        return function(*turned, **settings)

    return st.sampled_from([function, backwards, transposed])


def random(seed: int, *shapes: tuple[int, ...] | None, low: float = -2, high: float = 2) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [None if shape is None else spaced(rng, shape, low, high) for shape in shapes]


batches = st.sampled_from([1, 3, 2, 0])
formats = st.sampled_from(["channels_last", "channels_first"])
fused = st.sampled_from([None, *ACTIVATIONS])


@given(data=st.data(), shape=st.lists(st.integers(0, 4), max_size=3).map(tuple), seed=seeds)
@settings(max_examples=40)
def test_activations_of_any_shape(data: st.DataObject, shape: tuple[int, ...], seed: int) -> None:
    name = data.draw(st.sampled_from(sorted(ACTIVATIONS)))
    formula, low, high = ACTIVATIONS[name]
    op = getattr(activations, name)
    function = data.draw(layouts(op)) if shape else op
    (x,) = random(seed, shape, low=low, high=high)
    np.testing.assert_allclose(op(x), formula(x), rtol=1e-10, atol=1e-12)
    check_gradients(function, x)
    other = data.draw(st.sampled_from([nn.silu, nn.hard_silu, nn.gelu, nn.celu, nn.log_sigmoid, nn.piecewise_relu]))
    check_gradients(other, x)


@given(data=st.data(), shape=st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple), seed=seeds)
@settings(max_examples=40)
def test_softmax_over_any_axes(data: st.DataObject, shape: tuple[int, ...], seed: int) -> None:
    axes = st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True)
    axis = data.draw(st.one_of(st.integers(-len(shape), len(shape) - 1), axes, axes.map(tuple)))
    (x,) = random(seed, shape)
    for name in ("softmax", "log_softmax"):
        y = getattr(nn, name)(x, axis=axis)
        expected = nn_cases.softmax(x, axis)
        np.testing.assert_allclose(y, np.log(expected) if "log" in name else expected, rtol=1e-10, atol=1e-12)
        check_gradients(data.draw(layouts(getattr(nn, name))), x, axis=axis)


@given(
    data=st.data(),
    leading=st.lists(st.integers(0, 3), max_size=3).map(tuple),
    sizes=st.tuples(st.integers(0, 4), st.integers(1, 4)),
    bias=st.booleans(),
    activation=fused,
    seed=seeds,
)
@settings(max_examples=40)
def test_dense(data: Any, leading: tuple, sizes: tuple, bias: bool, activation: str | None, seed: int) -> None:
    x, w, b = random(seed, (*leading, sizes[0]), sizes, sizes[1:] if bias else None)
    expected = nn_cases.dense_layer(x, w, b, activation)
    np.testing.assert_allclose(nn.dense_layer(x, w, b, activation=activation), expected, rtol=1e-10, atol=1e-12)
    check_gradients(data.draw(layouts(nn.dense_layer)), x, w, b, activation=activation)


@given(
    data=st.data(),
    shape=st.lists(st.integers(0, 4), max_size=3).map(tuple),
    table=st.tuples(st.integers(1, 5), st.integers(0, 3)),
    seed=seeds,
)
def test_embedding(data: st.DataObject, shape: tuple, table: tuple, seed: int) -> None:
    indices = np.random.default_rng(seed).integers(0, table[0], shape)
    (weights,) = random(seed, table)
    np.testing.assert_array_equal(nn.embedding_lookup(weights, indices), weights[indices])
    check_gradients(data.draw(layouts(nn.embedding_lookup)), weights, indices)


@st.composite
def windows(draw: st.DrawFn) -> dict[str, Any]:
    """Geometry of a convolution or a pooling: nothing that no window fits in."""
    rank = draw(st.integers(1, 3))
    numbers = lambda least, most: tuple(draw(st.integers(least, most)) for _ in range(rank))
    sizes, dilation = numbers(1, 3), draw(st.sampled_from([1, 2]))
    longest = {1: 7, 2: 6, 3: 4}[rank]
    padding = draw(st.sampled_from(["valid", "same"] + ["causal"] * (rank == 1)))
    least = [dilation * (size - 1) + 1 if padding == "valid" else 1 for size in sizes]
    return {
        "n": draw(batches),
        "spatial": tuple(max(m, draw(st.integers(1, longest))) for m in least),
        "sizes": sizes,
        "channels": draw(st.integers(1, 3)),
        "strides": draw(st.one_of(st.integers(1, 3), st.just(numbers(1, 3)))),
        "padding": padding,
        "dilation": dilation,
        "data_format": draw(formats),
    }


def pictures(window: dict[str, Any], groups: int = 1) -> tuple[int, ...]:
    channels = window["channels"] * groups
    if window["data_format"] == "channels_first":
        return window["n"], channels, *window["spatial"]
    return window["n"], *window["spatial"], channels


@pytest.mark.parametrize("name", ["convolution", "depthwise_convolution"])
@given(
    data=st.data(),
    window=windows(),
    width=st.integers(1, 2),
    groups=st.integers(1, 2),
    bias=st.booleans(),
    activation=fused,
    seed=seeds,
)
@settings(max_examples=40)
def test_convolution(
    name: str, data: Any, window: dict, width: int, groups: int, bias: bool, activation: str | None, seed: int
) -> None:
    options = {key: window[key] for key in ("strides", "padding", "dilation", "data_format")}
    if name == "convolution":
        options["groups"] = groups
        kernel, filters = (*window["sizes"], window["channels"], width * groups), width * groups
    else:
        groups = 1
        kernel, filters = (*window["sizes"], window["channels"], width), width * window["channels"]
    inputs = random(seed, pictures(window, groups), kernel, (filters,) if bias else None, low=-0.5, high=0.5)
    expected = getattr(nn_cases, name)(*inputs, **options, activation=activation)
    function = getattr(nn, name)
    np.testing.assert_allclose(function(*inputs, **options, activation=activation), expected, rtol=1e-9, atol=1e-12)
    check_gradients(data.draw(layouts(function)), *inputs, **options, activation=activation)


@given(data=st.data(), window=windows(), filters=st.integers(1, 2), padded=st.booleans(), seed=seeds)
@settings(max_examples=40)
def test_conv_transpose(data: Any, window: dict, filters: int, padded: bool, seed: int) -> None:
    steps = window["strides"]
    options = {
        "strides": steps,
        "padding": window["padding"].replace("causal", "same"),
        "dilation_rate": window["dilation"],
        "data_format": window["data_format"],
        "output_padding": data.draw(st.integers(0, min(np.ravel(steps)) - 1)) if padded else None,
    }
    inputs = random(seed, pictures(window), (*window["sizes"], filters, window["channels"]))
    expected = nn_cases.conv_transpose(*inputs, **options)
    np.testing.assert_allclose(nn.conv_transpose(*inputs, **options), expected, rtol=1e-9, atol=1e-12)
    check_gradients(data.draw(layouts(nn.conv_transpose)), *inputs, **options)


@pytest.mark.parametrize("name", ["max_pool", "average_pool"])
@given(data=st.data(), window=windows(), seed=seeds)
@settings(max_examples=40)
def test_pool(name: str, data: Any, window: dict, seed: int) -> None:
    padding = window["padding"].replace("causal", "same")
    args = window["sizes"], data.draw(st.sampled_from([None, window["strides"]])), padding, window["data_format"]
    (x,) = random(seed, pictures(window))
    expected = getattr(nn_cases, name)(x, *args)
    np.testing.assert_allclose(getattr(nn, name)(x, *args), expected, rtol=1e-10, atol=1e-12)
    pool = data.draw(layouts(getattr(nn, name)))
    check_gradients(lambda x: pool(x, *args), x)


@given(
    data=st.data(),
    leading=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
    channels=st.integers(1, 4),
    empty=st.booleans(),
    masked=st.booleans(),
    scaled=st.tuples(st.booleans(), st.booleans()),
    seed=seeds,
)
@settings(max_examples=40)
def test_normalisation(
    data: Any, leading: tuple, channels: int, empty: bool, masked: bool, scaled: tuple, seed: int
) -> None:
    if empty:
        leading = (0, *leading[1:])
    inputs = random(seed, (*leading, channels), *[(channels,) if on else None for on in scaled])
    mask = np.random.default_rng(seed).random(leading) < 0.6 if masked else None
    options = on_device({"epsilon": 0.01, "mask": mask})
    function = data.draw(layouts(lambda *values: nn.batch_norm_training(*values, **options)[0]))
    check_gradients(function, *inputs)
    if not masked or mask.any():
        results = nn.batch_norm_training(*inputs, **options)
        expected = nn_cases.batch_norm_training(*inputs, epsilon=0.01, mask=mask) if not empty else ()
        for result, value in zip(results, expected, strict=not empty):
            np.testing.assert_allclose(result, value, rtol=1e-9, atol=1e-12)

    axes = data.draw(st.integers(1, len(leading)))
    shape = inputs[0].shape[-axes:]
    x, gamma, beta = random(seed, inputs[0].shape, *[shape if on else None for on in scaled])
    if x.size or not empty:
        expected = nn_cases.layer_norm(x, gamma, beta, 0.01, axes)
        np.testing.assert_allclose(
            nn.layer_norm(x, gamma, beta, epsilon=0.01, axes=axes), expected, rtol=1e-9, atol=1e-12
        )
    check_gradients(data.draw(layouts(nn.layer_norm)), x, gamma, beta, epsilon=0.01, axes=axes)

    x, mean, variance = random(seed, inputs[0].shape, (channels,), (channels,))
    gamma, beta = [one if on else None for one, on in zip(random(seed, (channels,), (channels,)), scaled, strict=True)]
    statistics = mean, variance**2 + 0.1, gamma, beta
    expected = nn_cases.fixed_norm(x, *statistics, 0.01)
    np.testing.assert_allclose(nn.fixed_norm(x, *statistics, epsilon=0.01), expected, rtol=1e-9, atol=1e-12)
    check_gradients(data.draw(layouts(nn.fixed_norm)), x, *statistics, epsilon=0.01)


@pytest.mark.parametrize("name", ["simple_rnn", "lstm", "gru", "gru_reset_first"])
@given(
    data=st.data(),
    n=batches,
    t=st.integers(1, 4),
    d=st.integers(1, 3),
    u=st.integers(1, 3),
    with_bias=st.booleans(),
    masked=st.booleans(),
    dropped=st.booleans(),
    seed=seeds,
)
@settings(max_examples=20)
def test_sequences(
    name: str, data: Any, n: int, t: int, d: int, u: int, with_bias: bool, masked: bool, dropped: bool, seed: int
) -> None:
    """Gradients through any of the results: all outputs, only the last states, or one of these."""
    columns = {"simple_rnn": 1, "lstm": 4, "gru": 3, "gru_reset_first": 3}[name] * u
    options: dict[str, Any] = {"reset_after": name == "gru"} if "gru" in name else {}
    options["activation"] = data.draw(st.sampled_from(["tanh", "sigmoid", "softsign", "elu", None]))
    if name != "simple_rnn":
        options["recurrent_activation"] = data.draw(st.sampled_from(["sigmoid", "tanh"]))
    rng = np.random.default_rng(seed)
    if masked:
        options["mask"] = rng.random((n, t)) < 0.6
    if dropped:
        by_gate = name != "simple_rnn" and data.draw(st.booleans())
        options["recurrent_mask"] = (rng.random((columns // u, n, u) if by_gate else (n, u)) < 0.5) * 2.0
        if by_gate:
            options["input_mask"] = (rng.random((columns // u, n, d)) < 0.5) * 2.0
    options = on_device(options)
    bias = None if not with_bias else (2, columns) if name == "gru" else (columns,)
    states = [(n, u)] * (2 if name == "lstm" else 1)
    inputs = random(seed, (n, t, d), *states, (d, columns), (u, columns), bias, low=-1, high=1)
    sequence = data.draw(layouts(getattr(nn, f"{name.split('_reset')[0]}_sequence")))
    count = 1 + len(states)
    used = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=count, unique=True))
    check_gradients(lambda *values: [sequence(*values, **options)[i] for i in used], *inputs)
    if t > 1 and n:
        check_gradients(lambda *values: sequence(*values, **options)[0][:, t // 2], *inputs)


@given(
    data=st.data(),
    leading=st.lists(st.integers(0, 3), min_size=1, max_size=2).map(tuple),
    classes=st.integers(1, 4),
    through=st.sampled_from(["logits", "probabilities", "activation"]),
    seed=seeds,
)
@settings(max_examples=40)
def test_cross_entropies(data: Any, leading: tuple, classes: int, through: str, seed: int) -> None:
    """From logits, from probabilities, and from those that a softmax or sigmoid has just made."""
    (x,) = random(seed, (*leading, classes), low=0.05 if through == "probabilities" else -2, high=0.95)
    (weights,) = random(seed + 1, (*leading, classes), low=0, high=1)
    labels = np.random.default_rng(seed).integers(0, classes, leading)
    from_logits = through == "logits"
    for function, reference, target, activation in (
        (nn.categorical_crossentropy, nn_cases.categorical_crossentropy, weights, nn.softmax),
        (nn.sparse_categorical_crossentropy, nn_cases.sparse_categorical_crossentropy, labels, nn.softmax),
        (nn.binary_crossentropy, nn_cases.binary_crossentropy, weights, nn.sigmoid),
    ):

        def loss(target: Any, x: Any, function: Any = function, activation: Any = activation) -> Any:
            return function(target, activation(x) if through == "activation" else x, from_logits=from_logits)

        if classes > 1 or function is nn.binary_crossentropy:  # the one class has probability 1, which is clipped
            expected = reference(target, x, from_logits=through != "probabilities")
            np.testing.assert_allclose(loss(target, Tensor(k.to_device(x))), expected, rtol=1e-6, atol=1e-7)
            check_gradients(data.draw(layouts(loss)), target, x)


@given(mask=st.sampled_from([(), (1,), (3, 1), (2, 3, 1), (2, 1, 4), (2, 3, 4)]), seed=seeds)
def test_masks_that_broadcast(mask: tuple, seed: int) -> None:
    (x,) = random(seed, (2, 3, 4))
    mask = np.random.default_rng(seed).random(mask) < 0.5
    options = on_device({"mask": mask, "scale": 1.25})
    np.testing.assert_allclose(nn.masked_scale(x, **options), x * mask * 1.25)
    check_gradients(nn.masked_scale, x, **options)


def test_wrong_arguments_are_told() -> None:
    x, kernel = np.ones((1, 4, 2)), np.ones((3, 5, 2))
    for call, words in (
        (lambda: nn.conv_transpose(x, kernel, padding="causal"), "'causal'"),
        (lambda: nn.conv_transpose(KerasTensor((None, 4, 3)), kernel), "takes 2 channels, got (None, 4, 3)"),
        (lambda: nn.conv_transpose(x, kernel, strides=2, output_padding=2), "less than the strides, got 2 and 2"),
        (lambda: nn.conv(x, kernel[:, :2], padding="full"), "'full'"),
        (lambda: nn.categorical_crossentropy(np.ones((2, 3)), np.ones((2, 4))), r"(2, 3) and (2, 4)"),
        (lambda: nn.sparse_categorical_crossentropy(np.ones((2, 3)), np.ones((2, 3))), "one-hot targets"),
        (lambda: nn.binary_crossentropy(np.ones((2, 3)), np.ones((2, 4))), r"(2, 3) and (2, 4)"),
    ):
        with pytest.raises(ValueError, match=r"[a-z]") as error:
            call()
        assert words in str(error.value)


def test_rms_scaling_leaves_the_mean_and_beta_out():
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    gamma = np.array([1.0, 2.0, 3.0, 4.0])
    scaled = ops.layer_normalization(x, gamma, np.ones(4), epsilon=0.1, rms_scaling=True)
    np.testing.assert_allclose(scaled, x / np.sqrt(x.var(axis=-1, keepdims=True) + 0.1) * gamma)


def test_padding_in_capitals() -> None:
    x, transposed = random(3, (1, 5, 2), (3, 4, 2))
    for padding in ("same", "valid"):
        for op, kernel in ((nn.conv, transposed.swapaxes(1, 2)), (nn.conv_transpose, transposed)):
            np.testing.assert_array_equal(op(x, kernel, padding=padding.upper()), op(x, kernel, padding=padding))
            shape = op(KerasTensor(x.shape), kernel, padding=padding.upper()).shape
            assert shape == op(x, kernel, padding=padding).shape


def test_lists_are_taken_as_tensors() -> None:
    close = np.testing.assert_allclose
    close(ops.binary_crossentropy([1.0], [0.5]), [np.log(2)], rtol=1e-6)
    close(ops.categorical_crossentropy([[0.0, 1.0]], [[0.5, 0.5]]), [np.log(2)], rtol=1e-6)
    close(ops.sparse_categorical_crossentropy([1], [[0.5, 0.5]]), [np.log(2)], rtol=1e-6)
    close(ops.batch_normalization([[1.0], [3.0]], [2.0], [1.0], -1, epsilon=0.0), [[-1.0], [1.0]], rtol=1e-6)
    close(ops.layer_normalization([[1.0, 3.0]], epsilon=0.0), [[-1.0, 1.0]], rtol=1e-6)


def test_moments_of_large_numbers_in_float16():
    """Statistics are computed in float32; what float16 cannot hold is its largest number."""
    x = np.array([60000, 60000, -60000, 30000], "float16")
    mean, variance = ops.moments(x, 0)
    assert (mean.dtype, float(mean), variance.dtype, float(variance)) == ("float16", 22496.0, "float16", 65504.0)
    mean, variance = ops.moments(np.full((300, 2), 400, "float16"), [0], keepdims=True)
    assert mean.tolist() == [[400.0, 400.0]] and variance.tolist() == [[0.0, 0.0]]
    mean, variance = ops.moments(np.array([250, 350], "float16"), 0)
    assert (float(mean), float(variance)) == (300.0, 2500.0)
