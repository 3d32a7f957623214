"""Programs that lean on what a layer and a model promise: tracking, building, arguments of calls, state, graphs."""

from __future__ import annotations

import numpy as np
from parity.programs.common import fill, numbers, program, raised


@program
def what_attributes_hold(keras):
    layers = keras.layers

    class Holder(layers.Layer):
        def __init__(self):
            super().__init__()
            self.list = [layers.Dense(2), layers.Dense(3)]
            self.list.append(layers.Dense(4))
            self.dict = {"x": layers.Dense(5), "y": [layers.Dense(1)]}
            self.tuple = (layers.Dense(2), layers.Dense(2))
            self._private = layers.Dense(7)
            self.variable = keras.Variable(np.zeros(3))
            self.frozen = keras.Variable(np.zeros(2), trainable=False)
            self.replaced = layers.Dense(9)
            self.replaced = layers.Dense(8)
            self.gone = layers.Dense(10)
            del self.gone
            self.metric = keras.metrics.Mean(name="m")
            self.seed = keras.random.SeedGenerator(3)

        def build(self, shape):
            inside = [*self.list, self.dict["x"], self.dict["y"][0], *self.tuple, self._private, self.replaced]
            for layer in inside:
                layer.build(shape)

        def call(self, x):
            return x

    holder = Holder()
    holder(np.ones((2, 3)))
    return {
        "weights": sorted(weight.shape for weight in holder.weights),
        "trainable": len(holder.trainable_weights),
        "frozen": len(holder.non_trainable_weights),
        "variables": (len(holder.variables), len(holder.non_trainable_variables)),
        "seeds": [v.shape for v in holder.non_trainable_variables if "seed" in v.path],
        "metrics": ([metric.name for metric in holder.metrics], len(holder.metrics_variables)),
        "types": (isinstance(holder.list, list), sorted(holder.dict)),
    }


@program
def attributes_before_the_base(keras):
    layers = keras.layers

    class Early(layers.Layer):
        def __init__(self):
            self.dense = layers.Dense(3)
            self.variable = keras.Variable(np.zeros(2))
            super().__init__(name="early")

        def call(self, x):
            return self.dense(x)

    class EarlyModel(keras.Model):
        def __init__(self):
            self.units = 3
            super().__init__()
            self.dense = layers.Dense(self.units)

        def call(self, x):
            return self.dense(x)

    class Never(layers.Layer):
        def __init__(self):
            self.dense = layers.Dense(3)

        def call(self, x):
            return self.dense(x)

    found = []
    for one in (Early(), EarlyModel()):
        one(np.ones((2, 2)))
        found.append(len(one.weights))
    return found, raised(lambda: Never()(np.ones((2, 2))))


@program
def trainable_switches(keras):
    layers = keras.layers
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.BatchNormalization(), layers.Dense(1)])
    seen = []

    def look():
        flags = [variable.trainable for variable in model.variables]
        seen.append((flags, len(model.trainable_weights), len(model.non_trainable_variables)))

    look()
    model.layers[0].trainable = False
    look()
    model.trainable = False
    look()
    model.trainable = True
    look()
    model.layers[0].kernel.trainable = False
    look()
    model.layers[0].trainable = True
    look()
    frozen = layers.Dense(2, trainable=False)
    frozen.build((None, 3))
    seen.append((len(frozen.trainable_weights), frozen.kernel.trainable))
    frozen.trainable = True
    return [*seen, (len(frozen.trainable_weights), frozen.kernel.trainable)]


@program
def weights_of_a_layer(keras):
    layer = keras.layers.Layer()
    made = [
        layer.add_weight(),
        layer.add_weight((2, 3)),
        layer.add_weight(shape=(2,), dtype="int32", trainable=False),
        layer.add_weight(shape=(2,), dtype="bool", trainable=False),
        layer.add_weight(shape=[2, 2], initializer="ones", name="e", regularizer="l2", constraint="non_neg"),
    ]

    class Late(keras.layers.Layer):
        def call(self, x):
            self.late = self.add_weight(shape=(1,))
            return x

    return {
        "shapes": [one.shape for one in made],
        "types": [keras.backend.standardize_dtype(one.dtype) for one in made],
        "losses": [float(loss) for loss in layer.losses],
        "refused": [
            raised(layer.add_weight, (2, -1)),
            raised(layer.add_weight, (None, 2)),
            raised(layer.add_weight, shape=3),
            raised(layer.add_weight, (2,), "nope"),
        ],
        "in call": raised(Late(), np.ones((2, 2))),
    }


@program
def build_signatures(keras):
    layers = keras.layers
    seen = {}

    class Two(layers.Layer):
        def build(self, query_shape, value_shape):
            seen["two"] = query_shape, value_shape

        def call(self, query, value):
            return query

    class OfDict(layers.Layer):
        def build(self, input_shape):
            seen["dict"] = dict(input_shape)

        def call(self, inputs):
            return inputs["a"]

    class OfList(layers.Layer):
        def build(self, input_shape):
            seen["list"] = [tuple(shape) for shape in input_shape]

        def call(self, inputs):
            return inputs[0]

    class Maybe(layers.Layer):
        def build(self, inputs_shape, attention_mask_shape=None):
            seen.setdefault("maybe", []).append(attention_mask_shape)

        def call(self, inputs, attention_mask=None):
            return inputs

    class Unnamed(layers.Layer):
        def build(self, first, second):
            pass

        def call(self, first, second):
            return first

    class Misnamed(layers.Layer):
        def build(self, first_shape, third_shape):
            pass

        def call(self, first, second):
            return first

    a, b = keras.Input((3,)), keras.Input((4,))
    Two()(a, value=b)
    OfDict()({"a": a, "b": b})
    OfList()([a, b])
    Maybe()(a)
    Maybe()(a, attention_mask=b)
    return seen, raised(Unnamed(), a, b), raised(Misnamed(), a, b)


@program
def arguments_that_reach_layers_within(keras):
    layers = keras.layers

    class Inner(layers.Layer):
        def __init__(self):
            super().__init__()
            self._register_call_context_args("mode")

        def call(self, x, mode=None):
            return x + (1 if mode else 0)

    class Outer(layers.Layer):
        def __init__(self):
            super().__init__()
            self._register_call_context_args("mode")
            self.inner = Inner()

        def call(self, x):
            return self.inner(x)

    class Contrary(layers.Layer):
        def __init__(self):
            super().__init__()
            self._register_call_context_args("mode")
            self.inner = Inner()

        def call(self, x, mode=None):
            return self.inner(x, mode=not mode)

    class Deaf(layers.Layer):
        def call(self, x, mode=None):
            return x + (1 if mode else 0)

    deaf = keras.Sequential([Deaf()])
    deaf._register_call_context_args("mode")
    stack = keras.Sequential([Inner(), Outer()])
    stack._register_call_context_args("mode")
    inputs = keras.Input((1,))
    functional = keras.Model(inputs, Inner()(inputs))
    functional._register_call_context_args("mode")
    x = np.zeros((1, 1), "float32")
    results = [
        called
        for layer in (Outer(), Contrary(), stack, functional, deaf)
        for called in (layer(x, mode=True), layer(x), layer(x, mode=False))
    ]
    used = Inner()
    used(x)
    return results, sorted(Outer()._call_context_args), raised(used._register_call_context_args, "other")


@program
def operations_of_ones_own(keras):
    class Scale(keras.Operation):
        def __init__(self, factor, name=None):
            super().__init__(name=name)
            self.factor = factor

        def call(self, x):
            return x * self.factor

        def compute_output_spec(self, x):
            return keras.KerasTensor(x.shape, x.dtype)

    class Both(keras.Operation):
        def call(self, a, b):
            return a + b, {"d": a - b}

        def compute_output_spec(self, a, b):
            return keras.KerasTensor(a.shape, a.dtype), {"d": keras.KerasTensor(a.shape, a.dtype)}

    inputs = keras.Input((3,))
    scale = Scale(2.0, name="scale")
    scaled = scale(inputs)
    total, rest = Both()(scaled, inputs)
    model = keras.Model(inputs, [total, rest["d"]])
    x = numbers(4, 3)
    described = keras.Model(inputs, scale(inputs)).get_config()
    with keras.utils.custom_object_scope({"Scale": Scale}):
        restored = keras.Model.from_config(described)
    return {
        "called": model(x),
        "predicted": model.predict(x, verbose=0),
        "eager": scale(x),
        "config": scale.get_config(),
        "again": Scale.from_config(scale.get_config())(x),
        "restored": restored(x),
        "layers": (len(model.layers), [one.name for one in model.operations][:2]),
        "ends": (scale.input.shape, scale.output.shape, scaled.shape),
        "kinds": (isinstance(keras.layers.Dense(1), keras.Operation), isinstance(scale, keras.layers.Layer)),
        "twice": keras.Model(inputs, scale(scale(inputs)))(x),
        "refused": raised(Scale, 2.0, name="a/b"),
    }


@program
def calls_without_state(keras):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(2, kernel_initializer="ones", kernel_regularizer="l2"),
            layers.BatchNormalization(),
        ]
    )
    trainable = [np.asarray(variable) * 2 for variable in model.trainable_variables]
    others = [np.asarray(variable) + 1 for variable in model.non_trainable_variables]
    x = numbers(4, 3)
    training = model.stateless_call(trainable, others, x, training=True)
    with_losses = model.stateless_call(trainable, others, x, training=False, return_losses=True)
    return {
        "training": training,
        "inference": with_losses[:2],
        "losses": len(with_losses[2]),
        "kept": model.get_weights(),
        "refused": raised(model.stateless_call, trainable[:1], others, x),
    }


@program
def state_trees(keras):
    layers = keras.layers

    def net():
        inner = [layers.Dense(2, name="d"), layers.BatchNormalization(name="b")]
        return keras.Sequential([keras.Input((3,)), *inner], name="net")

    model = fill(net())
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9, name="sgd"), "mse", metrics=["mae"])
    model.fit(numbers(6, 3), numbers(6, 2), batch_size=3, shuffle=False, verbose=0)
    state = model.get_state_tree("numpy_array")
    other = net()
    other.set_state_tree({name: state[name] for name in ("trainable_variables", "non_trainable_variables")})
    paths = {group: sorted(inner) for group, inner in state.items()}
    totals = {
        name: {part: float(one) for part, one in inner.items()} for name, inner in state["metrics_variables"].items()
    }
    return paths, state["trainable_variables"], totals, other(numbers(2, 3))


@program
def layers_of_a_model(keras):
    layers = keras.layers
    inputs = keras.Input((3,), name="in")
    model = keras.Model(inputs, layers.Dense(2, name="d")(layers.Dense(4, name="c")(inputs)), name="m")
    return {
        "names": ([one.name for one in model.layers], [one.name for one in model.operations], model.output_names),
        "found": (model.get_layer(index=1).name, model.get_layer("d").name),
        "refused": [
            raised(model.get_layer),
            raised(model.get_layer, "d", 1),
            raised(model.get_layer, "nowhere"),
            raised(model.get_layer, index=9),
            raised(lambda: setattr(model, "layers", [])),
        ],
        "ends": (model.input_shape, model.output_shape, [one.name for one in model.inputs]),
    }


@program
def what_compile_was_told(keras):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse", metrics=["mae"], run_eagerly=True)
    told = model.run_eagerly, model.steps_per_execution, model.loss, model.compiled
    model.run_eagerly = False
    model.train_on_batch(numbers(2, 3), numbers(2, 2))
    return told, model.run_eagerly, model.metrics_names, len(model.metrics_variables)


@program
def older_descriptions(keras):
    legacy = keras.utils.legacy

    class Own:
        def __init__(self, a):
            self.a = a

        def get_config(self):
            return {"a": self.a}

        @classmethod
        def from_config(cls, config):
            return cls(**config)

    described = legacy.serialize_keras_object(Own(3))
    again = legacy.deserialize_keras_object(described, custom_objects={"Own": Own})
    return described, again.a, raised(legacy.deserialize_keras_object, described, {"Other": Own})
