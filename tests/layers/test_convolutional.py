"""Convolutions: every geometry, both layouts, groups; what they refuse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikeras import layers

CONVOLUTIONS = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}
SEPARABLE = {1: layers.SeparableConv1D, 2: layers.SeparableConv2D}
TRANSPOSED = {1: layers.Conv1DTranspose, 2: layers.Conv2DTranspose, 3: layers.Conv3DTranspose}
DEPTHWISE = {1: layers.DepthwiseConv1D, 2: layers.DepthwiseConv2D}


@st.composite
def geometry(draw, ranks):
    """(rank, arguments of the window, shape of channels-last inputs without channels)."""
    rank = draw(st.sampled_from(ranks))
    sizes = draw(st.tuples(*[st.integers(1, 3)] * rank))
    padding = draw(st.sampled_from(["valid", "same", "causal"] if rank == 1 else ["valid", "same"]))
    strides, dilation = draw(st.tuples(*[st.integers(1, 3)] * rank)), (1,) * rank
    if max(strides) == 1:
        dilation = draw(st.tuples(*[st.integers(1, 2)] * rank))
    reach = [d * (k - 1) + 1 if padding == "valid" else 1 for k, d in zip(sizes, dilation, strict=True)]
    lengths = [draw(st.integers(least, least + 4)) for least in reach]
    arguments = {"kernel_size": sizes, "strides": strides, "dilation_rate": dilation, "padding": padding}
    return rank, arguments, (draw(st.integers(0, 2)), *lengths)


def inputs(shape, channels, data_format):
    values = np.random.default_rng(3).standard_normal((*shape, channels))
    return values if data_format == "channels_last" else np.moveaxis(values, -1, 1)


def both_layouts(check_layer, cls, arguments, shape, channels):
    """Checks both layouts, whose outputs must be the same values."""
    results = [
        check_layer(cls, {**arguments, "data_format": layout}, inputs(shape, channels, layout))[1]
        for layout in ("channels_last", "channels_first")
    ]
    np.testing.assert_allclose(np.moveaxis(results[1], 1, -1), results[0], rtol=1e-12, atol=1e-12)


@given(
    case=geometry([1, 2, 3]),
    groups=st.integers(1, 2),
    per_group=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    activation=st.sampled_from([None, "tanh", "softplus", "silu"]),
    use_bias=st.booleans(),
)
def test_convolution(check_layer, case, groups, per_group, activation, use_bias):
    rank, arguments, shape = case
    arguments = {**arguments, "groups": groups, "activation": activation, "use_bias": use_bias}
    arguments["filters"] = groups * per_group[1]
    both_layouts(check_layer, CONVOLUTIONS[rank], arguments, shape, groups * per_group[0])


@given(
    case=geometry([1, 2]).filter(lambda case: case[1]["padding"] != "causal"),
    channels=st.integers(1, 3),
    multiplier=st.integers(1, 2),
    use_bias=st.booleans(),
)
def test_depthwise_convolution(check_layer, case, channels, multiplier, use_bias):
    rank, arguments, shape = case
    arguments = {**arguments, "depth_multiplier": multiplier, "use_bias": use_bias, "activation": "sigmoid"}
    both_layouts(check_layer, DEPTHWISE[rank], arguments, shape, channels)


@given(
    case=geometry([1, 2]).filter(lambda case: case[1]["padding"] != "causal"),
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 3)),
    activation=st.sampled_from([None, "tanh", "silu"]),
    use_bias=st.booleans(),
)
def test_separable_convolution(check_layer, case, sizes, activation, use_bias):
    rank, arguments, shape = case
    channels, multiplier, filters = sizes
    arguments = {**arguments, "filters": filters, "depth_multiplier": multiplier, "activation": activation}
    both_layouts(check_layer, SEPARABLE[rank], {**arguments, "use_bias": use_bias}, shape, channels)


@given(
    case=geometry([1, 2, 3]).filter(lambda case: case[1]["padding"] != "causal"),
    sizes=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    longer=st.booleans(),
    activation=st.sampled_from([None, "tanh", "silu"]),
    use_bias=st.booleans(),
)
def test_transposed_convolution(check_layer, case, sizes, longer, activation, use_bias):
    rank, arguments, shape = case
    arguments = {**arguments, "filters": sizes[1], "activation": activation, "use_bias": use_bias}
    if longer:
        windows = zip(arguments["kernel_size"], arguments["dilation_rate"], shape[1:], strict=True)
        odd = [((size - 1) * apart + 1) % 2 or length > 1 for size, apart, length in windows]
        if not all(odd):
            return both_layouts(check_layer, TRANSPOSED[rank], arguments, shape, sizes[0])  # nothing would be left
        extras = [step - 1 if fine else 0 for step, fine in zip(arguments["strides"], odd, strict=True)]
        arguments["output_padding"] = extras
    both_layouts(check_layer, TRANSPOSED[rank], arguments, shape, sizes[0])


def test_a_transposed_convolution_is_the_gradient_of_a_convolution():
    rng = np.random.default_rng(0)
    transposed, conv = layers.Conv2DTranspose(3, (3, 2), 2, "same"), layers.Conv2D(4, (3, 2), 2, "same", use_bias=False)
    x, g = rng.standard_normal((2, 5, 4, 4)), rng.standard_normal((2, 10, 8, 3))
    y, z = transposed(x), conv(g)
    conv.set_weights(transposed.get_weights()[:1])
    np.testing.assert_allclose((np.asarray(y) * g).sum(), (np.asarray(conv(g)) * x).sum(), rtol=1e-4)
    assert y.shape == g.shape and z.shape == x.shape


def test_weights_and_arguments():
    layer = layers.Conv2D(4, 3, groups=2, kernel_regularizer="l2", bias_constraint="non_neg")
    layer.build([None, 8, 8, 6])
    assert [(w.path, w.shape) for w in layer.weights] == [
        (f"{layer.name}/kernel", (3, 3, 3, 4)),
        (f"{layer.name}/bias", (4,)),
    ]
    assert layer.kernel.regularizer is layer.kernel_regularizer
    assert layer.bias.constraint is layer.bias_constraint
    assert layer.strides == layer.dilation_rate == (1, 1)
    assert layers.Convolution2D is layers.Conv2D


def test_activation_may_be_replaced():
    layer = layers.Conv1D(2, 1, activation="relu")
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype("float32")
    assert np.asarray(layer(x)).min() == 0
    layer.activation = layers.ReLU(negative_slope=1.0)
    assert np.asarray(layer(x)).min() < 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filters": 0, "kernel_size": 3}, "Conv2D's filters must be a positive whole number, got 0"),
        ({"filters": 3, "kernel_size": 3, "groups": 2}, "divide into 2 groups, got filters=3"),
        ({"filters": 3, "kernel_size": (3, 0)}, "Conv2D's kernel_size must be a positive whole number, got 0"),
        ({"filters": 3, "kernel_size": (3, 3, 3)}, r"kernel_size .* got \(3, 3, 3\)"),
        ({"filters": 3, "kernel_size": 3, "strides": 1.5}, "strides .* got 1.5"),
        ({"filters": 3, "kernel_size": 3, "strides": 2, "dilation_rate": 2}, r"not both, got strides=\(2, 2\)"),
        ({"filters": 3, "kernel_size": 3, "padding": "causal"}, r"\('valid', 'same'\) for padding, got 'causal'"),
        ({"filters": 3, "kernel_size": 3, "data_format": "nhwc"}, "got 'nhwc'"),
        ({"filters": 3, "kernel_size": 3, "activation": "rellu"}, "did you mean 'relu'"),
        ({"filters": 3, "kernel_size": 3, "bias": True}, r"unknown arguments \['bias'\]"),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        layers.Conv2D(**arguments)


def test_refused_arguments_of_transposed_and_separable_convolutions():
    with pytest.raises(ValueError, match=r"less than the strides, got output_padding=\(1, 0\) and strides=\(1, 1\)"):
        layers.Conv2DTranspose(2, 3, output_padding=(1, 0))
    with pytest.raises(ValueError, match=r"not both, got strides=\(2, 2\) and dilation_rate=\(1, 2\)"):
        layers.Conv2DTranspose(2, 3, strides=2, dilation_rate=(1, 2))
    with pytest.raises(
        ValueError, match="Conv1DTranspose's output_padding must be a whole number of at least 0, got -1"
    ):
        layers.Conv1DTranspose(2, 3, output_padding=-1)
    with pytest.raises(ValueError, match="SeparableConv1D's depth_multiplier must be a positive whole number, got 0"):
        layers.SeparableConv1D(2, 3, depth_multiplier=0)
    with pytest.raises(ValueError, match=r"of size 3 or more along axis 1, got shape \(None, 2, 4\)"):
        layers.SeparableConv1D(2, 3)(np.ones((1, 2, 4)))
    assert layers.Conv3DTranspose(2, 3, 2, "same", "channels_first", 1).output_padding == (1, 1, 1)


def test_refused_inputs():
    ones = np.ones
    with pytest.raises(ValueError, match=r"Conv2D 'head' expects inputs of rank 4, got shape \(2, 8, 8\)"):
        layers.Conv2D(3, 3, name="head")(ones((2, 8, 8)))
    with pytest.raises(ValueError, match=r"divide into 2 groups, got inputs of shape \(None, 8, 8, 3\)"):
        layers.Conv2D(4, 3, groups=2)(ones((2, 8, 8, 3)))
    with pytest.raises(ValueError, match=r"of size 3 or more along axis 2, got shape \(None, 8, 2, 3\)"):
        layers.Conv2D(4, 3)(ones((2, 8, 2, 3)))
    with pytest.raises(ValueError, match="a known size along axis -1"):
        layers.Conv2D(4, 3)(layers.Input((8, 8, None)))
    layer = layers.Conv2D(4, 3)
    layer(ones((2, 8, 8, 3)))
    before = layer.get_weights()
    with pytest.raises(ValueError, match=r"expects inputs with 3 entries along axis -1, got shape \(2, 8, 8, 4\)"):
        layer(ones((2, 8, 8, 4)))
    assert all(np.array_equal(a, b) for a, b in zip(before, layer.get_weights(), strict=True))
