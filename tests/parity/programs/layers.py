"""Programs with layers, losses, metrics, penalties and starting values of their own."""

from __future__ import annotations

import json

import numpy as np
from parity.programs.common import classes, fill, numbers, program, raised


@program
def own_dense_layer(keras):
    class Linear(keras.layers.Layer):
        def __init__(self, units=32, activation=None, **kwargs):
            super().__init__(**kwargs)
            self.units = units
            self.activation = keras.activations.get(activation)

        def build(self, input_shape):
            self.w = self.add_weight(
                shape=(input_shape[-1], self.units), initializer="random_normal", trainable=True, name="w"
            )
            self.b = self.add_weight(shape=(self.units,), initializer="zeros", regularizer="l2", name="b")

        def call(self, inputs):
            return self.activation(keras.ops.matmul(inputs, self.w) + self.b)

        def get_config(self):
            config = super().get_config()
            config.update({"units": self.units, "activation": keras.activations.serialize(self.activation)})
            return config

    layer = Linear(4, activation="relu", name="mine")
    unbuilt = layer.built, len(layer.weights), raised(layer.count_params)
    y = layer(np.ones((2, 3)))
    again = Linear.from_config(layer.get_config())
    model = keras.Sequential([keras.Input((3,)), Linear(5, "tanh"), Linear(2)])
    fill(model)
    x, target = numbers(8, 3), numbers(8, 2, seed=1)
    model.compile("sgd", "mse")
    history = model.fit(x, target, batch_size=4, epochs=2, shuffle=False, verbose=0).history
    parsed = keras.models.model_from_json(model.to_json(), custom_objects={"Linear": Linear})
    return {
        "unbuilt": unbuilt,
        "built": (layer.built, tuple(y.shape), [w.name for w in layer.weights], [w.path for w in layer.weights]),
        "config": layer.get_config(),
        "again": (again.units, again.name, again.built),
        "losses": len(layer.losses),
        "history": history,
        "parsed": [type(one).__name__ for one in parsed.layers],
        "without custom_objects": raised(keras.models.model_from_json, model.to_json()) != "nothing",
        "unknown argument": raised(Linear, 3, colour="red"),
    }


@program
def counters_and_state(keras):
    class ComputeSum(keras.layers.Layer):
        def __init__(self, size):
            super().__init__()
            self.total = self.add_weight(initializer="zeros", shape=(size,), trainable=False)

        def call(self, inputs):
            self.total.assign_add(keras.ops.sum(inputs, axis=0))
            return self.total

    layer = ComputeSum(2)
    first = np.asarray(layer(np.ones((2, 2)))).copy()
    second = np.asarray(layer(np.ones((2, 2)))).copy()
    counter = keras.Variable(0, dtype="int32", trainable=False, name="counter")
    counter.assign_add(3)
    matrix = keras.Variable(np.ones((2, 3)), name="matrix")
    matrix.assign(matrix * 2 + 1)
    matrix.assign_sub(np.full((2, 3), 0.5))
    return {
        "calls": (first, second),
        "weights": (len(layer.weights), len(layer.trainable_weights), len(layer.non_trainable_weights)),
        "counter": (int(counter.numpy()), counter.shape, keras.backend.standardize_dtype(counter.dtype)),
        "matrix": (matrix.numpy(), matrix.name, keras.ops.matmul(matrix, numbers(3, 1))),
        "arithmetic": (matrix + 1, 1 - matrix, matrix / 2, -matrix, matrix[0], matrix**2, 2.0 * matrix),
        "wrong shape": raised(matrix.assign, np.ones((3, 3))),
        "from function": keras.Variable(lambda shape, dtype=None: np.full(shape, 2.0, dtype), shape=(2,)).numpy(),
    }


@program
def losses_added_in_layers(keras):
    class Penalty(keras.layers.Layer):
        def __init__(self, rate=1e-2):
            super().__init__()
            self.rate = rate

        def call(self, inputs):
            self.add_loss(self.rate * keras.ops.mean(inputs**2))
            return inputs

    class Outer(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = Penalty(0.5)
            self.dense = keras.layers.Dense(3, kernel_regularizer=keras.regularizers.L2(1e-3))

        def call(self, inputs):
            return self.inner(self.dense(inputs))

    layer = Outer()
    empty = len(layer.losses)
    layer(numbers(4, 5))
    once = len(layer.losses)
    layer(numbers(4, 5))
    twice = len(layer.losses)
    model = keras.Sequential([keras.Input((5,)), Outer(), keras.layers.Dense(1, activity_regularizer="l2")])
    fill(model)
    x = numbers(6, 5)
    model.compile("sgd", "mse", metrics=["mae"])
    return {
        "counts": (empty, once, twice),
        "evaluation": model.evaluate(x, np.ones((6, 1)), verbose=0),
        "history": model.fit(x, np.ones((6, 1)), batch_size=3, epochs=2, shuffle=False, verbose=0).history,
    }


@program
def only_added_losses(keras):
    class Reconstruct(keras.Model):
        def __init__(self):
            super().__init__()
            self.encode, self.decode = keras.layers.Dense(2, activation="tanh"), keras.layers.Dense(5)

        def call(self, x):
            decoded = self.decode(self.encode(x))
            self.add_loss(keras.ops.mean(keras.ops.square(decoded - x)))
            return decoded

    model = Reconstruct()
    x = numbers(8, 5)
    model(x)
    fill(model)
    model.compile("sgd")
    return model.fit(x, batch_size=4, epochs=2, shuffle=False, verbose=0).history, model.predict(x, verbose=0)


@program
def variational_autoencoder(keras):
    ops, layers = keras.ops, keras.layers

    class Sampling(layers.Layer):
        def __init__(self, stddev=1.0, **kwargs):
            super().__init__(**kwargs)
            self.seed_generator = keras.random.SeedGenerator(1337)
            self.stddev = stddev

        def call(self, inputs):
            mean, log_variance = inputs
            batch, size = ops.shape(mean)[0], ops.shape(mean)[1]
            noise = keras.random.normal(shape=(batch, size), stddev=self.stddev, seed=self.seed_generator)
            return mean + ops.exp(0.5 * log_variance) * noise

    class Encoder(layers.Layer):
        def __init__(self, size, hidden, stddev):
            super().__init__(name="encoder")
            self.project = layers.Dense(hidden, activation="relu")
            self.mean, self.log_variance = layers.Dense(size), layers.Dense(size)
            self.sampling = Sampling(stddev)

        def call(self, inputs):
            x = self.project(inputs)
            mean, log_variance = self.mean(x), self.log_variance(x)
            return mean, log_variance, self.sampling((mean, log_variance))

    class Autoencoder(keras.Model):
        def __init__(self, original, size, stddev):
            super().__init__(name="vae")
            self.encoder = Encoder(size, 6, stddev)
            self.decoder = keras.Sequential(
                [layers.Dense(6, "relu"), layers.Dense(original, "sigmoid")], name="decoder"
            )

        def call(self, inputs):
            mean, log_variance, z = self.encoder(inputs)
            divergence = -0.5 * ops.mean(log_variance - ops.square(mean) - ops.exp(log_variance) + 1)
            self.add_loss(divergence)
            return self.decoder(z)

    x = np.abs(numbers(12, 8)) / 4
    results = {}
    for stddev in (0.0, 1.0):
        model = Autoencoder(8, 3, stddev)
        model(x)
        fill(model, scale=0.1)
        model.compile(keras.optimizers.Adam(1e-3), loss=keras.losses.MeanSquaredError())
        history = model.fit(x, x, epochs=2, batch_size=6, shuffle=False, verbose=0).history
        results[stddev] = history if stddev == 0 else sorted(history)
    sampled = Sampling()([np.zeros((40, 50), "float32"), np.zeros((40, 50), "float32")])
    results["noise"] = tuple(sampled.shape), abs(float(ops.mean(sampled))) < 0.1, abs(float(ops.std(sampled)) - 1) < 0.1
    return results


@program
def own_loss_and_metric(keras):
    ops = keras.ops

    class CustomMSE(keras.losses.Loss):
        def __init__(self, factor=0.1, name="custom_mse", **kwargs):
            super().__init__(name=name, **kwargs)
            self.factor = factor

        def call(self, y_true, y_pred):
            return ops.mean(ops.square(y_true - y_pred), axis=-1) + self.factor * ops.mean(
                ops.square(0.5 - y_pred), axis=-1
            )

    class TruePositives(keras.metrics.Metric):
        def __init__(self, name="hits", **kwargs):
            super().__init__(name=name, **kwargs)
            self.hits = self.add_variable(shape=(), initializer="zeros", name="tp")

        def update_state(self, y_true, y_pred, sample_weight=None):
            hit = ops.logical_and(ops.equal(y_true, 1.0), ops.greater(y_pred, 0.5))
            hit = ops.cast(hit, self.dtype)
            if sample_weight is not None:
                hit = hit * ops.cast(sample_weight, self.dtype)
            self.hits.assign(self.hits + ops.sum(hit))

        def result(self):
            return self.hits.value

        def reset_state(self):
            self.hits.assign(0.0)

    def half(y_true, y_pred):
        return ops.mean(ops.abs(y_true - y_pred), axis=-1) / 2

    model = fill(keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, activation="sigmoid")]))
    x, y = numbers(20, 4), classes(20, 2)[:, None].astype("float32")
    model.compile(
        "adam", CustomMSE(0.3), metrics=[TruePositives(), half, "binary_accuracy", keras.metrics.AUC(name="auc")]
    )
    history = model.fit(x, y, batch_size=5, epochs=2, shuffle=False, verbose=0, validation_split=0.25).history
    metric = TruePositives()
    metric.update_state(np.array([[1.0], [1.0]]), np.array([[0.9], [0.1]]))
    first = float(metric.result())
    metric.reset_state()
    return {
        "history": history,
        "evaluation": model.evaluate(x, y, verbose=0),
        "names": [m.name for m in model.metrics],
        "metric": (first, float(metric.result()), [v.name for v in metric.variables]),
        "per sample": CustomMSE(reduction=None)(y, np.full((20, 1), 0.25, "float32")),
        "weighted": CustomMSE(0.0)(y, np.full((20, 1), 0.25, "float32"), sample_weight=np.arange(20.0)),
        "config": sorted(CustomMSE().get_config()),
    }


@program
def metrics_on_their_own(keras):
    m = keras.metrics
    accuracy = m.SparseTopKCategoricalAccuracy(k=2, name="top2")
    accuracy.update_state([2, 1], [[0.1, 0.9, 0.8], [0.05, 0.95, 0.0]])
    accuracy.update_state([0], [[0.1, 0.2, 0.7]])
    mean = m.Mean()
    called = mean([1.0, 3.0, 5.0, 7.0], sample_weight=[1, 1, 0, 0])
    mean.update_state(10.0)
    results = {
        "top2": float(accuracy.result()),
        "mean": (float(called), float(mean.result())),
        "dtype": keras.backend.standardize_dtype(mean.result().dtype),
        "sum": float(m.Sum()([1, 2, 3])),
        "auc": float(m.AUC(num_thresholds=3)([0, 0, 1, 1], [0, 0.5, 0.3, 0.9])),
        "precision": float(m.Precision()([0, 1, 1, 1], [1, 0, 1, 1])),
        "recall": float(m.Recall(thresholds=0.3)([0, 1, 1, 1], [0.4, 0.2, 0.8, 0.9])),
        "f1": np.asarray(m.F1Score(threshold=0.5)([[1, 1, 1], [1, 0, 0]], [[0.2, 0.6, 0.7], [0.2, 0.6, 0.6]])),
        "binary": float(m.BinaryAccuracy(threshold=0.4)([[1], [0]], [[0.5], [0.5]])),
        "cosine": float(m.CosineSimilarity(axis=1)([[0.0, 1.0], [1.0, 1.0]], [[1.0, 0.0], [1.0, 1.0]])),
        "rmse": float(m.RootMeanSquaredError()([[0.0, 1.0]], [[1.0, 1.0]])),
        "got": [type(m.get(name)).__name__ for name in ("mse", "MeanSquaredError", "categorical_accuracy")],
        "unknown": raised(m.get, "no_such_metric"),
        "config": m.BinaryAccuracy(threshold=0.4).get_config(),
    }
    mean.reset_state()
    results["reset"] = float(mean.result())
    return results


@program
def losses_on_their_own(keras):
    k = keras.losses
    y, p = np.array([[0, 1], [0, 0]], "float32"), np.array([[0.6, 0.4], [0.4, 0.6]], "float32")
    results = {
        name: getattr(k, name)()(y, p)
        for name in ("MeanSquaredError", "BinaryCrossentropy", "Huber", "Hinge", "LogCosh")
    }
    results["sum"] = k.MeanAbsoluteError(reduction="sum")(y, p)
    results["none"] = k.MeanAbsoluteError(reduction=None)(y, p)
    results["weighted"] = k.MeanSquaredError()(y, p, sample_weight=[0.7, 0.3])
    results["mean with weights"] = k.MeanSquaredError(reduction="mean_with_sample_weight")(
        y, p, sample_weight=[0.7, 0.3]
    )
    results["sparse"] = k.SparseCategoricalCrossentropy(from_logits=True)(np.array([1, 0]), p)
    results["ignored class"] = k.SparseCategoricalCrossentropy(ignore_class=0)(np.array([1, 0]), p)
    results["smooth"] = k.CategoricalCrossentropy(label_smoothing=0.1)(y[:1], p[:1])
    results["function"] = k.mean_squared_error(y, p), k.binary_crossentropy(y, p), k.get("mae")(y, p)
    results["got"] = type(k.get("MeanSquaredError")).__name__, k.get("mse").__name__
    results["again"] = k.deserialize(k.serialize(k.BinaryCrossentropy(from_logits=True))).get_config()
    results["unknown"] = raised(k.get, "squared_everything"), raised(k.MeanSquaredError, reduction="average")
    return results


@program
def own_regularizer_initializer_constraint(keras):
    ops = keras.ops

    class Strength(keras.regularizers.Regularizer):
        def __init__(self, rate):
            self.rate = rate

        def __call__(self, weight):
            return self.rate * ops.sum(ops.abs(weight) ** 3)

        def get_config(self):
            return {"rate": self.rate}

    class Ramp(keras.initializers.Initializer):
        def __init__(self, step=0.1):
            self.step = step

        def __call__(self, shape, dtype=None):
            return ops.reshape(ops.arange(int(np.prod(shape)), dtype=dtype) * self.step, shape)

        def get_config(self):
            return {"step": self.step}

    class Centred(keras.constraints.Constraint):
        def __call__(self, w):
            return w - ops.mean(w, axis=0, keepdims=True)

    def flat_start(shape, dtype=None):
        return ops.full(shape, 0.2, dtype=dtype)

    layer = keras.layers.Dense(
        3,
        kernel_initializer=Ramp(0.05),
        bias_initializer=flat_start,
        kernel_regularizer=Strength(0.01),
        kernel_constraint=Centred(),
    )
    model = keras.Sequential([keras.Input((4,)), layer])
    start = layer.get_weights()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    history = model.fit(numbers(6, 4), numbers(6, 3, seed=1), batch_size=6, epochs=2, verbose=0).history
    scope = {"Strength": Strength, "Ramp": Ramp, "Centred": Centred}
    config = keras.layers.Dense(2, kernel_initializer=Ramp(0.5), kernel_regularizer=Strength(0.1)).get_config()
    with keras.utils.custom_object_scope(scope):
        again = keras.layers.Dense.from_config(config)
    return {
        "start": start,
        "history": history,
        "means": np.round(layer.get_weights()[0].mean(axis=0), 5),
        "again": (again.kernel_initializer.step, again.kernel_regularizer.rate),
        "penalty": [float(loss) for loss in model.losses],
    }


@program
def initial_values(keras):
    k = keras.initializers
    values = {
        "zeros": k.Zeros()(shape=(2, 2)),
        "constant": k.Constant(3.0)((2,)),
        "identity": k.Identity(gain=2.0)((2, 2)),
        "ones": k.get("ones")((3,), dtype="int32"),
    }
    random = k.GlorotUniform(seed=4)
    first, second = np.asarray(random((30, 40))), np.asarray(random((30, 40)))
    bound = float(np.sqrt(6 / 70))
    orthogonal = np.asarray(k.Orthogonal(seed=1)((4, 4)))
    return {
        "values": values,
        "stateless": bool(np.array_equal(first, second)),
        "bounded": bool((np.abs(first) <= bound).all() and first.max() > 0.9 * bound),
        "orthogonal": np.round(orthogonal @ orthogonal.T, 4) + 0.0,
        "config": k.HeNormal(seed=3).get_config(),
        "names": [
            type(k.get(name)).__name__
            for name in ("he_normal", "lecun_uniform", "glorot_normal", "orthogonal", "uniform")
        ],
        "again": k.deserialize(k.serialize(k.RandomUniform(-1.0, 2.0, seed=1))).get_config(),
        "unknown": raised(k.get, "he_abnormal"),
    }


@program
def activations_by_name(keras):
    ops, k = keras.ops, keras.activations
    x = np.linspace(-3, 3, 7, dtype="float32")
    names = [
        "relu",
        "sigmoid",
        "tanh",
        "softplus",
        "softsign",
        "selu",
        "elu",
        "gelu",
        "silu",
        "swish",
        "hard_sigmoid",
        "exponential",
        "linear",
        "leaky_relu",
        "relu6",
        "mish",
    ]

    def squared(x):
        return ops.square(x)

    layer = keras.layers.Dense(2, activation=squared, kernel_initializer="ones")
    dense = keras.layers.Dense(2, activation=keras.ops.tanh, kernel_initializer="ones")
    return {
        "values": {name: k.get(name)(x) for name in names},
        "softmax": k.softmax(x.reshape(1, -1)),
        "none": k.get(None)(x),
        "serialized": [k.serialize(k.get(name)) for name in ("relu", "tanh", "softmax")],
        "arguments": k.relu(x, negative_slope=0.1, max_value=2.0, threshold=0.5),
        "own": layer(np.ones((1, 3), "float32")),
        "from ops": dense(np.ones((1, 3), "float32")),
        "layers": [
            keras.layers.Activation("relu")(x),
            keras.layers.LeakyReLU(0.2)(x),
            keras.layers.ReLU(max_value=1.0)(x),
        ],
        "unknown": raised(k.get, "relo"),
        "keys": sorted(keras.layers.Activation("tanh").get_config()),
    }


@program
def attention_from_ops(keras):
    ops, layers = keras.ops, keras.layers

    class Attention(layers.Layer):
        def __init__(self, size, heads, **kwargs):
            super().__init__(**kwargs)
            self.size, self.heads = size, heads
            self.qkv, self.out = layers.Dense(3 * size), layers.Dense(size)

        def call(self, x, mask=None):
            length = ops.shape(x)[1]
            parts = ops.reshape(self.qkv(x), (-1, length, 3, self.heads, self.size // self.heads))
            q, k, v = ops.unstack(ops.transpose(parts, (2, 0, 3, 1, 4)), axis=0)
            scores = ops.matmul(q, ops.swapaxes(k, -1, -2)) / ops.sqrt(float(self.size // self.heads))
            causal = ops.cast(ops.tril(ops.ones((length, length))), "bool")
            scores = ops.where(causal, scores, -1e9)
            mixed = ops.matmul(ops.softmax(scores, axis=-1), v)
            mixed = ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, length, self.size))
            return self.out(mixed)

    class Positions(layers.Layer):
        def __init__(self, length, words, size, **kwargs):
            super().__init__(**kwargs)
            self.words, self.places = layers.Embedding(words, size), layers.Embedding(length, size)

        def call(self, x):
            return self.words(x) + self.places(ops.arange(0, ops.shape(x)[-1], 1))

    inputs = keras.Input((6,), dtype="int32")
    x = Positions(6, 11, 8)(inputs)
    x = layers.LayerNormalization()(x + Attention(8, 2)(x))
    hidden = layers.Dense(16, activation="gelu")(x)
    x = layers.LayerNormalization()(layers.Add()([x, layers.Dense(8)(hidden)]))
    outputs = layers.Dense(11, activation="softmax")(x)
    model = fill(keras.Model(inputs, outputs))
    tokens = classes(30, 11).reshape(5, 6)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(tokens, np.roll(tokens, -1, axis=1), batch_size=5, epochs=3, verbose=0).history
    return {
        "shape": outputs.shape,
        "count": model.count_params(),
        "history": history,
        "prediction": model.predict(tokens, verbose=0),
    }


@program
def layers_with_several_arguments(keras):
    class Mix(keras.layers.Layer):
        def build(self, query_shape, context_shape):
            self.sizes = query_shape[-1], context_shape[-1]
            self.kernel = self.add_weight(shape=self.sizes, initializer="ones")

        def call(self, query, context, scale=1.0, training=None):
            factor = 2.0 if training else scale
            return keras.ops.matmul(query, self.kernel) * keras.ops.sum(context, axis=-1, keepdims=True) * factor

    q, c = numbers(3, 4), numbers(3, 2, seed=1)
    layer = Mix()
    a, b = keras.Input((4,)), keras.Input((2,))
    model = keras.Model([a, b], Mix()(a, context=b, scale=0.5))
    return {
        "eager": layer(q, c),
        "keywords": layer(query=q, context=c, scale=3.0),
        "training": layer(q, c, training=True),
        "sizes": layer.sizes,
        "model": model([q, c]),
        "model training": model([q, c], training=True),
        "output": model.output_shape,
    }


@program
def training_and_inference(keras):
    layers = keras.layers

    class Wrapper(layers.Layer):
        def __init__(self):
            super().__init__()
            self.drop, self.norm = layers.Dropout(0.5, seed=1), layers.BatchNormalization(momentum=0.5)

        def call(self, x):
            return self.drop(self.norm(x))

    model = keras.Sequential([keras.Input((4,)), Wrapper(), layers.GaussianNoise(0.3)])
    x = numbers(50, 4)
    calm, again = np.asarray(model(x)), np.asarray(model.predict(x, verbose=0))
    wild = np.asarray(model(x, training=True))
    statistics = model.get_weights()
    return {
        "calm": calm,
        "same": bool(np.allclose(calm, again)),
        "differs": bool(np.any(wild != calm)),
        "statistics": statistics,
        "zeros": 0.3 < float(np.mean(np.asarray(layers.Dropout(0.5)(np.ones((30, 30)), training=True)) == 0)) < 0.7,
        "shape": [tuple(layers.SpatialDropout1D(0.5)(np.ones((2, 3, 4)), training=True).shape)],
        "bad rate": raised(layers.Dropout, 1.5),
    }


@program
def shapes_without_data(keras):
    k = keras.layers
    cases = {
        "dense": (k.Dense(3), (None, 7)),
        "dense rank 3": (k.Dense(3), (2, 5, 7)),
        "conv same": (k.Conv2D(4, 3, strides=2, padding="same"), (None, 9, 9, 2)),
        "conv valid": (k.Conv2D(4, (2, 3), dilation_rate=2), (None, 9, None, 2)),
        "conv1d": (k.Conv1D(4, 3, padding="causal"), (None, 9, 2)),
        "depthwise": (k.DepthwiseConv2D(3, depth_multiplier=2), (None, 9, 9, 2)),
        "pool": (k.MaxPooling2D(3, strides=2), (None, 9, 9, 2)),
        "average": (k.AveragePooling1D(2, padding="same"), (None, 9, 2)),
        "flatten": (k.Flatten(), (None, 3, 4)),
        "reshape": (k.Reshape((-1, 2)), (None, 3, 4)),
        "permute": (k.Permute((2, 1)), (None, 3, 4)),
        "repeat": (k.RepeatVector(5), (None, 3)),
        "embedding": (k.Embedding(10, 4), (None, 6)),
        "lstm": (k.LSTM(4), (None, 6, 3)),
        "sequences": (k.GRU(4, return_sequences=True), (None, None, 3)),
        "states": (k.LSTM(4, return_state=True), (None, 6, 3)),
        "bidirectional": (k.Bidirectional(k.LSTM(4)), (None, 6, 3)),
        "distributed": (k.TimeDistributed(k.Dense(2)), (None, 6, 3)),
        "padding": (k.ZeroPadding2D((1, 2)), (None, 4, 4, 1)),
        "cropping": (k.Cropping2D(1), (None, 4, 4, 1)),
        "concatenate": (k.Concatenate(axis=1), [(None, 4), (None, 3)]),
        "add": (k.Add(), [(None, 4), (None, 4)]),
        "norm": (k.BatchNormalization(), (None, 4)),
        "global": (k.GlobalAveragePooling2D(keepdims=True), (None, 4, 4, 3)),
    }
    results = {name: layer.compute_output_shape(shape) for name, (layer, shape) in cases.items()}
    return {
        "shapes": {
            name: [tuple(one) for one in shape] if isinstance(shape[0], tuple) else tuple(shape)
            for name, shape in results.items()
        },
        "wrong rank": raised(k.Dense(3), np.ones(4)),
        "wrong size": raised(keras.Sequential([keras.Input((3,)), k.Dense(2)]), np.ones((2, 4))),
        "sizes differ": raised(k.Add(), [np.ones((2, 3)), np.ones((2, 4))]),
        "does not divide": raised(k.Reshape((5,)), np.ones((2, 3))),
    }


@program
def registered_objects(keras):
    package = "Strangers"

    @keras.saving.register_keras_serializable(package=package, name="Scale")
    class Scale(keras.layers.Layer):
        def __init__(self, factor, inner=None, **kwargs):
            super().__init__(**kwargs)
            self.factor, self.inner = factor, inner

        def call(self, x):
            return (x if self.inner is None else self.inner(x)) * self.factor

        def get_config(self):
            inner = None if self.inner is None else keras.saving.serialize_keras_object(self.inner)
            return {**super().get_config(), "factor": self.factor, "inner": inner}

        @classmethod
        def from_config(cls, config):
            inner = config.pop("inner")
            return cls(inner=None if inner is None else keras.saving.deserialize_keras_object(inner), **config)

    @keras.saving.register_keras_serializable(package=package)
    def doubled(x):
        return x * 2

    model = keras.Sequential(
        [keras.Input((2,)), Scale(3.0, keras.layers.Dense(2, activation=doubled, name="in"), name="scale")], name="m"
    )
    fill(model)
    text = model.to_json()
    again = keras.models.model_from_json(text)
    again.set_weights(model.get_weights())
    names = keras.saving.get_registered_name(Scale), keras.saving.get_registered_name(doubled)
    return {
        "names": names,
        "objects": [
            keras.saving.get_registered_object(name) is thing
            for name, thing in zip(names, (Scale, doubled), strict=True)
        ],
        "same": (model(numbers(3, 2)), again(numbers(3, 2))),
        "layer": {key: value for key, value in json.loads(text)["config"]["layers"][1].items() if key != "module"},
        "custom objects": "Strangers>Scale" in keras.saving.get_custom_objects(),
    }
