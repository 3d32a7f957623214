"""Every layer but the recurrent ones against real Keras: configuration, weights, shapes, outputs, gradients, masks."""

from __future__ import annotations

import inspect
import json

import jax
import keras
import numpy as np
import pytest
from signatures import by_position

from minikeras import layers
from minikeras.autodiff import Tensor, backward, recording

IMAGE = (3, 8, 6, 4)
FIRST = (3, 4, 8, 6)
STEPS = (3, 9, 4)

# (class, arguments, shape of the input or list of shapes)
CASES = [
    ("Dense", {"units": 5}, (3, 4)),
    ("Dense", {"units": 5, "activation": "gelu", "use_bias": False, "kernel_regularizer": "l2"}, STEPS),
    (
        "Dense",
        {"units": 5, "activation": "softmax", "activity_regularizer": "l1", "bias_constraint": "max_norm"},
        STEPS,
    ),
    ("Activation", {"activation": "tanh"}, STEPS),
    ("Activation", {"activation": "softmax", "activity_regularizer": "l2"}, STEPS),
    ("Masking", {"mask_value": 0.0}, STEPS),
    ("Identity", {}, STEPS),
    ("Conv1D", {"filters": 6, "kernel_size": 3}, STEPS),
    ("Conv1D", {"filters": 6, "kernel_size": 3, "padding": "causal", "dilation_rate": 2, "activation": "relu"}, STEPS),
    ("Conv1D", {"filters": 6, "kernel_size": 4, "padding": "causal", "strides": 2, "groups": 2}, STEPS),
    ("Conv1D", {"filters": 6, "kernel_size": 4, "padding": "same", "data_format": "channels_first"}, STEPS),
    ("Conv2D", {"filters": 6, "kernel_size": 3}, IMAGE),
    ("Conv2D", {"filters": 6, "kernel_size": (3, 2), "strides": 2, "padding": "same", "activation": "tanh"}, IMAGE),
    ("Conv2D", {"filters": 6, "kernel_size": 2, "dilation_rate": (2, 3), "use_bias": False, "groups": 2}, IMAGE),
    ("Conv2D", {"filters": 6, "kernel_size": 3, "data_format": "channels_first", "activation": "softmax"}, FIRST),
    (
        "Conv2D",
        {"filters": 4, "kernel_size": 1, "kernel_initializer": "he_normal", "kernel_regularizer": "l1l2"},
        IMAGE,
    ),
    (
        "Conv2D",
        {"filters": 4, "kernel_size": 1, "activity_regularizer": "l2", "kernel_constraint": "non_neg"},
        IMAGE,
    ),
    ("Conv3D", {"filters": 3, "kernel_size": 2, "strides": (1, 2, 1), "padding": "same"}, (2, 4, 5, 3, 2)),
    ("Conv3D", {"filters": 3, "kernel_size": 2, "data_format": "channels_first"}, (2, 2, 4, 5, 3)),
    ("DepthwiseConv1D", {"kernel_size": 3, "depth_multiplier": 2, "strides": 2, "activation": "elu"}, STEPS),
    ("DepthwiseConv2D", {"kernel_size": 3}, IMAGE),
    ("DepthwiseConv2D", {"kernel_size": (2, 3), "depth_multiplier": 3, "padding": "same", "strides": 2}, IMAGE),
    ("DepthwiseConv2D", {"kernel_size": 2, "dilation_rate": 2, "data_format": "channels_first"}, FIRST),
    ("SeparableConv1D", {"filters": 5, "kernel_size": 3, "depth_multiplier": 2, "activation": "relu"}, STEPS),
    (
        "SeparableConv2D",
        {"filters": 5, "kernel_size": (3, 2), "strides": 2, "padding": "same", "depthwise_regularizer": "l2"},
        IMAGE,
    ),
    (
        "SeparableConv2D",
        {"filters": 3, "kernel_size": 2, "dilation_rate": 2, "data_format": "channels_first", "use_bias": False},
        FIRST,
    ),
    ("Conv1DTranspose", {"filters": 5, "kernel_size": 2, "strides": 3, "activation": "relu"}, STEPS),
    (
        "Conv2DTranspose",
        {"filters": 5, "kernel_size": 3, "strides": 2, "padding": "same", "kernel_regularizer": "l2"},
        IMAGE,
    ),
    (
        "Conv2DTranspose",
        {"filters": 5, "kernel_size": 4, "strides": 3, "padding": "same", "output_padding": (0, 1)},
        IMAGE,
    ),
    (
        "Conv2DTranspose",
        {"filters": 5, "kernel_size": 2, "dilation_rate": 2, "data_format": "channels_first", "activation": "softmax"},
        FIRST,
    ),
    ("Conv3DTranspose", {"filters": 3, "kernel_size": 2, "strides": (1, 2, 1), "use_bias": False}, (2, 3, 2, 3, 2)),
    *[
        (f"{kind}Pooling{len(shape) - 2}D", arguments, shape)
        for kind in ("Max", "Average")
        for arguments, shape in (
            ({"pool_size": 2}, STEPS),
            ({"pool_size": 3, "strides": 2, "padding": "same"}, STEPS),
            ({"pool_size": 2}, IMAGE),
            ({"pool_size": (3, 2), "strides": (2, 1), "padding": "same"}, IMAGE),
            ({"pool_size": 3, "strides": 2, "data_format": "channels_first"}, FIRST),
            ({"pool_size": 2, "padding": "same"}, (2, 5, 4, 3, 2)),
        )
    ],
    *[
        (f"Global{kind}Pooling{len(shape) - 2}D", arguments, shape)
        for kind in ("Max", "Average")
        for arguments in ({}, {"keepdims": True}, {"data_format": "channels_first"})
        for shape in (STEPS, IMAGE, (2, 5, 4, 3, 2))
    ],
    ("BatchNormalization", {}, IMAGE),
    ("BatchNormalization", {"axis": 1, "momentum": 0.7, "epsilon": 1e-2}, FIRST),
    ("BatchNormalization", {"scale": False, "beta_regularizer": "l2"}, (7, 4)),
    ("BatchNormalization", {"center": False, "gamma_constraint": "non_neg"}, STEPS),
    ("LayerNormalization", {}, STEPS),
    ("LayerNormalization", {"axis": [1, 2], "epsilon": 1e-2, "gamma_regularizer": "l1"}, IMAGE),
    ("LayerNormalization", {"axis": 1, "center": False}, STEPS),
    ("LayerNormalization", {"axis": (-1, -2), "scale": False}, STEPS),
    ("GroupNormalization", {"groups": 2}, IMAGE),
    ("GroupNormalization", {"groups": 2, "axis": 1, "center": False, "gamma_constraint": "non_neg"}, FIRST),
    ("UnitNormalization", {}, STEPS),
    ("UnitNormalization", {"axis": [1, 2]}, STEPS),
    ("Dropout", {"rate": 0.0}, STEPS),
    ("Rescaling", {"scale": 1 / 255}, IMAGE),
    ("Rescaling", {"scale": [1.0, 2.0, 0.5, 3.0], "offset": [0.1, 0.2, 0.3, 0.4]}, IMAGE),
    ("Normalization", {}, STEPS),
    ("Normalization", {"axis": (1, -1), "invert": True}, STEPS),
    ("Normalization", {"axis": None}, (5,)),
    ("Normalization", {"mean": 2.0, "variance": 3.0}, STEPS),
    ("Normalization", {"axis": (1, 2), "mean": [1.0, 2, 3, 4], "variance": [4.0, 1, 2, 3], "invert": True}, STEPS),
    ("ActivityRegularization", {"l1": 0.1, "l2": 0.2}, STEPS),
    ("Flatten", {}, IMAGE),
    ("Flatten", {}, (5,)),
    ("Flatten", {"data_format": "channels_first"}, FIRST),
    ("Reshape", {"target_shape": (6, 6)}, STEPS),
    ("Reshape", {"target_shape": [-1, 3, 2]}, STEPS),
    ("Permute", {"dims": (3, 1, 2)}, IMAGE),
    ("RepeatVector", {"n": 3}, (3, 4)),
    ("ZeroPadding1D", {}, STEPS),
    ("ZeroPadding1D", {"padding": (1, 2), "data_format": "channels_first"}, STEPS),
    ("ZeroPadding2D", {}, IMAGE),
    ("ZeroPadding2D", {"padding": (1, 2)}, IMAGE),
    ("ZeroPadding2D", {"padding": ((0, 1), (2, 0)), "data_format": "channels_first"}, FIRST),
    ("ZeroPadding3D", {"padding": ((0, 1), (2, 0), (1, 1))}, (2, 5, 4, 3, 2)),
    ("Cropping1D", {}, STEPS),
    ("Cropping1D", {"cropping": 2}, STEPS),
    ("Cropping2D", {}, IMAGE),
    ("Cropping2D", {"cropping": ((1, 0), (2, 1)), "data_format": "channels_first"}, FIRST),
    ("Cropping3D", {}, (2, 5, 4, 3, 2)),
    ("UpSampling1D", {"size": 3}, STEPS),
    ("UpSampling2D", {}, IMAGE),
    ("UpSampling2D", {"size": (1, 3), "data_format": "channels_first"}, FIRST),
    ("UpSampling3D", {"size": (1, 2, 3)}, (2, 2, 3, 2, 2)),
    ("ReLU", {}, STEPS),
    ("ReLU", {"max_value": 0.8, "negative_slope": 0.1, "threshold": 0.2}, STEPS),
    ("LeakyReLU", {}, STEPS),
    ("LeakyReLU", {"negative_slope": 0.2}, STEPS),
    ("PReLU", {"alpha_initializer": "random_uniform"}, STEPS),
    ("PReLU", {"shared_axes": [1]}, STEPS),
    ("PReLU", {"shared_axes": 2}, IMAGE),
    ("ELU", {"alpha": 0.7}, STEPS),
    ("ELU", {}, STEPS),
    ("Softmax", {}, STEPS),
    ("Softmax", {"axis": 1}, STEPS),
    ("Softmax", {"axis": [1, 2]}, STEPS),
    *[(name, {}, [STEPS, STEPS, STEPS]) for name in ("Add", "Multiply", "Average", "Maximum", "Minimum")],
    *[(name, {}, [STEPS, (3, 4), (3, 1, 4)]) for name in ("Add", "Multiply", "Average", "Maximum", "Minimum")],
    ("Subtract", {}, [STEPS, (3, 9, 1)]),
    ("Concatenate", {}, [STEPS, (3, 9, 2)]),
    ("Concatenate", {"axis": 1}, [STEPS, (3, 2, 4)]),
    ("Dot", {"axes": -1}, [(3, 4), (3, 4)]),
    ("Dot", {"axes": (1, 2), "normalize": True}, [STEPS, (3, 5, 9)]),
    ("Dot", {"axes": [2, 1]}, [(3, 2, 4, 5), (3, 4)]),
    ("Dot", {"axes": (1, 1)}, [(3, 4), STEPS[:1] + (4, 2)]),
    ("RMSNormalization", {}, STEPS),
    ("RMSNormalization", {"axis": (2, 1), "epsilon": 1e-3}, STEPS),
    ("LayerNormalization", {"rms_scaling": True}, STEPS),
    ("BatchNormalization", {"renorm": True, "renorm_momentum": 0.5, "momentum": 0.7}, STEPS),
    (
        "BatchNormalization",
        {"renorm": True, "renorm_clipping": {"rmin": 0.5, "rmax": 2.0, "dmax": 0.3}, "axis": 1, "center": False},
        IMAGE,
    ),
    *[(f"Adaptive{kind}Pooling1D", {"output_size": 4}, STEPS) for kind in ("Average", "Max")],
    *[(f"Adaptive{kind}Pooling2D", {"output_size": (3, 5)}, IMAGE) for kind in ("Average", "Max")],
    ("AdaptiveMaxPooling2D", {"output_size": 5, "data_format": "channels_first"}, FIRST),
    ("AdaptiveAveragePooling3D", {"output_size": 2}, (2, 5, 4, 3, 2)),
    ("AdaptiveMaxPooling3D", {"output_size": [2, 3, 2]}, (2, 5, 4, 3, 2)),
    ("ConvLSTM1D", {"filters": 2, "kernel_size": 3, "padding": "same", "return_sequences": True}, (2, 3, 5, 2)),
    ("ConvLSTM1D", {"filters": 2, "kernel_size": 2, "dilation_rate": 2, "unit_forget_bias": False}, (2, 3, 5, 2)),
    (
        "ConvLSTM2D",
        {
            "filters": 2,
            "kernel_size": (3, 2),
            "strides": 2,
            "go_backwards": True,
            "recurrent_activation": "hard_sigmoid",
        },
        (2, 3, 5, 6, 2),
    ),
    (
        "ConvLSTM2D",
        {
            "filters": 2,
            "kernel_size": 2,
            "data_format": "channels_first",
            "use_bias": False,
            "kernel_regularizer": "l2",
        },
        (2, 2, 1, 4, 3),
    ),
    ("ConvLSTM3D", {"filters": 2, "kernel_size": 2, "activation": "relu"}, (1, 2, 3, 3, 2, 1)),
]

# random in training: compared in inference, by configuration and shapes
NOISE = [
    ("Dropout", {"rate": 0.3, "noise_shape": (None, 1, 4), "seed": 3}, STEPS),
    ("SpatialDropout1D", {"rate": 0.3}, STEPS),
    ("SpatialDropout2D", {"rate": 0.3, "data_format": "channels_first"}, FIRST),
    ("SpatialDropout3D", {"rate": 0.3, "seed": 1}, (2, 5, 4, 3, 2)),
    ("GaussianNoise", {"stddev": 0.3}, STEPS),
    ("GaussianDropout", {"rate": 0.3, "seed": 2}, STEPS),
    ("AlphaDropout", {"rate": 0.3, "noise_shape": (None, 1, 4), "seed": 3}, STEPS),
]


def numbers(case):
    return f"{case[0]}-{'-'.join(f'{k}={v}' for k, v in case[1].items())}-{case[2]}".replace(" ", "")


def draw(rng, shape):
    if isinstance(shape, list):
        return [draw(rng, one) for one in shape]
    return rng.standard_normal(shape).astype("float32")


def pair(name, arguments, shape):
    """(ours, theirs) with equal random weights."""
    ours = getattr(layers, name)(name="layer", **arguments)
    theirs = getattr(keras.layers, name)(name="layer", **arguments)
    for layer in (ours, theirs):
        if not layer.built:
            layer.build([tuple(one) for one in shape] if isinstance(shape, list) else shape)
    rng = np.random.default_rng(1)
    weights = [(np.abs(rng.standard_normal(w.shape)) + 0.1).astype(str(w.dtype)) for w in theirs.weights]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    if name == "Normalization":
        theirs.finalize_state()  # it computes with copies of its weights
    return ours, theirs


def as_json(config):
    """The configuration as a file has it, numbers as precise as float32, in which Keras keeps some."""
    return json.loads(json.dumps(config), parse_float=lambda digits: float(f"{float(digits):.6g}"))


def open_batch(shape):
    return [open_batch(one) for one in shape] if isinstance(shape, list) else (None, *shape[1:])


@pytest.mark.parametrize("case", CASES + NOISE, ids=numbers)
def test_configuration_weights_and_shapes(case):
    shape = case[2]
    ours, theirs = pair(*case)
    assert as_json(ours.get_config()) == as_json(theirs.get_config())
    assert [(w.path, tuple(w.shape), w.trainable) for w in ours.weights] == [
        (w.path, tuple(w.shape), w.trainable) for w in theirs.weights
    ]
    assert ours.supports_masking == theirs.supports_masking
    for one in (shape, open_batch(shape)):
        assert tuple(ours.compute_output_shape(one)) == tuple(theirs.compute_output_shape(one))
    restored = type(ours).from_config(as_json(theirs.get_config()))
    assert as_json(restored.get_config()) == as_json(type(theirs).from_config(theirs.get_config()).get_config())


def test_constructor_arguments():
    beyond = {"lora_rank", "lora_alpha", "quantization_config"}
    for name in {case[0] for case in CASES + NOISE} | {"Embedding", "InputLayer"}:
        ours, theirs = by_position(getattr(layers, name)), by_position(getattr(keras.layers, name))
        wanted = [parameter for parameter in theirs if parameter not in beyond]
        assert list(ours) == wanted or not wanted, name


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("case", CASES + NOISE, ids=numbers)
def test_outputs_and_gradients(case, training):
    shape, training = case[2], training and case not in NOISE
    ours, theirs = pair(*case)
    rng = np.random.default_rng(0)
    inputs = draw(rng, shape)
    takes = {"training": training} if "training" in inspect.signature(theirs.call).parameters else {}

    def call(trainable, x):
        return theirs.stateless_call(trainable, [v.value for v in theirs.non_trainable_variables], x, **takes)

    trainable = [v.value for v in theirs.trainable_variables]
    expected, pull, moved = jax.vjp(call, trainable, inputs, has_aux=True)
    seed = rng.standard_normal(expected.shape).astype("float32")
    expected_gradients = jax.tree_util.tree_leaves(pull(seed))

    tensors = [Tensor(x, tracked=True) for x in (inputs if isinstance(inputs, list) else [inputs])]
    with recording():
        outputs = ours(tensors if isinstance(inputs, list) else tensors[0], **takes)
    close(outputs, expected)
    gradients = backward(outputs, [*ours.trainable_variables, *tensors], seed)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        close(np.zeros(wanted.shape) if gradient is None else gradient, wanted)
    states = [v for v in ours.non_trainable_variables if "uint" not in v.dtype]  # without those of random numbers
    for ours_moved, theirs_moved in zip(states, [v for v in moved if "uint" not in str(v.dtype)], strict=True):
        close(ours_moved, theirs_moved)
    if not moved:
        theirs(inputs, **takes)
        close(sum(float(loss) for loss in ours.losses), sum(float(loss) for loss in theirs.losses))


def close(ours, theirs):
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=2e-5, atol=3e-6)


def test_a_large_convolution():
    """Rounding shows in sums of many terms that nearly cancel, so an error is compared with the largest sum."""
    ours, theirs = pair("Conv2D", {"filters": 32, "kernel_size": 3, "padding": "same"}, (24, 19, 18, 32))
    rng = np.random.default_rng(0)
    x = draw(rng, (24, 19, 18, 32))
    weights = [v.value for v in theirs.trainable_variables]
    expected, pull = jax.vjp(lambda weights, x: theirs.stateless_call(weights, [], x)[0], weights, x)
    seed = rng.standard_normal(expected.shape).astype("float32")
    tensor = Tensor(x, tracked=True)
    with recording():
        outputs = ours(tensor)
    gradients = backward(outputs, [*ours.trainable_variables, tensor], seed)
    for found, wanted in zip([outputs, *gradients], [expected, *jax.tree_util.tree_leaves(pull(seed))], strict=True):
        np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=0, atol=3e-6 * np.abs(wanted).max())


@pytest.mark.parametrize("arguments", [{}, {"mask_zero": True, "embeddings_regularizer": "l2"}])
def test_embedding(arguments):
    ours = layers.Embedding(7, 3, name="layer", **arguments)
    theirs = keras.layers.Embedding(7, 3, name="layer", **arguments)
    indices = np.random.default_rng(0).integers(0, 7, (4, 5))
    for layer in (ours, theirs):
        layer.build((4, 5))
    ours.set_weights(theirs.get_weights())
    assert as_json(ours.get_config()) == as_json(theirs.get_config())
    assert ours.compute_output_shape((None, 5)) == theirs.compute_output_shape((None, 5))
    for x in (indices, indices.astype("float32")):
        close(ours(x), theirs(x))
    mask, wanted = ours.compute_mask(Tensor(indices)), theirs.compute_mask(indices)
    assert (mask is None) == (wanted is None)
    assert mask is None or np.array_equal(mask, wanted)
    weights = np.arange(21.0).reshape(7, 3)
    assert np.array_equal(layers.Embedding(7, 3, weights=weights).get_weights()[0], weights)


@pytest.mark.parametrize(
    ("name", "arguments", "training"),
    [
        ("GlobalAveragePooling1D", {}, False),
        ("GlobalAveragePooling1D", {"keepdims": True}, False),
        ("BatchNormalization", {}, True),
        ("BatchNormalization", {}, False),
    ],
)
def test_mask_argument(name, arguments, training):
    ours, theirs = pair(name, arguments, STEPS)
    rng = np.random.default_rng(0)
    x, mask = draw(rng, STEPS), rng.random(STEPS[:2]) < 0.6
    mask[:, 0] = True
    takes = {"training": training} if name == "BatchNormalization" else {}
    close(ours(x, mask=mask, **takes), theirs(x, mask=mask, **takes))
    for ours_moved, theirs_moved in zip(ours.weights, theirs.weights, strict=True):
        close(ours_moved, theirs_moved)


def test_softmax_mask():
    rng = np.random.default_rng(0)
    x, mask = draw(rng, STEPS), rng.random(STEPS) < 0.6
    close(layers.Softmax()(x, mask=mask), keras.layers.Softmax()(x, mask=mask))
    close(layers.Softmax(axis=1)(x, mask=mask[:, :, :1]), keras.layers.Softmax(axis=1)(x, mask=mask[:, :, :1]))


@pytest.mark.parametrize("case", [one for one in [*CASES, *NOISE] if one[2] == STEPS], ids=numbers)
def test_masked_steps(case):
    """What comes behind a mask: the same outputs, the same mask or none, or an error in both."""
    name, arguments, shape = case
    x = draw(np.random.default_rng(0), shape) * (np.random.default_rng(1).random((*shape[:2], 1)) < 0.6)
    x = x.astype("float32")
    layer, keras_layer = pair(name, arguments, shape)
    results = []
    for module, one in ((layers, layer), (keras.layers, keras_layer)):
        try:
            y = one(module.Masking()(x))
        except ValueError:
            results.append(None)
        else:
            mask = getattr(y, "_keras_mask", None)
            results.append((np.asarray(y), None if mask is None else np.asarray(mask)))
    ours, theirs = results
    assert (ours is None) == (theirs is None)
    if ours is not None:
        close(ours[0], theirs[0])
        assert (ours[1] is None) == (theirs[1] is None)
        assert ours[1] is None or np.array_equal(ours[1], theirs[1])


MASKED = [(name, {}, count) for name in ("Add", "Multiply", "Average", "Maximum", "Minimum") for count in (2, 3)]
MASKED += [("Subtract", {}, 2), ("Concatenate", {}, 3), ("Concatenate", {"axis": 1}, 2), ("Dot", {"axes": 2}, 2)]


@pytest.mark.parametrize("masked", [0b111, 0b001, 0b110], ids=["all", "first", "others"])
@pytest.mark.parametrize(("name", "arguments", "count"), MASKED)
def test_masks_of_merged_inputs(name, arguments, count, masked):
    rng = np.random.default_rng(0)
    inputs = [draw(rng, STEPS) * (rng.random((*STEPS[:2], 1)) < 0.6) for _ in range(count)]

    def merged(module):
        parts = [
            (module.Masking() if masked >> i & 1 else module.Identity())(x.astype("float32"))
            for i, x in enumerate(inputs)
        ]
        return getattr(module, name)(**arguments)(parts)

    ours, theirs = merged(layers), merged(keras.layers)
    close(ours, theirs)
    ours_mask, theirs_mask = ours._keras_mask, getattr(theirs, "_keras_mask", None)
    assert (ours_mask is None) == (theirs_mask is None)
    assert ours_mask is None or np.array_equal(ours_mask, theirs_mask)


def test_frozen_batch_normalization():
    ours, theirs = pair("BatchNormalization", {}, STEPS)
    ours.trainable = theirs.trainable = False
    x = draw(np.random.default_rng(0), STEPS)
    before = ours.get_weights()
    close(ours(x, training=True), theirs(x, training=True))
    assert all(np.array_equal(a, b) for a, b in zip(before, ours.get_weights(), strict=True))


@pytest.mark.parametrize("case", CASES, ids=numbers)
def test_symbolic_outputs(case):
    name, arguments, shape = case

    def shape_of(module):
        layer = getattr(module, name)(**arguments)
        inputs = [module.Input(one[1:]) for one in (shape if isinstance(shape, list) else [shape])]
        output = layer(inputs if isinstance(shape, list) else inputs[0])
        return tuple(output.shape), output.dtype

    assert shape_of(layers) == shape_of(keras.layers)


def test_layers_that_move_values_keep_integers():
    for layer in (layers.Flatten(), layers.Reshape((-1,)), layers.Permute((2, 1))):
        assert layer(layers.Input((3, 2), dtype="int32")).dtype == "int32"
        assert layer(np.ones((4, 3, 2), "int32")).dtype == "int32"


def test_states_of_convolutional_steps():
    """Without a mask: with one real Keras fails on JAX."""
    arguments = {"filters": 2, "kernel_size": 2, "padding": "same", "return_sequences": True, "return_state": True}
    ours, theirs = pair("ConvLSTM1D", arguments, (3, 4, 5, 2))
    rng = np.random.default_rng(0)
    x, states = draw(rng, (3, 4, 5, 2)), draw(rng, [(3, 5, 2), (3, 5, 2)])
    for given in ({}, {"initial_state": states}):
        for found, wanted in zip(ours(x, **given), theirs(x, **given), strict=True):
            close(found, wanted)
    for shape in ((3, 4, 5, 2), (None, None, 5, 2)):
        assert ours.compute_output_shape(shape) == theirs.compute_output_shape(shape)


@pytest.mark.parametrize("misuse", [
    lambda L: L.AdaptiveMaxPooling2D((2, 2, 2)),
    lambda L: L.AdaptiveAveragePooling1D("2"),
    lambda L: L.ConvLSTM2D(2, 2, strides=2, dilation_rate=2),
    lambda L: L.ConvLSTM2D(2, 2).build((None, 3, None, 4, 2)),
    lambda L: L.ConvLSTM2D(2, 2, padding="causal"),
    lambda L: L.ConvLSTM2D(2, (2, 2, 2)),
    lambda L: L.ConvLSTM2D(2, 2)(np.ones((2, 3, 4, 2), "float32")),
    lambda L: L.BatchNormalization(renorm=True, renorm_clipping={"rmin": 2, "rmax": 1}),
])  # fmt: skip
def test_misuse_is_refused_as_keras_refuses_it(misuse):
    with pytest.raises(Exception) as theirs:
        misuse(keras.layers)
    with pytest.raises(Exception) as ours:
        misuse(layers)
    assert ours.type is theirs.type or issubclass(ours.type, theirs.type), (ours.value, theirs.value)
