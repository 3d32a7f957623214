"""The tutorial that minikeras implements: its blocks stand in the example as they were published, and run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minikeras.datasets import digits

EXAMPLE = Path(__file__).parent.parent / "examples" / "article.py"

# as they were published
BLOCKS = [
    """\
from keras import models
from keras import layers

model = models.Sequential()
model.add(layers.Dense(128, activation='relu', input_shape=(784,)))
model.add(layers.Dense(10, activation='softmax'))
""",
    """\
model.compile(optimizer='adam',
              loss='categorical_crossentropy',
              metrics=['accuracy'])
""",
    """\
model.fit(x_train, y_train, epochs=5, batch_size=128)
""",
    """\
from keras import optimizers

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
""",  # noqa: W291
    """\
from keras.datasets import mnist
from keras.preprocessing.image import ImageDataGenerator

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
""",
    """\
import pickle

with open('my_model.pkl', 'rb') as f:
    w, b = pickle.load(f)
    
new_data = np.array([[...]])
predicted_labels = np.argmax(np.dot(new_data, w)+b, axis=-1)
print(predicted_labels)
""",  # noqa: W293
]


@pytest.mark.parametrize("block", BLOCKS, ids=["4.1 model", "4.1 compile", "4.1 fit", "4.2", "4.3", "4.4"])
def test_each_block_stands_in_the_example_but_for_its_imports(block):
    text = EXAMPLE.read_text()
    position = text.index(re.sub(r"^from keras\b", "from minikeras", block, flags=re.MULTILINE))
    assert text[:position].endswith('"""\\\n')  # a text of its own: nothing stands before it


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The example on a few drawn digits in MNIST's place: what it printed, and its files."""
    folder = tmp_path_factory.mktemp("article")
    (x_train, y_train), (x_test, y_test) = digits.load_data(400, 100)
    np.savez(folder / "mnist.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    options = ["--epochs", "1", "--samples", "300", "--seed", "3", "--output", str(folder / "out")]
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), *options],
        env={**os.environ, "MINIKERAS_DATASETS": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, folder / "out"


def test_it_ends_with_a_table_of_all_networks(run):
    printed, _ = run
    table = printed[printed.index("== What came out") :].splitlines()[2:]
    assert table[0].split() == ["network", "epochs", "to", "95%", "seen", "unseen", "gap", "time"]
    names = [re.split(r"\s{2,}", line)[0].removesuffix(" *") for line in table[1:12]]
    assert names == [
        "two dense layers (4.1)",
        "convolutional network",
        "recurrent network",
        "sgd",
        "rmsprop",
        "categorical_crossentropy",
        "mean_squared_error",
        "categorical_hinge",
        "ImageDataGenerator (4.3)",
        "regularised, with dropout",
        "one dense layer (4.4)",
    ]
    for line in table[1:12]:
        *_, epochs, _, seen, unseen, gap, _, unit = line.split()
        assert epochs == "1" and unit == "s"
        difference = float(unseen.rstrip("%")) - float(seen.rstrip("%"))
        assert float(gap) == pytest.approx(difference, abs=0.011) and 0 <= float(unseen.rstrip("%")) <= 100
    assert sum(" * " in line for line in table[1:12]) == 2


def test_comparisons_are_printed_and_drawn(run):
    printed, folder = run
    comparison = printed[printed.index("== 4.2") :]
    assert "sgd/loss" in comparison and re.search(r"^rmsprop( \*)? +loss", comparison, flags=re.MULTILINE)
    for name in ("optimizers.png", "losses.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_the_deployed_model_predicts_alike_from_both_files(run):
    printed, _ = run
    lines = re.findall(r"^(\[[\d ]+\])( from my_model.keras)?$", printed, flags=re.MULTILINE)
    assert len(lines) == 2 and lines[0][0] == lines[1][0] and lines[1][1]
