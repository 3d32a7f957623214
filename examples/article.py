"""The tutorial that minikeras implements, block by block: `python examples/article.py`.

Its blocks stand here as they were published, but for `keras` in the import lines, and run one after the other: two
dense layers (4.1), optimizers compared (4.2), MNIST through ImageDataGenerator (4.3), deployment with pickle (4.4).
Between them is what the tutorial sets as a task: a convolutional and a recurrent network, losses compared, a better
network with regularisation, and deployment in files that are data.  It ends with a table of all networks, and leaves
the learning curves of the optimizers and of the losses as PNG files.

The blocks are text because options change the numbers in them, and the pictures that they load, which are drawn digits
where MNIST is not found: `--epochs 1 --samples 2000` takes seconds.
"""

from __future__ import annotations

import argparse
import pickle
import re
from contextlib import chdir
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from common import load_pictures

import minikeras as keras
from minikeras import Input, Sequential, layers

TWO_DENSE_LAYERS = """\
from minikeras import models
from minikeras import layers

model = models.Sequential()
model.add(layers.Dense(128, activation='relu', input_shape=(784,)))
model.add(layers.Dense(10, activation='softmax'))
"""

COMPILE = """\
model.compile(optimizer='adam',
              loss='categorical_crossentropy',
              metrics=['accuracy'])
"""

FIT = """\
model.fit(x_train, y_train, epochs=5, batch_size=128)
"""

OPTIMIZERS = """\
from minikeras import optimizers

sgd = optimizers.SGD(lr=0.01, momentum=0.9, decay=0.0, nesterov=False)
rmsprop = optimizers.RMSprop(lr=0.001, rho=0.9, epsilon=None, decay=0.0)

model = models.Sequential()
model.add(layers.Dense(128, activation='relu', input_shape=(784,)))
model.add(layers.Dense(10, activation='softmax'))

model.compile(optimizer=[sgd, rmsprop], 
              loss='categorical_crossentropy',
              metrics=['accuracy'],
              loss_weights=[1., 0.2])

history = model.fit(x_train, y_train, 
                    validation_data=(x_val, y_val),
                    epochs=10, batch_size=128)
"""  # noqa: W291 - as it was published

IMAGE_DATA_GENERATOR = """\
from minikeras.datasets import mnist
from minikeras.preprocessing.image import ImageDataGenerator

(x_train, y_train),(x_test, y_test) = mnist.load_data()
x_train = x_train.reshape((60000, 28*28))
x_train = x_train.astype('float32') / 255
y_train = keras.utils.to_categorical(y_train, num_classes=10)

datagen = ImageDataGenerator(
    rotation_range=10, width_shift_range=0.1, height_shift_range=0.1, shear_range=0.1, zoom_range=0.1)

datagen.fit(x_train)

model = models.Sequential()
model.add(layers.Dense(128, activation='relu', input_shape=(784,)))
model.add(layers.Dropout(0.5))
model.add(layers.Dense(10, activation='softmax'))

model.compile(optimizer='adam',
              loss='categorical_crossentropy',
              metrics=['accuracy'])

model.fit_generator(datagen.flow(x_train, y_train, batch_size=128), steps_per_epoch=len(x_train)//128, epochs=5)
"""

PRODUCTION = """\
import pickle

with open('my_model.pkl', 'rb') as f:
    w, b = pickle.load(f)
    
new_data = np.array([[...]])
predicted_labels = np.argmax(np.dot(new_data, w)+b, axis=-1)
print(predicted_labels)
"""  # noqa: W293 - as it was published


class Article:
    """Runs the blocks one after the other in one namespace, and notes what each network achieves.

    Args:
        data: `(x_train, y_train), (x_test, y_test)`, pictures and labels as bytes.
        epochs: for every network; None for as many as the blocks say.
        output: folder for the files that are written.
    """

    def __init__(self, data: Any, epochs: int | None, output: Path):
        (pictures, labels), (x_test, y_test) = data
        self.epochs, self.output, self.count = epochs, output, len(pictures)
        x, y = flat(pictures), keras.utils.to_categorical(labels, 10)
        at = self.count - self.count // 6  # of MNIST's 60,000, the last 10,000 validate
        self.train, self.validation, self.test = (x[:at], y[:at]), (x[at:], y[at:]), (flat(x_test), y_test)
        self.names: dict[str, Any] = {"keras": keras, "np": np}
        self.names.update(x_train=x[:at], y_train=y[:at], x_val=x[at:], y_val=y[at:])
        self.names.update(pictures=SimpleNamespace(load_data=lambda: data))
        self.rows: list[tuple[str, ...]] = []

    def run(self, block: str, *replacements: tuple[str, str]) -> Any:
        """Run a block as it was published but for the replacements; returns the model that it leaves."""
        if self.epochs is not None:
            block = re.sub(r"epochs=\d+", f"epochs={self.epochs}", block)
        for old, new in replacements:
            block = block.replace(old, new)
        exec(compile(block, "<the article>", "exec"), self.names)
        return self.names.get("model")

    def fit(self, model: Any, epochs: int, shape: tuple[int, ...] = (784,), **options: Any) -> Any:
        """Train a network on the pictures in another shape; returns its history."""
        (x, y), (x_val, y_val) = self.train, self.validation
        x, validation = x.reshape(-1, *shape), (x_val.reshape(-1, *shape), y_val)
        epochs = epochs if self.epochs is None else self.epochs
        return model.fit(x, y, validation_data=validation, epochs=epochs, batch_size=128, **options)

    # ------------------------------------------------------------ the chapters

    def simple_networks(self) -> None:
        title("4.1 Two dense layers")
        for block in (TWO_DENSE_LAYERS, COMPILE, FIT):
            model = self.run(block)
        self.note("two dense layers (4.1)", model)

        title("A convolutional network")
        model = Sequential(
            [
                Input((28, 28, 1)),
                layers.Conv2D(32, 3, activation="relu"),
                layers.MaxPooling2D(),
                layers.Conv2D(64, 3, activation="relu"),
                layers.MaxPooling2D(),
                layers.Flatten(),
                layers.Dropout(0.5),
                layers.Dense(10, activation="softmax"),
            ]
        )
        model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
        self.fit(model, epochs=3, shape=(28, 28, 1))
        self.note("convolutional network", model, (28, 28, 1))

        title("A recurrent network: it reads a picture row by row")
        model = Sequential([Input((28, 28)), layers.LSTM(64), layers.Dense(10, activation="softmax")])
        model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
        self.fit(model, epochs=4, shape=(28, 28))
        self.note("recurrent network", model, (28, 28))

    def comparisons(self) -> None:
        title("4.2 Comparing optimizers")
        self.run(OPTIMIZERS)
        history = self.names["history"]
        self.note_replicas(history)
        history.plot(path=self.output / "optimizers.png")

        title("Comparing losses")
        model = self.run(TWO_DENSE_LAYERS)
        compared = ["categorical_crossentropy", "mean_squared_error", "categorical_hinge"]
        model.compile(optimizer="adam", loss=compared, metrics=["accuracy"])
        history = self.fit(model, epochs=5)
        self.note_replicas(history)
        history.plot("accuracy", path=self.output / "losses.png")

    def augmentation(self) -> None:
        title("4.3 MNIST through ImageDataGenerator")
        source = ("from minikeras.datasets import mnist\n", "mnist = pictures\n")
        model = self.run(IMAGE_DATA_GENERATOR, source, ("60000", str(self.count)))
        self.note("ImageDataGenerator (4.3)", model)

    def regularisation(self) -> None:
        title("Regularisation and dropout in a wider network")
        model = Sequential([Input((784,))])
        for units in (512, 256):
            model.add(layers.Dense(units, kernel_regularizer=keras.regularizers.L2(1e-5), use_bias=False))
            model.add(layers.BatchNormalization())
            model.add(layers.Activation("relu"))
            model.add(layers.Dropout(0.3))
        model.add(layers.Dense(10, activation="softmax"))
        model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
        slower = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate if epoch == 0 else rate * 0.6)
        self.fit(model, epochs=8, callbacks=[slower])
        self.note("regularised, with dropout", model)

    def deployment(self) -> None:
        title("4.4 Deployment")
        model = Sequential([Input((784,)), layers.Dense(10, activation="softmax")])
        model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
        self.fit(model, epochs=5)
        self.note("one dense layer (4.4)", model)
        new_data = self.test[0][:10]
        with open(self.output / "my_model.pkl", "wb") as f:
            pickle.dump(model.get_weights(), f)
        self.names["new_pictures"] = new_data.tolist()
        with chdir(self.output):
            self.run(PRODUCTION, ("[[...]]", "new_pictures"))

        # a pickle runs code when it is loaded; this file is data, and Keras reads it too
        model.save(self.output / "my_model.keras")
        loaded = keras.saving.load_model(self.output / "my_model.keras")
        print(np.argmax(loaded.predict(new_data, verbose=0), axis=-1), "from my_model.keras")

    # ------------------------------------------------------------ what came out

    def note(self, name: str, model: Any, shape: tuple[int, ...] = (784,)) -> None:
        """A row of the final table for a model that was just trained."""
        history = model.history
        seen, unseen = (
            float(np.mean(model.predict(x.reshape(-1, *shape), batch_size=1000, verbose=0).argmax(-1) == labels))
            for x, labels in ((self.train[0], self.train[1].argmax(-1)), self.test)
        )
        self.add_row(name, history.history["accuracy"], seen, unseen, history.seconds)

    def note_replicas(self, history: Any) -> None:
        """A row for each replica of a comparison, and the comparison's own table."""
        history.summary()
        for name in history.replicas:
            accuracies = history.history[f"{name}/accuracy"]
            unseen = history.history[f"{name}/val_accuracy"][-1]
            label = f"{name} *" if name == history.best else name
            self.add_row(label, accuracies, accuracies[-1], unseen, history.seconds[name])

    def add_row(self, name: str, accuracies: list[float], seen: float, unseen: float, seconds: float) -> None:
        reached = next((str(epoch) for epoch, value in enumerate(accuracies, 1) if value >= 0.95), "-")
        numbers = (f"{seen:.2%}", f"{unseen:.2%}", f"{100 * (unseen - seen):+.2f}", f"{seconds:.1f} s")
        self.rows.append((name, str(len(accuracies)), reached, *numbers))

    def print_table(self) -> None:
        title("What came out")
        head = ("network", "epochs", "to 95%", "seen", "unseen", "gap", "time")
        widths = [max(map(len, column)) for column in zip(head, *self.rows, strict=True)]
        for name, *cells in (head, *self.rows):
            aligned = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
            print("  ".join([name.ljust(widths[0]), *aligned]))
        print(
            "\nto 95%: the epochs until so many pictures were classified right during training.\n"
            "seen, unseen: in the end the accuracy on pictures of the training and on those of the test; of those\n"
            "that are compared in the last epoch on pictures of the training and on those of the validation.\n"
            "gap: the difference in percentage points.  *: the best of those compared."
        )


def flat(pictures: np.ndarray) -> np.ndarray:
    """Rows of 784 numbers in [0, 1]."""
    return pictures.reshape(-1, 784).astype("float32") / 255


def title(text: str) -> None:
    print(f"\n== {text}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, help="for every network (default as the article has it)")
    parser.add_argument("--samples", type=int, help="pictures to train on, a fifth as many to test with (default all)")
    parser.add_argument("--seed", type=int, default=7, help="for initial weights, order and dropout (default 7)")
    parser.add_argument("--output", type=Path, default=Path("article"), help="folder for files (default article)")
    options = parser.parse_args()
    keras.utils.set_random_seed(options.seed)
    options.output.mkdir(parents=True, exist_ok=True)
    (x, y), (x_test, y_test) = load_pictures()
    if options.samples is not None:
        x, y = x[: options.samples], y[: options.samples]
        x_test, y_test = x_test[: options.samples // 5], y_test[: options.samples // 5]
    article = Article(((x, y), (x_test, y_test)), options.epochs, options.output)
    article.simple_networks()
    article.comparisons()
    article.augmentation()
    article.regularisation()
    article.deployment()
    article.print_table()
    print(f"\nLearning curves: {options.output / 'optimizers.png'} and {options.output / 'losses.png'}.")


if __name__ == "__main__":
    main()
