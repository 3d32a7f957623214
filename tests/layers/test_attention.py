"""Attention layers: what holds for every layer, masks, dropout, seeds, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from minikeras import layers, ops
from minikeras.autodiff import check_gradients
from minikeras.layers import Input
from minikeras.models import Model

RNG = np.random.default_rng(0)
Q, V = RNG.standard_normal((2, 3, 4)), RNG.standard_normal((2, 5, 4))

WITH_HEADS = [
    (layers.MultiHeadAttention, {"num_heads": 2, "key_dim": 3}),
    (layers.MultiHeadAttention, {"num_heads": 2, "key_dim": 3, "value_dim": 2, "use_gate": True, "output_shape": 3}),
    (layers.GroupQueryAttention, {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2}),
]


@pytest.mark.parametrize(
    ("cls", "arguments"), [(layers.Attention, {"use_scale": True}), (layers.AdditiveAttention, {})]
)
def test_layers_of_lists(check_layer, cls, arguments):
    check_layer(cls, arguments, [Q, V])
    check_layer(cls, arguments, [Q, V, V[..., ::-1].copy()])


@pytest.mark.parametrize(
    ("equation", "output_shape", "bias_axes"),
    [("abc,cd->abd", (None, 3), "d"), ("abc,cde->aebd", (2, None, 3), None), ("...c,cd->...d", 3, "d")],
)
def test_einsum_dense(check_layer, equation, output_shape, bias_axes):
    x = Q
    if "aebd" in equation:
        layer = layers.EinsumDense(equation, output_shape, dtype="float64")
        check_gradients(layer, x)
        np.testing.assert_allclose(layer(x), np.einsum(equation, x, layer.kernel.numpy()))
        return
    layer = layers.EinsumDense(equation, output_shape, bias_axes=bias_axes, activation="tanh", dtype="float64")
    layer(x)
    layer.set_weights([RNG.standard_normal(w.shape) for w in layer.weights])
    expected = np.tanh(np.einsum(equation, x, layer.kernel.numpy()) + layer.bias.numpy())
    np.testing.assert_allclose(layer(x), expected)
    check_gradients(layer, x, variables=layer.trainable_variables)


@pytest.mark.parametrize(("cls", "arguments"), WITH_HEADS)
@pytest.mark.parametrize("call", [{}, {"use_causal_mask": True}, {"return_attention_scores": True}], ids=str)
def test_gradients_configuration_and_symbolic_shape(cls, arguments, call):
    layer = cls(dtype="float64", **arguments)
    layer(Q, V)
    layer.set_weights([RNG.standard_normal(w.shape) for w in layer.weights])
    check_gradients(lambda q, v: layer(q, v, **call), Q, V, variables=layer.trainable_variables, rtol=1e-4)
    check_gradients(lambda x: layer(x, x, **call), Q, variables=layer.trainable_variables, rtol=1e-4)
    copy = cls.from_config(layer.get_config())
    copy(Q, V)
    copy.set_weights(layer.get_weights())
    results, copies = (one(Q, V, **call) for one in (layer, copy))
    symbolic = layer(Input(Q.shape[1:], dtype="float64"), Input(V.shape[1:], dtype="float64"), **call)
    if not call.get("return_attention_scores"):
        results, copies, symbolic = [results], [copies], [symbolic]
    for result, again, promised in zip(results, copies, symbolic, strict=True):
        assert np.array_equal(result, again)
        assert promised.shape == (None, *result.shape[1:])


@pytest.mark.parametrize(("cls", "arguments"), WITH_HEADS)
def test_dropout(cls, arguments):
    layer = cls(dropout=0.4, seed=3, dtype="float64", **arguments)
    plain = layer(Q, V)
    assert np.array_equal(plain, layer(Q, V, training=False))
    first, second = layer(Q, V, training=True), layer(Q, V, training=True)
    assert not np.allclose(first, second)
    again = cls.from_config(layer.get_config())
    again(Q, V)
    again.set_weights(layer.get_weights())
    assert np.array_equal(again(Q, V, training=True), first)
    mean = np.mean([np.asarray(layer(Q, V, training=True)) for _ in range(3000)], axis=0)
    np.testing.assert_allclose(mean, plain, atol=0.05)

    def fresh(q, v):
        one = cls.from_config(layer.get_config())
        one.build(Q.shape, V.shape)
        one.set_weights(layer.get_weights())
        return one(q, v, training=True)

    check_gradients(fresh, Q, V, rtol=1e-4)


def test_luong_dropout():
    layer = layers.Attention(dropout=0.5, seed=1)
    inputs = [Q, V, V]
    assert np.array_equal(layer(inputs), layer(inputs))
    _, weights = layer(inputs, training=True, return_attention_scores=True)
    ratio = np.asarray(weights) / np.asarray(layer(inputs, return_attention_scores=True)[1])
    assert set(np.round(ratio, 4).ravel()) == {0, 2}


def test_masked_sources_do_not_count(masked):
    layer = layers.MultiHeadAttention(2, 3)
    v = V.astype("float32")
    mask = np.array([[1, 1, 1, 0, 0], [1, 0, 1, 0, 1]], bool)
    y, weights = layer(
        masked(Q.astype("float32"), [[1, 1, 0], [1, 1, 1]]), masked(v, mask), return_attention_scores=True
    )
    assert np.array_equal(y._keras_mask, [[1, 1, 0], [1, 1, 1]])
    weights = np.asarray(weights)
    assert not weights[:, :, :, ~mask[0]][0].any()
    np.testing.assert_allclose(weights[0, :, :2].sum(-1), 1, rtol=1e-6)
    assert not weights[0, :, 2].any()
    other = v.copy()
    other[~mask] = 7
    y = layer(Q.astype("float32"), masked(v, mask))
    np.testing.assert_allclose(layer(Q.astype("float32"), masked(other, mask)), y, rtol=1e-6)


def test_masks_reach_it_in_a_model():
    tokens = Input((5,))
    x = layers.Embedding(9, 4, mask_zero=True)(tokens)
    attention = layers.MultiHeadAttention(2, 3)
    model = Model(tokens, attention(x, x))
    data = np.array([[1, 2, 3, 0, 0]], "float32")
    longer = np.array([[1, 2, 3, 0, 0]], "float32")
    table = model.layers[1].embeddings
    y = model.predict(data, verbose=0)
    changed = table.numpy()
    changed[0] = 5
    table.assign(changed)
    np.testing.assert_allclose(model.predict(longer, verbose=0)[:, :3], y[:, :3], rtol=1e-6)


def test_causal_steps_do_not_see_ahead():
    for layer in (layers.MultiHeadAttention(2, 3), layers.GroupQueryAttention(3, 2, 1)):
        y = np.asarray(layer(V, V, use_causal_mask=True))
        changed = V.copy()
        changed[:, 3:] = 9
        again = np.asarray(layer(changed, changed, use_causal_mask=True))
        np.testing.assert_allclose(again[:, :3], y[:, :3], rtol=1e-5)
        assert not np.allclose(again[:, 3:], y[:, 3:])


def test_the_mask_of_the_query_stays():
    mask = np.array([[True, False]])
    for layer in (layers.Attention(), layers.AdditiveAttention()):
        assert layer.compute_mask([Q, V], mask=[mask, None]) is mask
        assert layer.compute_mask([Q, V], mask=None) is None


def test_a_subclass_may_attend_differently():
    class Mean(layers.MultiHeadAttention):
        def _compute_attention(
            self, query, key, value, attention_mask=None, training=None, return_attention_scores=False
        ):
            assert attention_mask.shape == (1, 3, 5)
            return ops.repeat(ops.mean(value, axis=1, keepdims=True), query.shape[1], axis=1), None

    y = np.asarray(Mean(2, 3)(Q, V, use_causal_mask=True))
    np.testing.assert_allclose(y[:, :1].repeat(3, 1), y, rtol=1e-6)


def test_projections_start_differently_each():
    layer = layers.MultiHeadAttention(2, 3)
    layer.build(Q.shape, V.shape)
    assert not np.array_equal(layer.query_dense.kernel, layer.key_dense.kernel)
    assert layer._query_dense is layer.query_dense and layer._output_dense is layer.output_dense
    assert len(layer.weights) == 8
    limit = np.sqrt(6 / (4 + 2 * 3))  # the fans are those of the product, not of the kernel's last axes
    assert 0.8 * limit < np.abs(layer.query_dense.kernel.numpy()).max() <= limit


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: layers.MultiHeadAttention(0, 3), "num_heads"),
        (lambda: layers.MultiHeadAttention(2, 1.5), "key_dim"),
        (lambda: layers.MultiHeadAttention(2, 3, value_dim=-1), "value_dim"),
        (lambda: layers.MultiHeadAttention(2, 3, attention_axes="1"), "attention_axes"),
        (lambda: layers.MultiHeadAttention(2, 3, sliding_window=0), "sliding_window"),
        (lambda: layers.MultiHeadAttention(2, 3, dropout=0.5, flash_attention=True), "flash_attention"),
        (lambda: layers.MultiHeadAttention(2, 3)(Q, V, V[:, 1:]), "last axis"),
        (
            lambda: layers.MultiHeadAttention(2, 3, flash_attention=True)(Q, V, return_attention_scores=True),
            "flash_attention",
        ),
        (lambda: layers.GroupQueryAttention(3, 3, 2), "divides"),
        (lambda: layers.Attention(score_mode="sum"), "score_mode"),
        (lambda: layers.Attention()(Q), "list"),
        (lambda: layers.AdditiveAttention()([Q]), "list"),
        (lambda: layers.EinsumDense("ab,bc", 3)(Q), "form"),
        (lambda: layers.EinsumDense("ab,bc->ac", 3)(Q), "2 axes"),
        (lambda: layers.EinsumDense("abc,cd->abd", (7, 3))(Q), "long"),
        (lambda: layers.EinsumDense("abc,cd->abd", 3)(Q), "output_shape"),
        (lambda: layers.EinsumDense("abc,cd->abd", 3).compute_output_shape(Q.shape), "output_shape"),
        (lambda: layers.EinsumDense("abc,cd->abd", (None, 3), bias_axes="bd")(Q), "bias's shape open"),
        (lambda: layers.EinsumDense("abc,ce->abd", (None, 3))(Q), "one side"),
        (lambda: layers.EinsumDense("abc,cd->abd", (None, None))(Q), "open"),
        (lambda: layers.EinsumDense("abc,cd->abd", (None, 3), bias_axes="e")(Q), "bias_axes"),
        (lambda: ops.dot_product_attention(Q, V, V), "steps, heads, size"),
        (lambda: ops.dot_product_attention(Q[None], V[None], V[None, :, :, :3], attn_logits_soft_cap=1.0), "soft cap"),
        (lambda: ops.dot_product_attention(Q[None], V[None], V[None]), "groups"),
    ],
)
def test_what_is_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong()
