"""Programs that use helpers, settings, nested structures, random numbers and plain operations."""

from __future__ import annotations

import numpy as np
from parity.programs.common import classes, fill, numbers, program, raised


@program
def settings(keras):
    before = keras.backend.floatx(), keras.backend.epsilon(), keras.backend.image_data_format()
    try:
        keras.backend.set_epsilon(1e-3)
        keras.config.set_image_data_format("channels_first")
        changed = keras.config.epsilon(), keras.backend.image_data_format()
        shape = keras.layers.Conv2D(2, 3).compute_output_shape((None, 3, 8, 8))
        keras.config.set_floatx("float16")
        half = keras.config.floatx(), keras.backend.standardize_dtype(keras.ops.zeros(2).dtype)
    finally:
        keras.config.set_floatx("float32")
        keras.backend.set_epsilon(1e-7)
        keras.config.set_image_data_format("channels_last")
    standard = keras.backend.standardize_dtype
    return {
        "before": before,
        "changed": changed,
        "shape": tuple(shape),
        "half": half,
        "bad": (raised(keras.config.set_floatx, "float31"), raised(keras.config.set_image_data_format, "last")),
        "standard": [standard(dtype) for dtype in (None, float, int, "int8", np.float32, np.dtype("float64"))],
        "not standard": raised(standard, "floaty"),
        "kinds": [
            keras.backend.is_float_dtype("float16"),
            keras.backend.is_int_dtype("uint8"),
            keras.backend.is_int_dtype("bool"),
        ],
        "result": [keras.backend.result_type("int32", "float16"), keras.backend.result_type("int32", float)],
        "symbolic": (keras.backend.is_keras_tensor(keras.Input((2,))), keras.utils.is_keras_tensor(np.ones(2))),
        "policy": keras.DTypePolicy("float16").compute_dtype,
    }


@program
def helpers(keras):
    k = keras.utils
    labels = classes(6, 4)
    k.set_random_seed(7)
    first = keras.layers.Dense(3)
    first.build((None, 2))
    k.set_random_seed(7)
    second = keras.layers.Dense(3)
    second.build((None, 2))
    k.clear_session()
    names = [
        keras.layers.Dense(1).name,
        keras.layers.Dense(1).name,
        keras.layers.MaxPooling2D().name,
        keras.Sequential().name,
    ]
    return {
        "categorical": k.to_categorical(labels, 4),
        "counted": k.to_categorical([[0], [2]]),
        "normalized": k.normalize(numbers(3, 4), axis=1),
        "seeded": bool(np.array_equal(first.get_weights()[0], second.get_weights()[0])),
        "names": names,
        "packed": [len(k.pack_x_y_sample_weight(*parts)) for parts in ((1, 2), (1, 2, 3))],
        "unpacked": [k.unpack_x_y_sample_weight(data) for data in ((1,), (1, 2), (1, 2, 3))],
        "labels too large": raised(k.to_categorical, [5], 3) != "nothing",
    }


@program
def nested_structures(keras):
    tree = keras.tree
    structure = {"b": [1, (2, 3)], "a": {"x": 4}}
    return {
        "flat": tree.flatten(structure),
        "mapped": tree.map_structure(lambda x: x * 10, structure),
        "two": tree.map_structure(lambda x, y: x + y, [1, (2,)], [10, (20,)]),
        "packed": tree.pack_sequence_as(structure, [9, 8, 7, 6]),
        "nested": [tree.is_nested(one) for one in ([], (), {}, 1, "text", np.ones(2))],
        "shapes": tree.map_shape_structure(lambda shape: len(shape), {"a": (1, 2), "b": [(3,), (None, 4)]}),
        "same": (raised(tree.assert_same_structure, [1, 2], [3, 4]), raised(tree.assert_same_structure, [1, 2], [3])),
    }


@program
def random_tensors(keras):
    k = keras.random
    generator = k.SeedGenerator(42)
    draws = {
        "normal": k.normal((200, 50), mean=3.0, stddev=2.0, seed=1),
        "uniform": k.uniform((200, 50), minval=-1.0, maxval=1.0, seed=1),
        "truncated": k.truncated_normal((200, 50), seed=1),
        "whole": k.randint((200, 50), 0, 10, seed=1),
        "dropped": k.dropout(np.ones((200, 50), "float32"), 0.25, seed=1),
    }
    moments = {
        name: (np.round(float(np.mean(x)), 0) + 0.0, tuple(x.shape), keras.backend.standardize_dtype(x.dtype))
        for name, x in draws.items()
    }
    a, b = np.asarray(k.normal((3,), seed=generator)), np.asarray(k.normal((3,), seed=generator))
    chosen = np.asarray(k.categorical(np.log([[0.999, 0.0005, 0.0005]]), 20, seed=3))
    keras.utils.set_random_seed(5)
    c = np.asarray(k.normal((3,)))
    keras.utils.set_random_seed(5)
    d = np.asarray(k.normal((3,)))
    return {
        "moments": moments,
        "moves on": bool(np.any(a != b)),
        "integer repeats": bool(np.array_equal(k.uniform((3,), seed=2), k.uniform((3,), seed=2))),
        "seeded": bool(np.array_equal(c, d)),
        "chosen": (chosen.shape, bool((chosen == 0).mean() > 0.8)),
        "shuffled": np.sort(np.asarray(k.shuffle(np.arange(10, dtype="int32"), seed=1))),
        "kinds": np.unique(np.asarray(draws["dropped"])),
        "bounds": (float(np.abs(np.asarray(draws["truncated"])).max()) <= 2.0, int(np.max(draws["whole"]))),
        "types": [
            keras.backend.standardize_dtype(k.normal((1,), dtype=dtype).dtype) for dtype in ("float16", "float32")
        ],
        "bad seed": raised(k.normal, (2,), seed="x") != "nothing",
        "bad type": (
            raised(k.normal, (2,), dtype="int32") != "nothing",
            raised(k.randint, (2,), 0, 3, dtype="float32"),
        ),
    }


@program
def plain_operations(keras):
    ops = keras.ops
    x, y = numbers(3, 4), numbers(3, 4, seed=1)
    return {
        "types": [
            keras.backend.standardize_dtype(one.dtype)
            for one in (ops.arange(3), ops.zeros(2), ops.convert_to_tensor(1.5))
        ],
        "mixed": [
            keras.backend.standardize_dtype(one.dtype)
            for one in (ops.arange(3) + 1.5, ops.arange(3) * 2, ops.arange(3) / 2)
        ],
        "numpy": type(ops.convert_to_numpy(ops.ones(2))).__name__,
        "shape": (ops.shape(x), tuple(ops.convert_to_tensor(x).shape), ops.ndim(x)),
        "reductions": [
            ops.mean(x),
            ops.std(x, axis=0),
            ops.var(x, axis=1, keepdims=True),
            ops.logsumexp(x, axis=-1),
            ops.prod(x),
            ops.any(x > 2),
        ],
        "orders": [
            ops.argsort(x, axis=1),
            ops.sort(x, axis=0),
            ops.top_k(x, 2)[0],
            ops.argmax(x),
            ops.cumsum(x, axis=1),
        ],
        "shapes": [
            ops.squeeze(x[:, :1]),
            ops.moveaxis(x, 0, 1),
            ops.flip(x, axis=0),
            ops.repeat(x, 2, axis=1),
            ops.roll(x, 1, axis=0),
        ],
        "joins": [ops.vstack([x, y]), ops.hstack([x, y]), *ops.split(x, [1, 3], axis=1)],
        "picks": [
            ops.take(x, [0, 2], axis=1),
            ops.take_along_axis(x, np.array([[0], [1], [2]]), axis=1),
            ops.where(x > y, x, 0.0),
        ],
        "updates": [
            ops.scatter(np.array([[0], [2]]), np.array([1.0, 2.0], "float32"), (4,)),
            ops.scatter_update(x, np.array([[0, 1], [2, 2]]), np.array([9.0, 8.0], "float32")),
            ops.slice(x, (1, 1), (2, 2)),
            ops.slice_update(x, (1, 1), np.zeros((1, 2), "float32")),
        ],
        "products": [
            ops.dot(x, y.T),
            ops.tensordot(x, y, axes=[[0], [0]]),
            ops.einsum("ij,ij->i", x, y),
            ops.outer(x[0], y[0]),
        ],
        "functions": [
            ops.clip(x, -0.5, 0.5),
            ops.sign(x),
            ops.floor(x),
            ops.log1p(ops.abs(x)),
            ops.erf(x),
            ops.rsqrt(ops.abs(x) + 1),
        ],
        "networks": [
            ops.relu(x),
            ops.log_softmax(x),
            ops.one_hot(np.array([0, 2]), 3),
            ops.leaky_relu(x),
            ops.gelu(x, approximate=True),
        ],
        "losses": [
            ops.binary_crossentropy(ops.sigmoid(x), ops.sigmoid(y)),
            ops.sparse_categorical_crossentropy(np.array([0, 1, 3]), x, from_logits=True),
            ops.categorical_crossentropy(ops.softmax(x), ops.softmax(y)),
        ],
        "convolutions": [
            ops.conv(numbers(1, 5, 5, 2), numbers(3, 3, 2, 4, seed=2), padding="same"),
            ops.max_pool(numbers(1, 4, 4, 1), 2, strides=2),
            ops.average_pool(numbers(1, 4, 4, 1), 2, strides=1, padding="same"),
        ],
        "control": [
            ops.cond(True, lambda: x + 1, lambda: x - 1),
            ops.while_loop(lambda i, s: i < 4, lambda i, s: (i + 1, s + i), (0, 0))[1],
            ops.vectorized_map(lambda row: ops.sum(row), x),
            ops.stop_gradient(ops.convert_to_tensor(x)),
        ],
        "norm": [ops.norm(x), ops.norm(x, axis=1), ops.moments(x, axes=[0])],
        "casts": ops.cast(x, "int32"),
        "tensor": (ops.is_tensor(ops.ones(1)), ops.is_tensor(x)),
    }


@program
def tensors_as_python_objects(keras):
    ops = keras.ops
    x = ops.convert_to_tensor(numbers(3, 4))
    single = ops.sum(x)
    return {
        "numbers": (float(single), int(ops.max(ops.arange(5))), bool(ops.any(x > 0)), f"{float(single):.3f}"),
        "lengths": (len(x), [tuple(row.shape) for row in x], x.ndim, x.size),
        "numpy": (np.asarray(x), np.mean(x), np.array(x)[1:], np.sqrt(np.abs(x))),
        "mixed": (x + numbers(3, 4), numbers(3, 4) * x, x @ numbers(4, 2), 1 / (ops.abs(x) + 1), abs(x), x // 1, x % 1),
        "compared": (x > 0, x == x, (x > 0) & (x < 1), ~(x > 0), x != 0),
        "indexed": (x[0], x[-1, 2], x[:, ::2], x[..., None], x[x.shape[0] - 1], x[np.array([0, 2])]),
        "transposed": (x.T, x.reshape((4, 3)), x.astype("int32")) if hasattr(x, "astype") else None,
    }


@program
def dense_prediction_of_sizes(keras):
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3)(inputs)
    models = {
        "one": keras.Model(inputs, x),
        "list": keras.Model(inputs, [x]),
        "two": keras.Model(inputs, [x, x + 1]),
        "tuple": keras.Model(inputs, (x, x + 1)),
        "dict": keras.Model(inputs, {"a": x, "b": x + 1}),
        "nested": keras.Model(inputs, {"a": [x, x + 1], "b": (x,)}),
        "pass through": keras.Model(inputs, inputs),
    }
    data = numbers(5, 4)
    for model in models.values():
        if model.weights:
            fill(model)
    return {
        name: (
            model.predict(data, batch_size=2, verbose=0),
            model.predict_on_batch(data),
            model(data),
            model.output_shape,
        )
        for name, model in models.items()
    }
