"""Attention against real Keras: configuration, weights, outputs, gradients, masks, files."""

from __future__ import annotations

import inspect
import json

import jax
import keras
import numpy as np
import pytest
from signatures import by_position

import minikeras
from minikeras import layers, ops
from minikeras.autodiff import Tensor, backward, recording

Q, V, KEY = (3, 5, 8), (3, 7, 8), (3, 7, 6)
IMAGE = (2, 4, 3, 8)

# (class, arguments, shapes of query, value and perhaps key)
HEADS = [
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 4}, [Q, V]),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 4, "value_dim": 3, "use_bias": False}, [Q, V, KEY]),
    ("MultiHeadAttention", {"num_heads": 3, "key_dim": 2, "output_shape": 5, "kernel_regularizer": "l2"}, [Q, KEY]),
    ("MultiHeadAttention", {"num_heads": 1, "key_dim": 2, "output_shape": (2, 3), "use_gate": True}, [Q, V]),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 4, "sliding_window": 2, "bias_constraint": "max_norm"}, [Q, V]),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 4, "activity_regularizer": "l2"}, [Q, V]),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 4, "attention_axes": 1}, [Q, V]),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 4}, [IMAGE, IMAGE]),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 4, "attention_axes": (2,)}, [IMAGE, IMAGE]),
    ("MultiHeadAttention", {"num_heads": 2, "key_dim": 4, "attention_axes": [-2], "value_dim": 3}, [IMAGE, IMAGE]),
    ("GroupQueryAttention", {"head_dim": 4, "num_query_heads": 4, "num_key_value_heads": 2}, [Q, V]),
    (
        "GroupQueryAttention",
        {"head_dim": 3, "num_query_heads": 3, "num_key_value_heads": 1, "use_gate": True, "use_bias": False},
        [Q, V, V],
    ),
    (
        "GroupQueryAttention",
        {"head_dim": 3, "num_query_heads": 2, "num_key_value_heads": 2, "sliding_window": 1},
        [Q, V],
    ),
]
LISTS = [
    ("Attention", {}, [Q, V]),
    ("Attention", {"use_scale": True, "score_mode": "concat"}, [Q, V, V]),
    ("Attention", {"use_scale": True}, [Q, (3, 7, 4), V]),
    ("AdditiveAttention", {}, [Q, V]),
    ("AdditiveAttention", {"use_scale": False}, [Q, V, V]),
]
EINSUMS = [
    ({"equation": "abc,cd->abd", "output_shape": (None, 5), "bias_axes": "d"}, Q),
    ({"equation": "abc,cde->abde", "output_shape": (None, 5, 2), "bias_axes": "de", "activation": "relu"}, Q),
    ({"equation": "abcd,cde->abe", "output_shape": (None, 5)}, IMAGE),
    ({"equation": "abc,cde->abed", "output_shape": (None, 2, 5), "bias_axes": "e"}, Q),
    ({"equation": "...x,xy->...y", "output_shape": 6, "bias_axes": "y", "kernel_regularizer": "l1"}, (2, 4, 4, 8)),
    ({"equation": "...x,xy->...y", "output_shape": 6, "bias_axes": "y"}, (3, 8)),
    ({"equation": "abx...,xy->aby...", "output_shape": (4, 6), "bias_axes": "y"}, IMAGE),
    ({"equation": "ab,bc->ac", "output_shape": 6, "kernel_initializer": "he_normal"}, (3, 8)),
    ({"equation": "abc,bd->adc", "output_shape": (4, 8), "bias_axes": "dc"}, Q),
]


def numbers(case):
    return "-".join(str(part) for part in case).replace(" ", "")


def close(ours, theirs, rtol=2e-5, atol=5e-6):
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=rtol, atol=atol)


def as_json(config):
    return json.loads(json.dumps(config), parse_float=lambda digits: float(f"{float(digits):.6g}"))


def draw(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype("float32") for shape in shapes]


def pair(name, arguments, shapes):
    """(ours, theirs, how each is called with a list) with equal random weights."""
    ours = getattr(layers, name)(name="layer", **arguments)
    theirs = getattr(keras.layers, name)(name="layer", **arguments)
    for layer in (ours, theirs):
        layer.build(shapes[0]) if name == "EinsumDense" else layer.build(*shapes)
    rng = np.random.default_rng(1)
    weights = [rng.standard_normal(w.shape).astype("float32") / 2 for w in theirs.weights]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    return ours, theirs


def list_pair(name, arguments, shapes):
    ours = getattr(layers, name)(name="layer", **arguments)
    theirs = getattr(keras.layers, name)(name="layer", **arguments)
    for layer in (ours, theirs):
        layer.build(shapes)
    for w, v in zip(ours.weights, theirs.weights, strict=True):
        w.assign(np.random.default_rng(2).standard_normal(w.shape))
        v.assign(np.asarray(w))
    return ours, theirs


def compare_descriptions(ours, theirs):
    assert as_json(ours.get_config()) == as_json(theirs.get_config())
    assert [(w.path, tuple(w.shape), w.trainable) for w in ours.weights] == [
        (w.path, tuple(w.shape), w.trainable) for w in theirs.weights
    ]
    assert ours.supports_masking == theirs.supports_masking
    restored = type(ours).from_config(as_json(theirs.get_config()))
    assert as_json(restored.get_config()) == as_json(type(theirs).from_config(theirs.get_config()).get_config())
    beyond = ("lora_rank", "lora_alpha", "gptq_unpacked_column_size", "quantization_config")
    assert list(by_position(type(ours))) == [name for name in by_position(type(theirs)) if name not in beyond]
    assert list(inspect.signature(type(ours).call).parameters) == list(inspect.signature(type(theirs).call).parameters)


def compare_gradients(ours, theirs, inputs, as_list, **call):
    """Outputs (all of them), gradients at weights and inputs, losses."""

    def function(trainable, values):
        arguments = [values] if as_list else values
        return theirs.stateless_call(
            trainable, [v.value for v in theirs.non_trainable_variables], *arguments, return_losses=True, **call
        )

    def flat(trainable, values):
        outputs, _, losses = function(trainable, values)
        return jax.tree_util.tree_leaves(outputs), losses

    trainable = [v.value for v in theirs.trainable_variables]
    expected, pull, losses = jax.vjp(flat, trainable, inputs, has_aux=True)
    seeds = [np.random.default_rng(5 + i).standard_normal(y.shape).astype("float32") for i, y in enumerate(expected)]
    wanted = jax.tree_util.tree_leaves(pull(seeds))
    tensors = [Tensor(x, tracked=True) for x in inputs]
    with recording():
        outputs = ours(tensors, **call) if as_list else ours(*tensors, **call)
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        total = sum(ops.sum(y * seed) for y, seed in zip(outputs, seeds, strict=True))
    for y, expected_y in zip(outputs, expected, strict=True):
        close(y, expected_y)
    gradients = backward(total, [*ours.trainable_variables, *tensors])
    for gradient, one in zip(gradients, wanted, strict=True):
        close(np.zeros(one.shape) if gradient is None else gradient, one, atol=2e-5)
    close(sum(float(loss) for loss in ours.losses), sum(float(loss) for loss in losses))


CALLS = {
    "plain": {},
    "scores": {"return_attention_scores": True},
    "causal": {"use_causal_mask": True},
    "causal scores": {"use_causal_mask": True, "return_attention_scores": True},
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("case", HEADS, ids=numbers)
def test_heads(case, call):
    ours, theirs = pair(*case)
    compare_descriptions(ours, theirs)
    assert tuple(ours.compute_output_shape(*case[2])) == tuple(theirs.compute_output_shape(*case[2]))
    if "causal" in call and len(case[2][0]) == 4:
        return  # Keras's causal mask has no meaning for pictures
    if case[1].get("value_dim", 4) != 4 and "scores" not in call and len(case[2][0]) == 3:
        call = f"{call} scores".removeprefix("plain ")  # without them Keras on JAX takes values for as wide as keys
    compare_gradients(ours, theirs, draw(case[2]), False, **CALLS[call])


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("case", LISTS, ids=numbers)
def test_lists(case, call):
    ours, theirs = list_pair(*case)
    compare_descriptions(ours, theirs)
    assert tuple(ours.compute_output_shape(case[2])) == tuple(theirs.compute_output_shape(case[2]))
    compare_gradients(ours, theirs, draw(case[2]), True, **CALLS[call])


@pytest.mark.parametrize("case", EINSUMS, ids=numbers)
def test_einsum_dense(case):
    arguments, shape = case
    ours, theirs = pair("EinsumDense", arguments, [shape])
    compare_descriptions(ours, theirs)
    assert tuple(ours.compute_output_shape(shape)) == tuple(theirs.compute_output_shape(shape))
    compare_gradients(ours, theirs, draw([shape]), False)


@pytest.mark.parametrize(
    ("equation", "output_shape", "bias_axes", "shape"),
    [
        ("ab,bc", 3, None, (2, 4)),
        ("abc,cd->abd", (9, 5), None, Q),
        ("abc,cd->abe", (None, 5), None, Q),
        ("abc,de->abd", (None, 5), None, Q),
        ("abc,cd->abd", (None, 5), "e", Q),
    ],
)
def test_einsum_dense_refuses_what_keras_refuses(equation, output_shape, bias_axes, shape):
    for module in (keras.layers, layers):
        with pytest.raises(ValueError):
            module.EinsumDense(equation, output_shape, bias_axes=bias_axes).build(shape)


def test_self_attention_of_one_tensor():
    ours, theirs = pair("MultiHeadAttention", {"num_heads": 2, "key_dim": 4}, [Q, Q])
    x = draw([Q])[0]

    def call(trainable, x):
        return theirs.stateless_call(trainable, [], x, x)[0]

    expected, pull = jax.vjp(call, [v.value for v in theirs.trainable_variables], x)
    seed = draw([Q], 3)[0]
    tensor = Tensor(x, tracked=True)
    with recording():
        y = ours(tensor, tensor)
    close(y, expected)
    wanted = jax.tree_util.tree_leaves(pull(seed))
    for gradient, one in zip(backward(y, [*ours.trainable_variables, tensor], seed), wanted, strict=True):
        close(gradient, one, atol=2e-5)


# ---------------------------------------------------------------- masks


@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("rank", [2, 3, 4])
@pytest.mark.parametrize("name", ["MultiHeadAttention", "GroupQueryAttention"])
def test_attention_mask(name, rank, causal, scores):
    arguments = {
        "MultiHeadAttention": {"num_heads": 4, "key_dim": 3},
        "GroupQueryAttention": {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2},
    }[name]
    ours, theirs = pair(name, arguments, [Q, V])
    if rank == 2 and name == "GroupQueryAttention" and not scores and not causal:
        rank = 3
    mask = np.random.default_rng(0).random((3, 4, 5, 7)[4 - rank :] if rank != 3 else (3, 5, 7)) < 0.6
    mask[..., 2, :] = False  # one step may attend to nothing
    call = {"attention_mask": mask, "use_causal_mask": causal, "return_attention_scores": scores}
    compare_gradients(ours, theirs, draw([Q, V]), False, **call)


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize("name", ["MultiHeadAttention", "GroupQueryAttention", "Attention", "AdditiveAttention"])
def test_masks_of_inputs(name, scores, explicit):
    """From `Masking`, or as arguments; where a step is masked, where a source is, and where all sources are."""
    arguments = {
        "MultiHeadAttention": {"num_heads": 2, "key_dim": 4},
        "GroupQueryAttention": {"head_dim": 4, "num_query_heads": 2, "num_key_value_heads": 1},
    }.get(name, {})
    with_heads = bool(arguments)
    ours, theirs = pair(name, arguments, [Q, V]) if with_heads else list_pair(name, arguments, [Q, V])
    inputs = draw([Q, V])
    masks = [np.random.default_rng(3 + i).random(x.shape[:2]) < 0.6 for i, x in enumerate(inputs)]
    masks[1][2] = False
    results = []
    for layer, module in ((ours, layers), (theirs, keras.layers)):
        call = {"return_attention_scores": scores}
        if explicit:
            values = [module.Identity()(x) for x in inputs]
            if with_heads:
                call |= {"query_mask": masks[0], "value_mask": masks[1]}
            else:
                call |= {"mask": [keras.ops.convert_to_tensor(m) if layer is theirs else Tensor(m) for m in masks]}
        else:
            values = [module.Masking()(x * mask[..., None]) for x, mask in zip(inputs, masks, strict=True)]
        y = layer(*values, **call) if with_heads else layer(values, **call)
        outputs = list(y) if scores else [y]
        results.append([np.asarray(one) for one in outputs])
        results[-1].append(getattr(outputs[0], "_keras_mask", None))
    for a, b in zip(*results, strict=True):
        assert (a is None) == (b is None)
        assert a is None or np.allclose(np.asarray(a), np.asarray(b), rtol=2e-5, atol=5e-6)


# ---------------------------------------------------------------- operations


@pytest.mark.parametrize("groups", [4, 2, 1])
@pytest.mark.parametrize(
    "settings",
    [{}, {"scale": 0.3}, {"is_causal": True}, {"mask": True}, {"bias": True, "mask": True}, {"bias": True}],
    ids=str,
)
def test_dot_product_attention(settings, groups):
    inputs = draw([(2, 5, 4, 3), (2, 7, groups, 3), (2, 7, groups, 3)])
    options = dict(settings)
    rng = np.random.default_rng(0)
    if "mask" in options:
        options["mask"] = rng.random((2, 4, 5, 7)) < 0.5
    if "bias" in options:
        options["bias"] = rng.standard_normal((1, 4, 5, 7)).astype("float32")
    expected, pull = jax.vjp(lambda *values: keras.ops.dot_product_attention(*values, **options), *inputs)
    seed = draw([expected.shape], 9)[0]
    tensors = [Tensor(x, tracked=True) for x in inputs]
    with recording():
        y = ops.dot_product_attention(*tensors, **options)
    close(y, expected)
    for gradient, wanted in zip(backward(y, tensors, seed), pull(seed), strict=True):
        close(gradient, wanted)


# ---------------------------------------------------------------- files


def block(K):
    """A transformer's block with masks, as text has it."""
    L = K.layers
    tokens = K.Input((6,))
    x = L.Embedding(20, 8, mask_zero=True)(tokens)
    attended = L.MultiHeadAttention(2, 4, use_gate=True)(x, x, use_causal_mask=True)
    x = L.LayerNormalization()(L.Add()([x, attended]))
    x = L.GroupQueryAttention(4, 4, 2)(x, x)
    x = L.EinsumDense("abc,cd->abd", (None, 5), bias_axes="d")(x)
    model = K.Model(tokens, L.Dense(3)(L.GlobalAveragePooling1D()(x)))
    model.compile("adam", "mse")
    rng = np.random.default_rng(0)
    return model, rng.integers(0, 20, (4, 6)).astype("float32"), rng.standard_normal((4, 3)).astype("float32")


def cross(K):
    """Attention between two inputs, all kinds of it."""
    L = K.layers
    a, b = K.Input((5, 8)), K.Input((7, 8))
    x = L.MultiHeadAttention(2, 4, output_shape=8)(a, b)
    y = L.Attention(use_scale=True)([x, b])
    z = L.AdditiveAttention()([y, b])
    z = K.ops.dot_product_attention(L.Reshape((5, 2, 4))(z), L.Reshape((7, 2, 4))(b), L.Reshape((7, 2, 4))(b))
    model = K.Model([a, b], L.Dense(3)(L.Flatten()(z)))
    model.compile("sgd", "mse")
    return model, draw([(4, 5, 8), (4, 7, 8)]), draw([(4, 3)])[0]


@pytest.mark.parametrize("build", [block, cross])
def test_files_both_ways(build, tmp_path):
    for source, target in ((minikeras, keras), (keras, minikeras)):
        model, x, y = build(source)
        model.train_on_batch(x, y)
        model.save(tmp_path / "m.keras")
        model.save_weights(tmp_path / "w.weights.h5")
        copy = target.models.load_model(tmp_path / "m.keras")
        other = build(target)[0]
        other.load_weights(tmp_path / "w.weights.h5")
        for one in (copy, other):
            for a, b in zip(one.get_weights(), model.get_weights(), strict=True):
                close(a, b)
            close(one.predict(x, verbose=0), model.predict(x, verbose=0))
        for _ in range(2):
            close(copy.train_on_batch(x, y), model.train_on_batch(x, y), rtol=2e-4)
        for a, b in zip(copy.get_weights(), model.get_weights(), strict=True):
            close(a, b, rtol=2e-4, atol=2e-4)
