"""Dense, embedding, masking; shapes that are refused, arguments of old, configurations as Keras writes them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikeras import Model, Sequential, kernels, layers, registry
from minikeras.autodiff import KerasTensor, check_gradients


@given(
    shape=st.integers(2, 4).flatmap(lambda rank: st.tuples(st.integers(0, 2), *[st.integers(1, 3)] * (rank - 1))),
    activation=st.sampled_from([None, "sigmoid", "softmax", "gelu"]),
    use_bias=st.booleans(),
)
def test_dense(check_layer, shape, activation, use_bias):
    arguments = {"units": 3, "activation": activation, "use_bias": use_bias}
    check_layer(layers.Dense, arguments, np.random.default_rng(0).standard_normal(shape))


def _first_half(x):
    return x[..., : x.shape[-1] // 2]


@pytest.mark.parametrize("activation", ["glu", _first_half])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Activation", ()),
        ("Dense", (6,)),
        ("EinsumDense", ("abc,cd->abd", (5, 6))),
        ("Conv1D", (6, 2)),
        ("DepthwiseConv1D", (2,)),
        ("SeparableConv1D", (6, 2)),
        ("Conv1DTranspose", (6, 2)),
        ("LocallyConnected1D", (6, 2)),
    ],
)
def test_activations_that_change_the_shape(name, arguments, activation):
    x = np.ones((7, 5, 4), "float32")
    layer = getattr(layers, name)(*arguments, activation=activation)
    model = Sequential([layers.Input((5, 4)), layer, layers.Dense(2)])
    outputs = layer(x)
    assert outputs.shape[-1] in (2, 3)
    assert outputs.shape == layer.compute_output_shape(x.shape)
    assert model(x).shape == (*outputs.shape[:-1], 2)


@given(shape=st.lists(st.integers(0, 3), min_size=1, max_size=3), mask_zero=st.booleans())
def test_embedding(shape, mask_zero):
    layer = layers.Embedding(5, 2, mask_zero=mask_zero, dtype="float64")
    indices = np.random.default_rng(0).integers(0, 5, shape)
    outputs = layer(indices)
    assert outputs.shape == (*shape, 2) == layer.compute_output_shape(tuple(shape))
    assert np.array_equal(outputs, layer.get_weights()[0][indices])
    assert (outputs._keras_mask is not None) == mask_zero == layer.supports_masking
    if mask_zero:
        assert np.array_equal(outputs._keras_mask, indices != 0)
    check_gradients(lambda: layer(indices), variables=layer.trainable_variables)
    copy = layers.Embedding.from_config(layer.get_config())
    copy.build_from_config(layer.get_build_config())
    copy.set_weights(layer.get_weights())
    assert np.array_equal(copy(indices.astype("float64")), outputs)


def test_embedding_arguments():
    values = np.arange(10, dtype="float32").reshape(5, 2)
    for weights in (values, [values]):
        layer = layers.Embedding(5, 2, weights=weights, input_length=7, name="words")
        assert np.array_equal(layer.get_weights()[0], values)
        assert layer.weights[0].path == "words/embeddings"
        assert not {"weights", "input_length"} & set(layer.get_config())
    assert layers.Embedding(5, 2)(layers.Input((None,), dtype="int32")).shape == (None, None, 2)
    with pytest.raises(ValueError, match="Embedding's input_dim must be a positive whole number, got 0"):
        layers.Embedding(0, 2)
    with pytest.raises(ValueError, match=r"has shape \(5, 2\) and cannot take a value of shape \(2, 5\)"):
        layers.Embedding(5, 2, weights=values.T.reshape(2, 5))
    layer = layers.Embedding(5, 2)
    if kernels.active_device() == "gpu":  # reading indices back would stall every step
        found = np.asarray(layer(np.array([[7.0, -1.0, 0.5, np.nan, 4.0]])))[0]
        assert np.isnan(found[:4]).all() and np.array_equal(found[4], np.asarray(layer.embeddings)[4])
    else:
        with pytest.raises(IndexError, match="from 0 to 4, got 7"):
            layer(np.array([[7]]))


def test_masking(check_layer):
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    layer, _ = check_layer(layers.Masking, {"mask_value": 0.5}, x)
    x[0, 1] = 0.5
    x[1, 2, :2] = 0.5
    outputs = np.asarray(layer(x))
    assert np.array_equal(layer(x)._keras_mask, [[True, False, True], [True, True, True]])
    assert not outputs[0, 1].any()
    assert np.array_equal(outputs[1], x[1])


def test_masks_pass_or_end():
    x = layers.Embedding(5, 2, mask_zero=True)(np.array([[1, 0, 3]]))
    kept = layers.Activation("tanh")(layers.Dense(3)(x))
    assert np.array_equal(kept._keras_mask, [[True, False, True]])
    assert layers.Conv1D(2, 1)(kept)._keras_mask is None


def test_ranks_are_checked_at_every_new_shape():
    layer = layers.GlobalAveragePooling2D()
    layer(np.ones((2, 4, 4, 3)))
    with pytest.raises(ValueError, match=r"expects inputs of rank 4, got shape \(2, 4, 3\)"):
        layer(np.ones((2, 4, 3)))
    with pytest.raises(ValueError, match="Dense 'head' expects inputs of rank 2 or more"):
        layers.Dense(3, name="head")(np.ones(3))


def test_no_input_is_refused():
    model = Sequential([layers.Input((3,)), layers.Dense(2)])
    for called in (model, Model(model.input, model.output), layers.Dense(2), layers.LSTM(2)):
        with pytest.raises(ValueError, match=r"expects a tensor or an array.*, got None"):
            called(None)


def test_activity_regularizer_of_any_layer():
    layer = layers.ReLU(activity_regularizer="l1")
    layer(np.ones((4, 3), "float32"))
    np.testing.assert_allclose(layer.losses[0], 0.01 * 3, rtol=1e-6)
    assert layers.ReLU.from_config(layer.get_config()).activity_regularizer.l1 == 0.01
    assert "activity_regularizer" not in layers.ReLU().get_config()


def test_registered():
    for name in layers.__all__:
        thing = getattr(layers, name)
        if isinstance(thing, type) and issubclass(thing, layers.Layer) and thing is not layers.Layer:
            public = vars(thing).get("public_name", thing.__name__)
            assert registry.builtin_class("keras.layers", public) is thing
    described = layers.serialize(layers.Conv2D(3, 2, name="eye", kernel_initializer="he_normal"))
    assert described["module"] == "keras.layers"
    restored = layers.deserialize(described)
    assert (type(restored), restored.get_config()) == (layers.Conv2D, described["config"])


def test_quantization_is_refused():
    assert layers.Dense(3, quantization_config=None).units == 3
    with pytest.raises(ValueError, match="cannot be quantized"):
        layers.Dense(3, quantization_config={"mode": "int8"})


def test_the_tensor_of_an_input_is_not_contradicted():
    tensor = KerasTensor((2, 3))
    assert layers.InputLayer(shape=(3,), batch_size=2, input_tensor=tensor).output is tensor
    for wrong in ({"batch_size": 5}, {"shape": (4,)}, {"batch_shape": (2, 4)}):
        with pytest.raises(ValueError, match="leave these out"):
            layers.InputLayer(input_tensor=tensor, **wrong)
    with pytest.warns(UserWarning, match=r"takes shape=\(2, 3\), not input_shape"):
        assert layers.InputLayer(input_shape=(2, 3), batch_size=4).batch_shape == (4, 2, 3)


def test_weights_are_added_in_the_order_of_keras_2() -> None:
    layer = layers.Layer()
    named = [
        layer.add_weight("a", (2,), initializer="ones"),
        layer.add_weight("b", shape=[2]),
        layer.add_weight("c", (2,), "float32", "ones", None, False),
        layer.add_weight("d", (2,), "ones"),
    ]
    assert [(one.name, one.shape, one.trainable) for one in named] == [
        *[(name, (2,), True) for name in "ab"],
        ("c", (2,), False),
        ("d", (2,), True),
    ]
    assert [float(one.numpy()[0]) for one in (named[0], *named[2:])] == [1, 1, 1]
    with pytest.raises(TypeError, match="multiple values for argument 'shape'"):
        layer.add_weight("e", (2,), shape=(3,))
