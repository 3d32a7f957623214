"""Programs that train in their own ways: callbacks, schedules, generators, loops, steps and losses of their own."""

from __future__ import annotations

import math
import os
import pickle
import tempfile

import numpy as np
from parity.programs.common import classes, fill, numbers, program, raised


def small(keras, outputs=1, activation=None):
    return fill(
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(outputs, activation)])
    )


@program
def hooks_of_a_callback(keras):
    class Recorder(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.calls = []

        def __getattribute__(self, name):
            found = super().__getattribute__(name)
            if (name.startswith("on_") and "begin" in name) or (name.startswith("on_") and "end" in name):
                calls = super().__getattribute__("calls")

                def hook(*args, **kwargs):
                    calls.append((name, args[0] if args and not isinstance(args[0], dict) else None))
                    return found(*args, **kwargs)

                return hook
            return found

    class Plain(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.keys = {"train begin": sorted(logs or {}), "params": sorted(self.params), "model": self.model is model}

        def on_train_batch_end(self, batch, logs=None):
            self.keys["batch"] = sorted(logs)

        def on_epoch_end(self, epoch, logs=None):
            self.keys["epoch"] = sorted(logs), epoch, type(logs["loss"]).__name__

        def on_test_batch_end(self, batch, logs=None):
            self.keys["test batch"] = sorted(logs)

        def on_test_end(self, logs=None):
            self.keys["test"] = sorted(logs or {})

        def on_predict_batch_end(self, batch, logs=None):
            self.keys["predict batch"] = sorted(logs)

        def on_train_end(self, logs=None):
            self.keys["train end"] = sorted(logs or {})

    model = small(keras)
    model.compile("sgd", "mse", metrics=["mae"])
    x, y = numbers(6, 4), numbers(6, 1, seed=1)
    recorder, plain = Recorder(), Plain()
    model.fit(x, y, batch_size=3, epochs=2, verbose=0, validation_data=(x, y), callbacks=[recorder, plain])
    model.evaluate(x, y, verbose=0, callbacks=[recorder, plain])
    model.predict(x, batch_size=4, verbose=0, callbacks=[recorder, plain])
    return recorder.calls, plain.keys


@program
def stopping_and_schedules(keras):
    k = keras.callbacks
    x, y = numbers(12, 4), numbers(12, 1, seed=1)

    class StopAtBatch(k.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                self.model.stop_training = True

    class Finder(k.Callback):
        def __init__(self):
            super().__init__()
            self.rates = []

        def on_train_batch_begin(self, batch, logs=None):
            self.model.optimizer.learning_rate = 0.001 * 2 ** len(self.rates)
            self.rates.append(float(self.model.optimizer.learning_rate))

    results = {}
    model = small(keras)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    history = model.fit(x, y, batch_size=3, epochs=5, verbose=0, shuffle=False, callbacks=[StopAtBatch()])
    results["stopped"] = history.epoch, history.history
    finder = Finder()
    model.fit(x, y, batch_size=3, epochs=1, verbose=0, shuffle=False, callbacks=[finder])
    results["rates"] = finder.rates
    schedule = k.LearningRateScheduler(lambda epoch, rate: rate * 0.5 if epoch else 0.1)
    history = model.fit(x, y, epochs=3, verbose=0, shuffle=False, callbacks=[schedule])
    results["scheduled"] = history.history
    stopper = k.EarlyStopping("loss", min_delta=10.0, patience=1, restore_best_weights=True)
    history = model.fit(
        x, y, epochs=9, verbose=0, shuffle=False, callbacks=[stopper, k.ReduceLROnPlateau("loss", patience=1)]
    )
    results["early"] = history.history, stopper.stopped_epoch, stopper.best_epoch
    seen = []
    one = k.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((epoch, sorted(logs))))
    history = model.fit(
        x, y, initial_epoch=3, epochs=5, verbose=0, callbacks=[one], validation_split=0.25, validation_freq=2
    )
    results["lambda"] = seen, history.epoch, sorted(history.history)
    results["history"] = model.history is history, history.params
    return results


@program
def checkpoints_and_logs(keras):
    k = keras.callbacks
    x, y = numbers(8, 4), numbers(8, 1, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        model = small(keras)
        model.compile("adam", "mse")
        model.fit(
            x,
            y,
            epochs=3,
            verbose=0,
            shuffle=False,
            callbacks=[
                k.ModelCheckpoint(os.path.join(folder, "{epoch:02d}.weights.h5"), save_weights_only=True),
                k.ModelCheckpoint(os.path.join(folder, "best.keras"), monitor="loss", save_best_only=True),
                k.CSVLogger(os.path.join(folder, "log.csv")),
            ],
        )
        after = model.predict(x, verbose=0)
        names = sorted(os.listdir(folder))
        loaded = keras.models.load_model(os.path.join(folder, "best.keras"))
        other = small(keras)
        other.load_weights(os.path.join(folder, "02.weights.h5"))
        with open(os.path.join(folder, "log.csv")) as file:
            log = file.read().splitlines()
        return {
            "names": names,
            "loaded": (loaded.predict(x, verbose=0), after),
            "other": other.predict(x, verbose=0),
            "log": (log[0], len(log)),
            "goes on": loaded.fit(x, y, epochs=1, verbose=0).history,
            "wrong name": raised(k.ModelCheckpoint, "model.txt"),
        }


@program
def saved_and_loaded(keras):
    layers = keras.layers
    inputs = {"a": keras.Input((3,), name="a"), "b": keras.Input((2,), name="b")}
    x = layers.Concatenate()([layers.Dense(3, name="da")(inputs["a"]), inputs["b"]])
    x = layers.BatchNormalization()(x)
    model = fill(keras.Model(inputs, {"out": layers.Dense(1, name="out")(x)}, name="saved"))
    model.compile(keras.optimizers.Adam(0.01), loss={"out": "mse"}, metrics={"out": ["mae"]})
    data, y = {"a": numbers(6, 3), "b": numbers(6, 2)}, {"out": numbers(6, 1)}
    model.fit(data, y, epochs=2, verbose=0, shuffle=False)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        loaded = keras.saving.load_model(path)
        bare = keras.saving.load_model(path, compile=False)
        weights = os.path.join(folder, "w.weights.h5")
        model.save_weights(weights)
        clone = keras.models.clone_model(model)
        clone.load_weights(weights)
        wrong = small(keras)
        return {
            "same": (model.predict(data, verbose=0), loaded.predict(data, verbose=0), clone.predict(data, verbose=0)),
            "name": (loaded.name, [layer.name for layer in loaded.layers]),
            "iterations": int(loaded.optimizer.iterations.numpy()),
            "compiled": (loaded.compiled, bare.compiled),
            "goes on": (model.fit(data, y, verbose=0).history, loaded.fit(data, y, verbose=0).history),
            "wrong model": raised(wrong.load_weights, weights),
            "missing": raised(keras.saving.load_model, os.path.join(folder, "none.keras")) != "nothing",
            "wrong suffix": (
                raised(model.save, os.path.join(folder, "x.txt")),
                raised(model.save_weights, os.path.join(folder, "x.bin")),
            ),
        }


@program
def schedules_of_the_learning_rate(keras):
    k = keras.optimizers.schedules

    class Warmup(k.LearningRateSchedule):
        def __init__(self, top):
            self.top = top

        def __call__(self, step):
            return self.top * keras.ops.minimum(keras.ops.cast(step, "float32") / 4.0, 1.0)

        def get_config(self):
            return {"top": self.top}

    schedules = {
        "exponential": k.ExponentialDecay(0.1, decay_steps=4, decay_rate=0.5, staircase=True),
        "pieces": k.PiecewiseConstantDecay([2, 5], [0.1, 0.05, 0.01]),
        "polynomial": k.PolynomialDecay(0.1, 6, 0.01, power=2.0),
        "inverse": k.InverseTimeDecay(0.1, 2, 0.5),
        "cosine": k.CosineDecay(0.0, 6, warmup_target=0.1, warmup_steps=2),
        "restarts": k.CosineDecayRestarts(0.1, 3),
        "own": Warmup(0.1),
    }
    results = {name: [float(schedule(step)) for step in range(9)] for name, schedule in schedules.items()}
    x, y = numbers(8, 4), numbers(8, 1, seed=1)
    for name in ("exponential", "own"):
        model = small(keras)
        model.compile(keras.optimizers.SGD(schedules[name], momentum=0.9), "mse")
        results[f"{name} history"] = model.fit(x, y, batch_size=2, epochs=2, shuffle=False, verbose=0).history
        results[f"{name} now"] = float(model.optimizer.learning_rate)
        results[f"{name} set"] = raised(setattr, model.optimizer, "learning_rate", 0.5)
    return results


@program
def optimizers_by_hand(keras):
    weight = keras.Variable(np.array([1.0, 2.0], "float32"), name="w")
    optimizer = keras.optimizers.Adam(learning_rate=0.1)
    values = []
    for _ in range(3):
        optimizer.apply_gradients([(keras.ops.convert_to_tensor(2 * weight.numpy()), weight)])
        values.append(weight.numpy().copy())
    optimizer.learning_rate = 0.05
    optimizer.apply([keras.ops.convert_to_tensor(weight.numpy())], [weight])
    values.append(weight.numpy().copy())
    optimizer.learning_rate.assign(0.2)
    made = keras.optimizers.get({"class_name": "SGD", "config": {"learning_rate": 0.3, "momentum": 0.5}})
    clipped = keras.optimizers.SGD(1.0, clipnorm=1.0)
    other = keras.Variable(np.zeros(2, "float32"))
    clipped.apply([keras.ops.convert_to_tensor(np.array([3.0, 4.0], "float32"))], [other])
    return {
        "values": values,
        "iterations": int(optimizer.iterations.numpy()),
        "rate": float(optimizer.learning_rate),
        "variables": [(v.name, tuple(v.shape)) for v in optimizer.variables],
        "config": optimizer.get_config(),
        "made": (type(made).__name__, float(made.learning_rate), made.momentum),
        "clipped": other.numpy(),
        "names": [type(keras.optimizers.get(name)).__name__ for name in ("adam", "SGD", "rmsprop", "adamw")],
        "unknown": raised(keras.optimizers.get, "adamm"),
        "two clips": raised(keras.optimizers.SGD, clipnorm=1.0, clipvalue=1.0),
        "unknown argument": raised(keras.optimizers.SGD, speed=3),
        "again": keras.optimizers.deserialize(keras.optimizers.serialize(keras.optimizers.RMSprop(0.01))).get_config(),
    }


@program
def generators_and_datasets(keras):
    x, y = numbers(20, 4), numbers(20, 1, seed=1)

    class Batches(keras.utils.PyDataset):
        def __init__(self, weights=False, **kwargs):
            super().__init__(**kwargs)
            self.weights, self.epochs = weights, 0

        def __len__(self):
            return math.ceil(len(x) / 6)

        def __getitem__(self, i):
            part = slice(6 * i, 6 * i + 6)
            return (x[part], y[part], np.linspace(0.5, 1.5, len(x[part]))) if self.weights else (x[part], y[part])

        def on_epoch_end(self):
            self.epochs += 1

    def endless():
        while True:
            for i in range(0, 20, 5):
                yield x[i : i + 5], y[i : i + 5]

    def finite():
        for i in range(0, 20, 5):
            yield x[i : i + 5], y[i : i + 5]

    def fresh():
        model = small(keras)
        model.compile("sgd", "mse", metrics=["mae"], weighted_metrics=["mse"])
        return model

    dataset, weighted = Batches(), Batches(weights=True, workers=1)
    model = fresh()
    return {
        "dataset": fresh().fit(dataset, epochs=2, shuffle=False, verbose=0).history,
        "told of epochs": dataset.epochs > 1,
        "weighted": fresh().fit(weighted, epochs=2, shuffle=False, verbose=0, validation_data=dataset).history,
        "endless": fresh().fit(endless(), steps_per_epoch=6, epochs=2, verbose=0).history,
        "finite": fresh().fit(finite(), epochs=1, verbose=0).history,
        "evaluated": [model.evaluate(source, verbose=0) for source in (dataset, finite())],
        "predicted": [model.predict(source, verbose=0).shape for source in (dataset, finite())],
        "steps": model.predict(endless(), steps=3, verbose=0).shape,
        "targets too": raised(model.fit, dataset, y, verbose=0),
        "split": raised(model.fit, dataset, validation_split=0.2, verbose=0),
    }


@program
def loops_over_batches(keras):
    model = small(keras, 3, "softmax")
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = numbers(12, 4), classes(12, 3)
    logs = [model.train_on_batch(x[i : i + 4], y[i : i + 4]) for i in range(0, 12, 4)]
    named = model.train_on_batch(x, y, return_dict=True)
    tested = model.test_on_batch(x, y), model.test_on_batch(x, y, return_dict=True)
    model.reset_metrics()
    weighted = model.train_on_batch(x, y, sample_weight=np.linspace(0, 2, 12))
    by_class = model.train_on_batch(x, y, class_weight={0: 1.0, 1: 3.0, 2: 0.5})
    return {
        "logs": logs,
        "named": named,
        "tested": tested,
        "weighted": weighted,
        "class": by_class,
        "prediction": model.predict_on_batch(x),
        "names": model.metrics_names,
        "iterations": int(model.optimizer.iterations.numpy()),
    }


@program
def weights_of_samples_and_classes(keras):
    x, y = numbers(12, 4), classes(12, 3)
    one_hot = keras.utils.to_categorical(y, 3)
    results = {}
    for name, (loss, target, options) in {
        "samples": ("sparse_categorical_crossentropy", y, {"sample_weight": np.arange(12) / 6.0}),
        "classes": ("sparse_categorical_crossentropy", y, {"class_weight": {0: 0.2, 1: 2.0, 2: 1.0}}),
        "one hot classes": ("categorical_crossentropy", one_hot, {"class_weight": {0: 0.2, 1: 2.0}}),
    }.items():
        model = small(keras, 3, "softmax")
        model.compile("sgd", loss, metrics=["accuracy"], weighted_metrics=["accuracy"])
        history = model.fit(x, target, batch_size=4, epochs=2, shuffle=False, verbose=0, **options).history
        results[name] = history, model.evaluate(x, target, verbose=0, sample_weight=np.ones(12), return_dict=True)
    model = keras.Sequential([keras.Input((3, 4)), keras.layers.Dense(1)])
    fill(model)
    model.compile("sgd", "mse")
    steps, weights = numbers(5, 3, 4), np.tile([1.0, 0.0, 2.0], (5, 1))
    results["temporal"] = model.fit(
        steps, numbers(5, 3, 1), sample_weight=weights, batch_size=5, epochs=2, verbose=0
    ).history
    results["validation"] = model.fit(
        steps, numbers(5, 3, 1), verbose=0, shuffle=False, validation_data=(steps, numbers(5, 3, 1), weights)
    ).history
    results["both"] = raised(
        model.fit, steps, numbers(5, 3, 1), sample_weight=weights, class_weight={0: 1.0}, verbose=0
    )
    return results


@program
def own_compute_loss_and_metrics(keras):
    class Custom(keras.Model):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.tracker = keras.metrics.Mean(name="own")

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            loss = keras.ops.mean(keras.ops.abs(y_pred - y)) + 0.1 * keras.ops.mean(keras.ops.square(x))
            self.tracker.update_state(loss * 2)
            return loss

        def reset_metrics(self):
            super().reset_metrics()
            self.tracker.reset_state()

        @property
        def metrics(self):
            return [*super().metrics]

    class Plus(keras.Model):
        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            results = dict(super().compute_metrics(x, y, y_pred, sample_weight))
            results["constant"] = 3.0
            return results

    x, y = numbers(10, 4), numbers(10, 1, seed=1)
    inputs = keras.Input((4,))
    custom = fill(Custom(inputs, keras.layers.Dense(1)(inputs)))
    custom.compile("sgd")
    plus = fill(Plus(inputs, keras.layers.Dense(1)(inputs)))
    plus.compile("sgd", "mse", metrics=["mae"])
    return {
        "custom": custom.fit(x, y, batch_size=5, epochs=2, shuffle=False, verbose=0).history,
        "evaluated": custom.evaluate(x, y, verbose=0, return_dict=True),
        "plus": plus.fit(x, y, batch_size=5, epochs=2, shuffle=False, verbose=0).history,
        "plus evaluated": plus.evaluate(x, y, verbose=0, return_dict=True),
        "class": (type(custom).__name__, isinstance(custom, keras.Model), custom.output_shape),
    }


@program
def own_train_step(keras):
    """Real Keras on JAX has stateless steps only, so there the built-in step does what the tape does here."""
    ops = keras.ops

    if hasattr(keras, "GradientTape"):

        class Custom(keras.Model):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                self.error = keras.metrics.MeanAbsoluteError(name="mae")
                self.mean = keras.metrics.Mean(name="loss")

            def train_step(self, data):
                x, y = data
                with keras.GradientTape() as tape:
                    loss = ops.mean(ops.square(self(x, training=True) - y))
                gradients = tape.gradient(loss, self.trainable_variables)
                self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
                return self.report(x, y, loss)

            def test_step(self, data):
                x, y = data
                return self.report(x, y, ops.mean(ops.square(self(x, training=False) - y)))

            def report(self, x, y, loss):
                for metric in self.metrics:
                    if metric.name == "loss":
                        metric.update_state(loss)
                    else:
                        metric.update_state(y, self(x))
                return {metric.name: metric.result() for metric in self.metrics}

            @property
            def metrics(self):
                return [self.mean, self.error]

        arguments = {}
    else:
        Custom, arguments = keras.Model, {"loss": "mse", "metrics": ["mae"]}
    inputs = keras.Input((4,))
    model = fill(Custom(inputs, keras.layers.Dense(1)(inputs)))
    model.compile(optimizer=keras.optimizers.Adam(0.01), **arguments)
    x, y = numbers(12, 4), numbers(12, 1, seed=1)
    history = model.fit(x, y, batch_size=4, epochs=3, shuffle=False, verbose=0, validation_data=(x, y)).history
    # the tape's mae is that of the step's new weights, the built-in one of the old ones
    return {name: values for name, values in history.items() if name != "mae"}, model.get_weights()


@program
def adversarial_pair(keras):
    layers = keras.layers
    generator = fill(keras.Sequential([keras.Input((3,)), layers.Dense(8, activation="leaky_relu"), layers.Dense(4)]))
    discriminator = fill(
        keras.Sequential([keras.Input((4,)), layers.Dense(8, "relu"), layers.Dense(1, "sigmoid")]), seed=5
    )
    discriminator.compile(keras.optimizers.Adam(0.01), "binary_crossentropy", metrics=["accuracy"])
    noise_input = keras.Input((3,))
    discriminator.trainable = False
    combined = keras.Model(noise_input, discriminator(generator(noise_input)))
    combined.compile(keras.optimizers.Adam(0.01), "binary_crossentropy")
    losses, changes = [], []
    for step in range(3):
        noise, real = numbers(6, 3, seed=step), numbers(6, 4, seed=10 + step)
        fake = generator.predict(noise, verbose=0)
        discriminator.trainable = True
        d_loss = discriminator.train_on_batch(np.concatenate([real, fake]), np.repeat([[1.0], [0.0]], 6, axis=0))
        discriminator.trainable = False
        before = [w.copy() for w in discriminator.get_weights()]
        g_loss = combined.train_on_batch(noise, np.ones((6, 1)))
        changes.append(any(np.any(a != b) for a, b in zip(before, discriminator.get_weights(), strict=True)))
        losses.append((d_loss, g_loss))
    return losses, changes, len(combined.trainable_weights), generator.predict(numbers(2, 3), verbose=0)


@program
def article_blocks(keras):
    models, layers = keras.models, keras.layers
    model = models.Sequential()
    model.add(layers.Dense(16, activation="relu", input_shape=(20,)))
    model.add(layers.Dense(10, activation="softmax"))
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    fill(model)
    x, y = np.abs(numbers(64, 20)), keras.utils.to_categorical(classes(64, 10), num_classes=10)
    history = model.fit(x, y, epochs=5, batch_size=16, shuffle=False, verbose=0)
    single = fill(models.Sequential([keras.Input((20,)), layers.Dense(10)]))
    w, b = pickle.loads(pickle.dumps(single.get_weights()))
    labels = np.argmax(np.dot(x, w) + b, axis=-1)
    return {
        "history": history.history,
        "labels": labels,
        "agree": bool((labels == single.predict(x, verbose=0).argmax(axis=-1)).all()),
        "pickled": pickle.loads(pickle.dumps(single)).predict(x, verbose=0),
    }


@program
def before_and_after_compile(keras):
    model = small(keras)
    x, y = numbers(8, 4), numbers(8, 1)
    early = raised(model.fit, x, y), raised(model.evaluate, x, y), model.predict(x, verbose=0).shape
    model.compile("sgd", "mse")
    return {
        "early": early,
        "lengths": raised(model.fit, x, y[:5], verbose=0),
        "unknown": (raised(model.compile, "sdg")),
        "validation": raised(model.fit, x, y, validation_split=1.0, verbose=0),
        "batch size": model.fit(x, y, batch_size=100, verbose=0, epochs=0).history,
        "history": sorted(model.fit(x, y, verbose=0).history),
        "optimizer": (type(model.optimizer).__name__, model.loss, model.compiled),
        "scalar": type(model.evaluate(x, y, verbose=0)).__name__,
        "compile config": sorted(model.get_compile_config()),
    }
